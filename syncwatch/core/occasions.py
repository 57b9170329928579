"""The occasions on which others than the log are told: callbacks of the library's user, and webhooks.

What belongs here: which notices these are, and the names and values that come with each. Names are a public interface: only added.
"""

from __future__ import annotations

from collections.abc import Mapping

from syncwatch.core.effects import Field, Notice, Notify

Value = Field | list[str]

FIELDS: Mapping[Notice, tuple[str, ...]] = {
    Notice.DEGRADED: ("component", "name", "reason", "reasons", "advice"),
    Notice.RECOVERED: ("component", "name", "after_s"),
    Notice.RESYNCED: (
        "connection", "replayed", "gap_detected", "claim", "verdict", "recovered", "lost", "unaccounted", "cursor", "epoch",
    ),
    Notice.GAP: ("connection", "cause", "first", "last", "missing"),
}  # fmt: skip
"""What is told of each occasion. `degraded` and `recovered` are damped by the monitor; the others happen once by themselves."""


def told(notify: Notify) -> dict[str, Value]:
    """The values of one occasion by name; `reasons` is a list. Raises: KeyError for a notice that is none."""
    values: dict[str, Value] = {name: notify.fields.get(name) for name in FIELDS[notify.notice]}
    if "reasons" in values:
        values["reasons"] = str(values["reasons"]).split(",")
    return values

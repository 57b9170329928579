"""Which reasons for trouble exist, and which of them may decide which probe."""

from __future__ import annotations

from syncwatch.config.mistakes import WrongValueError
from syncwatch.config.values import one_of
from syncwatch.core.health import INCIDENTS as INCIDENT_REASONS
from syncwatch.core.health import Reason

CONDITIONS = tuple(str(reason) for reason in Reason if reason not in INCIDENT_REASONS)
"""Hold while they are true; the gravest first."""
INCIDENTS = tuple(str(reason) for reason in Reason if reason in INCIDENT_REASONS)
"""Happened, and are held for a while."""
RESTARTABLE = tuple(reason for reason in CONDITIONS if reason.startswith(("watcher_", "mirror_")))
"""Those that a restart of the container may cure."""


def probe_reason(text: str) -> str:
    """A reason that may fail readyz or close the gate: any condition."""
    _refuse_incident(text)
    return one_of(text, CONDITIONS, "is not a reason")


def healthz_reason(text: str) -> str:
    """A reason that may fail healthz, and so restart the container."""
    _refuse_incident(text)
    if text == "task_stalled":
        raise WrongValueError(
            "fails /livez and /healthz by itself, as soon as the task cannot be restarted; leave it out"
        )
    if text in CONDITIONS and text not in RESTARTABLE:
        raise WrongValueError("an upstream outage is no reason to restart: use /readyz or /gate")
    return one_of(text, RESTARTABLE, "is not a reason")


def _refuse_incident(text: str) -> None:
    if text in INCIDENTS:
        raise WrongValueError(
            f"{text} is an incident: it is over when it is seen, and never fails readyz, healthz or gate"
        )

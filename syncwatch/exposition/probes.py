"""The verdicts of /livez, /healthz and /readyz as text, in the format of the Kubernetes API server.

What belongs here: which words a set of checks becomes. Pure; whether a check is ok was decided elsewhere. What failed is told by
name only: these endpoints are open to everybody, the reasons are in /status.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Collection

import msgspec

from syncwatch.core.health import Check, HealthSnapshot


class Probe(enum.StrEnum):
    """The three questions; each is also the path and the key of `HealthSnapshot.checks`."""

    LIVEZ = "livez"
    HEALTHZ = "healthz"
    READYZ = "readyz"


class Answer(msgspec.Struct, frozen=True):
    """A verdict and its body."""

    ok: bool
    text: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return 200 if self.ok else 503


def verdict(health: HealthSnapshot, probe: Probe, *, verbose: bool = False, exclude: Collection[str] = ()) -> Answer:
    """All checks of a probe but the excluded ones. A failure is always verbose; success is `ok` unless asked for more.

    A name in `exclude` that no check has does not change the verdict; a `warn:` line says so.
    """
    checks = health.checks.get(probe, ())
    ok = all(check.ok or check.name in exclude for check in checks)
    if ok and not verbose:
        return Answer(True, "ok")
    lines = [_line(check, check.name in exclude) for check in checks]
    unknown = sorted(set(exclude) - {check.name for check in checks})
    if unknown:
        names = ",".join(json.dumps(name) for name in unknown)
        lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
    lines.append(f"{probe} check {'passed' if ok else 'failed'}")
    return Answer(ok, "".join(line + "\n" for line in lines))


def single(health: HealthSnapshot, probe: Probe, name: str) -> Answer | None:
    """One check alone; None if the probe has no check of that name."""
    for check in health.checks.get(probe, ()):
        if check.name == name:
            return Answer(True, "ok") if check.ok else Answer(False, _line(check) + "\n")
    return None


def _line(check: Check, excluded: bool = False) -> str:
    if excluded:
        return f"[+]{check.name} excluded: ok"
    return f"[+]{check.name} ok" if check.ok else f"[-]{check.name} failed: reason withheld"

"""The last lines: the gate, the sidecar itself, webhooks that are not taken."""

from __future__ import annotations

from collections.abc import Iterator

from syncwatch.exposition import document as doc
from syncwatch.exposition.terminal.page import Page
from syncwatch.exposition.terminal.words import counted, number, span


def sidecar(page: Page, status: doc.Status) -> None:
    """What everything above depends on."""
    _gate(page, status.gate)
    own = status.sidecar
    late = [one for one in own.tasks if one.overdue_s > 0 or one.wedged]
    tasks = ", ".join(f"{one.task} {'wedged' if one.wedged else 'overdue'} for {span(one.overdue_s)}" for one in late)
    first = f"syncwatch {own.version} on {own.instance}, up {span(own.started.age_s)}"
    page.fact("sidecar", "; ".join([first, tasks or f"{counted(len(own.tasks), 'task')} in time", *_troubles(own)]), "down" if late else "healthy")
    if page.verbose:
        page.fact("", f"loop lag {span(own.event_loop_lag_s)}, Python {own.python_version}" + (f", revision {own.revision}" if own.revision else ""))
    for hook in status.hooks:
        if hook.last_failure is not None:
            left = f"{number(hook.waiting)} waiting, {number(hook.dropped)} dropped"
            page.fact("hook", f"{hook.name} is not taken: {hook.last_failure}; {left}", "degraded")


def _gate(page: Page, gate: doc.Gate) -> None:
    if not page.current:
        page.fact("gate", "closed: what is not watched cannot be trusted", "down")
    elif gate.read.open and gate.write.open:
        page.fact("gate", "open for reading and writing")
    else:
        for label, verdict in (("gate read", gate.read), ("gate write", gate.write)):
            page.fact(label, "open" if verdict.open else f"closed: {verdict.detail}", "healthy" if verdict.open else "down", beside=label == "gate write")


def _troubles(own: doc.Sidecar) -> Iterator[str]:
    unconfigured = own.config.last_successful_reload is None  # whether there is a state directory is not known
    if own.state_file is None:
        if not unconfigured:
            yield "no state directory"
    elif own.state_file.write_failures:
        yield counted(own.state_file.write_failures, "failed write of the state file", "failed writes of the state file")
    if own.gate_file is not None and own.gate_file.failures:
        yield counted(own.gate_file.failures, "failure", "failures") + " of the gate file to follow the gate"
    if not own.config.last_reload_successful and not unconfigured:
        yield "; ".join(("the last reload failed: the configuration of before still runs", *own.config.errors[:1]))
    if own.suspended:
        yield "was suspended a moment ago"

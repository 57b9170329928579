"""The lines of the services: one for each that is well, more for those that are not."""

from __future__ import annotations

from syncwatch.exposition import document as doc
from syncwatch.exposition.terminal.page import Page
from syncwatch.exposition.terminal.words import ago, counted, each, minute, number, span


def services(page: Page, status: doc.Status) -> None:
    """All of them, one under the other."""
    for one in status.services:
        service(page, one)
    if status.services:
        page.blank()


def service(page: Page, v: doc.Service) -> None:
    """What is known of it."""
    checked = "" if v.last_probe is None else f", checked {ago(v.last_probe)}"
    page.head(v.health, f"{v.name} {_standing(page, v)}{checked}", v.upstream)
    for reason in v.reasons:
        page.fact(reason.reason, f"for {span(reason.since.age_s)}: {reason.advice}", v.health)
    if v.last_failure is not None:
        page.fact("error", v.last_failure)
        page.fact("was healthy", ago(v.last_healthy), beside=True)
    if page.verbose:
        page.fact("probes", _probes(v.probes))
        if v.lifetime is not None:
            page.fact("lifetime", f"{counted(v.lifetime.probes, 'probe')}, {number(v.lifetime.failures)} failed, since {minute(v.lifetime.since.time)}")


def _standing(page: Page, v: doc.Service) -> str:
    if v.state == "unknown":
        return "was not asked yet"
    if not page.current:
        return f"stale: was {v.state}"
    if v.health == "down" and v.reasons:  # its task is stuck: what it said last is old
        return f"down: {v.reasons[0].reason} for {span(v.reasons[0].since.age_s)}"
    return v.state if v.state_since is None else f"{v.state} for {span(v.state_since.age_s)}"


def _probes(probes: doc.Probes) -> str:
    words, failures = number(probes.total), each(probes.failures)
    if failures:
        words += f", {number(sum(probes.failures.values()))} of them failed ({failures})"
    if probes.mean_s is not None:
        words += f"; mean {span(probes.mean_s)}"
    return words + (f"; next in {span(max(0.0, probes.next.in_s))}" if probes.next is not None else "")

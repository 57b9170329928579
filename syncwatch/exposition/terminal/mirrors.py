"""The lines of the mirrors: one for each that is in step, more for those whose trees differ."""

from __future__ import annotations

from syncwatch.exposition import document as doc
from syncwatch.exposition.terminal.page import Page
from syncwatch.exposition.terminal.words import ago, counted, each, number, span

DIFFERENCES = 5


def mirrors(page: Page, status: doc.Status) -> None:
    """All of them, one under the other."""
    for one in status.mirrors:
        mirror(page, one)
    if status.mirrors:
        page.blank()


def mirror(page: Page, m: doc.Mirror) -> None:
    """What is known of it."""
    compared = "" if m.last_reconcile is None else f", compared {ago(m.last_reconcile)}"
    page.head(m.health, f"{m.name} {_standing(page, m)}{compared}", f"{m.mode} {m.mount} and {m.project}")
    for reason in m.reasons:
        page.fact(reason.reason, f"for {span(reason.since.age_s)}: {reason.advice}", m.health)
    for root in m.gone:
        page.fact("gone", root, m.health)
    if m.refusal is not None:
        page.fact("refused", f"deletions: {m.refusal}", m.health)
    if m.last_error is not None and m.health != "healthy" and not m.gone:
        page.fact("error", m.last_error)
    shown = m.differences if page.verbose else m.differences[:DIFFERENCES]
    for one in shown if m.health != "healthy" or page.verbose else ():
        page.fact("differs", f"{one.path}: {one.why}, for {span(one.since.age_s)}")
    if page.verbose:
        page.fact("files", each(m.files) or "not compared yet")
        if m.mode == "sync":
            page.fact("moved", ", ".join(f"{way} {each(counts)}" for way, counts in m.moved.items() if any(counts.values())) or "nothing")
        page.fact("troubles", each({"conflicts": m.conflicts, "errors": m.errors, "refused deletes": m.refused_deletes}) or "none")
        page.fact("flushes", each({"complete": m.flushes.complete, "timeout": m.flushes.timeout, "error": m.flushes.error}) or "none")


def _standing(page: Page, m: doc.Mirror) -> str:
    words = {
        "unknown": "was not compared yet",
        "gone": "has lost a root",
        "in_step": "is in step" if not m.pending else f"has {counted(m.pending, 'change')} to look at",
        "differing": f"has {counted(m.differing, 'differing path')}",
    }.get(m.state, m.state)
    if not page.current:
        return f"stale: {words}"
    if m.state == "differing" and m.oldest_pending_s is not None:
        words += f" for {span(m.oldest_pending_s)}"
    return words if m.health != "down" or m.state == "gone" or not m.reasons else f"down: {m.reasons[0].reason}, {number(m.differing)} differ"

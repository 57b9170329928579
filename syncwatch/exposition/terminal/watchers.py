"""The lines of the watchers: one for each that is alive, more for those that would miss something."""

from __future__ import annotations

from syncwatch.exposition import document as doc
from syncwatch.exposition.terminal.page import Page
from syncwatch.exposition.terminal.words import ago, counted, each, span


def watchers(page: Page, status: doc.Status) -> None:
    """All of them, one under the other."""
    for one in status.watchers:
        watcher(page, one)
    if status.watchers:
        page.blank()


def watcher(page: Page, w: doc.Watcher) -> None:
    """What is known of it."""
    changed = "" if w.last_event is None else f", last change {ago(w.last_event)}"
    page.head(w.health, f"{w.name} {_standing(page, w)}{changed}", w.path)
    for reason in w.reasons:
        page.fact(reason.reason, f"for {span(reason.since.age_s)}: {reason.advice}", w.health)
    if w.detail is not None:
        page.fact("because", w.detail, w.health if w.reasons else "healthy")
    if w.unseen:
        page.fact("unseen", f"{counted(w.unseen, 'directory', 'directories')}, and what is in them")
    if w.reasons or page.verbose:
        page.fact("was alive", ago(w.last_alive))
    if page.verbose:
        page.fact("watched", counted(w.directories, "directory", "directories"))
        page.fact("changes", each(w.changes) or "none")
        latency = "" if w.mean_sentinel_s is None else f"; mean {span(w.mean_sentinel_s)}"
        page.fact("sentinels", "not configured" if w.sentinels is None else (each(w.sentinels) or "none") + latency)
        page.fact("restarts", each(w.restarts) or "none")


def _standing(page: Page, w: doc.Watcher) -> str:
    how = "" if w.mode in (None, "active") else f" ({w.mode})"
    if not page.current:
        return f"stale: was {w.state}"
    if w.health == "down" and w.state not in ("dead", "unknown"):
        return f"down: {w.reasons[0].reason}" if w.reasons else "down"
    return {"unknown": "is being set up"}.get(w.state, f"is {w.state}{how}")

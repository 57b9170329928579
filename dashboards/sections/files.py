"""Watchers of files and mirrors of folders, of all chosen sidecars: alive or not, how late, and why.

What belongs here: questions about files. They have the pod in common with a connection, nothing else.
"""

from __future__ import annotations

from dashboards.board import Line, Section, Tile
from dashboards.links import runbook
from dashboards.panels import GREEN, RED, About, AnyPanel, Link, Query, graph, lanes, rows
from dashboards.promql import in_buckets, least, per_minute, per_second, sidecar, total, worst
from dashboards.shapes import RARE

NO_WATCHER = "no watcher configured"
NO_SENTINEL = "no watcher that touches a file"
NO_MIRROR = "no mirror configured"
WATCHER = ("job", "instance", "watcher")
MIRROR = ("job", "instance", "mirror")
WATCHER_DEAD = Link("Runbook", runbook("SyncwatchWatcherDead"))
MIRROR_STUCK = Link("Runbook", runbook("SyncwatchMirrorStuck"))


def section() -> Section:
    """The whole section; empty where neither is configured."""
    return Section(
        "Files: watchers and mirrors",
        (
            Line(8, (Tile(12, _watchers()), Tile(12, _watcher_ages()))),
            Line(8, (Tile(8, _changes()), Tile(8, _sentinels()), Tile(8, _sentinel_latency()))),
            Line(8, (Tile(8, _restarts()), Tile(8, _modes()), Tile(8, _inotify()))),
            Line(8, (Tile(12, _mirrors()), Tile(12, _waiting()))),
            Line(8, (Tile(8, _pending()), Tile(8, _operations()), Tile(8, _troubles()))),
            Line(8, (Tile(12, _flushes()), Tile(12, _durations()))),
        ),
        folded=True,
    )


def _watchers() -> AnyPanel:
    return lanes(
        About("Watchers", "Subscribed, root intact and, unless passive, its own file seen to change in time.", "none", WATCHER_DEAD),
        Query(least(sidecar("syncwatch_watcher_up"), *WATCHER), "{{instance}} {{watcher}}"),
        names={0: ("dead", RED), 1: ("alive", GREEN)},
        absent=NO_WATCHER,
    )


def _watcher_ages() -> AnyPanel:
    alive, event = (f"syncwatch_watcher_last_{what}_timestamp_seconds" for what in ("alive", "event"))
    return graph(
        About("Last alive, last change", "Time since each watcher was last proven alive, and since it last saw a change.", "s", WATCHER_DEAD),
        Query(f"time() - {least(sidecar(alive), *WATCHER)}", "{{instance}} {{watcher}} alive"),
        Query(f"time() - {least(sidecar(event), *WATCHER)}", "{{instance}} {{watcher}} change"),
        absent=NO_WATCHER,
    )


def _changes() -> AnyPanel:
    changes = per_second(sidecar("syncwatch_watcher_events_total"), "watcher", "change")
    return graph(About("Changes of files", "Seen by watchers, by what happened.", "cps"), Query(changes, "{{watcher}} {{change}}"), stacked=True, absent=NO_WATCHER)


def _sentinels() -> AnyPanel:
    fates = per_minute(sidecar("syncwatch_watcher_sentinels_total"), "watcher", "result")
    return graph(
        About("Sentinels", "The watcher's own file: how many of its changes a minute were seen, and how many were missed.", "cpm", WATCHER_DEAD),
        Query(fates, "{{watcher}} {{result}}"),
        absent=NO_SENTINEL,
    )


def _sentinel_latency() -> AnyPanel:
    seen = in_buckets(0.99, sidecar("syncwatch_watcher_sentinel_latency_seconds_bucket"), "watcher")
    return graph(
        About("Sentinels seen after", "How long a change of the watcher's own file took to be seen: 99th percentile.", "s", WATCHER_DEAD),
        Query(seen, "{{watcher}}"),
        absent=NO_SENTINEL,
    )


def _restarts() -> AnyPanel:
    restarts = per_minute(sidecar("syncwatch_watcher_restarts_total"), *WATCHER, "reason")
    return graph(
        About("Watchers subscribed again", "By why the old subscription was not good enough.", "cpm", WATCHER_DEAD),
        Query(f"{restarts} > 0", "{{instance}} {{watcher}} {{reason}}"),
        bars=True,
        absent=RARE,
    )


def _modes() -> AnyPanel:
    labels = ("job", "instance", "watcher", "mode")
    order = {label: place for place, label in enumerate(labels)}
    return rows(
        About("How watchers watch", "active: proven by a file of its own. passive: it only reads. polling: this file system sends no events.", "none"),
        Query(worst(sidecar("syncwatch_watcher_info"), *labels)),
        transformations=(("organize", {"excludeByName": {"Time": True, "Value": True}, "indexByName": order}),),
    )


def _inotify() -> AnyPanel:
    return graph(
        About("Inotify", "Watches and instances that each sidecar holds. They must not grow while nothing is added.", "short"),
        Query(worst(sidecar("syncwatch_inotify_watches"), "job", "instance"), "{{instance}} watches"),
        Query(worst(sidecar("syncwatch_inotify_instances"), "job", "instance"), "{{instance}} instances"),
        absent=NO_WATCHER,
    )


def _mirrors() -> AnyPanel:
    return lanes(
        About("Mirrors", "Both watchers alive and both roots intact.", "none", MIRROR_STUCK),
        Query(least(sidecar("syncwatch_mirror_up"), *MIRROR), "{{instance}} {{mirror}}"),
        names={0: ("broken", RED), 1: ("intact", GREEN)},
        absent=NO_MIRROR,
    )


def _waiting() -> AnyPanel:
    reconciled = "syncwatch_mirror_last_reconcile_timestamp_seconds"
    return graph(
        About("Oldest change that waits, last comparison", "How long the oldest change has not reached the other side, and how long ago everything was last compared.", "s", MIRROR_STUCK),
        Query(worst(sidecar("syncwatch_mirror_oldest_pending_age_seconds"), *MIRROR), "{{instance}} {{mirror}} waits"),
        Query(f"time() - {least(sidecar(reconciled), *MIRROR)}", "{{instance}} {{mirror}} compared"),
        absent=NO_MIRROR,
    )


def _pending() -> AnyPanel:
    return graph(
        About("Changes that wait, paths that differ", "Seen and not yet on the other side; and what was different when everything was last compared.", "short", MIRROR_STUCK),
        Query(total(sidecar("syncwatch_mirror_pending_paths"), *MIRROR), "{{instance}} {{mirror}} wait"),
        Query(total(sidecar("syncwatch_mirror_differing_paths"), *MIRROR), "{{instance}} {{mirror}} differ"),
        absent=NO_MIRROR,
    )


def _operations() -> AnyPanel:
    files = per_minute(sidecar("syncwatch_mirror_files_total"), "mirror", "direction", "operation")
    return graph(
        About("Files mirrored", "Copied and deleted, by direction. A mirror that only observes does neither.", "cpm"),
        Query(files, "{{mirror}} {{direction}} {{operation}}"),
        bars=True,
        absent=NO_MIRROR,
    )


def _troubles() -> AnyPanel:
    def of(what: str) -> str:
        return per_minute(sidecar(f"syncwatch_mirror_{what}_total"), *MIRROR)

    return graph(
        About("Conflicts, errors, refused deletes", "Changed on both sides; not to be read or written; and deletions that were not carried over because a root was not to be trusted.", "cpm", MIRROR_STUCK),
        Query(of("conflicts"), "{{instance}} {{mirror}} conflicts"),
        Query(of("errors"), "{{instance}} {{mirror}} errors"),
        Query(of("refused_deletes"), "{{instance}} {{mirror}} refused deletes"),
        bars=True,
        absent=NO_MIRROR,
    )


def _flushes() -> AnyPanel:
    flushes = per_minute(sidecar("syncwatch_mirror_flushes_total"), "mirror", "result")
    return graph(About("Flushes", "By how they ended.", "cpm"), Query(flushes, "{{mirror}} {{result}}"), bars=True, absent=NO_MIRROR)


def _durations() -> AnyPanel:
    flush, reconcile = (in_buckets(0.99, sidecar(f"syncwatch_mirror_{what}_duration_seconds_bucket"), "mirror") for what in ("flush", "reconcile"))
    return graph(
        About("Flush and comparison time", "99th percentile.", "s"),
        Query(flush, "{{mirror}} flush"),
        Query(reconcile, "{{mirror}} comparison"),
        absent=NO_MIRROR,
    )

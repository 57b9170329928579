"""The machine of one mirror: when its trees are compared, what waits, since when, and what a flush may claim.

Law: one comparison at a time. A flush is complete only by a comparison of everything that began after it was asked for; events of watchers make changes travel early, and prove nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from syncwatch.core.effects import Compare, Effect, Effects, Field, FlushEnded, Notice, Notify
from syncwatch.core.health import Component, Condition, Reason
from syncwatch.core.histogram import SLOW_S, Histogram
from syncwatch.core.mirror_rules import Side, shown
from syncwatch.core.snapshot import Difference, MirrorSnapshot, Moment
from syncwatch.core.states import FlushResult

LEFT_KEPT = 10_000
"""So many differing paths are told by name, with why and since when; all are counted."""
BATCH = 1_000
"""More changed paths than this are found faster by comparing everything."""
LONGEST_DEBOUNCE = 20
"""A path that changes all the time waits for at most so many debounces."""
RETRY_S = 1.0
GONE_RETRY_S = 1.0
FLUSH_RETRY_S = 0.1
FLUSH_RETRY_MAX_S = 1.0
SHOWN = 20
"""So many differing paths are in a snapshot, the oldest first."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison found and did.

    `gone`: roots that are not there, and why. `held`: why nothing was looked at although they are there; "" when something was. `replaced`: roots that are other directories than before. `left`: paths that differ now, and why, at most LEFT_KEPT of
    `left_count`. `again`: paths that changed while they were copied; what was finished before is on the other side. `errors`: what could not be done, a sentence for
    each path, as it may be shown. `conflicts`: where the losers were kept. `refused`: deletions that are refused for the first time; `refusal`: why any are. `files`: in each tree.
    """

    full: bool
    gone: Mapping[Side, str] = {}
    held: str = ""
    replaced: tuple[Side, ...] = ()
    left: Mapping[str, str] = {}
    left_count: int = 0
    again: tuple[str, ...] = ()
    copied: Mapping[Side, int] = {}
    deleted: Mapping[Side, int] = {}
    errors: Mapping[str, str] = {}
    error_count: int = 0
    conflicts: tuple[str, ...] = ()
    conflict_count: int = 0
    refused: int = 0
    refusal: str = ""
    files: Mapping[Side, int] = {}

    @property
    def moved(self) -> int:
        """Files copied and deleted."""
        return sum(self.copied.values()) + sum(self.deleted.values())

    @property
    def clean(self) -> bool:
        """Both roots are there and were looked at, and nothing differs."""
        return not self.gone and not self.held and not self.left_count


class MirrorSettings(msgspec.Struct, frozen=True):
    """When one mirror looks; seconds. `acts`: mode sync. `roots`: for showing."""

    acts: bool = False
    debounce_s: float = 0.05
    healthy_s: float = 60.0
    degraded_s: float = 10.0
    mount: str = ""
    project: str = ""

    @property
    def stuck_after_s(self) -> float:
        """How old a difference may become: in mode sync until we should have repaired it, otherwise until whoever mirrors should have."""
        return self.degraded_s if self.acts else self.healthy_s


class _Pending:
    """One path that changed, or differs. Times are monotonic seconds."""

    __slots__ = ("dirty_s", "due_s", "since_s", "tries", "why")

    def __init__(self, now: float) -> None:
        self.since_s = now
        self.dirty_s: float | None = None  # changed, and not looked at since
        self.due_s = math.inf
        self.tries = 0
        self.why: str | None = None  # it was found to differ


class _Flush:
    __slots__ = ("began_s", "flush_id", "from_job", "gave_up_s", "moved_before", "tries")

    def __init__(self, flush_id: int, now: float, timeout_s: float, from_job: int, moved_before: int) -> None:
        self.flush_id, self.began_s, self.gave_up_s = flush_id, now, now + timeout_s
        self.from_job, self.moved_before, self.tries = from_job, moved_before, 0


class Mirror:
    """The machine of one configured mirror."""

    component = Component.MIRROR
    possible_reasons: Sequence[Reason] = (Reason.WATCHER_DEAD, Reason.WATCHER_BLIND, Reason.MIRROR_STUCK)

    def __init__(self, name: str, settings: MirrorSettings) -> None:
        self.name = name
        self.settings = settings
        self.copied = dict.fromkeys(Side, 0)
        self.deleted = dict.fromkeys(Side, 0)
        self.conflicts = self.errors = self.refused_deletes = 0
        self.flushes = dict.fromkeys(FlushResult, 0)
        self.flush_duration, self.reconcile_duration = Histogram(SLOW_S), Histogram(SLOW_S)
        self._offset_s = 0.0
        self._running = False
        self._job: Compare | None = None
        self._job_began_s = 0.0
        self._job_id = 0
        self._progress = -1
        self._progress_s = 0.0
        self._full_due_s = math.inf
        self._batch_due_s = math.inf
        self._pending: dict[str, _Pending] = {}
        self._more = 0  # differing paths beyond those that are kept by name
        self._more_since_s = 0.0
        self._flushes: list[_Flush] = []
        self._gone_since_s: float | None = None
        self._gone: Mapping[Side, str] = {}
        self._held_since_s: float | None = None
        self._watchers: dict[Side, Reason | None] = dict.fromkeys(Side, Reason.WATCHER_BLIND)
        self._watchers_since_s: dict[Side, float] = dict.fromkeys(Side, 0.0)
        self._last_reconcile: Moment | None = None
        self._last_error: str | None = None
        self._refusal = ""
        self._files: Mapping[Side, int] = {}
        self._told: set[str] = set()  # errors that were named already

    # ------------------------------------------------------------------ schedule

    @property
    def interval_s(self) -> float:
        """The longest regular distance between two deadlines."""
        return max(self.settings.healthy_s, self.settings.degraded_s)

    @property
    def deadline(self) -> float:
        """When something is due; a comparison that runs is waited for, however long it takes: a restart would not make a disk faster."""
        ends_s = min((flush.gave_up_s for flush in self._flushes), default=math.inf)
        if not self._running or self._job is not None:
            return ends_s
        return min(ends_s, self._full_due_s, self._batch_due_s)

    def wall(self, now: float, offset_s: float) -> Effects:
        """The wall clock is `now + offset_s`."""
        self._offset_s = offset_s
        return ()

    def start(self, now: float) -> Effects:
        """Begin with a comparison of everything."""
        self._running = True
        self._watchers_since_s = {side: now if trouble else self._watchers_since_s[side] for side, trouble in self._watchers.items()}
        self._full_due_s = now
        return self._go(now)

    def stop(self, now: float) -> Effects:
        """No more comparisons; whoever waits for a flush is told that it is not complete."""
        self._running = False
        return [effect for flush in list(self._flushes) for effect in self._end(now, flush, FlushResult.ERROR)]

    def configure(self, now: float, settings: MirrorSettings) -> Effects:
        """Other times for the same trees and rules."""
        self.settings = settings
        if self._running:
            self._full_due_s = min(self._full_due_s, now + self._pause_s())
        return ()

    def tick(self, now: float) -> Effects:
        """A flush is given up, or a comparison is due."""
        ended = [effect for flush in list(self._flushes) if now >= flush.gave_up_s for effect in self._end(now, flush, self._failure())]
        return [*ended, *self._go(now)]

    def _go(self, now: float) -> Effects:
        if not self._running or self._job is not None:
            return ()
        if now >= self._full_due_s:
            return self._begin(now, None)
        if now < self._batch_due_s:
            return ()
        due = [path for path, one in self._pending.items() if one.due_s <= now]
        if len(due) > BATCH:
            return self._begin(now, None)
        self._batch_due_s = min((one.due_s for one in self._pending.values() if one.due_s > now), default=math.inf)
        return self._begin(now, tuple(due)) if due else ()

    def _begin(self, now: float, paths: tuple[str, ...] | None) -> Effects:
        self._job_id += 1
        self._job = Compare(self._job_id, paths)
        self._job_began_s = self._progress_s = now
        if paths is None:
            self._full_due_s = self._batch_due_s = math.inf
        for path in self._pending if paths is None else paths:
            one = self._pending[path]
            one.dirty_s, one.due_s = None, math.inf
        return (self._job,)

    def _pause_s(self) -> float:
        sound = self.watchers_healthy and not self._refusal and not self._more
        return self.settings.healthy_s if sound else min(self.settings.degraded_s, self.settings.healthy_s)

    # ------------------------------------------------------------------ what watchers tell

    def watching(self, now: float, side: Side, trouble: Reason | None) -> Effects:
        """How the watcher of one root is: WATCHER_DEAD, WATCHER_BLIND, or None when a change would be noticed now."""
        before = self._watchers[side]
        if trouble is before:
            return ()
        self._watchers[side], self._watchers_since_s[side] = trouble, now
        if self._running:
            # What it missed while it was not well is found by looking; while it is not, by looking more often.
            self._full_due_s = min(self._full_due_s, now if trouble is None else now + self._pause_s())
        return self._go(now)

    @property
    def watchers_healthy(self) -> bool:
        """Whether a change on either side would be noticed now."""
        return not any(self._watchers.values())

    def changed(self, now: float, paths: Iterable[str]) -> Effects:
        """Something happened at these paths. Each is looked at when it was quiet for the debounce, or has waited for long."""
        if not self._running:
            return ()
        debounce_s = self.settings.debounce_s
        for path in paths:
            one = self._pending.get(path)
            if one is None:
                if len(self._pending) >= LEFT_KEPT:
                    return self.missed(now)
                one = self._pending[path] = _Pending(now)
            if one.dirty_s is None:
                one.dirty_s = now
            one.due_s = min(now + debounce_s, one.dirty_s + LONGEST_DEBOUNCE * debounce_s)
            self._batch_due_s = min(self._batch_due_s, one.due_s)
        return self._go(now)

    def missed(self, now: float) -> Effects:
        """Changes happened, and nobody knows where: everything is compared, soon."""
        self._full_due_s = min(self._full_due_s, now + self.settings.debounce_s)
        return self._go(now)

    # ------------------------------------------------------------------ what the work tells

    def progressed(self, now: float, steps: int) -> Effects:
        """How far the comparison is; another number than before is progress."""
        if self._job is not None and steps != self._progress:
            self._progress, self._progress_s = steps, now
        return ()

    def finished(self, now: float, job_id: int, report: Report) -> Effects:
        """A comparison ended."""
        job = self._job
        if job is None or job_id != job.job_id:
            return ()
        self._job = None
        first = self._last_reconcile is None
        for side in Side:
            self.copied[side] += report.copied.get(side, 0)
            self.deleted[side] += report.deleted.get(side, 0)
        self.conflicts += report.conflict_count
        self.errors += report.error_count
        self.refused_deletes += report.refused
        if job.paths is None and not report.held:
            self.reconcile_duration.observe(now - self._job_began_s)
            self._last_reconcile = Moment(now, now + self._offset_s)
            self._files = report.files
        effects = [*self._told_gone(now, report), *self._told_about(now, job, report, first)]
        if report.gone or report.held:
            self._full_due_s = now + GONE_RETRY_S
        else:
            self._settle(now, job, report)
            self._refusal = report.refusal if job.paths is None else report.refusal or self._refusal
            if job.paths is None:
                self._full_due_s = min(self._full_due_s, now + self._pause_s())
            elif report.refusal:
                self._full_due_s = min(self._full_due_s, now + self.settings.debounce_s)
        effects += self._settle_flushes(now, job, report)
        return [*effects, *self._go(now)]

    def crashed(self, now: float, job_id: int, detail: str) -> Effects:
        """A comparison ended by a mistake of ours; the next one is as late as if a watcher were down."""
        if self._job is None or job_id != self._job.job_id:
            return ()
        self._job = None
        self.errors += 1
        self._last_error = detail
        self._full_due_s = now + self.settings.degraded_s
        return [self._trouble(now, "error", detail)]

    def _settle(self, now: float, job: Compare, report: Report) -> None:
        """What still differs stays since it did; what changed meanwhile is looked at again; everything else that was looked at has arrived."""
        pending, left = self._pending, report.left
        looked_at = list(pending) if job.paths is None else [path for path in job.paths if path in pending]
        for path in looked_at:
            one = pending[path]
            if path in left:
                continue
            if one.dirty_s is None:
                del pending[path]
            else:
                one.since_s, one.why, one.tries = one.dirty_s, None, 0
        for path, why in left.items():
            one = pending.get(path) or pending.setdefault(path, _Pending(now))
            one.why = why
            one.tries += 1
            if one.dirty_s is None and self.settings.acts and not report.refusal:
                one.due_s = now + min(RETRY_S * 2.0 ** min(one.tries - 1, 10), self.settings.degraded_s)
                self._batch_due_s = min(self._batch_due_s, one.due_s)
        if job.paths is None:
            more = report.left_count - len(left)
            if more and not self._more:
                self._more_since_s = now
            self._more = more
        if report.again:
            self.changed(now, report.again)

    # ------------------------------------------------------------------ flush

    def flush(self, now: float, flush_id: int, timeout_s: float) -> Effects:
        """Compare everything from now on, until nothing differs or the time is over; answered with FlushEnded and this `flush_id`."""
        flush = _Flush(flush_id, now, timeout_s, self._job_id + 1, self._moved())
        self._flushes.append(flush)
        if not self._running:
            return self._end(now, flush, FlushResult.ERROR)
        self._full_due_s = now
        return self._go(now)

    def _settle_flushes(self, now: float, job: Compare, report: Report) -> list[Effect]:
        effects: list[Effect] = []
        for flush in list(self._flushes):
            if job.job_id < flush.from_job or job.paths is not None:
                self._full_due_s = now  # it did not see everything that was written before the flush
            elif report.clean:
                effects += self._end(now, flush, FlushResult.COMPLETE)
            else:
                self._full_due_s = min(self._full_due_s, now + min(FLUSH_RETRY_S * 2.0**flush.tries, FLUSH_RETRY_MAX_S))
                flush.tries = min(flush.tries + 1, 10)
        return effects

    def _end(self, now: float, flush: _Flush, result: FlushResult) -> list[Effect]:
        self._flushes.remove(flush)
        self.flushes[result] += 1
        self.flush_duration.observe(now - flush.began_s)
        complete = result is FlushResult.COMPLETE
        pending = 0 if complete else max(1, self.pending_paths)  # not known to be complete is not complete
        return [FlushEnded(flush.flush_id, complete, self._moved() - flush.moved_before, pending)]

    def _failure(self) -> FlushResult:
        return FlushResult.ERROR if self._gone or self._held_since_s is not None else FlushResult.TIMEOUT

    def _moved(self) -> int:
        return sum(self.copied.values()) + sum(self.deleted.values())

    # ------------------------------------------------------------------ telling

    def _told_gone(self, now: float, report: Report) -> list[Effect]:
        effects: list[Effect] = []
        if report.gone and self._gone_since_s is None:
            self._gone_since_s = now
        elif not report.gone and self._gone_since_s is not None:
            self._gone_since_s = None
            effects.append(self._tell(now, "back", "both roots are there again"))
        for side, why in report.gone.items():
            if side not in self._gone:
                effects.append(self._trouble(now, "gone", why))
        self._gone = report.gone
        if report.held and self._held_since_s is None:
            self._held_since_s = now
        elif not report.held and not report.gone and self._held_since_s is not None:
            self._held_since_s = None
            effects.append(self._tell(now, "back", "its patterns can be read again"))
        for side in report.replaced:
            effects.append(self._trouble(now, "replaced", f"the {side} is another directory than before: nothing that was agreed with the old one is remembered"))
        return effects

    def _told_about(self, now: float, job: Compare, report: Report, first: bool) -> list[Effect]:
        effects: list[Effect] = []
        if job.paths is None and first and not report.gone and not report.held:
            found = f"{report.files.get(Side.MOUNT, 0)} files in the mount, {report.files.get(Side.PROJECT, 0)} in the project, {report.left_count} differ"
            effects.append(self._tell(now, "compared", f"{found}, {report.moved} moved" if self.settings.acts else found))
        effects += [self._trouble(now, "error", why, path) for path, why in report.errors.items() if path not in self._told]
        self._told = set(report.errors) if job.paths is None else self._told | set(report.errors)
        if report.errors:
            path, why = next(iter(report.errors.items()))
            self._last_error = f"{path} {why}"
        elif job.paths is None:
            self._last_error = next(iter(report.gone.values()), None)
        effects += [self._trouble(now, "conflict", "both sides had changed; the loser is kept here", path) for path in report.conflicts]
        if report.refusal and report.refused:
            effects.append(self._trouble(now, "refused", f"{report.refused} deletions: {report.refusal}"))
        return effects

    def _tell(self, now: float, result: str, detail: str) -> Notify:
        return Notify(Notice.MIRROR, now + self._offset_s, {"mirror": self.name, "result": result, "detail": detail})

    def _trouble(self, now: float, result: str, detail: str, path: str | None = None) -> Notify:
        fields: dict[str, Field] = {"mirror": self.name, "result": result, "path": path, "detail": detail}
        return Notify(Notice.MIRROR_TROUBLE, now + self._offset_s, fields)

    # ------------------------------------------------------------------ outputs

    @property
    def active(self) -> bool:
        """Running, and compared at least once, or it is known why not: before that nothing is known."""
        known = (self._last_reconcile, self._gone_since_s, self._held_since_s)
        return self._running and any(one is not None for one in known)

    @property
    def settled_once(self) -> bool:
        """The first comparison is done."""
        return self._last_reconcile is not None

    @property
    def pending_paths(self) -> int:
        """Changes seen, and differences found, that are not on the other side yet."""
        return len(self._pending) + self._more

    @property
    def up(self) -> bool:
        """Both watchers are alive and both roots are there."""
        return self.active and self.watchers_healthy and not self._gone

    def reasons(self, now: float) -> Sequence[Condition]:
        """What holds now."""
        if not self._running:
            return ()
        found: dict[Reason, float] = {}
        for side, trouble in self._watchers.items():
            if trouble is not None:
                found[trouble] = min(found.get(trouble, math.inf), self._watchers_since_s[side])
        if self._gone_since_s is not None:
            found[Reason.WATCHER_DEAD] = min(found.get(Reason.WATCHER_DEAD, math.inf), self._gone_since_s)
        stuck_s = self._stuck_since_s(now)
        if stuck_s is not None:
            found[Reason.MIRROR_STUCK] = stuck_s
        return [Condition(reason, since_s) for reason, since_s in found.items()]

    def _stuck_since_s(self, now: float) -> float | None:
        """Since when a change has waited for too long, a root is gone, the rules cannot be read, or a comparison makes no progress."""
        after_s = self.settings.stuck_after_s
        since = [one for one in (self._gone_since_s, self._held_since_s) if one is not None]
        oldest_s = self._oldest_s()
        if oldest_s is not None:
            since.append(oldest_s + after_s)
        if self._job is not None:
            since.append(self._progress_s + after_s)
        stuck_s = min(since, default=math.inf)
        return stuck_s if stuck_s <= now else None

    def _oldest_s(self) -> float | None:
        oldest_s = min((one.since_s for one in self._pending.values()), default=math.inf)
        if self._more:
            oldest_s = min(oldest_s, self._more_since_s)
        return None if oldest_s == math.inf else oldest_s

    def snapshot(self) -> MirrorSnapshot:
        """An immutable picture."""
        differing = sorted(((one.since_s, path, one.why) for path, one in self._pending.items() if one.why is not None), key=lambda one: one[:2])
        return MirrorSnapshot(
            name=self.name,
            mode="sync" if self.settings.acts else "observe",
            mount=self.settings.mount,
            project=self.settings.project,
            up=self.up,
            watchers_healthy=self.watchers_healthy,
            gone=tuple(self._gone.values()),
            pending=self.pending_paths,
            oldest_pending_now_s=self._oldest_s(),
            differing=len(differing) + self._more,
            differences=tuple(
                Difference(shown(path), why or "", Moment(since_s, since_s + self._offset_s)) for since_s, path, why in differing[:SHOWN]
            ),
            files={str(side): count for side, count in self._files.items()},
            moved={
                (f"to_{side}", operation): counted[side]
                for side in Side
                for operation, counted in (("copied", self.copied), ("deleted", self.deleted))
            },
            conflicts=self.conflicts,
            errors=self.errors,
            refused_deletes=self.refused_deletes,
            refusal=self._refusal or None,
            last_error=self._last_error,
            flushes=dict(self.flushes),
            flush_duration=self.flush_duration.snapshot(),
            reconcile_duration=self.reconcile_duration.snapshot(),
            last_reconcile=self._last_reconcile,
            comparing_since_now_s=self._job_began_s if self._job is not None else None,
        )

"""One mirror's machine: when it compares what, what waits and since when, what a flush may claim, and which reasons hold."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.effects import Compare, Effects, FlushEnded, Notice, Notify
from syncwatch.core.health import Component, Condition, Reason
from syncwatch.core.mirror import BATCH, LEFT_KEPT, Mirror, MirrorSettings, Report
from syncwatch.core.mirror_rules import Side
from syncwatch.core.snapshot import Difference, Moment
from syncwatch.core.states import FlushResult

WALL_S = 1_795_180_000.0
CLEAN = Report(full=True)


class Desk:
    """A started mirror whose comparisons the test ends. The start was at 100, both watchers are well, the first comparison is under way."""

    def __init__(self, **settings: object) -> None:
        self.mirror = Mirror("agent", MirrorSettings(**{"acts": True, **settings}))  # type: ignore[arg-type]  # the struct's own fields
        self.now = 100.0
        self.jobs: list[Compare] = []
        self.ended: list[FlushEnded] = []
        self.told: list[tuple[str, str, object]] = []
        self.take(self.mirror.wall(self.now, WALL_S - self.now))
        for side in Side:
            self.take(self.mirror.watching(self.now, side, None))
        self.take(self.mirror.start(self.now))

    def take(self, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Compare):
                self.jobs.append(effect)
            elif isinstance(effect, FlushEnded):
                self.ended.append(effect)
            else:
                assert isinstance(effect, Notify)
                assert "agent" == effect.fields["mirror"]
                self.told.append((effect.notice, str(effect.fields["result"]), effect.fields.get("path") or effect.fields["detail"]))

    def end(self, report: Report = CLEAN, after_s: float = 0.0) -> None:
        """The comparison that runs ends with this."""
        self.now += after_s
        self.take(self.mirror.finished(self.now, self.jobs[-1].job_id, report))

    def settled(self, **settings: object) -> Desk:
        """After a first comparison that found nothing."""
        self.end(Report(full=True, files={Side.MOUNT: 3, Side.PROJECT: 3}))
        self.jobs.clear()
        self.told.clear()
        return self

    def change(self, *paths: str) -> None:
        self.take(self.mirror.changed(self.now, paths))

    def until(self, now: float) -> None:
        """Let time pass, with every tick that is due."""
        while self.mirror.deadline <= now:
            self.now = max(self.now, self.mirror.deadline)
            before = self.mirror.deadline
            self.take(self.mirror.tick(self.now))
            assert self.mirror.deadline > before or self.mirror.deadline == math.inf, "a deadline that stays in the past"
        self.now = now

    @property
    def reasons(self) -> dict[Reason, float]:
        return {one.reason: one.since_s for one in self.mirror.reasons(self.now)}


def left(**paths: str) -> Report:
    """A full comparison after which these differ."""
    return Report(full=True, left=paths, left_count=len(paths))


def test_the_first_thing_is_a_comparison_of_everything() -> None:
    """Until it is over nothing is known, and nothing is claimed; what it found is told."""
    desk = Desk()
    assert [Compare(1)] == desk.jobs
    assert (False, False, False) == (desk.mirror.active, desk.mirror.settled_once, desk.mirror.up)
    desk.end(Report(full=True, files={Side.MOUNT: 5, Side.PROJECT: 4}, copied={Side.PROJECT: 1}))
    assert (True, True, True) == (desk.mirror.active, desk.mirror.settled_once, desk.mirror.up)
    assert [(Notice.MIRROR, "compared", "5 files in the mount, 4 in the project, 0 differ, 1 moved")] == desk.told


def test_everything_is_compared_again_after_a_minute_or_ten_seconds() -> None:
    """Counted from the end of the last time; a watcher that is not well makes it ten."""
    desk = Desk().settled()
    desk.until(159.9)
    assert [] == desk.jobs
    desk.until(160.0)
    assert [Compare(2)] == desk.jobs
    desk.end(after_s=5.0)
    assert 225.0 == desk.mirror.deadline
    desk.take(desk.mirror.watching(desk.now, Side.MOUNT, Reason.WATCHER_DEAD))
    assert 175.0 == desk.mirror.deadline
    desk.until(175.0)
    desk.end()
    assert 185.0 == desk.mirror.deadline


def test_a_watcher_that_is_well_again_may_have_missed_something() -> None:
    """Everything is compared at once."""
    desk = Desk().settled()
    desk.take(desk.mirror.watching(desk.now, Side.PROJECT, Reason.WATCHER_BLIND))
    desk.now += 1.0
    desk.take(desk.mirror.watching(desk.now, Side.PROJECT, None))
    assert [Compare(2)] == desk.jobs


def test_a_changed_path_is_looked_at_when_it_was_quiet_for_the_debounce() -> None:
    """Each event begins the wait again, twenty times at most; paths that are due together go together."""
    desk = Desk().settled()
    desk.change("a", "b")
    desk.now += 0.04
    desk.change("a")
    desk.until(100.06)
    assert [Compare(2, ("b",))] == desk.jobs
    desk.end(Report(full=False))
    desk.until(100.1)
    assert Compare(3, ("a",)) == desk.jobs[-1]
    desk.end(Report(full=False))
    began_s = desk.now
    while not desk.jobs[2:]:
        desk.change("busy")
        desk.until(desk.now + 0.04)
    assert 0.9 < desk.now - began_s < 1.1


def test_what_happens_during_a_comparison_is_looked_at_after_it() -> None:
    """One comparison at a time; what it settled is settled, what changed meanwhile waits since then."""
    desk = Desk().settled()
    desk.change("a", "b")
    desk.until(101.0)
    desk.change("a")
    desk.until(102.0)
    assert [Compare(2, ("a", "b"))] == desk.jobs
    desk.end(Report(full=False))
    assert 1 == desk.mirror.pending_paths
    assert 101.0 == desk.mirror.snapshot().oldest_pending_now_s
    assert [Compare(3, ("a",))] == desk.jobs[1:]


def test_very_many_changes_are_one_comparison_of_everything() -> None:
    """And more than can be kept by name are not kept."""
    desk = Desk().settled()
    desk.change(*(f"f{number}" for number in range(BATCH + 1)))
    desk.until(100.06)
    assert [Compare(2)] == desk.jobs
    desk.end()
    assert 0 == desk.mirror.pending_paths
    desk.change(*(f"f{number}" for number in range(LEFT_KEPT + 5)))
    assert LEFT_KEPT == desk.mirror.pending_paths
    desk.until(desk.now + 0.06)
    assert Compare(3) == desk.jobs[-1]


def test_changes_that_nobody_can_name() -> None:
    """A queue that overflowed: everything is compared after the debounce."""
    desk = Desk().settled()
    desk.take(desk.mirror.missed(desk.now))
    desk.until(100.05)
    assert [Compare(2)] == desk.jobs


def test_what_could_not_be_done_is_tried_again_later_and_later() -> None:
    """From a second to ten; it is stuck when it has waited for ten seconds, since then."""
    desk = Desk().settled()
    desk.change("a", "b")
    desk.until(100.1)
    desk.end(Report(full=False, left={"a": "cannot be copied"}, left_count=1, errors={"a": "cannot be copied"}, error_count=1))
    assert [(Notice.MIRROR_TROUBLE, "error", "a")] == desk.told
    tries = []
    while desk.now < 130.0:
        desk.until(desk.mirror.deadline)
        tries.append(round(desk.now - 100.1, 3))
        desk.end(Report(full=False, left={"a": "cannot be copied"}, left_count=1, errors={"a": "cannot be copied"}, error_count=1))
    assert [1.0, 3.0, 7.0, 15.0, 25.0, 35.0] == tries
    assert {Reason.MIRROR_STUCK: 110.0} == desk.reasons
    assert 1 == len(desk.told), "said once"
    assert 7 == desk.mirror.errors
    desk.until(desk.mirror.deadline)
    desk.end(Report(full=False, copied={Side.PROJECT: 1}))
    assert ({}, 0) == (desk.reasons, desk.mirror.pending_paths)


def test_observing_is_stuck_when_whoever_mirrors_should_have_done_it() -> None:
    """After the longer interval; nothing is tried again, because nothing is tried."""
    desk = Desk(acts=False)
    desk.end(left(a="only in the mount"))
    assert {} == desk.reasons
    assert 1 == desk.mirror.snapshot().differing
    desk.until(159.0)
    assert [Compare(1)] == desk.jobs
    desk.until(160.0)
    assert {Reason.MIRROR_STUCK: 160.0} == desk.reasons
    desk.end(left(a="only in the mount"))
    assert (Difference("a", "only in the mount", Moment(100.0, WALL_S)),) == desk.mirror.snapshot().differences


def test_more_differences_than_names_are_counted() -> None:
    """With the age of the first of them."""
    desk = Desk(acts=False)
    desk.end(Report(full=True, left={"a": "x"}, left_count=5_000_000))
    seen = desk.mirror.snapshot()
    assert (5_000_000, 5_000_000, 1) == (seen.pending, seen.differing, len(seen.differences))
    desk.until(160.0)
    desk.end()
    assert (0, None) == (desk.mirror.pending_paths, desk.mirror.snapshot().oldest_pending_now_s)


def test_refused_deletions_wait_for_everything_to_be_seen_again() -> None:
    """A refusal by events makes it soon, one by everything after ten seconds; they are counted and told."""
    desk = Desk().settled()
    desk.change("a")
    desk.until(100.1)
    refused = {"left": {"a": "refused"}, "left_count": 1, "refusal": "25 of 30 files would be deleted at once"}
    desk.end(Report(full=False, refused=25, **refused))  # type: ignore[arg-type]  # the struct's own fields
    assert [(Notice.MIRROR_TROUBLE, "refused", "25 deletions: 25 of 30 files would be deleted at once")] == desk.told
    desk.until(100.2)
    assert Compare(3) == desk.jobs[-1]
    desk.end(Report(full=True, **refused))  # type: ignore[arg-type]
    assert 110.2 == desk.mirror.deadline
    assert (25, "25 of 30 files would be deleted at once") == (desk.mirror.refused_deletes, desk.mirror.snapshot().refusal)
    desk.until(110.2)
    desk.end(Report(full=True, deleted={Side.MOUNT: 25}))
    assert (None, 0) == (desk.mirror.snapshot().refusal, desk.mirror.pending_paths)


def test_a_root_that_is_gone_is_looked_for_each_second() -> None:
    """Down at once, and stuck; said once, and once more when it is back."""
    desk = Desk().settled()
    gone = Report(full=True, gone={Side.MOUNT: "/mnt is not there"})
    desk.until(160.0)
    desk.end(gone)
    assert {Reason.WATCHER_DEAD: 160.0, Reason.MIRROR_STUCK: 160.0} == desk.reasons
    assert (False, ("/mnt is not there",)) == (desk.mirror.up, desk.mirror.snapshot().gone)
    desk.until(161.0)
    desk.end(gone)
    desk.until(162.0)
    desk.end(Report(full=True, replaced=(Side.MOUNT,)))
    assert {} == desk.reasons
    assert ["gone", "back", "replaced"] == [result for _, result, _ in desk.told]


def test_a_mirror_that_is_held_is_stuck_at_once() -> None:
    """What waited before waits on, nothing counts as compared, a flush is no success; said once, and once more when it goes on."""
    desk = Desk().settled()
    compared = desk.mirror.snapshot().last_reconcile
    desk.change("a")
    held = Report(full=True, held=".agentignore cannot be read", errors={".agentignore": "cannot be read"}, error_count=1)
    flush(desk, 1, timeout_s=2.0)
    desk.end(held)
    assert {Reason.MIRROR_STUCK: desk.now} == desk.reasons
    assert (1, compared, ".agentignore cannot be read") == ((seen := desk.mirror.snapshot()).pending, seen.last_reconcile, seen.last_error)
    assert desk.now + 0.1 == desk.mirror.deadline, "the flush still hopes"
    desk.until(102.0)
    if desk.mirror.snapshot().comparing_since_now_s is not None:
        desk.end(held)
    assert ([FlushEnded(1, False, 0, 1)], 1) == (desk.ended, desk.mirror.snapshot().flushes[FlushResult.ERROR])
    desk.until(desk.mirror.deadline)
    desk.end()
    assert ({}, 0) == (desk.reasons, desk.mirror.pending_paths)
    assert ["error", "back"] == [result for _, result, _ in desk.told]


def test_watchers_that_are_not_well_are_reasons() -> None:
    """Blind until they are proven; each reason since the first of the two."""
    mirror = Mirror("agent", MirrorSettings())
    mirror.start(100.0)
    assert [Condition(Reason.WATCHER_BLIND, 100.0)] == mirror.reasons(100.0)
    mirror.watching(101.0, Side.MOUNT, None)
    mirror.watching(102.0, Side.PROJECT, Reason.WATCHER_DEAD)
    assert [Condition(Reason.WATCHER_DEAD, 102.0)] == mirror.reasons(103.0)
    healthy = [mirror.watchers_healthy]
    mirror.watching(104.0, Side.PROJECT, None)
    assert [False, True] == [*healthy, mirror.watchers_healthy]
    assert Component.MIRROR is mirror.component


def test_a_comparison_without_progress_is_stuck_and_no_deadline_passes() -> None:
    """A disk that hangs is no reason to restart the process; one that is slow is not stuck."""
    desk = Desk().settled()
    desk.until(160.0)
    assert math.inf == desk.mirror.deadline
    for now in (165.0, 172.0):
        desk.take(desk.mirror.progressed(now, int(now)))
    desk.now = 181.9
    assert {} == desk.reasons
    desk.take(desk.mirror.progressed(180.0, 172))
    desk.now = 182.0
    assert {Reason.MIRROR_STUCK: 182.0} == desk.reasons


def test_a_mistake_of_ours_ends_one_comparison() -> None:
    """It is counted and told, and the next one comes."""
    desk = Desk().settled()
    desk.until(160.0)
    desk.take(desk.mirror.crashed(desk.now, 2, "an internal error"))
    assert (170.0, 1, "an internal error") == (desk.mirror.deadline, desk.mirror.errors, desk.mirror.snapshot().last_error)


def test_the_end_of_another_comparison_changes_nothing() -> None:
    """Only the one that runs is waited for."""
    desk = Desk()
    assert () == desk.mirror.finished(desk.now, 7, Report(full=True, error_count=9))
    assert () == desk.mirror.crashed(desk.now, 7, "x")
    assert 0 == desk.mirror.errors


# ------------------------------------------------------------------ flush


def flush(desk: Desk, flush_id: int = 1, timeout_s: float = 20.0) -> None:
    desk.take(desk.mirror.flush(desk.now, flush_id, timeout_s))


def test_a_flush_is_complete_by_a_comparison_of_everything_that_began_after_it() -> None:
    """It begins at once; the number says what was moved since."""
    desk = Desk().settled()
    flush(desk)
    assert ([Compare(2)], []) == (desk.jobs, desk.ended)
    desk.end(Report(full=True, copied={Side.MOUNT: 2}, deleted={Side.PROJECT: 1}), after_s=0.5)
    assert [FlushEnded(1, True, 3, 0)] == desk.ended
    seen = desk.mirror.snapshot()
    assert ({FlushResult.COMPLETE: 1, FlushResult.TIMEOUT: 0, FlushResult.ERROR: 0}, 0.5) == (seen.flushes, seen.flush_duration.sum)


def test_a_comparison_that_was_under_way_proves_nothing() -> None:
    """Not even one of everything: it may have passed the place before the write."""
    desk = Desk().settled()
    desk.until(160.0)
    flush(desk)
    desk.end(Report(full=True, copied={Side.MOUNT: 1}))
    assert ([], Compare(3)) == (desk.ended, desk.jobs[-1])
    desk.end()
    assert [FlushEnded(1, True, 1, 0)] == desk.ended


def test_a_flush_goes_on_until_nothing_differs() -> None:
    """With growing pauses; when the time is over it says how much is left."""
    desk = Desk().settled()
    flush(desk, timeout_s=2.0)
    times = []
    while not desk.ended:
        desk.end(left(a="x", b="y"))
        desk.until(desk.mirror.deadline)
        times.append(round(desk.now - 100.0, 3))
    assert [0.1, 0.3, 0.7, 1.5, 2.0] == times
    assert [FlushEnded(1, False, 0, 2)] == desk.ended
    assert 1 == desk.mirror.snapshot().flushes[FlushResult.TIMEOUT]


def test_a_flush_that_nothing_is_known_about_does_not_say_that_nothing_is_left() -> None:
    """Not in time is not complete, also while the disk hangs."""
    desk = Desk().settled()
    flush(desk, timeout_s=2.0)
    desk.until(102.0)
    assert [FlushEnded(1, False, 0, 1)] == desk.ended


def test_a_flush_without_a_root_is_an_error_at_its_end() -> None:
    """It may come back in time."""
    desk = Desk().settled()
    flush(desk, 1, timeout_s=2.0)
    desk.end(Report(full=True, gone={Side.MOUNT: "gone"}))
    desk.until(102.0)
    assert ([FlushEnded(1, False, 0, 1)], 1) == (desk.ended, desk.mirror.snapshot().flushes[FlushResult.ERROR])
    desk.end()
    flush(desk, 2)
    desk.end()
    assert FlushEnded(2, True, 0, 0) == desk.ended[-1]


def test_a_file_that_never_holds_still_does_not_hold_up_a_flush() -> None:
    """What was finished before is on the other side; it is looked at again afterwards."""
    desk = Desk().settled()
    flush(desk)
    desk.end(Report(full=True, copied={Side.MOUNT: 1}, again=("log",)))
    assert [FlushEnded(1, True, 1, 0)] == desk.ended
    desk.until(desk.now + 0.06)
    assert Compare(3, ("log",)) == desk.jobs[-1]


def test_a_mirror_that_is_stopped_completes_nothing() -> None:
    """Whoever waits is told, and whoever asks afterwards as well."""
    desk = Desk().settled()
    flush(desk)
    desk.take(desk.mirror.stop(desk.now))
    flush(desk, 2)
    assert [FlushEnded(1, False, 0, 1), FlushEnded(2, False, 0, 1)] == desk.ended
    assert (math.inf, False, []) == (desk.mirror.deadline, desk.mirror.active, list(desk.mirror.reasons(desk.now)))


def test_other_times_hold_from_now_on() -> None:
    """The next comparison is not later than they say."""
    desk = Desk().settled()
    desk.take(desk.mirror.configure(desk.now, MirrorSettings(acts=True, healthy_s=5.0, degraded_s=1.0)))
    assert (105.0, 5.0) == (desk.mirror.deadline, desk.mirror.interval_s)


INPUTS = st.one_of(
    st.tuples(st.just("change"), st.sampled_from("abc")),
    st.tuples(st.just("flush"), st.floats(0.1, 3.0)),
    st.tuples(st.just("end"), st.sampled_from(["clean", "left", "gone", "again", "held"])),
    st.tuples(st.just("pass"), st.floats(0.01, 5.0)),
    st.tuples(st.just("watch"), st.sampled_from([None, Reason.WATCHER_DEAD])),
)


@given(st.lists(INPUTS, max_size=40))
def test_every_flush_ends_in_time_and_never_claims_too_much(inputs: list[tuple[str, object]]) -> None:
    """In any order of what may happen: complete only after a clean comparison of everything that began later; nothing waits that was seen to be settled."""
    desk = Desk()
    asked: dict[int, tuple[float, int]] = {}
    reports = {
        "clean": CLEAN, "left": left(a="x"), "gone": Report(full=True, gone={Side.MOUNT: "gone"}), "again": Report(full=True, again=("b",)),
        "held": Report(full=True, held="no rules"),
    }  # fmt: skip
    for what, value in inputs:
        running = desk.jobs[-1] if desk.mirror.snapshot().comparing_since_now_s is not None else None
        known = len(desk.ended)
        if what == "change":
            desk.change(str(value))
        elif what == "flush":
            asked[len(asked)] = (desk.now + float(value), desk.jobs[-1].job_id)  # type: ignore[arg-type]
            flush(desk, len(asked) - 1, float(value))  # type: ignore[arg-type]
        elif what == "watch":
            desk.take(desk.mirror.watching(desk.now, Side.MOUNT, value))  # type: ignore[arg-type]
        elif what == "pass":
            desk.until(desk.now + float(value))  # type: ignore[arg-type]
        elif running is not None:
            desk.end(reports[str(value)])
            for one in desk.ended[known:]:
                assert one.complete is (running.paths is None and value in ("clean", "again") and running.job_id > asked[one.flush_id][1])
        waiting = asked.keys() - {one.flush_id for one in desk.ended}
        assert all(asked[flush_id][0] > desk.now for flush_id in waiting)
    assert len(desk.ended) == len({one.flush_id for one in desk.ended})

"""The machine of one watched tree: what proves it alive, what it calls dead and blind, and how it cures itself; on simulated time."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.effects import CheckRoot, Effects, Notify, Subscribe, Touch, Unsubscribe
from syncwatch.core.health import Condition, Reason
from syncwatch.core.states import FileChange, SentinelResult, WatchMode, WatchTrouble
from syncwatch.core.watch import (
    ANSWER_S,
    BLIND_RETRY_S,
    DEAF_AFTER,
    RETRY_MAX_S,
    SUBSCRIBE_S,
    Root,
    Survey,
    Watch,
    WatchSettings,
)

WALL_S = 1_795_180_000.0
ROOT, OTHER = Root(7, 1), Root(8, 1)
WHOLE = Survey(3)
DEAD, BLIND = Reason.WATCHER_DEAD, Reason.WATCHER_BLIND


class Shell:
    """Performs effects: at most one subscription, which is the last one that was asked for. The start is at 100."""

    def __init__(self, **settings: object) -> None:
        self.watch = Watch("project", WatchSettings(**settings), "/srv/project")  # type: ignore[arg-type]  # the struct's own fields
        self.now = 100.0
        self.held: set[int] = set()
        self.polling = False
        self.touched: list[int] = []
        self.checks = 0
        self.attentive = True  # looks at the root are answered at once while time passes: it is there
        self.told: list[tuple[object, object]] = []
        self.watch.wall(self.now, WALL_S - 100.0)

    def take(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Subscribe(attempt, polling):
                    assert not self.held, "never two at once"
                    self.held, self.polling = {attempt}, polling
                case Unsubscribe(attempt):
                    self.held.remove(attempt)
                case Touch(attempt, number):
                    assert {attempt} == self.held
                    self.touched.append(number)
                case CheckRoot(attempt):
                    assert {attempt} == self.held
                    self.checks += 1
                case Notify():
                    self.told.append((effect.fields["result"], effect.fields["reason"]))
                case _:
                    raise AssertionError(effect)

    def until(self, time_s: float) -> None:
        """Let time pass, deadline by deadline."""
        while self.watch.deadline <= time_s:
            self.now = max(self.now, self.watch.deadline)
            checks = self.checks
            self.take(self.watch.tick(self.now))
            if self.attentive and self.checks > checks:
                self.answer()
        self.now = time_s

    def begin(self, survey: Survey = WHOLE, root: Root = ROOT) -> None:
        """The subscription that was asked for stands."""
        self.take(self.watch.subscribed(self.now, self.watch.attempt, root, survey))

    def answer(self, root: Root | None = ROOT) -> None:
        self.take(self.watch.checked(self.now, self.watch.attempt, root))

    def write(self, problem: str | None = None, refused: bool = False) -> None:
        self.take(self.watch.touched(self.now, self.watch.attempt, self.touched[-1], problem, refused))

    def echo(self) -> None:
        self.take(self.watch.echoed(self.now, self.watch.attempt))

    def round(self) -> None:
        """Root looked at, sentinel written, its event here."""
        self.answer()
        self.write()
        self.echo()

    def round_but_no_echo(self) -> None:
        self.answer()
        self.write()

    @property
    def restarts(self) -> dict[str, int]:
        return {str(trouble): count for trouble, count in self.watch.restarts.items() if count}

    @property
    def reasons(self) -> list[Reason]:
        return [condition.reason for condition in self.watch.reasons(self.now)]


def alive(**settings: object) -> Shell:
    """Started and proven at 100."""
    shell = Shell(**settings)
    shell.take(shell.watch.start(shell.now))
    shell.begin()
    shell.round()
    assert shell.watch.up
    return shell


def test_nothing_is_claimed_before_the_first_proof() -> None:
    """Subscribed is not proven: not up, and no health either; the event of the sentinel proves it."""
    shell = Shell()
    assert math.inf == shell.watch.deadline
    shell.take(shell.watch.start(shell.now))
    shell.begin()
    assert (False, False, BLIND) == (shell.watch.active, shell.watch.up, shell.watch.trouble)
    shell.write()
    assert not shell.watch.up
    shell.now += 0.02
    shell.echo()
    assert (True, True, None, []) == (shell.watch.active, shell.watch.up, shell.watch.trouble, shell.reasons)
    seen = shell.watch.snapshot()
    assert (WatchMode.ACTIVE, {SentinelResult.SEEN: 1, SentinelResult.MISSED: 0}) == (seen.mode, seen.sentinels)
    assert (1, 20) == (seen.sentinel_latency.cumulative[-1], round(1000.0 * seen.sentinel_latency.sum))
    assert [("alive", None)] == shell.told


def test_a_dead_watcher_is_found_within_interval_plus_timeout() -> None:
    """The subscription stands and says nothing: found by the next sentinel, 15 + 5 s after the last proof at the latest."""
    shell = alive()
    shell.until(119.9)
    assert [] == shell.reasons, "not before the sentinel had its time"
    shell.until(120.0)
    assert [Condition(DEAD, 120.0)] == list(shell.watch.reasons(120.0))
    assert ({"missed": 1}, 1) == (shell.restarts, shell.watch.sentinels[SentinelResult.MISSED])
    assert {2} == shell.held, "the cure is tried at once"


def test_the_cure_is_a_new_subscription_proven_by_its_own_sentinel() -> None:
    """A late event of the old subscription proves nothing."""
    shell = alive()
    shell.until(121.0)
    shell.take(shell.watch.echoed(shell.now, 1))
    assert [DEAD] == shell.reasons
    shell.begin()
    assert [DEAD] == shell.reasons, "subscribed is not proven"
    shell.round()
    assert (True, [], {"missed": 1}) == (shell.watch.up, shell.reasons, shell.restarts)


def test_after_some_deaf_subscriptions_the_tree_is_polled() -> None:
    """The file system gives no events: said, counted as one cure, and a reading of the tree proves the rest."""
    shell = alive(interval_s=1.0, timeout_s=0.5)
    for missed in range(DEAF_AFTER):
        assert not shell.polling
        shell.until(shell.now + 2.0)
        assert missed + 1 == shell.watch.sentinels[SentinelResult.MISSED]
        shell.until(shell.now + RETRY_MAX_S)
        if not shell.polling:
            shell.begin()
            shell.round_but_no_echo()
    assert shell.polling
    shell.take(shell.watch.subscribed(shell.now, shell.watch.attempt, ROOT, WHOLE, "no events"))
    assert (True, WatchMode.POLLING, "no events") == (shell.watch.up, shell.watch.mode, shell.watch.snapshot().detail)
    assert {"missed": 1} == shell.restarts
    touches = len(shell.touched)
    for _ in range(20):
        shell.until(shell.now + 5.0)
        shell.take(shell.watch.scanned(shell.now, shell.watch.attempt))
    assert (touches, True) == (len(shell.touched), shell.watch.up), "readings are the proof, nothing is written"
    shell.until(shell.now + 70.0)
    assert [DEAD] == shell.reasons, "and where they end, so does the proof"


@pytest.mark.parametrize(
    ("root", "trouble"),
    [(None, "root_gone"), (OTHER, "root_replaced"), (Root(7, 2), "root_replaced")],
    ids=["nothing", "another directory", "another file system"],
)
def test_the_root_is_looked_at(root: Root | None, trouble: str) -> None:
    """Gone, renamed and replaced, mounted over: found by the regular look, before any sentinel is missed."""
    shell = alive()
    shell.attentive = False
    shell.until(105.0)
    shell.answer(root)
    assert ([DEAD], {trouble: 1}) == (shell.reasons, shell.restarts)
    assert 0 == shell.watch.sentinels[SentinelResult.MISSED]


def test_the_root_is_looked_at_before_each_sentinel() -> None:
    """One that was replaced is called that, and not a missed sentinel."""
    shell = alive(check_s=1_000.0)
    shell.attentive = False
    checks = shell.checks
    shell.until(115.0)
    assert (checks + 1, [1, 2]) == (shell.checks, shell.touched)
    shell.answer(OTHER)
    assert ({"root_replaced": 1}, 0) == (shell.restarts, shell.watch.sentinels[SentinelResult.MISSED])


def test_an_uprooted_watch_says_so_at_once() -> None:
    """The kernel says that the root was moved: nothing is trusted from then on, and the name of the trouble is what is there now."""
    shell = alive()
    shell.answer()
    shell.take(shell.watch.uprooted(shell.now, 1))
    assert (False, DEAD) == (shell.watch.up, shell.watch.trouble)
    shell.answer(ROOT)
    assert {"root_replaced": 1} == shell.restarts, "away and back: the watches may be gone all the same"


def test_a_root_that_is_missing_at_the_start_is_a_state_not_an_error() -> None:
    """Dead with root_gone, tried again every few seconds, alive as soon as it is there; one cure."""
    shell = Shell()
    shell.take(shell.watch.start(shell.now))
    tries = 0
    while shell.now < 200.0:
        tries += 1
        shell.take(shell.watch.lost(shell.now, shell.watch.attempt, WatchTrouble.ROOT_GONE, "no such file"))
        assert not shell.held
        assert shell.watch.deadline - shell.now <= RETRY_MAX_S
        shell.until(shell.watch.deadline)
    assert 20 <= tries <= 30
    assert ([DEAD], {"root_gone": 1}) == (shell.reasons, shell.restarts)
    shell.begin()
    shell.round()
    assert (True, [("dead", "root_gone"), ("alive", None)]) == (shell.watch.up, shell.told)


def test_directories_that_cannot_be_watched_make_it_blind() -> None:
    """Part would be noticed, part would not: blind, counted once, made again every minute, and healed when the survey is whole."""
    shell = alive()
    part = Survey(3, 2, WatchTrouble.LIMITS, "no watch is left")
    shell.take(shell.watch.surveyed(shell.now, 1, part))
    assert ([BLIND], BLIND, False) == (shell.reasons, shell.watch.trouble, shell.watch.up)
    for attempt in range(2, 5):
        end_s = shell.now + BLIND_RETRY_S
        while shell.now < end_s:
            shell.until(min(shell.now + 1.0, end_s))
            shell.write()
            shell.echo()
            assert [BLIND] == shell.reasons, "never dead meanwhile"
        assert {attempt} == shell.held
        shell.begin(part)
        shell.round()
    assert {"limits": 1} == shell.restarts
    shell.take(shell.watch.surveyed(shell.now, shell.watch.attempt, WHOLE))
    assert ([], True) == (shell.reasons, shell.watch.up)


def test_an_overflow_is_blind_until_a_new_subscription_is_proven() -> None:
    """What the kernel dropped may have been a new directory: the whole watch is made again, at once."""
    shell = alive()
    shell.take(shell.watch.lost(shell.now, 1, WatchTrouble.OVERFLOW, "too many"))
    assert ([BLIND], {2}) == (shell.reasons, shell.held)
    shell.begin()
    assert [BLIND] == shell.reasons
    shell.round()
    assert ([], {"overflow": 1}) == (shell.reasons, shell.restarts)


def test_a_root_that_lets_nobody_write_is_watched_passively() -> None:
    """No sentinel from the start: passive, said why, and tried again with every interval."""
    shell = Shell()
    shell.take(shell.watch.start(shell.now))
    shell.begin()
    shell.answer()
    shell.write("read-only file system", refused=True)
    assert (WatchMode.PASSIVE, True, []) == (shell.watch.mode, shell.watch.up, shell.reasons)
    assert "read-only file system" == shell.watch.snapshot().detail
    shell.until(115.0)
    shell.round()
    assert (WatchMode.ACTIVE, None) == (shell.watch.mode, shell.watch.snapshot().detail)


def test_a_sentinel_that_cannot_be_written_any_more_proves_nothing() -> None:
    """It could be written before: blind, not dead and not passive; the next one that comes back heals it."""
    shell = alive()
    shell.until(115.0)
    shell.write("permission denied", refused=True)
    assert ([BLIND], WatchMode.ACTIVE, {}) == (shell.reasons, shell.watch.mode, shell.restarts)
    shell.until(125.0)
    assert [BLIND] == shell.reasons, "a refused sentinel is not a missed one"
    shell.until(130.0)
    shell.round()
    assert [] == shell.reasons


def test_without_a_sentinel_the_watch_is_passive() -> None:
    """Nothing is ever written; the root is looked at every five seconds, and an answer that does not come is dead."""
    shell = Shell(interval_s=None)
    shell.take(shell.watch.start(shell.now))
    shell.begin()
    assert (True, WatchMode.PASSIVE, []) == (shell.watch.up, shell.watch.mode, shell.touched)
    shell.until(200.0)
    assert (20, 200.0, []) == (shell.checks, shell.now, shell.touched)
    shell.attentive = False
    shell.until(205.0 + ANSWER_S)
    assert ([DEAD], {"error": 1}) == (shell.reasons, shell.restarts)


def test_a_file_system_that_never_lets_us_begin_is_given_up_and_tried_again() -> None:
    """Each time the old subscription is given back first."""
    shell = Shell()
    shell.take(shell.watch.start(shell.now))
    shell.until(100.0 + SUBSCRIBE_S)
    assert ([DEAD], {"error": 1}) == (shell.reasons, shell.restarts)
    shell.until(shell.now + 0.01)
    assert {2} == shell.held


def test_another_sentinel_is_tried_at_once_and_none_is_passive() -> None:
    """New settings for the same root keep the subscription."""
    shell = alive()
    shell.take(shell.watch.configure(shell.now, WatchSettings(interval_s=None)))
    assert (WatchMode.PASSIVE, True, {1}) == (shell.watch.mode, shell.watch.up, shell.held)
    shell.until(130.0)
    assert [1] == shell.touched
    shell.take(shell.watch.configure(shell.now, WatchSettings(interval_s=2.0)))
    shell.until(shell.now)
    assert [1, 2] == shell.touched


def test_stopped_it_waits_for_nothing() -> None:
    """Everything is given back, and what still comes is ignored."""
    shell = alive()
    shell.take(shell.watch.stop(shell.now))
    assert DEAD is shell.watch.trouble
    assert (set(), math.inf, False, False) == (shell.held, shell.watch.deadline, shell.watch.active, shell.watch.up)
    assert () == shell.watch.changed(shell.now, 1, Counter({FileChange.ADDED: 1}))
    assert () == shell.watch.lost(shell.now, 1, WatchTrouble.ERROR, "late")
    assert {} == shell.restarts


def test_changes_are_counted_by_kind() -> None:
    """What was reported, and when the last one was."""
    shell = alive()
    shell.take(shell.watch.changed(103.0, 1, Counter({FileChange.ADDED: 2, FileChange.DELETED: 1})))
    seen = shell.watch.snapshot()
    assert {FileChange.ADDED: 2, FileChange.MODIFIED: 0, FileChange.DELETED: 1} == seen.changes
    assert seen.last_event is not None
    assert WALL_S + 3.0 == seen.last_event.wall_s


FACTS = ("begin", "part", "lost", "overflow", "gone", "replaced", "same", "uproot", "write", "refuse", "fail", "echo", "pass", "long", "settings")


@given(st.lists(st.sampled_from(FACTS), max_size=80), st.sampled_from([None, 1.0, 15.0]))
def test_whatever_happens_in_whatever_order(facts: list[str], interval_s: float | None) -> None:
    """Never two subscriptions; up is never said together with a reason; there is always a next deadline; cures are never faster than their backoff allows."""
    shell = Shell(interval_s=interval_s)
    watch = shell.watch
    shell.take(watch.start(shell.now))
    for fact in facts:
        match fact:
            case "begin":
                shell.begin()
            case "part":
                shell.take(watch.surveyed(shell.now, watch.attempt, Survey(1, 1, WatchTrouble.ERROR, "denied")))
            case "lost":
                shell.take(watch.lost(shell.now, watch.attempt, WatchTrouble.ERROR, "an error"))
            case "overflow":
                shell.take(watch.lost(shell.now, watch.attempt, WatchTrouble.OVERFLOW, "too many"))
            case "gone" | "replaced" | "same":
                shell.answer({"gone": None, "replaced": OTHER, "same": ROOT}[fact])
            case "uproot":
                shell.take(watch.uprooted(shell.now, watch.attempt))
            case "write" | "refuse" | "fail":
                if shell.touched:
                    shell.write(None if fact == "write" else "a problem", fact == "refuse")
            case "echo":
                shell.echo()
            case "pass" | "long":
                shell.until(shell.now + (0.3 if fact == "pass" else 12.0))
            case _:
                shell.take(watch.configure(shell.now, WatchSettings(interval_s=None if shell.now % 2 else 3.0)))
        assert not (watch.up and watch.reasons(shell.now))
        assert watch.up is (watch.trouble is None)
        assert len(watch.reasons(shell.now)) <= 1
        assert watch.deadline <= shell.now + SUBSCRIBE_S
        if watch.up:
            assert shell.held
    assert sum(watch.sentinels.values()) <= len(shell.touched)
    # However often the root goes away, a good file system heals it.
    for _ in range(60):
        if watch.up:
            break
        shell.until(max(shell.now, watch.deadline))
        if shell.held:
            shell.begin()
            shell.take(watch.surveyed(shell.now, watch.attempt, WHOLE))
            root = watch._root
            shell.answer(root)
            if shell.touched:
                shell.write()
            shell.echo()
    assert watch.up

"""One watch over a tree: whether a change would be noticed now, how that is proven, and how the watch is made again when it would not.

Law: alive is proven, never assumed. *Dead* is a watch by which nothing would be noticed: there is none, the root is gone or another one, the sentinel was written
and its event did not come. *Blind* is one by which part would not: directories that cannot be watched, events that the kernel dropped, or a sentinel that cannot be
written any more, so that nothing is proven. Both are held until the contrary is proven, and every cure is counted once, by the trouble it is for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from syncwatch.core.backoff import Backoff
from syncwatch.core.effects import CheckRoot, Effect, Effects, Notice, Notify, Subscribe, Touch, Unsubscribe
from syncwatch.core.health import Component, Condition, Reason
from syncwatch.core.histogram import FAST_S, Histogram
from syncwatch.core.snapshot import Moment, WatcherSnapshot
from syncwatch.core.states import FileChange, SentinelResult, WatchMode, WatchTrouble

CHECK_S = 5.0
"""So often it is looked what is at the root's path: a mount or a rename further up gives no event."""
ANSWER_S = 10.0
"""Longer than this a file system may not take to tell what is at the root's path."""
SUBSCRIBE_S = 120.0
"""Longer than this it may not take to begin: a walk through all directories."""
RETRY_MIN_S = 0.25
RETRY_MAX_S = 5.0
"""After the first cure, which is tried at once, each waits twice as long, up to this."""
BLIND_RETRY_S = 60.0
"""So often the whole watch is made again while part of the tree cannot be watched; what can be noticed by itself is cured before."""
STABLE_S = 10.0
"""Alive for so long, and the next trouble is a first one again."""
DEAF_AFTER = 3
"""So many sentinels in a row, each on a new watch, that did not come: this file system does not tell, and the tree is polled."""
SCAN_S = 60.0
"""Longer than this no reading of a polled tree may take, beside the pause before it."""


class WatchSettings(msgspec.Struct, frozen=True):
    """How one tree is watched; seconds. `interval_s` None: no sentinel is written. `poll_s`: the pause between two readings of a tree that is polled."""

    interval_s: float | None = 15.0
    timeout_s: float = 5.0
    poll_s: float = 5.0
    check_s: float = CHECK_S
    retry_min_s: float = RETRY_MIN_S
    retry_max_s: float = RETRY_MAX_S
    blind_retry_s: float = BLIND_RETRY_S
    stable_s: float = STABLE_S


class Root(msgspec.Struct, frozen=True):
    """Which directory it is, and on which file system."""

    inode: int
    device: int


class Survey(msgspec.Struct, frozen=True):
    """How much of the tree is watched. `trouble` and `detail` are about the first of the `unseen` directories."""

    directories: int = 0
    unseen: int = 0
    trouble: WatchTrouble = WatchTrouble.ERROR
    detail: str = ""


class _Fault(msgspec.Struct, frozen=True):
    """What is wrong, since when."""

    trouble: WatchTrouble | None  # None: nothing that another subscription would cure
    detail: str
    since: Moment


_UNSEEN, _OVERFLOW, _UNPROVEN = "unseen", "overflow", "unproven"


class Watch:
    """The machine of one watched tree. `path` is for showing."""

    component = Component.WATCHER
    possible_reasons: Sequence[Reason] = (Reason.WATCHER_DEAD, Reason.WATCHER_BLIND)
    settled_once = True  # there is no first sync to wait for

    def __init__(self, name: str, settings: WatchSettings, path: str = "") -> None:
        self.name = name
        self.path = path
        self.settings = settings
        self.changes = dict.fromkeys(FileChange, 0)
        self.sentinels = dict.fromkeys(SentinelResult, 0)
        self.restarts = dict.fromkeys(WatchTrouble, 0)
        self.latency = Histogram(FAST_S)
        self.attempt = 0
        self.mode: WatchMode | None = None
        self._offset_s = 0.0
        self._running = False
        self._stopped = False
        self._subscribed = False
        self._proven = False  # that a change is noticed, by this subscription
        self._known = False  # whether anything was ever found out
        self._root: Root | None = None
        self._survey = Survey()
        self._dead: _Fault | None = None
        self._blind: dict[str, _Fault] = {}
        self._told: tuple[str, str] | None = None
        self._why_mode: str | None = None  # why it polls, or is passive although a sentinel is configured
        self._deaf = 0
        self._polling = False
        self._failures = 0
        self._alive_since_s: float | None = None
        self._number = 0
        self._touched_s: float | None = None  # when the sentinel under way was asked for
        self._uprooted = False  # the root went away, and what is there now was asked for
        self._written = False  # the sentinel could be written before: a refusal is a loss
        self._last_event: Moment | None = None
        self._last_alive: Moment | None = None
        # When what is due; math.inf for nothing.
        self._begin_s = math.inf
        self._give_up_s = math.inf
        self._touch_s = math.inf
        self._echo_s = math.inf
        self._check_s = math.inf
        self._answer_s = math.inf
        self._scan_s = math.inf
        self._again_s = math.inf

    # ------------------------------------------------------------------ schedule

    @property
    def interval_s(self) -> float:
        """The longest regular distance between two deadlines: what liveness measures against."""
        return max(self.settings.check_s, self.settings.retry_max_s)

    @property
    def deadline(self) -> float:
        """When the next thing is due."""
        return min(
            self._begin_s, self._give_up_s, self._touch_s, self._echo_s, self._check_s, self._answer_s, self._scan_s, self._again_s
        )

    def wall(self, now: float, offset_s: float) -> Effects:
        """The wall clock is `now + offset_s`."""
        self._offset_s = offset_s
        return ()

    def start(self, now: float) -> Effects:
        """Begin to watch."""
        self._running, self._stopped = True, False
        return self._subscribe(now)

    def stop(self, now: float) -> Effects:
        """Watch no more; what still comes is ignored."""
        effects = self._unsubscribe()
        self._running, self._stopped = False, True
        self._quiet()
        self._begin_s = math.inf
        return effects

    def configure(self, now: float, settings: WatchSettings) -> Effects:
        """New settings for the same root; counters go on. Another sentinel is tried at once."""
        anew = (settings.interval_s, settings.timeout_s) != (self.settings.interval_s, self.settings.timeout_s)
        self.settings = settings
        if not (self._running and self._subscribed and anew) or self.mode is WatchMode.POLLING:
            return ()
        self._drop_touch()
        if settings.interval_s is None:
            self._touch_s = math.inf
            self._blind.pop(_UNPROVEN, None)
            return [*self._passive(now, None), *self._tell(now)]
        self._touch_s = now
        return ()

    def tick(self, now: float) -> Effects:
        """A deadline has come. The order is fixed: what is known for certain comes before what is only late."""
        effects: list[Effect] = []
        if now >= self._begin_s:
            effects += self._subscribe(now)
        elif now >= self._give_up_s:
            effects += self._trouble(now, WatchTrouble.ERROR, f"the file system did not let us begin within {SUBSCRIBE_S:.0f} s")
        elif now >= self._answer_s:
            effects += self._trouble(now, WatchTrouble.ERROR, f"the file system did not tell within {ANSWER_S:.0f} s what is at the root's path")
        elif now >= self._echo_s:
            effects += self._missed(now)
        elif now >= self._scan_s:
            effects += self._trouble(now, WatchTrouble.ERROR, "the tree could not be read to its end in time")
        elif now >= self._again_s:
            effects += self._again(now)
        else:
            if now >= self._touch_s:
                effects += self._touch(now)
            if now >= self._check_s:
                effects += self._check(now)
        return effects

    # ------------------------------------------------------------------ what the shell tells

    def subscribed(self, now: float, attempt: int, root: Root, survey: Survey, polling: str | None = None) -> Effects:
        """The tree is watched, as far as `survey` says; `polling` says why by polling, where it is."""
        if attempt != self.attempt or self._subscribed or self._give_up_s == math.inf:
            return ()
        self._subscribed, self._root, self._give_up_s = True, root, math.inf
        self._check_s = now + self.settings.check_s
        effects: list[Effect] = []
        if polling is not None:
            self.mode, self._why_mode, self._polling = WatchMode.POLLING, polling, True
            self._scan_s = now + self.settings.poll_s + SCAN_S
            effects += self._proof(now)
        elif self.settings.interval_s is None:
            effects += self._passive(now, None)
        else:
            if self.mode is not WatchMode.PASSIVE:
                self.mode = WatchMode.ACTIVE
            effects += self._touch(now)
        return [*effects, *self.surveyed(now, attempt, survey)]

    def surveyed(self, now: float, attempt: int, survey: Survey) -> Effects:
        """How much of the tree is watched now."""
        if attempt != self.attempt or not self._subscribed:
            return ()
        self._survey = survey
        fault = self._blind.get(_UNSEEN)
        if not survey.unseen:
            self._blind.pop(_UNSEEN, None)
            self._again_s = math.inf
        elif fault is None or (fault.trouble, fault.detail) != (survey.trouble, survey.detail):
            if fault is None or fault.trouble is not survey.trouble:
                self.restarts[survey.trouble] += 1
            since = self._at(now) if fault is None else fault.since
            self._blind[_UNSEEN] = _Fault(survey.trouble, survey.detail, since)
            self._known = True
        if survey.unseen and self._again_s == math.inf:
            self._again_s = now + self.settings.blind_retry_s
        return self._tell(now)

    def changed(self, now: float, attempt: int, counts: Mapping[FileChange, int]) -> Effects:
        """Changes were reported to whoever asked for them."""
        if attempt != self.attempt or not self._subscribed:
            return ()
        for change, count in counts.items():
            self.changes[change] += count
        self._last_event = self._at(now)
        return ()

    def scanned(self, now: float, attempt: int) -> Effects:
        """A polled tree was read to its end."""
        if attempt != self.attempt or self.mode is not WatchMode.POLLING:
            return ()
        self._scan_s = now + self.settings.poll_s + SCAN_S
        return [*self._proof(now), *self._tell(now)]

    def touched(self, now: float, attempt: int, number: int, problem: str | None = None, refused: bool = False) -> Effects:
        """The sentinel was written, or there was a problem; `refused`: because we may not write here."""
        if attempt != self.attempt or number != self._number or self._touched_s is None:
            return ()
        if problem is None:
            self._written = True
            return ()
        self._drop_touch()
        if refused and not self._written:
            return [*self._passive(now, problem), *self._tell(now)]
        fault = self._blind.get(_UNPROVEN)
        self._blind[_UNPROVEN] = _Fault(None, problem, self._at(now) if fault is None else fault.since)
        self._known = True
        self._dead = None  # nothing says that it is; nothing proves that it is not: blind
        return self._tell(now)

    def echoed(self, now: float, attempt: int) -> Effects:
        """The sentinel's event came."""
        if attempt != self.attempt or self._touched_s is None:
            return ()
        self.sentinels[SentinelResult.SEEN] += 1
        self.latency.observe(now - self._touched_s)
        self._drop_touch()
        self._deaf = 0
        self.mode, self._why_mode = WatchMode.ACTIVE, None
        self._blind.pop(_UNPROVEN, None)
        return [*self._proof(now), *self._tell(now)]

    def checked(self, now: float, attempt: int, root: Root | None, detail: str = "") -> Effects:
        """What is at the root's path: None is nothing that can be watched."""
        if attempt != self.attempt or not self._subscribed:
            return ()
        uprooted, self._uprooted, self._answer_s = self._uprooted, False, math.inf
        if root is None:
            return self._trouble(now, WatchTrouble.ROOT_GONE, detail or "nothing is at the root's path")
        if root != self._root:
            what = "another file system" if self._root is not None and root.device != self._root.device else "another directory"
            return self._trouble(now, WatchTrouble.ROOT_REPLACED, f"{what} is at the root's path")
        if uprooted:
            return self._trouble(now, WatchTrouble.ROOT_REPLACED, "the root was taken away and put back")
        if self.mode is WatchMode.PASSIVE:
            self._last_alive = self._at(now)
        return ()

    def uprooted(self, now: float, attempt: int) -> Effects:
        """The root itself was deleted, moved or unmounted: nothing is noticed any more, and it is looked what is there now."""
        if attempt != self.attempt or not self._subscribed:
            return ()
        self._uprooted = True
        return self._check(now)

    def lost(self, now: float, attempt: int, trouble: WatchTrouble, detail: str) -> Effects:
        """The subscription ended, or could not be made; after an overflow it stands but what it knows of the tree may be wrong."""
        if attempt != self.attempt or not (self._subscribed or self._give_up_s < math.inf):
            return ()
        if trouble is WatchTrouble.OVERFLOW and self._subscribed:
            self.restarts[trouble] += 1
            self._blind[_OVERFLOW] = _Fault(trouble, detail, self._at(now))
            return [*self._tell(now), *self._again(now)]
        return self._trouble(now, trouble, detail)

    # ------------------------------------------------------------------ subscribing

    def _subscribe(self, now: float) -> list[Effect]:
        self.attempt += 1
        self._quiet()
        self._begin_s, self._give_up_s = math.inf, now + SUBSCRIBE_S
        return [Subscribe(self.attempt, self._polling)]

    def _unsubscribe(self) -> list[Effect]:
        """Whatever there is of the present attempt."""
        under_way = self._subscribed or self._give_up_s < math.inf
        self._subscribed, self._give_up_s = False, math.inf
        return [Unsubscribe(self.attempt)] if under_way else []

    def _again(self, now: float) -> list[Effect]:
        """Make the whole watch again, although it stands: what was noticed before goes on to be known as blind, not as dead."""
        return [*self._unsubscribe(), *self._subscribe(now)]

    def _quiet(self) -> None:
        """Nothing is waited for that belongs to a subscription."""
        self._drop_touch()
        self._touch_s = self._check_s = self._answer_s = self._scan_s = self._again_s = math.inf
        self._proven = self._uprooted = False

    def _trouble(self, now: float, trouble: WatchTrouble, detail: str) -> list[Effect]:
        """Nothing is noticed any more: begin the cure, or go on with it."""
        before = self._dead
        if before is None or before.trouble is not trouble:
            self.restarts[trouble] += 1
        self._dead = _Fault(trouble, detail, self._at(now) if before is None else before.since)
        self._known = True
        self._blind.clear()
        self._survey = Survey()
        if self._alive_since_s is not None and now - self._alive_since_s >= self.settings.stable_s:
            self._failures = 0
        self._alive_since_s = None
        effects = self._unsubscribe()
        self._quiet()
        backoff = Backoff(self.settings.retry_min_s, self.settings.retry_max_s, jitter=False)
        pause_s = 0.0 if self._failures == 0 else backoff.delay_s(self._failures, 0.0)
        self._failures += 1
        if trouble in (WatchTrouble.ROOT_GONE, WatchTrouble.ROOT_REPLACED):
            self._polling, self._deaf, self._written = False, 0, False  # what comes next may be another file system
        self._begin_s = now + pause_s
        return [*effects, *self._tell(now)]

    # ------------------------------------------------------------------ proof

    def _touch(self, now: float) -> list[Effect]:
        """Write the sentinel, after a look at the root: one that was replaced shall not be called a missed sentinel."""
        interval_s = self.settings.interval_s
        assert interval_s is not None
        self._number += 1
        self._touched_s, self._touch_s, self._echo_s = now, now + interval_s, now + self.settings.timeout_s
        return [*self._check(now), Touch(self.attempt, self._number)]

    def _drop_touch(self) -> None:
        self._touched_s, self._echo_s = None, math.inf

    def _check(self, now: float) -> list[Effect]:
        self._check_s = now + self.settings.check_s
        if self._answer_s < math.inf:
            return []  # the last look is not answered yet, and is given up in its own time
        self._answer_s = now + ANSWER_S
        return [CheckRoot(self.attempt)]

    def _missed(self, now: float) -> list[Effect]:
        self.sentinels[SentinelResult.MISSED] += 1
        self._deaf += 1
        detail = f"the sentinel was written and its event did not come within {self.settings.timeout_s:g} s"
        if self._deaf >= DEAF_AFTER:
            self._polling = True
            detail += f", {self._deaf} times in a row: this file system tells of no changes"
        return self._trouble(now, WatchTrouble.MISSED, detail)

    def _passive(self, now: float, why: str | None) -> list[Effect]:
        self.mode, self._why_mode = WatchMode.PASSIVE, why
        return self._proof(now)

    def _proof(self, now: float) -> list[Effect]:
        """A change would be noticed: as much as this mode can prove."""
        self._proven = self._known = True
        self._dead = None
        self._blind.pop(_OVERFLOW, None)
        self._last_alive = self._at(now)
        if self._alive_since_s is None:
            self._alive_since_s = now
        return []

    def _tell(self, now: float) -> list[Effect]:
        """What became of it, when it is something else than was told last."""
        if not self._known:
            return []
        fault = self._dead or next(iter(self._blind.values()), None)
        result = "dead" if self._dead is not None else "blind" if self._blind else "alive"
        if result == "alive" and not self._proven:
            return []
        detail = self._why_mode if fault is None else fault.detail
        reason = None if fault is None or fault.trouble is None else str(fault.trouble)
        said = (result, str(self.mode if fault is None else reason))
        if said == self._told:
            return []
        self._told = said
        fields = {"watcher": self.name, "result": result, "reason": reason, "mode": self.mode, "detail": detail}
        return [Notify(Notice.WATCHER, now + self._offset_s, fields)]

    def _at(self, now: float) -> Moment:
        return Moment(now, now + self._offset_s)

    # ------------------------------------------------------------------ outputs

    @property
    def active(self) -> bool:
        """Started, and something was found out: before that there is no health whose time could count."""
        return self._running and self._known

    @property
    def up(self) -> bool:
        """Whether a change would be noticed now, wherever under the root it happens."""
        return self._running and self._subscribed and self._proven and not self._uprooted and self._dead is None and not self._blind

    @property
    def trouble(self) -> Reason | None:
        """Why a change might not be noticed: None only while `up`. Before anything is known that is WATCHER_BLIND, after the stop WATCHER_DEAD."""
        if self.up:
            return None
        return Reason.WATCHER_DEAD if self._dead is not None or self._uprooted or self._stopped else Reason.WATCHER_BLIND

    def reasons(self, now: float) -> Sequence[Condition]:
        """Dead or blind, never both."""
        if not self.active:
            return ()
        if self._dead is not None:
            return (Condition(Reason.WATCHER_DEAD, self._dead.since.now_s),)
        if self._blind:
            return (Condition(Reason.WATCHER_BLIND, min(fault.since.now_s for fault in self._blind.values())),)
        return ()

    def snapshot(self) -> WatcherSnapshot:
        """An immutable picture."""
        blind = min(self._blind.values(), key=lambda fault: fault.since.now_s, default=None)
        fault = self._dead or blind
        return WatcherSnapshot(
            name=self.name,
            path=self.path,
            mode=self.mode,
            up=self.up,
            dead_since=None if self._dead is None else self._dead.since,
            blind_since=None if blind is None or self._dead is not None else blind.since,
            detail=self._why_mode if fault is None else fault.detail,
            sentinel=self.settings.interval_s is not None,
            directories=self._survey.directories,
            unseen=self._survey.unseen,
            changes=dict(self.changes),
            sentinels=dict(self.sentinels),
            sentinel_latency=self.latency.snapshot(),
            restarts=dict(self.restarts),
            last_event=self._last_event,
            last_alive=self._last_alive,
        )

"""The course of one schedule on simulated time: trouble as planned, then quiet, then calm; and how it is told.

What belongs here: what is the same whatever system is simulated. A world adds the shell's duties, what must hold after every input, how trouble
begins and ends, and whom to compare with. No rule of any oracle stands here.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from syncwatch.core.effects import Effects, Notify
from syncwatch.core.resume import ResumePoint
from syncwatch.core.session import Session, SessionSettings
from tests.simulation.harness.network import Timeline
from tests.simulation.harness.plans import Act

PER_PROCESS = 100_000
"""Connections of later processes are numbered from here on: attempts begin at 1 in each."""
PATIENCE_S = 900.0
"""A schedule that has not come to rest after this long never will."""
WALL_S = 1_781_000_000.0
"""The servers' wall clock at monotonic 0."""

Narrator = Callable[[float, str], None]


class BrokenInvariantError(AssertionError):
    """An invariant does not hold."""


class Verdict(msgspec.Struct, frozen=True):
    """What a schedule ended with: every disagreement in words, none when all is well."""

    plan: Any
    problems: tuple[str, ...]
    expected: dict[str, int]
    shown: dict[str, int]
    exemptions: Counter[str] = msgspec.field(default_factory=Counter)


class Schedule(Protocol):
    """What every plan says."""

    @property
    def length_s(self) -> float:
        """How long there is trouble."""

    @property
    def pause_s(self) -> float:
        """Mean pause between events."""

    @property
    def acts(self) -> Sequence[Act]:
        """What happens when."""


class Fold(Protocol):
    """What every oracle has."""

    @property
    def counters(self) -> msgspec.Struct:
        """What the session has to show."""

    def advance(self, now: float) -> None:
        """Bring about what time brings."""


AnyPlan = TypeVar("AnyPlan", bound=Schedule)
AnyJudge = TypeVar("AnyJudge", bound=Fold)


class Course(Generic[AnyPlan, AnyJudge]):
    """One schedule: a plan, one session after another, and the oracle that judges them.

    An act of the plan is performed by the method `_act_<what>`, an effect of the session by its class's entry in `_duties`.
    """

    MOST_INPUTS: ClassVar[int] = 200_000
    MOST_AT_ONE_MOMENT: ClassVar[int] = 6
    """Ticks."""

    session: Session
    _rng: random.Random  # who writes when, and what else the world does by chance

    def __init__(self, plan: AnyPlan, settings: SessionSettings, judge: AnyJudge, narrator: Narrator | None) -> None:
        self.plan = plan
        self.settings = settings
        self.judge = judge
        self.timeline = Timeline()
        self.began = self.timeline.now
        self.client_clock_s = 0.0
        self.calm_since = math.inf
        self.done = False
        self._tell = narrator
        self._duties: dict[type, Callable[[Any], None]] = {Notify: self._notify}
        self._writing = True
        self._dead = False  # between two processes
        self._process = 0
        self._inputs = 0
        self._ticks = 0  # at one moment

    # -- what a world adds -------------------------------------------------------------------------------------------

    def shown(self) -> dict[str, int]:
        """What the session's own snapshot says, under the oracle's names."""
        raise NotImplementedError

    def _check(self) -> None:
        """What must hold after every input."""
        raise NotImplementedError

    def _start(self, point: ResumePoint | None) -> None:
        """A process begins, with what an earlier one saved."""
        raise NotImplementedError

    def _event(self) -> None:
        """Somebody writes."""
        raise NotImplementedError

    def _quiet(self) -> None:
        """All trouble is over: end it, then wait for calm."""
        raise NotImplementedError

    # -- the course of a schedule ------------------------------------------------------------------------------------

    def _lived(self) -> list[str]:
        """Run the schedule to its end; what broke on the way."""
        try:
            self._course()
        except BrokenInvariantError as broken:
            return [str(broken)]
        except Exception as error:  # any exception out of the core is a finding, with its seed
            if self._tell is not None:
                raise
            return [f"{type(error).__name__}: {error}"]
        return []

    def _course(self) -> None:
        timeline = self.timeline
        for act in self.plan.acts:
            timeline.at(self.began + act.at, self._acting(act))
        timeline.at(self.began, self._begin)
        timeline.after(self.plan.length_s, self._quiet)
        while not self.done:
            deadline = math.inf if self._dead else self.session.deadline
            if deadline <= timeline.next:
                self._ticks = self._ticks + 1 if deadline <= timeline.now else 0
                timeline.now = max(timeline.now, deadline)
                self._input(self.session.tick(timeline.now))
                self._ticked()
            else:
                self._ticks = 0
                timeline.step()

    def _ticked(self) -> None:
        """A few ticks at one moment are enough to do all that was due."""
        self._require(self._ticks < self.MOST_AT_ONE_MOMENT, f"the deadline {self.session.deadline} did not move by {self._ticks} ticks")

    def _acting(self, act: Act) -> Callable[[], None]:
        def perform() -> None:
            self._say(f"== {act.what} {act.name} {'' if act.value is None else act.value} {'' if act.extra is None else act.extra}".rstrip())
            getattr(self, f"_act_{act.what}")(act)

        return perform

    def _begin(self) -> None:
        self._wall()
        self._start(None)
        self._post()

    def _wall(self) -> None:
        """The time of day, every second."""
        if not self._dead:
            self._time_of_day()
        self.timeline.after(1.0, self._wall)

    def _time_of_day(self) -> None:
        self._input(self.session.wall(self.timeline.now, WALL_S + self.client_clock_s))

    def _post(self) -> None:
        """One event and the pause after it."""
        if self._writing:
            self._event()
            self.timeline.after(self._rng.expovariate(1.0 / self.plan.pause_s), self._post)

    # -- the session -------------------------------------------------------------------------------------------------

    def _input(self, effects: Effects) -> None:
        """Perform effects in order, then hold the session to its invariants."""
        for effect in effects:
            duty = self._duties.get(type(effect))
            if duty is None:
                raise BrokenInvariantError(f"nobody asked for {effect}")
            duty(effect)
        self._inputs += 1
        if self._inputs >= self.MOST_INPUTS:
            raise self._broken("the session never rests")
        self._check()

    def _notify(self, effect: Notify) -> None:
        if self._tell is not None:
            self._say(f"  notify {effect.notice} " + " ".join(f"{key}={value}" for key, value in effect.fields.items()))

    def _connection(self, attempt: int) -> int:
        return attempt + PER_PROCESS * self._process

    def _attempt(self, connection: int) -> int:
        return connection - PER_PROCESS * self._process

    def _stale(self, point: ResumePoint) -> bool:
        """Whether a process that begins now starts fresh all the same, by the client's own clock."""
        return abs(self.timeline.now + WALL_S + self.client_clock_s - point.saved_wall_s) > self.settings.resume_max_age_s

    # -- judging and telling -----------------------------------------------------------------------------------------

    def _broken(self, what: str) -> BrokenInvariantError:
        return BrokenInvariantError(f"t={self.timeline.now - self.began:.3f}: {what}")

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise self._broken(what)

    def _calm(self, calm: bool) -> None:
        """Remember since when nothing is under way."""
        self.calm_since = min(self.calm_since, self.timeline.now) if calm else math.inf

    def _unequal(self, shown: Mapping[str, int]) -> list[str]:
        """Counters in which session and oracle differ."""
        expected = msgspec.structs.asdict(self.judge.counters)
        return [f"{name}: oracle {count}, session {shown[name]}" for name, count in expected.items() if count != shown[name]]

    def _verdict(self, problems: Sequence[str], exemptions: Counter[str] | None = None) -> Verdict:
        expected, shown = msgspec.structs.asdict(self.judge.counters), self.shown()
        in_order = {name: shown[name] for name in expected}  # so that the two can be read one below the other
        return Verdict(self.plan, tuple(problems), expected, in_order, exemptions or Counter())

    def _say(self, text: str) -> None:
        if self._tell is not None:
            self._tell(self.timeline.now, text)

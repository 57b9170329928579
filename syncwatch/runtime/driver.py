"""One driver for all machines: hands in inputs, performs the effects in order, sleeps until the machine's deadline.

What belongs here: the mechanics that every machine shares, and the evidence that they work (how far a deadline has passed).
What must not: any decision of a machine. Only this module catches what a machine raises.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, TypeVarTuple

import structlog

from syncwatch.core.effects import Effect, Effects
from syncwatch.core.snapshot import TaskSnapshot
from syncwatch.runtime.clock import SYSTEM, Clock

LIMIT_S = 30.0
"""A machine is wedged when it is overdue by more than this, or by more than three of its own intervals."""
MIN_SLEEP_S = 0.001  # uvloop's timers have this resolution; a deadline that stays in the past must not spin the loop

Ts = TypeVarTuple("Ts")
E = TypeVar("E", bound=Effect)
Perform = Callable[[Any], None]

log = structlog.get_logger("syncwatch.runtime")


class Machine(Protocol):
    """What a driver needs to know of a machine. `wall(now, offset_s)` is given each second to the machines that have it."""

    @property
    def deadline(self) -> float:
        """Monotonic seconds of the next `tick`; `math.inf` for none."""
        ...

    @property
    def interval_s(self) -> float:
        """The longest regular distance between two deadlines."""
        ...

    def tick(self, now: float) -> Effects:
        """Do what the deadline was for."""
        ...


class Driver:
    """Runs one machine on the running event loop.

    `armed_s` is the time that a wake-up is arranged for, never later than the machine's deadline. A deadline that moves away leaves
    the wake-up where it is (it then only arranges the next one): most inputs postpone, and a timer per frame would cost more
    than the frame.
    """

    def __init__(self, name: str, machine: Machine, clock: Clock = SYSTEM) -> None:
        self.name = name
        self.machine = machine
        self.clock = clock
        self.armed_s = math.inf
        self.progress_s = clock.monotonic()  # written only when an input was taken and its effects were performed
        self.restarts = 0
        self.crashed_s: float | None = None
        self.on_restart: list[Callable[[], None]] = []
        self._performers: dict[type[Any], Perform] = {}
        self._waiting: deque[Callable[[float], Effects]] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._wall: Callable[[float, float], Effects] | None = getattr(machine, "wall", None)

    def on(self, kind: type[E], perform: Callable[[E], None]) -> None:
        """Name who performs effects of `kind`. A performer never blocks and never raises for what a peer does."""
        self._performers[kind] = perform

    def call(self, step: Callable[[float, *Ts], Effects], *args: *Ts) -> None:
        """Give the machine one input at the present time, perform what it asks for, arrange the next wake-up.

        An input that a performer gives from inside waits until the running one is complete, so that effects keep their order. After a
        crash or `close()` inputs are dropped.
        """
        if self._busy:
            self._waiting.append(lambda now: step(now, *args))
            return
        if self._closed or self.crashed_s is not None:
            return
        self._busy = True
        try:
            now = self.clock.monotonic()
            effects = step(now, *args)
            if effects:
                self.perform(effects)
            while self._waiting:
                self.perform(self._waiting.popleft()(self.clock.monotonic()))
            self.progress_s = now
        except Exception:
            # The one broad except: what comes out of a machine is our own bug. It must neither pass silently nor take the
            # other machines with it; this one is reported as wedged, and /livez asks for the restart that helps.
            self._crash()
            return
        finally:
            self._busy = False
        if self.machine.deadline < self.armed_s:
            self._arm()

    def perform(self, effects: Effects) -> None:
        """Perform effects in order. For batches only, from inside a step that `call` runs.

        Raises: KeyError for a kind of effect that nobody performs.
        """
        for effect in effects:
            self._performers[type(effect)](effect)

    def wall(self) -> None:
        """Tell the machine the wall time, if it wants to know."""
        if self._wall is not None:
            self.call(self._wall, self.clock.offset_s())

    def restart(self) -> None:
        """Arrange the wake-up afresh and revive what stands beside it (a connection's reader)."""
        if self._closed or self.crashed_s is not None:
            return
        self.restarts += 1
        self._disarm()
        for revive in self.on_restart:
            revive()
        self._arm()

    def close(self) -> None:
        """No more wake-ups, no more inputs."""
        self._closed = True
        self._disarm()

    def overdue_s(self, now: float) -> float:
        """How far the machine's own deadline has passed; 0 while in time."""
        return 0.0 if self._closed else max(0.0, now - self.machine.deadline)

    def wedged(self, now: float) -> bool:
        """Whether only a restart of the process would help: it crashed, or stayed overdue although it was restarted."""
        return self.crashed_s is not None or self.overdue_s(now) > max(LIMIT_S, 3.0 * self.machine.interval_s)

    def snapshot(self, now: float) -> TaskSnapshot:
        """What the exposition reads."""
        return TaskSnapshot(self.name, self.overdue_s(now), self.wedged(now))

    def _fire(self) -> None:
        self._timer, self.armed_s = None, math.inf
        if self.machine.deadline <= self.clock.monotonic():
            self.call(self.machine.tick)
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        self._disarm()
        deadline = self.machine.deadline
        if deadline == math.inf or self._closed or self.crashed_s is not None:
            return
        sleep_s = max(deadline - self.clock.monotonic(), MIN_SLEEP_S)
        self.armed_s = deadline
        self._timer = asyncio.get_running_loop().call_later(sleep_s, self._fire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.armed_s = None, math.inf

    def _crash(self) -> None:
        self.crashed_s = self.clock.monotonic()
        self._waiting.clear()
        self._disarm()
        log.exception("internal error: the task is stopped, /livez reports it", task=self.name)

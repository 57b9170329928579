"""Watches the drivers: restarts what is overdue, measures the loop's lag, notices a suspension, passes on the wall time.

What belongs here: what is done once a second for the whole process. It is a machine itself, run by a driver like the others, so that
a supervisor which stopped is reported as any wedged task is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import structlog

from syncwatch.core.effects import Effects
from syncwatch.core.snapshot import TaskSnapshot
from syncwatch.runtime.clock import SYSTEM, Clock
from syncwatch.runtime.driver import Driver

BEAT_S = 1.0
OVERDUE_S = 5.0
"""A driver that is later than this is restarted; long before it counts as wedged."""
LAG_WINDOW_S = 60.0
SUSPENSION_S = 10.0
"""A longer silence between two beats is a suspension (SIGSTOP, a frozen cgroup, a paused virtual machine)."""
GRACE_S = 30.0
"""For so long after a suspension liveness withholds judgement."""

log = structlog.get_logger("syncwatch.runtime")


class Supervisor:
    """One beat each second. Begin with `start()`, end with `close()`."""

    interval_s = BEAT_S

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self.deadline = clock.monotonic()
        self._drivers: list[Driver] = []
        self._beats: list[Callable[[float], None]] = []
        self._lags: deque[tuple[float, float]] = deque()  # (when, lag), falling: the first one is the highest of the window
        self._last_beat_s: float | None = None
        self._suspended_until_s = -1.0
        self._complained: set[Driver] = set()
        self._own = Driver("supervisor", self, clock)

    def watch(self, driver: Driver) -> None:
        """Look after `driver` from now on."""
        self._drivers.append(driver)

    def unwatch(self, driver: Driver) -> None:
        """Forget `driver`, which was closed on purpose."""
        self._drivers.remove(driver)
        self._complained.discard(driver)

    def each_second(self, beat: Callable[[float], None]) -> None:
        """Call `beat(now)` at each beat. It must be quick and must not raise for what the world does."""
        self._beats.append(beat)

    def not_each_second(self, beat: Callable[[float], None]) -> None:
        """Undo `each_second`."""
        self._beats.remove(beat)

    def start(self) -> None:
        """Beat now, then each second."""
        self._own.call(self.tick)

    def close(self) -> None:
        """No more beats."""
        self._own.close()

    def tick(self, now: float) -> Effects:
        """One beat."""
        self._measure(now)
        self.deadline = now + BEAT_S
        for driver in tuple(self._drivers):
            self._restart_overdue(driver, now)
            driver.wall()
        for beat in tuple(self._beats):
            beat(now)
        return ()

    def suspended(self, now: float) -> bool:
        """Whether the process came back from a suspension less than 30 s ago."""
        return now < self._suspended_until_s

    def lag_s(self, now: float) -> float:
        """The longest delay of a beat in the last 60 s: how long the event loop kept everybody waiting."""
        while self._lags and self._lags[0][0] <= now - LAG_WINDOW_S:
            self._lags.popleft()
        return self._lags[0][1] if self._lags else 0.0

    def tasks(self, now: float) -> tuple[TaskSnapshot, ...]:
        """Every driver's picture, the supervisor's own first."""
        return (self._own.snapshot(now), *(driver.snapshot(now) for driver in self._drivers))

    def _measure(self, now: float) -> None:
        if self._last_beat_s is not None:
            lag_s = max(0.0, now - self.deadline)
            while self._lags and self._lags[-1][1] <= lag_s:
                self._lags.pop()
            self._lags.append((now, lag_s))
            silence_s = now - self._last_beat_s
            if silence_s > SUSPENSION_S:
                self._suspended_until_s = now + GRACE_S
                log.warning("the process was suspended", silence_s=round(silence_s, 1))
        self._last_beat_s = now

    def _restart_overdue(self, driver: Driver, now: float) -> None:
        overdue_s = driver.overdue_s(now)
        if driver.crashed_s is not None or overdue_s <= OVERDUE_S:
            self._complained.discard(driver)
            return
        if driver not in self._complained:
            self._complained.add(driver)
            log.error("a task is overdue and is restarted", task=driver.name, overdue_s=round(overdue_s, 1))
        driver.restart()

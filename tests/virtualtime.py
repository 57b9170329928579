"""An event loop whose time jumps to the next timer when nothing is ready, so that waiting costs nothing and every moment is exact.

What belongs here: time. Sockets work as far as they are ready by themselves; work in threads is invisible to it, so tests of
threads and of real servers use a real loop.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from syncwatch.runtime.clock import Clock

T = TypeVar("T")

WALL_S = 1_800_000_000.0  # the wall time at which every virtual loop begins


class StuckError(RuntimeError):
    """Nothing is ready and no timer is set: on a real loop the test would hang for ever."""


class _Jumping(selectors.SelectSelector):
    """Never waits; where it would, time passes instead."""

    passed: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise StuckError("nothing is ready and no timer is set")
            self.passed(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        selector = _Jumping()
        super().__init__(selector)
        selector.passed = self.advance

    def time(self) -> float:
        """Virtual monotonic seconds."""
        return self._virtual_s

    def advance(self, seconds: float) -> None:
        """Let time pass without anybody having had a turn: what a suspended process, or a blocked loop, sees."""
        self._virtual_s += max(0.0, seconds)

    def clock(self, wall_s: float = WALL_S) -> Clock:
        """Both clocks of this loop; the wall clock began at `wall_s`."""
        return Clock(self.time, lambda: wall_s + self.time())


def run(main: Callable[[VirtualTimeLoop], Coroutine[Any, Any, T]]) -> T:
    """Run `main(loop)` to its end on a fresh virtual loop."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        return runner.run(main(loop))

"""The two clocks of the process, and nothing else reads them.

What belongs here: monotonic seconds (`now`, what every machine counts in) and wall time (Unix seconds). Both are injected, so that
tests own time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec


class Clock(msgspec.Struct, frozen=True):
    """`monotonic` never steps; `wall` may.

    The event loop's own time is not used as `now`: uvloop counts it in whole milliseconds and freezes it during one turn of the loop.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    def offset_s(self) -> float:
        """What has to be added to `now` to get wall time at this moment: the second argument of `wall(now, offset_s)`."""
        return self.wall() - self.monotonic()


SYSTEM = Clock()
"""The clocks of the machine we run on."""

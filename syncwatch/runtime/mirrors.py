"""The shell of one mirror: its comparisons run in a thread, one at a time; whoever waits for a flush is told its end.

What belongs here: the mechanics between a machine on the event loop and the work beside it. Nothing here looks at a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import structlog

from syncwatch.core.effects import Compare, FlushEnded
from syncwatch.core.health import Reason
from syncwatch.core.mirror import Mirror, Report
from syncwatch.core.mirror_rules import Side
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.files import CancelledError
from syncwatch.runtime.mirroring import Pair
from syncwatch.runtime.threads import in_thread

BROKEN = "an internal error, which the log describes"

log = structlog.get_logger("syncwatch.runtime")


class Ear:
    """What the watch of one root tells, for the mirror: a listener of `runtime.watcher`."""

    def __init__(self, driver: Driver, machine: Mirror, side: Side) -> None:
        self._driver, self._machine, self._side = driver, machine, side

    def changed(self, batch: Mapping[str, object]) -> None:
        """Something happened at these paths."""
        self._driver.call(self._machine.changed, tuple(batch))

    def rescan(self, why: str) -> None:
        """Anything may have changed."""
        self._driver.call(self._machine.missed)

    def watching(self, trouble: Reason | None) -> None:
        """Whether a change would be noticed now."""
        self._driver.call(self._machine.watching, self._side, trouble)


class Mirroring:
    """Performs Compare and FlushEnded of one machine. Give `beat` to the supervisor's seconds."""

    def __init__(self, driver: Driver, machine: Mirror, pair: Pair) -> None:
        self.driver = driver
        self.machine = machine
        self.pair = pair
        self._flush_id = 0
        self._waiting: dict[int, asyncio.Future[FlushEnded]] = {}
        self._work: asyncio.Future[Report] | None = None
        driver.on(Compare, self._compare)
        driver.on(FlushEnded, self._ended)

    def beat(self, _now: float) -> None:
        """How far a comparison is that takes long."""
        if self._work is not None:
            self.driver.call(self.machine.progressed, self.pair.progress)

    async def flush(self, timeout_s: float) -> FlushEnded:
        """Compare everything until nothing differs, or for so long."""
        self._flush_id += 1
        ended: asyncio.Future[FlushEnded] = asyncio.get_running_loop().create_future()
        self._waiting[self._flush_id] = ended
        self.driver.call(self.machine.flush, self._flush_id, timeout_s)
        if self.driver.crashed_s is not None and not ended.done():
            return FlushEnded(self._flush_id, False, 0, 1)
        return await ended

    def close(self) -> None:
        """Begin nothing more, and end what runs soon; whoever still waits is told that nothing is sure."""
        self.pair.cancel()
        for flush_id, ended in self._waiting.items():
            if not ended.done():
                ended.set_result(FlushEnded(flush_id, False, 0, 1))

    async def gone(self, timeout_s: float = 0.5) -> None:
        """When nothing is written any more, or a disk that hangs is not waited for any longer."""
        if self._work is not None:
            await asyncio.wait([self._work], timeout=timeout_s)

    def _ended(self, effect: FlushEnded) -> None:
        ended = self._waiting.pop(effect.flush_id, None)
        if ended is not None and not ended.done():
            ended.set_result(effect)

    def _compare(self, job: Compare) -> None:
        self._work = in_thread(lambda: self.pair.compare(job), f"mirror-{self.machine.name}")
        self._work.add_done_callback(partial(self._done, job.job_id))

    def _done(self, job_id: int, work: asyncio.Future[Report]) -> None:
        self._work = None
        error = None if work.cancelled() else work.exception()
        if work.cancelled() or isinstance(error, CancelledError):
            return
        if error is None:
            self.driver.call(self.machine.finished, job_id, work.result())
            return
        log.error("internal error while trees were compared", mirror=self.machine.name, exc_info=error)
        self.driver.call(self.machine.crashed, job_id, BROKEN)

"""The status file: what `/status` says, in the state directory, for whoever cannot ask over HTTP.

What belongs here: how it is written, and who wrote it. What the status says is somebody else's: here it is bytes. What a reader may believe: statusreader.py.

On disk: `status.json` 0600 beside the state file, replaced as a whole. It is written soon after anything changed, and every ten seconds
in any case, so that its age tells whether its writer still works. Nothing is resumed from it, so nobody waits for the disk.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import msgspec
import structlog

from syncwatch.core.timestamps import rfc3339
from syncwatch.runtime.clock import SYSTEM, Clock
from syncwatch.runtime.statefile import write
from syncwatch.runtime.threads import in_thread

SCHEMA = 1
FILE = "status.json"
CALM_S = 10.0
"""So often without news. Its cost is a tenth of what a quiet second costs anyway."""
NEWS_S = 1.0

log = structlog.get_logger("syncwatch.runtime")


class Writer(msgspec.Struct, frozen=True):
    """Which process wrote. The number alone may be another's by now; `started` (clock ticks since the machine's start) tells them apart.

    `boot` and `namespace` say where the number means anything: this run of the machine, this container. What the system does not tell is None.
    """

    pid: int
    started: int | None
    boot: str | None
    namespace: str | None


class Written(msgspec.Struct, frozen=True):
    """The content. `uptime_s` is the machine's own clock, which nobody sets; `ended`: the last words of a process that was asked to stop."""

    schema: int
    time: str
    time_s: float
    uptime_s: float
    every_s: float
    ended: bool
    writer: Writer
    status: msgspec.Raw


class StatusFile:
    """`offer` each second, `finish` at the end."""

    def __init__(self, directory: Path, clock: Clock = SYSTEM) -> None:
        self.path = directory / FILE
        self._clock = clock
        self._writer = writer()
        self._news = True
        self._begun_s = -CALM_S
        self._writing: asyncio.Future[None] | None = None
        self._condition: str | None = None  # why writing fails at present

    def news(self) -> None:
        """Something changed that a reader should know of soon."""
        self._news = True

    def due(self, now: float) -> bool:
        """Whether it is time to write."""
        return self._writing is None and now >= self._begun_s + (NEWS_S if self._news else CALM_S)

    def offer(self, now: float, status: bytes) -> None:
        """Write this. Returns at once."""
        self._begun_s, self._news = now, False
        self._begin(status, ended=False)

    async def finish(self, status: bytes, timeout_s: float) -> None:
        """The last words. After `timeout_s` nobody waits any longer."""
        try:
            async with asyncio.timeout(timeout_s):
                if self._writing is not None:
                    await asyncio.wait([self._writing])
                await asyncio.wait([self._begin(status, ended=True)])
        except TimeoutError:
            log.warning("the status file could not be written in time", path=str(self.path), timeout_s=timeout_s)

    def _begin(self, status: bytes, ended: bool) -> asyncio.Future[None]:
        time_s = self._clock.wall()
        written = Written(SCHEMA, rfc3339(time_s), time_s, uptime(), CALM_S, ended, self._writer, msgspec.Raw(status))
        content = msgspec.json.encode(written)
        self._writing = writing = in_thread(lambda: write(self.path.parent, content, FILE, durable=False), "statusfile")
        writing.add_done_callback(self._wrote)
        return writing

    def _wrote(self, done: asyncio.Future[None]) -> None:
        self._writing = None
        error = None if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, OSError):
            raise error
        condition = None if error is None else os.strerror(error.errno).lower() if error.errno else str(error)
        if condition is not None and condition != self._condition:
            log.warning("the status file cannot be written: syncwatch status knows nothing when it cannot ask over HTTP", path=str(self.path), error=condition)
        self._condition = condition


# ---------------------------------------------------------------------- processes


def writer() -> Writer:
    """This process, as others can recognise it."""
    pid = os.getpid()
    found = process(pid)
    return Writer(pid, None if found is None else found[1], _first_line("/proc/sys/kernel/random/boot_id"), _link("/proc/self/ns/pid"))


def uptime() -> float:
    """Seconds that the machine is up, sleep included where the system counts it."""
    boottime: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(boottime)


def process(pid: int) -> tuple[str, int] | None:
    """State and start of a process, where the system tells (Linux)."""
    line = _first_line(f"/proc/{pid}/stat")
    if line is None:
        return None
    fields = line.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], int(fields[19])


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None

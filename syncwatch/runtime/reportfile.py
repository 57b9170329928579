"""Reads a file that another process writes, each second, and asks the system about that process.

What belongs here: the file and the process table. What it means, the machine decides. Everything is done in a thread: a file system that hangs holds up
nothing, and there is never a second reader. Only a plain file of bounded size is read, no link is followed, nothing is ever written.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import structlog

from syncwatch.core.effects import Effects
from syncwatch.core.reported import Look, Picture, Sighting
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.threads import in_thread

log = structlog.get_logger("syncwatch.runtime")

MAX_BYTES = 256 * 1024


class Odd(OSError):  # noqa: N818  a sentence, not an error of ours
    """What is there is not a file that we read."""


class Reader(Protocol):
    """What the machine is told."""

    def looked(self, now: float, look: Look) -> Effects: ...


class ReportFile:
    """`beat` each second; `close` at the end. `understand` makes a picture of the content, or a sentence why it cannot."""

    def __init__(self, driver: Driver, machine: Reader, path: Path, understand: Callable[[bytes], Picture | str]) -> None:
        self.path = path
        self._driver = driver
        self._machine = machine
        self._understand = understand
        self._reading: asyncio.Future[Look] | None = None

    def beat(self, now: float) -> None:
        """Read, unless the last reading has not come back yet."""
        if self._reading is None:
            self._reading = reading = in_thread(lambda: look(self.path, self._understand), "reportfile")
            reading.add_done_callback(self._done)

    @property
    def busy(self) -> bool:
        """Whether a reading is under way."""
        return self._reading is not None

    def _done(self, reading: asyncio.Future[Look]) -> None:
        self._reading = None
        self._driver.call(self._machine.looked, reading.result())


def look(path: Path, understand: Callable[[bytes], Picture | str]) -> Look:
    """One reading. Blocks."""
    try:
        content, found = read(path)
    except FileNotFoundError:
        return Look(missing=True)
    except OSError as error:
        words = error.strerror if isinstance(error, Odd) else f"cannot be read: {(error.strerror or str(error)).lower()}"
        words = f"the file {words}"
        return Look(trouble=words, content=hash(words), oversized=error.errno == errno.EFBIG)
    made = understand(content)
    if isinstance(made, str):
        return Look(trouble=made, content=zlib.crc32(content))
    return Look(made, written_wall_s=found.st_mtime, mode=stat.S_IMODE(found.st_mode), process=sighting(made.pid))


def read(path: Path, at_most: int = MAX_BYTES) -> tuple[bytes, os.stat_result]:
    """The content of a plain file. Blocks. Raises: OSError."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Odd(errno.ELOOP, "is a link, which is not followed") from error
        raise
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            raise Odd(errno.EINVAL, "is not a file")
        content = b""
        while len(content) <= at_most and (more := os.read(opened, at_most + 1 - len(content))):
            content += more
    finally:
        os.close(opened)
    if len(content) > at_most:
        raise Odd(errno.EFBIG, f"is larger than {at_most} bytes")
    return content, found


def sighting(pid: int) -> Sighting:
    """Whether a process lives, and since when. Blocks for a moment."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Sighting(False)
    except OverflowError:
        return Sighting(False)
    except PermissionError:
        pass  # it is somebody else's, and lives
    with suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read(4096).rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X", b"x"):
            return Sighting(False)  # ended; only its parent has not asked for its result yet
        ticks = int(fields[19])
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return Sighting(True, ticks, time.time() - age_s)
    return Sighting(True)

"""The gate as a file: it is there exactly while the gate for reading is open, for scripts that can only look at files.

What belongs here: the file. Its being there is all that it says, so it is empty, and appearing and vanishing are each one step of the file
system: nobody ever sees half of it. Law: what is not an empty file is not ours and is left alone. Nothing here is fatal; what fails is counted and
tried again each second.
"""

from __future__ import annotations

import asyncio
import os
import stat
from errno import EEXIST
from pathlib import Path

import structlog

from syncwatch.runtime.threads import in_thread

MODE = 0o644
CLOSE_S = 0.3
"""At the end the file gets this long to vanish."""

log = structlog.get_logger("syncwatch.runtime")


class GateFile:
    """`clear` at the start, `show` at each change, `retry` each second, `close` at the end. `failures` is for /status."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures = 0
        self._wanted = False
        self._shown: bool | None = None  # what the file says; None: not known
        self._work: asyncio.Future[None] | None = None
        self._condition: str | None = None  # what is wrong at present

    def clear(self) -> None:
        """Remove what a process that was killed has left behind. Blocks; for the start only."""
        try:
            _remove(self.path)
        except OSError as error:
            self._complain(error)
        else:
            self._shown = False

    def show(self, is_open: bool) -> None:
        """The gate is open or closed. Returns at once: the work is done in a thread, and what is newest when it ends is what stays."""
        self._wanted = is_open
        if self._work is None and self._shown is not is_open:
            self._begin()

    def retry(self) -> None:
        """Once more, if the last change could not be made."""
        self.show(self._wanted)

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Remove the file; nobody waits for longer than this."""
        self.show(False)
        try:
            async with asyncio.timeout(timeout_s):
                while self._work is not None:
                    await asyncio.wait([self._work])
        except TimeoutError:
            log.error("the gate file could not be removed in time", path=str(self.path), timeout_s=timeout_s)

    def _begin(self) -> None:
        wanted = self._wanted
        self._work = work = in_thread(lambda: _create(self.path) if wanted else _remove(self.path), "gatefile")
        work.add_done_callback(lambda done: self._done(wanted, done))

    def _done(self, wanted: bool, work: asyncio.Future[None]) -> None:
        self._work = None
        error = None if work.cancelled() else work.exception()
        if isinstance(error, OSError):
            self._shown = None
            self._complain(error)
            return
        if error is not None:
            raise error
        self._shown = wanted
        if self._condition is not None:
            self._condition = None
            log.info("the gate file follows the gate again", path=str(self.path))
        self.show(self._wanted)

    def _complain(self, error: OSError) -> None:
        """Count each failure, tell each change of condition once."""
        self.failures += 1
        condition = (error.strerror or str(error)).lower()
        if condition != self._condition:
            self._condition = condition
            log.error("the gate file cannot follow the gate", path=str(self.path), error=condition)


def _create(path: Path) -> None:
    """Raises: OSError."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE))
    except FileExistsError:
        _ours(path.lstat())


def _remove(path: Path) -> None:
    """Raises: OSError; what is not ours is as it was."""
    try:
        _ours(path.lstat())
        path.unlink()
    except FileNotFoundError:
        pass


def _ours(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_size:
        raise OSError(EEXIST, "what is there is not an empty file, so it is left alone")

"""Performs Store: each deposit a file of its own in one directory, safe before it is called stored.

What belongs here: the files. A temporary name, fsync, a link under the real name, which never replaces anything, and fsync of the directory; all in a
thread, as many at once as have come meanwhile, so that a burst shares the directory's fsync. What fails is answered with why, and never hidden; when
to try again is the core's business.

On disk: `directory` 0700, files 0600. A name that is there already with the same content is an earlier copy. With other content, both are kept: the
later one has a part of its hash in its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
import stat
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from syncwatch.core.effects import Effects, Store
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.statefile import DIRECTORY_MODE, FILE_MODE, tighten
from syncwatch.runtime.threads import in_thread

BATCH = 64
BATCH_S = 0.5
"""A batch on a slow disk ends after so long, so that what is safe is told: silence would look like a disk that hangs."""
UNFINISHED = ".part"
"""How the name of a file ends that is not whole yet, or whose writer was killed. It begins with a dot."""
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
"""What a file system says that has no hard links."""

log = structlog.get_logger("syncwatch.runtime")


class Depositor(Protocol):
    """What a session is told, and what it is asked at the end."""

    def stored(self, now: float, deposit_id: int, error: str | None = None, known: bool = False) -> Effects:
        """The answer to a Store."""
        ...

    @property
    def unstored(self) -> int:
        """How many deposits are in memory only."""
        ...


class Outcome(msgspec.Struct, frozen=True):
    """What came of one deposit. `known`: an earlier copy is there, and not one that we failed to finish."""

    deposit_id: int
    error: str | None = None
    known: bool = False


class FileStore:
    """The deposits of one session. `prepare` once, before its first connection; `finish` at the end."""

    def __init__(self, driver: Driver, session: Depositor, directory: Path) -> None:
        self.directory = directory
        self._driver = driver
        self._session = session
        self._waiting: list[Store] = []
        self._work: asyncio.Future[list[Outcome]] | None = None
        self._linked: set[int] = set()  # there under their names, but it could not be said that they are safe
        self._prepared = False
        driver.on(Store, self._store)

    def prepare(self) -> None:
        """Make the directory, and say what an earlier process has left unfinished. Blocks. Raises: OSError; it is tried again with the first deposit."""
        self.directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        tighten(self.directory)
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        left = [entry.name for entry in os.scandir(self.directory) if entry.name.startswith(".") and entry.name.endswith(UNFINISHED)]
        if left:
            log.warning("files that an earlier process could not finish are left as they are", directory=str(self.directory), files=len(left), one=left[0])
        self._prepared = True

    @property
    def busy(self) -> bool:
        """Whether anything is being stored."""
        return self._work is not None

    async def finish(self, timeout_s: float) -> bool:
        """Wait for what is under way, no longer than this. Whether everything is safe; what is not is lost with the process, and that is said."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._work is not None:
                    await asyncio.wait([self._work])
        lost = self._session.unstored
        if lost:
            log.error("what could not be stored is lost with this process", directory=str(self.directory), deposits=lost)
        return not lost

    # ------------------------------------------------------------------ work

    def _store(self, effect: Store) -> None:
        self._waiting.append(effect)
        if self._work is None:
            self._begin()

    def _begin(self) -> None:
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        self._work = work = in_thread(lambda: self._save(batch), "filestore")
        work.add_done_callback(lambda done: self._done(batch, done))

    def _done(self, batch: list[Store], work: asyncio.Future[list[Outcome]]) -> None:
        self._work = None
        bug = work.exception()
        if bug is None:
            outcomes = work.result()
        else:  # ours; the deposits must not be without an answer for it
            log.error("internal error in the store", directory=str(self.directory), error=type(bug).__name__)
            outcomes = [Outcome(store.deposit_id, f"internal error: {type(bug).__name__}") for store in batch]
        self._waiting[:0] = batch[len(outcomes) :]
        for outcome in outcomes:
            self._driver.call(self._session.stored, outcome.deposit_id, outcome.error, outcome.known)
        if self._waiting and self._work is None:
            self._begin()

    def _save(self, batch: list[Store]) -> list[Outcome]:
        """In a thread, one batch at a time. What came of its first ones; the others have not been tried."""
        outcomes: list[Outcome] = []
        ends_s = self._driver.clock.monotonic() + BATCH_S
        try:
            if not self._prepared:
                self.prepare()
            for store in batch:
                outcomes.append(self._save_one(store))
                if self._driver.clock.monotonic() >= ends_s:
                    break
            _sync(self.directory)  # without it a crash of the machine may lose the names
        except OSError as error:
            self._prepared = False  # the directory may have gone
            return [Outcome(store.deposit_id, _words(error)) for store in batch]
        self._linked.difference_update(outcome.deposit_id for outcome in outcomes if outcome.error is None)
        return outcomes

    def _save_one(self, store: Store) -> Outcome:
        try:
            new = save(self.directory, store.name, store.content)
        except OSError as error:
            self._prepared = False
            return Outcome(store.deposit_id, _words(error))
        known = not new and store.deposit_id not in self._linked
        if not known:
            self._linked.add(store.deposit_id)
        return Outcome(store.deposit_id, known=known)


_serial = itertools.count(1)


def save(directory: Path, name: str, content: bytes) -> bool:
    """Put `content` under `name`, whole or not at all; False if it is there already. Only the directory is still to be synced.

    Blocks. Raises: OSError, and nothing is there then that was not before; ValueError for a name that is none.
    """
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ValueError("no name for a file")
    if _holds(directory / name, content):
        return False
    unfinished = directory / f".{name}.{os.getpid()}-{next(_serial)}{UNFINISHED}"
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE), "wb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if _link(unfinished, directory / name):
            return True
        stem, dot, ending = name.rpartition(".")
        hashed = f"{stem or ending}.{hashlib.sha256(content).hexdigest()[:16]}{dot and stem and dot + ending}"
        if _holds(directory / hashed, content):
            return False
        if not _link(unfinished, directory / hashed):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        log.warning("another content has this name already: both are kept", name=name, kept_as=hashed)
        return True
    finally:
        with contextlib.suppress(OSError):  # gone already where there are no links
            unfinished.unlink()


def _link(unfinished: Path, path: Path) -> bool:
    """Give the file its name; False if something has it. Raises: OSError."""
    try:
        os.link(unfinished, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(path):
            return False
        unfinished.rename(path)
    return True


def _holds(path: Path, content: bytes) -> bool:
    """Whether exactly this is there, as a file. Raises: OSError."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES):  # a link, or nothing that can be read: something else in any case
            return False
        raise
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode) or found.st_size != len(content):
            return False
        with open(opened, "rb", closefd=False) as file:
            return file.read(len(content) + 1) == content
    finally:
        os.close(opened)


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _words(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)

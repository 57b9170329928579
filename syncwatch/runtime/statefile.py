"""The one state file: what survives a restart, written so that no crash, full disk or second sidecar can spoil it.

What belongs here: the file. What is in an entry, and whether it is still good, the core decides. Writing happens in a thread;
nothing here ever stops the sidecar, except a directory that another one uses.

On disk: `state_dir` 0700, `state.json` 0600, `lock`; beside it the status file (`statusfile.py`). A temporary name, fsync, rename, fsync of the directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

import msgspec
import structlog

from syncwatch.core.resume import ServiceRecord
from syncwatch.runtime.clock import SYSTEM, Clock
from syncwatch.runtime.threads import in_thread

SCHEMA = 1
FILE = "state.json"
LOCK = "lock"
DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
OTHERS = 0o077
MIN_INTERVAL_S = 1.0
CALM_INTERVAL_S = 5.0
"""So often when nothing presses: a write costs more than everything else that a quiet second costs."""
REFRESH_S = 60.0
"""Without news the file is written so rarely, only to renew the entries' `saved_wall_s`: their age decides whether they are resumed."""
MAX_BYTES = 64 * 2**20

log = structlog.get_logger("syncwatch.runtime")


class Stamped(Protocol):
    """An entry, a msgspec Struct that says when it was taken."""

    @property
    def saved_wall_s(self) -> float:
        """Unix seconds."""
        ...


T = TypeVar("T", bound=Stamped)
Services = Mapping[str, ServiceRecord]
NO_SERVICES: Services = MappingProxyType({})


class StateInUse(Exception):  # noqa: N818  a sentence for people
    """Another process holds the directory."""


class State(msgspec.Struct, Generic[T], frozen=True):
    """The content: `instance` is the name of this sidecar, `connections` one entry per configured name, `services` one per service that is asked."""

    schema: int = SCHEMA
    instance: str = ""
    connections: dict[str, T] = {}  # msgspec copies it
    services: dict[str, ServiceRecord] = {}


class StateFile(Generic[T]):
    """`load` once, `offer` each second, `finish` at the end.

    `failures` and `last_write_wall_s` are for the metrics.
    """

    def __init__(self, directory: Path, entry: type[T], clock: Clock = SYSTEM) -> None:
        self.directory = directory
        self.path = directory / FILE
        self.failures = 0
        self.last_write_wall_s: float | None = None
        self._clock = clock
        self._decoder: msgspec.json.Decoder[State[T]] = msgspec.json.Decoder(State[entry])  # type: ignore[valid-type]  # a runtime type
        self._encoder = msgspec.json.Encoder()
        self._content: tuple[str, dict[str, T], dict[str, ServiceRecord]] = ("", {}, {})  # of the last successful write
        self._lock: int | None = None
        self._condition: str | None = None  # why writing fails at present
        self._writing: asyncio.Future[None] | None = None
        self._offered_s = -REFRESH_S
        self._tried_s = -REFRESH_S
        self._renewed_s = -REFRESH_S

    # ------------------------------------------------------------------ start

    def load(self) -> State[T]:
        """Make the directory ours and read the state. Blocks; for the start only.

        An unreadable or corrupt file is set aside under another name and a fresh state returned. A directory that cannot be used is said in
        the log, and the sidecar runs without it.
        Raises: StateInUse.
        """
        try:
            self._prepare()
            content = self._read()
        except OSError as error:
            self._complain(error)
            return State()
        if content is None:
            return State()
        try:
            if len(content) > MAX_BYTES:
                raise msgspec.ValidationError(f"larger than {MAX_BYTES} bytes")
            state = self._decoder.decode(content)
            if state.schema != SCHEMA:
                raise msgspec.ValidationError(f"schema {state.schema}, not {SCHEMA}")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._set_aside(error)
            return State()
        return state

    def _prepare(self) -> None:
        self.directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        tighten(self.directory)
        lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StateInUse(f"state_dir {self.directory} is used by another syncwatch: give each sidecar its own") from None
        except OSError:
            os.close(lock)
            raise
        self._lock = lock

    def _read(self) -> bytes | None:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            content = file.read(MAX_BYTES + 1)
        tighten(self.path)
        return content

    def _set_aside(self, error: Exception) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock.wall()))
        aside = self.directory / f"{FILE}.corrupt-{stamp}"
        with contextlib.suppress(OSError):  # then it is overwritten; that it was unusable is said either way
            self.path.rename(aside)
        # The message names a place in the document ($.connections…), never its content.
        log.error("the state file is corrupt: set aside, starting fresh", path=str(self.path), aside=str(aside), error=str(error))

    # ------------------------------------------------------------------ writing

    @property
    def written(self) -> Mapping[str, T]:
        """The entries that are on disk, as far as this process wrote them."""
        return self._content[1]

    def due(self, now: float, pressing: bool) -> bool:
        """Whether an offer is welcome: each second when something presses, every five when not."""
        return self._writing is None and now >= self._offered_s + (MIN_INTERVAL_S if pressing else CALM_INTERVAL_S)

    def offer(self, now: float, instance: str, connections: Mapping[str, T], services: Services = NO_SERVICES) -> None:
        """Write this soon: at once when it is news and the last write was a second ago, else when its stamps need renewal.

        Returns at once. What comes while a write is under way waits for the next offer.
        """
        if self._writing is not None or now < self._tried_s + MIN_INTERVAL_S:
            return
        self._offered_s = now
        if self._known(instance, connections, services) and now < self._renewed_s + REFRESH_S:
            return
        self._tried_s = now
        self._begin(now, instance, connections, services)

    async def finish(self, instance: str, connections: Mapping[str, T], timeout_s: float, services: Services = NO_SERVICES) -> bool:
        """The last write, news or not. Returns whether it is on disk; after `timeout_s` nobody waits any longer."""
        try:
            async with asyncio.timeout(timeout_s):
                if self._writing is not None:
                    await asyncio.wait([self._writing])
                # wait() adds its callback behind ours, so that _wrote() has run when it returns.
                await asyncio.wait([self._begin(self._clock.monotonic(), instance, connections, services)])
        except TimeoutError:
            log.error("the state file could not be written in time", path=str(self.path), timeout_s=timeout_s)
            return False
        return self._condition is None

    @property
    def busy(self) -> bool:
        """Whether a write is under way."""
        return self._writing is not None

    def close(self) -> None:
        """Give the directory back."""
        if self._lock is not None:
            os.close(self._lock)  # and with it the lock
            self._lock = None

    def _begin(self, now: float, instance: str, connections: Mapping[str, T], services: Services) -> asyncio.Future[None]:
        entries, records = dict(connections), dict(services)
        content = self._encoder.encode(State(SCHEMA, instance, entries, records))
        self._writing = writing = in_thread(lambda: self._save(content), "statefile")
        writing.add_done_callback(lambda done: self._wrote(now, (instance, entries, records), done))
        return writing

    def _save(self, content: bytes) -> None:
        """In a thread, one at a time. Raises: OSError, StateInUse."""
        if self._lock is None:
            self._prepare()  # the directory could not be used at the start; perhaps it can now
        write(self.directory, content)

    def _known(self, instance: str, connections: Mapping[str, T], services: Services) -> bool:
        """Whether it is what was written last, stamps aside."""
        known, written, records = self._content
        return (
            instance == known
            and services == records
            and connections.keys() == written.keys()
            and all(msgspec.structs.replace(entry, saved_wall_s=written[name].saved_wall_s) == written[name] for name, entry in connections.items())  # type: ignore[type-var]  # T is a Struct, which typing cannot say beside a protocol
        )

    def _wrote(self, now: float, content: tuple[str, dict[str, T], dict[str, ServiceRecord]], done: asyncio.Future[None]) -> None:
        self._writing = None
        error = None if done.cancelled() else done.exception()
        if isinstance(error, OSError | StateInUse):
            self._complain(error)
        elif error is not None:
            raise error
        else:
            self._content, self._renewed_s = content, now
            self.last_write_wall_s = self._clock.wall()
            if self._condition is not None:
                log.info("the state file is written again", path=str(self.path))
            self._condition = None

    def _complain(self, error: OSError | StateInUse) -> None:
        """Count each failure, tell each change of condition once."""
        self.failures += 1
        number = error.errno if isinstance(error, OSError) else None
        condition = os.strerror(number).lower() if number else str(error)
        if condition != self._condition:
            self._condition = condition
            log.error("the state file cannot be used: a restart will not resume", path=str(self.path), error=condition)


def write(directory: Path, content: bytes, name: str = FILE, durable: bool = True) -> None:
    """Replace a file of ours, by default the state file, all or nothing. Blocks. Raises: OSError; the old file is then as it was.

    `durable`: it stands even if the machine crashes the moment after; whoever can do without that saves two waits for the disk.
    """
    temporary = directory / f"{name}.tmp"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(temporary, flags, FILE_MODE), "wb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.rename(directory / name)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if not durable:
        return
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)  # without it a crash of the machine may lose the rename
    finally:
        os.close(opened)


def tighten(path: Path) -> None:
    """Take permissions away from everybody else, and say so. A mount that belongs to somebody else (an emptyDir) stays as it is."""
    found = stat.S_IMODE(path.stat().st_mode)
    if not found & OTHERS:
        return
    try:
        path.chmod(found & ~OTHERS)
    except PermissionError:
        log.warning("permissions are too wide and not ours to change", path=str(path), mode=oct(found))
    else:
        log.warning("permissions were too wide and are repaired", path=str(path), mode=oct(found))

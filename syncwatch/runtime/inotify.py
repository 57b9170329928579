"""The kernel's words about a tree on Linux: one inotify instance, a watch for each directory, one thread that reads.

What belongs here: everything that the kernel says, unabridged: events that it dropped, directories that it refuses to watch, names that are no text. That is why
this speaks to inotify itself: the libraries at hand keep exactly these to themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import queue
import select
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import structlog

from syncwatch.core.ignores import Ignores
from syncwatch.core.states import FileChange, WatchTrouble
from syncwatch.core.watch import Root, Survey
from syncwatch.runtime import sentinel
from syncwatch.runtime.mounts import MOUNTS, Mount, mounts

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE = 0x2, 0x4, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
IN_ONLYDIR, IN_DONT_FOLLOW, IN_EXCL_UNLINK, IN_ISDIR = 0x1000000, 0x2000000, 0x4000000, 0x40000000
CHANGES = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
"""Not opening and reading: a search through the tree is no change, and would fill the queue."""
MASK = CHANGES | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK
ENDS = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED
READ_BYTES = 1 << 16
TEMPORARY = f"{sentinel.FOLDER}-"
"""What the names of files begin with that a mirror copies to before it renames them."""
GATHER_S = 0.01
"""A burst is gathered for so long: a file that is written in a hundred pieces is one change, and one wake-up."""
_HEAD = struct.Struct("iIII")

Batch = dict[str, FileChange]
"""What happened, by path below the root; a directory that is deleted stands for all that was in it."""


log = structlog.get_logger("syncwatch.runtime")


class Sink(Protocol):
    """Who is told, on any thread. Every call belongs to one subscription."""

    def subscribed(self, root: Root, survey: Survey, polling: str | None) -> None: ...
    def surveyed(self, survey: Survey) -> None: ...
    def changed(self, batch: Batch) -> None: ...
    def scanned(self) -> None: ...
    def touched(self, number: int, problem: str | None, refused: bool) -> None: ...
    def echoed(self) -> None: ...
    def checked(self, root: Root | None, detail: str) -> None: ...
    def uprooted(self) -> None: ...
    def lost(self, trouble: WatchTrouble, detail: str) -> None: ...
    def ended(self) -> None: ...


def available() -> bool:
    """Whether this system has it."""
    return hasattr(_libc(), "inotify_init1")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def words(error: OSError) -> str:
    """What the system says, in small letters and without the path."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


class Kernel:
    """One inotify instance. Raises: OSError (EMFILE: no instance is left for this user)."""

    def __init__(self) -> None:
        libc = _libc()
        self._add, self._remove = libc.inotify_add_watch, libc.inotify_rm_watch
        self.fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise _error()

    def add(self, path: bytes, mask: int) -> int:
        """Watch one directory. Raises: OSError (ENOSPC: no watch is left for this user)."""
        wd: int = self._add(self.fd, path, ctypes.c_uint32(mask))
        if wd < 0:
            raise _error()
        return wd

    def remove(self, wd: int) -> None:
        """Watch it no more; one that has ended by itself is no mistake."""
        self._remove(self.fd, wd)

    def read(self) -> Iterator[tuple[int, int, bytes]]:
        """What has happened until now, and no further (a steady stream would never end): watch, mask, name."""
        left = int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, b"\0" * 4), sys.byteorder)
        while left > 0:
            try:
                data = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                return
            left -= len(data)
            at = 0
            while at < len(data):
                wd, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                yield wd, mask, data[at : at + length].rstrip(b"\0")
                at += length

    def close(self) -> None:
        """Give back the instance with all its watches, at once."""
        os.close(self.fd)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


class Worker:
    """A thread that looks after one tree and does what it is asked in order. `ended` is the last thing that its sink hears."""

    directories = 0
    """Directories that the kernel watches for us: as many inotify watches are held."""
    instances = 0
    """Inotify instances that are held."""

    def __init__(self, path: str, ignores: Ignores, sentinel_name: str, sink: Sink) -> None:
        self.path = path
        self.ignores = ignores
        self.sink = sink
        self.sentinel_name = sentinel_name
        self.sentinel_path = f"{sentinel.FOLDER}/{sentinel_name}"
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._wake_r = self._wake_w = -1
        self._lock = threading.Lock()
        self._over = False

    def begin(self) -> None:
        """Start the thread. Raises: OSError (EMFILE)."""
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        threading.Thread(target=self._run, name="syncwatch-watcher", daemon=True).start()

    def ask(self, work: Callable[[], None] | None) -> None:
        """Have `work` done by the thread, after what was asked before; None ends it."""
        self._asked.put(work)
        with self._lock:
            if not self._over:
                with contextlib.suppress(BlockingIOError):  # it has much to do, and looks before it sleeps
                    os.write(self._wake_w, b"x")

    def close(self) -> None:
        """End, as soon as what it is at lets it."""
        self.ask(None)

    def touch(self, number: int) -> None:
        """Write the sentinel."""

        def work() -> None:
            problem, refused = sentinel.write(self.path, self.sentinel_name, number)
            self.sink.touched(number, problem, refused)

        self.ask(work)

    def check(self) -> None:
        """Look what is at the root's path."""

        def work() -> None:
            try:
                root, detail = root_of(self.path), ""
            except OSError as error:
                root, detail = None, f"{self.path}: {words(error)}"
            self.sink.checked(root, detail)

        self.ask(work)

    def drain(self, done: Callable[[bool], None]) -> None:
        """Report everything that has happened until now, then call `done` on this thread; False: that could not be made sure."""
        self.ask(lambda: done(self._drained()))

    def _drained(self) -> bool:
        raise NotImplementedError

    def _run(self) -> None:
        try:
            self._work()
        except OSError as error:
            self.sink.lost(*fault_of(error, self.path))
        except Exception as error:  # our own bug: it must neither pass silently nor leave a watch that looks alive
            log.exception("internal error: a watch is made again", root=self.path)
            self.sink.lost(WatchTrouble.ERROR, f"internal error: {error!r}")
        finally:
            self._release()
            with self._lock:
                self._over = True
                os.close(self._wake_r)
                os.close(self._wake_w)
            self.sink.ended()

    def _work(self) -> None:
        raise NotImplementedError

    def _release(self) -> None:
        """Give back what the thread holds."""

    def _errands(self) -> bool:
        """Do what was asked; False: the end was."""
        try:
            while os.read(self._wake_r, 4096):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                work = self._asked.get_nowait()
            except queue.Empty:
                return True
            if work is None:
                return False
            work()


class Tree(Worker):
    """The directories of a tree, watched by the kernel. Raises nothing: what goes wrong is told to the sink."""

    def __init__(self, path: str, ignores: Ignores, sentinel_name: str, sink: Sink) -> None:
        super().__init__(path, ignores, sentinel_name, sink)
        self._kernel: Kernel | None = None
        self._root: Root | None = None
        self._paths: dict[int, str] = {}  # by watch: the path below the root, "" for itself
        self._wds: dict[str, int] = {}
        self._unseen: dict[str, tuple[WatchTrouble, str]] = {}
        self._survey = Survey()
        self._ended = False
        self._mounts: set[Mount] = set()

    def _work(self) -> None:
        root = self._root = root_of(self.path)
        kernel = self._kernel = Kernel()
        self.instances = 1
        with contextlib.ExitStack() as stack:
            opened = None
            with contextlib.suppress(OSError):  # a sandbox without /proc: then only the look at the root finds mounts
                opened = os.open(MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, opened)
            self._follow(root, kernel, opened)

    def _follow(self, root: Root, kernel: Kernel, opened: int | None) -> None:
        """Watch, and tell, until the end is asked for. `opened`: the kernel's table, which says when it changes."""
        if opened is not None:
            self._mounts = self._mounted(opened)
        self._grow("", None)
        if "" not in self._wds:
            trouble, detail = self._unseen.get("", (WatchTrouble.ROOT_GONE, "the root went away"))
            self.sink.lost(trouble, detail)
            return
        if root_of(self.path) != root:
            self.sink.lost(WatchTrouble.ROOT_REPLACED, "the root was replaced while its directories were read")
            return
        self._survey = self._surveyed()
        self.sink.subscribed(root, self._survey, None)
        poll = select.poll()
        poll.register(kernel.fd, select.POLLIN)
        poll.register(self._wake_r, select.POLLIN)
        if opened is not None:
            poll.register(opened, select.POLLPRI)
        more = True
        while more:
            ready = {fd for fd, _ in poll.poll()}
            if kernel.fd in ready and self._wake_r not in ready:
                ready |= {fd for fd, _ in self._gathering()}
            if kernel.fd in ready:
                self._read()
            if opened is not None and opened in ready:
                self._remounted(opened)
            if self._wake_r in ready:
                more = self._errands()

    def _remounted(self, opened: int) -> None:
        """Somewhere something was mounted or unmounted. Under the root that hides directories that are watched, and shows others, and no event says so."""
        now = self._mounted(opened)
        if now != self._mounts:
            self._mounts = now
            self.sink.lost(WatchTrouble.ROOT_REPLACED, "something was mounted or unmounted at the root or below it")

    def _mounted(self, opened: int) -> set[Mount]:
        """What is mounted at the root or below it, without what remounting changes. `opened`: the table."""
        os.lseek(opened, 0, os.SEEK_SET)
        table = b""
        while data := os.read(opened, READ_BYTES):
            table += data
        root = os.fsencode(os.path.realpath(self.path)).rstrip(b"/")
        return {mount for mount in mounts(table) if mount.point == root or mount.point.startswith(root + b"/")}

    def _gathering(self) -> list[tuple[int, int]]:
        """Wait a moment for what belongs together, unless something is asked."""
        wake = select.poll()
        wake.register(self._wake_r, select.POLLIN)
        return wake.poll(GATHER_S * 1000.0)

    def _release(self) -> None:
        if self._kernel is not None:
            self._kernel.close()
        self.directories = self.instances = 0

    def _drained(self) -> bool:
        self._read()
        with contextlib.suppress(OSError):
            return not self._ended and not self._unseen and root_of(self.path) == self._root
        return False

    # ------------------------------------------------------------------ reading

    def _read(self) -> None:
        """Everything that is in the queue, as one batch."""
        assert self._kernel is not None
        batch: Batch = {}
        echoed = False
        for wd, mask, name in self._kernel.read():
            if mask & IN_Q_OVERFLOW:
                self._flush(batch, echoed)
                batch, echoed = {}, False
                self.sink.lost(WatchTrouble.OVERFLOW, "more events came at once than the kernel keeps (fs.inotify.max_queued_events)")
                continue
            folder = self._paths.get(wd)
            if folder is None:
                continue  # of a directory that is not watched any more
            if not name:
                self._about_itself(wd, folder, mask, batch)
                continue
            path = f"{folder}/{os.fsdecode(name)}" if folder else os.fsdecode(name)
            if mask & IN_ISDIR:
                echoed |= self._directory(path, mask, batch)
            elif path == self.sentinel_path:
                echoed |= bool(mask & (IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE))
            elif not is_own(path) and not self.ignores.file(path):
                _note(batch, path, _meaning(mask))
        self._flush(batch, echoed)

    def _flush(self, batch: Batch, echoed: bool) -> None:
        if batch:
            self.sink.changed(batch)
        survey = self._surveyed()
        if survey != self._survey:
            self._survey = survey
            self.sink.surveyed(survey)
        if echoed:
            self.sink.echoed()

    def _about_itself(self, wd: int, folder: str, mask: int, batch: Batch) -> None:
        """An event of a watched directory about itself."""
        if not mask & ENDS:
            if mask & IN_ATTRIB:
                self._permissions(folder, batch)
            return
        if folder == "" and not self._ended:
            self._ended = True
            self.sink.uprooted()
        if mask & (IN_IGNORED | IN_UNMOUNT) and self._paths.pop(wd, None) is not None:
            if self._wds.get(folder) == wd:
                del self._wds[folder]
            self._count()

    def _directory(self, path: str, mask: int, batch: Batch) -> bool:
        """Something happened to a directory; whether the sentinel was found in it."""
        own = is_own(path)
        if not own and self.ignores.directory(path):
            return False
        if mask & (IN_MOVED_FROM | IN_DELETE):
            self._prune(path)
        if not own:
            _note(batch, path, _meaning(mask))
        if mask & (IN_CREATE | IN_MOVED_TO):
            return self._grow(path, batch)  # what was made inside before it was watched gives no event: it is looked for
        return False

    def _permissions(self, folder: str, batch: Batch) -> None:
        """A directory's permissions changed: can what is made in it later still be seen?"""
        try:
            with os.scandir(os.path.join(self.path, folder)):
                pass
        except PermissionError as error:
            self._unseen[folder] = WatchTrouble.ERROR, _sentence(error, folder or self.path)
        except OSError:
            return  # it is gone, and an event says so
        else:
            if self._unseen.pop(folder, None) is not None:
                self._grow(folder, batch)

    # ------------------------------------------------------------------ the directories

    def _grow(self, top: str, batch: Batch | None) -> bool:
        """Watch `top` and what is in it; with a batch, everything found in it is reported as added. Whether the sentinel was found."""
        assert self._kernel is not None
        found, waiting = False, [top]
        while waiting:
            folder = waiting.pop()
            full = os.path.join(self.path, folder) if folder else self.path
            try:
                wd = self._kernel.add(os.fsencode(full), MASK | (IN_DONT_FOLLOW if folder else 0))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    self._unseen[folder] = fault_of(error, full)
                continue
            before = self._paths.get(wd)
            if before is not None and before != folder and self._wds.get(before) == wd:
                del self._wds[before]  # the same directory under another name
            self._paths[wd], self._wds[folder] = folder, wd
            self._unseen.pop(folder, None)
            try:
                with os.scandir(full) as entries:
                    for entry in entries:
                        path = f"{folder}/{entry.name}" if folder else entry.name
                        is_directory = entry.is_dir(follow_symlinks=False)
                        own = is_own(path)
                        if path == self.sentinel_path:
                            found = True
                        if not own and (self.ignores.directory(path) if is_directory else self.ignores.file(path)):
                            continue
                        if is_directory:
                            waiting.append(path)
                        if batch is not None and not own:
                            _note(batch, path, FileChange.ADDED)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    self._unseen[folder] = fault_of(error, full)
        self._count()
        return found and batch is not None

    def _prune(self, top: str) -> None:
        """A directory is not under the root any more: neither is anything in it."""
        assert self._kernel is not None
        below = f"{top}/"
        gone = [folder for folder in self._wds if folder == top or folder.startswith(below)]
        for folder in gone:
            wd = self._wds.pop(folder)
            if self._paths.get(wd) == folder:
                del self._paths[wd]
                self._kernel.remove(wd)
        for folder in [one for one in self._unseen if one == top or one.startswith(below)]:
            del self._unseen[folder]
        self._count()

    def _count(self) -> None:
        self.directories = len(self._wds)

    def _surveyed(self) -> Survey:
        if not self._unseen:
            return Survey(len(self._wds))
        trouble, detail = next(iter(self._unseen.values()))
        if any(kind is WatchTrouble.LIMITS for kind, _ in self._unseen.values()):
            trouble, detail = next(fault for fault in self._unseen.values() if fault[0] is WatchTrouble.LIMITS)
        return Survey(len(self._wds), len(self._unseen), trouble, detail)


def root_of(path: str) -> Root:
    """Which directory is at `path`. Raises: OSError; NotADirectoryError for anything else."""
    found = os.stat(path)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return Root(found.st_ino, found.st_dev)


def is_own(path: str) -> bool:
    """Whether it is what syncwatch writes, a watcher or a mirror, ours or another's: never a change that anybody made."""
    return f"/{sentinel.FOLDER}/" in f"/{path}/" or path.rpartition("/")[2].startswith(TEMPORARY)


def _meaning(mask: int) -> FileChange:
    if mask & (IN_MOVED_FROM | IN_DELETE):
        return FileChange.DELETED
    return FileChange.ADDED if mask & (IN_MOVED_TO | IN_CREATE) else FileChange.MODIFIED


def _note(batch: Batch, path: str, change: FileChange) -> None:
    """One more thing that happened to a path: added and then modified is added, deleted and then added is modified."""
    before = batch.get(path)
    if before is FileChange.ADDED and change is not FileChange.DELETED:
        return
    if before is FileChange.DELETED and change is FileChange.ADDED:
        change = FileChange.MODIFIED
    batch[path] = change


def fault_of(error: OSError, path: str) -> tuple[WatchTrouble, str]:
    """What an error of the system means for a watch, and a sentence about it."""
    return _trouble(error), _sentence(error, path)


def _trouble(error: OSError) -> WatchTrouble:
    if error.errno in (errno.ENOSPC, errno.EMFILE, errno.ENFILE):
        return WatchTrouble.LIMITS
    return WatchTrouble.ROOT_GONE if error.errno in (errno.ENOENT, errno.ENOTDIR) else WatchTrouble.ERROR


def _sentence(error: OSError, path: str) -> str:
    path = os.fsencode(path).decode(errors="backslashreplace")  # it is shown, and a name need not be text
    if error.errno == errno.ENOSPC:
        return f"{path}: no inotify watch is left for this user (fs.inotify.max_user_watches)"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{path}: no inotify instance or open file is left for this user (fs.inotify.max_user_instances, ulimit -n)"
    return f"{path}: {words(error)}"

"""The files of one tree: listed, read, replaced and removed without ever leaving it.

Law: every name is opened relative to the directory that it was found in, no link is followed, and what is replaced or removed is looked at once more after it was taken away
by an atomic step: if it is not what the decision was about, it is put back. Everything here blocks and belongs in a thread. Names are text as the file system
decodes it (surrogateescape).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b

import msgspec

from syncwatch.core.mirror_rules import (
    ONLY_IN_MOUNT,
    OWN_FOLDER,
    PART,
    SWAP,
    TEMPORARY,
    UNFINISHED,
    Entry,
    Listing,
    Rules,
    beside,
)
from syncwatch.runtime.mounts import mounts
from syncwatch.runtime.renaming import exchange, rename_new

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # not to wait for the writer of a pipe that took a file's place
WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
CHUNK_BYTES = 1 << 20
TRIES = 3
"""A file that changes while it is copied is copied so often before it is taken as it is."""


class ChangedError(Exception):
    """The file is not what the decision was about any more: look again."""


class BlockedError(Exception):
    """Something stands in the way that is not ours to move; the text says what."""


class CancelledError(Exception):
    """Nobody wants the result any more."""


def entry_of(seen: os.stat_result) -> Entry:
    """What `stat` told about a regular file."""
    return Entry(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, seen.st_mode & 0o777)


class Copied(msgspec.Struct, frozen=True):
    """A copy that was made: both files afterwards, the digest of the contents, whether the source held still, and whether the target looks as it was made."""

    source: Entry
    target: Entry
    digest: bytes
    settled: bool
    untouched: bool = True
    aside: str | None = None


class Tree:
    """The root at `path`, opened: use it in a `with`. Raises: OSError when there is no directory.

    `step` is called before every change of the file system, with a word for it: a test can make any of them fail.
    """

    def __init__(self, path: str, rules: Rules, step: Callable[[str], None] = lambda _: None) -> None:
        self.path = path
        self.rules = rules
        self.step = step
        self.cancelled: Callable[[], bool] = lambda: False
        self.moved_aside: list[tuple[str, str]] = []  # files that stood where a directory was needed: where, and the path that each has now
        self.left_behind = False  # something failed so that a file of somebody's has a temporary name: `recover` gives it one that can be seen
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.identity = _identity(os.fstat(self.fd))

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def still_there(self) -> bool:
        """Whether the path still leads to this root."""
        try:
            return _identity(os.stat(self.path)) == self.identity
        except OSError:
            return False

    def holds(self, other: Tree) -> bool:
        """Whether the other root is this one or lies in it, whatever links lead to them."""
        above, before = ".", None
        with contextlib.suppress(OSError):  # what is further up may not be ours to look at
            while (identity := _identity(os.stat(above, dir_fd=other.fd))) != before:
                if identity == self.identity:
                    return True
                above, before = f"{above}/..", identity
        return False

    def mounted(self, table: bytes) -> dict[str, tuple[bytes, bytes]]:
        """What is mounted below the root, by path, as a table of mounts tells it: the device, and which of its directories."""
        try:
            start = os.readlink(f"/proc/self/fd/{self.fd}".encode()).rstrip(b"/") + b"/"
        except OSError:
            return {}
        found = {}
        for mount in mounts(table):
            if mount.point.startswith(start):
                found[os.fsdecode(mount.point.removeprefix(start))] = mount.device, mount.part
        return found

    # ------------------------------------------------------------------ looking

    def walk(self) -> Listing:
        """All of it."""
        listing = Listing(time.time_ns())
        self._walk(os.open(".", DIRECTORY, dir_fd=self.fd), "", listing)
        return listing

    def look(self, paths: Iterator[str] | list[str]) -> Listing:
        """Only what is at these paths, and below them where they are directories."""
        listing = Listing(time.time_ns())
        for path in paths:
            if path not in listing.files and path not in listing.directories:
                self._look(path, listing)
        return listing

    def _look(self, path: str, listing: Listing) -> None:
        *above, name = path.split("/")
        fd = os.dup(self.fd)
        try:
            prefix = ""
            for part in above:
                try:
                    inner = os.open(part, DIRECTORY, dir_fd=fd)
                except OSError as error:
                    self._not_opened(error, fd, part, prefix + part, listing)
                    return
                os.close(fd)
                fd, prefix = inner, f"{prefix}{part}/"
            self._see(fd, name, path, listing)
        finally:
            os.close(fd)

    def _see(self, fd: int, name: str, path: str, listing: Listing) -> None:
        try:
            seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            listing.unread[path] = error.strerror or str(error)
            return
        if stat.S_ISREG(seen.st_mode):
            listing.files[path] = entry_of(seen)
        elif not stat.S_ISDIR(seen.st_mode):
            listing.specials.add(path)
        elif not self.rules.ignores.directory(path):
            try:
                inner = os.open(name, DIRECTORY, dir_fd=fd)
            except OSError as error:
                self._not_opened(error, fd, name, path, listing)
            else:
                listing.directories.add(path)
                self._walk(inner, path + "/", listing)

    @staticmethod
    def _not_opened(error: OSError, fd: int, name: str, path: str, listing: Listing) -> None:
        """Why a directory could not be opened: it is gone, it is none, or nobody knows what is in it."""
        if isinstance(error, FileNotFoundError):
            return
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            with contextlib.suppress(OSError):
                if not stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    listing.specials.add(path)
            return
        listing.unread[path] = error.strerror or str(error)

    def _walk(self, fd: int, prefix: str, listing: Listing) -> None:
        """Below an open directory, which is closed. As many descriptors are open as the tree is deep."""
        open_ones: list[tuple[int, str, list[str]]] = []
        try:
            open_ones.append((fd, prefix, self._scan(fd, prefix, listing)))
            while open_ones:
                fd, prefix, names = open_ones[-1]
                if not names:
                    open_ones.pop()
                    os.close(fd)
                    continue
                name = names.pop()
                try:
                    inner = os.open(name, DIRECTORY, dir_fd=fd)
                except OSError as error:
                    listing.directories.discard(prefix + name)
                    self._not_opened(error, fd, name, prefix + name, listing)
                    continue
                below = f"{prefix}{name}/"
                open_ones.append((inner, below, []))
                open_ones[-1][2].extend(self._scan(inner, below, listing))
        finally:
            for fd, _, _ in open_ones:
                os.close(fd)

    def _scan(self, fd: int, prefix: str, listing: Listing) -> list[str]:
        """One directory: its files go into the listing, its directories are returned. The hot loop of every comparison."""
        if self.cancelled():
            raise CancelledError
        ignores, files, found = self.rules.ignores, listing.files, []
        names, special_rules = ignores.names, not ignores.simple
        only_directories = ignores.directory_names
        hidden = ONLY_IN_MOUNT if not prefix else ()
        try:
            with os.scandir(fd) as entries:
                for one in entries:
                    name = one.name
                    if name in names or name == OWN_FOLDER or name in hidden:
                        continue
                    if one.is_dir(follow_symlinks=False):
                        path = prefix + name
                        if name in only_directories or (special_rules and ignores.directory(path)):
                            continue
                        listing.directories.add(path)
                        found.append(name)
                    elif one.is_file(follow_symlinks=False):
                        path = prefix + name
                        if special_rules and ignores.file(path):
                            continue
                        if name.startswith(TEMPORARY):
                            if UNFINISHED.fullmatch(name):
                                listing.strays.append(path)
                            continue
                        try:
                            seen = one.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        files[path] = Entry(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, seen.st_mode & 0o777)
                    elif not (special_rules and ignores.file(prefix + name)):
                        listing.specials.add(prefix + name)
        except FileNotFoundError:
            pass  # the directory went away while it was read
        except OSError as error:
            listing.unread[prefix.rstrip("/")] = error.strerror or str(error)
        return found

    def digest(self, path: str, expected: Entry) -> bytes:
        """Of the contents. Raises: ChangedError when it is not what was listed, before or after."""
        with self.parent(path) as (fd, name):
            try:
                source = os.open(name, READING, dir_fd=fd)
            except OSError as error:
                raise _changed_or(error) from error
            try:
                self._expect(os.fstat(source), expected)
                told = _read(source, None, self.cancelled)
                self._expect(os.fstat(source), expected)
                return told
            finally:
                os.close(source)

    def small_text(self, name: str, limit: int = 1 << 16) -> str | None:
        """The text of a file in the root; None when nothing has that name. Raises: BlockedError when it is no regular file or longer than `limit` bytes, OSError."""
        try:
            fd = os.open(name, READING, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise BlockedError("it is no regular file") from error
            raise
        data = b""
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise BlockedError("it is no regular file")
            while len(data) <= limit and (more := os.read(fd, limit + 1 - len(data))):
                data += more
        finally:
            os.close(fd)
        if len(data) > limit:
            raise BlockedError(f"it is larger than {limit} bytes")
        return data.decode("utf-8", "surrogateescape")

    def has(self, path: str) -> bool:
        """Whether anything is at the path, whatever it is. Raises: OSError when that cannot be told."""
        try:
            with self.parent(path) as (fd, name):
                os.stat(name, dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError, ChangedError):
            return False
        return True

    def directory(self, path: str) -> tuple[int, int] | None:
        """Device and inode of the directory at the path; None when there is none. Raises: BlockedError when something is there that may lead to one, OSError when that cannot be told."""
        try:
            with self.parent(path) as (fd, name):
                seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError, ChangedError):
            return None
        if stat.S_ISDIR(seen.st_mode):
            return _identity(seen)
        if stat.S_ISREG(seen.st_mode):
            return None
        raise BlockedError("there is something that is no directory")

    def has_file(self, path: str) -> bool:
        """Whether anything but a directory is at the path. Raises: OSError when that cannot be told."""
        try:
            with self.parent(path) as (fd, name):
                return not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
        except (FileNotFoundError, NotADirectoryError, ChangedError):
            return False

    @staticmethod
    def _expect(seen: os.stat_result, expected: Entry) -> None:
        if not stat.S_ISREG(seen.st_mode) or entry_of(seen) != expected:
            raise ChangedError

    @contextlib.contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The open directory that the path's last name stands in. Raises: ChangedError when it is not there, BlockedError when a link is in the way."""
        *above, name = path.split("/")
        fd = os.dup(self.fd)
        try:
            for part in above:
                try:
                    inner = os.open(part, DIRECTORY, dir_fd=fd)
                except OSError as error:
                    if error.errno in (errno.ENOTDIR, errno.ELOOP) and _is_special(fd, part):
                        raise BlockedError("a directory above it is a link, or no directory") from error
                    raise _changed_or(error) from error
                os.close(fd)
                fd = inner
            yield fd, name
        finally:
            os.close(fd)

    # ------------------------------------------------------------------ changing

    def copy_from(
        self, source: Tree, path: str, target: Entry | None, mode: Callable[[int], int], stamp: str | None, wins: bool, was: bytes | None = None
    ) -> Copied:
        """Put the other tree's file in the place of `target` (None: where there is nothing), by a temporary name.

        `stamp`: what was there is kept beside under a name with it; None: it is not. `wins`: a file that stands where a directory is needed, or a directory that stands where
        the file is to be, is moved beside.
        `was`: the digest that the contents of `target` must have, where its times alone cannot prove that nobody wrote.
        Raises: ChangedError, BlockedError, OSError; then everything is as it was.
        """
        with source.parent(path) as (from_fd, name):
            try:
                fd = os.open(name, READING, dir_fd=from_fd)
            except OSError as error:
                raise _changed_or(error) from error
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise ChangedError
                with self._made_parent(source, path, wins) as to_fd:
                    return self._copy(fd, to_fd, name, target, mode, stamp, wins, was)
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _made_parent(self, source: Tree, path: str, wins: bool) -> Iterator[int]:
        """As `parent`, and missing directories are made, with the permissions that they have in the other tree."""
        *above, _ = path.split("/")
        fd, from_fd = os.dup(self.fd), os.dup(source.fd)
        try:
            for depth, part in enumerate(above):
                from_inner = os.open(part, DIRECTORY, dir_fd=from_fd)
                os.close(from_fd)
                from_fd = from_inner
                inner = self._entered(fd, part, from_fd, wins, above[:depth])
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)
            os.close(from_fd)

    def _entered(self, fd: int, part: str, like: int, wins: bool, where: list[str]) -> int:
        for _ in range(TRIES):
            try:
                return os.open(part, DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                self.step("mkdir")
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=fd)
                    inner = os.open(part, DIRECTORY, dir_fd=fd)
                    try:
                        _own(inner, os.fstat(like))
                        os.fchmod(inner, (os.fstat(like).st_mode & 0o777) | 0o700)
                    except BaseException:
                        os.close(inner)
                        raise
                    return inner
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                if _is_special(fd, part) or not wins:
                    raise BlockedError("something stands where a directory is needed") from error
                kept = self.set_aside(fd, part, _now_stamp())
                self.moved_aside.append(("/".join((*where, part)), "/".join((*where, kept))))
        raise ChangedError

    def _copy(
        self, source: int, fd: int, name: str, target: Entry | None, mode: Callable[[int], int], stamp: str | None, wins: bool, was: bytes | None
    ) -> Copied:
        temporary = _temporary(PART)
        self.step("create")
        made = os.open(temporary, WRITING, 0o600, dir_fd=fd)
        own = os.fstat(made).st_ino
        try:
            try:
                before, digest, settled = self._fill(source, made)
                self.step("attributes")
                _own(made, before)
                os.fchmod(made, mode(before.st_mode & 0o777))
                os.utime(made, ns=(before.st_atime_ns, before.st_mtime_ns))
                as_made = os.fstat(made)
                if target is not None:  # what is replaced is gone then: a file that is only added has its original
                    self.step("sync")
                    os.fsync(made)  # network file systems and full quotas refuse here what they took before
            finally:
                os.close(made)
            if target is None:
                aside = self._publish_new(fd, temporary, name, wins)
            else:
                aside = self._publish_over(fd, temporary, name, target, own, stamp, was)
        except KilledError:
            raise
        except BaseException:
            for left in (temporary, temporary.removesuffix(PART) + SWAP):
                with contextlib.suppress(OSError):
                    if os.stat(left, dir_fd=fd, follow_symlinks=False).st_ino == own:
                        os.unlink(left, dir_fd=fd)
            raise
        after = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if after.st_ino != own or not stat.S_ISREG(after.st_mode):
            raise ChangedError
        untouched = (after.st_size, after.st_mtime_ns) == (as_made.st_size, as_made.st_mtime_ns)
        return Copied(entry_of(before), entry_of(after), digest, settled, untouched, aside)

    def _fill(self, source: int, made: int) -> tuple[os.stat_result, bytes, bool]:
        """Copy until the source held still meanwhile. What was finished before the last try began is in it in any case."""
        for left in range(TRIES - 1, -1, -1):
            before = os.fstat(source)
            self.step("write")
            digest = _read(source, made, self.cancelled)
            after = os.fstat(source)
            if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (after.st_size, after.st_mtime_ns, after.st_ctime_ns):
                return before, digest, True
            if left:
                os.lseek(source, 0, os.SEEK_SET)
                os.lseek(made, 0, os.SEEK_SET)
                os.ftruncate(made, 0)
        return before, digest, False

    def _publish_new(self, fd: int, temporary: str, name: str, wins: bool) -> str | None:
        """Returns the name that a directory which stood there has now, if there was one with something in it."""
        self.step("publish")
        try:
            rename_new(temporary, name, fd)
        except FileExistsError:
            seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
        else:
            return None
        if stat.S_ISREG(seen.st_mode):
            raise ChangedError
        if not stat.S_ISDIR(seen.st_mode):
            raise BlockedError("there is something that is no regular file")
        aside = None
        try:
            self._remove_empty(fd, name)
        except OSError as error:
            if not wins:
                raise BlockedError("a directory stands there") from error
            aside = self.set_aside(fd, name, _now_stamp())
        self.step("publish")
        try:
            rename_new(temporary, name, fd)
        except FileExistsError as error:
            raise ChangedError from error
        return aside

    def _remove_empty(self, fd: int, name: str) -> None:
        """A directory in which there are at most directories, all the way down. Raises: OSError when there is anything else."""
        inner = os.open(name, DIRECTORY, dir_fd=fd)
        try:
            with os.scandir(inner) as entries:
                below = [one.name for one in entries if one.is_dir(follow_symlinks=False)]
            for one in below:
                self._remove_empty(inner, one)
        finally:
            os.close(inner)
        self.step("rmdir")
        os.rmdir(name, dir_fd=fd)

    def _publish_over(
        self, fd: int, temporary: str, name: str, target: Entry, own: int, stamp: str | None, was: bytes | None
    ) -> str | None:
        """Exchange the two, then see what came back. Returns the name that the loser has then."""
        swap, third = (temporary.removesuffix(PART) + ending for ending in (SWAP, f"-{SWAP}"))
        self.step("swap")
        os.rename(temporary, swap, src_dir_fd=fd, dst_dir_fd=fd)
        self.step("publish")
        try:
            self._expect(os.stat(name, dir_fd=fd, follow_symlinks=False), target)
            self._exchange(fd, swap, name, third, own)
        except FileNotFoundError as error:
            raise ChangedError from error
        try:
            unreadable = None
            try:
                came = self._came(fd, swap, target, was)
            except OSError as error:
                came, unreadable = False, error
            if not came:
                self.step("put back")
                with contextlib.suppress(FileNotFoundError, ChangedError):
                    self._exchange(fd, swap, name, third, own)
                if os.stat(swap, dir_fd=fd, follow_symlinks=False).st_ino != own:
                    self.set_aside(fd, swap, _now_stamp(), name)
                raise unreadable or ChangedError
            if stamp is not None:
                return self.set_aside(fd, swap, stamp, name)
            self.step("unlink")
            os.unlink(swap, dir_fd=fd)
        except OSError:
            self.left_behind = True
            raise
        return None

    def _exchange(self, fd: int, swap: str, name: str, third: str, own: int) -> None:
        """Where it takes three steps, a file that somebody makes under the name between them stays, and theirs from before is kept beside it."""
        try:
            exchange(swap, name, fd, third)
        except FileExistsError as error:
            if os.stat(third, dir_fd=fd, follow_symlinks=False).st_ino == own:
                os.unlink(third, dir_fd=fd)
            else:
                self.set_aside(fd, third, _now_stamp(), name)
            raise ChangedError from error
        except OSError:
            self.left_behind = True  # perhaps: where it takes three steps, the second may have failed, and its way back too
            raise

    def _came(self, fd: int, swap: str, expected: Entry, was: bytes | None) -> bool:
        """Whether what was taken away is what it was meant to be. Renaming changes the ctime, so that one cannot be compared."""
        seen = os.stat(swap, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISREG(seen.st_mode):
            return False
        if (seen.st_ino, seen.st_size, seen.st_mtime_ns) != (expected.inode, expected.size, expected.mtime_ns):
            return False
        if was is None:
            return True
        source = os.open(swap, READING, dir_fd=fd)
        try:
            return _read(source, None, lambda: False) == was
        finally:
            os.close(source)

    def make_read_only(self, path: str, expected: Entry) -> Entry | None:
        """Take everybody's right to write from a file that is as it was seen; None: it has other names, whose permissions are not ours to change. Raises: ChangedError, BlockedError, OSError."""
        with self.parent(path) as (fd, name):
            try:
                file = os.open(name, READING, dir_fd=fd)
            except OSError as error:
                raise _changed_or(error) from error
            try:
                seen = os.fstat(file)
                self._expect(seen, expected)
                if seen.st_nlink != 1:
                    return None
                self.step("attributes")
                os.fchmod(file, seen.st_mode & 0o7555)
                after = entry_of(os.fstat(file))
            finally:
                os.close(file)
        if (after.size, after.mtime_ns) != (expected.size, expected.mtime_ns):
            raise ChangedError
        return after

    def remove(self, path: str, expected: Entry, stamp: str | None, was: bytes | None = None) -> str | None:
        """Delete a file that is still as it was seen; with a `stamp` it is kept beside. Returns the name that it has then. `was`: as in `copy_from`.

        Raises: ChangedError, BlockedError, OSError.
        """
        with self.parent(path) as (fd, name):
            swap = _temporary(SWAP)
            self.step("take")
            try:
                self._expect(os.stat(name, dir_fd=fd, follow_symlinks=False), expected)
                rename_new(name, swap, fd)
            except OSError as error:
                raise _changed_or(error) from error
            try:
                if not self._came(fd, swap, expected, was):
                    self.step("put back")
                    try:
                        rename_new(swap, name, fd)
                    except FileExistsError:
                        self.set_aside(fd, swap, _now_stamp(), name)
                    raise ChangedError
                if stamp is not None:
                    return self.set_aside(fd, swap, stamp, name)
                self.step("unlink")
                os.unlink(swap, dir_fd=fd)
            except OSError:
                try:
                    rename_new(swap, name, fd)
                except OSError:
                    self.left_behind = True
                raise
            return None

    def remove_directory(self, path: str, expected: tuple[int, int] | None = None) -> None:
        """Remove a directory with nothing in it; `expected`: only if it is this one. Raises: ChangedError, BlockedError, OSError."""
        with self.parent(path) as (fd, name):
            if expected is not None and _identity(os.stat(name, dir_fd=fd, follow_symlinks=False)) != expected:
                raise ChangedError
            self.step("rmdir")
            os.rmdir(name, dir_fd=fd)

    def set_aside(self, fd: int, taken: str, stamp: str, name: str | None = None) -> str:
        """Give a file (or directory) a name beside `name` (default: its own) that nothing has. Raises: OSError."""
        for candidate in beside(taken if name is None else name, stamp):
            self.step("aside")
            try:
                rename_new(taken, candidate, fd)
            except FileExistsError:
                continue
            return candidate
        raise OSError(errno.EEXIST, "no name is free to keep the loser of a conflict under")

    def recover(self, path: str, stamp: str) -> str | None:
        """What to do with a temporary file of an earlier process: an unfinished copy goes, anything else is kept under a name that can be seen."""
        with self.parent(path) as (fd, name):
            if name.endswith(SWAP):
                return self.set_aside(fd, name, stamp, "recovered" + name.removesuffix(SWAP).rstrip("-").removeprefix(TEMPORARY.rstrip("-")))
            self.step("unlink")
            os.unlink(name, dir_fd=fd)
            return None

    def write_own(self, name: str, text: str) -> bool:
        """A file of ours in our own folder, made where it is missing; whether it is there."""
        self.step("own")
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(OWN_FOLDER, 0o755, dir_fd=self.fd)
            fd = os.open(OWN_FOLDER, DIRECTORY, dir_fd=self.fd)
        except OSError:
            return False
        try:
            for one, words in ((".gitignore", "*\n"), (name, text)):
                with contextlib.suppress(FileExistsError):
                    made = os.open(one, WRITING, 0o644, dir_fd=fd)
                    try:
                        os.write(made, words.encode())
                    finally:
                        os.close(made)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True


class KilledError(BaseException):
    """What a test raises at a step to end the work there, as a kill would: nothing is cleaned up."""


def _read(source: int, target: int | None, cancelled: Callable[[], bool]) -> bytes:
    told = blake2b(digest_size=16)
    while data := os.read(source, CHUNK_BYTES):
        told.update(data)
        if target is not None:
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
        if cancelled():
            raise CancelledError
    return told.digest()


def _identity(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino


def _is_special(fd: int, name: str) -> bool:
    try:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _changed_or(error: OSError) -> Exception:
    """A name that went away or became something else is a change; anything else is an error."""
    return ChangedError() if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO) else error


def _own(fd: int, like: os.stat_result) -> None:
    """The same owner, where we may say so: what an agent wrote stays an agent's."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.fchown(fd, like.st_uid, like.st_gid)


def _temporary(ending: str) -> str:
    return f"{TEMPORARY}{os.urandom(8).hex()}{ending}"


def _now_stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())

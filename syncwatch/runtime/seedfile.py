"""The file with the seed of an identity: 32 bytes that nobody else may read, made once and never replaced.

What belongs here: the file and its modes. What a seed makes, the codec says. On disk: the file 0600, its directory 0700.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import msgspec

SEED_SIZE = 32
DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
OTHERS = 0o077


class SeedFileError(Exception):
    """The file cannot be used; `str()` is a sentence with its path, never its content."""


class Seed(msgspec.Struct, frozen=True):
    """A seed, whether this call made it, and what was found to be open to others: a sentence each."""

    secret: bytes
    made: bool = False
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Seed(made={self.made}, remarks={self.remarks})"


def load(path: Path) -> Seed:
    """The seed in a file; modes that let others in are repaired. Blocks. Raises: SeedFileError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe is not waited for
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise SeedFileError(f"{path}: is not a regular file")
            secret = file.read(SEED_SIZE + 1)
            remarks = _tightened(descriptor, path, found)
    except OSError as error:
        raise SeedFileError(f"{path}: {_words(error)}") from None
    if len(secret) != SEED_SIZE:
        size = f"{len(secret)} bytes" if len(secret) < SEED_SIZE else f"more than {SEED_SIZE} bytes"
        raise SeedFileError(f"{path}: holds {size}, and a seed has {SEED_SIZE}")
    return Seed(secret, remarks=remarks)


def obtain(path: Path) -> Seed:
    """The seed in a file, which is made if it is not there; what is there is never replaced. Blocks. Raises: SeedFileError."""
    directory = path.parent
    try:
        directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        remarks = _tightened_directory(directory, path)
        secret = os.urandom(SEED_SIZE)
        made = not os.path.lexists(path) and _placed(path, secret)
    except OSError as error:
        raise SeedFileError(f"{error.filename or path}: {_words(error)}") from None
    if made:
        return Seed(secret, made=True, remarks=remarks)
    found = load(path)
    return Seed(found.secret, remarks=(*remarks, *found.remarks))


def _placed(path: Path, secret: bytes) -> bool:
    """Put the file there, whole or not at all; False if somebody else was faster. Raises: OSError."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE), "wb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # a rename would replace what is there
        except FileExistsError:
            return False
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    opened = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)  # the branch will know this key for good: it must not be lost by a crash of the machine
    finally:
        os.close(opened)
    return True


def _tightened(target: int | Path, path: Path, found: os.stat_result) -> tuple[str, ...]:
    """Take permissions away from everybody else; what was done, in a sentence. A mount that is not ours to change stays as it is."""
    mode = stat.S_IMODE(found.st_mode)
    if not mode & OTHERS:
        return ()
    try:
        os.chmod(target, mode & ~OTHERS)
    except OSError:
        return (f"{path} is open to others ({mode:04o}), and that is not ours to change",)
    return (f"{path} was open to others ({mode:04o}) and is now {mode & ~OTHERS:04o}",)


def _tightened_directory(directory: Path, path: Path) -> tuple[str, ...]:
    """The same for the directory, unless it holds other things: then others may have their reasons to look into it."""
    found = directory.stat()
    if all(entry.name == path.name or entry.name.startswith(f".{path.name}.") for entry in directory.iterdir()):
        return _tightened(directory, directory, found)
    mode = stat.S_IMODE(found.st_mode)
    if not mode & OTHERS:
        return ()
    return (f"{directory} is open to others ({mode:04o}) and is left so, because it holds other things: better give the identity a directory of its own",)


def _words(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else "cannot be used"

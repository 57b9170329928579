"""The file by which a watch is proven: `.syncwatch/<name>` under the root, with a `.gitignore` of `*` beside it.

What belongs here: writing it without ever leaving the root, whatever somebody puts in its place, and taking it away at the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

FOLDER = ".syncwatch"
_IGNORE = ".gitignore"
_PLAIN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def write(root: str, name: str, number: int) -> tuple[str | None, bool]:
    """Write it once more; a sentence about what was wrong, and whether that is because we may not write here."""
    try:
        with _folder(root, make=True) as folder:
            _ignored(folder)
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _PLAIN, 0o644, dir_fd=folder)
            try:
                os.write(fd, b"%d\n" % number)
            finally:
                os.close(fd)
    except OSError as error:
        where = f"{FOLDER}/{name} cannot be written"
        if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and os.path.lexists(os.path.join(root, FOLDER))):
            return f"{where}: there is something else in its place", False
        refused = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
        return f"{where}: {os.strerror(error.errno or 0).lower()}", refused
    return None, False


def remove(root: str, name: str) -> None:
    """Take it away, and the directory where nobody else uses it. What cannot be removed is left."""
    with contextlib.suppress(OSError), _folder(root, make=False) as folder:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        if set(os.listdir(folder)) <= {_IGNORE}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_IGNORE, dir_fd=folder)
            os.rmdir(os.path.join(root, FOLDER))


@contextlib.contextmanager
def _folder(root: str, make: bool) -> Iterator[int]:
    """The directory, opened; never one that a link points to. Raises: OSError."""
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(FOLDER, 0o755, dir_fd=top)
        folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | _PLAIN, dir_fd=top)
    finally:
        os.close(top)
    try:
        yield folder
    finally:
        os.close(folder)


def _ignored(folder: int) -> None:
    """Nobody's version control shall care."""
    with contextlib.suppress(FileExistsError):
        fd = os.open(_IGNORE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o644, dir_fd=folder)
        try:
            os.write(fd, b"*\n")
        finally:
            os.close(fd)

"""Two ways to rename that the standard library has not: never onto something, and both at once.

What belongs here: renameat2 of Linux, and what comes nearest to it where the system or the file system has none.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache

NOREPLACE, EXCHANGE = 1, 2
_NOT_HERE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
_NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EISDIR, errno.EINVAL})
"""What a file system says that has no hard links, and every file system about a directory."""


def rename_new(old: str, new: str, fd: int) -> None:
    """Rename inside the directory `fd`. Raises: FileExistsError when the new name is taken, OSError.

    Where the file system cannot, a file has both names for a moment; only where it has no hard links either, and for directories, a file that is made under the new name
    at the very same time is replaced.
    """
    if _renameat2(old, new, fd, NOREPLACE):
        return
    try:
        os.link(old, new, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        try:
            os.unlink(old, dir_fd=fd)
        except FileNotFoundError:
            pass  # somebody else took the old name away: what is left is what was wanted
        except OSError:
            os.unlink(new, dir_fd=fd)
            raise
        return
    try:
        os.stat(new, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=fd, dst_dir_fd=fd)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)


def exchange(one: str, other: str, fd: int, third: str) -> None:
    """Let two names inside the directory `fd` change places. Raises: FileNotFoundError when one of them is not there, OSError.

    Where the file system cannot, it is done in three steps, and the other name is missing between them, its file under the name `third`. It stays there, and FileExistsError
    is raised, when somebody made another file under the other name meanwhile.
    """
    if _renameat2(one, other, fd, EXCHANGE):
        return
    os.rename(other, third, src_dir_fd=fd, dst_dir_fd=fd)
    try:
        rename_new(one, other, fd)
    except FileExistsError:
        raise
    except OSError:
        rename_new(third, other, fd)
        raise
    os.rename(third, one, src_dir_fd=fd, dst_dir_fd=fd)


@cache
def _library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None, use_errno=True)
    return library if hasattr(library, "renameat2") else None


def _renameat2(old: str, new: str, fd: int, flags: int) -> bool:
    """Whether it was done; False: it cannot be done here. Raises: OSError."""
    library = _library()
    if library is None:
        return False
    if library.renameat2(fd, os.fsencode(old), fd, os.fsencode(new), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_HERE:
        return False
    raise OSError(number, os.strerror(number), new)

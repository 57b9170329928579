"""Secrets and the files they live in. A secret is read again on each use, so that a rotated one is picked up."""

from __future__ import annotations

from pathlib import Path

from syncwatch.core.secret import Secret, secret_in

LARGEST_SECRET_BYTES = 64 * 1024


class SecretError(Exception):
    """A secret's file that cannot be used; `str()` is one line with the path and why, never its content."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


class UnreadableError(Exception):
    """A file that cannot be read; `str()` says why, without the path."""


def read_bytes(path: Path, largest: int, *, regular: bool = False) -> bytes:
    """The whole file.

    Args:
        largest: a larger file is refused without being read to its end.
        regular: refuse what is no regular file (a pipe would be waited for).

    Raises:
        UnreadableError: says why.
    """
    try:
        if path.is_dir():
            raise UnreadableError("is a directory")
        if regular and path.exists() and not path.is_file():
            raise UnreadableError("is not a regular file")
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except FileNotFoundError as error:
        raise UnreadableError("no such file") from error
    except PermissionError as error:
        raise UnreadableError("permission denied") from error
    except OSError as error:
        raise UnreadableError(error.strerror or "cannot be read") from error
    except ValueError as error:  # a NUL in the path
        raise UnreadableError("is not a usable path") from error
    if len(data) > largest:
        raise UnreadableError(f"is larger than {largest} bytes")
    return data


def read_secret(path: Path) -> Secret:
    """The secret in a file, without the white space around it. A world-readable file is accepted: containers mount them so.

    Raises:
        SecretError: missing, unreadable, a directory, empty, more than one word, not UTF-8.
    """
    try:
        return secret_in(read_bytes(path, LARGEST_SECRET_BYTES, regular=True))
    except (UnreadableError, ValueError) as error:
        raise SecretError(path, str(error)) from None

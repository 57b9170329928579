"""The text of a file of ours, and its name as it stands in a complaint."""

from __future__ import annotations

from pathlib import Path

from syncwatch.config.mistakes import ConfigError, Mistake
from syncwatch.config.secret import UnreadableError, read_bytes

LARGEST_BYTES = 2**20
"""Of a configuration file: as much as a ConfigMap holds."""


def read_text(path: Path, *, regular: bool = False) -> str:
    """The text of a configuration file; `regular`: refuse a pipe and the like, which would be waited for.

    Raises:
        ConfigError: it cannot be read, is too large or is not UTF-8.
    """
    try:
        data = read_bytes(path, LARGEST_BYTES, regular=regular)
        return data.decode("utf-8-sig")
    except UnreadableError as error:
        raise ConfigError([Mistake(printable(str(path)), None, "", str(error))]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        wrong = f"not UTF-8: the byte 0x{error.object[error.start]:02x} cannot stand here"
        raise ConfigError([Mistake(printable(str(path)), line, "", wrong)]) from error


def printable(file: str) -> str:
    """A file name as it can be printed on one line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in file)

"""The files that a configuration names: can they be read, and the directories written to? A step of its own, because loading touches none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from syncwatch.config.decode import keys_of, shape
from syncwatch.config.mistakes import Mistake, in_order
from syncwatch.config.reading import join
from syncwatch.config.rules import Block, Reads, Rule
from syncwatch.config.schema import Config
from syncwatch.config.secret import SecretError, UnreadableError, read_bytes, read_secret

LARGEST_FILE_BYTES = 16 * 2**20
SEED_BYTES = 32


def unreadable_files(config: Config) -> list[Mistake]:
    """Every file that is named for reading and cannot be read now, every directory that is named for writing and cannot be written to, at the key that names it."""
    found = ((path, file, _refusal(file, reads)) for path, file, reads in _named(config, ""))
    return in_order(config.source.mistake(path, f"{file}: {why}") for path, file, why in found if why)


def _named(value: Any, path: str) -> Iterator[tuple[str, Path, Reads]]:
    """The paths in a block, its blocks and its lists, whose rule says that they are read."""
    if isinstance(value, tuple):
        for position, item in enumerate(value):
            yield from _named(item, f"{path}[{position}]")
    if not isinstance(value, Block):
        return
    for key, field in keys_of(type(value)).items():
        inner, rule = getattr(value, field.name), shape(field.type).carries
        if isinstance(inner, Path) and isinstance(rule, Rule) and rule.reads is not Reads.NOTHING:
            yield join(path, key), inner, rule.reads
        else:
            yield from _named(inner, join(path, key))


def _refusal(file: Path, reads: Reads) -> str | None:
    try:
        if reads is Reads.TOKEN:
            read_secret(file)
        elif reads is Reads.DIRECTORY:
            return _unusable(file)
        elif reads is Reads.SEED:
            size = len(read_bytes(file, SEED_BYTES, regular=True))
            return None if size == SEED_BYTES else f"holds {size} bytes, and a seed has {SEED_BYTES}"
        elif not read_bytes(file, LARGEST_FILE_BYTES, regular=True):
            return "is empty"
    except SecretError as error:
        return error.why
    except UnreadableError as error:
        return str(error)
    return None


def _unusable(directory: Path) -> str | None:
    """Why nothing could be put into a directory, which may still have to be made."""
    try:
        there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        if not there.is_dir():
            return "is not a directory" if there == directory else f"{there} is not a directory"
        if not os.access(there, os.W_OK | os.X_OK):
            return "cannot be written to" if there == directory else f"cannot be made: {there} cannot be written to"
    except OSError as error:
        return error.strerror or "cannot be used"
    except ValueError:  # a NUL in the path
        return "is not a usable path"
    return None

"""The files that a configuration names: can they be read? A step of its own, because loading touches none of them."""

from __future__ import annotations

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


def unreadable_files(config: Config) -> list[Mistake]:
    """Every file that is named for reading and cannot be read now, at the key that names it."""
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
        elif not read_bytes(file, LARGEST_FILE_BYTES, regular=True):
            return "is empty"
    except SecretError as error:
        return error.why
    except UnreadableError as error:
        return str(error)
    return None

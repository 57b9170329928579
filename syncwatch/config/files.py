"""The files that a configuration names: can they be read, and the directories written to? A step of its own, because loading touches none of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from syncwatch.config.decode import keys_of, shape
from syncwatch.config.mistakes import Mistake, in_order
from syncwatch.config.reading import join
from syncwatch.config.rules import AT_EACH_USE, Block, Reads, Rule
from syncwatch.config.schema import Config, nested
from syncwatch.config.secret import SecretError, UnreadableError, read_bytes, read_secret

LARGEST_FILE_BYTES = 16 * 2**20
SEED_BYTES = 32
LINKS_WAIT_S = 2.0
"""A mount that does not answer keeps no sidecar from starting or reloading: where links lead there is looked at again by each comparison."""


def unreadable_files(config: Config, but: Container[Path] = ()) -> list[Mistake]:
    """Every file that is named for reading and cannot be read now, every directory that is named for writing and cannot be written to, roots of a mirror that links make one tree: at the key that names it.

    `but`: these need not be there yet, where they are files that are read again at each use.
    """
    named = ((path, file, reads) for path, file, reads in _named(config, "") if not (reads in AT_EACH_USE and file in but))
    return in_order((*_refused(config, named), *_linked_roots(config)))


def awaited_files(config: Config) -> list[Mistake]:
    """Those that are read again at each use and cannot be read now: tokens, secrets, authorities. What uses one is in trouble until it is there; all else runs."""
    return in_order(_refused(config, (named for named in _named(config, "") if named[2] in AT_EACH_USE)))


def read_again(config: Config) -> frozenset[Path]:
    """Every file that is read again at each use."""
    return frozenset(file for _, file, reads in _named(config, "") if reads in AT_EACH_USE)


def _refused(config: Config, named: Iterable[tuple[str, Path, Reads]]) -> list[Mistake]:
    found = ((path, file, _refusal(file, reads)) for path, file, reads in named)
    return [config.source.mistake(path, f"{file}: {why}") for path, file, why in found if why]


def _linked_roots(config: Config) -> list[Mistake]:
    """Mirrors whose roots are one tree, or one inside the other, through links or mounts. What takes too long to find out is not said."""
    told: list[Mistake] = []

    def look() -> None:
        for position, mirror in enumerate(config.mirrors):
            why = _one_tree(mirror.mount, mirror.project)
            if why:
                told.append(config.source.mistake(f"mirrors[{position}].project", f"{mirror.project} and the mount {mirror.mount} are the same tree or one inside the other: {why}"))

    if config.mirrors:
        looking = threading.Thread(target=look, name="syncwatch-links", daemon=True)
        looking.start()
        looking.join(LINKS_WAIT_S)
    return list(told)


def _one_tree(mount: Path, project: Path) -> str | None:
    """What makes these two roots one tree; None when nothing does, or what is not there yet may still do it."""
    try:
        one, other = (Path(os.path.realpath(path)) for path in (mount, project))
        if nested(one, other):
            return f"links lead to {one} and {other}"
        if _goes_through(one, other) or _goes_through(other, one):
            return "they are the same directory under two names"
    except (OSError, ValueError):  # not ours to look at, or no usable path
        pass
    return None


def _goes_through(inner: Path, outer: Path) -> bool:
    """Whether `inner`, or a directory above it, is the directory `outer`, as the file system numbers them."""
    try:
        wanted = outer.stat()
    except OSError:
        return False
    for path in (inner, *inner.parents):
        try:
            if os.path.samestat(path.stat(), wanted):
                return True
        except OSError:
            continue
    return False


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

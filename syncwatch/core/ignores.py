"""Which paths of a tree are left out, by patterns as gitignore has them.

What belongs here: what a list of patterns means for a path. Names without any wildcard, which is what most lists are made of, cost one look into a set; the
library that knows the whole language of patterns is imported for the others only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_SPECIAL = frozenset("*?[]!\\/# \t")


class BadPatternError(ValueError):
    """A pattern that means nothing; its text says why."""


def _plain(pattern: str) -> bool:
    return bool(pattern) and _SPECIAL.isdisjoint(pattern)


def fault(pattern: str) -> str | None:
    """What is wrong with a pattern, as a sentence; None when nothing is."""
    try:
        Ignores((pattern,))
    except BadPatternError as error:
        return str(error)
    return None


class Ignores:
    """A list of patterns; the last one that matches decides, and nothing in a directory that is left out can be had back.

    Paths are relative, with `/` between names, in the file system's decoding (surrogates stand for bytes that are no UTF-8). `names` are left out wherever
    they stand, whether files or directories; what else is left out, only `file` and `directory` know. Raises: BadPatternError.
    """

    __slots__ = ("_spec", "directory_names", "names", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        negated = any(pattern.startswith("!") for pattern in self.patterns)
        plain = [] if negated else [one for one in self.patterns if _plain(one)]
        only_directories = [] if negated else [one for one in self.patterns if one.endswith("/") and _plain(one[:-1])]
        self.names = frozenset(plain)
        self.directory_names = frozenset(one[:-1] for one in only_directories)
        simple = {*plain, *only_directories}
        others = [one for one in self.patterns if one not in simple and one.strip()]
        self._spec: GitIgnoreSpec | None = _compiled(others) if others else None

    @property
    def simple(self) -> bool:
        """Whether `names` and `directory_names` are all there is."""
        return self._spec is None

    def file(self, path: str) -> bool:
        """Whether a file is left out whose directories are not."""
        return path.rpartition("/")[2] in self.names or (self._spec is not None and self._spec.check_file(path).include is True)

    def directory(self, path: str) -> bool:
        """Whether a directory is left out, with all that is in it."""
        name = path.rpartition("/")[2]
        if name in self.names or name in self.directory_names:
            return True
        return self._spec is not None and self._spec.check_file(path + "/").include is True

    def covers(self, path: str) -> bool:
        """Whether a file is left out, by itself or with a directory above it."""
        return any(self.directory(above) for above in parents(path)) or self.file(path)

    def __bool__(self) -> bool:
        return bool(self.names or self.directory_names or self._spec is not None)


def parents(path: str) -> Iterator[str]:
    """The directories that a path lies in, the outermost first."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def _compiled(patterns: list[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    for pattern in patterns:
        try:
            GitIgnoreSpec.from_lines([pattern])
        except ValueError as error:  # the library's own is one
            raise BadPatternError(f"{pattern!r} is no pattern as gitignore has them") from error
    return GitIgnoreSpec.from_lines(patterns)

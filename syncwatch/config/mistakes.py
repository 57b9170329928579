"""What is said about a wrong configuration: one line per mistake, and where it was made.

What belongs here: the form of a complaint. What is wrong is decided where the value or the block is defined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

MAX_LISTED = 100
"""More mistakes than this are counted, not listed."""


class WrongValueError(ValueError):
    """A value that cannot be used. Its text is the sentence a user reads; it never holds a secret."""


SHOWN_CHARACTERS = 60


def shown(text: str) -> str:
    """The text in quotes: cut when long, and what cannot be printed escaped, so that one sentence stays one line."""
    cut = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    quoted = cut.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in quoted) + '"'


class Mistake(msgspec.Struct, frozen=True):
    """One mistake. `str()` gives its line, `FILE:LINE: path.to.key: what is wrong`; what is not known is left out.

    `file` may also be the name of an environment variable, and then there is no line (lines count from 1).
    """

    file: str
    line: int | None
    path: str
    text: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, self.path, self.text) if part)


def in_order(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """Each mistake once, in the order of the file; those without a line come first."""
    return sorted(dict.fromkeys(mistakes), key=lambda mistake: mistake.line or 0)


class ConfigError(Exception):
    """A configuration that cannot be used. `mistakes` holds all that were found; `str()` has one line for each."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        found = tuple(mistakes)
        self.mistakes = found
        lines = [str(mistake) for mistake in found[:MAX_LISTED]]
        if len(found) > MAX_LISTED:
            lines.append(f"{found[0].file}: and {len(found) - MAX_LISTED} more")
        super().__init__("\n".join(lines))


class Spot(msgspec.Struct, frozen=True):
    """Where something is written: a file and a line, or an environment variable and None."""

    file: str
    line: int | None


class Source:
    """Where each part of a configuration was written, so that later complaints can name the line.

    Takes no part in comparing: two configurations that say the same are equal wherever it stands.
    """

    __slots__ = ("_file", "_spots")

    def __init__(self, file: str = "", spots: Mapping[str, Spot] | None = None) -> None:
        self._file = file
        self._spots = dict(spots or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source)

    def __hash__(self) -> int:
        return hash(Source)

    def __repr__(self) -> str:
        return f"Source({self._file!r})"

    def mistake(self, path: str, text: str) -> Mistake:
        """A mistake at `path`, such as `connections[0].heartbeat.interval`; what has no line of its own has its block's."""
        spot = next((self._spots[outer] for outer in _outwards(path) if outer in self._spots), Spot(self._file, None))
        return Mistake(spot.file, spot.line, path, text)


def _outwards(path: str) -> Iterable[str]:
    """The path itself, the block around it, and so on to the whole document (empty)."""
    while path:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    yield ""

"""Which words a regular expression of a matcher asks for: it is taken apart at its alternatives, those in groups included.

What belongs here: patterns and words. Whose words they are is the query's business.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MOST = 500
"""Ways through one pattern; one with more is taken as a whole."""

GROUP = re.compile(r"\((?:\?(?:P?<\w+>|:))?(?!\?)")
CLASS = re.compile(r"\[\^?\]?[^\]]*\]")
REPEATED = re.compile(r"(?:[*+?]|\{\d*,?\d*\})\??")


class _Way(NamedTuple):
    """One way through a pattern, without alternatives; and which it took of those that there were, by their places."""

    text: str
    took: frozenset[int]


class _WholeError(Exception):
    """A pattern that is not taken apart."""


def parts(pattern: str) -> Sequence[str]:
    """Every way through its alternatives. All together they match what it matches."""
    return [way.text for way in _ways(pattern)]


def matched(pattern: str, words: Iterable[str]) -> list[str]:
    """The words that it matches as a whole; none if it is no pattern."""
    compiled = _compiled(pattern)
    return [] if compiled is None else [word for word in words if compiled.fullmatch(word)]


def in_vain(pattern: str, words: Iterable[str]) -> list[str]:
    """Its alternatives that none of the words takes, as a way through them reads. Empty ones, and what cannot be read here, are not judged."""
    known = list(words)
    ways = _ways(pattern)
    if any(_compiled(way.text) is None for way in ways):
        return []
    useful = [way for way in ways if matched(way.text, known)]
    took = frozenset(alternative for way in useful for alternative in way.took)
    dead = {alternative for way in ways for alternative in way.took if alternative not in took}
    first = (next(way.text for way in ways if alternative in way.took) for alternative in sorted(dead))
    return list(dict.fromkeys(text for text in first if text))


def _compiled(pattern: str) -> re.Pattern[str] | None:
    """As Python reads it; None where Prometheus may read it otherwise, or not at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # [[:alpha:]] and the like
        try:
            return re.compile(pattern)
        except (re.error, OverflowError, RecursionError, FutureWarning):
            return None


def _ways(pattern: str) -> list[_Way]:
    try:
        ways, end = _alternatives(pattern, 0)
    except (_WholeError, RecursionError):
        ways, end = [], -1
    return ways if end == len(pattern) else [_Way(pattern, frozenset((0,)))]


def _alternatives(pattern: str, begin: int) -> tuple[list[_Way], int]:
    """The ways from here to the end, or to the bracket that closes what is open; and where that is."""
    found: list[_Way] = []
    place = begin
    while True:
        here = place
        ways, place = _sequence(pattern, place)
        found += [_Way(way.text, way.took | {here}) for way in ways]
        if len(found) > MOST:
            raise _WholeError
        if pattern[place : place + 1] != "|":
            return found, place
        place += 1


def _sequence(pattern: str, place: int) -> tuple[list[_Way], int]:
    ways = [_Way("", frozenset())]
    while place < len(pattern) and pattern[place] not in "|)":
        further, place = _item(pattern, place)
        ways = [_Way(way.text + one.text, way.took | one.took) for way in ways for one in further]
        if len(ways) > MOST:
            raise _WholeError
    return ways, place


def _item(pattern: str, place: int) -> tuple[list[_Way], int]:
    """One character, class or group. A group that is repeated, or may be missing, stays whole."""
    if pattern[place] == "(":
        return _group(pattern, place)
    if pattern[place] == "\\":
        return [_Way(pattern[place : place + 2], frozenset())], place + 2
    end = place + 1
    if pattern[place] == "[":
        match = CLASS.match(pattern, place)
        if match is None:
            raise _WholeError
        end = match.end()
    return [_Way(pattern[place:end], frozenset())], end


def _group(pattern: str, place: int) -> tuple[list[_Way], int]:
    opened = GROUP.match(pattern, place)
    if opened is None:
        raise _WholeError
    ways, end = _alternatives(pattern, opened.end())
    if pattern[end : end + 1] != ")":
        raise _WholeError
    end += 1
    repeated = REPEATED.match(pattern, end)
    if repeated is not None:
        return [_Way(pattern[place : repeated.end()], frozenset())], repeated.end()
    return ways, end


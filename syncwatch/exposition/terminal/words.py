"""How `syncwatch status` says durations, times, counts and sizes, and how wide a terminal shows a text.

What belongs here: words. Texts that a server or a file had a say in are shown with everything unprintable escaped: a close reason must not
move anybody's cursor.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from syncwatch.exposition import document as doc

_UNBROKEN = re.compile(r"(?<!\d [dh])(?<!\d min) (?!(?:ms|s|min|h|d|B|kB|MB|GB|UTC)\b)")
"""Where a line may end: not between a number and its unit, nor within a duration of two units."""
_EMOJI_STYLE = "\N{VARIATION SELECTOR-16}"


def ago(moment: doc.Instant | None) -> str:
    """How long ago something happened."""
    return "never" if moment is None else f"{span(moment.age_s)} ago"


def span(duration_s: float) -> str:
    """A duration as people say it, in at most two units."""
    if duration_s < 0.0995:
        return f"{duration_s * 1000:.3g} ms"
    if duration_s < 9.95:
        return f"{duration_s:.1f} s"
    left = round(duration_s)
    for unit, size_s, smaller, smaller_s in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if left >= size_s:
            return f"{left // size_s} {unit} {left % size_s // smaller_s} {smaller}"
    return f"{left} s"


def stamp(time: str) -> str:
    """An RFC 3339 time in UTC, to the second."""
    return f"{time[:19].replace('T', ' ')} UTC"


def minute(time: str) -> str:
    """An RFC 3339 time in UTC, to the minute."""
    return f"{time[:16].replace('T', ' ')} UTC"


def day(time: str) -> str:
    """An RFC 3339 time in UTC, to the day."""
    return time[:10]


def size(count: int) -> str:
    """Bytes in units of a thousand."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def number(count: int) -> str:
    """A count with its thousands apart."""
    return f"{count:,}"


def counted(count: int, one: str, many: str = "") -> str:
    """A count with its noun."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def each(counts: Mapping[str, int]) -> str:
    """What was counted at all, the count behind its word."""
    return ", ".join(f"{word} {number(count)}" for word, count in counts.items() if count)


def printable(text: str) -> str:
    """The text with everything escaped that a terminal could obey."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def columns(text: str) -> int:
    """How many columns a terminal needs for a printable text, at the most: terminals disagree about some emoji."""
    return sum(_columns(letter) for letter in text)


def _columns(letter: str) -> int:
    if letter.isascii():
        return 1
    if letter == _EMOJI_STYLE:
        return 1  # what stands before it grows from one column to two, where the terminal knows that
    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def wrapped(text: str, width: int, first: int = 0, others: int = 0) -> list[str]:
    """The text in lines that fit behind a margin of `first` columns, and of `others` columns from the second line on; a word that is too long is broken.

    `width` is that of a line with its margin. At least one line.
    """
    lines, line, used, empty = list[str](), "", first, True
    for word in _UNBROKEN.split(text):
        gap = "" if empty else " "
        if not empty and used + len(gap) + columns(word) > width:
            lines.append(line)
            line, used, gap = "", others, ""
        line, used, empty = line + gap, used + len(gap), False
        for letter in word:
            if line and used + _columns(letter) > width:
                lines.append(line)
                line, used = "", others
            line, used = line + letter, used + _columns(letter)
    return [one.rstrip() for one in (*lines, line)]

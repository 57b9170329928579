"""A page of text under construction: heads with a sign, and facts with their labels.

Law: whatever is put on it is escaped here, and no line is wider than the page; so no section has to think of either.
"""

from __future__ import annotations

from syncwatch.exposition.terminal.words import columns, printable, wrapped

LABEL_COLUMNS = 14
NARROWEST = 40
WIDEST = 120
"""Lines that go on for longer are hard to read."""
SECOND_COLUMN = 70
"""Where a page is wide enough, facts that belong beside others begin here."""

SIGNS = {"healthy": "●", "degraded": "◐", "down": "○", "stale": "◌", None: "·"}
_COLOURS = {"healthy": "\x1b[32m", "degraded": "\x1b[33m", "down": "\x1b[31m", "stale": "\x1b[35m", None: "\x1b[2m"}
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Page:
    """`current`: whether what it tells is so now, or was once."""

    def __init__(self, colour: bool, width: int, current: bool = True, verbose: bool = False) -> None:
        self.current, self.verbose = current, verbose
        self._colour, self._width = colour, min(max(width, NARROWEST), WIDEST)
        self._lines: list[str] = []
        self._facts: list[tuple[str, str, str | None, bool]] = []

    def text(self) -> str:
        """All of it, ending with a line feed."""
        self._lay_out()
        return "".join(line.rstrip() + "\n" for line in self._lines)

    def blank(self) -> None:
        """An empty line."""
        self._lay_out()
        self._lines.append("")

    def head(self, health: str | None, words: str, aside: str = "") -> None:
        """A sign and what it means; `aside` at the right edge, if there is room for it. Of a page that is not current every sign says so."""
        self._lay_out()
        health = health if self.current else "stale"
        sign, aside = f"{SIGNS.get(health, '?')} ", printable(aside)
        first, *rest = wrapped(printable(words), self._width, 2, 2)
        room = self._width - 2 - columns(first) - columns(aside)
        paint = _COLOURS.get(health, "") + _BOLD
        fits = aside and not rest and room >= 2
        self._lines.append(self._paint(paint, sign + first) + (" " * room + self._paint(_DIM, aside) if fits else ""))
        self._lines += [self._paint(paint, f"  {line}") for line in rest]
        if aside and not fits:
            self.fact("", aside)

    def fact(self, label: str, words: str, health: str | None = "healthy", beside: bool = False) -> None:
        """A label and a text, coloured unless it is healthy; `beside` the fact before it, if there is room."""
        self._facts.append((printable(label), printable(words), None if health == "healthy" else health, beside))

    def _lay_out(self) -> None:
        """Facts become lines."""
        facts, self._facts = self._facts, []
        while facts:
            left, room = self._fact(*facts.pop(0)[:3]), self._width - SECOND_COLUMN
            if len(left) == 1 and left[0][1] < SECOND_COLUMN and facts and facts[0][3]:
                right = self._fact(*facts[0][:3], indent="")
                if len(right) == 1 and right[0][1] <= room:
                    facts.pop(0)
                    self._lines.append(left[0][0] + " " * (SECOND_COLUMN - left[0][1]) + right[0][0])
                    continue
            self._lines += [line for line, _ in left]

    def _fact(self, label: str, words: str, health: str | None, indent: str = "  ") -> list[tuple[str, int]]:
        """The lines of a fact, each with its columns."""
        start = indent + label.ljust(LABEL_COLUMNS - 2)
        start += "" if start.endswith(" ") else "  "
        paint = _COLOURS.get(health, "") if health else ""
        made, margin = [], self._paint(_DIM, start)
        used = len(start)
        for line in wrapped(words, self._width, used, LABEL_COLUMNS):
            made.append((margin + self._paint(paint, line), used + columns(line)))
            margin, used = " " * LABEL_COLUMNS, LABEL_COLUMNS
        return made

    def _paint(self, paint: str, words: str) -> str:
        return f"{paint}{words}{_PLAIN}" if self._colour and paint and words.strip() else words

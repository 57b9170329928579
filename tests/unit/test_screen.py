"""What a command shows in its terminal: when in colours, how a picture is put over the one before, and what another encoding makes of it."""

from __future__ import annotations

import io
import os
import sys
import termios
from datetime import UTC, datetime

import pytest

from syncwatch import screen

NOW = datetime(2026, 11, 20, 13, 6, 40, tzinfo=UTC)


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.mark.parametrize(
    ("output", "environ", "expected"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": "0"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (io.StringIO(), {}, False),
    ],
)
def test_colours(output: io.StringIO, environ: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only on a terminal; NO_COLOR counts when it is there and not empty, whatever it says."""
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setenv("TERM", "xterm")
    assert expected is screen.colours(environ)


def test_a_teletype_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM=dumb."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert not screen.colours({})


@pytest.mark.parametrize(("told", "expected"), [((0, 0), (80, 24)), ((120, 0), (120, 24)), ((0, 50), (80, 50)), ((100, 40), (100, 40))])
def test_a_terminal_without_a_size(told: tuple[int, int], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudo-terminal is 0 by 0 until somebody says otherwise; nothing fits into that, so what a terminal usually has is taken."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (told[1], told[0]))
    with open(slave, "w") as output, open(master, "rb"):
        monkeypatch.setattr(sys, "stdout", output)
        assert expected == screen._size()


def rows(picture: str) -> list[str]:
    """The rows of a picture."""
    assert picture.startswith(screen.BEGIN)
    assert picture.endswith(screen.END)
    return picture.removeprefix(screen.BEGIN).removesuffix(screen.END).split("\x1b[K\r\n")


def test_a_picture() -> None:
    """A title, then the text; what is left of the one before is erased, on each line and below."""
    shown = rows(screen.picture("one\ntwo\n", 2.0, NOW, 80, 24))
    assert ["syncwatch status every 2 s, now 2026-11-20 13:06:40 UTC, Ctrl-C ends", "", "one", "two"] == shown


@pytest.mark.parametrize("height", [1, 2, 3, 5, 12, 13])
def test_a_window_that_is_too_low(height: int) -> None:
    """Never more rows than there are, or the terminal would scroll; the last one says how many lines there are more."""
    shown = rows(screen.picture("".join(f"{number}\n" for number in range(10)), 2.0, NOW, 30, height))
    assert min(height, 12) == len(shown)
    assert max(map(len, shown)) <= 30
    if height < 12:
        assert f"and {12 - height + 1} more lines: the window is too low"[:30] == shown[-1]
    else:
        assert "9" == shown[-1]


def test_an_encoding_without_our_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain signs for ours, escapes for what others sent; no traceback."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    screen.write("● cast ↑ 3 · 日\n")
    assert b"* cast > 3 - \\u65e5\n" == raw.getvalue()

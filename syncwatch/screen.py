"""What a command shows in the terminal that it runs in: how wide it is, whether it has colours, and a picture that is refreshed in place.

Law: whatever ends a watch, the terminal is left as it was found. A picture is written in one piece, over the one before, so nothing flickers.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import FrameType

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The alternate screen, without a cursor, without wrapping."""
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
BEGIN, END = "\x1b[?2026h\x1b[H", "\x1b[K\x1b[J\x1b[?2026l"
"""A picture as a whole, where the terminal can do that; what is left of the one before is erased."""
SEPARATOR = "-" * 80
NARROW = (80, 24)

_ASCII = str.maketrans({"●": "*", "◐": "!", "○": "x", "◌": "?", "·": "-", "↑": ">", "↓": "<", "→": ">"})


def colours(environ: Mapping[str, str]) -> bool:
    """Whether to use them: on a terminal that has some, unless NO_COLOR is set to anything (https://no-color.org)."""
    return terminal() and not environ.get("NO_COLOR")


def terminal() -> bool:
    """Whether standard output is a terminal that can do more than a teletype."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def width() -> int:
    """Its columns, or what COLUMNS says."""
    return shutil.get_terminal_size(NARROW).columns


def write(text: str) -> None:
    """To standard output, at once; what its encoding has no signs for is shown in those that it has."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    sys.stdout.write(text)
    sys.stdout.flush()


def watch(look: Callable[[int], str], interval_s: float, apart: bool) -> None:
    """Show what `look` says of a width, again every `interval_s`, until Ctrl-C; without a terminal one block after the other, `apart` by a line."""
    with contextlib.suppress(KeyboardInterrupt):
        if terminal():
            _in_place(look, interval_s)
        else:
            _one_after_the_other(look, interval_s, apart)


def _one_after_the_other(look: Callable[[int], str], interval_s: float, apart: bool) -> None:
    write(look(width()))
    while True:
        select.select([], [], [], interval_s)
        block = look(width())
        write(f"{SEPARATOR}\n{block}" if apart else block)


def _in_place(look: Callable[[int], str], interval_s: float) -> None:
    last = ""
    try:
        with _taken(), _woken() as signals:
            while True:
                last = look(_size()[0])
                write(picture(last, interval_s, datetime.now(UTC), *_size()))
                _wait(signals, interval_s)
    finally:
        write(last)  # it stays to be read


def picture(text: str, interval_s: float, now: datetime, columns: int, rows: int) -> str:
    """What is written to show the text from the first row on: a title, and as many lines as there is room for."""
    title = f"syncwatch status every {interval_s:g} s, now {now:%Y-%m-%d %H:%M:%S} UTC, Ctrl-C ends"[:columns]
    lines = [title, "", *text.splitlines()]
    if len(lines) > rows:
        more = len(lines) - rows + 1
        lines = [*lines[: max(0, rows - 1)], f"and {more} more lines: the window is too low"[:columns]]
    return BEGIN + "\x1b[K\r\n".join(lines) + END


def _size() -> tuple[int, int]:
    """Columns and rows at this moment. A terminal that nobody has told its size says 0 by 0 (`docker exec -t`, a serial line)."""
    try:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return NARROW
    return columns or NARROW[0], rows or NARROW[1]


def _wait(signals: int, interval_s: float) -> None:
    """Until it is time, or a signal came: the window has another size, or we are in the foreground again."""
    if select.select([signals], [], [], interval_s)[0]:
        os.read(signals, 4096)


@contextlib.contextmanager
def _woken() -> Iterator[int]:
    """A descriptor that can be read when a signal came."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    resized = signal.signal(signal.SIGWINCH, lambda *_: None)  # without a handler nobody would be woken
    try:
        yield reading
    finally:
        signal.signal(signal.SIGWINCH, resized)
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def _taken() -> Iterator[None]:
    """The terminal is ours, until the block ends in whatever way; also while we are stopped by Ctrl-Z it is not."""
    ended: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    def stop(number: int, _frame: FrameType | None) -> None:
        write(LEAVE)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, stop)  # here we go on
        write(ENTER)

    handlers = {signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGTSTP: stop}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    write(ENTER)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the terminal is gone
            write(LEAVE)
        for number, handler in before.items():
            signal.signal(number, handler)
        if ended:
            os.kill(os.getpid(), ended[0])

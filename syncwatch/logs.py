"""How the log looks, and that it can do no harm: JSON, one object a line, unless a terminal is attached.

Law: logging never waits and never raises. Lines go through a bounded queue to a thread that writes; a reader that stalls, a full disk or a closed pipe
cost lines, which are counted, never a heartbeat or a machine. Set up once by the commands; a changed configuration adjusts it. The library
leaves it to its program.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import queue
import sys
import threading
from typing import TextIO

import structlog

QUEUE_LINES = 1000
FLUSH_S = 0.3
"""At exit the last lines get this long; a stalled reader must not hold the process."""


class Writer:
    """A file for lines that is written by a daemon thread. `dropped` counts lines that had no room or could not be written."""

    def __init__(self, stream: TextIO, lines: int = QUEUE_LINES) -> None:
        self.dropped = 0
        self._stream = stream
        self._lines: queue.Queue[str] = queue.Queue(lines)
        self._said = 0
        self._thread = threading.Thread(target=self._run, name="syncwatch-log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Queue one line; returns at once."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self.dropped += 1

    def flush(self) -> None:
        """The thread writes as fast as the reader takes it; nobody waits here."""

    def finish(self, timeout_s: float = FLUSH_S) -> None:
        """Give the queued lines `timeout_s` to get out."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, timeout_s)

    def _run(self) -> None:
        while True:
            text = self._lines.get()
            try:
                if self.dropped > self._said and text:
                    self._stream.write(f'{{"event": "log lines were dropped", "dropped": {self.dropped}}}\n')
                    self._said = self.dropped
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # a closed pipe, a full disk; there is nobody to tell
                self.dropped += 1
            self._lines.task_done()


def configure(level: str = "info", form: str = "auto") -> Writer:
    """Log to standard error. `form` is auto, json or text."""
    writer = Writer(sys.stderr)
    atexit.register(writer.finish)
    structlog.configure(logger_factory=lambda *_: _Lines(writer), cache_logger_on_first_use=False)
    adjust(level, form)
    return writer


def adjust(level: str, form: str) -> None:
    """Another level or form for what `configure` has set up; every logger follows at its next line."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if text else structlog.processors.JSONRenderer()
    )
    exceptions = [] if text else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *exceptions,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
    )


def leave_to_program() -> None:
    """For the library: a program that has not configured structlog gets the lines through `logging` (`syncwatch`, `syncwatch.runtime`), not on standard output."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.stdlib.filter_by_level, _one_line],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
            cache_logger_on_first_use=False,
        )


def _one_line(_logger: object, _method: str, event: structlog.typing.EventDict) -> tuple[tuple[str], dict[str, object]]:
    """A line for `logging`: what happened, then its fields; a traceback is left to the handlers."""
    error = event.pop("exc_info", None)
    fields = " ".join(f"{name}={value}" for name, value in event.items() if name != "event")
    return (f"{event['event']}: {fields}" if fields else str(event["event"]),), {"exc_info": error}


class _Lines:
    """What structlog calls at the end of its chain: one method per level, all the same."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def msg(self, message: str) -> None:
        """Queue one line."""
        with contextlib.suppress(RuntimeError):  # the interpreter is shutting down
            self._writer.write(message + "\n")

    debug = info = warning = error = critical = exception = log = msg

"""How the log looks: one JSON object a line on standard error, text for people, levels, and tracebacks in either."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog

from syncwatch import logs


class Captured(io.StringIO):
    """A standard error; reading it waits until the writing thread has written what was logged before."""

    writer: logs.Writer | None = None

    def getvalue(self) -> str:
        if self.writer is not None:
            self.writer.finish(timeout_s=5.0)
        return super().getvalue()


class Terminal(Captured):
    """A standard error with a person before it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def configuration_restored() -> Iterator[None]:
    """structlog's configuration is the process's: what a test sets up ends with it."""
    yield
    structlog.reset_defaults()


def logged(monkeypatch: pytest.MonkeyPatch, level: str, form: str, stderr: Captured | None = None) -> Captured:
    """Set the log up on a standard error of the test's own."""
    stream = Captured() if stderr is None else stderr
    monkeypatch.setattr(sys, "stderr", stream)
    stream.writer = logs.configure(level, form)
    return stream


def fail() -> None:
    """Log an exception as a crashed task does."""
    try:
        raise ZeroDivisionError("a bug of ours")
    except ZeroDivisionError:
        structlog.get_logger("syncwatch").exception("internal error", task="connection/cast")


@pytest.mark.parametrize("form", ["json", "auto"])
def test_one_object_a_line(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """`auto` is json where no terminal is attached. Time is UTC, the level and every field are there."""
    stream = logged(monkeypatch, "info", form)
    structlog.get_logger("syncwatch").warning("attempt_failed", connection="cast", retry_in_s=0.25, detail="line\nbreak")
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", told.pop("timestamp"))
    expected = {"event": "attempt_failed", "level": "warning", "connection": "cast", "retry_in_s": 0.25, "detail": "line\nbreak"}
    assert expected == told


@pytest.mark.parametrize(("form", "stream"), [("text", Captured), ("auto", Terminal)])
def test_text_for_people(monkeypatch: pytest.MonkeyPatch, form: str, stream: type[Captured]) -> None:
    """When asked for, or when a terminal is attached; colours only for a terminal."""
    written = logged(monkeypatch, "info", form, stream()).getvalue
    structlog.get_logger("syncwatch").info("listening", listen="127.0.0.1:10119")
    assert "listening" in written()
    assert "127.0.0.1:10119" in written()
    assert not written().startswith("{")
    assert ("\x1b" in written()) is (stream is Terminal)


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_levels(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    """What is below the level is not written."""
    stream = logged(monkeypatch, level, "json")
    log, levels = structlog.get_logger("syncwatch"), ["debug", "info", "warning", "error"]
    for name in levels:
        getattr(log, name)("said")
    assert levels[levels.index(level) :] == [json.loads(line)["level"] for line in stream.getvalue().splitlines()]


def test_a_traceback_in_json_is_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Still one line."""
    stream = logged(monkeypatch, "info", "json")
    fail()
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert ("error", "connection/cast") == (told["level"], told["task"])
    assert told["exception"].startswith("Traceback")
    assert told["exception"].endswith("ZeroDivisionError: a bug of ours")


def test_a_traceback_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines below the sentence."""
    stream = logged(monkeypatch, "info", "text")
    fail()
    assert "ZeroDivisionError" in stream.getvalue()
    assert stream.getvalue().count("\n") > 1


def test_loggers_made_before_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules make their loggers when they are imported, long before the command sets the log up."""
    early = structlog.get_logger("syncwatch.early")
    stream = logged(monkeypatch, "info", "json")
    early.info("said")
    assert "said" == json.loads(stream.getvalue())["event"]


def test_level_and_form_change_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loggers that are there follow, and the lines go where they went."""
    stream, log = logged(monkeypatch, "info", "json"), structlog.get_logger("syncwatch.early")
    log.debug("not yet")
    logs.adjust("debug", "text")
    log.debug("now")
    logs.adjust("error", "json")
    log.info("no more")
    log.error("in json")
    first, second = stream.getvalue().splitlines()
    assert "now" in first
    assert not first.startswith("{")
    assert "in json" == json.loads(second)["event"]


class Stalled(io.StringIO):
    """A reader that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait(10.0)
        return super().write(text)


def test_a_stalled_reader_costs_lines_and_nothing_else() -> None:
    """Logging returns at once; what has no room is dropped, counted, and told when the reader comes back."""
    stream = Stalled()
    writer = logs.Writer(stream, lines=10)
    for number in range(100):
        writer.write(f"line {number}\n")
    assert 89 <= writer.dropped <= 90  # one line may be with the thread already
    stream.go.set()
    writer.finish(timeout_s=5.0)
    assert f'"dropped": {writer.dropped}' in stream.getvalue()


class Broken(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_broken_pipe_raises_nowhere() -> None:
    """Lines that cannot be written are counted."""
    writer = logs.Writer(Broken())
    writer.write("one\n")
    writer.write("two\n")
    writer.finish(timeout_s=5.0)
    assert 2 == writer.dropped


def test_the_library_leaves_the_log_to_its_program(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines go to `logging`, with their fields in the text and tracebacks for its handlers, never to standard output by themselves."""
    caplog.set_level("INFO", "syncwatch")
    logs.leave_to_program()
    structlog.get_logger("syncwatch.runtime").info("state", name="cast", detail="100 % %s")
    structlog.get_logger("syncwatch").debug("not wanted")
    fail()
    assert [("syncwatch.runtime", 20, "state: name=cast detail=100 % %s"), ("syncwatch", 40, "internal error: task=connection/cast")] == caplog.record_tuples
    assert "ZeroDivisionError: a bug of ours" in caplog.text
    assert ("", "") == capsys.readouterr()


def test_what_the_program_has_configured_stays() -> None:
    """Whatever it is."""
    structlog.configure(processors=[])
    logs.leave_to_program()
    assert [] == structlog.get_config()["processors"]

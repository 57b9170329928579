"""The status file: what is on disk and when, what a reader believes of it, and whom it takes for its writer."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from syncwatch.runtime import statusfile, statusreader
from syncwatch.runtime.clock import Clock
from syncwatch.runtime.statefile import write
from syncwatch.runtime.statusfile import CALM_S, FILE, NEWS_S, StatusFile, process, uptime, writer
from syncwatch.runtime.statusreader import MAX_BYTES, Life, Unusable, life, read

WALL_S = 1_795_180_000.0
CLOCK = Clock(time.monotonic, lambda: WALL_S)
DOCUMENT = b'{"schema":1,"health":"healthy"}'


async def written(file: StatusFile) -> None:
    """Wait until the write under way is done."""
    for _ in range(5000):
        if file.due(float("inf")):
            return
        await asyncio.sleep(0.002)
    pytest.fail("the write never ended")


def content(directory: Path, **changes: Any) -> dict[str, Any]:
    """Write a file that is as a living sidecar would leave it, but for the changes; returns its content."""
    own = writer()
    its: dict[str, Any] = {
        "schema": 1,
        "time": "2026-11-20T13:06:40.000Z",
        "time_s": WALL_S,
        "uptime_s": uptime(),
        "every_s": CALM_S,
        "ended": False,
        "writer": msgspec.to_builtins(own),
        "status": {"schema": 1, "health": "healthy"},
    }
    its |= changes
    (directory / FILE).write_text(json.dumps(its))
    return its


def writer_with(**changes: Any) -> dict[str, Any]:
    """This process, but for the changes."""
    found: dict[str, Any] = msgspec.to_builtins(writer())
    return found | changes


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of ours, ended at the end."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


async def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """The document is the very one, with its writer and the moment at which it was taken; 0600, whole at every moment, nothing else lies around."""
    file = StatusFile(tmp_path, CLOCK)
    file.offer(0.0, DOCUMENT)
    await written(file)
    seen = read(tmp_path, WALL_S)
    assert (json.loads(DOCUMENT), True, None) == (seen.status, seen.current, seen.detail)
    assert seen.age_s < 10.0
    assert 0o600 == stat.S_IMODE((tmp_path / FILE).stat().st_mode)
    assert [FILE] == os.listdir(tmp_path)
    its = json.loads((tmp_path / FILE).read_bytes())
    assert ["schema", "time", "time_s", "uptime_s", "every_s", "ended", "writer", "status"] == list(its)
    assert ["pid", "started", "boot", "namespace"] == list(its["writer"])
    assert ("2026-11-20T13:06:40.000Z", os.getpid()) == (its["time"], its["writer"]["pid"])


async def test_the_rhythm(tmp_path: Path) -> None:
    """At once at the start; a second after news, ten seconds after the last time without; never two at a time."""
    file = StatusFile(tmp_path, CLOCK)
    assert file.due(0.0)
    file.offer(0.0, DOCUMENT)
    assert not file.due(1000.0), "one is under way"
    await written(file)
    assert [False, True] == [file.due(CALM_S - 0.1), file.due(CALM_S)]
    file.news()
    assert [False, True] == [file.due(NEWS_S - 0.1), file.due(NEWS_S)]
    file.offer(NEWS_S, DOCUMENT)
    await written(file)
    assert not file.due(NEWS_S + CALM_S - 0.1), "the news is told"


def slow(monkeypatch: pytest.MonkeyPatch, takes_s: float) -> None:
    """A disk that takes its time."""

    def later(directory: Path, data: bytes, name: str, durable: bool) -> None:
        time.sleep(takes_s)
        write(directory, data, name, durable)

    monkeypatch.setattr(statusfile, "write", later)


async def test_the_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for the write under way, come after it, and say that they are the last."""
    slow(monkeypatch, 0.05)
    file = StatusFile(tmp_path, CLOCK)
    file.offer(0.0, DOCUMENT)
    await file.finish(b'{"last":1}', 10.0)
    seen = read(tmp_path, WALL_S)
    assert ({"last": 1}, False) == (seen.status, seen.current)
    assert "the sidecar is not running: it was stopped at 2026-11-20 13:06:40 UTC" == seen.detail


async def test_nobody_waits_long_for_the_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs does not hold the process; that is said."""
    slow(monkeypatch, 0.5)
    file = StatusFile(tmp_path, CLOCK)
    with capture_logs() as logs:
        await file.finish(DOCUMENT, 0.05)
    assert ["the status file could not be written in time"] == [line["event"] for line in logs]
    await written(file)


async def test_trouble_with_the_disk_is_said_once(tmp_path: Path) -> None:
    """And it is tried again."""
    directory = tmp_path / "state"
    file = StatusFile(directory, CLOCK)
    with capture_logs() as logs:
        for now in (0.0, 10.0):
            file.offer(now, DOCUMENT)
            await written(file)
    assert ["no such file or directory"] == [line["error"] for line in logs]
    directory.mkdir()
    file.offer(20.0, DOCUMENT)
    await written(file)
    assert read(directory, WALL_S).current


def test_the_age_is_of_the_machines_clock(tmp_path: Path) -> None:
    """A wall clock that was set since, in either direction, changes nothing; of another boot only the stamp is left."""
    content(tmp_path, uptime_s=uptime() - 7.0)
    ages = [read(tmp_path, wall_s).age_s for wall_s in (WALL_S - 3600.0, WALL_S + 3600.0)]
    assert [True, True] == [7.0 <= age_s < 17.0 for age_s in ages]
    content(tmp_path, writer=writer_with(boot="another"))
    assert [3600.0, 0.0] == [read(tmp_path, wall_s).age_s for wall_s in (WALL_S + 3600.0, WALL_S - 3600.0)]


def test_a_writer_that_is_gone(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    """However fresh the file is."""
    found = process(child.pid)
    assert found is not None
    content(tmp_path, writer=writer_with(pid=child.pid, started=found[1]))
    assert read(tmp_path, WALL_S).current
    child.kill()
    child.wait()
    seen = read(tmp_path, WALL_S)
    assert not seen.current
    assert "the sidecar is not running, last seen 2026-11-20 13:06:40 UTC: it did not end in an orderly way" == seen.detail


def test_a_writer_that_is_stopped(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    """There, and nothing it said is so any more: nobody looks."""
    found = process(child.pid)
    assert found is not None
    content(tmp_path, writer=writer_with(pid=child.pid, started=found[1]))
    os.kill(child.pid, signal.SIGSTOP)
    deadline_s = time.monotonic() + 10.0
    while process(child.pid) != ("T", found[1]) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    seen = read(tmp_path, WALL_S)
    assert not seen.current
    assert f"the sidecar (process {child.pid}) is stopped, by a signal or a debugger; last seen 2026-11-20 13:06:40 UTC" == seen.detail


def test_a_dead_process_that_nobody_has_waited_for(child: subprocess.Popen[bytes]) -> None:
    """A zombie still has its number and answers signal 0, and is gone all the same."""
    found = process(child.pid)
    assert found is not None
    who = msgspec.structs.replace(writer(), pid=child.pid, started=found[1])
    assert Life.RUNNING is life(who, writer())
    os.kill(child.pid, signal.SIGKILL)
    deadline_s = time.monotonic() + 10.0
    while process(child.pid) != ("Z", found[1]) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert Life.GONE is life(who, writer())


def test_a_number_that_is_used_again(tmp_path: Path) -> None:
    """Another process has the number now; it began at another time."""
    own = writer()
    assert own.started is not None
    content(tmp_path, writer=writer_with(started=own.started - 1))
    assert not read(tmp_path, WALL_S).current


@pytest.mark.parametrize("change", [{"namespace": "pid:[1]"}, {"boot": "another"}, {"started": None}])
def test_a_writer_that_cannot_be_seen_from_here(tmp_path: Path, change: dict[str, Any]) -> None:
    """Another container or machine, or a system that does not tell: a fresh file is believed, an old one is not."""
    content(tmp_path, writer=writer_with(**change))
    assert read(tmp_path, WALL_S).current
    content(tmp_path, writer=writer_with(**change), uptime_s=uptime() - 31.0)
    seen = read(tmp_path, WALL_S + 31.0)
    assert not seen.current
    assert "the sidecar is not running, or stuck, or not on this machine; last seen 2026-11-20 13:06:40 UTC" == seen.detail


def test_a_process_that_hides_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc may be closed to us: it is there, and more cannot be known."""
    own = writer()
    monkeypatch.setattr(statusreader, "process", lambda pid: None)
    assert Life.UNKNOWN is life(own, own)

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert Life.UNKNOWN is life(own, own)


def test_numbers_that_no_process_has() -> None:
    """A damaged file does not ask for a signal to a group of processes."""
    own = writer()
    for pid in (2**31, 2**70, 0, -1):
        assert Life.GONE is life(msgspec.structs.replace(own, pid=pid), own), pid


def test_a_writer_that_is_stuck(tmp_path: Path) -> None:
    """It is there, and says nothing: after three intervals it is not believed."""
    content(tmp_path, uptime_s=uptime() - 20.0)
    assert read(tmp_path, WALL_S).current
    content(tmp_path, uptime_s=uptime() - 31.0)
    seen = read(tmp_path, WALL_S)
    assert not seen.current
    assert f"the sidecar (process {os.getpid()}) is there and has said nothing since 2026-11-20 13:06:40 UTC: it is stuck" == seen.detail


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "{file} is empty: the machine crashed while it was written, or it is no status file"),
        (b"\x00\xff garbage", "{file} is no status file, or is damaged: "),
        (b'{"schema":1,"time":"2026', "{file} is no status file, or is damaged: "),
        (b"[1]", "{file} is no status file, or is damaged: "),
        (b'{"schema":2}', "{file} was written by another version of syncwatch: schema 2, this one reads 1"),
        (b'{"schema":1}', "{file} is no status file, or is damaged: "),
        (b"[" * 100_000, "{file} is no status file, or is damaged: "),
        (b"x" * (MAX_BYTES + 1), "{file} is no status file: larger than "),
    ],
    ids=["empty", "garbage", "cut", "list", "newer", "bare", "deep", "huge"],
)
def test_a_file_that_is_none(tmp_path: Path, data: bytes, words: str) -> None:
    """Said in one sentence that names the file; nothing of what is in it."""
    file = tmp_path / FILE
    file.write_bytes(data)
    with pytest.raises(Unusable) as raised:
        read(tmp_path, WALL_S)
    assert str(raised.value).startswith(words.format(file=file))
    assert "garbage" not in str(raised.value)


def test_a_document_that_is_none(tmp_path: Path) -> None:
    """The frame is right, the inside is not."""
    content(tmp_path, status=[1])
    with pytest.raises(Unusable, match="is no status file: Expected `object`"):
        read(tmp_path, WALL_S)


def test_no_file_and_no_directory(tmp_path: Path) -> None:
    """What is missing is named."""
    with pytest.raises(Unusable, match=f"^{tmp_path / FILE} does not exist: no sidecar with this state_dir has written there$"):
        read(tmp_path, WALL_S)
    with pytest.raises(Unusable, match=f"^{tmp_path / 'nowhere'} does not exist: "):
        read(tmp_path / "nowhere", WALL_S)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may, is said."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "open", refuse)  # root, who may run the tests, may read everything
    with pytest.raises(Unusable, match=r"cannot be read: permission denied \(only the user that the sidecar runs as may\)"):
        read(tmp_path, WALL_S)


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    """Any other trouble in the system's words."""
    (tmp_path / FILE).mkdir()
    with pytest.raises(Unusable, match="cannot be read: is a directory"):
        read(tmp_path, WALL_S)

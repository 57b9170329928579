"""Reading another process's file: only plain files of bounded size, never a link, never two readers, and what the system knows of the process."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from syncwatch.core.effects import Effects
from syncwatch.core.reported import Look, Picture
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.reportfile import MAX_BYTES, ReportFile, look, read, sighting


def understood(content: bytes) -> Picture | str:
    """A picture of our own process for every content but one."""
    return "not whole" if content == b"half" else Picture(os.getpid(), 1.0, 2.0, None, 0, 0, 0)


def test_a_file_and_its_process(tmp_path: Path) -> None:
    """The picture, the file's time and mode, and a process that is alive and began before now."""
    path = tmp_path / "f"
    path.write_bytes(b"whole")
    path.chmod(0o640)
    os.utime(path, (7.0, 7.0))
    seen = look(path, understood)
    assert (7.0, 0o640, False, "") == (seen.written_wall_s, seen.mode, seen.missing, seen.trouble)
    assert seen.picture is not None
    assert seen.process is not None
    assert seen.process.alive
    assert seen.process.started_wall_s is not None
    assert time.time() - 86_400.0 < seen.process.started_wall_s <= time.time() + 2.0
    path.write_bytes(b"half")
    half = look(path, understood)
    assert (None, "not whole", False) == (half.picture, half.trouble, half.oversized)


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    """The file, its directory, or a directory that is a file."""
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none", tmp_path / "no" / "where", tmp_path / "file" / "below"):
        assert Look(missing=True) == look(path, understood)


def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    """A link, a directory, a pipe (without waiting for a writer), a device, a file that is too large: a sentence each."""
    (tmp_path / "file").write_bytes(b"whole")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "large").write_bytes(b"x" * (MAX_BYTES + 1))
    os.mkfifo(tmp_path / "pipe")
    words = {name: look(tmp_path / name, understood) for name in ("link", "pipe", "large", ".")}
    assert "the file is a link, which is not followed" == words["link"].trouble
    assert "the file is not a file" == words["pipe"].trouble == words["."].trouble
    assert ("the file is larger than 262144 bytes", True) == (words["large"].trouble, words["large"].oversized)
    assert "the file is not a file" == look(Path("/dev/zero"), understood).trouble
    assert (b"x" * 5, 5) == (read(tmp_path / "large", MAX_BYTES + 1)[0][:5], len(b"x" * 5))


def test_what_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied is no missing file. (Root, who may read everything, runs tests too.)"""

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    assert ("the file cannot be read: permission denied", False) == (look(tmp_path / "f", understood).trouble, look(tmp_path / "f", understood).missing)


def test_processes(tmp_path: Path) -> None:
    """Alive, ended but not asked for yet (which is dead), and nobody; two with one number differ in their start."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        alive = sighting(process.pid)
        assert alive.alive
        assert alive.start is not None
        assert alive.start >= (sighting(os.getpid()).start or 0)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not sighting(process.pid).alive
    finally:
        process.kill()
        process.communicate()
    assert not sighting(process.pid).alive
    assert not sighting(2**31 - 1).alive
    assert sighting(1).alive


class Heard:
    """A machine that only listens."""

    deadline = float("inf")
    interval_s = 1.0

    def __init__(self) -> None:
        self.looks: list[Look] = []

    def looked(self, now: float, seen: Look) -> Effects:
        self.looks.append(seen)
        return ()

    def tick(self, now: float) -> Effects:
        return ()


async def heard(machine: Heard, looks: int) -> None:
    """Wait until it was told so often."""
    for _ in range(2000):
        if len(machine.looks) >= looks:
            return
        await asyncio.sleep(0.005)
    pytest.fail("nothing was read")


async def test_a_reading_that_hangs_is_the_only_one(tmp_path: Path) -> None:
    """The next beats wait for it, and nothing else does."""
    go, readers = threading.Event(), []

    def slow(content: bytes) -> str:
        readers.append(content)
        go.wait(10.0)
        return "done"

    path, machine = tmp_path / "f", Heard()
    path.write_bytes(b"x")
    file = ReportFile(Driver("x", machine), machine, path, slow)
    for beat in range(5):
        file.beat(float(beat))
        await asyncio.sleep(0)
    assert (True, []) == (file.busy, machine.looks)
    go.set()
    await heard(machine, 1)
    assert ([b"x"], ["done"]) == (readers, [one.trouble for one in machine.looks])
    file.beat(9.0)
    await heard(machine, 2)
    assert not file.busy

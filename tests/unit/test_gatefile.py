"""The gate file follows the gate, never waits, and never touches what is not its own."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from syncwatch.runtime import gatefile
from syncwatch.runtime.gatefile import GateFile


async def settled(gate: GateFile) -> None:
    """Wait for the thread."""
    async with asyncio.timeout(5.0):
        while gate._work is not None:
            await asyncio.wait([gate._work])


async def test_it_is_there_while_the_gate_is_open(tmp_path: Path) -> None:
    """Empty and readable for everybody; gone when closed, and closing twice is no failure."""
    path = tmp_path / "gate"
    gate = GateFile(path)
    gate.clear()
    seen = []
    for is_open in (False, True, True, False, False, True):
        gate.show(is_open)
        await settled(gate)
        seen.append(path.exists())
    assert [False, True, True, False, False, True] == seen
    assert (0, 0o644) == (path.stat().st_size, path.stat().st_mode & 0o777)
    await gate.close()
    assert (False, 0) == (path.exists(), gate.failures)


def test_what_a_killed_process_left_is_removed_at_the_start(tmp_path: Path) -> None:
    """Before anything is known, the gate is closed."""
    path = tmp_path / "gate"
    path.touch()
    GateFile(path).clear()
    assert not path.exists()


@pytest.mark.parametrize("what", ["file", "directory", "link"])
async def test_what_is_not_ours_is_left_alone(tmp_path: Path, what: str) -> None:
    """A mistaken path costs nobody a file; each change of condition is said once, each failure counted."""
    path, other = tmp_path / "gate", tmp_path / "other"
    other.touch()
    if what == "file":
        path.write_text("mine")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to(other)
    gate = GateFile(path)
    with capture_logs() as logs:
        gate.clear()
        for is_open in (True, False):
            gate.show(is_open)
            await settled(gate)
        await gate.close()
    assert path.is_symlink() == (what == "link")
    assert path.exists()
    assert other.exists()
    assert "file" != what or "mine" == path.read_text()
    assert ["what is there is not an empty file, so it is left alone"] == [one["error"] for one in logs]
    assert 4 == gate.failures


async def test_a_failure_is_tried_again_and_the_way_back_is_told(tmp_path: Path) -> None:
    """A directory that is missing may come."""
    path = tmp_path / "later" / "gate"
    gate = GateFile(path)
    with capture_logs() as logs:
        gate.clear()
        for _ in range(3):
            gate.show(True)
            await settled(gate)
        path.parent.mkdir()
        gate.retry()
        await settled(gate)
    assert (True, 3) == (path.exists(), gate.failures)
    assert ["the gate file cannot follow the gate", "the gate file follows the gate again"] == [one["event"] for one in logs]
    await gate.close()


async def test_a_disk_that_hangs_holds_nobody_and_the_newest_state_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes made meanwhile are not queued: when the disk is back, the file says what holds then; the end waits for a bounded time."""
    path, go_on = tmp_path / "gate", threading.Event()
    create, created = gatefile._create, list[Path]()

    def hang(it: Path) -> None:
        go_on.wait(5.0)
        created.append(it)
        create(it)

    monkeypatch.setattr(gatefile, "_create", hang)
    gate = GateFile(path)
    for is_open in (True, False, True, False):
        gate.show(is_open)
    with capture_logs() as logs:
        await gate.close(0.05)
    assert ["the gate file could not be removed in time"] == [one["event"] for one in logs]
    go_on.set()
    await settled(gate)
    assert ([path], False) == (created, path.exists())

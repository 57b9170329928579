"""The state file: what is on disk after each kind of trouble, with real files, real threads and a clock of our own."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import random
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from syncwatch.core.resume import ResumePoint, ServiceRecord, Totals
from syncwatch.runtime.clock import Clock
from syncwatch.runtime.statefile import FILE, LOCK, MAX_BYTES, REFRESH_S, State, StateFile, StateInUse, write

WALL_S = 1_800_000_000.0
STAMP = "20270115T080000Z"
CLOCK = Clock(time.monotonic, lambda: WALL_S)


def point(cursor: int, saved_wall_s: float = WALL_S, keys: int = 0) -> ResumePoint:
    """A real entry."""
    return ResumePoint(
        saved_wall_s=saved_wall_s,
        upstream="http://127.0.0.1:8787",
        totals=Totals(since_wall_s=1.0, events=cursor),
        cursor=cursor,
        seen_above=((cursor + 2, cursor + 5),),
        keys=tuple(f"key-{number}" for number in range(keys)),
    )


def opened(directory: Path) -> StateFile[ResumePoint]:
    """A state file of our entry type."""
    return StateFile(directory, ResumePoint, CLOCK)


async def settled(file: StateFile[Any]) -> None:
    """Wait until the write under way is done."""
    for _ in range(2000):
        if not file.busy:
            return
        await asyncio.sleep(0.002)
    pytest.fail("the write never ended")


def mode(path: Path) -> int:
    """Permissions of a path."""
    return stat.S_IMODE(path.stat().st_mode)


async def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """A round trip through the disk by another object is equal, entry by entry."""
    directory = tmp_path / "deep" / "state"
    file = opened(directory)
    assert State() == file.load()
    assert await file.finish("pod-1a2b", {"cast": point(41, keys=512), "other": point(7)}, timeout_s=5.0)
    file.close()
    assert State(1, "pod-1a2b", {"cast": point(41, keys=512), "other": point(7)}) == opened(directory).load()
    assert 0 == file.failures
    assert WALL_S == file.last_write_wall_s


async def test_permissions(tmp_path: Path) -> None:
    """The directory is 0700 and the file 0600, whatever the umask says; nothing else lies around afterwards."""
    directory = tmp_path / "state"
    before = os.umask(0)
    try:
        file = opened(directory)
        file.load()
        await file.finish("x", {}, timeout_s=5.0)
    finally:
        os.umask(before)
    assert 0o700 == mode(directory)
    assert 0o600 == mode(directory / FILE)
    assert {FILE, LOCK} == {path.name for path in directory.iterdir()}


async def test_looser_permissions_are_repaired(tmp_path: Path) -> None:
    """A directory or file that others could read is tightened, and that is said."""
    directory = tmp_path / "state"
    file = opened(directory)
    file.load()
    await file.finish("x", {"cast": point(1)}, timeout_s=5.0)
    file.close()
    directory.chmod(0o755)
    (directory / FILE).chmod(0o644)
    with capture_logs() as logs:
        state = opened(directory).load()
    assert {"cast": point(1)} == state.connections
    assert (0o700, 0o600) == (mode(directory), mode(directory / FILE))
    assert ["0o755", "0o644"] == [entry["mode"] for entry in logs if entry["log_level"] == "warning"]


async def test_a_mount_that_is_not_ours_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes mounts an emptyDir that belongs to root: its mode cannot be changed, and that is a warning, not the end."""
    os.chmod(tmp_path, 0o777)

    def refuse(self: Path, wanted: int) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(Path, "chmod", refuse)
    file = opened(tmp_path)
    with capture_logs() as logs:
        file.load()
    assert await file.finish("x", {}, timeout_s=5.0)
    assert 1 == len(logs)
    assert "not ours" in logs[0]["event"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated"),
        (b"\x00\xff\xfe garbage", "JSON"),
        (b'{"schema":1,"instance":"x","connections":{"cast":{"saved_wall_s":', "truncated"),
        (b'{"schema":1,"connections":{"cast":{"saved_wall_s":"now"}}}', "$.connections[...]"),
        (b'{"schema":2,"instance":"x","connections":{}}', "schema 2, not 1"),
        (b"[1, 2, 3]", "Expected"),
        (b"[" * 100_000, ""),
        (b'{"instance":"' + b"\xff\xff" + b'"}', ""),
        (b'{"instance":"' + b"x" * MAX_BYTES + b'"}', "larger than"),
    ],
    ids=["empty", "garbage", "cut", "wrong type", "newer schema", "array", "deep", "not utf-8", "huge"],
)
async def test_a_corrupt_file_is_set_aside(tmp_path: Path, content: bytes, words: str) -> None:
    """Said in one clear line, kept under another name for whoever wants to look, and the start is fresh."""
    (tmp_path / FILE).write_bytes(content)
    file = opened(tmp_path)
    with capture_logs() as logs:
        assert State() == file.load()
    errors = [entry for entry in logs if entry["log_level"] == "error"]
    assert 1 == len(errors)
    assert "corrupt: set aside" in errors[0]["event"]
    assert words in errors[0]["error"]
    aside = tmp_path / f"{FILE}.corrupt-{STAMP}"
    assert content == aside.read_bytes()
    assert str(aside) == errors[0]["aside"]
    assert not (tmp_path / FILE).exists()
    assert await file.finish("x", {"cast": point(1)}, timeout_s=5.0)
    file.close()
    assert {"cast": point(1)} == opened(tmp_path).load().connections


@pytest.mark.parametrize("seed", range(20))
def test_any_flipped_byte_is_survived(tmp_path: Path, seed: int) -> None:
    """Random damage gives a state or a fresh start, never an exception."""
    chance = random.Random(seed)
    content = bytearray(msgspec.json.encode(State(1, "x", {"cast": point(41, keys=5)})))
    for _ in range(chance.randint(1, 8)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    (tmp_path / FILE).write_bytes(content)
    with capture_logs():
        file = opened(tmp_path)
        assert isinstance(file.load(), State)
    file.close()


async def test_at_most_one_write_a_second_and_none_without_news(tmp_path: Path) -> None:
    """News is written a second after the last write at the earliest; without news only the stamps are renewed, each minute."""
    file = opened(tmp_path)
    file.load()
    written: list[float] = []
    offers = [(0.0, 1), (0.3, 2), (0.9, 3), (1.0, 3), (2.0, 3), (30.0, 3), (30.2, 4), (60.9, 4), (90.1, 4), (90.3, 4), (151.0, 4)]
    for now, cursor in offers:
        before = (tmp_path / FILE).stat().st_ino if (tmp_path / FILE).exists() else None
        file.offer(now, "x", {"cast": point(cursor, saved_wall_s=WALL_S + now)})
        await settled(file)
        if before != (tmp_path / FILE).stat().st_ino:
            written.append(now)
            on_disk = json.loads((tmp_path / FILE).read_bytes())["connections"]["cast"]
            assert (cursor, WALL_S + now) == (on_disk["cursor"], on_disk["saved_wall_s"])
    assert [0.0, 1.0, 30.2, 90.3, 151.0] == written
    assert REFRESH_S == pytest.approx(90.2 - 30.2)
    file.close()


async def test_an_offer_is_due_each_second_when_it_presses_and_else_every_five(tmp_path: Path) -> None:
    """Whoever asks first saves the work of taking everything together; nothing is due while a write is under way."""
    file = opened(tmp_path)
    file.load()
    assert {} == file.written
    assert file.due(0.0, pressing=False)
    file.offer(0.0, "x", {"cast": point(1)})
    assert not file.due(10.0, pressing=True), "one is under way"
    await settled(file)
    assert {"cast": point(1)} == file.written
    expected = [(0.9, False, False), (1.0, True, False), (4.9, True, False), (5.0, True, True)]
    assert expected == [(now, file.due(now, pressing=True), file.due(now, pressing=False)) for now, _, _ in expected]
    file.offer(5.0, "x", {"cast": point(1, saved_wall_s=WALL_S + 5.0)})  # no news: not written, but looked at
    assert not file.due(9.0, pressing=False)
    file.close()


async def test_offering_never_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs holds a thread, not the loop; what is offered meanwhile is not lost but waits, and the end waits only so long."""
    file = opened(tmp_path)
    file.load()
    release, syncing = threading.Event(), threading.Event()
    real = os.fsync

    def hang(number: int) -> None:
        syncing.set()
        release.wait(10.0)
        real(number)

    monkeypatch.setattr(os, "fsync", hang)
    began = time.monotonic()
    file.offer(0.0, "x", {"cast": point(1)})
    file.offer(5.0, "x", {"cast": point(2)})
    assert time.monotonic() - began < 1.0
    assert await asyncio.to_thread(syncing.wait, 5.0)
    assert file.busy
    with capture_logs() as logs:
        assert not await file.finish("x", {"cast": point(3)}, timeout_s=0.05)
    assert ["the state file could not be written in time"] == [entry["event"] for entry in logs]
    release.set()
    await settled(file)
    file.offer(7.0, "x", {"cast": point(4)})
    await settled(file)
    assert 4 == json.loads((tmp_path / FILE).read_bytes())["connections"]["cast"]["cursor"]
    file.close()


async def test_each_condition_is_counted_always_and_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk full, read-only, permission denied: never fatal, counted each time, one line per change, and one when it is over."""
    file = opened(tmp_path)
    file.load()
    assert await file.finish("x", {"cast": point(1)}, timeout_s=5.0)
    trouble: list[int | None] = [None]
    real = os.fsync

    def fsync(number: int) -> None:
        if trouble[0] is not None:
            raise OSError(trouble[0], os.strerror(trouble[0]))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    now = 100.0
    with capture_logs() as logs:
        for number in (errno.ENOSPC, errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EACCES, None, None, errno.ENOSPC):
            trouble[0], now = number, now + 100.0
            file.offer(now, "x", {"cast": point(int(now))})
            await settled(file)
            if number is not None:
                assert not (tmp_path / f"{FILE}.tmp").exists()
    assert 6 == file.failures
    assert [
        "no space left on device",
        "read-only file system",
        "permission denied",
        None,
        "no space left on device",
    ] == [entry.get("error") for entry in logs]
    assert 700 + 100 == json.loads((tmp_path / FILE).read_bytes())["connections"]["cast"]["cursor"]
    trouble[0] = None
    file.close()


async def test_a_failed_write_leaves_the_old_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing, at each step that can fail."""
    write(tmp_path, b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "no")

    for owner, name in ((os, "fsync"), (os, "fchmod"), (Path, "rename")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(OSError, match="no"):
                write(tmp_path, b"new")
        assert b"old" == (tmp_path / FILE).read_bytes()
        assert not (tmp_path / f"{FILE}.tmp").exists()


def test_the_order_of_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File synced, then renamed, then the directory synced: no crash in between can leave less than the old or the new content."""
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(number: int) -> None:
        steps.append("sync directory" if stat.S_ISDIR(os.fstat(number).st_mode) else "sync file")
        fsync(number)

    def noted_rename(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name} to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    write(tmp_path, b"content")
    assert ["sync file", f"rename {FILE}.tmp to {FILE}", "sync directory"] == steps


async def test_a_directory_that_cannot_be_is_not_fatal_and_comes_back(tmp_path: Path) -> None:
    """A file where the directory should be: said, counted, tried again; when it is gone, everything works, the lock included."""
    blocker = tmp_path / "state"
    blocker.write_text("in the way")
    file = opened(blocker)
    with capture_logs() as logs:
        assert State() == file.load()
        file.offer(0.0, "x", {"cast": point(1)})
        await settled(file)
        assert 2 == file.failures
        blocker.unlink()
        file.offer(2.0, "x", {"cast": point(1)})
        await settled(file)
    assert 2 == file.failures
    assert ["file exists", None] == [entry.get("error") for entry in logs]
    with pytest.raises(StateInUse):
        opened(blocker).load()
    file.close()


async def test_two_sidecars_do_not_share_a_directory(tmp_path: Path) -> None:
    """The second one gets a clear error, in the same process and in another; a directory that was given back is free."""
    first = opened(tmp_path)
    first.load()
    with pytest.raises(StateInUse, match=f"state_dir {tmp_path} is used by another syncwatch: give each sidecar its own"):
        opened(tmp_path).load()
    code = f"import fcntl; fcntl.flock(open({str(tmp_path / LOCK)!r}), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    other = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, timeout=20, check=False)
    assert 1 == other.returncode
    assert b"BlockingIOError" in other.stderr
    first.close()
    second = opened(tmp_path)
    second.load()
    second.close()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """SIGKILL leaves the lock file but not the lock."""
    code = "import sys\nfrom pathlib import Path\nfrom syncwatch.core.resume import ResumePoint\n"
    code += "from syncwatch.runtime.statefile import StateFile\n"
    code += "StateFile(Path(sys.argv[1]), ResumePoint).load()\nprint('held', flush=True)\nsys.stdin.read()\n"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert b"held\n" == child.stdout.readline()
        with pytest.raises(StateInUse):
            opened(tmp_path).load()
        child.kill()
        child.wait(10)
    assert (tmp_path / LOCK).exists()
    file = opened(tmp_path)
    file.load()
    file.close()


async def test_a_link_in_place_of_the_lock_or_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    """Nobody can make us overwrite a file elsewhere."""
    directory, victim = tmp_path / "state", tmp_path / "victim"
    directory.mkdir(0o700)
    victim.write_text("precious")
    file = opened(directory)
    file.load()
    (directory / f"{FILE}.tmp").symlink_to(victim)
    with capture_logs():
        assert not await file.finish("x", {}, timeout_s=5.0)
    assert await file.finish("x", {}, timeout_s=5.0)  # the link was in our directory: it is gone, its target is not
    assert "precious" == victim.read_text()
    file.close()
    (directory / LOCK).unlink()
    (directory / LOCK).symlink_to(victim)
    with capture_logs() as logs:
        opened(directory).load()
    assert "too many levels of symbolic links" == logs[0]["error"]


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    """A child process that outlives us does not keep the directory."""
    file = opened(tmp_path)
    file.load()
    assert file._lock is not None
    assert fcntl.fcntl(file._lock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    file.close()


async def test_services_are_kept_beside_the_connections(tmp_path: Path) -> None:
    """What is new about a service is news; a state file from before there were any is read all the same."""
    file = opened(tmp_path / "state")
    file.load()
    record = ServiceRecord("0123abcd", WALL_S, 7, 2, WALL_S - 5.0)
    assert await file.finish("x", {}, 5.0, {"flair": record})
    assert file._known("x", {}, {"flair": record})
    assert not file._known("x", {}, {"flair": msgspec.structs.replace(record, probes=8)})
    file.close()
    assert {"flair": record} == opened(tmp_path / "state").load().services
    older = tmp_path / "older"
    older.mkdir(0o700)
    (older / "state.json").write_text('{"schema":1,"instance":"x","connections":{}}')
    assert State(1, "x") == opened(older).load()

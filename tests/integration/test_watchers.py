"""Each way in which a watch over a tree fails, on real files: found, named, cured, and nothing left behind."""

# ruff: noqa: ASYNC221, ASYNC240  the files are the test, and nothing else runs on this loop

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from syncwatch.core.health import Reason
from syncwatch.core.ignores import Ignores
from syncwatch.core.states import FileChange, SentinelResult, WatchMode, WatchTrouble
from syncwatch.runtime.inotify import IN_Q_OVERFLOW, Kernel, Sink, Tree, Worker
from syncwatch.runtime.watcher import make_worker
from tests.integration.watcher_parts import FAST, NAME, held, watching
from tests.requires import require

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
PROJECT = Path(__file__).parents[2]


async def test_changes_are_told_by_path(tmp_path: Path) -> None:
    """Files and directories, made, changed, moved and deleted, in the root and deep in it, whatever their names are."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "old").write_text("x")
    async with watching(tmp_path) as watched:
        assert 1 == watched.rescans, "what is there at the start was told as a whole"
        (tmp_path / "a" / "b" / "old").write_text("y")
        await watched.until(lambda: ("a/b/old", FileChange.MODIFIED) in watched.changes)
        (tmp_path / "line\nbreak").write_text("x")
        (tmp_path / os.fsdecode(b"no\xfftext")).write_text("x")
        await watched.until(lambda: {"line\nbreak", os.fsdecode(b"no\xfftext")} <= watched.paths)
        (tmp_path / "a" / "b" / "old").rename(tmp_path / "new")
        await watched.until(lambda: {("a/b/old", FileChange.DELETED), ("new", FileChange.ADDED)} <= set(watched.changes))
        (tmp_path / ".syncwatch-0123").write_text("what a mirror is about to rename")
        (tmp_path / "new").unlink()
        await watched.until(lambda: ("new", FileChange.DELETED) in watched.changes)
        (tmp_path / "a").rename(tmp_path / "c")
        await watched.until(lambda: {("a", FileChange.DELETED), ("c", FileChange.ADDED), ("c/b", FileChange.ADDED)} <= set(watched.changes))
        (tmp_path / "c" / "b" / "deep").write_text("x")
        await watched.until(lambda: "c/b/deep" in watched.paths, "under its new name")
        assert len(watched.changes) == sum(watched.watch.changes.values()), "what is counted is what was told"
        assert [] == [path for path in watched.paths if ".syncwatch" in path], "our own file is nobody's change"
        assert {} == watched.restarts


async def test_the_first_files_of_a_new_directory_are_told(tmp_path: Path) -> None:
    """`mkdir -p d/e; write d/e/f`, a hundred times: nothing is missed, although the kernel told of the outermost directory alone."""
    async with watching(tmp_path) as watched:
        for number in range(100):
            (tmp_path / f"d{number}" / "e").mkdir(parents=True)
            (tmp_path / f"d{number}" / "e" / "f").write_text("x")
        assert await watched.watcher.caught_up(10.0)
        assert {f"d{number}/e/f" for number in range(100)} <= watched.paths, "all of it, at once"
        assert (1, 202) == (held()[0], held()[1]), "root, sentinel's directory, and two each"
        assert (202, 1) == (watched.watcher.inotify_watches, watched.watcher.inotify_instances)


async def test_a_tree_that_is_moved_in_is_told_and_one_that_is_moved_out_is_let_go(tmp_path: Path) -> None:
    """What happens in a tree outside is nobody's business, even if it was inside once."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (outside / "x").mkdir(parents=True)
    (outside / "x" / "file").write_text("x")
    root.mkdir()
    async with watching(root) as watched:
        outside.rename(root / "in")
        await watched.until(lambda: {"in", "in/x", "in/x/file"} <= watched.paths)
        watches = held()[1]
        (root / "in").rename(outside)
        await watched.until(lambda: ("in", FileChange.DELETED) in watched.changes)
        assert watches - 2 == held()[1]
        before = len(watched.changes)
        (outside / "x" / "later").write_text("x")
        assert await watched.watcher.caught_up(10.0)
        assert before == len(watched.changes)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_done_to_the_tree_the_watched_directories_are_those_that_exist(tmp_path: Path, seed: int) -> None:
    """Directories made, renamed onto each other, moved out and in, deleted and made again, as fast as it goes: none is forgotten, none is watched twice, every file is told."""
    chance = random.Random(seed)
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    async with watching(root) as watched:
        for turn in range(15):
            for step in range(20):
                folders = [Path(one) for one, _, _ in os.walk(root) if ".syncwatch" not in one]
                folder, other = chance.choice(folders), chance.choice(folders)
                name = f"{turn}-{step}"
                match chance.randrange(6):
                    case 0:
                        (folder / name / "deep" / "deeper").mkdir(parents=True)
                    case 1:
                        (folder / name).write_text("x")
                    case 2 if folder != root and not other.is_relative_to(folder):
                        folder.rename(other / name)
                    case 3 if folder != root:
                        shutil.rmtree(folder)
                        folder.mkdir()
                    case 4 if folder != root:
                        folder.rename(outside / name)
                    case 5:
                        for away in outside.iterdir():
                            away.rename(folder / f"{name}-{away.name}")
            assert await watched.watcher.caught_up(20.0)
            there = {os.path.relpath(one, root) for one, _, _ in os.walk(root)}
            worker = watched.watcher._worker
            assert isinstance(worker, Tree)
            assert {"." if one == "" else one for one in worker._wds} == there, f"seed {seed}, turn {turn}"
            assert (1, len(there)) == held()
            told = watched.paths
            there_too = {os.path.relpath(os.path.join(one, file), root) for one, _, files in os.walk(root) for file in files}
            assert {one for one in there_too if ".syncwatch" not in one} <= told
        assert {} == watched.restarts


async def test_what_is_ignored_is_neither_told_nor_watched(tmp_path: Path) -> None:
    """Directories that are left out cost no watch; what is made in them is not told. The sentinel lives on below `.*`."""
    (tmp_path / "node_modules" / "much").mkdir(parents=True)
    async with watching(tmp_path, ignore=[".*", "node_modules", "*.log"]) as watched:
        assert (1, 2) == held()
        (tmp_path / "node_modules" / "file").write_text("x")
        (tmp_path / "x.log").write_text("x")
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "node_modules").mkdir()
        await watched.notices_changes()
        assert {"kept", "afterwards"} == watched.paths


async def test_everything_before_the_question_was_told_when_it_is_answered(tmp_path: Path) -> None:
    """`caught_up` is a fence: write and ask, three hundred times, and never is a write missing."""
    async with watching(tmp_path) as watched:
        for number in range(300):
            (tmp_path / f"f{number}").write_text("x")
            assert await watched.watcher.caught_up(10.0)
            assert f"f{number}" in watched.paths
        tmp_path.rename(tmp_path.with_name("moved"))
        tmp_path.mkdir()
        assert not await watched.watcher.caught_up(10.0), "the root is another one"


async def test_a_root_that_is_deleted_and_comes_back(tmp_path: Path) -> None:
    """Dead with root_gone at once; alive by itself when the directory is there again."""
    root = tmp_path / "root"
    root.mkdir()
    async with watching(root) as watched:
        shutil.rmtree(root)
        await watched.until(lambda: ("dead", "root_gone") == watched.notices[-1])
        assert Reason.WATCHER_DEAD is watched.troubles[-1]
        root.mkdir()
        await watched.healed("root_gone")
        assert [None] == watched.troubles[-1:]
        assert 2 == watched.rescans
        await watched.notices_changes()


async def test_a_root_that_is_missing_at_the_start(tmp_path: Path) -> None:
    """No error: dead, and alive as soon as it is made. A file in its place is no root."""
    root = tmp_path / "root"
    root.write_text("no directory")
    async with watching(root, wait=False) as watched:
        await watched.until(lambda: watched.notices)
        assert ([("dead", "root_gone")], (0, 0)) == (watched.notices, held())
        root.unlink()
        root.mkdir()
        await watched.healed("root_gone")
        await watched.notices_changes()


@pytest.mark.parametrize("level", ["itself", "its parent"])
async def test_a_root_that_is_renamed_and_replaced(tmp_path: Path, level: str) -> None:
    """Found by the kernel's word about the root, or by the look where only a directory further up was moved and the kernel says nothing."""
    parent = tmp_path / "parent"
    root = parent / "root"
    root.mkdir(parents=True)
    async with watching(root, msgspec.structs.replace(FAST, interval_s=None)) as watched:
        moved = root if level == "itself" else parent
        moved.rename(tmp_path / "elsewhere")
        root.mkdir(parents=True)
        await watched.until(lambda: watched.restarts and watched.watch.up)
        assert set(watched.restarts) <= {"root_replaced", "root_gone"}, "gone for as long as it took to make the new one"
        assert 2 == watched.rescans
        await watched.notices_changes()


def _kernels() -> list[str]:
    """Every kernel forgets in the same way, but some machines let it keep more than a test can fill: there a queue of ours stands for its own."""
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    real = limit.exists() and int(limit.read_text()) <= 100_000
    return ["a queue of ours", "the kernel's queue"] if real else ["a queue of ours"]


def _keeps(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is in the queue so many events are told, and then that more came, as the kernel does."""
    read = Kernel.read

    def bounded(self: Kernel) -> Iterator[tuple[int, int, bytes]]:
        for number, event in enumerate(read(self)):
            if number == most:
                yield -1, IN_Q_OVERFLOW, b""
            elif number < most:
                yield event

    monkeypatch.setattr(Kernel, "read", bounded)


@pytest.mark.parametrize("queue", _kernels())
async def test_an_overflow_of_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue: str) -> None:
    """More events than are kept: said, counted, everything is to be looked at again, and a directory that was made meanwhile is watched."""
    if queue == "a queue of ours":
        most = 1_000
        _keeps(most, monkeypatch)
    else:
        most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("x")
    second.write_text("x")
    busy, go_on = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        go_on.wait(30.0)

    async with watching(tmp_path, msgspec.structs.replace(FAST, timeout_s=10.0)) as watched:
        worker = watched.watcher._worker
        assert worker is not None
        worker.ask(work)  # the thread is busy, as it may be on a loaded machine
        try:
            await watched.until(busy.is_set)
            for _ in range(most // 2 + 100):
                os.utime(first)  # the kernel merges an event with an equal one right before it, so they alternate
                os.utime(second)
            (tmp_path / "unseen").mkdir()
        finally:
            go_on.set()
        await watched.healed("overflow")
        assert Reason.WATCHER_BLIND in watched.troubles
        assert ("blind", "overflow") in watched.notices
        assert Reason.WATCHER_DEAD not in watched.troubles[2:], "what was watched before was watched all the time"
        assert 2 == watched.rescans
        (tmp_path / "unseen" / "file").write_text("x")
        await watched.until(lambda: "unseen/file" in watched.paths)


class Silent(Tree):
    """A watch that looks alive and says nothing from some moment on."""

    silent = False

    def _read(self) -> None:
        if not self.silent:
            super()._read()
            return
        assert self._kernel is not None
        for _ in self._kernel.read():
            pass


async def test_a_watch_that_died_silently_is_found_by_the_sentinel(tmp_path: Path) -> None:
    """Within interval plus timeout; the cure is a new watch, proven by its own sentinel."""
    made: list[Silent] = []

    def make(root: str, ignores: Ignores, name: str, sink: Sink, polling: bool, poll_s: float) -> Worker:
        made.append(Silent(root, ignores, name, sink))
        return made[-1]

    settings = msgspec.structs.replace(FAST, interval_s=0.5, timeout_s=0.5)
    async with watching(tmp_path, settings, make=make) as watched:
        made[0].silent = True
        begun_s = time.monotonic()
        await watched.until(lambda: "missed" in watched.restarts)
        found_s = time.monotonic() - begun_s
        assert found_s < settings.timeout_s + (settings.interval_s or 0.0) + 1.0, "a second for a loaded machine"
        assert Reason.WATCHER_DEAD in watched.troubles[2:]
        assert watched.watch.sentinels[SentinelResult.MISSED] >= 1
        await watched.healed("missed")
        await watched.notices_changes()


async def test_a_file_system_that_gives_no_events_is_polled(tmp_path: Path) -> None:
    """After some sentinels that did not come; said, and changes are told all the same."""

    def make(root: str, ignores: Ignores, name: str, sink: Sink, polling: bool, poll_s: float) -> Worker:
        if polling:
            return make_worker(root, ignores, name, sink, polling, poll_s)
        deaf = Silent(root, ignores, name, sink)
        deaf.silent = True
        return deaf

    (tmp_path / "there").write_text("x")
    async with watching(tmp_path, msgspec.structs.replace(FAST, timeout_s=0.1), make=make) as watched:
        seen = watched.watch.snapshot()
        assert (WatchMode.POLLING, "no events came from this file system") == (seen.mode, seen.detail)
        assert ((0, 0), {"missed": 1}) == (held(), watched.restarts)
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "file").write_text("x")
        (tmp_path / "there").write_text("longer")
        await watched.until(lambda: {("d", FileChange.ADDED), ("d/file", FileChange.ADDED), ("there", FileChange.MODIFIED)} <= set(watched.changes))
        shutil.rmtree(tmp_path / "d")
        assert await watched.watcher.caught_up(10.0), "asked, it reads the tree at once"
        assert {("d", FileChange.DELETED), ("d/file", FileChange.DELETED)} <= set(watched.changes)
        assert [] == [path for path in watched.paths if ".syncwatch" in path]
        shutil.rmtree(tmp_path)
        await watched.until(lambda: {"root_gone", "root_replaced"} & set(watched.restarts))


async def test_a_thread_that_ends_by_our_own_mistake_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An internal error is said and cured; it neither passes silently nor leaves a watch that only looks alive."""
    async with watching(tmp_path) as watched:
        worker = watched.watcher._worker
        assert worker is not None
        worker.ask(lambda: [][0])
        await watched.healed("error")
        await watched.notices_changes()


async def test_a_thousand_cures_leave_nothing_behind(tmp_path: Path) -> None:
    """As many inotify watches and instances, open files and threads as after one."""
    for number in range(5):
        (tmp_path / f"d{number}").mkdir()
    settings = msgspec.structs.replace(FAST, interval_s=60.0, timeout_s=30.0, check_s=60.0, retry_min_s=0.0, retry_max_s=0.0, stable_s=0.0)

    def counted() -> tuple[object, ...]:
        return held(), len(os.listdir("/proc/self/fd")), threading.active_count()

    async with watching(tmp_path, settings) as watched:

        async def cure() -> None:
            watched.driver.call(watched.watch.lost, watched.watch.attempt, WatchTrouble.ERROR, "a test")
            assert not watched.watch.up
            await watched.up()

        await cure()
        await cure()
        first = counted()
        assert (1, 7) == first[0]
        for _ in range(100):
            await cure()
        watched.driver.call(watched.watch.configure, msgspec.structs.replace(settings, interval_s=None))  # quicker
        for _ in range(900):
            await cure()
        assert 1_002 == watched.watch.restarts[WatchTrouble.ERROR]
        watched.driver.call(watched.watch.configure, settings)
        await watched.up()
        await watched.until(lambda: first == counted(), f"{first} became {counted()}")
        await watched.notices_changes()
    assert (0, 0) == held()


async def test_the_sentinel_never_leaves_the_root_and_goes_at_the_end(tmp_path: Path) -> None:
    """A link in its place is not followed, and is said to be in the way; our files go with us, what others put there stays."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    async with watching(root) as watched:
        assert "*\n" == (root / ".syncwatch" / ".gitignore").read_text()
        assert {".gitignore", NAME} == set(os.listdir(root / ".syncwatch"))
        shutil.rmtree(root / ".syncwatch")
        (root / ".syncwatch").symlink_to(outside)
        await watched.until(lambda: ("blind", None) == watched.notices[-1], "a link was followed")
        assert "something else in its place" in (watched.watch.snapshot().detail or "")
        assert [] == os.listdir(outside)
        (root / ".syncwatch").unlink()
        await watched.up()
    assert [] == os.listdir(root)
    async with watching(root):
        (root / ".syncwatch" / "another").write_text("x")
    assert {".gitignore", "another"} == set(os.listdir(root / ".syncwatch"))


async def test_without_a_sentinel_nothing_is_written(tmp_path: Path) -> None:
    """Passive: changes are told, and the root stays as it was."""
    async with watching(tmp_path, msgspec.structs.replace(FAST, interval_s=None)) as watched:
        assert WatchMode.PASSIVE is watched.watch.mode
        await watched.notices_changes("only")
        assert ["only"] == os.listdir(tmp_path)


def namespaced(trouble: str, root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["unshare", *options, sys.executable, "-m", "tests.integration.watcher_alone", trouble, str(root)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("trouble", "options"),
    [
        ("watches", ("--user", "--map-root-user")),
        ("instances", ("--user", "--map-root-user")),
        ("mounts", ("--user", "--map-root-user", "--mount")),
        ("permissions", ("--user",)),
        ("unwritable", ("--user",)),
    ],
)
async def test_troubles_of_the_machine(tmp_path: Path, trouble: str, options: tuple[str, ...]) -> None:
    """Limits, permissions and mounts, in a user namespace whose limits and mounts are nobody else's."""
    allowed = subprocess.run([require("unshare"), *options, "true"], capture_output=True, check=False).returncode == 0
    if not allowed and os.environ.get("SYNCWATCH_REQUIRE_ALL") != "1":
        pytest.skip("no user namespaces here")
    root = tmp_path / "root"
    root.mkdir()
    done = await asyncio.to_thread(namespaced, trouble, root, *options)
    assert (0, "done\n") == (done.returncode, done.stdout), done.stderr

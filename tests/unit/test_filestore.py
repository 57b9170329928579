"""A deposit is a whole file under its name before it is called stored; nothing is replaced, nothing fails silently."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from syncwatch.core.effects import Effects, Store
from syncwatch.runtime import filestore
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.filestore import BATCH, FileStore, save


class Depositor:
    """Notes what it is told."""

    deadline = float("inf")
    interval_s = 1.0

    def __init__(self) -> None:
        self.told: list[tuple[int, str | None, bool]] = []
        self.unstored = 0
        self.more = asyncio.Event()

    def tick(self, now: float) -> Effects:
        """Never due."""
        return ()

    def stored(self, now: float, deposit_id: int, error: str | None = None, known: bool = False) -> Effects:
        """Note it."""
        self.told.append((deposit_id, error, known))
        self.more.set()
        return ()

    def ask(self, now: float, *stores: Store) -> Effects:
        """What a session would want."""
        return stores


class Desk:
    """A store with a driver and a session that asks what a test wants."""

    def __init__(self, directory: Path) -> None:
        self.session = Depositor()
        self.driver = Driver("desk", self.session)
        self.store = FileStore(self.driver, self.session, directory)
        self.asked = 0

    async def keep(self, *contents: tuple[str, bytes]) -> list[tuple[str | None, bool]]:
        """Store these; returns the errors, and what was known."""
        before = len(self.session.told)
        stores = [Store(self.asked + number, name, content) for number, (name, content) in enumerate(contents, 1)]
        self.asked += len(stores)
        self.driver.call(self.session.ask, *stores)
        await self.answers(before + len(stores))
        told = self.session.told[before:]
        assert [store.deposit_id for store in stores] == [number for number, _, _ in told], "one answer each, in order"
        return [(error, known) for _, error, known in told]

    async def answers(self, count: int) -> None:
        """Wait for so many in all."""
        async with asyncio.timeout(10.0):
            while len(self.session.told) < count:
                self.session.more.clear()
                await self.session.more.wait()


def names(directory: Path) -> list[str]:
    """Everything that is there."""
    return sorted(os.listdir(directory))


async def test_each_is_a_file_of_its_own_that_nobody_else_reads(tmp_path: Path) -> None:
    """0600 in 0700, whatever the umask; the directory is made, its parents too; more than one batch keeps its order."""
    directory = tmp_path / "a" / "mail"
    desk = Desk(directory)
    before = os.umask(0)
    try:
        desk.store.prepare()
        assert [(None, False)] * 3 * BATCH == await desk.keep(*((f"{number:04}.json", b"%d" % number) for number in range(3 * BATCH)))
    finally:
        os.umask(before)
    assert [f"{number:04}.json" for number in range(3 * BATCH)] == names(directory)
    assert (b"7", 0o600) == ((directory / "0007.json").read_bytes(), (directory / "0007.json").stat().st_mode & 0o777)
    assert 0o700 == directory.stat().st_mode & 0o777
    assert await desk.store.finish(1.0)


async def test_a_copy_is_known_by_this_process_and_the_next(tmp_path: Path) -> None:
    """The same content under the same name was stored before, and stays as it was."""
    assert [(None, False), (None, True)] == await Desk(tmp_path).keep(("m.json", b"hello"), ("m.json", b"hello"))
    stamp = (tmp_path / "m.json").stat().st_mtime_ns
    assert [(None, True)] == await Desk(tmp_path).keep(("m.json", b"hello"))
    assert (["m.json"], stamp) == (names(tmp_path), (tmp_path / "m.json").stat().st_mtime_ns)


@pytest.mark.parametrize("what", ["file", "directory", "link", "dangling link", "unreadable"])
async def test_nothing_is_replaced_and_nothing_is_lost(tmp_path: Path, what: str) -> None:
    """Where the name is taken by something else, the content is kept beside it; a copy of that is known."""
    directory, other = tmp_path / "mail", tmp_path / "other"
    directory.mkdir(0o700)
    other.write_bytes(b"theirs")
    path = directory / "m.json"
    if what in ("file", "unreadable"):
        path.write_bytes(b"theirs")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to(other if what == "link" else tmp_path / "nowhere")
    if what == "unreadable":
        path.chmod(0)
    with capture_logs() as logs:
        assert [(None, False), (None, True)] == await Desk(directory).keep(("m.json", b"ours"), ("m.json", b"ours"))
    beside = [name for name in names(directory) if name != "m.json"]
    assert 1 == len(beside)
    assert b"ours" == (directory / beside[0]).read_bytes()
    assert beside[0].startswith("m.")
    assert beside[0].endswith(".json")
    assert b"theirs" == other.read_bytes()
    assert what == "dangling link" or path.exists()
    assert not (tmp_path / "nowhere").exists()
    assert ["another content has this name already: both are kept"] == [one["event"] for one in logs]


async def test_where_there_are_no_links_a_file_is_renamed_and_still_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on FAT and some volumes."""

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    contents = [("m.json", b"one"), ("m.json", b"one"), ("m.json", b"two")]
    assert [(None, False), (None, True), (None, False)] == await Desk(tmp_path).keep(*contents)
    assert [b"one", b"two"] == sorted((tmp_path / name).read_bytes() for name in names(tmp_path))


def full(*_: object) -> None:
    """What a full disk says."""
    raise OSError(errno.ENOSPC, "No space left on device: '/secret/path'")


async def test_what_fails_is_said_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the system's words, without paths; tried again it is stored, and it is no copy of itself."""
    desk = Desk(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert [("no space left on device", False)] * 2 == await desk.keep(("a.json", b"a"), ("b.json", b"b"))
    assert [] == names(tmp_path)
    assert [(None, False)] * 2 == await desk.keep(("a.json", b"a"), ("b.json", b"b"))
    assert ["a.json", "b.json"] == names(tmp_path)


async def test_a_file_whose_directory_could_not_be_synced_is_not_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its name already, and still counts as new when the same deposit is asked for again; another with the same content does not."""
    desk = Desk(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(filestore, "_sync", full)
        desk.driver.call(desk.session.ask, Store(1, "a.json", b"a"))
        await desk.answers(1)
    assert ["a.json"] == names(tmp_path)
    desk.driver.call(desk.session.ask, Store(1, "a.json", b"a"), Store(2, "a.json", b"a"))
    await desk.answers(3)
    assert [(1, "no space left on device", False), (1, None, False), (2, None, True)] == desk.session.told


async def test_a_directory_that_goes_away_is_made_again(tmp_path: Path) -> None:
    """The first one after it fails or not, the next ones are stored."""
    desk = Desk(tmp_path / "mail")
    assert [(None, False)] == await desk.keep(("a.json", b"a"))
    (tmp_path / "mail" / "a.json").unlink()
    (tmp_path / "mail").rmdir()
    assert [("no such file or directory", False)] == await desk.keep(("b.json", b"b"))
    assert [(None, False)] == await desk.keep(("b.json", b"b"))
    assert ["b.json"] == names(tmp_path / "mail")


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("a file"), lambda path: path.symlink_to("/nonexistent/x")])
async def test_a_directory_that_is_none_is_refused_with_a_reason(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    """At the start, and for each deposit."""
    spoil(tmp_path / "mail")
    desk = Desk(tmp_path / "mail")
    with pytest.raises(OSError, match=r"\[Errno"):
        desk.store.prepare()
    ((error, _),) = await desk.keep(("a.json", b"a"))
    assert error


def test_permissions_are_repaired_and_what_was_left_unfinished_is_said(tmp_path: Path) -> None:
    """A process that was killed leaves a file with a dot; it may be all that there is of something, so nobody removes it."""
    tmp_path.chmod(0o755)
    (tmp_path / ".m.json.1-1.part").write_bytes(b"ha")
    with capture_logs() as logs:
        FileStore(Driver("desk", Depositor()), Depositor(), tmp_path).prepare()
    assert 0o700 == tmp_path.stat().st_mode & 0o777
    assert ["permissions were too wide and are repaired", "files that an earlier process could not finish are left as they are"] == [
        one["event"] for one in logs
    ]
    assert [".m.json.1-1.part"] == names(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "../up", "/abs", "a/b", "nul\0"])
def test_a_name_that_is_none_is_misuse(tmp_path: Path, name: str) -> None:
    """It raises, and nothing is written anywhere."""
    with pytest.raises(ValueError, match="no name"):
        save(tmp_path, name, b"x")
    assert [] == names(tmp_path)


async def test_a_disk_that_hangs_holds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end waits for a bounded time and says what is lost; what was under way may still be stored."""
    go_on, save_one = threading.Event(), filestore.save

    def hang(directory: Path, name: str, content: bytes) -> bool:
        go_on.wait(10.0)
        return save_one(directory, name, content)

    monkeypatch.setattr(filestore, "save", hang)
    desk = Desk(tmp_path)
    desk.session.unstored = 1
    desk.driver.call(desk.session.ask, Store(1, "a.json", b"a"))
    with capture_logs() as logs:
        assert not await desk.store.finish(0.05)
    assert [("what could not be stored is lost with this process", 1)] == [(one["event"], one["deposits"]) for one in logs]
    assert desk.store.busy
    go_on.set()
    desk.session.unstored = 0
    assert await desk.store.finish(10.0)
    assert ([(1, None, False)], ["a.json"]) == (desk.session.told, names(tmp_path))


async def test_a_slow_disk_tells_what_it_has_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when a whole batch is on it: whoever asked would think that it hangs. The order stays."""
    told: list[int] = []
    save_one = filestore.save
    desk = Desk(tmp_path)

    def slowly(directory: Path, name: str, content: bytes) -> bool:
        told.append(len(desk.session.told))
        return save_one(directory, name, content)

    monkeypatch.setattr(filestore, "save", slowly)
    monkeypatch.setattr(filestore, "BATCH_S", 0.0)
    assert [(None, False)] * 5 == await desk.keep(*((f"{number}.json", b"x") for number in range(5)))
    assert [0, 1, 2, 3, 4] == told


async def test_our_own_mistake_is_an_answer_too(tmp_path: Path) -> None:
    """It is said, and what it concerns is not forgotten."""
    with capture_logs() as logs:
        assert [("internal error: ValueError", False)] == await Desk(tmp_path).keep(("../up", b"x"))
    assert [("internal error in the store", "ValueError")] == [(one["event"], one["error"]) for one in logs]

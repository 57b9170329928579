"""When the file is read again, what is said about it, and that there is only ever one at a time: real files, doubles for the rest."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from syncwatch import reload
from syncwatch.config import Config, ConfigError, ConfigFile, Plan
from syncwatch.config.mistakes import Mistake
from syncwatch.reload import STOPPING, Reload
from syncwatch.runtime.clock import Clock

NOT = "the configuration was not reloaded, what ran before goes on"
DONE = "the configuration was reloaded"
SAME = "the configuration was reloaded: nothing changed"


class House:
    """A file, and an app that only writes down what it is told to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "syncwatch.yaml"
        (folder / "token").write_text("at_live_1")
        self.write()
        self.now, self.wall_s = 100.0, 1_000.0
        self.config = self.file.startable(self.file.text())
        self.done: list[Plan] = []
        self.working = 0
        self.at_work = asyncio.Event()
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.reload = Reload(self.file, lambda: self.config, self.perform, Clock(lambda: self.now, lambda: self.wall_s))
        self.reload.begin()

    @property
    def file(self) -> ConfigFile:
        """As the command makes it."""
        return ConfigFile(self.path, {})

    def write(self, more: str = "", name: str = "cast", token: str = "token") -> None:
        """What the file says."""
        connection = f"{{name: {name}, protocol: relaycast, url: 'http://h:1', token_file: {self.folder / token}}}"
        self.path.write_text(f"connections: [{connection}]\n{more}\n")

    async def perform(self, config: Config, plan: Plan) -> None:
        """Never two at once."""
        self.working += 1
        assert 1 == self.working
        self.at_work.set()
        await self.let_go.wait()
        self.config = config
        self.done.append(plan)
        self.working -= 1

    async def look(self, after_s: float = 30.0) -> None:
        """Time passes, the beat comes, and the look that it began ends."""
        self.now += after_s
        self.wall_s += after_s
        self.reload.beat(self.now)
        await self.quiet()

    async def quiet(self) -> None:
        """Everything that was begun has ended."""
        while self.reload._tasks:
            await asyncio.wait(self.reload._tasks, timeout=5.0)

    @property
    def told(self) -> tuple[bool, float | None, tuple[str, ...]]:
        """What metrics and /status say."""
        return self.reload.successful, self.reload.success_wall_s, self.reload.errors


@pytest.fixture
async def house(tmp_path: Path) -> House:
    """Running."""
    return House(tmp_path)


@pytest.fixture
def log() -> Iterator[list[EventDict]]:
    """What is said."""
    with capture_logs() as lines:
        yield lines


def events(log: list[EventDict]) -> list[str]:
    """The sentences."""
    return [line["event"] for line in log]


async def test_asked_for(house: House, log: list[EventDict]) -> None:
    """Read, planned, performed, told; and the start was a success of its own."""
    assert (True, 1_000.0, ()) == house.told
    house.write("auto_reload: 5s", name="other")
    house.wall_s = 2_000.0
    assert () == await house.reload.now()
    assert [Plan(added=("other",), removed=("cast",), others=("auto_reload",))] == house.done
    assert (True, 2_000.0, ()) == house.told
    assert [{"event": DONE, "log_level": "info", "added": ("other",), "removed": ("cast",), "keys": ("auto_reload",)}] == log


async def test_the_same_again_is_a_success_that_changes_nothing(house: House, log: list[EventDict]) -> None:
    """Whoever asked gets an answer, and the time of the last success is now."""
    house.wall_s = 2_000.0
    assert () == await house.reload.now()
    assert ([{}], True, 2_000.0, [SAME]) == ([plan.changes for plan in house.done], *house.told[:2], events(log))


async def test_a_wrong_file_changes_nothing(house: House, log: list[EventDict]) -> None:
    """Every mistake with its line, in the answer and in the log; right again is a success."""
    house.write("log: {level: loud}\nhealth: {degraded_after: 5}\nnonsense: 1", name="other")
    house.wall_s = 2_000.0
    errors = await house.reload.now()
    assert [f"{house.path}:2: log.level", f"{house.path}:3: health.degraded_after", f"{house.path}:4: nonsense"] == [
        ": ".join(line.split(": ")[:2]) for line in errors
    ]
    assert ([], (False, 1_000.0, tuple(errors))) == (house.done, house.told)
    assert [(NOT, "error", line) for line in errors] == [(one["event"], one["log_level"], one["mistake"]) for one in log]
    house.write()
    assert () == await house.reload.now()
    assert (True, 2_000.0, ()) == house.told


async def test_what_needs_a_restart_is_refused_as_a_whole(house: House) -> None:
    """Nothing is half applied: the new connection does not come either."""
    house.write("listen: 127.0.0.1:9", name="other")
    errors = await house.reload.now()
    assert [f"{house.path}:2: listen: a change from 0.0.0.0:10119 to 127.0.0.1:9 needs a restart"] == list(errors)
    assert ([], False) == (house.done, house.reload.successful)


async def test_files_that_it_names_must_be_there(house: House) -> None:
    """What runs does not give a token away for one that is not there; a secret that is mounted later than the configuration is waited for."""
    house.write("auto_reload: 5s", token="new")
    assert [f"{house.path}:1: connections[0].token_file: {house.folder / 'new'}: no such file"] == list(await house.reload.now())
    (house.folder / "new").write_text("at_live_1")
    await house.look()
    assert ([("auto_reload",)], True) == ([plan.others for plan in house.done], house.reload.successful)


async def test_what_is_missing_already_keeps_nothing_from_changing(house: House) -> None:
    """A token that vanished, or was not there at the start, is the trouble of its connection alone."""
    (house.folder / "token").unlink()
    await house.look()
    assert (True, ()) == (house.reload.successful, house.reload.errors)
    house.write("auto_reload: 5s")
    assert () == await house.reload.now()
    assert [("auto_reload",)] == [plan.others for plan in house.done]


async def test_a_file_that_is_gone(house: House) -> None:
    """Said like any mistake."""
    house.path.unlink()
    assert [f"{house.path}: no such file"] == list(await house.reload.now())


class TestLooking:
    async def test_nothing_new_is_nothing(self, house: House, log: list[EventDict]) -> None:
        """Neither said nor stamped, the first look included; and it comes as often as configured."""
        for _ in range(3):
            await house.look()
        assert ([], (True, 1_000.0, ()), []) == (house.done, house.told, log)
        house.write("auto_reload: 5s")
        await house.look(29.9)
        assert [] == house.done
        await house.look(0.1)
        assert 1 == len(house.done)
        house.write("auto_reload: 6s")
        await house.look(5.0)
        assert 2 == len(house.done)

    async def test_switched_off(self, house: House) -> None:
        """0s: only when asked."""
        house.write("auto_reload: 0s")
        await house.look()
        house.write("auto_reload: 1s")
        await house.look(10_000.0)
        assert 1 == len(house.done)
        await house.reload.now()
        assert 2 == len(house.done)

    async def test_the_first_look_finds_what_changed_since_the_start(self, house: House) -> None:
        """Between the command's reading and the first look a file may have been swapped."""
        house.write("auto_reload: 5s")
        await house.look()
        assert [("auto_reload",)] == [plan.others for plan in house.done]

    async def test_content_decides_and_not_its_time(self, house: House) -> None:
        """A comment is a new content, a touch is none."""
        await house.look()
        house.path.touch()
        await house.look()
        assert [] == house.done
        house.write("# a comment")
        await house.look()
        assert [{}] == [plan.changes for plan in house.done]

    async def test_a_swapped_directory(self, house: House) -> None:
        """As Kubernetes changes a ConfigMap: the file is a link through a link to a directory, which is renamed over."""
        text = house.path.read_text()
        house.path.unlink()
        for version, more in (("v1", ""), ("v2", "auto_reload: 5s\n")):
            (house.folder / version).mkdir()
            (house.folder / version / "syncwatch.yaml").write_text(text + more)
        (house.folder / "..data").symlink_to("v1")
        house.path.symlink_to("..data/syncwatch.yaml")
        await house.look()
        assert [] == house.done
        (house.folder / "..data_tmp").symlink_to("v2")
        (house.folder / "..data_tmp").rename(house.folder / "..data")
        await house.look()
        assert 5.0 == house.config.auto_reload_s

    async def test_a_pipe_is_not_looked_at(self, house: House, log: list[EventDict]) -> None:
        """A configuration from standard input: it was read at the start, and a look would find nothing or wait for ever."""
        house.path.unlink()
        os.mkfifo(house.path)
        await house.look()
        assert ([], []) == (house.done, log)

    async def test_a_wrong_file_is_told_once_and_looked_at_until_it_is_right(self, house: House, log: list[EventDict]) -> None:
        """Again only when the mistakes are others; the old content is right as well."""
        text = house.path.read_text()
        house.write("nonsense: 1")
        for _ in range(3):
            await house.look()
        assert [NOT] == events(log)
        house.write("rubbish: 1")
        await house.look()
        assert [NOT, NOT] == events(log)
        house.reload.hangup()
        await house.quiet()
        assert [NOT, NOT, NOT] == events(log), "whoever asks by a signal has nothing but the log"
        assert (False, 1_000.0) == house.told[:2]
        house.path.write_text(text)
        await house.look()
        assert (True, house.wall_s, ()) == house.told
        assert [NOT, NOT, NOT, SAME] == events(log)


class TestOneAtATime:
    async def test_a_second_request_waits_and_further_ones_share_it(self, house: House) -> None:
        """The one at work has read the file already; what was written since is not lost."""
        house.let_go.clear()
        house.write("auto_reload: 5s")
        first = asyncio.create_task(house.reload.now())
        await house.at_work.wait()
        house.write("auto_reload: 6s")
        others = [asyncio.create_task(house.reload.now()) for _ in range(10)]
        house.reload.hangup()
        house.reload.beat(10_000.0)
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in (first, *others))
        house.let_go.set()
        assert [()] * 11 == await asyncio.gather(first, *others)
        assert (2, 6.0) == (len(house.done), house.config.auto_reload_s)

    async def test_before_the_app_runs_it_waits(self, house: House) -> None:
        """A hangup that comes with the start is not lost."""
        early = Reload(house.file, lambda: house.config, house.perform)
        house.write("auto_reload: 5s")
        early.hangup()
        asked = asyncio.create_task(early.now())
        await asyncio.sleep(0.01)
        assert [] == house.done
        early.begin()
        assert () == await asked
        assert 1 == len(house.done)

    async def test_whoever_gives_up_waiting_stops_nothing(self, house: House) -> None:
        """The request of a client that went away is carried out."""
        house.write("auto_reload: 5s")
        asked = asyncio.create_task(house.reload.now())
        await asyncio.sleep(0)
        asked.cancel()
        await house.quiet()
        assert 1 == len(house.done)


class TestTheEnd:
    async def test_nothing_begins_any_more(self, house: House, log: list[EventDict]) -> None:
        """It is said to whoever asks, and counts as nothing."""
        house.write("auto_reload: 5s")
        await house.reload.close()
        assert (STOPPING,) == tuple(await house.reload.now())
        assert ([], True, []) == (house.done, house.reload.successful, log)

    async def test_a_reading_that_hangs_keeps_nobody(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answered at the end at the latest; and nothing is applied that comes after it."""
        go = threading.Event()
        monkeypatch.setattr(ConfigFile, "text", lambda _: go.wait(10.0) and "connections: []")
        asked = asyncio.create_task(house.reload.now())
        await asyncio.sleep(0.01)
        await house.reload.close()
        assert (STOPPING,) == tuple(await asked)
        go.set()
        assert [] == house.done


async def test_a_file_that_cannot_be_read_in_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that hangs: answered, with one thread at most; when it moves again, what it brings then is read."""
    monkeypatch.setattr(reload, "READ_TIMEOUT_S", 0.02)
    go, begun = threading.Event(), []

    def text(file: ConfigFile) -> str:
        begun.append(1)
        go.wait(10.0)
        return file.path.read_text()

    monkeypatch.setattr(ConfigFile, "text", text)
    for _ in range(3):
        assert [f"{house.path}: could not be read within 0.02 s"] == list(await house.reload.now())
    assert 1 == len(begun)
    go.set()
    monkeypatch.setattr(reload, "READ_TIMEOUT_S", 5.0)
    house.write("auto_reload: 5s")
    assert () == await house.reload.now()
    assert 5.0 == house.config.auto_reload_s


async def test_a_bug_of_ours_is_told(house: House, log: list[EventDict], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the work nothing was changed, and the next one may go well; in the middle of it only a restart helps."""

    def broken(*_: object) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(ConfigFile, "runnable", broken)
        assert [f"{house.path}: {reload.INTERNAL}"] == list(await house.reload.now())
    assert "internal error while the configuration was read" == log[0]["event"]
    with monkeypatch.context() as patch:
        patch.setattr(reload, "plan", broken)
        with pytest.raises(ZeroDivisionError):
            await house.reload.now()
    assert "internal error while the configuration was applied" == log[-1]["event"]
    assert (f"{house.path}: {reload.INTERNAL}",) == house.reload.errors
    assert () == await house.reload.now()
    assert house.reload.successful
    monkeypatch.setattr(house.reload, "_perform", broken)
    with pytest.raises(ZeroDivisionError):
        await house.reload.now()
    await house.look()
    assert [f"{house.path}: {reload.BROKEN}"] == list(await house.reload.now()) == list(house.reload.errors)
    assert not house.reload.successful


async def test_what_cannot_be_had_after_all(tmp_path: Path) -> None:
    """A file that was there when it was checked and is gone when it is needed: refused like any mistake, tried again at the next look, and nothing is broken."""
    house = House(tmp_path)
    real, mistake = house.reload._perform, Mistake("syncwatch.yaml", 3, "connections[0].identity_file", "/run/seed: no such file or directory")

    async def refuse(config: Config, plan: Plan) -> None:
        raise ConfigError([mistake])

    house.reload._perform = refuse
    house.write(name="other")
    with capture_logs() as logs:
        assert [str(mistake)] == list(await house.reload.now())
    assert [NOT] == [line["event"] for line in logs]
    assert (False, (str(mistake),)) == (house.reload.successful, house.reload.errors)
    house.reload._perform = real
    await house.look()
    assert (True, ()) == (house.reload.successful, house.reload.errors)
    assert [("other",)] == [plan.added for plan in house.done]

"""What hosts offer: several registries, names that are taken, files that cannot be used now, a disk that hangs. And the library beside a host."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from syncwatch import Watch
from syncwatch.config import Config, parse
from syncwatch.parts import host as hosts
from syncwatch.parts.host import LOOK_S, Offers
from syncwatch.runtime.reportfile import read

HERE = "http://127.0.0.1:1/"


def config(*files: Path | None, services: str = "") -> Config:
    """One passive connection for each registry, and these configured services."""
    connections = [
        {"name": f"c{number}", "protocol": "tps", "state_path": "/s", "branch": "b1", "services_file": None if file is None else str(file)}
        for number, file in enumerate(files)
    ]
    blocks = [{"name": name, "url": HERE} for name in services.split()]
    return parse(json.dumps({"connections": connections, "services": blocks}), "x.yaml", {})


def write(path: Path, *names: str) -> Path:
    """A registry of these services."""
    path.write_text(json.dumps({name: {"url": HERE} for name in names}))
    return path


def names(offers: Offers) -> list[str]:
    """What is to be asked."""
    return [one.name for one in offers.services]


async def settled(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never held")


async def test_names_are_unique(tmp_path: Path) -> None:
    """A configured service has its name first, then the first registry; one registry of two connections is read once."""
    one, two = write(tmp_path / "one", "a", "b", "c"), write(tmp_path / "two", "c", "d")
    offers = Offers(lambda: None)
    await offers.configure(config(one, two, one, None, services="b"))
    assert ["a", "c", "d"] == names(offers)
    assert (one, two) == hosts.registries(config(one, two, one, None))
    await offers.configure(config(two))
    assert ["c", "d"] == names(offers)
    await offers.configure(config(None))
    assert [] == names(offers)


async def test_it_follows_the_file(tmp_path: Path) -> None:
    """Read every few seconds, told when it is something else; not understood, it stays what it was; gone, it is empty."""
    file, told = write(tmp_path / "one", "a"), []
    offers = Offers(lambda: told.append(names(offers)))
    await offers.configure(config(file))
    now = 0.0

    async def read_again(expected: list[list[str]]) -> None:
        nonlocal now
        now += LOOK_S
        offers.beat(now)
        await settled(lambda: offers._reading is None)
        assert expected == told
        told.clear()

    await read_again([])
    write(file, "a", "b")
    await read_again([["a", "b"]])
    offers.beat(now + LOOK_S / 2)
    assert offers._reading is None
    with capture_logs() as logged:
        file.write_text('{"a": {')
        await read_again([["a", "b"]])
        await read_again([])
    assert 1 == len(logged)
    [remark] = offers.remarks(file)
    assert remark.startswith(f"{file} is not a registry of services: ")
    file.unlink()
    file.symlink_to(write(tmp_path / "two", "z"))
    await read_again([["a", "b"]])
    assert (f"{file} is a link, which is not followed",) == offers.remarks(file)
    file.unlink()
    await read_again([[]])
    assert () == offers.remarks(file) == offers.remarks(None)


async def test_a_disk_that_hangs_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start waits for a moment, and reads later; there is never a second reader beside the regular one."""
    go, readers = threading.Event(), list[Path]()

    def slow(path: Path) -> Any:
        readers.append(path)
        go.wait(20.0)
        return read(path)

    monkeypatch.setattr(hosts, "read", slow)
    file, told = write(tmp_path / "one", "a"), []
    offers = Offers(lambda: told.append(names(offers)))
    await offers.configure(config(file), timeout_s=0.05)
    assert [] == names(offers)
    for beat in range(1, 5):
        offers.beat(beat * LOOK_S)
        await asyncio.sleep(0)
    go.set()
    await settled(lambda: told)
    assert ([["a"]], [file, file]) == (told, readers)


async def test_the_library_beside_a_host(tmp_path: Path) -> None:
    """`get_health_status()` and the gate work without a ledger; a connection of our own beside it is not needed."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    state = {
        "branch": "b1", "connectedAt": now, "lastHeartbeatSent": now, "lastHeartbeatAck": now, "reconnectCount": 0, "messagesSent": 1,
        "messagesReceived": 1, "pid": os.getpid(),
    }  # fmt: skip
    (tmp_path / "b1.json").write_text(json.dumps(state))
    began_s = time.monotonic()
    async with Watch({"connections": [{"name": "b", "protocol": "tps", "state_path": str(tmp_path), "branch": "b1"}]}) as watch:
        await settled(lambda: watch.get_health_status().synced)
        status = watch.get_health_status()
        assert (True, "open", None, 0, None) == (status.may_read, status.state, status.degraded_reason, status.reconnects, status.consecutive_failures)
    assert time.monotonic() - began_s < 20.0

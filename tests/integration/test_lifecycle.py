"""A real sidecar's beginning and end: what it says at the start, how signals end it whatever goes on, and what it never tells anybody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncwatch.relay.kinds import Freeze, Hang, Outage
from syncwatch.relay.ledger import Closed, Refused
from tests.integration.sidecar import OPENMETRICS, PATIENCE_S, PROMPTLY_S, WATCHER, Document, Rig, Sidecar, holds, rig

SLOW: dict[str, Any] = {"heartbeat": {"interval": "60s", "timeout": "60s"}, "connect_timeout": "60s"}


def state_of(it: Rig) -> Document:
    """What the state file says about the connection."""
    state: Document = json.loads((it.folder / "state" / "state.json").read_bytes())
    point: Document = state["connections"]["cast"]
    return point


def text_of(path: str | Path) -> str:
    """What a file says."""
    return Path(path).read_text()


async def ends_well(it: Rig, sidecar: Sidecar, number: signal.Signals) -> None:
    """Exit code 0 without waiting for anything, the state saved, and no traceback."""
    code, took_s = await sidecar.end(number)
    assert 0 == code, sidecar.text()
    assert took_s <= PROMPTLY_S
    assert "Traceback" not in sidecar.text()
    assert not sidecar.log("the state file could not be written in time")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    """The socket is closed with 1000 (the relay's own words), and the state file has the last event."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        it.post(20)
        await sidecar.caught_up(it.relay)
        sidecar.process.send_signal(number)  # and once more, as impatient people do
        await ends_well(it, sidecar, number)
        await holds(lambda: it.relay.ledger.of(Closed, WATCHER))
        closed = it.relay.ledger.of(Closed, WATCHER)
        assert [("closed", "client", 1000, "going away")] == [(one.how, one.by, one.code, one.reason) for one in closed]
        assert it.relay.find(WATCHER).counter == state_of(it)["cursor"]
        assert "closed" == sidecar.log("state")[-1]["to_state"]


async def in_an_outage(it: Rig, sidecar: Sidecar) -> None:
    """Refused over and over."""
    it.relay.faults.begin(Outage(status=503))
    await sidecar.until(lambda cast: cast["attempts"]["failures"]["rejected"] >= 2)


async def in_a_hanging_handshake(it: Rig, sidecar: Sidecar) -> None:
    """A handshake that will not be answered for a minute."""
    it.relay.faults.begin(Hang())
    it.relay.drop(WATCHER)
    await holds(lambda: it.relay.ledger.of(Refused))


async def half_open(it: Rig, sidecar: Sidecar) -> None:
    """A server that neither reads nor writes: our close frame will not be answered."""
    it.relay.faults.begin(Freeze(direction="both"))


async def with_everybody_asking(it: Rig, sidecar: Sidecar) -> None:
    """Somebody listens to /events, and somebody opened a connection and says nothing."""
    port = int(sidecar.local.rsplit(":", 1)[1])
    for words in (b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", b"", b"GET /status HT"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(words)
        if words.startswith(b"GET /events"):
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        LEFT_OPEN.append(writer)


LEFT_OPEN: list[asyncio.StreamWriter] = []
"""Connections of a test, so that they stay open until it closes them."""


@pytest.mark.parametrize(
    ("trouble", "number"),
    [
        (in_an_outage, signal.SIGTERM),
        (in_an_outage, signal.SIGINT),
        (in_a_hanging_handshake, signal.SIGTERM),
        (half_open, signal.SIGTERM),
        (with_everybody_asking, signal.SIGINT),
    ],
)
async def test_a_signal_in_the_middle_of_trouble(
    tmp_path: Path, trouble: Callable[[Rig, Sidecar], Any], number: signal.Signals
) -> None:
    """The same, whatever the upstream does and whoever asks at that moment."""
    async with rig(tmp_path, cast=SLOW) as it, it.sidecar() as sidecar:
        it.post(5)
        cursor = (await sidecar.caught_up(it.relay))["ledger"]["cursor"]
        await trouble(it, sidecar)
        await ends_well(it, sidecar, number)
        assert cursor == state_of(it)["cursor"]
        while LEFT_OPEN:
            writer = LEFT_OPEN.pop()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_on_the_standard_loop(tmp_path: Path) -> None:
    """Where uvloop is not installed everything goes on asyncio's own loop."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "uvloop.py").write_text("raise ImportError('not installed here')\n")
    async with rig(tmp_path) as it, it.sidecar(PYTHONPATH=str(shadow)) as sidecar:
        assert "uvloop" not in text_of(f"/proc/{sidecar.pid}/maps")
        it.post(3)
        it.relay.drop(WATCHER)
        it.post(300)
        cast = await sidecar.caught_up(it.relay)
        assert 600 == cast["ledger"]["missed"]
        await ends_well(it, sidecar, signal.SIGTERM)
        assert 1000 == it.relay.ledger.of(Closed, WATCHER)[-1].code


async def test_a_corrupt_state_file_is_set_aside(tmp_path: Path) -> None:
    """One clear line with both names; the file is kept, a fresh state begins, and the sidecar runs."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    spoilt = b'{"schema":1,"instance":"x","connections":{"cast":{"cursor":'
    (folder / "state.json").write_bytes(spoilt)
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        line = await sidecar.said("the state file is corrupt: set aside, starting fresh")
        assert ("error", str(folder / "state.json")) == (line["level"], line["path"])
        assert spoilt.decode() == text_of(line["aside"])
        repaired = await sidecar.logged("permissions were too wide and are repaired", lambda lines: [one for one in lines if one["path"] == str(folder)])
        assert ["0o755"] == [one["mode"] for one in repaired if one["path"] == str(folder)]
        it.post(3)
        cast = await sidecar.caught_up(it.relay)
        assert 0 == cast["ledger"]["missed"]
        await sidecar.end()
        assert it.relay.find(WATCHER).counter == state_of(it)["cursor"]
        assert [0o700, 0o600, 0o600] == [path.stat().st_mode & 0o777 for path in (folder, folder / "state.json", folder / "status.json")]


async def test_without_a_state_dir(tmp_path: Path) -> None:
    """It is said once that a restart will not resume."""
    async with rig(tmp_path, state_dir=None) as it, it.sidecar() as sidecar:
        line = await sidecar.said("no state_dir: a restart will not resume")
        assert "info" == line["level"]
        scrape = await sidecar.scrape()
        assert [] == scrape.all("syncwatch_statefile_write_failures_total"), "what is not there is absent, not 0"
        assert (0, True) == ((await sidecar.end())[0], not (tmp_path / "state").exists())


async def test_a_state_dir_that_cannot_be_written(tmp_path: Path) -> None:
    """A file stands where the directory should be: said, counted, and the sidecar watches all the same."""
    (tmp_path / "state").write_text("a file")
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        it.post(3)
        await sidecar.caught_up(it.relay)
        await sidecar.said("the state file cannot be used: a restart will not resume")
        assert (await sidecar.scrape()).value("syncwatch_statefile_write_failures_total") >= 1
        assert (200, "ok") == await sidecar.probe("/livez")
        await ends_well(it, sidecar, signal.SIGTERM)


async def test_the_token_is_told_to_nobody(tmp_path: Path) -> None:
    """Not in a log at its most talkative, a metric, a page, the status, an event, a file of its own, or the process list, through refusals and garbage."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        it.relay.inject(WATCHER, f'{{"type":"odd","echo":"{it.token}"')
        with it.relay.faults.refusing(401, times=1):
            it.relay.close_sockets(WATCHER, 4001, f"bad token {it.token[:20]}?token={it.token}")
            await sidecar.until(lambda cast: cast["state"] == "failed")
        renewed = it.relay.directory.rotate_token(it.relay.find(WATCHER).workspace, WATCHER)["token"]
        it.token_file.write_text(renewed)
        await sidecar.caught_up(it.relay)
        told = {
            "metrics": (await sidecar.scrape()).text,
            "openmetrics": (await sidecar.scrape(OPENMETRICS)).text,
            "status": json.dumps(await sidecar.status()),
            "gate": json.dumps(await sidecar.gate()),
            "healthz": (await sidecar.probe("/healthz?verbose"))[1],
            "readyz": (await sidecar.probe("/readyz?verbose"))[1],
            "landing": (await sidecar.get(f"{sidecar.public}/"))[1],
            "page": (await sidecar.get(f"{sidecar.local}/"))[1],
            "events": await events(sidecar, "unauthorized"),
            "cmdline": text_of(f"/proc/{sidecar.pid}/cmdline"),
            "environ": text_of(f"/proc/{sidecar.pid}/environ"),
        }
        await sidecar.end()
        told |= {"log": sidecar.text(), "state": text_of(tmp_path / "state" / "state.json"), "status file": text_of(tmp_path / "state" / "status.json")}
        assert [] == [place for place, text in told.items() for token in (it.token, renewed) if token in text]
        assert all(told.values()), "nothing was asked in vain"


async def events(sidecar: Sidecar, words: str) -> str:
    """The history that `/events` begins with, in which these words must be."""
    async with sidecar.http.get(f"{sidecar.local}/events") as stream:
        assert 200 == stream.status
        told = b""
        async with asyncio.timeout(PATIENCE_S):
            async for chunk in stream.content.iter_any():
                told += chunk
                if words.encode() in told:
                    break
        assert words.encode() in told
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):  # and whatever else there is
                async for chunk in stream.content.iter_any():
                    told += chunk
        return told.decode()


async def test_events_tell_what_happens_as_it_happens(tmp_path: Path) -> None:
    """A listener hears of a drop and of the recovery in order, each with its kind and its fields."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar, sidecar.http.get(f"{sidecar.local}/events") as stream:
        assert "text/event-stream" == stream.content_type
        it.relay.drop(WATCHER)
        it.post(5)
        heard: list[tuple[str, Document]] = []
        async with asyncio.timeout(PATIENCE_S):
            kind = ""
            async for line in stream.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                kind = value if name == "event" else kind
                if name == "data":
                    heard.append((kind, json.loads(value)["fields"]))
                if heard and heard[-1][0] == "resynced":
                    break
        after = [kind for kind, _ in heard][[kind for kind, _ in heard].index("disconnected") :]
        assert ["disconnected", "state", "established", "state", "gap", "resynced"] == [kind for kind in after if kind != "gate"]
        assert "gate" in after, "it closed at once, and the look that found it came between"
        assert (10, "verified") == (heard[-1][1]["recovered"], heard[-1][1]["verdict"])


"""The canary end to end: written through the relay's HTTP interface, seen on the live connection, and what it tells nobody else could.

In the test's own process, because a configuration may not ask for one more often than every 30 s: the interval is set behind its back.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from syncwatch import settings
from syncwatch.app import App
from syncwatch.config import RelaycastConnection, parse
from syncwatch.core.canary import Canary
from syncwatch.protocols.relaycast import Relaycast
from tests.integration.sidecar import WATCHER, Asked, Rig, Scrape, rig

INTERVAL_S, TIMEOUT_S = 0.2, 1.0
OFFSET_S = 600.0


class Seen(NamedTuple):
    """A running app beside a relay."""

    it: Rig
    sidecar: Asked

    async def canaries(self, at_least: int, counter: str = "received") -> Scrape:
        """Wait for that many, then scrape."""
        await self.sidecar.until(lambda cast: cast["canary"][counter] >= at_least)
        return await self.sidecar.scrape()


@asynccontextmanager
async def watching(folder: Path, **canary: Any) -> AsyncIterator[Seen]:
    """The app with its canary switched on."""
    async with rig(folder, cast={"canary": {"enabled": True, **canary}}) as it:
        app = App(parse(yaml.safe_dump(it.config), "test", {}))
        await app.start()
        try:
            yield Seen(it, Asked(f"http://{app.addresses['listen']}", f"http://{app.addresses['local_listen']}", it.http))
        finally:
            await app.stop()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary every 200 ms."""

    def canary(connection: RelaycastConnection, codec: Relaycast) -> Canary | None:
        return Canary(codec, INTERVAL_S, TIMEOUT_S) if connection.canary.enabled else None

    monkeypatch.setattr(settings, "canary", canary)


async def test_a_canary_goes_round(tmp_path: Path) -> None:
    """Its channel is made on the first 404; each arrives live once; with it the clock offset and the latency of events are known."""
    async with watching(tmp_path) as seen:
        scrape = await seen.canaries(3)
        prefix = "syncwatch_canaries"
        assert 3 <= scrape.value(f"{prefix}_received_total") <= scrape.value(f"{prefix}_sent_total")
        assert [0, 0, 0, 0] == [scrape.value(f"{prefix}_{fate}_total") for fate in ("timed_out", "late", "duplicate", "failed")]
        count = scrape.value("syncwatch_canary_round_trip_seconds_count")
        assert count == scrape.value(f"{prefix}_received_total")
        assert 0 < scrape.value("syncwatch_canary_round_trip_seconds_sum") / count < 0.5
        assert abs(scrape.value("syncwatch_clock_offset_seconds")) < 0.5
        assert scrape.value("syncwatch_event_latency_seconds_count") >= 1
        watcher = seen.it.relay.find(WATCHER)
        assert [watcher] == list(watcher.workspace.channels["syncwatch"].members.values()), "nobody else gets them"
        assert 0 == scrape.value("syncwatch_sequence_missed_total")


async def test_a_server_with_another_clock(tmp_path: Path) -> None:
    """Ten minutes ahead: the offset says so, and latency is corrected by it."""
    async with watching(tmp_path) as seen:
        with seen.it.relay.faults.clock_off(OFFSET_S):
            scrape = await seen.canaries(3)
            assert OFFSET_S - 1 < scrape.value("syncwatch_clock_offset_seconds") < OFFSET_S + 1
            count = scrape.value("syncwatch_event_latency_seconds_count")
            assert scrape.value("syncwatch_event_latency_seconds_sum") < count * 0.5


async def test_a_canary_that_never_arrives(tmp_path: Path) -> None:
    """The write succeeds, the push path is dead: timed out, the incident `canary_lost`; what the tip check brings later came late."""
    async with watching(tmp_path) as seen:
        await seen.canaries(1)
        await seen.sidecar.until(lambda cast: cast["verification"]["results"]["verified"])  # the next tip check is a minute away
        with seen.it.relay.faults.stalling(agent=WATCHER):
            scrape = await seen.canaries(2, "timed_out")
            assert 0 == scrape.value("syncwatch_canaries_late_total")
            status = await seen.sidecar.status()
            assert "canary_lost" in {one["reason"] for one in status["reasons"]}
            assert 200 == (await seen.sidecar.gate())[0], "an incident closes nothing"
        seen.it.relay.drop(WATCHER)
        scrape = await seen.canaries(2, "late")
        assert scrape.value("syncwatch_canaries_late_total") <= scrape.value("syncwatch_canaries_timed_out_total")


async def test_a_refused_write_is_no_lost_canary(tmp_path: Path) -> None:
    """429 with Retry-After: counted as failed, the next one waits, and nothing is said about the stream."""
    async with watching(tmp_path) as seen:
        await seen.canaries(1)
        with seen.it.relay.faults.rate_limiting(retry_after_s=1.0, times=1):
            scrape = await seen.canaries(1, "failed")
            sent = scrape.value("syncwatch_canaries_sent_total")
            assert 0 == scrape.value("syncwatch_canaries_timed_out_total")
        await seen.canaries(int(sent) + 1, "sent")
        assert 0 == (await seen.sidecar.scrape()).value("syncwatch_canaries_timed_out_total")
        status = await seen.sidecar.status()
        assert "canary_lost" not in {one["reason"] for one in status["reasons"]}


async def test_a_token_of_its_own(tmp_path: Path) -> None:
    """Written by another agent, seen by ours, which joined the channel before."""
    own = tmp_path / "canary-token"
    async with rig(tmp_path) as it:
        watcher = it.relay.find(WATCHER)
        own.write_text(it.relay.directory.create_agent(watcher.workspace, "canary")["token"])
        it.relay.directory.create_channel(watcher.workspace, "canaries", None, {}, None)
        for agent in ("canary", WATCHER):
            it.relay.join(agent, "canaries")
        connection = it.config["connections"][0]
        connection["canary"] = {"enabled": True, "channel": "canaries", "token_file": str(own)}
        app = App(parse(yaml.safe_dump(it.config), "test", {}))
        await app.start()
        try:
            seen = Seen(it, Asked(f"http://{app.addresses['listen']}", f"http://{app.addresses['local_listen']}", it.http))
            await seen.canaries(2)
            assert own.read_text() not in json.dumps(await seen.sidecar.status())
        finally:
            await app.stop()


async def test_switched_off_it_does_not_exist(tmp_path: Path) -> None:
    """No series, no clock offset, no latency: what is not known is absent, never 0. And nothing was written."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        it.post(3)
        await sidecar.caught_up(it.relay)
        scrape = await sidecar.scrape()
        for name in ("canaries_sent_total", "canaries_failed_total", "clock_offset_seconds", "event_latency_seconds_count"):
            assert [] == scrape.all(f"syncwatch_{name}")
        assert ["general"] == list(it.relay.find(WATCHER).workspace.channels)
        await sidecar.end()
        assert not sidecar.log("a canary is switched on: it writes")


async def test_switched_on_it_is_said(tmp_path: Path) -> None:
    """A real process: whoever reads the log learns that this sidecar writes, and where. The first one comes within five seconds."""
    async with rig(tmp_path, cast={"canary": {"enabled": True, "interval": "30s"}}) as it, it.sidecar(opened=False) as sidecar:
        said = await sidecar.said("a canary is switched on: it writes")
        assert ("info", "cast", "syncwatch") == (said["level"], said["connection"], said["target"])
        cast = await sidecar.until(lambda cast: cast["canary"]["received"] == 1)
        assert 0 == cast["canary"]["failed"]

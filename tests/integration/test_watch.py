"""The library against the embedded relay: the same truth as the sidecar's, told once per change, with nobody in the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs

from syncwatch import Watch, logs
from syncwatch.core.states import Verification
from syncwatch.relay import Relay
from syncwatch.relay.ledger import Closed
from tests.integration import test_relayfile_sidecar as relayfile
from tests.integration.sidecar import PROMPTLY_S, WATCHER, configuration, holds
from tests.loops import on_both_loops


@pytest.fixture(autouse=True)
def log_restored() -> Iterator[None]:
    """structlog's configuration is the process's: what a Watch leaves to `logging` ends with the test."""
    logs.leave_to_program()
    yield
    structlog.reset_defaults()


class Rig(NamedTuple):
    """A relay, and a Watch of it that is not started yet."""

    relay: Relay
    watch: Watch

    def post(self, count: int = 1) -> None:
        """Messages of alice: two events each for the watched agent."""
        for number in range(count):
            self.relay.post("alice", "general", f"message {number}")

    async def caught_up(self) -> None:
        """Wait until the Watch has every number that the relay gave."""
        await holds(lambda: self.watch.get_health_status().cursor == self.relay.find(WATCHER).counter)


def values(relay: Relay, folder: Path, **changes: Any) -> dict[str, Any]:
    """A configuration with short intervals."""
    config = configuration(relay.url, folder / "token", folder, changes)
    return {key: value for key, value in config.items() if key not in ("listen", "local_listen", "log")}


@asynccontextmanager
async def rig(folder: Path, **changes: Any) -> AsyncIterator[Rig]:
    """With the agents `watch` and `alice`."""
    async with Relay.start() as relay:
        workspace = relay.workspace("w")
        (folder / "token").write_text(relay.agent(workspace, WATCHER))
        relay.agent(workspace, "alice")
        yield Rig(relay, Watch(values(relay, folder, **changes)))


@on_both_loops()
async def test_an_outage_is_told_once_and_so_is_its_end(tmp_path: Path) -> None:
    """Degraded with its reason, the replay with what it brought, recovered; the status says it at once, and nothing is said of the stop."""
    async with rig(tmp_path) as it:
        watch, told, gaps = it.watch, list[Any](), list[int]()
        watch.on_gap(lambda missing: gaps.append(missing))

        @watch.on_degraded
        def degraded(name: str, reason: str, reasons: list[str]) -> None:
            told.append(("degraded", name, reason, reasons))

        @watch.on_recovered
        async def recovered(name: str, after_s: float) -> None:
            told.append(("recovered", name, after_s > 0))

        @watch.on_resynced
        async def resynced(replayed: int, gap_detected: bool, verdict: str, recovered: int, lost: int) -> None:
            told.append(("resynced", replayed, gap_detected, verdict, recovered, lost))

        async with watch:
            await watch.synced()
            it.post(3)
            await it.caught_up()
            status = watch.get_health_status()
            assert ("open", "healthy", False, True, 0) == (status.state, status.health, status.degraded, status.may_read, status.lost)
            with it.relay.faults.outage(status=503):
                await holds(lambda: watch.get_health_status().state == "reconnecting")
                status = watch.get_health_status()
                assert ("down", True, False, "reconnecting") == (status.health, status.degraded, status.may_read, status.degraded_reason)
                it.post(2)
                await holds(lambda: told)
            await holds(lambda: told[-1][0] == "recovered")
            await it.caught_up()
            status = watch.get_health_status()
            assert ("open", True, 1) == (status.state, status.may_read, status.reconnects)
            assert (status.missed, status.recovered) == (4, 4)
        assert ("recovered", "cast", True) == told[-1]
        assert [4] == gaps
        (replay,) = [one for one in told if one[0] == "resynced"]
        assert replay[1] >= 5, "the overlap and four events of messages"
        assert (False, "verified", 4, 0) == replay[2:]
        degradations = [one for one in told if one[0] == "degraded"]
        assert "reconnecting" in degradations[0][3]
        assert len(degradations) == len({tuple(one[3]) for one in degradations}), "each change of reasons once"
        await holds(lambda: it.relay.ledger.of(Closed, WATCHER)[-1].code == 1000)


@on_both_loops()
async def test_a_gap_is_told_as_it_is_confirmed(tmp_path: Path) -> None:
    """With its numbers; the resync that follows repairs it."""
    async with rig(tmp_path) as it:
        gaps, resyncs = list[Any](), list[Any]()
        it.watch.on_gap(lambda cause, first, last, missing: gaps.append((cause, first, last, missing)))
        it.watch.on_resynced(lambda **values: resyncs.append(values))
        async with it.watch:
            await it.watch.synced()
            it.post(1)
            await it.caught_up()
            await holds(lambda: it.watch._machinery.snapshot().connections[0].verifications[Verification.VERIFIED])  # the first check is over
            at = it.relay.find(WATCHER).counter
            with it.relay.faults.skipping(agent=WATCHER, seq=at + 2):
                it.post(2)
            await holds(lambda: resyncs)
            await it.caught_up()
        assert [("live", at + 2, at + 2, 1)] == gaps
        assert ("cast", 1, 0) == (resyncs[0]["connection"], resyncs[0]["recovered"], resyncs[0]["lost"])


@on_both_loops()
async def test_bad_callbacks_delay_nothing(tmp_path: Path) -> None:
    """One that raises and one that never ends: heartbeats are sent and answered, the count and the log tell of the one, the stop of the other."""
    async with rig(tmp_path) as it:
        hung: list[str] = []

        @it.watch.on_degraded
        async def hangs(name: str) -> None:
            hung.append(name)
            await asyncio.sleep(3600.0)

        @it.watch.on_degraded
        def raises() -> None:
            raise ValueError("mine")

        with capture_logs() as lines:
            async with it.watch:
                await it.watch.synced()
                with it.relay.faults.outage(status=503):
                    await holds(lambda: hung and it.watch.callback_errors)
                await holds(lambda: it.watch.get_health_status().state == "open")
                beats = it.watch._machinery.snapshot().connections[0].heartbeat
                await holds(lambda: it.watch._machinery.snapshot().connections[0].heartbeat.acknowledged >= beats.acknowledged + 3)
                assert beats.missed == it.watch._machinery.snapshot().connections[0].heartbeat.missed
                assert it.watch.callback_errors == it.watch._machinery.snapshot().sidecar.callback_errors
                began_s = time.monotonic()
            assert time.monotonic() - began_s < PROMPTLY_S
        events = [one["event"] for one in lines]
        assert 1 == events.count("callbacks were cut off at the end")
        assert it.watch.callback_errors == events.count("a callback raised") >= 1


async def test_nothing_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of ours is made; the relay, which has its own, is started before."""
    async with rig(tmp_path) as it:

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a listener")

        monkeypatch.setattr(web.AppRunner, "__init__", refuse)
        monkeypatch.setattr(web.TCPSite, "__init__", refuse)
        async with it.watch:
            await it.watch.synced()


async def test_waiting_for_the_first_sync_ends_with_the_watch(tmp_path: Path) -> None:
    """It raises then; and a timeout around it is the caller's."""
    async with rig(tmp_path) as it:
        with it.relay.faults.hanging():
            async with it.watch:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await it.watch.synced()
                waiting = asyncio.create_task(it.watch.synced())
                await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="stopped"):
                await waiting


async def test_it_resumes_where_the_last_one_stopped(tmp_path: Path) -> None:
    """The state file is the sidecar's own."""
    async with rig(tmp_path) as it:
        async with it.watch:
            await it.watch.synced()
            it.post(2)
            await it.caught_up()
        it.post(3)
        again = it._replace(watch=Watch(values(it.relay, tmp_path)))
        async with again.watch:
            await again.watch.synced()
            await again.caught_up()
            assert (6, 6) == (again.watch.get_health_status().missed, again.watch.get_health_status().recovered)


@on_both_loops()
async def test_a_polling_fallback_is_never_silent(tmp_path: Path) -> None:
    """The WebSocket alone is refused while the feed is fine: polling is told at once, whatever the damping, and closes the gate; its end is told as well."""
    async with relayfile.rig(tmp_path) as it:
        (block,) = it.config["connections"]
        watch, told = Watch({"connections": [block], "health": {"degraded_after": "1h", "recovered_after": "200ms"}}), list[Any]()
        watch.on_degraded(lambda name, reasons: told.append(("degraded", name, reasons)))
        watch.on_recovered(lambda name: told.append(("recovered", name)))
        async with watch:
            await watch.synced()
            with it.relay.faults.outage("refuse", protocol="relayfile", times=None):
                await holds(lambda: watch.get_health_status().state == "polling")
                status = watch.get_health_status()
                assert (True, False) == (status.degraded, status.may_read)
                assert "polling" in [one.reason for one in status.reasons]
                await holds(lambda: told)
                it.write(3)
                await holds(lambda: watch.get_health_status().cursor == it.newest)
            await holds(lambda: watch.get_health_status().state == "open" and len(told) > 1)
            assert [("degraded", "files", ["polling"]), ("recovered", "files")] == told
            assert (0, True) == (watch.get_health_status().missed, watch.get_health_status().may_read)

"""Killed and started again: the next process asks where the last one stopped, and counts from 0 what it recovers itself."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from syncwatch.relay.ledger import Request
from tests.integration.agreement import told_alike
from tests.integration.fold import Fold
from tests.integration.sidecar import WATCHER, Rig, Sidecar, holds, rig


async def saved(it: Rig, sidecar: Sidecar) -> int:
    """Wait until the state file has everything that the sidecar has; returns the cursor."""
    cursor: int = (await sidecar.caught_up(it.relay))["ledger"]["cursor"]
    file = it.folder / "state" / "state.json"

    def written() -> bool:
        try:
            return bool(json.loads(file.read_bytes())["connections"]["cast"]["cursor"] == cursor)
        except FileNotFoundError:
            return False

    await holds(written)
    return cursor


async def kill(sidecar: Sidecar) -> None:
    """SIGKILL: no last words."""
    code, _ = await sidecar.end(signal.SIGKILL)
    assert -signal.SIGKILL == code


async def test_killed_in_the_middle_of_an_outage(tmp_path: Path) -> None:
    """What was missed while it was down, while nobody ran and before the server came back is recovered, each event once, by the new process."""
    async with rig(tmp_path) as it:
        fold = Fold(WATCHER)
        async with it.sidecar() as sidecar:
            it.post(10)
            cursor = await saved(it, sidecar)
            first = await told_alike(it, sidecar, fold)
            before = (await sidecar.cast())["lifetime"]
            instance = (await sidecar.status())["sidecar"]["instance"]
            with it.relay.faults.outage(status=503):
                it.post(5, "down")
                await sidecar.until(lambda cast: cast["attempts"]["failures"]["rejected"] >= 1)
                await kill(sidecar)
        outage = it.relay.faults.outage(status=503)
        with outage:
            it.post(5, "nobody there")
            fold.take(it.relay.ledger.after(fold.taken))
            fold.restarted()
            async with it.sidecar(opened=False) as sidecar:
                resumed = await sidecar.said("resumed")
                assert (cursor, 1) == (resumed["cursor"], resumed["epoch"])
                await sidecar.until(lambda cast: cast["attempts"]["failures"]["rejected"] >= 1)
                scrape = await sidecar.scrape()
                assert 0 == sum(scrape.all("syncwatch_events_received_total")), "counters start at 0"
                assert cursor == (await sidecar.cast())["ledger"]["cursor"]
                it.post(5, "not yet back")
                it.relay.faults.end_all()

                scrape = await told_alike(it, sidecar, fold)
                assert cursor - 1 == it.relay.ledger.of(Request, WATCHER)[-1].last_seen_seq, "with an overlap of one"
                assert 30 == scrape.value("syncwatch_sequence_missed_total")
                assert 30 == scrape.value("syncwatch_sequence_recovered_total")
                assert 30 == scrape.value("syncwatch_events_received_total", origin="ring")
                assert 0 == scrape.value("syncwatch_sequence_lost_total")
                assert 0 == scrape.value("syncwatch_connection_reconnects_total"), "its first open is no reconnect"

                now = await sidecar.cast()
                received = int(sum(scrape.all("syncwatch_events_received_total")))
                earlier = int(sum(first.all("syncwatch_events_received_total")))
                assert earlier == before["events"]
                assert earlier + received == now["lifetime"]["events"], "lifetime totals go on"
                assert before["since"]["time"] == now["lifetime"]["since"]["time"]
                assert (0, 30) == (before["recovered"], now["lifetime"]["recovered"])
                assert instance == (await sidecar.status())["sidecar"]["instance"]


async def test_killed_with_a_hole_open(tmp_path: Path) -> None:
    """A hole that the last process had confirmed is missed in the new one too, until it is recovered: the identity holds in each process."""
    async with rig(tmp_path, cast={"resync": {"ack_timeout": "60s"}}) as it:
        async with it.sidecar() as sidecar:
            it.post(3)
            await saved(it, sidecar)
            at = it.relay.find(WATCHER).counter
            with it.relay.faults.withholding_ack(), it.relay.faults.cutting_replay(0, "no_ack"):
                with it.relay.faults.skipping(agent=WATCHER, seq=at + 1):
                    it.post(2)
                await sidecar.until(lambda cast: cast["ledger"]["missing"] == 1)
                file = tmp_path / "state" / "state.json"
                await holds(lambda: json.loads(file.read_bytes())["connections"]["cast"]["confirmed"] == [[at + 1, at + 1]])
                before = (await sidecar.cast())["lifetime"]
                await kill(sidecar)
        async with it.sidecar(opened=False) as sidecar:
            cast = await sidecar.caught_up(it.relay)
            assert (1, 1, 0) == (cast["ledger"]["missed"], cast["ledger"]["recovered"], cast["ledger"]["lost"])
            assert (1, 0) == (before["missed"], before["recovered"])
            assert (1, 1) == (cast["lifetime"]["missed"], cast["lifetime"]["recovered"]), "counted once over both"


async def test_a_restart_of_both(tmp_path: Path) -> None:
    """The server began again while nobody watched: found by the overlap, all of the new life is accounted from its first number."""
    async with rig(tmp_path) as it:
        fold = Fold(WATCHER)
        async with it.sidecar() as sidecar:
            it.post(5)
            await saved(it, sidecar)
            await kill(sidecar)
        it.relay.restart()
        it.post(40, "another life")
        fold.take(it.relay.ledger.after())
        fold.restarted()
        async with it.sidecar(opened=False) as sidecar:
            await sidecar.until(lambda cast: cast["ledger"]["resets"] == 1)
            scrape = await told_alike(it, sidecar, fold)
            assert 80 == scrape.value("syncwatch_sequence_recovered_total")
            assert 2 == (await sidecar.cast())["ledger"]["epoch"]


@pytest.mark.parametrize("change", ["too old", "another upstream"])
async def test_a_resume_point_that_does_not_fit(tmp_path: Path, change: str) -> None:
    """Too old, or about another server: said, and started fresh, which is no loss in this process's counters."""
    async with rig(tmp_path) as it:
        async with it.sidecar() as sidecar:
            it.post(5)
            await saved(it, sidecar)
            await sidecar.end()
        file = tmp_path / "state" / "state.json"
        state = json.loads(file.read_bytes())
        if change == "too old":
            state["connections"]["cast"]["saved_wall_s"] -= 3700
        else:
            state["connections"]["cast"]["upstream"] = "http://elsewhere:80"
        file.write_text(json.dumps(state))
        it.post(5, "nobody there")
        async with it.sidecar() as sidecar:
            resumed = await sidecar.said("resumed")
            assert resumed["detail"].endswith(": starting fresh")
            cast = await sidecar.caught_up(it.relay)
            assert (0, 0) == (cast["ledger"]["missed"], cast["ledger"]["lost"])


async def test_a_clean_restart_misses_nothing_that_comes_meanwhile(tmp_path: Path) -> None:
    """SIGTERM, a while without anybody, and on: the counters of both processes together are the relay's facts."""
    async with rig(tmp_path) as it:
        fold = Fold(WATCHER)
        async with it.sidecar() as sidecar:
            it.post(7)
            await told_alike(it, sidecar, fold)
            await sidecar.end()
        it.post(400, "nobody there")
        fold.take(it.relay.ledger.after(fold.taken))
        fold.restarted()
        async with it.sidecar(opened=False) as sidecar:
            scrape = await told_alike(it, sidecar, fold)
            assert 800 == scrape.value("syncwatch_sequence_missed_total")
            assert 499 == scrape.value("syncwatch_sequence_recovered_total")

"""A real sidecar through every trouble of the demo: what each endpoint answers meanwhile, and counters that equal the relay's facts afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.agreement import told_alike
from tests.integration.fold import Fold
from tests.integration.sidecar import (
    OPENMETRICS,
    PROMPTLY_S,
    WATCHER,
    Document,
    Scrape,
    Sidecar,
    rig,
    until,
)

HEARTBEAT_S, PONG_S = 0.3, 0.5
BEATS: dict[str, Any] = {"interval": "300ms", "timeout": "500ms"}

# Every connection reason fails readyz at once, and two seconds pass before a reconnect, so that there is time to look.
STRICT: dict[str, Any] = {
    "cast": {"reconnect": {"min": "2s", "max": "2s", "jitter": False}},
    "health": {"ready": {"fail_on": dict.fromkeys(("failed", "reconnecting", "heartbeat_timeout", "behind", "gap_open"), "0s")}},
}


class Sight(NamedTuple):
    """What every endpoint says at one moment."""

    text: Scrape
    openmetrics: Scrape
    livez: tuple[int, str]
    healthz: tuple[int, str]
    readyz: tuple[int, str]
    status: Document
    read: tuple[int, Document]
    write: tuple[int, Document]

    @property
    def reasons(self) -> set[str]:
        """Conditions that hold; incidents, which close nothing, left out."""
        return {one["reason"] for one in self.status["reasons"] if not one["incident"]}


async def look(sidecar: Sidecar) -> Sight:
    """Ask everything, and check what must hold whatever the upstream does."""
    sight = Sight(
        await sidecar.scrape(),
        await sidecar.scrape(OPENMETRICS),
        await sidecar.probe("/livez"),
        await sidecar.probe("/healthz?verbose"),
        await sidecar.probe("/readyz?verbose"),
        await sidecar.status(),
        await sidecar.gate("read"),
        await sidecar.gate("write"),
    )
    assert (200, "ok") == sight.livez, "an upstream's trouble is no reason to restart"
    assert 200 == sight.healthz[0]
    assert sight.healthz[1].endswith("healthz check passed\n")
    assert "[+]task/connection/cast ok\n" in sight.healthz[1]
    assert (False, True) == (sight.text.openmetrics, sight.openmetrics.openmetrics)
    assert sight.openmetrics.text.endswith("# EOF\n")
    assert sight.text.state == sight.openmetrics.state
    for scrape in (sight.text, sight.openmetrics):
        assert 1 == scrape.value("syncwatch_check_ok", probe="healthz", check="task/connection/cast")
        assert float(sight.read[1]["open"]) == scrape.value("syncwatch_check_ok", probe="gate", check="read")
    for name, (code, answer) in (("read", sight.read), ("write", sight.write)):
        assert (200 if answer["open"] else 503) == code
        assert answer["open"] is sight.status["gate"][name]["open"]
        assert answer["reasons"] == [] or all(one["advice"] for one in answer["reasons"])
    return sight


def closed(sight: Sight, *purposes: str) -> bool:
    """Whether exactly these gates are closed."""
    return {name for name, (code, _) in (("read", sight.read), ("write", sight.write)) if code == 503} == set(purposes)


async def all_well(sidecar: Sidecar) -> Sight:
    """Wait until nothing is held against the connection any more, then look."""
    await until(sidecar.status, lambda status: all(one["incident"] for one in status["reasons"]))
    sight = await look(sidecar)
    assert closed(sight)
    assert sight.readyz[1].endswith("readyz check passed\n"), sight.readyz
    assert "open" == sight.text.state
    return sight


async def test_a_drop(tmp_path: Path) -> None:
    """The stream ends without a close frame and ten events pass: down at once, all recovered, nothing lost."""
    async with rig(tmp_path, **STRICT) as it, it.sidecar() as sidecar:
        fold = Fold(WATCHER)
        it.post(3)
        await told_alike(it, sidecar, fold)
        it.relay.drop(WATCHER)
        it.post(5, "missed")
        await sidecar.until(lambda cast: cast["state"] == "reconnecting")
        sight = await look(sidecar)
        assert {"reconnecting"} == sight.reasons
        assert "down" == sight.status["health"]
        assert closed(sight, "read", "write")
        assert 503 == sight.readyz[0]
        assert "[-]connection/cast failed: reason withheld\n" in sight.readyz[1]
        assert 0 == sight.text.value("syncwatch_connection_up")

        scrape = await told_alike(it, sidecar, fold)
        assert 10 == scrape.value("syncwatch_sequence_missed_total")
        assert 10 == scrape.value("syncwatch_sequence_recovered_total")
        assert 1 == scrape.value("syncwatch_connection_disconnects_total", reason="network")
        assert 1 == scrape.value("syncwatch_connection_close_codes_total", code="1006")
        await all_well(sidecar)


async def test_an_outage_with_600_missed(tmp_path: Path) -> None:
    """More was missed than the ring holds: what is gone, and what rows without numbers may be, is told apart and said to the application."""
    async with rig(tmp_path, **STRICT) as it, it.sidecar() as sidecar:
        fold = Fold(WATCHER)
        it.post(3)
        await told_alike(it, sidecar, fold)
        with it.relay.faults.outage(status=503):
            it.post(300, "missed")
            await sidecar.until(lambda cast: cast["attempts"]["failures"]["rejected"] >= 2)
            sight = await look(sidecar)
            assert {"reconnecting", "upstream_error"} == sight.reasons
            assert closed(sight, "read", "write")
            assert 503 == sight.readyz[0]
            assert "reconnecting" == sight.text.state

        scrape = await told_alike(it, sidecar, fold)
        assert 600 == scrape.value("syncwatch_sequence_missed_total")
        assert 499 == scrape.value("syncwatch_sequence_recovered_total")
        assert 0 == scrape.value("syncwatch_sequence_missing")
        lost, unaccounted = (scrape.value(f"syncwatch_sequence_{fate}_total") for fate in ("lost", "unaccounted"))
        assert 101 == lost + unaccounted
        assert scrape.value("syncwatch_events_received_total", origin="store") == unaccounted
        sight = await all_well(sidecar)
        answer = sight.read[1]
        assert (lost, unaccounted) == (answer["losses"][0]["lost"], answer["losses"][0]["unaccounted"])
        assert answer["last_loss"] is not None
        assert {"events_lost"} == {one["reason"] for one in sight.status["reasons"]}


async def test_half_open(tmp_path: Path) -> None:
    """Nothing passes in either direction: found within interval and timeout, and what waited in the dead socket is recovered."""
    async with rig(tmp_path, **STRICT | {"cast": {**STRICT["cast"], "heartbeat": BEATS}}) as it, it.sidecar() as sidecar:
        fold = Fold(WATCHER)
        it.post(3)
        await told_alike(it, sidecar, fold)
        with it.relay.faults.freezing("both", agent=WATCHER):
            began_s = time.monotonic()
            it.post(5, "missed")
            await sidecar.until(lambda cast: cast["heartbeats"]["half_open"]["receive"] == 1)
            assert time.monotonic() - began_s <= HEARTBEAT_S + PONG_S + PROMPTLY_S
            sight = await look(sidecar)
            assert {"reconnecting", "heartbeat_timeout"} == sight.reasons
            assert closed(sight, "read", "write")
            assert 503 == sight.readyz[0]
            it.relay.reset(WATCHER)  # what waited there was never sent

        scrape = await told_alike(it, sidecar, fold)
        assert 10 == scrape.value("syncwatch_sequence_recovered_total")
        assert 1 == scrape.value("syncwatch_half_open_total", direction="receive")
        assert 0 == scrape.value("syncwatch_half_open_total", direction="send")
        assert 1 == scrape.value("syncwatch_connection_disconnects_total", reason="heartbeat_timeout")
        assert scrape.value("syncwatch_heartbeats_missed_total") >= 1
        await all_well(sidecar)


async def test_a_restart_with_counters_cleared(tmp_path: Path) -> None:
    """The server begins again at 1 and says nothing: a new epoch, all of it accounted from its first number."""
    async with rig(tmp_path, **STRICT) as it, it.sidecar() as sidecar:
        fold = Fold(WATCHER)
        it.post(30)
        await told_alike(it, sidecar, fold)
        it.relay.restart(down_s=0.5)
        it.post(5, "missed")
        await sidecar.until(lambda cast: cast["state"] == "reconnecting")
        sight = await look(sidecar)
        assert {"reconnecting"} == sight.reasons
        assert closed(sight, "read", "write")
        assert 503 == sight.readyz[0]

        await sidecar.until(lambda cast: cast["ledger"]["resets"] == 1)
        scrape = await told_alike(it, sidecar, fold)
        assert 1 == scrape.value("syncwatch_sequence_resets_total")
        assert 10 == scrape.value("syncwatch_sequence_recovered_total")
        sight = await all_well(sidecar)
        assert "epoch_reset" in {one["reason"] for one in sight.status["reasons"]}
        assert 2 == sight.read[1]["losses"][0]["epoch"]


async def test_a_restart_that_overtook_the_cursor(tmp_path: Path) -> None:
    """The new numbers are above the old cursor already: the server claims a clean replay, the overlap proves another life."""
    async with rig(tmp_path, **STRICT) as it, it.sidecar() as sidecar:
        fold = Fold(WATCHER)
        it.post(3)
        await told_alike(it, sidecar, fold)
        with it.relay.faults.outage(status=503):
            it.relay.restart()
            it.post(20, "missed")
            await sidecar.until(lambda cast: cast["attempts"]["failures"]["rejected"] >= 1)
        await sidecar.until(lambda cast: cast["ledger"]["resets"] == 1)
        scrape = await told_alike(it, sidecar, fold)
        assert 40 == scrape.value("syncwatch_sequence_recovered_total")
        assert 0 == scrape.value("syncwatch_sequence_lost_total")
        await all_well(sidecar)


async def test_a_server_that_answers_pings_but_pushes_nothing(tmp_path: Path) -> None:
    """`behind` within the verify interval plus the grace, while pongs arrive and the socket is open; unverified time grows and the gate closes."""
    interval_s, grace_s = 1.0, 0.3
    changes = STRICT | {"cast": {**STRICT["cast"], "verify": {"interval": f"{interval_s}s", "grace": f"{grace_s}s"}}}
    async with rig(tmp_path, **changes) as it, it.sidecar() as sidecar:
        fold = Fold(WATCHER)
        it.post(3)
        await sidecar.until(lambda cast: cast["verification"]["results"]["verified"] >= 1)
        with it.relay.faults.stalling(agent=WATCHER):
            began_s = time.monotonic()
            it.post(5, "kept back")
            await until(sidecar.status, lambda status: any(one["reason"] == "behind" for one in status["reasons"]))
            assert time.monotonic() - began_s <= interval_s + grace_s + PROMPTLY_S
            first = await look(sidecar)
            assert {"behind"} == first.reasons
            assert closed(first, "read"), "writing does not need the stream"
            assert 503 == first.readyz[0]
            assert 1 == first.text.value("syncwatch_connection_up")
            assert "degraded" == first.status["health"]
            assert 1 == first.text.value("syncwatch_check_ok", probe="gate", check="write")

            async with it.talk():
                await asyncio.sleep(1.2)
            then = await look(sidecar)
            passed_s = then.text.value("syncwatch_unverified_seconds") - first.text.value("syncwatch_unverified_seconds")
            assert passed_s >= 1.2, "what a tip check brings proves a position, not that the push path works"
            pongs = "syncwatch_heartbeats_acknowledged_total"
            assert then.text.value(pongs) >= first.text.value(pongs) + 2, "all the while pings were answered"
            assert 0 == then.text.value("syncwatch_heartbeats_missed_total")
            assert {"behind"} == then.reasons
            assert first.text.value("syncwatch_connection_attempts_total") == then.text.value("syncwatch_connection_attempts_total")
        it.post(2, "live again")
        await all_well(sidecar)
        await until(sidecar.scrape, lambda scrape: scrape.value("syncwatch_unverified_seconds") <= interval_s + grace_s)
        scrape = await told_alike(it, sidecar, fold)
        assert 0 == scrape.value("syncwatch_sequence_lost_total")
        assert scrape.value("syncwatch_verifications_total", result="behind") >= 1


async def test_live_frames_left_out_swapped_and_doubled(tmp_path: Path) -> None:
    """A hole is asked for on the same socket, a swapped pair is out of order and not missed, a second copy is a duplicate."""
    async with rig(tmp_path, **STRICT) as it, it.sidecar() as sidecar:
        fold = Fold(WATCHER)
        it.post(3)
        await told_alike(it, sidecar, fold)
        at = it.relay.find(WATCHER).counter
        with it.relay.faults.skipping(agent=WATCHER, seq=at + 2):
            it.post(3)
        await told_alike(it, sidecar, fold)
        with it.relay.faults.reordering(agent=WATCHER, seq=at + 8):
            it.post(3)
        with it.relay.faults.duplicating(agent=WATCHER, every=2):
            it.post(3)
        scrape = await told_alike(it, sidecar, fold)
        assert (1, 1) == (scrape.value("syncwatch_sequence_missed_total"), scrape.value("syncwatch_sequence_recovered_total"))
        assert 1 == scrape.value("syncwatch_events_out_of_order_total")
        assert 2 == scrape.value("syncwatch_sequence_gaps_total", cause="live")
        assert 0 == scrape.value("syncwatch_connection_reconnects_total")


async def test_pings_that_are_never_answered_while_frames_arrive(tmp_path: Path) -> None:
    """Half-open the other way: what arrives proves nothing about what we send."""
    async with rig(tmp_path, **STRICT | {"cast": {**STRICT["cast"], "heartbeat": BEATS}}) as it, it.sidecar() as sidecar:
        with it.relay.faults.withholding_pong("application", agent=WATCHER):
            async with it.talk():
                await sidecar.until(lambda cast: cast["heartbeats"]["half_open"]["send"] == 1)
            sight = await look(sidecar)
            assert {"reconnecting", "send_half_open"} == sight.reasons
            assert closed(sight, "read", "write")
        await sidecar.caught_up(it.relay)
        scrape = await sidecar.scrape()  # no fold: what was on its way when we closed was sent and never read
        assert 0 == scrape.value("syncwatch_half_open_total", direction="receive")
        assert 1 == scrape.value("syncwatch_connection_disconnects_total", reason="send_timeout")
        assert 0 == scrape.value("syncwatch_sequence_lost_total")
        await all_well(sidecar)


def reconnected(times: int, scrape: Scrape) -> bool:
    """Whether there were so many successful opens after the first."""
    return times == scrape.value("syncwatch_connection_reconnects_total")


async def test_close_codes(tmp_path: Path) -> None:
    """Each has its label and its cause; none of them costs an event."""
    causes = {1000: "peer_closed", 1001: "peer_closed", 1008: "peer_error", 1011: "peer_error", 1012: "peer_closed", 1013: "overflow", 4000: "peer_closed"}
    async with rig(tmp_path, cast={"reconnect": {"min": "20ms", "max": "50ms"}}) as it, it.sidecar() as sidecar:
        fold = Fold(WATCHER)
        for place, code in enumerate(causes, 1):
            it.relay.close_sockets(WATCHER, code, "because")
            it.post(1, "meanwhile")
            await until(sidecar.scrape, partial(reconnected, place))
            await sidecar.caught_up(it.relay)
        scrape = await told_alike(it, sidecar, fold)
        for code, cause in causes.items():
            label = str(code) if code < 3000 else "other"
            assert 1 == scrape.value("syncwatch_connection_close_codes_total", code=label), code
            expected = sum(one == cause for one in causes.values())
            assert expected == scrape.value("syncwatch_connection_disconnects_total", reason=cause), code
        assert 14 == scrape.value("syncwatch_sequence_recovered_total")


async def test_a_server_that_does_not_acknowledge(tmp_path: Path) -> None:
    """Reconnect once, then stay open and say that continuity cannot be proven; the events that came are counted all the same."""
    changes = {"cast": {"resync": {"ack_timeout": "300ms"}}}
    async with rig(tmp_path, **changes) as it, it.sidecar() as sidecar:
        with it.relay.faults.withholding_ack():
            it.relay.drop(WATCHER)
            it.post(5, "missed")
            cast = await sidecar.until(lambda cast: cast["state"] == "open" and cast["traffic"]["anomalies"]["ack_missing"] == 2)
            sight = await look(sidecar)
            assert {"resync_unanswered"} == sight.reasons
            assert closed(sight), "the stream moves and the tip is where we are"
            assert 1 == cast["disconnects"]["resync_timeout"]
            assert 2 == sight.text.value("syncwatch_resyncs_total", claim="none", verdict="unverifiable")
            assert 10 == sight.text.value("syncwatch_sequence_recovered_total")
            assert 0 == sight.text.value("syncwatch_sequence_lost_total")


async def test_a_server_that_claims_more_than_it_sends(tmp_path: Path) -> None:
    """It says twelve frames and no gap, and sends four: the claim is contradicted, what never came is lost, and both are told."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        with it.relay.faults.cutting_replay(4, claim="all", times=1):
            it.relay.drop(WATCHER)
            it.post(5, "missed")
            await sidecar.until(lambda cast: cast["ledger"]["resyncs"]["complete"]["contradicted"] == 1)
        await sidecar.caught_up(it.relay)
        sight = await look(sidecar)
        assert {"claim_contradicted", "events_lost"} == {one["reason"] for one in sight.status["reasons"]}
        assert closed(sight), "incidents close nothing"
        await sidecar.said("lost")
        value = sight.text.value
        missed, recovered, lost = (value(f"syncwatch_sequence_{fate}_total") for fate in ("missed", "recovered", "lost"))
        assert (10, 3) == (missed, recovered), "the first of the four is the overlap"
        assert 7 == lost
        anomalies = "syncwatch_protocol_anomalies_total"
        assert (1, 8) == (value(anomalies, kind="ack_early"), value(anomalies, kind="replay_short"))
        await sidecar.end()
        assert 1 == len(sidecar.log("lost")), "told once"


async def test_two_connections_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each has its own ledger, state and reasons; the gate names the one that is down, and both share one state file."""
    async with rig(tmp_path) as it:
        token_file = tmp_path / "second"
        token_file.write_text(it.relay.directory.create_agent(it.relay.find(WATCHER).workspace, "second")["token"])
        it.config["connections"].append(it.config["connections"][0] | {"name": "other", "token_file": str(token_file)})
        async with it.sidecar() as sidecar:
            await until(sidecar.status, lambda status: all(one["state"] == "open" for one in status["connections"]))
            with it.relay.faults.outage(agent="second"):
                it.post(5)
                await until(sidecar.status, lambda status: status["connections"][1]["attempts"]["failures"]["rejected"] >= 1)
                await sidecar.caught_up(it.relay)
                status = await sidecar.status()
                assert ["healthy", "down"] == [one["health"] for one in status["connections"]]
                assert {"other"} == {one["name"] for one in status["reasons"]}
                code, gate = await sidecar.gate()
                assert (503, True) == (code, gate["detail"].startswith("other: "))
                assert (200, "ok") == await sidecar.probe("/livez/task/connection/other")
            await until(sidecar.status, lambda status: status["connections"][1]["ledger"]["recovered"] == 10)
            scrape = await sidecar.scrape()
            recovered = "syncwatch_sequence_recovered_total"
            assert [0, 10] == [scrape.value(recovered, connection=name) for name in ("cast", "other")]
            assert 0 == scrape.value("syncwatch_connection_reconnects_total", connection="cast")
            await sidecar.end()
        assert {"cast", "other"} == set(json.loads((tmp_path / "state" / "state.json").read_bytes())["connections"])

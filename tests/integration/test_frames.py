"""Whatever a server sends, a real sidecar counts it and goes on: garbage, binary, oversized, numbers that are none."""

from __future__ import annotations

import json
from pathlib import Path

from syncwatch.relay.framing import BINARY, TEXT
from syncwatch.relay.kinds import Oversize
from syncwatch.relay.ledger import Closed, Opened
from tests.integration.sidecar import WATCHER, Rig, Scrape, Sidecar, rig

OVER_MAX_FRAME = 20 * 2**20
GARBAGE = [
    b"x", b"", b"\x00", b"[]", b'"text"', b"null", b"7", b"{", b'{"no":"type"}', b'{"type":7}', b"[" * 100_000,
    b"\xff\xfe", b'{"type":"message.created","id":"\xff"}', b'{"type":"x","y":NaN}', b'{"type":"resync_ack"}',
    b'{"type":"resync_ack","last_seen_seq":1,"current_seq":-1,"replayed":0,"gap_detected":false}',
]  # fmt: skip
NO_NUMBERS = ["99", 7.5, -3, -0.5, 0, True, None, 2**53, 10**30, 1e300, [], {}]
ANOMALIES = "syncwatch_protocol_anomalies_total"


async def quiet(it: Rig, sidecar: Sidecar) -> Scrape:
    """Say something that must arrive, and scrape when it has: everything before it was taken too."""
    it.post(1, "after all that")
    await sidecar.caught_up(it.relay)
    return await sidecar.scrape()


def unharmed(scrape: Scrape) -> bool:
    """One handshake, nothing missed."""
    missed = scrape.value("syncwatch_sequence_missed_total")
    return (1, 0) == (scrape.value("syncwatch_connection_attempts_total"), missed) and "open" == scrape.state


async def test_garbage_is_counted_and_never_fatal(tmp_path: Path) -> None:
    """What is no event, acknowledgement or pong counts as one invalid frame each, and the connection goes on."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        before = await quiet(it, sidecar)
        for payload in GARBAGE:
            it.relay.inject(WATCHER, payload, TEXT)
        it.relay.inject(WATCHER, b'{"type":"pong"}', BINARY)
        it.relay.inject(WATCHER, bytes(range(256)), BINARY)
        after = await quiet(it, sidecar)
        count = len(GARBAGE) + 2
        assert count == after.value("syncwatch_frames_received_total", kind="invalid")
        assert count == after.value(ANOMALIES, kind="malformed")
        assert 0 == sum(after.all(ANOMALIES)) - count
        events = "syncwatch_frames_received_total"
        assert 2 == after.value(events, kind="event") - before.value(events, kind="event")
        assert unharmed(after)
        assert 200 == (await sidecar.gate())[0]
        line = await sidecar.said("anomaly")
        assert ("malformed", "warning") == (line["kind"], line["level"])
        await sidecar.end()
        assert 1 == len(sidecar.log("anomaly")), "each kind is told at most every ten seconds"


async def test_numbers_that_are_none(tmp_path: Path) -> None:
    """Negative, fractional, textual, too large: the event counts as unnumbered and live, the cursor does not move; 3.0 is 3."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        before = await quiet(it, sidecar)
        cursor = (await sidecar.cast())["ledger"]["cursor"]
        for place, number in enumerate(NO_NUMBERS):
            it.relay.inject(WATCHER, json.dumps({"type": "odd.number", "place": place, "agent_seq": number}))
        whole = json.dumps({"type": "odd.number", "place": "again", "agent_seq": float(cursor)})
        it.relay.inject(WATCHER, whole)
        after = await quiet(it, sidecar)
        live = "syncwatch_events_received_total"
        assert len(NO_NUMBERS) == after.value(ANOMALIES, kind="bad_sequence")
        assert len(NO_NUMBERS) + 1 + 2 == after.value(live, origin="live") - before.value(live, origin="live")
        assert cursor + 2 == (await sidecar.cast())["ledger"]["cursor"]
        assert 0 == after.value("syncwatch_frames_received_total", kind="invalid")
        assert unharmed(after)


async def test_a_jump_of_a_million(tmp_path: Path) -> None:
    """The server is asked for its own newest number at once; it knows nothing of the jump, so nothing was missed and the gate stays open."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        await quiet(it, sidecar)
        asked = (await sidecar.scrape()).value("syncwatch_frames_sent_total", kind="resync")
        it.relay.inject(WATCHER, json.dumps({"type": "odd.number", "agent_seq": it.relay.find(WATCHER).counter + 1_000_000}))
        await sidecar.until(lambda cast: cast["traffic"]["frames_sent"]["resync"] == asked + 1)
        after = await quiet(it, sidecar)
        assert 1 == after.value(ANOMALIES, kind="implausible_jump")
        assert 0 == after.value("syncwatch_sequence_missing")
        assert 0 == sum(after.all("syncwatch_sequence_gaps_total"))
        assert unharmed(after)
        assert 200 == (await sidecar.gate())[0]


async def test_an_acknowledgement_that_nobody_asked_for(tmp_path: Path) -> None:
    """Counted, and nothing follows from it."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        ack = {"type": "resync_ack", "last_seen_seq": 1, "current_seq": 1, "replayed": 9, "gap_detected": True}
        it.relay.inject(WATCHER, json.dumps(ack))
        after = await quiet(it, sidecar)
        assert 1 == after.value(ANOMALIES, kind="ack_unsolicited")
        assert 0 == after.value("syncwatch_sequence_resets_total")
        assert unharmed(after)


async def test_a_frame_of_20_mib(tmp_path: Path) -> None:
    """Above max_frame (16 MiB): refused with 1009, counted, and the next connection goes on where this one stood."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        await quiet(it, sidecar)
        it.relay.inject(WATCHER, b'{"type":"odd.size","x":"' + b"x" * OVER_MAX_FRAME + b'"}')
        await sidecar.until(lambda cast: cast["traffic"]["anomalies"]["oversized"] == 1)
        after = await quiet(it, sidecar)
        assert 1 == after.value("syncwatch_connection_disconnects_total", reason="protocol_error")
        assert 1 == after.value("syncwatch_connection_reconnects_total")
        assert 0 == after.value("syncwatch_sequence_lost_total")
        assert [("closed", "client", 1009)] == [(one.how, one.by, one.code) for one in it.relay.ledger.of(Closed, WATCHER)]


async def test_a_message_of_20_mib_in_the_ring_is_stepped_over(tmp_path: Path) -> None:
    """It comes again with every replay: refused twice at the same cursor, then stepped over and counted as lost; all else is recovered."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        await quiet(it, sidecar)
        it.relay.faults.begin(Oversize(agent=WATCHER, size_bytes=OVER_MAX_FRAME))
        it.post(3, "behind it")
        cast = await sidecar.until(lambda cast: cast["ledger"]["lost"] == 1)
        assert 2 == cast["traffic"]["anomalies"]["oversized"]
        after = await quiet(it, sidecar)
        assert 1 == after.value("syncwatch_sequence_lost_total")
        assert 0 == after.value("syncwatch_sequence_missing")
        missed, recovered = (after.value(f"syncwatch_sequence_{fate}_total") for fate in ("missed", "recovered"))
        assert 1 == missed - recovered
        assert recovered >= 6
        assert 3 == len(it.relay.ledger.of(Opened, WATCHER)), "the third connection is the one that works"

        it.relay.drop(WATCHER)
        it.post(2, "once more")
        after = await quiet(it, sidecar)
        assert 1 == after.value("syncwatch_sequence_lost_total"), "it is not met again"
        assert 2 == after.value(ANOMALIES, kind="oversized")

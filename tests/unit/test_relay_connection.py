"""A connection on a transport that keeps what is written: frames, order, ends, and what the ledger says of them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from syncwatch.relay import outbound
from syncwatch.relay.connection import Connection
from syncwatch.relay.ledger import Closed, Injected, Pong, Pushed, Sent
from tests.unit.relay_parts import Parts, Transport


class Wired(Parts):
    """`alice` with an attached connection."""

    def __init__(self, transport: Transport | None = None) -> None:
        super().__init__()
        self.workspace("alice")
        self.transport = transport or Transport()
        self.wire: Connection = self.connection("alice", self.transport)
        self.agent("alice").sinks = (self.wire,)
        self.faults.on_change = self.wire.refresh

    @property
    def numbers(self) -> list[int]:
        """Numbers in the order in which they were written."""
        return [frame["agent_seq"] for frame in self.transport.said()]

    @property
    def recorded(self) -> list[int | None]:
        """Numbers in the order in which the ledger has them."""
        return [fact.number for fact in self.ledger.of(Sent)]


@pytest.fixture
async def wired() -> AsyncIterator[Wired]:
    """Parts with one connection."""
    parts = Wired()
    yield parts
    parts.store.close()


async def test_frames_of_every_length(wired: Wired) -> None:
    """7-bit, 16-bit and 64-bit lengths, text and binary, bytes as they are."""
    for size in (0, 125, 126, 65_535, 65_536):
        wired.wire.inject(b"\xff" * size, 2)
    assert [(2, b"\xff" * size) for size in (0, 125, 126, 65_535, 65_536)] == wired.transport.frames()
    assert [(1, 2, 0), (5, 2, 65_536)] == [
        (fact.position, fact.opcode, fact.size) for fact in wired.ledger.of(Injected)
    ][::4]


async def test_what_is_sent_is_recorded_in_order(wired: Wired) -> None:
    """Number, position, origin, key."""
    wired.fill("alice", 3)
    wired.wire.ping()
    wired.fill("alice", 1)
    assert [(1, 1), (2, 2), (3, 3), (4, 5)] == [(fact.number, fact.position) for fact in wired.ledger.of(Sent)]
    assert [4] == [fact.position for fact in wired.ledger.of(Pong)]
    assert [fact.key for fact in wired.ledger.of(Pushed)] == [fact.key for fact in wired.ledger.of(Sent)]


async def test_a_frozen_connection_queues_in_order_and_records_at_the_thaw(wired: Wired) -> None:
    """Events, pongs and acknowledgements alike; nothing is "sent" before it is."""
    wired.fill("alice", 1)
    with wired.faults.freezing("to_client"):
        wired.fill("alice", 2)
        wired.wire.ping()
        assert [1] == wired.recorded
        assert wired.transport.is_reading()
    assert [1, 2, 3, None] == [frame.get("agent_seq") for frame in wired.transport.said()]
    assert [1, 2, 3] == wired.recorded
    assert "pong" == wired.transport.said()[-1]["type"]


async def test_a_connection_frozen_the_other_way_does_not_read(wired: Wired) -> None:
    """Writing goes on."""
    with wired.faults.freezing("from_client"):
        assert not wired.transport.is_reading()
        assert not wired.wire.readable.is_set()
        wired.fill("alice", 1)
    assert wired.transport.is_reading()
    assert wired.wire.readable.is_set()
    assert [1] == wired.numbers


async def test_delayed_frames_keep_their_order(wired: Wired) -> None:
    """With jitter too; the rest goes out at once when the fault ends."""
    with wired.faults.delaying(0.01, jitter_s=0.02):
        wired.fill("alice", 5)
        assert [] == wired.recorded
        await asyncio.sleep(0.08)
        assert [1, 2, 3, 4, 5] == wired.recorded
    with wired.faults.delaying(60):
        wired.fill("alice", 2)
    assert [1, 2, 3, 4, 5, 6, 7] == wired.numbers == wired.recorded


async def test_live_frames_are_skipped_doubled_and_swapped(wired: Wired) -> None:
    """By number, by kind, each nth, so many times; the ring is not touched."""
    with wired.faults.skipping(seq=2), wired.faults.duplicating(seq=3), wired.faults.reordering(seq=5):
        wired.fill("alice", 6)
    assert [1, 3, 3, 4, 6, 5] == wired.numbers == wired.recorded
    with wired.faults.skipping(every=2, times=2):
        wired.fill("alice", 6)
    assert [7, 9, 11, 12] == wired.numbers[6:]
    with wired.faults.skipping(kind="other"):
        wired.fill("alice", 1)
    assert 13 == wired.numbers[-1]
    assert list(range(1, 14)) == [frame.number for frame in wired.agent("alice").ring]


async def test_a_frame_held_for_swapping_is_not_lost(wired: Wired) -> None:
    """If nothing follows, it goes out when the fault ends."""
    with wired.faults.reordering(seq=1):
        wired.fill("alice", 1)
        assert [] == wired.numbers
    assert [1] == wired.numbers


async def test_a_stalled_server_pushes_nothing_and_answers_pings(wired: Wired) -> None:
    """Live frames are swallowed, the ring fills."""
    with wired.faults.stalling() as stall:
        wired.fill("alice", 3)
        wired.wire.ping()
    wired.fill("alice", 1)
    assert ["pong", "test"] == [frame["type"] for frame in wired.transport.said()]
    assert 4 == len(wired.agent("alice").ring)
    assert 3 == stall.fired


async def test_pongs_are_withheld_or_late(wired: Wired) -> None:
    """At either level."""
    with wired.faults.withholding_pong("application"):
        wired.wire.ping()
        wired.wire.websocket_ping(b"x")
    assert [(10, b"x")] == wired.transport.frames()
    with wired.faults.withholding_pong("websocket"):
        wired.wire.websocket_ping(b"y")
    assert 1 == len(wired.transport.frames())
    with wired.faults.delaying_pong(0.01):
        wired.wire.ping()
        assert 1 == len(wired.transport.frames())
        await asyncio.sleep(0.03)
    assert [{"type": "pong"}] == wired.transport.said()


async def test_a_drop_happens_exactly_after_its_frame(wired: Wired) -> None:
    """By number: that frame is out, the next is not; flushed, and no close frame."""
    with wired.faults.dropping(seq=3):
        wired.fill("alice", 5)
    assert [1, 2, 3] == wired.numbers == wired.recorded
    assert wired.transport.eof
    assert [("dropped", "relay", None, 3, 3)] == [
        (f.how, f.by, f.code, f.frames, f.flushed) for f in wired.ledger.of(Closed)
    ]
    assert () == wired.agent("alice").sinks
    assert 5 == wired.agent("alice").counter


async def test_a_drop_can_count_frames_from_its_beginning(wired: Wired) -> None:
    """`frames=2` is the second frame after the fault began, whatever was sent before."""
    wired.fill("alice", 3)
    with wired.faults.dropping(frames=2):
        wired.fill("alice", 5)
    assert [1, 2, 3, 4, 5] == wired.numbers


async def test_what_did_not_leave_the_buffer_is_not_called_flushed() -> None:
    """A client that reads nothing: frames are written, none flushed; after a second the socket is let go."""
    parts = Wired()
    parts.transport.stuck = True
    parts.fill("alice", 3)
    parts.wire.drop()
    assert [] == parts.ledger.of(Closed)
    parts.wire.lost()
    assert [(3, 0)] == [(fact.frames, fact.flushed) for fact in parts.ledger.of(Closed)]
    parts.store.close()


async def test_a_client_that_takes_nothing_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay does not let a buffer grow without end."""
    monkeypatch.setattr(outbound, "MAX_BUFFER", 5000)
    plain, other = socket.socketpair()
    parts = Wired(Transport(stuck=True, plain=plain))
    parts.fill("alice", 300)
    plain.close()
    other.close()
    told = [(fact.how, fact.reason, fact.frames, fact.flushed) for fact in parts.ledger.of(Closed)]
    assert [("reset", "the client does not read", 256, 0)] == told
    assert 256 == len(parts.recorded)
    assert parts.ledger.of(Sent)[-1].at < parts.ledger.of(Closed)[0].at, "nothing is sent after the end"
    parts.store.close()


async def test_a_close_carries_code_and_reason(wired: Wired) -> None:
    """A close frame, then nothing; the client's answer ends it."""
    wired.fill("alice", 1)
    wired.wire.close(4001, "enough")
    wired.fill("alice", 1)
    assert (8, struct.pack("!H", 4001) + b"enough") == wired.transport.frames()[-1]
    assert not wired.transport.is_closing()
    wired.wire.closed_by_client(4001, "")
    assert wired.transport.is_closing()
    assert [("closed", "relay", 4001, "enough", 1)] == [
        (f.how, f.by, f.code, f.reason, f.frames) for f in wired.ledger.of(Closed)
    ]


async def test_a_clients_close_is_answered(wired: Wired) -> None:
    """With its own code; without one, without one."""
    wired.wire.closed_by_client(1000, "bye")
    assert [(8, struct.pack("!H", 1000))] == wired.transport.frames()
    assert [("closed", "client", 1000, "bye")] == [(f.how, f.by, f.code, f.reason) for f in wired.ledger.of(Closed)]
    transport = Transport()
    wired.connection("alice", transport).closed_by_client(None, "")
    assert [(8, b"")] == transport.frames()


async def test_a_client_that_just_goes_is_lost(wired: Wired) -> None:
    """Noted once, and delivery forgets it."""
    wired.fill("alice", 1)
    wired.wire.lost()
    wired.wire.lost()
    wired.fill("alice", 1)
    assert [("lost", "client", 1)] == [(fact.how, fact.by, fact.frames) for fact in wired.ledger.of(Closed)]


async def test_a_silent_connection_says_nothing_ever() -> None:
    """Not even after the fault has ended."""
    parts = Parts()
    parts.workspace("alice")
    transport = Transport()
    with parts.faults.accepting_only():
        wire = parts.connection("alice", transport)
    parts.agent("alice").sinks = (wire,)
    parts.fill("alice", 2)
    wire.ping()
    wire.websocket_ping(b"")
    wire.closed_by_client(1000, "")
    assert b"" == transport.data
    assert [] == parts.ledger.of(Sent)
    parts.store.close()


async def test_the_end_of_the_last_socket_ends_presence_when_the_loop_comes_round() -> None:
    """Not in the middle of a fan-out: the real server learns of a close in its own time."""
    parts = Parts()
    parts.workspace("alice", "bob")
    transports = {name: Transport() for name in ("alice", "bob")}
    for name, transport in transports.items():
        parts.hub.attach(parts.agent(name), parts.connection(name, transport))
    with parts.faults.dropping(seq=3, agent="alice"):
        parts.post("bob", "hi")
    kinds = [frame["type"] for frame in transports["bob"].said()]
    assert ["agent.status.active", "message.created"] == kinds
    await asyncio.sleep(0)
    assert "agent.status.offline" == transports["bob"].said()[-1]["type"]
    parts.store.close()

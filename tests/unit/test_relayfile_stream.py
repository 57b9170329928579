"""A Relayfile stream on a transport that keeps what is written: catch-up, seam, buffer, faults (wire: relayfile §3.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from syncwatch.relay import kinds
from syncwatch.relay.ledger import Closed
from syncwatch.relay.logfacts import Delivered
from syncwatch.relay.relayfile.service import Files
from syncwatch.relay.relayfile.stream import BUFFER, CLOGGED_BYTES, Stream
from tests.unit.relay_parts import Parts, Transport


class Clogging(Transport):
    """A transport whose buffer has a size that is set by hand."""

    size = 0

    def get_write_buffer_size(self) -> int:
        """What was set."""
        return self.size


class Streaming(Parts):
    """Relayfile with one stream of the workspace `w`."""

    def __init__(self) -> None:
        super().__init__()
        self.files = Files(self.ledger, self.clock, self.faults)
        self.transport = Clogging()
        self.streams: list[Stream] = []
        self.faults.on_change = self.look

    def look(self) -> None:
        """What a relay does when a fault begins or ends."""
        for stream in self.streams:
            stream.refresh()

    def open(self, *filters: str, cursor: str = "", from_now: bool = True) -> Stream:
        """A stream, begun."""
        stream = Stream(len(self.streams) + 1, self.transport, "w", filters, self.files)
        self.streams.append(stream)
        self.files.listen("w", stream)
        stream.begin(cursor, from_now)
        return stream

    def write(self, count: int = 1) -> None:
        """Write so many files."""
        for _ in range(count):
            self.files.write("w", f"/a/{self.files.log.events + 1}", "x")

    @property
    def numbers(self) -> list[int]:
        """Numbers in the order in which they were written."""
        return [int(frame["eventId"][4:]) for frame in self.said if "eventId" in frame]

    @property
    def said(self) -> list[dict[str, Any]]:
        """Frames in order."""
        return self.transport.said()

    @property
    def delivered(self) -> list[tuple[int | None, str]]:
        """What the ledger has."""
        return [(fact.number, fact.origin) for fact in self.ledger.of(Delivered)]


@pytest.fixture
async def s() -> AsyncIterator[Streaming]:
    """Parts without a stream."""
    parts = Streaming()
    yield parts
    parts.store.close()


async def test_catch_up_then_live(s: Streaming) -> None:
    """Origin and position are facts."""
    s.write(3)
    s.open(cursor="evt_1", from_now=False)
    s.write()
    assert [(2, "catchup"), (3, "catchup"), (4, "live")] == s.delivered
    assert [1, 2, 3] == [fact.position for fact in s.ledger.of(Delivered)]


async def test_pages_of_filtered_events_do_not_end_the_catch_up(s: Streaming) -> None:
    """A page may be empty for this stream while the log goes on."""
    s.write(250)
    s.files.write("w", "/b/1")
    s.open("/b/*", cursor="evt_0", from_now=False)
    assert [] == s.numbers, "evt_0 is unknown"
    s.open("/b/*", cursor="evt_1", from_now=False)
    assert [251] == s.numbers


async def test_what_a_clogged_stream_cannot_write_waits_in_order(s: Streaming) -> None:
    """Pongs too; it goes on when there is room."""
    stream = s.open()
    s.transport.size = CLOGGED_BYTES + 1
    s.write(3)
    stream.ping()
    assert [] == s.said
    s.transport.size = 0
    stream.refresh()
    assert ["pong", "file.created", "file.created", "file.created"] == [frame["type"] for frame in s.said]


async def test_what_waited_is_told_as_it_is_by_then(s: Streaming) -> None:
    """A revision that was superseded in the buffer comes without its content."""
    s.open()
    with s.faults.freezing("to_client"):
        s.files.write("w", "/a", "old")
        s.files.write("w", "/a", "new")
    assert [None, "new"] == [frame.get("content") for frame in s.said]


async def test_a_catch_up_stops_where_the_client_stops_reading(s: Streaming) -> None:
    """And what happens meanwhile is not told twice."""
    s.write(3)
    s.transport.size = CLOGGED_BYTES + 1
    stream = s.open(cursor="evt_1", from_now=False)
    s.write(2)
    stream.ping()
    assert [] == s.said
    s.transport.size = 0
    stream.refresh()
    assert [2, 3, 4, 5] == s.numbers
    assert "pong" == s.said[-1]["type"], "nothing is read from the client before the catch-up is out"


async def test_the_buffer_overflows_once_and_ends_the_stream(s: Streaming) -> None:
    """What waited is gone; what was sent before is a contiguous beginning."""
    stream = s.open()
    s.write(2)
    s.transport.size = CLOGGED_BYTES + 1
    s.write(BUFFER)
    assert not stream.overflowed
    s.write(1)
    s.write(10)
    assert [] == s.ledger.of(Closed)
    s.transport.size = 0
    stream.refresh()
    stream.refresh()
    assert [1, 2] == s.numbers
    assert [8] == [opcode for opcode, _ in s.transport.frames() if opcode == 8]
    stream.closed_by_client(1013, "")
    assert [(1013, "event stream overflow; reconnect from cursor")] == [(f.code, f.reason) for f in s.ledger.of(Closed)]


async def test_a_fault_that_ends_with_a_frame_does_not_disturb_the_order(s: Streaming) -> None:
    """The end of a fault makes every stream look again, this one in the middle of its buffer."""
    s.open()
    s.transport.size = CLOGGED_BYTES + 1
    with s.faults.skipping(seq=2, times=1), s.faults.duplicating(seq=3, times=1):
        s.write(4)
        s.transport.size = 0
        s.streams[0].refresh()
    assert [1, 3, 3, 4] == s.numbers


async def test_a_cut_catch_up_ends_silently(s: Streaming) -> None:
    """Even after nothing at all."""
    s.write(3)
    with s.faults.cutting_replay(0):
        s.open(cursor="evt_1", from_now=False)
        s.write()
    assert [4] == s.numbers


async def test_a_stream_is_left_to_its_workspace(s: Streaming) -> None:
    """Events of others do not come; after its end none do."""
    stream = s.open()
    s.files.write("other", "/a")
    s.write()
    stream.drop()
    s.write()
    assert [2] == s.numbers
    assert () == s.files.listeners["w"]


async def test_faults_of_one_workspace_leave_the_others(s: Streaming) -> None:
    """By workspace and protocol."""
    s.open()
    with s.faults.stalling(agent="other"), s.faults.stalling(protocol="relaycast"):
        s.write(2)
    with s.faults.stalling(agent="w", protocol="relayfile"):
        s.write()
    s.faults.begin(kinds.Skip(seq=4, times=1))
    s.write(2)
    assert [1, 2, 5] == s.numbers

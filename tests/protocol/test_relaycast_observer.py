"""The Relaycast codec, dialect observer: frames with a durable number and without, pages that hide rows, garbage; and what it asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.journal import alike
from syncwatch.core.wire import Event, Invalid, Numbering, Page, Pong, Ready, Said, Settle
from syncwatch.protocols.relaycast_observer import ObserverWire, RelaycastObserver

SNOWFLAKE = "1234567890123456789"
SNOWFLAKE_S = ((1234567890123456789 >> 22) + 1735689600000) / 1000
MESSAGE = {"id": "107b7647-005d-5e97-bfad-81d9da5584eb", "type": "message.created", "channel": "general", "message": {"id": SNOWFLAKE, "text": "hi"}}


def feed(frame: object, binary: bool = False) -> Said:
    """The one word of one frame: bytes as they are, anything else as JSON."""
    words = ObserverWire().feed(frame if isinstance(frame, bytes) else json.dumps(frame).encode(), binary)
    assert 1 == len(words)
    return words[0]


def event(frame: object) -> Event:
    """The one event of one frame."""
    said = feed(frame)
    assert isinstance(said, Event), said
    return said


def page(*rows: dict[str, Any], latest: int = 9, **more: Any) -> Page | Invalid:
    """What a page with these rows says."""
    return RelaycastObserver("http://h").page(json.dumps({"events": rows, "latest_seq": latest, **more}).encode())


def row(seq: int, kind: str = "message.created") -> dict[str, Any]:
    """A row as the server writes it."""
    return {"seq": seq, "type": kind, "channel_id": "1", "payload": MESSAGE, "created_at": "2026-07-20T11:43:37.000Z"}


class TestFrames:
    def test_a_frame_and_its_row_have_one_identity(self) -> None:
        """The durable number and the type: bodies differ."""
        rows = page(row(8))
        assert isinstance(rows, Page)
        assert event(MESSAGE | {"seq": 8}).key == rows.events[0].key
        assert (8, True, SNOWFLAKE_S) == (event(MESSAGE | {"seq": 8}).number, event(MESSAGE | {"seq": 8}).strong, event(MESSAGE | {"seq": 8}).time_s)

    def test_a_frame_whose_log_write_failed(self) -> None:
        """No number, and none is called bad: the event's own id identifies it, else its content."""
        said, presence = event(MESSAGE), event({"type": "agent.status.active", "agent_name": "a", "timestamp": "2026-07-20T11:43:37.500Z"})
        assert (MESSAGE["id"], True, None, False) == (said.key, said.strong, said.number, said.bad_number)
        assert (False, None, False, 1784547817.5) == (presence.strong, presence.number, presence.bad_number, presence.time_s)

    @pytest.mark.parametrize("seq", ["8", 7.5, -3, 0, True, None, 2**53])
    def test_bad_numbers(self, seq: object) -> None:
        """The event counts, unnumbered, and the bad number with it."""
        said = event(MESSAGE | {"seq": seq})
        assert (None, True) == (said.number, said.bad_number)

    def test_a_whole_float_is_a_number(self) -> None:
        """JSON does not tell them apart."""
        assert 3 == event(MESSAGE | {"seq": 3.0}).number

    def test_pong(self) -> None:
        """It carries nothing."""
        assert Pong() == feed({"type": "pong"})

    @pytest.mark.parametrize("data", [b"", b"x", b"[]", b"null", b"{}", b'{"type":7}', b'{"type":"a","message":7}', b'{"type":"a","x":"\xff"}', b"[" * 100_000])
    def test_garbage(self, data: bytes) -> None:
        """Invalid, never fatal."""
        said = feed(data)
        assert isinstance(said, Invalid)
        assert not said.fatal

    @given(st.binary(max_size=200))
    def test_nothing_raises(self, data: bytes) -> None:
        """Whatever a peer sends."""
        assert 1 == len(ObserverWire().feed(data))
        assert isinstance(RelaycastObserver("http://h").page(data), (Page, Invalid))

    def test_what_it_says(self) -> None:
        """Pings, nothing else: no subscription, no resync."""
        wire = RelaycastObserver("http://h", ["general"]).wire(0)
        assert (Ready(),) == tuple(wire.opened())
        assert '{"type":"ping"}' == wire.ping(7)
        assert isinstance(feed(MESSAGE, binary=True), Invalid)
        with pytest.raises(NotImplementedError):
            wire.resync(1, None)


class TestPages:
    def test_it_goes_on_where_the_server_says(self) -> None:
        """Rows may be hidden behind the last one; at the newest number there is nothing more."""
        more, last = page(row(3), next_since=7), page(row(9), next_since=9)
        assert isinstance(more, Page)
        assert isinstance(last, Page)
        assert (7, None, 9, 9) == (more.next_after, last.next_after, more.newest, last.newest)

    def test_with_and_without_the_apis_envelope(self) -> None:
        """Both are written of."""
        bare = {"events": [row(3)], "latest_seq": 9}
        assert page(row(3)) == RelaycastObserver("http://h").page(json.dumps({"ok": True, "data": bare}).encode())

    def test_rows_without_a_number(self) -> None:
        """Counted and left out."""
        said = page(row(3), row(4) | {"seq": "x"})
        assert isinstance(said, Page)
        assert (1, 1) == (len(said.events), said.malformed)

    def test_one_odd_row_hides_no_other(self) -> None:
        """A row without a type or time of the usual kind is left out, or told without its time; what is wrong in the envelope is said."""
        said = page(row(3), row(4) | {"type": 7}, row(5) | {"created_at": None})
        assert isinstance(said, Page)
        assert ([3, 5], 1) == ([event.number for event in said.events], said.malformed)
        wrong = RelaycastObserver("http://h").page(b'{"ok":true,"data":{"events":[]}}')
        assert isinstance(wrong, Invalid)
        assert "latest_seq" in wrong.reason

    def test_rows_of_one_number_are_told_apart_by_their_time(self) -> None:
        """A log that was replaced: the same number and type, kept at another time."""
        one, other = page(row(3)), page(row(3) | {"created_at": "2026-07-20T11:43:38.000Z"})
        assert isinstance(one, Page)
        assert isinstance(other, Page)
        assert one.events[0].key == other.events[0].key
        assert not alike(one.events[0], other.events[0])

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"events":[]}', b'{"events":[],"latest_seq":-1}', b'{"events":[7],"latest_seq":1}', b"\xff"])
    def test_what_is_no_page(self, body: bytes) -> None:
        """Said, never raised."""
        assert isinstance(RelaycastObserver("http://h").page(body), Invalid)


class TestRequests:
    def test_the_socket_does_not_resume(self) -> None:
        """The same upgrade whatever was seen; the token's place is named."""
        protocol = RelaycastObserver("https://cast.example.com/")
        assert protocol.dial() == protocol.dial(7)
        assert protocol.dial().url.startswith("wss://cast.example.com/v1/ws?origin_client=syncwatch&origin_version=")
        assert "token" == protocol.dial().token_query

    def test_the_log(self) -> None:
        """By bearer, the largest page; the tip is any answer."""
        protocol = RelaycastObserver("wss://cast.example.com")
        assert ("https://cast.example.com/v1/workspace/events?since=7&limit=500", True) == (protocol.poll(7, -1).url, protocol.poll(7, -1).bearer)
        assert "https://cast.example.com/v1/workspace/events?since=0&limit=500" == protocol.poll(None, -1).url
        assert "https://cast.example.com/v1/workspace/events?since=0&limit=1" == protocol.tip(-1).url

    def test_the_traits(self) -> None:
        """Dense numbers, settled by the log, a socket that replays nothing."""
        protocol = RelaycastObserver("http://h")
        assert ("relaycast", "observer") == (protocol.name, protocol.dialect)
        traits = protocol.traits
        assert (Numbering.CONTIGUOUS, Settle.FEED, True, False) == (traits.numbering, traits.settle, traits.feed, traits.resumes)

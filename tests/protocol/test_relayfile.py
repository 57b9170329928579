"""The Relayfile codec: captured frames, pages in both directions, every kind of garbage; and what it asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.wire import Event, Invalid, Numbering, Page, Pong, Ready, Said, Settle
from syncwatch.protocols.relayfile import Relayfile, RelayfileWire, event_number

CREATED = b'{"eventId":"evt_1","type":"file.created","path":"/syncwatch/canary.json","revision":"rev_1","contentHash":"2b","contentType":"application/json","content":"{\\"n\\":1}","inlineContent":true,"origin":"agent_write","provider":"syncwatch","correlationId":"canary-0001","timestamp":"2026-11-20T11:43:37.590187137Z"}\n'
DELETED = b'{"eventId":"evt_5","type":"file.deleted","path":"/bin","revision":"rev_5","origin":"agent_write","provider":"bin","correlationId":"canary-0007","timestamp":"2026-11-20T11:43:38.803610066Z"}\n'
IGNORED = b'{"eventId":"evt_3","type":"sync.ignored","path":"/","origin":"provider_sync","provider":"acme","correlationId":"k-3","timestamp":"2026-11-20T11:48:59.512532959Z"}\n'
PONG = b'{"type":"pong","timestamp":"2026-11-20T11:43:39.207245127Z"}\n'
PONG_S = 1795175019.207245


def feed(data: bytes, binary: bool = False) -> Said:
    """The one word of one frame."""
    words = RelayfileWire().feed(data, binary)
    assert 1 == len(words)
    return words[0]


def row(number: int, path: str = "/docs/a.md", **more: Any) -> dict[str, Any]:
    """A row of the feed as the server writes it."""
    return {
        "eventId": f"evt_{number}", "type": "file.created", "path": path, "revision": f"rev_{number}", "origin": "agent_write",
        "correlationId": "", "timestamp": f"2026-11-20T11:43:{number % 60:02d}Z", **more,
    }  # fmt: skip


def page(*rows: dict[str, Any], next_cursor: str | None = None, protocol: Relayfile | None = None) -> Page | Invalid:
    """What a page with these rows says."""
    return (protocol or Relayfile("http://h", "w")).page(json.dumps({"events": rows, "nextCursor": next_cursor}).encode())


class TestFrames:
    @pytest.mark.parametrize(
        ("data", "key", "number"),
        [
            (CREATED, "evt_1@2026-11-20T11:43:37.590187137Z", 1),
            (DELETED, "evt_5@2026-11-20T11:43:38.803610066Z", 5),
            (IGNORED, "evt_3@2026-11-20T11:48:59.512532959Z", 3),
        ],
        ids=["created", "deleted", "ignored"],
    )
    def test_captured_events(self, data: bytes, key: str, number: int) -> None:
        """Strong by id and timestamp, numbered by the server-wide counter."""
        said = feed(data)
        assert isinstance(said, Event)
        assert (key, True, number, False) == (said.key, said.strong, said.number, said.bad_number)

    def test_nanoseconds_are_read_to_the_microsecond(self) -> None:
        """RFC 3339 with up to nine digits."""
        said = feed(CREATED)
        assert isinstance(said, Event)
        assert 1795175017.590187 == said.time_s

    def test_the_pong_tells_the_servers_clock(self) -> None:
        """No id comes back: pongs answer in order."""
        assert Pong(None, PONG_S) == feed(PONG)
        assert Pong(None, None) == feed(b'{"type":"pong"}')

    def test_a_live_frame_and_its_row_are_one_event(self) -> None:
        """The feed never has content; identity does not hang on it."""
        said, rows = feed(CREATED), page({name: value for name, value in json.loads(CREATED).items() if "ontent" not in name})
        assert isinstance(rows, Page)
        assert (said,) == rows.events

    def test_proactive_envelopes(self) -> None:
        """Other names for the same things (§3.3)."""
        envelope = {"type": "relayfile.changed", "id": "evt_7", "occurredAt": "2026-11-20T11:43:37Z", "digest": "x", "resource": {"path": "/a"}}
        said = feed(json.dumps(envelope).encode())
        assert isinstance(said, Event)
        assert ("evt_7@2026-11-20T11:43:37Z", 7) == (said.key, said.number)

    @pytest.mark.parametrize("identifier", ["evt_", "evt_x", "evt_0", "evt_-1", "evt_1.5", "evt_٣", "evt_9007199254740992", "rev_1", "7"])
    def test_other_ids_have_no_number(self, identifier: str) -> None:
        """The event counts all the same, and the bad number with it."""
        said = feed(json.dumps(row(1) | {"eventId": identifier}).encode())
        assert isinstance(said, Event)
        assert (None, True, True) == (said.number, said.bad_number, said.strong)
        assert None is event_number(identifier)

    def test_without_an_id(self) -> None:
        """Type, path, revision and time identify it, as the SDK's synthetic id does."""
        frame = row(1)
        del frame["eventId"]
        said = feed(json.dumps(frame).encode())
        assert isinstance(said, Event)
        assert ("file.created:/docs/a.md:rev_1:2026-11-20T11:43:01Z", True, None) == (said.key, said.strong, said.number)

    @pytest.mark.parametrize(
        "data",
        [b"", b"x", b"[]", b'"x"', b"7", b"null", b"{}", b'{"type":7}', b'{"type":"a","path":1}', b'{"type":"a","timestamp":1}',
         b'{"type":"a","resource":"x"}', b'{"type":"a","x":"\xff"}', b"[" * 100_000],
    )  # fmt: skip
    def test_garbage(self, data: bytes) -> None:
        """What the SDK calls an error event is invalid here; never fatal."""
        said = feed(data)
        assert isinstance(said, Invalid)
        assert not said.fatal

    def test_binary_frames_are_invalid(self) -> None:
        """The server writes text."""
        assert isinstance(feed(CREATED, binary=True), Invalid)

    @given(st.binary(max_size=200))
    def test_nothing_raises(self, data: bytes) -> None:
        """Whatever a peer sends."""
        assert 1 == len(RelayfileWire().feed(data))
        assert isinstance(Relayfile("http://h", "w").page(data), (Page, Invalid))

    def test_ready_at_once_and_a_ping_that_carries_nothing(self) -> None:
        """No greeting, no handshake of its own; it never asks on the socket."""
        wire = RelayfileWire()
        assert (Ready(),) == tuple(wire.opened())
        assert '{"type":"ping"}' == wire.ping(7)
        with pytest.raises(NotImplementedError):
            wire.resync(1, None)


class TestPages:
    def test_rows_oldest_first(self) -> None:
        """As they come; and the newest-first page of a tip is turned round."""
        forward, backward = page(row(3), row(5)), page(row(5), row(3))
        assert isinstance(forward, Page)
        assert forward == backward
        assert [3, 5] == [event.number for event in forward.events]

    def test_the_next_cursor(self) -> None:
        """Only when more remain."""
        more, last = page(row(3), next_cursor="evt_3"), page()
        assert isinstance(more, Page)
        assert isinstance(last, Page)
        assert (3, None, ()) == (more.next_after, last.next_after, last.events)

    def test_rows_outside_the_filter_are_named(self) -> None:
        """The feed knows no paths; the socket does (§3.6)."""
        protocol = Relayfile("http://h", "w", ["/docs/**", "/a/*/c"])
        said = page(row(1, "/docs/x/y"), row(2, "/other"), row(3, "/a/b/c"), row(4, "/a/b/b/c"), row(5, "/docs"), row(6, ""), protocol=protocol)
        assert isinstance(said, Page)
        assert {2, 4, 6} == said.skipped

    def test_rows_without_a_number_are_counted_and_left_out(self) -> None:
        """They cannot be compared."""
        said = page(row(1), row(2) | {"eventId": "x"})
        assert isinstance(said, Page)
        assert (1, 1) == (len(said.events), said.malformed)

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"events":7}', b'{"events":[7]}', b'{"events":[],"nextCursor":7}', b'{"events":[],"nextCursor":"x"}', b"\xff"])
    def test_what_is_no_page(self, body: bytes) -> None:
        """Said, never raised."""
        assert isinstance(Relayfile("http://h", "w").page(body), Invalid)


class TestRequests:
    def test_the_upgrade(self) -> None:
        """The token's place is named and comes first; then the cursor or `from=now`, then each path (§3.1)."""
        protocol = Relayfile("https://api.example.com/base/", "ws demo", ["/docs/**", "/x y"])
        root = "wss://api.example.com/base/v1/workspaces/ws%20demo/fs/ws"
        assert f"{root}?from=now&path=%2Fdocs%2F%2A%2A&path=%2Fx+y" == protocol.dial().url
        request = protocol.dial(7)
        assert f"{root}?cursor=evt_7&path=%2Fdocs%2F%2A%2A&path=%2Fx+y" == request.url
        assert ("token", False) == (request.token_query, request.bearer)

    def test_the_feed(self) -> None:
        """A bearer, the mandatory correlation id, the largest page; without a cursor from the beginning."""
        protocol = Relayfile("ws://h:8080", "w")
        request = protocol.poll(7, -3)
        assert "http://h:8080/v1/workspaces/w/fs/events?cursor=evt_7&limit=1000" == request.url
        assert (True, None, {"X-Correlation-Id": "syncwatch-3"}) == (request.bearer, request.token_query, dict(request.headers))
        assert "http://h:8080/v1/workspaces/w/fs/events?limit=1000" == protocol.poll(None, -4).url
        assert "http://h:8080/v1/workspaces/w/fs/events?direction=desc&limit=2" == protocol.tip(-5).url

    def test_the_canary(self) -> None:
        """One fixed path whatever its revision; the mark is the correlation id and nowhere else (§5)."""
        request = Relayfile("http://h", "w", canary_path="/.syncwatch/canary.json").canary("syncwatch-canary-1")
        assert ("PUT", "http://h/v1/workspaces/w/fs/file?path=%2F.syncwatch%2Fcanary.json") == (request.method, request.url)
        assert {"Content-Type": "application/json", "If-Match": "*", "X-Correlation-Id": "syncwatch-canary-1"} == dict(request.headers)
        assert b"syncwatch-canary-1" not in (request.body or b"")
        assert ((), None) == (Relayfile("http://h", "w").canary_setup(), Relayfile("http://h", "w").canary_time_s(b"{}"))

    def test_the_traits(self) -> None:
        """Numbers jump, the log settles, the socket resumes."""
        protocol = Relayfile("http://h", "w")
        assert ("relayfile", "push", "w") == (protocol.name, protocol.dialect, protocol.scope)
        traits = protocol.traits
        assert (Numbering.INCREASING, Settle.FEED, True, True) == (traits.numbering, traits.settle, traits.feed, traits.resumes)

    def test_the_scope(self) -> None:
        """A resume point made under other filters is of another stream: what they hid was never promised. Their order and repetition mean nothing."""
        plain, one = Relayfile("http://h", "w"), Relayfile("http://h", "w", ["/docs/**"])
        both, again = Relayfile("http://h", "w", ["/docs/**", "/src/*"]), Relayfile("http://h", "w", ["/src/*", "/docs/**", "/src/*"])
        assert 3 == len({plain.scope, one.scope, both.scope})
        assert both.scope == again.scope

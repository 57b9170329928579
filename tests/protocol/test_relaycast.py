"""The Relaycast codec, dialect ring: every frame kind, every bad number, every kind of garbage; and what it sends."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncwatch.core.wire import (
    MAX_NUMBER,
    Ack,
    Control,
    Event,
    FrameKind,
    Invalid,
    Numbering,
    Pong,
    Ready,
    Reply,
    Said,
    Settle,
)
from syncwatch.protocols.iso import iso_text, iso_time_s
from syncwatch.protocols.relaycast import PAGE_LIMIT, Relaycast, RingWire, snowflake_time_s
from syncwatch.version import __version__

SNOWFLAKE = "1234567890123456789"
SNOWFLAKE_S = ((1234567890123456789 >> 22) + 1735689600000) / 1000


def feed(frame: object, binary: bool = False) -> Said:
    """The one word of one frame: bytes as they are, anything else as JSON."""
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    words = RingWire(()).feed(data, binary)
    assert 1 == len(words)
    return words[0]


def event(frame: object) -> Event:
    """The one event of one frame."""
    said = feed(frame)
    assert isinstance(said, Event), said
    return said


def message(kind: str = "message.created", **more: Any) -> dict[str, Any]:
    """A message event as the server writes it."""
    return {
        "id": "107b7647-005d-5e97-bfad-81d9da5584eb",
        "type": kind,
        "channel": "general",
        "message": {"id": SNOWFLAKE, "agent_id": "1", "agent_name": "alice", "text": "hi", "attachments": []},
        "channel_seq": 4,
        "agent_seq": 8,
        **more,
    }


class TestFrames:
    @pytest.mark.parametrize("kind", ["message.created", "thread.reply", "dm.received", "group_dm.received"])
    def test_messages_are_strong_by_their_id(self, kind: str) -> None:
        """Number, server time from the message's own id, and the channel's numbers beside."""
        said = event(message(kind))
        assert ("107b7647-005d-5e97-bfad-81d9da5584eb", True, 8, SNOWFLAKE_S, False, False) == (
            said.key, said.strong, said.number, said.time_s, said.replayed, said.bad_number,
        )  # fmt: skip
        assert ("general", 4, None) == (said.lane, said.lane_number, said.page_kind)

    def test_the_id_alone_is_the_identity(self) -> None:
        """§5: a thread reply inside a DM is live `thread.reply`, and replayed as `dm.received` with the same id."""
        assert event(message("thread.reply")).key == event(message("dm.received", replayed=True)).key

    @pytest.mark.parametrize(
        ("kind", "page"),
        [
            ("message.created", "channel"),
            ("thread.reply", "channel"),
            ("dm.received", "dm"),
            ("group_dm.received", "dm"),
        ],
    )
    def test_a_database_row_is_the_same_event_without_number(self, kind: str, page: str) -> None:
        """Its body differs, its id does not; it tells which bounded query it came from."""
        live = event(message(kind))
        row = message(kind, replayed=True)
        del row["agent_seq"], row["channel_seq"]
        said = event(row)
        assert (live.key, True, None, False, True, page, SNOWFLAKE_S) == (
            said.key, said.strong, said.number, said.bad_number, said.replayed, said.page_kind, said.time_s,
        )  # fmt: skip

    @pytest.mark.parametrize("kind", ["delivery.accepted", "delivery.delivered", "delivery.failed"])
    def test_deliveries_are_strong_by_kind_and_delivery_id(self, kind: str) -> None:
        """One delivery is accepted and later delivered: two events. Its id carries the server's time."""
        said = event({"type": kind, "delivery_id": f"del_{SNOWFLAKE}", "message_id": "7", "reason": "message", "agent_seq": 9})
        assert (f"{kind}:del_{SNOWFLAKE}", True, 9, SNOWFLAKE_S) == (said.key, said.strong, said.number, said.time_s)

    def test_a_deferred_delivery_is_weak(self) -> None:
        """It may happen twice to one delivery."""
        assert not event({"type": "delivery.deferred", "delivery_id": f"del_{SNOWFLAKE}", "agent_seq": 9}).strong

    @pytest.mark.parametrize(
        "kind",
        [
            "message.updated", "message.reacted", "reaction.added", "reaction.removed", "agent.status.active", "agent.online",
            "channel.created", "channel.updated", "member.joined", "message.read", "file.uploaded", "action.invoked",
            "agent.spawn_requested", "harness.anything", "",
        ],
    )  # fmt: skip
    def test_everything_else_with_a_type_is_an_event(self, kind: str) -> None:
        """Known by its content, because nothing in it identifies it; also kinds that nobody has heard of."""
        said = event({"type": kind, "agent_seq": 3, "id": "not an identity here"})
        assert (False, 3, False) == (said.strong, said.number, said.replayed)

    @pytest.mark.parametrize("missing", [None, "", 0, 7, [], {}])
    def test_a_message_without_a_usable_id_is_weak(self, missing: object) -> None:
        """Still an event with its number."""
        said = event(message(id=missing))
        assert (False, 8) == (said.strong, said.number)

    def test_pong(self) -> None:
        """It carries nothing, and more fields change nothing."""
        assert Pong() == feed({"type": "pong"}) == feed({"type": "pong", "id": 7, "agent_seq": "x"})

    def test_resync_ack(self) -> None:
        """As sent, also for the full resync and the largest number."""
        for after in (42, 0, -1, MAX_NUMBER):
            frame = {"type": "resync_ack", "last_seen_seq": after, "current_seq": 49, "replayed": 7, "gap_detected": True}
            assert Ack(after, 49, 7, True) == feed(frame)

    @pytest.mark.parametrize(
        "change",
        [
            {"current_seq": -1}, {"current_seq": 2**53}, {"current_seq": "49"}, {"current_seq": None}, {"current_seq": 4.5},
            {"replayed": -1}, {"replayed": "7"}, {"replayed": None}, {"gap_detected": 1}, {"gap_detected": None},
            {"last_seen_seq": "42"}, {"last_seen_seq": None}, {"last_seen_seq": []}, {"replayed": 10**400},
        ],
    )  # fmt: skip
    def test_an_acknowledgement_that_cannot_be_understood_is_invalid(self, change: dict[str, object]) -> None:
        """Never half believed."""
        frame = {"type": "resync_ack", "last_seen_seq": 42, "current_seq": 49, "replayed": 7, "gap_detected": False}
        assert Invalid("resync_ack") == feed(frame | change)
        for field in ("last_seen_seq", "current_seq", "replayed", "gap_detected"):
            assert Invalid("resync_ack") == feed({key: value for key, value in frame.items() if key != field})

    def test_replayed_means_true_and_nothing_else(self) -> None:
        """The mark is a boolean."""
        assert event(message(replayed=True)).replayed
        for value in (False, 1, "true", None, 7):
            assert not event(message(replayed=value)).replayed

    @pytest.mark.parametrize(("channel", "channel_seq"), [({"name": "x"}, 4), ("x", "4"), ("x", True), ("x", 4.0), (None, None), (7, 4)])
    def test_a_lane_needs_a_name_and_a_number(self, channel: object, channel_seq: object) -> None:
        """Or there is none; the event is one all the same."""
        said = event(message(channel=channel, channel_seq=channel_seq))
        assert (None, None, 8) == (said.lane, said.lane_number, said.number)


class TestNumbers:
    @pytest.mark.parametrize("number", [1, 2, 500, MAX_NUMBER, 3.0, 9007199254740991.0])
    def test_good(self, number: float) -> None:
        """Integers from 1 to 2^53-1; 3.0 is the integer 3."""
        said = event(message(agent_seq=number))
        assert (int(number), int, False) == (said.number, type(said.number), said.bad_number)

    @pytest.mark.parametrize(
        "number", ["99", "", 7.5, -3, 0, 0.0, -0.0, True, False, None, 2**53, 1e300, -(2**70), 2**70, [], [5], {}, {"seq": 5}]
    )
    def test_bad_ones_leave_an_unnumbered_live_event(self, number: object) -> None:
        """Accounting rule 9: counted and delivered, the position untouched."""
        said = event(message(agent_seq=number))
        assert (None, True, True, False) == (said.number, said.bad_number, said.strong, said.replayed)

    @pytest.mark.parametrize("digits", ["1e400", "-1e400", "9" * 300, "9" * 5000, "-" + "9" * 5000, "1" + "0" * 400 + ".5"])
    def test_numbers_that_no_machine_holds_are_bad_numbers(self, digits: str) -> None:
        """JavaScript reads them as infinity; nothing is refused for them, wherever they stand."""
        for kind in ("message.created", "message.updated"):
            said = event(f'{{"type":"{kind}","id":"a","agent_seq":{digits}}}'.encode())
            assert (None, True) == (said.number, said.bad_number)
            said = event(f'{{"type":"{kind}","id":"a","agent_seq":5,"other":{digits}}}'.encode())
            assert (5, False) == (said.number, said.bad_number)

    def test_no_number_is_not_a_bad_one(self) -> None:
        """Database rows and workspace streams have none."""
        frame = message()
        del frame["agent_seq"]
        assert (None, False) == (event(frame).number, event(frame).bad_number)


class TestGarbage:
    @pytest.mark.parametrize(
        "data",
        [
            b"", b" ", b"{", b"}", b"nonsense", b"\xff\xfe", b'{"type":"x","t":"\xff"}', b'{"type":"x","t":"\xc3"}',
            b'{"type":"x","t":"\xed\xa0\x80"}', b'{"type":"pong"}x', b'{"type":"pong"}{"type":"pong"}', b"\xef\xbb\xbf{}",
            b'{"type":"x","n":NaN}', b'{"type":"x","n":Infinity}', b"NaN", b'{"type":"x","t":"a\nb"}', b'{"type":"x",}',
            b'{"type":"x","n":01}', b"{'type':'x'}", b'{"type":"x","t":"\\u12"}', b'{"type":"x"', b"\x00",
            b"[" * 100_000, b'{"a":' * 100_000, b'{"type":"x","t":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        ],
        ids=lambda data: repr(data[:24]),
    )  # fmt: skip
    def test_what_is_no_json_is_invalid_and_never_fatal(self, data: bytes) -> None:
        """Also inside fields that nobody reads."""
        said = feed(data)
        assert isinstance(said, Invalid)
        assert (False, "not JSON") == (said.fatal, said.reason)

    @pytest.mark.parametrize("frame", ["x", [], {}, None, 7, True, {"no": "type"}, {"type": None}, {"type": 7}, {"type": ["x"]}])
    def test_what_has_no_type_is_no_event(self, frame: object) -> None:
        """JSON all right."""
        assert Invalid("no event") == feed(frame)

    def test_a_binary_frame_is_invalid_whatever_it_holds(self) -> None:
        """Frames are text."""
        assert Invalid("binary frame") == feed(message(), binary=True)

    def test_half_a_letter_is_a_letter(self) -> None:
        """A text cut in the middle of an emoji reaches us as the server's JavaScript writes it: an event as any other, with all it tells."""
        half = b'"hi \\ud83d"'
        plain = json.dumps(message(text="hi")).encode()
        odd = plain.replace(b'"hi"', half)
        assert odd != plain
        live = event(odd)
        assert ("107b7647-005d-5e97-bfad-81d9da5584eb", True, 8, SNOWFLAKE_S) == (live.key, live.strong, live.number, live.time_s)
        row = event(odd.replace(b'"agent_seq": 8', b'"replayed": true'))
        assert (live.key, None, True, "channel") == (row.key, row.number, row.replayed, row.page_kind)
        delivery = b'{"type":"delivery.accepted","delivery_id":"del_%s","agent_seq":9,"x":%s}' % (SNOWFLAKE.encode(), half)
        assert (f"delivery.accepted:del_{SNOWFLAKE}", True, 9, SNOWFLAKE_S) == (
            event(delivery).key, event(delivery).strong, event(delivery).number, event(delivery).time_s,
        )  # fmt: skip

    def test_half_a_letter_in_weak_content(self) -> None:
        """The same content is the same event, other content another; the key can be written to a file."""
        first, second = (b'{"type":"message.updated","agent_seq":%d,"text":"\\ud83d"}' % number for number in (3, 4))
        other = b'{"type":"message.updated","agent_seq":3,"text":"\\ud83e"}'
        assert event(first).key == event(second).key != event(other).key
        assert msgspec.json.encode(event(first).key)

    def test_half_a_letter_in_an_id(self) -> None:
        """Still an identity, and one that can be written to a file."""
        said = event(b'{"type":"message.created","id":"\\ud83d","agent_seq":3}')
        assert (True, 3) == (said.strong, said.number)
        assert said.key != event(b'{"type":"message.created","id":"\\ud83e","agent_seq":3}').key
        assert msgspec.json.encode(said.key)

    def test_a_megabyte_of_text_is_an_event(self) -> None:
        """Messages have no largest size."""
        assert 8 == event(message(text="x" * 1_000_000)).number
        assert 8 == event({"type": "message.updated", "text": "é" * 1_000_000, "agent_seq": 8}).number

    def test_unusual_fields_do_not_hide_an_event(self) -> None:
        """Each known field with a value of another type: still one event with its number."""
        for field in ("id", "message", "delivery_id", "timestamp", "channel", "channel_seq", "replayed"):
            values: tuple[object, ...] = (None, 7, "x", [], {}, True, {"id": 7}, 1.5)
            for value in values:
                for kind in ("message.created", "delivery.accepted", "agent.status.active"):
                    assert 8 == event({**message(kind), field: value}).number

    def test_a_frame_sets_nothing_that_is_ours(self) -> None:
        """Fields with the names of what the codec itself decides."""
        plain = event(message())
        ours: dict[str, Any] = {"strong": False, "bad_number": True, "time_s": 5.0, "page_kind": "channel", "key": "x", "number": 9, "lane": "x", "lane_number": 1}
        for said in (event(message(**ours)), *(event(message(**{name: value})) for name, value in ours.items())):
            assert (plain.key, True, 8, SNOWFLAKE_S, False, False, None, "general", 4) == (
                said.key, said.strong, said.number, said.time_s, said.replayed, said.bad_number, said.page_kind, said.lane, said.lane_number,
            )  # fmt: skip

    def test_the_last_of_two_equal_names_counts(self) -> None:
        """As in JavaScript."""
        assert ("b", 2) == (
            event(b'{"type":"message.created","id":"a","id":"b","agent_seq":1,"agent_seq":2}').key,
            event(b'{"type":"message.created","id":"a","id":"b","agent_seq":1,"agent_seq":2}').number,
        )

    @settings(max_examples=500, deadline=None)
    @given(st.binary(max_size=200), st.booleans())
    def test_any_bytes_make_words_and_never_raise(self, data: bytes, binary: bool) -> None:
        """Exactly one word per message."""
        words = RingWire(()).feed(data, binary)
        assert 1 == len(words)
        assert isinstance(words[0], (Event, Ack, Pong, Control, Invalid))

    @settings(max_examples=500, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(
                ["type", "id", "agent_seq", "channel_seq", "channel", "message", "delivery_id", "timestamp", "replayed",
                 "last_seen_seq", "current_seq", "gap_detected", "emoji", "action"]
            ),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text()
                | st.sampled_from(["message.created", "resync_ack", "pong", "delivery.accepted", "message.reacted", "\ud800"]),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=5,
            ),
            max_size=10,
        )
    )  # fmt: skip
    def test_any_object_makes_one_word(self, fields: dict[str, Any]) -> None:
        """Frames of the right shape with anything in them; a key is always text that a file can hold, a number always in range."""
        said = feed(fields)
        if isinstance(said, Event):
            assert said.key.encode()
            assert said.number is None or 1 <= said.number <= MAX_NUMBER
            assert not (said.bad_number and said.number is not None)
        typed = isinstance(fields.get("type"), str) and fields["type"] not in ("pong", "resync_ack")
        nan = any(word in json.dumps(fields) for word in ("NaN", "Infinity"))
        assert nan or typed == isinstance(said, Event)


class TestWeakKeys:
    LIVE = {"type": "message.reacted", "message_id": "7", "emoji": "eyes", "agent_name": "bob", "action": "added", "agent_seq": 5, "channel": "general", "channel_seq": 2}  # noqa: RUF012  a constant

    def test_a_reaction_and_its_database_row_are_equal(self) -> None:
        """The row differs in shape: no channel, no stamps, another kind in the oldest build, and `added` may be left out."""
        key = event(self.LIVE).key
        substance = {"message_id": "7", "emoji": "eyes", "agent_name": "bob", "replayed": True}
        for row in (
            {"type": "message.reacted", "action": "added", **substance},
            {"type": "message.reacted", **substance},
            {"type": "reaction.added", "id": "whatever", **substance},
        ):
            said = event(row)
            assert (key, False, True, "reaction") == (said.key, said.strong, said.replayed, said.page_kind)

    @pytest.mark.parametrize("change", [{"emoji": "rocket"}, {"message_id": "8"}, {"agent_name": "eve"}, {"action": "removed"}])
    def test_another_reaction_is_another(self, change: dict[str, str]) -> None:
        """Message, emoji, agent and action are its substance."""
        assert event(self.LIVE).key != event(self.LIVE | change).key

    def test_removing_is_not_adding(self) -> None:
        """Whichever way it is written."""
        removed = {"type": "reaction.removed", "message_id": "7", "emoji": "eyes", "agent_name": "bob"}
        assert event(self.LIVE | {"action": "removed"}).key == event(removed).key != event(self.LIVE).key

    def test_stamps_are_not_content(self) -> None:
        """The ring's copy, another epoch's number and a replayed mark leave the key alone; so does the order of fields."""
        frame = {"type": "channel.updated", "channel": {"name": "x", "topic": "y"}}
        keys = {
            event({**frame, **stamps}).key
            for stamps in ({}, {"agent_seq": 3}, {"agent_seq": 4, "channel_seq": 9}, {"replayed": True}, {"agent_seq": "bad"})
        }
        keys.add(event(dict(reversed(frame.items()))).key)
        assert 1 == len(keys)

    def test_presence_differs_by_its_timestamp(self) -> None:
        """One agent comes and goes: each time is its own event, with its own time."""
        frames = [
            {"type": "agent.status.active", "agent_name": "bob", "status": "active", "timestamp": f"2026-06-10T12:00:0{s}.250Z"}
            for s in (1, 2)
        ]
        first, second = (event(frame) for frame in frames)
        assert first.key != second.key
        assert (1781092801.25, 1781092802.25) == (first.time_s, second.time_s)
        assert first == event(frames[0])


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "time_s"),
        [
            (SNOWFLAKE, SNOWFLAKE_S),
            (str((1_781_092_801_250 - 1_735_689_600_000) << 22), 1781092801.25),
            (str(((1_781_092_801_250 - 1_735_689_600_000) << 22) | 0x3FFFFF), 1781092801.25),
        ],
    )
    def test_a_snowflake_carries_the_servers_time_exactly(self, text: str, time_s: float) -> None:
        """§3.3; computed as integers, because the id exceeds what a float holds."""
        assert time_s == snowflake_time_s(text)

    @pytest.mark.parametrize("text", ["", "7", "m_1", "-1234567890123456789", "1234567890123456.789", "１２３４５６７８９０１２３４５６７", "9" * 30, "0x1234567890123456", " 123456789012345678"])
    def test_what_is_no_snowflake_has_no_time(self, text: str) -> None:
        """Unknown, not zero."""
        assert None is snowflake_time_s(text)

    @pytest.mark.parametrize(
        ("text", "time_s"),
        [
            ("2026-06-10T12:00:00.123Z", 1781092800.123),
            ("2026-06-10T12:00:00Z", 1781092800.0),
            ("2026-06-10T14:00:00.123+02:00", 1781092800.123),
            ("2026-06-10T12:00:00.123", None),
            ("yesterday", None),
            ("", None),
            ("2026-13-10T12:00:00Z", None),
        ],
    )
    def test_iso_times(self, text: str, time_s: float | None) -> None:
        """Without a zone it is nobody's time."""
        assert time_s == iso_time_s(text)

    def test_iso_text_is_what_the_servers_date_parser_reads(self) -> None:
        """UTC, milliseconds, Z; outside the calendar there is none."""
        assert "2026-06-10T12:00:00.123Z" == iso_text(1781092800.123)
        assert "1970-01-01T00:00:00.000Z" == iso_text(0.0)
        assert [None] * 4 == [iso_text(value) for value in (float("nan"), float("inf"), -1e18, 1e18)]

    @given(st.integers(0, 4_000_000_000))
    def test_whole_seconds_survive(self, second: int) -> None:
        """What is asked for is a second, and is read back as the same."""
        text = iso_text(float(second))
        assert text is not None
        assert float(second) == iso_time_s(text)


class TestSending:
    def test_the_resync_request_exactly(self) -> None:
        """`last_seen_seq` is a JSON number, or the server ignores the frame without an answer."""
        wire = RingWire(())
        assert '{"type":"resync","last_seen_seq":42,"since":"2026-06-10T12:00:00.000Z"}' == wire.resync(42, 1781092800.0)
        assert '{"type":"resync","last_seen_seq":42}' == wire.resync(42, None)
        assert '{"type":"resync","last_seen_seq":-1,"since":"2026-06-10T11:59:58.000Z"}' == wire.resync(-1, 1781092798.0)
        assert '{"type":"resync","last_seen_seq":9007199254740991}' == wire.resync(MAX_NUMBER, None)
        assert '{"type":"resync","last_seen_seq":42}' == wire.resync(42, float("inf"))

    def test_the_ping_exactly(self) -> None:
        """It carries nothing."""
        assert '{"type":"ping"}' == RingWire(()).ping(7)

    def test_the_first_words(self) -> None:
        """Subscribe, if anything is configured, then ready at once: the dialect has no handshake of its own."""
        assert (Ready(),) == tuple(RingWire(()).opened())
        subscribe = Reply('{"type":"subscribe","channels":["general","ops"]}')
        assert (subscribe, Ready()) == tuple(RingWire(["general", "ops"]).opened())
        assert FrameKind.CONTROL is subscribe.kind


class TestProtocol:
    @pytest.mark.parametrize(
        ("url", "dialled"),
        [
            ("http://127.0.0.1:8787", "ws://127.0.0.1:8787/v1/ws"),
            ("https://cast.example.com/", "wss://cast.example.com/v1/ws"),
            ("https://example.com/cast//", "wss://example.com/cast/v1/ws"),
            ("wss://cast.example.com", "wss://cast.example.com/v1/ws"),
            ("http://[::1]:8787", "ws://[::1]:8787/v1/ws"),
        ],
    )
    def test_the_upgrade(self, url: str, dialled: str) -> None:
        """The scheme follows the base, the telemetry says who we are, the token's place is named and its value is not here."""
        request = Relaycast(url).dial()
        assert f"{dialled}?origin_client=syncwatch&origin_version={__version__}" == request.url
        assert ("token", False, "connection", "GET") == (request.token_query, request.bearer, request.token, request.method)

    def test_the_traits(self) -> None:
        """Every number counts, and an acknowledgement settles."""
        protocol = Relaycast("http://x")
        assert ("relaycast", "ring", 1000) == (protocol.name, protocol.dialect, protocol.page_limit)
        assert (Numbering.CONTIGUOUS, Settle.ACK, False, 1000) == (
            protocol.traits.numbering, protocol.traits.settle, protocol.traits.feed, PAGE_LIMIT,
        )  # fmt: skip

    def test_each_attempt_has_a_wire_of_its_own(self) -> None:
        """With the configured subscriptions."""
        protocol = Relaycast("http://x", ["general"])
        assert protocol.wire(1) is not protocol.wire(1)
        assert 2 == len(protocol.wire(1).opened())

    def test_the_canary_posts_its_mark_once(self) -> None:
        """§10: a message with an idempotency key, the canary's own token, plain HTTP even where the base is a WebSocket's."""
        request = Relaycast("wss://cast.example.com/", canary_channel="sync watch", canary_token="canary").canary("syncwatch-canary-1")
        assert ("POST", "https://cast.example.com/v1/channels/sync%20watch/messages") == (request.method, request.url)
        assert {"text": "syncwatch-canary-1", "mode": "wait"} == json.loads(request.body or b"")
        assert ("syncwatch-canary-1", "application/json") == (
            dict(request.headers)["Idempotency-Key"], dict(request.headers)["Content-Type"],
        )  # fmt: skip
        assert (True, "canary", None) == (request.bearer, request.token, request.token_query)

    def test_the_canarys_place_is_made_and_joined(self) -> None:
        """In this order."""
        create, join = Relaycast("http://x:1").canary_setup()
        assert ("http://x:1/v1/channels", {"name": "syncwatch", "topic": None}) == (create.url, json.loads(create.body or b""))
        assert ("http://x:1/v1/channels/syncwatch/join", None) == (join.url, join.body)

    def test_the_answer_tells_the_servers_time_by_its_id(self) -> None:
        """`created_at` has whole seconds only; anything else tells nothing."""
        protocol = Relaycast("http://x")
        assert SNOWFLAKE_S == protocol.canary_time_s(json.dumps({"ok": True, "data": {"id": SNOWFLAKE}}).encode())
        for body in (b"", b"[]", b"null", b'{"data":null}', b'{"data":{"id":7}}', b'{"data":{}}', b"\xff", b"[" * 100_000):
            assert None is protocol.canary_time_s(body)

    @given(st.binary(max_size=100))
    def test_no_answer_ever_raises(self, body: bytes) -> None:
        """It comes from a peer."""
        protocol = Relaycast("http://x")
        assert None is protocol.canary_time_s(body)


def test_a_script_fed_frame_by_frame() -> None:
    """A connection's beginning as it really reads: own presence, traffic, a replay with rows, the acknowledgement."""
    presence = {"type": "agent.status.active", "agent_name": "w", "status": "active", "timestamp": "2026-06-10T12:00:00.000Z"}
    frames: list[object] = [
        {**presence, "agent_seq": 1},
        message(agent_seq=2),
        {"type": "pong"},
        "x",
        {**presence, "agent_seq": 1},
        message(agent_seq=2),
        {key: value for key, value in message(replayed=True).items() if not key.endswith("_seq")},
        {"type": "resync_ack", "last_seen_seq": -1, "current_seq": 2, "replayed": 3, "gap_detected": True},
    ]
    wire = Relaycast("http://x").wire(0)
    words = [word for frame in frames for word in wire.feed(json.dumps(frame).encode())]
    kinds = [next(kind for kind in (Event, Pong, Invalid, Ack) if isinstance(word, kind)) for word in words]
    assert [Event, Event, Pong, Invalid, Event, Event, Event, Ack] == kinds
    assert words[:2] == words[4:6]
    assert [1, 2, 1, 2, None] == [word.number for word in words if isinstance(word, Event)]

"""Reading a request and cutting the ring: every sentence of wire: relaycast §5 steps 1 to 3, and §6."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.relay.resync import Resync, ack, floor_s, from_ring, js_number, understand
from tests.unit.relay_parts import Parts


def ring(count: int) -> Parts:
    """An agent `alice` after this many pushes."""
    parts = Parts()
    parts.workspace("alice")
    parts.fill("alice", count)
    return parts


@pytest.mark.parametrize(
    ("count", "last", "numbers", "gap"),
    [
        pytest.param(600, 100, range(101, 601), False, id="full ring, the event before the oldest was seen"),
        pytest.param(600, 99, range(101, 601), True, id="full ring, one below that"),
        pytest.param(600, 600, (), False, id="nothing to replay: equal"),
        pytest.param(600, 601, (), False, id="nothing to replay: above, as after a restart"),
        pytest.param(600, 598, (599, 600), False, id="the last two"),
        pytest.param(600, -1, range(101, 601), True, id="minus one reports a gap"),
        pytest.param(5, -1, range(1, 6), True, id="minus one reports a gap for a ring that reaches back to 1"),
        pytest.param(0, -1, (), True, id="minus one reports a gap for an empty ring"),
        pytest.param(5, 0, range(1, 6), False, id="zero does not: the oldest is 1"),
        pytest.param(0, 0, (), False, id="zero and nothing pushed"),
        pytest.param(600, 0, range(101, 601), True, id="zero with a full ring"),
        pytest.param(5, 2.5, (3, 4, 5), False, id="a fraction"),
        pytest.param(600, 99.5, range(101, 601), True, id="a fraction just below"),
        pytest.param(5, 0.5, range(1, 6), False, id="a fraction below one"),
        pytest.param(5, -7.25, range(1, 6), True, id="a negative fraction"),
        pytest.param(7, 41, (), False, id="restart below the cursor: a clean resync, all of it lost (§6)"),
        pytest.param(
            25, 11, range(12, 26), False, id="restart that has overtaken the cursor: as if nothing happened (§6)"
        ),
    ],
)
def test_what_the_ring_has_and_whether_it_reaches_back(count: int, last: float, numbers: range, gap: bool) -> None:
    """`seq > L` in ascending order; a gap if `L < oldest - 1`."""
    replay = from_ring(ring(count).agent("alice"), last)
    assert (list(numbers), gap) == ([frame.number for frame in replay.frames], replay.gap)


def test_a_ring_cleared_under_a_counter_that_stands_reports_a_gap() -> None:
    """With an empty ring the oldest is C + 1."""
    parts = ring(5)
    parts.agent("alice").ring.clear()
    assert ([], True) == from_ring(parts.agent("alice"), 4)
    assert ([], False) == from_ring(parts.agent("alice"), 5)


def test_the_ring_holds_the_original_payload() -> None:
    """No marker, the original numbers: byte for byte what was sent live."""
    parts = ring(0)
    live = parts.post("alice", "hi")
    frame = from_ring(parts.agent("alice"), 0).frames[0]
    assert str(live).encode() in frame.payload
    assert frame.payload.endswith(b',"channel_seq":1,"agent_seq":1}')


@pytest.mark.parametrize("value", ['"5"', "null", "true", "[]", "{}"])
def test_a_request_needs_a_number(value: str) -> None:
    """Anything but a JSON number is ignored without an acknowledgement."""
    assert understand(f'{{"type":"resync","last_seen_seq":{value}}}').resync is None
    assert understand('{"type":"resync"}').resync is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", 42),
        ("-1", -1),
        ("7.5", 7.5),
        ("5.0", 5),
        ("1e3", 1000),
        ("-0", 0),
        ("1152921504606846977", 1152921504606847000),
    ],
)
def test_numbers_are_javascripts(text: str, expected: float) -> None:
    """Compared as doubles, echoed as `JSON.stringify` prints them."""
    said = understand(f'{{"type":"resync","last_seen_seq":{text},"since":"2026-01-01"}}')
    assert Resync(expected, "2026-01-01") == said.resync
    assert said.resync is not None
    assert type(expected) is type(said.resync.last_seen_seq)


def test_a_number_beyond_all_doubles_is_infinite_and_acknowledged_as_null() -> None:
    """JavaScript reads such digits as Infinity, which JSON cannot say."""
    said = understand('{"type":"resync","last_seen_seq":1' + "0" * 400 + "}")
    assert said.resync is not None
    assert math.isinf(said.resync.last_seen_seq)
    assert ack(math.inf, 3, 0, False)["last_seen_seq"] is None
    assert -math.inf == js_number(-(10**400))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ('{"type":"ping"}', "ping"),
        (b'{"type":"ping"}', "ping"),
        ('{"type":"subscribe","channels":["general"]}', "subscribe"),
        ("", "invalid"),
        ("{", "invalid"),
        ("[]", "invalid"),
        ('"ping"', "invalid"),
        ("null", "invalid"),
        ('{"no":"type"}', "invalid"),
        ('{"type":7}', "invalid"),
        (b"\xff\xfe", "invalid"),
        ("[" * 100_000, "invalid"),
    ],
)
def test_other_frames_are_known_by_their_type_or_invalid(data: str | bytes, kind: str) -> None:
    """Binary frames are read like text; what cannot be read is never an error."""
    assert (kind, None) == understand(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    """Whatever a client sends."""
    assert isinstance(understand(data).kind, str)


@given(st.text(max_size=60))
def test_no_since_raises(text: str) -> None:
    """Whatever a client writes."""
    assert floor_s(text) is None or isinstance(floor_s(text), int)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("2026-06-10T12:00:00.123Z", 1781092800),
        ("2026-06-10T12:00:00.999Z", 1781092800),
        ("2026-06-10T14:00:00+02:00", 1781092800),
        ("2026-06-10", 1781049600),
        ("Wed, 10 Jun 2026 12:00:00 GMT", 1781092800),
        ("1969-12-31T23:59:59.500Z", -1),
        ("soon", None),
        ("", None),
        ("2026-13-40T00:00:00Z", None),
    ],
)
def test_since_is_floored_to_the_second(since: str, expected: int | None) -> None:
    """`floor(since_ms / 1000)`; an unreadable one names no second."""
    assert expected == floor_s(since)


def test_the_acknowledgement_has_the_servers_fields_in_order() -> None:
    """Type, then L as sent, then the counter, the frames and the gap."""
    assert ["type", "last_seen_seq", "current_seq", "replayed", "gap_detected"] == list(ack(3, 7, 4, False))

"""Records: the document's samples, every form, round trips, and bytes that want to do harm."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from syncwatch.core.wire import MAX_NUMBER
from syncwatch.protocols.tps.records import MAX_DEPTH, Plain, RecordError, decode, encode
from tests.protocol.tps import vectors as v

HEARTBEAT = {"type": 0x10, "seq": 0, "ts": "2026-03-17T13:39:00.000Z", "body": {}}
JOIN_COMPLETE = {
    "type": 15,
    "seq": 0,
    "ts": "T",
    "body": {
        "hostPubkey": "P",
        "hostFingerprint": "F",
        "hostId": "h",
        "services": [
            {"name": "s1", "localPort": 9926, "description": UNSET},
            {"name": "s2", "localPort": 70, "description": "d"},
            {"name": "s3", "localPort": 1, "description": "d"},
        ],
    },
}

SCALARS = (
    st.none()
    | st.just(UNSET)
    | st.booleans()
    | st.integers(-MAX_NUMBER, MAX_NUMBER)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
)
KEYS = st.sampled_from(["type", "seq", "ts", "body", "a", "b", "ü", "x" * 40])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=60,
)


@pytest.mark.parametrize(("value", "payload"), [(HEARTBEAT, v.HEARTBEAT[6:]), (JOIN_COMPLETE, v.JOIN_COMPLETE[6:])])
def test_the_samples_of_the_document(value: object, payload: bytes) -> None:
    """Byte for byte in both directions, keys in their order."""
    assert payload == encode(value)
    assert value == decode(payload)
    assert repr(value) == repr(decode(payload))


@pytest.mark.parametrize(
    ("value", "hexed"),
    [
        (0, "00"), (63, "3f"), (64, "cc40"), (127, "cc7f"), (128, "cc80"), (255, "ccff"), (256, "cd0100"), (65_535, "cdffff"),
        (65_536, "ce00010000"), (2**32 - 1, "ceffffffff"), (2**32, "cb41f0000000000000"), (MAX_NUMBER, "cb433fffffffffffff"),
        (-1, "ff"), (-32, "e0"), (-33, "d0df"), (-128, "d080"), (-129, "d1ff7f"), (-32_768, "d18000"), (-32_769, "d2ffff7fff"),
        (-(2**31), "d280000000"), (-(2**31) - 1, "cbc1e0000000200000"), (1.5, "cb3ff8000000000000"),
        (None, "c0"), (False, "c2"), (True, "c3"), (UNSET, "d40000"), ({}, "d4724090"), ([], "90"), ("", "a0"),
        ("a" * 31, "bf" + "61" * 31), ("a" * 32, "d920" + "61" * 32), ("a" * 256, "da0100" + "61" * 256),
        ("a" * 65_536, "db00010000" + "61" * 65_536), (b"", "c400"), (b"x" * 256, "c50100" + "78" * 256),
        ([0] * 15, "9f" + "00" * 15), ([0] * 16, "dc0010" + "00" * 16), ([0] * 65_536, "dd00010000" + "00" * 65_536),
        ([{"a": 1}, {"a": 64}], "92d4724091a1610140cc40"), ({"a": {"a": {}}}, "d4724091a16140d4724190"),
    ],
    ids=lambda case: case[:24] if isinstance(case, str) else "",
)  # fmt: skip
def test_every_form(value: object, hexed: str) -> None:
    """The form that the other side chooses, at each of its borders."""
    assert hexed == encode(value).hex()
    assert value == decode(bytes.fromhex(hexed))


@pytest.mark.parametrize(
    ("hexed", "value"),
    [
        ("40", 64), ("7f", 127), ("ca3fc00000", 1.5), ("cf0000000100000000", 2**32), ("d3ffffffffffffffff", -1), ("cb4008000000000000", 3),
        ("80", Plain(())), ("81a16101", Plain((("a", 1),))), ("de000101c0", Plain(((1, None),))), ("819001", Plain((([], 1),))),
        ("df0000000101c0", Plain(((1, None),))), ("a1ff", "\ufffd"), ("d40007", UNSET), ("d4720091a16101", {"a": 1}),
        ("93d4724091a16101d4724091a162024003", [{"a": 1}, {"b": 2}, {"b": 3}]),
    ],
)  # fmt: skip
def test_what_is_only_read(hexed: str, value: object) -> None:
    """Forms that the other side would read too, though neither of us writes them."""
    assert value == decode(bytes.fromhex(hexed))


@given(VALUES)
def test_round_trips(value: object) -> None:
    """What is written is read; and again written the same."""
    data = encode(value)
    assert value == decode(data)
    assert data == encode(value)


@given(st.lists(st.integers(0, 99), min_size=60, max_size=300))
def test_more_key_sets_than_ids(names: list[int]) -> None:
    """Ids are given again, and what they meant is said again."""
    value = [{f"k{name}": 1} for name in names]
    assert value == decode(encode(value))


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """A value or a RecordError."""
    with contextlib.suppress(RecordError):
        decode(data)


@given(VALUES, st.data())
def test_changed_bytes(value: object, draw: st.DataObject) -> None:
    """The same for bytes that are nearly right; cut anywhere, they are refused."""
    data = bytearray(encode(value))
    cut = draw.draw(st.integers(0, len(data) - 1))
    with pytest.raises(RecordError):
        decode(bytes(data[:cut]))
    data[cut] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(RecordError):
        decode(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"\xd4", b"\xd4\x72", b"\xd4\x01\x00", b"\xd5\x72\x00\x00", b"\xd6\xff\0\0\0\0", b"\xc7\x00\x00", b"\x00\x00",
        b"\xd4\x72\x40\xa1a", b"\xd4\x72\x40\x91\x01\x01", b"\xd4\x72\x40\x92\xa1a\xa1a\x01\x01", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xd4\x72\x40\xdd\xff\xff\xff\xff", b"\x91" * 60_000, b"\x81" * 60_000, b"\x81\xc0" * 30_000,
        b"\xd4\x72\x40\x91\xa1a" + b"\x40" * 60_000, b"\xd4\x72\x40" * 20_000, b"\xdd\x00\x00\xff\xff" * 12_000,
    ],
)  # fmt: skip
def test_what_is_refused(data: bytes) -> None:
    """Truncated, unknown, endless, bottomless: quickly, and without taking memory."""
    tracemalloc.start()
    try:
        with pytest.raises(RecordError):
            decode(data)
        assert 1_000_000 > tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_paid_for_by_bytes() -> None:
    """The most that a message of 64 KiB can make of itself: one empty thing for each byte."""
    data = b"\xdc\xff\xdc" + b"\xd4\x72\x40\x90" + b"\x40" * 65_499
    tracemalloc.start()
    try:
        with pytest.raises(RecordError):
            decode(data[:-1])
        decode(data[:1] + (65_500).to_bytes(2, "big") + data[3:])
        assert 10_000_000 > tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def nested(levels: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_depth_has_a_limit_in_both_directions() -> None:
    """As deep as allowed, and one deeper."""
    assert nested(MAX_DEPTH) == decode(encode(nested(MAX_DEPTH)))
    with pytest.raises(RecordError, match="deep"):
        encode(nested(MAX_DEPTH + 1))
    with pytest.raises(RecordError, match="deep"):
        decode(b"\x91" * MAX_DEPTH + b"\x90")


@pytest.mark.parametrize("value", [{1: 2}, object(), MAX_NUMBER + 1, -MAX_NUMBER - 1, "\ud800", {"\ud800": 1}, Plain(()), {1}])
def test_what_cannot_be_written(value: object) -> None:
    """Our own mistakes: refused before anything is sent."""
    with pytest.raises(RecordError):
        encode(value)

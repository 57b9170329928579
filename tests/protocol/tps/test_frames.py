"""Wire frames: the document's samples, every body, limits, and what is no frame."""

from __future__ import annotations

import contextlib
import struct
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from syncwatch.core.wire import MAX_NUMBER
from syncwatch.protocols.tps.frames import (
    MAX_FRAME,
    MAX_PAYLOAD,
    Body,
    Frame,
    FrameError,
    Heartbeat,
    HttpRequest,
    HttpResponse,
    JoinComplete,
    MailAck,
    MailDeliver,
    Service,
    Type,
    body_of,
    pack,
    packed,
    unpack,
)
from syncwatch.protocols.tps.records import encode
from tests.protocol.tps import vectors as v

ID = str(UUID(int=7))
TS = "2026-03-17T13:39:00.000Z"
MAIL = MailDeliver(ID, "alice", "b1", "hello", TS)


def framed(payload: bytes, kind: int = Type.HEARTBEAT, size: int | None = None) -> bytes:
    """A header and what follows."""
    return struct.pack(">HI", kind, len(payload) if size is None else size) + payload


def test_a_heartbeat_as_in_the_document() -> None:
    """Byte for byte."""
    assert v.HEARTBEAT == packed(Heartbeat(), 0, TS)
    assert Frame(0x10, 0, TS, {}) == unpack(v.HEARTBEAT)


def test_a_join_as_in_the_document() -> None:
    """Byte for byte, and back into the same record."""
    services = (Service("s1", 9926), Service("s2", 70, "d"), Service("s3", 1, "d"))
    join = JoinComplete("P", "F", "h", services)
    assert v.JOIN_COMPLETE == packed(join, 0, "T")
    assert join == body_of(unpack(v.JOIN_COMPLETE), JoinComplete)


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (MAIL, ["id", "from", "to", "content", "timestamp"]),
        (MailAck(ID, True), ["id", "accepted"]),
        (MailAck(ID, False, "disk-full"), ["id", "accepted", "error"]),
        (JoinComplete("P", "F", "h"), ["hostPubkey", "hostFingerprint", "hostId"]),
        (HttpRequest(ID, "GET", "/", {"a": "b"}), ["reqId", "method", "path", "headers"]),
        (HttpRequest(ID, "GET", "/", {}, "flair", "x"), ["reqId", "method", "path", "headers", "service", "body"]),
        (HttpResponse(ID, 404, {}), ["reqId", "status", "headers"]),
        (HttpResponse(ID, 200, {}, b"x"), ["reqId", "status", "headers", "body"]),
    ],
)
def test_bodies(body: Any, keys: list[str]) -> None:
    """The wire's own names in its own order; what is undefined or more than known makes no difference."""
    frame = unpack(packed(body, 5, TS))
    assert isinstance(frame.body, dict)
    assert (5, keys) == (frame.seq, list(frame.body))
    assert body == body_of(frame, type(body))
    more = Frame(frame.type, 5, TS, {**frame.body, "new": 1, "old": UNSET})
    assert body == body_of(unpack(pack(more)), type(body))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "7"}, {"id": UNSET}, {"id": ID + "\n"}, {"from": ""}, {"from": "a b"}, {"from": "a" * 65}, {"to": "a\n"}, {"to": 1},
        {"content": None}, {"content": b"x"}, {"timestamp": ""},
    ],
)  # fmt: skip
def test_mail_that_is_none(change: dict[str, object]) -> None:
    """The frame stands, its body does not."""
    body = {"id": ID, "from": "alice", "to": "b1", "content": "hello", "timestamp": TS}
    assert MAIL == body_of(unpack(pack(Frame(1, 0, TS, body))), MailDeliver)
    with pytest.raises(FrameError):
        body_of(unpack(pack(Frame(1, 0, TS, body | change))), MailDeliver)


@pytest.mark.parametrize("body", [b"\xc0", b"\x90", b"\x81\xa2id\xc0", b"\x01", b"\xd4\x00\x00"])
def test_a_body_of_another_kind(body: bytes) -> None:
    """A plain map is no body either; for a heartbeat it makes no difference."""
    data = framed(b"\xd4\x72\x40\x93\xa3seq\xa2ts\xa4body\x07\xa1T" + body)
    frame = unpack(data)
    assert (16, 7, "T") == (frame.type, frame.seq, frame.ts)
    with pytest.raises(FrameError):
        body_of(frame, MailDeliver)


def test_the_header_says_the_type() -> None:
    """Whatever the record says, or does not; a signature is a text."""
    fields = {"type": 99, "seq": 1, "ts": "T", "body": None}
    assert 16 == unpack(framed(encode(fields))).type
    assert "s" == unpack(framed(encode(fields | {"sig": "s"}))).sig
    assert unpack(framed(encode(fields | {"sig": UNSET}))).sig is None
    assert 0xFFFF == unpack(framed(encode(fields), 0xFFFF)).type


@pytest.mark.parametrize(
    "change",
    [
        {"seq": -1}, {"seq": "0"}, {"seq": 0.5}, {"seq": True}, {"seq": None}, {"seq": UNSET}, {"ts": ""}, {"ts": 0}, {"ts": UNSET},
        {"sig": 1}, {"sig": None},
    ],
)  # fmt: skip
def test_fields_that_no_frame_has(change: dict[str, object]) -> None:
    """Refused."""
    with pytest.raises(FrameError):
        unpack(framed(encode({"type": 16, "seq": 0, "ts": "T", "body": {}} | change)))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0\x10\0\0\0", framed(b""), framed(b"\xc0"), framed(b"\x80"), framed(b"\x83\xa3seq\0\xa2ts\xa1T\xa4body\xc0"), framed(b"\x93\0\xa1T\xc0"),
        v.HEARTBEAT[:-1], v.HEARTBEAT + b"\0", v.HEARTBEAT[:6] + b"\xc0" + v.HEARTBEAT[7:], framed(b"", size=0xFFFF_FFFF), framed(b"\x91" * 60_000),
    ],
)  # fmt: skip
def test_what_is_no_frame(data: bytes) -> None:
    """Too short, too long, no record, a plain map, hostile."""
    with pytest.raises(FrameError):
        unpack(data)


def test_the_largest_frame() -> None:
    """65,519 bytes, in both directions; another transport may set its own limit, up to 1 MiB of payload."""
    bare = len(packed(MailDeliver(ID, "a", "b", "x" * 60_000, TS), 0, TS)) - 60_000
    assert MAX_FRAME == len(packed(MailDeliver(ID, "a", "b", "x" * (MAX_FRAME - bare), TS), 0, TS))
    with pytest.raises(FrameError, match="65520 bytes"):
        packed(MailDeliver(ID, "a", "b", "x" * (MAX_FRAME - bare + 1), TS), 0, TS)
    large = Frame(1, 0, TS, "x" * 100_000)
    assert large == unpack(pack(large, 2**21), 2**21)
    with pytest.raises(FrameError, match="65519 are allowed"):
        unpack(pack(large, 2**21))
    with pytest.raises(FrameError):
        pack(Frame(1, 0, TS, "x" * MAX_PAYLOAD), 2**21)


@pytest.mark.parametrize("frame", [Frame(-1, 0, TS, {}), Frame(2**16, 0, TS, {}), Frame(1, -1, TS, {}), Frame(1, 0, "", {}), Frame(1, 0, TS, {1: 1})])
def test_our_own_mistakes(frame: Frame) -> None:
    """Are not sent."""
    with pytest.raises(FrameError):
        pack(frame)


@given(kind=st.integers(0, 0xFFFF), seq=st.integers(0, MAX_NUMBER), ts=st.text(min_size=1, max_size=30), body=st.none() | st.text() | st.lists(st.integers(0, 300)))
def test_frames_go_round(kind: int, seq: int, ts: str, body: object) -> None:
    """Of any type, also those that we do not know."""
    frame = Frame(kind, seq, ts, body)
    assert frame == unpack(pack(frame))


@given(st.binary(max_size=100).map(framed) | st.binary(max_size=100), st.sampled_from([MailDeliver, MailAck, JoinComplete, HttpRequest, HttpResponse]))
def test_any_bytes(data: bytes, kind: Any) -> None:
    """A frame or a FrameError."""
    with contextlib.suppress(FrameError):
        body_of(unpack(data), kind)


@given(at=st.integers(0, 1 << 20), to=st.integers(0, 255), body=st.sampled_from([MAIL, JoinComplete("P", "F", "h", (Service("s", 70),)), HttpRequest(ID, "GET", "/", {"a": "b"})]))
def test_nearly_right_bytes(at: int, to: int, body: Body) -> None:
    """The same for a frame with one byte changed."""
    data = bytearray(packed(body, 1, TS))
    data[at % len(data)] = to
    with contextlib.suppress(FrameError):
        body_of(unpack(bytes(data)), type(body))  # type: ignore[type-var]

"""Wire frames: a header of six bytes, then a record with type, number, time and body; and the bodies that we read or write.

Facts: wire/tps §5.2, §5.3, §6. What belongs here: bytes to typed frames and back, and what makes a frame one. What must not: encryption,
and what to do about a frame.
"""

from __future__ import annotations

import enum
import struct
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from syncwatch.core.wire import MAX_NUMBER
from syncwatch.protocols.tps.records import RecordError, decode, encode

MAX_FRAME = 65_519  # what fits into one Noise message
MAX_PAYLOAD = 1024 * 1024  # the other side's own limit, which only an unencrypted transport could reach

_HEADER = struct.Struct(">HI")


class FrameError(ValueError):
    """Bytes that are no frame, or a frame that cannot be sent. The other side ends the connection over one (1008)."""


class Type(enum.IntEnum):
    """The kinds of frames that there are; others may come, and are to be passed over."""

    MAIL_DELIVER = 0x01
    MAIL_ACK = 0x02
    JOIN_COMPLETE = 0x0F
    HEARTBEAT = 0x10
    HTTP_REQUEST = 0x20
    HTTP_RESPONSE = 0x21


class Frame(msgspec.Struct, frozen=True):
    """One frame. `body` is as `records` reads it; `ts` is the sender's own time, an ISO 8601 text that nobody has checked."""

    type: int
    seq: int
    ts: str
    body: object
    sig: str | None = None


Uuid = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")]
Address = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
Text = Annotated[str, Meta(min_length=1)]


class MailDeliver(msgspec.Struct, frozen=True):
    """Mail, in either direction."""

    id: Uuid
    sender: Address = msgspec.field(name="from")
    to: Address
    content: str
    timestamp: Text


class MailAck(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a branch did with our mail; `error` when it was not accepted."""

    id: str
    accepted: bool
    error: str | UnsetType = UNSET


class Service(msgspec.Struct, frozen=True):
    """A service that a host offers to its branch."""

    name: str
    local_port: int = msgspec.field(name="localPort")
    description: str | UnsetType = UNSET


class JoinComplete(msgspec.Struct, frozen=True):
    """A host says who it is: what a branch pins from then on."""

    host_key: str = msgspec.field(name="hostPubkey")
    host_fingerprint: str = msgspec.field(name="hostFingerprint")
    host_id: str = msgspec.field(name="hostId")
    services: tuple[Service, ...] | UnsetType = UNSET


class Heartbeat(msgspec.Struct, frozen=True):
    """Nothing."""


class HttpRequest(msgspec.Struct, frozen=True):
    """A branch wants something of a host's service."""

    id: Uuid = msgspec.field(name="reqId")
    method: str
    path: str
    headers: dict[str, str] = {}
    service: str | UnsetType = UNSET
    body: object = UNSET


class HttpResponse(msgspec.Struct, frozen=True):
    """What it got."""

    id: str = msgspec.field(name="reqId")
    status: int
    headers: dict[str, str]
    body: object = UNSET


Body = MailDeliver | MailAck | JoinComplete | Heartbeat | HttpRequest | HttpResponse
B = TypeVar("B", MailDeliver, MailAck, JoinComplete, HttpRequest, HttpResponse)

_TYPES: dict[type[Body], Type] = {
    MailDeliver: Type.MAIL_DELIVER,
    MailAck: Type.MAIL_ACK,
    JoinComplete: Type.JOIN_COMPLETE,
    Heartbeat: Type.HEARTBEAT,
    HttpRequest: Type.HTTP_REQUEST,
    HttpResponse: Type.HTTP_RESPONSE,
}


def pack(frame: Frame, limit: int = MAX_FRAME) -> bytes:
    """A frame as bytes. Raises: FrameError for one that the other side would not take."""
    fields = {"type": frame.type, "seq": frame.seq, "ts": frame.ts, "body": frame.body}
    if frame.sig is not None:
        fields["sig"] = frame.sig
    try:
        payload = encode(fields)
    except RecordError as problem:
        raise FrameError(str(problem)) from None
    if not (0 <= frame.type <= 0xFFFF and 0 <= frame.seq <= MAX_NUMBER and frame.ts):
        raise FrameError("a type, number or time that no frame has")
    if _HEADER.size + len(payload) > limit or len(payload) > MAX_PAYLOAD:
        raise FrameError(f"a frame of {_HEADER.size + len(payload)} bytes, of which {limit} would be taken")
    return _HEADER.pack(frame.type, len(payload)) + payload


def packed(body: Body, seq: int, ts: str) -> bytes:
    """A frame with one of our bodies. Raises: FrameError."""
    told: dict[str, Any] = msgspec.to_builtins(body, builtin_types=(bytes,))
    if isinstance(body, JoinComplete) and body.services is not UNSET:
        # A service's description is always among its keys, undefined where there is none.
        told["services"] = [{"name": one.name, "localPort": one.local_port, "description": one.description} for one in body.services]
    return pack(Frame(_TYPES[type(body)], seq, ts, told))


def unpack(data: bytes, limit: int = MAX_FRAME) -> Frame:
    """The frame that the bytes are: exactly one. Raises: FrameError."""
    if len(data) < _HEADER.size:
        raise FrameError("shorter than a header")
    kind, size = _HEADER.unpack_from(data)
    if len(data) > limit or size > MAX_PAYLOAD:
        raise FrameError(f"a frame of {len(data)} bytes, of which {limit} are allowed")
    if len(data) != _HEADER.size + size:
        raise FrameError("not as long as its header says")
    try:
        fields = decode(data[_HEADER.size :])
    except RecordError as problem:
        raise FrameError(str(problem)) from None
    if not isinstance(fields, dict):
        raise FrameError("no record")  # a plain map neither
    seq, ts, sig = fields.get("seq"), fields.get("ts"), fields.get("sig", UNSET)
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq <= MAX_NUMBER:
        raise FrameError("no number")
    if not isinstance(ts, str) or not ts:
        raise FrameError("no time")
    if sig is not UNSET and not isinstance(sig, str):
        raise FrameError("a signature that is no text")
    return Frame(kind, seq, ts, fields.get("body", UNSET), sig if isinstance(sig, str) else None)


def body_of(frame: Frame, kind: type[B]) -> B:
    """A frame's body, as what it should be. Raises: FrameError; the connection may go on all the same (§6)."""
    try:
        return msgspec.convert(_defined(frame.body), kind)
    except msgspec.ValidationError as problem:
        raise FrameError(str(problem)) from None


def _defined(value: object) -> object:
    """Without what is undefined: JavaScript does not tell it from what is absent."""
    if type(value) is dict:
        return {key: _defined(item) for key, item in value.items() if item is not UNSET}
    if type(value) is list:
        return [None if item is UNSET else _defined(item) for item in value]
    return value

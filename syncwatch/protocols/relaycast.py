"""Relaycast, dialect `ring`: an agent's own numbered stream, an in-memory ring of 500, `resync`, and a database replay behind it.

Facts: wire/relaycast §1 to §10. What belongs here: turning frames into words and words into frames. What must not: any counting.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Any
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from syncwatch.core.wire import (
    MAX_NUMBER,
    Ack,
    Event,
    Invalid,
    Numbering,
    Pong,
    Ready,
    Reply,
    Request,
    Said,
    Settle,
    Traits,
)
from syncwatch.protocols.iso import iso_text, iso_time_s
from syncwatch.version import __version__

SNOWFLAKE_EPOCH_MS = 1_735_689_600_000
PAGE_LIMIT = 1000  # rows of one database query in a replay

_PING = '{"type":"ping"}'
_PONG = (Pong(),)
_MESSAGES = frozenset({"message.created", "thread.reply", "dm.received", "group_dm.received"})
_PAGE_KINDS = {
    "message.created": "channel",
    "thread.reply": "channel",
    "dm.received": "dm",
    "group_dm.received": "dm",
    "message.reacted": "reaction",
    "reaction.added": "reaction",
}
_DELIVERIES = frozenset({"delivery.accepted", "delivery.delivered", "delivery.failed"})  # deferred may come twice for one delivery
_STAMPS = ("agent_seq", "channel_seq", "replayed")

_Number = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]


_NAMES = {"key": "id", "number": "agent_seq", "lane": "channel", "lane_number": "channel_seq"}


class _Message(msgspec.Struct, frozen=True, gc=False):
    id: str = ""


class _Frame(Event, frozen=True, gc=False, kw_only=True, rename=_NAMES):
    """A frame whose fields have their usual types: the few that accounting needs, everything else is skipped without being built.

    A message decoded so is already the word for it: taking it apart to build another would cost as much as decoding does. No type here
    admits null: such a frame is an unusual one. What the server does not write is a constant, or worked out when somebody asks: no frame
    can set it.
    """

    type: str
    key: str = ""
    number: _Number = None  # type: ignore[assignment]  # when it is not there
    lane: str = None  # type: ignore[assignment]
    lane_number: int = None  # type: ignore[assignment]
    message: _Message = None  # type: ignore[assignment]
    delivery_id: str = ""
    timestamp: str = ""
    strong: msgspec.UnsetType = True  # type: ignore[assignment]  # no JSON is of this type
    bad_number: msgspec.UnsetType = False  # type: ignore[assignment]

    @property  # type: ignore[misc]  # typing knows attributes that override attributes only; these are read alike
    def time_s(self) -> float | None:
        """A message's own id tells it."""
        return None if self.message is None else snowflake_time_s(self.message.id)

    @property  # type: ignore[misc]
    def page_kind(self) -> str | None:
        """Only a row comes from a query."""
        return _PAGE_KINDS.get(self.type) if self.replayed else None


class _UnusualFrame(msgspec.Struct, gc=False, rename=_NAMES):
    """The same fields, some of them of any type."""

    type: str
    key: str = ""
    number: Any = msgspec.UNSET
    lane: Any = None
    lane_number: Any = None
    message: _Message | None = None
    delivery_id: str = ""
    timestamp: str = ""
    replayed: Any = False  # a mark on events, a count on acknowledgements


class _Ack(msgspec.Struct, gc=False):
    last_seen_seq: int | float
    current_seq: int
    replayed: int
    gap_detected: bool


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_unusual = msgspec.json.Decoder(_UnusualFrame).decode
_decode_ack = msgspec.json.Decoder(_Ack).decode
_decode_any = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


def snowflake_time_s(text: str) -> float | None:
    """Server time of a Relaycast id (§3.3), Unix seconds; None if the text is no such id. Exact: the id exceeds what a float holds."""
    if not 16 <= len(text) <= 20 or not text.isdecimal() or not text.isascii():
        return None
    return ((int(text) >> 22) + SNOWFLAKE_EPOCH_MS) / 1000.0


def _number(value: Any) -> tuple[int | None, bool]:
    """A sequence number and whether what stood there is none (accounting rule 9)."""
    if type(value) is int and 0 < value <= MAX_NUMBER:
        return value, False
    if value is msgspec.UNSET:
        return None, False
    if type(value) is float and value.is_integer() and 0 < value <= MAX_NUMBER:
        return int(value), False
    return None, True


def content_key(fields: dict[str, Any]) -> str:
    """Hash of the content without stamps. A reaction's database row differs in shape from the live event, so only its substance counts."""
    kind = fields.get("type")
    if kind in ("message.reacted", "reaction.added", "reaction.removed"):
        action = "removed" if kind == "reaction.removed" else fields.get("action", "added")
        substance: Any = ["reaction", fields.get("message_id"), fields.get("emoji"), fields.get("agent_name"), action]
    else:
        substance = {name: value for name, value in fields.items() if name not in _STAMPS}
    try:
        content = _encode_sorted(substance)
    except (UnicodeEncodeError, OverflowError):  # half a letter, or a number that only the lenient decoder lets through
        content = json.dumps(substance, sort_keys=True).encode()
    return blake2b(content, digest_size=12).hexdigest()


_NOT_JSON = object()


def _lenient(data: bytes) -> Any:
    """What JavaScript's parser makes of it, or _NOT_JSON: half a surrogate pair is a letter there, and no number is too large.

    Such text is real: whoever cuts a message in the middle of an emoji sends it, and the event counts as any other.
    """
    try:
        return json.loads(data.decode(), parse_constant=_refuse, parse_int=_integer)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= 400 else math.copysign(math.inf, -1.0 if digits.startswith("-") else 1.0)


def _odd_identity(kind: str, fields: dict[str, Any]) -> tuple[str, float | None]:
    """Key ("" if the event has none) and server time, as the fast path finds them, from fields of any type."""
    if kind in _DELIVERIES:
        name = fields.get("delivery_id")
        if not isinstance(name, str) or not name:
            return "", None
        return f"{kind}:{_plain(name)}", snowflake_time_s(name[4:])
    if kind in _MESSAGES:
        name, message = fields.get("id"), fields.get("message")
        message_id = message.get("id") if isinstance(message, dict) else None
        time_s = snowflake_time_s(message_id) if isinstance(message_id, str) else None
        return (_plain(name) if isinstance(name, str) else ""), time_s
    stamp = fields.get("timestamp")
    return "", iso_time_s(stamp) if isinstance(stamp, str) else None


def _plain(text: str) -> str:
    """Text that can be written to a file: half a surrogate pair by its escape."""
    return text.encode(errors="backslashreplace").decode()


class RingWire:
    """One attempt. The dialect has no handshake of its own: events may flow as soon as the socket is open."""

    __slots__ = ("_subscribe",)

    def __init__(self, subscribe: Sequence[str]) -> None:
        self._subscribe = tuple(subscribe)

    def opened(self) -> Sequence[Said]:
        """Subscribe first, as the SDK does; the server takes no notice of it."""
        if not self._subscribe:
            return (Ready(),)
        frame = msgspec.json.encode({"type": "subscribe", "channels": list(self._subscribe)}).decode()
        return (Reply(frame), Ready())

    def ping(self, token: int) -> str:
        """The application's ping; it carries nothing, so pongs answer in order."""
        return _PING

    def resync(self, after: int, since_s: float | None) -> str:
        """Ask for everything after `after`; `since` bounds the database replay that only a declared gap starts."""
        request: dict[str, Any] = {"type": "resync", "last_seen_seq": after}
        since = None if since_s is None else iso_text(since_s)
        if since is not None:
            request["since"] = since
        return msgspec.json.encode(request).decode()

    def feed(self, data: bytes, binary: bool = False) -> Sequence[Said]:
        """One message in, words out. Never raises."""
        if binary:
            return (Invalid("binary frame"),)
        try:
            if not data.isascii():
                data.decode()  # skipped fields are not looked at: an invalid one must not pass for an event
            frame = _decode_frame(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._unusual(data)
        if frame.type in _MESSAGES and frame.key:
            return (frame,)
        return self._event(data, frame, frame.number, False)

    def _unusual(self, data: bytes) -> Sequence[Said]:
        """A frame with a field of another type than usual: a channel as an object, a number that is none."""
        try:
            data.decode()
            frame = _decode_unusual(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._odd(data)
        return self._event(data, frame, *_number(frame.number))

    def _event(self, data: bytes, frame: _Frame | _UnusualFrame, number: int | None, bad: bool) -> Sequence[Said]:
        """Any frame but a plain message."""
        kind = frame.type
        if kind in _MESSAGES:
            key, time_s = frame.key, None if frame.message is None else snowflake_time_s(frame.message.id)
        elif kind in _DELIVERIES:
            key, time_s = frame.delivery_id, snowflake_time_s(frame.delivery_id[4:])
            key = f"{kind}:{key}" if key else ""
        elif kind == "pong":
            return _PONG
        elif kind == "resync_ack":
            return self._ack(data)
        else:
            key, time_s = "", iso_time_s(frame.timestamp) if frame.timestamp else None
        strong = bool(key)
        if not strong:
            try:
                key = content_key(_decode_any(data))
            except (msgspec.MsgspecError, RecursionError, TypeError, ValueError):
                return self._odd(data)
        replayed = frame.replayed is True
        lane, lane_number = frame.lane, frame.lane_number
        if type(lane) is not str or type(lane_number) is not int:
            lane = lane_number = None
        return (
            Event(
                key,
                strong,
                number,
                time_s,
                replayed,
                bad,
                _PAGE_KINDS.get(kind) if replayed else None,
                lane,
                lane_number,
            ),
        )

    def _ack(self, data: bytes) -> Sequence[Said]:
        try:
            ack = _decode_ack(data)
        except msgspec.MsgspecError:
            return (Invalid("resync_ack"),)
        if not 0 <= ack.current_seq <= MAX_NUMBER or not 0 <= ack.replayed <= MAX_NUMBER:
            return (Invalid("resync_ack"),)
        return (Ack(ack.last_seen_seq, ack.current_seq, ack.replayed, ack.gap_detected),)

    def _odd(self, data: bytes) -> Sequence[Said]:
        """A frame that the fast decoder refused: an object with a `type` but unusual fields or letters is still an event."""
        fields = _lenient(data)
        if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
            return (Invalid("not JSON" if fields is _NOT_JSON else "no event"),)
        kind = fields["type"]
        if kind == "resync_ack":
            return (Invalid("resync_ack"),)
        if kind == "pong":
            return _PONG
        number, bad = _number(fields.get("agent_seq", msgspec.UNSET))
        replayed = fields.get("replayed") is True
        key, time_s = _odd_identity(kind, fields)
        strong = bool(key)
        try:
            key = key or content_key(fields)
        except (msgspec.MsgspecError, RecursionError, TypeError, ValueError):
            return (Invalid("not JSON"),)
        return (
            Event(
                key,
                strong=strong,
                number=number,
                time_s=time_s,
                replayed=replayed,
                bad_number=bad,
                page_kind=_PAGE_KINDS.get(kind) if replayed else None,
            ),
        )


class Relaycast:
    """A Relaycast server's agent stream. `url` is its base (http or https); configuration without state."""

    name = "relaycast"
    dialect = "ring"
    traits = Traits(numbering=Numbering.CONTIGUOUS, settle=Settle.ACK)
    page_limit: int | None = PAGE_LIMIT

    def __init__(self, url: str, subscribe: Sequence[str] = (), canary_channel: str = "syncwatch", canary_token: str = "connection") -> None:  # noqa: S107  a name
        self._base = url.rstrip("/")
        self._subscribe = tuple(subscribe)
        self._channel = canary_channel
        self._canary_token = canary_token

    def dial(self, after: int | None = None) -> Request:
        """The upgrade; the shell puts the token first, as the SDK does. What was missed is asked for on the socket."""
        parts = urlsplit(self._base)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        query = f"origin_client=syncwatch&origin_version={quote(__version__)}"
        return Request(urlunsplit((scheme, parts.netloc, f"{parts.path}/v1/ws", query, "")), token_query="token")  # noqa: S106  a parameter's name

    def wire(self, entropy: int) -> RingWire:
        """Fresh state for one attempt; the dialect needs no entropy."""
        return RingWire(self._subscribe)

    def canary(self, mark: str) -> Request:
        """Post the mark to the canary's channel; the poster is a member and gets its own message."""
        body = msgspec.json.encode({"text": mark, "mode": "wait"})
        return self._post(f"/v1/channels/{quote(self._channel)}/messages", body, ("Idempotency-Key", mark))

    def canary_setup(self) -> Sequence[Request]:
        """Create the channel (409 when it exists) and join it."""
        channel = msgspec.json.encode({"name": self._channel, "topic": None})
        return (self._post("/v1/channels", channel), self._post(f"/v1/channels/{quote(self._channel)}/join", None))

    def canary_time_s(self, body: bytes) -> float | None:
        """The message id's own clock: `created_at` has whole seconds only."""
        try:
            answer = msgspec.json.decode(body)
            return snowflake_time_s(answer["data"]["id"])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
            return None

    def _post(self, path: str, body: bytes | None, *headers: tuple[str, str]) -> Request:
        return Request(
            url=self._http() + path,
            method="POST",
            headers=(("Content-Type", "application/json"), *headers),
            body=body,
            bearer=True,
            token=self._canary_token,
        )

    def _http(self) -> str:
        base = self._base
        for websocket, plain in (("ws://", "http://"), ("wss://", "https://")):
            if base.startswith(websocket):
                base = plain + base.removeprefix(websocket)
        return base

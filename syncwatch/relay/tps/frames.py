"""Wire frames as a branch reads and writes them (wire: tps §5.2, §6). The records inside are the codec's; vectors hold them."""

from __future__ import annotations

import re
import struct
from typing import Any, NamedTuple

from syncwatch.protocols.tps.records import RecordError, decode, encode

MAIL_DELIVER, MAIL_ACK, JOIN_COMPLETE, HEARTBEAT, HTTP_REQUEST, HTTP_RESPONSE = 0x01, 0x02, 0x0F, 0x10, 0x20, 0x21
NAMES = {
    MAIL_DELIVER: "mail",
    MAIL_ACK: "mail_ack",
    JOIN_COMPLETE: "join_complete",
    HEARTBEAT: "heartbeat",
    HTTP_REQUEST: "http_request",
    HTTP_RESPONSE: "http_response",
}
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ADDRESS = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Heard(NamedTuple):
    """What a branch takes from a frame."""

    kind: int
    seq: int
    body: object

    @property
    def name(self) -> str:
        """In the ledger."""
        return NAMES.get(self.kind, f"type {self.kind:#06x}")


def frame(kind: int, seq: int, ts: str, body: object) -> bytes:
    """One frame."""
    payload = encode({"type": kind, "seq": seq, "ts": ts, "body": body})
    return struct.pack(">HI", kind, len(payload)) + payload


def understood(data: bytes) -> Heard | None:
    """The frame; None for anything over which a branch closes."""
    if len(data) < 6:
        return None
    kind, size = struct.unpack_from(">HI", data)
    if size != len(data) - 6:
        return None
    try:
        told = decode(data[6:])
    except RecordError:
        return None
    if not isinstance(told, dict):
        return None
    seq, ts = told.get("seq"), told.get("ts")
    if type(seq) is not int or seq < 0 or not isinstance(ts, str) or not ts:
        return None
    return Heard(kind, seq, told.get("body"))


def is_mail(body: object) -> bool:
    """Whether a body is mail."""
    if not isinstance(body, dict):
        return False
    texts: dict[str, Any] = {name: body.get(name) for name in ("id", "from", "to", "content", "timestamp")}
    if not all(isinstance(text, str) for text in texts.values()):
        return False
    addressed = _ADDRESS.fullmatch(texts["from"]) and _ADDRESS.fullmatch(texts["to"])
    return bool(_UUID.fullmatch(texts["id"]) and addressed and texts["timestamp"])

"""What the stream says, and what it understands (wire: relayfile §3.3, §3.4). Pure."""

from __future__ import annotations

import msgspec

from syncwatch.relay.relayfile.log import Entry
from syncwatch.relay.relayfile.tree import File

INLINE_LIMIT = 1024 * 1024
"""Files up to this length (of the stored string) travel inside their event."""
READ_LIMIT = 32_768
"""Longer client messages end the connection."""


class _Told(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Keys in the server's order, left out when empty."""

    event_id: str = ""
    type: str = ""
    path: str = ""
    revision: str = ""
    content_hash: str = ""
    content_type: str = ""
    content: str = ""
    encoding: str = ""
    inline_content: bool = False
    origin: str = ""
    provider: str = ""
    correlation_id: str = ""
    timestamp: str = ""


class _Resource(msgspec.Struct, frozen=True, omit_defaults=True):
    path: str = ""
    provider: str = ""


class _Envelope(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """How hosted streams tell of a change, where they do not tell of a file's event."""

    type: str
    id: str
    occurred_at: str = ""
    ts: str = ""
    digest: str = ""
    resource: _Resource = _Resource()


class _Asked(msgspec.Struct):
    """A client's frame."""

    type: str = ""


def event(entry: Entry, file: File | None) -> bytes:
    """An event; `file` is what its path holds now, so that a superseded revision travels without content."""
    if entry.kind in ("relayfile.changed", "relayfile.changed.summary"):
        return _line(_envelope(entry))
    content_type = content = encoding = ""
    inline = entry.padding > 0
    if inline:
        content = "x" * entry.padding
    elif (
        file is not None
        and entry.kind in ("file.created", "file.updated")
        and file.revision == entry.revision
        and len(file.content) <= INLINE_LIMIT
    ):
        inline, content_type, content, encoding = True, file.content_type, file.content, file.encoding
    return _line(
        _Told(
            entry.id,
            entry.kind,
            entry.path,
            entry.revision,
            entry.content_hash,
            content_type,
            content,
            encoding,
            inline,
            entry.origin,
            entry.provider,
            entry.correlation_id,
            entry.timestamp,
        )
    )


def pong(timestamp: str) -> bytes:
    """The answer to a ping."""
    return _line(_Told(type="pong", timestamp=timestamp))


def _envelope(entry: Entry) -> _Envelope:
    """The long form says when it occurred, the summary has a `ts`."""
    long = entry.kind == "relayfile.changed"
    return _Envelope(
        entry.kind,
        entry.id,
        occurred_at=entry.timestamp if long else "",
        ts="" if long else entry.timestamp,
        digest=entry.content_hash,
        resource=_Resource(entry.path, entry.provider),
    )


def _line(told: _Told | _Envelope) -> bytes:
    return msgspec.json.encode(told) + b"\n"


def understood(data: str | bytes) -> str | None:
    """The type of a client's frame, trimmed and in lower case; None for what is not the JSON of a frame."""
    try:
        asked = msgspec.json.decode(data, type=_Asked | None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return "" if asked is None else asked.type.strip().lower()

"""Relaycast, dialect `observer`: a workspace's read-only stream with a durable number, and the same events over HTTP.

Facts: wire/relaycast §0, §3 and §12 (dialect C). What belongs here: turning frames and pages into words. What must not: any counting. The socket never
replays; what was missed is read from the log. A token may hide events, so numbers that are not there prove nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from syncwatch.core.wire import MAX_NUMBER, Event, Invalid, Numbering, Page, Pong, Request, Said, Settle, Traits
from syncwatch.protocols.iso import iso_time_s
from syncwatch.protocols.push import INVALID, PushWire
from syncwatch.protocols.relaycast import Relaycast, content_key, snowflake_time_s

PAGE_ROWS = 500  # the most that the server gives at once


class _Message(msgspec.Struct, gc=False):
    id: str = ""


class _Frame(msgspec.Struct, gc=False):
    type: str
    seq: Any = msgspec.UNSET
    id: str = ""
    message: _Message | None = None
    timestamp: str = ""


class _Row(msgspec.Struct, gc=False):
    """Fields of any type: one odd row must not hide the others."""

    type: Any = None
    seq: Any = msgspec.UNSET
    created_at: Any = None


class _Page(msgspec.Struct, gc=False):
    events: list[_Row]
    latest_seq: int
    next_since: int | None = None


class _Envelope(msgspec.Struct, gc=False):
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_page = msgspec.json.Decoder(_Page).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_any = msgspec.json.Decoder().decode


def _number(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value <= MAX_NUMBER else None


class ObserverWire(PushWire[_Frame]):
    """One attempt: the server pushes and answers pings, nothing else."""

    __slots__ = ()

    decode = msgspec.json.Decoder(_Frame).decode

    def says(self, frame: _Frame, data: bytes) -> Sequence[Said]:
        """An event whose write to the log failed has no number; it is identified by its own id, or its content."""
        if frame.type == "pong":
            return (Pong(),)
        time_s = snowflake_time_s(frame.message.id) if frame.message is not None else None
        if time_s is None and frame.timestamp:
            time_s = iso_time_s(frame.timestamp)
        number = _number(frame.seq)
        if number is not None:
            return (Event(f"{number}:{frame.type}", True, number, time_s),)
        bad = frame.seq is not msgspec.UNSET
        if frame.id:
            return (Event(frame.id, True, None, time_s, bad_number=bad),)
        try:
            key = content_key(_decode_any(data))
        except (msgspec.MsgspecError, RecursionError, TypeError, ValueError):
            return INVALID
        return (Event(key, False, None, time_s, bad_number=bad),)


class RelaycastObserver(Relaycast):
    """A Relaycast workspace as an observer token sees it. The canary, if any, writes with a token of its own."""

    dialect = "observer"
    traits = Traits(numbering=Numbering.CONTIGUOUS, settle=Settle.FEED, feed=True, resumes=False)
    page_limit: int | None = None
    scope = "workspace"

    def wire(self, entropy: int) -> ObserverWire:  # type: ignore[override]  # another dialect, another wire
        """Fresh state for one attempt; there is none."""
        return ObserverWire()

    def poll(self, after: int | None, poll_id: int) -> Request:
        """Rows after a number, oldest first."""
        return self._get(f"since={after or 0}&limit={PAGE_ROWS}")

    def tip(self, poll_id: int) -> Request:
        """One row: every answer tells the newest number."""
        return self._get("since=0&limit=1")

    def page(self, body: bytes) -> Page | Invalid:
        """A page. Rows may be hidden from this token, so it goes on where the server says, not behind the last row. Never raises."""
        try:
            body.decode()
            data = _decode_envelope(body).data  # every answer of this API has the envelope of §10; §12 writes this one without
            page = _decode_page(body if data is msgspec.UNSET else data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Invalid(str(error) if isinstance(error, msgspec.MsgspecError) else "not JSON")
        if not 0 <= page.latest_seq <= MAX_NUMBER:
            return Invalid("latest_seq is no number of an event")
        events = []
        for row in page.events:
            number = _number(row.seq)
            if number is None or not isinstance(row.type, str):
                continue
            # Frames do not tell when they were kept, so this is no part of the key; two rows of one number are told apart by it.
            kept_s = iso_time_s(row.created_at) if isinstance(row.created_at, str) else None
            lane, lane_number = (None, None) if kept_s is None else ("log", round(kept_s * 1000.0))
            events.append(Event(f"{number}:{row.type}", True, number, kept_s, lane=lane, lane_number=lane_number))
        more = page.next_since is not None and page.next_since < page.latest_seq
        return Page(
            events=tuple(events),
            next_after=page.next_since if more else None,
            newest=page.latest_seq,
            malformed=len(page.events) - len(events),
        )

    def _get(self, query: str) -> Request:
        return Request(url=f"{self._http()}/v1/workspace/events?{query}", bearer=True)

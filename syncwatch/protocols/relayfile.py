"""Relayfile: a workspace's stream of file events over a WebSocket, and the same log over HTTP.

Facts: wire/relayfile §1 to §5. What belongs here: turning frames and pages into words. What must not: any counting. Event numbers are the server's
one counter for all workspaces, so they grow and jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import msgspec

from syncwatch.core.paths import path_matches
from syncwatch.core.wire import (
    MAX_NUMBER,
    Event,
    Invalid,
    Numbering,
    Page,
    Pong,
    Request,
    Said,
    Settle,
    Traits,
)
from syncwatch.protocols.iso import iso_time_s
from syncwatch.protocols.push import PushWire

PAGE_ROWS = 1000  # the most that the server gives at once

_ID = "evt_"


class _Resource(msgspec.Struct, gc=False):
    path: str = ""


class _Frame(msgspec.Struct, gc=False):
    """The few fields that accounting needs; contents are skipped without being built.

    Proactive streams write their envelope with other names: `id`, `occurredAt` or `ts`, and the path inside `resource` (§3.3).
    """

    type: str
    eventId: str = ""  # noqa: N815  the wire's name
    id: str = ""
    path: str = ""
    revision: str = ""
    timestamp: str = ""
    occurredAt: str = ""  # noqa: N815
    ts: str = ""
    resource: _Resource | None = None


class _Page(msgspec.Struct, gc=False):
    events: list[_Frame]
    nextCursor: str | None = None  # noqa: N815


_decode_page = msgspec.json.Decoder(_Page).decode


def event_number(text: str) -> int | None:
    """The number in an event id; None if the id is of another kind."""
    digits = text[len(_ID) :]
    if not text.startswith(_ID) or not 0 < len(digits) <= 16 or not digits.isascii() or not digits.isdecimal():
        return None
    number = int(digits)
    return number if 0 < number <= MAX_NUMBER else None


def _event(frame: _Frame) -> Event:
    identifier = frame.eventId or frame.id
    stamp = frame.timestamp or frame.occurredAt or frame.ts
    number = event_number(identifier)
    if identifier:
        return Event(f"{identifier}@{stamp}", True, number, iso_time_s(stamp) if stamp else None, bad_number=number is None)
    content = f"{frame.type}:{_path(frame)}:{frame.revision}:{stamp}"  # what the SDK makes an id of
    return Event(content, bool(stamp), None, iso_time_s(stamp) if stamp else None, bad_number=True)


def _path(frame: _Frame) -> str:
    return frame.path or (frame.resource.path if frame.resource is not None else "")


class RelayfileWire(PushWire[_Frame]):
    """One attempt. There is no greeting and no end-of-catch-up marker; catch-up comes before anything we say is read."""

    __slots__ = ()

    decode = msgspec.json.Decoder(_Frame).decode

    def says(self, frame: _Frame, data: bytes) -> Sequence[Said]:
        """A pong, or an event."""
        if frame.type == "pong":
            return (Pong(None, iso_time_s(frame.timestamp) if frame.timestamp else None),)
        return (_event(frame),)


class Relayfile:
    """A workspace of a Relayfile server. `url` is its base (http or https); configuration without state."""

    name = "relayfile"
    dialect = "push"
    traits = Traits(numbering=Numbering.INCREASING, settle=Settle.FEED, feed=True, resumes=True)
    page_limit: int | None = None

    def __init__(
        self, url: str, workspace: str, paths: Sequence[str] = (), canary_path: str = "/.syncwatch/canary.json"
    ) -> None:
        self._base = url.rstrip("/")
        self._paths = tuple(paths)
        self._root = f"/v1/workspaces/{quote(workspace, safe='')}/fs"
        self._canary_path = canary_path
        self.scope = " ".join([workspace, *sorted(set(paths))])  # another filter is another stream, over a restart as in a reload

    def dial(self, after: int | None = None) -> Request:
        """The upgrade: the token in the query only, then where to begin, then the filters."""
        parts = urlsplit(self._base)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        begin = ("from", "now") if after is None else ("cursor", f"{_ID}{after}")
        query = urlencode([begin, *(("path", path) for path in self._paths)])
        url = urlunsplit((scheme, parts.netloc, f"{parts.path}{self._root}/ws", query, ""))
        return Request(url, token_query="token")  # noqa: S106  a parameter's name

    def wire(self, entropy: int) -> RelayfileWire:
        """Fresh state for one attempt; there is none."""
        return RelayfileWire()

    def poll(self, after: int | None, poll_id: int) -> Request:
        """Rows after an event, oldest first. An id that the server does not know gives the log from its beginning."""
        begin = [] if after is None else [("cursor", f"{_ID}{after}")]
        return self._get("/events", poll_id, [*begin, ("limit", str(PAGE_ROWS))])

    def tip(self, poll_id: int) -> Request:
        """The newest two."""
        return self._get("/events", poll_id, [("direction", "desc"), ("limit", "2")])

    def page(self, body: bytes) -> Page | Invalid:
        """A page in either direction, oldest row first. Never raises."""
        try:
            body.decode()
            page = _decode_page(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Invalid(str(error) if isinstance(error, msgspec.MsgspecError) else "not JSON")
        next_after = None
        if page.nextCursor is not None:
            next_after = event_number(page.nextCursor)
            if next_after is None:
                return Invalid("nextCursor is no event id")
        rows = [(_event(row), _path(row)) for row in page.events]
        numbered = [(event, path) for event, path in rows if event.number is not None]
        if len(numbered) > 1 and (numbered[0][0].number or 0) > (numbered[-1][0].number or 0):
            numbered.reverse()  # asked for the newest first
        return Page(
            events=tuple(event for event, _ in numbered),
            skipped=frozenset(event.number or 0 for event, path in numbered if not path_matches(self._paths, path)),
            next_after=next_after,
            malformed=len(rows) - len(numbered),
        )

    def canary(self, mark: str) -> Request:
        """Write one fixed file, whatever revision it has. The mark is the correlation id, which comes back in the event; the content stays the same."""
        body = msgspec.json.encode({"contentType": "application/json", "content": '{"writer":"syncwatch"}'})
        headers = (("Content-Type", "application/json"), ("If-Match", "*"), ("X-Correlation-Id", mark))
        url = f"{self._http()}{self._root}/file?{urlencode([('path', self._canary_path)])}"
        return Request(url=url, method="PUT", headers=headers, body=body, bearer=True)

    def canary_setup(self) -> Sequence[Request]:
        """Nothing to prepare: the write makes the file."""
        return ()

    def canary_time_s(self, body: bytes) -> float | None:
        """The answer tells no time."""
        return None

    def _get(self, path: str, poll_id: int, query: Sequence[tuple[str, str]]) -> Request:
        url = f"{self._http()}{self._root}{path}?{urlencode(query)}"
        return Request(url=url, headers=(("X-Correlation-Id", f"syncwatch-{abs(poll_id)}"),), bearer=True)

    def _http(self) -> str:
        parts = urlsplit(self._base)
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        return urlunsplit((scheme, parts.netloc, parts.path, "", ""))

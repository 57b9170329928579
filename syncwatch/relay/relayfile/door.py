"""The way in at `/fs/ws`: who is let in, and what is read from those who are (wire: relayfile §3.1, §3.4).

Refusals are ordinary answers with a JSON body, given by `api`; a stream that was let in is never told why it ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from syncwatch.relay import doors
from syncwatch.relay.ledger import Opened, Received
from syncwatch.relay.logfacts import Dialled
from syncwatch.relay.relayfile import filters, frames, tokens
from syncwatch.relay.relayfile.routes import Target
from syncwatch.relay.relayfile.stream import Stream
from syncwatch.relay.relayfile.tokens import Refusal

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay


def authorize(relay: Relay, request: web.Request, target: Target) -> tuple[str, ...]:
    """The filters of whoever may open this stream. The `Authorization` header is not looked at.

    Raises:
        Refusal: 401, 403, 429, 503.
    """
    holder = relay.files.holder(request.query.get("token", ""))
    if holder.workspace != target.workspace:
        raise tokens.forbidden("workspace mismatch")
    wanted = filters.cleaned(request.query.getall("path", []))
    for path in wanted or ("/",):
        if not holder.scopes.allows("fs:read", path):
            raise tokens.forbidden("missing required scope: fs:read")
    if relay.files.limited(holder, "api") is not None:
        raise Refusal(429, "rate_limited", "rate limit exceeded")  # without Retry-After, on this route
    return wanted


async def serve(relay: Relay, request: web.Request, target: Target, wanted: tuple[str, ...]) -> web.StreamResponse:
    """Take a stream in and read it to its end."""
    files, query = relay.files, request.query
    cursor = query.get("cursor", "")

    def make(ident: int, transport: asyncio.Transport) -> Stream:
        return Stream(ident, transport, target.workspace, wanted, files)

    socket, stream = await doors.accept(relay, request, make)
    if stream is None:
        return socket
    relay.ledger.add(Opened, connection=stream.id, agent=stream.label, epoch=files.log.epoch)
    relay.ledger.add(
        Dialled,
        connection=stream.id,
        workspace=stream.label,
        cursor=cursor,
        from_now=query.get("from") == "now",
        filters=wanted,
        known=not cursor or files.log.find(stream.label, cursor) is not None,
    )
    files.listen(stream.label, stream)
    stream.begin(cursor, query.get("from") == "now")
    await doors.attend(relay, socket, stream, lambda data: _heed(relay, stream, data))
    return socket


def _heed(relay: Relay, stream: Stream, data: str | bytes) -> None:
    """Do what a client's frame asks for: a ping is answered, another type ignored, anything else ends the stream."""
    size = len(data.encode() if isinstance(data, str) else data)
    kind = frames.understood(data) if size <= frames.READ_LIMIT else None
    relay.ledger.add(Received, connection=stream.id, kind="invalid" if kind is None else kind[:64])
    if size > frames.READ_LIMIT:
        stream.close(1009, f"read limited at {frames.READ_LIMIT + 1} bytes")
    elif kind is None:
        stream.close(1007, "failed to unmarshal JSON")
    elif kind == "ping":
        stream.ping()

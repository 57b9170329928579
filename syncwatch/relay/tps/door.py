"""The way in at `/tps/wire`: anybody may open the socket, the handshake decides (wire: tps §4.1)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from syncwatch.relay import doors
from syncwatch.relay.ledger import Opened, Refused
from syncwatch.relay.tps.channel import Channel

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay

PATH = "/tps/wire"


async def answer(relay: Relay, request: web.Request) -> web.StreamResponse:
    """Answer a request for the path, and read the socket to its end."""
    branch = relay.branch
    if "upgrade" not in request.headers:
        return web.Response(status=404)
    trouble = await doors.upgrade_trouble(relay, request, branch.name, "tps")
    if trouble is not None and not trouble.status:
        return doors.cut_off(request)
    if trouble is not None:
        relay.ledger.add(Refused, agent=branch.name, status=trouble.status, why=trouble.why)
        return web.Response(status=trouble.status, headers=trouble.headers)

    def make(ident: int, transport: asyncio.Transport) -> Channel:
        return Channel(ident, transport, branch)

    socket, channel = await doors.accept(relay, request, make)
    if channel is None:
        return socket
    relay.ledger.add(Opened, connection=channel.id, agent=channel.label, epoch=0)
    channel.begin()
    await doors.attend(relay, socket, channel, channel.heed)
    return socket

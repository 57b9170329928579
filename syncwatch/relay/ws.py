"""The way in at `/v1/ws`: who is let in, and what is read from those who are (wire: relaycast §1, §2).

Refusals are bare: a status, `Connection: close`, no body. Nothing is compressed, no subprotocol is chosen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import WebSocketError, WSMsgType, web

from syncwatch.relay import kinds, replay, resync
from syncwatch.relay.connection import Connection
from syncwatch.relay.ids import token_kind
from syncwatch.relay.injector import Active
from syncwatch.relay.ledger import Opened, Received, Refused
from syncwatch.relay.state import Agent, Workspace

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay

MAX_FRAME = 100 * 1024 * 1024
"""What the real server's WebSocket library takes from a client."""

_POLL_S = 0.02


def refuse(relay: Relay, status: int, why: str, agent: str = "", retry_after_s: float | None = None) -> web.Response:
    """A bare refusal."""
    relay.ledger.add(Refused, agent=agent, status=status, why=why)
    headers = {"Connection": "close"}
    if retry_after_s is not None:
        headers["Retry-After"] = f"{retry_after_s:g}"
    response = web.Response(status=status, headers=headers)
    response.force_close()
    return response


async def upgrade(relay: Relay, request: web.Request) -> web.StreamResponse:
    """Answer an upgrade request for `/v1/ws`."""
    token = request.query.get("token", "")
    kind = token_kind(token)
    agent = relay.directory.agent_by_token(token) if kind == "at" else None
    workspace = relay.directory.workspace_by_key(token) if kind == "rk" else None
    label = agent.label if agent else ""

    refusal = await _faulty(relay, request, label)
    if refusal is not None:
        return refusal
    if workspace is not None and not relay.workspace_stream:
        return refuse(relay, 404, "workspace stream is off")
    if agent is not None:
        return await _serve(relay, request, agent, agent.workspace)
    if workspace is not None:
        return await _serve(relay, request, None, workspace)
    return refuse(relay, 401, "token missing, unknown or ill-formed")


async def _faulty(relay: Relay, request: web.Request, label: str) -> web.StreamResponse | None:
    """The refusal some fault wants, if any does."""
    faults = relay.faults
    hang = faults.find(kinds.Hang, label)
    if hang is not None:
        faults.fire(hang)
        relay.ledger.add(Refused, agent=label, status=0, why="hang")
        # `times` may have ended the fault with this very request; it hangs all the same, until the client goes.
        while _hangs(relay, request, hang):  # noqa: ASYNC110  (a transport's end has no event)
            await asyncio.sleep(_POLL_S)
        return cut_off(request)
    outage = faults.take(kinds.Outage, label)
    if outage is not None and outage.mode == "close":
        relay.ledger.add(Refused, agent=label, status=0, why="outage")
        return cut_off(request)
    if outage is not None:
        return refuse(relay, outage.status, "outage", label, outage.retry_after_s)
    if faults.take(kinds.TokenExpiry, label) is not None:
        return refuse(relay, 401, "token expired", label)
    told = faults.take(kinds.Refuse, label)
    if told is not None:
        return refuse(relay, told.status, "refuse", label, told.retry_after_s)
    failing = faults.find(kinds.DatabaseFailing)
    if failing is not None and failing.spec.upgrades:
        return refuse(relay, 500, "database failing", label)
    return None


def _hangs(relay: Relay, request: web.Request, hang: Active[kinds.Hang]) -> bool:
    return request.transport is not None and not relay.stopping and not (hang.over and hang.spec.times is None)


def cut_off(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)  # goes nowhere: the transport is closed


async def _serve(relay: Relay, request: web.Request, agent: Agent | None, workspace: Workspace) -> web.StreamResponse:
    # Pings and closes are answered by the connection, so that faults can hold the answers back and their order is the
    # ledger's.
    socket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, max_msg_size=MAX_FRAME, timeout=1.0)
    await socket.prepare(request)
    transport = request.transport
    if transport is None:
        return socket
    connection = relay.connect(transport, agent, workspace)
    relay.ledger.add(Opened, connection=connection.id, agent=connection.label, epoch=relay.hub.epoch)
    if agent is not None:
        relay.hub.attach(agent, connection)
    else:
        workspace.streams = (*workspace.streams, connection)
    try:
        await _read(relay, socket, connection)
        while not connection.gone:  # noqa: ASYNC110  (a transport's end has no event)
            await asyncio.sleep(_POLL_S)
    finally:
        connection.lost()
        relay.disconnect(connection)
    return socket


async def _read(relay: Relay, socket: web.WebSocketResponse, connection: Connection) -> None:
    """Read until the client's side ends."""
    while True:
        message = await socket.receive()
        await connection.readable.wait()
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            if connection.open:
                _heed(relay, connection, message.data)
        elif message.type is WSMsgType.PING:
            connection.websocket_ping(bytes(message.data))
        elif message.type is WSMsgType.CLOSE:
            # 1005 is aiohttp's word for a close frame without a code.
            connection.closed_by_client(message.data or None, message.extra or "")
            return
        elif message.type is WSMsgType.ERROR:
            if isinstance(message.data, WebSocketError):
                connection.closed_by_reader(int(message.data.code))
            return
        elif message.type in (WSMsgType.CLOSED, WSMsgType.CLOSING):
            return


def _heed(relay: Relay, connection: Connection, data: str | bytes) -> None:
    """Do what a client's frame asks for; text and binary are the same to the server."""
    said = resync.understand(data)
    if said.resync is not None and connection.agent is not None:
        replay.answer(connection, connection.agent, relay.store, said.resync)
        return
    relay.ledger.add(Received, connection=connection.id, kind=said.kind[:64])
    if said.kind == "ping":
        connection.ping()
        if connection.agent is not None:
            relay.hub.heartbeat(connection.agent)

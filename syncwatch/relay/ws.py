"""The way in at `/v1/ws`: who is let in, and what is read from those who are (wire: relaycast §1, §2).

Refusals are bare: a status, `Connection: close`, no body. Nothing is compressed, no subprotocol is chosen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from syncwatch.relay import doors, kinds, replay, resync
from syncwatch.relay.connection import Connection
from syncwatch.relay.ids import token_kind
from syncwatch.relay.ledger import Opened, Received, Refused
from syncwatch.relay.observer.connection import ObserverConnection
from syncwatch.relay.state import Agent, Workspace

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay


def refuse(relay: Relay, status: int, why: str, agent: str = "", headers: dict[str, str] | None = None) -> web.Response:
    """A bare refusal."""
    relay.ledger.add(Refused, agent=agent, status=status, why=why)
    response = web.Response(status=status, headers={"Connection": "close"} | (headers or {}))
    response.force_close()
    return response


async def upgrade(relay: Relay, request: web.Request) -> web.StreamResponse:
    """Answer an upgrade request for `/v1/ws`."""
    token = request.query.get("token", "")
    if relay.generation == "observer":
        return await _observe(relay, request, token)
    kind = token_kind(token)
    agent = relay.directory.agent_by_token(token) if kind == "at" else None
    workspace = relay.directory.workspace_by_key(token) if kind == "rk" else None
    refusal = await _faulty(relay, request, agent.label if agent else "")
    if refusal is not None:
        return refusal
    if workspace is not None and not relay.workspace_stream:
        return refuse(relay, 404, "workspace stream is off")
    if agent is not None:
        return await _serve(relay, request, agent, agent.workspace)
    if workspace is not None:
        return await _serve(relay, request, None, workspace)
    return refuse(relay, 401, "token missing, unknown or ill-formed")


async def _observe(relay: Relay, request: web.Request, token: str) -> web.StreamResponse:
    """Let an observer in; agents have moved to another transport, and workspace keys are refused too."""
    observer = relay.observers.by_token(token)
    refusal = await _faulty(relay, request, observer.label if observer else "")
    if refusal is not None:
        return refusal
    if observer is None:
        return refuse(relay, 401, "no observer token")
    if not observer.may_stream:
        return refuse(relay, 403, "insufficient scope", observer.label)

    def make(ident: int, transport: asyncio.Transport) -> ObserverConnection:
        return ObserverConnection(ident, transport, observer, relay.observers, relay.events, relay.faults)

    socket, connection = await doors.accept(relay, request, make)
    if connection is None:
        return socket
    relay.ledger.add(Opened, connection=connection.id, agent=connection.label, epoch=relay.hub.epoch)
    relay.events.attach(connection)

    def heed(data: str | bytes) -> None:
        said = resync.understand(data)
        kind = "resync" if said.resync is not None else said.kind[:64]
        relay.ledger.add(Received, connection=connection.id, kind=kind)
        if kind == "ping":
            connection.ping()

    await doors.attend(relay, socket, connection, heed)
    return socket


async def _faulty(relay: Relay, request: web.Request, label: str) -> web.StreamResponse | None:
    """The refusal some fault wants, if any does."""
    trouble = await doors.upgrade_trouble(relay, request, label)
    if trouble is not None:
        if not trouble.status:
            return doors.cut_off(request)
        return refuse(relay, trouble.status, trouble.why, label, trouble.headers)
    if relay.faults.take(kinds.TokenExpiry, label) is not None:
        return refuse(relay, 401, "token expired", label)
    failing = relay.faults.find(kinds.DatabaseFailing)
    if failing is not None and failing.spec.upgrades:
        return refuse(relay, 500, "database failing", label)
    return None


async def _serve(relay: Relay, request: web.Request, agent: Agent | None, workspace: Workspace) -> web.StreamResponse:
    def make(ident: int, transport: asyncio.Transport) -> Connection:
        return Connection(ident, transport, agent, workspace, relay.hub, relay.faults)

    socket, connection = await doors.accept(relay, request, make)
    if connection is None:
        return socket
    relay.ledger.add(Opened, connection=connection.id, agent=connection.label, epoch=relay.hub.epoch)
    if agent is not None:
        relay.hub.attach(agent, connection)
    else:
        workspace.streams = (*workspace.streams, connection)
    await doors.attend(relay, socket, connection, lambda data: _heed(relay, connection, data))
    return socket


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

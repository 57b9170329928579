"""What every door does: which faults stop an upgrade or a request, how a socket is taken in, how it is read to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aiohttp import WebSocketError, WSMsgType, web

from syncwatch.relay import kinds
from syncwatch.relay.injector import Active
from syncwatch.relay.ledger import Refused
from syncwatch.relay.outbound import Outbound

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay

MAX_FRAME = 100 * 1024 * 1024
"""What the real servers' WebSocket libraries take from a client, or more."""

_POLL_S = 0.02
C = TypeVar("C", bound=Outbound)


class Trouble(NamedTuple):
    """What a fault wants as the answer; status 0 is none at all (that is in the ledger already)."""

    status: int
    why: str
    retry_after_s: float | None = None
    message: str = ""
    code: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`, where wanted."""
        return {} if self.retry_after_s is None else {"Retry-After": f"{self.retry_after_s:g}"}


async def upgrade_trouble(
    relay: Relay, request: web.Request, label: str, protocol: kinds.ProtocolName = "relaycast"
) -> Trouble | None:
    """The answer to an upgrade that some fault wants, if any does. Hangs as long as one wants that."""
    faults = relay.faults
    hang = faults.find(kinds.Hang, label, protocol)
    if hang is not None:
        faults.fire(hang)
        relay.ledger.add(Refused, agent=label, status=0, why="hang")
        await _hang(relay, request, hang)
        return Trouble(0, "hang")
    outage = faults.take(kinds.Outage, label, protocol)
    if outage is not None and outage.mode == "close":
        relay.ledger.add(Refused, agent=label, status=0, why="outage")
        return Trouble(0, "outage")
    if outage is not None:
        return Trouble(outage.status, "outage", outage.retry_after_s)
    told = faults.take(kinds.Refuse, label, protocol)
    return None if told is None else Trouble(told.status, "refuse", told.retry_after_s, told.message)


async def request_trouble(
    relay: Relay,
    request: web.Request,
    route: kinds.Route,
    label: str | None,
    protocol: kinds.ProtocolName = "relaycast",
) -> Trouble | None:
    """The answer to an HTTP request that some fault wants instead of it being done."""
    hang = relay.faults.take_http(kinds.HangHttp, route, label, protocol)
    if hang is not None:
        await _hang(relay, request, hang)
        return Trouble(0, "hang")
    told = relay.faults.take_http(kinds.RefuseHttp, route, label, protocol)
    if told is None:
        return None
    spec = told.spec
    return Trouble(spec.status, "refuse", spec.retry_after_s, spec.message, spec.code)


async def _hang(relay: Relay, request: web.Request, hang: Active[Any]) -> None:
    # `times` may have ended the fault with this very request; it hangs all the same, until the client goes.
    def holds() -> bool:
        return not relay.stopping and not (hang.over and hang.spec.times is None)

    while request.transport is not None and holds():  # noqa: ASYNC110  (a transport's end has no event)
        await asyncio.sleep(_POLL_S)


class NoAnswer(web.Response):
    """Stands for an answer that goes nowhere: its transport is closed."""


def cut_off(request: web.Request) -> NoAnswer:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return NoAnswer(status=500)


async def accept(
    relay: Relay, request: web.Request, make: Callable[[int, asyncio.Transport], C]
) -> tuple[web.WebSocketResponse, C | None]:
    """Answer the upgrade and take the socket in; None if the client was gone meanwhile."""
    # Pings and closes are answered by the connection, so that faults can hold the answers back and their order is the
    # ledger's.
    socket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, max_msg_size=MAX_FRAME, timeout=1.0)
    await socket.prepare(request)
    transport = request.transport
    return socket, None if transport is None else relay.take_in(transport, make)


async def attend(
    relay: Relay, socket: web.WebSocketResponse, connection: Outbound, heed: Callable[[str | bytes], None]
) -> None:
    """Read until the client's side ends, then wait until the socket is gone, and forget it."""
    try:
        await _read(socket, connection, heed)
        while not connection.gone:  # noqa: ASYNC110  (a transport's end has no event)
            await asyncio.sleep(_POLL_S)
    finally:
        connection.lost()
        relay.disconnect(connection)


async def _read(socket: web.WebSocketResponse, connection: Outbound, heed: Callable[[str | bytes], None]) -> None:
    while True:
        message = await socket.receive()
        await connection.readable.wait()
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            if connection.open:
                heed(message.data)
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

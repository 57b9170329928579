"""The branch over plain TCP: the same messages, each behind two bytes that say its length, and an end that has no code (wire: tps §4.2)."""

from __future__ import annotations

import asyncio
import struct
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from syncwatch.relay import kinds
from syncwatch.relay.framing import BINARY, FrameWriter
from syncwatch.relay.ledger import Opened, Refused
from syncwatch.relay.outbound import LINGER_S
from syncwatch.relay.tps.channel import Channel

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay

MAX_BUFFER = 1024 * 1024 + 64
MAX_HANDSHAKE = 512


class LengthWriter(FrameWriter):
    """Writes messages; what only a WebSocket has is left out."""

    def write(self, opcode: int, payload: bytes, *, counts: bool = False) -> bool:
        """Hand over one message; False if the transport is closed."""
        return super().write(opcode, payload, counts=counts) if opcode == BINARY else not self._transport.is_closing()

    def _head(self, opcode: int, size: int) -> bytes:
        return struct.pack("!H", min(size, 0xFFFF))


class TcpChannel(Channel):
    """A host's connection."""

    writer: ClassVar[type[FrameWriter]] = LengthWriter

    def _close_now(self, code: int, reason: str) -> None:
        if self._leave("closed", "relay", code, reason):
            self._linger(self._loop.time() + LINGER_S, close=True)


class TcpDoor(asyncio.Protocol):
    """Reads one connection and hands its messages to a channel."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._channel: TcpChannel | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it in, unless a fault keeps it out: there is nothing to answer with."""
        relay, branch = self._relay, self._relay.branch
        transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class
        refused = relay.faults.take(kinds.Outage, branch.name, "tps") or relay.faults.take(kinds.Refuse, branch.name, "tps")
        hanging = relay.faults.take(kinds.Hang, branch.name, "tps")
        if refused is not None or hanging is not None:
            relay.ledger.add(Refused, agent=branch.name, status=0, why="hang" if refused is None else "refuse")
            if refused is not None:
                transport.abort()
            return
        channel = relay.take_in(transport, partial(_channel, relay))
        self._channel = channel
        relay.ledger.add(Opened, connection=channel.id, agent=channel.label, epoch=0)
        channel.begin()

    def data_received(self, data: bytes) -> None:
        """Cut messages out of what came."""
        channel, buffer = self._channel, self._buffer
        if channel is None:
            return
        buffer += data
        while len(buffer) >= 2 and channel.open:
            size = int.from_bytes(buffer[:2], "big")
            greeting = channel.greeting
            if greeting and size > MAX_HANDSHAKE:
                channel.close(1011, "handshake failed")
                return
            if len(buffer) < 2 + size:
                break
            message = bytes(buffer[2 : 2 + size])
            del buffer[: None if greeting else 2 + size]  # what came in one piece with the handshake is dropped
            channel.heed(message)
        if len(buffer) > MAX_BUFFER:
            channel.reset("too much at once")

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if self._channel is not None:
            self._channel.lost()
            self._relay.disconnect(self._channel)


def _channel(relay: Relay, ident: int, transport: asyncio.Transport) -> TcpChannel:
    return TcpChannel(ident, transport, relay.branch)

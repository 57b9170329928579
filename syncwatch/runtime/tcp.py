"""Messages over plain TCP, each behind two bytes that say its length: the dial, and the open socket.

What belongs here: lengths, bounds and ends (wire/tps §4.2). What a message means, and its encryption, is the codec's. There is no close frame here: an end has
no code, and a refusal looks like any other end.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import cast
from urllib.parse import urlsplit

import msgspec
from aiohttp import WSMsgType
from aiohttp.abc import ResolveResult

from syncwatch.core.effects import Handshake
from syncwatch.core.states import Disconnect
from syncwatch.core.wire import Request
from syncwatch.runtime.clock import Clock
from syncwatch.runtime.dialing import Phases
from syncwatch.runtime.failures import ABNORMAL, Ending, TimedOut, disconnect
from syncwatch.runtime.lane import BATCH, Deliver
from syncwatch.runtime.stream import SEND_TIMEOUT_S, Stream
from syncwatch.runtime.threads import ADDRESS_FLAGS, ThreadResolver

LENGTH_BYTES = 2
MAX_MESSAGE = 0xFFFF
MAX_HANDSHAKE = 512
"""The first message is an answer to a handshake; more than this is something else."""
READ_BUFFER_BYTES = 65_536
"""From twice as much unread on, the peer has to wait."""


class Pipe(msgspec.Struct, frozen=True):
    """An open TCP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    handshake: Handshake


async def dial_tcp(request: Request, timeout_s: float, clock: Clock) -> Pipe:
    """Connect to the host and port of a `tcp:` URL: no proxy, no TLS.

    Raises: TimedOut, or an OSError; nothing stays open then.
    """
    parts = urlsplit(request.url)
    host, port = parts.hostname or "", parts.port or 0
    phases = Phases(clock.monotonic)
    try:
        async with asyncio.timeout(timeout_s) as limit:
            found = _numeric(host, port)
            if not found:
                phases.begin("dns")
                found = await ThreadResolver().resolve(host, port, socket.AF_UNSPEC)
            phases.begin("tcp")
            reader, writer = await _first(found, asyncio.get_running_loop().time() + timeout_s)
            phases.end()
            return Pipe(reader, writer, phases.handshake())
    except TimeoutError:
        if not limit.expired():
            raise  # the system's own: ETIMEDOUT
        raise TimedOut(phases.current, timeout_s) from None


async def _first(found: list[ResolveResult], until_s: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The first address that answers. Each gets its share of the time, so that one that is silent does not keep the others from being tried."""
    loop = asyncio.get_running_loop()
    for left, place in zip(range(len(found), 0, -1), found, strict=True):
        share_s = None if left == 1 else (until_s - loop.time()) / left
        try:
            async with asyncio.timeout(share_s):
                return await asyncio.open_connection(place["host"], place["port"], family=place["family"], limit=READ_BUFFER_BYTES)
        except OSError:  # a TimeoutError is one
            if left == 1:
                raise
    raise socket.gaierror(socket.EAI_NONAME, "no address")


def _numeric(host: str, port: int) -> list[ResolveResult]:
    """An address that needs no resolving; empty for a name."""
    try:
        version = ipaddress.ip_address(host.partition("%")[0]).version
    except ValueError:
        return []
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    return [ResolveResult(hostname=host, host=host, port=port, family=family, proto=0, flags=ADDRESS_FLAGS)]


class TcpStream(Stream):
    """An open connection. Messages above `max_bytes` are refused, unread."""

    def __init__(self, pipe: Pipe, max_bytes: int, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        super().__init__(cast(asyncio.Transport, pipe.writer.transport), send_timeout_s)
        self._pipe = pipe  # some versions close a connection whose writer nobody holds
        self._reader = pipe.reader
        self._max_bytes = max_bytes

    async def read(self, deliver: Deliver) -> Ending:
        """To its end; see Stream."""
        try:
            return await self._receive(deliver)
        except OSError as error:
            return self._verdict or disconnect(error)

    async def _receive(self, deliver: Deliver) -> Ending:
        limit, unyielded = MAX_HANDSHAKE, 0
        while True:
            try:
                size = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
                if size > limit:
                    return _too_big(size, limit)
                message = await self._reader.readexactly(size)
            except asyncio.IncompleteReadError as end:
                return self._verdict or _end(in_message=bool(end.partial or end.expected != LENGTH_BYTES))
            ending = deliver([(WSMsgType.BINARY, message, None)])
            if ending is not None:
                return ending
            limit = self._max_bytes
            await self._unless_held()
            unyielded += 1
            if unyielded >= BATCH:
                unyielded = 0
                await asyncio.sleep(0)  # a buffered message is taken without waiting, so nobody else had a turn

    async def _transmit(self, data: bytes, kind: WSMsgType) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError
        if kind is WSMsgType.CLOSE:
            self._transport.write_eof()  # the only close that there is
        elif len(data) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(data)} bytes")
        else:
            self._transport.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)

    def _broke(self, error: BaseException) -> Ending:
        return disconnect(error)

    async def _take_apart(self) -> None:
        self._transport.abort()


def _too_big(size: int, limit: int) -> Ending:
    if limit == MAX_HANDSHAKE:
        return Ending(Disconnect.PROTOCOL_ERROR, ABNORMAL, f"the peer sent a first message of {size} bytes: no answer to a handshake is so long")
    return Ending(Disconnect.PROTOCOL_ERROR, ABNORMAL, f"the peer sent a message above max_frame: {size} bytes", oversized=True)


def _end(*, in_message: bool) -> Ending:
    if in_message:
        return Ending(Disconnect.NETWORK, ABNORMAL, "the connection ended in the middle of a message")
    return Ending(Disconnect.PEER_CLOSED, ABNORMAL, "the peer closed the connection")

"""One open socket: messages in by the batch, messages out in order, and its end. `Stream` is any socket, `WebSocketStream` the usual one.

What belongs here: the mechanics of a socket that is open. What the messages mean, and whether anybody still wants them, is connection.py.
"""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from collections import deque
from typing import cast

from aiohttp import EofStream, WebSocketError, WSMsgType

from syncwatch.core.states import Disconnect
from syncwatch.runtime.dialing import Opened
from syncwatch.runtime.failures import ABNORMAL, FOREIGN, NO_STATUS, Ending, disconnect
from syncwatch.runtime.lane import BATCH, Deliver, LanedSocket

SEND_TIMEOUT_S = 10.0
"""What was written must have left for the kernel within this time."""
POLL_S = 0.1  # how often an undrained write buffer is looked at; it is empty at once on a healthy connection
MAX_QUEUED_BYTES = 32 * 2**20
"""More than this does not wait to be sent: a peer that asks for answers and does not read them must not fill our memory."""
CLOSE_GRACE_S = 1.0
"""After our close frame the socket is given so long, whatever the peer does."""


class Stream(ABC):
    """Writes in order and within its time; how bytes become messages is a subclass's. All methods belong to the event loop's thread."""

    def __init__(self, transport: asyncio.Transport, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        self._transport = transport
        self._send_timeout_s = send_timeout_s
        self._outbox: deque[tuple[bytes, WSMsgType]] = deque()
        self._queued_bytes = 0
        self._pong: bytes | None = None
        self._writer: asyncio.Task[None] | None = None
        self._verdict: Ending | None = None
        self._leaving = False
        self._held = False
        self._going_on: asyncio.Future[None] | None = None

    # What a kind of socket says of itself

    @abstractmethod
    async def read(self, deliver: Deliver) -> Ending:
        """Hand what comes to `deliver` until it returns an ending or the socket has one. Never raises for what a peer does.

        Reading goes on after `leave()`, so that the peer's answer is taken and its data does not turn our close into a reset.
        """

    @abstractmethod
    async def _transmit(self, data: bytes, kind: WSMsgType) -> None:
        """Hand one message to the transport. Raises: one of failures.FOREIGN."""

    @abstractmethod
    def _broke(self, error: BaseException) -> Ending:
        """What it means that writing raised `error`."""

    @abstractmethod
    async def _take_apart(self) -> None:
        """Let go of the socket at once. What is still in the write buffer is lost."""

    # What is the same for all

    def send(self, data: str | bytes) -> None:
        """Send one message after those before it: text for str, binary for bytes."""
        if isinstance(data, str):
            self._enqueue(data.encode(), WSMsgType.TEXT)
        else:
            self._enqueue(data, WSMsgType.BINARY)

    def hold(self, on: bool) -> None:
        """Read no further, or go on. What was read already still comes, a few hundred KiB at most."""
        self._held = on
        if not on and self._going_on is not None and not self._going_on.done():
            self._going_on.set_result(None)

    async def _unless_held(self) -> None:
        """Returns when reading may go on."""
        while self._held:
            self._going_on = asyncio.get_running_loop().create_future()
            await self._going_on

    def pong(self, data: bytes) -> None:
        """Answer a ping. Only the latest one is owed an answer (RFC 6455 section 5.5.3), so pings cannot fill our memory."""
        self._pong = data
        self._write()

    def leave(self, code: int, reason: str) -> None:
        """Send a close frame if that is still possible; nothing is sent after it."""
        if self._leaving:
            return
        sendable = NO_STATUS if code in (NO_STATUS, ABNORMAL) else code  # these two exist only as reports
        payload = b"" if sendable == NO_STATUS else struct.pack("!H", sendable) + reason.encode()[:120]
        self._enqueue(payload, WSMsgType.CLOSE)
        self._leaving = True

    async def discard(self) -> None:
        """Let the last words go out, for a second at most, then take the socket apart."""
        try:
            if self._writer is not None and not self._writer.done():
                await asyncio.wait([self._writer], timeout=CLOSE_GRACE_S)
                self._writer.cancel()
        finally:
            await self._take_apart()

    def abort(self) -> None:
        """End it now; `read` returns."""
        self.hold(False)  # nobody would notice the end
        self._transport.abort()

    def _enqueue(self, data: bytes, kind: WSMsgType) -> None:
        if self._leaving:
            return
        if self._queued_bytes + len(data) > MAX_QUEUED_BYTES:
            mebibytes = MAX_QUEUED_BYTES >> 20
            self._fail(Ending(Disconnect.SEND_TIMEOUT, ABNORMAL, f"more than {mebibytes} MiB wait to be sent, and the peer does not read"))
            return
        self._queued_bytes += len(data)
        self._outbox.append((data, kind))
        self._write()

    def _write(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._outbox or self._pong is not None:
                if self._pong is not None:
                    data, kind, self._pong = self._pong, WSMsgType.PONG, None
                else:
                    data, kind = self._outbox.popleft()
                    self._queued_bytes -= len(data)
                await self._write_one(data, kind)
        except FOREIGN as error:
            self._fail(self._broke(error))

    async def _write_one(self, data: bytes, kind: WSMsgType) -> None:
        try:
            async with asyncio.timeout(self._send_timeout_s) as limit:
                await self._transmit(data, kind)
                while self._transport.get_write_buffer_size():  # noqa: ASYNC110  a transport tells only its protocol: aiohttp's
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            if not limit.expired():
                raise  # the system's own: ETIMEDOUT
            detail = f"a message could not be sent within {self._send_timeout_s:g} s"
            self._fail(Ending(Disconnect.SEND_TIMEOUT, ABNORMAL, detail))

    def _fail(self, ending: Ending) -> None:
        self._verdict = self._verdict or ending
        self._outbox.clear()
        self._queued_bytes = 0
        self.abort()  # the reader wakes up with the end of the stream and finds the verdict


class WebSocketStream(Stream):
    """An open WebSocket."""

    def __init__(self, opened: Opened, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        super().__init__(opened.transport, send_timeout_s)
        self._opened = opened
        self._ws = opened.ws

    async def read(self, deliver: Deliver) -> Ending:
        """To its end; see Stream."""
        lane = self._ws.lane if isinstance(self._ws, LanedSocket) else None
        try:
            ending = await (self._receive(deliver) if lane is None else lane.read(deliver))
        except FOREIGN as error:
            return await self._ended(error)
        self.leave(ending.code or NO_STATUS, "")
        return ending

    def hold(self, on: bool) -> None:
        """Also of the lane, which reads by itself."""
        super().hold(on)
        lane = self._ws.lane if isinstance(self._ws, LanedSocket) else None
        if lane is not None:
            lane.hold(on)

    async def _receive(self, deliver: Deliver) -> Ending:
        """The slow way, which needs nothing of aiohttp's but what it documents: message by message."""
        unyielded = 0
        while True:
            kind, data, extra = await self._ws.receive()
            if kind is WSMsgType.ERROR:
                raise cast(Exception, data)
            if kind in (WSMsgType.CLOSED, WSMsgType.CLOSING):
                raise EofStream
            ending = deliver([(kind, data, extra)])
            if ending is not None:
                return ending
            await self._unless_held()
            unyielded += 1
            if unyielded >= BATCH:
                unyielded = 0
                await asyncio.sleep(0)  # a buffered message is taken without waiting, so nobody else had a turn

    async def _ended(self, error: BaseException) -> Ending:
        if self._verdict is not None:
            return self._verdict
        ending = disconnect(error, self._opened.lost())
        if isinstance(error, WebSocketError):
            self.leave(error.code, "")
        return ending

    async def _transmit(self, data: bytes, kind: WSMsgType) -> None:
        await self._ws.send_frame(data, kind)

    def _broke(self, error: BaseException) -> Ending:
        return disconnect(error, self._opened.lost())

    async def _take_apart(self) -> None:
        await self._opened.discard()

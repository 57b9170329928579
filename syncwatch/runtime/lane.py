"""The quick way of reading: whole text frames are cut out of the socket's bytes and handed on in the same wake-up.

What belongs here: where a frame begins and ends (RFC 6455 section 5.2). Whatever is no unfragmented text frame below 64 KiB goes through
aiohttp's parser, in its place: control and binary frames, fragments, large messages, and everything that breaks the protocol.

At 100 messages a second each one is a wake-up of its own with cold caches, and what it costs is the number of places that the code visits. aiohttp's
parser, its queue and the wake-up of the task that waits there cost as much again as all that the session does with the message.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any

import aiohttp
from aiohttp import EofStream, WSMsgType

from syncwatch.runtime.failures import Ending

PORTION = 256
"""So many messages are handed on at once: more would only take memory."""
BATCH = 4 * PORTION
"""After so many messages the event loop gets a turn, so that a flood delays no heartbeat and no scrape: 2 ms with everything that is done for them."""

Message = tuple[WSMsgType, Any, Any]  # kind, data, extra
Item = bytes | Message
"""A text message, or aiohttp's own words for it and for everything else."""
Deliver = Callable[[list[Item]], Ending | None]

SHORT_TEXT, TEXT_16 = 0x8100, 0x817E  # the first two bytes of a final text frame without a mask, and of one whose length are the next two
QUICK_BYTES = 0xFFFF
GO_ON = (False, b"")  # to aiohttp's protocol: the stream is not broken
LONGEST_HEAD = 14
FINAL, MASKED = 0x80, 0x80
CONTROL = 0x8  # opcodes from here on

_two_halves = Struct("!HH").unpack_from
_length_64 = Struct("!Q").unpack_from


class Lane:
    """Takes the place of aiohttp's parser between its protocol and its queue.

    `parser` is that parser, which still reads what is not cut out here, and `queue` is where it puts what it has read.
    """

    def __init__(self, parser: Any, queue: Any, protocol: Any, max_bytes: int) -> None:
        self._parser = parser
        self._queue = queue
        self._protocol = protocol
        self._limit = min(QUICK_BYTES, max_bytes)
        self._rest = b""  # the beginning of a frame, or what waits for the next turn
        self._owed = 0  # bytes of a frame that the parser has the beginning of
        self._inside = False  # it has the first fragments of a message
        self._between = True  # nothing of the sort: what comes next is the beginning of a frame, and of a message
        self._broken = False
        self._turn_due = False
        self._held = False  # somebody wants no more for now
        self._ended = False  # nothing more will come
        self._early: list[Item] = []  # came before anybody read
        self._deliver: Deliver | None = None
        self._over: asyncio.Future[Ending | None] | None = None

    async def read(self, deliver: Deliver) -> Ending:
        """Hand on what has come and what comes until `deliver` returns an ending.

        Raises what the stream ended with, one of failures.FOREIGN, or what `deliver` raised.
        """
        self._over = over = asyncio.get_running_loop().create_future()
        self._deliver = deliver
        early, self._early = self._early, []
        if early:
            self._hand_on(early)
        if self._ended:
            self._finish()
        try:
            ending: Ending | None = await over
        finally:
            self._deliver = None
            self._early.clear()
        if ending is not None:
            return ending
        await self._queue.read()
        raise EofStream  # not reached: the queue holds nothing but its end, and raises that

    @property
    def in_place(self) -> bool:
        """Whether aiohttp's protocol uses it, or did so until the end."""
        return self._ended or getattr(self._protocol, "_payload_parser", None) is self

    def hold(self, on: bool) -> None:
        """Read no further, or go on; what was read already is still handed on."""
        self._held = on
        if self._ended:
            return
        if on:
            self._protocol.pause_reading()
        elif not self._turn_due:
            self._protocol.resume_reading()

    # ------------------------------------------------------------------ what aiohttp's protocol calls

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """What came from the socket; returns whether the stream is broken, as aiohttp's parser does."""
        if type(data) is not bytes:
            data = bytes(data)
        if self._between and len(data) >= 4:
            head, length = _two_halves(data)
            if head == TEXT_16 and length + 4 == len(data) and length <= self._limit:  # one text and nothing else
                self._hand_on([data[4:]])
                return GO_ON
        rest, self._rest = self._rest, b""
        if not rest:
            self._cut(data)
        elif self._turn_due:
            self._rest = rest + data
        else:
            whole = frame_bytes(rest[:LONGEST_HEAD] + data[:LONGEST_HEAD], 0)
            if whole is None or whole > len(rest) + len(data):
                self._cut(rest + data)
            else:  # not all of it in one: a read brings up to 256 KiB, and only one frame was cut
                self._cut(data, whole - len(rest), rest + data[: whole - len(rest)])
        return self._broken, b""

    def feed_eof(self) -> None:
        """The connection is gone."""
        self._parser.feed_eof()
        self._ended = True
        if not self._turn_due:
            self._finish()

    # ------------------------------------------------------------------ frames

    def _cut(self, data: bytes, position: int = 0, begun: bytes = b"") -> None:
        """Take frames from `position` on; `begun` is a whole frame before them."""
        items: list[Item] = []
        if begun and (self._inside or not self._cut_texts(begun, 0, len(begun), items)):
            self._pass_on(begun, 0, items)
        size, taken = len(data), 0
        while position < size and taken < BATCH and not self._broken:
            if not self._owed and not self._inside:
                position = self._cut_texts(data, position, size, items)
            if position < size and len(items) < PORTION:
                used = self._pass_on(data, position, items)
                if not used:
                    break
                position += used
            if len(items) >= PORTION:
                taken += len(items)
                self._hand_on(items)
                items = []
        if position < size and not self._broken:
            self._rest = data[position:]
            if taken >= BATCH:
                self._turn_due = True
                self._protocol.pause_reading()
                asyncio.get_running_loop().call_soon(self._go_on)
        self._between = not (self._rest or self._owed or self._inside or self._broken)
        if items:
            self._hand_on(items)
        if self._held and not self._broken:
            self._protocol.pause_reading()  # aiohttp's queue resumes it whenever something is taken out
        if self._broken:
            self._ended = True
            self._finish()

    def _cut_texts(self, data: bytes, position: int, size: int, items: list[Item]) -> int:
        """Cut out text frames while there is one; returns where the first thing begins that is none, or not complete."""
        last, limit = size - 4, self._limit
        for _ in range(PORTION - len(items)):
            if position > last:
                break
            head, length = _two_halves(data, position)
            if head == TEXT_16:
                start = position + 4
            elif SHORT_TEXT <= head < TEXT_16:
                start, length = position + 2, head - SHORT_TEXT
            else:
                break
            end = start + length
            if end > size or length > limit:
                break
            items.append(data[start:end])
            position = end
        return position

    def _pass_on(self, data: bytes, position: int, items: list[Item]) -> int:
        """Give the parser one frame, or as much of it as is there; returns how many bytes that were, 0 if they have to wait for more."""
        if self._owed:
            part = data[position : position + self._owed]
            self._owed -= len(part)
        else:
            length = frame_bytes(data, position)
            if length is None:
                return 0
            first, part = data[position], data[position : position + length]
            if len(part) < length <= self._limit and first == SHORT_TEXT >> 8 and not self._inside:
                return 0
            self._owed = length - len(part)
            if first & 0xF < CONTROL:
                self._inside = not first & FINAL
        self._broken = self._parser.feed_data(part)[0]
        if self._queue._buffer:
            items += at_once(self._waiting())
        return len(part)

    async def _waiting(self) -> list[Message]:
        """All that the queue holds. None of it waits: aiohttp pops it, and lets the socket be read again if it had enough."""
        return [await self._queue.read() for _ in range(len(self._queue._buffer))]

    # ------------------------------------------------------------------ handing on

    def _hand_on(self, items: list[Item]) -> None:
        if self._over is None:
            self._early += items
            return
        if self._deliver is None or self._over.done():
            return
        try:
            ending = self._deliver(items)
        except Exception as error:  # our own bug: it is whoever reads who must hear of it, not aiohttp's protocol
            self._over.set_exception(error)
            return
        if ending is not None:
            self._over.set_result(ending)

    def _go_on(self) -> None:
        """The turn that others were given is over."""
        self._turn_due = False
        rest, self._rest = self._rest, b""
        self._cut(rest)
        if self._turn_due:
            return
        if self._ended:
            self._finish()
        elif not self._held:
            self._protocol.resume_reading()

    def _finish(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


class LanedSocket(aiohttp.ClientWebSocketResponse[bool]):
    """aiohttp's WebSocket with a lane before its parser.

    aiohttp makes the parser, keeps it as `_parser`, and gives its protocol what it finds there, before a byte is parsed. Where that, or the queue, is
    not what it was in 3.14, there is no `lane`, and `receive()` has the messages.
    """

    def __init__(self, max_bytes: int, *arguments: Any, **options: Any) -> None:
        self._max_bytes = max_bytes
        self._plain: Any = None
        self._lane: Lane | None = None
        super().__init__(*arguments, **options)

    @property
    def lane(self) -> Lane | None:
        """Where to read, if aiohttp has taken it."""
        return self._lane if self._lane is not None and self._lane.in_place else None

    @property
    def _parser(self) -> Any:
        return self._plain if self._lane is None else self._lane

    @_parser.setter
    def _parser(self, parser: Any) -> None:
        self._plain = parser
        if parser is None:  # not yet made, or not needed any more
            return
        queue, connection = getattr(self, "_reader", None), self._response.connection
        protocol = None if connection is None else connection.protocol
        if isinstance(getattr(queue, "_buffer", None), deque) and inspect.iscoroutinefunction(getattr(queue, "read", None)):
            self._lane = Lane(parser, queue, protocol, self._max_bytes)


def at_once(coroutine: Any) -> Any:
    """The result of a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("it waits")


def frame_bytes(data: bytes, position: int) -> int | None:
    """How long the frame at `position` is with its head; None while its head is not complete."""
    head = len(data) - position
    if head < 2:
        return None
    length, mask = data[position + 1] & ~MASKED, 4 if data[position + 1] & MASKED else 0
    if length < 126:
        return 2 + mask + length
    if length == 126:
        return None if head < 4 else 4 + mask + int.from_bytes(data[position + 2 : position + 4])
    return None if head < 10 else 10 + mask + int.from_bytes(data[position + 2 : position + 10])

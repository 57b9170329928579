"""The quick way of reading gives what aiohttp's parser gives, however the bytes are cut, and never more of it in one turn than it should."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import EofStream, WebSocketError, WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

from syncwatch.runtime.failures import peer_close
from syncwatch.runtime.lane import BATCH, PORTION, Item, Lane, at_once, frame_bytes
from tests.integration.runtime_parts import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame

MAX_BYTES = 100_000

SCRIPTS = {
    "short texts": b"".join(frame(TEXT, b"x" * size) for size in range(130)),
    "texts": b"".join(frame(TEXT, b"x" * size) for size in range(120, 400, 7)),
    "a text that begins like another": frame(TEXT, b"x" * 200, first=0) + frame(TEXT, b"y" * 200) + frame(TEXT, b"z" * 200),
    "the longest that are quick, and one more": frame(TEXT, b"a" * 0xFFFF) + frame(TEXT, b"b" * 0x10000) + frame(TEXT, b"c"),
    "a length in more bytes than it needs": b"\x81\x7e\x00\x03abc" + b"\x81\x7f" + bytes(7) + b"\x03def" + frame(TEXT, b"end"),
    "everything between texts": b"".join(
        frame(TEXT, b"t") + frame(kind, b"x") for kind in (BINARY, PING, PONG, BINARY)
    ) + close_frame(1000, "bye") + frame(TEXT, b"after the close"),
    "fragments with a ping between": frame(TEXT, b"before") + frame(TEXT, b"one ", first=0) + frame(PING, b"p") + frame(0, b"two", first=0)
    + frame(0, b"") + frame(TEXT, b"after"),
    "fragments of binary": frame(BINARY, b"one ", first=0) + frame(0, b"two") + frame(TEXT, b"after"),
    "masked": b"\x81\x83\x01\x02\x03\x04" + bytes(a ^ b for a, b in zip(b"abc", b"\x01\x02\x03", strict=True)) + frame(TEXT, b"after"),
    "a text inside a fragmented message": frame(TEXT, b"one ", first=0) + frame(TEXT, b"two") + frame(TEXT, b"three"),
    "a fragment of nothing": frame(TEXT, b"one") + frame(0, b"two") + frame(TEXT, b"three"),
    "reserved bits": frame(TEXT, b"one") + frame(TEXT, b"two", first=0xC0) + frame(TEXT, b"three"),
    "reserved opcode": frame(TEXT, b"one") + frame(0x3, b"two") + frame(TEXT, b"three"),
    "fragmented ping": frame(TEXT, b"one") + frame(PING, b"two", first=0) + frame(TEXT, b"three"),
    "a long ping": frame(TEXT, b"one") + b"\x89\x7e\x00\x7e" + b"x" * 126 + frame(TEXT, b"three"),
    "too big": frame(TEXT, b"one") + frame(TEXT, b"x" * (MAX_BYTES + 1)) + frame(TEXT, b"three"),
    "too big in pieces": frame(TEXT, b"x" * 60_000, first=0) + frame(0, b"x" * 60_000) + frame(TEXT, b"three"),
    "a length of 2^63": frame(TEXT, b"one") + b"\x81\x7f\xff" + bytes(7) + b"x" * 10,
    "cut in a head": frame(TEXT, b"one") + b"\x81\x7e\x01",
    "cut in a text": frame(TEXT, b"one") + b"\x81\x05ab",
    "cut in a ping": frame(TEXT, b"one") + b"\x89\x05ab",
    "nothing": b"",
}  # fmt: skip


class Protocol:
    """What a lane and a queue need of aiohttp's protocol."""

    def __init__(self) -> None:
        self._reading_paused = False
        self.pauses = 0

    def pause_reading(self) -> None:
        self._reading_paused = True
        self.pauses += 1

    def resume_reading(self) -> None:
        self._reading_paused = False


def reading(max_bytes: int = MAX_BYTES) -> tuple[WebSocketReader, WebSocketDataQueue, Protocol]:
    """aiohttp's own way, as its client sets it up."""
    protocol: Any = Protocol()
    queue = WebSocketDataQueue(protocol, 2**16, loop=asyncio.get_running_loop())
    return WebSocketReader(queue, max_bytes + 1, compress=False, decode_text=False), queue, protocol


def plainly(item: Item) -> tuple[Any, Any, Any]:
    """A message as something that can be compared."""
    if isinstance(item, bytes):
        return WSMsgType.TEXT, item, ""
    kind, data, extra = item
    return kind, bytes(data) if isinstance(data, bytearray) else data, extra


async def by_aiohttp(said: bytes) -> tuple[list[tuple[Any, Any, Any]], str]:
    """What aiohttp's own parser makes of it, and how the stream ended."""
    parser, queue, _ = reading()
    parser.feed_data(said)
    parser.feed_eof()
    found: list[tuple[Any, Any, Any]] = []
    while True:
        try:
            found.append(plainly(tuple(await queue.read())))
        except (EofStream, WebSocketError) as end:
            return found, repr(end)


async def by_lane(pieces: list[bytes]) -> tuple[list[tuple[Any, Any, Any]], str]:
    """What the lane makes of it, piece by piece."""
    parser, queue, protocol = reading()
    lane = Lane(parser, queue, protocol, MAX_BYTES)
    found: list[tuple[Any, Any, Any]] = []

    def deliver(items: list[Item]) -> None:
        found.extend(plainly(item) for item in items)

    task = asyncio.create_task(lane.read(deliver))
    for place, piece in enumerate(pieces):
        if place == 1:
            await asyncio.sleep(0)  # the first piece came before anybody read
        broken, _ = lane.feed_data(piece)
        if broken:
            break
    lane.feed_eof()
    with contextlib.suppress(EofStream, WebSocketError):
        await task
    return found, repr(task.exception())


@pytest.mark.parametrize("said", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_the_same_as_aiohttps_parser_however_it_is_cut(said: bytes) -> None:
    """Whole, byte by byte, and in pieces of every awkward size: the same messages in the same order, and the same end."""
    expected = await by_aiohttp(said)
    sizes = [1, 2, 3, 5, 7, 100, 1000, 65_536, len(said) + 1] if len(said) < 10_000 else [997, 4096, 65_535, 65_536, len(said) + 1]
    for size in sizes:
        pieces = [said[start : start + size] for start in range(0, len(said), size)]
        assert expected == await by_lane(pieces), size


@pytest.mark.parametrize("said", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_the_same_frame_by_frame(said: bytes) -> None:
    """A frame that comes alone goes a shorter way, if nothing else is under way."""
    pieces, rest = [], said
    while (length := frame_bytes(rest, 0)) is not None:
        pieces.append(rest[:length])
        rest = rest[length:]
    assert await by_aiohttp(said) == await by_lane([*pieces, rest])
    assert await by_aiohttp(said) == await by_lane([b"", *pieces, rest])


@pytest.mark.parametrize("kind", [TEXT, PING, BINARY])
async def test_a_turn_after_a_batch(kind: int) -> None:
    """A flood in one piece is handed on batch by batch, with a turn for others between them, while the socket is not read; the end comes last."""
    parser, queue, protocol = reading()
    lane = Lane(parser, queue, protocol, MAX_BYTES)
    batches: list[int] = []
    seen: list[int] = []
    task = asyncio.create_task(lane.read(lambda items: batches.append(len(items))))
    await asyncio.sleep(0)
    lane.feed_data(frame(kind, b"x") * (3 * BATCH + 1))
    lane.feed_data(frame(kind, b"x")[:2])  # it was on its way already
    lane.feed_data(frame(kind, b"x")[2:])
    lane.feed_eof()
    while not task.done():
        seen.append(sum(batches))
        assert protocol._reading_paused or sum(batches) == 3 * BATCH + 2
        await asyncio.sleep(0)
    assert [PORTION] * (3 * BATCH // PORTION) + [2] == batches
    assert {BATCH, 2 * BATCH, 3 * BATCH} <= set(seen)
    assert protocol.pauses >= 3
    assert isinstance(task.exception(), EofStream)


async def test_reading_goes_on_after_a_flood() -> None:
    """When everything was handed on, the socket is read again."""
    parser, queue, protocol = reading()
    lane = Lane(parser, queue, protocol, MAX_BYTES)
    found: list[Item] = []
    paused: list[bool] = []
    task = asyncio.create_task(lane.read(lambda items: found.extend(items)))
    await asyncio.sleep(0)
    for said in (frame(TEXT, b"text") * (BATCH + 1), frame(TEXT, b"last")):
        lane.feed_data(said)
        paused.append(protocol._reading_paused)
        await asyncio.sleep(0)
        paused.append(protocol._reading_paused)
    assert [True, False, False, False] == paused
    assert [b"text"] * (BATCH + 1) + [b"last"] == found
    task.cancel()
    await asyncio.wait([task])


async def test_an_ending_stops_the_delivery() -> None:
    """What comes after the peer's close, or after whoever reads has gone, is nobody's."""
    parser, queue, protocol = reading()
    lane = Lane(parser, queue, protocol, MAX_BYTES)
    found: list[list[Item]] = []
    ending = peer_close(1000, "")

    def deliver(items: list[Item]) -> Any:
        found.append(items)
        return ending

    lane.feed_data(frame(TEXT, b"one") + frame(CLOSE, b"\x03\xe8"))
    task = asyncio.create_task(lane.read(deliver))
    await asyncio.sleep(0)
    lane.feed_data(frame(TEXT, b"two"))
    assert ending == await task
    lane.feed_data(frame(TEXT, b"three"))
    assert [[b"one", (WSMsgType.CLOSE, 1000, "")]] == found


async def test_what_the_receiver_raises_reaches_the_reader() -> None:
    """A bug of ours is not aiohttp's protocol's business: whoever reads hears of it."""
    parser, queue, protocol = reading()
    lane = Lane(parser, queue, protocol, MAX_BYTES)

    def deliver(items: list[Item]) -> None:
        raise ZeroDivisionError

    task = asyncio.create_task(lane.read(deliver))
    await asyncio.sleep(0)
    assert (False, b"") == lane.feed_data(frame(TEXT, b"one"))
    with pytest.raises(ZeroDivisionError):
        await task


def test_how_long_a_frame_is() -> None:
    """Head and payload, as soon as the head tells."""
    for size in (0, 1, 125, 126, 65_535, 65_536):
        whole = frame(TEXT, b"x" * size)
        head = 2 if size < 126 else 4 if size < 65_536 else 10
        assert len(whole) == frame_bytes(b"?" + whole, 1)
        assert [None] * head == [frame_bytes(whole[:cut], 0) for cut in range(head)]
        assert len(whole) == frame_bytes(whole[:head], 0)
    assert 2 + 4 + 3 == frame_bytes(b"\x81\x83", 0)


async def test_a_coroutine_that_waits_is_a_mistake() -> None:
    """Only what has its result already may be asked so."""
    with pytest.raises(RuntimeError, match="it waits"):
        at_once(asyncio.sleep(0))

"""A session that wants no more for now: what it has not read waits with the peer. And what is on its way when we close still comes, where it is wanted."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from syncwatch.core.effects import Close, Hold
from syncwatch.core.states import Disconnect
from syncwatch.runtime import dialing
from tests.integration.runtime_parts import (
    BINARY,
    CLOSE,
    TEXT,
    Peer,
    close_frame,
    eventually,
    frame,
    rig,
    serving,
)
from tests.loops import on_both_loops

MESSAGE = b"m" * 10_000
COUNT = 3000
HELD_AT = 10
BUFFERED = 200
"""So many messages may be read before reading stops, at most: 2 MB."""


def plain(_: int, *arguments: Any, **options: Any) -> aiohttp.ClientWebSocketResponse[bool]:
    """aiohttp's socket, without a lane."""
    return aiohttp.ClientWebSocketResponse(*arguments, **options)


@on_both_loops()
@pytest.mark.parametrize("way", ["text", "binary", "slow", "tcp"])
async def test_what_is_not_read_waits_with_the_peer(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer's own writes stall; nothing is lost, and all of it comes when reading goes on."""
    if way == "slow":
        monkeypatch.setattr(dialing, "LanedSocket", plain)
    written = 0

    async def serve(peer: Peer) -> None:
        nonlocal written
        if way != "tcp":
            await peer.upgrade()
        for number in range(COUNT):
            data = b"%06d" % number + MESSAGE
            peer.say(len(data).to_bytes(2, "big") + data if way == "tcp" else frame(TEXT if way == "text" else BINARY, data))
            await peer.writer.drain()
            written = number + 1
            if number == 0 and way == "tcp":
                await asyncio.sleep(0)
        await peer.end()

    async with serving(serve) as port, rig() as r:
        r.session.answers["received"] = lambda: [Hold(1, True)] if len(r.session.frames) == HELD_AT else []
        if way == "tcp":
            monkeypatch.setattr("syncwatch.runtime.tcp.MAX_HANDSHAKE", 0xFFFF)
            r.dial(port, url=f"tcp://127.0.0.1:{port}", token_query=None)
        else:
            r.dial(port)
        await r.session.until(lambda: len(r.session.frames) >= HELD_AT)
        heard = -1
        while heard != len(r.session.frames) + written:  # until neither side moves any more
            heard = len(r.session.frames) + written
            await asyncio.sleep(0.2)
        held, stalled = len(r.session.frames), written
        assert held <= HELD_AT + BUFFERED
        assert stalled < COUNT, "the kernel's buffers have taken it all: the test needs more messages"
        r.do(Hold(1, False))
        await r.session.until(lambda: len(r.session.frames) == COUNT, 30.0)
        assert [b"%06d" % number for number in range(COUNT)] == [bytes(data[:6]) for data in r.session.frames]
        r.do(Close(1, 1000, "done"))
    assert "closed" not in r.session.names()


@on_both_loops()
@pytest.mark.parametrize("way", ["lane", "slow"])
async def test_a_close_is_not_held_up(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours ends the connection within a second although nothing is read; one that the network ends is noticed when reading goes on."""
    if way == "slow":
        monkeypatch.setattr(dialing, "LanedSocket", plain)
    ended = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        peer.say(frame(BINARY, b"x"))
        await peer.end()
        ended.set()

    async with serving(serve) as port, rig() as r:
        r.session.answers["received"] = lambda: [Hold(1, True)]
        r.dial(port)
        await r.session.until(lambda: r.session.frames)
        r.do(Close(1, 1000, "done"))
        async with asyncio.timeout(10.0):
            await ended.wait()

    async def cut(peer: Peer) -> None:
        await peer.upgrade()
        peer.say(frame(BINARY, b"x"))
        await peer.writer.drain()

    async with serving(cut) as port, rig() as r:
        r.session.answers["received"] = lambda: [Hold(1, True)]
        r.dial(port)
        await r.session.until(lambda: r.session.frames)
        r.do(Hold(1, False))
        assert Disconnect.NETWORK is (await r.session.hear("closed"))[2]


@on_both_loops()
@pytest.mark.parametrize("leftovers", [True, False])
async def test_what_is_on_its_way_when_we_close(leftovers: bool) -> None:
    """Handed in up to the peer's close frame, if it is wanted; otherwise it is nobody's. The session hears of no end: it has moved on."""
    answered = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        opcode, _ = await peer.frame()
        assert CLOSE == opcode
        peer.say(b"".join(frame(BINARY, b"%d" % number) for number in range(5)) + frame(TEXT, b"six") + close_frame(1000, "done"))
        answered.set()
        await peer.end()

    async with serving(serve) as port, rig(leftovers=leftovers) as r:
        r.dial(port)
        await r.session.hear("opened")
        r.do(Close(1, 1000, "done"))
        await eventually(answered.is_set)
        if leftovers:
            await r.session.until(lambda: len(r.session.frames) == 6)
    assert (["opened"], 6 if leftovers else 0) == (r.session.names(), len(r.session.frames))
    assert not leftovers or r.session.frames[4:] == [b"4", b"six"]


async def test_what_is_on_its_way_may_take_longer_than_a_close() -> None:
    """A peer that has much to say before it answers our close is heard out, for some seconds."""
    said = 0

    async def serve(peer: Peer) -> None:
        nonlocal said
        await peer.upgrade()
        assert CLOSE == (await peer.frame())[0]
        for said in range(1, 9):
            peer.say(frame(BINARY, b"%d" % said))
            await asyncio.sleep(0.2)
        peer.say(close_frame(1000, "done"))
        await peer.end()

    async with serving(serve) as port, rig(leftovers=True) as r:
        r.dial(port)
        await r.session.hear("opened")
        r.do(Close(1, 1000, "done"))
        await r.session.until(lambda: len(r.session.frames) == 8)
    assert 8 == said

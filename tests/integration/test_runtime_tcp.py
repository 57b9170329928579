"""Messages behind lengths over real sockets, on both event loops, against servers that say exactly the bytes that they are told to."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from syncwatch.core.effects import Close, Handshake, Send
from syncwatch.core.states import AttemptFailure, Disconnect
from syncwatch.runtime import stream as stream_module
from syncwatch.runtime.dialing import Endpoint
from syncwatch.runtime.lane import BATCH
from syncwatch.runtime.threads import ThreadResolver
from tests.integration.runtime_parts import Peer, Rig, eventually, rig, serving
from tests.loops import on_both_loops


def dial(r: Rig, port: int, host: str = "127.0.0.1", timeout_s: float = 5.0) -> None:
    """Over TCP."""
    r.dial(port, url=f"tcp://{host}:{port}", token_query=None, timeout_s=timeout_s)


def message(data: bytes) -> bytes:
    """Behind its length."""
    return struct.pack(">H", len(data)) + data


async def take(peer: Peer) -> bytes:
    """The next message of the client."""
    (size,) = struct.unpack(">H", await peer.reader.readexactly(2))
    return await peer.reader.readexactly(size)


@on_both_loops()
async def test_messages_both_ways_and_a_clean_end() -> None:
    """Also byte by byte, several in one piece, empty and as large as can be; our close ends the stream, and nothing follows it."""
    largest = bytes(range(256)) * 255 + b"x" * 255
    heard: list[bytes] = []

    async def serve(peer: Peer) -> None:
        for byte in message(b"first"):
            peer.say(bytes([byte]))
            await asyncio.sleep(0)
        heard.append(await take(peer))
        peer.say(message(b"") + message(largest) + message(b"z"))
        heard.append(await take(peer))
        heard.append(await peer.end())

    async with serving(serve) as port, rig() as r:
        dial(r, port)
        told = await r.session.hear("opened")
        handshake = told[2]
        assert isinstance(handshake, Handshake)
        assert (None, None, None) == (handshake.dns_s, handshake.tls_s, handshake.upgrade_s)
        assert handshake.tcp_s is not None
        assert 0.0 < handshake.tcp_s < 2.0
        await r.session.until(lambda: r.session.frames)
        r.do(Send(1, b"hello"))
        await r.session.until(lambda: len(r.session.frames) == 4)
        assert [b"first", b"", largest, b"z"] == r.session.frames
        r.do(Send(1, largest), Close(1, 1000, "done"), Send(1, b"too late"))
        await eventually(lambda: len(heard) == 3)
    assert [b"hello", largest, b""] == heard
    assert ["opened"] == r.session.names()


@on_both_loops()
@pytest.mark.parametrize(
    ("said", "how", "expected"),
    [
        (b"", "end", (Disconnect.PEER_CLOSED, "the peer closed the connection", False)),
        (message(b"ok"), "end", (Disconnect.PEER_CLOSED, "the peer closed the connection", False)),
        (b"\x00", "end", (Disconnect.NETWORK, "the connection ended in the middle of a message", False)),
        (b"\x00\x05abc", "end", (Disconnect.NETWORK, "the connection ended in the middle of a message", False)),
        (b"", "reset", (Disconnect.NETWORK, "connection lost: connection reset by peer (ECONNRESET)", False)),
        (b"\x02\x01", "stay", (Disconnect.PROTOCOL_ERROR, "the peer sent a first message of 513 bytes: no answer to a handshake is so long", False)),
        (b"HTTP/1.1 400 Bad Request\r\n", "stay", (Disconnect.PROTOCOL_ERROR, "the peer sent a first message of 18516 bytes: no answer to a handshake is so long", False)),
        (message(b"ok") + b"\x04\x01", "stay", (Disconnect.PROTOCOL_ERROR, "the peer sent a message above max_frame: 1025 bytes", True)),
    ],
    ids=["at once", "after a message", "in a length", "in a message", "reset", "first too long", "http", "above max_frame"],
)
async def test_ends(said: bytes, how: str, expected: tuple[Disconnect, str, bool]) -> None:
    """An end has no code; what is too long is refused before its content is read."""

    async def serve(peer: Peer) -> None:
        peer.say(said)
        await peer.writer.drain()
        if how == "reset":
            peer.reset()
        elif how == "stay":
            await peer.end()

    async with serving(serve) as port, rig(endpoint=Endpoint(max_frame_bytes=1024)) as r:
        dial(r, port)
        closed = await r.session.hear("closed")
    reason, detail, oversized = expected
    assert ("closed", 1, reason, 1006, detail, oversized) == closed


@on_both_loops()
async def test_dials_that_fail() -> None:
    """Refused, no such name, no answer: each with its reason, in words without the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with rig() as r:
            dial(r, taken.getsockname()[1])
            told = await r.session.hear("failed")
    assert ("failed", 1, AttemptFailure.REFUSED, "connection refused (ECONNREFUSED)", None) == told
    async with rig() as r:
        dial(r, 1, "no-such-host.invalid")
        told = await r.session.hear("failed")
    assert (AttemptFailure.DNS, True) == (told[2], told[3].startswith("the name of the server cannot be resolved: "))


async def test_a_name_has_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is silent does not keep the next one from being tried; when all are, it is a timeout that says where it stood."""
    real = asyncio.open_connection
    asked: list[str] = []

    async def open_connection(host: str, port: int, **rest: object) -> object:
        asked.append(host)
        if host == "127.0.0.2":
            await asyncio.sleep(60)
        return await real(host, port, **rest)  # type: ignore[arg-type]

    async def resolve(_self: object, host: str, port: int = 0, _family: int = 0) -> list[dict[str, object]]:
        return [{"hostname": host, "host": place, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0} for place in places]

    monkeypatch.setattr(asyncio, "open_connection", open_connection)
    monkeypatch.setattr(ThreadResolver, "resolve", resolve)

    async def serve(peer: Peer) -> None:
        await peer.end()

    places = ["127.0.0.2", "127.0.0.1"]
    async with serving(serve) as port, rig() as r:
        dial(r, port, "branch.example", timeout_s=2.0)
        await r.session.hear("opened")
        r.do(Close(1, 1000, ""))
    assert places == asked
    places = ["127.0.0.2", "127.0.0.2"]
    async with rig() as r:
        dial(r, 1, "branch.example", timeout_s=0.1)
        told = await r.session.hear("failed")
    assert (AttemptFailure.TIMEOUT, "not finished within 0.1 s: it stood at tcp") == (told[2], told[3])


@on_both_loops()
async def test_a_peer_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be sent in time ends the connection with that reason."""
    stop = asyncio.Event()

    async def serve(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stop.wait()

    async with serving(serve) as port, rig(send_timeout_s=0.3) as r:
        dial(r, port)
        await r.session.hear("opened")
        r.do(*[Send(1, b"x" * 60_000) for _ in range(400)])
        closed = await r.session.hear("closed")
        stop.set()
    assert (Disconnect.SEND_TIMEOUT, 1006, "a message could not be sent within 0.3 s") == closed[2:5]


@on_both_loops()
@pytest.mark.parametrize("scheme", ["tcp", "ws"])
async def test_answers_that_nobody_reads_do_not_fill_our_memory(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """What waits to be sent is bounded, on either kind of socket: above it the connection ends, and nothing more is queued."""
    monkeypatch.setattr(stream_module, "MAX_QUEUED_BYTES", 2**20)
    stop = asyncio.Event()

    async def serve(peer: Peer) -> None:
        if scheme == "ws":
            await peer.upgrade()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stop.wait()

    async with serving(serve) as port, rig() as r:
        r.dial(port, url=f"{scheme}://127.0.0.1:{port}", token_query=None)
        await r.session.hear("opened")
        r.do(*[Send(1, b"x" * 60_000) for _ in range(16)])
        assert ["opened"] == r.session.names(), "as much as this may wait"
        r.do(*[Send(1, b"x" * 60_000) for _ in range(400)])
        closed = await r.session.hear("closed")
        stop.set()
    assert (Disconnect.SEND_TIMEOUT, 1006, "more than 1 MiB wait to be sent, and the peer does not read") == closed[2:5]


@on_both_loops()
async def test_a_flood_leaves_others_their_turn() -> None:
    """After so many messages the loop goes on with something else; nothing is lost, and what we do not read the peer must keep."""
    count = 3 * BATCH

    async def serve(peer: Peer) -> None:
        peer.say(b"".join(message(struct.pack(">I", number)) for number in range(count)))
        await peer.end()

    turns: list[int] = []

    async with serving(serve) as port, rig() as r:
        dial(r, port)

        async def others() -> None:
            while len(r.session.frames) < count:
                turns.append(len(r.session.frames))
                await asyncio.sleep(0)

        await asyncio.wait_for(others(), 10)
        r.do(Close(1, 1000, ""))
    assert list(range(count)) == [struct.unpack(">I", frame)[0] for frame in r.session.frames]
    assert max(later - earlier for earlier, later in zip([0, *turns], turns, strict=False)) <= 2 * BATCH

"""The connection over real sockets, on both event loops, against servers that say exactly the bytes that they are told to."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from syncwatch.core.effects import Close, Effects, Handshake, Send
from syncwatch.core.states import AttemptFailure, Disconnect
from syncwatch.runtime import connection as connection_module
from syncwatch.runtime import dialing as dialing_module
from syncwatch.runtime.dialing import Endpoint
from syncwatch.runtime.lane import BATCH, Lane, LanedSocket
from syncwatch.runtime.stream import WebSocketStream
from tests.integration.runtime_parts import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    TOKEN,
    Peer,
    Recorder,
    close_frame,
    eventually,
    frame,
    rig,
    serving,
)
from tests.loops import on_both_loops

Scenario = Callable[[Peer], Awaitable[None]]


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with a token that every encoding would change."""
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


def put(path: Path, content: str | bytes) -> None:
    """Replace a file's content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def handshake_of(told: tuple[Any, ...]) -> Handshake:
    """The handshake of an `opened`."""
    assert isinstance(told[2], Handshake)
    return told[2]


# ---------------------------------------------------------------------- opening


@on_both_loops()
async def test_what_the_server_sees_and_what_the_session_learns(token_file: Path) -> None:
    """One upgrade: the token percent-encoded and first in the query, no extensions offered; the phases, and the server's clock, come back."""

    async def serve(peer: Peer) -> None:
        await peer.upgrade("Date: Sun, 06 Nov 1994 08:49:37 GMT")
        seen.append(peer)
        await peer.stay()

    seen: list[Peer] = []
    async with serving(serve) as port, rig(token_file) as r:
        r.dial(port, attempt=7)
        told = await r.session.hear("opened")
        handshake = handshake_of(told)
        assert f"/v1/ws?token={quote(TOKEN, safe='')}&origin_client=syncwatch" == seen[0].target
        assert b"" == seen[0].header(b"Sec-WebSocket-Extensions")
        assert b"" == seen[0].header(b"Authorization")
        assert seen[0].header(b"User-Agent").startswith(b"syncwatch/")
        assert f"127.0.0.1:{port}".encode() == seen[0].header(b"Host")
        assert 7 == told[1]
        assert 784_111_777.0 == handshake.server_date_s
        assert (None, None, None) == (handshake.dns_s, handshake.tls_s, handshake.certificate_expiry_s)
        assert handshake.tcp_s is not None
        assert handshake.upgrade_s is not None
        assert 0.0 < handshake.tcp_s < 2.0
        assert 0.0 < handshake.upgrade_s < 2.0
        assert ["opened"] == r.session.names()
        r.do(Close(7, 1000, "done"))


@on_both_loops()
async def test_names_are_resolved_and_timed() -> None:
    """A host name goes through the system's resolver in a thread; the phase is measured."""

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        await peer.stay()

    async with serving(serve) as port, rig() as r:
        r.dial(port, url=f"ws://localhost:{port}/v1/ws")
        handshake = handshake_of(await r.session.hear("opened"))
        assert handshake.dns_s is not None
        assert handshake.server_date_s is None
        r.do(Close(1, 1000, ""))


@on_both_loops()
async def test_a_real_server_and_a_clean_close() -> None:
    """Against aiohttp's own server: messages both ways, and our 1000 arrives as 1000."""
    codes: list[int | None] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(f"echo {message.data}")
        codes.append(ws.close_code)
        return ws

    app = web.Application()
    app.router.add_get("/v1/ws", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with rig() as r:
            r.dial(port)
            await r.session.hear("opened")
            r.do(Send(1, "hello"))
            await r.session.until(lambda: r.session.frames)
            assert [b"echo hello"] == r.session.frames
            r.do(Close(1, 1000, "stop"))
        assert [1000] == codes
        assert ["opened"] == r.session.names()
    finally:
        await runner.cleanup()


# ---------------------------------------------------------------------- refusals


REFUSALS = [
    (401, "", AttemptFailure.UNAUTHORIZED, None),
    (403, "", AttemptFailure.FORBIDDEN, None),
    (404, "", AttemptFailure.REJECTED, None),
    (426, "Upgrade: websocket\r\n", AttemptFailure.REJECTED, None),
    (429, "Retry-After: 17\r\n", AttemptFailure.RATE_LIMITED, 17.0),
    (429, "Retry-After: soon\r\n", AttemptFailure.RATE_LIMITED, None),
    (500, "", AttemptFailure.REJECTED, None),
    (503, "Retry-After: 3\r\n", AttemptFailure.REJECTED, 3.0),
    (302, "Location: http://127.0.0.1:1/elsewhere\r\n", AttemptFailure.REJECTED, None),
    (200, "Content-Length: 2\r\n\r\nok", AttemptFailure.PROTOCOL, None),
]


@pytest.mark.parametrize(("status", "more", "reason", "retry_after_s"), REFUSALS, ids=[f"{r[0]} {r[1][:14].strip()}" for r in REFUSALS])
@on_both_loops()
async def test_refusals(status: int, more: str, reason: AttemptFailure, retry_after_s: float | None, token_file: Path) -> None:
    """Each status becomes its reason, with one connection only; what the server asks to wait is passed on; nobody is told about a socket."""
    count = 0

    async def serve(peer: Peer) -> None:
        nonlocal count
        count += 1
        await peer.request()
        peer.say(f"HTTP/1.1 {status} Whatever\r\nConnection: close\r\n{more}\r\n".encode())

    async with serving(serve) as port, rig(token_file) as r:
        r.dial(port, attempt=3)
        told = await r.session.hear("failed")
        await asyncio.sleep(0.02)
        assert (3, reason, retry_after_s) == (told[1], told[2], told[4])
        assert str(status) in told[3]
        assert ["failed"] == r.session.names()
    assert 1 == count


@on_both_loops()
async def test_retry_after_as_a_date() -> None:
    """An HTTP date is counted from our wall clock."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        peer.say(f"HTTP/1.1 503 No\r\nRetry-After: {formatdate(time.time() + 60, usegmt=True)}\r\n\r\n".encode())

    async with serving(serve) as port, rig() as r:
        r.dial(port)
        told = await r.session.hear("failed")
        assert 55.0 < told[4] <= 60.0


@on_both_loops()
async def test_a_redirect_is_not_followed(token_file: Path) -> None:
    """Not even to a server that would accept: the token stays where it was configured to go."""
    visitors: list[str] = []

    async def trap(peer: Peer) -> None:
        await peer.upgrade()
        visitors.append(peer.target)

    async with serving(trap) as elsewhere:

        async def serve(peer: Peer) -> None:
            await peer.request()
            location = f"http://127.0.0.1:{elsewhere}{peer.target}"
            peer.say(f"HTTP/1.1 307 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

        async with serving(serve) as port, rig(token_file) as r:
            r.dial(port)
            assert "HTTP 307: redirects are not followed" in (await r.session.hear("failed"))[3]
    assert [] == visitors


async def _garbage(peer: Peer) -> None:
    await peer.request()
    peer.say(b"SSH-2.0-OpenSSH_9.2\r\n" + peer.head)


async def _close_at_once(peer: Peer) -> None:
    return


async def _close_after_request(peer: Peer) -> None:
    await peer.request()


async def _reset_after_request(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def _half_an_answer(peer: Peer) -> None:
    await peer.request()
    peer.say(b"HTTP/1.1 101 Switching Proto")


async def _wrong_accept(peer: Peer) -> None:
    await peer.request()
    peer.head = peer.head.replace(peer.header(b"Sec-WebSocket-Key"), b"bm90IHRoZSBrZXkgYXQgYWxs")
    peer.accept()


async def _no_upgrade_header(peer: Peer) -> None:
    await peer.request()
    peer.say(b"HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\n\r\n")


@pytest.mark.parametrize(
    "behaviour",
    [_garbage, _close_at_once, _close_after_request, _reset_after_request, _half_an_answer, _wrong_accept, _no_upgrade_header],
)
@on_both_loops()
async def test_what_is_no_handshake(behaviour: Scenario, token_file: Path) -> None:
    """A peer that does not finish an upgrade is a protocol failure, found out in one connection: nothing is tried again in silence."""
    count = 0

    async def serve(peer: Peer) -> None:
        nonlocal count
        count += 1
        await behaviour(peer)

    async with serving(serve) as port, rig(token_file) as r:
        r.dial(port)
        told = await r.session.hear("failed")
        await asyncio.sleep(0.02)
        assert AttemptFailure.PROTOCOL is told[2]
        assert TOKEN not in told[3]
        assert ["failed"] == r.session.names()
    assert 1 == count


@pytest.mark.parametrize("reset", [False, True])
@on_both_loops()
async def test_a_connection_that_dies_in_the_moment_of_its_upgrade(reset: bool) -> None:
    """Accepted and cut in the same breath: either it failed or it was open and ended, exactly one of the two."""

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        if reset:
            await asyncio.sleep(0)
            peer.reset()

    async with serving(serve) as port, rig() as r:
        for attempt in range(1, 21):
            r.dial(port, attempt)
            await r.session.until(lambda: r.session.names()[-1:] in (["failed"], ["closed"]))
            await asyncio.sleep(0.005)
            names = [what[0] for what in r.session.told if what[1] == attempt]
            assert names in (["failed"], ["opened", "closed"])
            r.session.told.clear()


@on_both_loops()
async def test_nobody_listens() -> None:
    """A port without a server refuses."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it
        async with rig() as r:
            r.dial(unused.getsockname()[1])
            told = await r.session.hear("failed")
    assert AttemptFailure.REFUSED is told[2]
    assert "ECONNREFUSED" in told[3]


@on_both_loops()
async def test_no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver says no."""

    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with rig() as r:
        r.dial(0, url="ws://cast.invalid:8787/v1/ws")
        told = await r.session.hear("failed")
    assert AttemptFailure.DNS is told[2]
    assert "Name or service not known" in told[3]


# ---------------------------------------------------------------------- hanging


@on_both_loops()
async def test_a_server_that_never_answers() -> None:
    """The whole handshake is bounded, and the detail says where it stood; the socket is given back."""
    ended = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.end()
        ended.set()

    async with serving(serve) as port, rig() as r:
        r.dial(port, timeout_s=0.2)
        told = await r.session.hear("failed")
        assert AttemptFailure.TIMEOUT is told[2]
        assert "not finished within 0.2 s: it stood at upgrade" == told[3]
        await eventually(ended.is_set)


@on_both_loops()
async def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lookup stays behind in its thread; nobody waits for it, not even the end of the loop."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(20.0) and [])
    try:
        async with rig() as r:
            r.dial(0, url="ws://cast.invalid:8787/v1/ws", timeout_s=0.1)
            told = await r.session.hear("failed")
        assert "not finished within 0.1 s: it stood at dns" == told[3]
    finally:
        release.set()


@on_both_loops()
async def test_close_gives_up_a_handshake() -> None:
    """The socket is gone at once, and the session hears nothing more of that attempt."""
    ended, asked = asyncio.Event(), asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.end()
        ended.set()

    async with serving(serve) as port, rig() as r:
        r.dial(port, timeout_s=10.0)
        await asked.wait()
        r.do(Close(1, 1000, "handshake timeout"))
        await eventually(ended.is_set)
        assert [] == r.session.told


# ---------------------------------------------------------------------- reading


@on_both_loops()
async def test_messages_arrive_as_they_were_sent() -> None:
    """Text as raw bytes, invalid UTF-8 included; binary marked; fragments put together, with a ping between them; empty ones too."""
    pongs: list[tuple[int, bytes]] = []
    flags: list[bool] = []

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        peer.say(frame(TEXT, b'{"type":"pong"}') + frame(TEXT, b"\xff\xfe not utf-8") + frame(BINARY, b"\x00\x01"))
        peer.say(frame(TEXT, b"one ", first=0) + frame(PING, b"are you there") + frame(0, b"two ", first=0) + frame(0, b"three"))
        peer.say(frame(TEXT) + frame(PONG, b"unasked") + frame(TEXT, "größer".encode() * 20_000))
        pongs.append(await peer.frame())
        await peer.stay()

    class Flagging(Recorder):
        def received(self, now: float, attempt: int, data: bytes, binary: bool = False) -> Effects:
            flags.append(binary)
            return super().received(now, attempt, data, binary)

    async with serving(serve) as port, rig() as r:
        flagging = Flagging()
        r.connection._received = flagging.received
        r.dial(port)
        await flagging.until(lambda: len(flagging.frames) == 6)
        expected = [b'{"type":"pong"}', b"\xff\xfe not utf-8", b"\x00\x01", b"one two three", b"", "größer".encode() * 20_000]
        assert expected == flagging.frames
        assert [False, False, True, False, False, False] == flags
        await eventually(lambda: pongs)
        assert [(PONG, b"are you there")] == pongs
        assert ["opened"] == r.session.names()
        r.do(Close(1, 1000, ""))


@on_both_loops()
async def test_a_flood_of_pings_fills_no_memory() -> None:
    """Only the latest ping is owed an answer: a thousand in one wake-up get few, the last one's among them."""
    answers: list[bytes] = []

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        peer.say(b"".join(frame(PING, str(number).encode()) for number in range(1000)) + frame(TEXT, b"end"))
        while not answers or answers[-1] != b"999":
            answers.append((await peer.frame())[1])

    async with serving(serve) as port, rig() as r:
        r.dial(port)
        await r.session.hear("closed")
    assert b"999" == answers[-1]
    assert len(answers) < 100


@on_both_loops(60.0)
async def test_a_flood_leaves_everybody_else_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """50,000 frames as fast as the loopback carries them: all arrive in order, and between two turns of another task never more
    than a bounded number; a 50 ms timer keeps firing."""
    total, turns, fired = 50_000, 0, 0
    longest, before = 0, 0
    batches: list[int] = []
    deliver = connection_module.Connection._deliver

    def counting(self: Any, attempt: Any, stream: Any, batch: list[Any]) -> Any:
        batches.append(len(batch))
        return deliver(self, attempt, stream, batch)

    monkeypatch.setattr(connection_module.Connection, "_deliver", counting)

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        for start in range(0, total, 1000):
            peer.say(b"".join(frame(TEXT, b'{"n":%d}' % number) for number in range(start, start + 1000)))
        await peer.writer.drain()
        await peer.stay()

    async with serving(serve) as port, rig() as r:

        async def neighbour() -> None:
            nonlocal turns, longest, before
            while len(r.session.frames) < total:
                turns += 1
                longest, before = max(longest, len(r.session.frames) - before), len(r.session.frames)
                await asyncio.sleep(0)

        async def timer() -> None:
            nonlocal fired
            while len(r.session.frames) < total:
                await asyncio.sleep(0.05)
                fired += 1

        r.dial(port)
        await asyncio.gather(neighbour(), timer())
        r.do(Close(1, 1000, ""))
    assert [b'{"n":%d}' % number for number in range(total)] == r.session.frames
    assert max(batches) <= BATCH
    assert longest <= 2 * BATCH
    assert turns >= total // (2 * BATCH)
    assert fired >= 1


ENDINGS = {
    "close": frame(TEXT, b"one") + frame(BINARY, b"two") + frame(PING, b"x") + frame(PONG) + close_frame(1001, "going away"),
    "close without a code": frame(TEXT, b"one") + frame(CLOSE),
    "end": frame(TEXT, b"one"),
    "too big": frame(TEXT, b"one") + frame(TEXT, b"x" * 2001),
    "bad frame": frame(TEXT, b"one") + frame(TEXT, b"x", first=0xF0),
    "bad close": frame(TEXT, b"one") + frame(CLOSE, b"\x03"),
    "many": b"".join(frame(TEXT, b"%d" % number) for number in range(2000)) + close_frame(1000),
}


@pytest.mark.parametrize("said", ENDINGS.values(), ids=ENDINGS.keys())
@on_both_loops()
async def test_the_quick_way_of_reading_and_receive_say_the_same(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text frames are cut out before aiohttp's parser. Reading so and by its public `receive()` gives the same messages and the same ending."""

    def plain(max_bytes: int, *arguments: Any, **options: Any) -> aiohttp.ClientWebSocketResponse[bool]:
        return aiohttp.ClientWebSocketResponse(*arguments, **options)

    outcomes = []
    for way in (LanedSocket, plain):
        monkeypatch.setattr(dialing_module, "LanedSocket", way)

        async def serve(peer: Peer) -> None:
            await peer.upgrade()
            peer.say(said)
            await peer.writer.drain()
            if said == ENDINGS["end"]:
                peer.writer.write_eof()
            await peer.stay()

        async with serving(serve) as port, rig(endpoint=Endpoint(max_frame_bytes=2000)) as r:
            r.dial(port)
            *ending, detail, oversized = await r.session.hear("closed")
            detail = detail.replace("False", "True")  # aiohttp tells there whether the last data frame was final: the lane's it never saw
            outcomes.append((r.session.frames, ending, detail, oversized))
            assert ["opened", "closed"] == r.session.names()
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0]


@on_both_loops()
async def test_the_quick_way_is_in_use() -> None:
    """With the aiohttp that is installed, reading does not fall back in silence."""
    lanes: list[object] = []

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        await peer.stay()

    async with serving(serve) as port, rig() as r:
        r.dial(port)
        await r.session.hear("opened")
        present = r.connection._present
        assert present is not None
        assert isinstance(present.stream, WebSocketStream)
        opened = present.stream._opened
        assert isinstance(opened.ws, LanedSocket)
        lanes.append(opened.ws.lane)
        if isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            assert 65_536 == opened.transport.max_size  # type: ignore[attr-defined]
        r.do(Close(1, 1000, ""))
    assert [Lane] == [type(lane) for lane in lanes]


# ---------------------------------------------------------------------- endings


@on_both_loops()
async def test_an_end_without_a_close_frame() -> None:
    """The frames before it count; the end is the network's, 1006."""

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        peer.say(frame(TEXT, b"last words"))
        await peer.writer.drain()
        peer.writer.write_eof()
        await peer.end()

    async with serving(serve) as port, rig() as r:
        r.dial(port, attempt=4)
        told = await r.session.hear("closed")
        assert ("closed", 4, Disconnect.NETWORK, 1006, "the connection ended without a close frame", False) == told
        assert [b"last words"] == r.session.frames


@on_both_loops()
async def test_a_reset_is_the_networks() -> None:
    """RST in the middle: 1006, told apart from a plain end by its detail."""
    opened = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        await opened.wait()
        peer.reset()

    async with serving(serve) as port, rig() as r:
        r.dial(port)
        await r.session.hear("opened")
        opened.set()
        told = await r.session.hear("closed")
        detail = "connection lost: connection reset by peer (ECONNRESET)"
        assert ("closed", 1, Disconnect.NETWORK, 1006, detail, False) == told


@pytest.mark.parametrize(
    ("said", "reason", "code", "echo"),
    [
        (close_frame(1000, "bye"), Disconnect.PEER_CLOSED, 1000, b"\x03\xe8"),
        (close_frame(1000, "superseded"), Disconnect.SUPERSEDED, 1000, b"\x03\xe8"),
        (close_frame(1001), Disconnect.PEER_CLOSED, 1001, b"\x03\xe9"),
        (close_frame(1008, "revoked"), Disconnect.PEER_ERROR, 1008, b"\x03\xf0"),
        (close_frame(1011), Disconnect.PEER_ERROR, 1011, b"\x03\xf3"),
        (close_frame(1013, "event stream overflow"), Disconnect.OVERFLOW, 1013, b"\x03\xf5"),
        (close_frame(4001, "auth"), Disconnect.PEER_CLOSED, 4001, b"\x0f\xa1"),
        (frame(CLOSE), Disconnect.PEER_CLOSED, 1005, b""),
        (close_frame(1005), Disconnect.PROTOCOL_ERROR, 1002, b"\x03\xea"),
        (frame(TEXT, b"x", first=0xF0), Disconnect.PROTOCOL_ERROR, 1002, b"\x03\xea"),
        (frame(0x3, b"x"), Disconnect.PROTOCOL_ERROR, 1002, b"\x03\xea"),
        (frame(CLOSE, b"\x03\xe8\xff\xff"), Disconnect.PROTOCOL_ERROR, 1007, b"\x03\xef"),
        (frame(TEXT, b"x" * 2001), Disconnect.PROTOCOL_ERROR, 1009, b"\x03\xf1"),
        (b"\x81\x7f" + b"\xff" * 8, Disconnect.PROTOCOL_ERROR, 1009, b"\x03\xf1"),
        (frame(TEXT, b"x" * 1500, first=0) + frame(0, b"x" * 501), Disconnect.PROTOCOL_ERROR, 1009, b"\x03\xf1"),
    ],
)
@on_both_loops()
async def test_endings_that_the_peer_declares_or_causes(said: bytes, reason: Disconnect, code: int, echo: bytes) -> None:
    """The code decides; the peer gets its code back, or the one that its frame deserves; too big is marked as such."""
    replies: list[tuple[int, bytes]] = []

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        peer.say(frame(TEXT, b"x" * 2000) + said)
        replies.append(await peer.frame())

    async with serving(serve) as port, rig(endpoint=Endpoint(max_frame_bytes=2000)) as r:
        r.dial(port)
        told = await r.session.hear("closed")
        await r.connection.shutdown()
        await asyncio.sleep(0.02)
        assert (1, reason, code, code == 1009) == (told[1], told[2], told[3], told[5])
        assert [b"x" * 2000] == r.session.frames
        assert ["opened", "closed"] == r.session.names()
    assert [(CLOSE, echo)] == replies


@on_both_loops()
async def test_a_20_mb_frame_is_refused_before_it_is_read() -> None:
    """With the default limit of 16 MiB, the header alone ends it: nothing of 20 MB is kept."""
    sent = 0

    async def serve(peer: Peer) -> None:
        nonlocal sent
        await peer.upgrade()
        peer.say(b"\x81\x7f" + (20_000_000).to_bytes(8, "big"))
        while True:
            peer.say(b"x" * 65_536)
            await peer.writer.drain()
            sent += 65_536

    async with serving(serve) as port, rig() as r:
        r.dial(port)
        told = await r.session.hear("closed")
        assert (Disconnect.PROTOCOL_ERROR, 1009, True) == (told[2], told[3], told[5])
        assert "above max_frame" in told[4]
        await r.connection.shutdown()
    assert [] == r.session.frames


# ---------------------------------------------------------------------- writing and closing


@on_both_loops()
async def test_sends_keep_their_order_and_kind() -> None:
    """Everything emitted in one go arrives in that order, text as text and bytes as binary, masked, whatever its size."""
    seen: list[tuple[int, bytes]] = []

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        while len(seen) < 5:
            seen.append(await peer.frame())
        peer.say(frame(TEXT, b"thanks"))
        await peer.stay()

    async with serving(serve) as port, rig() as r:
        r.session.answers["opened"] = lambda: [Send(1, "first"), Send(1, b"\x00second")]
        r.dial(port)
        await r.session.hear("opened")
        r.do(Send(2, "of another attempt"), Send(1, "grün"), Send(0, "stale"), Send(1, "x" * 300_000), Send(1, ""))
        await r.session.until(lambda: r.session.frames)
        r.do(Close(1, 1000, ""))
    expected = [(TEXT, b"first"), (BINARY, b"\x00second"), (TEXT, "grün".encode()), (TEXT, b"x" * 300_000), (TEXT, b"")]
    assert expected == seen


@pytest.mark.parametrize(("size", "count"), [(4_000_000, 5), (200_000, 1)], ids=["more than aiohttp buffers", "less"])
@on_both_loops()
async def test_a_send_that_does_not_leave_ends_the_connection(size: int, count: int) -> None:
    """A peer that does not read: after the bound the socket is given up, as send_timeout, exactly once, whoever holds the bytes."""

    async def serve(peer: Peer) -> None:
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await peer.upgrade()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a TCP transport has it
        await asyncio.sleep(30)

    async with serving(serve) as port, rig(send_timeout_s=0.3) as r:
        r.dial(port)
        await r.session.hear("opened")
        present = r.connection._present
        assert present is not None
        assert isinstance(present.stream, WebSocketStream)
        ours = present.stream._opened.transport.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        r.do(*(Send(1, b"x" * size) for _ in range(count)))
        told = await r.session.hear("closed")
        assert ("closed", 1, Disconnect.SEND_TIMEOUT, 1006, "a message could not be sent within 0.3 s", False) == told
        r.do(Send(1, "more"))
        await asyncio.sleep(0.05)
        assert ["opened", "closed"] == r.session.names()


@on_both_loops()
async def test_close_sends_its_code_and_the_session_hears_no_more() -> None:
    """The frame goes out with code and reason behind what was sent before; what the peer still says is dropped."""
    seen: list[tuple[int, bytes]] = []

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        seen.extend([await peer.frame(), await peer.frame()])
        peer.say(frame(TEXT, b"too late") + close_frame(1000))
        await peer.stay()

    async with serving(serve) as port, rig() as r:
        r.dial(port)
        await r.session.hear("opened")
        r.do(Send(1, "last"), Close(1, 4000, "half-open"), Send(1, "never"), Close(1, 1000, "twice"))
        began = time.monotonic()
        await r.connection.shutdown()
        assert time.monotonic() - began < 0.8  # the peer answered: nothing to wait for
        assert ["opened"] == r.session.names()
        assert [] == r.session.frames
    assert [(TEXT, b"last"), (CLOSE, b"\x0f\xa0half-open")] == seen


@on_both_loops()
async def test_close_aborts_a_peer_that_never_answers() -> None:
    """Within a second and a little the socket is gone, although the peer says nothing; the session may dial again meanwhile."""
    ends: list[float] = []

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        if ends or peer.target.endswith("second"):
            await peer.stay()
            return
        assert (CLOSE, b"\x03\xe8") == await peer.frame()
        assert b"" == await peer.end()
        ends.append(time.monotonic())

    async with serving(serve) as port, rig() as r:
        r.dial(port)
        await r.session.hear("opened")
        began = time.monotonic()
        r.do(Close(1, 1000, ""))
        r.dial(port, attempt=2, url=f"ws://127.0.0.1:{port}/second", token_query=None)
        await r.session.hear("opened", 2)
        await eventually(lambda: ends)
        assert 0.9 <= ends[0] - began < 2.5
        assert ["opened", "opened"] == r.session.names()
        assert [1, 2] == [what[1] for what in r.session.told]
        r.do(Close(2, 1000, ""))


@on_both_loops()
async def test_close_aborts_a_peer_that_reads_nothing() -> None:
    """Not even the close frame can leave: the buffer is thrown away after a second."""
    hanging = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a TCP transport has it
        await hanging.wait()

    async with serving(serve) as port, rig() as r:
        r.dial(port)
        await r.session.hear("opened")
        r.do(*(Send(1, b"x" * 4_000_000) for _ in range(5)), Close(1, 1000, ""))
        began = time.monotonic()
        await r.connection.shutdown()
        assert time.monotonic() - began < 2.5
        assert ["opened"] == r.session.names()
        hanging.set()


@on_both_loops()
async def test_a_close_in_the_middle_of_a_batch_stops_the_delivery() -> None:
    """When a message makes the session close, the messages behind it in the same wake-up are not its business any more."""

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        peer.say(b"".join(frame(TEXT, b"%d" % number) for number in range(100)))
        await peer.stay()

    async with serving(serve) as port, rig() as r:
        r.session.answers["received"] = lambda: [Close(1, 1000, "enough")] if len(r.session.frames) == 3 else []
        r.dial(port)
        await r.session.until(lambda: len(r.session.frames) >= 3)
        await r.connection.shutdown()
        assert [b"0", b"1", b"2"] == r.session.frames
        assert ["opened"] == r.session.names()


@on_both_loops()
async def test_a_close_for_another_attempt_is_ignored() -> None:
    """Stale effects do nothing to the present socket."""

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        assert (TEXT, b"still here") == await peer.frame()
        peer.say(frame(TEXT, b"yes"))
        await peer.stay()

    async with serving(serve) as port, rig() as r:
        r.dial(port, attempt=5)
        await r.session.hear("opened")
        r.do(Close(4, 1000, "stale"), Close(6, 1000, "early"), Send(5, "still here"))
        await r.session.until(lambda: r.session.frames)
        assert [b"yes"] == r.session.frames
        r.do(Close(5, 1000, ""))


@on_both_loops()
async def test_never_two_sockets() -> None:
    """A session that dials without closing first loses the older socket, without a word about it."""
    ended = 0

    async def serve(peer: Peer) -> None:
        nonlocal ended
        await peer.upgrade()
        await peer.stay()
        ended += 1

    async with serving(serve) as port, rig() as r:
        for attempt in (1, 2, 3):
            r.dial(port, attempt)
            await r.session.hear("opened", attempt)
        await eventually(lambda: ended == 2)
        assert ["opened"] * 3 == r.session.names()
        assert 2 == ended
        r.do(Close(3, 1000, ""))


@on_both_loops()
async def test_shutdown_without_close_aborts() -> None:
    """Nothing stays open when the process wants to go."""
    ended = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        await peer.end()
        ended.set()

    async with serving(serve) as port, rig() as r:
        r.dial(port)
        await r.session.hear("opened")
        began = time.monotonic()
        await r.connection.shutdown()
        assert time.monotonic() - began < 0.5
        await eventually(ended.is_set)
        assert ["opened"] == r.session.names()


# ---------------------------------------------------------------------- our own bugs


@on_both_loops()
async def test_a_session_that_breaks_is_wedged_and_its_socket_given_back() -> None:
    """An exception out of `received`: told, wedged, and the server is not left with a reader that reads nothing."""
    seen: list[tuple[int, bytes]] = []

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        peer.say(frame(TEXT, b"poison"))
        seen.append(await peer.frame())
        peer.say(close_frame(1011))
        await peer.end()

    def explode() -> list[Any]:
        raise ZeroDivisionError("a bug of ours")

    async with serving(serve) as port, rig() as r:
        r.session.answers["received"] = explode
        with capture_logs() as logs:
            r.dial(port)
            await r.session.hear("opened")
            await r.connection.shutdown()
            await eventually(lambda: seen)
        assert r.driver.wedged(time.monotonic())
        assert ["opened"] == r.session.names()
        assert ["connection/test"] == [entry["task"] for entry in logs]
    assert [(CLOSE, b"\x03\xf3internal error")] == seen


@on_both_loops()
async def test_a_bug_in_the_shell_still_answers_the_dial(monkeypatch: pytest.MonkeyPatch, token_file: Path) -> None:
    """Each Dial has one answer, whatever happens; the log has the place and the type, never the message, which may hold the URL."""

    async def broken(*_: object) -> None:
        raise RuntimeError(f"ws://127.0.0.1/v1/ws?token={TOKEN}")

    monkeypatch.setattr(connection_module, "dial", broken)
    async with rig(token_file) as r:
        with capture_logs() as logs:
            r.dial(1)
            told = await r.session.hear("failed")
        assert (1, AttemptFailure.PROTOCOL, "internal error: RuntimeError") == told[1:4]
        assert "RuntimeError" == logs[0]["error"]
        assert "broken" in logs[0]["traceback"]
        assert TOKEN not in str(logs)


@on_both_loops()
async def test_a_bug_in_the_reader_still_ends_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """An opened socket whose reader breaks is reported closed, once, and taken apart."""
    ended = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        peer.say(frame(TEXT, b"x"))
        await peer.end()
        ended.set()

    def broken(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(connection_module.Connection, "_deliver", broken)
    async with serving(serve) as port, rig() as r:
        with capture_logs() as logs:
            r.dial(port)
            told = await r.session.hear("closed")
        assert ("closed", 1, Disconnect.LOCAL, 1006, "internal error: RuntimeError", False) == told
        assert 1 == len(logs)
        await eventually(ended.is_set)


@on_both_loops()
async def test_restart_revives_an_attempt_whose_task_is_gone() -> None:
    """The promise of one answer is kept even when a task vanished: the supervisor's restart answers for it."""
    async with rig() as r:
        with capture_logs():
            r.dial(1, timeout_s=30.0)
            present = r.connection._present
            assert present is not None
            assert present.task is not None
            r.connection._present = None
            present.task.cancel()
            await asyncio.wait([present.task])
            await asyncio.sleep(0)
            r.connection._present = present
            assert [] == r.session.told
            r.driver.restart()
        assert [("failed", 1, AttemptFailure.PROTOCOL, "the connection's task ended", None)] == r.session.told


# ---------------------------------------------------------------------- tokens


@on_both_loops()
async def test_the_token_file_is_read_at_each_dial(token_file: Path) -> None:
    """A renewed token is used by the next dial, without anybody being told."""
    targets: list[str] = []

    async def serve(peer: Peer) -> None:
        await peer.request()
        targets.append(peer.target)
        peer.say(b"HTTP/1.1 401 No\r\n\r\n")

    async with serving(serve) as port, rig(token_file) as r:
        r.dial(port)
        await r.session.hear("failed")
        put(token_file, "at_live_renewed")
        r.dial(port, attempt=2, token_query=None, bearer=True)
        await r.session.hear("failed", 2)
    assert [f"/v1/ws?token={quote(TOKEN, safe='')}&origin_client=syncwatch", "/v1/ws?origin_client=syncwatch"] == targets


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file or directory"), (b"", "is empty"), (b" \n", "is empty"), (b"two words", "holds more than one word"), (b"\xff\xfe", "is not UTF-8 text")],
)
@on_both_loops()
async def test_a_token_that_cannot_be_used(content: bytes | None, words: str, token_file: Path) -> None:
    """Nothing is dialled; the failure is `unauthorized` (only another content helps, and that is retried at once) and names the file."""
    if content is None:
        os.unlink(token_file)
    else:
        put(token_file, content)
    async with rig(token_file) as r:
        r.dial(1)
        told = await r.session.hear("failed")
    assert (AttemptFailure.UNAUTHORIZED, f"token file {token_file}: {words}") == told[2:4]


@on_both_loops()
async def test_a_changed_token_file_is_told(token_file: Path) -> None:
    """The beat of each second tells the session at the first look and at each new content, with a JWT's expiry; not otherwise."""
    async with rig(token_file) as r:
        look = r.connection.watch.look
        look()
        look()
        jwt = "eyJhbGciOiJub25lIn0.eyJleHAiOjE4MDAwMDAwMDB9.c2ln"
        put(token_file, jwt)
        look()
        os.unlink(token_file)
        look()
        look()
        put(token_file, jwt)
        look()
        look()
    assert [("credentials", None), ("credentials", 1_800_000_000.0), ("credentials", 1_800_000_000.0)] == r.session.told


async def _echo_in_status(peer: Peer) -> None:
    peer.say(b"HTTP/1.1 400 " + (await peer.request()).split(b"\r\n")[0] + b"\r\n\r\n")


async def _echo_in_close(peer: Peer) -> None:
    await peer.upgrade()
    peer.say(close_frame(1008, f"bad token {TOKEN} {quote(TOKEN)}"))
    await peer.stay()


async def _refuse(peer: Peer) -> None:
    await peer.request()
    peer.say(b"HTTP/1.1 401 No\r\n\r\n")


async def _redirect(peer: Peer) -> None:
    await peer.request()
    peer.say(b"HTTP/1.1 301 Go\r\nLocation: /elsewhere?" + peer.target.encode() + b"\r\n\r\n")


async def _hang(peer: Peer) -> None:
    await peer.request()
    await peer.end()


async def _bad_frame(peer: Peer) -> None:
    await peer.upgrade()
    peer.say(frame(CLOSE, TOKEN.encode()[:1]))
    await peer.stay()


async def _drop(peer: Peer) -> None:
    await peer.upgrade()


@pytest.mark.parametrize(
    "behaviour",
    [_echo_in_status, _echo_in_close, _refuse, _redirect, _hang, _bad_frame, _drop, _garbage, _reset_after_request, _wrong_accept],
)
@on_both_loops()
async def test_the_token_is_never_told(behaviour: Scenario, token_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a server does, echoing included: neither the session nor any log, at any level, gets the token in any encoding."""
    caplog.set_level(logging.DEBUG)
    async with serving(behaviour) as port, rig(token_file) as r:
        with capture_logs() as logs:
            r.dial(port, timeout_s=0.3)
            await r.session.until(lambda: {"failed", "closed"} & set(r.session.names()))
            await r.connection.shutdown()
    told = f"{r.session.told} {logs} {caplog.text} {[vars(record) for record in caplog.records]}"
    assert r.session.told
    for form in (TOKEN, quote(TOKEN), quote(TOKEN, safe=""), quote_plus(TOKEN), TOKEN[:20]):
        assert form not in told

"""Polls over real sockets, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from syncwatch.core.effects import Answer, Poll, Refused
from syncwatch.core.states import AttemptFailure
from syncwatch.core.wire import Request
from syncwatch.runtime import http as http_module
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.http import HttpClient, Poller
from syncwatch.runtime.tokens import TokenFiles
from tests.integration.runtime_parts import TOKEN, Peer, Recorder, serving
from tests.loops import on_both_loops


class Rig:
    """A recorder and its poller."""

    def __init__(self, tokens: dict[str, Path]) -> None:
        self.session = Recorder()
        self.driver = Driver("connection/test", self.session)
        self.client = HttpClient()
        self.poller = Poller(self.driver, self.session, TokenFiles(tokens), self.client)

    def poll(self, url: str, poll_id: int = 1, timeout_s: float = 5.0, enough_bytes: int | None = None, **request: Any) -> None:
        """Have one request made."""
        self.driver.call(self.session.ask, Poll(poll_id, Request(url, **request), timeout_s, enough_bytes))

    async def answer(self, count: int = 1) -> Answer | Refused:
        """The `count`-th answer."""
        told = (await self.session.hear("polled", count))[2]
        assert isinstance(told, Answer | Refused)
        return told


@contextlib.asynccontextmanager
async def rig(**tokens: Path) -> AsyncIterator[Rig]:
    """A rig that is taken down at the end."""
    made = Rig(tokens)
    try:
        yield made
    finally:
        await made.poller.close()
        await made.client.close()
        made.driver.close()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A token file."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


async def body_of(peer: Peer) -> bytes:
    """Read a request with its body."""
    await peer.request()
    return await peer.reader.readexactly(int(peer.header(b"Content-Length") or 0))


@on_both_loops()
async def test_a_post_with_a_bearer_token(token_file: Path) -> None:
    """Method, headers and body as asked; the canary's own token where it is named; status and body come back."""
    seen: list[tuple[Peer, bytes]] = []

    async def serve(peer: Peer) -> None:
        seen.append((peer, await body_of(peer)))
        peer.say(b"HTTP/1.1 201 Created\r\nContent-Length: 11\r\n\r\n" + b'{"ok":true}')
        await peer.end()

    async with serving(serve) as port, rig(canary=token_file) as r:
        headers = (("Content-Type", "application/json"), ("Idempotency-Key", "k-1"))
        url = f"http://127.0.0.1:{port}/v1/channels/syncwatch/messages"
        r.poll(url, poll_id=9, method="POST", headers=headers, body=b'{"text":"nonce"}', bearer=True, token="canary")
        await r.session.hear("polled")
        assert [("polled", 9, Answer(201, b'{"ok":true}'))] == r.session.told
        peer, body = seen[0]
        assert peer.head.startswith(b"POST /v1/channels/syncwatch/messages HTTP/1.1\r\n")
        assert f"Bearer {TOKEN}".encode() == peer.header(b"Authorization")
        assert (b"application/json", b"k-1") == (peer.header(b"Content-Type"), peer.header(b"Idempotency-Key"))
        assert peer.header(b"User-Agent").startswith(b"syncwatch/")
        assert b'{"text":"nonce"}' == body


@on_both_loops()
async def test_a_get_with_the_token_in_the_query(token_file: Path) -> None:
    """First and percent-encoded, as in the dial; no header then. Without a configured token there is none."""
    targets: list[str] = []

    async def serve(peer: Peer) -> None:
        await peer.request()
        targets.append(peer.target)
        assert b"" == peer.header(b"Authorization")
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with serving(serve) as port, rig(connection=token_file) as r:
        r.poll(f"http://127.0.0.1:{port}/feed?limit=1", token_query="token")
        await r.answer()
        r.poll(f"http://127.0.0.1:{port}/feed?limit=1", token_query="token", bearer=True, token="canary")
        await r.answer(2)
    assert [f"/feed?token={quote(TOKEN, safe='')}&limit=1", "/feed?limit=1"] == targets


@on_both_loops()
async def test_one_connection_serves_many_calls() -> None:
    """Calls share the client: the second one needs no new TCP connection."""
    connections = 0

    async def serve(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await peer.request()
                peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with serving(serve) as port, rig() as r:
        for count in range(1, 6):
            r.poll(f"http://127.0.0.1:{port}/", poll_id=count)
            assert Answer(200, b"ok") == await r.answer(count)
        assert [1, 2, 3, 4, 5] == [told[1] for told in r.session.told]
    assert 1 == connections


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("429 Slow\r\nRetry-After: 12", Answer(429, b"", 12.0)),
        ("503 No\r\nRetry-After: Fri, 01 Jan 2010 00:00:00 GMT", Answer(503, b"", 0.0)),
        ("503 No\r\nRetry-After: soon", Answer(503)),
        ("404 No", Answer(404)),
        ("500 No", Answer(500)),
        ("401 No", Answer(401)),
    ],
)
@on_both_loops()
async def test_refusals_are_answers(head: str, expected: Answer) -> None:
    """What a status means is the machine's business; Retry-After is read for it."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        peer.say(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    async with serving(serve) as port, rig() as r:
        r.poll(f"http://127.0.0.1:{port}/")
        assert expected == await r.answer()


@on_both_loops()
async def test_a_redirect_is_an_answer(token_file: Path) -> None:
    """The token goes nowhere else."""
    visitors: list[bytes] = []

    async def trap(peer: Peer) -> None:
        visitors.append(await peer.request())

    async with serving(trap) as elsewhere:

        async def serve(peer: Peer) -> None:
            await peer.request()
            where = f"http://127.0.0.1:{elsewhere}/"
            peer.say(f"HTTP/1.1 302 Go\r\nLocation: {where}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

        async with serving(serve) as port, rig(connection=token_file) as r:
            r.poll(f"http://127.0.0.1:{port}/", bearer=True)
            assert Answer(302) == await r.answer()
    assert [] == visitors


@on_both_loops()
async def test_a_server_that_never_answers() -> None:
    """The time is bounded, whether the head or the body is missing."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        if peer.target == "/body":
            peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await peer.end()

    async with serving(serve) as port, rig() as r:
        for count, path in enumerate(("head", "body"), start=1):
            r.poll(f"http://127.0.0.1:{port}/{path}", timeout_s=0.2)
            refused = await r.answer(count)
            assert Refused("timeout", "not finished within 0.2 s: it stood at the answer") == refused


@on_both_loops()
async def test_an_answer_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is bounded after decompression too; exactly the limit is fine, and the connection of a larger one is not used again."""
    monkeypatch.setattr(http_module, "MAX_BODY_BYTES", 100_000)

    async def serve(peer: Peer) -> None:
        await peer.request()
        size = int(peer.target.rpartition("=")[2])
        body, encoding = b"x" * size, b""
        if "bomb" in peer.target:
            body, encoding = zlib.compress(body), b"Content-Encoding: deflate\r\n"
        peer.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + encoding + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await peer.end()

    async with serving(serve) as port, rig() as r:
        for count, (path, size) in enumerate((("plain", 100_000), ("plain", 100_001), ("bomb", 50_000_000)), start=1):
            r.poll(f"http://127.0.0.1:{port}/{path}?size={size}")
            answer = await r.answer(count)
            if size == 100_000:
                assert Answer(200, b"x" * size) == answer
            else:
                assert Refused("protocol", "the answer is larger than 100000 bytes") == answer


@on_both_loops()
@pytest.mark.parametrize(("enough", "expected"), [(0, b""), (5, b"01234"), (10, b"0123456789")])
async def test_enough_of_a_body_that_never_ends(enough: int, expected: bytes) -> None:
    """What was asked for comes at once, the rest is not waited for, and the server is left alone: its connection ends."""
    ended = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n0123")
        await asyncio.sleep(0.02)
        peer.say(b"456789")
        await peer.end()
        ended.set()

    async with serving(serve) as port, rig() as r:
        began_s = time.monotonic()
        r.poll(f"http://127.0.0.1:{port}/", enough_bytes=enough)
        assert Answer(200, expected) == await r.answer()
        assert time.monotonic() - began_s < 4.0, "below the timeout of 5 s"
        await asyncio.wait_for(ended.wait(), 10.0)


@on_both_loops()
async def test_a_body_that_is_shorter_than_enough() -> None:
    """All of it, and the connection is used again; one that hangs before enough came is a timeout."""
    connections = 0

    async def serve(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await peer.request()
            peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
        await peer.request()
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")
        await peer.end()

    async with serving(serve) as port, rig() as r:
        for count in (1, 2):
            r.poll(f"http://127.0.0.1:{port}/", enough_bytes=10)
            assert Answer(200, b"abc") == await r.answer(count)
        r.poll(f"http://127.0.0.1:{port}/", enough_bytes=10, timeout_s=0.2)
        refused = await r.answer(3)
        assert isinstance(refused, Refused)
        assert AttemptFailure.TIMEOUT == refused.reason
        assert 1 == connections


async def _garbage(peer: Peer) -> None:
    await peer.request()
    peer.say(b"220 mail.example ESMTP " + peer.head)


async def _cut(peer: Peer) -> None:
    await peer.request()
    peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await peer.writer.drain()
    await asyncio.sleep(0.02)


async def _nothing(peer: Peer) -> None:
    await peer.request()


@pytest.mark.parametrize("behaviour", [_garbage, _cut, _nothing])
@on_both_loops()
async def test_what_is_no_answer(behaviour: Any, token_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No complete answer is a refusal with a reason, and nobody is told the token."""
    caplog.set_level(logging.DEBUG)
    async with serving(behaviour) as port, rig(connection=token_file) as r:
        with capture_logs() as logs:
            r.poll(f"http://127.0.0.1:{port}/", method="POST", body=b"{}", token_query="token")
            refused = await r.answer()
        assert isinstance(refused, Refused)
        assert AttemptFailure.PROTOCOL == refused.reason
        for form in (TOKEN, quote(TOKEN, safe="")):
            assert form not in f"{r.session.told} {logs} {caplog.text}"


@on_both_loops()
async def test_nobody_listens_and_no_token(tmp_path: Path) -> None:
    """Reasons are those of dials."""
    async with rig(connection=tmp_path / "missing") as r:
        r.poll("http://127.0.0.1:1/")
        refused = await r.answer()
        assert isinstance(refused, Refused)
        assert "refused" == refused.reason
        r.poll("http://127.0.0.1:1/", poll_id=2, bearer=True)
        detail = f"token file {tmp_path / 'missing'}: no such file or directory"
        assert Refused("unauthorized", detail) == await r.answer(2)


@on_both_loops()
async def test_close_gives_up_what_is_under_way() -> None:
    """Nothing waits for a slow server at the end, and no late answer comes."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.end()

    async with serving(serve) as port, rig() as r:
        r.poll(f"http://127.0.0.1:{port}/", timeout_s=30.0)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await r.poller.close()
        assert time.monotonic() - began < 0.4
        assert [] == r.session.told


@on_both_loops()
async def test_a_bug_in_the_shell_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each Poll has one answer, whatever happens; the log has the place and the type only."""

    async def broken(*_: object) -> None:
        raise RuntimeError(f"http://127.0.0.1/?token={TOKEN}")

    monkeypatch.setattr(Poller, "_request", broken)
    async with rig() as r:
        with capture_logs() as logs:
            r.poll("http://127.0.0.1:1/", poll_id=4)
            assert Refused("protocol", "internal error: RuntimeError") == await r.answer()
        assert "RuntimeError" == logs[0]["error"]
        assert TOKEN not in str(logs)

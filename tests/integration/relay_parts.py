"""A plain WebSocket client and a plain HTTP client for the relay's own tests. They know nothing of syncwatch's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec

from syncwatch.relay import NewWorkspace, Relay

PATIENCE_S = 10.0


class Client:
    """A socket of one agent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def message(self, timeout_s: float = PATIENCE_S) -> aiohttp.WSMessage:
        """The next message, whatever it is."""
        return await asyncio.wait_for(self.socket.receive(), timeout_s)

    async def take(self, count: int) -> list[dict[str, Any]]:
        """The next text frames, decoded."""
        return [msgspec.json.decode((await self.message()).data) for _ in range(count)]

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Frames up to and including the next one of a type."""
        taken: list[dict[str, Any]] = []
        while not taken or taken[-1].get("type") != kind:
            taken += await self.take(1)
        return taken

    async def rest(self) -> list[dict[str, Any]]:
        """Frames up to the end of the connection."""
        taken: list[dict[str, Any]] = []
        while (message := await self.message()).type is aiohttp.WSMsgType.TEXT:
            taken.append(msgspec.json.decode(message.data))
        return taken

    async def quiet(self, for_s: float = 0.15) -> bool:
        """Whether nothing comes for a while."""
        try:
            await self.message(for_s)
        except TimeoutError:
            return True
        return False

    async def ask(self, last: Any, since: str | None = None) -> None:
        """Send a resync request."""
        request = {"type": "resync", "last_seen_seq": last} | ({} if since is None else {"since": since})
        await self.socket.send_str(msgspec.json.encode(request).decode())

    async def ping(self) -> None:
        """Send an application ping."""
        await self.socket.send_str('{"type":"ping"}')


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    body: Any
    headers: Any


class World:
    """A relay with a workspace and agents, and a session to reach it."""

    def __init__(
        self, relay: Relay, session: aiohttp.ClientSession, workspace: NewWorkspace, tokens: dict[str, str]
    ) -> None:
        self.relay = relay
        self.session = session
        self.workspace = workspace
        self.tokens = tokens

    @asynccontextmanager
    async def connected(self, name: str = "alice") -> AsyncIterator[Client]:
        """A socket of an agent, closed at the end if it is still there."""
        # No automatic answers: what the server does alone is what is tested.
        async with self.session.ws_connect(
            self.relay.ws_url(self.tokens[name]), autoping=False, max_msg_size=0
        ) as socket:
            yield Client(socket)

    async def dial(self, path: str, **headers: str) -> Reply:
        """Ask for an upgrade without following it."""
        asked = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
        }
        async with self.session.get(self.relay.url + path, headers=asked | headers) as response:
            return Reply(response.status, await response.read(), response.headers)

    async def dial_raw(self, name: str = "alice") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Ask for an upgrade on a plain TCP connection (aiohttp would try again by itself when it is cut off)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.relay.port)
        asked = (
            f"GET /v1/ws?token={self.tokens[name]} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        )
        writer.write(asked.encode())
        return reader, writer

    async def call(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Reply:
        """An HTTP request, as an agent by name, or with any token."""
        bearer = self.tokens.get(token or "", token)
        sent = headers | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        data = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
        async with self.session.request(method, self.relay.url + path, data=data, headers=sent) as response:
            raw = await response.read()
            return Reply(response.status, msgspec.json.decode(raw) if raw else None, response.headers)


@asynccontextmanager
async def world(*names: str, **options: Any) -> AsyncIterator[World]:
    """A running relay with agents `alice` and `bob`, or others."""
    async with Relay.start(**options) as relay, aiohttp.ClientSession() as session:
        workspace = relay.workspace("w")
        yield World(
            relay, session, workspace, {name: relay.agent(workspace, name) for name in names or ("alice", "bob")}
        )


async def eventually(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it does not.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  (what is waited for is somebody else's state, without an event)
            await asyncio.sleep(0.005)

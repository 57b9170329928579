"""A plain Relayfile client for the relay's own tests: one workspace, its token, a session. It knows nothing of syncwatch's client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec

from syncwatch.relay import Relay
from syncwatch.relay.logfacts import Delivered
from tests.integration.relay_parts import Client, Reply

WORKSPACE = "w1"
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
}


class FileWorld:
    """A relay, a workspace, a token that may do everything."""

    def __init__(self, relay: Relay, session: aiohttp.ClientSession) -> None:
        self.relay = relay
        self.files = relay.files
        self.session = session
        self.token = relay.files.token(WORKSPACE)
        self.base = f"{relay.url}/v1/workspaces/{WORKSPACE}"

    def write(self, count: int = 1, workspace: str = WORKSPACE) -> None:
        """Write so many files, each to a path of its own."""
        for _ in range(count):
            self.files.write(workspace, f"/docs/{self.files.log.events + 1}.md", "text")

    @asynccontextmanager
    async def stream(self, *paths: str, token: str | None = None, **query: str) -> AsyncIterator[Client]:
        """A stream, closed at the end if it is still there; `frm` is `from`."""
        asked = [("token", token or self.token), *((name.replace("frm", "from"), text) for name, text in query.items())]
        url = f"{self.base}/fs/ws?{urlencode([*asked, *(('path', path) for path in paths)])}"
        async with self.session.ws_connect(url, autoping=False, max_msg_size=0) as socket:
            yield Client(socket)

    async def dial(self, token: str | None = None, *, upgrade: bool = True, **query: str) -> Reply:
        """Ask for a stream without following it."""
        url = f"{self.base}/fs/ws?{urlencode({'token': self.token if token is None else token} | query)}"
        async with self.session.get(url, headers=UPGRADE if upgrade else {}) as response:
            raw = await response.read()
            return Reply(response.status, msgspec.json.decode(raw) if raw.startswith(b"{") else raw, response.headers)

    async def call(self, method: str, below: str, body: Any = None, token: str | None = None, **headers: str) -> Reply:
        """An HTTP request below the workspace, or at a path that begins with a slash; headers with `_` for `-`."""
        sent = {"Authorization": f"Bearer {self.token if token is None else token}", "X-Correlation-Id": "c-1"}
        sent |= {name.replace("_", "-"): text for name, text in headers.items()}
        data = None if body is None else BytesIO(body if isinstance(body, bytes) else msgspec.json.encode(body))
        url = self.relay.url + below if below.startswith("/") else f"{self.base}/{below}"
        async with self.session.request(
            method, url, data=data, headers={name: text for name, text in sent.items() if text}
        ) as response:
            raw = await response.read()
            return Reply(response.status, msgspec.json.decode(raw) if raw else None, response.headers)

    async def put(self, path: str, content: str = "x", if_match: str = "*", correlation: str = "c-1") -> Reply:
        """Write a file over HTTP."""
        body = {"contentType": "text/plain", "content": content}
        return await self.call("PUT", f"fs/file?path={path}", body, If_Match=if_match, X_Correlation_Id=correlation)

    async def poll(self, **query: Any) -> tuple[list[int], str | None]:
        """The numbers of a page of the feed, and its next cursor."""
        reply = await self.call("GET", f"fs/events?{urlencode(query)}")
        assert 200 == reply.status, reply.body
        return [number(event) for event in reply.body["events"]], reply.body["nextCursor"]

    def delivered(self, connection: int = 1) -> list[tuple[int | None, str]]:
        """What the ledger says was sent on a connection."""
        return [(f.number, f.origin) for f in self.relay.ledger.of(Delivered) if f.connection == connection]


def number(event: dict[str, Any]) -> int:
    """The n of `evt_n`."""
    return int(event["eventId"].removeprefix("evt_"))


def numbers(events: list[dict[str, Any]]) -> list[int]:
    """The numbers of events."""
    return [number(event) for event in events]


@asynccontextmanager
async def file_world(**options: Any) -> AsyncIterator[FileWorld]:
    """A running relay with one Relayfile workspace."""
    async with Relay.start(**options) as relay, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        yield FileWorld(relay, session)

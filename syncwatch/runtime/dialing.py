"""From a Request to an open WebSocket: the token placed, the phases measured, one try and no redirects.

What belongs here: one handshake. What follows on the socket is stream.py; what its failures mean is failures.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from syncwatch.core.effects import Handshake
from syncwatch.core.secret import Secret
from syncwatch.core.wire import Request
from syncwatch.runtime.clock import Clock
from syncwatch.runtime.failures import Interrupted, Redirected, TimedOut, http_date_s
from syncwatch.runtime.lane import LanedSocket
from syncwatch.runtime.threads import ThreadResolver
from syncwatch.runtime.tls import ClientContext, TlsContexts, TlsSettings, certificate_expiry_s
from syncwatch.version import __version__

USER_AGENT = f"syncwatch/{__version__}"
NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)  # ours covers everything
READ_CHUNK_BYTES = 65_536
SECURE = frozenset({"https", "wss"})
HTTP_SCHEMES = {"ws": "http", "wss": "https"}  # what a proxy is asked for has to be a URL that it knows

Socket = aiohttp.ClientWebSocketResponse[bool]


class Endpoint(msgspec.Struct, frozen=True):
    """How a connection reaches its server, for the WebSocket and its HTTP calls alike. `proxy` is an http:// URL."""

    tls: TlsSettings = TlsSettings()
    proxy: str | None = None
    max_frame_bytes: int = 16 * 2**20


DIRECT = Endpoint()
"""No proxy, the system's authorities."""


class Opened(msgspec.Struct, frozen=True):
    """An open WebSocket with everything that has to be taken apart with it."""

    ws: Socket
    response: aiohttp.ClientResponse
    transport: asyncio.Transport
    http: aiohttp.ClientSession
    handshake: Handshake

    def lost(self) -> BaseException | None:
        """What the transport reported when it ended, if it said anything."""
        connection = self.response.connection
        protocol = None if connection is None else connection.protocol
        return None if protocol is None else protocol.exception()

    async def discard(self) -> None:
        """Take it apart at once. What is still in the write buffer is lost."""
        self.transport.abort()
        self.response.close()
        await self.http.close()


class Phases:
    """Where a handshake stands and how long each step took."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.current = ""
        self.seconds: dict[str, float] = {}
        self.response: aiohttp.ClientResponse | None = None
        self._now = now
        self._began_s = now()

    def begin(self, phase: str) -> None:
        """A step begins; what came before it ends."""
        self.end()
        self.current = phase

    def end(self) -> None:
        """The present step ends; time until the next one belongs to nobody."""
        now = self._now()
        if self.current:
            self.seconds[self.current] = self.seconds.get(self.current, 0.0) + now - self._began_s
        self.current, self._began_s = "", now

    def trace(self) -> aiohttp.TraceConfig:
        """Callbacks for aiohttp. Behind a proxy, `tcp` is the way through the proxy."""

        async def resolving(*_: object) -> None:
            self.begin("dns")

        async def connecting(*_: object) -> None:
            self.begin("tcp")

        async def connected(*_: object) -> None:
            self.begin("upgrade")

        async def answered(_: object, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
            self.response = params.response

        config = aiohttp.TraceConfig()
        config.on_connection_create_start.append(connecting)
        config.on_dns_resolvehost_start.append(resolving)
        config.on_dns_resolvehost_end.append(connecting)
        config.on_connection_create_end.append(connected)
        config.on_request_end.append(answered)
        return config

    def handshake(self) -> Handshake:
        """What was learned, when it is over."""
        response, seconds = self.response, self.seconds
        connection = None if response is None else response.connection
        transport = None if connection is None else connection.transport
        certificate = None if transport is None else transport.get_extra_info("peercert")
        return Handshake(
            dns_s=seconds.get("dns"),
            tcp_s=seconds.get("tcp"),
            tls_s=seconds.get("tls"),
            upgrade_s=seconds.get("upgrade"),
            certificate_expiry_s=certificate_expiry_s(certificate),
            server_date_s=None if response is None else http_date_s(response.headers.get("Date")),
        )


async def dial(
    request: Request, secret: Secret | None, endpoint: Endpoint, contexts: TlsContexts, timeout_s: float, clock: Clock
) -> Opened:
    """Open the WebSocket.

    Raises: TimedOut, Unusable, or one of failures.FOREIGN; nothing stays open then.
    """
    phases = Phases(clock.monotonic)
    url = place_token(request, secret)
    url = url.with_scheme(HTTP_SCHEMES.get(url.scheme, url.scheme))
    try:
        async with asyncio.timeout(timeout_s) as limit:
            context = await contexts.get() if url.scheme in SECURE else None
            if context is not None:
                context.on_handshake = lambda: phases.begin("tls")
            phases.begin("tcp")
            return await _upgrade(url, headers_of(request, secret), endpoint, context, phases)
    except TimeoutError:
        if not limit.expired():
            raise  # the system's own: ETIMEDOUT
        raise TimedOut(phases.current or "tls files", timeout_s) from None


async def _upgrade(
    url: URL, headers: dict[str, str], endpoint: Endpoint, context: ClientContext | None, phases: Phases
) -> Opened:
    http = client_session(phases.trace(), once=True, socket=partial(LanedSocket, endpoint.max_frame_bytes))
    try:
        ws = await http.ws_connect(
            url,
            headers=headers,
            autoclose=False,
            autoping=False,
            decode_text=False,
            compress=0,
            max_msg_size=endpoint.max_frame_bytes + 1,  # aiohttp refuses from this size on
            proxy=endpoint.proxy,
            ssl=True if context is None else context,
            server_hostname=None if context is None else endpoint.tls.server_name,
        )
        phases.end()
        response = phases.response
        assert response is not None
        assert response.connection is not None
        transport = response.connection.transport
        assert transport is not None
        _read_in_smaller_chunks(transport)
        return Opened(ws, response, transport, http, phases.handshake())
    except BaseException:
        if phases.response is not None:
            phases.response.close()
        await http.close()
        raise


def client_session(
    trace: aiohttp.TraceConfig | None = None, once: bool = False, socket: Callable[..., Any] = aiohttp.ClientWebSocketResponse
) -> aiohttp.ClientSession:
    """An HTTP client that keeps no cookies, asks no environment for proxies, and resolves names in threads that nobody waits for.

    `once` makes one try and follows no redirect (see `single_try`). `socket` makes its WebSockets.
    """
    connector = aiohttp.TCPConnector(resolver=ThreadResolver(), use_dns_cache=False, limit=0)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT},
        timeout=NO_TIMEOUT,
        ws_response_class=socket,  # type: ignore[arg-type]  # aiohttp only calls it
        trace_configs=[] if trace is None else [trace],
        middlewares=(single_try,) if once else (),
    )


async def single_try(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A client middleware: what aiohttp would retry in silence is one attempt for us, and a redirect is an answer."""
    try:
        response = await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise Interrupted(error) from None
    if 300 <= response.status < 400:
        response.close()
        raise Redirected(response.status)
    return response


def place_token(request: Request, secret: Secret | None) -> URL:
    """The URL to dial: the token percent-encoded and first in the query, when the request wants it there."""
    url = URL(request.url)
    if request.token_query is None or secret is None:
        return url
    query = f"{quote(request.token_query, safe='')}={quote(secret.reveal(), safe='')}"
    rest = url.raw_query_string
    return URL(f"{url.with_query(None).with_fragment(None)}?{query}{'&' if rest else ''}{rest}", encoded=True)


def headers_of(request: Request, secret: Secret | None) -> dict[str, str]:
    """The request's headers, with `Authorization: Bearer` when it wants that."""
    headers = dict(request.headers)
    if request.bearer and secret is not None:
        headers["Authorization"] = f"Bearer {secret.reveal()}"
    return headers


def _read_in_smaller_chunks(transport: asyncio.Transport) -> None:
    """Halve what a wake-up costs on asyncio's own loop: it allocates and gives back `max_size` bytes (256 KiB) for each read, however small.

    uvloop and TLS transports have no such attribute and no such cost.
    """
    size = getattr(transport, "max_size", None)
    if isinstance(size, int) and size > READ_CHUNK_BYTES:
        transport.max_size = READ_CHUNK_BYTES  # type: ignore[attr-defined]  # asyncio documents no setting for it

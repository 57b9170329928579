"""Performs Poll: one HTTP request, bounded in size and time, answered with `polled`.

What belongs here: the call. What an answer means is the machine's business. Redirects are not followed: they are answers.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import Protocol

import aiohttp
import structlog

from syncwatch.core.effects import Answer, Effects, Poll, Refused
from syncwatch.core.secret import Secret
from syncwatch.core.states import AttemptFailure
from syncwatch.core.wire import Request
from syncwatch.runtime.dialing import DIRECT, SECURE, Endpoint, client_session, headers_of, place_token
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.failures import FOREIGN, TimedOut, Unusable, attempt_failure, retry_after_s, scrub
from syncwatch.runtime.threads import in_thread
from syncwatch.runtime.tls import TlsContexts
from syncwatch.runtime.tokens import TokenFiles

MAX_BODY_BYTES = 16 * 2**20
CHUNK_BYTES = 65_536

log = structlog.get_logger("syncwatch.runtime")


class Inputs(Protocol):
    """What a machine is told by its poller."""

    def polled(self, now: float, poll_id: int, answer: Answer | Refused) -> Effects:
        """The answer to a Poll."""
        ...


class HttpClient:
    """The process's one aiohttp client, made when first used and closed with `close()`.

    `contexts` is the TLS of all calls without settings of their own: the system's authorities cost 0.7 MiB each time they are loaded.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self.contexts = TlsContexts(DIRECT.tls)

    def get(self) -> aiohttp.ClientSession:
        """The client. Call it inside the running loop."""
        if self._session is None or self._session.closed:
            self._session = client_session()
        return self._session

    async def close(self) -> None:
        """Drop all connections."""
        if self._session is not None:
            await self._session.close()


class Poller:
    """The HTTP calls of one machine. Each Poll gets exactly one `polled`, unless `close()` comes first."""

    def __init__(
        self, driver: Driver, machine: Inputs, tokens: TokenFiles, client: HttpClient, endpoint: Endpoint = DIRECT
    ) -> None:
        self._driver = driver
        self._machine = machine
        self._tokens = tokens
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()
        self.endpoint = endpoint
        driver.on(Poll, self._poll)

    @property
    def endpoint(self) -> Endpoint:
        """How the server is reached."""
        return self._endpoint

    @endpoint.setter
    def endpoint(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._contexts = self._client.contexts if endpoint.tls == DIRECT.tls else TlsContexts(endpoint.tls)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=0.5)

    def _poll(self, effect: Poll) -> None:
        task = asyncio.create_task(self._run(effect))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(effect, done))

    def _done(self, effect: Poll, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Our own bug. The message stays out of the log: it may hold the URL, and the URL may hold the token.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("internal error in an HTTP call", task=self._driver.name, error=type(error).__name__, traceback=where)
            refused = Refused(AttemptFailure.PROTOCOL, f"internal error: {type(error).__name__}")
            self._driver.call(self._machine.polled, effect.poll_id, refused)

    async def _run(self, effect: Poll) -> None:
        secret = None
        answer: Answer | Refused
        try:
            request, secret = await asyncio.wait_for(in_thread(lambda: self._prepare(effect.request), "token"), effect.timeout_s)
            answer = await self._request(request, secret, effect)
        except (Unusable, *FOREIGN) as error:
            failed = attempt_failure(error, self._driver.clock.wall())
            answer = Refused(failed.reason, scrub(failed.detail, secret.reveal() if secret else None))
        self._driver.call(self._machine.polled, effect.poll_id, answer)

    def _prepare(self, request: Request) -> tuple[Request, Secret | None]:
        """What has to be read from files before the call; in a thread. Raises: Unusable."""
        return request, self._tokens.for_request(request)

    async def _request(self, request: Request, secret: Secret | None, effect: Poll) -> Answer | Refused:
        url, timeout_s = place_token(request, secret), effect.timeout_s
        endpoint, contexts = self._endpoint, self._contexts  # one of them for the whole call: it may be replaced meanwhile
        try:
            async with asyncio.timeout(timeout_s) as limit:
                context = await contexts.get() if url.scheme in SECURE else None
                async with self._client.get().request(
                    request.method,
                    url,
                    data=request.body,
                    headers=headers_of(request, secret),
                    allow_redirects=False,
                    proxy=endpoint.proxy,
                    ssl=True if context is None else context,
                    server_hostname=None if context is None else endpoint.tls.server_name,
                ) as response:
                    if effect.enough_bytes is None:
                        body = await _read_bounded(response)
                    else:
                        body = await _read_enough(response, effect.enough_bytes)
                    if body is None:
                        return Refused(AttemptFailure.PROTOCOL, f"the answer is larger than {MAX_BODY_BYTES} bytes")
                    header = response.headers.get("Retry-After")
                    return Answer(response.status, body, retry_after_s(header, self._driver.clock.wall()))
        except TimeoutError:
            if not limit.expired():
                raise  # the system's own: ETIMEDOUT
            raise TimedOut("the answer", timeout_s) from None


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """The whole body; None, and the connection closed, when it is too large."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            response.close()
            return None
    return bytes(body)


async def _read_enough(response: aiohttp.ClientResponse, enough_bytes: int) -> bytes:
    """The beginning of the body. Whoever has more to say loses the connection: leaving the response closes what was not read to its end."""
    body = b""
    while len(body) < enough_bytes and (chunk := await response.content.read(enough_bytes - len(body))):
        body += chunk
    return body

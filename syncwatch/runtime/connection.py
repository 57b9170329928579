"""Performs Dial, Send and Close for one session, and tells it what happened.

What belongs here: which attempt is the present one, and that each Dial gets exactly one of `opened` or `failed`, each opened socket
exactly one `closed`, unless a Close came first. It decides nothing else. One task per attempt dials and then reads.
"""

from __future__ import annotations

import asyncio
import traceback
from functools import partial
from typing import Protocol

import structlog
from aiohttp import WSMsgType

from syncwatch.core.effects import Close, Dial, Effects, Handshake, Hold, Send
from syncwatch.core.secret import Secret
from syncwatch.core.states import AttemptFailure, Disconnect
from syncwatch.runtime.dialing import DIRECT, Endpoint, dial
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.failures import ABNORMAL, FOREIGN, Ending, Failed, Unusable, attempt_failure, peer_close, scrub
from syncwatch.runtime.lane import Item
from syncwatch.runtime.stream import CLOSE_GRACE_S, SEND_TIMEOUT_S, Stream, WebSocketStream
from syncwatch.runtime.threads import in_thread
from syncwatch.runtime.tls import TlsContexts
from syncwatch.runtime.tokens import TokenFiles, TokenWatch

log = structlog.get_logger("syncwatch.runtime")

LEFTOVERS_GRACE_S = 5.0
"""So long is read what was on its way at our close, where it is wanted. The end of the process does not wait for it."""

TEXT, BINARY = WSMsgType.TEXT, WSMsgType.BINARY  # looked at for every message, and an enum's members are slow to look up


class Inputs(Protocol):
    """What a session is told by its connection."""

    def opened(self, now: float, attempt: int, handshake: Handshake) -> Effects:
        """The upgrade finished."""
        ...

    def received(self, now: float, attempt: int, data: bytes, binary: bool = False) -> Effects:
        """One message came."""
        ...

    def failed(
        self, now: float, attempt: int, reason: AttemptFailure, detail: str = "", retry_after_s: float | None = None
    ) -> Effects:
        """The dial did not succeed."""
        ...

    def closed(
        self, now: float, attempt: int, reason: Disconnect, code: int | None = None, detail: str = "", oversized: bool = False
    ) -> Effects:
        """The open socket ended."""
        ...

    def credentials(self, now: float, expiry_wall_s: float | None) -> Effects:
        """The token file was read for the first time, or has new content."""
        ...


class _Attempt:
    """One dial and the socket that comes of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self.stream: Stream | None = None


class Connection:
    """The sockets of one session. `endpoint` may be replaced; the next dial uses it."""

    def __init__(
        self,
        driver: Driver,
        session: Inputs,
        tokens: TokenFiles,
        endpoint: Endpoint = DIRECT,
        send_timeout_s: float = SEND_TIMEOUT_S,
        leftovers: bool = False,
    ) -> None:
        """`leftovers`: what comes between our close frame and the peer's is handed in as well."""
        self.tokens = tokens
        self.watch = TokenWatch(tokens, "connection", lambda expiry_s: driver.call(session.credentials, expiry_s))
        self._driver = driver
        self._session = session
        self._received = session.received
        self._send_timeout_s = send_timeout_s
        self._leftovers = leftovers
        self._present: _Attempt | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.endpoint = endpoint
        driver.on(Dial, self._dial)
        driver.on(Send, self._send)
        driver.on(Close, self._close)
        driver.on(Hold, self._hold)
        driver.on_restart.append(self._revive)

    @property
    def endpoint(self) -> Endpoint:
        """How the server is reached."""
        return self._endpoint

    @endpoint.setter
    def endpoint(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._contexts = TlsContexts(endpoint.tls)

    async def shutdown(self) -> None:
        """Wait until every closing socket is gone, 1 s and a little at most; what is still there then is aborted."""
        if self._present is not None:  # nobody said Close: there is no time for manners
            self._abandon(self._present)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_GRACE_S + 0.2)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=0.2)

    # ------------------------------------------------------------------ effects

    def _dial(self, effect: Dial) -> None:
        if self._present is not None:
            self._abandon(self._present)  # a session closes before it dials again; never two sockets, even if one did not
        self._present = attempt = _Attempt(effect.attempt)
        attempt.task = task = asyncio.create_task(self._run(attempt, effect))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(attempt, done))

    def _send(self, effect: Send) -> None:
        present = self._present
        if present is not None and present.number == effect.attempt and present.stream is not None:
            present.stream.send(effect.data)

    def _hold(self, effect: Hold) -> None:
        present = self._present
        if present is not None and present.number == effect.attempt and present.stream is not None:
            present.stream.hold(effect.on)

    def _close(self, effect: Close) -> None:
        present = self._present
        if present is None or present.number != effect.attempt:
            return
        self._present = None
        if present.stream is None:
            self._abandon(present)
            return
        present.stream.leave(effect.code, effect.reason)
        grace_s = LEFTOVERS_GRACE_S if self._leftovers else CLOSE_GRACE_S
        asyncio.get_running_loop().call_later(grace_s, present.stream.abort)

    # ------------------------------------------------------------------ one attempt

    async def _run(self, attempt: _Attempt, effect: Dial) -> None:
        clock, secret = self._driver.clock, None
        try:
            secret = await in_thread(lambda: self.tokens.for_request(effect.request), "token")
            stream, handshake = await self._open(effect, secret)
        except (Unusable, *FOREIGN) as error:
            failed = attempt_failure(error, clock.wall())
            detail = scrub(failed.detail, secret.reveal() if secret else None)
            self._failed(attempt, Failed(failed.reason, detail, failed.retry_after_s))
            return
        attempt.stream = stream
        try:
            if attempt is self._present:
                self._driver.call(self._session.opened, attempt.number, handshake)
            ending = await stream.read(partial(self._deliver, attempt, stream))
            detail = scrub(ending.detail, secret.reveal() if secret else None)
            self._ended(attempt, Ending(ending.reason, ending.code, detail, ending.oversized))
        finally:
            await stream.discard()

    async def _open(self, effect: Dial, secret: Secret | None) -> tuple[Stream, Handshake]:
        """A socket of the kind that the URL asks for. Raises: as the dials do; nothing stays open then."""
        if effect.request.url.startswith("tcp:"):
            from syncwatch.runtime.tcp import TcpStream, dial_tcp  # few have one

            pipe = await dial_tcp(effect.request, effect.timeout_s, self._driver.clock)
            return TcpStream(pipe, self._endpoint.max_frame_bytes, self._send_timeout_s), pipe.handshake
        opened = await dial(effect.request, secret, self._endpoint, self._contexts, effect.timeout_s, self._driver.clock)
        return WebSocketStream(opened, self._send_timeout_s), opened.handshake

    def _deliver(self, attempt: _Attempt, stream: Stream, batch: list[Item]) -> Ending | None:
        """One wake-up's messages into the session; returns the ending that the peer declared, if it did."""
        endings: list[Ending] | tuple[()] = ()
        first = batch[0]
        if attempt is not self._present and not self._leftovers:
            self._feed(0.0, attempt, stream, batch, endings := [])  # we are leaving: only control frames matter, and no machine
        elif len(batch) == 1 and isinstance(first, bytes):  # what comes alone costs a wake-up: it goes the shortest way
            self._driver.call(self._received, attempt.number, first)
        else:
            self._driver.call(self._feed, attempt, stream, batch, endings := [])
        if self._driver.crashed_s is not None and attempt is self._present:
            self._present = None  # nobody is left to listen, and an unread socket is an upstream's burden
            stream.leave(1011, "internal error")
            asyncio.get_running_loop().call_later(CLOSE_GRACE_S, stream.abort)
        return endings[0] if endings else None

    def _feed(
        self, now: float, attempt: _Attempt, stream: Stream, batch: list[Item], endings: list[Ending]
    ) -> Effects:
        received, perform, number = self._received, self._driver.perform, attempt.number
        listening = self._leftovers or attempt is self._present
        for item in batch:
            if isinstance(item, bytes):
                if listening:
                    effects = received(now, number, item)
                    if effects:
                        perform(effects)
                        listening = self._leftovers or attempt is self._present
                continue
            kind, data, extra = item
            if kind is TEXT or kind is BINARY:
                if listening:
                    effects = received(now, number, data) if kind is TEXT else received(now, number, data, True)
                    if effects:
                        perform(effects)
                        listening = self._leftovers or attempt is self._present
            elif kind is WSMsgType.PING:
                stream.pong(bytes(data))
            elif kind is WSMsgType.CLOSE:
                endings.append(peer_close(data, extra))
                break
        return ()

    def _failed(self, attempt: _Attempt, failed: Failed) -> None:
        if attempt is self._present:
            self._present = None
            self._driver.call(self._session.failed, attempt.number, failed.reason, failed.detail, failed.retry_after_s)

    def _ended(self, attempt: _Attempt, ending: Ending) -> None:
        if attempt is self._present:
            self._present = None
            self._driver.call(
                self._session.closed, attempt.number, ending.reason, ending.code, ending.detail, ending.oversized
            )

    # ------------------------------------------------------------------ what should not happen

    def _done(self, attempt: _Attempt, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Our own bug. The message and the chain stay out of the log: they may hold the URL, and the URL holds the token.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("internal error in a connection", task=self._driver.name, error=type(error).__name__, traceback=where)
        self._answer(attempt, f"internal error: {type(error).__name__}" if error else "the connection's task was cancelled")

    def _revive(self) -> None:
        present = self._present
        if present is not None and (present.task is None or present.task.done()):
            self._answer(present, "the connection's task ended")

    def _answer(self, attempt: _Attempt, detail: str) -> None:
        """Keep the promise of one answer, so that the session dials again."""
        if attempt.stream is None:
            self._failed(attempt, Failed(AttemptFailure.PROTOCOL, detail))
        else:
            self._ended(attempt, Ending(Disconnect.LOCAL, ABNORMAL, detail))

    def _abandon(self, attempt: _Attempt) -> None:
        if attempt is self._present:
            self._present = None
        if attempt.task is not None:
            attempt.task.cancel()

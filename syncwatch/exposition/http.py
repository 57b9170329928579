"""The listeners as aiohttp applications.

What belongs here: paths, methods, headers, statuses. What is said comes from `probes`, `gate`, `status`, `events` and the renderer of the
metrics. A handler reads one snapshot and answers; it waits for nothing and changes nothing. The two POSTs are the exception: they ask
`Controls`, and only the local listener has them. A scrape is rendered where it is asked for: a thread could be kept waiting by
others' work, the snapshot it needs cannot leave this one, and it takes milliseconds.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import math
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from syncwatch.core.snapshot import Snapshot
from syncwatch.exposition import probes, web
from syncwatch.exposition.events import KEEP_ALIVE, Broadcast, Subscription, TooManyListenersError, dropped, told
from syncwatch.exposition.guards import Guards, ReadToken

Refusal = Callable[[web.Request], Awaitable[web.Response | None]]
"""Why a request is not answered; None if it is."""

Render = Callable[[str | None, str | None, Sequence[str]], tuple[bytes, Mapping[str, str]]]
"""Accept, Accept-Encoding, names: the body of a scrape and its headers."""

KEEP_ALIVE_S = 15.0
WRITE_S = 10.0
"""A listener of /events that takes nothing for this long is cut off."""
FLUSH_S = 20.0
LONGEST_FLUSH_S = 600.0

_ALWAYS = {"Server": "syncwatch", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_LOCAL = {
    **_ALWAYS,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class Flushed(msgspec.Struct, frozen=True):
    """What a flush did: `complete` when nothing was left in time, `files` moved, `pending` left."""

    complete: bool
    files: int
    pending: int


class Controls(msgspec.Struct, frozen=True):
    """What may be asked of the app; None: not offered, and the request is answered with 501.

    `reload` returns the mistakes of the configuration, one line each; none: it was applied. `flush` is given seconds, and returns None when there is no mirror.
    """

    reload: Callable[[], Awaitable[Sequence[str]]] | None = None
    flush: Callable[[float], Awaitable[Flushed | None]] | None = None


def public_app(
    snapshot: Callable[[], Snapshot], render: Render, refusal: Refusal | None = None, headers: Callable[[], Mapping[str, str]] | None = None
) -> web.Application:
    """For `listen`: open to everybody, so it tells no details and changes nothing.

    With a `refusal` all but the verdicts must pass it: the kubelet has no credentials. `headers` are added to answers that have none of the kind.
    """
    app = probes_app(snapshot)
    if headers is not None:
        app.on_response_prepare.append(_adding(headers))
    public = _Public(render)
    app.router.add_get("/", _guarded(_page("landing.html"), refusal))
    app.router.add_get("/metrics", _guarded(public.metrics, refusal))
    return app


def probes_app(snapshot: Callable[[], Snapshot]) -> web.Application:
    """For `probes_listen`: the verdicts, and nothing else."""
    app = web.Application()
    app.on_response_prepare.append(_stamping(_ALWAYS))
    verdicts = _Verdicts(snapshot)
    for probe in probes.Probe:
        app.router.add_get(f"/{probe}", verdicts.probing(probe))
        app.router.add_get(f"/{probe}/{{check:.+}}", verdicts.single(probe))
    app.router.add_get("/-/healthy", verdicts.probing(probes.Probe.LIVEZ))
    app.router.add_get("/-/ready", verdicts.probing(probes.Probe.READYZ))
    return app


def local_app(
    snapshot: Callable[[], Snapshot],
    controls: Controls,
    events: Broadcast,
    token: ReadToken | None = None,
    hosts: Collection[str] = (),
    keep_alive_s: float = KEEP_ALIVE_S,
    write_s: float = WRITE_S,
) -> web.Application:
    """For `local_listen`: everything that is known, behind the guards. `hosts`: where it is bound, as `host:port`."""
    app = web.Application(middlewares=[Guards(hosts, token, open_paths={"/"}).middleware])
    app.on_response_prepare.append(_stamping(_LOCAL))
    local = _Local(snapshot, controls)
    streams = _Streams(events, keep_alive_s, write_s)
    app.router.add_get("/", _page("index.html"))
    app.router.add_get("/status", local.status)
    app.router.add_get("/gate", local.gate)
    app.router.add_get("/events", streams.listen, allow_head=False)
    app.router.add_post("/-/reload", local.reload)
    app.router.add_post("/flush", local.flush)
    app.on_shutdown.append(streams.end)
    return app


class _Public:
    def __init__(self, render: Render) -> None:
        self._render = render

    async def metrics(self, request: web.Request) -> web.Response:
        accept, encodings = _joined(request, "Accept"), _joined(request, "Accept-Encoding")
        body, headers = self._render(accept, encodings, request.query.getall("name[]", []))
        return web.Response(body=body, headers=headers)


class _Verdicts:
    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def probing(self, probe: probes.Probe) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            query = request.query
            verdict = probes.verdict(
                self._snapshot().health, probe, verbose="verbose" in query, exclude=query.getall("exclude", [])
            )
            return web.Response(status=verdict.status, text=verdict.text)

        return answer

    def single(self, probe: probes.Probe) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            verdict = probes.single(self._snapshot().health, probe, request.match_info["check"])
            if verdict is None:
                return web.Response(status=404, text=f"there is no such check: /{probe}?verbose lists them\n")
            return web.Response(status=verdict.status, text=verdict.text)

        return answer


class _Local:
    def __init__(self, snapshot: Callable[[], Snapshot], controls: Controls) -> None:
        self._snapshot, self._controls = snapshot, controls

    async def status(self, _request: web.Request) -> web.Response:
        from syncwatch.exposition import status  # what a sidecar is never asked for stays out of its memory

        return _json(status.build(self._snapshot()))

    async def gate(self, request: web.Request) -> web.Response:
        """A question that was not understood is refused: an answer to another question could be taken for this one's."""
        from syncwatch.exposition import gate

        unknown = sorted(set(request.query) - {"for"})
        asked = request.query.getall("for", [gate.Purpose.READ])
        if unknown or len(asked) != 1 or asked[0] not in set(gate.Purpose):
            return web.Response(status=400, text="ask /gate?for=read or /gate?for=write, and nothing else\n")
        answer = gate.answer(self._snapshot(), gate.Purpose(asked[0]))
        return _json(answer, 200 if answer.open else 503)

    async def reload(self, _request: web.Request) -> web.Response:
        if self._controls.reload is None:
            return web.Response(status=501, text="there is nothing to reload: no configuration file runs here\n")
        errors = list(await self._controls.reload())
        return _json({"reloaded": not errors, "errors": errors}, 422 if errors else 200)

    async def flush(self, request: web.Request) -> web.Response:
        timeout_s = _timeout_s(request.query.getall("timeout_s", [str(FLUSH_S)]))
        if timeout_s is None:
            return web.Response(status=400, text=f"timeout_s is seconds, above 0 and at most {LONGEST_FLUSH_S:g}\n")
        flushed = None if self._controls.flush is None else await self._controls.flush(timeout_s)
        if flushed is None:
            return web.Response(status=501, text="there is nothing to flush: no mirror runs here\n")
        return _json(flushed, 200 if flushed.complete else 503)


class _Streams:
    """The open streams of /events. They end when their client does, when it is too slow, or with the listener."""

    def __init__(self, events: Broadcast, keep_alive_s: float, write_s: float) -> None:
        self._events, self._keep_alive_s, self._write_s = events, keep_alive_s, write_s
        self._open: set[Subscription] = set()

    async def end(self, _app: web.Application) -> None:
        for subscription in self._open:
            subscription.end()

    async def listen(self, request: web.Request) -> web.StreamResponse:
        try:
            subscription = self._events.subscribe(request.headers.get("Last-Event-ID"))
        except TooManyListenersError:
            return web.Response(status=503, text="too many listeners: try again later\n", headers={"Retry-After": "5"})
        self._open.add(subscription)
        try:
            return await self._stream(request, subscription)
        finally:
            self._open.discard(subscription)
            subscription.close()

    async def _stream(self, request: web.Request, subscription: Subscription) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        try:
            await response.prepare(request)
            await self._write(response, b"retry: 2000\n\n")
            if subscription.gone:
                await self._write(response, dropped("they are no longer in the buffer", subscription.gone))
            while (entries := await subscription.entries(self._keep_alive_s)) is not None:
                words = b"".join(told(self._events, entry) for entry in entries)
                await self._write(response, words or KEEP_ALIVE)
            if subscription.overflowed:
                await self._write(response, dropped("this listener was too slow: reconnect to go on", None))
            await self._write(response, b"", last=True)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()  # it takes nothing, so it cannot even be told
        except ConnectionError:
            pass  # the client has gone
        return response

    async def _write(self, response: web.StreamResponse, data: bytes, last: bool = False) -> None:
        async with asyncio.timeout(self._write_s):
            await (response.write_eof(data) if last else response.write(data))


def _stamping(headers: Mapping[str, str]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def stamp(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(headers)

    return stamp


def _adding(headers: Callable[[], Mapping[str, str]]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def add(_request: web.Request, response: web.StreamResponse) -> None:
        for name, text in headers().items():
            response.headers.setdefault(name, text)

    return add


def _guarded(handler: Callable[[web.Request], Awaitable[web.Response]], refusal: Refusal | None) -> Callable[[web.Request], Awaitable[web.Response]]:
    if refusal is None:
        return handler

    async def guarded(request: web.Request) -> web.Response:
        return await refusal(request) or await handler(request)

    return guarded


def _page(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A page of ours, which is loaded when somebody wants to see it."""

    async def page(_request: web.Request) -> web.Response:
        content, policy = _loaded(name)
        return web.Response(body=content, content_type="text/html", charset="utf-8", headers={"Content-Security-Policy": policy})

    return page


@functools.cache
def _loaded(name: str) -> tuple[bytes, str]:
    """A page, whole in one file, and its policy, which names the hashes of its own style and script; nothing else may run or load."""
    content = Path(__file__).with_name("page").joinpath(name).read_bytes()  # importlib.resources would bring half of zipfile into the process
    policy = "; ".join((
        "default-src 'none'",
        f"style-src {_hashes(content, b'style')}",
        f"script-src {_hashes(content, b'script')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ))  # fmt: skip

    return content, policy


def _hashes(page: bytes, element: bytes) -> str:
    found = re.findall(rb"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(inside).digest()).decode() for inside in found]
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


def _json(value: object, code: int = 200) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    return web.Response(status=code, body=body, content_type="application/json")


def _joined(request: web.Request, header: str) -> str | None:
    """A header that may be sent several times, as one (RFC 9110 section 5.3)."""
    return ", ".join(request.headers.getall(header, [])) or None


def _timeout_s(given: Sequence[str]) -> float | None:
    try:
        seconds = float(given[0])
    except ValueError:
        return None
    return seconds if len(given) == 1 and math.isfinite(seconds) and 0 < seconds <= LONGEST_FLUSH_S else None

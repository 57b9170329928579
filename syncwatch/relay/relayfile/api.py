"""The HTTP side of Relayfile: the order of its checks, its answers, its facts (wire: relayfile §1).

Route, token, path, correlation id, rate limit, handler: in this order, each with its own refusal. What a request does is
`handlers`'.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from syncwatch.relay import doors, kinds
from syncwatch.relay.ledger import Refused
from syncwatch.relay.logfacts import Answered, Page
from syncwatch.relay.relayfile import door, keys, routes, tokens
from syncwatch.relay.relayfile.handlers import HANDLERS, Asked, Reply
from syncwatch.relay.relayfile.routes import PREFIX, Target
from syncwatch.relay.relayfile.tokens import Holder, Refusal
from syncwatch.relay.relayfile.tree import path_of

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay

_CODES = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "rate_limited", 500: "internal_error", 503: "unavailable"}  # fmt: skip


def owns(path: str) -> bool:
    """Whether a path is Relayfile's."""
    return path in ("/health", keys.JWKS_PATH) or path.startswith((PREFIX, "/v1/admin/"))


async def answer(relay: Relay, request: web.Request) -> web.StreamResponse:
    """Answer one request, with the facts about it."""
    correlation_id = request.headers.get("X-Correlation-Id", "").strip()
    target = routes.find(request.method, request.path)
    label = target.workspace if target else ""
    streaming = target is not None and target.name == "fs/ws"
    try:
        if target is not None and streaming:
            return await _stream(relay, request, target)
        reply = await _reply(relay, request, target, correlation_id)
        return _response(relay, request, target, reply, correlation_id)
    except _Lost:
        _note(relay, request, target, 0, "", "", correlation_id)
        return doors.cut_off(request)
    except Refusal as refusal:
        headers = {} if refusal.retry_after is None else {"Retry-After": refusal.retry_after}
        told = "" if streaming else correlation_id
        body = {"code": refusal.code, "message": refusal.message, "correlationId": told} | refusal.more
        if streaming:
            relay.ledger.add(Refused, agent=label, status=refusal.status, why=refusal.message)
        else:
            _note(relay, request, target, refusal.status, refusal.code, refusal.message, correlation_id)
        return _json(refusal.status, body, headers)


class _Lost(Exception):  # noqa: N818  nobody is answered
    """A fault leaves the client without an answer."""


async def _stream(relay: Relay, request: web.Request, target: Target) -> web.StreamResponse:
    trouble = await doors.upgrade_trouble(relay, request, target.workspace, "relayfile")
    if trouble is not None and not trouble.status:
        return doors.cut_off(request)
    _raise(trouble)
    wanted = door.authorize(relay, request, target)
    if request.headers.get("Upgrade", "").lower() != "websocket":
        relay.ledger.add(Refused, agent=target.workspace, status=426, why="no upgrade")
        text = 'WebSocket protocol violation: Connection header "" does not contain Upgrade\n'
        return web.Response(status=426, text=text, headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    return await door.serve(relay, request, target, wanted)


async def _reply(relay: Relay, request: web.Request, target: Target | None, correlation_id: str) -> Reply:
    if request.path == keys.JWKS_PATH and request.method == "GET":
        if relay.faults.take(kinds.KeysDown, protocol="relayfile") is not None:
            raise Refusal(503, "unavailable", "unavailable")
        return Reply(200, keys.key_set())
    healthy = request.path == "/health" and request.method == "GET"
    if target is None and not healthy:
        raise Refusal(404, "not_found", "route not found")
    group: kinds.Route = "health" if target is None else target.group
    label = target.workspace if target else None
    trouble = await doors.request_trouble(relay, request, group, label, "relayfile")
    if trouble is not None and not trouble.status:
        raise _Lost
    _raise(trouble)
    if target is None:
        return Reply(200, {"status": "ok"})
    holder = _authorize(relay, request, target)
    if not correlation_id:
        raise Refusal(400, "bad_request", "missing X-Correlation-Id header")
    wait_s = relay.files.limited(holder, group)
    if wait_s is not None:
        raise Refusal(429, "rate_limited", "rate limit exceeded", retry_after=f"{wait_s:g}" if wait_s else None)
    if relay.faults.take(kinds.DatabaseFailing, label, "relayfile") is not None:
        raise Refusal(500, "internal_error", "the backend does not answer")
    asked = Asked(relay, request, target, holder, correlation_id, await request.read())
    reply = HANDLERS[request.method, target.name](asked)
    late = relay.faults.take_http(kinds.HttpTrouble, group, label, "relayfile")
    if late is not None:
        await asyncio.sleep(late.spec.delay_s)
        if late.spec.lose_answer:
            raise _Lost
    garbled = relay.faults.take_http(kinds.GarbleHttp, group, label, "relayfile")
    return reply if garbled is None else Reply(200, msgspec.Raw(garbled.spec.body.encode()))


def _raise(trouble: doors.Trouble | None) -> None:
    """Refuse as a fault wants it."""
    if trouble is None:
        return
    code = trouble.code or _CODES.get(trouble.status, "unavailable" if trouble.status >= 500 else "bad_request")
    wait_s = trouble.retry_after_s
    raise Refusal(
        trouble.status, code, trouble.message or trouble.why, retry_after=None if wait_s is None else f"{wait_s:g}"
    )


def _authorize(relay: Relay, request: web.Request, target: Target) -> Holder:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer":
        raise tokens.unauthorized("missing or invalid bearer token")
    holder = relay.files.holder(token.strip())
    if target.workspace and holder.workspace != target.workspace:
        raise tokens.forbidden("workspace mismatch")
    wide = target.scope == "admin:read" and holder.scopes.has("admin:replay")
    # The feed is authorised against the root, so a token that is limited to paths may never poll.
    path = "/" if target.name == "fs/events" else None
    if target.acl and request.query.get("path", "").strip():
        path = path_of(request.query["path"])
    allowed = holder.scopes.has(target.scope) and (path is None or holder.scopes.allows(target.scope, path))
    if not allowed and not wide:
        raise tokens.forbidden(f"missing required scope: {target.scope}")
    return holder


def _response(
    relay: Relay, request: web.Request, target: Target | None, reply: Reply, correlation_id: str
) -> web.Response:
    if target is not None:
        _note(relay, request, target, reply.status, "", "", correlation_id)
        if reply.page is not None:
            relay.ledger.add(Page, protocol="relayfile", label=target.workspace, **reply.page)
    return _json(reply.status, reply.body, reply.headers)


def _note(
    relay: Relay, request: web.Request, target: Target | None, status: int, code: str, message: str, correlation_id: str
) -> None:
    relay.ledger.add(
        Answered,
        protocol="relayfile",
        label=target.workspace if target else "",
        method=request.method,
        route=target.name if target else request.path[:200],
        status=status,
        code=code,
        message=message,
        correlation_id=correlation_id[:200],
    )


def _json(status: int, told: Any, headers: dict[str, str]) -> web.Response:
    body = msgspec.json.encode(told) + b"\n"
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)

"""The HTTP side of observers: making and ending tokens, and the log to catch up from (wire: relaycast §12)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from aiohttp import web

from syncwatch.relay import doors, kinds
from syncwatch.relay.call import Answer, Call, handle, refused, respond
from syncwatch.relay.directory import ApiError
from syncwatch.relay.ids import token_kind
from syncwatch.relay.logfacts import Answered, Page
from syncwatch.relay.observer.log import EPOCH
from syncwatch.relay.observer.tokens import Filters, Observer
from syncwatch.relay.state import Workspace

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay

LIMIT = 200
MAX_LIMIT = 500


class TokenBody(msgspec.Struct):
    """A token to create."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    scopes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    filters: Filters = Filters()
    description: str | None = None


def create_token(call: Call) -> Answer:
    """`POST /v1/observer-tokens`."""
    body, observers = call.body(TokenBody), call.relay.observers
    made = observers.create(call.workspace, body.name, body.scopes, body.filters)
    return Answer(201, observers.describe(made, token=True))


def list_tokens(call: Call) -> Answer:
    """`GET /v1/observer-tokens`."""
    observers = call.relay.observers
    return Answer(200, [observers.describe(one) for one in observers.of(call.workspace)])


def rotate_token(call: Call) -> Answer:
    """`POST /v1/observer-tokens/{id}/rotate`."""
    observers, observer = call.relay.observers, _named(call)
    observers.rotate(observer)
    return Answer(200, observers.describe(observer, token=True))


def revoke_token(call: Call) -> Answer:
    """`DELETE /v1/observer-tokens/{id}`."""
    call.relay.observers.revoke(_named(call))
    return Answer(204)


def _named(call: Call) -> Observer:
    found = call.relay.observers.of(call.workspace, call.ident("observer_token"))
    if not found:
        raise ApiError(404, "observer_token_not_found", "Observer token not found")
    return found[0]


ROUTES: tuple[tuple[str, str, Callable[[Call], Answer]], ...] = (
    ("POST", "/v1/observer-tokens", create_token),
    ("GET", "/v1/observer-tokens", list_tokens),
    ("POST", "/v1/observer-tokens/{id}/rotate", rotate_token),
    ("DELETE", "/v1/observer-tokens/{id}", revoke_token),
)


def add_routes(app: web.Application, relay: Relay) -> None:
    """Put the interface into an application."""

    def route(function: Callable[[Call], Answer]) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            return await handle(relay, request, "workspace", function)

        return answer

    async def backfill(request: web.Request) -> web.StreamResponse:
        return await _backfill(relay, request)

    for method, path, function in ROUTES:
        app.router.add_route(method, path, route(function))
    app.router.add_get("/v1/workspace/events", backfill)


async def _backfill(relay: Relay, request: web.Request) -> web.StreamResponse:
    """`GET /v1/workspace/events`: for observers, and for the workspace's own key."""
    label = ""
    try:
        workspace, observer = _reader(relay, request)
        label = observer.label if observer else workspace.name
        answer = await refused(relay, request, "feed", label)
        if answer is None:
            answer = await _page(relay, request, workspace, observer, label)
    except ApiError as refusal:
        _note(relay, label, refusal.status, refusal.code, refusal.message)
        raise
    _note(relay, label, 0 if isinstance(answer, doors.NoAnswer) else answer.status)
    return answer


def _note(relay: Relay, label: str, status: int, code: str = "", message: str = "") -> None:
    relay.ledger.add(
        Answered,
        protocol="observer",
        label=label,
        method="GET",
        route="workspace/events",
        status=status,
        code=code,
        message=message,
        correlation_id="",
    )


async def _page(
    relay: Relay, request: web.Request, workspace: Workspace, observer: Observer | None, label: str
) -> web.StreamResponse:
    if observer is not None and not observer.may_stream:
        raise ApiError(403, "insufficient_scope", "The scope stream:read is required")
    since, limit = _number(request, "since", 0, 0, 2**53 - 1), _number(request, "limit", LIMIT, 1, MAX_LIMIT)
    page = relay.events.page(workspace, observer, since, limit)
    trouble = relay.faults.take_http(kinds.HttpTrouble, "feed", label)
    if trouble is not None:
        await asyncio.sleep(trouble.spec.delay_s)
        if trouble.spec.lose_answer:
            return doors.cut_off(request)
    garbled = relay.faults.take_http(kinds.GarbleHttp, "feed", label)
    if garbled is not None:
        return respond(200, msgspec.Raw(garbled.spec.body.encode()), {})
    relay.ledger.add(
        Page,
        protocol="observer",
        label=label,
        epoch=EPOCH,
        cursor=str(since),
        limit=limit,
        direction="asc",
        provider="",
        numbers=tuple(event["seq"] for event in page.events),
        next_cursor=str(page.next_since),
        known=True,
    )
    told = {"events": page.events, "latest_seq": page.latest_seq, "next_since": page.next_since}
    return respond(200, {"ok": True, "data": told}, {})


def _number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) < 17 and least <= int(text) <= most:
        return int(text)
    raise ApiError(400, "invalid_request", f"{name} must be a whole number from {least} to {most}")


def _reader(relay: Relay, request: web.Request) -> tuple[Workspace, Observer | None]:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        raise ApiError(401, "unauthorized", "Missing or invalid Authorization header")
    observer = relay.observers.by_token(token)
    if observer is not None and relay.faults.take(kinds.TokenExpiry, observer.label) is None:
        return observer.workspace, observer
    workspace = relay.directory.workspace_by_key(token) if token_kind(token) == "rk" else None
    if workspace is not None:
        return workspace, None
    raise ApiError(401, "invalid_token", "Unknown token")

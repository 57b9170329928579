"""One HTTP request: who calls, what was sent, what is answered, once per idempotency key (wire: relaycast §10)."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from syncwatch.relay import doors, kinds
from syncwatch.relay.directory import ApiError
from syncwatch.relay.ids import token_kind
from syncwatch.relay.state import Agent, Channel, Workspace
from syncwatch.relay.store import DatabaseError

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_MAX_KEY = 255
B = TypeVar("B", bound=msgspec.Struct)
Need = Literal["nobody", "any", "agent", "workspace"]


class Answer(NamedTuple):
    """A reply before it is an HTTP response; without data the body is `{"ok":true}`, at 204 nothing."""

    status: int
    data: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012  (never changed)


class Pending(NamedTuple):
    """An idempotency key that is taken until its answer is stored."""

    scope: str
    key: str
    fingerprint: str


class Call:
    """One request, authenticated."""

    def __init__(
        self, relay: Relay, request: web.Request, raw: bytes, workspace: Workspace | None, agent: Agent | None
    ) -> None:
        self.relay = relay
        self.request = request
        self.raw = raw
        self._workspace = workspace
        self._agent = agent
        self.pending: Pending | None = None

    @property
    def workspace(self) -> Workspace:
        """The caller's workspace."""
        if self._workspace is None:
            raise ApiError(401, "unauthorized", "A bearer token is required")
        return self._workspace

    @property
    def agent(self) -> Agent:
        """The calling agent.

        Raises:
            ApiError: 403 `agent_token_required` for a workspace key.
        """
        if self._agent is None:
            raise ApiError(403, "agent_token_required", "An agent token is required")
        return self._agent

    @property
    def maybe_agent(self) -> Agent | None:
        """The calling agent, or None for a workspace key."""
        return self._agent

    @property
    def channel(self) -> Channel:
        """The channel in the path."""
        return self.relay.directory.channel(self.workspace, self.part("name"))

    def part(self, name: str) -> str:
        """A piece of the path."""
        return self.request.match_info[name]

    def ident(self, what: str = "message") -> int:
        """The id in the path; one that is no id names nothing."""
        text = self.part("id")
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ApiError(404, f"{what}_not_found", f"{what.capitalize()} not found")
        return int(text)

    def body(self, kind: type[B]) -> B:
        """The request's body.

        Raises:
            ApiError: 400 `invalid_request`.
        """
        try:
            return msgspec.json.decode(self.raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise ApiError(400, "invalid_request", str(problem)) from problem

    def window(self) -> tuple[int, int | None, int | None]:
        """`limit` (50, at most 100), `before`, `after`."""
        query = self.request.query
        number = {
            name: int(query[name])
            for name in ("limit", "before", "after")
            if query.get(name, "").isdecimal() and len(query[name]) < 19
        }
        return min(max(number.get("limit") or 50, 1), 100), number.get("before"), number.get("after")

    def once(self, scope: str, body: msgspec.Struct, status: int, operation: Callable[[], dict[str, Any]]) -> Answer:
        """Do something once per idempotency key (wire: relaycast §10).

        Raises:
            ApiError: 409 `idempotency_key_reused`, 409 `idempotency_in_progress`.
        """
        key = self.idempotency_key()
        if key is None:
            return Answer(status, operation())
        pending = Pending(f"{self.agent.id}:{scope}", key, hashlib.sha256(msgspec.json.encode(body)).hexdigest())
        known = self.relay.store.remembered(pending.scope, key, self.relay.clock.server_s())
        if known is not None:
            if known[0] != pending.fingerprint:
                raise ApiError(409, "idempotency_key_reused", "The idempotency key was used with another body")
            return Answer(status, msgspec.Raw(known[1]), {"Idempotency-Replayed": "true"})
        if (pending.scope, key) in self.relay.in_flight:
            raise ApiError(409, "idempotency_in_progress", "A request with this idempotency key is still in progress")
        data = operation()
        self.relay.in_flight.add((pending.scope, key))
        self.pending = pending
        return Answer(status, data)

    def idempotency_key(self) -> str | None:
        """The key in the header, if there is one.

        Raises:
            ApiError: 400 `invalid_idempotency_key` unless it is 1 to 255 visible ASCII characters.
        """
        header = self.request.headers.get("Idempotency-Key")
        if header is None:
            return None
        key = header.strip()
        if len(key) > _MAX_KEY or not _VISIBLE.fullmatch(key):
            raise ApiError(400, "invalid_idempotency_key", "An idempotency key is 1 to 255 visible ASCII characters")
        return key

    def settle(self, answer: Answer) -> None:
        """Store the answer of a first request, so that a repetition gets it."""
        if self.pending is None:
            return
        scope, key, fingerprint = self.pending
        self.relay.in_flight.discard((scope, key))
        try:
            self.relay.store.remember(
                scope, key, fingerprint, msgspec.json.encode(answer.data), self.relay.clock.server_s()
            )
        except DatabaseError:
            return  # done, but not remembered: what the real server's key store does too


async def handle(
    relay: Relay, request: web.Request, need: Need, function: Callable[[Call], Answer]
) -> web.StreamResponse:
    """Authenticate, do, answer."""
    workspace, agent = _authenticate(relay, request, need)
    label = agent.label if agent else None
    refusal = await refused(relay, request, "api", label)
    if refusal is not None:
        return refusal
    call = Call(relay, request, await request.read(), workspace, agent)
    answer = function(call)
    trouble = relay.faults.take_http(kinds.HttpTrouble, "api", label)
    try:
        if trouble is not None and trouble.spec.delay_s:
            await asyncio.sleep(trouble.spec.delay_s)
    finally:
        call.settle(answer)
    if trouble is not None and trouble.spec.lose_answer:
        return doors.cut_off(request)
    if answer.status == 204:
        return web.Response(status=204)
    garbled = relay.faults.take_http(kinds.GarbleHttp, "api", label)
    if garbled is not None:
        return respond(200, msgspec.Raw(garbled.spec.body.encode()), {})
    told = {"ok": True} if answer.data is None else {"ok": True, "data": answer.data}
    return respond(answer.status, told, answer.headers)


async def refused(
    relay: Relay, request: web.Request, route: kinds.Route, label: str | None
) -> web.StreamResponse | None:
    """The answer that some fault wants instead of the request being done."""
    trouble = await doors.request_trouble(relay, request, route, label)
    if trouble is not None:
        if not trouble.status:
            return doors.cut_off(request)
        return failure(trouble.status, trouble.code or "unavailable", trouble.message or "refused", trouble.headers)
    limit = relay.faults.take_http(kinds.RateLimit, route, label)
    if limit is None:
        return None
    wait_s = limit.spec.retry_after_s
    headers = {} if wait_s is None else {"Retry-After": f"{wait_s:g}"}
    headers |= {
        "X-RateLimit-Limit": str(limit.spec.limit),
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int(relay.clock.server_s() + (wait_s or 0))),
    }
    return failure(429, "rate_limit_exceeded", "Too many requests", headers)


def _authenticate(relay: Relay, request: web.Request, need: Need) -> tuple[Workspace | None, Agent | None]:
    if need == "nobody":
        return None, None
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        raise ApiError(401, "unauthorized", "Missing or invalid Authorization header")
    kind = token_kind(token)
    if kind == "at":
        agent = relay.directory.agent_by_token(token)
        if agent is not None and relay.faults.take(kinds.TokenExpiry, agent.label) is None:
            if need == "workspace":
                raise ApiError(403, "workspace_key_required", "A workspace key is required")
            return agent.workspace, agent
    elif kind == "rk":
        workspace = relay.directory.workspace_by_key(token)
        if workspace is not None:
            if need == "agent":
                raise ApiError(403, "agent_token_required", "An agent token is required")
            return workspace, None
    raise ApiError(401, "invalid_token", "Unknown token")


def failure(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """The envelope of an error."""
    return respond(status, {"ok": False, "error": {"code": code, "message": message}}, headers or {})


def respond(status: int, told: Any, headers: dict[str, str]) -> web.Response:
    """A JSON answer."""
    return web.Response(status=status, body=msgspec.json.encode(told), content_type="application/json", headers=headers)

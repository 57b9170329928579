"""What each Relayfile request does (wire: relayfile §4, §5), one function each; who may, and in which order that is checked, is `api`'s."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from syncwatch.relay.relayfile import feed
from syncwatch.relay.relayfile.routes import Target
from syncwatch.relay.relayfile.tokens import Holder, Refusal, forbidden
from syncwatch.relay.relayfile.tree import Content, Operation, path_of, provider_of, revision_of

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay

MAX_BODY = 1024 * 1024
B = TypeVar("B")


class Reply(NamedTuple):
    """An answer before it is an HTTP response. `page` is the fact about a page of the feed."""

    status: int
    body: Any
    headers: dict[str, str] = {}  # noqa: RUF012  (never changed)
    page: dict[str, Any] | None = None


class BulkFile(msgspec.Struct, rename="camel"):
    """One file of a bulk write."""

    path: str = ""
    content_type: str = ""
    content: str = ""
    encoding: str | None = None


class Bulk(msgspec.Struct):
    """A bulk write."""

    files: list[BulkFile]


class Ingest(msgspec.Struct):
    """What a provider sends."""

    provider: str
    event_type: str = ""
    path: str = "/"
    delivery_id: str = ""
    data: dict[str, Any] = {}


class Ack(msgspec.Struct):
    """What became of an operation."""

    success: bool = False
    error: str = ""


class Asked:
    """One request that passed the checks."""

    def __init__(
        self, relay: Relay, request: web.Request, target: Target, holder: Holder, correlation_id: str, raw: bytes
    ) -> None:
        self.relay = relay
        self.files = relay.files
        self.request = request
        self.target = target
        self.workspace = target.workspace
        self.holder = holder
        self.correlation_id = correlation_id
        self._raw = raw

    @property
    def path(self) -> str:
        """The path in the query.

        Raises:
            Refusal: 400.
        """
        return path_of(self.request.query.get("path", ""))

    @property
    def if_match(self) -> str:
        """The precondition; empty without one."""
        return self.request.headers.get("If-Match", "")

    def body(self, kind: type[B]) -> B:
        """The request's body.

        Raises:
            Refusal: 400, 413.
        """
        if len(self._raw) > MAX_BODY:
            raise Refusal(413, "payload_too_large", f"request body exceeds {MAX_BODY} bytes")
        try:
            return msgspec.json.decode(self._raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise Refusal(400, "bad_request", "invalid json body") from problem


# Routes


def events(asked: Asked) -> Reply:
    """`GET fs/events`."""
    query = feed.query(asked.request.query)
    found = feed.page(asked.files.log, asked.workspace, query)
    fact = {
        "epoch": asked.files.log.epoch,
        "cursor": query.cursor,
        "limit": query.limit,
        "direction": query.direction,
        "provider": query.provider,
        "numbers": tuple(entry.number for entry in found.entries),
        "next_cursor": found.next_cursor,
        "known": found.known,
    }
    told = {"events": [feed.told(entry) for entry in found.entries], "nextCursor": found.next_cursor}
    return Reply(200, told, page=fact)


def write_file(asked: Asked) -> Reply:
    """`PUT fs/file`."""
    path = asked.path
    if not revision_of(asked.if_match):
        raise Refusal(412, "precondition_failed", "missing If-Match header")
    made = asked.files.write(
        asked.workspace, path, asked.body(Content), if_match=asked.if_match, correlation_id=asked.correlation_id
    )
    return Reply(202, _queued(made))


def delete_file(asked: Asked) -> Reply:
    """`DELETE fs/file`."""
    made = asked.files.delete(asked.workspace, asked.path, if_match=asked.if_match, correlation_id=asked.correlation_id)
    return Reply(202, _queued(made))


def read_file(asked: Asked) -> Reply:
    """`GET fs/file`."""
    file = asked.files.tree(asked.workspace).read(asked.path)
    told: dict[str, Any] = {
        "path": file.path,
        "revision": file.revision,
        "contentHash": file.content_hash,
        "contentType": file.content_type,
        "content": file.content,
        "encoding": file.encoding,
        "provider": file.provider,
        "lastEditedAt": file.edited,
        "semantics": file.semantics,
    }
    if not file.encoding:
        del told["encoding"]
    return Reply(200, told, {"ETag": file.revision})


def bulk(asked: Asked) -> Reply:
    """`POST fs/bulk`: no preconditions, and events without a correlation id."""
    results: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for one in asked.body(Bulk).files:
        try:
            if not asked.holder.scopes.allows("fs:write", path_of(one.path)):
                raise forbidden("missing required scope: fs:write")
            made = asked.files.write(asked.workspace, one.path, Content(one.content, one.content_type, one.encoding))
        except Refusal as refusal:
            errors.append({"path": one.path, "code": refusal.code, "message": refusal.message})
            continue
        file = asked.files.tree(asked.workspace).read(made.path)
        results.append(
            {
                "path": made.path,
                "revision": made.revision,
                "contentType": file.content_type,
                "opId": made.id,
                "writeback": {"provider": made.provider, "state": "pending"},
            }
        )
    told = {
        "written": len(results),
        "errorCount": len(errors),
        "errors": errors,
        "results": results,
        "correlationId": asked.correlation_id,
    }
    return Reply(202, told)


def sync_status(asked: Asked) -> Reply:
    """`GET sync/status`."""
    return Reply(200, asked.files.sync_status(asked.workspace))


def sync_ingress(asked: Asked) -> Reply:
    """`GET sync/ingress`: this server works everything off at once."""
    taken = sum(entry.origin == "provider_sync" for entry in asked.files.log.entries(asked.workspace))
    told = {"workspaceId": asked.workspace, "queueDepth": 0, "queueCapacity": 1024, "pendingTotal": 0}
    return Reply(200, told | {"deadLetterTotal": 0, "acceptedTotal": taken, "droppedTotal": 0})


def ingest(asked: Asked) -> Reply:
    """`POST webhooks/ingest`: file events change files, `sync.*` are published as they are, all else is ignored."""
    body = asked.body(Ingest)
    provider = body.provider.strip().lower()
    if not provider:
        raise Refusal(400, "bad_request", "invalid input")
    told: dict[str, str] = {"origin": "provider_sync", "provider": provider, "correlation_id": asked.correlation_id}
    if body.event_type in ("file.created", "file.updated"):
        asked.files.write(asked.workspace, body.path, str(body.data.get("content", "")), **told)
    elif body.event_type == "file.deleted" and path_of(body.path) in asked.files.tree(asked.workspace).files:
        asked.files.delete(asked.workspace, body.path, **told)
    elif body.event_type == "sync.stale":
        asked.files.push(asked.workspace, body.event_type, path_of(body.path), **told)
    else:
        kind = body.event_type if body.event_type in ("sync.error", "sync.suppressed") else "sync.ignored"
        asked.files.push(asked.workspace, kind, **told)
    number = asked.files.log.events
    return Reply(202, {"id": f"env_{number}", "status": "queued", "correlationId": asked.correlation_id})


def operation(asked: Asked) -> Reply:
    """`GET ops/{opId}`."""
    return Reply(200, _described(_operation(asked)))


def acknowledge(asked: Asked) -> Reply:
    """`POST writeback/{opId}/ack`: no event, as in the default mode of the real server."""
    made, body = _operation(asked), asked.body(Ack)
    done = msgspec.structs.replace(made, status="succeeded" if body.success else "dead_lettered")
    asked.files.tree(asked.workspace).operations[made.id] = done
    return Reply(200, {"status": "acknowledged", "id": made.id, "correlationId": asked.correlation_id})


def backends(asked: Asked) -> Reply:
    """`GET /v1/admin/backends`."""
    pending = sum(
        one.status == "queued"
        for workspace in asked.files.log.workspaces()
        for one in asked.files.tree(workspace).operations.values()
    )
    told = {"backendProfile": "memory", "envelopeQueueDepth": 0, "envelopeQueueCapacity": 1024}
    return Reply(200, told | {"writebackQueueDepth": pending, "writebackQueueCapacity": 1024})


HANDLERS: dict[tuple[str, str], Callable[[Asked], Reply]] = {
    ("GET", "fs/events"): events,
    ("PUT", "fs/file"): write_file,
    ("GET", "fs/file"): read_file,
    ("DELETE", "fs/file"): delete_file,
    ("POST", "fs/bulk"): bulk,
    ("GET", "sync/status"): sync_status,
    ("GET", "sync/ingress"): sync_ingress,
    ("POST", "webhooks/ingest"): ingest,
    ("GET", "ops"): operation,
    ("POST", "writeback/ack"): acknowledge,
    ("GET", "admin/backends"): backends,
}


def _operation(asked: Asked) -> Operation:
    made = asked.files.tree(asked.workspace).operations.get(asked.target.part)
    if made is None:
        raise Refusal(404, "not_found", "not found")
    return made


def _described(made: Operation) -> dict[str, Any]:
    return {
        "opId": made.id,
        "path": made.path,
        "revision": made.revision,
        "action": made.action,
        "provider": made.provider,
        "status": made.status,
        "attemptCount": 0,
        "lastError": None,
        "correlationId": made.correlation_id,
    }


def _queued(made: Operation) -> dict[str, Any]:
    return {
        "opId": made.id,
        "status": "queued",
        "targetRevision": made.revision,
        "writeback": {"provider": provider_of(made.path), "state": "pending"},
    }

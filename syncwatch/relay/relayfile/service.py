"""Relayfile put together: files, log and listeners of every workspace; the verbs that HTTP and tests use alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from syncwatch.relay import kinds
from syncwatch.relay.clock import ServerClock
from syncwatch.relay.events import Frame
from syncwatch.relay.injector import Injector
from syncwatch.relay.ledger import Ledger
from syncwatch.relay.logfacts import LogRestarted, Published
from syncwatch.relay.relayfile import frames, keys, tokens
from syncwatch.relay.relayfile.kept import Kept
from syncwatch.relay.relayfile.log import Entry, Log, timestamp
from syncwatch.relay.relayfile.rate import RateLimiter
from syncwatch.relay.relayfile.tokens import Holder, Refusal
from syncwatch.relay.relayfile.tree import Content, File, Operation, Tree, decoded, hashed, path_of, provider_of

EVERYTHING = ("fs:read", "fs:write", "sync:read", "sync:trigger", "ops:read", "admin:read")
LIFETIME_S = 24 * 3600.0


class Listener(Protocol):
    """A stream as publishing sees it."""

    def published(self, entry: Entry, frame: Frame) -> None:
        """Take an event, now."""


class Files:
    """The Relayfile side of a relay."""

    def __init__(self, ledger: Ledger, clock: ServerClock, faults: Injector, kept: Kept | None = None) -> None:
        self.ledger = ledger
        self.clock = clock
        self.faults = faults
        self.log = Log()
        self.rate: RateLimiter | None = None
        """Off by default, as on the real server."""
        self.listeners: dict[str, tuple[Listener, ...]] = {}
        self._trees: dict[str, Tree] = {}
        self._accepted: dict[str, Holder] = {}
        self._kept = kept
        for workspace, file in () if kept is None else kept.load(self.log):
            self.tree(workspace).files[file.path] = file

    # Tokens

    def token(
        self,
        workspace: str,
        scopes: Iterable[str] = EVERYTHING,
        *,
        subject: str = "tester",
        lifetime_s: float = LIFETIME_S,
        header: dict[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """A signed token. `header` and `changes` replace fields of its header and claims (None leaves one out)."""
        told = tokens.claims(workspace, subject, scopes, self.clock.now_s() + lifetime_s) | changes
        head = {"alg": "RS256", "typ": "JWT", "kid": keys.KID} | (header or {})
        return tokens.sign(
            keys.private_key(),
            {name: value for name, value in head.items() if value is not None},
            {name: value for name, value in told.items() if value is not None},
        )

    def accept(
        self,
        token: str,
        workspace: str,
        scopes: Iterable[str] = EVERYTHING,
        *,
        subject: str = "tester",
        lifetime_s: float = LIFETIME_S,
    ) -> str:
        """Let a fixed text be a token too: no signature, no key; it is returned."""
        told = tokens.claims(workspace, subject, scopes, self.clock.now_s() + lifetime_s)
        self._accepted[token] = tokens.holder(told, self.clock.now_s())
        return token

    def revoke(self, token: str) -> None:
        """A fixed token is no token any more."""
        self._accepted.pop(token, None)

    def holder(self, token: str) -> Holder:
        """Whom a token speaks for.

        Raises:
            Refusal: 401, 403, 503 while the key server is down.
        """
        if self.faults.take(kinds.KeysDown, protocol="relayfile") is not None:
            raise Refusal(503, "unavailable", "jwks unreachable")
        known = self._accepted.get(token)
        if known is None:
            known = tokens.read(token, keys.public_key, self.clock.server_s())
        elif self.clock.server_s() >= known.expires_s:
            raise tokens.unauthorized("token expired")
        if self.faults.take(kinds.TokenExpiry, known.workspace, "relayfile") is not None:
            raise tokens.unauthorized("token expired")
        return known

    def limited(self, holder: Holder, route: kinds.Route) -> float | None:
        """Whether this request is one too many: then after how many seconds to try again (0: that is not told)."""
        fault = self.faults.take_http(kinds.RateLimit, route, holder.workspace, "relayfile")
        if fault is not None:
            return fault.spec.retry_after_s or 0.0
        if self.rate is None or self.rate.allows(holder.workspace, holder.subject, self.clock.now_s()):
            return None
        return self.rate.window_s

    # Files

    def tree(self, workspace: str) -> Tree:
        """The files of a workspace; any name will do."""
        return self._trees.setdefault(workspace, Tree())

    def write(
        self,
        workspace: str,
        path: str,
        content: str | Content = "",
        *,
        if_match: str = "*",
        correlation_id: str = "",
        origin: str = "agent_write",
        provider: str = "",
    ) -> Operation:
        """Write a file and publish its event.

        Raises:
            Refusal: 400, 404, 409, 412.
        """
        path, new = path_of(path), Content(content) if isinstance(content, str) else content
        tree, data = self.tree(workspace), decoded(new)
        tree.check(path, if_match)
        kind = "file.updated" if path in tree.files else "file.created"
        revision, at_s = self.log.next_revision(), self.clock.server_s()
        tree.files[path] = file = File(
            path,
            revision,
            hashed(data),
            new.content_type or "text/markdown",
            new.content,
            "base64" if (new.encoding or "").lower() == "base64" else "",
            provider or provider_of(path),
            timestamp(at_s),
            new.semantics,
        )
        self._keep(workspace, path, file)
        self._publish(
            workspace, kind, path, at_s, revision=revision, content_hash=file.content_hash, origin=origin,
            provider=file.provider, correlation_id=correlation_id,
        )  # fmt: skip
        return self._operation(tree, path, revision, "file_upsert", file.provider, correlation_id)

    def delete(
        self,
        workspace: str,
        path: str,
        *,
        if_match: str = "*",
        correlation_id: str = "",
        origin: str = "agent_write",
        provider: str = "",
    ) -> Operation:
        """Delete a file and publish its event.

        Raises:
            Refusal: 400, 404, 409, 412.
        """
        path, tree = path_of(path), self.tree(workspace)
        tree.check(path, if_match)
        tree.read(path)
        del tree.files[path]
        self._keep(workspace, path, None)
        revision, who = self.log.next_revision(), provider or provider_of(path)
        self._publish(
            workspace, "file.deleted", path, self.clock.server_s(), revision=revision, origin=origin, provider=who,
            correlation_id=correlation_id,
        )  # fmt: skip
        return self._operation(tree, path, revision, "file_delete", who, correlation_id)

    def push(self, workspace: str, kind: str, path: str = "/", **fields: Any) -> Entry:
        """Publish an event of any kind, such as `sync.error`; `fields` are those of `log.Log.append`.

        `relayfile.changed` and `relayfile.changed.summary` travel in a hosted stream's envelope.
        """
        fields.setdefault("origin", "system" if kind.startswith("writeback.") else "provider_sync")
        return self._publish(workspace, kind, path, self.clock.server_s(), **fields)

    def oversize(self, workspace: str, size_bytes: int) -> Entry:
        """Publish an event whose frame is about this long, now and in every catch-up."""
        return self.push(workspace, "file.updated", "/relay/oversized", provider="relay", padding=size_bytes)

    def _keep(self, workspace: str, path: str, file: File | None) -> None:
        if self._kept is not None:
            self._kept.file(workspace, path, file)

    def _operation(
        self, tree: Tree, path: str, revision: str, action: str, provider: str, correlation: str
    ) -> Operation:
        made = Operation(self.log.next_operation(), path, revision, action, provider, correlation)
        tree.operations[made.id] = made
        if self._kept is not None:
            self._kept.counters(self.log)
        return made

    # Events

    def frame(self, workspace: str, entry: Entry) -> Frame:
        """An event as it would be sent now."""
        file = self.tree(workspace).files.get(entry.path)
        return Frame(entry.number, entry.kind, entry.id, frames.event(entry, file))

    def _publish(self, workspace: str, kind: str, path: str, at_s: float, **fields: Any) -> Entry:
        entry = self.log.append(workspace, kind, path, at_s, **fields)
        if self._kept is not None:
            self._kept.event(workspace, entry)
            self._kept.counters(self.log)
        self.ledger.add(
            Published,
            protocol="relayfile",
            epoch=self.log.epoch,
            workspace=workspace,
            number=entry.number,
            id=entry.id,
            kind=kind,
            path=path,
            provider=entry.provider,
            correlation_id=entry.correlation_id,
            timestamp=entry.timestamp,
        )
        listeners = self.listeners.get(workspace, ())
        if listeners:
            frame = self.frame(workspace, entry)
            # The tuple is replaced, never changed: a stream that a fault drops right here does not disturb the loop.
            for listener in listeners:
                listener.published(entry, frame)
        return entry

    def listen(self, workspace: str, listener: Listener) -> None:
        """Give every event from now on to a stream."""
        self.listeners[workspace] = (*self.listeners.get(workspace, ()), listener)

    def leave(self, workspace: str, listener: Listener) -> None:
        """Give it nothing more."""
        self.listeners[workspace] = tuple(one for one in self.listeners.get(workspace, ()) if one is not listener)

    def restart(self, *, durable: bool) -> None:
        """What the process forgets: in memory everything; with a durable backend nothing but its listeners."""
        self.listeners.clear()
        if not durable:
            self.log.clear()
            self._trees.clear()
            if self._kept is not None:
                self._kept.clear()
        self.ledger.add(LogRestarted, epoch=self.log.epoch, durable=durable)

    # Pictures

    def sync_status(self, workspace: str) -> dict[str, Any]:
        """`sync/status`: every provider that the workspace has heard of (wire: relayfile §5)."""
        told: dict[str, dict[str, Any]] = {}
        for entry in self.log.entries(workspace):
            if not entry.provider:
                continue
            one = told.setdefault(
                entry.provider,
                {
                    "provider": entry.provider,
                    "status": "healthy",
                    "cursor": "",
                    "watermarkTs": "",
                    "lastError": None,
                    "failureCodes": {},
                    "deadLetteredOps": 0,
                },
            )
            if entry.origin == "provider_sync":
                failed = entry.kind == "sync.error"
                one |= {
                    "status": "error" if failed else "healthy",
                    "cursor": entry.id,
                    "watermarkTs": entry.timestamp,
                    "lastError": "provider sync failed" if failed else None,
                }
                if failed:
                    one["failureCodes"] = {"unknown": one["failureCodes"].get("unknown", 0) + 1}
        return {"workspaceId": workspace, "providers": list(told.values())}

    def summary(self) -> list[dict[str, Any]]:
        """Totals per workspace."""
        return [
            {
                "workspace": name,
                "epoch": self.log.epoch,
                "events": len(self.log.entries(name)),
                "newest": self.log.entries(name)[-1].id if self.log.entries(name) else None,
                "files": len(self.tree(name).files),
                "streams": len(self.listeners.get(name, ())),
            }
            for name in self.log.workspaces()
        ]

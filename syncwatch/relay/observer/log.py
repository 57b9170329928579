"""The durable log of a workspace's events: one `seq` per event, kept in the database, never lost by a restart (wire: relaycast §12)."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec

from syncwatch.relay import kinds
from syncwatch.relay.clock import ServerClock, iso
from syncwatch.relay.events import Event
from syncwatch.relay.injector import Injector
from syncwatch.relay.ledger import Ledger
from syncwatch.relay.logfacts import Published
from syncwatch.relay.observer.tokens import Observer, Seen
from syncwatch.relay.state import Workspace
from syncwatch.relay.store import DatabaseError, Store

EPOCH = 1
"""The log outlives every restart."""
CHUNK = 500


class Sink(Protocol):
    """An observer's socket as publishing sees it."""

    observer: Observer

    def published(self, event: Event, seen: Seen, seq: int | None) -> None:
        """Take an event, now."""


class LogPage(NamedTuple):
    """A page of the log, as one observer sees it."""

    events: list[dict[str, Any]]
    latest_seq: int
    next_since: int


class EventLog:
    """All workspaces' logs, and who listens to them."""

    def __init__(self, store: Store, ledger: Ledger, clock: ServerClock, faults: Injector) -> None:
        self.ledger = ledger
        self.clock = clock
        self._store = store
        self._faults = faults
        self._sinks: dict[int, tuple[Sink, ...]] = {}

    def publish(self, workspace: Workspace, event: Event) -> None:
        """Number an event, keep it, hand it to every observer; one that could not be kept has no number."""
        seen = _seen(workspace, event)
        seq = self._append(workspace, event, seen)
        self.ledger.add(
            Published,
            protocol="observer",
            epoch=EPOCH,
            workspace=workspace.name,
            number=seq,
            id=event.key,
            kind=event.kind,
            path=seen.channel or "",
            provider="",
            correlation_id="",
            timestamp=self.clock.iso_ms(),
        )
        for sink in self._sinks.get(workspace.id, ()):
            sink.published(event, seen, seq)

    def _append(self, workspace: Workspace, event: Event, seen: Seen) -> int | None:
        if self._faults.take(kinds.LogFailing) is not None:
            return None
        try:
            seq = self.latest(workspace) + 1
            self._store.run(
                "INSERT INTO workspace_events VALUES (?, ?, ?, ?, ?, ?, ?)",
                workspace.id,
                seq,
                event.kind,
                seen.channel_id,
                seen.channel,
                event.plain(),
                self.clock.server_s(),
            )
        except DatabaseError:
            return None
        return seq

    def latest(self, workspace: Workspace) -> int:
        """The newest `seq`, 0 in an empty log."""
        sql = "SELECT coalesce(max(seq), 0) FROM workspace_events WHERE workspace_id = ?"
        return int(self._store.row(sql, workspace.id)[0])

    def page(self, workspace: Workspace, observer: Observer | None, since: int, limit: int) -> LogPage:
        """Up to `limit` events after `since` that an observer sees (None: the workspace itself).

        Hidden rows are passed over without being counted; `next_since` is the last row looked at.
        """
        events: list[dict[str, Any]] = []
        next_since, latest = since, self.latest(workspace)
        while len(events) < limit and next_since < latest:
            sql = (
                "SELECT seq, type, channel_id, channel, payload, created_at FROM workspace_events "
                "WHERE workspace_id = ? AND seq > ? ORDER BY seq LIMIT ?"
            )
            for seq, kind, channel_id, channel, payload, created_at in self._store.rows(
                sql, workspace.id, next_since, CHUNK
            ):
                next_since = seq
                if observer is not None and not observer.sees(Seen(kind, channel, channel_id)):
                    continue
                row = {"seq": seq, "type": kind, "channel_id": channel_id, "payload": msgspec.Raw(payload)}
                events.append(row | {"created_at": iso(created_at)})
                if len(events) == limit:
                    break
        return LogPage(events, latest, next_since)

    def attach(self, sink: Sink) -> None:
        """Give every event from now on to a socket."""
        ident = sink.observer.workspace.id
        self._sinks[ident] = (*self._sinks.get(ident, ()), sink)

    def detach(self, sink: Sink) -> None:
        """Give it nothing more."""
        ident = sink.observer.workspace.id
        self._sinks[ident] = tuple(one for one in self._sinks.get(ident, ()) if one is not sink)

    def restart(self) -> None:
        """What the process forgets: who listens."""
        self._sinks.clear()


class _Channelled(msgspec.Struct):
    """The parts of an event that say which channel it belongs to."""

    channel: str | dict[str, Any] | None = None
    channel_id: str | None = None


def _seen(workspace: Workspace, event: Event) -> Seen:
    """What filters look at. A channel that is described rather than named gives its name, but no id."""
    told = msgspec.json.decode(event.plain(), type=_Channelled)
    if isinstance(told.channel, dict):
        return Seen(event.kind, str(told.channel.get("name", "")), told.channel_id)
    known = workspace.channels.get(told.channel or "")
    if told.channel is None and told.channel_id is not None:
        name = next((c.name for c in workspace.channels.values() if str(c.id) == told.channel_id), None)
        return Seen(event.kind, name, told.channel_id)
    return Seen(event.kind, told.channel, told.channel_id or (str(known.id) if known else None))

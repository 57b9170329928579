"""How a resync is answered (wire: relaycast §5), and how faults disturb that.

The ring's burst, the database's rows, the acknowledgement last.
"""

from __future__ import annotations

from syncwatch.relay import events, kinds, resync
from syncwatch.relay.connection import Connection
from syncwatch.relay.events import Event
from syncwatch.relay.ledger import Request
from syncwatch.relay.resync import Resync
from syncwatch.relay.state import Agent
from syncwatch.relay.store import DatabaseError, Store


def rows_since(store: Store, agent_id: int, since: str) -> list[Event]:
    """What the database has for an agent since a time as the client wrote it, oldest second first.

    An unreadable time yields nothing, and so does a database that fails: the server swallows both.
    """
    after_s = resync.floor_s(since)
    if after_s is None:
        return []
    try:
        dated: list[tuple[int, Event]] = []
        for row in store.replay_channels(agent_id, after_s):
            said = events.message_created(row, replayed=True) if row.thread_id is None else events.thread_reply(row)
            dated.append((row.created_at, said))
        for row, group in store.replay_conversations(agent_id, after_s):
            dated.append((row.created_at, events.dm_received(row, group=group, replayed=True)))
        for reaction in store.replay_reactions(agent_id, after_s):
            said = events.message_reacted(reaction.message_id, reaction.emoji, reaction.agent_name, "added")
            dated.append((reaction.created_at, said))
    except DatabaseError:
        return []
    # A stable sort by second: within one, messages before direct messages before reactions.
    return [said for _, said in sorted(dated, key=lambda pair: pair[0])]


class Replay:
    """The answer to one request on one connection."""

    def __init__(self, connection: Connection, agent: Agent, store: Store, request: Resync) -> None:
        self._connection = connection
        self._agent = agent
        self._store = store
        self._request = request
        self._cut = connection.faults.take(kinds.CutReplay, agent.label)
        self._early = connection.faults.take(kinds.EarlyAck, agent.label) is not None
        self._ring = resync.from_ring(agent, request.last_seen_seq)
        self._asks_store = self._ring.gap and request.since is not None
        self._rows: list[Event] | None = None
        self._sent = 0

    def run(self) -> None:
        """Send it. Only a slow database makes this return before the end."""
        if self._early:
            self._ack(len(self._ring.frames) + len(self._load()))
        with self._connection.corked():
            for frame in self._ring.frames:
                if not self._may_send():
                    break
                self._connection.event(frame, "ring")
        slow = self._connection.faults.take(kinds.SlowDatabase, self._agent.label) if self._asks_store else None
        if slow is not None:
            self._connection.later(slow.delay_s, self._finish)
        else:
            self._finish()

    def _finish(self) -> None:
        rows = self._load()
        with self._connection.corked():
            for row in rows:
                if not self._may_send():
                    break
                self._connection.row(row)
        if self._cut is not None and self._cut.then == "drop":
            self._connection.drop()
        elif not self._early and (self._cut is None or self._cut.then == "ack"):
            claims_all = self._cut is None or self._cut.claim == "all"
            self._ack(len(self._ring.frames) + len(rows) if claims_all else self._sent)

    def _may_send(self) -> bool:
        if not self._connection.open or (self._cut is not None and self._sent >= self._cut.after):
            return False
        self._sent += 1
        return True

    def _load(self) -> list[Event]:
        if self._rows is None:
            asks = self._asks_store and self._request.since is not None
            self._rows = rows_since(self._store, self._agent.id, self._request.since or "") if asks else []
        return self._rows

    def _ack(self, replayed: int) -> None:
        faults, label = self._connection.faults, self._agent.label
        if faults.take(kinds.NoAck, label) is not None:
            return
        fields = resync.ack(self._request.last_seen_seq, self._agent.counter, replayed, self._ring.gap)
        wrong = faults.take(kinds.WrongAck, label)
        if wrong is not None:
            fields = {name: value for name, value in (fields | wrong.fields).items() if value is not None}
        self._connection.ack(fields)


def answer(connection: Connection, agent: Agent, store: Store, request: Resync) -> None:
    """Heed a resync request."""
    connection.hub.ledger.add(
        Request, connection=connection.id, agent=agent.label, last_seen_seq=request.last_seen_seq, since=request.since
    )
    stall = connection.faults.find(kinds.Stall, agent.label)
    if stall is None or stall.spec.answer_resyncs:
        Replay(connection, agent, store, request).run()

"""The ledger of facts: what the relay did, in order, and nothing about what it means.

Facts, never verdicts: no "lost", no "missed", no "duplicate". Whoever folds the facts decides that. The ledger is
bounded; what it forgot is counted in `forgotten`, so a reader knows when it no longer has the whole story.

Two counts are easily confused. `at` is a fact's place in the ledger (1, 2, 3, … over the life of the relay); `position`
is a data frame's place on its connection (1, 2, 3, …, counting events, acknowledgements, pongs and injected frames
alike).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

DEFAULT_CAP = 400_000


class Fact(msgspec.Struct, frozen=True, gc=False, tag_field="fact", kw_only=True):
    """Something that happened, at `time_s` (true wall seconds, untouched by clock faults)."""

    at: int
    time_s: float


class Pushed(Fact, tag="pushed", frozen=True, gc=False):
    """An event was given a number for an agent and put into its ring, whether or not a socket was open.

    `key` is the event's own identity: its `id`, else its `delivery_id`, else `#` and a digest of its content without
    stamps.
    """

    epoch: int
    agent: str
    number: int
    kind: str
    key: str

    @property
    def id(self) -> str | None:
        """The id the frame carries, or None for an event without one."""
        return None if self.key.startswith("#") else self.key


class Sent(Fact, tag="sent", frozen=True, gc=False):
    """An event frame was handed to a connection's transport.

    `origin` is `live`, `ring` or `store`; `number` is None for `store`. Frames that are held back (frozen, delayed,
    reordered) are recorded when they are really written, not before.
    """

    connection: int
    position: int
    agent: str
    epoch: int
    number: int | None
    kind: str
    key: str
    origin: str

    @property
    def id(self) -> str | None:
        """The id the frame carries, or None for an event without one."""
        return None if self.key.startswith("#") else self.key


class Streamed(Fact, tag="streamed", frozen=True, gc=False):
    """An event was sent to a workspace's own socket, which has no numbers."""

    connection: int
    position: int
    kind: str
    key: str


class Request(Fact, tag="request", frozen=True, gc=False):
    """A resync request the server heeds."""

    connection: int
    agent: str
    last_seen_seq: int | float
    since: str | None


class Ack(Fact, tag="ack", frozen=True, gc=False):
    """A `resync_ack` was sent; `fields` are its fields exactly as sent, faults included."""

    connection: int
    position: int
    agent: str
    epoch: int
    fields: dict[str, Any]


class Pong(Fact, tag="pong", frozen=True, gc=False):
    """An application pong was sent."""

    connection: int
    position: int


class Injected(Fact, tag="injected", frozen=True, gc=False):
    """A raw frame was sent; `head` is its first 200 bytes, undecodable ones replaced."""

    connection: int
    position: int
    opcode: int
    size: int
    head: str


class Received(Fact, tag="received", frozen=True, gc=False):
    """A client's frame other than a resync the server heeds; `kind` is its type, or `binary`, `invalid`."""

    connection: int
    kind: str


class Opened(Fact, tag="opened", frozen=True, gc=False):
    """A WebSocket was accepted. `agent` is empty for a workspace's own socket."""

    connection: int
    agent: str
    epoch: int


class Closed(Fact, tag="closed", frozen=True, gc=False):
    """A WebSocket ended.

    `how`: `closed` (close frames; `code` and `reason` are the first side's), `dropped` (end of stream without a close
    frame), `reset` (RST), `lost` (the client was gone without a word). `by`: `client` or `relay`. `frames` data frames
    were written; `flushed` of them had left the relay's buffer.
    """

    connection: int
    agent: str
    how: str
    by: str
    code: int | None
    reason: str
    frames: int
    flushed: int


class Refused(Fact, tag="refused", frozen=True, gc=False):
    """An upgrade was not accepted. `status` 0: the connection was closed, or left hanging, without an answer."""

    agent: str
    status: int
    why: str


class Restarted(Fact, tag="restarted", frozen=True, gc=False):
    """Counters, rings, channel counters and presence were cleared; rows were kept. `epoch` is the new one."""

    epoch: int


class Fault(Fact, tag="fault", frozen=True, gc=False):
    """A fault `began`, `fired` (did something once) or `ended`."""

    fault_id: int
    name: str
    change: str


F = TypeVar("F", bound=Fact)


class Tally:
    """Running totals of one agent; they do not forget when the ledger does."""

    __slots__ = ("live", "pushed", "ring", "store")

    def __init__(self) -> None:
        self.pushed = 0
        self.live = 0
        self.ring = 0
        self.store = 0


class Ledger:
    """Facts in order, the newest `cap` of them."""

    def __init__(self, now_s: Callable[[], float], cap: int = DEFAULT_CAP) -> None:
        self._now_s = now_s
        self._cap = cap
        self._facts: list[Fact] = []
        self.forgotten = 0
        self.tallies: dict[str, Tally] = {}

    def __len__(self) -> int:
        return len(self._facts)

    @property
    def last(self) -> int:
        """The newest fact's place."""
        return self.forgotten + len(self._facts)

    def after(self, at: int = 0, limit: int | None = None) -> list[Fact]:
        """Facts with a place above `at`, oldest first."""
        start = max(0, at - self.forgotten)
        return self._facts[start : None if limit is None else start + limit]

    def of(self, kind: type[F], agent: str | None = None, after: int = 0) -> list[F]:
        """Facts of one kind, oldest first; of one agent where the kind has an agent."""
        return [
            f
            for f in self.after(after)
            if isinstance(f, kind) and (agent is None or getattr(f, "agent", None) == agent)
        ]

    def tally(self, agent: str) -> Tally:
        """The running totals of an agent."""
        found = self.tallies.get(agent)
        if found is None:
            found = self.tallies[agent] = Tally()
        return found

    def add(self, made: type[F], /, **fields: Any) -> F:
        """Record a fact now."""
        fact = made(at=self.last + 1, time_s=self._now_s(), **fields)
        self._keep(fact)
        return fact

    def pushed(self, epoch: int, agent: str, number: int, kind: str, key: str) -> None:
        """Record a push (the hot path has no keyword dictionary)."""
        self.tally(agent).pushed += 1
        self._keep(
            Pushed(at=self.last + 1, time_s=self._now_s(), epoch=epoch, agent=agent, number=number, kind=kind, key=key)
        )

    def sent(
        self,
        connection: int,
        position: int,
        agent: str,
        epoch: int,
        number: int | None,
        kind: str,
        key: str,
        origin: str,
    ) -> None:
        """Record an event frame handed to a transport."""
        tally = self.tally(agent)
        setattr(tally, origin, getattr(tally, origin) + 1)
        self._keep(
            Sent(
                at=self.last + 1,
                time_s=self._now_s(),
                connection=connection,
                position=position,
                agent=agent,
                epoch=epoch,
                number=number,
                kind=kind,
                key=key,
                origin=origin,
            )
        )

    def _keep(self, fact: Fact) -> None:
        facts = self._facts
        facts.append(fact)
        if len(facts) > self._cap:
            # Forget in chunks: dropping one fact per fact would move the whole list each time.
            chunk = max(1, self._cap // 10)
            del facts[:chunk]
            self.forgotten += chunk

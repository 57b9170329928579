"""Simulated time and a simulated network: latency, freezes, drops at frame boundaries, doors that refuse or hang.

What belongs here: when bytes arrive, or that they do not. What they mean is the relay's and the client's business.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from tests.simulation.harness.facts import Arrived, Closed, Frame, Ledger, Opened, Sent

Action = Callable[[], None]


class Timeline:
    """A clock that only moves from one planned action to the next; ties run in the order in which they were planned."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Action]] = []
        self._order = 0

    def at(self, when: float, action: Action) -> None:
        """Plan `action`; a time in the past means now."""
        self._order += 1
        heapq.heappush(self._heap, (max(when, self.now), self._order, action))

    def after(self, delay_s: float, action: Action) -> None:
        """Plan `action` in `delay_s` seconds."""
        self.at(self.now + delay_s, action)

    @property
    def next(self) -> float:
        """When the next action is due; inf when there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def step(self) -> None:
        """Run the next action at its time."""
        when, _, action = heapq.heappop(self._heap)
        self.now = when
        action()


class Door(msgspec.Struct):
    """What a dial meets. `refusal` is an AttemptFailure's value; `hang` accepts and never answers."""

    refusal: str | None = None
    status: int | None = None
    retry_after_s: float | None = None
    hang: bool = False


class Direction:
    """One way of a connection: order is kept; while frozen everything queues, and flows again at the thaw."""

    def __init__(self, timeline: Timeline, rng: random.Random, low_s: float, high_s: float) -> None:
        self._timeline = timeline
        self._rng = rng
        self._low_s = low_s
        self._high_s = high_s
        self._last = 0.0
        self._under_way: deque[Action] = deque()
        self._held = 0  # how many of them are due and wait for the thaw
        self.frozen = False

    @property
    def queued(self) -> int:
        """How much is under way."""
        return len(self._under_way)

    def carry(self, deliver: Action) -> None:
        """Deliver after the latency, never before what was sent earlier."""
        self._under_way.append(deliver)
        self._plan()

    def _plan(self) -> None:
        self._last = max(self._last, self._timeline.now + self._rng.uniform(self._low_s, self._high_s))
        self._timeline.at(self._last, self._deliver)

    def _deliver(self) -> None:
        """One delivery is due: the oldest, whichever was planned for now."""
        if self.frozen:
            self._held += 1
        else:
            self._under_way.popleft()()

    def thaw(self) -> None:
        """Let the queue flow, in order."""
        self.frozen = False
        held, self._held = self._held, 0
        for _ in range(held):
            self._plan()


AnyLink = TypeVar("AnyLink")


class Peer(Generic[AnyLink]):
    """What the network asks of the server."""

    def attach(self, link: AnyLink) -> None:
        """A socket was accepted."""
        raise NotImplementedError

    def hear(self, link: AnyLink, data: bytes) -> None:
        """A message arrived."""
        raise NotImplementedError

    def detach(self, link: AnyLink) -> None:
        """The server learned that the socket is gone."""
        raise NotImplementedError


class Caller:
    """What the network tells the client's shell."""

    def opened(self, attempt: int) -> None:
        """The dial succeeded."""
        raise NotImplementedError

    def failed(self, attempt: int, door: Door) -> None:
        """The dial did not."""
        raise NotImplementedError

    def received(self, attempt: int, data: bytes, binary: bool) -> None:
        """A message arrived."""
        raise NotImplementedError

    def closed(self, attempt: int, reason: str, code: int | None) -> None:
        """The socket ended, and not by the client's will."""
        raise NotImplementedError


class Link:
    """One connection; its number is the client's attempt."""

    def __init__(self, network: Network, connection: int, down: Direction, up: Direction) -> None:
        self._network = network
        self.connection = connection
        self.down = down
        self.up = up
        self.client_open = False
        self.client_gone = False
        self.server_gone = False
        self.position = 0

    def write(self, data: bytes, frame: Frame, binary: bool = False) -> None:
        """Server to client."""
        if self.server_gone:
            return
        position = self.position = self.position + 1
        network = self._network
        network.ledger.add(Sent(network.timeline.now, self.connection, position, frame))

        def deliver() -> None:
            if not self.client_gone:
                network.ledger.add(Arrived(network.timeline.now, self.connection, position, frame))
                network.caller.received(self.connection, data, binary)

        self.down.carry(deliver)

    def send(self, data: bytes) -> None:
        """Client to server."""

        def deliver() -> None:
            if not self.server_gone:
                self._network.server.hear(self, data)

        self.up.carry(deliver)

    def abandon(self) -> None:
        """The client closes; the server learns it after the latency, or when its own timeout finds a dead path."""
        self.client_gone = True
        if self.up.frozen:
            self._network.timeline.after(self._network.dead_path_s, self._server_lost)
        else:
            self.up.carry(self._server_lost)

    def drop(self, reason: str, code: int | None, flush: bool) -> None:
        """The server's end goes away now. `flush`: what it wrote still arrives, then the end; else the cut is here and now."""
        self._server_lost()
        if not flush:
            self._client_lost(reason, code)
        else:
            self.down.carry(lambda: self._client_lost(reason, code))

    def cut(self, reason: str, code: int | None) -> None:
        """The client's end goes away now; the server writes on into the void until it notices."""
        self._client_lost(reason, code)
        self._network.timeline.after(self._network.dead_path_s, self._server_lost)

    def _server_lost(self) -> None:
        if not self.server_gone:
            self.server_gone = True
            self._network.server.detach(self)

    def _client_lost(self, reason: str, code: int | None) -> None:
        if self.client_gone:
            return
        self.client_gone = True
        network = self._network
        if self.client_open:
            network.ledger.add(Closed(network.timeline.now, self.connection, False, reason))
            network.caller.closed(self.connection, reason, code)
        else:
            network.caller.failed(self.connection, Door(refusal="protocol"))


class Network:
    """Doors and links between one client and one server."""

    def __init__(
        self, timeline: Timeline, rng: random.Random, ledger: Ledger, server: Peer[Link], caller: Caller, latency_s: tuple[float, float]
    ) -> None:
        self.timeline = timeline
        self.rng = rng
        self.ledger = ledger
        self.server = server
        self.caller = caller
        self.latency_s = latency_s
        self.dead_path_s = 20.0
        self.door = Door()
        self.links: dict[int, Link] = {}

    @property
    def link(self) -> Link | None:
        """The connection that the client holds open, if any."""
        return next((link for link in self.links.values() if link.client_open and not link.client_gone), None)

    def dial(self, attempt: int, timeout_s: float) -> None:
        """Open a connection, or fail as the door says."""
        door = self.door
        low, high = self.latency_s
        link = Link(self, attempt, Direction(self.timeline, self.rng, low, high), Direction(self.timeline, self.rng, low, high))
        self.links[attempt] = link

        def failed(how: Door) -> Action:
            def tell() -> None:
                if not link.client_gone:
                    link.client_gone = link.server_gone = True
                    self.caller.failed(attempt, how)

            return tell

        if door.hang:
            self.timeline.after(timeout_s, failed(Door(refusal="timeout")))
        elif door.refusal is not None:
            self.timeline.after(self.rng.uniform(low, high) * 2, failed(Door(door.refusal, door.status, door.retry_after_s)))
        else:
            self.timeline.after(self.rng.uniform(low, high), lambda: self._accept(link))
            self.timeline.after(timeout_s, lambda: self._overdue(link))

    def _accept(self, link: Link) -> None:
        if link.client_gone:
            return

        def opened() -> None:
            if not link.client_gone:
                link.client_open = True
                self.ledger.add(Opened(self.timeline.now, link.connection))
                self.caller.opened(link.connection)

        link.down.carry(opened)
        self.server.attach(link)

    def _overdue(self, link: Link) -> None:
        if not link.client_open and not link.client_gone:
            link.abandon()
            self.caller.failed(link.connection, Door(refusal="timeout"))

    def hang_up(self, attempt: int, reason: str) -> None:
        """The client closes a socket, or gives up a handshake."""
        link = self.links.get(attempt)
        if link is None or link.client_gone:
            return
        if link.client_open:
            self.ledger.add(Closed(self.timeline.now, attempt, True, reason))
        link.abandon()

"""The way between one host and one branch, as far as it differs from that of other protocols: a host that closes still hears what is on its way.

What belongs here: when bytes arrive, or that they do not, and how a socket ends for either side.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable

from tests.simulation.harness.network import Direction, Door, Peer, Timeline
from tests.simulation.tps.facts import What

GRACE_S = 5.0
"""After our close frame the socket is given so long, as in the runtime."""


class Side(enum.Enum):
    """Where the host's end stands."""

    DIALLING = "dialling"
    OPEN = "open"
    LEAVING = "leaving"  # it has closed, and still hears
    GONE = "gone"


class Host:
    """What the network tells the host's shell."""

    def opened(self, link: Link) -> None:
        """The dial succeeded."""
        raise NotImplementedError

    def failed(self, link: Link, reason: str) -> None:
        """The dial did not."""
        raise NotImplementedError

    def received(self, link: Link, data: bytes, what: What, key: str) -> None:
        """A message arrived."""
        raise NotImplementedError

    def closed(self, link: Link, reason: str, code: int | None) -> None:
        """The socket ended, and not by the host's will."""
        raise NotImplementedError


class Link:
    """One connection."""

    def __init__(self, network: Network, connection: int, down: Direction, up: Direction) -> None:
        self._network = network
        self.connection = connection
        self.down = down
        self.up = up
        self.side = Side.DIALLING
        self.branch_gone = False

    def write(self, data: bytes, what: What, key: str = "") -> None:
        """Branch to host."""

        def deliver() -> None:
            if self.side in (Side.OPEN, Side.LEAVING):
                self._network.host.received(self, data, what, key)

        if not self.branch_gone:
            self.down.carry(deliver)

    def send(self, data: bytes) -> None:
        """Host to branch."""

        def deliver() -> None:
            if not self.branch_gone:
                self._network.branch.hear(self, data)

        self.up.carry(deliver)

    def close(self, reason: str, code: int) -> None:
        """The branch closes; what it wrote before arrives before."""
        self._branch_lost()
        self.down.carry(lambda: self._end(reason, code))

    def reset(self) -> None:
        """Both ends are gone at once, with everything on its way."""
        self._branch_lost()
        self._end("network", 1006)

    def leave(self) -> None:
        """The host closes: it hears what is on its way until the branch has answered, for a few seconds at most."""
        if self.side is not Side.OPEN:
            self.kill()
            return
        self.side = Side.LEAVING
        self.up.carry(self._answer_close)
        self._network.timeline.after(GRACE_S, self._over)

    def kill(self) -> None:
        """The host's end is gone without a word; the branch learns it later."""
        self.side = Side.GONE
        self.up.carry(self._branch_lost)

    def _answer_close(self) -> None:
        self._branch_lost()
        self.down.carry(self._over)

    def _over(self) -> None:
        if self.side is Side.LEAVING:
            self.side = Side.GONE

    def _branch_lost(self) -> None:
        if not self.branch_gone:
            self.branch_gone = True
            self._network.branch.detach(self)

    def _end(self, reason: str, code: int) -> None:
        side, self.side = self.side, Side.GONE
        if side is Side.OPEN:
            self._network.host.closed(self, reason, code)
        elif side is Side.DIALLING:
            self._network.host.failed(self, "protocol")


class Network:
    """A door, and the connection behind it."""

    def __init__(self, timeline: Timeline, rng: random.Random, branch: Peer[Link], host: Host, latency_s: tuple[float, float]) -> None:
        self.timeline = timeline
        self.branch = branch
        self.host = host
        self.door = Door()
        self.link: Link | None = None  # the newest
        self._rng = rng
        self._latency_s = latency_s

    def dial(self, connection: int, timeout_s: float) -> Link:
        """Open a connection, or fail as the door says."""
        low, high = self._latency_s
        link = Link(self, connection, Direction(self.timeline, self._rng, low, high), Direction(self.timeline, self._rng, low, high))
        self.link = link
        door = self.door
        if door.hang:
            self.timeline.after(timeout_s, self._failing(link, "timeout"))
        elif door.refusal is not None:
            self.timeline.after(2.0 * self._rng.uniform(low, high), self._failing(link, door.refusal))
        else:
            self.timeline.after(self._rng.uniform(low, high), lambda: self._accept(link))
            self.timeline.after(timeout_s, self._failing(link, "timeout"))
        return link

    def _failing(self, link: Link, reason: str) -> Callable[[], None]:
        def fail() -> None:
            if link.side is Side.DIALLING:
                link.kill()
                self.host.failed(link, reason)

        return fail

    def _accept(self, link: Link) -> None:
        if link.side is not Side.DIALLING:
            return

        def opened() -> None:
            if link.side is Side.DIALLING:
                link.side = Side.OPEN
                self.host.opened(link)

        self.branch.attach(link)
        link.down.carry(opened)

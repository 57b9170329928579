"""What lives in the server's memory and dies with it: counters, rings, channel counters, presence (wire: relaycast §3, §4, §6).

Delivery is pure here: no sockets, no event loop. Frames go to sinks, time comes from the clock it is given. Whatever
survives a restart is the store's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from syncwatch.relay import events
from syncwatch.relay.clock import ServerClock
from syncwatch.relay.events import Event, Frame
from syncwatch.relay.ledger import Ledger, Restarted

RING = 500
"""How many events per agent the server remembers for a replay."""

PRESENCE_TTL_S = 60.0
"""Without a heartbeat for this long an agent counts as absent."""


class Sink(Protocol):
    """A socket as the delivery rules see it."""

    def live(self, frame: Frame) -> None:
        """Take an agent's event, now."""

    def stream(self, event: Event) -> None:
        """Take a workspace's event, now."""


class Agent:
    """An agent's place in memory. `label` names it in the ledger."""

    __slots__ = ("counter", "id", "label", "name", "ring", "sinks", "workspace")

    def __init__(self, ident: int, name: str, label: str, workspace: Workspace) -> None:
        self.id = ident
        self.name = name
        self.label = label
        self.workspace = workspace
        self.counter = 0
        self.ring: deque[Frame] = deque(maxlen=RING)
        self.sinks: tuple[Sink, ...] = ()


class Channel:
    """A channel's members in list order, who muted it, and its counter."""

    __slots__ = ("id", "members", "muted", "name", "seq")

    def __init__(self, ident: int, name: str) -> None:
        self.id = ident
        self.name = name
        self.seq = 0
        self.members: dict[int, Agent] = {}
        self.muted: set[int] = set()


class Workspace:
    """Agents, channels and presence of one workspace; `streams` are the sockets opened with its key."""

    __slots__ = ("agents", "channels", "id", "name", "presence", "streams")

    def __init__(self, ident: int, name: str) -> None:
        self.id = ident
        self.name = name
        self.agents: dict[str, Agent] = {}
        self.channels: dict[str, Channel] = {}
        self.presence: dict[Agent, float] = {}
        self.streams: tuple[Sink, ...] = ()


class Hub:
    """The delivery rules."""

    def __init__(self, ledger: Ledger, clock: ServerClock) -> None:
        self.ledger = ledger
        self.clock = clock
        self.epoch = 1
        self.workspaces: dict[int, Workspace] = {}
        self.observe: Callable[[Workspace, Event], None] | None = None
        """Who keeps the workspaces' event logs, where the server's generation has them (wire: relaycast §12)."""

    def agents(self) -> Iterable[Agent]:
        """All agents of all workspaces."""
        return (agent for workspace in self.workspaces.values() for agent in workspace.agents.values())

    def push(self, agent: Agent, event: Event, channel_seq: int | None = None) -> int:
        """Number an event for an agent, keep it in the ring, hand it to the agent's sockets; the number is returned."""
        agent.counter = number = agent.counter + 1
        frame = Frame(number, event.kind, event.key, event.stamped(number, channel_seq))
        agent.ring.append(frame)
        self.ledger.pushed(self.epoch, agent.label, number, event.kind, event.key)
        # The tuple is replaced, never changed: a socket that a fault drops right here does not disturb the loop.
        for sink in agent.sinks:
            sink.live(frame)
        return number

    def broadcast(self, channel: Channel, event: Event, workspace: Workspace) -> None:
        """To every member, muted ones included."""
        channel.seq += 1
        for agent in tuple(channel.members.values()):
            self.push(agent, event, channel.seq)
        self.stream(workspace, event)

    def post(
        self, channel: Channel, event: Event, deliveries: Sequence[tuple[Agent, Event]], workspace: Workspace
    ) -> None:
        """A message or a thread reply: to every member who has not muted the channel, with the deliveries in between."""
        channel.seq += 1
        recipients = [agent for agent in channel.members.values() if agent.id not in channel.muted]
        self._interleave(recipients, event, channel.seq, deliveries)
        self.stream(workspace, event)
        for _, delivery in deliveries:
            self.stream(workspace, delivery)

    def direct(
        self, agents: Sequence[Agent], event: Event, deliveries: Sequence[tuple[Agent, Event]], workspace: Workspace
    ) -> None:
        """To the participants of a conversation; no channel number."""
        self._interleave(agents, event, None, deliveries)
        self.stream(workspace, event)
        for _, delivery in deliveries:
            self.stream(workspace, delivery)

    def _interleave(
        self,
        recipients: Sequence[Agent],
        event: Event,
        channel_seq: int | None,
        deliveries: Sequence[tuple[Agent, Event]],
    ) -> None:
        """The two background tasks of the real server, always in their usual order.

        The message reaches the first member, then all deliveries overtake it, then the rest follow (wire: relaycast
        §3.1, "not fixed").
        """
        for agent in recipients[:1]:
            self.push(agent, event, channel_seq)
        for agent, delivery in deliveries:
            self.push(agent, delivery)
        for agent in recipients[1:]:
            self.push(agent, event, channel_seq)

    def stream(self, workspace: Workspace, event: Event) -> None:
        """To the sockets opened with the workspace's key, and into its log."""
        for sink in workspace.streams:
            sink.stream(event)
        if self.observe is not None:
            self.observe(workspace, event)

    # Presence

    def present(self, workspace: Workspace) -> list[Agent]:
        """Agents with a heartbeat younger than the TTL, in the order in which they came."""
        now_s = self.clock.now_s()
        return [agent for agent, seen_s in workspace.presence.items() if now_s - seen_s < PRESENCE_TTL_S]

    def tell_present(self, workspace: Workspace, event: Event) -> None:
        """To present agents only: an absent one does not spend a number on it."""
        for agent in self.present(workspace):
            self.push(agent, event)
        self.stream(workspace, event)

    def heartbeat(self, agent: Agent) -> None:
        """Mark an agent present; one that was absent is announced, to itself too."""
        now_s = self.clock.now_s()
        seen_s = agent.workspace.presence.get(agent)
        agent.workspace.presence[agent] = now_s
        if seen_s is None or now_s - seen_s >= PRESENCE_TTL_S:
            self._announce(agent, "active")

    def absent(self, agent: Agent) -> None:
        """End an agent's presence and tell the others; nothing if it was not present."""
        if agent.workspace.presence.pop(agent, None) is not None:
            self._announce(agent, "offline")

    def sweep(self) -> None:
        """End the presence of everybody without a heartbeat for 60 s."""
        now_s = self.clock.now_s()
        for workspace in self.workspaces.values():
            stale = [agent for agent, seen_s in workspace.presence.items() if now_s - seen_s >= PRESENCE_TTL_S]
            for agent in stale:
                del workspace.presence[agent]
            for agent in stale:
                self._announce(agent, "offline")

    def _announce(self, agent: Agent, status: str) -> None:
        self.tell_present(agent.workspace, events.presence(agent.id, agent.name, status, self.clock.iso_ms()))

    # Sockets

    def attach(self, agent: Agent, sink: Sink) -> None:
        """Add a socket, then mark its agent present: the first frame is normally the agent's own presence."""
        agent.sinks = (*agent.sinks, sink)
        self.heartbeat(agent)

    def detach(self, agent: Agent, sink: Sink) -> None:
        """Take a socket away. Presence is ended by `settle`, later: the real server learns of the close in its own time."""
        agent.sinks = tuple(other for other in agent.sinks if other is not sink)

    def settle(self, agent: Agent) -> None:
        """End the presence of an agent whose last socket is gone."""
        if not agent.sinks:
            self.absent(agent)

    def restart(self) -> None:
        """Forget everything that lived in memory; a new epoch begins. Nobody is told."""
        self.epoch += 1
        for workspace in self.workspaces.values():
            workspace.presence.clear()
            workspace.streams = ()
            for agent in workspace.agents.values():
                agent.counter = 0
                agent.ring.clear()
                agent.sinks = ()
            for channel in workspace.channels.values():
                channel.seq = 0
        self.ledger.add(Restarted, epoch=self.epoch)

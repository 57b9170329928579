"""What happens at once when a fault begins, and what has to be looked at again when one begins or ends.

Everything else asks the injector at the moment it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from syncwatch.relay import kinds
from syncwatch.relay.events import event
from syncwatch.relay.framing import BINARY, TEXT
from syncwatch.relay.injector import Active
from syncwatch.relay.state import Agent, Workspace
from syncwatch.relay.tps.channel import Channel

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay


def begun(relay: Relay, fault: Active[Any]) -> None:
    """A fault begins: do what it does at once."""
    spec = fault.spec
    if isinstance(spec, kinds.Drop | kinds.Reset | kinds.Close) and kinds.is_momentary(spec):
        for connection in relay.connections_of(spec.agent, spec.protocol):
            connection.end_by(spec)
    elif isinstance(spec, kinds.Outage):
        for connection in relay.connections_of(spec.agent, spec.protocol):
            connection.drop()
    elif isinstance(spec, kinds.Restart):
        relay.restart(spec.down_s, durable=spec.durable)
    elif isinstance(spec, kinds.Inject):
        payload = bytes.fromhex(spec.hex) if spec.hex is not None else (spec.text or "").encode()
        for connection in relay.connections_of(spec.agent, spec.protocol):
            if not spec.sealed:
                connection.inject(payload, TEXT if spec.opcode == "text" else BINARY)
            elif isinstance(connection, Channel):
                connection.inject_sealed(payload)
    elif isinstance(spec, kinds.Mail):
        relay.branch.mail(spec.content, spec.to)
    elif isinstance(spec, kinds.Ask):
        relay.branch.ask(spec.path, spec.service)
    elif isinstance(spec, kinds.Oversize):
        for agent in relay.hub.agents():
            if fault.concerns(agent.label):
                oversize(relay, agent, spec.size_bytes)
        for name in relay.files.log.workspaces():
            if fault.concerns(name, "relayfile"):
                relay.files.oversize(name, spec.size_bytes)
        for workspace in {one.workspace for one in relay.observers.all() if fault.concerns(one.label)}:
            oversize_log(relay, workspace, spec.size_bytes)


def oversize(relay: Relay, agent: Agent, size_bytes: int) -> None:
    """Push an event whose frame is exactly this long."""
    bare = event({"type": "relay.oversized", "padding": ""}, "#").stamped(agent.counter + 1, None)
    relay.hub.push(agent, event({"type": "relay.oversized", "padding": "x" * (size_bytes - len(bare))}))


def oversize_log(relay: Relay, workspace: Workspace, size_bytes: int) -> None:
    """Publish an event whose frame is exactly this long to every observer of a workspace; the log keeps it."""
    bare = b'%b,"seq":%d}' % (
        event({"type": "relay.oversized", "padding": ""}, "#").body,
        relay.events.latest(workspace) + 1,
    )
    relay.events.publish(workspace, event({"type": "relay.oversized", "padding": "x" * (size_bytes - len(bare))}))


def changed(relay: Relay) -> None:
    """A fault began or ended: set the clock, and let every connection look again."""
    relay.clock.offset_s = sum(fault.spec.offset_s for fault in relay.faults.all_of(kinds.ClockOffset, protocol=None))
    for connection in list(relay.connections.values()):
        connection.refresh()

"""A Relaycast socket: what agents and workspace keys are sent (wire: relaycast §2, §3), on top of what every socket does."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec

from syncwatch.relay.events import Event
from syncwatch.relay.framing import TEXT
from syncwatch.relay.injector import Injector
from syncwatch.relay.ledger import Ack, Streamed
from syncwatch.relay.outbound import Outbound
from syncwatch.relay.state import Agent, Hub, Workspace

_PONG = b'{"type":"pong"}'


class Connection(Outbound):
    """One socket: a sink for the delivery rules. `agent` is None for a workspace's own socket."""

    def __init__(
        self,
        ident: int,
        transport: asyncio.Transport,
        agent: Agent | None,
        workspace: Workspace,
        hub: Hub,
        faults: Injector,
    ) -> None:
        self.agent = agent
        self.workspace = workspace
        self.hub = hub
        super().__init__(ident, transport, agent.label if agent else "", hub.ledger, faults)

    def stream(self, event: Event) -> None:
        """An event of the workspace, as it happens."""
        self._out(partial(self._write_streamed, event))

    def row(self, event: Event) -> None:
        """An event out of the database."""
        self._out(partial(self._write_event, None, event.kind, event.key, event.replayed(), "store"))

    def ack(self, fields: dict[str, Any]) -> None:
        """An acknowledgement, with whatever fields it is to have."""
        self._out(partial(self._write_ack, fields))

    def _write_streamed(self, event: Event) -> None:
        if self._write_data(TEXT, event.plain()):
            self._ledger.add(Streamed, connection=self.id, position=self.position, kind=event.kind, key=event.key)
            self._sent(None)

    def _write_ack(self, fields: dict[str, Any]) -> None:
        if self._write_data(TEXT, msgspec.json.encode(fields)):
            self._ledger.add(
                Ack,
                connection=self.id,
                position=self.position,
                agent=self.label,
                epoch=self.hub.epoch,
                fields=fields,
            )
            self._sent(None)

    def _record(self, number: int | None, kind: str, key: str, origin: str) -> None:
        self._ledger.sent(self.id, self.position, self.label, self.hub.epoch, number, kind, key, origin)

    def _pong(self) -> bytes:
        return _PONG

    def _detach(self) -> None:
        """Out of delivery now; its agent's presence ends when the loop comes round."""
        if self.agent is None:
            self.workspace.streams = tuple(sink for sink in self.workspace.streams if sink is not self)
        elif self in self.agent.sinks:
            self.hub.detach(self.agent, self)
            self._loop.call_soon(self.hub.settle, self.agent)

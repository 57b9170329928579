"""An observer's socket: every event it may see with its `seq`, pongs, and the end of a revoked token (wire: relaycast §12)."""

from __future__ import annotations

import asyncio

from syncwatch.relay.events import Event, Frame
from syncwatch.relay.injector import Injector
from syncwatch.relay.logfacts import Delivered
from syncwatch.relay.observer.log import EPOCH, EventLog
from syncwatch.relay.observer.tokens import Observer, Observers, Seen
from syncwatch.relay.outbound import Outbound

CHECK_S = 5.0
"""How long a look at the token is good for."""
_PONG = b'{"type":"pong"}'


class ObserverConnection(Outbound):
    """One socket of an observer."""

    def __init__(
        self,
        ident: int,
        transport: asyncio.Transport,
        observer: Observer,
        observers: Observers,
        events: EventLog,
        faults: Injector,
    ) -> None:
        self.observer = observer
        self._observers = observers
        self._events = events
        self._looked_s = events.clock.now_s()
        super().__init__(ident, transport, observer.label, events.ledger, faults)

    def published(self, event: Event, seen: Seen, seq: int | None) -> None:
        """An event of the workspace, as it happens."""
        now_s = self._events.clock.now_s()
        if now_s - self._looked_s >= CHECK_S:
            self._looked_s = now_s
            if not self._observers.holds(self.observer):
                self.close(1008, "observer token revoked")
                return
        if self.observer.sees(seen):
            payload = event.plain() if seq is None else b'%b,"seq":%d}' % (event.body, seq)
            self.live(Frame(seq or 0, event.kind, event.key, payload))

    def _record(self, number: int | None, kind: str, key: str, origin: str) -> None:
        self._ledger.add(
            Delivered,
            connection=self.id,
            position=self.position,
            protocol="observer",
            label=self.label,
            epoch=EPOCH,
            number=number or None,
            id=key,
            kind=kind,
            origin=origin,
        )

    def _pong(self) -> bytes:
        return _PONG

    def _detach(self) -> None:
        self._events.detach(self)

"""Which faults hold right now: begun, counted, ended; as calls, as context managers, for a time.

The rest of the relay asks `find` (does one hold) or `take` (it holds, and this was one firing). Asking costs nothing
while no fault of that kind holds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import msgspec

from syncwatch.relay import kinds
from syncwatch.relay.kinds import FaultSpec, ProtocolName
from syncwatch.relay.ledger import Fault, Ledger

S = TypeVar("S", bound=FaultSpec)
H = TypeVar("H", bound=kinds.HttpFault)

LIVE_KINDS = (kinds.Skip, kinds.Duplicate, kinds.Reorder, kinds.Stall)
END_KINDS = (kinds.Drop, kinds.Reset, kinds.Close)
KEPT_ENDED = 100


class Active(Generic[S]):
    """A fault that holds or held. `fired` counts firings, `seen` what a selector has looked at."""

    def __init__(self, ident: int, spec: S) -> None:
        self.id = ident
        self.spec = spec
        self.name = kinds.name_of(spec)
        self.fired = 0
        self.seen = 0
        self.bases: dict[int, int] = {}
        """Frames each connection had sent when this fault first looked at it."""
        self.over = False
        self.timer: asyncio.TimerHandle | None = None

    def concerns(self, agent: str | None, protocol: ProtocolName | None = "relaycast") -> bool:
        """Whether the fault is about this stream (None: about nobody in particular) of this protocol (None: of any)."""
        spec = self.spec
        return (spec.agent is None or spec.agent == agent) and (
            spec.protocol is None or protocol is None or spec.protocol == protocol
        )


class Injector:
    """The faults of one relay."""

    def __init__(self, ledger: Ledger, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.active: dict[int, Active[Any]] = {}
        self.ended: list[Active[Any]] = []
        self.live_watch = False
        """Whether any fault looks at live frames."""
        self.sent_watch = False
        """Whether any fault waits for a frame to be sent."""
        self.on_begin: Callable[[Active[Any]], None] = lambda fault: None
        self.on_change: Callable[[], None] = lambda: None
        self._ledger = ledger
        self._by_kind: dict[type[FaultSpec], list[Active[Any]]] = {}
        self._count = 0

    # Asking

    def find(
        self, kind: type[S], agent: str | None = None, protocol: ProtocolName | None = "relaycast"
    ) -> Active[S] | None:
        """The oldest fault of a kind that concerns a stream."""
        for fault in self._by_kind.get(kind, ()):
            if fault.concerns(agent, protocol):
                return fault
        return None

    def all_of(
        self, kind: type[S], agent: str | None = None, protocol: ProtocolName | None = "relaycast"
    ) -> list[Active[S]]:
        """All faults of a kind that concern a stream, oldest first."""
        return [fault for fault in self._by_kind.get(kind, ()) if fault.concerns(agent, protocol)]

    def take(self, kind: type[S], agent: str | None = None, protocol: ProtocolName | None = "relaycast") -> S | None:
        """Like `find`, and count a firing: a fault with `times` ends with its last one."""
        fault = self.find(kind, agent, protocol)
        if fault is None:
            return None
        self.fire(fault)
        return fault.spec

    def take_http(
        self, kind: type[H], route: kinds.Route, agent: str | None, protocol: ProtocolName = "relaycast"
    ) -> Active[H] | None:
        """The oldest fault of a kind that is about this route too, with a firing counted."""
        for fault in self.all_of(kind, agent, protocol):
            if fault.spec.route in (None, route):
                self.fire(fault)
                return fault
        return None

    def fire(self, fault: Active[Any], *, quietly: bool = False) -> None:
        """Count a firing; `quietly` leaves it out of the ledger, where it would only repeat what other facts say."""
        fault.fired += 1
        if not quietly:
            self._ledger.add(Fault, fault_id=fault.id, name=fault.name, change="fired")
        if fault.spec.times is not None and fault.fired >= fault.spec.times:
            self.end(fault)

    # Beginning and ending

    def begin(self, spec: S, for_s: float | None = None) -> Active[S]:
        """Let a fault hold from now on, for `for_s` seconds or until `end`. A momentary one has happened when this returns.

        Raises:
            ValueError: the record has a field out of its bounds; nothing has begun.
        """
        try:
            msgspec.convert(msgspec.to_builtins(spec), type(spec))
        except msgspec.ValidationError as problem:
            raise ValueError(f"fault {kinds.name_of(spec)}: {problem}") from problem
        self._count += 1
        fault = Active(self._count, spec)
        self.active[fault.id] = fault
        self._by_kind.setdefault(type(spec), []).append(fault)
        self._watch()
        self._ledger.add(Fault, fault_id=fault.id, name=fault.name, change="began")
        if for_s is not None:
            fault.timer = asyncio.get_running_loop().call_later(for_s, self.end, fault)
        self.on_begin(fault)
        self.on_change()
        if kinds.is_momentary(spec) and not fault.over:
            fault.fired += 1
            self.end(fault)
        return fault

    def end(self, fault: Active[Any]) -> None:
        """Let a fault hold no longer; a second call does nothing."""
        if fault.over:
            return
        fault.over = True
        if fault.timer is not None:
            fault.timer.cancel()
        del self.active[fault.id]
        self._by_kind[type(fault.spec)].remove(fault)
        self.ended = [*self.ended[1 - KEPT_ENDED :], fault]
        self._watch()
        self._ledger.add(Fault, fault_id=fault.id, name=fault.name, change="ended")
        self.on_change()

    def end_all(self) -> None:
        """End every fault."""
        for fault in list(self.active.values()):
            self.end(fault)

    def _watch(self) -> None:
        self.live_watch = any(self._by_kind.get(kind) for kind in LIVE_KINDS)
        self.sent_watch = any(self._by_kind.get(kind) for kind in END_KINDS)

    @contextmanager
    def hold(self, spec: S, for_s: float | None = None) -> Iterator[Active[S]]:
        """A fault for the length of a `with` block."""
        fault = self.begin(spec, for_s)
        try:
            yield fault
        finally:
            self.end(fault)


def selects(fault: Active[Any], number: int, kind: str) -> bool:
    """Whether a fault about live frames picks this one."""
    spec: kinds.LiveFault = fault.spec
    if (spec.seq is not None and spec.seq != number) or (spec.kind is not None and spec.kind != kind):
        return False
    fault.seen += 1
    return spec.every is None or fault.seen % spec.every == 0

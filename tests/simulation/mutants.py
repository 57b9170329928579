"""Deliberate mistakes, put between the real codec and the real session: the harness has to catch every one of them.

What belongs here: one wrapper per mistake, each a mistake that a real client has made or could make.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from syncwatch.core.wire import Ack, Event, Pong, Protocol, Said, Wire
from tests.simulation.faults import Plan
from tests.simulation.harness.mutants import SameProtocol, SameWire
from tests.simulation.world import ring_protocol

Change = Callable[["MutantWire", Said], Sequence[Said]]
Question = Callable[["MutantWire", int, float | None], tuple[int, float | None]]


def same(wire: MutantWire, said: Said) -> Sequence[Said]:
    """No mistake in what is heard."""
    return (said,)


def right(wire: MutantWire, after: int, since_s: float | None) -> tuple[int, float | None]:
    """No mistake in what is asked."""
    return after, since_s


class MutantWire(SameWire):
    """A wire that mishears or misasks."""

    def __init__(self, real: Wire, change: Change, question: Question, plan: Plan, rng: random.Random) -> None:
        super().__init__(real)
        self._change = change
        self._question = question
        self.plan = plan
        self.rng = rng
        self.newest = 0

    def feed(self, data: bytes, binary: bool = False) -> Sequence[Said]:
        """As the real one, misheard."""
        heard: list[Said] = []
        for said in super().feed(data, binary):
            if isinstance(said, Event) and said.number is not None:
                self.newest = max(self.newest, said.number)
            heard += self._change(self, said)
        return heard

    def resync(self, after: int, since_s: float | None) -> str | bytes:
        """As the real one, with another question."""
        return super().resync(*self._question(self, after, since_s))


class MutantProtocol(SameProtocol[Protocol]):
    """The real protocol with one mistake."""

    def __init__(self, plan: Plan, change: Change = same, question: Question = right) -> None:
        super().__init__(ring_protocol(plan))
        self._plan = plan
        self._change = change
        self._question = question
        self._rng = random.Random(plan.seed)

    def wire(self, entropy: int) -> Wire:
        """A wire with the mistake."""
        return MutantWire(super().wire(entropy), self._change, self._question, self._plan, self._rng)


def _event(change: Callable[[MutantWire, Event], Event | None]) -> Change:
    def changed(wire: MutantWire, said: Said) -> Sequence[Said]:
        if not isinstance(said, Event):
            return (said,)
        event = change(wire, said)
        return () if event is None else (event,)

    return changed


def _counts_presence_twice(wire: MutantWire, event: Event) -> Event:
    """Events without an id are never recognised again (the SDK's deduplication)."""
    return event if event.strong else msgspec.structs.replace(event, key=f"{event.key} {wire.rng.random()}")


def _misses_the_mark(wire: MutantWire, event: Event) -> Event:
    return msgspec.structs.replace(event, replayed=False)


def _drops_one_in_a_hundred(wire: MutantWire, event: Event) -> Event | None:
    return None if wire.rng.random() < 0.01 else event


def _takes_any_number(wire: MutantWire, event: Event) -> Event:
    return msgspec.structs.replace(event, number=99, bad_number=False) if event.bad_number else event


def _off_by_one_now_and_then(wire: MutantWire, event: Event) -> Event:
    if event.number is None or wire.rng.random() > 0.005:
        return event
    return msgspec.structs.replace(event, number=event.number + 1)


def _ack(**changes: int | bool) -> Change:
    def changed(wire: MutantWire, said: Said) -> Sequence[Said]:
        return (msgspec.structs.replace(said, **changes),) if isinstance(said, Ack) else (said,)

    return changed


def _replayed_less_one(wire: MutantWire, said: Said) -> Sequence[Said]:
    if isinstance(said, Ack) and said.replayed > 1:
        return (msgspec.structs.replace(said, replayed=said.replayed - 1),)
    return (said,)


def _deaf_to_pongs(wire: MutantWire, said: Said) -> Sequence[Said]:
    return () if isinstance(said, Pong) and wire.rng.random() < 0.2 else (said,)


def _newest(wire: MutantWire, after: int, since_s: float | None) -> tuple[int, float | None]:
    """Cursor = the largest number seen: the hole below it is never asked for again (the SDK's cursor)."""
    return max(after, wire.newest), since_s


def _no_overlap(wire: MutantWire, after: int, since_s: float | None) -> tuple[int, float | None]:
    return after + 1, since_s


def _no_since(wire: MutantWire, after: int, since_s: float | None) -> tuple[int, float | None]:
    return after, None


def _unbiased_since(wire: MutantWire, after: int, since_s: float | None) -> tuple[int, float | None]:
    return after, None if since_s is None else since_s + 2.0


MUTANTS: Mapping[str, tuple[Change, Question, tuple[str, ...]]] = {
    "own presence counted twice": (_event(_counts_presence_twice), right, ("drop", "outage")),
    "replayed mark overlooked": (_event(_misses_the_mark), right, ("outage", "paging")),
    "one event in a hundred dropped": (_event(_drops_one_in_a_hundred), right, ("drop", "skip")),
    "bad numbers taken for numbers": (_event(_takes_any_number), right, ("bad_number",)),
    "a number off by one": (_event(_off_by_one_now_and_then), right, ("drop",)),
    "gap never heard": (_ack(gap=False), right, ("outage",)),
    "one frame fewer replayed": (_replayed_less_one, right, ("drop", "outage")),
    "current number not heard": (_ack(current=2**53 - 1), right, ("drop",)),
    "pongs overheard": (_deaf_to_pongs, right, ("drop",)),
    "cursor = the largest number seen": (same, _newest, ("drop", "skip", "outage")),
    "no overlap asked for": (same, _no_overlap, ("drop", "outage")),
    "no since": (same, _no_since, ("outage", "database")),
    "since not biased": (same, _unbiased_since, ("outage", "clock")),
}

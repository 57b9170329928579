"""Deliberate mistakes, put between the real codecs and the real session: the harness has to catch every one of them.

What belongs here: one wrapper per mistake, each a mistake that a real client has made or could make.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from syncwatch.core.wire import Event, FeedProtocol, Invalid, Page, Pong, Request, Said, Wire
from tests.simulation.feeds.plans import OBSERVER, RELAYFILE, Plan
from tests.simulation.feeds.world import real_protocol
from tests.simulation.harness.mutants import SameProtocol, SameWire

Hearing = Callable[[random.Random, Said], Said | None]
Reading = Callable[[random.Random, Page], Page]
Asking = Callable[[int | None], int | None]


def heard(rng: random.Random, said: Said) -> Said:
    """No mistake in what is heard."""
    return said


def read(rng: random.Random, page: Page) -> Page:
    """No mistake in what is read."""
    return page


def asked(after: int | None) -> int | None:
    """No mistake in what is asked."""
    return after


class Mistake(msgspec.Struct, frozen=True):
    """What goes wrong, and the protocol and kinds of fault that give it a chance to show."""

    protocol: str
    kinds: tuple[str, ...]
    hears: Hearing = heard
    reads: Reading = read
    dials: Asking = asked
    polls: Asking = asked


class MutantWire(SameWire):
    """A wire that mishears."""

    def __init__(self, real: Wire, mistake: Mistake, rng: random.Random) -> None:
        super().__init__(real)
        self._mistake = mistake
        self._rng = rng

    def feed(self, data: bytes, binary: bool = False) -> Sequence[Said]:
        """As the real one, misheard."""
        words = (self._mistake.hears(self._rng, said) for said in super().feed(data, binary))
        return [said for said in words if said is not None]


class MutantProtocol(SameProtocol[FeedProtocol]):
    """The real protocol with one mistake."""

    def __init__(self, plan: Plan, mistake: Mistake) -> None:
        super().__init__(real_protocol(plan))
        self._mistake = mistake
        self._rng = random.Random(plan.seed)
        self.scope = self._real.scope

    def dial(self, after: int | None = None) -> Request:
        """As the real one, perhaps from elsewhere."""
        return super().dial(self._mistake.dials(after))

    def wire(self, entropy: int) -> Wire:
        """A wire with the mistake."""
        return MutantWire(super().wire(entropy), self._mistake, self._rng)

    def poll(self, after: int | None, poll_id: int) -> Request:
        """As the real one, perhaps from elsewhere."""
        return self._real.poll(self._mistake.polls(after), poll_id)

    def tip(self, poll_id: int) -> Request:
        """As the real one."""
        return self._real.tip(poll_id)

    def page(self, body: bytes) -> Page | Invalid:
        """As the real one, misread."""
        page = self._real.page(body)
        return page if isinstance(page, Invalid) else self._mistake.reads(self._rng, page)


def _event(change: Callable[[random.Random, Event], Event | None]) -> Hearing:
    def changed(rng: random.Random, said: Said) -> Said | None:
        return change(rng, said) if isinstance(said, Event) else said

    return changed


def _some_unheard(rng: random.Random, event: Event) -> Event | None:
    return None if rng.random() < 0.02 else event


def _never_known_again(rng: random.Random, event: Event) -> Event:
    return msgspec.structs.replace(event, key=f"{event.key} {rng.random()}")


def _known_by_number(rng: random.Random, event: Event) -> Event:
    return event if event.number is None else msgspec.structs.replace(event, key=str(event.number))


def _off_by_one(rng: random.Random, event: Event) -> Event:
    if event.number is None or rng.random() > 0.1:
        return event
    return msgspec.structs.replace(event, number=event.number + 1)


def _deaf_to_pongs(rng: random.Random, said: Said) -> Said | None:
    return None if isinstance(said, Pong) and rng.random() < 0.2 else said


def _a_row_overlooked(rng: random.Random, page: Page) -> Page:
    if len(page.events) < 3 or rng.random() > 0.3:
        return page
    gone = rng.randrange(1, len(page.events) - 1)
    return msgspec.structs.replace(page, events=page.events[:gone] + page.events[gone + 1 :])


def _one_page_is_all(rng: random.Random, page: Page) -> Page:
    return msgspec.structs.replace(page, next_after=None)


def _filters_forgotten(rng: random.Random, page: Page) -> Page:
    return msgspec.structs.replace(page, skipped=frozenset())


def _keys_by_number(rng: random.Random, page: Page) -> Page:
    return msgspec.structs.replace(page, events=tuple(_known_by_number(rng, event) for event in page.events))


def _newest_first(rng: random.Random, page: Page) -> Page:
    return msgspec.structs.replace(page, events=page.events[::-1])


def _nothing_newer(rng: random.Random, page: Page) -> Page:
    return msgspec.structs.replace(page, newest=page.events[-1].number if page.events else 0)


def _one_more(after: int | None) -> int | None:
    return None if after is None else after + 1


def _from_now(after: int | None) -> int | None:
    return None


MUTANTS: Mapping[str, Mistake] = {
    "one event in fifty unheard": Mistake(RELAYFILE, ("drop", "outage"), hears=_event(_some_unheard)),
    "one event in fifty unheard by an observer": Mistake(OBSERVER, ("drop", "outage"), hears=_event(_some_unheard)),
    "an event is never known again": Mistake(RELAYFILE, ("drop", "outage", "duplicate"), hears=_event(_never_known_again)),
    "the number alone is the key": Mistake(RELAYFILE, ("restart_memory",), hears=_event(_known_by_number), reads=_keys_by_number),
    "a number off by one": Mistake(RELAYFILE, ("drop", "foreign"), hears=_event(_off_by_one)),
    "pongs overheard": Mistake(RELAYFILE, ("drop",), hears=_deaf_to_pongs),
    "a row of a page overlooked": Mistake(RELAYFILE, ("fallback", "paging", "skip"), reads=_a_row_overlooked),
    "a row of a page overlooked by an observer": Mistake(OBSERVER, ("outage", "paging"), reads=_a_row_overlooked),
    "the first page is all": Mistake(RELAYFILE, ("paging",), reads=_one_page_is_all),
    "the socket's filters forgotten": Mistake(RELAYFILE, ("drop", "outage", "fallback"), reads=_filters_forgotten),
    "pages newest first": Mistake(RELAYFILE, ("drop", "fallback"), reads=_newest_first),
    "hidden rows do not count": Mistake(OBSERVER, ("drop", "fallback"), reads=_nothing_newer),
    "no overlap in the feed": Mistake(OBSERVER, ("drop", "outage"), polls=_one_more),
    "an unknown cursor in the feed": Mistake(RELAYFILE, ("drop", "outage"), polls=_one_more),
    "an unknown cursor at the dial": Mistake(RELAYFILE, ("outage",), dials=_one_more),
    "dialled from now on": Mistake(RELAYFILE, ("outage",), dials=_from_now),
}

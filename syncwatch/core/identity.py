"""Bounded memory of what was seen: which event is a first copy, and which identity a number had.

Strong keys identify alone. A weak key (a content hash) identifies together with its number; without a number it is known only if the
peer says that it is a replay, because two live events may well be alike.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import msgspec

from syncwatch.core.ranges import Ranges
from syncwatch.core.wire import Event

IDENTITIES = 4096
HASHES = 4096
NUMBERS = 1024  # must exceed any server's replay buffer (500), or the overlap could not be compared
_MASK = NUMBERS - 1

Key = str | tuple[int, str]
T = TypeVar("T")


class Identities:
    """True LRU of identities; `forgotten` counts what the caps made it drop."""

    __slots__ = ("_hashes", "_keys", "forgotten_hashes", "forgotten_identities")

    def __init__(self, keys: Iterable[Key] = (), hashes: Iterable[str] = ()) -> None:
        self._keys: OrderedDict[Key, None] = OrderedDict.fromkeys(keys)
        self._hashes: OrderedDict[str, None] = OrderedDict.fromkeys(hashes)
        self.forgotten_identities = 0
        self.forgotten_hashes = 0

    def first(self, event: Event) -> bool:
        """Remember the event; True if this is its first copy."""
        if event.strong:
            key: Key = event.key
        else:
            known_hash = self._remember_hash(event.key)
            if event.number is None:
                return not (known_hash and event.replayed)
            key = (event.number, event.key)
        keys = self._keys
        if key in keys:
            keys.move_to_end(key)
            return False
        keys[key] = None
        if len(keys) > IDENTITIES:
            keys.popitem(False)
            self.forgotten_identities += 1
        return True

    def knows(self, event: Event) -> bool:
        """Whether `first` would say False, without remembering."""
        if event.strong:
            return event.key in self._keys
        if event.number is None:
            return event.replayed and event.key in self._hashes
        return (event.number, event.key) in self._keys

    def _remember_hash(self, key: str) -> bool:
        hashes = self._hashes
        if key in hashes:
            hashes.move_to_end(key)
            return True
        hashes[key] = None
        if len(hashes) > HASHES:
            hashes.popitem(last=False)
            self.forgotten_hashes += 1
        return False

    def newest(self, count: int) -> tuple[list[Key], list[str]]:
        """The newest identities and hashes, oldest first: what a resume point keeps."""
        return _last(self._keys, count), _last(self._hashes, count)


def _last(keys: OrderedDict[T, None], count: int) -> list[T]:
    newest = list(islice(reversed(keys), count))
    newest.reverse()
    return newest


class Remembered(msgspec.Struct, frozen=True):
    """An event as its number is remembered: enough to compare an identity and to know its server time."""

    number: int
    key: str
    time_s: float | None
    lane: str | None = None
    lane_number: int | None = None


class Numbers:
    """Which identity each of the newest numbers had, and on which attempt it came. A fixed table: no number makes it grow."""

    __slots__ = ("_attempts", "_events", "_numbers")

    def __init__(self) -> None:
        self._numbers: list[int] = [0] * NUMBERS
        self._events: list[Event | Remembered | None] = [None] * NUMBERS
        self._attempts: list[int] = [0] * NUMBERS

    @property
    def table(self) -> tuple[list[int], list[Event | Remembered | None], list[int]]:
        """Numbers, events and attempts, each at the place `number & NUMBERS - 1`; for whoever writes too often for a call."""
        return self._numbers, self._events, self._attempts

    def put(self, number: int, event: Event | Remembered, attempt: int) -> None:
        """Remember; whatever stood in the same place is forgotten."""
        index = number & _MASK
        self._numbers[index] = number
        self._events[index] = event
        self._attempts[index] = attempt

    def get(self, number: int) -> Event | Remembered | None:
        """What is known of `number`."""
        index = number & _MASK
        return self._events[index] if self._numbers[index] == number else None

    def attempt_of(self, number: int) -> int | None:
        """On which attempt `number` came, if it is known."""
        index = number & _MASK
        return self._attempts[index] if self._numbers[index] == number and self._events[index] is not None else None

    def forget_other_attempts(self, attempt: int) -> None:
        """A new epoch: only what this connection brought still means anything."""
        for index in range(NUMBERS):
            if self._attempts[index] != attempt:
                self._numbers[index] = 0
                self._events[index] = None

    def of_attempt(self, attempt: int) -> Ranges:
        """The remembered numbers that came on `attempt`."""
        came = zip(self._numbers, self._events, self._attempts, strict=True)
        return Ranges((number, number) for number in sorted(n for n, event, of in came if of == attempt and event is not None))

    def known(self) -> Iterator[tuple[int, Event | Remembered]]:
        """Everything remembered, in no order."""
        for number, event in zip(self._numbers, self._events, strict=True):
            if event is not None:
                yield number, event

    def newest_time(self, above: int, up_to: float = math.inf, not_on: int | None = None) -> tuple[int, float] | None:
        """The highest known number above `above` and `up_to` that one whose event has a server time, and that time. What came on the attempt
        `not_on` is passed over.
        """
        entries = enumerate(zip(self._numbers, self._attempts, strict=True))
        within = [index for index, (number, attempt) in entries if above < number <= up_to and attempt != not_on]
        for index in sorted(within, key=self._numbers.__getitem__, reverse=True):
            event = self._events[index]
            if event is not None and event.time_s is not None:
                return self._numbers[index], event.time_s
        return None

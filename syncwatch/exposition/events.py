"""What happens, as it happens: a bounded history of notices and a bounded queue for each listener, told as Server-Sent Events.

What belongs here: who is told what, and the format of it. Law: publishing never waits. A listener that is too slow loses its place and is
told so; nobody else notices. Everything here runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque

import msgspec

from syncwatch.core.effects import Notice, Notify
from syncwatch.core.timestamps import rfc3339

HISTORY = 256
"""Notices kept for those who come later."""
TRANSITIONS = 64
"""Changes of state kept beyond those, however much else was told since: a newcomer must learn how it came to be as it is."""
QUEUE = 256
"""Notices that may wait for one listener."""
LISTENERS = 32
"""Listeners at one time."""

KEEP_ALIVE = b": keep-alive\n\n"


class TooManyListenersError(Exception):
    """There is no place for one more listener; nothing was changed."""


class Entry(msgspec.Struct, frozen=True):
    """A notice with its place in the order of this process, counted from 1."""

    number: int
    notify: Notify


class Broadcast:
    """Owned by the app. `run` tells the entries of this process from those of an earlier one, whose numbers mean nothing here."""

    def __init__(
        self,
        history: int = HISTORY,
        queue: int = QUEUE,
        listeners: int = LISTENERS,
        run: str | None = None,
        transitions: int = TRANSITIONS,
    ) -> None:
        self.run = secrets.token_hex(4) if run is None else run
        self._history: deque[Entry] = deque(maxlen=history)
        self._transitions: deque[Entry] = deque(maxlen=transitions)
        self._queue, self._listeners = queue, listeners
        self._number = 0
        self._subscriptions: set[Subscription] = set()

    def publish(self, notify: Notify) -> None:
        """Tell everybody; costs one append per listener."""
        self._number += 1
        entry = Entry(self._number, notify)
        self._history.append(entry)
        if notify.notice is Notice.STATE:
            self._transitions.append(entry)
        for subscription in tuple(self._subscriptions):
            if not subscription.offer(entry):
                self._subscriptions.discard(subscription)

    def recent(self) -> tuple[Notify, ...]:
        """What is kept, oldest first."""
        return tuple(entry.notify for entry in self._kept())

    def subscribe(self, last_event_id: str | None = None) -> Subscription:
        """Everything after `last_event_id` that is still kept, then what comes; without one, or with one that is not of this run, all
        that is kept first. Close it when done.

        Raises: TooManyListenersError.
        """
        if len(self._subscriptions) >= self._listeners:
            raise TooManyListenersError
        after = self._place(last_event_id)
        backlog = [entry for entry in self._kept() if entry.number > after]
        gone = self._number - after - len(backlog) if after else 0
        subscription = Subscription(self, backlog, len(backlog) + self._queue, gone)
        self._subscriptions.add(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """A subscription was closed."""
        self._subscriptions.discard(subscription)

    def identify(self, entry: Entry) -> str:
        """The `id:` of an entry."""
        return f"{self.run}-{entry.number}"

    def _kept(self) -> list[Entry]:
        """The last transitions, and the last notices of any kind."""
        oldest = self._history[0].number if self._history else 0
        return [*(entry for entry in self._transitions if entry.number < oldest), *self._history]

    def _place(self, last_event_id: str | None) -> int:
        """The number in an id of this run; 0 for anything else."""
        run, _, digits = (last_event_id or "").rpartition("-")
        if run != self.run or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            return 0
        place = int(digits)
        return place if place <= self._number else 0


class Subscription:
    """One listener's place. `gone`: entries after its last id that are not kept any more."""

    def __init__(self, owner: Broadcast, backlog: list[Entry], limit: int, gone: int) -> None:
        self.gone = gone
        self.overflowed = False
        self._owner = owner
        self._waiting: deque[Entry] = deque(backlog)
        self._limit = limit
        self._ended = False
        self._news = asyncio.Event()

    def offer(self, entry: Entry) -> bool:
        """Queue an entry; False when there is no room, and then this listener gets what it has and no more."""
        if len(self._waiting) >= self._limit:
            self.overflowed = True
            self.end()
            return False
        self._waiting.append(entry)
        self._news.set()
        return True

    async def entries(self, timeout_s: float) -> list[Entry] | None:
        """What waits, at least one; empty when nothing came within `timeout_s`; None when nothing will come any more."""
        if not self._waiting and not self._ended:
            self._news.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                return []
        found = list(self._waiting)
        self._waiting.clear()
        return None if not found and self._ended else found

    def end(self) -> None:
        """Nothing more will come; what waits is still handed out."""
        self._ended = True
        self._news.set()

    def close(self) -> None:
        """Give the place back."""
        self._owner.forget(self)
        self.end()


class _Told(msgspec.Struct, frozen=True):
    notice: str
    time: str
    fields: dict[str, str | int | float | bool | None]


def told(broadcast: Broadcast, entry: Entry) -> bytes:
    """One notice on the wire: its id, its kind as the event's type, and one line of JSON."""
    notify = entry.notify
    data = msgspec.json.encode(_Told(notify.notice, rfc3339(notify.at_s), dict(notify.fields)))
    return f"id: {broadcast.identify(entry)}\nevent: {notify.notice}\ndata: ".encode() + data + b"\n\n"


def dropped(reason: str, count: int | None) -> bytes:
    """Say that something was not delivered here: `count` notices, or an unknown number from now on."""
    return b"event: dropped\ndata: " + msgspec.json.encode({"reason": reason, "count": count}) + b"\n\n"

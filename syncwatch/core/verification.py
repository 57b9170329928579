"""The tip check: ask the server for its newest number and compare. A pong proves the socket, never the stream.

A tip check is a resync request from an open connection, so it also brings what was missing. If it brought anything, the live path had not: unless a
live event follows within the grace, the connection is `behind`. Only a later comparison that needs no help takes that back.
"""

from __future__ import annotations

import math

from syncwatch.core.states import Verification as Result


class Verification:
    """When to ask, and what the answers mean."""

    def __init__(self, interval_s: float, grace_s: float) -> None:
        self.interval_s = interval_s
        self.grace_s = grace_s
        self.results: dict[Result, int] = dict.fromkeys(Result, 0)
        self.verified_s: float | None = None
        self.behind_since_s: float | None = None
        self.due_s = math.inf
        self._checked_s = -math.inf
        self.verdict_s = math.inf  # when a pending suspicion becomes a verdict
        self.watching = False  # whether the next live event means something here; stored, because each event asks

    def begin(self, now: float) -> None:
        """Unverified time counts from the start until the first proof."""
        self.verified_s = now

    def opened(self, now: float, soon: bool) -> None:
        """Caught up on a connection: the next check is due in one interval; `soon`, when not even a first number is known."""
        self.due_s = now + (self.grace_s if soon else self.interval_s)

    def hasten(self, now: float) -> None:
        """The interval was changed: a shorter one counts from now."""
        if self.due_s != math.inf:
            self.due_s = min(self.due_s, now + self.interval_s)

    def closed(self) -> None:
        """No connection: nothing to ask. Being behind is taken back only by proof."""
        if self.verdict_s != math.inf:
            self.results[Result.BEHIND] += 1  # the answer stands, even if the connection did not live to see the grace end
        self.due_s = self.verdict_s = math.inf
        self._watch()

    def settled(self, now: float) -> None:
        """A resync caught up with the server's own number. That proves the position, not that a silent push path has recovered."""
        if self.behind_since_s is None:
            self.verified_s = now

    def checked(self, now: float, needed_help: bool) -> None:
        """A tip check was answered."""
        self._checked_s = now
        self.due_s = now + self.interval_s
        if not needed_help:
            self.results[Result.VERIFIED] += 1
            self.verified_s = now
            self.behind_since_s = None
        elif self.behind_since_s is not None:
            self.results[Result.BEHIND] += 1
        else:
            self.verdict_s = now + self.grace_s
        self._watch()

    def behind(self, now: float) -> None:
        """A comparison with the server's log found newer events that the open socket had not brought in time: no grace is left to give."""
        self._checked_s = now
        self.due_s = now + self.interval_s
        self.verdict_s = math.inf
        self.results[Result.BEHIND] += 1
        if self.behind_since_s is None:
            self.behind_since_s = now
        self._watch()

    def read(self, now: float) -> None:
        """Without a socket, the log was read to its end: what we have is what the server has."""
        self.verified_s = now
        self.behind_since_s = None
        self.verdict_s = math.inf
        self._watch()

    def unanswered(self) -> None:
        """A tip check got no answer."""
        self.results[Result.FAILED] += 1

    def live(self, now: float) -> None:
        """A live event arrived: the push path works. A suspicion is dropped; a verdict is checked again at once."""
        if self.verdict_s != math.inf:
            self.verdict_s = math.inf
            self.results[Result.VERIFIED] += 1
            self.verified_s = now
            self._watch()
        elif self.behind_since_s is not None:
            self.due_s = min(self.due_s, max(now, self._checked_s + self.grace_s))

    def ripened(self, now: float) -> bool:
        """Whether a suspicion just became a verdict."""
        if now < self.verdict_s:
            return False
        self.verdict_s = math.inf
        self.behind_since_s = now
        self.results[Result.BEHIND] += 1
        self._watch()
        return True

    def canary(self, now: float) -> None:
        """A canary arrived live: the stream moves."""
        if self.behind_since_s is None:
            self.verified_s = now

    def _watch(self) -> None:
        self.watching = self.verdict_s != math.inf or self.behind_since_s is not None

"""Somebody else with our identity: two clients that a server takes for one cut each other's connections, politely and without end.

What belongs here: what such a rhythm looks like, and when it is over. A single polite close is nothing; several in a row, each soon after the
connection became ready, are a rival's.
"""

from __future__ import annotations

import math

CUTS = 3
"""So many connections in a row that were closed that way make a rival."""


class Rivals:
    """Looks at how connections end, one after another. `within_s`: a rival cuts a connection at the latest after so long."""

    def __init__(self, within_s: float) -> None:
        self.within_s = within_s
        self.since_s: float | None = None  # there is a rival, as far as can be told
        self.cuts = 0  # in a row
        self._ready_s = math.inf

    @property
    def deadline(self) -> float:
        """When the present connection has lived for too long to have been anybody's target."""
        return self._ready_s + self.within_s if self.cuts else math.inf

    def ready(self, now: float) -> None:
        """A connection begins."""
        self._ready_s = now

    def tick(self, now: float) -> None:
        """A connection that outlives its rival ends the suspicion."""
        if now >= self.deadline:
            self.cuts, self.since_s = 0, None

    def ended(self, now: float, politely: bool) -> None:
        """The connection ended. `politely`: the peer closed it, with nothing to complain about."""
        lived_s, self._ready_s = now - self._ready_s, math.inf
        if lived_s >= self.within_s:
            self.cuts, self.since_s = 0, None
        elif politely:
            self.cuts += 1
            if self.cuts >= CUTS and self.since_s is None:
                self.since_s = now
        elif self.since_s is None:
            self.cuts = 0  # an end of another kind says nothing about a rival that is known

"""Recovery where there is none: events without numbers, from a server that keeps no log. What is known of them is which came before.

What belongs here: copies told apart, and what of them is kept for the next process. Nothing can be asked for, so nothing is ever missing, and
nothing verified.
"""

from __future__ import annotations

from syncwatch.core.ledger import Ledger
from syncwatch.core.recovery import Line, Recovery
from syncwatch.core.resume import IDENTITIES_KEPT, ResumePoint, Totals
from syncwatch.core.wire import Event


class Arrivals(Ledger):
    """Identities only."""

    def event(self, now: float, event: Event) -> bool:
        """Account for one event; True if it is a first copy."""
        first = self.identities.first(event)
        self.live += first
        self.duplicates += not first
        return first


class Unnumbered(Recovery):
    """A connection that is ready is caught up."""

    ledger: Arrivals

    def __init__(self, line: Line) -> None:
        super().__init__(line, Arrivals())

    def says_nothing(self, point: ResumePoint) -> bool:
        """Whether there is nothing in it to go on from."""
        return not point.keys

    def capture(self, wall_s: float, upstream: str, totals: Totals) -> ResumePoint:
        """What the next process needs: the newest identities."""
        keys, hashes = self.ledger.identities.newest(IDENTITIES_KEPT)
        return ResumePoint(saved_wall_s=wall_s, upstream=upstream, totals=totals, keys=tuple(keys), hashes=tuple(hashes))

    def restore(self, now: float, point: ResumePoint) -> bool:
        """Know what an earlier process had seen."""
        if point.cursor is not None or point.feed is not None:
            return False
        self.ledger.restore_identities(point.keys, point.hashes)
        return True

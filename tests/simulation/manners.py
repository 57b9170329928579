"""Manners: whether what the client asked, and when, was its to ask.

What belongs here: complaints about requests. The counters are the oracle's business. A client that asks at the wrong time can have numbers that
add up all the same, so the times are judged by themselves.
"""

from __future__ import annotations

import math
from datetime import datetime

from tests.simulation.facts import Requested

SAME_S = 1e-6  # times nearer than this are one moment
SINCE_BIAS_S = 2  # one second defeats whole-second rows with a strict comparison, one more an insert after its id
UNANSWERED_LIMIT = 2  # after so many replays in a row that timed out the connection stays open, unproven


def since_of(fact: Requested) -> float | None:
    """The `since` of a request, Unix seconds."""
    return None if fact.since is None else datetime.fromisoformat(fact.since).timestamp()


class Manners:
    """Feed it what happened; read `complaints`."""

    def __init__(self, verify_interval_s: float, verify_grace_s: float, unanswered_retry_s: float) -> None:
        self.complaints: list[str] = []
        self._verify_grace_s = verify_grace_s
        self._pauses_s = (verify_interval_s, unanswered_retry_s)
        self._asked = False  # on this connection
        self._ends: list[float] = [0.0]  # when this connection opened, and its rounds ended
        self._helped = False  # a round brought, or missed, what should have come by itself
        self._spoke: list[float] = []  # when numbers came by themselves since then
        self._unanswered = 0  # replays in a row that timed out
        self._must_ask: float | None = None

    def opened(self, at: float) -> None:
        """A connection."""
        self._asked, self._ends = False, [at]

    def closed(self) -> None:
        """No connection."""
        self._must_ask = None

    def spoke(self, at: float) -> None:
        """A number seen for the first time, outside any round."""
        self._spoke.append(at)

    def hole_confirmed(self, at: float) -> None:
        """On a live connection a confirmed hole is asked for at once, on the same socket (rule 7)."""
        if self._unanswered < UNANSWERED_LIMIT:
            self._must_ask = at

    def still_silent(self, now: float) -> None:
        """Something else happened meanwhile."""
        if self._must_ask is not None and now > self._must_ask + SAME_S:
            self.complaints.append(f"{now:.3f}: the hole confirmed at {self._must_ask:.3f} was not asked for")
            self._must_ask = None

    def timed_out(self, at: float) -> None:
        """A round ended without answer, and the connection stayed or is being left for it."""
        self._unanswered += 1
        self._ends.append(at)

    def answered(self, at: float) -> None:
        """A round ended by its acknowledgement."""
        self._unanswered = 0
        self._ends.append(at)

    def helped(self) -> None:
        """The round that just ended brought, or missed, what should have come by itself."""
        self._helped, self._spoke = True, []

    def asked(self, fact: Requested, expected: float, known_s: float | None, obliged: bool, page: bool) -> None:
        """A request. `known_s`: the server time that `since` begins with. `obliged`: a page, an owed full resync, a confirmed hole or an implausible
        number asks for it.
        """
        at = fact.at
        if fact.after != expected:
            self.complaints.append(f"{at:.3f}: asked after {fact.after}, rule 1 says {expected}")
        first, self._asked, self._must_ask = not self._asked, True, None
        if not (first or obliged or self._is_due(at)):
            self.complaints.append(f"{at:.3f}: a request without cause, {at - self._ends[-1]:.3f} s after the last round")
        if not page:
            self._judge_since(fact, known_s)

    def _is_due(self, at: float) -> bool:
        """A tip check in its time, within the grace of the last one (behind), or when a stream that needed help speaks again by itself."""
        if at - self._ends[-1] <= self._verify_grace_s + SAME_S or (self._helped and self._spoke == [at]):
            return True
        return any(abs(at - end - pause_s) < SAME_S for end in self._ends for pause_s in self._pauses_s)

    def _judge_since(self, fact: Requested, known_s: float | None) -> None:
        """`since`: the known time, floored, less two seconds (§7)."""
        expected = None if known_s is None else math.floor(known_s) - SINCE_BIAS_S
        if since_of(fact) != expected:
            self.complaints.append(f"{fact.at:.3f}: since {since_of(fact)}, spec §7 says {expected}")

"""What the exported counters must be, folded from the relay's ledger of facts alone.

What belongs here: the accounting rules (wire: relaycast accounting) as far as an honest server needs them, read plainly, with one set entry per
number and no look at the sidecar. The relay's word on what was live, ring or store is fact here, never inferred. Every agent frame that
the relay calls sent must have arrived, so faults that lose sent frames (a reset in the middle of traffic) are not for this fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from syncwatch.relay.ledger import Ack, Fact, Injected, Opened, Pong, Pushed, Received, Refused, Request, Sent

Key = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its further labels."""
Place = tuple[int, int]
"""Epoch and number."""

LIVE, RING, STORE = "live", "ring", "store"


def key(name: str, **labels: str) -> Key:
    """How a counter is named here."""
    return name, tuple(sorted(labels.items()))


class Fold:
    """One agent's facts, taken in order. `restarted()` when another process of the sidecar takes over."""

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.taken = 0
        self.pushed: set[Place] = set()
        self._connections: set[int] = set()
        self._copies: set[str] = set()
        self._seen: set[Place] = set()
        self._given_up: set[Place] = set()
        self._overtaken: set[Place] = set()
        self._baseline: Place | None = None
        self._epoch: int | None = None
        self._unnumbered = 0
        self._asked: dict[int, int] = {}
        self._rounds: set[int] = set()  # connections with a replay open; one that resumes asks before it hears anything
        self._newly = 0
        self._known_otherwise = False  # a number came that an earlier epoch had used for another event
        self.counts: Counter[Key] = Counter()

    def restarted(self) -> None:
        """A new process: counters start at 0, what was learned was kept in the state file."""
        self.counts = Counter()
        self._unnumbered = 0

    def take(self, facts: Iterable[Fact]) -> None:
        """Fold further facts."""
        for fact in facts:
            self.taken = fact.at
            match fact:
                case Pushed(agent=self.agent):
                    self.pushed.add((fact.epoch, fact.number))
                case Opened(agent=self.agent):
                    self._connections.add(fact.connection)
                    if self._baseline is not None:
                        self._rounds.add(fact.connection)
                    self._count("syncwatch_connection_attempts_total")
                    self._count("syncwatch_connection_handshake_duration_seconds_count")
                case Refused(status=status) if status >= 400:
                    self._count("syncwatch_connection_attempts_total")
                    self._count("syncwatch_connection_attempt_failures_total", reason=_reason(status))
                case Sent(agent=self.agent):
                    self._sent(fact)
                case Request(agent=self.agent):
                    self._count("syncwatch_frames_sent_total", kind="resync")
                    self._asked[fact.connection] = int(fact.last_seen_seq)
                    self._rounds.add(fact.connection)
                    self._newly = 0
                case Ack(agent=self.agent):
                    self._acknowledged(fact)
                case _ if getattr(fact, "connection", None) in self._connections:
                    self._other(fact)

    def _count(self, name: str, **labels: str) -> None:
        self.counts[key(name, **labels)] += 1

    def _add(self, name: str, number: int) -> None:
        self.counts[key(name)] += number

    def _other(self, fact: Fact) -> None:
        match fact:
            case Pong():
                self._count("syncwatch_frames_received_total", kind="heartbeat")
                self._count("syncwatch_heartbeats_acknowledged_total")
            case Received(kind="subscribe"):
                self._count("syncwatch_frames_sent_total", kind="control")
            case Injected():
                self._count("syncwatch_frames_received_total", kind="invalid")

    # ------------------------------------------------------------------ events

    def _sent(self, fact: Sent) -> None:
        self._count("syncwatch_frames_received_total", kind="event")
        first = fact.key not in self._copies
        self._copies.add(fact.key)
        if first:
            self._count("syncwatch_events_received_total", origin=fact.origin)
        else:
            self._count("syncwatch_events_duplicate_total")
        if fact.origin != LIVE:
            self._count("syncwatch_replayed_events_total")
        if fact.number is None:
            self._unnumbered += first
        else:
            self._place(fact.connection, (fact.epoch, fact.number), fact.origin)

    def _place(self, connection: int, place: Place, origin: str) -> None:
        """A number arrived, for the first time or again."""
        if self._baseline is None:
            self._baseline, self._epoch = place, place[0]
        if self._epoch is not None and place[0] != self._epoch and (self._epoch, place[1]) in self._seen:
            self._known_otherwise = True
        if place in self._seen:
            return
        if place in self._given_up:
            self._count("syncwatch_sequence_late_total")
        elif origin == RING:
            self._count("syncwatch_sequence_missed_total")
            self._count("syncwatch_sequence_recovered_total")
            self._newly += place not in self._overtaken
        elif connection not in self._rounds:
            self._live_on_an_idle_line(place)
        self._seen.add(place)

    def _live_on_an_idle_line(self, place: Place) -> None:
        """No replay is open: a jump is seen at once, and so is a number that comes behind its successors."""
        epoch, number = place
        top = max((one for other, one in self._seen if other == epoch), default=number - 1)
        if number < top:
            self._count("syncwatch_events_out_of_order_total")
        elif number > top + 1:
            self._count("syncwatch_sequence_gaps_total", cause="live")
            self._overtaken |= {(epoch, one) for one in range(top + 1, number)}

    # ------------------------------------------------------------------ the end of a replay

    def _acknowledged(self, fact: Ack) -> None:
        self._count("syncwatch_frames_received_total", kind="control")
        asked, gap, current = self._asked.pop(fact.connection), bool(fact.fields["gap_detected"]), int(fact.fields["current_seq"])
        if self._epoch is not None and fact.epoch != self._epoch:
            # The question was about the old epoch, so nothing of the answer settles anything; the full question follows.
            self._epoch = fact.epoch
            self._count("syncwatch_sequence_resets_total")
            verdict = "contradicted" if current < asked + 1 and not self._known_otherwise else "unverifiable"
            self._known_otherwise = False
            self._count("syncwatch_resyncs_total", claim=_claim(gap), verdict=verdict)
            self._gap_seen()
            return
        self._rounds.discard(fact.connection)
        lost, unaccounted = self._settle(fact.epoch, current)
        verdict = "verified"
        if lost + unaccounted and not gap:
            verdict = "contradicted"
        elif unaccounted or asked == -1:
            verdict = "unverifiable"
        self._count("syncwatch_resyncs_total", claim=_claim(gap), verdict=verdict)
        self._gap_seen()

    def _settle(self, epoch: int, current: int) -> Place:
        """Give up what is still not there: lost for certain, or perhaps one of the rows without a number."""
        first = self._baseline[1] + 1 if self._baseline is not None and self._baseline[0] == epoch else 1
        holes = {(epoch, number) for number in range(first, current + 1)} - self._seen - self._given_up
        self._given_up |= holes
        unaccounted = min(len(holes), self._unnumbered)
        lost = len(holes) - unaccounted
        self._newly += len(holes - self._overtaken)
        self._add("syncwatch_sequence_missed_total", len(holes))
        self._add("syncwatch_sequence_lost_total", lost)
        self._add("syncwatch_sequence_unaccounted_total", unaccounted)
        self._unnumbered = 0
        return lost, unaccounted

    def _gap_seen(self) -> None:
        if self._newly:
            self._count("syncwatch_sequence_gaps_total", cause="reconnect")
        self._newly = 0

    # ------------------------------------------------------------------ the result

    def expected(self) -> Mapping[Key, int]:
        """Every counter that these facts decide, the ones that stayed 0 included."""
        zeros = [
            *(key("syncwatch_events_received_total", origin=origin) for origin in (LIVE, RING, STORE)),
            *(key("syncwatch_frames_received_total", kind=kind) for kind in ("event", "control", "heartbeat", "invalid")),
            *(key("syncwatch_frames_sent_total", kind=kind) for kind in ("resync", "control")),
            *(key("syncwatch_sequence_gaps_total", cause=cause) for cause in ("live", "reconnect")),
            *(key("syncwatch_connection_attempt_failures_total", reason=reason) for reason in (*REASONS.values(), "rejected")),
            *(
                key("syncwatch_resyncs_total", claim=claim, verdict=verdict)
                for claim in ("complete", "gap", "none")
                for verdict in ("verified", "contradicted", "unverifiable")
                if (claim, verdict) in POSSIBLE
            ),
            *(key(f"syncwatch_{name}") for name in PLAIN),
        ]
        expected = {one: self.counts[one] for one in zeros} | self.counts
        opened = self.counts[key("syncwatch_connection_handshake_duration_seconds_count")]
        return expected | {key("syncwatch_connection_reconnects_total"): max(0, opened - 1)}


REASONS = {401: "unauthorized", 403: "forbidden", 429: "rate_limited"}
PLAIN = (
    "events_duplicate_total", "events_out_of_order_total", "events_undecided", "replayed_events_total",
    "sequence_missed_total", "sequence_recovered_total", "sequence_lost_total", "sequence_unaccounted_total", "sequence_late_total",
    "sequence_resets_total", "sequence_missing", "connection_attempts_total", "connection_handshake_duration_seconds_count",
    "heartbeats_acknowledged_total",
)  # fmt: skip
POSSIBLE = {
    ("complete", "verified"), ("complete", "contradicted"), ("complete", "unverifiable"),
    ("gap", "verified"), ("gap", "contradicted"), ("gap", "unverifiable"), ("none", "unverifiable"),
}  # fmt: skip


def _reason(status: int) -> str:
    return REASONS.get(status, "rejected")


def _claim(gap: bool) -> str:
    return "gap" if gap else "complete"

"""The oracle: what the counters must be, folded from facts alone, by the rules at the head of `core/journal.py` (wire: relayfile §3, §4; relaycast §12).

What belongs here: the rules read as plainly as possible, with one entry per event. Which log an event is of, and whether it was invented, is known here as
fact. What the wire cannot tell is counted by name in `exemptions`, and a schedule that used one is not compared.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque

import msgspec

from tests.simulation.feeds.facts import (
    Answered,
    Asked,
    Dialled,
    Failed,
    FeedFrame,
    Renewed,
    Row,
    Started,
    Unanswered,
)
from tests.simulation.harness.facts import Arrived, Closed, Fact, Frame, Kind, Opened

SAME_S = 1e-9  # times nearer than this are one moment
LATE_S = 0.001  # what is due is done at once
IDENTITIES_KEPT = 512  # of a process that ended
HANDSHAKES_TO_POLL = 3  # so many in a row that failed
POLLS_TO_LEAVE = 3  # so many in a row without an answer
BREAKER = 30  # so many failures in a row
STABLE_S = 30.0
UNCOMPARED_KEPT = IDENTITIES_KEPT // 2


class Rules(msgspec.Struct, frozen=True):
    """What the protocol can do, and the settings that the accounting depends on."""

    resumes: bool
    dense: bool
    hole_grace_s: float = 2.0
    ack_timeout_s: float = 10.0
    verify_grace_s: float = 2.0
    pause_s: float = 2.0  # after a reading that failed
    polling_interval_s: float = 5.0
    audit: bool = True


class Counters(msgspec.Struct):
    """What the ledger must show."""

    live: int = 0
    store: int = 0
    poll: int = 0
    audit: int = 0
    ring: int = 0
    undecided: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    missed: int = 0
    recovered: int = 0
    lost: int = 0
    unaccounted: int = 0
    missing: int = 0
    late: int = 0
    resets: int = 0
    replayed: int = 0
    gaps_live: int = 0
    gaps_reconnect: int = 0
    malformed: int = 0
    bad_sequence: int = 0
    clean: int = 0
    repaired: int = 0
    failed: int = 0
    found_late: int = 0
    found_missed: int = 0
    found_invented: int = 0
    verified: int = 0
    behind: int = 0
    unanswered: int = 0

    @property
    def firsts(self) -> int:
        """First copies, whatever their origin."""
        return self.live + self.store + self.poll + self.audit + self.undecided


class Waiting(msgspec.Struct):
    """A row that the socket has not brought yet."""

    row: Row
    at: float
    origin: str


class Reading(msgspec.Struct):
    """A reading of the feed under way."""

    purpose: str
    poll: int
    after: int | None
    reference: Row | None
    known_log: bool
    asked: bool = True  # an answer is awaited
    second: bool = False  # the newest row itself is asked for
    held: list[Row] = []
    newest: Row | None = None
    before: int | None = None
    overlap: Row | None = None  # what the next page has to begin with


class Judge:
    """The fold. Feed facts in order, then read `counters`."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.counters = Counters()
        self.resyncs: Counter[tuple[str, str]] = Counter()
        self.exemptions: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.known: dict[str, None] = {}  # delivered, the newest last
        # the log that the client knows
        self.life: int | None = None
        self.based = False
        self.base = 0
        self.head = 0
        self.floor: Row | None = None
        self.floor_before: int | None = None
        self.below = 0  # first copies that are not above the floor
        self.settled: tuple[Row | None, int | None, int] = None, None, 0  # the last floor with nothing waiting below it
        self.mine: dict[int, Row] = {}  # delivered of that log
        self.pending: dict[str, tuple[Row, bool]] = {}  # brought by sockets and not compared; whether invented
        self.unproven: dict[str, Row] = {}  # of them, brought by this connection before its log was known
        self.invented: set[str] = set()
        self.waiting: dict[str, Waiting] = {}
        self.fresh = False  # a new log, not yet read to its end
        self.holes = False
        self.excused = 0, 0  # the first position: the log it is of, and its number; what is not above it is not ours to judge
        # the connection
        self.connection: int | None = None
        self.dialled: int | None = None
        self.resumed = False
        self.proven = True
        self.compared = False  # a reading came to its end on this connection
        self.top_here = 0
        self.top_at_open = 0
        self.promised = 0  # up to here nothing is left to the time without a socket
        self.in_catch_up = False
        self.pong_at: float | None = None
        self.round_at: float | None = None
        self.round_fresh = False
        # readings
        self.reading: Reading | None = None
        self.failing = False
        self.forbidden = False
        self.wait_until = self.not_before = -math.inf
        self.asked_at: deque[float] = deque(maxlen=6)
        self.recovered: list[int] = []  # since the last comparison ended
        self.silent_top = 0  # the highest of it that the connection should have brought
        # a dense log: numbers that the socket passed over
        self.brought: set[int] = set()  # by this connection
        self.jumped_at = math.inf  # the first jump since the last question was asked
        self.answered_at = -math.inf  # when the last reading ended
        # where the connection stands
        self.state = "idle"
        self._entered = 0.0
        self._seconds: dict[str, float] = defaultdict(float)
        self.unanswered = 0  # readings in a row
        self.handshakes = 0  # in a row that failed, since a connection
        self.poll_from = self.poll_until = 0.0  # when the next poll is due
        self.failures = 0  # handshakes, and connections that were not stable, in a row
        self.stable_at = math.inf
        self.unstable = False  # the connection has not been open yet
        # the push path
        self.is_behind = False
        self.suspicion = math.inf

    @classmethod
    def successor(cls, saved: Judge) -> Judge:
        """The fold of the next process, which knows what `saved` had when the state file was written, and no more. Counters start at 0."""
        result = cls(saved.rules)
        if not saved.based:
            if not saved.mine:
                return result
            saved.promised = saved.promised_now
            saved._base_on_first()
        result.invented = set(saved.invented)
        result.known = dict.fromkeys(list(saved.known)[-IDENTITIES_KEPT:])
        result.based, result.life, result.fresh, result.excused = True, saved.life, saved.fresh, saved.excused
        higher = {row.number: row for row, _ in saved.pending.values() if row.number > saved.top}
        unproven = len(higher)
        if unproven > UNCOMPARED_KEPT:  # of whatever log they are: the next process could not tell them from others
            saved.mine = higher
            result.life, unproven = higher[max(higher)].life, 0
        top = sorted(saved.mine)[-2:]
        result.mine = {number: saved.mine[number] for number in top}
        result.floor, result.floor_before, below = saved.settled
        above = saved.counters.firsts - below
        if above > UNCOMPARED_KEPT and top:
            above = unproven
            result.floor, result.floor_before = saved.mine[top[-1]], top[0] if len(top) > 1 else None
            result.excused = saved.mine[top[-1]].life, top[0]  # what the socket left out before it stays unknown
        result.below = -above
        result.settled = result.floor, result.floor_before, result.below
        result.base = 0 if result.floor is None else result.floor.number
        if result.floor_before is not None:
            result.base = result.floor_before  # what may stand between the two was not compared
        result.head = result.base
        result.promised = saved.promised_now
        return result

    # -- facts -------------------------------------------------------------------------------------------------------

    def feed(self, fact: Fact) -> None:
        """One fact of the client's side; the server's own are passed over."""
        if isinstance(fact, Arrived):
            self.advance(fact.at)
            if fact.connection == self.connection:
                self._arrived(fact.at, fact.frame)
        elif isinstance(fact, Asked):
            self.advance(fact.at)
            self._asked(fact)
        elif isinstance(fact, Answered):
            self.advance(fact.at)
            if self._awaited(fact.poll):
                self._answered(fact)
        elif isinstance(fact, Unanswered):
            self.advance(fact.at)
            if self._awaited(fact.poll):
                self._unanswered(fact)
        elif isinstance(fact, Dialled):
            self.advance(fact.at)
            self._expect(fact.at, "dialled after", self.dial_after, fact.after)
            self.dialled = fact.after
        elif isinstance(fact, Started):
            self._move(fact.at, "connecting")
        elif isinstance(fact, Failed):
            self.advance(fact.at)
            self._failed(fact)
        elif isinstance(fact, Renewed):
            self.not_before = -math.inf
            self.poll_from = min(self.poll_from, fact.at)
        elif isinstance(fact, Opened):
            self.advance(fact.at)
            self._opened(fact.at, fact.connection)
        elif isinstance(fact, Closed):
            self.advance(fact.at - 2 * SAME_S if fact.local else fact.at)  # what is due when the client closes is decided by the close
            self._closed(fact.at)

    def _judge_patience(self, now: float) -> None:
        """What the socket of a dense log passed over is looked for when the grace is over, if nothing is in the way; not a minute later."""
        free = self.connection is not None and self.based and self.reading is None and self.round_at is None and not self.failing
        due = max(self.jumped_at + self.rules.hole_grace_s, self.answered_at, self.wait_until)
        if self.rules.audit and free and due + LATE_S < now:
            self.complaints.append(f"{now:.3f}: a jump seen at {self.jumped_at:.3f} is not looked into")
            self.jumped_at = math.inf

    def advance(self, now: float) -> None:
        """Let time pass: what is due at or before `now` happens."""
        self._judge_patience(now)
        if self.stable_at <= now:
            self.stable_at, self.failures = math.inf, 0
        while True:
            if self.suspicion <= now:
                self.suspicion, self.is_behind = math.inf, True
                self.counters.behind += 1
            due = [waiting for waiting in self.waiting.values() if self._due(waiting) <= now]
            for waiting in due:
                self._book(waiting)
            ended = self._end_reading(now)
            if self.round_at is not None and self.failing and self.round_at + self.rules.ack_timeout_s <= now:
                self._give_up(now)
            elif not ended:
                return

    # -- where the connection stands ---------------------------------------------------------------------------------

    def _move(self, at: float, state: str) -> None:
        if state != self.state:
            if self.state != "idle":
                self._seconds[self.state] += at - self._entered
            self.state, self._entered = state, at
        if state == "open" and self.stable_at == math.inf and self.unstable:
            self.stable_at, self.unstable = at + STABLE_S, False

    def seconds(self, now: float) -> dict[str, float]:
        """Time by state."""
        return {**self._seconds, self.state: self._seconds[self.state] + now - self._entered}

    def _failed(self, fact: Failed) -> None:
        """Refused credentials are `failed`; a probe that fails while polling changes nothing; any other failure is `reconnecting`, or after thirty `failed`."""
        self.failures += 1
        if fact.denied:
            self._abort()
        elif self.state != "polling":
            self.handshakes += 1
        if fact.denied or (self.failures >= BREAKER and self.state != "polling"):
            self._move(fact.at, "failed")
        elif self.state == "connecting":
            self._move(fact.at, "reconnecting")

    def _carry_on(self, at: float) -> None:
        """The feed answers while no socket can be had."""
        if self.connection is None and self.state in ("reconnecting", "failed"):
            self._move(at, "polling")
        self._poll_next(at)

    def _poll_next(self, at: float) -> None:
        self.poll_from = self.poll_until = at + self.rules.polling_interval_s

    def _due(self, waiting: Waiting) -> float:
        """The grace begins when the row was found, and not before the catch-up of a connection that resumed is over."""
        begins = waiting.at
        if self.round_at is not None and self.rules.resumes:
            begins = math.inf if self.pong_at is None else max(begins, self.pong_at)
        return begins + self.rules.hole_grace_s

    def _expect(self, at: float, what: str, expected: object, actual: object) -> None:
        if expected != actual:
            self.complaints.append(f"{at:.3f}: {what} {actual}, the rules say {expected}")

    # -- positions ---------------------------------------------------------------------------------------------------

    @property
    def top(self) -> int:
        """The highest number delivered of the log that is known."""
        return max(self.mine, default=0)

    @property
    def dial_after(self) -> int | None:
        """One event before the last, so that the first one to come is known."""
        if not self.rules.resumes:
            return None
        if not self.mine:
            return None if self.floor is None else self.floor.number
        return sorted(self.mine)[-2:][0]

    @property
    def reference(self) -> Row | None:
        """What a reading has to find again."""
        return self.floor or (self.mine[self.top] if self.top > self.base else None)

    @property
    def promised_now(self) -> int:
        """What is promised if the connection ended now: one that promised anything had to bring all up to what it brought."""
        return self.top if not self.based or self.compared or (self.resumed and not self.fresh) else self.promised

    # -- a connection ------------------------------------------------------------------------------------------------

    def _opened(self, at: float, connection: int) -> None:
        self.connection, self.handshakes, self.forbidden = connection, 0, False
        self.not_before = -math.inf
        self._abort()
        if not self.based and self.mine:
            self._base_on_first()
        self.resumed, self.compared = self.dialled is not None, False
        self.proven = self.reference is None
        self.top_here, self.silent_top, self.pong_at = 0, 0, None
        self.brought, self.jumped_at = set(), math.inf
        self.top_at_open = self.top
        self.in_catch_up = self.resumed
        self.unproven = {}
        self.unstable = True
        self._move(at, "resyncing" if self.based else "open")
        if self.based:
            self.round_at, self.round_fresh = at, self.fresh

    def _base_on_first(self) -> None:
        """A connection that brought something before the log could be read has set the first position itself: its first event.

        It is found again behind the number before it, or, where numbers may leave some out, with the event after it.
        """
        numbers = sorted(self.mine)[:2]
        self.based = True
        self.base = self.head = numbers[0]
        if self.rules.dense:
            self.floor, self.floor_before = self.mine[numbers[0]], numbers[0] - 1
        else:
            self.floor, self.floor_before = self.mine[numbers[-1]], numbers[0] if len(numbers) > 1 else None
        self.excused = self.floor.life, self.base
        self.pending.pop(self.floor.identity, None)
        self._forget_up_to_base()

    def _floor_moved(self) -> None:
        """What was not compared is above the new floor: the next process has to know it, so it becomes the newest known."""
        self.below = self.counters.firsts - len(self.pending)
        for identity in self.pending:
            self.known.pop(identity, None)
            self.known[identity] = None

    def _forget_up_to_base(self) -> None:
        self.pending = {identity: (row, invented) for identity, (row, invented) in self.pending.items() if row.number > self.base}
        self._floor_moved()
        self.settled = self.floor, self.floor_before, self.below

    def _closed(self, at: float) -> None:
        if self.suspicion < math.inf:
            self.counters.behind += 1
            self.suspicion = math.inf
        self._abort()
        self._end_catch_up()
        for waiting in self.waiting.values():
            if waiting.row.number > max(self.top_here, self.promised):
                waiting.origin = "store"  # lost with the connection, not left out by it
        for waiting in list(self.waiting.values()):
            self._book(waiting)
        self._settled_here()
        if self.round_at is not None:
            self._end_round("none", "unverifiable")
        elif self.recovered:
            self.counters.gaps_live += 1
        self.recovered = []
        self.unproven = {}
        self.connection = None
        if self.unstable or self.stable_at < math.inf:
            self.failures += 1
        self.stable_at, self.unstable = math.inf, False
        self._move(at, "reconnecting")
        if self.failures >= BREAKER:
            self._move(at, "failed")
        self.promised = self.promised_now
        self.resumed = self.compared = False

    def _end_catch_up(self) -> None:
        self.in_catch_up = False
        self.counters.store += self.counters.undecided
        self.counters.undecided = 0

    def _arrived(self, at: float, frame: Frame) -> None:
        if frame.kind is Kind.PONG:
            if self.pong_at is None:
                self.pong_at = at
                self._end_catch_up()
                self._socket_alone(at)
                self.advance(at)
            return
        if frame.kind is Kind.GARBAGE:
            self.counters.malformed += 1
            return
        assert isinstance(frame, FeedFrame)
        self.counters.replayed += self.in_catch_up
        row = None if frame.number is None else Row(frame.epoch, frame.number, frame.identity)
        if row is not None and not self.proven and row.number == self.top:
            if row == self.mine[self.top]:
                self._proof()
            else:
                self._reset(at, row.life)
        if frame.identity in self.known and (frame.strong or row is not None):
            del self.known[frame.identity]
            self.known[frame.identity] = None
            self.counters.duplicates += 1
            return
        if self.in_catch_up:
            self.counters.undecided += 1
        else:
            self.counters.live += 1
        if frame.strong or row is not None:
            self.known[frame.identity] = None
        if row is None:
            self.counters.bad_sequence += frame.bad_number
            return
        if self.proven and self.reference is not None and row.life != self.life:
            self.exemptions["frames of a log that ended, on a connection that was open"] += 1
        if not self.in_catch_up and self.suspicion < math.inf:
            self.suspicion = math.inf
            self.counters.verified += 1
        self._numbered(at, row, frame.invented)

    def _numbered(self, at: float, row: Row, invented: bool) -> None:
        """A first copy with a number."""
        if invented:
            self.invented.add(row.identity)
        self.brought.add(row.number)
        known = max(self.top_here, self.head)
        if self.rules.dense and not self.holes and row.number > known + 1 and (known or self.based):
            self.jumped_at = min(self.jumped_at, at)
        if row.number < self.top_here:
            self.counters.out_of_order += 1
        self.top_here = max(self.top_here, row.number)
        if self.proven:
            self._deliver(row)
        if self.waiting.pop(row.identity, None) is not None:
            self.counters.found_late += not self.in_catch_up
            self._settled_here()
        elif self.proven and row.number <= self.head:
            self.counters.found_invented += row.number > self.base
        else:
            self.pending[row.identity] = row, invented
            if not self.proven:
                self.unproven[row.identity] = row

    def _deliver(self, row: Row) -> None:
        if self.reference is None:
            self.life = row.life
        self.mine[row.number] = row

    # -- which log ---------------------------------------------------------------------------------------------------

    def _proof(self) -> None:
        """The log is the one that is known: what this connection brought is of it."""
        if self.proven:
            return
        self.proven = True
        for identity, row in self.unproven.items():
            if row.life != self.life:
                self.exemptions["a connection and the feed were of two logs"] += 1
            self._deliver(row)
            if identity in self.pending and row.number <= self.head:
                del self.pending[identity]
                self.counters.found_invented += row.number > self.base
        self.unproven = {}

    def _reset(self, at: float, life: int | None, read: bool = False, meanwhile: bool = False) -> None:
        """The log is another one. `life`: None if nothing of it was seen yet. `read`: the feed says so; `meanwhile`: it was replaced between two pages."""
        if life == self.life:
            known = {self.reference, self.mine.get(self.top), self.mine.get(self.floor_before or 0), self.mine.get(self.dialled or 0)}
            known |= set() if self.reading is None else {self.reading.reference}
            if any(row is not None and row.identity in self.invented for row in known):
                self.exemptions["what the next reading had to find again was invented"] += 1
            elif not read and self.forbidden:
                self.exemptions["a feed that may not be read, and a catch-up that left out its first event"] += 1
            else:
                self.complaints.append(f"{at:.3f}: a reset, and the log is the same")
        self._abort()
        self.counters.resets += 1
        self.life = life
        stale = self.connection is None or self.proven or meanwhile or (read and self.top_here > 0)
        brought = {} if stale else dict(self.unproven)
        if any(row.life != life for row in brought.values()):
            self.exemptions["a connection and the feed were of two logs"] += 1
        self.mine = {row.number: row for row in brought.values()}
        self.pending = {identity: kept for identity, kept in self.pending.items() if identity in brought}
        self.waiting = {}
        self.unproven = {}
        self.floor = self.floor_before = None
        self._floor_moved()
        self.settled = None, None, self.below
        self.base = self.head = self.top_at_open = self.promised = 0
        self.resumed, self.compared, self.dialled = False, False, None
        self.based = self.proven = self.fresh = True
        self._carry_on(at)
        self.poll_from = at  # fleets are spread over the seconds that follow
        if self.connection is not None and not stale:  # else the connection is left at once
            self.round_at = at if self.round_at is None else self.round_at
            self._move(at, "resyncing")
            self.round_fresh = True

    def _socket_alone(self, at: float) -> None:
        """Where the feed is forbidden the socket's word is all there is: a catch-up that was asked to begin with the last event and did not is of another log."""
        if self.forbidden and self.resumed and not self.proven and self.pong_at is not None and self.round_at is None:
            overlap = self.mine and self.dialled is not None and self.dialled < self.top
            if overlap:
                self._reset(at, max((row.life for row in self.unproven.values()), default=None))

    # -- reading -----------------------------------------------------------------------------------------------------

    def _awaited(self, poll: int) -> bool:
        return self.reading is not None and self.reading.asked and self.reading.poll == poll

    def _asked(self, fact: Asked) -> None:
        reading = self.reading
        if fact.at < self.wait_until - SAME_S:
            self.complaints.append(f"{fact.at:.3f}: asked {self.wait_until - fact.at:.3f} s before the server wanted to be asked again")
        if reading is not None:
            if reading.asked:
                self.complaints.append(f"{fact.at:.3f}: asked while an answer is awaited")
            self._expect(fact.at, "asked after", reading.after or None, fact.after)
            reading.poll, reading.asked = fact.poll, True
            return
        if not self.based and self.mine and self.connection is None:
            self._base_on_first()
        if fact.tip:
            purpose = "tip" if self.based else "base"
        elif self.connection is None:
            purpose = "poll"
        else:
            purpose = "resume" if self.round_at is not None else "audit"
        if not fact.tip:
            self._expect(fact.at, "asked after", self.floor_before or None, fact.after)
        self._judge_time(fact.at)
        if not fact.tip:
            self.jumped_at = math.inf  # the answer explains it
        self.reading = Reading(purpose, fact.poll, fact.after, self.reference, self.reference is None, held=[], before=fact.after)

    def _judge_time(self, at: float) -> None:
        """What failed is not asked again at once, and nothing is asked all the time."""
        if self.connection is None and self.state == "polling":
            if not self.poll_from - SAME_S <= at <= max(self.poll_until, self.wait_until) + SAME_S:
                self.complaints.append(f"{at:.3f}: polled, due from {self.poll_from:.3f} to {self.poll_until:.3f}")
        elif self.connection is None and self.handshakes < HANDSHAKES_TO_POLL:
            self.complaints.append(f"{at:.3f}: polled after {self.handshakes} failed handshakes")
        if self.connection is not None and at < self.not_before - SAME_S:
            self.complaints.append(f"{at:.3f}: asked {self.not_before - at:.3f} s earlier than a pause after a failure")
        self.asked_at.append(at)
        if len(self.asked_at) == self.asked_at.maxlen and at - self.asked_at[0] < 1.0:
            self.complaints.append(f"{at:.3f}: {len(self.asked_at)} readings in a second")

    def _abort(self) -> None:
        """A reading that is given up: what it found stays found, and the next one begins behind what it read."""
        reading, self.reading = self.reading, None
        if reading is not None and reading.purpose in ("resume", "audit", "poll") and reading.known_log and reading.newest is not None:
            self.floor, self.floor_before = reading.newest, reading.before
            self._floor_moved()
            self._settled_here()

    def _settled_here(self) -> None:
        if not self.waiting:
            self.settled = self.floor, self.floor_before, self.below

    def _unanswered(self, fact: Unanswered) -> None:
        reading = self.reading
        assert reading is not None
        self._abort()
        if fact.retry_after_s is not None:
            self.wait_until = fact.at + fact.retry_after_s
        if reading.purpose in ("resume", "audit"):
            self.counters.failed += 1
        if reading.purpose in ("audit", "tip"):
            self.counters.unanswered += 1
        self.failing, self.forbidden = True, fact.status == 403
        self.not_before = fact.at + self.rules.pause_s
        self.unanswered += 1
        self._poll_next(fact.at)
        if self.state == "polling" and self.unanswered >= POLLS_TO_LEAVE:
            self._move(fact.at, "reconnecting")
        if self.forbidden and self.connection is not None and self.round_at is not None:
            self._give_up(fact.at)

    def _answered(self, fact: Answered) -> None:
        reading = self.reading
        assert reading is not None
        self.counters.bad_sequence += fact.malformed
        self.failing = self.forbidden = False
        self.unanswered = 0
        reading.asked = False
        if reading.purpose == "base":
            self._base_answered(reading, fact)
        elif reading.purpose == "tip":
            self._tip_answered(fact)
        else:
            self._page(reading, fact)
        self.advance(fact.at)

    def _base_answered(self, reading: Reading, fact: Answered) -> None:
        newest = fact.newest
        if newest and (not fact.rows or fact.rows[-1].number != newest) and not reading.second:
            reading.second, reading.after = True, newest - 1
            return
        self.reading, self.answered_at = None, fact.at
        self.based = self.compared = True
        newest_of_all = fact.rows[-1].number if fact.rows else newest or 0
        if len(self.mine) > (0 if self.rules.dense else 1) and min(self.mine) < newest_of_all:
            self._base_on_first()
            self._carry_on(fact.at)
            return
        if fact.rows:
            self.floor = fact.rows[-1]
            self.floor_before = fact.rows[-2].number if len(fact.rows) > 1 else reading.after
            self.base = self.floor.number
        else:
            self.floor, self.floor_before, self.base = None, newest or None, newest or 0
        if self.mine and self.life != fact.life:
            self.exemptions["the first position was read from another log than a connection brought"] += 1
        if self.floor is not None:
            self.life = fact.life
        self.head = self.base
        self.excused = fact.life, self.base
        self._forget_up_to_base()
        self._carry_on(fact.at)

    def _tip_answered(self, fact: Answered) -> None:
        """Equal: verified. Ahead with a row that the socket should have brought: behind, if nothing comes within the grace. Else only a comparison can tell."""
        self.reading = None
        shown = fact.rows[-1] if fact.rows and fact.newest in (None, fact.rows[-1].number) else None
        number = shown.number if shown is not None else fact.newest or 0
        best = self.mine[self.top] if self.mine else None
        for known in (best, self.floor):
            if known is not None and known.number == number >= self.top and (shown is None or shown == known):
                self.counters.verified += 1
                self.is_behind = False
                return
        if number == 0 and best is None and self.floor is None:
            self.counters.verified += 1
            self.is_behind = False
        elif shown is not None and shown.ours and number > self.top:
            if self.is_behind:
                self.counters.behind += 1
            else:
                self.suspicion = fact.at + self.rules.verify_grace_s

    def _page(self, reading: Reading, fact: Answered) -> None:
        rows = fact.rows
        if reading.overlap is not None:
            if not rows or rows[0] != reading.overlap:
                self._reset(fact.at, fact.life, read=True, meanwhile=True)
                return
            rows = rows[1:]
        for row in rows:
            if reading.known_log:
                self._row(fact.at, reading, row)
                continue
            reference = reading.reference
            assert reference is not None
            if row.number == reference.number and row.identity == reference.identity:
                reading.known_log = True
                self._proof()
                for held in reading.held:
                    self._row(fact.at, reading, held)
                self._row(fact.at, reading, row)
            elif row.number >= reference.number or (reading.after is not None and row.number <= reading.after):
                self._reset(fact.at, fact.life, read=True)
                return
            else:
                reading.held.append(row)
        if not reading.known_log and fact.next_after is None:
            self._reset(fact.at, fact.life, read=True)
            return
        if reading.known_log:
            if reading.reference is None and not self.mine:
                self.life = fact.life  # nothing was known that could be recognised, and nothing that could be lost
            if self.life is not None and self.life != fact.life:
                self.exemptions["another log looks the same"] += 1
            if fact.next_after is None:
                self._proof()
            self._read_past()
            if reading.purpose == "poll":
                for waiting in list(self.waiting.values()):
                    self._book(waiting)
        if fact.next_after is None:
            reading.after = -1  # all pages are here
            return
        reading.after, reading.overlap = fact.next_after, None
        if len(fact.rows) > 1 and fact.rows[-1].number == fact.next_after:
            reading.after, reading.overlap = fact.rows[-2].number, fact.rows[-1]

    def _row(self, at: float, reading: Reading, row: Row) -> None:
        if reading.newest is not None:
            reading.before = reading.newest.number
        reading.newest = row
        if self.head and row.number > self.head + 1:
            self.holes = True
        self.head = max(self.head, row.number)
        if self.floor is not None and row.number == self.floor.number:
            self.pending.pop(row.identity, None)
            return
        if not row.ours or row.number <= self.base:
            return
        compared = self.pending.pop(row.identity, None) is not None
        if compared or row.identity in self.known:
            self._deliver(row)
        elif row.identity not in self.waiting:
            self.waiting[row.identity] = Waiting(row, at, self._origin(row))

    def _origin(self, row: Row) -> str:
        """What the row becomes if the socket does not bring it in time."""
        connected = self.connection is not None
        by_socket = self.compared or (self.resumed and self.dialled is not None and row.number > self.dialled)
        if row.number <= self.promised or (connected and by_socket):
            return "audit"
        return "store" if connected else "poll"

    def _read_past(self) -> None:
        for identity, (row, invented) in list(self.pending.items()):
            if row.number <= self.head:
                del self.pending[identity]
                self.counters.found_invented += 1
                if not invented:
                    self.exemptions["an event is not in the log that the feed shows"] += 1

    def _book(self, waiting: Waiting) -> None:
        row = waiting.row
        del self.waiting[row.identity]
        self.known[row.identity] = None
        self._deliver(row)
        setattr(self.counters, waiting.origin, getattr(self.counters, waiting.origin) + 1)
        if waiting.origin == "audit":
            self.counters.missed += 1
            self.counters.recovered += 1
            self.counters.found_missed += 1
            self.recovered.append(row.number)
            if row.number > self.top_at_open:
                self.silent_top = max(self.silent_top, row.number)

    def _end_reading(self, now: float) -> bool:
        """Whether the reading has come to its end: all pages are here, nothing waits for the socket, and a catch-up is over."""
        reading = self.reading
        if reading is None or reading.asked or reading.after != -1 or self.waiting or reading.purpose in ("base", "tip"):
            self._settled_here()
            return False
        if self.round_at is not None and self.rules.resumes and self.pong_at is None:
            return False
        self._abort()
        self.answered_at = now
        behind = {number for number in self.brought if number > self.head}
        if self.holes or behind == set(range(self.head + 1, self.head + 1 + len(behind))):
            self.jumped_at = math.inf  # nothing is passed over any more
        repaired, self.recovered = self.recovered, []
        fresh, self.fresh, self.compared, self.promised = self.fresh, False, True, self.top
        if reading.purpose == "poll":
            self.is_behind, self.suspicion, self.silent_top = False, math.inf, 0
            self.counters.gaps_live += bool(repaired)
            self._carry_on(now)
            return True
        self.counters.repaired += bool(repaired)
        self.counters.clean += not repaired
        silent, self.silent_top = self.silent_top > self.top_here, 0
        if silent:
            self.is_behind, self.suspicion = True, math.inf
            self.counters.behind += 1
        elif self.round_at is None:
            self.counters.verified += 1
            self.is_behind = False
        if self.round_at is None:
            self.counters.gaps_live += bool(repaired)
        else:
            self.recovered = repaired
            unknown = fresh or self.round_fresh or (not repaired and self.rules.dense and self.holes)
            self._end_round("complete", "unverifiable" if unknown else "contradicted" if repaired else "verified")
            self._move(now, "open")
        return True

    def _end_round(self, claim: str, verdict: str) -> None:
        self.resyncs[claim, verdict] += 1
        self.counters.gaps_reconnect += bool(self.recovered)
        self.recovered = []
        self.silent_top = 0
        self.round_at = None
        self.round_fresh = False

    def _give_up(self, at: float) -> None:
        """The feed does not answer: the connection goes on without its word."""
        self._end_round("none", "unverifiable")
        self._move(at, "open")
        self._socket_alone(at)

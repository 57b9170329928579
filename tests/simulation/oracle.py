"""The oracle: what the counters must be, folded from facts alone, by the accounting rules (wire: relaycast accounting, rules 1 to 9).

What belongs here: the specification read as plainly as possible, with sets and one entry per number, and no look at the implementation.
Which frames were replay is known here as fact (the server's own label), not inferred. It is inferred, by the rules' own definition, only where
the wire cannot tell:

* a round that ended without an acknowledgement (rule 2's definition);
* a round whose acknowledgement was untrue or came before its replay, so that its number of replayed frames proves nothing (rules 2 and 4);
* a counter restart that outran the cursor, the ring and the channels' own numbers.

Each use in which the definition differs from the truth is counted in `exemptions`.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence

import msgspec

from tests.simulation.facts import Pushed, Requested
from tests.simulation.harness.facts import AckFacts, Arrived, Closed, Fact, Frame, Kind, Label, Opened, Pinged
from tests.simulation.manners import Manners, since_of
from tests.simulation.rounds import Chain, Decision, Noted, Round, claimed_frames, labels_with, labels_without

SAME_S = 1e-9  # times nearer than this are one moment
STAMPS_S = 1.0  # stamps of neighbours may differ by this much without meaning anything
FORGOTTEN = ""  # the identity of a number of which only the number was saved
TIP_ONLY = 2**53 - 1  # a request that replays nothing and is answered with the server's newest number


class Rules(msgspec.Struct, frozen=True):
    """The settings that the accounting depends on, seconds and counts."""

    hole_grace_s: float = 2.0
    ack_timeout_s: float = 10.0
    max_jump: int = 100_000
    page_limit: int = 1000
    verify_interval_s: float = 60.0
    verify_grace_s: float = 2.0
    unanswered_retry_s: float = 300.0
    heartbeat_timeout_s: float = 10.0


class Counters(msgspec.Struct):
    """What the ledger must show."""

    live: int = 0
    ring: int = 0
    store: int = 0
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
    implausible_jump: int = 0
    ack_unsolicited: int = 0
    ack_early: int = 0
    ack_missing: int = 0
    replay_short: int = 0


class Judge:
    """The fold. Feed facts in order, then read `counters`."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.counters = Counters()
        self.resyncs: Counter[tuple[str, str]] = Counter()
        self.exemptions: Counter[str] = Counter()
        self.manners = Manners(rules.verify_interval_s, rules.verify_grace_s, rules.unanswered_retry_s)
        self.round: Round | None = None
        self.cursor: int | None = None
        self.given_up: set[int] = set()
        self._connection: int | None = None
        self._proven = False
        self._anchor: int | None = None  # the cursor when a connection that was proven closed: what the next overlap is compared with
        self._baseline = 1
        self._top = 0
        self._earlier_top = 0  # as earlier connections left it: brought, or told by an acknowledgement
        self._of: dict[int, str] = {}  # number -> identity, this epoch
        self._mine: dict[int, Frame] = {}  # numbers of this connection
        self._live_from = math.inf  # the lowest of them that came live
        self._parked: dict[int, Frame] = {}  # implausible numbers, waiting for an acknowledgement
        self._holes: dict[int, float] = {}  # overtaken, not confirmed: since when
        self._confirmed: set[int] = set()
        self._old_confirmed = 0  # of epochs that ended
        self._owed = False  # a full resync is owed
        self._lanes: dict[int, int] = {}  # number -> the channel's own number
        self._earlier_lane: tuple[int, int] | None = None  # the highest of them that earlier connections brought
        self._truth: int | None = None  # the server's life that our numbers belong to, as fact
        self._times: dict[int, float | None] = {}
        self._time: float | None = None  # the last that was known at or below our position
        self._known: set[object] = set()
        self._unnumbered = 0
        self._chain: Chain | None = None
        self._page = False  # the next request turns a page
        self._pings: deque[float] = deque()  # of this connection, unanswered: when sent

    @classmethod
    def successor(cls, saved: Judge, now: float) -> Judge:
        """The fold of the next process, which knows what `saved` had when the state file was written, and no more.

        That is: the cursor, identity, time and channel's number of its event and of the one before, the time that `since` begins with, the numbers
        seen above it, the confirmed holes (missed in this process too), whether a full resync is owed, and the newest identities. Counters start at 0.
        """
        result = cls(saved.rules)
        if saved.cursor is None:
            return result
        cursor = result.cursor = saved.cursor
        result._anchor = saved._position()
        known = [number for number in sorted({saved._position() - 1, saved._position(), cursor}) if number in saved._of]
        above = {number for number in saved._of if number > cursor}
        result._of = {number: saved._of[number] for number in known} | dict.fromkeys(above, FORGOTTEN)
        result._times = {number: saved._times[number] for number in known}
        result._lanes = {number: saved._lanes[number] for number in known if number in saved._lanes}
        result._baseline = cursor + 1
        result._top = max((*above, *saved._confirmed, cursor))
        result._confirmed = set(saved._confirmed)
        result._holes = {n: now for n in range(cursor + 1, result._top) if n not in above and n not in saved._confirmed}
        result._owed, result._old_confirmed = saved._owed, saved._old_confirmed
        result._known = set(saved._known)
        result._truth = saved._truth
        missing = len(saved._confirmed) + saved._old_confirmed
        result.counters.missed = result.counters.missing = missing
        result._time = saved._since_time()
        return result

    # -- facts -------------------------------------------------------------------------------------------------------

    def feed(self, fact: Fact) -> None:
        """One fact of the client's side; the server's own are passed over."""
        if isinstance(fact, Arrived):
            self.advance(fact.at)
            self.manners.still_silent(fact.at)
            if fact.connection == self._connection:
                self._arrived(fact.at, fact.frame)
        elif isinstance(fact, Requested):
            self.advance(fact.at)
            self._requested(fact)
        elif isinstance(fact, Pinged):
            self._pings.append(fact.at)
        elif isinstance(fact, Opened):
            self.advance(fact.at)
            self._opened(fact.at, fact.connection)
        elif isinstance(fact, Closed):
            self._advance_to_close(fact.at)
            self._closed(fact)

    def advance(self, now: float) -> None:
        """Let time pass: what is due at or before `now` happens."""
        while (due := self._due()) <= now + SAME_S:
            self._happen(due)

    def _advance_to_close(self, now: float) -> None:
        # A round that ends because the client closes at its deadline ends by the close, not before it.
        while (due := self._due()) <= now + SAME_S:
            if due >= now - SAME_S and self.round is not None and self.round.early is None:
                return
            self._happen(due)

    def _due(self) -> float:
        round_ = self.round
        if round_ is not None:
            last = round_.last_event
            if round_.early is not None:
                return min(last + self.rules.hole_grace_s, round_.begun + 6 * self.rules.ack_timeout_s)
            return min(last + self.rules.ack_timeout_s, round_.begun + 6 * self.rules.ack_timeout_s)
        if self._proven and not self._page and self._connection is not None and self._holes:
            return min(self._holes.values()) + self.rules.hole_grace_s
        return math.inf

    def _happen(self, due: float) -> None:
        if self.round is None:
            for number in [n for n, since in self._holes.items() if since + self.rules.hole_grace_s <= due]:
                self._confirm(number)
            self.manners.hole_confirmed(due)
        elif self.round.early is not None:
            self._settle(due, self.round.early, short=True)
        else:
            self._end_unanswered(due, timed_out=True)

    # -- connections -------------------------------------------------------------------------------------------------

    def _opened(self, at: float, connection: int) -> None:
        self._connection = connection
        self.manners.opened(at)
        self._mine = {}
        self._pings.clear()
        self._live_from = math.inf
        self._earlier_lane = max(self._lanes.items(), default=None)
        self._earlier_top = self._top
        self._proven = self.cursor is None  # no number was ever seen before

    def _closed(self, fact: Closed) -> None:
        if self.round is not None:
            silent = self._pings and fact.at >= self._pings[0] + self.rules.heartbeat_timeout_s - SAME_S
            self._end_unanswered(fact.at, timed_out=fact.local and not silent and self._due() <= fact.at + SAME_S)
        if self._proven or self._anchor is None:
            self._anchor = self.cursor
        if self._proven and not self._owed:
            self._confirm_all()
        self._connection = None
        self._parked = {}
        self.manners.closed()

    def _requested(self, fact: Requested) -> None:
        if self.round is not None:
            self.manners.complaints.append(f"{fact.at:.3f}: a request inside an open round")
            return
        page = self._chain if self._page else None
        expected: float = TIP_ONLY if self.cursor is None else -1 if self._owed else self._position() - 1
        if page is not None:
            expected = page.after
        obliged = bool(page or self._owed or self._confirmed or self._parked)
        self.manners.asked(fact, expected, self._since_time(), obliged, page is not None)
        if page is None:
            if self._proven:
                self._confirm_all()
            self._chain = Chain(fact.after)
        self._page = False
        if self._live_from == math.inf:
            self._live_from = min(self._mine, default=math.inf)
        self.round = Round(
            after=fact.after,
            since_s=since_of(fact),
            cursor=self._position(),
            full=fact.after == -1 and self._owed,
            begun=fact.at,
            last_event=fact.at,
            before=frozenset(self._mine),
            live_from=self._live_from,
            seen_top=max(self._of, default=0),
        )

    def _position(self) -> int:
        """The cursor as far as its epoch is proven: an unproven connection may have moved it on numbers of another life."""
        if self.cursor is None:
            return 0
        return self.cursor if self._proven or self._anchor is None else self._anchor

    def _since_time(self) -> float | None:
        """The server time of the highest event at or below our position that has one, be it late; until a new epoch is settled the old one's. Where
        none is known the last one stands: older is safe, none is not.
        """
        known = [(number, time_s) for number, time_s in self._times.items() if time_s is not None and number <= self._position()]
        if known and not (self._owed and self._time is not None):
            self._time = max(known)[1]
        return self._time

    # -- frames ------------------------------------------------------------------------------------------------------

    def _arrived(self, at: float, frame: Frame) -> None:
        if frame.kind is Kind.PONG:
            self._pings.popleft()
        elif frame.kind is Kind.GARBAGE:
            self.counters.malformed += 1
        elif frame.kind is Kind.ACK:
            assert frame.ack is not None
            self._acknowledged(at, frame.ack, frame.request)
        elif frame.kind is Kind.EVENT:
            self._event(at, frame)

    def _event(self, at: float, frame: Frame) -> None:
        noted = Noted(frame, self._is_first_copy(frame))
        self.counters.duplicates += not noted.first_copy
        self.counters.bad_sequence += frame.bad_number
        if noted.first_copy and frame.number is None:
            self._unnumbered += 1
        if self.round is not None:
            early = self.round.early
            if early is None or frame.number is None or frame.number <= early.current:
                self.round.last_event = at  # what cannot be of the claimed replay does not prolong the wait for it
            self.round.noted.append(noted)
        if frame.number is not None:
            self._number(at, frame, frame.number, noted)
        if self.round is None:
            if noted.new_number:
                self.manners.spoke(at)
            noted.new_number &= not noted.parked
            # Outside a round only the server's own mark tells a replay.
            label = Label.STORE if frame.label is Label.STORE else Label.LIVE
            if frame.label is Label.RING:
                self.exemptions["ring frame outside a round"] += 1
            self._decide(noted, label)
        else:
            self.counters.undecided += noted.first_copy
            early = self.round.early
            if early is not None and claimed_frames(self.round, early) >= early.replayed:
                self._settle(at, early, short=False)

    def _is_first_copy(self, frame: Frame) -> bool:
        """Identity: the wire's id; else (number, content); a replayed row without number by content alone; a live one never known."""
        content = ("content", frame.identity)
        if frame.strong:
            key: object = frame.identity
        elif frame.number is not None:
            key = (frame.number, frame.identity)
        elif frame.label is Label.STORE:
            key = content
        else:
            self._known.add(content)
            return True
        known = key in self._known
        self._known.add(key)
        if not frame.strong:
            self._known.add(content)
        return not known

    def _number(self, at: float, frame: Frame, number: int, noted: Noted) -> None:
        before = self._of.get(number)
        if self.cursor is None:
            self.cursor = self._baseline = self._top = number
            self._see(number, frame)
            return
        if before in (frame.identity, FORGOTTEN):
            if self.round is not None and number == self.round.cursor and number not in self._mine:
                self._proven = True  # the overlap matched what an earlier connection brought
            self._note(number, frame)
            return
        if number in self._mine:
            return  # two events under one number: a restart would have ended the connection
        if before is not None or (not self._proven and (self._is_younger(frame, noted) or self._goes_backwards(frame))):
            self._new_epoch()
        if number > self._top + self.rules.max_jump:
            if number not in self._parked:
                noted.new_number = noted.parked = True
                self.counters.implausible_jump += number > max(self._parked, default=self._top) + self.rules.max_jump
                self._parked[number] = frame
            return
        self._new_number(at, number, frame, noted)

    def _is_younger(self, frame: Frame, noted: Noted) -> bool:
        """A lower number with later server time is of a new epoch, unless the event itself is known."""
        number, cursor = frame.number or 0, self.cursor or 0
        earlier = {n: time_s for n, time_s in self._times.items() if time_s is not None and n > number and n not in self._mine}
        if number > cursor or not earlier or frame.time_s is None or not noted.first_copy:
            return False
        return frame.time_s > earlier[max(earlier)] + STAMPS_S

    def _goes_backwards(self, frame: Frame) -> bool:
        """A new life whose numbers run above ours, betrayed by a channel's own number that is not above what earlier connections had."""
        before = self._earlier_lane
        if before is None or frame.lane is None:
            return False
        return (frame.number or 0) > before[0] and frame.lane <= before[1]

    def _new_number(self, at: float, number: int, frame: Frame, noted: Noted) -> None:
        if number < self._baseline:
            noted.below = True
        elif number in self.given_up:
            self.given_up.discard(number)
            self.counters.late += 1
        elif number in self._confirmed:
            self._confirmed.discard(number)
            self.counters.recovered += 1
            self.counters.missing -= 1
            if self._chain is not None:
                self._chain.healed = True
        else:
            noted.new_number = True
            noted.overtaken = number <= self._top
            if number > self._top + 1:
                for hole in range(self._top + 1, number):
                    self._holes[hole] = at
                if self.round is None and self._proven:
                    self.counters.gaps_live += 1
            self._holes.pop(number, None)
        self._top = max(self._top, number)
        self._see(number, frame)

    def _note(self, number: int, frame: Frame) -> None:
        """Remember a number of this connection."""
        self._mine[number] = frame
        self._of[number], self._times[number] = frame.identity, frame.time_s
        if frame.lane is not None:
            self._lanes[number] = frame.lane

    def _see(self, number: int, frame: Frame) -> None:
        self._note(number, frame)
        if self._truth is None:
            self._truth = frame.epoch
        self._advance_cursor()

    def _advance_cursor(self) -> None:
        assert self.cursor is not None
        while self.cursor + 1 in self._of or self.cursor + 1 in self.given_up:
            self.cursor += 1

    # -- epochs ------------------------------------------------------------------------------------------------------

    def _new_epoch(self) -> None:
        """Rule 5: cursor 0, only this connection's numbers are kept, a full resync is owed; accounted from 1."""
        self.counters.resets += 1
        self._since_time()
        self._old_confirmed += len(self._confirmed)
        self._confirmed = set()
        self._holes = {}
        self.given_up = set()
        self._owed = True
        self._proven, self._anchor = False, None  # the numbers that are kept are this life's
        self.cursor = 0
        self._baseline = 1
        mine = self._mine
        self._truth = max((f.epoch for f in mine.values()), default=None)
        self._lanes = {n: f.lane for n, f in mine.items() if f.lane is not None}
        self._earlier_lane = None
        self._of = {n: f.identity for n, f in mine.items()}
        self._times = {n: f.time_s for n, f in mine.items()}
        self._top = max(mine, default=0)
        self._earlier_top = 0
        parked = set(self._parked)
        for n in sorted(parked):  # this connection's too; how far they jump is judged anew
            if n <= self._top + self.rules.max_jump:
                self._note(n, self._parked.pop(n))
                self._top = max(self._top, n)
        self._holes = {n: math.inf for n in range(1, self._top) if n not in mine}
        self._advance_cursor()
        if self.round is not None:
            self.round.reset = True
            self._renote(self.round, parked)

    def _renote(self, round_: Round, parked: set[int]) -> None:
        """In the new epoch the numbers of this round are new unless the connection had them before the round. Of parked ones that is known."""
        seen = set(round_.before)
        for noted in round_.noted:
            number = noted.frame.number
            if number is None or number not in self._mine or number in parked:
                continue
            noted.new_number = number not in seen
            noted.below = False
            seen.add(number)
        round_.seen_top = max(round_.before, default=0)

    def _judge_order(self, round_: Round) -> None:
        """What came after a higher number; at the round's end, because only then it is known which of the implausible numbers were real."""
        top = round_.seen_top
        for noted in round_.noted:
            number = noted.frame.number
            if number is not None and number in self._of:
                noted.overtaken = number < top
                top = max(top, number)

    # -- the end of a round ------------------------------------------------------------------------------------------

    def _acknowledged(self, at: float, ack: AckFacts, request: int | None) -> None:
        round_ = self.round
        if round_ is None or ack.after != round_.after or round_.early is not None:
            self.counters.ack_unsolicited += 1
            return
        below = self.cursor is not None and ack.current < max(self.cursor, self._earlier_top)
        if below and not round_.reset:
            # Below the cursor, or below a number that an earlier connection brought. Judged on arrival: what comes live after the acknowledgement may rightly be above it. And there is nothing to wait for.
            round_.backwards = True
            self._new_epoch()
        if not below and claimed_frames(round_, ack) < ack.replayed:
            self.counters.ack_early += 1
            round_.early, round_.answers = ack, request
            round_.last_event = at
            return
        round_.answers = request
        self._settle(at, ack, short=False)

    def _decide(self, noted: Noted, label: Label) -> None:
        counters = self.counters
        if label is not Label.LIVE:
            counters.replayed += 1
        if noted.first_copy:
            setattr(counters, label.value, getattr(counters, label.value) + 1)
        if noted.parked:
            noted.new_number = noted.frame.number in self._of
        if noted.new_number and label is Label.RING:
            counters.missed += 1
            counters.recovered += 1
            if self._chain is not None:
                self._chain.newly_missed = True
        elif noted.first_copy and label is Label.LIVE and (noted.below or (noted.new_number and noted.overtaken)):
            counters.out_of_order += 1

    def _decide_round(self, round_: Round, decision: Decision) -> int:
        """Decide every frame; returns the burst's last number (0: no burst)."""
        round_.labels = decision.labels
        if decision.exemption is not None:
            self.exemptions[decision.exemption] += 1
        self._judge_order(round_)
        last = 0
        for noted, label in zip(round_.noted, decision.labels, strict=True):
            self._decide(noted, label)
            if label is Label.LIVE and noted.first_copy and noted.frame.number in self._of:
                self._live_from = min(self._live_from, noted.frame.number or 0)
            if label is Label.RING:
                last = noted.frame.number or 0
        self.counters.undecided = 0
        return last

    def _end_unanswered(self, at: float, timed_out: bool) -> None:
        round_ = self.round
        assert round_ is not None
        self._decide_round(round_, labels_without(round_))
        self.round = None
        if timed_out:
            self.counters.ack_missing += 1
            self.manners.timed_out(at)
        self._end_chain("none", "unverifiable")

    def _end_chain(self, claim: str, verdict: str) -> None:
        assert self._chain is not None
        self.resyncs[claim, verdict] += 1
        self.counters.gaps_reconnect += self._chain.newly_missed
        self._chain = None

    def _settle(self, at: float, ack: AckFacts, short: bool) -> None:
        round_ = self.round
        assert round_ is not None
        self.round = None
        self.manners.answered(at)
        if self.cursor is None:  # a tip check before any number was known: the newest number is the baseline
            self.cursor = self._top = ack.current
            self._baseline = ack.current + 1
        if short:
            self.counters.replay_short += ack.replayed - claimed_frames(round_, ack)
        decision = labels_with(round_, ack)
        if not round_.reset:
            self._check_outrun(round_)
        if not round_.backwards:
            self._accept_parked(at, ack)
        last = self._decide_round(round_, decision)
        if round_.reset:
            self.manners.helped()
            self._end_chain("gap" if ack.gap else "complete", "contradicted" if round_.backwards else "unverifiable")
            return
        self._proven = True
        assert self._chain is not None
        self._chain.gap |= ack.gap
        if self._asks_again(round_):
            self._page = True
            return
        self._conclude(at, ack, last, round_, short)

    def _check_outrun(self, round_: Round) -> None:
        """A new life of the server that nothing on the wire betrayed: the reply begins above everything we know."""
        epochs = [n.frame.epoch for n in round_.noted if n.frame.number is not None]
        if not epochs or self._truth is None or max(epochs) <= self._truth:
            return
        self.exemptions["restart outran cursor and ring"] += 1
        self._truth = max(epochs)

    def _accept_parked(self, at: float, ack: AckFacts) -> None:
        parked, self._parked = self._parked, {}
        for number in sorted(n for n in parked if n <= ack.current):
            for hole in range(self._top + 1, number):
                self._holes[hole] = at
            self._top = number
            self._see(number, parked[number])

    def _asks_again(self, round_: Round) -> bool:
        """A page was full and brought something new, and a later `since` exists: the next round asks again before anything is given up.

        `since` goes to the second of the newest row, less one, of whichever full page reached least far. Where it would not advance, the
        same rows would come again. Reactions carry no time on the wire, so a page of nothing else cannot be turned.
        """
        assert self._chain is not None
        rows: dict[str, list[Noted]] = {}
        for noted in round_.noted:
            if noted.frame.label is Label.STORE and noted.frame.page_kind is not None:
                rows.setdefault(noted.frame.page_kind, []).append(noted)
        full = [page for page in rows.values() if len(page) >= self.rules.page_limit and any(n.first_copy for n in page)]
        self._chain.stuck |= any(all(n.frame.time_s is None for n in page) for page in full)
        newest = [max(n.frame.time_s for n in page if n.frame.time_s is not None) for page in full if page[0].frame.time_s is not None]
        if not newest:
            return False
        since_s = math.floor(min(newest)) - 1.0
        if round_.since_s is not None and since_s <= round_.since_s:
            self._chain.stuck = True
            return False
        return True

    def _conclude(self, at: float, ack: AckFacts, last: int, round_: Round, short: bool) -> None:
        assert self.cursor is not None
        assert self._chain is not None
        counters = self.counters
        given, tail = 0, 0
        for number in range(self.cursor + 1, ack.current + 1):
            if number in self._of or number in self.given_up:
                continue
            if number in self._confirmed:
                self._confirmed.discard(number)
                counters.missing -= 1
            elif number <= last or short:  # after the grace for a short replay nothing more is waited for
                counters.missed += 1
                self._chain.newly_missed = True
            else:
                tail += 1
                self._holes[number] = at
                continue
            self._holes.pop(number, None)
            self.given_up.add(number)
            given += 1
        if round_.full:
            self._owed = False
        counters.missing -= self._old_confirmed
        given += self._old_confirmed
        self._old_confirmed = 0
        if given or tail or self._chain.newly_missed or self._chain.healed:
            self.manners.helped()
        unaccounted = min(given, self._unnumbered)
        counters.unaccounted += unaccounted
        counters.lost += given - unaccounted
        self._unnumbered = 0
        self._top = max(self._top, ack.current)
        for number in sorted(self._holes):  # what stays open is sighted only now: the clock starts, and each range is a gap
            self._holes[number] = at
            counters.gaps_live += number - 1 not in self._holes
        self._advance_cursor()
        self._end_chain(*self._verdict(ack, given, unaccounted, tail, round_, short))

    def _verdict(
        self, ack: AckFacts, given: int, unaccounted: int, tail: int, round_: Round, short: bool
    ) -> tuple[str, str]:
        chain = self._chain
        assert chain is not None
        gap = chain.gap
        overlap = any(
            label is Label.RING and n.frame.number == round_.after + 1 and not n.new_number
            for n, label in zip(round_.noted, round_.labels, strict=True)
        )
        claim = "gap" if gap else "complete"
        if short or (not gap and (given or tail)) or (gap and overlap and round_.after >= 0):
            return claim, "contradicted"
        if round_.after == -1 or unaccounted or chain.stuck or (gap and tail):
            return claim, "unverifiable"
        return claim, "verified"

    # -- confirmation ------------------------------------------------------------------------------------------------

    def _confirm(self, number: int) -> None:
        del self._holes[number]
        self._confirmed.add(number)
        self.counters.missed += 1
        self.counters.missing += 1

    def _confirm_all(self) -> None:
        for number in list(self._holes):
            self._confirm(number)


def judge(facts: Iterable[Fact], rules: Rules) -> Judge:
    """Fold facts into expected counters."""
    result = Judge(rules)
    last = 0.0
    for fact in facts:
        result.feed(fact)
        last = fact.at
    result.advance(last)
    return result


def plain_truth(facts: Sequence[Fact]) -> dict[str, int]:
    """What must come out where the server keeps to its protocol all the time and lives once: counted straight from the facts, without any rule.

    A number is missed when its first copy came out of the ring or never came; the stream begins with the first number that arrived.
    """
    arrived = [fact.frame for fact in facts if isinstance(fact, Arrived) and fact.frame.kind is Kind.EVENT]
    first: dict[int, Label | None] = {}
    for frame in arrived:
        if frame.number is not None:
            first.setdefault(frame.number, frame.label)
    recovered = sum(label is Label.RING for label in first.values())
    numbers = max((fact.number for fact in facts if isinstance(fact, Pushed)), default=0) - min(first, default=1) + 1
    never = numbers - len(first)
    return {
        "missed": recovered + never,
        "recovered": recovered,
        "given up": never,
        "replayed": sum(frame.label is not Label.LIVE for frame in arrived),
        "out_of_order": 0,
        "late": 0,
        "resets": 0,
        "gaps_live": 0,
        "events": len(arrived),
    }

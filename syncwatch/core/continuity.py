"""The ledger that audits the server: numbers, epochs, overlap proof, holes, and what is given up.

Law: after every input missed = recovered + lost + unaccounted + missing. The cursor is the highest contiguous number; it moves over a hole
only at a settlement. Rules: wire/relaycast accounting 1 to 9. Nothing here knows a timer: the caller asks `next_confirm_s` and calls
`confirm_due`.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec

from syncwatch.core.identity import NUMBERS, Numbers
from syncwatch.core.ledger import Ledger, Settled
from syncwatch.core.ranges import Ranges
from syncwatch.core.states import Claim, GapCause, Origin, Verdict
from syncwatch.core.window import BELOW, FIRST, MAX_FRAMES, NEW, SHIFT, Window
from syncwatch.core.wire import MAX_NUMBER, Ack, Event

MAX_RANGES = 1024
NEW_FIRST = NEW | FIRST
NEIGHBOURS_S = 1.0  # stamps of neighbours may be apart by the time between an id and its push
SINCE_BIAS_S = 2.0  # one second defeats whole-second rows with a strict comparison, one more covers insert-after-id


class Overtaken(msgspec.Struct):
    """A hole that was jumped over and is not yet confirmed. Filled numbers are found by comparing with what was seen."""

    low: int
    high: int
    at_s: float


def _count(flag: int, frames: list[int]) -> int:
    return sum(map(flag.__and__, frames)) // flag


class Continuity(Ledger):
    """Two ledgers side by side: identities (first copies, duplicates, origins) and numbers (missed and what became of them)."""

    window: Window | None

    def __init__(self, hole_grace_s: float = 2.0, max_jump: int = 100_000, page_limit: int | None = None) -> None:
        super().__init__()
        self.hole_grace_s = hole_grace_s
        self.max_jump = max_jump
        self._page_limit = page_limit
        self.numbers = Numbers()
        self._table = self.numbers.table
        # epoch and position
        self.top = 0  # the highest number known to exist: seen, or said by an acknowledgement
        self.seen_top = 0  # the highest number seen
        self.above = Ranges()  # seen above the cursor
        self.proven = True  # a fresh session has no earlier epoch to confuse its first connection with
        self.needs_full = False
        self._lanes: dict[str, tuple[int, int]] = {}
        self._suspects = Ranges()  # numbers too far above everything known: parked until an acknowledgement reaches them
        self._parked: dict[int, Event] = {}  # their events
        self._inherited_top = 0  # the highest number that earlier connections knew of
        self._live_from = math.inf  # the lowest number that this connection brought live
        self._anchor: int | None = None  # the cursor when its epoch was last proven
        self._no_overlap_at: int | None = None
        self._stepped_over: int | None = None
        self._ask_after: int | None = None  # the next request asks behind a number that can never be read
        self._ask_without_rows = False
        self.last_of_round: int | None = None  # the last number of a round that was cut
        self._floor_time_s: float | None = None
        self._floor_number = 0  # whose time that is
        # holes
        self._overtaken: deque[Overtaken] = deque()
        self.confirmed = Ranges()
        self._old_missing = 0  # confirmed holes of epochs that ended; given up with the next settlement
        self._given_up = Ranges()
        self._unnumbered_firsts = 0
        # a chain of rounds
        self._chain_at_s = 0.0
        self._chain_after = 0
        self._chain_full = False  # the full resync that a new epoch owes
        self._chain_open = False
        self._chain_gap = False
        self._chain_missed = 0
        self._chain_recovered = 0
        self._chain_replayed = 0
        self._chain_epoch = 1
        self._page_since_s: float | None = None
        self._page_stuck = False

    # ------------------------------------------------------------------ what is known

    @property
    def missing(self) -> int:
        """Numbers confirmed missing and not yet settled, earlier epochs included."""
        return self.confirmed.total + self._old_missing

    @property
    def undecided(self) -> int:
        """First copies inside the open round."""
        return self.window.undecided if self.window is not None else 0

    @property
    def next_confirm_s(self) -> float:
        """When `confirm_due` has something to do; inf when nothing waits or nothing may be confirmed now."""
        if not self._overtaken or not self._may_confirm():
            return math.inf
        return self._overtaken[0].at_s + self.hole_grace_s

    @property
    def position(self) -> int | None:
        """The cursor as far as its epoch is proven: what the overlap is compared with. An unproven connection may have moved the cursor itself."""
        return self.cursor if self.proven or self._anchor is None else self._anchor

    def overtaken(self) -> list[tuple[int, int]]:
        """Holes not yet confirmed, as ranges still unseen."""
        return [gap for hole in self._overtaken for gap in self.above.gaps(hole.low, hole.high)]

    def server_date(self, date_s: float) -> None:
        """The server's clock as an HTTP header told it: where `since` begins when no event carried a time."""
        if self._floor_time_s is None:
            self._floor_time_s = date_s

    @property
    def suspicious(self) -> bool:
        """Implausible numbers wait for the server's own word."""
        return bool(self._suspects) and self.window is None

    # ------------------------------------------------------------------ a connection's life

    def opened(self, attempt: int) -> None:
        """A new connection: until the overlap or an acknowledgement proves it, its epoch may be another."""
        self.attempt = attempt
        self._inherited_top = self.top
        self._live_from = math.inf
        self.proven = self.cursor is None
        self._lanes = self._lanes_before()

    def closed(self, now: float) -> Settled | None:
        """The connection ended. Confirms holes only if its epoch was proven; ends an open round without acknowledgement."""
        settled = self.abandon(now)
        self._forget_suspects()
        if self.proven:
            self._anchor = self.cursor
        if self.proven and not self.needs_full:
            self._confirm_overtaken(now, grace_s=-math.inf)
        return settled

    def request(self, now: float, full: bool = False) -> tuple[int, float | None]:
        """Open a round; returns what to ask for: the number to ask after, and the server time to replay the database from."""
        if self.window is not None:
            raise RuntimeError("one request in flight: the window is still open")
        full = full or self.needs_full
        if self._chain_open:
            after, since_s = self._chain_after, self._page_since_s
        else:
            if self._may_confirm() and not full:
                self._confirm_overtaken(now, grace_s=-math.inf)
            after, since_s = self._where_to_ask(full), None if self._ask_without_rows else self._since_s()
            self._ask_after, self._ask_without_rows = None, False
            self._chain_at_s, self._chain_after, self._chain_full = now, after, full
            self._chain_open, self._chain_gap, self._page_stuck = True, False, False
            self._chain_missed = self._chain_recovered = self._chain_replayed = 0
            self._chain_epoch = self.epoch
        if full:
            self.needs_full = False
        before = self.numbers.of_attempt(self.attempt)
        if self._live_from == math.inf and before:
            self._live_from = before.low
        self.window = Window(now, after, since_s, self.position, self.seen_top, before, self._live_from)
        self.shown = False
        return after, since_s

    def _where_to_ask(self, full: bool) -> int:
        if self._ask_after is not None:
            return self._ask_after
        if full:
            return -1
        if self.cursor is None:
            return MAX_NUMBER  # nothing is above it: the answer tells the newest number and replays nothing
        position = self.position
        assert position is not None  # the cursor is known
        return position if position == self._no_overlap_at else position - 1

    def _since_s(self) -> float | None:
        known_s = self.known_time_s()
        return None if known_s is None else math.floor(known_s) - SINCE_BIAS_S

    def known_time_s(self) -> float | None:
        """Server time of the last event up to our position; until a new epoch is settled, of the old one's. Older is safe, none is not: where none is
        known the one before stands.
        """
        position = self.position
        if position is not None and (self.owed is None or self._floor_time_s is None):
            known = self.numbers.newest_time(self._floor_number, position)
            if known is not None:
                self._floor_number, self._floor_time_s = known
        return self._floor_time_s

    def _lanes_before(self) -> dict[str, tuple[int, int]]:
        lanes: dict[str, tuple[int, int]] = {}
        for number, event in self.numbers.known():
            lane, lane_number = event.lane, event.lane_number
            if lane is not None and lane_number is not None and number > lanes.get(lane, (0, 0))[0]:
                lanes[lane] = (number, lane_number)
        return lanes

    # ------------------------------------------------------------------ an event

    def event(self, now: float, event: Event) -> bool:
        """Account for one event; True if it is a first copy."""
        number = event.number
        window = self.window
        if window is not None and window.ack is None:
            window.last_frame_s = now  # it prolongs the wait for the acknowledgement
        if number is not None and number - 1 == self.cursor and number > self.top and self.proven:
            self.cursor = self.top = self.seen_top = number  # the common case: next in line, nothing known at or above it
            of, events, attempts = self._table  # `numbers.put`, without the call: each event comes here
            index = number & NUMBERS - 1
            of[index], events[index], attempts[index] = number, event, self.attempt
            first = self.identities.first(event)
            if not first:
                self.duplicates += 1
            if window is not None:
                frames = window.frames
                if first:
                    frames.append(number << SHIFT | NEW_FIRST)
                else:
                    frames.append(number << SHIFT | NEW)
                    window.repeats += 1
                if len(frames) > MAX_FRAMES:
                    self.urgent = True
            elif first:
                self.live += 1
            return first
        if number is not None and self._is_other_epoch(event, number):
            self._new_epoch()
        first = self.identities.first(event)
        if not first:
            self.duplicates += 1
        if number is None:
            self._unnumbered(event, first)
        elif window is not None:
            self._in_window(now, window, event, number, first)
        else:
            _, healed = self._place(now, event, number)
            if first:
                self.live += 1
                self.out_of_order += healed
        return first

    def _unnumbered(self, event: Event, first: bool) -> None:
        self.bad_sequence += event.bad_number
        self._unnumbered_firsts += first
        if self.window is not None:
            self.window.row(event, first)
        elif event.replayed:
            self.replayed += 1
            self.received[Origin.STORE] += first
        elif first:
            self.live += 1

    def _in_window(self, now: float, window: Window, event: Event, number: int, first: bool) -> None:
        if number == window.cursor_at_request and not window.overlap_seen:
            known = self.numbers.get(number)
            if known is not None and known.key == event.key and self.numbers.attempt_of(number) != self.attempt:
                window.overlap_seen = True
                self.proven = True
        new, behind = self._place(now, event, number)
        self._record(window, number, first, new)
        if behind and not new:
            window.frames[-1] |= BELOW

    def _record(self, window: Window, number: int, first: bool, new: bool) -> None:
        window.frames.append(number << SHIFT | (FIRST if first else 0) | (NEW if new else 0))
        window.repeats += not first
        window.olds += not new
        if len(window.frames) > MAX_FRAMES:
            self.urgent = True

    def _is_other_epoch(self, event: Event, number: int) -> bool:
        """Whether a numbered event shows that the server's counter restarted: by its identity, or, on an unproven connection, by a time or a channel's
        own number. A restart ends every connection, so two events under one number of this one are the server's mistake.
        """
        known = self.numbers.get(number)
        if known is not None:
            return known.key != event.key and self.numbers.attempt_of(number) != self.attempt
        cursor = self.cursor
        if cursor is None or self.proven:
            return False
        if number <= cursor:
            newest = self.numbers.newest_time(number, not_on=self.attempt)
            if newest is None or event.time_s is None:
                return False
            return event.time_s > newest[1] + NEIGHBOURS_S and not self.identities.knows(event)
        if event.lane is not None and event.lane_number is not None:
            before = self._lanes.get(event.lane)
            return before is not None and number > before[0] and event.lane_number <= before[1]
        return False

    def _place(self, now: float, event: Event, number: int) -> tuple[bool, bool]:
        """Enter a number; returns whether it was new (never seen, not known to be missing) and whether it came out of order."""
        cursor = self.cursor
        if cursor is None:
            self.cursor = self.top = self.seen_top = number
            self.numbers.put(number, event, self.attempt)
            return True, False
        if number > self.top + self.max_jump:
            if number not in self._suspects:
                if not self._suspects or number > self._suspects.high + self.max_jump:
                    self.implausible_jumps += 1
                self.urgent = True
                self._suspects.add(number)
                self._cap(self._suspects)
                if len(self._parked) < NUMBERS:
                    self._parked[number] = event
                return True, False
            return False, False
        if number <= cursor:
            if self._given_up.discard(number):
                self.late += 1
                self.numbers.put(number, event, self.attempt)
                return False, False
            return False, not self._came_again(number, event)
        if number in self.above:
            self._came_again(number, event)
            return False, False
        self.numbers.put(number, event, self.attempt)
        healed, new = False, True
        if number > self.top:
            if number > self.top + 1:
                self._overtake(now, self.top + 1, number - 1)
            self.top = number
        elif self.confirmed.discard(number):
            self.recovered += 1
            self._chain_recovered += 1
            if not self.missing:
                self.missing_since_s = None
            new = False
        else:
            healed = True
        if number > self.seen_top:
            self.seen_top = number
        self._advance(number)
        return new, healed

    def _came_again(self, number: int, event: Event) -> bool:
        """What this connection brings belongs to it, known or not; False if the number was not remembered."""
        known = self.numbers.get(number)
        if known is None or known.key == event.key:
            self.numbers.put(number, event, self.attempt)
        return known is not None

    def _advance(self, number: int) -> None:
        assert self.cursor is not None
        if number == self.cursor + 1 and not self.above:
            self.cursor = number
            return
        self.above.add(number)
        if len(self.above) > MAX_RANGES:
            self._forget_lowest_hole()
        self._absorb()

    def _absorb(self) -> None:
        """Move the cursor over everything contiguous above it."""
        assert self.cursor is not None
        while self.above and self.above.low <= self.cursor + 1:
            _, high = self.above.pop_lowest()
            self.cursor = max(self.cursor, high)

    # ------------------------------------------------------------------ holes

    def _overtake(self, now: float, low: int, high: int) -> None:
        while self._overtaken and self._overtaken[0].high <= (self.cursor or 0):
            self._overtaken.popleft()  # healed or given up long ago; while nothing may be confirmed nobody else looks
        self._overtaken.append(Overtaken(low, high, now))
        if not self.above:
            self.known_time_s()  # a hole may outlive the number memory
        self.urgent = True
        if self.window is None and self.proven and not self.needs_full:
            self.gaps[GapCause.LIVE] += 1

    def _may_confirm(self) -> bool:
        return self.proven and self.window is None and not self.needs_full and not self._chain_open

    def confirm_due(self, now: float) -> int:
        """Confirm the holes whose grace is over; returns how many numbers became missing."""
        if not self._may_confirm():
            return 0
        return self._confirm_overtaken(now, self.hole_grace_s)

    def _confirm_overtaken(self, now: float, grace_s: float) -> int:
        count = 0
        while self._overtaken and self._overtaken[0].at_s + grace_s <= now:  # the deadline's own expression: rounding must agree
            hole = self._overtaken.popleft()
            count += self._confirm(hole.low, hole.high)
        self._missing_changed(now)
        return count

    def _confirm(self, low: int, high: int) -> int:
        """Confirm what of low..high was not seen."""
        assert self.cursor is not None
        count = sum(self.confirmed.add_range(a, b) for a, b in self.above.gaps(max(low, self.cursor + 1), high))
        self.missed += count
        return count

    def _forget_lowest_hole(self) -> None:
        """The cap on ranges was reached: the lowest hole is given up now, visibly."""
        assert self.cursor is not None
        low, high = self.cursor + 1, self.above.low - 1
        self._confirm(low, high)
        self.forgotten_ranges += 1
        self._give_up(low, high)
        self._absorb()

    def _give_up(self, low: int, high: int) -> int:
        """Stop waiting for the confirmed numbers of low..high; later copies are late. Returns how many."""
        count = 0
        for a, b in list(self.confirmed):
            first, last = max(a, low), min(b, high)
            if first <= last:
                count += self.confirmed.discard_range(first, last)
                self._given_up.add_range(first, last)
                self.above.add_range(first, last)
        self._cap(self._given_up)
        self._account(count)
        return count

    def _account(self, given_up: int) -> tuple[int, int]:
        """Book numbers as unaccounted as far as unnumbered first copies could be them, else as lost."""
        unaccounted = min(given_up, self._unnumbered_firsts)
        self._unnumbered_firsts -= unaccounted
        self.unaccounted += unaccounted
        self.lost += given_up - unaccounted
        return unaccounted, given_up - unaccounted

    def _cap(self, ranges: Ranges) -> None:
        while len(ranges) > MAX_RANGES:
            ranges.pop_lowest()
            self.forgotten_ranges += 1

    def _missing_changed(self, now: float) -> None:
        if not self.missing:
            self.missing_since_s = None
        elif self.missing_since_s is None:
            self.missing_since_s = now

    def step_over(self, now: float) -> None:
        """Step over one poison number after the cursor: a frame that can never be read. It is missed and lost at once."""
        if self.cursor is None:
            return
        number = self.cursor + 1
        self.top = max(self.top, number)
        self._confirm(number, number)
        self._give_up(number, number)
        self._absorb()
        self._no_overlap_at = self._anchor = self._stepped_over = self.cursor
        self._missing_changed(now)

    def step_over_in_round(self, now: float, number: int) -> None:
        """Step over a poison number in the middle of a replay. The next request asks behind it, so holes below it are settled without it."""
        self.top = max(self.top, number)
        self._confirm(number, number)
        self._give_up(number, number)
        self._absorb()
        self._ask_after, self._stepped_over, self.needs_full = number, number, False
        self._missing_changed(now)

    def ask_without_rows(self) -> None:
        """The next request leaves the database out: one of its rows may be the frame that can never be read."""
        self._ask_without_rows = True

    # ------------------------------------------------------------------ epochs

    def _new_epoch(self) -> None:
        """The server's counter restarted: keep only what this connection brought, ask for everything."""
        self.known_time_s()
        self.epoch += 1
        self.resets += 1
        self._old_missing += self.confirmed.total
        self.confirmed, self._given_up = Ranges(), Ranges()
        self._overtaken.clear()
        self.numbers.forget_other_attempts(self.attempt)
        self._lanes = {}
        if self.window is None:
            here = self.numbers.of_attempt(self.attempt)
        else:
            came = (frame >> SHIFT for frame in self.window.frames)
            here = Ranges([*self.window.before, *((number, number) for number in came if number not in self._suspects)])
            self.window.renumber(self._suspects)
        self._judge_suspects_anew(here)
        self._remember_parked(here)
        self.cursor, self.above = 0, here
        self.top = self.seen_top = here.high if here else 0
        self._inherited_top = self._floor_number = 0
        self._no_overlap_at = None
        self.proven = True
        self.needs_full = self.urgent = True
        self._absorb()

    def _judge_suspects_anew(self, here: Ranges) -> None:
        """Parked numbers in a new epoch: each within a plausible jump of the highest known joins those that are `here`, the rest waits on."""
        parked, self._suspects = self._suspects, Ranges()
        for low, high in parked:
            plausible = low <= (here.high if here else 0) + self.max_jump
            (here if plausible else self._suspects).add_range(low, high)

    def _forget_suspects(self) -> None:
        """What no acknowledgement confirmed was noise."""
        self._suspects = Ranges()
        self._parked.clear()

    def _remember_parked(self, real: Ranges) -> None:
        """Parked numbers that turned out real enter the number memory; noise never does."""
        for number in [number for number in self._parked if number in real]:
            self.numbers.put(number, self._parked.pop(number), self.attempt)

    # ------------------------------------------------------------------ the end of a round

    def acknowledged(self, now: float, ack: Ack) -> Settled | None:
        """An acknowledgement: settles the round, or waits for the frames it claims. None while nothing is settled."""
        window = self.window
        if window is None or window.ack is not None or ack.after != window.after:
            self.ack_unsolicited += 1
            return None
        window.below = self._restarted_below(ack)
        if not window.below and window.arrived(ack) < ack.replayed:
            self.ack_early += 1
            window.ack = ack
            window.last_frame_s = now
            self.shown = True  # the next one may be the last that it claims
            return None
        return self._settle(now, window, ack, short=0)

    def _restarted_below(self, ack: Ack) -> bool:
        """Whether the server stands below the cursor, or below any number that an earlier connection brought or that it told one of."""
        if self.cursor is None:
            return False
        known = max(self.cursor, self._inherited_top)
        stepped = known == self._stepped_over  # the frame that could not be read may have had no number after all
        return ack.current < known - stepped

    def complete_early(self, now: float) -> Settled | None:
        """After an early acknowledgement: settle once the claimed frames have come."""
        window = self.window
        if window is None or window.ack is None or len(window.frames) + window.store_frames < window.ack.replayed:
            return None
        if window.arrived(window.ack) < window.ack.replayed:
            return None
        return self._settle(now, window, window.ack, short=0)

    def give_up_waiting(self, now: float) -> Settled | None:
        """The grace after an early acknowledgement is over: settle short."""
        window = self.window
        if window is None or window.ack is None:
            return None
        return self._settle(now, window, window.ack, short=max(0, window.ack.replayed - window.arrived(window.ack)))

    def _settle(self, now: float, window: Window, ack: Ack, short: int) -> Settled | None:
        self.replay_short += short
        self._chain_gap = self._chain_gap or ack.gap
        if self.cursor is None:
            return self._settle_baseline(now, window, ack)
        if window.below and not self.needs_full:
            self._new_epoch()
            self._close_window(window, *window.burst(ack))
            return self._end_chain(now, ack, Verdict.CONTRADICTED, 0, 0, needed_help=True)
        self._admit_suspects(now, ack.current)
        start, stop = window.burst(ack)
        last = min(window.frames[stop - 1] >> SHIFT, ack.current) if stop > start else window.after
        if window.after == MAX_NUMBER:
            last = 0  # nothing was asked for, so nothing is given up
        asked_from = window.after + 1
        overlap_from_ring = ack.gap and asked_from > 0 and start < stop and window.frames[start] >> SHIFT == asked_from
        self._close_window(window, start, stop)
        if self.needs_full:  # a reset was found in this round: nothing of it can be settled, the full resync follows
            return self._end_chain(now, ack, Verdict.UNVERIFIABLE, 0, 0, needed_help=True)
        self.proven = True
        if self._ask_next_page(window):
            return None
        missed_before = self.missed
        unaccounted, lost = self._settle_holes(now, ack.current, ack.current if short else last)
        self._chain_missed += self.missed - missed_before
        holes_left = self.cursor < ack.current
        needed_help = self._chain_missed > 0 or self._chain_recovered > 0 or lost + unaccounted > 0 or holes_left
        self._unnumbered_firsts = 0
        verdict = Verdict.VERIFIED
        if short or overlap_from_ring or (not self._chain_gap and (holes_left or lost + unaccounted)):
            verdict = Verdict.CONTRADICTED
        elif unaccounted or holes_left or self._page_stuck or window.after == -1:  # -1: what the old epoch held at its end nobody knows
            verdict = Verdict.UNVERIFIABLE
        return self._end_chain(now, ack, verdict, lost, unaccounted, needed_help)

    def _settle_baseline(self, now: float, window: Window, ack: Ack) -> Settled:
        """The first word about numbers is the server's own: what it has now is where we begin."""
        self.cursor = self.top = self.seen_top = ack.current
        self._no_overlap_at = ack.current
        self._close_window(window, len(window.frames), len(window.frames))
        return self._end_chain(now, ack, Verdict.VERIFIED, 0, 0, needed_help=False)

    def _close_window(self, window: Window, start: int, stop: int) -> None:
        self.window = None
        self._classify(window, start, stop)

    def abandon(self, now: float) -> Settled | None:
        """The round ends without an acknowledgement: classify by definition, settle nothing."""
        window = self.window
        self.last_of_round = window.frames[-1] >> SHIFT if window is not None and window.frames else None
        if window is not None:
            self._close_window(window, *window.unacknowledged_burst())
        elif not self._chain_open:
            return None
        if self._chain_full:
            self.needs_full = True  # the question of the reset is still open
        self._forget_suspects()
        return self._end_chain(now, None, Verdict.UNVERIFIABLE, 0, 0, needed_help=True)

    def _classify(self, window: Window, start: int, stop: int) -> None:
        """Decide the origins of the round's first copies, and book what the replay brought by number."""
        before, burst, behind = window.frames[:start], window.frames[start:stop], window.frames[stop:]
        highest = self._classify_live(before, window.highest_seen)
        top = max(burst, default=0) >> SHIFT
        if top > self.seen_top:  # a number that no acknowledgement confirmed was noise: it recovers nothing
            real = [frame for frame in burst if frame >> SHIFT <= self.seen_top]
            ring, recovered, top = _count(FIRST, burst), _count(NEW, real), max(real, default=0) >> SHIFT
        else:
            outside = before + behind
            ring = len(burst) - (window.repeats - len(outside) + _count(FIRST, outside))
            recovered = len(burst) - (window.olds - len(outside) + _count(NEW, outside))
        self._classify_live(behind, max(highest, top))
        self.received[Origin.RING] += ring
        self.received[Origin.STORE] += window.store_firsts
        self.live += window.other_firsts
        self.replayed += stop - start + window.store_frames
        self._chain_replayed += stop - start + window.store_frames
        self.missed += recovered
        self.recovered += recovered
        self._chain_missed += recovered
        self._chain_recovered += recovered

    def _classify_live(self, frames: list[int], highest: int) -> int:
        """Book frames outside the replay, after frames up to `highest`; returns how far they went."""
        for frame in frames:
            number = frame >> SHIFT
            real = number <= self.seen_top  # a number that no acknowledgement confirmed was noise: it overtakes nothing
            if frame & FIRST:
                self.live += 1
                if real:
                    self._live_from = min(self._live_from, number)
                if frame & BELOW or (frame & NEW and number < highest):
                    self.out_of_order += 1
            if real and number > highest:
                highest = number
        return highest

    def _settle_holes(self, now: float, current: int, last: int) -> tuple[int, int]:
        """Confirm and give up holes up to `last`; those above it get another grace unless they were confirmed before."""
        assert self.cursor is not None
        lost_before, unaccounted_before = self.lost, self.unaccounted
        known = max(self.top, current)
        open_holes = self.above.gaps(self.cursor + 1, known)
        self._overtaken.clear()
        for low, high in open_holes:
            if low <= last:
                self._confirm(low, min(high, last))
            for a, b in self.confirmed.gaps(max(low, last + 1), high):
                self._overtaken.append(Overtaken(a, b, now))
                self.gaps[GapCause.LIVE] += 1
                self.urgent = True
        self._give_up(self.cursor + 1, current)
        self._account(self._old_missing)
        self._old_missing = 0
        self.top = known
        self._absorb()
        if not self.confirmed or self.confirmed.low > current:
            self.missing_since_s = None  # answered: by the server's own word what is still missing does not exist yet
        return self.unaccounted - unaccounted_before, self.lost - lost_before

    def _admit_suspects(self, now: float, current: int) -> None:
        """An acknowledgement says how far the numbers really go: what it covers is real, the rest was noise."""
        real = Ranges((low, min(high, current)) for low, high in self._suspects)
        for low, high in real:
            if low > self.top + 1:
                self._overtake(now, self.top + 1, low - 1)
            self.above.add_range(low, high)
            self.seen_top = max(self.seen_top, high)
            self.top = max(self.top, high)
        self._remember_parked(real)
        self._forget_suspects()
        self._absorb()

    def _ask_next_page(self, window: Window) -> bool:
        """Whether a database query of this round was cut by its limit and must be asked again before settling."""
        limit = self._page_limit
        if limit is None:
            return False
        full = [page for page in window.pages.values() if page.rows >= limit]
        if not full:
            return False
        fresh = [page for page in full if page.fresh]
        times = [page.newest_s for page in fresh if page.newest_s is not None]
        self._page_stuck = self._page_stuck or len(times) < len(fresh)  # rows without a time cannot be paged
        since_s = math.floor(min(times)) - 1.0 if times else None
        if since_s is None or (window.since_s is not None and since_s <= window.since_s):
            self._page_stuck = self._page_stuck or bool(fresh)
            return False
        self._page_since_s = since_s
        return True

    @property
    def wants_page(self) -> bool:
        """A chain is open and its next round has not been asked for."""
        return self._chain_open and self.window is None

    def _end_chain(
        self, now: float, ack: Ack | None, verdict: Verdict, lost: int, unaccounted: int, needed_help: bool
    ) -> Settled:
        claim = Claim.NONE if ack is None else Claim.GAP if self._chain_gap else Claim.COMPLETE
        self._chain_open = False
        self.resyncs[claim, verdict] = self.resyncs.get((claim, verdict), 0) + 1
        duration_s = now - self._chain_at_s
        if ack is not None:
            self.resync_duration.observe(duration_s)
        if self._chain_missed:
            self.gaps[GapCause.RECONNECT] += 1
        return Settled(
            claim=claim,
            verdict=verdict,
            replayed=self._chain_replayed,
            gap_detected=self._chain_gap,
            recovered=self._chain_recovered,
            lost=lost,
            unaccounted=unaccounted,
            current=None if ack is None else ack.current,
            after=self._chain_after,
            duration_s=duration_s,
            needed_help=needed_help,
        )

    @property
    def overflowing(self) -> bool:
        """The open round holds more frames than memory is meant for."""
        return self.window is not None and len(self.window.frames) > MAX_FRAMES

    @property
    def owed(self) -> int | None:
        """How many confirmed holes of epochs that ended are to be settled; None when no full resync is owed or under way."""
        return self._old_missing if self.needs_full or (self._chain_open and self._chain_full) else None

    def restore(
        self,
        now: float,
        epoch: int,
        cursor: int,
        seen_above: tuple[tuple[int, int], ...],
        confirmed: tuple[tuple[int, int], ...],
        owed: int | None = None,
        anchor: int | None = None,
        known_time_s: float | None = None,
    ) -> None:
        """Start where an earlier process stopped; its confirmed holes are missed in this process too."""
        if owed is not None:
            self.needs_full, self._old_missing = True, owed
        self._floor_time_s = known_time_s
        self.epoch, self.epoch_told, self.cursor = epoch, epoch, cursor
        self._anchor = cursor if anchor is None else anchor
        self.above, self.confirmed = Ranges(seen_above), Ranges(confirmed)
        self.seen_top = max(cursor, self.above.high if self.above else 0)
        self.top = max(self.seen_top, self.confirmed.high if self.confirmed else 0)
        self.missed = self.restored = self.missing
        for low, high in self.above.gaps(cursor + 1, self.top):
            for a, b in self.confirmed.gaps(low, high):
                self._overtaken.append(Overtaken(a, b, now))
        self._missing_changed(now)

"""The ledger of a stream whose server keeps a log that can be read over HTTP: what the socket brought is compared with what the log has.

The rules, in the words of the oracle:

- An event is known by its key. First copies are counted by origin: `live` and `store` from the socket, `poll`, `audit` and `store` from the feed. Only frames of
  the socket are counted as duplicates; rows of the feed are evidence, not deliveries.
- A socket that was dialled with a position sends its catch-up before it reads anything from us, so the answer to our first ping marks its end: what such a
  connection brought before its first pong is `store`, everything else that a socket brings is `live`. A definition, not knowledge.
- The first position is the newest row when we came; nothing up to it is ours to judge. What the first connection brought before that row could be read is behind it:
  then the first position is its first event, and it promised everything from there on. Where numbers may leave some out it takes two events to find the first again in the log:
  with a single one the first position is the newest row, or that event itself if the connection is gone.
- Every reading of the feed starts one row before the `floor`, the last row that was compared, and must find the floor, key and all, before it finds a higher
  number or one that was not asked for; else the server's log is another: a new epoch, and it is read from its beginning. Where there is no floor yet it must find
  the last event behind the first position that was delivered before it asked. Each further page starts one row before the end of the last one, and must begin
  with it. A connection that is of the old log, or may be because it has brought something, is left; one that has brought nothing yet is taken to be of the new.
- A row that the socket had not brought is *found*. If the socket brings it within the grace it is `late`, unless that is in a catch-up. If it does not: one that was promised is missed, and recovered
  in the same step (origin `audit`); one that nobody promised is delivery: `poll` without a socket, else `store`.
- Promised is what a socket that was dialled with a position has to bring behind it; what any socket has to bring once a reading came to its end on it (that of the
  first position is one); what the first had to bring behind its first event; and what is not above the highest number that was delivered when the last reading, or the last connection that promised anything, ended.
  The time without a socket is not, nor is a new epoch that was not read yet. A connection that ends cuts the grace short: what is above all that it brought was
  lost with it, not left out, and is `store`.
- An event that the socket brought and that the feed, read past its number, does not have is `invented`.
- A reading that had to recover something is a gap, one, whatever became of the reading: `reconnect` while a connection is being settled, else `live`. What it
  recovered after it failed belongs to the next one.
- Where numbers leave none out, one that the socket passed over makes a reading due when the grace is over; one that was passed over while the log was read, when that
  reading is over. Where others write under the same counter it means nothing: what was left out is found by the next audit.
- The push path is behind if the newest that had to be recovered is above all that the connection brought, and above all that was delivered before it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import msgspec

from syncwatch.core.identity import Remembered
from syncwatch.core.ledger import Ledger, Settled
from syncwatch.core.resume import FeedPoint
from syncwatch.core.snapshot import ContinuitySnapshot, Moment
from syncwatch.core.states import AuditResult, AuditVerdict, Claim, GapCause, Origin, Verdict
from syncwatch.core.wire import Event

AUDIT_EARLY = 4096
"""So many events that were not compared yet make an audit due before its time."""
MAX_ARRIVED = 16_384
"""Events remembered for the comparison; older ones are passed over and counted as forgotten."""

Known = Event | Remembered


def alike(one: Known, other: Known) -> bool:
    """Whether two sights under one number are the same event; where both tell the same lane, its number is compared as well as the key."""
    lanes = one.lane is not None and one.lane == other.lane
    return one.key == other.key and (not lanes or one.lane_number == other.lane_number)


class Found(msgspec.Struct, frozen=True):
    """A row that the socket has not brought yet. `origin`: what it becomes when the grace is over."""

    event: Event
    at_s: float
    origin: Origin


class CatchUp(msgspec.Struct):
    """What a resumed connection has brought before its first pong."""

    frames: int = 0
    firsts: int = 0


class Recovered(msgspec.Struct):
    """What one reading had to recover; `silent_top`: the highest of it that the present connection should have brought."""

    count: int = 0
    low: int = 0
    top: int = 0
    silent_top: int = 0


class Journal(Ledger):
    """Two memories side by side: what arrived and was not compared yet, and what the feed has and did not arrive yet."""

    window: CatchUp | None

    def __init__(self, hole_grace_s: float, resumes: bool, dense: bool) -> None:
        super().__init__()
        self.hole_grace_s = hole_grace_s
        self.resumes = resumes
        self.dense = dense  # numbers are meant to be contiguous: a jump is worth a look
        self.audits: dict[AuditResult, int] = dict.fromkeys(AuditResult, 0)
        self.audit_events: dict[AuditVerdict, int] = dict.fromkeys(AuditVerdict, 0)
        # delivered
        self.last: Known | None = None  # the highest number delivered in a proven epoch, and the one before it
        self.before_last: Known | None = None
        self.proven = True
        self.fresh = False  # a new epoch, not read to its end yet
        self._dialled_after: int | None = None
        self._resumed = False  # the connection was dialled with a position
        self._settled = False  # a reading came to its end since it began
        self._top_here = 0  # the highest number that this connection brought
        self._top_at_open = 0  # the highest number delivered before it
        self._promised = 0  # nothing up to here was left to the time without a socket
        # compared
        self.based = False  # the first position in the log is known
        self.floor: Known | None = None  # the last row compared; None: the log was empty, or begins anew
        self.floor_before: int | None = None  # the row before it; None: it is the first of the log
        self._below = 0  # of the first copies, those that are not above the floor; of an earlier process's they may be more than all of ours, so it may be negative
        self._kept: tuple[Known | None, int | None, int] = None, None, 0  # the last floor below which nothing waits
        self._base = 0  # nothing up to this number is judged: the log was longer when we came
        self._head = 0  # the highest row read
        self._here: dict[int, Event] = {}  # brought by this connection, not compared
        self._earlier: dict[int, Event] = {}  # brought by connections before it, not compared
        self.forgotten_up_to = 0
        self._crowded_at = AUDIT_EARLY
        self._found: dict[int, Found] = {}
        self.recent = Recovered()  # since the last reading ended
        self.holes_in_feed = False  # a dense log that is not: hidden rows, or rows never written
        self.jump_s = math.inf  # when a jump was seen that nothing has explained

    # ------------------------------------------------------------------ a connection's life

    def opened(self, attempt: int) -> None:
        """A new connection. Unless it is the first, its server's log may be another."""
        self.attempt = attempt
        self._top_here = 0
        self._top_at_open = self._top
        self.recent.silent_top = 0
        self.proven = self.reference is None
        self._resumed, self._settled = self._dialled_after is not None, False
        self.window = CatchUp() if self._resumed else None

    def dialled(self) -> int | None:
        """An attempt begins; returns where its socket is to resume."""
        self._dialled_after = self.dial_after() if self.resumes else None
        return self._dialled_after

    @property
    def brought(self) -> bool:
        """Whether the connection has brought any event that was new."""
        return self._top_here > 0

    @property
    def silent_elsewhere(self) -> bool:
        """Whether a catch-up that was to begin with the last event did not bring it."""
        after = self._dialled_after
        return not self.proven and self.window is None and after is not None and after < self._top

    def dial_after(self) -> int | None:
        """Where the socket is to resume: one event before the last, so that the first one to come is known."""
        before, last = self.before_last, self.last
        if last is None:
            return None if self.floor is None else self.floor.number
        return last.number if before is None else before.number

    @property
    def _top(self) -> int:
        """The highest number delivered."""
        return 0 if self.last is None else self.last.number or 0

    @property
    def undecided(self) -> int:
        """First copies inside the catch-up."""
        return self.window.firsts if self.window is not None else 0

    def pong(self) -> int:
        """The catch-up is over; returns how many frames it had."""
        window, self.window = self.window, None
        if window is None:
            return 0
        self.received[Origin.STORE] += window.firsts
        self.replayed += window.frames
        return window.frames

    def closed(self, now: float) -> None:
        """The connection ended: what it has not brought it never will."""
        self.pong()
        gone = max(self._top_here, self._promised)
        for number, found in self._found.items():
            if number > gone:
                self._found[number] = Found(found.event, found.at_s, Origin.STORE)
        self.book(now, since_s=-math.inf, grace_s=-math.inf)
        self._earlier.update(self._here)
        self._here = {}
        self._promised = self.promised
        self._resumed = self._settled = False
        self.jump_s = math.inf

    # ------------------------------------------------------------------ from the socket

    def event(self, now: float, event: Event) -> bool:
        """Account for one event from the socket; True if it is a first copy."""
        number, window = event.number, self.window
        if window is not None:
            window.frames += 1
        if number is not None and not self.proven:
            self._prove(event, number)
        first = self.identities.first(event)
        if first and number is not None and (self._holds(self._here, number, event) or self._holds(self._earlier, number, event)):
            first = False  # older than what identities remember
        if not first:
            self.duplicates += 1
            return False
        if window is None:
            self.live += 1
        else:
            window.firsts += 1
        if number is None:
            self.bad_sequence += event.bad_number
        else:
            self._arrived(now, event, number)
        return True

    @staticmethod
    def _holds(arrived: dict[int, Event], number: int, event: Event) -> bool:
        known = arrived.get(number)
        return known is not None and known.key == event.key

    def _arrived(self, now: float, event: Event, number: int) -> None:
        if number < self._top_here:
            self.out_of_order += 1
        else:
            before = max(self._top_here, self._head)
            if self.dense and self.window is None and number > before + 1 and (before or self.based) and not self.holes_in_feed:
                self.jump_s = min(self.jump_s, now)
                self.urgent = True
            self._top_here = number
        if self.proven:
            self._delivered(event, number)
        found = self._found.get(number)
        if found is not None and found.event.key == event.key:
            del self._found[number]
            self.audit_events[AuditVerdict.LATE] += self.window is None  # a catch-up is under way: whether it or the feed is faster means nothing
            self._keep()
            if not self._found:
                self.urgent = True
        elif number > self._head or not self.proven:
            self._here[number] = event
            self._cap()
        elif number > self._base:
            self.audit_events[AuditVerdict.INVENTED] += 1  # the feed was read past this number and did not have it

    def _cap(self) -> None:
        count = len(self._here) + len(self._earlier)
        if count == self._crowded_at:
            self.urgent = True
        if count <= MAX_ARRIVED:
            return
        arrived = self._earlier or self._here
        lowest = next(iter(arrived))
        del arrived[lowest]
        self.forgotten_up_to = max(self.forgotten_up_to, lowest)
        self.forgotten_ranges += 1

    @property
    def crowded(self) -> bool:
        """So much waits to be compared that an audit is due."""
        return len(self._here) + len(self._earlier) >= self._crowded_at

    def _delivered(self, event: Known, number: int) -> None:
        last = self.last
        if last is None or last.number is None or number > last.number:
            self.before_last, self.last, self.cursor = last, event, number
        elif number < last.number and (self.before_last is None or number > (self.before_last.number or 0)):
            self.before_last = event

    def _prove(self, event: Event, number: int) -> None:
        """What the socket itself says about its epoch: the last event again is the same log; another event under its number is not."""
        last = self.last
        if last is None or number != last.number:
            return
        if last.key == event.key:
            self.same_log()
        else:
            self.new_epoch()

    # ------------------------------------------------------------------ epochs

    def same_log(self) -> None:
        """The overlap was seen: what this connection brought belongs to the log that we know."""
        if self.proven:
            return
        self.proven = True
        for number in sorted(self._here):
            self._delivered(self._here[number], number)
            if number <= self._head:
                del self._here[number]
                self.audit_events[AuditVerdict.INVENTED] += number > self._base

    def new_epoch(self, stale: bool = False) -> None:
        """The log is another: only what this connection brought still means anything, and if it is `stale` not even that; everything is to be read from the
        beginning.
        """
        if stale:
            self._here = {}
        self.epoch += 1
        self.resets += 1
        self._earlier = {}
        self._found = {}
        self.floor = self.last = self.before_last = self.cursor = self.floor_before = None
        self._kept = None, None, self._settle_below()
        self._base = self._head = self._top_at_open = self._promised = self.forgotten_up_to = 0
        self._resumed = self._settled = False
        self._dialled_after = None  # a position in the old log is none in this one
        self.based = self.proven = self.fresh = True
        for number in sorted(self._here):
            self._delivered(self._here[number], number)
        self.urgent = True

    # ------------------------------------------------------------------ from the feed

    def base(self, rows: Sequence[Event], before: int | None, newest: int | None) -> bool:
        """The first position: what the log held when we came is not ours to judge. False if what came meanwhile has set it, and is to be compared.

        `before`: the number that precedes the last row, if any; `newest`: the server's own word, where the newest row is hidden from us.
        """
        self._settled = True
        top = rows[-1].number or 0 if rows else newest or 0
        arrived = len(self._here) + len(self._earlier)
        if (arrived > 1 or (self.dense and arrived)) and self._first < top:
            return not self.base_on_first()
        self.based = True
        self.floor = rows[-1] if rows else None
        self.floor_before = before if rows else newest or None
        self._begin_behind(top)
        return True

    def begin_anew(self, newest: int) -> None:
        """Another first position, in a log that may be the known one and cannot be recognised: nothing up to the newest row is ours to judge any more."""
        self.proven = self._settled = True
        for number in sorted(self._here):
            self._delivered(self._here[number], number)
        self._found = {}
        self.floor, self.floor_before = None, max(newest, self._top)
        self.fresh = False
        self._begin_behind(self.floor_before)

    def base_on_first(self) -> bool:
        """The first position, if a connection has set it: the first event that was delivered."""
        place = self._first_place()
        if place is None:
            return False
        self.based = True
        self.floor, self.floor_before = place
        self._begin_behind(self._first)
        for known in (self._here, self._earlier):
            known.pop(self.floor.number or 0, None)  # the floor needs no comparison
        return True

    def _first_place(self) -> tuple[Event, int | None] | None:
        """How the first event that was delivered is found again: the floor and the row before it that would be."""
        arrived = self._earlier | self._here
        numbers = heapq.nsmallest(2, arrived)
        if not numbers:
            return None
        if self.dense:
            return arrived[numbers[0]], numbers[0] - 1
        return arrived[numbers[-1]], numbers[0] if len(numbers) > 1 else None

    @property
    def _first(self) -> int:
        """The lowest number that was delivered and not compared."""
        return min((*self._here, *self._earlier), default=0)

    def _begin_behind(self, number: int) -> None:
        self._base = self._head = number
        for arrived in (self._here, self._earlier):
            for old in [old for old in arrived if old <= number]:
                del arrived[old]
        self._settle_below()
        self._keep()

    def _settle_below(self) -> int:
        """The floor is a new one: what was not compared yet is above it, and nothing else. It is what a next process has to know, so it counts as the newest known."""
        for arrived in (self._earlier, self._here):
            for event in arrived.values():
                self.identities.first(event)
        self._below = self.events - len(self._here) - len(self._earlier)
        return self._below

    def _keep(self) -> None:
        if not self._found:
            self._kept = self.floor, self.floor_before, self._below

    @property
    def reference(self) -> Known | None:
        """What a reading must find again: the floor; where there was none when we came, the last event that was delivered behind the first position."""
        return self.floor or (self.last if self._top > self._base else None)

    @staticmethod
    def same_epoch(reference: Known, row: Event, after: int | None) -> bool | None:
        """What a row of a reading that asked behind `after` says about the log: the known one, another one, or nothing yet."""
        number = row.number or 0
        if number == reference.number:
            return alike(row, reference)
        if number > (reference.number or 0) or (after is not None and number <= after):
            return False
        return None

    def row(self, now: float, event: Event, ours: bool, connected: bool) -> None:
        """One row from the floor on; the floor itself was compared before."""
        number = event.number
        assert number is not None  # the codec gives numbered rows only
        if number > self._head:
            if self.dense and self._head and number > self._head + 1:
                self.holes_in_feed = True
            self._head = number
        compared = self.floor is not None and number == self.floor.number
        if compared:
            self._take(number, event)
        if compared or not ours or number <= max(self._base, self.forgotten_up_to):
            return
        if self._take(number, event) or self.identities.knows(event):
            self._delivered(event, number)
        elif number not in self._found:
            self._found[number] = Found(event, now, self._origin(number, connected))

    def _origin(self, number: int, connected: bool) -> Origin:
        """What a row becomes if the socket does not bring it in time."""
        after = self._dialled_after
        promised = number <= self._promised or (connected and (self._settled or (self._resumed and after is not None and number > after)))
        return Origin.AUDIT if promised else Origin.STORE if connected else Origin.POLL

    def _take(self, number: int, event: Event) -> bool:
        """Whether the socket has brought the row already; it is compared now."""
        for arrived in (self._here, self._earlier):
            if self._holds(arrived, number, event):
                del arrived[number]
                return True
        return False

    def read_past(self) -> None:
        """The feed was read up to the head: what arrived up to there and is not in it was invented."""
        for arrived in (self._here, self._earlier):
            for number in [number for number in arrived if number <= self._head]:
                del arrived[number]
                self.audit_events[AuditVerdict.INVENTED] += number > self.forgotten_up_to

    def book(self, now: float, since_s: float, grace_s: float | None = None) -> int:
        """Book the rows whose grace is over, counted from when they were found and from `since_s`; returns how many."""
        grace_s = self.hole_grace_s if grace_s is None else grace_s
        due = []
        for number, found in self._found.items():  # in the order in which they were found
            if max(found.at_s, since_s) + grace_s > now:
                break
            due.append(number)
        for number in due:
            self._book(self._found.pop(number))
        if due:
            self._keep()
        return len(due)

    def _book(self, found: Found) -> None:
        event = found.event
        number = event.number or 0
        self.identities.first(event)
        self.received[found.origin] += 1
        if found.origin is Origin.AUDIT:
            self.missed += 1
            self.recovered += 1
            self.audit_events[AuditVerdict.MISSED] += 1
            recent = self.recent
            recent.count += 1
            recent.low, recent.top = min(recent.low or number, number), max(recent.top, number)
            if number > self._top_at_open:
                recent.silent_top = max(recent.silent_top, number)
        self._delivered(event, number)

    def next_book_s(self, since_s: float) -> float:
        """When `book` has something to do."""
        first = next(iter(self._found.values()), None)
        return math.inf if first is None else max(first.at_s, since_s) + self.hole_grace_s

    @property
    def waiting(self) -> bool:
        """Whether rows wait for the socket."""
        return bool(self._found)

    def read_up_to(self, floor: Known | None, before: int | None) -> None:
        """The next reading starts from here."""
        if floor is not None:
            self.floor, self.floor_before = floor, before
            self._settle_below()
        if self.holes_in_feed or not self._leaps:
            self.jump_s = math.inf  # else it was seen after the question, and the answer knows nothing of it
        self._crowded_at = len(self._here) + len(self._earlier) + AUDIT_EARLY  # what could not be compared now is no reason to ask at once again
        self._keep()

    @property
    def _leaps(self) -> bool:
        """Whether numbers are missing between the highest row read and what arrived behind it."""
        before = max(self._head, self.forgotten_up_to)
        behind = [number for number in self._here if number > before]
        return bool(behind) and max(behind) - before > len(behind)

    def compared(self) -> bool:
        """A reading came to its end; returns whether it was a new epoch's first."""
        fresh, self.fresh, self._settled, self._promised = self.fresh, False, True, self._top
        return fresh

    def silent(self, recovered: Recovered) -> bool:
        """Whether the newest that had to be recovered is above everything that the connection brought: the push path is behind."""
        return recovered.silent_top > self._top_here

    def recovered_since(self, cause: GapCause) -> Recovered:
        """What had to be recovered since the last reading ended; a gap if that is anything."""
        recent, self.recent = self.recent, Recovered()
        if recent.count:
            self.gaps[cause] += 1
        return recent

    def settle(self, claim: Claim, verdict: Verdict, duration_s: float, replayed: int, recovered: int) -> Settled:
        """A connection's catch-up was compared with the feed, or could not be."""
        self.resyncs[claim, verdict] = self.resyncs.get((claim, verdict), 0) + 1
        if claim is not Claim.NONE:
            self.resync_duration.observe(duration_s)
        return Settled(
            claim=claim,
            verdict=verdict,
            replayed=replayed,
            gap_detected=recovered > 0,
            recovered=recovered,
            lost=0,
            unaccounted=0,
            current=None if claim is Claim.NONE or self.floor is None else self.floor.number,
            after=self._top_at_open,
            duration_s=duration_s,
            needed_help=recovered > 0,
        )

    def snapshot(self, last_loss: Moment | None) -> ContinuitySnapshot:
        """An immutable picture."""
        picture = super().snapshot(last_loss)
        return msgspec.structs.replace(picture, audits=dict(self.audits), audit_events=dict(self.audit_events))

    # ------------------------------------------------------------------ resume point

    @property
    def placed(self) -> bool:
        """Whether a next process can begin where this one stopped."""
        return self.based or bool(self._here or self._earlier)

    def position(self, kept: int) -> tuple[Known | None, int | None, int]:
        """Where a next process that knows the `kept` newest identities can begin to compare: the last floor below which nothing waits, the row before it, and how
        many first copies are above it.

        If those are too many for the identities, the last event delivered: what the socket left out before it stays unknown. What a reading has compared counts
        until it is over: the next process has to read it again. Where the log could not be read yet, the first position is what a connection has set.
        """
        floor, before, below = self._kept
        above = self.events - below
        place = None if self.based else self._first_place()
        if place is not None:
            floor, before = place
            above = len(self._here) + len(self._earlier) - len({self._first, place[0].number})
        last, before_last = self.newest(kept)
        if above <= kept // 2 or last is None:
            return floor, before, above
        return last, None if before_last is None else before_last.number, len(self._unproven()) if last is self.last else 0

    def newest(self, kept: int) -> tuple[Known | None, Known | None]:
        """The last event delivered and the one before it, for a next process that knows the `kept` newest identities.

        What connections brought that were not proven yet is not delivered. If it is more than those identities, the log that it is of is the only one that the
        next process can go on with: everything else it would count again.
        """
        unproven = self._unproven()
        if len(unproven) <= kept // 2:
            return self.last, self.before_last
        last, before_last = heapq.nlargest(2, unproven)
        return unproven[last], unproven[before_last]

    def _unproven(self) -> dict[int, Event]:
        """What was brought and is not delivered, above everything that is."""
        if self.proven and not self._earlier:
            return {}
        top = self._top
        return {number: event for arrived in (self._earlier, self._here) for number, event in arrived.items() if number > top}

    @property
    def promised(self) -> int:
        """Up to which number nothing is left to the time without a socket, if the connection ended now."""
        return self._top if not self.based or self._settled or (self._resumed and not self.fresh) else self._promised

    def restore(self, epoch: int, point: FeedPoint) -> None:
        """Start where an earlier process stopped."""
        self.epoch = self.epoch_told = epoch
        self.last, self.before_last = point.last, point.before_last
        self.cursor = None if point.last is None else point.last.number
        self.floor, self.floor_before, self.based, self.fresh = point.floor, point.floor_before, True, point.fresh
        floor = 0 if point.floor is None else point.floor.number
        self._begin_behind(floor if point.floor_before is None else point.floor_before)
        self._below -= point.above
        self._keep()
        self._promised = point.promised

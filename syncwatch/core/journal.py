"""The ledger of a stream whose server keeps a log that can be read over HTTP: what the socket brought is compared with what the log has.

The rules, in the words of the oracle:

- An event is known by its key. First copies are counted by origin: `live` and `store` from the socket, `poll`, `audit` and `store` from the feed. Only frames of
  the socket are counted as duplicates; rows of the feed are evidence, not deliveries.
- A socket that resumes sends its catch-up before it reads anything from us, so the answer to our first ping marks its end: what a connection that
  resumed brought before its first pong is `store`, everything else that it brings is `live`. A definition, not knowledge.
- Every reading of the feed starts one row before the `floor`, the last row that was compared, and must find the floor, key and all, before it finds a higher
  number or one that was not asked for; else the server's log is another: a new epoch, and it is read from its beginning.
- A row that the socket had not brought is *found*. If the socket brings it within the grace it is `late`. If not: a row up to the highest number that had been
  delivered when the connection began, or one that the socket promised, is missed, and recovered in the same step (origin `audit`). A row that nobody
  promised (no socket that resumes, a new epoch read from its beginning, the time without a socket) is delivery: `store`, or `poll` while polling.
- An event that the socket brought and that the feed, read past its number, does not have is `invented`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from syncwatch.core.identity import Remembered
from syncwatch.core.ledger import Ledger, Settled
from syncwatch.core.snapshot import ContinuitySnapshot, Moment
from syncwatch.core.states import AuditResult, AuditVerdict, Claim, GapCause, Origin, Verdict
from syncwatch.core.wire import Event

AUDIT_EARLY = 4096
"""So many events that were not compared yet make an audit due before its time."""
MAX_ARRIVED = 16_384
"""Events remembered for the comparison; older ones are passed over and counted as forgotten."""

Known = Event | Remembered


class Found(msgspec.Struct, frozen=True):
    """A row that the socket has not brought yet. `origin`: what it becomes when the grace is over."""

    event: Event
    at_s: float
    origin: Origin


class CatchUp(msgspec.Struct):
    """What a resumed connection has brought before its first pong."""

    frames: int = 0
    firsts: int = 0


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
        self._top_here = 0  # the highest number that this connection brought
        self._top_at_open = 0  # the highest number delivered before it
        # compared
        self.based = False  # the first position in the log is known
        self.floor: Known | None = None  # the last row compared; None: the log was empty, or begins anew
        self.floor_before: int | None = None  # the row before it; None: it is the first of the log
        self._base = 0  # nothing up to this number is judged: the log was longer when we came
        self._head = 0  # the highest row read
        self._here: dict[int, Event] = {}  # brought by this connection, not compared
        self._earlier: dict[int, Event] = {}  # brought by connections before it, not compared
        self.forgotten_up_to = 0
        self._found: dict[int, Found] = {}
        self.recovered_top = 0  # the highest number that had to be recovered in the reading under way
        self.recovered_low = 0
        self.recovered_now = 0
        self.holes_in_feed = False  # a dense log that is not: hidden rows, or rows never written
        self.jump_s = math.inf  # when a jump was seen that nothing has explained

    # ------------------------------------------------------------------ a connection's life

    def opened(self, attempt: int) -> None:
        """A new connection. Unless it is the first, its server's log may be another."""
        self.attempt = attempt
        self._top_here = 0
        self._top_at_open = self._top
        self.proven = self.reference is None
        resumed = self.resumes and self.dial_after() is not None
        self.window = CatchUp() if resumed else None

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
        self.book(now, since_s=-math.inf, grace_s=-math.inf)
        self._earlier.update(self._here)
        self._here = {}
        self._top_at_open = self._top
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
            if self.dense and self.window is None and self._top_here and number > self._top_here + 1 and not self.holes_in_feed:
                self.gaps[GapCause.LIVE] += 1
                self.jump_s = min(self.jump_s, now)
                self.urgent = True
            self._top_here = number
        if self.proven:
            self._delivered(event, number)
        found = self._found.get(number)
        if found is not None and found.event.key == event.key:
            del self._found[number]
            self.audit_events[AuditVerdict.LATE] += 1
            self.urgent = True
        elif number > self._head or not self.proven:
            self._here[number] = event
            self._cap()
        elif number > self._base:
            self.audit_events[AuditVerdict.INVENTED] += 1  # the feed was read past this number and did not have it

    def _cap(self) -> None:
        count = len(self._here) + len(self._earlier)
        if count == AUDIT_EARLY:
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
        return len(self._here) + len(self._earlier) >= AUDIT_EARLY

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

    def new_epoch(self) -> None:
        """The log is another: only what this connection brought still means anything; everything is to be read from the beginning."""
        self.epoch += 1
        self.resets += 1
        self._earlier = {}
        self._found = {}
        self.floor = self.last = self.before_last = self.cursor = self.floor_before = None
        self._base = self._head = self._top_at_open = self.forgotten_up_to = 0
        self.based = self.proven = True
        for number in sorted(self._here):
            self._delivered(self._here[number], number)
        self.urgent = True

    # ------------------------------------------------------------------ from the feed

    def base(self, rows: Sequence[Event], before: int | None, newest: int | None) -> None:
        """The first position: what the log held when we came is not ours to judge.

        `before`: the number that precedes the last row, if any; `newest`: the server's own word, where the newest row is hidden from us.
        """
        self.based = True
        self.floor = rows[-1] if rows else None
        self.floor_before = before if rows else newest or None
        self._base = self._head = (newest or 0) if self.floor is None else self.floor.number or 0
        for arrived in (self._here, self._earlier):
            for number in [number for number in arrived if number <= self._base]:
                del arrived[number]

    @property
    def reference(self) -> Known | None:
        """What a reading must find again: the floor; where the log was empty when we came, the last event that was delivered."""
        return self.floor or self.last

    def same_epoch(self, row: Event, after: int | None) -> bool | None:
        """What a row of a reading that asked behind `after` says about the log: the known one, another one, or nothing yet."""
        reference, number = self.reference, row.number or 0
        if reference is None:
            return True
        if number == reference.number:
            return row.key == reference.key
        if number > (reference.number or 0) or (after is not None and number <= after):
            return False
        return None

    def begin_reading(self) -> None:
        """A reading of the feed starts: what it will have to recover is counted from here."""
        self.recovered_top = self.recovered_low = self.recovered_now = 0

    def row(self, now: float, event: Event, ours: bool, promised: Origin) -> None:
        """One row from the floor on; the floor itself was compared before. `promised`: what it is if the socket does not bring it and was not meant to have brought it before."""
        number = event.number
        assert number is not None  # the codec gives numbered rows only
        if number > self._head:
            if self.dense and self._head and number > self._head + 1:
                self.holes_in_feed = True
            self._head = number
        compared = self.floor is not None and number == self.floor.number
        if compared or not ours or number <= max(self._base, self.forgotten_up_to) or self._take(number, event) or self.identities.knows(event):
            return
        origin = Origin.AUDIT if number <= self._top_at_open else promised
        self._found[number] = Found(event, now, origin)

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
                self.audit_events[AuditVerdict.INVENTED] += 1

    def book(self, now: float, since_s: float, grace_s: float | None = None) -> int:
        """Book the rows whose grace is over, counted from when they were found and from `since_s`; returns how many."""
        grace_s = self.hole_grace_s if grace_s is None else grace_s
        due = [number for number, found in self._found.items() if max(found.at_s, since_s) + grace_s <= now]
        for number in due:
            self._book(self._found.pop(number))
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
            self.recovered_now += 1
            self.recovered_top = max(self.recovered_top, number)
            self.recovered_low = min(self.recovered_low or number, number)
        self._delivered(event, number)

    def next_book_s(self, since_s: float) -> float:
        """When `book` has something to do."""
        return min((max(found.at_s, since_s) + self.hole_grace_s for found in self._found.values()), default=math.inf)

    @property
    def waiting(self) -> bool:
        """Whether rows wait for the socket."""
        return bool(self._found)

    def finish_reading(self, floor: Known | None, before: int | None) -> None:
        """The reading is settled: the next one starts from here."""
        if floor is not None:
            self.floor, self.floor_before = floor, before
        self.jump_s = math.inf

    @property
    def silent_above(self) -> bool:
        """Whether the newest that had to be recovered is above everything that the connection brought: the push path is behind."""
        return self.recovered_top > self._top_here

    def gap_seen(self) -> None:
        """A comparison outside a connection's catch-up had to recover something."""
        self.gaps[GapCause.LIVE] += 1

    def settle(self, claim: Claim, verdict: Verdict, duration_s: float, replayed: int, current: int | None) -> Settled:
        """A connection's catch-up was compared with the feed, or could not be."""
        self.resyncs[claim, verdict] = self.resyncs.get((claim, verdict), 0) + 1
        if claim is not Claim.NONE:
            self.resync_duration.observe(duration_s)
        if self.recovered_now:
            self.gaps[GapCause.RECONNECT] += 1
        return Settled(
            claim=claim,
            verdict=verdict,
            replayed=replayed,
            gap_detected=self.recovered_now > 0,
            recovered=self.recovered_now,
            lost=0,
            unaccounted=0,
            current=current,
            after=self._top_at_open,
            duration_s=duration_s,
            needed_help=self.recovered_now > 0,
        )

    def snapshot(self, last_loss: Moment | None) -> ContinuitySnapshot:
        """An immutable picture."""
        picture = super().snapshot(last_loss)
        return msgspec.structs.replace(picture, audits=dict(self.audits), audit_events=dict(self.audit_events))

    # ------------------------------------------------------------------ resume point

    def position(self, kept: int) -> tuple[Known | None, int | None]:
        """Where a next process that knows the `kept` newest identities can begin to compare: the floor, and the row before it.

        The floor itself if everything that arrived behind it is among them and nothing waits for its grace; else the last event delivered.
        """
        if not self._found and len(self._here) + len(self._earlier) <= kept // 2:
            return self.floor, self.floor_before
        return self.last, None if self.before_last is None else self.before_last.number

    def restore(self, epoch: int, last: Known | None, before_last: Known | None, floor: Known | None, floor_before: int | None) -> None:
        """Start where an earlier process stopped."""
        self.epoch = self.epoch_told = epoch
        self.last, self.before_last = last, before_last
        self.cursor = None if last is None else last.number
        self.floor, self.floor_before, self.based = floor, floor_before, True
        self._base = floor_before or 0
        self._head = 0 if floor is None else floor.number or 0
        self._top_at_open = self._top

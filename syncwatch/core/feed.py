"""Recovery by reading the server's log over HTTP: after every connection, each minute, and instead of a socket while none can be had.

What belongs here: when to read, how long to wait, what an answer leads to. What a row means is the ledger's business (journal.py). One reading is under way
at most; it has as many requests as the log has pages.
"""

from __future__ import annotations

import enum
import math
from typing import cast

import msgspec

from syncwatch.core.effects import Answer, Notice, Poll, Refused
from syncwatch.core.health import Condition, Reason
from syncwatch.core.identity import Remembered
from syncwatch.core.journal import Journal, Known
from syncwatch.core.recovery import Line, Pace, Recovery
from syncwatch.core.resume import IDENTITIES_KEPT, FeedPoint, ResumePoint, Totals
from syncwatch.core.states import Anomaly, AuditResult, Claim, Origin, State, Verdict
from syncwatch.core.wire import Event, FeedProtocol, Invalid, Numbering, Page, Request

SHELL_GRACE_S = 5.0
"""The shell answers every request within its timeout; one that is this late never will."""
RETRY_S = 2.0  # a reading that failed is tried again after so long while a connection waits for it
FAILURES_TO_SAY = 2  # so many readings in a row without an answer are a reason
FAILURES_TO_LEAVE = 3  # so many polls in a row without an answer: the feed does not carry on
MAX_WAIT_S = 3600.0  # a server that asks for more is asked again after an hour


class Purpose(enum.Enum):
    """Why the feed is read."""

    BASE = "base"  # where the log stands when we come
    RESUME = "resume"  # what a new connection should have brought
    AUDIT = "audit"  # the regular comparison
    TIP = "tip"  # only the newest row
    POLL = "poll"  # instead of a socket


class Reading(msgspec.Struct):
    """One reading: from its first request to the moment when nothing of it is undecided."""

    purpose: Purpose
    began_s: float
    after: int | None
    full: bool = False
    poll_id: int = 0  # of the request under way; 0: all pages are here
    asked_s: float = 0.0
    proven: bool = False  # the known log
    held: list[tuple[Event, bool]] = []  # rows before the proof
    floor: Known | None = None  # the newest row so far
    before: int | None = None  # the one before it

    def saw(self, row: Event) -> None:
        """A row, in order."""
        if self.floor is not None:
            self.before = self.floor.number
        self.floor = row


class Feed(Recovery):
    """The readings of one connection."""

    ledger: Journal

    reasons = (Reason.POLLING,)

    def __init__(self, line: Line) -> None:
        traits = line.protocol.traits
        dense = traits.numbering is Numbering.CONTIGUOUS
        super().__init__(line, Journal(line.settings.hole_grace_s, traits.resumes, dense))
        self._connected = False
        self._reading: Reading | None = None
        self._poll_id = 0
        self._pong_s: float | None = None  # when this connection's catch-up was over
        # the round of a new connection
        self._round_at_s: float | None = None  # the connection waits to be settled since
        self._round_full = False
        self._replayed = 0
        # when to read
        self._full_at_s = math.inf
        self._retry_at_s = math.inf
        self._audit_at_s = math.inf
        self._poll_at_s = math.inf
        self._wait_until_s = -math.inf  # the server asked us to
        # what failed
        self._failures = 0
        self._failing_since_s = 0.0
        self._refusal: tuple[Reason, float] | None = None
        self._failed_handshakes = 0
        self._reprobes = 0

    def configure(self, now: float) -> None:
        """The settings are new; shorter intervals count from now."""
        settings = self.line.settings
        self.ledger.hole_grace_s = settings.hole_grace_s
        if self._connected:
            due_s = now + settings.audit_interval_s if settings.audit else math.inf
            self._audit_at_s = due_s if not settings.audit else min(self._audit_at_s, due_s)
        if self._poll_at_s < math.inf:
            self._poll_at_s = min(self._poll_at_s, now + settings.polling_interval_s)

    def credentials(self, now: float) -> None:
        """A new token: what was refused is tried again at once."""
        if self._refusal is not None and self._refusal[0] in (Reason.UNAUTHORIZED, Reason.FORBIDDEN):
            self._retry_at_s = min(self._retry_at_s, now) if self._connected else self._retry_at_s
            self._poll_at_s = min(self._poll_at_s, now) if self._poll_at_s < math.inf else self._poll_at_s

    @property
    def _protocol(self) -> FeedProtocol:
        """The codec, as it is configured now; its trait says that it is one of a feed."""
        return cast(FeedProtocol, self.line.protocol)

    # ------------------------------------------------------------------ a connection's life

    def dial_after(self) -> int | None:
        """Where the socket itself is to resume."""
        return self.ledger.dial_after() if self._protocol.traits.resumes else None

    def ready(self, now: float, attempt: int) -> None:
        """Compare what this connection brings with the log."""
        line, ledger = self.line, self.ledger
        polled = line.state is State.POLLING
        self._abort(now)
        self._connected, self._pong_s = True, None
        self._failed_handshakes = self._reprobes = 0
        self._poll_at_s = self._retry_at_s = math.inf
        ledger.opened(attempt)
        if not ledger.based:
            line.caught_up(now, "ready, nothing to resume")
            self._plan_audit(now)
            self._read(now, Purpose.BASE)
            return
        line.move(now, State.RESYNCING, "re-probe succeeded" if polled else "ready")
        self._round_at_s, self._round_full, self._replayed = now, self._full_at_s < math.inf, 0
        if self._full_at_s == math.inf:
            self._read(now, Purpose.RESUME)

    def left(self, now: float) -> None:
        """The connection ended: what it has not brought it never will."""
        if self._connected:
            self._abort(now)
            self._replayed += self.ledger.pong()
            self.ledger.closed(now)
            self._end_round(now, Claim.NONE, Verdict.UNVERIFIABLE)
            self._connected = False
        self._audit_at_s = self._retry_at_s = math.inf

    def stopped(self, now: float) -> None:
        """No more readings."""
        self._abort(now)
        self._poll_at_s = self._full_at_s = math.inf

    def failed(self, now: float) -> Pace:
        """An attempt failed: after three of them the feed has to carry on."""
        if self.line.state is State.POLLING:
            self._reprobes += 1
            return Pace.REPROBE
        self._failed_handshakes += 1
        if self._failed_handshakes >= self.line.settings.polling_after and self._reading is None and now >= self._wait_until_s:
            self._read(now, Purpose.POLL if self.ledger.based else Purpose.BASE)
        return Pace.RETRY

    def refused(self, now: float) -> None:
        """The credentials were refused: the feed takes the same."""
        self._abort(now)
        self._poll_at_s = math.inf

    def reprobe_s(self) -> float:
        """How long to poll before the WebSocket is tried again."""
        settings = self.line.settings
        return float(min(settings.reprobe_min_s * 2.0 ** min(self._reprobes, 30), settings.reprobe_max_s))

    def answered(self, now: float) -> None:
        """The answer to the first ping comes after the whole catch-up."""
        if self._pong_s is None:
            self._pong_s = now
            self._replayed += self.ledger.pong()
            self.ledger.urgent = True

    def reset_found(self, now: float) -> None:
        """Another log: it is read from its beginning."""
        self._abort(now)
        self._full_at_s = now + self.spread_s()
        self._round_full = True
        if self._connected and self.line.state is State.OPEN:
            self.line.move(now, State.RESYNCING, "the server's log is another")
            self._round_at_s = now

    # ------------------------------------------------------------------ asking

    def _read(self, now: float, purpose: Purpose, full: bool = False) -> None:
        """Begin a reading."""
        ledger = self.ledger
        self._retry_at_s = math.inf
        if full:
            self._full_at_s = math.inf
        if purpose is Purpose.AUDIT:
            self._audit_at_s = math.inf
        after = None if full else ledger.floor_before
        self._reading = reading = Reading(purpose, now, after, full, held=[])
        reading.proven = full or ledger.reference is None
        if purpose is not Purpose.TIP:
            ledger.begin_reading()
        newest = purpose in (Purpose.BASE, Purpose.TIP)
        self._poll_id -= 1  # below zero: above it are the canary's
        self._ask(now, reading, self._protocol.tip(self._poll_id) if newest else self._protocol.poll(after, self._poll_id))

    def _ask(self, now: float, reading: Reading, request: Request) -> None:
        reading.poll_id, reading.asked_s = self._poll_id, now
        self.line.emit(Poll(self._poll_id, request, self.line.settings.ack_timeout_s))

    def _ask_behind(self, now: float, reading: Reading, after: int) -> None:
        self._poll_id -= 1
        self._ask(now, reading, self._protocol.poll(after, self._poll_id))

    def _abort(self, now: float) -> None:
        """Give up the reading under way; what it has found stays found, and the next one begins behind what was compared."""
        reading, self._reading = self._reading, None
        if reading is not None and reading.proven and reading.purpose not in (Purpose.BASE, Purpose.TIP):
            self.ledger.finish_reading(reading.floor, reading.before)

    # ------------------------------------------------------------------ answers

    def polled(self, now: float, poll_id: int, answer: Answer | Refused) -> None:
        """The answer to a request of the reading under way; others are ignored."""
        reading = self._reading
        if reading is None or poll_id != reading.poll_id or not self.line.active:
            return
        if isinstance(answer, Refused):
            self._not_answered(now, reading, Reason.UPSTREAM_ERROR, f"{answer.reason}: {answer.detail}")
            return
        if answer.status != 200:
            self._refused(now, reading, answer)
            return
        page = self._protocol.page(answer.body)
        if isinstance(page, Invalid):
            self._not_answered(now, reading, Reason.UPSTREAM_ERROR, f"the feed's answer is no page: {page.reason}")
            return
        if page.malformed:
            self.ledger.bad_sequence += page.malformed
            self.line.anomaly(now, Anomaly.BAD_SEQUENCE, f"{page.malformed} rows of the feed have no number")
        self._failures, self._refusal = 0, None
        reading.poll_id = 0
        if reading.purpose is Purpose.BASE:
            self._based(now, reading, page)
        elif reading.purpose is Purpose.TIP:
            self._tip(now, page)
        else:
            self._rows(now, reading, page)

    def _refused(self, now: float, reading: Reading, answer: Answer) -> None:
        reasons = {401: Reason.UNAUTHORIZED, 403: Reason.FORBIDDEN, 429: Reason.RATE_LIMITED}
        if answer.retry_after_s is not None:
            self._wait_until_s = now + min(answer.retry_after_s, MAX_WAIT_S)
        self._not_answered(now, reading, reasons.get(answer.status, Reason.UPSTREAM_ERROR), f"HTTP {answer.status}")

    def _not_answered(self, now: float, reading: Reading, reason: Reason, detail: str) -> None:
        """A reading failed."""
        line = self.line
        self._abort(now)
        if self._failures == 0:
            self._failing_since_s = now
        self._failures += 1
        if self._refusal is None or self._refusal[0] is not reason:
            self._refusal = (reason, now)
            line.notify(now, Notice.VERIFICATION, result="failed", reason=reason, detail=detail)
        if reading.purpose in (Purpose.RESUME, Purpose.AUDIT):
            self.ledger.audits[AuditResult.FAILED] += 1
        if reading.purpose in (Purpose.AUDIT, Purpose.TIP):
            line.verification.unanswered()
        waiting = reading.full or self._round_at_s is not None or not self.ledger.based
        pause_s = RETRY_S if waiting and reason is not Reason.FORBIDDEN else line.settings.audit_interval_s
        again_s = max(now + pause_s, self._wait_until_s)
        if reading.full:
            self._full_at_s = again_s
        if line.state is State.POLLING:
            self._poll_at_s = max(now + line.settings.polling_interval_s, self._wait_until_s)
            if self._failures >= FAILURES_TO_LEAVE:
                self._poll_at_s = math.inf
                line.move(now, State.RECONNECTING, "the feed fails as well")
        elif self._connected:
            self._retry_at_s = again_s
            self._plan_audit(now)
            if reason is Reason.FORBIDDEN:
                self._give_up_round(now, "the token may not read the feed")

    def _based(self, now: float, reading: Reading, page: Page) -> None:
        """Where the log stands."""
        rows, newest = page.events, page.newest
        if newest is not None and newest > 0 and (not rows or rows[-1].number != newest) and reading.after is None:
            reading.after = newest - 1  # the row itself, so that the next reading has something to recognise
            self._ask_behind(now, reading, newest - 1)
            return
        self._reading = None
        before = rows[-2].number if len(rows) > 1 else reading.after
        self.ledger.base(rows, before, newest)
        if self._connected:
            self.line.verification.settled(now)
            self._plan_audit(now)
        else:
            self._carry_on(now)

    def _tip(self, now: float, page: Page) -> None:
        """The newest row only."""
        self._reading = None
        ledger, verification = self.ledger, self.line.verification
        newest = page.events[-1] if page.events else None
        last = ledger.last
        number = page.newest if newest is None else newest.number
        ours = newest is None or newest.number not in page.skipped
        ahead = (number or 0) > ((last.number or 0) if last is not None else 0)
        known = newest is not None and last is not None and newest.number == last.number and newest.key == last.key
        if known or (last is None and number is None) or (newest is None and not ahead and last is not None and last.number == number):
            verification.checked(now, needed_help=False)
            self.line.notify(now, Notice.VERIFICATION, result="verified", cursor=ledger.cursor, current=number)
        elif ahead and ours:
            verification.checked(now, needed_help=True)
        else:
            self._read(now, Purpose.AUDIT)  # outside the socket's filter, or not what we know: only a comparison can tell

    def _rows(self, now: float, reading: Reading, page: Page) -> None:
        """One page of the log."""
        ledger = self.ledger
        for event in page.events:
            ours = event.number not in page.skipped
            if not reading.proven:
                verdict = ledger.same_epoch(event, reading.after)
                if verdict is False:
                    self._other_log(now)
                    return
                reading.held.append((event, ours))
                if verdict is None:
                    continue
                reading.proven = True
                ledger.same_log()
                for held, held_ours in reading.held:
                    self._row(now, reading, held, held_ours)
                reading.held = []
                continue
            self._row(now, reading, event, ours)
        if page.next_after is not None:
            if page.next_after > (reading.after if reading.after is not None else -1):
                if reading.proven:
                    self._page_done(now, reading)
                reading.after = page.next_after
                self._ask_behind(now, reading, page.next_after)
            else:
                self._not_answered(now, reading, Reason.UPSTREAM_ERROR, "the feed's next cursor does not advance")
            return
        if not reading.proven:
            self._other_log(now)
            return
        ledger.same_log()
        self._page_done(now, reading)
        self._try_finish(now)

    def _row(self, now: float, reading: Reading, event: Event, ours: bool) -> None:
        reading.saw(event)
        self.ledger.row(now, event, ours, self._promised(reading))

    def _promised(self, reading: Reading) -> Origin:
        if reading.purpose is Purpose.POLL:
            return Origin.POLL
        if reading.full or (reading.purpose is Purpose.RESUME and not self._protocol.traits.resumes):
            return Origin.STORE
        return Origin.AUDIT

    def _page_done(self, now: float, reading: Reading) -> None:
        self.ledger.read_past()
        if reading.purpose is Purpose.POLL and self.ledger.book(now, since_s=-math.inf, grace_s=-math.inf):
            self.line.came(now)

    def _other_log(self, now: float) -> None:
        """What was read is not what we know: the session tells of the reset and comes back with `reset_found`."""
        if self._reading is not None:
            self._reading.proven = False
        self._abort(now)
        self.ledger.new_epoch()

    # ------------------------------------------------------------------ settling

    @property
    def _since_s(self) -> float:
        """The grace of a found row begins when the catch-up is over."""
        if self._round_at_s is None or not self._protocol.traits.resumes:
            return -math.inf
        return math.inf if self._pong_s is None else self._pong_s

    def _try_finish(self, now: float) -> None:
        """End the reading if all pages are here and nothing waits for the socket any more."""
        reading = self._reading
        if reading is None or reading.poll_id or reading.purpose in (Purpose.BASE, Purpose.TIP):
            return
        if self.ledger.waiting or (self._round_at_s is not None and self._since_s == math.inf):
            return
        self._reading = None
        self.ledger.finish_reading(reading.floor, reading.before)
        if reading.purpose is Purpose.POLL:
            self._polled(now)
        else:
            self._compared(now, reading)

    def _compared(self, now: float, reading: Reading) -> None:
        """Everything that the log has is accounted for."""
        line, ledger, verification = self.line, self.ledger, self.line.verification
        repaired = ledger.recovered_now
        ledger.audits[AuditResult.REPAIRED if repaired else AuditResult.CLEAN] += 1
        settling = self._round_at_s is not None
        if repaired:
            cause = "reconnect" if settling else "live"
            line.notify(now, Notice.GAP, cause=cause, first=ledger.recovered_low, last=ledger.recovered_top, missing=repaired)
        if repaired and ledger.silent_above:
            verification.behind(now)
            line.notify(now, Notice.VERIFICATION, result="behind", cursor=ledger.cursor, current=ledger.recovered_top)
        elif settling:
            verification.settled(now)
        else:
            verification.checked(now, needed_help=False)
        if settling:
            verdict = Verdict.CONTRADICTED if repaired else Verdict.VERIFIED
            if reading.full or self._round_full or (not repaired and ledger.dense and ledger.holes_in_feed):
                verdict = Verdict.UNVERIFIABLE
            self._end_round(now, Claim.COMPLETE, verdict)
            line.caught_up(now, "settled")
        elif repaired:
            ledger.gap_seen()
        self._plan_audit(now)

    def _end_round(self, now: float, claim: Claim, verdict: Verdict) -> None:
        """The question what a new connection brought is answered, or given up."""
        if self._round_at_s is None:
            return
        duration_s, self._round_at_s = now - self._round_at_s, None
        current = None if claim is Claim.NONE or self.ledger.floor is None else self.ledger.floor.number
        self.tell_settled(now, self.ledger.settle(claim, verdict, duration_s, self._replayed, current))

    def _give_up_round(self, now: float, why: str) -> None:
        """The feed does not answer: go on without its word."""
        if self._round_at_s is None:
            return
        if self._refusal is not None and self._refusal[0] is Reason.FORBIDDEN and not self.ledger.proven and self._pong_s is not None:
            self.ledger.new_epoch()  # the socket's word is all there is, and it did not begin with what we know
        self._end_round(now, Claim.NONE, Verdict.UNVERIFIABLE)
        self.line.caught_up(now, why)

    # ------------------------------------------------------------------ instead of a socket

    def _polled(self, now: float) -> None:
        """The log was read to its end."""
        self.line.verification.read(now)
        repaired = self.ledger.recovered_now
        if repaired:
            low, top = self.ledger.recovered_low, self.ledger.recovered_top
            self.line.notify(now, Notice.GAP, cause="live", first=low, last=top, missing=repaired)
            self.ledger.gap_seen()
        self._carry_on(now)

    def _carry_on(self, now: float) -> None:
        """The feed answers while no socket can be had."""
        line = self.line
        if line.state in (State.RECONNECTING, State.FAILED):
            line.move(now, State.POLLING, "fallback")
            line.redial(now, self.reprobe_s())
        self._poll_at_s = now + line.settings.polling_interval_s

    # ------------------------------------------------------------------ timers

    def _plan_audit(self, now: float) -> None:
        settings = self.line.settings
        self._audit_at_s = now + settings.audit_interval_s if settings.audit else math.inf

    def tick(self, now: float) -> None:
        """Due work of a connection that is ready."""
        line, ledger = self.line, self.ledger
        if ledger.book(now, self._since_s):
            line.came(now)
        self._try_finish(now)
        if self._round_at_s is not None and self._failures and now >= self._round_at_s + line.settings.ack_timeout_s:
            self._give_up_round(now, "the feed does not answer")
        if self._reading is not None:
            return
        if self._full_at_s <= now:
            self._read(now, Purpose.RESUME if self._round_at_s is not None else Purpose.AUDIT, full=True)
        elif self._retry_at_s <= now:
            settled = Purpose.AUDIT if ledger.based else Purpose.BASE
            self._read(now, Purpose.RESUME if self._round_at_s is not None else settled)
        elif self._round_at_s is None and ledger.based and now >= self._wait_until_s:
            self._tick_open(now)

    def _tick_open(self, now: float) -> None:
        ledger, verification = self.ledger, self.line.verification
        if verification.ripened(now):
            self.line.notify(now, Notice.VERIFICATION, result="behind", cursor=ledger.cursor, current=None)
            self._read(now, Purpose.AUDIT)
        elif self._audit_due_s() <= now:
            self._read(now, Purpose.AUDIT)
        elif verification.due_s <= now:
            verification.due_s = math.inf
            self._read(now, Purpose.AUDIT if self.line.settings.audit else Purpose.TIP)

    def _audit_due_s(self) -> float:
        if not self.line.settings.audit:
            return math.inf
        if self.ledger.crowded:
            return -math.inf
        return min(self._audit_at_s, self.ledger.jump_s + self.ledger.hole_grace_s)

    def tick_always(self, now: float) -> None:
        """Due work, connected or not."""
        reading = self._reading
        if reading is not None and reading.poll_id and now >= self._lost_s(reading):
            self._not_answered(now, reading, Reason.UPSTREAM_ERROR, "no answer")
        if self._connected or self._reading is not None or self.line.state is not State.POLLING:
            return
        if self._full_at_s <= now:
            self._read(now, Purpose.POLL, full=True)
        elif self._poll_at_s <= now:
            self._poll_at_s = math.inf
            self._read(now, Purpose.POLL)

    def _lost_s(self, reading: Reading) -> float:
        return reading.asked_s + self.line.settings.ack_timeout_s + SHELL_GRACE_S

    def deadline(self, now: float) -> float:
        """When `tick` has something to do."""
        deadline = self.ledger.next_book_s(self._since_s)
        if self._round_at_s is not None and self._failures:
            deadline = min(deadline, self._round_at_s + self.line.settings.ack_timeout_s)
        if self._reading is not None:
            done = not self._reading.poll_id and not self.ledger.waiting
            return min(deadline, now) if done and self._since_s < math.inf else deadline
        deadline = min(deadline, self._full_at_s, self._retry_at_s)
        if self._round_at_s is None and self.ledger.based:
            due_s = min(self._audit_due_s(), self.line.verification.due_s, self.line.verification.verdict_s)
            deadline = min(deadline, max(due_s, self._wait_until_s))
        return deadline

    def deadline_always(self, now: float) -> float:
        """When `tick_always` has something to do."""
        reading = self._reading
        if reading is not None:
            return self._lost_s(reading) if reading.poll_id else math.inf
        if self._connected or self.line.state is not State.POLLING:
            return math.inf
        return min(self._poll_at_s, self._full_at_s)

    # ------------------------------------------------------------------ outputs

    def conditions(self, now: float) -> list[Condition]:
        """Who refuses the feed, and since when nothing can be compared."""
        found: list[Condition] = []
        if self._refusal is not None and (self._refusal[0] is not Reason.FORBIDDEN or not self._connected):
            found.append(Condition(*self._refusal))
        if self._connected and self._failures >= FAILURES_TO_SAY:
            found.append(Condition(Reason.RESYNC_UNANSWERED, self._failing_since_s))
        return found

    def capture(self, wall_s: float, upstream: str, totals: Totals) -> ResumePoint:
        """What the next process needs."""
        ledger = self.ledger
        keys, hashes = ledger.identities.newest(IDENTITIES_KEPT)
        floor, before = ledger.position(IDENTITIES_KEPT)
        feed = FeedPoint(
            self._protocol.scope, ledger.based, _kept(ledger.last), _kept(ledger.before_last), _kept(floor), before
        )
        return ResumePoint(
            saved_wall_s=wall_s,
            upstream=upstream,
            totals=totals,
            epoch=ledger.epoch,
            cursor=ledger.cursor,
            keys=tuple(keys),
            hashes=tuple(hashes),
            feed=feed,
        )

    def restore(self, now: float, point: ResumePoint) -> bool:
        """Start where an earlier process stopped, if it read the same log."""
        feed = point.feed
        if feed is None or not feed.based or feed.scope != self._protocol.scope:
            return False
        self.ledger.restore_identities(point.keys, point.hashes)
        self.ledger.restore(point.epoch, feed.last, feed.before_last, feed.floor, feed.floor_before)
        return True


def _kept(event: Known | None) -> Remembered | None:
    return None if event is None or event.number is None else Remembered(event.number, event.key, event.time_s)

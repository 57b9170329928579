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
from syncwatch.core.journal import Journal, Known, Recovered, alike
from syncwatch.core.recovery import Line, Pace, Recovery
from syncwatch.core.resume import IDENTITIES_KEPT, FeedPoint, ResumePoint, Totals
from syncwatch.core.states import Anomaly, AuditResult, Claim, Disconnect, GapCause, State, Verdict
from syncwatch.core.wire import Event, FeedProtocol, Invalid, Numbering, Page, Request

SHELL_GRACE_S = 5.0
"""The shell answers every request within its timeout; one that is this late never will."""
RETRY_S = 2.0  # a reading that failed is tried again after so long while a connection waits for it
FAILURES_TO_SAY = 2  # so many readings in a row without an answer are a reason
FAILURES_TO_LEAVE = 3  # so many polls in a row without an answer: the feed does not carry on
MAX_HELD = 16_384  # rows kept until the one to be found again shows that the log is the known one
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
    reference: Known | None  # what has to be found again: known before the question was asked
    poll_id: int = 0  # of the request under way; 0: all pages are here
    asked_s: float = 0.0
    proven: bool = False  # the known log
    held: list[tuple[Event, bool]] = []  # rows before the proof
    floor: Known | None = None  # the newest row so far
    before: int | None = None  # the one before it; of the first row, what was asked behind
    overlap: Known | None = None  # what the next page has to begin with
    newest: int | None = None  # the server's own word on its newest number

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
        self._round_fresh = False
        self._replayed = 0
        # when to read
        self._retry_at_s = math.inf
        self._audit_at_s = math.inf
        self._poll_at_s = math.inf
        self._wait_until_s = -math.inf  # the server asked us to, or fleets are spread
        # what failed
        self._failures = 0
        self._failing_since_s = 0.0
        self._refusal: tuple[Reason, float] | None = None
        self._needed_s: float | None = None  # a reading was refused while there was no socket, since
        self._failed_handshakes = 0
        self._reprobes = 0
        self._forbidden = False  # this connection's token may not read the feed
        self._stale = False  # the connection belongs to a log that is no more
        self._other_eyes = False  # the token is another one, and nothing known was seen with it yet

    def configure(self, now: float) -> None:
        """The settings are new; shorter intervals count from now."""
        settings = self.line.settings
        self.ledger.hole_grace_s = settings.hole_grace_s
        if self._connected:
            due_s = now + settings.audit_interval_s if settings.audit else math.inf
            self._audit_at_s = due_s if not settings.audit else min(self._audit_at_s, due_s)
        if self._poll_at_s < math.inf:
            self._poll_at_s = min(self._poll_at_s, now + settings.polling_interval_s)

    def credentials(self, now: float, changed: bool) -> None:
        """A new token: what was refused is tried again at once."""
        self._other_eyes = self._other_eyes or changed
        if self._refusal is not None and self._refusal[0] in (Reason.UNAUTHORIZED, Reason.FORBIDDEN):
            now = max(now, self._wait_until_s)
            self._retry_at_s = min(self._retry_at_s, now) if self._connected else self._retry_at_s
            self._poll_at_s = min(self._poll_at_s, now) if self._poll_at_s < math.inf else self._poll_at_s

    @property
    def _protocol(self) -> FeedProtocol:
        """The codec, as it is configured now; its trait says that it is one of a feed."""
        return cast(FeedProtocol, self.line.protocol)

    # ------------------------------------------------------------------ a connection's life

    def dialled(self) -> int | None:
        """An attempt begins; returns where its socket is to resume."""
        return self.ledger.dialled()

    def ready(self, now: float, attempt: int) -> None:
        """Compare what this connection brings with the log."""
        line, ledger = self.line, self.ledger
        polled = line.state is State.POLLING
        self._abort()
        self._connected, self._pong_s, self._forbidden = True, None, False
        self._needed_s = None
        self._failed_handshakes = self._reprobes = 0
        self._poll_at_s = self._retry_at_s = math.inf
        based = ledger.based or ledger.base_on_first()
        ledger.opened(attempt)
        if not based:
            line.caught_up(now, "ready, nothing to resume")
            self._plan_audit(now)
            self._read_soon(now)
            return
        line.move(now, State.RESYNCING, "re-probe succeeded" if polled else "ready")
        self._round_at_s, self._round_fresh, self._replayed = now, ledger.fresh, 0
        self._read_soon(now)

    def left(self, now: float) -> None:
        """The connection ended: what it has not brought it never will."""
        if self._connected:
            self._abort()
            self._replayed += self.ledger.pong()
            self.ledger.closed(now)
            self._end_round(now, Claim.NONE, Verdict.UNVERIFIABLE, self._gap(now))
            self._connected = False
        self._audit_at_s = self._retry_at_s = math.inf

    def stopped(self, now: float) -> None:
        """No more readings."""
        self._abort()
        self._poll_at_s = math.inf

    def failed(self, now: float) -> Pace:
        """An attempt failed: after three of them the feed has to carry on."""
        if self.line.state is State.POLLING:
            self._reprobes += 1
            return Pace.REPROBE
        self._failed_handshakes += 1
        if self._failed_handshakes >= self.line.settings.polling_after and self._reading is None and now >= self._wait_until_s:
            self._read(now, Purpose.POLL if self.ledger.based or self.ledger.base_on_first() else Purpose.BASE)
        return Pace.RETRY

    def refused(self, now: float) -> None:
        """The credentials were refused: the feed takes the same."""
        self._abort()
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
            self._socket_alone()

    def _socket_alone(self) -> None:
        """Where the token may not read the feed the socket's word is all there is: a catch-up that does not begin with what we know is another log's."""
        if self._forbidden and self._round_at_s is None and self._pong_s is not None and self.ledger.silent_elsewhere:
            self.ledger.new_epoch()

    def reset_found(self, now: float) -> None:
        """Another log: it is read from its beginning."""
        line = self.line
        self._abort()
        self._wait_until_s = max(self._wait_until_s, now + self.spread_s())
        stale, self._stale = self._stale, False
        if not self._connected:
            self._carry_on(now)
            self._poll_at_s = self._wait_until_s
        elif stale:
            line.drop(now, Disconnect.LOCAL, "the server's log is another than this connection's")
        else:
            pending_s = self._retry_at_s if self._retry_at_s < math.inf else now
            self._retry_at_s, self._round_fresh = max(self._wait_until_s, pending_s), True
            if line.state is State.OPEN:
                line.move(now, State.RESYNCING, "the server's log is another")
                self._round_at_s = now

    # ------------------------------------------------------------------ asking

    def _read_soon(self, now: float) -> None:
        """Read what the connection needs read, as soon as the server wants to be asked."""
        if now < self._wait_until_s:
            self._retry_at_s = self._wait_until_s
        elif self._round_at_s is not None:
            self._read(now, Purpose.RESUME)
        else:
            self._read(now, Purpose.AUDIT if self.ledger.based else Purpose.BASE)

    def _read(self, now: float, purpose: Purpose) -> None:
        """Begin a reading."""
        ledger = self.ledger
        self._retry_at_s = math.inf
        if purpose not in (Purpose.BASE, Purpose.TIP):
            self.ledger.jump_s = math.inf  # the answer explains it; one that fails is asked again
        if purpose is Purpose.AUDIT:
            self._audit_at_s = math.inf
        after = ledger.floor_before
        self._reading = reading = Reading(purpose, now, after, ledger.reference, before=after, held=[])
        reading.proven = reading.reference is None
        newest = purpose in (Purpose.BASE, Purpose.TIP)
        self._poll_id -= 1  # below zero: above it are the canary's
        self._ask(now, reading, self._protocol.tip(self._poll_id) if newest else self._protocol.poll(after, self._poll_id))

    def _ask(self, now: float, reading: Reading, request: Request) -> None:
        reading.poll_id, reading.asked_s = self._poll_id, now
        self.line.emit(Poll(self._poll_id, request, self.line.settings.ack_timeout_s))

    def _ask_behind(self, now: float, reading: Reading, after: int) -> None:
        self._poll_id -= 1
        self._ask(now, reading, self._protocol.poll(after, self._poll_id))

    def _ask_on(self, now: float, reading: Reading, page: Page) -> None:
        """The next page, from one row before its beginning: the log may have been replaced between two pages."""
        rows, end = page.events, page.next_after
        assert end is not None
        overlaps = len(rows) > 1 and rows[-1].number == end
        reading.overlap = rows[-1] if overlaps else None
        self._ask_behind(now, reading, rows[-2].number or 0 if overlaps else end)

    def _abort(self) -> None:
        """Give up the reading under way; what it has found stays found, and the next one begins behind what was compared."""
        reading, self._reading = self._reading, None
        if reading is not None and reading.proven and reading.purpose not in (Purpose.BASE, Purpose.TIP):
            self.ledger.read_up_to(reading.floor, reading.before)

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
        self._failures, self._refusal, self._forbidden = 0, None, False
        reading.poll_id, reading.newest = 0, page.newest
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
        self._abort()
        if self._failures == 0:
            self._failing_since_s = now
        self._failures += 1
        if not self._connected and self._needed_s is None:
            self._needed_s = now
        if self._refusal is None or self._refusal[0] is not reason:
            self._refusal = (reason, now)
            line.notify(now, Notice.VERIFICATION, result="failed", reason=reason, detail=detail)
        if reading.purpose in (Purpose.RESUME, Purpose.AUDIT):
            self.ledger.audits[AuditResult.FAILED] += 1
        if reading.purpose in (Purpose.AUDIT, Purpose.TIP):
            line.verification.unanswered()
        waiting = self._round_at_s is not None or self.ledger.fresh or not self.ledger.based
        pause_s = RETRY_S if waiting and reason is not Reason.FORBIDDEN else line.settings.audit_interval_s
        again_s = max(now + pause_s, self._wait_until_s)
        if line.state is State.POLLING:
            self._poll_at_s = max(now + line.settings.polling_interval_s, self._wait_until_s)
            if self._failures >= FAILURES_TO_LEAVE:
                self._poll_at_s = math.inf
                line.move(now, State.RECONNECTING, "the feed fails as well")
                line.redial(now, RETRY_S)
        elif self._connected:
            self._retry_at_s = again_s
            self._plan_audit(now)
            self._forbidden = reason is Reason.FORBIDDEN
            if self._forbidden:
                self._give_up_round(now, "the token may not read the feed")

    def _based(self, now: float, reading: Reading, page: Page) -> None:
        """Where the log stands."""
        rows, newest = page.events, page.newest
        if newest is not None and newest > 0 and (not rows or rows[-1].number != newest) and reading.after is None:
            reading.after = newest - 1  # the row itself, so that the next reading has something to recognise
            self._ask_behind(now, reading, newest - 1)
            return
        self._reading = None
        self._other_eyes = False
        before = rows[-2].number if len(rows) > 1 else reading.after
        alone = self.ledger.base(rows, before, newest)
        if self._connected:
            if alone:
                self.line.verification.settled(now)
            self._plan_audit(now)
        else:
            self._carry_on(now)

    def _tip(self, now: float, page: Page) -> None:
        """The newest row only."""
        self._reading = None
        ledger, verification = self.ledger, self.line.verification
        row = page.events[-1] if page.events and page.newest in (None, page.events[-1].number) else None
        number = (row.number if row is not None else page.newest) or 0
        delivered = 0 if ledger.last is None else ledger.last.number or 0
        same = [known for known in (ledger.last, ledger.floor) if known is not None and known.number == number]
        if number >= delivered and (any(row is None or row.key == known.key for known in same) or (number == 0 and ledger.reference is None)):
            verification.checked(now, needed_help=False)
            self.line.notify(now, Notice.VERIFICATION, result="verified", cursor=ledger.cursor, current=number)
        elif row is not None and number > delivered and number not in page.skipped:
            verification.checked(now, needed_help=True)
        else:
            self._read(now, Purpose.AUDIT)  # hidden from the socket, or not what we know: only a comparison can tell

    def _rows(self, now: float, reading: Reading, page: Page) -> None:
        """One page of the log."""
        events, overlap = page.events, reading.overlap
        if overlap is not None:
            if not events or events[0].number != overlap.number or not alike(events[0], overlap):
                self._other_log(meanwhile=True)
                return
            events = events[1:]
        for event in events:
            ours = event.number not in page.skipped
            if reading.proven:
                self._row(now, reading, event, ours)
            elif not self._prove(now, reading, event, ours):
                return
        if page.next_after is not None:
            if page.next_after > (reading.after if reading.after is not None else -1):
                if reading.proven:
                    self._page_done(now, reading)
                reading.after = page.next_after
                self._ask_on(now, reading, page)
            else:
                self._not_answered(now, reading, Reason.UPSTREAM_ERROR, "the feed's next cursor does not advance")
        elif reading.proven:
            self.ledger.same_log()
            self._page_done(now, reading)
            self._try_finish(now)
        elif self._may_be_hidden(reading):
            self._begin_anew(now, reading)
        else:
            self._other_log()

    def _prove(self, now: float, reading: Reading, event: Event, ours: bool) -> bool:
        """A row before the proof; False if it shows that the log is another."""
        assert reading.reference is not None
        verdict = self.ledger.same_epoch(reading.reference, event, reading.after)
        if verdict is False:
            if self._may_be_hidden(reading, event):
                self._begin_anew(now, reading)
            else:
                self._other_log()
            return False
        reading.held.append((event, ours))
        if len(reading.held) >= MAX_HELD:
            self.ledger.forgotten_ranges += 1  # memory is bounded: what is to be found again will not be waited for any longer
            verdict = True
        if verdict:
            reading.proven = True
            self.ledger.same_log()
            self._other_eyes = False
            for held, held_ours in reading.held:
                self._row(now, reading, held, held_ours)
            reading.held = []
        return True

    def _row(self, now: float, reading: Reading, event: Event, ours: bool) -> None:
        reading.saw(event)
        self.ledger.row(now, event, ours, self._connected)

    def _page_done(self, now: float, reading: Reading) -> None:
        self.ledger.read_past()
        if reading.purpose is Purpose.POLL and self.ledger.book(now, since_s=-math.inf, grace_s=-math.inf):
            self.line.came(now)

    def _may_be_hidden(self, reading: Reading, behind: Event | None = None) -> bool:
        """Whether what had to be found again may be there and not for this token, which is another one: the log reaches so far, and a row `behind` it follows, or none."""
        number = 0 if reading.reference is None else reading.reference.number or 0
        reaches = reading.newest is not None and reading.newest >= number
        return self._other_eyes and reaches and (behind is None or (behind.number or 0) > number)

    def _begin_anew(self, now: float, reading: Reading) -> None:
        """Nobody can tell whether the log is another or shows less: it is called neither. Judging begins anew at its newest row."""
        line, ledger = self.line, self.ledger
        self._abort()
        self._other_eyes = False
        why = "the new token does not show the event that was to be found again: judging begins anew at the newest"
        line.notify(now, Notice.VERIFICATION, result="failed", detail=why)
        if reading.purpose is not Purpose.POLL:
            ledger.audits[AuditResult.FAILED] += 1
        if reading.purpose is Purpose.AUDIT:
            line.verification.unanswered()
        ledger.begin_anew(reading.newest or 0)
        if self._connected:
            self._give_up_round(now, "judging begins anew")
            self._plan_audit(now)
        else:
            self._carry_on(now)

    def _other_log(self, meanwhile: bool = False) -> None:
        """What was read is not what we know: the session tells of the reset and comes back with `reset_found`. `meanwhile`: it was still there a page ago."""
        self._abort()
        self._stale = self._connected and (self.ledger.proven or self.ledger.brought or meanwhile)
        self.ledger.new_epoch(stale=self._stale)

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
        self.ledger.read_up_to(reading.floor, reading.before)
        if reading.purpose is Purpose.POLL:
            self._polled(now)
        else:
            self._compared(now)

    def _gap(self, now: float) -> Recovered:
        """What had to be recovered since the last reading ended, and tell of it."""
        cause = GapCause.LIVE if self._round_at_s is None else GapCause.RECONNECT
        recovered = self.ledger.recovered_since(cause)
        if recovered.count:
            self.line.notify(now, Notice.GAP, cause=cause, first=recovered.low, last=recovered.top, missing=recovered.count)
        return recovered

    def _compared(self, now: float) -> None:
        """Everything that the log has is accounted for."""
        line, ledger, verification = self.line, self.ledger, self.line.verification
        settling = self._round_at_s is not None
        recovered, fresh = self._gap(now), ledger.compared()
        repaired = recovered.count > 0
        ledger.audits[AuditResult.REPAIRED if repaired else AuditResult.CLEAN] += 1
        if repaired and ledger.silent(recovered):
            verification.behind(now)
            line.notify(now, Notice.VERIFICATION, result="behind", cursor=ledger.cursor, current=recovered.top)
        elif settling:
            verification.settled(now)
        else:
            verification.checked(now, needed_help=False)
        if settling:
            verdict = Verdict.CONTRADICTED if repaired else Verdict.VERIFIED
            if fresh or self._round_fresh or (not repaired and ledger.dense and ledger.holes_in_feed):
                verdict = Verdict.UNVERIFIABLE
            self._end_round(now, Claim.COMPLETE, verdict, recovered)
            line.caught_up(now, "settled")
        self._plan_audit(now)

    def _end_round(self, now: float, claim: Claim, verdict: Verdict, recovered: Recovered) -> None:
        """The question what a new connection brought is answered, or given up."""
        if self._round_at_s is None:
            return
        duration_s, self._round_at_s = now - self._round_at_s, None
        self.tell_settled(now, self.ledger.settle(claim, verdict, duration_s, self._replayed, recovered.count))

    def _give_up_round(self, now: float, why: str) -> None:
        """The feed does not answer: go on without its word."""
        if self._round_at_s is None:
            return
        self._end_round(now, Claim.NONE, Verdict.UNVERIFIABLE, self._gap(now))
        self.line.caught_up(now, why)
        self._socket_alone()

    # ------------------------------------------------------------------ instead of a socket

    def _polled(self, now: float) -> None:
        """The log was read to its end."""
        self.line.verification.read(now)
        self.ledger.compared()
        self._gap(now)
        self._carry_on(now)

    def _carry_on(self, now: float) -> None:
        """The feed answers while no socket can be had."""
        line = self.line
        if line.state in (State.RECONNECTING, State.FAILED):
            line.move(now, State.POLLING, "fallback")
            line.redial(now, self.reprobe_s())
        self._poll_at_s = max(now + line.settings.polling_interval_s, self._wait_until_s)

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
        ripe = line.verification.ripened(now)
        if ripe:
            line.notify(now, Notice.VERIFICATION, result="behind", cursor=ledger.cursor, current=None)
        if self._reading is not None:
            return
        if self._retry_at_s < math.inf:
            if self._retry_at_s <= now:
                self._read_soon(now)
        elif self._round_at_s is None and ledger.based and now >= self._wait_until_s:
            self._tick_open(now, ripe)

    def _tick_open(self, now: float, ripe: bool) -> None:
        verification = self.line.verification
        if ripe or self._audit_due_s() <= now:
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
        if self._poll_at_s <= now:
            self._poll_at_s = math.inf
            self._read(now, Purpose.POLL)

    def _lost_s(self, reading: Reading) -> float:
        return reading.asked_s + self.line.settings.ack_timeout_s + SHELL_GRACE_S

    def deadline(self, now: float) -> float:
        """When `tick` has something to do."""
        deadline = min(self.ledger.next_book_s(self._since_s), self.line.verification.verdict_s)
        if self._round_at_s is not None and self._failures:
            deadline = min(deadline, self._round_at_s + self.line.settings.ack_timeout_s)
        if self._reading is not None:
            done = not self._reading.poll_id and not self.ledger.waiting
            return min(deadline, now) if done and self._since_s < math.inf else deadline
        if self._retry_at_s < math.inf:
            return min(deadline, self._retry_at_s)
        if self._round_at_s is None and self.ledger.based:
            due_s = min(self._audit_due_s(), self.line.verification.due_s)
            deadline = min(deadline, max(due_s, self._wait_until_s))
        return deadline

    def deadline_always(self, now: float) -> float:
        """When `tick_always` has something to do."""
        reading = self._reading
        if reading is not None:
            return self._lost_s(reading) if reading.poll_id else math.inf
        if self._connected or self.line.state is not State.POLLING:
            return math.inf
        return self._poll_at_s

    # ------------------------------------------------------------------ outputs

    def conditions(self, now: float) -> list[Condition]:
        """Who refuses the feed, and since when nothing can be compared.

        A token that may open the socket and not read the feed is no trouble of the connection: it stays unverified, and that is said by its age. It is
        forbidden once the feed is needed, because there is no socket.
        """
        found: list[Condition] = []
        forbidden = self._refusal is not None and self._refusal[0] is Reason.FORBIDDEN
        if self._refusal is not None and not forbidden:
            found.append(Condition(*self._refusal))
        elif self._needed_s is not None and forbidden:
            found.append(Condition(Reason.FORBIDDEN, self._needed_s))
        if self._connected and self._failures >= FAILURES_TO_SAY and not forbidden:
            found.append(Condition(Reason.RESYNC_UNANSWERED, self._failing_since_s))
        return found

    def capture(self, wall_s: float, upstream: str, totals: Totals) -> ResumePoint:
        """What the next process needs."""
        ledger = self.ledger
        keys, hashes = ledger.identities.newest(IDENTITIES_KEPT)
        floor, before, above = ledger.position(IDENTITIES_KEPT)
        last, before_last = ledger.newest(IDENTITIES_KEPT)
        feed = FeedPoint(
            scope=self._protocol.scope,
            based=ledger.placed,
            last=_kept(last),
            before_last=_kept(before_last),
            floor=_kept(floor),
            floor_before=before,
            promised=ledger.promised,
            fresh=ledger.fresh,
            above=above,
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
        self.ledger.restore(point.epoch, feed)
        return True


def _kept(event: Known | None) -> Remembered | None:
    if event is None or event.number is None:
        return None
    return Remembered(event.number, event.key, event.time_s, event.lane, event.lane_number)

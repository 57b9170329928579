"""Recovery by request and acknowledgement: ask on the socket for everything after a number, and settle with the server's own word.

What belongs here: when to ask, how long to wait, what an answer leads to. What an answer is worth is the ledger's business (continuity.py).
"""

from __future__ import annotations

import enum
import math

from syncwatch.core.continuity import Continuity
from syncwatch.core.effects import Notice
from syncwatch.core.health import Condition, Reason
from syncwatch.core.ledger import Settled
from syncwatch.core.recovery import Line, Recovery
from syncwatch.core.resume import ResumePoint, Totals, capture, restore
from syncwatch.core.states import Anomaly, Disconnect, GapCause, State
from syncwatch.core.wire import Ack, Event, FrameKind

PATIENCE = 6.0  # an unanswered round ends after so many ack timeouts, however much live traffic there is
UNANSWERED_LIMIT = 2


class Round(enum.Enum):
    """Why a resync was asked for."""

    RESUME = "resume"
    HOLE = "hole"
    TIP = "tip"
    BEHIND = "behind"


class Resync(Recovery):
    """One request in flight at most; the server answers with a replay and an acknowledgement."""

    ledger: Continuity

    def __init__(self, line: Line) -> None:
        settings = line.settings
        super().__init__(line, Continuity(settings.hole_grace_s, settings.max_jump, line.protocol.page_limit))
        self._connected = False
        self._round = Round.RESUME
        self._ask_at_s = math.inf
        self._unanswered = 0
        self._unanswered_since_s = 0.0
        self._poison: tuple[int | None, int] = (None, 0)
        self._missed_told = 0

    def configure(self, now: float) -> None:
        """The settings are new."""
        settings = self.line.settings
        self.ledger.hole_grace_s, self.ledger.max_jump = settings.hole_grace_s, settings.max_jump

    # ------------------------------------------------------------------ a connection's life

    def server_date(self, date_s: float) -> None:
        """Where `since` begins when no event carried a time."""
        self.ledger.server_date(date_s)

    def ready(self, now: float, attempt: int) -> None:
        """Ask for what was missed."""
        line, ledger = self.line, self.ledger
        self._connected = True
        ledger.opened(attempt)
        if ledger.cursor is None:
            line.caught_up(now, "ready, nothing to resume")
            return
        self._round = Round.RESUME
        if self._given_up_asking:
            self._ask_at_s = now + self.spread_s()  # once per connection: it may have missed something
            line.caught_up(now, "ready; resync requests are not answered")
            return
        line.move(now, State.RESYNCING, "ready")
        if ledger.needs_full:
            self._ask_at_s = now + self.spread_s()
        else:
            self._ask(now)

    def left(self, now: float) -> None:
        """Holes are confirmed if the epoch was proven; an open round ends without acknowledgement."""
        self._ask_at_s = math.inf
        tip = self.ledger.window is not None and self._round is Round.TIP
        if self._connected:
            settled = self.ledger.closed(now)
            if settled is not None:
                self._tell(now, settled)
        self._connected = False
        if tip:
            self.line.verification.unanswered()

    def oversized(self, now: float) -> None:
        """A frame that was refused twice behind the same number for its size is stepped over; else it would end every connection."""
        ledger = self.ledger
        if ledger.cursor is None:
            return
        place = ledger.cursor if ledger.last_of_round is None else ledger.last_of_round
        before, refused = self._poison
        refused = refused + 1 if place == before else 1
        self._poison = (place, refused)
        if refused < 2:
            return
        if place != ledger.cursor and refused == 2:
            ledger.ask_without_rows()  # behind a gap it may be a row of the database; then nothing numbered is poisoned
            return
        lost, unaccounted = ledger.lost, ledger.unaccounted
        if place == ledger.cursor:
            ledger.step_over(now)
        else:
            ledger.step_over_in_round(now, place + 1)
        self._poison = (None, 0)
        self.tell_lost(now, ledger.lost - lost, ledger.unaccounted - unaccounted)

    # ------------------------------------------------------------------ asking and settling

    def _ask(self, now: float) -> None:
        """Send a resync request."""
        wire = self.line.wire
        assert wire is not None
        self._ask_at_s = math.inf
        after, since_s = self.ledger.request(now)
        self.line.send(wire.resync(after, since_s), FrameKind.RESYNC)

    def heard(self, now: float, event: Event) -> None:
        """A frame came after an early acknowledgement: it may be the last one that this claims."""
        window = self.ledger.window
        assert window is not None
        assert window.ack is not None
        if event.number is None or event.number <= window.ack.current:
            window.last_frame_s = now  # only what may belong to the claimed replay prolongs the wait for it
        self._settled(now, self.ledger.complete_early(now))

    def acknowledged(self, now: float, ack: Ack) -> None:
        """An answer, or one that nobody asked for."""
        line, ledger = self.line, self.ledger
        early, unsolicited = ledger.ack_early, ledger.ack_unsolicited
        self._settled(now, ledger.acknowledged(now, ack))
        if ledger.ack_early > early:
            line.anomaly(now, Anomaly.ACK_EARLY, f"{ack.replayed} frames claimed")
        if ledger.ack_unsolicited > unsolicited:
            line.anomaly(now, Anomaly.ACK_UNSOLICITED, f"after {ack.after}, current {ack.current}")
        ledger.urgent = True

    def _settled(self, now: float, settled: Settled | None) -> None:
        """A round was answered in full; or it was answered and the next page of the same chain has to be asked for."""
        line, verification = self.line, self.line.verification
        if settled is None:
            if self.ledger.wants_page:
                self._ask(now)
            return
        self._unanswered = 0
        tip = self._round is Round.TIP
        self._tell(now, settled)
        if self.ledger.needs_full:
            if tip:
                verification.checked(now, needed_help=True)
            self._round = Round.RESUME
            self._ask_at_s = now + self.spread_s()
            if line.state is State.OPEN:
                line.move(now, State.RESYNCING, "the server's counter restarted")
            return
        if tip:
            verification.checked(now, settled.needed_help)
            if not settled.needed_help:
                line.notify(now, Notice.VERIFICATION, result="verified", cursor=self.ledger.cursor, current=settled.current)
        elif settled.current is not None and (self.ledger.cursor or 0) >= settled.current:
            verification.settled(now)
        line.caught_up(now, "settled")

    def _tell(self, now: float, settled: Settled) -> None:
        self._tell_gap(now, GapCause.RECONNECT, max(settled.after + 2, 1), settled.current)  # behind the overlap, which is no news
        self.tell_settled(now, settled, quiet=self._round is Round.TIP and not settled.needed_help)

    def _tell_gap(self, now: float, cause: GapCause, first: int | None, last: int | None) -> None:
        """Each missed number is told once; they lie between `first` and `last`. Those of an earlier process were told by it."""
        missing = self.ledger.missed - self.ledger.restored - self._missed_told
        if missing:
            self._missed_told += missing
            self.line.notify(now, Notice.GAP, cause=cause, first=first, last=last, missing=missing)

    def _not_answered(self, now: float) -> None:
        line = self.line
        self.ack_missing += 1
        line.anomaly(now, Anomaly.ACK_MISSING, "a resync request was not answered")
        if self._unanswered == 0:
            self._unanswered_since_s = now
        self._unanswered += 1
        if self._unanswered < UNANSWERED_LIMIT:
            line.drop(now, Disconnect.RESYNC_TIMEOUT, "resync unanswered")
            return
        tip = self._round is Round.TIP
        settled = self.ledger.abandon(now)
        if settled is not None:
            self._tell(now, settled)
        if tip:
            line.verification.unanswered()
        line.verification.due_s = math.inf
        self._ask_at_s = now + line.settings.unanswered_retry_s
        if line.state is not State.OPEN:
            line.caught_up(now, "resync unanswered")
            line.verification.due_s = math.inf

    def reset_found(self, now: float) -> None:
        """A new epoch on an open connection: everything is asked for, unless a round already will."""
        ledger = self.ledger
        if ledger.window is None and self._connected and self._ask_at_s == math.inf and ledger.needs_full:
            self._round = Round.RESUME
            self._ask_at_s = now + self.spread_s()

    # ------------------------------------------------------------------ timers

    def tick(self, now: float) -> None:
        """The open round, or the holes."""
        self._tick_window(now)
        if self._connected and self.ledger.window is None:
            self._tick_holes(now)

    def _tick_window(self, now: float) -> None:
        """An open round: the grace after an early acknowledgement, or the wait for one."""
        window = self.ledger.window
        if window is None:
            return
        if now < self._window_deadline() and not self.ledger.overflowing:
            return
        if window.ack is None:
            self._not_answered(now)
            return
        short = self.ledger.replay_short
        self._settled(now, self.ledger.give_up_waiting(now))
        if self.ledger.replay_short > short:
            self.line.anomaly(now, Anomaly.REPLAY_SHORT, f"{self.ledger.replay_short - short} claimed frames never came")

    def _window_deadline(self) -> float:
        window = self.ledger.window
        if window is None:
            return math.inf
        ack_timeout_s = self.line.settings.ack_timeout_s
        wait_s = ack_timeout_s if window.ack is None else self.line.settings.hole_grace_s
        return min(window.last_frame_s + wait_s, window.at_s + PATIENCE * ack_timeout_s)

    def _tick_holes(self, now: float) -> None:
        """No round is open: confirm holes, ask when something is missing, suspected, behind, or simply due."""
        line, ledger, verification = self.line, self.ledger, self.line.verification
        if ledger.confirm_due(now):
            self._tell_gap(now, GapCause.LIVE, ledger.confirmed.low, ledger.confirmed.high)
            self._resync(now, Round.HOLE, "confirmed hole")
        elif verification.ripened(now):
            line.notify(now, Notice.VERIFICATION, result="behind", cursor=ledger.cursor, current=ledger.top)
            if not ledger.needs_full:  # which is spread, and asks for more
                self._resync(now, Round.BEHIND, "tip check behind")
        elif self._ask_at_s <= now:
            self._ask(now)
        elif line.state is State.OPEN and (verification.due_s <= now or ledger.suspicious) and not self._given_up_asking:
            self._round = Round.TIP
            verification.due_s = math.inf
            self._ask(now)

    @property
    def _given_up_asking(self) -> bool:
        return self._unanswered >= UNANSWERED_LIMIT

    def _resync(self, now: float, why: Round, reason: str) -> None:
        self._round = why
        if self._given_up_asking:
            self._ask_at_s = min(self._ask_at_s, now + self.line.settings.unanswered_retry_s)
            return
        if self.line.state is State.OPEN:
            self.line.move(now, State.RESYNCING, reason)
        self._ask(now)

    def deadline(self, now: float) -> float:
        """When `tick` has something to do."""
        ledger, verification = self.ledger, self.line.verification
        if ledger.window is not None:
            return now if ledger.overflowing else self._window_deadline()
        deadline = min(ledger.next_confirm_s, verification.verdict_s, self._ask_at_s)
        if self.line.state is State.OPEN and not self._given_up_asking:
            deadline = min(deadline, now if ledger.suspicious else verification.due_s)
        return deadline

    # ------------------------------------------------------------------ outputs

    def conditions(self, now: float) -> list[Condition]:
        """Missing events, and a server that does not answer."""
        found: list[Condition] = []
        if self.ledger.missing_since_s is not None:
            found.append(Condition(Reason.GAP_OPEN, self.ledger.missing_since_s))
        if self._given_up_asking:
            found.append(Condition(Reason.RESYNC_UNANSWERED, self._unanswered_since_s))
        return found

    def capture(self, wall_s: float, upstream: str, totals: Totals) -> ResumePoint:
        """What the next process needs."""
        return capture(self.ledger, wall_s, upstream, totals)

    def restore(self, now: float, point: ResumePoint) -> bool:
        """Start where an earlier process stopped."""
        if point.cursor is None:
            return False
        restore(self.ledger, point, now)
        return True

"""One connection: its state, its timers, when to ask, and who is told. The ledgers count; the session decides.

Duties of the caller: pass monotonic `now`; call `wall` once before `start` and then each second; call `tick` when `deadline` has come;
perform the returned effects in order; give every input its attempt. Input that belongs to an earlier attempt is ignored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from syncwatch.core.attempts import CREDENTIALS, Attempts
from syncwatch.core.canary import Canary, Fate
from syncwatch.core.effects import (
    Answer,
    Close,
    Dial,
    Effect,
    Effects,
    Field,
    Handshake,
    Hold,
    Notice,
    Notify,
    Refused,
    Send,
)
from syncwatch.core.health import Component, Condition, Reason
from syncwatch.core.heartbeat import Heartbeat
from syncwatch.core.histogram import SLOW_S, Histogram
from syncwatch.core.ledger import Ledger
from syncwatch.core.recovery import Entropy, Pace, Recovery, SessionSettings
from syncwatch.core.resume import ResumePoint, Totals
from syncwatch.core.resync import Resync
from syncwatch.core.snapshot import ConnectionSnapshot, LifetimeSnapshot, Moment
from syncwatch.core.states import (
    ESTABLISHED,
    Anomaly,
    AttemptFailure,
    Direction,
    Disconnect,
    State,
)
from syncwatch.core.timeline import Timeline
from syncwatch.core.verification import Verification
from syncwatch.core.wire import (
    Ack,
    Control,
    Deposit,
    Event,
    FrameKind,
    Invalid,
    Pong,
    Protocol,
    Ready,
    Reply,
    Said,
    Settle,
    Wire,
)

if TYPE_CHECKING:
    from syncwatch.core.keeping import Keeping
    from syncwatch.core.rivals import Rivals

__all__ = ["Entropy", "Session", "SessionSettings"]

ANOMALY_NOTICE_S = 10.0  # each kind of anomaly is told at most this often; the counter has them all
CONNECTION_REASONS = (
    Reason.FAILED,
    Reason.UNAUTHORIZED,
    Reason.FORBIDDEN,
    Reason.HANDSHAKE_TIMEOUT,
    Reason.CONNECTING,
    Reason.RECONNECTING,
    Reason.RATE_LIMITED,
    Reason.UPSTREAM_ERROR,
    Reason.HEARTBEAT_TIMEOUT,
    Reason.SEND_HALF_OPEN,
    Reason.BEHIND,
    Reason.GAP_OPEN,
    Reason.RESYNC_UNANSWERED,
    Reason.EVENTS_LOST,
    Reason.CLAIM_CONTRADICTED,
    Reason.EPOCH_RESET,
)
STREAM_REASONS = frozenset(
    {
        Reason.BEHIND,
        Reason.GAP_OPEN,
        Reason.RESYNC_UNANSWERED,
        Reason.EVENTS_LOST,
        Reason.CLAIM_CONTRADICTED,
        Reason.EPOCH_RESET,
    }
)
"""Those of them that need a server which can be asked."""
CLOSED_UNREADY = {1008: AttemptFailure.UNAUTHORIZED, 1011: AttemptFailure.REJECTED}
"""What a close code means before the codec's own handshake is complete: not to us, or not now. Any other end there is `protocol`."""
POLITE = frozenset({1000, 1005, 1006})
"""With PEER_CLOSED: the peer went of its own will and complained about nothing. A socket without close frames ends with 1006 (a reset is no PEER_CLOSED)."""
LEFT_WIRES = 2  # of so many connections that we closed, what was on its way is still read
_OTHER_WORDS = frozenset({Ack, Control, Deposit, Invalid, Pong, Ready, Reply})
"""Every word but an event: asked for each frame, where `isinstance` of an event, which may be of a codec's own kind, costs several times as much."""
_NOTHING: tuple[Effect, ...] = ()


class Session:
    """The machine of one configured connection."""

    def __init__(
        self,
        name: str,
        protocol: Protocol,
        settings: SessionSettings,
        entropy: Entropy,
        upstream: str = "",
        resume: ResumePoint | None = None,
        canary: Canary | None = None,
    ) -> None:
        self.name = name
        self.protocol = protocol
        self.settings = settings
        self.upstream = upstream
        self.canary = canary
        self._canary_polls = 0
        self.deadline = math.inf
        self.version = 0
        self.timeline = Timeline()
        self.heartbeat = Heartbeat(settings.heartbeat_interval_s, settings.heartbeat_timeout_s)
        self.attempts = Attempts(settings.backoff, settings.breaker, settings.breaker_retry_s, settings.spread_s)
        self.verification = Verification(settings.verify_interval_s, settings.verify_grace_s)
        self.entropy = entropy
        self.recovery: Recovery
        if protocol.traits.settle is Settle.FEED:
            from syncwatch.core.feed import Feed  # its ledger too is in nobody's memory who reads no feed

            self.recovery = Feed(self)
        elif protocol.traits.settle is Settle.ACK:
            self.recovery = Resync(self)
        else:
            from syncwatch.core.unnumbered import Unnumbered

            self.recovery = Unnumbered(self)
        self.keeping: Keeping | None = None
        if protocol.traits.keeps:
            from syncwatch.core.keeping import Keeping

            self.keeping = Keeping()
        self.rivals: Rivals | None = None
        if protocol.traits.rival_s:
            from syncwatch.core.rivals import Rivals

            self.rivals = Rivals(protocol.traits.rival_s)
        self.ledger: Ledger = self.recovery.ledger
        self._resume = resume
        self._totals = Totals(since_wall_s=0.0) if resume is None else resume.totals
        self._out: list[Effect] = []
        self._offset_s: float | None = None
        # the attempt under way
        self._dialling = False
        self._read_credentials = False
        self._changed_credentials = False
        self._dial_deadline_s = math.inf
        self._wire: Wire | None = None
        self._left: dict[int, Wire] = {}  # of attempts that we closed: what keeps its events is read until the socket is gone
        self._held = False
        self._ready = False
        self._stable_at_s = math.inf
        self._stable = False
        self._settled_once = False
        # what happened, for conditions and snapshots
        self._started: Moment | None = None
        self._established: Moment | None = None
        self._last_failure: str | None = None
        self._half_open: tuple[Direction, float] | None = None
        self._no_echo_since_s: float | None = None
        self._incidents: dict[Reason, tuple[float, float]] = {}  # since, last
        self._token_expiry_s: float | None = None
        self._clock_offset_s: float | None = None
        self._latency: Histogram | None = None
        self._last_loss: Moment | None = None
        self._told: dict[Anomaly, float] = {}
        self._jumps_told = 0
        # traffic
        self._events = 0
        self._controls = 0
        self._pongs = 0
        self._invalid = 0
        self._sent_frames = {FrameKind.HEARTBEAT: 0, FrameKind.RESYNC: 0, FrameKind.CONTROL: 0}
        self._received_bytes = 0
        self._sent_bytes = 0
        self._malformed = 0
        self._oversized = 0
        self._frame_s: float | None = None
        self._frame_wall_s = 0.0
        self._event_s: float | None = None
        self._event_wall_s = 0.0
        self._picture: tuple[int, ConnectionSnapshot] | None = None

    # ------------------------------------------------------------------ inputs

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self.timeline.state

    @property
    def wire(self) -> Wire | None:
        """The codec's state of the present attempt."""
        return self._wire

    @property
    def component(self) -> Component:
        """What its reasons are about."""
        return Component.CONNECTION

    @property
    def active(self) -> bool:
        """Started and not stopped."""
        return self.state not in (State.IDLE, State.CLOSED)

    @property
    def unstored(self) -> int:
        """How many events are in memory only, not yet where a crash cannot take them."""
        return 0 if self.keeping is None else self.keeping.waiting

    @property
    def settled_once(self) -> bool:
        """The first sync is done."""
        return self._settled_once

    @property
    def possible_reasons(self) -> tuple[Reason, ...]:
        """Every reason that this connection can ever report."""
        return tuple(reason for reason in Reason if reason in self._possible_reasons())

    def _possible_reasons(self) -> set[Reason]:
        possible = {*CONNECTION_REASONS, *self.recovery.reasons}
        if not self._settles:
            possible -= STREAM_REASONS
        if self.keeping is not None:
            possible |= {Reason.GAP_OPEN, Reason.EVENTS_LOST}
        if self.protocol.traits.echo_optional:
            possible.add(Reason.NO_ECHO)
        if self.rivals is not None:
            possible.add(Reason.DUPLICATE_CLIENT)
        if self.settings.stale_after_s is not None:
            possible.add(Reason.STALE)
        if self.canary is not None:
            possible.add(Reason.CANARY_LOST)
        return possible

    @property
    def _settles(self) -> bool:
        """Whether anything can be asked of the server, and so anything be known about what did not come."""
        return self.protocol.traits.settle is not Settle.NONE

    @property
    def interval_s(self) -> float:
        """The longest regular distance between two deadlines: what liveness measures against."""
        return max(self.settings.heartbeat_interval_s, self.settings.breaker_retry_s)

    def wall(self, now: float, offset_s: float) -> Effects:
        """The wall clock is `now + offset_s` (Unix seconds)."""
        if self._offset_s is None:
            self.timeline.begin(now, now + offset_s)
            if not self._totals.since_wall_s:
                self._totals = msgspec.structs.replace(self._totals, since_wall_s=now + offset_s)
        self._offset_s = offset_s
        self.version += 1
        return _NOTHING

    def start(self, now: float) -> Effects:
        """Begin: restore the resume point if it is young enough, and dial. Raises RuntimeError, changing nothing, if it is not the first input after `wall`."""
        if self._offset_s is None:
            raise RuntimeError("wall() comes before start()")
        if self.state is not State.IDLE:
            raise RuntimeError(f"start() comes once; the session is {self.state}")
        self._started = self._moment(now)
        if self._settles:
            self.verification.begin(now)
        self._restore(now)
        self.move(now, State.CONNECTING, "start")
        self._dial(now)
        return self._done(now)

    def credentials(self, now: float, expiry_wall_s: float | None) -> Effects:
        """The token file was read for the first time, or has changed: refused credentials are tried again at once."""
        self._token_expiry_s = expiry_wall_s
        changed = self._read_credentials
        if self._dialling:
            self._changed_credentials = changed  # the dial under way may carry the old ones
        elif self.state is State.FAILED and self.attempts.last_reason is not AttemptFailure.RATE_LIMITED:
            self.attempts.retry_at_s = min(self.attempts.retry_at_s, now)
        self._read_credentials = True
        self.recovery.credentials(now, changed)
        return self._done(now)

    def configure(self, now: float, settings: SessionSettings) -> Effects:
        """New settings for a connection that stays."""
        self.settings = settings
        self.heartbeat.interval_s, self.heartbeat.timeout_s = settings.heartbeat_interval_s, settings.heartbeat_timeout_s
        attempts, verification = self.attempts, self.verification
        attempts.backoff, attempts.breaker = settings.backoff, settings.breaker
        attempts.breaker_retry_s, attempts.spread_s = settings.breaker_retry_s, settings.spread_s
        verification.interval_s, verification.grace_s = settings.verify_interval_s, settings.verify_grace_s
        self.heartbeat.hasten(now)
        verification.hasten(now)
        self.recovery.configure(now)
        return self._done(now)

    def equip(self, now: float, protocol: Protocol, canary: Canary | None) -> Effects:
        """The codec of the next dial, and the canary as it is configured now (None: off). A canary that stays keeps its counts.

        Whose events are watched must not change by it: that would be another session.
        """
        self.protocol = protocol
        present = self.canary
        if present is not None and canary is not None:
            present.configure(canary)
            present.hasten(now)
        elif canary is not None:
            self.canary = canary
            canary.poll_id = self._canary_polls
            if self.state is State.OPEN:
                canary.opened(now, self.entropy.random())
        elif present is not None:
            self.canary = None
            self._canary_polls = present.poll_id  # answers to it may still come; they must not be taken for another one's
            self._incidents.pop(Reason.CANARY_LOST, None)
            if present.clock_offset_s is not None:
                self._clock_offset_s = self._latency = None  # it will not be told any more; a pong that tells brings it back
        return self._done(now)

    def opened(self, now: float, attempt: int, handshake: Handshake) -> Effects:
        """The WebSocket upgrade finished."""
        if attempt != self.attempts.number or not self._dialling:
            return _NOTHING
        self._dialling = False
        self._established = self._moment(now)
        self.attempts.upgraded(now, handshake)
        if handshake.server_date_s is not None:
            self.recovery.server_date(handshake.server_date_s)
        wire = self._wire = self.protocol.wire(self.entropy.getrandbits(256))
        for said in wire.opened():
            self._heard(now, said)
            if wire is not self._wire:
                break
        return self._done(now)

    def received(self, now: float, attempt: int, data: bytes, binary: bool = False) -> Effects:
        """One message. Returns at once for the common case, an event that is next in line."""
        wire = self._wire
        if attempt != self.attempts.number or wire is None:
            return self._leftover(now, attempt, data, binary) if self._left else _NOTHING
        self.version += 1
        self._received_bytes += len(data)
        wall_s = now + self._offset_s  # type: ignore[operator]  # start() has seen to it
        if self._ready:  # a handshake is no frame
            self._frame_s, self._frame_wall_s = now, wall_s
        ledger = self.ledger
        for said in wire.feed(data, binary):
            if type(said) in _OTHER_WORDS:
                self._heard(now, said)
                if wire is not self._wire:
                    break  # the connection ended; what follows in this message belongs to nobody
                continue
            event: Event = said  # type: ignore[assignment]  # no other word is left
            self._events += 1
            first = ledger.event(now, event)
            if first:  # what our own questions bring again is no sign of life
                self._event_s, self._event_wall_s = now, wall_s
            if ledger.window is not None:
                if ledger.shown:
                    self.recovery.heard(now, event)
            elif first:
                if self._latency is not None and self._clock_offset_s is not None and event.time_s is not None and not event.replayed:
                    self._latency.observe(wall_s + self._clock_offset_s - event.time_s)
                if self.verification.watching and event.number is not None:
                    self.verification.live(now)
                    ledger.urgent = True
            # A further copy inside a round is what we asked for: the overlap. Only a live one says that the server doubled it.
            if self.canary is not None and self.canary.waiting and (first or ledger.window is None):
                self._search_canary(now, data)
            if event.bad_number:
                self.anomaly(now, Anomaly.BAD_SEQUENCE, "an event's number is no integer from 1 to 2^53-1")
        if self._out or ledger.urgent:
            ledger.urgent = False
            return self._done(now)
        return _NOTHING

    def _leftover(self, now: float, attempt: int, data: bytes, binary: bool) -> Effects:
        """A message that was on its way when we closed its connection: nobody will send again what is in it."""
        wire = self._left.get(attempt)
        if wire is None:
            return _NOTHING
        for said in wire.feed(data, binary):
            if isinstance(said, Deposit):
                self._received_bytes += len(data)
                self._deposited(now, said)
        return self._done(now)

    def stored(self, now: float, deposit_id: int, error: str | None = None, known: bool = False) -> Effects:
        """The answer to a Store: it is safe, now or (`known`) since an earlier copy; or it could not be stored, and why, in a few words."""
        keeping = self.keeping
        if keeping is None:
            return _NOTHING
        troubled, before = keeping.troubled, keeping.failure
        event = keeping.answered(now, deposit_id, error)
        if event is not None:
            if known:
                self.ledger.identities.first(event)
            if self.ledger.event(now, event):
                self._event_s, self._event_wall_s = now, now + self._wall_offset
        if keeping.troubled:
            self._in_trouble(now, before)
        elif troubled:
            self.notify(now, Notice.STORAGE, result="stored", detail="everything is stored", waiting=0)
        if self._held and not keeping.troubled and keeping.roomy:
            self._hold(now, on=False)
        return self._done(now)

    def failed(
        self, now: float, attempt: int, reason: AttemptFailure, detail: str = "", retry_after_s: float | None = None
    ) -> Effects:
        """The dial did not succeed."""
        if attempt != self.attempts.number or not self._dialling:
            return _NOTHING
        self._attempt_failed(now, reason, detail, retry_after_s)
        return self._done(now)

    def closed(
        self, now: float, attempt: int, reason: Disconnect, code: int | None = None, detail: str = "", oversized: bool = False
    ) -> Effects:
        """An opened socket ended, not by our Close."""
        if attempt != self.attempts.number or self._wire is None:
            return _NOTHING
        if oversized:
            self._oversized += 1
            self.anomaly(now, Anomaly.OVERSIZED, detail)
        if not self._ready:
            failure = CLOSED_UNREADY.get(code or 0, AttemptFailure.PROTOCOL)
            self._attempt_failed(now, failure, detail or f"closed with {code} during the handshake", None)
        else:
            self._disconnected(now, reason, code, detail)
        if oversized:
            self.recovery.oversized(now)
        return self._done(now)

    def polled(self, now: float, poll_id: int, answer: Answer | Refused) -> Effects:
        """The answer to a Poll."""
        self.recovery.polled(now, poll_id, answer)
        if self.canary is not None:
            failed = self.canary.failed
            if isinstance(answer, Answer) and answer.status == 200 and poll_id < 0 and self.canary.waiting:  # a page of the log
                self.canary.read(now, answer.body)
            self._out.extend(self.canary.polled(now, self._wall_offset, poll_id, answer))
            if self.canary.clock_offset_s is not None:
                self._clock_offset(self.canary.clock_offset_s)
            if self.canary.failed > failed:
                self.notify(now, Notice.CANARY, result="failed", detail=self.canary.failure)
        return self._done(now)

    def tick(self, now: float) -> Effects:
        """The deadline has come. Everything that is due is done, in a fixed order."""
        if self.keeping is not None and self.keeping.deadline <= now:
            self._tick_keeping(now, self.keeping)
        if self.attempts.retry_at_s <= now and not self._troubled:
            self._dial(now)
        if self._dial_deadline_s <= now:
            self._handshake_timeout(now)
        if self._ready:
            self._tick_connection(now)
        self.recovery.tick_always(now)
        if self.active:
            self._tick_canary(now)
        return self._done(now)

    def stop(self, now: float) -> Effects:
        """Stop on purpose."""
        if self.state is State.CLOSED:
            return _NOTHING
        if self._wire is not None or self._dialling:
            if self._ready:
                self.attempts.disconnected(Disconnect.LOCAL, None)  # the code is ours, none was received
            self._leave()
            self._out.append(Close(self.attempts.number, 1000, "going away"))
        self._let_go(now)
        if self.keeping is not None:
            self._out += self.keeping.again(now)  # the last chance of what could not be stored
        self.recovery.stopped(now)
        self.attempts.retry_at_s = math.inf
        self.move(now, State.CLOSED, "stop")
        return self._done(now)

    # ------------------------------------------------------------------ handshakes

    def _restore(self, now: float) -> None:
        point, self._resume = self._resume, None
        if point is None or self.recovery.says_nothing(point):
            return
        age_s = now + self._wall_offset - point.saved_wall_s
        if point.upstream != self.upstream:
            self.notify(now, Notice.RESUMED, detail="the state file is about another upstream: starting fresh")
        elif not point.plausible():
            self.notify(now, Notice.RESUMED, detail="the resume point contradicts itself: starting fresh")
        elif abs(age_s) > self.settings.resume_max_age_s:
            self.notify(now, Notice.RESUMED, detail=f"the resume point is {age_s:.0f} s old: starting fresh", age_s=age_s)
        elif not self.recovery.restore(now, point):
            self.notify(now, Notice.RESUMED, detail="the resume point is about another stream: starting fresh")
        else:
            self.notify(now, Notice.RESUMED, cursor=point.cursor, epoch=point.epoch, age_s=age_s)

    def _dial(self, now: float) -> None:
        attempt = self.attempts.dial(now)
        self._dialling, self._changed_credentials = True, False
        self._dial_deadline_s = now + self.settings.connect_timeout_s
        self._out.append(Dial(attempt, self.protocol.dial(self.recovery.dialled()), self.settings.connect_timeout_s))

    def _handshake_timeout(self, now: float) -> None:
        self._out.append(Close(self.attempts.number, 1000, "handshake timeout"))
        seconds = self.settings.connect_timeout_s
        self._attempt_failed(now, AttemptFailure.TIMEOUT, f"no complete handshake within {seconds:g} s", None)

    def _attempt_failed(self, now: float, reason: AttemptFailure, detail: str, retry_after_s: float | None) -> None:
        self._let_go(now)
        self.attempts.failed(now, reason, retry_after_s)
        pace = Pace.RETRY
        if reason in CREDENTIALS:
            self.recovery.refused(now)
        else:
            pace = self.recovery.failed(now)
        delay_s = self.attempts.schedule(now, self.entropy.random(), slowly=self.state is State.FAILED)
        if pace is Pace.REPROBE:
            delay_s = self.attempts.reprobe(now, self.recovery.reprobe_s())
        if self._changed_credentials and reason in CREDENTIALS:
            delay_s, self.attempts.retry_at_s = 0.0, now
        self._last_failure = f"{reason}: {detail}" if detail else str(reason)
        self.notify(now, Notice.ATTEMPT_FAILED, reason=reason, detail=detail, retry_in_s=delay_s)
        if self.attempts.breaker_open and pace is Pace.RETRY:
            self.move(now, State.FAILED, str(reason))
        elif self.state is State.CONNECTING:
            self.move(now, State.RECONNECTING, str(reason))

    def redial(self, now: float, delay_s: float) -> None:
        """The feed carries on: no attempt before `delay_s`, unless one is under way."""
        self._settled_once = True
        if not self._dialling:
            self.attempts.reprobe(now, delay_s)

    def _let_go(self, now: float) -> None:
        """Nothing of the present attempt is expected any more."""
        self._dialling = self._ready = self._stable = self._held = False
        self._dial_deadline_s = self._stable_at_s = math.inf
        self._wire = None
        self._established = None
        self.recovery.left(now)
        self.heartbeat.closed()
        self.verification.closed()
        if self.canary is not None:
            self.canary.closed()

    def _is_ready(self, now: float) -> None:
        """The codec's handshake is complete."""
        if self._ready:
            return
        self._ready = True
        self._dial_deadline_s = math.inf
        handshake_s = self.attempts.ready(now)
        self._last_failure = None
        self.notify(now, Notice.ESTABLISHED, handshake_s=handshake_s, attempt=self.attempts.number)
        self.heartbeat.opened(now)
        if self.rivals is not None:
            self.rivals.ready(now)
        self.recovery.ready(now, self.attempts.number)
        if self._troubled:  # which it has become meanwhile
            self.drop(now, Disconnect.OVERFLOW, self._trouble())

    def caught_up(self, now: float, reason: str) -> None:
        if self.state is not State.OPEN:
            self.move(now, State.OPEN, reason)
        self._settled_once = True
        if not self._stable and self._stable_at_s == math.inf:
            self._stable_at_s = now + self.settings.stable_after_s
        if self._settles and self.verification.due_s == math.inf:
            self.verification.opened(now, soon=self.ledger.cursor is None)
        if self.canary is not None:
            self.canary.opened(now, self.entropy.random())

    def _disconnected(self, now: float, reason: Disconnect, code: int | None, detail: str) -> None:
        """An established connection ended; the next attempt is scheduled."""
        stable = self._stable
        self._let_go(now)
        self.attempts.disconnected(reason, code)
        rivals = self.rivals
        if rivals is not None:
            rivals.ended(now, reason is Disconnect.PEER_CLOSED and code in POLITE)
            detail = detail if rivals.since_s is None else f"{detail}; so did the {rivals.cuts - 1} before it, each soon after it was made: another client has the same identity"
        if not stable:
            self.attempts.consecutive += 1
        spread = self.entropy.random() if stable else None
        delay_s = self.attempts.schedule(now, self.entropy.random(), spread)
        if rivals is not None and rivals.since_s is not None:
            delay_s = self.attempts.reprobe(now, max(delay_s, self.settings.backoff.max_s, self.settings.breaker_retry_s))
        self._last_failure = f"{reason}: {detail}" if detail else str(reason)
        self.notify(now, Notice.DISCONNECTED, reason=reason, code=code, detail=detail, retry_in_s=delay_s)
        self.move(now, State.RECONNECTING, str(reason))
        if self.attempts.breaker_open:
            self.move(now, State.FAILED, "breaker")

    def drop(self, now: float, reason: Disconnect, detail: str) -> None:
        """End the connection from our side; the session moves on without waiting."""
        self._leave()
        self._out.append(Close(self.attempts.number, 1000, detail))
        if self._ready:
            self._disconnected(now, reason, None, detail)
        else:
            self._attempt_failed(now, AttemptFailure.PROTOCOL, detail, None)

    # ------------------------------------------------------------------ words

    def _heard(self, now: float, said: Said) -> None:
        """Any word but an event."""
        kind = type(said)
        if kind is Pong:
            assert isinstance(said, Pong)
            self._pongs += 1
            late = self.heartbeat.late
            if self.heartbeat.answered(now, now + self._wall_offset, said.token):
                self._half_open = None
                self.recovery.answered(now)
            elif self.heartbeat.late > late:
                self.ledger.urgent = True  # it is asked again at once
            if self.heartbeat.echoed:
                self._no_echo_since_s = None
            if said.server_time_s is not None and self.heartbeat.late == late:  # stamped on the way: half the round trip ago is the best guess
                self._clock_offset(said.server_time_s - (now + self._wall_offset - (self.heartbeat.last_rtt_s or 0.0) / 2.0))
        elif isinstance(said, Ack):
            self._controls += 1
            self.recovery.acknowledged(now, said)
        elif isinstance(said, Reply):
            self.send(said.data, said.kind)
        elif isinstance(said, Ready):
            self._is_ready(now)
        elif isinstance(said, Deposit):
            self._deposited(now, said)
        elif isinstance(said, Control):
            self._controls += 1
        elif isinstance(said, Invalid):
            self._invalid += 1
            self._malformed += 1
            self.anomaly(now, Anomaly.MALFORMED, said.reason)
            if said.fatal:
                self.drop(now, Disconnect.PROTOCOL_ERROR, said.reason)

    # ------------------------------------------------------------------ what is ours to keep

    @property
    def _troubled(self) -> bool:
        return self.keeping is not None and self.keeping.troubled

    def _trouble(self) -> str:
        """Why nothing more is taken."""
        assert self.keeping is not None
        return f"what came cannot be stored ({self.keeping.failure}); {self.keeping.waiting} wait in memory, and no more is taken until they are safe"

    def _deposited(self, now: float, deposit: Deposit) -> None:
        """First of all it is stored; it counts as received when it is."""
        keeping = self.keeping
        if keeping is None:
            raise RuntimeError("a codec said Deposit without the trait `keeps`")
        self._events += 1
        store = keeping.take(now, deposit)
        if store is None:
            self.loss(now)
            self.incident(now, Reason.EVENTS_LOST)
            self.notify(now, Notice.STORAGE, result="lost", detail=f"no memory for {deposit.name}", waiting=keeping.waiting)
            return
        self._out.append(store)
        if keeping.full and not self._held and self._wire is not None:
            self._hold(now, on=True)

    def _hold(self, now: float, on: bool) -> None:
        self._held = on
        self.heartbeat.held(on, now)
        self._out.append(Hold(self.attempts.number, on))

    def _tick_keeping(self, now: float, keeping: Keeping) -> None:
        before = keeping.failure
        self._out += keeping.tick(now)
        if keeping.troubled:
            self._in_trouble(now, before)

    def _in_trouble(self, now: float, before: str | None) -> None:
        """While nothing can be stored nothing is taken: what the server has not sent stays with it."""
        assert self.keeping is not None
        if self.keeping.failure != before:
            self.notify(now, Notice.STORAGE, result="failed", detail=self.keeping.failure, waiting=self.keeping.waiting)
        if self._ready:
            self.drop(now, Disconnect.OVERFLOW, self._trouble())

    def _leave(self) -> None:
        """We are about to close: what is on its way is still wanted where it comes only once."""
        if self.keeping is not None and self._wire is not None:
            self._left[self.attempts.number] = self._wire
            for attempt in list(self._left)[:-LEFT_WIRES]:
                del self._left[attempt]
            if self._held:
                self._out.append(Hold(self.attempts.number, on=False))

    def loss(self, now: float) -> None:
        """Events are gone, or may be."""
        self._last_loss = self._moment(now)

    def came(self, now: float) -> None:
        """A first copy arrived by another way than the socket."""
        self._event_s, self._event_wall_s = now, now + self._wall_offset

    # ------------------------------------------------------------------ timers

    def _tick_connection(self, now: float) -> None:
        """Due work of an established connection."""
        if self._stable_at_s <= now:
            self._stable_at_s, self._stable = math.inf, True
            self.attempts.stable()
        if self.rivals is not None:
            self.rivals.tick(now)
        if self._held:  # answers would lie there unread, and a ping may ask for more of what cannot be taken
            self.recovery.tick(now)
            return
        direction = self.heartbeat.verdict(now, self._frame_s)
        if direction is not None and self._unanswered(now, direction):
            return
        token = self.heartbeat.due(now, now + self._wall_offset)
        if token is not None:
            assert self._wire is not None
            self.send(self._wire.ping(token), FrameKind.HEARTBEAT)
        self.recovery.tick(now)

    def _unanswered(self, now: float, direction: Direction) -> bool:
        """A ping died. Whether the connection did with it: where the protocol is patient, only after a while; where echoes are optional, and there never was
        one, not at all.
        """
        traits, heartbeat = self.protocol.traits, self.heartbeat
        if traits.echo_optional and not heartbeat.echoed:
            if self._no_echo_since_s is None:
                self._no_echo_since_s = now
                self.notify(now, Notice.NO_ECHO, detail="this peer has never answered a ping")
            return False
        if not traits.patience:
            self._half_open_found(now, direction)
        elif self._half_open is None or self._half_open[0] is not direction:
            since_s = now if self._half_open is None else self._half_open[1]
            self._half_open_found(now, direction, since_s)
        if traits.patience and heartbeat.silent_s(now) < traits.patience * heartbeat.interval_s:
            return False
        if direction is Direction.SEND:
            self.drop(now, Disconnect.SEND_TIMEOUT, "frames arrive but pings are not answered")
        else:
            self.drop(now, Disconnect.HEARTBEAT_TIMEOUT, "no pong")
        return True

    def _half_open_found(self, now: float, direction: Direction, since_s: float | None = None) -> None:
        self._half_open = (direction, now if since_s is None else since_s)
        self.heartbeat.half_open[direction] += 1
        self.notify(now, Notice.HALF_OPEN, direction=direction)

    def _tick_canary(self, now: float) -> None:
        canary = self.canary
        if canary is None:
            return
        effects, timed_out = canary.tick(now, f"{self.entropy.getrandbits(64):016x}")
        self._out.extend(effects)
        if timed_out:
            self.notify(now, Notice.CANARY, result="timed_out", detail=f"{timed_out} not seen within {canary.timeout_s:g} s")
            self.incident(now, Reason.CANARY_LOST)

    def _search_canary(self, now: float, data: bytes) -> None:
        assert self.canary is not None
        fate = self.canary.seen(now, data)
        if fate is Fate.RECEIVED and self.ledger.window is None:
            self.verification.canary(now)

    # ------------------------------------------------------------------ small things

    @property
    def _wall_offset(self) -> float:
        return 0.0 if self._offset_s is None else self._offset_s

    def _moment(self, now: float) -> Moment:
        return Moment(now, now + self._wall_offset)

    def _clock_offset(self, offset_s: float) -> None:
        self._clock_offset_s = offset_s
        if self._latency is None:
            self._latency = Histogram(SLOW_S)

    def emit(self, effect: Effect) -> None:
        """Ask the shell for something."""
        self._out.append(effect)

    def send(self, data: str | bytes, kind: FrameKind | None) -> None:
        if kind is not None:
            self._sent_frames[kind] += 1
        self._sent_bytes += len(data.encode()) if isinstance(data, str) else len(data)
        self._out.append(Send(self.attempts.number, data))

    def move(self, now: float, to: State, reason: str) -> None:
        before = self.state
        if before is to:
            return
        self.timeline.move(now, now + self._wall_offset, to, reason)
        self.notify(now, Notice.STATE, from_state=before, to_state=to, reason=reason)

    def notify(self, now: float, notice: Notice, **fields: Field) -> None:
        self._out.append(Notify(notice, now + self._wall_offset, {"connection": self.name, **fields}))

    def anomaly(self, now: float, kind: Anomaly, detail: str) -> None:
        if now - self._told.get(kind, -math.inf) >= ANOMALY_NOTICE_S:
            self._told[kind] = now
            self.notify(now, Notice.ANOMALY, kind=kind, detail=detail)

    def incident(self, now: float, reason: Reason) -> None:
        held = self._incidents.get(reason)
        since_s = held[0] if held is not None and now - held[1] < self.settings.incident_hold_s else now
        self._incidents[reason] = (since_s, now)

    def _done(self, now: float) -> Effects:
        """Every input but the common one ends here: tell of resets, re-arm the deadline, hand out the effects."""
        self.version += 1
        ledger = self.ledger
        if ledger.epoch_told != ledger.epoch:
            ledger.epoch_told = ledger.epoch
            self.incident(now, Reason.EPOCH_RESET)
            self.notify(now, Notice.RESET, epoch=ledger.epoch, detail="the server's counter restarted")
            self.recovery.reset_found(now)
        if ledger.implausible_jumps > self._jumps_told:
            self._jumps_told = ledger.implausible_jumps
            self.anomaly(now, Anomaly.IMPLAUSIBLE_JUMP, f"a number far above {ledger.cursor}")
        self.deadline = self._next_deadline(now)
        if not self._out:
            return _NOTHING
        out, self._out = self._out, []
        return out

    def _next_deadline(self, now: float) -> float:
        deadline = self.canary.deadline if self.canary is not None and self.active else math.inf
        deadline = min(deadline, self.recovery.deadline_always(now), self._dial_deadline_s)
        if self.keeping is not None:
            deadline = min(deadline, self.keeping.deadline)
        if not self._troubled:
            deadline = min(deadline, self.attempts.retry_at_s)
        if not self._ready:
            return deadline
        if self.rivals is not None:
            deadline = min(deadline, self.rivals.deadline)
        if not self._held:
            deadline = min(deadline, self.heartbeat.deadline)
        return min(deadline, self._stable_at_s, self.recovery.deadline(now))

    # ------------------------------------------------------------------ outputs

    def reasons(self, now: float) -> tuple[Condition, ...]:
        """Everything that is wrong now, raw: conditions and the incidents still held."""
        found = [*self._connection_conditions(), *self._stream_conditions(now)]
        hold_s = self.settings.incident_hold_s
        found += [Condition(reason, since) for reason, (since, last) in self._incidents.items() if now - last < hold_s]
        return tuple(found)

    def _connection_conditions(self) -> list[Condition]:
        state, entered_s = self.state, self.timeline.entered_s or 0.0
        if state in (State.IDLE, State.CLOSED):
            return []
        found: list[Condition] = []
        if state is State.FAILED:
            found.append(Condition(Reason.FAILED, entered_s))
        if state is State.CONNECTING:
            found.append(Condition(Reason.CONNECTING, entered_s))
        if state is State.RECONNECTING:
            found.append(Condition(Reason.RECONNECTING, entered_s))
        if state is State.POLLING:
            found.append(Condition(Reason.POLLING, entered_s))
        told = {
            AttemptFailure.UNAUTHORIZED: Reason.UNAUTHORIZED,
            AttemptFailure.FORBIDDEN: Reason.FORBIDDEN,
            AttemptFailure.TIMEOUT: Reason.HANDSHAKE_TIMEOUT,
            AttemptFailure.RATE_LIMITED: Reason.RATE_LIMITED,
            AttemptFailure.REJECTED: Reason.UPSTREAM_ERROR,
        }
        last = self.attempts.last_reason
        if last is not None and last in told:
            found.append(Condition(told[last], self.attempts.last_failure_s))
        if self._half_open is not None:
            direction, since_s = self._half_open
            reason = Reason.SEND_HALF_OPEN if direction is Direction.SEND else Reason.HEARTBEAT_TIMEOUT
            found.append(Condition(reason, since_s))
        if self._no_echo_since_s is not None and self._ready:
            found.append(Condition(Reason.NO_ECHO, self._no_echo_since_s))
        if self.rivals is not None and self.rivals.since_s is not None:
            found.append(Condition(Reason.DUPLICATE_CLIENT, self.rivals.since_s))
        return found

    def _stream_conditions(self, now: float) -> list[Condition]:
        found: list[Condition] = []
        if self.state in (State.IDLE, State.CLOSED):
            return found
        late_since_s = None if self.keeping is None else self.keeping.late_since_s(now)
        if late_since_s is not None:
            found.append(Condition(Reason.GAP_OPEN, late_since_s))
        if self.verification.behind_since_s is not None:
            found.append(Condition(Reason.BEHIND, self.verification.behind_since_s))
        stale_s = self.settings.stale_after_s
        if stale_s is not None and self._started is not None:
            quiet_since_s = self._event_s if self._event_s is not None else self._started.now_s
            if now - quiet_since_s >= stale_s:
                found.append(Condition(Reason.STALE, quiet_since_s + stale_s))
        return [*found, *self.recovery.conditions(now)]

    def resume_point(self, now: float) -> ResumePoint | None:
        """What the next process needs; None before the first wall time."""
        if self._offset_s is None:
            return None
        return self.recovery.capture(now + self._offset_s, self.upstream, self._lifetime())

    def _lifetime(self) -> Totals:
        before, ledger = self._totals, self.ledger
        return Totals(
            since_wall_s=before.since_wall_s,
            events=before.events + ledger.events,
            reconnects=before.reconnects + self.attempts.reconnects,
            missed=before.missed + ledger.missed - ledger.restored,
            recovered=before.recovered + ledger.recovered,
            lost=before.lost + ledger.lost,
            unaccounted=before.unaccounted + ledger.unaccounted,
            late=before.late + ledger.late,
            resets=before.resets + ledger.resets,
        )

    def snapshot(self) -> ConnectionSnapshot:
        """An immutable picture, cached until the next input."""
        if self._picture is None or self._picture[0] != self.version:
            self._picture = (self.version, self._draw())
        return self._picture[1]

    def _draw(self) -> ConnectionSnapshot:
        attempts, ledger = self.attempts, self.ledger
        waiting = attempts.retry_at_s if attempts.retry_at_s < math.inf and not self._troubled else None
        totals = self._lifetime()
        return ConnectionSnapshot(
            name=self.name,
            protocol=self.protocol.name,
            dialect=self.protocol.dialect,
            numbering=self.protocol.traits.numbering,
            upstream=self.upstream,
            timeline=self.timeline.snapshot(),
            started=self._started,
            established=self._established if self.state in ESTABLISHED else None,
            attempts=attempts.number,
            attempt_failures=dict(attempts.failures),
            last_failure=self._trouble() if self._troubled else self._last_failure,
            next_attempt_now_s=waiting,
            reconnects=attempts.reconnects,
            disconnects=dict(attempts.disconnects),
            close_codes=dict(attempts.close_codes),
            consecutive_failures=attempts.consecutive,
            handshake=attempts.handshake.snapshot(),
            last_handshake_s=dict(attempts.phases_s),
            token_expiry_wall_s=self._token_expiry_s,
            certificate_expiry_wall_s=attempts.certificate_expiry_s,
            frames_received={
                FrameKind.EVENT: self._events,
                FrameKind.CONTROL: self._controls,
                FrameKind.HEARTBEAT: self._pongs,
                FrameKind.INVALID: self._invalid,
            },
            frames_sent=dict(self._sent_frames),
            received_bytes=self._received_bytes,
            sent_bytes=self._sent_bytes,
            anomalies={
                Anomaly.MALFORMED: self._malformed,
                Anomaly.OVERSIZED: self._oversized,
                Anomaly.BAD_SEQUENCE: ledger.bad_sequence,
                Anomaly.IMPLAUSIBLE_JUMP: ledger.implausible_jumps,
                Anomaly.ACK_EARLY: ledger.ack_early,
                Anomaly.ACK_MISSING: self.recovery.ack_missing,
                Anomaly.ACK_UNSOLICITED: ledger.ack_unsolicited,
                Anomaly.REPLAY_SHORT: ledger.replay_short,
            },
            last_frame=None if self._frame_s is None else Moment(self._frame_s, self._frame_wall_s),
            last_event=None if self._event_s is None else Moment(self._event_s, self._event_wall_s),
            verifications=dict(self.verification.results),
            verified_now_s=self.verification.verified_s,
            heartbeat=self.heartbeat.snapshot(),
            clock_offset_s=self._clock_offset_s,
            event_latency=None if self._latency is None else self._latency.snapshot(),
            continuity=ledger.snapshot(self._last_loss),
            canary=None if self.canary is None else self.canary.snapshot(),
            lifetime=LifetimeSnapshot(**msgspec.structs.asdict(totals)),
            settled_once=self._settled_once,
            attempting=self._dial_deadline_s < math.inf,
        )

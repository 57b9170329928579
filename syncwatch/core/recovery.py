"""How a session comes by what it missed: the part that differs between protocols, chosen by the trait `settle`.

What belongs here: what a session asks of its recovery, what a recovery may ask of its session, and what both ways share. `resync.py` settles by
acknowledgement, `feed.py` by reading the server's log over HTTP; with `unnumbered.py` there is nothing to settle.
"""

from __future__ import annotations

import enum
import math
from typing import Protocol as Interface

import msgspec

from syncwatch.core.backoff import Backoff
from syncwatch.core.effects import Answer, Effect, Field, Notice, Refused
from syncwatch.core.health import Condition, Reason
from syncwatch.core.ledger import Ledger, Settled
from syncwatch.core.resume import ResumePoint, Totals
from syncwatch.core.states import Anomaly, Claim, Disconnect, State, Verdict
from syncwatch.core.verification import Verification
from syncwatch.core.wire import Ack, Event, FrameKind, Protocol, Wire


class SessionSettings(msgspec.Struct, frozen=True):
    """Everything a connection may be told; seconds. Polling and audit mean something only where the protocol has a feed."""

    connect_timeout_s: float = 10.0
    heartbeat_interval_s: float = 15.0
    heartbeat_timeout_s: float = 10.0
    backoff: Backoff = Backoff()
    stable_after_s: float = 30.0
    breaker: int = 30
    breaker_retry_s: float = 60.0
    ack_timeout_s: float = 10.0
    hole_grace_s: float = 2.0
    max_jump: int = 100_000
    resume_max_age_s: float = 3600.0
    spread_s: float = 5.0
    verify_interval_s: float = 60.0
    verify_grace_s: float = 2.0
    unanswered_retry_s: float = 300.0
    stale_after_s: float | None = None
    incident_hold_s: float = 600.0
    polling_after: int = 3
    polling_interval_s: float = 5.0
    reprobe_min_s: float = 5.0
    reprobe_max_s: float = 300.0
    audit: bool = True
    audit_interval_s: float = 60.0


class Entropy(Interface):
    """Randomness as an argument; random.Random fits."""

    def random(self) -> float: ...
    def getrandbits(self, k: int, /) -> int: ...


class Line(Interface):
    """What a recovery sees of its session, and may ask of it."""

    settings: SessionSettings
    protocol: Protocol
    verification: Verification
    entropy: Entropy

    @property
    def state(self) -> State: ...
    @property
    def active(self) -> bool: ...
    @property
    def wire(self) -> Wire | None: ...
    def emit(self, effect: Effect) -> None: ...
    def send(self, data: str | bytes, kind: FrameKind) -> None: ...
    def move(self, now: float, to: State, reason: str) -> None: ...
    def notify(self, now: float, notice: Notice, **fields: Field) -> None: ...
    def anomaly(self, now: float, kind: Anomaly, detail: str) -> None: ...
    def incident(self, now: float, reason: Reason) -> None: ...
    def loss(self, now: float) -> None: ...
    def came(self, now: float) -> None:
        """A first copy arrived by another way than the socket."""
        ...

    def caught_up(self, now: float, reason: str) -> None: ...
    def drop(self, now: float, reason: Disconnect, detail: str) -> None: ...
    def redial(self, now: float, delay_s: float) -> None:
        """No socket can be had: the next attempt comes after so long."""
        ...


class Pace(enum.Enum):
    """What a failed attempt leads to."""

    RETRY = "retry"  # the usual delays
    REPROBE = "reprobe"  # the feed carries on; the WebSocket is tried again from time to time


class Recovery:
    """What a session asks of its recovery. `now` is monotonic seconds, first; every method returns at once and asks for effects through the line."""

    reasons: tuple[Reason, ...] = ()
    """What it alone can report."""

    def __init__(self, line: Line, ledger: Ledger) -> None:
        self.line = line
        self.ledger = ledger
        self.ack_missing = 0

    # ------------------------------------------------------------------ inputs

    def configure(self, now: float) -> None:
        """The settings are new."""

    def server_date(self, date_s: float) -> None:
        """The server's clock, as the handshake's answer told it."""

    def ready(self, now: float, attempt: int) -> None:
        """A connection is ready: ask for what was missed, or say `caught_up`."""
        self.line.caught_up(now, "ready, nothing to resume")

    def stopped(self, now: float) -> None:
        """The session was stopped on purpose."""

    def credentials(self, now: float, changed: bool) -> None:
        """The token was read; `changed`: not for the first time, so it is another one, and may show other events."""

    def refused(self, now: float) -> None:
        """An attempt failed because of the credentials."""

    def reprobe_s(self) -> float:
        """How long to carry on before the WebSocket is tried again."""
        return math.inf

    def left(self, now: float) -> None:
        """The connection, or the attempt at one, ended."""

    def failed(self, now: float) -> Pace:
        """An attempt failed, and it was not the credentials."""
        return Pace.RETRY

    def oversized(self, now: float) -> None:
        """The connection ended because of a frame above the limit."""

    def heard(self, now: float, event: Event) -> None:
        """An event was entered while a replay is open."""

    def answered(self, now: float) -> None:
        """A pong came."""

    def acknowledged(self, now: float, ack: Ack) -> None:
        """The server says that a replay is over."""

    def polled(self, now: float, poll_id: int, answer: Answer | Refused) -> None:
        """The answer to a request of ours; others are ignored."""

    def tick(self, now: float) -> None:
        """Due work of a connection that is ready."""

    def tick_always(self, now: float) -> None:
        """Due work, connected or not."""

    def reset_found(self, now: float) -> None:
        """The ledger found a new epoch, and it was told."""

    # ------------------------------------------------------------------ outputs

    def deadline(self, now: float) -> float:
        """When `tick` has something to do."""
        return math.inf

    def deadline_always(self, now: float) -> float:
        """When `tick_always` has something to do."""
        return math.inf

    def dialled(self) -> int | None:
        """An attempt begins; returns the number after which its socket itself resumes, None if it does not."""
        return None

    def conditions(self, now: float) -> list[Condition]:
        """What is wrong with the stream."""
        return []

    def capture(self, wall_s: float, upstream: str, totals: Totals) -> ResumePoint:
        """What the next process needs."""
        raise NotImplementedError

    def says_nothing(self, point: ResumePoint) -> bool:
        """Whether there is nothing in it to go on from, for any protocol."""
        return point.cursor is None and point.feed is None

    def restore(self, now: float, point: ResumePoint) -> bool:
        """Start where an earlier process stopped; False if that says nothing to this protocol, and nothing was changed."""
        raise NotImplementedError

    # ------------------------------------------------------------------ shared

    def spread_s(self) -> float:
        """A uniform wait, so that a fleet does not ask in the same second."""
        return self.line.settings.spread_s * self.line.entropy.random()

    def tell_settled(self, now: float, settled: Settled, quiet: bool = False) -> None:
        """Tell how a replay ended, answered or not."""
        if not quiet:
            self.line.notify(
                now,
                Notice.RESYNCED,
                claim=settled.claim,
                verdict=settled.verdict,
                replayed=settled.replayed,
                gap_detected=settled.gap_detected,
                recovered=settled.recovered,
                lost=settled.lost,
                unaccounted=settled.unaccounted,
                cursor=self.ledger.cursor,
                epoch=self.ledger.epoch,
            )
        if settled.claim is not Claim.NONE and settled.verdict is Verdict.CONTRADICTED:
            self.line.incident(now, Reason.CLAIM_CONTRADICTED)
        self.tell_lost(now, settled.lost, settled.unaccounted)

    def tell_lost(self, now: float, lost: int, unaccounted: int) -> None:
        """Events are gone, or may be."""
        if lost or unaccounted:
            self.line.loss(now)
            self.line.notify(now, Notice.LOST, lost=lost, unaccounted=unaccounted)
        if lost:
            self.line.incident(now, Reason.EVENTS_LOST)

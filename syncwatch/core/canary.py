"""The end-to-end canary: a message written through the API must arrive on the live connection.

Law: it acts only when configured, only while the connection is open, and never counts a write it did not make. lost = timed_out - late.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Protocol as Interface

from syncwatch.core.effects import Answer, Effect, Poll, Refused
from syncwatch.core.histogram import FAST_S, Histogram
from syncwatch.core.snapshot import CanarySnapshot
from syncwatch.core.wire import Request

MAX_RETRY_AFTER_S = 3600.0  # a server that asks for more is written to again after an hour
REMEMBERED = 32  # canaries that timed out and may still come late, or came and may come again


class CanaryCodec(Interface):
    """How a protocol writes a canary."""

    def canary(self, mark: str) -> Request:
        """The write; `mark` is ASCII and must come back verbatim inside the live frame."""
        ...

    def canary_setup(self) -> Sequence[Request]:
        """What to do when the write finds no place to write to (404); answers below 500 all count as done."""
        ...

    def canary_time_s(self, body: bytes) -> float | None:
        """The server's clock (Unix seconds) at the write, from the answer's body; None if it does not tell."""
        ...


class Fate(enum.Enum):
    """What became of a canary."""

    WAITING = "waiting"
    RECEIVED = "received"
    TIMED_OUT = "timed_out"
    FAILED = "failed"


class Shot:
    """One canary."""

    __slots__ = ("fate", "logged", "mark", "sent_s")

    def __init__(self, mark: str, sent_s: float) -> None:
        self.mark = mark.encode()
        self.sent_s = sent_s
        self.fate = Fate.WAITING
        self.logged = False  # read in the server's log


class Canary:
    """Writes one message each interval and waits for it."""

    def __init__(self, codec: CanaryCodec, interval_s: float, timeout_s: float, prefix: str = "syncwatch-canary") -> None:
        self._codec = codec
        self.interval_s = interval_s
        self.timeout_s = timeout_s
        self._prefix = prefix
        self._prefix_bytes = prefix.encode()
        self._shots: list[Shot] = []
        self._next_s = math.inf
        self._patient_until_s = -math.inf
        self.poll_id = 0  # of the last call
        self._polls: dict[int, Shot | None] = {}
        self._setup: list[Request] = []
        self._retry: Shot | None = None
        self.sent = 0
        self.received = 0
        self.timed_out = 0
        self.late = 0
        self.duplicate = 0
        self.failed = 0
        self.failure = ""
        self.logged = 0
        self.log_delay_s: float | None = None  # of the last one: from its write until it was read in the log
        self.round_trip = Histogram(FAST_S)
        self.clock_offset_s: float | None = None  # server minus the wall clock, from the last answer that told it

    def configure(self, canary: Canary) -> None:
        """Go on as `canary` is configured; what was counted stays."""
        self._codec, self.interval_s, self.timeout_s = canary._codec, canary.interval_s, canary.timeout_s
        self._prefix, self._prefix_bytes = canary._prefix, canary._prefix_bytes

    def hasten(self, now: float) -> None:
        """The interval was changed: a shorter one counts from now, but not against a server that asked for patience."""
        if self._open:
            self._next_s = min(self._next_s, max(now + self.interval_s, self._patient_until_s))

    @property
    def waiting(self) -> bool:
        """Whether any frame must be searched for a mark."""
        return bool(self._shots)

    @property
    def deadline(self) -> float:
        """When something is due."""
        oldest = min((shot.sent_s for shot in self._shots if shot.fate is Fate.WAITING), default=math.inf)
        return min(self._next_s, oldest + self.timeout_s)

    def opened(self, now: float, chance: float) -> None:
        """The connection is open: the first canary comes within one interval, spread so that a fleet does not write at once."""
        if self._next_s == math.inf:
            self._next_s = max(now + min(self.interval_s, 5.0) * chance, self._patient_until_s)

    def closed(self) -> None:
        """No connection: write nothing. What waits may still come by replay."""
        self._next_s = math.inf

    def tick(self, now: float, mark: str) -> tuple[list[Effect], int]:
        """Write a canary if one is due, time out old ones; returns the effects and how many timed out. `mark` is fresh entropy."""
        effects: list[Effect] = []
        timed_out = 0
        for shot in self._shots:
            if shot.fate is Fate.WAITING and now >= shot.sent_s + self.timeout_s:
                shot.fate = Fate.TIMED_OUT
                timed_out += 1
        self.timed_out += timed_out
        if now >= self._next_s:
            self._next_s = now + self.interval_s
            shot = Shot(f"{self._prefix}-{mark}", now)
            self._forget()
            self._shots.append(shot)
            self.sent += 1
            effects.append(self._ask(self._codec.canary(shot.mark.decode()), shot))
        return effects, timed_out

    def _forget(self) -> None:
        """Let go of the oldest whose fate is known; what still waits is bounded by the timeout."""
        surplus = len(self._shots) + 1 - REMEMBERED
        if surplus > 0:
            known = [shot for shot in self._shots if shot.fate is not Fate.WAITING][:surplus]
            self._shots = [shot for shot in self._shots if shot not in known]

    def _ask(self, request: Request, shot: Shot | None) -> Poll:
        self.poll_id += 1
        self._polls[self.poll_id] = shot
        return Poll(self.poll_id, request, self.timeout_s)

    def seen(self, now: float, data: bytes) -> Fate | None:
        """Search a received frame; returns what its canary became: RECEIVED, or TIMED_OUT when it came late."""
        if self._prefix_bytes not in data:  # nearly every frame: one search instead of one per canary
            return None
        for shot in self._shots:
            if shot.mark in data:
                return self._arrived(now, shot)
        return None

    def read(self, now: float, page: bytes) -> None:
        """Search a page of the server's log: measured apart from the live path, so that a write that was kept and a push that was not can be told apart."""
        if self._prefix_bytes not in page:
            return
        for shot in self._shots:
            if not shot.logged and shot.mark in page:
                shot.logged = True
                self.logged += 1
                self.log_delay_s = now - shot.sent_s

    def _arrived(self, now: float, shot: Shot) -> Fate | None:
        if shot.fate is Fate.WAITING:
            shot.fate = Fate.RECEIVED
            self.received += 1
            self.round_trip.observe(now - shot.sent_s)
            return Fate.RECEIVED
        if shot.fate is Fate.TIMED_OUT:
            shot.fate = Fate.RECEIVED
            self.late += 1
            return Fate.TIMED_OUT
        if shot.fate is Fate.RECEIVED:
            self.duplicate += 1
        return None

    def polled(self, now: float, offset_s: float, poll_id: int, answer: Answer | Refused) -> list[Effect]:
        """The answer to a write or to a step of the setup."""
        if poll_id not in self._polls:
            return []
        shot = self._polls.pop(poll_id)
        if shot is None:
            return self._setup_answered(now, answer)
        if isinstance(answer, Answer) and answer.status < 300:
            if shot is self._retry:
                self._retry = None
            server_s = self._codec.canary_time_s(answer.body)
            if server_s is not None:
                # The server stamped the message between our request and its answer: half the way is the best guess.
                self.clock_offset_s = server_s - ((shot.sent_s + now) / 2.0 + offset_s)
            return []
        if isinstance(answer, Answer) and answer.status == 404 and self._retry is None and self._open:
            shot.sent_s = math.inf  # nothing was written: its time begins with the write that follows
            self._retry, self._setup = shot, list(self._codec.canary_setup())
            return self._next_setup(now)
        self._refused(shot, answer)
        if isinstance(answer, Answer) and answer.retry_after_s is not None:
            self._patient_until_s = now + min(answer.retry_after_s, MAX_RETRY_AFTER_S)
            self._next_s = max(self._next_s, self._patient_until_s)
        return []

    def _refused(self, shot: Shot, answer: Answer | Refused) -> None:
        if shot is self._retry:
            self._retry = None
        self.failure = f"HTTP {answer.status}" if isinstance(answer, Answer) else f"{answer.reason}: {answer.detail}"
        if shot.fate is Fate.WAITING:
            shot.fate = Fate.FAILED
            self.failed += 1

    @property
    def _open(self) -> bool:
        return self._next_s != math.inf

    def _setup_answered(self, now: float, answer: Answer | Refused) -> list[Effect]:
        shot = self._retry
        if shot is None:
            return []
        if isinstance(answer, Refused) or answer.status >= 500 or not self._open:
            self._refused(shot, answer)
            return []
        return self._next_setup(now)

    def _next_setup(self, now: float) -> list[Effect]:
        if self._setup:
            return [self._ask(self._setup.pop(0), None)]
        shot = self._retry
        if shot is None:
            return []
        shot.sent_s = now
        return [self._ask(self._codec.canary(shot.mark.decode()), shot)]

    def snapshot(self) -> CanarySnapshot:
        """An immutable picture."""
        return CanarySnapshot(
            sent=self.sent,
            received=self.received,
            timed_out=self.timed_out,
            late=self.late,
            duplicate=self.duplicate,
            failed=self.failed,
            logged=self.logged,
            log_delay_s=self.log_delay_s,
            round_trip=self.round_trip.snapshot(),
        )

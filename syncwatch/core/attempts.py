"""Handshakes and how they end: counts, and when the next one is due.

Law: the failure count returns to zero only after a stable connection; nothing is ever given up, only retried more slowly.
"""

from __future__ import annotations

import math

from syncwatch.core.backoff import Backoff
from syncwatch.core.effects import Handshake
from syncwatch.core.histogram import FAST_S, Histogram
from syncwatch.core.states import CLOSE_CODES, AttemptFailure, Disconnect

CREDENTIALS = frozenset({AttemptFailure.UNAUTHORIZED, AttemptFailure.FORBIDDEN})
MAX_RETRY_AFTER_S = 3600.0  # a server that asks for more is asked again after an hour


class Attempts:
    """The bookkeeping of one connection's handshakes and disconnects."""

    def __init__(self, backoff: Backoff, breaker: int, breaker_retry_s: float, spread_s: float) -> None:
        self.backoff = backoff
        self.breaker = breaker
        self.breaker_retry_s = breaker_retry_s
        self.spread_s = spread_s
        self.number = 0  # the attempt under way or established
        self.opens = 0
        self.failures: dict[AttemptFailure, int] = dict.fromkeys(AttemptFailure, 0)
        self.disconnects: dict[Disconnect, int] = dict.fromkeys(Disconnect, 0)
        self.close_codes: dict[str, int] = dict.fromkeys((*map(str, CLOSE_CODES), "other"), 0)
        self.consecutive = 0
        self.last_reason: AttemptFailure | None = None
        self.last_failure_s = 0.0
        self.handshake = Histogram(FAST_S)
        self.phases_s: dict[str, float] = {}
        self.certificate_expiry_s: float | None = None
        self.retry_at_s = math.inf
        self._dialled_s = 0.0
        self._upgraded_s = 0.0
        self._retry_after_s = 0.0

    @property
    def reconnects(self) -> int:
        """Successful opens after the first."""
        return max(0, self.opens - 1)

    @property
    def breaker_open(self) -> bool:
        """Credentials were refused, or failures reached the breaker: retried slowly."""
        return self.last_reason in CREDENTIALS or self.consecutive >= self.breaker

    def dial(self, now: float) -> int:
        """A handshake starts."""
        self.number += 1
        self._dialled_s = now
        self.retry_at_s = math.inf
        return self.number

    def upgraded(self, now: float, handshake: Handshake) -> None:
        """The WebSocket is open; the codec's own handshake may follow."""
        self._upgraded_s = now
        told = {"dns": handshake.dns_s, "tcp": handshake.tcp_s, "tls": handshake.tls_s, "upgrade": handshake.upgrade_s}
        self.phases_s = {phase: seconds for phase, seconds in told.items() if seconds is not None}
        self.certificate_expiry_s = handshake.certificate_expiry_s

    def ready(self, now: float) -> float:
        """The handshake succeeded; returns how long all of it took."""
        self.opens += 1
        self.last_reason = None
        self._retry_after_s = 0.0
        if now > self._upgraded_s:  # a codec without words of its own has no such phase
            self.phases_s["protocol"] = now - self._upgraded_s
        duration_s = now - self._dialled_s
        self.handshake.observe(duration_s)
        return duration_s

    def failed(self, now: float, reason: AttemptFailure, retry_after_s: float | None) -> None:
        """The handshake did not succeed."""
        self.failures[reason] += 1
        self.consecutive += 1
        if self.last_reason is not reason:
            self.last_failure_s = now
        self.last_reason = reason
        self._retry_after_s = min(max(retry_after_s or 0.0, 0.0), MAX_RETRY_AFTER_S)

    def disconnected(self, reason: Disconnect, code: int | None) -> None:
        """An established connection ended."""
        self.disconnects[reason] += 1
        if code is not None:
            label = str(code) if code in CLOSE_CODES else "other"
            self.close_codes[label] += 1

    def stable(self) -> None:
        """Open for long enough: past failures mean nothing any more."""
        self.consecutive = 0

    def reprobe(self, now: float, delay_s: float) -> float:
        """The feed carries on: the next attempt comes after `delay_s`, or as late as the server asked for; returns the delay."""
        delay_s = max(delay_s, self._retry_after_s)
        self.retry_at_s = now + delay_s
        return delay_s

    def schedule(self, now: float, chance: float, spread_chance: float | None = None, slowly: bool = False) -> float:
        """Set and return the delay to the next attempt.

        `spread_chance`: this is the first one after a loss, so fleets are spread. `slowly`: the connection is in state failed already.
        """
        delay_s = self.backoff.delay_s(self.consecutive, chance)
        if self.breaker_open or slowly:
            delay_s = max(delay_s, self.breaker_retry_s)
        if spread_chance is not None:
            delay_s += self.spread_s * spread_chance
        delay_s = max(delay_s, self._retry_after_s)
        self.retry_at_s = now + delay_s
        return delay_s

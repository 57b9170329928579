"""Pings, their answers, round trips, and both half-open verdicts.

Law: sent = acknowledged + missed + outstanding. An unanswered ping is dead `timeout_s` after **it** was sent, and only its own answer clears it:
other inbound frames prove the receive direction only.
"""

from __future__ import annotations

import math
from collections import deque

from syncwatch.core.histogram import FAST_S, Histogram
from syncwatch.core.snapshot import HeartbeatSnapshot, Moment
from syncwatch.core.states import Direction


class Heartbeat:
    """Pings on one connection after another; the counters live as long as the process."""

    def __init__(self, interval_s: float, timeout_s: float) -> None:
        self.interval_s = interval_s
        self.timeout_s = timeout_s
        self.sent = 0
        self.acknowledged = 0
        self.missed = 0
        self.late = 0
        self.last_sent: Moment | None = None
        self.last_ack: Moment | None = None
        self.last_rtt_s: float | None = None
        self.rtt = Histogram(FAST_S)
        self.half_open = dict.fromkeys(Direction, 0)
        self._next_s = math.inf
        self._read_s = -math.inf  # since when what comes is read at once
        self._sign_s = -math.inf  # when the present connection was last answered, in time or not; its beginning, if never
        self._hurried = False  # since the last answer in time, a late one was followed by a ping out of turn
        self._outstanding: deque[tuple[int, float]] = deque()
        self._expired: deque[int] = deque(maxlen=64)

    @property
    def deadline(self) -> float:
        """When the next ping is due or the oldest one dies."""
        if self._outstanding:
            return min(self._next_s, self._dies_s())
        return self._next_s

    @property
    def echoed(self) -> bool:
        """Whether this peer has ever answered a ping, on any connection, in time or not."""
        return self.acknowledged + self.late > 0

    def silent_s(self, now: float) -> float:
        """How long the present connection has gone without any answer."""
        return now - self._sign_s

    def opened(self, now: float) -> None:
        """The connection is ready: ping at once, so that a round trip is known from the beginning."""
        self._next_s = self._read_s = self._sign_s = now
        self._hurried = False

    def held(self, on: bool, now: float) -> None:
        """Nothing is read for a while, or again: answers that lie there unread are nobody's fault."""
        if not on:
            self._read_s = self._sign_s = now

    def closed(self) -> None:
        """The connection ended: what was not answered never will be."""
        self.missed += len(self._outstanding)
        self._outstanding.clear()
        self._expired.clear()
        self._next_s = math.inf

    def hasten(self, now: float) -> None:
        """The interval was changed: a shorter one counts from now."""
        if self._next_s != math.inf:
            self._next_s = min(self._next_s, now + self.interval_s)

    def due(self, now: float, wall_s: float) -> int | None:
        """The token of a ping to send now, if one is due."""
        if now < self._next_s:
            return None
        self._next_s = now + self.interval_s
        self.sent += 1
        self._outstanding.append((self.sent, now))
        self.last_sent = Moment(now, wall_s)
        return self.sent

    def answered(self, now: float, wall_s: float, token: int | None) -> bool:
        """A pong; without a token pongs answer in the order of the pings. False if it answers nothing outstanding.

        A late one says that the peer is there after all: it is asked again at once, for only an answer in time proves more.
        """
        if token is not None and token in self._expired:
            self._expired.remove(token)
            self.late += 1
            self._sign_s = now
            if not self._hurried:  # once: with a peer that is always late each ping would bring the next
                self._hurried = True
                self._next_s = min(self._next_s, now)
            return False
        for index, (sent_token, sent_s) in enumerate(self._outstanding):
            if token is None or token == sent_token:
                del self._outstanding[index]
                self.acknowledged += 1
                self.last_ack = Moment(now, wall_s)
                self._sign_s = now
                self._hurried = False
                if sent_s >= self._read_s:  # else it may have lain there unread
                    self.last_rtt_s = now - sent_s
                    self.rtt.observe(self.last_rtt_s)
                return True
        return False

    def verdict(self, now: float, last_frame_s: float | None) -> Direction | None:
        """Which direction seems dead, if the oldest ping's time is over; counts it as missed. What comes of it is the caller's business."""
        if not self._outstanding or now < self._dies_s():
            return None
        token, sent_s = self._outstanding.popleft()
        self._expired.append(token)
        self.missed += 1
        return Direction.SEND if last_frame_s is not None and last_frame_s > sent_s else Direction.RECEIVE

    def _dies_s(self) -> float:
        return max(self._outstanding[0][1], self._read_s) + self.timeout_s

    def snapshot(self) -> HeartbeatSnapshot:
        """An immutable picture."""
        return HeartbeatSnapshot(
            sent=self.sent,
            acknowledged=self.acknowledged,
            missed=self.missed,
            late=self.late,
            outstanding=len(self._outstanding),
            last_sent=self.last_sent,
            last_ack=self.last_ack,
            last_rtt_s=self.last_rtt_s,
            rtt=self.rtt.snapshot(),
            half_open=dict(self.half_open),
        )

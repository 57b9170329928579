"""The oracle: from the facts to what the session has to show. Written from the rules in the documents, without the session's own modules.

What belongs here: a fold over facts, one after another, and what time alone brings about between two of them. `complaints` are things that the session
did and should not have done, or did not do.
"""

from __future__ import annotations

import math
from collections import Counter

import msgspec

from tests.simulation.harness.facts import Fact
from tests.simulation.tps.facts import (
    Arrived,
    Asked,
    Closed,
    Dialled,
    Failed,
    Held,
    Kept,
    Killed,
    Opened,
    Pinged,
    Started,
    What,
)

PATIENCE_INTERVALS = 10
RIVAL_S = 40.0
RIVAL_CUTS = 3
RIVAL_PACE_S = 60.0
STALL_S = 10.0
HANDSHAKE_S = 10.0
POLITE = (1000, 1005, 1006)
UNREADY = {1008: "unauthorized", 1011: "rejected"}
SAME_S = 1e-6


class Counters(msgspec.Struct):
    """What the session counts."""

    attempts: int = 0
    opens: int = 0
    events: int = 0
    duplicates: int = 0
    waiting: int = 0
    sent: int = 0
    acknowledged: int = 0
    missed: int = 0
    late: int = 0
    outstanding: int = 0
    half_open_receive: int = 0
    half_open_send: int = 0
    event_frames: int = 0
    heartbeat_frames: int = 0
    control_frames: int = 0
    answers: int = 0
    invalid_frames: int = 0
    storage_failures: int = 0


class Ping(msgspec.Struct):
    """One that is not answered yet."""

    number: str
    at: float


class Judge:
    """Folds facts. `advance(now)` brings about what time brings."""

    def __init__(self, interval_s: float, timeout_s: float) -> None:
        self.interval_s = interval_s
        self.timeout_s = timeout_s
        self.counters = Counters()
        self.failures: Counter[str] = Counter()
        self.disconnects: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.stored: set[str] = set()  # mails that were called safe
        self.known: set[str] = set()  # mails of which a further copy is a duplicate
        # the connection
        self._dialled_s = math.inf
        self._connection = 0
        self._dialling = False
        self._ready_s = math.inf
        self._frame_s = -math.inf
        self._closing: tuple[float, str] | None = None  # the session must close now, and why
        self._stopping = False
        # heartbeats
        self._pings: list[Ping] = []
        self._dead: list[str] = []
        self._ping_s = -math.inf
        self._echo_due = False  # the first late echo since one in time has come: a ping may follow out of turn
        self._hurried = False
        self._sign_s = -math.inf
        self._read_s = -math.inf
        self._held = False
        self._echoed = False
        self.half_open: str | None = None
        self.no_echo = False
        # rivals
        self._cuts = 0
        self.rival = False
        self._pace_s = -math.inf
        # storage
        self._asked: dict[int, str] = {}
        self._came: dict[int, float] = {}
        self._failed: set[int] = set()
        self._moved_s = math.inf
        self.troubled = False

    @property
    def ready(self) -> bool:
        """A connection stands."""
        return self._ready_s < math.inf

    def reasons(self, now: float) -> set[str]:
        """What has to be shown beside what follows from the state."""
        found = {"no_echo"} if self.no_echo and self.ready else set()
        if self.half_open is not None:
            found.add("send_half_open" if self.half_open == "send" else "heartbeat_timeout")
        if self.rival:
            found.add("duplicate_client")
        if self.troubled or any(now >= came + STALL_S for came in self._came.values()):
            found.add("gap_open")
        return found

    # -- time ----------------------------------------------------------------------------------------------------------

    def _next(self) -> tuple[float, str]:
        due = [(math.inf, "")]
        if self.ready and not self._held and self._pings:
            due.append((max(self._pings[0].at, self._read_s) + self.timeout_s, "death"))
        if self.ready and self._cuts:
            due.append((self._ready_s + RIVAL_S, "outlived"))
        if not self.troubled:
            due.append((self._moved_s + STALL_S, "stall"))
        return min(due)

    def advance(self, now: float) -> None:
        """Everything that is due up to now, in its order."""
        while True:
            at, what = self._next()
            if at > now:
                return
            self._expect_close(at)
            if what == "death":
                self._death(at)
            elif what == "outlived":
                self._cuts, self.rival = 0, False
            else:
                self._trouble(at)

    def _death(self, now: float) -> None:
        ping = self._pings.pop(0)
        self._dead.append(ping.number)
        self.counters.missed += 1
        self.counters.outstanding -= 1
        if not self._echoed:
            self.no_echo = True
            return
        direction = "send" if self._frame_s > ping.at else "receive"
        if self.half_open != direction:
            self.half_open = direction
            if direction == "send":
                self.counters.half_open_send += 1
            else:
                self.counters.half_open_receive += 1
        if now - self._sign_s >= PATIENCE_INTERVALS * self.interval_s:
            self._must_close(now, "send_timeout" if direction == "send" else "heartbeat_timeout")

    def _trouble(self, now: float) -> None:
        self.troubled = True
        if self.ready:
            self._must_close(now, "overflow")

    def _must_close(self, now: float, reason: str) -> None:
        if self._closing is None:
            self._closing = now, reason

    def _expect_close(self, now: float) -> None:
        if self._closing is not None and now > self._closing[0] + SAME_S:
            self.complaints.append(f"{self._closing[0]:.3f}: the connection had to be closed, {self._closing[1]}")
            self._closing = None

    # -- facts ---------------------------------------------------------------------------------------------------------

    def fold(self, fact: Fact) -> None:
        """One fact."""
        self.advance(fact.at)
        self._expect_close(fact.at)
        if isinstance(fact, Arrived):
            self._arrived(fact)
        elif isinstance(fact, Pinged):
            self._pinged(fact)
        elif isinstance(fact, Closed):
            self._closed(fact)
        elif isinstance(fact, Dialled):
            self._dial(fact)
        elif isinstance(fact, Failed):
            self._dialling = False
            self.failures[fact.reason] += 1
        elif isinstance(fact, Opened):
            pass
        elif isinstance(fact, Asked):
            self._ask(fact)
        elif isinstance(fact, Kept):
            self._kept(fact)
        elif isinstance(fact, Held):
            self._held = fact.on
            if not fact.on:
                self._read_s = self._sign_s = fact.at
        elif isinstance(fact, Started):
            self.known = set(fact.known)
        else:
            assert isinstance(fact, Killed)

    def stopping(self) -> None:
        """The session is told to stop: it may close."""
        self._stopping = True

    def _say(self, fact: Fact, what: str) -> None:
        self.complaints.append(f"{fact.at:.3f}: {what}")

    def _dial(self, fact: Dialled) -> None:
        self.counters.attempts += 1
        self._connection, self._dialling, self._dialled_s = fact.connection, True, fact.at
        if self.troubled:
            self._say(fact, "dialled although mail cannot be stored")
        if fact.at < self._pace_s - SAME_S:
            self._say(fact, "a reconnect storm against a rival")

    def _arrived(self, fact: Arrived) -> None:
        c, what = self.counters, fact.what
        if fact.left:
            c.event_frames += what is What.MAIL
            return
        self._frame_s = fact.at
        if what is What.READY:
            self._ready(fact.at)
        elif what is What.ECHO:
            c.heartbeat_frames += 1
            self._echo(fact)
        elif what is What.MAIL:
            c.event_frames += 1
        elif what in (What.CONTROL, What.REQUEST):
            c.control_frames += 1
            c.answers += what is What.REQUEST
        else:
            c.invalid_frames += 1
            if what is What.FATAL:
                self._must_close(fact.at, "protocol_error" if self.ready else "unready")

    def _ready(self, now: float) -> None:
        self.counters.opens += 1
        self._dialling = False
        self._ready_s = self._sign_s = self._read_s = now
        self._ping_s = -math.inf
        self._echo_due = self._hurried = False
        self._dead.clear()
        if self.troubled:
            self._must_close(now, "overflow")

    def _echo(self, fact: Arrived) -> None:
        c = self.counters
        if fact.key in self._dead:
            self._dead.remove(fact.key)
            c.late += 1
            self._echoed, self._sign_s, self.no_echo = True, fact.at, False
            self._echo_due, self._hurried = self._echo_due or not self._hurried, True
            return
        for ping in self._pings:
            if ping.number == fact.key:
                self._pings.remove(ping)
                c.acknowledged += 1
                c.outstanding -= 1
                self._echoed, self._sign_s, self.half_open, self.no_echo, self._hurried = True, fact.at, None, False, False
                return

    def _pinged(self, fact: Pinged) -> None:
        c = self.counters
        c.sent += 1
        c.outstanding += 1
        first = self._ping_s == -math.inf
        if self._held:
            self._say(fact, "a heartbeat although nothing is read")
        elif not first and not self._echo_due and fact.at < self._ping_s + self.interval_s - SAME_S:
            self._say(fact, f"a heartbeat {fact.at - self._ping_s:.3f} s after the last")
        elif first and fact.at > self._ready_s + SAME_S:
            self._say(fact, "the first heartbeat was late")
        self._echo_due = False
        self._ping_s = fact.at
        self._pings.append(Ping(fact.number, fact.at))

    def _closed(self, fact: Closed) -> None:
        ready, due, self._closing = self.ready, self._closing, None
        reason = fact.reason
        if fact.ours:
            reason = self._our_reason(fact, due)
        if self._dialling and not ready:
            self._dialling = False
            if reason == "stop":
                pass
            elif fact.ours:
                self.failures[reason] += 1
            else:
                self.failures[UNREADY.get(fact.code or 0, "protocol")] += 1
        elif ready:
            self.disconnects["local" if reason == "stop" else reason] += 1
            if not fact.ours and fact.code is not None:
                self.codes[str(fact.code)] += 1
            if reason != "stop":
                self._rivalry(fact, reason)
        self.counters.missed += len(self._pings)
        self.counters.outstanding = 0
        self._pings.clear()
        self._held = False
        self._ready_s = math.inf

    def _our_reason(self, fact: Closed, due: tuple[float, str] | None) -> str:
        if self._stopping:
            return "stop"
        if self._dialling and not self.ready:
            if due is not None:
                return "protocol"
            if abs(fact.at - self._dialled_s - HANDSHAKE_S) > SAME_S:
                self._say(fact, "a handshake was given up too early or too late")
            return "timeout"
        if due is None:
            self._say(fact, "closed without a reason")
            return "nothing"
        return due[1]

    def _rivalry(self, fact: Closed, reason: str) -> None:
        lived_s = fact.at - self._ready_s
        if lived_s >= RIVAL_S:
            self._cuts, self.rival = 0, False
        elif reason == "peer_closed" and fact.code in POLITE:
            self._cuts += 1
            self.rival = self.rival or self._cuts >= RIVAL_CUTS
        elif not self.rival:
            self._cuts = 0
        self._pace_s = fact.at + RIVAL_PACE_S if self.rival else -math.inf

    # -- storage -------------------------------------------------------------------------------------------------------

    def _ask(self, fact: Asked) -> None:
        if fact.deposit in self._asked and fact.deposit not in self._failed:
            self._say(fact, f"{fact.key} was asked for twice at a time")
        if fact.deposit not in self._asked:
            self.counters.waiting += 1
            self._came[fact.deposit] = fact.at
        self._asked[fact.deposit] = fact.key
        self._failed.discard(fact.deposit)
        if self._moved_s == math.inf:
            self._moved_s = fact.at

    def _kept(self, fact: Kept) -> None:
        c = self.counters
        if fact.error is not None:
            self._failed.add(fact.deposit)
            c.storage_failures += 1
        else:
            del self._asked[fact.deposit], self._came[fact.deposit]
            c.waiting -= 1
            self.stored.add(fact.key)
            if fact.known or fact.key in self.known:
                c.duplicates += 1
            else:
                c.events += 1
            self.known.add(fact.key)
        self._moved_s = fact.at if len(self._asked) > len(self._failed) else math.inf
        if fact.error is not None and not self.troubled:
            self._trouble(fact.at)
        if not self._asked:
            self.troubled = False

"""A world of one client that dials, sends and hears frames with numbers: the shell's duties, and trouble between it and its server.

What belongs here: what is the same for a server with a ring and for one with a log. A world adds what its client says and hears as fact, what must
hold after every input, and trouble of its own.
"""

from __future__ import annotations

import copy
import math
import operator
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from syncwatch.core.effects import Close, Dial, Handshake, Send
from syncwatch.core.ledger import Ledger as CoreLedger
from syncwatch.core.resume import ResumePoint
from syncwatch.core.session import Session, SessionSettings
from syncwatch.core.snapshot import ContinuitySnapshot, HeartbeatSnapshot
from syncwatch.core.states import ESTABLISHED, Anomaly, AttemptFailure, Disconnect, GapCause, Origin
from syncwatch.core.wire import FrameKind
from tests.simulation.harness.course import PATIENCE_S, WALL_S, BrokenInvariantError, Course, Fold, Narrator, Schedule
from tests.simulation.harness.facts import Arrived, Closed, Fact, Frame, Kind, Ledger, Opened, Pinged
from tests.simulation.harness.network import Caller, Door, Network
from tests.simulation.harness.plans import Act


class Judging(Fold, Protocol):
    """What the oracles of numbered frames have."""

    @property
    def resyncs(self) -> Mapping[tuple[str, str], int]:
        """How replays ended: claim and verdict."""

    def feed(self, fact: Fact) -> None:
        """The next fact."""


class Server(Protocol):
    """What trouble is made with."""

    faults: Any
    counter: int
    clock_offset_s: float

    def release(self) -> None:
        """Send what a swap still holds back."""


AnyPlan = TypeVar("AnyPlan", bound=Schedule)
AnyJudge = TypeVar("AnyJudge", bound=Judging)
AnyServer = TypeVar("AnyServer", bound=Server)


class Shell(Course[AnyPlan, AnyJudge], Caller, Generic[AnyPlan, AnyJudge, AnyServer]):
    """One schedule."""

    CALM_S: ClassVar[float]
    """Open and nothing under way for this long: nothing comes any more."""
    FRAMES: ClassVar[Mapping[Kind, FrameKind]] = {
        Kind.EVENT: FrameKind.EVENT,
        Kind.PONG: FrameKind.HEARTBEAT,
        Kind.GARBAGE: FrameKind.INVALID,
    }
    """As what a correct client counts them."""

    server: AnyServer
    network: Network

    def __init__(self, plan: AnyPlan, settings: SessionSettings, judge: AnyJudge, narrator: Narrator | None, pedantic: bool) -> None:
        super().__init__(plan, settings, judge, narrator)
        self.ledger = Ledger()
        self.dials: list[float] = []
        self.openings: list[float] = []
        self.closings: list[tuple[float, str]] = []  # by the session itself
        self.failures: Counter[str] = Counter()
        self._duties |= {Send: self._send, Dial: self._dial, Close: self._close}
        self._pedantic = pedantic
        self._judged = 0  # facts
        self._first_fact = 0  # of the present process
        self._saved: tuple[ResumePoint | None, AnyJudge] | None = None
        self._dialling: int | None = None
        self._established: int | None = None
        self._before: tuple[int, ...] = ()
        self._reached = 0  # by the server's counter, before it began anew
        self._restarted = False

    # -- what a world adds -------------------------------------------------------------------------------------------

    def _new_session(self, resume: ResumePoint | None) -> Session:
        raise NotImplementedError

    def _new_judge(self, saved: AnyJudge | None) -> AnyJudge:
        """The oracle of the next process, which knows what the state file told it."""
        raise NotImplementedError

    def _said(self, connection: int, data: bytes) -> None:
        """What the client sends, as fact."""
        raise NotImplementedError

    def _heard(self, frame: Frame, data: bytes) -> str:
        """What the client hears, told."""
        raise NotImplementedError

    def differences(self) -> list[str]:
        """Where the session does not show what the oracle computed."""
        raise NotImplementedError

    # -- the shell's duties ------------------------------------------------------------------------------------------

    def _send(self, effect: Send) -> None:
        connection = self._connection(effect.attempt)
        self._require(connection == self._established, f"a send on attempt {effect.attempt}, open is {self._established}")
        data = effect.data.encode() if isinstance(effect.data, str) else effect.data
        self._said(connection, data)
        if self._tell is not None:
            self._say(f"-> {data.decode()}")
        self.network.links[connection].send(data)

    def _dial(self, effect: Dial, told: str = "") -> None:
        self._require(self._dialling is None and self._established is None, "a dial while another attempt lives")
        connection = self._connection(effect.attempt)
        self._require(connection not in self.network.links, "an attempt's number was used twice")
        self.dials.append(self.timeline.now)
        self._dialling = connection
        self._say(f"-> dial {connection}{told}")
        self.network.dial(connection, effect.timeout_s)

    def _close(self, effect: Close) -> None:
        connection = self._connection(effect.attempt)
        self._require(connection in (self._dialling, self._established), f"a close of {effect.attempt}, which is not alive")
        self._say(f"-> close {connection} {effect.code} {effect.reason}")
        if connection == self._established:
            self.closings.append((self.timeline.now, effect.reason))
        else:
            self.failures["given up"] += 1
        self._dialling = self._established = None
        self.network.hang_up(connection, effect.reason)

    def opened(self, connection: int) -> None:
        """The dial succeeded."""
        self._dialling, self._established = None, connection
        self.openings.append(self.timeline.now)
        self._say(f"<- opened {connection}")
        self._input(self.session.opened(self.timeline.now, self._attempt(connection), Handshake(tcp_s=0.01, upgrade_s=0.01)))

    def failed(self, connection: int, door: Door) -> None:
        """The dial did not."""
        self._dialling = None
        reason = AttemptFailure(door.refusal or "protocol")
        self.failures[reason.value] += 1
        self._say(f"<- failed {connection} {reason} {door.status or ''}")
        detail = f"HTTP {door.status}"
        self._input(self.session.failed(self.timeline.now, self._attempt(connection), reason, detail, door.retry_after_s))

    def received(self, connection: int, data: bytes, binary: bool) -> None:
        """A message arrived."""
        self._require(connection == self._established, "the network delivered to a closed socket")
        if self._tell is not None:
            fact = self.ledger.facts[-1]
            assert isinstance(fact, Arrived)
            self._say(f"<- {self._heard(fact.frame, data)}")
        self._input(self.session.received(self.timeline.now, self._attempt(connection), data, binary))

    def closed(self, connection: int, reason: str, code: int | None) -> None:
        """The socket ended, and not by the client's will."""
        self._established = None
        self._say(f"<- closed {connection} {reason} {code}")
        self._input(self.session.closed(self.timeline.now, self._attempt(connection), Disconnect(reason), code, ""))

    # -- what must hold after every input, in parts ------------------------------------------------------------------

    def _adds_up(self, c: CoreLedger | ContinuitySnapshot, h: HeartbeatSnapshot) -> None:
        """What was missed, and what was sent, is accounted for."""
        if c.missed != c.recovered + c.lost + c.unaccounted + c.missing or c.missing < 0:
            raise self._broken(f"missed {c.missed} != recovered {c.recovered} + lost {c.lost} + unaccounted {c.unaccounted} + missing {c.missing}")
        if h.sent != h.acknowledged + h.missed + h.outstanding:
            raise BrokenInvariantError(f"heartbeats do not add up: {h}")

    def _never_falls(self, now: tuple[int, ...]) -> None:
        if any(map(operator.lt, now, self._before)):
            raise BrokenInvariantError(f"a counter fell: {self._before} -> {now}")
        self._before = now

    def _follow(self) -> None:
        """Tell the oracle what happened until now."""
        facts = self.ledger.facts
        while self._judged < len(facts):
            self.judge.feed(facts[self._judged])
            self._judged += 1
        self.judge.advance(self.timeline.now)

    def _knows_its_socket(self) -> None:
        if (self.session.state in ESTABLISHED) != (self._established is not None):
            raise BrokenInvariantError(f"state {self.session.state} with attempt {self._established} open")

    # -- comparing ---------------------------------------------------------------------------------------------------

    def shown(self) -> dict[str, int]:
        """What the session's own snapshot says, under the oracle's names: what is counted whatever the protocol."""
        snapshot = self.session.snapshot()
        c, anomalies = snapshot.continuity, snapshot.anomalies
        assert c is not None
        return {
            "live": c.events_received[Origin.LIVE],
            "ring": c.events_received[Origin.RING],
            "store": c.events_received[Origin.STORE],
            "undecided": c.undecided,
            "duplicates": c.duplicates,
            "out_of_order": c.out_of_order,
            "missed": c.missed,
            "recovered": c.recovered,
            "lost": c.lost,
            "unaccounted": c.unaccounted,
            "missing": c.missing,
            "late": c.late,
            "resets": c.resets,
            "replayed": c.replayed,
            "gaps_live": c.gaps[GapCause.LIVE],
            "gaps_reconnect": c.gaps[GapCause.RECONNECT],
            "malformed": anomalies[Anomaly.MALFORMED],
            "bad_sequence": anomalies[Anomaly.BAD_SEQUENCE],
        }

    def _resync_differences(self) -> list[str]:
        continuity = self.session.snapshot().continuity
        assert continuity is not None
        resyncs = {(claim.value, verdict.value): n for (claim, verdict), n in continuity.resyncs.items() if n}
        expected = dict(self.judge.resyncs)
        return [] if resyncs == expected else [f"resyncs: oracle {expected}, session {resyncs}"]

    def _shell_differences(self) -> list[str]:
        """Counters that the shell's own doings decide."""
        snapshot, facts = self.session.snapshot(), self.ledger.facts[self._first_fact :]
        arrived = Counter(fact.frame.kind for fact in facts if isinstance(fact, Arrived))
        opened = sum(isinstance(fact, Opened) for fact in facts)
        expected: dict[str, tuple[int, int]] = {
            "attempts": (len(self.dials), snapshot.attempts),
            "reconnects": (max(opened - 1, 0), snapshot.reconnects),
            "disconnects": (sum(isinstance(fact, Closed) for fact in facts), sum(snapshot.disconnects.values())),
            "heartbeats sent": (sum(isinstance(fact, Pinged) for fact in facts), snapshot.heartbeat.sent),
            "heartbeats acknowledged": (arrived[Kind.PONG], snapshot.heartbeat.acknowledged),
        }
        for kind, counted in self.FRAMES.items():
            expected[f"{counted} frames"] = (arrived[kind], snapshot.frames_received[counted])
        for reason in AttemptFailure:
            told = self.failures[reason.value] + (self.failures["given up"] if reason is AttemptFailure.TIMEOUT else 0)
            expected[f"failures {reason}"] = (told, snapshot.attempt_failures[reason])
        return [f"{name}: fact {fact}, session {shown}" for name, (fact, shown) in expected.items() if fact != shown]

    # -- how a schedule ends -----------------------------------------------------------------------------------------

    def _quiet(self) -> None:
        """All faults off; then wait for calm."""
        self._say("== quiet")
        self._writing = False
        self.server.faults = type(self.server.faults)()
        self.network.door = Door()
        self._thaw("both")
        self.server.release()
        self.timeline.after(1.0, self._await_calm)

    def _await_calm(self) -> None:
        now = self.timeline.now
        self._require(now < self.began + self.plan.length_s + PATIENCE_S, f"never at rest: {self.session.state}")
        if self._dead or now - self.calm_since < self.CALM_S or self._something_comes():
            self.timeline.after(1.0, self._await_calm)
        elif not self._restarted:
            self._restarted = True
            self._say("== the forced clean reconnect")
            link = self.network.link
            assert link is not None
            link.drop("peer_closed", 1001, flush=True)
            self.calm_since = math.inf
            self.timeline.after(1.0, self._await_calm)
        else:
            self.done = True

    def _something_comes(self) -> bool:
        """Whether something is under way that the session cannot know."""
        return False

    # -- acts --------------------------------------------------------------------------------------------------------

    def _act_drop(self, act: Act) -> None:
        link = self.network.link
        if link is None:
            return
        if act.name == "cut":
            link.cut("network", None)
        elif act.name == "close":
            link.drop("overflow" if act.value == 1013 else "peer_closed", int(act.value or 1000), flush=True)
        else:
            link.drop("network", None, flush=act.name == "flush")

    def _act_door(self, act: Act) -> None:
        if act.name == "hang":
            self.network.door = Door(hang=True)
        else:
            status = None if act.value is None else int(act.value)
            self.network.door = Door(act.name or None, status, None if act.extra is None else float(act.extra))

    def _act_burst(self, act: Act) -> None:
        for _ in range(int(act.value or 0)):
            self._event()

    def _act_set(self, act: Act) -> None:
        setattr(self.server.faults, act.name, act.value)

    def _act_unset(self, act: Act) -> None:
        setattr(self.server.faults, act.name, getattr(type(self.server.faults)(), act.name))
        if act.name == "swap":
            self.server.release()

    def _act_overtake(self, act: Act) -> None:
        """The counter that began anew passes the old one's."""
        for _ in range(400):
            if self.server.counter >= self._reached + int(act.value or 0):
                break
            self._event()

    def _act_freeze(self, act: Act) -> None:
        link = self.network.link
        if link is not None:
            if act.name in ("down", "both"):
                link.down.frozen = True
            if act.name in ("up", "both"):
                link.up.frozen = True

    def _act_thaw(self, act: Act) -> None:
        self._thaw(act.name)

    def _thaw(self, name: str) -> None:
        link = self.network.link
        if link is not None:
            if name in ("down", "both"):
                link.down.thaw()
            if name in ("up", "both"):
                link.up.thaw()

    def _act_server_clock(self, act: Act) -> None:
        self.server.clock_offset_s += float(act.value or 0.0)

    def _act_client_clock(self, act: Act) -> None:
        self.client_clock_s += float(act.value or 0.0)

    # -- processes ---------------------------------------------------------------------------------------------------

    def _start(self, point: ResumePoint | None) -> None:
        self._input(self.session.start(self.timeline.now))

    def _act_save(self, act: Act) -> None:
        """The state file is written: at most once a second, so what comes between this and a crash is forgotten."""
        if not self._dead:
            self._follow()
            self._saved = self.session.resume_point(self.timeline.now), copy.deepcopy(self.judge)

    def _act_crash(self, act: Act) -> None:
        """SIGKILL: the process is gone with its sockets; the next one has nothing but the state file, and its counters start at 0."""
        if self._saved is None or self._dead:
            return
        for connection in {self._dialling, self._established} - {None}:
            assert connection is not None
            self.network.hang_up(connection, "killed")
        self._dialling = self._established = None
        self._dead = True
        self.calm_since = math.inf
        self.timeline.after(float(act.value or 0.0), self._revive)

    def _revive(self) -> None:
        assert self._saved is not None
        point, judged = self._saved
        self._process += 1
        self.session = self._new_session(point)
        self.judge = self._new_judge(None if point is not None and self._stale(point) else judged)
        self._judged = self._first_fact = len(self.ledger.facts)
        self.dials, self.openings, self.closings, self.failures = [], [], [], Counter()
        self._before = ()
        self._dead = False
        self._say("== the next process")
        self._input(self.session.wall(self.timeline.now, WALL_S + self.client_clock_s))
        self._start(point)

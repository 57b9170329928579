"""The real Session with the real codec of a TPS host, run on simulated time against a simulated branch and a simulated disk.

What belongs here: the shell's duties, performed mechanically; what must hold after every input; how trouble begins and ends. The course of a schedule
is that of every simulation (`harness/course.py`).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

from syncwatch.core.effects import Close, Dial, Handshake, Hold, Send, Store
from syncwatch.core.health import INCIDENTS, Reason
from syncwatch.core.resume import ResumePoint
from syncwatch.core.session import Session, SessionSettings
from syncwatch.core.states import AttemptFailure, Direction, Disconnect, Origin, State
from syncwatch.core.wire import FrameKind, Protocol
from syncwatch.protocols.tps.codec import Tps
from syncwatch.protocols.tps.frames import Type, unpack
from syncwatch.protocols.tps.keys import Identity
from tests.simulation.harness.course import PATIENCE_S, PER_PROCESS, WALL_S, Course, Narrator, Verdict
from tests.simulation.harness.facts import Fact
from tests.simulation.harness.network import Door
from tests.simulation.harness.plans import Act
from tests.simulation.harness.runner import Simulation
from tests.simulation.tps.branch import Branch, Faults
from tests.simulation.tps.disk import Disk, DiskFaults
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
from tests.simulation.tps.network import Host, Link, Network, Side
from tests.simulation.tps.oracle import Judge
from tests.simulation.tps.plans import Plan, plan, plan_of

CALM_S = 6.0
READ_AHEAD = 12
"""So many messages at most are handed in although nothing more is to be read: they were read already."""
HOST, BRANCH = Identity(b"\x01" * 32), Identity(b"\x02" * 32)
FROM_STATE = frozenset(
    {
        Reason.FAILED,
        Reason.CONNECTING,
        Reason.RECONNECTING,
        Reason.UNAUTHORIZED,
        Reason.FORBIDDEN,
        Reason.HANDSHAKE_TIMEOUT,
        Reason.RATE_LIMITED,
        Reason.UPSTREAM_ERROR,
    }
)
"""Reasons that say how handshakes end; the counters of those are compared."""


def real_protocol() -> Tps:
    """The real codec."""
    return Tps("ws://branch:6458/tps/wire", HOST, BRANCH.encryption_key, "b1")


class World(Course[Plan, Judge], Host):
    """One schedule, compared after every input whether or not it is to be `pedantic`. `make_session` and `make_protocol` are for deliberate mistakes."""

    MOST_AT_ONE_MOMENT = 12

    def __init__(
        self,
        plan: Plan,
        make_protocol: Callable[[], Protocol] = real_protocol,
        make_session: Callable[..., Session] = Session,
        narrator: Narrator | None = None,
        pedantic: bool = True,
    ) -> None:
        settings = SessionSettings(heartbeat_interval_s=plan.interval_s, heartbeat_timeout_s=plan.timeout_s)
        super().__init__(plan, settings, Judge(plan.interval_s, plan.timeout_s), narrator)
        rng = random.Random(f"tps world {plan.seed}")
        self.branch = Branch(self.timeline, random.Random(rng.random()), BRANCH, HOST.encryption_key)
        self.disk = Disk(self.timeline, random.Random(rng.random()), self._stored)
        self.network = Network(self.timeline, random.Random(rng.random()), self.branch, self, plan.latency_s)
        self.facts: list[Fact] = []
        self.arrived: set[str] = set()  # mails that any process was handed
        self.excused: set[str] = set()  # of them, those that a process took with it when it was killed
        self._rng = random.Random(rng.random())
        self._entropy = random.Random(rng.random())
        self._make_protocol = make_protocol
        self._make_session = make_session
        self._duties |= {Store: self._store, Send: self._send, Dial: self._dial, Close: self._close, Hold: self._hold}
        self._stopped = False  # told to stop; what it says still counts
        self._links: dict[int, Link] = {}
        self._present: Link | None = None
        self._dialling = False
        self._held = False
        self._ahead = 0
        self._unread: list[tuple[Link, bytes, What, str]] = []
        self._saved: ResumePoint | None = None
        self._lifetime = 0
        self._owed: str | None = None  # a mail that was just handed in: it must be stored first of all
        self._collected: set[str] = set()  # somebody took them off the disk
        self.session = self._new_session(None)
        for _ in range(plan.waiting):
            self._event()

    def _new_session(self, resume: ResumePoint | None) -> Session:
        return self._make_session("host", self._make_protocol(), self.settings, self._entropy, upstream="ws://branch", resume=resume)

    # -- the shell's duties --------------------------------------------------------------------------------------------

    def _add(self, fact: Fact) -> None:
        self._say(str(fact))
        self.facts.append(fact)
        self.judge.fold(fact)

    def _store(self, effect: Store) -> None:
        key = effect.name.removesuffix(".json")
        if self._owed is not None:
            self._require(self._owed == key, f"{self._owed} came, and {key} is stored")
            self._owed = None
        self._add(Asked(self.timeline.now, effect.deposit_id, key))
        self.disk.ask(effect)

    def _stored(self, effect: Store, error: str | None, known: bool) -> None:
        self._add(Kept(self.timeline.now, effect.deposit_id, effect.name.removesuffix(".json"), error, known))
        self._input(self.session.stored(self.timeline.now, effect.deposit_id, error, known))

    def _send(self, effect: Send) -> None:
        link = self._present
        self._require(link is not None and not self._dialling and effect.attempt == self._attempt(link.connection), "a send without a connection")
        assert link is not None
        assert isinstance(effect.data, bytes)
        channel = self.branch.channels[link.connection]
        if channel.peek is not None:
            frame = unpack(channel.peek.decrypt(effect.data))
            if frame.type == Type.HEARTBEAT:
                self._add(Pinged(self.timeline.now, link.connection, str(frame.seq)))
            else:
                self._require(frame.type == Type.HTTP_RESPONSE, f"a host sends no {frame.type}")
        link.send(effect.data)

    def _dial(self, effect: Dial) -> None:
        self._require(self._present is None, "a dial while another attempt lives")
        connection = self._connection(effect.attempt)
        self._require(connection not in self._links, "an attempt's number was used twice")
        self._add(Dialled(self.timeline.now, connection))
        self._dialling = True
        door = self.network.door
        if self.branch.frozen:
            self.network.door = Door(hang=True)
        self._present = self._links[connection] = self.network.dial(connection, effect.timeout_s)
        self.network.door = door

    def _close(self, effect: Close) -> None:
        link = self._present
        self._require(link is not None and effect.attempt == self._attempt(link.connection), "a close of what is not there")
        assert link is not None
        self._add(Closed(self.timeline.now, link.connection, ours=True, reason=effect.reason))
        self._present, self._dialling, self._held = None, False, False
        link.leave()

    def _hold(self, effect: Hold) -> None:
        self._require(self._present is not None and effect.attempt == self._attempt(self._present.connection), "held what is not there")
        self._require(effect.on is not self._held, "held twice")
        self._add(Held(self.timeline.now, effect.on))
        self._held, self._ahead = effect.on, self._rng.randint(0, READ_AHEAD)
        if not effect.on:
            self.timeline.after(0.0, self._read_on)

    def _read_on(self) -> None:
        while self._unread and not self._held:
            self._hand_in(*self._unread.pop(0))

    def _ours(self, link: Link) -> bool:
        return not self._dead and link.connection // PER_PROCESS == self._process

    def opened(self, link: Link) -> None:
        """The dial succeeded."""
        self._dialling = False
        self._add(Opened(self.timeline.now, link.connection))
        self._input(self.session.opened(self.timeline.now, self._attempt(link.connection), Handshake()))

    def failed(self, link: Link, reason: str) -> None:
        """The dial did not."""
        if not self._ours(link):
            return
        self._present, self._dialling = None, False
        self._add(Failed(self.timeline.now, link.connection, reason))
        self._input(self.session.failed(self.timeline.now, self._attempt(link.connection), AttemptFailure(reason)))

    def received(self, link: Link, data: bytes, what: What, key: str) -> None:
        """A message came to the socket; whether it is read is another question."""
        if not self._ours(link):
            return
        if (self._held and self._ahead <= 0) or self._unread:
            self._unread.append((link, data, what, key))
        else:
            self._ahead -= self._held
            self._hand_in(link, data, what, key)

    def _hand_in(self, link: Link, data: bytes, what: What, key: str) -> None:
        if not self._ours(link) or link.side not in (Side.OPEN, Side.LEAVING):
            return
        left = link.side is Side.LEAVING
        now = self.timeline.now
        self._add(Arrived(now, link.connection, what, key, left))
        effects = self.session.received(now, self._attempt(link.connection), data, True)
        if what is What.MAIL:
            self.arrived.add(key)
            self._owed = key
        self._input(effects)

    def closed(self, link: Link, reason: str, code: int | None) -> None:
        """The socket ended, and not by our will; what was not read is gone."""
        if not self._ours(link):
            return
        self._unread = [item for item in self._unread if item[0] is not link]
        self._present, self._held = None, False
        self._add(Closed(self.timeline.now, link.connection, ours=False, reason=reason, code=code))
        self._input(self.session.closed(self.timeline.now, self._attempt(link.connection), Disconnect(reason), code, ""))

    # -- what must hold after every input ------------------------------------------------------------------------------

    def _check(self) -> None:
        session, now = self.session, self.timeline.now
        heartbeat = session.heartbeat
        outstanding = heartbeat.snapshot().outstanding
        self._require(heartbeat.sent == heartbeat.acknowledged + heartbeat.missed + outstanding, "heartbeats do not add up")
        self._require(self._owed is None, f"{self._owed} came, and nothing was stored")
        self._require(not math.isnan(session.deadline), "the deadline is no number")
        waits = self._dialling or self._present is not None or session.unstored or session.deadline < math.inf
        self._require(bool(waits) or not session.active, "nothing will ever happen again")
        if session.deadline > now and not self._dead:
            self.judge.advance(now)
            self._require(not self.judge.complaints, "; ".join(self.judge.complaints))
            different = self.differences()
            self._require(not different, "; ".join(different))
        calm = session.state is State.OPEN and not self._conditions() and not session.unstored
        self._calm(calm and not self._writing)

    def shown(self) -> dict[str, int]:
        """The session's counters, under the oracle's names."""
        snapshot = self.session.snapshot()
        ledger, heartbeat, keeping = snapshot.continuity, snapshot.heartbeat, self.session.keeping
        assert ledger is not None
        assert keeping is not None
        return {
            "attempts": snapshot.attempts,
            "opens": self.session.attempts.opens,
            "events": sum(ledger.events_received.values()),
            "duplicates": ledger.duplicates,
            "waiting": self.session.unstored,
            "sent": heartbeat.sent,
            "acknowledged": heartbeat.acknowledged,
            "missed": heartbeat.missed,
            "late": heartbeat.late,
            "outstanding": heartbeat.outstanding,
            "half_open_receive": heartbeat.half_open[Direction.RECEIVE],
            "half_open_send": heartbeat.half_open[Direction.SEND],
            "event_frames": snapshot.frames_received[FrameKind.EVENT],
            "heartbeat_frames": snapshot.frames_received[FrameKind.HEARTBEAT],
            "control_frames": snapshot.frames_received[FrameKind.CONTROL],
            "answers": snapshot.frames_sent[FrameKind.CONTROL],
            "invalid_frames": snapshot.frames_received[FrameKind.INVALID],
            "storage_failures": keeping.failures,
        }

    def differences(self) -> list[str]:
        """Where the session does not show what the oracle computed."""
        found = self._unequal(self.shown())
        snapshot, judge = self.session.snapshot(), self.judge
        told: list[tuple[str, Counter[str], dict[str, int]]] = [
            ("failures", judge.failures, {str(reason): count for reason, count in snapshot.attempt_failures.items()}),
            ("disconnects", judge.disconnects, {str(reason): count for reason, count in snapshot.disconnects.items()}),
            ("close codes", judge.codes, dict(snapshot.close_codes.items())),
        ]
        for name, counted, have in told:
            if dict(counted) != {key: count for key, count in have.items() if count}:
                found.append(f"{name}: oracle {dict(counted)}, session {have}")
        reasons = {str(condition.reason) for condition in self.session.reasons(self.timeline.now) if condition.reason not in FROM_STATE}
        if self.session.active and reasons != judge.reasons(self.timeline.now):
            found.append(f"reasons: oracle {sorted(judge.reasons(self.timeline.now))}, session {sorted(reasons)}")
        if (self.session.state is State.OPEN) != judge.ready:
            found.append(f"state {self.session.state}, ready: {judge.ready}")
        ledger = snapshot.continuity
        assert ledger is not None
        if ledger.events_received[Origin.LIVE] != sum(ledger.events_received.values()):
            found.append("mail is live")
        return found

    def truth(self) -> list[str]:
        """A second opinion without any rule: what was handed to a process that was not killed over it is on the disk, and was counted once."""
        found: list[str] = []
        lost = {key for key in self.arrived - self.excused if f"{key}.json" not in self.disk.files and key not in self._collected}
        if lost:
            found.append(f"handed in and not on the disk: {sorted(lost)[:3]}")
        wrong = [name for name, content in self.disk.files.items() if f'"id":"{name.removesuffix(".json")}"' not in content.decode().lower()]
        if wrong:
            found.append(f"another mail under this name: {wrong[:3]}")
        if self.session.snapshot().lifetime.events != self._lifetime + self.session.ledger.events:
            found.append("lifetime totals are not what the processes counted")
        if self._process == 0 and not self._collected and self.disk.created != self.session.ledger.events:
            found.append(f"{self.disk.created} files and {self.session.ledger.events} events")
        return found

    # -- the course of a schedule --------------------------------------------------------------------------------------

    def run(self) -> Verdict:
        """Run it to its end and judge."""
        return self._verdict(self._lived() or self.truth())

    def _start(self, point: ResumePoint | None) -> None:
        now = self.timeline.now
        known = set() if point is None or self._stale(point) else {key for key in point.keys if isinstance(key, str)}
        self._add(Started(now, frozenset(known)))
        self._input(self.session.wall(now, WALL_S + self.client_clock_s))
        self._input(self.session.start(now))

    def _time_of_day(self) -> None:
        self._require(not self.session.wall(self.timeline.now, WALL_S + self.client_clock_s), "the time of day asks for nothing")

    def _event(self) -> None:
        self.branch.mail(self.plan.size)

    def _quiet(self) -> None:
        """All trouble is over; then wait for calm."""
        self._say("== quiet")
        self._writing = False
        self.branch.faults = Faults()
        self.disk.heal()
        self.network.door = Door()
        self.branch.rival(on=False)
        self.branch.thaw()
        self._go("both")
        self.timeline.after(1.0, self._await_calm)

    def _await_calm(self) -> None:
        now = self.timeline.now
        self._require(now < self.began + self.plan.length_s + PATIENCE_S, f"never at rest: {self.session.state} {self._conditions()}")
        if self._dead or now - self.calm_since < CALM_S or self.branch.outbox:
            self.timeline.after(1.0, self._await_calm)
        else:
            self.done = True

    def _conditions(self) -> list[Reason]:
        return [condition.reason for condition in self.session.reasons(self.timeline.now) if condition.reason not in INCIDENTS]

    # -- acts ----------------------------------------------------------------------------------------------------------

    def _act_end(self, act: Act) -> None:
        link = self._present
        if link is None or self._dialling:
            return
        if act.name == "reset":
            link.reset()
        elif act.name == "close":
            code = int(act.value or 1000)
            link.close("peer_closed" if code < 1002 else "peer_error", code)
        else:
            link.close("peer_closed", 1000)
            self.network.door = Door("refused")
            self.timeline.after(self._rng.uniform(0.1, 5.0), lambda: setattr(self.network, "door", Door()))

    def _act_set(self, act: Act) -> None:
        setattr(self.branch.faults, act.name, act.value)

    def _act_unset(self, act: Act) -> None:
        setattr(self.branch.faults, act.name, getattr(Faults(), act.name))

    def _act_burst(self, act: Act) -> None:
        for _ in range(min(int(act.value or 0), 12_000_000 // (self.plan.size + 1))):
            self._event()

    def _act_freeze(self, act: Act) -> None:
        self.branch.frozen = True

    def _act_thaw(self, act: Act) -> None:
        self.branch.thaw()

    def _act_stop(self, act: Act) -> None:
        link = self._present
        if link is not None:
            link.down.frozen = link.down.frozen or act.name in ("down", "both")
            link.up.frozen = link.up.frozen or act.name in ("up", "both")

    def _act_go(self, act: Act) -> None:
        self._go(act.name)

    def _go(self, name: str) -> None:
        for link in self._links.values():
            if name in ("down", "both") and link.down.frozen:
                link.down.thaw()
            if name in ("up", "both") and link.up.frozen:
                link.up.thaw()

    def _act_door(self, act: Act) -> None:
        self.network.door = Door(hang=True) if act.name == "hang" else Door(act.name or None)

    def _act_disk(self, act: Act) -> None:
        if not act.name:
            self.disk.heal()
        elif act.name == "hang":
            self.disk.faults = DiskFaults(hang=True)
        elif act.name == "slow":
            self.disk.faults = DiskFaults(slow_s=float(act.value or 0.0))
        else:
            self.disk.faults = DiskFaults(error=act.name, chance=float(act.value or 1.0))

    def _act_collect(self, act: Act) -> None:
        self._collected |= {name.removesuffix(".json") for name in self.disk.files}
        self.disk.collect()

    def _act_rival(self, act: Act) -> None:
        self.branch.rival(on=act.name == "on")

    def _act_clock(self, act: Act) -> None:
        self.client_clock_s += float(act.value or 0.0)

    # -- processes -----------------------------------------------------------------------------------------------------

    def _act_save(self, act: Act) -> None:
        if not self._dead:
            self._saved = self.session.resume_point(self.timeline.now)

    def _act_kill(self, act: Act) -> None:
        """SIGKILL: the process is gone with its sockets, and with what was not written yet."""
        if self._dead:
            return
        self._end_process(float(act.value or 0.0))

    def _act_stop_process(self, act: Act) -> None:
        """SIGTERM: what is on its way is still taken and stored, then the process ends. The disk is well: else it could not."""
        if self._dead or self._stopped:
            return
        self.disk.heal()
        self._stopped = True
        self.judge.stopping()
        self._input(self.session.stop(self.timeline.now))
        until = self.timeline.now + 900.0  # longer than a real one would be given: this is about what it does, not how fast
        while self.timeline.now < until:
            if self.session.unstored == 0 and all(link.side is not Side.LEAVING for link in self._links.values()):
                break
            self.timeline.step()
        self._require(self.session.unstored == 0, "stopped in order, and something was not stored")
        self._act_save(act)
        self._end_process(float(act.value or 0.0))

    def _end_process(self, pause_s: float) -> None:
        writing = {key for key in self.arrived if f"{key}.json" not in self.disk.files and key not in self._collected} - self.excused
        self.excused |= writing
        self._add(Killed(self.timeline.now, frozenset(writing)))
        for link in self._links.values():
            if link.side is not Side.GONE:
                link.kill()
        self.disk.killed()
        self._unread.clear()
        self._present, self._dialling, self._held, self._dead = None, False, False, True
        self.calm_since = math.inf
        self.timeline.after(pause_s, self._revive)

    def _revive(self) -> None:
        point = self._saved
        self._process += 1
        self._dead = self._stopped = False
        self._lifetime = 0 if point is None else point.totals.events
        self.judge = Judge(self.plan.interval_s, self.plan.timeout_s)
        self.session = self._new_session(point)
        self._say("== the next process")
        self._start(point)


SIMULATION = Simulation(plan, plan_of, World, "tps", "--tps", chunk=10, report_every=1000, exempts=False)

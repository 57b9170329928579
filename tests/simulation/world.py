"""The real Session with the real codec, run on simulated time against the simulated relay.

What belongs here: the shell's duties, performed mechanically; the invariants that must hold after every input; the course of one schedule.
"""

from __future__ import annotations

import copy
import math
import operator
import random
from collections import Counter
from collections.abc import Callable

import msgspec

from syncwatch.core.effects import Close, Dial, Effects, Handshake, Notify, Send
from syncwatch.core.resume import ResumePoint
from syncwatch.core.session import Session, SessionSettings
from syncwatch.core.states import ESTABLISHED, Anomaly, AttemptFailure, Disconnect, GapCause, Origin, State
from syncwatch.core.wire import FrameKind, Protocol
from syncwatch.protocols.relaycast import Relaycast
from tests.simulation.facts import Arrived, Closed, Kind, Ledger, Opened, Pinged, Requested
from tests.simulation.faults import FAITHFUL, Act, Plan, plan, plan_of
from tests.simulation.harness.runner import Simulation
from tests.simulation.network import Caller, Door, Network, Timeline
from tests.simulation.oracle import Judge, Rules, plain_truth
from tests.simulation.relay import OTHERS, WATCHED, AckFault, CutThen, Faults, Relay

CALM_S = 5.5  # open and no round for this long: nothing is under way any more (a full resync may wait 5 s)
STRAGGLERS_S = 13.0  # the last straggler is home
PATIENCE_S = 900.0  # a schedule that has not come to rest after this long never will
MOST_INPUTS = 200_000
PER_PROCESS = 100_000
WALL_S = 1_781_000_000.0  # the server's wall clock at monotonic 0


class BrokenInvariantError(AssertionError):
    """An invariant does not hold."""


class Verdict(msgspec.Struct, frozen=True):
    """What a schedule ended with: every disagreement in words, none when all is well."""

    plan: Plan
    problems: tuple[str, ...]
    exemptions: Counter[str]
    expected: dict[str, int]
    shown: dict[str, int]


class World(Caller):
    """One schedule."""

    def __init__(
        self,
        plan: Plan,
        protocol: Callable[[Plan], Protocol] | None = None,
        narrator: Callable[[float, str], None] | None = None,
        pedantic: bool = False,
        settings: SessionSettings | None = None,
    ) -> None:
        rng = random.Random(f"world {plan.seed}")
        self.plan = plan
        self.timeline = Timeline()
        self.began = self.timeline.now
        self.ledger = Ledger()
        self.relay = Relay(
            self.timeline, self.ledger, random.Random(rng.random()), plan.ring_size, plan.page_limit, plan.query_s
        )
        self.network = Network(self.timeline, random.Random(rng.random()), self.ledger, self.relay, self, plan.latency_s)
        self.rules = Rules(max_jump=plan.max_jump, page_limit=plan.page_limit, verify_interval_s=plan.verify_interval_s)
        self.judge = Judge(self.rules)
        self.settings = msgspec.structs.replace(
            settings or SessionSettings(), max_jump=plan.max_jump, verify_interval_s=plan.verify_interval_s
        )
        self.client_clock_s = plan.client_clock_s
        self.dials: list[float] = []
        self.openings: list[float] = []
        self.closings: list[tuple[float, str]] = []  # by the session itself
        self.failures: Counter[str] = Counter()
        self.calm_since = math.inf
        self.done = False
        self._tell = narrator
        self._entropy = random.Random(rng.random())
        self._make_protocol = protocol or ring_protocol
        self._dead = False  # between two processes
        self._process = 0  # connections of later processes are numbered from PER_PROCESS on
        self._first_fact = 0  # of the present process
        self._saved: tuple[ResumePoint | None, Judge] | None = None
        self._pedantic = pedantic
        self._traffic = random.Random(rng.random())
        self._writing = True
        self._judged = 0
        self._inputs = 0
        self._dialling: int | None = None
        self._established: int | None = None
        self._before: tuple[int, ...] = ()
        self._restarted = False
        self._quiet_s = STRAGGLERS_S if "straggle" in plan.kinds else 0.0
        self.session = self._new_session(None)

    def _new_session(self, resume: ResumePoint | None) -> Session:
        return Session("cast", self._make_protocol(self.plan), self.settings, self._entropy, upstream="ws://relay:8787", resume=resume)

    def _connection(self, attempt: int) -> int:
        return attempt + PER_PROCESS * self._process

    def _attempt(self, connection: int) -> int:
        return connection - PER_PROCESS * self._process

    # -- the shell's duties ------------------------------------------------------------------------------------------

    def _input(self, effects: Effects) -> None:
        """Perform effects in order, then hold the session to its invariants."""
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect)
            elif isinstance(effect, Dial):
                self._dial(effect)
            elif isinstance(effect, Close):
                self._close(effect)
            elif isinstance(effect, Notify):
                if self._tell is not None:
                    fields = " ".join(f"{key}={value}" for key, value in effect.fields.items())
                    self._tell(self.timeline.now, f"  notify {effect.notice} {fields}")
            else:
                raise BrokenInvariantError(f"nobody asked for a poll: {effect}")
        self._check()

    def _send(self, effect: Send) -> None:
        connection = self._connection(effect.attempt)
        self._require(connection == self._established, f"a send on attempt {effect.attempt}, open is {self._established}")
        data = effect.data.encode() if isinstance(effect.data, str) else effect.data
        said = msgspec.json.decode(data)
        now = self.timeline.now
        if said["type"] == "resync":
            self.ledger.add(Requested(now, connection, said["last_seen_seq"], said.get("since")))
        elif said["type"] == "ping":
            self.ledger.add(Pinged(now, connection))
        if self._tell is not None:
            self._tell(now, f"-> {data.decode()}")
        self.network.links[connection].send(data)

    def _dial(self, effect: Dial) -> None:
        self._require(self._dialling is None and self._established is None, "a dial while another attempt lives")
        connection = self._connection(effect.attempt)
        self._require(connection not in self.network.links, "an attempt's number was used twice")
        self.dials.append(self.timeline.now)
        self._dialling = connection
        self._say(f"-> dial {connection}")
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
            label = fact.frame.label if isinstance(fact, Arrived) else None
            self._tell(self.timeline.now, f"<- {label or ''} {data.decode(errors='replace')}")
        self._input(self.session.received(self.timeline.now, self._attempt(connection), data, binary))

    def closed(self, connection: int, reason: str, code: int | None) -> None:
        """The socket ended, and not by the client's will."""
        self._established = None
        self._say(f"<- closed {connection} {reason} {code}")
        self._input(self.session.closed(self.timeline.now, self._attempt(connection), Disconnect(reason), code, ""))

    def _say(self, text: str) -> None:
        if self._tell is not None:
            self._tell(self.timeline.now, text)

    # -- what must hold after every input ----------------------------------------------------------------------------

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise BrokenInvariantError(f"t={self.timeline.now - self.began:.3f}: {what}")

    def _check(self) -> None:
        self._inputs += 1
        self._require(self._inputs < MOST_INPUTS, "the session never rests")
        snapshot = self.session.snapshot()
        c, h = snapshot.continuity, snapshot.heartbeat
        assert c is not None
        if c.missed != c.recovered + c.lost + c.unaccounted + c.missing or c.missing < 0:
            raise BrokenInvariantError(f"t={self.timeline.now - self.began:.3f}: missed {c.missed} != recovered {c.recovered} + lost {c.lost} + unaccounted {c.unaccounted} + missing {c.missing}")
        if h.sent != h.acknowledged + h.missed + h.outstanding:
            raise BrokenInvariantError(f"heartbeats do not add up: {h}")
        now = (
            c.missed, c.recovered, c.lost, c.unaccounted, c.late, c.resets, c.replayed, c.duplicates, c.out_of_order,
            h.sent, h.acknowledged, h.missed, h.late, *c.events_received.values(), sum(c.resyncs.values()), *c.gaps.values(),
        )  # fmt: skip
        if any(map(operator.lt, now, self._before)):
            raise BrokenInvariantError(f"a counter fell: {self._before} -> {now}")
        self._before = now
        self._follow()
        self.judge.advance(self.timeline.now)
        if c.undecided and self.judge.round is None:
            raise BrokenInvariantError(f"t={self.timeline.now - self.began:.3f}: {c.undecided} undecided and no round open")
        if (self.session.state in ESTABLISHED) != (self._established is not None):
            raise BrokenInvariantError(f"state {self.session.state} with attempt {self._established} open")
        if self.session.state is State.OPEN and self.judge.round is None:
            self.calm_since = min(self.calm_since, self.timeline.now)
        else:
            self.calm_since = math.inf
        if self._pedantic:
            differences = self.differences(self.judge)
            self._require(not differences, f"first disagreement: {differences}")

    def _follow(self) -> None:
        facts = self.ledger.facts
        while self._judged < len(facts):
            self.judge.feed(facts[self._judged])
            self._judged += 1

    # -- comparing ---------------------------------------------------------------------------------------------------

    def shown(self) -> dict[str, int]:
        """What the session's own snapshot says, under the oracle's names."""
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
            "implausible_jump": anomalies[Anomaly.IMPLAUSIBLE_JUMP],
            "ack_unsolicited": anomalies[Anomaly.ACK_UNSOLICITED],
            "ack_early": anomalies[Anomaly.ACK_EARLY],
            "ack_missing": anomalies[Anomaly.ACK_MISSING],
            "replay_short": anomalies[Anomaly.REPLAY_SHORT],
        }

    def differences(self, judged: Judge) -> list[str]:
        """Counters in which session and oracle differ."""
        expected, shown = msgspec.structs.asdict(judged.counters), self.shown()
        found = [f"{name}: oracle {expected[name]}, session {shown[name]}" for name in shown if expected[name] != shown[name]]
        continuity = self.session.snapshot().continuity
        assert continuity is not None
        resyncs = {(claim.value, verdict.value): n for (claim, verdict), n in continuity.resyncs.items() if n}
        if resyncs != dict(judged.resyncs):
            found.append(f"resyncs: oracle {dict(judged.resyncs)}, session {resyncs}")
        return found

    def _truth_differences(self, judged: Judge) -> list[str]:
        """A second opinion without any rule, where the server kept to its protocol and nothing had to be inferred."""
        if judged.exemptions or self._process or not self.plan.kinds or not FAITHFUL.issuperset(self.plan.kinds):
            return []
        shown, truth = self.shown(), plain_truth(self.ledger.facts)
        shown["given up"] = shown["lost"] + shown["unaccounted"]
        shown["events"] = shown["live"] + shown["ring"] + shown["store"] + shown["duplicates"]
        return [f"{name}: plain truth {truth[name]}, session {shown[name]}" for name in truth if truth[name] != shown[name]]

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
            "event frames": (arrived[Kind.EVENT], snapshot.frames_received[FrameKind.EVENT]),
            "control frames": (arrived[Kind.ACK], snapshot.frames_received[FrameKind.CONTROL]),
            "heartbeat frames": (arrived[Kind.PONG], snapshot.frames_received[FrameKind.HEARTBEAT]),
            "invalid frames": (arrived[Kind.GARBAGE], snapshot.frames_received[FrameKind.INVALID]),
        }
        for reason in AttemptFailure:
            told = self.failures[reason.value] + (self.failures["given up"] if reason is AttemptFailure.TIMEOUT else 0)
            expected[f"failures {reason}"] = (told, snapshot.attempt_failures[reason])
        return [f"{name}: fact {fact}, session {shown}" for name, (fact, shown) in expected.items() if fact != shown]

    # -- the course of a schedule ------------------------------------------------------------------------------------

    def run(self) -> Verdict:
        """Run it to its end and judge."""
        problems: list[str] = []
        try:
            self._course()
        except BrokenInvariantError as broken:
            problems.append(str(broken))
        except Exception as error:  # any exception out of the core is a finding, with its seed
            if self._tell is not None:
                raise
            problems.append(f"{type(error).__name__}: {error}")
        judged = self.judge
        judged.advance(self.timeline.now)
        problems += judged.manners.complaints
        if not any("t=" in problem[:2] for problem in problems):
            problems += self.differences(judged) + self._shell_differences() + self._truth_differences(judged)
            if judged.counters.missing:
                problems.append(f"the oracle itself still misses {judged.counters.missing} in the end")
        return Verdict(self.plan, tuple(problems), judged.exemptions, msgspec.structs.asdict(judged.counters), self.shown())

    def _course(self) -> None:
        timeline = self.timeline
        for act in self.plan.acts:
            timeline.at(self.began + act.at, self._acting(act))
        timeline.at(self.began, self._begin)
        timeline.after(self.plan.length_s, self._quiet)
        while not self.done:
            session = self.session
            if session.deadline <= timeline.next and not self._dead:
                timeline.now = max(timeline.now, session.deadline)
                self._input(session.tick(timeline.now))
                self._require(session.deadline > timeline.now, f"the deadline {session.deadline} did not move by a tick")
            else:
                timeline.step()

    def _begin(self) -> None:
        self._wall()
        self._input(self.session.start(self.timeline.now))
        self._post()

    def _wall(self) -> None:
        now = self.timeline.now
        if not self._dead:
            self._input(self.session.wall(now, WALL_S + self.client_clock_s))
        self.timeline.after(1.0, self._wall)

    def _post(self) -> None:
        """One post and the pause after it."""
        if self._writing:
            self._event()
            self.timeline.after(self._traffic.expovariate(1.0 / self.plan.pause_s), self._post)

    def _event(self) -> None:
        rng, relay = self._traffic, self.relay
        author = rng.choice((*OTHERS, WATCHED))
        choice = rng.random()
        if choice < 0.45:
            relay.message(author)
        elif choice < 0.55:
            relay.message(author, thread=True)
        elif choice < 0.68:
            relay.direct(author)
        elif choice < 0.73:
            relay.direct(author, thread=True)
        elif choice < 0.83:
            relay.reaction(author)
        elif choice < 0.90:
            relay.presence(rng.choice(OTHERS))
        elif choice < 0.96:
            relay.channel_updated()
        else:
            relay.foreign()

    def _quiet(self) -> None:
        """All faults off; then wait for calm."""
        self._say("== quiet")
        self._writing = False
        self.relay.faults = Faults()
        self.network.door = Door()
        self._thaw("both")
        self.relay.release()
        self.timeline.after(1.0, self._await_calm)

    def _await_calm(self) -> None:
        now = self.timeline.now
        self._require(now < self.began + self.plan.length_s + PATIENCE_S, f"never at rest: {self.session.state}")
        if now - self.calm_since < CALM_S or now < self.began + self.plan.length_s + self._quiet_s:
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

    # -- acts --------------------------------------------------------------------------------------------------------

    def _acting(self, act: Act) -> Callable[[], None]:
        def perform() -> None:
            self._say(f"== {act.what} {act.name} {'' if act.value is None else act.value} {'' if act.extra is None else act.extra}")
            getattr(self, f"_act_{act.what}")(act)

        return perform

    def _act_drop(self, act: Act) -> None:
        link = self.network.link
        if link is None:
            return
        if act.name == "cut":
            link.cut("network", None)
        elif act.name == "close":
            link.drop("peer_closed", int(act.value or 1000), flush=True)
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

    def _act_silence(self, act: Act) -> None:
        """Nobody writes any more."""
        self._writing = False

    def _act_set(self, act: Act) -> None:
        value: object = act.value
        if act.name == "ack":
            value = AckFault(str(value))
        elif act.name == "cut_then":
            value = CutThen(str(value))
        setattr(self.relay.faults, act.name, value)

    def _act_unset(self, act: Act) -> None:
        setattr(self.relay.faults, act.name, getattr(Faults(), act.name))
        if act.name == "swap":
            self.relay.release()

    def _act_restart(self, act: Act) -> None:
        self._reached = self.relay.counter
        self.relay.restart()

    def _act_overtake(self, act: Act) -> None:
        for _ in range(400):
            if self.relay.counter >= self._reached + int(act.value or 0):
                break
            self._event()

    def _act_save(self, act: Act) -> None:
        """The state file is written: at most once a second, so what comes between this and a crash is forgotten."""
        self._follow()
        self.judge.advance(self.timeline.now)
        self._saved = self.session.resume_point(self.timeline.now), copy.deepcopy(self.judge)

    def _act_crash(self, act: Act) -> None:
        """SIGKILL: the process is gone with its sockets; the next one has nothing but the state file, and its counters start at 0."""
        assert self._saved is not None
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
        now = self.timeline.now
        age_s = 0.0 if point is None else now + WALL_S + self.client_clock_s - point.saved_wall_s
        stale = abs(age_s) > self.settings.resume_max_age_s  # by the client's own clock: it starts fresh
        self.judge = Judge(self.rules) if stale else Judge.successor(judged, now)
        self._judged = self._first_fact = len(self.ledger.facts)
        self.dials, self.openings, self.closings, self.failures = [], [], [], Counter()
        self._before = ()
        self._dead = False
        self._say("== the next process")
        self._input(self.session.wall(now, WALL_S + self.client_clock_s))
        self._input(self.session.start(now))

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
        self.relay.clock_offset_s += float(act.value or 0.0)

    def _act_client_clock(self, act: Act) -> None:
        self.client_clock_s += float(act.value or 0.0)

    def _act_jump(self, act: Act) -> None:
        self.relay.jump(int(act.value or 0))

    def _act_foreign(self, act: Act) -> None:
        for _ in range(int(act.value or 0)):
            self.relay.foreign()


def ring_protocol(plan: Plan) -> Protocol:
    """The real codec; only the page limit is the plan's, as the simulated server's is."""
    protocol = Relaycast("ws://relay:8787", subscribe=("general",))
    protocol.page_limit = plan.page_limit
    return protocol


SIMULATION = Simulation(plan, plan_of, World)

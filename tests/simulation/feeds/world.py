"""The real Session with the real codecs Relayfile and RelaycastObserver, run on simulated time against a simulated server that keeps a log.

What belongs here: the shell's duties, performed mechanically; the invariants that must hold after every input; the course of one schedule.
"""

from __future__ import annotations

import copy
import functools
import math
import operator
import random
from collections import Counter
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import msgspec

from syncwatch.core.attempts import CREDENTIALS
from syncwatch.core.effects import Answer, Close, Dial, Effects, Handshake, Notify, Poll, Refused, Send
from syncwatch.core.health import INCIDENTS, Reason
from syncwatch.core.resume import ResumePoint, Totals
from syncwatch.core.session import Session, SessionSettings
from syncwatch.core.states import (
    ESTABLISHED,
    Anomaly,
    AttemptFailure,
    AuditResult,
    AuditVerdict,
    Disconnect,
    GapCause,
    Origin,
    State,
    Verification,
)
from syncwatch.core.wire import FeedProtocol, FrameKind, Request
from syncwatch.protocols.relaycast_observer import RelaycastObserver
from syncwatch.protocols.relayfile import Relayfile
from tests.simulation.facts import Arrived, Closed, Fact, Kind, Ledger, Opened, Pinged
from tests.simulation.faults import Act
from tests.simulation.feeds.facts import Asked, Dialled, Failed, Renewed, Row, Started, Written
from tests.simulation.feeds.http import FeedDoor, Http
from tests.simulation.feeds.oracle import Judge, Rules
from tests.simulation.feeds.plans import OBSERVER, RELAYFILE, Plan, plan, plan_of
from tests.simulation.feeds.servers import FILTER, Faults, ObserverServer, RelayfileServer, Server
from tests.simulation.harness.runner import Simulation
from tests.simulation.network import Caller, Door, Network, Timeline

CALM_S = 6.0
PATIENCE_S = 900.0  # a schedule that has not come to rest after this long never will
MOST_INPUTS = 100_000
MOST_AT_ONE_MOMENT = 6  # ticks
PER_PROCESS = 100_000
WALL_S = 1_781_000_000.0


class BrokenInvariantError(AssertionError):
    """An invariant does not hold."""


class Verdict(msgspec.Struct, frozen=True):
    """What a schedule ended with: every disagreement in words, none when all is well."""

    plan: Plan
    problems: tuple[str, ...]
    exemptions: Counter[str]
    expected: dict[str, int]
    shown: dict[str, int]


def real_protocol(plan: Plan) -> FeedProtocol:
    """The real codec."""
    if plan.protocol == RELAYFILE:
        return Relayfile("http://relay:8080", "ws_1", (FILTER,) if plan.hidden else ())
    return RelaycastObserver("http://relay:8787")


def newest_first(query: dict[str, list[str]]) -> bool:
    """Whether a request of the feed asks for the newest."""
    return query.get("direction") == ["desc"] or query.get("limit") == ["1"]


def position(query: dict[str, list[str]]) -> int | None:
    """After which number a request asks."""
    if "cursor" in query:
        return int(query["cursor"][0].removeprefix("evt_"))
    since = int(query.get("since", ["0"])[0])
    return since or None


class World(Caller):
    """One schedule."""

    def __init__(
        self,
        plan: Plan,
        protocol: Callable[[Plan], FeedProtocol] | None = None,
        narrator: Callable[[float, str], None] | None = None,
        pedantic: bool = False,
        settings: SessionSettings | None = None,
    ) -> None:
        rng = random.Random(f"feed world {plan.protocol} {plan.seed}")
        self.plan = plan
        self.timeline = Timeline()
        self.began = self.timeline.now
        self.ledger = Ledger()
        kind = RelayfileServer if plan.protocol == RELAYFILE else ObserverServer
        self.server: Server = kind(
            self.timeline, self.ledger, random.Random(rng.random()), plan.page_rows, plan.buffer, plan.hidden
        )
        self.network = Network(self.timeline, random.Random(rng.random()), self.ledger, self.server, self, plan.latency_s)
        self.http = Http(self.timeline, random.Random(rng.random()), self.server, plan.feed_latency_s)
        self.http.on_arrival = lambda: self._moment("asked")
        self.http.on_answer = lambda: self._moment("answered")
        observer = plan.protocol == OBSERVER
        self.rules = Rules(resumes=not observer, dense=observer, audit=plan.audit)
        self.judge = Judge(self.rules)
        self.settings = msgspec.structs.replace(
            settings or SessionSettings(),
            audit=plan.audit,
            audit_interval_s=plan.audit_interval_s,
            verify_interval_s=plan.verify_interval_s,
            reprobe_max_s=plan.reprobe_max_s,
        )
        self.client_clock_s = plan.client_clock_s
        self.dials = 0
        self.failures: Counter[str] = Counter()
        self.calm_since = math.inf
        self.done = False
        self._tell = narrator
        self._entropy = random.Random(rng.random())
        self._make_protocol = protocol or real_protocol
        self._dead = False  # between two processes
        self._process = 0
        self._first_fact = 0
        self._ever: set[str] = set()  # delivered by earlier processes
        self._restored: set[str] = set()  # of them, what the present one was told
        self._point: ResumePoint | None = None
        self._saved: tuple[ResumePoint | None, Judge] | None = None
        self._pedantic = pedantic
        self._traffic = random.Random(rng.random())
        self._writing = True
        self._judged = 0
        self._inputs = 0
        self._ticks = 0
        self._dialling: int | None = None
        self._established: int | None = None
        self._before: tuple[int, ...] = ()
        self._restarted = False
        self._ambushes: list[tuple[str, str, int]] = []
        self._quiet_audits = 0
        self.session = self._new_session(None)
        for _ in range(plan.before):
            self._event()

    def _new_session(self, resume: ResumePoint | None) -> Session:
        protocol = self._make_protocol(self.plan)
        return Session("feed", protocol, self.settings, self._entropy, upstream="http://relay", resume=resume)

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
            elif isinstance(effect, Poll):
                self._poll(effect)
            elif isinstance(effect, Notify) and self._tell is not None:
                fields = " ".join(f"{key}={value}" for key, value in effect.fields.items())
                self._tell(self.timeline.now, f"  notify {effect.notice} {fields}")
        self._check()

    def _send(self, effect: Send) -> None:
        connection = self._connection(effect.attempt)
        self._require(connection == self._established, f"a send on attempt {effect.attempt}, open is {self._established}")
        data = effect.data.encode() if isinstance(effect.data, str) else effect.data
        self.ledger.add(Pinged(self.timeline.now, connection))
        self._say(f"-> {data.decode()}")
        self.network.links[connection].send(data)

    def _dial(self, effect: Dial) -> None:
        self._require(self._dialling is None and self._established is None, "a dial while another attempt lives")
        connection = self._connection(effect.attempt)
        self._require(connection not in self.network.links, "an attempt's number was used twice")
        self.dials += 1
        self._dialling = connection
        after = self._cursor(effect.request)
        self._say(f"-> dial {connection} after {after}")
        self.ledger.add(Dialled(self.timeline.now, connection, after))
        self.server.dials[connection] = effect.request
        self._moment("dialled")
        self.network.dial(connection, effect.timeout_s)

    def _cursor(self, request: Request) -> int | None:
        query = parse_qs(urlsplit(request.url).query)
        if self.plan.protocol == RELAYFILE:
            self._require(("cursor" in query) != (query.get("from") == ["now"]), f"a dial without beginning: {request.url}")
        return position(query) if "cursor" in query else None

    def _close(self, effect: Close) -> None:
        connection = self._connection(effect.attempt)
        self._require(connection in (self._dialling, self._established), f"a close of {effect.attempt}, which is not alive")
        self._say(f"-> close {connection} {effect.code} {effect.reason}")
        if connection != self._established:
            self.failures["given up"] += 1
            self.ledger.add(Failed(self.timeline.now, connection, denied=False))
        self._dialling = self._established = None
        self.network.hang_up(connection, effect.reason)

    def _poll(self, effect: Poll) -> None:
        query = parse_qs(urlsplit(effect.request.url).query)
        tip = newest_first(query)
        after = None if tip else position(query)
        self._say(f"-> poll {effect.poll_id} {'tip' if tip else f'after {after}'}")
        self.ledger.add(Asked(self.timeline.now, effect.poll_id, after, tip))
        process = self._process

        def deliver(answer: Answer | Refused, fact: Fact) -> None:
            if process != self._process or self._dead:
                return
            self._say(f"<- {fact}")
            self.ledger.add(fact)
            self._input(self.session.polled(self.timeline.now, effect.poll_id, answer))

        self.http.ask(effect, deliver)

    def opened(self, connection: int) -> None:
        """The dial succeeded."""
        self._dialling, self._established = None, connection
        self._say(f"<- opened {connection}")
        self._input(self.session.opened(self.timeline.now, self._attempt(connection), Handshake(tcp_s=0.01, upgrade_s=0.01)))
        self._moment("opened")

    def failed(self, connection: int, door: Door) -> None:
        """The dial did not."""
        self._dialling = None
        reason = AttemptFailure(door.refusal or "protocol")
        self.failures[reason.value] += 1
        self._say(f"<- failed {connection} {reason} {door.status or ''}")
        self.ledger.add(Failed(self.timeline.now, connection, reason in CREDENTIALS))
        detail = f"HTTP {door.status}"
        self._input(self.session.failed(self.timeline.now, self._attempt(connection), reason, detail, door.retry_after_s))

    def received(self, connection: int, data: bytes, binary: bool) -> None:
        """A message arrived."""
        self._require(connection == self._established, "the network delivered to a closed socket")
        if self._tell is not None:
            fact = self.ledger.facts[-1]
            label = f"{fact.frame.label or fact.frame.kind} {fact.frame.epoch}:{fact.frame.number}" if isinstance(fact, Arrived) else ""
            self._tell(self.timeline.now, f"<- {label} {data[:60].decode(errors='replace')}")
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
        session = self.session
        c, h = session.ledger, session.heartbeat.snapshot()
        if c.missed != c.recovered + c.lost + c.unaccounted + c.missing or c.missing < 0:
            raise BrokenInvariantError(f"missed {c.missed} != recovered {c.recovered} + lost {c.lost} + unaccounted {c.unaccounted} + missing {c.missing}")
        if h.sent != h.acknowledged + h.missed + h.outstanding:
            raise BrokenInvariantError(f"heartbeats do not add up: {h}")
        now = (
            c.missed, c.recovered, c.late, c.resets, c.replayed, c.duplicates, c.out_of_order, c.live, c.events, c.bad_sequence,
            h.sent, h.acknowledged, h.missed, h.late, *c.received.values(), sum(c.resyncs.values()), *c.gaps.values(),
            *session.verification.results.values(),
        )  # fmt: skip
        if any(map(operator.lt, now, self._before)):
            raise BrokenInvariantError(f"a counter fell: {self._before} -> {now}")
        self._before = now
        self._follow()
        self.judge.advance(self.timeline.now)
        if (session.state in ESTABLISHED) != (self._established is not None):
            raise BrokenInvariantError(f"state {session.state} with attempt {self._established} open")
        due = session.deadline <= self.timeline.now  # then the tick that follows at once may change it
        if session.state is not State.IDLE and not due and not self.judge.exemptions:
            self._require(session.state.value == self.judge.state, f"state {session.state}, the rules say {self.judge.state}")
        # a connection to be had, an answer to come, or a time at which something is done: else nothing would ever happen again
        busy = self._established is not None or self._dialling is not None
        self._require(busy or session.deadline < math.inf or not session.active, f"{session.state} and nothing planned")
        calm = session.state is State.OPEN and self.judge.reading is None and self.judge.based and not self.judge.fresh and not self.judge.failing
        self.calm_since = min(self.calm_since, self.timeline.now) if calm else math.inf
        if self._pedantic and not due and not self.judge.exemptions:
            differences = self.differences() + self.judge.complaints
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
        assert c.audits is not None
        assert c.audit_events is not None
        return {
            "live": c.events_received[Origin.LIVE],
            "store": c.events_received[Origin.STORE],
            "poll": c.events_received[Origin.POLL],
            "audit": c.events_received[Origin.AUDIT],
            "ring": c.events_received[Origin.RING],
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
            "clean": c.audits[AuditResult.CLEAN],
            "repaired": c.audits[AuditResult.REPAIRED],
            "failed": c.audits[AuditResult.FAILED],
            "found_late": c.audit_events[AuditVerdict.LATE],
            "found_missed": c.audit_events[AuditVerdict.MISSED],
            "found_invented": c.audit_events[AuditVerdict.INVENTED],
            "verified": snapshot.verifications[Verification.VERIFIED],
            "behind": snapshot.verifications[Verification.BEHIND],
            "unanswered": snapshot.verifications[Verification.FAILED],
        }

    def differences(self) -> list[str]:
        """Counters in which session and oracle differ."""
        judged = self.judge
        expected, shown = msgspec.structs.asdict(judged.counters), self.shown()
        # a pong that comes between a replay and its end moves frames from the window to the total
        window = self.session.ledger.window
        shown["replayed"] += getattr(window, "frames", 0)
        found = [f"{name}: oracle {expected[name]}, session {shown[name]}" for name in shown if expected[name] != shown[name]]
        continuity = self.session.snapshot().continuity
        assert continuity is not None
        resyncs = {(claim.value, verdict.value): n for (claim, verdict), n in continuity.resyncs.items() if n}
        if resyncs != dict(judged.resyncs):
            found.append(f"resyncs: oracle {dict(judged.resyncs)}, session {resyncs}")
        behind = self.session.verification.behind_since_s is not None
        if behind != judged.is_behind:
            found.append(f"behind: oracle {judged.is_behind}, session {behind}")
        return found

    def _time_differences(self) -> list[str]:
        """How long the connection stood where."""
        now, timeline = self.timeline.now, self.session.snapshot().timeline
        shown = {state.value: seconds for state, seconds in timeline.seconds.items() if state is not State.IDLE}
        shown[timeline.state.value] = shown.get(timeline.state.value, 0.0) + now - timeline.entered_now_s
        expected = self.judge.seconds(now)
        return [
            f"{state} for {shown.get(state, 0.0):.6f} s, the rules say {expected.get(state, 0.0):.6f}"
            for state in sorted({*shown, *expected})
            if abs(shown.get(state, 0.0) - expected.get(state, 0.0)) > 1e-6
        ]

    def truth(self) -> list[str]:
        """A second opinion without any rule: what the log has in the end was delivered, each event once."""
        found: list[str] = []
        facts = self.ledger.facts[self._first_fact :]
        rows = [fact.row for fact in self.ledger.facts if isinstance(fact, Written)]
        judged = self.judge
        missing = [row for row in rows if row.life == self.server.life and row.ours and row.identity not in self._ever and row.identity not in judged.known and not self._excused(row)]
        if missing:
            found.append(f"never delivered: {missing[:5]}")
        frames = [fact.frame for fact in facts if isinstance(fact, Arrived) and fact.frame.kind is Kind.EVENT]
        distinct = {frame.identity for frame in frames if frame.strong} | judged.known.keys()
        count = len(distinct - self._restored) + sum(not frame.strong for frame in frames)
        ledger, lifetime = self.session.ledger, self.session.snapshot().lifetime
        if ledger.events != count:
            found.append(f"{ledger.events} first copies, {count} distinct events")
        before = Totals(0.0) if self._point is None else self._point.totals
        for name in ("events", "missed", "recovered", "resets"):
            if getattr(lifetime, name) != getattr(before, name) + getattr(ledger, name):
                found.append(f"lifetime {name} {getattr(lifetime, name)} is not what the processes counted")
        return found

    def _excused(self, row: Row) -> bool:
        """What the log held before the first position was read is not ours to judge."""
        life, number = self.judge.excused
        return row.life == life and row.number <= number

    def _shell_differences(self) -> list[str]:
        """Counters that the shell's own doings decide."""
        snapshot, facts = self.session.snapshot(), self.ledger.facts[self._first_fact :]
        arrived = Counter(fact.frame.kind for fact in facts if isinstance(fact, Arrived))
        opened = sum(isinstance(fact, Opened) for fact in facts)
        expected: dict[str, tuple[int, int]] = {
            "attempts": (self.dials, snapshot.attempts),
            "reconnects": (max(opened - 1, 0), snapshot.reconnects),
            "disconnects": (sum(isinstance(fact, Closed) for fact in facts), sum(snapshot.disconnects.values())),
            "heartbeats sent": (sum(isinstance(fact, Pinged) for fact in facts), snapshot.heartbeat.sent),
            "heartbeats acknowledged": (arrived[Kind.PONG], snapshot.heartbeat.acknowledged),
            "event frames": (arrived[Kind.EVENT], snapshot.frames_received[FrameKind.EVENT]),
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
        if not problems:
            problems += self._shell_differences()
            if not judged.exemptions:
                problems += judged.complaints + self.differences() + self.truth() + self._time_differences()
                problems += [f"in the end still {reason.value}" for reason in self._conditions()]
        return Verdict(self.plan, tuple(problems), judged.exemptions, msgspec.structs.asdict(judged.counters), self.shown())

    def _conditions(self) -> list[Reason]:
        """What the session says is wrong now: in the end nothing is, incidents apart, and that only a later audit can say that a silent push path speaks again."""
        passed_over = {*INCIDENTS, Reason.BEHIND}
        return [condition.reason for condition in self.session.reasons(self.timeline.now) if condition.reason not in passed_over]

    def _course(self) -> None:
        timeline = self.timeline
        for act in self.plan.acts:
            timeline.at(self.began + act.at, self._acting(act))
        timeline.at(self.began, self._begin)
        timeline.after(self.plan.length_s, self._quiet)
        while not self.done:
            session = self.session
            if session.deadline <= timeline.next and not self._dead:
                self._ticks = self._ticks + 1 if session.deadline <= timeline.now else 0
                timeline.now = max(timeline.now, session.deadline)
                self._input(session.tick(timeline.now))
                self._require(self._ticks < MOST_AT_ONE_MOMENT, f"the deadline {session.deadline} did not move by {self._ticks} ticks")
            else:
                self._ticks = 0
                timeline.step()

    def _begin(self) -> None:
        self._wall()
        self.ledger.add(Started(self.timeline.now))
        self._input(self.session.start(self.timeline.now))
        self._post()

    def _wall(self) -> None:
        now = self.timeline.now
        if not self._dead:
            self._input(self.session.wall(now, WALL_S + self.client_clock_s))
        self.timeline.after(1.0, self._wall)

    def _post(self) -> None:
        """One event and the pause after it."""
        if self._writing:
            self._event()
            self.timeline.after(self._traffic.expovariate(1.0 / self.plan.pause_s), self._post)

    def _event(self) -> None:
        rng = self._traffic
        if rng.random() < self.plan.foreign:
            self.server.elsewhere(rng.randint(1, 3))
        self.server.write(ours=rng.random() < 0.7)

    def _quiet(self) -> None:
        """All faults off; then wait for calm."""
        self._say("== quiet")
        self._writing = False
        self._ambushes = []
        self.server.faults = Faults()
        self.network.door = Door()
        self.http.door = FeedDoor()
        self._thaw("both")
        self.server.release()
        self._act_renew(Act(0.0, "renew"))
        self.timeline.after(1.0, self._await_calm)

    def _await_calm(self) -> None:
        now = self.timeline.now
        self._require(now < self.began + self.plan.length_s + PATIENCE_S, f"never at rest: {self.session.state}")
        if self._dead or now - self.calm_since < CALM_S:
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

    def _moment(self, name: str) -> None:
        """Something that an ambush may be waiting for."""
        for index, (awaited, what, left) in enumerate(self._ambushes):
            if awaited != name:
                continue
            if left:
                self._ambushes[index] = awaited, what, left - 1
                continue
            del self._ambushes[index]
            self._say(f"== ambush: {what}")
            self.timeline.after(0.0, functools.partial(self._strike, what))
            return

    def _strike(self, what: str) -> None:
        if what == "drop":
            self._act_drop(Act(0.0, "drop", "lose"))
        elif what == "refuse":
            self.http.door = FeedDoor("status", 503)
            self.timeline.after(3.0, lambda: setattr(self.http, "door", FeedDoor()))
        elif what == "kill":
            self._act_save(Act(0.0, "save"))
            self._act_crash(Act(0.0, "crash", value=1.0))
        else:
            self.server.restart(memory=what == "memory")

    def _act_ambush(self, act: Act) -> None:
        self._ambushes.append((act.name, str(act.value), int(act.extra or 0)))

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

    def _act_feed(self, act: Act) -> None:
        status = None if act.value is None else int(act.value)
        self.http.door = FeedDoor(act.name, status, None if act.extra is None else float(act.extra))

    def _act_burst(self, act: Act) -> None:
        for _ in range(int(act.value or 0)):
            self._event()

    def _act_set(self, act: Act) -> None:
        setattr(self.server.faults, act.name, act.value)

    def _act_unset(self, act: Act) -> None:
        setattr(self.server.faults, act.name, getattr(Faults(), act.name))
        if act.name == "swap":
            self.server.release()

    def _act_restart(self, act: Act) -> None:
        self._reached = self.server.counter
        self.server.restart(memory=act.name == "memory")

    def _act_overtake(self, act: Act) -> None:
        """The counter of the new log passes the old one's."""
        for _ in range(400):
            if self.server.counter >= self._reached + int(act.value or 0):
                break
            self._event()

    def _act_foreign(self, act: Act) -> None:
        self.server.elsewhere(int(act.value or 0))

    def _act_renew(self, act: Act) -> None:
        if not self._dead:
            self.ledger.add(Renewed(self.timeline.now))
            self._input(self.session.credentials(self.timeline.now, None))

    def _act_save(self, act: Act) -> None:
        """The state file is written: what comes between this and a crash is forgotten."""
        if self._dead:
            return
        self._follow()
        self.judge.advance(self.timeline.now)
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
        self._ever.update(self.judge.known)
        self.session = self._new_session(point)
        now = self.timeline.now
        age_s = 0.0 if point is None else now + WALL_S + self.client_clock_s - point.saved_wall_s
        stale = abs(age_s) > self.settings.resume_max_age_s  # by the client's own clock: it starts fresh
        self.judge = Judge(self.rules) if stale else Judge.successor(judged)
        self._restored = set(self.judge.known)
        self._point = point
        self._judged = self._first_fact = len(self.ledger.facts)
        self.dials, self.failures = 0, Counter()
        self._before = ()
        self._dead = False
        self._say("== the next process")
        self.ledger.add(Started(now))
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
        self.server.clock_offset_s += float(act.value or 0.0)

    def _act_client_clock(self, act: Act) -> None:
        self.client_clock_s += float(act.value or 0.0)


SIMULATIONS = {
    protocol: Simulation(
        functools.partial(plan, protocol), functools.partial(plan_of, protocol), World, protocol, f"--feeds {protocol}"
    )
    for protocol in (RELAYFILE, OBSERVER)
}

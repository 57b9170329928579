"""The real Session with the real codecs Relayfile and RelaycastObserver, run on simulated time against a simulated server that keeps a log.

What belongs here: what such a server's client says and asks, what must hold after every input, and trouble that only such a server makes. The course of
a schedule and the shell's duties are those of other simulations too (`harness/course.py`, `harness/shell.py`).
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import msgspec

from syncwatch.core.attempts import CREDENTIALS
from syncwatch.core.effects import Answer, Close, Dial, Poll, Refused
from syncwatch.core.health import INCIDENTS, Reason
from syncwatch.core.resume import ResumePoint, Totals
from syncwatch.core.session import Session, SessionSettings
from syncwatch.core.states import (
    AttemptFailure,
    AuditResult,
    AuditVerdict,
    Origin,
    State,
    Verification,
)
from syncwatch.core.wire import FeedProtocol, Request
from syncwatch.protocols.relaycast_observer import RelaycastObserver
from syncwatch.protocols.relayfile import Relayfile
from tests.simulation.feeds.facts import Asked, Dialled, Failed, Renewed, Row, Started, Written
from tests.simulation.feeds.http import FeedDoor, Http
from tests.simulation.feeds.oracle import Judge, Rules
from tests.simulation.feeds.plans import OBSERVER, RELAYFILE, Plan, plan, plan_of
from tests.simulation.feeds.servers import FILTER, ObserverServer, RelayfileServer, Server
from tests.simulation.harness.course import Narrator, Verdict
from tests.simulation.harness.facts import Arrived, Fact, Frame, Kind, Pinged
from tests.simulation.harness.network import Door, Network
from tests.simulation.harness.plans import Act
from tests.simulation.harness.runner import Simulation
from tests.simulation.harness.shell import Shell


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


class World(Shell[Plan, Judge, Server]):
    """One schedule."""

    CALM_S = 6.0
    MOST_INPUTS = 100_000

    def __init__(
        self,
        plan: Plan,
        protocol: Callable[[Plan], FeedProtocol] | None = None,
        narrator: Narrator | None = None,
        pedantic: bool = False,
        settings: SessionSettings | None = None,
    ) -> None:
        observer = plan.protocol == OBSERVER
        self.rules = Rules(resumes=not observer, dense=observer, audit=plan.audit)
        settings = msgspec.structs.replace(
            settings or SessionSettings(),
            audit=plan.audit,
            audit_interval_s=plan.audit_interval_s,
            verify_interval_s=plan.verify_interval_s,
            reprobe_max_s=plan.reprobe_max_s,
        )
        super().__init__(plan, settings, Judge(self.rules), narrator, pedantic)
        rng = random.Random(f"feed world {plan.protocol} {plan.seed}")
        kind = ObserverServer if observer else RelayfileServer
        self.server = kind(
            self.timeline, self.ledger, random.Random(rng.random()), plan.page_rows, plan.buffer, plan.hidden
        )
        self.network = Network(self.timeline, random.Random(rng.random()), self.ledger, self.server, self, plan.latency_s)
        self.http = Http(self.timeline, random.Random(rng.random()), self.server, plan.feed_latency_s)
        self.http.on_arrival = lambda: self._moment("asked")
        self.http.on_answer = lambda: self._moment("answered")
        self.client_clock_s = plan.client_clock_s
        self._duties[Poll] = self._poll
        self._entropy = random.Random(rng.random())
        self._make_protocol = protocol or real_protocol
        self._ever: set[str] = set()  # delivered by earlier processes
        self._counted: frozenset[str] = frozenset()  # by all processes, when the state file was written
        self._restored: frozenset[str] = frozenset()  # the same, of the file that the present one began with
        self._point: ResumePoint | None = None
        self._rng = random.Random(rng.random())
        self._ambushes: list[tuple[str, str, int]] = []
        self.session = self._new_session(None)
        for _ in range(plan.before):
            self._event()

    def _new_session(self, resume: ResumePoint | None) -> Session:
        protocol = self._make_protocol(self.plan)
        return Session("feed", protocol, self.settings, self._entropy, upstream="http://relay", resume=resume)

    def _new_judge(self, saved: Judge | None) -> Judge:
        return Judge(self.rules) if saved is None else Judge.successor(saved)

    # -- what crosses the client's boundary --------------------------------------------------------------------------

    def _said(self, connection: int, data: bytes) -> None:
        self.ledger.add(Pinged(self.timeline.now, connection))

    def _heard(self, frame: Frame, data: bytes) -> str:
        return f"{frame.label or frame.kind} {frame.epoch}:{frame.number} {data[:60].decode(errors='replace')}"

    def _dial(self, effect: Dial, told: str = "") -> None:
        connection, after = self._connection(effect.attempt), self._cursor(effect.request)
        self.ledger.add(Dialled(self.timeline.now, connection, after))
        self.server.dials[connection] = effect.request
        super()._dial(effect, f" after {after}")
        self._moment("dialled")

    def _cursor(self, request: Request) -> int | None:
        query = parse_qs(urlsplit(request.url).query)
        if self.plan.protocol == RELAYFILE:
            self._require(("cursor" in query) != (query.get("from") == ["now"]), f"a dial without beginning: {request.url}")
        return position(query) if "cursor" in query else None

    def _close(self, effect: Close) -> None:
        connection = self._connection(effect.attempt)
        if connection != self._established:
            self.ledger.add(Failed(self.timeline.now, connection, denied=False))
        super()._close(effect)

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
        super().opened(connection)
        self._moment("opened")

    def failed(self, connection: int, door: Door) -> None:
        """The dial did not."""
        self.ledger.add(Failed(self.timeline.now, connection, AttemptFailure(door.refusal or "protocol") in CREDENTIALS))
        super().failed(connection, door)

    # -- what must hold after every input ----------------------------------------------------------------------------

    def _check(self) -> None:
        session = self.session
        c, h = session.ledger, session.heartbeat.snapshot()
        self._adds_up(c, h)
        self._never_falls((
            c.missed, c.recovered, c.late, c.resets, c.replayed, c.duplicates, c.out_of_order, c.live, c.events, c.bad_sequence,
            h.sent, h.acknowledged, h.missed, h.late, *c.received.values(), sum(c.resyncs.values()), *c.gaps.values(),
            *session.verification.results.values(),
        ))  # fmt: skip
        self._follow()
        self._knows_its_socket()
        due = session.deadline <= self.timeline.now  # then the tick that follows at once may change it
        if session.state is not State.IDLE and not due and not self.judge.exemptions:
            self._require(session.state.value == self.judge.state, f"state {session.state}, the rules say {self.judge.state}")
        # a connection to be had, an answer to come, or a time at which something is done: else nothing would ever happen again
        busy = self._established is not None or self._dialling is not None
        self._require(busy or session.deadline < math.inf or not session.active, f"{session.state} and nothing planned")
        judged = self.judge
        self._calm(session.state is State.OPEN and judged.reading is None and judged.based and not judged.fresh and not judged.failing)
        if self._pedantic and not due and not self.judge.exemptions:
            differences = self.differences() + self.judge.complaints
            self._require(not differences, f"first disagreement: {differences}")

    # -- comparing ---------------------------------------------------------------------------------------------------

    def shown(self) -> dict[str, int]:
        """What the session's own snapshot says, under the oracle's names."""
        snapshot = self.session.snapshot()
        c = snapshot.continuity
        assert c is not None
        assert c.audits is not None
        assert c.audit_events is not None
        return super().shown() | {
            "poll": c.events_received[Origin.POLL],
            "audit": c.events_received[Origin.AUDIT],
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
        shown = self.shown()
        # a pong that comes between a replay and its end moves frames from the window to the total
        shown["replayed"] += getattr(self.session.ledger.window, "frames", 0)
        found = self._unequal(shown) + self._resync_differences()
        behind = self.session.verification.behind_since_s is not None
        if behind != self.judge.is_behind:
            found.append(f"behind: oracle {self.judge.is_behind}, session {behind}")
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

    # -- the course of a schedule ------------------------------------------------------------------------------------

    def run(self) -> Verdict:
        """Run it to its end and judge."""
        problems = self._lived()
        judged = self.judge
        if not problems:
            problems += self._shell_differences()
            if not judged.exemptions:
                problems += judged.complaints + self.differences() + self.truth() + self._time_differences()
                problems += [f"in the end still {reason.value}" for reason in self._conditions()]
        return self._verdict(problems, judged.exemptions)

    def _conditions(self) -> list[Reason]:
        """What the session says is wrong now: in the end nothing is, incidents apart, and that only a later audit can say that a silent push path speaks again."""
        passed_over = {*INCIDENTS, Reason.BEHIND}
        return [condition.reason for condition in self.session.reasons(self.timeline.now) if condition.reason not in passed_over]

    def _start(self, point: ResumePoint | None) -> None:
        self.ledger.add(Started(self.timeline.now))
        super()._start(point)

    def _event(self) -> None:
        rng = self._rng
        if rng.random() < self.plan.foreign:
            self.server.elsewhere(rng.randint(1, 3))
        self.server.write(ours=rng.random() < 0.7)

    def _quiet(self) -> None:
        self._ambushes = []
        self.http.door = FeedDoor()
        super()._quiet()
        self._act_renew(Act(0.0, "renew"))

    # -- acts --------------------------------------------------------------------------------------------------------

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

    def _act_feed(self, act: Act) -> None:
        status = None if act.value is None else int(act.value)
        self.http.door = FeedDoor(act.name, status, None if act.extra is None else float(act.extra))

    def _act_restart(self, act: Act) -> None:
        self._reached = self.server.counter
        self.server.restart(memory=act.name == "memory")

    def _act_foreign(self, act: Act) -> None:
        self.server.elsewhere(int(act.value or 0))

    def _act_renew(self, act: Act) -> None:
        if not self._dead:
            self.ledger.add(Renewed(self.timeline.now))
            self._input(self.session.credentials(self.timeline.now, None))

    def _act_save(self, act: Act) -> None:
        super()._act_save(act)
        if not self._dead:
            self._counted = self._restored | self.judge.known.keys()

    def _revive(self) -> None:
        assert self._saved is not None
        self._point, _ = self._saved
        self._ever.update(self.judge.known)
        super()._revive()
        self._restored = self._counted if self.judge.known else frozenset()  # a fresh start knows nothing


SIMULATIONS = {
    protocol: Simulation(
        functools.partial(plan, protocol), functools.partial(plan_of, protocol), World, protocol, f"--feeds {protocol}"
    )
    for protocol in (RELAYFILE, OBSERVER)
}

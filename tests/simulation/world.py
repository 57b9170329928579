"""The real Session with the real codec, run on simulated time against the simulated relay.

What belongs here: what this server's client says, what must hold after every input, and trouble that only such a server makes. The course of a
schedule and the shell's duties are those of other simulations too (`harness/course.py`, `harness/shell.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar

import msgspec

from syncwatch.core.resume import ResumePoint
from syncwatch.core.session import Session, SessionSettings
from syncwatch.core.states import Anomaly, State
from syncwatch.core.wire import FrameKind, Protocol
from syncwatch.protocols.relaycast import Relaycast
from tests.simulation.facts import Requested
from tests.simulation.faults import FAITHFUL, Plan, plan, plan_of
from tests.simulation.harness.course import Narrator, Verdict
from tests.simulation.harness.facts import Frame, Kind, Pinged
from tests.simulation.harness.network import Network
from tests.simulation.harness.plans import Act
from tests.simulation.harness.runner import Simulation
from tests.simulation.harness.shell import Shell
from tests.simulation.oracle import Judge, Rules, plain_truth
from tests.simulation.relay import OTHERS, WATCHED, AckFault, CutThen, Relay

STRAGGLERS_S = 13.0  # the last straggler is home


class World(Shell[Plan, Judge, Relay]):
    """One schedule."""

    CALM_S = 5.5  # a full resync may wait 5 s
    FRAMES: ClassVar = {**Shell.FRAMES, Kind.ACK: FrameKind.CONTROL}

    def __init__(
        self,
        plan: Plan,
        protocol: Callable[[Plan], Protocol] | None = None,
        narrator: Narrator | None = None,
        pedantic: bool = False,
        settings: SessionSettings | None = None,
    ) -> None:
        self.rules = Rules(max_jump=plan.max_jump, page_limit=plan.page_limit, verify_interval_s=plan.verify_interval_s)
        settings = msgspec.structs.replace(
            settings or SessionSettings(), max_jump=plan.max_jump, verify_interval_s=plan.verify_interval_s
        )
        super().__init__(plan, settings, Judge(self.rules), narrator, pedantic)
        rng = random.Random(f"world {plan.seed}")
        self.server = Relay(
            self.timeline, self.ledger, random.Random(rng.random()), plan.ring_size, plan.page_limit, plan.query_s
        )
        self.network = Network(self.timeline, random.Random(rng.random()), self.ledger, self.server, self, plan.latency_s)
        self.client_clock_s = plan.client_clock_s
        self._entropy = random.Random(rng.random())
        self._make_protocol = protocol or ring_protocol
        self._rng = random.Random(rng.random())
        self.session = self._new_session(None)

    def _new_session(self, resume: ResumePoint | None) -> Session:
        return Session("cast", self._make_protocol(self.plan), self.settings, self._entropy, upstream="ws://relay:8787", resume=resume)

    def _new_judge(self, saved: Judge | None) -> Judge:
        return Judge(self.rules) if saved is None else Judge.successor(saved, self.timeline.now)

    # -- what crosses the client's boundary --------------------------------------------------------------------------

    def _said(self, connection: int, data: bytes) -> None:
        said = msgspec.json.decode(data)
        now = self.timeline.now
        if said["type"] == "resync":
            self.ledger.add(Requested(now, connection, said["last_seen_seq"], said.get("since")))
        elif said["type"] == "ping":
            self.ledger.add(Pinged(now, connection))

    def _heard(self, frame: Frame, data: bytes) -> str:
        return f"{frame.label or ''} {data.decode(errors='replace')}"

    # -- what must hold after every input ----------------------------------------------------------------------------

    def _check(self) -> None:
        snapshot = self.session.snapshot()
        c, h = snapshot.continuity, snapshot.heartbeat
        assert c is not None
        self._adds_up(c, h)
        self._never_falls((
            c.missed, c.recovered, c.lost, c.unaccounted, c.late, c.resets, c.replayed, c.duplicates, c.out_of_order,
            h.sent, h.acknowledged, h.missed, h.late, *c.events_received.values(), sum(c.resyncs.values()), *c.gaps.values(),
        ))  # fmt: skip
        self._follow()
        if c.undecided and self.judge.round is None:
            raise self._broken(f"{c.undecided} undecided and no round open")
        self._knows_its_socket()
        self._calm(self.session.state is State.OPEN and self.judge.round is None)
        if self._pedantic:
            differences = self.differences()
            self._require(not differences, f"first disagreement: {differences}")

    def _ticked(self) -> None:
        """One tick does all that was due."""
        deadline = self.session.deadline
        self._require(deadline > self.timeline.now, f"the deadline {deadline} did not move by a tick")

    # -- comparing ---------------------------------------------------------------------------------------------------

    def shown(self) -> dict[str, int]:
        """What the session's own snapshot says, under the oracle's names."""
        anomalies = self.session.snapshot().anomalies
        return super().shown() | {
            "implausible_jump": anomalies[Anomaly.IMPLAUSIBLE_JUMP],
            "ack_unsolicited": anomalies[Anomaly.ACK_UNSOLICITED],
            "ack_early": anomalies[Anomaly.ACK_EARLY],
            "ack_missing": anomalies[Anomaly.ACK_MISSING],
            "replay_short": anomalies[Anomaly.REPLAY_SHORT],
        }

    def differences(self) -> list[str]:
        """Counters in which session and oracle differ."""
        return self._unequal(self.shown()) + self._resync_differences()

    def _truth_differences(self) -> list[str]:
        """A second opinion without any rule, where the server kept to its protocol and nothing had to be inferred."""
        if self.judge.exemptions or self._process or not self.plan.kinds or not FAITHFUL.issuperset(self.plan.kinds):
            return []
        shown, truth = self.shown(), plain_truth(self.ledger.facts)
        shown["given up"] = shown["lost"] + shown["unaccounted"]
        shown["events"] = shown["live"] + shown["ring"] + shown["store"] + shown["duplicates"]
        return [f"{name}: plain truth {truth[name]}, session {shown[name]}" for name in truth if truth[name] != shown[name]]

    # -- the course of a schedule ------------------------------------------------------------------------------------

    def run(self) -> Verdict:
        """Run it to its end and judge."""
        problems = self._lived()
        judged = self.judge
        judged.advance(self.timeline.now)
        problems += judged.manners.complaints
        if not any("t=" in problem[:2] for problem in problems):
            problems += self.differences() + self._shell_differences() + self._truth_differences()
            if judged.counters.missing:
                problems.append(f"the oracle itself still misses {judged.counters.missing} in the end")
        return self._verdict(problems, judged.exemptions)

    def _event(self) -> None:
        rng, relay = self._rng, self.server
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

    def _something_comes(self) -> bool:
        return "straggle" in self.plan.kinds and self.timeline.now < self.began + self.plan.length_s + STRAGGLERS_S

    # -- acts --------------------------------------------------------------------------------------------------------

    def _act_silence(self, act: Act) -> None:
        """Nobody writes any more."""
        self._writing = False

    def _act_set(self, act: Act) -> None:
        value: object = act.value
        if act.name == "ack":
            value = AckFault(str(value))
        elif act.name == "cut_then":
            value = CutThen(str(value))
        setattr(self.server.faults, act.name, value)

    def _act_restart(self, act: Act) -> None:
        self._reached = self.server.counter
        self.server.restart()

    def _act_jump(self, act: Act) -> None:
        self.server.jump(int(act.value or 0))

    def _act_foreign(self, act: Act) -> None:
        for _ in range(int(act.value or 0)):
            self.server.foreign()


def ring_protocol(plan: Plan) -> Protocol:
    """The real codec; only the page limit is the plan's, as the simulated server's is."""
    protocol = Relaycast("ws://relay:8787", subscribe=("general",))
    protocol.page_limit = plan.page_limit
    return protocol


SIMULATION = Simulation(plan, plan_of, World)

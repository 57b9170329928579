"""A connection that a file tells of: states and reasons that the file and the system prove, and counters that only rise."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncwatch.core.effects import Effects, Notice, Notify
from syncwatch.core.health import Reason
from syncwatch.core.reported import (
    CONNECTIONS_KNOWN,
    FAILED_AFTER_S,
    KEEP_S,
    LATE_S,
    Advice,
    Look,
    Picture,
    Process,
    Reported,
    ReportedSettings,
    Sighting,
)
from syncwatch.core.snapshot import ConnectionSnapshot
from syncwatch.core.states import TRANSITIONS, Anomaly, State
from syncwatch.core.wire import FrameKind

WALL_S = 1_795_000_000.0
"""Wall time at monotonic 0."""
BEGIN_S = 100.0
INTERVAL_S, TIMEOUT_S = 30.0, 10.0
LIMIT_S = INTERVAL_S + TIMEOUT_S
ALIVE, DEAD = Sighting(True, 7000, WALL_S - 5000.0), Sighting(False)


class Kind:
    """For showing."""

    name = "mine"
    dialect = "told"


class World:
    """The machine with a clock, the file as the host last wrote it, and what it said."""

    def __init__(self, **changes: Any) -> None:
        self.machine = Reported("b", Kind(), "/s/b1.json", msgspec.structs.replace(ReportedSettings(INTERVAL_S, TIMEOUT_S), **changes))
        self.now = BEGIN_S
        self.said: list[Notify] = []
        self.take(self.machine.wall(self.now, WALL_S))
        self.take(self.machine.start(self.now))
        self.file = Picture(4711, self.wall, self.wall, None, 0, 0, 0)
        self.process: Sighting | None = ALIVE

    @property
    def wall(self) -> float:
        """The host's clock, which is ours."""
        return self.now + WALL_S

    def take(self, effects: Effects) -> None:
        """Only notices are ever asked for."""
        for effect in effects:
            assert isinstance(effect, Notify)
            self.said.append(effect)

    def look(self, after_s: float = 0.0, **changes: Any) -> None:
        """Time passes, the host writes what changed, and the file is read."""
        self.now += after_s
        self.file = msgspec.structs.replace(self.file, **changes)
        self.take(self.machine.looked(self.now, Look(self.file, written_wall_s=self.wall if changes else None, process=self.process)))

    def beat(self, after_s: float = 0.0, echo: bool = True) -> None:
        """A heartbeat, and its echo."""
        self.now += after_s
        heard = {"heard_wall_s": self.wall, "received": self.file.received + 1} if echo else {}
        self.look(sent_wall_s=self.wall, sent=self.file.sent + 1, **heard)

    def unreadable(self, after_s: float = 0.0, content: int = 1, **changes: Any) -> None:
        """A reading without a picture."""
        self.now += after_s
        self.take(self.machine.looked(self.now, Look(trouble="half of it", content=content, **changes)))

    def connect(self, pid: int = 4711) -> None:
        """A connection that begins now, with its first heartbeat answered."""
        self.file = Picture(pid, self.wall, self.wall, self.wall, self.file.reconnects + 1, 1, 1)
        self.look()

    def stands(self, state: State) -> bool:
        """Whether this is its state."""
        return self.machine.state is state

    @property
    def picture(self) -> ConnectionSnapshot:
        """The snapshot."""
        return self.machine.snapshot()

    @property
    def reasons(self) -> set[Reason]:
        """What holds."""
        return {condition.reason for condition in self.machine.reasons(self.now)}

    @property
    def advice(self) -> dict[Reason, str]:
        """What holds, with what to do about it."""
        return {condition.reason: condition.advice for condition in self.machine.reasons(self.now)}


def connected(**changes: Any) -> World:
    """Connected for a moment."""
    world = World(**changes)
    world.connect()
    assert world.stands(State.OPEN)
    assert set() == world.reasons
    return world


def test_an_answered_heartbeat_is_an_open_connection() -> None:
    """As long as heartbeats are sent and something arrives."""
    world = connected()
    for _ in range(5):
        world.beat(INTERVAL_S)
        assert (State.OPEN, set()) == (world.machine.state, world.reasons)
    taken = world.picture
    assert taken.established is not None
    assert (BEGIN_S, WALL_S + BEGIN_S) == (taken.established.now_s, taken.established.wall_s)
    assert taken.heartbeat.last_sent == taken.heartbeat.last_ack == taken.last_frame
    assert taken.settled_once
    assert [(State.CONNECTING, State.OPEN)] == list(taken.timeline.transitions)[1:]


def test_a_frozen_branch_is_degraded_while_the_process_lives() -> None:
    """Heartbeats go on being sent, nothing comes: within interval and timeout of the last answer, and until the burst of late answers."""
    world, frozen_s = connected(), 0.0
    world.beat(INTERVAL_S)
    for second in range(1, 100):
        frozen_s += 1.0
        if second % INTERVAL_S == 0:
            world.beat(1.0, echo=False)
        else:
            world.look(1.0)
        assert world.stands(State.OPEN)
        assert ({Reason.HEARTBEAT_TIMEOUT} if frozen_s > LIMIT_S else set()) == world.reasons, frozen_s
    [condition] = world.machine.reasons(world.now)
    assert BEGIN_S + INTERVAL_S + LIMIT_S == condition.since_s
    world.look(1.0, heard_wall_s=world.wall + 1.0, received=world.file.received + 3)
    assert set() == world.reasons
    assert {FrameKind.UNKNOWN: 5} == world.picture.frames_received


def test_a_branch_that_never_echoes_is_not_a_dead_one() -> None:
    """Nothing ever came on any connection: an older branch. Once something did, silence is a half-open connection."""
    world = World()
    world.beat(echo=False)
    world.look(TIMEOUT_S)
    assert set() == world.reasons
    world.look(0.5)
    assert {Reason.NO_ECHO} == world.reasons
    world.connect()
    assert set() == world.reasons
    world.file = Picture(4711, world.wall + 5.0, world.wall + 5.0, None, 9, 1, 0)
    world.look(5.0)
    world.look(TIMEOUT_S + 0.5)
    assert {Reason.HEARTBEAT_TIMEOUT} == world.reasons


def test_a_host_that_sends_no_heartbeats_has_no_connection() -> None:
    """The host writes nothing when its connection ends: that its heartbeats stop is all that shows. It is not given up while its process lives."""
    world = connected()
    world.look(LIMIT_S)
    assert world.stands(State.OPEN)
    world.look(1.0)
    assert (State.RECONNECTING, {Reason.RECONNECTING}) == (world.machine.state, world.reasons)
    assert world.picture.established is None
    assert "the host's last heartbeat was 41 s ago: it has lost its connection, or hangs" == world.picture.last_failure
    world.look(FAILED_AFTER_S + 10.0)
    assert world.stands(State.RECONNECTING)
    world.connect()
    assert world.stands(State.OPEN)
    assert (1, None) == (world.picture.reconnects, world.machine.snapshot().last_failure)


def test_a_host_that_wakes_up_has_not_reconnected() -> None:
    """The same connection goes on: no reconnect, and its age goes on."""
    world = connected()
    world.look(LIMIT_S + 1.0)
    world.beat(1.0)
    assert (State.OPEN, 0) == (world.machine.state, world.picture.reconnects)
    assert world.picture.established is not None
    assert BEGIN_S + WALL_S == world.picture.established.wall_s


def test_a_dead_process_has_no_connection() -> None:
    """At once, whatever the file still says; failed when nobody starts it again."""
    world = connected()
    world.process = DEAD
    world.look(1.0)
    assert (State.RECONNECTING, {Reason.RECONNECTING}, Process.DEAD) == (world.machine.state, world.reasons, world.machine.process)
    assert "the host's process 4711 is gone" == world.picture.last_failure
    world.look(FAILED_AFTER_S)
    assert (State.FAILED, {Reason.FAILED}) == (world.machine.state, world.reasons)
    world.process = Sighting(True, 9000, world.wall)
    world.connect(5000)
    assert (State.OPEN, 1) == (world.machine.state, world.picture.reconnects)


def test_a_file_that_goes_away_is_a_host_that_was_stopped() -> None:
    """At once as well: it is never taken away while its host lives."""
    world = connected()
    world.take(world.machine.looked(world.now, Look(missing=True)))
    assert (State.RECONNECTING, Process.UNKNOWN) == (world.machine.state, world.machine.process)
    assert 0 == world.picture.anomalies[Anomaly.MALFORMED]
    world.now += FAILED_AFTER_S
    world.take(world.machine.looked(world.now, Look(missing=True)))
    assert world.stands(State.FAILED)


@pytest.mark.parametrize("start", [Sighting(True, 9000, WALL_S + BEGIN_S + 50.0), Sighting(True, 9000, None)])
def test_another_process_with_the_number(start: Sighting) -> None:
    """It has another start than the one that was seen before."""
    world = connected()
    world.process = start
    world.look(1.0)
    assert (State.RECONNECTING, Process.REUSED) == (world.machine.state, world.machine.process)
    assert "the host's process 4711 is gone: another one has its number by now" == world.picture.last_failure


def test_a_process_that_began_after_the_last_write_has_not_written_it() -> None:
    """Known at the first look already, when the heartbeat that it shows is old; the host's next process may have the same number."""
    world = World()
    world.file = Picture(7, world.wall - 600.0, world.wall - 500.0, world.wall - 500.0, 0, 5, 5)
    world.process = Sighting(True, 9000, world.wall - 60.0)
    world.look(1.0)
    assert (State.RECONNECTING, Process.REUSED) == (world.machine.state, world.machine.process)
    world.connect(7)
    assert (State.OPEN, Process.ALIVE) == (world.machine.state, world.machine.process)


def test_a_process_that_cannot_be_seen_from_here() -> None:
    """In another process namespace its number is nobody's, or somebody else's: what it writes proves that it lives, and from then on only times count."""
    for strange in (DEAD, Sighting(True, 1, WALL_S + 1e6)):
        world = World()
        world.process = strange
        world.beat()
        assert (State.CONNECTING, {Reason.CONNECTING}) == (world.machine.state, world.reasons)
        assert world.picture.last_failure is not None
        world.beat(INTERVAL_S)
        assert (State.OPEN, Process.ELSEWHERE, set()) == (world.machine.state, world.machine.process, world.reasons)
        world.connect(4712)
        assert (State.OPEN, Process.ELSEWHERE) == (world.machine.state, world.machine.process)
        world.look(LIMIT_S + 1.0)
        assert world.stands(State.RECONNECTING)


def test_the_last_write_of_a_process_that_is_gone() -> None:
    """Read too early, it does not bring the process back to life; only what is written again and again does."""
    world = connected()
    world.process = DEAD
    world.look(1.0)
    world.beat(1.0)
    assert (State.RECONNECTING, Process.DEAD) == (world.machine.state, world.machine.process)
    world.beat(INTERVAL_S)
    assert (State.OPEN, Process.ELSEWHERE) == (world.machine.state, world.machine.process)


def test_what_one_process_wrote_proves_nothing_of_the_next() -> None:
    """Writes after a death are counted for each process by itself."""
    world = connected()
    world.process = DEAD
    world.look(1.0)
    world.beat(1.0)
    world.connect(5000)
    world.beat(1.0)
    assert (State.RECONNECTING, Process.DEAD) == (world.machine.state, world.machine.process)
    assert world.picture.established is None


def test_only_so_many_connections_are_known() -> None:
    """The newest ones that the file has shown; an older one counts as new."""
    world = connected()
    oldest = world.file
    for number in range(2 * CONNECTIONS_KNOWN):
        world.now += 10.0
        world.connect()
        assert number + 1 == world.picture.reconnects
    assert CONNECTIONS_KNOWN == len(world.machine._known)
    world.file = oldest
    world.look(1.0)
    assert 2 * CONNECTIONS_KNOWN + 1 == world.picture.reconnects


def test_where_the_system_says_nothing_of_processes() -> None:
    """Times alone count."""
    world = World()
    world.process = None
    world.connect()
    assert (State.OPEN, Process.UNKNOWN) == (world.machine.state, world.machine.process)


def test_half_a_file_keeps_the_last_picture_for_a_while() -> None:
    """Written in place, it is sometimes read half. Each such content counts once; after a while nothing is known any more."""
    world = connected()
    for content in (1, 1, 2):
        world.unreadable(1.0, content)
    assert (State.OPEN, 2, 0) == (world.machine.state, world.picture.anomalies[Anomaly.MALFORMED], world.picture.anomalies[Anomaly.OVERSIZED])
    assert 1 == [one.notice for one in world.said].count(Notice.ANOMALY)
    world.look(1.0)
    world.unreadable(KEEP_S)
    world.unreadable(KEEP_S - 0.5)
    assert world.stands(State.OPEN)
    world.unreadable(0.5, oversized=True)
    assert (State.RECONNECTING, "half of it") == (world.machine.state, world.picture.last_failure)
    assert (3, 0) == (world.picture.anomalies[Anomaly.MALFORMED], world.picture.anomalies[Anomaly.OVERSIZED])
    world.unreadable(1.0, 9, oversized=True)
    assert 1 == world.picture.anomalies[Anomaly.OVERSIZED]
    world.look(1.0)
    assert world.stands(State.OPEN)


def test_a_reading_that_hangs_is_no_connection() -> None:
    """Nothing was read for long: nothing is known. The deadline moves on, so that only a machine that does nothing is wedged."""
    world = connected()
    world.now = world.machine.deadline - 0.1
    world.take(world.machine.tick(world.now))
    assert world.stands(State.OPEN)
    world.now += 0.1
    world.take(world.machine.tick(world.now))
    assert world.stands(State.RECONNECTING)
    assert world.now + KEEP_S == world.machine.deadline
    assert KEEP_S == world.machine.interval_s


def test_whoever_was_suspended_looks_first() -> None:
    """A tick that comes far too late judges nothing, and what was read long ago is not judged by today's clock."""
    world = connected()
    world.now += 1000.0
    assert set() == world.reasons
    world.take(world.machine.tick(world.now))
    assert world.stands(State.OPEN)
    assert world.now + KEEP_S == world.machine.deadline
    assert LATE_S < 1000.0


def test_counters_of_the_host_begin_anew_and_ours_go_on() -> None:
    """What was counted before we came is not ours; what each later connection counted is, all of it."""
    world = World()
    world.file = Picture(4711, world.wall - 600.0, world.wall, world.wall, 3, 21, 40)
    world.look(1.0)
    assert ({FrameKind.HEARTBEAT: 0}, {FrameKind.UNKNOWN: 0}, 0) == (world.picture.frames_sent, world.picture.frames_received, world.picture.reconnects)
    world.beat(29.0)
    world.connect()
    world.look(received=5)
    assert ({FrameKind.HEARTBEAT: 2}, {FrameKind.UNKNOWN: 6}, 1) == (world.picture.frames_sent, world.picture.frames_received, world.picture.reconnects)
    assert 2 == world.picture.heartbeat.sent
    assert 1 == world.picture.timeline.transitions[State.OPEN, State.RECONNECTING]
    assert "the host has another connection by now" == world.picture.timeline.recent[-2].reason
    for received in (3, 5, 6):
        world.look(1.0, received=received)
    assert {FrameKind.UNKNOWN: 7} == world.picture.frames_received
    assert world.picture.report is not None
    assert 4 == world.picture.report.reconnects


def test_a_connection_that_was_made_after_our_start_is_counted_whole() -> None:
    """Though we saw it late."""
    world = World()
    world.file = Picture(4711, world.wall + 5.0, world.wall + 35.0, world.wall + 35.0, 0, 2, 7)
    world.look(36.0)
    assert ({FrameKind.HEARTBEAT: 2}, {FrameKind.UNKNOWN: 7}) == (world.picture.frames_sent, world.picture.frames_received)


def test_a_slow_probe_of_the_connection_before_writes_its_file_once_more() -> None:
    """It is known, so it is no new connection, and nothing of it counts again."""
    world = connected()
    world.beat(INTERVAL_S)
    old = world.file
    world.connect()
    new = world.file
    before = world.picture
    world.file = old
    world.look(1.0)
    assert (State.OPEN, before.reconnects, before.established) == (world.machine.state, world.picture.reconnects, world.picture.established)
    world.file = new
    world.beat(1.0)
    assert (1, {FrameKind.HEARTBEAT: 4}) == (world.picture.reconnects, world.picture.frames_sent)


def test_two_processes_that_write_one_file_are_named() -> None:
    """Both are hosts of the branch, and each cuts the other off. They are one connection after another, not reconnects without end."""
    world = connected()
    first = world.file
    world.connect(5000)
    second = world.file
    for _ in range(4):
        for world.file in (first, second):
            world.look(1.0)
    assert {Reason.DUPLICATE_CLIENT} == world.reasons
    assert (1, 1) == (world.picture.reconnects, world.picture.timeline.transitions[State.OPEN, State.RECONNECTING])
    for _ in range(3):
        world.beat(INTERVAL_S)
    assert set() == world.reasons
    world.file = first
    world.beat(1.0)
    [condition] = world.machine.reasons(world.now)
    assert (Reason.DUPLICATE_CLIENT, world.now) == (condition.reason, condition.since_s)


def test_what_to_do_follows_from_what_was_found() -> None:
    """Nothing here is dialled: each reason says what to look at, the file where it is the file."""
    seen: set[str] = set()

    def told(world: World, **expected: Advice) -> None:
        assert {Reason(reason): advice for reason, advice in expected.items()} == world.advice
        seen.update(expected.values())

    world = World()
    told(world, connecting=Advice.UNDECIDED)
    world.unreadable()
    told(world, connecting=Advice.FILE)
    assert "half of it" == world.picture.last_failure
    world.process = DEAD
    world.look()
    told(world, connecting=Advice.UNDECIDED)
    world.process = ALIVE
    world.connect()
    told(world)
    world.unreadable(1.0)
    told(world)
    world.unreadable(KEEP_S)
    told(world, reconnecting=Advice.FILE)
    world.unreadable(FAILED_AFTER_S)
    told(world, failed=Advice.FILE)
    world.take(world.machine.looked(world.now, Look(missing=True)))
    told(world, failed=Advice.NO_HOST)

    lost = connected()
    lost.look(LIMIT_S + 1.0)
    told(lost, reconnecting=Advice.LOST)
    lost.process = DEAD
    lost.look(1.0)
    told(lost, reconnecting=Advice.NO_HOST)

    hangs = connected()
    hangs.take(hangs.machine.tick(hangs.machine.deadline))
    told(hangs, reconnecting=Advice.FILE)

    never = World(stale_after_s=15.0)
    never.beat(echo=False)
    never.look(15.0)
    told(never, no_echo=Advice.NEVER_HEARD, stale=Advice.QUIET)

    silent = connected()
    silent.beat(INTERVAL_S, echo=False)
    silent.look(TIMEOUT_S + 1.0)
    told(silent, heartbeat_timeout=Advice.SILENT)

    rivals = connected()
    first = rivals.file
    rivals.connect(5000)
    second = rivals.file
    rivals.file = first
    rivals.look(1.0)
    rivals.file = second
    rivals.look(1.0)
    told(rivals, duplicate_client=Advice.RIVALS)
    assert set(Advice) == seen


def test_clocks_that_differ_make_nothing_old() -> None:
    """What changes between two looks happened between them, whatever the file's clock says; a time in the future ages from when it was first seen."""
    for skew_s in (-900.0, 900.0):
        world = World()
        world.file = Picture(1, world.wall + skew_s, world.wall + skew_s, world.wall + skew_s, 0, 1, 1)
        world.process = None
        world.look(1.0)
        for _ in range(3):
            skewed_s = world.wall + INTERVAL_S + skew_s
            world.look(INTERVAL_S - 1.0)
            world.look(1.0, sent_wall_s=skewed_s, heard_wall_s=skewed_s)
        assert (State.OPEN, set()) == (world.machine.state, world.reasons), skew_s
        report = world.picture.report
        assert report is not None
        assert (("its times are ahead of our clock",) if skew_s > 0 else ()) == report.remarks
        world.look(LIMIT_S + 0.5)
        assert world.stands(State.RECONNECTING)


def test_our_clock_steps_without_effect() -> None:
    """Ages are monotonic once seen."""
    world = connected()
    world.take(world.machine.wall(world.now, WALL_S + 86_400.0))
    world.look(1.0)
    assert (State.OPEN, set()) == (world.machine.state, world.reasons)
    world.take(world.machine.wall(world.now, WALL_S - 86_400.0))
    world.look(1.0)
    assert (State.OPEN, set()) == (world.machine.state, world.reasons)


def test_silence_longer_than_configured() -> None:
    """`stale_after` is about anything that arrives: the file does not tell events from echoes."""
    world = connected(stale_after_s=20.0)
    assert Reason.STALE in world.machine.possible_reasons
    world.look(19.0)
    assert set() == world.reasons
    world.look(1.0)
    assert {Reason.STALE} == world.reasons
    world.take(world.machine.configure(world.now, ReportedSettings(INTERVAL_S, TIMEOUT_S)))
    assert set() == world.reasons


def test_a_file_that_others_may_write_is_remarked() -> None:
    """It is believed all the same; what else was remarked stands beside it."""
    world = World()
    world.take(world.machine.remark(world.now, ("a service is odd",)))
    world.take(world.machine.looked(world.now, Look(world.file, mode=0o640, process=ALIVE)))
    assert world.stands(State.OPEN)
    assert world.picture.report is not None
    assert ("others may use the file: its mode is 0640", "a service is odd") == world.picture.report.remarks


def test_the_totals_go_on_in_the_next_process() -> None:
    """Reconnects over all processes, since the first."""
    world = connected()
    world.connect()
    world.now += 1.0
    world.connect()
    point = world.machine.resume_point(world.now)
    assert point is not None
    again = Reported("b", Kind(), "/s/b1.json", ReportedSettings(), point)
    again.wall(5.0, WALL_S)
    assert (1, BEGIN_S + WALL_S) == (again.snapshot().lifetime.reconnects, again.snapshot().lifetime.since_wall_s)
    assert point.plausible()
    assert Reported("b", Kind(), "/s", ReportedSettings()).resume_point(0.0) is None


def test_after_the_end_nothing_counts() -> None:
    """Neither a look nor a tick; before the start neither."""
    fresh = Reported("b", Kind(), "/s/b1.json", ReportedSettings())
    fresh.wall(0.0, WALL_S)
    assert () == fresh.looked(0.0, Look(Picture(1, 0.0, 0.0, None, 0, 0, 0)))
    world = connected()
    world.take(world.machine.stop(world.now))
    world.look(1.0)
    world.take(world.machine.tick(world.now + 1e6))
    assert (State.CLOSED, set(), float("inf")) == (world.machine.state, world.reasons, world.machine.deadline)
    assert not world.machine.active


def counts(taken: ConnectionSnapshot) -> tuple[int, ...]:
    """Everything that is counted."""
    return taken.reconnects, taken.heartbeat.sent, taken.frames_received[FrameKind.UNKNOWN], *taken.anomalies.values()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["look", "beat", "deaf", "connect", "other", "old", "gone", "half", "dead", "alive", "reborn", "unseen", "tick", "step"]),
        st.floats(0.0, 60.0),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(STEPS)
def test_whatever_happens_the_laws_hold(steps: list[tuple[str, float]]) -> None:
    """Only edges of the table, counters that only rise, memory that is bounded; open means a recent heartbeat of a process that may live; one look at a
    well host always leads back to open."""
    world = World()
    old, before = world.file, world.picture
    for step, after_s in steps:
        world.now += after_s
        match step:
            case "look":
                world.look()
            case "beat":
                world.beat()
            case "deaf":
                world.beat(echo=False)
            case "connect":
                old = world.file
                world.connect()
            case "other":
                old = world.file
                world.connect(world.file.pid + 1)
            case "old":
                old, world.file = world.file, old
                world.look()
            case "gone":
                world.take(world.machine.looked(world.now, Look(missing=True)))
            case "half":
                world.unreadable(content=int(after_s))
            case "dead":
                world.process = DEAD
            case "alive":
                world.process = ALIVE
            case "reborn":
                world.process = Sighting(True, int(world.now * 100), world.wall)
            case "unseen":
                world.process = None
            case "tick":
                world.take(world.machine.tick(world.now))
            case "step":
                world.take(world.machine.wall(world.now, WALL_S + after_s - 30.0))
        taken = world.picture
        assert all(one <= other for one, other in zip(counts(before), counts(taken), strict=True))
        assert set(taken.timeline.transitions) <= {(a, b) for a, row in TRANSITIONS.items() for b in row}
        assert world.reasons <= set(world.machine.possible_reasons)
        assert len(world.machine._known) <= CONNECTIONS_KNOWN
        assert (taken.timeline.state is State.OPEN) == (taken.established is not None)
        assert taken.heartbeat.last_sent is None or taken.heartbeat.last_sent.now_s <= world.now
        before = taken
    world.process = None
    world.file = Picture(99, world.wall + 1.0, world.wall + 1.0, world.wall + 1.0, 0, 1, 1)
    world.look(1.0)
    assert world.stands(State.OPEN)
    assert world.reasons <= {Reason.DUPLICATE_CLIENT}

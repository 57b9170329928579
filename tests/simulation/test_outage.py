"""Long outages, half-open connections and servers that stopped pushing, on simulated time: what the session promises about times."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from syncwatch.core.backoff import Backoff
from syncwatch.core.health import Reason
from syncwatch.core.session import SessionSettings
from syncwatch.core.states import AttemptFailure, Claim, Direction, Disconnect, State, Verdict
from tests.simulation.faults import Plan
from tests.simulation.harness.plans import Act
from tests.simulation.relay import AckFault
from tests.simulation.world import World

HOUR_S = 3600.0
DEFAULTS = SessionSettings()


def a_plan(length_s: float, *acts: Act, seed: int = 1, ring: int = 40, pause_s: float = 5.0, verify_s: float = 60.0) -> Plan:
    """A schedule by hand."""
    return Plan(
        seed=seed,
        kinds=(),
        length_s=length_s,
        ring_size=ring,
        page_limit=1000,
        query_s=0.02,
        latency_s=(0.01, 0.03),
        pause_s=pause_s,
        max_jump=100_000,
        verify_interval_s=verify_s,
        client_clock_s=0.0,
        acts=tuple(sorted(acts, key=lambda act: act.at)),
    )


def watched(world: World, at: float, look: Callable[[], None]) -> None:
    """Look at the session at a moment of the schedule."""
    world.timeline.at(world.began + at, look)


@pytest.mark.parametrize("missed", [30, 200])
def test_two_hours_without_an_upstream(missed: int) -> None:
    """An hour of refusals, an hour of silence: never given up, tried at the pace of backoff and breaker, then resumed and recovered exactly."""
    plan = a_plan(
        100.0 + 2 * HOUR_S + 200.0,
        Act(100.0, "drop", "lose"),
        Act(100.0, "door", "refused"),
        Act(100.0 + HOUR_S, "door", "hang"),
        Act(100.0 + HOUR_S, "silence"),
        Act(100.0 + 2 * HOUR_S - 1.0, "burst", value=missed),
        Act(100.0 + 2 * HOUR_S, "door"),
        pause_s=40.0,
    )
    world = World(plan)
    states: set[State] = set()
    for minute in range(2, 120):
        watched(world, 100.0 + 60.0 * minute, lambda: states.add(world.session.state))
    verdict = world.run()
    assert () == verdict.problems
    assert {State.RECONNECTING, State.FAILED} == states
    outage = [at - world.began for at in world.dials if 100.0 < at - world.began < 100.0 + 2 * HOUR_S]
    refused = [at for at in outage if at < 100.0 + HOUR_S]
    backoff = Backoff()
    assert 60 <= len(refused)
    for failures, (before, after) in enumerate(pairwise(refused[: DEFAULTS.breaker]), start=1):
        base = min(backoff.min_s * 2.0 ** (failures - 1), backoff.max_s)
        assert 0.5 * base <= after - before <= 1.5 * base + 0.2
    for before, after in pairwise(refused[DEFAULTS.breaker :]):
        assert DEFAULTS.breaker_retry_s * 0.5 <= after - before <= DEFAULTS.breaker_retry_s * 1.5 + 0.2
    hanging = [at for at in outage if at > 100.0 + HOUR_S]
    assert 30 <= len(hanging)
    for before, after in pairwise(hanging):
        assert after - before <= DEFAULTS.connect_timeout_s + DEFAULTS.breaker_retry_s * 1.5
    snapshot = world.session.snapshot()
    assert snapshot.attempt_failures[AttemptFailure.TIMEOUT] == len(hanging)
    assert snapshot.attempt_failures[AttemptFailure.REFUSED] >= 30
    opened_again = min(at - world.began for at in world.openings if at - world.began > 100.0)
    assert opened_again <= 100.0 + 2 * HOUR_S + DEFAULTS.breaker_retry_s * 1.5 + DEFAULTS.spread_s + 1.0
    continuity = snapshot.continuity
    assert continuity is not None
    assert continuity.recovered + continuity.lost + continuity.unaccounted == continuity.missed
    assert continuity.missed >= missed
    assert (continuity.lost + continuity.unaccounted > 0) == (continuity.missed > 40)


def test_the_delays_are_spread() -> None:
    """A hundred sidecars that lose the same server do not come back in the same second."""
    dials: list[float] = []
    for seed in range(100):
        world = World(a_plan(80.0, Act(50.0, "drop", "lose"), seed=seed))
        assert () == world.run().problems
        dials.append(next(at - world.began for at in world.dials if at - world.began > 50.0))
    assert 3.0 < max(dials) - min(dials) <= DEFAULTS.spread_s + 1.0
    assert 40 >= max(sum(second <= at < second + 1.0 for at in dials) for second in range(50, 60))


@pytest.mark.parametrize("direction", ["down", "up", "both"])
def test_half_open_is_found_within_interval_and_timeout(direction: str) -> None:
    """Whatever the phase between the last ping and the freeze: closed within interval + timeout + 0.5 s, and the right half named."""
    limit_s = DEFAULTS.heartbeat_interval_s + DEFAULTS.heartbeat_timeout_s + 0.5
    rng = random.Random(direction)
    for seed in range(80):
        begin = rng.uniform(10.0, 70.0)
        plan = a_plan(110.0, Act(begin, "freeze", direction), seed=seed, pause_s=rng.choice((0.4, 3.0, 60.0)))
        world = World(plan)
        verdict = world.run()
        assert () == verdict.problems, (seed, begin)
        found = next(at - world.began for at, _ in world.closings if at - world.began > begin)
        assert 0.0 < found - begin <= limit_s, (seed, begin, found)
        snapshot = world.session.snapshot()
        half = snapshot.heartbeat.half_open
        if direction == "down":
            assert (1, 0) == (half[Direction.RECEIVE], half[Direction.SEND])
            assert 1 == snapshot.disconnects[Disconnect.HEARTBEAT_TIMEOUT]
        assert 1 == half[Direction.RECEIVE] + half[Direction.SEND] + snapshot.disconnects[Disconnect.RESYNC_TIMEOUT]


@pytest.mark.parametrize("pause_s", [0.5, 2.0])
def test_a_send_path_that_is_cut_is_named(pause_s: float) -> None:
    """Frames arrive, pings are never answered: that is the send half, and the connection is made anew."""
    for seed in range(20):
        world = World(a_plan(90.0, Act(20.0 + seed, "freeze", "up"), seed=seed, pause_s=pause_s, verify_s=1000.0))
        assert () == world.run().problems
        half = world.session.snapshot().heartbeat.half_open
        assert (0, 1) == (half[Direction.RECEIVE], half[Direction.SEND])


def test_a_server_that_answers_pings_but_pushes_nothing_is_behind() -> None:
    """Found within the tip check's interval and its grace, although pongs arrive all the time; over when the stream runs again."""
    for seed in range(20):
        begin = 70.0 + 2.5 * seed
        world = World(a_plan(begin + 200.0, Act(begin, "set", "stopped", True), Act(begin + 150.0, "unset", "stopped"), seed=seed, pause_s=1.5))
        seen: list[float] = []

        def look(world: World = world, seen: list[float] = seen) -> None:
            now = world.timeline.now
            if any(condition.reason is Reason.BEHIND for condition in world.session.reasons(now)):
                seen.append(now - world.began)

        for tick in range(int((begin + 190.0) * 5)):
            watched(world, tick / 5.0, look)
        assert () == world.run().problems
        assert seen
        assert begin < seen[0] <= begin + DEFAULTS.verify_interval_s + DEFAULTS.verify_grace_s + 2.5
        assert seen[-1] <= begin + 160.0
        assert 0 == sum(world.session.snapshot().disconnects[reason] for reason in (Disconnect.HEARTBEAT_TIMEOUT, Disconnect.RESYNC_TIMEOUT))


def test_unanswered_requests_end_in_an_open_connection_that_says_so() -> None:
    """After two unanswered connections in a row the session stays open, names the reason, and asks again after five minutes."""
    plan = a_plan(
        700.0,
        Act(20.0, "set", "ack", AckFault.MISSING.value),
        Act(20.0, "drop", "lose"),
        Act(20.5, "silence"),
        Act(500.0, "unset", "ack"),
    )
    world = World(plan)
    reasons: dict[int, set[Reason]] = {}

    def look(at: int) -> Callable[[], None]:
        def now() -> None:
            reasons[at] = {condition.reason for condition in world.session.reasons(world.timeline.now)}

        return now

    for at in (100, 300, 690):
        watched(world, at, look(at))
    assert () == world.run().problems
    snapshot = world.session.snapshot()
    assert 1 == snapshot.disconnects[Disconnect.RESYNC_TIMEOUT]
    assert Reason.RESYNC_UNANSWERED in reasons[100]
    assert Reason.RESYNC_UNANSWERED in reasons[300]
    assert Reason.RESYNC_UNANSWERED not in reasons[690]
    assert snapshot.continuity is not None
    assert snapshot.continuity.resyncs[Claim.NONE, Verdict.UNVERIFIABLE] >= 2


@pytest.mark.parametrize(
    ("refusal", "status", "retry_after_s"),
    [("unauthorized", 401, None), ("forbidden", 403, None), ("rate_limited", 429, 20.0), ("rejected", 503, None), ("rejected", 404, None)],
)
def test_refusals_keep_their_own_pace(refusal: str, status: int, retry_after_s: float | None) -> None:
    """Refused credentials are retried every minute, `Retry-After` is honoured, everything else backs off."""
    plan = a_plan(400.0, Act(30.0, "drop", "lose"), Act(30.0, "door", refusal, status, retry_after_s), Act(300.0, "door"))
    world = World(plan)
    reasons: set[Reason] = set()
    watched(world, 200.0, lambda: reasons.update(condition.reason for condition in world.session.reasons(world.timeline.now)))
    assert () == world.run().problems
    gaps = [after - before for before, after in pairwise(at - world.began for at in world.dials if 30.0 < at - world.began < 300.0)]
    if status in (401, 403):
        assert Reason(refusal) in reasons
        assert all(DEFAULTS.breaker_retry_s * 0.5 <= gap <= DEFAULTS.breaker_retry_s * 1.5 + 1.0 for gap in gaps)
    elif retry_after_s is not None:
        assert Reason.RATE_LIMITED in reasons
        assert all(gap >= retry_after_s for gap in gaps)
    else:
        assert {Reason.UPSTREAM_ERROR, Reason.RECONNECTING} & reasons
        assert 8 <= len(gaps)
    assert world.session.snapshot().attempt_failures[AttemptFailure(refusal)] >= 3

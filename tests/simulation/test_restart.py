"""Killed in the middle of trouble and started again: the next process resumes from the state file and counts each number once, from 0."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.simulation.faults import Plan, plan_of
from tests.simulation.faults import plan as mixed
from tests.simulation.harness.plans import Act
from tests.simulation.world import World


def crashing(seed: int, *kinds: str) -> Plan:
    """A schedule in which the process is killed once or twice, up to a second after its state was last written."""
    schedule = plan_of(seed, kinds)
    rng = random.Random(f"crash {seed} {kinds}")
    acts = list(schedule.acts)
    at = 0.0
    for _ in range(rng.randint(1, 2)):
        at += rng.uniform(6.0, schedule.length_s / 2)
        down_s = rng.choice((0.2, 2.0, 5.0))
        acts += [Act(at - rng.random(), "save"), Act(at, "crash", value=down_s)]
        at += down_s + 1.5
    return msgspec.structs.replace(schedule, acts=tuple(sorted(acts, key=lambda act: act.at)))


@pytest.mark.parametrize(
    "kinds",
    [
        ("drop",),
        ("outage",),
        ("skip", "drop"),
        ("reorder", "outage"),
        ("duplicate",),
        ("refuse",),
        ("freeze_receive",),
        ("stopped",),
        ("paging",),
        ("cut",),
        ("missing_ack",),
        ("restart_below",),
        ("clock",),
    ],
    ids="+".join,
)
def test_the_next_process_goes_on(kinds: tuple[str, ...]) -> None:
    """Its counters equal what the oracle folds from what the state file held and from what happened afterwards."""
    for seed in range(25):
        plan = crashing(seed, *kinds)
        problems = World(plan).run().problems
        assert () == problems, (seed, kinds)


def test_mixed_trouble_and_a_crash() -> None:
    """As many kinds at once as the normal run mixes."""
    for seed in (*range(3, 200, 5), 5268):
        assert () == World(crashing(seed, *mixed(seed).kinds)).run().problems, seed


def test_holes_of_the_last_process_are_missed_in_this_one() -> None:
    """The identity holds in each process: what was missing when the state was written is missed at the start of the next."""
    restored = 0
    for seed in range(40):
        world = World(crashing(seed, "skip", "cut"))
        assert () == world.run().problems
        assert world.session.ledger.restored >= 0
        restored += world.session.ledger.restored
    assert 0 < restored

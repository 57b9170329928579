"""A host of TPS against a simulated branch and a simulated disk: seeded schedules, each compared with the oracle after every input; and proof that the harness bites."""

from __future__ import annotations

import pytest

from tests.simulation.harness.runner import Tally, tallied
from tests.simulation.tps.facts import Arrived, What
from tests.simulation.tps.mutants import MUTANTS
from tests.simulation.tps.plans import KINDS, plan, plan_of
from tests.simulation.tps.world import SIMULATION, World

SCHEDULES = 300


@pytest.fixture(scope="module")
def tally() -> Tally:
    """The schedules of the normal run, over all cores."""
    return tallied(SIMULATION, SCHEDULES)


def test_every_schedule_agrees_with_the_oracle(tally: Tally) -> None:
    """After every input each counter and reason is the oracle's, sent = acknowledged + missed + outstanding, and every mail is accounted for once; in the end nothing is wrong any more."""
    assert [] == tally.failed, tally.story()
    assert SCHEDULES == tally.schedules


def test_much_happened(tally: Tally) -> None:
    """A run in which nothing is late, refused or lost would prove nothing."""
    for name, least in {
        "events": 15_000,
        "duplicates": 300,
        "acknowledged": 4000,
        "missed": 500,
        "late": 100,
        "half_open_receive": 30,
        "half_open_send": 30,
        "opens": 400,
        "control_frames": 200,
        "invalid_frames": 200,
        "storage_failures": 300,
    }.items():
        assert least <= tally.totals[name], name
    assert 0 == tally.totals["waiting"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_of_trouble_alone(kind: str) -> None:
    """So that a kind that the seeds happen to neglect is tried all the same."""
    for seed in range(2000, 2003):
        assert () == World(plan_of(seed, (kind,))).run().problems, f"python -m tests.simulation --tps {seed} --kinds {kind}"


def test_a_seed_replays_exactly() -> None:
    """The same facts in the same order at the same times."""
    for seed in (3, 13, 14):
        first, second = World(plan(seed)), World(plan(seed))
        assert first.run() == second.run()
        assert first.facts == second.facts


@pytest.mark.parametrize("mistake", sorted(MUTANTS))
def test_the_harness_catches(mistake: str) -> None:
    """Each deliberate mistake is found in some of the schedules that give it a chance, which agree without it."""
    mutant = MUTANTS[mistake]
    caught = 0
    for seed in range(40):
        schedule = plan_of(seed, tuple(mutant.kinds[seed % len(mutant.kinds)].split("+")))
        if World(schedule, mutant.protocol, mutant.session).run().problems:
            caught += 1
            assert () == World(schedule).run().problems
        if caught == 2:
            return
    raise AssertionError(f"caught {caught} times")


def test_mail_behind_our_own_close_is_kept() -> None:
    """A process that is stopped in order takes what is on its way; the schedules do have such mail."""
    left = 0
    for seed in range(40):
        world = World(plan_of(seed, ("stop",)))
        assert () == world.run().problems
        left += sum(isinstance(fact, Arrived) and fact.left and fact.what is What.MAIL for fact in world.facts)
        if left >= 10:
            return
    raise AssertionError(f"{left} mails")

"""Schedules run by hand: what is told of those that fail, so that each can be seen again, and of those that do not."""

from __future__ import annotations

import functools
import re

import pytest

from syncwatch.core.session import SessionSettings
from tests.simulation import world as ring
from tests.simulation.faults import plan_of
from tests.simulation.feeds import world as feeds
from tests.simulation.harness.byhand import many, one
from tests.simulation.harness.runner import Simulation, tallied
from tests.simulation.tps import world as tps

HASTY = Simulation(
    functools.partial(plan_of, kinds=("skip", "straggle")),
    plan_of,
    functools.partial(ring.World, settings=SessionSettings(hole_grace_s=0.2)),
    name="hasty",
    option="--hasty",
)
"""Holes are confirmed too early: most of its schedules fail."""


def test_those_that_fail_are_told_with_the_way_to_see_them_again(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each, the seeds together at the end, and an exit code that says so."""
    assert 1 == many(HASTY, 0, 6, processes=1)
    told = capsys.readouterr().out
    seeds = re.findall(r"^FAILED hasty seed (\d+) skip,straggle: \S", told, re.MULTILINE)
    assert f"\nfailing seeds: {' '.join(sorted(seeds, key=int))}\n" in told
    assert f"hasty: 6 schedules in {re.findall(r'in ([0-9.]+) s', told)[-1]} s, {len(seeds)} failed\n" in told
    assert told.endswith("replay one with: python -m tests.simulation --hasty SEED --verbose\n")
    assert seeds


def test_the_story_of_a_run_names_each_failure_and_its_replay() -> None:
    """What a failing test says."""
    tally = tallied(HASTY, 6)
    story = tally.story().splitlines()
    assert f"{len(tally.failed)} schedules failed" == story[0]
    replays = [line.removeprefix("    replay: ") for line in story[2::2]]
    assert [f"python -m tests.simulation --hasty {seed} --verbose" for seed in sorted(outcome.seed for outcome in tally.failed)] == replays
    assert replays


@pytest.mark.parametrize("simulation", [ring.SIMULATION, *feeds.SIMULATIONS.values(), tps.SIMULATION], ids=lambda simulation: simulation.option or "ring")
def test_one_schedule_is_told(simulation: Simulation, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle and session side by side, exemptions where there are any; every step only to those who ask."""
    assert 0 == one(simulation, 3, None, verbose=False, pedantic=True)
    brief = capsys.readouterr().out.splitlines()
    assert 0 == one(simulation, 3, None, verbose=True, pedantic=False)
    full = capsys.readouterr().out.splitlines()
    heads = [line.split(":")[0].split(" ")[0] for line in brief]
    assert ["seed", *(["exempted"] if simulation.exempts else []), "oracle", "session", "agreed"] == heads
    assert brief == [full[0], *full[-len(brief) + 1 :]]
    assert any("== quiet" in line for line in full)


def test_each_simulation_says_how_it_is_run() -> None:
    """With the options that `--help` has."""
    commands = [simulation.command(7) for simulation in (ring.SIMULATION, *feeds.SIMULATIONS.values(), tps.SIMULATION)]
    assert [f"python -m tests.simulation {option}7" for option in ("", "--feeds relayfile ", "--feeds observer ", "--tps ")] == commands

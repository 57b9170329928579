"""Run schedules of one simulation by hand: one told, or many counted. The command line is `tests.simulation.__main__`."""

from __future__ import annotations

import time

from tests.simulation.harness.runner import Simulation, Tally, outcomes


def one(simulation: Simulation, seed: int, kinds: str | None, verbose: bool, pedantic: bool) -> int:
    """One schedule, told."""
    schedule = simulation.plan(seed) if kinds is None else simulation.plan_of(seed, tuple(kinds.split(",")))
    print(f"seed {seed}: {schedule}")

    def tell(now: float, text: str) -> None:
        print(f"{now - world.began:9.3f} {text}")

    world = simulation.world(schedule, narrator=tell if verbose else None, pedantic=pedantic)
    verdict = world.run()
    if simulation.exempts:
        print(f"exempted: {dict(verdict.exemptions) or 'nothing'}")
    print(f"oracle:  {verdict.expected}")
    print(f"session: {verdict.shown}")
    for problem in verdict.problems:
        print(f"PROBLEM {problem}")
    print("agreed" if not verdict.problems else f"{len(verdict.problems)} problems")
    return 1 if verdict.problems else 0


def many(simulation: Simulation, first: int, count: int, processes: int | None) -> int:
    """Many schedules over all cores."""
    began = time.monotonic()
    tally = Tally(simulation)
    which = f"{simulation.name} seed" if simulation.name else "seed"
    for outcome in outcomes(simulation, first, count, processes):
        tally.add(outcome)
        if outcome.problems:
            print(f"FAILED {which} {outcome.seed} {','.join(outcome.kinds)}: {outcome.problems[0][:300]}", flush=True)
        if tally.schedules % simulation.report_every == 0:
            print(f"{tally.schedules} schedules in {time.monotonic() - began:.0f} s, {len(tally.failed)} failed", flush=True)
    total = f"{tally.schedules} schedules in {time.monotonic() - began:.1f} s, {len(tally.failed)} failed"
    print(f"{simulation.name}: {total}" if simulation.name else total)
    print(f"the oracle's counters, summed: {dict(tally.totals)}")
    if simulation.exempts:
        print(f"schedules that used an exemption: {dict(tally.exempted) or 'none'}")
    if tally.failed:
        print("failing seeds:", " ".join(str(outcome.seed) for outcome in sorted(tally.failed, key=lambda outcome: outcome.seed)))
        print(f"replay one with: {simulation.command('SEED', '--verbose')}")
    return 1 if tally.failed else 0

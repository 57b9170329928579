"""Run schedules by hand: one seed with its story, or very many on every core.

python -m tests.simulation SEED [--verbose]   one schedule; --verbose tells every frame
python -m tests.simulation --count 100000     seeds 0 to 99999; failing ones are listed, and then the exit code is 1

With --feeds relayfile or --feeds observer the same for the protocols that settle by reading a feed, with --tps for a host of TPS.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.faults import KINDS, plan, plan_of
from tests.simulation.feeds import byhand
from tests.simulation.feeds.plans import OBSERVER, RELAYFILE
from tests.simulation.runner import Tally, outcomes
from tests.simulation.tps import byhand as tps_byhand
from tests.simulation.world import World

REPORT_EVERY = 5000


def one(seed: int, kinds: str | None, verbose: bool, pedantic: bool) -> int:
    """One schedule, told."""
    schedule = plan(seed) if kinds is None else plan_of(seed, tuple(kinds.split(",")))
    print(f"seed {seed}: {schedule}")

    def tell(now: float, text: str) -> None:
        print(f"{now - world.began:9.3f} {text}")

    world = World(schedule, narrator=tell if verbose else None, pedantic=pedantic)
    verdict = world.run()
    print(f"exempted: {dict(verdict.exemptions) or 'nothing'}")
    print(f"oracle:  {verdict.expected}")
    print(f"session: {verdict.shown}")
    for problem in verdict.problems:
        print(f"PROBLEM {problem}")
    print("agreed" if not verdict.problems else f"{len(verdict.problems)} problems")
    return 1 if verdict.problems else 0


def many(first: int, count: int, processes: int | None) -> int:
    """Many schedules over all cores."""
    began = time.monotonic()
    tally = Tally()
    for outcome in outcomes(first, count, processes):
        tally.add(outcome)
        if outcome.problems:
            print(f"FAILED seed {outcome.seed} {','.join(outcome.kinds)}: {outcome.problems[0][:300]}", flush=True)
        if tally.schedules % REPORT_EVERY == 0:
            print(f"{tally.schedules} schedules in {time.monotonic() - began:.0f} s, {len(tally.failed)} failed", flush=True)
    print(f"{tally.schedules} schedules in {time.monotonic() - began:.1f} s, {len(tally.failed)} failed")
    print(f"the oracle's counters, summed: {dict(tally.totals)}")
    print(f"schedules that used an exemption: {dict(tally.exempted) or 'none'}")
    if tally.failed:
        print("failing seeds:", " ".join(str(outcome.seed) for outcome in sorted(tally.failed, key=lambda outcome: outcome.seed)))
        print("replay one with: python -m tests.simulation SEED --verbose")
    return 1 if tally.failed else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--verbose", action="store_true", help="tell every frame, effect and fault")
    parser.add_argument("--pedantic", action="store_true", help="compare after every input and stop at the first disagreement")
    parser.add_argument("--kinds", help=f"instead of the seed's own kinds these, comma separated: {', '.join(KINDS)}")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--feeds", choices=(RELAYFILE, OBSERVER), help="schedules of this protocol instead of the acknowledging one")
    parser.add_argument("--tps", action="store_true", help="schedules of a TPS host and its branch")
    given = parser.parse_args()
    if given.tps and given.seed is not None:
        return tps_byhand.one(given.seed, given.kinds, given.verbose)
    if given.tps:
        return tps_byhand.many(given.first, given.count, given.processes)
    if given.feeds is not None and given.seed is not None:
        return byhand.one(given.feeds, given.seed, given.kinds, given.verbose, given.pedantic)
    if given.feeds is not None:
        return byhand.many(given.feeds, given.first, given.count, given.processes)
    if given.seed is not None:
        return one(given.seed, given.kinds, given.verbose, given.pedantic)
    return many(given.first, given.count, given.processes)


if __name__ == "__main__":
    sys.exit(main())

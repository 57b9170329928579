"""Run schedules by hand: one seed with its story, or very many on every core.

python -m tests.simulation SEED [--verbose]   one schedule; --verbose tells every frame
python -m tests.simulation --count 100000     seeds 0 to 99999; failing ones are listed, and then the exit code is 1

With --feeds relayfile or --feeds observer the same for the protocols that settle by reading a feed, with --tps for a host of TPS.
"""

from __future__ import annotations

import argparse
import sys

from tests.simulation import world as ring
from tests.simulation.faults import KINDS
from tests.simulation.feeds import world as feeds
from tests.simulation.feeds.plans import OBSERVER, RELAYFILE
from tests.simulation.harness.byhand import many, one
from tests.simulation.tps import world as tps


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
    if given.tps:
        simulation = tps.SIMULATION
    elif given.feeds is not None:
        simulation = feeds.SIMULATIONS[given.feeds]
    else:
        simulation = ring.SIMULATION
    if given.seed is not None:
        return one(simulation, given.seed, given.kinds, given.verbose, given.pedantic)
    return many(simulation, given.first, given.count, given.processes)


if __name__ == "__main__":
    sys.exit(main())

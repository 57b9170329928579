"""`python -m tests.benchmarks [--quick]`: the performance that syncwatch promises, measured here and now. Exit code 1 when a target is missed.

It needs a machine that does nothing else: what shares the processor shows in the spread.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.cost import FULL_SPEED_TARGET, Plan, full_speed, paced
from tests.benchmarks.footprint import memory, start
from tests.benchmarks.halfopen import half_open
from tests.benchmarks.mirrors import mirrors
from tests.benchmarks.processes import ENVIRONMENT
from tests.benchmarks.report import Row, table

FULL = Plan(rounds=5, burst=100_000, replay=50_000, paced_rounds=32, paced_s=2)
MIXED = Plan(rounds=3, burst=60_000, replay=30_000, paced_rounds=0, paced_s=0)
QUICK = Plan(rounds=3, burst=40_000, replay=20_000, paced_rounds=2, paced_s=4)


def npm_packages() -> Path | None:
    """Where the npm client is, installing it on first use; None without node or npm."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    from tests.interop.npm import HERE, install

    install()
    return HERE / "node_modules"


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--quick", action="store_true", help="a short form, in about a minute: less exact")
    quick = parser.parse_args().quick
    plan = QUICK if quick else FULL
    modules = npm_packages()
    print(f"{platform.platform()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.2f}, Python {platform.python_version()}", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="syncwatch-bench-") as directory:
        scratch = Path(directory)
        if "PYTHONDONTWRITEBYTECODE" in os.environ:
            ENVIRONMENT["PYTHONPYCACHEPREFIX"] = str(scratch / "bytecode")
        parts: list[tuple[str, Callable[[], list[Row]]]] = [
            ("start", lambda: start(5 if quick else 9, scratch)),
            ("memory", lambda: memory(scratch)),
            ("half-open", lambda: half_open(1 if quick else 4, scratch)),
            ("mirrors", lambda: mirrors(5 if quick else 9, scratch)),
            ("full speed", lambda: full_speed("messages", plan, scratch, modules, FULL_SPEED_TARGET)),
            ("100 frames a second", lambda: paced(plan, scratch, modules)),
        ]
        if not quick:
            parts.append(("full speed, mixed", lambda: full_speed("mixed", MIXED, scratch, modules, None)))
        for name, measure in parts:
            began_s = time.monotonic()
            rows += measure()
            print(f"{name}: measured in {time.monotonic() - began_s:.0f} s", flush=True)
    print(f"load {os.getloadavg()[0]:.2f}\n\n{table(rows)}")
    return 1 if any(item.missed for item in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

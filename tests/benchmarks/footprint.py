"""What the sidecar needs of the machine besides time: memory with one connection, and how long it takes until it answers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.cost import sending
from tests.benchmarks.processes import ENVIRONMENT, Sidecar
from tests.benchmarks.report import Row, ratios, row

FRAMES = 20_000
SCRAPES = 20
MEMORY_TARGET_MIB, START_TARGET_S = 45.0, 0.6
IMPORTS = "import aiohttp, prometheus_client"
KIB = 1024
MILLI = 1e3


def memory(scratch: Path) -> list[Row]:
    """After 20,000 frames and some scrapes in both formats; and what a scrape costs then."""
    with sending("messages", FRAMES, scratch) as sender:
        sidecar = Sidecar("memory", {"memory": sender.url}, scratch)
        try:
            sidecar.first_scrape_s()
            at_start = sidecar.memory_kib()
            sender.order("peer", "memory")
            sender.order("settle", "memory")
            sender.order("live", "memory", count=FRAMES, rate=0)
            before_s = sidecar.cpu_s()
            for _ in range(SCRAPES):
                sidecar.scrape()
                sidecar.scrape("application/openmetrics-text")
            scrape_s = (sidecar.cpu_s() - before_s) / (2 * SCRAPES)
            found = sidecar.memory_kib()
        finally:
            sidecar.end()
    return [
        Row("memory, one connection: resident (RSS)", found["Rss"] / KIB, "MiB", target=MEMORY_TARGET_MIB),
        Row("memory, one connection: its share (PSS)", found["Pss"] / KIB, "MiB"),
        Row("memory, one connection: its own (anonymous)", found["Anonymous"] / KIB, "MiB"),
        Row("memory before the first frame (RSS)", at_start["Rss"] / KIB, "MiB"),
        Row("a scrape", scrape_s * MILLI, "ms of CPU"),
    ]


def start(times: int, scratch: Path) -> list[Row]:
    """From a fresh interpreter to the first answer of /metrics, and beside it the imports that nobody gets around."""
    ours: list[float] = []
    imports: list[float] = []
    with sending("messages", 1, scratch) as sender:
        for number in range(times + 1):
            sidecar = Sidecar(f"start-{number}", {f"start-{number}": sender.url}, scratch)
            try:
                ours.append(sidecar.first_scrape_s())
            finally:
                sidecar.end()
            began_s = time.monotonic()
            subprocess.run([sys.executable, "-c", IMPORTS], check=True, env=ENVIRONMENT)
            imports.append(time.monotonic() - began_s)
    del ours[0], imports[0]  # these have filled the disk's cache, and compiled what was not
    return [
        row("start to the first /metrics", ours, "s", START_TARGET_S),
        row(f'start / python -c "{IMPORTS}"', ratios(ours, imports)),
    ]

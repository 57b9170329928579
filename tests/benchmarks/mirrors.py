"""What a mirror of 10,000 files costs: the first comparison beside a plain walk, the way of a change, processor time per change, rest, memory."""

from __future__ import annotations

import json
import os
import statistics
import time
import urllib.request
from pathlib import Path

from syncwatch.core.effects import Compare
from syncwatch.runtime.mirroring import Pair, PairSettings
from tests.benchmarks.processes import SYNCWATCH, Process, free_port
from tests.benchmarks.report import Row, ratios, row

FILES = 10_000
IN_A_FOLDER = 50
CHANGES = 1_000
TRIPS = 200
WALK_TARGET = 1.5
MILLI, KIB = 1e3, 1024
OLD_NS = 1_700_000_000 * 10**9
REST_S = 20.0


def mirrors(times: int, scratch: Path) -> list[Row]:
    """All of it, on two trees that are equal at the beginning."""
    roots = scratch / "mount", scratch / "project"
    for root in roots:
        _grow(root)
    time.sleep(3.0)  # what was written just now would be read, byte for byte
    return [*_walks(times, roots), *_living(roots, scratch)]


def _grow(root: Path) -> None:
    for number in range(FILES):
        folder = root / f"src/package{number // IN_A_FOLDER:03d}/inner"
        if number % IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
        file = folder / f"file_{number:05d}.txt"
        file.write_bytes(b"x" * (number % 300))
        os.utime(file, ns=(OLD_NS + number, OLD_NS + number))


def _plain(root: str) -> int:
    """The floor: os.scandir and stat, and nothing made of it."""
    files, waiting = 0, [root]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for one in entries:
                if one.is_dir(follow_symlinks=False):
                    waiting.append(one.path)
                else:
                    one.stat(follow_symlinks=False)
                    files += 1
    return files


def _walks(times: int, roots: tuple[Path, Path]) -> list[Row]:
    mount, project = map(str, roots)
    ours: list[float] = []
    plain: list[float] = []
    for _ in range(times + 1):
        began_s = time.perf_counter()
        assert 2 * FILES == sum(_plain(str(root)) for root in roots)
        middle_s = time.perf_counter()
        report = Pair(PairSettings("bench", mount, project, ignore=(".git", "node_modules"))).compare(Compare(0))
        ours.append(time.perf_counter() - middle_s)
        plain.append(middle_s - began_s)
        assert report.clean
    ours, plain = ours[1:], plain[1:]
    return [
        row("first comparison of 10,000 files, by a plain walk with stat of both trees", ratios(ours, plain), target=WALK_TARGET),
        row("the same, alone", [one * MILLI for one in ours], "ms"),
    ]


class _Sidecar(Process):
    """One mirror in mode sync, with its defaults."""

    def __init__(self, roots: tuple[Path, Path], scratch: Path) -> None:
        local = free_port()
        mirror = {"name": "bench", "mode": "sync", "mount": str(roots[0]), "project": str(roots[1])}
        config = scratch / "mirrors.yaml"
        config.write_text(json.dumps({"listen": f"127.0.0.1:{free_port()}", "local_listen": f"127.0.0.1:{local}", "mirrors": [mirror]}))
        super().__init__("mirrors", [str(SYNCWATCH), "run", "--config", str(config)], scratch / "mirrors.log")
        self._local = f"http://127.0.0.1:{local}"

    def ready(self) -> None:
        """Wait until it has compared everything and both watches are proven."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < 30:
            try:
                with urllib.request.urlopen(f"{self._local}/status", timeout=5) as answer:
                    (mirror,) = json.loads(answer.read())["mirrors"]
            except OSError:
                mirror = None
            if mirror and mirror["last_reconcile"] and mirror["watchers_healthy"] and mirror["comparing_for_s"] is None:
                return
            time.sleep(0.05)
        raise RuntimeError(self.log.read_text()[-2000:])

    def flush(self) -> None:
        """Until everything is on the other side."""
        request = urllib.request.Request(f"{self._local}/flush?timeout_s=60", method="POST")
        with urllib.request.urlopen(request, timeout=70) as answer:
            assert json.loads(answer.read())["complete"]


def _living(roots: tuple[Path, Path], scratch: Path) -> list[Row]:
    mount, project = roots
    sidecar = _Sidecar(roots, scratch)
    try:
        sidecar.ready()
        memory = sidecar.memory_kib()
        trips = [_trip(mount, project, number) if number % 2 else _trip(project, mount, number) for number in range(TRIPS)]
        sidecar.flush()
        before_s = sidecar.cpu_s()
        for number in range(CHANGES):
            (mount / f"src/package{number % 200:03d}/inner/new_{number}").write_bytes(b"x" * 100)
            time.sleep(0.005)
        while not all((project / f"src/package{number % 200:03d}/inner/new_{number}").exists() for number in range(CHANGES)):
            time.sleep(0.01)
        changes_s = sidecar.cpu_s() - before_s
        sidecar.flush()
        before_s = sidecar.cpu_s()
        time.sleep(REST_S)
        rest = (sidecar.cpu_s() - before_s) / REST_S
    finally:
        sidecar.end()
    ordered = sorted(trips)
    return [
        Row("a change until it is on the other side: p50", statistics.median(ordered) * MILLI, "ms", ordered[0] * MILLI, ordered[-1] * MILLI),
        Row("the same: p99", ordered[int(len(ordered) * 0.99)] * MILLI, "ms"),
        Row("1,000 changes, 200 a second", changes_s, "s of CPU"),
        Row("at rest", rest * MILLI, "ms of CPU a second"),
        Row("memory, a mirror of 10,000 files (RSS)", memory["Rss"] / KIB, "MiB"),
    ]


def _trip(here: Path, there: Path, number: int) -> float:
    """Seconds from the end of a write to the file on the other side."""
    name = f"src/package{number % 200:03d}/inner/trip_{number}"
    (here / name).write_bytes(b"x" * 100)
    began_s = time.perf_counter()
    while not (there / name).exists():
        if time.perf_counter() - began_s > 30:
            raise RuntimeError(f"{name} did not arrive")
        time.sleep(0.0005)
    return time.perf_counter() - began_s

"""The processes of a measurement: started, asked for their processor time, stopped, and asked what they counted.

What belongs here: children of ours and only those. What they do is client.mjs, floor.py, sender.py and syncwatch itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SYNCWATCH = Path(sys.executable).parent / "syncwatch"
STOP_S = 5.0
START_S = 20.0

# As installed: with compiled bytecode, which a source tree has only after a first run, and some machines forbid to be written beside the source.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

_libc = ctypes.CDLL(None, use_errno=True)


def cpu_clock(pid: int) -> int:
    """The clock of a process's own time on the processor, all threads, user and system: nanoseconds, where /proc has ticks of 10 ms."""
    clock = ctypes.c_int()
    if _libc.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise ProcessLookupError(pid)
    return clock.value


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Process:
    """A child; `cpu_s` is what it has cost so far."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as errors:
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=ENVIRONMENT, text=True
            )
        self.pid = self._child.pid
        self._clock = cpu_clock(self.pid)

    def cpu_s(self) -> float:
        """Seconds of processor time, user and system, of all its threads."""
        return time.clock_gettime(self._clock)

    def ask(self, line: dict[str, Any] | None = None) -> Any:
        """Write a line of JSON, if there is one, and read a line."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        if line is not None:
            self._child.stdin.write(json.dumps(line) + "\n")
            self._child.stdin.flush()
        answer = self._child.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()[-2000:]}")
        return json.loads(answer)

    def memory_kib(self) -> dict[str, int]:
        """Rss and Pss, KiB."""
        rows = (line.split() for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()[1:])
        return {row[0].rstrip(":"): int(row[1]) for row in rows}

    def end(self) -> str:
        """SIGTERM; returns what it wrote to standard output and was not yet read."""
        if self._child.poll() is None:
            self._child.terminate()
        try:
            output, _ = self._child.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            output, _ = self._child.communicate()
        return output


class Sender(Process):
    """The server, in a process of its own."""

    def __init__(self, stream: str, frames: int, scratch: Path) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.sender", stream, str(frames)]
        super().__init__("sender", command, scratch / f"sender-{stream}.log")
        self.url = f"http://127.0.0.1:{self.ask()['port']}"

    def order(self, do: str, name: str, **how: Any) -> float | None:
        """Have something done and wait until it is; returns the seconds that it took, if they mean anything."""
        seconds: float | None = self.ask({"do": do, "name": name, **how})["seconds"]
        return seconds


class Sidecar(Process):
    """`syncwatch run` as it is meant to run: its defaults, both listeners, a state directory."""

    def __init__(self, name: str, connections: dict[str, str], scratch: Path, more: str = "") -> None:
        self.port, local = free_port(), free_port()
        home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=scratch))
        lines = [f"listen: 127.0.0.1:{self.port}", f"local_listen: 127.0.0.1:{local}", f"state_dir: {home / 'state'}", "connections:"]
        for token, url in connections.items():
            (home / token).write_text(token)
            (home / token).chmod(0o600)
            lines += [f"  - name: {token}", "    protocol: relaycast", f"    url: {url}", f"    token_file: {home / token}"]
            lines += ["    subscribe: [general]", *(f"    {line}" for line in more.splitlines())]
        config = home / "syncwatch.yaml"
        config.write_text("\n".join(lines) + "\n")
        self.started_s = time.monotonic()
        super().__init__(name, [str(SYNCWATCH), "run", "--config", str(config)], home / "log")

    def scrape(self, accept: str = "text/plain") -> str:
        """One GET of /metrics."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=STOP_S) as answer:
            text: str = answer.read().decode()
            return text

    def first_scrape_s(self) -> float:
        """Seconds from the start of the process to the first answer of /metrics. Raises TimeoutError."""
        while time.monotonic() < self.started_s + START_S:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                self.scrape()
                return time.monotonic() - self.started_s
            time.sleep(0.002)
        raise TimeoutError(f"{self.name} does not answer:\n{self.log.read_text()[-2000:]}")

    def counted(self) -> dict[str, float]:
        """Samples of /metrics by name and labels, as they are written there."""
        rows = (line.rpartition(" ") for line in self.scrape().splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}


@contextlib.contextmanager
def running(*processes: Process) -> Iterator[None]:
    """End them, whatever happens."""
    try:
        yield
    finally:
        for process in processes:
            process.end()

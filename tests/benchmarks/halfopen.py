"""How long a dead connection passes for a live one: real sockets whose peer falls silent at every phase of the ping interval.

Two ways to be dead: nothing comes any more, or events come and pings are not answered (the sending direction is dead). One more connection of the
same sidecar is flooded meanwhile, so that the loop is busy.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.benchmarks.frames import Stream
from tests.benchmarks.processes import Sidecar
from tests.benchmarks.report import Row
from tests.benchmarks.sender import Server, Silence

INTERVAL_S, TIMEOUT_S, ALLOWANCE_S = 1.0, 0.6, 0.5
PHASES = (0.02, 0.25, 0.5, 0.75, 0.98)
TRICKLE_S = 0.05
FLOOD = 150_000


def half_open(rounds: int, scratch: Path) -> list[Row]:
    """Each phase, both ways, `rounds` times over."""
    server = Server(Stream("messages", FLOOD))
    kinds = {f"{kind.value}-{index}": (kind, phase) for kind in Silence for index, phase in enumerate(PHASES)}
    names = [*kinds, "flood"]
    settings = f"heartbeat: {{interval: {INTERVAL_S:g}s, timeout: {TIMEOUT_S * 1000:g}ms}}\nreconnect: {{min: 50ms, max: 100ms}}"
    sidecar = Sidecar("half-open", dict.fromkeys(names, f"http://127.0.0.1:{server.port}"), scratch, settings)
    found: dict[Silence, list[float]] = {kind: [] for kind in Silence}
    try:
        for number in range(rounds):
            flood = threading.Thread(target=server.live, args=("flood", FLOOD // rounds, 0.0), daemon=True)
            watching = [threading.Thread(target=_one, args=(server, name, *kinds[name], found), daemon=True) for name in kinds]
            for thread in (*watching, flood):
                thread.start()
            for thread in (*watching, flood):
                thread.join()
            if any(len(delays) != (number + 1) * len(PHASES) for delays in found.values()):
                raise ValueError(f"not every dead connection was found:\n{sidecar.log.read_text()[-3000:]}")
        counted = sidecar.counted()
    finally:
        sidecar.end()
    return [_row(kind, found[kind], counted) for kind in Silence]


def _one(server: Server, name: str, kind: Silence, phase: float, found: dict[Silence, list[float]]) -> None:
    """Let a connection be answered once, then kill it at its phase and wait for the client's last word."""
    peer = server.peer(name)
    peer.pinged.wait()
    time.sleep(max(0.0, peer.last_ping_s + phase * INTERVAL_S - time.monotonic()))
    peer.silence, dead_s = kind, time.monotonic()
    while not peer.closed.wait(TRICKLE_S):
        if kind is Silence.PONGS:
            server.live_now(name)
        if time.monotonic() > dead_s + 10 * (INTERVAL_S + TIMEOUT_S):
            return
    found[kind].append(peer.closed_s - dead_s)


def _row(kind: Silence, delays: list[float], counted: dict[str, float]) -> Row:
    direction = "send" if kind is Silence.PONGS else "receive"
    names = [f"{kind.value}-{index}" for index in range(len(PHASES))]
    named = sum(counted[f'syncwatch_half_open_total{{connection="{name}",direction="{direction}"}}'] for name in names)
    if named != len(delays):
        raise ValueError(f"{named:g} of {len(delays)} verdicts name the direction {direction}")
    limit_s = INTERVAL_S + TIMEOUT_S + ALLOWANCE_S
    what = "events still come" if kind is Silence.PONGS else "nothing comes"
    note = f"the slowest of {len(delays)}; interval {INTERVAL_S:g} s, timeout {TIMEOUT_S:g} s"
    return Row(f"half-open found, {what}", max(delays), "s", min(delays), max(delays), limit_s, note)

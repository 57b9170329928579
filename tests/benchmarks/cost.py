"""Processor time per frame: syncwatch, the npm client, and what plain Python costs at least, on the same frames.

What belongs here: the order of things in a round, and the proof that everybody did the work. Clients take turns within each round, so that a ratio
compares neighbours in time; time is the process's own on the processor, never the wall's.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from tests.benchmarks.processes import Process, Sender, Sidecar
from tests.benchmarks.report import Row, ratios, row

HERE = Path(__file__).parent
WARM_UP = 10_000
RATE = 100.0
SDK, OURS, FLOOR, FLOOR_ASYNCIO = "npm client", "syncwatch", "plain loop, uvloop", "plain loop, asyncio"
FULL_SPEED_TARGET, PACED_TARGET = 0.30, 0.45
SETTLE_S = 1.0
MICRO = 1e6

Costs = dict[str, list[float]]
T = TypeVar("T")


class Plan(msgspec.Struct, frozen=True):
    """How much of it: rounds, frames in a burst and in a replay, seconds of a paced turn."""

    rounds: int
    burst: int
    replay: int
    paced_rounds: int
    paced_s: int


class Clients:
    """Starts clients against one sender and checks, when they end, that they had everything. `modules` is where the npm packages are."""

    def __init__(self, sender: Sender, scratch: Path, modules: Path | None) -> None:
        self.sender = sender
        self._scratch = scratch
        self._modules = modules
        self._count = 0

    @property
    def names(self) -> list[str]:
        """Who takes part; the npm client only where it can be had."""
        return [name for name in (SDK, OURS, FLOOR, FLOOR_ASYNCIO) if name != SDK or self._modules is not None]

    @contextlib.contextmanager
    def connected(self, name: str, warm_up: int) -> Iterator[Client]:
        """A client that is connected and warm; its work is checked at the end."""
        self._count += 1
        token, url = f"client-{self._count}", self.sender.url
        process: Process
        if name == OURS:
            process = Sidecar(token, {token: url}, self._scratch)
        elif name == SDK:
            command = ["node", str(HERE / "client.mjs"), url, token, str(self._modules)]
            process = Process(name, command, self._scratch / f"{token}.log")
        else:
            command = [sys.executable, "-m", "tests.benchmarks.floor", url, token, name.rpartition(" ")[2]]
            process = Process(name, command, self._scratch / f"{token}.log")
        client = Client(name, token, process, self.sender)
        try:
            self.sender.order("peer", token)
            if name == OURS:
                self.sender.order("settle", token)
            client.live(warm_up)
            yield client
            client.check()
        finally:
            process.end()


class Client:
    """One client at work."""

    def __init__(self, name: str, token: str, process: Process, sender: Sender) -> None:
        self.name = name
        self.token = token
        self.process = process
        self._sender = sender
        self._live = self._replayed = 0

    def live(self, count: int, rate: float = 0.0) -> float:
        """Take `count` live frames; returns what one has cost, µs."""
        self._live += count
        return self._cost(count, lambda: self._sender.order("live", self.token, count=count, rate=rate))

    def replay(self, count: int) -> float:
        """Be dropped, come back, and take `count` missed frames as one replay; returns what one has cost, µs, the reconnect included."""
        self._replayed += count
        return self._cost(count, lambda: self._sender.order("replay", self.token, count=count))

    def check(self) -> None:
        """Raises: ValueError when it did not do all the work, or did other work than it should."""
        wanted, found = self._wanted(), self._found()
        if found != wanted and isinstance(self.process, Sidecar):
            time.sleep(SETTLE_S)  # a tip check was just under way
            found = self._found()
        if found != wanted:
            raise ValueError(f"{self.name} counted {found}, not {wanted}: what was measured means nothing\n{self.process.log.read_text()[-2000:]}")

    def _cost(self, count: int, work: Callable[[], object]) -> float:
        before_s = self.process.cpu_s()
        work()
        return (self.process.cpu_s() - before_s) / count * MICRO

    def _wanted(self) -> dict[str, float]:
        if self.name == OURS:
            return {"live": self._live, "ring": self._replayed, "missed": self._replayed, "recovered": self._replayed, "surplus": 0}
        wanted = {"events": self._live + self._replayed}
        return {**wanted, "replayed": self._replayed, "odd": 0} if self.name == SDK else {**wanted, "duplicates": 0}

    def _found(self) -> dict[str, float]:
        if not isinstance(self.process, Sidecar):
            said = json.loads(self.process.end())
            return {name: said[name] for name in self._wanted()}
        counted, connection = self.process.counted(), f'connection="{self.token}"'
        duplicates = counted[f"syncwatch_events_duplicate_total{{{connection}}}"]
        overlaps = counted[f'syncwatch_resyncs_total{{claim="complete",{connection},verdict="verified"}}'] - 1  # all but the first find one
        return {
            "live": counted[f'syncwatch_events_received_total{{{connection},origin="live"}}'],
            "ring": counted[f'syncwatch_events_received_total{{{connection},origin="ring"}}'],
            "missed": counted[f"syncwatch_sequence_missed_total{{{connection}}}"],
            "recovered": counted[f"syncwatch_sequence_recovered_total{{{connection}}}"],
            "surplus": duplicates - overlaps,
        }


def full_speed(stream: str, plan: Plan, scratch: Path, modules: Path | None, target: float | None) -> list[Row]:
    """As fast as they go: live frames, then a replay after a drop. A fresh process for each turn."""
    live: Costs = {}
    replay: Costs = {}
    with sending(stream, WARM_UP + plan.burst + plan.replay, scratch) as sender:
        clients = Clients(sender, scratch, modules)
        for number in range(plan.rounds):
            for name in turns(clients.names, number):
                with clients.connected(name, WARM_UP) as client:
                    live.setdefault(name, []).append(client.live(plan.burst))
                    if name in (SDK, OURS):
                        replay.setdefault(name, []).append(client.replay(plan.replay))
    return [*compared(f"full speed, live, {stream}", live, target), *compared(f"full speed, replay, {stream}", replay, target)]


def paced(plan: Plan, scratch: Path, modules: Path | None) -> list[Row]:
    """100 frames a second, one after the other: what a wake-up costs. Everybody stays connected and takes turns."""
    costs: Costs = {}
    frames = round(plan.paced_rounds * plan.paced_s * RATE)
    with contextlib.ExitStack() as stack:
        sender = stack.enter_context(sending("messages", WARM_UP + frames, scratch))
        everybody = Clients(sender, scratch, modules)
        clients = [stack.enter_context(everybody.connected(name, WARM_UP)) for name in everybody.names]
        for number in range(plan.paced_rounds):
            for client in turns(clients, number):
                costs.setdefault(client.name, []).append(client.live(round(plan.paced_s * RATE), RATE))
    return compared("100 frames/s, live, messages", costs, PACED_TARGET)


@contextlib.contextmanager
def sending(stream: str, frames: int, scratch: Path) -> Iterator[Sender]:
    """A sender with so many frames ready."""
    sender = Sender(stream, frames, scratch)
    try:
        yield sender
    finally:
        sender.end()


def turns(names: list[T], number: int) -> list[T]:
    """Another one begins in each round."""
    first = number % len(names)
    return names[first:] + names[:first]


def compared(name: str, costs: Costs, target: float | None) -> list[Row]:
    """Each one's cost, and shares of the npm client's round by round; the target is about ours."""
    rows = [row(f"{name}: {client}", values, "µs/frame") for client, values in costs.items()]
    theirs = costs.get(SDK)
    if theirs is None:
        return [*rows, Row(f"{name}: syncwatch / npm client", None, target=target, note="node or npm is missing")]
    for client, values in costs.items():
        if client != SDK:
            rows.append(row(f"{name}: {client} / npm client", ratios(values, theirs), target=target if client == OURS else None))
    if FLOOR in costs:
        rows.append(row(f"{name}: syncwatch / plain loop", ratios(costs[OURS], costs[FLOOR])))
    return rows

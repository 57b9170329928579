"""Seeded schedules of trouble for a host and its branch: from a seed to a plan, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import msgspec

from tests.simulation.harness.plans import Act, Value, kinds_of

DISK_ERRORS = ("no space left on device", "permission denied", "input/output error")


class Plan(msgspec.Struct, frozen=True):
    """One schedule, whole."""

    seed: int
    kinds: tuple[str, ...]
    length_s: float
    latency_s: tuple[float, float]
    pause_s: float  # mean pause between mails
    waiting: int  # mails in the outbox before we come
    size: int
    interval_s: float
    timeout_s: float
    acts: tuple[Act, ...]


class _Draft:
    """Acts being collected."""

    def __init__(self, rng: random.Random, length_s: float) -> None:
        self.rng = rng
        self.length_s = length_s
        self.acts: list[Act] = []

    def add(self, at: float, what: str, name: str = "", value: Value = None) -> None:
        self.acts.append(Act(round(min(at, self.length_s), 3), what, name, value))

    def moment(self, low: float = 0.02, high: float = 0.8) -> float:
        return self.length_s * self.rng.uniform(low, high)

    def during(self, name: str, value: Value, longest: float = 0.6) -> tuple[float, float]:
        begin = self.rng.choice((0.0, self.moment(0.0, 0.6)))
        end = min(begin + self.length_s * self.rng.uniform(0.05, longest), self.length_s)
        self.add(begin, "set", name, value)
        self.add(end, "unset", name)
        return begin, end

    def end(self, at: float) -> None:
        """The connection ends somehow."""
        self.add(at, "end", self.rng.choice(("reset", "close", "close", "restart")), self.rng.choice((1000, 1001, 1008, 1011)))

    def ends(self, begin: float, end: float, most: int = 3) -> None:
        for _ in range(self.rng.randint(0, most)):
            self.end(self.rng.uniform(begin, end))

    def bursts(self, begin: float, end: float, most: int = 3) -> None:
        for _ in range(self.rng.randint(0, most)):
            self.add(self.rng.uniform(begin, end), "burst", value=self.rng.choice((1, 3, 10, 40)))


def _ends(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 6)):
        at = d.moment(0.0)
        d.end(at)
        d.bursts(max(at - 0.1, 0.0), at + 0.3)


def _knob(name: str, *values: Value, longest: float = 0.7, ends: int = 2) -> Callable[[_Draft], None]:
    def draft(d: _Draft) -> None:
        begin, end = d.during(name, d.rng.choice(values), longest)
        d.ends(begin, end, ends)
        d.bursts(begin, end)

    return draft


def _freeze(d: _Draft) -> None:
    """The branch's process is stopped, and goes on: a burst. Sometimes for longer than anybody is patient."""
    for _ in range(d.rng.randint(1, 2)):
        at = d.moment(0.0)
        lasts = d.rng.choice((3.0, 20.0, 45.0, 100.0, 260.0)) * d.rng.uniform(0.5, 1.0)
        d.add(at, "freeze")
        d.bursts(at, at + lasts)
        d.add(at + lasts, "thaw")


def _way(direction: str) -> Callable[[_Draft], None]:
    """The network stops carrying in one direction, or in both."""

    def draft(d: _Draft) -> None:
        for _ in range(d.rng.randint(1, 2)):
            at = d.moment()
            lasts = d.rng.choice((3.0, 30.0, 90.0, 220.0)) * d.rng.random()
            d.add(at, "stop", direction)
            d.bursts(at, at + lasts)
            d.add(at + lasts, "go", direction)

    return draft


def _vanished(d: _Draft) -> None:
    """The branch's machine is gone, and nobody says so; mail is written that nobody hears of."""
    at = d.moment(0.0, 0.4)
    d.add(at, "stop", "both")
    d.bursts(at, d.length_s)


def _door(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 2)):
        at = d.rng.choice((0.0, d.moment()))
        d.end(at)
        d.add(at, "door", d.rng.choice(("refused", "unreachable", "dns", "rejected", "hang")))
        d.add(at + d.rng.uniform(0.5, 60.0), "door")


def _disk(d: _Draft) -> None:
    """Nothing can be stored for a while, or only some of it; mail comes before, while and after."""
    for _ in range(d.rng.randint(1, 2)):
        at = d.moment(0.0, 0.7)
        d.add(at, "disk", d.rng.choice(DISK_ERRORS), d.rng.choice((1.0, 1.0, 0.4)))
        d.bursts(max(0.0, at - 0.01), at + 0.05)
        d.add(at + 0.02, "burst", value=d.rng.randint(1, 20))
        d.add(at + d.rng.choice((0.5, 5.0, 60.0, 150.0)) * d.rng.random(), "disk")


def _silent_disk(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 2)):
        at = d.moment(0.0, 0.7)
        d.add(at, "disk", "hang")
        d.add(at + 0.1, "burst", value=d.rng.randint(1, 20))
        d.add(at + d.rng.choice((3.0, 9.0, 15.0, 60.0)) * d.rng.random(), "disk")


def _slow_disk(d: _Draft) -> None:
    """And bursts that are more than it can take: reading stops."""
    at = d.moment(0.0, 0.5)
    d.add(at, "disk", "slow", d.rng.choice((0.01, 0.05, 0.3)))
    for _ in range(d.rng.randint(1, 3)):
        d.add(at + d.rng.uniform(0.0, 20.0), "burst", value=d.rng.choice((100, 300, 600)))
    d.ends(at, at + 30.0, 1)
    d.add(at + d.rng.uniform(20.0, 90.0), "disk")


def _process(d: _Draft) -> None:
    """The sidecar is killed, with mail on its way, in its hands, and on the disk; the next one has what was saved."""
    for _ in range(d.rng.randint(1, 3)):
        at = d.moment(0.05, 0.9)
        d.add(max(0.0, at - d.rng.choice((0.0, 1.0, 8.0))), "save")
        d.add(at - d.rng.choice((0.0, 0.002, 0.01, 0.2)), "burst", value=d.rng.choice((1, 5, 40)))
        d.add(at, "kill", value=d.rng.choice((0.1, 2.0, 20.0)) * d.rng.random())


def _stop(d: _Draft) -> None:
    """The sidecar is stopped in order and started again: nothing is lost then."""
    for _ in range(d.rng.randint(1, 2)):
        at = d.moment(0.05, 0.9)
        d.add(at - d.rng.choice((0.0, 0.002, 0.05)), "burst", value=d.rng.choice((1, 5, 40)))
        d.add(at, "stop_process", value=d.rng.uniform(2.0, 20.0))


def _rival(d: _Draft) -> None:
    """Another host with our key, after us or before."""
    at = d.rng.choice((0.0, d.moment(0.0, 0.4)))
    d.add(at, "rival", "on")
    d.ends(at, at + 20.0, 2)
    d.bursts(at, d.length_s * 0.8)
    d.add(at + d.rng.uniform(20.0, 400.0), "rival", "off")


def _crash_loop(d: _Draft) -> None:
    """A branch that closes politely again and again: as a rival does."""
    at = d.moment(0.0, 0.3)
    for _ in range(d.rng.randint(2, 7)):
        d.add(at, "end", "close", 1000)
        at += d.rng.uniform(3.0, 70.0)


def _again(d: _Draft) -> None:
    d.during("again", d.rng.choice((0.3, 1.0)))
    d.bursts(0.0, d.length_s * 0.8, 6)
    if d.rng.random() < 0.4:
        d.add(d.moment(), "collect")


def _clock(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 3)):
        d.add(d.moment(), "clock", value=d.rng.choice((-3600.0, -1.5, 60.0, 7200.0)))
    d.ends(0.0, d.length_s * 0.8)


KINDS: Mapping[str, Callable[[_Draft], None]] = {
    "ends": _ends,
    "no_echo": _knob("no_echo", True, longest=1.0),
    "delay": _knob("delay_s", 0.5, 3.0, 9.0, 11.0, 14.0, 40.0),
    "forget": _knob("forget", 0.2, 0.7),
    "twice": _knob("twice", 0.5, 1.0),
    "wrong_echo": _knob("wrong", 0.3, 1.0),
    "stranger": _knob("stranger", True, longest=0.3),
    "silent": _knob("silent", True, longest=0.3),
    "spoiled": _knob("spoiled", True, longest=0.3),
    "broken": _knob("broken", True, longest=0.3),
    "skip": _knob("skip", 0.02, 0.2),
    "junk": _knob("junk", 0.3, 1.0),
    "chatter": _knob("chatter", 0.3, 1.0),
    "drain_only": _knob("watching", False),
    "freeze": _freeze,
    "way_down": _way("down"),
    "way_up": _way("up"),
    "way_both": _way("both"),
    "vanished": _vanished,
    "door": _door,
    "disk": _disk,
    "silent_disk": _silent_disk,
    "slow_disk": _slow_disk,
    "process": _process,
    "stop": _stop,
    "rival": _rival,
    "crash_loop": _crash_loop,
    "again": _again,
    "clock": _clock,
}
HANDSHAKES = frozenset({"stranger", "silent", "spoiled", "broken"})
"""They need a connection that ends while they hold, or nobody would meet them."""


def plan(seed: int) -> Plan:
    """The schedule of a seed: three in five have one kind of fault alone, the others mix two to five kinds."""
    rng = random.Random(f"tps plan {seed}")
    return plan_of(seed, kinds_of(seed, KINDS, 5, rng), rng)


def plan_of(seed: int, kinds: tuple[str, ...], rng: random.Random | None = None) -> Plan:
    """A schedule of the given kinds."""
    rng = rng or random.Random(f"tps plan {seed} {kinds}")
    length_s = rng.uniform(60.0, 400.0)
    draft = _Draft(rng, length_s)
    for kind in kinds:
        KINDS[kind](draft)
        if kind in HANDSHAKES:
            draft.add(next(act.at for act in reversed(draft.acts) if act.what == "set") + 0.1, "end", "reset")
    low = rng.choice((0.001, 0.02, 0.15))
    interval_s, timeout_s = rng.choice(((15.0, 10.0), (15.0, 10.0), (30.0, 10.0), (5.0, 10.0), (4.0, 3.0)))
    return Plan(
        seed=seed,
        kinds=kinds,
        length_s=length_s,
        latency_s=(low, low * rng.choice((1.0, 3.0))),
        pause_s=rng.choice((2.0, 8.0, 30.0)),
        waiting=rng.choice((0, 0, 1, 5, 30)),
        size=rng.choice((10, 10, 2000, 60_000)),
        interval_s=interval_s,
        timeout_s=timeout_s,
        acts=tuple(sorted(draft.acts, key=lambda act: act.at)),
    )

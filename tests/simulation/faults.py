"""Seeded schedules of trouble: from a seed to a plan, and nothing else.

What belongs here: when which fault begins and ends. What a fault does is the relay's and the network's business. A plan is data, so a failing
seed can be read as well as replayed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import msgspec

from tests.simulation.harness.plans import Act, Value, kinds_of
from tests.simulation.relay import AckFault, CutThen

REFUSALS: tuple[tuple[str, int | None, float | None], ...] = (
    ("refused", None, None),
    ("unauthorized", 401, None),
    ("forbidden", 403, None),
    ("rejected", 404, None),
    ("rejected", 426, None),
    ("rate_limited", 429, 3.0),
    ("rejected", 500, None),
    ("rejected", 503, None),
)


class Plan(msgspec.Struct, frozen=True):
    """One schedule, whole."""

    seed: int
    kinds: tuple[str, ...]
    length_s: float
    ring_size: int
    page_limit: int
    query_s: float
    latency_s: tuple[float, float]
    pause_s: float  # mean pause between posts
    max_jump: int
    verify_interval_s: float
    client_clock_s: float
    acts: tuple[Act, ...]


class _Draft:
    """Acts being collected."""

    def __init__(self, rng: random.Random, length_s: float, ring: int) -> None:
        self.rng = rng
        self.length_s = length_s
        self.ring = ring
        self.acts: list[Act] = []

    def add(self, at: float, what: str, name: str = "", value: Value = None, extra: Value = None) -> None:
        self.acts.append(Act(round(at, 3), what, name, value, extra))

    def moment(self, low: float = 0.05, high: float = 0.85) -> float:
        return self.length_s * self.rng.uniform(low, high)

    def during(self, name: str, value: Value, longest: float = 0.6) -> tuple[float, float]:
        """A knob of the server turned for a while."""
        begin = self.moment(0.05, 0.6)
        end = min(begin + self.length_s * self.rng.uniform(0.1, longest), self.length_s)
        self.add(begin, "set", name, value)
        self.add(end, "unset", name)
        return begin, end

    def drop(self, at: float) -> None:
        self.add(at, "drop", self.rng.choice(("flush", "lose", "cut", "close")), self.rng.choice((1000, 1001, 1006, 1011, 1012)))

    def outage(self, at: float | None = None, missed: int | None = None) -> None:
        """Nobody gets in for a while, and others go on writing."""
        rng = self.rng
        begin = self.moment() if at is None else at
        lasts = rng.choice((0.0, 0.3, 2.0, 6.0)) * rng.random()
        self.drop(begin)
        refusal, status, retry = rng.choice((REFUSALS[0], REFUSALS[0], REFUSALS[6], REFUSALS[7]))
        self.add(begin, "door", refusal, status, retry)
        count = missed if missed is not None else rng.choice((0, 1, 5, 15, self.ring, self.ring * 2, self.ring * 4))
        if count:
            self.add(begin + lasts * 0.5, "burst", value=count)
        self.add(begin + lasts, "door")

    def outages(self, begin: float, end: float, most: int = 3) -> None:
        for _ in range(self.rng.randint(1, most)):
            self.outage(self.rng.uniform(begin, end))


def _drop(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 6)):
        d.drop(d.moment())


def _outage(d: _Draft) -> None:
    d.outages(d.length_s * 0.05, d.length_s * 0.8, 4)


def _skip(d: _Draft) -> None:
    d.during("skip", d.rng.choice((0.02, 0.1, 0.5)))


def _duplicate(d: _Draft) -> None:
    d.outages(*d.during("duplicate", d.rng.choice((0.1, 0.5, 1.0))))


def _reorder(d: _Draft) -> None:
    d.outages(*d.during("swap", d.rng.choice((0.05, 0.3, 0.8))))


def _straggle(d: _Draft) -> None:
    d.outages(*d.during("straggle", d.rng.choice((0.02, 0.1))))


def _cut(d: _Draft) -> None:
    begin, end = d.during("cut_after", d.rng.choice((0.0, 0.3, 0.6, 0.95)))
    d.add(begin, "set", "cut_then", d.rng.choice(tuple(CutThen)).value)
    d.outages(begin, end)


def _ack(fault: AckFault) -> Callable[[_Draft], None]:
    def draft(d: _Draft) -> None:
        d.outages(*d.during("ack", fault.value))

    return draft


def _wrong_ack(d: _Draft) -> None:
    fault = d.rng.choice((AckFault.WRONG_AFTER, AckFault.WRONG_REPLAYED, AckFault.WRONG_CURRENT))
    d.outages(*d.during("ack", fault.value))


def _restart(above: bool) -> Callable[[_Draft], None]:
    def draft(d: _Draft) -> None:
        rng = d.rng
        for _ in range(rng.randint(1, 2)):
            at = d.moment(0.1, 0.7)
            lasts = rng.uniform(0.0, 4.0)
            d.add(at, "door", "refused")
            d.add(at, "restart")
            if above:
                # A reset that outruns cursor and ring is the design's own exemption: rare on purpose.
                d.add(at + lasts * 0.6, "overtake", value=rng.choice((0, 1, d.ring // 2, d.ring - 2, d.ring * 2)))
            else:
                d.add(at + lasts * 0.6, "burst", value=rng.choice((0, 0, 1, 4)))
            d.add(at + lasts, "door")

    return draft


def _refuse(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 2)):
        at = d.moment(0.1, 0.7)
        d.drop(at)
        refusal, status, retry = d.rng.choice(REFUSALS)
        d.add(at, "door", refusal, status, retry)
        d.add(at + d.rng.uniform(0.5, 12.0), "door")


def _hang(d: _Draft) -> None:
    at = d.moment(0.1, 0.6)
    d.drop(at)
    d.add(at, "door", "hang")
    d.add(at + d.rng.uniform(1.0, 25.0), "door")


def _freeze(direction: str) -> Callable[[_Draft], None]:
    def draft(d: _Draft) -> None:
        for _ in range(d.rng.randint(1, 2)):
            at = d.moment(0.05, 0.7)
            d.add(at, "freeze", direction)
            d.add(at + d.rng.choice((0.5, 3.0, 8.0, 60.0)) * d.rng.random(), "thaw", direction)

    return draft


def _stopped(d: _Draft) -> None:
    d.during("stopped", True)


def _deaf(d: _Draft) -> None:
    d.during("deaf", True)


def _clock(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 3)):
        d.add(d.moment(), d.rng.choice(("server_clock", "client_clock")), value=d.rng.choice((-3600.0, -600.0, -5.0, -1.5, 2.0, 60.0, 7200.0)))
    d.outages(d.length_s * 0.1, d.length_s * 0.8)


def _database(d: _Draft) -> None:
    begin, end = d.during("database_failing", True)
    for _ in range(2):
        d.outage(d.rng.uniform(begin, end), d.ring * d.rng.randint(1, 4))


def _paging(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 2)):
        d.outage(d.moment(), d.ring * d.rng.randint(3, 7))
    d.add(d.moment(), "foreign", value=d.rng.randint(1, 20))


def _garbage(d: _Draft) -> None:
    d.outages(*d.during("garbage", d.rng.choice((0.1, 0.5))))


def _bad_number(d: _Draft) -> None:
    d.outages(*d.during("bad_number", d.rng.choice((0.05, 0.3))))


def _jump(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 2)):
        d.add(d.moment(), "jump", value=d.rng.choice((1, 3, 40, 300, 3500)))
    if d.rng.random() < 0.5:
        d.during("false_jump", 0.05)


KINDS: Mapping[str, Callable[[_Draft], None]] = {
    "drop": _drop,
    "outage": _outage,
    "skip": _skip,
    "duplicate": _duplicate,
    "reorder": _reorder,
    "straggle": _straggle,
    "cut": _cut,
    "early_ack": _ack(AckFault.EARLY),
    "missing_ack": _ack(AckFault.MISSING),
    "wrong_ack": _wrong_ack,
    "restart_below": _restart(above=False),
    "restart_above": _restart(above=True),
    "refuse": _refuse,
    "hang": _hang,
    "freeze_receive": _freeze("down"),
    "freeze_send": _freeze("up"),
    "freeze_both": _freeze("both"),
    "stopped": _stopped,
    "deaf": _deaf,
    "clock": _clock,
    "database": _database,
    "paging": _paging,
    "garbage": _garbage,
    "bad_number": _bad_number,
    "jump": _jump,
}


FAITHFUL = frozenset(
    {"drop", "outage", "refuse", "hang", "freeze_receive", "freeze_send", "freeze_both", "deaf", "clock", "database", "paging"}
)
"""Kinds in which the server keeps to its protocol: what must come out can be counted straight from the facts."""


def plan(seed: int) -> Plan:
    """The schedule of a seed: three in five have one kind of fault alone, the others mix two to seven kinds."""
    rng = random.Random(f"plan {seed}")
    return plan_of(seed, kinds_of(seed, KINDS, 7, rng), rng)


def plan_of(seed: int, kinds: tuple[str, ...], rng: random.Random | None = None) -> Plan:
    """A schedule of the given kinds."""
    rng = rng or random.Random(f"plan {seed} {kinds}")
    length_s = rng.uniform(25.0, 75.0)
    ring = rng.choice((6, 12, 20, 20, 40))
    draft = _Draft(rng, length_s, ring)
    for kind in kinds:
        KINDS[kind](draft)
    low = rng.choice((0.001, 0.02, 0.1))
    return Plan(
        seed=seed,
        kinds=kinds,
        length_s=length_s,
        ring_size=ring,
        page_limit=rng.choice((10, 30, 1000)),
        query_s=rng.choice((0.0, 0.02, 0.4)),
        latency_s=(low, low * rng.choice((1.0, 3.0))),
        pause_s=rng.choice((0.3, 0.8, 2.0)),
        max_jump=3000,
        verify_interval_s=rng.choice((12.0, 60.0)),
        client_clock_s=rng.choice((0.0, 0.0, 600.0, -600.0)),
        acts=tuple(sorted(draft.acts, key=lambda act: act.at)),
    )

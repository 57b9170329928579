"""Seeded schedules of trouble for a server with a log: from a seed to a plan, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import msgspec

from tests.simulation.harness.plans import Act, Value, kinds_of

RELAYFILE, OBSERVER = "relayfile", "observer"
SOCKET_REFUSALS: tuple[tuple[str, int | None, float | None], ...] = (
    ("refused", None, None),
    ("rejected", 503, None),
    ("rate_limited", 429, None),
    ("rate_limited", 429, 12.0),
    ("unauthorized", 401, None),
    ("forbidden", 403, None),
)
FEED_REFUSALS: tuple[tuple[str, int | None, float | None], ...] = (
    ("network", None, None),
    ("status", 503, None),
    ("status", 500, None),
    ("status", 429, None),
    ("status", 429, 8.0),
    ("status", 401, None),
    ("status", 403, None),
    ("hang", None, None),
    ("slow", None, None),
)
MOMENTS = ("asked", "dialled", "opened", "answered")


class Plan(msgspec.Struct, frozen=True):
    """One schedule, whole."""

    seed: int
    protocol: str
    kinds: tuple[str, ...]
    length_s: float
    page_rows: int
    buffer: int
    hidden: bool
    before: int  # events in the log before we come
    latency_s: tuple[float, float]
    feed_latency_s: tuple[float, float]
    pause_s: float  # mean pause between events
    foreign: float  # chance that other workspaces write in between
    audit: bool
    audit_interval_s: float
    verify_interval_s: float
    reprobe_max_s: float
    client_clock_s: float
    acts: tuple[Act, ...]


class _Draft:
    """Acts being collected."""

    def __init__(self, rng: random.Random, length_s: float, protocol: str, page_rows: int) -> None:
        self.rng = rng
        self.length_s = length_s
        self.protocol = protocol
        self.page_rows = page_rows
        self.acts: list[Act] = []
        self.audit = True

    def add(self, at: float, what: str, name: str = "", value: Value = None, extra: Value = None) -> None:
        self.acts.append(Act(round(at, 3), what, name, value, extra))

    def moment(self, low: float = 0.02, high: float = 0.8) -> float:
        return self.length_s * self.rng.uniform(low, high)

    def during(self, name: str, value: Value, longest: float = 0.6) -> tuple[float, float]:
        begin = self.moment(0.0, 0.6)
        end = min(begin + self.length_s * self.rng.uniform(0.05, longest), self.length_s)
        self.add(begin, "set", name, value)
        self.add(end, "unset", name)
        return begin, end

    def drop(self, at: float) -> None:
        self.add(at, "drop", self.rng.choice(("flush", "lose", "cut", "close")), self.rng.choice((1000, 1001, 1006, 1008, 1011, 1013)))

    def count(self) -> int:
        return self.rng.choice((0, 1, 2, 5, min(self.page_rows, 30), min(self.page_rows, 30) * 2 + 1))

    def outage(self, at: float | None = None) -> None:
        """No socket for a while, and others go on writing; the feed answers, or does not."""
        rng = self.rng
        begin = self.moment() if at is None else at
        lasts = rng.choice((0.0, 0.5, 3.0, 15.0)) * rng.random()
        self.drop(begin)
        refusal, status, retry = rng.choice(SOCKET_REFUSALS[:3])
        self.add(begin, "door", refusal, status, retry)
        both = rng.random() < 0.4
        if both:
            self.add(begin, "feed", "network")
        self.add(begin + lasts * 0.5, "burst", value=self.count())
        self.add(begin + lasts, "door")
        if both:
            self.add(begin + lasts, "feed")

    def outages(self, begin: float, end: float, most: int = 2) -> None:
        for _ in range(self.rng.randint(0, most)):
            self.outage(self.rng.uniform(begin, end))


def _drop(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 6)):
        d.drop(d.moment(0.0))


def _outage(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 3)):
        d.outage()


def _refuse(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 2)):
        at = d.rng.choice((0.0, d.moment()))
        d.drop(at)
        refusal, status, retry = d.rng.choice(SOCKET_REFUSALS)
        d.add(at, "door", refusal, status, retry)
        d.add(at + d.rng.uniform(0.5, 20.0), "door")


def _hang(d: _Draft) -> None:
    at = d.rng.choice((0.0, d.moment()))
    d.drop(at)
    d.add(at, "door", "hang")
    d.add(at + d.rng.uniform(1.0, 45.0), "door")


def _fallback(d: _Draft) -> None:
    """Only the socket is refused, for long."""
    at = d.rng.choice((0.0, d.moment(0.0, 0.4)))
    d.drop(at)
    refusal, status, retry = d.rng.choice(SOCKET_REFUSALS[:3])
    d.add(at, "door", refusal, status, retry)
    end = min(at + d.length_s * d.rng.uniform(0.2, 0.9), d.length_s)
    for _ in range(d.rng.randint(0, 3)):
        d.add(d.rng.uniform(at, end), "burst", value=d.count())
    d.add(end, "door")


def _feed(d: _Draft) -> None:
    """Only the feed is refused, or hangs."""
    for _ in range(d.rng.randint(1, 2)):
        at = d.rng.choice((0.0, d.moment()))
        refusal, status, retry = d.rng.choice(FEED_REFUSALS)
        d.add(at, "feed", refusal, status, retry)
        end = min(at + d.rng.uniform(1.0, 60.0), d.length_s)
        d.outages(at, end)
        d.add(end, "feed")


def _both(d: _Draft) -> None:
    """Polling, and then the feed is refused as well."""
    at = d.moment(0.0, 0.3)
    d.drop(at)
    d.add(at, "door", *d.rng.choice(SOCKET_REFUSALS[:3]))
    end = min(at + d.rng.uniform(20.0, 80.0), d.length_s)
    for _ in range(d.rng.randint(1, 3)):
        begin = d.rng.uniform(at, end)
        d.add(begin, "feed", *d.rng.choice(FEED_REFUSALS))
        d.add(min(begin + d.rng.uniform(1.0, 40.0), d.length_s), "feed")
        d.add(begin + d.rng.uniform(0.0, 5.0), "burst", value=d.count())
    d.add(end, "door")


def _restart(memory: bool) -> Callable[[_Draft], None]:
    def draft(d: _Draft) -> None:
        rng = d.rng
        for _ in range(rng.randint(1, 2)):
            at = d.moment(0.05, 0.8)
            lasts = rng.choice((0.0, 0.2, 3.0, 20.0)) * rng.random()
            if rng.random() < 0.3:
                d.drop(at)
                d.add(at, "door", "refused")  # while polling, or reconnecting
                at += rng.uniform(0.0, 25.0)
                d.add(at + lasts + rng.uniform(0.0, 10.0), "door")
            elif lasts:
                d.add(at, "door", "refused")
                d.add(at + lasts, "door")
            if lasts:
                d.add(at, "feed", "network")
                d.add(at + lasts, "feed")
            d.add(at, "restart", "memory" if memory else "durable")
            if rng.random() < 0.5:
                d.add(at + lasts * 0.7, "burst", value=d.count())
            elif memory:
                d.add(at + lasts * 0.7, "overtake", value=rng.choice((0, 1, 5)))

    return draft


def _ambush(memory: bool) -> Callable[[_Draft], None]:
    """A restart at a moment that hurts."""

    def draft(d: _Draft) -> None:
        for _ in range(d.rng.randint(1, 2)):
            at = d.moment(0.05, 0.8)
            d.drop(at)
            d.add(at, "ambush", d.rng.choice(MOMENTS), "memory" if memory else "durable", float(d.rng.randint(0, 3)))
            d.add(at, "burst", value=d.count())

    return draft


def _knob(name: str, *values: Value, longest: float = 0.6) -> Callable[[_Draft], None]:
    def draft(d: _Draft) -> None:
        d.outages(*d.during(name, d.rng.choice(values), longest))

    return draft


def _stopped(d: _Draft) -> None:
    d.during("stopped", True)


def _freeze(direction: str) -> Callable[[_Draft], None]:
    def draft(d: _Draft) -> None:
        for _ in range(d.rng.randint(1, 2)):
            at = d.moment()
            d.add(at, "freeze", direction)
            d.add(at + d.rng.choice((0.5, 3.0, 8.0, 60.0)) * d.rng.random(), "thaw", direction)

    return draft


def _overflow(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 2)):
        at = d.moment()
        d.add(at, "freeze", "down")
        d.add(at + 0.1, "burst", value=d.rng.randint(20, 60))
        d.add(at + d.rng.uniform(0.2, 8.0), "thaw", "down")


def _clock(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 3)):
        d.add(d.moment(), d.rng.choice(("server_clock", "client_clock")), value=d.rng.choice((-3600.0, -600.0, -1.5, 60.0, 7200.0)))
    d.outages(d.length_s * 0.1, d.length_s * 0.8)


def _renewal(d: _Draft) -> None:
    """The token expires: the feed notices, the socket at its next handshake; a new one comes in time, or late."""
    at = d.moment()
    status = d.rng.choice((401, 403))
    d.add(at, "feed", "status", status)
    d.add(at, "door", "unauthorized" if status == 401 else "forbidden", status)
    if d.rng.random() < 0.6:
        d.drop(at + d.rng.uniform(0.0, 20.0))
    end = at + d.rng.uniform(1.0, 40.0)
    d.add(end, "feed")
    d.add(end, "door")
    d.add(end + d.rng.uniform(0.0, 2.0), "renew")


def _process(d: _Draft) -> None:
    """The sidecar dies and comes back with what it had saved."""
    for _ in range(d.rng.randint(1, 2)):
        at = d.moment(0.05, 0.8)
        d.add(at, "save")
        at += d.rng.choice((0.0, 0.1, 1.0)) * d.rng.random()
        d.add(at, "crash", value=d.rng.choice((0.1, 2.0, 20.0)) * d.rng.random())
        d.add(at + 0.05, "burst", value=d.count())


def _no_audit(d: _Draft) -> None:
    d.audit = False
    d.during(d.rng.choice(("skip", "stopped")), d.rng.choice((0.1, 0.5)))
    d.outages(0.0, d.length_s * 0.8)


def _foreign(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 4)):
        d.add(d.moment(), "foreign", value=d.rng.choice((1, 40, 5000)))
    d.outages(0.0, d.length_s * 0.8)


def _paging(d: _Draft) -> None:
    for _ in range(d.rng.randint(1, 2)):
        at = d.moment()
        d.drop(at)
        d.add(at, "door", *d.rng.choice(SOCKET_REFUSALS[:2]))
        d.add(at + 0.1, "burst", value=min(d.page_rows, 10) * d.rng.randint(2, 5) + d.rng.randint(0, 2))
        d.add(at + d.rng.choice((0.5, 10.0)), "door")
        if d.rng.random() < 0.5:
            d.add(at + d.rng.uniform(0.5, 8.0), "ambush", "answered", d.rng.choice(("drop", "refuse")), float(d.rng.randint(0, 3)))


def _forbidden(d: _Draft) -> None:
    """A token that may watch and may not read the feed: the socket's word is all there is."""
    at = d.rng.choice((0.0, d.moment(0.0, 0.3)))
    d.add(at, "feed", "status", 403)
    d.add(d.rng.choice((d.length_s, d.moment(0.5, 1.0))), "feed")
    for _ in range(d.rng.randint(1, 4)):
        moment = d.rng.uniform(at, d.length_s)
        d.drop(moment)
        d.add(moment + d.rng.uniform(0.0, 0.3), "burst", value=d.count())
        if d.protocol == RELAYFILE and d.rng.random() < 0.4:
            d.add(moment + 0.01, "restart", "memory")


def _brief(d: _Draft) -> None:
    """Connections that live for moments: before the log was read, before the first pong, before anything."""
    for _ in range(d.rng.randint(1, 4)):
        at = d.rng.choice((0.0, d.moment()))
        d.drop(at)
        d.add(at, "ambush", d.rng.choice(MOMENTS), "drop", float(d.rng.randint(0, 2)))
        if d.rng.random() < 0.5:
            d.add(at, "burst", value=d.count())


def _early(d: _Draft) -> None:
    """The first moments: something is left out before the log was read for the first time, or while it is."""
    rng = d.rng
    end = rng.uniform(0.5, 12.0)
    d.add(0.0, "set", "skip", rng.choice((0.2, 0.5)))
    d.add(end, "unset", "skip")
    if rng.random() < 0.5:
        d.add(0.0, "feed", *rng.choice(FEED_REFUSALS))
        d.add(rng.uniform(0.5, 20.0), "feed")
    for _ in range(rng.randint(1, 4)):
        d.add(rng.uniform(0.0, end), "burst", value=rng.randint(1, 5))
    if rng.random() < 0.5:
        d.drop(rng.uniform(0.0, end))


def _many(d: _Draft) -> None:
    """More than a next process can remember."""
    at = d.moment(0.05, 0.6)
    if d.rng.random() < 0.4:  # and has not compared at all, on a connection that is not its first
        d.drop(at - 1.0)
        d.add(at - 1.0, "feed", "status", 503)
        d.add(at + d.rng.uniform(0.0, 20.0), "feed")
    d.add(at, "burst", value=d.rng.choice((200, 300, 600)))
    d.add(at + 0.5, "save")
    d.add(at + 0.6, "crash", value=d.rng.uniform(0.1, 3.0))
    d.outages(at, d.length_s * 0.8)


def _killed(d: _Draft) -> None:
    """Killed between two pages of a long reading, with the state file written just before."""
    rng = d.rng
    for _ in range(rng.randint(1, 2)):
        at = d.moment(0.05, 0.7)
        if rng.random() < 0.6:
            d.drop(at)
            d.add(at, "door", "refused")
            d.add(at + rng.choice((1.0, 20.0)), "door")
        count = min(rng.choice((30, 600, 900)), 40 * d.page_rows)
        d.add(at + 0.05, "burst", value=count)
        d.add(at + 0.1, "ambush", "answered", "kill", float(rng.randint(0, count // d.page_rows)))


COMMON: Mapping[str, Callable[[_Draft], None]] = {
    "drop": _drop,
    "outage": _outage,
    "refuse": _refuse,
    "hang": _hang,
    "fallback": _fallback,
    "feed": _feed,
    "both": _both,
    "restart_durable": _restart(memory=False),
    "ambush_durable": _ambush(memory=False),
    "skip": _knob("skip", 0.05, 0.2, 0.6),
    "duplicate": _knob("duplicate", 0.1, 0.5, 1.0),
    "reorder": _knob("swap", 0.05, 0.3, 0.8),
    "straggle": _knob("straggle", 0.05, 0.3),
    "invent": _knob("invent", 0.05, 0.3),
    "bad_number": _knob("bad_number", 0.05, 0.3),
    "garbage": _knob("garbage", 0.1, 0.5),
    "page_garbage": _knob("page_garbage", 0.2, 0.6),
    "page_rows": _knob("page_rows", 0.2, 1.0),
    "deaf": _knob("deaf", True),
    "slow_pong": _knob("slow_pong_s", 2.0, 8.0, 12.0),
    "stopped": _stopped,
    "freeze_receive": _freeze("down"),
    "freeze_send": _freeze("up"),
    "freeze_both": _freeze("both"),
    "clock": _clock,
    "renewal": _renewal,
    "process": _process,
    "no_audit": _no_audit,
    "paging": _paging,
    "overflow": _overflow,
    "forbidden": _forbidden,
    "brief": _brief,
    "early": _early,
    "many": _many,
    "killed": _killed,
}
KINDS: Mapping[str, Mapping[str, Callable[[_Draft], None]]] = {
    RELAYFILE: {
        **COMMON,
        "restart_memory": _restart(memory=True),
        "ambush_memory": _ambush(memory=True),
        "foreign": _foreign,
        "short_catch_up": _knob("short_catch_up", 0.1, 0.5, 1.0),
    },
    OBSERVER: {**COMMON, "unlogged": _knob("unlogged", 0.1, 0.5)},
}


LOSSY = frozenset({"skip", "early", "reorder", "straggle", "invent", "bad_number", "stopped", "freeze_receive", "freeze_both", "no_audit", "overflow", "short_catch_up"})
"""Kinds in which an open socket leaves something out, or is later than the grace allows. In all others nothing may be called missed."""


def plan(protocol: str, seed: int) -> Plan:
    """The schedule of a seed: three in five have one kind of fault alone, the others mix two to six kinds."""
    rng = random.Random(f"feed plan {protocol} {seed}")
    return plan_of(protocol, seed, kinds_of(seed, KINDS[protocol], 6, rng), rng)


def plan_of(protocol: str, seed: int, kinds: tuple[str, ...], rng: random.Random | None = None) -> Plan:
    """A schedule of the given kinds."""
    rng = rng or random.Random(f"feed plan {protocol} {seed} {kinds}")
    length_s = rng.uniform(30.0, 110.0)
    page_rows = rng.choice((2, 5, 20, 1000))
    draft = _Draft(rng, length_s, protocol, page_rows)
    for kind in kinds:
        KINDS[protocol][kind](draft)
    low, feed_low = rng.choice((0.001, 0.02, 0.15)), rng.choice((0.001, 0.02, 0.15))
    return Plan(
        seed=seed,
        protocol=protocol,
        kinds=kinds,
        length_s=length_s,
        page_rows=page_rows,
        buffer=rng.choice((10, 25, 4096)),
        hidden=rng.random() < 0.4,
        before=rng.choice((0, 0, 1, 3, 12)),
        latency_s=(low, low * rng.choice((1.0, 3.0))),
        feed_latency_s=(feed_low, feed_low * rng.choice((1.0, 4.0))),
        pause_s=rng.choice((0.7, 1.5, 5.0, 15.0)),
        foreign=rng.choice((0.0, 0.0, 0.4)) if protocol == RELAYFILE else 0.0,
        audit=draft.audit,
        audit_interval_s=rng.choice((12.0, 20.0, 60.0)),
        verify_interval_s=rng.choice((10.0, 60.0)),
        reprobe_max_s=rng.choice((10.0, 300.0)),
        client_clock_s=rng.choice((0.0, 0.0, 600.0, -600.0)),
        acts=tuple(sorted(draft.acts, key=lambda act: act.at)),
    )

"""The real session against simulated servers that keep a log: thousands of seeded schedules, each compared with the oracle; and proof that the harness bites."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from syncwatch.core.journal import Journal
from syncwatch.core.session import SessionSettings
from tests.simulation.feeds.facts import Answered, Written
from tests.simulation.feeds.mutants import MUTANTS, MutantProtocol
from tests.simulation.feeds.plans import KINDS, LOSSY, OBSERVER, RELAYFILE, plan, plan_of
from tests.simulation.feeds.world import SIMULATIONS, World
from tests.simulation.harness.runner import Tally, tallied

SCHEDULES = 2000
PROTOCOLS = (RELAYFILE, OBSERVER)
INVENTED = "what the next reading had to find again was invented"
UNREADABLE = "a feed that may not be read, and a catch-up that left out its first event"


@pytest.fixture(scope="module", params=PROTOCOLS)
def tally(request: pytest.FixtureRequest) -> Tally:
    """The schedules of the normal run, over all cores."""
    return tallied(SIMULATIONS[request.param], SCHEDULES)


def test_every_schedule_agrees_with_the_oracle(tally: Tally) -> None:
    """After every input the identities hold; in the end every counter equals what the oracle folds from the facts, and what the log has was seen once."""
    assert [] == tally.failed, tally.story()
    assert SCHEDULES == tally.schedules


def test_much_happened(tally: Tally) -> None:
    """A run in which nothing is missed, polled or invented would prove nothing."""
    for name, least in {
        "live": 40_000,
        "store": 20_000,
        "poll": 6000,
        "missed": 2000,
        "duplicates": 500,
        "out_of_order": 200,
        "gaps_live": 200,
        "gaps_reconnect": 50,
        "clean": 5000,
        "repaired": 300,
        "failed": 400,
        "found_late": 100,
        "found_invented": 100,
        "verified": 2000,
        "behind": 80,
        "unanswered": 100,
        "malformed": 100,
        "bad_sequence": 300,
    }.items():
        assert least <= tally.totals[name], name
    assert 0 == tally.totals["undecided"]


def test_what_the_wire_cannot_tell_is_rare(tally: Tally) -> None:
    """Each exemption is named, and used in a few schedules at most."""
    assert {INVENTED, UNREADABLE} >= set(tally.exempted)
    assert 5 >= sum(tally.exempted.values())


@pytest.mark.parametrize(("protocol", "kind"), [(protocol, kind) for protocol in PROTOCOLS for kind in sorted(KINDS[protocol])])
def test_each_kind_of_fault_alone(protocol: str, kind: str) -> None:
    """So that a kind that the seeds happen to neglect is tried all the same; nothing is excused."""
    for seed in range(1000, 1008):
        verdict = World(plan_of(protocol, seed, (kind,))).run()
        allowed = (Counter(), Counter({INVENTED: 1})) if kind == "invent" else (Counter(),)
        replay = f"python -m tests.simulation --feeds {protocol} {seed} --kinds {kind}"
        assert () == verdict.problems, replay
        assert verdict.exemptions in allowed, replay


@pytest.mark.parametrize(("protocol", "kind"), [(protocol, kind) for protocol in PROTOCOLS for kind in sorted(KINDS[protocol].keys() - LOSSY)])
def test_where_no_socket_left_anything_out_nothing_is_missed(protocol: str, kind: str) -> None:
    """A second opinion without any rule: outages, fallbacks, restarts and refusals are delivery late or by another way, not loss; and nobody is accused."""
    resets = 0
    for seed in range(20):
        shown = World(plan_of(protocol, seed, (kind,))).run().shown
        told = {name: shown[name] for name in ("missed", "gaps_live", "gaps_reconnect", "found_invented", "repaired", "behind")}
        assert dict.fromkeys(told, 0) == told, f"python -m tests.simulation --feeds {protocol} {seed} --kinds {kind}"
        resets += shown["resets"]
    if "memory" in kind:
        assert 10 <= resets
    elif kind != "forbidden":
        assert 0 == resets


def test_an_overflow_loses_nothing() -> None:
    """A reader that stalls is closed with 1013 and resumes from its cursor."""
    overflows = 0
    for seed in range(30):
        world = World(plan_of(RELAYFILE, seed, ("overflow",)))
        assert () == world.run().problems
        overflows += world.server.overflows
    assert 10 <= overflows


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_input_agrees(protocol: str) -> None:
    """Not only in the end: after each input every counter is the oracle's."""
    for seed in range(150):
        assert () == World(plan(protocol, seed), pedantic=True).run().problems, f"{protocol} {seed} --pedantic"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_seed_replays_exactly(protocol: str) -> None:
    """The same facts in the same order at the same times."""
    for seed in (3, 18, 48):
        first, second = World(plan(protocol, seed)), World(plan(protocol, seed))
        assert first.run() == second.run()
        assert first.ledger.facts == second.ledger.facts


@pytest.mark.parametrize("mistake", sorted(MUTANTS))
def test_the_harness_catches(mistake: str) -> None:
    """Each deliberate mistake between codec and session is found in at least a third of the schedules that give it a chance, which agree without it."""
    mutant = MUTANTS[mistake]
    caught = 0
    for seed in range(24):
        schedule = msgspec.structs.replace(plan_of(mutant.protocol, seed, (mutant.kinds[seed % len(mutant.kinds)],)), hidden=True)
        assert () == World(schedule).run().problems
        caught += bool(World(schedule, protocol=lambda plan: MutantProtocol(plan, mutant)).run().problems)
    assert 8 <= caught


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        (SessionSettings(hole_grace_s=0.2), ("skip", "stopped")),
        (SessionSettings(hole_grace_s=6.0), ("skip", "stopped")),
        (SessionSettings(ack_timeout_s=4.0), ("feed", "outage")),
        (SessionSettings(polling_interval_s=1.0, polling_after=2), ("fallback",)),
    ],
    ids=["missed too early", "missed too late", "the feed given up too early", "polling too early"],
)
def test_the_harness_catches_wrong_times(settings: SessionSettings, kinds: tuple[str, ...]) -> None:
    """The oracle holds the session to the times of the specification."""
    caught = sum(bool(World(plan_of(RELAYFILE, seed, kinds), settings=settings, pedantic=True).run().problems) for seed in range(24))
    assert 4 <= caught


def test_the_harness_catches_a_jump_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes while the log is read is in no answer: who forgets it finds it at the next audit only, and is late."""
    monkeypatch.setattr(Journal, "_leaps", False)
    caught = 0
    for seed in range(24):
        schedule = msgspec.structs.replace(plan_of(OBSERVER, seed, ("early",)), hidden=False, feed_latency_s=(0.5, 2.0), audit_interval_s=60.0)
        problems = World(schedule).run().problems
        caught += any("is not looked into" in problem for problem in problems)
    assert 4 <= caught


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pages_are_what_the_log_has(protocol: str) -> None:
    """The simulated feed itself: rows of one log, in order, none left out between the first and the last but those that are hidden."""
    for seed in range(20):
        world = World(plan_of(protocol, seed, ("paging",)))
        world.run()
        log = [fact.row for fact in world.ledger.facts if isinstance(fact, Written)]
        for fact in world.ledger.facts:
            if isinstance(fact, Answered) and fact.rows:
                shown = [row for row in log if fact.rows[0].number <= row.number <= fact.rows[-1].number]
                visible = shown if protocol == RELAYFILE else [row for row in shown if row.ours]
                assert list(fact.rows) == visible

"""Which faults hold: scope, counting, times, ends."""

from __future__ import annotations

import asyncio

import pytest

from syncwatch.relay import kinds
from syncwatch.relay.faults import Faults
from syncwatch.relay.injector import KEPT_ENDED
from syncwatch.relay.ledger import Fault, Ledger


def injector() -> tuple[Faults, Ledger]:
    """Faults and the ledger they write to."""
    ledger = Ledger(lambda: 0.0)
    return Faults(ledger), ledger


def test_a_fault_holds_for_its_block() -> None:
    """Found inside, not outside; began and ended are facts."""
    faults, ledger = injector()
    with faults.refusing(503, retry_after_s=2) as fault:
        assert faults.find(kinds.Refuse, "anybody") is fault
        assert faults.find(kinds.Hang) is None
    assert faults.find(kinds.Refuse) is None
    assert [("refuse", "began"), ("refuse", "ended")] == [(fact.name, fact.change) for fact in ledger.of(Fault)]


def test_a_fault_concerns_its_agent_only() -> None:
    """None means everybody."""
    faults, _ = injector()
    with faults.hanging(agent="alice"):
        assert faults.find(kinds.Hang, "alice") is not None
        assert faults.find(kinds.Hang, "bob") is None
        assert faults.find(kinds.Hang) is None


def test_times_end_a_fault() -> None:
    """The last firing ends it; the next oldest takes over."""
    faults, ledger = injector()
    first = faults.begin(kinds.Refuse(status=500, times=2))
    faults.begin(kinds.Refuse(status=404))
    taken = [faults.take(kinds.Refuse) for _ in range(3)]
    assert [500, 500, 404] == [spec.status for spec in taken if spec]
    assert first.over
    assert 2 == first.fired
    assert 3 == sum(fact.change == "fired" for fact in ledger.of(Fault))


def test_momentary_faults_are_over_at_once() -> None:
    """They happen when they begin."""
    faults, _ = injector()
    seen: list[str] = []
    faults.on_begin = lambda fault: seen.append(fault.name)
    fault = faults.begin(kinds.Drop())
    assert fault.over
    assert 1 == fault.fired
    assert ["drop"] == seen
    assert not faults.active
    assert not faults.begin(kinds.Drop(seq=4)).over


def test_a_record_out_of_bounds_is_our_own_mistake() -> None:
    """It raises, and nothing has begun."""
    faults, ledger = injector()
    with pytest.raises(ValueError, match=r"fault refuse: Expected `int` >= 400 - at `\$.status`"):
        faults.begin(kinds.Refuse(status=200))
    assert not faults.active
    assert [] == ledger.after()


def test_everybody_is_told_of_a_change() -> None:
    """At each beginning and end."""
    faults, _ = injector()
    changes: list[int] = []
    faults.on_change = lambda: changes.append(len(faults.active))
    with faults.freezing(), faults.stalling():
        pass
    assert [1, 2, 1, 0] == changes


def test_watches_are_set_while_they_are_needed() -> None:
    """The hot path asks nothing otherwise."""
    faults, _ = injector()
    with faults.skipping(seq=1):
        assert (True, False) == (faults.live_watch, faults.sent_watch)
    with faults.closing(4000, frames=1):
        assert (False, True) == (faults.live_watch, faults.sent_watch)
    assert (False, False) == (faults.live_watch, faults.sent_watch)


async def test_a_fault_ends_by_itself_in_time() -> None:
    """`for_s`; ending it earlier cancels the timer."""
    faults, ledger = injector()
    fault = faults.begin(kinds.Stall(), for_s=0.01)
    early = faults.begin(kinds.Hang(), for_s=0.01)
    faults.end(early)
    await asyncio.sleep(0.03)
    assert fault.over
    assert 2 == sum(fact.change == "ended" for fact in ledger.of(Fault))


def test_the_past_is_bounded() -> None:
    """The last ones are kept for the list."""
    faults, _ = injector()
    for _ in range(KEPT_ENDED + 20):
        faults.begin(kinds.Drop())
    assert KEPT_ENDED == len(faults.ended)
    faults.begin(kinds.Hang())
    faults.end_all()
    assert not faults.active


def test_every_fault_has_a_name_of_its_own() -> None:
    """And each record says what it means."""
    names = [kinds.name_of(kind) for kind in kinds.AnyFault.__args__]
    assert len(set(names)) == len(names) == 38
    assert all(kind.__doc__ for kind in kinds.AnyFault.__args__)

"""The ledger: order, paging, totals, and a bound that is visible."""

from __future__ import annotations

import msgspec
import pytest

from syncwatch.relay.ledger import Ledger, Opened, Pushed, Restarted, Sent


def filled(count: int, cap: int = 1000) -> Ledger:
    """A ledger with this many pushes."""
    ledger = Ledger(lambda: 5.0, cap)
    for number in range(1, count + 1):
        ledger.pushed(1, "alice", number, "test", f"k{number}")
    return ledger


def test_places_are_counted_from_one() -> None:
    """`after` pages by place, oldest first."""
    ledger = filled(10)
    assert list(range(1, 11)) == [fact.at for fact in ledger.after()]
    assert [4, 5] == [fact.at for fact in ledger.after(3, 2)]
    assert [] == ledger.after(10)
    assert 10 == ledger.last


def test_forgetting_is_bounded_and_visible() -> None:
    """The newest facts stay, the places go on, what is gone is counted; totals do not forget."""
    ledger = filled(1050, cap=100)
    assert len(ledger) <= 100
    assert 1050 == ledger.last == ledger.after()[-1].at
    assert 1050 - len(ledger) == ledger.forgotten
    assert [1049, 1050] == [fact.at for fact in ledger.after(1048)]
    assert ledger.after() == ledger.after(3)
    assert 1050 == ledger.tally("alice").pushed


def test_facts_are_found_by_kind_and_agent() -> None:
    """One kind, one agent, after a place."""
    ledger = filled(3)
    ledger.pushed(1, "bob", 1, "test", "k")
    ledger.add(Restarted, epoch=2)
    assert 3 == len(ledger.of(Pushed, "alice"))
    assert 4 == len(ledger.of(Pushed))
    assert [2] == [fact.epoch for fact in ledger.of(Restarted)]
    assert 1 == len(ledger.of(Pushed, after=3))


def test_totals_tell_live_ring_and_store_apart() -> None:
    """One number per origin."""
    ledger = Ledger(lambda: 0.0)
    for origin in ("live", "live", "ring", "store"):
        ledger.sent(1, 1, "alice", 1, 1, "test", "k", origin)
    tally = ledger.tally("alice")
    assert (2, 1, 1) == (tally.live, tally.ring, tally.store)


def test_facts_speak_json_with_their_name() -> None:
    """`fact` says which one it is; times are true wall seconds."""
    ledger = Ledger(lambda: 7.25)
    ledger.add(Opened, connection=3, agent="alice", epoch=1)
    expected = {"fact": "opened", "at": 1, "time_s": 7.25, "connection": 3, "agent": "alice", "epoch": 1}
    assert expected == msgspec.json.decode(msgspec.json.encode(ledger.after()[0]))


@pytest.mark.parametrize(("key", "ident"), [("107b7647", "107b7647"), ("del_1", "del_1"), ("#abc", None)])
def test_an_id_is_what_the_frame_carries(key: str, ident: str | None) -> None:
    """A digest is no id."""
    ledger = Ledger(lambda: 0.0)
    ledger.pushed(1, "alice", 1, "test", key)
    ledger.sent(1, 1, "alice", 1, 1, "test", key, "live")
    assert [ident] == [fact.id for fact in ledger.of(Pushed)] == [fact.id for fact in ledger.of(Sent)]

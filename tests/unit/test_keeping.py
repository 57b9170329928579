"""What is ours to keep waits until it is safe: nothing is dropped, nothing is handed out twice, and the limits hold."""

from __future__ import annotations

import math
import random

import pytest

from syncwatch.core.effects import Store
from syncwatch.core.keeping import (
    HOLD_BYTES,
    HOLD_COUNT,
    MOST_BYTES,
    MOST_COUNT,
    RETRY_MAX_S,
    RETRY_MIN_S,
    STALL_S,
    Keeping,
)
from syncwatch.core.wire import Deposit, Event


def deposit(number: int, size: int = 10) -> Deposit:
    """One with this number for a key."""
    return Deposit(Event(f"k{number}", True), f"k{number}.json", b"x" * size)


def taken(keeping: Keeping, count: int, now: float = 0.0, size: int = 10) -> list[Store]:
    """So many, all with memory for them."""
    stores = [keeping.take(now, deposit(number, size)) for number in range(1, count + 1)]
    return [store for store in stores if store is not None]


def test_what_is_stored_is_handed_out_once() -> None:
    """In whatever order the answers come; an answer that nobody waits for is ignored."""
    keeping = Keeping()
    one, two = taken(keeping, 2)
    assert (2, 20, False) == (keeping.waiting, keeping.bytes, keeping.troubled)
    assert ["k2", "k1", None, None] == [
        event and event.key for event in (keeping.answered(1.0, number, None) for number in (two.deposit_id, one.deposit_id, one.deposit_id, 99))
    ]
    assert (0, 0, 2, math.inf) == (keeping.waiting, keeping.bytes, keeping.stored, keeping.deadline)


def test_a_failure_is_tried_again_more_slowly_and_for_ever() -> None:
    """Until it is stored; then all is well, and a later failure begins with the shortest delay again."""
    keeping = Keeping()
    (store,) = taken(keeping, 1)
    now, delays = 0.0, []
    for _ in range(9):
        assert keeping.answered(now, store.deposit_id, "disk full") is None
        assert ("disk full", 0.0) == (keeping.failure, keeping.failing_since_s)
        delays.append(keeping.deadline - now)
        assert [] == keeping.tick(keeping.deadline - 0.001)
        now = keeping.deadline
        assert [store] == keeping.tick(now)
    assert [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0] == delays
    assert (RETRY_MIN_S, RETRY_MAX_S) == (delays[0], delays[-1])
    event = keeping.answered(now, store.deposit_id, None)
    assert ("k1", None, None, math.inf) == (event and event.key, keeping.failure, keeping.failing_since_s, keeping.deadline)
    (again,) = taken(keeping, 1, now)
    keeping.answered(now, again.deposit_id, "disk full")
    assert now + RETRY_MIN_S == keeping.deadline


def test_one_that_is_under_way_is_not_asked_for_twice() -> None:
    """A retry is for what failed; the trouble is over when nothing waits any more, not with the first that could be stored."""
    keeping = Keeping()
    one, two, three = taken(keeping, 3)
    keeping.answered(0.0, two.deposit_id, "io error")
    keeping.answered(0.5, three.deposit_id, "disk full")
    assert 1.0 == keeping.deadline, "from the first failure on"
    assert [two, three] == keeping.tick(1.0)
    keeping.answered(1.1, one.deposit_id, None)
    keeping.answered(1.2, three.deposit_id, None)
    assert ("disk full", 1) == (keeping.failure, keeping.waiting)
    keeping.answered(1.3, two.deposit_id, None)
    assert (None, 0, 3, 2) == (keeping.failure, keeping.waiting, keeping.stored, keeping.failures)


def test_storage_that_says_nothing_is_in_trouble() -> None:
    """A disk that hangs is no better than one that is full; progress with one of many is progress."""
    keeping = Keeping()
    one, two = taken(keeping, 2, 5.0)
    assert 5.0 + STALL_S == keeping.deadline
    keeping.answered(9.0, one.deposit_id, None)
    assert [] == keeping.tick(9.0 + STALL_S - 0.001)
    assert not keeping.troubled
    assert [] == keeping.tick(9.0 + STALL_S)
    assert ("no answer for 10 s", 19.0, math.inf) == (keeping.failure, keeping.failing_since_s, keeping.deadline)
    assert "k2" == getattr(keeping.answered(100.0, two.deposit_id, None), "key", None)
    assert not keeping.troubled


@pytest.mark.parametrize(("size", "most"), [(10, HOLD_COUNT), (HOLD_BYTES // 8, 8)])
def test_reading_stops_at_a_limit_and_goes_on_at_half_of_it(size: int, most: int) -> None:
    """By number or by bytes."""
    keeping = Keeping()
    stores = taken(keeping, most - 1, size=size)
    before = keeping.full
    stores += taken(keeping, 1, size=size)
    assert (False, True) == (before, keeping.full)
    for left, store in zip(range(most - 1, -1, -1), stores, strict=True):
        keeping.answered(1.0, store.deposit_id, None)
        assert (left <= most // 2) == keeping.roomy


@pytest.mark.parametrize(("size", "most"), [(10, MOST_COUNT), (MOST_BYTES // 4, 4)])
def test_memory_has_a_limit_and_what_is_above_it_is_counted(size: int, most: int) -> None:
    """Not taken, and whoever asked is told so."""
    keeping = Keeping()
    assert most == len(taken(keeping, most + 3, size=size))
    assert (most, most * size, 3) == (keeping.waiting, keeping.bytes, keeping.refused)


def test_every_deposit_is_waiting_or_stored_whatever_happens() -> None:
    """Answers in any order, good and bad, late and doubled; at the end everything was handed out once."""
    for seed in range(200):
        dice, keeping, now = random.Random(seed), Keeping(), 0.0
        asked: dict[int, str] = {}
        out: list[str] = []
        for number in range(300):
            now += dice.random()
            if dice.random() < 0.3:
                store = keeping.take(now, deposit(number))
                assert store is not None
                asked[store.deposit_id] = store.name
            if asked and dice.random() < 0.5:
                which = dice.choice([*asked])
                event = keeping.answered(now, which, dice.choice([None, None, "io error"]))
                asked.pop(which)
                out += [] if event is None else [event.key]
            if dice.random() < 0.1:
                assert keeping.answered(now, dice.randrange(400, 500), None) is None
            for store in keeping.tick(now) if now >= keeping.deadline else []:
                assert store.deposit_id not in asked, "it is under way"
                asked[store.deposit_id] = store.name
            assert len(out) == keeping.stored
            assert (keeping.waiting > 0) >= keeping.troubled
        while keeping.waiting:
            now = max(now, keeping.deadline) if not asked else now
            for store in keeping.tick(now):
                asked[store.deposit_id] = store.name
            for which in [*asked]:
                asked.pop(which)
                event = keeping.answered(now, which, None)
                out += [] if event is None else [event.key]
        assert len(out) == len(set(out)) == keeping.stored

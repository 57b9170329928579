"""Ranges against a plain set as the model."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncwatch.core.ranges import Ranges

small = st.integers(min_value=-5, max_value=60)
operations = st.lists(
    st.tuples(st.sampled_from(["add", "add_range", "discard", "discard_range", "pop_lowest"]), small, small), max_size=60
)


def in_form(ranges: Ranges) -> bool:
    """Sorted, disjoint, not adjacent, and each range the right way round."""
    pairs = list(ranges)
    return all(low <= high for low, high in pairs) and all(a[1] + 1 < b[0] for a, b in itertools.pairwise(pairs))


def members(ranges: Ranges) -> set[int]:
    """What is held, one entry per number."""
    return {number for low, high in ranges for number in range(low, high + 1)}


def play(ranges: Ranges, model: set[int], name: str, low: int, high: int) -> None:
    """One operation on both; its answer must be the model's."""
    span = set(range(low, high + 1))
    if name == "add":
        assert (low not in model) == ranges.add(low)
        model.add(low)
    elif name == "add_range":
        assert len(span - model) == ranges.add_range(low, high)
        model |= span
    elif name == "discard":
        assert (low in model) == ranges.discard(low)
        model.discard(low)
    elif name == "discard_range":
        assert len(span & model) == ranges.discard_range(low, high)
        model -= span
    elif model:
        first, last = ranges.pop_lowest()
        assert min(model) == first
        assert set(range(first, last + 1)) <= model
        assert last + 1 not in model
        model -= set(range(first, last + 1))


@settings(max_examples=300, deadline=None)
@given(operations)
def test_any_sequence_of_operations_is_a_set(script: list[tuple[str, int, int]]) -> None:
    """After every operation the ranges hold exactly what a set would, in the shortest form, and `total` counts it."""
    ranges, model = Ranges(), set[int]()
    for name, low, high in script:
        play(ranges, model, name, low, high)
        assert model == members(ranges)
        assert len(model) == ranges.total
        assert in_form(ranges)
        assert bool(model) == bool(ranges)


@settings(max_examples=200, deadline=None)
@given(st.sets(small, max_size=40), small, small)
def test_questions_are_answered_as_a_set_would(model: set[int], low: int, high: int) -> None:
    """Membership, the gaps of a span, the lowest and the highest number."""
    ranges = Ranges((number, number) for number in model)
    gaps = ranges.gaps(low, high)
    assert set(range(low, high + 1)) - model == {n for a, b in gaps for n in range(a, b + 1)}
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(gaps))
    assert [number in model for number in range(-6, 62)] == [number in ranges for number in range(-6, 62)]
    if model:
        assert (min(model), max(model)) == (ranges.low, ranges.high)


def test_a_jump_over_two_million_costs_one_pair() -> None:
    """What a cap counts is ranges: one for two million numbers."""
    ranges = Ranges([(1, 2_000_000)])
    assert (1, 2_000_000) == (len(ranges), ranges.total)
    assert 2_000_000 in ranges
    assert ranges.discard(1_000_000)
    assert [(1, 999_999), (1_000_001, 2_000_000)] == list(ranges)
    assert [(1_000_000, 1_000_000), (2_000_001, 2_000_005)] == ranges.gaps(999_990, 2_000_005)


def test_neighbours_merge() -> None:
    """Adjacent ranges are one range, whether they grow at the top, at the bottom or meet in the middle."""
    ranges = Ranges([(5, 6), (9, 9)])
    ranges.add(7)
    ranges.add(10)
    ranges.add(8)
    assert [(5, 10)] == list(ranges)
    ranges.add(4)
    assert [(4, 10)] == list(ranges)


def test_a_range_the_wrong_way_round_is_nothing() -> None:
    """high below low adds, removes and finds nothing."""
    ranges = Ranges([(3, 5)])
    assert (0, 0) == (ranges.add_range(9, 8), ranges.discard_range(4, 3))
    assert [] == ranges.gaps(9, 8)
    assert [(3, 5)] == list(ranges)


def test_iterating_survives_changes() -> None:
    """A loop over the ranges sees them as they were when it began."""
    ranges = Ranges([(1, 2), (5, 6), (9, 9)])
    seen = []
    for low, high in ranges:
        ranges.discard_range(low, high)
        seen.append((low, high))
    assert [(1, 2), (5, 6), (9, 9)] == seen
    assert not ranges


def test_empty_has_no_ends() -> None:
    """Asking an empty set for its ends is the caller's mistake."""
    for ask in (lambda: Ranges().low, lambda: Ranges().high, lambda: Ranges().pop_lowest()):
        with pytest.raises(IndexError):
            ask()

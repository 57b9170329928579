"""Classic histograms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.histogram import FAST_S, SLOW_S, Histogram


def test_a_value_on_a_bound_belongs_to_it() -> None:
    """`le` means less or equal."""
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 2.1):
        histogram.observe(value)
    assert (1, 3, 4) == histogram.snapshot().cumulative


def test_below_zero_is_counted_as_zero() -> None:
    """A clock's fault is no duration, and the sum never falls."""
    histogram = Histogram(FAST_S)
    histogram.observe(-3.0)
    assert (1, 0.0) == (histogram.count, histogram.snapshot().sum)
    assert 1 == histogram.snapshot().cumulative[0]


@given(st.lists(st.floats(min_value=-10, max_value=100), max_size=50))
def test_counts_are_what_a_plain_count_finds(values: list[float]) -> None:
    """Cumulative counts per bound, all of them for +Inf, and the sum."""
    histogram = Histogram(SLOW_S)
    for value in values:
        histogram.observe(value)
    picture = histogram.snapshot()
    expected = [sum(max(value, 0.0) <= bound for value in values) for bound in SLOW_S]
    assert (*expected, len(values)) == picture.cumulative
    assert len(values) == histogram.count
    assert math.isclose(sum(max(value, 0.0) for value in values), picture.sum)


def test_a_snapshot_does_not_change() -> None:
    """It is a copy."""
    histogram = Histogram((1.0,))
    picture = histogram.snapshot()
    histogram.observe(0.5)
    assert ((0, 0), 0.0) == (picture.cumulative, picture.sum)


@pytest.mark.parametrize("bounds", [(), (2.0, 1.0), (1.0, 1.0)])
def test_bounds_that_do_not_ascend_are_refused(bounds: tuple[float, ...]) -> None:
    """Our own misuse raises."""
    with pytest.raises(ValueError, match="ascending"):
        Histogram(bounds)


def test_the_buckets_are_the_published_ones() -> None:
    """Users' queries name them."""
    assert (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0) == FAST_S
    assert (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0) == SLOW_S

"""How long to wait before the next attempt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.backoff import Backoff


def test_doubles_from_a_quarter_second_to_half_a_minute() -> None:
    """The defaults, at the middle of the jitter."""
    delays = [Backoff().delay_s(failures, 0.5) for failures in range(1, 11)]
    assert [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] == delays


def test_jitter_spreads_each_delay_over_half_to_one_and_a_half() -> None:
    """0.5 to 1.5 of the delay, the ceiling included."""
    assert (0.5, 1.0, 1.5) == tuple(Backoff().delay_s(3, chance) for chance in (0.0, 0.5, 1.0))
    assert (15.0, 45.0) == (Backoff().delay_s(99, 0.0), Backoff().delay_s(99, 1.0))


def test_without_jitter_chance_means_nothing() -> None:
    """The delay is exact."""
    plain = Backoff(min_s=1.0, max_s=5.0, jitter=False)
    assert [1.0, 2.0, 4.0, 5.0] == [plain.delay_s(failures, 0.9) for failures in (1, 2, 3, 4)]


def test_no_failure_yet_waits_as_after_one() -> None:
    """A stable connection that was lost is tried again soon, not at once."""
    assert Backoff().delay_s(1, 0.5) == Backoff().delay_s(0, 0.5)


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True), st.booleans())
def test_always_within_its_bounds_and_never_shrinks_with_failures(failures: int, chance: float, jitter: bool) -> None:
    """However many failures: no overflow, never below half of the least, never above one and a half of the most."""
    backoff = Backoff(0.25, 30.0, jitter)
    delay_s = backoff.delay_s(failures, chance)
    assert 0.125 <= delay_s <= 45.0
    assert delay_s <= backoff.delay_s(failures + 1, chance)

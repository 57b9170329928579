"""Several polite ends in a row, each soon after its beginning, are somebody else's; one is nothing."""

from __future__ import annotations

import math

from syncwatch.core.rivals import CUTS, Rivals


def lived(rivals: Rivals, now: float, for_s: float, politely: bool = True) -> float:
    """One connection; returns when it ended."""
    rivals.ready(now)
    rivals.ended(now + for_s, politely)
    return now + for_s


def test_a_rival_is_found_after_several_cuts_in_a_row() -> None:
    """Since the last of them; more of them change nothing."""
    rivals, now = Rivals(40.0), 0.0
    for cuts in range(1, CUTS):
        now = lived(rivals, now, 30.0)
        assert (None, cuts) == (rivals.since_s, rivals.cuts)
    found = now = lived(rivals, now, 39.9)
    assert found == rivals.since_s
    lived(rivals, now, 1.0)
    assert (found, CUTS + 1) == (rivals.since_s, rivals.cuts)


def test_another_kind_of_end_begins_the_count_anew() -> None:
    """A network that fails cuts as well, and not politely; a rival that is known is not forgotten for it."""
    rivals = Rivals(40.0)
    for politely in (True, True, False, True, True):
        lived(rivals, 0.0, 5.0, politely)
    assert (None, 2) == (rivals.since_s, rivals.cuts)
    lived(rivals, 0.0, 5.0)
    lived(rivals, 0.0, 5.0, politely=False)
    assert 5.0 == rivals.since_s


def test_a_long_life_ends_it() -> None:
    """While it lasts, at the moment when a rival would have cut it, or at its end; there is nothing to look at where nothing is suspected."""
    rivals = Rivals(40.0)
    rivals.ready(0.0)
    assert math.inf == rivals.deadline
    for _ in range(CUTS):
        lived(rivals, 0.0, 5.0)
    rivals.ready(100.0)
    rivals.tick(139.9)
    assert (140.0, 5.0) == (rivals.deadline, rivals.since_s)
    rivals.tick(140.0)
    assert (math.inf, None, 0) == (rivals.deadline, rivals.since_s, rivals.cuts)
    for _ in range(CUTS - 1):
        lived(rivals, 0.0, 5.0)
    lived(rivals, 0.0, 40.0)
    assert (None, 0) == (rivals.since_s, rivals.cuts)


def test_between_connections_nothing_is_due() -> None:
    """Time alone is no proof."""
    rivals = Rivals(40.0)
    for _ in range(CUTS):
        lived(rivals, 0.0, 5.0)
    assert math.inf == rivals.deadline
    rivals.tick(1e9)
    assert 5.0 == rivals.since_s

"""The tip check: when to ask, and what the answers mean."""

from __future__ import annotations

import math

from syncwatch.core.states import Verification as Result
from syncwatch.core.verification import Verification


def checking() -> Verification:
    """The defaults, started at 0 and caught up at 10."""
    verification = Verification(60.0, 2.0)
    verification.begin(0.0)
    verification.opened(10.0, soon=False)
    return verification


def results(verification: Verification) -> tuple[int, int, int]:
    """verified, behind, failed."""
    return tuple(verification.results[result] for result in (Result.VERIFIED, Result.BEHIND, Result.FAILED))  # type: ignore[return-value]  # three of them


def next_s(verification: Verification) -> float:
    """When a check is due or a suspicion ripens."""
    return min(verification.due_s, verification.verdict_s)


def behind() -> Verification:
    """A verdict reached at 72: the check at 70 needed help and nothing came live."""
    verification = checking()
    verification.checked(70.0, needed_help=True)
    assert verification.ripened(72.0)
    return verification


def test_the_first_check_is_due_an_interval_after_catching_up() -> None:
    """Or after the grace, when not even a first number is known."""
    assert 70.0 == next_s(checking())
    soon = Verification(60.0, 2.0)
    soon.opened(10.0, soon=True)
    assert 12.0 == next_s(soon)


def test_unverified_time_counts_from_the_start_until_the_first_proof() -> None:
    """None before it: an age of something that never began is not invented."""
    assert None is Verification(60.0, 2.0).verified_s
    assert 0.0 == checking().verified_s


def test_a_check_that_needed_no_help_verifies() -> None:
    """The server's newest number was ours; the next check is due an interval later."""
    verification = checking()
    verification.checked(70.5, needed_help=False)
    assert ((1, 0, 0), 70.5, 130.5) == (results(verification), verification.verified_s, next_s(verification))


def test_a_check_that_needed_help_is_a_suspicion_for_the_grace() -> None:
    """Nothing is counted or reset until the grace is over; then it is a verdict, once."""
    verification = checking()
    verification.checked(70.0, needed_help=True)
    assert ((0, 0, 0), 0.0, 72.0, None) == (
        results(verification), verification.verified_s, next_s(verification), verification.behind_since_s,
    )  # fmt: skip
    assert not verification.ripened(71.9)
    assert verification.ripened(72.0)
    assert ((0, 1, 0), 0.0, 72.0) == (results(verification), verification.verified_s, verification.behind_since_s)
    assert not verification.ripened(99.0)
    assert 130.0 == next_s(verification)


def test_a_live_event_within_the_grace_drops_the_suspicion() -> None:
    """The push path works; the check counts as verified."""
    verification = checking()
    verification.checked(70.0, needed_help=True)
    assert verification.watching
    verification.live(71.0)
    assert ((1, 0, 0), 71.0, None) == (results(verification), verification.verified_s, verification.behind_since_s)
    assert not verification.ripened(99.0)
    assert not verification.watching


def test_replay_does_not_take_a_verdict_back() -> None:
    """Behind stays behind while events keep coming by replay only, and unverified time grows."""
    verification = behind()
    verification.settled(73.0)
    verification.checked(130.0, needed_help=True)
    verification.settled(131.0)
    verification.canary(132.0)
    assert ((0, 2, 0), 0.0, 72.0) == (results(verification), verification.verified_s, verification.behind_since_s)
    assert math.inf == verification.verdict_s


def test_only_a_comparison_that_needs_no_help_clears_it() -> None:
    """The next equal check takes the verdict back."""
    verification = behind()
    verification.checked(130.0, needed_help=False)
    assert ((1, 1, 0), 130.0, None) == (results(verification), verification.verified_s, verification.behind_since_s)


def test_a_live_event_while_behind_brings_the_next_check_forward() -> None:
    """It proves that something is pushed, not that everything is; checks stay a grace apart."""
    verification = behind()
    verification.live(71.5)
    assert 72.0 == next_s(verification)
    verification = behind()
    verification.live(100.0)
    assert (100.0, 72.0) == (next_s(verification), verification.behind_since_s)
    assert verification.watching


def test_without_suspicion_live_events_mean_nothing_here() -> None:
    """They move no deadline."""
    verification = checking()
    assert not verification.watching
    verification.live(20.0)
    assert ((0, 0, 0), 70.0, 0.0) == (results(verification), next_s(verification), verification.verified_s)


def test_a_settled_resync_or_a_live_canary_verifies_too() -> None:
    """Unless the connection is behind."""
    verification = checking()
    verification.settled(20.0)
    assert 20.0 == verification.verified_s
    verification.canary(30.0)
    assert ((0, 0, 0), 30.0) == (results(verification), verification.verified_s)


def test_an_unanswered_check_failed() -> None:
    """It proves nothing in either direction."""
    verification = checking()
    verification.unanswered()
    assert ((0, 0, 1), 0.0, None) == (results(verification), verification.verified_s, verification.behind_since_s)


def test_a_closed_connection_asks_nothing_and_its_open_suspicion_stands() -> None:
    """The answer was given, even if the connection did not live to see the grace end; being behind survives the reconnect."""
    verification = checking()
    verification.checked(70.0, needed_help=True)
    verification.closed()
    assert ((0, 1, 0), math.inf, None) == (results(verification), next_s(verification), verification.behind_since_s)
    verification = behind()
    verification.closed()
    assert ((0, 1, 0), 72.0) == (results(verification), verification.behind_since_s)

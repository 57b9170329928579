"""The rate limit (wire: relayfile §1)."""

from __future__ import annotations

from syncwatch.relay.relayfile.rate import RateLimiter


def test_so_many_requests_per_window() -> None:
    """The window begins with its first request; what is refused does not prolong it."""
    limiter = RateLimiter(2, 60.0)
    assert [True, True, False, False] == [limiter.allows("w", "me", at_s) for at_s in (10, 20, 30, 69.9)]
    assert [True, True, False] == [limiter.allows("w", "me", at_s) for at_s in (70, 71, 72)]


def test_each_workspace_and_subject_counts_for_itself() -> None:
    """Nobody spends another's requests."""
    limiter = RateLimiter(1, 60.0)
    assert [True, True, True, False] == [
        limiter.allows(*key, 0.0) for key in (("w", "me"), ("w", "you"), ("v", "me"), ("w", "me"))
    ]

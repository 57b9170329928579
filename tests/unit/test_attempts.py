"""Handshakes, how they end, and when the next one is due."""

from __future__ import annotations

import math

import pytest

from syncwatch.core.attempts import CREDENTIALS, MAX_RETRY_AFTER_S, Attempts
from syncwatch.core.backoff import Backoff
from syncwatch.core.effects import Handshake
from syncwatch.core.states import AttemptFailure, Disconnect


def attempts() -> Attempts:
    """The defaults, without jitter."""
    return Attempts(Backoff(jitter=False), breaker=30, breaker_retry_s=60.0, spread_s=5.0)


def failing(times: int, reason: AttemptFailure = AttemptFailure.REFUSED) -> Attempts:
    """So many failures, a second apart, from 1 on."""
    bookkeeping = attempts()
    for now in range(1, times + 1):
        bookkeeping.dial(now - 0.5)
        bookkeeping.failed(float(now), reason, None)
    return bookkeeping


def test_every_handshake_has_a_number_of_its_own() -> None:
    """From 1, and while one is under way none is due."""
    bookkeeping = attempts()
    assert (1, math.inf) == (bookkeeping.dial(0.0), bookkeeping.retry_at_s)
    bookkeeping.failed(1.0, AttemptFailure.DNS, None)
    bookkeeping.schedule(1.0, 0.5)
    assert 1.25 == bookkeeping.retry_at_s
    assert (2, math.inf) == (bookkeeping.dial(1.25), bookkeeping.retry_at_s)


@pytest.mark.parametrize("reason", AttemptFailure)
def test_each_failure_is_counted_under_its_reason_and_none_is_final(reason: AttemptFailure) -> None:
    """Refused credentials wait for a minute, everything else begins with the shortest delay."""
    bookkeeping = failing(1, reason)
    assert {reason: 1} == {key: count for key, count in bookkeeping.failures.items() if count}
    expected = 60.0 if reason in CREDENTIALS else 0.25
    assert expected == bookkeeping.schedule(1.0, 0.5)
    assert 1.0 + expected == bookkeeping.retry_at_s
    assert (reason in CREDENTIALS) == bookkeeping.breaker_open


def test_the_breaker_opens_at_thirty_and_retries_each_minute() -> None:
    """Nothing is given up, only retried more slowly."""
    bookkeeping = failing(29)
    assert (30.0, False) == (bookkeeping.schedule(0.0, 0.5), bookkeeping.breaker_open)
    bookkeeping = failing(30)
    assert (60.0, True) == (bookkeeping.schedule(0.0, 0.5), bookkeeping.breaker_open)
    bookkeeping = failing(3000)
    assert 60.0 == bookkeeping.schedule(0.0, 0.5)


def test_retry_after_is_honoured_and_bounded() -> None:
    """Never sooner than asked, never later than an hour, never in the past; and not remembered beyond the next failure."""
    for asked, expected in ((120.0, 120.0), (0.1, 0.25), (1e9, MAX_RETRY_AFTER_S), (-5.0, 0.25), (math.nan, 0.25), (None, 0.25)):
        bookkeeping = attempts()
        bookkeeping.failed(0.0, AttemptFailure.RATE_LIMITED, asked)
        assert expected == bookkeeping.schedule(0.0, 0.5)
    bookkeeping = attempts()
    bookkeeping.failed(0.0, AttemptFailure.RATE_LIMITED, 120.0)
    bookkeeping.failed(120.0, AttemptFailure.REFUSED, None)
    assert 0.5 == bookkeeping.schedule(120.0, 0.5)


def test_spread_comes_on_top_for_the_first_attempt_after_a_loss() -> None:
    """Uniform over 0 to 5 s, so that a fleet does not come back in the same second."""
    assert (0.25, 2.75) == (attempts().schedule(0.0, 0.5, 0.0), attempts().schedule(0.0, 0.5, 0.5))


def test_success_clears_the_reason_but_only_stability_the_count() -> None:
    """A server that accepts and closes still reaches the breaker."""
    bookkeeping = failing(3, AttemptFailure.UNAUTHORIZED)
    bookkeeping.dial(10.0)
    bookkeeping.upgraded(10.2, Handshake())
    assert 0.5 == bookkeeping.ready(10.5)
    assert (None, 3, False) == (bookkeeping.last_reason, bookkeeping.consecutive, bookkeeping.breaker_open)
    bookkeeping.stable()
    assert 0 == bookkeeping.consecutive


def test_reconnects_are_the_opens_after_the_first() -> None:
    """Never negative before it."""
    bookkeeping = attempts()
    seen = [bookkeeping.reconnects]
    for now in (1.0, 2.0, 3.0):
        bookkeeping.dial(now)
        bookkeeping.upgraded(now, Handshake())
        bookkeeping.ready(now)
        seen.append(bookkeeping.reconnects)
    assert [0, 0, 1, 2] == seen


def test_the_phases_are_those_that_happened_in_the_last_handshake() -> None:
    """A reused DNS answer, plain TCP or a codec without words of its own leave their phase out; the codec's part begins at the upgrade."""
    bookkeeping = attempts()
    bookkeeping.dial(0.0)
    bookkeeping.upgraded(0.5, Handshake(dns_s=0.125, tcp_s=0.125, tls_s=0.125, upgrade_s=0.125, certificate_expiry_s=9.0))
    bookkeeping.ready(0.75)
    assert {"dns": 0.125, "tcp": 0.125, "tls": 0.125, "upgrade": 0.125, "protocol": 0.25} == bookkeeping.phases_s
    bookkeeping.dial(1.0)
    bookkeeping.upgraded(1.5, Handshake(tcp_s=0.25, upgrade_s=0.25))
    bookkeeping.ready(1.5)
    assert {"tcp": 0.25, "upgrade": 0.25} == bookkeeping.phases_s
    assert (2, 1.25) == (bookkeeping.handshake.count, bookkeeping.handshake.snapshot().sum)
    assert None is bookkeeping.certificate_expiry_s


def test_the_same_reason_in_a_row_holds_since_the_first() -> None:
    """Another one begins anew."""
    bookkeeping = failing(3, AttemptFailure.TIMEOUT)
    assert 1.0 == bookkeeping.last_failure_s
    bookkeeping.failed(9.0, AttemptFailure.REJECTED, None)
    assert 9.0 == bookkeeping.last_failure_s


def test_close_codes_without_a_label_of_their_own_are_other() -> None:
    """A peer cannot make labels; no code is no count."""
    bookkeeping = attempts()
    for code in (1000, 1006, 1006, 1013, 3000, 4999, None):
        bookkeeping.disconnected(Disconnect.PEER_CLOSED, code)
    assert {"1000": 1, "1001": 0, "1006": 2, "1008": 0, "1011": 0, "1012": 0, "1013": 1, "other": 2} == bookkeeping.close_codes
    assert 7 == bookkeeping.disconnects[Disconnect.PEER_CLOSED]

"""A session's handshakes: every failure's retry, the breaker, the spread, credentials."""

from __future__ import annotations

import math

import pytest

from syncwatch.core.attempts import CREDENTIALS
from syncwatch.core.effects import Notice
from syncwatch.core.health import Reason
from syncwatch.core.session import SessionSettings
from syncwatch.core.states import Anomaly, AttemptFailure, Disconnect, State
from syncwatch.core.wire import Control, Ready
from tests.unit.sessions import Host, ScriptedProtocol, established, message

OWN_REASON = {
    AttemptFailure.TIMEOUT: Reason.HANDSHAKE_TIMEOUT,
    AttemptFailure.UNAUTHORIZED: Reason.UNAUTHORIZED,
    AttemptFailure.FORBIDDEN: Reason.FORBIDDEN,
    AttemptFailure.RATE_LIMITED: Reason.RATE_LIMITED,
    AttemptFailure.REJECTED: Reason.UPSTREAM_ERROR,
}


def delays(host: Host, reason: AttemptFailure, times: int) -> list[float]:
    """Fail so often with the same reason; the waits in between."""
    waits = []
    for _ in range(times):
        host.fail(reason)
        waits.append(host.session.deadline - host.now)
        host.pass_time(waits[-1])
    return waits


@pytest.mark.parametrize("reason", AttemptFailure)
def test_every_failure_is_retried_and_none_is_final(reason: AttemptFailure) -> None:
    """Counted and told under its reason; refused credentials are failed and wait a minute, all others double from 250 ms."""
    host = Host().start()
    waits = delays(host, reason, 8)
    refused = reason in CREDENTIALS
    assert ([60.0] * 8 if refused else [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]) == waits
    picture = host.session.snapshot()
    assert (8, 8, 9) == (picture.attempt_failures[reason], picture.consecutive_failures, picture.attempts)
    assert (State.FAILED if refused else State.RECONNECTING) is host.session.state
    told = host.notices(Notice.ATTEMPT_FAILED)
    assert [reason] * 8 == [notice.fields["reason"] for notice in told]
    assert waits == [notice.fields["retry_in_s"] for notice in told]


@pytest.mark.parametrize("reason", AttemptFailure)
def test_conditions_of_a_failed_attempt_hold_since_it_began(reason: AttemptFailure) -> None:
    """The state since it was entered, the reason since the first failure of its kind; both gone with the next open."""
    host = Host().start()
    host.now = 103.0
    delays(host, reason, 3)
    state = Reason.FAILED if reason in CREDENTIALS else Reason.RECONNECTING
    expected = {state: 103.0} | ({OWN_REASON[reason]: 103.0} if reason in OWN_REASON else {})
    assert expected == host.held()
    host.open().tick()
    assert {} == host.held()


def test_the_sentence_about_the_last_failure_stands_until_all_is_well() -> None:
    """Reason and detail; None while connected."""
    host = Host().start().fail(AttemptFailure.TLS, "certificate has expired")
    assert "tls: certificate has expired" == host.session.snapshot().last_failure
    host.pass_time(1.0).open()
    assert None is host.session.snapshot().last_failure
    host.drop(Disconnect.PEER_CLOSED, 1001)
    assert "peer_closed" == host.session.snapshot().last_failure


def test_the_next_attempt_is_told_while_waiting_only() -> None:
    """Monotonic; absent while a handshake is under way, which is told too, and while a socket is open."""

    def told() -> tuple[float | None, bool]:
        picture = host.session.snapshot()
        return picture.next_attempt_now_s, picture.attempting

    host = Host().start()
    assert (None, True) == told()
    host.fail()
    assert (100.25, False) == told()
    host.pass_time(0.25)
    assert (None, True) == told()
    host.open()
    assert (None, False) == told()


class TestHandshakeTimeout:
    def test_it_is_enforced_by_the_session(self) -> None:
        """10 s after the dial, whatever the shell does: the attempt is closed and failed."""
        host = Host().start().pass_time(9.99)
        assert [] == host.closes()
        host.pass_time(0.01)
        assert (1, State.RECONNECTING) == (len(host.closes()), host.session.state)
        assert 1 == host.session.snapshot().attempt_failures[AttemptFailure.TIMEOUT]
        assert Reason.HANDSHAKE_TIMEOUT in host.held()

    def test_it_covers_the_codecs_own_handshake_until_ready(self) -> None:
        """An upgrade that succeeds and then says nothing, or chatters without Ready, is a timeout all the same."""
        host = Host(protocol=ScriptedProtocol(first_words=())).start()
        host.pass_time(5.0).open()
        for _ in range(4):
            host.pass_time(1.0).hear(message(Control()))
        assert State.CONNECTING is host.session.state
        host.pass_time(1.0)
        picture = host.session.snapshot()
        assert (State.RECONNECTING, 1, 0) == (
            picture.timeline.state, picture.attempt_failures[AttemptFailure.TIMEOUT], sum(picture.disconnects.values()),
        )  # fmt: skip

    def test_ready_in_time_ends_it(self) -> None:
        """Nothing of it is left afterwards."""
        host = Host(protocol=ScriptedProtocol(first_words=())).start().open().pass_time(9.99)
        host.hear(message(Ready())).tick().pass_time(60.0)
        assert (State.OPEN, []) == (host.session.state, host.closes())

    @pytest.mark.parametrize(
        ("reason", "code", "failure", "told", "state"),
        [
            (Disconnect.PEER_ERROR, 1008, AttemptFailure.UNAUTHORIZED, Reason.UNAUTHORIZED, State.FAILED),
            (Disconnect.PEER_ERROR, 1011, AttemptFailure.REJECTED, Reason.UPSTREAM_ERROR, State.RECONNECTING),
            (Disconnect.PEER_CLOSED, 1000, AttemptFailure.PROTOCOL, Reason.RECONNECTING, State.RECONNECTING),
            (Disconnect.PEER_CLOSED, 1006, AttemptFailure.PROTOCOL, Reason.RECONNECTING, State.RECONNECTING),
            (Disconnect.NETWORK, None, AttemptFailure.PROTOCOL, Reason.RECONNECTING, State.RECONNECTING),
        ],
    )
    def test_a_socket_that_ends_before_ready_is_a_failed_attempt(
        self, reason: Disconnect, code: int | None, failure: AttemptFailure, told: Reason, state: State
    ) -> None:
        """The code says whether we are not welcome, the peer has trouble, or nothing in particular; nothing was established, so nothing was disconnected."""
        host = Host(protocol=ScriptedProtocol(first_words=())).start().open().drop(reason, code)
        picture = host.session.snapshot()
        assert (1, 0, 0) == (
            picture.attempt_failures[failure], sum(picture.disconnects.values()), sum(picture.close_codes.values()),
        )  # fmt: skip
        assert (None, state) == (picture.established, picture.timeline.state)
        assert told in host.held()


class TestRetryAfter:
    def test_the_server_is_not_asked_sooner_than_it_wants(self) -> None:
        """429 with Retry-After; the failure is not refused credentials, so the state stays reconnecting."""
        host = Host().start().fail(AttemptFailure.RATE_LIMITED, retry_after_s=120.0)
        assert (220.0, State.RECONNECTING) == (host.session.deadline, host.session.state)
        assert 120.0 == host.notices(Notice.ATTEMPT_FAILED)[0].fields["retry_in_s"]

    def test_it_is_honoured_whatever_the_status(self) -> None:
        """503 and 401 may carry it too; never longer than an hour."""
        for reason in (AttemptFailure.REJECTED, AttemptFailure.UNAUTHORIZED):
            assert 300.0 == Host(now=0.0).start().fail(reason, retry_after_s=300.0).session.deadline
        assert 3600.0 == Host(now=0.0).start().fail(AttemptFailure.REJECTED, retry_after_s=1e12).session.deadline

    def test_new_credentials_do_not_shorten_a_rate_limit(self) -> None:
        """Another token is no answer to `wait`."""
        host = Host(SessionSettings(breaker=1)).start().fail(AttemptFailure.RATE_LIMITED, retry_after_s=120.0)
        assert State.FAILED is host.session.state
        host.take(host.session.credentials(host.now, None))
        assert 220.0 == host.session.deadline


class TestCredentials:
    @pytest.mark.parametrize("reason", sorted(CREDENTIALS))
    def test_changed_credentials_are_tried_at_once(self, reason: AttemptFailure) -> None:
        """The state stays failed until they are accepted; then nothing of it is left."""
        host = Host().start().fail(reason).pass_time(7.0)
        assert (State.FAILED, 160.0) == (host.session.state, host.session.deadline)
        host.take(host.session.credentials(host.now, 1.9e9))
        host.tick()
        assert (2, State.FAILED) == (host.dials(), host.session.state)
        host.open().tick()
        assert (State.OPEN, {}, 1.9e9) == (host.session.state, host.held(), host.session.snapshot().token_expiry_wall_s)

    def test_the_open_breaker_tries_them_at_once_too(self) -> None:
        """Failed is failed: retried each minute and whenever the token file changes."""
        host = Host(SessionSettings(breaker=2)).start()
        delays(host, AttemptFailure.REFUSED, 2)
        host.fail(AttemptFailure.REFUSED)
        assert (State.FAILED, 60.0) == (host.session.state, host.session.deadline - host.now)
        host.take(host.session.credentials(host.now, None))
        assert host.now == host.session.deadline

    def test_they_hurry_nothing_else(self) -> None:
        """An ordinary failure waits its time, an open connection is left alone."""
        host = Host().start()
        delays(host, AttemptFailure.REFUSED, 4)
        host.fail()
        deadline = host.session.deadline
        host.take(host.session.credentials(host.now, None))
        assert deadline == host.session.deadline
        host = established()
        host.take(host.session.credentials(host.now, None))
        assert (State.OPEN, 1) == (host.session.state, host.dials())

    def test_a_change_during_the_dial_is_not_lost(self) -> None:
        """The dial may carry the old ones: when it is refused, the new ones are tried at once, and once."""
        host = Host().start()
        host.take(host.session.credentials(host.now, None))  # read for the first time
        host.take(host.session.credentials(host.now, None))  # changed while the dial is under way
        host.fail(AttemptFailure.UNAUTHORIZED)
        assert host.now == host.session.deadline
        host.tick().fail(AttemptFailure.UNAUTHORIZED)
        assert 60.0 == host.session.deadline - host.now

    def test_reading_them_for_the_first_time_is_no_change(self) -> None:
        """A refused first dial is not repeated at once."""
        host = Host().start()
        host.take(host.session.credentials(host.now, None))
        host.fail(AttemptFailure.UNAUTHORIZED)
        assert 60.0 == host.session.deadline - host.now


class TestBreaker:
    def test_thirty_failures_open_it_and_it_is_retried_each_minute_for_ever(self) -> None:
        """Two hours of refusals: failed, but never given up; the first success is all it takes."""
        host = Host().start()
        waits = delays(host, AttemptFailure.REFUSED, 29)
        assert (State.RECONNECTING, 30.0) == (host.session.state, waits[-1])
        assert [60.0] * 120 == delays(host, AttemptFailure.REFUSED, 120)
        assert (State.FAILED, {Reason.FAILED}) == (host.session.state, set(host.held()))
        host.open().tick()
        assert (State.OPEN, {}) == (host.session.state, host.held())

    def test_a_server_that_accepts_and_closes_opens_it_too(self) -> None:
        """The failure count is cleared by stability, not by an open: flapping slows down and is failed in the end."""
        host = Host().start()
        waits = []
        for _ in range(32):
            host.open().drop(Disconnect.PEER_CLOSED, 1000)
            waits.append(host.session.deadline - host.now)
            host.pass_time(waits[-1])
        assert ([0.25, 0.5, 1.0], [60.0] * 3) == (waits[:3], waits[29:])
        assert (State.FAILED, 32) == (host.session.state, host.session.snapshot().consecutive_failures)
        assert 31 == host.session.snapshot().reconnects

    def test_the_count_returns_to_zero_only_after_thirty_seconds_of_open(self) -> None:
        """One connection of 29.9 s changes nothing, one of 30 s everything."""
        host = Host().start()
        delays(host, AttemptFailure.REFUSED, 5)
        host.open().tick().pass_time(29.9)
        assert 5 == host.session.snapshot().consecutive_failures
        host.drop()
        assert 6 == host.session.snapshot().consecutive_failures
        host.pass_time(host.session.deadline - host.now).open().tick().settle().pass_time(30.0)
        assert 0 == host.session.snapshot().consecutive_failures

    def test_resyncing_is_not_open(self) -> None:
        """The thirty seconds begin when the resync has settled."""
        host = established("1..5").drop().pass_time(10.0)
        host.fail().pass_time(1.0).open()
        assert (State.RESYNCING, 1) == (host.session.state, host.session.snapshot().consecutive_failures)
        host.pass_time(9.0).say("5 A(4,5,1,no)").pass_time(25.0)
        assert (State.OPEN, 1) == (host.session.state, host.session.snapshot().consecutive_failures)
        host.pass_time(5.0)
        assert 0 == host.session.snapshot().consecutive_failures


class TestSpread:
    @pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 0.125), (0.5, 2.75), (1.0, 5.375)])
    def test_the_first_reconnect_after_an_outage_is_spread(self, chance: float, wait_s: float) -> None:
        """0 to 5 s on top of the shortest delay, once: a hundred sidecars do not come back in the same second."""
        host = established()
        host.dice.chance = chance
        host.drop()
        assert wait_s == host.session.deadline - host.now
        host.pass_time(wait_s).fail()
        assert 0.25 * (0.5 + chance) == host.session.deadline - host.now

    def test_a_connection_that_was_not_stable_is_not_an_outage(self) -> None:
        """Its end is one more failure of the same trouble."""
        host = established(stable=False).drop()
        assert 0.25 == host.session.deadline - host.now


class TestPoison:
    """A frame that is refused for its size twice at the same cursor is counted and stepped over."""

    def oversized(self, host: Host) -> Host:
        """The socket ends because a frame was too large; the next one is dialled and opens."""
        host.drop(Disconnect.PROTOCOL_ERROR, 1009, "frame of 20 MB", oversized=True)
        return host.pass_time(host.session.deadline - host.now).open()

    def test_once_is_asked_again_twice_is_stepped_over(self) -> None:
        """Missed and lost, once; the next request has no overlap and begins behind it."""
        host = self.oversized(established("1..5"))
        assert ("4", 5) == (host.resyncs()[-1], host.session.ledger.cursor)
        host.say("5")
        host = self.oversized(host)
        assert ("6", 6, (1, 0, 1, 0, 0)) == (host.resyncs()[-1], host.session.ledger.cursor, host.numbers())
        host.say("7 A(6,7,1,no)")
        assert (State.OPEN, 7, (2, 1, 1, 0, 0)) == (host.session.state, host.session.ledger.cursor, host.numbers())
        assert 2 == host.session.snapshot().anomalies[Anomaly.OVERSIZED]
        assert Reason.EVENTS_LOST in host.held()
        assert {"lost": 1, "unaccounted": 0}.items() <= host.notices(Notice.LOST)[0].fields.items()

    def test_two_at_different_places_are_two_first_ones(self) -> None:
        """Progress in between means that it was another frame: nothing is given up."""
        host = self.oversized(established("1..5")).say("5 6")
        host = self.oversized(host)
        assert ("5", (1, 1, 0, 0, 0)) == (host.resyncs()[-1], host.numbers())
        assert 6 == host.session.ledger.cursor

    def test_other_ends_at_the_same_place_do_not_count(self) -> None:
        """Only the size refuses a frame for ever."""
        host = self.oversized(established("1..5")).drop()
        host.pass_time(host.session.deadline - host.now).open()
        assert (5, (0, 0, 0, 0, 0)) == (host.session.ledger.cursor, host.numbers())

    def test_without_any_number_there_is_nothing_to_step_over(self) -> None:
        """Counted, and that is all."""
        host = established("", stable=False)
        for _ in range(3):
            host = self.oversized(host)
        assert (None, (0, 0, 0, 0, 0), State.OPEN) == (host.session.ledger.cursor, host.numbers(), host.session.state)

    def test_a_number_that_a_row_may_explain_is_unaccounted(self) -> None:
        """And told as such."""
        host = self.oversized(established("1..5").say("D6"))
        host = self.oversized(host.say("5"))
        assert (1, 0, 0, 1, 0) == host.numbers()
        assert {"lost": 0, "unaccounted": 1}.items() <= host.notices(Notice.LOST)[0].fields.items()


def test_every_disconnect_is_counted_once_under_its_reason_and_code() -> None:
    """The shell's word is the label."""
    for reason in Disconnect:
        host = established().drop(reason, 1012)
        picture = host.session.snapshot()
        assert ({reason: 1}, 1) == ({key: n for key, n in picture.disconnects.items() if n}, picture.close_codes["1012"])
        assert (State.RECONNECTING, None) == (picture.timeline.state, picture.established)


def test_a_two_hour_outage_keeps_its_distance() -> None:
    """Hanging handshakes: at most one attempt under way, never a pause of more than a minute, never a rush."""
    host = established()
    host.drop()
    before = host.attempt
    host.pass_time(7200.0)
    tried = host.attempt - before
    assert 7200 / 75 <= tried <= 7200 / 40 + 10
    assert math.inf > host.session.deadline > host.now

"""Pings, answers, and both half-open verdicts."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.heartbeat import Heartbeat
from syncwatch.core.snapshot import Moment
from syncwatch.core.states import Direction

WALL_S = 1_780_000_000.0


def beating(now: float = 0.0) -> Heartbeat:
    """The defaults, on a connection that is ready at `now`."""
    heartbeat = Heartbeat(15.0, 10.0)
    heartbeat.opened(now)
    return heartbeat


def ping(heartbeat: Heartbeat, now: float) -> int:
    """A ping that must be due."""
    token = heartbeat.due(now, WALL_S + now)
    assert token is not None
    return token


def test_pings_at_once_and_then_each_interval() -> None:
    """A round trip is known from the beginning."""
    heartbeat = beating(3.0)
    assert 3.0 == heartbeat.deadline
    assert (1, None) == (ping(heartbeat, 3.0), heartbeat.due(17.9, 0.0))
    assert heartbeat.answered(3.2, WALL_S, None)
    assert 18.0 == heartbeat.deadline
    assert 2 == ping(heartbeat, 18.0)


def test_no_connection_no_ping() -> None:
    """Before the first connection and between two there is nothing to wait for."""
    heartbeat = Heartbeat(15.0, 10.0)
    assert (math.inf, None) == (heartbeat.deadline, heartbeat.due(1e9, 0.0))
    heartbeat.opened(1.0)
    ping(heartbeat, 1.0)
    heartbeat.closed()
    assert (math.inf, None, None) == (heartbeat.deadline, heartbeat.due(1e9, 0.0), heartbeat.verdict(1e9, None))


def test_the_answer_gives_the_round_trip_and_its_moment() -> None:
    """Ping to its own answer, on the monotonic clock; the timestamps are wall time."""
    heartbeat = beating()
    ping(heartbeat, 0.0)
    assert heartbeat.answered(0.04, WALL_S + 0.04, None)
    picture = heartbeat.snapshot()
    assert (1, 1, 0, 0) == (picture.sent, picture.acknowledged, picture.missed, picture.outstanding)
    assert (0.04, Moment(0.0, WALL_S), Moment(0.04, WALL_S + 0.04)) == (picture.last_rtt_s, picture.last_sent, picture.last_ack)
    assert 0.04 == picture.rtt.sum


def test_pongs_without_a_token_answer_in_order() -> None:
    """Where the protocol cannot tell which, the oldest ping is the one that was answered."""
    heartbeat = Heartbeat(2.0, 10.0)
    heartbeat.opened(0.0)
    for now in (0.0, 2.0, 4.0):
        ping(heartbeat, now)
    assert heartbeat.answered(5.0, WALL_S, None)
    assert 5.0 == heartbeat.last_rtt_s
    assert heartbeat.answered(5.0, WALL_S, None)
    assert 3.0 == heartbeat.last_rtt_s


def test_only_its_own_answer_clears_a_ping() -> None:
    """With tokens, the answer to a younger ping leaves the older one to die 10 s after it was sent."""
    heartbeat = Heartbeat(4.0, 10.0)
    heartbeat.opened(0.0)
    first, second = ping(heartbeat, 0.0), ping(heartbeat, 4.0)
    assert heartbeat.answered(4.1, WALL_S, second)
    assert None is heartbeat.verdict(9.9, 9.8)
    assert Direction.SEND is heartbeat.verdict(10.0, 9.8)
    assert not heartbeat.answered(11.0, WALL_S, first)
    assert (1, 1, 1) == (heartbeat.acknowledged, heartbeat.missed, heartbeat.late)


def test_an_answer_nobody_asked_for_changes_nothing() -> None:
    """No ping outstanding, or a token that was never sent."""
    heartbeat = beating()
    assert not heartbeat.answered(0.5, WALL_S, None)
    ping(heartbeat, 0.5)
    assert not heartbeat.answered(0.6, WALL_S, 99)
    assert (0, 1, None) == (heartbeat.acknowledged, heartbeat.snapshot().outstanding, heartbeat.last_rtt_s)


def test_nothing_arrived_since_the_ping_means_the_receive_side_is_dead() -> None:
    """Dead 10 s after it was sent, no earlier."""
    heartbeat = beating()
    ping(heartbeat, 0.0)
    assert 10.0 == heartbeat.deadline
    assert None is heartbeat.verdict(9.999, None)
    assert Direction.RECEIVE is heartbeat.verdict(10.0, 0.0)
    assert 1 == heartbeat.missed


def test_frames_that_arrived_since_prove_the_receive_side_only() -> None:
    """Then it is the way to the server that is cut."""
    heartbeat = beating()
    ping(heartbeat, 0.0)
    assert Direction.SEND is heartbeat.verdict(10.0, 0.1)
    assert 1 == heartbeat.missed


def test_what_was_not_answered_when_the_connection_ended_was_missed() -> None:
    """Nobody will answer it; the next connection's answers are its own."""
    heartbeat = Heartbeat(1.0, 10.0)
    heartbeat.opened(0.0)
    old = [ping(heartbeat, float(now)) for now in range(3)]
    heartbeat.closed()
    assert (3, 0) == (heartbeat.missed, heartbeat.snapshot().outstanding)
    heartbeat.opened(5.0)
    ping(heartbeat, 5.0)
    assert not heartbeat.answered(5.1, WALL_S, old[0])
    assert heartbeat.answered(5.2, WALL_S, None)
    assert (4, 1, 3) == (heartbeat.sent, heartbeat.acknowledged, heartbeat.missed)


@given(st.lists(st.tuples(st.sampled_from(["time", "pong", "token", "close", "open", "frame"]), st.integers(0, 20)), max_size=60))
def test_sent_is_always_acknowledged_missed_or_outstanding(script: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order; and no ping outlives its timeout by a tick."""
    heartbeat, now, last_frame_s = Heartbeat(3.0, 5.0), 0.0, None
    for name, value in script:
        if name == "time":
            now += value
            while heartbeat.verdict(now, last_frame_s) is not None:
                pass
            heartbeat.due(now, WALL_S)
            assert heartbeat.deadline > now
        elif name == "open":
            heartbeat.closed()  # a connection ends before the next one begins
            heartbeat.opened(now)
        elif name == "close":
            heartbeat.closed()
        elif name == "frame":
            last_frame_s = now
        else:
            heartbeat.answered(now, WALL_S, None if name == "pong" else value)
        picture = heartbeat.snapshot()
        assert picture.sent == picture.acknowledged + picture.missed + picture.outstanding
        assert picture.acknowledged == picture.rtt.cumulative[-1]
        assert picture.late <= picture.missed


def test_a_late_answer_is_no_proof_but_a_reason_to_ask_again() -> None:
    """It stays missed; the next ping goes at once, and only the answer to that, in time, clears anything."""
    heartbeat = beating()
    first = ping(heartbeat, 0.0)
    assert (False, 0) == (heartbeat.echoed, heartbeat.late)
    assert Direction.RECEIVE is heartbeat.verdict(10.0, None)
    assert (15.0, 10.0) == (heartbeat.deadline, heartbeat.silent_s(10.0))
    assert not heartbeat.answered(11.0, WALL_S, first)
    assert (11.0, 1, 1, True, 1.0) == (heartbeat.deadline, heartbeat.missed, heartbeat.late, heartbeat.echoed, heartbeat.silent_s(12.0))
    second = ping(heartbeat, 11.0)
    assert heartbeat.answered(11.1, WALL_S, second)
    assert (26.0, 1, 1) == (heartbeat.deadline, heartbeat.acknowledged, heartbeat.missed)


def test_one_that_is_always_late_is_not_asked_ever_faster() -> None:
    """Out of turn once, until an answer is in time again: else each late one would bring a ping, and that the next late one."""
    heartbeat, now, due = beating(), 0.0, [(11.0, ping(beating(), 0.0))]
    ping(heartbeat, 0.0)
    while now < 600.0:
        now = min(heartbeat.deadline, due[0][0] if due else math.inf)
        while heartbeat.verdict(now, None) is not None:
            pass
        if due and due[0][0] <= now:
            assert not heartbeat.answered(now, WALL_S, due.pop(0)[1])
        token = heartbeat.due(now, WALL_S)
        due += [] if token is None else [(now + 11.0, token)]
    assert (2 + (600 - 11) // 15, 0) == (heartbeat.sent, heartbeat.acknowledged)
    for began in (700.0, 800.0):  # a new connection, and on it an answer in time: either way it may be asked again
        if began == 700.0:
            heartbeat.closed()
            heartbeat.opened(began)
        token = ping(heartbeat, began)
        assert heartbeat.verdict(began + 10.0, None)
        assert not heartbeat.answered(began + 11.0, WALL_S, token)
        assert began + 11.0 == heartbeat.deadline
        assert heartbeat.answered(began + 11.1, WALL_S, ping(heartbeat, began + 11.0))

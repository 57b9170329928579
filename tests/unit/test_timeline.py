"""Time per state, entered-at, transition counts; and the law of the table."""

from __future__ import annotations

import itertools

import pytest

from syncwatch.core.snapshot import Moment, Transition
from syncwatch.core.states import EDGES, TRANSITIONS, State
from syncwatch.core.timeline import RECENT, Timeline

WALL_S = 1_780_000_000.0


def path_to(target: State) -> list[State]:
    """A shortest walk over the table from idle to `target`."""
    walks = [[State.IDLE]]
    while True:
        walk = walks.pop(0)
        if walk[-1] is target:
            return walk[1:]
        walks += [[*walk, onward] for onward in TRANSITIONS[walk[-1]] if onward not in walk]


def standing(state: State) -> Timeline:
    """A timeline that has come to `state` by allowed moves, one second each."""
    timeline = Timeline()
    timeline.begin(0.0, WALL_S)
    for step, onward in enumerate(path_to(state), start=1):
        timeline.move(float(step), WALL_S + step, onward, "on the way")
    return timeline


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
def test_every_pair_moves_as_the_table_says_or_raises_and_changes_nothing(before: State, after: State) -> None:
    """The whole product state x state."""
    timeline = standing(before)
    picture = timeline.snapshot()
    if (before, after) in EDGES:
        timeline.move(100.0, WALL_S + 100.0, after, "why")
        moved = timeline.snapshot()
        assert (after, 100.0) == (moved.state, moved.entered_now_s)
        assert picture.transitions.get((before, after), 0) + 1 == moved.transitions[before, after]
        assert sum(picture.transitions.values()) + 1 == sum(moved.transitions.values())
        assert Transition(Moment(100.0, WALL_S + 100.0), before, after, "why") == moved.recent[-1]
    else:
        with pytest.raises(ValueError, match=f"no transition from {before} to {after}"):
            timeline.move(100.0, WALL_S + 100.0, after, "why")
        assert picture == timeline.snapshot()


def test_time_is_spent_in_one_state_at_a_time() -> None:
    """Seconds per state add up to all the time since the beginning, the running stay included."""
    timeline = Timeline()
    timeline.begin(10.0, WALL_S)
    for now, state in ((12.0, State.CONNECTING), (15.0, State.OPEN), (20.0, State.RECONNECTING), (21.0, State.RESYNCING)):
        timeline.move(now, WALL_S + now, state, "")
    picture = timeline.snapshot()
    assert {State.IDLE: 2.0, State.CONNECTING: 3.0, State.OPEN: 5.0, State.RECONNECTING: 1.0} == picture.seconds
    assert 4.0 == picture.seconds_in(State.RESYNCING, 25.0)
    assert 5.0 == picture.seconds_in(State.OPEN, 25.0)
    assert 0.0 == picture.seconds_in(State.FAILED, 25.0)
    assert 15.0 == sum(picture.seconds_in(state, 25.0) for state in State)


def test_a_second_stay_adds_to_the_first() -> None:
    """Time in a state is all of its stays."""
    timeline = Timeline()
    timeline.begin(0.0, WALL_S)
    moves = ((0.0, State.CONNECTING), (1.0, State.OPEN), (4.0, State.RECONNECTING), (5.0, State.OPEN), (7.0, State.CLOSED))
    for now, state in moves:
        timeline.move(now, WALL_S, state, "")
    assert 5.0 == timeline.snapshot().seconds[State.OPEN]


def test_entered_at_is_wall_time_stamped_then() -> None:
    """The last entry of each state; a state never entered has none."""
    timeline = Timeline()
    timeline.begin(0.0, WALL_S)
    timeline.move(1.0, WALL_S + 1, State.CONNECTING, "")
    timeline.move(2.0, WALL_S + 2, State.OPEN, "")
    timeline.move(3.0, WALL_S - 3600, State.RECONNECTING, "the clock was set back")
    timeline.move(4.0, WALL_S - 3599, State.OPEN, "")
    assert {
        State.IDLE: WALL_S,
        State.CONNECTING: WALL_S + 1,
        State.RECONNECTING: WALL_S - 3600,
        State.OPEN: WALL_S - 3599,
    } == timeline.snapshot().entered_wall_s
    assert 1.0 == timeline.snapshot().seconds[State.RECONNECTING]  # the wall clock's step is no duration


def test_before_the_first_wall_time_nothing_is_stamped() -> None:
    """A machine that was never told the time has spent none."""
    timeline = Timeline()
    assert {} == timeline.snapshot().entered_wall_s
    timeline.move(5.0, 5.0, State.CLOSED, "stop")
    assert {} == timeline.snapshot().seconds


def test_the_last_transitions_are_kept_with_their_reasons_and_bounded() -> None:
    """What happened stays visible, newest last, and does not grow."""
    timeline = standing(State.OPEN)
    for step in range(200):
        state = State.RECONNECTING if step % 2 == 0 else State.OPEN
        timeline.move(float(step), WALL_S, state, f"step {step}")
    recent = timeline.snapshot().recent
    assert RECENT == len(recent)
    assert [f"step {step}" for step in range(200 - RECENT, 200)] == [item.reason for item in recent]
    assert 100 == timeline.snapshot().transitions[State.RECONNECTING, State.OPEN]


def test_a_snapshot_does_not_change() -> None:
    """It is a copy: what happens later does not show in it."""
    timeline = standing(State.OPEN)
    picture = timeline.snapshot()
    before = (dict(picture.seconds), dict(picture.transitions), dict(picture.entered_wall_s), picture.recent)
    timeline.move(50.0, WALL_S, State.RECONNECTING, "")
    assert before == (picture.seconds, picture.transitions, picture.entered_wall_s, picture.recent)

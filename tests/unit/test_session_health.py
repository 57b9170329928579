"""What a session says of itself: conditions and since when, both clocks, and what it can ever report."""

from __future__ import annotations

import pytest

from syncwatch.core.canary import Canary
from syncwatch.core.health import INCIDENTS, Component, Reason
from syncwatch.core.session import SessionSettings
from syncwatch.core.states import AttemptFailure, State
from tests.unit.sessions import WALL_S, Host, established, reconnected
from tests.unit.test_canary import Codec


class TestConditions:
    def test_idle_and_closed_have_none(self) -> None:
        """Not started is not degraded, stopped on purpose neither."""
        host = Host()
        assert {} == host.held()
        host.start().fail()
        host.take(host.session.stop(host.now))
        assert {} == host.held()

    def test_connecting_since_the_start(self) -> None:
        """Until the first attempt has failed; from then on it is reconnecting."""
        host = Host().start()
        host.now += 3.0
        assert {Reason.CONNECTING: 100.0} == host.held()
        host.fail()
        assert {Reason.RECONNECTING: 103.0} == host.held()

    def test_reconnecting_since_the_loss_through_every_attempt(self) -> None:
        """Waiting, dialling and failing again are one outage."""
        host = established().drop()
        lost = host.now
        for _ in range(5):
            host.pass_time(host.session.deadline - host.now).fail(AttemptFailure.REFUSED)
        assert {Reason.RECONNECTING: lost} == host.held()

    def test_resyncing_alone_is_no_reason(self) -> None:
        """A resumption under way is what a healthy connection does after a drop."""
        assert {} == reconnected("1..5").held()

    def test_gap_open_since_the_first_missing_number(self) -> None:
        """Further holes do not renew it; it ends with the last of them."""
        host = established("1..5").say("7").pass_time(2.0, answering=False)
        since = host.now
        host.say("11 A(4,3,0,yes)").pass_time(1.0)
        host.say("9")
        assert since == host.held()[Reason.GAP_OPEN]

    def test_events_that_do_not_come_are_stale_when_configured(self) -> None:
        """Since the moment the patience was over; the first event ends it. Idle is fine otherwise."""
        host = established("1..5", SessionSettings(stale_after_s=120.0), stable=False)
        began = host.now
        host.pass_time(119.9)
        assert {} == host.held()
        host.pass_time(0.1)
        assert {Reason.STALE: began + 120.0} == host.held()
        host.pass_time(600.0)
        assert {Reason.STALE: began + 120.0} == host.held()
        host.say("6")
        assert {} == host.held()
        assert {} == established("1..5").pass_time(7200.0).held()

    def test_a_stream_that_never_had_an_event_is_stale_too(self) -> None:
        """Counted from the start."""
        host = Host(SessionSettings(stale_after_s=120.0)).start().open().tick().pass_time(120.0)
        assert {Reason.STALE: 220.0} == host.held()

    def test_incidents_are_held_for_ten_minutes_after_the_last_one(self) -> None:
        """Since the first of an unbroken series; after the hold a new one begins anew."""
        host = established("1..5")
        first = host.now

        def lose() -> None:
            host.drop().pass_time(host.session.deadline - host.now).open().tick()
            cursor = host.session.ledger.cursor or 0
            host.say(f"{cursor + 2} A({cursor - 1},{cursor + 2},1,gap)").pass_time(2.0)

        lose()
        since = host.held()[Reason.EVENTS_LOST]
        host.pass_time(500.0)
        lose()
        assert since == host.held()[Reason.EVENTS_LOST] >= first
        host.pass_time(500.0)
        assert since == host.held()[Reason.EVENTS_LOST]
        host.pass_time(100.0)
        assert Reason.EVENTS_LOST not in host.held()
        lose()
        assert host.held()[Reason.EVENTS_LOST] >= host.now - 10.0

    def test_possible_reasons_are_all_that_is_ever_held(self) -> None:
        """What cannot be configured cannot be reported: stale and canary_lost only when they can happen."""
        plain = set(Host().session.possible_reasons)
        assert {Reason.STALE, Reason.CANARY_LOST, Reason.POLLING, Reason.WATCHER_DEAD}.isdisjoint(plain)
        full = set(Host(SessionSettings(stale_after_s=1.0), canary=Canary(Codec(), 60.0, 20.0)).session.possible_reasons)
        assert plain | {Reason.STALE, Reason.CANARY_LOST} == full
        assert INCIDENTS <= full

    def test_a_session_is_a_watched_connection(self) -> None:
        """Its component, whether its time counts, whether its first sync is done."""
        host = Host()
        seen = [(host.session.active, host.session.settled_once)]
        host.start()
        seen.append((host.session.active, host.session.settled_once))
        host.open()
        seen.append((host.session.active, host.session.settled_once))
        host.take(host.session.stop(host.now))
        seen.append((host.session.active, host.session.settled_once))
        assert [(False, False), (True, False), (True, True), (False, True)] == seen
        assert (Component.CONNECTION, "cast") == (host.session.component, host.session.name)


class TestClocks:
    @pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
    def test_a_step_of_the_wall_clock_moves_no_deadline_and_no_age(self, step_s: float) -> None:
        """Ages are monotonic: nothing is late, nothing is stale, nothing is half-open."""
        host = established("1..5", SessionSettings(stale_after_s=300.0)).say("6")
        picture, deadline = host.session.snapshot(), host.session.deadline
        assert picture.last_event is not None
        host.take(host.session.wall(host.now, WALL_S + step_s))
        host.offset_s = WALL_S + step_s
        assert (deadline, {}) == (host.session.deadline, host.held())
        host.pass_time(60.0)
        after = host.session.snapshot()
        assert after.last_event is not None
        assert (State.OPEN, 60.0, {}) == (host.session.state, host.now - after.last_event.now_s, host.held())
        assert 60.0 == round(
            after.timeline.seconds_in(State.OPEN, host.now) - picture.timeline.seconds_in(State.OPEN, host.now - 60.0), 6
        )

    def test_timestamps_are_wall_time_when_it_happened(self) -> None:
        """Stamped once: a later step does not change them, what follows has the new clock."""
        host = established("1..5").say("6")
        before = host.session.snapshot().last_event
        host.take(host.session.wall(host.now, WALL_S - 3600.0))
        assert before == host.session.snapshot().last_event
        host.say("7").drop()
        picture = host.session.snapshot()
        assert before is not None
        assert picture.last_event is not None
        assert before.wall_s - 3600.0 == picture.last_event.wall_s
        assert host.now + WALL_S - 3600.0 == picture.timeline.entered_wall_s[State.RECONNECTING]
        assert host.now + WALL_S - 3600.0 == host.effects[-1].at_s  # type: ignore[union-attr]  # a Notify

    def test_since_never_comes_from_our_clock(self) -> None:
        """Ten minutes ahead or behind: the database is asked from the server's own time."""
        for offset_s in (WALL_S, WALL_S + 600.0, 0.0):
            host = Host(offset_s=offset_s).start().open().tick().say("1..5").drop()
            host.pass_time(10.0).open()
            assert "resync 4 1003.0" == host.sends()[-1]

    def test_without_any_server_time_nothing_is_invented(self) -> None:
        """Events without time and no HTTP date: no `since`; with a date, that is where it begins."""
        host = Host().start().open().tick().say("r1 r2").drop()
        host.pass_time(10.0).open()
        assert "resync 1 None" == host.sends()[-1]


class TestAccounts:
    def test_seconds_in_all_states_are_all_the_time_there_was(self) -> None:
        """From the first wall time on, whatever happened."""
        host = established("1..5").drop().pass_time(30.0)
        timeline = host.session.snapshot().timeline
        assert host.now - 100.0 == round(sum(timeline.seconds_in(state, host.now) for state in State), 6)

    def test_established_is_told_while_there_is_a_socket(self) -> None:
        """When the present one was opened; absent while there is none."""
        host = Host().start()
        assert None is host.session.snapshot().established
        host.now += 0.5
        host.open().tick()
        moment = host.session.snapshot().established
        assert moment is not None
        assert (100.5, WALL_S + 100.5) == (moment.now_s, moment.wall_s)
        host.drop()
        assert None is host.session.snapshot().established

    def test_attempts_are_handshakes_started_and_reconnects_opens_after_the_first(self) -> None:
        """Failures in between are attempts, no reconnects."""
        host = established().drop()
        for _ in range(3):
            host.pass_time(host.session.deadline - host.now).fail()
        host.pass_time(host.session.deadline - host.now).open()
        picture = host.session.snapshot()
        assert (5, 1, 3) == (picture.attempts, picture.reconnects, sum(picture.attempt_failures.values()))

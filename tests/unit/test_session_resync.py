"""A session asks and settles: resuming, holes, early and missing acknowledgements, pages, resets."""

from __future__ import annotations

import pytest

from syncwatch.core.effects import Notice
from syncwatch.core.health import Reason
from syncwatch.core.states import Anomaly, Claim, Disconnect, GapCause, Origin, State, Verdict
from syncwatch.core.window import MAX_FRAMES, Window
from syncwatch.core.wire import Event
from tests.unit.sessions import Host, ScriptedProtocol, established, message, reconnected


def verdicts(host: Host) -> dict[tuple[Claim, Verdict], int]:
    """Finished chains since the session was established (its own first tip check left out)."""
    found = dict(host.session.ledger.resyncs)
    found[Claim.COMPLETE, Verdict.VERIFIED] = found.get((Claim.COMPLETE, Verdict.VERIFIED), 0) - 1
    return {key: count for key, count in found.items() if count}


def gaps(host: Host) -> list[tuple[object, ...]]:
    """What was told of gaps: cause, first, last, missing."""
    return [tuple(told.fields[key] for key in ("cause", "first", "last", "missing")) for told in host.notices(Notice.GAP)]


class TestResuming:
    def test_a_reconnect_asks_with_an_overlap_and_server_time(self) -> None:
        """cursor - 1; `since` is the time of the last contiguous event, its second minus 2 s."""
        host = established("1..5").say("7").drop()
        host.pass_time(10.0).open()
        assert "resync 4 1003.0" == [text for text in host.sends() if text.startswith("resync")][-1]
        assert (State.RESYNCING, 1) == (host.session.state, host.session.snapshot().reconnects)

    def test_it_is_open_when_settled(self) -> None:
        """Case 1 through a session: missed, recovered, verified, told."""
        host = reconnected("1..5").say("P11 5 6 7 8 9 10 P11 A(4,11,7,no)")
        assert (State.OPEN, (5, 5, 0, 0, 0), 11) == (host.session.state, host.numbers(), host.session.ledger.cursor)
        assert {(Claim.COMPLETE, Verdict.VERIFIED): 1} == verdicts(host)
        told = host.notices(Notice.RESYNCED)[-1].fields
        assert (7, False, "complete", "verified", 5, 0, 0, 11) == tuple(
            told[key] for key in ("replayed", "gap_detected", "claim", "verdict", "recovered", "lost", "unaccounted", "cursor")
        )

    def test_what_was_missed_is_told_once_as_a_gap(self) -> None:
        """By the round that found it, between the overlap and the server's number; nothing where nothing was missed."""
        host = reconnected("1..5").say("P11 5 6 7 8 9 10 P11 A(4,11,7,no)")
        assert [("reconnect", 6, 11, 5)] == gaps(host)
        assert [] == gaps(reconnected("1..5").say("5 A(4,5,1,no)"))

    def test_what_was_confirmed_at_the_close_is_told_by_the_next_round(self) -> None:
        """Whatever became of it; and a hole that was told on the open connection is not told again."""
        host = established("1..8").say("10").drop()
        assert ([], 1) == (gaps(host), host.session.ledger.missed)
        host.pass_time(10.0).open().say("8 9 10 A(7,10,3,no)")
        assert [("reconnect", 9, 10, 1)] == gaps(host)
        live = established("1..8").say("10").pass_time(2.0, answering=False).say("8 9 10 A(7,10,3,no)")
        assert ([("live", 9, 9, 1)], 1) == (gaps(live), live.session.ledger.missed)

    def test_first_copies_are_undecided_until_then(self) -> None:
        """No origin before the round's end, then each in one; first copies add up all the time."""
        host = reconnected("1..5").say("P7 5 6 P7 D6 D2")
        picture = host.session.snapshot().continuity
        assert picture is not None
        assert (2, 5, 0) == (picture.undecided, picture.events_received[Origin.LIVE], picture.events_received[Origin.RING])
        host.say("A(4,7,5,no)")
        picture = host.session.snapshot().continuity
        assert picture is not None
        assert (0, 6, 1, 0) == (picture.undecided, *(picture.events_received[o] for o in (Origin.LIVE, Origin.RING, Origin.STORE)))

    def test_the_state_file_is_honest_in_the_middle(self) -> None:
        """Undecided events are events of the lifetime already."""
        host = reconnected("1..5").say("5 6 7")
        point = host.session.resume_point(host.now)
        assert point is not None
        assert (7, 7) == (point.totals.events, point.cursor)

    def test_losses_are_told_and_held(self) -> None:
        """A number that never came: lost, an incident for ten minutes, the moment of the last loss."""
        host = reconnected("1..5").say("5 9 10 A(4,10,3,gap)")
        picture = host.session.snapshot().continuity
        assert (5, 2, 3, 0, 0) == host.numbers()
        assert picture is not None
        assert picture.last_loss is not None
        assert host.now == picture.last_loss.now_s
        assert {"lost": 3, "unaccounted": 0}.items() <= host.notices(Notice.LOST)[-1].fields.items()
        lost_at = host.now
        assert lost_at == host.held()[Reason.EVENTS_LOST]
        host.pass_time(599.9)
        assert lost_at == host.held()[Reason.EVENTS_LOST]
        host.pass_time(0.1)
        assert Reason.EVENTS_LOST not in host.held()

    def test_a_contradicted_claim_is_an_incident(self) -> None:
        """Complete, it said, and two numbers are missing."""
        host = reconnected("1..5").say("5 6 A(4,8,4,no)").pass_time(2.0)
        assert {(Claim.COMPLETE, Verdict.CONTRADICTED): 1} == verdicts(host)
        assert {Reason.CLAIM_CONTRADICTED, Reason.EVENTS_LOST} <= set(host.held())

    def test_a_gap_claimed_although_the_overlap_came_is_contradicted(self) -> None:
        """Also when our own presence came first and was next in line, as on nearly every reconnect."""
        for script in ("5 6 A(4,6,2,gap)", "P6 5 P6 A(4,6,2,gap)"):
            host = reconnected("1..5").say(script)
            assert {(Claim.GAP, Verdict.CONTRADICTED): 1} == verdicts(host)


class TestHoles:
    def test_a_confirmed_hole_asks_on_the_same_socket(self) -> None:
        """Case 13: 2 s after being overtaken; the request begins at the contiguous cursor."""
        host = established("1..8").say("10")
        assert (State.OPEN, 1) == (host.session.state, host.session.ledger.gaps[GapCause.LIVE])
        host.since()
        host.pass_time(1.99)
        assert ([], (0, 0, 0, 0, 0)) == (host.sends(host.since()), host.numbers())
        host.pass_time(0.01, answering=False)
        assert (["resync 7 1006.0"], (1, 0, 0, 0, 1)) == (host.sends(host.since()), host.numbers())
        assert (State.RESYNCING, {Reason.GAP_OPEN: host.now}) == (host.session.state, host.held())
        assert {"first": 9, "last": 9, "missing": 1}.items() <= host.notices(Notice.GAP)[0].fields.items()
        host.say("8 9 10 A(7,10,3,no)")
        assert (State.OPEN, (1, 1, 0, 0, 0), {}, 10) == (host.session.state, host.numbers(), host.held(), host.session.ledger.cursor)
        assert 1 == host.dials()

    def test_a_hole_that_heals_in_time_is_out_of_order(self) -> None:
        """Nobody asks, nothing was missed."""
        host = established("1..5").say("7").pass_time(1.9).say("6").pass_time(5.0)
        assert (State.OPEN, [], 1) == (host.session.state, host.resyncs()[1:], host.session.ledger.out_of_order)
        assert (0, 0, 0, 0, 0) == host.numbers()

    def test_a_hole_is_confirmed_when_the_connection_closes(self) -> None:
        """Proven epoch: it is missing from that moment on, and the gap stays open through the reconnect."""
        host = established("1..5").say("7").drop()
        assert ((1, 0, 0, 0, 1), host.now) == (host.numbers(), host.held()[Reason.GAP_OPEN])
        since = host.now
        host.pass_time(10.0).open()
        assert since == host.held()[Reason.GAP_OPEN]
        host.say("5 6 7 A(4,7,3,no)")
        assert ((1, 1, 0, 0, 0), {}) == (host.numbers(), host.held())

    def test_an_unproven_connection_confirms_nothing(self) -> None:
        """A number that no acknowledgement and no overlap vouched for may be of another epoch."""
        host = reconnected("1..5").say("P9").drop()
        assert (0, 0, 0, 0, 0) == host.numbers()

    def test_a_number_behind_the_settled_tail_that_never_comes(self) -> None:
        """Cut after the overlap: complete claim, but 6 and 7 are still missing: 2 s more, then asked again, then lost."""
        host = reconnected("1..5").say("5 A(4,7,1,no)")
        assert ((0, 0, 0, 0, 0), 5, State.OPEN) == (host.numbers(), host.session.ledger.cursor, host.session.state)
        assert {(Claim.COMPLETE, Verdict.CONTRADICTED): 1} == verdicts(host)
        host.pass_time(2.0, answering=False)
        assert ((2, 0, 0, 0, 2), State.RESYNCING, "4") == (host.numbers(), host.session.state, host.resyncs()[-1])
        host.say("5 A(4,7,1,no)")
        assert ((2, 0, 2, 0, 0), State.OPEN, 7) == (host.numbers(), host.session.state, host.session.ledger.cursor)


class TestEarlyAcknowledgement:
    def test_settles_when_the_claimed_frames_have_come(self) -> None:
        """Case 4: not at the acknowledgement."""
        host = reconnected("1..5").say("A(4,8,4,no) 5 6 7")
        assert (State.RESYNCING, 1) == (host.session.state, host.session.snapshot().anomalies[Anomaly.ACK_EARLY])
        host.say("8")
        assert (State.OPEN, (3, 3, 0, 0, 0)) == (host.session.state, host.numbers())

    def test_settles_short_two_seconds_after_the_last_frame(self) -> None:
        """Case 4b: two never come."""
        host = reconnected("1..5").say("A(4,8,4,no) 5").pass_time(1.9).say("6").pass_time(1.9)
        assert State.RESYNCING is host.session.state
        host.pass_time(0.1)
        assert (State.OPEN, (3, 1, 2, 0, 0)) == (host.session.state, host.numbers())
        assert 2 == host.session.snapshot().anomalies[Anomaly.REPLAY_SHORT]

    def test_a_second_acknowledgement_is_nobodys(self) -> None:
        """One per request."""
        host = reconnected("1..5").say("A(4,8,4,no) A(4,8,4,no)")
        assert (1, 1) == (host.session.ledger.ack_early, host.session.snapshot().anomalies[Anomaly.ACK_UNSOLICITED])

    def test_a_page_is_asked_for_when_the_frames_complete_it(self) -> None:
        """The next page is due wherever the round settles: here at the last claimed row."""
        host = reconnected("1..5", protocol=ScriptedProtocol(page_limit=3)).say("A(4,40,5,gap) 39 40 D6 D7 D8")
        assert ["4", "4"] == host.resyncs()[-2:]
        assert State.RESYNCING is host.session.state
        host.say("39 40 A(4,40,2,gap)")
        assert (State.OPEN, (35, 2, 30, 3, 0)) == (host.session.state, host.numbers())


class TestUnanswered:
    def test_one_reconnect_then_it_stays_open_and_asks_every_five_minutes(self) -> None:
        """10 s without any event; after two unanswered connections in a row the stream goes on unproven, and says so."""
        host = reconnected("1..5").pass_time(9.99)
        assert State.RESYNCING is host.session.state
        host.pass_time(0.01)
        assert (State.RECONNECTING, 1) == (host.session.state, host.session.snapshot().disconnects[Disconnect.RESYNC_TIMEOUT])
        host.pass_time(host.session.deadline - host.now).open().tick().pass_time(10.0)
        first = host.now
        assert (State.OPEN, 2) == (host.session.state, host.session.snapshot().anomalies[Anomaly.ACK_MISSING])
        assert Reason.RESYNC_UNANSWERED in host.held()
        assert {(Claim.NONE, Verdict.UNVERIFIABLE): 2} == verdicts(host)
        asked, dials = len(host.resyncs()), host.dials()
        for _ in range(3):
            mute(host, 300.0)
        assert (asked + 2, dials, State.OPEN) == (len(host.resyncs()), host.dials(), host.session.state)
        assert first - 10.0 < host.held()[Reason.RESYNC_UNANSWERED] + 10.0 <= first + 10.0

    def test_an_answer_at_last_clears_it(self) -> None:
        """The stream is proven again, and tip checks go on."""
        host = reconnected("1..5").pass_time(10.0)
        host.pass_time(host.session.deadline - host.now).open().tick().pass_time(10.0)
        host.say("6 7")
        host.since()
        host.pass_time(299.0)
        assert [] == [text for text in host.sends(host.since()) if text.startswith("resync")]
        host.pass_time(1.0)
        assert (State.OPEN, {}, 7) == (host.session.state, host.held(), host.session.ledger.cursor)
        host.since()
        host.pass_time(60.0)
        assert 1 == sum(text.startswith("resync") for text in host.sends(host.since()))

    def test_reconnecting_does_not_postpone_the_question(self) -> None:
        """A connection that drops every four minutes is asked all the same."""
        host = reconnected("1..5").pass_time(10.0)
        host.pass_time(host.session.deadline - host.now).open().tick().pass_time(10.0)
        asked = len(host.resyncs())
        for _ in range(3):
            mute(host, 240.0)
            host.drop()
            mute(host, 10.0)
            host.open()
        assert asked + 2 == len(host.resyncs())

    def test_events_prolong_the_wait(self) -> None:
        """Each event gives another 10 s; pongs and garbage do not."""
        host = reconnected("1..5").pass_time(9.0).say("6").pass_time(9.0).say("pong garbage control")
        assert State.RESYNCING is host.session.state
        host.pass_time(1.0)
        assert [State.RESYNCING, State.RECONNECTING] == host.walked()[-2:]

    def test_steady_traffic_does_not_hide_a_missing_answer(self) -> None:
        """Six times 10 s is the end, however many events come."""
        host = reconnected("1..5")
        began, number = host.now, 6
        while host.session.state is State.RESYNCING:
            host.say(str(number)).pass_time(1.0)
            number += 1
        assert 60.0 == round(host.now - began)

    def test_a_confirmed_hole_does_not_ask_in_between(self) -> None:
        """The answer would not come either; the state does not flicker, the hole waits for the next question."""
        host = reconnected("1..5").pass_time(10.0)
        host.pass_time(host.session.deadline - host.now).open().tick().say("5").pass_time(10.0)
        asked, walked = len(host.resyncs()), len(host.walked())
        host.say("6 9")
        mute(host, 10.0)
        assert (asked, walked, (2, 0, 0, 0, 2)) == (len(host.resyncs()), len(host.walked()), (host.numbers()))
        assert {Reason.GAP_OPEN, Reason.RESYNC_UNANSWERED} == set(host.held())
        host.say("7")
        assert (2, 1, 0, 0, 1) == host.numbers()

    def test_a_jump_on_an_unproven_connection_is_no_gap_yet(self) -> None:
        """The numbers may be of another epoch: nothing is counted at sight, nothing is confirmed."""
        host = reconnected("1..5").pass_time(10.0)
        host.pass_time(host.session.deadline - host.now).open().tick().pass_time(10.0)
        host.say("9")
        mute(host, 10.0)
        assert (State.OPEN, 0, (0, 0, 0, 0, 0)) == (host.session.state, host.session.ledger.gaps[GapCause.LIVE], host.numbers())

    def test_a_number_in_line_may_be_a_confirmed_hole(self) -> None:
        """Nothing was seen above it, so it looks like the common case; it is recovered all the same."""
        host = reconnected("1..5").say("5 A(4,7,1,no)").pass_time(2.0, answering=False)
        host.pass_time(10.0)
        host.pass_time(host.session.deadline - host.now).open().tick().say("5").pass_time(10.0)
        assert ((2, 0, 0, 0, 2), State.OPEN) == (host.numbers(), host.session.state)
        host.say("6")
        assert (2, 1, 0, 0, 1) == host.numbers()
        host.say("7 8")
        assert ((2, 2, 0, 0, 0), 8) == (host.numbers(), host.session.ledger.cursor)

    def test_a_flood_ends_the_round_before_it_costs_memory(self) -> None:
        """The window is bounded, and the bound is looked at when it is reached, not at the next ping."""
        host = reconnected("1..5")
        session = host.session
        for number in range(6, MAX_FRAMES + 50):
            session.received(host.now, host.attempt, message(Event(f"m{number}", strong=True, number=number)))
            if session.deadline <= host.now:
                break
        window = session.ledger.window
        assert isinstance(window, Window)
        assert MAX_FRAMES + 1 == len(window.frames)
        host.tick()
        assert (State.RECONNECTING, 0) == (session.state, session.ledger.undecided)


class TestReset:
    def test_a_restart_below_the_cursor_is_asked_for_in_full(self) -> None:
        """`current` below ours: counted, told, held; the full resync waits its spread and settles the new epoch from 1."""
        host = reconnected("1..41").say("A(40,7,0,no)")
        assert (State.RESYNCING, 2, 1) == (host.session.state, host.session.ledger.epoch, host.session.ledger.resets)
        assert {"epoch": 2}.items() <= host.notices(Notice.RESET)[0].fields.items()
        assert {Reason.EPOCH_RESET, Reason.CLAIM_CONTRADICTED} <= set(host.held())
        found, asked = host.now, len(host.resyncs())
        host.pass_time(2.49)
        assert asked == len(host.resyncs())
        host.pass_time(0.01, answering=False)
        assert (asked + 1, "-1", found + 2.5) == (len(host.resyncs()), host.resyncs()[-1], host.now)
        for number in range(1, 8):
            host.hear(message(Event(f"n{number}", strong=True, number=number, time_s=5000.0 + number)))
        host.say("A(-1,7,7,gap)")
        assert (State.OPEN, (7, 7, 0, 0, 0), 7, 2) == (
            host.session.state, host.numbers(), host.session.ledger.cursor, host.session.ledger.epoch,
        )  # fmt: skip
        assert {(Claim.COMPLETE, Verdict.CONTRADICTED): 1, (Claim.GAP, Verdict.UNVERIFIABLE): 1} == verdicts(host)

    @pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 0.0), (1.0, 5.0)])
    def test_full_resyncs_are_spread(self, chance: float, wait_s: float) -> None:
        """0 to 5 s: when a server restarts, everybody finds out at once."""
        host = reconnected("1..41")
        host.dice.chance = chance
        host.say("A(40,7,0,no)")
        assert host.now + wait_s == max(host.session.deadline, host.now + 0.0)

    def test_an_owed_full_resync_survives_a_reconnect(self) -> None:
        """Whatever the cursor became in the meantime, the question is still -1, and still spread."""
        host = reconnected("1..41").say("A(40,7,0,no)").drop()
        host.pass_time(host.session.deadline - host.now).open().tick()
        assert (State.RESYNCING, "40") == (host.session.state, host.resyncs()[-1])
        host.pass_time(2.5, answering=False)
        assert "-1" == host.resyncs()[-1]
        host.drop()
        host.pass_time(host.session.deadline - host.now).open().pass_time(5.0, answering=False)
        assert ["-1", "-1"] == host.resyncs()[-2:]

    def test_a_reset_found_by_a_tip_check_is_spread_too(self) -> None:
        """It is a question to a server that has just restarted, like any other."""
        host = established("1..41")
        host.dice.chance = 1.0
        while not host.resyncs() or host.session.ledger.window is None:
            host.pass_time(host.session.deadline - host.now, answering=False)
            if host.sends()[-1].startswith("ping"):
                host.say("pong")
        host.say("A(40,7,0,no)")
        asked, found = len(host.resyncs()), host.now
        while len(host.resyncs()) == asked:
            host.pass_time(host.session.deadline - host.now, answering=False)
            if host.sends()[-1].startswith("ping"):
                host.say("pong")
        assert ("-1", 5.0) == (host.resyncs()[-1], host.now - found)


class TestSuspicion:
    def test_a_million_number_jump_is_checked_at_once(self) -> None:
        """Only what an acknowledgement confirms is missed; until then it is noise, told and counted once."""
        host = established("1..5").say("2000000 2000001")
        assert (host.now, 1) == (host.session.deadline, host.session.snapshot().anomalies[Anomaly.IMPLAUSIBLE_JUMP])
        host.tick(answering=False)
        assert "4" == host.resyncs()[-1]
        host.say("5 A(4,5,1,no)")
        assert ((0, 0, 0, 0, 0), 5, State.OPEN) == (host.numbers(), host.session.ledger.cursor, host.session.state)
        assert {} == host.held()

    def test_one_that_is_true_is_missed(self) -> None:
        """The acknowledgement vouches for it."""
        host = established("1..5").say("2000000").tick(answering=False).say("1999999 2000000 A(4,2000000,2,gap)")
        assert ((1_999_994, 1, 1_999_993, 0, 0), 2_000_000) == (host.numbers(), host.session.ledger.cursor)


def mute(host: Host, seconds: float) -> None:
    """Time passes; the server answers pings and nothing else."""
    end = host.now + seconds
    while host.session.deadline <= end:
        before = len(host.effects)
        host.pass_time(max(0.0, host.session.deadline - host.now), answering=False)
        for request in host.sends(host.effects[before:]):
            if request.startswith("ping"):
                host.say("pong")
    host.pass_time(end - host.now)

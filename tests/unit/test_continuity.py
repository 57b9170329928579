"""core/continuity.py: every worked accounting case, and the rules they come from."""

from __future__ import annotations

from syncwatch.core.continuity import Continuity
from syncwatch.core.states import Claim, GapCause, Verdict
from syncwatch.core.wire import Event
from tests.unit.ledger_script import Ledger


def test_case_1_in_ring_replay() -> None:
    """Five missed, all in the ring; the overlap and the own presence arrive twice."""
    ledger = Ledger().feed("P1 2 3 4 5 X R(4) P11 5 6 7 8 9 10 P11 A(4,11,7,no)")
    assert (6, 5, 0) == ledger.origins()
    assert (5, 5, 0, 0, 0) == ledger.numbers()
    assert 2 == ledger.continuity.duplicates
    assert 11 == ledger.continuity.cursor
    assert {(Claim.COMPLETE, Verdict.VERIFIED): 1} == ledger.continuity.resyncs
    assert 7 == ledger.continuity.replayed


def test_case_2_reconnect_with_nothing_missed() -> None:
    """The acknowledgement says two replayed and nothing was missed."""
    ledger = Ledger().feed("P1 2 3 X R(2) P4 3 P4 A(2,4,2,no)")
    assert (4, 0, 0) == ledger.origins()
    assert (0, 0, 0, 0, 0) == ledger.numbers()
    assert 2 == ledger.continuity.duplicates
    assert 0 == ledger.continuity.gaps[GapCause.RECONNECT]


def test_case_3_live_before_between_and_after() -> None:
    """A current number above the burst's end is no gap."""
    ledger = Ledger().feed("P1 2 3 X R(2) P6 7 | 3 4 5 P6 7 | 8 9 A(2,9,5,no) 10")
    assert (8, 2, 0) == ledger.origins()
    assert (2, 2, 0, 0, 0) == ledger.numbers()
    assert 3 == ledger.continuity.duplicates
    assert 10 == ledger.continuity.cursor
    assert 1 == ledger.continuity.gaps[GapCause.RECONNECT]


def test_case_4_acknowledgement_before_the_frames() -> None:
    """Settles after the claimed frames, never at the acknowledgement."""
    ledger = Ledger().feed("P1 2 3 X R(2) A(2,6,4,no) 3 4 5")
    assert not ledger.settled
    ledger.feed("6")
    assert (3, 3, 0) == ledger.origins()
    assert (3, 3, 0, 0, 0) == ledger.numbers()
    assert (1, 1, 0) == (ledger.continuity.ack_early, ledger.continuity.duplicates, ledger.continuity.replay_short)


def test_case_4b_acknowledgement_claims_more_than_is_sent() -> None:
    """After the grace two are short, and lost; the claim is contradicted."""
    ledger = Ledger().feed("P1 2 3 X R(2) A(2,6,4,no) 3 4 +2s")
    assert (3, 1, 0) == ledger.origins()
    assert (3, 1, 2, 0, 0) == ledger.numbers()
    assert (2, 6) == (ledger.continuity.replay_short, ledger.continuity.cursor)
    assert {(Claim.COMPLETE, Verdict.CONTRADICTED): 1} == ledger.continuity.resyncs
    ledger.feed("5")
    assert 1 == ledger.continuity.late
    assert (3, 1, 2, 0, 0) == ledger.numbers()


def test_case_5_missing_acknowledgement() -> None:
    """Nothing is declared lost; the cursor moves only because the numbers became contiguous."""
    ledger = Ledger().feed("P1 2 3 X R(2) P6 3 4 5 P6 X")
    assert (4, 2, 0) == ledger.origins()
    assert (2, 2, 0, 0, 0) == ledger.numbers()
    assert (2, 6) == (ledger.continuity.duplicates, ledger.continuity.cursor)
    assert {(Claim.NONE, Verdict.UNVERIFIABLE): 1} == ledger.continuity.resyncs


def test_case_6_ring_overflow_restored_by_the_database() -> None:
    """Rows have no numbers: a hundred holes are unaccounted, not lost."""
    ledger = Ledger().feed("1..100 X R(99) 201..700 D101..D350 A(99,700,750,gap)")
    assert (100, 500, 100) == ledger.origins()
    assert (600, 500, 0, 100, 0) == ledger.numbers()
    assert (150, 700) == (ledger.continuity.duplicates, ledger.continuity.cursor)
    assert {(Claim.GAP, Verdict.UNVERIFIABLE): 1} == ledger.continuity.resyncs


def test_case_8_since_too_late() -> None:
    """The same acknowledgement but for its count, and a hundred lost."""
    ledger = Ledger().feed("1..100 X R(99) 201..700 A(99,700,500,gap)")
    assert (600, 500, 100, 0, 0) == ledger.numbers()
    assert {(Claim.GAP, Verdict.VERIFIED): 1} == ledger.continuity.resyncs


def test_case_9_database_duplicates_without_numbers() -> None:
    """Rows never touch the cursor; a reaction is recognised by its content."""
    ledger = Ledger().feed("P1 2 r3")
    ledger.continuity.needs_full = True
    ledger.feed("R(-1) P1 2 r3 4 D2 Dr D4 A(-1,4,7,gap)")
    assert (3, 1, 0) == ledger.origins()
    assert 6 == ledger.continuity.duplicates
    assert (1, 1, 0, 0, 0) == ledger.numbers()
    assert 4 == ledger.continuity.cursor


def test_case_12_bad_numbers() -> None:
    """Seven bad numbers are events all the same, and counted."""
    ledger = Ledger().feed("P1 2")
    for index in range(7):
        ledger.continuity.event(0.0, Event(f"bad{index}", strong=True, bad_number=True))
    ledger.feed("3 4")
    assert (11, 0, 0) == ledger.origins()
    assert (7, 4) == (ledger.continuity.bad_sequence, ledger.continuity.cursor)


def test_case_13_out_of_order_and_a_hole_on_a_live_connection() -> None:
    """One hole heals by itself, the other by a resync on the same socket from the contiguous cursor."""
    ledger = Ledger().feed("P1 2 3 4 5 7 6 8 10")
    assert (2, 1) == (ledger.continuity.gaps[GapCause.LIVE], ledger.continuity.out_of_order)
    assert (0, 0, 0, 0, 0) == ledger.numbers()
    ledger.feed("+2s")
    assert (1, 0, 0, 0, 1) == ledger.numbers()
    ledger.feed("R(7) 8 9 10 11 A(7,11,4,no)")
    assert (9, 2, 0) == ledger.origins()
    assert (2, 2, 0, 0, 0) == ledger.numbers()
    assert (2, 11) == (ledger.continuity.duplicates, ledger.continuity.cursor)


def test_restart_below_the_cursor() -> None:
    """The new counter is below ours: a new epoch, a full resync, and its numbers accounted from 1."""
    ledger = Ledger().feed("1..41 X R(40)")
    fresh = [Event(f"n{number}", strong=True, number=number, time_s=5000.0 + number) for number in range(1, 9)]
    ledger.continuity.event(0.0, fresh[6])
    assert (1, 2) == (ledger.continuity.resets, ledger.continuity.epoch)
    ledger.feed("A(40,7,0,no)")
    assert ledger.continuity.needs_full
    after, since_s = ledger.continuity.request(0.0)
    assert (-1, 1041.0 - 2.0) == (after, since_s)
    for item in fresh:
        ledger.continuity.event(0.0, item)
    ledger.feed("A(-1,8,8,gap)")
    assert (42, 7, 0) == ledger.origins()
    assert (7, 7, 0, 0, 0) == ledger.numbers()
    assert (8, 1) == (ledger.continuity.cursor, ledger.continuity.resets)


def test_restart_that_overtook_the_cursor() -> None:
    """The overlap is another event: only content tells, and the overlap proves it."""
    ledger = Ledger().feed("1..11 X R(10)")
    fresh = [Event(f"n{number}", strong=True, number=number, time_s=5000.0 + number) for number in range(1, 27)]
    ledger.continuity.event(0.0, fresh[25])
    for item in fresh[10:]:
        ledger.continuity.event(0.0, item)
    ledger.feed("A(10,26,16,no)")
    assert 1 == ledger.continuity.resets
    assert {(Claim.COMPLETE, Verdict.UNVERIFIABLE): 1} == ledger.continuity.resyncs
    ledger.feed("R(-1)")
    for item in fresh:
        ledger.continuity.event(0.0, item)
    ledger.feed("A(-1,26,26,gap)")
    assert (12, 25, 0) == ledger.origins()
    assert (25, 25, 0, 0, 0) == ledger.numbers()
    assert 26 == ledger.continuity.cursor


def fresh(number: int, lane_number: int | None = None, time_s: float | None = None) -> Event:
    """An event of another life of the server."""
    return Event(f"n{number}", True, number, time_s, lane=None if lane_number is None else "general", lane_number=lane_number)


def test_an_event_that_differs_from_the_known_one_is_a_restart_even_when_proven() -> None:
    """The acknowledgement of a counter that outran ours proved too much; the identity is the better witness (rule 5)."""
    ledger = Ledger().feed("1..22 X R(21) A(21,40,0,no)")
    assert ledger.continuity.proven
    ledger.continuity.event(0.0, fresh(12))
    assert (1, True) == (ledger.continuity.resets, ledger.continuity.needs_full)


def test_two_events_under_one_number_of_one_connection_are_no_restart() -> None:
    """The counter cannot restart while the connection lives: both are counted, the number is known."""
    ledger = Ledger().feed("1 2 3")
    ledger.continuity.event(0.0, fresh(2))
    assert (0, (4, 0, 0), (0, 0, 0, 0, 0)) == (ledger.continuity.resets, ledger.origins(), ledger.numbers())


def test_a_given_up_number_that_comes_last_of_all_is_late() -> None:
    """Its time is later than every known one's, and so is its number: that proves no restart."""
    ledger = Ledger().feed("1 2 3 X R(2) A(2,20,18,gap) +2s X R(19) 22 20")
    assert (0, 1) == (ledger.continuity.resets, ledger.continuity.late)


def test_a_channels_own_number_betrays_a_restart_before_anything_is_asked() -> None:
    """A full resync waits its turn; what comes meanwhile is compared with what earlier connections brought."""
    continuity = Ledger().continuity
    for number in range(1, 6):
        continuity.event(0.0, fresh(number, lane_number=number))
    continuity.closed(0.0)
    continuity.opened(2)
    continuity.event(0.0, fresh(9, lane_number=6))
    assert 0 == continuity.resets
    continuity.event(0.0, fresh(10, lane_number=2))
    assert 1 == continuity.resets


def test_below_what_an_acknowledgement_told_is_a_restart() -> None:
    """3 to 50 were never brought, but the server said that they exist; now it stands at 20."""
    ledger = Ledger().feed("1 2 3 X R(2) 3 A(2,50,1,gap) X R(2) 3 A(2,20,1,no)")
    assert (1, True) == (ledger.continuity.resets, ledger.continuity.needs_full)


def test_what_a_connection_brought_is_not_judged_again() -> None:
    """An acknowledgement once reached 500, so it stays real when another one, below the cursor, begins a new epoch."""
    ledger = Ledger(Continuity(max_jump=10)).feed("1 2 3 500 R(2) 3 500 A(2,500,2,no) 501 R(500) 503 501 502 503 A(500,400,3,no)")
    continuity = ledger.continuity
    assert (1, 3, [(500, 503)]) == (continuity.resets, continuity.cursor, list(continuity.above))
    assert not continuity.suspicious
    assert (497, 1, 496, 0, 0) == ledger.numbers()


def test_in_a_new_epoch_an_implausible_number_waits_for_the_servers_word() -> None:
    """Even the one that betrayed it: the epoch is accounted from 1."""
    ledger = Ledger(Continuity(max_jump=10)).feed("1 2 3 X R(2)")
    continuity = ledger.continuity
    continuity.event(0.0, Event("n3", True, 3, 2000.0))
    continuity.event(0.0, fresh(40))
    assert (1, 1, [(3, 3)]) == (continuity.resets, continuity.implausible_jumps, list(continuity.above))


def test_holes_below_an_admitted_number_are_confirmed_if_the_chain_breaks() -> None:
    """The first page's acknowledgement reached 500; the connection ends before the second is asked for."""
    ledger = Ledger(Continuity(max_jump=10, page_limit=2)).feed("1 2 3 X R(2) 500 D4 D5 A(2,500,3,gap)")
    assert (1, 1, 0, 0, 0) == ledger.numbers()
    ledger.feed("X")
    assert (497, 1, 0, 0, 496) == ledger.numbers()


def test_a_request_from_the_very_beginning_owes_nothing() -> None:
    """Behind cursor 0 every request asks after -1; only the one that a new epoch owes is owed again when it is not answered."""
    ledger = Ledger().feed("1 2 3 X R(2) A(2,0,0,no) R(-1)")
    owed = ledger.continuity.owed
    assert owed is not None
    owed = ledger.feed("A(-1,0,0,gap) 7 +2s R(-1) X").continuity.owed
    assert owed is None
    assert (6, 0, 0, 0, 6) == ledger.numbers()


def test_out_of_order_is_judged_by_what_turned_out_real() -> None:
    """Parked 502 came before 501, and an acknowledgement reached both."""
    ledger = Ledger(Continuity(max_jump=10)).feed("1 2 3 R(2) 500 502 501 3 500 501 502 A(2,502,4,no)")
    assert 1 == ledger.continuity.out_of_order


def test_below_the_first_number_is_out_of_order_inside_a_round_too() -> None:
    """Rule 8: the cursor began at 30; a lower unknown number is live, and nothing else."""
    ledger = Ledger().feed("30 31 R(30) 29 31 A(30,31,1,no)")
    assert (1, (0, 0, 0, 0, 0)) == (ledger.continuity.out_of_order, ledger.numbers())


def test_what_an_earlier_round_replayed_does_not_make_the_next_replay_live() -> None:
    """Round one: 114 live and 109 replayed. Round two: 111 is below all that came live, so it is the replay, and 117 is not."""
    ledger = Ledger(Continuity(page_limit=1)).feed("1 2 3 X R(2) 114 109 D4 A(2,114,2,gap) R(2) 111 117 118 D5 A(2,118,2,gap)")
    assert (6, 2, 2) == ledger.origins()
    assert 0 == ledger.continuity.out_of_order


class TestSince:
    """The server time of the highest event up to the position that has one, floored, less two seconds."""

    def asked(self, ledger: Ledger) -> float | None:
        """What the next request asks for."""
        return ledger.continuity.request(ledger.now)[1]

    def test_a_late_arrival_is_as_good_as_any(self) -> None:
        """3 to 20 were given up; 15 came all the same, and rows from its time on are enough."""
        ledger = Ledger().feed("1 2 3 X R(2) A(2,20,18,gap) +2s 15")
        assert 1013.0 == self.asked(ledger)

    def test_the_time_outlives_the_number_memory(self) -> None:
        """Cursor 3 and a hole; 5123 takes the place of 3 in memory and leaves 2 in its own, whose time is older."""
        ledger = Ledger().feed("1 2 3 5000..5121 5123")
        assert 1001.0 == self.asked(ledger)

    def test_the_old_epochs_time_stands_until_the_new_one_is_settled(self) -> None:
        """The resync of the first restart was never answered when the second one came; what came between is settled by neither."""
        ledger = Ledger().feed("1..41 X R(40)")
        continuity = ledger.continuity
        for number in range(1, 6):
            continuity.event(0.0, fresh(number, time_s=5000.0 + number))
        ledger.feed("X")
        continuity.event(0.0, fresh(9, time_s=5009.0))
        continuity.event(0.0, Event("third", True, 5, 6000.0))
        assert (2, 1039.0) == (continuity.resets, self.asked(ledger))
        ledger.feed("A(-1,0,0,gap)")
        assert 1039.0 == self.asked(ledger)


def test_a_million_number_jump_costs_bytes() -> None:
    """Only what an acknowledgement confirms is missed; the range costs one pair."""
    ledger = Ledger().feed("1 2 3 2000000")
    assert (1, 3) == (ledger.continuity.implausible_jumps, ledger.continuity.cursor)
    ledger.feed("R(2) 3 A(2,3,1,no) 4")
    assert (0, 0, 0, 0, 0) == ledger.numbers()
    assert 4 == ledger.continuity.cursor
    ledger.feed("3000000 R(3) 2999501..3000000 A(3,3000000,500,gap)")
    assert (2_999_995, 499, 2_999_496, 0, 0) == ledger.numbers()
    assert 3_000_000 == ledger.continuity.cursor
    assert len(ledger.continuity.confirmed) == 0


def test_poison_frame_is_stepped_over() -> None:
    """A frame that can never be read is missed and lost once, and the next request has no overlap."""
    ledger = Ledger().feed("1 2 3 X")
    ledger.continuity.step_over(0.0)
    ledger.feed("R(4) 5 A(4,5,1,no)")
    assert (2, 1, 1, 0, 0) == ledger.numbers()
    assert 5 == ledger.continuity.cursor


def test_a_stepped_over_number_that_never_was_is_no_restart() -> None:
    """What could not be read behind 52 may have been no event at all: the server stands at 52, and its counter did not restart."""
    ledger = Ledger().feed("1 2 3 X R(2) 50 51 52 X")
    ledger.continuity.step_over_in_round(0.0, 53)
    ledger.feed("X R(53) A(53,52,0,no)")
    assert (0, 47) == (ledger.continuity.resets, ledger.continuity.lost)  # 4 to 49, and 53


def test_paging_asks_again_before_settling() -> None:
    """A database query cut by its limit is asked again from its newest row; only then are holes given up."""
    continuity = Continuity(page_limit=10)
    ledger = Ledger(continuity).feed("1..5 X R(4) 101..120 D6..D15 A(4,120,30,gap)")
    assert continuity.wants_page
    assert not ledger.settled
    assert (4, 1015.0 - 1) == continuity.request(0.0)
    ledger.feed("101..120 D15..D20 A(4,120,26,gap)")
    assert (5, 20, 15) == ledger.origins()
    assert (115, 20, 80, 15, 0) == ledger.numbers()
    assert 1 == sum(continuity.resyncs.values())


def test_unproven_connection_confirms_nothing() -> None:
    """A connection that closes before its epoch is proven leaves its holes for the next one."""
    ledger = Ledger().feed("1 2 3 X R(2) 9 X")
    assert (0, 0, 0, 0, 0) == ledger.numbers()
    ledger.feed("R(2) P12 3 4 5 6 7 8 9 10 11 P12 A(2,12,10,no)")
    assert 12 == ledger.continuity.cursor


def test_unsolicited_acknowledgement_changes_nothing() -> None:
    """Without an open window, or with another number than was asked, an acknowledgement is only counted."""
    ledger = Ledger().feed("1 2 3 A(2,9,7,no)")
    ledger.feed("X R(2) A(1,9,8,no)")
    assert (2, 3) == (ledger.continuity.ack_unsolicited, ledger.continuity.cursor)
    assert ledger.continuity.window is not None


def test_first_word_may_be_the_servers_number() -> None:
    """A tip check without any number seen asks for nothing and starts where the server stands."""
    ledger = Ledger().feed(f"R({2**53 - 1}) A({2**53 - 1},41,0,no) 42 43")
    assert (43, (0, 0, 0, 0, 0)) == (ledger.continuity.cursor, ledger.numbers())


def test_a_false_number_does_not_hold_the_gap_open() -> None:
    """Holes above the server's own number stay missing, for counters never fall, but the gap was answered: there is nothing to wait for."""
    ledger = Ledger().feed("1 2 3 5000 +2s")
    assert (4996, 4996) == (ledger.continuity.missed, ledger.continuity.missing)
    assert waiting(ledger)
    ledger.feed("R(2) 3 A(2,3,1,no)")
    assert 4996 == ledger.continuity.missing
    assert not waiting(ledger)
    ledger.feed("4 5")
    assert (2, 4994) == (ledger.continuity.recovered, ledger.continuity.missing)
    assert not waiting(ledger)


def waiting(ledger: Ledger) -> bool:
    """Whether a gap is open: confirmed, and not yet answered."""
    return ledger.continuity.missing_since_s is not None

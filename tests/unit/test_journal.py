"""The ledger of a stream with a log, rule by rule, without any session."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

from syncwatch.core import journal as module
from syncwatch.core.identity import Remembered
from syncwatch.core.journal import Journal
from syncwatch.core.resume import FeedPoint
from syncwatch.core.states import AuditVerdict, Claim, GapCause, Origin, Verdict
from syncwatch.core.wire import Event

GRACE_S = 2.0


def row(number: int, life: int = 1) -> Event:
    """An event of a log."""
    return Event(f"{number}@{life}", True, number)


def rows(*numbers: int, life: int = 1) -> list[Event]:
    """Several."""
    return [row(number, life) for number in numbers]


def journal(base: Iterable[int] = (1, 2, 3), resumes: bool = True, dense: bool = False) -> Journal:
    """On its first connection, which knows the first position and has compared once."""
    result = Journal(GRACE_S, resumes, dense)
    result.dialled()
    result.opened(1)
    held = rows(*base)
    result.base(held, held[-2].number if len(held) > 1 else None, None)
    return result


def bring(ledger: Journal, *numbers: int, at: float = 10.0, life: int = 1) -> list[bool]:
    """The socket brings events; which were first copies."""
    return [ledger.event(at, row(number, life)) for number in numbers]


def read(ledger: Journal, *numbers: int, at: float = 20.0, connected: bool = True, life: int = 1) -> None:
    """A reading shows rows from the floor on, to its end."""
    for number in numbers:
        ledger.row(at, row(number, life), True, connected)
    ledger.read_past()


def found(ledger: Journal) -> dict[str, int]:
    """Verdicts about events, without zeros."""
    return {str(verdict): count for verdict, count in ledger.audit_events.items() if count}


def received(ledger: Journal) -> dict[str, int]:
    """First copies by origin, without zeros."""
    return {str(origin): n for origin, n in ledger.snapshot(None).events_received.items() if n}


def test_what_the_socket_brought_and_the_log_has_is_compared_and_forgotten() -> None:
    """Nothing waits, nothing is found."""
    ledger = journal()
    assert [True, True, False] == bring(ledger, 4, 5, 5)
    read(ledger, 3, 4, 5)
    assert not ledger.waiting
    assert {} == found(ledger)
    assert 1 == ledger.duplicates
    assert {"live": 2} == received(ledger)


def test_a_row_that_the_socket_brings_within_the_grace_is_late() -> None:
    """The feed was faster; nothing was missed."""
    ledger = journal()
    read(ledger, 3, 4)
    assert [True] == bring(ledger, 4, at=21.0)
    assert {"late": 1} == found(ledger)
    assert math.inf == ledger.next_book_s(-math.inf)


def test_a_row_that_does_not_come_is_missed_and_recovered_in_one_step() -> None:
    """When the grace is over, not before."""
    ledger = journal()
    read(ledger, 3, 4)
    assert 0 == ledger.book(21.9, -math.inf)
    assert 22.0 == ledger.next_book_s(-math.inf)
    assert 1 == ledger.book(22.0, -math.inf)
    assert (1, 1, {"missed": 1}) == (ledger.missed, ledger.recovered, found(ledger))
    assert [False] == bring(ledger, 4, at=23.0)
    assert {"audit": 1} == received(ledger)


def test_a_row_found_twice_keeps_its_grace() -> None:
    """A reading that failed and began again does not start it anew."""
    ledger = journal()
    read(ledger, 3, 4, at=20.0)
    read(ledger, 3, 4, at=21.5)
    assert 22.0 == ledger.next_book_s(-math.inf)


def test_what_the_feed_does_not_have_although_it_was_read_past_was_invented() -> None:
    """Whether it came before the reading or after it."""
    ledger = journal()
    bring(ledger, 5)
    read(ledger, 3, 4, 6)
    assert {"invented": 1} == found(ledger)
    bring(ledger, 5 + 100, 106)
    read(ledger, 6, 106)
    assert {"invented": 2} == found(ledger)
    bring(ledger, 7)
    assert {"invented": 3} == found(ledger)


def test_what_is_above_the_newest_row_waits_for_the_next_reading() -> None:
    """The socket may be faster than the answer."""
    ledger = journal()
    bring(ledger, 4, 5)
    read(ledger, 3, 4)
    assert {} == found(ledger)
    read(ledger, 4, 5)
    assert {} == found(ledger)


def test_without_a_socket_rows_are_polled_and_what_it_had_left_out_is_missed() -> None:
    """Up to the highest number that it brought."""
    ledger = journal()
    bring(ledger, 4, 6)
    ledger.closed(30.0)
    read(ledger, 3, 4, 5, 6, 7, at=40.0, connected=False)
    ledger.book(40.0, -math.inf, -math.inf)
    assert {"live": 2, "audit": 1, "poll": 1} == received(ledger)


def test_a_connection_that_ends_cuts_the_grace_short() -> None:
    """What it had passed it left out; what is above was lost with it and is delivery."""
    ledger = journal()
    bring(ledger, 4, 6)
    read(ledger, 3, 4, 5, 6, 7)
    ledger.closed(20.5)
    assert {"live": 2, "audit": 1, "store": 1} == received(ledger)
    assert 1 == ledger.missed


def test_the_time_without_a_socket_stays_nobody_s_promise_until_it_was_read() -> None:
    """Although a connection that does not resume brought higher numbers since."""
    ledger = journal(resumes=False, dense=True)
    bring(ledger, 4)
    ledger.closed(30.0)
    ledger.dialled()
    ledger.opened(2)
    bring(ledger, 9)
    ledger.closed(40.0)
    read(ledger, 3, 4, 5, 6, 7, 8, 9, connected=False)
    ledger.book(41.0, -math.inf, -math.inf)
    assert {"live": 2, "poll": 4} == received(ledger)
    assert 4 == ledger.promised
    ledger.compared()
    assert 9 == ledger.promised


def test_an_event_before_the_first_position_is_nothing_that_a_reading_has_to_find() -> None:
    """The newest row was hidden; the only event that the socket had brought lies before it, and nobody knows behind what."""
    ledger = Journal(GRACE_S, resumes=True, dense=False)
    ledger.dialled()
    ledger.opened(1)
    bring(ledger, 6)
    assert ledger.base([], 6, 7)
    assert ledger.reference is None
    assert 7 == ledger.floor_before
    bring(ledger, 8)
    assert ledger.reference is ledger.last


@pytest.mark.parametrize(
    ("dense", "brought", "newest", "expected"),
    [
        (True, (4,), 3, (3, 2)),  # the answer is older than the event
        (True, (4,), 4, (4, 3)),
        (True, (4,), 6, (4, 3)),
        (True, (5, 4, 7), 7, (4, 3)),
        (False, (4,), 4, (4, 3)),
        (False, (4,), 6, (6, 5)),  # a single event, and nothing is known of what stands before it
        (False, (9, 4, 7), 9, (7, 4)),
        (False, (4, 9), 9, (9, 4)),
    ],
)
def test_what_came_before_the_log_could_be_read_sets_the_first_position(
    dense: bool, brought: tuple[int, ...], newest: int, expected: tuple[int, int]
) -> None:
    """Its first event, if the newest row is above it: behind the number before it, or with the event after it, it is found again."""
    ledger = Journal(GRACE_S, resumes=not dense, dense=dense)
    ledger.dialled()
    ledger.opened(1)
    bring(ledger, *brought)
    set_by_the_row = ledger.base(rows(newest - 1, newest), newest - 1, None)
    assert expected == (ledger.floor and ledger.floor.number, ledger.floor_before)
    assert (expected == (newest, newest - 1)) == set_by_the_row
    read(ledger, *range(expected[1] + 1, newest + 1))
    ledger.book(100.0, -math.inf)
    seen = {number for number in range(newest + 1) if ledger.identities.knows(row(number))}
    first = expected[0] if set_by_the_row else min(brought)
    assert set(range(first + 1, newest + 1)) <= seen
    assert 0 == ledger.audit_events[AuditVerdict.INVENTED]
    assert ledger.missed == len(set(range(first + 1, newest + 1)) - set(brought))


def test_what_the_first_connection_left_out_is_missed_although_it_is_gone() -> None:
    """It promised everything from its first event on, up to the last one that it brought; what came after that is the time without a socket."""
    ledger = Journal(GRACE_S, resumes=False, dense=True)
    ledger.dialled()
    ledger.opened(1)
    bring(ledger, 4, 6)
    ledger.closed(11.0)
    assert ledger.base_on_first()
    ledger.opened(2)
    read(ledger, 4, 5, 6, 7)
    ledger.book(100.0, -math.inf)
    assert {"live": 2, "audit": 1, "store": 1} == received(ledger)
    assert {"missed": 1} == found(ledger)


def test_rows_that_are_not_ours_and_rows_before_the_first_position_are_passed_over() -> None:
    """They move the head, nothing else."""
    ledger = journal()
    ledger.row(20.0, row(2), True, True)
    ledger.row(20.0, row(9), False, True)
    assert not ledger.waiting
    assert [True] == bring(ledger, 8)
    assert {"invented": 1} == found(ledger)


def test_a_catch_up_lasts_until_the_first_pong() -> None:
    """By definition; duplicates in it are frames replayed as well."""
    ledger = journal()
    bring(ledger, 4, 5)
    ledger.closed(30.0)
    assert 4 == ledger.dialled()
    ledger.opened(2)
    bring(ledger, 5, 6)
    assert (1, 3) == (ledger.undecided, ledger.events)
    assert 2 == ledger.pong()
    bring(ledger, 7)
    assert {"live": 3, "store": 1} == received(ledger)
    assert 2 == ledger.replayed
    assert 0 == ledger.pong()


def test_the_last_event_again_proves_the_log_and_another_under_its_number_disproves_it() -> None:
    """On the socket alone."""
    ledger = journal()
    bring(ledger, 4, 5)
    ledger.closed(30.0)
    ledger.dialled()
    ledger.opened(2)
    proven = [ledger.proven]
    bring(ledger, 5)
    assert [False, True] == [*proven, ledger.proven]
    ledger.closed(31.0)
    ledger.dialled()
    ledger.opened(3)
    bring(ledger, 5, 6, life=2)
    assert (1, True, 6) == (ledger.resets, ledger.fresh, ledger.cursor)


@pytest.mark.parametrize(
    ("number", "life", "after", "verdict"),
    [(5, 1, 4, True), (5, 2, 4, False), (6, 1, 4, False), (4, 1, 4, False), (3, 1, 4, False), (4, 1, None, None), (4, 1, 3, None)],
)
def test_what_a_row_says_about_the_log(number: int, life: int, after: int | None, verdict: bool | None) -> None:
    """The floor is 5; a higher number first, or one that was not asked for, is another log's."""
    assert verdict is Journal.same_epoch(row(5), row(number, life), after)


def test_numbers_that_go_backwards_on_one_connection_are_out_of_order() -> None:
    """Whatever other connections brought."""
    ledger = journal()
    bring(ledger, 4, 6, 5)
    assert 1 == ledger.out_of_order
    assert (5, 6) == (ledger.before_last and ledger.before_last.number, ledger.cursor)


def test_what_was_recovered_is_one_gap_of_the_reading_that_ends() -> None:
    """Also if it was booked after the reading failed."""
    ledger = journal()
    read(ledger, 3, 4, 5)
    ledger.book(30.0, -math.inf)
    recovered = ledger.recovered_since(GapCause.LIVE)
    assert (2, 4, 5) == (recovered.count, recovered.low, recovered.top)
    assert 0 == ledger.recovered_since(GapCause.LIVE).count
    assert 1 == ledger.gaps[GapCause.LIVE]


def test_the_push_path_is_behind_only_for_what_this_connection_should_have_brought() -> None:
    """What an earlier one left out says nothing about this one."""
    ledger = journal(resumes=False)
    bring(ledger, 4, 6)
    ledger.closed(30.0)
    ledger.dialled()
    ledger.opened(2)
    read(ledger, 3, 4, 5, 6)
    ledger.book(30.0, -math.inf)
    assert not ledger.silent(ledger.recovered_since(GapCause.RECONNECT))
    ledger.compared()
    read(ledger, 6, 7)
    ledger.book(40.0, -math.inf)
    assert ledger.silent(ledger.recovered_since(GapCause.LIVE))


def test_a_hole_in_a_dense_log_is_remembered() -> None:
    """Hidden rows, or rows never written: a jump on the socket means nothing from then on."""
    ledger = journal(dense=True)
    bring(ledger, 4, 6)
    assert math.inf > ledger.jump_s
    read(ledger, 3, 4, 6)
    assert ledger.holes_in_feed
    ledger.read_up_to(row(6), 4)
    bring(ledger, 8)
    assert math.inf == ledger.jump_s


def test_memory_is_bounded_and_forgetting_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forgotten is not compared: neither missed nor invented."""
    monkeypatch.setattr(module, "MAX_ARRIVED", 10)
    monkeypatch.setattr(module, "AUDIT_EARLY", 5)
    ledger = journal()
    bring(ledger, *range(4, 9))
    assert ledger.crowded
    assert ledger.urgent
    bring(ledger, *range(9, 16))
    assert 2 == ledger.snapshot(None).forgotten["ranges"]
    assert 5 == ledger.forgotten_up_to
    read(ledger, 3, *range(6, 16))
    assert {} == found(ledger)


def test_a_new_epoch_keeps_what_its_connection_brought_unless_that_is_of_the_old_log() -> None:
    """Then nothing is known any more."""
    ledger = journal()
    bring(ledger, 4)
    ledger.new_epoch(stale=True)
    assert (None, None, None, True) == (ledger.cursor, ledger.reference, ledger.floor_before, ledger.fresh)
    assert not ledger.crowded
    read(ledger, 1, 2, life=2)
    ledger.book(30.0, -math.inf)
    assert {"live": 1, "store": 2} == received(ledger)
    assert ledger.compared()
    assert not ledger.compared()


def test_a_settled_connection_is_counted_by_claim_and_verdict() -> None:
    """And timed, unless nothing was claimed."""
    ledger = journal()
    settled = ledger.settle(Claim.COMPLETE, Verdict.CONTRADICTED, 1.5, 7, 2)
    assert (2, 7, True, 3) == (settled.recovered, settled.replayed, settled.gap_detected, settled.current)
    assert ledger.settle(Claim.NONE, Verdict.UNVERIFIABLE, 9.0, 0, 0).current is None
    assert {(Claim.COMPLETE, Verdict.CONTRADICTED): 1, (Claim.NONE, Verdict.UNVERIFIABLE): 1} == ledger.resyncs
    assert 1 == ledger.resync_duration.count


def test_too_much_behind_the_floor_for_the_identities_kept_moves_the_position_to_the_last_event() -> None:
    """The next process could not tell what was delivered."""
    ledger = journal()
    bring(ledger, *range(4, 9))
    assert (3, 2, 5) == _numbers(*ledger.position(kept=10))
    bring(ledger, 9)
    assert (9, 8, 0) == _numbers(*ledger.position(kept=10))


def test_what_a_reading_has_compared_is_above_the_floor_until_it_is_over() -> None:
    """The next process reads it again, and has to know all of it, although nothing of it waits to be compared any more."""
    ledger = journal()
    bring(ledger, *range(4, 10))
    read(ledger, *range(3, 9))
    assert (9, 8, 0) == _numbers(*ledger.position(kept=10))
    ledger.read_up_to(row(8), 7)
    assert (8, 7, 1) == _numbers(*ledger.position(kept=10))


def test_what_stands_between_the_first_two_events_is_judged_by_the_next_process_too() -> None:
    """The log could not be read: the second event is what has to be found again, the first is where judging begins."""
    ledger = Journal(GRACE_S, resumes=True, dense=False)
    ledger.dialled()
    ledger.opened(1)
    bring(ledger, 4, 9)
    floor, before, above = ledger.position(kept=512)
    assert (9, 4, 0) == _numbers(floor, before, above)
    successor = Journal(GRACE_S, resumes=True, dense=False)
    successor.restore_identities(["4@1", "9@1"], [])
    known = [Remembered(number, f"{number}@1", None) for number in (4, 9)]
    successor.restore(1, FeedPoint("ws_1", True, last=known[1], before_last=known[0], floor=known[1], floor_before=before, promised=ledger.promised))
    read(successor, 6, 9, connected=False)
    successor.book(100.0, -math.inf)
    assert ({"audit": 1}, 1) == (received(successor), successor.missed)


def test_what_several_processes_delivered_above_one_floor_adds_up() -> None:
    """Each knows the newest identities only, those of all before it among them."""
    ledger = Journal(GRACE_S, resumes=True, dense=False)
    point = FeedPoint("ws_1", True, last=Remembered(7, "7@1", None), floor=Remembered(3, "3@1", None), floor_before=2, above=4)
    ledger.restore(1, point)
    ledger.dialled()
    ledger.opened(1)
    ledger.same_log()
    bring(ledger, 8)
    assert (3, 2, 5) == _numbers(*ledger.position(kept=10))
    bring(ledger, 9)
    assert (9, 8, 0) == _numbers(*ledger.position(kept=10))


def _numbers(floor: Event | object, before: int | None, above: int) -> tuple[int | None, int | None, int]:
    return getattr(floor, "number", None), before, above


def test_a_restored_ledger_judges_nothing_up_to_its_floor() -> None:
    """It was compared by the process before."""
    point = FeedPoint("ws_1", True, floor=None, floor_before=7)
    ledger = Journal(GRACE_S, resumes=False, dense=True)
    ledger.restore(3, point)
    assert (3, True, None) == (ledger.epoch, ledger.based, ledger.reference)
    ledger.dialled()
    ledger.opened(1)
    read(ledger, 6, 7, 8)
    ledger.book(30.0, -math.inf)
    assert {"store": 1} == received(ledger)
    assert Origin.AUDIT not in received(ledger)
    assert 0 == ledger.audit_events[AuditVerdict.MISSED]


def test_crowding_asks_once_for_each_further_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that lags behind cannot compare what waits; asking again at once would only load it."""
    monkeypatch.setattr(module, "AUDIT_EARLY", 10)
    ledger = journal()
    ledger.read_up_to(row(3), 2)
    bring(ledger, *range(100, 112))
    assert [True] == [ledger.crowded]
    read(ledger, 3)  # the feed has none of them yet
    ledger.read_up_to(row(3), 2)
    assert [False] == [ledger.crowded]
    bring(ledger, *range(112, 122))
    assert [True] == [ledger.crowded]


def test_what_was_forgotten_is_not_called_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap drops the oldest arrival; what arrived before its turn and lies below it is passed over as well."""
    monkeypatch.setattr(module, "MAX_ARRIVED", 5)
    ledger = journal()
    bring(ledger, 11, 10, 12, 13, 14, 15)
    read(ledger, 3, *range(10, 16))
    assert {} == found(ledger)


def test_a_replaced_log_is_told_by_what_only_rows_carry() -> None:
    """Two rows with one key and other times of the log are not the same; where only one side tells, the key decides."""
    old, new = (Event("7:message", True, 7, lane="log", lane_number=at) for at in (1000, 2000))
    bare = Event("7:message", True, 7)
    assert (True, False, True) == (module.alike(old, old), module.alike(old, new), module.alike(old, bare))


def test_a_catch_up_is_not_late_because_the_feed_is_faster() -> None:
    """On every healthy reconnect one of them is; only what comes after the catch-up and within the grace was late."""
    ledger = journal()
    bring(ledger, 4, 5)
    ledger.closed(11.0)
    ledger.dialled()
    ledger.opened(2)
    bring(ledger, 5, at=12.0)
    read(ledger, 3, 4, 5, 6, 7, at=13.0)
    bring(ledger, 6, at=13.1)
    assert {} == found(ledger)
    ledger.pong()
    bring(ledger, 7, at=13.2)
    assert {"late": 1} == found(ledger)

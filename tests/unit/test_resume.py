"""What is kept across restarts: the resume point as the state file holds it, and a session that begins with one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncwatch.core.continuity import Continuity
from syncwatch.core.effects import Notice
from syncwatch.core.resume import (
    IDENTITIES_KEPT,
    PRESSING_NUMBERS,
    ResumePoint,
    Totals,
    capture,
    pressing,
    restore,
    totals_only,
)
from syncwatch.core.session import SessionSettings
from syncwatch.core.states import State
from syncwatch.core.wire import Event
from tests.unit.ledger_script import Ledger
from tests.unit.sessions import WALL_S, Host, established, message, through_json

UPSTREAM = "ws://upstream"


def point_of(ledger: Continuity) -> ResumePoint:
    """Through JSON, as the state file keeps it."""
    return through_json(capture(ledger, WALL_S, UPSTREAM, Totals(since_wall_s=WALL_S)))


def next_process(ledger: Continuity) -> Ledger:
    """A fresh ledger where this one stopped, on its first connection."""
    again = Ledger()
    again.continuity = Continuity()
    restore(again.continuity, point_of(ledger), 0.0)
    again.continuity.opened(1)
    return again


class TestPressing:
    """When a position that was saved has become too bad to resume from."""

    def test_a_position_that_moved_a_little_does_not_press(self) -> None:
        """Whoever resumes from it asks for a few numbers more."""
        ledger = Ledger().feed("1..7")
        saved = point_of(ledger.continuity)
        assert not pressing(ledger.continuity, saved)
        ledger.feed(f"8..{7 + PRESSING_NUMBERS - 1}")
        assert not pressing(ledger.continuity, saved)
        ledger.feed(f"{7 + PRESSING_NUMBERS}")
        assert pressing(ledger.continuity, saved)

    def test_what_was_never_saved_presses(self) -> None:
        """No entry, or one without a position."""
        ledger = Ledger()
        assert pressing(ledger.continuity, None)
        saved = point_of(ledger.continuity)
        assert not pressing(ledger.continuity, saved)
        assert pressing(ledger.feed("1").continuity, saved)

    @pytest.mark.parametrize("then", ["9", "9 +3s", "X 8", "X R(6) A(6,3,0,no)"], ids=["hole", "confirmed", "unproven", "reset"])
    def test_news_of_another_kind_presses(self, then: str) -> None:
        """A hole seen, a hole confirmed, a connection that has yet to prove its epoch, another epoch."""
        ledger = Ledger().feed("1..7")
        saved = point_of(ledger.continuity)
        ledger.feed(then)
        assert pressing(ledger.continuity, saved)


class TestLedger:
    def test_the_cursor_is_resumed_with_its_overlap_and_its_time(self) -> None:
        """The next process asks as this one would have asked."""
        again = next_process(Ledger().feed("1..7").continuity)
        assert (6, 1005.0) == again.continuity.request(0.0)
        assert not again.continuity.proven

    def test_the_time_is_kept_even_if_the_last_events_had_none(self) -> None:
        """Without it the next process would ask for no rows at all."""
        assert (5, 1002.0) == next_process(Ledger().feed("1..4 r5 r6").continuity).continuity.request(0.0)

    def test_the_overlap_proves_the_epoch_across_processes(self) -> None:
        """The event at the cursor was kept: the same is proof, another one is a reset."""
        again = next_process(Ledger().feed("1..7").continuity).feed("R(6) 7")
        assert (True, 0) == (again.continuity.proven, again.continuity.resets)
        again = next_process(Ledger().feed("1..7").continuity).feed("R(6)")
        again.continuity.event(0.0, Event("other", True, number=7, time_s=1007.0))
        assert 1 == again.continuity.resets

    def test_what_was_missed_in_between_is_counted_once_in_the_new_process(self) -> None:
        """Counters start at 0; known identities stay known."""
        again = next_process(Ledger().feed("1..7").continuity).feed("R(6) 7 8 9 A(6,9,3,no)")
        assert ((0, 2, 0), (2, 2, 0, 0, 0), 1, 9) == (
            again.origins(), again.numbers(), again.continuity.duplicates, again.continuity.cursor,
        )  # fmt: skip

    def test_numbers_seen_above_the_cursor_are_still_seen(self) -> None:
        """They are neither missed nor recovered when the replay repeats them."""
        again = next_process(Ledger().feed("1..7 9 10").continuity).feed("R(6) 7 8 9 10 A(6,10,4,no)")
        assert ((0, 1, 0), (1, 1, 0, 0, 0), 10) == (again.origins(), again.numbers(), again.continuity.cursor)

    def test_confirmed_holes_enter_missed_at_load(self) -> None:
        """So the identity holds in each process, and they are recovered or lost in this one."""
        before = Ledger().feed("1..7 10 +2s")
        assert (2, 0, 0, 0, 2) == before.numbers()
        again = next_process(before.continuity)
        assert ((2, 0, 0, 0, 2), 2) == (again.numbers(), again.continuity.restored)
        assert 0.0 == again.continuity.missing_since_s
        again.feed("R(6) 7 8 A(6,10,2,no) +2s")
        assert (2, 1, 1, 0, 0) == again.numbers()

    def test_confirmed_holes_with_nothing_seen_above_them(self) -> None:
        """The server said that they exist; they are recovered as they come, not counted twice."""
        before = Ledger().feed("1..5 R(4) 5 A(4,8,1,no) +2s")
        assert ((3, 0, 0, 0, 3), 5) == (before.numbers(), before.continuity.cursor)
        again = next_process(before.continuity).feed("R(4) 5 6 7 8 A(4,8,4,no)")
        assert ((3, 3, 0, 0, 0), 8) == (again.numbers(), again.continuity.cursor)

    def test_holes_not_yet_confirmed_are_confirmed_by_the_next_process(self) -> None:
        """Once its epoch is proven and no round is open."""
        again = next_process(Ledger().feed("1..5 8").continuity)
        assert (0, 0, 0, 0, 0) == again.numbers()
        again.feed("R(4) 5 6 X")
        assert (2, 1, 0, 0, 1) == again.numbers()

    def test_a_weak_event_is_known_across_processes(self) -> None:
        """By number and content, and by content when it comes back as a row."""
        again = next_process(Ledger().feed("1 2 r3").continuity).feed("R(2) r3 Dr A(2,3,2,no)")
        assert ((0, 0, 0), 2) == (again.origins(), again.continuity.duplicates)

    def test_only_the_newest_identities_are_kept(self) -> None:
        """512 of each kind: the file stays small."""
        point = point_of(Ledger().feed("1..2000").continuity)
        assert (IDENTITIES_KEPT, ("m1489", "m2000")) == (len(point.keys), (point.keys[0], point.keys[-1]))
        assert [1999, 2000] == [event.number for event in point.known]

    def test_without_a_cursor_there_is_nothing_to_restore(self) -> None:
        """Events without numbers make no position."""
        again = Continuity()
        restore(again, point_of(Ledger().feed("D1 D2").continuity), 0.0)
        assert (None, True) == (again.cursor, again.identities.first(Event("m1", True)))

    def test_an_owed_full_resync_is_still_owed(self) -> None:
        """Killed between the discovery of a reset and its full resync: the old epoch's tail is still asked for, from its time on."""
        before = Ledger().feed("1..41 44 +2s X R(40)")
        for number in (1, 2, 3):
            before.continuity.event(0.0, Event(f"n{number}", True, number=number, time_s=9000.0 + number))
        before.feed("A(40,3,0,no)")
        assert (2, 0, 0, 0, 2) == before.numbers()
        again = next_process(before.continuity)
        assert ((2, 0, 0, 0, 2), 3, 2) == (again.numbers(), again.continuity.cursor, again.continuity.epoch)
        assert (-1, 1039.0) == again.continuity.request(0.0)
        again.continuity.event(0.0, Event("n3", True, number=3, time_s=9003.0))
        again.feed("A(-1,3,1,gap)")
        assert (2, 0, 2, 0, 0) == again.numbers()

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.sampled_from([*range(1, 30)]), max_size=40), st.booleans())
    def test_any_position_survives_the_file(self, numbers: list[int], confirm: bool) -> None:
        """Cursor, numbers seen above, confirmed holes: the same after JSON, and the identity holds at once."""
        before = Ledger().feed(" ".join(map(str, numbers)) + (" +2s" if confirm else ""))
        again = next_process(before.continuity).continuity
        old = before.continuity
        assert (old.cursor, list(old.above), list(old.confirmed)) == (again.cursor, list(again.above), list(again.confirmed))
        assert old.missing == again.missing == again.missed
        assert capture(old, 1.0, "", Totals(0.0)) == capture(again, 1.0, "", Totals(0.0))


class TestSession:
    def test_before_the_first_wall_time_there_is_no_point(self) -> None:
        """It could not say when it was taken."""
        host = Host()
        assert None is host.session.resume_point(0.0)

    def test_a_session_resumes_and_says_so(self) -> None:
        """Same upstream, young enough: the first connection is a resumption."""
        host = established("1..5")
        point = through_json(host.session.resume_point(host.now))
        again = Host(resume=point, now=5.0, offset_s=host.now + WALL_S - 5.0 + 60.0).start()
        told = again.notices(Notice.RESUMED)[0].fields
        assert (5, 1, 60.0) == (told["cursor"], told["epoch"], told["age_s"])
        again.open().tick()
        assert (State.RESYNCING, ["4"]) == (again.session.state, again.resyncs())
        assert not again.session.settled_once
        again.say("5 6 7 A(4,7,3,no)")
        assert (State.OPEN, (2, 2, 0, 0, 0), True) == (again.session.state, again.numbers(), again.session.settled_once)

    @pytest.mark.parametrize(("age_s", "resumed"), [(0.0, True), (3599.0, True), (3601.0, False), (-3599.0, True), (-3601.0, False)])
    def test_older_than_an_hour_starts_fresh_and_says_so(self, age_s: float, resumed: bool) -> None:
        """By the wall clock, in both directions: a file from the future is as doubtful."""
        host = established("1..5")
        point = through_json(host.session.resume_point(host.now))
        again = Host(resume=point, offset_s=point.saved_wall_s + age_s - 100.0).start()
        assert (5 if resumed else None) == again.session.ledger.cursor
        assert resumed != ("fresh" in str(again.notices(Notice.RESUMED)[0].fields.get("detail")))
        again.open().tick()
        assert (State.RESYNCING if resumed else State.OPEN) is again.session.state

    def test_another_upstream_is_another_stream(self) -> None:
        """Its numbers mean nothing here; the lifetime totals go on."""
        host = established("1..5")
        point = msgspec.structs.replace(through_json(host.session.resume_point(host.now)), upstream="ws://elsewhere")
        again = Host(resume=point, offset_s=point.saved_wall_s).start()
        assert (None, 5) == (again.session.ledger.cursor, again.session.snapshot().lifetime.events)
        assert "fresh" in str(again.notices(Notice.RESUMED)[0].fields["detail"])

    def test_a_re_aimed_connection_keeps_its_totals_alone(self) -> None:
        """Even where the host is the same: the position is another stream's, and nobody needs to be told of a state file."""
        host = established("1..5").say("8").drop()
        point = totals_only(through_json(host.session.resume_point(host.now)))
        again = Host(resume=point, offset_s=point.saved_wall_s - 100.0).start().open()
        life = again.session.snapshot().lifetime
        assert (6, 2, WALL_S + 100.0) == (life.events, life.missed, life.since_wall_s)
        assert (State.OPEN, None, []) == (again.session.state, again.session.ledger.cursor, again.notices(Notice.RESUMED))

    def test_lifetime_totals_go_on_and_process_counters_do_not(self) -> None:
        """Over three processes; holes restored from the file are missed in each process, and once in a lifetime."""
        host = established("1..5").say("8").drop()
        first = through_json(host.session.resume_point(host.now))
        assert (6, 2) == (first.totals.events, first.totals.missed)
        again = Host(resume=first, offset_s=first.saved_wall_s - 100.0).start().open().tick().say("5 6 7 8 A(4,8,4,no)")
        picture = again.session.snapshot()
        assert picture.continuity is not None
        assert (2, 2) == (picture.continuity.missed, picture.continuity.recovered)
        life = picture.lifetime
        assert (8, 2, 2, 0) == (life.events, life.missed, life.recovered, life.lost)
        again.drop()
        second = through_json(again.session.resume_point(again.now))
        third = Host(resume=second, offset_s=second.saved_wall_s - 100.0).start()
        assert life == third.session.snapshot().lifetime
        assert first.totals.since_wall_s == second.totals.since_wall_s == WALL_S + 100.0

    def test_lifetime_numbers_hold_the_identity_at_any_moment(self) -> None:
        """missed = recovered + lost + unaccounted + what is still missing, also across a kill in the middle of a reset."""
        host = established("1..5").say("8").drop()
        host.pass_time(10.0).open().say("A(4,3,0,no)")
        point = through_json(host.session.resume_point(host.now))
        again = Host(resume=point, offset_s=point.saved_wall_s - 100.0).start()
        life, ledger = again.session.snapshot().lifetime, again.session.ledger
        assert life.missed == life.recovered + life.lost + life.unaccounted + ledger.missing

    def test_a_point_of_today_is_readable_tomorrow(self) -> None:
        """Unknown fields are skipped, missing ones have defaults: an older or newer file still resumes."""
        old = b'{"saved_wall_s":1.0,"upstream":"ws://upstream","totals":{"since_wall_s":1.0},"cursor":5,"from_the_future":{}}'
        assert 5 == msgspec.json.decode(old, type=ResumePoint).cursor

    def test_keys_that_are_no_plain_text_survive(self) -> None:
        """An identity from the wire may hold anything that a string can."""
        host = Host(SessionSettings()).start().open()
        host.hear(message(Event("\x00é☃😀\u2028", True, number=1)))
        assert "\x00é☃😀\u2028" in through_json(host.session.resume_point(host.now)).keys

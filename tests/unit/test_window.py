"""One round: which of its frames were the server's replay."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncwatch.core.ranges import Ranges
from syncwatch.core.window import FIRST, MAX_FRAMES, NEW, SHIFT, Window
from syncwatch.core.wire import MAX_NUMBER, Ack, Event


def window(after: int, numbers: str = "", store: int = 0, cursor: int | None = None) -> Window:
    """A round asked after `after`, with the numbered frames of a script such as `9 5..8 9`."""
    round_ = Window(at_s=0.0, after=after, since_s=None, cursor=after + 1 if cursor is None else cursor, highest_seen=after + 1)
    for word in numbers.split():
        low, _, high = word.partition("..")
        round_.frames += [number << SHIFT for number in range(int(low), int(high or low) + 1)]
    round_.store_frames = store
    return round_


def numbers_of(round_: Window, where: tuple[int, int]) -> list[int]:
    """The numbers of a slice of frames."""
    return [frame >> SHIFT for frame in round_.frames[where[0] : where[1]]]


class TestAcknowledgedBurst:
    @pytest.mark.parametrize(
        ("after", "frames", "replayed", "expected"),
        [
            (4, "11 5..11", 7, "5..11"),  # case 1: own presence before the replay
            (2, "4 3 4", 2, "3 4"),  # case 2: nothing missed
            (2, "6 7 3..7 8 9", 5, "3..7"),  # case 3: live frames before and after
            (7, "8..11", 4, "8..11"),  # case 13
            (4, "5 6 7 8 5 6 7 8 9", 4, "5..8"),  # sent twice, one live: the last sight counts
            (4, "", 0, ""),
            (4, "9 10", 0, ""),  # nothing was replayed: both are live
            (4, "9 10", 3, ""),  # claimed complete, but what was asked for is not here
        ],
    )
    def test_without_a_gap_it_begins_at_the_number_after_the_one_asked_for(
        self, after: int, frames: str, replayed: int, expected: str
    ) -> None:
        """§5: everything above `after`, oldest first, so the last sight of `after` + 1 is its beginning."""
        round_ = window(after, frames)
        burst = round_.burst(Ack(after, 99, replayed, gap=False))
        assert numbers_of(window(0, expected), (0, 99)) == numbers_of(round_, burst)

    @pytest.mark.parametrize(
        ("frames", "current", "replayed", "expected"),
        [
            ("201..700", 700, 500, "201..700"),
            ("701 201..701", 701, 501, "201..701"),  # own presence first
            ("139..190 179..190", 190, 12, "179..190"),  # a stalled reader: everything came live before the replay
            ("150..160 300..309 310", 310, 11, "300..310"),
            ("300..305", 310, 11, "300..305"),  # cut: less than claimed has come
            ("320 300..304", 310, 11, "300..304"),  # cut, with a live frame before
        ],
    )
    def test_behind_a_gap_it_is_the_last_run_that_long(self, frames: str, current: int, replayed: int, expected: str) -> None:
        """The ring holds consecutive numbers, so its replay is one run of as many as claimed; a cut one starts at its smallest."""
        round_ = window(99, frames)
        burst = round_.burst(Ack(99, current, replayed, gap=True))
        assert numbers_of(window(0, expected), (0, 9999)) == numbers_of(round_, burst)

    def test_database_rows_are_not_part_of_the_burst(self) -> None:
        """The claim counts rows too; what is left of it are ring frames (case 6)."""
        round_ = window(99, "201..700 701", store=250)
        assert (0, 500) == round_.burst(Ack(99, 700, 750, gap=True))
        assert 750 == round_.arrived(Ack(99, 700, 750, gap=True))

    def test_more_rows_than_claimed_leave_no_ring(self) -> None:
        """A wrong claim makes nothing negative."""
        round_ = window(4, "5 6", store=10)
        start, stop = round_.burst(Ack(4, 6, 7, gap=False))
        assert start == stop

    def test_frames_above_the_current_number_did_not_arrive_for_the_claim(self) -> None:
        """They are live: an acknowledgement that claims more than that came early (accounting rule 4)."""
        ack = Ack(2, 6, 4, gap=False)
        assert 2 == window(2, "3 4 7 8").arrived(ack)
        assert 4 == window(2, "3 4 5 6 7 8").arrived(ack)
        assert 0 == window(2, "7 8 9 10").arrived(ack)

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_an_honest_replay_is_found_whatever_came_live_around_it(self, data: st.DataObject) -> None:
        """Live frames come in order: those before the replay end at its last number, those after it follow on, and some slip in before the answer."""
        ring = data.draw(st.integers(1, 12), label="ring")
        gap = data.draw(st.booleans(), label="gap")
        after = data.draw(st.integers(0, 20), label="after")
        oldest = after + 1 + (data.draw(st.integers(1, 30), label="lost") if gap else 0)
        counter = oldest + ring - 1
        live = list(range(data.draw(st.integers(after + 1, counter + 1), label="live from"), counter + 1))
        slipped = data.draw(st.integers(0, 5), label="slipped in before the answer")
        early = data.draw(st.integers(0, slipped), label="of those, after its number was taken")
        round_ = window(after)
        round_.frames = [n << SHIFT for n in [*live, *range(oldest, counter + slipped + 1)]]
        ack = Ack(after, counter + slipped - early, ring, gap)
        assert (len(live), len(live) + ring) == round_.burst(ack)
        assert ring <= round_.arrived(ack)


    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=25), st.integers(1, 4), st.sampled_from([1, 4, 9, math.inf]))
    def test_what_speaks_against_a_run_is_counted_as_defined(
        self, frames: list[tuple[int, bool]], length: int, live_from: float
    ) -> None:
        """One pass finds for every run what the definition finds frame by frame: first sights above what came live before, repeats behind."""
        round_ = window(0)
        round_.live_from = live_from
        round_.frames = [number << SHIFT | (NEW if new else 0) for number, new in frames]
        found = round_._oddities(length)
        for begin in range(len(frames) - length + 1):
            end = begin + length
            if [number - frames[begin][0] for number, _ in frames[begin:end]] != list(range(length)):
                continue
            lowest = min([number for number, _ in frames[:begin]] + [live_from])
            above = sum(new and number > lowest for number, new in frames[begin:end])
            repeats = sum(not frames[i][1] and frames[i][0] != frames[i - 1][0] for i in range(end, len(frames)))
            assert above + repeats == found[begin]

    @given(st.lists(st.integers(0, 12), max_size=40), st.integers(-1, 12), st.integers(0, 12), st.integers(0, 40), st.booleans())
    @settings(deadline=None)
    def test_short_ways_lead_where_the_long_ones_do(self, numbers: list[int], after: int, current: int, replayed: int, ascending: bool) -> None:
        """A replay as it should be is settled by looking at all of it at once; the outcome is that of looking at each frame."""
        round_ = window(after)
        round_.frames = [number << SHIFT | NEW for number in (sorted(numbers) if ascending else numbers)]
        sights = [index for index, frame in enumerate(round_.frames) if frame >> SHIFT == after + 1]
        assert (sights[-1] if sights else None) == round_._last_sight(after + 1)
        ack = Ack(after, current, replayed, gap=False)
        start, _ = round_.burst(ack)
        assert sum(frame >> SHIFT <= current for frame in round_.frames[start:]) == round_.arrived(ack)

    def test_a_flood_of_single_frames_is_no_work(self) -> None:
        """As many runs as frames, and an acknowledgement that would make each of them a candidate: milliseconds, not minutes."""
        round_ = window(1)
        round_.frames = [(2 * number) << SHIFT | NEW for number in range(5, MAX_FRAMES)]
        began = time.process_time()
        round_.burst(Ack(1, 10**6, 1, gap=True))
        assert time.process_time() - began < 5.0


class TestRoundWithoutAnswer:
    def test_everything_from_the_overlap_on_is_replay(self) -> None:
        """Case 5: the cursor's own event came again, so a replay had begun."""
        round_ = window(2, "6 3 4 5 6")
        assert [3, 4, 5, 6] == numbers_of(round_, round_.unacknowledged_burst())

    def test_a_lower_number_after_a_higher_one_is_replay(self) -> None:
        """Behind a gap there is no overlap, but a live connection does not go backwards."""
        round_ = window(99, "701 201..300")
        assert 100 == len(numbers_of(round_, round_.unacknowledged_burst()))

    def test_ascending_numbers_above_the_cursor_are_live(self) -> None:
        """Nothing tells them from live frames, so nothing is claimed of them."""
        round_ = window(2, "6 7 8")
        assert [] == numbers_of(round_, round_.unacknowledged_burst())

    def test_an_empty_round_has_no_burst(self) -> None:
        """Silence."""
        assert [] == numbers_of(window(2), window(2).unacknowledged_burst())

    def test_where_nothing_was_asked_for_nothing_is_replay(self) -> None:
        """The baseline check asks after the largest number there is."""
        round_ = window(MAX_NUMBER, "5 4 6", cursor=5)
        assert [] == numbers_of(round_, round_.unacknowledged_burst())


class TestRecord:
    def test_first_copies_are_undecided_until_the_round_ends(self) -> None:
        """Numbered ones, rows and unnumbered live ones alike."""
        round_ = window(2)
        round_.frames, round_.repeats = [n << SHIFT | FIRST * (n < 8) for n in (5, 6, 7, 8)], 1
        round_.row(Event("a", True, replayed=True), first=True)
        round_.row(Event("a", True, replayed=True), first=False)
        round_.row(Event("b", False, bad_number=True), first=True)
        assert (5, 2, 1, 1) == (round_.undecided, round_.store_frames, round_.store_firsts, round_.other_firsts)

    def test_rows_are_counted_per_query(self) -> None:
        """Each bounded query has its own page: rows, how many were new, and the newest time."""
        round_ = window(2)
        for key, kind, time_s, first in (
            ("a", "channel", 10.0, True),
            ("b", "channel", 12.0, False),
            ("c", "channel", 11.0, True),
            ("d", "reaction", None, True),
            ("e", None, 99.0, True),
        ):
            round_.row(Event(key, True, time_s=time_s, replayed=True, page_kind=kind), first)
        channel, reaction = round_.pages["channel"], round_.pages["reaction"]
        assert (3, 2, 12.0) == (channel.rows, channel.fresh, channel.newest_s)
        assert (1, 1, None) == (reaction.rows, reaction.fresh, reaction.newest_s)
        assert {"channel", "reaction"} == set(round_.pages)

    def test_a_time_before_1970_is_a_time(self) -> None:
        """The first time seen counts, whatever its sign."""
        round_ = window(2)
        round_.row(Event("a", True, time_s=-5.0, replayed=True, page_kind="channel"), True)
        assert -5.0 == round_.pages["channel"].newest_s
        assert not math.isinf(round_.pages["channel"].newest_s or 0.0)

    def test_in_a_new_epoch_each_first_sight_of_a_number_is_new(self) -> None:
        """What the old epoch knew of these numbers does not count; a repetition inside the round does."""
        round_ = window(2)
        round_.frames = [5 << SHIFT | FIRST, 6 << SHIFT | FIRST | NEW, 5 << SHIFT | NEW, 7 << SHIFT]
        round_.renumber(Ranges())
        assert [5 << SHIFT | FIRST | NEW, 6 << SHIFT | FIRST | NEW, 5 << SHIFT, 7 << SHIFT | NEW] == round_.frames
        assert 1 == round_.olds
        assert 0 == round_.highest_seen

    def test_in_a_new_epoch_parked_numbers_stay_as_they_were_judged(self) -> None:
        """They are of this connection alone: 500 came before the round, 501 came first in it."""
        round_ = window(2)
        round_.frames = [500 << SHIFT, 501 << SHIFT | FIRST | NEW, 7 << SHIFT | FIRST]
        round_.renumber(Ranges([(500, 501)]))
        assert [500 << SHIFT, 501 << SHIFT | FIRST | NEW, 7 << SHIFT | FIRST | NEW] == round_.frames

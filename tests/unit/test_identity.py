"""What counts as a first copy, and what is remembered of a number."""

from __future__ import annotations

from collections import OrderedDict
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core import identity
from syncwatch.core.identity import HASHES, IDENTITIES, NUMBERS, Identities, Numbers, Remembered
from syncwatch.core.wire import Event


def strong(key: str, number: int | None = None) -> Event:
    """An event whose key identifies it alone."""
    return Event(key, strong=True, number=number)


def weak(key: str, number: int | None = None, replayed: bool = False) -> Event:
    """An event known by its content only."""
    return Event(key, strong=False, number=number, replayed=replayed)


class TestFirstCopies:
    def test_a_strong_key_identifies_alone(self) -> None:
        """The number, or that there is none, does not matter."""
        known = Identities()
        assert known.first(strong("a", 5))
        assert not known.first(strong("a", 9))
        assert not known.first(strong("a"))

    def test_a_weak_key_identifies_together_with_its_number(self) -> None:
        """The same content under another number is another event."""
        known = Identities()
        assert known.first(weak("h", 5))
        assert not known.first(weak("h", 5))
        assert known.first(weak("h", 6))

    def test_a_weak_live_event_without_number_is_always_a_first_copy(self) -> None:
        """Two live events may well be alike."""
        known = Identities()
        assert [True, True] == [known.first(weak("h")), known.first(weak("h"))]

    def test_a_weak_row_without_number_is_known_by_content_however_it_was_seen(self) -> None:
        """A replayed row repeats what was seen numbered, unnumbered or as a row."""
        for before in (weak("h", 5), weak("h"), weak("h", replayed=True)):
            known = Identities()
            assert known.first(before)
            assert not known.first(weak("h", replayed=True))
        assert Identities().first(weak("h", replayed=True))

    def test_a_numbered_weak_event_is_first_although_its_content_was_seen_unnumbered(self) -> None:
        """Its key is number and content: a row or a bad number did not show that."""
        known = Identities()
        known.first(weak("h", replayed=True))
        known.first(weak("h"))
        assert known.first(weak("h", 5))

    def test_strong_and_weak_keys_do_not_meet(self) -> None:
        """A strong key that reads like a hash is still another identity."""
        known = Identities()
        known.first(weak("h", 5))
        assert known.first(strong("h", 5))

    @given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from([None, 1, 2]), st.booleans())))
    def test_knows_says_what_first_would_say(self, script: list[tuple[bool, str, int | None, bool]]) -> None:
        """`knows` predicts `first` for every event, and remembers nothing."""
        known = Identities()
        for is_strong, key, number, replayed in script:
            event = Event(key, is_strong, number=number, replayed=replayed)
            answer = known.knows(event)
            assert answer == known.knows(event)
            assert answer == (not known.first(event))


class TestMemory:
    def test_forgets_the_least_recently_used_and_counts_it(self) -> None:
        """A hit refreshes, so a replay of old events does not evict what it has just shown."""
        known = Identities()
        for index in range(IDENTITIES):
            known.first(strong(f"k{index}"))
        assert not known.first(strong("k0"))
        known.first(strong("new"))
        assert 1 == known.forgotten_identities
        assert (True, False) == (known.knows(strong("k0")), known.knows(strong("k1")))

    def test_hashes_have_a_memory_of_their_own(self) -> None:
        """Unnumbered content is bounded and counted apart; a live one refreshes it."""
        known = Identities()
        for index in range(HASHES):
            known.first(weak(f"h{index}"))
        known.first(weak("h0"))
        known.first(weak("new"))
        assert (0, 1) == (known.forgotten_identities, known.forgotten_hashes)
        assert (True, False) == (known.knows(weak("h0", replayed=True)), known.knows(weak("h1", replayed=True)))

    @given(st.lists(st.integers(0, 15), max_size=80))
    def test_is_a_true_lru(self, keys: list[int]) -> None:
        """Against a plain model with room for eight: the most recently used are known, nothing else, and each loss is counted."""
        known, model, lost = Identities(), OrderedDict[int, None](), 0
        with mock.patch.object(identity, "IDENTITIES", 8):
            for key in keys:
                assert (key not in model) == known.first(strong(str(key)))
                model[key] = None
                model.move_to_end(key)
                if len(model) > 8:
                    model.popitem(last=False)
                    lost += 1
        assert [str(key) for key in model] == known.newest(100)[0]
        assert lost == known.forgotten_identities

    def test_newest_are_what_a_resume_point_keeps(self) -> None:
        """The newest identities and hashes, oldest of them first; put back, they are known again."""
        known = Identities()
        for index in range(600):
            known.first(strong(f"s{index}"))
            known.first(weak(f"w{index}", number=index + 1))
        keys, hashes = known.newest(4)
        assert (["s598", (599, "w598"), "s599", (600, "w599")], ["w596", "w597", "w598", "w599"]) == (keys, hashes)
        again = Identities(keys, hashes)
        assert again.knows(strong("s599"))
        assert again.knows(weak("w599", 600))
        assert again.knows(weak("w597", replayed=True))
        assert not again.knows(strong("s597"))


class TestNumbers:
    def test_what_was_put_is_known_until_its_place_is_taken(self) -> None:
        """A fixed table: a number 1,024 higher takes the place, and nothing grows."""
        table = Numbers()
        old, new = strong("a"), strong("b")
        table.put(5, old, attempt=1)
        assert (old, 1) == (table.get(5), table.attempt_of(5))
        table.put(5 + NUMBERS, new, attempt=2)
        assert (None, None) == (table.get(5), table.attempt_of(5))
        assert (new, 2) == (table.get(5 + NUMBERS), table.attempt_of(5 + NUMBERS))

    def test_nothing_is_known_of_a_number_never_seen(self) -> None:
        """Not even of 0, whose place an empty table might seem to hold."""
        assert [None] * 3 == [Numbers().get(number) for number in (0, 1, NUMBERS)]
        assert [None] * 2 == [Numbers().attempt_of(number) for number in (0, 7)]

    def test_holds_more_than_any_servers_ring(self) -> None:
        """Or the overlap could not be compared: the newest 1,024 are all there."""
        table = Numbers()
        for number in range(1, 3_001):
            table.put(number, strong(str(number)), attempt=1)
        assert NUMBERS > 500
        assert list(range(3_000 - NUMBERS + 1, 3_001)) == sorted(number for number, _ in table.known())

    def test_a_new_epoch_keeps_only_one_attempt(self) -> None:
        """What other connections brought means nothing any more."""
        table = Numbers()
        for number in range(1, 11):
            table.put(number, strong(str(number)), attempt=1 + number % 2)
        table.forget_other_attempts(2)
        assert [1, 3, 5, 7, 9] == sorted(number for number, _ in table.known())
        assert (None, None) == (table.get(2), table.attempt_of(2))

    def test_time_of_the_highest_known_event_that_has_one(self) -> None:
        """Events without a server time are passed over; numbers out of bounds and another attempt's do not count."""
        table = Numbers()
        table.put(3, Event("a", True, 3, time_s=103.0), attempt=1)
        table.put(4, Remembered(4, "b", None), attempt=1)
        table.put(9, Event("c", True, 9, time_s=109.0), attempt=2)
        assert (3, 103.0) == table.newest_time(0, up_to=8)
        assert (9, 109.0) == table.newest_time(0, up_to=9)
        assert None is table.newest_time(0, up_to=2)
        assert None is table.newest_time(3, up_to=8)
        assert (9, 109.0) == table.newest_time(3, not_on=1)
        assert (3, 103.0) == table.newest_time(2, not_on=2)

    def test_a_time_is_found_however_far_below(self) -> None:
        """A cursor that jumped over many numbers still knows when the last event before them was."""
        table = Numbers()
        table.put(3, Event("a", True, 3, time_s=103.0), attempt=1)
        assert (3, 103.0) == table.newest_time(0, up_to=2**53 - 1)

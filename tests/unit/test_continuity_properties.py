"""The ledger under any script of events, requests, acknowledgements, closes and time; and under a server that is honest."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncwatch.core.continuity import MAX_RANGES, Continuity
from syncwatch.core.wire import Ack, Event

COUNTERS = (
    "live", "duplicates", "out_of_order", "missed", "recovered", "lost", "unaccounted", "late", "resets", "replayed", "bad_sequence",
    "implausible_jumps", "ack_early", "ack_unsolicited", "replay_short", "forgotten_ranges", "epoch",
)  # fmt: skip

numbers = st.integers(1, 40) | st.integers(1, 5000)
steps = st.one_of(
    st.tuples(st.just("next"), st.integers(1, 3)),
    st.tuples(st.just("number"), numbers),
    st.tuples(st.just("other"), numbers),
    st.tuples(st.just("row"), st.integers(1, 40)),
    st.tuples(st.just("bad"), st.integers(1, 3)),
    st.tuples(st.just("request"), st.integers(0, 0)),
    st.tuples(st.just("ack"), st.tuples(st.integers(-3, 50), st.integers(0, 30), st.booleans(), st.integers(0, 9))),
    st.tuples(st.just("honest"), st.booleans()),
    st.tuples(st.just("close"), st.integers(0, 0)),
    st.tuples(st.just("time"), st.sampled_from([0.5, 2.0, 3.0])),
    st.tuples(st.just("poison"), st.integers(0, 0)),
)


class Play:
    """A ledger, what it was told, and the checks after each step."""

    def __init__(self, max_jump: int = 1000, page_limit: int | None = 4) -> None:
        self.ledger = Continuity(max_jump=max_jump, page_limit=page_limit)
        self.now = 0.0
        self.attempt = 1
        self.ledger.opened(1)
        self.top = 0
        self.told = 0
        self.seen: set[int] = set()
        self.may_skip = False
        self.before = self.counts()
        self.cursor = self.ledger.cursor

    def counts(self) -> dict[str, int]:
        """Everything that only grows."""
        ledger = self.ledger
        found = {name: getattr(ledger, name) for name in COUNTERS}
        found |= {f"received {origin}": count for origin, count in ledger.received.items()}
        found |= {f"gaps {cause}": count for cause, count in ledger.gaps.items()}
        found["resyncs"] = sum(ledger.resyncs.values())
        return found

    def step(self, name: str, value: object) -> None:
        """One step of the script, then the checks."""
        self.may_skip = False
        epoch = self.ledger.epoch
        getattr(self, f"do_{name}")(value)
        self.check(epoch)

    def check(self, epoch: int) -> None:
        """The identities, the direction of counters, the cursor."""
        ledger = self.ledger
        assert ledger.missed == ledger.recovered + ledger.lost + ledger.unaccounted + ledger.missing
        assert self.told == ledger.live + sum(ledger.received.values()) + ledger.undecided + ledger.duplicates
        after = self.counts()
        assert not [name for name, count in after.items() if count < self.before[name]]
        self.before = after
        cursor = ledger.cursor
        if cursor is not None and self.cursor is not None and epoch == ledger.epoch:
            assert cursor >= self.cursor
            if not self.may_skip:
                assert set(range(self.cursor + 1, cursor + 1)) <= self.seen, "the cursor moved over a hole"
        if cursor is not None:
            assert cursor <= ledger.top
            assert not ledger.above or ledger.above.low > cursor + 1
            assert not ledger.confirmed or (cursor < ledger.confirmed.low and ledger.confirmed.high <= ledger.top)
        assert not [n for low, high in ledger.confirmed for n in (low, high) if n in ledger.above]
        assert ledger.missing or ledger.missing_since_s is None
        assert ledger.next_confirm_s == math.inf or ledger.proven
        self.cursor = cursor

    def event(self, key: str, number: int | None, **more: object) -> None:
        """Tell one event."""
        self.told += 1
        if number is not None:
            self.seen.add(number)
            self.top = max(self.top, number)
        time_s = None if number is None else 1000.0 + number
        self.ledger.event(self.now, Event(key, True, number, time_s=time_s, **more))  # type: ignore[arg-type]  # the struct's own fields
        self.settled(self.ledger.complete_early(self.now) is not None)

    def settled(self, settled: bool) -> None:
        """A settlement may move the cursor over holes; a page that is wanted is asked for."""
        self.may_skip = self.may_skip or settled
        if self.ledger.wants_page:
            self.ledger.request(self.now)

    def do_next(self, count: int) -> None:
        """In line."""
        for _ in range(count):
            self.event(f"m{self.top + 1}", self.top + 1)

    def do_number(self, number: int) -> None:
        """Any number, under its usual identity."""
        self.event(f"m{number}", number)

    def do_other(self, number: int) -> None:
        """Any number, under another identity."""
        self.event(f"x{number}", number)

    def do_row(self, number: int) -> None:
        """A database row."""
        self.event(f"m{number}", None, replayed=True, page_kind="channel")

    def do_bad(self, number: int) -> None:
        """A bad number."""
        self.event(f"bad{number}", None, bad_number=True)

    def do_request(self, _: int) -> None:
        """Unless one is open: then it must raise and change nothing."""
        if self.ledger.window is None:
            self.ledger.request(self.now)
            return
        picture = self.counts()
        with pytest.raises(RuntimeError, match="one request in flight"):
            self.ledger.request(self.now)
        assert picture == self.counts()

    def do_ack(self, shape: tuple[int, int, bool, int]) -> None:
        """Right for the open round one time out of two, anything else otherwise."""
        ahead, replayed, gap, wrong = shape
        window = self.ledger.window
        after = window.after if window is not None and wrong else 7
        current = max(0, (self.ledger.cursor or 0) + ahead)
        self.settled(self.ledger.acknowledged(self.now, Ack(after, current, replayed, gap)) is not None)

    def do_honest(self, gap: bool) -> None:
        """An acknowledgement that claims what came."""
        window = self.ledger.window
        if window is not None:
            ack = Ack(window.after, max(self.top, 0), len(window.frames) + window.store_frames, gap)
            self.settled(self.ledger.acknowledged(self.now, ack) is not None)

    def do_close(self, _: int) -> None:
        """The next connection opens."""
        self.ledger.closed(self.now)
        self.attempt += 1
        self.ledger.opened(self.attempt)

    def do_time(self, seconds: float) -> None:
        """Graces end."""
        self.now += seconds
        self.settled(self.ledger.give_up_waiting(self.now) is not None)
        self.ledger.confirm_due(self.now)
        assert self.ledger.next_confirm_s > self.now

    def do_poison(self, _: int) -> None:
        """A frame that can never be read."""
        self.may_skip = True
        self.ledger.step_over(self.now)


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=60))
def test_any_script_keeps_the_books(script: list[tuple[str, object]]) -> None:
    """After every step: the identity of numbers, the identity of first copies, counters that never fall, a cursor that moves over seen
    numbers only unless something settled, holes that are not seen, and no grace that is over."""
    play = Play()
    for name, value in script:
        play.step(name, value)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 2**53 - 1), max_size=30), st.booleans())
def test_jumps_cost_ranges_not_entries(jumps: list[int], confirm: bool) -> None:
    """However far: what is kept grows with events, not with numbers; and an acknowledgement of the largest number is paid with one range."""
    play = Play(max_jump=2**53 if confirm else 100_000, page_limit=None)
    for jump in jumps:
        play.step("number", jump)
        play.step("time", 2.0)
    play.step("request", 0)
    play.step("ack", (2**53 - 1 - (play.ledger.cursor or 0), 0, False, 1))
    play.step("time", 2.0)
    ledger = play.ledger
    kept = len(ledger.above) + len(ledger.confirmed) + len(ledger.overtaken())
    assert kept <= 3 * (len(jumps) + 2)


class TestCaps:
    def test_ranges_are_capped_and_the_forgotten_counted(self) -> None:
        """The lowest hole is given up, visibly, when there are more than the cap."""
        play = Play(page_limit=None)
        self.scattered_skipping(play, MAX_RANGES + 100)
        ledger = play.ledger
        assert len(ledger.above) <= MAX_RANGES
        assert 99 <= ledger.forgotten_ranges <= 101
        assert ledger.forgotten_ranges == ledger.lost

    def scattered_skipping(self, play: Play, count: int) -> None:
        """The cap itself moves the cursor over a hole."""
        for number in range(1, 2 * count, 2):
            play.may_skip = False
            play.do_number(number)
            play.may_skip = True
            play.check(play.ledger.epoch)

    def test_nothing_grows_while_nothing_may_be_confirmed(self) -> None:
        """An unproven connection, no round open, numbers skipped for hours: still bounded."""
        play = Play(page_limit=None)
        play.step("next", 3)
        play.step("close", 0)
        assert not play.ledger.proven
        self.scattered_skipping(play, 4 * MAX_RANGES)
        ledger = play.ledger
        assert not ledger.proven
        assert len(ledger.above) <= MAX_RANGES
        assert len(ledger._overtaken) <= MAX_RANGES + 1

    def test_given_up_numbers_are_forgotten_at_the_cap(self) -> None:
        """What comes later than that is out of order, not late; the forgetting is counted."""
        play = Play(page_limit=None)
        for start in range(1, 6 * MAX_RANGES, 4):
            play.step("number", start)
            play.step("time", 2.0)
            if start % (4 * 250) == 1:
                play.step("request", 0)
                play.step("ack", (play.top - (play.ledger.cursor or 0), 0, True, 1))
                play.step("time", 2.0)
        ledger = play.ledger
        assert len(ledger._given_up) <= MAX_RANGES
        assert ledger.missed == ledger.lost + ledger.missing
        assert ledger.forgotten_ranges > 0

    def test_suspects_are_capped(self) -> None:
        """A peer that sends a hundred thousand implausible numbers costs no more than the cap."""
        play = Play(max_jump=10, page_limit=None)
        play.step("next", 1)
        for number in range(1000, 1000 + 4 * MAX_RANGES, 2):
            play.do_number(number)
        assert len(play.ledger._suspects) <= MAX_RANGES
        assert 1 == play.ledger.cursor


class Honest:
    """A server with a ring, and the wire between: what is sent may not arrive, what is answered is whole."""

    def __init__(self, ring: int) -> None:
        self.play = Play(max_jump=100_000, page_limit=None)
        self.ring_size = ring
        self.counter = 0
        self.connected = True

    def push(self, delivered: bool) -> None:
        """One event, delivered live or not."""
        self.counter += 1
        if delivered and self.connected:
            self.play.step("number", self.counter)

    def reconnect(self) -> None:
        """Drop, and resume with the whole answer."""
        play = self.play
        play.step("close", 0)
        if play.ledger.cursor is None:
            return
        self.resume()

    def resume(self) -> None:
        """A request and its answer."""
        play = self.play
        after, _ = play.ledger.request(play.now)
        oldest = max(1, self.counter - self.ring_size + 1)
        replay = [number for number in range(oldest, self.counter + 1) if number > after]
        gap = after < self.counter and after < oldest - 1
        for number in replay:
            play.step("number", number)
        play.settled(play.ledger.acknowledged(play.now, Ack(after, self.counter, len(replay), gap)) is not None)
        play.may_skip = True
        play.check(play.ledger.epoch)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["push", "push", "push", "miss", "reconnect", "time"]), st.integers(1, 12)), max_size=40),
    st.integers(1, 30),
)
def test_an_honest_server_is_accounted_for_to_the_last_event(script: list[tuple[str, int]], ring: int) -> None:
    """Events that come, events that do not, reconnects anywhere: each number from the first on is a first copy once or lost once; what the
    ring still held is recovered; nothing is duplicated into the counts, nothing is a reset, and the cursor ends where the server stands."""
    server = Honest(ring)
    server.push(delivered=True)
    for name, count in script:
        if name == "reconnect":
            server.reconnect()
        elif name == "time":
            server.play.step("time", float(count))
        else:
            for _ in range(count):
                server.push(delivered=name == "push")
    server.resume()
    ledger = server.play.ledger
    assert (server.counter, 0, 0) == (ledger.cursor, ledger.resets, ledger.missing)
    firsts = ledger.live + sum(ledger.received.values())
    assert server.counter == firsts + ledger.lost
    assert (0, 0, 0) == (ledger.unaccounted, ledger.late, ledger.undecided)
    assert all(claim != "none" and verdict == "verified" for claim, verdict in ledger.resyncs)
    if ring >= server.counter:
        assert 0 == ledger.lost

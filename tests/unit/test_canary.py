"""The end-to-end canary on its own: writes, arrivals, refusals, and the setup of its place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncwatch.core.canary import REMEMBERED, Canary, Fate
from syncwatch.core.effects import Answer, Effect, Poll, Refused
from syncwatch.core.wire import Request


class Codec:
    """Writes to paths that say what they are; the answer's body is the server's time."""

    def canary(self, mark: str) -> Request:
        """The write."""
        return Request(f"post/{mark}", method="POST")

    def canary_setup(self) -> Sequence[Request]:
        """Two steps."""
        return (Request("create", method="POST"), Request("join", method="POST"))

    def canary_time_s(self, body: bytes) -> float | None:
        """The body is a number, or nothing."""
        return float(body) if body else None


CREATED = Answer(201)
MISSING = Answer(404)


class Bird:
    """A canary on an open connection, driven by hand: interval 60 s, timeout 20 s, first write at 0."""

    def __init__(self, interval_s: float = 60.0, timeout_s: float = 20.0) -> None:
        self.canary = Canary(Codec(), interval_s, timeout_s)
        self.canary.opened(0.0, chance=0.0)
        self.polls: list[Poll] = []
        self.serial = 0

    def tick(self, now: float) -> int:
        """Returns how many timed out."""
        self.serial += 1
        effects, timed_out = self.canary.tick(now, f"{self.serial:016x}")
        self._take(effects)
        return timed_out

    def answer(self, now: float, answer: Answer | Refused, offset_s: float = 0.0) -> None:
        """The answer to the oldest unanswered poll."""
        self._take(self.canary.polled(now, offset_s, self.polls.pop(0).poll_id, answer))

    def asked(self) -> list[str]:
        """What is unanswered."""
        return [poll.request.url.partition("/")[0] for poll in self.polls]

    def frame(self, back: int = 1) -> bytes:
        """A frame that carries the newest mark, or one `back` before."""
        return b'{"text":"%s"}' % f"syncwatch-canary-{self.serial - back + 1:016x}".encode()

    def counts(self) -> tuple[int, int, int, int, int, int]:
        """sent, received, timed out, late, duplicate, failed."""
        picture = self.canary.snapshot()
        return picture.sent, picture.received, picture.timed_out, picture.late, picture.duplicate, picture.failed

    def _take(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, Poll)
            self.polls.append(effect)


def written() -> Bird:
    """One canary written at 0 and accepted."""
    bird = Bird()
    bird.tick(0.0)
    bird.answer(0.1, CREATED)
    return bird


class TestTheWay:
    def test_a_canary_that_comes_back_is_received_with_its_round_trip(self) -> None:
        """From the write to its sight on the live connection."""
        bird = written()
        assert Fate.RECEIVED is bird.canary.seen(0.25, bird.frame())
        assert (1, 1, 0, 0, 0, 0) == bird.counts()
        assert 0.25 == bird.canary.snapshot().round_trip.sum

    def test_it_may_come_before_the_answer_to_the_write(self) -> None:
        """The frame can beat the 201."""
        bird = Bird()
        bird.tick(0.0)
        assert Fate.RECEIVED is bird.canary.seen(0.05, bird.frame())
        bird.answer(0.1, CREATED)
        assert (1, 1, 0, 0, 0, 0) == bird.counts()

    def test_the_write_asks_for_no_longer_than_it_waits(self) -> None:
        """One HTTP request, bounded by the canary's own timeout."""
        bird = Bird()
        bird.tick(0.0)
        assert [20.0] == [poll.timeout_s for poll in bird.polls]

    def test_not_seen_in_time_is_timed_out_and_later_late(self) -> None:
        """lost = timed out - late: the one that came after all is not lost, and has no round trip."""
        bird = written()
        assert 20.0 == bird.canary.deadline
        assert (0, 1) == (bird.tick(19.99), bird.tick(20.0))
        assert Fate.TIMED_OUT is bird.canary.seen(25.0, bird.frame(back=3))
        assert (1, 0, 1, 1, 0, 0) == bird.counts()
        assert 0 == bird.canary.snapshot().round_trip.cumulative[-1]

    def test_a_second_sight_is_a_duplicate(self) -> None:
        """Also of one that came late."""
        bird = written()
        bird.canary.seen(0.2, bird.frame())
        assert None is bird.canary.seen(0.3, bird.frame())
        assert (1, 1, 0, 0, 1, 0) == bird.counts()

    def test_frames_without_a_mark_of_ours_mean_nothing(self) -> None:
        """Neither other traffic nor another sidecar's canary."""
        bird = written()
        assert None is bird.canary.seen(0.2, b'{"text":"hello"}')
        assert None is bird.canary.seen(0.2, b'{"text":"syncwatch-canary-ffffffffffffffff"}')
        assert (1, 0, 0, 0, 0, 0) == bird.counts()

    def test_one_each_interval_while_the_connection_is_open(self) -> None:
        """The first is spread over at most 5 s; none between two connections; no burst after one."""
        canary = Canary(Codec(), 60.0, 20.0)
        assert math.inf == canary.deadline
        canary.opened(100.0, chance=0.5)
        assert 102.5 == canary.deadline
        canary.opened(101.0, chance=0.9)
        assert 102.5 == canary.deadline  # caught up again on the same connection: the plan stands
        bird = written()
        bird.canary.closed()
        bird.tick(500.0)
        assert (1, math.inf) == (bird.counts()[0], bird.canary.deadline)
        bird.canary.opened(600.0, chance=0.0)
        bird.tick(600.0)
        assert (2, 620.0) == (bird.counts()[0], bird.canary.deadline)

    def test_a_short_interval_spreads_within_itself(self) -> None:
        """A canary each second does not wait for five."""
        canary = Canary(Codec(), 1.0, 20.0)
        canary.opened(0.0, chance=0.5)
        assert 0.5 == canary.deadline


class TestRefusals:
    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            (Answer(500), "HTTP 500"),
            (Answer(403), "HTTP 403"),
            (Answer(302), "HTTP 302"),
            (Refused("dns", "no such host"), "dns: no such host"),
        ],
    )
    def test_a_refused_write_failed_and_is_not_lost(self, answer: Answer | Refused, told: str) -> None:
        """What was not written cannot time out."""
        bird = Bird()
        bird.tick(0.0)
        bird.answer(0.1, answer)
        assert 0 == bird.tick(30.0)
        assert ((1, 0, 0, 0, 0, 1), told) == (bird.counts(), bird.canary.failure)

    def test_retry_after_postpones_the_next_one(self) -> None:
        """Bounded by an hour, never earlier than planned."""
        for asked, due_s in ((200.0, 200.5), (5.0, 60.0), (1e9, 3600.5)):
            bird = Bird()
            bird.tick(0.0)
            bird.answer(0.5, Answer(429, retry_after_s=asked))
            assert due_s == bird.canary.deadline

    def test_an_answer_to_nothing_we_asked_is_ignored(self) -> None:
        """Unknown or repeated ids change nothing."""
        bird = written()
        assert [] == bird.canary.polled(1.0, 0.0, 1, Answer(500))
        assert [] == bird.canary.polled(1.0, 0.0, 99, Answer(500))
        assert (1, 0, 0, 0, 0, 0) == bird.counts()


class TestSetup:
    def test_a_missing_place_is_made_and_the_write_repeated(self) -> None:
        """404: create, join, write again; one canary, sent once, and its time begins with the write that was made."""
        bird = Bird()
        bird.tick(0.0)
        asked = []
        for now, answer in ((1.0, MISSING), (2.0, CREATED), (15.0, Answer(200)), (30.0, CREATED)):
            bird.answer(now, answer)
            asked += bird.asked()
        assert ["create", "join", "post"] == asked
        assert (0, 35.0) == (bird.tick(30.0), bird.canary.deadline)
        assert Fate.RECEIVED is bird.canary.seen(30.5, bird.frame(back=2))
        assert (1, 1, 0, 0, 0, 0) == bird.counts()
        assert 15.5 == bird.canary.snapshot().round_trip.sum

    def test_steps_that_were_done_before_are_done(self) -> None:
        """409 for the channel that exists; anything below 500 goes on."""
        bird = Bird()
        bird.tick(0.0)
        for answer in (MISSING, Answer(409), Answer(200), CREATED):
            bird.answer(0.1, answer)
        assert (1, 0, 0, 0, 0, 0) == bird.counts()
        assert [] == bird.asked()

    @pytest.mark.parametrize("answers", [[Answer(500)], [Refused("timeout")], [CREATED, Answer(503)], [CREATED, CREATED, MISSING]])
    def test_a_setup_that_does_not_help_is_a_failure(self, answers: list[Answer | Refused]) -> None:
        """Once: the next canary may try again."""
        bird = Bird()
        bird.tick(0.0)
        bird.answer(0.1, MISSING)
        for answer in answers:
            bird.answer(0.2, answer)
        assert ((1, 0, 0, 0, 0, 1), []) == (bird.counts(), bird.asked())
        bird.tick(60.0)
        bird.answer(60.1, MISSING)
        assert ["create"] == bird.asked()

    def test_another_refusal_during_the_setup_does_not_disturb_it(self) -> None:
        """Two canaries under way: the second's 404 is its own."""
        bird = Bird(interval_s=1.0)
        bird.tick(0.0)
        bird.answer(0.5, MISSING)
        bird.tick(1.0)
        assert ["create", "post"] == bird.asked()
        setup = bird.polls.pop(0)
        bird.answer(1.1, MISSING)
        bird.polls.append(setup)
        bird.answer(1.2, CREATED)
        bird.answer(1.3, CREATED)
        assert ["post"] == bird.asked()
        bird.answer(1.4, CREATED)
        assert (2, 0, 0, 0, 0, 1) == bird.counts()
        assert Fate.RECEIVED is bird.canary.seen(1.5, bird.frame(back=2))

    def test_without_a_connection_nothing_is_set_up(self) -> None:
        """It acts only while the connection is open: the refused write failed, and that is all."""
        bird = Bird()
        bird.tick(0.0)
        bird.canary.closed()
        bird.answer(0.1, MISSING)
        assert ((1, 0, 0, 0, 0, 1), []) == (bird.counts(), bird.asked())
        bird = Bird()
        bird.tick(0.0)
        bird.answer(0.1, MISSING)
        bird.canary.closed()
        bird.answer(0.2, CREATED)
        assert ((1, 0, 0, 0, 0, 1), []) == (bird.counts(), bird.asked())


class TestClock:
    def test_the_servers_stamp_gives_the_clock_offset(self) -> None:
        """Server minus ours, taking the stamp to be half way between write and answer."""
        bird = Bird()
        bird.tick(0.0)
        bird.answer(0.5, Answer(201, b"1000.75"), offset_s=1000.0)
        assert 0.5 == bird.canary.clock_offset_s

    def test_a_setup_in_between_does_not_count_as_way(self) -> None:
        """The write that was stamped is the repeated one."""
        bird = Bird()
        bird.tick(0.0)
        for answer in (MISSING, CREATED, CREATED):
            bird.answer(10.0, answer)
        bird.answer(10.5, Answer(201, b"1010.25"), offset_s=1000.0)
        assert 0.0 == bird.canary.clock_offset_s

    def test_an_answer_that_does_not_tell_leaves_it_unknown(self) -> None:
        """Absent, not zero."""
        assert None is written().canary.clock_offset_s


class TestMemory:
    def test_what_was_decided_is_forgotten_first_and_bounded(self) -> None:
        """A canary of long ago that comes again is no duplicate any more."""
        bird = Bird(interval_s=1.0)
        for now in range(100):
            bird.tick(float(now))
            bird.canary.seen(float(now), bird.frame())
        bird.canary.seen(100.0, bird.frame(back=REMEMBERED))
        bird.canary.seen(100.0, bird.frame(back=REMEMBERED + 1))
        assert (100, 100, 0, 0, 1, 0) == bird.counts()

    def test_what_still_waits_is_never_forgotten(self) -> None:
        """Fifty under way at once: each is received or times out."""
        bird = Bird(interval_s=1.0, timeout_s=50.0)
        timed_out = sum(bird.tick(float(now)) for now in range(120))
        assert (120, 70) == (bird.counts()[0], timed_out)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(["time", "seen", "answer", "close", "open"]), st.integers(0, 9)), max_size=80))
    def test_every_canary_is_counted_once(self, script: list[tuple[str, int]]) -> None:
        """sent = received + timed out + failed + waiting, late never exceeds timed out, and a tick leaves no deadline in the past."""
        bird, now = Bird(interval_s=2.0, timeout_s=5.0), 0.0
        answers: list[Answer | Refused] = [CREATED, MISSING, Answer(409), Answer(500), Refused("timeout"), Answer(429, retry_after_s=7.0)]
        for name, value in script:
            if name == "time":
                now += value
                bird.tick(now)
                assert bird.canary.deadline > now
            elif name == "seen":
                bird.canary.seen(now, bird.frame(back=value))
            elif name == "answer" and bird.polls:
                bird.polls = bird.polls[value % len(bird.polls) :] + bird.polls[: value % len(bird.polls)]
                bird.answer(now, answers[value % len(answers)])
            elif name == "close":
                bird.canary.closed()
            elif name == "open":
                bird.canary.opened(now, value / 10)
            sent, received, timed_out, late, _, failed = bird.counts()
            waiting = sum(shot.fate is Fate.WAITING for shot in bird.canary._shots)
            assert sent == received + timed_out + failed + waiting
            assert late <= timed_out


class TestConfigure:
    def test_a_changed_canary_keeps_what_it_counted_and_waits_for(self) -> None:
        """A shorter interval counts from now; the timeout is the new one, also for what is under way."""
        bird = written()
        bird.canary.configure(Canary(Codec(), 30.0, 5.0))
        bird.canary.hasten(2.0)
        assert 5.0 == bird.canary.deadline
        assert Fate.RECEIVED is bird.canary.seen(3.0, bird.frame())
        assert (1, 1, 0, 0, 0, 0) == bird.counts()
        assert 32.0 == bird.canary.deadline

    def test_a_longer_interval_takes_nothing_back(self) -> None:
        """The next one was promised."""
        bird = written()
        bird.canary.seen(0.2, bird.frame())
        bird.canary.configure(Canary(Codec(), 600.0, 5.0))
        bird.canary.hasten(2.0)
        assert 60.0 == bird.canary.deadline

    def test_a_server_that_asked_for_patience_gets_it(self) -> None:
        """A change of the configuration is no way around a Retry-After."""
        bird = Bird()
        bird.tick(0.0)
        bird.answer(1.0, Answer(429, retry_after_s=300.0))
        bird.canary.configure(Canary(Codec(), 30.0, 5.0))
        bird.canary.hasten(2.0)
        assert 301.0 == bird.canary.deadline

    def test_a_new_connection_is_no_way_around_a_retry_after(self) -> None:
        """The server asked the writer for patience, not the socket."""
        bird = Bird()
        bird.tick(0.0)
        bird.answer(1.0, Answer(429, retry_after_s=300.0))
        bird.canary.closed()
        bird.canary.opened(5.0, chance=0.5)
        assert 301.0 == bird.canary.deadline

    def test_while_closed_nothing_is_due(self) -> None:
        """Neither before nor after."""
        canary = Canary(Codec(), 60.0, 20.0)
        canary.configure(Canary(Codec(), 30.0, 5.0))
        canary.hasten(2.0)
        assert math.inf == canary.deadline


def test_the_log_is_measured_apart() -> None:
    """A canary read in a page of the log counts there once, whatever became of it on the live path."""
    bird = Bird()
    bird.tick(0.0)
    page = b'[{"correlationId":"' + bird.frame() + b'"}]'
    bird.canary.read(5.0, b"[]")
    bird.canary.read(6.0, page)
    bird.canary.read(9.0, page)
    picture = bird.canary.snapshot()
    assert (1, 6.0, 0) == (picture.logged, picture.log_delay_s, picture.received)
    assert 1 == bird.tick(20.0)
    assert (1, 1) == (bird.canary.snapshot().timed_out, bird.canary.snapshot().logged)

"""One service's machine: when it asks, what every kind of answer means, and that nothing is known before somebody answered."""

from __future__ import annotations

import math
import random
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.effects import Answer, Effects, Notice, Poll, Refused
from syncwatch.core.health import Component, Condition, Reason
from syncwatch.core.service import SEARCHED_BYTES, Service, ServiceSettings
from syncwatch.core.snapshot import Moment, ServiceLifetimeSnapshot, ServiceSnapshot
from syncwatch.core.states import AttemptFailure, ProbeFailure
from syncwatch.core.wire import Request

WALL_S = 1_795_180_000.0
URL = "http://127.0.0.1:9926/health"
OK, BROKEN = Answer(200), Answer(500)


class Middle:
    """Chance that never spreads: pauses are as configured, the start is in the middle."""

    def random(self) -> float:
        return 0.5


class Desk:
    """A started service, asked once its time has come; its server is played by the test. The start was at 100."""

    def __init__(self, entropy: random.Random | Middle | None = None, **settings: object) -> None:
        self.service = Service("flair", ServiceSettings(URL, **settings), entropy or Middle(), "http://127.0.0.1:9926")  # type: ignore[arg-type]  # the struct's own fields
        self.now = 100.0
        self.told: list[tuple[object, object]] = []
        self.service.wall(self.now, WALL_S - 100.0)
        self.take(self.service.start(self.now))

    def take(self, effects: Effects) -> list[Poll]:
        polls = [effect for effect in effects if isinstance(effect, Poll)]
        for effect in effects:
            if not isinstance(effect, Poll):
                assert (Notice.SERVICE, "flair") == (effect.notice, effect.fields["service"])  # type: ignore[union-attr]  # a Notify
                self.told.append((effect.fields["result"], effect.fields["reason"]))  # type: ignore[union-attr]
        seen = self.seen
        healthy = seen.duration.cumulative[-1] - sum(seen.failures.values())
        assert seen.probes == sum(seen.failures.values()) + healthy
        return polls

    def due(self) -> Poll:
        """Let its time come; the probe."""
        assert self.service.deadline > self.now
        assert () == self.service.tick(self.now), "not before its time"
        self.now = self.service.deadline
        (poll,) = self.take(self.service.tick(self.now))
        return poll

    def answer(self, answer: Answer | Refused, after_s: float = 0.01) -> None:
        """The next probe, answered."""
        poll = self.due()
        self.now += after_s
        self.take(self.service.polled(self.now, poll.poll_id, answer))

    @property
    def seen(self) -> ServiceSnapshot:
        return self.service.snapshot()

    @property
    def pause_s(self) -> float:
        """From the beginning of the last probe to the next one, when it was answered at once."""
        return self.service.deadline - self.now


def test_the_probe() -> None:
    """A GET of the URL, with its timeout; the body is asked for only where something is expected in it."""
    assert Poll(1, Request(URL), 5.0, 0) == Desk().due()
    assert Poll(1, Request(URL), 2.0, SEARCHED_BYTES) == Desk(timeout_s=2.0, expect_body=re.compile("ok")).due()


def test_nothing_is_known_before_the_first_answer() -> None:
    """Neither well nor unwell, no time counts, everything that can be counted is 0."""
    desk = Desk()
    desk.due()
    seen = desk.seen
    assert (None, None, None, None, None, 0) == (seen.healthy, seen.since, seen.last_probe, seen.last_healthy, seen.last_failure, seen.probes)
    assert dict.fromkeys(ProbeFailure, 0) == seen.failures
    assert (False, False, ()) == (desk.service.active, desk.service.settled_once, desk.service.reasons(desk.now))
    assert (Component.SERVICE, (Reason.SERVICE_UNHEALTHY,)) == (desk.service.component, desk.service.possible_reasons)


def test_the_regular_schedule() -> None:
    """At the start, then every interval; every retry interval while unhealthy; counted from the beginning of each probe."""
    desk = Desk(interval_s=300.0, retry_interval_s=30.0)
    assert 102.5 == desk.service.deadline
    for answer, pause_s in ((OK, 300.0), (BROKEN, 30.0), (BROKEN, 30.0), (OK, 300.0)):
        desk.answer(answer, after_s=1.0)
        assert pytest.approx(pause_s - 1.0) == desk.pause_s
        assert pytest.approx(desk.service.deadline) == desk.seen.next_probe_now_s


def test_a_probe_that_took_longer_than_the_pause_is_followed_at_once() -> None:
    """But never joined by a second one."""
    desk = Desk(retry_interval_s=1.0, timeout_s=5.0)
    poll = desk.due()
    assert desk.seen.next_probe_now_s is None
    desk.now += 5.0
    desk.take(desk.service.polled(desk.now, poll.poll_id, Refused(AttemptFailure.TIMEOUT, "slow")))
    assert desk.now == desk.service.deadline


@given(st.integers(0, 2**32), st.floats(0.1, 3600.0))
def test_a_fleet_is_spread(seed: int, interval_s: float) -> None:
    """The first probe comes within 5 s or a tenth of the interval, every other one a tenth earlier or later."""
    desk = Desk(random.Random(seed), interval_s=interval_s)
    assert 0.0 <= desk.service.deadline - 100.0 <= min(5.0, interval_s / 10.0)
    for _ in range(3):
        desk.now = desk.service.deadline
        (poll,) = desk.take(desk.service.tick(desk.now))
        desk.take(desk.service.polled(desk.now, poll.poll_id, OK))
        assert 0.9 * interval_s - 1e-6 <= desk.pause_s <= 1.1 * interval_s + 1e-6
        assert desk.pause_s <= desk.service.interval_s + 1e-6


def test_a_hundred_that_start_together_do_not_ask_together() -> None:
    """Neither at the start nor when what they all ask is down."""
    desks = [Desk(random.Random(seed)) for seed in range(100)]
    starts = [desk.service.deadline for desk in desks]
    assert max(sum(one <= other < one + 1.0 for other in starts) for one in starts) < 40
    for desk in desks:
        desk.answer(Refused(AttemptFailure.REFUSED, "nobody listens"))
    retries = [desk.service.deadline for desk in desks]
    assert max(sum(one <= other < one + 1.0 for other in retries) for one in retries) < 40


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (Refused(AttemptFailure.REFUSED, "the server: connection refused (ECONNREFUSED)"), ProbeFailure.REFUSED, "connection refused"),
        (Refused(AttemptFailure.UNREACHABLE, "no route"), ProbeFailure.REFUSED, "no route"),
        (Refused(AttemptFailure.PROTOCOL, "the connection ended before the answer"), ProbeFailure.REFUSED, "before the answer"),
        (Refused(AttemptFailure.DNS, "no such name"), ProbeFailure.DNS, "no such name"),
        (Refused(AttemptFailure.TLS, "certificate refused"), ProbeFailure.TLS, "certificate refused"),
        (Refused(AttemptFailure.TIMEOUT, "not within 5 s"), ProbeFailure.TIMEOUT, "not within 5 s"),
        (Refused(AttemptFailure.TIMEOUT), ProbeFailure.TIMEOUT, "timeout"),
        (Answer(400), ProbeFailure.STATUS, "HTTP 400"),
        (Answer(503, retry_after_s=3600.0), ProbeFailure.STATUS, "HTTP 503"),
    ],
    ids=str,
)
def test_every_failure(answer: Answer | Refused, expected: ProbeFailure, words: str) -> None:
    """One reason each, a sentence, and the next probe after the retry interval, whatever the server asks for."""
    desk = Desk()
    desk.answer(answer)
    seen = desk.seen
    assert {expected: 1} == {reason: count for reason, count in seen.failures.items() if count}
    assert seen.healthy is False
    assert words in str(seen.last_failure)
    assert pytest.approx(29.99) == desk.pause_s


@pytest.mark.parametrize("status", [200, 204, 301, 302, 399])
def test_healthy_is_below_400(status: int) -> None:
    """A redirect is an answer, and is not followed."""
    desk = Desk()
    desk.answer(Answer(status))
    assert (True, None, 1) == (desk.seen.healthy, desk.seen.last_failure, desk.seen.probes)


def test_an_expected_status_is_the_only_one() -> None:
    """Also where it is one that would else be a failure."""
    desk = Desk(expect_status=401)
    desk.answer(Answer(401))
    assert desk.seen.healthy is True
    desk.answer(Answer(200))
    assert (ProbeFailure.STATUS, "HTTP 200, not 401") == (desk.told[-1][1], desk.seen.last_failure)


@pytest.mark.parametrize(
    ("expression", "body", "healthy"),
    [
        ("ok", b'{"status":"ok"}', True),
        ("^ok$", b"not ok", False),
        ("ok", b"", False),
        ("grün", "alles grün".encode(), True),
        ("ok", b"\xff\xfe ok", True),
        ("end", b"x" * (SEARCHED_BYTES - 3) + b"end", True),
        ("end", b"x" * SEARCHED_BYTES + b"end", False),
    ],
)
def test_an_expected_body(expression: str, body: bytes, healthy: bool) -> None:
    """Searched for in the beginning of the body, read as UTF-8; what is no UTF-8 does no harm."""
    desk = Desk(expect_body=re.compile(expression))
    desk.answer(Answer(200, body))
    assert healthy is desk.seen.healthy
    assert int(not healthy) == desk.seen.failures[ProbeFailure.BODY]


def test_where_a_body_was_searched_is_said() -> None:
    """The status counts first; a long body was not read to its end."""
    desk = Desk(expect_body=re.compile("ok"))
    desk.answer(Answer(500, b"ok"))
    assert "HTTP 500" == desk.seen.last_failure
    desk.answer(Answer(200, b"no"))
    assert "HTTP 200, and expect_body is not found in the body" == desk.seen.last_failure
    desk.answer(Answer(200, b"x" * SEARCHED_BYTES))
    assert "HTTP 200, and expect_body is not found in the first 16384 bytes of the body" == desk.seen.last_failure


def test_failure_and_recovery() -> None:
    """Unhealthy since the first failure, told once per reason; the last healthy probe is remembered through all of it."""
    desk = Desk()
    desk.answer(OK)
    healthy = desk.seen.last_healthy
    assert (healthy, healthy) == (desk.seen.since, desk.seen.last_probe)
    desk.answer(BROKEN)
    began = desk.seen.since
    assert began is not None
    for answer in (BROKEN, Refused(AttemptFailure.TIMEOUT, "slow"), Refused(AttemptFailure.TIMEOUT, "slow")):
        desk.answer(answer)
        assert (began, healthy) == (desk.seen.since, desk.seen.last_healthy)
        assert (Condition(Reason.SERVICE_UNHEALTHY, began.now_s),) == desk.service.reasons(desk.now)
    desk.answer(OK)
    assert () == desk.service.reasons(desk.now)
    assert desk.seen.since == desk.seen.last_healthy == Moment(desk.now, WALL_S + desk.now - 100.0)
    assert [("healthy", None), ("unhealthy", "status"), ("unhealthy", "timeout"), ("healthy", None)] == desk.told
    assert (6, 2, 2) == (desk.seen.probes, desk.seen.failures[ProbeFailure.STATUS], desk.seen.failures[ProbeFailure.TIMEOUT])


def test_how_long_it_took() -> None:
    """Failed probes included."""
    desk = Desk()
    desk.answer(OK, after_s=0.003)
    desk.answer(Refused(AttemptFailure.TIMEOUT, "slow"), after_s=5.001)
    assert 2 == desk.seen.duration.cumulative[-1]
    assert pytest.approx(5.004) == desk.seen.duration.sum


def test_a_call_that_never_ends_is_given_up() -> None:
    """After twice the timeout and a little; the answer that comes after all is ignored."""
    desk = Desk(timeout_s=5.0)
    poll = desk.due()
    desk.now = desk.service.deadline
    assert pytest.approx(15.0) == desk.now - 102.5
    desk.take(desk.service.tick(desk.now))
    assert (1, "the call never ended") == (desk.seen.failures[ProbeFailure.TIMEOUT], desk.seen.last_failure)
    assert () == desk.service.polled(desk.now, poll.poll_id, OK)
    assert desk.seen.healthy is False


def test_a_stale_answer_is_ignored() -> None:
    """While the next probe is under way."""
    desk = Desk()
    desk.answer(OK)
    poll = desk.due()
    assert () == desk.service.polled(desk.now, poll.poll_id - 1, BROKEN)
    assert (True, 1) == (desk.seen.healthy, desk.seen.probes)


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_clock_that_steps(step_s: float) -> None:
    """Stamps follow the wall clock, ages and schedule do not."""
    desk = Desk()
    desk.answer(OK)
    before = desk.service.deadline
    desk.service.wall(desk.now, WALL_S - 100.0 + step_s)
    assert before == desk.service.deadline
    desk.answer(OK)
    assert Moment(desk.now, WALL_S - 100.0 + desk.now + step_s) == desk.seen.last_probe
    assert pytest.approx(0.02) == desk.seen.duration.sum


def test_stop() -> None:
    """No further probe, no health, and the answer to the last one is ignored."""
    desk = Desk()
    desk.answer(BROKEN)
    poll = desk.due()
    assert () == desk.service.stop(desk.now)
    assert (math.inf, False, ()) == (desk.service.deadline, desk.service.active, desk.service.reasons(desk.now))
    assert () == desk.service.polled(desk.now, poll.poll_id, OK)
    assert () == desk.service.tick(desk.now + 1e6)
    assert 1 == desk.seen.probes
    assert () == desk.service.configure(desk.now, ServiceSettings(URL, expect_status=200))
    assert math.inf == desk.service.deadline


def configured(desk: Desk, **changes: object) -> None:
    """New settings for the same URL."""
    desk.take(desk.service.configure(desk.now, msgspec.structs.replace(desk.service.settings, **changes)))


def test_new_intervals_are_counted_from_the_last_probe() -> None:
    """A shorter one that has passed already asks at once; counters go on."""
    desk = Desk(interval_s=300.0)
    desk.answer(OK)
    configured(desk, interval_s=100.0)
    assert pytest.approx(99.99) == desk.pause_s
    desk.now += 50.0
    configured(desk, interval_s=10.0)
    assert desk.now == desk.service.deadline
    assert (1, True) == (desk.seen.probes, desk.seen.healthy)


def test_new_intervals_wait_for_the_probe_under_way() -> None:
    """And before the first one nothing is moved."""
    desk = Desk(timeout_s=5.0)
    configured(desk, interval_s=60.0)
    assert 102.5 == desk.service.deadline
    poll = desk.due()
    configured(desk, timeout_s=1.0)
    desk.take(desk.service.polled(desk.now, poll.poll_id, OK))
    assert pytest.approx(60.0) == desk.pause_s


def test_new_expectations_are_asked_about_soon() -> None:
    """The old verdict stands until then, and a probe under way, which was about the old ones, does not count."""
    desk = Desk()
    desk.answer(OK)
    configured(desk, expect_body=re.compile("ok"))
    assert pytest.approx(2.5) == desk.pause_s
    poll = desk.due()
    assert SEARCHED_BYTES == poll.enough_bytes
    configured(desk, expect_body=None, expect_status=204)
    assert () == desk.service.polled(desk.now, poll.poll_id, Answer(200, b"no"))
    assert (1, True) == (desk.seen.probes, desk.seen.healthy)
    desk.answer(OK)
    assert (2, False, "HTTP 200, not 204") == (desk.seen.probes, desk.seen.healthy, desk.seen.last_failure)


def test_what_is_kept_goes_on_in_the_next_process() -> None:
    """When it was last healthy, and how often it was asked, with how many failures; counters begin at 0 all the same."""
    desk = Desk()
    desk.answer(OK)
    desk.answer(BROKEN)
    healthy = desk.seen.last_healthy
    assert healthy is not None
    record = desk.service.record()
    assert record is not None
    assert (WALL_S, 2, 1, healthy.wall_s) == (record.since_wall_s, record.probes, record.failures, record.last_healthy_wall_s)
    again = Service("flair", ServiceSettings(URL), Middle(), "", record)
    again.wall(7.0, healthy.wall_s + 60.0 - 7.0)
    seen = again.snapshot()
    assert (0, None, Moment(-53.0, healthy.wall_s)) == (seen.probes, seen.healthy, seen.last_healthy)
    assert seen.lifetime is not None
    assert (WALL_S, 2, 1) == (seen.lifetime.since_wall_s, seen.lifetime.probes, seen.lifetime.failures)
    assert record == again.record()


def test_another_service_under_the_name_inherits_nothing() -> None:
    """Nor does anybody inherit what makes no sense. The record does not hold the URL, which may hold a secret."""
    desk = Desk()
    desk.answer(OK)
    record = desk.service.record()
    assert record is not None
    assert URL not in str(record)
    for other, kept in ((URL + "?", record), (URL, msgspec.structs.replace(record, failures=2))):
        again = Service("flair", ServiceSettings(other), Middle(), "", kept)
        assert again.record() is None
        again.wall(0.0, WALL_S + 9.0)
        assert again.snapshot().last_healthy is None
        assert again.snapshot().lifetime == ServiceLifetimeSnapshot(WALL_S + 9.0, 0, 0)


def test_a_last_healthy_time_in_the_future_is_of_now() -> None:
    """A clock that was set back makes no negative age."""
    desk = Desk()
    desk.answer(OK)
    again = Service("flair", ServiceSettings(URL), Middle(), "", desk.service.record())
    again.wall(5.0, WALL_S - 1e6)
    seen = again.snapshot().last_healthy
    assert seen is not None
    assert 5.0 == seen.now_s

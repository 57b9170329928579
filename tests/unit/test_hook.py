"""One webhook's policy: order, retries, what is dropped and when, and that nothing is ever uncounted."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.backoff import Backoff
from syncwatch.core.effects import Answer, Effects, Notice, Notify, Poll, Refused
from syncwatch.core.hook import CONTENT_TYPE, MAX_RETRY_AFTER_S, Hook, HookSettings, cloud_event
from syncwatch.core.occasions import FIELDS

WALL_S = 1_795_180_000.0
URL = "http://127.0.0.1:8081/sync-health"


def gap(first: int = 1) -> Notify:
    """A gap of one number."""
    return Notify(Notice.GAP, WALL_S, {"connection": "cast", "cause": "live", "first": first, "last": first, "missing": 1})


class Desk:
    """A hook without jitter, its receiver played by the test. `offered` counts."""

    def __init__(self, **settings: object) -> None:
        chosen: dict[str, object] = {"url": URL, "events": frozenset(FIELDS), "backoff": Backoff(1.0, 60.0, jitter=False), **settings}
        self.hook = Hook("ui", HookSettings(**chosen), random.Random(1))  # type: ignore[arg-type]  # the struct's own fields
        self.hook.wall(0.0, WALL_S)
        self.now = 0.0
        self.offered = 0
        self.polls: list[Poll] = []
        self.told: list[tuple[object, object]] = []

    def take(self, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Poll):
                self.polls.append(effect)
            else:
                assert isinstance(effect, Notify)
                assert (Notice.HOOK, "ui") == (effect.notice, effect.fields["hook"])
                self.told.append((effect.fields["result"], effect.fields["detail"]))
        hook = self.hook
        assert self.offered == hook.delivered + hook.dropped + hook.snapshot().waiting, "the identity"

    def offer(self, *numbers: int) -> None:
        """Gaps, each at its number."""
        for number in numbers:
            self.offered += 1
            self.take(self.hook.offer(self.now, f"run-{number}", "box", gap(number)))

    def answer(self, answer: int | Refused, retry_after_s: float | None = None) -> None:
        """The receiver's answer to the last call."""
        told = Answer(answer, b"", retry_after_s) if isinstance(answer, int) else answer
        self.take(self.hook.polled(self.now, self.polls[-1].poll_id, told))

    def wait(self, seconds: float) -> None:
        """Tick at each deadline on the way."""
        end = self.now + seconds
        while self.hook.deadline <= end:
            self.now = max(self.now, self.hook.deadline)
            self.take(self.hook.tick(self.now))
        self.now = end

    @property
    def sent(self) -> list[int]:
        """The numbers of the gaps that were sent, in order."""
        return [msgspec.json.decode(poll.request.body or b"")["data"]["first"] for poll in self.polls]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Delivered, retried, dropped."""
        return self.hook.delivered, self.hook.retried, self.hook.dropped


class TestCloudEvents:
    def test_the_body_is_cloudevents_1_0(self) -> None:
        """Structured mode: the required attributes, a subject, the time of the occasion, and the public fields as data."""
        told = msgspec.json.decode(cloud_event("6a3f-17", "box 1", gap(7)))
        assert {
            "specversion": "1.0",
            "id": "6a3f-17",
            "source": "/syncwatch/box%201",
            "type": "syncwatch.gap",
            "subject": "connection/cast",
            "time": "2026-11-20T13:06:40.000Z",
            "datacontenttype": "application/json",
            "data": {"connection": "cast", "cause": "live", "first": 7, "last": 7, "missing": 1},
        } == told

    @pytest.mark.parametrize("notice", FIELDS)
    def test_each_occasion_has_a_type_a_subject_and_all_its_fields(self, notice: Notice) -> None:
        """Whatever it is about."""
        told = msgspec.json.decode(cloud_event("a", "box", Notify(notice, WALL_S, {"component": "sidecar", "name": "syncwatch", "connection": "cast"})))
        assert f"syncwatch.{notice}" == told["type"]
        assert list(FIELDS[notice]) == list(told["data"])
        assert ("connection/cast" if "connection" in FIELDS[notice] else "sidecar/syncwatch") == told["subject"]

    def test_the_call_is_a_post_without_a_token(self) -> None:
        """With CloudEvents' own content type and the configured time."""
        desk = Desk(timeout_s=3.0)
        desk.offer(1)
        (poll,) = desk.polls
        assert (URL, "POST", (("Content-Type", CONTENT_TYPE),), 3.0) == (poll.request.url, poll.request.method, poll.request.headers, poll.timeout_s)
        assert (False, None) == (poll.request.bearer, poll.request.token_query)


class TestDelivery:
    def test_one_at_a_time_and_in_order(self) -> None:
        """The next goes out when the last is answered."""
        desk = Desk()
        desk.offer(1, 2, 3)
        assert [1] == desk.sent
        desk.answer(204)
        assert [1, 2] == desk.sent
        desk.answer(200)
        desk.answer(202)
        assert ([1, 2, 3], (3, 0, 0), math.inf) == (desk.sent, desk.counts, desk.hook.deadline)
        assert [] == desk.told
        assert desk.hook.idle

    def test_only_what_was_asked_for(self) -> None:
        """Other occasions, and notices that are none, are not sent."""
        desk = Desk(events=frozenset({Notice.DEGRADED}))
        for notice in (Notice.GAP, Notice.STATE, Notice.HOOK):
            desk.take(desk.hook.offer(0.0, "a", "box", Notify(notice, WALL_S, {})))
        assert [] == desk.polls

    @pytest.mark.parametrize("failure", [500, 503, 429, 408, 425, Refused("refused", "nobody listens"), Refused("timeout")])
    def test_what_may_pass_is_tried_again_with_growing_delays(self, failure: int | Refused) -> None:
        """Up to max_attempts; then it is dropped, and what comes next is not sent before its own delay."""
        desk, times = Desk(max_attempts=4), list[float]()
        desk.offer(1, 2)
        for _ in range(4):
            times.append(desk.now)
            desk.answer(failure)
            desk.wait(desk.hook.deadline - desk.now)
        assert [0.0, 1.0, 3.0, 7.0] == times
        assert ([1, 1, 1, 1, 2], 15.0, (0, 3, 1)) == (desk.sent, desk.now, desk.counts)
        assert len({poll.request.body for poll in desk.polls[:4]}) == 1, "the same event, with the same id"
        assert ["failed", "dropped"] == [result for result, _ in desk.told]
        desk.answer(200)
        assert ("delivered", "the receiver takes what it is sent again") == desk.told[-1]
        desk.offer(3)
        assert [3] == desk.sent[5:], "and the delays are forgotten"

    @pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 413, 422])
    def test_what_no_other_try_helps_is_dropped_at_once(self, status: int) -> None:
        """Redirects are not followed: the next event is sent where it was configured."""
        desk = Desk()
        desk.offer(1, 2)
        desk.answer(status)
        assert ([1, 2], (0, 0, 1)) == (desk.sent, desk.counts)
        assert [("failed", f"HTTP {status}"), ("dropped", "refused for good")] == desk.told
        assert f"HTTP {status}" == desk.hook.snapshot().last_failure

    @pytest.mark.parametrize(("asked_s", "waited_s"), [(0.2, 1.0), (40.0, 40.0), (1e9, MAX_RETRY_AFTER_S), (-5.0, 1.0)])
    def test_retry_after_is_honoured_within_reason(self, asked_s: float, waited_s: float) -> None:
        """Never sooner than our own delay, never later than five minutes; also when the event is given up."""
        desk = Desk(max_attempts=1)
        desk.offer(1, 2)
        desk.answer(503, asked_s)
        assert ((0, 0, 1), waited_s) == (desk.counts, desk.hook.deadline)
        desk.wait(waited_s)
        assert [1, 2] == desk.sent

    def test_jitter_spreads_a_fleet(self) -> None:
        """The default delays are those of Backoff."""
        settings = HookSettings(URL, frozenset(FIELDS))
        assert (Backoff(1.0, 60.0), True) == (settings.backoff, settings.backoff.jitter)

    def test_a_full_queue_drops_the_oldest_that_waits(self) -> None:
        """The newest say what holds; the one under way is not touched."""
        desk = Desk(queue=3)
        desk.offer(*range(1, 8))
        assert ((0, 0, 3), [("dropped", "the queue is full")] * 3) == (desk.counts, desk.told)
        for _ in range(4):
            desk.answer(200)
        assert [1, 5, 6, 7] == desk.sent

    def test_an_answer_that_never_comes_is_given_up(self) -> None:
        """Even if the shell were broken; its late answer changes nothing."""
        desk = Desk(timeout_s=5.0)
        desk.offer(1)
        late = desk.polls[0].poll_id
        desk.wait(16.0)
        assert [1, 1] == desk.sent
        desk.take(desk.hook.polled(desk.now, late, Answer(200)))
        assert (0, 1, 0) == desk.counts
        desk.answer(200)
        desk.answer(200)
        assert (1, 1, 0) == desk.counts


class TestTheEnd:
    def test_what_waits_is_tried_once_more_at_once(self) -> None:
        """Whatever delay was due; nothing is repeated, nothing more is taken."""
        desk = Desk()
        desk.offer(1, 2, 3)
        desk.answer(503, 60.0)
        desk.take(desk.hook.stop(desk.now))
        assert [1, 1] == desk.sent
        desk.answer(503)
        desk.answer(200)
        assert ([1, 1, 2, 3], (1, 1, 1)) == (desk.sent, desk.counts)
        assert () == desk.hook.offer(desk.now, "a", "box", gap(4))
        assert not desk.hook.idle
        desk.take(desk.hook.abandon(desk.now))
        assert ((1, 1, 2), True, math.inf) == (desk.counts, desk.hook.idle, desk.hook.deadline)
        desk.take(desk.hook.polled(desk.now, desk.polls[-1].poll_id, Answer(200)))
        assert (1, 1, 2) == desk.counts


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 4))
def test_whatever_happens_everything_is_counted_once(seed: int, queue: int, attempts: int) -> None:
    """Offered = delivered + dropped + waiting after each input; order is kept; nobody is called twice at one time or too often."""
    chance = random.Random(seed)
    desk = Desk(queue=queue, max_attempts=attempts)
    for number in range(1, 40):
        match chance.randrange(4):
            case 0 | 1:
                desk.offer(number)
            case 2 if desk.polls:
                answers: list[int | Refused] = [200, 200, 404, 500, Refused("dns", "x")]
                desk.answer(chance.choice(answers), chance.choice([None, 3.0]))
            case _:
                desk.wait(chance.random() * 10.0)
    first_sent = list(dict.fromkeys(desk.sent))
    assert first_sent == sorted(first_sent)
    assert all(desk.sent.count(number) <= attempts for number in first_sent)
    desk.take(desk.hook.stop(desk.now))
    desk.take(desk.hook.abandon(desk.now))
    assert desk.offered == desk.hook.delivered + desk.hook.dropped


class TestTheDocumentation:
    PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()

    def block(self, language: str) -> str:
        """The page's one block of a language."""
        (found,) = re.findall(rf"```{language}\n(.*?)```", self.PAGE, re.DOTALL)
        return str(found)

    def test_the_event_shown_is_what_is_sent(self) -> None:
        """To the last key."""
        shown = json.loads(self.block("json"))
        data = shown["data"]
        notify = Notify(Notice.DEGRADED, WALL_S, {**data, "reasons": ",".join(data["reasons"])})
        assert list(msgspec.json.decode(cloud_event("6a3f91c2-17", "box-1f2e", notify)).items()) == list(shown.items())

    def test_the_table_names_every_field(self) -> None:
        """Of every type."""
        for notice, fields in FIELDS.items():
            row = next(line for line in self.PAGE.splitlines() if line.startswith(f"| `syncwatch.{notice}`"))
            assert not [field for field in fields if f"`{field}`" not in row]

    def test_the_check_shown_accepts_what_is_signed_and_nothing_else(self) -> None:
        """As it stands on the page."""
        names: dict[str, Any] = {}
        exec(self.block("python"), names)
        body = cloud_event("a", "box", gap())
        header = "sha256=" + hmac.new(b"secret", body, hashlib.sha256).hexdigest()
        assert (True, False, False) == tuple(names["genuine"](*one) for one in ((body, header, b"secret"), (body + b" ", header, b"secret"), (body, header, b"other")))

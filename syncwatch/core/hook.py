"""One webhook: what waits, when it is sent, when it is sent again and when it is given up. The shell makes the HTTP call and knows the secret.

Law: occasions arrive in their order, one call at a time, and nothing here ever keeps anybody waiting: when there is no room, the oldest that waits is
dropped, because the newest is what holds. offered = delivered + dropped + waiting (the one under way included); every drop is counted.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol as Interface
from urllib.parse import quote

import msgspec

from syncwatch.core.backoff import Backoff
from syncwatch.core.effects import Answer, Effect, Effects, Notice, Notify, Poll, Refused
from syncwatch.core.occasions import Value, told
from syncwatch.core.snapshot import HookSnapshot
from syncwatch.core.timestamps import rfc3339
from syncwatch.core.wire import Request

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
RETRIED = frozenset({408, 425, 429})
"""Statuses below 500 that ask for another try; any other below 500 (redirects too) says that no other try will help."""
MAX_RETRY_AFTER_S = 300.0  # a receiver that asks for more is asked again after five minutes: what waits is about now
SLACK_S = 5.0  # the shell answers within twice the timeout (the secret's file, the call); after this much more it is not waited for


class HookSettings(msgspec.Struct, frozen=True):
    """One hook; seconds. `queue`: occasions that may wait, the one under way not counted."""

    url: str
    events: frozenset[Notice]
    timeout_s: float = 5.0
    max_attempts: int = 5
    queue: int = 100
    backoff: Backoff = Backoff(1.0, 60.0)


class Entropy(Interface):
    """Randomness as an argument; random.Random fits."""

    def random(self) -> float: ...


class CloudEvent(msgspec.Struct, frozen=True):
    """CloudEvents 1.0 in structured mode: these keys, this JSON."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    data: dict[str, Value]


def cloud_event(event_id: str, instance: str, notify: Notify) -> bytes:
    """The body about one occasion. Raises: KeyError for a notice that is none."""
    data = told(notify)
    owner = f"connection/{data['connection']}" if "connection" in data else f"{data['component']}/{data['name']}"
    source = f"/syncwatch/{quote(instance, safe='')}"
    event = CloudEvent("1.0", event_id, source, f"syncwatch.{notify.notice}", owner, rfc3339(notify.at_s), "application/json", data)
    return msgspec.json.encode(event)


class Delivery:
    """One occasion on its way."""

    __slots__ = ("attempts", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.attempts = 0


class Hook:
    """The machine of one configured hook."""

    def __init__(self, name: str, settings: HookSettings, entropy: Entropy) -> None:
        self.name = name
        self.settings = settings
        self.delivered = 0
        self.retried = 0
        self.dropped = 0
        self.last_failure: str | None = None  # a sentence; None while the receiver takes what it is sent
        self._entropy = entropy
        self._offset_s = 0.0
        self._waiting: deque[Delivery] = deque()
        self._under_way: Delivery | None = None
        self._poll_id = 0
        self._sent_s = 0.0
        self._next_s = -math.inf
        self._failures = 0
        self._stopping = False
        self._out: list[Effect] = []

    @property
    def interval_s(self) -> float:
        """The longest regular distance between two deadlines: what liveness measures against."""
        return max(MAX_RETRY_AFTER_S, 2.0 * self.settings.timeout_s + SLACK_S)

    @property
    def deadline(self) -> float:
        """When something is due."""
        if self._under_way is not None:
            return self._sent_s + 2.0 * self.settings.timeout_s + SLACK_S
        return self._next_s if self._waiting else math.inf

    def wall(self, now: float, offset_s: float) -> Effects:
        """The wall clock is `now + offset_s`."""
        self._offset_s = offset_s
        return ()

    # ------------------------------------------------------------------ inputs

    def offer(self, now: float, event_id: str, instance: str, notify: Notify) -> Effects:
        """Something happened; what this hook does not want is ignored, and so is everything after `stop`."""
        if notify.notice not in self.settings.events or self._stopping:
            return ()
        if len(self._waiting) >= self.settings.queue:
            self._waiting.popleft()
            self._dropped(now, "the queue is full")
        self._waiting.append(Delivery(cloud_event(event_id, instance, notify)))
        return self._go_on(now)

    def polled(self, now: float, poll_id: int, answer: Answer | Refused) -> Effects:
        """The answer to a Poll; one that is not waited for any more is ignored."""
        if self._under_way is None or poll_id != self._poll_id:
            return ()
        self._judge(now, self._under_way, answer)
        return self._go_on(now)

    def tick(self, now: float) -> Effects:
        """The deadline has come: send what waits, or give up an answer that will not come."""
        if self._under_way is not None and now >= self.deadline:
            self._judge(now, self._under_way, Refused("timeout", "the call never ended"))
        return self._go_on(now)

    def stop(self, now: float) -> Effects:
        """The process ends: what waits is tried once more, at once, one after the other."""
        self._stopping = True
        self._next_s = -math.inf
        return self._go_on(now)

    def abandon(self, now: float) -> Effects:
        """There is no more time: what is left is dropped."""
        self._stopping = True
        left = [*([self._under_way] if self._under_way is not None else []), *self._waiting]
        self._under_way = None
        self._waiting.clear()
        for _ in left:
            self._dropped(now, "the process ended first")
        return self._done()

    # ------------------------------------------------------------------ policy

    def _judge(self, now: float, delivery: Delivery, answer: Answer | Refused) -> None:
        self._under_way = None
        if isinstance(answer, Answer) and 200 <= answer.status < 300:
            self.delivered += 1
            self._failures = 0
            if self.last_failure is not None:
                self.last_failure = None
                self._notify(now, "delivered", "the receiver takes what it is sent again")
            return
        self._failures += 1
        self._failed(now, f"HTTP {answer.status}" if isinstance(answer, Answer) else f"{answer.reason}: {answer.detail}")
        asked_s = answer.retry_after_s if isinstance(answer, Answer) else None
        delay_s = self.settings.backoff.delay_s(self._failures, self._entropy.random())
        again = isinstance(answer, Refused) or answer.status >= 500 or answer.status in RETRIED
        if again and not self._stopping:
            self._next_s = now + max(delay_s, min(max(asked_s or 0.0, 0.0), MAX_RETRY_AFTER_S))
        if again and not self._stopping and delivery.attempts < self.settings.max_attempts:
            self.retried += 1
            self._waiting.appendleft(delivery)
        else:
            self._dropped(now, f"refused {delivery.attempts} times" if again else "refused for good")

    def _go_on(self, now: float) -> Effects:
        if self._waiting and self._under_way is None and now >= self._next_s:
            delivery = self._under_way = self._waiting.popleft()
            delivery.attempts += 1
            self._poll_id += 1
            self._sent_s = now
            request = Request(self.settings.url, "POST", (("Content-Type", CONTENT_TYPE),), delivery.body)
            self._out.append(Poll(self._poll_id, request, self.settings.timeout_s))
        return self._done()

    def _failed(self, now: float, detail: str) -> None:
        """The first failure after a success is told; the counters have them all."""
        if self.last_failure is None:
            self._notify(now, "failed", detail)
        self.last_failure = detail

    def _dropped(self, now: float, why: str) -> None:
        self.dropped += 1
        self._notify(now, "dropped", why)

    def _notify(self, now: float, result: str, detail: str) -> None:
        self._out.append(Notify(Notice.HOOK, now + self._offset_s, {"hook": self.name, "result": result, "detail": detail}))

    def _done(self) -> Effects:
        if not self._out:
            return ()
        out, self._out = self._out, []
        return out

    # ------------------------------------------------------------------ outputs

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return self._under_way is None and not self._waiting

    def snapshot(self) -> HookSnapshot:
        """An immutable picture."""
        return HookSnapshot(
            name=self.name,
            delivered=self.delivered,
            retried=self.retried,
            dropped=self.dropped,
            waiting=len(self._waiting) + (self._under_way is not None),
            last_failure=self.last_failure,
        )

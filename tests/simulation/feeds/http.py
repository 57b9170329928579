"""Requests of the feed on simulated time: latency of their own, doors that refuse, hang or are slow.

What belongs here: when an answer comes, or that none does. What it says is the server's business.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from syncwatch.core.effects import Answer, Poll, Refused
from tests.simulation.feeds.facts import Answered, Unanswered
from tests.simulation.feeds.servers import PAGES, Page, Server
from tests.simulation.harness.facts import Fact
from tests.simulation.harness.network import Timeline

Deliver = Callable[[Answer | Refused, Fact], None]


class FeedDoor(msgspec.Struct):
    """What a request meets: "" an answer, "network", "status", "hang", "slow"."""

    how: str = ""
    status: int | None = None
    retry_after_s: float | None = None


class Http:
    """Between one client and one server."""

    def __init__(self, timeline: Timeline, rng: random.Random, server: Server, latency_s: tuple[float, float]) -> None:
        self.timeline = timeline
        self.rng = rng
        self.server = server
        self.latency_s = latency_s
        self.door = FeedDoor()
        self.on_arrival: Callable[[], None] = lambda: None
        self.on_answer: Callable[[], None] = lambda: None

    def ask(self, poll: Poll, deliver: Deliver) -> None:
        """One request; exactly one delivery follows, within its timeout."""
        state = {"open": True}

        def end(answer: Answer | Refused, fact: Fact) -> None:
            if state["open"]:
                state["open"] = False
                deliver(answer, fact)

        def overdue() -> None:
            end(Refused("timeout"), Unanswered(self.timeline.now, poll.poll_id))

        self.timeline.after(poll.timeout_s, overdue)
        self.timeline.after(self._delay(), lambda: self._arrived(poll, end))

    def _delay(self) -> float:
        return self.rng.uniform(*self.latency_s)

    def _arrived(self, poll: Poll, end: Deliver) -> None:
        self.on_arrival()
        door = self.door
        if door.how == "hang":
            return
        delay_s = self._delay() + (self.rng.uniform(0.0, 14.0) if door.how == "slow" else 0.0)
        if door.how == "network":
            self.timeline.after(delay_s, lambda: end(Refused("refused"), Unanswered(self.timeline.now, poll.poll_id)))
            return
        if door.how == "status":
            answer = Answer(door.status or 500, b'{"code":"x"}', door.retry_after_s)

            def refuse() -> None:
                end(answer, Unanswered(self.timeline.now, poll.poll_id, answer.status, answer.retry_after_s))

            self.timeline.after(delay_s, refuse)
            return
        page = self.server.feed(poll.request.url)
        if self.server.faults.page_garbage and self.rng.random() < self.server.faults.page_garbage:
            garbage = Answer(200, self.rng.choice(PAGES))
            self.timeline.after(delay_s, lambda: end(garbage, Unanswered(self.timeline.now, poll.poll_id)))
            return
        self.timeline.after(delay_s, lambda: self._page(poll, page, end))

    def _page(self, poll: Poll, page: Page, end: Deliver) -> None:
        now = self.timeline.now
        fact = Answered(now, poll.poll_id, page.life, page.rows, page.next_after, page.newest, page.malformed)
        end(Answer(200, page.body), fact)
        self.on_answer()

"""A Session with a feed, driven by hand: a log that a test writes, a socket that brings what the test says, and a feed that answers, refuses or hangs.

What belongs here: the driver. Numbers are written as ranges in words: `bring("1..5 7")`. An event of another log has another key under its number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import msgspec

from syncwatch.core.effects import Answer, Poll, Refused
from syncwatch.core.journal import Journal
from syncwatch.core.states import AttemptFailure, Origin
from syncwatch.core.wire import Event, Invalid, Numbering, Page, Request, Settle, Traits
from tests.unit.sessions import Host, ScriptedProtocol, message


class Body(bytes):
    """An answer that carries its own meaning."""

    page: Page | Invalid


class FeedProtocol(ScriptedProtocol):
    """A numbered protocol that settles by reading a feed, in words that a test can read."""

    scope = "ws_1"

    def __init__(self, resumes: bool = True, dense: bool = False) -> None:
        super().__init__()
        numbering = Numbering.CONTIGUOUS if dense else Numbering.INCREASING
        self.traits = Traits(numbering, Settle.FEED, feed=True, resumes=resumes)

    def dial(self, after: int | None = None) -> Request:
        """Readable."""
        return Request(f"dial {after}")

    def poll(self, after: int | None, poll_id: int) -> Request:
        """Readable."""
        return Request(f"rows {after}")

    def tip(self, poll_id: int) -> Request:
        """Readable."""
        return Request("tip")

    def page(self, body: bytes) -> Page | Invalid:
        """The answer's own words."""
        assert isinstance(body, Body)
        return body.page


def numbers(script: str) -> Iterable[int]:
    """`1..3 5` is 1, 2, 3 and 5."""
    for word in script.split():
        low, _, high = word.partition("..")
        yield from range(int(low), int(high or low) + 1)


def row(number: int, life: int = 1) -> Event:
    """An event of a log."""
    return Event(f"{number}@{life}", True, number)


class FeedHost(Host):
    """`log` is what the server has; `feed` says what a request meets: "up", "held" (no answer yet), or a status."""

    def __init__(self, *, protocol: FeedProtocol | None = None, log: str = "", **more: Any) -> None:
        self.polls_answered: set[int] = set()
        self.feed: str | int = "up"
        self.life = 1
        self.log: list[Event] = []
        self.page_rows = 1000
        super().__init__(protocol=protocol or FeedProtocol(), **more)
        self.write(log)

    @property
    def journal(self) -> Journal:
        """The ledger."""
        ledger = self.session.ledger
        assert isinstance(ledger, Journal)
        return ledger

    # -- the server ----------------------------------------------------------------------------------------------------

    def write(self, script: str) -> Self:
        """The log grows."""
        self.log += [row(number, self.life) for number in numbers(script)]
        return self

    def lose_log(self) -> Self:
        """A restart that forgets."""
        self.life, self.log = self.life + 1, []
        return self

    def bring(self, script: str, life: int | None = None) -> Self:
        """The socket brings events."""
        for number in numbers(script):
            self.hear(message(row(number, self.life if life is None else life)))
        return self

    def push(self, script: str) -> Self:
        """The log grows and the socket tells."""
        return self.write(script).bring(script)

    # -- the feed ------------------------------------------------------------------------------------------------------

    def asked(self) -> list[str]:
        """Every request of the feed, in words."""
        return [poll.request.url for poll in self.polls()]

    def waiting(self) -> list[Poll]:
        """Requests without answer."""
        return [poll for poll in self.polls() if poll.poll_id not in self.polls_answered]

    def serve(self) -> Self:
        """Answer what waits, as `feed` says, and what comes of it."""
        while self.feed != "held" and self.waiting():
            poll = self.waiting()[0]
            self.reply(self.honest(poll.request.url) if self.feed == "up" else Answer(int(self.feed)))
        return self

    def reply(self, answer: Answer | Refused) -> Self:
        """Answer the oldest request that waits."""
        poll = self.waiting()[0]
        self.polls_answered.add(poll.poll_id)
        self.take(self.session.polled(self.now, poll.poll_id, answer))
        return self

    def honest(self, url: str) -> Answer:
        """What the log has."""
        if url == "tip":
            return self.page(self.log[-2:])
        after = url.removeprefix("rows ")
        known = [index for index, event in enumerate(self.log) if str(event.number) == after]
        rows = self.log[known[0] + 1 :] if known else self.log
        more = len(rows) > self.page_rows
        rows = rows[: self.page_rows]
        return self.page(rows, rows[-1].number if more else None)

    @staticmethod
    def page(rows: Iterable[Event], next_after: int | None = None, **more: Any) -> Answer:
        """A page, as it may be."""
        body = Body(b"x")
        body.page = Page(tuple(rows), next_after=next_after, **more)
        return Answer(200, body)

    @staticmethod
    def garbled() -> Answer:
        """No page."""
        body = Body(b"x")
        body.page = Invalid("not JSON")
        return Answer(200, body)

    # -- inputs that the feed answers at once --------------------------------------------------------------------------

    def open(self, *args: Any, **more: Any) -> Self:
        """The dial under way succeeds."""
        super().open(*args, **more)
        return self.serve()

    def fail(self, reason: AttemptFailure = AttemptFailure.REFUSED, detail: str = "", retry_after_s: float | None = None) -> Self:
        """The dial under way fails."""
        super().fail(reason, detail, retry_after_s)
        return self.serve()

    def tick(self, answering: bool = True) -> Self:
        """As the parent, and the feed answers."""
        super().tick(answering)
        return self.serve()

    # -- what it counted -----------------------------------------------------------------------------------------------

    def dialled(self) -> list[str]:
        """Where each dial wanted to resume, in words."""
        return [effect.request.url.removeprefix("dial ") for effect in self.effects if type(effect).__name__ == "Dial"]  # type: ignore[union-attr]  # of that name

    def origins(self) -> dict[str, int]:
        """First copies by origin, without zeros."""
        received = self.session.ledger.snapshot(None).events_received
        return {str(origin): received[origin] for origin in Origin if received[origin]}

    def resyncs_counted(self) -> dict[str, int]:
        """Settled connections, in words."""
        return {f"{claim} {verdict}": count for (claim, verdict), count in self.session.ledger.resyncs.items()}

    def audits(self) -> dict[str, int]:
        """Audits by result, without zeros."""
        return {str(result): count for result, count in self.journal.audits.items() if count}

    def found(self) -> dict[str, int]:
        """Verdicts about events, without zeros."""
        return {str(verdict): count for verdict, count in self.journal.audit_events.items() if count}


def connected(log: str = "1..3", **more: Any) -> FeedHost:
    """A first connection that knows its first position and has compared once."""
    host = FeedHost(log=log, **more)
    host.start().open().tick().pass_time(2.5)
    host.since()
    return host


def refused_until_polling(host: FeedHost) -> FeedHost:
    """Three handshakes fail, and the feed carries on."""
    if host.connected:
        host.drop()
    for _ in range(3):
        while not host.dialling:
            host.pass_time(1.0)
        host.fail()
    return host


def through_json(value: Any) -> Any:
    """As the state file keeps it."""
    return msgspec.json.decode(msgspec.json.encode(value), type=type(value))

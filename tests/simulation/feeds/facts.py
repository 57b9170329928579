"""Further facts, where the server's log can be read over HTTP: what was written, where a dial wanted to resume, what the feed was asked and answered.

What belongs here: immutable records without judgement. `life` is a truth that no client can read: which log, of the server's successive ones, a row is of.
"""

from __future__ import annotations

import msgspec

from tests.simulation.harness.facts import Fact, Frame


class FeedFrame(Frame, frozen=True, gc=False):
    """A frame of the socket. `invented`: an event that is in no log."""

    invented: bool = False


class Row(msgspec.Struct, frozen=True, gc=False):
    """An event of a log. `ours`: the socket's filter lets it through."""

    life: int
    number: int
    identity: str
    ours: bool = True


class Written(Fact, frozen=True, gc=False):
    """The server put an event into its log."""

    row: Row


class Dialled(Fact, frozen=True, gc=False):
    """The client began a handshake. `after`: where it wants the socket to resume; None: from now on."""

    connection: int
    after: int | None


class Started(Fact, frozen=True, gc=False):
    """The client's process began."""


class Failed(Fact, frozen=True, gc=False):
    """A handshake did not succeed. `denied`: because of the credentials, and the feed takes the same."""

    connection: int
    denied: bool


class Asked(Fact, frozen=True, gc=False):
    """The client asked the feed: rows after a number (None: from the beginning), or, with `tip`, for the newest."""

    poll: int
    after: int | None
    tip: bool


class Answered(Fact, frozen=True, gc=False):
    """A page reached the client: visible rows, oldest first; where the rest begins; the newest number if it was told; rows that are none."""

    poll: int
    life: int
    rows: tuple[Row, ...]
    next_after: int | None = None
    newest: int | None = None
    malformed: int = 0


class Unanswered(Fact, frozen=True, gc=False):
    """No page: refused with a status, lost, or nothing that could be read."""

    poll: int
    status: int | None = None
    retry_after_s: float | None = None


class Renewed(Fact, frozen=True, gc=False):
    """The client was given a new token."""

"""The ledger of facts: what the simulated server did and what crossed the client's boundary, in the order it happened.

What belongs here: immutable records without judgement. The oracle folds them; nothing here counts anything.
"""

from __future__ import annotations

import enum

import msgspec


class Label(enum.StrEnum):
    """How the server came to send an event."""

    LIVE = "live"
    RING = "ring"
    STORE = "store"


class Kind(enum.StrEnum):
    """What a frame is to a client that reads it correctly."""

    EVENT = "event"
    ACK = "ack"
    PONG = "pong"
    GARBAGE = "garbage"


class AckFacts(msgspec.Struct, frozen=True, gc=False):
    """An acknowledgement as it was put on the wire. `honest`: every field is true and it went out last, after the whole reply."""

    after: float
    current: int
    replayed: int
    gap: bool
    honest: bool


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame of the server, as fact.

    `number` is what a correct client reads as the number (None: absent or not a number, then `bad_number`). `identity` is the wire's own id
    of the event (`strong`) or its content without stamps. `lane` is the channel's own number, where there is one. `epoch` and `request` are truths that no client can read: the server's life that
    numbered the event, and the request that a ring or store frame (or acknowledgement) answers.
    """

    kind: Kind
    label: Label | None = None
    epoch: int = 0
    number: int | None = None
    bad_number: bool = False
    identity: str = ""
    strong: bool = False
    time_s: float | None = None
    lane: int | None = None
    page_kind: str | None = None
    request: int | None = None
    ack: AckFacts | None = None


class Fact(msgspec.Struct, frozen=True, gc=False):
    """Something that happened, and when."""

    at: float


class Sent(Fact, frozen=True, gc=False):
    """The server wrote a frame to a connection; whether it arrived is told by Arrived with the same position."""

    connection: int
    position: int
    frame: Frame


class Arrived(Fact, frozen=True, gc=False):
    """A frame reached the client."""

    connection: int
    position: int
    frame: Frame


class Opened(Fact, frozen=True, gc=False):
    """The client learned that its socket is open."""

    connection: int


class Closed(Fact, frozen=True, gc=False):
    """The client's socket ended: by itself (`local`) or because it learned so."""

    connection: int
    local: bool
    reason: str


class Pinged(Fact, frozen=True, gc=False):
    """The client sent an application ping."""

    connection: int


class Ledger:
    """Facts in order."""

    __slots__ = ("facts",)

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def add(self, fact: Fact) -> None:
        """Append one fact."""
        self.facts.append(fact)

"""Further facts, of a server that numbers what it pushes to one client and replays it on request.

What belongs here: immutable records without judgement.
"""

from __future__ import annotations

from tests.simulation.harness.facts import Fact


class Pushed(Fact, frozen=True, gc=False):
    """The server gave `number` to an event for the watched client, whether or not a socket is open."""

    epoch: int
    number: int
    identity: str
    kind: str


class Requested(Fact, frozen=True, gc=False):
    """The client asked for a replay; whether the server ever read it is told by Served."""

    connection: int
    after: float
    since: str | None


class Served(Fact, frozen=True, gc=False):
    """The server began to answer a request."""

    connection: int
    request: int
    after: float
    gap: bool

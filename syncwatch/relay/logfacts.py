"""Facts about workspaces' logs: what Relayfile's streams and feeds, and Relaycast's observers, were given.

The same manners as in `ledger`: facts, never verdicts. An event is (`epoch`, `number`); what a client should have seen
follows from `published`, `delivered` and `page` alone.
"""

from __future__ import annotations

from syncwatch.relay.ledger import Fact


class Published(Fact, tag="published", frozen=True, gc=False):
    """An event was given a number in a workspace's log, whether or not anybody listened.

    For Relayfile `number` is the n of `evt_n`, one counter for all workspaces; for an observer log it is the `seq`, one
    counter per workspace, or None when the log could not be written. `id` is what the frame carries, `timestamp` the
    server's own time in it. `path` is an observer event's channel, `provider` and `correlation_id` are Relayfile's alone.
    """

    protocol: str
    epoch: int
    workspace: str
    number: int | None
    id: str
    kind: str
    path: str
    provider: str
    correlation_id: str
    timestamp: str


class Delivered(Fact, tag="delivered", frozen=True, gc=False):
    """An event frame was handed to a connection's transport, `live` or as `catchup`; `position` counts data frames.

    `label` is whose connection it is: Relayfile's workspace, or the observer token's name.
    """

    connection: int
    position: int
    protocol: str
    label: str
    epoch: int
    number: int | None
    id: str
    kind: str
    origin: str


class Dialled(Fact, tag="dialled", frozen=True, gc=False):
    """What a stream was opened with; `known` says whether the log had the cursor (True without one)."""

    connection: int
    workspace: str
    cursor: str
    from_now: bool
    filters: tuple[str, ...]
    known: bool


class Page(Fact, tag="page", frozen=True, gc=False):
    """A page of a feed was answered with these events, in this order; `next_cursor` is what the answer carries.

    `label` is the workspace, for an observer's backfill the token's name. `known` as in `dialled`.
    """

    protocol: str
    label: str
    epoch: int
    cursor: str
    limit: int
    direction: str
    provider: str
    numbers: tuple[int, ...]
    next_cursor: str | None
    known: bool


class Answered(Fact, tag="answered", frozen=True, gc=False):
    """An HTTP request was answered. `status` 0: the connection was closed, or left hanging, without an answer.

    `route` is the path below the workspace without what varies; `code` and `message` are an error's.
    """

    protocol: str
    label: str
    method: str
    route: str
    status: int
    code: str
    message: str
    correlation_id: str


class Greeted(Fact, tag="greeted", frozen=True, gc=False):
    """A host's first handshake message was read, or could not be (then `key` is empty). `name` is the branch that it asked for."""

    connection: int
    name: str
    key: str
    accepted: bool


class LogRestarted(Fact, tag="log_restarted", frozen=True, gc=False):
    """Relayfile was restarted. In memory: the log is gone and numbers begin at 1 in a new epoch; durable: both go on."""

    epoch: int
    durable: bool

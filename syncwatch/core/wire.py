"""The words between a codec and the session, and the two protocols (typing's) that a codec implements.

What belongs here: immutable words and the interfaces. What must not: any rule about them; rules live in the machines.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol as Interface

import msgspec

MAX_NUMBER = 2**53 - 1  # the largest integer that a JSON peer in JavaScript counts exactly


class Numbering(enum.StrEnum):
    """How the server numbers events; the metric label `continuity`."""

    CONTIGUOUS = "contiguous"  # +1 for every event: a hole is a loss until proven otherwise
    INCREASING = "increasing"  # grows, jumps are normal
    NONE = "none"


class Settle(enum.StrEnum):
    """How the end of a replay is known."""

    ACK = "ack"
    FEED = "feed"
    NONE = "none"


class FrameKind(enum.StrEnum):
    """Kinds of frames that are counted, received (event, control, heartbeat, invalid; unknown where somebody else has counted them all together) and sent."""

    EVENT = "event"
    CONTROL = "control"
    HEARTBEAT = "heartbeat"
    INVALID = "invalid"
    RESYNC = "resync"
    UNKNOWN = "unknown"


class Traits(msgspec.Struct, frozen=True):
    """What differs between protocols, as data."""

    numbering: Numbering
    settle: Settle
    feed: bool = False  # the server keeps a log that can be read over HTTP: polled when there is no socket, and audited
    keeps: bool = False  # its events are deposits: the server sends each once and forgets it, so it is ours to store
    patience: int = 0  # heartbeat intervals without any answer before a connection is re-made; 0: the first ping that dies ends it
    echo_optional: bool = False  # some versions of the peer never answer pings: a connection is not ended for that
    rival_s: float = 0.0  # a second client with our identity has our connection closed (1000) within so long; 0: it does not work like that
    resumes: bool = True  # the socket itself brings what was missed, from the number named at the dial or asked for on it


class Request(msgspec.Struct, frozen=True):
    """An HTTP request or WebSocket upgrade, without its token: the shell reads the token file and adds it.

    `token_query` names the query parameter that carries the token (put first); `bearer` asks for an Authorization header.
    `token` says which configured token file is meant: the connection's, or the canary's own.
    """

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    token_query: str | None = None
    bearer: bool = False
    token: str = "connection"  # noqa: S105  a name, not a secret


class Event(msgspec.Struct, frozen=True, gc=False):
    """One data event. `key` is its identity; `strong` says that the key alone identifies it for ever.

    `number` is None for unnumbered events and when the peer sent something that is no number (`bad_number`).
    `time_s` is the server's clock (Unix seconds). `replayed` is the server's own mark. `page_kind` names the bounded query
    that a replayed row came from. `lane` and `lane_number` are a second numbering beside the first (a channel's own, a log's times).
    """

    key: str
    strong: bool
    number: int | None = None
    time_s: float | None = None
    replayed: bool = False
    bad_number: bool = False
    page_kind: str | None = None
    lane: str | None = None
    lane_number: int | None = None


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The server says a replay is over: asked `after`, now at `current`, `replayed` frames sent, `gap` if its buffer was too short."""

    after: int | float
    current: int
    replayed: int
    gap: bool


class Pong(msgspec.Struct, frozen=True, gc=False):
    """The answer to a ping; `token` is None where the protocol cannot tell which, and then they answer in order."""

    token: int | None = None
    server_time_s: float | None = None


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The codec's handshake is complete: events may flow."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """Send this. `kind` is what it counts as; None: part of the codec's handshake, which is no frame."""

    data: str | bytes
    kind: FrameKind | None = FrameKind.CONTROL


class Control(msgspec.Struct, frozen=True, gc=False):
    """A well-formed frame that is neither event, pong nor acknowledgement and needs no answer."""


class Invalid(msgspec.Struct, frozen=True, gc=False):
    """A frame that cannot be understood. `fatal`: the stream behind it cannot be trusted and must be re-made."""

    reason: str
    fatal: bool = False


class Deposit(msgspec.Struct, frozen=True, gc=False):
    """An event whose content is ours to keep, because the server will not send it again: it counts as received once `content` is safe under `name`.

    Only of protocols with the trait `keeps`.
    """

    event: Event
    name: str
    content: bytes


Said = Event | Deposit | Ack | Pong | Ready | Reply | Control | Invalid


class Page(msgspec.Struct, frozen=True):
    """One page of a feed: every row, oldest first.

    `skipped`: numbers of rows that the socket's own filter leaves out. `next_after`: ask after this number for the rest; None: this was
    the last page. `newest`: the server's newest number, where the answer tells it. `malformed`: rows that could not be read.
    """

    events: tuple[Event, ...]
    skipped: frozenset[int] = frozenset()
    next_after: int | None = None
    newest: int | None = None
    malformed: int = 0


class Wire(Interface):
    """The state of one attempt; thrown away with it."""

    def opened(self) -> Sequence[Said]:
        """First words after the upgrade: frames to send, and Ready when nothing has to be awaited."""
        ...

    def feed(self, data: bytes, binary: bool = False) -> Sequence[Said]:
        """One message in, words out. Never raises."""
        ...

    def ping(self, token: int) -> str | bytes:
        """A ping frame; `token` comes back in the Pong where the protocol can carry it."""
        ...

    def resync(self, after: int, since_s: float | None) -> str | bytes:
        """Ask for everything after number `after`; `since_s` (server clock, Unix seconds) bounds a database replay."""
        ...


class Protocol(Interface):
    """One per configured connection; configuration without state."""

    name: str
    dialect: str
    traits: Traits
    page_limit: int | None

    def dial(self, after: int | None = None) -> Request:
        """The upgrade request. `after`: where the socket is to resume, if it can; None: from now on."""
        ...

    def wire(self, entropy: int) -> Wire:
        """Fresh state for one attempt."""
        ...


class FeedProtocol(Protocol, Interface):
    """A protocol whose server keeps a log that can be read over HTTP (trait `feed`)."""

    scope: str  # whose log it is, within the server: a resume point of another scope means nothing

    def poll(self, after: int | None, poll_id: int) -> Request:
        """Rows after number `after`, oldest first; None: from the beginning. A number that the log does not know starts there too."""
        ...

    def tip(self, poll_id: int) -> Request:
        """The newest rows, two if there are, or the newest number."""
        ...

    def page(self, body: bytes) -> Page | Invalid:
        """What such a request was answered. Never raises."""
        ...

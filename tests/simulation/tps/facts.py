"""What happened, in order: between the host's shell and the network, and between the shell and the disk. The oracle folds these; nothing here counts."""

from __future__ import annotations

import enum

import msgspec


class What(enum.StrEnum):
    """What a message of the branch is to a host that reads it correctly."""

    READY = "ready"  # the second message of the handshake
    ECHO = "echo"
    MAIL = "mail"
    CONTROL = "control"  # of a type that a host passes over
    REQUEST = "request"  # passed over, and answered
    JUNK = "junk"  # a frame whose content is wrong: the connection goes on
    FATAL = "fatal"  # cannot be believed: the connection is over


class Started(msgspec.Struct, frozen=True, gc=False):
    """A process begins, knowing these mails of earlier ones."""

    at: float
    known: frozenset[str]


class Dialled(msgspec.Struct, frozen=True, gc=False):
    """The session asked for a connection."""

    at: float
    connection: int


class Failed(msgspec.Struct, frozen=True, gc=False):
    """There was none, for this reason (an AttemptFailure's value)."""

    at: float
    connection: int
    reason: str


class Opened(msgspec.Struct, frozen=True, gc=False):
    """The upgrade is done; the handshake of the codec follows."""

    at: float
    connection: int


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """A message was handed to the session. `key`: a heartbeat's number, or a mail's id. `left`: the session had closed this connection already."""

    at: float
    connection: int
    what: What
    key: str = ""
    left: bool = False


class Pinged(msgspec.Struct, frozen=True, gc=False):
    """The session sent a heartbeat with this number."""

    at: float
    connection: int
    number: str


class Closed(msgspec.Struct, frozen=True, gc=False):
    """The connection ended: `ours`, or as the shell learned it (a Disconnect's value and the code)."""

    at: float
    connection: int
    ours: bool
    reason: str = ""
    code: int | None = None


class Asked(msgspec.Struct, frozen=True, gc=False):
    """The session wants a mail to be stored."""

    at: float
    deposit: int
    key: str


class Kept(msgspec.Struct, frozen=True, gc=False):
    """The session was told what came of it."""

    at: float
    deposit: int
    key: str
    error: str | None
    known: bool


class Held(msgspec.Struct, frozen=True, gc=False):
    """The session wants no more to be read, or again."""

    at: float
    on: bool


class Killed(msgspec.Struct, frozen=True, gc=False):
    """The process is gone. `writing`: mails that it had and that are not on the disk."""

    at: float
    writing: frozenset[str]


Fact = Started | Dialled | Failed | Opened | Arrived | Pinged | Closed | Asked | Kept | Held | Killed

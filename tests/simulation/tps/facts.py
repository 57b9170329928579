"""What happened, in order: between the host's shell and the network, and between the shell and the disk. The oracle folds these; nothing here counts."""

from __future__ import annotations

import enum

from tests.simulation.harness.facts import Fact


class What(enum.StrEnum):
    """What a message of the branch is to a host that reads it correctly."""

    READY = "ready"  # the second message of the handshake
    ECHO = "echo"
    MAIL = "mail"
    CONTROL = "control"  # of a type that a host passes over
    REQUEST = "request"  # passed over, and answered
    JUNK = "junk"  # a frame whose content is wrong: the connection goes on
    FATAL = "fatal"  # cannot be believed: the connection is over


class Started(Fact, frozen=True, gc=False):
    """A process begins, knowing these mails of earlier ones."""

    known: frozenset[str]


class Dialled(Fact, frozen=True, gc=False):
    """The session asked for a connection."""

    connection: int


class Failed(Fact, frozen=True, gc=False):
    """There was none, for this reason (an AttemptFailure's value)."""

    connection: int
    reason: str


class Opened(Fact, frozen=True, gc=False):
    """The upgrade is done; the handshake of the codec follows."""

    connection: int


class Arrived(Fact, frozen=True, gc=False):
    """A message was handed to the session. `key`: a heartbeat's number, or a mail's id. `left`: the session had closed this connection already."""

    connection: int
    what: What
    key: str = ""
    left: bool = False


class Pinged(Fact, frozen=True, gc=False):
    """The session sent a heartbeat with this number."""

    connection: int
    number: str


class Closed(Fact, frozen=True, gc=False):
    """The connection ended: `ours`, or as the shell learned it (a Disconnect's value and the code)."""

    connection: int
    ours: bool
    reason: str = ""
    code: int | None = None


class Asked(Fact, frozen=True, gc=False):
    """The session wants a mail to be stored."""

    deposit: int
    key: str


class Kept(Fact, frozen=True, gc=False):
    """The session was told what came of it."""

    deposit: int
    key: str
    error: str | None
    known: bool


class Held(Fact, frozen=True, gc=False):
    """The session wants no more to be read, or again."""

    on: bool


class Killed(Fact, frozen=True, gc=False):
    """The process is gone. `writing`: mails that it had and that are not on the disk."""

    writing: frozenset[str]

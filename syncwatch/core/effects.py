"""What a machine asks of the shell. Effects are performed in the order given.

What belongs here: immutable requests. The shell performs them mechanically; it decides nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from syncwatch.core.wire import Request

Field = str | int | float | bool | None


class Dial(msgspec.Struct, frozen=True):
    """Open a WebSocket. The shell answers with `opened` or `failed`, always with this `attempt`."""

    attempt: int
    request: Request
    timeout_s: float


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send one message: text for str, binary for bytes. A write that fails is answered with `closed`."""

    attempt: int
    data: str | bytes


class Close(msgspec.Struct, frozen=True):
    """Close the socket, or give up the handshake. The session has moved on: nothing of this attempt is expected any more."""

    attempt: int
    code: int
    reason: str


class Poll(msgspec.Struct, frozen=True):
    """Make one HTTP request; the shell answers with `polled` and this `poll_id`.

    `enough_bytes`: so much of the body is enough, whatever follows is not read and not waited for. None: all of it, and one that is too large is refused.
    """

    poll_id: int
    request: Request
    timeout_s: float
    enough_bytes: int | None = None


class Store(msgspec.Struct, frozen=True, gc=False):
    """Keep `content` under `name` where neither a crash nor a power cut takes it away; never in the place of something else.

    The shell answers each with `stored` and this `deposit_id`. It belongs to no attempt: the connection may end meanwhile.
    """

    deposit_id: int
    name: str
    content: bytes


class Hold(msgspec.Struct, frozen=True):
    """Read no further from this attempt's socket (`on`), or go on. What was read already still comes."""

    attempt: int
    on: bool


class Compare(msgspec.Struct, frozen=True):
    """Compare two trees, whole or only at `paths`, and do what the rules say. The shell answers with `finished` or `crashed`, always with this `job_id`."""

    job_id: int
    paths: tuple[str, ...] | None = None


class FlushEnded(msgspec.Struct, frozen=True):
    """A flush is over. `complete`: what was written before it was asked for is on the other side; `files` moved since then; `pending` paths still differ."""

    flush_id: int
    complete: bool
    files: int
    pending: int


class Subscribe(msgspec.Struct, frozen=True):
    """Watch the tree; the shell answers with `subscribed` or `lost`, always with this `attempt`. `polling`: by reading it again and again."""

    attempt: int
    polling: bool


class Unsubscribe(msgspec.Struct, frozen=True):
    """Watch no more, and give back everything. Nothing of this attempt is expected any more."""

    attempt: int


class Touch(msgspec.Struct, frozen=True):
    """Write the sentinel; the shell answers with `touched`, and with `echoed` when its event comes."""

    attempt: int
    number: int


class CheckRoot(msgspec.Struct, frozen=True):
    """Look what is at the root's path now; the shell answers with `checked`."""

    attempt: int


class Notice(enum.StrEnum):
    """Kinds of Notify."""

    STATE = "state"  # from_state, to_state, reason
    ATTEMPT_FAILED = "attempt_failed"  # reason, detail, retry_in_s
    ESTABLISHED = "established"  # handshake_s
    DISCONNECTED = "disconnected"  # reason, code, detail
    HALF_OPEN = "half_open"  # direction
    GAP = "gap"  # cause, first, last, missing
    RESYNCED = "resynced"  # replayed, gap_detected, claim, verdict, recovered, lost, unaccounted
    RESET = "reset"  # epoch, detail
    LOST = "lost"  # lost, unaccounted
    VERIFICATION = "verification"  # result, cursor, current
    ANOMALY = "anomaly"  # kind, detail
    CANARY = "canary"  # result, detail
    DEGRADED = "degraded"  # component, name, reason, reasons
    RECOVERED = "recovered"  # component, name, after_s
    GATE = "gate"  # purpose, open, detail
    HOOK = "hook"  # hook, result, detail
    SERVICE = "service"  # service, result, reason, detail
    NO_ECHO = "no_echo"  # detail
    STORAGE = "storage"  # result (failed, stored, lost), detail, waiting
    WATCHER = "watcher"  # watcher, result (alive, dead, blind), reason, mode, detail
    MIRROR = "mirror"  # mirror, result, detail
    MIRROR_TROUBLE = "mirror_trouble"  # mirror, result, path, detail
    RESUMED = "resumed"  # cursor, epoch, age_s, or detail why not


class Notify(msgspec.Struct, frozen=True):
    """Something worth telling: the log, `/events`, callbacks and hooks. `at_s` is wall time (Unix seconds)."""

    notice: Notice
    at_s: float
    fields: Mapping[str, Field]


Effect = Dial | Send | Close | Poll | Store | Hold | Compare | FlushEnded | Subscribe | Unsubscribe | Touch | CheckRoot | Notify
Effects = tuple[Effect, ...] | list[Effect]


class Handshake(msgspec.Struct, frozen=True):
    """What the shell learned while connecting. Seconds per phase (None: the phase did not happen), wall times as Unix seconds."""

    dns_s: float | None = None
    tcp_s: float | None = None
    tls_s: float | None = None
    upgrade_s: float | None = None
    certificate_expiry_s: float | None = None
    server_date_s: float | None = None


class Answer(msgspec.Struct, frozen=True):
    """A complete HTTP answer to a Poll."""

    status: int
    body: bytes = b""
    retry_after_s: float | None = None


class Refused(msgspec.Struct, frozen=True):
    """A Poll that got no complete answer; `reason` as in AttemptFailure."""

    reason: str
    detail: str = ""

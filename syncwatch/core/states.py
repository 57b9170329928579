"""Connection states, the one table of allowed transitions, and the closed sets of reasons for attempts and disconnects.

Law: every state change is an edge of TRANSITIONS. A missing edge is the error.
"""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """Where a connection stands; the metric label `state`."""

    IDLE = "idle"  # configured, not started
    CONNECTING = "connecting"  # first handshake under way
    RESYNCING = "resyncing"  # ready; the missed part was asked for and is not yet settled
    OPEN = "open"  # caught up, heartbeats answered
    POLLING = "polling"  # no WebSocket; the HTTP feed carries on
    RECONNECTING = "reconnecting"  # waiting for the next attempt or in it
    FAILED = "failed"  # breaker open or credentials refused; retried slowly, never given up
    CLOSED = "closed"  # stopped on purpose


ESTABLISHED = frozenset({State.RESYNCING, State.OPEN})

TRANSITIONS: dict[State, dict[State, str]] = {
    State.IDLE: {State.CONNECTING: "start", State.CLOSED: "stop"},
    State.CONNECTING: {
        State.OPEN: "ready, nothing to resume",
        State.RESYNCING: "ready",
        State.RECONNECTING: "attempt failed",
        State.FAILED: "credentials refused",
        State.CLOSED: "stop",
    },
    State.RESYNCING: {
        State.OPEN: "settled",
        State.RECONNECTING: "closed or resync timeout",
        State.CLOSED: "stop",
    },
    State.OPEN: {
        State.RESYNCING: "confirmed hole or tip check behind",
        State.RECONNECTING: "closed or half-open",
        State.CLOSED: "stop",
    },
    State.POLLING: {
        State.OPEN: "re-probe succeeded",
        State.RESYNCING: "re-probe succeeded",
        State.RECONNECTING: "the feed fails as well",
        State.FAILED: "credentials refused",
        State.CLOSED: "stop",
    },
    State.RECONNECTING: {
        State.OPEN: "ready, nothing to resume",
        State.RESYNCING: "ready",
        State.POLLING: "fallback",
        State.FAILED: "breaker or credentials refused",
        State.CLOSED: "stop",
    },
    State.FAILED: {
        State.OPEN: "ready, nothing to resume",
        State.RESYNCING: "ready",
        State.POLLING: "fallback",
        State.CLOSED: "stop",
    },
    State.CLOSED: {},
}

EDGES: tuple[tuple[State, State], ...] = tuple((a, b) for a, row in TRANSITIONS.items() for b in row)


class AttemptFailure(enum.StrEnum):
    """Why a handshake did not succeed."""

    DNS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    TIMEOUT = "timeout"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    REJECTED = "rejected"
    PROTOCOL = "protocol"


class FlushResult(enum.StrEnum):
    """How a flush of a mirror ended: nothing was left, the time was over, or it could not be done."""

    COMPLETE = "complete"
    TIMEOUT = "timeout"
    ERROR = "error"


class ProbeFailure(enum.StrEnum):
    """Why a service was found unhealthy."""

    REFUSED = "refused"
    DNS = "dns"
    TLS = "tls"
    TIMEOUT = "timeout"
    STATUS = "status"
    BODY = "body"


class Disconnect(enum.StrEnum):
    """Why an established connection ended."""

    PEER_CLOSED = "peer_closed"
    PEER_ERROR = "peer_error"
    NETWORK = "network"
    HEARTBEAT_TIMEOUT = "heartbeat_timeout"
    SEND_TIMEOUT = "send_timeout"
    OVERFLOW = "overflow"
    RESYNC_TIMEOUT = "resync_timeout"
    SUPERSEDED = "superseded"
    PROTOCOL_ERROR = "protocol_error"
    LOCAL = "local"


CLOSE_CODES: tuple[int, ...] = (1000, 1001, 1006, 1008, 1011, 1012, 1013)
"""Close codes with a label of their own; any other is counted as `other`."""


class Anomaly(enum.StrEnum):
    """Things a correct peer does not do."""

    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    BAD_SEQUENCE = "bad_sequence"
    IMPLAUSIBLE_JUMP = "implausible_jump"
    ACK_EARLY = "ack_early"
    ACK_MISSING = "ack_missing"
    ACK_UNSOLICITED = "ack_unsolicited"
    REPLAY_SHORT = "replay_short"


class Origin(enum.StrEnum):
    """How the first copy of an event arrived."""

    LIVE = "live"
    RING = "ring"
    STORE = "store"
    POLL = "poll"
    AUDIT = "audit"


class Claim(enum.StrEnum):
    """What the server said about a replay."""

    COMPLETE = "complete"
    GAP = "gap"
    NONE = "none"


class Verdict(enum.StrEnum):
    """What the ledger found the claim to be."""

    VERIFIED = "verified"
    CONTRADICTED = "contradicted"
    UNVERIFIABLE = "unverifiable"


class Verification(enum.StrEnum):
    """Result of asking the server for its newest number."""

    VERIFIED = "verified"
    BEHIND = "behind"
    FAILED = "failed"


class AuditResult(enum.StrEnum):
    """How a comparison of the feed with what arrived ended."""

    CLEAN = "clean"
    REPAIRED = "repaired"
    FAILED = "failed"


class AuditVerdict(enum.StrEnum):
    """What a comparison found about an event."""

    LATE = "late"  # the feed had it first, the socket brought it in time all the same
    MISSED = "missed"  # the socket never brought it; recovered from the feed
    INVENTED = "invented"  # the socket brought it and the feed does not have it


class WatchMode(enum.StrEnum):
    """How changes under a root come to be noticed."""

    ACTIVE = "active"  # the file system tells; a sentinel proves it
    PASSIVE = "passive"  # the file system tells; nothing is written to prove it
    POLLING = "polling"  # the file system would not tell everything: the tree is read again and again


class FileChange(enum.StrEnum):
    """What happened to a path."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


class WatchTrouble(enum.StrEnum):
    """Why a watch has to be made again."""

    MISSED = "missed"  # the sentinel was written and no event came
    ERROR = "error"  # permissions, or any error of the file system
    ROOT_GONE = "root_gone"
    ROOT_REPLACED = "root_replaced"  # another directory, or another file system, under the same path
    OVERFLOW = "overflow"  # more events than the kernel keeps for us
    LIMITS = "limits"  # inotify watches or instances


class SentinelResult(enum.StrEnum):
    """How a sentinel ended."""

    SEEN = "seen"
    MISSED = "missed"


class GapCause(enum.StrEnum):
    """Where a gap was seen."""

    LIVE = "live"
    RECONNECT = "reconnect"


class Direction(enum.StrEnum):
    """Which half of a half-open connection is dead."""

    RECEIVE = "receive"
    SEND = "send"


def diagram() -> str:
    """The transition table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    for state, row in TRANSITIONS.items():
        lines += [f"    {state} --> {target}: {reason}" for target, reason in row.items() if target is not State.CLOSED]
    stopping = ", ".join(state for state, row in TRANSITIONS.items() if State.CLOSED in row)
    return "\n".join([*lines, "    closed --> [*]", f"    note right of closed: stop, from {stopping}"]) + "\n"

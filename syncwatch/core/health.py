"""Reasons, damping, and the verdicts behind the probe endpoints.

What belongs here: what a set of raw conditions means. Where conditions come from is each machine's own business.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec


class Reason(enum.StrEnum):
    """Why something is not healthy: first the conditions, gravest first, then the incidents."""

    FAILED = "failed"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    CONNECTING = "connecting"
    RECONNECTING = "reconnecting"
    RATE_LIMITED = "rate_limited"
    UPSTREAM_ERROR = "upstream_error"
    HEARTBEAT_TIMEOUT = "heartbeat_timeout"
    SEND_HALF_OPEN = "send_half_open"
    BEHIND = "behind"
    POLLING = "polling"
    STALE = "stale"
    GAP_OPEN = "gap_open"
    RESYNC_UNANSWERED = "resync_unanswered"
    NO_ECHO = "no_echo"
    DUPLICATE_CLIENT = "duplicate_client"
    WATCHER_DEAD = "watcher_dead"
    WATCHER_BLIND = "watcher_blind"
    MIRROR_STUCK = "mirror_stuck"
    SERVICE_UNHEALTHY = "service_unhealthy"
    TASK_STALLED = "task_stalled"
    EVENTS_LOST = "events_lost"
    CLAIM_CONTRADICTED = "claim_contradicted"
    EPOCH_RESET = "epoch_reset"
    CANARY_LOST = "canary_lost"


INCIDENTS = frozenset({Reason.EVENTS_LOST, Reason.CLAIM_CONTRADICTED, Reason.EPOCH_RESET, Reason.CANARY_LOST})
"""Held for a while after the last one; they never fail readyz, healthz or gate."""

GRAVITY: Mapping[Reason, int] = {reason: rank for rank, reason in enumerate(Reason)}


class Component(enum.StrEnum):
    """What a reason is about; the metric label `component`."""

    CONNECTION = "connection"
    WATCHER = "watcher"
    MIRROR = "mirror"
    SERVICE = "service"
    SIDECAR = "sidecar"


class Health(enum.StrEnum):
    """The SLI's three values."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"


class Condition(msgspec.Struct, frozen=True):
    """A reason that holds now, since `since_s` (monotonic). `advice` is what its machine knows better than `ADVICE`; empty: nothing."""

    reason: Reason
    since_s: float
    advice: str = ""


class Held(msgspec.Struct, frozen=True):
    """A condition with its owner."""

    component: Component
    name: str
    reason: Reason
    since_s: float
    own_advice: str = ""

    @property
    def advice(self) -> str:
        """What to do about it, one line."""
        return self.own_advice or ADVICE[self.reason]


class HealthSnapshot(msgspec.Struct, frozen=True):
    """`degraded` is damped and has every pair that can ever hold; `held` is raw, gravest first."""

    degraded: Mapping[tuple[Component, str, Reason], bool]
    degradations: Mapping[tuple[Component, str, Reason], int]
    seconds: Mapping[tuple[Component, str, Health], float]  # the running stay included up to the snapshot's time
    held: tuple[Held, ...]
    health: Mapping[tuple[Component, str], Health]
    checks: Mapping[str, tuple[Check, ...]]  # livez, healthz, readyz: checks such as "connection/cast"; gate: "read", "write"


class Check(msgspec.Struct, frozen=True):
    """One check of a probe. `detail` is for /status and /gate; the public probes withhold it."""

    name: str
    ok: bool
    detail: str = ""


ADVICE: Mapping[Reason, str] = {
    Reason.FAILED: "tried again every minute: see the last failure, then check the server, and our token or keys",
    Reason.UNAUTHORIZED: "our token or key is not accepted: renew the token file, which is tried as soon as it changes, or join the TPS branch anew",
    Reason.FORBIDDEN: "we are known but may not do this: check the scope of the token, or what a proxy before the server allows",
    Reason.HANDSHAKE_TIMEOUT: "the server accepts connections but does not finish the handshake: check it or what stands before it",
    Reason.CONNECTING: "the first connection is still being made: check the address and that the server runs",
    Reason.RECONNECTING: "no connection now; it is retried with growing delays: see the last failure, then check the server and the network",
    Reason.RATE_LIMITED: "the server asked us to wait: too many clients or attempts",
    Reason.UPSTREAM_ERROR: "the server answers handshakes with an error: see the last failure, then the server's log",
    Reason.HEARTBEAT_TIMEOUT: "pings are not answered and nothing arrives: the peer hangs, or a proxy or the network swallows it",
    Reason.SEND_HALF_OPEN: "frames arrive but our pings are never answered: the way to the server is cut",
    Reason.BEHIND: "the server has newer events than it delivered: restart its push path, do not trust what was read",
    Reason.POLLING: "the WebSocket is down and the HTTP feed carries on: events are late, check the WebSocket path",
    Reason.STALE: "no event for longer than configured: check that somebody still writes",
    Reason.GAP_OPEN: "events are known to be missing and asked for again, or came and are not stored: wait for the resync, or look at the last failure",
    Reason.RESYNC_UNANSWERED: "the server does not answer resync requests: continuity cannot be proven",
    Reason.NO_ECHO: "the peer has never echoed a heartbeat: update it, older versions do not; only the receive side is proven",
    Reason.DUPLICATE_CLIENT: "another client uses the same identity: give the sidecar its own",
    Reason.WATCHER_DEAD: "changes of files are not noticed: see the detail, then check the root, its mount and the inotify limits",
    Reason.WATCHER_BLIND: "some changes of files would not be noticed: see the detail, then check the permissions and the inotify limits",
    Reason.MIRROR_STUCK: "changes wait to be mirrored: check disk space and permissions",
    Reason.SERVICE_UNHEALTHY: "the service does not answer as expected: look at the service",
    Reason.TASK_STALLED: "a task of the sidecar is past its deadline: it is restarted, or the probe will ask for it",
    Reason.EVENTS_LOST: "events are gone for good: re-read the state they would have changed",
    Reason.CLAIM_CONTRADICTED: "the server claimed a complete replay that was not: do not trust its resync",
    Reason.EPOCH_RESET: "the server restarted its counter: what fell between may be unknowable",
    Reason.CANARY_LOST: "a message written through the API never arrived live: delivery is broken for somebody",
}
"""One line per reason that says what to do, true for whatever can report it; the runbook has a section for each."""

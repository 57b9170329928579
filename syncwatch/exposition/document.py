"""The shape of what /status and /gate say: public, stable keys. `docs/endpoints.md` explains them; a test pins them.

What belongs here: data and the few conversions of time that all of it shares. Where a value comes from is `status.py`'s business.
Unknown is null, never 0. A past moment is an `Instant`, a future one a `Due`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from syncwatch.core.health import INCIDENTS, Held
from syncwatch.core.snapshot import Moment
from syncwatch.core.timestamps import rfc3339

SCHEMA = 1
"""Raised only when a key changes its meaning or goes away; new keys may come at any time."""


class Instant(msgspec.Struct, frozen=True):
    """When something happened: wall time (RFC 3339, UTC) as stamped then, and its age at the document's time."""

    time: str
    age_s: float


class Due(msgspec.Struct, frozen=True):
    """When something will happen; `in_s` is negative once it is past."""

    time: str
    in_s: float


class Reason(msgspec.Struct, frozen=True):
    """A reason that holds now. `incident`: it happened and is held up to view; no probe fails for it."""

    component: str
    name: str
    reason: str
    incident: bool
    since: Instant
    advice: str


class Check(msgspec.Struct, frozen=True):
    """One check of a probe, with the detail that the public probes withhold."""

    name: str
    ok: bool
    detail: str


class Verdict(msgspec.Struct, frozen=True):
    """One side of the gate."""

    open: bool
    detail: str


class Gate(msgspec.Struct, frozen=True):
    """Both sides of the gate."""

    read: Verdict
    write: Verdict


class Attempts(msgspec.Struct, frozen=True):
    """Handshakes. `mean_handshake_s` and the last one's phases are of those that succeeded. Null: somebody else makes them, and does not tell."""

    total: int | None
    failures: dict[str, int]
    consecutive_failures: int | None
    last_failure: str | None
    next: Due | None
    mean_handshake_s: float | None
    last_handshake_s: dict[str, float]
    under_way: bool | None = None


class Heartbeats(msgspec.Struct, frozen=True):
    """sent = acknowledged + missed + outstanding. Null: somebody else sends them, and does not tell."""

    sent: int
    acknowledged: int | None
    missed: int | None
    late: int | None
    outstanding: int | None
    last_sent: Instant | None
    last_acknowledged: Instant | None
    last_rtt_s: float | None
    mean_rtt_s: float | None
    half_open: dict[str, int]


class Traffic(msgspec.Struct, frozen=True):
    """What went over the wire."""

    frames_received: dict[str, int]
    frames_sent: dict[str, int]
    received_bytes: int | None
    sent_bytes: int | None
    anomalies: dict[str, int]
    last_frame: Instant | None
    last_event: Instant | None


class Verification(msgspec.Struct, frozen=True):
    """`unverified_s`: since the server's own newest number was last seen equal to ours; since the start if never. `ever`: whether it was at all."""

    unverified_s: float | None
    results: dict[str, int]
    ever: bool | None = None


class Ledger(msgspec.Struct, frozen=True):
    """missed = recovered + lost + unaccounted + missing. `events`: first copies, the undecided ones included. Where the server numbers nothing, what would need
    numbers is null.
    """

    epoch: int | None
    cursor: int | None
    events: int
    events_by_origin: dict[str, int]
    undecided: int | None
    duplicates: int
    out_of_order: int | None
    missed: int | None
    recovered: int | None
    lost: int | None
    unaccounted: int | None
    missing: int | None
    late: int | None
    last_loss: Instant | None
    gaps: dict[str, int]
    resets: int | None
    replayed: int | None
    resyncs: dict[str, dict[str, int]]
    mean_resync_s: float | None
    forgotten: dict[str, int]
    audits: dict[str, int] | None  # by result; None where there is no log to compare with
    audit_events: dict[str, int] | None  # by verdict


class Latency(msgspec.Struct, frozen=True):
    """Server time of live events to their receipt."""

    events: int
    mean_s: float | None


class Canary(msgspec.Struct, frozen=True):
    """End-to-end writes. lost = timed_out - late."""

    sent: int
    received: int
    timed_out: int
    late: int
    lost: int
    duplicate: int
    failed: int
    mean_round_trip_s: float | None
    logged: int | None  # read in the server's log; None where there is no log to read
    log_delay_s: float | None  # of the last one, from its write until it was read there


class Expiry(msgspec.Struct, frozen=True):
    """What runs out."""

    token: Due | None
    certificate: Due | None


class Lifetime(msgspec.Struct, frozen=True):
    """Totals over all processes that shared the state file, this one included. Null: there is no ledger."""

    since: Instant
    events: int | None
    reconnects: int
    missed: int | None
    recovered: int | None
    lost: int | None
    unaccounted: int | None
    late: int | None
    resets: int | None


class Report(msgspec.Struct, frozen=True):
    """What the process that has the connection tells of it in a file, and what the system tells of that process."""

    path: str
    read: Instant | None
    written: Instant | None
    pid: int | None
    process: str
    reconnects: int | None
    remarks: tuple[str, ...]


class Transition(msgspec.Struct, frozen=True):
    """One change of state."""

    at: Instant
    from_state: str
    to_state: str
    reason: str


class Connection(msgspec.Struct, frozen=True):
    """One connection, whole. `transitions`: the newest first."""

    name: str
    protocol: str
    dialect: str
    continuity: str
    upstream: str
    health: str | None
    state: str
    state_since: Instant | None
    up: bool
    started: Instant | None
    established: Instant | None
    first_sync_done: bool
    reasons: tuple[Reason, ...]
    attempts: Attempts
    reconnects: int
    disconnects: dict[str, int]
    close_codes: dict[str, int]
    heartbeats: Heartbeats
    traffic: Traffic
    verification: Verification
    ledger: Ledger | None
    clock_offset_s: float | None
    event_latency: Latency | None
    canary: Canary | None
    expiry: Expiry
    lifetime: Lifetime
    state_seconds: dict[str, float]
    transitions: tuple[Transition, ...]
    report: Report | None = None


class Watcher(msgspec.Struct, frozen=True):
    """One watcher. `mode`: active, passive, polling, null until it is known; `state`: unknown, alive, blind, dead.

    `detail`: what is wrong, or why it polls or is passive although a sentinel is configured. `directories` are watched, at least `unseen` others cannot be.
    `sentinels` and `mean_sentinel_s` are null without a sentinel.
    """

    name: str
    path: str
    mode: str | None
    health: str | None
    state: str
    up: bool
    reasons: tuple[Reason, ...]
    detail: str | None
    directories: int
    unseen: int
    changes: dict[str, int]
    restarts: dict[str, int]
    sentinels: dict[str, int] | None
    mean_sentinel_s: float | None
    last_event: Instant | None
    last_alive: Instant | None


class Difference(msgspec.Struct, frozen=True):
    """A path that differs, escaped so that it can be shown; what is different, and since when that is known."""

    path: str
    why: str
    since: Instant


class Flushes(msgspec.Struct, frozen=True):
    """How flushes ended; `mean_s` over all of them."""

    complete: int
    timeout: int
    error: int
    mean_s: float | None


class Mirror(msgspec.Struct, frozen=True):
    """One mirror. `mode`: observe, sync; `state`: unknown (nothing compared yet), in_step, differing, gone (a root is not there).

    `watchers_healthy`: a change on either side would be noticed now. `pending`: changes seen, or differences found, that are not on the other side; `oldest_pending_s`: how long that has been so.
    `differences`: the oldest twenty of `differing`. `files`: by tree, at the last comparison of everything. `moved`: by direction and operation.
    """

    name: str
    mode: str
    mount: str
    project: str
    health: str | None
    state: str
    up: bool
    watchers_healthy: bool
    reasons: tuple[Reason, ...]
    gone: tuple[str, ...]
    pending: int
    oldest_pending_s: float | None
    differing: int
    differences: tuple[Difference, ...]
    files: dict[str, int]
    moved: dict[str, dict[str, int]]
    conflicts: int
    errors: int
    refused_deletes: int
    refusal: str | None
    last_error: str | None
    flushes: Flushes
    last_reconcile: Instant | None
    mean_reconcile_s: float | None
    comparing_for_s: float | None


class Probes(msgspec.Struct, frozen=True):
    """How a service was asked. `mean_s` includes failed ones; `next` is null while one is under way."""

    total: int
    failures: dict[str, int]
    mean_s: float | None
    next: Due | None


class ServiceLifetime(msgspec.Struct, frozen=True):
    """Totals over all processes that shared the state file, this one included."""

    since: Instant
    probes: int
    failures: int


class Service(msgspec.Struct, frozen=True):
    """One service. `state`: unknown, healthy, unhealthy; `last_failure`: a sentence; null while it is healthy."""

    name: str
    upstream: str
    health: str | None
    state: str
    state_since: Instant | None
    reasons: tuple[Reason, ...]
    last_probe: Instant | None
    last_healthy: Instant | None
    last_failure: str | None
    probes: Probes
    lifetime: ServiceLifetime | None = None


class Task(msgspec.Struct, frozen=True):
    """One task of the sidecar. `wedged`: past its deadline beyond the limit, and a restart of it did not help."""

    task: str
    overdue_s: float
    wedged: bool


class StateFile(msgspec.Struct, frozen=True):
    """What is kept over restarts."""

    write_failures: int
    last_write: Instant | None


class GateFile(msgspec.Struct, frozen=True):
    """The gate as a file: how often it could not follow the gate."""

    failures: int


class Hook(msgspec.Struct, frozen=True):
    """One webhook: offered = delivered + dropped + waiting. `last_failure`: a sentence; null while the receiver takes what it is sent."""

    name: str
    delivered: int
    retried: int
    dropped: int
    waiting: int
    last_failure: str | None


class Config(msgspec.Struct, frozen=True):
    """Whether the file as it stands is the one that runs; `errors`: why not, a line each. `last_successful_reload`: null while none was ever loaded, so that nothing is watched."""

    last_reload_successful: bool
    last_successful_reload: Instant | None
    errors: tuple[str, ...] = ()


class Sidecar(msgspec.Struct, frozen=True):
    """The process itself."""

    version: str
    revision: str
    python_version: str
    instance: str
    started: Instant
    suspended: bool
    event_loop_lag_s: float
    tasks: tuple[Task, ...]
    state_file: StateFile | None
    gate_file: GateFile | None
    config: Config
    callback_errors: int


class Status(msgspec.Struct, frozen=True):
    """Everything, at `time`. `health`: the worst of all that is known; `reasons`: all that hold, gravest first."""

    schema: int
    time: str
    health: str | None
    degraded_reason: str | None
    reasons: tuple[Reason, ...]
    gate: Gate
    checks: dict[str, tuple[Check, ...]]
    connections: tuple[Connection, ...]
    watchers: tuple[Watcher, ...]
    mirrors: tuple[Mirror, ...]
    services: tuple[Service, ...]
    hooks: tuple[Hook, ...]
    sidecar: Sidecar


class Source(msgspec.Struct, frozen=True):
    """Where `syncwatch status` has the document from: `kind` is http or file, `at` the URL or the path.

    `current`: whether it tells what is so now; if not, `detail` says why, and every `health` is null. `unreachable`: why not over HTTP.
    """

    kind: str
    at: str
    age_s: float
    current: bool
    detail: str | None
    unreachable: str | None


class Shown(Status, frozen=True):
    """What `syncwatch status` has to show."""

    source: Source | None = None


class Losses(msgspec.Struct, frozen=True):
    """What one connection lost so far: in this process, and over its lifetime. Null: its protocol numbers nothing."""

    connection: str
    epoch: int | None
    cursor: int | None
    lost: int | None
    unaccounted: int | None
    missing: int | None
    last_loss: Instant | None
    lifetime_lost: int | None
    lifetime_unaccounted: int | None
    lifetime_since: Instant


class GateAnswer(msgspec.Struct, frozen=True, rename={"purpose": "for"}):
    """May I read (write)? `detail` names what closed the gate; `reasons` are all that hold, incidents included."""

    purpose: str
    open: bool
    detail: str
    time: str
    reasons: tuple[Reason, ...]
    last_loss: Instant | None
    losses: tuple[Losses, ...]


def seconds(value_s: float) -> float:
    """Seconds to the microsecond: enough for a reader, and without the noise of binary fractions."""
    return round(value_s, 6)


def instant(moment: Moment | None, at: Moment) -> Instant | None:
    """A stamped moment as seen from `at`: the stamp as it is, the age from the monotonic clock."""
    return None if moment is None else Instant(rfc3339(moment.wall_s), seconds(max(0.0, at.now_s - moment.now_s)))


def since_now(now_s: float, at: Moment) -> Instant:
    """A moment that only the monotonic clock knows."""
    age_s = max(0.0, at.now_s - now_s)
    return Instant(rfc3339(at.wall_s - age_s), seconds(age_s))


def since_wall(wall_s: float, at: Moment) -> Instant:
    """A moment that only the wall clock knows (another process's, perhaps)."""
    return Instant(rfc3339(wall_s), seconds(max(0.0, at.wall_s - wall_s)))


def due_wall(wall_s: float | None, at: Moment) -> Due | None:
    """A future moment of the wall clock."""
    return None if wall_s is None else Due(rfc3339(wall_s), seconds(wall_s - at.wall_s))


def due_now(now_s: float | None, at: Moment) -> Due | None:
    """A future moment of the monotonic clock."""
    return None if now_s is None else due_wall(at.wall_s + now_s - at.now_s, at)


def reasons(held: Iterable[Held], at: Moment) -> tuple[Reason, ...]:
    """What holds, in the order given, each with what to do about it."""
    return tuple(
        Reason(
            one.component, one.name, one.reason, one.reason in INCIDENTS, since_now(one.since_s, at), one.advice
        )
        for one in held
    )

"""Immutable pictures of every machine: the only thing that the exposition, the CLI and the state of health read.

What belongs here: data. Every number is copied from its one owner. Monotonic times end in `_s` of a Moment's `now_s`; wall times are
Unix seconds. Ages are computed by the reader, from the monotonic clock, while it answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from syncwatch.core.health import HealthSnapshot
from syncwatch.core.histogram import HistogramSnapshot
from syncwatch.core.states import (
    Anomaly,
    AttemptFailure,
    AuditResult,
    AuditVerdict,
    Claim,
    Direction,
    Disconnect,
    FileChange,
    FlushResult,
    GapCause,
    Origin,
    ProbeFailure,
    SentinelResult,
    State,
    Verdict,
    Verification,
    WatchMode,
    WatchTrouble,
)
from syncwatch.core.wire import FrameKind, Numbering


class Moment(msgspec.Struct, frozen=True):
    """When something happened, on both clocks: monotonic for ages, wall (stamped then) for timestamps."""

    now_s: float
    wall_s: float


class Transition(msgspec.Struct, frozen=True):
    """One state change and why."""

    at: Moment
    from_state: State
    to_state: State
    reason: str


class TimelineSnapshot(msgspec.Struct, frozen=True):
    """Time per state. `seconds` leaves out the running state's present stay, which began at `entered_now_s`."""

    state: State
    entered_now_s: float
    entered_wall_s: Mapping[State, float]
    seconds: Mapping[State, float]
    transitions: Mapping[tuple[State, State], int]
    recent: tuple[Transition, ...]

    def seconds_in(self, state: State, now_s: float) -> float:
        """Time spent in `state` up to `now_s`, the running stay included."""
        running = max(0.0, now_s - self.entered_now_s) if state is self.state else 0.0
        return self.seconds.get(state, 0.0) + running


class HeartbeatSnapshot(msgspec.Struct, frozen=True):
    """sent = acknowledged + missed + outstanding. Late ones stay missed."""

    sent: int
    acknowledged: int
    missed: int
    late: int
    outstanding: int
    last_sent: Moment | None
    last_ack: Moment | None
    last_rtt_s: float | None
    rtt: HistogramSnapshot
    half_open: Mapping[Direction, int]


class ContinuitySnapshot(msgspec.Struct, frozen=True):
    """The ledger. Always missed = recovered + lost + unaccounted + missing."""

    epoch: int
    cursor: int | None
    events_received: Mapping[Origin, int]
    duplicates: int
    out_of_order: int
    undecided: int
    gaps: Mapping[GapCause, int]
    missing: int
    missed: int
    recovered: int
    lost: int
    unaccounted: int
    late: int
    resets: int
    resyncs: Mapping[tuple[Claim, Verdict], int]
    resync_duration: HistogramSnapshot
    replayed: int
    forgotten: Mapping[str, int]  # ledger: identities, ranges, hashes
    last_loss: Moment | None
    audits: Mapping[AuditResult, int] | None = None  # None where there is no feed to compare with
    audit_events: Mapping[AuditVerdict, int] | None = None


class CanarySnapshot(msgspec.Struct, frozen=True):
    """End-to-end writes: lost = timed_out - late."""

    sent: int
    received: int
    timed_out: int
    late: int
    duplicate: int
    failed: int
    round_trip: HistogramSnapshot
    logged: int = 0  # read in the server's log, where there is one
    log_delay_s: float | None = None  # of the last one, from its write; a log is read from time to time


class ReportSnapshot(msgspec.Struct, frozen=True):
    """What another process tells in a file of a connection that it has, and what the system tells of that process.

    `read`: when the file was last understood, `written`: its own time then. `process`: alive, dead, reused (another one has its number), elsewhere
    (the file changes, but its process cannot be seen from here), unknown. `reconnects`: the writer's own count, whatever it counts.
    `remarks`: sentences about what is odd.
    """

    path: str
    read: Moment | None = None
    written: Moment | None = None
    pid: int | None = None
    process: str = "unknown"
    reconnects: int | None = None
    remarks: tuple[str, ...] = ()


class LifetimeSnapshot(msgspec.Struct, frozen=True):
    """Totals over all processes that shared the state file, this one included, and when they began (wall)."""

    since_wall_s: float
    events: int
    reconnects: int
    missed: int
    recovered: int
    lost: int
    unaccounted: int
    late: int
    resets: int


class ConnectionSnapshot(msgspec.Struct, frozen=True):
    """One connection, whole. What its protocol and dialect can never know stands at 0: the exposition has a table of that, and tells nothing of it."""

    name: str
    protocol: str
    dialect: str
    numbering: Numbering
    upstream: str
    timeline: TimelineSnapshot
    started: Moment | None
    established: Moment | None
    attempts: int
    attempt_failures: Mapping[AttemptFailure, int]
    last_failure: str | None  # a sentence: why the last attempt or connection ended; None while all is well
    next_attempt_now_s: float | None
    reconnects: int
    disconnects: Mapping[Disconnect, int]
    close_codes: Mapping[str, int]
    consecutive_failures: int
    handshake: HistogramSnapshot
    last_handshake_s: Mapping[str, float]  # phase: dns, tcp, tls, upgrade, protocol
    token_expiry_wall_s: float | None
    certificate_expiry_wall_s: float | None
    frames_received: Mapping[FrameKind, int]
    frames_sent: Mapping[FrameKind, int]
    received_bytes: int
    sent_bytes: int
    anomalies: Mapping[Anomaly, int]
    last_frame: Moment | None
    last_event: Moment | None
    verifications: Mapping[Verification, int]
    verified_now_s: float | None  # monotonic time of the last proof, or of the start; None before it
    heartbeat: HeartbeatSnapshot
    clock_offset_s: float | None
    event_latency: HistogramSnapshot | None  # None while no clock offset was ever known
    continuity: ContinuitySnapshot | None  # None where the protocol does not number
    canary: CanarySnapshot | None  # None when not configured
    lifetime: LifetimeSnapshot
    settled_once: bool  # the first sync is done
    report: ReportSnapshot | None = None  # None for a connection of our own
    attempting: bool = False  # a handshake of ours is under way

    @property
    def numbered(self) -> bool:
        """Whether its server numbers events: without numbers nobody can know what is missing."""
        return self.numbering is not Numbering.NONE


class ServiceLifetimeSnapshot(msgspec.Struct, frozen=True):
    """Totals over all processes that shared the state file, this one included, and when they began (wall)."""

    since_wall_s: float
    probes: int
    failures: int


class ServiceSnapshot(msgspec.Struct, frozen=True):
    """One service. probes = healthy ones + failures. `healthy` (since `since`): None before the first probe ended. `last_healthy` may be of an earlier process.

    `last_failure`: a sentence; None while it is healthy. `next_probe_now_s`: None while a probe is under way, and before the start.
    """

    name: str
    upstream: str
    healthy: bool | None
    since: Moment | None
    probes: int
    failures: Mapping[ProbeFailure, int]
    duration: HistogramSnapshot
    last_probe: Moment | None
    last_healthy: Moment | None
    last_failure: str | None
    next_probe_now_s: float | None
    lifetime: ServiceLifetimeSnapshot | None = None  # None before the clock was known


class WatcherSnapshot(msgspec.Struct, frozen=True):
    """One watcher. `mode`: None until it is known. `up`: a change would be noticed now, wherever it is under the root that can be watched.

    `detail`: what is wrong (or, while nothing is, why it polls or is passive), a sentence; None where there is nothing to say. `directories` are watched, `unseen` cannot be (a bound from below).
    """

    name: str
    path: str
    mode: WatchMode | None
    up: bool
    dead_since: Moment | None
    blind_since: Moment | None
    detail: str | None
    sentinel: bool  # one is configured
    directories: int
    unseen: int
    changes: Mapping[FileChange, int]
    sentinels: Mapping[SentinelResult, int]
    sentinel_latency: HistogramSnapshot
    restarts: Mapping[WatchTrouble, int]
    last_event: Moment | None
    last_alive: Moment | None


class Difference(msgspec.Struct, frozen=True):
    """One path that differs between two trees, as it may be shown; since when that is known."""

    path: str
    why: str
    since: Moment


class MirrorSnapshot(msgspec.Struct, frozen=True):
    """One mirror. `pending`: changes seen and differences found that are not on the other side; `differing`: those found by a comparison; `differences` are the oldest of them.

    `moved` by direction (to_mount, to_project) and operation (copied, deleted). `files`: in each tree, at the last full comparison. `gone`: sentences about roots that are not there.
    `refusal`: why deletions are refused now. `comparing_since_now_s`: None while no comparison runs.
    """

    name: str
    mode: str
    mount: str
    project: str
    up: bool
    watchers_healthy: bool
    gone: tuple[str, ...]
    pending: int
    oldest_pending_now_s: float | None
    differing: int
    differences: tuple[Difference, ...]
    files: Mapping[str, int]
    moved: Mapping[tuple[str, str], int]
    conflicts: int
    errors: int
    refused_deletes: int
    refusal: str | None
    last_error: str | None
    flushes: Mapping[FlushResult, int]
    flush_duration: HistogramSnapshot
    reconcile_duration: HistogramSnapshot
    last_reconcile: Moment | None
    comparing_since_now_s: float | None


class HookSnapshot(msgspec.Struct, frozen=True):
    """One webhook. offered = delivered + dropped + waiting; `retried` counts further attempts. `last_failure`: a sentence; None while all is well."""

    name: str
    delivered: int
    retried: int
    dropped: int
    waiting: int
    last_failure: str | None


class TaskSnapshot(msgspec.Struct, frozen=True):
    """A machine's driver. `overdue_s`: how far past its own deadline, 0 while in time; `wedged`: beyond its limit and not restarted."""

    task: str
    overdue_s: float
    wedged: bool


class SidecarSnapshot(msgspec.Struct, frozen=True):
    """The process itself. `suspended`: resumed from a suspension less than 30 s ago, so liveness withholds judgement."""

    version: str
    revision: str
    python_version: str
    instance: str
    started: Moment
    tasks: tuple[TaskSnapshot, ...]
    suspended: bool
    event_loop_lag_s: float
    statefile_write_failures: int | None  # None without a state directory
    statefile_last_write_wall_s: float | None
    config_last_reload_successful: bool
    config_last_reload_success_wall_s: float | None  # None before the first success
    callback_errors: int
    config_errors: tuple[str, ...] = ()  # why the file as it stands is not the one that runs, a line each
    gate_file_failures: int | None = None  # None without a gate file
    inotify_watches: int | None = None  # None where nothing is watched
    inotify_instances: int | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """Everything, at one moment."""

    at: Moment
    connections: tuple[ConnectionSnapshot, ...]
    health: HealthSnapshot
    sidecar: SidecarSnapshot
    hooks: tuple[HookSnapshot, ...] = ()
    services: tuple[ServiceSnapshot, ...] = ()
    mirrors: tuple[MirrorSnapshot, ...] = ()
    watchers: tuple[WatcherSnapshot, ...] = ()

"""Builders of realistic Snapshot objects, for tests of everything that reads them.

Only data belongs here. The default connection is a Relaycast ring that has seen trouble of every kind, is open again and
has everything that can be known; `fresh_connection()` is the other end: configured, and nothing has happened yet. Every
builder takes the struct's fields as keywords; what is left out keeps its default. The ledgers' identities hold in the defaults.
"""

from __future__ import annotations

from typing import Any

import msgspec

from syncwatch.core.health import INCIDENTS, Check, Component, Health, HealthSnapshot, Held, Reason
from syncwatch.core.histogram import FAST_S, SLOW_S, Histogram, HistogramSnapshot
from syncwatch.core.snapshot import (
    CanarySnapshot,
    ConnectionSnapshot,
    ContinuitySnapshot,
    Difference,
    HeartbeatSnapshot,
    HookSnapshot,
    LifetimeSnapshot,
    MirrorSnapshot,
    Moment,
    ServiceLifetimeSnapshot,
    ServiceSnapshot,
    SidecarSnapshot,
    Snapshot,
    TaskSnapshot,
    TimelineSnapshot,
    Transition,
    WatcherSnapshot,
)
from syncwatch.core.states import (
    Anomaly,
    AttemptFailure,
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

NOW_S = 5_000.0
"""Monotonic time of every default snapshot; the process started at 1,000."""
WALL_S = 1_795_180_000.0
"""Wall time of every default snapshot (Unix seconds, November 2026)."""

RING_REASONS = frozenset(Reason) - {
    Reason.POLLING,
    Reason.NO_ECHO,
    Reason.DUPLICATE_CLIENT,
    Reason.WATCHER_DEAD,
    Reason.WATCHER_BLIND,
    Reason.MIRROR_STUCK,
    Reason.SERVICE_UNHEALTHY,
    Reason.TASK_STALLED,
}
"""Reasons that a Relaycast ring connection with a canary and a `stale_after` can ever have."""


def moment(ago_s: float) -> Moment:
    """The moment `ago_s` before the default snapshot, on both clocks."""
    return Moment(NOW_S - ago_s, WALL_S - ago_s)


def histogram(bounds: tuple[float, ...], *values_s: float) -> HistogramSnapshot:
    """A histogram with these observations."""
    made = Histogram(bounds)
    for value in values_s:
        made.observe(value)
    return made.snapshot()


def timeline(**changes: Any) -> TimelineSnapshot:
    """Open for 100 s, after one outage."""
    default = TimelineSnapshot(
        state=State.OPEN,
        entered_now_s=NOW_S - 100.0,
        entered_wall_s={
            State.IDLE: WALL_S - 4000.0,
            State.CONNECTING: WALL_S - 4000.0,
            State.RECONNECTING: WALL_S - 130.0,
            State.RESYNCING: WALL_S - 101.0,
            State.OPEN: WALL_S - 100.0,
        },
        seconds={State.CONNECTING: 2.0, State.OPEN: 3868.0, State.RECONNECTING: 29.0, State.RESYNCING: 1.0},
        transitions={
            (State.IDLE, State.CONNECTING): 1,
            (State.CONNECTING, State.OPEN): 1,
            (State.OPEN, State.RECONNECTING): 1,
            (State.RECONNECTING, State.RESYNCING): 1,
            (State.RESYNCING, State.OPEN): 1,
        },
        recent=(
            Transition(moment(4000.0), State.IDLE, State.CONNECTING, "start"),
            Transition(moment(3998.0), State.CONNECTING, State.OPEN, "ready, nothing to resume"),
            Transition(moment(130.0), State.OPEN, State.RECONNECTING, "peer_closed"),
            Transition(moment(101.0), State.RECONNECTING, State.RESYNCING, "ready"),
            Transition(moment(100.0), State.RESYNCING, State.OPEN, "settled"),
        ),
    )
    return msgspec.structs.replace(default, **changes)


def heartbeat(**changes: Any) -> HeartbeatSnapshot:
    """266 sent = 264 acknowledged + 1 missed + 1 outstanding."""
    default = HeartbeatSnapshot(
        sent=266,
        acknowledged=264,
        missed=1,
        late=1,
        outstanding=1,
        last_sent=moment(0.01),
        last_ack=moment(15.0),
        last_rtt_s=0.004,
        rtt=histogram(FAST_S, *([0.004] * 264)),
        half_open={Direction.RECEIVE: 1},
    )
    return msgspec.structs.replace(default, **changes)


def continuity(**changes: Any) -> ContinuitySnapshot:
    """607 missed = 500 recovered + 3 lost + 100 unaccounted + 4 missing."""
    default = ContinuitySnapshot(
        epoch=2,
        cursor=700,
        events_received={Origin.LIVE: 1234, Origin.RING: 500, Origin.STORE: 100},
        duplicates=151,
        out_of_order=2,
        undecided=0,
        gaps={GapCause.LIVE: 2, GapCause.RECONNECT: 1},
        missing=4,
        missed=607,
        recovered=500,
        lost=3,
        unaccounted=100,
        late=1,
        resets=1,
        resyncs={(Claim.COMPLETE, Verdict.VERIFIED): 64, (Claim.GAP, Verdict.UNVERIFIABLE): 1},
        resync_duration=histogram(SLOW_S, *([0.02] * 64), 0.8),
        replayed=751,
        forgotten={"identities": 7},
        last_loss=moment(100.0),
    )
    return msgspec.structs.replace(default, **changes)


def canary(**changes: Any) -> CanarySnapshot:
    """66 sent, 64 came in time, 2 timed out, one of which came late."""
    default = CanarySnapshot(
        sent=66,
        received=64,
        timed_out=2,
        late=1,
        duplicate=3,
        failed=1,
        round_trip=histogram(FAST_S, *([0.03] * 64)),
    )
    return msgspec.structs.replace(default, **changes)


def lifetime(**changes: Any) -> LifetimeSnapshot:
    """Ten days over several processes."""
    default = LifetimeSnapshot(
        since_wall_s=WALL_S - 864_000.0,
        events=91_834,
        reconnects=12,
        missed=1_607,
        recovered=1_490,
        lost=13,
        unaccounted=100,
        late=2,
        resets=1,
    )
    return msgspec.structs.replace(default, **changes)


def connection(**changes: Any) -> ConnectionSnapshot:
    """A Relaycast ring connection over TLS with a canary, open, after trouble of every kind."""
    default = ConnectionSnapshot(
        name="cast",
        protocol="relaycast",
        dialect="ring",
        numbering=Numbering.CONTIGUOUS,
        upstream="https://cast.example:443",
        timeline=timeline(),
        started=moment(4000.0),
        established=moment(101.0),
        attempts=6,
        attempt_failures={AttemptFailure.REFUSED: 3, AttemptFailure.TIMEOUT: 1},
        last_failure=None,
        next_attempt_now_s=None,
        reconnects=1,
        disconnects={Disconnect.PEER_CLOSED: 1},
        close_codes={"1001": 1},
        consecutive_failures=0,
        handshake=histogram(FAST_S, 0.04, 0.05),
        last_handshake_s={"dns": 0.002, "tcp": 0.001, "tls": 0.02, "upgrade": 0.01, "protocol": 0.0},
        token_expiry_wall_s=None,
        certificate_expiry_wall_s=WALL_S + 86_400.0 * 60,
        frames_received={FrameKind.EVENT: 1985, FrameKind.CONTROL: 65, FrameKind.HEARTBEAT: 265, FrameKind.INVALID: 2},
        frames_sent={FrameKind.HEARTBEAT: 266, FrameKind.RESYNC: 65, FrameKind.CONTROL: 2},
        received_bytes=812_345,
        sent_bytes=9_876,
        anomalies={Anomaly.MALFORMED: 2},
        last_frame=moment(0.5),
        last_event=moment(2.5),
        verifications={Verification.VERIFIED: 64, Verification.FAILED: 1},
        verified_now_s=NOW_S - 40.0,
        heartbeat=heartbeat(),
        clock_offset_s=-0.25,
        event_latency=histogram(SLOW_S, *([0.01] * 1200)),
        continuity=continuity(),
        canary=canary(),
        lifetime=lifetime(),
        settled_once=True,
    )
    return msgspec.structs.replace(default, **changes)


def fresh_connection(**changes: Any) -> ConnectionSnapshot:
    """Configured and never started: all counts 0, nothing known, plain http, no canary."""
    default = ConnectionSnapshot(
        name="cast",
        protocol="relaycast",
        dialect="ring",
        numbering=Numbering.CONTIGUOUS,
        upstream="http://127.0.0.1:8787",
        timeline=TimelineSnapshot(State.IDLE, NOW_S, {State.IDLE: WALL_S}, {}, {}, ()),
        started=None,
        established=None,
        attempts=0,
        attempt_failures={},
        last_failure=None,
        next_attempt_now_s=None,
        reconnects=0,
        disconnects={},
        close_codes={},
        consecutive_failures=0,
        handshake=histogram(FAST_S),
        last_handshake_s={},
        token_expiry_wall_s=None,
        certificate_expiry_wall_s=None,
        frames_received={},
        frames_sent={},
        received_bytes=0,
        sent_bytes=0,
        anomalies={},
        last_frame=None,
        last_event=None,
        verifications={},
        verified_now_s=None,
        heartbeat=HeartbeatSnapshot(0, 0, 0, 0, 0, None, None, None, histogram(FAST_S), {}),
        clock_offset_s=None,
        event_latency=None,
        continuity=ContinuitySnapshot(
            epoch=0,
            cursor=None,
            events_received={},
            duplicates=0,
            out_of_order=0,
            undecided=0,
            gaps={},
            missing=0,
            missed=0,
            recovered=0,
            lost=0,
            unaccounted=0,
            late=0,
            resets=0,
            resyncs={},
            resync_duration=histogram(SLOW_S),
            replayed=0,
            forgotten={},
            last_loss=None,
        ),
        canary=None,
        lifetime=LifetimeSnapshot(WALL_S, 0, 0, 0, 0, 0, 0, 0, 0),
        settled_once=False,
    )
    return msgspec.structs.replace(default, **changes)


def service(**changes: Any) -> ServiceSnapshot:
    """Unhealthy for a minute: 14 probes = 11 healthy ones + 3 failures."""
    default = ServiceSnapshot(
        name="flair",
        upstream="http://127.0.0.1:9926",
        healthy=False,
        since=moment(60.0),
        probes=14,
        failures={**dict.fromkeys(ProbeFailure, 0), ProbeFailure.REFUSED: 2, ProbeFailure.STATUS: 1},
        duration=histogram(FAST_S, *([0.004] * 14)),
        last_probe=moment(29.0),
        last_healthy=moment(360.0),
        last_failure="HTTP 503",
        next_probe_now_s=NOW_S + 1.0,
        lifetime=ServiceLifetimeSnapshot(WALL_S - 86_400.0, 300, 5),
    )
    return msgspec.structs.replace(default, **changes)


def fresh_service(**changes: Any) -> ServiceSnapshot:
    """Configured, and no probe ended yet."""
    nothing: dict[str, Any] = dict.fromkeys(("healthy", "since", "last_probe", "last_healthy", "last_failure"))
    counts: dict[str, Any] = {"probes": 0, "failures": dict.fromkeys(ProbeFailure, 0), "duration": histogram(FAST_S)}
    return service(**nothing, **counts, **changes)


def watcher(**changes: Any) -> WatcherSnapshot:
    """Alive, but for a directory that may not be read."""
    default = WatcherSnapshot(
        name="project",
        path="/srv/project",
        mode=WatchMode.ACTIVE,
        up=False,
        dead_since=None,
        blind_since=moment(60.0),
        detail="/srv/project/private: permission denied",
        sentinel=True,
        directories=1_204,
        unseen=1,
        changes={FileChange.ADDED: 20, FileChange.MODIFIED: 300, FileChange.DELETED: 4},
        sentinels={SentinelResult.SEEN: 240, SentinelResult.MISSED: 1},
        sentinel_latency=histogram(FAST_S, 0.01, 0.02),
        restarts=dict.fromkeys(WatchTrouble, 0) | {WatchTrouble.ERROR: 1, WatchTrouble.MISSED: 1},
        last_event=moment(30.0),
        last_alive=moment(4.0),
    )
    return msgspec.structs.replace(default, **changes)


def fresh_watcher(**changes: Any) -> WatcherSnapshot:
    """Configured without a sentinel, and nothing found out yet."""
    nothing: dict[str, Any] = dict.fromkeys(("mode", "blind_since", "detail", "last_event", "last_alive"))
    nothing |= {"changes": dict.fromkeys(FileChange, 0), "sentinels": dict.fromkeys(SentinelResult, 0), "restarts": dict.fromkeys(WatchTrouble, 0)}
    nothing |= {"sentinel": False, "directories": 0, "unseen": 0, "sentinel_latency": histogram(FAST_S)}
    return watcher(**nothing | changes)


def mirror(**changes: Any) -> MirrorSnapshot:
    """In mode sync, and a file has not come over for a minute."""
    default = MirrorSnapshot(
        name="agent",
        mode="sync",
        mount="/mnt/agent",
        project="/srv/project",
        up=True,
        watchers_healthy=True,
        gone=(),
        pending=2,
        oldest_pending_now_s=NOW_S - 60.0,
        differing=1,
        differences=(Difference("src/big.bin", "cannot be copied: no space left on device", moment(60.0)),),
        files={"mount": 1_204, "project": 1_203},
        moved={("to_mount", "copied"): 7, ("to_mount", "deleted"): 1, ("to_project", "copied"): 42, ("to_project", "deleted"): 0},
        conflicts=3,
        errors=12,
        refused_deletes=25,
        refusal=None,
        last_error="src/big.bin cannot be copied: no space left on device",
        flushes={FlushResult.COMPLETE: 4, FlushResult.TIMEOUT: 1, FlushResult.ERROR: 0},
        flush_duration=histogram(SLOW_S, 0.05, 0.05, 0.1, 0.1, 20.0),
        reconcile_duration=histogram(SLOW_S, 0.04, 0.06),
        last_reconcile=moment(21.0),
        comparing_since_now_s=None,
    )
    return msgspec.structs.replace(default, **changes)


def fresh_mirror(**changes: Any) -> MirrorSnapshot:
    """Observing, and not compared yet."""
    nothing: dict[str, Any] = dict.fromkeys(("pending", "differing", "conflicts", "errors", "refused_deletes"), 0)
    nothing |= dict.fromkeys(("oldest_pending_now_s", "last_error", "last_reconcile"))
    nothing |= {"up": False, "mode": "observe", "differences": (), "files": {}, "flushes": dict.fromkeys(FlushResult, 0)}
    nothing |= {"moved": dict.fromkeys(mirror().moved, 0), "flush_duration": histogram(SLOW_S), "reconcile_duration": histogram(SLOW_S)}
    return mirror(**nothing | changes)


def held(reason: Reason, ago_s: float = 60.0, component: Component = Component.CONNECTION, name: str = "cast", advice: str = "") -> Held:
    """A reason that holds since `ago_s` before the default snapshot."""
    return Held(component, name, reason, NOW_S - ago_s, advice)


def health(*holding: Held, names: tuple[str, ...] = ("cast",), **changes: Any) -> HealthSnapshot:
    """Connections `names` and the sidecar, all healthy but for what is `holding`; the probes' checks follow from it."""
    pairs = [(Component.CONNECTION, name, reason) for name in names for reason in Reason if reason in RING_REASONS]
    pairs.append((Component.SIDECAR, "syncwatch", Reason.TASK_STALLED))
    owners = [*((Component.CONNECTION, name) for name in names), (Component.SIDECAR, "syncwatch")]
    down = {Reason.FAILED, Reason.CONNECTING, Reason.RECONNECTING}
    now = {(one.component, one.name, one.reason) for one in holding}

    def state_of(component: Component, name: str) -> Health:
        reasons = {reason for a, b, reason in now if (a, b) == (component, name)}
        if reasons & down:
            return Health.DOWN
        return Health.DEGRADED if reasons else Health.HEALTHY

    def check(name: str) -> Check:
        grave = [one for one in holding if one.name == name and one.reason not in INCIDENTS]
        return Check(f"connection/{name}", not grave, ", ".join(one.reason for one in grave))

    connections = tuple(check(name) for name in names)
    closed = ", ".join(one.detail for one in connections if not one.ok)
    default = HealthSnapshot(
        degraded={pair: pair in now for pair in pairs},
        degradations={pair: int(pair in now) for pair in pairs},
        seconds={(a, b, one): 3_900.0 if one is Health.HEALTHY else 50.0 for a, b in owners for one in Health},
        held=tuple(holding),
        health={owner: state_of(*owner) for owner in owners},
        checks={
            "livez": (Check("tasks", True),),
            "healthz": (Check("tasks", True),),
            "readyz": (Check("first_sync", True), *connections),
            "gate": (Check("read", not closed, closed), Check("write", not closed, closed)),
        },
    )
    return msgspec.structs.replace(default, **changes)


def sidecar(**changes: Any) -> SidecarSnapshot:
    """A process with a state directory, all tasks in time."""
    default = SidecarSnapshot(
        version="0.1.0",
        revision="0123abc",
        python_version="3.11.2",
        instance="box-1f2e",
        started=Moment(1_000.0, WALL_S - 4_000.0),
        tasks=(TaskSnapshot("connection/cast", 0.0, False), TaskSnapshot("statefile", 0.0, False)),
        suspended=False,
        event_loop_lag_s=0.002,
        statefile_write_failures=0,
        statefile_last_write_wall_s=WALL_S - 0.8,
        config_last_reload_successful=True,
        config_last_reload_success_wall_s=WALL_S - 4_000.0,
        callback_errors=0,
        gate_file_failures=0,
    )
    return msgspec.structs.replace(default, **changes)


def snapshot(**changes: Any) -> Snapshot:
    """One connection and its sidecar at NOW_S; `connections` without `health` gets a healthy one for their names."""
    if "connections" in changes and "health" not in changes:
        changes["health"] = health(names=tuple(one.name for one in changes["connections"]))
    default = Snapshot(
        at=Moment(NOW_S, WALL_S),
        connections=(connection(),),
        health=health(),
        sidecar=sidecar(),
        hooks=(HookSnapshot("ui", 70, 5, 2, 1, None),),
    )
    return msgspec.structs.replace(default, **changes)

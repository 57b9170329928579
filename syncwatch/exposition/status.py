"""/status: everything a snapshot knows, as one JSON document, and the same as text for a terminal.

What belongs here: where in a snapshot each key of the document stands, and what the document means for an exit code. The shape is
`document.py`, the text `terminal.py`. Counters of closed sets are all there, at 0 where nothing was counted, as in the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from syncwatch.core.health import Component, Health, Held
from syncwatch.core.histogram import HistogramSnapshot
from syncwatch.core.snapshot import (
    CanarySnapshot,
    ConnectionSnapshot,
    ContinuitySnapshot,
    HeartbeatSnapshot,
    MirrorSnapshot,
    Moment,
    ReportSnapshot,
    ServiceSnapshot,
    SidecarSnapshot,
    Snapshot,
    TimelineSnapshot,
    WatcherSnapshot,
)
from syncwatch.core.states import ESTABLISHED, State
from syncwatch.core.timestamps import rfc3339
from syncwatch.exposition import document as doc
from syncwatch.exposition import gate
from syncwatch.exposition.registry import absent, label_sets

__all__ = ["build", "document", "exit_code", "render"]

_WORST = (Health.DOWN, Health.DEGRADED, Health.HEALTHY)
_RESTING = frozenset({State.IDLE, State.CLOSED})
_EXIT: Mapping[str | None, int] = {Health.HEALTHY: 0, Health.DEGRADED: 1, Health.DOWN: 2}


def render(status: Mapping[str, Any], colour: bool = False, width: int = 80, verbose: bool = False) -> str:
    """The document as lines for people. Raises: ValueError if it is no status document."""
    from syncwatch.exposition.terminal import render as lines  # a command's, not a sidecar's

    return lines(status, colour, width, verbose)


def document(snapshot: Snapshot) -> dict[str, Any]:
    """The document as it arrives over HTTP; the order of its keys is always the same."""
    arrived: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(build(snapshot)))
    return arrived


def exit_code(status: Mapping[str, Any]) -> int:
    """For scripts: 0 healthy, 1 degraded or not known yet, 2 down."""
    return _EXIT.get(status.get("health"), 1)


def build(snapshot: Snapshot) -> doc.Status:
    """The document, typed."""
    at, health = snapshot.at, snapshot.health
    known = set(health.health.values())
    return doc.Status(
        schema=doc.SCHEMA,
        time=rfc3339(at.wall_s),
        health=next((one for one in _WORST if one in known), None),
        degraded_reason=next((one.reason for one in health.held), None),
        reasons=doc.reasons(health.held, at),
        gate=doc.Gate(gate.verdict(snapshot, gate.Purpose.READ), gate.verdict(snapshot, gate.Purpose.WRITE)),
        checks={
            probe: tuple(doc.Check(one.name, one.ok, one.detail) for one in checks)
            for probe, checks in health.checks.items()
        },
        connections=tuple(_connection(one, snapshot) for one in snapshot.connections),
        watchers=tuple(_watcher(one, snapshot) for one in snapshot.watchers),
        mirrors=tuple(_mirror(one, snapshot) for one in snapshot.mirrors),
        services=tuple(_service(one, snapshot) for one in snapshot.services),
        hooks=tuple(doc.Hook(**msgspec.structs.asdict(one)) for one in snapshot.hooks),
        sidecar=_sidecar(snapshot.sidecar, at),
    )


def _connection(c: ConnectionSnapshot, snapshot: Snapshot) -> doc.Connection:
    at = snapshot.at
    return doc.Connection(
        name=c.name,
        protocol=c.protocol,
        dialect=c.dialect,
        continuity=c.numbering,
        upstream=c.upstream,
        health=None if c.timeline.state in _RESTING else snapshot.health.health.get((Component.CONNECTION, c.name)),
        state=c.timeline.state,
        state_since=_state_since(c.timeline, at),
        up=c.timeline.state in ESTABLISHED,
        started=doc.instant(c.started, at),
        established=doc.instant(c.established, at),
        first_sync_done=c.settled_once,
        reasons=doc.reasons(_of(Component.CONNECTION, c.name, snapshot.health.held), at),
        attempts=_attempts(c, at),
        reconnects=c.reconnects,
        disconnects=_counts(c, "syncwatch_connection_disconnects_total", c.disconnects),
        close_codes=_counts(c, "syncwatch_connection_close_codes_total", c.close_codes),
        heartbeats=_heartbeats(c, c.heartbeat, at),
        traffic=_traffic(c, at),
        verification=doc.Verification(
            unverified_s=None if c.verified_now_s is None else doc.seconds(max(0.0, at.now_s - c.verified_now_s)),
            results=_counts(c, "syncwatch_verifications_total", c.verifications),
            ever=None if c.verified_now_s is None or c.started is None else c.verified_now_s > c.started.now_s,
        ),
        ledger=None if c.continuity is None else _ledger(c, c.continuity, at),
        clock_offset_s=None if c.clock_offset_s is None else doc.seconds(c.clock_offset_s),
        event_latency=None
        if c.event_latency is None
        else doc.Latency(c.event_latency.cumulative[-1], _mean_s(c.event_latency)),
        canary=None if c.canary is None else _canary(c, c.canary),
        expiry=doc.Expiry(doc.due_wall(c.token_expiry_wall_s, at), doc.due_wall(c.certificate_expiry_wall_s, at)),
        lifetime=_lifetime(c, at),
        state_seconds=_state_seconds(c, at),
        transitions=tuple(
            doc.Transition(_certain(one.at, at), one.from_state, one.to_state, one.reason)
            for one in reversed(c.timeline.recent)
        ),
        report=None if c.report is None else _report(c.report, at),
    )


def _watcher(w: WatcherSnapshot, snapshot: Snapshot) -> doc.Watcher:
    at = snapshot.at
    state = "dead" if w.dead_since else "blind" if w.blind_since else "alive" if w.up or w.last_alive else "unknown"
    return doc.Watcher(
        name=w.name,
        path=w.path,
        mode=w.mode,
        health=snapshot.health.health.get((Component.WATCHER, w.name)),
        state=state,
        up=w.up,
        reasons=doc.reasons(_of(Component.WATCHER, w.name, snapshot.health.held), at),
        detail=w.detail,
        directories=w.directories,
        unseen=w.unseen,
        changes={str(change): count for change, count in w.changes.items()},
        restarts={str(trouble): count for trouble, count in w.restarts.items()},
        sentinels={str(result): count for result, count in w.sentinels.items()} if w.sentinel else None,
        mean_sentinel_s=_mean_s(w.sentinel_latency) if w.sentinel else None,
        last_event=doc.instant(w.last_event, at),
        last_alive=doc.instant(w.last_alive, at),
    )


def _mirror(m: MirrorSnapshot, snapshot: Snapshot) -> doc.Mirror:
    at = snapshot.at
    moved: dict[str, dict[str, int]] = {}
    for (direction, operation), count in m.moved.items():
        moved.setdefault(direction, {})[operation] = count
    return doc.Mirror(
        name=m.name,
        mode=m.mode,
        mount=m.mount,
        project=m.project,
        health=snapshot.health.health.get((Component.MIRROR, m.name)),
        state="gone" if m.gone else "unknown" if m.last_reconcile is None else "differing" if m.differing else "in_step",
        up=m.up,
        watchers_healthy=m.watchers_healthy,
        reasons=doc.reasons(_of(Component.MIRROR, m.name, snapshot.health.held), at),
        gone=m.gone,
        pending=m.pending,
        oldest_pending_s=_running_s(m.oldest_pending_now_s, at),
        differing=m.differing,
        differences=tuple(doc.Difference(one.path, one.why, _certain(one.since, at)) for one in m.differences),
        files=dict(m.files),
        moved=moved,
        conflicts=m.conflicts,
        errors=m.errors,
        refused_deletes=m.refused_deletes,
        refusal=m.refusal,
        last_error=m.last_error,
        flushes=doc.Flushes(**{str(result): count for result, count in m.flushes.items()}, mean_s=_mean_s(m.flush_duration)),
        last_reconcile=doc.instant(m.last_reconcile, at),
        mean_reconcile_s=_mean_s(m.reconcile_duration),
        comparing_for_s=_running_s(m.comparing_since_now_s, at),
    )


def _running_s(since_now_s: float | None, at: Moment) -> float | None:
    return None if since_now_s is None else doc.seconds(max(0.0, at.now_s - since_now_s))


def _service(v: ServiceSnapshot, snapshot: Snapshot) -> doc.Service:
    at = snapshot.at
    return doc.Service(
        name=v.name,
        upstream=v.upstream,
        health=snapshot.health.health.get((Component.SERVICE, v.name)),
        state="unknown" if v.healthy is None else "healthy" if v.healthy else "unhealthy",
        state_since=doc.instant(v.since, at),
        reasons=doc.reasons(_of(Component.SERVICE, v.name, snapshot.health.held), at),
        last_probe=doc.instant(v.last_probe, at),
        last_healthy=doc.instant(v.last_healthy, at),
        last_failure=v.last_failure,
        probes=doc.Probes(
            total=v.probes,
            failures={str(reason): count for reason, count in v.failures.items()},
            mean_s=_mean_s(v.duration),
            next=doc.due_now(v.next_probe_now_s, at),
        ),
        lifetime=None if v.lifetime is None else doc.ServiceLifetime(doc.since_wall(v.lifetime.since_wall_s, at), v.lifetime.probes, v.lifetime.failures),
    )


def _of(component: Component, name: str, held: Iterable[Held]) -> tuple[Held, ...]:
    return tuple(one for one in held if one.component is component and one.name == name)


def _state_since(timeline: TimelineSnapshot, at: Moment) -> doc.Instant | None:
    """None before the clock was known; until then nothing has begun."""
    wall_s = timeline.entered_wall_s.get(timeline.state)
    return None if wall_s is None else doc.instant(Moment(timeline.entered_now_s, wall_s), at)


def _state_seconds(c: ConnectionSnapshot, at: Moment) -> dict[str, float]:
    possible = label_sets(c.protocol, c.dialect)["syncwatch_connection_state_seconds_total"]
    spent_s = {state: c.timeline.seconds_in(state, at.now_s) for state in {*c.timeline.seconds, c.timeline.state}}
    return {state: doc.seconds(spent_s.get(state, 0.0)) for (state,) in possible}  # type: ignore[call-overload]  # StrEnum keys


def _attempts(c: ConnectionSnapshot, at: Moment) -> doc.Attempts:
    return doc.Attempts(
        total=_known(c, "syncwatch_connection_attempts_total", c.attempts),
        failures=_counts(c, "syncwatch_connection_attempt_failures_total", c.attempt_failures),
        consecutive_failures=_known(c, "syncwatch_connection_consecutive_failures", c.consecutive_failures),
        last_failure=c.last_failure,
        next=doc.due_now(c.next_attempt_now_s, at),
        mean_handshake_s=_mean_s(c.handshake),
        last_handshake_s={phase: doc.seconds(took_s) for phase, took_s in c.last_handshake_s.items()},
        under_way=c.attempting if c.report is None else None,
    )


def _heartbeats(c: ConnectionSnapshot, beat: HeartbeatSnapshot, at: Moment) -> doc.Heartbeats:
    return doc.Heartbeats(
        sent=beat.sent,
        acknowledged=_known(c, "syncwatch_heartbeats_acknowledged_total", beat.acknowledged),
        missed=_known(c, "syncwatch_heartbeats_missed_total", beat.missed),
        late=_known(c, "syncwatch_heartbeats_late_total", beat.late),
        outstanding=_known(c, "syncwatch_heartbeats_missed_total", beat.outstanding),
        last_sent=doc.instant(beat.last_sent, at),
        last_acknowledged=doc.instant(beat.last_ack, at),
        last_rtt_s=None if beat.last_rtt_s is None else doc.seconds(beat.last_rtt_s),
        mean_rtt_s=_mean_s(beat.rtt),
        half_open=_counts(c, "syncwatch_half_open_total", beat.half_open),
    )


def _traffic(c: ConnectionSnapshot, at: Moment) -> doc.Traffic:
    return doc.Traffic(
        frames_received=_counts(c, "syncwatch_frames_received_total", c.frames_received),
        frames_sent=_counts(c, "syncwatch_frames_sent_total", c.frames_sent),
        received_bytes=_known(c, "syncwatch_received_bytes_total", c.received_bytes),
        sent_bytes=_known(c, "syncwatch_sent_bytes_total", c.sent_bytes),
        anomalies=_counts(c, "syncwatch_protocol_anomalies_total", c.anomalies),
        last_frame=doc.instant(c.last_frame, at),
        last_event=doc.instant(c.last_event, at),
    )


def _ledger(c: ConnectionSnapshot, ledger: ContinuitySnapshot, at: Moment) -> doc.Ledger:
    by_origin = _counts(c, "syncwatch_events_received_total", ledger.events_received)
    resyncs: dict[str, dict[str, int]] = {}
    for claim, verdict in label_sets(c.protocol, c.dialect)["syncwatch_resyncs_total"]:
        resyncs.setdefault(str(claim), {})[str(verdict)] = 0
    for (claim, verdict), count in ledger.resyncs.items():
        if count:  # a combination that should not exist is shown all the same once it was counted
            resyncs.setdefault(str(claim), {})[str(verdict)] = count
    return doc.Ledger(
        epoch=ledger.epoch if c.numbered else None,
        cursor=ledger.cursor,
        events=sum(by_origin.values()) + ledger.undecided,
        events_by_origin=by_origin,
        undecided=_numbered(c, ledger.undecided),
        duplicates=ledger.duplicates,
        out_of_order=_numbered(c, ledger.out_of_order),
        missed=_numbered(c, ledger.missed),
        recovered=_numbered(c, ledger.recovered),
        lost=_numbered(c, ledger.lost),
        unaccounted=_numbered(c, ledger.unaccounted),
        missing=_numbered(c, ledger.missing),
        late=_numbered(c, ledger.late),
        last_loss=doc.instant(ledger.last_loss, at),
        gaps=_counts(c, "syncwatch_sequence_gaps_total", ledger.gaps),
        resets=_numbered(c, ledger.resets),
        replayed=_numbered(c, ledger.replayed),
        resyncs=resyncs,
        mean_resync_s=_mean_s(ledger.resync_duration),
        forgotten=_counts(c, "syncwatch_ledger_forgotten_total", ledger.forgotten),
        audits=None if ledger.audits is None else _counts(c, "syncwatch_audits_total", ledger.audits),
        audit_events=None if ledger.audit_events is None else _counts(c, "syncwatch_audit_events_total", ledger.audit_events),
    )


def _canary(c: ConnectionSnapshot, canary: CanarySnapshot) -> doc.Canary:
    return doc.Canary(
        sent=canary.sent,
        received=canary.received,
        timed_out=canary.timed_out,
        late=canary.late,
        lost=canary.timed_out - canary.late,
        duplicate=canary.duplicate,
        failed=canary.failed,
        mean_round_trip_s=_mean_s(canary.round_trip),
        logged=None if c.continuity is None or c.continuity.audits is None else canary.logged,
        log_delay_s=canary.log_delay_s,
    )


def _lifetime(c: ConnectionSnapshot, at: Moment) -> doc.Lifetime:
    totals: dict[str, Any] = msgspec.structs.asdict(c.lifetime)
    since = doc.since_wall(totals.pop("since_wall_s"), at)
    if c.continuity is None:
        totals = {key: value if key == "reconnects" else None for key, value in totals.items()}
    elif not c.numbered:
        totals = {key: value if value or key in ("reconnects", "events") else None for key, value in totals.items()}
    return doc.Lifetime(since=since, **totals)


def _report(report: ReportSnapshot, at: Moment) -> doc.Report:
    return doc.Report(
        path=report.path,
        read=doc.instant(report.read, at),
        written=doc.instant(report.written, at),
        pid=report.pid,
        process=report.process,
        reconnects=report.reconnects,
        remarks=report.remarks,
    )


def _sidecar(sidecar: SidecarSnapshot, at: Moment) -> doc.Sidecar:
    written_s, failures = sidecar.statefile_last_write_wall_s, sidecar.statefile_write_failures
    loaded_s = sidecar.config_last_reload_success_wall_s
    return doc.Sidecar(
        version=sidecar.version,
        revision=sidecar.revision,
        python_version=sidecar.python_version,
        instance=sidecar.instance,
        started=_certain(sidecar.started, at),
        suspended=sidecar.suspended,
        event_loop_lag_s=doc.seconds(sidecar.event_loop_lag_s),
        tasks=tuple(doc.Task(one.task, doc.seconds(one.overdue_s), one.wedged) for one in sidecar.tasks),
        state_file=None
        if failures is None
        else doc.StateFile(failures, None if written_s is None else doc.since_wall(written_s, at)),
        gate_file=None if sidecar.gate_file_failures is None else doc.GateFile(sidecar.gate_file_failures),
        config=doc.Config(
            sidecar.config_last_reload_successful,
            None if loaded_s is None else doc.since_wall(loaded_s, at),
            sidecar.config_errors,
        ),
        callback_errors=sidecar.callback_errors,
    )


def _certain(moment: Moment, at: Moment) -> doc.Instant:
    seen = doc.instant(moment, at)
    assert seen is not None
    return seen


def _numbered(c: ConnectionSnapshot, counted: int) -> int | None:
    """None where the server numbers nothing, so that nobody can know; a count that should not exist is shown all the same."""
    return counted if counted or c.numbered else None


def _known(c: ConnectionSnapshot, metric: str, counted: int) -> int | None:
    """None where this connection can never count it; a count that should not exist is shown all the same."""
    return None if not counted and metric in absent(c.protocol, c.dialect) else counted


def _counts(c: ConnectionSnapshot, metric: str, counted: Mapping[Any, int]) -> dict[str, int]:
    """What this connection can ever count under the metric's label, in the metric's order, and whatever else was counted."""
    possible = [values[0] for values in label_sets(c.protocol, c.dialect)[metric]]
    others = [key for key, count in counted.items() if count and key not in possible]
    return {str(key): counted.get(key, 0) for key in [*possible, *others]}


def _mean_s(histogram: HistogramSnapshot) -> float | None:
    """None while nothing was observed."""
    count = histogram.cumulative[-1]
    return doc.seconds(histogram.sum / count) if count else None

"""The metrics of one snapshot: a collector that makes fresh families for each scrape and keeps nothing between two.

What belongs here: where in a snapshot the value of each defined metric stands. No number is made here; ages are the one
exception, computed from the snapshot's own monotonic time. A scrape waits for nothing and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from syncwatch.core.histogram import HistogramSnapshot
from syncwatch.core.snapshot import (
    CanarySnapshot,
    ConnectionSnapshot,
    ContinuitySnapshot,
    MirrorSnapshot,
    Moment,
    ServiceSnapshot,
    Snapshot,
    WatcherSnapshot,
)
from syncwatch.core.states import ESTABLISHED
from syncwatch.exposition.registry import (
    DEFINITIONS,
    PER_CONNECTION,
    Definition,
    Kind,
    LabelSet,
    Section,
    absent,
    label_sets,
)

Value = float | HistogramSnapshot
Values = Mapping[Any, Value] | None
"""One metric of one owner: LabelSet to value (Any: a Mapping's key type is invariant, and the snapshots' keys are enums).

None: it cannot be known, so there is no sample at all.
"""

ConnectionReader = Callable[[ConnectionSnapshot, float], Values]
"""Reads one connection at a monotonic time (s)."""
MirrorReader = Callable[[MirrorSnapshot, float], Values]
"""Reads one mirror at a monotonic time (s)."""
WatcherReader = Callable[[WatcherSnapshot], Values]
ServiceReader = Callable[[ServiceSnapshot], Values]
SidecarReader = Callable[[Snapshot], Values]

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily


def _plain(value: Value | None) -> Values:
    return None if value is None else {(): value}


def _keyed(values: Mapping[Any, float]) -> Values:
    return {(key,): value for key, value in values.items()}


def _at(moment: Moment | None) -> Values:
    return None if moment is None else {(): moment.wall_s}


def _age(since_now_s: float | None, now_s: float) -> Values:
    return None if since_now_s is None else {(): max(0.0, now_s - since_now_s)}


def _moment_age(moment: Moment | None, now_s: float) -> Values:
    return None if moment is None else _age(moment.now_s, now_s)


def _continuity(read: Callable[[ContinuitySnapshot], Values]) -> ConnectionReader:
    return lambda c, _: None if c.continuity is None else read(c.continuity)


def _canary(read: Callable[[CanarySnapshot], Value]) -> ConnectionReader:
    return lambda c, _: None if c.canary is None else _plain(read(c.canary))


def _state_seconds(c: ConnectionSnapshot, now_s: float) -> Values:
    entered = {*c.timeline.seconds, c.timeline.state}
    return {(state,): c.timeline.seconds_in(state, now_s) for state in entered}


CONNECTION_READERS: Mapping[str, ConnectionReader] = {
    "syncwatch_connection_info": lambda c, _: {(c.protocol, c.dialect, c.numbering, c.upstream): 1.0},
    "syncwatch_connection_up": lambda c, _: {(): float(c.timeline.state in ESTABLISHED)},
    "syncwatch_connection_state": lambda c, _: {(c.timeline.state,): 1.0},
    "syncwatch_connection_state_entered_timestamp_seconds": lambda c, _: _keyed(c.timeline.entered_wall_s),
    "syncwatch_connection_state_seconds_total": _state_seconds,
    "syncwatch_connection_transitions_total": lambda c, _: c.timeline.transitions,
    "syncwatch_connection_established_timestamp_seconds": lambda c, _: _at(c.established),
    "syncwatch_connection_attempts_total": lambda c, _: {(): c.attempts},
    "syncwatch_connection_attempt_failures_total": lambda c, _: _keyed(c.attempt_failures),
    "syncwatch_connection_reconnects_total": lambda c, _: {(): c.reconnects},
    "syncwatch_connection_disconnects_total": lambda c, _: _keyed(c.disconnects),
    "syncwatch_connection_close_codes_total": lambda c, _: _keyed(c.close_codes),
    "syncwatch_connection_consecutive_failures": lambda c, _: {(): c.consecutive_failures},
    "syncwatch_connection_handshake_duration_seconds": lambda c, _: {(): c.handshake},
    "syncwatch_connection_last_handshake_seconds": lambda c, _: _keyed(c.last_handshake_s),
    "syncwatch_token_expiry_timestamp_seconds": lambda c, _: _plain(c.token_expiry_wall_s),
    "syncwatch_tls_certificate_expiry_timestamp_seconds": lambda c, _: _plain(c.certificate_expiry_wall_s),
    "syncwatch_frames_received_total": lambda c, _: _keyed(c.frames_received),
    "syncwatch_frames_sent_total": lambda c, _: _keyed(c.frames_sent),
    "syncwatch_received_bytes_total": lambda c, _: {(): c.received_bytes},
    "syncwatch_sent_bytes_total": lambda c, _: {(): c.sent_bytes},
    "syncwatch_protocol_anomalies_total": lambda c, _: _keyed(c.anomalies),
    "syncwatch_last_frame_timestamp_seconds": lambda c, _: _at(c.last_frame),
    "syncwatch_last_frame_age_seconds": lambda c, now_s: _moment_age(c.last_frame, now_s),
    "syncwatch_last_event_timestamp_seconds": lambda c, _: _at(c.last_event),
    "syncwatch_last_event_age_seconds": lambda c, now_s: _moment_age(c.last_event, now_s),
    "syncwatch_verifications_total": lambda c, _: _keyed(c.verifications),
    "syncwatch_unverified_seconds": lambda c, now_s: _age(c.verified_now_s, now_s),
    "syncwatch_heartbeats_sent_total": lambda c, _: {(): c.heartbeat.sent},
    "syncwatch_heartbeats_acknowledged_total": lambda c, _: {(): c.heartbeat.acknowledged},
    "syncwatch_heartbeats_missed_total": lambda c, _: {(): c.heartbeat.missed},
    "syncwatch_heartbeats_late_total": lambda c, _: {(): c.heartbeat.late},
    "syncwatch_heartbeat_last_sent_timestamp_seconds": lambda c, _: _at(c.heartbeat.last_sent),
    "syncwatch_heartbeat_last_ack_timestamp_seconds": lambda c, _: _at(c.heartbeat.last_ack),
    "syncwatch_heartbeat_rtt_seconds": lambda c, _: {(): c.heartbeat.rtt},
    "syncwatch_half_open_total": lambda c, _: _keyed(c.heartbeat.half_open),
    "syncwatch_clock_offset_seconds": lambda c, _: _plain(c.clock_offset_s),
    "syncwatch_events_received_total": _continuity(lambda k: _keyed(k.events_received)),
    "syncwatch_events_duplicate_total": _continuity(lambda k: _plain(k.duplicates)),
    "syncwatch_events_out_of_order_total": _continuity(lambda k: _plain(k.out_of_order)),
    "syncwatch_events_undecided": _continuity(lambda k: _plain(k.undecided)),
    "syncwatch_sequence_gaps_total": _continuity(lambda k: _keyed(k.gaps)),
    "syncwatch_sequence_missing": _continuity(lambda k: _plain(k.missing)),
    "syncwatch_sequence_missed_total": _continuity(lambda k: _plain(k.missed)),
    "syncwatch_sequence_recovered_total": _continuity(lambda k: _plain(k.recovered)),
    "syncwatch_sequence_lost_total": _continuity(lambda k: _plain(k.lost)),
    "syncwatch_sequence_unaccounted_total": _continuity(lambda k: _plain(k.unaccounted)),
    "syncwatch_sequence_late_total": _continuity(lambda k: _plain(k.late)),
    "syncwatch_sequence_resets_total": _continuity(lambda k: _plain(k.resets)),
    "syncwatch_resyncs_total": _continuity(lambda k: k.resyncs),
    "syncwatch_resync_duration_seconds": _continuity(lambda k: _plain(k.resync_duration)),
    "syncwatch_replayed_events_total": _continuity(lambda k: _plain(k.replayed)),
    "syncwatch_ledger_forgotten_total": _continuity(lambda k: _keyed(k.forgotten)),
    "syncwatch_audits_total": _continuity(lambda k: None if k.audits is None else _keyed(k.audits)),
    "syncwatch_audit_events_total": _continuity(lambda k: None if k.audit_events is None else _keyed(k.audit_events)),
    "syncwatch_event_latency_seconds": lambda c, _: _plain(c.event_latency),
    "syncwatch_canaries_sent_total": _canary(lambda y: y.sent),
    "syncwatch_canaries_received_total": _canary(lambda y: y.received),
    "syncwatch_canaries_timed_out_total": _canary(lambda y: y.timed_out),
    "syncwatch_canaries_late_total": _canary(lambda y: y.late),
    "syncwatch_canaries_duplicate_total": _canary(lambda y: y.duplicate),
    "syncwatch_canaries_failed_total": _canary(lambda y: y.failed),
    "syncwatch_canary_round_trip_seconds": _canary(lambda y: y.round_trip),
}
"""Where each metric with the label `connection` stands."""

WATCHER_READERS: Mapping[str, WatcherReader] = {
    "syncwatch_watcher_info": lambda w: None if w.mode is None else {(w.mode,): 1},
    "syncwatch_watcher_up": lambda w: {(): float(w.up)} if w.up or w.dead_since or w.blind_since or w.last_alive else None,
    "syncwatch_watcher_events_total": lambda w: _keyed(w.changes),
    "syncwatch_watcher_last_event_timestamp_seconds": lambda w: _at(w.last_event),
    "syncwatch_watcher_last_alive_timestamp_seconds": lambda w: _at(w.last_alive),
    "syncwatch_watcher_sentinels_total": lambda w: _keyed(w.sentinels) if _wrote(w) else None,
    "syncwatch_watcher_sentinel_latency_seconds": lambda w: {(): w.sentinel_latency} if _wrote(w) else None,
    "syncwatch_watcher_restarts_total": lambda w: _keyed(w.restarts),
}
"""Where each metric with the label `watcher` stands."""


def _wrote(w: WatcherSnapshot) -> bool:
    """Whether it has a sentinel, or had one."""
    return w.sentinel or any(w.sentinels.values())


def _compared(read: Callable[[MirrorSnapshot], float]) -> MirrorReader:
    return lambda m, _: None if m.last_reconcile is None and not m.gone else {(): read(m)}


def _acting(read: Callable[[MirrorSnapshot], Values]) -> MirrorReader:
    return lambda m, _: read(m) if m.mode == "sync" else None


MIRROR_READERS: Mapping[str, MirrorReader] = {
    "syncwatch_mirror_up": _compared(lambda m: float(m.up)),
    "syncwatch_mirror_pending_paths": lambda m, _: {(): m.pending},
    "syncwatch_mirror_oldest_pending_age_seconds": lambda m, now_s: {
        (): 0.0 if m.oldest_pending_now_s is None else max(0.0, now_s - m.oldest_pending_now_s)
    },
    "syncwatch_mirror_differing_paths": _compared(lambda m: m.differing),
    "syncwatch_mirror_files_total": _acting(lambda m: m.moved),
    "syncwatch_mirror_conflicts_total": _acting(lambda m: {(): m.conflicts}),
    "syncwatch_mirror_errors_total": lambda m, _: {(): m.errors},
    "syncwatch_mirror_refused_deletes_total": _acting(lambda m: {(): m.refused_deletes}),
    "syncwatch_mirror_flushes_total": lambda m, _: _keyed(m.flushes),
    "syncwatch_mirror_flush_duration_seconds": lambda m, _: {(): m.flush_duration},
    "syncwatch_mirror_reconcile_duration_seconds": lambda m, _: {(): m.reconcile_duration},
    "syncwatch_mirror_last_reconcile_timestamp_seconds": lambda m, _: _at(m.last_reconcile),
}
"""Where each metric with the label `mirror` stands."""

SERVICE_READERS: Mapping[str, ServiceReader] = {
    "syncwatch_service_up": lambda v: None if v.healthy is None else {(): float(v.healthy)},
    "syncwatch_service_probes_total": lambda v: {(): v.probes},
    "syncwatch_service_probe_failures_total": lambda v: _keyed(v.failures),
    "syncwatch_service_probe_duration_seconds": lambda v: {(): v.duration},
    "syncwatch_service_last_probe_timestamp_seconds": lambda v: _at(v.last_probe),
    "syncwatch_service_last_healthy_timestamp_seconds": lambda v: _at(v.last_healthy),
}
"""Where each metric with the label `target_service` stands."""

SIDECAR_READERS: Mapping[str, SidecarReader] = {
    "syncwatch_degraded": lambda s: s.health.degraded,
    "syncwatch_degradations_total": lambda s: s.health.degradations,
    "syncwatch_health_seconds_total": lambda s: s.health.seconds,
    "syncwatch_check_ok": lambda s: {
        (probe, check.name): float(check.ok) for probe, checks in s.health.checks.items() for check in checks
    },
    "syncwatch_hook_deliveries_total": lambda s: {
        (hook.name, result): getattr(hook, result) for hook in s.hooks for result in ("delivered", "retried", "dropped")
    },
    "syncwatch_callback_errors_total": lambda s: {(): s.sidecar.callback_errors},
    "syncwatch_task_overdue_seconds": lambda s: {(one.task,): one.overdue_s for one in s.sidecar.tasks},
    "syncwatch_inotify_watches": lambda s: None if s.sidecar.inotify_watches is None else {(): s.sidecar.inotify_watches},
    "syncwatch_inotify_instances": lambda s: None if s.sidecar.inotify_instances is None else {(): s.sidecar.inotify_instances},
    "syncwatch_event_loop_lag_seconds": lambda s: {(): s.sidecar.event_loop_lag_s},
    "syncwatch_statefile_write_failures_total": lambda s: _plain(s.sidecar.statefile_write_failures),
    "syncwatch_statefile_last_write_timestamp_seconds": lambda s: _plain(s.sidecar.statefile_last_write_wall_s),
    "syncwatch_config_last_reload_successful": lambda s: {(): float(s.sidecar.config_last_reload_successful)},
    "syncwatch_config_last_reload_success_timestamp_seconds": lambda s: _plain(s.sidecar.config_last_reload_success_wall_s),
    "syncwatch_build_info": lambda s: {(s.sidecar.version, s.sidecar.python_version, s.sidecar.revision): 1.0},
}
"""Where each metric of the sidecar as a whole stands."""


class SnapshotCollector(Collector):
    """Makes all families but the process's own from one snapshot, taken at the beginning of each scrape."""

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take

    def collect(self) -> Iterator[Metric]:
        """Fresh families in the order of DEFINITIONS; one without any sample is left out."""
        snapshot = self._take()
        for definition in DEFINITIONS:
            if definition.section is Section.PROCESS:
                continue
            family = _family(definition)
            if definition.section in PER_CONNECTION:
                read = CONNECTION_READERS[definition.name]
                for connection in snapshot.connections:
                    values = read(connection, snapshot.at.now_s)
                    _add(family, (connection.name,), _completed(definition, connection, values))
            elif definition.section is Section.WATCHER:
                for watcher in snapshot.watchers:
                    _add(family, (watcher.name,), WATCHER_READERS[definition.name](watcher))
            elif definition.section is Section.MIRROR:
                for mirror in snapshot.mirrors:
                    _add(family, (mirror.name,), MIRROR_READERS[definition.name](mirror, snapshot.at.now_s))
            elif definition.section is Section.SERVICE:
                for service in snapshot.services:
                    _add(family, (service.name,), SERVICE_READERS[definition.name](service))
            else:
                _add(family, (), SIDECAR_READERS[definition.name](snapshot))
            if family.samples:
                yield family


def build_registry(take: Callable[[], Snapshot]) -> CollectorRegistry:
    """A registry of our own with everything that is exported; `take` is called once per scrape and must not block.

    prometheus-client's collectors of the interpreter (`python_info`, `python_gc_*`) stay out: they cost series and tell
    nothing about sync. No family carries a creation time, so no `_created` series exist, without touching a global switch.
    """
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(take))
    ProcessCollector(registry=registry)
    return registry


def _family(definition: Definition) -> _Family:
    name, text, labels, unit = definition.family, definition.help, definition.labels, definition.unit
    match definition.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(name, text, labels=labels, unit=unit)
        case Kind.GAUGE:
            return GaugeMetricFamily(name, text, labels=labels, unit=unit)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(name, text, labels=labels, unit=unit)
        case Kind.INFO:
            return InfoMetricFamily(name, text, labels=labels)


def _completed(definition: Definition, connection: ConnectionSnapshot, values: Values) -> Values:
    """Every label set that this connection can ever report, at 0 where nothing was counted.

    A count outside the closed sets is exported all the same: a number that is not zero is never hidden.
    """
    kind = (connection.protocol, connection.dialect)
    if values is not None and definition.name in absent(*kind) and not any(map(_counted, values.values())):
        return None
    closed = label_sets(*kind).get(definition.name)
    if values is None or closed is None or definition.sparse:
        return values
    return {**dict.fromkeys(closed, 0.0), **{key: value for key, value in values.items() if key in closed or value}}


def _counted(value: Value) -> bool:
    """Whether there is anything in it."""
    return bool(value.cumulative[-1] if isinstance(value, HistogramSnapshot) else value)


def _add(family: _Family, owner: LabelSet, values: Values) -> None:
    for further, value in (values or {}).items():
        labels = [*owner, *further]
        if isinstance(value, HistogramSnapshot):
            assert isinstance(family, HistogramMetricFamily)
            family.add_metric(labels, list(zip(_edges(value.bounds), value.cumulative, strict=True)), value.sum)
        elif isinstance(family, InfoMetricFamily):
            family.add_metric(labels, {})
        else:
            assert not isinstance(family, HistogramMetricFamily)
            family.add_metric(labels, value)


@cache
def _edges(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*map(str, bounds), "+Inf")

"""What a scrape says is what the snapshot says: complete, closed, absent where unknown, readable in both formats."""

from __future__ import annotations

import math
import random
import subprocess
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from syncwatch.core.health import Component, Health, Reason
from syncwatch.core.histogram import SLOW_S, Histogram
from syncwatch.core.reported import Look, Picture, Reported, ReportedSettings
from syncwatch.core.session import Session, SessionSettings
from syncwatch.core.snapshot import ConnectionSnapshot, HookSnapshot, MirrorSnapshot, Moment, Snapshot, WatcherSnapshot
from syncwatch.core.states import AuditResult, AuditVerdict, Disconnect, Origin, State
from syncwatch.core.wire import Numbering
from syncwatch.exposition.metrics import (
    CONNECTION_READERS,
    MIRROR_READERS,
    SERVICE_READERS,
    SIDECAR_READERS,
    WATCHER_READERS,
    SnapshotCollector,
    build_registry,
)
from syncwatch.exposition.negotiation import render
from syncwatch.exposition.registry import (
    DEFINITIONS,
    PER_CONNECTION,
    SERIES_OF_CANARY,
    SERIES_OF_CONNECTION,
    SERIES_OF_HEALTH,
    SERIES_OF_MIRROR,
    SERIES_OF_SERVICE,
    SERIES_OF_SIDECAR,
    SERIES_OF_WATCHER,
    Kind,
    Section,
)
from syncwatch.protocols.tps.codec import Tps
from syncwatch.protocols.tps.hostfile import Passive
from syncwatch.protocols.tps.keys import Identity
from tests.requires import require
from tests.unit.snapshots import (
    NOW_S,
    WALL_S,
    canary,
    connection,
    continuity,
    fresh_connection,
    fresh_mirror,
    fresh_service,
    fresh_watcher,
    health,
    held,
    mirror,
    service,
    sidecar,
    snapshot,
    timeline,
    watcher,
)

OPENMETRICS = "application/openmetrics-text;version=1.0.0"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

OURS = [one.name for one in DEFINITIONS if one.section is not Section.PROCESS]
AUDITED = continuity(audits={AuditResult.CLEAN: 3}, audit_events={AuditVerdict.MISSED: 1})
WATCHING = sidecar(inotify_watches=1_205, inotify_instances=1)
FULL = snapshot(connections=(connection(token_expiry_wall_s=WALL_S + 3600.0, continuity=AUDITED),), services=(service(),), watchers=(watcher(),), mirrors=(mirror(),), sidecar=WATCHING)
"""Everything that can be known is known."""


def families(taken: Snapshot) -> list[Metric]:
    """What a scrape of this snapshot collects, without the process's own."""
    return list(SnapshotCollector(lambda: taken).collect())


def read_text(taken: Snapshot) -> list[Metric]:
    """Text 0.0.4 and back, through prometheus_client's own parser."""
    return list(parse_text(render(build_registry(lambda: taken))[0].decode()))


def read_openmetrics(taken: Snapshot) -> list[Metric]:
    """OpenMetrics 1.0.0 and back, through prometheus_client's own, stricter parser."""
    body = render(build_registry(lambda: taken), OPENMETRICS)[0].decode()
    return list(parse_openmetrics(body))  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped


def flat(collected: Iterable[Metric]) -> Samples:
    """Samples by name and labels; a sample that comes twice fails."""
    found: Samples = {}
    for family in collected:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def of(taken: Snapshot, name: str) -> dict[tuple[str, ...], float]:
    """One metric of connection `cast` (or of the sidecar): values of its further labels to the value."""
    definition = next(one for one in DEFINITIONS if one.name == name)
    return {
        tuple(sample.labels[label] for label in definition.further): sample.value
        for family in families(taken)
        for sample in family.samples
        if sample.name == name and sample.labels.get("connection", "cast") == "cast"
    }


def of_connection(name: str, one: ConnectionSnapshot) -> dict[tuple[str, ...], float]:
    """One metric of this connection."""
    return of(snapshot(connections=(one,)), name)


def plain(collected: Iterable[Metric]) -> dict[str, float]:
    """Samples without further labels, by name."""
    return {
        sample.name: sample.value
        for family in collected
        for sample in family.samples
        if set(sample.labels) <= {"connection"}
    }


def test_readers_and_definitions_are_one_to_one() -> None:
    """Each defined metric is read from somewhere, and nothing else is."""
    per_connection = [one.name for one in DEFINITIONS if one.section in PER_CONNECTION]
    assert per_connection == list(CONNECTION_READERS)
    assert OURS == [*CONNECTION_READERS, *WATCHER_READERS, *MIRROR_READERS, *SERVICE_READERS, *SIDECAR_READERS]


def test_full_snapshot_yields_every_definition_and_nothing_else() -> None:
    """Where everything is known, each metric is there once, in order, with its type, unit, help and labels."""
    collected = families(FULL)
    ours = [one for one in DEFINITIONS if one.section is not Section.PROCESS]
    assert [one.family for one in ours] == [family.name for family in collected]
    for one, family in zip(ours, collected, strict=True):
        assert (one.kind, one.unit, one.help) == (family.type, family.unit, family.documentation)
        extra = {"le"} if one.kind is Kind.HISTOGRAM else set()
        for sample in family.samples:
            assert set(one.labels) == set(sample.labels) - extra
            assert sample.name.startswith(one.name)


def test_registry_adds_the_process_and_nothing_of_the_interpreter() -> None:
    """process_* comes from prometheus-client; no python_*, no `_created`."""
    names = [family.name for family in build_registry(lambda: FULL).collect()]
    assert [one.family for one in DEFINITIONS] == sorted(names, key=[one.family for one in DEFINITIONS].index)
    samples = [sample.name for family in build_registry(lambda: FULL).collect() for sample in family.samples]
    assert [] == [name for name in samples if name.endswith("_created") or name.startswith("python_")]


VALUES = {
    "syncwatch_connection_up": 1,
    "syncwatch_connection_established_timestamp_seconds": WALL_S - 101.0,
    "syncwatch_connection_attempts_total": 6,
    "syncwatch_connection_reconnects_total": 1,
    "syncwatch_connection_consecutive_failures": 0,
    "syncwatch_connection_handshake_duration_seconds_count": 2,
    "syncwatch_connection_handshake_duration_seconds_sum": 0.09,
    "syncwatch_token_expiry_timestamp_seconds": WALL_S + 3600.0,
    "syncwatch_tls_certificate_expiry_timestamp_seconds": WALL_S + 5_184_000.0,
    "syncwatch_received_bytes_total": 812_345,
    "syncwatch_sent_bytes_total": 9_876,
    "syncwatch_last_frame_timestamp_seconds": WALL_S - 0.5,
    "syncwatch_last_frame_age_seconds": 0.5,
    "syncwatch_last_event_timestamp_seconds": WALL_S - 2.5,
    "syncwatch_last_event_age_seconds": 2.5,
    "syncwatch_unverified_seconds": 40.0,
    "syncwatch_heartbeats_sent_total": 266,
    "syncwatch_heartbeats_acknowledged_total": 264,
    "syncwatch_heartbeats_missed_total": 1,
    "syncwatch_heartbeats_late_total": 1,
    "syncwatch_heartbeat_last_sent_timestamp_seconds": WALL_S - 0.01,
    "syncwatch_heartbeat_last_ack_timestamp_seconds": WALL_S - 15.0,
    "syncwatch_heartbeat_rtt_seconds_count": 264,
    "syncwatch_heartbeat_rtt_seconds_sum": 1.056,
    "syncwatch_clock_offset_seconds": -0.25,
    "syncwatch_events_duplicate_total": 151,
    "syncwatch_events_out_of_order_total": 2,
    "syncwatch_events_undecided": 5,
    "syncwatch_sequence_missing": 4,
    "syncwatch_sequence_missed_total": 607,
    "syncwatch_sequence_recovered_total": 500,
    "syncwatch_sequence_lost_total": 3,
    "syncwatch_sequence_unaccounted_total": 100,
    "syncwatch_sequence_late_total": 1,
    "syncwatch_sequence_resets_total": 1,
    "syncwatch_resync_duration_seconds_count": 65,
    "syncwatch_resync_duration_seconds_sum": 2.08,
    "syncwatch_replayed_events_total": 751,
    "syncwatch_event_latency_seconds_count": 1200,
    "syncwatch_event_latency_seconds_sum": 12.0,
    "syncwatch_canaries_sent_total": 66,
    "syncwatch_canaries_received_total": 64,
    "syncwatch_canaries_timed_out_total": 2,
    "syncwatch_canaries_late_total": 1,
    "syncwatch_canaries_duplicate_total": 3,
    "syncwatch_canaries_failed_total": 7,
    "syncwatch_canary_round_trip_seconds_count": 64,
    "syncwatch_canary_round_trip_seconds_sum": 1.92,
    "syncwatch_callback_errors_total": 8,
    "syncwatch_event_loop_lag_seconds": 0.002,
    "syncwatch_statefile_write_failures_total": 9,
    "syncwatch_statefile_last_write_timestamp_seconds": WALL_S - 0.8,
    "syncwatch_config_last_reload_successful": 0,
    "syncwatch_config_last_reload_success_timestamp_seconds": WALL_S - 4_000.0,
}
"""Every sample without further labels."""


def test_plain_values_are_the_snapshots() -> None:
    """Each number without further labels is its owner's; all differ where mixing two up would matter."""
    taken = snapshot(
        connections=(
            connection(
                token_expiry_wall_s=WALL_S + 3600.0, continuity=continuity(undecided=5), canary=canary(failed=7)
            ),
        ),
        sidecar=sidecar(statefile_write_failures=9, callback_errors=8, config_last_reload_successful=False),
    )
    assert pytest.approx(VALUES) == plain(families(taken))


def test_the_time_of_a_load_that_never_was_is_absent() -> None:
    """A sidecar that waits for its first configuration has a 0 for how it went, and no time."""
    never = sidecar(config_last_reload_successful=False, config_last_reload_success_wall_s=None)
    found = plain(families(snapshot(connections=(), sidecar=never)))
    assert 0 == found["syncwatch_config_last_reload_successful"]
    assert "syncwatch_config_last_reload_success_timestamp_seconds" not in found


def test_info_metrics_carry_constants() -> None:
    """The infos say what is configured and what is running."""
    assert {("relaycast", "ring", "contiguous", "https://cast.example:443"): 1} == of(FULL, "syncwatch_connection_info")
    assert {("0.1.0", "3.11.2", "0123abc"): 1} == of(FULL, "syncwatch_build_info")


def test_labelled_counts_are_the_snapshots_and_0_elsewhere() -> None:
    """What was counted has its count; what could be and was not is 0."""
    assert {("live",): 1234, ("ring",): 500, ("store",): 100} == of(FULL, "syncwatch_events_received_total")
    assert {("receive",): 1, ("send",): 0} == of(FULL, "syncwatch_half_open_total")
    assert {("live",): 2, ("reconnect",): 1} == of(FULL, "syncwatch_sequence_gaps_total")
    assert {("identities",): 7, ("ranges",): 0, ("hashes",): 0} == of(FULL, "syncwatch_ledger_forgotten_total")
    assert {("verified",): 64, ("behind",): 0, ("failed",): 1} == of(FULL, "syncwatch_verifications_total")
    assert {("event",): 1985, ("control",): 65, ("heartbeat",): 265, ("invalid",): 2} == of(
        FULL, "syncwatch_frames_received_total"
    )
    assert {("heartbeat",): 266, ("resync",): 65, ("control",): 2} == of(FULL, "syncwatch_frames_sent_total")
    assert {("dns",): 0.002, ("tcp",): 0.001, ("tls",): 0.02, ("upgrade",): 0.01, ("protocol",): 0.0} == of(
        FULL, "syncwatch_connection_last_handshake_seconds"
    )
    failures = of(FULL, "syncwatch_connection_attempt_failures_total")
    assert (3, 1, 4, 10) == (failures[("refused",)], failures[("timeout",)], sum(failures.values()), len(failures))
    disconnects = of(FULL, "syncwatch_connection_disconnects_total")
    assert (1, 1, 9) == (disconnects[("peer_closed",)], sum(disconnects.values()), len(disconnects))
    codes = of(FULL, "syncwatch_connection_close_codes_total")
    assert (1, 1, 8) == (codes[("1001",)], sum(codes.values()), len(codes))
    anomalies = of(FULL, "syncwatch_protocol_anomalies_total")
    assert (2, 2, 8) == (anomalies[("malformed",)], sum(anomalies.values()), len(anomalies))
    resyncs = of(FULL, "syncwatch_resyncs_total")
    assert (64, 1, 65, 7) == (
        resyncs[("complete", "verified")],
        resyncs[("gap", "unverifiable")],
        sum(resyncs.values()),
        len(resyncs),
    )


def test_exactly_one_state_is_1() -> None:
    """The state set has all states of the protocol and one 1, whatever the state."""
    for state in State:
        states = of_connection("syncwatch_connection_state", connection(timeline=timeline(state=state)))
        assert [(state,)] == [one for one, value in states.items() if value == 1]
        assert 1 == sum(states.values())


@pytest.mark.parametrize("state", State)
def test_up_is_an_established_websocket(state: State) -> None:
    """Up while resyncing or open, in no other state."""
    up = of_connection("syncwatch_connection_up", connection(timeline=timeline(state=state)))
    assert {(): float(state in (State.RESYNCING, State.OPEN))} == up


def test_time_in_states_includes_the_running_stay() -> None:
    """The present state's seconds grow with the clock of the snapshot; the others stand."""
    earlier = of(FULL, "syncwatch_connection_state_seconds_total")
    assert (3868.0 + 100.0, 2.0, 0.0) == (earlier[("open",)], earlier[("connecting",)], earlier[("failed",)])
    later = of(
        msgspec.structs.replace(FULL, at=Moment(NOW_S + 7.5, WALL_S)), "syncwatch_connection_state_seconds_total"
    )
    assert {(state,): 7.5 if state == "open" else 0.0 for (state,) in earlier} == {
        one: later[one] - earlier[one] for one in earlier
    }


def test_first_stay_is_counted_before_it_ends() -> None:
    """A state that was never left before has its running stay all the same."""
    one = connection(timeline=timeline(state=State.FAILED, entered_now_s=NOW_S - 3.0, seconds={}))
    assert 3.0 == of_connection("syncwatch_connection_state_seconds_total", one)[("failed",)]


def test_transitions_count_edges() -> None:
    """Each possible edge is there, the taken ones with their count, and none through polling for a ring."""
    edges = of(FULL, "syncwatch_connection_transitions_total")
    assert 20 == len(edges)
    assert (1, 5) == (edges[("resyncing", "open")], sum(edges.values()))
    assert [] == [edge for edge in edges if "polling" in edge]


def test_entered_timestamps_exist_for_entered_states_only() -> None:
    """A state that was never entered has no timestamp."""
    entered = of(FULL, "syncwatch_connection_state_entered_timestamp_seconds")
    assert {"idle", "connecting", "reconnecting", "resyncing", "open"} == {state for (state,) in entered}
    assert WALL_S - 130.0 == entered[("reconnecting",)]


def test_ages_follow_the_monotonic_clock_and_timestamps_stand() -> None:
    """A wall clock that jumped an hour changes no age; half a minute of monotonic time changes each by as much."""
    later = msgspec.structs.replace(FULL, at=Moment(NOW_S + 30.0, WALL_S - 3600.0))
    before, after = plain(families(FULL)), plain(families(later))
    ages = {"syncwatch_last_frame_age_seconds", "syncwatch_last_event_age_seconds", "syncwatch_unverified_seconds"}
    assert dict.fromkeys(ages, 30.0) == {
        name: after[name] - before[name] for name in before if after[name] != before[name]
    }


def test_ages_are_never_negative() -> None:
    """Something stamped after the snapshot's own moment is 0 s old, not less."""
    soon = Moment(NOW_S + 1.0, WALL_S + 1.0)
    one = connection(last_frame=soon, last_event=soon, verified_now_s=NOW_S + 1.0)
    found = plain(families(snapshot(connections=(one,))))
    for name in (
        "syncwatch_last_frame_age_seconds",
        "syncwatch_last_event_age_seconds",
        "syncwatch_unverified_seconds",
    ):
        assert 0.0 == found[name]


ABSENT_WHEN_FRESH = {
    "syncwatch_connection_established_timestamp_seconds",
    "syncwatch_connection_last_handshake_seconds",
    "syncwatch_token_expiry_timestamp_seconds",
    "syncwatch_tls_certificate_expiry_timestamp_seconds",
    "syncwatch_last_frame_timestamp_seconds",
    "syncwatch_last_frame_age_seconds",
    "syncwatch_last_event_timestamp_seconds",
    "syncwatch_last_event_age_seconds",
    "syncwatch_unverified_seconds",
    "syncwatch_heartbeat_last_sent_timestamp_seconds",
    "syncwatch_heartbeat_last_ack_timestamp_seconds",
    "syncwatch_clock_offset_seconds",
    "syncwatch_audits_total",
    "syncwatch_audit_events_total",
    "syncwatch_event_latency_seconds",
    "syncwatch_canaries_sent_total",
    "syncwatch_canaries_received_total",
    "syncwatch_canaries_timed_out_total",
    "syncwatch_canaries_late_total",
    "syncwatch_canaries_duplicate_total",
    "syncwatch_canaries_failed_total",
    "syncwatch_canary_round_trip_seconds",
}

FRESH = snapshot(
    connections=(fresh_connection(),),
    sidecar=sidecar(statefile_write_failures=None, statefile_last_write_wall_s=None),
    hooks=(),
)


def test_unknown_is_absent() -> None:
    """Before anything happened, without TLS, canary and state directory: exactly these are missing, and the reference says when."""
    missing = set(OURS) - {one.name for one in DEFINITIONS if any(one.family == each.name for each in families(FRESH))}
    statefile = {"syncwatch_statefile_write_failures_total", "syncwatch_statefile_last_write_timestamp_seconds"}
    assert ABSENT_WHEN_FRESH | statefile | {"syncwatch_hook_deliveries_total"} | set(SERVICE_READERS) | set(WATCHER_READERS) | set(MIRROR_READERS) | INOTIFY == missing
    explained = {one.name for one in DEFINITIONS if one.absent}
    assert missing | {"syncwatch_connection_state_entered_timestamp_seconds"} == explained


def test_everything_else_stands_at_0_from_the_first_scrape() -> None:
    """A connection that never did anything has every counter of every closed label set, at 0."""
    first = flat(family for family in families(FRESH) if any("connection" in one.labels for one in family.samples))
    last = flat(family for family in families(FULL) if any("connection" in one.labels for one in family.samples))
    assert [] == [
        key for key, value in first.items() if key[0].endswith(("_total", "_bucket", "_count", "_sum")) and value
    ]
    born = {one.name for one in DEFINITIONS if one.name in ABSENT_WHEN_FRESH or one.sparse}
    later = {name for name, _ in set(last) - set(first)}
    assert [] == [
        name for name in later if not any(name.startswith(one) for one in born) and name != "syncwatch_connection_info"
    ]


def test_a_hook_has_every_result_from_the_first_scrape() -> None:
    """At 0 before anything was sent."""
    name = "syncwatch_hook_deliveries_total"
    assert {("ui", "delivered"): 70, ("ui", "retried"): 5, ("ui", "dropped"): 2} == of(FULL, name)
    fresh = snapshot(hooks=(HookSnapshot("a", 0, 0, 0, 0, None),))
    assert {("a", "delivered"): 0, ("a", "retried"): 0, ("a", "dropped"): 0} == of(fresh, name)


def test_a_service_is_counted_from_the_first_scrape() -> None:
    """All reasons at 0 before the first probe ended; whether it is up, and times, are not known then."""
    name = "syncwatch_service_probe_failures_total"
    counts = {("refused",): 2, ("dns",): 0, ("tls",): 0, ("timeout",): 0, ("status",): 1, ("body",): 0}
    assert counts == of(FULL, name)
    fresh = snapshot(services=(fresh_service(),))
    assert dict.fromkeys(counts, 0) == of(fresh, name)
    known = {"syncwatch_service_probes_total", name, "syncwatch_service_probe_duration_seconds"}
    names = {one.name for one in DEFINITIONS for family in families(fresh) if family.name == one.family}
    assert known == names & set(SERVICE_READERS)


def test_a_service_is_read_from_its_snapshot() -> None:
    """Each number is its owner's, under the label that no scraper sets."""
    taken = snapshot(connections=(), services=(service(), service(name="other", healthy=True)))
    found = {key: value for key, value in flat(families(taken)).items() if key[0].startswith("syncwatch_service_") and len(key[1]) == 1}
    flair, other = (frozenset({("target_service", name)}) for name in ("flair", "other"))
    assert (0, 1) == (found["syncwatch_service_up", flair], found["syncwatch_service_up", other])
    assert 14 == found["syncwatch_service_probes_total", flair]
    assert 14 == found["syncwatch_service_probe_duration_seconds_count", flair]
    assert WALL_S - 29.0 == found["syncwatch_service_last_probe_timestamp_seconds", flair]
    assert WALL_S - 360.0 == found["syncwatch_service_last_healthy_timestamp_seconds", flair]


def test_series_budget_of_a_service() -> None:
    """Its metrics, and what its health, its check and its task cost."""
    own = sum("target_service" in labels for _, labels in named(FULL))
    health_and_tasks = 2 * 2 + 3 + 1 + 2 + 1  # two reasons twice, three kinds of health, readyz, livez and healthz, the task
    assert 26 == own  # what it is today: more needs a reason
    assert own + health_and_tasks <= SERIES_OF_SERVICE


INOTIFY = {"syncwatch_inotify_watches", "syncwatch_inotify_instances"}


def of_watchers(*watchers: WatcherSnapshot) -> dict[str, float]:
    """Samples of watchers without further labels, by name."""
    found = flat(families(snapshot(connections=(), watchers=watchers)))
    return {name: value for (name, labels), value in found.items() if {label for label, _ in labels} == {"watcher"}}


def test_a_watcher_is_read_from_its_snapshot() -> None:
    """Each number is its owner's, and what the kernel holds for us is the sidecar's."""
    found = of_watchers(watcher())
    assert 0 == found["syncwatch_watcher_up"]
    assert 1 == of_watchers(watcher(up=True, blind_since=None))["syncwatch_watcher_up"]
    assert [WALL_S - 30.0, WALL_S - 4.0] == [found[f"syncwatch_watcher_last_{name}_timestamp_seconds"] for name in ("event", "alive")]
    assert 2 == found["syncwatch_watcher_sentinel_latency_seconds_count"]
    assert {("active",): 1} == of(FULL, "syncwatch_watcher_info")
    assert {("added",): 20, ("modified",): 300, ("deleted",): 4} == of(FULL, "syncwatch_watcher_events_total")
    assert {("seen",): 240, ("missed",): 1} == of(FULL, "syncwatch_watcher_sentinels_total")
    expected = {("missed",): 1, ("error",): 1, ("root_gone",): 0, ("root_replaced",): 0, ("overflow",): 0, ("limits",): 0}
    assert expected == of(FULL, "syncwatch_watcher_restarts_total")
    assert ({(): 1_205}, {(): 1}) == (of(FULL, "syncwatch_inotify_watches"), of(FULL, "syncwatch_inotify_instances"))


def test_a_watcher_that_knows_nothing_yet_claims_nothing() -> None:
    """Counters stand at 0; mode, up and times are not known; without a sentinel nothing is said of sentinels."""
    taken = snapshot(connections=(), watchers=(fresh_watcher(),))
    names = {one.name for one in DEFINITIONS for family in families(taken) if family.name == one.family}
    assert {"syncwatch_watcher_events_total", "syncwatch_watcher_restarts_total"} == names & set(WATCHER_READERS)
    assert {0} == set(of(taken, "syncwatch_watcher_restarts_total").values())


def test_series_budget_of_a_watcher() -> None:
    """Its metrics, and what its health, its checks and its task cost."""
    own = sum("watcher" in labels for _, labels in named(FULL))
    health_checks_and_task = 2 * 3 + 3 + 2 + 1
    assert 31 == own  # what it is today: more needs a reason
    assert own + health_checks_and_task <= SERIES_OF_WATCHER


def of_mirrors(*mirrors: MirrorSnapshot) -> dict[str, float]:
    """Samples of mirrors without further labels, by name."""
    found = flat(families(snapshot(connections=(), mirrors=mirrors)))
    return {name: value for (name, labels), value in found.items() if {label for label, _ in labels} == {"mirror"}}


def test_a_mirror_is_read_from_its_snapshot() -> None:
    """Each number is its owner's; the age of what waits is computed while it is read."""
    found = of_mirrors(mirror())
    names = ("up", "pending_paths", "oldest_pending_age_seconds", "differing_paths", "conflicts_total", "errors_total", "refused_deletes_total")
    assert [1, 2, 60, 1, 3, 12, 25] == [found[f"syncwatch_mirror_{name}"] for name in names]
    assert WALL_S - 21.0 == found["syncwatch_mirror_last_reconcile_timestamp_seconds"]
    assert (5, 2) == (found["syncwatch_mirror_flush_duration_seconds_count"], found["syncwatch_mirror_reconcile_duration_seconds_count"])
    assert {("to_mount", "copied"): 7, ("to_mount", "deleted"): 1, ("to_project", "copied"): 42, ("to_project", "deleted"): 0} == of(
        FULL, "syncwatch_mirror_files_total"
    )
    assert {("complete",): 4, ("timeout",): 1, ("error",): 0} == of(FULL, "syncwatch_mirror_flushes_total")


def test_a_mirror_that_knows_nothing_yet_claims_nothing() -> None:
    """What only a comparison tells, and what only mode sync can do, is absent; a root that is gone is known at once; nothing waiting is age 0."""
    found = of_mirrors(fresh_mirror())
    absent_ones = {"up", "differing_paths", "conflicts_total", "refused_deletes_total", "last_reconcile_timestamp_seconds"}
    assert not {f"syncwatch_mirror_{name}" for name in absent_ones} & found.keys()
    assert (0, 0, 0) == tuple(found[f"syncwatch_mirror_{name}"] for name in ("pending_paths", "oldest_pending_age_seconds", "errors_total"))
    assert 0 == of_mirrors(fresh_mirror(gone=("/mnt/agent is not there",)))["syncwatch_mirror_up"]
    assert 0 == of_mirrors(fresh_mirror(mode="sync"))["syncwatch_mirror_conflicts_total"]


def test_series_budget_of_a_mirror() -> None:
    """Its metrics, and what its health, its checks and its tasks (one for each root's watch) cost."""
    own = sum("mirror" in labels for _, labels in named(FULL))
    health_checks_and_tasks = 2 * 4 + 3 + 2 + 3 * 3
    assert 43 == own  # what it is today: more needs a reason
    assert own + health_checks_and_tasks <= SERIES_OF_MIRROR


def test_protocol_without_numbers_has_no_continuity() -> None:
    """Where the server does not number events, no count about numbers exists, not even 0."""
    one = connection(numbering=Numbering.NONE, continuity=None)
    names = {name for name, _ in flat(families(snapshot(connections=(one,))))}
    continuity_names = {one.name for one in DEFINITIONS if one.section is Section.CONTINUITY}
    assert {"syncwatch_event_latency_seconds"} == {
        name for name in continuity_names if any(sample.startswith(name) for sample in names)
    }


def test_count_outside_the_closed_sets_is_not_hidden() -> None:
    """A ring's table leaves superseded out; should it be counted all the same, the number is exported."""
    one = connection(disconnects=dict.fromkeys(Disconnect, 0))
    assert ("superseded",) not in of_connection("syncwatch_connection_disconnects_total", one)
    one = connection(disconnects={Disconnect.SUPERSEDED: 3})
    assert 3 == of_connection("syncwatch_connection_disconnects_total", one)[("superseded",)]


def test_protocol_that_is_not_in_the_table_has_every_label_set() -> None:
    """A library user's own protocol may do anything: nothing is left out."""
    one = connection(protocol="mine", dialect="")
    assert {(origin,) for origin in Origin} == set(of_connection("syncwatch_events_received_total", one))
    assert 27 == len(of_connection("syncwatch_connection_transitions_total", one))


def test_histograms_are_cumulative_and_complete() -> None:
    """Each bound has its count, +Inf and count are all observations."""
    rows = {
        sample.labels["le"]: sample.value
        for family in families(FULL)
        for sample in family.samples
        if sample.name == "syncwatch_resync_duration_seconds_bucket"
    }
    assert ["0.005", "0.025", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf"] == list(rows)
    assert [0, 64, 64, 64, 64, 65, 65, 65, 65, 65, 65, 65] == list(rows.values())


def test_connections_share_families() -> None:
    """Two connections are two label values of the same metrics, each with its own numbers."""
    two = connection(name="second", attempts=17)
    taken = snapshot(connections=(connection(), two))
    names = [family.name for family in families(taken)]
    assert len(set(names)) == len(names)
    attempts = next(each for each in families(taken) if each.name == "syncwatch_connection_attempts")
    assert {"cast": 6, "second": 17} == {one.labels["connection"]: one.value for one in attempts.samples}


def test_no_connection_at_all() -> None:
    """A sidecar without connections still says how it is itself."""
    names = {family.name for family in families(snapshot(connections=(), sidecar=WATCHING))}
    assert {one.family for one in DEFINITIONS if one.section in (Section.HEALTH, Section.SIDECAR)} == names


def test_health_is_the_judges() -> None:
    """Reasons, their counts, times and checks are what the health snapshot says, for every pair that can ever hold."""
    judged = health(held(Reason.BEHIND))
    taken = snapshot(health=judged)
    degraded = of(taken, "syncwatch_degraded")
    assert set(judged.degraded) == set(degraded)
    assert [("connection", "cast", "behind")] == [one for one, value in degraded.items() if value]
    assert judged.degradations == of(taken, "syncwatch_degradations_total")
    assert judged.seconds == of(taken, "syncwatch_health_seconds_total")
    assert 3_900.0 == judged.seconds[Component.CONNECTION, "cast", Health.HEALTHY]
    assert {
        ("livez", "tasks"): 1,
        ("healthz", "tasks"): 1,
        ("readyz", "first_sync"): 1,
        ("readyz", "connection/cast"): 0,
        ("gate", "read"): 0,
        ("gate", "write"): 0,
    } == of(taken, "syncwatch_check_ok")
    assert {("connection/cast",): 0.0, ("statefile",): 0.0} == of(taken, "syncwatch_task_overdue_seconds")


def test_each_scrape_takes_one_snapshot() -> None:
    """The collector keeps nothing: each scrape takes one picture and shows it."""
    pictures = [snapshot(connections=(connection(attempts=count),)) for count in (1, 2)]
    taken = iter(pictures)
    collector = SnapshotCollector(lambda: next(taken))
    for expected in (1, 2):
        assert expected == plain(collector.collect())["syncwatch_connection_attempts_total"]
    with pytest.raises(StopIteration):
        next(taken)


def test_registering_takes_no_snapshot() -> None:
    """A registry can be built before there is anything to show."""

    def too_early() -> Snapshot:
        raise AssertionError

    build_registry(too_early)


def test_both_formats_read_back_to_the_same_numbers() -> None:
    """prometheus_client's own parsers read either format, and both say what was collected."""
    expected = flat(families(FULL))
    for parsed in (read_text(FULL), read_openmetrics(FULL)):
        assert expected == flat(one for one in parsed if not one.name.startswith("process_"))


def test_formats_declare_types_and_units() -> None:
    """Names, types and units stand in the headers as each format wants them."""
    registry = build_registry(lambda: FULL)
    plain_text, open_text = render(registry)[0].decode(), render(registry, OPENMETRICS)[0].decode()
    assert "# TYPE syncwatch_connection_info gauge\n" in plain_text
    assert "# TYPE syncwatch_received_bytes_total counter\n" in plain_text
    assert "# UNIT" not in plain_text
    assert "# TYPE syncwatch_connection info\n" in open_text
    assert "# TYPE syncwatch_received_bytes counter\n# UNIT syncwatch_received_bytes bytes\n" in open_text
    assert "# UNIT syncwatch_connection_state_seconds seconds\n" in open_text
    assert open_text.endswith("# EOF\n")


def test_hostile_names_survive_both_formats() -> None:
    """A configured name with quotes, backslash and newline comes back unharmed."""
    name = 'a"b\\n\n{le="1"} 7 ☃'
    taken = snapshot(connections=(connection(name=name),))
    for parsed in (read_text(taken), read_openmetrics(taken)):
        assert {name} == {
            one.labels["connection"] for each in parsed for one in each.samples if "connection" in one.labels
        }


def test_large_and_odd_numbers_survive() -> None:
    """Counts up to 2**53 are exact; small and negative values come back as they were."""
    one = connection(received_bytes=2**53 - 1, sent_bytes=10_000_000, clock_offset_s=-1e-9)
    taken = snapshot(connections=(one,))
    for parsed in (read_text(taken), read_openmetrics(taken)):
        found = plain(parsed)
        assert 2**53 - 1 == found["syncwatch_received_bytes_total"]
        assert 10_000_000 == found["syncwatch_sent_bytes_total"]
        assert -1e-9 == found["syncwatch_clock_offset_seconds"]
        assert all(math.isfinite(value) for value in found.values())


def worst(**changes: Any) -> ConnectionSnapshot:
    """The most that a ring connection can report: TLS, a token that tells its end, and every state seen but the last."""
    entered = {state: WALL_S for state in State if state not in (State.POLLING, State.CLOSED)}
    return connection(token_expiry_wall_s=WALL_S, timeline=timeline(entered_wall_s=entered), **changes)


def test_series_budget() -> None:
    """What one connection costs, what a canary and its health add, and what the rest of a sidecar costs."""
    bare = worst(canary=None, clock_offset_s=None, event_latency=None)  # a ring's clock is known by canaries alone
    without, with_canary = (
        sum("connection" in labels for _, labels in named(snapshot(connections=(one,)))) for one in (bare, worst())
    )
    assert without <= SERIES_OF_CONNECTION
    assert with_canary - without <= SERIES_OF_CANARY
    taken = snapshot(connections=(worst(),), health=health())
    judged = [one for one in named(taken) if ("component", "connection") in one[1].items()]
    assert len(judged) <= SERIES_OF_HEALTH
    assert len(named(taken)) - with_canary - len(judged) <= SERIES_OF_SIDECAR
    assert (185, 222, 39) == (without, with_canary, len(judged))  # what it is today: more needs a reason


@pytest.mark.parametrize(("protocol", "dialect", "count"), [("relayfile", "push", 199), ("relaycast", "observer", 184)])
def test_series_budget_of_feeds(protocol: str, dialect: str, count: int) -> None:
    """A connection whose log is read over HTTP, every state seen but the last; Relayfile's pongs tell the server's clock."""
    entered = {state: WALL_S for state in State if state is not State.CLOSED}
    known: dict[str, Any] = {} if protocol == "relayfile" else {"clock_offset_s": None, "event_latency": None}
    read = msgspec.structs.replace(AUDITED, events_received={}, resyncs={})
    one = worst(protocol=protocol, dialect=dialect, canary=None, continuity=read, **known)
    phases = dict.fromkeys(("dns", "tcp", "tls", "upgrade"), 0.1)  # there is no handshake of the protocol's own
    nothing = dict.fromkeys(("missing", "missed", "recovered", "lost", "unaccounted", "late"), 0)
    one = msgspec.structs.replace(
        one,
        timeline=timeline(entered_wall_s=entered),
        last_handshake_s=phases,
        continuity=msgspec.structs.replace(read, **nothing),
        frames_received={},
        frames_sent={},
        heartbeat=msgspec.structs.replace(one.heartbeat, late=0),
    )
    series = sum("connection" in labels for _, labels in named(snapshot(connections=(one,))))
    assert series <= SERIES_OF_CONNECTION
    assert count == series  # what it is today: more needs a reason


def test_series_budget_of_a_tps_host() -> None:
    """Mail without numbers from a branch that keeps no log, over TLS, every state seen but the last. What it cannot know is absent, also an empty histogram."""
    host = Session("b", Tps("https://branch.example/tps/wire", Identity(bytes(32)), b"k" * 32, "b1"), SessionSettings(), random.Random(1))
    host.wall(NOW_S, WALL_S - NOW_S)
    host.start(NOW_S)
    full = connection()
    entered = {state: WALL_S for state in State if state not in (State.RESYNCING, State.POLLING, State.CLOSED)}
    one = msgspec.structs.replace(
        host.snapshot(),
        timeline=msgspec.structs.replace(host.snapshot().timeline, entered_wall_s=entered),
        last_handshake_s=dict.fromkeys(("dns", "tcp", "tls", "upgrade", "protocol"), 0.1),
        **{
            name: getattr(full, name)
            for name in ("established", "certificate_expiry_wall_s", "last_frame", "last_event", "heartbeat", "clock_offset_s")
        },
        event_latency=Histogram(SLOW_S).snapshot(),
    )
    found = [(name, labels) for name, labels in named(snapshot(connections=(one,))) if "connection" in labels]
    assert len(found) <= SERIES_OF_CONNECTION
    assert 127 == len(found), "what it is today: more needs a reason"
    absent = ("syncwatch_sequence_", "syncwatch_resync", "syncwatch_verif", "syncwatch_unverified", "syncwatch_audit", "syncwatch_replayed", "syncwatch_event_latency", "syncwatch_token")
    assert not [name for name, _ in found if name.startswith(absent)]
    assert [("tps", "host", "none")] == [(labels["protocol"], labels["dialect"], labels["continuity"]) for name, labels in found if name == "syncwatch_connection_info"]


def named(taken: Snapshot) -> list[tuple[str, dict[str, str]]]:
    """Every series of a scrape, the process's included."""
    return [(one.name, one.labels) for family in build_registry(lambda: taken).collect() for one in family.samples]


@pytest.mark.parametrize("taken", [FULL, FRESH, snapshot(connections=())], ids=["full", "fresh", "none"])
def test_promtool_finds_nothing_to_complain_about(taken: Snapshot) -> None:
    """`promtool check metrics` accepts the text format without a word."""
    body, _ = render(build_registry(lambda: taken))
    checked = subprocess.run([require("promtool"), "check", "metrics"], input=body, capture_output=True, timeout=30)
    assert (0, b"", b"") == (checked.returncode, checked.stdout, checked.stderr)


def test_a_connection_that_only_a_file_tells_of() -> None:
    """TPS in mode passive, connected, every state seen but the last: what the host's file cannot tell has no series at all, and the rest is few."""
    told = Reported("b", Passive(), "/s/b1.json", ReportedSettings())
    told.wall(NOW_S, WALL_S - NOW_S)
    told.start(NOW_S)
    told.looked(NOW_S, Look(Picture(7, WALL_S, WALL_S, WALL_S, 0, 1, 1)))
    entered = {state: WALL_S for state in State if state not in (State.RESYNCING, State.POLLING, State.CLOSED)}
    one = msgspec.structs.replace(told.snapshot(), timeline=msgspec.structs.replace(told.snapshot().timeline, entered_wall_s=entered))
    found = [(name, labels) for name, labels in named(snapshot(connections=(one,))) if "connection" in labels]
    assert 43 == len(found), "what it is today: more needs a reason"
    assert [("tps", "passive", "none", "")] == [
        (labels["protocol"], labels["dialect"], labels["continuity"], labels["upstream"]) for name, labels in found if name == "syncwatch_connection_info"
    ]
    assert {
        "syncwatch_connection_info", "syncwatch_connection_up", "syncwatch_connection_state",
        "syncwatch_connection_state_entered_timestamp_seconds", "syncwatch_connection_state_seconds_total", "syncwatch_connection_transitions_total",
        "syncwatch_connection_established_timestamp_seconds", "syncwatch_connection_reconnects_total", "syncwatch_frames_received_total",
        "syncwatch_frames_sent_total", "syncwatch_protocol_anomalies_total", "syncwatch_last_frame_timestamp_seconds", "syncwatch_last_frame_age_seconds",
        "syncwatch_heartbeats_sent_total", "syncwatch_heartbeat_last_sent_timestamp_seconds", "syncwatch_heartbeat_last_ack_timestamp_seconds",
    } == {name for name, _ in found}  # fmt: skip

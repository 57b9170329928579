"""Every metric of this version, and which of their label values a protocol can ever report.

What belongs here: data; the reference page is made from it (reference.py). Nothing here reads a snapshot. Names, types and labels are a public interface: they are never renamed, only added.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from functools import cache

import msgspec

from syncwatch.core.health import Component, Reason
from syncwatch.core.histogram import FAST_S, SLOW_S
from syncwatch.core.states import (
    CLOSE_CODES,
    EDGES,
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
    WatchTrouble,
)
from syncwatch.core.wire import FrameKind

LabelSet = tuple[str, ...]
"""Values of a metric's further labels, in the order of the definition."""


class Kind(enum.StrEnum):
    """The type, in OpenMetrics' words; text 0.0.4 shows an info as a gauge."""

    INFO = "info"
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Section(enum.StrEnum):
    """Who reports it; the headings of the reference."""

    CONNECTION = "Connections"
    HEARTBEAT = "Heartbeats"
    CONTINUITY = "Continuity"
    CANARY = "Canary"
    WATCHER = "Watchers"
    MIRROR = "Mirrors"
    SERVICE = "Services"
    HEALTH = "Health"
    SIDECAR = "The sidecar itself"
    PROCESS = "The process"


PER_CONNECTION = (Section.CONNECTION, Section.HEARTBEAT, Section.CONTINUITY, Section.CANARY)
"""Sections whose metrics carry the label `connection`."""

OWNERS: Mapping[Section, str] = {**dict.fromkeys(PER_CONNECTION, "connection"), Section.WATCHER: "watcher", Section.MIRROR: "mirror", Section.SERVICE: "target_service"}
"""The label that says whose metric it is, by section; in the other sections there is none."""


class Definition(msgspec.Struct, frozen=True):
    """One metric. `further` are the labels beside that of its owner (see OWNERS); `absent` says when there is no sample ("": always there).

    `sparse`: a label set appears when it first happens, instead of standing at 0 from the first scrape.
    """

    section: Section
    kind: Kind
    name: str
    help: str
    further: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    absent: str = ""
    sparse: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in order."""
        return (OWNERS[self.section], *self.further) if self.section in OWNERS else self.further

    @property
    def family(self) -> str:
        """OpenMetrics' name of the family: without `_total` and `_info`."""
        suffix = {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(self.kind, "")
        return self.name.removesuffix(suffix)

    @property
    def unit(self) -> str:
        """The unit that the name ends with, or "": OpenMetrics allows no other."""
        last = self.family.rpartition("_")[2]
        return last if last in ("seconds", "bytes") else ""


_INFO, _GAUGE, _COUNTER, _HISTOGRAM = Kind
_C, _B, _L, _Y, _W, _M, _V, _H, _S, _P = Section
_NO_FEED = "where there is no HTTP feed to compare with"
_NOT_CONFIGURED = "unless a canary is configured"
_NO_SERVICE = "unless a service is configured"
_NO_WATCHER = "unless a watcher is configured"
_NO_SENTINEL = "unless a watcher with a sentinel is configured"
_NO_MIRROR = "unless a mirror is configured"
_OBSERVED = "unless a mirror is configured in mode sync"
_NOT_COMPARED = "until the first comparison ended"

DEFINITIONS: tuple[Definition, ...] = (
    Definition(_C, _INFO, "syncwatch_connection_info", "What the connection is: protocol, dialect, how its server numbers events, and scheme, host and port of the server. Always 1.", ("protocol", "dialect", "continuity", "upstream")),
    Definition(_C, _GAUGE, "syncwatch_connection_up", "1 while a WebSocket is established, whether it still catches up or is open."),
    Definition(_C, _GAUGE, "syncwatch_connection_state", "1 for the state the connection is in, 0 for all others.", ("state",)),
    Definition(_C, _GAUGE, "syncwatch_connection_state_entered_timestamp_seconds", "When the state was last entered.", ("state",), absent="for states never entered", sparse=True),
    Definition(_C, _COUNTER, "syncwatch_connection_state_seconds_total", "Time spent in the state, the running stay included.", ("state",)),
    Definition(_C, _COUNTER, "syncwatch_connection_transitions_total", "Changes from one state to another; only the pairs that are possible.", ("from_state", "to_state")),
    Definition(_C, _GAUGE, "syncwatch_connection_established_timestamp_seconds", "When the present WebSocket was opened.", absent="while there is none"),
    Definition(_C, _COUNTER, "syncwatch_connection_attempts_total", "Handshakes started."),
    Definition(_C, _COUNTER, "syncwatch_connection_attempt_failures_total", "Handshakes that failed, by why.", ("reason",)),
    Definition(_C, _COUNTER, "syncwatch_connection_reconnects_total", "WebSockets opened after the first one."),
    Definition(_C, _COUNTER, "syncwatch_connection_disconnects_total", "Established WebSockets that ended, by why.", ("reason",)),
    Definition(_C, _COUNTER, "syncwatch_connection_close_codes_total", "Established WebSockets that ended, by the close code that was received; 1006 means none was.", ("code",)),
    Definition(_C, _GAUGE, "syncwatch_connection_consecutive_failures", "Failed attempts since the connection was last open for long enough to call it stable."),
    Definition(_C, _HISTOGRAM, "syncwatch_connection_handshake_duration_seconds", "From the start of a handshake to a connection that is ready for events.", buckets=FAST_S),
    Definition(_C, _GAUGE, "syncwatch_connection_last_handshake_seconds", "How long each phase of the last handshake took.", ("phase",), absent="for phases that did not take place", sparse=True),
    Definition(_C, _GAUGE, "syncwatch_token_expiry_timestamp_seconds", "When the token expires by its own word (the claim `exp` of a JWT, read and not verified).", absent="for tokens that do not say"),
    Definition(_C, _GAUGE, "syncwatch_tls_certificate_expiry_timestamp_seconds", "When the server's certificate expires.", absent="without TLS, and until the first handshake"),
    Definition(_C, _COUNTER, "syncwatch_frames_received_total", "WebSocket messages received, by what they were.", ("kind",)),
    Definition(_C, _COUNTER, "syncwatch_frames_sent_total", "WebSocket messages sent, by what they were.", ("kind",)),
    Definition(_C, _COUNTER, "syncwatch_received_bytes_total", "Payload of the WebSocket messages received."),
    Definition(_C, _COUNTER, "syncwatch_sent_bytes_total", "Payload of the WebSocket messages sent."),
    Definition(_C, _COUNTER, "syncwatch_protocol_anomalies_total", "Things that a correct server does not do.", ("kind",)),
    Definition(_C, _GAUGE, "syncwatch_last_frame_timestamp_seconds", "When anything last arrived on a WebSocket; a handshake does not count.", absent="until the first"),
    Definition(_C, _GAUGE, "syncwatch_last_frame_age_seconds", "Time since anything last arrived on a WebSocket.", absent="until the first"),
    Definition(_C, _GAUGE, "syncwatch_last_event_timestamp_seconds", "When an event last arrived.", absent="until the first"),
    Definition(_C, _GAUGE, "syncwatch_last_event_age_seconds", "Time since an event last arrived.", absent="until the first"),
    Definition(_C, _COUNTER, "syncwatch_verifications_total", "Tip checks: the server was asked for its newest number, and the answer compared with what had arrived.", ("result",)),
    Definition(_C, _GAUGE, "syncwatch_unverified_seconds", "Time since it was last proven that the server has nothing newer than what arrived; since the start if never. An answered ping proves nothing here.", absent="before the start"),
    Definition(_B, _COUNTER, "syncwatch_heartbeats_sent_total", "Pings sent. Always acknowledged + missed + those still waiting for their answer."),
    Definition(_B, _COUNTER, "syncwatch_heartbeats_acknowledged_total", "Pings answered in time."),
    Definition(_B, _COUNTER, "syncwatch_heartbeats_missed_total", "Pings not answered in time."),
    Definition(_B, _COUNTER, "syncwatch_heartbeats_late_total", "Pings answered after they had been counted as missed; they stay missed."),
    Definition(_B, _GAUGE, "syncwatch_heartbeat_last_sent_timestamp_seconds", "When the last ping was sent.", absent="until the first"),
    Definition(_B, _GAUGE, "syncwatch_heartbeat_last_ack_timestamp_seconds", "When a ping was last answered.", absent="until the first"),
    Definition(_B, _HISTOGRAM, "syncwatch_heartbeat_rtt_seconds", "From a ping to its own answer.", buckets=FAST_S),
    Definition(_B, _COUNTER, "syncwatch_half_open_total", "WebSockets found dead although nobody closed them, by the dead direction.", ("direction",)),
    Definition(_B, _GAUGE, "syncwatch_clock_offset_seconds", "The server's clock minus ours, from answers that carry the server's time.", absent="while no answer has carried it"),
    Definition(_L, _COUNTER, "syncwatch_events_received_total", "First copies of events, by how they arrived.", ("origin",)),
    Definition(_L, _COUNTER, "syncwatch_events_duplicate_total", "Further copies of events that had been delivered before."),
    Definition(_L, _COUNTER, "syncwatch_events_out_of_order_total", "First copies that arrived after a later one, soon enough not to count as missed."),
    Definition(_L, _GAUGE, "syncwatch_events_undecided", "First copies inside a replay that is still running: not yet known whether live or replayed."),
    Definition(_L, _COUNTER, "syncwatch_sequence_gaps_total", "Gaps when first seen: a jump in the numbers on the open connection (even if it heals by itself), or a reconnect with at least one missed number.", ("cause",)),
    Definition(_L, _GAUGE, "syncwatch_sequence_missing", "Numbers that are missing now and not yet given up."),
    Definition(_L, _COUNTER, "syncwatch_sequence_missed_total", "Numbers that did not come when they should. Always recovered + lost + unaccounted + missing."),
    Definition(_L, _COUNTER, "syncwatch_sequence_recovered_total", "Missed numbers that arrived later."),
    Definition(_L, _COUNTER, "syncwatch_sequence_lost_total", "Missed numbers that were given up: events gone for good."),
    Definition(_L, _COUNTER, "syncwatch_sequence_unaccounted_total", "Missed numbers that were given up although as many events arrived without a number and may be the same ones."),
    Definition(_L, _COUNTER, "syncwatch_sequence_late_total", "Numbers that arrived after they had been given up; lost and unaccounted keep counting them."),
    Definition(_L, _COUNTER, "syncwatch_sequence_resets_total", "Times the server's counter started again from the beginning."),
    Definition(_L, _COUNTER, "syncwatch_resyncs_total", "Finished resyncs: what the server claimed, and what the ledger found the claim to be.", ("claim", "verdict")),
    Definition(_L, _HISTOGRAM, "syncwatch_resync_duration_seconds", "From asking for the missed part to knowing what came of it.", buckets=SLOW_S),
    Definition(_L, _COUNTER, "syncwatch_replayed_events_total", "Events that arrived as replay, further copies included."),
    Definition(_L, _COUNTER, "syncwatch_ledger_forgotten_total", "Entries dropped from a ledger because its memory is bounded; not 0 means that counts may be less exact.", ("ledger",)),
    Definition(_L, _COUNTER, "syncwatch_audits_total", "Comparisons of the server's log, read over HTTP, with what had arrived; one after every reconnect, and the regular ones.", ("result",), absent=_NO_FEED),
    Definition(_L, _COUNTER, "syncwatch_audit_events_total", "Events about which the log and the WebSocket disagreed.", ("verdict",), absent=_NO_FEED),
    Definition(_L, _HISTOGRAM, "syncwatch_event_latency_seconds", "From the server's time of an event to its arrival, for live events, corrected by the clock offset.", buckets=SLOW_S, absent="while no clock offset is known"),
    Definition(_Y, _COUNTER, "syncwatch_canaries_sent_total", "Canaries: test messages written through the API.", absent=_NOT_CONFIGURED),
    Definition(_Y, _COUNTER, "syncwatch_canaries_received_total", "Canaries seen in time on the live connection.", absent=_NOT_CONFIGURED),
    Definition(_Y, _COUNTER, "syncwatch_canaries_timed_out_total", "Canaries not seen in time. Lost for good are those minus the late ones.", absent=_NOT_CONFIGURED),
    Definition(_Y, _COUNTER, "syncwatch_canaries_late_total", "Canaries seen after their time was over.", absent=_NOT_CONFIGURED),
    Definition(_Y, _COUNTER, "syncwatch_canaries_duplicate_total", "Further copies of canaries.", absent=_NOT_CONFIGURED),
    Definition(_Y, _COUNTER, "syncwatch_canaries_failed_total", "Canaries that the API refused to take.", absent=_NOT_CONFIGURED),
    Definition(_Y, _HISTOGRAM, "syncwatch_canary_round_trip_seconds", "From writing a canary through the API to seeing it on the live connection.", buckets=FAST_S, absent=_NOT_CONFIGURED),
    Definition(_W, _INFO, "syncwatch_watcher_info", "How changes come to be noticed. Always 1.", ("mode",), absent="until it is known"),
    Definition(_W, _GAUGE, "syncwatch_watcher_up", "1 while a change would be noticed: subscribed, the root intact, nothing left out and, with a sentinel, the last one seen in time.", absent="until something was found out"),
    Definition(_W, _COUNTER, "syncwatch_watcher_events_total", "Changes that were noticed, by what happened to the path; what happens to one path within a moment is one.", ("change",), absent=_NO_WATCHER),
    Definition(_W, _GAUGE, "syncwatch_watcher_last_event_timestamp_seconds", "When a change was last noticed.", absent="until the first"),
    Definition(_W, _GAUGE, "syncwatch_watcher_last_alive_timestamp_seconds", "When it was last proven that a change would be noticed, as far as the mode can prove it.", absent="until the first time"),
    Definition(_W, _COUNTER, "syncwatch_watcher_sentinels_total", "Sentinels written whose event came in time, and those whose event did not.", ("result",), absent=_NO_SENTINEL),
    Definition(_W, _HISTOGRAM, "syncwatch_watcher_sentinel_latency_seconds", "From asking for a sentinel to its event.", buckets=FAST_S, absent=_NO_SENTINEL),
    Definition(_W, _COUNTER, "syncwatch_watcher_restarts_total", "Troubles for which the watch was made again, by what they were; counted once, however many attempts the cure took.", ("reason",), absent=_NO_WATCHER),
    Definition(_M, _GAUGE, "syncwatch_mirror_up", "1 while both watchers are alive and both roots are there.", absent=_NOT_COMPARED),
    Definition(_M, _GAUGE, "syncwatch_mirror_pending_paths", "Changes seen, and differences found, that are not on the other side yet.", absent=_NO_MIRROR),
    Definition(_M, _GAUGE, "syncwatch_mirror_oldest_pending_age_seconds", "Age of the oldest of them; 0 when there is none.", absent=_NO_MIRROR),
    Definition(_M, _GAUGE, "syncwatch_mirror_differing_paths", "Paths that were found to differ and still do; in mode sync, after everything that could be done was done.", absent=_NOT_COMPARED),
    Definition(_M, _COUNTER, "syncwatch_mirror_files_total", "Files copied and deleted, by the tree that they were copied to or deleted from.", ("direction", "operation"), absent=_OBSERVED),
    Definition(_M, _COUNTER, "syncwatch_mirror_conflicts_total", "Files that had changed on both sides (or on the side that may not change them), so that one of the two lost.", absent=_OBSERVED),
    Definition(_M, _COUNTER, "syncwatch_mirror_errors_total", "Attempts that failed, each at one path.", absent=_NO_MIRROR),
    Definition(_M, _COUNTER, "syncwatch_mirror_refused_deletes_total", "Deletions that were not mirrored because a root had lost its marker or most of a tree would have gone at once.", absent=_OBSERVED),
    Definition(_M, _COUNTER, "syncwatch_mirror_flushes_total", "Flushes that ended, by how.", ("result",), absent=_NO_MIRROR),
    Definition(_M, _HISTOGRAM, "syncwatch_mirror_flush_duration_seconds", "From asking for a flush to its end.", buckets=SLOW_S, absent=_NO_MIRROR),
    Definition(_M, _HISTOGRAM, "syncwatch_mirror_reconcile_duration_seconds", "How long it took to compare both trees whole, and in mode sync to do what followed.", buckets=SLOW_S, absent=_NO_MIRROR),
    Definition(_M, _GAUGE, "syncwatch_mirror_last_reconcile_timestamp_seconds", "When both trees were last compared whole.", absent=_NOT_COMPARED),
    Definition(_V, _GAUGE, "syncwatch_service_up", "1 while the last probe found the service healthy.", absent="until its first probe ended"),
    Definition(_V, _COUNTER, "syncwatch_service_probes_total", "Probes that ended, well or not.", absent=_NO_SERVICE),
    Definition(_V, _COUNTER, "syncwatch_service_probe_failures_total", "Probes that found the service unhealthy, by why.", ("reason",), absent=_NO_SERVICE),
    Definition(_V, _HISTOGRAM, "syncwatch_service_probe_duration_seconds", "From asking to the answer, or to giving it up; failed probes included.", buckets=FAST_S, absent=_NO_SERVICE),
    Definition(_V, _GAUGE, "syncwatch_service_last_probe_timestamp_seconds", "When the last probe ended.", absent="until its first probe ended"),
    Definition(_V, _GAUGE, "syncwatch_service_last_healthy_timestamp_seconds", "When a probe last found the service healthy.", absent="while none has"),
    Definition(_H, _GAUGE, "syncwatch_degraded", "1 while the reason holds, damped; 0 for every other reason that could.", ("component", "name", "reason")),
    Definition(_H, _COUNTER, "syncwatch_degradations_total", "Times the reason began to hold.", ("component", "name", "reason")),
    Definition(_H, _COUNTER, "syncwatch_health_seconds_total", "Time spent healthy, degraded and down, the running stay included; idle and closed count nowhere.", ("component", "name", "health")),
    Definition(_H, _GAUGE, "syncwatch_check_ok", "What the probe endpoints and the gate answer, check by check: 1 is ok.", ("probe", "check")),
    Definition(_S, _COUNTER, "syncwatch_hook_deliveries_total", "Webhook deliveries: events that arrived, further attempts, events that were given up.", ("hook", "result"), absent="unless a hook is configured"),
    Definition(_S, _COUNTER, "syncwatch_callback_errors_total", "Exceptions raised by callbacks of the library's user."),
    Definition(_S, _GAUGE, "syncwatch_task_overdue_seconds", "How far a task is past its own deadline; 0 while it is in time.", ("task",)),
    Definition(_S, _GAUGE, "syncwatch_inotify_watches", "Directories that the kernel watches for this process, for watchers and mirrors.", absent="unless a watcher or a mirror is configured"),
    Definition(_S, _GAUGE, "syncwatch_inotify_instances", "Inotify instances that this process holds.", absent="unless a watcher or a mirror is configured"),
    Definition(_S, _GAUGE, "syncwatch_event_loop_lag_seconds", "Highest delay of the event loop in the last 60 s."),
    Definition(_S, _COUNTER, "syncwatch_statefile_write_failures_total", "Times the state file could not be written.", absent="without a state directory"),
    Definition(_S, _GAUGE, "syncwatch_statefile_last_write_timestamp_seconds", "When the state file was last written.", absent="until the first time"),
    Definition(_S, _GAUGE, "syncwatch_config_last_reload_successful", "1 when the last load of the configuration, and of the file of web_config, succeeded."),
    Definition(_S, _GAUGE, "syncwatch_config_last_reload_success_timestamp_seconds", "When a configuration was last loaded successfully."),
    Definition(_S, _INFO, "syncwatch_build_info", "What is running. Always 1.", ("version", "python_version", "revision")),
    Definition(_P, _GAUGE, "process_virtual_memory_bytes", "Virtual memory of the process."),
    Definition(_P, _GAUGE, "process_resident_memory_bytes", "Memory of the process that is in RAM."),
    Definition(_P, _GAUGE, "process_start_time_seconds", "When the process started (Unix time)."),
    Definition(_P, _COUNTER, "process_cpu_seconds_total", "CPU time of the process, user and system."),
    Definition(_P, _GAUGE, "process_open_fds", "Open file descriptors."),
    Definition(_P, _GAUGE, "process_max_fds", "Most file descriptors that may be open."),
)  # fmt: skip
"""All metrics, in the order in which they are exported. Those of the process come from prometheus-client's collector."""

BY_STATE = (
    "syncwatch_connection_state",
    "syncwatch_connection_state_entered_timestamp_seconds",
    "syncwatch_connection_state_seconds_total",
)
_PHASES = ("dns", "tcp", "tls", "upgrade", "protocol")
_RECEIVED = (FrameKind.EVENT, FrameKind.CONTROL, FrameKind.HEARTBEAT, FrameKind.INVALID, FrameKind.UNKNOWN)
_SENT = (FrameKind.HEARTBEAT, FrameKind.RESYNC, FrameKind.CONTROL)


def _singles(values: Iterable[str]) -> tuple[LabelSet, ...]:
    return tuple((value,) for value in values)


LABEL_SETS: Mapping[str, tuple[LabelSet, ...]] = {
    **{name: _singles(State) for name in BY_STATE},
    "syncwatch_connection_transitions_total": EDGES,
    "syncwatch_connection_attempt_failures_total": _singles(AttemptFailure),
    "syncwatch_connection_disconnects_total": _singles(Disconnect),
    "syncwatch_connection_close_codes_total": _singles([*map(str, CLOSE_CODES), "other"]),
    "syncwatch_connection_last_handshake_seconds": _singles(_PHASES),
    "syncwatch_frames_received_total": _singles(_RECEIVED),
    "syncwatch_frames_sent_total": _singles(_SENT),
    "syncwatch_protocol_anomalies_total": _singles(Anomaly),
    "syncwatch_verifications_total": _singles(Verification),
    "syncwatch_half_open_total": _singles(Direction),
    "syncwatch_events_received_total": _singles(Origin),
    "syncwatch_sequence_gaps_total": _singles(GapCause),
    "syncwatch_resyncs_total": tuple(
        (claim, verdict)
        for claim in Claim
        for verdict in Verdict
        if claim is not Claim.NONE
        or verdict is Verdict.UNVERIFIABLE  # no answer can neither be verified nor contradicted
    ),
    "syncwatch_ledger_forgotten_total": _singles(("identities", "ranges", "hashes")),
    "syncwatch_audits_total": _singles(AuditResult),
    "syncwatch_audit_events_total": _singles(AuditVerdict),
    "syncwatch_watcher_events_total": _singles(FileChange),
    "syncwatch_watcher_sentinels_total": _singles(SentinelResult),
    "syncwatch_watcher_restarts_total": _singles(WatchTrouble),
    "syncwatch_mirror_files_total": tuple((way, operation) for way in ("to_mount", "to_project") for operation in ("copied", "deleted")),
    "syncwatch_mirror_flushes_total": _singles(FlushResult),
    "syncwatch_service_probe_failures_total": _singles(ProbeFailure),
}
"""Every label set (without the owner's label) that any connection, watcher, mirror or service can ever report, where they are known beforehand."""


COMPONENTS = (Component.CONNECTION, Component.WATCHER, Component.MIRROR, Component.SERVICE, Component.SIDECAR)
"""Components that exist in this version."""

REASONS = tuple(Reason)
"""Reasons that something in this version can have, gravest first."""


class Never(msgspec.Struct, frozen=True):
    """Label values that connections of one kind can never report, in these metrics, and why not. No values: the metrics are absent altogether."""

    values: tuple[str, ...]
    metrics: tuple[str, ...]
    why: str


_FEED_SETTLES = (
    Never(
        (),
        tuple(f"syncwatch_sequence_{name}" for name in ("missing", "lost_total", "unaccounted_total", "late_total")),
        "what the log shows to be missed is recovered from it in the same step; what it never had cannot be known",
    ),
    Never((FrameKind.CONTROL,), ("syncwatch_frames_received_total", "syncwatch_frames_sent_total"), "there are only events and heartbeats"),
    Never((), ("syncwatch_heartbeats_late_total",), "a connection is dropped as soon as a ping was missed"),
    Never((Claim.GAP,), ("syncwatch_resyncs_total",), "the log does not forget, so no gap is ever declared"),
    Never(
        (Anomaly.ACK_EARLY, Anomaly.ACK_MISSING, Anomaly.ACK_UNSOLICITED, Anomaly.REPLAY_SHORT, Anomaly.IMPLAUSIBLE_JUMP),
        ("syncwatch_protocol_anomalies_total",),
        "nothing is acknowledged, and numbers are checked against the log",
    ),
    Never((FrameKind.RESYNC,), ("syncwatch_frames_sent_total",), "the log is read over HTTP"),
    Never((Disconnect.SUPERSEDED, Disconnect.RESYNC_TIMEOUT), ("syncwatch_connection_disconnects_total",), "any number of sockets may be open, and no socket is asked"),
)

_READ_ONE_BY_ONE = Never((FrameKind.UNKNOWN,), ("syncwatch_frames_received_total",), "each message is looked at, and invalid if it is not understood")

NEVER: Mapping[tuple[str, str], tuple[Never, ...]] = {
    ("relaycast", "ring"): (
        _READ_ONE_BY_ONE,
        Never((State.POLLING,), (*BY_STATE, "syncwatch_connection_transitions_total"), "there is no HTTP feed to fall back to"),
        Never((Origin.POLL, Origin.AUDIT), ("syncwatch_events_received_total",), "there is no HTTP feed to read events from"),
        Never((Disconnect.SUPERSEDED,), ("syncwatch_connection_disconnects_total",), "an agent may have any number of sockets"),
    ),
    ("relaycast", "observer"): (
        _READ_ONE_BY_ONE,
        Never((Origin.RING,), ("syncwatch_events_received_total",), "the socket replays nothing: what was missed is read from the log"),
        *_FEED_SETTLES,
    ),
    ("relayfile", "push"): (
        _READ_ONE_BY_ONE,
        Never((Origin.RING,), ("syncwatch_events_received_total",), "what is replayed comes from the server's log"),
        *_FEED_SETTLES,
    ),
    ("tps", "passive"): (
        Never((State.RESYNCING, State.POLLING), (*BY_STATE, "syncwatch_connection_transitions_total"), "a host asks its branch for nothing"),
        Never(
            (),
            (
                "syncwatch_connection_attempts_total", "syncwatch_connection_attempt_failures_total", "syncwatch_connection_consecutive_failures",
                "syncwatch_connection_handshake_duration_seconds", "syncwatch_connection_last_handshake_seconds",
                "syncwatch_connection_disconnects_total", "syncwatch_connection_close_codes_total",
            ),
            "the host makes the connections: its file does not tell how often it tried, nor why one ended",
        ),
        Never(
            (),
            (
                "syncwatch_heartbeats_acknowledged_total", "syncwatch_heartbeats_missed_total", "syncwatch_heartbeats_late_total",
                "syncwatch_heartbeat_rtt_seconds", "syncwatch_half_open_total", "syncwatch_clock_offset_seconds",
            ),
            "the host's file tells when the last heartbeat was sent and when the last message came, not which answers which",
        ),
        Never((), ("syncwatch_received_bytes_total", "syncwatch_sent_bytes_total"), "the host counts no bytes: its file always says 0"),
        Never((FrameKind.EVENT, FrameKind.CONTROL, FrameKind.HEARTBEAT, FrameKind.INVALID), ("syncwatch_frames_received_total",), "the host counts all messages together"),
        Never((FrameKind.RESYNC, FrameKind.CONTROL), ("syncwatch_frames_sent_total",), "the host counts its heartbeats only"),
        Never(
            (Anomaly.BAD_SEQUENCE, Anomaly.IMPLAUSIBLE_JUMP, Anomaly.ACK_EARLY, Anomaly.ACK_MISSING, Anomaly.ACK_UNSOLICITED, Anomaly.REPLAY_SHORT),
            ("syncwatch_protocol_anomalies_total",),
            "only the file can be odd",
        ),
        Never(
            (),
            (
                *(one.name for one in DEFINITIONS if one.section is Section.CONTINUITY),
                "syncwatch_last_event_timestamp_seconds", "syncwatch_last_event_age_seconds",
                "syncwatch_verifications_total", "syncwatch_unverified_seconds",
            ),
            "the host's file tells nothing of events",
        ),
        Never((), ("syncwatch_token_expiry_timestamp_seconds", "syncwatch_tls_certificate_expiry_timestamp_seconds"), "nothing is connected to"),
    ),
    ("tps", "host"): (
        _READ_ONE_BY_ONE,
        Never((State.RESYNCING, State.POLLING), (*BY_STATE, "syncwatch_connection_transitions_total"), "a branch keeps nothing that could be asked for: who is connected is caught up"),
        Never((Origin.RING, Origin.STORE, Origin.POLL, Origin.AUDIT), ("syncwatch_events_received_total",), "each mail comes once, live"),
        Never(
            (),
            (
                *(name for name in (one.name for one in DEFINITIONS) if name.startswith("syncwatch_sequence_")),
                "syncwatch_events_out_of_order_total", "syncwatch_events_undecided", "syncwatch_resyncs_total", "syncwatch_resync_duration_seconds",
                "syncwatch_replayed_events_total", "syncwatch_audits_total", "syncwatch_audit_events_total",
                "syncwatch_verifications_total", "syncwatch_unverified_seconds",
            ),
            "mail has no numbers, and a branch cannot be asked what it has sent",
        ),
        Never((), ("syncwatch_event_latency_seconds",), "mail waits in the branch's outbox until its host comes: how old it is says nothing about the way"),
        Never((), ("syncwatch_token_expiry_timestamp_seconds",), "a host is known by its key"),
        Never(("ranges", "hashes"), ("syncwatch_ledger_forgotten_total",), "there are no numbers"),
        Never((FrameKind.RESYNC,), ("syncwatch_frames_sent_total",), "nothing is asked for again"),
        Never(
            (Anomaly.BAD_SEQUENCE, Anomaly.IMPLAUSIBLE_JUMP, Anomaly.ACK_EARLY, Anomaly.ACK_MISSING, Anomaly.ACK_UNSOLICITED, Anomaly.REPLAY_SHORT),
            ("syncwatch_protocol_anomalies_total",),
            "there are no numbers, and nothing is replayed",
        ),
        Never((Disconnect.RESYNC_TIMEOUT,), ("syncwatch_connection_disconnects_total",), "nothing is resynced"),
    ),
}  # fmt: skip
"""What connections of a protocol and dialect can never report. One that is not listed may report everything."""


SERIES_OF_CONNECTION = 200
"""Most series with the label `connection` that one connection without a canary may have."""
SERIES_OF_CANARY = 40
"""Most series that a canary may add: its own, and what is known only with it (clock offset, event latency)."""
SERIES_OF_HEALTH = 40
"""Most series in which a connection's reasons and health may be counted."""
SERIES_OF_SERVICE = 40
"""Most series that a service may have, its reasons and health included."""
SERIES_OF_WATCHER = 50
"""Most series that a watcher may have, its reasons, its health and its checks included."""
SERIES_OF_MIRROR = 70
"""Most series that a mirror may have, its reasons, its health and its checks included."""
SERIES_OF_SIDECAR = 60
"""Most series of a sidecar apart from those, the process included."""


@cache
def label_sets(protocol: str, dialect: str) -> Mapping[str, tuple[LabelSet, ...]]:
    """LABEL_SETS as far as a connection of this protocol and dialect can ever report them."""
    never = NEVER.get((protocol, dialect), ())
    gone = absent(protocol, dialect)

    def possible(name: str, values: LabelSet) -> bool:
        return not any(name in rule.metrics and set(rule.values) & set(values) for rule in never)

    return {name: tuple(one for one in sets if name not in gone and possible(name, one)) for name, sets in LABEL_SETS.items()}


@cache
def absent(protocol: str, dialect: str) -> frozenset[str]:
    """Metrics that a connection of this protocol and dialect has no sample of."""
    return frozenset(name for rule in NEVER.get((protocol, dialect), ()) if not rule.values for name in rule.metrics)

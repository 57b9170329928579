"""The connection as such: its states, its handshakes, how it ended.

What belongs here: questions about the socket. Whether the stream on it is complete stands in `continuity`.
"""

from __future__ import annotations

from dashboards.board import Line, Section, Tile
from dashboards.links import runbook
from dashboards.panels import GREEN, RED, About, AnyPanel, Link, Query, graph, rows
from dashboards.promql import connection, least, shares, worst
from dashboards.sections.now import UNVERIFIED_LIMITS
from dashboards.shapes import median_and_p99, rare_by, side_by_side


def section() -> Section:
    """The whole section."""
    return Section(
        "Connection",
        (
            Line(8, (Tile(8, _time_in_states()), Tile(8, _time_polling()), Tile(8, _ages()))),
            Line(8, (Tile(8, _reconnects()), Tile(8, _disconnects()), Tile(8, _failures()))),
            Line(8, (Tile(8, _state_changes()), Tile(8, _close_codes()), Tile(8, _consecutive_failures()))),
            Line(8, (Tile(8, _handshake_phases()), Tile(8, _handshake_duration()), Tile(8, _expiries()))),
            Line(5, (Tile(24, _identities()),)),
        ),
    )


def _time_in_states() -> AnyPanel:
    return graph(
        About(
            "Time in each state",
            "Share of time spent in each state, of all chosen connections together. Counted by the sidecar: flaps between two "
            "scrapes are in it.",
            "percentunit",
            Link("Runbook", runbook("SyncwatchConnectionDown")),
        ),
        Query(shares(connection("syncwatch_connection_state_seconds_total"), "state"), "{{state}}"),
        stacked=True,
        top=1,
    )


def _time_polling() -> AnyPanel:
    polling = connection("syncwatch_connection_state_seconds_total", 'state="polling"')
    return graph(
        About(
            "Time in polling",
            "Share of time in the polling fallback, of the sidecar that polls most: nothing is lost, everything is late. Above the dashed line, SyncwatchPollingTooLong begins to count.",
            "percentunit",
            Link("Runbook", runbook("SyncwatchPollingTooLong")),
        ),
        Query(worst(f"rate({polling}[$__rate_interval])", "connection"), "{{connection}}"),
        limit=((None, GREEN), (0.5, RED)),
        top=1,
        absent="no fallback to polling",
    )


def _ages() -> AnyPanel:
    ages = (("last frame", "syncwatch_last_frame_age_seconds"), ("last event", "syncwatch_last_event_age_seconds"))
    return graph(
        About(
            "Ages",
            "Time since the last frame, since the last event, and since the stream was last verified (dashed: where "
            "SyncwatchStreamUnverified begins to count). Absent while it never happened.",
            "s",
            Link("Runbook", runbook("SyncwatchStreamUnverified")),
        ),
        *(Query(worst(connection(metric), "connection"), f"{{{{connection}}}} {name}") for name, metric in ages),
        Query(worst(connection("syncwatch_unverified_seconds"), "connection"), "{{connection}} unverified"),
        limit=UNVERIFIED_LIMITS,
    )


def _reconnects() -> AnyPanel:
    about = About(
        "Attempts and reconnects",
        "Handshakes started, and successful opens after the first. Many attempts and few reconnects: the server refuses or "
        "cannot be reached. As many of both: it lets us in and drops us.",
        "cpm",
        Link("Runbook", runbook("SyncwatchFlapping")),
    )
    counters = {
        "attempts": "syncwatch_connection_attempts_total",
        "reconnects": "syncwatch_connection_reconnects_total",
    }
    return side_by_side(about, counters)


def _disconnects() -> AnyPanel:
    return rare_by(
        About("Disconnects", "Ended connections by reason.", "cpm", Link("Runbook", runbook("SyncwatchFlapping"))),
        "syncwatch_connection_disconnects_total",
        "reason",
    )


def _failures() -> AnyPanel:
    return rare_by(
        About(
            "Failed attempts",
            "Handshakes that did not succeed, by reason.",
            "cpm",
            Link("Runbook", runbook("SyncwatchCredentialsRefused")),
        ),
        "syncwatch_connection_attempt_failures_total",
        "reason",
    )


def _state_changes() -> AnyPanel:
    about = About("State changes", "Transitions between states, however short the stay.", "cpm")
    counter = "syncwatch_connection_transitions_total"
    return rare_by(about, counter, "from_state", "to_state", legend="{{from_state}} to {{to_state}}")


def _close_codes() -> AnyPanel:
    return rare_by(
        About("Close codes", "WebSocket close codes of ended connections; 1006 is no close frame at all.", "cpm"),
        "syncwatch_connection_close_codes_total",
        "code",
    )


def _consecutive_failures() -> AnyPanel:
    return graph(
        About(
            "Consecutive failures",
            "Failed attempts since the connection was last stable. At the breaker's limit (30 by default) it is retried once a minute.",
            "short",
        ),
        Query(worst(connection("syncwatch_connection_consecutive_failures"), "connection"), "{{connection}}"),
    )


def _handshake_phases() -> AnyPanel:
    return graph(
        About(
            "Last handshake by phase",
            "Duration of each phase of the last handshake, each of the slowest of the chosen: they do not add up to one handshake. A phase that did not happen is absent.",
            "s",
        ),
        Query(
            worst(connection("syncwatch_connection_last_handshake_seconds"), "connection", "phase"),
            "{{connection}} {{phase}}",
        ),
    )


def _handshake_duration() -> AnyPanel:
    about = About(
        "Handshake duration", "The whole handshake, from name lookup to ready: median and 99th percentile.", "s"
    )
    return median_and_p99(about, "syncwatch_connection_handshake_duration_seconds")


def _expiries() -> AnyPanel:
    token, certificate = (
        "syncwatch_token_expiry_timestamp_seconds",
        "syncwatch_tls_certificate_expiry_timestamp_seconds",
    )
    return graph(
        About(
            "Token and certificate expire in",
            "Time left; the soonest of the chosen. Absent for tokens that are no JWT and for connections without TLS.",
            "s",
            Link("Runbook", runbook("SyncwatchCredentialsExpired")),
        ),
        Query(f"{least(connection(token), 'connection')} - time()", "{{connection}} token"),
        Query(f"{least(connection(certificate), 'connection')} - time()", "{{connection}} certificate"),
        signed=True,
        absent="no JWT and no TLS",
    )


def _identities() -> AnyPanel:
    labels = ("job", "instance", "connection", "protocol", "dialect", "continuity", "upstream")
    return rows(
        About("What is watched", "The chosen connections: where they lead, and how their events are numbered.", "none"),
        Query(worst(connection("syncwatch_connection_info"), *labels)),
        transformations=(
            (
                "organize",
                {
                    "excludeByName": {"Time": True, "Value": True},
                    "indexByName": {label: place for place, label in enumerate(labels)},
                },
            ),
        ),
    )

"""Signs of life beside the events: heartbeats, health, traffic, canaries.

What belongs here: questions about one connection that are neither about its states nor about its events.
"""

from __future__ import annotations

from dashboards.board import Line, Section, Tile
from dashboards.links import runbook
from dashboards.panels import About, AnyPanel, Link, Query, buckets, graph
from dashboards.promql import connection, health, least, mean, per_second, quantile, shares, total, worst
from dashboards.shapes import flow_by, median_and_p99, rare_by, side_by_side

NO_CANARY = "no canary configured"


def heartbeats() -> Section:
    """Our pings and their own answers."""
    return Section(
        "Heartbeats",
        (
            Line(8, (Tile(12, _rtt_heatmap()), Tile(12, _rtt()))),
            Line(8, (Tile(8, _pings()), Tile(8, _half_open()), Tile(8, _ping_ages()))),
        ),
    )


def health_over_time() -> Section:
    """Time healthy, degraded and down, and the SLI made of it."""
    seconds = health("syncwatch_health_seconds_total")
    healthy = per_second(health("syncwatch_health_seconds_total", 'health="healthy"'), "name")
    split = graph(
        About("Health", "Share of time healthy, degraded and down, of all chosen connections together.", "percentunit"),
        Query(shares(seconds, "health"), "{{health}}"),
        stacked=True,
        top=1,
    )
    ratio = graph(
        About("Healthy ratio", "The SLI of each connection: healthy time by all time that counts.", "percentunit"),
        Query(f"{healthy} / {per_second(seconds, 'name')}", "{{name}}"),
        top=1,
    )
    return Section("Health", (Line(8, (Tile(12, split), Tile(12, ratio))),))


def traffic() -> Section:
    """What went over the wire, and what a correct peer does not send."""
    received = flow_by(
        About("Frames received", "Inbound frames by kind.", "cps"), "syncwatch_frames_received_total", "kind"
    )
    sent = flow_by(About("Frames sent", "Outbound frames by kind.", "cps"), "syncwatch_frames_sent_total", "kind")
    volume = side_by_side(
        About("Bytes", "Payload bytes in both directions.", "Bps"),
        {"received": "syncwatch_received_bytes_total", "sent": "syncwatch_sent_bytes_total"},
    )
    anomalies = rare_by(
        About("Anomalies", "Things that a correct peer does not do, by kind. Each is counted.", "cpm"),
        "syncwatch_protocol_anomalies_total",
        "kind",
    )
    lines = (Line(8, (Tile(12, received), Tile(12, sent))), Line(8, (Tile(12, volume), Tile(12, anomalies))))
    return Section("Traffic and anomalies", lines, folded=True)


def canary() -> Section:
    """End-to-end writes; empty where no canary is configured."""
    outcomes = ("sent", "received", "timed_out", "late", "duplicate", "failed")
    counts = side_by_side(
        About(
            "Canaries",
            "Messages written through the API and their fate. Lost is timed out less late.",
            "cpm",
            Link("Runbook", runbook("SyncwatchCanaryFailing")),
        ),
        {outcome.replace("_", " "): f"syncwatch_canaries_{outcome}_total" for outcome in outcomes},
        absent=NO_CANARY,
    )
    trip = median_and_p99(
        About("Canary round trip", "From the write through the API to the sight on the live connection.", "s"),
        "syncwatch_canary_round_trip_seconds",
        absent=NO_CANARY,
    )
    return Section("Canary", (Line(8, (Tile(12, counts), Tile(12, trip))),), folded=True)


def _rtt_heatmap() -> AnyPanel:
    growth = f"increase({connection('syncwatch_heartbeat_rtt_seconds_bucket')}[$__rate_interval])"
    return buckets(
        About("Heartbeat round trips", "Ping to its own answer, all chosen connections: how many took how long.", "s"),
        Query(total(growth, "le")),
    )


def _rtt() -> AnyPanel:
    histogram = "syncwatch_heartbeat_rtt_seconds"
    return graph(
        About("Heartbeat round trip", "Ping to its own answer: mean, median and 99th percentile.", "s"),
        Query(mean(histogram, "connection"), "{{connection}} mean"),
        Query(quantile(0.5, histogram, "connection"), "{{connection}} median"),
        Query(quantile(0.99, histogram, "connection"), "{{connection}} p99"),
    )


def _pings() -> AnyPanel:
    about = About("Heartbeats", "Pings sent, answered in time, missed, and answered after being missed.", "cpm")
    fates = ("sent", "acknowledged", "missed", "late")
    return side_by_side(about, {fate: f"syncwatch_heartbeats_{fate}_total" for fate in fates})


def _half_open() -> AnyPanel:
    about = About(
        "Half-open verdicts",
        "receive: nothing arrives any more. send: frames arrive, but our pings are never answered.",
        "cpm",
    )
    return rare_by(about, "syncwatch_half_open_total", "direction")


def _ping_ages() -> AnyPanel:
    sent, answered = (f"syncwatch_heartbeat_last_{what}_timestamp_seconds" for what in ("sent", "ack"))
    return graph(
        About(
            "Last ping and answer, clock offset",
            "Time since the last ping and since the last answer; and the server's clock less ours, where answers carry a time.",
            "s",
        ),
        Query(f"time() - {least(connection(sent), 'connection')}", "{{connection}} since ping"),
        Query(f"time() - {least(connection(answered), 'connection')}", "{{connection}} since answer"),
        Query(worst(connection("syncwatch_clock_offset_seconds"), "connection"), "{{connection}} clock offset"),
        signed=True,
    )

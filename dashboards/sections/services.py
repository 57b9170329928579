"""Services that the sidecar asks over HTTP: whether they answer as they should, how fast, and since when not.

What belongs here: questions about services, of no single connection.
"""

from __future__ import annotations

from dashboards.board import Line, Section, Tile
from dashboards.links import runbook
from dashboards.panels import GREEN, RED, About, AnyPanel, Link, Query, graph, lanes
from dashboards.promql import least, per_minute, per_second, service

NO_SERVICE = "no service configured"


def section() -> Section:
    """The whole section; empty where no service is configured."""
    return Section(
        "Services",
        (Line(8, (Tile(12, _up()), Tile(12, _ages()))), Line(8, (Tile(12, _probes()), Tile(12, _durations())))),
        folded=True,
    )


def _up() -> AnyPanel:
    return lanes(
        About("Services", "What the last probe of each service found.", "none", Link("Runbook", runbook("SyncwatchServiceDown"))),
        Query(least(service("syncwatch_service_up"), "job", "instance", "target_service"), "{{instance}} {{target_service}}"),
        names={0: ("unhealthy", RED), 1: ("healthy", GREEN)},
        absent=NO_SERVICE,
    )


def _ages() -> AnyPanel:
    probed, healthy = (f"syncwatch_service_last_{what}_timestamp_seconds" for what in ("probe", "healthy"))
    by = ("job", "instance", "target_service")
    return graph(
        About("Last probe, last healthy", "Time since each service was last probed, and since it was last found healthy.", "s"),
        Query(f"time() - {least(service(probed), *by)}", "{{instance}} {{target_service}} probed"),
        Query(f"time() - {least(service(healthy), *by)}", "{{instance}} {{target_service}} healthy"),
        absent=NO_SERVICE,
    )


def _probes() -> AnyPanel:
    failed = per_minute(service("syncwatch_service_probe_failures_total"), "target_service", "reason")
    return graph(
        About("Service probes", "Probes that ended, and those that found the service unhealthy, by why.", "cpm"),
        Query(per_minute(service("syncwatch_service_probes_total"), "target_service"), "{{target_service}} all"),
        Query(f"{failed} > 0", "{{target_service}} {{reason}}"),
        bars=True,
        absent=NO_SERVICE,
    )


def _durations() -> AnyPanel:
    seconds, count = (per_second(service(f"syncwatch_service_probe_duration_seconds_{part}"), "target_service") for part in ("sum", "count"))
    return graph(
        About("Service probe time", "How long probes took on average, failed ones included.", "s"),
        Query(f"{seconds} / {count}", "{{target_service}}"),
        absent=NO_SERVICE,
    )

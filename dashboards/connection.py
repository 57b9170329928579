"""The *Connection* dashboard: can this connection be trusted now, and if not, what happened.

What belongs here: its head and the order of its sections, the most important at the top.
"""

from __future__ import annotations

from dashboards.board import Head, Mark, board, chosen
from dashboards.links import CONNECTION_UID, FLEET_UID, REASONS_URL, RUNBOOKS_URL
from dashboards.panels import BLUE, ORANGE, RED, Link
from dashboards.promql import connection, firing, worst
from dashboards.sdk import dashboard_model
from dashboards.sections import continuity, files, now, services, sidecar, socket, vitals

CONNECTIONS = 'syncwatch_connection_info{job=~"$job",instance=~"$instance"}'

FIRING = worst(firing('connection=~"$connection|"'), "alertname", "severity", "job", "instance", "connection", "upstream")

MARKS = (
    Mark("Firing alerts", ORANGE, FIRING, "{{severity}}: {{instance}} {{connection}} {{upstream}}", "{{alertname}}"),
    Mark("Counter restarts", RED, f"increase({connection('syncwatch_sequence_resets_total')}[$__rate_interval]) > 0", "{{connection}}: the server began to count anew"),
    Mark("Reconnects", BLUE, f"increase({connection('syncwatch_connection_reconnects_total')}[$__rate_interval]) > 0", "{{connection}} reconnected"),
)


def connection_dashboard() -> dashboard_model.Dashboard:
    """The dashboard, ready to be encoded."""
    head = Head(
        uid=CONNECTION_UID,
        title="syncwatch / Connection",
        description="Sync connections as their sidecars see them: state, continuity, heartbeats, health.",
        links=(Link("Fleet", f"/d/{FLEET_UID}"), Link("Runbooks", RUNBOOKS_URL), Link("Reasons", REASONS_URL)),
    )
    sections = (
        now.section(),
        socket.section(),
        continuity.section(),
        vitals.heartbeats(),
        vitals.health_over_time(),
        vitals.traffic(),
        vitals.canary(),
        files.section(),
        services.section(),
        sidecar.section(),
    )
    return board(head, [chosen("connection", "Connection", CONNECTIONS, "connection")], sections, MARKS)

"""The *Connection* dashboard: can this connection be trusted now, and if not, what happened.

What belongs here: its head and the order of its sections, the most important at the top.
"""

from __future__ import annotations

from dashboards.board import Head, board, chosen
from dashboards.links import REASONS_URL, RUNBOOKS_URL
from dashboards.panels import Link
from dashboards.sdk import dashboard_model
from dashboards.sections import continuity, now, services, sidecar, socket, vitals

UID = "syncwatch-connection"
"""Part of users' links: never changes."""

CONNECTIONS = 'syncwatch_connection_info{job=~"$job",instance=~"$instance"}'


def connection_dashboard() -> dashboard_model.Dashboard:
    """The dashboard, ready to be encoded."""
    head = Head(
        uid=UID,
        title="syncwatch / Connection",
        description="Sync connections as their sidecars see them: state, continuity, heartbeats, health.",
        links=(Link("Runbooks", RUNBOOKS_URL), Link("Reasons", REASONS_URL)),
    )
    sections = (
        now.section(),
        socket.section(),
        continuity.section(),
        vitals.heartbeats(),
        vitals.health_over_time(),
        vitals.traffic(),
        vitals.canary(),
        services.section(),
        sidecar.section(),
    )
    return board(head, [chosen("connection", "Connection", CONNECTIONS, "connection")], sections)

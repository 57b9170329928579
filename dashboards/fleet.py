"""The *Fleet* dashboard: all sidecars at once, the worst first.

What belongs here: its head and the order of its sections, the most important at the top.
"""

from __future__ import annotations

from dashboards.board import Head, Mark, board
from dashboards.links import CONNECTION_UID, FLEET_UID, REASONS_URL, RUNBOOKS_URL
from dashboards.panels import ORANGE, Link
from dashboards.promql import firing, worst
from dashboards.sdk import dashboard_model
from dashboards.sections import files, fleet, sidecars

MARKS = (Mark("Firing alerts", ORANGE, worst(firing(), "alertname", "severity"), "{{severity}}", "{{alertname}}"),)
"""One for each alert, whomever it is about: the table below the tiles says that."""


def fleet_dashboard() -> dashboard_model.Dashboard:
    """The dashboard, ready to be encoded."""
    head = Head(
        uid=FLEET_UID,
        title="syncwatch / Fleet",
        description="All sidecars and their connections: what is worst, whom it concerns, and how much of the objective is used up.",
        links=(Link("Connection", f"/d/{CONNECTION_UID}"), Link("Runbooks", RUNBOOKS_URL), Link("Reasons", REASONS_URL)),
    )
    return board(head, [], (fleet.now(), fleet.over_time(), fleet.events(), files.section(), sidecars.section()), MARKS)

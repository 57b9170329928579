"""Where the runbooks and dashboards are: the one place that knows their addresses.

Nothing else belongs here.
"""

FLEET_UID, CONNECTION_UID = "syncwatch-fleet", "syncwatch-connection"
"""Of the dashboards. Part of users' links: they never change."""

RUNBOOKS_URL = "https://github.com/syncwatch/syncwatch/blob/main/docs/runbooks"
"""No trailing slash. One page per alert, and `reasons.md` with one section per reason."""

REASONS_URL = f"{RUNBOOKS_URL}/reasons.md"


def runbook(alert: str) -> str:
    """The page of an alert."""
    return f"{RUNBOOKS_URL}/{alert}.md"

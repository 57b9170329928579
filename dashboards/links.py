"""Where the runbooks are: the one place that knows their address.

Rules are YAML by hand and repeat the address; a test holds them to `runbook()`.
"""

RUNBOOKS_URL = "https://github.com/syncwatch/syncwatch/blob/main/docs/runbooks"
"""No trailing slash. One page per alert, and `reasons.md` with one section per reason."""

REASONS_URL = f"{RUNBOOKS_URL}/reasons.md"


def runbook(alert: str) -> str:
    """The page of an alert."""
    return f"{RUNBOOKS_URL}/{alert}.md"

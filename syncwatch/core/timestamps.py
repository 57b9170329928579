"""How a moment of the wall clock is written wherever people or programs read it.

What belongs here: the form. Which moment, the caller knows.
"""

from __future__ import annotations

from datetime import UTC, datetime

_LAST_WALL_S = 253_402_300_799.0  # the end of the year 9999: RFC 3339 has no later moment, but a token may claim one


def rfc3339(wall_s: float) -> str:
    """Unix seconds as UTC with milliseconds; what lies outside the years 1970 to 9999 is the nearest that does not."""
    within_s = min(max(wall_s, 0.0), _LAST_WALL_S)
    return datetime.fromtimestamp(within_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

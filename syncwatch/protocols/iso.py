"""Times as texts: ISO 8601 and RFC 3339, as every protocol here writes them. What belongs here: these conversions, pure."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_time_s(text: str) -> float | None:
    """Unix seconds of an ISO 8601 time; None if it is none or has no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def iso_text(time_s: float) -> str | None:
    """ISO 8601 in UTC with milliseconds, as the server's date parser reads it; None outside the calendar."""
    try:
        moment = datetime.fromtimestamp(time_s, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

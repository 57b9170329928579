"""A moment is written in one form, whatever somebody claims the time to be."""

from __future__ import annotations

import pytest

from syncwatch.core.timestamps import rfc3339


@pytest.mark.parametrize(
    ("wall_s", "written"),
    [
        (1_795_180_000.0, "2026-11-20T13:06:40.000Z"),
        (1_795_180_000.1239, "2026-11-20T13:06:40.123Z"),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (-1e9, "1970-01-01T00:00:00.000Z"),
        (1e18, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_utc_with_milliseconds(wall_s: float, written: str) -> None:
    """And within the years that RFC 3339 can write."""
    assert written == rfc3339(wall_s)

"""What scopes allow (wire: relayfile §2)."""

from __future__ import annotations

import pytest

from syncwatch.relay.relayfile.scopes import Scopes


@pytest.mark.parametrize(
    ("granted", "required", "path", "expected"),
    [
        ("fs:read", "fs:read", "/", True),
        ("fs:read", "fs:write", "/", False),
        ("relayfile:fs:read", "fs:read", "/x", True),
        ("relayfile:*:read", "sync:read", "/", True),
        ("*:fs:*", "fs:write", "/", True),
        ("relayfile:fs:manage", "fs:write", "/", True),
        ("relayfile:sync:manage", "sync:trigger", "/", False),
        ("other:fs:read", "fs:read", "/", False),
        ("workspace:anything:read", "fs:read", "/", True),
        ("workspace:anything:read", "sync:read", "/", False),
        ("relayfile:fs:read:*", "fs:read", "/x", True),
        ("relayfile:fs:read:/a", "fs:read", "/a", True),
        ("relayfile:fs:read:/a", "fs:read", "/a/b", False),
        ("relayfile:fs:read:/a/**", "fs:read", "/a", True),
        ("relayfile:fs:read:/a/**", "fs:read", "/a/b/c", True),
        ("relayfile:fs:read:/a/**", "fs:read", "/ab", False),
        ("relayfile:fs:read:/a/**", "fs:read", "/a/**", True),
        ("relayfile:fs:read:/a/*", "fs:read", "/a", False),
        ("relayfile:fs:read:/a/*", "fs:read", "/a/b/c", True),
        ("relayfile:fs:read:/a*", "fs:read", "/abc", True),
        ("relayfile:fs:read:/a/**", "fs:read", "/", False),
        ("workspace:x:write:/a:b", "fs:write", "/a:b", True),
    ],
)
def test_a_grant_allows_a_path(granted: str, required: str, path: str, expected: bool) -> None:
    """By plane, resource, action and path."""
    assert expected == Scopes([granted]).allows(required, path)


def test_a_limited_grant_takes_the_plain_scopes_power_away() -> None:
    """For that action only; a structured grant without a path still opens everything."""
    limited = Scopes(["fs:read", "fs:write", "relayfile:fs:read:/docs/**"])
    assert limited.has("fs:read")
    assert [True, False, True] == [
        limited.allows("fs:read", "/docs/a"),
        limited.allows("fs:read", "/"),
        limited.allows("fs:write", "/"),
    ]
    assert Scopes(["relayfile:fs:read:/docs/**", "relayfile:fs:read"]).allows("fs:read", "/")


def test_no_scopes_are_none() -> None:
    """An empty set is false."""
    assert not Scopes(())
    assert not Scopes(()).has("fs:read")

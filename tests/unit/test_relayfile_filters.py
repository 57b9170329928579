"""Path filters of the stream (wire: relayfile §3.6)."""

from __future__ import annotations

import pytest

from syncwatch.relay.relayfile.filters import cleaned, matches, passes


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/a/b", "/a/b", True),
        ("/a/b", "/a/c", False),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a", False),
        ("/a/*", "/a/b/c", False),
        ("/*/b", "/a/b", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/a", True),
        ("/a/**", "/ab", False),
        ("/**", "/a/b", True),
        ("/**", "/", True),
        ("/**/b", "/a/b", False),
        ("/a*", "/ab", False),
        ("/", "/", True),
        ("/", "/a", False),
        ("/**", "", False),
    ],
)
def test_a_pattern_matches_by_segments(pattern: str, path: str, expected: bool) -> None:
    """`*` one segment, `**` the rest when it is last; nothing else is special."""
    assert expected == matches(pattern, path)


def test_filters_are_cleaned() -> None:
    """A slash in front, no blanks, nothing twice, in order."""
    assert ("/a", "/b/**") == cleaned(["a", " ", "/b/**", "/a", ""])


def test_no_filter_wants_everything() -> None:
    """Even what has no path; with filters any one will do."""
    assert passes((), "")
    assert passes(("/x", "/a/*"), "/a/b")
    assert not passes(("/x", "/a/*"), "/b")

"""patterns: a regular expression is taken apart at its alternatives, and those that no word takes are named."""

from __future__ import annotations

import re

import pytest

from syncwatch.patterns import MOST, in_vain, matched, parts

WORDS = ("events_lost", "watcher_dead", "behind", "open")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("behind", ["behind"]),
        ("behind|open", ["behind", "open"]),
        ("(behind|open)", ["behind", "open"]),
        ("(?:behind|(?P<x>open|shut))", ["behind", "open", "shut"]),
        ("(a|b)_(c|d)", ["a_c", "a_d", "b_c", "b_d"]),
        ("(events_)?lost", ["(events_)?lost"]),
        ("(a|b){2}?|c", ["(a|b){2}?", "c"]),
        (r"a\|b\(c", [r"a\|b\(c"]),
        ("[|(]a|[]|]b|[^]|]c", ["[|(]a", "[]|]b", "[^]|]c"]),
        ("|a", ["", "a"]),
        ("(?i)a|b", ["(?i)a|b"]),
        ("(a|b", ["(a|b"]),
        ("a)|b", ["a)|b"]),
        ("[a|b", ["[a|b"]),
    ],
)
def test_parts(pattern: str, expected: list[str]) -> None:
    """At every |, but for those in classes, behind a backslash, or in a group that is repeated; what cannot be taken apart stays whole."""
    assert expected == parts(pattern)


@pytest.mark.parametrize("pattern", ["behind|open", "(beh|op)(ind|en)", "(events|watcher)_(lost|dead)", ".*(nd|n)", "(?:(b|o).+|x)", "[bo].*|(events_)?lost"])
def test_the_parts_match_what_the_whole_matches(pattern: str) -> None:
    """Neither more nor less."""
    assert matched(pattern, WORDS)
    assert matched(pattern, WORDS) == [word for word in WORDS if any(re.fullmatch(part, word) for part in parts(pattern))]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("behind|open", []),
        ("behind|opne", ["opne"]),
        ("(behind|opne)", ["opne"]),
        ("(shut|closed)", ["shut", "closed"]),
        ("(?:behind|events_(lost|found))", ["events_found"]),
        ("(events|watcher)_(lost|dead)", []),
        ("(events|watcher)_(lost|undead)", ["watcher_lost", "events_undead"]),
        ("beh.*|opne.*", ["opne.*"]),
        ("OPEN", ["OPEN"]),
        ("(?i)OPEN", []),
        (".+", []),
        ("", []),
        ("behind|", []),
        ("(opne", []),
        ("[[:lower:]]+|opne", []),
        (r"\pL+", []),
        ("a{99999999999}", []),
        ("(" * 5000 + ")" * 5000, []),
    ],
)
def test_in_vain(pattern: str, expected: list[str]) -> None:
    """Alternatives that no word takes in any company; capitals count; nothing is said of what Python would read otherwise than Prometheus."""
    assert expected == in_vain(pattern, WORDS)


def test_no_pattern_grows_without_end() -> None:
    """Twenty groups of two are a million ways: it stays whole, and is judged as such."""
    pattern = "(a|b)" * 20
    assert 2**20 > MOST
    assert [pattern] == parts(pattern)
    assert [pattern] == in_vain(pattern, WORDS)

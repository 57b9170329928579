"""The event log and the feed over it (wire: relayfile §3.3, §4)."""

from __future__ import annotations

import pytest

from syncwatch.relay.relayfile import feed
from syncwatch.relay.relayfile.feed import Query
from syncwatch.relay.relayfile.log import Log, timestamp
from syncwatch.relay.relayfile.tokens import Refusal


def log(*workspaces: str) -> Log:
    """A log with one event in each of these workspaces."""
    made = Log()
    for workspace in workspaces:
        made.append(workspace, "file.created", "/a", 0.0, provider=workspace)
    return made


def numbers(found: feed.FeedPage) -> list[int]:
    """Numbers of a page."""
    return [entry.number for entry in found.entries]


def test_one_counter_serves_all_workspaces() -> None:
    """Strictly increasing per workspace, not contiguous; revisions and operations count apart."""
    made = log("a", "b", "a")
    assert ([1, 3], [2]) == ([e.number for e in made.entries("a")], [e.number for e in made.entries("b")])
    assert ("evt_3", "rev_1", "op_1") == (made.entries("a")[1].id, made.next_revision(), made.next_operation())


@pytest.mark.parametrize(
    ("cursor", "place"),
    [
        ("evt_1", 0),
        ("evt_3", 1),
        ("evt_2", None),
        ("evt_4", None),
        ("evt_03", None),
        ("evt_", None),
        ("3", None),
        ("evt_٣", None),
    ],
)
def test_a_cursor_is_an_id_of_this_workspace(cursor: str, place: int | None) -> None:
    """Exactly as the wire has it."""
    assert place == log("a", "b", "a").find("a", cursor)


def test_a_cleared_log_begins_again_at_one() -> None:
    """In a new epoch."""
    made = log("a", "b")
    made.clear()
    assert (2, 1) == (made.epoch, made.append("a", "x", "/", 0.0).number)
    assert [] == made.entries("b")


@pytest.mark.parametrize(
    ("at_s", "text"),
    [(0.0, "1970-01-01T00:00:00Z"), (1.5, "1970-01-01T00:00:01.5Z"), (1_800_000_000.25, "2027-01-15T08:00:00.25Z")],
)
def test_timestamps_cut_their_zeros(at_s: float, text: str) -> None:
    """RFC 3339 with up to nine digits."""
    assert text == timestamp(at_s)


@pytest.mark.parametrize(
    ("query", "shown", "next_cursor", "known"),
    [
        (Query(), [1, 2, 3, 4, 5], None, True),
        (Query(limit=5), [1, 2, 3, 4, 5], None, True),
        (Query(limit=2), [1, 2], "evt_2", True),
        (Query("evt_2", limit=2), [3, 4], "evt_4", True),
        (Query("evt_5"), [], None, True),
        (Query("evt_9"), [1, 2, 3, 4, 5], None, False),
        (Query(direction="desc", limit=2), [5, 4], "evt_4", True),
        (Query("evt_3", direction="desc"), [2, 1], None, True),
        (Query("evt_9", direction="desc"), [], None, False),
        (Query(provider="b"), [], None, True),
    ],
)
def test_pages(query: Query, shown: list[int], next_cursor: str | None, known: bool) -> None:
    """Upwards and downwards, with known cursors and others."""
    found = feed.page(log(*"aaaaa"), "a", query)
    assert (shown, next_cursor, known) == (numbers(found), found.next_cursor, found.known)


def test_a_query_is_read_leniently_but_for_its_direction() -> None:
    """Senseless limits are the default."""
    assert Query("c", 200, "acme", "desc") == feed.query(
        {"cursor": " c ", "limit": "1.5", "provider": "ACME", "direction": "DESC"}
    )
    assert [200, 200, 1000] == [feed.query({"limit": text}).limit for text in ("1_0", "0", "9999")]
    with pytest.raises(Refusal, match=r'unsupported direction "Up" \(must be asc or desc\)'):
        feed.query({"direction": "Up"})


def test_the_feed_tells_empty_fields_but_two() -> None:
    """No content; `contentHash` and `provider` only where there is one."""
    entry = Log().append("a", "sync.error", "/", 0.0)
    assert {
        "eventId": "evt_1",
        "type": "sync.error",
        "path": "/",
        "revision": "",
        "origin": "agent_write",
        "correlationId": "",
        "timestamp": "1970-01-01T00:00:00Z",
    } == feed.told(entry)

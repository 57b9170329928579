"""Observers without sockets: what a token sees, how the log counts and pages (wire: relaycast §12)."""

from __future__ import annotations

import pytest

from syncwatch.relay.directory import ApiError
from syncwatch.relay.events import event
from syncwatch.relay.logfacts import Published
from syncwatch.relay.observer.log import EventLog
from syncwatch.relay.observer.tokens import SCOPES, Filters, Observer, Observers, Seen
from syncwatch.relay.state import Workspace
from tests.unit.relay_parts import Parts


class Logged(Parts):
    """Parts of a server that keeps a log."""

    def __init__(self, path: str = ":memory:") -> None:
        super().__init__(path=path)
        self.observers = Observers(self.directory)
        self.events = EventLog(self.store, self.ledger, self.clock, self.faults)
        self.hub.observe = self.events.publish

    def observer(self, workspace: Workspace, **filters: object) -> Observer:
        """An observer with every scope."""
        return self.observers.create(workspace, "o", SCOPES, Filters(**filters))  # type: ignore[arg-type]


def observer(scopes: tuple[str, ...] = SCOPES, **filters: object) -> Observer:
    """An observer of nothing in particular."""
    return Observer(1, Workspace(1, "w"), "o", "o", scopes, Filters(**filters))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "scope"),
    [
        ("message.created", "messages:read"),
        ("thread.reply", "messages:read"),
        ("message.reacted", "reactions:read"),
        ("dm.received", "dms:read"),
        ("member.joined", "channels:read"),
        ("agent.status.active", "agents:read"),
        ("delivery.accepted", "activity:read"),
    ],
)
def test_each_kind_needs_its_scope(kind: str, scope: str) -> None:
    """Direct messages a filter too."""
    seen = Seen(kind, None, None)
    assert observer(("stream:read", scope), include_dms=True).sees(seen)
    assert not observer(tuple(one for one in SCOPES if one != scope), include_dms=True).sees(seen)
    assert (scope != "dms:read") == observer().sees(seen)


def test_channel_filters_hide_what_has_another_channel() -> None:
    """By name or id; what belongs to no channel passes."""
    general, other, none = (
        Seen("message.created", "general", "7"),
        Seen("message.created", "x", "8"),
        Seen("agent.x", None, None),
    )
    for limited in (observer(channel_names=("general",)), observer(channel_ids=("7",))):
        assert [True, False, True] == [limited.sees(seen) for seen in (general, other, none)]


def test_every_event_of_a_workspace_is_numbered_from_one() -> None:
    """Each workspace has a counter of its own; facts say what was numbered."""
    parts = Logged()
    first, second = parts.workspace("alice"), parts.workspace()
    for workspace in (first, second, first):
        parts.hub.stream(workspace, event({"type": "test"}))
    assert (2, 1) == (parts.events.latest(first), parts.events.latest(second))
    assert [1, 1, 2] == [fact.number for fact in parts.ledger.of(Published)]
    parts.store.close()


def test_pages_pass_over_hidden_rows() -> None:
    """`limit` counts what is shown, `next_since` what was looked at."""
    parts = Logged()
    workspace = parts.workspace("alice")
    parts.directory.create_channel(workspace, "hidden", None, {}, None)
    parts.directory.join(parts.agent("alice"), "hidden")
    for _ in range(3):
        parts.post("alice", "x", "hidden")
    shown = parts.events.latest(workspace) + 1
    parts.post("alice", "y")
    parts.post("alice", "z", "hidden")
    limited = parts.observer(workspace, channel_names=("general",))
    page = parts.events.page(workspace, limited, 0, 1)
    assert ([shown], shown + 1, shown) == ([one["seq"] for one in page.events], page.latest_seq, page.next_since)
    rest = parts.events.page(workspace, limited, shown, 10)
    assert ([], shown + 1) == (rest.events, rest.next_since)
    whole = parts.events.page(workspace, None, 0, 500)
    assert list(range(1, shown + 2)) == [one["seq"] for one in whole.events]
    assert str(workspace.channels["general"].id) == whole.events[shown - 1]["channel_id"]
    parts.store.close()


def test_what_cannot_be_written_has_no_number() -> None:
    """The next one has the next number: no hole, and no row."""
    parts = Logged()
    workspace = parts.workspace()
    with parts.faults.log_failing(times=1):
        for _ in range(2):
            parts.hub.stream(workspace, event({"type": "test"}))
    assert [None, 1] == [fact.number for fact in parts.ledger.of(Published)]
    parts.store.close()


def test_log_and_tokens_survive_the_process(tmp_path: object) -> None:
    """Both are rows; a revoked token is not."""
    path = f"{tmp_path}/relay.db"
    parts = Logged(path)
    workspace = parts.workspace()
    parts.hub.stream(workspace, event({"type": "test"}))
    kept, ended = parts.observer(workspace), parts.observers.create(workspace, "p", SCOPES, Filters())
    parts.observers.revoke(ended)
    parts.store.close()
    again = Logged(path)
    found = again.observers.by_token(kept.token)
    assert found is not None
    assert ("o", SCOPES) == (found.name, found.scopes)
    assert again.observers.by_token(ended.token) is None
    assert 1 == again.events.latest(found.workspace)
    again.store.close()


def test_names_are_taken_once() -> None:
    """409."""
    parts = Logged()
    workspace = parts.workspace("o")
    assert "w/o" == parts.observer(workspace).label, "an agent has that label"
    with pytest.raises(ApiError) as caught:
        parts.observer(workspace)
    assert (409, "observer_token_name_conflict") == (caught.value.status, caught.value.code)
    parts.store.close()

"""Relayfile put together, without sockets: what is written is told, what is restarted is forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncwatch.relay.events import Frame
from syncwatch.relay.logfacts import LogRestarted, Published
from syncwatch.relay.relayfile.kept import Kept
from syncwatch.relay.relayfile.log import Entry
from syncwatch.relay.relayfile.service import Files
from syncwatch.relay.relayfile.tokens import Refusal
from syncwatch.relay.store import Store
from tests.unit.relay_parts import Parts


class Ear:
    """A stream that keeps what it is given."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def published(self, entry: Entry, frame: Frame) -> None:
        """Keep."""
        self.heard.append(f"{frame.kind} {entry.path}")


@pytest.fixture
def parts() -> Iterator[Parts]:
    """Clock, ledger, faults."""
    made = Parts()
    yield made
    made.store.close()


@pytest.fixture
def files(parts: Parts) -> Files:
    """Relayfile in memory."""
    return Files(parts.ledger, parts.clock, parts.faults)


def test_each_change_is_told_once(parts: Parts, files: Files) -> None:
    """To listeners and to the ledger; identical content is a change too."""
    ear = Ear()
    files.listen("w", ear)
    files.write("w", "a", "x")
    files.write("w", "/a", "x", correlation_id="k")
    files.delete("w", "/a")
    files.push("w", "sync.error", provider="acme")
    files.push("w", "writeback.failed", "/a")
    assert ["file.created /a", "file.updated /a", "file.deleted /a", "sync.error /", "writeback.failed /a"] == ear.heard
    assert [1, 2, 3, 4, 5] == [fact.number for fact in parts.ledger.of(Published)]
    assert ["agent_write"] * 3 + ["provider_sync", "system"] == [entry.origin for entry in files.log.entries("w")]
    files.leave("w", ear)
    files.write("w", "/b")
    assert 5 == len(ear.heard)


def test_a_refused_change_is_not_told(parts: Parts, files: Files) -> None:
    """Nothing is numbered."""
    with pytest.raises(Refusal):
        files.write("w", "/a", if_match="")
    with pytest.raises(Refusal):
        files.delete("w", "/a")
    with pytest.raises(Refusal):
        files.write("w", "/")
    assert (0, 0, []) == (files.log.events, files.log.revisions, parts.ledger.of(Published))


def test_tokens_are_signed_fixed_or_refused(parts: Parts, files: Files) -> None:
    """A signed one has any header and claims; a fixed one needs no key; both expire."""
    assert "w" == files.holder(files.token("w")).workspace
    with pytest.raises(Refusal, match="missing jwt kid"):
        files.holder(files.token("w", header={"kid": None}))
    with pytest.raises(Refusal, match="invalid aud claim"):
        files.holder(files.token("w", aud="other"))
    files.accept("secret", "w", ["fs:read"], lifetime_s=10)
    assert files.holder("secret").scopes.has("fs:read")
    with parts.faults.keys_down(), pytest.raises(Refusal, match="jwks unreachable"):
        files.holder("secret")
    parts.at_s += 11
    with pytest.raises(Refusal, match="token expired"):
        files.holder("secret")


def test_a_restart_forgets_what_its_backend_does_not_keep(parts: Parts, files: Files) -> None:
    """In memory everything, durable only who listens."""
    ear = Ear()
    for durable, number in ((True, 2), (False, 1)):
        files.listen("w", ear)
        files.write("w", "/a")
        files.restart(durable=durable)
        files.write("w", "/b")
        assert number == files.log.entries("w")[-1].number
    assert 2 == len(ear.heard)
    assert [(1, True), (2, False)] == [(fact.epoch, fact.durable) for fact in parts.ledger.of(LogRestarted)]


def test_a_durable_backend_is_taken_up(tmp_path: object, parts: Parts) -> None:
    """Events, files, counters; forgotten ones are not."""
    store = Store(f"{tmp_path}/relay.db")
    files = Files(parts.ledger, parts.clock, parts.faults, Kept(store))
    files.write("w", "/a", "one")
    files.write("v", "/b", "two")
    files.delete("w", "/a")
    again = Files(parts.ledger, parts.clock, parts.faults, Kept(store))
    assert files.log.entries("w") == again.log.entries("w")
    assert ({}, files.tree("v").files) == (again.tree("w").files, again.tree("v").files)
    assert ("rev_4", 3, "op_4") == (again.log.next_revision(), again.log.events, again.log.next_operation())
    again.restart(durable=False)
    assert [] == Files(parts.ledger, parts.clock, parts.faults, Kept(store)).log.entries("v")
    store.close()


def test_the_health_of_providers_is_that_of_their_last_event(files: Files) -> None:
    """An error until something comes again; failures stay counted."""
    files.push("w", "sync.error", provider="acme")
    files.write("w", "/docs/a")
    one, other = files.sync_status("w")["providers"]
    assert ("acme", "error", {"unknown": 1}) == (one["provider"], one["status"], one["failureCodes"])
    assert ("docs", "healthy") == (other["provider"], other["status"])
    files.push("w", "sync.ignored", provider="acme")
    assert "healthy" == files.sync_status("w")["providers"][0]["status"]

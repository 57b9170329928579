"""What a changed configuration means: for every key that exists, kept, configured, replaced, or a restart; nothing is ignored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.config import (
    Config,
    Fates,
    Plan,
    RelaycastConnection,
    RelayfileConnection,
    TpsHostConnection,
    TpsPassiveConnection,
    parse,
    plan,
)
from syncwatch.config.change import CHANGEABLE, SETTINGS
from syncwatch.config.decode import keys_of
from syncwatch.config.rules import Block

CAST: dict[str, Any] = {"name": "cast", "protocol": "relaycast", "url": "http://h:1", "token_file": "/t"}
FILES: dict[str, Any] = {"name": "files", "protocol": "relayfile", "url": "http://h:2", "workspace": "w", "token_file": "/t"}
DIALLED = {"name", "protocol", "url"}
IDENTITY: dict[type[Block], set[str]] = {
    RelaycastConnection: DIALLED | {"dialect"},
    RelayfileConnection: DIALLED | {"workspace", "paths"},
    TpsPassiveConnection: {"name", "protocol", "mode", "state_path", "branch"},
    TpsHostConnection: DIALLED | {"mode", "branch", "dedicated", "identity_file", "peer_key", "mail_dir"},
}
"""What makes a connection another one. A key that is added to a block has to be added here or to the settings."""


def said(*connections: dict[str, Any], **top: Any) -> Config:
    """A configuration, as it would be written."""
    return parse(yaml.safe_dump(top | {"connections": list(connections)}, sort_keys=False), "f.yaml", {})


def changed(**keys: Any) -> Plan:
    """One connection, and the same with these keys."""
    return plan(said(CAST), said(CAST | keys))


def test_the_same_again() -> None:
    """Written in another way, it says the same: nothing is to be done."""
    moved = parse("# a comment\nlisten: 0.0.0.0:10119\n" + yaml.safe_dump({"connections": [CAST]}), "other.yaml", {})
    assert Plan(kept=("cast",)) == plan(said(CAST), moved)
    assert {} == plan(said(CAST), moved).changes


@pytest.mark.parametrize(
    "keys",
    [
        {"heartbeat": {"interval": "3s"}},
        {"reconnect": {"max": "9s"}},
        {"resync": {"spread": "0s"}},
        {"verify": {"interval": "9s"}},
        {"stale_after": "1m"},
        {"connect_timeout": "3s"},
        {"max_frame": "1MiB"},
        {"tls": {"insecure_skip_verify": True}},
        {"proxy": "http://proxy:3128"},
        {"token_file": "/elsewhere"},
        {"subscribe": ["ops"]},
        {"canary": {"enabled": True}},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_a_setting_is_taken_over(keys: dict[str, Any]) -> None:
    """The session goes on."""
    assert Plan(configured=("cast",)) == changed(**keys)


@pytest.mark.parametrize("keys", [{"url": "http://h:2"}, {"url": "http://h:1/base"}, {"dialect": "observer"}], ids=str)
def test_another_stream_is_another_session(keys: dict[str, Any]) -> None:
    """The same name, re-aimed."""
    assert Plan(replaced=("cast",)) == changed(**keys)


@pytest.mark.parametrize("keys", [{"workspace": "other"}, {"paths": ["/docs/**"]}], ids=str)
def test_another_part_of_a_server_is_another_stream(keys: dict[str, Any]) -> None:
    """Which events come is told by more than the address."""
    assert Plan(replaced=("files",)) == plan(said(FILES), said(FILES | keys))


def test_another_protocol_under_the_same_name() -> None:
    """Whatever else they have in common."""
    assert Plan(replaced=("cast",)) == plan(said(CAST), said(FILES | {"name": "cast", "url": "http://h:1"}))


def test_names_come_and_go() -> None:
    """Renamed is removed and added; the order of the file is the order of the plan, and moving a block does nothing."""
    a, b, c = (CAST | {"name": name} for name in "abc")
    assert Plan(kept=("b",), added=("c",), removed=("a",)) == plan(said(a, b), said(c, b))
    assert Plan(kept=("b", "a")) == plan(said(a, b), said(b, a))
    assert {"added": ("c",), "removed": ("a",)} == plan(said(a, b), said(c, b)).changes


CONNECTIONS = st.lists(
    st.builds(
        lambda name, url, beat: CAST | {"name": name, "url": f"http://h:{url}", "heartbeat": {"interval": f"{beat}s"}},
        st.sampled_from("abcd"), st.integers(1, 2), st.integers(1, 2),
    ),
    min_size=1, unique_by=lambda connection: connection["name"],
)  # fmt: skip


@given(CONNECTIONS, CONNECTIONS)
def test_every_connection_has_one_fate(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """Nobody is forgotten, nobody is done twice; and doing it the other way round undoes it."""
    old, new = said(*before), said(*after)
    there, back = plan(old, new), plan(new, old)
    fates = [*there.kept, *there.configured, *there.replaced, *there.added]
    assert sorted(one["name"] for one in after) == sorted(fates)
    assert {one["name"] for one in before} == {*fates, *there.removed} - {*there.added}
    for one, other in (("kept", "kept"), ("configured", "configured"), ("replaced", "replaced"), ("added", "removed"), ("removed", "added")):
        assert set(getattr(there, one)) == set(getattr(back, other))
    assert (not there.changes) == ({c.name: c for c in old.connections} == {c.name: c for c in new.connections})


def test_services_come_go_and_change() -> None:
    """Another URL is another service; anything else is a setting; connections are not touched."""
    one, two, three, four = ({"name": name, "url": f"http://h/{name}"} for name in ("one", "two", "three", "four"))
    before = said(CAST, services=[one, two, three])
    after = said(CAST, services=[four, three | {"url": "http://h/elsewhere"}, two | {"interval": "1m"}])
    fates = Fates(configured=("two",), replaced=("three",), added=("four",), removed=("one",))
    assert Plan(kept=("cast",), services=fates) == plan(before, after)
    assert {
        "services_configured": ("two",), "services_replaced": ("three",), "services_added": ("four",), "services_removed": ("one",),
    } == plan(before, after).changes  # fmt: skip
    moved = plan(before, said(CAST, services=[three, one, two]))
    assert Plan(kept=("cast",), services=Fates(kept=("three", "one", "two"))) == moved
    assert {} == moved.changes


WATCHER = {"name": "one", "path": "/p"}


@pytest.mark.parametrize(
    ("key", "fate"), [({"sentinel": {}}, "configured"), ({"path": "/q"}, "replaced"), ({"ignore": []}, "replaced")], ids=str
)
def test_a_watcher_of_the_same_files_goes_on(key: dict[str, Any], fate: str) -> None:
    """Another sentinel is a setting; another directory, or other files in it, are another watcher."""
    before, after = said(CAST, watchers=[WATCHER]), said(CAST, watchers=[WATCHER | key, WATCHER | {"name": "two", "path": "/two"}])
    found = plan(before, after)
    assert Plan(kept=("cast",), watchers=Fates(**{fate: ("one",)}, added=("two",))) == found
    assert {f"watchers_{fate}": ("one",), "watchers_added": ("two",)} == found.changes


MIRROR = {"name": "one", "mount": "/m", "project": "/p"}


@pytest.mark.parametrize(
    ("key", "fate"),
    [
        ({"debounce": "1s"}, "configured"), ({"reconcile": {"healthy": "1s"}}, "configured"), ({"flush_timeout": "1s"}, "configured"),
        ({"mode": "sync"}, "replaced"), ({"mount": "/n"}, "replaced"), ({"project": "/n"}, "replaced"), ({"ignore": []}, "replaced"),
        ({"read_only": ["x"]}, "replaced"), ({"keep_conflicts": False}, "replaced"),
    ],
    ids=str,
)  # fmt: skip
def test_a_mirror_with_other_times_goes_on_any_other_is_another_one(key: dict[str, Any], fate: str) -> None:
    """What was remembered by other rules or about other trees is worth nothing."""
    before, after = said(CAST, mirrors=[MIRROR]), said(CAST, mirrors=[MIRROR | key, MIRROR | {"name": "two"}])
    found = plan(before, after)
    assert Plan(kept=("cast",), mirrors=Fates(**{fate: ("one",)}, added=("two",))) == found
    assert {f"mirrors_{fate}": ("one",), "mirrors_added": ("two",)} == found.changes


@pytest.mark.parametrize(
    "key", [{"interval": "1s"}, {"retry_interval": "1s"}, {"timeout": "1s"}, {"expect_status": 204}, {"expect_body": "ok"}], ids=str
)
def test_every_key_of_a_service_is_a_setting(key: dict[str, Any]) -> None:
    """But its name and its URL."""
    one = {"name": "one", "url": "http://h"}
    assert Fates(configured=("one",)) == plan(said(CAST, services=[one]), said(CAST, services=[one | key])).services


def test_how_long_incidents_are_held_is_a_setting_of_every_session() -> None:
    """Written once, under health."""
    other = CAST | {"name": "other"}
    held = plan(said(CAST), said(CAST, other, health={"incident_hold": "1m"}))
    assert Plan(configured=("cast",), added=("other",), others=("health",)) == held
    assert Plan(kept=("cast",), others=("health",)) == plan(said(CAST), said(CAST, health={"degraded_after": "1m"}))


def test_what_needs_a_restart_is_named_by_file_line_and_path() -> None:
    """All of it, with both values where they can be shown; a key that was left out stands where its block begins."""
    before = said(CAST, listen="127.0.0.1:1", instance="a")
    after = said(CAST, local_listen="127.0.0.1:2", listen="127.0.0.1:3", state_dir="/s", hooks=[{"name": "x", "url": "http://h"}])
    assert [
        "f.yaml:1: local_listen: a change from 127.0.0.1:10120 to 127.0.0.1:2 needs a restart",
        "f.yaml:1: instance: a change from a to null needs a restart",
        "f.yaml:2: listen: a change from 127.0.0.1:1 to 127.0.0.1:3 needs a restart",
        "f.yaml:3: state_dir: a change from null to /s needs a restart",
        "f.yaml:4: hooks: a change needs a restart",
    ] == [str(mistake) for mistake in plan(before, after).refusals]


def test_where_the_environment_wins_it_is_named() -> None:
    """The line of the file would mislead."""
    text = yaml.safe_dump({"connections": [CAST]})
    (refusal,) = plan(parse(text, "f", {}), parse(text, "f", {"SYNCWATCH_LISTEN": "127.0.0.1:4"})).refusals
    assert "SYNCWATCH_LISTEN: listen: a change from 0.0.0.0:10119 to 127.0.0.1:4 needs a restart" == str(refusal)


@pytest.mark.parametrize("key", [key for key in keys_of(Config) if key not in CHANGEABLE])
def test_no_key_is_ignored(key: str) -> None:
    """Whatever key may be written: what cannot change while it runs is refused; new keys are, until somebody decides."""
    field = keys_of(Config)[key].name
    before = said(CAST)
    after = msgspec.structs.replace(before, **{field: object()})
    assert [key] == [mistake.path for mistake in plan(before, after).refusals]


def test_what_may_change_exists() -> None:
    """A key that was renamed must not leave its old name here."""
    assert keys_of(Config).keys() >= CHANGEABLE
    known = {key for block in IDENTITY for key in keys_of(block)}
    assert known >= SETTINGS


@pytest.mark.parametrize("block", IDENTITY, ids=lambda block: block.__name__)
def test_every_key_of_a_connection_is_decided(block: type[Block]) -> None:
    """Part of who is watched, or a setting; a new key is the former until somebody decides."""
    assert IDENTITY[block] == keys_of(block).keys() - SETTINGS

"""Which requests exist (wire: relayfile §1), and what the stream understands (§3.4)."""

from __future__ import annotations

import pytest

from syncwatch.relay.relayfile import routes
from syncwatch.relay.relayfile.frames import event, pong, understood
from syncwatch.relay.relayfile.handlers import HANDLERS
from syncwatch.relay.relayfile.log import Log
from syncwatch.relay.relayfile.tree import File


@pytest.mark.parametrize(
    ("method", "path", "name", "scope", "part"),
    [
        ("GET", "/v1/workspaces/w/fs/events", "fs/events", "fs:read", ""),
        ("PUT", "/v1/workspaces/w/fs/file", "fs/file", "fs:write", ""),
        ("GET", "/v1/workspaces/w/ops/op_1", "ops", "ops:read", "op_1"),
        ("POST", "/v1/workspaces/w/writeback/op_1/ack", "writeback/ack", "sync:trigger", "op_1"),
        ("GET", "/v1/admin/backends", "admin/backends", "admin:read", ""),
    ],
)
def test_routes_that_exist(method: str, path: str, name: str, scope: str, part: str) -> None:
    """With what each needs."""
    target = routes.find(method, path)
    assert target is not None
    assert (name, scope, part) == (target.name, target.scope, target.part)
    assert (method, name) in HANDLERS


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/workspaces/w/fs/events"),
        ("GET", "/v1/workspaces/w/fs"),
        ("GET", "/v1/workspaces//fs/events"),
        ("GET", "/v1/workspaces/w/fs/events/"),
        ("GET", "/v1/workspaces/w/ops"),
        ("GET", "/v1/other/w/fs/events"),
    ],
)
def test_anything_else_is_unknown(method: str, path: str) -> None:
    """Another method on a known path too."""
    assert routes.find(method, path) is None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ('{"type":"ping"}', "ping"),
        ('{"type":" PiNG ","x":1}', "ping"),
        (b'{"type":"ping"}', "ping"),
        ("{}", ""),
        ("null", ""),
        ("", None),
        ("[]", None),
        ('"ping"', None),
        ('{"type":1}', None),
        (b"\xff", None),
    ],
)
def test_what_a_client_says(data: str | bytes, kind: str | None) -> None:
    """None is what ends the stream."""
    assert kind == understood(data)


def test_hosted_streams_tell_of_changes_in_envelopes() -> None:
    """The long form says when it occurred, the summary has a `ts`."""
    log = Log()
    long = log.append("w", "relayfile.changed", "/a/b", 0.0, content_hash="d", provider="a")
    short = log.append("w", "relayfile.changed.summary", "/a/b", 0.0)
    assert (
        b'{"type":"relayfile.changed","id":"evt_1","occurredAt":"1970-01-01T00:00:00Z","digest":"d",'
        b'"resource":{"path":"/a/b","provider":"a"}}\n'
    ) == event(long, None)
    assert (
        b'{"type":"relayfile.changed.summary","id":"evt_2","ts":"1970-01-01T00:00:00Z","resource":{"path":"/a/b"}}\n'
    ) == event(short, None)


def test_only_the_current_revision_travels_with_its_content() -> None:
    """And only up to 1 MiB."""
    entry = Log().append("w", "file.updated", "/a", 0.0, revision="rev_2")

    def told(revision: str, content: str) -> bytes:
        return event(entry, File("/a", revision, "", "text/plain", content, "", "a", "", {}))

    assert b'"contentType":"text/plain","content":"x","inlineContent":true' in told("rev_2", "x")
    assert b'"contentType":"text/plain","inlineContent":true' in told("rev_2", "")
    for other in (told("rev_3", "x"), told("rev_2", "x" * (1024 * 1024 + 1)), event(entry, None)):
        assert b"inlineContent" not in other
    assert b'{"type":"pong","timestamp":"t"}\n' == pong("t")

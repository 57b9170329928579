"""Relayfile's HTTP interface over real sockets: the order of its checks, files, the feed, the rest (wire: relayfile §1, §2, §4, §5)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from syncwatch.relay.logfacts import Answered, Page
from syncwatch.relay.relayfile.rate import RateLimiter
from tests.integration.relayfile_parts import WORKSPACE, FileWorld, file_world


@pytest.fixture
async def w() -> AsyncIterator[FileWorld]:
    """A relay with one workspace."""
    async with file_world() as made:
        yield made


async def test_checks_come_in_their_order(w: FileWorld) -> None:
    """Route, token, path, correlation id, rate limit, handler: whoever fails several hears of the first."""
    limited = w.files.token(WORKSPACE, ["relayfile:fs:read:/docs/**"])
    with w.relay.faults.rate_limiting(retry_after_s=60):
        wrong = [
            (await w.call("POST", "fs/file", token="x", X_Correlation_Id=""), 404, "not_found", "route not found"),
            (await w.call("GET", "fs/file?path=/x", token="x", X_Correlation_Id=""), 401, "unauthorized", "invalid jwt format"),
            (await w.call("GET", "fs/file?path=/x", token=limited, X_Correlation_Id=""), 403, "forbidden", "missing required scope: fs:read"),
            (await w.call("GET", "fs/file?path=/x", X_Correlation_Id=""), 400, "bad_request", "missing X-Correlation-Id header"),
            (await w.call("GET", "fs/file?path=/x"), 429, "rate_limited", "rate limit exceeded"),
        ]  # fmt: skip
    wrong.append((await w.call("GET", "fs/file?path=/x"), 404, "not_found", "not found"))
    for reply, status, code, message in wrong:
        assert (status, code, message) == (reply.status, reply.body["code"], reply.body["message"])
        assert {"code", "message", "correlationId"} == set(reply.body)
    assert ["60"] == [reply.headers["Retry-After"] for reply, *_ in wrong if "Retry-After" in reply.headers]
    assert [status for _, status, *_ in wrong] == [fact.status for fact in w.relay.ledger.of(Answered)]


async def test_a_rate_limit_counts_what_a_subject_asks(w: FileWorld) -> None:
    """Upgrades too; nobody else is limited; what fails an earlier check does not count."""
    w.files.rate = RateLimiter(2, 60.0)
    assert 400 == (await w.call("GET", "fs/events", X_Correlation_Id="")).status
    async with w.stream(frm="now"):
        assert 200 == (await w.call("GET", "fs/events")).status
    refused = await w.call("GET", "fs/events")
    assert (429, "rate_limited", "60") == (refused.status, refused.body["code"], refused.headers["Retry-After"])
    dialled = await w.dial()
    assert (429, False) == (dialled.status, "Retry-After" in dialled.headers)
    assert 200 == (await w.call("GET", "fs/events", token=w.files.token(WORKSPACE, subject="other"))).status


async def test_a_bearer_is_needed(w: FileWorld) -> None:
    """Another scheme is none."""
    for header in ("", "Basic eDp5", "bearer x"):
        reply = await w.call("GET", "fs/events", Authorization=header)
        assert (401, "missing or invalid bearer token") == (reply.status, reply.body["message"])


async def test_a_file_is_written_read_and_deleted(w: FileWorld) -> None:
    """202 with operation and revision; the event carries the correlation id; `ETag` is not quoted."""
    written = await w.put("/syncwatch/canary.json", '{"n":1}', "0", "nonce-1")
    expected = {
        "opId": "op_1",
        "status": "queued",
        "targetRevision": "rev_1",
        "writeback": {"provider": "syncwatch", "state": "pending"},
    }
    assert (202, expected) == (written.status, written.body)
    event = (await w.call("GET", "fs/events")).body["events"][0]
    assert ("rev_1", "nonce-1", "agent_write") == (event["revision"], event["correlationId"], event["origin"])
    assert "content" not in event
    read = await w.call("GET", "fs/file?path=/syncwatch/canary.json")
    assert ("rev_1", '{"n":1}', "text/plain") == (read.headers["ETag"], read.body["content"], read.body["contentType"])
    assert "queued" == (await w.call("GET", "ops/op_1")).body["status"]
    assert 200 == (await w.call("POST", "writeback/op_1/ack", {"success": True})).status
    assert "succeeded" == (await w.call("GET", "ops/op_1")).body["status"]
    deleted = await w.call("DELETE", "fs/file?path=/syncwatch/canary.json", If_Match='W/"rev_1"')
    assert (202, "rev_2") == (deleted.status, deleted.body["targetRevision"])
    assert 404 == (await w.call("GET", "fs/file?path=/syncwatch/canary.json")).status
    assert [1, 2] == (await w.poll())[0], "an acknowledgement makes no event"


async def test_preconditions(w: FileWorld) -> None:
    """412 without, 409 against another revision, 404 for a revision of nothing."""
    await w.put("/a", "one")
    cases = {"": (412, "precondition_failed"), "0": (409, "revision_conflict"), "rev_9": (409, "revision_conflict")}
    for if_match, (status, code) in cases.items():
        reply = await w.put("/a", "two", if_match)
        assert (status, code) == (reply.status, reply.body["code"])
    assert ("rev_9", "rev_1", "one") == tuple(
        reply.body[name] for name in ("expectedRevision", "currentRevision", "currentContentPreview")
    )
    assert 404 == (await w.put("/b", "x", "rev_1")).status
    assert 202 == (await w.put("/a", "two", '"rev_1"')).status
    assert 412 == (await w.call("DELETE", "fs/file?path=/a")).status
    assert 404 == (await w.call("DELETE", "fs/file?path=/b", If_Match="*")).status
    assert 400 == (await w.put("", "x")).status


async def test_bodies_are_bounded_and_checked(w: FileWorld) -> None:
    """413 above 1 MiB, 400 for what is not JSON."""
    assert (413, "payload_too_large") == ((r := await w.put("/a", "x" * 1024 * 1024)).status, r.body["code"])
    reply = await w.call("PUT", "fs/file?path=/a", b"{", If_Match="*")
    assert (400, "invalid json body") == (reply.status, reply.body["message"])


async def test_many_files_at_once_have_no_correlation_id(w: FileWorld) -> None:
    """The answer has one, the events have none."""
    files = [{"path": "/a", "content": "1"}, {"path": "", "content": "2"}, {"path": "/b", "content": "3"}]
    reply = await w.call("POST", "fs/bulk", {"files": files}, X_Correlation_Id="bulk-1")
    assert (202, 2, 1, "bulk-1") == (
        reply.status,
        reply.body["written"],
        reply.body["errorCount"],
        reply.body["correlationId"],
    )
    assert ["rev_1", "rev_2"] == [result["revision"] for result in reply.body["results"]]
    events = (await w.call("GET", "fs/events")).body["events"]
    assert ["", ""] == [event["correlationId"] for event in events]


async def test_a_limited_token_writes_only_below_its_path(w: FileWorld) -> None:
    """One file is refused at once, one of many by itself."""
    token = w.files.token(WORKSPACE, ["relayfile:fs:write:/docs/**"])
    assert 403 == (await w.call("PUT", "fs/file?path=/other/a", {"content": ""}, token, If_Match="*")).status
    assert 202 == (await w.call("PUT", "fs/file?path=/docs/a", {"content": ""}, token, If_Match="*")).status
    files = [{"path": "/docs/b"}, {"path": "/other/b"}]
    reply = await w.call("POST", "fs/bulk", {"files": files}, token)
    assert (1, [("/other/b", "forbidden")]) == (
        reply.body["written"],
        [(one["path"], one["code"]) for one in reply.body["errors"]],
    )


async def test_the_feed_upwards(w: FileWorld) -> None:
    """Strictly after the cursor; `nextCursor` only while more remain; an unknown cursor starts from the very beginning."""
    w.write(5)
    w.write(1, "w2")
    w.write(1)
    assert ([1, 2, 3], "evt_3") == await w.poll(limit=3)
    assert ([4, 5, 7], None) == await w.poll(limit=3, cursor="evt_3")
    assert ([], None) == await w.poll(cursor="evt_7")
    for unknown in ("evt_6", "evt_99", "nonsense"):
        assert ([1, 2, 3, 4, 5, 7], None) == await w.poll(cursor=unknown)
    facts = w.relay.ledger.of(Page)
    assert ((1, 2, 3), 3, "", "evt_3", True) == (
        facts[0].numbers,
        facts[0].limit,
        facts[0].cursor,
        facts[0].next_cursor,
        facts[0].known,
    )
    assert [True, True, True, False, False, False] == [fact.known for fact in facts]


async def test_the_feed_downwards(w: FileWorld) -> None:
    """Newest first, below the cursor; an unknown cursor gives nothing."""
    w.write(5)
    assert ([5], "evt_5") == await w.poll(direction="desc", limit=1)
    assert ([3, 2, 1], None) == await w.poll(direction="desc", cursor="evt_4")
    assert ([], None) == await w.poll(direction="desc", cursor="evt_9")
    wrong = await w.call("GET", "fs/events?direction=up")
    assert (400, 'unsupported direction "up" (must be asc or desc)') == (wrong.status, wrong.body["message"])


async def test_the_feed_by_provider_and_limits(w: FileWorld) -> None:
    """Lower-cased; senseless limits are 200, big ones 1000."""
    w.write(1100)
    w.files.push(WORKSPACE, "sync.ignored", provider="acme")
    assert ([1101], None) == await w.poll(provider="ACME")
    assert [200, 200, 200, 1000] == [len((await w.poll(limit=limit))[0]) for limit in ("0", "-1", "x", "5000")]


async def test_limited_tokens_may_open_a_stream_but_never_poll(w: FileWorld) -> None:
    """The feed is authorised against the root."""
    token = w.files.token(WORKSPACE, ["fs:read", "relayfile:fs:read:/docs/**"])
    reply = await w.call("GET", "fs/events", token=token)
    assert (403, "missing required scope: fs:read") == (reply.status, reply.body["message"])
    assert 403 == (await w.dial(token)).status
    assert 403 == (await w.dial(token, path="/other")).status
    async with w.stream("/docs/**", token=token, frm="now") as stream:
        w.write(1)
        await stream.take(1)


async def test_providers_send_and_their_health_shows(w: FileWorld) -> None:
    """`sync.*` events have no revision; an error shows in `sync/status`."""
    for kind in ("sync.error", "sync.suppressed", "unheard"):
        reply = await w.call("POST", "webhooks/ingest", {"provider": "Acme", "event_type": kind})
        assert (202, "queued") == (reply.status, reply.body["status"])
    await w.call("POST", "webhooks/ingest", {"provider": "acme", "event_type": "sync.stale", "path": "/acme/x.json"})
    await w.call("POST", "webhooks/ingest", {"provider": "acme", "event_type": "file.created", "path": "/acme/y", "data": {"content": "z"}})  # fmt: skip
    events = (await w.call("GET", "fs/events")).body["events"]
    assert [
        ("sync.error", "/", ""),
        ("sync.suppressed", "/", ""),
        ("sync.ignored", "/", ""),
        ("sync.stale", "/acme/x.json", ""),
        ("file.created", "/acme/y", "rev_1"),
    ] == [(event["type"], event["path"], event["revision"]) for event in events]
    assert {"provider_sync"} == {event["origin"] for event in events}
    providers = (await w.call("GET", "sync/status")).body["providers"]
    assert [("acme", "healthy", {"unknown": 1})] == [(p["provider"], p["status"], p["failureCodes"]) for p in providers]
    assert 5 == (await w.call("GET", "sync/ingress")).body["acceptedTotal"]
    assert 1 == (await w.call("GET", "/v1/admin/backends")).body["writebackQueueDepth"]


async def test_health_needs_nothing_and_keys_are_public(w: FileWorld) -> None:
    """No token, no correlation id."""
    assert {"status": "ok"} == (await w.call("GET", "/health", token="", X_Correlation_Id="")).body
    key = (await w.call("GET", "/.well-known/jwks.json", token="")).body["keys"][0]
    assert ("RSA", "RS256", "relay-1") == (key["kty"], key["alg"], key["kid"])


async def test_a_fixed_text_can_be_a_token(w: FileWorld) -> None:
    """Until it is revoked."""
    w.files.accept("secret", WORKSPACE)
    assert 200 == (await w.call("GET", "fs/events", token="secret")).status
    async with w.stream(token="secret"):
        pass
    w.files.revoke("secret")
    assert 401 == (await w.call("GET", "fs/events", token="secret")).status

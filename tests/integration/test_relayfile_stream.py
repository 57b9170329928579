"""`/fs/ws` over real sockets: who is let in, what comes first, what is answered, how it ends (wire: relayfile §3)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from syncwatch.relay.ledger import Closed, Opened, Pong, Received, Refused
from syncwatch.relay.logfacts import Dialled, Published
from syncwatch.relay.relayfile.tree import Content
from tests.integration.relay_parts import eventually
from tests.integration.relayfile_parts import WORKSPACE, FileWorld, file_world, numbers


@pytest.fixture
async def w() -> AsyncIterator[FileWorld]:
    """A relay with one workspace."""
    async with file_world() as made:
        yield made


async def test_refusals_are_ordinary_answers(w: FileWorld) -> None:
    """401 and 403 with the server's sentence, in the JSON body of any other answer; the header's token is not looked at."""
    short = w.files.token(WORKSPACE, lifetime_s=-1)
    other = w.files.token("w2")
    cases = {
        "": (401, "invalid jwt format"),
        "nonsense": (401, "invalid jwt format"),
        short: (401, "token expired"),
        other: (403, "workspace mismatch"),
        w.files.token(WORKSPACE, ["fs:write"]): (403, "missing required scope: fs:read"),
        w.files.token(WORKSPACE, []): (403, "no scopes granted"),
    }
    for token, (status, message) in cases.items():
        reply = await w.dial(token)
        assert (status, message, "") == (reply.status, reply.body["message"], reply.body["correlationId"])
        assert "application/json" == reply.headers["Content-Type"]
        assert "Date" in reply.headers
    assert [message for _, message in cases.values()] == [fact.why for fact in w.relay.ledger.of(Refused)]
    assert 426 == (await w.dial(upgrade=False)).status
    assert [] == w.relay.ledger.of(Opened)


async def test_live_events_are_told_as_they_happen(w: FileWorld) -> None:
    """Created with its content, updated, deleted; keys in the server's order; a trailing newline."""
    async with w.stream(frm="now") as stream:
        w.files.write(WORKSPACE, "/Docs/a.json", Content('{"n":1}', "application/json"), correlation_id="k-1")
        raw = (await stream.message()).data
        assert raw.endswith("}\n")
        w.files.write(WORKSPACE, "/Docs/a.json", Content("AAEC", encoding="base64"))
        w.files.delete(WORKSPACE, "/Docs/a.json")
        created, (updated, deleted) = aiohttp.typedefs.DEFAULT_JSON_DECODER(raw), await stream.take(2)
    assert [
        "eventId", "type", "path", "revision", "contentHash", "contentType", "content", "inlineContent", "origin", "provider",
        "correlationId", "timestamp",
    ] == list(created)  # fmt: skip
    assert ("evt_1", "file.created", "rev_1", "docs", "k-1") == (
        created["eventId"],
        created["type"],
        created["revision"],
        created["provider"],
        created["correlationId"],
    )
    assert ("file.updated", "base64", "text/markdown") == (updated["type"], updated["encoding"], updated["contentType"])
    assert "ae4b3280e56e2faf83f414a6e3dabe9d5fbe18976544c05fed121accb85b53fc" == updated["contentHash"]
    assert {"eventId", "type", "path", "revision", "origin", "provider", "timestamp"} == set(deleted)
    assert [(1, "live"), (2, "live"), (3, "live")] == w.delivered()


async def test_catch_up_after_a_cursor_has_no_bound_and_no_seam(w: FileWorld) -> None:
    """Everything after it, oldest first; then live, nothing twice; superseded revisions come without content."""
    w.write(350)
    w.files.write(WORKSPACE, "/docs/1.md", "new")
    async with w.stream(cursor="evt_20") as stream:
        w.write(5)
        events = await stream.take(336)
    assert list(range(21, 357)) == numbers(events)
    w.files.write(WORKSPACE, "/docs/356.md", "newer")
    async with w.stream(cursor="evt_355") as stream:
        old, new = await stream.take(2)
    assert ("content" in old, new["content"]) == (False, "newer")
    dialled = w.relay.ledger.of(Dialled)[0]
    assert ("evt_20", False, True) == (dialled.cursor, dialled.from_now, dialled.known)


@pytest.mark.parametrize("cursor", ["evt_999", "evt_01", "nonsense", "evt_", "evt_2"])
async def test_an_unknown_cursor_yields_nothing_and_no_error(w: FileWorld, cursor: str) -> None:
    """Malformed, of the future, or of another workspace: a silent gap."""
    w.write(1)
    w.write(1, "w2")
    async with w.stream(cursor=cursor) as stream:
        assert await stream.quiet()
        w.write(1)
        assert [3] == numbers(await stream.take(1))
    assert [False] == [fact.known for fact in w.relay.ledger.of(Dialled)]


async def test_without_a_cursor_the_last_hundred_come(w: FileWorld) -> None:
    """The legacy way; `from=now` wants none; a cursor wins over it."""
    w.write(150)
    async with w.stream() as stream:
        assert list(range(51, 151)) == numbers(await stream.take(100))
    async with w.stream(frm="now") as stream:
        assert await stream.quiet()
    async with w.stream(frm="now", cursor="evt_149") as stream:
        assert [150] == numbers(await stream.take(1))


async def test_the_relay_says_where_to_connect(w: FileWorld) -> None:
    """With everything that a client may ask for."""
    for _ in range(2):
        w.write(1)
        w.files.write(WORKSPACE, "/b c/x", "")
    url = w.relay.files_ws_url(WORKSPACE, w.token, cursor="evt_1", from_now=True, paths=["/b c/*"])
    async with w.session.ws_connect(url) as socket:
        assert "evt_2" == (await socket.receive_json())["eventId"]
    dialled = w.relay.ledger.of(Dialled)[0]
    assert ("evt_1", True, ("/b c/*",)) == (dialled.cursor, dialled.from_now, dialled.filters)


async def test_filters_apply_to_catch_up_and_live(w: FileWorld) -> None:
    """Repeated `path`, with or without the slash."""
    for path in ("/a/1", "/b/1", "/b/c/1", "/d"):
        w.files.write(WORKSPACE, path, "")
    async with w.stream("b/**", "/d", "", "/d", cursor="") as stream:
        w.files.write(WORKSPACE, "/a/2", "")
        w.files.write(WORKSPACE, "/b/2", "")
        assert [2, 3, 4, 6] == numbers(await stream.take(4))
    assert [("/b/**", "/d")] == [fact.filters for fact in w.relay.ledger.of(Dialled)]


async def test_pings_are_answered_at_both_levels(w: FileWorld) -> None:
    """Trimmed, in any case, as text or binary; other types are ignored; the server never pings."""
    async with w.stream(frm="now") as stream:
        for text in ('{"type":"ping"}', '{"type":" PING ","id":7}', '{"type":"other"}', "null"):
            await stream.socket.send_str(text)
        await stream.socket.send_bytes(b'{"type":"ping"}')
        pongs = await stream.take(3)
        assert [{"type", "timestamp"}] * 3 == [set(pong) for pong in pongs]
        await stream.socket.ping(b"p")
        assert aiohttp.WSMsgType.PONG is (await stream.message()).type
        assert await stream.quiet()
    assert ["ping", "ping", "other", "", "ping"] == [fact.kind for fact in w.relay.ledger.of(Received)]
    assert 3 == len(w.relay.ledger.of(Pong))


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        ("{", 1007, "failed to unmarshal JSON"),
        ("[1]", 1007, "failed to unmarshal JSON"),
        ('{"type":5}', 1007, "failed to unmarshal JSON"),
        (b"\x00", 1007, "failed to unmarshal JSON"),
        ('"' + "x" * 32_767 + '"', 1009, "read limited at 32769 bytes"),
    ],
)
async def test_what_is_no_frame_ends_the_stream(w: FileWorld, sent: str | bytes, code: int, reason: str) -> None:
    """1007 for what is not JSON of a frame, 1009 for what is too long."""
    async with w.stream(frm="now") as stream:
        await (stream.socket.send_bytes(sent) if isinstance(sent, bytes) else stream.socket.send_str(sent))
        message = await stream.message()
        assert (aiohttp.WSMsgType.CLOSE, code, reason) == (message.type, message.data, message.extra)


async def test_a_client_that_does_not_read_overflows(w: FileWorld) -> None:
    """A contiguous beginning, then 1013; with the last id the rest comes (wire: 7000 events to a stalled reader)."""
    async with w.stream(frm="now") as stream:
        transport = stream.socket._conn.protocol.transport  # type: ignore[union-attr]  # there is no public way to stop reading
        assert transport is not None
        transport.pause_reading()
        for n in range(7000):
            w.files.write(WORKSPACE, f"/big/{n % 10}", "x" * 2000)
        await stream.socket.send_str('{"type":"ping"}')
        await eventually(lambda: w.relay.ledger.of(Received))
        transport.resume_reading()
        events = await stream.rest()
        assert 1013 == stream.socket.close_code
    got = numbers(events)
    assert list(range(1, len(got) + 1)) == got
    assert 0 < len(got) < 7000 - 4096
    assert [] == w.relay.ledger.of(Pong), "the loop that answers pings was blocked"
    async with w.stream(cursor=f"evt_{got[-1]}") as stream:
        assert list(range(len(got) + 1, 7001)) == numbers(await stream.take(7000 - len(got)))
    await eventually(lambda: 2 == len(w.relay.ledger.of(Closed)))
    assert (1013, "event stream overflow; reconnect from cursor") == (
        w.relay.ledger.of(Closed)[0].code,
        w.relay.ledger.of(Closed)[0].reason,
    )


async def test_the_end_of_the_server_is_no_close(w: FileWorld) -> None:
    """1006: no close frame, not even when the relay is stopped in an orderly way."""
    async with w.stream(frm="now") as stream:
        w.write(3)
        await w.relay.stop()
        assert [1, 2, 3] == numbers(await stream.rest())
        assert 1006 == stream.socket.close_code
    assert [("dropped", "relay", None)] == [(f.how, f.by, f.code) for f in w.relay.ledger.of(Closed)]


async def test_expiry_is_looked_at_only_at_the_door(w: FileWorld) -> None:
    """The open stream goes on and answers pings; polls and new streams get 401."""
    async with w.stream(frm="now") as stream:
        with w.relay.faults.token_expired(WORKSPACE):
            await stream.ping()
            assert "pong" == (await stream.take(1))[0]["type"]
            w.write(1)
            assert [1] == numbers(await stream.take(1))
            assert (401, "token expired") == ((r := await w.call("GET", "fs/events")).status, r.body["message"])
            assert 401 == (await w.dial()).status


async def test_what_was_published_is_a_fact(w: FileWorld) -> None:
    """With epoch, workspace, number, kind, path and the server's own time; one counter for all workspaces."""
    w.write(1)
    w.write(1, "w2")
    w.files.push(WORKSPACE, "sync.error", provider="acme")
    facts = w.relay.ledger.of(Published)
    assert [(1, WORKSPACE, 1), (1, "w2", 2), (1, WORKSPACE, 3)] == [(f.epoch, f.workspace, f.number) for f in facts]
    assert ("evt_3", "sync.error", "/", "acme") == (facts[2].id, facts[2].kind, facts[2].path, facts[2].provider)

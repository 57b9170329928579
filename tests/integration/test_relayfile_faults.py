"""Faults as Relayfile's clients meet them, over real sockets, each seen from both sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from syncwatch.relay import kinds
from syncwatch.relay.ledger import Closed, Refused
from syncwatch.relay.logfacts import Answered, LogRestarted, Page, Published
from tests.integration.relay_parts import eventually
from tests.integration.relayfile_parts import WORKSPACE, FileWorld, file_world, number, numbers


@pytest.fixture
async def w() -> AsyncIterator[FileWorld]:
    """A relay with one workspace."""
    async with file_world() as made:
        yield made


def ends(w: FileWorld) -> list[tuple[str, str, int | None]]:
    """How streams ended."""
    return [(fact.how, fact.by, fact.code) for fact in w.relay.ledger.of(Closed)]


# The door


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (403, "forbidden"), (429, "rate_limited"), (503, "unavailable"), (500, "internal_error")])  # fmt: skip
async def test_only_the_stream_is_refused(w: FileWorld, status: int, code: str) -> None:
    """With any status and message; the feed and writes go on, and so does a stream of another protocol's fault."""
    with w.relay.faults.refusing(status, message="because", protocol="relayfile"):
        reply = await w.dial()
        assert (status, code, "because") == (reply.status, reply.body["code"], reply.body["message"])
        assert "Retry-After" not in reply.headers
        assert 202 == (await w.put("/a")).status
        assert ([1], None) == await w.poll()
    assert [(WORKSPACE, status, "because")] == [(f.agent, f.status, f.why) for f in w.relay.ledger.of(Refused)]
    with w.relay.faults.refusing(status, protocol="relaycast"):
        async with w.stream(frm="now"):
            pass


async def test_a_rate_limit_has_a_retry_after_only_over_http(w: FileWorld) -> None:
    """429 at both; with `retry_after_s=None` at neither; a refusal can bring one."""
    with w.relay.faults.rate_limiting(retry_after_s=7):
        dialled, polled = await w.dial(), await w.call("GET", "fs/events")
    assert [(429, None), (429, "7")] == [(r.status, r.headers.get("Retry-After")) for r in (dialled, polled)]
    with w.relay.faults.rate_limiting(retry_after_s=None):
        assert "Retry-After" not in (await w.call("GET", "fs/events")).headers
    with w.relay.faults.refusing(429, retry_after_s=3):
        assert "3" == (await w.dial()).headers["Retry-After"]
    assert 200 == (await w.call("GET", "fs/events")).status


async def test_only_the_feed_is_refused(w: FileWorld) -> None:
    """Streams and files go on."""
    with w.relay.faults.refusing_feed(503, retry_after_s=2):
        reply = await w.call("GET", "fs/events")
        assert (503, "unavailable", "2") == (reply.status, reply.body["code"], reply.headers["Retry-After"])
        assert 202 == (await w.put("/a")).status
        async with w.stream(cursor="evt_0") as stream:
            assert await stream.quiet(0.05)
    assert [] == w.relay.ledger.of(Page)
    assert [503, 202] == [fact.status for fact in w.relay.ledger.of(Answered)]


async def test_a_refusal_may_have_any_code(w: FileWorld) -> None:
    """As a full queue has it."""
    with w.relay.faults.refusing_http(429, route="ingest", code="queue_full", message="queue full", retry_after_s=1):
        reply = await w.call("POST", "webhooks/ingest", {"provider": "acme"})
        assert 200 == (await w.call("GET", "fs/events")).status
    assert (429, "queue_full", "1") == (reply.status, reply.body["code"], reply.headers["Retry-After"])


async def test_an_answer_is_something_else(w: FileWorld) -> None:
    """200 and no page, or a page that is none."""
    for body in ("not json", '{"events":{}}', ""):
        with w.relay.faults.garbling_http(body, route="feed"):
            async with w.session.get(
                f"{w.base}/fs/events", headers={"Authorization": f"Bearer {w.token}", "X-Correlation-Id": "c"}
            ) as answer:
                assert (200, f"{body}\n") == (answer.status, await answer.text())
    assert [] == w.relay.ledger.of(Page)


async def test_the_feed_hangs_and_nothing_else(w: FileWorld) -> None:
    """Cut off when the fault ends; no page was given until then."""
    with w.relay.faults.hanging_feed():
        polling = asyncio.create_task(w.call("GET", "fs/events"))
        assert (set(), {polling}) == await asyncio.wait({polling}, timeout=0.2)
        assert 202 == (await w.put("/a")).status
    assert 200 == (await polling).status, "the client asks again by itself when it is cut off"
    assert [0] == [fact.status for fact in w.relay.ledger.of(Answered) if fact.route == "fs/events"][:1]
    assert 1 == len(w.relay.ledger.of(Page))


async def test_a_handshake_hangs(w: FileWorld) -> None:
    """Polls are answered meanwhile."""
    with w.relay.faults.hanging():
        dialling = asyncio.create_task(w.dial())
        await eventually(lambda: w.relay.ledger.of(Refused))
        assert ([], None) == await w.poll()
        assert not dialling.done()
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling


async def test_the_key_server_is_down(w: FileWorld) -> None:
    """503 for every token at both doors and for the key set itself; open streams stay."""
    async with w.stream(frm="now") as stream:
        with w.relay.faults.keys_down():
            for reply in (await w.dial(), await w.call("GET", "fs/events")):
                assert (503, "unavailable", "jwks unreachable") == (
                    reply.status,
                    reply.body["code"],
                    reply.body["message"],
                )
            assert 503 == (await w.call("GET", "/.well-known/jwks.json")).status
            w.write(1)
            assert [1] == numbers(await stream.take(1))


async def test_an_answer_is_lost_after_the_write(w: FileWorld) -> None:
    """The event is there, the answer is not; a lost page is no page."""
    with w.relay.faults.http_trouble(lose_answer=True), pytest.raises(aiohttp.ClientError):
        await w.put("/a")
    assert 1 <= len(w.relay.ledger.of(Published)), "a client may try a lost PUT again by itself"
    with w.relay.faults.http_trouble(lose_answer=True, route="feed"), pytest.raises(aiohttp.ClientError):
        await w.poll()
    assert [] == w.relay.ledger.of(Page)


# Ends


async def test_a_drop_at_a_frame_is_exact(w: FileWorld) -> None:
    """By event number; what the ledger calls delivered has arrived, nothing else."""
    async with w.stream(frm="now") as stream:
        with w.relay.faults.dropping(seq=40):
            w.write(100)
        assert list(range(1, 41)) == numbers(await stream.rest())
        assert 1006 == stream.socket.close_code
    assert [(n, "live") for n in range(1, 41)] == w.delivered()
    assert [("dropped", "relay", None)] == ends(w)


@pytest.mark.parametrize("code", [1001, 1006, 1008, 1013, 4001])
async def test_a_stream_is_closed_with_any_code(w: FileWorld, code: int) -> None:
    """1006 is no code that a frame may carry: that end is a drop."""
    async with w.stream(frm="now") as stream:
        if code == 1006:
            w.relay.drop(WORKSPACE)
        else:
            w.relay.faults.begin(kinds.Close(code=code, reason="why", protocol="relayfile"))
        assert [] == await stream.rest()
        assert code == stream.socket.close_code


async def test_a_reset_is_a_reset(w: FileWorld) -> None:
    """RST."""
    async with w.stream(frm="now") as stream:
        w.relay.reset(WORKSPACE)
        await stream.rest()
        assert 1006 == stream.socket.close_code
    assert [("reset", "relay", None)] == ends(w)


async def test_an_outage_leaves_the_feed(w: FileWorld) -> None:
    """Streams are dropped and refused; events can be written and polled."""
    async with w.stream(frm="now") as stream:
        with w.relay.faults.outage():
            assert [] == await stream.rest()
            assert 503 == (await w.dial()).status
            w.write(2)
            assert ([1, 2], None) == await w.poll()
    async with w.stream(frm="now"):
        pass


# Open streams


async def test_pongs_are_withheld_while_events_come(w: FileWorld) -> None:
    """Only events prove life then."""
    async with w.stream(frm="now") as stream:
        with w.relay.faults.withholding_pong():
            await stream.ping()
            w.write(1)
            assert [1] == numbers(await stream.take(1))
            assert await stream.quiet()


@pytest.mark.parametrize("direction", ["to_client", "from_client", "both"])
async def test_either_direction_freezes(w: FileWorld, direction: Any) -> None:
    """Afterwards everything, in order."""
    async with w.stream(frm="now") as stream:
        with w.relay.faults.freezing(direction):
            await stream.ping()
            w.write(3)
            if direction == "from_client":
                assert [1, 2, 3] == numbers(await stream.take(3))
            assert await stream.quiet()
        said = await stream.take(1 if direction == "from_client" else 4)
        assert 1 == [event["type"] for event in said].count("pong")
        if direction != "from_client":
            assert [1, 2, 3] == [number(event) for event in said if event["type"] != "pong"]


async def test_a_frozen_stream_overflows(w: FileWorld) -> None:
    """4096 events wait; one more, and it ends with 1013 at the thaw."""
    async with w.stream(frm="now") as stream:
        w.write(2)
        with w.relay.faults.freezing("to_client"):
            w.write(4096)
            assert not w.relay.ledger.of(Closed)
        assert 4098 == len(await stream.take(4098))
        with w.relay.faults.freezing("to_client"):
            w.write(4097)
        assert [] == await stream.rest()
        assert 1013 == stream.socket.close_code


async def test_live_events_are_skipped_doubled_and_swapped(w: FileWorld) -> None:
    """By number; the feed has them in order."""
    async with w.stream(frm="now") as stream:
        with (
            w.relay.faults.skipping(seq=2),
            w.relay.faults.duplicating(seq=3),
            w.relay.faults.reordering(seq=4),
            w.relay.faults.skipping(kind="sync.error"),
        ):
            w.write(5)
            w.files.push(WORKSPACE, "sync.error")
        assert [1, 3, 3, 5, 4] == numbers(await stream.take(5))
        assert await stream.quiet()
    assert [1, 2, 3, 4, 5, 6] == (await w.poll())[0]


async def test_a_stream_is_stalled_or_late(w: FileWorld) -> None:
    """Stalled: pongs come, events do not, ever. Late: all of them, in order."""
    async with w.stream(frm="now") as stream:
        with w.relay.faults.stalling():
            w.write(2)
            await stream.ping()
            assert "pong" == (await stream.take(1))[0]["type"]
        with w.relay.faults.delaying(0.1):
            start_s = asyncio.get_running_loop().time()
            w.write(2)
            assert [3, 4] == numbers(await stream.take(2))
            assert 0.09 < asyncio.get_running_loop().time() - start_s


async def test_catch_up_is_cut_late_or_failing(w: FileWorld) -> None:
    """Cut: it just ends, or the stream does. Late: what happens meanwhile is not told twice. Failing: 1011."""
    w.write(10)
    with w.relay.faults.cutting_replay(3):
        async with w.stream() as stream:
            w.write(1)
            assert [1, 2, 3, 11] == numbers(await stream.take(4))
    with w.relay.faults.cutting_replay(3, "drop"):
        async with w.stream() as stream:
            assert [1, 2, 3] == numbers(await stream.rest())
    with w.relay.faults.slow_database(0.1):
        async with w.stream(cursor="evt_9") as stream:
            w.write(2)
            assert [10, 11, 12, 13] == numbers(await stream.take(4))
            w.write(1)
            assert [14] == numbers(await stream.take(1))
    with w.relay.faults.database_failing():
        async with w.stream() as stream:
            assert [] == await stream.rest()
            assert 1011 == stream.socket.close_code
        assert 500 == (await w.call("GET", "fs/events")).status


async def test_a_stream_is_accepted_and_then_silent(w: FileWorld) -> None:
    """No catch-up, no event, no pong, ever."""
    w.write(2)
    with w.relay.faults.accepting_only():
        async with w.stream() as stream:
            await stream.ping()
            w.write(1)
            assert await stream.quiet()
    assert [] == w.delivered()


async def test_streams_flap(w: FileWorld) -> None:
    """Each ends after its first frame."""
    w.write(5)
    with w.relay.faults.dropping(frames=1, times=3):
        for number_ in (1, 2, 3):
            async with w.stream(cursor=f"evt_{number_}") as stream:
                assert [number_ + 1] == numbers(await stream.rest())


async def test_raw_and_oversized_frames(w: FileWorld) -> None:
    """Anything at all; an oversized event comes again with every catch-up."""
    async with w.stream(frm="now") as stream:
        assert 1 == w.relay.inject(WORKSPACE, '{"type":7}')
        assert '{"type":7}' == (await stream.message()).data
        w.write(1)
        w.relay.faults.begin(kinds.Oversize(agent=WORKSPACE, size_bytes=2_000_000))
        await stream.take(1)
        assert 2_000_000 <= len((await stream.message()).data)
    async with w.stream(cursor="evt_1") as stream:
        assert 2_000_000 <= len((await stream.message()).data)


# The server as a whole


async def test_a_restart_in_memory_begins_again_at_one(w: FileWorld) -> None:
    """Log and files are gone; an old cursor is unknown: nothing on the stream, everything on the feed."""
    w.write(5)
    async with w.stream(cursor="evt_5") as stream:
        w.relay.restart()
        assert [] == await stream.rest()
        assert 1006 == stream.socket.close_code
    w.write(2)
    async with w.stream(cursor="evt_5") as stream:
        assert await stream.quiet()
    assert ([1, 2], None) == await w.poll(cursor="evt_5")
    assert [(2, False)] == [(fact.epoch, fact.durable) for fact in w.relay.ledger.of(LogRestarted)]
    assert [(2, 1), (2, 2)] == [(f.epoch, f.number) for f in w.relay.ledger.of(Published)][-2:]
    assert "rev_1" == (await w.call("GET", "fs/file?path=/docs/1.md")).body["revision"]


async def test_a_durable_restart_keeps_ids_and_cursors(w: FileWorld) -> None:
    """Only the streams end."""
    w.write(5)
    async with w.stream(cursor="evt_5") as stream:
        w.relay.faults.begin(kinds.Restart(durable=True))
        assert [] == await stream.rest()
    w.write(1)
    async with w.stream(cursor="evt_4") as stream:
        assert [5, 6] == numbers(await stream.take(2))
    assert {1} == {fact.epoch for fact in w.relay.ledger.of(Published)}


async def test_a_clock_that_is_off_moves_what_clients_see(w: FileWorld) -> None:
    """Timestamps, not ids; tokens expire by it."""
    w.write(1)
    with w.relay.faults.clock_off(-3600):
        w.write(1)
    with w.relay.faults.clock_off(200_000):
        assert "token expired" == (await w.dial()).body["message"]
    first, second = (await w.call("GET", "fs/events")).body["events"]
    assert second["timestamp"] < first["timestamp"]


async def test_faults_are_begun_over_http_and_show_in_the_summary(w: FileWorld) -> None:
    """By name, with route and protocol."""
    fault = {"fault": "refuse_http", "route": "feed", "status": 503, "protocol": "relayfile", "agent": WORKSPACE}
    begun = await w.call("POST", "/_relay/faults", fault)
    assert 201 == begun.status
    assert 503 == (await w.call("GET", "fs/events")).status
    await w.call("DELETE", f"/_relay/faults/{begun.body['id']}")
    async with w.stream(frm="now"):
        w.write(1)
        summary = (await w.call("GET", "/_relay/summary")).body
    expected = {"workspace": WORKSPACE, "epoch": 1, "events": 1, "newest": "evt_1", "files": 1, "streams": 1}
    assert [expected] == summary["workspaces"]
    facts = (await w.call("GET", "/_relay/ledger")).body["facts"]
    assert {"published", "delivered", "dialled", "answered"} <= {fact["fact"] for fact in facts}


async def test_a_database_file_makes_it_durable_over_the_process(tmp_path: object) -> None:
    """Ids, cursors, revisions and files go on; a restart in memory forgets the file's rows too."""
    path = f"{tmp_path}/relay.db"
    async with file_world(database=path) as w:
        w.write(3)
        w.files.delete(WORKSPACE, "/docs/2.md")
    async with file_world(database=path) as w:
        async with w.stream(cursor="evt_2") as stream:
            w.write(1)
            assert [3, 4, 5] == numbers(await stream.take(3))
        assert "rev_3" == (await w.call("GET", "fs/file?path=/docs/3.md")).body["revision"]
        assert 404 == (await w.call("GET", "fs/file?path=/docs/2.md")).status
        w.relay.restart()
        w.write(1)
    async with file_world(database=path) as w:
        assert ([1], None) == await w.poll()

"""Every fault over real sockets, each seen from both sides: what the client got, and what the ledger says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from syncwatch.relay import kinds
from syncwatch.relay.clock import iso
from syncwatch.relay.ids import snowflake_s
from syncwatch.relay.ledger import Ack, Closed, Fault, Injected, Opened, Pushed, Refused, Restarted, Sent
from syncwatch.relay.script import load
from tests.integration.relay_parts import World, eventually, world


@pytest.fixture
async def w() -> AsyncIterator[World]:
    """A relay with alice and bob."""
    async with world() as made:
        yield made


def numbers(w: World, connection: int = 1) -> list[int | None]:
    """What the ledger says was sent on a connection."""
    return [fact.number for fact in w.relay.ledger.of(Sent) if fact.connection == connection]


def ends(w: World) -> list[tuple[str, str, int | None]]:
    """How connections ended."""
    return [(fact.how, fact.by, fact.code) for fact in w.relay.ledger.of(Closed)]


# Upgrades


@pytest.mark.parametrize("status", [401, 403, 404, 426, 429, 500, 503])
async def test_upgrades_are_refused_with_any_status(w: World, status: int) -> None:
    """So many times, for one agent, with `Retry-After` where wanted."""
    path = f"/v1/ws?token={w.tokens['alice']}"
    with w.relay.faults.refusing(status, retry_after_s=2, agent="alice", times=2):
        replies = [await w.dial(path) for _ in range(2)]
        assert [(status, b"", "2", "close")] * 2 == [
            (r.status, r.body, r.headers["Retry-After"], r.headers["Connection"]) for r in replies
        ]
        async with w.connected("bob"), w.connected("alice"):
            pass
    assert [("alice", status, "refuse")] * 2 == [
        (fact.agent, fact.status, fact.why) for fact in w.relay.ledger.of(Refused)
    ]


async def test_an_upgrade_hangs(w: World) -> None:
    """The connection is accepted, the answer never comes; it is cut off when the fault ends."""
    with w.relay.faults.hanging():
        reader, writer = await w.dial_raw()
        answer = asyncio.create_task(reader.read(100))
        assert (set(), {answer}) == await asyncio.wait({answer}, timeout=0.2)
        assert [("alice", 0, "hang")] == [(fact.agent, fact.status, fact.why) for fact in w.relay.ledger.of(Refused)]
    assert b"" == await answer
    writer.close()


async def test_one_upgrade_hangs_until_its_client_goes(w: World) -> None:
    """`times=1`: the next one is let in while the first still hangs."""
    with w.relay.faults.hanging(times=1):
        dialling = asyncio.create_task(w.dial(f"/v1/ws?token={w.tokens['alice']}"))
        await eventually(lambda: w.relay.ledger.of(Refused))
        async with w.connected() as alice:
            await alice.take(1)
        assert not dialling.done()
    assert not dialling.done()
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling


async def test_a_connection_is_accepted_and_then_silent(w: World) -> None:
    """Nothing ever: no presence, no pong, no acknowledgement; events are pushed, not sent."""
    with w.relay.faults.accepting_only():
        async with w.connected() as alice:
            await alice.ping()
            await alice.ask(0)
            w.relay.push("alice", "test")
            assert await alice.quiet()
            assert 2 == len(w.relay.ledger.of(Pushed, "alice"))
            assert [] == w.relay.ledger.of(Sent)
            await alice.socket.close()
    await eventually(lambda: w.relay.ledger.of(Closed))
    assert 1 == len(w.relay.ledger.of(Opened))


async def test_an_expired_token_is_refused_everywhere(w: World) -> None:
    """401 at the door and over HTTP; the open socket stays."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.token_expired("alice"):
            assert 401 == (await w.dial(f"/v1/ws?token={w.tokens['alice']}")).status
            assert 401 == (await w.call("GET", "/v1/agent", None, "alice")).status
            assert 200 == (await w.call("GET", "/v1/agent", None, "bob")).status
            w.relay.push("alice", "test")
            assert "test" == (await alice.take(1))[0]["type"]


@pytest.mark.parametrize("mode", ["refuse", "close"])
async def test_an_outage_drops_everybody_and_goes_on_accepting_messages(w: World, mode: Any) -> None:
    """Sockets end without a close frame, upgrades fail, HTTP works, and the ring fills."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.outage(mode):
            assert [] == await alice.rest()
            assert 1006 == alice.socket.close_code
            dialled = w.dial(f"/v1/ws?token={w.tokens['alice']}")
            if mode == "refuse":
                assert 503 == (await dialled).status
            else:
                with pytest.raises(aiohttp.ClientError):
                    await dialled
            assert 201 == (await w.call("POST", "/v1/channels/general/messages", {"text": "x"}, "bob")).status
    assert 3 == len(w.relay.ledger.of(Pushed, "alice"))
    assert [1] == numbers(w)
    async with w.connected() as alice:
        await alice.take(1)


# Ends


async def test_a_drop_is_exact(w: World) -> None:
    """What the ledger calls sent has arrived, nothing else, no close frame; twenty times, with the client talking meanwhile."""
    for round_ in range(20):
        async with w.connected() as alice:
            await alice.take(1)
            after = w.relay.find("alice").counter
            with w.relay.faults.dropping(seq=after + 50):
                for n in range(100):
                    if n % 10 == 0:
                        await alice.ping()
                    w.relay.push("alice", "test", n=n, padding="x" * 2000)
                got = await alice.rest()
            assert 1006 == alice.socket.close_code
        closed = w.relay.ledger.of(Closed)[round_]
        assert ("dropped", "relay", None) == (closed.how, closed.by, closed.code)
        sent = numbers(w, closed.connection)
        assert after + 50 == sent[-1]
        assert sent[1:] == [frame["agent_seq"] for frame in got if "agent_seq" in frame]
        assert closed.frames == closed.flushed == 1 + len(got)


async def test_a_drop_waits_for_a_slow_reader(w: World) -> None:
    """20 MB are in the way; the client reads them after the drop, and gets every frame."""
    async with w.connected() as alice:
        await alice.take(1)
        for _ in range(20):
            w.relay.push("alice", "test", padding="x" * 1_000_000)
        w.relay.drop("alice")
        w.relay.push("alice", "too late")
        assert list(range(2, 22)) == [frame["agent_seq"] for frame in await alice.rest()]
    await eventually(lambda: w.relay.ledger.of(Closed))
    assert [(21, 21)] == [(fact.frames, fact.flushed) for fact in w.relay.ledger.of(Closed)]


async def test_a_drop_gives_up_on_a_client_that_reads_nothing(w: World) -> None:
    """After a second; the ledger says how many frames had left."""
    async with w.connected() as alice:
        await alice.take(1)
        transport: Any = alice.socket._conn.protocol.transport  # type: ignore[union-attr]  # there is no public way to stop reading
        transport.pause_reading()
        for _ in range(100):
            w.relay.push("alice", "test", padding="x" * 500_000)
        w.relay.drop("alice")
        await eventually(lambda: w.relay.ledger.of(Closed))
        transport.abort()
    closed = w.relay.ledger.of(Closed)[0]
    assert 101 == closed.frames
    assert 1 <= closed.flushed < 101


async def test_a_reset_is_a_reset(w: World) -> None:
    """The client's kernel is told by RST."""
    reader, writer = await w.dial_raw()
    await reader.readuntil(b"agent_seq")
    w.relay.reset("alice")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()
    assert [("reset", "relay", None)] == ends(w)


async def test_a_close_carries_its_code(w: World) -> None:
    """At a frame, with code and reason."""
    async with w.connected() as alice:
        with w.relay.faults.closing(4002, "maintenance", seq=3):
            for _ in range(4):
                w.relay.push("alice", "test")
            assert [1, 2, 3] == [frame["agent_seq"] for frame in await alice.rest()]
        assert 4002 == alice.socket.close_code
    await eventually(lambda: w.relay.ledger.of(Closed))
    assert [("closed", "relay", 4002)] == ends(w)


async def test_every_connection_is_dropped_after_its_first_frame(w: World) -> None:
    """A flapping server: `frames=1`, as often as wanted."""
    with w.relay.faults.dropping(frames=1, times=3):
        for _ in range(3):
            async with w.connected() as alice:
                assert 1 == len(await alice.rest())
        async with w.connected() as alice:
            await alice.take(1)
            assert await alice.quiet()
    assert [("dropped", "relay", None)] * 3 == ends(w)[:3]


# Open connections


async def test_half_open_towards_the_client(w: World) -> None:
    """Nothing comes, not even a WebSocket pong; afterwards everything, in order."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.freezing("to_client"):
            w.relay.push("alice", "one")
            await alice.ping()
            await alice.socket.ping(b"p")
            await alice.ask(0)
            assert await alice.quiet()
            assert [1] == numbers(w)
        assert ["one", "pong"] == [frame["type"] for frame in await alice.take(2)]
        assert aiohttp.WSMsgType.PONG is (await alice.message()).type
        assert 3 == len(await alice.until("resync_ack"))
    assert [1, 2, 1, 2] == numbers(w)


async def test_half_open_from_the_client(w: World) -> None:
    """Events come, answers do not; afterwards the answers."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.freezing("from_client"):
            await alice.ping()
            w.relay.push("alice", "one")
            assert "one" == (await alice.take(1))[0]["type"]
            assert await alice.quiet()
        assert "pong" == (await alice.take(1))[0]["type"]


async def test_frozen_both_ways_and_dropped(w: World) -> None:
    """What was queued was never sent, and the ledger agrees."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.freezing():
            w.relay.push("alice", "one")
            w.relay.drop()
            assert [] == await alice.rest()
    assert [1] == numbers(w)
    assert 2 == len(w.relay.ledger.of(Pushed, "alice"))


async def test_a_client_may_leave_a_frozen_server(w: World) -> None:
    """It gets no answer to its close; the server notices when the client is gone."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.freezing("to_client"):
            await alice.socket._writer.close(1000, b"bye")
            await eventually(lambda: not w.relay.find("alice").sinks)
            alice.socket._conn.close()  # type: ignore[union-attr]
            await eventually(lambda: w.relay.ledger.of(Closed))
    assert [("closed", "client", 1000)] == ends(w)


async def test_frames_are_delayed(w: World) -> None:
    """All of them, answers too, in order."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.delaying(0.1):
            loop = asyncio.get_running_loop()
            start_s = loop.time()
            w.relay.push("alice", "one")
            await alice.ping()
            assert ["one", "pong"] == [frame["type"] for frame in await alice.take(2)]
            assert 0.09 < loop.time() - start_s < 2


async def test_live_frames_are_reordered_doubled_and_skipped_and_the_ring_is_right(w: World) -> None:
    """A replay shows what should have come."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.skipping(seq=3), w.relay.faults.duplicating(seq=4), w.relay.faults.reordering(seq=5):
            for _ in range(5):
                w.relay.push("alice", "test")
        assert [2, 4, 4, 6, 5] == [frame["agent_seq"] for frame in await alice.take(5)]
        await alice.ask(1)
        assert [2, 3, 4, 5, 6] == [frame["agent_seq"] for frame in (await alice.until("resync_ack"))[:-1]]
    assert [1, 2, 4, 4, 6, 5, 2, 3, 4, 5, 6] == numbers(w)


async def test_a_server_that_answers_pings_but_stopped_pushing(w: World) -> None:
    """Resyncs tell the truth, unless they are not answered either."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.stalling():
            w.relay.post("bob", "general", "unheard")
            await alice.ping()
            assert "pong" == (await alice.take(1))[0]["type"]
            await alice.ask(0)
            assert (3, 3) == ((await alice.until("resync_ack"))[-1]["current_seq"], len(w.relay.find("alice").ring))
        with w.relay.faults.stalling(answer_resyncs=False):
            await alice.ask(0)
            await alice.ping()
            assert "pong" == (await alice.take(1))[0]["type"]
            assert await alice.quiet()


async def test_pings_are_answered_late_or_never(w: World) -> None:
    """Application and WebSocket pings apart."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.withholding_pong():
            await alice.ping()
            await alice.socket.ping(b"")
            assert await alice.quiet()
        with w.relay.faults.delaying_pong(0.1):
            await alice.ping()
            w.relay.push("alice", "test")
            assert ["test", "pong"] == [frame["type"] for frame in await alice.take(2)]


# Replays


async def test_acknowledgements_missing_early_and_wrong(w: World) -> None:
    """One after the other on one connection."""
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.withholding_ack():
            await alice.ask(0)
            await alice.take(1)
            assert await alice.quiet()
        with w.relay.faults.acking_early():
            await alice.ask(0)
            assert ["resync_ack", "agent.status.active"] == [frame["type"] for frame in await alice.take(2)]
        with w.relay.faults.acking_wrongly({"replayed": 7}):
            await alice.ask(0)
            assert 7 == (await alice.until("resync_ack"))[-1]["replayed"]
    assert [1, 7] == [fact.fields["replayed"] for fact in w.relay.ledger.of(Ack)]


async def test_a_cut_replay_drops_the_connection(w: World) -> None:
    """After three frames, exactly."""
    for _ in range(10):
        w.relay.push("alice", "test")
    async with w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.cutting_replay(3, "drop"):
            await alice.ask(0)
            assert [1, 2, 3] == [frame["agent_seq"] for frame in await alice.rest()]
    assert [("dropped", "relay", None)] == ends(w)


async def test_a_failing_database(w: World) -> None:
    """Replays yield no rows and say nothing, HTTP gives 500, upgrades go on unless they shall not."""
    w.relay.post("bob", "general", "kept")
    with w.relay.faults.database_failing():
        async with w.connected() as alice:
            await alice.take(1)
            await alice.ask(-1, iso(w.relay.clock.now_s() - 60))
            said = await alice.until("resync_ack")
        assert (3, True) == (said[-1]["replayed"], said[-1]["gap_detected"])
        reply = await w.call("POST", "/v1/channels/general/messages", {"text": "x"}, "bob")
        assert (500, "internal_error") == (reply.status, reply.body["error"]["code"])
        assert 500 == (await w.call("GET", "/v1/channels/general/messages", None, "bob")).status
    with w.relay.faults.database_failing(upgrades=True):
        assert 500 == (await w.dial(f"/v1/ws?token={w.tokens['alice']}")).status
    assert 1 == len((await w.call("GET", "/v1/channels/general/messages", None, "bob")).body["data"])


# The server as a whole


async def test_a_restart_below_the_cursor(w: World) -> None:
    """Counters cleared, rows kept, sockets dropped without a close frame; a resync above the counter is a clean lie (§6)."""
    async with w.connected() as alice:
        for _ in range(40):
            w.relay.push("alice", "old")
        await alice.take(41)
        w.relay.restart()
        assert [] == await alice.rest()
        assert 1006 == alice.socket.close_code
    w.relay.post("bob", "general", "new")
    async with w.connected() as alice:
        assert 3 == (await alice.take(1))[0]["agent_seq"]
        await alice.ask(41)
        assert [
            {"type": "resync_ack", "last_seen_seq": 41, "current_seq": 3, "replayed": 0, "gap_detected": False}
        ] == await alice.take(1)
        await alice.ask(-1, iso(w.relay.clock.now_s() - 10))
        said = await alice.until("resync_ack")
    assert [1, 2, 3, None] == [frame.get("agent_seq") for frame in said[:-1]]
    assert said[-1]["gap_detected"] is True
    assert [2] == [fact.epoch for fact in w.relay.ledger.of(Restarted)]
    assert [1, 2] == [fact.epoch for fact in w.relay.ledger.of(Opened)]
    assert 2 == w.relay.summary()["epoch"]


async def test_a_restart_keeps_the_listener_down(w: World) -> None:
    """Connections are refused, kept-alive ones cut, messages can be posted in process; then it is back at the same port."""
    url = w.relay.url
    assert 200 == (await w.call("GET", "/v1/agent", None, "alice")).status
    w.relay.restart(down_s=0.4)
    assert not w.relay.listening
    for _ in range(3):
        with pytest.raises(aiohttp.ClientError):
            await w.call("GET", "/v1/agent", None, "alice")
    w.relay.post("bob", "general", "meanwhile")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", w.relay.port)
    await asyncio.wait_for(w.relay.up(), 3)
    assert url == w.relay.url
    async with w.connected() as alice:
        assert 3 == (await alice.take(1))[0]["agent_seq"]


async def test_a_relay_that_is_down_can_be_stopped() -> None:
    """Nothing waits for the listener to come back."""
    async with world() as w:
        w.relay.restart(down_s=60)
        await asyncio.sleep(0.05)


async def test_a_clock_that_is_off_moves_what_clients_see(w: World) -> None:
    """Timestamps and created_at go back, ids stay monotonic, facts keep true time (§3.3)."""
    before = int(w.relay.post("bob", "general", "before"))
    true_s = w.relay.clock.now_s()
    with w.relay.faults.clock_off(-600):
        after = int(w.relay.post("bob", "general", "after"))
        async with w.connected() as alice:
            stamp = (await alice.take(1))[0]["timestamp"]
            await alice.ask(-1, iso(true_s - 300))
            rows = [
                frame
                for frame in await alice.until("resync_ack")
                if frame.get("replayed") is True and "message" in frame
            ]
    assert ["before"] == [row["message"]["text"] for row in rows], "the row made under the old time is not newer"
    assert stamp < iso(true_s - 590)
    assert before < after
    assert abs(snowflake_s(after) - true_s) < 5
    assert all(abs(fact.time_s - true_s) < 5 for fact in w.relay.ledger.after())
    with w.relay.faults.clock_off(600):
        assert snowflake_s(int(w.relay.post("bob", "general", "later"))) - true_s > 590


async def test_http_requests_are_limited_in_rate(w: World) -> None:
    """429 with `Retry-After` and the limit's headers."""
    with w.relay.faults.rate_limiting(retry_after_s=3, times=1):
        reply = await w.call("GET", "/v1/agent", None, "alice")
        assert (429, "rate_limit_exceeded") == (reply.status, reply.body["error"]["code"])
        assert ("3", "30000", "0") == (
            reply.headers["Retry-After"],
            reply.headers["X-RateLimit-Limit"],
            reply.headers["X-RateLimit-Remaining"],
        )
        assert 200 == (await w.call("GET", "/v1/agent", None, "alice")).status


# Frames of its own


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"test","agent_seq":7.5}',
        b'{"type":"test","agent_seq":-3}',
        b'{"type":"test","agent_seq":9007199254740993}',
        b"not json",
        b"[1]",
        b"",
    ],
)
async def test_any_text_can_be_injected(w: World, raw: bytes) -> None:
    """As it is, without a number of its own, not in the ring."""
    async with w.connected() as alice:
        await alice.take(1)
        assert 1 == w.relay.inject("alice", raw)
        assert raw == (await alice.message()).data.encode()
    assert (1, 1) == (w.relay.find("alice").counter, len(w.relay.find("alice").ring))
    assert [(2, len(raw), raw.decode())] == [
        (fact.position, fact.size, fact.head) for fact in w.relay.ledger.of(Injected)
    ]


async def test_binary_and_malformed_frames_can_be_injected(w: World) -> None:
    """Binary arrives as binary; text that is no UTF-8 makes the client close."""
    async with w.connected() as alice:
        await alice.take(1)
        w.relay.inject("alice", b"\x00\x01", 2)
        message = await alice.message()
        assert (aiohttp.WSMsgType.BINARY, b"\x00\x01") == (message.type, message.data)
        w.relay.faults.begin(kinds.Inject(agent="alice", hex="fffe"))
        assert aiohttp.WSMsgType.ERROR is (await alice.message()).type
        assert 1007 == alice.socket.close_code


async def test_an_oversized_event_comes_again_with_every_replay(w: World) -> None:
    """It has a number and stays in the ring (§9: a big message kills a small client on each reconnect)."""
    async with w.connected() as alice:
        await alice.take(1)
        w.relay.faults.begin(kinds.Oversize(agent="alice", size_bytes=5_000_000))
        assert 5_000_000 == len((await alice.message()).data)
        await alice.ask(1)
        assert 5_000_000 == len((await alice.message()).data)
    assert [2] == [fact.number for fact in w.relay.ledger.of(Pushed, "alice") if fact.kind == "relay.oversized"]


# Scripts and times


async def test_a_script_is_played(w: World) -> None:
    """Faults begin and end at their times, and stop with the script."""
    script = load(
        "repeat_every_s: 0.15\nsteps:\n- {at_s: 0.02, for_s: 0.05, fault: refuse}\n- {at_s: 0.1, fault: restart}\n", "x"
    )
    w.relay.play(script)
    await eventually(lambda: 3 == w.relay.hub.epoch)
    w.relay.end_scripts()
    await asyncio.sleep(0.2)
    assert 3 == w.relay.hub.epoch
    changes = [(fact.name, fact.change) for fact in w.relay.ledger.of(Fault)]
    assert [("refuse", "began"), ("refuse", "ended"), ("restart", "began"), ("restart", "ended")] == changes[:4]
    assert not w.relay.faults.active

"""The door and what comes through it, over real sockets (wire: relaycast §1, §2, §5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from syncwatch.relay import Relay, kinds
from syncwatch.relay.clock import iso
from syncwatch.relay.ids import new_token
from syncwatch.relay.ledger import Ack, Closed, Opened, Pushed, Received, Refused, Request, Sent, Streamed
from tests.integration.relay_parts import World, eventually, world


@pytest.fixture
async def w() -> AsyncIterator[World]:
    """A relay with alice and bob."""
    async with world() as made:
        yield made


async def test_refusals_are_bare(w: World) -> None:
    """A status and `Connection: close`, no body, no date: 401 for tokens, 404 for a workspace key, 426 for any other path."""
    cases = {
        "/v1/ws": 401,
        "/v1/ws?token=": 401,
        "/v1/ws?token=nonsense": 401,
        f"/v1/ws?token={new_token('at')}": 401,
        f"/v1/ws?token={new_token('rk')}": 401,
        "/v1/ws?token=ot_live_" + "0" * 32: 401,
        f"/v1/ws?token={w.workspace.api_key}": 404,
        f"/v1/node/ws?token={w.tokens['alice']}": 426,
        "/": 426,
        "/_relay/summary": 426,
    }
    for path, status in cases.items():
        reply = await w.dial(path)
        assert (status, b"") == (reply.status, reply.body), path
        assert "close" == reply.headers["Connection"]
        assert {"Connection", "Content-Length"} == set(reply.headers)
    assert list(cases.values()) == [fact.status for fact in w.relay.ledger.of(Refused)]
    bearer = await w.dial("/v1/ws", Authorization=f"Bearer {w.tokens['alice']}")
    assert 401 == bearer.status, "the June builds accept the query parameter only"


async def test_nothing_is_compressed_and_no_subprotocol_chosen(w: World) -> None:
    """Whatever the client offers; origin parameters are never a reason to refuse."""
    url = w.relay.ws_url(w.tokens["alice"]) + "&origin_actor=" + "x" * 500
    async with w.session.ws_connect(url, compress=15, protocols=()) as socket:
        assert 0 == socket.compress
        assert socket.protocol is None
        headers = socket._response.headers  # aiohttp shows a handshake's headers nowhere else
        assert "Sec-WebSocket-Extensions" not in headers


async def test_the_first_frame_is_ones_own_presence(w: World) -> None:
    """With a number and the server's timestamp; a second socket of a present agent gets none; all sockets get the rest."""
    async with w.connected() as one:
        first = (await one.take(1))[0]
        assert ("agent.status.active", "alice", 1) == (first["type"], first["agent"]["name"], first["agent_seq"])
        assert abs(w.relay.clock.now_s() - aiohttp_time(first["timestamp"])) < 5
        async with w.connected() as two:
            w.relay.post("bob", "general", "hi")
            assert await one.take(2) == await two.take(2)
    assert [1, 2] == [fact.connection for fact in w.relay.ledger.of(Opened)]


def aiohttp_time(text: str) -> float:
    """ISO time as seconds."""
    return datetime.fromisoformat(text).timestamp()


async def test_ignored_frames_are_ignored(w: World) -> None:
    """Subscribe, unsubscribe, garbage, wrong resyncs: no reply, no error; the connection lives."""
    async with w.connected() as alice:
        await alice.take(1)
        for text in (
            '{"type":"subscribe","channels":["general"]}',
            '{"type":"unsubscribe","channels":[]}',
            "{",
            "[]",
            '{"type":"resync","last_seen_seq":"5"}',
        ):
            await alice.socket.send_str(text)
        await alice.socket.send_bytes(b"\x00\xff")
        await alice.ping()
        assert [{"type": "pong"}] == await alice.take(1)
    kinds = [fact.kind for fact in w.relay.ledger.of(Received)]
    assert ["subscribe", "unsubscribe", "invalid", "invalid", "resync", "invalid", "ping"] == kinds
    assert [] == w.relay.ledger.of(Request)


async def test_binary_frames_are_read_like_text(w: World) -> None:
    """The server stringifies them before parsing."""
    async with w.connected() as alice:
        await alice.take(1)
        await alice.socket.send_bytes(b'{"type":"ping"}')
        assert [{"type": "pong"}] == await alice.take(1)


async def test_websocket_pings_are_answered_and_none_are_sent(w: World) -> None:
    """With the same payload."""
    async with w.connected() as alice:
        await alice.take(1)
        await alice.socket.ping(b"probe")
        message = await alice.message()
        assert (aiohttp.WSMsgType.PONG, b"probe") == (message.type, bytes(message.data))


async def test_invalid_utf8_ends_the_connection(w: World) -> None:
    """As the real server's WebSocket library does: 1007."""
    async with w.connected() as alice:
        await alice.take(1)
        await alice.socket._writer.send_frame(
            b"\xff\xfe", aiohttp.WSMsgType.TEXT
        )  # no public way to send bytes as text
        await alice.rest()
        assert 1007 == alice.socket.close_code
    await eventually(lambda: w.relay.ledger.of(Closed))
    assert [("closed", "relay", 1007)] == [(fact.how, fact.by, fact.code) for fact in w.relay.ledger.of(Closed)]


async def test_presence_is_told_at_the_end(w: World) -> None:
    """When the last socket closes, the others get `agent.status.offline`."""
    async with w.connected("bob") as bob:
        async with w.connected() as one:
            async with w.connected():
                pass
            await one.until("agent.status.active")
        told = await bob.take(3)
    assert [("active", "bob"), ("active", "alice"), ("offline", "alice")] == [
        (frame["status"], frame["agent_name"]) for frame in told
    ]


async def test_drop_with_five_missed(w: World) -> None:
    """The everyday outage: overlap and own presence come again, the acknowledgement is last, the ledger knows it all."""
    async with w.connected() as alice:
        await alice.take(1)
        w.relay.push("alice", "test", n=2)
        await alice.take(1)
    await eventually(lambda: 0 == len(w.relay.find("alice").sinks))
    for n in range(3, 8):
        w.relay.push("alice", "test", n=n)
    async with w.connected() as alice:
        assert 8 == (await alice.take(1))[0]["agent_seq"]
        await alice.ask(1)
        said = await alice.until("resync_ack")
    assert [2, 3, 4, 5, 6, 7, 8] == [frame["agent_seq"] for frame in said[:-1]]
    assert {"type": "resync_ack", "last_seen_seq": 1, "current_seq": 8, "replayed": 7, "gap_detected": False} == said[
        -1
    ]
    assert list(range(1, 9)) == [fact.number for fact in w.relay.ledger.of(Pushed, "alice")]
    assert ["live"] * 3 + ["ring"] * 7 == [fact.origin for fact in w.relay.ledger.of(Sent, "alice")]
    assert [(2, 9)] == [(fact.connection, fact.position) for fact in w.relay.ledger.of(Ack)]
    summary = w.relay.summary()["agents"][0]
    assert (8, 8, 8, {"live": 3, "ring": 7, "store": 0}) == (
        summary["counter"],
        summary["ring"],
        summary["pushed"],
        summary["sent"],
    )


async def test_the_answer_goes_to_the_asking_socket_only(w: World) -> None:
    """Others of the same agent hear nothing of it."""
    async with w.connected() as one, w.connected() as two:
        await one.take(1)
        await one.ask(-1, iso(w.relay.clock.now_s()))
        assert 2 == len(await one.until("resync_ack"))
        assert await two.quiet()


async def test_a_burst_of_five_hundred_is_uninterrupted(w: World) -> None:
    """Consecutive numbers, though events are pushed while the client reads."""
    for n in range(600):
        w.relay.push("alice", "test", n=n)
    async with w.connected() as alice:
        await alice.take(1)
        await alice.ask(101)
        said: list[dict[str, Any]] = []
        while not said or said[-1]["type"] != "resync_ack":
            said += await alice.take(1)
            w.relay.push("alice", "late")
        numbers = [frame["agent_seq"] for frame in said[:-1]]
    start = numbers.index(102)
    assert list(range(102, 602)) == numbers[start : start + 500]
    assert (500, False) == (said[-1]["replayed"], said[-1]["gap_detected"])


async def test_a_workspace_key_streams_when_switched_on(w: World) -> None:
    """The same objects without numbers; only pings are honoured, a resync gets no reply."""
    w.relay.workspace_stream = True
    async with w.session.ws_connect(w.relay.ws_url(w.workspace.api_key)) as socket:
        w.relay.post("alice", "general", "hi")
        await socket.send_str('{"type":"resync","last_seen_seq":-1}')
        await socket.send_str('{"type":"ping"}')
        said = [await asyncio.wait_for(socket.receive_json(), 5) for _ in range(3)]
    assert ["message.created", "delivery.accepted", "pong"] == [frame["type"] for frame in said]
    assert not any("agent_seq" in frame or "channel_seq" in frame for frame in said)
    assert 2 == len(w.relay.ledger.of(Streamed))
    assert [] == w.relay.ledger.of(Request)


async def test_the_relay_stops_at_once_with_sockets_open() -> None:
    """Also with one that does not read, one that hangs and one that is frozen; nothing is left running."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession() as session:
        before = asyncio.all_tasks()
        async with Relay.start() as relay:
            workspace = relay.workspace("w")
            token = relay.agent(workspace, "alice")
            one = await session.ws_connect(relay.ws_url(token))
            two = await session.ws_connect(relay.ws_url(token))
            relay.faults.begin(kinds.Freeze())
            relay.push("alice", "big", padding="x" * 10_000_000)
            relay.faults.end_all()
            relay.push("alice", "big", padding="x" * 10_000_000)
            with relay.faults.hanging():
                hung = loop.create_task(
                    session.get(relay.url + "/v1/ws", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
                )
                await eventually(lambda: relay.ledger.of(Refused))
                start_s = loop.time()
                await relay.stop()
                await relay.stop()
                assert loop.time() - start_s < 1.5
        with pytest.raises(aiohttp.ClientError):
            await hung
        with pytest.raises(aiohttp.ClientError):
            await session.get(relay.url)
        await one.close()
        await two.close()
        await asyncio.sleep(0.05)
        assert before == asyncio.all_tasks()


async def test_an_address_in_use_is_an_error_and_leaves_nothing_open(w: World) -> None:
    """OSError, as documented."""
    with pytest.raises(OSError, match="in use"):
        async with Relay.start(port=w.relay.port):
            pass

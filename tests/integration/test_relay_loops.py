"""What depends on the event loop under the relay, on asyncio's loop and on uvloop: drops, resets, the listener, a clean end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syncwatch.relay.ledger import Closed, Sent
from tests.integration.relay_parts import eventually, world
from tests.integration.relayfile_parts import WORKSPACE, file_world, numbers
from tests.loops import on_both_loops


@on_both_loops()
async def test_a_drop_is_exact_on_both_loops() -> None:
    """What the ledger calls sent has arrived, behind megabytes too."""
    async with world() as w, w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.dropping(seq=40):
            for _ in range(60):
                w.relay.push("alice", "test", padding="x" * 200_000)
            got = await alice.rest()
        await eventually(lambda: w.relay.ledger.of(Closed))
        closed = w.relay.ledger.of(Closed)[0]
        assert ("dropped", 40, 40) == (closed.how, closed.frames, closed.flushed)
        assert (
            [fact.number for fact in w.relay.ledger.of(Sent)][1:]
            == [frame["agent_seq"] for frame in got]
            == list(range(2, 41))
        )


@on_both_loops()
async def test_a_reset_is_a_reset_on_both_loops() -> None:
    """RST reaches the client."""
    async with world() as w:
        reader, writer = await w.dial_raw()
        await reader.readuntil(b"agent_seq")
        w.relay.reset("alice")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()
        assert ["reset"] == [fact.how for fact in w.relay.ledger.of(Closed)]


@on_both_loops()
async def test_the_listener_goes_and_comes_back_on_both_loops() -> None:
    """At the same port; a frozen socket does not keep it from going."""
    async with world() as w, w.connected() as alice:
        await alice.take(1)
        port = w.relay.port
        with w.relay.faults.freezing():
            w.relay.restart(down_s=0.2)
            assert [] == await alice.rest()
            await asyncio.sleep(0.05)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            await asyncio.wait_for(w.relay.up(), 3)
        assert port == w.relay.port
        async with w.connected() as again:
            assert 1 == (await again.take(1))[0]["agent_seq"]


@on_both_loops()
async def test_halves_are_frozen_on_both_loops() -> None:
    """Nothing read, nothing written, then everything."""
    async with world() as w, w.connected() as alice:
        await alice.take(1)
        with w.relay.faults.freezing():
            await alice.ping()
            w.relay.push("alice", "test")
            assert await alice.quiet()
        assert {"pong", "test"} == {frame["type"] for frame in await alice.take(2)}


@on_both_loops()
async def test_relayfile_streams_flow_and_overflow_on_both_loops() -> None:
    """A burst that is read arrives whole; one that is not ends in 1013 after a contiguous beginning."""
    async with file_world() as w, w.stream(frm="now") as stream:
        w.write(3000)
        assert list(range(1, 3001)) == numbers(await stream.take(3000))
        transport: Any = stream.socket._conn.protocol.transport  # type: ignore[union-attr]  # there is no public way to stop reading
        transport.pause_reading()
        for _ in range(12):
            for n in range(1000):
                w.files.write(WORKSPACE, f"/big/{n % 10}", "x" * 2000)
            await asyncio.sleep(0)
        transport.resume_reading()
        got = numbers(await stream.rest())
        assert 1013 == stream.socket.close_code
    assert list(range(3001, 3001 + len(got))) == got


@on_both_loops()
async def test_nothing_is_left_on_both_loops() -> None:
    """Sockets closed, lost, dropped, stuck with a full buffer; then the relay stops (what is left over fails this test)."""
    async with world() as w:
        for end in ("close", "drop", "lost"):
            async with w.connected() as alice:
                await alice.take(1)
                if end == "drop":
                    w.relay.drop()
                elif end == "lost":
                    transport: Any = alice.socket._conn.protocol.transport  # type: ignore[union-attr]  # there is no public way to just go
                    transport.abort()
        await eventually(lambda: 3 == len(w.relay.ledger.of(Closed)))
        assert {"closed", "dropped", "lost"} == {fact.how for fact in w.relay.ledger.of(Closed)}
        reader, writer = await w.dial_raw()
        await reader.readuntil(b"agent_seq")
        for _ in range(40):
            w.relay.push("alice", "test", padding="x" * 1_000_000)
        await w.relay.stop()
        writer.transport.abort()

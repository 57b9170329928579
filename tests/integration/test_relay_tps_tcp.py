"""The embedded branch over TCP: the same handshake and frames behind lengths, ends without a code (wire: tps §4.2)."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from syncwatch.protocols.tps.frames import Heartbeat, packed, unpack
from syncwatch.protocols.tps.noise import Initiator, Transport
from syncwatch.relay import Relay
from syncwatch.relay.ledger import Closed, Refused
from tests.integration.relay_parts import PATIENCE_S, eventually
from tests.protocol.tps import vectors as v

TS = "2026-03-17T13:39:00.000Z"


class Host:
    """A host's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.handshake = Initiator(v.static(v.HOST_SEED), v.BRANCH_KEY, os.urandom(32))
        self.sealing: Transport | None = None

    def send(self, message: bytes) -> None:
        """One message behind its length."""
        self.writer.write(struct.pack(">H", len(message)) + message)

    async def take(self) -> bytes:
        """The next message."""
        async with asyncio.timeout(PATIENCE_S):
            (size,) = struct.unpack(">H", await self.reader.readexactly(2))
            return await self.reader.readexactly(size)

    async def greet(self) -> Transport:
        """The handshake."""
        self.send(self.handshake.write(b"b1"))
        _, sealing = self.handshake.read(await self.take())
        return sealing

    async def ended(self) -> bool:
        """Whether the branch has gone, without a word."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return b"" == await self.reader.read()
            except ConnectionError:
                return True


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Host]:
    """A connection on which nothing was said yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Host(reader, writer)
    finally:
        writer.close()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A branch that knows the document's host."""
    async with Relay.start(branch_seed=v.BRANCH_SEED) as made:
        made.branch.pin(v.HOST_KEY)
        yield made


async def test_heartbeats_over_tcp(relay: Relay) -> None:
    """Also byte by byte, and several in one piece."""
    async with connected(await relay.open_branch_tcp()) as host:
        sealing = await host.greet()
        for byte in struct.pack(">H", 74) + sealing.encrypt(packed(Heartbeat(), 0, TS)):
            host.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert 0 == unpack(sealing.decrypt(await host.take())).seq
        for seq in (1, 2, 3):
            host.send(sealing.encrypt(packed(Heartbeat(), seq, TS)))
        assert [1, 2, 3] == [unpack(sealing.decrypt(await host.take())).seq for _ in range(3)]
        with relay.faults.freezing(protocol="tps"):
            host.send(sealing.encrypt(packed(Heartbeat(), 4, TS)))
            await asyncio.sleep(0.05)
        assert 4 == unpack(sealing.decrypt(await host.take())).seq


async def test_what_comes_with_the_handshake_is_dropped(relay: Relay) -> None:
    """As the real branch does: nobody may speak before the answer."""
    async with connected(await relay.open_branch_tcp()) as host:
        first = host.handshake.write(b"b1")
        host.writer.write(struct.pack(">H", len(first)) + first + b"\x00\x01x")
        _, sealing = host.handshake.read(await host.take())
        host.send(sealing.encrypt(packed(Heartbeat(), 1, TS)))
        assert 1 == unpack(sealing.decrypt(await host.take())).seq


async def test_ends_over_tcp(relay: Relay) -> None:
    """Another host, a message too large for a handshake, garbage after it: closed without a code, with the reason in the facts."""
    port = await relay.open_branch_tcp()
    relay.branch.pin(b"x" * 32)
    async with connected(port) as host:
        host.send(host.handshake.write(b"b1"))
        assert await host.ended()
    relay.branch.pin(v.HOST_KEY)
    async with connected(port) as host:
        host.writer.write(struct.pack(">H", 513))
        assert await host.ended()
    async with connected(port) as host:
        await host.greet()
        host.send(b"garbage that nobody sealed")
        assert await host.ended()
    async with connected(port) as host:
        await host.greet()
        relay.reset("b1")
        assert await host.ended()
    await eventually(lambda: not relay.connections)
    assert [1008, 1011, 1008, None] == [fact.code for fact in relay.ledger.of(Closed)]


async def test_refusing_over_tcp(relay: Relay) -> None:
    """Cut off at once, or never answered; and gone while the relay is down."""
    port = await relay.open_branch_tcp()
    with relay.faults.refusing(protocol="tps"):
        async with connected(port) as host:
            assert await host.ended()
    assert [0] == [fact.status for fact in relay.ledger.of(Refused)]
    with relay.faults.accepting_only(protocol="tps"):
        async with connected(port) as host:
            host.send(host.handshake.write(b"b1"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(host.reader.read(1), 0.1)
    relay.restart(down_s=0.1)
    with pytest.raises(OSError):
        async with connected(port):
            pass
    await relay.up()

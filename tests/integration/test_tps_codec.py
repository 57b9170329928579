"""The host's codec against the embedded branch over real sockets: what the one counts is what the other's facts say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest

from syncwatch.core.wire import Deposit, Invalid, Pong, Ready, Reply, Said
from syncwatch.protocols.tps.codec import Tps, TpsWire
from syncwatch.protocols.tps.frames import JoinComplete, packed
from syncwatch.protocols.tps.keys import Identity, fingerprint, key_text, token_from_text
from syncwatch.relay import Relay
from syncwatch.relay import ledger as facts
from syncwatch.relay.logfacts import Delivered, Published
from tests.integration.relay_parts import PATIENCE_S, eventually

HOST = Identity(b"\x01" * 32)


class Connection:
    """One attempt: a wire and the socket that it is for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, wire: TpsWire) -> None:
        self.socket = socket
        self.wire = wire

    async def say(self, words: tuple[Said | Deposit, ...]) -> None:
        """Send what is to be sent."""
        for word in words:
            if isinstance(word, Reply):
                assert isinstance(word.data, bytes)
                await self.socket.send_bytes(word.data)

    async def hear(self) -> tuple[Said | Deposit, ...]:
        """The words of the next message; none at the end of the connection."""
        message = await asyncio.wait_for(self.socket.receive(), PATIENCE_S)
        if message.type is not aiohttp.WSMsgType.BINARY:
            return ()
        words = tuple(self.wire.feed(message.data, binary=True))
        await self.say(words)
        return words


@asynccontextmanager
async def dialled(relay: Relay) -> AsyncIterator[Connection]:
    """A socket and its first words."""
    protocol = Tps(relay.branch_url, HOST, relay.branch.key, relay.branch.name)
    async with aiohttp.ClientSession() as session, session.ws_connect(protocol.dial().url) as socket:
        connection = Connection(socket, protocol.wire(int.from_bytes(os.urandom(32), "big")))
        await connection.say(tuple(connection.wire.opened()))
        yield connection


@asynccontextmanager
async def connected(relay: Relay) -> AsyncIterator[Connection]:
    """The same, ready."""
    async with dialled(relay) as connection:
        assert (Ready(),) == await connection.hear()
        yield connection


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A branch that knows our host."""
    async with Relay.start() as made:
        made.branch.pin(HOST.encryption_key)
        yield made


async def test_heartbeats_mail_and_requests(relay: Relay) -> None:
    """Each echo has its number, each mail is to be kept whole, a request is answered."""
    relay.branch.mail("grüße")
    async with connected(relay) as connection:
        for token in (1, 70, 2**33):
            await connection.socket.send_bytes(connection.wire.ping(token))
        pongs: list[int | None] = []
        kept: list[Deposit] = []
        while len(pongs) < 3 or not kept:
            (word,) = await connection.hear()
            pongs += [word.token] if isinstance(word, Pong) else []
            kept += [word] if isinstance(word, Deposit) else []
        assert [1, 70, 2**33] == pongs
        assert len(pongs) == len(relay.ledger.of(facts.Pong))
        assert [fact.id for fact in relay.ledger.of(Published)] == [one.event.key for one in kept]
        assert [fact.id for fact in relay.ledger.of(Delivered)] == [one.event.key for one in kept]
        assert ["grüße"] == [msgspec.json.decode(one.content)["content"] for one in kept]
        ident = relay.branch.ask("/health")
        await connection.hear()
        await eventually(lambda: [(ident, 404)] == [(told["reqId"], told["status"]) for told in relay.branch.responses])


async def test_joining_and_then_connecting() -> None:
    """A token is all that is needed; the branch pins the key that its fingerprint says."""
    async with Relay.start() as relay:
        token = token_from_text(relay.branch.token("127.0.0.1", relay.port))
        assert (relay.branch.key, relay.branch_url) == (token.encryption_key, token.url)
        async with connected(relay) as connection:
            join = JoinComplete(key_text(HOST.encryption_key), fingerprint(HOST.encryption_key), "host")
            assert connection.wire._transport is not None
            await connection.socket.send_bytes(connection.wire._transport.encrypt(packed(join, 0, "now")))
            await eventually(lambda: HOST.encryption_key == relay.branch.pinned)
        async with connected(relay):
            pass


async def test_a_branch_that_knows_another_host(relay: Relay) -> None:
    """No word but the end, 1008."""
    relay.branch.pin(b"x" * 32)
    async with dialled(relay) as connection:
        assert () == await connection.hear()
        assert 1008 == connection.socket.close_code


async def test_a_frozen_branch(relay: Relay) -> None:
    """Its burst is heard in order, every echo with its own number."""
    async with connected(relay) as connection:
        with relay.faults.freezing(protocol="tps"):
            for token in range(5):
                await connection.socket.send_bytes(connection.wire.ping(token))
            await asyncio.sleep(0.05)
        heard = [word for _ in range(5) for word in await connection.hear()]
        assert list(range(5)) == [word.token for word in heard if isinstance(word, Pong)]


async def test_echoes_that_are_late_or_of_another_number(relay: Relay) -> None:
    """The number tells which is which, whatever the order."""
    async with connected(relay) as connection:
        with relay.faults.delaying_pong(0.05, times=1):
            for token in (1, 2):
                await connection.socket.send_bytes(connection.wire.ping(token))
            heard = [word for _ in range(2) for word in await connection.hear()]
        with relay.faults.echoing_wrongly(10):
            await connection.socket.send_bytes(connection.wire.ping(3))
            heard += await connection.hear()
        assert [2, 1, 13] == [word.token for word in heard if isinstance(word, Pong)]


async def test_what_cannot_be_believed(relay: Relay) -> None:
    """A skipped nonce, a raw frame: fatal, and the next attempt is as good as new."""
    for trouble in ("nonce", "raw"):
        async with connected(relay) as connection:
            if trouble == "raw":
                relay.inject("b1", b"\x00" * 40, opcode=2)
            else:
                with relay.faults.skipping_nonce():
                    await connection.socket.send_bytes(connection.wire.ping(1))
                    await eventually(lambda: relay.ledger.of(facts.Pong))
            (word,) = await connection.hear()
            assert isinstance(word, Invalid)
            assert word.fatal


async def test_a_second_host_with_our_key(relay: Relay) -> None:
    """The one that is cut hears 1000: what names a duplicate client."""
    async with connected(relay) as older, connected(relay) as newer:
        await older.socket.send_bytes(older.wire.ping(1))
        assert () == await newer.hear()
        assert 1000 == newer.socket.close_code
        await eventually(lambda: ["done"] == [fact.reason for fact in relay.ledger.of(facts.Closed)])

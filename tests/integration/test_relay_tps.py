"""The embedded branch over real sockets: the handshake, echoes, mail, requests, which host is let in, and its faults (wire: tps §3 to §8, §12)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from syncwatch.protocols.tps.keys import key_text, token_from_text
from syncwatch.protocols.tps.noise import Initiator, NoiseError, Transport
from syncwatch.protocols.tps.records import decode, encode
from syncwatch.relay import Relay
from syncwatch.relay.ledger import Closed, Opened, Pong, Received, Refused
from syncwatch.relay.logfacts import Delivered, Greeted, Published
from syncwatch.relay.tps.identity import IdentityDirectory
from tests.integration.relay_parts import PATIENCE_S, eventually
from tests.protocol.tps import vectors as v

MAIL, MAIL_ACK, JOIN, BEAT, REQUEST, RESPONSE = 0x01, 0x02, 0x0F, 0x10, 0x20, 0x21
ID = "00000000-0000-0000-0000-000000000007"
TS = "2026-03-17T13:39:00.000Z"


class Host:
    """A host's socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, sealing: Transport) -> None:
        self.socket = socket
        self.sealing = sealing

    async def send(self, kind: int, seq: int, body: Any) -> None:
        """One frame."""
        await self.raw(encode({"type": kind, "seq": seq, "ts": TS, "body": body}), kind)

    async def raw(self, payload: bytes, kind: int = BEAT) -> None:
        """One frame with any payload."""
        await self.socket.send_bytes(self.sealing.encrypt(struct.pack(">HI", kind, len(payload)) + payload))

    async def take(self) -> tuple[int, int, Any]:
        """The next frame: type, number, body."""
        message = await asyncio.wait_for(self.socket.receive(), PATIENCE_S)
        assert aiohttp.WSMsgType.BINARY is message.type, message
        plain = self.sealing.decrypt(message.data)
        told = decode(plain[6:])
        assert isinstance(told, dict)
        assert struct.unpack(">HI", plain[:6]) == (told["type"], len(plain) - 6)
        return told["type"], told["seq"], told["body"]

    async def end(self) -> tuple[int | None, str]:
        """How the branch ends the connection."""
        return await ended(self.socket)

    async def quiet(self, for_s: float = 0.1) -> bool:
        """Whether nothing comes for a while."""
        try:
            await asyncio.wait_for(self.socket.receive(), for_s)
        except TimeoutError:
            return True
        return False


async def ended(socket: aiohttp.ClientWebSocketResponse) -> tuple[int | None, str]:
    """The close code and reason of the next message, which must be the end."""
    message = await asyncio.wait_for(socket.receive(), PATIENCE_S)
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR), message
    return (message.data, message.extra or "") if message.type is aiohttp.WSMsgType.CLOSE else (socket.close_code, "")


class World:
    """A relay whose branch knows the document's host."""

    def __init__(self, relay: Relay, session: aiohttp.ClientSession) -> None:
        self.relay = relay
        self.session = session

    @asynccontextmanager
    async def dialled(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A socket on which nothing was said yet."""
        async with self.session.ws_connect(self.relay.branch_url, max_msg_size=0) as socket:
            yield socket

    @asynccontextmanager
    async def connected(self, seed: bytes = v.HOST_SEED) -> AsyncIterator[Host]:
        """A socket with its handshake complete."""
        async with self.dialled() as socket:
            handshake = Initiator(v.static(seed), v.BRANCH_KEY, os.urandom(32))
            await socket.send_bytes(handshake.write(b"b1"))
            answer = await asyncio.wait_for(socket.receive_bytes(), PATIENCE_S)
            payload, sealing = handshake.read(answer)
            assert b"" == payload
            yield Host(socket, sealing)


@pytest.fixture
async def w() -> AsyncIterator[World]:
    """A relay, pinned."""
    async with Relay.start(branch_seed=v.BRANCH_SEED) as relay, aiohttp.ClientSession() as session:
        relay.branch.pin(v.HOST_KEY)
        yield World(relay, session)


async def test_heartbeats_are_echoed_with_their_numbers(w: World) -> None:
    """Any number; the facts say who came, what was heard and what was answered."""
    async with w.connected() as host:
        for seq in (0, 1, 64, 2**40):
            await host.send(BEAT, seq, {})
            assert (BEAT, seq, {}) == await host.take()
    await eventually(lambda: w.relay.ledger.of(Closed))
    (greeted,) = w.relay.ledger.of(Greeted)
    assert ("b1", v.HOST_KEY.hex(), True) == (greeted.name, greeted.key, greeted.accepted)
    assert ["b1"] == [fact.agent for fact in w.relay.ledger.of(Opened)]
    assert ["heartbeat"] * 4 == [fact.kind for fact in w.relay.ledger.of(Received)]
    assert 4 == len(w.relay.ledger.of(Pong))


async def test_mail_waits_for_a_heartbeat(w: World) -> None:
    """First the echo, then the outbox with the next number; on an active channel it is pushed at once, with 0."""
    first = w.relay.branch.mail("hello")
    async with w.connected() as host:
        assert await host.quiet()  # a branch never speaks first
    async with w.connected() as host:
        await host.send(BEAT, 7, {})
        assert (BEAT, 7, {}) == await host.take()
        kind, seq, body = await host.take()
        assert (MAIL, 8, first, "hello") == (kind, seq, body["id"], body["content"])
        second = w.relay.branch.mail("more", to="alice", sender="bob")
        kind, seq, body = await host.take()
        assert (MAIL, 0, second, "bob", "alice") == (kind, seq, body["id"], body["from"], body["to"])
    assert [first, second] == [fact.id for fact in w.relay.ledger.of(Published)]
    assert [first, second] == [fact.id for fact in w.relay.ledger.of(Delivered)]


async def test_mail_of_the_host_is_acknowledged(w: World) -> None:
    """With the mail's number; mail that is none is passed over in silence, and so is an unknown type."""
    body = {"id": ID, "from": "alice", "to": "b1", "content": "x" * 60_000, "timestamp": TS}
    async with w.connected() as host:
        await host.send(MAIL, 5, body)
        assert (MAIL_ACK, 5, {"id": ID, "accepted": True}) == await host.take()
        await host.send(MAIL, 6, body | {"from": "not allowed"})
        await host.send(0x7777, 6, None)
        await host.send(BEAT, 7, {})
        assert (BEAT, 7, {}) == await host.take()
    assert [body] == w.relay.branch.inbox


async def test_requests(w: World) -> None:
    """The branch asks over the active channel, and keeps what it is told."""
    assert w.relay.branch.ask("/health") is None
    async with w.connected() as host:
        ident = w.relay.branch.ask("/health")
        kind, _, body = await host.take()
        assert (REQUEST, ident, "flair", "/health") == (kind, body["reqId"], body["service"], body["path"])
        answer: dict[str, Any] = {"reqId": ident, "status": 200, "headers": {}}
        await host.send(RESPONSE, 0, answer)
        await eventually(lambda: [answer] == w.relay.branch.responses)


async def test_mail_and_requests_by_a_script(w: World) -> None:
    """Over HTTP too, and refused where no mail could be sent."""
    async with w.connected() as host:
        for step, kind in (({"fault": "mail", "content": "hi"}, MAIL), ({"fault": "ask", "path": "/x"}, REQUEST)):
            async with w.session.post(f"{w.relay.url}/_relay/faults", json=step) as response:
                assert response.status < 300
            assert kind == (await host.take())[0]
        async with w.session.post(f"{w.relay.url}/_relay/faults", json={"fault": "mail", "to": "a b"}) as response:
            assert 400 == response.status
    assert ["host"] == [fact.path for fact in w.relay.ledger.of(Published)]


async def test_another_host_is_closed_before_the_answer(w: World) -> None:
    """1008 for a key that is not pinned; 1011 for a message that cannot be read."""
    for message, end in (
        (Initiator(v.static(b"x" * 32), v.BRANCH_KEY, os.urandom(32)).write(b"b1"), (1008, "rejected")),
        (b"no handshake", (1011, "handshake failed")),
        (Initiator(v.static(v.HOST_SEED), v.HOST_KEY, os.urandom(32)).write(b"b1"), (1011, "handshake failed")),
    ):
        async with w.dialled() as socket:
            await socket.send_bytes(message)
            assert end == await ended(socket)
    assert [False] * 3 == [fact.accepted for fact in w.relay.ledger.of(Greeted)]


async def test_a_silent_host_is_closed(w: World) -> None:
    """1011, after the branch's patience."""
    w.relay.branch.handshake_s = 0.05
    async with w.dialled() as socket:
        assert (1011, "handshake failed") == await ended(socket)


async def test_frames_that_end_the_connection(w: World) -> None:
    """Plain maps, truncated records, text, tampering, a skipped nonce, too large: 1008."""

    async def skipped(host: Host) -> None:
        host.sealing.sending.nonce += 1
        await host.send(BEAT, 0, {})

    cases: dict[str, Callable[[Host], Any]] = {
        "plain map": lambda host: host.raw(b"\x83\xa3seq\x00\xa2ts\xa1T\xa4body\xc0"),
        "truncated": lambda host: host.raw(v.HEARTBEAT[6:-1]),
        "text": lambda host: host.socket.send_str("{}"),
        "clear": lambda host: host.socket.send_bytes(v.HEARTBEAT),
        "too large": lambda host: host.socket.send_bytes(bytes(70_000)),
        "skipped": skipped,
    }
    for name, send in cases.items():
        async with w.connected() as host:
            await send(host)
            assert (1008, "rejected") == await host.end(), name


async def test_two_hosts_with_one_key_cut_each_other(w: World) -> None:
    """The newer is active; a heartbeat of the older closes it with 1000."""
    async with w.connected() as older, w.connected() as newer:
        await newer.send(BEAT, 1, {})
        assert (BEAT, 1, {}) == await newer.take()
        await older.send(BEAT, 2, {})
        assert (1000, "done") == await newer.end()
        assert (BEAT, 2, {}) == await older.take()


async def test_joining() -> None:
    """The token leads there; the first host that joins is pinned, and from then on it alone is let in."""
    async with Relay.start(branch_seed=v.BRANCH_SEED) as relay, aiohttp.ClientSession() as session:
        w = World(relay, session)
        token = token_from_text(relay.branch.token("127.0.0.1", relay.port))
        assert (v.BRANCH_KEY, relay.branch_url) == (token.encryption_key, token.url)
        key = base64.urlsafe_b64encode(v.HOST_KEY).rstrip(b"=").decode()
        for fingerprint in ("0" * 64, hashlib.sha256(v.HOST_KEY).hexdigest()):
            assert relay.branch.pinned is None
            async with w.connected() as host:
                await host.send(JOIN, 0, {"hostPubkey": key, "hostFingerprint": fingerprint, "hostId": "host"})
                await host.send(BEAT, 1, {})
                assert (BEAT, 1, {}) == await host.take()
        assert v.HOST_KEY == relay.branch.pinned
        async with w.dialled() as socket:
            await socket.send_bytes(Initiator(v.static(b"x" * 32), v.BRANCH_KEY, os.urandom(32)).write(b"b1"))
            assert (1008, "rejected") == await ended(socket)


async def test_an_old_branch_does_not_echo(w: World) -> None:
    """It still sends its mail."""
    w.relay.branch.mail("hello")
    async with w.connected() as host:
        with w.relay.faults.withholding_pong(protocol="tps"):
            await host.send(BEAT, 1, {})
            assert MAIL == (await host.take())[0]
        await host.send(BEAT, 2, {})
        assert (BEAT, 2, {}) == await host.take()


async def test_a_frozen_branch_answers_in_a_burst(w: World) -> None:
    """In order, all of it, and sealed with the nonces of that order."""
    async with w.connected() as host:
        with w.relay.faults.freezing(protocol="tps"):
            for seq in range(3):
                await host.send(BEAT, seq, {})
            assert await host.quiet()
        assert [(BEAT, seq, {}) for seq in range(3)] == [await host.take() for _ in range(3)]


async def test_echoes_that_are_late_or_wrong(w: World) -> None:
    """A late echo is overtaken by what is sent meanwhile, with nonces that still fit; a wrong one has another number."""
    async with w.connected() as host:
        with w.relay.faults.delaying_pong(0.05, times=1):
            await host.send(BEAT, 1, {})
            await host.send(BEAT, 2, {})
            assert [2, 1] == [(await host.take())[1] for _ in range(2)]
        with w.relay.faults.echoing_wrongly(3):
            await host.send(BEAT, 5, {})
            assert (BEAT, 8, {}) == await host.take()


async def test_a_skipped_nonce(w: World) -> None:
    """The host's next message cannot be opened with the number that is due."""
    async with w.connected() as host:
        with w.relay.faults.skipping_nonce():
            await host.send(BEAT, 1, {})
            message = await asyncio.wait_for(host.socket.receive(), PATIENCE_S)
            host.sealing.receiving.nonce += 1
            assert host.sealing.decrypt(message.data)


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        (lambda faults: faults.knowing_another_host(), (1008, "rejected")),
        (lambda faults: faults.closing(1008, "rejected", frames=1, protocol="tps"), None),
        (lambda faults: faults.refusing(503, protocol="tps"), 503),
    ],
)
async def test_refusals(w: World, fault: Callable[[Any], AbstractContextManager[Any]], end: Any) -> None:
    """Another host pinned, a close after a frame, an upgrade refused."""
    with fault(w.relay.faults):
        if isinstance(end, int):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                await w.session.ws_connect(w.relay.branch_url)
            assert [end] == [fact.status for fact in w.relay.ledger.of(Refused)]
        elif end is None:
            async with w.connected() as host:
                await host.send(BEAT, 1, {})
                assert (BEAT, 1, {}) == await host.take()
                assert (1008, "rejected") == await host.end()
        else:
            async with w.dialled() as socket:
                await socket.send_bytes(Initiator(v.static(v.HOST_SEED), v.BRANCH_KEY, os.urandom(32)).write(b"b1"))
                assert end == await ended(socket)


async def test_ends_without_a_word(w: World) -> None:
    """RST, and an end of the stream; the branch goes on for the next one."""
    for end, how in ((w.relay.reset, "reset"), (w.relay.drop, "dropped")):
        async with w.connected() as host:
            end("b1")
            assert 1006 == (await host.end())[0]
        await eventually(lambda: not w.relay.connections)
        assert how == w.relay.ledger.of(Closed)[-1].how


async def test_other_requests(w: World) -> None:
    """The path without an upgrade is not found."""
    async with w.session.get(f"{w.relay.url}/tps/wire") as response:
        assert 404 == response.status


async def test_a_mail_that_nobody_can_open(w: World) -> None:
    """As the real branch does: what does not fit into a Noise message is sent all the same, the other side looks no further than its size, and it is lost."""
    async with w.connected() as host:
        await host.send(BEAT, 0, {})
        await host.take()
        sent = w.relay.branch.mail("x" * 70_000)
        message = await asyncio.wait_for(host.socket.receive(), PATIENCE_S)
        assert len(message.data) > 70_000
        with pytest.raises(NoiseError, match=r"a message of 7\d\d\d\d bytes"):
            host.sealing.decrypt(message.data)
    assert [sent] == [fact.id for fact in w.relay.ledger.of(Delivered)]
    assert not w.relay.branch.outbox
    with pytest.raises(ValueError, match="mail of more than 1048576 bytes"):
        w.relay.branch.mail("x" * (2**20 + 1))


async def test_an_identity_that_is_kept(tmp_path: Path) -> None:
    """The same keys after a restart, and the host that has joined; a directory with something else is refused by a sentence."""
    keys, pins = set(), []
    for _ in range(2):
        async with Relay.start(branch_identity=IdentityDirectory(tmp_path / "branch")) as relay, aiohttp.ClientSession() as session:
            pins.append(relay.branch.pinned)
            keys.add(relay.branch.key)
            async with session.ws_connect(relay.branch_url) as socket:
                handshake = Initiator(v.static(v.HOST_SEED), relay.branch.key, os.urandom(32))
                await socket.send_bytes(handshake.write(b"b1"))
                _, sealing = handshake.read(await asyncio.wait_for(socket.receive_bytes(), PATIENCE_S))
                body = {"hostPubkey": key_text(v.HOST_KEY), "hostFingerprint": hashlib.sha256(v.HOST_KEY).hexdigest(), "hostId": "me"}
                await Host(socket, sealing).send(JOIN, 0, body)
                await eventually(lambda relay=relay: v.HOST_KEY == relay.branch.pinned)  # type: ignore[misc]
    assert 1 == len(keys)
    assert [None, v.HOST_KEY] == pins
    assert 0o600 == (tmp_path / "branch" / "branch.seed").stat().st_mode & 0o777
    told = json.loads((tmp_path / "branch" / "host.json").read_text())
    assert {"hostId": "me", "publicKey": key_text(v.HOST_KEY), "fingerprint": body["hostFingerprint"]} == {key: told[key] for key in ("hostId", "publicKey", "fingerprint")}
    (tmp_path / "branch" / "host.json").write_text("[]")
    with pytest.raises(ValueError, match=r"host\.json names no publicKey"):
        IdentityDirectory(tmp_path / "branch")
    (tmp_path / "branch" / "branch.seed").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"branch\.seed is no seed of 32 bytes"):
        IdentityDirectory(tmp_path / "branch")

"""The host's codec against a branch made of the parts: handshake, heartbeats, mail, requests, and everything that ends an attempt."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.wire import Control, Deposit, Event, Invalid, Numbering, Pong, Ready, Reply, Request, Settle
from syncwatch.protocols.tps.codec import NO_TIME, Tps, TpsWire
from syncwatch.protocols.tps.frames import (
    Body,
    Frame,
    Heartbeat,
    HttpRequest,
    HttpResponse,
    JoinComplete,
    MailAck,
    MailDeliver,
    Type,
    body_of,
    pack,
    packed,
    unpack,
)
from syncwatch.protocols.tps.keys import Identity, fingerprint, key_text
from syncwatch.protocols.tps.noise import Responder, Transport
from tests.protocol.tps import vectors as v

ENTROPY = int.from_bytes(v.HOST_EPHEMERAL, "big")
TS = "2026-03-17T13:39:00.000Z"
TS_S = 1773754740.0
ID = "0A1b0000-0000-0000-0000-000000000007"
MAIL = MailDeliver(ID, "alice", "host", "grüße", TS)


def protocol(branch_key: bytes = v.BRANCH_KEY) -> Tps:
    """The document's host, and its branch."""
    return Tps("ws://127.0.0.1:6458/tps/wire", Identity(v.HOST_SEED), branch_key, "b1")


def connected() -> tuple[TpsWire, Transport]:
    """A wire that is ready, and the branch's end."""
    wire = protocol().wire(ENTROPY)
    branch = Responder(v.static(v.BRANCH_SEED), v.BRANCH_EPHEMERAL)
    (first,) = wire.opened()
    assert isinstance(first, Reply)
    assert isinstance(first.data, bytes)
    assert (b"b1", v.HOST_KEY) == branch.read(first.data)
    second, there = branch.write()
    assert (Ready(),) == wire.feed(second, binary=True)
    return wire, there


def told(body: Body, seq: int = 0) -> bytes:
    """A frame by the branch."""
    return packed(body, seq, TS)


def test_what_it_is() -> None:
    """Unnumbered, nothing to settle, no feed, no resuming."""
    traits = protocol().traits
    assert (Numbering.NONE, Settle.NONE, False, False) == (traits.numbering, traits.settle, traits.feed, traits.resumes)
    assert Request("ws://127.0.0.1:6458/tps/wire") == protocol().dial()
    assert Request("wss://b.example/tps/wire") == Tps("https://b.example/tps/wire", Identity(v.HOST_SEED), v.BRANCH_KEY, "b1").dial(7)
    with pytest.raises(ValueError):
        protocol(b"short")


def test_the_documents_handshake_and_heartbeat() -> None:
    """Byte for byte, from the first word to the first echo."""
    wire = protocol().wire(ENTROPY)
    assert (Reply(v.FIRST, kind=None),) == wire.opened()
    assert (Ready(),) == wire.feed(v.SECOND, binary=True)
    assert (Pong(0, TS_S),) == wire.feed(v.HEARTBEAT_BY_BRANCH, binary=True)


@pytest.mark.parametrize("token", [0, 1, 63, 64, 127, 128, 2**32, 2**53 - 1])
def test_an_echo_has_the_number_of_its_heartbeat(token: int) -> None:
    """Exactly, at every border of the format."""
    wire, there = connected()
    frame = unpack(there.decrypt(wire.ping(token)))
    assert Frame(0x10, token, NO_TIME, {}) == frame
    assert (Pong(token, TS_S),) == wire.feed(there.encrypt(told(Heartbeat(), frame.seq)), binary=True)


def test_an_echo_whose_time_is_none() -> None:
    """It is an echo all the same."""
    wire, there = connected()
    assert (Pong(3, None),) == wire.feed(there.encrypt(packed(Heartbeat(), 3, "soon")), binary=True)


def test_mail_is_to_be_kept_before_it_counts() -> None:
    """Under a name that is safe in any directory, with all that it says; the same mail in other letters is the same."""
    wire, there = connected()
    (word,) = wire.feed(there.encrypt(told(MAIL)), binary=True)
    assert isinstance(word, Deposit)
    assert (Event(ID.lower(), True, time_s=TS_S), f"{ID.lower()}.json") == (word.event, word.name)
    kept = {"id": ID, "from": "alice", "to": "host", "content": "grüße", "timestamp": TS}
    assert kept == msgspec.json.decode(word.content)


def test_mail_that_is_none_ends_nothing() -> None:
    """It is malformed; what follows is heard."""
    wire, there = connected()
    (word,) = wire.feed(there.encrypt(pack(Frame(1, 0, TS, {"id": "../../etc"}))), binary=True)
    assert isinstance(word, Invalid)
    assert not word.fatal
    assert (Pong(1, TS_S),) == wire.feed(there.encrypt(told(Heartbeat(), 1)), binary=True)


def test_a_request_is_answered() -> None:
    """We offer no service: 404, to the one who asked."""
    wire, there = connected()
    control, reply = wire.feed(there.encrypt(told(HttpRequest(ID, "GET", "/", {}), 9)), binary=True)
    assert Control() == control
    assert isinstance(reply, Reply)
    assert isinstance(reply.data, bytes)
    answer = unpack(there.decrypt(reply.data))
    assert (0x21, 9) == (answer.type, answer.seq)
    assert (ID, 404) == ((got := body_of(answer, HttpResponse)).id, got.status)


@pytest.mark.parametrize("data", [told(MailAck(ID, True)), pack(Frame(0x7777, 0, TS, None)), pack(Frame(0x21, 0, TS, "?"))])
def test_what_means_nothing_to_a_session(data: bytes) -> None:
    """Acknowledgements of others' mail, unknown types: passed over, as the branch does."""
    wire, there = connected()
    assert (Control(),) == wire.feed(there.encrypt(data), binary=True)


def test_what_ends_an_attempt() -> None:
    """Text, tampering, a replay, a skipped nonce, a plain map, no frame: fatal, and nothing behind it is heard."""

    def skipped(there: Transport) -> bytes:
        there.sending.nonce += 1
        return there.encrypt(told(Heartbeat()))

    plain_map = b"\x00\x10\x00\x00\x00\x10\x83\xa3seq\x00\xa2ts\xa1T\xa4body\xc0"
    cases: dict[str, Callable[[Transport], bytes]] = {
        "tampered": lambda there: there.encrypt(told(Heartbeat()))[:-1] + b"?",
        "skipped": skipped,
        "plain map": lambda there: there.encrypt(plain_map),
        "garbage": lambda there: there.encrypt(b"?"),
        "clear": lambda there: told(Heartbeat()),
        "deep": lambda there: there.encrypt(b"\x00\x10\x00\x00\x75\x30" + b"\x91" * 30_000),
        "oversized": lambda there: bytes(65_536),
    }
    for name, make in cases.items():
        wire, there = connected()
        (word,) = wire.feed(make(there), binary=True)
        assert isinstance(word, Invalid), name
        assert word.fatal, name
        there.sending.nonce = 0
        (word,) = wire.feed(there.encrypt(told(Heartbeat())), binary=True)
        assert isinstance(word, Invalid), name
        assert word.fatal, name
    wire, there = connected()
    again = there.encrypt(told(Heartbeat()))
    wire.feed(again, binary=True)
    assert (True,) == tuple(isinstance(word, Invalid) and word.fatal for word in wire.feed(again, binary=True))
    assert (True,) == tuple(isinstance(word, Invalid) and word.fatal for word in wire.feed(b"{}"))


@given(st.binary(max_size=100), st.booleans())
def test_a_handshake_with_anybody_else(data: bytes, binary: bool) -> None:
    """Fatal, never an exception, never Ready."""
    wire = protocol().wire(ENTROPY)
    wire.opened()
    (word,) = wire.feed(data, binary)
    assert isinstance(word, Invalid)
    assert word.fatal


def test_the_wrong_branch() -> None:
    """It cannot read the first message; what it says instead is not believed."""
    wire = protocol(v.HOST_KEY).wire(ENTROPY)
    wire.opened()
    (word,) = wire.feed(v.SECOND, binary=True)
    assert isinstance(word, Invalid)
    assert word.fatal


def test_each_attempt_has_keys_of_its_own() -> None:
    """Nothing of one is good for another; our own misuse raises."""
    tps = protocol()
    assert tps.wire(1).opened() != tps.wire(2).opened()
    with pytest.raises(RuntimeError):
        tps.wire(1).ping(1)
    with pytest.raises(NotImplementedError):
        tps.wire(1).resync(1, None)


def test_who_does_not_use_it_does_not_load_its_cryptography() -> None:
    """Neither the package by itself nor the library's public names bring it in."""
    asked = "import sys, syncwatch, syncwatch.app, syncwatch.protocols.tps; print('cryptography' in sys.modules)"
    assert "False\n" == subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout


def test_a_branch_key_of_low_order_is_fatal_at_once() -> None:
    """It would give the same secret to everybody: nothing is said to whoever has it, and nothing raises."""
    wire = protocol(bytes(32)).wire(ENTROPY)
    assert (Invalid("a public key of low order", fatal=True),) == tuple(wire.opened())
    (word,) = wire.feed(bytes(48), binary=True)
    assert isinstance(word, Invalid)
    assert word.fatal


def test_joining() -> None:
    """Who we are, as a branch reads it: the key and its fingerprint are those of the identity. Before Ready it is our own mistake."""
    with pytest.raises(RuntimeError):
        protocol().wire(ENTROPY).join("me")
    wire, there = connected()
    frame = unpack(there.decrypt(wire.join("me")))
    assert Type.JOIN_COMPLETE == frame.type
    assert JoinComplete(key_text(v.HOST_KEY), fingerprint(v.HOST_KEY), "me") == body_of(frame, JoinComplete)
    assert v.HOST_FINGERPRINT == fingerprint(v.HOST_KEY)

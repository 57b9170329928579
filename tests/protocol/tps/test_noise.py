"""Noise: the document's vectors, an independent implementation as an oracle, and everything that must be refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.protocols.tps.noise import (
    MAX_MESSAGE,
    MAX_NONCE,
    MAX_PLAINTEXT,
    Cipher,
    Initiator,
    NoiseError,
    Responder,
    Transport,
)
from tests.protocol.tps import vectors as v

KEYS = st.binary(min_size=32, max_size=32)


def public(private: bytes) -> bytes:
    """The public key of a private one."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def sides() -> tuple[Initiator, Responder]:
    """Both sides of the document's example."""
    host = Initiator(v.static(v.HOST_SEED), v.BRANCH_KEY, v.HOST_EPHEMERAL)
    return host, Responder(v.static(v.BRANCH_SEED), v.BRANCH_EPHEMERAL)


def connected() -> tuple[Transport, Transport]:
    """Both ends of a finished handshake: the host's and the branch's."""
    host, branch = sides()
    branch.read(host.write(b"b1"))
    message, there = branch.write()
    return host.read(message)[1], there


def peer(private: bytes, ephemeral: bytes, remote: bytes | None) -> Any:
    """The same side, by the package `noiseprotocol`."""
    from noise.connection import Keypair, NoiseConnection

    made: Any = NoiseConnection.from_name(b"Noise_IK_25519_ChaChaPoly_BLAKE2b")
    made.set_as_responder() if remote is None else made.set_as_initiator()
    made.set_prologue(b"tps-v1")
    made.set_keypair_from_private_bytes(Keypair.STATIC, private)
    made.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
    if remote is not None:
        made.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote)
    with pytest.warns(UserWarning, match="OK for testing"):  # an ephemeral key that is known
        made.start_handshake()
    return made


def test_the_handshake_is_the_documents() -> None:
    """Byte for byte, and the branch learns who called."""
    host, branch = sides()
    first = host.write(b"b1")
    assert v.FIRST == first
    assert (b"b1", v.HOST_KEY) == branch.read(first)
    second, there = branch.write()
    assert v.SECOND == second
    payload, here = host.read(second)
    assert b"" == payload
    assert v.HEARTBEAT_BY_HOST == here.encrypt(v.HEARTBEAT)
    assert v.HEARTBEAT_BY_BRANCH == there.encrypt(v.HEARTBEAT)
    assert v.HEARTBEAT == there.decrypt(v.HEARTBEAT_BY_HOST)
    assert v.HEARTBEAT == here.decrypt(v.HEARTBEAT_BY_BRANCH)


@given(host=KEYS, branch=KEYS, ours=KEYS, theirs=KEYS, payload=st.binary(max_size=64), texts=st.lists(st.binary(max_size=64), max_size=4))
def test_we_dial_an_independent_implementation(
    host: bytes, branch: bytes, ours: bytes, theirs: bytes, payload: bytes, texts: list[bytes]
) -> None:
    """Whatever the keys: it understands us and we it, both ways."""
    here = Initiator(host, public(branch), ours)
    there = peer(branch, theirs, None)
    assert payload == there.read_message(here.write(payload))
    answer, transport = here.read(bytes(there.write_message(payload)))
    assert payload == answer
    for text in texts:
        assert text == there.decrypt(transport.encrypt(text))
        assert text == transport.decrypt(there.encrypt(text))


@given(host=KEYS, branch=KEYS, ours=KEYS, theirs=KEYS, payload=st.binary(max_size=64), texts=st.lists(st.binary(max_size=64), max_size=4))
def test_an_independent_implementation_dials_us(
    host: bytes, branch: bytes, ours: bytes, theirs: bytes, payload: bytes, texts: list[bytes]
) -> None:
    """The same with the sides changed, and we know who it is."""
    here = Responder(branch, theirs)
    there = peer(host, ours, public(branch))
    assert (payload, public(host)) == here.read(bytes(there.write_message(payload)))
    message, transport = here.write(payload)
    assert payload == there.read_message(message)
    for text in texts:
        assert text == there.decrypt(transport.encrypt(text))
        assert text == transport.decrypt(there.encrypt(text))


@given(at=st.integers(0, len(v.FIRST) - 1), bit=st.integers(0, 7))
def test_a_tampered_first_message_is_refused(at: int, bit: int) -> None:
    """Any bit of it (the top one of a public key is no part of the key, but of what is hashed)."""
    _, branch = sides()
    changed = bytearray(v.FIRST)
    changed[at] ^= 1 << bit
    with pytest.raises(NoiseError):
        branch.read(bytes(changed))
    with pytest.raises(RuntimeError):
        branch.write()  # nor is it answered


@given(at=st.integers(0, len(v.SECOND) - 1), bit=st.integers(0, 7))
def test_a_tampered_second_message_is_refused(at: int, bit: int) -> None:
    """Any bit of it."""
    host, _ = sides()
    host.write(b"b1")
    changed = bytearray(v.SECOND)
    changed[at] ^= 1 << bit
    with pytest.raises(NoiseError):
        host.read(bytes(changed))


@given(data=st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    """Nothing but its own error, whatever the bytes; also truncated and longer messages."""
    for message in (data, v.FIRST[: len(data)], v.FIRST + data + b"x"):
        with pytest.raises(NoiseError):
            sides()[1].read(message if message != v.FIRST else b"")
    for message in (data, v.SECOND[: len(data) % len(v.SECOND)], v.SECOND + data + b"x"):
        host, _ = sides()
        host.write()
        with pytest.raises(NoiseError):
            host.read(message)


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_a_key_of_low_order_is_refused(point: bytes) -> None:
    """It would make the secret known to everybody."""
    with pytest.raises(NoiseError, match="low order"):
        sides()[1].read(point + v.FIRST[32:])


def test_the_wrong_branch_cannot_read_it() -> None:
    """The first message is for one key only; and its answer is not believed by somebody else."""
    host, _ = sides()
    with pytest.raises(NoiseError):
        Responder(v.static(b"x" * 32), v.BRANCH_EPHEMERAL).read(host.write())
    with pytest.raises(NoiseError):
        host.read(v.SECOND)  # it answers a first message with a payload


def test_a_message_comes_once_and_in_its_place() -> None:
    """Replayed, skipped, reflected or tampered: refused, and so is everything behind it."""
    here, there = connected()
    first, second, third = (here.encrypt(text) for text in (b"1", b"2", b"3"))
    assert b"1" == there.decrypt(first)
    for wrong in (first, third, third[:-1] + bytes([third[-1] ^ 1])):
        there.receiving._failed = False
        with pytest.raises(NoiseError):
            there.decrypt(wrong)
    with pytest.raises(NoiseError, match="earlier"):
        there.decrypt(second)
    with pytest.raises(NoiseError):
        here.decrypt(here.encrypt(b"reflected"))


@pytest.mark.parametrize("size", [0, 15, MAX_MESSAGE + 1])
def test_sizes_that_no_message_has(size: int) -> None:
    """Shorter than a tag, longer than 65,535."""
    with pytest.raises(NoiseError, match=f"{size} bytes"):
        connected()[0].decrypt(bytes(size))


def test_the_largest_message() -> None:
    """65,519 bytes pass, one more is our own mistake and uses no nonce."""
    here, there = connected()
    with pytest.raises(NoiseError, match="do not fit"):
        here.encrypt(bytes(MAX_PLAINTEXT + 1))
    sealed = here.encrypt(bytes(MAX_PLAINTEXT))
    assert MAX_MESSAGE == len(sealed)
    assert bytes(MAX_PLAINTEXT) == there.decrypt(sealed)


def test_nonces_end() -> None:
    """Before the two sides would count differently."""
    cipher = Cipher(bytes(32))
    cipher.nonce = MAX_NONCE - 1
    cipher.encrypt(b"last")
    with pytest.raises(NoiseError, match="no nonces"):
        cipher.encrypt(b"more")
    with pytest.raises(NoiseError, match="no nonces"):
        cipher.decrypt(bytes(16))


def test_messages_out_of_turn_are_our_own_mistake() -> None:
    """It raises something else than what a peer's bytes can."""
    host, branch = sides()
    with pytest.raises(RuntimeError):
        host.read(v.SECOND)
    with pytest.raises(RuntimeError):
        branch.write()
    host.write()
    with pytest.raises(RuntimeError):
        host.write()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_have_one_size(size: int) -> None:
    """Anything else is refused when it is given."""
    good = b"k" * 32
    for keys in ((bytes(size), good, good), (good, bytes(size), good), (good, good, bytes(size))):
        with pytest.raises(ValueError):
            Initiator(*keys)
    with pytest.raises(ValueError):
        Responder(bytes(size), good)

"""Noise_IK_25519_ChaChaPoly_BLAKE2b with the prologue `tps-v1`: the handshake of either side, and the two ciphers it ends in.

Facts: wire/tps §5.1; Noise revision 34. What belongs here: bytes in, bytes out, exactly as specified. What must not: entropy of its own (the
ephemeral key is an argument), frames, transports. A handshake or a cipher that met bytes it cannot believe is of no further use.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KEY_SIZE = 32
TAG_SIZE = 16
MAX_MESSAGE = 65_535  # every Noise message, handshake or transport
MAX_PLAINTEXT = MAX_MESSAGE - TAG_SIZE
MAX_NONCE = 2**32  # the other side counts in 32 bits; from here on the two would disagree

_NAME = b"Noise_IK_25519_ChaChaPoly_BLAKE2b"
_PROLOGUE = b"tps-v1"
_HASH_SIZE = 64
_SEALED_KEY = KEY_SIZE + TAG_SIZE


class NoiseError(Exception):
    """A message that cannot be believed: tampered, replayed, out of turn, for another key, too short or too long."""


class Cipher:
    """One direction. `nonce` is the number of the next message."""

    __slots__ = ("_aead", "_failed", "nonce")

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._failed = False
        self.nonce = 0

    def encrypt(self, plaintext: bytes, data: bytes = b"") -> bytes:
        """Seal the next message. Raises: NoiseError, and the nonce is not used."""
        if len(plaintext) > MAX_PLAINTEXT:
            raise NoiseError(f"{len(plaintext)} bytes do not fit into a message of {MAX_MESSAGE}")
        sealed = self._aead.encrypt(self._number(), plaintext, data)
        self.nonce += 1
        return sealed

    def decrypt(self, sealed: bytes, data: bytes = b"") -> bytes:
        """Open the next message. Raises: NoiseError, and again for whatever comes behind it: messages have one order."""
        if self._failed:
            raise NoiseError("an earlier message could not be opened")
        if not TAG_SIZE <= len(sealed) <= MAX_MESSAGE:
            self._failed = True
            raise NoiseError(f"a message of {len(sealed)} bytes")
        try:
            plaintext = self._aead.decrypt(self._number(), sealed, data)
        except InvalidTag:
            self._failed = True
            raise NoiseError("a message cannot be opened: tampered, out of order, or sealed with another key") from None
        self.nonce += 1
        return plaintext

    def _number(self) -> bytes:
        if self.nonce >= MAX_NONCE:
            raise NoiseError("no nonces are left")
        return bytes(4) + self.nonce.to_bytes(8, "little")


class Transport:
    """What a finished handshake leaves: a cipher for each direction."""

    __slots__ = ("receiving", "sending")

    def __init__(self, sending: Cipher, receiving: Cipher) -> None:
        self.sending = sending
        self.receiving = receiving

    def encrypt(self, plaintext: bytes) -> bytes:
        """Seal the next message. Raises: NoiseError."""
        return self.sending.encrypt(plaintext)

    def decrypt(self, sealed: bytes) -> bytes:
        """Open the next message. Raises: NoiseError; then this connection is over."""
        return self.receiving.decrypt(sealed)


class Initiator:
    """The side that dials and knows whom: `write`, then `read`, each once."""

    def __init__(self, static: bytes, remote: bytes, ephemeral: bytes) -> None:
        """Private keys of 32 bytes, and the responder's public one; the ephemeral key must never be used again. Raises: ValueError."""
        self._static = _private(static)
        self._ephemeral = _private(ephemeral)
        self._remote = _public(remote)
        self._state = _Symmetric(remote)
        self._turn = 0

    def write(self, payload: bytes = b"") -> bytes:
        """The first message: e, es, s, ss."""
        self._turn = _turn(self._turn, 0)
        state, own = self._state, _bytes(self._ephemeral)
        state.mix_hash(own)
        state.mix_key(_shared(self._ephemeral, self._remote))
        sealed_static = state.seal(_bytes(self._static))
        state.mix_key(_shared(self._static, self._remote))
        return own + sealed_static + state.seal(payload)

    def read(self, message: bytes) -> tuple[bytes, Transport]:
        """The second message, e, ee, se: its payload, and what it opens. Raises: NoiseError."""
        self._turn = _turn(self._turn, 1)
        if not KEY_SIZE + TAG_SIZE <= len(message) <= MAX_MESSAGE:
            raise NoiseError(f"a second handshake message of {len(message)} bytes")
        state, theirs = self._state, message[:KEY_SIZE]
        state.mix_hash(theirs)
        remote = _public(theirs)
        state.mix_key(_shared(self._ephemeral, remote))
        state.mix_key(_shared(self._static, remote))
        payload = state.open(message[KEY_SIZE:])
        first, second = state.split()
        return payload, Transport(sending=first, receiving=second)


class Responder:
    """The side that listens: `read`, then, if the key that it shows is the right one, `write`; each once."""

    def __init__(self, static: bytes, ephemeral: bytes) -> None:
        """Private keys of 32 bytes; the ephemeral key must never be used again. Raises: ValueError."""
        self._static = _private(static)
        self._ephemeral = _private(ephemeral)
        self._state = _Symmetric(_bytes(self._static))
        self._remote: X25519PublicKey | None = None
        self._remote_ephemeral: X25519PublicKey | None = None
        self._turn = 0

    def read(self, message: bytes) -> tuple[bytes, bytes]:
        """The first message: its payload, and the public key of who wrote it, who is proven to hold it. Raises: NoiseError."""
        self._turn = _turn(self._turn, 0)
        if not KEY_SIZE + _SEALED_KEY + TAG_SIZE <= len(message) <= MAX_MESSAGE:
            raise NoiseError(f"a first handshake message of {len(message)} bytes")
        state, theirs = self._state, message[:KEY_SIZE]
        state.mix_hash(theirs)
        ephemeral = _public(theirs)
        state.mix_key(_shared(self._static, ephemeral))
        remote = state.open(message[KEY_SIZE : KEY_SIZE + _SEALED_KEY])
        static = _public(remote)
        state.mix_key(_shared(self._static, static))
        payload = state.open(message[KEY_SIZE + _SEALED_KEY :])
        self._remote, self._remote_ephemeral = static, ephemeral  # only now: nothing answers a message that was not believed
        return payload, remote

    def write(self, payload: bytes = b"") -> tuple[bytes, Transport]:
        """The second message, and what it opens. Raises: RuntimeError before a first message was read."""
        self._turn = _turn(self._turn, 1)
        if self._remote is None or self._remote_ephemeral is None:
            raise RuntimeError("the first message could not be read")
        state, own = self._state, _bytes(self._ephemeral)
        state.mix_hash(own)
        state.mix_key(_shared(self._ephemeral, self._remote_ephemeral))
        state.mix_key(_shared(self._ephemeral, self._remote))
        message = own + state.seal(payload)
        first, second = state.split()
        return message, Transport(sending=second, receiving=first)


class _Symmetric:
    """Noise's SymmetricState (§5.2): the chaining key, the transcript's hash, the cipher of the moment."""

    def __init__(self, responder: bytes) -> None:
        self._chain = self._hash = _NAME.ljust(_HASH_SIZE, b"\0")
        self._cipher: Cipher | None = None
        self.mix_hash(_PROLOGUE)
        self.mix_hash(responder)

    def mix_hash(self, data: bytes) -> None:
        self._hash = blake2b(self._hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._chain, key = self._derive(secret)
        self._cipher = Cipher(key[:KEY_SIZE])

    def seal(self, plaintext: bytes) -> bytes:
        sealed = self._keyed().encrypt(plaintext, self._hash)
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        plaintext = self._keyed().decrypt(sealed, self._hash)
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[Cipher, Cipher]:
        first, second = self._derive(b"")
        return Cipher(first[:KEY_SIZE]), Cipher(second[:KEY_SIZE])

    def _keyed(self) -> Cipher:
        assert self._cipher is not None, "both messages of this pattern mix a key before anything is sealed"
        return self._cipher

    def _derive(self, secret: bytes) -> tuple[bytes, bytes]:
        extracted = hmac.digest(self._chain, secret, blake2b)
        first = hmac.digest(extracted, b"\x01", blake2b)
        return first, hmac.digest(extracted, first + b"\x02", blake2b)


def _turn(turn: int, expected: int) -> int:
    if turn != expected:
        raise RuntimeError("a handshake has two messages, each once and in order")
    return turn + 1


def _private(key: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(key)


def _public(key: bytes) -> X25519PublicKey:
    return X25519PublicKey.from_public_bytes(key)


def _bytes(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _shared(own: X25519PrivateKey, theirs: X25519PublicKey) -> bytes:
    try:
        return own.exchange(theirs)
    except ValueError:
        raise NoiseError("a public key of low order") from None

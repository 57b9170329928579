"""Who is who: the keys that a seed gives, their fingerprints, and the token by which a branch is joined.

Facts: wire/tps §2, §3. What belongs here: pure derivations and texts. What must not: files, and making seeds.
"""

from __future__ import annotations

import base64
import binascii
import re
from hashlib import sha256, sha512
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

SEED_SIZE = KEY_SIZE = 32

_WORD = re.compile(r"[A-Za-z0-9_-]*\Z")
_HOST = re.compile(r"[A-Za-z0-9._:%\[\]-]{1,253}\Z")


class Identity:
    """What one seed makes. Shows nothing secret: `static` is for the handshake alone."""

    __slots__ = ("encryption_key", "signing_key", "static")

    def __init__(self, seed: bytes) -> None:
        """Raises: ValueError for a seed of another size than 32 bytes."""
        if len(seed) != SEED_SIZE:
            raise ValueError(f"a seed has {SEED_SIZE} bytes, this one has {len(seed)}")
        half = bytearray(sha512(seed).digest()[:KEY_SIZE])
        half[0] &= 248
        half[31] = half[31] & 127 | 64
        self.static = bytes(half)
        """The private X25519 key."""
        self.encryption_key = X25519PrivateKey.from_private_bytes(self.static).public_key().public_bytes_raw()
        """The public X25519 key."""
        self.signing_key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        """The public Ed25519 key."""

    def __repr__(self) -> str:
        return f"Identity({key_text(self.encryption_key)})"


def fingerprint(key: bytes) -> str:
    """Hex SHA-256. A branch is known by that of its signing key, a host by that of its encryption key."""
    return sha256(key).hexdigest()


def key_text(key: bytes) -> str:
    """A public key as the wire and the files write it: base64url without padding."""
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()


def key_from_text(text: str) -> bytes:
    """The key of such a text. Raises: ValueError with a sentence."""
    try:
        if not _WORD.match(text):
            raise binascii.Error
        key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("is not base64url without padding") from None
    if len(key) != KEY_SIZE:
        raise ValueError(f"is a key of {len(key)} bytes, not of {KEY_SIZE}")
    return key


class Token(msgspec.Struct, frozen=True):
    """What a branch prints to be joined: where it listens and who it is. Nothing in it is secret."""

    host: str
    port: int
    encryption_key: bytes
    signing_key: bytes
    transport: Literal["ws", "tcp"] = "ws"

    @property
    def fingerprint(self) -> str:
        """The branch's."""
        return fingerprint(self.signing_key)

    @property
    def url(self) -> str:
        """Where to dial: without TLS only on this machine, as TPS does it (§4.1)."""
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        if self.transport == "tcp":
            return f"tcp://{host}:{self.port}"
        return f"{'ws' if self.host in ('localhost', '127.0.0.1', '::1') else 'wss'}://{host}:{self.port}/tps/wire"

    def __str__(self) -> str:
        """The URL, as a branch prints it."""
        keys = f"pubkey={key_text(self.encryption_key)}&sigpubkey={key_text(self.signing_key)}&fp=sha256:{self.fingerprint}"
        return f"tps://join?host={quote(self.host, safe='')}&port={self.port}&transport={self.transport}&{keys}"


def token_from_text(text: str) -> Token:
    """Read a token. Its fingerprint must be that of its key: TPS prints it without comparing. Raises: ValueError with a sentence."""
    try:
        parts = urlsplit(text.strip())
        given = parse_qs(parts.query, strict_parsing=True, max_num_fields=20)
    except ValueError:
        raise ValueError("the token is no URL") from None
    if (parts.scheme, parts.netloc) != ("tps", "join"):
        raise ValueError("the token does not begin with tps://join?")
    twice = [name for name, values in given.items() if len(values) > 1]
    if twice:
        raise ValueError(f"the token says {twice[0]} twice")
    fields = {name: values[0] for name, values in given.items()}
    missing = [name for name in ("host", "port", "pubkey", "sigpubkey", "fp") if name not in fields]
    if missing:
        raise ValueError(f"the token lacks {missing[0]}")
    if not _HOST.match(fields["host"]):
        raise ValueError("the token's host is no host name")
    port, transport = fields["port"], fields.get("transport", "ws")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536):
        raise ValueError("the token's port is no port")
    if transport not in ("ws", "tcp"):
        raise ValueError("the token's transport is neither ws nor tcp")
    keys = {}
    for name in ("pubkey", "sigpubkey"):
        try:
            keys[name] = key_from_text(fields[name])
        except ValueError as problem:
            raise ValueError(f"the token's {name} {problem}") from None
    token = Token(fields["host"], int(port), keys["pubkey"], keys["sigpubkey"], "ws" if transport == "ws" else "tcp")
    if fields["fp"].lower().removeprefix("sha256:") != token.fingerprint:
        raise ValueError("the token's fp is not the fingerprint of its sigpubkey")
    return token

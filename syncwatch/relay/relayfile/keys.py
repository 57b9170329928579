"""The relay's own signing key and the key set it publishes (wire: relayfile §2)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from syncwatch.relay.relayfile.tokens import encoded

KID = "relay-1"
JWKS_PATH = "/.well-known/jwks.json"


@lru_cache(maxsize=1)
def private_key() -> rsa.RSAPrivateKey:
    """Made on first use, the same for every relay of a process: it protects nothing."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_key(kid: str) -> rsa.RSAPublicKey | None:
    """The key of this id."""
    return private_key().public_key() if kid == KID else None


def key_set() -> dict[str, Any]:
    """What the key server answers."""
    numbers = private_key().public_key().public_numbers()

    def number(value: int) -> str:
        return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))

    return {
        "keys": [
            {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KID, "n": number(numbers.n), "e": number(numbers.e)}
        ]
    }

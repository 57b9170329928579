"""JSON Web Tokens as the server reads them: RS256 only, every refusal with its own sentence (wire: relayfile §2).

Pure: keys and the time are arguments. `sign` is for whoever hands out tokens in a test or at the command line.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from syncwatch.relay.relayfile.scopes import Scopes

PREFIXES = ("relay_pa_", "relay_ws_", "relay_id_", "relay_ag_")


class Holder(NamedTuple):
    """Whom a token speaks for; `expires_s` is wall seconds."""

    workspace: str
    subject: str
    scopes: Scopes
    expires_s: float


class Refusal(Exception):  # noqa: N818  it is an answer, not a mistake
    """What the API answers instead of doing it. `more` is added to the body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: str | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.more = more or {}


def unauthorized(message: str) -> Refusal:
    """A 401."""
    return Refusal(401, "unauthorized", message)


def forbidden(message: str) -> Refusal:
    """A 403."""
    return Refusal(403, "forbidden", message)


def read(token: str, key_of: Callable[[str], RSAPublicKey | None], now_s: float) -> Holder:
    """Whom a token speaks for.

    Raises:
        Refusal: 401 with the server's sentence, 403 without any scope.
    """
    for prefix in PREFIXES:
        if token.startswith(prefix):
            token = token.removeprefix(prefix)
            break
    parts = token.split(".")
    if len(parts) != 3:
        raise unauthorized("invalid jwt format")
    header = _object(parts[0], "header")
    if header.get("alg") != "RS256":
        raise unauthorized("unsupported jwt algorithm")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise unauthorized("missing jwt kid")
    signature = _decoded(parts[2], "signature")
    payload = _decoded(parts[1], "payload")
    key = key_of(kid)
    if key is None:
        raise unauthorized("unknown jwt kid")
    try:
        key.verify(signature, f"{parts[0]}.{parts[1]}".encode(), PKCS1v15(), hashes.SHA256())
    except InvalidSignature as problem:
        raise unauthorized("jwt signature mismatch") from problem
    return holder(_parsed(payload, "payload"), now_s)


def holder(claims: dict[str, Any], now_s: float) -> Holder:
    """Whom these claims speak for.

    Raises:
        Refusal: as `read`.
    """
    workspace = claims.get("wks") or claims.get("workspace_id")
    if not isinstance(workspace, str):
        raise unauthorized("missing workspace claim")
    subject = claims.get("sub") or claims.get("agent_name")
    if not isinstance(subject, str):
        raise unauthorized("missing subject claim")
    expires_s = claims.get("exp")
    if isinstance(expires_s, bool) or not isinstance(expires_s, int | float):
        raise unauthorized("invalid exp claim")
    if now_s >= expires_s:
        raise unauthorized("token expired")
    audience = claims.get("aud")
    if "relayfile" not in ([audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []):
        raise unauthorized("invalid aud claim")
    scopes = _scopes(claims.get("scopes"))
    if not scopes:
        raise forbidden("no scopes granted")
    return Holder(workspace, subject, scopes, float(expires_s))


def _scopes(told: Any) -> Scopes:
    if isinstance(told, str):
        return Scopes(told.split())
    return Scopes(one for one in told if isinstance(one, str) and one) if isinstance(told, list) else Scopes(())


def _object(part: str, what: str) -> dict[str, Any]:
    return _parsed(_decoded(part, what), what)


def _parsed(data: bytes, what: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise unauthorized(f"invalid jwt {what}") from problem


def _decoded(part: str, what: str) -> bytes:
    try:
        return base64.b64decode(part.encode() + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as problem:
        raise unauthorized(f"invalid jwt {what}") from problem


def encoded(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(workspace: str, subject: str, scopes: Iterable[str], expires_s: float) -> dict[str, Any]:
    """The claims of an ordinary token."""
    return {"wks": workspace, "sub": subject, "aud": ["relayfile"], "exp": int(expires_s), "scopes": list(scopes)}


def sign(key: RSAPrivateKey, header: dict[str, Any], told: dict[str, Any]) -> str:
    """A token with this header and these claims."""
    text = f"{encoded(msgspec.json.encode(header))}.{encoded(msgspec.json.encode(told))}"
    return f"{text}.{encoded(key.sign(text.encode(), PKCS1v15(), hashes.SHA256()))}"

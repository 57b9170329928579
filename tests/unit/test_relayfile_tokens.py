"""Tokens: every refusal with its sentence (wire: relayfile §2)."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from syncwatch.relay.relayfile import keys, tokens
from syncwatch.relay.relayfile.tokens import Refusal, encoded, read, sign

NOW_S = 1_800_000_000.0
GOOD: dict[str, Any] = tokens.claims("w1", "me", ["fs:read"], NOW_S + 60)
HEADER = {"alg": "RS256", "kid": keys.KID}


def token(header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A signed token; None takes a claim away."""
    told = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return sign(keys.private_key(), HEADER if header is None else header, told)


def refused(text: str) -> tuple[int, str, str]:
    """What a token is answered with."""
    with pytest.raises(Refusal) as caught:
        read(text, keys.public_key, NOW_S)
    return caught.value.status, caught.value.code, caught.value.message


def test_a_good_token_says_whom_it_speaks_for() -> None:
    """With a prefix too; old names of claims; scopes as one string; an audience as a string."""
    other = token(wks=None, workspace_id="w1", sub=None, agent_name="me", scopes="fs:read fs:write", aud="relayfile")
    for text in (token(), "relay_ws_" + token(), other):
        found = read(text, keys.public_key, NOW_S)
        assert ("w1", "me", NOW_S + 60) == (found.workspace, found.subject, found.expires_s)
        assert found.scopes.has("fs:read")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("", "invalid jwt format"),
        ("a.b", "invalid jwt format"),
        ("!.e30.e30", "invalid jwt header"),
        (encoded(b"[]") + ".e30.e30", "invalid jwt header"),
        (encoded(b'{"alg":"HS256"}') + ".e30.e30", "unsupported jwt algorithm"),
        (encoded(b'{"alg":"none"}') + ".e30.", "unsupported jwt algorithm"),
        (encoded(b'{"alg":"RS256"}') + ".e30.e30", "missing jwt kid"),
        (encoded(b'{"alg":"RS256","kid":"relay-1"}') + ".e30.!", "invalid jwt signature"),
        (encoded(b'{"alg":"RS256","kid":"relay-1"}') + ".!.e30", "invalid jwt payload"),
        (encoded(b'{"alg":"RS256","kid":"other"}') + ".e30.e30", "unknown jwt kid"),
        (encoded(b'{"alg":"RS256","kid":"relay-1"}') + ".e30.e30", "jwt signature mismatch"),
    ],
)
def test_what_is_no_token_is_refused(made: str, message: str) -> None:
    """401, in the order in which a token is read."""
    assert (401, "unauthorized", message) == refused(made)


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"wks": None}, 401, "missing workspace claim"),
        ({"wks": 7}, 401, "missing workspace claim"),
        ({"sub": ""}, 401, "missing subject claim"),
        ({"exp": None}, 401, "invalid exp claim"),
        ({"exp": "soon"}, 401, "invalid exp claim"),
        ({"exp": True}, 401, "invalid exp claim"),
        ({"exp": NOW_S}, 401, "token expired"),
        ({"aud": "other"}, 401, "invalid aud claim"),
        ({"aud": None}, 401, "invalid aud claim"),
        ({"scopes": []}, 403, "no scopes granted"),
        ({"scopes": "  "}, 403, "no scopes granted"),
        ({"scopes": 7}, 403, "no scopes granted"),
    ],
)
def test_each_claim_is_looked_at(changes: dict[str, Any], status: int, message: str) -> None:
    """In the server's order and words."""
    assert (status, message) == (refused(token(**changes))[0], refused(token(**changes))[2])


def test_a_changed_token_does_not_fit_its_signature() -> None:
    """Another payload under the same signature."""
    header, _, signature = token().split(".")
    other = token(sub="you").split(".")[1]
    assert "jwt signature mismatch" == refused(f"{header}.{other}.{signature}")[2]


def test_the_key_set_describes_the_key() -> None:
    """Modulus and exponent, base64url without padding."""
    told = keys.key_set()["keys"][0]
    assert ("AQAB", "RS256", keys.KID) == (told["e"], told["alg"], told["kid"])
    assert 342 == len(told["n"])
    assert keys.public_key("other") is None
    numbers = [int.from_bytes(base64.urlsafe_b64decode(told[name] + "==")) for name in ("e", "n")]
    published = RSAPublicNumbers(*numbers).public_key()
    assert "w1" == read(token(), {keys.KID: published}.get, NOW_S).workspace

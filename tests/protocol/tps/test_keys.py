"""Keys, fingerprints and tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.protocols.tps.keys import Identity, Token, fingerprint, key_from_text, key_text, token_from_text
from tests.protocol.tps import vectors as v

BRANCH = Identity(v.BRANCH_SEED)
TOKEN = Token("127.0.0.1", 6458, BRANCH.encryption_key, BRANCH.signing_key)


def test_the_keys_of_the_document() -> None:
    """From seeds to public keys and fingerprints."""
    host = Identity(v.HOST_SEED)
    assert (v.HOST_KEY, v.BRANCH_KEY) == (host.encryption_key, BRANCH.encryption_key)
    assert (v.HOST_FINGERPRINT, v.BRANCH_FINGERPRINT) == (fingerprint(host.encryption_key), fingerprint(BRANCH.signing_key))


@given(st.binary(min_size=32, max_size=32))
def test_a_static_key_is_clamped(seed: bytes) -> None:
    """As the document says, whatever the seed."""
    static = Identity(seed).static
    assert (0, 64) == (static[0] & 7, static[31] & 192)


def test_an_identity_shows_nothing_secret() -> None:
    """Neither the seed nor the private key."""
    shown = repr(BRANCH)
    assert key_text(v.BRANCH_KEY) in shown
    assert not [secret for secret in (v.BRANCH_SEED, BRANCH.static) if secret.hex() in shown or key_text(secret) in shown]


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_seed_has_one_size(size: int) -> None:
    """And the sentence says which."""
    with pytest.raises(ValueError, match=f"this one has {size}"):
        Identity(bytes(size))


@given(st.binary(min_size=32, max_size=32))
def test_key_texts(key: bytes) -> None:
    """There and back, without padding."""
    assert key == key_from_text(key_text(key))
    assert "=" not in key_text(key)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "is a key of 0 bytes"), ("AA", "is a key of 1 bytes"), ("A" * 44, "is a key of 33 bytes"), ("A" * 41, "is not base64url"),
     ("A" * 42 + "+", "is not base64url"), ("A" * 43 + "=", "is not base64url"), ("é" * 43, "is not base64url"), ("A" * 43 + "\n", "is not base64url")],
)  # fmt: skip
def test_no_key_texts(text: str, sentence: str) -> None:
    """Refused with a sentence."""
    with pytest.raises(ValueError, match=sentence):
        key_from_text(text)


def test_a_token_as_a_branch_prints_it() -> None:
    """The document's form, in both directions; without a transport it is ws."""
    text = (
        f"tps://join?host=127.0.0.1&port=6458&transport=ws&pubkey={key_text(v.BRANCH_KEY)}"
        f"&sigpubkey={key_text(BRANCH.signing_key)}&fp=sha256:{v.BRANCH_FINGERPRINT}"
    )
    assert text == str(TOKEN)
    assert TOKEN == token_from_text(text)
    assert TOKEN == token_from_text(text.replace("&transport=ws", "") + "\n")
    assert v.BRANCH_FINGERPRINT == TOKEN.fingerprint


@given(
    host=st.text("abcz019.-:%[]", min_size=1, max_size=60),
    port=st.integers(1, 65_535),
    keys=st.tuples(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32)),
    transport=st.sampled_from(["ws", "tcp"]),
)
def test_tokens_go_round(host: str, port: int, keys: tuple[bytes, bytes], transport: str) -> None:
    """Any host, port and keys."""
    token = Token(host, port, *keys, transport="ws" if transport == "ws" else "tcp")
    assert token == token_from_text(str(token))


@pytest.mark.parametrize(
    ("host", "transport", "url"),
    [
        ("127.0.0.1", "ws", "ws://127.0.0.1:6458/tps/wire"),
        ("localhost", "ws", "ws://localhost:6458/tps/wire"),
        ("::1", "ws", "ws://[::1]:6458/tps/wire"),
        ("127.0.0.2", "ws", "wss://127.0.0.2:6458/tps/wire"),
        ("branch.example", "ws", "wss://branch.example:6458/tps/wire"),
        ("branch.example", "tcp", "tcp://branch.example:6458"),
    ],
)
def test_where_to_dial(host: str, transport: str, url: str) -> None:
    """TLS everywhere but on this machine."""
    token = Token(host, 6458, v.BRANCH_KEY, BRANCH.signing_key, "ws" if transport == "ws" else "tcp")
    assert url == token.url


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("tps://join?", "https://join?"), "does not begin"),
        (("tps://join?", "tps://"), "does not begin"),
        (("host=", "host"), "no URL"),
        (("host=127.0.0.1&", ""), "lacks host"),
        (("host=127.0.0.1", "host=a%2Fb"), "host is no host name"),
        (("port=6458", "port=0"), "port is no port"),
        (("port=6458", "port=65536"), "port is no port"),
        (("port=6458", "port=٣"), "port is no port"),
        (("port=6458", "port=1&port=2"), "says port twice"),
        (("transport=ws", "transport=udp"), "neither ws nor tcp"),
        (("&pubkey=", "&pubkey=A"), "pubkey is a"),
        (("&sigpubkey=", "&sigpubkey=*"), "sigpubkey is not base64url"),
        (("fp=sha256:6a", "fp=sha256:6b"), "fp is not the fingerprint"),
        (("&fp=", "&fp2="), "lacks fp"),
    ],
)
def test_what_is_no_token(change: tuple[str, str], sentence: str) -> None:
    """Each mistake with its sentence."""
    text = str(TOKEN)
    changed = text.replace(*change, 1)
    assert text != changed
    with pytest.raises(ValueError, match=sentence):
        token_from_text(changed)


@given(st.text(max_size=200) | st.text(max_size=100).map(lambda tail: f"tps://join?{tail}"))
def test_any_text_is_a_token_or_a_value_error(text: str) -> None:
    """Nothing else is raised."""
    with pytest.raises(ValueError):
        token_from_text(text)

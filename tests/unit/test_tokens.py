"""Secrets that hide themselves, token files, and the one claim that is read out of a JWT."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.secret import Secret
from syncwatch.core.states import AttemptFailure
from syncwatch.core.wire import Request
from syncwatch.runtime.dialing import headers_of, place_token
from syncwatch.runtime.failures import Unusable
from syncwatch.runtime.tokens import CALM_LOOK_S, MAX_TOKEN_BYTES, TokenFiles, TokenWatch, jwt_expiry_s, read_token


def jwt(claims: Any) -> str:
    """An unsigned token with these claims."""
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return f"eyJhbGciOiJub25lIn0.{base64.urlsafe_b64encode(body).decode().rstrip('=')}.c2ln"


def test_a_secret_hides_itself() -> None:
    """No way of printing or packing one shows it; it can be compared and revealed, no more."""
    secret = Secret("at_live_x")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r}", repr([secret]), repr({"token": secret})):
        assert "at_live" not in shown
    assert "at_live_x" == secret.reveal()
    assert Secret("at_live_x") == secret
    assert Secret("other") != secret
    assert secret != "at_live_x"
    with pytest.raises((TypeError, pickle.PicklingError)):
        msgspec.json.encode(secret)


def test_token_files(tmp_path: Path) -> None:
    """White space around the token is not part of it; a token that no request wants is not read."""
    path = tmp_path / "token"
    path.write_bytes(b"\n  at_live_x\r\n")
    files = TokenFiles({"connection": path, "missing": tmp_path / "nothing"})
    assert Secret("at_live_x") == files.read("connection")
    assert files.read("canary") is None
    assert Secret("at_live_x") == files.for_request(Request("http://h/", bearer=True))
    assert Secret("at_live_x") == files.for_request(Request("http://h/", token_query="token"))
    assert files.for_request(Request("http://h/", token="missing")) is None
    assert path == files.path("connection")
    with pytest.raises(Unusable, match=f"token file {tmp_path / 'nothing'}: no such file or directory") as caught:
        files.read("missing")
    assert AttemptFailure.UNAUTHORIZED is caught.value.reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"a b", "holds more than one word"),
        (b"a\nb", "holds more than one word"),
        (b"a\x00b", "holds more than one word"),
        (b"\xff", "is not UTF-8 text"),
        (b"x" * (MAX_TOKEN_BYTES + 1), "is larger than a token can be"),
    ],
)
def test_contents_that_are_no_token(content: bytes, words: str, tmp_path: Path) -> None:
    """Each is refused with a sentence that shows nothing of it."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{words}$"):
        read_token(path)


def test_a_directory_is_no_token(tmp_path: Path) -> None:
    """A mount that went wrong is named."""
    with pytest.raises(Unusable, match="is a directory"):
        TokenFiles({"connection": tmp_path}).read("connection")


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": 1_800_000_000, "sub": "x"}, 1_800_000_000.0),
        ({"exp": 1_800_000_000.5}, 1_800_000_000.5),
        ({"sub": "x"}, None),
        ({"exp": None}, None),
        ({"exp": "1800000000"}, None),
        ({"exp": True}, None),
        ({"exp": -1}, None),
        ({"exp": 0}, None),
        ({"exp": 1e300}, None),
        ([1, 2], None),
        (b"not json", None),
        (b"\xff\xff", None),
        (b"[" * 50_000, None),
    ],
)
def test_expiry_of_a_jwt(claims: Any, expected: float | None) -> None:
    """`exp` when it is a sensible number; for anything else nothing, and never an exception."""
    assert expected == jwt_expiry_s(jwt(claims))


@pytest.mark.parametrize("token", ["", "at_live_0123", "a.b", "a.b.c.d", "..", "a.!!!!.c", "a.é.c", "a.eyJ.c"])
def test_other_tokens_have_no_expiry(token: str) -> None:
    """Not a JWT: unknown."""
    assert jwt_expiry_s(token) is None


@given(st.text())
def test_expiry_is_total(text: str) -> None:
    """Whatever a file contains."""
    assert jwt_expiry_s(f"a.{text}.c") is None


def test_the_watch_tells_each_new_content_once(tmp_path: Path) -> None:
    """The first look always, then contents: same size and same time stamps hide nothing, touching tells nothing."""
    told: list[float | None] = []
    path = tmp_path / "token"
    watch = TokenWatch(TokenFiles({"connection": path}), "connection", told.append)
    watch.look()
    assert [None] == told
    path.write_text("at_live_1")
    watch.look()
    assert 2 == len(told)
    stamps = path.stat()
    path.write_text("at_live_2")
    os.utime(path, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
    watch.look()
    assert 3 == len(told)
    path.touch()
    watch.look()
    assert 3 == len(told)
    path.write_text(jwt({"exp": 1_900_000_000}))
    watch.look()
    assert 1_900_000_000.0 == told[-1]
    path.unlink()
    watch.look()
    assert 4 == len(told)
    path.write_text(jwt({"exp": 1_900_000_000}))
    watch.look()
    assert 5 == len(told)


async def test_a_calm_watch_looks_every_fifth_second(tmp_path: Path) -> None:
    """Each second while another token is waited for, or while there is none that can be used; else no thread is troubled."""

    class Counting(TokenFiles):
        reads = 0

        def read(self, name: str) -> Secret | None:
            self.reads += 1
            return super().read(name)

    path = tmp_path / "token"
    files = Counting({"connection": path})
    news: list[float | None] = []
    watch = TokenWatch(files, "connection", news.append)

    async def looks(now: float, calm: bool) -> bool:
        """Whether a beat at this time makes it look."""
        before = files.reads
        watch.beat(now, calm)
        while watch._looking is not None:  # noqa: ASYNC110  a thread looks, and tells only the watch
            await asyncio.sleep(0.001)
        return files.reads > before

    assert [True, True] == [await looks(0.0, True), await looks(1.0, True)], "there is no file, and it may appear"
    path.write_text("at_live_1")
    assert [True, False, False] == [await looks(now, True) for now in (2.0, 3.0, 1.9 + CALM_LOOK_S)]
    assert [True, False] == [await looks(now, True) for now in (2.0 + CALM_LOOK_S, 3.0 + CALM_LOOK_S)]
    assert [True, True] == [await looks(now, False) for now in (4.0 + CALM_LOOK_S, 5.0 + CALM_LOOK_S)]
    assert 2 == len(news), "none, and then one"


def test_another_path_is_read_from_the_next_use_on(tmp_path: Path) -> None:
    """The same token elsewhere is no news to a watch, another one is."""
    told: list[float | None] = []
    here, moved, other = tmp_path / "here", tmp_path / "moved", tmp_path / "other"
    for path, token in ((here, "at_live_1"), (moved, "at_live_1"), (other, "at_live_2")):
        path.write_text(token)
    files = TokenFiles({"connection": here})
    watch = TokenWatch(files, "connection", told.append)
    watch.look()
    files.configure({"connection": moved, "canary": other})
    watch.look()
    assert (1, moved, Secret("at_live_2")) == (len(told), files.path("connection"), files.read("canary"))
    files.configure({"connection": other})
    watch.look()
    assert (2, None) == (len(told), files.path("canary"))


def test_a_connection_without_a_token_file_is_told_once() -> None:
    """Nothing is configured: no expiry, and nothing to watch."""
    told: list[float | None] = []
    watch = TokenWatch(TokenFiles({}), "connection", told.append)
    watch.look()
    watch.look()
    assert [None] == told


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://h:1/v1/ws", "ws://h:1/v1/ws?token=a%2Bb%2Fc%3D%26%25"),
        ("ws://h:1/v1/ws?x=1&y=%26", "ws://h:1/v1/ws?token=a%2Bb%2Fc%3D%26%25&x=1&y=%26"),
        ("ws://h:1", "ws://h:1/?token=a%2Bb%2Fc%3D%26%25"),
        ("ws://h:1/a%2Fb/?x#part", "ws://h:1/a%2Fb/?token=a%2Bb%2Fc%3D%26%25&x"),
    ],
)
def test_placing_a_token_in_the_query(url: str, expected: str) -> None:
    """First, percent-encoded once, the rest of the URL untouched."""
    request = Request(url, token_query="token")
    assert expected == str(place_token(request, Secret("a+b/c=&%")))
    assert {} == headers_of(request, Secret("a+b/c=&%"))


def test_placing_a_token_in_a_header() -> None:
    """Bearer, beside the request's own headers; without a token nothing is invented."""
    request = Request("http://h/?x=1", headers=(("Accept", "*/*"),), bearer=True)
    assert {"Accept": "*/*", "Authorization": "Bearer t"} == headers_of(request, Secret("t"))
    assert {"Accept": "*/*"} == headers_of(request, None)
    assert "http://h/?x=1" == str(place_token(request, Secret("t")))
    assert "http://h/?x=1" == str(place_token(Request("http://h/?x=1", token_query="token"), None))

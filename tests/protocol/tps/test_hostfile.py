"""A host's two files: what they say when they are whole, and a sentence for everything else that may stand there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncwatch.core.reported import Picture
from syncwatch.protocols.tps.hostfile import MOST_SERVICES, Offered, Registry, picture, registry

STATE: dict[str, Any] = {
    "branch": "b1", "connectedAt": "2026-11-20T11:42:54.447Z", "lastHeartbeatSent": "2026-11-20T11:44:24.471Z",
    "lastHeartbeatAck": "2026-11-20T11:44:24.474Z", "reconnectCount": 2, "bytesSent": 0, "bytesReceived": 0,
    "messagesSent": 4, "messagesReceived": 5, "pid": 23772,
    "services": [{"name": "hang", "status": "unhealthy", "lastCheck": "now", "lastHealthy": None, "error": "The operation timed out."}],
}  # fmt: skip
WHOLE = json.dumps(STATE, indent=2).encode()
CONNECTED_S = 1_795_174_974.447


def state(**changes: Any) -> bytes:
    """The file with something else in it."""
    return json.dumps(STATE | changes).encode()


def test_a_whole_state() -> None:
    """Times in Unix seconds, counts as they are; keys that are not needed may say what they like."""
    expected = Picture(23772, CONNECTED_S, CONNECTED_S + 90.024, CONNECTED_S + 90.027, 2, 4, 5)
    made = picture(WHOLE, "b1")
    assert isinstance(made, Picture)
    assert pytest.approx(list(map(float, (23772, CONNECTED_S, CONNECTED_S + 90.024, CONNECTED_S + 90.027, 2, 4, 5)))) == [
        float(value) for value in (made.pid, made.connected_wall_s, made.sent_wall_s, made.heard_wall_s or 0.0, made.reconnects, made.sent, made.received)
    ]
    assert expected.pid == made.pid
    assert made == picture(state(services="?", bytesSent=None), "b1")
    never = picture(state(lastHeartbeatAck=None), "b1")
    assert isinstance(never, Picture)
    assert never.heard_wall_s is None


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_a_part_of_a_state_is_none(length: int) -> None:
    """However little is missing; written in place, any part may be what one reads."""
    assert isinstance(picture(WHOLE[:length], "b1"), str)


@pytest.mark.parametrize(
    "changes",
    [
        {"branch": "b2"}, {"branch": 1}, {"pid": 0}, {"pid": -1}, {"pid": 2**40}, {"pid": "1"}, {"pid": True}, {"messagesSent": -1}, {"messagesSent": 1.5},
        {"messagesReceived": 10**30}, {"connectedAt": 5}, {"connectedAt": "yesterday"}, {"connectedAt": "2026-11-20T11:42:54.447"}, {"connectedAt": ""},
        {"lastHeartbeatSent": None}, {"lastHeartbeatAck": "0001-01-01T00:00:00+14:00"}, {"lastHeartbeatAck": {}}, {"reconnectCount": None},
    ],
)  # fmt: skip
def test_wrong_values_are_a_sentence(changes: dict[str, Any]) -> None:
    """None is taken for something else, and none raises."""
    made = picture(state(**changes), "b1")
    assert isinstance(made, str)
    assert made.startswith("the file is")
    assert len(made) < 200


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 512, b" \n", b"null", b"[]", b"{}", b"[" * 100_000, b'{"branch":' * 100_000, b"\xff\xfe", b"1e400", WHOLE + b"}", WHOLE.replace(b"b1", b"\xff1")],
)
def test_other_contents_are_a_sentence(content: bytes) -> None:
    """Nothing, noise, depth, another encoding."""
    assert isinstance(picture(content, "b1"), str)
    if b"{" not in content or len(content) > 10_000:
        assert isinstance(registry(content), str)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(lambda made: json.dumps(made).encode()))
def test_nothing_raises(content: bytes) -> None:
    """Whatever stands there."""
    assert isinstance(picture(content, "b1"), Picture | str)
    assert isinstance(registry(content), Registry | str)


def test_a_registry() -> None:
    """In the file's order; the url is asked, and a localPort that differs is told."""
    entries = {
        "flair": {"url": "http://127.0.0.1:9926", "localPort": 9926},
        "docs": {"url": "http://localhost:8080/health", "description": "d", "timeoutMs": 5, "localPort": 9000},
        "six": {"url": "https://127.1.2.3/x?y=1"},
    }
    made = registry(json.dumps(entries).encode())
    assert isinstance(made, Registry)
    assert (Offered("flair", "http://127.0.0.1:9926/"), Offered("docs", "http://localhost:8080/health"), Offered("six", "https://127.1.2.3/x?y=1")) == made.services
    assert ("service docs: its url says port 8080, which is asked; the host itself asks localPort 9000, which is the branch's side",) == made.remarks


@pytest.mark.parametrize(
    "entry",
    [
        {}, 5, None, {"url": 5}, {"url": "http://example.org/"}, {"url": "ftp://127.0.0.1/"}, {"url": "http://127.0.0.1.example/"}, {"url": "http://127.0.0.1:99999/"},
        {"url": "http://u:p@127.0.0.1/"}, {"url": "http://[::1/"}, {"url": "http://127.0.0.1/\r\nX: y"}, {"url": "http://127.0.0.1/", "localPort": 0},
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_asked_is_left_out(entry: object) -> None:
    """Nobody is asked who is not on this machine; the others are."""
    made = registry(json.dumps({"odd": entry, "good": {"url": "http://127.0.0.1:1/"}}).encode())
    assert isinstance(made, Registry)
    assert (Offered("good", "http://127.0.0.1:1/"),) == made.services
    [remark] = made.remarks
    assert remark.startswith("service odd is not asked: ")


def test_names_and_numbers_are_bounded() -> None:
    """A name that no metric may have is left out; so are services beyond the limit."""
    made = registry(json.dumps({name: {"url": "http://127.0.0.1:1/"} for name in ("-a", "a b", "", "a" * 64, "ok")}).encode())
    assert isinstance(made, Registry)
    assert ["ok"] == [one.name for one in made.services]
    assert 4 == len(made.remarks)
    many = registry(json.dumps({f"s{number}": {"url": "http://127.0.0.1:1/"} for number in range(MOST_SERVICES + 1)}).encode())
    assert isinstance(many, Registry)
    assert (MOST_SERVICES, (f"only the first {MOST_SERVICES} services are asked",)) == (len(many.services), many.remarks)

"""The generation `observer` over real sockets: who is let in, numbers, the log, filters, revocation, faults (wire: relaycast §0, §12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from syncwatch.relay import kinds
from syncwatch.relay.ledger import Closed, Opened, Refused
from syncwatch.relay.logfacts import Answered, Delivered, Page, Published
from tests.integration.relay_parts import Client, World, eventually, world


class Time:
    """A wall clock that is moved by hand."""

    def __init__(self) -> None:
        self.at_s = 1_800_000_000.0

    def __call__(self) -> float:
        """Now."""
        return self.at_s


@pytest.fixture
def time() -> Time:
    """The relay's clock."""
    return Time()


@pytest.fixture
async def w(time: Time) -> AsyncIterator[World]:
    """A relay of that generation; `watch` sees everything, `some` only `general`."""
    async with world(generation="observer", clock=time) as made:
        made.tokens["watch"] = made.relay.observer(made.workspace, "watch")
        made.tokens["some"] = made.relay.observer(made.workspace, "some", channels=["general"])
        yield made


async def page(w: World, token: str = "watch", **query: int) -> dict[str, Any]:
    """A page of the log."""
    text = "&".join(f"{name}={value}" for name, value in query.items())
    reply = await w.call("GET", f"/v1/workspace/events?{text}", None, token)
    assert 200 == reply.status, reply.body
    told: dict[str, Any] = reply.body["data"]
    return told


async def seqs(client: Client, count: int) -> list[int]:
    """The numbers of the next frames."""
    return [frame["seq"] for frame in await client.take(count)]


async def test_only_observers_are_let_in(w: World) -> None:
    """401 for agents, workspace keys and everybody else; 403 without the scope."""
    blind = w.relay.observer(w.workspace, "blind", scopes=["messages:read"])
    cases = {w.tokens["alice"]: 401, w.workspace.api_key: 401, "": 401, "ot_live_" + "0" * 32: 401, blind: 403}
    for token, status in cases.items():
        assert (status, b"") == ((r := await w.dial(f"/v1/ws?token={token}")).status, r.body)
    assert [401, 401, 401, 401, 403] == [fact.status for fact in w.relay.ledger.of(Refused)]
    async with w.connected("watch"):
        pass
    await eventually(lambda: w.relay.ledger.of(Opened))
    assert ["watch"] == [fact.agent for fact in w.relay.ledger.of(Opened)]


async def test_the_ring_generation_has_no_observers() -> None:
    """Neither the door nor the log."""
    async with world() as ring:
        token = ring.relay.observer(ring.workspace, "watch")
        assert 401 == (await ring.dial(f"/v1/ws?token={token}")).status
        assert 404 == (await ring.call("GET", "/v1/workspace/events", None, token)).status


async def test_frames_carry_the_workspaces_number(w: World) -> None:
    """Contiguous, last in the frame, the same as in the log; no `agent_seq`; pings are answered, all else ignored."""
    async with w.connected("watch") as watch:
        w.relay.post("alice", "general", "hi")
        frames = await watch.take(2)
        assert [("message.created", 1), ("delivery.accepted", 2)] == [(f["type"], f["seq"]) for f in frames]
        assert "agent_seq" not in frames[0]
        await watch.ask(0)
        await watch.ping()
        assert [{"type": "pong"}] == await watch.take(1)
        logged = (await page(w))["events"]
    assert [{key: value for key, value in frame.items() if key != "seq"} for frame in frames] == [
        row["payload"] for row in logged
    ]
    assert [(1, "live"), (2, "live")] == [(fact.number, fact.origin) for fact in w.relay.ledger.of(Delivered)]
    assert [1, 2] == [fact.number for fact in w.relay.ledger.of(Published)]


async def test_the_log_is_paged_by_next_since(w: World) -> None:
    """Exclusive `since`; at the tip empty; limits outside 1 to 500 and negative cursors are refused."""
    for n in range(5):
        w.relay.post("alice", "general", f"{n}")
    assert ([1, 2, 3], 10, 3) == pages(await page(w, limit=3))
    assert ([4, 5], 10, 5) == pages(await page(w, since=3, limit=2))
    assert ([], 10, 10) == pages(await page(w, since=10))
    for query in ("limit=0", "limit=501", "since=-1", "since=x"):
        reply = await w.call("GET", f"/v1/workspace/events?{query}", None, "watch")
        assert (400, "invalid_request") == (reply.status, reply.body["error"]["code"])
    assert 10 == len((await page(w, w.workspace.api_key))["events"])
    assert 401 == (await w.call("GET", "/v1/workspace/events", None, "alice")).status
    first = w.relay.ledger.of(Page)[0]
    assert ("observer", "watch", "0", 3, (1, 2, 3), "3") == (
        first.protocol,
        first.label,
        first.cursor,
        first.limit,
        first.numbers,
        first.next_cursor,
    )


def pages(told: dict[str, Any]) -> tuple[list[int], int, int]:
    """Numbers, newest, where to go on."""
    return [row["seq"] for row in told["events"]], told["latest_seq"], told["next_since"]


async def test_a_filtered_token_has_holes_that_are_no_loss(w: World) -> None:
    """Live and in the log alike."""
    w.relay.channel(w.workspace, "hidden", ["alice"])
    start = w.relay.events.latest(w.relay.find("alice").workspace)
    async with w.connected("some") as some:
        for channel in ("general", "hidden", "general"):
            w.relay.post("alice", channel, "x")
        assert [start + 1, start + 2, start + 4, start + 5] == await seqs(some, 4)
    told = await page(w, "some", since=start)
    assert ([start + 1, start + 2, start + 4, start + 5], start + 5, start + 5) == pages(told)


async def test_a_revoked_token_ends_at_a_publish(w: World, time: Time) -> None:
    """Looked at every 5 s at most: until then events still come; then 1008. The log is closed to it at once."""
    async with w.connected("watch") as watch:
        w.relay.revoke_observer("watch")
        time.at_s += 4.9
        w.relay.push("alice", "unrelated")
        w.relay.post("alice", "general", "one")
        assert [1, 2] == await seqs(watch, 2)
        assert 401 == (await w.call("GET", "/v1/workspace/events", None, "watch")).status
        time.at_s += 0.2
        w.relay.post("alice", "general", "two")
        assert [] == await watch.rest()
        assert 1008 == watch.socket.close_code
    assert 401 == (await w.dial(f"/v1/ws?token={w.tokens['watch']}")).status
    assert [("closed", "relay", 1008)] == [(f.how, f.by, f.code) for f in w.relay.ledger.of(Closed)]


async def test_tokens_are_made_listed_rotated_and_revoked_over_http(w: World) -> None:
    """With the workspace's key; the token is shown only once."""
    body = {"name": "dash", "scopes": ["stream:read", "messages:read"], "filters": {"channel_names": ["general"]}}
    made = await w.call("POST", "/v1/observer-tokens", body, w.workspace.api_key)
    assert (201, ["general"]) == (made.status, made.body["data"]["filters"]["channel_names"])
    assert 409 == (await w.call("POST", "/v1/observer-tokens", body, w.workspace.api_key)).status
    listed = (await w.call("GET", "/v1/observer-tokens", None, w.workspace.api_key)).body["data"]
    assert [("watch", False), ("some", False), ("dash", False)] == [(one["name"], "token" in one) for one in listed]
    path = f"/v1/observer-tokens/{made.body['data']['id']}"
    rotated = (await w.call("POST", f"{path}/rotate", None, w.workspace.api_key)).body["data"]["token"]
    assert 401 == (await w.call("GET", "/v1/workspace/events", None, made.body["data"]["token"])).status
    assert 200 == (await w.call("GET", "/v1/workspace/events", None, rotated)).status
    assert 204 == (await w.call("DELETE", path, None, w.workspace.api_key)).status
    assert 404 == (await w.call("DELETE", path, None, w.workspace.api_key)).status
    assert 403 == (await w.call("GET", "/v1/observer-tokens", None, "alice")).status


async def test_a_log_that_cannot_be_written_leaves_the_number_out(w: World) -> None:
    """The frame comes without it, and no page has it."""
    async with w.connected("watch") as watch:
        with w.relay.faults.log_failing(times=1):
            w.relay.post("alice", "general", "x")
        one, two = await watch.take(2)
    assert ("seq" in one, two["seq"]) == (False, 1)
    assert [None, 1] == [fact.number for fact in w.relay.ledger.of(Delivered)]
    assert ["delivery.accepted"] == [row["type"] for row in (await page(w))["events"]]


async def test_events_of_any_kind_and_size(w: World) -> None:
    """To observers only; an oversized one stays in the log."""
    async with w.connected("watch") as watch, w.connected("some") as some:
        w.relay.publish(w.workspace, "file.uploaded", channel="hidden", name="x")
        w.relay.faults.begin(kinds.Oversize(agent="watch", size_bytes=5_000))
        assert ("file.uploaded", 1) == ((frame := (await watch.take(1))[0])["type"], frame["seq"])
        for client in (watch, some):
            assert 5_000 == len((await client.message()).data)
    assert ["file.uploaded", "relay.oversized"] == [row["type"] for row in (await page(w))["events"]]
    assert 0 == w.relay.find("alice").counter


async def test_a_restart_keeps_the_numbers(w: World) -> None:
    """The log is durable; sockets are dropped."""
    async with w.connected("watch") as watch:
        w.relay.post("alice", "general", "x")
        await watch.take(2)
        w.relay.restart()
        assert [] == await watch.rest()
    async with w.connected("watch") as watch:
        w.relay.post("alice", "general", "y")
        assert [3, 4] == await seqs(watch, 2)


async def test_faults_are_the_same_as_everywhere(w: World) -> None:
    """By the token's name, by number; the log alone can be refused, hang or lose its answers."""
    async with w.connected("watch") as watch:
        with w.relay.faults.skipping(seq=1), w.relay.faults.duplicating(seq=2), w.relay.faults.withholding_pong():
            await watch.ping()
            w.relay.post("alice", "general", "x")
            assert [2, 2] == await seqs(watch, 2)
        with w.relay.faults.refusing_feed(503, retry_after_s=1, agent="watch"):
            reply = await w.call("GET", "/v1/workspace/events", None, "watch")
            assert (503, "1") == (reply.status, reply.headers["Retry-After"])
            assert 200 == (await w.call("GET", "/v1/workspace/events", None, "some")).status
        with w.relay.faults.rate_limiting(route="feed"):
            assert 429 == (await w.call("GET", "/v1/workspace/events", None, "watch")).status
        with w.relay.faults.token_expired("watch"):
            assert 401 == (await w.dial(f"/v1/ws?token={w.tokens['watch']}")).status
            assert 401 == (await w.call("GET", "/v1/workspace/events", None, "watch")).status
        w.relay.faults.begin(kinds.Close(code=1008, agent="watch"))
        await watch.rest()
        assert 1008 == watch.socket.close_code
    assert [503, 200, 429, 401] == [fact.status for fact in w.relay.ledger.of(Answered)]

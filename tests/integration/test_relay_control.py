"""The relay's own interface at `/_relay/`: the ledger in pages, the totals, faults over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from syncwatch.relay import Relay
from syncwatch.relay.ledger import Pushed
from tests.integration.relay_parts import World, eventually, world


@pytest.fixture
async def w() -> AsyncIterator[World]:
    """A relay with alice and bob."""
    async with world() as made:
        yield made


async def test_the_ledger_is_read_in_pages(w: World) -> None:
    """`next` is where to go on; together the pages are the whole ledger."""
    for n in range(25):
        w.relay.push("alice", "test", n=n)
    facts, after = [], 0
    for _ in range(3):
        page = (await w.call("GET", f"/_relay/ledger?after={after}&limit=10")).body
        facts += page["facts"]
        after = page["next"]
    assert list(range(1, 26)) == [fact["at"] for fact in facts] == [fact["number"] for fact in facts]
    assert {"fact", "at", "time_s", "epoch", "agent", "number", "kind", "key"} == set(facts[0])
    empty = (await w.call("GET", f"/_relay/ledger?after={after}")).body
    assert ([], 25, 25, 0) == (empty["facts"], empty["next"], empty["last"], empty["forgotten"])
    assert 400 == (await w.call("GET", "/_relay/ledger?after=x")).status


async def test_forgetting_shows() -> None:
    """A small ledger says how much it no longer has."""
    async with world(ledger_cap=10) as w:
        for _ in range(50):
            w.relay.push("alice", "test")
        page = (await w.call("GET", "/_relay/ledger")).body
        assert 50 == page["last"] == page["facts"][-1]["at"]
        assert page["forgotten"] == page["facts"][0]["at"] - 1 >= 40
        assert 50 == w.relay.summary()["agents"][0]["pushed"]


async def test_the_summary_has_a_line_per_agent(w: World) -> None:
    """Epoch, counter, ring, sockets, pushed, sent by origin."""
    async with w.connected() as alice:
        w.relay.post("bob", "general", "x")
        await alice.take(3)
        summary = (await w.call("GET", "/_relay/summary")).body
    expected = {
        "agent": "alice",
        "epoch": 1,
        "counter": 3,
        "ring": 3,
        "sockets": 1,
        "pushed": 3,
        "sent": {"live": 3, "ring": 0, "store": 0},
    }
    assert expected == summary["agents"][0]
    assert (1, 1, 0, True) == (summary["epoch"], summary["connections"], summary["forgotten"], summary["listening"])
    assert w.relay.ledger.last >= summary["facts"]


async def test_faults_are_begun_listed_and_ended_over_http(w: World) -> None:
    """Each by its id, or all at once; `for_s` ends one by itself."""
    begun = await w.call("POST", "/_relay/faults", {"fault": "refuse", "status": 429, "agent": "alice"})
    assert 201 == begun.status
    assert {"fault": "refuse", "status": 429, "agent": "alice", "fired": 0, "over": False}.items() <= begun.body.items()
    assert 429 == (await w.dial(f"/v1/ws?token={w.tokens['alice']}")).status
    listed = (await w.call("GET", "/_relay/faults")).body
    assert [(begun.body["id"], 1)] == [(fault["id"], fault["fired"]) for fault in listed["active"]]
    ended = await w.call("DELETE", f"/_relay/faults/{begun.body['id']}")
    assert (200, True) == (ended.status, ended.body["over"])
    assert 404 == (await w.call("DELETE", f"/_relay/faults/{begun.body['id']}")).status
    await w.call("POST", "/_relay/faults", {"fault": "hang", "for_s": 0.05})
    await w.call("POST", "/_relay/faults", {"fault": "stall"})
    await eventually(lambda: 1 == len(w.relay.faults.active))
    assert {"active": []} == (await w.call("DELETE", "/_relay/faults")).body
    assert not w.relay.faults.active
    async with w.connected() as alice:
        await alice.take(1)


async def test_momentary_faults_are_over_when_the_answer_comes(w: World) -> None:
    """A drop and a restart by HTTP."""
    async with w.connected() as alice:
        await alice.take(1)
        assert (await w.call("POST", "/_relay/faults", {"fault": "drop"})).body["over"] is True
        assert [] == await alice.rest()
    assert 201 == (await w.call("POST", "/_relay/faults", {"fault": "restart"})).status
    assert 2 == w.relay.hub.epoch


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Input data was truncated"),
        ({"fault": "explode"}, "Invalid value 'explode' - at `$.fault`"),
        ({"fault": "refuse", "status": 200}, "Expected `int` >= 400 - at `$.status`"),
        ({"fault": "refuse", "colour": 1}, "Object contains unknown field `colour`"),
        ({"fault": "hang", "for_s": -1}, "Expected `float` >= 0.0 - at `$.for_s`"),
        ([], "Expected `object`, got `array`"),
    ],
)
async def test_a_wrong_fault_is_refused_with_its_sentence(w: World, body: object, message: str) -> None:
    """400, and nothing has begun."""
    reply = await w.call("POST", "/_relay/faults", body)
    assert (400, message) == (reply.status, reply.body["error"])
    assert not w.relay.faults.active


async def test_a_script_is_posted(w: World) -> None:
    """YAML in, played at once; a wrong one is refused with its line."""
    assert {"steps": 1} == (await w.call("POST", "/_relay/script", b"steps: [{at_s: 0, fault: restart}]")).body
    await eventually(lambda: 2 == w.relay.hub.epoch)
    wrong = await w.call("POST", "/_relay/script", b"steps: [{at_s: 0, fault: nothing}]")
    assert (400, "body:1: steps[0].fault: Invalid value 'nothing'") == (wrong.status, wrong.body["error"])


async def test_the_interface_can_be_left_out() -> None:
    """Then the relay has nothing the real server has not."""
    async with world(control_api=False) as w:
        assert 404 == (await w.call("GET", "/_relay/summary")).status


async def test_a_database_file_is_taken_up_by_the_next_process(tmp_path: object) -> None:
    """Agents, tokens and messages are there; counters start again."""
    path = f"{tmp_path}/relay.db"
    async with world(database=path) as w:
        token = w.tokens["alice"]
        w.relay.post("bob", "general", "kept")
        assert 2 == len(w.relay.ledger.of(Pushed, "alice"))
    async with Relay.start(database=path) as relay, world() as other:
        other.relay = relay
        other.tokens["alice"] = token
        assert (
            "kept" == (await other.call("GET", "/v1/channels/general/messages", None, "alice")).body["data"][0]["text"]
        )
        async with other.connected() as alice:
            assert 1 == (await alice.take(1))[0]["agent_seq"]

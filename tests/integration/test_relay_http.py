"""The HTTP interface over real sockets (wire: relaycast §10): envelopes, statuses, codes, idempotency."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from syncwatch.relay.ledger import Closed, Pushed
from tests.integration.relay_parts import World, eventually, world


@pytest.fixture
async def w() -> AsyncIterator[World]:
    """A relay with alice and bob."""
    async with world() as made:
        yield made


async def test_the_way_from_nothing_to_an_event(w: World) -> None:
    """Workspace, agent, channel, join, post: the answers of the table, field by field."""
    made = await w.call("POST", "/v1/workspaces", {"name": "fresh"})
    assert (201, True) == (made.status, made.body["ok"])
    assert {"workspace_id", "api_key", "created_at"} == set(made.body["data"])
    key = made.body["data"]["api_key"]
    assert key.startswith("rk_live_")

    agent = await w.call("POST", "/v1/agents", {"name": "canary", "type": "agent"}, key)
    assert 201 == agent.status
    assert {"id", "name", "handle", "token", "status", "capabilities", "created_at"} == set(agent.body["data"])
    assert "@canary" == agent.body["data"]["handle"]
    token = agent.body["data"]["token"]
    again = await w.call("POST", "/v1/agents", {"name": "canary"}, key)
    assert (409, "agent_already_exists") == (again.status, again.body["error"]["code"])
    assert again.body["ok"] is False

    channel = await w.call("POST", "/v1/channels", {"name": "syncwatch", "topic": None}, key)
    assert 201 == channel.status
    assert {"id", "name", "topic", "metadata", "created_by", "created_at", "member_count"} <= set(channel.body["data"])
    assert (None, 0) == (channel.body["data"]["created_by"], channel.body["data"]["member_count"])

    joined = await w.call("POST", "/v1/channels/syncwatch/join", None, token)
    assert (200, {"channel": "syncwatch", "agent_id": agent.body["data"]["id"], "already_member": False}) == (
        joined.status,
        joined.body["data"],
    )
    assert (await w.call("POST", "/v1/channels/syncwatch/join", None, token)).body["data"]["already_member"] is True

    posted = await w.call("POST", "/v1/channels/syncwatch/messages", {"text": "nonce", "mode": "wait"}, token)
    assert 201 == posted.status
    assert {
        "id",
        "channel_id",
        "agent_id",
        "agent_name",
        "text",
        "blocks",
        "metadata",
        "has_attachments",
        "thread_id",
        "created_at",
        "mentions",
        "attachments",
        "injection_mode",
    } == set(posted.body["data"])
    assert posted.body["data"]["created_at"].endswith(".000Z")
    history = await w.call("GET", "/v1/channels/syncwatch/messages", None, token)
    assert [posted.body["data"]["id"]] == [message["id"] for message in history.body["data"]]


async def test_an_agent_that_creates_a_channel_owns_it(w: World) -> None:
    """It joins as owner."""
    assert 1 == (await w.call("POST", "/v1/channels", {"name": "mine"}, "alice")).body["data"]["member_count"]
    members = (await w.call("GET", "/v1/channels/mine", None, "bob")).body["data"]["members"]
    assert [("alice", "owner", False)] == [
        (member["agent_name"], member["role"], member["is_muted"]) for member in members
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "token", "status", "code"),
    [
        ("POST", "/v1/workspaces", {}, None, 400, "invalid_request"),
        ("POST", "/v1/workspaces", b"{", None, 400, "invalid_request"),
        ("POST", "/v1/agents", {"name": "x"}, None, 401, "unauthorized"),
        ("POST", "/v1/agents", {"name": "x"}, "rk_live_" + "0" * 32, 401, "invalid_token"),
        ("POST", "/v1/agents", {"name": "x"}, "nonsense", 401, "invalid_token"),
        ("POST", "/v1/agents", {"name": "x"}, "alice", 403, "workspace_key_required"),
        ("POST", "/v1/channels", {"name": "No"}, "alice", 400, "invalid_channel_name"),
        ("POST", "/v1/channels", {"name": "-no"}, "alice", 400, "invalid_channel_name"),
        ("POST", "/v1/channels", {"name": "general"}, "alice", 409, "channel_already_exists"),
        ("POST", "/v1/channels/none/join", None, "alice", 404, "channel_not_found"),
        ("POST", "/v1/channels/none/messages", {"text": "x"}, "alice", 404, "channel_not_found"),
        ("POST", "/v1/channels/general/messages", {"text": ""}, "alice", 400, "invalid_request"),
        ("POST", "/v1/channels/general/messages", {"mode": "wait"}, "alice", 400, "invalid_request"),
        ("POST", "/v1/channels/general/messages", {"text": "x", "mode": "later"}, "alice", 400, "invalid_request"),
        ("POST", "/v1/channels/general/messages", {"text": "x"}, "KEY", 403, "agent_token_required"),
        ("POST", "/v1/dm", {"to": "nobody", "text": "x"}, "alice", 404, "agent_not_found"),
        ("POST", "/v1/messages/1/reactions", {"emoji": "eyes"}, "alice", 404, "message_not_found"),
        ("POST", "/v1/messages/x/reactions", {"emoji": "eyes"}, "alice", 404, "message_not_found"),
        ("POST", "/v1/messages/1/replies", {"text": "x"}, "alice", 404, "message_not_found"),
        ("POST", "/v1/dm/1/messages", {"text": "x"}, "alice", 404, "conversation_not_found"),
        ("DELETE", "/v1/channels/general", None, "alice", 400, "cannot_archive_general"),
        ("POST", "/v1/agents/nobody/rotate-token", None, "KEY", 404, "agent_not_found"),
        ("GET", "/v1/nothing", None, "alice", 404, "not_found"),
        ("GET", "/v1/ws", None, "alice", 404, "not_found"),
    ],
)
async def test_refusals_have_their_status_and_code(
    w: World, method: str, path: str, body: object, token: str, status: int, code: str
) -> None:
    """`{"ok":false,"error":{"code","message"}}`."""
    reply = await w.call(method, path, body, w.workspace.api_key if token == "KEY" else token)
    assert (status, False, code) == (reply.status, reply.body["ok"], reply.body["error"]["code"])
    assert reply.body["error"]["message"]


async def test_the_same_key_and_body_do_it_once(w: World) -> None:
    """The stored answer comes again, marked, without an event; keys belong to their agent and channel."""
    first = await w.call(
        "POST", "/v1/channels/general/messages", {"text": "once"}, "alice", **{"Idempotency-Key": "k1"}
    )
    pushed = w.relay.ledger.last
    again = await w.call(
        "POST", "/v1/channels/general/messages", {"text": "once"}, "alice", **{"Idempotency-Key": " k1 "}
    )
    assert (201, first.body, "true") == (again.status, again.body, again.headers["Idempotency-Replayed"])
    assert "Idempotency-Replayed" not in first.headers
    assert pushed == w.relay.ledger.last
    other = await w.call(
        "POST", "/v1/channels/general/messages", {"text": "twice"}, "alice", **{"Idempotency-Key": "k1"}
    )
    assert (409, "idempotency_key_reused") == (other.status, other.body["error"]["code"])
    assert (
        201
        == (
            await w.call("POST", "/v1/channels/general/messages", {"text": "twice"}, "bob", **{"Idempotency-Key": "k1"})
        ).status
    )
    w.relay.channel(w.workspace, "other", ["alice"])
    assert (
        201
        == (
            await w.call("POST", "/v1/channels/other/messages", {"text": "twice"}, "alice", **{"Idempotency-Key": "k1"})
        ).status
    )


async def test_a_key_is_forgotten_after_a_day_and_kept_over_a_restart() -> None:
    """24 h by the server's clock."""
    now = [1_800_000_000.0]
    async with world(clock=lambda: now[0]) as w:

        async def post() -> tuple[int, bool]:
            reply = await w.call("POST", "/v1/dm", {"to": "bob", "text": "x"}, "alice", **{"Idempotency-Key": "k"})
            return reply.status, "Idempotency-Replayed" in reply.headers

        assert (201, False) == await post()
        w.relay.restart()
        now[0] += 24 * 3600 - 1
        assert (201, True) == await post()
        now[0] += 1
        assert (201, False) == await post()


async def test_a_key_in_flight_is_refused(w: World) -> None:
    """409 while the first request is not answered; afterwards the stored answer. A lost answer is stored all the same."""
    headers = {"Idempotency-Key": "slow"}
    with w.relay.faults.http_trouble(delay_s=0.2, times=1):
        first = asyncio.create_task(w.call("POST", "/v1/channels/general/messages", {"text": "x"}, "alice", **headers))
        await eventually(lambda: w.relay.in_flight)
        second = await w.call("POST", "/v1/channels/general/messages", {"text": "x"}, "alice", **headers)
        assert (409, "idempotency_in_progress") == (second.status, second.body["error"]["code"])
        assert 201 == (await first).status
    assert (
        "true"
        == (await w.call("POST", "/v1/channels/general/messages", {"text": "x"}, "alice", **headers)).headers[
            "Idempotency-Replayed"
        ]
    )
    with w.relay.faults.http_trouble(lose_answer=True, times=1), pytest.raises(aiohttp.ClientError):
        await w.call("POST", "/v1/channels/general/messages", {"text": "y"}, "alice", **{"Idempotency-Key": "lost"})
    found = await w.call("POST", "/v1/channels/general/messages", {"text": "y"}, "alice", **{"Idempotency-Key": "lost"})
    assert "true" == found.headers["Idempotency-Replayed"]
    assert 2 == len([fact for fact in w.relay.ledger.of(Pushed, "bob") if fact.kind == "message.created"])


@pytest.mark.parametrize("key", ["", "   ", "a b", "k" * 256, "caf\u00e9"])
async def test_keys_are_visible_ascii(w: World, key: str) -> None:
    """1 to 255 characters; anything else is refused and nothing is done."""
    reply = await w.call("POST", "/v1/channels/general/messages", {"text": "x"}, "alice", **{"Idempotency-Key": key})
    assert (400, "invalid_idempotency_key") == (reply.status, reply.body["error"]["code"])
    assert 0 == w.relay.ledger.last


async def test_a_refused_request_does_not_take_its_key(w: World) -> None:
    """The same key works once the reason is gone."""
    for _ in range(2):
        reply = await w.call("POST", "/v1/channels/late/messages", {"text": "x"}, "alice", **{"Idempotency-Key": "k"})
        assert 404 == reply.status
    w.relay.channel(w.workspace, "late", ["alice"])
    assert (
        201
        == (
            await w.call("POST", "/v1/channels/late/messages", {"text": "x"}, "alice", **{"Idempotency-Key": "k"})
        ).status
    )


async def test_history_is_newest_first_and_paged(w: World) -> None:
    """`limit` at most 100 and 50 if not given, `before` and `after` by id, thread replies left out but counted."""
    posted = [w.relay.post("bob", "general", str(index)) for index in range(120)]
    w.relay.reply("alice", posted[-1], "thread")
    w.relay.react("alice", posted[-1], "eyes")

    async def history(query: str) -> list[str]:
        return [
            message["id"]
            for message in (await w.call("GET", f"/v1/channels/general/messages{query}", None, "alice")).body["data"]
        ]

    assert list(reversed(posted))[:50] == await history("")
    assert list(reversed(posted))[:100] == await history("?limit=1000")
    assert list(reversed(posted[:20])) == await history(f"?limit=100&before={posted[20]}")
    assert list(reversed(posted[101:])) == await history(f"?limit=100&after={posted[100]}")
    newest = (await w.call("GET", f"/v1/messages/{posted[-1]}", None, "alice")).body["data"]
    assert (1, [{"emoji": "eyes", "count": 1, "agents": ["alice"]}]) == (newest["reply_count"], newest["reactions"])
    thread = (await w.call("GET", f"/v1/messages/{posted[-1]}/replies", None, "alice")).body["data"]
    assert ["thread"] == [reply["text"] for reply in thread["replies"]]


async def test_everything_an_agent_can_say_reaches_the_others(w: World) -> None:
    """Reply, reaction and its removal, edit, direct and group message, channel changes, mute and leave, each over HTTP."""
    async with w.connected("bob") as bob:
        await bob.until("agent.status.active")

        async def told(*kinds: str) -> None:
            assert sorted(kinds) == sorted([frame["type"] for frame in await bob.take(len(kinds))])

        message = (await w.call("POST", "/v1/channels/general/messages", {"text": "x"}, "alice")).body["data"]["id"]
        await told("message.created", "delivery.accepted")
        assert 201 == (await w.call("POST", f"/v1/messages/{message}/replies", {"text": "re"}, "alice")).status
        await told("thread.reply", "delivery.accepted")
        assert 201 == (await w.call("POST", f"/v1/messages/{message}/reactions", {"emoji": "eyes"}, "alice")).status
        assert 204 == (await w.call("DELETE", f"/v1/messages/{message}/reactions/eyes", None, "alice")).status
        await told("message.reacted", "message.reacted")
        assert 200 == (await w.call("PATCH", f"/v1/messages/{message}", {"text": "y"}, "alice")).status
        assert 403 == (await w.call("PATCH", f"/v1/messages/{message}", {"text": "z"}, "bob")).status
        await told("message.updated")
        direct = await w.call("POST", "/v1/dm", {"to": "bob", "text": "psst"}, "alice")
        assert {"conversation_id", "message", "created_at", "id"} <= set(direct.body["data"])
        await told("dm.received", "delivery.accepted")
        group = (await w.call("POST", "/v1/dm/group", {"participants": ["bob"]}, "alice")).body["data"]["id"]
        assert 201 == (await w.call("POST", f"/v1/dm/{group}/messages", {"text": "all"}, "alice")).status
        await told("group_dm.received", "delivery.accepted")
        assert ["all"] == [
            message["text"] for message in (await w.call("GET", f"/v1/dm/{group}/messages", None, "bob")).body["data"]
        ]
        assert 201 == (await w.call("POST", "/v1/channels", {"name": "side"}, "alice")).status
        await told("channel.created")
        assert 200 == (await w.call("POST", "/v1/channels/side/join", None, "bob")).status
        assert {"muted": True}.items() <= (await w.call("POST", "/v1/channels/side/mute", None, "bob")).body[
            "data"
        ].items()
        assert 200 == (await w.call("POST", "/v1/channels/side/unmute", None, "bob")).status
        assert 200 == (await w.call("PATCH", "/v1/channels/side/topic", {"topic": "t"}, "alice")).status
        assert 204 == (await w.call("DELETE", "/v1/channels/side", None, "alice")).status
        await told(
            "member.joined", "member.channel_muted", "member.channel_unmuted", "channel.updated", "channel.archived"
        )
        archived = await w.call("POST", "/v1/channels/side/join", None, "bob")
        assert (400, "channel_archived") == (archived.status, archived.body["error"]["code"])
        assert 204 == (await w.call("POST", "/v1/channels/side/leave", None, "bob")).status
        await told("member.left")
        assert ["general"] == [
            channel["name"] for channel in (await w.call("GET", "/v1/channels", None, "bob")).body["data"]
        ]
        assert await bob.quiet()


async def test_a_rotated_token_replaces_the_old_one(w: World) -> None:
    """The old one is unknown, over HTTP and at the door."""
    old = w.tokens["alice"]
    new = (await w.call("POST", "/v1/agents/alice/rotate-token", None, w.workspace.api_key)).body["data"]["token"]
    assert 401 == (await w.call("GET", "/v1/agent", None, old)).status
    assert "alice" == (await w.call("GET", "/v1/agent", None, new)).body["data"]["name"]
    assert 401 == (await w.dial(f"/v1/ws?token={old}")).status


async def test_disconnect_closes_all_sockets_of_the_agent(w: World) -> None:
    """With 1000 `force-disconnect`; presence ends; a heartbeat brings it back without a socket."""
    async with w.connected() as one, w.connected() as two, w.connected("bob") as bob:
        await bob.until("agent.status.active")
        reply = await w.call("POST", "/v1/agents/disconnect", {}, "alice")
        assert (200, {"ok": True}) == (reply.status, reply.body)
        for client in (one, two):
            await client.rest()
            assert 1000 == client.socket.close_code
        assert "agent.status.offline" == (await bob.take(1))[0]["type"]
        assert (200, {"ok": True}) == (await w.call("POST", "/v1/agents/heartbeat", {}, "alice"))[:2]
        assert "agent.status.active" == (await bob.take(1))[0]["type"]
        await eventually(lambda: 2 == len(w.relay.ledger.of(Closed, "alice")))
        assert {("closed", "relay", 1000, "force-disconnect")} == {
            (f.how, f.by, f.code, f.reason) for f in w.relay.ledger.of(Closed, "alice")
        }
        agents = (await w.call("GET", "/v1/agents", None, "bob")).body["data"]
        assert {"alice": "online", "bob": "online"} == {agent["name"]: agent["status"] for agent in agents}


async def test_the_servers_date_is_its_own_clocks(w: World) -> None:
    """A clock that is off shows in `Date`, in `created_at` and in ids."""
    with w.relay.faults.clock_off(-7200):
        reply = await w.call("POST", "/v1/channels/general/messages", {"text": "x"}, "alice")
        assert abs(parsedate_to_datetime(reply.headers["Date"]).timestamp() - (w.relay.clock.now_s() - 7200)) < 5
    assert "Server" not in reply.headers
    later = await w.call("POST", "/v1/channels/general/messages", {"text": "x"}, "alice")
    assert reply.body["data"]["created_at"] < later.body["data"]["created_at"]
    assert int(reply.body["data"]["id"]) < int(later.body["data"]["id"])

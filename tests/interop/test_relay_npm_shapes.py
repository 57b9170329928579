"""What the relay says, judged by the real client's own schemas and HTTP client."""

from __future__ import annotations

from typing import Any

from syncwatch.relay import Relay
from tests.interop.npm import npm_client
from tests.interop.scenarios import SENDER, WATCHED, populate


async def test_every_event_passes_the_clients_schema() -> None:
    """Live, out of the ring and out of the database, acknowledgements and pongs; nothing compressed although it was offered."""
    async with Relay.start() as relay:
        token = populate(relay)
        async with npm_client(relay.url, token, mode="schema") as client:
            await client.until_type("frame")
            message = relay.post(SENDER, "general", "hi @watched")
            relay.reply(SENDER, message, "re")
            relay.react(SENDER, message, "eyes")
            relay.unreact(SENDER, message, "eyes")
            relay.react(SENDER, message, "tada")
            direct = relay.dm(SENDER, WATCHED, "psst")
            relay.reply(SENDER, direct, "re")
            group = relay.posting.group(relay.find(SENDER), [WATCHED], "us")["id"]
            relay.posting.dm_in(relay.find(SENDER), int(group), "all")
            relay.posting.edit(relay.find(SENDER), int(message), "edited")
            relay.directory.create_channel(relay.find(SENDER).workspace, "side", "t", {}, None)
            for act in (relay.join, relay.mute, lambda name, channel: relay.mute(name, channel, False), relay.leave):
                act(WATCHED, "side")
            relay.join(WATCHED, "side")
            relay.directory.update_channel(relay.find(SENDER).workspace, "side", "u")
            relay.directory.archive_channel(relay.find(SENDER).workspace, "side")
            relay.hub.heartbeat(relay.find(SENDER))
            relay.hub.absent(relay.find(SENDER))
            client.tell('{"type":"resync","last_seen_seq":-1,"since":"2020-01-01"}')
            await client.until(lambda said: said[-1].get("frame", {}).get("type") == "resync_ack")
            client.tell('{"type":"ping"}')
            await client.until(lambda said: said[-1].get("frame", {}).get("type") == "pong")
            frames = [line for line in client.said if line["type"] == "frame"]
            assert {"type": "open", "extensions": "", "protocol": ""} == client.said[0]
        assert [] == [line for line in frames if not line["valid"]]
        kinds = {line["frame"]["type"] for line in frames}
        assert {
            "message.created",
            "thread.reply",
            "message.reacted",
            "dm.received",
            "group_dm.received",
            "message.updated",
            "delivery.accepted",
            "agent.status.active",
            "agent.status.offline",
            "channel.created",
            "channel.updated",
            "channel.archived",
            "member.joined",
            "member.left",
            "member.channel_muted",
            "member.channel_unmuted",
            "resync_ack",
            "pong",
        } == kinds
        assert {"message.created", "thread.reply", "dm.received", "group_dm.received", "message.reacted"} == {
            line["frame"]["type"] for line in frames if line["frame"].get("replayed") is True
        }


async def test_a_refusal_is_bare_to_npm_too() -> None:
    """Status and `Connection: close`."""
    async with Relay.start() as relay, npm_client(relay.url, "nonsense", mode="schema") as client:
        await client.until_type("refused")
        assert (401, "close") == (client.said[0]["status"], client.said[0]["headers"]["connection"])


async def test_the_sdk_does_over_http_what_its_users_do_first() -> None:
    """From a workspace to a history, through the SDK, the replies judged by its schemas."""
    async with Relay.start() as relay, npm_client(relay.url, mode="rest") as client:
        await client.until_type("done")
        said: dict[str, Any] = {line["type"]: line for line in client.said if line["type"] != "reply"}
        assert {"different": True, "same": True}.items() <= said["agents"].items()
        assert "alice" == said["me"]["name"]
        assert {"same": True, "mentions": ["bob"]}.items() <= said["once"].items()
        assert {"code": "name_conflict", "rawCode": "idempotency_key_reused", "status": 409}.items() <= said[
            "error"
        ].items()
        assert ["hello @bob"] == said["history"]["texts"]
        replies = [line for line in client.said if line["type"] == "reply"]
        assert 9 == len(replies)
        assert [] == [line for line in replies if not line["valid"]]

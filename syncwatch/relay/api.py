"""The paths of the real server's HTTP interface (wire: relaycast §10), one function each.

What a request does is `directory`'s and `posting`'s; how it is read and answered is `call`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from aiohttp import web

from syncwatch.relay.call import Answer, Call, Need, handle

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay

Text = Annotated[str, msgspec.Meta(min_length=1)]


class NameBody(msgspec.Struct):
    """A workspace or agent to create."""

    name: Text
    type: Literal["agent", "human", "system"] = "agent"


class ChannelBody(msgspec.Struct):
    """A channel to create."""

    name: Text
    topic: str | None = None
    metadata: dict[str, Any] = {}


class TopicBody(msgspec.Struct):
    """A channel's new topic."""

    topic: str | None = None


class MessageBody(msgspec.Struct):
    """A message to post."""

    text: Text
    mode: Literal["wait", "steer"] = "wait"
    blocks: list[Any] | None = None
    attachments: list[str] | None = None
    data: dict[str, Any] | None = None


class DmBody(msgspec.Struct):
    """A direct message."""

    to: Text
    text: Text
    mode: Literal["wait", "steer"] = "wait"
    attachments: list[str] | None = None


class GroupBody(msgspec.Struct):
    """A group conversation to open."""

    participants: Annotated[list[str], msgspec.Meta(min_length=1)]
    name: str | None = None


class TextBody(msgspec.Struct):
    """An edit."""

    text: Text


class EmojiBody(msgspec.Struct):
    """A reaction."""

    emoji: Text


# Workspaces, agents, presence


def create_workspace(call: Call) -> Answer:
    """`POST /v1/workspaces`."""
    return Answer(201, call.relay.directory.create_workspace(call.body(NameBody).name))


def get_workspace(call: Call) -> Answer:
    """`GET /v1/workspace`."""
    return Answer(200, {"id": str(call.workspace.id), "name": call.workspace.name})


def create_agent(call: Call) -> Answer:
    """`POST /v1/agents`."""
    body = call.body(NameBody)
    return Answer(201, call.relay.directory.create_agent(call.workspace, body.name, body.type))


def list_agents(call: Call) -> Answer:
    """`GET /v1/agents`."""
    return Answer(200, [call.relay.directory.describe_agent(agent) for agent in call.workspace.agents.values()])


def get_agent(call: Call) -> Answer:
    """`GET /v1/agents/{name}`."""
    return Answer(
        200, call.relay.directory.describe_agent(call.relay.directory.agent(call.workspace, call.part("name")))
    )


def get_me(call: Call) -> Answer:
    """`GET /v1/agent`."""
    return Answer(200, call.relay.directory.describe_agent(call.agent))


def rotate_token(call: Call) -> Answer:
    """`POST /v1/agents/{name}/rotate-token`."""
    return Answer(200, call.relay.directory.rotate_token(call.workspace, call.part("name")))


def heartbeat(call: Call) -> Answer:
    """`POST /v1/agents/heartbeat`."""
    call.relay.hub.heartbeat(call.agent)
    return Answer(200)


def disconnect(call: Call) -> Answer:
    """`POST /v1/agents/disconnect`: all of the agent's sockets, then its presence."""
    call.relay.close_sockets(call.agent.label, 1000, "force-disconnect")
    call.relay.hub.absent(call.agent)
    return Answer(200)


# Channels


def create_channel(call: Call) -> Answer:
    """`POST /v1/channels`."""
    body = call.body(ChannelBody)
    return Answer(
        201, call.relay.directory.create_channel(call.workspace, body.name, body.topic, body.metadata, call.maybe_agent)
    )


def list_channels(call: Call) -> Answer:
    """`GET /v1/channels`."""
    told = [call.relay.directory.describe_channel(channel) for channel in call.workspace.channels.values()]
    every = call.request.query.get("include_archived") == "true"
    return Answer(200, [channel for channel in told if every or not channel["is_archived"]])


def get_channel(call: Call) -> Answer:
    """`GET /v1/channels/{name}`."""
    return Answer(200, call.relay.directory.describe_channel(call.channel, members=True))


def update_channel(call: Call) -> Answer:
    """`PATCH /v1/channels/{name}`."""
    return Answer(
        200, call.relay.directory.update_channel(call.workspace, call.part("name"), call.body(TopicBody).topic)
    )


def archive_channel(call: Call) -> Answer:
    """`DELETE /v1/channels/{name}`."""
    call.relay.directory.archive_channel(call.workspace, call.part("name"))
    return Answer(204)


def list_members(call: Call) -> Answer:
    """`GET /v1/channels/{name}/members`."""
    return Answer(200, call.relay.directory.list_members(call.channel))


def join(call: Call) -> Answer:
    """`POST /v1/channels/{name}/join`."""
    return Answer(200, call.relay.directory.join(call.agent, call.part("name")))


def leave(call: Call) -> Answer:
    """`POST /v1/channels/{name}/leave`."""
    call.relay.directory.leave(call.agent, call.part("name"))
    return Answer(204)


def mute(call: Call) -> Answer:
    """`POST /v1/channels/{name}/mute`."""
    return Answer(200, call.relay.directory.mute(call.agent, call.part("name"), True))


def unmute(call: Call) -> Answer:
    """`POST /v1/channels/{name}/unmute`."""
    return Answer(200, call.relay.directory.mute(call.agent, call.part("name"), False))


# Messages


def post_message(call: Call) -> Answer:
    """`POST /v1/channels/{name}/messages`."""
    body = call.body(MessageBody)
    call.idempotency_key()
    channel, agent = call.channel, call.agent
    return call.once(
        f"channel-message:{channel.id}",
        body,
        201,
        lambda: call.relay.posting.post(agent, channel, body.text, body.mode, body.blocks, body.data),
    )


def list_messages(call: Call) -> Answer:
    """`GET /v1/channels/{name}/messages`."""
    return Answer(200, call.relay.posting.channel_history(call.channel, *call.window()))


def get_message(call: Call) -> Answer:
    """`GET /v1/messages/{id}`."""
    return Answer(200, call.relay.posting.describe(call.relay.posting.message(call.workspace, call.ident())))


def edit_message(call: Call) -> Answer:
    """`PATCH /v1/messages/{id}`."""
    return Answer(200, call.relay.posting.edit(call.agent, call.ident(), call.body(TextBody).text))


def post_reply(call: Call) -> Answer:
    """`POST /v1/messages/{id}/replies`."""
    body, agent, parent = call.body(MessageBody), call.agent, call.ident()
    return call.once(
        f"thread-reply:{parent}", body, 201, lambda: call.relay.posting.reply(agent, parent, body.text, body.blocks)
    )


def get_thread(call: Call) -> Answer:
    """`GET /v1/messages/{id}/replies`."""
    return Answer(200, call.relay.posting.thread(call.workspace, call.ident(), *call.window()))


def add_reaction(call: Call) -> Answer:
    """`POST /v1/messages/{id}/reactions`."""
    return Answer(201, call.relay.posting.react(call.agent, call.ident(), call.body(EmojiBody).emoji))


def remove_reaction(call: Call) -> Answer:
    """`DELETE /v1/messages/{id}/reactions/{emoji}`."""
    call.relay.posting.unreact(call.agent, call.ident(), call.part("emoji"))
    return Answer(204)


def post_dm(call: Call) -> Answer:
    """`POST /v1/dm`."""
    body, agent = call.body(DmBody), call.agent
    return call.once("dm:direct", body, 201, lambda: call.relay.posting.dm(agent, body.to, body.text, body.mode))


def create_group(call: Call) -> Answer:
    """`POST /v1/dm/group`."""
    body = call.body(GroupBody)
    return Answer(201, call.relay.posting.group(call.agent, body.participants, body.name))


def post_in_conversation(call: Call) -> Answer:
    """`POST /v1/dm/{id}/messages`."""
    body, agent, ident = call.body(MessageBody), call.agent, call.ident("conversation")
    return call.once(
        f"dm-group-message:{ident}", body, 201, lambda: call.relay.posting.dm_in(agent, ident, body.text, body.mode)
    )


def list_conversation(call: Call) -> Answer:
    """`GET /v1/dm/{id}/messages`."""
    return Answer(200, call.relay.posting.conversation_history(call.agent, call.ident("conversation"), *call.window()))


ROUTES: tuple[tuple[str, str, Need, Callable[[Call], Answer]], ...] = (
    ("POST", "/v1/workspaces", "nobody", create_workspace),
    ("GET", "/v1/workspace", "any", get_workspace),
    ("POST", "/v1/agents", "workspace", create_agent),
    ("GET", "/v1/agents", "any", list_agents),
    ("POST", "/v1/agents/heartbeat", "agent", heartbeat),
    ("POST", "/v1/agents/disconnect", "agent", disconnect),
    ("GET", "/v1/agents/{name}", "any", get_agent),
    ("POST", "/v1/agents/{name}/rotate-token", "workspace", rotate_token),
    ("GET", "/v1/agent", "agent", get_me),
    ("POST", "/v1/channels", "any", create_channel),
    ("GET", "/v1/channels", "any", list_channels),
    ("GET", "/v1/channels/{name}", "any", get_channel),
    ("PATCH", "/v1/channels/{name}", "any", update_channel),
    ("PATCH", "/v1/channels/{name}/topic", "any", update_channel),
    ("DELETE", "/v1/channels/{name}", "any", archive_channel),
    ("GET", "/v1/channels/{name}/members", "any", list_members),
    ("POST", "/v1/channels/{name}/join", "agent", join),
    ("POST", "/v1/channels/{name}/leave", "agent", leave),
    ("POST", "/v1/channels/{name}/mute", "agent", mute),
    ("POST", "/v1/channels/{name}/unmute", "agent", unmute),
    # The poster is looked at last, so that a workspace key learns of a bad body or channel first.
    ("POST", "/v1/channels/{name}/messages", "any", post_message),
    ("GET", "/v1/channels/{name}/messages", "any", list_messages),
    ("GET", "/v1/messages/{id}", "any", get_message),
    ("PATCH", "/v1/messages/{id}", "agent", edit_message),
    ("POST", "/v1/messages/{id}/replies", "any", post_reply),
    ("GET", "/v1/messages/{id}/replies", "any", get_thread),
    ("POST", "/v1/messages/{id}/reactions", "agent", add_reaction),
    ("DELETE", "/v1/messages/{id}/reactions/{emoji}", "agent", remove_reaction),
    ("POST", "/v1/dm", "agent", post_dm),
    ("POST", "/v1/dm/group", "agent", create_group),
    ("POST", "/v1/dm/{id}/messages", "agent", post_in_conversation),
    ("GET", "/v1/dm/{id}/messages", "agent", list_conversation),
)


def add_routes(app: web.Application, relay: Relay) -> None:
    """Put the interface into an application."""

    def route(need: Need, function: Callable[[Call], Answer]) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            return await handle(relay, request, need, function)

        return answer

    for method, path, need, function in ROUTES:
        app.router.add_route(method, path, route(need, function))

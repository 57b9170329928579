"""What agents say: messages, replies, direct messages, reactions, edits, history (wire: relaycast §3, §4, §10).

A row first, then the events. Replies are what the API's `data` holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from syncwatch.relay import events
from syncwatch.relay.directory import ApiError, Directory, second
from syncwatch.relay.events import Event
from syncwatch.relay.state import Agent, Channel, Workspace
from syncwatch.relay.store import MessageRow, Store

_MENTION = re.compile(r"@(\w+)")
MAX_LIMIT = 100


class Posting:
    """Saying things."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.store: Store = directory.store
        self.hub = directory.hub

    # Channel messages

    def post(
        self,
        agent: Agent,
        channel: Channel,
        text: str,
        mode: str = "wait",
        blocks: list[Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Post to a channel."""
        row = self._insert(agent, text, channel=channel, mode=mode, blocks=blocks, metadata=metadata)
        mentions = _MENTION.findall(text)
        self.hub.post(
            channel, events.message_created(row), self._channel_deliveries(row, channel, mentions), agent.workspace
        )
        return self._reply(row) | {"mentions": mentions, "attachments": [], "injection_mode": mode}

    def reply(self, agent: Agent, parent_id: int, text: str, blocks: list[Any] | None = None) -> dict[str, Any]:
        """Reply in the thread of a message; in a conversation the event has no channel number."""
        parent = self.message(agent.workspace, parent_id)
        if parent.conversation_id is not None:
            row = self._insert(agent, text, conversation_id=parent.conversation_id, thread_id=parent.id, blocks=blocks)
            participants = self.participants(parent.conversation_id)
            live = row._replace(channel=f"dm-{parent.conversation_id}")
            self.hub.direct(
                participants, events.thread_reply(live), self._deliveries(row, participants, "dm"), agent.workspace
            )
        else:
            channel = agent.workspace.channels[parent.channel or ""]
            row = self._insert(agent, text, channel=channel, thread_id=parent.id, blocks=blocks)
            deliveries = self._channel_deliveries(row, channel, _MENTION.findall(text))
            self.hub.post(channel, events.thread_reply(row), deliveries, agent.workspace)
        return self._reply(row)

    def edit(self, agent: Agent, message_id: int, text: str) -> dict[str, Any]:
        """Change one's own channel message; members are told."""
        row = self.message(agent.workspace, message_id)
        if row.agent_id != agent.id:
            raise ApiError(403, "not_message_owner", "Only the author can edit a message")
        self.store.run(
            "UPDATE messages SET text = ?, updated_at = ? WHERE id = ?", text, self.directory.now_s(), message_id
        )
        row = row._replace(text=text)
        if row.channel is not None:
            self.hub.broadcast(agent.workspace.channels[row.channel], events.message_updated(row), agent.workspace)
        return self._reply(row)

    # Direct messages

    def dm(self, agent: Agent, to: str, text: str, mode: str = "wait") -> dict[str, Any]:
        """Write to another agent, or to `@self`.

        Raises:
            ApiError: 404 `agent_not_found`.
        """
        other = agent if to == "@self" else self.directory.agent(agent.workspace, to.removeprefix("@"))
        pair = f"{agent.workspace.id}:{min(agent.id, other.id)}:{max(agent.id, other.id)}"
        found = self.store.row("SELECT id FROM conversations WHERE pair = ?", pair)
        conversation_id: int = (
            found[0] if found else self._converse(agent.workspace, "1:1", None, pair, {agent.id: None, other.id: None})
        )
        return self.dm_in(agent, conversation_id, text, mode)

    def group(self, agent: Agent, names: Iterable[str], name: str | None) -> dict[str, Any]:
        """Open a group conversation with its creator in it."""
        members = {agent.id: None} | {self.directory.agent(agent.workspace, other).id: None for other in names}
        conversation_id = self._converse(agent.workspace, "group", name, None, members)
        return {
            "id": str(conversation_id),
            "channel_id": str(conversation_id),
            "dm_type": "group",
            "name": name,
            "participants": [{"agent_id": str(ident)} for ident in members],
            "created_at": second(self.directory.now_s()),
        }

    def _converse(
        self, workspace: Workspace, kind: str, name: str | None, pair: str | None, members: dict[int, None]
    ) -> int:
        ident = self.directory.snowflakes.next()
        self.store.add_conversation(ident, workspace.id, kind, name, pair, self.directory.now_s(), members)
        return ident

    def dm_in(self, agent: Agent, conversation_id: int, text: str, mode: str = "wait") -> dict[str, Any]:
        """Write into a conversation one takes part in."""
        group = self._conversation_kind(agent, conversation_id) == "group"
        row = self._insert(agent, text, conversation_id=conversation_id, mode=mode)
        participants = self.participants(conversation_id)
        self.hub.direct(
            participants,
            events.dm_received(row, group=group),
            self._deliveries(row, participants, "dm"),
            agent.workspace,
        )
        message = {
            "id": str(row.id),
            "agent_id": str(agent.id),
            "agent_name": agent.name,
            "text": text,
            "injection_mode": mode,
        }
        return {
            "conversation_id": str(conversation_id),
            "message": message,
            "created_at": second(row.created_at),
            "id": str(row.id),
            "text": text,
        }

    def _conversation_kind(self, agent: Agent, conversation_id: int) -> str:
        found = self.store.row(
            "SELECT kind FROM conversations WHERE id = ? AND workspace_id = ?", conversation_id, agent.workspace.id
        )
        if found is None:
            raise ApiError(404, "conversation_not_found", "Conversation not found")
        if agent.id not in self.store.participants(conversation_id):
            raise ApiError(403, "not_a_participant", "Only participants can use a conversation")
        return str(found[0])

    def participants(self, conversation_id: int) -> list[Agent]:
        """Who takes part in a conversation."""
        return [self.directory.agent_by_id(ident) for ident in self.store.participants(conversation_id)]

    # Reactions

    def react(self, agent: Agent, message_id: int, emoji: str) -> dict[str, Any]:
        """Add a reaction; adding it again changes nothing but is told again."""
        row = self.message(agent.workspace, message_id)
        sql = "INSERT OR IGNORE INTO reactions VALUES (?, ?, ?, ?, ?)"
        self.store.run(sql, self.directory.snowflakes.next(), message_id, agent.id, emoji, self.directory.now_s())
        sql = "SELECT id, created_at FROM reactions WHERE message_id = ? AND agent_id = ? AND emoji = ?"
        ident, created_at = self.store.row(sql, message_id, agent.id, emoji)
        self._tell_of(row, events.message_reacted(message_id, emoji, agent.name, "added"), agent.workspace)
        return {
            "id": str(ident),
            "message_id": str(message_id),
            "agent_id": str(agent.id),
            "agent_name": agent.name,
            "emoji": emoji,
            "created_at": second(created_at),
        }

    def unreact(self, agent: Agent, message_id: int, emoji: str) -> None:
        """Remove one's own reaction."""
        row = self.message(agent.workspace, message_id)
        self.store.run(
            "DELETE FROM reactions WHERE message_id = ? AND agent_id = ? AND emoji = ?", message_id, agent.id, emoji
        )
        self._tell_of(row, events.message_reacted(message_id, emoji, agent.name, "removed"), agent.workspace)

    def _tell_of(self, row: MessageRow, event: Event, workspace: Workspace) -> None:
        if row.channel is not None:
            self.hub.broadcast(workspace.channels[row.channel], event, workspace)
        elif row.conversation_id is not None:
            self.hub.direct(self.participants(row.conversation_id), event, (), workspace)

    # Reading

    def message(self, workspace: Workspace, ident: int) -> MessageRow:
        """One message.

        Raises:
            ApiError: 404 `message_not_found`.
        """
        row = self.store.message(ident, workspace.id)
        if row is None:
            raise ApiError(404, "message_not_found", "Message not found")
        return row

    def channel_history(
        self, channel: Channel, limit: int, before: int | None, after: int | None
    ) -> list[dict[str, Any]]:
        """A channel's messages, newest first, thread replies left out."""
        return [self.describe(row) for row in self.store.history("channel_id", channel.id, limit, before, after)]

    def thread(
        self, workspace: Workspace, parent_id: int, limit: int, before: int | None, after: int | None
    ) -> dict[str, Any]:
        """A message and its replies, oldest first."""
        parent = self.message(workspace, parent_id)
        rows = self.store.history("thread_id", parent_id, limit, before, after, threads=True)
        return {"parent": self.describe(parent), "replies": [self.describe(row) for row in reversed(rows)]}

    def conversation_history(
        self, agent: Agent, conversation_id: int, limit: int, before: int | None, after: int | None
    ) -> list[dict[str, Any]]:
        """A conversation's messages, newest first."""
        self._conversation_kind(agent, conversation_id)
        return [
            self.describe(row) for row in self.store.history("conversation_id", conversation_id, limit, before, after)
        ]

    def describe(self, row: MessageRow) -> dict[str, Any]:
        """A message as histories show it."""
        groups: dict[str, list[str]] = {}
        for emoji, name in self.store.reactions(row.id):
            groups.setdefault(emoji, []).append(name)
        return self._reply(row) | {
            "attachments": [],
            "reply_count": self.store.row("SELECT count(*) FROM messages WHERE thread_id = ?", row.id)[0],
            "reactions": [{"emoji": emoji, "count": len(names), "agents": names} for emoji, names in groups.items()],
            "read_by_count": 0,
        }

    # Rows

    def _insert(
        self,
        agent: Agent,
        text: str,
        *,
        channel: Channel | None = None,
        conversation_id: int | None = None,
        thread_id: int | None = None,
        mode: str = "wait",
        blocks: list[Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> MessageRow:
        row = MessageRow(
            self.directory.snowflakes.next(),
            agent.workspace.id,
            channel.id if channel else None,
            conversation_id,
            agent.id,
            thread_id,
            text,
            msgspec.json.encode(blocks).decode() if blocks else None,
            msgspec.json.encode(metadata or {}).decode(),
            mode,
            self.directory.now_s(),
            None,
            agent.name,
            channel.name if channel else None,
        )
        self.store.add_message(*row[:11])
        return row

    def _channel_deliveries(self, row: MessageRow, channel: Channel, mentions: list[str]) -> list[tuple[Agent, Event]]:
        """One per member except the sender; muting does not spare it."""
        return [
            (
                agent,
                events.delivery_accepted(
                    self.directory.snowflakes.next(),
                    row.id,
                    channel.id,
                    "mention" if agent.name in mentions else "message",
                ),
            )
            for agent in channel.members.values()
            if agent.id != row.agent_id
        ]

    def _deliveries(self, row: MessageRow, recipients: Iterable[Agent], reason: str) -> list[tuple[Agent, Event]]:
        return [
            (agent, events.delivery_accepted(self.directory.snowflakes.next(), row.id, None, reason))
            for agent in recipients
            if agent.id != row.agent_id
        ]

    def _reply(self, row: MessageRow) -> dict[str, Any]:
        return {
            "id": str(row.id),
            "channel_id": str(row.channel_id or row.conversation_id),
            "agent_id": str(row.agent_id),
            "agent_name": row.agent_name,
            "text": row.text,
            "blocks": msgspec.json.decode(row.blocks) if row.blocks else None,
            "metadata": msgspec.json.decode(row.metadata),
            "has_attachments": False,
            "thread_id": str(row.thread_id) if row.thread_id else None,
            "created_at": second(row.created_at),
        }

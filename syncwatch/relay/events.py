"""What the server says about something that happened: event envelopes without their stamps (wire: relaycast §3).

An event is encoded once. Its stamps (`channel_seq`, `agent_seq`, `replayed`) are appended per recipient, so that one
message to a hundred members costs one encoding. Key order is the real server's.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from syncwatch.relay.ids import event_id

_encode = msgspec.json.encode


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event without stamps; `body` is its JSON text without the closing brace."""

    kind: str
    key: str
    body: bytes

    def plain(self) -> bytes:
        """For workspace sockets: no stamps at all."""
        return self.body + b"}"

    def stamped(self, number: int, channel_seq: int | None) -> bytes:
        """For an agent's sockets and its ring."""
        if channel_seq is None:
            return b'%b,"agent_seq":%d}' % (self.body, number)
        return b'%b,"channel_seq":%d,"agent_seq":%d}' % (self.body, channel_seq, number)

    def replayed(self) -> bytes:
        """For a replay out of the database."""
        return self.body + b',"replayed":true}'


class Frame(msgspec.Struct, frozen=True, gc=False):
    """An event as pushed to one agent: its number and the exact text every socket and the ring get."""

    number: int
    kind: str
    key: str
    payload: bytes


def event(fields: dict[str, Any], key: str | None = None) -> Event:
    """Encode `fields`, which must have a `type`. Without a key of its own, the key is a digest of the content."""
    body = _encode(fields)[:-1]
    return Event(fields["type"], key or "#" + hashlib.blake2b(body, digest_size=8).hexdigest(), body)


def _message(row: Any) -> dict[str, Any]:
    return {"id": str(row.id), "agent_id": str(row.agent_id), "agent_name": row.agent_name, "text": row.text}


def message_created(row: Any, *, replayed: bool = False) -> Event:
    """A channel message. A row out of the database has lost its injection mode and its attachments."""
    key = event_id(str(row.id))
    message = _message(row) | {"attachments": []}
    if not replayed:
        message["injection_mode"] = row.mode
    return event({"id": key, "type": "message.created", "channel": row.channel, "message": message}, key)


def thread_reply(row: Any) -> Event:
    """A reply in a thread, the same live and replayed."""
    key = event_id(str(row.id))
    fields = {
        "id": key,
        "type": "thread.reply",
        "channel": row.channel,
        "parent_id": str(row.thread_id),
        "message": _message(row),
    }
    return event(fields, key)


def dm_received(row: Any, *, group: bool, replayed: bool = False) -> Event:
    """A direct message; a reply inside a conversation is replayed as one too (wire: relaycast §5)."""
    key = event_id(str(row.id))
    message = _message(row)
    if not replayed:
        message["injection_mode"] = row.mode
    kind = "group_dm.received" if group else "dm.received"
    return event({"id": key, "type": kind, "conversation_id": str(row.conversation_id), "message": message}, key)


def message_updated(row: Any) -> Event:
    """An edit of a channel message."""
    return event({"type": "message.updated", "channel": row.channel, "message": _message(row)})


def message_reacted(message_id: int, emoji: str, agent_name: str, action: str) -> Event:
    """A reaction `added` or `removed`; it has no id of its own."""
    fields = {
        "type": "message.reacted",
        "message_id": str(message_id),
        "emoji": emoji,
        "agent_name": agent_name,
        "action": action,
    }
    return event(fields)


def delivery_accepted(delivery: int, message_id: int, channel_id: int | None, reason: str) -> Event:
    """What a recipient learns about its own delivery; known by its delivery id."""
    key = f"del_{delivery}"
    fields = {"type": "delivery.accepted", "delivery_id": key, "message_id": str(message_id)}
    if channel_id is not None:
        fields["channel_id"] = str(channel_id)
    return event(fields | {"reason": reason}, key)


def presence(agent_id: int, name: str, status: str, timestamp: str) -> Event:
    """An agent came (`active`) or went (`offline`); the only event with a time of its own."""
    return event(
        {
            "type": f"agent.status.{status}",
            "agent": {"name": name},
            "agent_name": name,
            "status": status,
            "subject_agent_id": str(agent_id),
            "timestamp": timestamp,
        }
    )


def channel_created(name: str, topic: str | None) -> Event:
    """A channel was created."""
    return event({"type": "channel.created", "channel": {"name": name, "topic": topic}})


def channel_updated(name: str, topic: str | None) -> Event:
    """A channel's topic changed."""
    return event({"type": "channel.updated", "channel": {"name": name, "topic": topic}})


def channel_archived(name: str) -> Event:
    """A channel was archived."""
    return event({"type": "channel.archived", "channel": {"name": name}})


def member(kind: str, channel: str, agent_name: str) -> Event:
    """`joined`, `left`, `channel_muted` or `channel_unmuted`."""
    return event({"type": f"member.{kind}", "channel": channel, "agent_name": agent_name})

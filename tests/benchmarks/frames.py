"""The traffic that every client gets: the same bytes, in the shapes that a Relaycast server sends and the npm client validates.

What belongs here: frames as bytes. There are two streams. `messages` is what the targets are about: channel messages only, each with the UUID that
the client's schema wants. `mixed` is what an agent in a busy channel gets (wire: relaycast §3.1): each post brings `delivery.accepted` and
`message.created`, and one event in five is something else.
"""

from __future__ import annotations

import struct
import uuid
from typing import Any

import msgspec

EPOCH_MS = 1_735_689_600_000
START_MS = 1_780_000_000_000  # some moment in 2026; the same in every run
STEP_MS = 10  # as at 100 events a second
AGENT = str((START_MS - 86_400_000 - EPOCH_MS) << 22)
NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
TEXT = (
    "Read the design once more before touching the ledger: the cursor is the highest contiguous number, and it moves over a hole "
    "only when a resync has settled. I have pushed the fix for the reconnect path; the simulation is green for two thousand seeds, "
    "and the one that failed yesterday replays clean. Could somebody look at the alert rules while I write the release notes?"
)
CYCLE = 20  # so many events until the pattern of the mixed stream repeats

Fields = dict[str, Any]


def snowflake(number: int, worker: int) -> str:
    """The id of what happened with event `number`: its time is inside (§3.3)."""
    return str((START_MS + number * STEP_MS - EPOCH_MS) << 22 | worker << 12)


def text(number: int) -> str:
    """What an agent says: 20 to 300 characters, one in ten not plain ASCII."""
    words = TEXT[: 20 + number * 37 % 281]
    return f"{words} – naïve?" if number % 10 == 1 else words


def message(number: int) -> Fields:
    """A channel message."""
    message_id = snowflake(number, 1)
    said = {"id": message_id, "agent_id": AGENT, "agent_name": "alice", "text": text(number), "attachments": [], "injection_mode": "wait"}
    identity = str(uuid.uuid5(NAMESPACE, message_id))
    return {"id": identity, "type": "message.created", "channel": "general", "message": said, "channel_seq": number}


def mixed(number: int) -> Fields:
    """Event `number` of a busy agent's stream."""
    place = number % CYCLE
    if place == 4:
        at = f"2026-05-28T20:{number // 6000 % 60:02}:{number // 100 % 60:02}.{number * STEP_MS % 1000:03}Z"
        name = f"agent-{number % 7}"
        return {"type": "agent.status.active", "agent": {"name": name}, "agent_name": name, "status": "active",
                "subject_agent_id": AGENT, "timestamp": at}  # fmt: skip
    if place == 5:
        return {"type": "message.reacted", "message_id": snowflake(number - 4, 1), "emoji": "eyes", "agent_name": "alice", "action": "added"}
    if place % 2 == 0:  # its message is the next event
        return {"type": "delivery.accepted", "delivery_id": f"del_{snowflake(number, 2)}", "message_id": snowflake(number + 1, 1),
                "channel_id": AGENT, "reason": "message"}  # fmt: skip
    posted = message(number)
    said = {name: posted["message"][name] for name in ("id", "agent_id", "agent_name", "text")}
    if place == 9:
        return {**posted, "type": "thread.reply", "parent_id": snowflake(number - 6, 1), "message": said}
    if place == 15:
        return {"id": posted["id"], "type": "dm.received", "conversation_id": AGENT, "message": {**said, "injection_mode": "wait"}}
    return posted


STREAMS = {"messages": message, "mixed": mixed}


def websocket_frame(data: bytes, opcode: int = 0x1) -> bytes:
    """One final frame from a server (RFC 6455 section 5.2)."""
    size = len(data)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, size) + data
    if size < 65_536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + data
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + data


class Stream:
    """Frames 1 to `count` of a stream, stamped and ready for the socket."""

    def __init__(self, name: str, count: int) -> None:
        event = STREAMS[name]
        buffer, ends = bytearray(), [0]
        for number in range(1, count + 1):
            buffer += websocket_frame(msgspec.json.encode({**event(number), "agent_seq": number}))
            ends.append(len(buffer))
        self._view = memoryview(bytes(buffer))
        self._ends = ends

    def part(self, first: int, last: int) -> memoryview:
        """The bytes of frames first..last."""
        return self._view[self._ends[first - 1] : self._ends[last]]

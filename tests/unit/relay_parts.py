"""The relay's parts for unit tests. Only doubles belong here.

A steered clock, a collecting sink, a transport that keeps what is written.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import msgspec

from syncwatch.relay.clock import ServerClock
from syncwatch.relay.connection import Connection
from syncwatch.relay.directory import Directory
from syncwatch.relay.events import Event, Frame, event
from syncwatch.relay.faults import Faults
from syncwatch.relay.ledger import Ledger
from syncwatch.relay.posting import Posting
from syncwatch.relay.state import Agent, Hub, Workspace
from syncwatch.relay.store import Store


class Collecting:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.streamed: list[dict[str, Any]] = []

    def live(self, frame: Frame) -> None:
        """Keep an agent's event."""
        self.frames.append(msgspec.json.decode(frame.payload))

    def stream(self, event: Event) -> None:
        """Keep a workspace's event."""
        self.streamed.append(msgspec.json.decode(event.plain()))

    @property
    def kinds(self) -> list[str]:
        """Types in order."""
        return [frame["type"] for frame in self.frames]

    @property
    def numbers(self) -> list[int]:
        """`agent_seq` in order."""
        return [frame["agent_seq"] for frame in self.frames]


class Parts:
    """Store, hub, directory and posting on one steered clock, without a server."""

    def __init__(self, at_s: float = 1_800_000_000.0, path: str = ":memory:") -> None:
        self.at_s = at_s
        self.clock = ServerClock(lambda: self.at_s)
        self.ledger = Ledger(lambda: self.at_s)
        self.faults = Faults(self.ledger)
        self.hub = Hub(self.ledger, self.clock)
        self.store = Store(path)
        self.directory = Directory(self.store, self.hub, self.clock)
        self.posting = Posting(self.directory)

    def workspace(self, *names: str) -> Workspace:
        """A workspace with agents, all members of `general` in this order."""
        workspace = self.hub.workspaces[int(self.directory.create_workspace("w")["workspace_id"])]
        for name in names:
            self.directory.create_agent(workspace, name)
        return workspace

    def agent(self, name: str) -> Agent:
        """An agent by name."""
        return next(agent for agent in self.hub.agents() if agent.name == name)

    def post(self, name: str, text: str, channel: str = "general") -> int:
        """Post to a channel; the message's id."""
        agent = self.agent(name)
        return int(self.posting.post(agent, agent.workspace.channels[channel], text)["id"])

    def fill(self, name: str, count: int) -> None:
        """Push this many events to an agent."""
        for index in range(count):
            self.hub.push(self.agent(name), event({"type": "test", "index": index}))

    def connection(self, name: str, transport: Transport) -> Connection:
        """A connection of an agent on a transport, not attached."""
        agent = self.agent(name)
        return Connection(1, transport, agent, agent.workspace, self.hub, self.faults)


class Transport(asyncio.Transport):
    """A transport that keeps what is written; `stuck` makes it keep everything in its buffer."""

    def __init__(self, stuck: bool = False, plain: socket.socket | None = None) -> None:
        super().__init__({"socket": plain})
        self.data = b""
        self.stuck = stuck
        self.eof = False
        self._closing = False
        self._reading = True

    def write(self, data: Any) -> None:
        """Keep."""
        self.data += bytes(data)

    def get_write_buffer_size(self) -> int:
        """Everything if stuck, else nothing."""
        return len(self.data) if self.stuck else 0

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing

    def close(self) -> None:
        """Close."""
        self._closing = True

    def abort(self) -> None:
        """Close."""
        self._closing = True

    def write_eof(self) -> None:
        """End the outgoing side."""
        self.eof = True

    def pause_reading(self) -> None:
        """Stop reading."""
        self._reading = False

    def resume_reading(self) -> None:
        """Read again."""
        self._reading = True

    def is_reading(self) -> bool:
        """Whether it reads."""
        return self._reading

    def frames(self) -> list[tuple[int, bytes]]:
        """Opcode and payload of each frame written."""
        found, data = [], self.data
        while data:
            opcode, size, start = data[0] & 0x0F, data[1], 2
            if size == 126:
                size, start = struct.unpack_from("!H", data, 2)[0], 4
            elif size == 127:
                size, start = struct.unpack_from("!Q", data, 2)[0], 10
            found.append((opcode, data[start : start + size]))
            data = data[start + size :]
        return found

    def said(self) -> list[dict[str, Any]]:
        """The text frames, decoded."""
        return [msgspec.json.decode(payload) for opcode, payload in self.frames() if opcode == 1]

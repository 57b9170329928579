"""Who exists: workspaces, agents and their tokens, channels and their members (wire: relaycast §10).

Rows are the truth; what the delivery rules need of them is kept in memory beside them. What cannot be done is an
`ApiError` with the API's code.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from syncwatch.relay import events, ids
from syncwatch.relay.clock import ServerClock, iso
from syncwatch.relay.state import Agent, Channel, Hub, Workspace
from syncwatch.relay.store import Store

_CHANNEL_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class ApiError(Exception):
    """What the API answers instead of doing it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def second(at_s: int) -> str:
    """A whole second as replies carry it."""
    return iso(float(at_s))


class Directory:
    """Workspaces, agents, channels."""

    def __init__(self, store: Store, hub: Hub, clock: ServerClock) -> None:
        self.store = store
        self.hub = hub
        self.clock = clock
        self.snowflakes = ids.Snowflakes(clock.server_s, last=store.last_id())
        self._by_token: dict[str, Agent] = {}
        self._by_key: dict[str, Workspace] = {}
        self._by_id: dict[int, Agent] = {}
        self._labels: set[str] = set()
        self._load()

    def now_s(self) -> int:
        """The whole second a row made now gets."""
        return int(self.clock.server_s())

    def _load(self) -> None:
        """Take up what an earlier process left in the database."""
        for ident, name, key_hash in self.store.rows("SELECT id, name, key_hash FROM workspaces ORDER BY id"):
            self._by_key[key_hash] = self.hub.workspaces[ident] = Workspace(ident, name)
        for ident, workspace_id, name, token_hash in self.store.rows(
            "SELECT id, workspace_id, name, token_hash FROM agents ORDER BY id"
        ):
            self._by_token[token_hash] = self._take_up(ident, name, self.hub.workspaces[workspace_id])
        for ident, workspace_id, name in self.store.rows("SELECT id, workspace_id, name FROM channels ORDER BY id"):
            channel = self.hub.workspaces[workspace_id].channels[name] = Channel(ident, name)
            for agent_id, _role, _joined_at, muted in self.store.members(ident):
                channel.members[agent_id] = self._by_id[agent_id]
                if muted:
                    channel.muted.add(agent_id)

    def label(self, name: str, workspace: Workspace) -> str:
        """A label that nobody has yet: the name, with the workspace before it where somebody has that already."""
        label = name if name not in self._labels else f"{workspace.name}/{name}"
        if label in self._labels:
            label = f"{workspace.id}/{name}"
        self._labels.add(label)
        return label

    def _take_up(self, ident: int, name: str, workspace: Workspace) -> Agent:
        label = self.label(name, workspace)
        agent = workspace.agents[name] = self._by_id[ident] = Agent(ident, name, label, workspace)
        return agent

    # Finding

    def workspace_by_key(self, key: str) -> Workspace | None:
        """The workspace a key opens."""
        return self._by_key.get(ids.token_hash(key))

    def agent_by_token(self, token: str) -> Agent | None:
        """The agent a token belongs to."""
        return self._by_token.get(ids.token_hash(token))

    def agent_by_id(self, ident: int) -> Agent:
        """An agent that a row names."""
        return self._by_id[ident]

    def agent(self, workspace: Workspace, name: str) -> Agent:
        """An agent by name.

        Raises:
            ApiError: 404 `agent_not_found`.
        """
        found = workspace.agents.get(name)
        if found is None:
            raise ApiError(404, "agent_not_found", f'Agent "{name}" not found')
        return found

    def channel(self, workspace: Workspace, name: str) -> Channel:
        """A channel by name.

        Raises:
            ApiError: 404 `channel_not_found`.
        """
        found = workspace.channels.get(name)
        if found is None:
            raise ApiError(404, "channel_not_found", f'Channel "{name}" not found')
        return found

    # Workspaces and agents

    def create_workspace(self, name: str) -> dict[str, Any]:
        """Create a workspace with its channel `general`; the reply has its key."""
        key, ident, now_s = ids.new_token("rk"), self.snowflakes.next(), self.now_s()
        self.store.run("INSERT INTO workspaces VALUES (?, ?, ?, ?)", ident, name, ids.token_hash(key), now_s)
        workspace = self.hub.workspaces[ident] = self._by_key[ids.token_hash(key)] = Workspace(ident, name)
        self._add_channel(workspace, "general", None, "{}", None)
        return {"workspace_id": str(ident), "api_key": key, "created_at": second(now_s)}

    def create_agent(self, workspace: Workspace, name: str, kind: str = "agent") -> dict[str, Any]:
        """Create an agent, which joins `general`; the reply has its token.

        Raises:
            ApiError: 409 `agent_already_exists`.
        """
        if name in workspace.agents:
            raise ApiError(409, "agent_already_exists", f'Agent "{name}" already exists')
        token, ident, now_s = ids.new_token("at"), self.snowflakes.next(), self.now_s()
        self.store.run(
            "INSERT INTO agents VALUES (?, ?, ?, ?, ?, ?)",
            ident,
            workspace.id,
            name,
            kind,
            ids.token_hash(token),
            now_s,
        )
        agent = self._by_token[ids.token_hash(token)] = self._take_up(ident, name, workspace)
        self._add_member(workspace.channels["general"], agent, "member")
        return {
            "id": str(ident),
            "name": name,
            "handle": f"@{name}",
            "token": token,
            "status": "offline",
            "capabilities": {},
            "created_at": second(now_s),
        }

    def rotate_token(self, workspace: Workspace, name: str) -> dict[str, Any]:
        """Give an agent a new token; the old one is unknown from now on, open sockets stay."""
        agent, token = self.agent(workspace, name), ids.new_token("at")
        self.store.run("UPDATE agents SET token_hash = ? WHERE id = ?", ids.token_hash(token), agent.id)
        self._by_token = {known: other for known, other in self._by_token.items() if other is not agent}
        self._by_token[ids.token_hash(token)] = agent
        return {"name": name, "token": token}

    def describe_agent(self, agent: Agent) -> dict[str, Any]:
        """An agent as lists show it."""
        kind, created_at = self.store.row("SELECT type, created_at FROM agents WHERE id = ?", agent.id)
        seen_s = agent.workspace.presence.get(agent)
        return {
            "id": str(agent.id),
            "name": agent.name,
            "handle": f"@{agent.name}",
            "type": kind,
            "persona": None,
            "metadata": {},
            "status": "online" if agent in self.hub.present(agent.workspace) else "offline",
            "last_seen": iso(created_at if seen_s is None else seen_s),
            "created_at": second(created_at),
        }

    # Channels

    def create_channel(
        self, workspace: Workspace, name: str, topic: str | None, metadata: dict[str, Any], creator: Agent | None
    ) -> dict[str, Any]:
        """Create a channel; an agent that creates one owns it. Present agents are told.

        Raises:
            ApiError: 400 `invalid_channel_name`, 409 `channel_already_exists`.
        """
        if not _CHANNEL_NAME.fullmatch(name):
            message = "Channel names are lower-case letters, digits and hyphens, and do not start with a hyphen"
            raise ApiError(400, "invalid_channel_name", message)
        if name in workspace.channels:
            raise ApiError(409, "channel_already_exists", f'Channel "{name}" already exists')
        channel = self._add_channel(workspace, name, topic, msgspec.json.encode(metadata).decode(), creator)
        if creator is not None:
            self._add_member(channel, creator, "owner")
        self.hub.tell_present(workspace, events.channel_created(name, topic))
        return self.describe_channel(channel) | {"created_by": str(creator.id) if creator else None}

    def _add_channel(
        self, workspace: Workspace, name: str, topic: str | None, metadata: str, creator: Agent | None
    ) -> Channel:
        ident = self.snowflakes.next()
        self.store.run(
            "INSERT INTO channels VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            ident,
            workspace.id,
            name,
            topic,
            metadata,
            creator.id if creator else None,
            self.now_s(),
        )
        channel = workspace.channels[name] = Channel(ident, name)
        return channel

    def describe_channel(self, channel: Channel, *, members: bool = False) -> dict[str, Any]:
        """A channel as replies show it, with its members where asked for."""
        sql = "SELECT topic, metadata, created_by, created_at, archived FROM channels WHERE id = ?"
        topic, metadata, created_by, created_at, archived = self.store.row(sql, channel.id)
        told: dict[str, Any] = {
            "id": str(channel.id),
            "name": channel.name,
            "topic": topic,
            "metadata": msgspec.json.decode(metadata),
            "created_by": str(created_by) if created_by else None,
            "created_at": second(created_at),
            "member_count": len(channel.members),
            "is_archived": bool(archived),
        }
        if members:
            told["members"] = self.list_members(channel)
        return told

    def list_members(self, channel: Channel) -> list[dict[str, Any]]:
        """A channel's members in list order."""
        return [
            {
                "agent_id": str(agent_id),
                "agent_name": self._by_id[agent_id].name,
                "role": role,
                "joined_at": second(joined_at),
                "is_muted": muted,
            }
            for agent_id, role, joined_at, muted in self.store.members(channel.id)
        ]

    def update_channel(self, workspace: Workspace, name: str, topic: str | None) -> dict[str, Any]:
        """Set a channel's topic and tell its members, muted ones too."""
        channel = self._living(workspace, name)
        self.store.run("UPDATE channels SET topic = ? WHERE id = ?", topic, channel.id)
        self.hub.broadcast(channel, events.channel_updated(name, topic), workspace)
        return self.describe_channel(channel)

    def archive_channel(self, workspace: Workspace, name: str) -> None:
        """Archive a channel and tell its members."""
        channel = self.channel(workspace, name)
        if name == "general":
            raise ApiError(400, "cannot_archive_general", "The channel general cannot be archived")
        self.store.run("UPDATE channels SET archived = 1 WHERE id = ?", channel.id)
        self.hub.broadcast(channel, events.channel_archived(name), workspace)

    def _living(self, workspace: Workspace, name: str) -> Channel:
        channel = self.channel(workspace, name)
        if self.store.row("SELECT archived FROM channels WHERE id = ?", channel.id)[0]:
            raise ApiError(400, "channel_archived", f'Channel "{name}" is archived')
        return channel

    # Membership

    def join(self, agent: Agent, name: str) -> dict[str, Any]:
        """Join a channel; members are told, the joiner too, even if it was one already.

        Raises:
            ApiError: 404 `channel_not_found`, 400 `channel_archived`.
        """
        channel = self._living(agent.workspace, name)
        already = agent.id in channel.members
        if not already:
            self._add_member(channel, agent, "member")
        self.hub.broadcast(channel, events.member("joined", name, agent.name), agent.workspace)
        return {"channel": name, "agent_id": str(agent.id), "already_member": already}

    def _add_member(self, channel: Channel, agent: Agent, role: str) -> None:
        sql = "INSERT INTO members (channel_id, agent_id, role, joined_at) VALUES (?, ?, ?, ?)"
        self.store.run(sql, channel.id, agent.id, role, self.now_s())
        channel.members[agent.id] = agent

    def leave(self, agent: Agent, name: str) -> None:
        """Leave a channel; members are told, the leaver too."""
        channel = self.channel(agent.workspace, name)
        self.store.run("DELETE FROM members WHERE channel_id = ? AND agent_id = ?", channel.id, agent.id)
        self.hub.broadcast(channel, events.member("left", name, agent.name), agent.workspace)
        channel.members.pop(agent.id, None)
        channel.muted.discard(agent.id)

    def mute(self, agent: Agent, name: str, muted: bool) -> dict[str, Any]:
        """Mute or unmute a channel for one member; members are told."""
        channel = self.channel(agent.workspace, name)
        if agent.id not in channel.members:
            raise ApiError(403, "not_a_member", "Only members can mute a channel")
        self.store.run(
            "UPDATE members SET muted = ? WHERE channel_id = ? AND agent_id = ?", int(muted), channel.id, agent.id
        )
        (channel.muted.add if muted else channel.muted.discard)(agent.id)
        kind = "channel_muted" if muted else "channel_unmuted"
        self.hub.broadcast(channel, events.member(kind, name, agent.name), agent.workspace)
        return {"channel": name, "agent_id": str(agent.id), "muted": muted}

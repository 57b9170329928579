"""What agents do, called in process: the fast path of tests and demonstrations. The same rules as over HTTP, without HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from syncwatch.relay.directory import Directory
from syncwatch.relay.events import event
from syncwatch.relay.observer.tokens import SCOPES, Filters, Observers
from syncwatch.relay.posting import Posting
from syncwatch.relay.state import Agent, Hub, Workspace


class NewWorkspace(NamedTuple):
    """A workspace made in process."""

    id: str
    name: str
    api_key: str


class InProcess:
    """The verbs of agents, each agent named by its label."""

    hub: Hub
    directory: Directory
    posting: Posting
    observers: Observers

    def workspace(self, name: str) -> NewWorkspace:
        """Create a workspace with its channel `general`."""
        made = self.directory.create_workspace(name)
        return NewWorkspace(made["workspace_id"], name, made["api_key"])

    def agent(self, workspace: NewWorkspace, name: str) -> str:
        """Create an agent, a member of `general`; its token is returned."""
        token: str = self.directory.create_agent(self._workspace(workspace), name)["token"]
        return token

    def observer(
        self,
        workspace: NewWorkspace,
        name: str,
        *,
        channels: Iterable[str] = (),
        scopes: Iterable[str] = SCOPES,
        include_dms: bool = True,
    ) -> str:
        """Create an observer; its token is returned. With `channels` it sees only these (and what has no channel)."""
        filters = Filters(channel_names=tuple(channels), include_dms=include_dms)
        return self.observers.create(self._workspace(workspace), name, tuple(scopes), filters).token

    def revoke_observer(self, name: str) -> None:
        """Revoke an observer's token, by its label; open sockets find out at a publish, 5 s after the last look at most."""
        self.observers.revoke(self.observers.by_label(name))

    def channel(self, workspace: NewWorkspace, name: str, members: Iterable[str] = ()) -> None:
        """Create a channel and let agents join it, in this order."""
        self.directory.create_channel(self._workspace(workspace), name, None, {}, None)
        for member in members:
            self.join(member, name)

    def join(self, agent: str, channel: str) -> None:
        """Join a channel."""
        self.directory.join(self.find(agent), channel)

    def leave(self, agent: str, channel: str) -> None:
        """Leave a channel."""
        self.directory.leave(self.find(agent), channel)

    def mute(self, agent: str, channel: str, muted: bool = True) -> None:
        """Mute or unmute a channel."""
        self.directory.mute(self.find(agent), channel, muted)

    def post(self, agent: str, channel: str, text: str) -> str:
        """Post to a channel; the message's id is returned."""
        poster = self.find(agent)
        return str(self.posting.post(poster, self.directory.channel(poster.workspace, channel), text)["id"])

    def reply(self, agent: str, message_id: str, text: str) -> str:
        """Reply in a message's thread; the reply's id is returned."""
        return str(self.posting.reply(self.find(agent), int(message_id), text)["id"])

    def dm(self, agent: str, to: str, text: str) -> str:
        """Write to another agent or `@self`; the message's id is returned."""
        return str(self.posting.dm(self.find(agent), to, text)["id"])

    def react(self, agent: str, message_id: str, emoji: str) -> None:
        """Add a reaction."""
        self.posting.react(self.find(agent), int(message_id), emoji)

    def unreact(self, agent: str, message_id: str, emoji: str) -> None:
        """Remove a reaction."""
        self.posting.unreact(self.find(agent), int(message_id), emoji)

    def push(self, agent: str, kind: str, **fields: Any) -> int:
        """Push an event of any kind to one agent; its number is returned."""
        return self.hub.push(self.find(agent), event({"type": kind, **fields}))

    def publish(self, workspace: NewWorkspace, kind: str, **fields: Any) -> None:
        """Tell an event of any kind to a workspace's observers (and its own sockets), but to no agent."""
        self.hub.stream(self._workspace(workspace), event({"type": kind, **fields}))

    def find(self, label: str) -> Agent:
        """An agent by its label: its name, or `workspace/name` where an earlier agent has that name.

        Raises:
            KeyError: there is none.
        """
        for agent in self.hub.agents():
            if agent.label == label:
                return agent
        raise KeyError(label)

    def _workspace(self, workspace: NewWorkspace) -> Workspace:
        return self.hub.workspaces[int(workspace.id)]

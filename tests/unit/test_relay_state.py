"""The delivery rules (wire: relaycast §3, §4, §6), without sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncwatch.relay.directory import ApiError
from syncwatch.relay.ledger import Pushed, Restarted
from syncwatch.relay.state import PRESENCE_TTL_S
from tests.unit.relay_parts import Collecting, Parts


def test_a_hundred_pushes_give_exactly_one_to_a_hundred() -> None:
    """Numbers start at 1 and rise by 1, whether or not a socket is open."""
    parts = Parts()
    parts.workspace("alice")
    sink = Collecting()
    parts.fill("alice", 40)
    parts.agent("alice").sinks = (sink,)
    parts.fill("alice", 60)
    assert list(range(1, 101)) == [fact.number for fact in parts.ledger.of(Pushed, "alice")]
    assert list(range(41, 101)) == sink.numbers


def test_fifty_broadcasts_give_channel_one_to_fifty() -> None:
    """The channel's counter is its own, and every member sees the same one."""
    parts = Parts()
    parts.workspace("alice", "bob")
    sinks = {name: Collecting() for name in ("alice", "bob")}
    for name, sink in sinks.items():
        parts.agent(name).sinks = (sink,)
    for index in range(50):
        parts.post("alice", str(index))
    for sink in sinks.values():
        assert list(range(1, 51)) == [
            frame["channel_seq"] for frame in sink.frames if frame["type"] == "message.created"
        ]


def test_the_ring_keeps_the_last_five_hundred() -> None:
    """Trimmed from the front."""
    parts = Parts()
    parts.workspace("alice")
    parts.fill("alice", 600)
    assert list(range(101, 601)) == [frame.number for frame in parts.agent("alice").ring]


def test_all_sockets_of_an_agent_see_the_same_number() -> None:
    """Any number of sockets per agent."""
    parts = Parts()
    parts.workspace("alice")
    one, two = Collecting(), Collecting()
    parts.hub.attach(parts.agent("alice"), one)
    parts.hub.attach(parts.agent("alice"), two)
    parts.fill("alice", 3)
    assert [1, 2, 3, 4] == one.numbers
    assert [2, 3, 4] == two.numbers


def test_a_muted_member_still_gets_channel_updates() -> None:
    """Muting drops messages and thread replies, nothing else; the delivery is recorded all the same."""
    parts = Parts()
    workspace = parts.workspace("alice", "bob")
    parts.directory.mute(parts.agent("bob"), "general", True)
    sink = Collecting()
    parts.agent("bob").sinks = (sink,)
    message = parts.post("alice", "hi")
    parts.posting.reply(parts.agent("alice"), message, "again")
    parts.directory.update_channel(workspace, "general", "news")
    parts.directory.mute(parts.agent("bob"), "general", False)
    parts.post("alice", "back")
    kinds = [
        "delivery.accepted",
        "delivery.accepted",
        "channel.updated",
        "member.channel_unmuted",
        "delivery.accepted",
        "message.created",
    ]
    assert kinds == sink.kinds


def test_deliveries_overtake_the_message_for_all_but_the_first_member() -> None:
    """The sender gets none; the first member has the message first, the others the delivery (§3.1)."""
    parts = Parts()
    parts.workspace("first", "second", "sender")
    sinks = {name: Collecting() for name in ("first", "second", "sender")}
    for name, sink in sinks.items():
        parts.agent(name).sinks = (sink,)
    parts.post("sender", "hi @second")
    assert ["message.created", "delivery.accepted"] == sinks["first"].kinds
    assert ["delivery.accepted", "message.created"] == sinks["second"].kinds
    assert ["message.created"] == sinks["sender"].kinds
    assert ["message", "mention"] == [sinks["first"].frames[1]["reason"], sinks["second"].frames[0]["reason"]]


def test_direct_messages_reach_the_participants_and_carry_no_channel_number() -> None:
    """The sender gets it too, the recipient also a delivery; to `@self` it is one event."""
    parts = Parts()
    parts.workspace("alice", "bob", "carol")
    sinks = {name: Collecting() for name in ("alice", "bob", "carol")}
    for name, sink in sinks.items():
        parts.agent(name).sinks = (sink,)
    parts.posting.dm(parts.agent("alice"), "bob", "psst")
    parts.posting.dm(parts.agent("carol"), "@self", "note")
    assert ["dm.received"] == sinks["alice"].kinds
    assert {"dm.received", "delivery.accepted"} == set(sinks["bob"].kinds)
    assert ["dm.received"] == sinks["carol"].kinds
    assert "channel_seq" not in sinks["alice"].frames[0]
    with pytest.raises(ApiError, match="not found"):
        parts.posting.dm(parts.agent("alice"), "nobody", "psst")


def test_a_conversation_is_found_again() -> None:
    """Two messages between the same two agents, in either direction, share one conversation; a group is another."""
    parts = Parts()
    parts.workspace("alice", "bob")
    there = parts.posting.dm(parts.agent("alice"), "bob", "a")
    back = parts.posting.dm(parts.agent("bob"), "alice", "b")
    group = parts.posting.group(parts.agent("alice"), ["bob"], "us")
    assert there["conversation_id"] == back["conversation_id"]
    sink = Collecting()
    parts.agent("bob").sinks = (sink,)
    parts.posting.dm_in(parts.agent("alice"), int(group["id"]), "hi all")
    assert {"group_dm.received", "delivery.accepted"} == set(sink.kinds)


def test_a_reply_in_a_conversation_is_a_thread_reply_without_channel_number() -> None:
    """Live it is `thread.reply` for the participants (§5 tells what it becomes in a replay)."""
    parts = Parts()
    parts.workspace("alice", "bob")
    sink = Collecting()
    message = int(parts.posting.dm(parts.agent("alice"), "bob", "a")["id"])
    parts.agent("alice").sinks = (sink,)
    parts.posting.reply(parts.agent("bob"), message, "re")
    assert ["thread.reply", "delivery.accepted"] == sink.kinds
    assert "channel_seq" not in sink.frames[0]
    assert str(message) == sink.frames[0]["parent_id"]


def test_reactions_edits_and_membership_are_told_to_the_channel() -> None:
    """Added and removed; joiner and leaver are told too, a second join again."""
    parts = Parts()
    parts.workspace("alice", "bob")
    parts.directory.create_channel(parts.agent("alice").workspace, "side", None, {}, parts.agent("alice"))
    message = parts.post("alice", "x", "side")
    sink = Collecting()
    parts.agent("bob").sinks = (sink,)
    for _ in range(2):
        parts.directory.join(parts.agent("bob"), "side")
    parts.posting.react(parts.agent("alice"), message, "eyes")
    parts.posting.unreact(parts.agent("alice"), message, "eyes")
    parts.posting.edit(parts.agent("alice"), message, "y")
    parts.directory.leave(parts.agent("bob"), "side")
    parts.post("alice", "z", "side")
    assert [
        "member.joined",
        "member.joined",
        "message.reacted",
        "message.reacted",
        "message.updated",
        "member.left",
    ] == sink.kinds
    assert ["added", "removed"] == [frame["action"] for frame in sink.frames[2:4]]
    assert [2, 3, 4, 5, 6, 7] == [frame["channel_seq"] for frame in sink.frames]


def test_presence_is_told_once_to_those_present() -> None:
    """The first attach announces the agent, to itself too; a second socket does not; an absent agent spends no number on it."""
    parts = Parts()
    parts.workspace("alice", "bob", "absent")
    alice, again, bob = Collecting(), Collecting(), Collecting()
    parts.hub.attach(parts.agent("alice"), alice)
    parts.hub.attach(parts.agent("alice"), again)
    parts.hub.attach(parts.agent("bob"), bob)
    assert ["agent.status.active", "agent.status.active"] == alice.kinds
    assert ["agent.status.active"] == bob.kinds == again.kinds
    parts.hub.detach(parts.agent("alice"), alice)
    parts.hub.settle(parts.agent("alice"))
    assert ["agent.status.active"] == bob.kinds
    parts.hub.detach(parts.agent("alice"), again)
    parts.hub.settle(parts.agent("alice"))
    assert ["agent.status.active", "agent.status.offline"] == bob.kinds
    assert 0 == parts.agent("absent").counter


def test_presence_ends_after_sixty_seconds_without_a_heartbeat() -> None:
    """The sweep tells the others; a heartbeat in time prevents it; a late one announces the agent again."""
    parts = Parts()
    parts.workspace("alice", "bob")
    alice, bob = Collecting(), Collecting()
    parts.hub.attach(parts.agent("alice"), alice)
    parts.hub.attach(parts.agent("bob"), bob)
    parts.at_s += PRESENCE_TTL_S - 1
    parts.hub.heartbeat(parts.agent("bob"))
    parts.hub.sweep()
    assert ["agent.status.active"] == bob.kinds
    parts.at_s += 1
    parts.hub.sweep()
    assert ["agent.status.active", "agent.status.offline"] == bob.kinds
    assert 2 == len(alice.frames), "the absent agent is not told, although its socket is open"
    parts.hub.heartbeat(parts.agent("alice"))
    assert "agent.status.active" == bob.kinds[-1] == alice.kinds[-1]


def test_a_new_channel_is_told_to_those_present() -> None:
    """`channel.created` goes to present agents, members or not; a bad or taken name to nobody."""
    parts = Parts()
    workspace = parts.workspace("alice")
    alice = Collecting()
    parts.hub.attach(parts.agent("alice"), alice)
    parts.directory.create_channel(workspace, "news", "all of it", {}, None)
    assert {"name": "news", "topic": "all of it"} == alice.frames[-1]["channel"]
    for name, code in (
        ("-news", "invalid_channel_name"),
        ("News", "invalid_channel_name"),
        ("news", "channel_already_exists"),
    ):
        with pytest.raises(ApiError) as caught:
            parts.directory.create_channel(workspace, name, None, {}, None)
        assert code == caught.value.code
    assert 2 == len(alice.frames)


def test_workspace_sockets_get_each_event_once_without_numbers() -> None:
    """The same objects without `agent_seq` and `channel_seq` (§3)."""
    parts = Parts()
    workspace = parts.workspace("alice", "bob")
    stream = Collecting()
    workspace.streams = (stream,)
    parts.post("alice", "hi")
    assert ["message.created", "delivery.accepted"] == [event["type"] for event in stream.streamed]
    assert not any("agent_seq" in event or "channel_seq" in event for event in stream.streamed)


def test_a_restart_clears_memory_and_keeps_rows() -> None:
    """Counters, rings, channel counters and presence restart at 0; agents, members and messages survive; nobody is told (§6)."""
    parts = Parts()
    parts.workspace("alice", "bob")
    sink = Collecting()
    parts.hub.attach(parts.agent("bob"), sink)
    message = parts.post("alice", "before")
    told = len(sink.frames)
    parts.hub.restart()
    assert (0, 0, 0, ()) == (
        parts.agent("bob").counter,
        len(parts.agent("bob").ring),
        parts.agent("bob").workspace.channels["general"].seq,
        parts.agent("bob").sinks,
    )
    assert told == len(sink.frames)
    assert "before" == parts.posting.message(parts.agent("alice").workspace, message).text
    again = Collecting()
    parts.hub.attach(parts.agent("bob"), again)
    parts.post("alice", "after")
    assert [1, 2, 3] == again.numbers
    assert 1 == again.frames[-1]["channel_seq"]
    assert [2] == [fact.epoch for fact in parts.ledger.of(Restarted)]
    assert {1, 2} == {fact.epoch for fact in parts.ledger.of(Pushed, "bob")}


def test_a_database_file_outlives_the_process(tmp_path: Path) -> None:
    """Agents, tokens, members, mutes and messages are there again; counters are not."""
    path = str(tmp_path / "relay.db")
    before = Parts(path=path)
    workspace = before.workspace("alice", "bob")
    token = before.directory.rotate_token(workspace, "bob")["token"]
    before.directory.mute(before.agent("bob"), "general", True)
    message = before.post("alice", "kept")
    before.store.close()
    after = Parts(path=path)
    agent = after.directory.agent_by_token(token)
    assert agent is not None
    assert ("bob", 0) == (agent.name, agent.counter)
    assert {agent.id} == agent.workspace.channels["general"].muted
    assert ["alice", "bob"] == [member.name for member in agent.workspace.channels["general"].members.values()]
    assert "kept" == after.posting.message(agent.workspace, message).text
    assert message < after.post("alice", "new")
    after.store.close()


def test_agents_of_two_workspaces_have_different_labels() -> None:
    """The ledger can tell namesakes apart."""
    parts = Parts()
    parts.workspace("alice")
    parts.workspace("alice")
    parts.workspace("alice")
    labels = [agent.label for agent in parts.hub.agents()]
    assert "alice" == labels[0]
    assert 3 == len(set(labels))

"""Envelopes: fields, key order and stamps are the real server's."""

from __future__ import annotations

import msgspec

from syncwatch.relay import events
from syncwatch.relay.store import MessageRow

ROW = MessageRow(1234567890123456789, 1, 7, None, 42, None, "hi", None, "{}", "wait", 0, None, "alice", "general")
KEY = b"107b7647-005d-5e97-bfad-81d9da5584eb"


def test_a_message_is_the_example_of_the_wire_document() -> None:
    """Live and replayed, byte for byte, key order included (§3.1)."""
    live = (
        b'{"id":"%b","type":"message.created","channel":"general","message":{"id":"1234567890123456789","agent_id":"42","agent_name":"alice",'
        b'"text":"hi","attachments":[],"injection_mode":"wait"},"channel_seq":4,"agent_seq":8}' % KEY
    )
    replayed = (
        b'{"id":"%b","type":"message.created","channel":"general","message":{"id":"1234567890123456789","agent_id":"42","agent_name":"alice",'
        b'"text":"hi","attachments":[]},"replayed":true}' % KEY
    )
    assert live == events.message_created(ROW).stamped(8, 4)
    assert replayed == events.message_created(ROW, replayed=True).replayed()


def test_stamps_only_where_they_belong() -> None:
    """Direct messages have no channel number; workspace sockets get no stamp at all."""
    made = events.dm_received(ROW._replace(channel_id=None, conversation_id=9), group=False)
    assert {"agent_seq": 3} == {
        k: v for k, v in msgspec.json.decode(made.stamped(3, None)).items() if k.endswith("_seq")
    }
    assert ["id", "type", "conversation_id", "message"] == list(msgspec.json.decode(made.plain()))


def test_presence_has_the_only_timestamp() -> None:
    """Type, agent, name, status, subject, timestamp, in this order."""
    made = msgspec.json.decode(events.presence(42, "alice", "active", "2026-06-10T12:00:00.123Z").plain())
    assert ["type", "agent", "agent_name", "status", "subject_agent_id", "timestamp"] == list(made)
    assert "agent.status.active" == made["type"]
    assert {"name": "alice"} == made["agent"]


def test_keys_are_the_events_own_identity() -> None:
    """`id`, else `delivery_id`, else a digest that a live reaction shares with its replay."""
    assert KEY.decode() == events.message_created(ROW).key
    assert events.message_created(ROW).key == events.thread_reply(ROW._replace(thread_id=1)).key
    assert "del_5" == events.delivery_accepted(5, 6, 7, "message").key
    assert "delivery.accepted" == events.delivery_accepted(5, 6, None, "dm").kind
    first, again = (events.message_reacted(1, "eyes", "bob", "added") for _ in range(2))
    assert first.key == again.key
    assert first.key.startswith("#")
    assert first.key != events.message_reacted(1, "eyes", "bob", "removed").key


def test_a_delivery_names_its_channel_only_where_there_is_one() -> None:
    """`channel_id` is optional."""
    assert "7" == msgspec.json.decode(events.delivery_accepted(5, 6, 7, "message").plain())["channel_id"]
    assert "channel_id" not in msgspec.json.decode(events.delivery_accepted(5, 6, None, "dm").plain())

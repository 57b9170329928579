"""Answers to resync requests (wire: relaycast §5 steps 3 to 5, §7), and how faults change them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from syncwatch.relay import kinds
from syncwatch.relay.clock import iso
from syncwatch.relay.ledger import Ack, Closed, Request, Sent
from syncwatch.relay.replay import answer, rows_since
from syncwatch.relay.resync import Resync
from syncwatch.relay.store import REPLAY_LIMIT, Store
from tests.unit.relay_parts import Parts, Transport


class Asking(Parts):
    """`alice` with a connection that asks."""

    def __init__(self) -> None:
        super().__init__()
        self.workspace("alice", "bob")
        self.transport = Transport()

    def ask(self, last: float, since: str | None = None) -> list[dict[str, Any]]:
        """Ask on a fresh connection; what came back at once."""
        self.transport = Transport()
        self.asking = self.connection("alice", self.transport)
        answer(self.asking, self.agent("alice"), self.store, Resync(last, since))
        return self.transport.said()

    def texts(self, since: str) -> list[str]:
        """What the database has for alice."""
        rows = rows_since(self.store, self.agent("alice").id, since)
        return [
            row.body.decode().split('"text":"')[1].split('"')[0] if '"text"' in row.body.decode() else row.kind
            for row in rows
        ]


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    """Parts with two agents."""
    parts = Asking()
    yield parts
    parts.store.close()


async def test_ring_then_acknowledgement_last(asking: Asking) -> None:
    """The burst is consecutive and unmarked, the acknowledgement comes after it and counts its frames."""
    asking.fill("alice", 8)
    said = asking.ask(5)
    assert [6, 7, 8] == [frame["agent_seq"] for frame in said[:-1]]
    assert {"type": "resync_ack", "last_seen_seq": 5, "current_seq": 8, "replayed": 3, "gap_detected": False} == said[
        -1
    ]
    assert ["ring"] * 3 == [fact.origin for fact in asking.ledger.of(Sent)]
    assert [(5, None)] == [(fact.last_seen_seq, fact.since) for fact in asking.ledger.of(Request)]
    assert [(4, said[-1])] == [(fact.position, fact.fields) for fact in asking.ledger.of(Ack)]


async def test_nothing_limits_repetition(asking: Asking) -> None:
    """Each request replays again."""
    asking.fill("alice", 3)
    assert asking.ask(0) == asking.ask(0)


async def test_the_database_answers_only_a_gap_with_a_since(asking: Asking) -> None:
    """No gap: no rows, although there are some. A gap without `since`: none either."""
    asking.post("bob", "hi")
    early = iso(asking.at_s - 10)
    assert 2 == asking.ask(0, early)[-1]["replayed"]
    assert (2, True) == (asking.ask(-1)[-1]["replayed"], asking.ask(-1)[-1]["gap_detected"])
    said = asking.ask(-1, early)
    assert (3, True) == (said[-1]["replayed"], said[-1]["gap_detected"])
    assert said[-2]["replayed"] is True
    assert "agent_seq" not in said[-2]
    assert "channel_seq" not in said[-2]
    assert (
        said[0]["message"]["id"] == said[-2]["message"]["id"] or said[1]["message"]["id"] == said[-2]["message"]["id"]
    )


async def test_rows_are_newer_than_the_whole_second(asking: Asking) -> None:
    """`created_at > floor(since)`: everything in the second of `since` is dropped (§7)."""
    asking.at_s = 1_800_000_000.2
    asking.post("bob", "same second")
    asking.at_s = 1_800_000_001.0
    asking.post("bob", "next second")
    assert ["next second"] == asking.texts(iso(1_800_000_000.0))
    assert ["next second"] == asking.texts(iso(1_800_000_000.9))
    assert ["same second", "next second"] == asking.texts(iso(1_799_999_999.9))
    assert [] == asking.texts(iso(1_800_000_001.0))
    assert [] == asking.texts("whenever")


async def test_membership_is_what_it_is_now(asking: Asking) -> None:
    """Muted channels, own messages and channels joined meanwhile appear; channels left meanwhile do not."""
    alice, bob = asking.agent("alice"), asking.agent("bob")
    for name in ("left", "joined"):
        asking.directory.create_channel(alice.workspace, name, None, {}, bob)
    asking.directory.join(alice, "left")
    asking.post("bob", "in left", "left")
    asking.post("bob", "in joined", "joined")
    asking.post("alice", "own")
    asking.directory.mute(alice, "general", True)
    asking.post("bob", "muted")
    asking.directory.leave(alice, "left")
    asking.directory.join(alice, "joined")
    assert ["in joined", "own", "muted"] == asking.texts("2020-01-01")


async def test_the_three_queries_and_their_order(asking: Asking) -> None:
    """Merged by second; in one second messages, then direct messages, then reactions; removed reactions and edits are not there."""
    alice, bob = asking.agent("alice"), asking.agent("bob")
    direct = int(asking.posting.dm(bob, "alice", "direct")["id"])
    first = asking.post("bob", "first")
    asking.posting.react(bob, first, "eyes")
    asking.posting.react(bob, first, "tada")
    asking.posting.unreact(bob, first, "tada")
    asking.posting.reply(bob, first, "thread")
    asking.posting.dm(bob, "bob", "not for alice")
    asking.at_s += 1
    asking.posting.reply(alice, direct, "thread in a conversation")
    group = int(asking.posting.group(bob, ["alice"], None)["id"])
    asking.posting.dm_in(bob, group, "to all")
    rows = rows_since(asking.store, alice.id, "2020-01-01")
    kinds_in_order = [
        "message.created",
        "thread.reply",
        "dm.received",
        "message.reacted",
        "dm.received",
        "group_dm.received",
    ]
    assert kinds_in_order == [row.kind for row in rows]
    assert ["first", "thread", "direct", "message.reacted", "thread in a conversation", "to all"] == asking.texts(
        "2020-01-01"
    )


async def test_a_thousand_rows_of_a_kind_and_no_more(asking: Asking) -> None:
    """LIMIT 1000, the oldest first: a slow clock spends the budget on old rows (§7)."""
    for index in range(REPLAY_LIMIT + 5):
        asking.post("bob", str(index))
    for index in range(3):
        asking.posting.dm(asking.agent("bob"), "alice", f"d{index}")
    texts = asking.texts("2020-01-01")
    assert [str(index) for index in range(REPLAY_LIMIT)] == texts[:REPLAY_LIMIT]
    assert ["d0", "d1", "d2"] == texts[REPLAY_LIMIT:]


async def test_the_case_of_the_wire_document_loses_what_ring_and_rows_do_not_have(asking: Asking) -> None:
    """The ring has 250 of 400 missed messages; a `since` in the future or the same second brings no other (§7)."""
    asking.fill("alice", 1)
    for index in range(400):
        asking.post("bob", str(index))
    for since in (iso(asking.at_s + 600), iso(asking.at_s)):
        said = asking.ask(1, since)
        assert (500, True) == (said[-1]["replayed"], said[-1]["gap_detected"])
        assert 250 == sum(frame["type"] == "message.created" for frame in said)
    assert (900, True) == (asking.ask(1, iso(asking.at_s - 2))[-1]["replayed"], True)


async def test_a_failing_database_is_silent(asking: Asking) -> None:
    """Errors are swallowed: the ring is replayed, zero rows, and the acknowledgement still reports the gap."""
    store = Store(":memory:", lambda: True)
    asking.fill("alice", 2)
    transport = Transport()
    answer(asking.connection("alice", transport), asking.agent("alice"), store, Resync(-1, "2020-01-01"))
    assert (2, True) == (transport.said()[-1]["replayed"], transport.said()[-1]["gap_detected"])
    store.close()


# Faults


@pytest.mark.parametrize(
    ("then", "claim", "acknowledged"),
    [("ack", "all", 5), ("ack", "sent", 2), ("no_ack", "all", None), ("drop", "all", None)],
)
async def test_a_replay_is_cut(asking: Asking, then: Any, claim: Any, acknowledged: int | None) -> None:
    """After two frames: acknowledged for all or for what was sent, not at all, or dropped."""
    asking.fill("alice", 5)
    asking.faults.begin(kinds.CutReplay(after=2, then=then, claim=claim))
    said = asking.ask(0)
    assert [1, 2] == [frame["agent_seq"] for frame in said if "agent_seq" in frame]
    assert acknowledged == (said[-1]["replayed"] if said[-1]["type"] == "resync_ack" else None)
    assert (then == "drop") == asking.transport.eof
    assert (["dropped"] if then == "drop" else []) == [fact.how for fact in asking.ledger.of(Closed)]


async def test_a_drop_in_the_middle_of_a_burst_is_exact(asking: Asking) -> None:
    """Nothing after its frame, not even the acknowledgement, although the burst is handed over in one piece."""
    asking.fill("alice", 5)
    with asking.faults.dropping(seq=3):
        assert [1, 2, 3] == [frame["agent_seq"] for frame in asking.ask(0)]
    assert [1, 2, 3] == [fact.number for fact in asking.ledger.of(Sent)]
    assert [(3, 3)] == [(fact.frames, fact.flushed) for fact in asking.ledger.of(Closed)]


async def test_a_replay_is_cut_in_its_rows(asking: Asking) -> None:
    """The cut counts ring and database together."""
    asking.post("bob", "a")
    asking.post("bob", "b")
    with asking.faults.cutting_replay(5, claim="sent"):
        said = asking.ask(-1, "2020-01-01")
    assert [None] * 4 + [True] == [frame.get("replayed") for frame in said[:-1]]
    assert 5 == said[-1]["replayed"]


async def test_no_early_and_wrong_acknowledgements(asking: Asking) -> None:
    """None; before the burst, claiming all of it; with other fields, and without one."""
    asking.post("bob", "a")
    with asking.faults.withholding_ack(times=1):
        assert "resync_ack" not in [frame["type"] for frame in asking.ask(0)]
        assert "resync_ack" == asking.ask(0)[-1]["type"]
    with asking.faults.acking_early():
        said = asking.ask(-1, "2020-01-01")
    assert ("resync_ack", 3, True) == (said[0]["type"], said[0]["replayed"], said[0]["gap_detected"])
    assert 4 == len(said)
    with asking.faults.acking_wrongly({"current_seq": 99, "replayed": "many", "gap_detected": None}):
        said = asking.ask(0)
    assert {"type": "resync_ack", "last_seen_seq": 0, "current_seq": 99, "replayed": "many"} == said[-1]
    assert said[-1] == asking.ledger.of(Ack)[-1].fields


async def test_live_events_slip_in_while_the_database_is_slow(asking: Asking) -> None:
    """`current_seq` is read at the end, so it exceeds the burst's last number; the live event came in between (§5)."""
    asking.post("bob", "a")
    with asking.faults.slow_database(0.01):
        assert "resync_ack" not in [frame["type"] for frame in asking.ask(-1, "2020-01-01")]
        asking.agent("alice").sinks = (asking.asking,)
        asking.fill("alice", 1)
        await asyncio.sleep(0.05)
    said = asking.transport.said()
    assert [1, 2, 3, None, None] == [frame.get("agent_seq") for frame in said]
    assert ("resync_ack", 3, 3) == (said[-1]["type"], said[-1]["current_seq"], said[-1]["replayed"])
    assert ["ring", "ring", "live", "store"] == [fact.origin for fact in asking.ledger.of(Sent)]


async def test_a_stalled_server_may_ignore_requests(asking: Asking) -> None:
    """With and without answers to resyncs; the request is a fact in either case."""
    asking.fill("alice", 2)
    with asking.faults.stalling():
        assert 3 == len(asking.ask(0))
    with asking.faults.stalling(answer_resyncs=False):
        assert [] == asking.ask(0)
    assert 2 == len(asking.ledger.of(Request))


async def test_faults_of_another_agent_do_not_concern_this_one(asking: Asking) -> None:
    """`agent` limits a fault."""
    asking.fill("alice", 2)
    with asking.faults.withholding_ack(agent="bob"), asking.faults.stalling(answer_resyncs=False, agent="bob"):
        assert "resync_ack" == asking.ask(0)[-1]["type"]

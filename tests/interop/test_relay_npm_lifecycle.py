"""The real npm client against the embedded relay: its lifecycle events, in order, with their numbers (wire: relaycast §6, §9)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from syncwatch.relay import Relay
from syncwatch.relay.ledger import Ack, Closed, Opened, Received, Refused, Request
from tests.interop.npm import npm_client
from tests.interop.scenarios import SENDER, WATCHED, connected, eventually, populate, post


class Stage:
    """A relay with the watched agent and a sender."""

    def __init__(self, relay: Relay, token: str) -> None:
        self.relay = relay
        self.token = token

    def requests(self) -> list[int | float]:
        """What was asked for."""
        return [fact.last_seen_seq for fact in self.relay.ledger.of(Request)]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Ready to watch."""
    async with Relay.start() as relay:
        yield Stage(relay, populate(relay))


async def test_the_first_connect(stage: Stage) -> None:
    """Open, then its own presence; it subscribes and asks for nothing."""
    async with npm_client(stage.relay.url, stage.token, subscribe=["general"]) as client:
        await client.until_type("agent.status.active")
        await eventually(lambda: stage.relay.ledger.of(Received))
        assert ["open", "agent.status.active"] == client.types()
    assert ["subscribe"] == [fact.kind for fact in stage.relay.ledger.of(Received)]
    assert [] == stage.requests()
    assert [("closed", "client", None)] == [(f.how, f.by, f.code) for f in stage.relay.ledger.of(Closed)]


async def test_relaycast_connect_is_the_same_client(stage: Stage) -> None:
    """`RelayCast.connect()` speaks dialect A with whatever token it is given."""
    async with npm_client(stage.relay.url, stage.token, client="relaycast") as client:
        await client.until_type("agent.status.active")
        stage.relay.post(SENDER, "general", "hi")
        await client.until_type("delivery.accepted")
        stage.relay.drop(WATCHED)
        await client.until_type("resynced")
        assert [("open",), ("reconnecting", 1), ("close",), ("open",), ("resynced", 1, False)] == client.lifecycle()


async def test_drop_with_five_missed(stage: Stage) -> None:
    """`reconnecting` before `close`; open, resynced(6, no gap): five missed and its own presence, which it hands over twice."""
    async with npm_client(stage.relay.url, stage.token, subscribe=["general"]) as client:
        await connected(stage.relay)
        await client.until_type("agent.status.active")
        with stage.relay.faults.outage(agent=WATCHED, times=1):
            for n in range(5):
                stage.relay.push(WATCHED, "test", n=n)
            await client.until_type("error")
        await client.until_type("resynced")
        # The refused attempt in between: error, reconnecting, no close.
        expected = [
            ("open",),
            ("reconnecting", 1),
            ("close",),
            ("error",),
            ("reconnecting", 2),
            ("open",),
            ("resynced", 6, False),
        ]
        assert expected == client.lifecycle()
        assert Counter({"test": 5, "agent.status.active": 3}) == Counter(
            client.types(without=("open", "close", "error", "reconnecting", "resynced"))
        )
    assert [1] == stage.requests()
    second = stage.relay.ledger.of(Opened)[1].at
    assert ["subscribe"] == [fact.kind for fact in stage.relay.ledger.of(Received, after=second)]
    assert stage.relay.ledger.of(Received, after=second)[0].at < stage.relay.ledger.of(Request)[0].at, (
        "subscribe, then resync"
    )


async def test_a_restart_below_the_cursor_is_a_clean_lie(stage: Stage) -> None:
    """The counter is below what the client has seen: resynced(0, no gap), everything since is lost to it, and it does not know."""
    async with npm_client(stage.relay.url, stage.token) as client:
        await connected(stage.relay)
        post(stage.relay, 20, "old")
        await client.until(lambda said: 20 == len(client.texts()))
        with stage.relay.faults.outage(agent=WATCHED):
            stage.relay.restart()
            post(stage.relay, 3, "lost")
        await client.until_type("resynced")
        assert ("resynced", 0, False) == client.lifecycle()[-1]
        assert 20 == len(client.texts())
    ack = stage.relay.ledger.of(Ack)[0].fields
    assert (41, 7) == (ack["last_seen_seq"], ack["current_seq"])


async def test_a_restart_that_overtakes_the_cursor_is_not_noticed(stage: Stage) -> None:
    """L=11, C=25: 12 to 25 are replayed as if nothing had happened; 1 to 11 of the new epoch are lost silently."""
    async with npm_client(stage.relay.url, stage.token) as client:
        await connected(stage.relay)
        post(stage.relay, 5, "old")
        await client.until(lambda said: 5 == len(client.texts()))
        with stage.relay.faults.outage(agent=WATCHED):
            stage.relay.restart()
            texts = post(stage.relay, 12, "new")
        await client.until_type("resynced")
        assert ("resynced", 14, False) == client.lifecycle()[-1]
        assert texts[6:] == client.texts()[5:]
    ack = stage.relay.ledger.of(Ack)[0].fields
    assert (11, 25) == (ack["last_seen_seq"], ack["current_seq"])


async def test_a_missing_acknowledgement_is_not_noticed(stage: Stage) -> None:
    """The events come, `resynced` never does, and there is no other sign."""
    async with npm_client(stage.relay.url, stage.token) as client:
        await connected(stage.relay)
        await client.until_type("agent.status.active")
        with stage.relay.faults.withholding_ack():
            with stage.relay.faults.outage(agent=WATCHED):
                texts = post(stage.relay, 3, "missed")
            await client.until(lambda said: texts == client.texts())
            await asyncio.sleep(0.5)
        assert "resynced" not in client.types()
        assert ("open",) == client.lifecycle()[-1]
    assert [] == stage.relay.ledger.of(Ack)


@pytest.mark.parametrize("status", [401, 404, 426, 503])
async def test_refusals_look_all_alike_to_it(stage: Stage, status: int) -> None:
    """`error`, `reconnecting`, no `close`; a 401 is retried like anything else."""
    with stage.relay.faults.refusing(status, times=3):
        async with npm_client(stage.relay.url, stage.token, baseDelayMs=10) as client:
            await client.until_type("agent.status.active")
            expected = [
                ("error",),
                ("reconnecting", 1),
                ("error",),
                ("reconnecting", 2),
                ("error",),
                ("reconnecting", 3),
                ("open",),
            ]
            assert expected == client.lifecycle()
    assert [status] * 3 == [fact.status for fact in stage.relay.ledger.of(Refused)]


async def test_the_breaker_opens_at_the_thirty_first_failure(stage: Stage) -> None:
    """30 reconnects used, then `permanently_disconnected{attempt:30}`; `reconnect()` revives it."""
    with stage.relay.faults.refusing(503):
        async with npm_client(stage.relay.url, stage.token, baseDelayMs=1, maxDelayMs=1) as client:
            await client.until_type("permanently_disconnected")
            told = Counter(client.types())
            assert Counter({"error": 31, "reconnecting": 30, "permanently_disconnected": 1}) == told
            assert ("permanently_disconnected", 30) == client.lifecycle()[-1]
            stage.relay.faults.end_all()
            client.tell("reconnect")
            await client.until_type("agent.status.active")


async def test_without_attempts_the_first_close_is_the_last(stage: Stage) -> None:
    """`permanently_disconnected{attempt:0}`."""
    async with npm_client(stage.relay.url, stage.token, maxReconnectAttempts=0) as client:
        await client.until_type("agent.status.active")
        stage.relay.drop(WATCHED)
        await client.until_type("close")
        assert [("open",), ("permanently_disconnected", 0), ("close",)] == client.lifecycle()


async def test_a_force_disconnect_is_reconnected_too(stage: Stage) -> None:
    """Close code 1000 makes no difference."""
    async with npm_client(stage.relay.url, stage.token) as client:
        await client.until_type("agent.status.active")
        stage.relay.close_sockets(WATCHED, 1000, "force-disconnect")
        await client.until_type("resynced")
        assert [("open",), ("reconnecting", 1), ("close",), ("open",), ("resynced", 1, False)] == client.lifecycle()
    assert ("closed", "relay", 1000) == (
        stage.relay.ledger.of(Closed)[0].how,
        stage.relay.ledger.of(Closed)[0].by,
        stage.relay.ledger.of(Closed)[0].code,
    )


async def test_a_server_that_never_answers_times_out(stage: Stage) -> None:
    """Its connect timeout (10 s, here shortened) gives `error` and `reconnecting`."""
    with stage.relay.faults.hanging():
        async with npm_client(stage.relay.url, stage.token, connectTimeoutMs=300) as client:
            await client.until_type("reconnecting")
            assert [("error",), ("reconnecting", 1)] == client.lifecycle()
            stage.relay.faults.end_all()
            await client.until_type("open")


async def test_a_flapping_server_is_retried_for_ever(stage: Stage) -> None:
    """The attempt counter is cleared at `open`: it never gets beyond 1."""
    with stage.relay.faults.dropping(frames=1, times=5):
        async with npm_client(stage.relay.url, stage.token, baseDelayMs=10) as client:
            await client.until_type("open", 6)
            assert {1} == {event[1] for event in client.lifecycle() if event[0] == "reconnecting"}

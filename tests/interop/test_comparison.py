"""The comparison that sells the project: the npm client and syncwatch on the same agent, in the same outage, with the same wrong clock."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syncwatch.app import App
from syncwatch.config import parse
from syncwatch.core.session import Session
from syncwatch.core.states import Origin, State
from syncwatch.core.wire import Event
from syncwatch.relay import Relay
from syncwatch.relay.ledger import Pushed
from syncwatch.runtime.clock import Clock
from tests.interop.npm import npm_client
from tests.interop.scenarios import LAST, WATCHED, Outage, connected, eventually, outage, populate

CONFIG = """
listen: 127.0.0.1:0
local_listen: 127.0.0.1:0
connections:
  - {{name: cast, protocol: relaycast, url: {url}, token_file: {token}, reconnect: {{max: 1s}}, resync: {{spread: 100ms}}}}
"""


@asynccontextmanager
async def watching(relay: Relay, token: str, folder: Path, clock_ahead_s: float) -> AsyncIterator[Session]:
    """A whole sidecar whose wall clock is wrong."""
    (folder / "token").write_text(token)
    config = parse(CONFIG.format(url=relay.url, token=folder / "token"), "comparison", {})
    app = App(config, Clock(wall=lambda: time.time() + clock_ahead_s))
    await app.start()
    try:
        yield app.watched[0].session
    finally:
        await app.stop()


def missed_messages(relay: Relay, missed: Outage) -> list[Event]:
    """The missed messages as events, by the relay's facts."""
    facts = [fact for fact in relay.ledger.of(Pushed, WATCHED) if fact.kind == "message.created"]
    return [Event(fact.key, strong=True) for fact in facts if missed.counter_before < fact.number <= missed.counter_after]


@pytest.mark.parametrize(
    ("clock_ahead_s", "within_one_second"),
    [(600.0, False), (0.0, True)],
    ids=["clock ten minutes ahead", "all within one second"],
)
async def test_npm_loses_151_of_400_messages_and_syncwatch_none(
    tmp_path: Path, clock_ahead_s: float, within_one_second: bool
) -> None:
    """Both missed the same 400 messages. What even syncwatch cannot get back are 150 receipts that the server keeps nowhere."""
    async with Relay.start() as relay:
        token = populate(relay)
        async with (
            npm_client(relay.url, token, clockOffsetMs=int(clock_ahead_s * 1000)) as npm,
            watching(relay, token, tmp_path, clock_ahead_s) as session,
        ):
            await connected(relay)
            await eventually(lambda: len(relay.find(WATCHED).sinks) == 2)  # the second gets no presence event of its own

            async def heard() -> None:
                await npm.until(lambda said: LAST in npm.texts() and said[-1]["type"] == "delivery.accepted")
                await eventually(lambda: session.ledger.cursor == relay.find(WATCHED).counter)

            missed = await outage(relay, within_one_second=within_one_second, heard_last=heard)
            await npm.until_type("resynced")
            await eventually(lambda: session.state is State.OPEN and session.ledger.cursor == relay.find(WATCHED).counter)

            assert ("resynced", 500, True) == npm.lifecycle()[-1]
            assert 151 == len(set(missed.texts) - set(npm.texts()))

            messages = missed_messages(relay, missed)
            assert 400 == len(messages)
            assert 0 == sum(not session.ledger.identities.knows(message) for message in messages)
            counted = session.snapshot().continuity
            assert counted is not None
            assert 151 == counted.events_received[Origin.STORE]
            assert (150, 151) == (counted.lost, counted.unaccounted)

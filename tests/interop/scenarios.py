"""Outages as any client of the relay can go through them, the npm client and syncwatch alike (wire: relaycast §7).

A scenario acts on the relay only: it waits until the watched agent is connected, takes the connection away, lets
messages be missed, and gives the connection back. Whoever watches is started before and judged after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from syncwatch.relay import Relay
from syncwatch.relay.ledger import Sent

WATCHED = "watched"
SENDER = "sender"
CHANNEL = "general"
LAST = "the last one before the outage"
PATIENCE_S = 20.0


class Outage(NamedTuple):
    """What was missed: the texts, and the agent's counter before and after."""

    texts: list[str]
    counter_before: int
    counter_after: int


async def eventually(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it does not.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  (what is waited for is somebody else's state, without an event)
            await asyncio.sleep(0.005)


def populate(relay: Relay) -> str:
    """A workspace with the watched agent, first in the member list, and a sender; the watched agent's token.

    The place matters for numbers: the first member has each message before its delivery, the others after it (wire:
    relaycast §3.1).
    """
    workspace = relay.workspace("outage")
    token = relay.agent(workspace, WATCHED)
    relay.agent(workspace, SENDER)
    return token


async def connected(relay: Relay, connections: int = 1) -> None:
    """Wait until the watched agent has been sent something live on its `connections`th connection, and is caught up."""
    agent = relay.find(WATCHED)

    def caught_up() -> bool:
        sent = [fact for fact in relay.ledger.of(Sent, WATCHED) if fact.origin == "live"]
        return len({fact.connection for fact in sent}) >= connections and sent[-1].number == agent.counter

    await eventually(caught_up)


def post(relay: Relay, count: int, prefix: str) -> list[str]:
    """Post messages in process; their texts."""
    texts = [f"{prefix} {index}" for index in range(count)]
    for text in texts:
        relay.post(SENDER, CHANNEL, text)
    return texts


async def outage(
    relay: Relay,
    *,
    messages: int = 400,
    within_one_second: bool = False,
    heard_last: Callable[[], Awaitable[None]] | None = None,
) -> Outage:
    """An outage in which messages are missed.

    The watched agent hears one last message (`heard_last` waits until its client says so), then its connection is
    dropped and refused while `messages` are posted. By default they are posted in a later second than the last one;
    `within_one_second` puts the last message and all missed ones into one second of the server's clock, where the
    database's whole seconds cannot tell them apart.
    """
    if within_one_second:
        await asyncio.sleep(1.02 - time.time() % 1)
    relay.post(SENDER, CHANNEL, LAST)
    last_s = int(relay.clock.server_s())
    if heard_last is not None:
        await heard_last()
    before = relay.find(WATCHED).counter
    with relay.faults.outage(agent=WATCHED):
        await eventually(lambda: not relay.find(WATCHED).sinks)
        if not within_one_second:
            await asyncio.sleep(1.05)
        texts = post(relay, messages, "missed")
        after = relay.find(WATCHED).counter
        same = last_s == int(relay.clock.server_s())
        assert same == within_one_second, "the machine was too slow to do it all in one second"
    return Outage(texts, before, after)

"""What the real npm client loses in an outage against the embedded relay: the measurements of wire: relaycast §7, repeated."""

from __future__ import annotations

from collections import Counter

from syncwatch.relay import Relay
from syncwatch.relay.ledger import Ack, Sent
from tests.interop.npm import NpmClient, npm_client
from tests.interop.scenarios import LAST, WATCHED, Outage, connected, outage, populate, post

TEN_MINUTES_MS = 600_000


def lost(client: NpmClient, missed: Outage) -> int:
    """Missed messages that the application never got."""
    return len(set(missed.texts) - set(client.texts()))


async def heard(client: NpmClient) -> None:
    """Wait until the client has handed over the last message and its delivery."""
    await client.until(lambda said: LAST in client.texts() and said[-1]["type"] == "delivery.accepted")


async def test_equal_clocks_and_a_later_second_lose_nothing() -> None:
    """400 missed: 500 frames from the ring, 400 rows; no message lost, 150 deliveries are."""
    async with Relay.start() as relay:
        token = populate(relay)
        async with npm_client(relay.url, token) as client:
            await connected(relay)
            missed = await outage(relay, heard_last=lambda: heard(client))
            await client.until_type("resynced")
            assert ("resynced", 900, True) == client.lifecycle()[-1]
            assert 0 == lost(client, missed)
            assert [1] * 400 == [Counter(client.texts())[text] for text in missed.texts], "each once: the ids are known"
            assert 150 == 401 - client.types().count("delivery.accepted")
        assert 800 == missed.counter_after - missed.counter_before
        assert Counter({"ring": 500, "store": 400}) == Counter(
            fact.origin for fact in relay.ledger.of(Sent) if fact.origin != "live"
        )


async def test_a_clock_ten_minutes_ahead_loses_151_of_400() -> None:
    """`since` lies in the future: no rows; the ring holds 249 of the messages; the client reports a resync of 500 and a gap."""
    async with Relay.start() as relay:
        token = populate(relay)
        async with npm_client(relay.url, token, clockOffsetMs=TEN_MINUTES_MS) as client:
            await connected(relay)
            missed = await outage(relay, heard_last=lambda: heard(client))
            await client.until_type("resynced")
            assert ("resynced", 500, True) == client.lifecycle()[-1]
            assert 151 == lost(client, missed)
        assert 800 == missed.counter_after - missed.counter_before
        assert (500, True) == (
            relay.ledger.of(Ack)[0].fields["replayed"],
            relay.ledger.of(Ack)[0].fields["gap_detected"],
        )


async def test_an_outage_within_one_second_loses_151_of_400() -> None:
    """Whole seconds and a strict comparison drop every row of the second of `since`."""
    async with Relay.start() as relay:
        token = populate(relay)
        async with npm_client(relay.url, token) as client:
            await connected(relay)
            missed = await outage(relay, within_one_second=True, heard_last=lambda: heard(client))
            await client.until_type("resynced")
            assert ("resynced", 500, True) == client.lifecycle()[-1]
            assert 151 == lost(client, missed)


async def test_a_clock_ten_minutes_behind_spends_the_rows_on_old_messages() -> None:
    """2500 earlier messages, 300 missed: 1000 old rows are delivered again, 51 messages are lost."""
    async with Relay.start() as relay:
        token = populate(relay)
        async with npm_client(relay.url, token, clockOffsetMs=-TEN_MINUTES_MS) as client:
            await connected(relay)
            old = post(relay, 2500, "old")
            await client.until(lambda said: 2500 <= len(client.texts()))
            missed = await outage(relay, messages=300, heard_last=lambda: heard(client))
            await client.until_type("resynced")
            assert ("resynced", 1500, True) == client.lifecycle()[-1]
            assert 51 == lost(client, missed)
            told = Counter(client.texts())
            assert 1000 == sum(told[text] == 2 for text in old)
        assert WATCHED in relay.ledger.tallies

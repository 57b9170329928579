"""`syncwatch run` as a read-only observer of the embedded relay: what the socket brought, what only the log has, what is hidden."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from syncwatch.relay import Relay
from syncwatch.relay.inprocess import NewWorkspace
from syncwatch.relay.logfacts import Published
from tests.integration.sidecar import PATIENCE_S, Document, Scrape, Sidecar, configuration, running, until


class Rig(NamedTuple):
    """A relay of the observers' generation, an observer's token, and a configuration that watches with it."""

    relay: Relay
    workspace: NewWorkspace
    folder: Path
    config: Document
    http: aiohttp.ClientSession

    def post(self, messages: int, channel: str = "general") -> None:
        """Messages of alice: one event each for an observer."""
        for number in range(messages):
            self.relay.post("alice", channel, f"message {number}")

    @property
    def published(self) -> list[Published]:
        """What the workspace's log was given, or should have been."""
        return [fact for fact in self.relay.ledger.of(Published) if fact.protocol == "observer"]

    @asynccontextmanager
    async def sidecar(self, compared: bool = True) -> AsyncIterator[Sidecar]:
        """The sidecar, when it is open and, by default, has compared itself with the log."""
        async with running(self.folder, self.config, self.http) as made:
            await made.until(lambda c: c["state"] == "open" and (c["verification"]["results"]["verified"] or not compared))
            yield made

    async def counted(self, sidecar: Sidecar, first_copies: int, state: str = "open") -> Scrape:
        """So many first copies, nothing undecided."""
        await sidecar.until(lambda c: c["state"] == state and c["ledger"]["events"] == first_copies and not c["ledger"]["undecided"])
        return await sidecar.scrape()


@asynccontextmanager
async def rig(folder: Path, channels: Sequence[str] = (), **cast: Any) -> AsyncIterator[Rig]:
    """A relay with some history, and nobody watching yet."""
    async with Relay.start(generation="observer") as relay, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as http:
        workspace = relay.workspace("w")
        relay.agent(workspace, "alice")
        token_file = folder / "token"
        token_file.write_text(relay.observer(workspace, "watch", channels=channels, include_dms=not channels))
        config = configuration(relay.url, token_file, folder, {"cast": {"dialect": "observer", **cast}})
        made = Rig(relay, workspace, folder, config, http)
        made.post(3)
        yield made


def origins(scrape: Scrape) -> dict[str, int]:
    """First copies by origin, without those of which there are none."""
    found = {name: int(scrape.value("syncwatch_events_received_total", origin=name)) for name in ("live", "store", "poll", "audit")}
    return {name: count for name, count in found.items() if count}


def reasons(connection: Document) -> list[str]:
    """Why it is not healthy."""
    return [reason["reason"] for reason in connection["reasons"]]


async def test_live_events_and_nothing_of_before(tmp_path: Path) -> None:
    """From the newest number on, each event once."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        before = len(r.published)
        r.post(5)
        scrape = await r.counted(sidecar, len(r.published) - before)
        assert {"live": len(r.published) - before} == origins(scrape)
        assert (0, 0) == (scrape.value("syncwatch_events_duplicate_total"), scrape.value("syncwatch_sequence_missed_total"))
        assert 'continuity="contiguous"' in scrape.text


async def test_what_was_missed_is_read_from_the_log(tmp_path: Path) -> None:
    """The socket replays nothing: what was published while it was away comes from the log, each event once; the log agrees: verified."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        before = len(r.published)
        r.post(2)
        live = len(r.published) - before
        await r.counted(sidecar, live)
        with r.relay.faults.outage("refuse", times=None):
            await sidecar.until(lambda c: c["state"] == "reconnecting")
            r.post(4)
        scrape = await r.counted(sidecar, len(r.published) - before)
        assert {"live": live, "store": len(r.published) - before - live} == origins(scrape)
        assert 1 == scrape.value("syncwatch_resyncs_total", claim="complete", verdict="verified")
        assert 0 == scrape.value("syncwatch_sequence_missed_total")


async def test_a_jump_is_looked_into_at_once(tmp_path: Path) -> None:
    """A number that was not pushed is found in the log soon after the jump, not a minute later: missed, and recovered."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        before = len(r.published)
        r.post(1)
        with r.relay.faults.skipping(times=1):
            r.post(1)
        r.post(1)
        scrape = await r.counted(sidecar, len(r.published) - before)
        assert 1 == origins(scrape)["audit"]
        assert (1, 1) == (scrape.value("syncwatch_sequence_missed_total"), scrape.value("syncwatch_sequence_recovered_total"))
        assert 1 == scrape.value("syncwatch_sequence_gaps_total", cause="live")
        assert "behind" not in reasons(await sidecar.cast())


async def test_what_is_left_out_before_the_log_could_be_read(tmp_path: Path) -> None:
    """The log is refused from the start: what the socket passes over meanwhile is found as soon as the log answers, and counted."""
    async with rig(tmp_path) as r, AsyncExitStack() as refusal:
        refusal.enter_context(r.relay.faults.refusing_feed(503))
        async with r.sidecar(compared=False) as sidecar:
            before = len(r.published)
            r.post(1)
            with r.relay.faults.skipping(times=1):
                r.post(1)
            r.post(1)
            await r.counted(sidecar, len(r.published) - before - 1)
            assert 0 == (await sidecar.scrape()).value("syncwatch_sequence_missed_total"), "nobody can know yet"
            await refusal.aclose()
            scrape = await r.counted(sidecar, len(r.published) - before)
            assert 1 == origins(scrape)["audit"]
            assert (1, 1) == (scrape.value("syncwatch_sequence_missed_total"), scrape.value("syncwatch_sequence_recovered_total"))


async def test_hidden_events_are_no_loss(tmp_path: Path) -> None:
    """A filtered token sees holes in the numbers; nobody can know what is in them, so nothing is called missed, and no resync verified."""
    async with rig(tmp_path, channels=["general"]) as r, r.sidecar() as sidecar:
        r.post(1)
        await sidecar.until(lambda c: c["ledger"]["events"])
        with r.relay.faults.outage("refuse", times=None):
            await sidecar.until(lambda c: c["state"] == "reconnecting")
            r.relay.dm("alice", "alice", "hidden from the filter")
            r.post(1)
        await sidecar.until(lambda c: c["state"] == "open" and c["ledger"]["events_by_origin"].get("store"))
        scrape = await sidecar.scrape()
        assert 0 == scrape.value("syncwatch_sequence_missed_total")
        assert 1 == scrape.value("syncwatch_resyncs_total", claim="complete", verdict="unverifiable")


async def test_an_event_that_the_log_could_not_keep(tmp_path: Path) -> None:
    """It comes without a number, counts as any other, and the log's silence about it is no contradiction."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        before = len(r.published)
        with r.relay.faults.log_failing():
            r.post(1)
        r.post(1)
        scrape = await r.counted(sidecar, len(r.published) - before)
        assert {"live": len(r.published) - before} == origins(scrape)
        assert 0 == scrape.value("syncwatch_audit_events_total", verdict="invented")


async def test_a_revoked_token(tmp_path: Path) -> None:
    """1008, then 401: refused credentials, until the file has another token."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        r.relay.revoke_observer("watch")

        async def post_and_look() -> Document:
            r.post(1)  # the server looks when it publishes, every 5 s at most
            return await sidecar.cast()

        await until(post_and_look, lambda c: c["state"] == "failed", within_s=15)
        assert "unauthorized" in reasons(await sidecar.cast())
        assert 1 == (await sidecar.scrape()).value("syncwatch_connection_close_codes_total", code="1008")
        (tmp_path / "token").write_text(r.relay.observer(r.workspace, "again"))
        await sidecar.until(lambda c: c["state"] == "open")


async def test_the_log_carries_on_without_a_socket(tmp_path: Path) -> None:
    """Polling, and back: each event once."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        before = len(r.published)
        with r.relay.faults.outage("refuse", times=None):
            await sidecar.until(lambda c: c["state"] == "polling")
            r.post(3)
            polled = len(r.published) - before
            await r.counted(sidecar, polled, state="polling")
            assert {"poll": polled} == origins(await sidecar.scrape())
        await sidecar.until(lambda c: c["state"] == "open", within_s=15)
        r.post(1)
        scrape = await r.counted(sidecar, len(r.published) - before)
        assert {"poll": polled, "live": len(r.published) - before - polled} == origins(scrape)

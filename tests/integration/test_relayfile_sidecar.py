"""`syncwatch run` watching the embedded relay's Relayfile stream: every number equal to what truly happened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from syncwatch.relay import Relay
from tests.integration.sidecar import PATIENCE_S, Document, Scrape, Sidecar, holds, running

WORKSPACE = "w1"
FIRST = 5  # events in the log before the sidecar comes: not its to judge


def configuration(url: str, token_file: Path, folder: Path, **changes: Any) -> Document:
    """One Relayfile connection with short intervals."""
    files: Document = {
        "name": "files",
        "protocol": "relayfile",
        "url": url,
        "workspace": WORKSPACE,
        "token_file": str(token_file),
        "connect_timeout": "1s",
        "heartbeat": {"interval": "200ms", "timeout": "3s"},  # a loaded machine is no half-open connection
        "reconnect": {"min": "30ms", "max": "100ms", "stable_after": "500ms"},
        "resync": {"ack_timeout": "1s", "hole_grace": "200ms", "spread": "0s"},
        "verify": {"interval": "60s", "grace": "100ms"},
        "polling": {"interval": "100ms", "reprobe_min": "200ms", "reprobe_max": "400ms"},
        "audit": {"interval": "60s"},
        **changes,
    }
    return {
        "listen": "127.0.0.1:0",
        "local_listen": "127.0.0.1:0",
        "state_dir": str(folder / "state"),
        "log": {"level": "debug", "format": "json"},
        "health": {"degraded_after": "200ms", "recovered_after": "200ms", "incident_hold": "2s"},
        "connections": [files],
    }


class Rig(NamedTuple):
    """A relay with one workspace, and a configuration that watches it."""

    relay: Relay
    token_file: Path
    folder: Path
    config: Document
    http: aiohttp.ClientSession

    def write(self, count: int = 1, folder: str = "docs", workspace: str = WORKSPACE) -> None:
        """Write so many files."""
        for _ in range(count):
            self.relay.files.write(workspace, f"/{folder}/{self.relay.files.log.events + 1}.md", "text")

    @property
    def newest(self) -> int:
        """The number of the newest event, whatever its workspace."""
        return self.relay.files.log.events

    @asynccontextmanager
    async def sidecar(self, opened: bool = True) -> AsyncIterator[Sidecar]:
        """The sidecar, by default when it is open and has compared itself with the log."""
        async with running(self.folder, self.config, self.http) as made:
            if opened:
                await made.until(lambda c: c["state"] == "open" and c["verification"]["results"]["verified"])
            yield made

    async def caught_up(self, sidecar: Sidecar, cursor: int | None = None) -> Document:
        """Open, with nothing undecided, at the newest event."""
        wanted = self.newest if cursor is None else cursor
        return await sidecar.until(
            lambda c: c["state"] == "open" and c["ledger"]["cursor"] == wanted and not c["ledger"]["undecided"]
        )


@asynccontextmanager
async def rig(folder: Path, **changes: Any) -> AsyncIterator[Rig]:
    """A relay with five events, and nobody watching yet."""
    async with Relay.start() as relay, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as http:
        token_file = folder / "token"
        token_file.write_text(relay.files.token(WORKSPACE))
        made = Rig(relay, token_file, folder, configuration(relay.url, token_file, folder, **changes), http)
        made.write(FIRST)
        yield made


def origins(scrape: Scrape) -> dict[str, int]:
    """First copies by origin, without those of which there are none."""
    found = {name: int(scrape.value("syncwatch_events_received_total", origin=name)) for name in ("live", "store", "poll", "audit")}
    return {name: count for name, count in found.items() if count}


def audit_events(scrape: Scrape) -> dict[str, int]:
    """What audits said about events."""
    return {name: int(scrape.value("syncwatch_audit_events_total", verdict=name)) for name in ("late", "missed", "invented")}


async def test_live_events_are_counted_and_the_log_before_us_is_not(tmp_path: Path) -> None:
    """From now on: what was there when we came is no event of ours; what follows is live, each once, jumps of other workspaces or not."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        r.write(3)
        r.write(4, workspace="another")
        r.write(2)
        await r.caught_up(sidecar)
        scrape = await sidecar.scrape()
        assert {"live": 5} == origins(scrape)
        assert 0 == scrape.value("syncwatch_events_duplicate_total")
        assert 0 == scrape.value("syncwatch_sequence_missed_total")
        assert "increasing" in scrape.text
        assert 200 == (await sidecar.gate())[0]


async def test_a_drop_is_resumed_from_the_cursor(tmp_path: Path) -> None:
    """What was written while there was no socket comes as catch-up, after an overlap of one; the log agrees: verified."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        r.write(3)
        await r.caught_up(sidecar)
        with r.relay.faults.outage("refuse", protocol="relayfile", times=None):
            await sidecar.until(lambda c: c["state"] == "reconnecting")
            r.write(7)
        await r.caught_up(sidecar)
        scrape = await sidecar.scrape()
        assert {"live": 3, "store": 7} == origins(scrape)
        assert 1 == scrape.value("syncwatch_events_duplicate_total")
        assert 1 == scrape.value("syncwatch_resyncs_total", claim="complete", verdict="verified")
        assert (0, 0) == (scrape.value("syncwatch_sequence_missed_total"), scrape.value("syncwatch_sequence_resets_total"))


async def test_the_websocket_alone_is_refused(tmp_path: Path) -> None:
    """Polling at once, said in `/status` and by the gate; what was written between loss and first poll is seen exactly once; back without loss or repetition."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        r.write(2)
        await r.caught_up(sidecar)
        with r.relay.faults.outage("refuse", protocol="relayfile", times=None):
            r.write(1)  # nobody pushes it: the socket is gone, the first poll has not come
            polling = await sidecar.until(lambda c: c["state"] == "polling" and c["ledger"]["cursor"] == r.newest)
            assert "polling" in [reason["reason"] for reason in polling["reasons"]]
            code, gate = await sidecar.gate()
            assert 503 == code, gate
            r.write(4)
            await sidecar.until(lambda c: c["ledger"]["cursor"] == r.newest)
            assert {"live": 2, "poll": 5} == origins(await sidecar.scrape())
            assert 1 == (await sidecar.scrape()).value("syncwatch_degraded", reason="polling")
        await r.caught_up(sidecar)
        r.write(1)
        await r.caught_up(sidecar)
        scrape = await sidecar.scrape()
        assert {"live": 3, "poll": 5} == origins(scrape)
        assert 0 < scrape.value("syncwatch_connection_state_seconds_total", state="polling")
        assert 0 == scrape.value("syncwatch_sequence_missed_total")
        await sidecar.said("degraded")
        await sidecar.said("recovered")
        assert 200 == (await sidecar.gate())[0]


async def test_an_event_that_was_not_pushed_is_found(tmp_path: Path) -> None:
    """The audit finds it, recovers it and says so; the newest one missing means that the push path is behind."""
    async with rig(tmp_path, audit={"interval": "500ms"}) as r, r.sidecar() as sidecar:
        r.write(1)
        with r.relay.faults.skipping(protocol="relayfile", times=1):
            r.write(1)
        r.write(1)
        await sidecar.until(lambda c: c["ledger"]["missed"] == 1)
        scrape = await sidecar.scrape()
        assert {"live": 2, "audit": 1} == origins(scrape)
        assert {"late": 0, "missed": 1, "invented": 0} == audit_events(scrape)
        assert (1, 1) == (scrape.value("syncwatch_sequence_missed_total"), scrape.value("syncwatch_sequence_recovered_total"))
        assert "behind" not in [reason["reason"] for reason in (await sidecar.cast())["reasons"]]
        with r.relay.faults.stalling(protocol="relayfile"):
            r.write(1)
            await sidecar.until(lambda c: "behind" in [reason["reason"] for reason in c["reasons"]])
            assert 503 == (await sidecar.gate())[0]


async def test_what_is_left_out_before_the_log_could_be_read(tmp_path: Path) -> None:
    """The log is refused from the start: what the socket leaves out meanwhile is found as soon as the log answers, although it is not the newest by then."""
    async with rig(tmp_path) as r, AsyncExitStack() as refusal:
        refusal.enter_context(r.relay.faults.refusing_feed(503))
        async with r.sidecar(opened=False) as sidecar:
            await sidecar.until(lambda c: c["state"] == "open")
            r.write(1)
            with r.relay.faults.skipping(protocol="relayfile", times=1):
                r.write(1)
            r.write(2, workspace="another")
            r.write(1)
            await sidecar.until(lambda c: c["ledger"]["events"] == 2)
            assert 0 == (await sidecar.cast())["ledger"]["missed"], "nobody can know yet"
            await refusal.aclose()
            await sidecar.until(lambda c: c["ledger"]["missed"] == 1)
            assert {"live": 2, "audit": 1} == origins(await sidecar.scrape())


@pytest.mark.parametrize("events", [0, 3, 40], ids=["nothing new", "below the cursor", "past the cursor"])
async def test_a_memory_restart_is_a_reset(tmp_path: Path, events: int) -> None:
    """The log begins again at 1: found by the overlap, whether or not the numbers have passed ours; everything since is read once."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        r.write(10)
        await r.caught_up(sidecar)
        with r.relay.faults.outage("refuse", protocol="relayfile", times=None):
            await sidecar.until(lambda c: c["state"] in ("reconnecting", "polling"))
            r.relay.restart()
            r.write(events)
        await sidecar.until(lambda c: c["ledger"]["resets"] == 1 and c["state"] == "open" and not c["ledger"]["undecided"])
        r.write(2)
        await r.caught_up(sidecar)
        scrape = await sidecar.scrape()
        found = origins(scrape)
        assert 12 + events == sum(found.values()), found
        assert 1 == scrape.value("syncwatch_sequence_resets_total")
        assert 0 == scrape.value("syncwatch_sequence_missed_total")


async def test_a_token_that_expires_while_the_socket_lives(tmp_path: Path) -> None:
    """Pings are answered, the feed refuses: unauthorized before the next reconnect finds out; a new token is taken up at once."""
    async with rig(tmp_path, audit={"interval": "300ms"}) as r, r.sidecar() as sidecar:
        assert 0 < (await sidecar.scrape()).value("syncwatch_token_expiry_timestamp_seconds")
        with r.relay.faults.refusing_feed(401):
            seen = await sidecar.until(lambda c: "unauthorized" in [reason["reason"] for reason in c["reasons"]])
            assert "open" == seen["state"]
            assert 503 == (await sidecar.gate())[0]
        await sidecar.until(lambda c: not c["reasons"])


async def test_a_kill_in_an_outage_is_resumed(tmp_path: Path) -> None:
    """SIGKILL while the socket is away: the next process resumes where the last one stood, and counts what came in between once."""
    async with rig(tmp_path) as r:
        async with r.sidecar() as sidecar:
            r.write(4)
            await r.caught_up(sidecar)
            await holds(lambda: (tmp_path / "state").exists())
            await sidecar.end()
        r.write(6)
        async with r.sidecar(opened=False) as sidecar:
            await r.caught_up(sidecar)
            scrape = await sidecar.scrape()
            assert {"store": 6} == origins(scrape)
            assert 1 == scrape.value("syncwatch_resyncs_total", claim="complete", verdict="verified")


async def test_a_canary_comes_back(tmp_path: Path) -> None:
    """One fixed file, matched on the correlation id; it is an event like any other."""
    async with rig(tmp_path, canary={"enabled": True, "interval": "30s"}) as r, r.sidecar() as sidecar:
        await sidecar.until(lambda c: c["canary"]["received"] == 1)
        scrape = await sidecar.scrape()
        assert {"live": 1} == origins(scrape)
        assert 1 == scrape.value("syncwatch_canary_round_trip_seconds_count")
        assert 0 == scrape.value("syncwatch_canaries_failed_total")


async def test_a_canary_that_is_not_pushed_is_found_in_the_log(tmp_path: Path) -> None:
    """The live path and the feed are measured apart: written and kept, but not delivered."""
    canary = {"enabled": True, "interval": "30s", "timeout": "700ms"}
    async with rig(tmp_path, canary=canary, audit={"interval": "300ms"}) as r:
        with r.relay.faults.stalling(protocol="relayfile"):
            async with r.sidecar() as sidecar:
                seen = await sidecar.until(lambda c: c["canary"]["timed_out"] and c["canary"]["logged"])
                assert (1, 0, 1) == (seen["canary"]["sent"], seen["canary"]["received"], seen["canary"]["logged"])
                assert 0 < seen["canary"]["log_delay_s"]
                assert {"audit": 1} == origins(await sidecar.scrape())


def reasons(connection: Document) -> set[str]:
    """Why it is not healthy."""
    return {reason["reason"] for reason in connection["reasons"]}


async def test_an_overflow_loses_nothing(tmp_path: Path) -> None:
    """More than the server buffers for one connection: 1013, back from the cursor, every event once."""
    async with rig(tmp_path, heartbeat={"interval": "60s", "timeout": "60s"}) as r, r.sidecar() as sidecar:
        with r.relay.faults.freezing("to_client", protocol="relayfile"):
            r.write(6000)  # the server's buffer holds 4096
        await r.caught_up(sidecar)
        scrape = await sidecar.scrape()
        assert 6000 == sum(origins(scrape).values())
        assert 1 <= scrape.value("syncwatch_connection_disconnects_total", reason="overflow")
        assert 1 <= scrape.value("syncwatch_connection_close_codes_total", code="1013")
        assert (0, 0) == (scrape.value("syncwatch_sequence_missed_total"), scrape.value("syncwatch_sequence_resets_total"))


@pytest.mark.parametrize(
    ("status", "retry_after_s", "failure", "reason"),
    [(401, None, "unauthorized", "unauthorized"), (403, None, "forbidden", "forbidden"), (429, None, "rate_limited", "rate_limited"),
     (429, 2, "rate_limited", "rate_limited"), (503, None, "rejected", "upstream_error")],
)  # fmt: skip
async def test_refusals_have_their_reasons(tmp_path: Path, status: int, retry_after_s: float | None, failure: str, reason: str) -> None:
    """Each status of the handshake; refused credentials are retried when the token file changes, a limit when it says."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        with r.relay.faults.refusing(status, retry_after_s=retry_after_s, protocol="relayfile"):
            r.relay.drop()
            seen = await sidecar.until(lambda c: reason in reasons(c))
            assert ("failed" if status in (401, 403) else seen["state"]) == seen["state"]
            assert 1 <= (await sidecar.scrape()).value("syncwatch_connection_attempt_failures_total", reason=failure)
            if retry_after_s is not None:
                assert 1.0 < seen["attempts"]["next"]["in_s"] <= 2.1
        r.token_file.write_text(r.relay.files.token(WORKSPACE, subject="another"))
        await sidecar.until(lambda c: c["state"] == "open" and not c["reasons"])


async def test_a_real_token_expires_while_the_socket_lives(tmp_path: Path) -> None:
    """Checked at the handshake only: pings go on, the feed says 401, and the metric told the time beforehand."""
    async with rig(tmp_path, audit={"interval": "300ms"}) as r:
        r.token_file.write_text(r.relay.files.token(WORKSPACE, lifetime_s=6.0))  # time enough to begin
        async with r.sidecar() as sidecar:
            expiry_s = (await sidecar.scrape()).value("syncwatch_token_expiry_timestamp_seconds")
            seen = await sidecar.until(lambda c: "unauthorized" in reasons(c))
            assert "open" == seen["state"]
            assert expiry_s <= (await sidecar.scrape()).value("syncwatch_connection_state_entered_timestamp_seconds", state="open") + 10.0
            acknowledged = seen["heartbeats"]["acknowledged"]
            await sidecar.until(lambda c: c["heartbeats"]["acknowledged"] > acknowledged)
            r.token_file.write_text(r.relay.files.token(WORKSPACE))
            await sidecar.until(lambda c: not c["reasons"])


async def test_a_token_for_some_paths_may_not_read_the_feed(tmp_path: Path) -> None:
    """Told apart from refused credentials: the socket lives and counts, nothing can be compared, and that is said."""
    async with rig(tmp_path, paths=["/docs/**"], audit={"interval": "200ms"}) as r:
        r.token_file.write_text(r.relay.files.token(WORKSPACE, ["relayfile:fs:read:/docs/**"]))
        async with running(tmp_path, r.config, r.http) as sidecar:
            await sidecar.until(lambda c: c["state"] == "open" and c["verification"]["unverified_s"] > 1.0)
            r.write(3)
            r.write(2, folder="elsewhere")
            seen = await sidecar.until(lambda c: c["ledger"]["events"] == 3)
            assert set() == reasons(seen), "no trouble of the connection; that nothing is verified shows in its age"
            await holds(lambda: "the token may not read the feed" in sidecar.text() or "HTTP 403" in sidecar.text())
            with r.relay.faults.outage("refuse", protocol="relayfile", times=None):
                await sidecar.until(lambda c: c["attempts"]["consecutive_failures"] > 4)
                seen = await sidecar.cast()
                assert "reconnecting" == seen["state"], "there is no feed to fall back to"
                assert "forbidden" in reasons(seen)
                r.write(2)
            await sidecar.until(lambda c: c["state"] == "open" and c["ledger"]["events"] == 5)
            scrape = await sidecar.scrape()
            assert {"live": 3, "store": 2} == origins(scrape)
            assert 0 == scrape.value("syncwatch_sequence_resets_total")


async def test_a_filter_is_applied_to_the_feed_as_well(tmp_path: Path) -> None:
    """What the socket's own filter leaves out is not missed, polled or audited."""
    async with rig(tmp_path, paths=["/docs/**"], audit={"interval": "200ms"}) as r, r.sidecar() as sidecar:
        r.write(2)
        r.write(3, folder="elsewhere")
        with r.relay.faults.outage("refuse", protocol="relayfile", times=None):
            await sidecar.until(lambda c: c["state"] == "polling")
            r.write(3, folder="elsewhere")
            r.write(1)
            await sidecar.until(lambda c: c["ledger"]["cursor"] == r.newest)
        await r.caught_up(sidecar)
        await sidecar.until(lambda c: c["ledger"]["audits"]["clean"] > 2)
        scrape = await sidecar.scrape()
        assert {"live": 2, "poll": 1} == origins(scrape)
        assert {"late": 0, "missed": 0, "invented": 0} == audit_events(scrape)

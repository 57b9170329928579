"""Refused handshakes against a real sidecar: each status has its reason, its condition and its way of being tried again."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from syncwatch.relay import Relay
from syncwatch.relay.kinds import Refuse
from syncwatch.relay.ledger import Opened, Refused
from tests.integration.sidecar import PROMPTLY_S, WATCHER, Document, Rig, rig, until

QUICK: dict[str, Any] = {"reconnect": {"min": "50ms", "max": "100ms", "jitter": False}}
PATIENT: dict[str, Any] = {"reconnect": {"breaker_retry": "60s"}}


def reasons(status: Document) -> list[str]:
    """The reasons that hold, gravest first."""
    return [one["reason"] for one in status["reasons"]]


def refusals(relay: Relay) -> list[Refused]:
    """Upgrades that the relay refused."""
    return relay.ledger.of(Refused)


async def seen(it: Rig, count: int) -> None:
    """Wait until the relay refused so many upgrades."""

    async def refused() -> int:
        return len(refusals(it.relay))

    await until(refused, lambda found: found >= count)


def spoil_token(it: Rig) -> None:
    """A token that the relay does not know."""
    it.token_file.write_text("at_live_" + "0" * 32)


def workspace_key(it: Rig) -> None:
    """A workspace's key, whose stream this relay does not serve."""
    it.token_file.write_text(it.relay.workspace("other").api_key)


def another_path(it: Rig) -> None:
    """A base URL below which the relay has no stream."""
    it.config["connections"][0]["url"] = f"{it.relay.url}/elsewhere"


def refuse(status: int) -> Any:
    """A server that answers upgrades with this status."""

    def prepare(it: Rig) -> None:
        it.relay.faults.begin(Refuse(status=status))

    return prepare


@pytest.mark.parametrize(
    ("status", "prepare"),
    [(404, workspace_key), (426, another_path), (500, refuse(500)), (503, refuse(503))],
    ids=["404", "426", "500", "503"],
)
async def test_a_refusal_is_tried_again_with_growing_delays(tmp_path: Path, status: int, prepare: Any) -> None:
    """`rejected`, the condition `upstream_error`, and the next attempt after the backoff: 50 ms, then 100 ms."""
    async with rig(tmp_path, cast=QUICK) as it:
        prepare(it)
        async with it.sidecar(opened=False) as sidecar:
            await seen(it, 4)
            cast = await sidecar.until(lambda cast: cast["attempts"]["failures"]["rejected"] >= 4)
            assert f"rejected: the server refused with HTTP {status}" == cast["attempts"]["last_failure"]
            assert "reconnecting" == cast["state"]
            whole = await sidecar.status()
            assert ["reconnecting", "upstream_error"] == reasons(whole)
            scrape = await sidecar.scrape()
            failures = "syncwatch_connection_attempt_failures_total"
            assert sum(scrape.all(failures)) == scrape.value(failures, reason="rejected")
            assert 503 == (await sidecar.gate())[0]
            assert (200, "ok") == await sidecar.probe("/healthz")
        found = refusals(it.relay)
        assert {status} == {one.status for one in found}
        waits_s = [later.time_s - earlier.time_s for earlier, later in itertools.pairwise(found)]
        assert waits_s[0] >= 0.05
        assert min(waits_s[1:]) >= 0.1
        assert max(waits_s[:3]) < PROMPTLY_S


@pytest.mark.parametrize(("status", "condition", "label"), [(429, "rate_limited", "rate_limited"), (503, "upstream_error", "rejected")])
async def test_retry_after_is_honoured(tmp_path: Path, status: int, condition: str, label: str) -> None:
    """The server asks for 1.5 s: not before, and soon after."""
    async with rig(tmp_path, cast=QUICK) as it, it.sidecar() as sidecar:
        with it.relay.faults.refusing(status, retry_after_s=1.5, times=1):
            it.relay.drop(WATCHER)
            await sidecar.until(lambda cast: cast["attempts"]["failures"][label] == 1)
            whole = await sidecar.status()
            assert ["reconnecting", condition] == reasons(whole)
            assert 1.0 < whole["connections"][0]["attempts"]["next"]["in_s"] <= 1.5
            assert 1 == (await sidecar.scrape()).value("syncwatch_connection_attempt_failures_total", reason=label)
            await sidecar.caught_up(it.relay)
        waited_s = it.relay.ledger.of(Opened, WATCHER)[1].time_s - refusals(it.relay)[0].time_s
        assert 1.5 <= waited_s < 1.5 + PROMPTLY_S


async def test_refused_credentials_wait_for_another_token(tmp_path: Path) -> None:
    """401: `failed` at the first one, not asked again in vain, and at once when the token file has other content."""
    async with rig(tmp_path, cast=PATIENT) as it:
        spoil_token(it)
        async with it.sidecar(opened=False) as sidecar:
            await sidecar.until(lambda cast: cast["state"] == "failed")
            whole = await sidecar.status()
            assert ["failed", "unauthorized"] == reasons(whole)
            assert "renew the token file" in whole["reasons"][1]["advice"]
            assert whole["connections"][0]["attempts"]["next"]["in_s"] > 50
            assert 1 == (await sidecar.scrape()).value("syncwatch_connection_attempt_failures_total", reason="unauthorized")
            await asyncio.sleep(1.2)  # beats pass and the file is looked at, but it says the same
            assert 1 == len(refusals(it.relay))

            began_s = time.monotonic()
            it.token_file.write_text(it.token)
            await sidecar.caught_up(it.relay)
            assert time.monotonic() - began_s < PROMPTLY_S, "the next attempt was due after 50 s"
            assert 200 == (await sidecar.gate())[0]


async def test_forbidden_waits_for_another_token_too(tmp_path: Path) -> None:
    """403: known but not allowed."""
    async with rig(tmp_path, cast=PATIENT) as it, it.sidecar() as sidecar:
        with it.relay.faults.refusing(403):
            it.relay.drop(WATCHER)
            await sidecar.until(lambda cast: cast["state"] == "failed")
            assert ["failed", "forbidden"] == reasons(await sidecar.status())
            assert 1 == (await sidecar.scrape()).value("syncwatch_connection_attempt_failures_total", reason="forbidden")
        await asyncio.sleep(1.2)
        assert 1 == len(refusals(it.relay)), "it would be let in now, but nothing that it can see has changed"
        agent = it.relay.find(WATCHER)
        it.token_file.write_text(it.relay.directory.rotate_token(agent.workspace, agent.name)["token"])
        await sidecar.caught_up(it.relay)


async def test_a_token_that_is_rotated_away_and_renewed(tmp_path: Path) -> None:
    """The token expires during the connection, the file goes and comes back with the new one: nothing is missed in the end."""
    async with rig(tmp_path, cast=PATIENT) as it, it.sidecar() as sidecar:
        agent = it.relay.find(WATCHER)
        renewed = it.relay.directory.rotate_token(agent.workspace, agent.name)["token"]
        it.token_file.unlink()
        it.relay.drop(WATCHER)
        it.post(5)
        cast = await sidecar.until(lambda cast: cast["state"] == "failed")
        assert f"unauthorized: token file {it.token_file}: no such file or directory" == cast["attempts"]["last_failure"]
        assert [] == refusals(it.relay), "without a token nobody is asked"
        it.token_file.write_text(it.token)
        await seen(it, 1)
        it.token_file.write_text(renewed)
        cast = await sidecar.caught_up(it.relay)
        assert (10, 10, 0) == (cast["ledger"]["missed"], cast["ledger"]["recovered"], cast["ledger"]["lost"])
        assert [] == reasons(await sidecar.status())


async def test_a_handshake_that_hangs(tmp_path: Path) -> None:
    """A server that accepts and never answers: `timeout` after connect_timeout, the condition `handshake_timeout`, and on it goes."""
    async with rig(tmp_path, cast={"connect_timeout": "300ms", **QUICK}) as it:
        with it.relay.faults.hanging():
            async with it.sidecar(opened=False) as sidecar:
                cast = await sidecar.until(lambda cast: cast["attempts"]["failures"]["timeout"] >= 2)
                assert cast["attempts"]["last_failure"].startswith("timeout: ")
                assert ["handshake_timeout", "reconnecting"] == reasons(await sidecar.status())
                it.relay.faults.end_all()
                await sidecar.caught_up(it.relay)
                assert "handshake_timeout" not in reasons(await sidecar.status())


async def test_nobody_listens(tmp_path: Path) -> None:
    """Refused connections are counted as such, and the server is found when it comes."""
    async with rig(tmp_path, cast=QUICK) as it, it.sidecar() as sidecar:
        it.relay.restart(down_s=1.0)
        await sidecar.until(lambda cast: cast["attempts"]["failures"]["refused"] >= 2)
        assert ["reconnecting"] == reasons(await sidecar.status())
        await sidecar.caught_up(it.relay)

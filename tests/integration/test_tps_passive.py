"""`syncwatch run` beside a process that writes a host's state file as the real one does: what the file and the process table prove, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import yaml

from syncwatch.core.reported import Advice
from tests.integration.sidecar import PATIENCE_S, Document, Sidecar, command, running, until
from tests.integration.test_reload import reloaded

BEAT_S = 0.3
HOST = str(Path(__file__).with_name("tpshost.py"))


class Host:
    """The process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def do(self, word: str) -> None:
        """Tell it, and wait until it has done so."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        await self.heard(word)

    async def heard(self, word: str) -> None:
        """Wait until it says this."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert f"{word}\n".encode() == await self.process.stdout.readline()

    async def end(self, sign: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal and wait for its end."""
        if self.process.returncode is None:
            self.process.send_signal(sign)
        await self.process.wait()


@asynccontextmanager
async def host(path: Path, branch: str = "b1") -> AsyncIterator[Host]:
    """Connected, for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, HOST, str(path), branch, str(BEAT_S), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    made = Host(process)
    try:
        await made.heard("connected")
        yield made
    finally:
        await made.end()


class Rig(NamedTuple):
    """Where the file is, and a sidecar that reads it."""

    path: Path
    sidecar: Sidecar

    async def stands(self, state: str, *reasons: str) -> Document:
        """The connection, once it stands so and exactly these reasons hold."""
        return await self.sidecar.until(lambda c: c["state"] == state and [one["reason"] for one in c["reasons"]] == list(reasons))


    async def reconfigured(self, config: Document) -> None:
        """Another configuration runs."""
        (self.path.parents[1] / "syncwatch.yaml").write_text(yaml.safe_dump(config))
        await reloaded(self.sidecar)


def configuration(folder: Path, **changes: Any) -> Document:
    """A sidecar that reads one host's file, with short times."""
    branch: Document = {
        "name": "branch", "protocol": "tps", "state_path": str(folder / "connections"), "branch": "b1",
        "heartbeat": {"interval": "1500ms", "timeout": "2500ms"}, **changes,
    }  # fmt: skip
    return {
        "listen": "127.0.0.1:0",
        "local_listen": "127.0.0.1:0",
        "state_dir": str(folder / "state"),
        "log": {"level": "debug", "format": "json"},
        "health": {"degraded_after": "0s", "recovered_after": "0s", "incident_hold": "2s"},
        "connections": [branch],
    }


@asynccontextmanager
async def rig(folder: Path, **changes: Any) -> AsyncIterator[Rig]:
    """The sidecar runs; whether a host does is the test's business."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout) as http, running(folder, configuration(folder, **changes), http) as sidecar:
        yield Rig(folder / "connections" / "b1.json", sidecar)


async def test_a_host_comes_loses_its_branch_and_goes(tmp_path: Path) -> None:
    """No directory at first; then connected, frozen (degraded while the host itself sees nothing), thawed, reconnected, stopped on purpose."""
    async with rig(tmp_path) as made:
        path, sidecar = made
        c = await made.stands("reconnecting", "reconnecting")
        assert "there is no such file: the host was stopped, or never connected" == c["attempts"]["last_failure"]
        assert [Advice.NO_HOST] == [reason["advice"] for reason in c["reasons"]]
        async with host(path) as process:
            c = await made.stands("open")
            assert (process.process.pid, "alive", []) == (c["report"]["pid"], c["report"]["process"], c["report"]["remarks"])
            assert c["established"] is not None
            await process.do("freeze")
            c = await made.stands("open", "heartbeat_timeout")
            assert "degraded" == c["health"]
            code, gate = await sidecar.gate()
            assert (503, "branch: heartbeat_timeout") == (code, gate["detail"])
            assert 200 == (await sidecar.probe("/readyz"))[0]
            assert c["heartbeats"]["last_sent"]["age_s"] < c["heartbeats"]["last_acknowledged"]["age_s"]
            assert (1.0, 1.0) == (
                (await sidecar.scrape()).value("syncwatch_connection_up", connection="branch"),
                (await sidecar.scrape()).value("syncwatch_degraded", name="branch", reason="heartbeat_timeout"),
            )
            await process.do("thaw")
            await made.stands("open")
            assert 200 == (await sidecar.gate())[0]
            await process.do("lose")
            c = await made.stands("reconnecting", "reconnecting")
            assert "down" == c["health"]
            assert "it has lost its connection, or hangs" in c["attempts"]["last_failure"]
            await process.do("connect")
            c = await made.stands("open")
            assert (1, 1) == (c["reconnects"], c["report"]["reconnects"])
            await process.do("mail")
            told = json.loads(path.read_text())
            await sidecar.until(lambda c: c["traffic"]["frames_received"]["unknown"] >= told["messagesReceived"])
            await process.do("loose")
            await sidecar.until(lambda c: c["report"]["remarks"] == ["others may use the file: its mode is 0644"])
            await process.end(signal.SIGINT)
            assert not path.exists()
            c = await made.stands("reconnecting", "reconnecting")
            assert "unknown" == c["report"]["process"]
        scrape = await sidecar.scrape()
        assert 1.0 == scrape.value("syncwatch_connection_reconnects_total", connection="branch")
        assert [] == scrape.all("syncwatch_received_bytes_total") + scrape.all("syncwatch_connection_attempts_total")


async def test_a_killed_host_and_its_number(tmp_path: Path) -> None:
    """Its file stays and looks fresh: the process table says what it is worth. Nor does another process with its number bring it back."""
    path = tmp_path / "connections" / "b1.json"
    async with host(path) as process, rig(tmp_path) as made:
        await made.stands("open")
        await process.end(signal.SIGKILL)
        c = await made.sidecar.until(lambda c: c["report"]["process"] == "dead")
        assert ("reconnecting", f"the host's process {process.process.pid} is gone") == (c["state"], c["attempts"]["last_failure"])
        old = json.loads(path.read_text()) | {"pid": os.getpid(), "connectedAt": "2026-01-01T00:00:00.000Z"}
        old |= {"lastHeartbeatSent": "2026-01-01T00:00:30.000Z", "lastHeartbeatAck": "2026-01-01T00:00:30.000Z"}
        path.write_text(json.dumps(old))
        os.utime(path, (0, datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC).timestamp()))
        c = await made.sidecar.until(lambda c: c["report"]["process"] == "reused")
        assert "reconnecting" == c["state"]
        async with host(path):
            c = await made.stands("open")
            assert "alive" == c["report"]["process"]


async def test_a_file_that_cannot_be_used_is_what_to_look_at(tmp_path: Path) -> None:
    """From the first look on, wherever reasons are told: not the network, and no credentials."""
    path = tmp_path / "connections" / "b1.json"
    path.parent.mkdir()
    path.symlink_to("/etc/hostname")
    async with rig(tmp_path) as made:
        c = await made.sidecar.until(lambda c: [Advice.FILE] == [reason["advice"] for reason in c["reasons"]])
        assert "the file is a link, which is not followed" == c["attempts"]["last_failure"]
        assert [Advice.FILE] == [reason["advice"] for reason in (await made.sidecar.gate())[1]["reasons"]]
        shown = await command("status", "--url", made.sidecar.local)
        assert f": {Advice.FILE}" in " ".join(shown.out.split())


async def test_files_that_cannot_be_understood_are_counted_and_survived(tmp_path: Path) -> None:
    """Half a file, a link, a directory, a file of a hundred megabytes: the last good picture holds for a while; each is one anomaly."""
    path = tmp_path / "connections" / "b1.json"
    async with host(path) as process, rig(tmp_path, heartbeat={"interval": "1h"}) as made:
        await made.stands("open")
        await process.do("half")
        c = await made.sidecar.until(lambda c: c["traffic"]["anomalies"]["malformed"] >= 1)
        assert "open" == c["state"]
        await process.do("whole")
        await made.stands("open")
        process.process.send_signal(signal.SIGSTOP)
        whole = path.read_bytes()
        path.unlink()
        path.symlink_to("/etc/hostname")
        before = c["traffic"]["anomalies"]["malformed"]
        await made.sidecar.until(lambda c: c["traffic"]["anomalies"]["malformed"] > before)
        path.unlink()
        with path.open("wb") as file:
            file.truncate(100_000_000)
        c = await made.sidecar.until(lambda c: c["traffic"]["anomalies"]["oversized"] == 1)
        path.write_bytes(whole)
        c = await made.stands("open")
        assert 0 == c["reconnects"]


async def test_totals_go_on_and_the_configuration_is_reloaded(tmp_path: Path) -> None:
    """Lifetime reconnects survive a restart of the sidecar; other limits apply at once, another branch is another connection; `check config` likes it all."""
    path = tmp_path / "connections" / "b1.json"
    async with host(path) as process:
        async with rig(tmp_path) as made:
            await made.stands("open")
            await process.do("connect")
            await made.sidecar.until(lambda c: c["reconnects"] == 1)
            assert 0 == (await made.sidecar.end())[0]
        async with rig(tmp_path) as made:
            c = await made.stands("open")
            assert (0, 1) == (c["reconnects"], c["lifetime"]["reconnects"])
            changed = configuration(tmp_path, heartbeat={"interval": "1h", "timeout": "1s"}, stale_after="700ms")
            await process.do("freeze")
            await made.reconfigured(changed)
            c = await made.stands("open", "stale")
            await made.reconfigured(configuration(tmp_path, branch="b2"))
            c = await made.sidecar.until(lambda c: c["report"]["path"].endswith("b2.json") and c["state"] == "reconnecting")
            assert 1 == c["lifetime"]["reconnects"]
    file = tmp_path / "checked.yaml"
    file.write_text(yaml.safe_dump(configuration(tmp_path)))
    done = await command("check", "config", file)
    assert 0 == done.code, done.err


async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request with 200."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    writer.close()


async def services(sidecar: Sidecar) -> dict[str, Document]:
    """What /status says of each."""
    return {one["name"]: one for one in (await sidecar.status())["services"]}


async def test_services_that_a_host_offers_are_asked_and_remembered(tmp_path: Path) -> None:
    """They exist from the first scrape; the url is asked, not localPort; a name that is configured is the configured one; a registry that is half written
    changes nothing, a new one does; and when a service was last healthy, and how often it was asked, outlives the sidecar."""
    registry = tmp_path / "branch-services.json"
    server = await asyncio.start_server(service, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    here = f"http://127.0.0.1:{port}"
    registry.write_text(json.dumps({"flair": {"url": here, "localPort": 1}, "taken": {"url": here}, "far": {"url": "http://192.0.2.1/"}}))
    config = configuration(tmp_path, services_file=str(registry))
    config["services"] = [{"name": "taken", "url": f"{here}/health", "interval": "1h"}]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as http:
        async with running(tmp_path, config, http) as sidecar:
            scrape = await sidecar.scrape()
            assert [1, 1] == [len(scrape.all("syncwatch_service_probes_total", target_service=name)) for name in ("taken", "flair")]
            assert [] == scrape.all("syncwatch_service_probes_total", target_service="far")
            found = await until(lambda: services(sidecar), lambda all_: all(one["state"] == "healthy" for one in all_.values()))
            assert ["taken", "flair"] == list(found)
            c = await sidecar.cast()
            assert [True, True] == ["service flair: its url says port" in c["report"]["remarks"][0], "service far is not asked" in c["report"]["remarks"][1]]
            registry.write_text('{"flair": {"url"')
            await sidecar.until(lambda c: any("is not a registry of services" in one for one in c["report"]["remarks"]))
            assert ["taken", "flair"] == list(await services(sidecar))
            registry.write_text(json.dumps({"flair": {"url": here}, "docs": {"url": here}}))
            found = await until(lambda: services(sidecar), lambda all_: list(all_) == ["taken", "flair", "docs"])
            assert 1 == found["flair"]["probes"]["total"]
            await until(lambda: services(sidecar), lambda all_: all_["docs"]["state"] == "healthy")
            config["services"] = [{"name": "docs", "url": here, "interval": "1h"}]
            (tmp_path / "syncwatch.yaml").write_text(yaml.safe_dump(config))
            await reloaded(sidecar)
            assert ["docs", "flair"] == list(await services(sidecar))
            assert 1 == len((await sidecar.scrape()).all("syncwatch_service_probes_total", target_service="docs"))
            without = json.loads(json.dumps(config))
            del without["connections"][0]["services_file"]
            for written, names in ((without, ["docs"]), (config, ["docs", "flair"])):
                (tmp_path / "syncwatch.yaml").write_text(yaml.safe_dump(written))
                await reloaded(sidecar)
                assert names == list(await services(sidecar))
            assert 1 == (await services(sidecar))["flair"]["lifetime"]["probes"] - (await services(sidecar))["flair"]["probes"]["total"]
            assert 0 == (await sidecar.end())[0]
        server.close()
        await server.wait_closed()
        kept = json.loads((tmp_path / "state" / "state.json").read_text())["services"]
        assert {"docs", "flair"} == set(kept)
        assert here not in json.dumps(kept)
        async with running(tmp_path, config, http) as sidecar:
            before = datetime.fromtimestamp(kept["flair"]["last_healthy_wall_s"], UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            assert before == (await services(sidecar))["flair"]["last_healthy"]["time"]
            found = await until(lambda: services(sidecar), lambda all_: all_["flair"]["state"] == "unhealthy")
            flair = found["flair"]
            assert (before, 1, 1) == (flair["last_healthy"]["time"], flair["probes"]["total"], flair["lifetime"]["failures"])
            assert flair["lifetime"]["probes"] == kept["flair"]["probes"] + 1
            stamp = (await sidecar.scrape()).value("syncwatch_service_last_healthy_timestamp_seconds", target_service="flair")
            assert kept["flair"]["last_healthy_wall_s"] == pytest.approx(stamp, abs=0.002)

"""`syncwatch run` as the host of the embedded branch, over either transport: every number equal to what the branch's ledger says, every mail kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import yaml

from syncwatch.protocols.tps.keys import Identity, key_text
from syncwatch.relay import Relay
from syncwatch.relay import ledger as facts
from syncwatch.relay.logfacts import Delivered, Greeted
from tests.integration.sidecar import PATIENCE_S, Document, Scrape, Sidecar, command, holds, running, until

SEED = b"\x01" * 32
HOST = Identity(SEED)
TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "tcp"])


class Rig(NamedTuple):
    """A branch that knows our host, and a configuration of that host."""

    relay: Relay
    folder: Path
    config: Document
    http: aiohttp.ClientSession

    @property
    def mail_dir(self) -> Path:
        """Where mail is kept."""
        return self.folder / "mail"

    def kept(self) -> dict[str, Document]:
        """The mail on disk, by its id; nothing unfinished may lie about."""
        return {path.name.removesuffix(".json"): json.loads(path.read_text()) for path in self.mail_dir.iterdir() if not path.name.startswith(".")}

    def delivered(self) -> list[str]:
        """The ids of the mail that the branch has sent, in order."""
        return [fact.id for fact in self.relay.ledger.of(Delivered) if fact.kind == "mail"]

    @asynccontextmanager
    async def sidecar(self, opened: bool = True) -> AsyncIterator[Sidecar]:
        """The sidecar, by default when it is open."""
        async with running(self.folder, self.config, self.http) as made:
            if opened:
                await made.until(lambda c: c["state"] == "open")
            yield made


@asynccontextmanager
async def rig(folder: Path, transport: str = "ws", pinned: bool = True, **changes: Any) -> AsyncIterator[Rig]:
    """A branch, by default pinned, and nobody connected yet."""
    async with Relay.start() as relay, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as http:
        if pinned:
            relay.branch.pin(HOST.encryption_key)
        url = f"tcp://127.0.0.1:{await relay.open_branch_tcp()}" if transport == "tcp" else relay.branch_url
        seed = folder / "host.seed"
        seed.write_bytes(SEED)
        seed.chmod(0o600)
        branch: Document = {
            "name": "branch",
            "protocol": "tps",
            "mode": "host",
            "dedicated": True,
            "branch": "b1",
            "url": url,
            "identity_file": str(seed),
            "peer_key": key_text(relay.branch.key),
            "mail_dir": str(folder / "mail"),
            "connect_timeout": "1s",
            "heartbeat": {"interval": "200ms", "timeout": "500ms"},
            "reconnect": {"min": "30ms", "max": "100ms", "stable_after": "500ms"},
            **changes,
        }
        config = {
            "listen": "127.0.0.1:0",
            "local_listen": "127.0.0.1:0",
            "state_dir": str(folder / "state"),
            "log": {"level": "debug", "format": "json"},
            "health": {"degraded_after": "200ms", "recovered_after": "200ms", "incident_hold": "2s"},
            "connections": [branch],
        }
        yield Rig(relay, folder, config, http)


def number(scrape: Scrape, name: str, **labels: str) -> int:
    """A count of the one connection."""
    return int(scrape.value(f"syncwatch_{name}", connection="branch", **labels))


async def agreed(r: Rig, sidecar: Sidecar, others: int = 0) -> Scrape:
    """Wait until the exported counters say what the branch's facts say: heartbeats, echoes, mail, and that it is all on disk. Returns that scrape.

    `others`: handshakes that were not the sidecar's.
    """
    ledger = r.relay.ledger

    def expected() -> dict[str, int]:
        beats = sum(fact.kind == "heartbeat" for fact in ledger.of(facts.Received))
        return {
            "opened": sum(fact.accepted for fact in ledger.of(Greeted)) - others,
            "beats": beats,
            "echoes": len(ledger.of(facts.Pong)),
            "mail": len(r.delivered()),
            "asked": sum(fact.kind == "http_response" for fact in ledger.of(facts.Received)),
        }

    async def told() -> tuple[Scrape, dict[str, int], dict[str, int]]:
        before = expected()
        scrape = await sidecar.scrape()
        reconnects = number(scrape, "connection_reconnects_total")
        found = {
            "opened": reconnects + 1,
            "beats": number(scrape, "frames_sent_total", kind="heartbeat"),
            "echoes": number(scrape, "frames_received_total", kind="heartbeat"),
            "mail": number(scrape, "events_received_total", origin="live") + number(scrape, "events_duplicate_total"),
            "asked": number(scrape, "frames_received_total", kind="control"),
        }
        return scrape, before, found if before == expected() else {}

    last: list[tuple[Scrape, dict[str, int], dict[str, int]]] = []

    async def look() -> object:
        last[:] = [await told()]
        return {"branch": last[0][1], "sidecar": last[0][2]}

    await until(look, lambda seen: seen["branch"] == seen["sidecar"])  # type: ignore[index]
    assert set(r.delivered()) == set(r.kept())
    return last[0][0]


@TRANSPORTS
async def test_heartbeats_mail_and_requests(tmp_path: Path, transport: str) -> None:
    """All that passes is counted as the branch counts it; mail is on disk whole, closed to others, and what cannot be known is absent."""
    async with rig(tmp_path, transport) as r:
        waiting = r.relay.branch.mail("before you came")
        async with r.sidecar() as sidecar:
            pushed = [r.relay.branch.mail(f"grüße {count}") for count in range(20)]
            asked = r.relay.branch.ask("/health")
            scrape = await agreed(r, sidecar)
            assert [waiting, *pushed] == sorted(r.kept(), key=r.delivered().index)
            assert "grüße 7" == r.kept()[pushed[7]]["content"]
            assert (0o700, {0o600}) == (r.mail_dir.stat().st_mode & 0o777, {path.stat().st_mode & 0o777 for path in r.mail_dir.iterdir()})
            await holds(lambda: [(asked, 404)] == [(told["reqId"], told["status"]) for told in r.relay.branch.responses])
            assert (21, 0) == (number(scrape, "events_received_total", origin="live"), number(scrape, "events_duplicate_total"))
            sent, acknowledged, missed = (number(scrape, f"heartbeats_{name}_total") for name in ("sent", "acknowledged", "missed"))
            assert sent - 1 <= acknowledged <= sent
            assert 0 == missed
            labels = f'protocol="tps",upstream="{"tcp" if transport == "tcp" else "http"}://127.0.0.1:'
            assert f'continuity="none",dialect="host",{labels}' in scrape.text
            for absent in ("sequence_", "resync", "verif", "unverified", "audit", "replayed", "event_latency", "token", "events_undecided"):
                assert f"\nsyncwatch_{absent}" not in scrape.text, absent
            assert len([line for line in scrape.text.splitlines() if 'connection="' in line]) <= 200
            acts = await sidecar.said("mode host is switched on: it is the host of the branch, whose mail comes here")
            assert ("branch", "b1", str(r.mail_dir)) == (acts["connection"], acts["branch"], acts["mail_dir"])
            assert (0, True) == ((await sidecar.end())[0], SEED.hex() not in sidecar.text())
        closed = r.relay.ledger.of(facts.Closed)
        assert 1 == len(closed)
        if transport == "ws":
            assert [(1000, "client")] == [(fact.code, fact.by) for fact in closed]


@TRANSPORTS
async def test_from_the_token_to_the_first_mail(tmp_path: Path, transport: str) -> None:
    """`tps join`, its configuration as printed, `run`: nothing else is needed."""
    async with rig(tmp_path, transport, pinned=False) as r:
        port = int(r.config["connections"][0]["url"].rpartition(":")[2].partition("/")[0])
        joined = await command("tps", "join", r.relay.branch.token("127.0.0.1", port, transport), "--mail-dir", r.mail_dir, HOME=str(tmp_path))
        assert 0 == joined.code, joined.err
        (tmp_path / "printed.yaml").write_text(joined.out)
        assert 0 == (await command("check", "config", tmp_path / "printed.yaml")).code
        r.config["connections"] = yaml.safe_load(joined.out)["connections"]
        ident = r.relay.branch.mail("welcome")
        async with r.sidecar() as sidecar:
            await holds(lambda: [ident] == list(r.kept()))
            await agreed(r, sidecar, others=1)

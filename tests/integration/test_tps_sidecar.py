"""`syncwatch run` as the host of the embedded branch, over either transport: every number equal to what the branch's ledger says, every mail kept."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import secrets
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
import yaml

from syncwatch.app import Machinery
from syncwatch.config import ConfigError, parse, plan
from syncwatch.core.wire import Reply
from syncwatch.parts.surroundings import NotUsable
from syncwatch.protocols.tps.codec import Tps
from syncwatch.protocols.tps.keys import Identity, key_text
from syncwatch.relay import Relay, kinds
from syncwatch.relay import ledger as facts
from syncwatch.relay.logfacts import Delivered, Greeted
from syncwatch.relay.tps import frames
from tests.integration.runtime_parts import Certificates, Peer, serving
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
            "connect_timeout": "5s",
            "heartbeat": {"interval": "200ms", "timeout": "5s"},
            "reconnect": {"min": "30ms", "max": "100ms", "stable_after": "60s"},
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
            "asked": (answered := sum(fact.kind == "http_response" for fact in ledger.of(facts.Received))),
            "answered": answered,
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
            "answered": number(scrape, "frames_sent_total", kind="control"),  # a handshake is no frame
        }
        return scrape, before, found if before == expected() else {}

    last: list[tuple[Scrape, dict[str, int], dict[str, int]]] = []

    async def look() -> object:
        last[:] = [await told()]
        return {"branch": last[0][1], "sidecar": last[0][2]}

    await until(look, lambda seen: seen["branch"] == seen["sidecar"])  # type: ignore[index]
    assert set(r.delivered()) == set(r.kept())
    return last[0][0]


def sealed(kind: int, seq: int, body: Document) -> int:
    """How many bytes a frame has on its way (wire: tps §5)."""
    return len(frames.frame(kind, seq, "2026-03-17T13:39:00.000Z", body)) + 16


def spoken(beats: int) -> int:
    """What a host has said: its first message, heartbeats from 1 on, and one refusal of a service."""
    refusal = {"reqId": "0" * 36, "status": 404, "headers": {"content-type": "text/plain"}, "body": "no such service"}
    return 96 + len("b1") + sum(sealed(frames.HEARTBEAT, number, {}) for number in range(1, beats + 1)) + sealed(frames.HTTP_RESPONSE, 0, refusal)


def heard(echoes: int, r: Rig) -> int:
    """What a branch has said: its handshake, echoes from 1 on, all the mail that is kept, and one request."""
    request = {"reqId": "0" * 36, "service": "flair", "method": "GET", "path": "/health", "headers": {}}
    mail = sum(sealed(frames.MAIL_DELIVER, 0, told) for told in r.kept().values())
    return 48 + sum(sealed(frames.HEARTBEAT, number, {}) for number in range(1, echoes + 1)) + mail + sealed(frames.HTTP_REQUEST, 0, request)


@TRANSPORTS
async def test_heartbeats_mail_and_requests(tmp_path: Path, transport: str) -> None:
    """All that passes is counted as the branch counts it; mail is on disk whole, closed to others, and what cannot be known is absent."""
    async with rig(tmp_path, transport) as r:
        waiting = r.relay.branch.mail("before you came")
        async with r.sidecar() as sidecar:
            pushed = [r.relay.branch.mail(f"grüße {count}") for count in range(20)]
            asked = r.relay.branch.ask("/health")
            await holds(lambda: r.relay.branch.responses)
            scrape = await agreed(r, sidecar)
            assert [waiting, *pushed] == sorted(r.kept(), key=r.delivered().index)
            assert "grüße 7" == r.kept()[pushed[7]]["content"]
            assert (0o700, {0o600}) == (r.mail_dir.stat().st_mode & 0o777, {path.stat().st_mode & 0o777 for path in r.mail_dir.iterdir()})
            await holds(lambda: [(asked, 404)] == [(told["reqId"], told["status"]) for told in r.relay.branch.responses])
            assert (21, 0) == (number(scrape, "events_received_total", origin="live"), number(scrape, "events_duplicate_total"))
            sent, acknowledged, missed = (number(scrape, f"heartbeats_{name}_total") for name in ("sent", "acknowledged", "missed"))
            assert sent - 1 <= acknowledged <= sent
            assert 0 == missed
            assert spoken(sent) == number(scrape, "sent_bytes_total")
            assert heard(acknowledged, r) == number(scrape, "received_bytes_total")
            labels = f'protocol="tps",upstream="{transport}://127.0.0.1:'
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


@asynccontextmanager
async def tls_proxy(certificates: Certificates, port: int) -> AsyncIterator[int]:
    """What stands before a branch that others reach with TLS; yields its port."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def handle(peer: Peer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))

    async with serving(handle, tls=certificates.server()) as proxy_port:
        yield proxy_port


@pytest.mark.needs("openssl")
async def test_behind_a_proxy_with_tls(tmp_path: Path) -> None:
    """`wss`, as everywhere but on this machine: the certificate is checked and its end is known; a proxy that nobody vouches for gets not even a handshake."""
    certificates = Certificates(tmp_path)
    async with rig(tmp_path) as r, tls_proxy(certificates, r.relay.port) as port:
        branch = r.config["connections"][0]
        branch["url"] = f"wss://127.0.0.1:{port}"
        async with r.sidecar(opened=False) as sidecar:
            await sidecar.until(lambda c: c["attempts"]["failures"]["tls"] >= 1)
        assert [] == r.relay.ledger.of(Greeted)
        branch["tls"] = {"ca_file": str(certificates.path("ca.pem"))}
        mail = r.relay.branch.mail("through TLS")
        async with r.sidecar() as sidecar:
            await holds(lambda: [mail] == list(r.kept()))
            scrape = await agreed(r, sidecar)
            assert certificates.expiry_s() == scrape.value("syncwatch_tls_certificate_expiry_timestamp_seconds", connection="branch")
            assert f'upstream="wss://127.0.0.1:{port}"' in scrape.text


# ---------------------------------------------------------------------- trouble


def plaintext(payload: bytes, kind: int = 0x10) -> bytes:
    """A wire frame around a payload (wire: tps §5.2)."""
    return struct.pack(">HI", kind, len(payload)) + payload


async def came_back(r: Rig, sidecar: Sidecar, since: int) -> Document:
    """Wait until a connection later than the first `since` is open."""
    await holds(lambda: sum(fact.accepted for fact in r.relay.ledger.of(Greeted)) > since)
    return await sidecar.until(lambda c: c["state"] == "open" and c["reconnects"] >= since)


@TRANSPORTS
async def test_what_cannot_be_believed_ends_the_connection(tmp_path: Path, transport: str) -> None:
    """A skipped nonce, garbage, plain maps, hostile records, a frame of 65,520 bytes: each refused with its reason, and the next connection is as good as new.
    The mail that was too large is lost in TPS itself, and is no event of ours.
    """
    plain_map = bytes.fromhex("84a474797065 10 a3736571 00 a27473 a131 a4626f6479 80")
    troubles: list[tuple[kinds.FaultSpec | str, str]] = [
        (kinds.Inject(hex="00" * 40, opcode="binary"), "cannot be opened"),
        (kinds.Inject(hex=plaintext(plain_map).hex(), sealed=True), "no record"),
        (kinds.Inject(hex=plaintext(b"\x91" * 100_0).hex(), sealed=True), "nested too deeply"),
        (kinds.Inject(hex=plaintext(b"\xdd\xff\xff\xff\xff").hex(), sealed=True), "ends too early"),
        (kinds.Inject(hex="0010", sealed=True), "shorter than a header"),
        ("nonce", "cannot be opened"),
        ("large", "a message of 65536 bytes" if transport == "ws" else "cannot be opened"),
    ]
    async with rig(tmp_path, transport) as r, r.sidecar() as sidecar:
        for count, (trouble, words) in enumerate(troubles, 1):
            ident = ""
            if isinstance(trouble, str) and trouble == "nonce":
                with r.relay.faults.skipping_nonce():
                    await came_back(r, sidecar, count)
            elif isinstance(trouble, str):
                ident = r.relay.branch.mail("x" * content_of(65_520))
                await came_back(r, sidecar, count)
            else:
                r.relay.faults.begin(trouble)
                await came_back(r, sidecar, count)
            lines = await sidecar.logged("disconnected", lambda lines, count=count: len(lines) == count)  # type: ignore[misc]
            assert ("protocol_error", True) == (lines[-1]["reason"], words in lines[-1]["detail"]), (trouble, lines[-1])
        mails = [r.relay.branch.mail(f"as good as new {n}") for n in range(3)]
        await sidecar.until(lambda c: c["ledger"]["events"] == len(mails))  # it counts a moment after its file has appeared
        assert set(mails) == set(r.kept())
        assert ident in r.delivered()
        scrape = await sidecar.scrape()
        assert len(troubles) == number(scrape, "connection_disconnects_total", reason="protocol_error")
        assert len(troubles) == number(scrape, "protocol_anomalies_total", kind="malformed")
        assert len(troubles) == number(scrape, "frames_received_total", kind="invalid")
        assert 3 == number(scrape, "events_received_total", origin="live")


def content_of(frame_bytes: int) -> int:
    """How long a mail's content has to be for its frame to have so many bytes."""
    told = {"id": "0" * 36, "from": "agent", "to": "host", "content": "x" * 60_000, "timestamp": "2026-03-17T13:39:00.000Z"}
    return 60_000 + frame_bytes - len(frames.frame(frames.MAIL_DELIVER, 0, "2026-03-17T13:39:00.000Z", told))


def held(connection: Document) -> set[str]:
    """The reasons that hold at this moment."""
    return {reason["reason"] for reason in connection["reasons"]}


@TRANSPORTS
async def test_a_frozen_branch_is_degraded_and_answers_in_a_burst(tmp_path: Path, transport: str) -> None:
    """Named as soon as the first echo is overdue and all the while; then the burst: every late echo counted as late, mail kept, the connection never re-made."""
    async with rig(tmp_path, transport, heartbeat={"interval": "500ms", "timeout": "500ms"}) as r, r.sidecar() as sidecar:
        await sidecar.until(lambda c: c["heartbeats"]["acknowledged"] >= 1)
        with r.relay.faults.freezing(protocol="tps"):
            await sidecar.until(lambda c: "heartbeat_timeout" in held(c))
            mail = r.relay.branch.mail("written meanwhile")
            seen = await sidecar.until(lambda c: c["heartbeats"]["missed"] >= 2)
            assert ("open", "heartbeat_timeout") == (seen["state"], *held(seen)), "it says so all the while"
            assert 503 == (await sidecar.gate())[0]
        hung = seen["heartbeats"]["missed"]  # a branch that hangs answers everything: as many are late in the end
        healed = (await sidecar.until(lambda c: not held(c) and c["heartbeats"]["late"] == c["heartbeats"]["missed"] >= hung))["heartbeats"]
        scrape = await agreed(r, sidecar)
        assert [mail] == list(r.kept())
        assert 0 == number(scrape, "connection_reconnects_total")
        sent, acknowledged, missed = (number(scrape, f"heartbeats_{name}_total") for name in ("sent", "acknowledged", "missed"))
        assert acknowledged + missed <= sent <= acknowledged + missed + 1
        assert healed["late"] <= number(scrape, "heartbeats_late_total") <= missed, "heartbeats go on: a busy machine may have missed another one by now"
        assert 1 <= scrape.value("syncwatch_degradations_total", component="connection", name="branch", reason="heartbeat_timeout")
        assert 1 <= number(scrape, "half_open_total", direction="receive")


async def test_a_branch_that_stays_frozen_is_left_in_the_end(tmp_path: Path) -> None:
    """Ten intervals without any answer, and the connection is made again; one that takes the socket and is silent is a handshake timeout, not a half-open."""
    async with rig(tmp_path, heartbeat={"interval": "150ms", "timeout": "300ms"}, connect_timeout="500ms") as r, r.sidecar() as sidecar:
        await sidecar.until(lambda c: c["heartbeats"]["acknowledged"] >= 1)
        with r.relay.faults.freezing(protocol="tps"), r.relay.faults.accepting_only(protocol="tps"):
            await sidecar.said("disconnected")
            await sidecar.until(lambda c: "handshake_timeout" in held(c) and c["attempts"]["failures"]["timeout"] >= 1)
        await sidecar.until(lambda c: c["state"] == "open")
        scrape = await sidecar.scrape()
        assert (1, 1) == (number(scrape, "connection_disconnects_total", reason="heartbeat_timeout"), number(scrape, "half_open_total", direction="receive"))
        assert 0 == number(scrape, "half_open_total", direction="send")


@TRANSPORTS
async def test_a_branch_that_never_echoes(tmp_path: Path, transport: str) -> None:
    """An older version is named so, and nothing else is wrong: it is kept, its mail comes; the first echo ends it."""
    async with rig(tmp_path, transport, heartbeat={"interval": "100ms", "timeout": "400ms"}) as r:
        with r.relay.faults.withholding_pong(protocol="tps"):
            mail = r.relay.branch.mail("drained by the heartbeat")
            async with r.sidecar() as sidecar:
                seen = await sidecar.until(lambda c: c["heartbeats"]["missed"] >= 12)
                assert ("open", 0, {"no_echo"}) == (seen["state"], seen["reconnects"], held(seen))
                assert [mail] == list(r.kept())
                assert 200 == (await sidecar.gate())[0]
                r.relay.faults.end_all()
                await sidecar.until(lambda c: not held(c) and c["heartbeats"]["acknowledged"] >= 1)
                assert 0 == (await sidecar.cast())["reconnects"]


async def test_echoes_that_are_late_or_of_another_number(tmp_path: Path) -> None:
    """Only its own echo answers a heartbeat: a late one is late, one with another number answers nothing."""
    async with rig(tmp_path, heartbeat={"interval": "300ms", "timeout": "400ms"}) as r, r.sidecar() as sidecar:
        await sidecar.until(lambda c: c["heartbeats"]["acknowledged"] >= 1)
        with r.relay.faults.delaying_pong(0.6, times=1, protocol="tps"):
            late = (await sidecar.until(lambda c: c["heartbeats"]["late"] >= 1))["heartbeats"]["late"]
        await sidecar.until(lambda c: not held(c))
        with r.relay.faults.echoing_wrongly(500, times=1, protocol="tps"):
            seen = await sidecar.until(lambda c: c["heartbeats"]["missed"] > c["heartbeats"]["late"])
        assert 0 == seen["reconnects"]
        assert late <= seen["heartbeats"]["late"]
        await sidecar.until(lambda c: not held(c))
        await agreed(r, sidecar)


async def test_a_branch_that_knows_another_host(tmp_path: Path) -> None:
    """Closed with 1008 before it answers: unauthorized, and tried again slowly; when the branch knows us, all is well."""
    async with rig(tmp_path, reconnect={"min": "30ms", "max": "100ms", "breaker_retry": "200ms"}) as r:
        r.relay.branch.pin(b"x" * 32)
        async with r.sidecar(opened=False) as sidecar:
            seen = await sidecar.until(lambda c: c["state"] == "failed")
            assert {"failed", "unauthorized"} <= held(seen)
            assert "1008" in seen["attempts"]["last_failure"]
            assert (503, 200) == ((await sidecar.probe("/readyz"))[0], (await sidecar.probe("/healthz"))[0])
            await holds(lambda: [False, False] == [fact.accepted for fact in r.relay.ledger.of(Greeted)][:2])
            r.relay.branch.pin(HOST.encryption_key)
            await sidecar.until(lambda c: c["state"] == "open" and not held(c))
            scrape = await sidecar.scrape()
            refused = [fact.accepted for fact in r.relay.ledger.of(Greeted)].count(False)
            assert refused == number(scrape, "connection_attempt_failures_total", reason="unauthorized")
            assert 0 == sum(scrape.all("syncwatch_connection_disconnects_total")), "it was never established"


async def test_a_branch_with_another_key_than_the_configured_one(tmp_path: Path) -> None:
    """It cannot read us and closes with 1011: upstream_error, not unauthorized; the branch accepts nobody."""
    async with rig(tmp_path) as r:
        r.config["connections"][0]["peer_key"] = key_text(Identity(b"4" * 32).encryption_key)
        async with r.sidecar(opened=False) as sidecar:
            seen = await sidecar.until(lambda c: "upstream_error" in held(c))
            assert (True, True) == (seen["state"] in ("reconnecting", "failed"), "1011" in seen["attempts"]["last_failure"])
            assert "unauthorized" not in held(seen)
            assert {False} == {fact.accepted for fact in r.relay.ledger.of(Greeted)}


@TRANSPORTS
async def test_refusals_and_resets(tmp_path: Path, transport: str) -> None:
    """Nobody is let in: attempts fail with their reason, mail waits; a reset is the network's; afterwards everything has come once."""
    async with rig(tmp_path, transport) as r:
        with r.relay.faults.refusing(503, protocol="tps"):
            async with r.sidecar(opened=False) as sidecar:
                reason = "protocol" if transport == "tcp" else "rejected"
                await sidecar.until(lambda c: c["attempts"]["failures"][reason] >= 2)
                mails = [r.relay.branch.mail(f"{count}") for count in range(5)]
                r.relay.faults.end_all()
                await sidecar.until(lambda c: c["state"] == "open")
                await holds(lambda: set(mails) == set(r.kept()))
                r.relay.reset("b1")
                await came_back(r, sidecar, 1)
                scrape = await agreed(r, sidecar)
                assert (1, 1) == (number(scrape, "connection_disconnects_total", reason="network"), number(scrape, "connection_reconnects_total"))
                assert 5 == number(scrape, "events_received_total", origin="live")


async def test_the_same_mail_twice_is_one(tmp_path: Path) -> None:
    """A copy is counted as one, on the same connection and by the next process, which finds it on disk."""
    async with rig(tmp_path) as r:
        with r.relay.faults.duplicating(protocol="tps"):
            async with r.sidecar() as sidecar:
                for count in range(3):
                    r.relay.branch.mail(f"{count}")
                scrape = await agreed(r, sidecar)
                assert (3, 3) == (number(scrape, "events_received_total", origin="live"), number(scrape, "events_duplicate_total"))
                await sidecar.end()
        kept = {path: path.stat().st_ino for path in r.mail_dir.iterdir()}
        r.relay.branch.outbox.extend({**told} for told in r.kept().values())
        (tmp_path / "state" / "state.json").unlink()
        async with r.sidecar() as sidecar:
            await sidecar.until(lambda c: c["ledger"]["duplicates"] == 3)
            assert 0 == number(await sidecar.scrape(), "events_received_total", origin="live")
        assert kept == {path: path.stat().st_ino for path in r.mail_dir.iterdir()}, "nothing was written again"


async def test_mail_that_cannot_be_stored_stays_with_the_branch(tmp_path: Path) -> None:
    """The place for mail is gone: what came waits in memory, the connection is closed so that the branch keeps the rest, and both are safe when it is back."""
    async with rig(tmp_path) as r, r.sidecar() as sidecar:
        first = r.relay.branch.mail("while all is well")
        await sidecar.until(lambda c: c["ledger"]["events"] == 1)
        assert [first] == list(r.kept())
        r.mail_dir.rename(tmp_path / "aside")
        r.mail_dir.write_text("no directory")
        second = r.relay.branch.mail("nowhere to put it")
        seen = await sidecar.until(lambda c: "gap_open" in held(c) and c["state"] != "open")
        assert "cannot be stored" in seen["attempts"]["last_failure"]
        await holds(lambda: not r.relay.connections)
        third = r.relay.branch.mail("not even sent")
        assert 1 == number(await sidecar.scrape(), "events_received_total", origin="live"), "what is not safe does not count"
        assert [first, second] == r.delivered()
        r.mail_dir.unlink()
        (tmp_path / "aside").rename(r.mail_dir)
        await sidecar.until(lambda c: c["state"] == "open" and not held(c))
        await holds(lambda: {first, second, third} == set(r.kept()))
        await agreed(r, sidecar)
        assert ["failed", "stored"] == [line["result"] for line in await sidecar.logged("storage", lambda lines: len(lines) >= 2)]


async def test_a_second_host_with_our_key(tmp_path: Path) -> None:
    """Each heartbeat of the other one cuts us: named after three times, and no storm of connections; when it is gone, we stay."""
    async with rig(tmp_path, reconnect={"min": "30ms", "max": "100ms", "breaker_retry": "400ms"}) as r:
        wire = Tps(r.relay.branch_url, HOST, r.relay.branch.key, "b1").wire(secrets.randbits(256))
        async with r.http.ws_connect(r.relay.branch_url) as other:
            (first,) = wire.opened()
            assert isinstance(first, Reply)
            assert isinstance(first.data, bytes)
            await other.send_bytes(first.data)
            wire.feed((await other.receive()).data, binary=True)

            async def beat() -> None:
                for token in itertools.count():
                    await other.send_bytes(wire.ping(token))
                    await asyncio.sleep(0.1)

            beating = asyncio.create_task(beat())
            try:
                async with r.sidecar(opened=False) as sidecar:
                    seen = await sidecar.until(lambda c: "duplicate_client" in held(c))
                    assert "another client has the same identity" in seen["attempts"]["last_failure"]
                    before = seen["attempts"]["total"]
                    later = await sidecar.until(lambda c: c["attempts"]["total"] >= before + 2)
                    assert {"1000"} == {code for code, count in later["close_codes"].items() if count}
                    gaps = [line["retry_in_s"] for line in sidecar.log("disconnected")][3:]
                    assert min(gaps) >= 0.4, "as slowly as with an open breaker"
            finally:
                beating.cancel()


async def test_killed_at_any_moment(tmp_path: Path) -> None:
    """SIGKILL in the middle of mail, again and again: every mail that was counted is on disk, whole; none is there twice, and nothing counts twice."""
    async with rig(tmp_path) as r:
        sent, counted_before = 0, set[str]()
        for round_number in range(3):
            async with r.sidecar() as sidecar:
                already = set(r.kept())
                assert counted_before <= already
                target = 5 + 15 * round_number
                for _ in range(60):
                    r.relay.branch.mail(f"{sent}")
                    sent += 1
                scrape = await sidecar.scrape()
                while number(scrape, "events_received_total", origin="live") < target:
                    scrape = await sidecar.scrape()
                counted = number(scrape, "events_received_total", origin="live")
                assert 0 == number(scrape, "events_duplicate_total")
                sidecar.process.kill()
                await sidecar.process.wait()
                assert counted <= len(set(r.kept()) - already), "what counted is there"
                counted_before = set(r.kept())
        async with r.sidecar() as sidecar:
            last = r.relay.branch.mail("the last one")
            await holds(lambda: last in r.kept())
            scrape = await sidecar.scrape()
            assert 0 == number(scrape, "events_duplicate_total")
        contents = [told["content"] for told in r.kept().values()]
        assert len(contents) == len(set(contents))
        assert set(r.kept()) <= set(r.delivered())


@TRANSPORTS
async def test_a_clean_end_takes_what_is_on_its_way(tmp_path: Path, transport: str) -> None:
    """SIGTERM in the middle of a burst: all that the branch has sent is on disk, and the state file knows it."""
    async with rig(tmp_path, transport) as r:
        async with r.sidecar() as sidecar:
            for count in range(300):
                r.relay.branch.mail(f"{count}")
            await sidecar.until(lambda c: c["ledger"]["events"] >= 1)
            assert 0 == (await sidecar.end(within_s=20))[0]
        assert set(r.delivered()) == set(r.kept())
        totals = json.loads((tmp_path / "state" / "state.json").read_text())["connections"]["branch"]["totals"]
        assert len(r.kept()) == totals["events"]


async def test_a_changed_configuration(tmp_path: Path) -> None:
    """Heartbeats change on the open connection; another place for mail is another session, and mail goes there."""
    async with rig(tmp_path, heartbeat={"interval": "1h"}) as r, r.sidecar() as sidecar:
        r.relay.branch.mail("one")
        await holds(lambda: len(r.kept()) == 1)
        branch = r.config["connections"][0]
        branch["heartbeat"] = {"interval": "100ms", "timeout": "5s"}
        (tmp_path / "syncwatch.yaml").write_text(yaml.safe_dump(r.config))
        async with r.http.post(f"{sidecar.local}/-/reload") as answer:
            assert 200 == answer.status
        before = (await sidecar.cast())["heartbeats"]["sent"]
        began_s = time.monotonic()
        seen = await sidecar.until(lambda c: c["heartbeats"]["sent"] >= before + 5)
        assert time.monotonic() - began_s < 60, "not once an hour any more"
        assert 0 == seen["reconnects"]
        branch["mail_dir"] = str(tmp_path / "elsewhere")
        (tmp_path / "syncwatch.yaml").write_text(yaml.safe_dump(r.config))
        async with r.http.post(f"{sidecar.local}/-/reload") as answer:
            assert 200 == answer.status
        await sidecar.until(lambda c: c["state"] == "open" and c["attempts"]["total"] == 1)
        mail = r.relay.branch.mail("two")
        await holds(lambda: [f"{mail}.json"] == [path.name for path in (tmp_path / "elsewhere").glob("*.json")])
        assert 1 == len(r.kept())
        branch["identity_file"] = str(tmp_path / "nowhere")
        (tmp_path / "syncwatch.yaml").write_text(yaml.safe_dump(r.config))
        async with r.http.post(f"{sidecar.local}/-/reload") as answer:
            assert "identity_file" in await answer.text()
        assert "open" == (await sidecar.cast())["state"]


async def test_what_keeps_it_from_starting(tmp_path: Path) -> None:
    """One line with file, line and key."""
    async with rig(tmp_path) as r:
        branch = r.config["connections"][0]
        file = tmp_path / "bad.yaml"
        (tmp_path / "file").write_text("x")
        for key, value, words in (
            ("identity_file", str(tmp_path / "nowhere"), "no such file"),
            ("identity_file", str(tmp_path / "file"), "holds 1 bytes, and a seed has 32"),
            ("mail_dir", str(tmp_path / "file"), "is not a directory"),
            ("dedicated", False, "mode host takes the branch over"),
        ):
            file.write_text(yaml.safe_dump({**r.config, "connections": [{**branch, key: value}]}, sort_keys=False))
            done = await command("run", "--config", file)
            assert 2 == done.code
            assert done.err.startswith(f"{file}:"), done.err
            assert f"connections[0].{key}: " in done.err
            assert words in done.err


async def test_a_seed_that_vanishes_between_the_check_and_its_use(tmp_path: Path) -> None:
    """At the start nothing is left running; at a reload nothing is changed. Either says which key it is."""
    async with rig(tmp_path) as r:
        both = parse(yaml.safe_dump(r.config), "f.yaml", {})
        (r.folder / "host.seed").unlink()
        machinery = Machinery(both)
        assert isinstance(machinery.entropy, random.SystemRandom), "ephemeral keys are drawn from it"
        with pytest.raises(NotUsable, match=r"connections\[0\]\.identity_file: .*host\.seed: no such file or directory"):
            await machinery.start()
        one = msgspec.structs.replace(both, connections=(), state_dir=None)
        machinery = Machinery(one)
        await machinery.start()
        try:
            with pytest.raises(ConfigError, match=r"connections\[0\]\.identity_file: .*no such file or directory"):
                await machinery.apply(both, plan(one, both))
            assert machinery.config is one
            assert [] == machinery.connections
        finally:
            await machinery.stop()
        machinery = Machinery(both)
        machinery._load_state()  # the first one has let go of the directory
        await machinery._dismantle()

"""The real npm `RelayFileSync` against the embedded relay: health, a server's end and return, polling, refusals (wire: relayfile §6)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from syncwatch.relay import Relay
from syncwatch.relay.ledger import Closed, Opened, Received, Refused
from syncwatch.relay.logfacts import Answered, Dialled, Page
from tests.interop.npm import NpmClient, npm_client
from tests.interop.scenarios import eventually

WORKSPACE = "docs"
PROGRAM = Path(sys.executable).with_name("syncwatch")
BUILTIN = ("--experimental-websocket", "--no-warnings")
"""Node's own socket: where an upgrade is refused it says `error` without `close`, and only then the client ever polls."""


def watcher(url: str, token: str, *, builtin: bool = False, **options: Any) -> AbstractAsyncContextManager[NpmClient]:
    """A client with the `ws` package, or with Node's own socket."""
    node, socket = (BUILTIN, "builtin") if builtin else ((), "ws")
    return npm_client(url, token, driver="relayfile.mjs", node=node, workspace=WORKSPACE, socket=socket, **options)


def call(client: NpmClient, name: str, given: Any) -> None:
    """Let the client's REST half do something."""
    client.tell(json.dumps({"call": name, "input": given}))


def states(client: NpmClient) -> list[str]:
    """The states it went through."""
    return [line["state"] for line in client.said if line["type"] == "state"]


def ids(client: NpmClient) -> list[str]:
    """Ids of the events handed to the application, in order."""
    return [line["event"]["eventId"] for line in client.said if line["type"] == "event"]


async def test_a_healthy_run() -> None:
    """Created, updated and deleted by its own REST half and told by its stream; pings are answered; a clean end."""
    async with Relay.start() as relay:
        token = relay.files.token(WORKSPACE)
        async with watcher(relay.url, token, pingIntervalMs=200) as client:
            await client.until_type("open")
            file = {"workspaceId": WORKSPACE, "path": "/notes/a.md", "content": "one", "correlationId": "k-1"}
            call(client, "writeFile", file | {"baseRevision": "0"})
            await client.until_type("answer")
            call(client, "writeFile", file | {"baseRevision": "rev_1", "content": "two"})
            await client.until_type("answer", 2)
            call(client, "writeFile", file | {"baseRevision": "rev_1"})
            await client.until_type("refusal")
            call(client, "readFile", [WORKSPACE, "/notes/a.md"])
            await client.until_type("answer", 3)
            call(client, "deleteFile", {"workspaceId": WORKSPACE, "path": "/notes/a.md", "baseRevision": "rev_2"})
            await client.until(lambda said: 3 == len(ids(client)))
            await client.until_type("pong", 2)
            events = [line["event"] for line in client.said if line["type"] == "event"]
            names = ("eventId", "type", "revision", "correlationId")
            assert [
                ("evt_1", "file.created", "rev_1", "k-1"),
                ("evt_2", "file.updated", "rev_2", "k-1"),
                ("evt_3", "file.deleted", "rev_3"),
            ] == [tuple(event[name] for name in names[: 3 + (number < 2)]) for number, event in enumerate(events)]
            answers = [line["value"] for line in client.said if line["type"] == "answer"]
            assert ("rev_1", "rev_2", "two") == (
                answers[0]["targetRevision"],
                answers[1]["targetRevision"],
                answers[2]["content"],
            )
            assert [409] == [line["status"] for line in client.said if line["type"] == "refusal"]
            assert ["connecting", "open"] == states(client)
            call(client, "getSyncStatus", [WORKSPACE])
            await client.until(lambda said: said[-1].get("call") == "getSyncStatus")
            assert ["notes"] == [one["provider"] for one in client.said[-1]["value"]["providers"]]
        await eventually(lambda: relay.ledger.of(Closed))
        assert [("closed", "client", 1000)] == [(f.how, f.by, f.code) for f in relay.ledger.of(Closed)]
        assert {"ping"} == {fact.kind for fact in relay.ledger.of(Received)}
        assert [("", True)] == [(fact.cursor, fact.from_now) for fact in relay.ledger.of(Dialled)]


async def test_envelopes_of_a_hosted_stream_become_updates() -> None:
    """Both forms are `file.updated` to the application, and their ids are cursors."""
    async with Relay.start() as relay:
        async with watcher(relay.url, relay.files.token(WORKSPACE)) as client:
            await client.until_type("open")
            relay.files.push(WORKSPACE, "relayfile.changed", "/a/1", content_hash="d1", provider="a")
            relay.files.push(WORKSPACE, "relayfile.changed.summary", "/a/2")
            relay.files.push(WORKSPACE, "sync.error", provider="acme")
            await client.until_type("event", 3)
            assert [
                ("evt_1", "file.updated", "/a/1", "d1"),
                ("evt_2", "file.updated", "/a/2", ""),
                ("evt_3", "sync.error", "/", ""),
            ] == [
                tuple(line["event"][name] for name in ("eventId", "type", "path", "revision"))
                for line in client.said
                if line["type"] == "event"
            ]
            relay.drop(WORKSPACE)
            await client.until_type("open", 2)
        assert "evt_3" == relay.ledger.of(Dialled)[1].cursor


async def test_a_socket_that_dies_silently_is_found_by_its_pings() -> None:
    """`heartbeat-timeout` closes the socket without a `close` event; it reconnects with its cursor and misses nothing."""
    async with Relay.start() as relay:
        async with watcher(relay.url, relay.files.token(WORKSPACE), pingIntervalMs=200) as client:
            await client.until_type("open")
            relay.files.write(WORKSPACE, "/a")
            await client.until_type("event")
            with relay.faults.freezing():
                await client.until(lambda said: "reconnecting" in states(client))
                relay.files.write(WORKSPACE, "/b")
                await client.until_type("open", 2)
                relay.reset(WORKSPACE)
            await client.until(lambda said: ["evt_1", "evt_2"] == ids(client))
            assert "polling" not in states(client)
        assert "evt_1" == relay.ledger.of(Dialled)[1].cursor


# The server's end and return


@asynccontextmanager
async def relay_process(port: int, *arguments: str | Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`syncwatch relay` as a process of its own, and its URL."""
    command = ("relay", "--listen", f"127.0.0.1:{port}", "--relayfile", WORKSPACE, *map(str, arguments))
    process = await asyncio.create_subprocess_exec(PROGRAM, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(10):
            url = (await process.stdout.readline()).decode().split()[3].rstrip(";")
        yield process, url
    finally:
        if process.returncode is None:
            process.terminate()
        assert 0 == await process.wait()


async def write(url: str, path: str) -> None:
    """Write a file, with the fixed token."""
    headers = {"Authorization": "Bearer sesame", "X-Correlation-Id": "c", "If-Match": "*"}
    async with (
        aiohttp.ClientSession() as http,
        http.put(
            f"{url}/v1/workspaces/{WORKSPACE}/fs/file?path={path}", json={"content": "x"}, headers=headers
        ) as answer,
    ):
        assert 202 == answer.status


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "in memory"])
async def test_sigterm_and_return(tmp_path: Path, durable: bool) -> None:
    """1006, `reconnecting`, open again with its cursor: a durable server brings what it missed, one in memory silently nothing."""
    (tmp_path / "token").write_text("sesame")
    arguments = (
        "--relayfile-token-file",
        tmp_path / "token",
        *(("--database", tmp_path / "relay.db") if durable else ()),
    )
    async with relay_process(0, *arguments) as (process, url):
        port = int(url.rpartition(":")[2])
        client_of = watcher(url, "sesame", reconnect={"enabled": True, "minDelayMs": 500, "maxDelayMs": 1000})
        async with client_of as client:
            await client.until_type("open")
            for path in ("/a", "/b"):
                await write(url, path)
            await client.until_type("event", 2)
            process.terminate()
            await process.wait()
            await client.until_type("close")
            # Nobody is let in at first, so that the client cannot be there before the event that it is to miss.
            (tmp_path / "shut").write_text("steps: [{at_s: 0, for_s: 1, fault: refuse, protocol: relayfile}]")
            async with relay_process(port, *arguments, "--script", tmp_path / "shut") as (_, again):
                assert url == again
                await write(url, "/missed")
                await client.until_type("open", 2)
                await write(url, "/seen")
                await client.until(lambda said: "/seen" == said[-1].get("event", {}).get("path"))
            paths = [line["event"]["path"] for line in client.said if line["type"] == "event"]
            assert (["/a", "/b", "/missed", "/seen"] if durable else ["/a", "/b", "/seen"]) == paths
            assert (["evt_1", "evt_2", "evt_3", "evt_4"] if durable else ["evt_1", "evt_2", "evt_2"]) == ids(client)
            assert ["connecting", "open", "reconnecting", "open"] == states(client)[:4]
            assert 1006 == next(line["code"] for line in client.said if line["type"] == "close")
            assert "polling-fallback" not in client.types()


# Polling


async def test_polling_swallows_what_was_written_before_its_first_poll() -> None:
    """Socket lost, upgrades refused, the feed fine: the first poll emits nothing, whatever it brings. Then it polls, and returns."""
    async with Relay.start() as relay:
        token = relay.files.token(WORKSPACE)
        async with watcher(relay.url, token, builtin=True, pollIntervalMs=300) as client:
            await client.until_type("open")
            relay.files.write(WORKSPACE, "/before")
            await client.until_type("event")
            with relay.faults.outage():
                relay.files.write(WORKSPACE, "/swallowed")
                await client.until_type("polling-fallback")
                await eventually(lambda: relay.ledger.of(Page))
                relay.files.write(WORKSPACE, "/polled")
                await client.until_type("event", 2)
            await client.until_type("open", 2)
            relay.files.write(WORKSPACE, "/live")
            await client.until_type("event", 3)
            paths = [line["event"]["path"] for line in client.said if line["type"] == "event"]
            assert ["/before", "/polled", "/live"] == paths
            assert ["connecting", "open", "reconnecting", "polling", "reconnecting", "open"] == states(client)
            assert ["forced-polling-pre-open"] == [
                line["reason"] for line in client.said if line["type"] == "polling-fallback"
            ]
        first = relay.ledger.of(Page)[0]
        assert ("evt_1", (2,)) == (first.cursor, first.numbers), "the server gave it"
        assert "evt_3" == relay.ledger.of(Dialled)[1].cursor


async def test_with_the_ws_package_it_never_polls() -> None:
    """`error` and `close` come together: it reconnects for ever, without a word to the application."""
    async with Relay.start() as relay:
        reconnect = {"enabled": True, "minDelayMs": 20, "maxDelayMs": 20}
        async with watcher(relay.url, relay.files.token(WORKSPACE), reconnect=reconnect) as client:
            await client.until_type("open")
            with relay.faults.outage():
                await eventually(lambda: 5 <= len(relay.ledger.of(Refused)))
            await client.until_type("open", 2)
            assert ["connecting", "open", "reconnecting", "open"] == states(client)
            assert "polling-fallback" not in client.types()
        assert [] == relay.ledger.of(Page)


# Refusals


@pytest.mark.parametrize("builtin", [False, True], ids=["ws", "built in"])
async def test_a_wrong_token(builtin: bool) -> None:
    """`ws`: reconnecting for ever. Built in: it polls, and the polls are refused for ever too."""
    async with Relay.start() as relay:
        header, payload, signature = relay.files.token(WORKSPACE).split(".")
        wrong = f"{header}.{payload}.{signature[::-1]}"
        options = {"reconnect": {"enabled": True, "minDelayMs": 20, "maxDelayMs": 50}, "pollIntervalMs": 50}
        async with watcher(relay.url, wrong, builtin=builtin, **options) as client:
            if builtin:
                await client.until(lambda said: 3 <= sum(line.get("status") == 401 for line in said))
                assert ["connecting", "polling"] == states(client)
            else:
                await eventually(lambda: 4 <= len(relay.ledger.of(Refused)))
                assert ["connecting", "reconnecting"] == states(client)
            assert "open" not in client.types()
        assert {(401, "jwt signature mismatch")} == {(fact.status, fact.why) for fact in relay.ledger.of(Refused)}
        refused = {(fact.status, fact.message) for fact in relay.ledger.of(Answered)}
        assert ({(401, "jwt signature mismatch")} if builtin else set()) == refused
        assert [] == relay.ledger.of(Opened)


async def test_a_token_limited_to_paths_can_never_poll() -> None:
    """Its stream opens; once that is refused, every poll is a 403."""
    async with Relay.start() as relay:
        token = relay.files.token(WORKSPACE, ["relayfile:fs:read:/docs/**"])
        async with watcher(relay.url, token, builtin=True, paths=["/docs/**"]) as client:
            await client.until_type("open")
            with relay.faults.outage():
                await client.until(lambda said: any(line.get("status") == 403 for line in said))
            assert "polling" == states(client)[-1]
        assert [("/docs/**",)] == [fact.filters for fact in relay.ledger.of(Dialled)]

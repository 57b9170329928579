"""Services over real sockets: those that refuse, hang, answer 500, send elsewhere or never stop talking, beside a scrape that does not wait for them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from syncwatch import Watch
from syncwatch.core.health import Component, Reason
from syncwatch.core.snapshot import ServiceSnapshot
from syncwatch.core.states import ProbeFailure
from syncwatch.runtime import tls
from syncwatch.runtime.tls import TlsSettings
from tests.integration.runtime_parts import Certificates, Peer, serving
from tests.integration.sidecar import PROMPTLY_S, Asked, Sidecar, command, holds, running, until
from tests.integration.test_reload import reloaded
from tests.loops import on_both_loops

FAST: dict[str, Any] = {"interval": "300ms", "retry_interval": "200ms", "timeout": "5s"}
SOON: dict[str, Any] = {"timeout": "300ms"}
"""For those that must run into it."""


def saying(head: bytes, body: bytes = b"", *, forever: bool = False) -> Callable[[Peer], Awaitable[None]]:
    """A server that answers each request with these bytes; `forever`: the body again and again, as fast as it is taken."""

    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.say(head + b"\r\n\r\n" + body)
            while forever:
                peer.say(body)
                await peer.writer.drain()

    return serve


async def hanging(peer: Peer) -> None:
    """Take the request and say nothing."""
    await peer.request()
    await peer.end()


async def half(peer: Peer) -> None:
    """Promise a body, and send only a part of it."""
    await peer.request()
    peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await peer.end()


async def cutting(peer: Peer) -> None:
    """Hang up before the answer."""
    await peer.request()
    peer.reset()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2"


def nobody() -> int:
    """A port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@asynccontextmanager
async def watching(*services: dict[str, Any]) -> AsyncIterator[Watch]:
    """The machinery alone, with these services and nothing else."""
    async with Watch({"services": [FAST | one for one in services]}) as watch:
        yield watch


def seen(watch: Watch) -> dict[str, ServiceSnapshot]:
    """What is known of each."""
    return {one.name: one for one in watch._running().snapshot().services}


async def probed(watch: Watch, name: str = "s", probes: int = 1) -> ServiceSnapshot:
    """Once so many probes have ended."""
    await holds(lambda: seen(watch)[name].probes >= probes)
    return seen(watch)[name]


@on_both_loops()
@pytest.mark.parametrize(
    ("server", "keys", "failure"),
    [
        (saying(OK, b"ok"), {}, None),
        (saying(OK, b"ok"), {"expect_body": "^ok$", "expect_status": 200}, None),
        (saying(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/gone\r\nContent-Length: 0"), {}, None),
        (saying(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/gone\r\nContent-Length: 0"), {"expect_status": 200}, ProbeFailure.STATUS),
        (saying(b"HTTP/1.1 500 Oops\r\nContent-Length: 0"), {}, ProbeFailure.STATUS),
        (saying(b"HTTP/1.1 429 Slowly\r\nRetry-After: 3600\r\nContent-Length: 0"), {}, ProbeFailure.STATUS),
        (saying(OK, b"no"), {"expect_body": "ok"}, ProbeFailure.BODY),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000", b"x" * 65_536, forever=True), {}, None),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000", b"x" * 65_536, forever=True), {"expect_body": "y"}, ProbeFailure.BODY),
        (half, {}, None),
        (half, SOON | {"expect_body": "half"}, ProbeFailure.TIMEOUT),
        (hanging, SOON, ProbeFailure.TIMEOUT),
        (cutting, {}, ProbeFailure.REFUSED),
        (saying(b"220 mail.example ESMTP"), {}, ProbeFailure.REFUSED),
    ],
)  # fmt: skip
async def test_every_kind_of_answer(server: Callable[[Peer], Awaitable[None]], keys: dict[str, Any], failure: ProbeFailure | None) -> None:
    """Healthy, or the one reason why not; the same again at the next probe."""
    async with serving(server) as port, watching({"name": "s", "url": f"http://127.0.0.1:{port}/health", **keys}) as watch:
        found = await probed(watch, probes=2)
        assert (failure is None, failure is None) == (found.healthy, found.last_failure is None), found.last_failure
        assert {reason: found.probes for reason in (failure,) if reason} == {reason: count for reason, count in found.failures.items() if count}
        reasons = [item for item in watch._running().snapshot().health.held if item.component is Component.SERVICE]
        assert ([] if failure is None else [Reason.SERVICE_UNHEALTHY]) == [item.reason for item in reasons]


@on_both_loops()
async def test_nobody_there_no_such_name_and_a_stranger(tmp_path: Path) -> None:
    """Refused, dns, tls: each in words that say what to look at."""
    certificates = Certificates(tmp_path)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(saying(OK, b"ok"), certificates.server()))
        watch = await stack.enter_async_context(
            watching(
                {"name": "refused", "url": f"http://127.0.0.1:{nobody()}/"},
                {"name": "dns", "url": "http://no-such-host.invalid/", "timeout": "5s"},
                {"name": "tls", "url": f"https://127.0.0.1:{port}/", "timeout": "5s"},
            )
        )
        for name, words in (("refused", "ECONNREFUSED"), ("dns", "cannot be resolved"), ("tls", "certificate refused")):
            found = await probed(watch, name)
            assert {name} == {str(reason) for reason, count in found.failures.items() if count}
            assert words in str(found.last_failure)


@on_both_loops()
async def test_one_that_hangs_delays_nobody() -> None:
    """Others go on at their pace, and a picture is taken at once."""
    async with serving(hanging) as stuck, serving(saying(OK, b"ok")) as port:
        slow = [{"name": f"slow{number}", "url": f"http://127.0.0.1:{stuck}/", "timeout": "30s"} for number in range(20)]
        quick = {"name": "quick", "url": f"http://127.0.0.1:{port}/", "interval": "100ms"}
        async with watching(*slow, quick) as watch:
            began_s = time.monotonic()
            assert (await probed(watch, "quick", 5)).healthy
            assert time.monotonic() - began_s < 2 * PROMPTLY_S
            assert {0} == {one.probes for name, one in seen(watch).items() if name != "quick"}
            began_s = time.monotonic()
        assert time.monotonic() - began_s < PROMPTLY_S, "the end waits for no probe"


@on_both_loops()
async def test_a_service_that_dies_and_comes_back() -> None:
    """The last healthy probe is remembered meanwhile; recovery is found by the retries."""
    async with AsyncExitStack() as stack:
        async with serving(saying(OK, b"ok")) as port:
            watch = await stack.enter_async_context(watching({"name": "s", "url": f"http://127.0.0.1:{port}/"}))
            assert (await probed(watch)).healthy
        await holds(lambda: seen(watch)["s"].healthy is False)
        down = seen(watch)["s"]
        assert down.last_healthy is not None
        assert down.failures[ProbeFailure.REFUSED] >= 1
        async with serving(saying(OK, b"ok"), port=port):
            await holds(lambda: seen(watch)["s"].healthy)


@on_both_loops()
async def test_the_authorities_are_loaded_once_for_all_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They cost more memory than everything else about a service."""
    certificates = Certificates(tmp_path)
    made: list[TlsSettings] = []

    def make(settings: TlsSettings) -> tls.ClientContext:
        made.append(settings)
        return make_context(settings)

    make_context = tls.make_context
    monkeypatch.setattr(tls, "make_context", make)
    async with serving(saying(OK, b"ok"), certificates.server()) as port:
        first, second = ({"name": name, "url": f"https://127.0.0.1:{port}/", "timeout": "5s"} for name in ("first", "second"))
        async with watching(first | {"retry_interval": "100ms"}, second | {"interval": "10s"}) as watch:
            await probed(watch, "first")
            loaded = len(made)  # 2 if both asked before the first one was loaded
            await probed(watch, "first", 3)
            await probed(watch, "second", 2)
            assert loaded == len(made)
            assert [TlsSettings()] * loaded == made


# ------------------------------------------------------------------ as a sidecar


class Flair:
    """A service whose status a test sets."""

    def __init__(self) -> None:
        self.status = 200
        self.url = ""
        self.asked = 0

    async def answer(self, _: web.Request) -> web.Response:
        """One probe."""
        self.asked += 1
        return web.Response(status=self.status)


@asynccontextmanager
async def flair() -> AsyncIterator[Flair]:
    """It listens."""
    made, app = Flair(), web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/health?full=1"
        yield made
    finally:
        await runner.cleanup()


def document(folder: Path, *services: dict[str, Any]) -> dict[str, Any]:
    """A configuration with services alone."""
    return {
        "listen": "127.0.0.1:0",
        "local_listen": "127.0.0.1:0",
        "log": {"level": "debug", "format": "json"},
        "health": {"degraded_after": "100ms", "recovered_after": "100ms"},
        "services": [FAST | one for one in services],
    }


async def one_service(sidecar: Asked) -> dict[str, Any]:
    """The first in /status."""
    found: dict[str, Any] = (await sidecar.status())["services"][0]
    return found


async def test_a_sidecar_that_watches_services_alone(tmp_path: Path) -> None:
    """From the file to metrics, /status, the terminal, the log and the probes; what is unwell closes nothing."""
    async with flair() as it, aiohttp.ClientSession() as http:
        config = document(tmp_path, {"name": "flair", "url": it.url}, {"name": "later", "url": it.url, "interval": "1h"})
        async with running(tmp_path, config, http) as sidecar:
            first = await sidecar.scrape()
            assert [0.0] * 6 == first.all("syncwatch_service_probe_failures_total", target_service="later")
            assert [] == first.all("syncwatch_service_up", target_service="later")
            assert 0.0 == first.value("syncwatch_degraded", component="service", name="later", reason="service_unhealthy")
            await until(lambda: one_service(sidecar), lambda one: one["state"] == "healthy")
            it.status = 503
            unwell = await until(lambda: one_service(sidecar), lambda one: one["state"] == "unhealthy")
            assert ("degraded", "HTTP 503", ["service_unhealthy"]) == (
                unwell["health"],
                unwell["last_failure"],
                [one["reason"] for one in unwell["reasons"]],
            )
            assert unwell["last_healthy"]["age_s"] > 0
            assert (200, 200, 200) == ((await sidecar.gate())[0], (await sidecar.probe("/readyz"))[0], (await sidecar.probe("/livez"))[0])

            async def told() -> float:
                return (await sidecar.scrape()).value("syncwatch_degraded", component="service", name="flair", reason="service_unhealthy")

            await until(told, lambda value: value == 1.0)
            scrape = await sidecar.scrape("application/openmetrics-text;version=1.0.0")
            assert 0.0 == scrape.value("syncwatch_service_up", target_service="flair")
            assert scrape.value("syncwatch_service_probe_failures_total", target_service="flair", reason="status") >= 1.0
            assert scrape.value("syncwatch_health_seconds_total", component="service", name="flair", health="degraded") > 0.0
            shown = await command("status", "--url", sidecar.local)
            assert 1 == shown.code
            assert "◐ flair unhealthy for " in shown.out
            assert "  error       HTTP 503\n" in shown.out
            it.status = 200
            await until(lambda: one_service(sidecar), lambda one: one["state"] == "healthy" and one["health"] == "healthy")
            assert "full=1" not in json.dumps(await sidecar.status()), "what is shown is scheme, host and port"
            assert (0, True) == ((done := await sidecar.end())[0], done[1] < PROMPTLY_S)
            results = [(line["result"], line["reason"]) for line in sidecar.log("service") if line["service"] == "flair"]
            assert [("healthy", None), ("unhealthy", "status"), ("healthy", None)] == results


async def test_services_change_while_it_runs(tmp_path: Path) -> None:
    """A setting keeps the counters, another URL begins anew, and the metrics of what was removed disappear."""
    async with flair() as it, flair() as other, aiohttp.ClientSession() as http:
        keys = [{"name": name, "url": it.url} for name in ("kept", "moved", "gone")]
        config = document(tmp_path, *keys)
        async with running(tmp_path, config, http) as sidecar:
            await until(sidecar.status, lambda status: all(one["probes"]["total"] >= 2 for one in status["services"]))
            new, moved = {"name": "new", "url": it.url, "interval": "1h"}, keys[1] | {"url": other.url, "interval": "1h"}
            changed = document(tmp_path, new, keys[0] | {"expect_status": 204}, moved)
            await rewritten(sidecar, tmp_path, changed)
            line = await sidecar.said("the configuration was reloaded")
            assert (["kept"], ["moved"], ["new"], ["gone"]) == tuple(
                line[f"services_{word}"] for word in ("configured", "replaced", "added", "removed")
            )
            status = await sidecar.status()
            assert ["new", "kept", "moved"] == [one["name"] for one in status["services"]]
            new_one, kept, moved_one = (one["probes"]["total"] for one in status["services"])
            assert kept >= 2
            assert max(new_one, moved_one) <= 1, "they began anew"
            await until(sidecar.status, lambda status: status["services"][1]["state"] == "unhealthy")
            assert "HTTP 200, not 204" == (await sidecar.status())["services"][1]["last_failure"]
            await holds(lambda: other.asked >= 1)
            scrape = await sidecar.scrape()
            assert [] == scrape.all("syncwatch_service_probes_total", target_service="gone")
            assert [] == scrape.all("syncwatch_degraded", component="service", name="gone")
            assert [] == scrape.all("syncwatch_task_overdue_seconds", task="service/gone")


async def rewritten(sidecar: Sidecar, folder: Path, config: dict[str, Any]) -> None:
    """Another file, applied."""
    (folder / "syncwatch.yaml").write_text(yaml.safe_dump(config))
    await reloaded(sidecar)

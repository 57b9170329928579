"""Webhooks over real sockets: what arrives, how it is signed, and receivers that hang, refuse, answer 500 or send elsewhere, beside a sidecar that does not care."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from syncwatch import Watch
from syncwatch.core.backoff import Backoff
from syncwatch.core.effects import Notice, Notify
from syncwatch.core.hook import Hook, HookSettings
from syncwatch.core.occasions import FIELDS
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.hooks import SIGNATURE, HookCaller
from syncwatch.runtime.http import HttpClient
from tests.integration.sidecar import PROMPTLY_S, Rig, Scrape, Sidecar, holds, rig
from tests.integration.test_watch import values
from tests.loops import on_both_loops

SECRET = "s3cret-of-the-hook"


class Receiver:
    """A receiver whose manners a test sets. `events` are what it took with 2xx."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[dict[str, Any], str | None]] = []
        self.events: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.over = asyncio.Event()
        self.manners: Callable[[web.Request], web.Response | None] = lambda _: web.Response(status=204)

    async def take(self, request: web.Request) -> web.Response:
        """One call."""
        body = await request.read()
        event = json.loads(body)
        self.calls.append((event, request.headers.get(SIGNATURE)))
        self.bodies.append(body)
        assert "application/cloudevents+json; charset=utf-8" == request.headers["Content-Type"]
        answer = self.manners(request)
        if answer is None:
            await self.over.wait()  # aiohttp does not end a handler whose client has gone
            raise web.HTTPServiceUnavailable
        if answer.status < 300:
            self.events.append(event)
        return answer

    @property
    def types(self) -> list[str]:
        """The kinds that were taken, in order."""
        return [event["type"].removeprefix("syncwatch.") for event in self.events]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that listens; a call that hangs hangs until the end."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/sync-health"
        yield receiver
    finally:
        receiver.over.set()
        await runner.cleanup()


def nobody() -> str:
    """A URL where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"


def signed(body: bytes, secret: str = SECRET) -> str:
    """As a receiver computes it."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Line:
    """A hook with its caller and without a sidecar."""

    def __init__(self, url: str, secret_file: Path | None = None, **settings: Any) -> None:
        chosen = HookSettings(url, frozenset(FIELDS), **{"backoff": Backoff(0.05, 0.05, jitter=False), "timeout_s": 2.0, **settings})
        self.hook = Hook("ui", chosen, random.Random(1))
        self.driver = Driver("hook/ui", self.hook)
        self.told: list[tuple[object, object]] = []
        self.driver.on(Notify, lambda notify: self.told.append((notify.fields["result"], notify.fields["detail"])))
        self.client = HttpClient()
        self.caller = HookCaller(self.driver, self.hook, self.client, secret_file)

    def offer(self, *numbers: int) -> None:
        """Gaps."""
        for number in numbers:
            notify = Notify(Notice.GAP, 1_800_000_000.0, {"connection": "cast", "first": number})
            self.driver.call(self.hook.offer, f"run-{number}", "box", notify)

    async def idle(self) -> None:
        """Wait until nothing is left to do."""
        await holds(lambda: self.hook.idle)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Delivered, retried, dropped."""
        return self.hook.delivered, self.hook.retried, self.hook.dropped


@asynccontextmanager
async def line(url: str, secret_file: Path | None = None, **settings: Any) -> AsyncIterator[Line]:
    """A line that is taken down at the end."""
    made = Line(url, secret_file, **settings)
    try:
        yield made
    finally:
        await made.caller.finish(0.1)
        made.driver.close()
        await made.client.close()


@on_both_loops()
async def test_events_arrive_in_order_and_unsigned_without_a_secret() -> None:
    """Each once."""
    async with receiving() as receiver, line(receiver.url) as it:
        it.offer(1, 2, 3)
        await it.idle()
        assert [1, 2, 3] == [event["data"]["first"] for event in receiver.events]
        assert [None] * 3 == [signature for _, signature in receiver.calls]
        assert ((3, 0, 0), []) == (it.counts, it.told)


@on_both_loops()
async def test_the_body_is_signed_with_the_secret_as_it_is_now(tmp_path: Path) -> None:
    """A rotated one is used at once; one that cannot be read fails the call, is said without its content, and is tried again."""
    file = tmp_path / "secret"
    file.write_text(f"  {SECRET}\n")
    async with receiving() as receiver, line(receiver.url, file) as it:
        it.offer(1)
        await it.idle()
        file.write_text("another-one")
        it.offer(2)
        await it.idle()
        assert [signed(receiver.bodies[0]), signed(receiver.bodies[1], "another-one")] == [signature for _, signature in receiver.calls]
        file.unlink()
        it.offer(3)
        await holds(lambda: it.hook.retried)
        file.write_text(SECRET)
        await it.idle()
        assert (3, 0) == (it.hook.delivered, it.hook.dropped)
        assert signed(receiver.bodies[2]) == receiver.calls[2][1]
        assert ("failed", f"unauthorized: token file {file}: no such file or directory") == it.told[0]


@on_both_loops()
async def test_500_is_tried_again_with_the_same_event() -> None:
    """Until it is taken."""
    async with receiving() as receiver, line(receiver.url) as it:
        receiver.manners = lambda _: web.Response(status=500 if len(receiver.calls) < 3 else 200)
        it.offer(1)
        await it.idle()
        assert (["run-1"] * 3, (1, 2, 0)) == ([event["id"] for event, _ in receiver.calls], it.counts)
        assert ["failed", "delivered"] == [result for result, _ in it.told]


@on_both_loops()
async def test_retry_after_is_honoured() -> None:
    """Seconds, as a header."""
    async with receiving() as receiver, line(receiver.url) as it:
        times: list[float] = []

        def busy(_: web.Request) -> web.Response:
            times.append(time.monotonic())
            return web.Response(status=429, headers={"Retry-After": "1"}) if len(times) == 1 else web.Response()

        receiver.manners = busy
        it.offer(1)
        await it.idle()
        assert times[1] - times[0] >= 1.0


@on_both_loops()
async def test_a_redirect_is_not_followed() -> None:
    """The event goes where it was configured, or nowhere."""
    async with receiving() as other, receiving() as receiver, line(receiver.url) as it:
        receiver.manners = lambda _: web.Response(status=307, headers={"Location": other.url})
        it.offer(1)
        await it.idle()
        assert ([], (0, 0, 1)) == (other.calls, it.counts)


@on_both_loops()
async def test_receivers_that_refuse_or_hang_cost_one_call_at_a_time() -> None:
    """They are given up after max_attempts; what waits is bounded and the oldest goes first."""
    async with line(nobody(), max_attempts=2) as it:
        it.offer(1)
        await it.idle()
        assert ((0, 1, 1), True) == (it.counts, "refused" in str(it.hook.last_failure))
    async with receiving() as receiver, line(receiver.url, timeout_s=0.2, max_attempts=2, queue=2) as it:
        receiver.manners = lambda _: None
        it.offer(*range(1, 6))
        assert (2, 3) == (it.hook.dropped, it.hook.snapshot().waiting)
        await it.idle()
        assert [1, 1, 4, 4, 5, 5] == [event["data"]["first"] for event, _ in receiver.calls]
        assert (0, 3, 5) == it.counts


@on_both_loops()
async def test_the_end_delivers_what_it_can_in_bounded_time() -> None:
    """What a delay held back goes out at once; a receiver that hangs then is not waited for, and all is counted."""
    async with receiving() as receiver, line(receiver.url, backoff=Backoff(60.0, 60.0)) as it:
        receiver.manners = lambda _: web.Response(status=503 if len(receiver.calls) == 1 else 200)
        it.offer(1, 2)
        await holds(lambda: it.hook.retried)
        await it.caller.finish(5.0)
        assert ((2, 1, 0), True) == (it.counts, it.hook.idle)
    async with receiving() as receiver, line(receiver.url) as it:
        receiver.manners = lambda _: None
        it.offer(1, 2)
        await holds(lambda: receiver.calls)
        began_s = time.monotonic()
        await it.caller.finish(0.2)
        assert time.monotonic() - began_s < PROMPTLY_S
        assert (0, 0, 2) == it.counts


# --- beside a sidecar --------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def watched(folder: Path, url: str, **hook: Any) -> AsyncIterator[tuple[Rig, Sidecar]]:
    """A sidecar with one hook. It is not degraded because its start takes a while on a busy machine."""
    hooks = [{"name": "ui", "url": url, **hook}]
    async with rig(folder, hooks=hooks, health={"degraded_after": "1500ms"}) as it, it.sidecar() as sidecar:
        yield it, sidecar


def deliveries(scrape: Scrape) -> tuple[float, float, float]:
    """Delivered, retried, dropped."""
    results = ("delivered", "retried", "dropped")
    found = tuple(scrape.value("syncwatch_hook_deliveries_total", hook="ui", result=result) for result in results)
    return found[0], found[1], found[2]


async def test_an_outage_as_a_receiver_sees_it(tmp_path: Path) -> None:
    """Degraded, resynced, recovered; signed, under the ids of /events, from this instance; counted from the first scrape at 0."""
    (tmp_path / "secret").write_text(SECRET)
    async with receiving() as receiver, watched(tmp_path, receiver.url, secret_file=str(tmp_path / "secret")) as (it, sidecar):
        assert (0, 0, 0) == deliveries(await sidecar.scrape())
        it.post(2)
        await sidecar.caught_up(it.relay)
        with it.relay.faults.outage(status=503):
            await holds(lambda: "degraded" in receiver.types)
            it.post(2)
        await holds(lambda: "recovered" in receiver.types)
        assert {"degraded", "gap", "resynced", "recovered"} == set(receiver.types)
        assert "recovered" == receiver.types[-1]
        (replay,) = [event["data"] for event in receiver.events if event["type"] == "syncwatch.resynced"]
        assert (4, 0, "verified", False) == (replay["recovered"], replay["lost"], replay["verdict"], replay["gap_detected"])
        assert [signed(body) for body in receiver.bodies] == [signature for _, signature in receiver.calls]
        instance = (await sidecar.status())["sidecar"]["instance"]
        assert {(f"/syncwatch/{instance}", "1.0", "connection/cast")} == {(e["source"], e["specversion"], e["subject"]) for e in receiver.events}
        async with sidecar.http.get(f"{sidecar.local}/events") as stream:
            history = ""
            while f"id: {receiver.events[-1]['id']}\nevent: recovered" not in history:
                history += (await stream.content.readany()).decode()
        for event in receiver.events:
            assert f"id: {event['id']}\nevent: {event['type'].removeprefix('syncwatch.')}\n" in history
        assert (len(receiver.events), 0, 0) == deliveries(await sidecar.scrape())
        assert (0, True) == ((await sidecar.end())[0], SECRET not in sidecar.text())


@pytest.mark.parametrize("manner", ["hangs", "refuses", "500"])
async def test_a_bad_receiver_delays_neither_heartbeats_nor_scrapes_nor_the_end(tmp_path: Path, manner: str) -> None:
    """The connection comes back and its pings are answered, scrapes are quick, SIGTERM ends it promptly; the failure is said once."""
    async with receiving() as receiver:
        receiver.manners = lambda _: None if manner == "hangs" else web.Response(status=500)
        url = nobody() if manner == "refuses" else receiver.url
        async with watched(tmp_path, url, timeout="1s") as (it, sidecar):
            with it.relay.faults.outage(status=503):
                await sidecar.said("degraded")
                await holds(lambda: manner == "refuses" or receiver.calls)
            before = (await sidecar.until(lambda cast: cast["state"] == "open"))["heartbeats"]
            took: list[float] = []
            for _ in range(20):
                began_s = time.monotonic()
                scrape = await sidecar.scrape()
                took.append(time.monotonic() - began_s)
                await asyncio.sleep(0.05)
            after = (await sidecar.until(lambda cast: cast["heartbeats"]["acknowledged"] >= before["acknowledged"] + 2))["heartbeats"]
            assert before["missed"] == after["missed"]
            assert sorted(took)[10] < 0.5, "the receiver's timeout is 1 s, and a loaded machine delays some of them, not most"
            assert 0 == deliveries(scrape)[0]
            await sidecar.said("hook")
            (status,) = (await sidecar.status())["hooks"]
            assert status["waiting"] > 0
            assert status["last_failure"]
            assert ["failed"] == [one["result"] for one in sidecar.log("hook")][:1]
            assert (200, "ok") == await sidecar.probe("/livez")
            code, took_s = await sidecar.end()
        assert 0 == code, sidecar.text()
        assert took_s < PROMPTLY_S
        assert "dropped" == sidecar.log("hook")[-1]["result"], "what was left is counted"


async def test_the_library_has_hooks_too(tmp_path: Path) -> None:
    """The same machinery."""
    async with receiving() as receiver, rig(tmp_path) as it:
        config = values(it.relay, tmp_path)
        async with Watch({**config, "hooks": [{"name": "ui", "url": receiver.url, "events": ["degraded"]}]}) as watch:
            await watch.synced()
            with it.relay.faults.outage(status=503):
                await holds(lambda: receiver.events)
        assert {"degraded"} == set(receiver.types)

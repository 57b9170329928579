"""Liveness means that a restart would help: two hours of outage on simulated time never ask for one, a wedged task always does.

The whole app with its real listeners, session, monitor, drivers and supervisor, on a loop whose time jumps. Only the dial is a double: it
fails the way a dead upstream fails.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import math
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
import yaml
from aiohttp.client_reqrep import ConnectionKey

from syncwatch.app import App
from syncwatch.config import parse, plan
from syncwatch.core.effects import Effects
from syncwatch.core.states import AttemptFailure
from syncwatch.runtime import connection
from syncwatch.runtime.driver import LIMIT_S, Driver
from syncwatch.runtime.failures import Interrupted, TimedOut
from syncwatch.runtime.supervisor import BEAT_S, GRACE_S, OVERDUE_S
from tests import virtualtime
from tests.integration.kubelet import Prober
from tests.integration.sidecar import configuration
from tests.virtualtime import VirtualTimeLoop

DEPLOY = Path(__file__).parents[2] / "deploy"
HOUR_S = 3600.0
UPSTREAM = ConnectionKey("upstream.invalid", 80, False, True, None, None, None)
SLACK_S = 2 * BEAT_S + 1.0
# A wedged session shows after max(30 s, three times its longest interval): with these, after 30 s.
LIVELY: dict[str, Any] = {"heartbeat": {"interval": "5s", "timeout": "5s"}, "reconnect": {"breaker_retry": "5s"}}


class Running(NamedTuple):
    """The app and its loop."""

    app: App
    loop: VirtualTimeLoop

    async def ask(self, path: str, listener: str = "listen") -> tuple[int, str]:
        """One request to the real listener, over a real socket."""
        address = self.app.addresses[listener]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body

    @property
    def drivers(self) -> dict[str, Driver]:
        """All of them by name."""
        assert self.app._health is not None
        return {one.name: one for one in (self.session_driver, self.app._health, self.app.supervisor._own)}

    @property
    def session_driver(self) -> Driver:
        """What runs the one connection."""
        return self.app.watched[0].driver


def scenario(folder: Path, play: Callable[[Running], Awaitable[None]], **cast: Any) -> None:
    """Run the app on a fresh virtual loop, play, and stop it."""
    token_file = folder / "token"
    token_file.write_text("at_live_" + "1" * 32)
    changes = {"state_dir": None, "cast": {"connect_timeout": "10s", **cast}}
    text = yaml.safe_dump(configuration("http://upstream.invalid", token_file, folder, changes))

    async def main(loop: VirtualTimeLoop) -> None:
        app = App(parse(text, "test", {}), loop.clock(), random.Random(7))
        await app.start()
        try:
            await play(Running(app, loop))
        finally:
            await app.stop()

    virtualtime.run(main)


@pytest.fixture
def no_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which a dead upstream fails a dial, in turn: refused, no name, no route, a handshake that hangs, cut off."""
    kinds = itertools.cycle(("refused", "name", "route", "hang", "cut"))

    async def dial(_request: object, _secret: object, _endpoint: object, _contexts: object, timeout_s: float, _clock: object) -> None:
        match next(kinds):
            case "refused":
                raise aiohttp.ClientConnectorError(UPSTREAM, ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
            case "name":
                raise aiohttp.ClientConnectorDNSError(UPSTREAM, socket.gaierror(-2, "no such name"))
            case "route":
                raise aiohttp.ClientConnectorError(UPSTREAM, OSError(errno.EHOSTUNREACH, "no route"))
            case "hang":
                await asyncio.sleep(timeout_s)
                raise TimedOut("upgrade", timeout_s)
            case _:
                raise Interrupted(ConnectionResetError())

    monkeypatch.setattr(connection, "dial", dial)


@pytest.mark.usefixtures("no_upstream")
def test_two_hours_without_an_upstream(tmp_path: Path) -> None:
    """/livez and /healthz are 200 in every single minute; /readyz and the gate are closed; nobody gives up trying."""

    async def play(it: Running) -> None:
        for minute in range(120):
            await asyncio.sleep(60.0)
            assert (200, "ok") == await it.ask("/livez"), f"minute {minute}"
            assert (200, "ok") == await it.ask("/healthz"), f"minute {minute}"
            assert (200, "ok") == await it.ask("/livez/task/connection/cast"), f"minute {minute}"
            assert 503 == (await it.ask("/readyz"))[0]
            assert 503 == (await it.ask("/gate", "local_listen"))[0]
        assert it.loop.time() >= 2 * HOUR_S
        snapshot = it.app.snapshot()
        cast = snapshot.connections[0]
        failures = cast.attempt_failures
        assert {"refused", "dns", "unreachable", "timeout", "protocol"} == {str(reason) for reason, count in failures.items() if count}
        assert "failed" == cast.timeline.state, "the breaker is open"
        assert cast.attempts >= 110, "tried every minute all the same"
        assert 0 == it.session_driver.restarts
        assert 0 == failures[AttemptFailure.UNAUTHORIZED]
        down_s = next(s for (_, name, health), s in snapshot.health.seconds.items() if (name, health) == ("cast", "down"))
        assert 2 * HOUR_S - 60 <= down_s <= it.loop.time()

    scenario(tmp_path, play, reconnect={"min": "250ms", "max": "30s"})


def shipped_probes() -> dict[str, Any]:
    """The sidecar's container, as deploy/ ships it."""
    manifest = yaml.safe_load((DEPLOY / "component/sidecar.yaml").read_text(encoding="utf-8"))
    (container,) = manifest["spec"]["template"]["spec"]["initContainers"]
    assert "readinessProbe" not in container
    return dict(container)


@asynccontextmanager
async def probed(it: Running, kind: str) -> AsyncIterator[Prober]:
    """A kubelet that probes the public listener as the manifest says, for the length of a block."""
    address = it.app.addresses["listen"]
    prober = Prober(shipped_probes()[kind], address.host, address.port)
    task = asyncio.create_task(prober.run())
    try:
        yield prober
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.usefixtures("no_upstream")
def test_a_kubelet_restarts_nothing_in_two_hours_without_an_upstream(tmp_path: Path) -> None:
    """The probes that deploy/ ships: started up at the first look, and then two hours in which not one probe fails, let alone three in a row."""

    async def play(it: Running) -> None:
        async with probed(it, "startupProbe") as startup:
            assert await startup.ask(), "the application would start now"
        async with probed(it, "livenessProbe") as liveness:
            while it.loop.time() < 2 * HOUR_S:
                await asyncio.sleep(60.0)
                assert (0, 0) == (liveness.failures, liveness.restarts), f"second {it.loop.time():g}"
        assert 715 <= liveness.probes <= 720
        assert "failed" == it.app.snapshot().connections[0].timeline.state, "all that time there was no upstream"

    scenario(tmp_path, play, reconnect={"min": "250ms", "max": "30s"})


@pytest.mark.usefixtures("no_upstream")
def test_a_kubelet_restarts_what_is_wedged_and_what_does_not_answer(tmp_path: Path) -> None:
    """The same prober can do it: three failures after a bug of ours, three after nobody listens any more; two are not enough."""

    async def play(it: Running) -> None:
        def breaks(now: float) -> Effects:
            raise ZeroDivisionError("a bug of ours")

        async with probed(it, "livenessProbe") as liveness:
            await asyncio.sleep(15.0)
            assert (1, 0) == (liveness.probes, liveness.failures)
            it.session_driver.call(breaks)
            await asyncio.sleep(20.0)
            assert (2, 0) == (liveness.failures, liveness.restarts)
            await asyncio.sleep(10.0)
            assert 1 == liveness.restarts
            with socket.socket() as nobody:
                nobody.bind(("127.0.0.1", 0))
                liveness.port = nobody.getsockname()[1]
                await asyncio.sleep(30.0)
            assert 2 == liveness.restarts

    scenario(tmp_path, play)


@pytest.mark.usefixtures("no_upstream")
@pytest.mark.parametrize("task", ["connection/cast", "health", "supervisor"])
def test_a_task_that_raised_asks_for_a_restart(tmp_path: Path, task: str) -> None:
    """A bug of ours stops one machine: 503 at once, by name and without the reason, whichever it is, also the one that looks after the others."""

    async def play(it: Running) -> None:
        await asyncio.sleep(5.0)
        assert (200, "ok") == await it.ask("/livez")

        def breaks(now: float) -> Effects:
            raise ZeroDivisionError("a bug of ours")

        it.drivers[task].call(breaks)
        code, text = await it.ask("/livez")
        assert (503, True) == (code, f"[-]task/{task} failed: reason withheld\n" in text)
        assert text.endswith("livez check failed\n")
        assert 503 == (await it.ask("/healthz"))[0]
        assert 503 == (await it.ask(f"/livez/task/{task}"))[0]
        assert 200 == (await it.ask(f"/livez?exclude=task/{task}"))[0]
        assert f'syncwatch_check_ok{{check="task/{task}",probe="livez"}} 0.0' in (await it.ask("/metrics"))[1]
        await asyncio.sleep(HOUR_S)
        assert 503 == (await it.ask("/livez"))[0], "nothing but a restart cures it"

    scenario(tmp_path, play)


@pytest.mark.usefixtures("no_upstream")
def test_a_machine_whose_deadline_never_moves(tmp_path: Path) -> None:
    """Restarting its timer does not help, so after 30 s it counts as wedged; not before."""

    async def play(it: Running) -> None:
        session = it.app.watched[0].session
        await asyncio.sleep(5.0)
        stuck_s = it.loop.time()
        stuck = {"tick": lambda self, now: (), "deadline": property(lambda self: stuck_s, lambda self, value: None)}
        session.__class__ = type("Stuck", (type(session),), stuck)
        await asyncio.sleep(LIMIT_S - 5.0)
        assert (200, "ok") == await it.ask("/livez")
        assert it.session_driver.restarts >= LIMIT_S - 5.0 - OVERDUE_S - SLACK_S, "it was tried, each second"
        await asyncio.sleep(5.0 + SLACK_S)
        code, text = await it.ask("/healthz")
        assert (503, True) == (code, "[-]task/connection/cast failed" in text)

    scenario(tmp_path, play, **LIVELY)


@pytest.mark.usefixtures("no_upstream")
def test_a_lost_timer_is_cured_by_a_restart_of_the_task(tmp_path: Path) -> None:
    """The supervisor finds the task overdue and wakes it: no reason to restart the process."""

    async def play(it: Running) -> None:
        await asyncio.sleep(20.0)
        attempts = it.app.watched[0].session.attempts
        await until_waiting(it)
        lose_timer(it.session_driver)
        lost_at = attempts.number
        for _ in range(60):
            await asyncio.sleep(1.0)
            assert (200, "ok") == await it.ask("/livez")
        assert 1 == it.session_driver.restarts
        assert attempts.number > lost_at, "it goes on dialling"

    scenario(tmp_path, play, **LIVELY)


@pytest.mark.usefixtures("no_upstream")
@pytest.mark.parametrize("task", ["connection/cast", "supervisor"])
def test_a_lost_timer_that_nobody_restores(tmp_path: Path, task: str) -> None:
    """If restarting a task does not help, /livez says so after 30 s, also of the task that looks after the others."""

    async def play(it: Running) -> None:
        await asyncio.sleep(20.0)
        await until_waiting(it)
        beyond_help(it.drivers[task])
        await asyncio.sleep(LIMIT_S - 5.0)
        assert (200, "ok") == await it.ask("/livez")
        await asyncio.sleep(5.0 + 5.0 + SLACK_S)
        code, text = await it.ask("/livez")
        assert (503, True) == (code, f"[-]task/{task} failed: reason withheld\n" in text), text
        assert 503 == (await it.ask("/healthz"))[0]

    scenario(tmp_path, play, **LIVELY)


async def until_waiting(it: Running) -> None:
    """Let time pass until no dial is under way: the session's next deadline is then its own."""
    while it.app.watched[0].session.attempts.retry_at_s == math.inf:  # noqa: ASYNC110  time is virtual, and nobody sets an event
        await asyncio.sleep(0.05)


def lose_timer(driver: Driver) -> None:
    """The wake-up that is arranged never comes."""
    assert driver._timer is not None
    driver._timer.cancel()


def beyond_help(driver: Driver) -> None:
    """The same, and neither a restart nor another input arranges a new one."""
    lose_timer(driver)
    driver._arm = lambda: None  # type: ignore[method-assign]


@pytest.mark.usefixtures("no_upstream")
def test_a_connection_that_is_re_aimed_or_removed_takes_its_trouble_with_it(tmp_path: Path) -> None:
    """What was wedged is not watched any more; and a hundred changes leave no more behind than one."""

    async def play(it: Running) -> None:
        def breaks(now: float) -> Effects:
            raise ZeroDivisionError("a bug of ours")

        async def change(*connections: object) -> None:
            config = msgspec.structs.replace(it.app.config, connections=connections)
            await it.app.apply(config, plan(it.app.config, config))

        await asyncio.sleep(5.0)
        (cast,) = it.app.config.connections
        looked_after = (len(it.app.supervisor._drivers), len(it.app.supervisor._beats))
        for number in range(100):
            cast = msgspec.structs.replace(cast, url=f"http://upstream.invalid/{number}")
            await change(cast)
            assert 1 == it.app.watched[0].session.attempts.number
            if number % 10 == 0:
                it.session_driver.call(breaks)
                assert 503 == (await it.ask("/livez"))[0]
            await asyncio.sleep(0.5)
        assert (200, "ok") == await it.ask("/livez")
        assert looked_after == (len(it.app.supervisor._drivers), len(it.app.supervisor._beats))
        assert not it.app._leaving
        await asyncio.sleep(60.0)
        assert it.app.watched[0].session.attempts.number > 3, "it goes on dialling"
        it.session_driver.call(breaks)
        await change()
        assert (200, "ok") == await it.ask("/livez")
        assert "cast" not in (await it.ask("/metrics"))[1]
        assert (looked_after[0] - 1, looked_after[1] - 1) == (len(it.app.supervisor._drivers), len(it.app.supervisor._beats))

    scenario(tmp_path, play, **LIVELY)


@pytest.mark.usefixtures("no_upstream")
def test_after_a_suspension_judgement_waits(tmp_path: Path) -> None:
    """A process that was stopped for an hour finds everything overdue: for 30 s /livez says nothing about it, and by then all is well."""

    async def play(it: Running) -> None:
        await asyncio.sleep(20.0)
        it.loop.advance(HOUR_S)
        assert (200, "ok") == await it.ask("/livez")
        await asyncio.sleep(BEAT_S)
        assert it.app.snapshot().sidecar.suspended
        for _ in range(60):
            assert (200, "ok") == await it.ask("/livez")
            await asyncio.sleep(1.0)
        assert not it.app.snapshot().sidecar.suspended

    scenario(tmp_path, play, **LIVELY)


@pytest.mark.usefixtures("no_upstream")
def test_what_is_wedged_after_a_suspension_is_told_after_30_s(tmp_path: Path) -> None:
    """Withholding judgement is not acquitting."""

    async def play(it: Running) -> None:
        await asyncio.sleep(20.0)
        await until_waiting(it)
        beyond_help(it.session_driver)
        it.loop.advance(HOUR_S)
        await asyncio.sleep(BEAT_S)
        assert (200, "ok") == await it.ask("/livez")
        await asyncio.sleep(GRACE_S - 5.0)
        assert (200, "ok") == await it.ask("/livez")
        await asyncio.sleep(5.0 + SLACK_S)
        assert 503 == (await it.ask("/livez"))[0]

    scenario(tmp_path, play, **LIVELY)

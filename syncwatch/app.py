"""The one place where everything is put together, supervised and taken apart.

What belongs here: wiring. Decisions are the core's, I/O the runtime's, words for the outside the exposition's.
"""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import random
import socket
from collections.abc import Callable
from pathlib import Path

import structlog
from aiohttp import web

from syncwatch import settings
from syncwatch.config import Address, Config, SecretError, read_secret
from syncwatch.core.effects import Notice, Notify
from syncwatch.core.monitor import Monitor
from syncwatch.core.resume import ResumePoint
from syncwatch.core.session import Session
from syncwatch.core.snapshot import Moment, SidecarSnapshot, Snapshot
from syncwatch.exposition.events import Broadcast
from syncwatch.exposition.http import Controls, local_app, public_app
from syncwatch.exposition.metrics import build_registry
from syncwatch.exposition.negotiation import render
from syncwatch.runtime.clock import SYSTEM, Clock
from syncwatch.runtime.connection import Connection
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.http import HttpClient, Poller
from syncwatch.runtime.statefile import StateFile
from syncwatch.runtime.supervisor import Supervisor
from syncwatch.runtime.tokens import TokenFiles
from syncwatch.version import REVISION, __version__

SAVE_TIMEOUT_S = 0.7
"""The last write of the state file gets this long: SIGTERM to exit is two seconds for everything."""

log = structlog.get_logger("syncwatch")

_LEVELS = {
    Notice.ANOMALY: "warning",
    Notice.ATTEMPT_FAILED: "warning",
    Notice.DISCONNECTED: "warning",
    Notice.HALF_OPEN: "warning",
    Notice.GAP: "warning",
    Notice.LOST: "error",
    Notice.RESET: "warning",
    Notice.DEGRADED: "warning",
}


class AddressInUse(Exception):  # noqa: N818  a sentence for people
    """An address cannot be listened on. `key` is where it was configured, `text` the sentence."""

    def __init__(self, key: str, address: Address, error: OSError) -> None:
        # Not error.strerror: asyncio writes the address into it once more.
        known = error.errno is not None and error.errno in errno.errorcode
        words = os.strerror(error.errno or 0).lower() if known else str(error)
        self.key = key
        self.text = f"{address} cannot be listened on: {words}"
        super().__init__(f"{key}: {self.text}")


class Watched:
    """One connection with everything that serves it."""

    def __init__(self, app: App, connection: settings.Runnable, resume: ResumePoint | None) -> None:
        codec = settings.protocol(connection)
        self.session = Session(
            connection.name,
            codec,
            settings.session_settings(connection, app.config.health.incident_hold_s),
            app.entropy,
            settings.upstream(connection.url),
            resume,
            settings.canary(connection, codec),
        )
        tokens, endpoint = TokenFiles(settings.token_files(connection)), settings.endpoint(connection)
        self.driver = Driver(f"connection/{connection.name}", self.session, app.clock)
        self.connection = Connection(self.driver, self.session, tokens, endpoint)
        self.poller = Poller(self.driver, self.session, tokens, app.client, endpoint)
        self.driver.on(Notify, app.notify)
        target = settings.canary_target(connection)
        if target is not None:
            log.info("a canary is switched on: it writes", connection=connection.name, target=target)


class App:
    """A sidecar. `start` returns when it listens; `stop` within two seconds."""

    def __init__(self, config: Config, clock: Clock = SYSTEM, entropy: random.Random | None = None) -> None:
        self.config = config
        self.clock = clock
        self.entropy = entropy or random.SystemRandom()
        self.client = HttpClient()
        self.broadcast = Broadcast()
        self.supervisor = Supervisor(clock)
        self.watched: list[Watched] = []
        self.instance = ""
        self.addresses: dict[str, Address] = {}
        self._statefile: StateFile[ResumePoint] | None = None
        self._runners: list[web.AppRunner] = []
        self._started = self._moment()
        self._monitor: Monitor | None = None
        self._health: Driver | None = None
        self._health_due = False

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Listen, then connect.

        Raises: StateInUse, AddressInUse; nothing is left running then, and the state file is as it was.
        """
        points = self._load_state()
        connections = [item for item in self.config.connections if isinstance(item, settings.Runnable)]
        self.watched = [Watched(self, item, points.get(item.name)) for item in connections]
        self._monitor = Monitor(settings.health_settings(self.config), [item.session for item in self.watched])
        self._health = Driver("health", self._monitor, self.clock)
        self._health.on(Notify, self.notify)
        for driver in (self._health, *(item.driver for item in self.watched)):
            driver.wall()  # before the first scrape can come
        try:
            await self._listen()
        except AddressInUse:
            await self._dismantle()  # nothing was restored yet, so saving would forget where the last process stopped
            raise
        self.supervisor.watch(self._health)
        for item in self.watched:
            self.supervisor.watch(item.driver)
            self.supervisor.each_second(item.connection.watch.beat)
            item.driver.call(item.session.start)
        self._health.call(self._monitor.start)
        self.supervisor.each_second(self._beat)
        self.supervisor.start()

    async def stop(self) -> None:
        """Close sockets with 1000, save the state, stop listening."""
        for item in self.watched:
            item.driver.call(item.session.stop)
        self._close_drivers()
        shutdowns = (item.connection.shutdown() for item in self.watched)
        await asyncio.gather(self._save_last(), *shutdowns, *(item.poller.close() for item in self.watched))
        await self._dismantle()

    def refuse_reload(self) -> None:
        """SIGHUP asks for what this version cannot do; it must not end the process."""
        log.warning("SIGHUP: this version cannot reload; restart it to apply a changed configuration")

    def _close_drivers(self) -> None:
        self.supervisor.close()
        for driver in (self._health, *(item.driver for item in self.watched)):
            if driver is not None:
                driver.close()

    async def _dismantle(self) -> None:
        """Give everything back."""
        self._close_drivers()
        await self.client.close()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        if self._statefile is not None:
            self._statefile.close()

    # ------------------------------------------------------------------ state

    def _load_state(self) -> dict[str, ResumePoint]:
        if self.config.state_dir is None:
            log.warning("no state_dir: a restart will not resume")
            self.instance = self._own_name("")
            return {}
        self._statefile = StateFile(Path(self.config.state_dir), ResumePoint, self.clock)
        state = self._statefile.load()
        self.instance = self._own_name(state.instance)
        return dict(state.connections)

    def _own_name(self, kept: str) -> str:
        return self.config.instance or kept or f"{socket.gethostname()}-{self.entropy.getrandbits(16):04x}"

    def _points(self, now: float) -> dict[str, ResumePoint]:
        points = {item.session.name: item.session.resume_point(now) for item in self.watched}
        return {name: point for name, point in points.items() if point is not None}

    async def _save_last(self) -> None:
        if self._statefile is not None:
            await self._statefile.finish(self.instance, self._points(self.clock.monotonic()), SAVE_TIMEOUT_S)

    def _beat(self, now: float) -> None:
        """Once a second: health sees the drivers, the state file sees the sessions."""
        if self._monitor is not None:
            self._monitor.tasks(self.supervisor.tasks(now), self.supervisor.suspended(now))
        if self._statefile is not None:
            self._statefile.offer(now, self.instance, self._points(now))

    # ------------------------------------------------------------------ telling

    def notify(self, effect: Notify) -> None:
        """Performs Notify: the log, `/events`, and health looks again at once."""
        level = _LEVELS.get(effect.notice, "info")
        getattr(log, level)(str(effect.notice), **effect.fields)
        self.broadcast.publish(effect)
        if effect.notice in (Notice.DEGRADED, Notice.RECOVERED) or self._health is None or self._health_due:
            return
        self._health_due = True
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._health_due = False
        if self._health is not None and self._monitor is not None:
            self._health.call(self._monitor.look)

    def snapshot(self) -> Snapshot:
        """Everything at this moment; raw conditions are looked at afresh, so that probes and gate answer what holds now; what that look finds new is told."""
        if self._monitor is None:
            raise RuntimeError("not started")
        at = self._moment()
        now = at.now_s
        tasks, suspended = self.supervisor.tasks(now), self.supervisor.suspended(now)
        self._monitor.tasks(tasks, suspended)  # not only by its own beat: a supervisor that stopped would go unseen
        self._look()
        statefile = self._statefile
        return Snapshot(
            at=at,
            connections=tuple(item.session.snapshot() for item in self.watched),
            health=self._monitor.snapshot(now),
            sidecar=SidecarSnapshot(
                version=__version__,
                revision=REVISION,
                python_version=platform.python_version(),
                instance=self.instance,
                started=self._started,
                tasks=tasks,
                suspended=suspended,
                event_loop_lag_s=self.supervisor.lag_s(now),
                statefile_write_failures=None if statefile is None else statefile.failures,
                statefile_last_write_wall_s=None if statefile is None else statefile.last_write_wall_s,
                config_last_reload_successful=True,
                config_last_reload_success_wall_s=self._started.wall_s,
                callback_errors=0,
            ),
        )

    def _moment(self) -> Moment:
        return Moment(self.clock.monotonic(), self.clock.wall())

    # ------------------------------------------------------------------ listeners

    async def _listen(self) -> None:
        registry = build_registry(self.snapshot)
        public = public_app(self.snapshot, lambda accept, encoding, names: render(registry, accept, encoding, names))
        hosts = (str(self.config.local_listen),)
        local = local_app(self.snapshot, Controls(), self.broadcast, self._local_token(), hosts)
        for name, app, address in (("listen", public, self.config.listen), ("local_listen", local, self.config.local_listen)):
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.3)
            self._runners.append(runner)
            await runner.setup()
            site = web.TCPSite(runner, address.host, address.port)
            try:
                await site.start()
            except OSError as error:
                raise AddressInUse(name, address, error) from error
            host, port = runner.addresses[0][:2]
            self.addresses[name] = Address(str(host), int(port))
        log.info("listening", **{name: str(address) for name, address in self.addresses.items()})

    def _local_token(self) -> Callable[[], str | None] | None:
        path = self.config.local_token_file
        if path is None:
            return None

        def token() -> str | None:
            try:
                return read_secret(path).reveal()
            except SecretError:
                return None  # the listener then refuses everybody, and says so

        return token

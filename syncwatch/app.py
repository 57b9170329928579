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
import ssl
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import structlog

from syncwatch import logs, settings
from syncwatch.config import (
    Address,
    Config,
    ConfigError,
    ConfigFile,
    Fates,
    Plan,
    SecretError,
    TpsPassiveConnection,
    read_secret,
)
from syncwatch.core.effects import Notice, Notify
from syncwatch.core.monitor import HealthSettings, Monitor
from syncwatch.core.resume import ResumePoint, ServiceRecord, pressing, totals_only
from syncwatch.core.snapshot import Moment, SidecarSnapshot, Snapshot
from syncwatch.exposition import web
from syncwatch.exposition.events import Broadcast
from syncwatch.exposition.http import Controls, Flushed, Refusal, local_app, probes_app, public_app
from syncwatch.exposition.metrics import build_registry
from syncwatch.exposition.negotiation import render
from syncwatch.parts.connection import Watched
from syncwatch.parts.surroundings import NotUsable
from syncwatch.reload import Reload
from syncwatch.runtime.callbacks import Callbacks
from syncwatch.runtime.clock import SYSTEM, Clock
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.http import HttpClient
from syncwatch.runtime.statefile import StateFile
from syncwatch.runtime.statusfile import StatusFile
from syncwatch.runtime.supervisor import Supervisor
from syncwatch.version import REVISION, __version__

if TYPE_CHECKING:
    from syncwatch.config import Hook as HookBlock
    from syncwatch.config import Mirror as MirrorBlock
    from syncwatch.config import Service as ServiceBlock
    from syncwatch.config import Watcher as WatcherBlock
    from syncwatch.config.connections import Connection as ConnectionBlock
    from syncwatch.core.monitor import Watched as Patient
    from syncwatch.parts.hook import Hooked
    from syncwatch.parts.host import Offers, Told
    from syncwatch.parts.mirror import Mirrored
    from syncwatch.parts.service import Asked
    from syncwatch.parts.watcher import Observed
    from syncwatch.parts.web import WebFile
    from syncwatch.runtime.gatefile import GateFile

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
    Notice.HOOK: "warning",
    Notice.MIRROR_TROUBLE: "warning",
    Notice.NO_ECHO: "warning",
    Notice.STORAGE: "warning",
}


_SAYS_NOTHING_NEW = frozenset({Notice.DEGRADED, Notice.RECOVERED, Notice.GATE, Notice.HOOK})
"""Health need not look again for these: they are what it found, or none of its business."""


class AddressInUse(NotUsable):
    """An address cannot be listened on."""

    def __init__(self, key: str, address: Address, error: OSError) -> None:
        # Not error.strerror: asyncio writes the address into it once more.
        known = error.errno is not None and error.errno in errno.errorcode
        words = os.strerror(error.errno or 0).lower() if known else str(error)
        super().__init__(key, f"{address} cannot be listened on: {words}")


B = TypeVar("B", contravariant=True)


class Part(Protocol[B]):
    """A part that one block of the configuration describes, and that goes on as another block says."""

    def configure(self, block: B) -> None: ...


P = TypeVar("P", bound=Part)  # type: ignore[type-arg]  # of whichever block


def changed(fates: Fates, before: Mapping[str, P], blocks: Mapping[str, B], make: Callable[[B], P]) -> tuple[list[P], list[P], list[P]]:
    """The parts for `blocks` in their order, which of them are new, and which of those before have to go. Those that stay have their new settings."""
    fresh = {name: make(blocks[name]) for name in (*fates.added, *fates.replaced)}
    for name in fates.configured:
        before[name].configure(blocks[name])
    going = [before[name] for name in (*fates.removed, *fates.replaced)]
    return [fresh.get(name) or before[name] for name in blocks], list(fresh.values()), going


class Machinery:
    """Everything that watches, without a listener: what the sidecar and the library share. `stop` takes at most two seconds, unless there is
    mail to store, after what mirrors may take to flush.

    With a `file` the configuration can be loaded again. `listeners` are told every notice, in order, on the event loop's thread; they return at once and never raise.
    """

    def __init__(
        self, config: Config, clock: Clock = SYSTEM, entropy: random.Random | None = None, file: ConfigFile | None = None
    ) -> None:
        self.config = config
        self.clock = clock
        self.entropy = entropy or random.SystemRandom()
        self.client = HttpClient()
        self.supervisor = Supervisor(clock)
        self.connections: list[Watched | Told] = []
        self.asked: list[Asked] = []
        self.offered: list[Asked] = []  # those that a host names
        self._offers: Offers | None = None
        self.observed: list[Observed] = []
        self.mirrored: list[Mirrored] = []
        self.hooks: list[Hooked] = []
        self.callbacks = Callbacks()
        self.listeners: list[Callable[[Notify], None]] = [self.callbacks.offer]
        self.instance = ""
        self._statefile: StateFile[ResumePoint] | None = None
        self._records: dict[str, ServiceRecord] = {}
        self._statusfile: StatusFile | None = None
        self._run = f"{self.entropy.getrandbits(32):08x}"  # tells what this process tells from what an earlier one told
        self._told = 0
        self._started = self._moment()
        self._monitor: Monitor | None = None
        self._health: Driver | None = None
        self._health_due = False
        self._leaving: set[asyncio.Task[None]] = set()
        self.reload = None if file is None else Reload(file, lambda: self.config, self.apply, clock)
        self._web: WebFile | None = None
        self._gate_file: GateFile | None = None
        if config.gate_file is not None:
            from syncwatch.runtime.gatefile import GateFile

            self._gate_file = GateFile(config.gate_file)

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Serve, then connect.

        Raises: StateInUse, NotUsable; nothing is left running then, and the state file is as it was.
        """
        points, self._records = self._load_state()
        if self._gate_file is not None:
            self._gate_file.clear()
            self.listeners.append(self._show_gate)
        try:
            self.connections = [self._watched(item, points.get(item.name)) for item in self.config.connections]
        except NotUsable:
            await self._dismantle()
            raise
        self.asked = [self._ask(block, self._records.get(block.name)) for block in self.config.services]
        await self._find_offers()
        self.offered = [] if self._offers is None else [self._ask(block, self._records.get(block.name)) for block in self._offers.services]
        self._remark_offers()
        self.observed = [self._observe(block) for block in self.config.watchers]
        self.mirrored = [self._mirror(block) for block in self.config.mirrors]
        self._monitor = Monitor(self._health_settings(), self._patients())
        self._health = Driver("health", self._monitor, self.clock)
        self._health.on(Notify, self.notify)
        self.hooks = [self._hook(block) for block in self.config.hooks]
        for driver in (self._health, *(item.driver for item in self._parts()), *(hooked.driver for hooked in self.hooks)):
            driver.wall()  # before the first scrape can come
        try:
            await self._serve()
        except NotUsable:
            await self._dismantle()  # nothing was restored yet, so saving would forget where the last process stopped
            raise
        self.supervisor.watch(self._health)
        for hooked in self.hooks:
            self.supervisor.watch(hooked.driver)
        for item in self._parts():
            item.begin(self.supervisor)
        self._health.call(self._monitor.start)
        self.supervisor.each_second(self._beat)
        if self.reload is not None:
            self.supervisor.each_second(self.reload.beat)
            self.reload.begin()
        self.supervisor.start()

    def _watched(self, connection: ConnectionBlock, resume: ResumePoint | None) -> Watched | Told:
        """Raises: NotUsable, with the key's place in the configuration."""
        if not isinstance(connection, settings.Runnable):
            from syncwatch.parts.host import Told

            return Told(self.clock, self.notify, connection, resume)
        try:
            return Watched(self, connection, self.config.health.incident_hold_s, resume)
        except NotUsable as error:
            raise NotUsable(f"connections[{self.config.connections.index(connection)}].{error.key}", error.text) from None

    def _health_settings(self) -> HealthSettings:
        return settings.health_settings(self.config)

    # What nobody configured stays out of memory: each part is loaded where one is made.

    def _ask(self, block: ServiceBlock, record: ServiceRecord | None = None) -> Asked:
        from syncwatch.parts.service import Asked

        return Asked(self, block, record)

    def _observe(self, block: WatcherBlock) -> Observed:
        from syncwatch.parts.watcher import Observed

        return Observed(self, block)

    def _mirror(self, block: MirrorBlock) -> Mirrored:
        from syncwatch.parts.mirror import Mirrored

        return Mirrored(self, block)

    def _hook(self, block: HookBlock) -> Hooked:
        from syncwatch.parts.hook import Hooked

        return Hooked(self, block)

    @property
    def watched(self) -> list[Watched]:
        """The connections of our own."""
        return [item for item in self.connections if isinstance(item, Watched)]

    def _parts(self) -> list[Watched | Told | Observed | Mirrored | Asked]:
        """What is looked after, connections first."""
        return [*self.connections, *self.observed, *self.mirrored, *self._services()]

    def _patients(self) -> list[Patient]:
        """Whose health is watched."""
        return [
            *(item.session for item in self.connections),
            *(item.watch for item in self.observed),
            *(item.mirror for item in self.mirrored),
            *(item.service for item in self._services()),
        ]

    def _services(self) -> list[Asked]:
        """Those of the configuration, then those that a host names."""
        return [*self.asked, *self.offered]

    async def _serve(self) -> None:
        """Open what others can ask; here nothing. It comes before the first connection. Raises: NotUsable."""

    async def stop(self) -> None:
        """Flush the mirrors, close sockets with 1000, save the state, give everything back."""
        if self.mirrored:
            await self._flush_last()
        ending = () if self.reload is None else (self.reload.close(),)
        for observed in self.observed:
            observed.driver.call(observed.watch.stop)
        self._offers = None  # what is read of a registry from now on starts nothing any more
        for item in self.connections:
            item.driver.call(item.session.stop)
        self._close_drivers(listening=True)
        gone = [asyncio.create_task(item.gone()) for item in self._parts()]
        gate = () if self._gate_file is None else (self._gate_file.close(),)
        hooks = (hooked.finish() for hooked in self.hooks)
        keeping = [task for item, task in zip(self._parts(), gone, strict=True) if isinstance(item, Watched) and item.store is not None]
        await asyncio.gather(*gate, *hooks, self._save_last(keeping), self._tell_last(), self.callbacks.close(), *ending, *gone, *self._leaving)
        await self._dismantle()

    async def apply(self, config: Config, plan: Plan) -> None:
        """Perform a plan, in one turn of the loop: from its end on `config` is what runs. Then wait until what was taken away is gone.

        A connection that is re-aimed is a new session: its counters start at 0, its lifetime totals go on.
        Raises: ConfigError, and nothing is changed.
        """
        assert self._monitor is not None
        assert self._health is not None
        now, before = self.clock.monotonic(), {item.session.name: item for item in self.connections}
        connections = {item.name: item for item in config.connections}
        points = {name: before[name].session.resume_point(now) for name in plan.replaced}
        totals = {name: totals_only(point) for name, point in points.items() if point is not None}
        running, self.config = self.config, config
        try:
            fresh = {name: self._watched(connections[name], totals.get(name)) for name in (*plan.added, *plan.replaced)}
        except NotUsable as error:  # it could be used a moment ago, when the file was checked
            self.config = running
            raise ConfigError([config.source.mistake(error.key, error.text)]) from None
        if "log" in plan.others:
            logs.adjust(config.log.level, config.log.format)
        ending: list[Watched | Told | Observed | Mirrored | Asked] = [before[name] for name in (*plan.removed, *plan.replaced)]
        asked, new_asked, ending_asked = changed(
            plan.services, {item.service.name: item for item in self.asked}, {block.name: block for block in config.services}, self._ask
        )
        mirrored, new_mirrored, ending_mirrored = changed(
            plan.mirrors, {item.mirror.name: item for item in self.mirrored}, {block.name: block for block in config.mirrors}, self._mirror
        )
        observed, new_observed, ending_observed = changed(
            plan.watchers, {item.watch.name: item for item in self.observed}, {block.name: block for block in config.watchers}, self._observe
        )
        ending += [*ending_observed, *ending_mirrored, *ending_asked]
        taken = {block.name for block in config.services}
        ending += [self._farewell(item) for item in self.offered if item.service.name in taken]
        self.offered = [item for item in self.offered if item.service.name not in taken]
        for leaver in ending:
            leaver.end(self.supervisor)
        for name in plan.configured:
            self._configure(before[name], connections[name])
        beginning: list[Watched | Told | Observed | Mirrored | Asked] = [*fresh.values(), *new_observed, *new_mirrored, *new_asked]
        for beginner in beginning:
            beginner.driver.wall()
        self.connections = [fresh.get(name) or before[name] for name in connections]
        self.asked = asked
        self.observed = observed
        self.mirrored = mirrored
        self._health.call(self._monitor.configure, settings.health_settings(config), self._patients())
        for beginner in beginning:
            beginner.begin(self.supervisor)
        leaving = self._leave(ending)
        await self._find_offers()
        leaving += self._adopt()
        await asyncio.gather(*leaving)

    def _leave(self, ending: Iterable[Watched | Told | Observed | Mirrored | Asked]) -> list[asyncio.Task[None]]:
        leaving = [asyncio.create_task(leaver.gone()) for leaver in ending]
        for task in leaving:
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        return leaving

    async def _find_offers(self) -> None:
        """What hosts offer now, as far as the configuration names their registries."""
        if self._offers is None:
            if not any(isinstance(one, TpsPassiveConnection) and one.services_file for one in self.config.connections):
                return
            from syncwatch.parts.host import Offers

            self._offers = Offers(self._adopt)
            self.supervisor.each_second(self._offers.beat)
        await self._offers.configure(self.config)

    def _adopt(self) -> list[asyncio.Task[None]]:
        """Ask for what the hosts offer now, and for nothing else of theirs; who stays keeps counts and history."""
        if self._offers is None or self._monitor is None or self._health is None:
            return []
        before, blocks = {(item.service.name, item.service.settings.url): item for item in self.offered}, self._offers.services
        wanted = {(block.name, block.url): block for block in blocks}
        fresh = {key: self._ask(block, self._records.get(block.name)) for key, block in wanted.items() if key not in before}
        ending = [item for key, item in before.items() if key not in wanted]
        for leaver in ending:
            self._farewell(leaver).end(self.supervisor)
        self.offered = [fresh.get(key) or before[key] for key in wanted]
        for beginner in fresh.values():
            beginner.driver.wall()
        if fresh or ending:
            self._health.call(self._monitor.configure, settings.health_settings(self.config), self._patients())
            log.info("the services that a host offers", asked=[item.service.name for item in self.offered])
        for beginner in fresh.values():
            beginner.begin(self.supervisor)
        self._remark_offers()
        return self._leave(ending)

    def _farewell(self, leaver: Asked) -> Asked:
        """Remember what it has found: a registry that is written anew may be empty for a moment."""
        record = leaver.service.record()
        if record is not None:
            self._records[leaver.service.name] = record
        return leaver

    def _remark_offers(self) -> None:
        """What is odd about a registry is told beside the host's connection."""
        for item in self.connections:
            if self._offers is not None and not isinstance(item, Watched):
                item.driver.call(item.session.remark, self._offers.remarks(item.services_file))

    def _configure(self, item: Watched | Told, connection: ConnectionBlock) -> None:
        """Go on as `connection` says, which is of the same kind."""
        if isinstance(connection, settings.Runnable):
            assert isinstance(item, Watched)
            item.configure(connection, self.config.health.incident_hold_s)
        else:
            assert not isinstance(item, Watched)
            item.configure(connection)

    async def flush(self, timeout_s: float | None = None, name: str | None = None) -> Flushed | None:
        """Every mirror (or the one of this name) compares everything until nothing differs, for so long; None: each for as long as its configuration says.

        Returns None when there is none.
        """
        chosen = [item for item in self.mirrored if name is None or item.mirror.name == name]
        if not chosen:
            return None
        waits = ((item, item.flush_timeout_s if timeout_s is None else timeout_s) for item in chosen)
        ended = await asyncio.gather(*(item.work.flush(wait_s) for item, wait_s in waits))
        return Flushed(all(one.complete for one in ended), sum(one.files for one in ended), sum(one.pending for one in ended))

    async def _flush_last(self) -> None:
        """What was written before the end is still brought over."""
        flushed = await self.flush()
        if flushed is not None:
            say = log.info if flushed.complete else log.warning
            say("mirrors were flushed before the end", complete=flushed.complete, files=flushed.files, pending=flushed.pending)
        for item in self.mirrored:
            item.end(self.supervisor)

    def _close_drivers(self, listening: bool = False) -> None:
        """`listening`: but for those that have to hear what was on its way; they close when that is over."""
        self.supervisor.close()
        for driver in (self._health, *(item.driver for item in self._parts() if not (listening and isinstance(item, Watched) and item.store))):
            if driver is not None:
                driver.close()

    async def _dismantle(self) -> None:
        """Give everything back."""
        self._close_drivers()
        for hooked in self.hooks:
            hooked.driver.close()
        await self.client.close()
        if self._statefile is not None:
            self._statefile.close()

    # ------------------------------------------------------------------ state

    def _load_state(self) -> tuple[dict[str, ResumePoint], dict[str, ServiceRecord]]:
        if self.config.state_dir is None:
            log.info("no state_dir: a restart will not resume")
            self.instance = self._own_name("")
            return {}, {}
        self._statefile = StateFile(Path(self.config.state_dir), ResumePoint, self.clock)
        self._statusfile = StatusFile(self._statefile.directory, self.clock)
        state = self._statefile.load()
        self.instance = self._own_name(state.instance)
        return dict(state.connections), dict(state.services)

    def _own_name(self, kept: str) -> str:
        return self.config.instance or kept or f"{socket.gethostname()}-{self.entropy.getrandbits(16):04x}"

    def _points(self, now: float) -> dict[str, ResumePoint]:
        points = {item.session.name: item.session.resume_point(now) for item in self.connections}
        return {name: point for name, point in points.items() if point is not None}

    def _service_records(self) -> dict[str, ServiceRecord]:
        """Of the services that are asked now: what nobody asks for any more is forgotten."""
        records = {item.service.name: item.service.record() for item in self._services()}
        return {name: record for name, record in records.items() if record is not None}

    async def _save_last(self, keeping: list[asyncio.Task[None]]) -> None:
        """When what came last is safe, so that the file knows it."""
        if keeping:
            await asyncio.wait(keeping)
        if self._statefile is not None:
            await self._statefile.finish(self.instance, self._points(self.clock.monotonic()), SAVE_TIMEOUT_S, self._service_records())

    async def _tell_last(self) -> None:
        if self._statusfile is not None:
            await self._statusfile.finish(self._status(), SAVE_TIMEOUT_S)

    def _status(self) -> bytes:
        """What /status says now. It is made on the loop's own thread: that takes a tenth of a millisecond, and another thread's memory would cost 0.7 MiB for good."""
        from syncwatch.exposition import status

        return msgspec.json.encode(status.build(self.snapshot()))

    def _beat(self, now: float) -> None:
        """Once a second: health sees the drivers, the state file sees the sessions."""
        if self._health is not None and self._monitor is not None:
            self._monitor.tasks(self.supervisor.tasks(now), self.supervisor.suspended(now))
            self._health.call(self._monitor.look)
        if self._gate_file is not None:
            if self._health is not None and self._health.wedged(now):
                self._gate_file.show(False)  # nobody looks any more
            self._gate_file.retry()
        if self._statefile is not None:
            written = self._statefile.written
            late = any(pressing(item.session.ledger, written.get(item.session.name)) for item in self.watched)
            if self._statefile.due(now, late):
                self._statefile.offer(now, self.instance, self._points(now), self._service_records())
        if self._statusfile is not None and self._statusfile.due(now):
            self._statusfile.offer(now, self._status())

    # ------------------------------------------------------------------ telling

    def _show_gate(self, effect: Notify) -> None:
        if self._gate_file is not None and effect.notice is Notice.GATE and effect.fields["purpose"] == "read":
            self._gate_file.show(bool(effect.fields["open"]))

    def notify(self, effect: Notify) -> None:
        """Performs Notify: the log, the listeners, the hooks, and health looks again at once."""
        level = _LEVELS.get(effect.notice, "info")
        getattr(log, level)(str(effect.notice), **effect.fields)
        self._told += 1
        if self._statusfile is not None:
            self._statusfile.news()
        event_id = f"{self._run}-{self._told}"
        for listener in self.listeners:
            listener(effect)
        for hooked in self.hooks:
            hooked.driver.call(hooked.hook.offer, event_id, self.instance, effect)
        if effect.notice in _SAYS_NOTHING_NEW or self._health is None or self._health_due:
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
        trees = [*(item.work for item in self.observed), *(root for item in self.mirrored for root in item.roots)]
        return Snapshot(
            at=at,
            connections=tuple(item.session.snapshot() for item in self.connections),
            health=self._monitor.snapshot(now),
            hooks=tuple(hooked.hook.snapshot() for hooked in self.hooks),
            services=tuple(item.service.snapshot() for item in self._services()),
            watchers=tuple(item.watch.snapshot() for item in self.observed),
            mirrors=tuple(item.mirror.snapshot() for item in self.mirrored),
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
                config_last_reload_successful=(self.reload is None or self.reload.successful) and not self._web_errors,
                config_last_reload_success_wall_s=self._success_wall_s,
                config_errors=tuple(dict.fromkeys((*(() if self.reload is None else self.reload.errors), *self._web_errors))),
                callback_errors=self.callbacks.errors,
                gate_file_failures=None if self._gate_file is None else self._gate_file.failures,
                inotify_watches=sum(one.inotify_watches for one in trees) if trees else None,
                inotify_instances=sum(one.inotify_instances for one in trees) if trees else None,
            ),
        )

    @property
    def _web_errors(self) -> tuple[str, ...]:
        """Why the file of `web_config` as it stands is not in force."""
        return () if self._web is None else self._web.errors

    @property
    def _success_wall_s(self) -> float | None:
        loaded_s = self._started.wall_s if self.reload is None else self.reload.success_wall_s
        return loaded_s if self._web is None or loaded_s is None else max(loaded_s, self._web.success_wall_s)

    def _moment(self) -> Moment:
        return Moment(self.clock.monotonic(), self.clock.wall())


class App(Machinery):
    """A sidecar: the machinery with its listeners. `start` returns when it listens."""

    def __init__(
        self, config: Config, clock: Clock = SYSTEM, entropy: random.Random | None = None, file: ConfigFile | None = None
    ) -> None:
        super().__init__(config, clock, entropy, file)
        self.broadcast = Broadcast(run=self._run)  # an event has the same id on /events and in a hook
        self.listeners.append(self.broadcast.publish)
        self.addresses: dict[str, Address] = {}
        self._runners: list[web.AppRunner] = []

    async def _dismantle(self) -> None:
        self._close_drivers()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        await super()._dismantle()

    async def _serve(self) -> None:
        registry = build_registry(self.snapshot)
        web_file, refusal = await self._protection()
        headers, tls = (None, None) if web_file is None else (lambda: web_file.headers, web_file.context)
        public = public_app(self.snapshot, lambda accept, encoding, names: render(registry, accept, encoding, names), refusal, headers)
        hosts = (str(self.config.local_listen),)
        controls = Controls(reload=None if self.reload is None else self.reload.now, flush=self.flush)
        local = local_app(self.snapshot, controls, self.broadcast, self._local_token(), hosts)
        await self._open("listen", public, self.config.listen, tls)
        await self._open("local_listen", local, self.config.local_listen)
        if self.config.probes_listen is not None:
            await self._open("probes_listen", probes_app(self.snapshot), self.config.probes_listen)
        log.info("listening", **{name: str(address) for name, address in self.addresses.items()})

    async def _open(self, name: str, app: web.Application, address: Address, tls: ssl.SSLContext | None = None) -> None:
        """Listen. Raises: AddressInUse."""
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.3)
        self._runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, address.host, address.port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            raise AddressInUse(name, address, error) from error
        host, port = runner.addresses[0][:2]
        self.addresses[name] = Address(str(host), int(port))

    async def _protection(self) -> tuple[WebFile | None, Refusal | None]:
        """What `web_config` asks of those who come to `listen`. Raises: NotUsable."""
        if self.config.web_config is None:
            return None, None
        from syncwatch.exposition.credentials import BasicAuth
        from syncwatch.parts.web import WebFile

        web_file = WebFile(self.config.web_config, self.clock)
        await web_file.begin()
        if web_file.wants_certificates and self.config.probes_listen is None:
            log.warning("listen answers no probe without a client certificate, which the kubelet has not: probes_listen would")
        self._web = web_file
        self.supervisor.each_second(web_file.beat)
        return web_file, BasicAuth(lambda: web_file.users, web_file.compare).refusal

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

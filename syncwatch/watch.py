"""The library: the sidecar's machinery inside any asyncio program, without a listener.

What belongs here: what a user of the library calls. What is watched, decided and counted is the same as in the sidecar.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from syncwatch import logs
from syncwatch.app import Machinery
from syncwatch.config import Config, ConfigError, load, parse_values, unreadable_files, unsupported
from syncwatch.core.effects import Notice, Notify
from syncwatch.exposition import healthstatus
from syncwatch.exposition.healthstatus import HealthStatus
from syncwatch.exposition.http import Flushed

NAME = "Watch"
"""Stands in a ConfigError where a file's name would."""
SIDECAR_ONLY = ("listen", "probes_listen", "local_listen", "local_token_file", "web_config", "auto_reload", "log")
"""Keys about what only the sidecar has. In a file, which a sidecar may share, they are read and have no effect here."""

F = TypeVar("F", bound=Callable[..., object])


class Watch:
    """Watches connections from inside a program; `async with` starts and stops it, once.

    `config` is the configuration of the sidecar: the path of a file, or its keys and values (`{"connections": [{…}]}`). Everything is checked as strictly
    as there. Raises: ConfigError with every mistake.

    Callbacks are registered before or after the start, with `@watch.on_degraded` or `watch.on_degraded(function)`. They may be coroutine
    functions. A callback takes those of the listed values that it wants, by name, and `at` (when, aware, UTC). Each registered callback
    is called in the order of what happened, from a task of its own: a slow coroutine delays nobody. What it raises is logged and counted.
    """

    def __init__(self, config: Mapping[str, object] | str | Path) -> None:
        self._machinery = Machinery(_checked(config))
        self._machinery.listeners.append(self._heard)
        self._state = "not started"
        self._news = asyncio.Event()

    @classmethod
    def connection(cls, *, protocol: str, **keys: object) -> Self:
        """Watch one connection; `keys` are those of its block in the configuration. Without a `name` it is called like its protocol.

        Raises: ConfigError with every mistake.
        """
        return cls({"connections": [{"name": protocol, "protocol": protocol, **keys}]})

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Begin to watch; returns before anything is connected (see `synced`).

        Raises: StateInUse when another process uses the state directory; RuntimeError when it was started before.
        """
        if self._state != "not started":
            raise RuntimeError(f"a Watch is started once; this one is {self._state}")
        logs.leave_to_program()
        await self._machinery.start()
        self._state = "running"

    async def stop(self) -> None:
        """Flush the mirrors (each for at most its `flush_timeout`), then close the connections in good order and save the state, within two seconds (ten more where mail waits for a slow disk). A second call changes nothing."""
        if self._state == "running":
            self._state = "stopped"
            self._news.set()
            await self._machinery.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def synced(self) -> None:
        """Wait until every connection has been caught up once. Without `asyncio.timeout` it waits for as long as that takes.

        Raises: RuntimeError when it is not running, or stops meanwhile.
        """
        while not all(one.settled_once for one in self._running().snapshot().connections):
            self._news.clear()
            await self._news.wait()

    # ------------------------------------------------------------------ asking

    def get_health_status(self, connection: str | None = None) -> HealthStatus:
        """How it is at this moment, from raw conditions: nothing is awaited, nothing damped.

        Without a name it is about everything, and in detail about the connection that is worst off.
        Raises: RuntimeError when it is not running; KeyError for a name that is not configured.
        """
        return healthstatus.build(self._running().snapshot(), connection)

    @property
    def callback_errors(self) -> int:
        """What callbacks have raised so far."""
        return self._machinery.callbacks.errors

    def _running(self) -> Machinery:
        if self._state != "running":
            raise RuntimeError(f"the Watch is {self._state}")
        return self._machinery

    def _heard(self, _notify: Notify) -> None:
        self._news.set()

    def mirror(self, name: str) -> Mirror:
        """The mirror of that name. Raises: RuntimeError when it is not running; KeyError for a name that is not configured."""
        if name not in {one.mirror.name for one in self._running().mirrored}:
            raise KeyError(name)
        return Mirror(self._running, name)

    # ------------------------------------------------------------------ being told

    def on_degraded(self, callback: F) -> F:
        """Something is wrong, or its reasons changed: `component`, `name`, `reason` (the gravest), `reasons`, `advice`. Damped by `health.degraded_after`."""
        return self._on(Notice.DEGRADED, callback)

    def on_recovered(self, callback: F) -> F:
        """All is well again: `component`, `name`, `after_s`. Damped by `health.recovered_after`."""
        return self._on(Notice.RECOVERED, callback)

    def on_resynced(self, callback: F) -> F:
        """A replay has ended: `connection`, `replayed`, `gap_detected`, `verdict`, `recovered`, `lost`, `unaccounted`, `claim`, `cursor`, `epoch`."""
        return self._on(Notice.RESYNCED, callback)

    def on_gap(self, callback: F) -> F:
        """`missing` numbers between `first` and `last` did not come when they should: `connection`, `cause` (live: on the open connection, asked for again;
        reconnect: found by a replay), `first`, `last`, `missing`. Each number is told once."""
        return self._on(Notice.GAP, callback)

    def _on(self, notice: Notice, callback: F) -> F:
        self._machinery.callbacks.add(notice, callback)
        return callback


class Mirror:
    """One mirror of a Watch that runs."""

    def __init__(self, running: Callable[[], Machinery], name: str) -> None:
        self.name = name
        self._running = running

    async def flush(self, timeout_s: float | None = None) -> Flushed:
        """Bring every write that was finished before this call to the other side; in mode observe, wait until both trees agree.

        Without a timeout it may take the `flush_timeout` of the configuration. `complete` says whether nothing was left, `files` how many were moved since the call, `pending` how
        many paths still differ. Raises: RuntimeError when the Watch does not run any more; KeyError when the mirror was taken out of it.
        """
        flushed = await self._running().flush(timeout_s, self.name)
        if flushed is None:
            raise KeyError(self.name)
        return flushed

    def watchers_healthy(self) -> bool:
        """Whether a change on either side would be noticed now. Raises: as `flush`."""
        for one in self._running().mirrored:
            if one.mirror.name == self.name:
                return one.mirror.watchers_healthy
        raise KeyError(self.name)


def _checked(given: Mapping[str, object] | str | Path) -> Config:
    if isinstance(given, Mapping):
        config = parse_values(given, NAME, os.environ)
        mistakes = [config.source.mistake(key, "a Watch has none; leave it out") for key in SIDECAR_ONLY if key in given]
    else:
        config, mistakes = load(given, os.environ), []
    mistakes += [*unsupported(config), *unreadable_files(config)]
    if mistakes:
        raise ConfigError(mistakes)
    return config

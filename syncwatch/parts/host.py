"""What is read of a host on this machine: its connection to a branch, and the services that it offers. Loaded only where that is configured.

What belongs here: wiring, as in the app, which uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import structlog

from syncwatch import settings
from syncwatch.config import Config, TpsPassiveConnection
from syncwatch.config import Service as ServiceBlock
from syncwatch.core.effects import Notify
from syncwatch.core.reported import Reported
from syncwatch.core.resume import ResumePoint
from syncwatch.protocols.tps import hostfile
from syncwatch.runtime.clock import Clock
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.reportfile import Odd, ReportFile, read
from syncwatch.runtime.supervisor import Supervisor
from syncwatch.runtime.threads import in_thread

LOOK_S = 5.0
"""So often is a registry read: it changes when somebody offers another service."""
FIRST_READING_S = 1.0

log = structlog.get_logger("syncwatch")


class Told:
    """One connection that a host has and tells of in a file, with everything that reads it."""

    store = None
    """Nothing comes on it that would have to be kept."""

    def __init__(self, clock: Clock, notify: Callable[[Notify], None], connection: TpsPassiveConnection, resume: ResumePoint | None) -> None:
        path = connection.state_path / f"{connection.branch}.json"
        self.session = Reported(connection.name, hostfile.Passive(), str(path), settings.reported_settings(connection), resume)
        self.driver = Driver(f"connection/{connection.name}", self.session, clock)
        self.driver.on(Notify, notify)
        self.services_file = connection.services_file
        self.file = ReportFile(self.driver, self.session, path, partial(hostfile.picture, branch=connection.branch))

    def configure(self, connection: TpsPassiveConnection) -> None:
        """Go on as `connection` says."""
        self.services_file = connection.services_file
        self.driver.call(self.session.configure, settings.reported_settings(connection))

    def begin(self, supervisor: Supervisor) -> None:
        """Be looked after, and read."""
        supervisor.watch(self.driver)
        supervisor.each_second(self.file.beat)
        self.driver.call(self.session.start)
        self.file.beat(self.driver.clock.monotonic())

    def end(self, supervisor: Supervisor) -> None:
        """Read no more; nobody looks after it any more."""
        self.driver.call(self.session.stop)
        self.driver.close()
        supervisor.unwatch(self.driver)
        supervisor.not_each_second(self.file.beat)

    async def gone(self) -> None:
        """At once: what is being read is not waited for."""


class Offers:
    """What the registries of hosts name: read now and then, and told when it is something else than before."""

    def __init__(self, changed: Callable[[], object]) -> None:
        self.services: tuple[ServiceBlock, ...] = ()
        self._changed = changed
        self._taken: frozenset[str] = frozenset()
        self._paths: tuple[Path, ...] = ()
        self._known: dict[Path, hostfile.Registry] = {}
        self._troubles: dict[Path, str] = {}
        self._reading: asyncio.Future[dict[Path, hostfile.Registry | str]] | None = None
        self._looked_s = -math.inf

    async def configure(self, config: Config, timeout_s: float = FIRST_READING_S) -> None:
        """The registries that `config` names are read now; one that cannot be read in time is read later."""
        self._paths, self._taken = registries(config), frozenset(block.name for block in config.services)
        self._known = {path: known for path, known in self._known.items() if path in self._paths}
        with contextlib.suppress(TimeoutError):
            self._take(await asyncio.wait_for(in_thread(partial(_read, self._paths), "registry"), timeout_s))
        self._gather()

    def beat(self, now: float) -> None:
        """Read again, every few seconds."""
        if self._reading is None and self._paths and now >= self._looked_s + LOOK_S:
            self._looked_s = now
            self._reading = reading = in_thread(partial(_read, self._paths), "registry")
            reading.add_done_callback(self._was_read)

    def remarks(self, path: Path | None) -> tuple[str, ...]:
        """What is odd about one of them, in sentences."""
        if path is None:
            return ()
        trouble = (f"{path} {self._troubles[path]}",) if path in self._troubles else ()
        return (*trouble, *(self._known[path].remarks if path in self._known else ()))

    def _was_read(self, reading: asyncio.Future[dict[Path, hostfile.Registry | str]]) -> None:
        self._reading = None
        before, remarks = self.services, self._all_remarks()
        self._take(reading.result())
        self._gather()
        if (before, remarks) != (self.services, self._all_remarks()):
            self._changed()

    def _all_remarks(self) -> tuple[str, ...]:
        return tuple(remark for path in self._paths for remark in self.remarks(path))

    def _take(self, found: Mapping[Path, hostfile.Registry | str]) -> None:
        """A registry that cannot be understood now is what it was."""
        for path, said_now in found.items():
            if path not in self._paths:
                continue
            said = self._all_remarks()
            if isinstance(said_now, str):
                self._troubles[path] = said_now
            else:
                self._troubles.pop(path, None)
                self._known[path] = said_now
            for remark in self._all_remarks():
                if remark not in said:
                    log.info("a registry of services", path=str(path), detail=remark)

    def _gather(self) -> None:
        """A name stands for one service: that of the configuration, else that of the first registry."""
        taken = set(self._taken)
        blocks: list[ServiceBlock] = []
        for path in self._paths:
            for one in self._known[path].services if path in self._known else ():
                if one.name not in taken:
                    taken.add(one.name)
                    blocks.append(ServiceBlock(name=one.name, url=one.url))
        self.services = tuple(blocks[: hostfile.MOST_SERVICES])


def registries(config: Config) -> tuple[Path, ...]:
    """Every registry that is named, once."""
    named = (one.services_file for one in config.connections if isinstance(one, TpsPassiveConnection))
    return tuple(dict.fromkeys(path for path in named if path is not None))


def _read(paths: tuple[Path, ...]) -> dict[Path, hostfile.Registry | str]:
    """Blocks. No registry is a registry of nothing."""
    found: dict[Path, hostfile.Registry | str] = {}
    for path in paths:
        try:
            found[path] = hostfile.registry(read(path)[0])
        except FileNotFoundError:
            found[path] = hostfile.Registry()
        except Odd as error:
            found[path] = error.strerror or str(error)
        except OSError as error:
            found[path] = f"cannot be read: {(error.strerror or str(error)).lower()}"
    return found

"""A watcher: its proof of life and the subscription to a tree."""

from __future__ import annotations

import structlog

from syncwatch import settings
from syncwatch.config import Watcher as WatcherBlock
from syncwatch.core.effects import Notify
from syncwatch.core.ignores import Ignores
from syncwatch.core.watch import Watch
from syncwatch.parts.surroundings import Surroundings
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.supervisor import Supervisor
from syncwatch.runtime.watcher import Watcher

log = structlog.get_logger("syncwatch")


class Observed:
    """One watcher with everything that serves it."""

    def __init__(self, around: Surroundings, block: WatcherBlock) -> None:
        self.watch = Watch(block.name, settings.watch_settings(block), str(block.path))
        self.driver = Driver(f"watcher/{block.name}", self.watch, around.clock)
        self.work = Watcher(self.driver, self.watch, block.path, Ignores(block.ignore), around.instance)
        self.driver.on(Notify, around.notify)
        self._acts = False
        self._say_what_acts(block)

    def configure(self, block: WatcherBlock) -> None:
        """Another sentinel for the same tree, or none."""
        self._say_what_acts(block)
        self.work.configure(settings.watch_settings(block))

    def begin(self, supervisor: Supervisor) -> None:
        """Be looked after, and watch."""
        supervisor.watch(self.driver)
        self.driver.call(self.watch.start)

    def end(self, supervisor: Supervisor) -> None:
        """Watch no more; nobody looks after it any more."""
        self.driver.call(self.watch.stop)
        self.driver.close()
        supervisor.unwatch(self.driver)

    async def gone(self) -> None:
        """When everything is given back, and the sentinel is away."""
        await self.work.gone()

    def _say_what_acts(self, block: WatcherBlock) -> None:
        if block.sentinel is not None and not self._acts:
            log.info("a sentinel is switched on: it writes", watcher=block.name, target=f"{block.path}/.syncwatch/{self.work.sentinel_name}")
        self._acts = block.sentinel is not None

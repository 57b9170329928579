"""A mirror: the comparison of two trees, and the watch of each."""

from __future__ import annotations

import asyncio

import structlog

from syncwatch import settings
from syncwatch.config import Mirror as MirrorBlock
from syncwatch.core.effects import Notify
from syncwatch.core.ignores import Ignores
from syncwatch.core.mirror import Mirror
from syncwatch.core.mirror_rules import Side
from syncwatch.core.watch import Watch, WatchSettings
from syncwatch.parts.surroundings import Surroundings
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.mirroring import Pair
from syncwatch.runtime.mirrors import Ear, Mirroring
from syncwatch.runtime.supervisor import Supervisor
from syncwatch.runtime.watcher import Watcher

log = structlog.get_logger("syncwatch")


class Mirrored:
    """One mirror with everything that serves it."""

    def __init__(self, around: Surroundings, block: MirrorBlock) -> None:
        self.mirror = Mirror(block.name, settings.mirror_settings(block))
        self.flush_timeout_s = block.flush_timeout_s
        self.driver = Driver(f"mirror/{block.name}", self.mirror, around.clock)
        self.work = Mirroring(self.driver, self.mirror, Pair(settings.pair_settings(block), around.clock))
        self.driver.on(Notify, around.notify)
        self.roots = [self._watch(around, block, side) for side in Side]
        if block.mode == "sync":
            log.info("a mirror is in mode sync: it copies and deletes", mirror=block.name, mount=str(block.mount), project=str(block.project))

    def _watch(self, around: Surroundings, block: MirrorBlock, side: Side) -> Watcher:
        """The watch of one root. Who observes writes nothing, not even a sentinel."""
        root = block.mount if side == "mount" else block.project
        sentinel = WatchSettings() if block.mode == "sync" else WatchSettings(interval_s=None)
        watch = Watch(f"{block.name}/{side}", sentinel, str(root))
        driver = Driver(f"mirror/{block.name}/{side}", watch, around.clock)
        driver.on(Notify, around.notify)
        watcher = Watcher(driver, watch, root, Ignores(block.ignore), f"{around.instance}-{block.name}")
        watcher.listen(Ear(self.driver, self.mirror, side))
        return watcher

    def configure(self, block: MirrorBlock) -> None:
        """Other times for the same trees and rules."""
        self.flush_timeout_s = block.flush_timeout_s
        self.work.pair.configure(block.reconcile.degraded_s)
        self.driver.call(self.mirror.configure, settings.mirror_settings(block))

    def begin(self, supervisor: Supervisor) -> None:
        """Be looked after, watch both roots, and compare."""
        supervisor.watch(self.driver)
        supervisor.each_second(self.beat)
        for root in self.roots:
            root.driver.wall()
            supervisor.watch(root.driver)
            root.driver.call(root.watch.start)
        self.driver.call(self.mirror.start)

    def end(self, supervisor: Supervisor) -> None:
        """Compare no more; nobody looks after it any more."""
        self.driver.call(self.mirror.stop)
        self.work.close()
        self.driver.close()
        supervisor.unwatch(self.driver)
        supervisor.not_each_second(self.beat)
        for root in self.roots:
            root.driver.call(root.watch.stop)
            root.driver.close()
            supervisor.unwatch(root.driver)

    def beat(self, now: float) -> None:
        """Once a second: how far a comparison is, and how the watches are, whatever changed that."""
        self.work.beat(now)
        for root in self.roots:
            root.tell()

    async def gone(self) -> None:
        """When nothing is written any more, and nothing is watched."""
        await asyncio.gather(self.work.gone(), *(root.gone() for root in self.roots))

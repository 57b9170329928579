"""A watcher on real files, with short intervals, and everything that it says written down."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from syncwatch.core.effects import Notify
from syncwatch.core.health import Reason
from syncwatch.core.ignores import Ignores
from syncwatch.core.states import FileChange
from syncwatch.core.watch import Watch, WatchSettings
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.inotify import Batch
from syncwatch.runtime.watcher import Make, Watcher, make_worker

PATIENCE_S = 15.0
FAST = WatchSettings(interval_s=0.3, timeout_s=2.0, poll_s=0.1, check_s=0.2, retry_min_s=0.01, retry_max_s=0.05, blind_retry_s=0.3)
"""Found soon; a sentinel may take its time all the same, since a loaded machine runs these tests."""
NAME = "tester"


class Watched:
    """A watcher that runs, and what it told."""

    def __init__(self, root: Path, settings: WatchSettings, ignore: Iterable[str], make: Make) -> None:
        self.root = root
        self.watch = Watch("project", settings, str(root))
        self.driver = Driver("watcher/project", self.watch)
        self.watcher = Watcher(self.driver, self.watch, root, Ignores(ignore), NAME, make)
        self.notices: list[tuple[object, object]] = []
        self.changes: list[tuple[str, FileChange]] = []
        self.rescans = 0
        self.troubles: list[Reason | None] = []
        self.driver.on(Notify, lambda effect: self.notices.append((effect.fields["result"], effect.fields["reason"])))
        self.leave = self.watcher.listen(self)

    def changed(self, batch: Batch) -> None:
        self.changes += batch.items()

    def rescan(self, why: str) -> None:
        self.rescans += 1

    def watching(self, trouble: Reason | None) -> None:
        self.troubles.append(trouble)

    @property
    def paths(self) -> set[str]:
        """Whatever was said to have changed."""
        return {path for path, _ in self.changes}

    @property
    def restarts(self) -> dict[str, int]:
        return {str(trouble): count for trouble, count in self.watch.restarts.items() if count}

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait for `condition`, not for a moment."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"{what}: {self.watch.snapshot()} {self.notices} {self.changes[-20:]}"
            await asyncio.sleep(0.002)

    async def up(self) -> None:
        await self.until(lambda: self.watch.up, "never up")

    async def healed(self, trouble: str, count: int = 1) -> None:
        """The cure of this trouble began, and the watch is alive again."""
        await self.until(lambda: self.restarts.get(trouble) == count and self.watch.up, trouble)

    async def notices_changes(self, name: str = "afterwards") -> None:
        """A file that is written now is reported."""
        (self.root / name).write_text("x")
        await self.until(lambda: name in self.paths, "a change went unnoticed")


@asynccontextmanager
async def watching(
    root: Path, settings: WatchSettings = FAST, ignore: Iterable[str] = (), make: Make = make_worker, wait: bool = True
) -> AsyncIterator[Watched]:
    """Watch `root` until the end of the block; whatever was held is given back then."""
    watched = Watched(root, settings, ignore, make)
    watched.driver.wall()
    watched.driver.call(watched.watch.start)
    try:
        if wait:
            await watched.up()
        yield watched
    finally:
        watched.driver.call(watched.watch.stop)
        watched.driver.close()
        await watched.watcher.gone()
    assert (0, 0) == (watched.watcher.inotify_watches, watched.watcher.inotify_instances)


def held() -> tuple[int, int]:
    """Inotify instances and watches of this process, as the kernel counts them."""
    instances = watches = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:inotify":
                instances += 1
                watches += Path(f"/proc/self/fdinfo/{fd}").read_text().count("inotify wd:")
        except OSError:
            continue
    return instances, watches

"""Loading the configuration again: when it is asked for, when its file says something else, one at a time, and all or nothing.

What belongs here: when to read, whether what was read is applied, and how that went. What a change means is decided by `config.change`; performing it is the
app's. The file is read in a thread: a mount that hangs delays nothing but the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from syncwatch.config import Config, ConfigError, ConfigFile, Plan, plan
from syncwatch.runtime.clock import SYSTEM, Clock
from syncwatch.runtime.threads import in_thread

READ_TIMEOUT_S = 10.0
"""Whoever waits for an answer waits this long for the file."""

STOPPING = "syncwatch is stopping: nothing was changed"
INTERNAL = "an internal error, which the log describes: nothing was changed"
BROKEN = "an internal error, which the log describes: restart syncwatch"

log = structlog.get_logger("syncwatch")


class Read(msgspec.Struct, frozen=True):
    """What a thread brought: nothing new, mistakes (a line each), or a configuration and the text that says it."""

    text: str | None = None
    config: Config | None = None
    errors: tuple[str, ...] = ()


class Reload:
    """Give `beat` to the supervisor's seconds and call `begin` when the app runs; what is asked for before waits.

    `successful`, `success_wall_s` and `errors` tell about the last one; the start counts as a success.
    """

    REFUSED = "the configuration was not reloaded, what ran before goes on"

    def __init__(
        self, file: ConfigFile, running: Callable[[], Config], perform: Callable[[Config, Plan], Awaitable[None]], clock: Clock = SYSTEM
    ) -> None:
        """`perform` raises ConfigError when something cannot be had after all, and has changed nothing then."""
        self.successful = True
        self.success_wall_s: float | None = clock.wall()
        self.errors: tuple[str, ...] = ()
        self._file = file
        self._running = running
        self._perform = perform
        self._clock = clock
        self._looked_s = clock.monotonic()
        self._text: str | None = None  # the last one that was found to say what runs
        self._began = asyncio.Event()
        self._closing = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[Sequence[str]] | None = None  # asked for and not begun
        self._tasks: set[asyncio.Task[Sequence[str]]] = set()
        self._reading: asyncio.Future[Read] | None = None
        self._performing = False

    def begin(self) -> None:
        """The app runs."""
        self._began.set()

    async def close(self) -> None:
        """The app stops: nothing is begun any more, and whoever waits is told so."""
        self._closing.set()
        self._began.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=0.5)

    async def now(self) -> Sequence[str]:
        """Load the file and apply it; returns why not, one line each. Who asks before the next one has begun shares it."""
        return await asyncio.shield(self._asked())

    def hangup(self) -> None:
        """SIGHUP."""
        self._asked()

    def beat(self, now: float) -> None:
        """Look at the file when it is time, unless one is at work anyway."""
        interval_s = self._running().auto_reload_s
        if interval_s and now >= self._looked_s + interval_s and not self._tasks:
            self._looked_s = now
            self._go(only_news=True)

    def _asked(self) -> asyncio.Task[Sequence[str]]:
        if self._next is None:
            self._next = self._go(only_news=False)
        return self._next

    def _go(self, *, only_news: bool) -> asyncio.Task[Sequence[str]]:
        task = asyncio.create_task(self._queued(only_news))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Sequence[str]]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # our own bug
            self.successful, self.errors = False, (f"{self._file.path}: {BROKEN if self._performing else INTERNAL}",)
            log.error("internal error while the configuration was applied", exc_info=error)

    async def _queued(self, only_news: bool) -> Sequence[str]:
        async with self._one_at_a_time:
            await self._began.wait()
            if not only_news:
                self._next = None  # what the file says from here on is not ours to promise
            return await self._reload(only_news)

    async def _reload(self, only_news: bool) -> Sequence[str]:
        """`only_news`: the regular look; a file that says what it said, and that was applied, is not even parsed."""
        if self._closing.is_set():
            return (STOPPING,)
        if self._performing:  # the last one broke in the middle of the work: what runs is neither the one nor the other
            return self.errors
        known = self._text if only_news and self.successful else None
        read = await self._read(lambda: self._load(known, only_news))
        if self._closing.is_set():
            return (STOPPING,)
        if read.config is None:
            return self._refused(read.errors, only_news) if read.errors else ()
        running, config = self._running(), read.config
        what = self._plan(running, config)
        if what.refusals:
            return self._refused(tuple(map(str, what.refusals)), only_news)
        first_look = only_news and self._text is None and self.successful
        self._text = read.text
        if first_look and config == running:
            return ()  # what the start has read
        self._performing = True
        try:
            await self._perform(config, what)
        except ConfigError as error:
            self._performing = False
            return self._refused(tuple(str(error).splitlines()), only_news)
        self._performing = False
        self.successful, self.errors, self.success_wall_s = True, (), self._clock.wall()
        self._say(what)
        return ()

    def _plan(self, running: Config, config: Config) -> Plan:
        return plan(running, config)

    def _say(self, what: Plan) -> None:
        log.info("the configuration was reloaded" if what.changes else "the configuration was reloaded: nothing changed", **what.changes)

    def _refused(self, errors: tuple[str, ...], only_news: bool) -> Sequence[str]:
        """Nothing was changed. The same mistakes again are said again only to whoever asked."""
        if not only_news or self.successful or errors != self.errors:
            for line in errors:
                log.error(self.REFUSED, mistake=line)
        self.successful, self.errors = False, errors
        return errors

    # ------------------------------------------------------------------ reading

    async def _read(self, load: Callable[[], Read]) -> Read:
        """What the file says now. A thread that hangs is waited for by the next one too: there is never a second one."""
        if self._reading is not None and not await self._in_time(self._reading):
            return self._unread()
        self._reading = reading = in_thread(load, "config")
        reading.add_done_callback(self._was_read)
        if not await self._in_time(reading):
            return self._unread()
        if reading.exception() is not None:
            return Read(errors=(f"{self._file.path}: {INTERNAL}",))
        return reading.result()

    def _load(self, known: str | None, only_news: bool) -> Read:
        if only_news and self._file.told_once():
            return Read()
        try:
            text = self._file.text()
            return Read() if text == known else Read(text, self._config(text))
        except ConfigError as error:
            return Read(errors=tuple(str(error).splitlines()))

    def _config(self, text: str) -> Config:
        """Raises: ConfigError."""
        return self._file.runnable(text, self._running())

    def _unread(self) -> Read:
        return Read(errors=(f"{self._file.path}: could not be read within {READ_TIMEOUT_S:g} s",))

    def _was_read(self, reading: asyncio.Future[Read]) -> None:
        self._reading = None
        error = None if reading.cancelled() else reading.exception()
        if error is not None:
            log.error("internal error while the configuration was read", exc_info=error)

    async def _in_time(self, reading: asyncio.Future[Read]) -> bool:
        """Wait for the thread, but not for too long and not beyond the end of the app; whether it came."""
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((reading, closing), timeout=READ_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
        return reading.done()

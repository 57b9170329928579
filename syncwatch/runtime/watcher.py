"""One watched tree on the event loop: performs what its machine asks for, and hands changes to whoever subscribed.

For another component (all of it on the event loop's thread):

    watcher = Watcher(driver, watch, root, Ignores([...]), sentinel_name)   # driver = Driver("watcher/NAME", watch, clock); driver.on(Notify, ...) is the caller's
    leave = watcher.listen(listener)        # leave() ends it
    driver.call(watch.start)
    ...
    driver.call(watch.stop); driver.close(); await watcher.gone()

A listener has three methods, called in the order in which things happened:

* `changed(batch)`: `{path: FileChange}`, paths below the root with `/`, decoded as `os.fsdecode` does. Each is a hint to look at the path: the same change may be told
  twice, and a directory that was deleted (or moved away) stands for all that was in it. What syncwatch itself writes (`.syncwatch/`) is left out by name.
* `rescan(why)`: anything may have changed: the watch was made (also the first time) or made again. Everything from before this call that was not told never will be.
* `watching(trouble)`: None: a change would be noticed now, anywhere under the root. WATCHER_DEAD or WATCHER_BLIND (also before the first proof): it might not. Told at once when somebody begins to
  listen, and whenever it changes. It fits `Mirror.watching`.

"Would a change be noticed now?" is `watch.trouble is None`, as of the last proof. `await watcher.caught_up(timeout_s)` asks the kernel: when it returns True, every change
that was finished before the call has been told to the listeners and the root is the one that is watched; False says that nothing can be promised.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import structlog

from syncwatch.core.effects import CheckRoot, Effects, Subscribe, Touch, Unsubscribe
from syncwatch.core.health import Reason
from syncwatch.core.ignores import Ignores
from syncwatch.core.states import WatchTrouble
from syncwatch.core.watch import Root, Survey, Watch, WatchSettings
from syncwatch.runtime import inotify, sentinel
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.inotify import Batch, Sink, Worker
from syncwatch.runtime.threads import in_thread

END_S = 0.5
"""So long is waited at the end until a thread has given everything back, and as long again until the sentinel is gone."""
NO_EVENTS = "no events came from this file system"
NO_KERNEL = "this system has no inotify"

Make = Callable[[str, Ignores, str, Sink, bool, float], Worker]
"""Makes what looks after a tree: root, what is left out, the sentinel's name, who is told, whether to poll, and how often."""

log = structlog.get_logger("syncwatch.runtime")


class Listener(Protocol):
    """Who is told of changes; see above. No method blocks or raises."""

    def changed(self, batch: Batch) -> None: ...
    def rescan(self, why: str) -> None: ...
    def watching(self, trouble: Reason | None) -> None: ...


def make_worker(root: str, ignores: Ignores, sentinel_name: str, sink: Sink, polling: bool, poll_s: float) -> Worker:
    """Events where the file system gives all of them, else readings. Raises: OSError when there is nothing at the root."""
    from syncwatch.runtime.polling import Readings, why_polled

    why = NO_EVENTS if polling else why_polled(root) if inotify.available() else NO_KERNEL
    if why is not None:
        return Readings(root, ignores, sentinel_name, sink, poll_s, why)
    return inotify.Tree(root, ignores, sentinel_name, sink)


class Watcher:
    """One watched tree. `make` is for tests: what stands in for the file system."""

    def __init__(
        self, driver: Driver, watch: Watch, root: Path, ignores: Ignores, sentinel_name: str, make: Make = make_worker
    ) -> None:
        self.driver = driver
        self.watch = watch
        self.root = str(root)
        self.ignores = ignores
        self.sentinel_name = sentinel_name
        self._make = make
        self._listeners: list[Listener] = []
        self._told: Reason | None = watch.trouble
        self._worker: Worker | None = None  # of the present attempt
        self._ending: set[Worker] = set()  # told to end, and not gone yet
        self._making: asyncio.Future[Worker] | None = None  # in a thread: a dead file system does not even tell what it is
        self._wanted: Subscribe | None = None  # waits until those are gone
        self._abandoned = False  # what is being made is not wanted any more
        self._emptied = asyncio.Event()
        self._emptied.set()
        driver.on(Subscribe, self._subscribe)
        driver.on(Unsubscribe, self._unsubscribe)
        driver.on(Touch, lambda effect: self._ask(lambda worker: worker.touch(effect.number)))
        driver.on(CheckRoot, lambda _: self._ask(lambda worker: worker.check()))

    # ------------------------------------------------------------------ for others

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` from now on, beginning with how the watch is; what is returned ends it."""
        self._listeners.append(listener)
        listener.watching(self.watch.trouble)

        def leave() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return leave

    async def caught_up(self, timeout_s: float) -> bool:
        """Whether everything that had happened before the call has been told; see above. Polling, it reads the whole tree."""
        worker = self._worker
        if worker is None:
            return False
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()

        def settle(sure: bool) -> None:
            if not future.done():
                future.set_result(sure)

        def done(sure: bool) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, sure)

        worker.drain(done)
        try:
            async with asyncio.timeout(timeout_s):
                return await future and worker is self._worker and self.watch.up
        except TimeoutError:
            return False

    def configure(self, settings: WatchSettings) -> None:
        """Another sentinel for the same tree; the one that is not written any more is taken away."""
        no_more = self.watch.settings.interval_s is not None and settings.interval_s is None
        self._call(self.watch.configure, settings)
        if no_more:
            in_thread(lambda: sentinel.remove(self.root, self.sentinel_name), "sentinel")

    @property
    def inotify_watches(self) -> int:
        """Inotify watches that are held, by a thread that was told to end included."""
        return sum(worker.directories for worker in self._held())

    @property
    def inotify_instances(self) -> int:
        """Inotify instances that are held."""
        return sum(worker.instances for worker in self._held())

    async def gone(self) -> None:
        """After the stop: when everything was given back and the sentinel is away, within a second."""
        self._wanted = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._emptied.wait()
        if self.watch.attempt and self.watch.settings.interval_s is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await in_thread(lambda: sentinel.remove(self.root, self.sentinel_name), "sentinel")

    def _held(self) -> set[Worker]:
        return self._ending if self._worker is None else {self._worker, *self._ending}

    # ------------------------------------------------------------------ effects

    def _subscribe(self, effect: Subscribe) -> None:
        """Begin, once the thread before has given everything back: one that hangs in a dead file system is never joined by another."""
        if self._ending or self._making is not None:
            self._wanted = effect
            return
        self._wanted, self._abandoned = None, False
        self._emptied.clear()
        sink, poll_s = _Told(self, effect.attempt), self.watch.settings.poll_s
        self._making = in_thread(
            lambda: self._make(self.root, self.ignores, self.sentinel_name, sink, effect.polling, poll_s), "watcher"
        )
        self._making.add_done_callback(lambda made: self._made(effect.attempt, sink, made))

    def _made(self, attempt: int, sink: _Told, made: asyncio.Future[Worker]) -> None:
        self._making = None
        if attempt == self.watch.attempt and not self._abandoned:
            try:
                worker = made.result()
                sink.worker = worker
                worker.begin()
                self._worker = worker
                return
            except OSError as error:
                trouble, detail = inotify.fault_of(error, self.root)
                self._call(self.watch.lost, attempt, trouble, detail)
        made.exception()  # looked at: whatever it is, nobody waits for it
        self._next()

    def _unsubscribe(self, effect: Unsubscribe) -> None:
        self._wanted, self._abandoned = None, True
        worker, self._worker = self._worker, None
        if worker is not None:
            self._ending.add(worker)
            worker.close()
        self.tell()

    def _ask(self, ask: Callable[[Worker], None]) -> None:
        if self._worker is not None:
            ask(self._worker)

    # ------------------------------------------------------------------ what threads tell, on the loop

    def _call(self, step: Callable[..., Effects], *args: Any) -> None:
        """Give the machine an input; then whoever listens hears whether it changed what may be trusted."""
        self.driver.call(step, *args)
        self.tell()

    def tell(self) -> None:
        """Tell the listeners how the watch is, when that is something else than before. (A tick that changes it ends a subscription.)"""
        trouble = self.watch.trouble
        if trouble is not self._told:
            self._told = trouble
            for listener in tuple(self._listeners):
                listener.watching(trouble)

    def _subscribed(self, attempt: int, root: Root, survey: Survey, polling: str | None) -> None:
        first = attempt == 1
        self._call(self.watch.subscribed, attempt, root, survey, polling)
        if attempt == self.watch.attempt:
            for listener in tuple(self._listeners):
                listener.rescan("the watch was made" if first else "the watch was made again")

    def _changed(self, attempt: int, batch: Batch) -> None:
        if attempt != self.watch.attempt:
            return
        self._call(self.watch.changed, attempt, Counter(batch.values()))
        for listener in tuple(self._listeners):
            listener.changed(batch)

    def _ended(self, attempt: int, worker: Worker) -> None:
        self._ending.discard(worker)
        if self._worker is worker:
            self._worker = None
            self._call(self.watch.lost, attempt, WatchTrouble.ERROR, "what reads the events has ended")
        self._next()

    def _next(self) -> None:
        """Nothing is held any more: begin what waits for that."""
        if self._ending or self._making is not None or self._worker is not None:
            return
        wanted = self._wanted
        if wanted is None:
            self._emptied.set()
        else:
            self._subscribe(wanted)


class _Told:
    """The sink of one subscription: from any thread to the loop, in order."""

    def __init__(self, watcher: Watcher, attempt: int) -> None:
        self._watcher = watcher
        self._attempt = attempt
        self._loop = asyncio.get_running_loop()
        self.worker: Worker | None = None

    def _post(self, work: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens any more
            self._loop.call_soon_threadsafe(work, *args)

    def _input(self, step: Callable[..., Effects], *args: Any) -> None:
        self._post(self._watcher._call, step, self._attempt, *args)

    def subscribed(self, root: Root, survey: Survey, polling: str | None) -> None:
        self._post(self._watcher._subscribed, self._attempt, root, survey, polling)

    def surveyed(self, survey: Survey) -> None:
        self._input(self._watcher.watch.surveyed, survey)

    def changed(self, batch: Batch) -> None:
        self._post(self._watcher._changed, self._attempt, batch)

    def scanned(self) -> None:
        self._input(self._watcher.watch.scanned)

    def touched(self, number: int, problem: str | None, refused: bool) -> None:
        self._input(self._watcher.watch.touched, number, problem, refused)

    def echoed(self) -> None:
        self._input(self._watcher.watch.echoed)

    def checked(self, root: Root | None, detail: str) -> None:
        self._input(self._watcher.watch.checked, root, detail)

    def uprooted(self) -> None:
        self._input(self._watcher.watch.uprooted)

    def lost(self, trouble: WatchTrouble, detail: str) -> None:
        self._input(self._watcher.watch.lost, trouble, detail)

    def ended(self) -> None:
        assert self.worker is not None
        self._post(self._watcher._ended, self._attempt, self.worker)

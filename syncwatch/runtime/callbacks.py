"""Calls the functions that the library's user has registered: each in the order of what happened, none in the way of anybody.

What belongs here: when a function is called, and what becomes of what it raises. A machine never waits for one: it is called from a task
of its own, after the input that caused it. Everything runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from syncwatch.core.effects import Notice, Notify
from syncwatch.core.occasions import FIELDS, told

Callback = Callable[..., object]

QUEUE = 256
"""Occasions that may wait for one function; beyond that the oldest are left out."""
FINISH_S = 0.3
"""At the end, what runs and what waits gets this long."""

log = structlog.get_logger("syncwatch.runtime")


class Callbacks:
    """Every registered function. `errors` counts what they raised."""

    def __init__(self, queue: int = QUEUE) -> None:
        self.errors = 0
        self._queue = queue
        self._lines: dict[Notice, list[_Line]] = {notice: [] for notice in FIELDS}

    def add(self, notice: Notice, callback: Callback) -> None:
        """Call it on each such occasion with those of the occasion's values that its parameters name (`at`: when, aware, UTC), all with `**`.

        Raises: TypeError for a parameter that is no value of the occasion and has no default; nothing was added then.
        """
        self._lines[notice].append(_Line(self, callback, _wanted(notice, callback), self._queue))

    def offer(self, notify: Notify) -> None:
        """Something happened; returns at once."""
        for line in self._lines.get(notify.notice, ()):
            line.offer(notify)

    async def close(self, timeout_s: float = FINISH_S) -> None:
        """Let what waits be told, but not for longer than this; what is not done then is cancelled."""
        own = asyncio.current_task()  # a callback may be what ends us
        tasks = [one.task for lines in self._lines.values() for one in lines if one.task is not None and one.task is not own]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            log.warning("callbacks were cut off at the end", callbacks=len(late))
            await asyncio.wait(late, timeout=timeout_s)


class _Line:
    """What waits for one function. Its task lives only while something waits."""

    def __init__(self, owner: Callbacks, callback: Callback, wanted: frozenset[str], queue: int) -> None:
        self.task: asyncio.Task[None] | None = None
        self._owner = owner
        self._callback = callback
        self._wanted = wanted
        self._waiting: deque[Notify] = deque(maxlen=queue)
        self._complained = False

    def offer(self, notify: Notify) -> None:
        if len(self._waiting) == self._waiting.maxlen and not self._complained:
            self._complained = True
            log.warning("a callback is too slow: the oldest occasions are left out", callback=self._name)
        self._waiting.append(notify)
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._call(self._waiting.popleft())
        finally:
            self.task, self._complained = None, False

    async def _call(self, notify: Notify) -> None:
        values = {**told(notify), "at": datetime.fromtimestamp(notify.at_s, UTC)}
        try:
            result = self._callback(**{name: value for name, value in values.items() if name in self._wanted})
            if inspect.isawaitable(result):
                await result
        except Exception:
            # Broad on purpose: whatever a user's function raises is the user's; it is told, counted, and ends nothing.
            self._owner.errors += 1
            log.exception("a callback raised", callback=self._name, occasion=str(notify.notice))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # we are being closed
            self._owner.errors += 1
            log.error("a callback was cancelled from inside", callback=self._name, occasion=str(notify.notice))

    @property
    def _name(self) -> str:
        return str(getattr(self._callback, "__qualname__", type(self._callback).__qualname__))


def _wanted(notice: Notice, callback: Callback) -> frozenset[str]:
    """The values that a function's parameters name. Raises: TypeError."""
    given = (*FIELDS[notice], "at")
    wanted: set[str] = set()
    for one in inspect.signature(callback).parameters.values():
        if one.kind is one.VAR_KEYWORD:
            return frozenset(given)
        if one.kind is one.VAR_POSITIONAL:
            continue
        if one.kind is not one.POSITIONAL_ONLY and one.name in given:
            wanted.add(one.name)
        elif one.default is one.empty:
            raise TypeError(f"{notice} has no {one.name!r}; a callback may take any of {', '.join(given)}, by name")
    return frozenset(wanted)

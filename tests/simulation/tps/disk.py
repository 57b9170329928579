"""A disk for mail: it is slow, full or silent when it likes. What it has written survives the process that asked for it.

What belongs here: the duties of the runtime's file store, one after another, and what is in the directory in the end.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import msgspec

from syncwatch.core.effects import Store
from tests.simulation.harness.network import Timeline

Answer = Callable[[Store, str | None, bool], None]


class DiskFaults(msgspec.Struct):
    """What is wrong with it at present."""

    error: str | None = None
    chance: float = 1.0  # of the error
    hang: bool = False
    slow_s: float = 0.0


class Disk:
    """One directory. `answer` is told of each that was asked for, unless its process is gone."""

    def __init__(self, timeline: Timeline, rng: random.Random, answer: Answer) -> None:
        self.faults = DiskFaults()
        self.files: dict[str, bytes] = {}
        self.created = 0
        self._timeline = timeline
        self._rng = rng
        self._answer = answer
        self._queue: deque[Store] = deque()
        self._busy = False
        self._process = 0

    @property
    def idle(self) -> bool:
        """Nothing is asked of it."""
        return not self._busy

    def ask(self, store: Store) -> None:
        """One more file."""
        self._queue.append(store)
        if not self._busy:
            self._busy = True
            self._begin()

    def heal(self) -> None:
        """All is well again; what hung goes on."""
        self.faults = DiskFaults()

    def killed(self) -> None:
        """The process that asked is gone: what it was writing is either there or not, and nobody is told."""
        self._process += 1
        self._queue.clear()
        self._busy = False

    def collect(self) -> None:
        """Somebody takes all mail away."""
        self.files.clear()

    def _begin(self) -> None:
        store, process, rng = self._queue.popleft(), self._process, self._rng
        self._timeline.after(rng.uniform(0.0005, 0.004) + rng.random() * self.faults.slow_s, lambda: self._write(store, process))

    def _write(self, store: Store, process: int) -> None:
        if process != self._process:
            return
        if self.faults.hang:
            self._timeline.after(0.5, lambda: self._write(store, process))
            return
        error, known = None, False
        if self.faults.error is not None and self._rng.random() < self.faults.chance:
            error = self.faults.error
        else:
            known = store.name in self.files
            assert not known or self.files[store.name] == store.content, "two contents of one name"
            self.created += not known
            self.files[store.name] = store.content
        self._timeline.after(self._rng.uniform(0.0, 0.003), lambda: self._done(store, process, error, known))

    def _done(self, store: Store, process: int, error: str | None, known: bool) -> None:
        if process != self._process:
            return
        if self._queue:
            self._begin()
        else:
            self._busy = False
        self._answer(store, error, known)

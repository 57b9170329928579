"""Events whose content is ours to keep: what waits to be safe, what is tried again, and when no more may be taken.

Law: every deposit that was taken waits here until it is stored, however long that takes; each is handed out once as stored. Nothing is given up.
What must not be here: files. The shell stores, and answers each Store with what came of it.

The server will not send such an event again, so it is best left with the server while nothing can be stored: who owns a Keeping takes no connection
while it is in trouble. A burst above the limits is held back on its way (`Hold`): what is not read waits in the peer's buffers.
"""

from __future__ import annotations

import math

import msgspec

from syncwatch.core.effects import Store
from syncwatch.core.wire import Deposit, Event

HOLD_COUNT = 256
HOLD_BYTES = 4 * 2**20
"""With so many waiting, or so many bytes of them, no more is read until half of it is stored."""
MOST_COUNT = 4096
MOST_BYTES = 32 * 2**20
"""More is never kept in memory. Only what comes after reading was stopped, or after our close, could ever reach it."""
STALL_S = 10.0
"""Storage that does not say anything for so long is in trouble, as if it had failed; what waits for so long is late."""
RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0


class Waiting(msgspec.Struct):
    """One that is not stored yet. `asked`: the shell is at it."""

    deposit: Deposit
    came_s: float
    asked: bool = True


class Keeping:
    """The deposits of one connection, whichever attempt they came on. `stored`, `failures` and `refused` count as long as the process lives."""

    def __init__(self) -> None:
        self.stored = 0
        self.failures = 0
        self.refused = 0  # came above the limits of memory: gone
        self.failure: str | None = None  # a sentence; None while all is well
        self.failing_since_s: float | None = None
        self._waiting: dict[int, Waiting] = {}  # in the order in which they came
        self._bytes = 0
        self._asked = 0
        self._serial = 0
        self._moved_s = math.inf  # when the shell last answered, or was first asked; inf: nothing is asked
        self._retry_at_s = math.inf
        self._delay_s = RETRY_MIN_S

    @property
    def waiting(self) -> int:
        """How many are not stored yet."""
        return len(self._waiting)

    @property
    def bytes(self) -> int:
        """How large they are."""
        return self._bytes

    @property
    def troubled(self) -> bool:
        """Something cannot be stored, at least for now: nothing more should be taken."""
        return self.failure is not None

    def late_since_s(self, now: float) -> float | None:
        """Since when something has waited for too long, whatever the reason; None if nothing has."""
        oldest = next(iter(self._waiting.values()), None)
        late_s = math.inf if oldest is None else oldest.came_s + STALL_S
        since_s = late_s if self.failing_since_s is None else min(late_s, self.failing_since_s)
        return since_s if since_s <= now else None

    @property
    def full(self) -> bool:
        """No more should be read."""
        return len(self._waiting) >= HOLD_COUNT or self._bytes >= HOLD_BYTES

    @property
    def roomy(self) -> bool:
        """Reading may go on."""
        return len(self._waiting) <= HOLD_COUNT // 2 and self._bytes <= HOLD_BYTES // 2

    @property
    def deadline(self) -> float:
        """When `tick` has something to do."""
        stalls_s = math.inf if self.troubled else self._moved_s + STALL_S
        return min(self._retry_at_s, stalls_s)

    def take(self, now: float, deposit: Deposit) -> Store | None:
        """Ask for it to be stored; None, and counted, if there is no memory for it."""
        size = len(deposit.content)
        if len(self._waiting) >= MOST_COUNT or self._bytes + size > MOST_BYTES:
            self.refused += 1
            return None
        self._serial += 1
        self._waiting[self._serial] = Waiting(deposit, now)
        self._bytes += size
        self._asked += 1
        if self._moved_s == math.inf:
            self._moved_s = now
        return Store(self._serial, deposit.name, deposit.content)

    def answered(self, now: float, deposit_id: int, error: str | None) -> Event | None:
        """The shell's answer; the event if it is safe now. An answer that nobody waits for is ignored."""
        waiting = self._waiting.get(deposit_id)
        if waiting is None or not waiting.asked:
            return None
        waiting.asked = False
        self._asked -= 1
        self._moved_s = now if self._asked else math.inf
        if error is None:
            del self._waiting[deposit_id]
            self._bytes -= len(waiting.deposit.content)
            self.stored += 1
        else:
            self.failures += 1
            self._trouble(now, error)
            if self._retry_at_s == math.inf:
                self._retry_at_s = now + self._delay_s
                self._delay_s = min(2 * self._delay_s, RETRY_MAX_S)
        if not self._waiting:
            self._well()
        return None if error is not None else waiting.deposit.event

    def tick(self, now: float) -> list[Store]:
        """What failed is tried again, all of it; storage that says nothing is in trouble."""
        if not self.troubled and now >= self._moved_s + STALL_S:
            self._trouble(now, f"no answer for {STALL_S:g} s")
        return self.again(now) if now >= self._retry_at_s else []

    def again(self, now: float) -> list[Store]:
        """Try all that failed once more, now."""
        self._retry_at_s = math.inf
        again = [(number, one) for number, one in self._waiting.items() if not one.asked]
        for _, one in again:
            one.asked = True
        self._asked += len(again)
        if again and self._moved_s == math.inf:
            self._moved_s = now
        return [Store(number, one.deposit.name, one.deposit.content) for number, one in again]

    def _trouble(self, now: float, words: str) -> None:
        self.failure = words
        if self.failing_since_s is None:
            self.failing_since_s = now

    def _well(self) -> None:
        self.failure = self.failing_since_s = None
        self._retry_at_s, self._delay_s = math.inf, RETRY_MIN_S

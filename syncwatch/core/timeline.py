"""Where a connection stands and where it has been: time per state, entered-at, transition counts, the last transitions with reasons.

Law: a change that is no edge of the table raises and changes nothing.
"""

from __future__ import annotations

from collections import deque

from syncwatch.core.snapshot import Moment, TimelineSnapshot, Transition
from syncwatch.core.states import TRANSITIONS, State

RECENT = 64


class Timeline:
    """The one owner of a connection's state."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self.entered_s: float | None = None
        self._entered_wall_s: dict[State, float] = {}
        self._seconds: dict[State, float] = {}
        self._transitions: dict[tuple[State, State], int] = {}
        self._recent: deque[Transition] = deque(maxlen=RECENT)

    def begin(self, now: float, wall_s: float) -> None:
        """Time starts: the machine was told the wall clock for the first time."""
        self.entered_s = now
        self._entered_wall_s[self.state] = wall_s

    def move(self, now: float, wall_s: float, to: State, reason: str) -> None:
        """Change state. Raises ValueError, changing nothing, if the table has no such edge."""
        if to not in TRANSITIONS[self.state]:
            raise ValueError(f"no transition from {self.state} to {to} ({reason})")
        if self.entered_s is not None:
            stay_s = max(0.0, now - self.entered_s)
            self._seconds[self.state] = self._seconds.get(self.state, 0.0) + stay_s
        edge = (self.state, to)
        self._transitions[edge] = self._transitions.get(edge, 0) + 1
        self._recent.append(Transition(Moment(now, wall_s), self.state, to, reason))
        self.state, self.entered_s = to, now
        self._entered_wall_s[to] = wall_s

    def snapshot(self) -> TimelineSnapshot:
        """An immutable picture."""
        return TimelineSnapshot(
            state=self.state,
            entered_now_s=0.0 if self.entered_s is None else self.entered_s,
            entered_wall_s=dict(self._entered_wall_s),
            seconds=dict(self._seconds),
            transitions=dict(self._transitions),
            recent=tuple(self._recent),
        )

"""What in a replay was replay and what was live: one round, from a resync request to its acknowledgement or the close.

Rules: accounting 1 to 4. The window records what came, in order; it decides when asked, at its end, and changes no counter itself.
"""

from __future__ import annotations

import math

import msgspec

from syncwatch.core.ranges import Ranges
from syncwatch.core.wire import MAX_NUMBER, Ack, Event

FIRST = 1  # first copy of its identity
NEW = 2  # its number was neither seen nor known to be missing
BELOW = 4  # its number lies below everything that is accounted
SHIFT = 3
LOOKED_AT = 16
MAX_FRAMES = 65_536  # a round that is longer than this is given up: memory stays bounded under a flood


class PageRows(msgspec.Struct):
    """Rows of one bounded database query in this round."""

    rows: int = 0
    fresh: int = 0
    newest_s: float | None = None


class Window:
    """One open request. `frames` holds one int per numbered frame: number, and the flags FIRST, NEW and BELOW."""

    __slots__ = (
        "ack",
        "after",
        "at_s",
        "before",
        "below",
        "cursor_at_request",
        "frames",
        "highest_seen",
        "last_frame_s",
        "live_from",
        "olds",
        "other_firsts",
        "overlap_seen",
        "pages",
        "repeats",
        "since_s",
        "store_firsts",
        "store_frames",
    )

    def __init__(
        self,
        at_s: float,
        after: int,
        since_s: float | None,
        cursor: int | None,
        highest_seen: int,
        before: Ranges | None = None,
        live_from: float = math.inf,
    ) -> None:
        self.at_s = at_s
        self.after = after
        self.since_s = since_s
        self.cursor_at_request = cursor
        self.highest_seen = highest_seen  # before the request: what a live frame must exceed not to be out of order
        self.before = Ranges() if before is None else before  # numbers that this connection had brought before the request
        self.live_from = live_from  # the lowest of them that came live
        self.frames: list[int] = []
        self.repeats = 0  # of the frames, as many are not FIRST
        self.olds = 0  # and so many not NEW
        self.store_frames = 0
        self.store_firsts = 0
        self.other_firsts = 0  # unnumbered and not marked as replay: live
        self.overlap_seen = False
        self.pages: dict[str, PageRows] = {}
        self.ack: Ack | None = None  # accepted, but fewer frames than it claims have come
        self.below = False  # its current number was below the cursor when it came
        self.last_frame_s = at_s

    @property
    def undecided(self) -> int:
        """First copies that are in no origin yet."""
        return self.store_firsts + self.other_firsts + len(self.frames) - self.repeats

    def row(self, event: Event, first: bool) -> None:
        """Record an unnumbered event."""
        if not event.replayed:
            self.other_firsts += first
            return
        self.store_frames += 1
        self.store_firsts += first
        if event.page_kind is not None:
            page = self.pages.setdefault(event.page_kind, PageRows())
            page.rows += 1
            page.fresh += first
            if event.time_s is not None:
                page.newest_s = max(event.time_s, page.newest_s or -math.inf)

    def renumber(self, parked: Ranges) -> None:
        """A new epoch began inside this round: a number's first sight on this connection is new, whatever the old epoch had. `parked` numbers are of
        this connection alone, and some came before the round: they were judged rightly when they came.
        """
        self.highest_seen = self.before.high if self.before else 0
        seen: set[int] = set()
        for index, frame in enumerate(self.frames):
            number = frame >> SHIFT
            if number not in parked:
                self.frames[index] = (frame & ~(NEW | BELOW)) | (0 if number in seen or number in self.before else NEW)
                seen.add(number)
        self.olds = sum(not frame & NEW for frame in self.frames)

    def burst(self, ack: Ack) -> tuple[int, int]:
        """The slice of `frames` that is the ring's replay: `replayed - store` frames, one uninterrupted run (§5)."""
        ring = max(0, ack.replayed - self.store_frames)
        start = self._replay_start(ack, ring)
        return start, min(start + ring, len(self.frames))

    def arrived(self, ack: Ack) -> int:
        """How many of the frames that the acknowledgement claims have come."""
        frames = self.frames[self._replay_start(ack, max(0, ack.replayed - self.store_frames)) :]
        if not frames or max(frames) >> SHIFT <= ack.current:  # as a rule, and a long replay is many frames
            return self.store_frames + len(frames)
        return self.store_frames + sum(frame >> SHIFT <= ack.current for frame in frames)

    def _replay_start(self, ack: Ack, ring: int) -> int:
        """Where the replay begins; the end if none of it is here.

        Without a gap it begins at the last sight of the number after the one asked for. Behind a gap it is a run of `ring` consecutive numbers; a cut one
        begins at the last sight of its smallest number, which leaves room for `ring` numbers up to the current one.
        """
        end = len(self.frames)
        if ring == 0:
            return end
        if not ack.gap:
            index = self._last_sight(int(ack.after) + 1)
            if index is not None:
                return index
        start = self._last_run(ring, ack.current)
        if start is not None:
            return start
        return self._start(above=ack.after, up_to=ack.current - ring + 1) if ack.gap else end

    def _last_sight(self, number: int) -> int | None:
        """Where `number` came last. As a rule that is near the beginning, and what follows is all above it: then no frame is looked at but by `min`."""
        frames = self.frames
        for index, frame in enumerate(frames[:LOOKED_AT]):
            if frame >> SHIFT == number and min(frames[index + 1 :], default=math.inf) >= (number + 1) << SHIFT:
                return index
        for index in range(len(frames) - 1, -1, -1):
            if frames[index] >> SHIFT == number:
                return index
        return None

    def _last_run(self, length: int, current: int) -> int | None:
        """Where the run of at least `length` consecutive numbers up to `current` begins that is the likeliest replay; the last of equals."""
        runs = [begin for begin, end in self._runs(current) if end - begin >= length]
        return min(reversed(runs), key=self._oddities(length).__getitem__) if len(runs) > 1 else runs[0] if runs else None

    def _runs(self, current: int) -> list[tuple[int, int]]:
        """Slices of consecutive numbers up to `current`."""
        runs: list[tuple[int, int]] = []
        begin, previous = 0, -1
        for index, frame in enumerate(self.frames):
            number = frame >> SHIFT
            if number != previous + 1 or number > current:
                runs.append((begin, index))
                begin = index if number <= current else index + 1
            previous = number
        return [*runs, (begin, len(self.frames))]

    def _oddities(self, length: int) -> list[int]:
        """For each place where a run of `length` may begin: how many frames speak against its being the replay. First sights in it above what this
        connection had live before (from the attach on everything is written live before it is replayed), and repeats after it (what follows a
        replay is live and new). In one pass each way: a peer decides how many runs there are.
        """
        count = len(self.frames)
        firsts, repeats, lowest = [0] * (count + 1), [0] * (count + 1), [math.inf] * (count + 1)
        lowest[0] = self.live_from
        for index, frame in enumerate(self.frames):
            number = frame >> SHIFT
            firsts[index + 1] = firsts[index] + (frame & NEW > 0)
            again = not frame & NEW and index > 0 and number != self.frames[index - 1] >> SHIFT
            repeats[index + 1] = repeats[index] + again
            lowest[index + 1] = min(lowest[index], number)
        found = []
        for begin in range(count - length + 1):
            end, first = begin + length, self.frames[begin] >> SHIFT
            above = begin + min(max(lowest[begin] - first + 1, 0), length)  # in a run numbers ascend by one
            found.append(firsts[end] - firsts[int(above)] + repeats[count] - repeats[end])
        return found

    def unacknowledged_burst(self) -> tuple[int, int]:
        """The replay in a round without acknowledgement: a definition, not knowledge (accounting rule 2)."""
        start, end = self._start(above=self.after, up_to=math.inf), len(self.frames)
        if start == end or self.after == MAX_NUMBER:  # nothing came, or nothing was asked to be replayed
            return end, end
        smallest = self.frames[start] >> SHIFT
        cursor = self.cursor_at_request
        overlap = cursor is not None and smallest <= cursor
        overtaken = any(frame >> SHIFT > smallest for frame in self.frames[:start]) or (
            bool(self.before) and self.before.high > smallest  # a stream does not go backwards
        )
        return (start, end) if overlap or overtaken else (end, end)

    def _start(self, above: float, up_to: float) -> int:
        """Index of the last sight of the smallest number above `above` and up to `up_to`; the end if there is none."""
        smallest: int | None = None
        start = len(self.frames)
        for index, frame in enumerate(self.frames):
            number = frame >> SHIFT
            if above < number <= up_to and (smallest is None or number <= smallest):
                smallest, start = number, index
        return start

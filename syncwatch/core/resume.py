"""The resume point: what is kept across sockets and restarts, so that the next process asks where the last one stopped."""

from __future__ import annotations

import msgspec

from syncwatch.core.continuity import Continuity
from syncwatch.core.identity import Remembered
from syncwatch.core.ledger import Ledger
from syncwatch.core.wire import MAX_NUMBER

IDENTITIES_KEPT = 512
PRESSING_NUMBERS = 200
"""A process that is killed makes the next one ask for so many numbers more than it must: well below what a server's ring holds (500)."""


class Totals(msgspec.Struct, frozen=True):
    """Lifetime totals over every process that shared the state file, and when they began (wall, Unix seconds)."""

    since_wall_s: float
    events: int = 0
    reconnects: int = 0
    missed: int = 0
    recovered: int = 0
    lost: int = 0
    unaccounted: int = 0
    late: int = 0
    resets: int = 0


class FeedPoint(msgspec.Struct, frozen=True):
    """The position in a log that is read over HTTP. `scope`: whose log; `floor`: the last row compared, and `floor_before` the number of the one before."""

    scope: str
    based: bool = False
    last: Remembered | None = None
    before_last: Remembered | None = None
    floor: Remembered | None = None
    floor_before: int | None = None
    promised: int = 0  # up to this number every event was some socket's to bring, or was read
    fresh: bool = False  # the log is another than the one before, and was not yet read to its end
    above: int = 0  # so many events above the floor were delivered: the next process has to know them again

    def plausible(self) -> bool:
        """Whether the numbers are in order."""
        ordered = self.before_last is None or (self.last is not None and self.before_last.number < self.last.number)
        return ordered and self.above >= 0 and (self.floor is None or self.floor_before is None or self.floor_before < self.floor.number)


class ResumePoint(msgspec.Struct, frozen=True):
    """A ledger's position. `saved_wall_s` is when it was taken; `upstream` says whose numbers they are."""

    saved_wall_s: float
    upstream: str
    totals: Totals
    epoch: int = 1
    cursor: int | None = None
    known: tuple[Remembered, ...] = ()  # the event at the anchor, the one before, and the cursor's: what the overlap is compared with
    seen_above: tuple[tuple[int, int], ...] = ()
    confirmed: tuple[tuple[int, int], ...] = ()
    keys: tuple[str | tuple[int, str], ...] = ()
    hashes: tuple[str, ...] = ()
    anchor: int | None = None  # the cursor when its epoch was last proven; None: the cursor
    owed: int | None = None  # a reset was found and its full resync is not settled: so many holes of the old epoch are confirmed
    known_time_s: float | None = None  # server time of the last event up to the anchor, or of the old epoch's
    feed: FeedPoint | None = None  # where the protocol has a feed


    def plausible(self) -> bool:
        """Whether it can be a ledger's position at all: a file may be well-formed and make no sense."""
        cursor = 0 if self.cursor is None else self.cursor
        ranges = sorted([*self.seen_above, *self.confirmed])
        ends = [cursor, *(high for _, high in ranges)]
        apart = all(end < low <= high <= MAX_NUMBER for end, (low, high) in zip(ends, ranges, strict=False))
        counts = (self.epoch - 1, cursor, *msgspec.structs.astuple(self.totals)[1:], self.owed or 0)
        anchored = self.anchor is None or 0 <= self.anchor <= cursor
        read = self.feed is None or self.feed.plausible()
        return apart and anchored and read and min(counts) >= 0 and cursor <= MAX_NUMBER


class ServiceRecord(msgspec.Struct, frozen=True):
    """What is kept of a service. `of` says of which one, so that another one under its name does not inherit it; wall times are Unix seconds."""

    of: str
    since_wall_s: float
    probes: int = 0
    failures: int = 0
    last_healthy_wall_s: float | None = None

    def plausible(self) -> bool:
        """Whether it can be true: a file may be well-formed and make no sense."""
        return 0 <= self.failures <= self.probes


def totals_only(point: ResumePoint) -> ResumePoint:
    """For a connection that keeps its name and is re-aimed: its totals go on, its position means nothing there."""
    return ResumePoint(saved_wall_s=point.saved_wall_s, upstream=point.upstream, totals=point.totals)


def capture(ledger: Continuity, wall_s: float, upstream: str, totals: Totals) -> ResumePoint:
    """Take the position of a ledger."""
    keys, hashes = ledger.identities.newest(IDENTITIES_KEPT)
    cursor = ledger.cursor
    known: list[Remembered] = []
    anchor = ledger.position
    numbers = () if cursor is None or anchor is None else sorted({anchor - 1, anchor, cursor})
    for number in numbers:
        event = ledger.numbers.get(number)
        if event is not None:
            known.append(Remembered(number, event.key, event.time_s, event.lane, event.lane_number))
    return ResumePoint(
        saved_wall_s=wall_s,
        upstream=upstream,
        totals=totals,
        epoch=ledger.epoch,
        cursor=cursor,
        known=tuple(known),
        seen_above=tuple(ledger.above),
        confirmed=tuple(ledger.confirmed),
        keys=tuple(keys),
        hashes=tuple(hashes),
        anchor=anchor,
        owed=ledger.owed,
        known_time_s=ledger.known_time_s(),
    )


def pressing(ledger: Ledger, saved: ResumePoint | None) -> bool:
    """Whether whoever resumes from `saved` would be badly off by now. A position that is a little older only means a replay that is a little longer."""
    if not isinstance(ledger, Continuity):
        return True  # of another kind: it is saved each second
    if saved is None or ledger.cursor is None or saved.cursor is None:
        return saved is None or ledger.cursor != saved.cursor
    return (
        not 0 <= ledger.cursor - saved.cursor < PRESSING_NUMBERS
        or ledger.epoch != saved.epoch
        or (ledger.position == ledger.cursor) != (saved.anchor == saved.cursor)
        or tuple(ledger.above) != saved.seen_above
        or tuple(ledger.confirmed) != saved.confirmed
        or ledger.owed != saved.owed
    )


def restore(ledger: Continuity, point: ResumePoint, now: float) -> None:
    """Put a fresh ledger where the last process stopped. Holes it knew of enter `missed` now, so the identity holds in this process."""
    if point.cursor is None:
        return
    ledger.restore_identities(point.keys, point.hashes)
    for event in point.known:
        ledger.numbers.put(event.number, event, attempt=0)
    ledger.restore(now, point.epoch, point.cursor, point.seen_above, point.confirmed, point.owed, point.anchor, point.known_time_s)

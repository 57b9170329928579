"""What every ledger counts, whichever way its server numbers and replays: the counters, their law, and their picture.

Law: after every input missed = recovered + lost + unaccounted + missing. Counters never fall.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from syncwatch.core.histogram import SLOW_S, Histogram
from syncwatch.core.identity import Identities, Key
from syncwatch.core.snapshot import ContinuitySnapshot, Moment
from syncwatch.core.states import Claim, GapCause, Origin, Verdict
from syncwatch.core.wire import Event


class Settled(msgspec.Struct, frozen=True):
    """How a replay ended, for whoever wants to tell it."""

    claim: Claim
    verdict: Verdict
    replayed: int
    gap_detected: bool
    recovered: int
    lost: int
    unaccounted: int
    current: int | None
    after: int
    duration_s: float
    needed_help: bool  # the replay brought numbers, or holes remained: the live path had not delivered them


class Ledger:
    """Counters of one connection's events; they live as long as the process."""

    def __init__(self) -> None:
        self.identities = Identities()
        self.epoch = 1
        self.epoch_told = 1  # the last epoch that the caller has spoken of
        self.cursor: int | None = None
        self.attempt = 0
        self.window: object | None = None  # an open replay: each event is shown to the recovery as well
        self.shown = True  # it is; the ledger itself does all there is to do while this is False
        self.urgent = False  # something appeared that timers hang on: the caller must look at them, and clears this
        self.missing_since_s: float | None = None
        self.received: dict[Origin, int] = dict.fromkeys(Origin, 0)
        self.live = 0  # kept apart from `received` for speed
        self.duplicates = 0
        self.out_of_order = 0
        self.gaps = dict.fromkeys(GapCause, 0)
        self.missed = 0
        self.restored = 0  # of those, brought from an earlier process, which has counted them in the lifetime totals
        self.recovered = 0
        self.lost = 0
        self.unaccounted = 0
        self.late = 0
        self.resets = 0
        self.resyncs: dict[tuple[Claim, Verdict], int] = {}
        self.resync_duration = Histogram(SLOW_S)
        self.replayed = 0
        self.bad_sequence = 0
        self.implausible_jumps = 0
        self.ack_early = 0
        self.ack_unsolicited = 0
        self.replay_short = 0
        self.forgotten_ranges = 0

    def event(self, now: float, event: Event) -> bool:
        """Account for one event from the socket; True if it is a first copy."""
        raise NotImplementedError

    def restore_identities(self, keys: Iterable[Key], hashes: Iterable[str]) -> None:
        """Know what an earlier process had seen."""
        self.identities = Identities(keys, hashes)

    @property
    def missing(self) -> int:
        """Numbers confirmed missing and not yet settled."""
        return 0

    @property
    def undecided(self) -> int:
        """First copies inside an open replay."""
        return 0

    @property
    def events(self) -> int:
        """First copies, whatever their origin."""
        return self.live + self.undecided + sum(self.received.values())

    def snapshot(self, last_loss: Moment | None) -> ContinuitySnapshot:
        """An immutable picture."""
        return ContinuitySnapshot(
            epoch=self.epoch,
            cursor=self.cursor,
            events_received={**self.received, Origin.LIVE: self.live},
            duplicates=self.duplicates,
            out_of_order=self.out_of_order,
            undecided=self.undecided,
            gaps=dict(self.gaps),
            missing=self.missing,
            missed=self.missed,
            recovered=self.recovered,
            lost=self.lost,
            unaccounted=self.unaccounted,
            late=self.late,
            resets=self.resets,
            resyncs=dict(self.resyncs),
            resync_duration=self.resync_duration.snapshot(),
            replayed=self.replayed,
            forgotten={
                "identities": self.identities.forgotten_identities,
                "ranges": self.forgotten_ranges,
                "hashes": self.identities.forgotten_hashes,
            },
            last_loss=last_loss,
        )

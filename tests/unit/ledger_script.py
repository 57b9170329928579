"""A tiny notation for frames, so that the worked accounting cases read in tests as they stand in the wire document.

`P6` own presence with number 6 (weak), `5` a message with number 5 (strong), `r3` a reaction with number 3 (weak), `D5` the database row of message 5,
`Dr` the database row of reaction r, `A(4,11,7,no)` an acknowledgement, `|` nothing, `X` disconnect and reconnect, `R(4)` a request that must ask after 4,
`+2s` time passes. Ranges: `201..700`, `D101..D350`.
"""

from __future__ import annotations

import re

from syncwatch.core.continuity import Continuity
from syncwatch.core.ledger import Settled
from syncwatch.core.states import Origin
from syncwatch.core.wire import Ack, Event


class Ledger:
    """A Continuity fed by notation."""

    def __init__(self, continuity: Continuity | None = None) -> None:
        self.continuity = continuity or Continuity()
        self.now = 0.0
        self.attempt = 1
        self.continuity.opened(1)
        self.settled: list[Settled] = []

    def feed(self, script: str) -> Ledger:
        """Play the script; the identity is checked after every step."""
        for token in script.split():
            self._step(token)
            ledger = self.continuity
            assert ledger.missed == ledger.recovered + ledger.lost + ledger.unaccounted + ledger.missing, token
        return self

    def _step(self, token: str) -> None:
        ledger = self.continuity
        if token == "|":
            return
        if token == "X":
            ended = ledger.closed(self.now)
            self.attempt += 1
            ledger.opened(self.attempt)
            self._ended(ended)
        elif token.startswith("+"):
            self.now += float(token[1:-1])
            if ledger.window is not None:
                self._ended(ledger.give_up_waiting(self.now))
            ledger.confirm_due(self.now)
        elif token.startswith("R("):
            assert int(token[2:-1]) == ledger.request(self.now)[0], token
        elif token.startswith("A("):
            after, current, replayed, gap = token[2:-1].split(",")
            self._ended(ledger.acknowledged(self.now, Ack(int(after), int(current), int(replayed), gap == "gap")))
        elif ".." in token:
            low, high = token.split("..")
            prefix = re.sub(r"\d", "", low)
            for number in range(int(low[len(prefix) :]), int(high[len(prefix) :]) + 1):
                self._event(f"{prefix}{number}")
        else:
            self._event(token)

    def _event(self, token: str) -> None:
        self.continuity.event(self.now, event(token, self.attempt))
        self._ended(self.continuity.complete_early(self.now))

    def _ended(self, settled: Settled | None) -> None:
        if settled is not None:
            self.settled.append(settled)

    def origins(self) -> tuple[int, int, int]:
        """live, ring, store."""
        received = self.continuity.received
        return self.continuity.live, received[Origin.RING], received[Origin.STORE]

    def numbers(self) -> tuple[int, int, int, int, int]:
        """missed, recovered, lost, unaccounted, missing."""
        ledger = self.continuity
        return ledger.missed, ledger.recovered, ledger.lost, ledger.unaccounted, ledger.missing


def event(token: str, attempt: int = 1) -> Event:
    """One event of the notation. Server time grows with the number, one second each."""
    if token == "Dr":
        return Event("reaction", strong=False, replayed=True, page_kind="reactions")
    if token.startswith("D"):
        number = int(token[1:])
        return Event(f"m{number}", strong=True, time_s=1000.0 + number, replayed=True, page_kind="messages")
    if token.startswith("P"):
        return Event(f"presence{attempt}-{token}", strong=False, number=int(token[1:]), time_s=1000.0 + int(token[1:]))
    if token.startswith("r"):
        return Event("reaction", strong=False, number=int(token[1:]))
    return Event(f"m{token}", strong=True, number=int(token), time_s=1000.0 + int(token))

"""One `/fs/ws` stream: catch-up, then live, through a buffer that may overflow (wire: relayfile §3.2 to §3.5).

The stream is registered before its catch-up begins. What happens meanwhile waits in the buffer, and is dropped there if the
catch-up brought it. The same buffer fills while the client does not read; once it is full the stream ends with 1013 as soon as
anything can be written again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

from syncwatch.relay import kinds
from syncwatch.relay.events import Frame
from syncwatch.relay.logfacts import Delivered
from syncwatch.relay.outbound import Outbound
from syncwatch.relay.relayfile import frames
from syncwatch.relay.relayfile.filters import passes
from syncwatch.relay.relayfile.log import Entry, timestamp
from syncwatch.relay.relayfile.service import Files

BUFFER = 4096
PAGE = 100
LEGACY = 100
"""How many events a client gets that says neither where it was nor that it wants none."""
CLOGGED_BYTES = 256 * 1024
"""More than this in the transport, and the writing loop of the real server would be blocked."""
_LOOK_S = 0.01


class Stream(Outbound):
    """One socket of a workspace."""

    protocol: ClassVar[kinds.ProtocolName] = "relayfile"

    def __init__(
        self, ident: int, transport: asyncio.Transport, workspace: str, filters: Sequence[str], files: Files
    ) -> None:
        self.filters = tuple(filters)
        self.files = files
        self.overflowed = False
        self._buffer: deque[Entry] = deque()
        self._catching_up = True
        self._next: int | None = None
        """The place in the log where the catch-up goes on."""
        self._page: deque[Entry] = deque()
        self._caught_up: set[int] = set()
        self._cut: kinds.CutReplay | None = None
        self._pings = 0
        self._looking = self._flowing = self._ended = False
        super().__init__(ident, transport, workspace, files.ledger, files.faults)

    # In

    def begin(self, cursor: str, from_now: bool) -> None:
        """Start the catch-up; a cursor that the log does not know yields nothing, and no word about it."""
        if self.faults.take(kinds.DatabaseFailing, self.label, "relayfile") is not None:
            self.close(1011, "failed to load catch-up events")
            return
        slow = self.faults.take(kinds.SlowDatabase, self.label, "relayfile")
        if slow is not None:
            self.later(slow.delay_s, lambda: self._load(cursor, from_now))
        else:
            self._load(cursor, from_now)

    def _load(self, cursor: str, from_now: bool) -> None:
        entries = self.files.log.entries(self.label)
        if cursor:
            place = self.files.log.find(self.label, cursor)
            self._next = None if place is None else place + 1
        elif not from_now:
            self._next = max(0, len(entries) - LEGACY)
        self._cut = self.faults.take(kinds.CutReplay, self.label, "relayfile") if self._next is not None else None
        self._catching_up = self._next is not None
        self._flow()

    def published(self, entry: Entry, frame: Frame) -> None:
        """An event of the workspace, as it happens."""
        if self.overflowed or not passes(self.filters, entry.path):
            return
        if not (self._catching_up or self._buffer or self._blocked):
            self.live(frame)
        elif len(self._buffer) < BUFFER:
            self._buffer.append(entry)
            self._look_later()
        else:
            self.overflowed = True
            self._buffer.clear()
            self._look_later()

    def ping(self) -> None:
        """The loop that writes events answers pings too: before the catch-up is out, and while it is blocked, they wait."""
        if self._catching_up or self._clogged:
            self._pings += 1
            self._look_later()
        else:
            super().ping()

    # Out

    @property
    def _clogged(self) -> bool:
        return self._writer.buffered() > CLOGGED_BYTES

    @property
    def _blocked(self) -> bool:
        return self._frozen or self._clogged

    def refresh(self) -> None:
        """Look again which faults hold."""
        super().refresh()
        if not self._catching_up or self._next is not None:
            self._flow()

    def _look_later(self) -> None:
        if not self._looking and self._clogged:
            self._looking = True
            self.later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = False
        self._flow()

    def _flow(self) -> None:
        """Write what may be written: catch-up first, then what waited. A fault that ends with a frame must not begin it again inside."""
        if self._flowing:
            return
        self._flowing = True
        try:
            while self.open and not self._ended and not self._blocked and self._step():
                pass
        finally:
            self._flowing = False
        if self.open and self._clogged:
            self._look_later()

    def _step(self) -> bool:
        """One frame; False if there is nothing to write."""
        if self._catching_up:
            self._catch_up()
        elif self.overflowed:
            self._ended = True
            self.close(1013, "event stream overflow; reconnect from cursor")
        elif self._pings:
            self._pings -= 1
            super().ping()
        elif self._buffer:
            entry = self._buffer.popleft()
            if entry.number not in self._caught_up:
                # As it is now: a revision that was superseded meanwhile travels without its content.
                self.live(self.files.frame(self.label, entry))
        else:
            self._caught_up.clear()
            return False
        return True

    def _catch_up(self) -> None:
        """The next event of the catch-up, in pages as the server reads them; it ends when a page is empty."""
        if self._cut is not None and len(self._caught_up) >= self._cut.after:
            self._next = None
            self._page.clear()
            if self._cut.then == "drop":
                self.drop()
                return
        if not self._page and self._next is not None:
            entries = self.files.log.entries(self.label)[self._next : self._next + PAGE]
            self._next += len(entries)
            self._page.extend(entry for entry in entries if passes(self.filters, entry.path))
            if not entries:
                self._next = None
        if self._page:
            entry = self._page.popleft()
            self._caught_up.add(entry.number)
            self.event(self.files.frame(self.label, entry), "catchup")
        elif self._next is None:
            self._catching_up = False

    # What a stream says of itself

    def stop(self) -> None:
        """The process ends: no close frame, the stream just ends (1006)."""
        self._leave("dropped", "relay")
        self._transport.close()

    def _record(self, number: int | None, kind: str, key: str, origin: str) -> None:
        self._ledger.add(
            Delivered,
            connection=self.id,
            position=self.position,
            protocol="relayfile",
            label=self.label,
            epoch=self.files.log.epoch,
            number=number,
            id=key,
            kind=kind,
            origin=origin,
        )

    def _pong(self) -> bytes:
        return frames.pong(timestamp(self.files.clock.server_s()))

    def _detach(self) -> None:
        self.files.leave(self.label, self)

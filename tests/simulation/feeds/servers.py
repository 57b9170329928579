"""Simulated servers that keep a log and give it out over HTTP: Relayfile, and Relaycast's observer stream (wire: relayfile §3 and §4, relaycast §12).

What belongs here: what the servers do, and the knobs that make them do it wrongly. They record facts and judge nothing. Frames and pages are real JSON bytes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from syncwatch.core.wire import Request
from tests.simulation.feeds.facts import FeedFrame, Row, Written
from tests.simulation.harness.facts import Kind, Label, Ledger
from tests.simulation.harness.network import Link, Peer, Timeline

FILTER = "/docs/**"
OURS = ("/docs/a.md", "/docs/b/c.md", "/docs")
OTHERS = ("/src/x.py", "/docsy.md")
LEGACY = 100  # what a socket without cursor and without `from=now` gets
GARBAGE: tuple[bytes, ...] = (b'"x"', b"[]", b'{"no":"type"}', b"{", b"", b"\xff\xfe", b"null", b'{"type":7}')
BAD_IDS: tuple[object, ...] = ("evt_", "evt_x", "msg_7", "", "evt_-3", "evt_9999999999999999")
BAD_SEQS: tuple[object, ...] = ("99", 7.5, -3, 0, True, None, 2**53)
PAGES: tuple[bytes, ...] = (b"", b"<html>", b"[]", b'{"events":7}', b'{"items":[]}', b"\xff", b'{"events":[],"nextCursor":"page2","latest_seq":-1}')


class Faults(msgspec.Struct):
    """The server's knobs; all off by default. Chances are per live frame, `page_garbage` and `page_rows` per page."""

    skip: float = 0.0
    duplicate: float = 0.0
    swap: float = 0.0
    straggle: float = 0.0
    invent: float = 0.0
    bad_number: float = 0.0
    short_catch_up: float = 0.0  # chance that a catch-up leaves an event out
    unlogged: float = 0.0  # the write to the log failed: an observer's event has no number then
    garbage: float = 0.0
    page_garbage: float = 0.0
    page_rows: float = 0.0  # pages contain rows that are none
    stopped: bool = False
    deaf: bool = False
    slow_pong_s: float = 0.0


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event of the log, as the socket and as the feed show it."""

    row: Row
    frame: Mapping[str, object]
    listed: Mapping[str, object]


class Page(msgspec.Struct, frozen=True):
    """An answer of the feed, and what it is as fact."""

    body: bytes
    life: int
    rows: tuple[Row, ...]
    next_after: int | None
    newest: int | None
    malformed: int


class Server(Peer[Link]):
    """One workspace's log, one counter, sockets."""

    def __init__(
        self,
        timeline: Timeline,
        ledger: Ledger,
        rng: random.Random,
        page_rows: int,
        buffer: int,
        hidden: bool,
        base_wall_s: float = 1_781_000_000.0,
    ) -> None:
        self.timeline = timeline
        self.ledger = ledger
        self.rng = rng
        self.page_rows = page_rows
        self.buffer = buffer
        self.hidden = hidden  # the socket does not show everything
        self.clock_offset_s = 0.0
        self.faults = Faults()
        self.life = 1
        self.counter = 0
        self.log: list[Entry] = []
        self.dials: dict[int, Request] = {}
        self.overflows = 0
        self._base_wall_s = base_wall_s
        self._sockets: dict[int, Link] = {}
        self._held: Entry | None = None
        self._serial = 0

    # -- what differs ------------------------------------------------------------------------------------------------

    def entry(self, ours: bool) -> Entry:
        """The next event, with the counter's number."""
        raise NotImplementedError

    def caught_up(self, url: str) -> list[Entry]:
        """What a new socket is sent first."""
        return []

    def feed(self, url: str) -> Page:
        """A page of the log."""
        raise NotImplementedError

    def mangled(self, entry: Entry) -> tuple[Mapping[str, object], bool, bool]:
        """The frame with something else in the number's place; whether that counts as bad, and whether it identifies the event for ever."""
        raise NotImplementedError

    pong: ClassVar[Mapping[str, object]] = {"type": "pong"}
    listed_garbage: ClassVar[Mapping[str, object]] = {"type": "x"}

    # -- clock -------------------------------------------------------------------------------------------------------

    def stamp(self) -> str:
        """The server's wall clock, RFC 3339; no two are alike."""
        self._serial += 1
        wall_s = self._base_wall_s + self.timeline.now + self.clock_offset_s
        whole = datetime.fromtimestamp(int(wall_s), UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{whole}.{int(wall_s % 1 * 1000):03d}{self._serial:06d}Z"

    # -- traffic -----------------------------------------------------------------------------------------------------

    def write(self, ours: bool = True) -> None:
        """One event into the log and to every socket."""
        if self.faults.invent and self.rng.random() < self.faults.invent:
            self.counter += 1
            self._show(self.entry(True), invented=True)
        self.counter += 1
        entry = self.entry(ours)
        self.log.append(entry)
        self.ledger.add(Written(self.timeline.now, entry.row))
        if self._sockets and entry.row.ours:
            self._live(entry)

    def elsewhere(self, count: int) -> None:
        """Other workspaces write: the counter of the whole server moves on."""
        self.counter += count

    def _live(self, entry: Entry) -> None:
        faults, chance = self.faults, self.rng.random
        if faults.garbage and chance() < faults.garbage:
            self._garbage()
        if faults.stopped or (faults.skip and chance() < faults.skip):
            return
        if faults.bad_number and chance() < faults.bad_number:
            body, bad, strong = self.mangled(entry)
            self._serial += 1
            fact = FeedFrame(Kind.EVENT, Label.LIVE, self.life, None, bad, f"mangled {self._serial}", strong)
            self._broadcast(msgspec.json.encode(body), fact)
            return
        if faults.straggle and chance() < faults.straggle:
            links = tuple(self._sockets.values())
            self.timeline.after(self.rng.uniform(0.1, 6.0), lambda: self._straggler(entry, links))
            return
        if faults.swap and self._held is None and chance() < faults.swap:
            self._held = entry
            return
        held, self._held = self._held, None
        self._show(entry)
        if faults.duplicate and chance() < faults.duplicate:
            self._show(entry)
        if held is not None:
            self._show(held)

    def _show(self, entry: Entry, invented: bool = False) -> None:
        row = entry.row
        fact = FeedFrame(Kind.EVENT, Label.LIVE, row.life, row.number, identity=row.identity, strong=True, invented=invented)
        self._broadcast(msgspec.json.encode(entry.frame), fact)

    def _straggler(self, entry: Entry, links: tuple[Link, ...]) -> None:
        row = entry.row
        for link in links:
            if self._sockets.get(link.connection) is link:
                fact = FeedFrame(Kind.EVENT, Label.LIVE, row.life, row.number, identity=row.identity, strong=True)
                self._write(link, msgspec.json.encode(entry.frame), fact)

    def _garbage(self) -> None:
        for link in tuple(self._sockets.values()):
            if self.rng.random() < 0.2:
                self._write(link, b"\x00\x01\x02", FeedFrame(Kind.GARBAGE), binary=True)
            else:
                self._write(link, self.rng.choice(GARBAGE), FeedFrame(Kind.GARBAGE))

    def _broadcast(self, data: bytes, fact: FeedFrame) -> None:
        for link in tuple(self._sockets.values()):
            self._write(link, data, fact)

    def _write(self, link: Link, data: bytes, fact: FeedFrame, binary: bool = False) -> None:
        """To one socket; a reader that stalls overflows the buffer (wire: relayfile §3.5)."""
        if link.down.frozen and link.down.queued >= self.buffer:
            self.overflows += 1
            link.drop("overflow", 1013, flush=True)
            return
        link.write(data, fact, binary)

    def release(self) -> None:
        """Send what a swap still holds back."""
        held, self._held = self._held, None
        if held is not None:
            self._show(held)

    # -- sockets -----------------------------------------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        """A socket: subscribed, then caught up, and only then is anything read from it."""
        for entry in self.caught_up(self.dials[link.connection].url):
            row = entry.row
            if self.faults.short_catch_up and self.rng.random() < self.faults.short_catch_up:
                continue
            fact = FeedFrame(Kind.EVENT, Label.STORE, row.life, row.number, identity=row.identity, strong=True)
            link.write(msgspec.json.encode(entry.frame), fact)
        self._sockets[link.connection] = link

    def detach(self, link: Link) -> None:
        """A socket is gone."""
        self._sockets.pop(link.connection, None)

    def hear(self, link: Link, data: bytes) -> None:
        """A client frame."""
        if msgspec.json.decode(data) != {"type": "ping"} or self.faults.deaf:
            return
        if self.faults.slow_pong_s:
            self.timeline.after(self.rng.uniform(0.0, self.faults.slow_pong_s), lambda: self._pong(link))
        else:
            self._pong(link)

    def _pong(self, link: Link) -> None:
        if self._sockets.get(link.connection) is link:
            self._write(link, msgspec.json.encode(self.pong), FeedFrame(Kind.PONG))

    def restart(self, memory: bool) -> None:
        """The process dies and comes back, with its log or without."""
        for link in tuple(self._sockets.values()):
            link.drop("network", None, flush=self.rng.random() < 0.5)
        self._sockets.clear()
        self._held = None
        if memory:
            self.life += 1
            self.counter = 0
            self.log = []

    # -- the feed ----------------------------------------------------------------------------------------------------

    def page(self, entries: list[Entry], next_after: int | None, newest: int | None, extra: Mapping[str, object]) -> Page:
        """An answer, perhaps with rows in it that are none."""
        listed = [entry.listed for entry in entries]
        malformed = 0
        if self.faults.page_rows and self.rng.random() < self.faults.page_rows:
            malformed = self.rng.randint(1, 3)
            for _ in range(malformed):
                listed.insert(self.rng.randint(0, len(listed)), self.listed_garbage)
        body = msgspec.json.encode({"events": listed, **extra})
        rows = tuple(sorted((entry.row for entry in entries), key=lambda row: row.number))
        return Page(body, self.life, rows, next_after, newest, malformed)


class RelayfileServer(Server):
    """Numbers of one counter for all workspaces; the socket catches up by itself (wire: relayfile §3, §4)."""

    listed_garbage: ClassVar[Mapping[str, object]] = {"eventId": "7", "type": "file.updated", "path": "/docs/q"}

    def entry(self, ours: bool) -> Entry:
        """A file changed."""
        path = self.rng.choice(OURS if ours or not self.hidden else OTHERS)
        stamp = self.stamp()
        number = self.counter
        listed = {"eventId": f"evt_{number}", "type": "file.updated", "path": path, "revision": f"rev_{number}", "origin": "agent_write"}
        listed |= {"correlationId": "", "timestamp": stamp}
        frame = {**listed, "content": "x", "inlineContent": True}
        return Entry(Row(self.life, number, f"{self.life}:{number}", not self.hidden or path in OURS), frame, listed)

    def mangled(self, entry: Entry) -> tuple[Mapping[str, object], bool, bool]:
        """Another id, or none: then what it says identifies it, with its time."""
        return {**entry.frame, "eventId": self.rng.choice(BAD_IDS), "timestamp": self.stamp()}, True, True

    def caught_up(self, url: str) -> list[Entry]:
        """Everything behind the cursor; nothing if the cursor is unknown."""
        query = parse_qs(urlsplit(url).query)
        ours = [entry for entry in self.log if entry.row.ours]
        if "cursor" in query:
            index = self._index(query["cursor"][0])
            return [] if index is None else [entry for entry in self.log[index + 1 :] if entry.row.ours]
        return [] if query.get("from") == ["now"] else ours[-LEGACY:]

    def _index(self, cursor: str) -> int | None:
        return next((index for index, entry in enumerate(self.log) if f"evt_{entry.row.number}" == cursor), None)

    def feed(self, url: str) -> Page:
        """`/fs/events`: an unknown cursor gives the log from its beginning; downwards it gives nothing."""
        query = parse_qs(urlsplit(url).query)
        limit = min(int(query.get("limit", ["200"])[0]), self.page_rows)
        index = self._index(query["cursor"][0]) if "cursor" in query else None
        if query.get("direction") == ["desc"]:
            chosen = self.log[::-1][:limit]
            following = chosen[-1].row.number if len(self.log) > limit else None
            extra = None if following is None else f"evt_{following}"
            return self.page(chosen, following, None, {"nextCursor": extra})
        begin = 0 if index is None else index + 1
        chosen = self.log[begin : begin + limit]
        following = chosen[-1].row.number if begin + limit < len(self.log) else None
        return self.page(chosen, following, None, {"nextCursor": None if following is None else f"evt_{following}"})


class ObserverServer(Server):
    """Numbers of the workspace alone, kept for ever; a token may not see every row (wire: relaycast §12, dialect C)."""

    listed_garbage: ClassVar[Mapping[str, object]] = {"type": "message.created", "created_at": "x"}

    def entry(self, ours: bool) -> Entry:
        """A message."""
        stamp, number = self.stamp(), self.counter
        kind = self.rng.choice(("message.created", "message.reacted", "agent.status.active"))
        listed = {"seq": number, "type": kind, "channel_id": "c_1", "payload": {"text": "x"}, "created_at": stamp}
        frame = {"type": kind, "seq": number, "channel": "general", "text": f"{stamp}", "timestamp": stamp}
        return Entry(Row(self.life, number, f"{self.life}:{number}", ours or not self.hidden), frame, listed)

    def mangled(self, entry: Entry) -> tuple[Mapping[str, object], bool, bool]:
        """Another number, or none."""
        if self.rng.random() < 0.3:
            frame = {**entry.frame, "id": f"e_{self.stamp()}"}
            del frame["seq"]
            return frame, False, True
        return {**entry.frame, "seq": self.rng.choice(BAD_SEQS), "text": self.stamp()}, True, False

    def write(self, ours: bool = True) -> None:
        """An event; if it could not be written to the log it is shown without number."""
        if self.faults.unlogged and self.rng.random() < self.faults.unlogged:
            self._unlogged()
            return
        super().write(ours)

    def _unlogged(self) -> None:
        stamp = self.stamp()
        frame: dict[str, object] = {"type": "message.created", "text": stamp, "timestamp": stamp}
        strong = self.rng.random() < 0.5
        if strong:
            frame["id"] = f"e_{stamp}"
        self._broadcast(msgspec.json.encode(frame), FeedFrame(Kind.EVENT, Label.LIVE, self.life, identity=stamp, strong=strong))

    def feed(self, url: str) -> Page:
        """`/v1/workspace/events`: so many rows are looked at, and those that the token may see are shown."""
        query = parse_qs(urlsplit(url).query)
        since, limit = int(query.get("since", ["0"])[0]), min(int(query.get("limit", ["200"])[0]), self.page_rows)
        behind = [entry for entry in self.log if entry.row.number > since]
        looked = behind[:limit]
        newest = self.log[-1].row.number if self.log else 0
        extra: dict[str, object] = {"latest_seq": newest}
        following = looked[-1].row.number if len(behind) > limit else None
        if following is not None:
            extra["next_since"] = following
        return self.page([entry for entry in looked if entry.row.ours], following, newest, extra)

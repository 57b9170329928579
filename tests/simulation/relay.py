"""A simulated Relaycast ring server for one watched agent, on simulated time (wire: relaycast §1 to §6).

What belongs here: what the server does and the knobs that make it do it wrongly. It records facts and judges nothing. Frames are real JSON bytes.
"""

from __future__ import annotations

import enum
import math
import random
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from tests.simulation.facts import Pushed, Served
from tests.simulation.harness.facts import AckFacts, Frame, Kind, Label, Ledger
from tests.simulation.harness.network import Link, Peer, Timeline

SNOWFLAKE_EPOCH_MS = 1735689600000
WATCHED = "watch"
OTHERS = ("alice", "bob", "carol")
BAD_NUMBERS: tuple[object, ...] = ("99", 7.5, -3, 0, True, None, 2**53)
GARBAGE: tuple[bytes, ...] = (b'"x"', b"[]", b'{"no":"type"}', b"{", b"", b"\xff\xfe", b"null", b'{"type":7}')


class AckFault(enum.StrEnum):
    """How an acknowledgement goes wrong."""

    NONE = "none"
    EARLY = "early"  # before the replay instead of after it
    MISSING = "missing"
    WRONG_AFTER = "wrong_after"
    WRONG_REPLAYED = "wrong_replayed"
    WRONG_CURRENT = "wrong_current"  # below the cursor


class CutThen(enum.StrEnum):
    """What follows a replay that stops short."""

    CLAIM_ALL = "claim_all"  # an acknowledgement that counts what was not sent
    CLAIM_SENT = "claim_sent"  # an acknowledgement that counts what was sent
    SILENCE = "silence"
    DROP = "drop"


class Faults(msgspec.Struct):
    """The server's knobs; all off by default. Chances are per live frame."""

    skip: float = 0.0
    duplicate: float = 0.0
    swap: float = 0.0
    straggle: float = 0.0
    bad_number: float = 0.0
    false_jump: float = 0.0
    garbage: float = 0.0
    stopped: bool = False
    deaf: bool = False  # pings are not answered
    cut_after: float | None = None  # share of the ring frames that are still sent
    cut_then: CutThen = CutThen.SILENCE
    ack: AckFault = AckFault.NONE
    database_failing: bool = False


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event in the ring: its payload as first written."""

    number: int
    data: bytes
    fact: Frame


class Row(msgspec.Struct, frozen=True, gc=False):
    """One database row: whole second, body without stamps. `fact` as it is told when replayed."""

    second: int
    data: bytes
    fact: Frame


class Relay(Peer[Link]):
    """Counter, ring and sockets of the watched agent; rows of everybody."""

    def __init__(
        self,
        timeline: Timeline,
        ledger: Ledger,
        rng: random.Random,
        ring_size: int = 500,
        page_limit: int = 1000,
        query_s: float = 0.02,
        base_wall_s: float = 1_781_000_000.0,
    ) -> None:
        self.timeline = timeline
        self.ledger = ledger
        self.rng = rng
        self.ring_size = ring_size
        self.page_limit = page_limit
        self.query_s = query_s
        self.clock_offset_s = 0.0
        self.faults = Faults()
        self.epoch = 1
        self.counter = 0
        self.requests = 0
        self.on_drop: Callable[[Link], None] | None = None
        self._base_wall_s = base_wall_s
        self._ring: deque[Entry] = deque(maxlen=ring_size)
        self._rows: dict[str, list[Row]] = {"messages": [], "dms": [], "reactions": []}
        self._sockets: dict[int, Link] = {}
        self._lane = 0
        self._high_ms = 0
        self._serial = 0
        self._held: Entry | None = None
        self._present = set(OTHERS)
        self._last_message: str | None = None

    # -- clocks and ids ----------------------------------------------------------------------------------------------

    def wall_s(self) -> float:
        """The server's wall clock (Unix seconds)."""
        return self._base_wall_s + self.timeline.now + self.clock_offset_s

    def _snowflake(self) -> tuple[str, float]:
        """A new id and the time inside it; a clock that steps back does not lower it (wire: relaycast §3.3)."""
        self._high_ms = max(self._high_ms, int(self.wall_s() * 1000))
        self._serial += 1
        return str(((self._high_ms - SNOWFLAKE_EPOCH_MS) << 22) | (1 << 12) | (self._serial & 0xFFF)), self._high_ms / 1000

    @staticmethod
    def _event_id(message_id: str) -> str:
        return str(uuid.UUID(int=(int(message_id) * 0x9E3779B97F4A7C15F39CC0605CEDC835) & (2**128 - 1), version=5))

    # -- traffic -----------------------------------------------------------------------------------------------------

    def message(self, author: str, thread: bool = False) -> None:
        """A channel message or thread reply: created and, for others than the author, accepted; their order is not fixed."""
        message_id, time_s = self._snowflake()
        event_id = self._event_id(message_id)
        inner: dict[str, object] = {"id": message_id, "agent_id": f"a_{author}", "agent_name": author, "text": f"m{self._serial}"}
        body: dict[str, object] = {"id": event_id, "type": "thread.reply" if thread else "message.created", "channel": "general"}
        if thread:
            body["parent_id"] = self._last_message or message_id
        else:
            inner |= {"attachments": []}
            self._last_message = message_id
        row = body | {"message": inner}
        live = body | {"message": inner | ({} if thread else {"injection_mode": "wait"})}
        self._store("messages", row, event_id, True, time_s)
        self._both(
            author,
            lambda: self._push(live, event_id, True, time_s, lane=True),
            lambda: self._accepted(message_id, "message"),
        )

    def direct(self, author: str, thread: bool = False) -> None:
        """A DM; a thread reply inside a DM is live `thread.reply` and replays as `dm.received` with the same id (wire: relaycast §5)."""
        message_id, time_s = self._snowflake()
        event_id = self._event_id(message_id)
        inner: dict[str, object] = {"id": message_id, "agent_id": f"a_{author}", "agent_name": author, "text": f"d{self._serial}"}
        row: dict[str, object] = {"id": event_id, "type": "dm.received", "conversation_id": "c_1", "message": inner}
        live: dict[str, object] = dict(row)
        if thread:
            live = {"id": event_id, "type": "thread.reply", "channel": "dm", "parent_id": message_id, "message": inner}
        self._store("dms", row, event_id, True, time_s)
        self._both(
            author, lambda: self._push(live, event_id, True, time_s), lambda: self._accepted(message_id, "dm")
        )

    def reaction(self, author: str) -> None:
        """A reaction: no id on the wire. Each one differs in its content, so that content identifies it."""
        self._serial += 1
        target = self._last_message or self._snowflake()[0]
        body: dict[str, object] = {
            "type": "message.reacted",
            "message_id": target,
            "emoji": f"e{self._serial}",
            "agent_name": author,
            "action": "added",
        }
        content = f"reaction:{self._serial}"
        self._store("reactions", body, content, False, None)
        self._push(body, content, False, None)

    def presence(self, agent: str) -> None:
        """Another agent comes or goes; only agents that are present are told (wire: relaycast §3.1)."""
        self._present ^= {agent}
        if self._sockets:
            self._status(agent, "active" if agent in self._present else "offline")

    def channel_updated(self) -> None:
        """An event that exists nowhere but in the ring, and has no id."""
        self._serial += 1
        body: dict[str, object] = {"type": "channel.updated", "channel": {"name": "general", "topic": f"t{self._serial}"}}
        self._push(body, f"topic:{self._serial}", False, None, lane=True)

    def foreign(self) -> None:
        """A row that was never pushed to us and that a database replay shows all the same: of a channel joined meanwhile."""
        message_id, time_s = self._snowflake()
        event_id = self._event_id(message_id)
        inner = {"id": message_id, "agent_id": "a_zoe", "agent_name": "zoe", "text": "f", "attachments": []}
        self._store("messages", {"id": event_id, "type": "message.created", "channel": "joined", "message": inner}, event_id, True, time_s)

    def jump(self, by: int) -> None:
        """The counter skips numbers that nobody ever gets."""
        self.counter += by

    def _both(self, author: str, first: Callable[[], None], second: Callable[[], None]) -> None:
        if author == WATCHED:
            first()
        elif self.rng.random() < 0.7:
            second()
            first()
        else:
            first()
            second()

    def _accepted(self, message_id: str, reason: str) -> None:
        delivery, time_s = self._snowflake()
        body: dict[str, object] = {"type": "delivery.accepted", "delivery_id": f"del_{delivery}", "message_id": message_id, "reason": reason}
        self._push(body, f"del_{delivery}", True, time_s)

    def _status(self, agent: str, status: str) -> None:
        wall_ms = round(self.wall_s() * 1000)
        stamp = datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{wall_ms % 1000:03d}Z"
        body: dict[str, object] = {
            "type": f"agent.status.{status}",
            "agent": {"name": agent},
            "agent_name": agent,
            "status": status,
            "subject_agent_id": f"a_{agent}",
            "timestamp": stamp,
        }
        self._push(body, f"{agent}:{status}:{stamp}", False, wall_ms / 1000)

    def _store(self, kind: str, body: dict[str, object], identity: str, strong: bool, time_s: float | None) -> None:
        fact = Frame(Kind.EVENT, Label.STORE, self.epoch, identity=identity, strong=strong, time_s=time_s, page_kind=kind)
        self._rows[kind].append(Row(math.floor(self.wall_s()), msgspec.json.encode(body | {"replayed": True}), fact))

    # -- live delivery (wire: relaycast §4) --------------------------------------------------------------------------

    def _push(self, body: dict[str, object], identity: str, strong: bool, time_s: float | None, lane: bool = False) -> None:
        self.counter += 1
        stamps: dict[str, object] = {}
        if lane:
            self._lane += 1
            stamps["channel_seq"] = self._lane
        stamps["agent_seq"] = self.counter
        fact = Frame(
            Kind.EVENT,
            Label.LIVE,
            self.epoch,
            self.counter,
            identity=identity,
            strong=strong,
            time_s=time_s,
            lane=self._lane if lane and isinstance(body["channel"], str) else None,
        )
        entry = Entry(self.counter, msgspec.json.encode(body | stamps), fact)
        self._ring.append(entry)
        self.ledger.add(Pushed(self.timeline.now, self.epoch, self.counter, identity, str(body["type"])))
        if self._sockets:
            self._live(entry, body | stamps)

    def _live(self, entry: Entry, payload: dict[str, object]) -> None:
        faults, chance = self.faults, self.rng.random
        if faults.garbage and chance() < faults.garbage:
            self._garbage()
        if faults.stopped or (faults.skip and chance() < faults.skip):
            return
        if faults.bad_number and chance() < faults.bad_number:
            bad = self.rng.choice((*BAD_NUMBERS, float(entry.number)))
            fact = entry.fact
            if bad != entry.number or isinstance(bad, bool):  # 12.0 is 12
                fact = msgspec.structs.replace(fact, number=None, bad_number=True)
            entry = Entry(entry.number, msgspec.json.encode(payload | {"agent_seq": bad}), fact)
        elif faults.false_jump and chance() < faults.false_jump:
            number = entry.number + 1_000_000 + self.rng.randrange(1000)
            fact = msgspec.structs.replace(entry.fact, number=number)
            entry = Entry(entry.number, msgspec.json.encode(payload | {"agent_seq": number}), fact)
        if faults.straggle and chance() < faults.straggle:
            sockets, epoch = tuple(self._sockets.values()), self.epoch
            self.timeline.after(self.rng.uniform(2.5, 12.0), lambda: self._straggler(entry, sockets, epoch))
            return
        if faults.swap and self._held is None and chance() < faults.swap:
            self._held = entry
            return
        held, self._held = self._held, None
        self._broadcast(entry.data, entry.fact)
        if faults.duplicate and chance() < faults.duplicate:
            self._broadcast(entry.data, entry.fact)
        if held is not None:
            self._broadcast(held.data, held.fact)

    def _garbage(self) -> None:
        """Something that no correct server sends; or an event of an unknown type without any stamp, which is one."""
        choice = self.rng.randrange(len(GARBAGE) + 2)
        for link in tuple(self._sockets.values()):
            if choice < len(GARBAGE):
                link.write(GARBAGE[choice], Frame(Kind.GARBAGE))
            elif choice == len(GARBAGE):
                link.write(b"\x00\x01\x02", Frame(Kind.GARBAGE), binary=True)
            else:
                link.write(b'{"type":"harness.tick"}', Frame(Kind.EVENT, Label.LIVE, self.epoch, identity="harness.tick"))

    def _straggler(self, entry: Entry, sockets: tuple[Link, ...], epoch: int) -> None:
        if epoch == self.epoch:
            for link in sockets:
                if link.connection in self._sockets:
                    link.write(entry.data, entry.fact)

    def _broadcast(self, data: bytes, fact: Frame) -> None:
        for link in tuple(self._sockets.values()):
            link.write(data, fact)

    def release(self) -> None:
        """Send what a swap still holds back."""
        held, self._held = self._held, None
        if held is not None:
            self._broadcast(held.data, held.fact)

    # -- sockets -----------------------------------------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        """A socket: the agent becomes present, and if it was not, everybody present is told, itself included."""
        absent = not self._sockets
        self._sockets[link.connection] = link
        if absent:
            self._status(WATCHED, "active")

    def detach(self, link: Link) -> None:
        """A socket is gone."""
        self._sockets.pop(link.connection, None)
        if not self._sockets:
            self._held = None

    def hear(self, link: Link, data: bytes) -> None:
        """A client frame; what is not understood is ignored silently (wire: relaycast §2)."""
        try:
            said = msgspec.json.decode(data)
        except msgspec.DecodeError:
            return
        if not isinstance(said, dict):
            return
        if said.get("type") == "ping" and not self.faults.deaf:
            link.write(b'{"type":"pong"}', Frame(Kind.PONG))
        elif said.get("type") == "resync":
            after = said.get("last_seen_seq")
            if isinstance(after, int | float) and not isinstance(after, bool):
                self._resync(link, after, said.get("since"))

    def restart(self) -> None:
        """The process dies and comes back: counters and rings cleared, rows kept, nothing announced (wire: relaycast §6)."""
        for link in tuple(self._sockets.values()):
            link.drop("network", None, flush=self.rng.random() < 0.5)
        self._sockets.clear()
        self.epoch += 1
        self.counter = self._lane = 0
        self._ring.clear()
        self._held = None

    # -- replay (wire: relaycast §5) ---------------------------------------------------------------------------------

    def _resync(self, link: Link, after: float, since: object) -> None:
        self.requests += 1
        request = self.requests
        _, gap = self._after(after)
        self.ledger.add(Served(self.timeline.now, link.connection, request, after, gap))
        text = since if isinstance(since, str) else None
        if self.faults.ack is AckFault.EARLY:
            if gap and text is not None:
                self.timeline.after(self.query_s, lambda: self._early(link, request, after, text))
            else:
                self._early(link, request, after, text)
            return
        entries, gap = self._after(after)
        sent, whole = self._burst(link, request, entries)
        if not whole and self.faults.cut_then is not CutThen.CLAIM_ALL and self.faults.cut_then is not CutThen.CLAIM_SENT:
            if self.faults.cut_then is CutThen.DROP:
                link.drop("peer_error", 1011, flush=True)
            return
        claimed = len(entries) if self.faults.cut_then is CutThen.CLAIM_ALL else sent
        true = whole or self.faults.cut_then is CutThen.CLAIM_SENT

        def finish() -> None:
            rows = self._query(text) if gap and text is not None else []
            for row in rows:
                link.write(row.data, msgspec.structs.replace(row.fact, request=request))
            self._acknowledge(link, request, after, claimed + len(rows), gap, true)

        if gap and text is not None:
            self.timeline.after(self.query_s, finish)
        else:
            finish()

    def _after(self, after: float) -> tuple[list[Entry], bool]:
        if after >= self.counter:
            return [], False
        oldest = self._ring[0].number if self._ring else self.counter + 1
        return [entry for entry in self._ring if entry.number > after], after < oldest - 1

    def _burst(self, link: Link, request: int, entries: list[Entry]) -> tuple[int, bool]:
        """Send ring frames; how many, and whether that was all."""
        count = len(entries)
        if self.faults.cut_after is not None:
            count = min(count - 1, int(len(entries) * self.faults.cut_after)) if entries else 0
        for entry in entries[:count]:
            link.write(entry.data, msgspec.structs.replace(entry.fact, label=Label.RING, request=request))
        return count, count == len(entries)

    def _early(self, link: Link, request: int, after: float, since: str | None) -> None:
        entries, gap = self._after(after)
        rows = self._query(since) if gap and since is not None else []
        self._acknowledge(link, request, after, len(entries) + len(rows), gap, False)
        self._burst(link, request, entries)
        for row in rows:
            link.write(row.data, msgspec.structs.replace(row.fact, request=request))

    def _query(self, since: str) -> list[Row]:
        """Three bounded queries over whole seconds, merged by second."""
        if self.faults.database_failing:
            return []
        try:
            floor_s = math.floor(datetime.fromisoformat(since).timestamp())
        except ValueError:
            return []
        found: list[Row] = []
        for rows in self._rows.values():
            found += sorted((row for row in rows if row.second > floor_s), key=lambda row: row.second)[: self.page_limit]
        return sorted(found, key=lambda row: row.second)

    def _acknowledge(self, link: Link, request: int, after: float, replayed: int, gap: bool, true: bool) -> None:
        current, fault = self.counter, self.faults.ack
        if fault is AckFault.MISSING:
            return
        if fault is AckFault.WRONG_AFTER:
            after, true = after + 1, False
        elif fault is AckFault.WRONG_REPLAYED:
            replayed, true = max(0, replayed + self.rng.choice((-3, -2, -1, 1, 2, 5))), False
        elif fault is AckFault.WRONG_CURRENT:
            current, true = max(0, min(current, int(after)) - self.rng.randrange(0, 5)), False
        body = {"type": "resync_ack", "last_seen_seq": after, "current_seq": current, "replayed": replayed, "gap_detected": gap}
        facts = AckFacts(after, current, replayed, gap, true)
        link.write(msgspec.json.encode(body), Frame(Kind.ACK, request=request, ack=facts))

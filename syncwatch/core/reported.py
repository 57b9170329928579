"""A connection that another process has and tells of in a file: what was read of the file, again and again, becomes states, reasons and true counters.

Law: only what the file and the system prove. A process that is not there has no connection, whatever its file still says; a process whose heartbeats
stop has none either; one that sends and hears nothing is half-open. A file that cannot be read proves nothing: the last good picture is kept for a while.

Verdicts are passed when something was read, never by the clock alone: who was suspended looks first, and then judges. Times in the file become
monotonic when they are first seen, so that a clock that steps makes nothing older or younger.
"""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol as Interface

import msgspec

from syncwatch.core.effects import Effect, Effects, Field, Notice, Notify
from syncwatch.core.health import Component, Condition, Reason
from syncwatch.core.heartbeat import Heartbeat
from syncwatch.core.resume import ResumePoint, Totals
from syncwatch.core.snapshot import ConnectionSnapshot, LifetimeSnapshot, Moment, ReportSnapshot
from syncwatch.core.states import Anomaly, State
from syncwatch.core.timeline import Timeline
from syncwatch.core.wire import FrameKind, Numbering

KEEP_S = 10.0
"""So long the last good picture is believed while the file cannot be read or understood."""
FAILED_AFTER_S = 60.0
"""A process that is not back by then does not just restart: the longest pause of a host between two attempts."""
LATE_S = 2.0
"""A tick that comes later than this says that we were suspended: look first."""
REUSE_SLACK_S = 2.0
"""A start of a process is known to a clock tick, and the clock of the start is not the one of the file."""
AHEAD_S = 5.0
"""Times of the file that are so far in the future are worth a remark."""
CONNECTIONS_KNOWN = 4
"""So many of the writer's connections are recognised when the file shows them again."""
ANOMALY_NOTICE_S = 10.0
OTHERS = 0o077


class Process(enum.StrEnum):
    """What is known of the process that wrote the file."""

    UNKNOWN = "unknown"
    ALIVE = "alive"
    DEAD = "dead"
    REUSED = "reused"  # another process has its number
    ELSEWHERE = "elsewhere"  # it writes, but cannot be seen from here (another process namespace or machine)


class Advice(enum.StrEnum):
    """What to do, one line each. Here nothing is dialled and no credential held: the words for connections of our own would mislead."""

    FILE = "the host's file cannot be used: see the last failure, then check the file, its directory, and who may read them"
    NO_HOST = "no host runs that writes this file: start it, or check that it is the file of this branch"
    LOST = "the host has no connection now: it dials again, or hangs: look at the host's process, then at the branch"
    UNDECIDED = "the host's file has not proven a connection yet: the next heartbeat will, or the failure says why not"
    SILENT = "the host sends heartbeats and nothing arrives: look at the branch's process, then at what is between"
    NEVER_HEARD = "nothing has arrived since the host connected: look at the branch's process; older versions never answer, update them"
    RIVALS = "two hosts write this file in turns: end one of them"
    QUIET = "nothing has arrived for longer than configured: look at the branch"


class Picture(msgspec.Struct, frozen=True):
    """What the file says, checked. Wall times as the writer's clock had them, Unix seconds; counts are of the present connection."""

    pid: int
    connected_wall_s: float
    sent_wall_s: float
    heard_wall_s: float | None  # when anything last arrived
    reconnects: int
    sent: int
    received: int


class Sighting(msgspec.Struct, frozen=True):
    """What the system knows of a process. `start` tells it from any other one with its number; None: the system does not say."""

    alive: bool
    start: int | None = None
    started_wall_s: float | None = None


class Look(msgspec.Struct, frozen=True):
    """One reading of the file. Without a picture, `trouble` is why, a sentence; `missing`: there is no file, which is no trouble with reading it.

    `content` tells one bad content from another. `process` is None where the system cannot be asked.
    """

    picture: Picture | None = None
    trouble: str = ""
    missing: bool = False
    oversized: bool = False
    content: int = 0
    written_wall_s: float | None = None
    mode: int = 0o600
    process: Sighting | None = None


class ReportedSettings(msgspec.Struct, frozen=True):
    """How often the process sends a heartbeat and how long an answer may take; how long silence is fine (None: for ever). Seconds."""

    interval_s: float = 30.0
    timeout_s: float = 10.0
    stale_after_s: float | None = None

    @property
    def limit_s(self) -> float:
        """The age at which a heartbeat, or its answer, is overdue."""
        return self.interval_s + self.timeout_s


class Shown(Interface):
    """For showing: what kind of connection it is."""

    @property
    def name(self) -> str: ...
    @property
    def dialect(self) -> str: ...


class _Counted(msgspec.Struct):
    """The highest counts that the file has shown of one connection."""

    sent: int
    received: int


Key = tuple[int, float]
"""Which connection a picture is of: process and when it was made."""


class Reported:
    """The machine of one connection that is told of in the file at `path`."""

    component = Component.CONNECTION
    interval_s = KEEP_S

    def __init__(self, name: str, protocol: Shown, path: str, settings: ReportedSettings, resume: ResumePoint | None = None) -> None:
        self.name = name
        self.protocol = protocol
        self.path = path
        self.upstream = ""
        self.settings = settings
        self.timeline = Timeline()
        self.sent = 0
        self.received = 0
        self.reconnects = 0
        self.malformed = 0
        self.oversized = 0
        self.process = Process.UNKNOWN
        self.remarks: tuple[str, ...] = ()
        self._totals = None if resume is None else resume.totals
        self._offset_s: float | None = None
        self._started: Moment | None = None
        self._settled_once = False
        self._looked_s = math.inf  # inf: not running
        self._bad_since_s: float | None = None
        self._bad_content: int | None = None
        self._told_s: dict[Anomaly, float] = {}
        self._picture: Picture | None = None
        self._read: Moment | None = None
        self._written_wall_s: float | None = None
        self._known: OrderedDict[Key, _Counted] = OrderedDict()
        self._established: Moment | None = None
        self._sent_at: Moment | None = None
        self._heard_at: Moment | None = None
        self._echoed = False  # on any connection
        self._proof: tuple[int, int | None] | None = None  # number and start of the process that was seen alive
        self._dead_with: Picture | None = None  # what the file said when its process was last found dead
        self._written_since = 0  # how often it has said something else since
        self._rivals_s: tuple[float, float] | None = None  # when two processes were first and last seen to take turns
        self._failure: str | None = None
        self._advice = Advice.UNDECIDED
        self._odd: tuple[str, ...] = ()
        self._floor_s = -math.inf  # when the file was read before: what has changed since happened since
        self._no_beats = Heartbeat(settings.interval_s, settings.timeout_s).snapshot()
        self._out: list[Effect] = []

    # ------------------------------------------------------------------ inputs

    def wall(self, now: float, offset_s: float) -> Effects:
        """The wall clock is `now + offset_s`."""
        if self._offset_s is None:
            self.timeline.begin(now, now + offset_s)
            if self._totals is None:
                self._totals = Totals(now + offset_s)
        self._offset_s = offset_s
        return ()

    def start(self, now: float) -> Effects:
        """Begin: from now on the file is read."""
        if self.state is not State.IDLE:
            return ()
        self._started = self._at(now)
        self._looked_s = now
        self._move(now, State.CONNECTING, "start")
        return self._flush()

    def configure(self, now: float, settings: ReportedSettings) -> Effects:
        """New limits; the next look judges by them."""
        self.settings = settings
        return ()

    def remark(self, now: float, remarks: tuple[str, ...]) -> Effects:
        """What else is odd about the process's files, in sentences."""
        self.remarks = remarks
        return ()

    def looked(self, now: float, look: Look) -> Effects:
        """The file was read, or could not be."""
        if not self.active:
            return ()
        self._looked_s = now
        if look.picture is None:
            self._saw_nothing(now, look)
        else:
            self._bad_since_s = self._bad_content = None
            self._saw(now, look, look.picture)
        return self._flush()

    def tick(self, now: float) -> Effects:
        """Nothing was read for long: whoever reads hangs, or we were suspended."""
        if now < self.deadline:
            return ()
        hangs = now < self.deadline + LATE_S
        self._looked_s = now
        if hangs:
            self._down(now, f"the file could not be read within {KEEP_S:g} s", Advice.FILE)
        return self._flush()

    def stop(self, now: float) -> Effects:
        """Look no more."""
        if self.state is not State.CLOSED:
            self._looked_s = math.inf
            self._move(now, State.CLOSED, "stop")
        return self._flush()

    # ------------------------------------------------------------------ reading

    def _saw_nothing(self, now: float, look: Look) -> None:
        if look.missing:
            self._bad_since_s = self._bad_content = None
            self.process = Process.UNKNOWN
            self._down(now, "there is no such file: the host was stopped, or never connected", Advice.NO_HOST)
            return
        if look.content != self._bad_content:  # the same bad content is one anomaly, however often it is read
            self._bad_content = look.content
            kind = Anomaly.OVERSIZED if look.oversized else Anomaly.MALFORMED
            self.oversized += look.oversized
            self.malformed += not look.oversized
            if now - self._told_s.get(kind, -math.inf) >= ANOMALY_NOTICE_S:
                self._told_s[kind] = now
                self._notify(now, Notice.ANOMALY, kind=kind, detail=look.trouble)
        if self._bad_since_s is None:
            self._bad_since_s = now
        if self.state is State.CONNECTING:  # no good picture to believe meanwhile
            self._failure, self._advice = look.trouble, Advice.FILE
        if now - self._bad_since_s >= KEEP_S:
            self._down(now, look.trouble, Advice.FILE)

    def _saw(self, now: float, look: Look, picture: Picture) -> None:
        self._floor_s = -math.inf if self._read is None else self._read.now_s
        self._read, self._written_wall_s = self._at(now), look.written_wall_s
        self._look_remarks(now, look, picture)
        if self._outdated(picture):
            picture = self._picture or picture
        process = self._judged(look, picture)
        self._take(now, picture)
        self.process = process
        self._verdict(now, picture)

    def _outdated(self, picture: Picture) -> bool:
        """Whether the same process has shown a later connection already: something slow has written the old one once more."""
        now_shown = self._picture
        if now_shown is None or picture.pid != now_shown.pid or picture.connected_wall_s == now_shown.connected_wall_s:
            return False
        return (picture.pid, picture.connected_wall_s) in self._known

    def _judged(self, look: Look, picture: Picture) -> Process:
        """Whether the process that wrote this lives."""
        seen = look.process
        if seen is None:
            return Process.UNKNOWN
        found = Process.DEAD
        if seen.alive:
            found = Process.ALIVE if self._is_the_writer(look, picture, seen) else Process.REUSED
        if found is Process.ALIVE:
            self._proof, self._dead_with = (picture.pid, seen.start), None
            return found
        if self._dead_with is None or self._dead_with.pid != picture.pid:
            self._written_since = 0
        elif self._dead_with != picture:
            self._written_since += 1
        self._dead_with = picture
        if self.process is Process.ELSEWHERE or self._written_since >= self._writes_that_prove:
            return Process.ELSEWHERE
        return found

    @property
    def _writes_that_prove(self) -> int:
        """So many writes after its process was found dead prove that it only cannot be seen. One may be its last, which we read too early."""
        return 1 if self._proof is None else 2

    def _is_the_writer(self, look: Look, picture: Picture, seen: Sighting) -> bool:
        """A process that began after the last write has not written it; one that has another start than before is another one."""
        if self._proof is not None and self._proof[0] == picture.pid and seen.start is not None and self._proof[1] is not None:
            if seen.start == self._proof[1]:
                return True
            if self._picture is not None and self._picture.connected_wall_s == picture.connected_wall_s:
                return False
        written_s = max(picture.connected_wall_s, picture.sent_wall_s, look.written_wall_s or 0.0)
        return seen.started_wall_s is None or seen.started_wall_s <= written_s + REUSE_SLACK_S

    def _take(self, now: float, picture: Picture) -> None:
        """Counts and times."""
        before, key = self._picture, (picture.pid, picture.connected_wall_s)
        if before is None or key != (before.pid, before.connected_wall_s):
            self._another(now, picture, key)
        counted = self._known[key]
        self._known.move_to_end(key)
        self.sent += max(0, picture.sent - counted.sent)
        self.received += max(0, picture.received - counted.received)
        counted.sent, counted.received = max(counted.sent, picture.sent), max(counted.received, picture.received)
        if self._sent_at is None or before is None or before.sent_wall_s != picture.sent_wall_s:
            self._sent_at = self._then(now, picture.sent_wall_s)
        if picture.heard_wall_s is None:
            self._heard_at = None
        elif self._heard_at is None or before is None or before.heard_wall_s != picture.heard_wall_s:
            self._heard_at = self._then(now, picture.heard_wall_s)
            self._echoed = True
        self._picture = picture

    def _another(self, now: float, picture: Picture, key: Key) -> None:
        """The file tells of another connection than before."""
        first, returned = not self._known, key in self._known
        self._established = self._then(now, picture.connected_wall_s)
        if returned:  # of another process: two of them write this file in turns
            self._rivals_s = (self._rivals_s[0] if self._rivals_s is not None and self._rivalling(now) else now, now)
        else:
            ours = not first or (self._started is not None and picture.connected_wall_s >= self._started.wall_s)
            self._known[key] = _Counted(0, 0) if ours else _Counted(picture.sent, picture.received)
            if len(self._known) > CONNECTIONS_KNOWN:
                self._known.popitem(last=False)
            self.reconnects += not first
        if self.state is State.OPEN and not returned:
            self._move(now, State.RECONNECTING, "the host has another connection by now")

    def _verdict(self, now: float, picture: Picture) -> None:
        assert self._sent_at is not None
        age_s = now - self._sent_at.now_s
        overdue = age_s > self.settings.limit_s
        gone = self.process in (Process.DEAD, Process.REUSED)
        if gone and self._undecided and not overdue:
            self._failure = f"process {picture.pid} cannot be seen: within {self.settings.limit_s:g} s of its last heartbeat the file shows whether it lives"
            self._advice = Advice.UNDECIDED
        elif gone:
            more = ": another one has its number by now" if self.process is Process.REUSED else ""
            self._down(now, f"the host's process {picture.pid} is gone{more}", Advice.NO_HOST)
        elif overdue:
            self._down(now, f"the host's last heartbeat was {age_s:.0f} s ago: it has lost its connection, or hangs", Advice.LOST)
        else:
            self._failure = None
            if self.state is not State.OPEN:
                self._settled_once = True
                self._move(now, State.OPEN, "the host is connected")

    @property
    def _undecided(self) -> bool:
        """No process of this file was ever seen from here: perhaps none can be."""
        return self._proof is None and self.state is not State.OPEN

    def _down(self, now: float, words: str, advice: Advice) -> None:
        """There is no connection; unless it is only lost, there is no process either that could make one, as far as can be seen."""
        self._failure, self._advice = words, advice
        if self.state in (State.CONNECTING, State.OPEN):
            self._move(now, State.RECONNECTING, words)
        elif self.state is State.RECONNECTING and advice is not Advice.LOST and now - (self.timeline.entered_s or 0.0) >= FAILED_AFTER_S:
            self._move(now, State.FAILED, words)

    def _look_remarks(self, now: float, look: Look, picture: Picture) -> None:
        found = []
        if look.mode & OTHERS:
            found.append(f"others may use the file: its mode is {look.mode & 0o7777:04o}")
        ahead_s = max(picture.connected_wall_s, picture.sent_wall_s, picture.heard_wall_s or 0.0) - self._at(now).wall_s
        if ahead_s > AHEAD_S:
            found.append("its times are ahead of our clock")
        self._odd = tuple(found)

    # ------------------------------------------------------------------ outputs

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.timeline.state

    @property
    def deadline(self) -> float:
        """When something must have been read."""
        return self._looked_s + KEEP_S

    @property
    def active(self) -> bool:
        """Started and not stopped."""
        return self.state not in (State.IDLE, State.CLOSED)

    @property
    def settled_once(self) -> bool:
        """It was seen connected."""
        return self._settled_once

    @property
    def possible_reasons(self) -> Sequence[Reason]:
        """Every reason that it can ever report, gravest first."""
        possible = {Reason.FAILED, Reason.CONNECTING, Reason.RECONNECTING, Reason.HEARTBEAT_TIMEOUT, Reason.NO_ECHO, Reason.DUPLICATE_CLIENT}
        if self.settings.stale_after_s is not None:
            possible.add(Reason.STALE)
        return tuple(reason for reason in Reason if reason in possible)

    def reasons(self, now: float) -> tuple[Condition, ...]:
        """What is wrong, as far as the last look knows."""
        told = {State.CONNECTING: Reason.CONNECTING, State.RECONNECTING: Reason.RECONNECTING, State.FAILED: Reason.FAILED}
        found: list[Condition] = []
        if self.state in told:
            found.append(Condition(told[self.state], self.timeline.entered_s or 0.0, self._advice))
        if self.state is State.OPEN:
            found += self._silence()
        if self.active and self._rivals_s is not None and self._rivalling(self._looked_s):
            found.append(Condition(Reason.DUPLICATE_CLIENT, self._rivals_s[0], Advice.RIVALS))
        return tuple(found)

    def _rivalling(self, now: float) -> bool:
        """Whether two processes have taken turns lately."""
        return self._rivals_s is not None and now - self._rivals_s[1] < 3.0 * self.settings.interval_s

    def _silence(self) -> list[Condition]:
        """What it means that nothing arrives, at the time of the last look."""
        at_s, opened, heard = self._looked_s, self._established, self._heard_at
        assert opened is not None
        found: list[Condition] = []
        if heard is None:
            due_s, reason = opened.now_s + self.settings.timeout_s, Reason.HEARTBEAT_TIMEOUT if self._echoed else Reason.NO_ECHO
        else:
            due_s, reason = heard.now_s + self.settings.limit_s, Reason.HEARTBEAT_TIMEOUT
        if at_s > due_s:
            found.append(Condition(reason, due_s, Advice.NEVER_HEARD if reason is Reason.NO_ECHO else Advice.SILENT))
        stale_s = self.settings.stale_after_s
        if stale_s is not None and at_s >= (heard or opened).now_s + stale_s:
            found.append(Condition(Reason.STALE, (heard or opened).now_s + stale_s, Advice.QUIET))
        return found

    def resume_point(self, now: float) -> ResumePoint | None:
        """Its totals: there is no position to resume from. None before the first wall time."""
        if self._offset_s is None:
            return None
        return ResumePoint(saved_wall_s=now + self._offset_s, upstream=self.upstream, totals=self._lifetime())

    def _lifetime(self) -> Totals:
        before = self._totals or Totals(0.0)
        return msgspec.structs.replace(before, reconnects=before.reconnects + self.reconnects)

    def snapshot(self) -> ConnectionSnapshot:
        """An immutable picture; what the file cannot tell is at 0, and the exposition leaves it out."""
        beats, nothing = self._no_beats, self._no_beats.rtt
        frames: Mapping[FrameKind, int] = {FrameKind.UNKNOWN: self.received}
        return ConnectionSnapshot(
            name=self.name,
            protocol=self.protocol.name,
            dialect=self.protocol.dialect,
            numbering=Numbering.NONE,
            upstream=self.upstream,
            timeline=self.timeline.snapshot(),
            started=self._started,
            established=self._established if self.state is State.OPEN else None,
            attempts=0,
            attempt_failures={},
            last_failure=self._failure,
            next_attempt_now_s=None,
            reconnects=self.reconnects,
            disconnects={},
            close_codes={},
            consecutive_failures=0,
            handshake=nothing,
            last_handshake_s={},
            token_expiry_wall_s=None,
            certificate_expiry_wall_s=None,
            frames_received=frames,
            frames_sent={FrameKind.HEARTBEAT: self.sent},
            received_bytes=0,
            sent_bytes=0,
            anomalies={Anomaly.MALFORMED: self.malformed, Anomaly.OVERSIZED: self.oversized},
            last_frame=self._heard_at,
            last_event=None,
            verifications={},
            verified_now_s=None,
            heartbeat=msgspec.structs.replace(beats, sent=self.sent, last_sent=self._sent_at, last_ack=self._heard_at),
            clock_offset_s=None,
            event_latency=None,
            continuity=None,
            canary=None,
            lifetime=LifetimeSnapshot(**msgspec.structs.asdict(self._lifetime())),
            settled_once=self._settled_once,
            report=ReportSnapshot(
                path=self.path,
                read=self._read,
                written=self._written(),
                pid=None if self._picture is None else self._picture.pid,
                process=self.process,
                reconnects=None if self._picture is None else self._picture.reconnects,
                remarks=(*self._odd, *self.remarks),
            ),
        )

    def _written(self) -> Moment | None:
        if self._read is None or self._written_wall_s is None:
            return None
        return Moment(self._read.now_s - max(0.0, self._read.wall_s - self._written_wall_s), self._written_wall_s)

    # ------------------------------------------------------------------ telling

    def _at(self, now: float) -> Moment:
        return Moment(now, now + (self._offset_s or 0.0))

    def _then(self, now: float, wall_s: float) -> Moment:
        """A time that the file shows for the first time, on our clock: not in the future, and not before the file was last read without it."""
        return Moment(max(self._floor_s, now - max(0.0, self._at(now).wall_s - wall_s)), wall_s)

    def _move(self, now: float, to: State, reason: str) -> None:
        before = self.state
        self.timeline.move(now, self._at(now).wall_s, to, reason)
        self._notify(now, Notice.STATE, from_state=before, to_state=to, reason=reason)

    def _notify(self, now: float, notice: Notice, **fields: Field) -> None:
        self._out.append(Notify(notice, self._at(now).wall_s, {"connection": self.name, **fields}))

    def _flush(self) -> Effects:
        out, self._out = self._out, []
        return out

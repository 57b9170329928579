"""A Session driven by hand: a scripted codec, a scripted shell, time that is a number.

What belongs here: the driver and its invariants, checked after every input. `Host` performs nothing; it records effects, ticks at deadlines and knows
which attempt is under way. Words are written as in `ledger_script`, plus `pong`, `control`, `garbage` and `fatal`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from syncwatch.core.canary import Canary
from syncwatch.core.effects import Close, Dial, Effect, Effects, Handshake, Notice, Notify, Poll, Send
from syncwatch.core.health import Reason
from syncwatch.core.resume import ResumePoint
from syncwatch.core.session import Session, SessionSettings
from syncwatch.core.states import AttemptFailure, Disconnect, State
from syncwatch.core.wire import (
    Ack,
    Control,
    Event,
    Invalid,
    Numbering,
    Pong,
    Ready,
    Request,
    Said,
    Settle,
    Traits,
)
from tests.unit.ledger_script import event

WALL_S = 1_780_000_000.0
TICKS_AT_ONE_MOMENT = 6  # a resync, a ping, a hole: more than this at one `now` is a loop


class Message(bytes):
    """A message that carries its own meaning."""

    said: Sequence[Said]


def message(*said: Said, text: bytes = b"x") -> Message:
    """One message of these words; `text` is what a canary's mark is searched in."""
    data = Message(text)
    data.said = said
    return data


class ScriptedWire:
    """Says what the message carries; asks in words that a test can read."""

    def __init__(self, first_words: Sequence[Said]) -> None:
        self._first_words = first_words

    def opened(self) -> Sequence[Said]:
        """As configured."""
        return self._first_words

    def feed(self, data: bytes, binary: bool = False) -> Sequence[Said]:
        """The message's own words."""
        assert isinstance(data, Message)
        return data.said

    def ping(self, token: int) -> str:
        """Readable."""
        return f"ping {token}"

    def resync(self, after: int, since_s: float | None) -> str:
        """Readable."""
        return f"resync {after} {since_s}"


class ScriptedProtocol:
    """A numbered protocol that settles by acknowledgement."""

    name = "scripted"
    dialect = "test"

    def __init__(
        self,
        first_words: Sequence[Said] = (Ready(),),
        page_limit: int | None = None,
        traits: Traits = Traits(Numbering.CONTIGUOUS, Settle.ACK),  # noqa: B008  it is frozen
    ) -> None:
        self.traits = traits
        self.page_limit = page_limit
        self._first_words = first_words

    def dial(self, after: int | None = None) -> Request:
        """Somewhere."""
        return Request("ws://upstream/")

    def wire(self, entropy: int) -> ScriptedWire:
        """Fresh for each attempt."""
        return ScriptedWire(self._first_words)


class Dice:
    """Randomness that a test decides: the middle, unless set."""

    def __init__(self) -> None:
        self.chance = 0.5
        self._serial = 0

    def random(self) -> float:
        """As set."""
        return self.chance

    def getrandbits(self, k: int, /) -> int:
        """Never twice the same."""
        self._serial += 1
        return self._serial


class Host:
    """The session's shell and clock. Everything it returned is in `effects`; `since()` cuts the log."""

    def __init__(
        self,
        settings: SessionSettings | None = None,
        protocol: ScriptedProtocol | None = None,
        resume: ResumePoint | None = None,
        canary: Canary | None = None,
        now: float = 100.0,
        offset_s: float = WALL_S,
    ) -> None:
        self.dice = Dice()
        self.settings = settings or SessionSettings()
        self.session = Session("cast", protocol or ScriptedProtocol(), self.settings, self.dice, "ws://upstream", resume, canary)
        self.now = now
        self.offset_s = offset_s
        self.effects: list[Effect] = []
        self.attempt = 0
        self.dialling = False
        self.connected = False
        self.stream: dict[int, Event] = {}  # what the server has pushed, for its honest answers
        self._mark = 0

    # -- inputs --------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Wall time, then the start."""
        self.session.wall(self.now, self.offset_s)
        self.take(self.session.start(self.now))
        return self

    def open(self, handshake: Handshake | None = None) -> Self:
        """The dial under way succeeds."""
        assert self.dialling, "nothing is dialled"
        self.dialling, self.connected = False, True
        self.take(self.session.opened(self.now, self.attempt, handshake or Handshake()))
        return self

    def fail(self, reason: AttemptFailure = AttemptFailure.REFUSED, detail: str = "", retry_after_s: float | None = None) -> Self:
        """The dial under way fails."""
        assert self.dialling, "nothing is dialled"
        self.dialling = False
        self.take(self.session.failed(self.now, self.attempt, reason, detail, retry_after_s))
        return self

    def drop(
        self, reason: Disconnect = Disconnect.NETWORK, code: int | None = 1006, detail: str = "", oversized: bool = False
    ) -> Self:
        """The open socket ends."""
        assert self.connected, "nothing is connected"
        self.connected = False
        self.take(self.session.closed(self.now, self.attempt, reason, code, detail, oversized))
        return self

    def say(self, script: str) -> Self:
        """Messages from the server, one per word."""
        for word in script.split():
            low, _, high = word.partition("..")
            prefix = re.sub(r"\d", "", low)
            words = [f"{prefix}{n}" for n in range(int(low[len(prefix) :]), int(high[len(prefix) :]) + 1)] if high else [word]
            for one in words:
                self.hear(message(self._word(one)))
        return self

    def hear(self, data: Message) -> Self:
        """One message."""
        for said in data.said:
            if isinstance(said, Event) and said.number is not None:
                self.stream[said.number] = said
        self.take(self.session.received(self.now, self.attempt, data))
        return self

    def answer(self, request: str) -> Self:
        """What an honest server says to a ping or a resync request: everything it pushed above the number, then the acknowledgement."""
        if request.startswith("ping"):
            return self.say("pong")
        after, current = int(request.split()[1]), max(self.stream, default=0)
        replay = [item for number, item in sorted(self.stream.items()) if number > after]
        for item in replay:
            self.hear(message(item))
        return self.hear(message(Ack(after, current, len(replay), gap=False)))

    def _word(self, word: str) -> Said:
        plain: dict[str, Said] = {
            "pong": Pong(),
            "control": Control(),
            "garbage": Invalid("no event"),
            "fatal": Invalid("no event", fatal=True),
        }
        if word in plain:
            return plain[word]
        if word.startswith("A("):
            after, current, replayed, gap = word[2:-1].split(",")
            return Ack(int(after), int(current), int(replayed), gap == "gap")
        return event(word, self.attempt)

    def settle(self) -> Self:
        """The newest resync request gets its honest answer."""
        return self.answer([text for text in self.sends() if text.startswith("resync")][-1])

    def pass_time(self, seconds: float, answering: bool = True) -> Self:
        """Tick at every deadline on the way; `answering`: the server answers what the ticks sent, at once and honestly."""
        end = self.now + seconds
        while self.session.deadline <= end:
            self.now = max(self.now, self.session.deadline)
            self.tick(answering)
        self.now = end
        return self

    def tick(self, answering: bool = True) -> Self:
        """Tick now, and as long as something is due now; a loop at one moment is an error."""
        for _ in range(TICKS_AT_ONE_MOMENT):
            before = len(self.effects)
            self.take(self.session.tick(self.now))
            for request in self.sends(self.effects[before:]) if answering else []:
                self.answer(request)
            if self.session.deadline > self.now:
                return self
        raise AssertionError(f"{TICKS_AT_ONE_MOMENT} ticks at {self.now} and the deadline is still {self.session.deadline}")

    # -- what it did ---------------------------------------------------------------------------------------------------

    def take(self, effects: Effects) -> None:
        """Record, follow the attempt, and hold the invariants."""
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, Dial):
                assert not self.dialling, "dialled twice"
                assert not self.connected, "dialled while connected"
                assert self.attempt + 1 == effect.attempt
                self.attempt, self.dialling = effect.attempt, True
            elif isinstance(effect, Close):
                assert self.attempt == effect.attempt
                assert self.dialling or self.connected, "closed what was not open"
                self.dialling = self.connected = False
            elif isinstance(effect, Send):
                assert self.connected, "sent on no connection"
                assert self.attempt == effect.attempt
        self.check()

    def check(self) -> None:
        """What holds after every input."""
        session = self.session
        ledger = session.ledger
        assert ledger.missed == ledger.recovered + ledger.lost + ledger.unaccounted + ledger.missing
        heartbeat = session.heartbeat.snapshot()
        assert heartbeat.sent == heartbeat.acknowledged + heartbeat.missed + heartbeat.outstanding
        assert not math.isnan(session.deadline)
        assert (session.state in (State.RESYNCING, State.OPEN)) <= self.connected
        if session.state in (State.CONNECTING, State.RECONNECTING, State.FAILED):
            assert self.dialling or self.connected or session.unstored or session.deadline < math.inf, "nothing will ever happen again"
        if session.state is State.RESYNCING:
            assert session.deadline < math.inf, "nothing will ever end the resync"
        if self.now < session.deadline:  # before its deadline a machine has nothing to do
            assert not session.tick(self.now), "a tick before the deadline did something"

    def since(self) -> list[Effect]:
        """The effects since the last call."""
        cut, self._mark = self._mark, len(self.effects)
        return self.effects[cut:]

    def sends(self, effects: Sequence[Effect] | None = None) -> list[str]:
        """What was sent, in words; of all effects unless given."""
        return [str(e.data) for e in (self.effects if effects is None else effects) if isinstance(e, Send)]

    def resyncs(self) -> list[str]:
        """Every resync request, without `since`."""
        return [text.split()[1] for text in self.sends() if text.startswith("resync")]

    def dials(self) -> int:
        """How many handshakes were started."""
        return sum(isinstance(e, Dial) for e in self.effects)

    def closes(self) -> list[Close]:
        """Every Close."""
        return [e for e in self.effects if isinstance(e, Close)]

    def polls(self) -> list[Poll]:
        """Every Poll."""
        return [e for e in self.effects if isinstance(e, Poll)]

    def notices(self, kind: Notice) -> list[Notify]:
        """Every notice of a kind."""
        return [e for e in self.effects if isinstance(e, Notify) and e.notice is kind]

    def held(self) -> dict[Reason, float]:
        """The conditions now, with their `since`."""
        return {condition.reason: condition.since_s for condition in self.session.reasons(self.now)}

    def walked(self) -> list[State]:
        """The states, in order."""
        return [State.IDLE, *(item.to_state for item in self.session.timeline.snapshot().recent)]

    def numbers(self) -> tuple[int, int, int, int, int]:
        """missed, recovered, lost, unaccounted, missing."""
        ledger = self.session.ledger
        return ledger.missed, ledger.recovered, ledger.lost, ledger.unaccounted, ledger.missing


def established(script: str = "1..5", settings: SessionSettings | None = None, stable: bool = True, **more: Any) -> Host:
    """A first connection that has heard `script`, answered its pings, and (unless told otherwise) is stable."""
    host = Host(settings, **more)
    host.start().open().tick().say(script)
    if stable:
        host.pass_time(host.settings.stable_after_s)
    host.since()
    return host


def reconnected(script: str = "1..5", settings: SessionSettings | None = None, **more: Any) -> Host:
    """The same, dropped by the network and open again: a resync is under way."""
    host = established(script, settings, **more)
    host.drop().pass_time(10.0)
    assert host.dialling
    host.open().tick()
    return host


def through_json(point: ResumePoint | None) -> ResumePoint:
    """As the state file keeps it."""
    assert point is not None
    return msgspec.json.decode(msgspec.json.encode(point), type=ResumePoint)



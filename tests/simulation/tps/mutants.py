"""Deliberate mistakes in the session, its parts and the codec's words: the harness has to catch every one of them.

What belongs here: one small change per mistake, each a mistake that a real host has made or could make.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from syncwatch.core.effects import Close, Effects, Hold, Send, Store
from syncwatch.core.heartbeat import Heartbeat
from syncwatch.core.session import Session
from syncwatch.core.states import Direction
from syncwatch.core.wire import Deposit, Event, FrameKind, Invalid, Pong, Protocol, Said, Wire
from tests.simulation.harness.mutants import SameProtocol, SameWire
from tests.simulation.tps.world import real_protocol

Hearing = Callable[["MutantWire", Said], Sequence[Said]]


class MutantWire(SameWire):
    """A wire that mishears."""

    def __init__(self, real: Wire, hears: Hearing, rng: random.Random) -> None:
        super().__init__(real)
        self._hears = hears
        self.rng = rng
        self.newest = 0

    def feed(self, data: bytes, binary: bool = False) -> Sequence[Said]:
        """As the real one, misheard."""
        return [word for said in super().feed(data, binary) for word in self._hears(self, said)]

    def ping(self, token: int) -> str | bytes:
        """As the real one."""
        self.newest = token
        return super().ping(token)


class MutantProtocol(SameProtocol[Protocol]):
    """The real protocol with other ears, or other traits."""

    def __init__(self, hears: Hearing | None = None, **traits: Any) -> None:
        super().__init__(real_protocol())
        self._hears = hears
        self._rng = random.Random(7)
        self.traits = msgspec.structs.replace(self.traits, **traits)

    def wire(self, entropy: int) -> Wire:
        """As the real one, misheard."""
        wire = super().wire(entropy)
        return wire if self._hears is None else MutantWire(wire, self._hears, self._rng)


def _as_event(wire: MutantWire, said: Said) -> Sequence[Said]:
    return (said.event,) if isinstance(said, Deposit) else (said,)


def _swallowed(wire: MutantWire, said: Said) -> Sequence[Said]:
    return () if isinstance(said, Deposit) and wire.rng.random() < 0.1 else (said,)


def _in_order(wire: MutantWire, said: Said) -> Sequence[Said]:
    return (Pong(None, said.server_time_s),) if isinstance(said, Pong) else (said,)


def _any_frame_is_an_echo(wire: MutantWire, said: Said) -> Sequence[Said]:
    return (said, Pong(wire.newest)) if isinstance(said, Deposit) else (said,)


def _one_name(wire: MutantWire, said: Said) -> Sequence[Said]:
    return (Deposit(said.event, "mail.json", said.content),) if isinstance(said, Deposit) else (said,)


def _wrong_key(wire: MutantWire, said: Said) -> Sequence[Said]:
    return (Deposit(Event(said.event.key[:1], True), said.name, said.content),) if isinstance(said, Deposit) else (said,)


def _tolerant(wire: MutantWire, said: Said) -> Sequence[Said]:
    return (Invalid(said.reason),) if isinstance(said, Invalid) else (said,)


def _strict(wire: MutantWire, said: Said) -> Sequence[Said]:
    return (Invalid(said.reason, fatal=True),) if isinstance(said, Invalid) else (said,)


class CountsAtOnce(Session):
    """Mail is received when it has come."""

    def _deposited(self, now: float, deposit: Deposit) -> None:
        super()._deposited(now, deposit)
        self.ledger.event(now, deposit.event)


class CountsFailures(Session):
    """What could not be stored counts as stored."""

    def stored(self, now: float, deposit_id: int, error: str | None = None, known: bool = False) -> Effects:
        return super().stored(now, deposit_id, None, known)


class GivesUp(Session):
    """What could not be stored is dropped."""

    def stored(self, now: float, deposit_id: int, error: str | None = None, known: bool = False) -> Effects:
        effects = super().stored(now, deposit_id, error, known)
        assert self.keeping is not None
        if error is not None:
            self.keeping._waiting.clear()
            self.keeping._well()
        return effects


class TrustsMemoryOnly(Session):
    """A copy that only the disk knows is a first one."""

    def stored(self, now: float, deposit_id: int, error: str | None = None, known: bool = False) -> Effects:
        return super().stored(now, deposit_id, error)


class TakesOn(Session):
    """Nothing can be stored, and the connection stays."""

    def _in_trouble(self, now: float, before: str | None) -> None:
        return


class ForgetsWhenItCloses(Session):
    """What is on its way at a close of ours is nobody's."""

    def _leave(self) -> None:
        return


class StoresLater(Session):
    """Mail waits for the next tick before it is stored."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._later: list[Store] = []

    def received(self, now: float, attempt: int, data: bytes, binary: bool = False) -> Effects:
        effects = list(super().received(now, attempt, data, binary))
        self._later += [effect for effect in effects if isinstance(effect, Store)]
        return [effect for effect in effects if not isinstance(effect, Store)]

    def tick(self, now: float) -> Effects:
        later, self._later = self._later, []
        return [*later, *super().tick(now)]


class PingsWhileHeld(Session):
    """Reading stops and heartbeats go on."""

    def _hold(self, now: float, on: bool) -> None:
        self._out.append(Hold(self.attempts.number, on))


class LateHeals(Session):
    """A late echo is as good as any."""

    def _heard(self, now: float, said: Said) -> None:
        super()._heard(now, said)
        if isinstance(said, Pong):
            self._half_open = None


class LateCountsTwice(Heartbeat):
    """A late echo is acknowledged as well."""

    def answered(self, now: float, wall_s: float, token: int | None) -> bool:
        late = self.late
        found = super().answered(now, wall_s, token)
        if self.late > late:
            self.acknowledged += 1
            self.missed -= 1
        return found


class ForgetsDead(Heartbeat):
    """A ping that died is not remembered, so nothing is ever late."""

    def verdict(self, now: float, last_frame_s: float | None) -> Direction | None:
        found = super().verdict(now, last_frame_s)
        self._expired.clear()
        return found


class AsksForEach(Heartbeat):
    """Every echo is answered with a heartbeat: two of those never rest."""

    def answered(self, now: float, wall_s: float, token: int | None) -> bool:
        found = super().answered(now, wall_s, token)
        self._next_s = min(self._next_s, now + 1.0)
        return found


class DiesAtOnce(Session):
    """The socket is dropped before its last words were sent."""

    def drop(self, now: float, reason: Any, detail: str) -> None:
        super().drop(now, reason, detail)
        self._out = [effect for effect in self._out if not isinstance(effect, Close)]


class SendsToTheDead(Session):
    """A heartbeat after the close."""

    def drop(self, now: float, reason: Any, detail: str) -> None:
        attempt = self.attempts.number
        super().drop(now, reason, detail)
        self._out.append(Send(attempt, b"x"))
        self._sent_frames[FrameKind.HEARTBEAT] += 1


def beating(kind: type[Heartbeat]) -> Callable[..., Session]:
    """A session with other heartbeats."""

    def make(*arguments: Any, **options: Any) -> Session:
        session = Session(*arguments, **options)
        session.heartbeat = kind(session.settings.heartbeat_interval_s, session.settings.heartbeat_timeout_s)
        return session

    return make


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong, and the kinds of trouble that give it a chance to show, some of them only together ("+")."""

    kinds: tuple[str, ...]
    session: Callable[..., Session] = Session
    hears: Hearing | None = None
    traits: dict[str, Any] = {}

    def protocol(self) -> Protocol:
        """The codec, perhaps with other ears."""
        return MutantProtocol(self.hears, **self.traits)


MUTANTS: dict[str, Mistake] = {
    "mail is an event like any": Mistake(("ends",), hears=_as_event),
    "some mail is not noticed": Mistake(("ends",), hears=_swallowed),
    "echoes answer in order": Mistake(("forget", "wrong_echo"), hears=_in_order),
    "any frame is an echo": Mistake(("no_echo", "forget"), hears=_any_frame_is_an_echo),
    "all mail has one name": Mistake(("ends",), hears=_one_name),
    "another identity than the mail's": Mistake(("ends",), hears=_wrong_key),
    "what cannot be believed is passed over": Mistake(("skip",), hears=_tolerant),
    "a wrong content ends the connection": Mistake(("junk",), hears=_strict),
    "counted before it is stored": Mistake(("disk", "slow_disk"), session=CountsAtOnce),
    "a failed store is a store": Mistake(("disk",), session=CountsFailures),
    "what cannot be stored is dropped": Mistake(("disk",), session=GivesUp),
    "the disk's word is ignored": Mistake(("process+again",), session=TrustsMemoryOnly),
    "more is taken though nothing can be stored": Mistake(("disk", "silent_disk"), session=TakesOn),
    "what is on its way at our close is dropped": Mistake(("stop",), session=ForgetsWhenItCloses),
    "stored later": Mistake(("ends",), session=StoresLater),
    "heartbeats while nothing is read": Mistake(("slow_disk",), session=PingsWhileHeld),
    "a late echo heals": Mistake(("delay", "freeze"), session=LateHeals),
    "a late echo is acknowledged": Mistake(("delay", "freeze"), session=beating(LateCountsTwice)),
    "a dead ping is forgotten": Mistake(("delay", "freeze"), session=beating(ForgetsDead)),
    "every echo is answered": Mistake(("ends",), session=beating(AsksForEach)),
    "a close is not performed": Mistake(("skip",), session=DiesAtOnce),
    "words after the close": Mistake(("skip",), session=SendsToTheDead),
    "impatient": Mistake(("freeze", "way_both"), traits={"patience": 0}),
    "patient for ever": Mistake(("vanished",), traits={"patience": 10_000}),
    "an older branch is dropped": Mistake(("no_echo",), traits={"echo_optional": False}),
    "a rival is not recognised": Mistake(("rival", "crash_loop"), traits={"rival_s": 0.0}),
    "any short life is a rival's": Mistake(("crash_loop",), traits={"rival_s": 400.0}),
}

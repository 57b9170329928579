"""Whatever happens in whatever order: a session never loops, never stalls, never counts wrongly, never leaves the table."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from syncwatch.core.canary import Canary
from syncwatch.core.effects import Answer, Handshake, Notice, Notify, Refused
from syncwatch.core.session import Session, SessionSettings
from syncwatch.core.states import EDGES, AttemptFailure, Disconnect, State
from syncwatch.core.window import Window
from syncwatch.core.wire import Ack, Control, Event, Invalid, Pong, Said
from tests.unit.sessions import Host, ScriptedProtocol, message
from tests.unit.test_canary import Codec

counters = ("missed", "recovered", "lost", "unaccounted", "late", "resets", "duplicates", "out_of_order", "live", "replayed")


class Storm(Host):
    """A host whose server, network and clock do anything. Checks after every input that counters never fall."""

    def __init__(self, dice: random.Random) -> None:
        fast = SessionSettings(breaker=4, verify_interval_s=20.0, stale_after_s=50.0, unanswered_retry_s=40.0, max_jump=1000)
        super().__init__(fast, ScriptedProtocol(page_limit=5), canary=Canary(Codec(), 7.0, 5.0))
        self.fate = dice
        self.trouble = dice.choice([1.0, 0.1, 0.02])  # some storms are mostly calm, and come to open
        self.number = 0
        self.before: dict[str, int] = {}
        self.looked_at = 0
        self.missing_told = 0

    def check(self) -> None:
        """The host's invariants, and these."""
        super().check()
        ledger = self.session.ledger
        counts = {name: getattr(ledger, name) for name in counters}
        assert all(counts[name] >= self.before.get(name, 0) for name in counters), (self.before, counts)
        self.before = counts
        assert set(self.held()) <= set(self.session.possible_reasons)
        assert ledger.undecided >= 0
        events = ledger.live + sum(ledger.received.values()) + ledger.undecided + ledger.duplicates
        assert events == self.session._events
        for effect in self.effects[self.looked_at :]:
            if isinstance(effect, Notify) and effect.notice is Notice.GAP:
                self.missing_told += cast("int", effect.fields["missing"])
        self.looked_at = len(self.effects)
        assert self.missing_told <= ledger.missed, "each missed number is told once at most"

    def word(self) -> Said:
        """Mostly the next event, sometimes nonsense."""
        fate = self.fate
        kind = fate.random()
        if kind < 0.6:
            self.number += fate.choice([1, 1, 1, 1, 1, 2, 3, 40])
            if fate.random() < 0.02 * self.trouble:
                self.number = fate.choice([1, 3, 100_000])
            return self.event(self.number)
        if kind < 0.8:
            return self.event(max(1, self.number - fate.randrange(30)))
        if kind < 0.85:
            return Event(f"row{fate.randrange(50)}", strong=True, replayed=True, page_kind="a", time_s=fate.randrange(2000))
        if kind < 0.9:
            return Event("bad", strong=False, bad_number=True)
        if kind < 0.95:
            return Pong()
        nonsense: list[Said] = [Control(), Invalid("no event"), Invalid("no event", fatal=fate.random() < 0.2 * self.trouble)]
        return fate.choice(nonsense)

    def event(self, number: int) -> Event:
        """Its identity now and then is another: the counter restarted."""
        salt = "" if self.fate.random() > 0.03 * self.trouble else str(self.fate.randrange(3))
        return Event(f"m{number}{salt}", strong=self.fate.random() < 0.8, number=number, time_s=1000.0 + number)

    def reply(self) -> None:
        """The honest answer to an open request, or anything."""
        if self.session.ledger.window is not None and self.fate.random() > self.trouble:
            self.settle()
        else:
            self.hear(message(self.acknowledge()))

    def acknowledge(self) -> Said:
        """Right, early, wrong or nonsense."""
        window, fate = cast(Window | None, self.session.ledger.window), self.fate
        after = window.after if window is not None and fate.random() < 0.9 else fate.randrange(-1, 50)
        current = max(0, self.number + fate.choice([0, 0, 0, 0, -5, 3, -10**6]))
        replayed = fate.choice([len(window.frames) + window.store_frames if window else 0, fate.randrange(20)])
        return Ack(after, current, replayed, fate.random() < 0.3)

    def step(self) -> None:
        """One thing happens."""
        fate = self.fate
        moves: list[Callable[[], object]] = [self.wait, self.poll, self.clock]
        if self.dialling:
            moves += [self.open, self.open, lambda: self.fail(fate.choice(list(AttemptFailure)), "", fate.choice([None, 3.0]))]
        if self.connected:
            moves += [lambda: self.hear(message(*[self.word() for _ in range(fate.choice([1, 1, 1, 5]))]))] * 12
            moves += [self.reply] * 3
            moves += [lambda: self.hear(message(Pong()))] * 3
            if fate.random() < self.trouble:
                moves += [lambda: self.drop(fate.choice(list(Disconnect)), 1006, "", fate.random() < 0.3)]
        fate.choice(moves)()

    def wait(self) -> None:
        """A little, or until something is due."""
        until = self.fate.choice([0.1, 1.0, max(0.0, self.session.deadline - self.now)])
        self.pass_time(min(until, 100.0), answering=self.fate.random() > 0.3 * self.trouble)

    def poll(self) -> None:
        """A canary's write is answered, perhaps twice."""
        for poll in self.polls()[-2:]:
            answers: list[Answer | Refused] = [Answer(201), Answer(404), Answer(500), Refused("dns")]
            self.take(self.session.polled(self.now, poll.poll_id, self.fate.choice(answers)))

    def clock(self) -> None:
        """The wall clock steps, the configuration changes, the token file too; or somebody uses an old attempt."""
        fate, session = self.fate, self.session
        self.take(session.wall(self.now, self.offset_s + fate.choice([0.0, -1000.0, 1000.0])))
        self.take(session.credentials(self.now, None))
        self.take(session.configure(self.now, self.settings))
        self.take(session.equip(self.now, session.protocol, fate.choice([session.canary, Canary(Codec(), 7.0, 5.0)])))
        assert () == session.received(self.now, self.attempt + 1, message(Control()))
        assert () == session.opened(self.now, self.attempt + 1, Handshake())
        session.resume_point(self.now)


@settings(max_examples=120, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_storm_leaves_the_session_sane(dice: random.Random) -> None:
    """After each input: the ledgers' identities hold, counters never fall, only possible reasons are held, ticking at the deadline makes
    progress, a tick before it does nothing, nothing is sent on a dead socket, and while the session runs something is always due."""
    storm = Storm(dice).start()
    for _ in range(120):
        storm.step()
    recent = storm.session.timeline.snapshot().recent
    assert all((move.from_state, move.to_state) in EDGES for move in recent)
    assert all(a.to_state is b.from_state for a, b in itertools.pairwise(recent))
    storm.take(storm.session.stop(storm.now))
    assert State.CLOSED is storm.session.state
    assert 0 == storm.session.ledger.undecided
    assert float("inf") == storm.session.deadline


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(st.floats(0, 30), max_size=10))
def test_extra_ticks_change_nothing(dice: random.Random, extra: list[float]) -> None:
    """A session that is ticked at odd times beside its deadlines ends as the one that is not."""
    seed = dice.randrange(2**32)

    def run(ticks: list[float]) -> Session:
        host = Host().start().open().tick()
        story = random.Random(seed)
        for number in range(1, 60):
            if host.dialling:
                host.open().tick()
            host.say(str(number) if story.random() < 0.8 else str(number + 2))
            for tick in ticks:
                if host.now + tick < host.session.deadline:
                    host.take(host.session.tick(host.now + tick))
            host.pass_time(story.choice([0.1, 1.0, 5.0]))
            if story.random() < 0.1 and host.connected:
                host.drop().pass_time(10.0)
        return host.session

    assert run([])._draw() == run(extra)._draw()

"""A session with a peer that may hang, may never answer pings, and may have another client with our identity: it waits, names it, and does not storm."""

from __future__ import annotations

from typing import Any

import pytest

from syncwatch.core.backoff import Backoff
from syncwatch.core.effects import Hold, Notice, Store
from syncwatch.core.health import Reason
from syncwatch.core.keeping import HOLD_COUNT
from syncwatch.core.session import SessionSettings
from syncwatch.core.states import Direction, Disconnect, State
from syncwatch.core.wire import Control, Deposit, Event, Numbering, Pong, Settle, Traits
from tests.unit.sessions import Host, ScriptedProtocol, message

INTERVAL_S, TIMEOUT_S, PATIENCE, RIVAL_S = 15.0, 10.0, 10, 40.0
TRAITS = Traits(
    Numbering.NONE, Settle.NONE, keeps=True, patience=PATIENCE, echo_optional=True, rival_s=RIVAL_S, resumes=False
)
SETTINGS = SessionSettings(heartbeat_interval_s=INTERVAL_S, heartbeat_timeout_s=TIMEOUT_S)


class Branch(Host):
    """A host whose peer echoes numbers, when it does."""

    def __init__(self, settings: SessionSettings = SETTINGS, **more: Any) -> None:
        super().__init__(settings, ScriptedProtocol(traits=TRAITS), **more)
        self.unanswered: list[int] = []
        self.frozen = False

    def answer(self, request: str) -> Branch:
        """A ping comes back with its number."""
        number = self.session.heartbeat.sent
        self.unanswered.append(number)
        return self if self.frozen else self.thaw()

    def thaw(self) -> Branch:
        """Everything that was not answered is answered now."""
        self.frozen = False
        waiting, self.unanswered = self.unanswered, []
        for number in waiting:
            if self.connected:
                self.hear(message(Pong(number)))
        return self

    def freeze(self, seconds: float) -> Branch:
        """Accept everything, answer nothing, for so long."""
        self.frozen = True
        self.pass_time(seconds)
        return self

    def cut(self) -> Branch:
        """The branch closes with 1000; the next dial succeeds."""
        self.unanswered.clear()
        self.drop(Disconnect.PEER_CLOSED, 1000, "the peer closed with 1000 done")
        return self

    def again(self) -> Branch:
        """Wait for the next dial, and let it succeed."""
        while not self.dialling:
            self.pass_time(self.session.deadline - self.now)
        self.open()
        self.tick()
        return self


def branch(**more: Any) -> Branch:
    """Connected, stable, its echoes known."""
    made = Branch(**more)
    made.start().open().tick().pass_time(60.0)
    made.since()
    return made


class TestPatience:
    @pytest.mark.parametrize("answered_s", [0.1, 7.0, 14.9])
    def test_a_frozen_peer_is_degraded_in_time_and_its_socket_stays(self, answered_s: float) -> None:
        """Within interval and timeout of the freeze, whenever it began; the same reason as ever, and no reconnect."""
        at = branch().pass_time(answered_s)
        assert isinstance(at, Branch)
        froze = at.now
        at.freeze(INTERVAL_S + TIMEOUT_S)
        assert {Reason.HEARTBEAT_TIMEOUT} == {*at.held()}
        assert at.held()[Reason.HEARTBEAT_TIMEOUT] - froze <= INTERVAL_S + TIMEOUT_S
        since = at.held()[Reason.HEARTBEAT_TIMEOUT]
        at.freeze(100.0 - INTERVAL_S - TIMEOUT_S)
        assert ({Reason.HEARTBEAT_TIMEOUT: since}, State.OPEN, 1, []) == (at.held(), at.session.state, at.attempt, at.closes())
        assert ({Direction.RECEIVE: 1, Direction.SEND: 0}, 1) == (at.session.snapshot().heartbeat.half_open, len(at.notices(Notice.HALF_OPEN)))

    def test_the_burst_of_late_echoes_is_counted_and_ends_it(self) -> None:
        """What was missed stays missed; a ping that is answered in time is what ends the condition, and it goes out at once."""
        at = branch()
        at.freeze(100.0)
        missed = at.session.heartbeat.missed
        waiting = [number for number in at.unanswered if number <= at.session.heartbeat.sent - at.session.heartbeat.snapshot().outstanding]
        assert 5 <= missed <= 7
        at.thaw()
        assert (missed, missed) == (at.session.heartbeat.late, len(waiting))
        at.tick()
        assert ({}, missed, 0) == (at.held(), at.session.heartbeat.missed, at.session.heartbeat.snapshot().outstanding)
        at.pass_time(600.0)
        assert (missed, missed, 1) == (at.session.heartbeat.missed, at.session.heartbeat.late, at.attempt)

    def test_an_answer_that_is_always_late_is_no_health(self) -> None:
        """Every echo comes two seconds too late: degraded all the while, and alive, so it is never re-made; nor are more pings sent for it."""
        at = branch()
        at.pass_time(INTERVAL_S, answering=False)
        sent, began = at.session.heartbeat.sent, at.now
        at.unanswered = [sent]
        due: list[tuple[float, int]] = [(at.now + TIMEOUT_S + 2.0, sent)]
        while at.now < began + 1200.0:
            upto = min(due[0][0] if due else began + 1200.0, at.session.deadline)
            before = at.session.heartbeat.sent
            at.pass_time(max(upto - at.now, 0.0), answering=False)
            due += [(at.now + TIMEOUT_S + 2.0, number) for number in range(before + 1, at.session.heartbeat.sent + 1)]
            while due and due[0][0] <= at.now:
                at.hear(message(Pong(due.pop(0)[1])))
            if at.now > began + 30.0:
                assert Reason.HEARTBEAT_TIMEOUT in at.held()
        assert (1, 0) == (at.attempt, at.session.heartbeat.acknowledged - 5)
        assert 1200.0 / 12.0 + 5 >= at.session.heartbeat.sent - sent

    def test_other_frames_tell_which_half_is_dead(self) -> None:
        """Mail arrives and pings are not answered; each half counts once while it lasts, since when does not move."""
        at = branch()
        at.freeze(40.0)
        since = at.held()[Reason.HEARTBEAT_TIMEOUT]
        for _ in range(20):
            at.pass_time(2.0).hear(message(Control()))
        assert {Reason.SEND_HALF_OPEN: since} == at.held()
        assert {Direction.RECEIVE: 1, Direction.SEND: 1} == at.session.snapshot().heartbeat.half_open
        at.thaw().tick()
        assert {} == at.held()

    def test_a_peer_that_vanished_is_re_made_after_all(self) -> None:
        """After so many intervals without any answer; the reason stays until a ping is answered."""
        at = branch()
        last = at.now
        at.freeze(PATIENCE * INTERVAL_S - 1.0)
        assert State.OPEN is at.session.state
        at.freeze(INTERVAL_S + TIMEOUT_S + 1.0)
        picture = at.session.snapshot()
        assert (State.RECONNECTING, 1) == (picture.timeline.state, picture.disconnects[Disconnect.HEARTBEAT_TIMEOUT])
        assert picture.timeline.recent[-1].at.now_s - last <= (PATIENCE + 1) * INTERVAL_S + TIMEOUT_S
        assert {Reason.RECONNECTING, Reason.HEARTBEAT_TIMEOUT} <= {*at.held()}
        at.unanswered.clear()
        at.frozen = False
        at.again()
        assert ({}, 0) == (at.held(), at.session.heartbeat.late)

    def test_one_that_keeps_sending_but_never_answers_is_re_made_as_send_timeout(self) -> None:
        """The other half."""
        at = branch()
        at.frozen = True
        for _ in range(int(PATIENCE * INTERVAL_S + 40.0)):
            at.pass_time(1.0)
            if at.connected:
                at.hear(message(Control()))
        assert 1 == at.session.snapshot().disconnects[Disconnect.SEND_TIMEOUT]

    def test_what_is_held_back_is_nobodys_fault(self) -> None:
        """While we read nothing no ping is sent, none dies, and none is missed for it; afterwards all goes on."""
        at = branch()
        sent = at.session.heartbeat.sent
        for number in range(HOLD_COUNT):
            at.hear(message(Deposit(Event(f"m{number}", True), f"m{number}.json", b"x")))
        stores = [effect for effect in at.since() if isinstance(effect, Store)]
        for _ in range(20):
            at.pass_time(9.0)
            store = stores.pop(0)
            at.take(at.session.stored(at.now, store.deposit_id))
        assert (sent, [Reason.GAP_OPEN], State.OPEN) == (at.session.heartbeat.sent, [*at.held()], at.session.state), "what waits for so long is said"
        for store in stores:
            at.take(at.session.stored(at.now, store.deposit_id))
        assert [Hold(at.attempt, False)] == [effect for effect in at.since() if isinstance(effect, Hold)]
        at.tick().pass_time(60.0)
        assert ({}, 0, at.session.heartbeat.sent) == (at.held(), at.session.heartbeat.missed, at.session.heartbeat.acknowledged)


class TestNoEcho:
    def test_a_peer_that_never_echoes_is_an_older_one(self) -> None:
        """Degraded, since the first ping died; never ended for it, however long, and no half-open is claimed."""
        at = Branch()
        at.frozen = True
        at.start().open().tick()
        at.pass_time(TIMEOUT_S - 0.1)
        assert {} == at.held()
        at.pass_time(0.1)
        assert {Reason.NO_ECHO: at.now} == at.held()
        since = at.now
        at.pass_time(7200.0)
        assert ({Reason.NO_ECHO: since}, State.OPEN, 1) == (at.held(), at.session.state, at.attempt)
        assert (0, 1) == (sum(at.session.snapshot().heartbeat.half_open.values()), len(at.notices(Notice.NO_ECHO)))
        assert (at.session.heartbeat.sent, 0) == (at.session.heartbeat.missed + at.session.heartbeat.snapshot().outstanding, at.session.heartbeat.acknowledged)

    def test_across_reconnects_it_is_the_same_peer(self) -> None:
        """Known at once, and not shown while there is no connection at all."""
        at = Branch()
        at.frozen = True
        at.start().open().tick().pass_time(60.0)
        since = at.held()[Reason.NO_ECHO]
        at.unanswered.clear()
        at.drop()
        assert Reason.NO_ECHO not in at.held()
        at.again()
        assert {Reason.NO_ECHO: since} == at.held()

    def test_the_first_echo_says_that_it_can(self) -> None:
        """Late or not; from then on a missing one is a heartbeat timeout."""
        at = Branch()
        at.frozen = True
        at.start().open().tick().pass_time(60.0)
        at.thaw().tick()
        assert {} == at.held()
        at.freeze(INTERVAL_S + TIMEOUT_S)
        assert {Reason.HEARTBEAT_TIMEOUT} == {*at.held()}

    def test_it_is_possible_only_where_echoes_are_optional(self) -> None:
        """The same for a rival."""
        plain = {*Host().session.possible_reasons}
        assert {Reason.NO_ECHO, Reason.DUPLICATE_CLIENT} == {*Branch().session.possible_reasons} - plain


class TestDuplicateClient:
    def test_repeated_polite_closes_are_somebody_elses(self) -> None:
        """Three in a row, each within a rival's time; then the reason, in words too, and no reconnect storm: as slowly as if the breaker were open."""
        at = branch()
        for _ in range(2):
            at.pass_time(20.0).cut()
            at.again()
        assert Reason.DUPLICATE_CLIENT not in at.held()
        at.pass_time(20.0)
        at.cut()
        assert Reason.DUPLICATE_CLIENT not in at.held(), "the first of them had lived for a minute"
        at.again().pass_time(20.0)
        at.cut()
        since = at.now
        assert at.held()[Reason.DUPLICATE_CLIENT] == since
        assert (at.session.snapshot().last_failure or "").endswith(
            "the peer closed with 1000 done; so did the 2 before it, each soon after it was made: another client has the same identity"
        )
        for _ in range(5):
            closed = at.now
            at.again()
            assert at.now - closed >= 60.0
            at.pass_time(25.0)
            at.cut()
        assert since == at.held()[Reason.DUPLICATE_CLIENT]
        at.again().pass_time(RIVAL_S)
        assert ({}, State.OPEN) == (at.held(), at.session.state)
        at.cut()
        began = at.now
        at.again()
        assert at.now - began <= 10.0, "what is over slows nothing down"

    @pytest.mark.parametrize(
        ("reason", "code"),
        [(Disconnect.NETWORK, 1006), (Disconnect.PEER_ERROR, 1008), (Disconnect.PEER_CLOSED, 1001), (Disconnect.PEER_CLOSED, 1012)],
    )
    def test_other_ends_are_no_rivals(self, reason: Disconnect, code: int) -> None:
        """A server that restarts, or complains, or a network that fails."""
        at = branch()
        for _ in range(10):
            at.pass_time(5.0)
            at.unanswered.clear()
            at.drop(reason, code)
            at.again()
        assert Reason.DUPLICATE_CLIENT not in at.held()

    def test_a_socket_without_close_frames_counts_as_well(self) -> None:
        """Its polite end has no code."""
        at = branch()
        at.pass_time(5.0).drop(Disconnect.PEER_CLOSED, 1006)
        for _ in range(3):
            at.again().pass_time(5.0)
            at.unanswered.clear()
            at.drop(Disconnect.PEER_CLOSED, 1006)
        assert Reason.DUPLICATE_CLIENT in at.held()

    def test_the_slow_pace_is_the_longest_that_is_configured(self) -> None:
        """The reconnect maximum, if it is above the breaker's."""
        at = branch(settings=SessionSettings(backoff=Backoff(1.0, 300.0), heartbeat_interval_s=INTERVAL_S))
        at.pass_time(5.0)
        at.cut()
        for _ in range(3):
            at.again().pass_time(5.0)
            at.cut()
        began = at.now
        at.again()
        assert at.now - began >= 300.0

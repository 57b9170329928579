"""A session with a server that sends each event once: stored before it counts, and left with the server while nothing can be stored."""

from __future__ import annotations

import pytest

from syncwatch.core.effects import Close, Hold, Notice, Send, Store
from syncwatch.core.health import Reason
from syncwatch.core.keeping import HOLD_COUNT, MOST_COUNT, STALL_S
from syncwatch.core.session import SessionSettings
from syncwatch.core.states import Disconnect, Origin, State
from syncwatch.core.wire import Control, Deposit, Event, Invalid, Numbering, Ready, Settle, Traits
from tests.unit.sessions import Host, ScriptedProtocol, message, through_json

TRAITS = Traits(Numbering.NONE, Settle.NONE, keeps=True, resumes=False)


def mail(name: str) -> Deposit:
    """One event to keep."""
    return Deposit(Event(name, True), f"{name}.json", name.encode())


def host(**more: object) -> Host:
    """Connected and stable."""
    made = Host(protocol=ScriptedProtocol(traits=TRAITS), **more)  # type: ignore[arg-type]  # handed on
    made.start().open().tick().pass_time(made.settings.stable_after_s)
    made.since()
    return made


def stores(effects: list[object]) -> list[Store]:
    """What is asked of the store."""
    return [effect for effect in effects if isinstance(effect, Store)]


def hear(at: Host, *names: str) -> list[Store]:
    """One message each; returns what is to be stored."""
    before = len(at.effects)
    for name in names:
        at.hear(message(mail(name)))
    return stores(list(at.effects[before:]))


def answer(at: Host, store: Store, error: str | None = None, known: bool = False) -> None:
    """The shell's word."""
    at.take(at.session.stored(at.now, store.deposit_id, error, known))


def counts(at: Host) -> tuple[int, int, int]:
    """First copies, duplicates, and what is in memory only."""
    ledger = at.session.snapshot().continuity
    assert ledger is not None
    assert ledger.events_received[Origin.LIVE] == sum(ledger.events_received.values())
    return ledger.events_received[Origin.LIVE], ledger.duplicates, at.session.unstored


def test_it_counts_when_it_is_stored_and_not_before() -> None:
    """The frame counts when it came; the event, and the time of the last one, when it is safe."""
    at = host()
    (store,) = hear(at, "m1")
    assert isinstance(at.since()[0], Store), "before anything else"
    assert (("m1.json", b"m1"), (0, 0, 1), None) == ((store.name, store.content), counts(at), at.session.snapshot().last_event)
    assert 1 == at.session.snapshot().frames_received["event"]  # type: ignore[index]  # a StrEnum
    at.pass_time(3.0)
    answer(at, store)
    last = at.session.snapshot().last_event
    assert ((1, 0, 0), at.now) == (counts(at), last and last.now_s)
    answer(at, store)
    assert (1, 0, 0) == counts(at), "an answer counts once"


def test_a_copy_is_a_duplicate_whoever_knows_it() -> None:
    """By its key, or because the shell found it on the disk; one that came while the first was being stored is one too."""
    at = host()
    for store in hear(at, "m1", "m1"):
        answer(at, store)
    assert (1, 1, 0) == counts(at)
    (store,) = hear(at, "m2")
    answer(at, store, known=True)
    (store,) = hear(at, "m2")
    answer(at, store, known=True)
    assert (1, 3, 0) == counts(at)


def test_the_next_process_knows_the_copies_too() -> None:
    """Identities are in the resume point; there is no number to go on from, and none is asked."""
    at = host()
    for store in hear(at, "m1", "m2"):
        answer(at, store)
    again = host(resume=through_json(at.session.resume_point(at.now)))
    for store in hear(again, "m2", "m3"):
        answer(again, store)
    assert ((1, 1, 0), [], State.OPEN) == (counts(again), again.resyncs(), again.session.state)
    assert 3 == again.session.snapshot().lifetime.events


def test_nothing_is_verified_and_nothing_is_asked() -> None:
    """A server without a log has no newest number; what cannot be known is absent."""
    at = host()
    at.pass_time(600.0)
    assert ({"ping"}, None) == ({text.split()[0] for text in at.sends()}, at.session.snapshot().verified_now_s)
    assert not {Reason.BEHIND, Reason.RESYNC_UNANSWERED, Reason.EPOCH_RESET, Reason.CLAIM_CONTRADICTED} & {*at.session.possible_reasons}


def test_while_nothing_can_be_stored_nothing_is_taken() -> None:
    """The connection is closed and not made again until all is safe; the reason is said, in the log, in the state and as a condition."""
    at = host()
    one, two = hear(at, "m1", "m2")
    answer(at, one, "no space left on device")
    snapshot = at.session.snapshot()
    assert (State.RECONNECTING, 1) == (at.session.state, snapshot.disconnects[Disconnect.OVERFLOW])
    assert snapshot.last_failure == (
        "what came cannot be stored (no space left on device); 2 wait in memory, and no more is taken until they are safe"
    )
    assert (None, False) == (snapshot.next_attempt_now_s, snapshot.attempting)
    assert Reason.GAP_OPEN in at.held()
    assert [("failed", "no space left on device", 2)] == [
        (told.fields["result"], told.fields["detail"], told.fields["waiting"]) for told in at.notices(Notice.STORAGE)
    ]
    answer(at, two)
    dials = at.dials()
    for _ in range(20):
        before = len(at.effects)
        at.pass_time(61.0)
        (store,) = stores(list(at.effects[before:]))[:1]
        answer(at, store, "no space left on device")
        for more in stores(list(at.effects[before:]))[1:]:
            answer(at, more, "no space left on device")
    assert (dials, 1, [1, 0, 1]) == (at.dials(), len(at.notices(Notice.STORAGE)), [*counts(at)])
    before = len(at.effects)
    at.pass_time(61.0)
    answer(at, stores(list(at.effects[before:]))[-1])
    assert "stored" == at.notices(Notice.STORAGE)[-1].fields["result"]
    at.tick()
    assert (dials + 1, (2, 0, 0)) == (at.dials(), counts(at)), "the delay has long passed"
    assert Reason.GAP_OPEN not in at.held()
    at.open()
    assert (State.OPEN, None) == (at.session.state, at.session.snapshot().last_failure)


def test_storage_that_hangs_is_trouble_too() -> None:
    """After ten seconds without a word; the answer is still good when it comes."""
    at = host()
    (store,) = hear(at, "m1")
    at.pass_time(STALL_S - 0.1)
    assert State.OPEN is at.session.state
    at.pass_time(0.2)
    assert (State.RECONNECTING, True) == (at.session.state, "no answer for 10 s" in str(at.session.snapshot().last_failure))
    at.pass_time(100.0)
    answer(at, store)
    at.tick()
    assert ((1, 0, 0), True) == (counts(at), at.dialling)


def test_trouble_that_begins_during_a_handshake_ends_it_when_it_is_ready() -> None:
    """Nothing was asked for on it yet."""
    at = host()
    (store,) = hear(at, "m1")
    at.drop().pass_time(8.0)
    assert at.dialling
    answer(at, store, "io error")
    at.since()
    at.open()
    assert (State.RECONNECTING, []) == (at.session.state, [effect for effect in at.since() if isinstance(effect, Send)])


def test_what_was_on_its_way_when_we_closed_is_kept() -> None:
    """Nobody will send it again; other words of a connection that is gone mean nothing."""
    at = host()
    (store,) = hear(at, "m1")
    number = at.attempt
    answer(at, store, "io error")
    frames = {str(kind): count for kind, count in at.session.snapshot().frames_received.items()}
    for words in ([mail("m2")], [Control(), mail("m3")], [Ready()], [Invalid("x", fatal=True)], [mail("m4")]):
        at.take(at.session.received(at.now, number, message(*words)))
    assert ((0, 0, 4), State.RECONNECTING) == (counts(at), at.session.state)
    assert {**frames, "event": 4} == at.session.snapshot().frames_received
    at.take(at.session.received(at.now, number - 1, message(mail("m5"))))
    assert 4 == at.session.unstored, "of an attempt that ended otherwise nothing is expected"


def test_the_end_tries_once_more_and_takes_what_is_on_its_way() -> None:
    """`stop` with something in memory: a last Store, and answers still count."""
    at = host()
    (one,) = hear(at, "m1")
    number = at.attempt
    answer(at, one, "io error")
    at.since()
    at.take(at.session.stop(at.now))
    assert [one] == stores(list(at.since()))
    answer(at, one)
    assert ((1, 0, 0), {}) == (counts(at), at.held())
    at = host()
    number = at.attempt
    at.take(at.session.stop(at.now))
    at.take(at.session.received(at.now, number, message(mail("m9"))))
    answer(at, stores(list(at.effects))[-1])
    assert (1, 0, 0) == counts(at)


def test_a_burst_is_held_back_where_it_comes_from() -> None:
    """At the limit reading stops, at half of it it goes on; a connection that ended meanwhile is nobody's to resume."""
    at = host()
    asked = hear(at, *(f"m{number}" for number in range(HOLD_COUNT + 5)))
    assert [Hold(at.attempt, True)] == [effect for effect in at.since() if isinstance(effect, Hold)]
    for store in asked[:-HOLD_COUNT // 2]:
        answer(at, store)
    assert [Hold(at.attempt, False)] == [effect for effect in at.since() if isinstance(effect, Hold)]
    hear(at, *(f"n{number}" for number in range(HOLD_COUNT)))
    assert [Hold(at.attempt, True)] == [effect for effect in at.since() if isinstance(effect, Hold)]
    at.drop()
    for store in stores(list(at.effects)):
        answer(at, store)
    assert ([], (2 * HOLD_COUNT + 5, 0, 0)) == ([effect for effect in at.since() if isinstance(effect, Hold)], counts(at))


def test_a_close_of_ours_reads_on_first() -> None:
    """What waits in the socket is wanted."""
    at = host()
    asked = hear(at, *(f"m{number}" for number in range(HOLD_COUNT)))
    at.since()
    answer(at, asked[0], "io error")
    kinds = [effect for effect in at.since() if isinstance(effect, Hold | Close)]
    assert [Hold(at.attempt, False), Close] == [kinds[0], type(kinds[1])]


def test_what_memory_cannot_take_is_lost_aloud() -> None:
    """It cannot happen while the shell stops reading; if it does, it is an incident with its time."""
    at = host(settings=SessionSettings())
    hear(at, *(f"m{number}" for number in range(MOST_COUNT + 2)))
    assert ((0, 0, MOST_COUNT), 2) == (counts(at), len([n for n in at.notices(Notice.STORAGE) if n.fields["result"] == "lost"]))
    ledger = at.session.snapshot().continuity
    assert ledger is not None
    assert ledger.last_loss is not None
    assert Reason.EVENTS_LOST in at.held()


def test_a_deposit_without_the_trait_is_misuse() -> None:
    """A codec that says it would lose it."""
    at = Host().start().open()
    with pytest.raises(RuntimeError, match="keeps"):
        at.hear(message(mail("m1")))


def test_storage_that_is_slow_is_said() -> None:
    """What waits for ten seconds is a gap, though everything moves and the connection stays; it ends with the last that was late."""
    at = host()
    one, two = hear(at, "m1", "m2")
    came = at.now
    at.pass_time(STALL_S - 1.0)
    answer(at, one)
    assert {} == at.held()
    at.pass_time(1.0)
    assert ({Reason.GAP_OPEN: came + STALL_S}, State.OPEN) == (at.held(), at.session.state)
    hear(at, "m3")
    answer(at, two)
    assert {} == at.held()

"""A session's life: the first connection, the common path, stale input, heartbeats, and the end."""

from __future__ import annotations

import math

import msgspec
import pytest

from syncwatch.core.canary import Canary
from syncwatch.core.effects import Answer, Close, Dial, Handshake, Notice, Send
from syncwatch.core.health import Reason
from syncwatch.core.session import SessionSettings
from syncwatch.core.states import Anomaly, AttemptFailure, Claim, Direction, Disconnect, Origin, State, Verdict
from syncwatch.core.wire import Control, FrameKind, Invalid, Pong, Ready, Reply, Request
from tests.unit.sessions import WALL_S, Host, ScriptedProtocol, established, message, reconnected
from tests.unit.test_canary import Codec


class TestFirstConnection:
    def test_start_dials_once_and_is_connecting(self) -> None:
        """One attempt, with the configured timeout; the state says that it is the first."""
        host = Host().start()
        dial = host.effects[-1]
        assert isinstance(dial, Dial)
        assert (1, "ws://upstream/", 10.0) == (dial.attempt, dial.request.url, dial.timeout_s)
        assert (State.CONNECTING, 110.0) == (host.session.state, host.session.deadline)
        assert {Reason.CONNECTING: 100.0} == host.held()

    def test_a_fresh_session_has_nothing_to_resume(self) -> None:
        """Ready is open; a ping goes out at once, and no resync is asked for."""
        host = Host().start().open()
        assert ([State.IDLE, State.CONNECTING, State.OPEN], 100.0) == (host.walked(), host.session.deadline)
        host.tick()
        assert ["ping 1"] == host.sends()
        assert (True, {}) == (host.session.settled_once, host.held())

    def test_the_first_number_is_the_baseline(self) -> None:
        """Whatever it is: what came before it is not missed, and a lower one is out of order, never a reset."""
        host = established("41 42 7")
        snapshot = host.session.snapshot().continuity
        assert snapshot is not None
        assert (42, 1, 0, 1) == (snapshot.cursor, snapshot.epoch, snapshot.resets, snapshot.out_of_order)
        assert (0, 0, 0, 0, 0) == host.numbers()

    def test_the_clock_comes_before_the_start(self) -> None:
        """Our own misuse raises and changes nothing."""
        host = Host()
        with pytest.raises(RuntimeError, match="wall"):
            host.session.start(100.0)
        assert (State.IDLE, math.inf) == (host.session.state, host.session.deadline)

    @pytest.mark.parametrize("state", ["connecting", "open", "closed"])
    def test_starting_twice_raises_and_changes_nothing(self, state: str) -> None:
        """A session starts once."""
        host = Host().start()
        if state == "open":
            host.open().tick().say("1 2 3")
        elif state == "closed":
            host.take(host.session.stop(host.now))
        before = msgspec.structs.replace(host.session.snapshot())
        with pytest.raises((RuntimeError, ValueError)):
            host.session.start(host.now + 50.0)
        assert before == host.session._draw()

    def test_the_handshake_is_told_whole(self) -> None:
        """Duration over everything, phases as the shell measured them, the certificate's end."""
        host = Host().start()
        host.now += 0.5
        host.open(Handshake(dns_s=0.1, tcp_s=0.1, tls_s=0.1, upgrade_s=0.2, certificate_expiry_s=1.9e9))
        picture = host.session.snapshot()
        assert (1, 0.5) == (picture.handshake.cumulative[-1], picture.handshake.sum)
        assert {"dns": 0.1, "tcp": 0.1, "tls": 0.1, "upgrade": 0.2} == picture.last_handshake_s
        assert (1.9e9, 100.5) == (picture.certificate_expiry_wall_s, picture.established.now_s if picture.established else None)
        assert 0.5 == host.notices(Notice.ESTABLISHED)[0].fields["handshake_s"]

    def test_a_codecs_own_handshake_belongs_to_the_handshake(self) -> None:
        """Until its Ready nothing is established; its messages are sent and are bytes, but no frames; its time is the phase `protocol`."""
        host = Host(protocol=ScriptedProtocol(first_words=(Reply("hello", kind=None),))).start()
        host.open()
        assert (State.CONNECTING, ["hello"]) == (host.session.state, host.sends())
        host.now += 2.0
        host.hear(message(Reply("again"), Ready()))
        assert (State.OPEN, ["hello", "again"]) == (host.session.state, host.sends())
        picture = host.session.snapshot()
        assert {"protocol": 2.0} == picture.last_handshake_s
        assert (1, len("helloagain"), None) == (picture.frames_sent[FrameKind.CONTROL], picture.sent_bytes, picture.last_frame)
        assert picture.received_bytes > 0
        assert [0] * 4 == list(picture.frames_received.values())
        host.now += 1.0
        host.hear(message(Control()))
        last = host.session.snapshot().last_frame
        assert (host.now, 1) == (last and last.now_s, host.session.snapshot().frames_received[FrameKind.CONTROL])

    def test_a_second_ready_means_nothing(self) -> None:
        """A peer cannot count itself a reconnect."""
        host = established().hear(message(Ready()))
        assert (State.OPEN, 0, 1) == (host.session.state, host.session.snapshot().reconnects, host.session.attempts.opens)


class TestTraffic:
    def test_events_in_line_cost_no_effects(self) -> None:
        """The common case: counted, nothing asked, nothing told."""
        host = established("1..5")
        host.say("6..100")
        assert [] == host.since()
        snapshot = host.session.snapshot()
        assert snapshot.continuity is not None
        assert (100, 100) == (snapshot.continuity.cursor, snapshot.continuity.events_received[Origin.LIVE])

    def test_every_message_is_counted_under_its_kind(self) -> None:
        """Frames by kind, bytes of all of them, and what was sent."""
        host = Host().start().open().tick().say("1 2 control garbage A(0,0,0,no)")
        picture = host.session.snapshot()
        assert {
            FrameKind.EVENT: 2, FrameKind.CONTROL: 2, FrameKind.HEARTBEAT: 1, FrameKind.INVALID: 1,
        } == picture.frames_received  # fmt: skip
        assert (6, len("ping 1")) == (picture.received_bytes, picture.sent_bytes)
        assert {FrameKind.HEARTBEAT: 1, FrameKind.RESYNC: 0, FrameKind.CONTROL: 0} == picture.frames_sent

    def test_sent_bytes_are_payload_bytes(self) -> None:
        """A letter may be more than one."""
        host = Host(protocol=ScriptedProtocol(first_words=(Reply("é☃"), Ready()))).start().open()
        assert 5 == host.session.snapshot().sent_bytes

    def test_garbage_is_counted_and_never_fatal(self) -> None:
        """Told at most every 10 s per kind; the counter has them all."""
        host = established()
        host.say("garbage " * 50)
        assert (State.OPEN, 50) == (host.session.state, host.session.snapshot().anomalies[Anomaly.MALFORMED])
        assert 1 == len(host.notices(Notice.ANOMALY))
        host.pass_time(10.0).say("garbage")
        assert 2 == len(host.notices(Notice.ANOMALY))

    def test_a_stream_that_cannot_be_trusted_is_made_anew(self) -> None:
        """A fatal frame ends the connection."""
        host = established("1 2").say("fatal")
        assert (State.RECONNECTING, 1) == (host.session.state, host.session.snapshot().disconnects[Disconnect.PROTOCOL_ERROR])
        assert [1000] == [close.code for close in host.closes()]

    def test_what_follows_a_fatal_word_belongs_to_nobody(self) -> None:
        """The connection has ended in the middle of the message."""
        host = Host().start().open().tick().say("1 2")
        host.hear(message(Invalid("nonce", fatal=True), Reply("late"), Pong(), Control(), Ready()))
        picture = host.session.snapshot()
        assert (State.RECONNECTING, 0, 0) == (picture.timeline.state, picture.frames_received[FrameKind.CONTROL], picture.reconnects)
        assert "late" not in host.sends()

    def test_a_fatal_word_during_the_handshake_is_a_failed_attempt(self) -> None:
        """Nothing was established, so nothing was disconnected."""
        for words in ((Invalid("noise", fatal=True), Ready()), (Control(),)):
            host = Host(protocol=ScriptedProtocol(first_words=words)).start().open()
            if host.connected:
                host.hear(message(Invalid("noise", fatal=True), Ready()))
            picture = host.session.snapshot()
            assert (State.RECONNECTING, 1, 0) == (
                picture.timeline.state,
                picture.attempt_failures[AttemptFailure.PROTOCOL],
                sum(picture.disconnects.values()),
            )
            assert (1, 1) == (len(host.closes()), picture.consecutive_failures)

    def test_ages_and_timestamps_of_the_last_frame_and_event(self) -> None:
        """Any frame is a frame; only the first copy of data is an event; the handshake is neither."""
        host = Host().start().open()
        assert (None, None) == (host.session.snapshot().last_frame, host.session.snapshot().last_event)
        host.now += 1.0
        host.say("1")
        host.now += 1.0
        host.say("pong 1")
        picture = host.session.snapshot()
        assert picture.last_frame is not None
        assert picture.last_event is not None
        assert (102.0, WALL_S + 102.0) == (picture.last_frame.now_s, picture.last_frame.wall_s)
        assert (101.0, WALL_S + 101.0) == (picture.last_event.now_s, picture.last_event.wall_s)


class TestStaleInput:
    def test_input_of_an_earlier_attempt_changes_nothing(self) -> None:
        """Races in the shell cannot corrupt counts: every input, once with an old and once with a future attempt."""
        host = reconnected("1..5").say("5 A(4,5,1,no)")
        session, now = host.session, host.now
        before = session._draw()
        for attempt in (host.attempt - 1, host.attempt + 1, 0):
            assert () == session.opened(now, attempt, Handshake())
            assert () == session.received(now, attempt, message(Control(), text=b"12345"))
            assert () == session.failed(now, attempt, AttemptFailure.REFUSED)
            assert () == session.closed(now, attempt, Disconnect.NETWORK, 1006)
        assert before == session._draw()

    def test_the_right_attempt_at_the_wrong_time_changes_nothing(self) -> None:
        """Messages before the upgrade, a second `opened`, a dial that fails after it succeeded, an end after the end."""
        host = Host().start()
        assert () == host.session.received(host.now, 1, message(Control()))
        assert () == host.session.closed(host.now, 1, Disconnect.NETWORK)
        host.open()
        before = host.session._draw()
        assert () == host.session.opened(host.now, 1, Handshake())
        assert () == host.session.failed(host.now, 1, AttemptFailure.REFUSED)
        assert before == host.session._draw()
        host.drop()
        before = host.session._draw()
        assert () == host.session.closed(host.now, 1, Disconnect.NETWORK)
        assert () == host.session.received(host.now, 1, message(Control()))
        assert before == host.session._draw()

    def test_after_a_close_the_session_has_moved_on(self) -> None:
        """An upgrade that succeeds after its timeout, and frames of a socket we left, are nobody's."""
        host = Host().start().pass_time(10.0)
        before = host.session._draw()
        assert () == host.session.opened(host.now, 1, Handshake())
        assert before == host.session._draw()
        host = established("1..5").pass_time(25.0, answering=False)
        assert State.RECONNECTING is host.session.state
        before = host.session._draw()
        assert () == host.session.received(host.now, 1, message(Control()))
        assert before == host.session._draw()


class TestHeartbeats:
    def test_a_silent_socket_is_half_open_within_interval_and_timeout(self) -> None:
        """However long after the last answer it froze: nothing arrives, so the receive side is dead."""
        for frozen_after_s in (0.1, 7.0, 14.9):
            host = established("1..5")
            host.pass_time(frozen_after_s)
            froze = host.now
            while host.session.state is State.OPEN:
                host.pass_time(host.session.deadline - host.now, answering=False)
            assert host.now - froze <= 25.0
            picture = host.session.snapshot()
            assert (1, 0) == (picture.heartbeat.half_open[Direction.RECEIVE], picture.heartbeat.half_open[Direction.SEND])
            assert 1 == picture.disconnects[Disconnect.HEARTBEAT_TIMEOUT]
            assert "receive" == host.notices(Notice.HALF_OPEN)[0].fields["direction"]
            assert Reason.HEARTBEAT_TIMEOUT in host.held()

    def test_frames_that_arrive_do_not_answer_a_ping(self) -> None:
        """The send side is dead although events keep coming; found just as soon."""
        host = established("1..5").pass_time(0.1)
        froze, number = host.now, 6
        while host.session.state is State.OPEN:
            host.pass_time(1.0, answering=False)
            if host.connected:
                host.say(str(number))
                number += 1
        assert host.now - froze <= 26.0
        picture = host.session.snapshot()
        assert (0, 1) == (picture.heartbeat.half_open[Direction.RECEIVE], picture.heartbeat.half_open[Direction.SEND])
        assert 1 == picture.disconnects[Disconnect.SEND_TIMEOUT]
        assert Reason.SEND_HALF_OPEN in host.held()

    def test_half_open_holds_until_a_ping_is_answered(self) -> None:
        """Through the reconnect, until the new connection has proven both directions."""
        host = established("1..5").pass_time(40.0, answering=False)
        found = host.held()[Reason.HEARTBEAT_TIMEOUT]
        assert found == host.notices(Notice.HALF_OPEN)[0].at_s - WALL_S
        host.open()
        assert found == host.held()[Reason.HEARTBEAT_TIMEOUT]
        host.tick()
        assert Reason.HEARTBEAT_TIMEOUT not in host.held()

    def test_a_slow_answer_is_no_verdict(self) -> None:
        """Just under 10 s after its ping it still counts."""
        host = established("1..5")
        sent = host.session.heartbeat.sent
        while host.session.heartbeat.sent == sent:
            host.pass_time(0.5, answering=False)
        host.pass_time(9.4, answering=False).say("pong").pass_time(20.0)
        assert (State.OPEN, 0) == (host.session.state, host.session.heartbeat.missed)

    def test_pongs_of_an_old_connection_answer_nothing_on_the_new(self) -> None:
        """Each connection starts with no ping outstanding."""
        host = established("1..5").drop()
        host.pass_time(10.0).open()
        host.say("pong")
        picture = host.session.snapshot().heartbeat
        assert picture.sent == picture.acknowledged + picture.missed

    def test_a_pong_with_a_server_time_tells_the_clock_offset(self) -> None:
        """Absent until then, and with it the latency of live events; what was replayed is not observed."""
        host = Host(offset_s=900.0).start().open().tick().say("49")
        assert (None, None) == (host.session.snapshot().clock_offset_s, host.session.snapshot().event_latency)
        host.hear(message(Pong(server_time_s=host.now + 900.0 + 3.0)))
        host.now = 1050.0 + 0.5 - 3.0 - 900.0  # event 50 is stamped 1050 by a server 3 s ahead, and took half a second
        host.say("50 50 D70")
        picture = host.session.snapshot()
        assert picture.event_latency is not None
        assert (3.0, 1, 0.5) == (picture.clock_offset_s, picture.event_latency.cumulative[-1], picture.event_latency.sum)


class TestStop:
    def test_stop_closes_with_1000_and_is_the_end(self) -> None:
        """Counted as ours, without a code that was received; nothing is due any more, and nothing that comes later counts."""
        host = established("1..5")
        host.take(host.session.stop(host.now))
        close = host.closes()[0]
        assert (1000, 1) == (close.code, close.attempt)
        picture = host.session.snapshot()
        assert (State.CLOSED, 1, 0) == (
            picture.timeline.state, picture.disconnects[Disconnect.LOCAL], picture.close_codes["1000"],
        )  # fmt: skip
        assert (math.inf, {}) == (host.session.deadline, host.held())
        assert () == host.session.stop(host.now + 1.0)
        assert () == host.session.received(host.now, 1, message(Control()))
        host.take(host.session.credentials(host.now, None))
        assert 1 == host.dials()

    def test_stop_while_dialling_gives_the_dial_up(self) -> None:
        """No disconnect: there was no connection."""
        host = Host().start()
        host.take(host.session.stop(host.now))
        assert ([1], 0) == ([close.attempt for close in host.closes()], sum(host.session.snapshot().disconnects.values()))
        assert (State.CLOSED, math.inf) == (host.session.state, host.session.deadline)

    def test_stop_while_waiting_closes_nothing(self) -> None:
        """There is no socket, and no further attempt."""
        host = Host().start().fail()
        host.take(host.session.stop(host.now))
        assert ([], math.inf, 1) == (host.closes(), host.session.deadline, host.dials())

    def test_stop_before_the_start(self) -> None:
        """A configured connection that never ran."""
        host = Host()
        host.take(host.session.stop(host.now))
        assert (State.CLOSED, math.inf) == (host.session.state, host.session.deadline)

    def test_stop_during_a_resync_ends_the_round_without_an_answer(self) -> None:
        """What was undecided is decided, and the resume point asks again."""
        host = reconnected("1..5").say("9 5 6")
        host.take(host.session.stop(host.now))
        picture = host.session.snapshot().continuity
        assert picture is not None
        assert (0, 6, 1) == (picture.undecided, picture.cursor, picture.resyncs[Claim.NONE, Verdict.UNVERIFIABLE])


class TestConfigure:
    def test_new_settings_apply_without_dropping_the_connection(self) -> None:
        """Shorter intervals at once, not after the long one has passed."""
        host = established("1..5", SessionSettings(heartbeat_interval_s=3600.0, verify_interval_s=3600.0))
        host.take(host.session.configure(host.now, SessionSettings(heartbeat_interval_s=15.0, verify_interval_s=60.0)))
        host.since()
        host.pass_time(15.0)
        assert ["ping 2"] == host.sends(host.since())
        host.pass_time(45.0)
        assert ["resync 4"] == [text[:8] for text in host.sends(host.since()) if text.startswith("resync")]
        assert (State.OPEN, 1) == (host.session.state, host.dials())

    def test_settings_apply_while_not_connected(self) -> None:
        """Nothing is due that was not before."""
        host = Host()
        host.session.configure(host.now, SessionSettings())
        assert math.inf == host.session.deadline
        host.start().fail()
        deadline = host.session.deadline
        host.take(host.session.configure(host.now, SessionSettings(connect_timeout_s=3.0)))
        assert deadline == host.session.deadline
        host.pass_time(1.0)
        assert 3.0 == [effect.timeout_s for effect in host.effects if isinstance(effect, Dial)][-1]


    def test_another_codec_is_for_the_next_dial(self) -> None:
        """The socket under way goes on in its own words."""
        host = established("1..5")
        other = ScriptedProtocol(page_limit=7)
        other.dial = lambda after=None: Request("ws://upstream/other")  # type: ignore[method-assign]  # a codec with another word or two
        host.take(host.session.equip(host.now, other, None))
        assert (State.OPEN, 1, []) == (host.session.state, host.dials(), host.since())
        host.drop().pass_time(10.0)
        assert "ws://upstream/other" == [effect.request.url for effect in host.effects if isinstance(effect, Dial)][-1]

    def test_a_canary_is_switched_on_and_off_on_an_open_connection(self) -> None:
        """It writes soon after, and leaves nothing behind: no reason, no clock offset, no answer that another one could take for its own."""
        host = established("1..5")
        host.take(host.session.equip(host.now, host.session.protocol, Canary(Codec(), 60.0, 20.0)))
        host.pass_time(5.0)
        (poll,) = host.polls()
        host.pass_time(20.0)
        assert Reason.CANARY_LOST in host.held()
        host.take(host.session.polled(host.now, poll.poll_id, Answer(201, b"1780000100.0")))
        assert host.session.snapshot().clock_offset_s is not None
        host.pass_time(40.0)
        host.take(host.session.equip(host.now, host.session.protocol, None))
        picture = host.session.snapshot()
        assert (None, None, None) == (picture.canary, picture.clock_offset_s, picture.event_latency)
        assert Reason.CANARY_LOST not in {*host.held(), *host.session.possible_reasons}
        written = len(host.polls())
        host.pass_time(100.0)
        assert written == len(host.polls())
        host.take(host.session.equip(host.now, host.session.protocol, Canary(Codec(), 60.0, 20.0)))
        host.pass_time(5.0)
        assert len({one.poll_id for one in host.polls()}) == len(host.polls()) == written + 1
        for late in host.polls()[:-1]:
            host.take(host.session.polled(host.now, late.poll_id, Answer(500)))
        picture = host.session.snapshot()
        assert picture.canary is not None
        assert (1, 0) == (picture.canary.sent, picture.canary.failed)

    def test_a_canary_that_stays_keeps_its_counts(self) -> None:
        """Only its settings change."""
        host = established("1..5", canary=Canary(Codec(), 60.0, 20.0))
        (poll,) = host.polls()
        host.take(host.session.polled(host.now, poll.poll_id, Answer(201)))
        host.take(host.session.equip(host.now, host.session.protocol, Canary(Codec(), 30.0, 20.0)))
        host.pass_time(31.0)
        picture = host.session.snapshot()
        assert picture.canary is not None
        assert 2 == picture.canary.sent

    def test_a_canary_that_comes_before_the_connection_waits_for_it(self) -> None:
        """It writes only while the connection is open."""
        host = Host().start()
        host.take(host.session.equip(host.now, host.session.protocol, Canary(Codec(), 60.0, 20.0)))
        host.pass_time(5.0)
        assert [] == host.polls()
        host.open().tick().pass_time(5.0)
        assert 1 == len(host.polls())


def test_effects_come_in_order_and_name_their_attempt() -> None:
    """A half-open connection is closed before the next is dialled, and nothing is sent on the old one."""
    host = established("1..5").pass_time(60.0, answering=False)
    steps = [effect for effect in host.effects if isinstance(effect, (Dial, Send, Close))]
    assert sorted(effect.attempt for effect in steps) == [effect.attempt for effect in steps]
    for number in range(1, host.attempt):
        own = [type(effect) for effect in steps if effect.attempt == number]
        assert (Dial, Close, 1, 1) == (own[0], own[-1], own.count(Dial), own.count(Close))


def test_a_snapshot_is_drawn_once_per_version() -> None:
    """Scrapes between two inputs share one picture; each input makes a new one, the common event included."""
    host = established("1..5")
    picture, version = host.session.snapshot(), host.session.version
    assert picture is host.session.snapshot()
    host.say("6")
    assert host.session.version > version
    assert picture is not host.session.snapshot()
    version = host.session.version
    host.session.wall(host.now, WALL_S + 1)
    assert host.session.version > version

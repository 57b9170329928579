"""A session asks for the server's newest number and compares: what a pong can never prove."""

from __future__ import annotations

from syncwatch.core.canary import Canary
from syncwatch.core.effects import Answer, Notice, Poll, Refused
from syncwatch.core.health import Reason
from syncwatch.core.session import SessionSettings
from syncwatch.core.states import Anomaly, State, Verification
from syncwatch.core.wire import Event
from tests.unit.sessions import WALL_S, Host, established, message
from tests.unit.test_canary import Codec


class Silent:
    """A server that answers pings and resync requests, but pushes nothing: `push` only stores."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.number = max(host.stream)

    def push(self, count: int = 1) -> None:
        """Events that nobody is sent."""
        for _ in range(count):
            self.number += 1
            self.host.stream[self.number] = Event(f"m{self.number}", strong=True, number=self.number, time_s=1000.0 + self.number)


def results(host: Host) -> tuple[int, int, int]:
    """verified, behind, failed."""
    counts = host.session.verification.results
    return counts[Verification.VERIFIED], counts[Verification.BEHIND], counts[Verification.FAILED]


def unverified_s(host: Host) -> float:
    """What the metric shows."""
    verified_s = host.session.snapshot().verified_now_s
    assert verified_s is not None
    return host.now - verified_s


class TestBaseline:
    def test_before_any_number_the_server_is_asked_for_its_own(self) -> None:
        """2 s after ready: nothing is above the largest number, so nothing is replayed, and its answer is where we begin."""
        host = Host().start().open().tick().pass_time(1.9)
        assert [] == host.resyncs()
        host.pass_time(0.1, answering=False)
        assert (["9007199254740991"], State.OPEN) == (host.resyncs(), host.session.state)
        host.say("A(9007199254740991,41,0,no)")
        assert (41, (0, 0, 0, 0, 0), (1, 0, 0)) == (host.session.ledger.cursor, host.numbers(), results(host))
        host.say("42 43")
        assert (43, 0) == (host.session.ledger.cursor, host.session.ledger.out_of_order)

    def test_a_baseline_that_was_told_is_resumed_from(self) -> None:
        """A stream idle since the start: what is pushed during the first outage is missed and recovered."""
        host = Host().start().open().tick().pass_time(2.0, answering=False)
        host.say("A(9007199254740991,41,0,no)").pass_time(30.0).drop()
        host.pass_time(host.session.deadline - host.now).open().tick()
        assert "41" == host.resyncs()[-1]
        host.say("42 43 A(41,43,2,no)")
        assert ((2, 2, 0, 0, 0), 43) == (host.numbers(), host.session.ledger.cursor)

    def test_a_server_without_events_stands_at_zero(self) -> None:
        """The first event ever is number 1, in line."""
        host = Host().start().open().tick().pass_time(2.0, answering=False).say("A(9007199254740991,0,0,no)").say("1 2")
        assert (2, 0, (0, 0, 0, 0, 0)) == (host.session.ledger.cursor, host.session.ledger.out_of_order, host.numbers())

    def test_a_number_that_comes_first_is_the_baseline(self) -> None:
        """Then the check is an ordinary one."""
        host = Host().start().open().tick().say("7").pass_time(2.0, answering=False)
        assert ["6"] == host.resyncs()

    def test_an_event_that_overtakes_the_baseline_question_is_live(self) -> None:
        """Nothing was asked to be replayed, so nothing of the round is replay and nothing is given up."""
        host = Host().start().open().tick().pass_time(2.0, answering=False)
        host.say("41 42 A(9007199254740991,42,0,no)")
        ledger = host.session.ledger
        assert (42, 2, 0, (0, 0, 0, 0, 0)) == (ledger.cursor, ledger.live, ledger.replayed, host.numbers())


class TestTipCheck:
    def test_an_idle_stream_is_verified_each_minute(self) -> None:
        """Each equal answer resets the unverified time and is told; the state does not move, nobody calls it a resync."""
        host = established("1..5")
        told, walked, checks = len(host.notices(Notice.RESYNCED)), host.walked(), results(host)[0]
        host.pass_time(300.0)
        assert (checks + 5, 0, 0) == results(host)
        assert (told, walked) == (len(host.notices(Notice.RESYNCED)), host.walked())
        assert unverified_s(host) <= 60.0
        assert {"result": "verified", "cursor": 5, "current": 5}.items() <= host.notices(Notice.VERIFICATION)[-1].fields.items()

    def test_a_pong_proves_nothing_about_the_stream(self) -> None:
        """Pings answered, checks not yet due: the unverified time grows."""
        host = established("1..5", SessionSettings(verify_interval_s=3600.0))
        before = unverified_s(host)
        host.pass_time(1000.0)
        assert before + 1000.0 == unverified_s(host)

    def test_since_start_if_never(self) -> None:
        """Before the first proof the time counts from the start."""
        host = Host().start().pass_time(7.0)
        assert 7.0 == unverified_s(host)

    def test_live_traffic_is_verified_without_help(self) -> None:
        """A check in the middle of steady traffic brings nothing that had not come."""
        host = established("1..5")
        for number in range(6, 400):
            host.say(str(number)).pass_time(0.5)
        assert (0, 0) == results(host)[1:]
        assert (State.OPEN, (0, 0, 0, 0, 0)) == (host.session.state, host.numbers())

    def test_an_unanswered_check_failed(self) -> None:
        """Counted, and the socket is made anew as for any unanswered question."""
        host = established("1..5")
        host.pass_time(72.0, answering=True)
        while host.session.ledger.window is None:
            host.pass_time(host.session.deadline - host.now, answering=False)
            if host.sends()[-1].startswith("ping"):
                host.say("pong")
        before = results(host)
        host.pass_time(10.0, answering=False)
        assert (*before[:2], before[2] + 1) == results(host)
        assert (State.RECONNECTING, 1) == (host.session.state, host.session.snapshot().anomalies[Anomaly.ACK_MISSING])


class TestBehind:
    def test_a_server_that_pushes_nothing_is_behind_within_interval_and_grace(self) -> None:
        """Pings and checks are answered; 60 s + 2 s after it fell silent it is behind, at the latest."""
        for silent_after_s in (0.5, 20.0, 55.0):
            host = established("1..5").pass_time(silent_after_s)
            server, fell = Silent(host), host.now
            server.push(3)
            while Reason.BEHIND not in host.held():
                host.pass_time(0.5)
            assert host.now - fell <= 62.5
            assert {"result": "behind"}.items() <= host.notices(Notice.VERIFICATION)[-1].fields.items()

    def test_it_stays_behind_while_events_come_by_replay_only(self) -> None:
        """Every check brings what was not pushed: all recovered, none lost; still behind since the same moment, unverified time grows."""
        host = established("1..5")
        server, fell = Silent(host), host.now
        server.push()
        host.pass_time(63.0)
        since = host.held()[Reason.BEHIND]
        for _ in range(10):
            server.push(5)
            host.pass_time(60.0)
        assert since == host.held()[Reason.BEHIND]
        assert (51, 51, 0, 0, 0) == host.numbers()
        assert unverified_s(host) >= host.now - fell
        assert results(host)[1] >= 10

    def test_the_next_equal_check_clears_it(self) -> None:
        """Nothing new at the server and nothing missing here."""
        host = established("1..5")
        Silent(host).push(2)
        host.pass_time(63.0)
        assert Reason.BEHIND in host.held()
        host.pass_time(60.0)
        assert ({}, State.OPEN) == (host.held(), host.session.state)
        assert unverified_s(host) <= 60.0

    def test_a_verdict_asks_once_more_on_the_same_socket(self) -> None:
        """open, resyncing, open; no reconnect."""
        host = established("1..5")
        Silent(host).push(2)
        walked = len(host.walked())
        host.pass_time(64.0)
        assert [State.RESYNCING, State.OPEN] == host.walked()[walked:]
        assert 1 == host.dials()

    def test_a_live_event_brings_the_check_forward_and_may_clear_it(self) -> None:
        """The push path works again: no need to wait for the next minute."""
        host = established("1..5")
        Silent(host).push(2)
        host.pass_time(63.0)
        host.say("8").pass_time(3.0)
        assert {} == host.held()

    def test_a_live_event_that_is_no_cure_clears_nothing(self) -> None:
        """One event is pushed, others still are not: the check that follows needs help again."""
        host = established("1..5")
        server = Silent(host)
        server.push(2)
        host.pass_time(63.0)
        host.say("8")
        server.number = 8
        server.push(2)
        host.pass_time(30.0)
        assert Reason.BEHIND in host.held()

    def test_it_survives_a_reconnect_until_proof(self) -> None:
        """A settled resync proves the position, not that a silent push path has recovered; an equal check does."""
        host = established("1..5")
        Silent(host).push(2)
        host.pass_time(63.0)
        since = host.held()[Reason.BEHIND]
        host.drop().pass_time(host.session.deadline - host.now).open().tick().settle()
        assert (State.OPEN, since) == (host.session.state, host.held()[Reason.BEHIND])
        host.pass_time(61.0)
        assert {} == host.held()

    def test_a_burst_in_flight_is_not_behind(self) -> None:
        """The check overtook what was being pushed; the live path goes on within the grace."""
        host = established("1..5")
        Silent(host).push(2)
        while not host.session.verification.watching:
            host.pass_time(0.25)
        host.say("8").pass_time(10.0)
        assert ({}, 0) == (host.held(), results(host)[1])

    def test_a_hole_left_open_is_never_verified(self) -> None:
        """Ahead of us, and the rest did not come: not equal."""
        host = established("1..5")
        checks = results(host)
        while host.session.ledger.window is None:
            host.pass_time(host.session.deadline - host.now, answering=False)
            if host.sends()[-1].startswith("ping"):
                host.say("pong")
        host.say("5 A(4,7,1,no)")
        host.pass_time(1.9)
        assert checks == results(host)
        assert not [n for n in host.notices(Notice.VERIFICATION)[checks[0] :] if n.fields["result"] == "verified"]


class TestCanary:
    def sidecar(self) -> Host:
        """Stable, with a canary each minute."""
        host = Host(canary=Canary(Codec(), 60.0, 20.0)).start().open().tick().say("1..5").pass_time(2.0)
        host.pass_time(0.5)
        assert 1 == len(host.polls())
        return host

    def mark(self, host: Host) -> bytes:
        """The newest canary's own words."""
        return host.polls()[-1].request.url.partition("/")[2].encode()

    def test_the_first_is_written_within_five_seconds_of_open(self) -> None:
        """Spread by chance: 2.5 s here."""
        host = self.sidecar()
        assert (102.5, "POST") == (host.now, host.polls()[0].request.method)

    def test_seen_live_it_is_received_and_verifies_the_stream(self) -> None:
        """Written through the API, seen on the connection."""
        host = self.sidecar()
        host.take(host.session.polled(host.now, host.polls()[0].poll_id, Answer(201)))
        host.pass_time(0.25)
        host.hear(message(Event("m6", True, number=6), text=b'{"text":"' + self.mark(host) + b'"}'))
        picture = host.session.snapshot().canary
        assert picture is not None
        assert (1, 1, 0, 0.25) == (picture.sent, picture.received, picture.timed_out, picture.round_trip.sum)
        assert 0.0 == unverified_s(host)

    def test_lost_ones_are_incidents_and_come_late(self) -> None:
        """lost = timed out - late, told both times."""
        host = self.sidecar().pass_time(20.0)
        assert Reason.CANARY_LOST in host.held()
        assert "timed_out" == host.notices(Notice.CANARY)[-1].fields["result"]
        host.hear(message(Event("m6", True, number=6), text=self.mark(host)))
        picture = host.session.snapshot().canary
        assert picture is not None
        assert (1, 0, 1, 1) == (picture.sent, picture.received, picture.timed_out, picture.late)

    def test_time_passes_for_it_without_a_connection_too(self) -> None:
        """What was written before an outage times out in time, not when the outage is over; nothing is written meanwhile."""
        host = self.sidecar().drop()
        host.pass_time(20.0)
        picture = host.session.snapshot().canary
        assert picture is not None
        assert (1, 1) == (picture.timed_out, len(host.polls()))
        host.pass_time(600.0)
        assert 1 == len(host.polls())

    def test_a_missing_channel_is_made(self) -> None:
        """404: the codec's setup, one request after the other, then the write again."""
        host = self.sidecar()
        for expected in ("create", "join", "post"):
            host.take(host.session.polled(host.now, host.polls()[-1].poll_id, Answer(404 if expected == "create" else 201)))
            newest = host.effects[-1]
            assert isinstance(newest, Poll)
            assert expected == newest.request.url.partition("/")[0]

    def test_a_refused_write_is_told_and_no_incident(self) -> None:
        """What was not written cannot be lost."""
        host = self.sidecar()
        host.take(host.session.polled(host.now, host.polls()[0].poll_id, Refused("timeout", "20 s")))
        assert {"result": "failed", "detail": "timeout: 20 s"}.items() <= host.notices(Notice.CANARY)[-1].fields.items()
        host.pass_time(30.0)
        assert Reason.CANARY_LOST not in host.held()

    def test_its_answer_tells_the_clock_offset(self) -> None:
        """And with it the latency of live events is known."""
        host = self.sidecar()
        host.take(host.session.polled(host.now, host.polls()[0].poll_id, Answer(201, str(host.now + WALL_S + 3.0).encode())))
        assert 3.0 == host.session.snapshot().clock_offset_s
        assert host.session.snapshot().event_latency is not None

    def test_after_the_stop_nothing_is_due(self) -> None:
        """Even if one still waits."""
        host = self.sidecar()
        host.take(host.session.stop(host.now))
        host.take(host.session.polled(host.now, host.polls()[0].poll_id, Answer(404)))
        assert (1, float("inf")) == (len(host.polls()), host.session.deadline)

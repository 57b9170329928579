"""Recovery by reading the server's log: when it is read, what failures lead to, the polling fallback and the way back."""

from __future__ import annotations

import math
from typing import Any, Self

import pytest

from syncwatch.core.canary import Canary
from syncwatch.core.effects import Answer, Notice, Poll, Refused
from syncwatch.core.health import Reason
from syncwatch.core.recovery import SessionSettings
from syncwatch.core.states import AttemptFailure, Disconnect, State, Verification
from syncwatch.core.wire import Page
from tests.unit.feed_host import Body, FeedHost, FeedProtocol, connected, refused_until_polling, through_json
from tests.unit.test_canary import Codec

# -- the first position ------------------------------------------------------------------------------------------------


def test_the_first_connection_asks_for_the_newest_row_and_judges_nothing_before_it() -> None:
    """The log held ten events when we came: none of them is missed, none delivered."""
    host = connected("1..10")
    assert ["tip"] == host.asked()[:1]
    host.pass_time(130.0)
    assert {} == host.origins()
    assert {"clean": 3} == host.audits()
    assert set(host.asked()[1:]) == {"rows 9"}


def test_an_empty_log_is_a_first_position_too() -> None:
    """Everything that is written later is ours: what the socket left out is missed."""
    host = connected("")
    host.push("1").write("2").push("3").pass_time(65.0)
    assert {"live": 2, "audit": 1} == host.origins()
    assert (1, 1, 0, 0, 0) == host.numbers()


def test_what_overtakes_the_answer_on_an_empty_log_proves_nothing_against_it() -> None:
    """What has to be found again is fixed when the question is asked."""
    host = connected("")
    host.push("1")
    host.feed = "held"
    host.pass_time(60.0)
    assert ["rows None"] == [poll.request.url for poll in host.waiting()]
    host.bring("2")
    host.reply(host.page([*host.log]))
    assert 0 == host.session.ledger.resets


def test_a_connection_that_brings_something_sets_the_first_position_itself() -> None:
    """It was gone before the log could be read: what was written meanwhile is not lost with it, and what it left out is missed."""
    host = FeedHost(log="1..3", protocol=FeedProtocol(resumes=False, dense=True))
    host.feed = "held"
    host.start().open().tick().push("4").write("5").push("6").drop().write("7 8")
    host.feed = "up"
    host.pass_time(5.0).open().tick().pass_time(5.0)
    assert "rows 3" == host.asked()[1]
    assert {"live": 2, "store": 2, "audit": 1} == host.origins()
    assert (1, 1, 0, 0, 0) == host.numbers()


@pytest.mark.parametrize(
    ("protocol", "place"),
    [(FeedProtocol(resumes=False, dense=True), "rows 3"), (FeedProtocol(), "rows 4")],
    ids=["observer", "relayfile"],
)
def test_what_is_left_out_before_the_log_could_be_read_is_missed(protocol: FeedProtocol, place: str) -> None:
    """The feed is refused for a minute from the start: the first comparison begins at the first event, not where the log stands by then."""
    host = FeedHost(log="1..3", protocol=protocol)
    host.feed = 503
    host.start().open().tick().push("4").write("5").push("6").pass_time(60.0)
    host.push("7").write("8").push("9")
    assert (0, 0, 0, 0, 0) == host.numbers(), "nobody can know yet"
    host.feed = "up"
    unverified_since = host.session.verification.verified_s
    while host.asked()[-1] == "tip":
        assert unverified_since == host.session.verification.verified_s, "knowing where the log stands proves nothing about what came"
        host.pass_time(0.5)
    assert place == host.asked()[-1]
    host.pass_time(5.0)
    assert {"live": 4, "audit": 2} == host.origins()
    assert (2, 2, 0, 0, 0) == host.numbers()
    assert "behind" not in {str(reason) for reason in host.held()}


# -- settling a connection ---------------------------------------------------------------------------------------------


def test_a_reconnect_is_settled_by_the_feed() -> None:
    """Dialled one event before the last; the catch-up ends with the first pong; what it brought is store, and the log agrees."""
    host = connected()
    host.push("4 5").drop().write("6 7").pass_time(5.0)
    assert ["None", "4"] == host.dialled()
    host.open().bring("5..7").tick()
    assert State.OPEN is host.session.state
    assert {"complete verified": 1} == host.resyncs_counted()
    assert {"live": 2, "store": 2} == host.origins()
    assert 1 == host.session.ledger.duplicates


def test_what_the_catch_up_left_out_is_missed_after_the_grace() -> None:
    """A socket that was dialled with a position promised everything behind it."""
    host = connected()
    host.push("4 5").drop().write("6 7").pass_time(5.0).open().bring("5 7").tick()
    assert State.RESYNCING is host.session.state
    host.pass_time(2.0)
    assert {"complete contradicted": 1} == host.resyncs_counted()
    assert (1, 1, 0, 0, 0) == host.numbers()
    assert [("reconnect", 6, 6, 1)] == [
        (n.fields["cause"], n.fields["first"], n.fields["last"], n.fields["missing"]) for n in host.notices(Notice.GAP)
    ]


def test_nothing_is_promised_by_a_socket_that_does_not_resume() -> None:
    """The time without a socket is delivery; what the socket before it left out is missed."""
    host = connected(protocol=FeedProtocol(resumes=False, dense=True))
    host.push("4").write("5").push("6").drop().write("7 8").pass_time(5.0).open().tick().pass_time(3.0)
    assert {"live": 2, "store": 2, "audit": 1} == host.origins()
    assert {Verification.BEHIND: 0} == {Verification.BEHIND: host.session.verification.results[Verification.BEHIND]}


def test_the_feed_is_given_up_after_ten_seconds_and_its_next_answer_settles_nothing_twice() -> None:
    """The connection is used without the log's word; what nobody promised is still no loss."""
    host = connected(protocol=FeedProtocol(resumes=False, dense=True))
    host.push("4").drop().write("5")
    host.feed = 503
    host.pass_time(5.0).open().tick().pass_time(11.0)
    assert State.OPEN is host.session.state
    assert Reason.RESYNC_UNANSWERED in host.held()
    assert {"none unverifiable": 1} == host.resyncs_counted()
    host.feed = "up"
    host.pass_time(70.0)
    assert {"live": 1, "store": 1} == host.origins()
    assert {} == host.held()


@pytest.mark.parametrize("answer", [Answer(503), Refused("timeout"), FeedHost.garbled()], ids=["503", "timeout", "no page"])
def test_a_reading_that_failed_is_retried_after_two_seconds_while_a_connection_waits(answer: Answer | Refused) -> None:
    """And not at once, whatever else is due."""
    host = connected()
    host.push("4").drop().pass_time(5.0)
    host.feed = "held"
    host.open().bring("4").tick()
    host.reply(answer)
    host.since()
    host.pass_time(1.9)
    assert [] == host.waiting()
    host.pass_time(0.2)
    assert ["rows 2"] == [poll.request.url for poll in host.waiting()]


def test_retry_after_holds_for_the_next_connection_as_well() -> None:
    """The server asked for 60 s: a new connection does not ask before."""
    host = connected()
    host.push("4").drop().pass_time(5.0)
    host.feed = "held"
    host.open().bring("4").tick()
    host.reply(Answer(429, retry_after_s=60.0)).drop()
    assert Reason.RATE_LIMITED in host.held()
    host.pass_time(10.0).open().tick()
    host.pass_time(40.0)
    assert [] == host.waiting()
    host.pass_time(12.0)
    assert 1 == len(host.waiting())


def test_a_jump_in_a_dense_log_is_looked_at_after_the_grace_and_a_failing_feed_is_not_asked_all_the_time() -> None:
    """One question, one pause of a whole interval."""
    host = connected(protocol=FeedProtocol(resumes=False, dense=True))
    host.feed = "held"
    host.push("4").write("5").push("6").pass_time(2.1)
    assert 1 == len(host.waiting())
    host.feed = 401
    host.serve()
    asked = len(host.asked())
    host.pass_time(30.0)
    assert asked == len(host.asked())
    host.feed = "up"
    host.pass_time(60.0)
    assert (1, 1, 0, 0, 0) == host.numbers()
    assert 1 == sum(host.session.ledger.gaps.values())


def dense(**more: Any) -> FeedHost:
    """Connected to a server whose numbers leave none out and whose socket does not resume."""
    return connected(protocol=FeedProtocol(resumes=False, dense=True), **more)


def test_a_jump_that_came_while_the_log_was_read_is_looked_into_when_that_is_done() -> None:
    """The answer was given before it and explains nothing: it is asked again, once, and not a minute later."""
    host = FeedHost(log="1..3", protocol=FeedProtocol(resumes=False, dense=True))
    host.start().open().tick()
    host.feed = "held"
    host.pass_time(2.1)
    assert ["tip", "rows 2"] == host.asked()
    before = host.page(host.log[2:])
    host.push("4").write("5").push("6").reply(before)
    host.feed = "up"
    host.pass_time(5.0)
    assert {"live": 2, "audit": 1} == host.origins()
    assert (1, 1, 0, 0, 0) == host.numbers()
    assert ["tip", "rows 2", "rows 2"] == host.asked()
    host.pass_time(30.0)
    assert 3 == len(host.asked())


def test_a_jump_while_a_found_row_has_its_grace_is_looked_into_after_it() -> None:
    """Two losses soon after one another are two gaps, both found within seconds."""
    host = dense()
    host.push("4").write("5").push("6").pass_time(2.5).push("7").write("8").push("9").pass_time(7.0)
    assert {"live": 4, "audit": 2} == host.origins()
    assert 2 == sum(host.session.ledger.gaps.values())


def test_a_connection_whose_first_event_is_not_the_next_one_has_jumped() -> None:
    """The first one ever, and the first one after a reconnect: the log was read, so it is known what comes next."""
    host = dense()
    host.write("4").push("5").pass_time(5.0)
    assert {"live": 1, "audit": 1} == host.origins()
    host.drop().write("6").pass_time(5.0).open().tick().pass_time(3.0)
    host.write("7").push("8").pass_time(5.0)
    assert {"live": 2, "store": 1, "audit": 2} == host.origins()


def test_what_an_audit_has_brought_is_no_jump() -> None:
    """The next number after what the log has is the next one, although the socket left those before it out."""
    host = dense()
    host.push("4").write("5 6").pass_time(65.0)
    assert {"live": 1, "audit": 2} == host.origins()
    host.push("7")
    assert math.inf == host.journal.jump_s


def test_a_push_path_that_is_dead_is_behind_at_the_next_audit() -> None:
    """Pongs arrive and the feed answers; only the comparison shows it, and only an event that comes by itself, compared, takes it back."""
    host = connected()
    host.push("4").write("5 6").pass_time(70.0)
    assert Reason.BEHIND in host.held()
    assert {"live": 1, "audit": 2} == host.origins()
    host.push("7").pass_time(5.0)
    assert Reason.BEHIND not in host.held()


def test_pages_overlap_by_one() -> None:
    """Each page begins with the last row of the one before."""
    host = connected()
    host.push("4").drop().write("5..9").pass_time(5.0)
    host.page_rows = 3
    host.open().bring("4..9").tick()
    assert ["rows 2", "rows 4", "rows 6"] == host.asked()[-3:]
    assert {"complete verified": 1} == host.resyncs_counted()


def test_a_log_replaced_between_two_pages_is_another_log() -> None:
    """Although it knows the number that was asked for."""
    host = connected()
    host.push("4").drop().write("5..9").pass_time(5.0)
    host.page_rows = 3
    host.feed = "held"
    host.open().tick()
    host.reply(host.page(host.log[2:5], 5))
    host.lose_log().write("1..9")
    host.feed = "up"
    host.serve()
    assert 1 == host.session.ledger.resets
    host.pass_time(10.0).open().tick().pass_time(10.0)
    assert 9 == host.origins()["store"]


def test_a_reading_that_brings_nothing_new_keeps_its_place() -> None:
    """It does not start over from the beginning of the log."""
    host = connected("1..50")
    host.pass_time(200.0)
    assert {"rows 49"} == set(host.asked()[1:])


# -- another log -------------------------------------------------------------------------------------------------------


def test_a_reset_is_found_by_the_overlap_and_the_new_log_is_read_once() -> None:
    """An unknown cursor: the socket sends nothing, the feed begins with something else."""
    host = connected("1..9")
    host.push("10").drop().lose_log().write("1 2").pass_time(5.0).open().tick()
    assert 1 == host.session.ledger.resets
    assert Reason.EPOCH_RESET in host.held()
    host.pass_time(8.0)
    assert State.OPEN is host.session.state
    assert {"live": 1, "store": 2} == host.origins()
    assert {"complete unverifiable": 1} == host.resyncs_counted()
    assert (0, 0, 0, 0, 0) == host.numbers()


def test_a_log_that_has_passed_the_cursor_is_found_on_the_socket() -> None:
    """The last event's number belongs to another event."""
    host = connected("1..9")
    host.push("10 11").drop().lose_log().write("1..14").pass_time(5.0)
    host.feed = "held"
    host.open().bring("11..14").tick()
    assert 1 == host.session.ledger.resets
    host.feed = "up"
    host.serve().pass_time(8.0)
    assert 14 == host.origins()["store"]
    assert (0, 0, 0, 0, 0) == host.numbers()


def test_a_connection_of_the_old_log_is_left() -> None:
    """The feed is another server's by now, and this socket has shown that it is of the one before."""
    host = connected("1..9")
    host.push("10").lose_log().write("1 2").pass_time(61.0)
    assert 1 == host.session.ledger.resets
    assert State.RECONNECTING is host.session.state
    assert 1 == host.session.attempts.disconnects[Disconnect.LOCAL]
    host.pass_time(10.0).open().tick().pass_time(8.0)
    assert {"live": 1, "store": 2} == host.origins()


def test_a_new_log_promises_nothing_until_it_was_read_once() -> None:
    """However many connections that takes: what came before what they brought was not missed."""
    host = connected("1..9")
    host.push("10").drop().lose_log().write("1..5").pass_time(5.0)
    host.feed = "held"
    host.open().tick()
    host.reply(host.page(host.log))
    assert 1 == host.session.ledger.resets
    host.push("6").drop()
    host.pass_time(5.0).open().bring("6").tick()
    host.feed = "up"
    host.serve().pass_time(8.0)
    assert (0, 0, 0, 0, 0) == host.numbers()
    assert {"live": 2, "store": 5} == host.origins()


def test_a_reset_while_polling_is_read_from_the_beginning() -> None:
    """Nothing else is known of it."""
    host = refused_until_polling(connected("1..9"))
    host.lose_log().write("1..4").pass_time(15.0, answering=False)
    assert 1 == host.session.ledger.resets
    assert {"poll": 4} == host.origins()


def test_a_token_that_may_not_read_the_feed_leaves_the_socket_s_word() -> None:
    """403: no wait for the log; a catch-up that was to begin with the last event and does not is another log's."""
    host = connected("1..9")
    host.push("10 11").drop()
    host.feed = 403
    host.pass_time(5.0).open().bring("11 12").tick()
    assert State.OPEN is host.session.state
    assert 0 == host.session.ledger.resets
    assert {"none unverifiable": 1} == host.resyncs_counted()
    host.drop().lose_log().pass_time(10.0).open().tick()
    assert 1 == host.session.ledger.resets


def test_without_an_overlap_asked_for_silence_proves_nothing() -> None:
    """Only one event was ever delivered: the dial is behind it, and its absence is right."""
    host = connected("1..9")
    host.push("10").drop()
    host.feed = 403
    host.pass_time(5.0).open().tick()
    assert 0 == host.session.ledger.resets


def test_a_refusal_of_an_earlier_connection_does_not_make_the_socket_s_word_all_there_is() -> None:
    """The feed that was forbidden then only hangs now: what a catch-up does not begin with proves nothing."""
    host = connected("1..9")
    host.push("10 11").drop()
    host.feed = 403
    host.pass_time(5.0).open().bring("11").tick()
    host.drop().pass_time(5.0)
    host.feed = "held"
    host.open().tick()
    host.reply(Refused("timeout")).pass_time(11.0)
    assert State.OPEN is host.session.state
    assert 0 == host.session.ledger.resets


# -- instead of a socket -----------------------------------------------------------------------------------------------


def test_after_three_failed_handshakes_the_feed_carries_on_from_the_last_event() -> None:
    """What was written between the loss of the socket and the first poll is seen exactly once."""
    host = connected()
    host.push("4").drop().write("5 6")
    refused_until_polling(host)
    assert State.POLLING is host.session.state
    assert Reason.POLLING in host.held()
    assert {"live": 1, "poll": 2} == host.origins()
    host.write("7").pass_time(5.0, answering=False)
    assert {"live": 1, "poll": 3} == host.origins()
    assert (0, 0, 0, 0, 0) == host.numbers()


def test_two_failed_handshakes_are_not_enough() -> None:
    """A hiccup is no fallback."""
    host = connected()
    host.drop()
    asked = len(host.asked())
    for _ in range(2):
        while not host.dialling:
            host.pass_time(1.0)
        host.fail()
    assert State.RECONNECTING is host.session.state
    assert asked == len(host.asked())


def test_the_websocket_is_probed_after_5_10_20_seconds_up_to_five_minutes() -> None:
    """Each failed probe doubles the pause."""
    host = refused_until_polling(connected())
    pauses = []
    for _ in range(9):
        began = host.now
        while not host.dialling:
            host.pass_time(1.0)
        pauses.append(round(host.now - began))
        host.fail()
    assert [5, 10, 20, 40, 80, 160, 300, 300, 300] == pauses


def test_the_return_is_settled_like_a_reconnect() -> None:
    """Polling, resyncing, open; nothing twice, nothing lost."""
    host = refused_until_polling(connected())
    host.write("4 5").pass_time(5.5, answering=False)
    assert host.dialling
    host.write("6").open().bring("5 6").tick()
    assert [State.POLLING, State.RESYNCING, State.OPEN] == host.walked()[-3:]
    assert {"poll": 2, "store": 1} == host.origins()
    assert {"complete verified": 1} == host.resyncs_counted()
    assert Reason.POLLING not in host.held()


def test_a_fallback_without_any_connection_before_it_begins_at_the_newest_row() -> None:
    """There was no socket yet, and the log is not ours to judge up to here."""
    host = FeedHost(log="1..5")
    host.start()
    refused_until_polling(host)
    assert State.POLLING is host.session.state
    assert ["tip"] == host.asked()
    host.write("6").pass_time(5.0, answering=False)
    assert {"poll": 1} == host.origins()
    assert host.session.settled_once


def test_a_socket_dialled_from_now_on_promises_nothing_whatever_was_learned_meanwhile() -> None:
    """The first position was read while it was dialled."""
    host = FeedHost(log="")
    host.feed = "held"
    host.start()
    refused_until_polling(host)
    while not host.dialling:
        host.pass_time(1.0)
    host.write("1 2")
    host.feed = "up"
    host.serve().write("3").open().tick().pass_time(5.0)
    assert "None" == host.dialled()[-1]
    assert {"store": 1} == host.origins()
    assert (0, 0, 0, 0, 0) == host.numbers()


def test_three_polls_without_an_answer_end_the_fallback_and_the_socket_is_tried_soon() -> None:
    """Not after the long pause of a probe: nothing carries on any more."""
    host = refused_until_polling(connected())
    for _ in range(5):
        while not host.dialling:
            host.pass_time(1.0)
        host.fail()
    host.feed = 503
    host.pass_time(16.0, answering=False)
    assert State.RECONNECTING is host.walked()[-1]
    host.pass_time(3.0)
    assert host.dialling
    host.feed = "up"
    host.fail()
    assert State.POLLING is host.walked()[-1]


@pytest.mark.parametrize(
    ("status", "reason"), [(401, Reason.UNAUTHORIZED), (403, Reason.FORBIDDEN), (429, Reason.RATE_LIMITED), (500, Reason.UPSTREAM_ERROR)]
)
def test_who_refuses_the_feed_is_told(status: int, reason: Reason) -> None:
    """While polling, each refusal is a reason; it goes with the next answer."""
    host = refused_until_polling(connected())
    host.feed = status
    host.pass_time(6.0, answering=False)
    assert reason in host.held()
    host.feed = "up"
    host.pass_time(10.0)
    assert reason not in host.held()


def test_a_forbidden_feed_is_no_trouble_of_a_connection() -> None:
    """A path-limited token may watch and may not poll: told apart, and not said to be degraded for it."""
    host = FeedHost(log="1..5")
    host.feed = 403
    host.start().open().tick().pass_time(30.0)
    assert State.OPEN is host.session.state
    assert Reason.FORBIDDEN not in host.held()


def test_refused_credentials_stop_polling_and_a_new_token_is_tried_at_once() -> None:
    """The feed takes the same token."""
    host = refused_until_polling(connected())
    while not host.dialling:
        host.pass_time(1.0)
    host.fail(AttemptFailure.UNAUTHORIZED)
    assert State.FAILED is host.session.state
    asked = len(host.asked())
    host.pass_time(20.0)
    assert asked == len(host.asked())
    host.take(host.session.credentials(host.now, None))
    host.take(host.session.credentials(host.now, None))
    host.tick()
    assert host.dialling


class Hiding(FeedHost):
    """An observer's server: it tells its newest number, and shows rows that the token may see."""

    def __init__(self, **more: Any) -> None:
        self.hidden: set[int] = set()
        super().__init__(protocol=FeedProtocol(resumes=False, dense=True), **more)

    def honest(self, url: str) -> Answer:
        """What the log has, without what is hidden."""
        answer = super().honest(url)
        assert isinstance(answer.body, Body)
        page = answer.body.page
        assert isinstance(page, Page)
        rows = [event for event in page.events if event.number not in self.hidden]
        return self.page(rows, page.next_after, newest=self.log[-1].number if self.log else 0)

    def token(self) -> Self:
        """The token file was read."""
        self.take(self.session.credentials(self.now, None))
        return self


def watched(hidden: set[int]) -> Hiding:
    """Six events, compared with the log; then another token, to which some of them are hidden, and one event more."""
    host = Hiding(log="1..3")
    host.start().token().open().tick().pass_time(2.5).push("4..6").pass_time(70.0)
    host.hidden = hidden
    host.token().push("7")
    return host


@pytest.mark.parametrize("hidden", [{5, 6}, {6, 7}, {3, 6}], ids=["the last compared", "and all behind it", "and one of before"])
def test_a_token_that_shows_less_is_no_other_log(hidden: set[int]) -> None:
    """What has to be found again is hidden from it: nothing is reset, read again or invented, and judging goes on from the newest row."""
    host = watched(hidden)
    host.pass_time(65.0)
    assert (0, {"live": 4}, {}) == (host.session.ledger.resets, host.origins(), host.found())
    assert 1 == host.audits()["failed"], "nobody could tell"
    host.push("8").write("9").push("10").pass_time(70.0)
    assert (0, {"missed": 1}) == (host.session.ledger.resets, host.found())
    assert {"live": 6, "audit": 1} == host.origins()
    assert (1, 1, 0, 0, 0) == host.numbers()


def test_a_token_that_shows_less_after_an_outage_leaves_the_connection_unverified() -> None:
    """The catch-up cannot be compared: the connection is used without the log's word."""
    host = watched({6})
    host.drop().write("8").pass_time(5.0).open().tick().pass_time(5.0)
    assert {"none unverifiable": 1} == host.resyncs_counted()
    assert (State.OPEN, 0) == (host.session.state, host.session.ledger.resets)
    host.push("9").pass_time(130.0)
    assert {"live": 5} == host.origins()
    assert (0, 0, 0, 0, 0) == host.numbers()


@pytest.mark.parametrize("same_token", [True, False], ids=["the same token", "a new token"])
def test_another_log_is_found_whatever_the_token(same_token: bool) -> None:
    """It is shorter than what is known, or has something else under the number."""
    for log in ("1..2", "1..9"):
        host = watched(set())
        host.pass_time(70.0)
        if not same_token:
            host.token()
        host.drop().lose_log().write(log).pass_time(5.0).open().tick().pass_time(10.0)
        assert 1 == host.session.ledger.resets


def test_with_the_same_token_a_row_that_is_gone_is_another_log() -> None:
    """Rows of a log do not vanish from the eyes that saw them."""
    host = watched(set())
    host.pass_time(70.0)
    host.hidden = {7}
    host.push("8").pass_time(70.0)
    assert 1 == host.session.ledger.resets


def test_a_new_token_is_tried_on_the_feed_at_once() -> None:
    """A connection waits for the log, and the old token was refused."""
    host = connected()
    host.feed = 401
    host.pass_time(61.0)
    asked = len(host.asked())
    host.feed = "up"
    host.take(host.session.credentials(host.now, None))
    host.tick()
    assert asked + 1 == len(host.asked())


# -- without audits ----------------------------------------------------------------------------------------------------

UNAUDITED = SessionSettings(audit=False)


def test_without_audits_only_the_newest_row_is_asked_for() -> None:
    """It is what we have: verified."""
    host = connected(settings=UNAUDITED)
    host.push("4").pass_time(65.0)
    assert "tip" == host.asked()[-1]
    assert 2 == host.session.verification.results[Verification.VERIFIED]


def test_a_newer_row_than_the_socket_brought_is_behind_after_the_grace() -> None:
    """And then the log is read."""
    host = connected(settings=UNAUDITED)
    host.push("4").pass_time(58.0)
    host.write("5").pass_time(6.0)
    assert Reason.BEHIND in host.held()
    host.pass_time(2.0)
    assert {"live": 1, "audit": 1} == host.origins()


def test_an_observer_s_newest_row_may_be_hidden() -> None:
    """Only the newest number is told: equal to ours is verified, higher needs a comparison and accuses nobody."""
    host = FeedHost(protocol=FeedProtocol(resumes=False, dense=True), settings=UNAUDITED)
    host.feed = "held"
    host.start().open().tick().reply(host.page([], newest=0))
    host.push("1").pass_time(2.1)
    host.reply(host.page([host.log[0]], newest=1))
    assert 1 == host.session.verification.results[Verification.VERIFIED]
    host.pass_time(60.0)
    assert "tip" == host.asked()[-1]
    host.reply(host.page([host.log[0]], newest=2))
    assert "rows None" == host.asked()[-1]
    host.reply(host.page([host.log[0]], newest=2))
    assert 2 == host.session.verification.results[Verification.VERIFIED]
    assert 0 == host.session.verification.results[Verification.BEHIND]


# -- the next process --------------------------------------------------------------------------------------------------


def test_the_next_process_begins_where_the_last_one_was_sure() -> None:
    """It knows what was delivered, compares from the last floor and counts nothing twice."""
    host = connected()
    host.push("4 5").pass_time(61.0).push("6")
    point = through_json(host.session.resume_point(host.now))
    after = FeedHost(log="1..8", resume=point, now=host.now)
    after.start()
    assert ["5"] == after.dialled()
    after.open().bring("6..8").tick()
    assert {"store": 2} == after.origins()
    assert 1 == after.session.ledger.duplicates
    assert {"complete verified": 1} == after.resyncs_counted()
    assert "rows 4" == after.asked()[0]


@pytest.mark.parametrize("protocol", [FeedProtocol(resumes=False, dense=True), FeedProtocol()], ids=["observer", "relayfile"])
def test_a_process_that_could_never_read_the_log_leaves_a_position_all_the_same(protocol: FeedProtocol) -> None:
    """A token may watch and not read the feed: the next process begins behind what was delivered, and what was written between the two is not lost."""
    host = FeedHost(log="1..3", protocol=protocol)
    host.feed = 403
    host.start().open().tick().push("4..6").pass_time(100.0)
    successor = FeedHost(resume=through_json(host.session.resume_point(host.now)), protocol=protocol)
    successor.log = host.write("7 8").log
    successor.feed = 403
    resumes = protocol.traits.resumes
    successor.start().open().bring("6..8" if resumes else "").tick().pass_time(5.0)
    assert (["5"] if resumes else ["None"]) == successor.dialled()
    successor.feed = "up"
    successor.push("9").pass_time(130.0)
    assert {"live": 1, "store": 2} == successor.origins()
    assert (0, 0, 0, 0, 0) == successor.numbers()
    assert 6 == successor.session.snapshot().lifetime.events


def test_a_position_under_another_filter_is_of_another_stream() -> None:
    """What the filter hid was not left out by any socket: it is not missed by the next process, which shows it."""
    host = connected()
    host.push("4").write("5 6").bring("7")
    point = through_json(host.session.resume_point(host.now))
    assert 7 == point.feed.promised
    wider = FeedProtocol()
    wider.scope = "ws_1 /docs/**"
    successor = FeedHost(resume=point, protocol=wider)
    successor.log = host.log
    successor.start().open().tick().pass_time(70.0)
    assert ["None"] == successor.dialled()
    assert (0, 0, 0, 0, 0) == successor.numbers()
    assert 2 == successor.session.snapshot().lifetime.events, "totals go on"


def test_more_than_the_next_process_can_know_by_name_is_not_counted_twice_although_it_was_never_compared() -> None:
    """A connection after the first, and no answer from the log since: what it brought is of the log that there is."""
    host = connected(protocol=FeedProtocol(resumes=False, dense=True))
    host.push("4").drop().pass_time(5.0)
    host.feed = 503
    host.open().tick().push("5..1500").pass_time(30.0)
    successor = FeedHost(resume=through_json(host.session.resume_point(host.now)), protocol=FeedProtocol(resumes=False, dense=True))
    successor.log = host.write("1501").log
    successor.start().open().tick().pass_time(70.0)
    assert {"store": 1} == successor.origins()
    assert (1498, 0) == (successor.session.snapshot().lifetime.events, successor.session.ledger.resets)


@pytest.mark.parametrize("polling", [False, True], ids=["an audit", "a poll"])
def test_a_process_killed_in_the_middle_of_a_reading_leaves_nothing_to_be_called_missed(polling: bool) -> None:
    """What the pages have compared so far is more than the next process knows by name: it begins behind what was delivered, and counts nothing twice."""
    host = connected()
    host.page_rows = 1000
    if polling:
        refused_until_polling(host).write("4..3003")
    else:
        host.push("4..3003")
    host.feed = "held"
    host.pass_time(61.0 if not polling else 6.0)
    for _ in range(2):
        host.reply(host.honest(host.waiting()[0].request.url))
    if not polling:
        host.reply(host.page(host.log[2000:2900], 2900))  # so that few wait to be compared
    point = through_json(host.session.resume_point(host.now))
    successor = FeedHost(resume=point)
    successor.log = host.log
    successor.start().open().bring("2002..3003" if polling else "3002 3003").tick().pass_time(70.0)
    assert (0, 0, 0, 0, 0) == successor.numbers()
    lifetime = successor.session.snapshot().lifetime
    assert (3000, 0) == (lifetime.events, lifetime.missed)


def test_rows_that_wait_for_their_grace_are_found_again() -> None:
    """The floor that is kept lies below them."""
    host = connected()
    host.push("4").write("5").push("6")
    while not host.journal.waiting:
        host.pass_time(0.5)
    after = FeedHost(log="1..6", resume=through_json(host.session.resume_point(host.now)), now=host.now)
    after.start().open().tick().pass_time(3.0)
    assert {"audit": 1} == after.origins()
    assert (1, 1, 0, 0, 0) == after.numbers()


def test_what_was_in_the_log_before_the_last_process_came_is_not_missed_by_the_next() -> None:
    """One event delivered, one waiting: still nothing before the first position is judged."""
    host = connected("1..50")
    host.push("51").write("52")
    while not host.journal.waiting:
        host.pass_time(0.5)
    after = FeedHost(log="1..52", resume=through_json(host.session.resume_point(host.now)), now=host.now)
    after.start().open().bring("52").tick().pass_time(3.0)
    assert {"store": 1} == after.origins()
    assert (0, 0, 0, 0, 0) == after.numbers()


def test_a_hidden_newest_row_makes_a_sound_resume_point() -> None:
    """A number without a row of its own."""
    host = FeedHost(protocol=FeedProtocol(resumes=False, dense=True))
    host.feed = "held"
    host.start().open().tick().reply(host.page([], newest=7))
    host.reply(host.page([], newest=7))
    point = through_json(host.session.resume_point(host.now))
    assert point.plausible()
    after = FeedHost(protocol=FeedProtocol(resumes=False, dense=True), resume=point, now=host.now)
    after.start().open()
    assert ["rows 7"] == after.asked()


def test_a_new_log_that_was_not_read_is_still_new_to_the_next_process() -> None:
    """Nothing of it was promised to anybody."""
    host = connected("1..9")
    host.push("10").drop().lose_log().write("1..3").pass_time(5.0)
    host.feed = "held"
    host.open().tick()
    host.reply(host.page(host.log))
    host.push("4 5")
    after = FeedHost(resume=through_json(host.session.resume_point(host.now)), now=host.now)
    after.log = host.log
    after.start().open().bring("5", life=2).tick().pass_time(3.0)
    assert {"store": 3} == after.origins()
    assert (0, 0, 0, 0, 0) == after.numbers()
    assert {"complete unverifiable": 1} == after.resyncs_counted()


def test_a_forbidden_feed_is_no_trouble_of_a_connection_that_lives() -> None:
    """It stays unverified; only where the feed is needed, because no socket can be had, the token is the trouble."""
    host = connected()
    host.feed = 403
    host.pass_time(400.0)
    assert set() == set(host.held())
    host.drop()
    assert Reason.FORBIDDEN not in host.held()
    for _ in range(3):
        while not host.dialling:
            host.pass_time(1.0)
        host.fail()
    host.pass_time(0.1)
    assert Reason.FORBIDDEN in host.held()


class Silent(Codec):
    """Answers tell no time."""

    def canary_time_s(self, body: bytes) -> float | None:
        """None."""
        return None


def test_only_pages_of_the_log_show_a_canary() -> None:
    """The answer to the write, or an error that repeats the mark, is not the log."""
    host = connected(canary=Canary(Silent(), 30.0, 20.0))
    host.pass_time(6.0)
    canary = host.session.canary
    assert canary is not None
    assert canary.waiting
    mark = next(effect.request.url for effect in host.effects if isinstance(effect, Poll) and effect.poll_id > 0).partition("/")[2].encode()
    for poll_id, status in ((1, 403), (1, 200), (-99, 403)):
        host.take(host.session.polled(host.now, poll_id, Answer(status, b'{"correlationId":"' + mark + b'"}')))
        assert 0 == canary.logged
    host.take(host.session.polled(host.now, -99, Answer(200, mark)))
    assert 1 == canary.logged

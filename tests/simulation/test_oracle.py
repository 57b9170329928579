"""The oracle against the worked cases of the accounting document, fed as facts: the judge is judged first."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.simulation.facts import Requested
from tests.simulation.harness.facts import AckFacts, Arrived, Closed, Fact, Frame, Kind, Label, Opened
from tests.simulation.oracle import Judge, Rules, judge


class Script:
    """Facts from the notation of the cases. Tokens: `5` live, `r5` a reaction, `R5` ring, `D5` database row of event 5, `Dr5` its reaction."""

    def __init__(self, limit: int = 1000) -> None:
        self.facts: list[Fact] = []
        self.now = 100.0
        self.connection = 0
        self.position = 0
        self.epoch = 1
        self.request = 0
        self.other_traffic = 0  # numbers of this life that no channel counted
        self.rules = Rules(page_limit=limit)
        self.open()

    def wait(self, seconds: float) -> Script:
        """Let time pass."""
        self.now += seconds
        return self

    def open(self) -> Script:
        """A new connection."""
        self.connection += 1
        self.facts.append(Opened(self.now, self.connection))
        return self

    def drop(self) -> Script:
        """The connection ends and a new one begins."""
        self.close()
        self.now += 1.0
        return self.open()

    def close(self) -> Script:
        """The connection ends."""
        self.facts.append(Closed(self.now, self.connection, False, "network"))
        return self

    def ask(self, after: int) -> Script:
        """A request."""
        self.request += 1
        self.facts.append(Requested(self.now, self.connection, after, None))
        return self

    def _arrive(self, frame: Frame) -> None:
        self.position += 1
        self.now += 0.001
        self.facts.append(Arrived(self.now, self.connection, self.position, frame))

    def frames(self, tokens: str) -> Script:
        """Events in the order of the tokens; `a-b` is a range."""
        for token in tokens.split():
            kind = token.rstrip("0123456789-")
            low, _, high = token[len(kind) :].partition("-")
            for number in range(int(low), int(high or low) + 1):
                self._arrive(self._frame(kind, number))
        return self

    def _frame(self, kind: str, number: int) -> Frame:
        weak = kind.endswith("r")
        identity = f"{'reaction' if weak else 'event'} {self.epoch}.{number}"
        label = {"R": Label.RING, "D": Label.STORE}.get(kind[:1], Label.LIVE)
        return Frame(
            Kind.EVENT,
            label,
            self.epoch,
            None if label is Label.STORE else number,
            identity=identity,
            strong=not weak,
            time_s=1000.0 * self.epoch + number,
            lane=number - self.other_traffic,
            page_kind=("reactions" if weak else "messages") if label is Label.STORE else None,
            request=None if label is Label.LIVE else self.request,
        )

    def bad(self, number: int) -> Script:
        """A live event whose number is none."""
        frame = Frame(Kind.EVENT, Label.LIVE, self.epoch, None, bad_number=True, identity=f"event 1.{number}", strong=True)
        self._arrive(frame)
        return self

    def garbage(self) -> Script:
        """Not a frame at all."""
        self._arrive(Frame(Kind.GARBAGE))
        return self

    def ack(self, after: int, current: int, replayed: int, gap: bool = False, honest: bool = True) -> Script:
        """An acknowledgement."""
        facts = AckFacts(after, current, replayed, gap, honest)
        self._arrive(Frame(Kind.ACK, request=self.request, ack=facts))
        return self

    def judged(self) -> Judge:
        """The verdict, with three more seconds gone by."""
        result = judge(self.facts, self.rules)
        result.advance(self.now + 3.0)
        return result


def counts(judged: Judge, names: str) -> Sequence[int]:
    """The named counters."""
    return [getattr(judged.counters, name) for name in names.split()]


def wrong_numbers(judged: Judge) -> list[str]:
    """Complaints about what was asked for."""
    return [complaint for complaint in judged.manners.complaints if "rule 1" in complaint]


def test_case_1_replay_out_of_the_ring() -> None:
    """Five missed, five recovered, the overlap and the own presence are duplicates."""
    judged = Script().frames("1-5").drop().ask(4).frames("11 R5-11").ack(4, 11, 7).judged()
    assert [6, 5, 0, 2] == counts(judged, "live ring store duplicates")
    assert [5, 5, 0, 0, 0] == counts(judged, "missed recovered lost unaccounted missing")
    assert 11 == judged.cursor
    assert {("complete", "verified"): 1} == judged.resyncs


def test_case_2_nothing_missed() -> None:
    """Two frames replayed, both known: nothing was missed."""
    judged = Script().frames("1-3").drop().ask(2).frames("4 R3 R4").ack(2, 4, 2).judged()
    assert [4, 0, 2, 0, 0] == counts(judged, "live ring duplicates missed recovered")
    assert [0, 2] == counts(judged, "gaps_reconnect replayed")


def test_case_3_live_frames_around_the_replay() -> None:
    """What came live before and after the burst is live; the acknowledgement's number above the burst's end is no gap."""
    script = Script().frames("1-3").drop().ask(2).frames("6 7 R3-7 8 9").ack(2, 9, 5).frames("10")
    judged = script.judged()
    assert [8, 2, 3, 2, 2] == counts(judged, "live ring duplicates missed recovered")
    assert [0, 0, 0] == counts(judged, "out_of_order lost missing")
    assert 10 == judged.cursor


def test_case_4_early_acknowledgement() -> None:
    """Settled when the claimed frames are there, not at the acknowledgement."""
    judged = Script().frames("1-3").drop().ask(2).ack(2, 6, 4, honest=False).frames("R3-6").judged()
    assert [1, 3, 1, 3, 3, 0] == counts(judged, "ack_early ring duplicates missed recovered lost")
    assert {} == judged.exemptions


def test_case_4b_acknowledgement_claims_more_than_is_sent() -> None:
    """The grace passes, then what did not come is given up."""
    judged = Script().frames("1-3").drop().ask(2).ack(2, 6, 4, honest=False).frames("R3-4").judged()
    assert [1, 1, 2] == counts(judged, "ack_early ring replay_short")
    assert {("complete", "contradicted"): 1} == judged.resyncs
    assert [3, 1, 2, 0] == counts(judged, "missed recovered lost missing")
    assert 6 == judged.cursor


def test_case_5_missing_acknowledgement() -> None:
    """Nothing is declared lost; the overlap tells the burst by definition."""
    script = Script().frames("1-3").drop().ask(2).frames("6 R3-6").wait(11.0).close()
    judged = script.judged()
    assert [2, 2, 2, 2, 0, 0] == counts(judged, "ring duplicates missed recovered lost missing")
    assert 6 == judged.cursor
    assert {("none", "unverifiable"): 1} == judged.resyncs
    assert {} == judged.exemptions


def test_case_6_overflow_restored_by_the_database() -> None:
    """600 missed, 500 recovered by number, 100 given up that unnumbered first copies may explain."""
    script = Script().frames("1-100").drop().ask(99).frames("R201-700 D101-350").ack(99, 700, 750, gap=True)
    judged = script.judged()
    assert [100, 500, 100, 150] == counts(judged, "live ring store duplicates")
    assert [600, 500, 0, 100, 0] == counts(judged, "missed recovered lost unaccounted missing")
    assert 700 == judged.cursor
    assert {("gap", "unverifiable"): 1} == judged.resyncs


def test_case_8_since_too_late() -> None:
    """The same acknowledgement but for `replayed`; only the holes tell the loss."""
    judged = Script().frames("1-100").drop().ask(99).frames("R201-700").ack(99, 700, 500, gap=True).judged()
    assert [600, 500, 100, 0] == counts(judged, "missed recovered lost unaccounted")
    assert {("gap", "verified"): 1} == judged.resyncs


def test_case_9_database_duplicates_one_without_id() -> None:
    """Rows without number never touch the cursor; the reaction's row is known by its content."""
    script = Script().frames("1 2 r3").drop().ask(-1).frames("R1 R2 Rr3 R4 D2 Dr3 D4").ack(-1, 4, 7, gap=True)
    judged = script.judged()
    assert [3, 1, 0, 6] == counts(judged, "live ring store duplicates")
    assert [1, 1, 0] == counts(judged, "missed recovered lost")
    assert 4 == judged.cursor


def test_case_12_bad_numbers() -> None:
    """Events with a bad number are events, live and unnumbered."""
    script = Script().frames("1 2")
    for number in range(50, 57):
        script.bad(number)
    judged = script.frames("3").garbage().garbage().garbage().frames("4").judged()
    assert [7, 3, 11] == counts(judged, "bad_sequence malformed live")
    assert 4 == judged.cursor


def test_case_13_out_of_order_and_a_hole_on_a_live_connection() -> None:
    """One hole heals by itself within the grace, the other one by the resync on the same socket."""
    script = Script().frames("1-5 7 6 8 10").wait(2.5).ask(7).frames("R8-11").ack(7, 11, 4)
    judged = script.judged()
    assert [2, 1, 2, 2] == counts(judged, "gaps_live out_of_order ring duplicates")
    assert [2, 2, 0, 0] == counts(judged, "missed recovered lost missing")
    assert 11 == judged.cursor
    assert [] == wrong_numbers(judged)


def test_restart_below_the_cursor() -> None:
    """Current below the cursor: a new epoch, accounted from 1, after a full resync."""
    script = Script().frames("35-41").drop()
    script.epoch = 2
    script.ask(40).frames("7").ack(40, 7, 0).ask(-1).frames("R1-7").ack(-1, 7, 7, gap=True)
    judged = script.judged()
    assert [1, 6, 6, 0, 0] == counts(judged, "resets missed recovered lost missing")
    assert [8, 6, 1] == counts(judged, "live ring duplicates")
    assert [] == wrong_numbers(judged)


def test_restart_above_the_cursor() -> None:
    """The overlap is another event: the numbers below it are asked for again."""
    script = Script().frames("1-11").drop()
    script.epoch = 2
    script.ask(10).frames("25 R11-25").ack(10, 25, 15).ask(-1).frames("R1-25").ack(-1, 25, 25, gap=True)
    judged = script.judged()
    assert [1, 24, 24, 0] == counts(judged, "resets missed recovered lost")
    assert [12, 24, 16] == counts(judged, "live ring duplicates")
    assert 0 == judged.exemptions.total()


def test_restart_that_outran_cursor_and_ring_is_betrayed_by_a_channels_own_number() -> None:
    """Other traffic made the numbers run ahead; the channel's own number 6 is behind the 11 that it had."""
    script = Script().frames("1-11").drop()
    script.epoch = 2
    script.other_traffic = 65
    judged = script.ask(10).frames("90 R71-90").ack(10, 90, 20, gap=True).judged()
    assert [1, 0] == [judged.counters.resets, judged.exemptions.total()]


def test_restart_that_outran_everything_is_the_only_undecidable_one() -> None:
    """Nothing on the wire betrays it, and the use of the exemption is counted."""
    script = Script().frames("1-11").drop()
    script.epoch = 2
    judged = script.ask(10).frames("90 R71-90").ack(10, 90, 20, gap=True).judged()
    assert [0, 1] == [judged.counters.resets, judged.exemptions["restart outran cursor and ring"]]


def test_confirmed_holes_of_an_old_epoch_stay_missing_until_the_new_one_settles() -> None:
    """They are given up together with the new epoch's own."""
    script = Script().frames("1-5 8").drop()
    missing = judge(script.facts, script.rules)
    assert [2, 2] == counts(missing, "missed missing")
    script.epoch = 2
    script.ask(4).frames("2").ack(4, 2, 0)
    assert [2, 2] == counts(judge(script.facts, script.rules), "missed missing")
    judged = script.ask(-1).frames("R1-2").ack(-1, 2, 2, gap=True).judged()
    assert [3, 1, 2, 0] == counts(judged, "missed recovered lost missing")


def test_late_is_counted_once_and_losses_never_fall() -> None:
    """Given up, then arrived after all."""
    script = Script().frames("1-3").drop().ask(2).frames("R10-12").ack(2, 12, 3, gap=True).frames("5 5")
    judged = script.judged()
    assert [6, 1, 1] == counts(judged, "lost late duplicates")
    assert [9, 3] == counts(judged, "missed recovered")


def test_a_full_page_is_asked_again_before_anything_is_given_up() -> None:
    """Two rounds, one chain."""
    script = Script(limit=3).frames("1-3").drop().ask(2).frames("R10-12 D4-6").ack(2, 12, 6, gap=True)
    assert [0, 0] == counts(judge(script.facts, script.rules), "lost unaccounted")
    judged = script.ask(2).frames("R10-12 D6-7").ack(2, 12, 5, gap=True).judged()
    assert [4, 2, 9, 3] == counts(judged, "unaccounted lost missed recovered")
    assert {("gap", "unverifiable"): 1} == judged.resyncs
    assert 1 == judged.counters.gaps_reconnect


def test_a_number_below_the_baseline_is_out_of_order_and_nothing_else() -> None:
    """Fresh session, first connection: a lower unknown number is never a reset."""
    judged = Script().frames("30 29 31").judged()
    assert [1, 0, 0] == counts(judged, "out_of_order resets missed")


@pytest.mark.parametrize("after", [1, 3])
def test_a_wrong_request_is_a_complaint(after: int) -> None:
    """Rule 1: cursor - 1, nothing else."""
    assert 1 == len(wrong_numbers(Script().frames("1-3").drop().ask(after).judged()))


@pytest.mark.parametrize(("since", "complaints"), [("1970-01-01T00:16:41Z", 0), ("1970-01-01T00:16:42Z", 1), ("1970-01-01T00:16:40Z", 1), (None, 1)])
def test_since_is_the_last_known_second_less_two(since: str | None, complaints: int) -> None:
    """Event 3 has server time 1003: 1001 it is, and never nothing at all."""
    script = Script().frames("1-3").drop()
    script.facts.append(Requested(script.now, script.connection, 2, since))
    assert complaints == len([c for c in script.judged().manners.complaints if "since" in c])


def test_an_implausible_jump_counts_only_when_an_acknowledgement_reaches_it() -> None:
    """A false number is forgotten, a true one makes its holes missed."""
    script = Script().frames("1-3 2000000").ask(2)
    false = Script().frames("1-3 2000000").ask(2).frames("R3-4").ack(2, 4, 2).frames("5").judged()
    assert [1, 0] == counts(false, "implausible_jump lost")
    assert 5 == false.cursor
    script.rules = Rules(max_jump=100)
    script = Script()
    script.rules = Rules(max_jump=100)
    true = script.frames("1-3 500").ask(2).frames("R3 R500").ack(2, 500, 2).judged()
    assert [496, 496, 500] == [true.counters.missed, true.counters.lost, true.cursor]

"""Rule 2 judged by the truth: where an acknowledgement is honest, what the wire shows is enough to find the burst."""

from __future__ import annotations

import math

import msgspec
import pytest

from tests.simulation.faults import plan_of
from tests.simulation.harness.facts import AckFacts, Arrived, Fact, Frame, Kind, Label
from tests.simulation.oracle import Judge, Rules
from tests.simulation.rounds import Noted, Round, claimed_frames, labels_with, labels_without
from tests.simulation.world import World


def a_round(after: int, numbers: str, before: frozenset[int] = frozenset(), cursor: int | None = None) -> Round:
    """A round from tokens: `7` live, `R7` ring, `D` a row. What is seen a second time, or was before, is no first sight."""
    noted: list[Noted] = []
    seen = set(before)
    for token in numbers.split():
        label = {"R": Label.RING, "D": Label.STORE}.get(token[0], Label.LIVE)
        number = None if label is Label.STORE else int(token.lstrip("R"))
        frame = Frame(Kind.EVENT, label, 1, number, identity=token, strong=True, request=None if label is Label.LIVE else 1)
        noted.append(Noted(frame, first_copy=True, new_number=number is not None and number not in seen))
        seen |= {number} if number is not None else set()
    return Round(
        after=after,
        since_s=None,
        cursor=after + 1 if cursor is None else cursor,
        live_from=min(before, default=math.inf),
        seen_top=0,
        full=False,
        begun=0.0,
        last_event=0.0,
        before=before,
        noted=noted,
        answers=1,
    )


def ring_of(round_: Round, labels: list[Label]) -> list[int]:
    """The numbers called ring."""
    return [n.frame.number or 0 for n, label in zip(round_.noted, labels, strict=True) if label is Label.RING]


@pytest.mark.parametrize(
    ("after", "numbers", "before", "current", "gap"),
    [
        pytest.param(4, "11 R5 R6 R7 R8 R9 R10 R11", (), 11, False, id="own presence first"),
        pytest.param(2, "6 7 R3 R4 R5 R6 R7 8 9", (), 9, False, id="live before and after"),
        pytest.param(137, "139 140 141 142 R140 R141 R142", (136, 137, 138), 142, True, id="stalled reader, overflowed ring"),
        pytest.param(280, "R287 R288 R289 290 290 291 291 292 293", (), 293, True, id="live duplicates after the burst"),
        pytest.param(112, "121 122 123 124 R123 R124 R125 126", (), 126, True, id="one live frame withheld"),
        pytest.param(20, "51 R40 R41 R42 R43 52 53 54 55 56", (), 56, True, id="a long live run after a short burst"),
        pytest.param(9, "12 R10 R11 R12 14 13", (), 14, False, id="live frames swapped after the burst"),
        pytest.param(-1, "3 4 R1 R2 R3 R4 D D", (), 4, True, id="full resync"),
    ],
)
def test_the_burst_is_found(after: int, numbers: str, before: tuple[int, ...], current: int, gap: bool) -> None:
    """From the acknowledgement's numbers alone, as if it could not be trusted to be true."""
    round_ = a_round(after, numbers, frozenset(before))
    replayed = sum(n.frame.label is not Label.LIVE for n in round_.noted)
    doubted = AckFacts(after, current, replayed, gap, honest=False)
    decision = labels_with(round_, doubted)
    assert [n.frame.label for n in round_.noted] == decision.labels
    assert decision.exemption is None
    assert replayed <= claimed_frames(round_, doubted)


@pytest.mark.parametrize(
    ("numbers", "before", "ring"),
    [
        pytest.param("6 R3 R4 R5", (), [3, 4, 5], id="the overlap was seen"),
        pytest.param("9 R5 R6", (), [5, 6], id="something higher came before"),
        pytest.param("R5 R6", (8,), [5, 6], id="something higher came before on this connection"),
        pytest.param("6 7", (), [], id="only live"),
        pytest.param("R5 R6", (), [], id="an overflowed ring without anything before it: unknowable"),
        pytest.param("1 2", (), [], id="numbers below the one asked for are never replay"),
    ],
)
def test_without_an_acknowledgement_the_definition_decides(numbers: str, before: tuple[int, ...], ring: list[int]) -> None:
    """Rule 2's definition, and an exemption only where it differs from the truth."""
    round_ = a_round(2, numbers, frozenset(before))
    decision = labels_without(round_)
    assert ring == ring_of(round_, decision.labels)
    assert (decision.exemption is None) == (decision.labels == [n.frame.label for n in round_.noted])


class _Doubting(Judge):
    """Compares, in every honestly acknowledged round, what the wire shows with the truth."""

    def __init__(self) -> None:
        super().__init__(Rules(max_jump=3000))
        self.rounds = 0
        self.mistaken: list[str] = []

    def feed(self, fact: Fact) -> None:
        """As the judge does, doubting every acknowledgement that is about to end a round."""
        round_ = self.round
        if isinstance(fact, Arrived) and round_ is not None and fact.frame.ack is not None and round_.early is None:
            ack = fact.frame.ack
            if ack.honest and ack.after == round_.after and not round_.reset:
                self.rounds += 1
                doubted = labels_with(round_, msgspec.structs.replace(ack, honest=False))
                if doubted.exemption is not None:
                    self.mistaken.append(f"{fact.at:.3f} {ack}")
        super().feed(fact)


@pytest.mark.parametrize(
    "kinds",
    [
        ("outage", "duplicate"),
        ("outage", "reorder"),
        ("outage", "skip"),
        ("outage", "straggle"),
        ("outage", "bad_number"),
        ("outage", "paging", "freeze_receive"),
        ("outage", "stopped"),
        ("freeze_both", "drop", "garbage"),
    ],
    ids="+".join,
)
def test_an_honest_acknowledgement_always_lets_the_burst_be_found(kinds: tuple[str, ...]) -> None:
    """Whatever live frames do: the exemption for untrue acknowledgements hides nothing."""
    rounds = 0
    for seed in range(25):
        world = World(plan_of(seed, kinds))
        world.run()
        doubting = _Doubting()
        for fact in world.ledger.facts:
            doubting.feed(fact)
        rounds += doubting.rounds
        assert [] == doubting.mistaken, f"python -m tests.simulation {seed} --kinds {','.join(kinds)}"
    assert 80 <= rounds

"""Rounds: what arrived between a request and its end, and which of it was replay.

What belongs here: rule 2 of the accounting. The server's own label decides wherever the wire lets a client find it; where it does not, the rule's
definition does, and each use in which the definition differs from the truth is named.
"""

from __future__ import annotations

import msgspec

from tests.simulation.harness.facts import AckFacts, Frame, Label


class Noted(msgspec.Struct):
    """One event frame, as it was when it arrived."""

    frame: Frame
    first_copy: bool
    new_number: bool = False  # first sight of a number that was not known to be missing
    overtaken: bool = False  # its number had been overtaken
    below: bool = False  # below the baseline
    parked: bool = False  # implausibly high; counts only if an acknowledgement reaches it


class Round(msgspec.Struct):
    """From a request to its acknowledgement, or to its end without one."""

    after: float
    since_s: float | None
    cursor: int
    full: bool  # the full resync that a new epoch owes
    begun: float
    last_event: float
    before: frozenset[int]  # this connection's numbers before the round
    live_from: float  # the lowest number that came live on this connection before the round
    seen_top: int  # the highest number seen before the round
    noted: list[Noted] = []
    labels: list[Label] = []  # what was decided in the end
    early: AckFacts | None = None
    answers: int | None = None  # the request, as fact, that the accepted acknowledgement answers
    reset: bool = False  # a new epoch was found in it
    backwards: bool = False  # the acknowledgement itself was below what we know


class Chain(msgspec.Struct):
    """Rounds up to a settlement; paging joins them, and they all ask after the same number."""

    after: float
    newly_missed: bool = False
    healed: bool = False  # it filled a confirmed hole
    gap: bool = False
    stuck: bool = False  # a full page could not be turned


class Decision(msgspec.Struct, frozen=True):
    """One label per frame of the round, and why they had to be inferred, if they differ from the truth."""

    labels: list[Label]
    exemption: str | None = None


def labels_with(round_: Round, ack: AckFacts) -> Decision:
    """True labels where the acknowledgement is honest and its reply is whole; else rule 2's reading of the acknowledgement."""
    truth = [noted.frame.label or Label.LIVE for noted in round_.noted]
    requests = {noted.frame.request for noted in round_.noted if noted.frame.label is not Label.LIVE}
    whole = requests <= {round_.answers} and sum(label is not Label.LIVE for label in truth) == ack.replayed
    if ack.honest and round_.early is None and whole and (not ack.gap or _is_unbroken(round_)):
        return Decision(truth)
    start = _burst_start(round_, ack)
    burst = [] if start is None else _unmarked(round_)[start : start + _claimed_ring(round_, ack)]
    return _by_definition(round_, burst, "broken ring" if ack.honest else "untrue or early acknowledgement")


def labels_without(round_: Round) -> Decision:
    """Rule 2 for a round without acknowledgement.

    From the last sight of the smallest number above the one asked for everything numbered is replay, if that number is the overlap or something
    higher had come before it on this connection; else nothing is.
    """
    unmarked = _unmarked(round_)
    numbers = [_number(noted) for noted in unmarked]
    burst: list[Noted] = []
    if above := [number for number in numbers if number > round_.after]:
        smallest = min(above)
        start = max(i for i, number in enumerate(numbers) if number == smallest)
        if smallest <= round_.cursor or any(number > smallest for number in (*numbers[:start], *round_.before)):
            burst = unmarked[start:]
    return _by_definition(round_, burst, "round without acknowledgement")


def claimed_frames(round_: Round, ack: AckFacts) -> int:
    """How many frames of what the acknowledgement claims can have arrived."""
    start = _burst_start(round_, ack)
    burst = [] if start is None else [noted for noted in _unmarked(round_)[start:] if _number(noted) <= ack.current]
    return sum(noted.frame.label is Label.STORE for noted in round_.noted) + len(burst)


def _number(noted: Noted) -> int:
    return noted.frame.number or 0


def _unmarked(round_: Round) -> list[Noted]:
    """The numbered frames that the server did not mark as replayed: live or burst."""
    return [noted for noted in round_.noted if noted.frame.number is not None and noted.frame.label is not Label.STORE]


def _claimed_ring(round_: Round, ack: AckFacts) -> int:
    return max(0, ack.replayed - sum(noted.frame.label is Label.STORE for noted in round_.noted))


def _is_unbroken(round_: Round) -> bool:
    """Whether the ring was sent as consecutive numbers. One with holes in it (numbers that nobody ever got) has no recognisable begin."""
    numbers = [_number(noted) for noted in round_.noted if noted.frame.label is Label.RING]
    return not numbers or numbers == [*range(numbers[0], numbers[0] + len(numbers))]


def _burst_start(round_: Round, ack: AckFacts) -> int | None:
    """Where the burst begins by what the acknowledgement says; an index into the unmarked frames, or None.

    Without a gap it begins at the last sight of the number after the one asked for. Else it is the run of so many consecutive numbers up to the
    current one that explains the round best. Else, if a gap was told, the last sight of the smallest number that leaves room for so many.
    """
    ring = _claimed_ring(round_, ack)
    if ring == 0:
        return None
    unmarked = _unmarked(round_)
    numbers = [_number(noted) for noted in unmarked]
    backwards = range(len(numbers) - 1, -1, -1)
    if not ack.gap and round_.after + 1 in numbers:
        return next(i for i in backwards if numbers[i] == round_.after + 1)
    runs = [
        i
        for i in backwards
        if (i == 0 or numbers[i] != numbers[i - 1] + 1)
        and numbers[i : i + ring] == [*range(numbers[i], numbers[i] + ring)]
        and numbers[i] + ring - 1 <= ack.current
    ]
    if runs:
        return min(runs, key=lambda i: _oddities(round_, unmarked, numbers, i, ring))  # of equals the last in the round
    roomy = [number for number in numbers if round_.after < number <= ack.current - ring + 1]
    if not ack.gap or not roomy:
        return None
    return next(i for i in backwards if numbers[i] == min(roomy))


def _oddities(round_: Round, unmarked: list[Noted], numbers: list[int], start: int, ring: int) -> int:
    """What a correct server would not have done if the burst began here.

    What a burst brings first is older than everything that this connection had live before it (after the socket was there); and what
    comes after it is new, or the frame just sent, twice.
    """
    end = start + ring
    lowest = min([round_.live_from, *numbers[:start]])
    younger = sum(unmarked[i].new_number and numbers[i] > lowest for i in range(start, end))
    again = sum(not unmarked[i].new_number and numbers[i] != numbers[i - 1] for i in range(end, len(unmarked)))
    return younger + again


def _by_definition(round_: Round, burst: list[Noted], why: str) -> Decision:
    members = {id(noted) for noted in burst}
    labels = [
        Label.STORE if noted.frame.label is Label.STORE else Label.RING if id(noted) in members else Label.LIVE
        for noted in round_.noted
    ]
    return Decision(labels, why if labels != [noted.frame.label for noted in round_.noted] else None)

"""The table of transitions and the closed sets of reasons."""

from __future__ import annotations

import itertools
import re

from syncwatch.core.states import (
    CLOSE_CODES,
    EDGES,
    ESTABLISHED,
    TRANSITIONS,
    Anomaly,
    AttemptFailure,
    Claim,
    Direction,
    Disconnect,
    GapCause,
    Origin,
    State,
    Verdict,
    Verification,
    diagram,
)


def test_every_state_has_a_row() -> None:
    """The table is whole, and every target is a state."""
    assert set(State) == set(TRANSITIONS)


def test_edges_are_the_table() -> None:
    """One entry per allowed pair, none twice, none from a state to itself."""
    allowed = [(a, b) for a, b in itertools.product(State, State) if b in TRANSITIONS[a]]
    assert sorted(allowed) == sorted(EDGES)
    assert len(set(EDGES)) == len(EDGES)
    assert not [edge for edge in EDGES if edge[0] is edge[1]]


def test_every_state_is_reachable_from_idle() -> None:
    """No state stands alone."""
    reached, frontier = {State.IDLE}, [State.IDLE]
    while frontier:
        for onward in TRANSITIONS[frontier.pop()]:
            if onward not in reached:
                reached.add(onward)
                frontier.append(onward)
    assert set(State) == reached


def test_every_state_but_the_last_can_be_stopped() -> None:
    """Stopping on purpose is always allowed, and is the end."""
    assert {state for state in State if State.CLOSED in TRANSITIONS[state]} == set(State) - {State.CLOSED}
    assert {} == TRANSITIONS[State.CLOSED]


def test_nothing_goes_back_to_idle_and_only_idle_connects() -> None:
    """`connecting` is the first handshake, once."""
    assert {State.IDLE} == {a for a, b in EDGES if b is State.CONNECTING}
    assert set() == {a for a, b in EDGES if b is State.IDLE}


def test_failed_is_left_by_what_works_or_stop_only() -> None:
    """It is retried slowly and never given up, and no failure makes it look better: only a socket or a feed that answers."""
    assert {State.OPEN, State.RESYNCING, State.POLLING, State.CLOSED} == set(TRANSITIONS[State.FAILED])


def test_established_are_the_states_with_a_socket() -> None:
    """What `up` means."""
    assert {State.RESYNCING, State.OPEN} == ESTABLISHED


def test_every_edge_says_why() -> None:
    """The table's reasons are what the diagram and the reference print."""
    assert all(TRANSITIONS[a][b] for a, b in EDGES)


def test_the_closed_sets_are_the_metric_labels() -> None:
    """Dashboards and users' rules hang on these words."""
    assert ["idle", "connecting", "resyncing", "open", "polling", "reconnecting", "failed", "closed"] == list(State)
    assert [
        "dns", "refused", "unreachable", "tls", "timeout", "unauthorized", "forbidden", "rate_limited", "rejected", "protocol",
    ] == list(AttemptFailure)  # fmt: skip
    assert [
        "peer_closed", "peer_error", "network", "heartbeat_timeout", "send_timeout", "overflow", "resync_timeout",
        "superseded", "protocol_error", "local",
    ] == list(Disconnect)  # fmt: skip
    assert [
        "malformed", "oversized", "bad_sequence", "implausible_jump", "ack_early", "ack_missing", "ack_unsolicited", "replay_short",
    ] == list(Anomaly)  # fmt: skip
    assert ["live", "ring", "store", "poll", "audit"] == list(Origin)
    assert (["complete", "gap", "none"], ["verified", "contradicted", "unverifiable"]) == (list(Claim), list(Verdict))
    assert ["verified", "behind", "failed"] == list(Verification)
    assert (["live", "reconnect"], ["receive", "send"]) == (list(GapCause), list(Direction))
    assert (1000, 1001, 1006, 1008, 1011, 1012, 1013) == CLOSE_CODES


def test_the_diagram_is_the_table() -> None:
    """Each edge that is not a stop is drawn once with its reason; stops are one note."""
    drawn = re.findall(r"^ {4}(\w+) --> (\w+): (.+)$", diagram(), flags=re.MULTILINE)
    assert [(a, b, TRANSITIONS[a][b]) for a, b in EDGES if b is not State.CLOSED] == drawn
    note = re.search(r"stop, from (.+)", diagram())
    assert note is not None
    assert set(State) - {State.CLOSED} == set(note[1].split(", "))

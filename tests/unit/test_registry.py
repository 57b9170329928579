"""The registry of metrics keeps the contract: names, closed labels, what protocols report, and a reference page in step."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncwatch.core.health import ADVICE
from syncwatch.core.states import EDGES, State
from syncwatch.exposition.reference import GLOSSARY, reference
from syncwatch.exposition.registry import (
    DEFINITIONS,
    LABEL_SETS,
    NEVER,
    PER_CONNECTION,
    REASONS,
    Definition,
    Kind,
    Section,
    label_sets,
)

OURS = [one for one in DEFINITIONS if one.section is not Section.PROCESS]
BY_NAME = {one.name: one for one in DEFINITIONS}

FORBIDDEN = {
    "job", "instance", "namespace", "pod", "container", "node", "service", "endpoint", "cluster", "prometheus", "host",
}  # fmt: skip
"""Labels that scrapers and operators set on targets."""

LABELS = {
    "connection", "protocol", "dialect", "continuity", "upstream", "state", "from_state", "to_state", "reason", "code",
    "phase", "kind", "result", "direction", "origin", "cause", "claim", "verdict", "ledger", "component", "name", "health",
    "probe", "check", "task", "hook", "watcher", "mode", "change", "mirror", "operation", "target_service", "version", "python_version", "revision",
}  # fmt: skip

WORDS = {
    "syncwatch_watcher_events_total": "added modified deleted",
    "syncwatch_watcher_sentinels_total": "seen missed",
    "syncwatch_watcher_restarts_total": "missed error root_gone root_replaced overflow limits",
    "syncwatch_mirror_flushes_total": "complete timeout error",
    "syncwatch_service_probe_failures_total": "refused dns tls timeout status body",
    "syncwatch_connection_state": "idle connecting resyncing open polling reconnecting failed closed",
    "syncwatch_connection_state_entered_timestamp_seconds": "idle connecting resyncing open polling reconnecting failed closed",
    "syncwatch_connection_state_seconds_total": "idle connecting resyncing open polling reconnecting failed closed",
    "syncwatch_connection_attempt_failures_total": "dns refused unreachable tls timeout unauthorized forbidden rate_limited rejected protocol",
    "syncwatch_connection_disconnects_total": (
        "peer_closed peer_error network heartbeat_timeout send_timeout overflow resync_timeout superseded protocol_error local"
    ),
    "syncwatch_connection_close_codes_total": "1000 1001 1006 1008 1011 1012 1013 other",
    "syncwatch_connection_last_handshake_seconds": "dns tcp tls upgrade protocol",
    "syncwatch_frames_received_total": "event control heartbeat invalid unknown",
    "syncwatch_frames_sent_total": "heartbeat resync control",
    "syncwatch_protocol_anomalies_total": (
        "malformed oversized bad_sequence implausible_jump ack_early ack_missing ack_unsolicited replay_short"
    ),
    "syncwatch_verifications_total": "verified behind failed",
    "syncwatch_half_open_total": "receive send",
    "syncwatch_events_received_total": "live ring store poll audit",
    "syncwatch_sequence_gaps_total": "live reconnect",
    "syncwatch_ledger_forgotten_total": "identities ranges hashes",
    "syncwatch_audits_total": "clean repaired failed",
    "syncwatch_audit_events_total": "late missed invented",
}
"""The public words of each closed label: users' rules hang on them."""


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.name)
def test_names_follow_the_conventions(one: Definition) -> None:
    """Prefix, `_total` on counters alone, `_info` on infos alone, buckets on histograms alone, a help that is one sentence or more."""
    assert one.name.startswith("syncwatch_")
    assert (one.kind is Kind.COUNTER) == one.name.endswith("_total")
    assert (one.kind is Kind.INFO) == one.name.endswith("_info")
    assert (one.kind is Kind.HISTOGRAM) == bool(one.buckets)
    assert one.help.endswith(".")
    assert "\n" not in one.help + one.absent
    assert not one.name.removesuffix("_total").endswith(
        ("_ms", "_milliseconds", "_minutes", "_created", "_count", "_sum")
    )


def test_names_are_unique_and_families_do_not_clash() -> None:
    """No two metrics share a name, and no name can be taken for a part of another family (`x_count` of a histogram `x`)."""
    names = [one.name for one in DEFINITIONS]
    assert len(set(names)) == len(names)
    families = [one.family for one in DEFINITIONS]
    assert len(set(families)) == len(families)
    suffixes = ("_bucket", "_count", "_sum", "_total", "_info", "_created")
    assert not {family + suffix for family in families for suffix in suffixes} & set(families)


def test_units_are_the_end_of_the_name() -> None:
    """OpenMetrics allows a unit only where the family's name ends with it."""
    assert {"", "seconds", "bytes"} == {one.unit for one in DEFINITIONS}
    assert all(one.family.endswith(one.unit) for one in DEFINITIONS)
    assert "seconds" == BY_NAME["syncwatch_connection_state_seconds_total"].unit
    assert "bytes" == BY_NAME["syncwatch_received_bytes_total"].unit
    assert "" == BY_NAME["syncwatch_frames_sent_total"].unit


def test_labels_are_closed() -> None:
    """The label names are exactly these, and none is one that scrapers or operators set on targets."""
    used = {label for one in DEFINITIONS for label in one.labels}
    assert LABELS == used
    assert not FORBIDDEN & used
    assert not [one.name for one in DEFINITIONS if len(set(one.labels)) != len(one.labels)]


def test_connection_comes_first_where_it_belongs() -> None:
    """Metrics about a connection carry the label `connection`, all others do not."""
    for one in DEFINITIONS:
        assert (one.section in PER_CONNECTION) == (one.labels[:1] == ("connection",))


def test_words_are_pinned() -> None:
    """The label values are the public ones, in this order; pairs are checked by their own tests."""
    pairs = {"syncwatch_connection_transitions_total", "syncwatch_resyncs_total", "syncwatch_mirror_files_total"}
    assert {*WORDS, *pairs} == set(LABEL_SETS)
    for name, words in WORDS.items():
        assert words.split() == [value for (value,) in LABEL_SETS[name]]


def test_every_closed_label_has_its_words() -> None:
    """Each metric of a connection, watcher, mirror or service with further labels has its values listed; the info's come from the configuration."""
    labelled = {one.name for one in DEFINITIONS if one.section in PER_CONNECTION and one.further}
    labelled |= {one.name for one in DEFINITIONS if one.section in (Section.WATCHER, Section.MIRROR, Section.SERVICE) and one.further}
    assert labelled - {"syncwatch_connection_info", "syncwatch_watcher_info"} == set(LABEL_SETS)
    for name, sets in LABEL_SETS.items():
        assert {len(BY_NAME[name].further)} == {len(one) for one in sets}
        assert len(set(sets)) == len(sets)


def test_transitions_are_the_edges_of_the_table() -> None:
    """Only pairs of the one transition table exist."""
    assert EDGES == LABEL_SETS["syncwatch_connection_transitions_total"]


def test_silence_is_neither_verified_nor_contradicted() -> None:
    """A resync without an answer has one verdict only; an answered one may have each."""
    sets = LABEL_SETS["syncwatch_resyncs_total"]
    assert [("none", "unverifiable")] == [one for one in sets if one[0] == "none"]
    assert 7 == len(sets)


def test_ring_reports_what_a_ring_can() -> None:
    """Relaycast ring: no polling in any state or transition, no feed's origins, nobody takes a socket's place; all else."""
    ring = label_sets("relaycast", "ring")
    assert [state.value for state in State if state is not State.POLLING] == [
        value for (value,) in ring["syncwatch_connection_state"]
    ]
    assert [edge for edge in EDGES if State.POLLING not in edge] == list(ring["syncwatch_connection_transitions_total"])
    assert [("live",), ("ring",), ("store",)] == list(ring["syncwatch_events_received_total"])
    every = LABEL_SETS["syncwatch_connection_disconnects_total"]
    assert {("superseded",)} == set(every) - set(ring["syncwatch_connection_disconnects_total"])
    assert LABEL_SETS["syncwatch_resyncs_total"] == ring["syncwatch_resyncs_total"]
    assert (
        LABEL_SETS["syncwatch_connection_attempt_failures_total"] == ring["syncwatch_connection_attempt_failures_total"]
    )


def test_unknown_protocol_may_report_everything() -> None:
    """A protocol that is not in the table (a library user's own) has nothing left out."""
    assert LABEL_SETS == label_sets("mine", "")


def test_every_exception_takes_something_away() -> None:
    """No rule about what a protocol never reports is without effect, in any metric that it names."""
    for rules in NEVER.values():
        for rule in rules:
            for name in rule.metrics:
                assert name in BY_NAME
                known = {value for sets in LABEL_SETS.get(name, ()) for value in sets}
                assert set(rule.values) <= known, (rule, name)


def test_every_word_is_explained() -> None:
    """The glossary has a meaning for each label value of each metric, and for no other."""
    for name, sets in LABEL_SETS.items():
        explained = [word for group in GLOSSARY if name in group.metrics for word in group.meaning]
        used = {value for one in sets for value in one}
        if name.startswith("syncwatch_frames_"):
            assert used <= set(explained)
        else:
            assert used == set(explained)
            assert len(used) == len(explained)
    assert {name for group in GLOSSARY for name in group.metrics} == {*LABEL_SETS, "syncwatch_hook_deliveries_total", "syncwatch_watcher_info"}


def test_reasons_have_advice() -> None:
    """The page lists each reason that something in this version can have, gravest first, with what to do."""
    page = reference()
    rows = [page.index(f"| `{reason}` | {ADVICE[reason]} |") for reason in REASONS]
    assert sorted(rows) == rows
    assert {"failed", "behind", "events_lost", "canary_lost", "task_stalled"} <= set(REASONS)
    assert "polling" in REASONS
    assert {"watcher_dead", "watcher_blind", "mirror_stuck"} <= set(REASONS)


def test_reference_page_is_in_step() -> None:
    """docs/metrics.md is what `python -m syncwatch.exposition.reference` prints; write it again when this fails."""
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert reference() == page.read_text(encoding="utf-8")


def test_reference_names_every_metric_and_exception() -> None:
    """The page has a row for each metric, each closed label and each protocol's exceptions."""
    page = reference()
    assert [one.name for one in DEFINITIONS if f"\n| `{one.name}` | {one.kind} |" not in page] == []
    assert [name for name in LABEL_SETS if page.count(f"`{name}`") < 2] == []
    assert [rule for rules in NEVER.values() for rule in rules if rule.why not in page] == []

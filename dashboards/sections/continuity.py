"""What arrived, what did not, and whether the server told the truth about it.

What belongs here: questions about events. A connection whose protocol does not number them leaves some of these panels empty.
"""

from __future__ import annotations

from dashboards.board import Line, Section, Tile
from dashboards.links import runbook
from dashboards.panels import About, AnyPanel, Link, Query, graph, rows
from dashboards.promql import connection, in_range, per_minute, total
from dashboards.shapes import RARE, flow_by, median_and_p99, rare_by, side_by_side


def section() -> Section:
    """The whole section."""
    return Section(
        "Continuity",
        (
            Line(8, (Tile(8, _received()), Tile(8, _copies()), Tile(8, _open_holes()))),
            Line(8, (Tile(12, _missed()), Tile(12, _gaps()))),
            Line(8, (Tile(8, _claims()), Tile(8, _resyncs()), Tile(8, _resync_duration()))),
            Line(8, (Tile(8, _verifications()), Tile(8, _latency()), Tile(8, _forgotten()))),
            Line(8, (Tile(12, _audits()), Tile(12, _audit_events()))),
        ),
    )


def _audits() -> AnyPanel:
    about = About(
        "Audits against the server's log",
        "The log, read over HTTP, compared with what had arrived. Repaired: events had not arrived and were taken from the log. "
        "Empty where the protocol has no such log.",
        "cpm",
    )
    return rare_by(about, "syncwatch_audits_total", "result")


def _audit_events() -> AnyPanel:
    about = About(
        "Events that the log and the WebSocket disagree about",
        "Late: the WebSocket brought it within the grace. Missed: it never did. Invented: it brought what the log does not have.",
        "cpm",
    )
    return rare_by(about, "syncwatch_audit_events_total", "verdict")


def _received() -> AnyPanel:
    about = About(
        "Events received",
        "First copies by origin: live, ring (replayed from the server's buffer), store (from its database), poll and audit.",
        "cps",
    )
    return flow_by(about, "syncwatch_events_received_total", "origin")


def _copies() -> AnyPanel:
    about = About(
        "Duplicates, out of order, replayed",
        "Further copies that were dropped, first copies that arrived late, and frames that came as replay. A resync asks with "
        "an overlap of one, so a few duplicates after a reconnect are the rule.",
        "cps",
    )
    counters = {
        "duplicates": "syncwatch_events_duplicate_total",
        "out of order": "syncwatch_events_out_of_order_total",
        "replayed": "syncwatch_replayed_events_total",
    }
    return side_by_side(about, counters)


def _open_holes() -> AnyPanel:
    return graph(
        About(
            "Missing and undecided now",
            "Confirmed missing numbers that are not yet settled, and first copies inside an open replay window.",
            "short",
        ),
        Query(total(connection("syncwatch_sequence_missing"), "connection"), "{{connection}} missing"),
        Query(total(connection("syncwatch_events_undecided"), "connection"), "{{connection}} undecided"),
    )


def _missed() -> AnyPanel:
    about = About(
        "Missed events and their fate",
        "missed = recovered + lost + unaccounted + missing, always. Unaccounted: given up, but unnumbered first copies may "
        "have been it. Late: given up, then came after all.",
        "cpm",
        Link("Runbook", runbook("SyncwatchEventsLost")),
    )
    fates = ("missed", "recovered", "lost", "unaccounted", "late")
    return side_by_side(about, {fate: f"syncwatch_sequence_{fate}_total" for fate in fates})


def _gaps() -> AnyPanel:
    gaps = per_minute(connection("syncwatch_sequence_gaps_total"), "connection", "cause")
    resets = per_minute(connection("syncwatch_sequence_resets_total"), "connection")
    return graph(
        About(
            "Gaps and resets",
            "Gaps at sight, by cause, healed ones included; and restarts of the server's counter, each a new epoch.",
            "cpm",
        ),
        Query(f"{gaps} > 0", "{{connection}} gap {{cause}}"),
        Query(f"{resets} > 0", "{{connection}} reset"),
        bars=True,
        absent=RARE,
    )


def _claims() -> AnyPanel:
    return rows(
        About(
            "Claims against verdicts",
            "Resyncs in the shown range, to the nearest whole. Down: what the server claimed (none: no answer). Across: what "
            "the ledger found.",
            "short",
            Link("Runbook", runbook("SyncwatchClaimContradicted")),
        ),
        Query(in_range(connection("syncwatch_resyncs_total"), "claim", "verdict")),
        transformations=(("groupingToMatrix", {"columnField": "verdict", "rowField": "claim", "valueField": "Value"}),),
    )


def _resyncs() -> AnyPanel:
    about = About(
        "Resyncs",
        "Settled resyncs: the server's claim and our verdict.",
        "cpm",
        Link("Runbook", runbook("SyncwatchClaimContradicted")),
    )
    return rare_by(about, "syncwatch_resyncs_total", "claim", "verdict", legend="{{claim}}, {{verdict}}")


def _resync_duration() -> AnyPanel:
    about = About("Resync duration", "From the request to its settlement: median and 99th percentile.", "s")
    return median_and_p99(about, "syncwatch_resync_duration_seconds")


def _verifications() -> AnyPanel:
    about = About(
        "Verifications",
        "Tip checks by result. behind: the server has newer events than it delivered. failed: it did not answer.",
        "cpm",
        Link("Runbook", runbook("SyncwatchStreamUnverified")),
    )
    return rare_by(about, "syncwatch_verifications_total", "result")


def _latency() -> AnyPanel:
    about = About(
        "Event latency",
        "Server time of a live event to its receipt, corrected by the clock offset: median and 99th percentile.",
        "s",
    )
    return median_and_p99(about, "syncwatch_event_latency_seconds", absent="no live event, or no clock offset known")


def _forgotten() -> AnyPanel:
    about = About(
        "Forgotten by the ledger",
        "Entries dropped because a cap was reached: identities (a very old copy may pass for a first one), ranges, hashes.",
        "cpm",
    )
    return rare_by(about, "syncwatch_ledger_forgotten_total", "ledger")

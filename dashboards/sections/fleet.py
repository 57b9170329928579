"""All sidecars at once: what is worst, whom it concerns, and how much of the objective is used up.

What belongs here: questions about many connections. What happened on one is the *Connection* dashboard's, to which tables lead.
"""

from __future__ import annotations

from dashboards.alerting import OBJECTIVE
from dashboards.board import Line, Section, Tile
from dashboards.links import CONNECTION_UID, REASONS_URL, RUNBOOKS_URL, runbook
from dashboards.panels import BLUE, GREEN, RED, About, AnyPanel, Link, Query, graph, number, rows
from dashboards.promql import (
    as_connection,
    by_upstream,
    firing_for,
    health_by_upstream,
    in_range,
    least,
    per_minute,
    shares,
    sidecar,
    total,
    worst,
)
from dashboards.sections.now import UNVERIFIED_LIMITS
from dashboards.shapes import RARE

CONNECTIONS = sidecar("syncwatch_connection_info")
DOWN = sidecar("syncwatch_connection_state", 'state=~"connecting|reconnecting|failed"')
SECONDS = "syncwatch_health_seconds_total"
HEALTHY = 'health="healthy"'
WATCHED = 'component!="sidecar"'
"""Each sidecar is a component of its own and nearly always well: counted in, it halves what its only connection was missing."""
SHOWN = 50
"""Connections in the table of the worst: nobody reads a thousand lines in an incident."""
MEETS = ((None, RED), (OBJECTIVE, GREEN))
TO_CONNECTION = Link(
    "This connection",
    f"/d/{CONNECTION_UID}?${{datasource:queryparam}}&var-job=${{__data.fields.job}}&var-instance=${{__data.fields.instance}}"
    "&var-connection=${__value.raw}&${__url_time_range}",
)
BUDGET = Link("Runbook", runbook("SyncwatchErrorBudgetBurn"))
LOST = Link("Runbook", runbook("SyncwatchEventsLost"))


def now() -> Section:
    """What somebody must see in the first minute."""
    return Section(
        "Now",
        (
            Line(4, _headline()),
            Line(6, (Tile(24, _alerts()),)),
            Line(9, (Tile(24, _worst()),)),
            Line(8, (Tile(14, _upstreams()), Tile(10, _missing()))),
        ),
    )


def over_time() -> Section:
    """When it began, and whom it met."""
    return Section(
        "Upstreams and the objective",
        (
            Line(8, (Tile(12, _share_down()), Tile(12, _availability()))),
            Line(8, (Tile(8, _kinds()), Tile(8, _states()), Tile(8, _reasons()))),
        ),
    )


def events() -> Section:
    """What was lost, and what ended connections, everywhere."""
    return Section(
        "Events and connections of all",
        (
            Line(8, (Tile(8, _lost()), Tile(8, _claims()), Tile(8, _resets()))),
            Line(8, (Tile(12, _disconnects()), Tile(12, _failures()))),
            Line(8, (Tile(12, _unverified()), Tile(12, _expiries()))),
        ),
    )


def _headline() -> tuple[Tile, ...]:
    healthy, all_ = (total(f"increase({sidecar(SECONDS, WATCHED, *only)}[$__range])") for only in ((HEALTHY,), ()))
    availability = number(
        About(
            "Availability",
            f"Healthy time by all time in the shown range, of all connections, watchers, mirrors and services (not of the sidecars themselves). The objective is {OBJECTIVE:.0%}.",
            "percentunit",
            BUDGET,
        ),
        Query(f"{healthy} / {all_}"),
        MEETS,
    )
    down = number(
        About("Connections down", "Connecting, reconnecting or failed.", "short", Link("Runbook", runbook("SyncwatchConnectionDown"))),
        Query(total(DOWN)),
        ((None, GREEN), (1, RED)),
    )
    silent = number(
        About("Sidecars missing", "Targets that exported in the shown range and do not answer now.", "short", Link("Runbook", runbook("SyncwatchTargetDown"))),
        Query(f"count({_silent()})"),
        ((None, GREEN), (1, RED)),
        absent="none",
        absent_color=GREEN,
    )
    lost = number(
        About("Events lost", "Given up for good in the shown range, to the nearest whole.", "short", LOST),
        Query(in_range(sidecar("syncwatch_sequence_lost_total"))),
        ((None, GREEN), (1, RED)),
        absent="not numbered",
    )
    connections = number(About("Connections", "Of all chosen sidecars.", "short"), Query(f"count({CONNECTIONS})"), ((None, BLUE),), absent="none")
    sidecars = number(
        About("Sidecars", "Those that answer.", "short", Link("Runbook", runbook("SyncwatchAbsent"))),
        Query(f"count({sidecar('syncwatch_build_info')})"),
        ((None, BLUE),),
        absent="none",
        absent_color=RED,
    )
    return tuple(Tile(4, panel) for panel in (availability, down, silent, lost, connections, sidecars))


def _silent() -> str:
    return f"{sidecar('up')} == 0 and on (job, instance) present_over_time({sidecar('syncwatch_build_info')}[$__range])"


def _alerts() -> AnyPanel:
    labels = ("severity", "alertname", "upstream", "job", "instance", "connection")
    return rows(
        About(
            "Firing alerts",
            "Of the chosen sidecars, and of no single one: whom each is about, and how long it has been so. As Prometheus has them; Alertmanager may keep some of them quiet. "
            "An alert leads to its runbook.",
            "none",
            Link("Runbooks", RUNBOOKS_URL),
        ),
        Query(firing_for()),
        transformations=(
            (
                "organize",
                {
                    "excludeByName": {"Time": True},
                    "indexByName": {label: place for place, label in enumerate((*labels, "Value"))},
                    "renameByName": {"Value": "for"},
                },
            ),
            ("sortBy", {"fields": {}, "sort": [{"field": "severity"}]}),
        ),
        column_links={"alertname": Link("What it means, what to do", runbook("${__value.raw}"))},
        column_units={"for": "s"},
        absent="none fires",
    )


def _worst() -> AnyPanel:
    by = ("job", "instance", "connection")
    only = 'component="connection"'
    healthy, all_ = (total(as_connection(f"increase({sidecar(SECONDS, only, *more)}[$__range])"), *by) for more in ((HEALTHY,), ()))
    first = f"topk({SHOWN}, 1 - {healthy} / ({all_} > 0))"
    columns = {
        "Value #A": "unhealthy",
        "Value #B": "unverified for",
        "Value #C": "reasons now",
        "Value #D": "lost",
    }
    further = (
        worst(sidecar("syncwatch_unverified_seconds"), *by),
        total(as_connection(sidecar("syncwatch_degraded", only)), *by),
        in_range(sidecar("syncwatch_sequence_lost_total"), *by),
    )
    return rows(
        About(
            "Worst first",
            f"The {SHOWN} worst connections: for which share of the shown range each was not healthy, for how long its stream has not been verified, how many reasons hold now, how many "
            "events were lost in the range. Without those that were idle or closed all the time. A connection leads to its dashboard.",
            "none",
            Link("Reasons", REASONS_URL),
        ),
        Query(first),
        *(Query(f"{query} and on ({', '.join(by)}) {first}") for query in further),
        transformations=(
            ("merge", {}),
            ("organize", {"excludeByName": {"Time": True}, "renameByName": columns}),
            ("sortBy", {"fields": {}, "sort": [{"field": "unhealthy", "desc": True}]}),
        ),
        column_links={"connection": TO_CONNECTION},
        column_units={"unhealthy": "percentunit", "unverified for": "s"},
    )


def _upstreams() -> AnyPanel:
    healthy, all_ = (total(health_by_upstream("increase", "$__range", *only), "upstream") for only in ((HEALTHY,), ()))
    lost = f"increase({sidecar('syncwatch_sequence_lost_total')}[$__range])"
    columns = {"Value #A": "connections", "Value #B": "down", "Value #C": "unhealthy", "Value #D": "lost"}
    return rows(
        About(
            "Upstreams",
            "Each server: how many connections lead to it, how many of them are down now, for which share of the shown range they were not healthy, how many events were lost.",
            "none",
            Link("Runbook", runbook("SyncwatchUpstreamDown")),
        ),
        Query(f"count by (upstream) ({CONNECTIONS})"),
        Query(total(by_upstream(DOWN), "upstream")),
        Query(f"1 - {healthy} / {all_}"),
        Query(f"round({total(by_upstream(lost), 'upstream')})"),
        transformations=(
            ("merge", {}),
            ("organize", {"excludeByName": {"Time": True}, "renameByName": columns}),
            ("sortBy", {"fields": {}, "sort": [{"field": "down", "desc": True}]}),
        ),
        column_units={"unhealthy": "percentunit"},
    )


def _missing() -> AnyPanel:
    gone = f"present_over_time({sidecar('syncwatch_build_info')}[$__range]) unless on (job, instance) {sidecar('up')}"
    return rows(
        About(
            "Sidecars that are missing",
            "silent: still a target, without an answer. gone: exported in the shown range and is no target any more, as after a rollout.",
            "none",
            Link("Runbook", runbook("SyncwatchTargetDown")),
        ),
        Query(f"count by (job, instance) ({_silent()})"),
        Query(f"count by (job, instance) ({gone})"),
        transformations=(
            ("merge", {}),
            ("organize", {"excludeByName": {"Time": True}, "renameByName": {"Value #A": "silent", "Value #B": "gone"}}),
        ),
    )


def _share_down() -> AnyPanel:
    return graph(
        About(
            "Connections down, by upstream",
            "Share of the connections to each server that are connecting, reconnecting or failed. Above the dashed line, SyncwatchUpstreamDown begins to count.",
            "percentunit",
            Link("Runbook", runbook("SyncwatchUpstreamDown")),
        ),
        Query(f"{total(by_upstream(DOWN), 'upstream')} / count by (upstream) ({CONNECTIONS})", "{{upstream}}"),
        limit=((None, GREEN), (0.5, RED)),
        top=1,
    )


def _availability() -> AnyPanel:
    healthy, all_ = (total(health_by_upstream("rate", "$__rate_interval", *only), "upstream") for only in ((HEALTHY,), ()))
    return graph(
        About("Availability, by upstream", f"Healthy time by all time of the connections to each server. The dashed line is the objective, {OBJECTIVE:.0%}.", "percentunit", BUDGET),
        Query(f"{healthy} / {all_}", "{{upstream}}"),
        limit=MEETS,
        top=1,
    )


def _kinds() -> AnyPanel:
    healthy, all_ = (total(f"rate({sidecar(SECONDS, *only)}[$__rate_interval])", "component") for only in ((HEALTHY,), ()))
    return graph(
        About("Availability, by component", "Connections, watchers, mirrors, services and the sidecars themselves.", "percentunit", BUDGET),
        Query(f"{healthy} / {all_}", "{{component}}"),
        limit=MEETS,
        top=1,
    )


def _states() -> AnyPanel:
    return graph(
        About("Time in each state, all connections", "Counted by the sidecars: flaps between two scrapes are in it.", "percentunit"),
        Query(shares(sidecar("syncwatch_connection_state_seconds_total"), "state"), "{{state}}"),
        stacked=True,
        top=1,
    )


def _reasons() -> AnyPanel:
    return graph(
        About("Reasons that hold", "How many connections, watchers, mirrors, services and sidecars have each.", "short", Link("Reasons", REASONS_URL)),
        Query(f"{total(sidecar('syncwatch_degraded'), 'reason')} > 0", "{{reason}}"),
        stacked=True,
        absent="none in range",
    )


def _lost() -> AnyPanel:
    about = About("Events lost, by upstream", "Given up for good.", "cpm", LOST)
    return _rare_by_upstream(about, sidecar("syncwatch_sequence_lost_total"))


def _claims() -> AnyPanel:
    about = About(
        "Claims contradicted, by upstream",
        "Resyncs of which the ledger found something else than the server said.",
        "cpm",
        Link("Runbook", runbook("SyncwatchClaimContradicted")),
    )
    return _rare_by_upstream(about, sidecar("syncwatch_resyncs_total", 'verdict="contradicted"'))


def _resets() -> AnyPanel:
    about = About(
        "Counter restarts, by upstream",
        "Servers that began to count anew, as often as their connections saw it: what fell between may be unknowable.",
        "cpm",
        Link("Reason", f"{REASONS_URL}#epoch_reset"),
    )
    return _rare_by_upstream(about, sidecar("syncwatch_sequence_resets_total"))


def _rare_by_upstream(about: About, counter: str) -> AnyPanel:
    """Only the servers with which it happened: a fleet has more connections than a legend has lines."""
    grown = by_upstream(f"rate({counter}[$__rate_interval])")
    return graph(about, Query(f"60 * {total(grown, 'upstream')} > 0", "{{upstream}}"), bars=True, absent=RARE)


def _disconnects() -> AnyPanel:
    return graph(
        About("Disconnects of all", "Ended connections by reason.", "cpm", Link("Runbook", runbook("SyncwatchFlapping"))),
        Query(f"{per_minute(sidecar('syncwatch_connection_disconnects_total'), 'reason')} > 0", "{{reason}}"),
        bars=True,
        absent=RARE,
    )


def _failures() -> AnyPanel:
    return graph(
        About("Failed attempts of all", "Handshakes that did not succeed, by reason.", "cpm", Link("Runbook", runbook("SyncwatchCredentialsRefused"))),
        Query(f"{per_minute(sidecar('syncwatch_connection_attempt_failures_total'), 'reason')} > 0", "{{reason}}"),
        bars=True,
        absent=RARE,
    )


def _unverified() -> AnyPanel:
    return graph(
        About(
            "Longest unverified, by upstream",
            "Of all connections to each server: the longest time without a verification. Above the dashed line, SyncwatchStreamUnverified begins to count.",
            "s",
            Link("Runbook", runbook("SyncwatchStreamUnverified")),
        ),
        Query(worst(by_upstream(sidecar("syncwatch_unverified_seconds")), "upstream"), "{{upstream}}"),
        limit=UNVERIFIED_LIMITS,
    )


def _expiries() -> AnyPanel:
    def left(what: str) -> str:
        return f"{least(by_upstream(sidecar(f'syncwatch_{what}_expiry_timestamp_seconds')), 'upstream')} - time()"

    return graph(
        About(
            "First to expire, by upstream",
            "Time left of the first token and of the first certificate of all connections to each server. Absent for tokens that are no JWT and without TLS.",
            "s",
            Link("Runbook", runbook("SyncwatchCredentialsExpired")),
        ),
        Query(left("token"), "{{upstream}} token"),
        Query(left("tls_certificate"), "{{upstream}} certificate"),
        signed=True,
        absent="no JWT and no TLS",
    )

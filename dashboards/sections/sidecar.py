"""Whether the watcher itself is well.

What belongs here: questions about the process, of no single connection.
"""

from __future__ import annotations

from dashboards.board import Line, Section, Tile
from dashboards.links import runbook
from dashboards.panels import GREEN, RED, About, AnyPanel, Link, Query, graph, lanes, rows
from dashboards.promql import least, per_minute, per_second, process, sidecar, worst


def section() -> Section:
    """The whole section."""
    return Section(
        "Sidecar",
        (
            Line(8, (Tile(12, _probes()), Tile(12, _builds()))),
            Line(8, (Tile(8, _loop_lag()), Tile(8, _overdue()), Tile(8, _state_file()))),
            Line(8, (Tile(8, _memory()), Tile(8, _cpu()), Tile(8, _own_errors()))),
        ),
        folded=True,
    )


def _probes() -> AnyPanel:
    return lanes(
        About(
            "Probes",
            "What livez, readyz, healthz and the gate answer: ok while every check of it is.",
            "none",
            Link("Runbook", runbook("SyncwatchTargetDown")),
        ),
        Query(least(sidecar("syncwatch_check_ok"), "job", "instance", "probe"), "{{instance}} {{probe}}"),
        names={0: ("failing", RED), 1: ("ok", GREEN)},
    )


def _builds() -> AnyPanel:
    labels = ("job", "instance", "version", "revision", "python_version")
    order = {label: place for place, label in enumerate(labels)}
    return rows(
        About(
            "Builds",
            "The sidecars that run, and what they are.",
            "none",
            Link("Runbook", runbook("SyncwatchTargetDown")),
        ),
        Query(worst(sidecar("syncwatch_build_info"), *labels)),
        transformations=(("organize", {"excludeByName": {"Time": True, "Value": True}, "indexByName": order}),),
    )


def _loop_lag() -> AnyPanel:
    return graph(
        About("Event loop lag", "Highest lag in the last 60 s: how long everything had to wait for something.", "s"),
        Query(worst(sidecar("syncwatch_event_loop_lag_seconds"), "job", "instance"), "{{instance}}"),
    )


def _overdue() -> AnyPanel:
    return graph(
        About("Overdue tasks", "How far a task is past its own deadline; 0 while in time. What /livez judges.", "s"),
        Query(worst(sidecar("syncwatch_task_overdue_seconds"), "job", "instance", "task"), "{{instance}} {{task}}"),
    )


def _state_file() -> AnyPanel:
    written = least(sidecar("syncwatch_statefile_last_write_timestamp_seconds"), "job", "instance")
    return graph(
        About(
            "State file age", "Time since the resume points were last written. Absent without a state directory.", "s"
        ),
        Query(f"time() - {written}", "{{instance}}"),
    )


def _memory() -> AnyPanel:
    return graph(
        About("Memory", "Resident memory of the sidecar.", "bytes"),
        Query(process("process_resident_memory_bytes"), "{{instance}}"),
    )


def _cpu() -> AnyPanel:
    used = per_second(sidecar("process_cpu_seconds_total"), "job", "instance")
    return graph(
        About("CPU", "Share of one core that the sidecar uses.", "percentunit"),
        Query(f"{used} and on (job, instance) {sidecar('syncwatch_build_info')}", "{{instance}}"),
    )


def _own_errors() -> AnyPanel:
    writes = per_minute(sidecar("syncwatch_statefile_write_failures_total"), "job", "instance")
    errors = per_minute(sidecar("syncwatch_callback_errors_total"), "job", "instance")
    undelivered = per_minute(sidecar("syncwatch_hook_deliveries_total", 'result=~"retried|dropped"'), "job", "instance", "hook", "result")
    return graph(
        About(
            "Own errors",
            "State files that could not be written, exceptions in the library's callbacks, webhooks tried again or given up. None in ordinary life.",
            "cpm",
        ),
        Query(writes, "{{instance}} state file"),
        Query(errors, "{{instance}} callbacks"),
        Query(undelivered, "{{instance}} {{hook}} {{result}}"),
        bars=True,
    )

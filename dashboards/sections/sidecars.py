"""The sidecars themselves: who runs, since when, with which configuration, at what cost.

What belongs here: questions about many processes.
"""

from __future__ import annotations

from dashboards.board import Line, Section, Tile
from dashboards.links import runbook
from dashboards.panels import GREEN, RED, About, AnyPanel, Link, Query, graph, lanes, rows
from dashboards.promql import least, per_minute, per_second, process, sidecar, worst

CONFIG = Link("Runbook", runbook("SyncwatchConfigOrState"))


def section() -> Section:
    """The whole section."""
    return Section(
        "Sidecars",
        (
            Line(8, (Tile(12, _answers()), Tile(12, _versions()))),
            Line(8, (Tile(8, _configuration()), Tile(8, _loaded()), Tile(8, _state()))),
            Line(8, (Tile(8, _memory()), Tile(8, _cpu()), Tile(8, _files()))),
            Line(8, (Tile(8, _uptime()), Tile(8, _lag()), Tile(8, _probes()))),
        ),
        folded=True,
    )


def _answers() -> AnyPanel:
    up = f"{sidecar('up')} and on (job, instance) present_over_time({sidecar('syncwatch_build_info')}[$__rate_interval])"
    return lanes(
        About("Scrapes", "Whether each sidecar answered; a lane ends a few scrapes after its last answer.", "none", Link("Runbook", runbook("SyncwatchTargetDown"))),
        Query(least(up, "job", "instance"), "{{instance}}"),
        names={0: ("silent", RED), 1: ("answers", GREEN)},
    )


def _versions() -> AnyPanel:
    labels = ("version", "revision", "python_version")
    return rows(
        About("Versions", "How many sidecars run which.", "short"),
        Query(f"count by ({', '.join(labels)}) ({sidecar('syncwatch_build_info')})"),
        transformations=(("organize", {"excludeByName": {"Time": True}, "renameByName": {"Value": "sidecars"}}),),
    )


def _uptime() -> AnyPanel:
    return graph(
        About("Uptime", "Time since each process started. A fall is a restart.", "s"),
        Query(f"time() - {process('process_start_time_seconds')}", "{{instance}}"),
    )


def _configuration() -> AnyPanel:
    return lanes(
        About("Configuration", "Whether the last load succeeded. A refused one changes nothing until a restart, which then fails.", "none", CONFIG),
        Query(least(sidecar("syncwatch_config_last_reload_successful"), "job", "instance"), "{{instance}}"),
        names={0: ("refused", RED), 1: ("in force", GREEN)},
    )


def _loaded() -> AnyPanel:
    loaded = "syncwatch_config_last_reload_success_timestamp_seconds"
    return graph(
        About("Age of the configuration", "Time since a configuration was last loaded.", "s", CONFIG),
        Query(f"time() - {least(sidecar(loaded), 'job', 'instance')}", "{{instance}}"),
    )


def _state() -> AnyPanel:
    failures = per_minute(sidecar("syncwatch_statefile_write_failures_total"), "job", "instance")
    return graph(
        About("Failed writes of the state", "How often a minute the state file could not be written.", "cpm", CONFIG),
        Query(failures, "{{instance}}"),
        absent="no state directory",
    )


def _memory() -> AnyPanel:
    return graph(About("Memory of each", "Resident.", "bytes"), Query(process("process_resident_memory_bytes"), "{{instance}}"))


def _cpu() -> AnyPanel:
    used = per_second(sidecar("process_cpu_seconds_total"), "job", "instance")
    return graph(
        About("CPU of each", "Share of one core.", "percentunit"),
        Query(f"{used} and on (job, instance) {sidecar('syncwatch_build_info')}", "{{instance}}"),
    )


def _files() -> AnyPanel:
    used = f"{sidecar('process_open_fds')} / {sidecar('process_max_fds')}"
    return graph(
        About("File descriptors", "Share of what the process may open.", "percentunit"),
        Query(f"{used} and on (job, instance) {sidecar('syncwatch_build_info')}", "{{instance}}"),
    )


def _lag() -> AnyPanel:
    return graph(
        About("Event loop lag and overdue tasks", "The highest lag of the last 60 s, and how far the worst task is past its own deadline.", "s"),
        Query(worst(sidecar("syncwatch_event_loop_lag_seconds"), "job", "instance"), "{{instance}} lag"),
        Query(worst(sidecar("syncwatch_task_overdue_seconds"), "job", "instance"), "{{instance}} overdue"),
    )


def _probes() -> AnyPanel:
    return lanes(
        About("Liveness", "What /healthz answers: failing means that a restart of the container would help.", "none", Link("Runbook", runbook("SyncwatchTargetDown"))),
        Query(least(sidecar("syncwatch_check_ok", 'probe="healthz"'), "job", "instance"), "{{instance}}"),
        names={0: ("failing", RED), 1: ("ok", GREEN)},
    )

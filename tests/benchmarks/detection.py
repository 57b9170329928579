"""`python -m tests.benchmarks.detection`: how long it takes from a fault to the alert at a webhook, with the rules as they are shipped and everything at its default.

It takes half an hour, in which the machine is almost idle, and writes docs/detection.md. Exit code 1 when an alert did not come, or one that was not expected.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dashboards import alerting
from tests.integration.scenarios import SCENARIOS, Alert, Played, play
from tests.integration.stage import BURNS, REAL, Plan

PAGE = Path(__file__).parents[2] / "docs" / "detection.md"

HEAD = """\
# From a fault to its alert

Written by `make bench`: real relays, sidecars, Prometheus and Alertmanager, the rules as they are shipped, every setting at its default. Prometheus scrapes and
evaluates every {scrape_s:g} s, Alertmanager waits {group_wait_s:g} s before a first notification. Measured is the time from the fault to the alert's arrival at a webhook; all
faults are played side by side, after {history_s:g} s in which all was well; Prometheus is given three days in which the budgets were not touched. One run, {day}, {machine}.

The same faults are played in every test run with durations shortened to seconds, where anything that arrives beside the expected alerts is a failure.

| fault | alert | severity | arrives after |
|---|---|---|---|
"""
TAIL = """
Most of each time is patience, chosen so that a rollout of three minutes wakes nobody: `for`, and the windows that rates look back over. Where something has to be
seen sooner, ask the sidecar: `/gate`, the callbacks and the webhooks tell at once.
"""


def severity(alert: Alert) -> str:
    """Of the rule with this title."""
    name, _, window = alert.title.partition(" ")
    found = [one for group in alerting.GROUPS for one in group.rules if isinstance(one, alerting.Alert) and one.name == name]
    return next(one.severity for one in found if dict(one.labels).get("window", "") == window)


def hold_s(alert: Alert) -> float:
    """How long its rule holds it back."""
    name, _, window = alert.title.partition(" ")
    found = [one for group in alerting.GROUPS for one in group.rules if isinstance(one, alerting.Alert) and one.name == name]
    return next(one.hold_s for one in found if dict(one.labels).get("window", "") == window)


def page(played: Played, plan: Plan, day: str, machine: str) -> str:
    """What is written: how it was measured, a row for each alert of each fault, and what to make of it."""
    head = HEAD.format(scrape_s=plan.scrape_s, group_wait_s=plan.group_wait_s, history_s=plan.history_s, day=day, machine=machine)
    return head + "\n".join(rows(played, plan)) + "\n" + TAIL


def rows(played: Played, plan: Plan) -> list[str]:
    """One for each alert of each fault. What takes longer than the measurement says so."""
    lines = []
    for name, scenario in SCENARIOS.items():
        for title in dict.fromkeys(one.title for one in scenario.alerts):  # of several connections in the same trouble, the first
            alert = next(one for one in scenario.alerts if one.title == title)
            after_s = played.after_s(name, alert)
            told = f"{after_s / 60:.1f} min" if after_s is not None else "**did not come**"
            if after_s is None and too_long(alert, plan):
                told = f"not measured: {at_least_s(alert) / 3600:.1f} h at least"
            window = alert.title.partition(" ")[2]
            shown = alert.title.partition(" ")[0] + (f" (`window` {window})" if window else "")
            lines.append(f"| {scenario.fault} | {shown} | {severity(alert)} | {told} |")
    return lines


def at_least_s(alert: Alert) -> float:
    """What an alert takes by arithmetic: how long its rule holds it back, and for a burn rate the time in which so much of the budget is gone."""
    window = alert.title.partition(" ")[2]
    if not window:
        return hold_s(alert)
    (burn,) = (one for one in alerting.BURNS if alerting.duration(one.long_s) == window)
    return burn.times * (1 - alerting.OBJECTIVE) * burn.long_s * BURNS[window] + burn.hold_s


def too_long(alert: Alert, plan: Plan) -> bool:
    """It takes longer than this run."""
    return at_least_s(alert) > plan.history_s + plan.patience_s


def problems(played: Played, plan: Plan) -> list[str]:
    """What should have come and did not, and what came and should not."""
    every = {name: scenario.alerts for name, scenario in SCENARIOS.items()}
    missing = [f"{name}: {alert.title} did not come" for name, alerts in every.items() for alert in alerts if not too_long(alert, plan) and played.first(alert) is None]
    known = [alert for alerts in every.values() for alert in alerts]
    extra: list[Mapping[str, str]] = [one.labels for one in played.notifications if not any(alert.is_(one) for alert in known)]
    return missing + [f"not expected: {dict(labels)}" for labels in extra]


def main() -> int:
    """Measure, write, judge."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end from outside ends the children too
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.detection")
    parser.add_argument("--output", type=Path, default=PAGE, help="default: %(default)s")
    output: Path = parser.parse_args().output
    print(f"detection: about {(REAL.history_s + REAL.patience_s) / 60:.0f} min", flush=True)
    with tempfile.TemporaryDirectory(prefix="syncwatch-detection-") as folder:
        played = asyncio.run(play(REAL, Path(folder), {}))
    machine = f"{platform.system()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    output.write_text(page(played, REAL, str(datetime.datetime.now(datetime.UTC).date()), machine))
    found = problems(played, REAL)
    print("\n".join([*rows(played, REAL), *found]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""docs/detection.md and what writes it: every alert of every fault that is played, with its severity, and nothing else."""

from __future__ import annotations

import re

from tests.benchmarks.detection import PAGE, page
from tests.expressions import alerts
from tests.integration.scenarios import SCENARIOS, Played
from tests.integration.stage import REAL, Notification

SEVERITIES = {" ".join(filter(None, (rule["alert"], rule["labels"].get("window")))): rule["labels"]["severity"] for rule in alerts()}
"""Of every rule, by its alert and, where it has one, its window."""

FAULTS = list(dict.fromkeys((one.fault, alert.title, SEVERITIES[alert.title]) for one in SCENARIOS.values() for alert in one.alerts))
"""What the page has to tell of; several connections in the same trouble are one row."""


def table(text: str) -> list[list[str]]:
    """The cells of the page's rows."""
    _, rule, rows = text.partition("|---|---|---|---|\n")
    assert rule
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows.splitlines() if line.startswith("|")]


def told(text: str) -> list[tuple[str, str, str]]:
    """Of each row: the fault, the alert as the rules call it, the severity."""
    return [(fault, re.sub(r"\(`window` (\w+)\)", r"\1", alert), severity) for fault, alert, severity, _ in table(text)]


def played(*without: str) -> Played:
    """A run in which every alert but these came two minutes after its fault."""
    came = [alert for one in SCENARIOS.values() for alert in one.alerts if alert.title not in without]
    notifications = tuple(
        Notification(120.0, "firing", {"alertname": name, **({"window": window} if window else {}), **alert.labels})
        for alert in came for name, _, window in [alert.title.partition(" ")]
    )  # fmt: skip
    return Played(dict.fromkeys(SCENARIOS, 0.0), notifications, (), (), {})


def test_every_rule_is_played() -> None:
    """So that the page is about all of them, in each of its windows."""
    assert set(SEVERITIES) == {title for _, title, _ in FAULTS}


def test_the_page_is_written_from_the_run() -> None:
    """A row for each alert of each fault, watchers and mirrors too; what did not come says so, or says that the run is shorter than its patience."""
    text = page(played("SyncwatchFlapping", "SyncwatchErrorBudgetBurn 3d"), REAL, "2026-01-01", "a machine")
    assert FAULTS == told(text)
    times = {title: time for (_, title, _), (*_, time) in zip(told(text), table(text), strict=True)}
    assert "2.0 min" == times["SyncwatchWatcherDead"] == times["SyncwatchMirrorStuck"] == times["SyncwatchErrorBudgetBurn 1d"]
    assert "**did not come**" == times["SyncwatchFlapping"]
    assert "not measured: 28.9 h at least" == times["SyncwatchErrorBudgetBurn 3d"]
    assert "One run, 2026-01-01, a machine." in text


def test_the_page_is_about_these_faults() -> None:
    """docs/detection.md, as `make bench` wrote it last: every alert of every fault in its order, none that is not played any more, and each came in time."""
    text = PAGE.read_text(encoding="utf-8")
    assert FAULTS == told(text)
    assert [] == [row for row in table(text) if not re.fullmatch(r"\d+\.\d min|not measured: \d+\.\d h at least", row[-1])]

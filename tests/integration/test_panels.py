"""dashboards/: what panels say of series with known numbers, computed by Prometheus' own engine from the committed queries."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.expressions import targets
from tests.requires import require

FLEET, CONNECTION = "syncwatch-fleet.json", "syncwatch-connection.json"

STEP_S = 15
"""Between two samples."""

END = "30m"
"""When panels are asked; their range is the `RANGE` before."""

RANGE, RATE = "20m", "1m"

Series = Mapping[str, str]
"""In promtool's notation: a series' name with its labels, and its samples; a pod's labels are put in by `pod`."""


class Panel(NamedTuple):
    """A query of a panel: its dashboard, the panel's title, which of its queries."""

    board: str
    title: str
    query: str = "A"

    @property
    def expression(self) -> str:
        """As Prometheus gets it, with everything chosen."""
        (found,) = [one for one in targets() if (self.board, self.title, self.query) == (one.board, one.panel["title"], one.query["refId"])]
        return filled(found.expression)


class Case(NamedTuple):
    """What a query must answer, in thousandths: each series with its value."""

    claim: str
    panel: Panel
    series: Series
    answer: Mapping[str, float]


def filled(expression: str, job: str = ".+") -> str:
    """A dashboard's query with everything chosen, or one job."""
    for variable, value in (("$__rate_interval", RATE), ("$__range", RANGE), ("$job", job), ("$instance", ".+"), ("$connection", ".+")):
        expression = expression.replace(variable, value)
    return expression


def pod(series: Series, instance: str, job: str = "sync") -> dict[str, str]:
    """The series as one pod exports them."""
    return {f'{name.removesuffix("}")}{"," if "{" in name else "{"}job="{job}",instance="{instance}"}}': samples for name, samples in series.items()}


GROWS = f"0+{STEP_S}x200"
"""A counter of seconds, of something that always holds."""

STANDS = "0x200"

WELL = {'syncwatch_health_seconds_total{component="sidecar",name="syncwatch",health="healthy"}': GROWS}
DOWN = {
    'syncwatch_health_seconds_total{component="connection",name="cast",health="healthy"}': STANDS,
    'syncwatch_health_seconds_total{component="connection",name="cast",health="down"}': GROWS,
}

CASES = (
    Case(
        "A connection that is down all the time is 0 % available, although its sidecar is well",
        Panel(FLEET, "Availability"),
        pod(DOWN | WELL, "a"),
        {"{}": 0},
    ),
    Case(
        "By component both are told",
        Panel(FLEET, "Availability, by component"),
        pod(DOWN | WELL, "a"),
        {'{component="connection"}': 0, '{component="sidecar"}': 1},
    ),
)


@pytest.fixture(scope="module")
def promtool() -> str:
    """The program; without it these tests are skipped, or fail where nothing may be skipped."""
    return require("promtool")


def asked(directory: Path, series: Series, answers: Mapping[str, Mapping[str, float]]) -> str:
    """What promtool finds wrong when it is asked these expressions at the end; nothing when all answers are as given."""
    tests: list[dict[str, Any]] = [
        {"expr": expression, "eval_time": END, "exp_samples": [{"labels": labels, "value": value} for labels, value in answer.items()]} for expression, answer in answers.items()
    ]
    inputs = [{"series": name, "values": samples} for name, samples in series.items()]
    document = {"evaluation_interval": f"{STEP_S}s", "tests": [{"interval": f"{STEP_S}s", "input_series": inputs, "promql_expr_test": tests}]}
    file = directory / "panels.yaml"
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=120, check=False)
    return "" if done.returncode == 0 and "SUCCESS" in done.stdout else done.stdout + done.stderr


@pytest.mark.usefixtures("promtool")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.panel.title)
def test_the_panel_says(tmp_path: Path, case: Case) -> None:
    """The answer, to the thousandth."""
    assert "" == asked(tmp_path, case.series, {f"round({case.panel.expression}, 0.001)": case.answer}), case.claim

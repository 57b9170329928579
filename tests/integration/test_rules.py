"""dashboards/: Prometheus' own tool accepts the rules and the queries, and the alerts fire when they should and only then."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.expressions import RULE_TESTS, RULES, alerts, plain, rules, runbook_queries, targets
from tests.requires import require

ALERTS = list(dict.fromkeys(rule["alert"] for rule in alerts()))


@pytest.fixture(scope="module")
def promtool() -> str:
    """The program; without it these tests are skipped, or fail where nothing may be skipped."""
    return require("promtool")


def _run(*command: str | Path, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=at, capture_output=True, text=True, timeout=60, check=False)


def cases(alert: str) -> list[str]:
    """The files of an alert's cases: `ALERT.yaml`, and `ALERT.SPECIAL.yaml` for what is evaluated at another interval."""
    return sorted(path.name for path in RULE_TESTS.glob("*.yaml") if alert == path.name.split(".")[0])


def _with_rules(directory: Path, document: Any) -> Path:
    """A copy of the rule tests beside other rules; returns where the tests are."""
    (directory / RULES.name).write_text(yaml.safe_dump(document))
    tests = directory / RULE_TESTS.name
    tests.mkdir()
    for path in RULE_TESTS.glob("*.yaml"):
        (tests / path.name).write_bytes(path.read_bytes())
    return tests


def test_the_rules_are_clean(promtool: str) -> None:
    """promtool's linter has nothing to say, and sees every rule."""
    done = _run(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES, at=RULES.parent)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules())} rules found" in done.stdout


@pytest.mark.parametrize("alert", ALERTS)
def test_the_alert_fires_when_it_should_and_only_then(promtool: str, alert: str) -> None:
    """All cases of the alert's files, labels and annotations in full."""
    done = _run(promtool, "test", "rules", *cases(alert), at=RULE_TESTS)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.parametrize("alert", ALERTS)
@pytest.mark.parametrize("hold", ["0s", "9d"])
def test_the_cases_notice_another_patience(promtool: str, tmp_path: Path, alert: str, hold: str) -> None:
    """An alert that fires at once breaks a near miss, and one that waits for ever breaks a case in which it must fire."""
    document = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        if rule.get("alert") == alert:
            rule["for"] = hold
    done = _run(promtool, "test", "rules", *cases(alert), at=_with_rules(tmp_path, document))
    assert 1 == done.returncode, done.stdout
    assert "FAILED" in done.stdout + done.stderr


def test_prometheus_parses_every_query(promtool: str, tmp_path: Path) -> None:
    """Dashboards and runbooks, in Prometheus' own parser: each query as a recording rule, which is checked and never run."""
    queries = [*(target.expression for target in targets()), *(query for _, query in runbook_queries())]
    recorded = [{"record": f"query:{place}", "expr": plain(query)} for place, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    done = _run(promtool, "check", "rules", file, at=tmp_path)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout

"""dashboards/rules: the alerts that exist keep the conventions, ask for what is exported, and have their cases.

Whether they fire when they should is promtool's to say: tests/integration/test_rules.py.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from dashboards.links import runbook
from tests.expressions import RULE_TESTS, Json, problems, rules, selections

SEVERITIES = {
    "SyncwatchTargetDown": "warning",
    "SyncwatchConnectionDown": "warning",
    "SyncwatchStreamUnverified": "critical",
    "SyncwatchCredentialsRefused": "critical",
    "SyncwatchFlapping": "warning",
    "SyncwatchEventsLost": "warning",
    "SyncwatchClaimContradicted": "warning",
}
"""Every alert, and nothing else. critical wakes somebody."""

ALERT_RULES = rules()


def test_the_alerts_and_their_severities() -> None:
    """These and no others; CamelCase with the project's name in front."""
    assert SEVERITIES == {rule["alert"]: rule["labels"]["severity"] for rule in ALERT_RULES}
    assert all(re.fullmatch("Syncwatch([A-Z][a-z]+)+", name) for name in SEVERITIES)


@pytest.mark.parametrize("rule", ALERT_RULES, ids=lambda rule: rule["alert"])
def test_alert(rule: Json) -> None:
    """Slack for blips at scrapes every 30 s, a static summary, a description that names the place, a runbook that exists."""
    assert _seconds(rule["for"]) >= 2 * 30
    assert ["severity"] == list(rule["labels"])
    notes = rule["annotations"]
    assert {"summary", "description", "runbook_url"} == set(notes)
    assert "{{" not in notes["summary"]
    assert "{{ $labels.instance }}" in notes["description"]
    assert runbook(rule["alert"]) == notes["runbook_url"]
    read = selections(rule["expr"])
    assert [] == [problem for selection in read for problem in problems(selection)]
    for selection in read:
        assert "job" in selection.matchers, "restricting the rules to a job must be possible by replacing one matcher"
        assert selection.range_s == 0 or selection.range_s >= 4 * 30


def _seconds(duration: str) -> int:
    found = re.fullmatch(r"(\d+)([smh])", duration)
    assert found is not None
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


@pytest.mark.parametrize("alert", SEVERITIES)
def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_does_not(alert: str) -> None:
    """Its own file, each case with a name; a case that never expects it is a near miss."""
    cases = yaml.safe_load((RULE_TESTS / f"{alert}.yaml").read_text())["tests"]
    assert all(case["name"] for case in cases)
    checks: list[list[dict[str, Any]]] = [case["alert_rule_test"] for case in cases]
    assert {alert} == {check["alertname"] for case in checks for check in case}
    fires = [any(check.get("exp_alerts") for check in case) for case in checks]
    assert {True, False} == set(fires)


def test_no_rule_test_without_an_alert() -> None:
    """Nothing is left over from an alert that is gone."""
    assert set(SEVERITIES) == {path.stem for path in RULE_TESTS.glob("*.yaml")}

"""dashboards/alerting: the alerts keep the conventions, ask for what is exported, and everything that belongs to one is there.

Whether they fire when they should is promtool's to say (tests/integration/test_rules.py), and real faults' (tests/integration/test_alerting.py).
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from dashboards import alerting
from dashboards.links import runbook
from tests.expressions import (
    INHIBITIONS,
    ROOT,
    RULE_TESTS,
    RULES,
    RUNBOOKS,
    Json,
    alerts,
    problems,
    recorded,
    rules,
    selections,
)
from tests.integration.scenarios import SCENARIOS

SEVERITIES = {
    "SyncwatchAbsent": "warning",
    "SyncwatchTargetDown": "warning",
    "SyncwatchUpstreamDown": "critical",
    "SyncwatchConnectionDown": "warning",
    "SyncwatchStreamUnverified": "critical",
    "SyncwatchCredentialsRefused": "critical",
    "SyncwatchCredentialsExpired": "warning",
    "SyncwatchPollingTooLong": "warning",
    "SyncwatchFlapping": "warning",
    "SyncwatchEventsLost": "warning",
    "SyncwatchClaimContradicted": "warning",
    "SyncwatchCanaryFailing": "warning",
    "SyncwatchWatcherDead": "warning",
    "SyncwatchMirrorStuck": "warning",
    "SyncwatchServiceDown": "warning",
    "SyncwatchConfigOrState": "warning",
    "SyncwatchErrorBudgetBurn 1h": "critical",
    "SyncwatchErrorBudgetBurn 6h": "critical",
    "SyncwatchErrorBudgetBurn 1d": "warning",
    "SyncwatchErrorBudgetBurn 3d": "warning",
}
"""Every alert, and nothing else; burn rates with their window. critical wakes somebody."""

OF_MANY = {"SyncwatchAbsent", "SyncwatchUpstreamDown", "SyncwatchErrorBudgetBurn"}
"""Alerts about no single sidecar."""


def title(rule: Json) -> str:
    """An alert's name, and its window if it has several."""
    return " ".join(filter(None, (rule["alert"], rule["labels"].get("window"))))


def test_the_alerts_and_their_severities() -> None:
    """These and no others; CamelCase with the project's name in front."""
    assert SEVERITIES == {title(rule): rule["labels"]["severity"] for rule in alerts()}
    assert all(re.fullmatch("Syncwatch([A-Z][a-z]+)+", rule["alert"]) for rule in alerts())


def test_the_written_rules_are_what_the_python_says() -> None:
    """The comments and the folding change nothing."""

    def trimmed(document: Any) -> Any:
        for group in document["groups"]:
            for rule in group["rules"]:
                rule["expr"] = rule["expr"].strip()
        return document

    assert trimmed(alerting.rules()) == trimmed(yaml.safe_load(RULES.read_text()))
    assert {"inhibit_rules": alerting.inhibitions()} == yaml.safe_load(INHIBITIONS.read_text())


@pytest.mark.parametrize("rule", alerts(), ids=title)
def test_alert(rule: Json) -> None:
    """Slack for blips at scrapes every 30 s, a static summary, a description that names the place, a runbook that exists."""
    assert _seconds(rule["for"]) >= 2 * 30
    assert {"severity"} == set(rule["labels"]) - {"window"}
    notes = rule["annotations"]
    assert {"summary", "description", "runbook_url"} == set(notes)
    assert "{{" not in notes["summary"]
    assert (rule["alert"] in OF_MANY) != ("{{ $labels.instance }}" in notes["description"])
    assert runbook(rule["alert"]) == notes["runbook_url"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("record") or title(rule))
def test_expression(rule: Json) -> None:
    """It reads what is exported or recorded, of the chosen jobs, and never less than four scrapes back."""
    read = selections(rule["expr"])
    assert read
    assert [] == [problem for selection in read for problem in problems(selection)]
    for selection in read:
        assert "job" in selection.matchers or selection.metric in {"ALERTS", *recorded()}, "restricting the rules to a job must be possible by replacing one matcher"
        assert selection.range_s == 0 or selection.range_s >= 4 * 30


def test_what_is_recorded_is_used() -> None:
    """A recording that no rule reads costs and serves nobody."""
    read = {selection.metric for rule in rules() for selection in selections(rule["expr"])}
    assert set(recorded()) <= read


def _seconds(duration: str) -> int:
    found = re.fullmatch(r"(\d+)([smh])", duration)
    assert found is not None
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


@pytest.mark.parametrize("alert", SEVERITIES)
def test_everything_that_belongs_to_an_alert_is_there(alert: str) -> None:
    """A rule; cases in which it fires and in which it does not, each with a name; a runbook; a real fault that sets it off."""
    name, _, window = alert.partition(" ")
    assert 1 == [title(rule) for rule in alerts()].count(alert)
    assert (RUNBOOKS / f"{name}.md").exists()
    cases = yaml.safe_load((RULE_TESTS / f"{name}.yaml").read_text())["tests"]
    assert all(case["name"] for case in cases)
    checks: list[list[Json]] = [case["alert_rule_test"] for case in cases]
    assert {name} == {check["alertname"] for case in checks for check in case}
    fires = [{one["exp_labels"].get("window", "") for check in case for one in check.get("exp_alerts", ())} for case in checks]
    assert any(window in case for case in fires), "a case in which it fires"
    assert any(window not in case for case in fires), "a case in which it does not"
    proven = {one.title for scenario in SCENARIOS.values() for one in scenario.alerts}
    assert alert in proven, "a fault that sets it off"


def test_nothing_is_left_over() -> None:
    """No cases and no runbook of an alert that is gone."""
    names = {rule["alert"] for rule in alerts()}
    assert names == {path.name.split(".")[0] for path in RULE_TESTS.glob("*.yaml")}
    assert names | {"reasons"} == {path.stem for path in RUNBOOKS.glob("*.md")}


def test_inhibitions_speak_of_alerts_and_labels_that_exist() -> None:
    """Each name is an alert's; what has to be equal is a label that source and target both have, or both do not; nothing keeps itself quiet."""
    names = {rule["alert"] for rule in alerts()}
    for one in alerting.INHIBITIONS:
        assert {*one.sources, *one.targets} <= names
        assert one.source_more != one.target_more or not {*one.sources} & {*one.targets}
        for alert in (*one.sources, *one.targets):
            assert set(one.equal) <= LABELS[alert], (alert, one.equal)
    quieted = {target for one in alerting.INHIBITIONS if "SyncwatchUpstreamDown" in one.sources for target in one.targets}
    assert {"SyncwatchConnectionDown", "SyncwatchStreamUnverified", "SyncwatchErrorBudgetBurn"} <= quieted


LABELS = {
    "SyncwatchUpstreamDown": {"upstream"},
    "SyncwatchErrorBudgetBurn": {"job", "component", "upstream"},
    **{
        f"Syncwatch{name}": {"job", "instance", "connection", "upstream"}
        for name in ("ConnectionDown", "StreamUnverified", "CredentialsRefused", "PollingTooLong", "Flapping", "CanaryFailing")
    },
}
"""Labels of alerts in inhibitions, as their cases show."""


def test_the_labels_in_inhibitions_are_those_that_alerts_have() -> None:
    """Held by the cases in which the alerts fire, whose labels promtool compares in full."""
    for name, labels in LABELS.items():
        cases = yaml.safe_load((RULE_TESTS / f"{name}.yaml").read_text())["tests"]
        seen = [set(one["exp_labels"]) for case in cases for check in case["alert_rule_test"] for one in check.get("exp_alerts", ())]
        assert labels == set.union(*seen) - {"severity", "window", "reason"}


def test_durations() -> None:
    """As Prometheus writes them, in the largest unit that leaves a whole number."""
    assert ["3d", "36h", "5m", "90s", "1500ms"] == [alerting.duration(seconds) for seconds in (259200, 129600, 300, 90, 1.5)]


def test_the_page_lists_them() -> None:
    """docs/alerts.md: every alert in the order of the rules, with its severity and a link to its runbook."""
    lines = re.findall(r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+)", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    expected = dict.fromkeys((rule["alert"], rule["alert"], "critical" if rule["labels"].get("window") else rule["labels"]["severity"]) for rule in alerts())
    assert list(expected) == lines


def test_the_page_groups_as_the_stack_does() -> None:
    """docs/alerts.md shows the route of deploy/compose/: many connections to one upstream are one notification of each alert."""
    (shown,) = re.findall(r"```yaml\n(route:\n.*?)```", (ROOT / "docs" / "alerts.md").read_text(), re.DOTALL)
    route = yaml.safe_load((ROOT / "deploy" / "compose" / "alertmanager.yaml").read_text())["route"]
    assert {"group_by": route["group_by"]} == yaml.safe_load(shown)["route"]

"""Real faults, real alerts: relays, sidecars, Prometheus and Alertmanager, and what arrives at a webhook.

All scenarios are played once, side by side, with the rules' durations shortened (`stage.Quick`); the tests here look at the record.
"""

from __future__ import annotations

import asyncio

import pytest

from dashboards import alerting
from tests.expressions import marks, targets
from tests.integration.scenarios import SCENARIOS, Played, play
from tests.integration.stage import QUICK, QUIET, Quick
from tests.requires import require

PANELS = {target.expression: bool(target.query.get("instant")) for target in targets()} | {mark["expr"]: False for mark in marks()}
"""Every query of every dashboard, annotations included, and whether it is asked once or over time."""


def filled(expression: str) -> str:
    """A dashboard's query with everything chosen."""
    for variable in ("job", "instance", "connection"):
        expression = expression.replace(f"${variable}", ".+")
    return expression.replace("$__rate_interval", "5s").replace("$__range", "90s")


def rules_at_this_pace() -> dict[str, str]:
    """The expressions of all rules, by their names, at the pace at which they are played."""
    terms = alerting.Terms(Quick(), alerting.Scope())
    named: dict[str, str] = {}
    for group in alerting.GROUPS:
        for rule in group.rules:
            window = dict(rule.labels).get("window", "") if isinstance(rule, alerting.Alert) else ""
            named[f"{rule.name} {window}".strip()] = rule.expression(terms)
    return named


RULES = rules_at_this_pace()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The record."""
    for program in ("prometheus", "prometheus-alertmanager"):
        require(program)
    queries = {filled(expression): once for expression, once in PANELS.items()} | dict.fromkeys(RULES.values(), False)
    return asyncio.run(play(QUICK, tmp_path_factory.mktemp("stage"), queries))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_fault_sets_off_its_alerts(played: Played, name: str) -> None:
    """Each of them arrives at the webhook, with its labels, and after the fault."""
    for alert in SCENARIOS[name].alerts:
        after_s = played.after_s(name, alert)
        assert after_s is not None, f"{SCENARIOS[name].fault}: {alert} did not come"
        assert after_s > 0


def test_nothing_else_arrives(played: Played) -> None:
    """Whatever a fault sets off beside its own alerts is either kept quiet by Alertmanager or a mistake."""
    expected = [alert for scenario in SCENARIOS.values() for alert in scenario.alerts]
    extra = [one for one in played.notifications if not any(alert.is_(one) for alert in expected)]
    assert "" == "\n".join(f"{one.status} {one.title} {dict(one.labels)}" for one in extra)


def test_where_nothing_happens_nothing_arrives(played: Played) -> None:
    """Before the faults, and for a sidecar with connections of each kind, a canary and a service, to the end."""
    assert () == played.before
    assert "" == "\n".join(f"{one.status} {one.title} {dict(one.labels)}" for one in played.notifications if one.labels.get("instance") == QUIET)


def test_one_server_is_one_notification(played: Played) -> None:
    """Grouped as the Compose file's Alertmanager does: of several connections to one server that are in the same trouble, one tells, and of no other server's."""
    (expected,) = [{alert.labels["connection"] for alert in SCENARIOS["stream_unverified"].alerts}]
    assert len(expected) > 1
    told = [[one.labels for one in group] for group in played.grouped if "SyncwatchStreamUnverified" == group[0].title]
    assert [expected] == [seen for group in told if (seen := {one["connection"] for one in group}) & expected]
    assert len(told) == len({one["upstream"] for group in told for one in group})


def test_no_panel_is_empty(played: Played) -> None:
    """After all this every query of every dashboard has something to show."""
    empty = {expression for expression in PANELS if not played.found[filled(expression)]}
    assert set() == empty


def test_no_rule_is_empty(played: Played) -> None:
    """Every rule had something to record or to fire about."""
    assert {name for name, expression in RULES.items() if not played.found[expression]} == set()

"""dashboards/: what panels say of series with known numbers, computed by Prometheus' own engine from the committed queries."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from syncwatch.core.states import State
from syncwatch.exposition.registry import DEFINITIONS, LABEL_SETS, Definition, Kind
from tests.expressions import ROOT, Target, groupings, targets
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
    target = f'job="{job}",instance="{instance}"'
    return {f'{name.removesuffix("}")},{target}}}'.replace("{,", "{") if "{" in name else f"{name}{{{target}}}": samples for name, samples in series.items()}


GROWS = f"0+{STEP_S}x200"
"""A counter of seconds, of something that always holds."""

STANDS = "0x200"

WELL = {'syncwatch_health_seconds_total{component="sidecar",name="syncwatch",health="healthy"}': GROWS}
DOWN = {
    'syncwatch_health_seconds_total{component="connection",name="cast",health="healthy"}': STANDS,
    'syncwatch_health_seconds_total{component="connection",name="cast",health="down"}': GROWS,
}

ALERTING = {
    f"{metric}{{{labels}{state}}}": samples
    for labels in (
        'alertname="SyncwatchConnectionDown",job="sync",instance="a",connection="cast"',
        'alertname="SyncwatchConnectionDown",job="foreign",instance="a",connection="cast"',
        'alertname="SyncwatchUpstreamDown",upstream="wss://u"',
        'alertname="SyncwatchErrorBudgetBurn",job="sync",upstream="wss://u"',
        'alertname="Watchdog",job="sync",instance="a"',
    )
    for metric, state, samples in (("ALERTS", ',alertstate="firing"', "1x200"), ("ALERTS_FOR_STATE", "", "600x200"))
}
POLLS = {'syncwatch_connection_state_seconds_total{connection="files",state="polling"}': GROWS}
LEADS = {'syncwatch_connection_info{connection="cast",upstream="wss://u"}': "1x200"}
UP = {
    'syncwatch_health_seconds_total{component="connection",name="cast",health="healthy"}': GROWS,
    'syncwatch_health_seconds_total{component="connection",name="cast",health="down"}': STANDS,
}
TRIES = {'syncwatch_connection_state{connection="cast",state="reconnecting"}': "1x200", 'syncwatch_connection_state{connection="cast",state="open"}': STANDS}
LIVES = {'syncwatch_connection_state{connection="cast",state="reconnecting"}': STANDS, 'syncwatch_connection_state{connection="cast",state="open"}': "1x200"}
HALF = pod(DOWN | TRIES | LEADS, "a") | pod(DOWN | TRIES | LEADS, "b") | pod(UP | LIVES | LEADS, "c") | pod(UP | LIVES | LEADS, "d")
"""Four pods with one connection each, to one server: two are down."""

LOSES = {'syncwatch_sequence_lost_total{connection="cast"}': "0x59 0+1x140"}
"""From the fifteenth minute on, four a minute: 60 in the fifteen minutes that are left."""

TARGETS = {
    'up{job="sync",instance="well"}': "1x200",
    'up{job="sync",instance="silent"}': "1x100 0x100",
    'up{job="else",instance="no_sidecar"}': "0x200",
    'syncwatch_build_info{job="sync",instance="well"}': "1x200",
    'syncwatch_build_info{job="sync",instance="silent"}': "1x100 stale",
    'syncwatch_build_info{job="sync",instance="gone"}': "1x100 stale",
}

IN_STATE = {f'syncwatch_connection_state{{connection="cast",state="{state}"}}': "1x200" if state is State.OPEN else STANDS for state in State}

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
    Case(
        "Three pods that do nothing but poll are 100 % in polling",
        Panel(CONNECTION, "Time in polling"),
        pod(POLLS, "a") | pod(POLLS, "b") | pod(POLLS, "c"),
        {'{connection="files"}': 1},
    ),
    Case(
        "Of two jobs whose pods have the same name each has its own state",
        Panel(CONNECTION, "State"),
        pod(IN_STATE, "a") | pod(IN_STATE, "a", "other"),
        {'{connection="cast",instance="a",job="sync"}': 3, '{connection="cast",instance="a",job="other"}': 3},
    ),
    Case("Two of four are half", Panel(FLEET, "Availability, by upstream"), HALF, {'{upstream="wss://u"}': 0.5}),
    Case("Two of four, wherever they are", Panel(FLEET, "Connections down"), HALF, {"{}": 2}),
    Case("The share of a server's connections", Panel(FLEET, "Connections down, by upstream"), HALF, {'{upstream="wss://u"}': 0.5}),
    Case("Each server's connections", Panel(FLEET, "Upstreams", "A"), HALF, {'{upstream="wss://u"}': 4}),
    Case("Those that are down", Panel(FLEET, "Upstreams", "B"), HALF, {'{upstream="wss://u"}': 2}),
    Case("The share of the range in which they were ill", Panel(FLEET, "Upstreams", "C"), HALF, {'{upstream="wss://u"}': 0.5}),
    Case("Everything lost, of all", Panel(FLEET, "Upstreams", "D"), pod(LOSES | LEADS, "a") | pod(LOSES | LEADS, "b"), {'{upstream="wss://u"}': 120}),
    Case("Everything lost, of all", Panel(FLEET, "Events lost"), pod(LOSES, "a") | pod(LOSES, "b"), {"{}": 120}),
    Case("A minute, of all", Panel(FLEET, "Events lost, by upstream"), pod(LOSES | LEADS, "a") | pod(LOSES | LEADS, "b"), {'{upstream="wss://u"}': 8}),
    Case("Who loses nothing draws nothing", Panel(FLEET, "Events lost, by upstream"), pod({'syncwatch_sequence_lost_total{connection="cast"}': STANDS} | LEADS, "a"), {}),
    Case("Those that were sidecars and do not answer", Panel(FLEET, "Sidecars missing"), TARGETS, {"{}": 1}),
    Case("By name", Panel(FLEET, "Sidecars that are missing", "A"), TARGETS, {'{job="sync",instance="silent"}': 1}),
    Case("Those that are no targets any more", Panel(FLEET, "Sidecars that are missing", "B"), TARGETS, {'{job="sync",instance="gone"}': 1}),
    Case("Those that answer", Panel(FLEET, "Sidecars"), TARGETS, {"{}": 1}),
    Case("Both of two are needed", Panel(CONNECTION, "Socket"), pod({'syncwatch_connection_up{connection="a"}': "1x200", 'syncwatch_connection_up{connection="b"}': STANDS}, "a"), {"{}": 0}),
    Case("Without the sidecar's own health", Panel(CONNECTION, "Healthy in range"), pod(DOWN | WELL, "a") | pod(UP | WELL, "b"), {"{}": 0.5}),
)


@pytest.mark.usefixtures("promtool")
def test_alerts_of_the_chosen_and_of_everybody(tmp_path: Path) -> None:
    """Of one job, those about it, and those about no single job or sidecar; how long each has been so; none of other jobs, and no other alerts."""
    (alerts,) = [one.expression for one in targets() if one.panel["title"] == "Firing alerts"]
    answer = {
        '{alertname="SyncwatchConnectionDown",job="sync",instance="a",connection="cast"}': 1200,
        '{alertname="SyncwatchUpstreamDown",upstream="wss://u"}': 1200,
        '{alertname="SyncwatchErrorBudgetBurn",job="sync",upstream="wss://u"}': 1200,
    }
    assert "" == asked(tmp_path, ALERTING, {filled(alerts, job="sync"): answer})


@pytest.mark.usefixtures("promtool")
def test_who_rests_is_not_among_the_worst(tmp_path: Path) -> None:
    """A connection that was idle or closed all the time has no share: it is left out, and no number that is none disturbs the order."""
    resting = {name.replace("cast", "rests"): STANDS for name in DOWN}
    answer = {'{job="sync",instance="a",connection="cast"}': 1}
    assert "" == asked(tmp_path, pod(DOWN | resting, "a"), {Panel(FLEET, "Worst first").expression: answer})


@pytest.mark.usefixtures("promtool")
@pytest.mark.parametrize("query", "ABCD")
def test_the_worst_of_many_are_enough(tmp_path: Path, query: str) -> None:
    """Of sixty connections, each a minute longer ill than the one before, the table has the fifty worst, in each of its columns."""
    series: dict[str, str] = {}
    for ill in range(60):
        names = f'component="connection",name="c{ill:02}"'
        series |= {
            f'syncwatch_health_seconds_total{{{names},health="healthy"}}': f"0+{60 - ill}x200",
            f'syncwatch_health_seconds_total{{{names},health="down"}}': f"0+{ill}x200",
            f'syncwatch_degraded{{{names},reason="behind"}}': "1x200",
            f'syncwatch_unverified_seconds{{connection="c{ill:02}"}}': "1x200",
            f'syncwatch_sequence_lost_total{{connection="c{ill:02}"}}': "0x200",
        }
    expression = Panel(FLEET, "Worst first", query).expression
    assert "" == asked(tmp_path, pod(series, "a"), {f"count({expression})": {"{}": 50}, f'count({expression} and on (connection) {{connection=~"c0."}})': {}})


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
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.panel.title} {case.panel.query}")
def test_the_panel_says(tmp_path: Path, case: Case) -> None:
    """The answer, to the thousandth."""
    assert "" == asked(tmp_path, case.series, {f"round({case.panel.expression}, 0.001)": case.answer}), case.claim


def everything() -> dict[str, str]:
    """Every series that a sidecar can have, each thing once, all of them doing something: as promtool wants them, for `pod`."""
    series = {"up": "1x200"}
    for one in DEFINITIONS:
        for labels in _label_sets(one):
            grows = one.kind in {Kind.COUNTER, Kind.HISTOGRAM}
            selected = ",".join(f'{label}="{value}"' for label, value in labels.items())
            held = labels.get("state", "open") == "open"
            if one.kind is Kind.HISTOGRAM:
                series |= {f'{one.name}_bucket{{{selected},le="{le}"}}': f"0+{count}x200" for le, count in (("0.1", 1), ("1", 3), ("+Inf", 4))}
                series |= {f"{one.name}_sum{{{selected}}}": "0+2x200", f"{one.name}_count{{{selected}}}": "0+4x200"}
            elif not grows:
                series[f"{one.name}{{{selected}}}"] = "1x200" if held else STANDS
            elif "_seconds_total" in one.name:
                series[f"{one.name}{{{selected}}}"] = GROWS
            else:
                series[f"{one.name}{{{selected}}}"] = "0+3x200"
    return series


def _label_sets(one: Definition) -> Iterator[dict[str, str]]:
    """The labels of a metric, once for each word that its labels can have; what a configuration names is called x."""
    named = {label: "x" for label in one.labels if label not in one.further}
    if "component" in one.further:
        last = one.further[-1]
        words = {"health": ("healthy",), "reason": ("behind",)}[last]
        yield from (named | {"component": component, "name": "x", last: word} for component in ("connection", "watcher", "sidecar") for word in words)
    elif one.name in LABEL_SETS:
        yield from (named | {label: str(word) for label, word in zip(one.further, words, strict=True)} for words in LABEL_SETS[one.name])
    else:
        yield named | {label: ASKED_FOR.get(label, "x") for label in one.further}


ASKED_FOR = {"probe": "healthz", "result": "dropped"}
"""Words that panels ask for, of labels whose words the registry leaves to their components."""

ADDS_UP = {"Upstreams", "Heartbeat round trips"}
"""What counts many things: a table whose columns have units of their own, a heatmap whose unit is its axis'."""

ALL_IS_WELL = {"Sidecars that are missing", "Firing alerts"}
"""What is empty where nothing is wrong."""


def disagreements(directory: Path, queries: Iterable[tuple[Target, str]], many: Series) -> list[str]:
    """The panels that say something else of many sidecars in the same state (their jobs begin with many) than of one. Queries with their expressions."""
    must_be_empty: dict[str, str] = {}
    for target, expression in queries:
        unit, title = target.panel["fieldConfig"]["defaults"]["unit"], target.panel["title"]
        if title in ADDS_UP or not (unit in {"s", "percentunit", "none"} or "instance" in groupings(expression)):
            continue
        alone, together = (f"max({filled(expression, job)})" for job in ("one", "many.*"))
        must_be_empty[f"abs({alone} - {together}) > 0.001"] = f"{title}: not the same"
        if unit == "percentunit":
            must_be_empty[f"{together} > 1.001"] = f"{title}: more than all"
        if title not in ALL_IS_WELL:
            must_be_empty[f"absent({alone})"] = f"{title}: nothing"
    assert must_be_empty
    wrong = asked(directory, pod(everything(), "a", job="one") | dict(many), {expression: {} for expression in must_be_empty})
    named = [said for expression, said in must_be_empty.items() if json.dumps(expression) in wrong]
    return named or list(filter(None, (wrong,)))


@pytest.mark.usefixtures("promtool")
def test_many_sidecars_in_the_same_state_say_what_one_says(tmp_path: Path) -> None:
    """Shares, ages and states are not added up over pods or jobs: what is true of each of six is true of all together, and no share is above 1."""
    many = {name: samples for job in ("many1", "many2") for instance in "abc" for name, samples in pod(everything(), instance, job=job).items()}
    assert [] == disagreements(tmp_path, [(target, target.expression) for target in targets()], many)


@pytest.mark.usefixtures("promtool")
def test_several_clusters_are_told_apart_as_the_page_says(tmp_path: Path) -> None:
    """docs/alerts.md: with its command the dashboards too can be asked where pods of two clusters have the same name; without it, some cannot."""
    (program,) = re.findall(r"```sh\nsed -i ('.*') ", (ROOT / "docs" / "alerts.md").read_text())
    many = {f'{name[:-1]},cluster="{cluster}"}}': samples for cluster in ("eu", "us") for name, samples in pod(everything(), "a", job="many").items()}
    before = list(targets())
    lines = "\n".join(target.expression for target in before)
    after = subprocess.run(["sed", *shlex.split(program)], input=lines, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    assert disagreements(tmp_path, [(target, target.expression) for target in before], many)
    assert [] == disagreements(tmp_path, zip(before, after, strict=True), many)

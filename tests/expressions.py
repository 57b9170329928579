"""The queries of the committed dashboards, rules and runbooks, what they select, and whether that is exported at all.

What belongs here: reading, and the one judgement that holds for every query alike. All others are the tests'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

from syncwatch.core.health import Component, Health, Reason
from syncwatch.exposition.registry import DEFINITIONS, LABEL_SETS, Kind

ROOT = Path(__file__).parent.parent
BOARDS = ROOT / "dashboards" / "json"
RULES = ROOT / "dashboards" / "rules" / "syncwatch.rules.yaml"
INHIBITIONS = RULES.with_name("alertmanager.yaml")
RULE_TESTS = ROOT / "dashboards" / "rules" / "tests"
RUNBOOKS = ROOT / "docs" / "runbooks"

Json = Mapping[str, Any]

PLACES = {"$__rate_interval": "4m", "$__range": "1h"}
"""What Grafana puts in place of its own variables. Those in quotes are strings, and parse as they are."""


class Target(NamedTuple):
    """One query of a panel, as it stands in the JSON; `board` is its file's name."""

    board: str
    panel: Json
    query: Json

    @property
    def expression(self) -> str:
        """The query, with Grafana's variables."""
        return str(self.query["expr"])


class Selection(NamedTuple):
    """A metric that an expression reads: with which matchers, in which function's range, and how long that is (s)."""

    metric: str
    matchers: Mapping[str, str]
    function: str
    range_s: float


def boards() -> Mapping[str, Json]:
    """The committed dashboards by file name."""
    return {path.name: json.loads(path.read_bytes()) for path in sorted(BOARDS.glob("*.json"))}


def panels(board: Json) -> Iterator[Json]:
    """All panels but the rows, those inside folded rows included."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def targets() -> Iterator[Target]:
    """All queries of all dashboards."""
    for name, board in boards().items():
        for panel in panels(board):
            yield from (Target(name, panel, query) for query in panel["targets"])


def marks(name: str = "") -> Iterator[Json]:
    """All annotations of a dashboard, or of all."""
    for file, board in boards().items():
        if name in {"", file}:
            yield from board.get("annotations", {}).get("list", ())


def rules() -> list[Json]:
    """All rules, those that record included."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[Json]:
    """The rules that fire. One alert may have several, told apart by their label `window`."""
    return [rule for rule in rules() if "alert" in rule]


def runbook_queries() -> Iterator[tuple[str, str]]:
    """Every fenced `promql` block: page and query."""
    for page in sorted(RUNBOOKS.glob("*.md")):
        for block in re.findall(r"```promql\n(.*?)```", page.read_text(), re.DOTALL):
            yield page.name, block


def plain(expression: str) -> str:
    """The expression as Prometheus would get it, with Grafana's own variables filled in."""
    for variable, value in PLACES.items():
        expression = expression.replace(variable, value)
    return expression


def selections(expression: str) -> list[Selection]:
    """Everything that the expression reads. Raises: ValueError where it does not parse."""
    found: list[Selection] = []
    above: list[promql_parser.Expr] = []

    def enter(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            matrix = above[-1] if above and isinstance(above[-1], promql_parser.MatrixSelector) else None
            call = above[-2] if matrix is not None and isinstance(above[-2], promql_parser.Call) else None
            matchers = {matcher.name: matcher.value for matcher in node.matchers.matchers}
            found.append(
                Selection(
                    node.name or "",
                    matchers,
                    call.func.name if call is not None else "",
                    matrix.range.total_seconds() if matrix is not None else 0.0,
                )
            )
        above.append(node)

    def leave(_: promql_parser.Expr) -> None:
        above.pop()

    promql_parser.walk(promql_parser.parse(plain(expression)), enter, leave)
    return found


def groupings(expression: str) -> set[str]:
    """All labels that aggregations keep. Raises: ValueError where it does not parse."""
    kept: set[str] = set()

    def enter(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            kept.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(plain(expression)), enter)
    return kept


def made_labels(expression: str) -> set[str]:
    """Labels that `label_replace` makes in it."""
    return set(re.findall(r', "(\w+)", "\$1", "', expression))


ALERT_LABELS = frozenset({"alertname", "severity", "upstream", "connection"})

SCRAPED = {"up": frozenset[str](), "ALERTS": ALERT_LABELS | {"alertstate"}, "ALERTS_FOR_STATE": ALERT_LABELS}
"""What Prometheus itself adds, with its labels beside job and instance."""

RECORDED = {
    "connection:syncwatch_connection_info:": frozenset({"connection", "upstream"}),
    "connection:syncwatch_connection_down:": frozenset({"connection", "upstream"}),
    "upstream:syncwatch_health_seconds:": frozenset({"component", "upstream", "health"}),
    "upstream:syncwatch_unhealthy:": frozenset({"component", "upstream"}),
}
"""What the rules record, by the beginning of its name, with its labels beside job and instance."""


def recorded() -> dict[str, frozenset[str]]:
    """The names that the rules record, and their labels."""
    names = [rule["record"] for rule in rules() if "record" in rule]
    return {name: next(labels for begin, labels in RECORDED.items() if name.startswith(begin)) for name in names}


def _series() -> dict[str, tuple[frozenset[str], bool]]:
    """Every name that can stand in a query: its labels, and whether it only ever grows."""
    known = {name: (labels, False) for name, labels in (SCRAPED | recorded()).items()}
    for one in DEFINITIONS:
        labels = frozenset(one.labels)
        if one.kind is Kind.HISTOGRAM:
            known |= {f"{one.name}_{part}": (labels, True) for part in ("sum", "count")}
            known[f"{one.name}_bucket"] = (labels | {"le"}, True)
        else:
            known[one.name] = (labels, one.kind is Kind.COUNTER)
    return known


SERIES = _series()


def _values() -> dict[tuple[str, str], set[str]]:
    """For metrics whose label values are fixed words: which ones."""
    further = {one.name: one.further for one in DEFINITIONS}
    words: dict[tuple[str, str], set[str]] = {}
    for name, sets in LABEL_SETS.items():
        for values in sets:
            for label, value in zip(further[name], values, strict=True):
                words.setdefault((name, label), set()).add(str(value))
    for name in ("syncwatch_degraded", "syncwatch_degradations_total", "syncwatch_health_seconds_total"):
        words[name, "component"] = set(map(str, Component))
        words[name, "reason"] = set(map(str, Reason))
        words[name, "health"] = set(map(str, Health))
    return words


VALUES = _values()


def problems(selection: Selection) -> list[str]:
    """What is wrong with one selection, whoever makes it."""
    if selection.metric not in SERIES:
        return [f"{selection.metric} is not exported"]
    labels, grows = SERIES[selection.metric]
    found = [
        f"{selection.metric} has no label {label}"
        for label in selection.matchers
        if label not in labels | {"job", "instance"}
    ]
    for label, value in selection.matchers.items():
        words = VALUES.get((selection.metric, label))
        if words is not None and not value.startswith("$"):
            found += [f"{selection.metric}: {label} is never {word}" for word in value.split("|") if word not in words]
    if grows != (selection.function in {"rate", "irate", "increase"}):
        found.append(f"{selection.metric} {'outside' if grows else 'inside'} rate or increase")
    return found

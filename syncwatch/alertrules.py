"""Whether a file of Prometheus rules asks syncwatch for what it exports: structure, names, labels and the words that labels can have.

What belongs here: what syncwatch knows better than Prometheus, whose own tool knows the language: a metric with a typing error in its name is a valid
query that never fires. Of the language no more is read than names, matchers, strings and brackets.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from syncwatch.core.health import Component, Health, Reason
from syncwatch.exposition.registry import DEFINITIONS, LABEL_SETS, Kind

ALERT_KEYS = ("alert", "expr", "for", "keep_firing_for", "labels", "annotations")
RECORD_KEYS = ("record", "expr", "labels")
GROUP_KEYS = ("name", "rules", "interval", "limit", "query_offset", "labels", "partial_response_strategy")
DURATION = re.compile(r"(?:0|(?=.)(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?)")
METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`)|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<number>[0-9.][0-9a-zA-Z.]*)|(?P<match>=~|!~|!=|==|=)|(?P<other>.)""",
    re.DOTALL,
)
OPENING = {"(": ")", "{": "}", "[": "]"}


class Selector(NamedTuple):
    """A metric in an expression with its matchers: label, operator, value."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


class UnreadableError(ValueError):
    """An expression that cannot be read even as far as is needed."""


def _exported() -> Mapping[str, Sequence[str]]:
    """Every name that can stand in a query, with its labels."""
    known: dict[str, Sequence[str]] = {}
    for one in DEFINITIONS:
        if one.kind is Kind.HISTOGRAM:
            known |= {f"{one.name}_sum": one.labels, f"{one.name}_count": one.labels, f"{one.name}_bucket": (*one.labels, "le")}
        else:
            known[one.name] = one.labels
    return known


def _words() -> Mapping[tuple[str, str], Sequence[str]]:
    """Of labels whose values are fixed words: which ones."""
    further = {one.name: one.further for one in DEFINITIONS}
    words: dict[tuple[str, str], dict[str, None]] = {}
    for name, sets in LABEL_SETS.items():
        for values in sets:
            for label, value in zip(further[name], values, strict=True):
                words.setdefault((name, label), {})[str(value)] = None
    for name in ("syncwatch_degraded", "syncwatch_degradations_total", "syncwatch_health_seconds_total"):
        for label, enum in (("component", Component), ("reason", Reason), ("health", Health)):
            if label in further[name]:
                words[name, label] = dict.fromkeys(map(str, enum))
    return {key: tuple(values) for key, values in words.items()}


EXPORTED = _exported()
WORDS = _words()


def selectors(expression: str) -> list[Selector]:
    """The metrics that an expression names, as far as `name` or `name{...}` tells. Raises: UnreadableError."""
    tokens = [(match.lastgroup or "", match[0]) for match in TOKEN.finditer(expression) if match.lastgroup != "space"]
    _balanced(tokens)
    found: list[Selector] = []
    place = 0
    while place < len(tokens):
        kind, text = tokens[place]
        place += 1
        following = tokens[place][1] if place < len(tokens) else ""
        if kind != "name" or following == "(":
            continue
        matchers: tuple[tuple[str, str, str], ...] = ()
        if following == "{":
            end = next(index for index in range(place, len(tokens)) if tokens[index] == ("other", "}"))
            matchers = tuple(_matchers(text, tokens[place + 1 : end]))
            place = end + 1
        found.append(Selector(text, matchers))
    return found


def _balanced(tokens: Sequence[tuple[str, str]]) -> None:
    open_: list[str] = []
    for kind, text in tokens:
        if kind != "other":
            continue
        if text in "\"'`":
            raise UnreadableError(f"a string begins with {text} and does not end")
        if text in OPENING:
            open_.append(OPENING[text])
        elif text in OPENING.values() and (not open_ or open_.pop() != text):
            raise UnreadableError(f"{text} closes nothing that is open")
    if open_:
        raise UnreadableError(f"{open_[-1]} is missing")


def _matchers(metric: str, tokens: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    place = 0
    while place < len(tokens):
        three = tokens[place : place + 3]
        if [kind for kind, _ in three] != ["name", "match", "string"] or three[1][1] == "==":
            raise UnreadableError(f"the matchers of {metric} are label=\"value\" with = != =~ or !~, separated by commas")
        yield three[0][1], three[1][1], three[2][1][1:-1]
        place += 3
        if place < len(tokens) and tokens[place][1] != ",":
            raise UnreadableError(f"a comma is missing between the matchers of {metric}")
        place += 1


def _misunderstood(expression: str) -> Iterator[str]:
    """What an expression asks syncwatch for in vain."""
    for metric, matchers in selectors(expression):
        if not metric.startswith("syncwatch_"):
            continue
        if metric not in EXPORTED:
            yield f"{metric} is exported by no syncwatch of this version{_near(metric, EXPORTED)}"
            continue
        for label, operator, value in matchers:
            if label not in EXPORTED[metric]:
                if near := _near(label, EXPORTED[metric]):
                    yield f"{metric} has no label {label}{near}"
            elif (metric, label) in WORDS and re.fullmatch(r"[a-z0-9_|]+", value):
                asked = value.split("|") if "~" in operator else [value]
                for word in asked:
                    if word not in WORDS[metric, label]:
                        yield f"{metric}: {label} is never {word}{_near(word, WORDS[metric, label])}"


def _near(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.75)
    return f"; did you mean {near[0]}?" if near else ""


class Checked(NamedTuple):
    """Every mistake, a line each, and how many rules were read."""

    mistakes: Sequence[str]
    rules: int


def check(file: str) -> Checked:
    """Every mistake in a file of rules: Prometheus' own form, or a PrometheusRule."""
    try:
        node = yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        return Checked([f"{file}: {error.strerror}"], 0)
    except UnicodeDecodeError:
        return Checked([f"{file}: not UTF-8"], 0)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return Checked([f"{file}:{line}: not YAML: {error.problem}"], 0)
    except yaml.YAMLError as error:
        return Checked([f"{file}: not YAML: {str(error).splitlines()[0]}"], 0)
    reader = _Reader(file)
    reader.document(node)
    return Checked(reader.mistakes, reader.rules)


class _Reader:
    """Walks the nodes of a document, which know their lines."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.mistakes: list[str] = []
        self.rules = 0

    def _say(self, node: yaml.Node | None, text: str) -> None:
        line = f":{node.start_mark.line + 1}" if node is not None else ""
        self.mistakes.append(f"{self.file}{line}: {text}")

    def document(self, node: yaml.Node | None) -> None:
        """The whole file."""
        top = self._mapping(node, "a file of rules") or {}
        if _text(top.get("kind")) == "PrometheusRule":
            top = self._mapping(top.get("spec"), "spec") or {}
        if "groups" not in top:
            if not self.mistakes:
                self._say(node, "there are no groups")
            return
        names: set[str] = set()
        for group in self._sequence(top["groups"], "groups"):
            self._group(group, names)

    def _group(self, node: yaml.Node, names: set[str]) -> None:
        group = self._mapping(node, "a group")
        if group is None:
            return
        self._known(node, group, GROUP_KEYS, "a group")
        name = _text(group.get("name"))
        if not name:
            self._say(node, "a group without a name")
        elif name in names:
            self._say(node, f"there are two groups {name}")
        names.add(name)
        if "interval" in group:
            self._duration(group["interval"], "interval")
        if "rules" not in group:
            self._say(node, f"group {name} has no rules")
            return
        for rule in self._sequence(group["rules"], "rules"):
            self._rule(rule)

    def _rule(self, node: yaml.Node) -> None:
        rule = self._mapping(node, "a rule")
        if rule is None:
            return
        self.rules += 1
        if ("alert" in rule) == ("record" in rule):
            self._say(node, "a rule has either alert or record")
            return
        kind, keys = ("alert", ALERT_KEYS) if "alert" in rule else ("record", RECORD_KEYS)
        name = _text(rule[kind])
        self._known(node, rule, keys, f"{kind} {name}")
        if not name:
            self._say(node, f"{kind} has no name")
        elif kind == "record" and not METRIC.fullmatch(name):
            self._say(rule[kind], f"record {name} is no name of a metric")
        for key in ("for", "keep_firing_for"):
            if key in rule:
                self._duration(rule[key], f"{kind} {name}: {key}")
        for key in ("labels", "annotations"):
            if key in rule:
                self._mapping(rule[key], f"{kind} {name}: {key}")
        if not _text(rule.get("expr")).strip():
            self._say(node, f"{kind} {name} has no expr")
            return
        try:
            for text in dict.fromkeys(_misunderstood(_text(rule["expr"]))):
                self._say(rule["expr"], f"{kind} {name}: {text}")
        except UnreadableError as error:
            self._say(rule["expr"], f"{kind} {name}: {error}")

    def _known(self, node: yaml.Node, got: Mapping[str, yaml.Node], keys: Sequence[str], what: str) -> None:
        for key in got:
            if key not in keys:
                self._say(got[key] or node, f"{what} has no key {key}{_near(key, keys)}")

    def _duration(self, node: yaml.Node, what: str) -> None:
        if not DURATION.fullmatch(_text(node)):
            self._say(node, f"{what} is a duration such as 5m, not {_text(node)!r}")

    def _mapping(self, node: yaml.Node | None, what: str) -> Mapping[str, yaml.Node] | None:
        if not isinstance(node, yaml.MappingNode):
            self._say(node, f"{what} is a mapping")
            return None
        return {_text(key): value for key, value in node.value}

    def _sequence(self, node: yaml.Node, what: str) -> Sequence[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self._say(node, f"{what} is a list")
            return ()
        nodes: Sequence[yaml.Node] = node.value
        return nodes


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""

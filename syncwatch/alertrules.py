"""Whether a file of Prometheus rules is one, and asks syncwatch for what it exports: every mistake with its line.

What belongs here: the structure of such files. What is wrong with an expression is said in queries.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from syncwatch.queries import UnreadableError, misunderstood, near

ALERT_KEYS = ("alert", "expr", "for", "keep_firing_for", "labels", "annotations")
RECORD_KEYS = ("record", "expr", "labels")
GROUP_KEYS = ("name", "rules", "interval", "limit", "query_offset", "labels", "partial_response_strategy")
DURATION = re.compile(r"(?:0|(?=.)(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?)")
METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


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
            for text in misunderstood(_text(rule["expr"])):
                self._say(rule["expr"], f"{kind} {name}: {text}")
        except UnreadableError as error:
            self._say(rule["expr"], f"{kind} {name}: {error}")

    def _known(self, node: yaml.Node, got: Mapping[str, yaml.Node], keys: Sequence[str], what: str) -> None:
        for key in got:
            if key not in keys:
                self._say(got[key] or node, f"{what} has no key {key}{near(key, keys)}")

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

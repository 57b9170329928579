"""Whether files of Prometheus rules are such, and ask syncwatch for what it exports: every mistake with its line.

What belongs here: the structure of such files. What is wrong with an expression is said in queries.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from syncwatch.queries import UnreadableError, misunderstood, near

ALERT_KEYS = ("alert", "expr", "for", "keep_firing_for", "labels", "annotations")
RECORD_KEYS = ("record", "expr", "labels")
GROUP_KEYS = ("name", "rules", "interval", "limit", "query_offset", "labels", "partial_response_strategy")
DURATION = re.compile(r"(?:0|(?=.)(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?)")
METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
NULL = "tag:yaml.org,2002:null"
LIST = "List"
"""How the kinds end that hold others as their items."""
NOTHING = "there is nothing to check: no document has groups, and none is a PrometheusRule"


class Checked(NamedTuple):
    """A file: every mistake, a line each, and how many rules were read."""

    file: str
    mistakes: Sequence[str]
    rules: int


def check(files: Sequence[str]) -> list[Checked]:
    """Every mistake in files of rules: documents in Prometheus' own form, and each PrometheusRule among whatever else. What one records, all may ask for."""
    readers = [_Reader(file) for file in files]
    for reader in readers:
        reader.read()
    recorded = frozenset(name for reader in readers for name in reader.recorded())
    for reader in readers:
        reader.judge(recorded)
    return [Checked(reader.file, reader.mistakes, reader.rules) for reader in readers]


class _Reader:
    """Walks the nodes of a file's documents, which know their lines."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.mistakes: list[str] = []
        self.rules = 0
        self._holders: list[tuple[yaml.Node, yaml.Node | None]] = []
        """Of each document of rules: the node, and what holds its groups."""
        self._unread: list[str] = []
        """Why nothing was read, or nothing more."""
        self._recorded: Collection[str] = ()

    def _say(self, node: yaml.Node | None, text: str) -> None:
        line = f":{node.start_mark.line + 1}" if node is not None else ""
        self.mistakes.append(f"{self.file}{line}: {text}")

    def read(self) -> None:
        """Finds the documents of rules. Where it is no YAML any more, what stands above is checked all the same."""
        try:
            for node in yaml.compose_all(Path(self.file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
                self._holders += _holders(node)
        except OSError as error:
            self._unread.append(f"{self.file}: {error.strerror}")
        except UnicodeDecodeError:
            self._unread.append(f"{self.file}: not UTF-8")
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            self._unread.append(f"{self.file}:{line}: not YAML: {error.problem}")
        except yaml.YAMLError as error:
            self._unread.append(f"{self.file}: not YAML: {str(error).splitlines()[0]}")
        else:
            if not self._holders:
                self._unread.append(f"{self.file}: {NOTHING}")

    def recorded(self) -> Iterator[str]:
        """The names that its rules record, whatever else is wrong with them."""
        for _, holder in self._holders:
            for group in _items(_fields(holder).get("groups")):
                for rule in _items(_fields(group).get("rules")):
                    yield _text(_fields(rule).get("record"))

    def judge(self, recorded: Collection[str]) -> None:
        """Every document of rules; `recorded` is what rules of all files record."""
        self._recorded = recorded
        for node, holder in self._holders:
            self._groups(node, holder)
        self.mistakes += self._unread

    def _groups(self, node: yaml.Node, holder: yaml.Node | None) -> None:
        if holder is not None and self._mapping(holder, "spec") is None:
            return
        groups = _fields(holder).get("groups")
        if groups is None:
            self._say(node, "there are no groups")
            return
        names: set[str] = set()
        for group in self._sequence(groups, "groups"):
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
            for text in misunderstood(_text(rule["expr"]), self._recorded):
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
        return _fields(node)

    def _sequence(self, node: yaml.Node, what: str) -> Sequence[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) and node.tag != NULL:
            self._say(node, f"{what} is a list")
        return _items(node)


def _holders(document: yaml.Node) -> Iterator[tuple[yaml.Node, yaml.Node | None]]:
    """The nodes in a document that are rules, each with what holds its groups. Other kinds, and what is none, are passed over."""
    found, left = set(), [document]
    while left:
        node = left.pop(0)
        top = _fields(node)
        kind = _text(top.get("kind"))
        if id(node) in found:  # an alias can lead to where it stands
            continue
        found.add(id(node))
        if kind == "PrometheusRule":
            yield node, top.get("spec")
        elif kind.endswith(LIST):
            left += _items(top.get("items"))
        elif not kind and "groups" in top:
            yield node, node


def _fields(node: yaml.Node | None) -> Mapping[str, yaml.Node]:
    return {_text(key): value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _items(node: yaml.Node | None) -> Sequence[yaml.Node]:
    nodes: Sequence[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else ()
    return nodes


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""

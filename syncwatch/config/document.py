"""YAML text to nodes that know their lines. Nothing is constructed from tags, so no tag can run anything.

Law: any text gives a node, None (nothing is written) or a ConfigError; nothing else is raised, and the work is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml

from syncwatch.config.mistakes import ConfigError, Mistake

DEEPEST = 32
"""Levels of nesting; the deepest key of the schema is on the sixth."""

PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "value", "merge")
)
"""What YAML gives to values without an explicit tag."""
MERGE = "tag:yaml.org,2002:merge"

_SCALARS = {
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
    "timestamp": "a date",
    "value": "a sign of YAML's own",
    "merge": "a sign of YAML's own",
}


class _Composer(yaml.SafeLoader):
    """A loader that is only used to compose, and stops at a depth before Python's own limit does."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it untyped
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {DEEPEST} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def compose(text: str, file: str) -> yaml.Node | None:
    """The document's root, or None when nothing is written.

    Raises:
        ConfigError: with one mistake, where the text is not YAML.
    """
    try:
        loader = _Composer(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _not_yaml(file, line, f"the character U+{error.character:04X} is not allowed") from error
    loader.name = file
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise _not_yaml(file, mark.line + 1 if mark else None, said) from error
    except (ValueError, OverflowError) as error:  # numbers in directives and escapes that no character has
        raise _not_yaml(file, loader.line + 1, "a number in an escape or a directive is out of range") from error


def composed(value: object, file: str) -> yaml.Node:
    """Plain Python values as if they had been written in a document called `file`. No node has a line.

    Raises:
        ConfigError: a value that no document could hold, or too deep.
    """
    return _node(value, yaml.Mark(file, 0, -1, 0, None, 0), "", 1)


def _node(value: object, mark: yaml.Mark, path: str, depth: int) -> yaml.Node:
    def scalar(short: str, text: str) -> yaml.Node:
        return yaml.ScalarNode(f"tag:yaml.org,2002:{short}", text, mark, mark)

    if depth > DEEPEST:
        raise ConfigError([Mistake(mark.name, None, path, f"nested deeper than {DEEPEST} levels")])
    match value:
        case None:
            return scalar("null", "null")
        case bool():
            return scalar("bool", "true" if value else "false")
        case int():
            return scalar("int", str(value))
        case float():
            return scalar("float", repr(value))
        case str() | PurePath():
            return scalar("str", str(value))
        case Mapping():
            pairs = [(scalar("str", str(key)), _node(one, mark, f"{path}.{key}".lstrip("."), depth + 1)) for key, one in value.items()]
            return yaml.MappingNode("tag:yaml.org,2002:map", pairs, mark, mark)
        case list() | tuple():
            items = [_node(one, mark, f"{path}[{place}]", depth + 1) for place, one in enumerate(value)]
            return yaml.SequenceNode("tag:yaml.org,2002:seq", items, mark, mark)
    raise ConfigError([Mistake(mark.name, None, path, f"expected text, a number, a mapping or a list, found a {type(value).__name__}")])


def _not_yaml(file: str, line: int | None, why: str) -> ConfigError:
    return ConfigError([Mistake(file, line, "", f"not valid YAML: {why}")])


def kind(node: yaml.Node) -> str:
    """The node in a user's words."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return _SCALARS.get(short_tag(node), "text")


def short_tag(node: yaml.Node) -> str:
    """`str`, `int`, … of a plain node."""
    return str(node.tag).rpartition(":")[2]


def tag_text(node: yaml.Node) -> str:
    """The tag as a user writes it, such as `!!binary`."""
    return str(node.tag).replace("tag:yaml.org,2002:", "!!", 1)


def is_null(node: yaml.Node) -> bool:
    """Written as null, ~ or nothing at all."""
    return isinstance(node, yaml.ScalarNode) and short_tag(node) == "null"

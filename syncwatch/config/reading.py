"""One reading of one document: the mistakes found so far, where each path stands, and how much was read.

Mappings are read here too, because what YAML leaves to its users (keys written twice, `<<`) makes mistakes of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import yaml

from syncwatch.config.document import MERGE, PLAIN_TAGS, kind
from syncwatch.config.mistakes import Mistake, Source, Spot, shown

MOST_VALUES = 20_000
"""More than any real file holds; aliases of aliases get there quickly."""


class Bad:
    """Stands for a value that could not be read; the mistake is recorded."""


BAD = Bad()


class TooMuchError(Exception):
    """The document stands for more values than anybody writes. The mistake is recorded."""


class Entry(msgspec.Struct, frozen=True):
    """One key of a mapping, or an item of a list in place of its key, with its value."""

    key: yaml.Node
    value: yaml.Node


def join(path: str, key: str) -> str:
    """The path of a key inside the block at `path`; unusual keys in quotes."""
    word = key if key.isascii() and key.replace("_", "a").replace("-", "a").isalnum() else shown(key)
    return f"{path}.{word}" if path else word


def spot_of(node: yaml.Node) -> Spot:
    """Where the node begins; a line below 0 marks what stands in an environment variable."""
    mark = node.start_mark
    return Spot(mark.name, mark.line + 1 if mark.line >= 0 else None)


class Reading:
    """Collects what a decoder finds. `mistakes` in the order found, `spots` by path."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []
        self.spots: dict[str, Spot] = {}
        self._seen = 0

    @property
    def source(self) -> Source:
        """Where everything stands that was read so far."""
        return Source(self.file, self.spots)

    def say(self, spot: Spot, path: str, text: str) -> Bad:
        """Record a mistake; what it was made in is BAD."""
        self.mistakes.append(Mistake(spot.file, spot.line, path, text))
        return BAD

    def count(self, spot: Spot, path: str) -> None:
        """One more value. Raises TooMuchError beyond MOST_VALUES."""
        self._seen += 1
        if self._seen > MOST_VALUES:
            self.say(spot, path, f"more than {MOST_VALUES} values in one file; are aliases repeated over and over?")
            raise TooMuchError

    def entries(self, node: yaml.Node, spot: Spot, path: str, of: str) -> dict[str, Entry] | None:
        """The mapping's keys and values, merged ones (`<<`) included; None, and a mistake, when it is no mapping."""
        if isinstance(node, yaml.MappingNode):
            return self._merged(node, spot, path, ())
        self.say(spot, path, f"expected {of}, found {kind(node)}")
        return None

    def _merged(self, node: yaml.MappingNode, spot: Spot, path: str, within: tuple[yaml.Node, ...]) -> dict[str, Entry]:
        own: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key, value in node.value:
            self.count(spot, path)
            if key.tag == MERGE:
                for mapping in self._sources(key, value, path, (*within, node)):
                    merged = {**self._merged(mapping, spot, path, (*within, node)), **merged}
            elif not isinstance(key, yaml.ScalarNode) or key.tag not in PLAIN_TAGS:
                self.say(spot_of(key), path, "a key must be plain text")
            elif key.value in own:
                first = spot_of(own[key.value].key).line
                self.say(spot_of(key), join(path, key.value), f"written twice, first on line {first}")
            else:
                own[key.value] = Entry(key, value)
        return {**merged, **own}

    def _sources(
        self, key: yaml.Node, value: yaml.Node, path: str, within: tuple[yaml.Node, ...]
    ) -> Iterator[yaml.MappingNode]:
        """What `<<` names: a mapping or a list of them, the first one winning; never one that it stands in."""
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            self.count(spot_of(key), path)
            if isinstance(source, yaml.MappingNode) and source not in within:
                yield source
            else:
                found = "the mapping it stands in" if source in within else kind(source)
                self.say(spot_of(key), path, f"<< merges other mappings, found {found}")

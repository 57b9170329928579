"""YAML nodes and the schema's annotations in; the values, or every mistake that was found, out.

Law: knows nothing about any particular key. What a key means is said by its annotation; a mistake never ends the reading.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
import yaml

from syncwatch.config import values
from syncwatch.config.document import PLAIN_TAGS, is_null, kind, short_tag, tag_text
from syncwatch.config.mistakes import Source, Spot, WrongValueError, shown
from syncwatch.config.reading import BAD, Bad, Entry, Reading, TooMuchError, join, spot_of
from syncwatch.config.rules import Block, Keyed, Rule, Variants, Written

B = TypeVar("B", bound=Block)

Relatives = list[tuple[str, type[Block]]]
"""The same block in the other variants: the words that select the variant, and the block's type there."""


class Shape(msgspec.Struct, frozen=True):
    """An annotation taken apart: the type without None, what it carries, and whether None was among it."""

    type: Any
    carries: Rule | Keyed | Variants | None
    optional: bool


def shape(hint: Any) -> Shape:
    """Take `Annotated[…] | None` and the like apart."""
    optional = typing.get_origin(hint) in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint)
    if optional:
        (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is typing.Annotated:
        inner, carries = typing.get_args(hint)
        return Shape(inner, carries, optional)
    return Shape(hint, None, optional)


@functools.cache
def keys_of(block: type[Block]) -> dict[str, msgspec.structs.FieldInfo]:
    """The keys that may be written in a block, in their order."""
    return {field.encode_name: field for field in msgspec.structs.fields(block) if field.type is not Source}


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """The value of a key that is left out."""
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def decode(root: yaml.Node, block: type[B], reading: Reading, environ: Mapping[str, str]) -> B | None:
    """The block that the document describes; None when `reading` holds mistakes."""
    decoder = _Decoder(reading, environ)
    try:
        read = decoder.value(Entry(root, root), "", block)
    except TooMuchError:
        return None
    return read if isinstance(read, block) and not reading.mistakes else None


class _Decoder:
    """Every method returns a value or BAD."""

    def __init__(self, reading: Reading, environ: Mapping[str, str]) -> None:
        self._reading = reading
        self._say = reading.say
        self._environ = environ
        self._names: dict[tuple[str, str], tuple[str, Spot]] = {}

    def value(self, entry: Entry, path: str, hint: Any, relatives: Relatives | None = None) -> Any:
        """The value that `hint` asks for."""
        node, wanted = entry.value, shape(hint)
        # a block begins where its key stands, a scalar where it stands itself
        spot = spot_of(node if isinstance(node, yaml.ScalarNode) and not is_null(node) else entry.key)
        self._reading.spots[path] = spot
        self._reading.count(spot, path)
        if node.tag not in PLAIN_TAGS:
            return self._say(spot, path, f"the tag {shown(tag_text(node))} is not allowed; write plain YAML")
        if wanted.optional and is_null(node):
            return None
        return self._required(node, spot, path, wanted, relatives or [])

    def _required(self, node: yaml.Node, spot: Spot, path: str, wanted: Shape, relatives: Relatives) -> Any:
        match wanted.carries:
            case Rule() as rule:
                return self._ruled(node, spot, path, rule)
            case Keyed() as keyed:
                return self._keyed(node, spot, path, keyed)
            case Variants() as variants:
                return self._variant(node, spot, path, variants)
        if typing.get_origin(wanted.type) is tuple:
            return self._list(node, spot, path, typing.get_args(wanted.type)[0])
        if typing.get_origin(wanted.type) is typing.Literal:
            return self._choice(node, spot, path, typing.get_args(wanted.type))
        if wanted.type is bool:
            return self._bool(node, spot, path)
        entries = self._reading.entries(node, spot, path, "a mapping of keys and values")
        return BAD if entries is None else self._block(entries, spot, path, wanted.type, relatives)

    # --- one value ---------------------------------------------------------------------------------------------------------------

    def _ruled(self, node: yaml.Node, spot: Spot, path: str, rule: Rule) -> Any:
        if not isinstance(node, yaml.ScalarNode) or is_null(node):
            return self._say(spot, path, f"expected {rule.expects}, found {kind(node)}")
        if rule.written is Written.TEXT and short_tag(node) != "str":
            return self._say(spot, path, f"expected {rule.expects}, found {kind(node)}; write {shown(node.value)}")
        if rule.written is Written.NUMBER and short_tag(node) == "str":
            return self._say(spot, path, f"expected {rule.expects}, found the text {shown(node.value)}")
        try:
            return rule.parse(rule.before(node.value, self._environ) if rule.before else node.value)
        except WrongValueError as wrong:
            return self._say(spot, path, str(wrong))

    def _choice(self, node: yaml.Node, spot: Spot, path: str, known: tuple[str, ...]) -> Any:
        if not isinstance(node, yaml.ScalarNode) or is_null(node):
            return self._say(spot, path, f"expected one of {', '.join(known)}, found {kind(node)}")
        try:
            return values.one_of(node.value, known)
        except WrongValueError as wrong:
            return self._say(spot, path, str(wrong))

    def _bool(self, node: yaml.Node, spot: Spot, path: str) -> bool | Bad:
        if isinstance(node, yaml.ScalarNode) and short_tag(node) == "bool":
            truth: bool | None = yaml.SafeLoader.bool_values.get(node.value.lower())
            if truth is not None:
                return truth
        plain = isinstance(node, yaml.ScalarNode) and not is_null(node)
        return self._say(spot, path, f"expected true or false, found {shown(node.value) if plain else kind(node)}")

    # --- several values ------------------------------------------------------------------------------------------------------------

    def _list(self, node: yaml.Node, spot: Spot, path: str, item: Any) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            return self._say(spot, path, f"expected a list, found {kind(node)}")
        read = [self.value(Entry(n, n), f"{path}[{i}]", item) for i, n in enumerate(node.value)]
        return BAD if BAD in read else tuple(read)

    def _keyed(self, node: yaml.Node, spot: Spot, path: str, keyed: Keyed) -> Any:
        entries = self._reading.entries(node, spot, path, f"a mapping of {keyed.of}")
        if entries is None:
            return BAD
        read: dict[str, Any] = {}
        for key, entry in entries.items():
            inner = join(path, key)
            try:
                keyed.key(key)
            except WrongValueError as wrong:
                read[key] = self._say(spot_of(entry.key), inner, str(wrong))
            else:
                read[key] = self.value(entry, inner, keyed.value)
        return BAD if BAD in read.values() else MappingProxyType(read)

    # --- blocks --------------------------------------------------------------------------------------------------------------------

    def _variant(self, node: yaml.Node, spot: Spot, path: str, variants: Variants) -> Any:
        entries = self._reading.entries(node, spot, path, "a mapping of keys and values")
        chosen: Variants | type[Block] | Bad = BAD if entries is None else variants
        while entries is not None and isinstance(chosen, Variants):
            chosen = self._chosen(entries.get(chosen.key), spot, path, chosen)
        if entries is None or isinstance(chosen, Bad | Variants):
            return BAD
        relatives: Relatives = [(label, leaf) for label, leaf in variants.leaves() if leaf is not chosen]
        return self._block(entries, spot, path, chosen, relatives)

    def _chosen(self, entry: Entry | None, spot: Spot, path: str, variants: Variants) -> Variants | type[Block] | Bad:
        inner, known = join(path, variants.key), tuple(variants.kinds)
        if entry is None and variants.default is not None:
            return variants.kinds[variants.default]
        if entry is None:
            return self._say(spot, inner, f"missing, expected one of {', '.join(known)}")
        node = entry.value
        if isinstance(node, yaml.ScalarNode) and node.value in variants.later:
            return self._say(spot_of(node), inner, f"{node.value} comes in a later version; known: {', '.join(known)}")
        choice = self._choice(node, spot_of(node), inner, known)
        return choice if isinstance(choice, Bad) else variants.kinds[choice]

    def _block(self, entries: dict[str, Entry], spot: Spot, path: str, block: type[Block], relatives: Relatives) -> Any:
        keys, got = keys_of(block), {}
        for key, field in keys.items():
            inner = join(path, key)
            if key in entries:
                got[field.name] = self.value(entries[key], inner, field.type, _cousins(relatives, key))
            elif field.required:
                got[field.name] = self._say(spot, inner, missing(field.type))
            else:
                got[field.name] = default_of(field)
        for key in (key for key in entries if key not in keys):
            self._say(spot_of(entries[key].key), join(path, key), unknown(key, tuple(keys), relatives))
        good = {name: value for name, value in got.items() if value is not BAD}
        self._unique(good.get("name"), spot, path)
        for key, text in block.faults(good):
            inner = join(path, key) if path and key else path or key  # what the whole configuration finds wrong may stand deeper
            self._say(self._reading.spots.get(inner, spot), inner, text)
        return block(**good) if len(good) == len(got) else BAD

    def _unique(self, name: str | None, spot: Spot, path: str) -> None:
        """Names are unique among the blocks of one list."""
        if name is None:
            return
        inner = join(path, "name")
        here, key = self._reading.spots.get(inner, spot), (path.partition("[")[0], name)
        if key in self._names:
            first, there = self._names[key]
            where = "" if there.line is None else f" on line {there.line}"
            self._say(here, inner, f"{shown(name)} is already the name of {first}{where}")
        else:
            self._names[key] = (path, here)


def missing(hint: Any) -> str:
    """The sentence for a key that must be there and is not."""
    rule = shape(hint).carries
    return f"missing, expected {rule.expects}" if isinstance(rule, Rule) else "missing"


def unknown(key: str, known: tuple[str, ...], relatives: Relatives) -> str:
    """The sentence for a key that the block does not have."""
    homes = [label for label, block in relatives if key in keys_of(block)]
    if homes:
        return f"unknown key here; it is a key of {' or '.join(homes)}"
    if guess := values.nearest(key, known):
        return f"unknown key; did you mean {guess}?"
    return f"unknown key; known here: {', '.join(known)}"


def _cousins(relatives: Relatives, key: str) -> Relatives:
    """The blocks that the other variants have at `key`."""
    found = ((label, keys_of(block).get(key)) for label, block in relatives)
    blocks = ((label, shape(field.type).type) for label, field in found if field is not None)
    return [(label, block) for label, block in blocks if isinstance(block, type) and issubclass(block, Block)]

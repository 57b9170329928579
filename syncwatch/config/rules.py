"""The annotations that say what a key's value means; the schema wears them, the decoder obeys them.

What belongs here: the vocabulary between schema and decoder, and the value types that several blocks share.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from syncwatch.config import endpoints, reasons, values


class Written(enum.Enum):
    """How YAML must read a scalar for the rule to accept it."""

    TEXT = "text"
    NUMBER = "a whole number"
    ANY = "anything"  # the rule judges the characters: 15 and 1:30 are for a duration's own sentence


class Reads(enum.Enum):
    """What is done with the file that a path names."""

    NOTHING = enum.auto()
    FILE = enum.auto()  # read again at each use, as a token
    TOKEN = enum.auto()
    ONCE = enum.auto()  # read at the start
    SEED = enum.auto()  # the same
    DIRECTORY = enum.auto()  # it is written to, and made if it is not there


AT_EACH_USE = frozenset({Reads.FILE, Reads.TOKEN})
"""A file that cannot be read now may be there at its next use: until then it is the trouble of whatever uses it, and of nothing else."""


class Rule(msgspec.Struct, frozen=True):
    """One value: `expects` in words, `parse` from text (raises WrongValueError), `before` it what the environment replaces."""

    expects: str
    parse: Callable[[str], Any]
    before: Callable[[str, Mapping[str, str]], str] | None = None
    written: Written = Written.TEXT
    reads: Reads = Reads.NOTHING


class Keyed(msgspec.Struct, frozen=True):
    """A mapping whose keys are words of the user: `of` what, `key` raises WrongValueError for one that must not stand here, `value` says what each has."""

    of: str
    key: Callable[[str], str]
    value: Any


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping with known keys. Attributes carry units (`interval_s`), the keys in the file do not (`interval`)."""

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What is wrong between the values of one block: pairs of a key (as written; empty for the whole block; a path from the top, for the
        configuration as a whole) and a sentence.

        `got` maps attributes to values, defaults included. What could not be read is not in it.
        """
        yield from ()


class Variants(msgspec.Struct, frozen=True):
    """Which Block a mapping is, told by the value of one of its keys. `later` are values that a coming version will know."""

    key: str
    kinds: Mapping[str, type[Block] | Variants]
    default: str | None = None
    later: tuple[str, ...] = ()

    def leaves(self, label: str = "") -> Iterator[tuple[str, type[Block]]]:
        """Every Block with the words that select it, such as `protocol tps, mode host`."""
        for value, kind in self.kinds.items():
            words = f"{label}, {self.key} {value}" if label else f"{self.key} {value}"
            if isinstance(kind, Variants):
                yield from kind.leaves(words)
            else:
                yield words, kind


Seconds = Annotated[float, Rule("a duration such as 15s", values.duration_between(), written=Written.ANY)]
"""Longer than 0."""
SecondsOrZero = Annotated[
    float, Rule("a duration such as 15s", values.duration_between(or_more=True), written=Written.ANY)
]
Text = Annotated[str, Rule("text", values.plain)]


def graces(reason: Callable[[str], str]) -> Keyed:
    """Reasons, and how long each may last."""
    return Keyed("reasons and durations", reason, SecondsOrZero)


Pattern = Annotated[str, Rule("a pattern", values.ignored)]
Name = Annotated[str, Rule("a name", values.name)]
Channel = Annotated[str, Rule("a channel's name", values.channel)]
ListenAddress = Annotated[
    endpoints.Address, Rule("an address such as 127.0.0.1:10120", endpoints.address, written=Written.ANY)
]
BaseUrl = Annotated[
    str, Rule("a URL such as http://127.0.0.1:8787", endpoints.base_url, before=endpoints.with_variables)
]
BranchUrl = Annotated[
    str, Rule("a URL such as ws://127.0.0.1:6458", endpoints.branch_url, before=endpoints.with_variables)
]
HttpUrl = Annotated[
    str, Rule("a URL such as http://127.0.0.1:8080/health", endpoints.http_url, before=endpoints.with_variables)
]
AnyPath = Annotated[Path, Rule("a path", values.path, before=values.in_home)]
FilePath = Annotated[Path, Rule("a path", values.path, before=values.in_home, reads=Reads.FILE)]
OncePath = Annotated[Path, Rule("a path", values.path, before=values.in_home, reads=Reads.ONCE)]
TokenPath = Annotated[
    Path, Rule("the path of a file with the token", values.token_path, before=values.in_home, reads=Reads.TOKEN)
]
SeedPath = Annotated[Path, Rule("the path of a file with a seed", values.path, before=values.in_home, reads=Reads.SEED)]
DirectoryPath = Annotated[Path, Rule("a path", values.path, before=values.in_home, reads=Reads.DIRECTORY)]
ProbeReason = Annotated[str, Rule("a reason", reasons.probe_reason)]
Count = Annotated[int, Rule("a whole number", values.whole(1, 1_000_000), written=Written.NUMBER)]
"""One or more."""

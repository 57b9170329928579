"""Timelines of faults, written in YAML.

    seed: 7                # for the ranges; the same seed gives the same timeline
    repeat_every_s: 60     # optional: start again, with new draws from the same seed
    steps:
      - {at_s: 2, fault: drop, agent: alice}
      - {at_s: [5, 8], for_s: [1, 3], fault: refuse, status: 503}

`at_s` counts from the start of a round, `for_s` is how long the fault holds; both are seconds, or a range to draw from.
The other keys of a step are the fault's own. Mistakes are named with their line and path.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import msgspec
import yaml

from syncwatch.relay import kinds
from syncwatch.relay.kinds import FaultSpec

# Limits are checked by hand: msgspec 0.22 reads foreign memory for a union of a float with limits and an array.
Span = float | list[float]
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")


class ScriptError(ValueError):
    """A script that cannot be played; the text names source, line, path and what was expected."""


class When(msgspec.Struct, frozen=True):
    """When a step happens, and for how long."""

    at_s: Span
    for_s: Span | None = None


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A script before its steps are looked at."""

    steps: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
    seed: int = 0
    repeat_every_s: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Step(NamedTuple):
    """One line of a script."""

    when: When
    fault: FaultSpec


class Cue(NamedTuple):
    """A step with its draws made: seconds from the start of the script."""

    at_s: float
    for_s: float | None
    fault: FaultSpec


class Script(NamedTuple):
    """A timeline."""

    steps: list[Step]
    seed: int
    repeat_every_s: float | None

    def cues(self) -> Iterator[Cue]:
        """The faults in the order in which they begin; endless if the script repeats."""
        draw = random.Random(self.seed)
        start_s = 0.0
        while True:
            drawn = [
                Cue(start_s + _drawn(draw, when.at_s), None if when.for_s is None else _drawn(draw, when.for_s), fault)
                for when, fault in self.steps
            ]
            yield from sorted(drawn, key=lambda cue: cue.at_s)
            if self.repeat_every_s is None:
                return
            start_s += self.repeat_every_s


def _drawn(draw: random.Random, span: Span) -> float:
    return draw.uniform(span[0], span[1]) if isinstance(span, list) else float(span)


def _wrong(span: Span) -> str | None:
    """What is wrong with a span, if anything."""
    ends = span if isinstance(span, list) else [span, span]
    if len(ends) != 2 or not 0 <= ends[0] <= ends[1] <= 86_400:
        return f"Expected seconds from 0 to 86400, or a range [from, to] of them, got {span}"
    return None


def load(text: str, source: str) -> Script:
    """Read a script.

    Raises:
        ScriptError: for anything that is not a playable script; `source` is its name in the message.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        plain = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        raise ScriptError(
            f"{source}:{mark.line + 1 if mark else 1}: not YAML: {getattr(problem, 'problem', problem)}"
        ) from problem
    head = _convert(plain, Head, source, root, ())
    steps: list[Step] = []
    for index, fields in enumerate(head.steps):
        place = ("steps", index)
        when = _convert(fields, When, source, root, place)
        for name, span in (("at_s", when.at_s), ("for_s", when.for_s)):
            wrong = None if span is None else _wrong(span)
            if wrong:
                raise ScriptError(_where(source, root, (*place, name)) + wrong)
        rest = {name: value for name, value in fields.items() if name not in ("at_s", "for_s")}
        fault = _convert(rest, kinds.AnyFault, source, root, place)
        if when.for_s is not None and kinds.is_momentary(fault):
            raise ScriptError(
                _where(source, root, (*place, "for_s"))
                + f"the fault `{kinds.name_of(fault)}` happens at once and takes no for_s"
            )
        steps.append(Step(when, fault))
    last_s = max(step.when.at_s[1] if isinstance(step.when.at_s, list) else step.when.at_s for step in steps)
    if head.repeat_every_s is not None and head.repeat_every_s < last_s:
        raise ScriptError(
            _where(source, root, ("repeat_every_s",)) + f"Expected at least {last_s:g}, the last step's at_s"
        )
    return Script(steps, head.seed, head.repeat_every_s)


def _convert(plain: Any, kind: Any, source: str, root: Any, place: tuple[str | int, ...]) -> Any:
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as problem:
        found = _PATH.match(str(problem))
        what, inner = (found["what"], found["path"] or "") if found else (str(problem), "")
        keys = [int(key) if key.isdigit() else key for key in re.findall(r"[^.\[\]$]+", inner)]
        unknown = _UNKNOWN.search(what)
        if unknown:
            keys.append(unknown["name"])
        raise ScriptError(_where(source, root, (*place, *keys)) + what) from problem


def _where(source: str, root: Any, path: tuple[str | int, ...]) -> str:
    """`source:line: path: `, with the line of the deepest part of the path that exists."""
    node, line = root, 1
    for key in path:
        if isinstance(node, yaml.MappingNode):
            pairs = {name.value: (name, value) for name, value in node.value}
            if key not in pairs:
                break
            name, node = pairs[key]
            line = name.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
    return f"{source}:{line}: {text}: " if text else f"{source}:{line}: "

"""What a query in PromQL asks syncwatch for, and what of that is asked in vain: names, labels, and words that labels can have.

What belongs here: what syncwatch knows better than Prometheus, for whom a name with a typing error is a valid query that never finds anything. Of the
language no more is read than names, matchers, strings, brackets and lists of labels. What patterns match is said in patterns.py.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from syncwatch.core.health import Component, Health, Reason
from syncwatch.exposition.registry import DEFINITIONS, LABEL_SETS, Kind
from syncwatch.patterns import in_vain, matched, parts

TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`)|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<number>[0-9.][0-9a-zA-Z.]*)|(?P<match>=~|!~|!=|==|=)|(?P<other>.)""",
    re.DOTALL,
)
ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
OPENING = {"(": ")", "{": "}", "[": "]"}
OURS = "syncwatch_"
NAME = "__name__"

LISTS = ("by", "without", "on", "ignoring", "group_left", "group_right")
"""Words before a list of labels."""
DROPS = ("without", "ignoring")
"""Those that name labels which may well be missing."""
MAKES = ("label_replace", "label_join", "count_values")
"""Functions whose first string is the name of a label that they add."""

OF_TARGETS = frozenset(("job", "instance", "namespace", "pod", "container", "node", "service", "endpoint", "cluster", "prometheus", "host"))
"""Labels that scrapers and operators set, never syncwatch: however like one of its own they look, they are meant."""
PERHAPS_OF_TARGETS = frozenset(("version", "revision"))
"""Labels of syncwatch_build_info that are often put on targets as well."""

TEMPLATE = re.compile(r"\$\w|\$\{|\{\{")
"""What something else fills in before Prometheus sees it."""


class Selector(NamedTuple):
    """A metric in an expression with its matchers: label, operator, value. `metric` is empty where none or a pattern is named."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


class UnreadableError(ValueError):
    """An expression that cannot be read even as far as is needed."""


class _Token(NamedTuple):
    kind: str
    text: str


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
LABELS = frozenset(label for labels in EXPORTED.values() for label in labels)


def near(word: str, known: Iterable[str]) -> str:
    """What may have been meant, as the end of a sentence; nothing if nothing is like it."""
    like = difflib.get_close_matches(word, names := list(known), n=1, cutoff=0.75) or difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.75)
    return f"; did you mean {like[0]}?" if like else ""


def selectors(expression: str) -> list[Selector]:
    """The metrics that an expression names, as far as `name`, `name{...}` or `{...}` tells. Raises: UnreadableError."""
    return list(_selectors(*_read(expression)).values())


def misunderstood(expression: str, recorded: Collection[str] = ()) -> list[str]:
    """What an expression asks syncwatch for in vain, a sentence each. What rules have `recorded` is theirs, however it is called. Raises: UnreadableError."""
    tokens, ends = _read(expression)
    found = _selectors(tokens, ends)
    said = [text for selector in found.values() for text in _selector(selector, recorded)]
    said += [text for place in range(len(tokens)) for text in _list(tokens, ends, found, place, recorded)]
    return list(dict.fromkeys(said))


def _read(expression: str) -> tuple[list[_Token], Mapping[int, int]]:
    """What it consists of, and for the place of each opening bracket that of the closing one."""
    tokens = [_Token(match.lastgroup or "", match[0]) for match in TOKEN.finditer(expression) if match.lastgroup != "space"]
    open_: list[tuple[int, str]] = []
    ends: dict[int, int] = {}
    for place, (kind, text) in enumerate(tokens):
        if kind != "other":
            continue
        if text in "\"'`":
            raise UnreadableError(f"a string begins with {text} and does not end")
        if text in OPENING:
            open_.append((place, OPENING[text]))
        elif text in OPENING.values():
            if not open_ or open_[-1][1] != text:
                raise UnreadableError(f"{text} closes nothing that is open")
            ends[open_.pop()[0]] = place
    if open_:
        raise UnreadableError(f"{open_[-1][1]} is missing")
    return tokens, ends


def _text(tokens: Sequence[_Token], place: int) -> str:
    return tokens[place].text if 0 <= place < len(tokens) else ""


def _selectors(tokens: Sequence[_Token], ends: Mapping[int, int]) -> dict[int, Selector]:
    """By their places."""
    found: dict[int, Selector] = {}
    place = 0
    while place < len(tokens):
        kind, text = tokens[place]
        braces = place if text == "{" else place + 1
        if kind == "name" and _text(tokens, place + 1) == "(":
            place = ends[place + 1] if text.lower() in LISTS else place
        elif (kind == "name" or text == "{") and _text(tokens, braces) == "{":
            named, matchers = _matchers(text if kind == "name" else "", tokens[braces + 1 : ends[braces]])
            found[place] = Selector(named, matchers)
            place = ends[braces]
        elif kind == "name":
            found[place] = Selector(text, ())
        place += 1
    return found


def _matchers(metric: str, tokens: Sequence[_Token]) -> tuple[str, tuple[tuple[str, str, str], ...]]:
    """What stands between braces, and which metric is meant if one is: it may be named in there as well."""
    matchers: list[tuple[str, str, str]] = []
    place = 0
    while place < len(tokens):
        three = tokens[place : place + 3]
        if three[0].kind == "string" and _text(tokens, place + 1) in {"", ","}:
            metric = metric or _unquoted(three[0].text)
            place += 1
        elif three[0].kind not in {"name", "string"} or [one.kind for one in three[1:]] != ["match", "string"] or three[1].text == "==":
            raise UnreadableError(f"the matchers of {metric or 'a selector'} are label=\"value\" with = != =~ or !~, separated by commas")
        else:
            label, operator, value = _label(three[0]), three[1].text, _unquoted(three[2].text)
            if (label, operator) == (NAME, "="):
                metric = value
            else:
                matchers.append((label, operator, value))
            place += 3
        if place < len(tokens) and tokens[place].text != ",":
            raise UnreadableError(f"a comma is missing between the matchers of {metric or 'a selector'}")
        place += 1
    return metric, tuple(matchers)


def _label(token: _Token) -> str:
    """Names of labels may stand in quotes since Prometheus 3."""
    return _unquoted(token.text) if token.kind == "string" else token.text


def _unquoted(text: str) -> str:
    return text[1:-1] if text[0] == "`" else re.sub(r"\\(.)", lambda match: ESCAPED.get(match[1], match[1]), text[1:-1])


def _ours(name: str, recorded: Collection[str]) -> bool:
    """Whether a name, or a way through a pattern, can be nobody's but syncwatch's: it exports no name with a colon, and leaves them to rules."""
    return name.startswith(OURS) and ":" not in name.replace("(?:", "") and name not in recorded


def _patterns(selector: Selector) -> Sequence[str]:
    """Those for its name, if nothing can be meant but what is called as ours."""
    patterns = [value for label, operator, value in selector.matchers if (label, operator) == (NAME, "=~") and not TEMPLATE.search(value)]
    return patterns if patterns and all(part.startswith(OURS) for part in parts(patterns[0])) else ()


def _metrics(selector: Selector, recorded: Collection[str]) -> Sequence[str] | None:
    """The exported metrics that it can mean; None if it can mean anything else."""
    if selector.metric:
        return [name for name in (selector.metric,) if name in EXPORTED] if _ours(selector.metric, recorded) else None
    patterns = _patterns(selector)
    if not patterns or matched(patterns[0], recorded) or not all(_ours(part, recorded) for part in parts(patterns[0])):
        return None
    return matched(patterns[0], EXPORTED)


def _selector(selector: Selector, recorded: Collection[str]) -> Iterator[str]:
    """What one of them asks for in vain."""
    metrics = _metrics(selector, recorded)
    asked = [selector.metric] if selector.metric else [text for value in _patterns(selector) for text in in_vain(value, [*EXPORTED, *recorded])]
    for name in asked:
        if name not in EXPORTED and _ours(name, recorded):
            yield f"{name} is exported by no syncwatch of this version{near(name, EXPORTED)}"
    if not metrics:
        return
    what = selector.metric or f"{NAME}=~"
    labels = list(dict.fromkeys(label for metric in metrics for label in EXPORTED[metric]))
    for label, operator, value in selector.matchers:
        if label in labels:
            words = [word for metric in metrics for word in WORDS.get((metric, label), ())]
            if all((metric, label) in WORDS for metric in metrics if label in EXPORTED[metric]):
                yield from (f"{what}: {label} is never {word or 'empty'}{near(word, words)}" for word in _never(operator, value, words))
        elif label != NAME and _foreign(label, labels):
            yield f"{what} has no label {label}{near(label, labels) or _those(labels)}"


def _never(operator: str, value: str, words: Sequence[str]) -> Iterator[str]:
    """The words that are asked for, and that no label can have."""
    if TEMPLATE.search(value):
        return
    if "~" in operator:
        yield from in_vain(value, words)
    elif value not in words and (operator, value) != ("!=", ""):
        yield value


def _foreign(label: str, labels: Sequence[str], *, drops: bool = False) -> bool:
    """Whether a label is a typing error, or one that only other metrics of syncwatch have; what may be a target's is neither."""
    if label in OF_TARGETS or label in PERHAPS_OF_TARGETS:
        return False
    return bool(near(label, labels)) or (label in LABELS and not drops)


def _those(labels: Sequence[str]) -> str:
    return f"; it has {', '.join(labels)}" if labels else "; it has none"


def _list(
    tokens: Sequence[_Token], ends: Mapping[int, int], found: Mapping[int, Selector], place: int, recorded: Collection[str]
) -> Iterator[str]:
    """What a list of labels asks for in vain, if one begins here: labels that nothing has of what it is about."""
    word = tokens[place].text.lower()
    if tokens[place].kind != "name" or word not in LISTS or _text(tokens, place + 1) != "(":
        return
    begin, end = _about(tokens, ends, place) if word in {"by", "without"} else (0, len(tokens))
    known = [_metrics(selector, recorded) if selector.metric != "up" else () for at, selector in found.items() if begin <= at < end]
    if any(metrics is None for metrics in known) or not any(known):
        return
    labels = [label for metrics in known for metric in metrics or () for label in EXPORTED[metric]]
    labels += [label for at in range(begin, end) for label in _made(tokens, ends, at)]
    for label in (_label(one) for one in tokens[place + 2 : ends[place + 1]] if one.kind in {"name", "string"}):
        if label not in labels and _foreign(label, labels, drops=word in DROPS):
            yield f"{word} ({label}): nothing there has a label {label}{near(label, labels)}"


def _about(tokens: Sequence[_Token], ends: Mapping[int, int], place: int) -> tuple[int, int]:
    """What an aggregation is about: the brackets after its list, or those before it."""
    after = ends[place + 1] + 1
    if _text(tokens, after) == "(":
        return after, ends[after]
    return next(((begin, end) for begin, end in ends.items() if end == place - 1), (0, 0))


def _made(tokens: Sequence[_Token], ends: Mapping[int, int], place: int) -> Iterator[str]:
    """The label that a function adds, if one is called here."""
    call = next((at for at in range(place + 1, len(tokens)) if tokens[at].text == "("), None)
    if tokens[place].text not in MAKES or call is None:
        return
    if call in ends and tokens[call - 1].text in LISTS:
        call = ends[call] + 1
    at = call + 1
    while at < ends.get(call, 0):
        if tokens[at].kind == "string":
            yield _unquoted(tokens[at].text)
            return
        at = ends.get(at, at) + 1

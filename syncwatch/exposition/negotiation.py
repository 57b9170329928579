"""Which format a scraper gets, and the bytes of it. Whatever a header says, the answer is metrics, never an error.

What belongs here: Accept, Accept-Encoding and the name filter. prometheus-client encodes; its own negotiation is not used,
because it ignores q-values, repeats any version back and fails on one that is no number.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol as Interface

import msgspec
from prometheus_client import exposition as text
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

_QUALITY = re.compile(r"\d{0,3}(\.\d{0,6})?", re.ASCII)


class Collects(Interface):
    """A registry, as far as an encoder needs one."""

    def collect(self) -> Iterable[Metric]:
        """Metric families."""
        ...


class Format(msgspec.Struct, frozen=True):
    """An exposition format. `media` and `version` are what a scraper asks for, `content_type` is what it is told."""

    media: str
    version: str
    content_type: str
    encode: Callable[[Collects], bytes]


TEXT = Format("text/plain", "0.0.4", "text/plain; version=0.0.4; charset=utf-8", text.generate_latest)
OPENMETRICS = Format(
    "application/openmetrics-text",
    "1.0.0",
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
    openmetrics.generate_latest,
)


class _Range(msgspec.Struct, frozen=True):
    """One element of a header that lists what is accepted: its word, its parameters, and its q-value."""

    value: str
    version: str
    quality: float


def choose(accept: str | None) -> Format:
    """The format with the highest q-value; at a tie one that was named before one that only a wildcard covers, then the first.

    A version that we do not speak matches nothing. Nothing accepted, or no header: text 0.0.4, which everybody reads.
    """
    ranges = _ranges(accept)
    best, highest = TEXT, (0.0, 0, 0)
    for offered in (TEXT, OPENMETRICS):
        exactness, quality, before = _match(ranges, offered)
        if quality > 0 and (quality, exactness, before) > highest:
            best, highest = offered, (quality, exactness, before)
    return best


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether gzip is acceptable and not less wanted than no encoding at all."""
    wanted = {one.value: one.quality for one in _ranges(accept_encoding)}
    quality = wanted.get("gzip", wanted.get("x-gzip", wanted.get("*", 0.0)))
    return quality > 0 and quality >= wanted.get("identity", 0.0)


def render(
    registry: Collects, accept: str | None = None, accept_encoding: str | None = None, names: Sequence[str] = ()
) -> tuple[bytes, dict[str, str]]:
    """The body of a scrape and its headers. `names` (from `name[]`) leaves only what it names: metrics or single samples.

    Headers that came several times are passed joined by commas (RFC 9110 §5.3). Raises: only what collecting raises.
    """
    chosen = choose(accept)
    body = chosen.encode(_Named(registry, frozenset(names)) if names else registry)
    headers = {"Content-Type": chosen.content_type, "Vary": "Accept, Accept-Encoding"}
    if accepts_gzip(accept_encoding):
        body = gzip.compress(body, compresslevel=6, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return body, headers


class _Named:
    """A registry of which only some names are left."""

    def __init__(self, registry: Collects, names: frozenset[str]) -> None:
        self._registry, self._names = registry, names

    def collect(self) -> Iterator[Metric]:
        """Families that are named, by themselves or by the name of their samples; otherwise their samples that are."""
        for family in self._registry.collect():
            if family.name not in self._names:
                family.samples = [sample for sample in family.samples if sample.name in self._names]
            if family.samples:
                yield family


def _match(ranges: Sequence[_Range], offered: Format) -> tuple[int, float, int]:
    """How the header sees a format: exactness of the range that fits best (0: none does), its q-value, its place (higher: earlier)."""
    exactness = {"*/*": 1, offered.media.partition("/")[0] + "/*": 2, offered.media: 3}
    return max(
        (
            (exactness[one.value], one.quality, -place)
            for place, one in enumerate(ranges)
            if one.value in exactness and one.version in ("", offered.version)
        ),
        default=(0, 0.0, 0),
    )


def _ranges(header: str | None) -> list[_Range]:
    """The elements of a header, in order. What cannot be read is left out."""
    found = []
    for element in (header or "").split(","):
        value, *parameters = (part.strip() for part in element.lower().split(";"))
        named = dict(_parameter(one) for one in parameters)
        quality = _quality(named.get("q", "1"))
        if value and quality is not None:
            found.append(_Range(value, named.get("version", ""), quality))
    return found


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip().strip('"')


def _quality(text: str) -> float | None:
    """A q-value from 0 to 1 (RFC 9110 §12.4.2), more generously written; None for anything else."""
    if not _QUALITY.fullmatch(text) or not any(map(str.isdigit, text)):
        return None
    return min(float(text), 1.0)

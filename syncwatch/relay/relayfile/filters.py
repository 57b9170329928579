"""Which events a path filter lets through (wire: relayfile §3.6). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def cleaned(filters: Iterable[str]) -> tuple[str, ...]:
    """Filters as the handshake reads them: with a leading slash, without blanks and repetitions."""
    kept: dict[str, None] = {}
    for text in filters:
        text = text.strip()
        if text:
            kept[text if text.startswith("/") else f"/{text}"] = None
    return tuple(kept)


def passes(filters: Sequence[str], path: str) -> bool:
    """Whether an event of this path is wanted; no filter wants everything."""
    return not filters or any(matches(one, path) for one in filters)


def matches(pattern: str, path: str) -> bool:
    """`*` is exactly one segment, `**` as the last one is the rest, even none of it."""
    if not path:
        return False
    if pattern == path:
        return True
    wanted, found = _segments(pattern), _segments(path)
    if wanted and wanted[-1] == "**":
        wanted = wanted[:-1]
        found = found[: len(wanted)] if len(found) >= len(wanted) else found
    return len(wanted) == len(found) and all(w in ("*", f) for w, f in zip(wanted, found, strict=True))


def _segments(text: str) -> list[str]:
    return [part for part in text.split("/") if part]

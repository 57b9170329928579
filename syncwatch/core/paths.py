"""Patterns over slash-separated paths, as servers filter streams by them: `*` is one segment, `**` at the end is the rest."""

from __future__ import annotations

from collections.abc import Sequence


def path_matches(filters: Sequence[str], path: str) -> bool:
    """Whether any of `filters` lets `path` through; without filters everything passes."""
    return not filters or any(_one_matches(pattern, path) for pattern in filters)


def _one_matches(pattern: str, path: str) -> bool:
    if not path:
        return False
    if pattern == path:
        return True
    wanted, given = pattern.strip("/").split("/"), path.strip("/").split("/")
    if wanted == [""]:
        return given == [""]
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        given = given[: len(wanted)] if len(given) >= len(wanted) else given
    return len(wanted) == len(given) and all(one in ("*", other) for one, other in zip(wanted, given, strict=True))

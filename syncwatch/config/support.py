"""What may be written in a configuration and does not run in this version.

Law: nothing is silently ignored. A key that is accepted and has no effect yet is refused here, by a sentence. When the work lands,
its entry goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from syncwatch.config.connections import RelaycastConnection
from syncwatch.config.mistakes import Mistake, in_order
from syncwatch.config.schema import Config
from syncwatch.version import __version__

Refusals = Iterator[tuple[str, str]]
"""Pairs of a path and a sentence."""

YET = f"in syncwatch {__version__} yet"


def unsupported(config: Config) -> list[Mistake]:
    """Everything that this version cannot do yet, at the key that asks for it."""
    return in_order(config.source.mistake(path, text) for entry in LATER for path, text in entry(config))


def _dialects(config: Config) -> Refusals:
    for position, connection in enumerate(config.connections):
        if isinstance(connection, RelaycastConnection) and connection.dialect == "node":
            yield (
                f"connections[{position}].dialect",
                f"dialect {connection.dialect} does not run {YET}; dialects ring and observer do",
            )


LATER: tuple[Callable[[Config], Refusals], ...] = (_dialects,)
"""One entry for each piece of work that is not done."""

"""syncwatch: a sidecar that tells the truth about real-time sync connections, and a library that does so in process.

What belongs here: the public names. They are imported when they are first used, so that the commands start fast.
"""

from typing import TYPE_CHECKING

from syncwatch.version import __version__

if TYPE_CHECKING:
    from syncwatch.config import ConfigError
    from syncwatch.exposition.healthstatus import HealthReason, HealthStatus
    from syncwatch.exposition.http import Flushed
    from syncwatch.watch import Mirror, Watch

__all__ = ["ConfigError", "Flushed", "HealthReason", "HealthStatus", "Mirror", "Watch", "__version__"]

_HOMES = {
    "ConfigError": "syncwatch.config",
    "Flushed": "syncwatch.exposition.http",
    "HealthReason": "syncwatch.exposition.healthstatus",
    "HealthStatus": "syncwatch.exposition.healthstatus",
    "Mirror": "syncwatch.watch",
    "Watch": "syncwatch.watch",
}


if not TYPE_CHECKING:  # a type checker must go on knowing which names there are

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)

"""syncwatch: a sidecar that tells the truth about real-time sync connections."""

from syncwatch.version import __version__

__all__ = ["__version__"]

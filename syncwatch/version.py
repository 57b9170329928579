"""The one place where the version stands."""

import os

__version__ = "0.1.0"

REVISION = os.environ.get("SYNCWATCH_REVISION", "")

"""What a test needs of the machine: a missing program skips the test, and fails it where nothing may be skipped.

Only the search for programs belongs here; those that `make tools` put beside this Python come before the machine's own. `SYNCWATCH_REQUIRE_ALL=1` (set in CI, where everything is installed) turns
each skip into a failure, so that a machine that silently lost a program cannot report success.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest


def require(program: str) -> str:
    """The path of `program`, beside this Python or on PATH.

    Raises: pytest's skip where the program is missing, pytest's failure where `SYNCWATCH_REQUIRE_ALL=1`.
    """
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if path is not None:
        return path
    message = f"{program} is not installed"
    if os.environ.get("SYNCWATCH_REQUIRE_ALL") == "1":
        pytest.fail(f"{message}, and SYNCWATCH_REQUIRE_ALL=1 allows no skips")
    pytest.skip(message)

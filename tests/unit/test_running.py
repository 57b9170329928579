"""What a sidecar brings into memory: nothing that only commands need, in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from syncwatch import running
from syncwatch.__main__ import main
sys.argv = ["syncwatch", *sys.argv[1:]]
running.sidecar = lambda path: print(path, "click" in sys.modules, "syncwatch.cli" in sys.modules)
try:
    main()
except SystemExit as end:
    sys.exit(end.code)
"""


def ran(*arguments: str) -> tuple[int, str]:
    """Exit code and standard output of the program with a sidecar that only says what it was given."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout.strip()


def test_a_sidecar_needs_no_commands() -> None:
    """The usual spellings go past them; every other one means the same."""
    assert (0, "None False False") == ran("run")
    assert (0, "a.yaml False False") == ran("run", "--config", "a.yaml")
    assert (0, "a.yaml True True") == ran("run", "--config=a.yaml")


def test_everything_else_is_a_command() -> None:
    """Help, mistakes, other commands."""
    assert ran("run", "--help")[1].startswith("Usage: syncwatch run [OPTIONS]")
    assert 2 == ran("run", "--no-such-option")[0]
    assert ran("--version")[1].startswith("syncwatch ")

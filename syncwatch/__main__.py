"""The program. `syncwatch run` goes past the library that the commands are made with: a sidecar would keep its mebibyte as long as it runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Any command."""
    match sys.argv[1:]:
        case ["run"]:
            _sidecar(None)
        case ["run", "--config", path]:
            _sidecar(path)
        case ["run", "--wait-for-config"]:
            _sidecar(None, wait=True)
        case ["run", "--wait-for-config", "--config", path] | ["run", "--config", path, "--wait-for-config"]:
            _sidecar(path, wait=True)
        case _:  # every other spelling, mistakes and --help
            from syncwatch.cli import main as commands

            commands(prog_name="syncwatch")


def _sidecar(path: str | None, wait: bool = False) -> None:
    from syncwatch.running import sidecar

    sidecar(path, wait)


if __name__ == "__main__":
    main()

"""The version stands in one place, and everything that tells it tells the same."""

from __future__ import annotations

import re
import runpy
from importlib.metadata import version as installed
from pathlib import Path

import syncwatch.version
from syncwatch.protocols.relaycast import Relaycast
from syncwatch.runtime.dialing import USER_AGENT
from syncwatch.version import __version__


def test_it_is_a_release_number() -> None:
    """Three numbers, as the changelog's headings have them."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_the_package_says_the_same() -> None:
    """What pip knows was read from version.py."""
    assert __version__ == installed("syncwatch")


def test_servers_are_told_the_same() -> None:
    """In the user agent and in the origin of the upgrade."""
    assert f"syncwatch/{__version__}" == USER_AGENT
    assert f"origin_client=syncwatch&origin_version={__version__}" in Relaycast("http://127.0.0.1:1").dial().url


def test_the_revision_is_what_the_build_wrote(tmp_path: Path) -> None:
    """A file beside the module; none means unknown."""
    module = tmp_path / "version.py"
    module.write_text(Path(syncwatch.version.__file__).read_text())
    assert "" == runpy.run_path(str(module))["REVISION"]
    (tmp_path / "REVISION").write_text("abc123\n")
    assert "abc123" == runpy.run_path(str(module))["REVISION"]

"""The npm packages, once per run."""

from __future__ import annotations

import pytest

from tests.interop.npm import install


@pytest.fixture(scope="session", autouse=True)
def packages() -> None:
    """Installed, or the tests are skipped."""
    install()

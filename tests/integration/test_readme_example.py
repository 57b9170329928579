"""The README's library example, run as it stands against the embedded relay; only the relay's port is another one."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from syncwatch.relay import Relay
from tests.integration.sidecar import WATCHER, environment

README = (Path(__file__).parents[2] / "README.md").read_text()


async def test_the_library_example_runs(tmp_path: Path) -> None:
    """It connects, catches up, says so and ends; nothing is written to standard error, not even a warning."""
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "from syncwatch import Watch" in block]
    async with Relay.start() as relay:
        (tmp_path / "cast-token").write_text(relay.agent(relay.workspace("w"), WATCHER))
        assert 1 == example.count("http://127.0.0.1:8787")
        (tmp_path / "example.py").write_text(example.replace("http://127.0.0.1:8787", relay.url))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "example.py", cwd=tmp_path, env=environment(),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(30.0):
            out, err = await process.communicate()
    assert (0, "") == (process.returncode, err.decode())
    assert "relaycast is open, 0 events lost so far\n" == out.decode()

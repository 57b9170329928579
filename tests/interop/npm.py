"""The real npm clients as subprocesses: installed once, driven by one argument, read line by line, judged elsewhere."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.requires import require

HERE = Path(__file__).parent
PATIENCE_S = 20.0


def install(folder: Path = HERE) -> None:
    """Have exactly the packages of a folder's `package.json`; skips (or fails, where nothing may be skipped) without npm or node."""
    npm = require("npm")
    require("node")
    wanted: dict[str, str] = json.loads((folder / "package.json").read_text())["dependencies"]
    if all(_version(folder, name) == version for name, version in wanted.items()):
        return
    # What is optional is executables for mounts, which nothing here runs.
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--omit=optional"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    assert 0 == done.returncode, done.stderr


def _version(folder: Path, name: str) -> str | None:
    manifest = folder / "node_modules" / name / "package.json"
    return json.loads(manifest.read_text())["version"] if manifest.exists() else None


class NpmClient:
    """A running client. `said` is what it has printed so far, one dictionary per line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.said: list[dict[str, Any]] = []
        self._process = process
        self._news = asyncio.Condition()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._news:
                self.said.append(json.loads(line))
                self._news.notify_all()

    async def until(self, condition: Callable[[list[dict[str, Any]]], object], within_s: float = PATIENCE_S) -> None:
        """Wait until what was said fulfils a condition.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(lambda: condition(self.said))

    async def until_type(self, kind: str, times: int = 1, within_s: float = PATIENCE_S) -> None:
        """Wait until a type was said so often."""
        await self.until(lambda said: times <= sum(line["type"] == kind for line in said), within_s)

    def types(self, *, without: tuple[str, ...] = ()) -> list[str]:
        """What was said, by type."""
        return [line["type"] for line in self.said if line["type"] not in without]

    def lifecycle(self) -> list[tuple[Any, ...]]:
        """Lifecycle events only, in order, with their numbers."""
        told: list[tuple[Any, ...]] = []
        for line in self.said:
            if line["type"] in ("open", "close", "error"):
                told.append((line["type"],))
            elif line["type"] in ("reconnecting", "permanently_disconnected"):
                told.append((line["type"], line["attempt"]))
            elif line["type"] == "resynced":
                told.append(("resynced", line["replayed"], line["gapDetected"]))
        return told

    def texts(self) -> list[str]:
        """Texts of the messages handed to the application, in order, repetitions included."""
        return [line["message"]["text"] for line in self.said if line["type"] == "message.created"]

    def tell(self, line: str) -> None:
        """Send the driver a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def stop(self) -> None:
        """End it; killed if it does not end by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise
        finally:
            await self._reading
        assert self._process.stderr is not None
        assert b"" == await self._process.stderr.read()


@asynccontextmanager
async def npm_client(
    url: str, token: str = "", *, driver: str = "driver.mjs", node: tuple[str, ...] = (), mode: str = "watch", **options: Any
) -> AsyncIterator[NpmClient]:
    """A client for the length of a block; `driver` is its program, `node` are options of Node itself.

    `options` for `watch`: `client` (`relaycast` for `RelayCast.connect()`), `baseDelayMs`, `maxDelayMs`,
    `maxReconnectAttempts`, `connectTimeoutMs`, `clockOffsetMs` (its clock ahead, or behind if negative), `subscribe`.
    """
    argument = json.dumps({"mode": mode, "url": url, "token": token, **options})
    process = await asyncio.create_subprocess_exec(
        require("node"),
        *node,
        driver,
        argument,
        cwd=HERE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    client = NpmClient(process)
    try:
        yield client
    finally:
        await client.stop()

"""A real Chromium, without a window, driven through its DevTools protocol: pages are opened, looked at and pressed.

What belongs here: the mechanics. What a page must show, the tests say themselves. The protocol is JSON over a WebSocket
(chromedevtools.github.io/devtools-protocol); aiohttp speaks that already.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.requires import require

START_S = 60.0
PATIENCE_S = 20.0
POLL_S = 0.05
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage",
    "--no-proxy-server", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip

Document = dict[str, Any]


@contextmanager
def browser(folder: Path) -> Iterator[str]:
    """A browser with an empty profile in `folder`; yields the address of its DevTools."""
    program = require("chromium")
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{_port(process, folder)}"
    finally:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], folder: Path) -> int:
    """Chromium writes the port that it took into its profile."""
    file, until_s = folder / "DevToolsActivePort", time.monotonic() + START_S
    while time.monotonic() < until_s and process.poll() is None:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) >= 2:
            return int(lines[0])
        time.sleep(POLL_S)
    raise AssertionError(f"chromium did not start:\n{(folder / 'chromium.log').read_text()[-2000:]}")


class Page:
    """One open page. `errors`: what it logged as an error or threw; `requested`: every URL that it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.errors: list[str] = []
        self.requested: list[str] = []
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Document]] = {}

    async def read(self) -> None:
        """Take in what the browser says, until the socket closes."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            elif said["method"] == "Runtime.exceptionThrown":
                self.errors.append(
                    said["params"]["exceptionDetails"].get("exception", {}).get("description", "exception")
                )
            elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                self.errors.append(said["params"]["entry"]["text"])
            elif said["method"] == "Network.requestWillBeSent":
                self.requested.append(said["params"]["request"]["url"])

    async def call(self, method: str, **params: Any) -> Document:
        """One command of the protocol. Raises: AssertionError when the browser refuses it."""
        number = next(self._ids)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(PATIENCE_S):
            said = await self._waiting[number]
        assert "error" not in said, f"{method}: {said['error']}"
        result: Document = said["result"]
        return result

    async def open(self, url: str) -> None:
        """Go there."""
        result = await self.call("Page.navigate", url=url)
        assert "errorText" not in result, result

    async def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited. Raises: AssertionError when it throws."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{script}: {result['exceptionDetails']}"
        return result["result"].get("value")

    async def _holds(self, script: str) -> Any:
        """The same while a page may still be loading: what throws does not hold yet."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return None if "exceptionDetails" in result else result["result"].get("value")

    async def until(self, script: str, within_s: float = PATIENCE_S) -> Any:
        """Wait until an expression is true in the page; returns its value. Raises: AssertionError with what the page shows."""
        until_s = time.monotonic() + within_s
        while not (value := await self._holds(script)):
            if time.monotonic() > until_s:
                shown = await self.run("document.body ? document.body.innerText : ''")
                raise AssertionError(
                    f"not within {within_s:g} s: {script}\nThe page shows:\n{shown}\nIts errors: {self.errors}"
                )
            await asyncio.sleep(POLL_S)
        return value

    async def shows(self, words: str, within_s: float = PATIENCE_S) -> None:
        """Wait until the words can be read on the page."""
        await self.until(f"document.body !== null && document.body.innerText.includes({json.dumps(words)})", within_s)

    async def text(self, selector: str = "body") -> str:
        """What can be read in an element."""
        found: str = await self.run(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    async def size(self, width: int, height: int = 900, mobile: bool = False) -> None:
        """The window's size in CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )

    async def scheme(self, name: str) -> None:
        """`light` or `dark`."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    async def press(self, key: str) -> None:
        """Press and release a key: `Tab` or `Enter`."""
        code, text = {"Tab": (9, ""), "Enter": (13, "\r")}[key]
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
            )

    async def screenshot(self, file: Path) -> bytes:
        """The whole page as a PNG, also written to `file`."""
        result = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        picture = base64.b64decode(result["data"])
        await asyncio.to_thread(file.write_bytes, picture)
        return picture


@asynccontextmanager
async def page(devtools: str) -> AsyncIterator[Page]:
    """A new page, as a person has it before them: focused and visible; closed at the end."""
    async with aiohttp.ClientSession() as http:
        async with http.put(f"{devtools}/json/new?about:blank") as answer:
            target = await answer.json()
        async with http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            made = Page(socket)
            reading = asyncio.create_task(made.read())
            try:
                for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
                    await made.call(f"{domain}.enable")
                await made.call("Emulation.setFocusEmulationEnabled", enabled=True)
                yield made
            finally:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{devtools}/json/close/{target['id']}"):
                        pass
                await socket.close()
                reading.cancel()
                await asyncio.wait([reading])

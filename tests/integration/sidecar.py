"""`syncwatch run` as a real process beside an embedded relay: how it is started, asked, waited for and ended.

What belongs here: the mechanics that several end-to-end tests share. What a sidecar must say, each test says itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiohttp
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from syncwatch.relay import Relay

PROGRAM = str(Path(sys.executable).with_name("syncwatch"))
WATCHER = "watch"
"""The agent whose stream the sidecar watches."""
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
PATIENCE_S = 10.0
POLL_S = 0.02
PROMPTLY_S = 5.0
"""Within this must be done what waits for nothing: generous, because a loaded machine runs the tests, and far below what it must not wait for."""

Document = dict[str, Any]
T = TypeVar("T")


class Done(NamedTuple):
    """A command that ended."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would configure a sidecar."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNCWATCH_")}
    return kept | more


async def command(*arguments: str | Path, timeout_s: float = 20.0, **env: str) -> Done:
    """Run `syncwatch` to its end."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *map(str, arguments), env=environment(**env),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise AssertionError(f"syncwatch {arguments} did not end within {timeout_s:g} s:\n{err.decode()}") from None
    return Done(process.returncode or 0, out.decode(), err.decode())


def configuration(url: str, token_file: Path, folder: Path, changes: Mapping[str, Any] | None = None) -> Document:
    """A configuration with short intervals; `changes` are merged into it, those under `cast` into its one connection."""
    cast: Document = {
        "name": "cast",
        "protocol": "relaycast",
        "url": url,
        "token_file": str(token_file),
        "connect_timeout": "2s",
        "heartbeat": {"interval": "300ms", "timeout": "3s"},  # a loaded machine is no half-open connection
        "reconnect": {"min": "50ms", "max": "300ms", "stable_after": "1s"},
        "resync": {"ack_timeout": "2s", "hole_grace": "300ms", "spread": "0s"},
        "verify": {"interval": "60s", "grace": "100ms"},
    }
    document: Document = {
        "listen": "127.0.0.1:0",
        "local_listen": "127.0.0.1:0",
        "state_dir": str(folder / "state"),
        "log": {"level": "debug", "format": "json"},
        "health": {"degraded_after": "200ms", "recovered_after": "200ms", "incident_hold": "2s"},
    }
    changes = dict(changes or {})
    _merge(cast, changes.pop("cast", {}))
    _merge(document, changes)
    return document | {"connections": [cast]}


def _merge(into: Document, changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


class Scrape:
    """One answer of `/metrics`, read by prometheus-client's own parsers."""

    def __init__(self, text: str, content_type: str) -> None:
        self.text = text
        self.openmetrics = content_type.startswith("application/openmetrics-text")
        families = (openmetrics_families if self.openmetrics else text_families)(text)
        self._samples = [(one.name, one.labels, one.value) for family in families for one in family.samples]

    def value(self, name: str, /, **labels: str) -> float:
        """The one sample of that name with (at least) these labels. Raises: KeyError when there is none or several."""
        found = self.all(name, **labels)
        if len(found) != 1:
            raise KeyError(f"{name}{labels}: {len(found)} samples")
        return found[0]

    def all(self, name: str, /, **labels: str) -> list[float]:
        """Every sample of that name with (at least) these labels."""
        return [value for known, its, value in self._samples if known == name and labels.items() <= its.items()]

    @property
    def state(self) -> str:
        """The state whose sample is 1."""
        name = "syncwatch_connection_state"
        return next(its["state"] for known, its, value in self._samples if known == name and value == 1)


class Asked:
    """The HTTP side of a sidecar, wherever it runs: `public` and `local` are its base URLs."""

    def __init__(self, public: str, local: str, http: aiohttp.ClientSession) -> None:
        self.public, self.local, self.http = public, local, http

    async def get(self, url: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """Status, body, headers."""
        async with self.http.get(url, headers=headers) as answer:
            return answer.status, await answer.text(), answer.headers

    async def probe(self, path: str) -> tuple[int, str]:
        """A probe on the public listener."""
        code, text, _ = await self.get(self.public + path)
        return code, text

    async def scrape(self, accept: str = "text/plain") -> Scrape:
        """`/metrics` in the format that is asked for."""
        code, text, headers = await self.get(f"{self.public}/metrics", Accept=accept)
        assert 200 == code, text
        return Scrape(text, headers["Content-Type"])

    async def status(self, **headers: str) -> Document:
        """`/status`."""
        code, text, _ = await self.get(f"{self.local}/status", **headers)
        assert 200 == code, text
        document: Document = json.loads(text)
        return document

    async def cast(self) -> Document:
        """The one connection in `/status`."""
        connection: Document = (await self.status())["connections"][0]
        return connection

    async def gate(self, purpose: str = "read") -> tuple[int, Document]:
        """`/gate`."""
        code, text, _ = await self.get(f"{self.local}/gate?for={purpose}")
        return code, json.loads(text)

    async def until(self, condition: Callable[[Document], object], within_s: float = PATIENCE_S) -> Document:
        """Wait until the connection in `/status` is as wanted; returns it."""
        return await until(self.cast, condition, within_s)

    async def caught_up(self, relay: Relay, within_s: float = PATIENCE_S) -> Document:
        """Wait until the sidecar has every number that the relay gave, and nothing is open."""

        def has_everything(cast: Document) -> bool:
            ledger = cast["ledger"]
            return bool(
                cast["state"] == "open"
                and ledger["cursor"] == relay.find(WATCHER).counter
                and not ledger["undecided"]
                and not ledger["missing"]
            )

        return await self.until(has_everything, within_s)


class Sidecar(Asked):
    """A process of `syncwatch run`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, http: aiohttp.ClientSession) -> None:
        super().__init__("", "", http)
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.process.pid

    def text(self) -> str:
        """All that it wrote to standard error."""
        return self._log.read_text()

    def log(self, event: str | None = None) -> list[Document]:
        """Its log so far, as JSON objects; of one `event` if asked for. A thread writes it: wait for a line with `said`, or until the process has ended."""
        lines = [json.loads(line) for line in self.text().splitlines() if line.endswith("}")]
        return [line for line in lines if event is None or line["event"] == event]

    async def said(self, event: str, within_s: float = PATIENCE_S) -> Document:
        """Wait for a log line; returns the first one of its kind."""
        return (await self.logged(event, bool, within_s))[0]

    async def logged(self, event: str, condition: Callable[[list[Document]], object], within_s: float = PATIENCE_S) -> list[Document]:
        """Wait until the lines of one kind are as wanted; returns them."""

        async def look() -> list[Document]:
            if self.process.returncode is not None:
                raise AssertionError(f"the sidecar ended with {self.process.returncode}:\n{self.text()}")
            return self.log(event)

        return await until(look, condition, within_s)

    async def end(self, number: signal.Signals = signal.SIGTERM, within_s: float = PATIENCE_S) -> tuple[int, float]:
        """Send a signal and wait; returns the exit code and how long the end took (s)."""
        began_s = time.monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(within_s):
            code = await self.process.wait()
        return code, time.monotonic() - began_s


@asynccontextmanager
async def running(folder: Path, config: Document | None, http: aiohttp.ClientSession, *options: str, **env: str) -> AsyncIterator[Sidecar]:
    """A sidecar that listens; what is left of it at the end is killed. Without `config` the file is left as it is."""
    file, log = folder / "syncwatch.yaml", folder / f"log-{time.monotonic_ns()}"
    if config is not None:
        file.write_text(yaml.safe_dump(config))
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "run", "--config", str(file), *options, env=environment(**env),
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    made = Sidecar(process, log, http)
    try:
        listening = await made.said("listening")
        made.public, made.local = f"http://{listening['listen']}", f"http://{listening.get('local_listen')}"
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class Rig(NamedTuple):
    """A relay, the agent's token in its file, and a configuration that watches it."""

    relay: Relay
    token: str
    token_file: Path
    folder: Path
    config: Document
    http: aiohttp.ClientSession

    def post(self, messages: int, words: str = "message") -> None:
        """Messages of alice: two events each for the watched agent."""
        for number in range(messages):
            self.relay.post("alice", "general", f"{words} {number}")

    @asynccontextmanager
    async def talk(self, pause_s: float = 0.05) -> AsyncIterator[None]:
        """Alice goes on talking for the length of a block."""

        async def go_on() -> None:
            while True:
                self.post(1, "and another thing")
                await asyncio.sleep(pause_s)

        task = asyncio.create_task(go_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def sidecar(self, opened: bool = True, **env: str) -> AsyncIterator[Sidecar]:
        """The sidecar, by default after its first connection is open and its first tip check is answered."""
        async with running(self.folder, self.config, self.http, **env) as made:
            if opened:
                await made.until(lambda cast: cast["state"] == "open" and cast["verification"]["results"]["verified"])
            yield made


@asynccontextmanager
async def rig(folder: Path, **changes: Any) -> AsyncIterator[Rig]:
    """A relay with the agents `watch` and `alice`."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with Relay.start() as relay, aiohttp.ClientSession(timeout=timeout) as http:
        workspace = relay.workspace("w")
        token = relay.agent(workspace, WATCHER)
        relay.agent(workspace, "alice")
        token_file = folder / "token"
        token_file.write_text(token)
        config = configuration(relay.url, token_file, folder, changes)
        yield Rig(relay, token, token_file, folder, config, http)


async def until(look: Callable[[], Awaitable[T]], condition: Callable[[T], object], within_s: float = PATIENCE_S) -> T:
    """Look again and again until what is seen is as wanted; returns it.

    Raises: AssertionError with the last sight when the time is over.
    """
    began_s = time.monotonic()
    while True:
        seen = await look()
        if condition(seen):
            return seen
        if time.monotonic() - began_s > within_s:
            raise AssertionError(f"not within {within_s:g} s; last seen: {json.dumps(seen, default=str)[:4000]}")
        await asyncio.sleep(POLL_S)


async def holds(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait until something in this process holds."""

    async def look() -> object:
        return condition()

    await until(look, bool, within_s)

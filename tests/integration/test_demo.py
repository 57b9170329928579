"""`syncwatch demo` as a process: the whole story with every row equal, watched from outside meanwhile; and every way in which it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.integration.sidecar import OPENMETRICS, PATIENCE_S, PROGRAM, Asked, Document, command, environment

ANYWHERE = ("--relay-port", "0", "--listen", "127.0.0.1:0", "--local-listen", "127.0.0.1:0")
TROUBLES = ("A drop", "An outage", "Half-open", "A restart", "A silent server")
STORY_S = 120.0
"""It takes half a minute; a loaded machine takes longer."""
ENDED_WITHIN_S = 10.0
TOLD: tuple[tuple[str, Document, int], ...] = (
    ("disconnected", {"reason": "network"}, 3),
    ("attempt_failed", {"reason": "rejected"}, 1),
    ("disconnected", {"reason": "heartbeat_timeout"}, 1),
    ("reset", {}, 1),
    ("verification", {"result": "behind"}, 1),
    ("state", {"to_state": "open"}, 5),
)
"""What `/events` must have told of the whole round: type, fields, and how often at least."""
ROW = re.compile(r"^  (?P<words>\S.*?) {2,}(?P<relay>\d+) +(?P<ours>\d+)(?P<mark>.*)$")
MEANWHILE = re.compile(r"^  Meanwhile: state \w+, reasons (.*?);")


class Telling:
    """A demo under way: what it has said so far, and the addresses that it named."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))

    async def until(self, words: str, within_s: float = PATIENCE_S) -> str:
        """Wait for a line that has these words."""
        async with asyncio.timeout(within_s):
            while True:
                found = next((line for line in self.lines if words in line), None)
                if found is not None:
                    return found
                assert not self._reading.done(), self.text
                await asyncio.sleep(0.02)

    async def address(self, label: str) -> str:
        """The URL behind a label of the welcome, without its path."""
        line = await self.until(f"  {label} ")
        found = re.search(r"http://[\d.:]+", line)
        assert found is not None
        return found[0]

    @property
    def text(self) -> str:
        """All that was said."""
        return "\n".join(self.lines)

    async def ended(self, within_s: float) -> tuple[int, str]:
        """Wait for the end; returns the exit code and what stood on standard error."""
        assert self.process.stderr is not None
        async with asyncio.timeout(within_s):
            code = await self.process.wait()
            await self._reading
        return code, (await self.process.stderr.read()).decode()


@asynccontextmanager
async def demo(*arguments: str) -> AsyncIterator[Telling]:
    """The demo; killed at the end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "demo", *ANYWHERE, *arguments, env=environment(),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    telling = Telling(process)
    try:
        yield telling
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await telling._reading


class Watching:
    """Asks every endpoint over and over while the story goes on, for what must hold all the while; what holds for an instant `/events` tells."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.events: list[tuple[str, Document]] = []
        self.rounds = 0
        self.told: list[str] = []

    async def go_on(self) -> None:
        """Until it is cancelled, or the demo is gone."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.ask_the_gate())
                while True:
                    await self.once()
        except* aiohttp.ClientError:
            pass  # the demo is over

    async def listen(self) -> None:
        """Hear every notice, from those of before to the last one."""
        with contextlib.suppress(aiohttp.ClientError):
            async with self.asked.http.get(f"{self.asked.local}/events", timeout=aiohttp.ClientTimeout(sock_connect=PATIENCE_S)) as stream:
                kind = ""
                async for line in stream.content:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    kind = value if name == "event" else kind
                    if name == "data":
                        self.events.append((kind, json.loads(value)["fields"]))

    def heard(self, kind: str, **fields: object) -> list[Document]:
        """The notices of that kind with these fields."""
        return [its for known, its in self.events if known == kind and fields.items() <= its.items()]

    async def ask_the_gate(self) -> None:
        """As often as an impatient agent would."""
        while True:
            code, answer = await self.asked.gate()
            assert (200 if answer["open"] else 503) == code
            await asyncio.sleep(0.02)

    async def once(self) -> None:
        """One round of questions."""
        status: Document = await self.asked.status()
        scrape = await self.asked.scrape(OPENMETRICS if self.rounds % 2 else "text/plain")
        assert (200, "ok") == await self.asked.probe("/livez")
        code, text = await self.asked.probe("/healthz?verbose")
        assert (200, True) == (code, text.endswith("healthz check passed\n"))
        assert 200 == (await self.asked.probe("/readyz"))[0], "every trouble here is shorter than the grace of a minute"
        assert bool(self.rounds % 2) is scrape.openmetrics
        self.rounds += 1
        await asyncio.sleep(0.05)
        self.told += [scrape.text, str(status), text] if self.rounds % 20 == 1 else []


async def test_one_round_of_trouble() -> None:
    """Every row equal, exit code 0; the gate closes in each trouble and opens again, health stays 200, the token is told to nobody."""
    async with demo("--cycles", "1") as telling:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        public, local = await telling.address("metrics"), await telling.address("gate")
        async with aiohttp.ClientSession(timeout=timeout) as http:
            watching = Watching(Asked(public, local, http))
            listening = asyncio.create_task(watching.listen())
            await telling.until("Connected in")
            cmdline = Path(f"/proc/{telling.process.pid}/cmdline")
            watching.told.append(await asyncio.to_thread(cmdline.read_text))
            asking = asyncio.create_task(watching.go_on())
            try:
                code, errors = await telling.ended(STORY_S)
            finally:
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking
            async with asyncio.timeout(PATIENCE_S):
                await listening  # the demo is gone, and with it the stream
    assert (0, "") == (code, errors), telling.text

    rows = [found for line in telling.lines if (found := ROW.match(line)) is not None]
    assert [] == [row[0] for row in rows if row["relay"] != row["ours"] or row["mark"]]
    told: dict[str, list[tuple[str, int]]] = {title: [] for title in TROUBLES}
    for line in telling.lines:
        if line.startswith("— "):
            current = told[next(title for title in TROUBLES if line.startswith(f"— {title}"))]
        elif (row := ROW.match(line)) is not None:
            current.append((row["words"], int(row["relay"])))
    assert all(told.values()), "each trouble was counted"
    outage = dict(told["An outage"])
    assert 600 == outage["numbers missed and recovered"] + outage["numbers that never came"]
    assert 1 == dict(told["A restart"])["counter restarts"]
    assert "connections opened" not in dict(told["A silent server"])
    assert telling.lines[-1] == "The demo is over: the connection was closed with 1000, the relay is stopped."

    closings = [its["detail"] for its in watching.heard("gate", purpose="read", open=False)]
    assert 4 <= sum("reconnecting" in why for why in closings), "each trouble but the last one ends a connection, and each end closes it, however short"
    assert [True, True] == [any(reason in why for why in closings) for reason in ("heartbeat_timeout", "behind")]
    assert watching.heard("gate", purpose="read")[-1]["open"]
    for kind, fields, times in TOLD:
        assert times <= len(watching.heard(kind, **fields)), (kind, fields)
    meanwhile = [set(found[1].split(", ")) for line in telling.lines if (found := MEANWHILE.match(line)) is not None]
    expected = [{"reconnecting", "upstream_error"}, {"reconnecting", "heartbeat_timeout"}, {"behind"}]
    assert expected == [reasons & set().union(*expected) for reasons in meanwhile]
    held = {reason for its in watching.heard("degraded") for reason in its["reasons"].split(",")}
    assert {"events_lost", "epoch_reset"} <= held
    assert watching.rounds > 50
    assert not [text for text in (*watching.told, telling.text) if "at_live_" in text]


@pytest.mark.parametrize(("number", "words"), [(signal.SIGINT, "— An outage"), (signal.SIGTERM, "Connected in")])
async def test_a_signal_ends_it_cleanly(number: signal.Signals, words: str) -> None:
    """Ctrl-C in the middle of the story: exit code 0, a last sentence, nothing on standard error."""
    async with demo() as telling:
        await telling.until(words)
        telling.process.send_signal(number)
        assert (0, "") == await telling.ended(ENDED_WITHIN_S), telling.text
        assert telling.lines[-1] == "The demo is over: the connection was closed with 1000, the relay is stopped."


async def test_ctrl_c_before_it_has_begun() -> None:
    """However early it comes: no traceback."""
    async with demo() as telling:
        await telling.until("  metrics ")
        telling.process.send_signal(signal.SIGINT)
        assert (0, "") == await telling.ended(ENDED_WITHIN_S), telling.text


@pytest.mark.parametrize("option", ["--relay-port", "--listen", "--local-listen"])
async def test_a_port_in_use(option: str) -> None:
    """One line that names the option, and exit code 2."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        at = str(port) if option == "--relay-port" else f"127.0.0.1:{port}"
        done = await command("demo", "--cycles", "1", *ANYWHERE, option, at)
    line = f"syncwatch demo: {option}: 127.0.0.1:{port} cannot be listened on: address already in use\n"
    assert (2, "", line) == done


@pytest.mark.parametrize(
    ("option", "given", "words"),
    [
        ("--listen", "somewhere", 'syncwatch demo: --listen: "somewhere" is not an address'),
        ("--local-listen", "0.0.0.0:0", "syncwatch demo: --local-listen: 0.0.0.0:0 can be reached from elsewhere"),
        ("--relay-port", "99999", "Invalid value for '--relay-port': 99999 is not in the range"),
    ],
)
async def test_an_address_that_is_none(option: str, given: str, words: str) -> None:
    """Said before anything starts."""
    done = await command("demo", "--cycles", "1", *ANYWHERE, option, given)
    assert (2, "") == (done.code, done.out)
    assert words in done.err
    assert "Traceback" not in done.err

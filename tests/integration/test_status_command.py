"""`syncwatch status` beside a real sidecar: over HTTP and out of the file, while it lives and afterwards; once, and again and again in a real terminal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from syncwatch import Watch, screen
from tests.integration.sidecar import (
    PATIENCE_S,
    PROGRAM,
    Document,
    Rig,
    Sidecar,
    command,
    environment,
    holds,
    rig,
    until,
)
from tests.unit.test_status import KEYS

SHELL = (sys.executable, "-c", "import subprocess, sys; sys.exit(subprocess.Popen(sys.argv[1:], process_group=0).wait())")
"""What a shell does with a job."""
NOWHERE = "http://127.0.0.1:1"
TOP = KEYS.strip().splitlines()[0].split()
"""The keys of the document; `source` comes behind them."""


def status_file(it: Rig) -> Document:
    """What the status file says of the one connection, {} while there is none."""
    try:
        found: Document = json.loads((it.folder / "state" / "status.json").read_bytes())["status"]["connections"][0]
    except FileNotFoundError:
        return {}
    return found


def without_ages(value: Any) -> Any:
    """The same without what grows by itself."""
    return {key: without_ages(inner) for key, inner in value.items() if key != "age_s"} if isinstance(value, dict) else value


async def test_the_file_says_what_http_says(tmp_path: Path) -> None:
    """The same keys and the same numbers, soon after anything happened; and an exit code for each health, also out of the file."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        state = tmp_path / "state"
        it.relay.drop("watch")
        it.post(5)
        cast = await sidecar.caught_up(it.relay)
        await holds(lambda: status_file(it)["ledger"]["cursor"] == cast["ledger"]["cursor"])
        over, out_of = await asyncio.gather(
            command("status", "--url", sidecar.local, "--json"), command("status", "--url", NOWHERE, "--state-dir", state, "--json")
        )
        assert (0, 0) == (over.code, out_of.code), (over, out_of)
        asked, written = json.loads(over.out), json.loads(out_of.out)
        assert [*TOP, "source"] == list(asked) == list(written)
        assert asked["connections"][0].keys() == written["connections"][0].keys()
        for key in ("reconnects", "lifetime", "ledger", "disconnects", "upstream"):
            assert without_ages(asked["connections"][0][key]) == without_ages(written["connections"][0][key]), key
        assert {"kind": "http", "at": sidecar.local, "age_s": 0.0, "current": True, "detail": None, "unreachable": None} == asked["source"]
        assert ("file", True, None) == tuple(written["source"][key] for key in ("kind", "current", "detail"))
        with it.relay.faults.outage(status=503):
            await holds(lambda: status_file(it)["health"] == "down")
            text = await command("status", "--state-dir", state)
        assert 2 == text.code
        assert re.match(r"· as of \d.* ago, from the status file\n", text.out)
        assert "○ cast down: reconnecting for " in text.out


async def test_a_sidecar_that_is_gone(tmp_path: Path) -> None:
    """Killed, and ended: not running, last seen when, how all was then; exit code 3, nothing with a good sign."""
    async with rig(tmp_path) as it:
        for number, words in ((signal.SIGKILL, "it did not end in an orderly way"), (signal.SIGTERM, "it was stopped at")):
            async with it.sidecar(opened=False) as sidecar:
                await sidecar.until(lambda cast: cast["state"] == "open")
                await holds(lambda: status_file(it).get("state") == "open")
                await sidecar.end(number)
            told, found = await asyncio.gather(
                command("status", "--config", tmp_path / "syncwatch.yaml"), command("status", "--state-dir", tmp_path / "state", "--json")
            )
            assert (3, 3, "", "") == (told.code, found.code, told.err, found.err)
            assert f"the sidecar is not running{',' if number is signal.SIGKILL else ':'} " in told.out
            assert words in " ".join(told.out.split())
            assert "◌ cast stale: was " in told.out
            assert "●" not in told.out
            document = json.loads(found.out)
            assert (None, None, False) == (document["health"], document["connections"][0]["health"], document["source"]["current"])


async def test_the_configuration_says_where(tmp_path: Path) -> None:
    """Named or in the environment; without a file and without an answer it is exit code 3 and one line."""
    async with rig(tmp_path, state_dir=None) as it, it.sidecar() as sidecar:
        file = tmp_path / "asked.yaml"
        file.write_text(f"local_listen: {sidecar.local.removeprefix('http://')}\nspoilt: 1\n")
        named, found, gate = await asyncio.gather(
            command("status", "--config", file), command("status", SYNCWATCH_CONFIG=str(file)), command("gate", "-q", "--config", file)
        )
        assert (0, 0, 0) == (named.code, found.code, gate.code), (named, found, gate)
        await sidecar.end()
        gone = await command("status", "--config", file)
        assert (3, "", f"syncwatch: {sidecar.local}/status cannot be asked: connection refused\n") == gone


# ------------------------------------------------------------------ again and again


def often(file: Path, words: str) -> bool:
    """Whether they were written three times."""
    return file.read_text().count(words) >= 3


async def test_watching_without_a_terminal(tmp_path: Path) -> None:
    """One block after the other with a line between them; as JSON a document a line; Ctrl-C ends both, with the exit code of the last look."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        for options, seen in (((), f"\n{screen.SEPARATOR}\n● cast connected"), (("--json",), '"schema": 1')):
            out = tmp_path / f"out{len(options)}"
            with out.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    PROGRAM, "status", "--url", sidecar.local, "--watch", "--interval", "0.1", *options, env=environment(),
                    stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=asyncio.subprocess.STDOUT,
                )  # fmt: skip
            await holds(partial(often, out, seen))
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE_S):
                assert 0 == await process.wait()
            text = out.read_text()
            assert "Traceback" not in text
            assert "\x1b" not in text
        assert {"healthy"} == {json.loads(line)["health"] for line in text.splitlines()}


class Terminal:
    """A terminal with `syncwatch status --watch` in it: what was written to it, and its size."""

    def __init__(self, process: asyncio.subprocess.Process, leader: int) -> None:
        self.process, self._leader = process, leader
        self.written = b""
        os.set_blocking(leader, False)
        asyncio.get_running_loop().add_reader(leader, self._read)

    def _read(self) -> None:
        try:
            self.written += os.read(self._leader, 65_536)
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._leader)

    @property
    def text(self) -> str:
        """All that was written."""
        return self.written.decode().replace("\r\n", "\n")  # the terminal adds a carriage return to each

    @property
    def pictures(self) -> list[list[str]]:
        """The rows of each picture, without colours."""
        whole = re.findall(re.escape(screen.BEGIN) + "(.*?)" + re.escape(screen.END), self.text, re.DOTALL)
        return [re.sub(r"\x1b\[\d*m", "", picture).split("\x1b[K\r\n") for picture in whole]

    async def until(self, words: str, after: int = 0) -> list[str]:
        """Wait for a picture with these words behind the first `after` ones; returns it."""
        found: list[list[str]] = []

        async def look() -> list[list[str]]:
            found[:] = [rows for rows in self.pictures[after:] if any(words in row for row in rows)]
            return found

        return (await until(look, bool))[0]

    def resize(self, columns: int, rows: int) -> None:
        """Another size, and the signal that tells it."""
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """Give it back."""
        asyncio.get_running_loop().remove_reader(self._leader)
        os.close(self._leader)


@asynccontextmanager
async def terminal(*arguments: str, columns: int = 80, rows: int = 40, shell: Sequence[str] = (), **env: str) -> AsyncIterator[Terminal]:
    """The command in a terminal of that size; killed at the end if it is still there."""
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def lead() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = await asyncio.create_subprocess_exec(
        *shell, PROGRAM, "status", "--watch", *arguments, env=environment(TERM="xterm", **env), stdin=follower, stdout=follower, stderr=follower, preexec_fn=lead,
    )  # fmt: skip
    os.close(follower)
    made = Terminal(process, leader)
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        made.close()


async def test_watching_in_a_terminal(tmp_path: Path) -> None:
    """In place, in one piece each time, at once when the window has another size; Ctrl-C leaves the terminal as it was, and the last text in it."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar, terminal("--url", sidecar.local, "--interval", "0.2") as shown:
        await shown.until("● cast connected")
        with it.relay.faults.outage(status=503):
            await shown.until("○ cast down: reconnecting")
        await sidecar.caught_up(it.relay)
        before = len(shown.pictures)
        await shown.until("● cast connected", after=before)
        before = len(shown.pictures)
        shown.resize(120, 8)
        low = await shown.until("more lines: the window is too low", after=before)
        assert 8 == len(low)
        assert any(len(row) > 80 for row in low)
        assert "\x1b[32m" in shown.text
        os.write(shown._leader, b"\x03")  # Ctrl-C, as it is typed
        async with asyncio.timeout(PATIENCE_S):
            assert 0 == await shown.process.wait()
        await holds(lambda: shown.text.count(screen.LEAVE) == 1)
        assert 1 == shown.text.count(screen.ENTER)
        assert shown.text.startswith(screen.ENTER)
        left = shown.text.partition(screen.LEAVE)[2]
        assert "● cast connected" in left
        assert "Traceback" not in shown.text


async def test_while_it_is_stopped_the_terminal_is_somebody_elses(tmp_path: Path) -> None:
    """Ctrl-Z gives it back, and going on takes it again, with a fresh picture. As a shell's job: what has no shell cannot be stopped."""
    async with terminal("--url", NOWHERE, "--interval", "60", shell=SHELL) as shown:
        await shown.until("cannot be asked")
        job = child_of(shown.process.pid)
        os.kill(job, signal.SIGTSTP)
        await holds(lambda: state_of(job) == "T")
        await holds(lambda: shown.text.endswith(screen.LEAVE))
        before = len(shown.pictures)
        os.kill(job, signal.SIGCONT)
        await shown.until("cannot be asked", after=before)
        assert 2 == shown.text.count(screen.ENTER)
        os.kill(job, signal.SIGINT)
        async with asyncio.timeout(PATIENCE_S):
            assert 3 == await shown.process.wait()


def child_of(pid: int) -> int:
    """The one process that it has started."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def state_of(pid: int) -> str:
    """What a process does, in the system's letters."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_the_library_keeps_the_file_too(tmp_path: Path) -> None:
    """It has no HTTP; whoever gave it a state directory can ask all the same."""
    async with rig(tmp_path) as it:
        config = {"state_dir": str(tmp_path / "state"), "connections": it.config["connections"]}
        async with Watch(config):
            await holds(lambda: status_file(it).get("state") == "open")
            inside = await command("status", "--state-dir", tmp_path / "state")
        outside = await command("status", "--state-dir", tmp_path / "state")
    assert (0, 3) == (inside.code, outside.code), (inside, outside)
    assert "● cast connected" in inside.out


async def test_whatever_ends_it_the_terminal_is_given_back(tmp_path: Path) -> None:
    """SIGTERM; the process dies of it, as its parent expects. NO_COLOR is heard."""
    async with terminal("--url", NOWHERE, "--interval", "60", NO_COLOR="1") as shown:
        await shown.until("syncwatch: http://127.0.0.1:1/status cannot be asked: connection refused")
        shown.process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert -signal.SIGTERM == await shown.process.wait()
        await holds(lambda: screen.LEAVE in shown.text)
        assert not re.search(r"\x1b\[\d*m", shown.text)


async def test_a_sidecar_that_goes_and_comes_back_is_watched_on(tmp_path: Path) -> None:
    """Not there, not running any more, and there again: it is all told, and nothing ends."""
    async with rig(tmp_path) as it, terminal("--state-dir", str(tmp_path / "state"), "--interval", "0.1") as shown:
        await shown.until("does not exist")
        for _ in range(2):
            before = len(shown.pictures)
            async with it.sidecar(opened=False) as sidecar:
                await shown.until("● cast connected", after=before)
                before = len(shown.pictures)
                await end(sidecar)
                await shown.until("the sidecar is not running", after=before)
        shown.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE_S):
            assert 3 == await shown.process.wait()


async def end(sidecar: Sidecar) -> None:
    """SIGTERM."""
    code, _ = await sidecar.end()
    assert 0 == code

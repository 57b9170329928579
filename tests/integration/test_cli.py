"""The commands as processes: what they print, where, and their exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml

from syncwatch.protocols.tps.keys import token_from_text
from syncwatch.version import __version__
from tests.integration.sidecar import (
    PATIENCE_S,
    PROGRAM,
    WATCHER,
    Done,
    command,
    configuration,
    environment,
    rig,
    running,
    until,
)

USAGE, CLOSED, UNREACHABLE = 2, 1, 3

GOOD = """\
listen: 127.0.0.1:0
local_listen: 127.0.0.1:0
connections:
  - name: cast
    protocol: relaycast
    url: http://127.0.0.1:9
    token_file: {folder}/token
    heartbeat:
      interval: 15s
"""
"""Nothing listens at port 9, and nothing has to: these configurations never get so far."""

# What is changed in GOOD, and the line that says so; {file} and {folder} are filled in.
BAD: dict[str, tuple[str, str, str]] = {
    "unknown key": ("      interval: 15s", "      intervall: 15s", "{file}:9: connections[0].heartbeat.intervall: unknown key; did you mean interval?"),
    "wrong type": ("name: cast", "name: [cast]", "{file}:4: connections[0].name: "),
    "bad duration": ("interval: 15s", "interval: 15", "{file}:9: connections[0].heartbeat.interval: "),
    "foreign scheme": ("url: http://127.0.0.1:9", "url: gopher://127.0.0.1:9", "{file}:6: connections[0].url: "),
    "not yet": ("protocol: relaycast", "protocol: relaycast\n    dialect: node", "{file}:6: connections[0].dialect: dialect node does not run in syncwatch "),
    "no YAML": ("connections:", "connections: [", "{file}:"),
}  # fmt: skip


def written(folder: Path, text: str = GOOD, name: str = "syncwatch.yaml") -> Path:
    """A configuration file with a token beside it."""
    (folder / "token").write_text("at_live_" + "1" * 32)
    (folder / "empty").write_text("\n")
    file = folder / name
    file.write_text(text.replace("{folder}", str(folder)))
    return file


def one_line(done: Done, code: int = USAGE) -> str:
    """What a refused command says: one line on standard error, nothing else anywhere. Returns it."""
    assert (code, "") == (done.code, done.out), done
    assert 1 == done.err.count("\n"), done.err
    assert "Traceback" not in done.err
    return done.err.removesuffix("\n")


@contextmanager
def taken_port() -> Iterator[int]:
    """A port of the loopback on which somebody listens."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield somebody.getsockname()[1]


# ------------------------------------------------------------------ run, check config


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_configuration_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    """File, line, path and what was expected; exit code 2. `run` and `check config` say the same."""
    before, after, sentence = BAD[case]
    assert before in GOOD
    file = written(tmp_path, GOOD.replace(before, after))
    ran, checked = await asyncio.gather(command("run", "--config", file), command("check", "config", file))
    assert ran == checked
    line = one_line(ran)
    assert line.startswith(sentence.format(file=file, folder=tmp_path))
    assert "at_live" not in line


async def test_every_mistake_has_its_line(tmp_path: Path) -> None:
    """Two mistakes, two lines, in the order of the file."""
    file = written(tmp_path, GOOD.replace("interval: 15s", "interval: soon").replace("127.0.0.1:9", "127.0.0.1:0x"))
    done = await command("run", "--config", file)
    assert (USAGE, 2) == (done.code, done.err.count("\n"))
    assert [f"{file}:6", f"{file}:9"] == [line.split(": ")[0] for line in done.err.splitlines()]


async def test_no_configuration(tmp_path: Path) -> None:
    """A file that is not there, and none named at all."""
    missing = tmp_path / "nowhere.yaml"
    assert f"{missing}: no such file" == one_line(await command("run", "--config", missing))
    assert "SYNCWATCH_CONFIG" in one_line(await command("run"))
    assert one_line(await command("run", SYNCWATCH_CONFIG=str(missing))).startswith(f"{missing}: ")
    assert f"{missing}: no such file" == one_line(await command("check", "config", missing))


async def test_a_good_configuration(tmp_path: Path) -> None:
    """`check config` says so and exits with 0."""
    file = written(tmp_path)
    assert Done(0, f"{file}: ok\n", "") == await command("check", "config", file)


@pytest.mark.parametrize(("name", "why"), [("nowhere", "no such file"), (".", "is a directory"), ("empty", "is empty")])
async def test_a_token_that_may_come_later_is_a_warning(tmp_path: Path, name: str, why: str) -> None:
    """With file, line and path, and exit code 0: `run` would start with it."""
    path = (tmp_path / name).resolve()
    file = written(tmp_path, GOOD.replace("{folder}/token", str(path)))
    warning = f"warning: {file}:7: connections[0].token_file: {path}: {why}\n"
    assert Done(0, f"{file}: ok\n", warning) == await command("check", "config", file)


@pytest.mark.parametrize("key", ["listen", "local_listen"])
async def test_a_port_in_use(tmp_path: Path, key: str) -> None:
    """One line with file, line and key; and the state of an earlier process is left as it was."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    kept = b'{"schema":1,"instance":"earlier","connections":{}}'
    (state / "state.json").write_bytes(kept)
    (state / "state.json").chmod(0o600)
    with taken_port() as port:
        text = GOOD.replace(f"{key}: 127.0.0.1:0", f"{key}: 127.0.0.1:{port}", 1)
        file = written(tmp_path, text + f"state_dir: {state}\n")
        line = one_line(await command("run", "--config", file))
    number = 1 if key == "listen" else 2
    assert f"{file}:{number}: {key}: 127.0.0.1:{port} cannot be listened on: address already in use" == line
    assert kept == (state / "state.json").read_bytes()


async def test_a_listener_from_the_environment_that_is_in_use(tmp_path: Path) -> None:
    """The line names the variable, not the file."""
    file = written(tmp_path, GOOD + f"state_dir: {tmp_path / 'state'}\n")
    with taken_port() as port:
        line = one_line(await command("run", "--config", file, SYNCWATCH_LISTEN=f"127.0.0.1:{port}"))
    assert f"SYNCWATCH_LISTEN: listen: 127.0.0.1:{port} cannot be listened on: address already in use" == line


async def test_a_state_dir_of_another_sidecar(tmp_path: Path) -> None:
    """Two sidecars never share one; the first goes on undisturbed."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        file = tmp_path / "second.yaml"
        file.write_text(yaml.safe_dump(it.config))
        line = one_line(await command("run", "--config", file))
        number = file.read_text().splitlines().index(f"state_dir: {tmp_path}/state") + 1
        assert f"{file}:{number}: state_dir: state_dir {tmp_path}/state is used by another syncwatch: give each sidecar its own" == line
        assert 200 == (await sidecar.gate())[0]


async def test_a_hangup_does_not_end_it(tmp_path: Path) -> None:
    """SIGHUP means reload to whoever sends it; the file says what it said, and nothing changes."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        sidecar.process.send_signal(signal.SIGHUP)
        said = await sidecar.said("the configuration was reloaded: nothing changed")
        assert "info" == said["level"]
        assert 200 == (await sidecar.gate())[0]


async def test_version() -> None:
    """Name, version, Python."""
    done = await command("--version")
    assert (0, "") == (done.code, done.err)
    assert done.out.startswith(f"syncwatch {__version__}, Python 3.")


# ------------------------------------------------------------------ status, gate


async def test_status_and_gate(tmp_path: Path) -> None:
    """healthy 0, degraded 1, down 2; open 0, closed 1. `--json` is the document, the text is for people."""
    async with rig(tmp_path, cast={"verify": {"interval": "300ms", "grace": "100ms"}}) as it, it.sidecar() as sidecar:
        url = ("--url", sidecar.local)
        text, whole, gate = await asyncio.gather(
            command("status", *url), command("status", *url, "--json"), command("gate", *url)
        )
        assert (0, 0, 0) == (text.code, whole.code, gate.code), (text, whole, gate)
        assert "connected" in text.out
        assert "\x1b" not in text.out, "no colours where no terminal is"
        assert "open" == json.loads(whole.out)["connections"][0]["state"]
        assert ("read", True) == (json.loads(gate.out)["for"], json.loads(gate.out)["open"])

        async with it.talk():
            with it.relay.faults.stalling(agent=WATCHER):
                await until(sidecar.status, lambda status: status["degraded_reason"] == "behind")
                text, read, write, quiet = await asyncio.gather(
                    command("status", *url),
                    command("gate", *url),
                    command("gate", *url, "--for", "write"),
                    command("gate", *url, "-q"),
                )
            assert (1, 1, 0) == (text.code, read.code, write.code)
            assert "restart its push path" in " ".join(text.out.split()), "the advice is what to do"
            assert "behind" in json.loads(read.out)["detail"]
            assert Done(1, "", "") == quiet

        with it.relay.faults.outage():
            await until(sidecar.status, lambda status: status["health"] == "down")
            text, read, write = await asyncio.gather(
                command("status", *url), command("gate", *url), command("gate", *url, "--for", "write")
            )
            assert (2, 1, 1) == (text.code, read.code, write.code)
            assert "rejected: the server refused with HTTP 503" in " ".join(text.out.split())


@pytest.mark.parametrize("verb", ["status", "gate", "flush"])
async def test_nobody_there(verb: str) -> None:
    """Exit code 3, one line; a proxy of the environment is not asked for a local sidecar."""
    with taken_port() as port:
        pass  # and now it is free
    line = one_line(await command(verb, "--url", f"http://127.0.0.1:{port}", http_proxy="http://127.0.0.1:1"), UNREACHABLE)
    assert line.startswith(f"syncwatch: http://127.0.0.1:{port}/")
    assert line.endswith("cannot be asked: connection refused")


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """A server that says the same to everybody; yields its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def http_answer(status: str, body: str = "", *headers: str) -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", body]
    return "\r\n".join(lines).encode()


STRANGERS = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "nothing": b"",
    "a page": http_answer("200 OK", "<html>"),
    "a list": http_answer("200 OK", "[]"),
    "another document": http_answer("200 OK", '{"ok":true}'),
    "not found": http_answer("404 Not Found"),
    "a redirect": http_answer("302 Found", "", "Location: http://127.0.0.1:1/"),
    "no token": http_answer("401 Unauthorized", "refused"),
}


@pytest.mark.parametrize("verb", ["status", "gate", "flush"])
@pytest.mark.parametrize("stranger", STRANGERS)
async def test_somebody_else_answers(verb: str, stranger: str) -> None:
    """Whatever is no answer of a sidecar is exit code 3, never an open gate."""
    async with answering(STRANGERS[stranger]) as url:
        assert url in one_line(await command(verb, "--url", url), UNREACHABLE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gate", "--url", "ftp://127.0.0.1"), "--url: "),
        (("gate", "--url", "http://127.0.0.1:port"), "--url: "),
        (("gate", "--url", "http://[::1"), "--url: "),
        (("gate", "--token-file", "/nonexistent/token"), "--token-file: /nonexistent/token: no such file"),
    ],
)
async def test_a_question_that_cannot_be_asked(arguments: tuple[str, ...], words: str) -> None:
    """Usage: exit code 2."""
    assert one_line(await command(*arguments)).startswith(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--url", "127.0.0.1:10120"), "--url: "),
        (("--url", "http://127.0.0.1:port"), "--url: "),
        (("--watch", "--url", "http://[::1"), "--url: "),
        (("--token-file", "/nonexistent/token"), "--token-file: /nonexistent/token: no such file"),
        (("--config", "/nonexistent/syncwatch.yaml"), "/nonexistent/syncwatch.yaml: "),
        (("--interval", "often"), "Usage: syncwatch status"),
        (("--nonsense",), "Usage: syncwatch status"),
        (("more",), "Usage: syncwatch status"),
    ],
)
async def test_a_question_about_the_status_that_cannot_be_asked(arguments: tuple[str, ...], words: str) -> None:
    """Whoever finds the mistake, it is exit code 64: 2 would say that something is down."""
    done = await command("status", *arguments)
    assert (64, "") == (done.code, done.out)
    assert done.err.startswith(words), done.err
    assert "Traceback" not in done.err


async def test_a_local_listener_with_a_token(tmp_path: Path) -> None:
    """Without it 401 and exit code 3, with it the answer; a rotated token counts at once; nothing of it in the log."""
    secret = tmp_path / "local-token"
    secret.write_text("open-sesame\n")
    async with rig(tmp_path, local_token_file=str(secret)) as it, it.sidecar(opened=False) as sidecar:
        for path in ("/status", "/gate", "/events"):
            assert 401 == (await sidecar.get(sidecar.local + path))[0]
        ask = {"Authorization": "Bearer open-sesame"}
        await until(
            lambda: sidecar.status(**ask), lambda status: status["connections"][0]["state"] == "open"
        )
        refused = await command("gate", "--url", sidecar.local)
        assert "HTTP 401" in one_line(refused, UNREACHABLE)
        assert 0 == (await command("gate", "--url", sidecar.local, "--token-file", secret, "-q")).code
        assert 0 == (await command("status", "--url", sidecar.local, "--token-file", secret)).code
        secret.write_text("another-word")
        assert 401 == (await sidecar.get(f"{sidecar.local}/status", **ask))[0]
        assert 200 == (await sidecar.get(f"{sidecar.local}/status", Authorization="Bearer another-word"))[0]
        secret.unlink()
        assert 503 == (await sidecar.get(f"{sidecar.local}/status", Authorization="Bearer another-word"))[0]
        assert (200, "ok") == await sidecar.probe("/healthz"), "probes need no token"
        assert 200 == (await sidecar.get(f"{sidecar.public}/metrics"))[0]
        assert "sesame" not in sidecar.text()
        await sidecar.said(unreadable := "the local listener refuses everybody: its token file cannot be read")
        assert 503 == (await sidecar.get(f"{sidecar.local}/status", **ask))[0]
        await sidecar.end()
        assert 1 == len(sidecar.log(unreadable)), "once, however often it is asked"


# ------------------------------------------------------------------ relay


@asynccontextmanager
async def relay_process(*arguments: str | Path, lines: int | None = None) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    """`syncwatch relay` with what it printed at the start."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "relay", "--listen", "127.0.0.1:0", *map(str, arguments), env=environment(),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    count = lines or 1 + (2 + arguments.count("--agent") - 1 if "--agent" in arguments else 0)
    try:
        async with asyncio.timeout(60):
            yield process, [(await process.stdout.readline()).decode().rstrip() for _ in range(count)]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_relay_alone(tmp_path: Path) -> None:
    """It says where it listens and gives agents their tokens; a sidecar connects; its script plays; SIGTERM ends it with 0."""
    script = tmp_path / "trouble.yaml"
    script.write_text("repeat_every_s: 1\nsteps:\n  - {at_s: 0.5, fault: drop, agent: watch}\n")
    async with relay_process("--agent", "watch", "--agent", "alice", "--script", script) as (process, lines):
        url = lines[0].split()[3].rstrip(";")
        assert f"relay listening on {url}; facts at {url}/_relay/ledger, faults at {url}/_relay/faults" == lines[0]
        assert lines[1].startswith("workspace demo: rk_live_")
        tokens = dict(line.removeprefix("agent ").split(": ") for line in lines[2:])
        assert ["watch", "alice"] == list(tokens)
        token_file = tmp_path / "token"
        token_file.write_text(tokens["watch"])
        async with aiohttp.ClientSession() as http:
            config = configuration(url, token_file, tmp_path)
            async with running(tmp_path, config, http) as sidecar:
                await sidecar.until(lambda cast: cast["disconnects"]["network"] >= 1 and cast["state"] == "open")
            async with http.get(f"{url}/_relay/ledger") as answer:
                facts = (await answer.json())["facts"]
        assert sum(one["fact"] == "opened" for one in facts) >= 2
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert 0 == await process.wait()


async def test_a_relay_that_cannot_start(tmp_path: Path) -> None:
    """Each mistake is one line that names the option."""
    script = tmp_path / "bad.yaml"
    script.write_text("steps:\n  - {at_s: 1, fault: earthquake}\n")
    with taken_port() as port:
        busy, nowhere, told, nobody = await asyncio.gather(
            command("relay", "--listen", f"127.0.0.1:{port}"),
            command("relay", "--listen", "somewhere"),
            command("relay", "--listen", "127.0.0.1:0", "--script", script),
            command("relay", "--listen", "127.0.0.1:0", "--database", tmp_path / "nowhere" / "relay.db"),
        )
    assert f"syncwatch relay: --listen: 127.0.0.1:{port} cannot be listened on: address already in use" == one_line(busy)
    assert one_line(nowhere).startswith('syncwatch relay: --listen: "somewhere" is not an address')
    assert one_line(told).startswith(f"syncwatch relay: --script: {script}:2: steps[0].fault: ")
    assert one_line(nobody).startswith(f"syncwatch relay: --database: {tmp_path}/nowhere/relay.db: ")



async def test_the_relay_gives_what_each_protocol_needs(tmp_path: Path) -> None:
    """Observers (and then no agent is let in at the socket), Relayfile workspaces, a fixed token out of a file, a branch to join."""
    (tmp_path / "token").write_text("sesame\n")
    arguments = ("--observer", "watch", "--relayfile", "docs", "--relayfile-token-file", tmp_path / "token", "--branch")
    async with relay_process(*arguments, lines=5) as (_, lines), aiohttp.ClientSession() as http:
        url = lines[0].split()[3].rstrip(";")
        tokens = dict(line.split(": ", 1) for line in lines[1:])
        assert ["workspace demo", "observer watch", "relayfile docs", "branch b1"] == list(tokens)
        assert url == token_from_text(tokens["branch b1"]).url.replace("ws://", "http://").removesuffix("/tps/wire")
        async with http.ws_connect(f"{url}/v1/ws?token={tokens['observer watch']}"):
            pass
        for token in (tokens["relayfile docs"], "sesame"):
            async with http.ws_connect(f"{url}/v1/workspaces/docs/fs/ws?token={token}&from=now"):
                pass
    kept = ("--branch", "--branch-identity", tmp_path / "branch", "--branch-tcp", "0")
    told = []
    for _ in range(2):
        async with relay_process(*kept, lines=3) as (_, lines):
            told.append([token_from_text(line.split(": ", 1)[1]) for line in lines[1:]])
    assert ["ws", "tcp"] * 2 == [token.transport for tokens in told for token in tokens]
    assert 1 == len({token.encryption_key for tokens in told for token in tokens}), "the same branch after a restart, at either door"
    (tmp_path / "branch" / "branch.seed").write_text("no seed")
    mistaken = await command("relay", "--listen", "127.0.0.1:0", "--branch-identity", tmp_path / "branch")
    assert f"syncwatch relay: --branch-identity: {tmp_path}/branch/branch.seed is no seed of 32 bytes" == one_line(mistaken)
    (tmp_path / "empty").write_text("\n")
    none, empty = await asyncio.gather(
        command("relay", "--listen", "127.0.0.1:0", "--relayfile-token-file", tmp_path / "token"),
        command("relay", "--listen", "127.0.0.1:0", "--relayfile", "docs", "--relayfile-token-file", tmp_path / "empty"),
    )
    assert "syncwatch relay: --relayfile-token-file: needs exactly one --relayfile workspace" == one_line(none)
    assert f"syncwatch relay: --relayfile-token-file: {tmp_path}/empty is empty" == one_line(empty)

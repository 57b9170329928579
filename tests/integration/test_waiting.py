"""A sidecar whose configuration or token is not there yet, or is wrong: it keeps nobody from starting, says so wherever it is asked, and goes on by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import yaml

from syncwatch import waiting
from syncwatch.app import AddressInUse
from syncwatch.config import Address, ConfigFile
from syncwatch.config.whereabouts import Doors
from tests.integration.kubelet import Prober
from tests.integration.sidecar import (
    PATIENCE_S,
    PROGRAM,
    Asked,
    Rig,
    Sidecar,
    command,
    environment,
    holds,
    rig,
    running,
    until,
)

WAIT = "--wait-for-config"
WAITS = "the configuration cannot be used, syncwatch waits for another one"
DEPLOY = Path(__file__).parents[2] / "deploy"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback on which nobody listens."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Probed(NamedTuple):
    """A kubelet beside a sidecar, with the probes that deploy/ ships, but for the liveness probe's ten seconds."""

    startup: Prober
    liveness: Prober


@asynccontextmanager
async def kubelet(public: str) -> AsyncIterator[Probed]:
    """It probes for the length of a block, and at its end nothing was to be restarted."""
    manifest = yaml.safe_load((DEPLOY / "component/sidecar.yaml").read_text(encoding="utf-8"))
    (container,) = manifest["spec"]["template"]["spec"]["initContainers"]
    host, _, port = public.removeprefix("http://").rpartition(":")
    startup, liveness = (Prober(container[kind] | {"periodSeconds": 1}, host, int(port)) for kind in ("startupProbe", "livenessProbe"))
    task = asyncio.create_task(liveness.run())
    try:
        yield Probed(startup, liveness)
        assert 0 == liveness.restarts
    finally:
        task.cancel()
        await asyncio.wait([task])


def spoilt(it: Rig, how: str) -> tuple[str, list[str]]:
    """What the file says, and what there is to say about it."""
    file, good = it.folder / "syncwatch.yaml", yaml.safe_dump(it.config)
    match how:
        case "missing":
            return "", [f"{file}: no such file"]
        case "no YAML":
            return f"{good}\nlog: [\n", [f"{file}:"]
        case "wrong keys":
            return f"{good}\nnonsense: 1\nauto_reload: 5\n", [f"{file}:{good.count(chr(10)) + 2}: nonsense: ", f"{file}:{good.count(chr(10)) + 3}: auto_reload: "]
        case _:
            return good.replace("protocol: relaycast", "protocol: relaycast\n  dialect: node"), [f"{file}:"]


async def waits(made: Sidecar, mistakes: list[str]) -> None:
    """Alive and started up, not ready, the gate closed, and each mistake told."""
    for path in ("/livez", "/healthz"):
        assert (200, "ok") == await made.probe(path)
    assert (503, "[-]configuration failed: reason withheld\nreadyz check failed\n") == await made.probe("/readyz")
    scrape = await made.scrape()
    assert 0 == scrape.value("syncwatch_config_last_reload_successful")
    assert [] == scrape.all("syncwatch_config_last_reload_success_timestamp_seconds")
    assert 1 == scrape.value("syncwatch_build_info")
    assert [] == scrape.all("syncwatch_connection_up")
    for purpose in ("read", "write"):
        code, answer = await made.gate(purpose)
        assert (503, False) == (code, answer["open"])
        assert answer["detail"].startswith(f"no usable configuration: {mistakes[0]}")
    status = await made.status()
    assert ("down", [], None) == (status["health"], status["connections"], status["sidecar"]["config"]["last_successful_reload"])
    logged = [line["mistake"] for line in await made.logged(WAITS, lambda lines: len(lines) >= len(mistakes))]
    for told in (status["sidecar"]["config"]["errors"], logged):
        assert [True] * len(mistakes) == [line.startswith(mistake) for line, mistake in zip(told, mistakes, strict=True)], told


async def opened(made: Asked) -> None:
    """It runs, as if it had been started with this file."""

    async def look() -> dict[str, Any]:
        try:
            return await made.status()
        except (aiohttp.ClientConnectionError, TimeoutError):  # between the listeners of the one and of the other
            return {"connections": []}

    await until(look, lambda status: [one["state"] for one in status["connections"]] == ["open"], 3 * PATIENCE_S)
    assert 1 == (await made.scrape()).value("syncwatch_config_last_reload_successful")


@pytest.mark.parametrize(("how", "then"), [("missing", "by itself"), ("no YAML", "SIGHUP"), ("wrong keys", "/-/reload"), ("refused", "by itself")])
async def test_it_waits_and_starts_when_the_file_is_right(tmp_path: Path, how: str, then: str) -> None:
    """The application starts at once, nobody is restarted, everybody is told; the same process then runs, on the same addresses."""
    listen, local = free_ports(2)
    addresses = {"listen": f"127.0.0.1:{listen}", "local_listen": f"127.0.0.1:{local}"}
    async with rig(tmp_path, **addresses) as it:
        text, mistakes = spoilt(it, how)
        if text:
            (tmp_path / "syncwatch.yaml").write_text(text)
        env = {} if how in ("wrong keys", "refused") else {"SYNCWATCH_LISTEN": addresses["listen"]}
        async with running(tmp_path, None, it.http, WAIT, **env) as made, kubelet(f"http://127.0.0.1:{listen}") as probed:
            assert f"http://127.0.0.1:{listen}" == made.public
            assert await probed.startup.ask(), "the application would start now"
            await waits(made, mistakes)
            await holds(lambda: probed.liveness.probes >= 2)
            assert 0 == probed.liveness.failures
            (tmp_path / "syncwatch.yaml").write_text(yaml.safe_dump(it.config))
            match then:
                case "SIGHUP":
                    made.process.send_signal(signal.SIGHUP)
                case "/-/reload":
                    async with made.http.post(f"{made.local}/-/reload") as answer:
                        assert (200, {"reloaded": True, "errors": []}) == (answer.status, await answer.json())
            await made.said("the configuration can be used: starting with it")
            made.local = f"http://127.0.0.1:{local}"
            await opened(made)
            assert (200, "ok") == await made.probe("/readyz")
            assert made.process.returncode is None
            assert 0 == (await made.end())[0]


async def test_other_mistakes_are_told(tmp_path: Path) -> None:
    """Whoever corrects one and makes another is told of that one."""
    async with rig(tmp_path) as it:
        file = tmp_path / "syncwatch.yaml"
        file.write_text("listen: 127.0.0.1:0\nlocal_listen: 127.0.0.1:0\nnonsense: 1\n")
        async with running(tmp_path, None, it.http, WAIT) as made:
            file.write_text(yaml.safe_dump(it.config) + "auto_reload: soon\n")
            async with made.http.post(f"{made.local}/-/reload") as answer:
                assert 422 == answer.status
                (told,) = (await answer.json())["errors"]
            assert "auto_reload: " in told
            assert f"no usable configuration: {told}" == (await made.gate())[1]["detail"]


async def test_the_local_token_holds_while_it_waits(tmp_path: Path) -> None:
    """Nobody is told anything, nor has the file read, without it; while it cannot be read, nobody at all."""
    async with rig(tmp_path) as it:
        token = tmp_path / "local-token"
        (tmp_path / "syncwatch.yaml").write_text(f"listen: 127.0.0.1:0\nlocal_listen: 127.0.0.1:0\nlocal_token_file: {token}\nnonsense: 1\n")
        async with running(tmp_path, None, it.http, WAIT) as made:
            assert [503] * 3 == await answers(made)
            assert [503] * 3 == await answers(made, "known")
            token.write_text("known\n")
            assert [401] * 3 == await answers(made)
            assert [401] * 3 == await answers(made, "guessed")
            assert [200, 503, 422] == await answers(made, "known")
            assert (200, "ok") == await made.probe("/healthz")


async def test_a_token_that_is_named_while_it_waits(tmp_path: Path) -> None:
    """A file that comes later, as wrong as none: who asks without its token is not told what is wrong with it, not even who has it read."""
    listen, local = free_ports(2)
    addresses = f"listen: 127.0.0.1:{listen}\nlocal_listen: 127.0.0.1:{local}\n"
    async with rig(tmp_path) as it:
        token, file = tmp_path / "local-token", tmp_path / "syncwatch.yaml"
        token.write_text("known")
        file.write_text(f"{addresses}nonsense: 1\n")
        async with running(tmp_path, None, it.http, WAIT) as made:
            assert [200, 503, 422] == await answers(made)
            file.write_text(f"{addresses}local_token_file: {token}\nauto_reload: private\n")
            async with made.http.post(f"{made.local}/-/reload") as answer:
                assert (422, {"reloaded": False, "errors": [waiting.BEHIND]}) == (answer.status, await answer.json())
            await made.logged("listening", lambda lines: len(lines) >= 2)
            assert [401] * 3 == await answers(made)
            assert "private" in str((await made.status(Authorization="Bearer known"))["sidecar"]["config"]["errors"])
            (tmp_path / "syncwatch.yaml").write_text(yaml.safe_dump(it.config))
            made.process.send_signal(signal.SIGHUP)
            await made.said("the configuration can be used: starting with it")


async def answers(made: Sidecar, token: str | None = None) -> list[int]:
    """To questions for the status and the gate, and to somebody who has the file read."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    found = []
    for method, path in (("GET", "/status"), ("GET", "/gate"), ("POST", "/-/reload")):
        async with made.http.request(method, made.local + path, headers=headers) as answer:
            found.append(answer.status)
    return found


async def test_the_end_while_it_waits(tmp_path: Path) -> None:
    """SIGTERM is an orderly end; a gate file that a killed process left behind is gone at once."""
    async with rig(tmp_path) as it:
        gate = tmp_path / "gate"
        gate.touch()
        (tmp_path / "syncwatch.yaml").write_text(f"listen: 127.0.0.1:0\nlocal_listen: 127.0.0.1:0\ngate_file: {gate}\nnonsense: 1\n")
        async with running(tmp_path, None, it.http, WAIT) as made:
            assert not gate.exists()
            assert 0 == (await made.end())[0]


async def test_what_is_not_to_be_had_is_waited_for_as_well(tmp_path: Path) -> None:
    """A state directory that another sidecar still holds, as at a rollout: said with its line, and taken when it is free."""
    async with rig(tmp_path) as it, it.sidecar() as earlier:
        folder = tmp_path / "next"
        folder.mkdir()
        async with running(folder, it.config, it.http, WAIT) as made:
            told = await made.logged(WAITS, bool)
            assert told[0]["mistake"].startswith(f"{folder}/syncwatch.yaml:")
            assert told[0]["mistake"].endswith(f"state_dir: state_dir {tmp_path}/state is used by another syncwatch: give each sidecar its own")
            assert 0 == (await earlier.end())[0]
            made.process.send_signal(signal.SIGHUP)
            await listening_again(made)
            await opened(made)


async def listening_again(made: Sidecar) -> None:
    """Where it listens since it runs: these tests let it take any free port."""
    lines = await made.logged("listening", lambda lines: len(lines) >= 2)
    made.public, made.local = f"http://{lines[-1]['listen']}", f"http://{lines[-1]['local_listen']}"


@contextmanager
def taken_port() -> Iterator[int]:
    """A port of the loopback on which somebody listens."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield somebody.getsockname()[1]


async def test_a_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes are answered at the default address then, for the port may be the mistake; only where that is taken too nobody could be told, which ends it."""
    with taken_port() as port:
        file = ConfigFile(tmp_path / "syncwatch.yaml", {})
        where = Doors(listen=Address("127.0.0.1", port), local_listen=Address("127.0.0.1", 0))
        monkeypatch.setattr(waiting, "ELSEWHERE", Address("127.0.0.1", 0))
        made, stop = waiting.Waiting(file, where, ["nonsense: unknown key"]), asyncio.Event()
        until_then = asyncio.create_task(made.until(stop))
        async with aiohttp.ClientSession() as http:
            await holds(lambda: made.addresses.keys() == {"listen", "local_listen"})
            assert port != made.addresses["listen"].port
            assert (200, "ok") == await Asked(f"http://{made.addresses['listen']}", "", http).probe("/healthz")
        stop.set()
        assert None is await until_then
        monkeypatch.setattr(waiting, "ELSEWHERE", Address("127.0.0.1", port))
        with pytest.raises(AddressInUse, match=rf"^listen: 127\.0\.0\.1:{port} cannot be listened on: address already in use$"):
            await waiting.Waiting(file, where, ["nonsense: unknown key"]).until(asyncio.Event())


async def test_a_local_port_that_is_taken(tmp_path: Path) -> None:
    """It goes on without; unreachable means closed."""
    with taken_port() as port:
        (tmp_path / "syncwatch.yaml").write_text(f"listen: 127.0.0.1:0\nlocal_listen: 127.0.0.1:{port}\nnonsense: 1\n")
        async with aiohttp.ClientSession() as http, running(tmp_path, None, http, WAIT) as made:
            assert "address already in use" in (await made.said("waiting without a local listener"))["detail"]
            assert (200, "ok") == await made.probe("/healthz")


async def test_without_the_option_it_ends(tmp_path: Path) -> None:
    """As people at a terminal want it; and no file named at all is nobody's to wait for."""
    missing = tmp_path / "nowhere.yaml"
    assert (2, f"{missing}: no such file\n") == (await command("run", "--config", missing))[::2]
    done = await command("run", WAIT)
    assert (2, True) == (done.code, done.err.startswith("syncwatch: no configuration: "))


@pytest.mark.parametrize("way", ["a named pipe", "a substitution"])
async def test_a_pipe_is_waited_for_by_nobody(tmp_path: Path, way: str) -> None:
    """What it said it will not say again: it ends with the mistakes, as without the option, and listens nowhere."""
    text = b"listen: 127.0.0.1:0\nlocal_listen: 127.0.0.1:0\nnonsense: 1\n"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader, writer = os.pipe()
    os.write(writer, text)
    os.close(writer)
    path = str(pipe) if way == "a named pipe" else f"/dev/fd/{reader}"
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "run", WAIT, "--config", path, env=environment(), pass_fds=(reader,),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    writing = asyncio.create_task(asyncio.to_thread(pipe.write_bytes, text))
    try:
        async with asyncio.timeout(2 * PATIENCE_S):
            _, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(reader)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # whoever still waits for a reader has one
        await writing
        os.close(reader)
    assert (2, True) == (process.returncode, f"{path}:3: nonsense: " in err.decode()), err


@pytest.mark.parametrize(("content", "options"), [(None, ()), ("", (WAIT,)), ("\n", ())])
async def test_a_token_that_is_not_there_yet(tmp_path: Path, content: str | None, options: tuple[str, ...]) -> None:
    """Its connection is `unauthorized`, naming the file; another one runs; with the token it opens at once, without a reload."""
    async with rig(tmp_path) as it:
        late = tmp_path / "late"
        if content is not None:
            late.write_text(content)
        other = it.config["connections"][0] | {"name": "late", "token_file": str(late)}
        it.config["connections"].append(other)
        async with running(tmp_path, it.config, it.http, *options) as made:
            why = "no such file" if content is None else "is empty"
            line = await made.said("a file cannot be read yet: what uses it waits for it, everything else runs")
            assert line["mistake"].endswith(f"connections[1].token_file: {late}: {why}")
            status = await until(made.status, states("open", "failed"))
            reasons = {(one["name"], one["reason"]) for one in status["reasons"]}
            assert ("late", "unauthorized") in reasons
            assert status["connections"][1]["attempts"]["last_failure"].startswith(f"unauthorized: token file {late}: {why}")
            assert (200, "ok") == await made.probe("/healthz")
            assert 1 == (await made.scrape()).value("syncwatch_config_last_reload_successful")
            async with made.http.post(f"{made.local}/-/reload") as answer:
                assert 200 == answer.status, "what is missing already keeps nothing from changing"
            late.write_text(it.token)
            await until(made.status, states("open", "open"))


def states(*wanted: str) -> Callable[[dict[str, Any]], bool]:
    """Whether the connections in /status are in these states."""
    return lambda status: list(wanted) == [one["state"] for one in status["connections"]]

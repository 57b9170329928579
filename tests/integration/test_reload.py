"""A changed configuration in a real sidecar: what stays connected, what comes and goes, and that a wrong file changes nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncwatch.relay import Relay
from syncwatch.relay.ledger import Closed, Opened
from tests.integration.sidecar import PROMPTLY_S, WATCHER, Document, Rig, Sidecar, holds, rig, until
from tests.integration.test_relayfile_sidecar import rig as file_rig

DONE = "the configuration was reloaded"
NOT = "the configuration was not reloaded, what ran before goes on"
SUCCESSFUL = "syncwatch_config_last_reload_successful"
SUCCESS_TIME = "syncwatch_config_last_reload_success_timestamp_seconds"


def rewrite(it: Rig, document: Document | None = None, **cast: Any) -> Path:
    """Change the file: the whole of it, or keys of its one connection."""
    file, written = it.folder / "syncwatch.yaml", it.folder / "written"
    it.config["connections"][0].update(cast)
    written.write_text(yaml.safe_dump(document or it.config))
    return written.rename(file)  # whole at every moment


async def post(sidecar: Sidecar, **headers: str) -> tuple[int, str]:
    """POST /-/reload."""
    async with sidecar.http.post(f"{sidecar.local}/-/reload", headers=headers) as answer:
        return answer.status, await answer.text()


async def reloaded(sidecar: Sidecar) -> None:
    """Asked for, and applied."""
    code, text = await post(sidecar)
    assert (200, {"reloaded": True, "errors": []}) == (code, json.loads(text))


async def refused(sidecar: Sidecar) -> list[str]:
    """Asked for, and not applied: why."""
    code, text = await post(sidecar)
    answer = json.loads(text)
    assert (422, False) == (code, answer["reloaded"]), text
    errors: list[str] = answer["errors"]
    return errors


def undisturbed(relay: Relay, agent: str = WATCHER) -> bool:
    """The relay saw one connection of the agent, and no end of it."""
    return (1, 0) == (len(relay.ledger.of(Opened, agent)), len(relay.ledger.of(Closed, agent)))


async def names(sidecar: Sidecar) -> list[str]:
    """The connections in /status, in their order."""
    return [one["name"] for one in (await sidecar.status())["connections"]]


async def by_request(sidecar: Sidecar) -> None:
    """POST /-/reload."""
    await reloaded(sidecar)


async def by_signal(sidecar: Sidecar) -> None:
    """SIGHUP."""
    sidecar.process.send_signal(signal.SIGHUP)
    await sidecar.said(DONE)


async def by_itself(sidecar: Sidecar) -> None:
    """The file is looked at."""
    await sidecar.said(DONE)


@pytest.mark.parametrize("trigger", [by_request, by_signal, by_itself])
async def test_an_interval_changes_and_nothing_is_dropped(tmp_path: Path, trigger: Callable[[Sidecar], Awaitable[None]]) -> None:
    """Pings come faster on the same socket, counters go on, and a line says what was changed."""
    async with rig(tmp_path, cast={"heartbeat": {"interval": "60s"}}, auto_reload="1s") as it, it.sidecar() as sidecar:
        it.post(3)
        before = await sidecar.caught_up(it.relay)
        rewrite(it, heartbeat={"interval": "100ms", "timeout": "500ms"})
        await trigger(sidecar)
        after = await sidecar.until(lambda cast: cast["heartbeats"]["acknowledged"] >= before["heartbeats"]["acknowledged"] + 5)
        assert undisturbed(it.relay)
        assert (before["started"]["time"], before["ledger"]["events"]) == (after["started"]["time"], after["ledger"]["events"])
        line = await sidecar.said(DONE)
        assert ("info", ["cast"]) == (line["level"], line["configured"])
        it.post(1)
        await sidecar.caught_up(it.relay)


async def test_connections_come_and_go(tmp_path: Path) -> None:
    """An added one is connected and has its series; a removed one is closed with 1000, and its series and its state disappear."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        token = it.folder / "other-token"
        token.write_text(it.relay.directory.create_agent(it.relay.find(WATCHER).workspace, "other")["token"])
        cast = it.config["connections"][0]
        other = cast | {"name": "second", "token_file": str(token)}
        rewrite(it, it.config | {"connections": [other, cast]})
        await reloaded(sidecar)
        assert ["second", "cast"] == await names(sidecar)
        status = await until(sidecar.status, lambda status: all(one["state"] == "open" for one in status["connections"]))
        assert {"connection/second", "connection/cast"} <= {one["name"] for one in status["checks"]["readyz"]}
        assert "connection/second" in [one["task"] for one in status["sidecar"]["tasks"]]
        scrape = await sidecar.scrape()
        assert 1.0 == scrape.value("syncwatch_connection_up", connection="second")
        assert scrape.all("syncwatch_degradations_total", name="second")

        renamed = other | {"name": "third"}
        rewrite(it, it.config | {"connections": [cast, renamed]})
        await reloaded(sidecar)
        assert ["cast", "third"] == await names(sidecar)
        await holds(lambda: 2 == len(it.relay.ledger.of(Opened, "other")))
        (closed,) = it.relay.ledger.of(Closed, "other")
        assert (1000, "client") == (closed.code, closed.by)
        assert '"second"' not in (await sidecar.scrape()).text
        assert "connection/second" not in [one["task"] for one in (await sidecar.status())["sidecar"]["tasks"]]

        def kept() -> set[str]:
            return set(json.loads((it.folder / "state" / "state.json").read_bytes())["connections"])

        await holds(lambda: {"cast", "third"} == kept())
        rewrite(it)
        await reloaded(sidecar)
        await holds(lambda: {"cast"} == kept())
        assert undisturbed(it.relay)
        it.post(2)
        await sidecar.caught_up(it.relay)
        assert 0 == (await sidecar.end())[0]
        assert "Traceback" not in sidecar.text()


async def test_a_re_aimed_connection_is_a_new_session_with_its_old_totals(tmp_path: Path) -> None:
    """The same name, another server: counters start again at 0 as after a restart, the lifetime goes on, and no number is carried over."""
    async with rig(tmp_path) as it, Relay.start() as elsewhere, it.sidecar() as sidecar:
        workspace = elsewhere.workspace("w")
        (it.folder / "token-there").write_text(elsewhere.agent(workspace, WATCHER))
        elsewhere.agent(workspace, "alice")
        it.post(5)
        before = await sidecar.caught_up(it.relay)
        lived = before["lifetime"]["events"]
        assert before["ledger"]["events"] == lived >= 10
        rewrite(it, url=elsewhere.url, token_file=str(it.folder / "token-there"))
        await reloaded(sidecar)
        (closed,) = it.relay.ledger.of(Closed, WATCHER)
        assert (1000, "client") == (closed.code, closed.by)
        await sidecar.until(lambda cast: cast["state"] == "open")
        elsewhere.post("alice", "general", "hello")
        counter = elsewhere.find(WATCHER).counter
        after = await sidecar.until(lambda cast: cast["ledger"]["cursor"] == counter)
        assert counter < lived, "its numbers are below those of the other server, and that is no reset"
        assert (elsewhere.url, counter, 0, 0) == (
            after["upstream"], after["ledger"]["events"], after["ledger"]["resets"], after["reconnects"],
        )  # fmt: skip
        assert (lived + counter, before["lifetime"]["since"]["time"]) == (after["lifetime"]["events"], after["lifetime"]["since"]["time"])
        scrape = await sidecar.scrape()
        assert counter == scrape.value("syncwatch_events_received_total", connection="cast", origin="live")
        assert 1.0 == scrape.value("syncwatch_connection_attempts_total", connection="cast")
        await sidecar.end()
        state = json.loads((it.folder / "state" / "state.json").read_bytes())["connections"]["cast"]
        assert (elsewhere.url, counter, lived + counter) == (state["upstream"], state["cursor"], state["totals"]["events"])


async def test_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    """Every mistake with file, line and path in the answer, the log and /status; the metrics tell; right again is right again."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        began = (await sidecar.scrape()).value(SUCCESS_TIME)
        file = rewrite(it, it.config | {"log": {"level": "loud"}, "nonsense": 1, "connections": []})
        lines = file.read_text().splitlines()
        expected = [
            f"{file}:{lines.index('  level: loud') + 1}: log.level: ",
            f"{file}:{lines.index('nonsense: 1') + 1}: nonsense: unknown key",
        ]
        errors = await refused(sidecar)
        assert [True, True] == [any(error.startswith(one) for error in errors) for one in expected]
        await holds(lambda: errors == [line["mistake"] for line in sidecar.log(NOT)])  # the log is written by a thread
        config = (await sidecar.status())["sidecar"]["config"]
        assert (False, errors) == (config["last_reload_successful"], config["errors"])
        scrape = await sidecar.scrape()
        assert (0.0, began) == (scrape.value(SUCCESSFUL), scrape.value(SUCCESS_TIME))
        assert ["cast"] == await names(sidecar)
        rewrite(it)
        await reloaded(sidecar)
        scrape = await sidecar.scrape()
        assert 1.0 == scrape.value(SUCCESSFUL)
        assert began < scrape.value(SUCCESS_TIME)
        config = (await sidecar.status())["sidecar"]["config"]
        assert (True, []) == (config["last_reload_successful"], config["errors"])
        it.post(1)
        await sidecar.caught_up(it.relay)
        assert undisturbed(it.relay)


async def test_what_needs_a_restart_refuses_the_whole_file(tmp_path: Path) -> None:
    """Said with file, line, path and both values; the connection that came with it does not come."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        second = it.config["connections"][0] | {"name": "second"}
        file = rewrite(it, it.config | {"listen": "127.0.0.1:9", "connections": [*it.config["connections"], second]})
        line = file.read_text().splitlines().index("listen: 127.0.0.1:9") + 1
        assert [f"{file}:{line}: listen: a change from 127.0.0.1:0 to 127.0.0.1:9 needs a restart"] == await refused(sidecar)
        assert ["cast"] == await names(sidecar)
        assert 0.0 == (await sidecar.scrape()).value(SUCCESSFUL)


async def test_a_swapped_config_map_is_noticed(tmp_path: Path) -> None:
    """As Kubernetes does it: the file is a link through `..data`, which is renamed over; with the directory of before removed at once."""
    for version in ("..v1", "..v2"):
        (tmp_path / version).mkdir()
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "syncwatch.yaml").symlink_to("..data/syncwatch.yaml")
    async with rig(tmp_path, auto_reload="1s") as it, it.sidecar() as sidecar:
        changed = it.config | {"log": {"level": "info", "format": "json"}, "auto_reload": "0s"}
        (tmp_path / "..v2" / "syncwatch.yaml").write_text(yaml.safe_dump(changed))
        (tmp_path / "..data_tmp").symlink_to("..v2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        (tmp_path / "..v1" / "syncwatch.yaml").unlink()
        line = await sidecar.said(DONE)
        assert ["auto_reload", "log"] == line["keys"]
        assert undisturbed(it.relay)
        assert 1.0 == (await sidecar.scrape()).value(SUCCESSFUL)


async def test_the_guards_stand_before_it(tmp_path: Path) -> None:
    """A foreign name, a foreign page, a missing token, another method: none of them makes the file be read."""
    async with rig(tmp_path) as it:
        secret = it.folder / "local-token"
        secret.write_text("s3cret")
        it.config["local_token_file"] = str(secret)
        async with it.sidecar(opened=False) as sidecar:
            bearer = {"Authorization": "Bearer s3cret"}
            rewrite(it, it.config | {"nonsense": 1})
            assert 421 == (await post(sidecar, Host="evil.example", **bearer))[0]
            assert 403 == (await post(sidecar, Origin="https://evil.example", **bearer))[0]
            assert 401 == (await post(sidecar))[0]
            assert 405 == (await sidecar.get(f"{sidecar.local}/-/reload", **bearer))[0]
            assert 404 == (await sidecar.get(f"{sidecar.public}/-/reload"))[0]
            assert 1.0 == (await sidecar.scrape()).value(SUCCESSFUL)
            assert 422 == (await post(sidecar, **bearer))[0]


async def test_credentials_move_without_a_reconnect(tmp_path: Path) -> None:
    """The next handshake takes them from the new path; the token there may be another one."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        it.post(2)
        await sidecar.caught_up(it.relay)
        moved = it.folder / "moved"
        moved.write_text(it.relay.directory.rotate_token(it.relay.find(WATCHER).workspace, WATCHER)["token"])
        rewrite(it, token_file=str(moved))
        await reloaded(sidecar)
        assert undisturbed(it.relay)
        it.token_file.unlink()
        it.relay.drop(WATCHER)
        it.post(2)
        cast = await sidecar.caught_up(it.relay)
        assert (4, 4) == (cast["ledger"]["missed"], cast["ledger"]["recovered"])
        assert 0 == cast["attempts"]["failures"]["unauthorized"]


async def test_a_canary_is_switched_on_and_off(tmp_path: Path) -> None:
    """Said when it begins to write; its series come and go, on the same connection."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        assert [] == (await sidecar.scrape()).all("syncwatch_canaries_sent_total")
        rewrite(it, canary={"enabled": True})
        await reloaded(sidecar)
        await sidecar.said("a canary is switched on: it writes")
        await sidecar.until(lambda cast: cast["canary"]["received"] == 1)
        scrape = await sidecar.scrape()
        assert [0.0] == scrape.all("syncwatch_degraded", name="cast", reason="canary_lost")
        rewrite(it, canary={"enabled": False})
        await reloaded(sidecar)
        scrape = await sidecar.scrape()
        assert ([], []) == (scrape.all("syncwatch_canaries_sent_total"), scrape.all("syncwatch_degraded", reason="canary_lost"))
        assert undisturbed(it.relay)


async def test_health_changes_at_once_and_in_the_middle_of_trouble(tmp_path: Path) -> None:
    """What closes the gate; and a connection is re-aimed and removed while its server refuses and hangs."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        with it.relay.faults.outage():
            await sidecar.until(lambda cast: cast["state"] == "reconnecting")
            assert 503 == (await sidecar.gate())[0]
            rewrite(it, it.config | {"health": {"gate": {"read": ["behind"], "write": ["failed"]}}})
            await reloaded(sidecar)
            assert 200 == (await sidecar.gate())[0]
            rewrite(it, it.config | {"health": {}})
            await reloaded(sidecar)
            assert 503 == (await sidecar.gate())[0]
            before = it.config["connections"][0]
            rewrite(it, url=f"{it.relay.url}/nowhere")
            await reloaded(sidecar)
            assert "nowhere" not in json.dumps(await sidecar.status()), "what is shown of an upstream is its address"
            rewrite(it, it.config | {"connections": [before | {"name": "again", "url": it.relay.url}]})
            await reloaded(sidecar)
            assert ["again"] == await names(sidecar)
        await sidecar.until(lambda cast: cast["state"] == "open")


async def test_a_relayfile_connection(tmp_path: Path) -> None:
    """How often it is audited changes on the same socket; other paths, and another workspace, are another stream each."""
    async with file_rig(tmp_path) as it, it.sidecar() as sidecar:
        it.write(3)
        lived = (await it.caught_up(sidecar))["lifetime"]["events"]
        file, files = tmp_path / "syncwatch.yaml", it.config["connections"][0]

        async def change(**keys: Any) -> None:
            files.update(keys)
            file.write_text(yaml.safe_dump(it.config))
            await reloaded(sidecar)

        await change(audit={"interval": "100ms"}, polling={"after_failures": 1}, canary={"enabled": True})
        await sidecar.said("a canary is switched on: it writes")

        async def clean() -> float:
            return (await sidecar.scrape()).value("syncwatch_audits_total", result="clean")

        await until(clean, lambda count: count >= 3)
        await sidecar.until(lambda files: files["canary"]["received"] == 1)
        await change(canary={"enabled": False})
        assert (1, 0) == (len(it.relay.ledger.of(Opened)), len(it.relay.ledger.of(Closed)))
        lived = (await sidecar.cast())["lifetime"]["events"]

        await change(paths=["/docs/**"])
        await sidecar.until(lambda files: files["state"] == "open")
        await holds(lambda: [1000] == [fact.code for fact in it.relay.ledger.of(Closed)])
        it.write(1, folder="elsewhere")
        it.write(2, folder="docs")
        after = await sidecar.until(lambda files: files["ledger"]["cursor"] == it.newest)
        assert (lived + after["ledger"]["events"], 0) == (after["lifetime"]["events"], after["ledger"]["resets"])

        it.token_file.write_text(it.relay.files.token("another"))
        await change(workspace="another")
        await sidecar.until(lambda files: files["state"] == "open")
        it.write(2, workspace="another")
        again = await sidecar.until(lambda files: files["ledger"]["cursor"] == it.newest)
        assert (0, 0) == (again["ledger"]["missed"], again["ledger"]["resets"])
        assert after["lifetime"]["events"] + again["ledger"]["events"] == again["lifetime"]["events"]
        assert "Traceback" not in sidecar.text()


async def test_requests_all_at_once(tmp_path: Path) -> None:
    """Each is answered, none is lost, the last file is what runs; and then the end comes in the middle of another."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        answers = []
        for number in range(10):
            rewrite(it, heartbeat={"interval": f"{number + 1}s"})
            answers.append(asyncio.create_task(post(sidecar)))
            sidecar.process.send_signal(signal.SIGHUP)
        assert [200] * 10 == [code for code, _ in await asyncio.gather(*answers)]
        assert undisturbed(it.relay)
        last = asyncio.create_task(post(sidecar))
        code, took_s = await sidecar.end()
        assert (0, True) == (code, took_s < PROMPTLY_S)
        await asyncio.gather(last, return_exceptions=True)
        assert "Traceback" not in sidecar.text()

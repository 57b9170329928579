"""The library's front door: what it takes, what it refuses, and when it may be asked. What it sees is `tests/integration/test_watch.py`'s business."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import syncwatch
from syncwatch import ConfigError, Watch, logs
from syncwatch.core.occasions import FIELDS
from syncwatch.watch import SIDECAR_ONLY


@pytest.fixture(autouse=True)
def log_restored() -> Iterator[None]:
    """structlog's configuration is the process's: what a Watch leaves to `logging` ends with the test."""
    logs.leave_to_program()
    yield
    structlog.reset_defaults()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A token file."""
    path = tmp_path / "token"
    path.write_text("at_live_1")
    return path


def watch(token_file: Path, **keys: object) -> Watch:
    """Of a connection that is never dialled."""
    return Watch.connection(protocol="relaycast", url="http://127.0.0.1:1", token_file=token_file, **keys)


def mistakes(**keys: object) -> list[str]:
    """What a Watch of these values is refused with."""
    with pytest.raises(ConfigError) as refused:
        Watch(keys)
    return str(refused.value).splitlines()


def test_the_public_names_are_these() -> None:
    """All of them can be had, and nothing else; importing the package alone imports none of them."""
    assert ["ConfigError", "Flushed", "HealthReason", "HealthStatus", "Mirror", "Watch", "__version__"] == syncwatch.__all__
    for name in syncwatch.__all__:
        assert getattr(syncwatch, name)
    with pytest.raises(AttributeError, match="has no attribute 'Wotch'"):
        _ = syncwatch.Wotch  # type: ignore[attr-defined]  # that is the point
    methods = {name for name in vars(Watch) if not name.startswith("_")}
    assert {
        "connection", "start", "stop", "synced", "get_health_status", "mirror", "callback_errors", "on_degraded", "on_recovered", "on_resynced", "on_gap",
    } == methods  # fmt: skip


def test_keywords_are_the_keys_of_the_file(token_file: Path) -> None:
    """With their types, defaults and names; Python's numbers, booleans and paths are what YAML reads."""
    made = watch(token_file, heartbeat={"interval": "5s"}, reconnect={"breaker": 3, "jitter": False}, subscribe=["a", "b"])
    (one,) = made._machinery.config.connections
    assert ("relaycast", "relaycast", token_file) == (one.name, one.protocol, one.token_file)  # type: ignore[union-attr]  # it is a relaycast
    assert (5.0, 3, False, ("a", "b")) == (one.heartbeat.interval_s, one.reconnect.breaker, one.reconnect.jitter, one.subscribe)  # type: ignore[union-attr]
    assert "mine" == watch(token_file, name="mine")._machinery.config.connections[0].name


def test_a_mapping_and_a_file_mean_the_same(token_file: Path, tmp_path: Path) -> None:
    """Also `health`, `state_dir` and the like; keys that only a sidecar has are no mistake in a file that one may share."""
    file = tmp_path / "syncwatch.yaml"
    file.write_text(f"listen: 127.0.0.1:1\nhealth: {{degraded_after: 0s}}\nconnections: [{{name: a, protocol: relaycast, url: 'http://h', token_file: '{token_file}'}}]\n")
    block = {"name": "a", "protocol": "relaycast", "url": "http://h", "token_file": str(token_file)}
    mapping = Watch({"health": {"degraded_after": "0s"}, "connections": [block]})._machinery.config
    for given in (file, str(file)):
        config = Watch(given)._machinery.config
        assert (mapping.connections, mapping.health) == (config.connections, config.health)


def test_every_mistake_is_said_with_its_path(token_file: Path) -> None:
    """The sentences of the file, under the name Watch instead of a line."""
    block = {"name": "a", "protocol": "relaycast", "url": "http://h", "token_file": str(token_file)}
    assert [
        'Watch: connections[0].heartbeat.interval: "15" is not a duration; write 15s, 250ms, 5m or 1h',
        "Watch: connections[0].urll: unknown key; did you mean url?",
    ] == mistakes(connections=[{**block, "heartbeat": {"interval": 15}, "urll": 1}])
    assert ['Watch: connections[1].name: "a" is already the name of connections[0]'] == mistakes(connections=[block, block])
    assert ["Watch: nothing to watch; name at least one connection, watcher, mirror or service"] == mistakes()
    assert ["Watch: log: a Watch has none; leave it out"] == mistakes(connections=[block], log={"level": "info"})
    gone = f"Watch: connections[0].token_file: {token_file}s: no such file"
    assert [gone] == mistakes(connections=[{**block, "token_file": f"{token_file}s"}])
    assert ["Watch: connections[0].url: expected text, a number, a mapping or a list, found a object"] == mistakes(connections=[{**block, "url": object()}])


def test_a_value_that_holds_itself_is_refused() -> None:
    """And not followed for ever."""
    loop: dict[str, object] = {}
    loop["tls"] = loop
    assert "nested deeper than 32 levels" in mistakes(connections=[loop])[0]


def test_what_does_not_run_yet_is_refused(token_file: Path) -> None:
    """As by the sidecar."""
    node = {"name": "a", "protocol": "relaycast", "dialect": "node", "url": "http://h", "token_file": str(token_file)}
    assert ["Watch: connections[0].dialect: dialect node does not run in syncwatch 0.1.0 yet; dialects ring and observer do"] == mistakes(connections=[node])


async def test_it_is_asked_while_it_runs_and_started_once(token_file: Path) -> None:
    """Misuse raises; a second stop does not."""
    it = watch(token_file)
    with pytest.raises(RuntimeError, match="not started"):
        it.get_health_status()
    async with it:
        assert "connecting" == it.get_health_status("relaycast").state
        with pytest.raises(KeyError):
            it.get_health_status("other")
        with pytest.raises(RuntimeError, match="this one is running"):
            await it.start()
    await it.stop()
    for ask in (it.get_health_status, it._running):
        with pytest.raises(RuntimeError, match="stopped"):
            ask()


def test_the_documentation_names_everything() -> None:
    """Every field of a HealthStatus, every callback, every value that one may take."""
    page = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
    words = [*syncwatch.HealthStatus.__struct_fields__, *syncwatch.HealthReason.__struct_fields__, *SIDECAR_ONLY]
    for notice, fields in FIELDS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `on_{notice}`"))
        assert not [field for field in fields if f"`{field}`" not in row]
    assert not [word for word in words if f"`{word}`" not in page]

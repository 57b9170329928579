"""Every key of the configuration reaches the room that it is for: nothing that may be written is without effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from syncwatch import settings
from syncwatch.config import Config, Hook, Mirror, RelaycastConnection, Service, TpsHostConnection, Watcher, parse
from syncwatch.config.decode import keys_of
from syncwatch.config.rules import Block
from syncwatch.config.values import compiled
from syncwatch.core.backoff import Backoff
from syncwatch.core.effects import Notice
from syncwatch.core.health import Reason
from syncwatch.core.hook import HookSettings
from syncwatch.core.mirror import MirrorSettings
from syncwatch.core.monitor import HealthSettings
from syncwatch.core.occasions import FIELDS
from syncwatch.core.service import ServiceSettings
from syncwatch.core.session import SessionSettings
from syncwatch.core.watch import WatchSettings
from syncwatch.core.wire import Reply
from syncwatch.protocols.relaycast import Relaycast
from syncwatch.protocols.tps.codec import Tps
from syncwatch.protocols.tps.keys import Identity, key_text
from syncwatch.protocols.tps.noise import Responder
from syncwatch.runtime.dialing import Endpoint
from syncwatch.runtime.mirroring import PairSettings
from syncwatch.runtime.tls import TlsSettings

BASE: dict[str, Any] = {"name": "cast", "protocol": "relaycast", "url": "http://127.0.0.1:8787", "token_file": "/run/token"}

# The key of a connection, what is written, and where it arrives as what.
Reached = tuple[str, Any, Callable[[RelaycastConnection], Any], Any]


def session(attribute: str) -> Callable[[RelaycastConnection], Any]:
    """A value of the session's settings."""
    return lambda connection: getattr(settings.session_settings(connection, 600.0), attribute)


def backoff(attribute: str) -> Callable[[RelaycastConnection], Any]:
    """A value of the delays between attempts."""
    return lambda connection: getattr(settings.session_settings(connection, 600.0).backoff, attribute)


def endpoint(attribute: str) -> Callable[[RelaycastConnection], Any]:
    """A value of how the server is reached."""
    return lambda connection: getattr(settings.endpoint(connection), attribute)


def tls(attribute: str) -> Callable[[RelaycastConnection], Any]:
    """A value of how its certificate is checked."""
    return lambda connection: getattr(settings.endpoint(connection).tls, attribute)


def canary(attribute: str) -> Callable[[RelaycastConnection], Any]:
    """A value of the canary that is switched on."""

    def read(connection: RelaycastConnection) -> Any:
        on = msgspec.structs.replace(connection, canary=msgspec.structs.replace(connection.canary, enabled=True))
        made = settings.canary(on, settings.protocol(on))
        return getattr(made, attribute)

    return read


def dialled(connection: RelaycastConnection) -> Any:
    """Where the codec dials."""
    return settings.protocol(connection).dial().url.split("?")[0]


def subscribed(connection: RelaycastConnection) -> Any:
    """What the codec says first."""
    return next(str(getattr(said, "data", "")) for said in settings.protocol(connection).wire(0).opened())


def canary_request(connection: RelaycastConnection) -> Any:
    """Where a canary is written, and with whose token."""
    codec = settings.protocol(connection)
    assert isinstance(codec, Relaycast)
    request = codec.canary("mark")
    return request.url, request.token


REACHED: list[Reached] = [
    ("url", "https://cast.example.com/base", dialled, "wss://cast.example.com/base/v1/ws"),
    ("subscribe", ["ops"], subscribed, '{"type":"subscribe","channels":["ops"]}'),
    ("connect_timeout", "1s", session("connect_timeout_s"), 1.0),
    ("heartbeat.interval", "2s", session("heartbeat_interval_s"), 2.0),
    ("heartbeat.timeout", "3s", session("heartbeat_timeout_s"), 3.0),
    ("reconnect.min", "4s", backoff("min_s"), 4.0),
    ("reconnect.max", "5s", backoff("max_s"), 5.0),
    ("reconnect.jitter", False, backoff("jitter"), False),
    ("reconnect.stable_after", "6s", session("stable_after_s"), 6.0),
    ("reconnect.breaker", 7, session("breaker"), 7),
    ("reconnect.breaker_retry", "8s", session("breaker_retry_s"), 8.0),
    ("resync.ack_timeout", "9s", session("ack_timeout_s"), 9.0),
    ("resync.hole_grace", "11s", session("hole_grace_s"), 11.0),
    ("resync.max_jump", 12, session("max_jump"), 12),
    ("resync.resume_max_age", "13s", session("resume_max_age_s"), 13.0),
    ("resync.spread", "14s", session("spread_s"), 14.0),
    ("verify.interval", "16s", session("verify_interval_s"), 16.0),
    ("verify.grace", "17s", session("verify_grace_s"), 17.0),
    ("stale_after", "18s", session("stale_after_s"), 18.0),
    ("max_frame", "1MiB", endpoint("max_frame_bytes"), 2**20),
    ("proxy", "http://proxy:3128", endpoint("proxy"), "http://proxy:3128"),
    ("tls.ca_file", "/ca.pem", tls("ca_file"), Path("/ca.pem")),
    ("tls.server_name", "other.example", tls("server_name"), "other.example"),
    ("tls.insecure_skip_verify", True, tls("insecure_skip_verify"), True),
    ("canary.interval", "31s", canary("interval_s"), 31.0),
    ("canary.timeout", "21s", canary("timeout_s"), 21.0),
    ("canary.channel", "birds", canary_request, ("http://127.0.0.1:8787/v1/channels/birds/messages", "connection")),
    ("canary.token_file", "/own", canary_request, ("http://127.0.0.1:8787/v1/channels/syncwatch/messages", "canary")),
]
ELSEWHERE = {
    "name": "the app names the session by it",
    "protocol": "selects the block",
    "dialect": "only ring runs yet, the others are refused",
    "token_file": "the app hands it to the token files; tests/integration",
    "canary.enabled": "test_a_canary_only_when_asked_for",
    "tls.cert_file": "test_a_certificate_of_our_own",
    "tls.key_file": "test_a_certificate_of_our_own",
}


def configured(**connection: Any) -> Config:
    """A configuration with one connection."""
    return parse(yaml.safe_dump({"connections": [BASE | connection]}), "test", {})


def nested(path: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as blocks."""
    key, _, rest = path.partition(".")
    return {key: nested(rest, value) if rest else value}


def one(config: Config) -> RelaycastConnection:
    """Its connection."""
    (connection,) = config.connections
    assert isinstance(connection, RelaycastConnection)
    return connection


def leaves(block: type[Block], before: str = "") -> set[str]:
    """Every key that may be written, as a path."""
    found: set[str] = set()
    for key, field in keys_of(block).items():
        default = field.default
        inner = isinstance(default, Block)
        found |= leaves(type(default), f"{before}{key}.") if inner else {before + key}
    return found


@pytest.mark.parametrize(("path", "written", "read", "expected"), REACHED, ids=[path for path, *_ in REACHED])
def test_a_key_arrives(path: str, written: Any, read: Callable[[RelaycastConnection], Any], expected: Any) -> None:
    """What is written differs from the default, and that is what the room is told."""
    assert expected == read(one(configured(**nested(path, written))))
    assert expected != read(one(configured())), "the default would hide a key without effect"


def test_no_key_is_forgotten() -> None:
    """A key that is added to the block has to be added here, or to have a reason."""
    assert leaves(RelaycastConnection) == {path for path, *_ in REACHED} | set(ELSEWHERE)


def test_defaults_are_one() -> None:
    """The rooms' own defaults are those of the configuration: a session made by hand behaves like a configured one."""
    connection = one(configured())
    assert SessionSettings() == settings.session_settings(connection, Config().health.incident_hold_s)
    assert Backoff() == settings.session_settings(connection, 0.0).backoff
    assert Endpoint() == settings.endpoint(connection)


def test_how_long_incidents_are_held() -> None:
    """From health, for every connection."""
    assert 42.0 == settings.session_settings(one(configured()), 42.0).incident_hold_s


def test_a_certificate_of_our_own() -> None:
    """Both files together."""
    connection = one(configured(tls={"cert_file": "/c.pem", "key_file": "/k.pem"}))
    assert TlsSettings(cert_file=Path("/c.pem"), key_file=Path("/k.pem")) == settings.endpoint(connection).tls


def test_a_canary_only_when_asked_for() -> None:
    """It acts, so it is off unless switched on by name."""
    off, on = one(configured()), one(configured(canary={"enabled": True}))
    assert settings.canary(off, settings.protocol(off)) is None
    assert settings.canary(on, settings.protocol(on)) is not None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8787/path", "http://127.0.0.1:8787"),
        ("https://cast.example.com", "https://cast.example.com:443"),
        ("http://cast.example.com", "http://cast.example.com:80"),
        ("ws://cast.example.com", "ws://cast.example.com:80"),
        ("wss://cast.example.com/v1", "wss://cast.example.com:443"),
        ("http://[::1]:8787", "http://[::1]:8787"),
        ("https://user:secret@cast.example.com/x?token=at_live_1", "https://cast.example.com:443"),
    ],
)
def test_what_is_shown_of_an_upstream(url: str, shown: str) -> None:
    """Scheme, host and port; no path, user or query."""
    assert shown == settings.upstream(url)


def test_health() -> None:
    """Durations, graces and the gate's reasons, as the enum's own words."""
    text = yaml.safe_dump({
        "connections": [BASE],
        "health": {
            "degraded_after": "1s", "recovered_after": "2s", "incident_hold": "3s",
            "ready": {"wait_for_first_sync": False, "fail_on": {"behind": "4s"}},
            "gate": {"read": ["behind", "gap_open"], "write": ["failed"]},
        },
    })  # fmt: skip
    expected = HealthSettings(
        degraded_after_s=1.0,
        recovered_after_s=2.0,
        wait_for_first_sync=False,
        ready_fail_on={Reason.BEHIND: 4.0},
        healthz_fail_on={},
        gate_read=frozenset({Reason.BEHIND, Reason.GAP_OPEN}),
        gate_write=frozenset({Reason.FAILED}),
    )
    assert expected == settings.health_settings(parse(text, "test", {}))


def test_health_by_default() -> None:
    """Every reason that a configuration may name is one of the core's."""
    made = settings.health_settings(Config())
    assert {Reason.FAILED, Reason.BEHIND, Reason.GAP_OPEN} <= made.gate_read
    assert Reason.BEHIND not in made.gate_write
    assert 60.0 == made.ready_fail_on[Reason.RECONNECTING]
    assert {} == made.healthz_fail_on, "an upstream is no reason to restart"


def test_hooks() -> None:
    """Every key but the name and the secret's file, which are the caller's; the defaults are one."""
    written = {"name": "ui", "url": "http://h/x", "events": ["gap", "degraded"], "timeout": "2s", "max_attempts": 3, "queue": 7}
    expected = HookSettings("http://h/x", frozenset({Notice.GAP, Notice.DEGRADED}), timeout_s=2.0, max_attempts=3, queue=7)
    assert expected == settings.hook_settings(hook(**written))
    assert HookSettings("http://h/x", frozenset(FIELDS)) == settings.hook_settings(hook(name="ui", url="http://h/x"))
    assert {"name", "events", "url", "timeout", "max_attempts", "queue", "secret_file"} == set(keys_of(Hook)), "a new key must arrive somewhere"


def test_services() -> None:
    """Every key but the name arrives; the defaults are one."""
    written = {"url": "http://h/x", "interval": "1m", "retry_interval": "2s", "timeout": "3s", "expect_status": 204, "expect_body": "[[a]"}
    assert {"name", *written} == set(keys_of(Service)), "a new key must arrive somewhere"
    made = settings.service_settings(service(name="flair", **written))
    assert ServiceSettings("http://h/x", 60.0, 2.0, 3.0, 204, compiled("[[a]")) == made
    assert ServiceSettings("http://h/x") == settings.service_settings(service(name="flair", url="http://h/x"))


def test_watchers() -> None:
    """Every key arrives; without a sentinel nothing is written."""
    written = {"path": "/p", "sentinel": {"interval": "2s", "timeout": "1s"}, "ignore": ["x"]}
    assert {"name", *written} == set(keys_of(Watcher)), "a new key must arrive somewhere"
    made = watcher(name="project", **written)
    assert WatchSettings(interval_s=2.0, timeout_s=1.0) == settings.watch_settings(made)
    assert (Path("/p"), ("x",)) == (made.path, made.ignore)
    assert WatchSettings() == settings.watch_settings(watcher(name="project", path="/p", sentinel={}))
    assert settings.watch_settings(watcher(name="project", path="/p")).interval_s is None


def watcher(**keys: Any) -> Watcher:
    """A configured watcher."""
    return parse(yaml.safe_dump({"watchers": [keys]}), "test", {}).watchers[0]


def test_mirrors() -> None:
    """When it looks goes to the machine, the roots and rules to the work, the time for a flush to the caller; the defaults are one."""
    written = {
        "mode": "sync", "mount": "/m", "project": "/p", "debounce": "1s", "reconcile": {"healthy": "2m", "degraded": "3s"}, "ignore": ["x"],
        "read_only": ["docs/"], "keep_conflicts": False, "flush_timeout": "5s",
    }  # fmt: skip
    assert {"name", *written} == set(keys_of(Mirror)), "a new key must arrive somewhere"
    made = mirror(name="agent", **written)
    assert MirrorSettings(True, 1.0, 120.0, 3.0, "/m", "/p") == settings.mirror_settings(made)
    assert PairSettings("agent", "/m", "/p", True, ("x",), ("docs/",), False, 3.0) == settings.pair_settings(made)
    assert 5.0 == made.flush_timeout_s
    plain = mirror(name="agent", mount="/m", project="/p")
    assert MirrorSettings(mount="/m", project="/p") == settings.mirror_settings(plain)
    assert PairSettings("agent", "/m", "/p", ignore=(".git", "node_modules")) == settings.pair_settings(plain)


def mirror(**keys: Any) -> Mirror:
    """A configured mirror."""
    return parse(yaml.safe_dump({"mirrors": [keys]}), "test", {}).mirrors[0]


def service(**keys: Any) -> Service:
    """A configured service."""
    return parse(yaml.safe_dump({"services": [keys]}), "test", {}).services[0]


def hook(**keys: Any) -> Hook:
    """A configured hook."""
    return parse(yaml.safe_dump({"connections": [BASE], "hooks": [keys]}), "test", {}).hooks[0]


HOST: dict[str, Any] = {
    "name": "branch", "protocol": "tps", "mode": "host", "dedicated": True, "url": "ws://127.0.0.1:6458", "branch": "b1",
    "identity_file": "/run/host.seed", "peer_key": key_text(Identity(b"\2" * 32).encryption_key), "mail_dir": "/var/mail",
}  # fmt: skip


def tps_host(**changes: Any) -> TpsHostConnection:
    """A configured host."""
    (connection,) = parse(yaml.safe_dump({"connections": [HOST | changes]}), "test", {}).connections
    assert isinstance(connection, TpsHostConnection)
    return connection


def test_a_tps_host() -> None:
    """Every key of its own arrives: where it dials, who it is, who the branch is, what it calls it, where mail is kept."""
    connection = tps_host()
    codec = settings.protocol(connection, b"\1" * 32)
    assert isinstance(codec, Tps)
    assert "ws://127.0.0.1:6458/tps/wire" == codec.dial().url
    assert "tcp://10.0.0.1:1" == settings.protocol(tps_host(url="tcp://10.0.0.1:1"), b"\1" * 32).dial().url
    (first,) = codec.wire(7).opened()
    assert isinstance(first, Reply)
    assert isinstance(first.data, bytes)
    responder = Responder(Identity(b"\2" * 32).static, b"\3" * 32)
    assert (b"b1", Identity(b"\1" * 32).encryption_key) == responder.read(first.data)
    assert (Path("/run/host.seed"), Path("/var/mail")) == (settings.seed_file(connection), settings.mail_dir(connection))
    told = settings.acts(connection)
    assert told is not None
    assert ({"branch": "b1", "mail_dir": "/var/mail"}, True) == (told[1], "whose mail comes here" in told[0])
    assert ({}, None, None) == (settings.token_files(connection), settings.canary(connection, codec), settings.canary_target(connection))
    made = settings.session_settings(tps_host(heartbeat={"interval": "30s"}, stale_after="1h"), 42.0)
    assert (30.0, 3600.0, 42.0) == (made.heartbeat_interval_s, made.stale_after_s, made.incident_hold_s)
    assert SessionSettings() == settings.session_settings(connection, 600.0)
    with pytest.raises(RuntimeError):
        settings.protocol(connection)


def test_nobody_else_has_an_identity_or_mail() -> None:
    """And nobody else acts without being asked to."""
    connection = one(configured())
    assert (None, None, None) == (settings.seed_file(connection), settings.mail_dir(connection), settings.acts(connection))
    told = settings.acts(one(configured(canary={"enabled": True})))
    assert ("a canary is switched on: it writes", {"target": "syncwatch"}) == told

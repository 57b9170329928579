"""Proves `syncwatch.config`: what is accepted, what it means, and the exact sentence for each mistake.

Each file in `bad_configs/` makes one mistake; its head says why it is one (first line), which environment it needs
(`# environ: NAME=value`) and what must be said about it (`# expect: …`, one line each).
"""

from __future__ import annotations

import pickle
import re
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import syncwatch.config
from syncwatch.config import (
    Address,
    Config,
    ConfigError,
    ConfigFile,
    Heartbeat,
    Mistake,
    RelaycastCanary,
    RelaycastConnection,
    RelayfileConnection,
    Secret,
    SecretError,
    TpsHostConnection,
    TpsPassiveConnection,
    awaited_files,
    check,
    config_path,
    duration_s,
    duration_text,
    load,
    parse,
    parse_values,
    read_secret,
    read_text,
    size_bytes,
    size_text,
    unreadable_files,
    unsupported,
)
from syncwatch.config import connections as connection_blocks
from syncwatch.config import files as named_files
from syncwatch.config import schema as other_blocks
from syncwatch.config.decode import default_of, keys_of, shape
from syncwatch.config.mistakes import MAX_LISTED
from syncwatch.config.reading import Entry, Reading
from syncwatch.config.reasons import CONDITIONS, INCIDENTS
from syncwatch.config.rules import Block
from syncwatch.version import __version__

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "config.example.yaml"
BAD = sorted((Path(__file__).parent / "bad_configs").iterdir())
HOME = {"HOME": "/home/somebody"}
MINIMAL = "connections: [{name: cast, protocol: relaycast, url: http://127.0.0.1:8787, token_file: /x}]\n"


def cast(config: Config) -> RelaycastConnection:
    """The first connection, known to be Relaycast's."""
    (first, *_) = config.connections
    assert isinstance(first, RelaycastConnection)
    return first


def loaded(text: str, environ: dict[str, str] | None = None) -> Config:
    """The configuration in a text."""
    return parse(text, "syncwatch.yaml", environ or {})


def with_connection(keys: str) -> str:
    """The minimal configuration with further keys in its connection, in YAML's flow style."""
    return MINIMAL.replace("token_file: /x", f"token_file: /x, {keys}")


def mistakes(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is said about a text; it must be wrong."""
    with pytest.raises(ConfigError) as caught:
        loaded(text, environ)
    return str(caught.value).splitlines()


# --- every mistake and its sentence ----------------------------------------------------------------------------------------------


def head(file: Path, label: str) -> list[str]:
    """What the head of a bad configuration says under a label."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(f"# {label}: ") for line in lines if line.startswith(f"# {label}: ")]


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_each_mistake_has_its_exact_sentence(file: Path) -> None:
    """A bad configuration is refused with exactly the lines that its head promises: no fewer, no more."""
    environ = dict(pair.split("=", 1) for pair in head(file, "environ"))
    expected = head(file, "expect")
    with pytest.raises(ConfigError) as caught:
        parse(read_text(file), file.name, environ)
    assert expected
    assert expected == str(caught.value).splitlines()


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_no_sentence_repeats_a_secret(file: Path) -> None:
    """Passwords and tokens that a file wrongly holds are not in what is said about it."""
    said = "\n".join(head(file, "expect"))
    assert not [secret for secret in ("hunter2", "at_live_", "eyJ") if secret in said]


def test_the_bad_configurations_hold_the_secrets_that_must_not_be_repeated() -> None:
    """The test above cannot pass for want of secrets."""
    bodies = "\n".join(re.sub(r"(?m)^#.*$", "", file.read_text(encoding="utf-8")) for file in BAD)
    assert [4, 3, 1] == [bodies.count(secret) for secret in ("hunter2", "at_live_", "eyJhbGci")]


def test_many_mistakes_are_counted_beyond_a_hundred() -> None:
    """A file full of mistakes does not fill the terminal."""
    said = mistakes(MINIMAL + "".join(f"k{i}: 1\n" for i in range(MAX_LISTED + 7)))
    assert MAX_LISTED + 1 == len(said)
    assert "syncwatch.yaml: and 7 more" == said[-1]


def test_one_alias_used_twice_is_complained_about_in_both_places() -> None:
    """A mistake inside a shared block is named at each path that uses it."""
    text = """\
connections:
  - {name: a, protocol: relaycast, url: 'http://h', token_file: /x, heartbeat: &beat {interval: 15}}
  - {name: b, protocol: relaycast, url: 'http://h', token_file: /x, heartbeat: *beat}
"""
    assert [
        f'syncwatch.yaml:2: connections[{i}].heartbeat.interval: "15" is not a duration; write 15s, 250ms, 5m or 1h'
        for i in (0, 1)
    ] == mistakes(text)


def test_a_sentence_stays_one_line_and_short() -> None:
    """What a user wrote is shown cut, with line breaks and direction marks escaped."""
    (said,) = mistakes(MINIMAL.replace("name: cast", 'name: "a\\n\\u202e' + "x" * 100 + '"'))
    shown = "a\\u000a\\u202e" + "x" * 56 + "…"
    assert said.startswith(f'syncwatch.yaml:1: connections[0].name: "{shown}" is not allowed; a name is')


# --- the file itself -----------------------------------------------------------------------------------------------------------------


def refused(path: Path | None, environ: dict[str, str] | None = None) -> str:
    """What is said about a file that cannot be loaded."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """No such file."""
    assert f"{tmp_path}/gone.yaml: no such file" == refused(tmp_path / "gone.yaml")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """A directory in place of the file."""
    assert f"{tmp_path}: is a directory" == refused(tmp_path)


def test_a_file_below_a_file_is_said_in_the_system_s_words(tmp_path: Path) -> None:
    """Any other failure keeps the operating system's reason."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert f"{tmp_path}/loop: Too many levels of symbolic links" == refused(tmp_path / "loop")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied; simulated, because tests may run as root."""
    file = tmp_path / "syncwatch.yaml"
    file.write_text(MINIMAL)

    def deny(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert f"{file}: permission denied" == refused(file)


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    """The line and the byte are told."""
    file = tmp_path / "syncwatch.yaml"
    file.write_bytes(b"# fine\n# caf\xe9\n")
    assert f"{file}:2: not UTF-8: the byte 0xe9 cannot stand here" == refused(file)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Some editors write one."""
    file = tmp_path / "syncwatch.yaml"
    file.write_text(MINIMAL, encoding="utf-8-sig")
    assert loaded(MINIMAL) == load(file, {})


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    """More than a ConfigMap can hold is not read."""
    file = tmp_path / "syncwatch.yaml"
    file.write_bytes(b"#" * (2**20 + 1))
    assert f"{file}: is larger than 1048576 bytes" == refused(file)


def test_a_path_that_no_file_can_have() -> None:
    """A NUL ends a path; escaped, it can be shown."""
    assert "a\\x00b: is not a usable path" == refused(Path("a\0b"))


def test_a_file_name_that_cannot_be_printed_is_escaped(tmp_path: Path) -> None:
    """A line break in a file's name does not break the line."""
    assert f"{tmp_path}/a\\x0ab: no such file" == refused(tmp_path / "a\nb")


def test_no_file_at_all() -> None:
    """Neither an option nor the environment names one."""
    assert "syncwatch: no configuration: name a file with --config or in SYNCWATCH_CONFIG" == refused(None)


# --- the environment -------------------------------------------------------------------------------------------------------------------


def test_the_given_file_wins_over_the_environment_s() -> None:
    """SYNCWATCH_CONFIG counts where no file is given."""
    environ = {"SYNCWATCH_CONFIG": "/etc/b.yaml"}
    assert Path("/etc/a.yaml") == config_path("/etc/a.yaml", environ)
    assert Path("/etc/b.yaml") == config_path(None, environ)


@pytest.mark.parametrize("before", ["", "listen: 0.0.0.0:9\nlog: {level: error, format: json}\n", "log: {}\n"])
def test_variables_win_over_the_file(before: str) -> None:
    """SYNCWATCH_LISTEN and SYNCWATCH_LOG_LEVEL replace what is written, or add it."""
    config = loaded(before + MINIMAL, {"SYNCWATCH_LISTEN": "127.0.0.1:0", "SYNCWATCH_LOG_LEVEL": "debug"})
    assert (Address("127.0.0.1", 0), "debug") == (config.listen, config.log.level)
    assert ("json" if "json" in before else "auto") == config.log.format


def test_a_variable_does_not_cover_up_a_mistake_around_it() -> None:
    """Where `log` is no mapping, that is still said."""
    said = mistakes("log: info\n" + MINIMAL, {"SYNCWATCH_LOG_LEVEL": "debug"})
    assert ["syncwatch.yaml:1: log: expected a mapping of keys and values, found text"] == said


def test_empty_and_other_variables_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is not set, SYNCWATCH_PORT (which Kubernetes sets) is none, and the process's environment is not read."""
    monkeypatch.setenv("SYNCWATCH_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("SYNCWATCH_LOG_LEVEL", "error")
    environ = {"SYNCWATCH_LISTEN": "", "SYNCWATCH_LOG_LEVEL": "", "SYNCWATCH_PORT": "tcp://10.0.0.1:10119"}
    assert loaded(MINIMAL) == loaded(MINIMAL, environ)
    assert ("0.0.0.0:10119", "info") == (str(loaded(MINIMAL).listen), loaded(MINIMAL).log.level)


def test_variables_in_url_workspace_and_instance() -> None:
    """`${NAME}` is replaced there, once, and as often as it stands."""
    text = "instance: ${POD}-${ZONE}\nconnections: [{name: f, protocol: relayfile, url: '${BASE}/api', workspace: 'ws_${ZONE}', token_file: /x}]"
    config = loaded(text, {"POD": "p-0", "ZONE": "eu", "BASE": "https://files.example:8443"})
    (files,) = config.connections
    assert isinstance(files, RelayfileConnection)
    assert ("p-0-eu", "https://files.example:8443/api", "ws_eu") == (config.instance, files.url, files.workspace)


def test_what_a_variable_holds_is_not_expanded_again() -> None:
    """A value with `${` in it is a value."""
    said = mistakes("instance: ${A}\n" + MINIMAL, {"A": "${B}", "B": "b"})
    assert ["${B}"] == re.findall(r'^syncwatch\.yaml:1: instance: "(.*?)" is not allowed', said[0])


def test_elsewhere_the_signs_are_text() -> None:
    """A literal `${` stays in paths, patterns and expressions."""
    config = loaded(
        MINIMAL.replace("/x", "'/run/${TOKEN}'")
        + "watchers: [{name: w, path: '/srv/${HOME}', ignore: ['${build}']}]\n"
        + "services: [{name: s, url: 'http://h/', expect_body: '^\\${x'}]\n",
        {"TOKEN": "t", "build": "b"},
    )
    assert Path("/run/${TOKEN}") == cast(config).token_file
    assert (Path("/srv/${HOME}"), ("${build}",)) == (config.watchers[0].path, config.watchers[0].ignore)
    assert "^\\${x" == config.services[0].expect_body


def test_the_home_directory() -> None:
    """`~/` is HOME of the environment that was handed in."""
    assert Path("/home/somebody/t") == cast(loaded(MINIMAL.replace("/x", "~/t"), HOME)).token_file


# --- values -----------------------------------------------------------------------------------------------------------------------------

DURATIONS_S = {
    "250ms": 0.25, "15s": 15.0, "5m": 300.0, "1h": 3600.0, "1m30s": 90.0, "1h1ms": 3600.001, "2h3m4s5ms": 7384.005, "1.5s": 1.5,
    "0.25m": 15.0, "90s": 90.0, "8784h": 31622400.0,
}  # fmt: skip
SIZES = {"1B": 1, "500kB": 500_000, "20MB": 20_000_000, "1GB": 10**9, "64KiB": 65536, "16MiB": 2**24, "1GiB": 2**30}


@pytest.mark.parametrize(("text", "seconds"), DURATIONS_S.items())
def test_durations(text: str, seconds: float) -> None:
    """Each unit, falling combinations, and a decimal of one unit."""
    assert seconds == duration_s(text)
    assert Heartbeat(interval_s=seconds) == cast(loaded(with_connection(f"heartbeat: {{interval: {text}}}"))).heartbeat


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_sizes(text: str, size: int) -> None:
    """Binary and decimal units."""
    assert size == size_bytes(text)


@given(st.integers(0, 366 * 86_400_000))
def test_durations_survive_being_written(milliseconds: int) -> None:
    """What is written for a duration means the same duration."""
    assert milliseconds / 1000 == duration_s(duration_text(milliseconds / 1000))


@given(st.integers(0, 2**39))
def test_sizes_survive_being_written(size: int) -> None:
    """What is written for a size means the same size."""
    assert size == size_bytes(size_text(size))


def test_the_shortest_text_is_written() -> None:
    """In a user's units."""
    assert ["0s", "250ms", "1m30s", "1h"] == [duration_text(s) for s in (0, 0.25, 90, 3600)]
    assert ["0B", "1KiB", "16MiB", "1000B", "3GiB"] == [size_text(b) for b in (0, 1024, 2**24, 1000, 3 * 2**30)]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:10121", "127.0.0.1", 10121),
        ("'[::1]:80'", "::1", 80),
        ("localhost:0", "localhost", 0),
        ("a_b.c-d:65535", "a_b.c-d", 65535),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    """Names, IPv4, IPv6 in brackets; written again they are the same."""
    config = loaded(f"listen: {text}\n{MINIMAL}")
    assert Address(host, port) == config.listen
    assert text.strip("'") == str(config.listen)


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        ("127.0.0.1:9", "127.0.0.2:9"),
        ("0.0.0.0:0", "127.0.0.1:0"),
        ("0.0.0.0:9", "127.0.0.1:10"),
        ("0.0.0.0:9", "localhost:10"),
    ],
)
def test_listeners_that_do_not_collide(listen: str, local: str) -> None:
    """Other hosts, other ports, and any free ports."""
    config = loaded(f"listen: {listen}\nlocal_listen: {local}\n{MINIMAL}")
    assert (listen, local) == (str(config.listen), str(config.local_listen))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "'[::1]", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    """Who is on the machine may look."""
    quote = "'" if host.startswith("'") else ""
    assert loaded(f"local_listen: {host}:10120{quote}\n{MINIMAL}").local_token_file is None


def test_local_listen_elsewhere_with_a_token() -> None:
    """With a token, any address will do."""
    config = loaded(f"local_listen: 0.0.0.0:10120\nlocal_token_file: /run/t\n{MINIMAL}")
    assert Path("/run/t") == config.local_token_file


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("http://127.0.0.1:8787", "http://127.0.0.1:8787"),
        ("https://cast.example/", "https://cast.example"),
        ("ws://127.0.0.1:8787//", "http://127.0.0.1:8787"),
        ("wss://cast.example/base/", "https://cast.example/base"),
        ("HTTPS://cast.example", "https://cast.example"),
        ("http://[::1]:8787", "http://[::1]:8787"),
    ],
)
def test_urls_of_connections(written: str, means: str) -> None:
    """ws and wss mean http and https; the base has no slash at the end."""
    assert means == cast(loaded(MINIMAL.replace("http://127.0.0.1:8787", f"'{written}'"))).url


def test_urls_of_services_stay_as_they_are() -> None:
    """A service may need its slash and its query."""
    config = loaded("services: [{name: s, url: 'http://127.0.0.1:9926/health/?full=1'}]")
    assert "http://127.0.0.1:9926/health/?full=1" == config.services[0].url


def test_a_query_of_very_many_fields_is_refused() -> None:
    """They are all looked at, for tokens, so their number is bounded."""
    said = mistakes(f"services: [{{name: s, url: 'http://h/?{'a=1&' * 101}'}}]")
    assert ["syncwatch.yaml:1: services[0].url: has more than 100 fields in its query"] == said


def test_a_doubtful_expression_is_accepted_quietly() -> None:
    """A warning of the expression's compiler is no mistake, and does not escape as an exception."""
    config = loaded("services: [{name: s, url: 'http://h/', expect_body: '[[a]'}]")
    assert "[[a]" == config.services[0].expect_body


def test_anchors_aliases_and_merges() -> None:
    """`<<` brings keys in; a key of one's own wins, and the first of several mappings."""
    text = """\
connections:
  - &cast {name: a, protocol: relaycast, url: 'http://h', token_file: /x, heartbeat: &beat {interval: 5s, timeout: 1s}}
  - {<<: *cast, name: b, heartbeat: {<<: [{interval: 7s}, *beat]}}
"""
    a, b = loaded(text).connections
    assert isinstance(a, RelaycastConnection)
    assert isinstance(b, RelaycastConnection)
    assert (Heartbeat(interval_s=5, timeout_s=1), Heartbeat(interval_s=7, timeout_s=1)) == (a.heartbeat, b.heartbeat)
    assert ("b", a.url) == (b.name, b.url)


# --- the schema ---------------------------------------------------------------------------------------------------------------------------


def blocks() -> list[type[Block]]:
    """Every block that may be written."""
    found = {
        block
        for module in (connection_blocks, other_blocks)
        for block in vars(module).values()
        if isinstance(block, type) and issubclass(block, Block) and not block.__name__.startswith("_")
    }
    return sorted(found - {Block}, key=lambda block: block.__name__)


def written(value: Any, raw: Any, path: str = "") -> Iterator[tuple[str, Block, msgspec.structs.FieldInfo]]:
    """Every key that `raw` (plain YAML) writes: its path, the block it was read into, and its field."""
    if isinstance(value, Block):
        for key, field in keys_of(type(value)).items():
            if key in raw:
                yield f"{path}.{key}", value, field
                yield from written(getattr(value, field.name), raw[key], f"{path}.{key}")
    elif isinstance(value, tuple) and raw and isinstance(raw[0], dict):
        for item, raw_item in zip(value, raw, strict=True):
            yield from written(item, raw_item, path)


def example() -> tuple[Config, dict[str, Any]]:
    """The example, read and as plain YAML."""
    return load(EXAMPLE, HOME), yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))


def test_the_example_writes_the_defaults() -> None:
    """Whatever in the example has a default stands there with it. A sentinel, off by default, is shown with its own defaults."""
    config, raw = example()
    lists = {".connections", ".watchers", ".mirrors", ".services", ".hooks", ".watchers.sentinel"}
    differing = {
        path
        for path, block, field in written(config, raw)
        if not field.required and getattr(block, field.name) != default_of(field)
    }
    assert lists == differing
    assert other_blocks.Sentinel() == config.watchers[0].sentinel


def test_the_example_writes_every_key() -> None:
    """No key is missing there. Mode host stands in comments; the common keys are written once."""
    config, raw = example()
    shown = {(type(block), field.encode_name) for _, block, field in written(config, raw)}
    common = {(block, key) for block, key in shown if block is not RelaycastConnection} | {
        (block, key)
        for block in blocks()
        for owner, key in shown
        if owner is RelaycastConnection and issubclass(block, connection_blocks._Connection)
    }
    missing = {
        f"{block.__name__}.{key}" for block in blocks() for key in keys_of(block) if (block, key) not in shown | common
    }
    in_comments = {"branch", "dedicated", "identity_file", "mail_dir", "mode", "peer_key"}
    assert {f"TpsHostConnection.{key}" for key in in_comments} == missing
    text = EXAMPLE.read_text(encoding="utf-8")
    assert not [key for key in in_comments if not re.search(rf"(?m)^  #   {key}: ", text)]


def test_a_minimal_file_means_the_example_s_defaults() -> None:
    """One connection with nothing but its four required keys equals the example's, and so does everything around it."""
    config, _ = example()
    minimal = loaded(MINIMAL)
    assert cast(config) == msgspec.structs.replace(cast(minimal), token_file=Path("/run/secrets/cast-token"))
    empty: dict[str, tuple[()]] = dict.fromkeys(("connections", "watchers", "mirrors", "services", "hooks"), ())
    assert msgspec.structs.replace(config, **empty) == msgspec.structs.replace(minimal, connections=())
    assert Config() == msgspec.structs.replace(minimal, connections=())


def test_mode_host_of_the_example_can_be_taken_out_of_its_comments() -> None:
    """What stands in comments works as written, with a real key."""
    lines = EXAMPLE.read_text(encoding="utf-8").partition("# - name: branch\n")[2].partition("\n\n")[0]
    text = "connections:\n  - name: branch\n" + lines.replace("  #   ", "    ").replace("…", "A" * 43)
    (host,) = loaded(text).connections
    assert isinstance(host, TpsHostConnection)
    assert ("ws://127.0.0.1:6458/tps/wire", True, Path("/var/lib/syncwatch/mail")) == (
        host.url,
        host.dedicated,
        host.mail_dir,
    )


def test_settings_carry_their_units_in_their_names() -> None:
    """A float is seconds and says so; a size says bytes; the keys in the file carry no unit."""
    fields = [(block, field) for block in blocks() for field in keys_of(block).values()]
    floats = {field.name for _, field in fields if shape(field.type).type is float}
    assert floats
    assert not [name for name in floats if not name.endswith("_s")]
    assert ["max_frame_bytes"] * 3 == [field.name for _, field in fields if field.encode_name == "max_frame"]
    assert not [field for _, field in fields if field.encode_name.endswith(("_s", "_bytes"))]


def test_a_configuration_is_immutable() -> None:
    """Nothing in it can be set, not even inside a mapping."""
    config = loaded(MINIMAL)
    with pytest.raises(AttributeError):
        config.health.ready.wait_for_first_sync = False  # type: ignore[misc]  # the point of the test
    with pytest.raises(TypeError):
        config.health.ready.fail_on["behind"] = 1.0  # type: ignore[index]  # the point of the test


def test_a_reload_can_tell_what_changed() -> None:
    """Comments and order change nothing; one connection's setting changes that connection only."""
    second = (
        MINIMAL.strip()[:-1]
        + ", {name: b, protocol: relaycast, url: 'http://h', token_file: /y, heartbeat: {interval: %s}}]"
    )
    before, moved, after = (loaded(text) for text in (second % "15s", "# moved\n\n" + second % "15s", second % "16s"))
    assert before == moved
    assert before != after
    assert [True, False] == [a == b for a, b in zip(before.connections, after.connections, strict=True)]


def test_the_public_names() -> None:
    """What others may import stands in __all__, and is there."""
    assert not [name for name in syncwatch.config.__all__ if not hasattr(syncwatch.config, name)]
    assert {
        "load",
        "Config",
        "ConfigError",
        "unsupported",
        "awaited_files",
        "unreadable_files",
        "check",
        "Secret",
        "read_secret",
    } <= set(syncwatch.config.__all__)


# --- what does not run yet ---------------------------------------------------------------------------------------------------------------


def said_unsupported(text: str) -> list[str]:
    """The sentences about what does not run, without the version."""
    return [
        str(mistake).replace(f" in syncwatch {__version__} yet", " yet") for mistake in unsupported(loaded(text, HOME))
    ]


def test_what_runs_is_not_refused() -> None:
    """A Relaycast ring with every setting, listeners, health and log."""
    text = with_connection(
        "dialect: ring, canary: {enabled: true}, proxy: 'http://p:1', stale_after: 1m, tls: {ca_file: /ca}"
    )
    rest = "auto_reload: %s\nlog: {level: debug}\nlocal_token_file: /t\ngate_file: /g\nprobes_listen: 127.0.0.1:1\nweb_config: /w\nhooks: [{name: h, url: 'http://h'}]\ninstance: a\nstate_dir: /s\nhealth: {ready: {fail_on: {watcher_dead: 1s}}}\n"
    assert [[], []] == [said_unsupported(rest % reload + text) for reload in ("10s", "0s")]


def test_what_does_not_run_yet_is_refused_by_name() -> None:
    """Each accepted key without effect is named, with its line."""
    text = """\
connections:
  - {name: a, protocol: relaycast, dialect: node, url: 'http://h', token_file: /x}
  - name: b
    protocol: relayfile
    url: http://h
    workspace: w
    token_file: /x
  - {name: c, protocol: tps, state_path: /s, branch: b1}
watchers: [{name: a, path: /p}]
mirrors: [{name: a, mount: /m, project: /p}]
services: [{name: a, url: 'http://h'}]
health:
  healthz:
    fail_on: {watcher_dead: 15m}
"""
    assert [
        "syncwatch.yaml:2: connections[0].dialect: dialect node does not run yet; dialects ring and observer do",
    ] == said_unsupported(text)


# --- secrets and the files that are named ------------------------------------------------------------------------------------------------


def test_a_secret_does_not_show() -> None:
    """Neither printed, formatted, nested, in a traceback, nor pickled."""
    secret = Secret("hunter2")
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>40}",
        f"{secret:>40}",
        str({"token": secret}),
        str(KeyError(secret)),
    ]
    assert not [text for text in shown if "hunter2" in text]
    assert "hunter2" == secret.reveal()
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    with pytest.raises(AttributeError):
        secret.text = "x"  # type: ignore[attr-defined]  # the point of the test


def test_secrets_are_compared_by_what_they_hold() -> None:
    """So that a rotated one is noticed."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert 1 == len({Secret("a"), Secret("a")})


def test_a_secret_is_read_anew_and_trimmed(tmp_path: Path) -> None:
    """White space around it goes; what the file holds now counts; its permissions do not."""
    file = tmp_path / "token"
    file.write_text("\ufeff  at_live_1 \r\n")
    file.chmod(0o644)
    assert Secret("at_live_1") == read_secret(file)
    file.write_text("at_live_2")
    assert Secret("at_live_2") == read_secret(file)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"hunter2\xff", "is not UTF-8 text"),
        (b"hunter2\nhunter3", "holds more than one word"),
        (b"x" * (64 * 1024 + 1), "is larger than 65536 bytes"),
    ],
)
def test_a_secret_that_cannot_be_used(tmp_path: Path, content: bytes, why: str) -> None:
    """The path and why are told, the content never, not even in the traceback."""
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SecretError) as caught:
        read_secret(file)
    assert f"{file}: {why}" == str(caught.value)
    assert (file, why) == (caught.value.path, caught.value.why)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_s_file_must_be_a_file(tmp_path: Path) -> None:
    """Missing, a directory, a pipe that nobody writes to."""
    import os

    os.mkfifo(tmp_path / "pipe")
    whys = []
    for name in ("gone", ".", "pipe"):
        with pytest.raises(SecretError) as caught:
            read_secret(tmp_path / name)
        whys.append(caught.value.why)
    assert ["no such file", "is a directory", "is not a regular file"] == whys


def test_files_are_checked_apart_from_loading(tmp_path: Path) -> None:
    """Loading touches no named file; the check names each one that cannot be read, at its key."""
    (tmp_path / "empty").write_text("")
    (tmp_path / "good").write_text("token")
    (tmp_path / "syncwatch.yaml").write_text(f"""\
local_token_file: {tmp_path}/good
web_config: {tmp_path}/gone
state_dir: {tmp_path}/never-read
connections:
  - name: cast
    protocol: relaycast
    url: http://h
    token_file: {tmp_path}/empty
    tls: {{ca_file: {tmp_path}, cert_file: {tmp_path}/empty, key_file: {tmp_path}/good}}
    canary: {{token_file: {tmp_path}/gone}}
  - {{name: files, protocol: relayfile, url: 'http://h', workspace: w, token_file: {tmp_path}/good}}
hooks: [{{name: h, url: 'http://h', secret_file: {tmp_path}/gone}}]
""")
    config = load(tmp_path / "syncwatch.yaml", {})
    assert [
        f"2: web_config: {tmp_path}/gone: no such file",
        f"8: connections[0].token_file: {tmp_path}/empty: is empty",
        f"9: connections[0].tls.ca_file: {tmp_path}: is a directory",
        f"9: connections[0].tls.cert_file: {tmp_path}/empty: is empty",
        f"10: connections[0].canary.token_file: {tmp_path}/gone: no such file",
        f"12: hooks[0].secret_file: {tmp_path}/gone: no such file",
    ] == [str(mistake).removeprefix(f"{tmp_path}/syncwatch.yaml:") for mistake in unreadable_files(config)]


AT_EACH_USE = {
    "token_file": "connections[0].token_file",
    "canary_token": "connections[0].canary.token_file",
    "ca_file": "connections[0].tls.ca_file",
    "cert_file": "connections[0].tls.cert_file",
    "key_file": "connections[0].tls.key_file",
    "secret_file": "hooks[0].secret_file",
    "local_token_file": "local_token_file",
}
"""Files that are read again at each use."""


def with_files(folder: Path, **names: str) -> str:
    """A configuration that names every one of them; those not in `names` can be read."""
    (folder / "good").write_text("token")
    at = {key: folder / names.get(key, "good") for key in AT_EACH_USE}
    return f"""\
local_token_file: {at["local_token_file"]}
connections:
  - name: cast
    protocol: relaycast
    url: http://h
    token_file: {at["token_file"]}
    tls: {{ca_file: {at["ca_file"]}, cert_file: {at["cert_file"]}, key_file: {at["key_file"]}}}
    canary: {{token_file: {at["canary_token"]}}}
hooks: [{{name: h, url: 'http://h', secret_file: {at["secret_file"]}}}]
"""


@pytest.mark.parametrize("key", AT_EACH_USE)
@pytest.mark.parametrize(("content", "why"), [(None, "no such file"), ("", "is empty")])
def test_a_file_that_is_read_at_each_use_may_come_later(tmp_path: Path, key: str, content: str | None, why: str) -> None:
    """It keeps nothing from starting and is named; in place of what runs, only a file that was missing already may be missing."""
    later = tmp_path / "later"
    if content is not None:
        later.write_text(content)
    file = ConfigFile(tmp_path / "syncwatch.yaml", {})
    good, text = file.startable(with_files(tmp_path)), with_files(tmp_path, **{key: "later"})
    started = file.startable(text)
    assert [(AT_EACH_USE[key], f"{later}: {why}")] == [(one.path, one.text) for one in awaited_files(started)]
    assert started == file.runnable(text, started)
    with pytest.raises(ConfigError, match=rf": {re.escape(AT_EACH_USE[key])}: {later}: {why}$"):
        file.runnable(text, good)
    later.write_text("token")
    assert [] == awaited_files(started)


@pytest.mark.parametrize(
    ("mount", "project", "why"),
    [
        ("link", "real", "links lead to {0}/real and {0}/real"),
        ("link/inside", "real", "links lead to {0}/real/inside and {0}/real"),
        ("real", "link/not yet there", "links lead to {0}/real and {0}/real/not yet there"),
        ("link", "link/../real/inside", "links lead to {0}/real and {0}/real/inside"),
        ("real", "other", None),
        ("not there", "real", None),
        ("round", "real", None),
    ],
)
def test_roots_that_links_make_one_tree(tmp_path: Path, mount: str, project: str, why: str | None) -> None:
    """Refused with both paths, at the key of the second; a root that is not there yet is no mistake, nor is a link that leads nowhere."""
    (tmp_path / "real/inside").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "round").symlink_to("round")
    block = {"name": "m", "mount": f"{tmp_path}/{mount}", "project": f"{tmp_path}/{project}"}
    told = [str(one) for one in unreadable_files(parse_values({"mirrors": [block]}, "f", {}))]
    words = f"f: mirrors[0].project: {tmp_path}/{project} and the mount {tmp_path}/{mount} are the same tree or one inside the other: "
    assert ([] if why is None else [words + why.format(tmp_path)]) == told


def test_a_mount_that_does_not_answer_keeps_nobody_from_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its links lead is not waited for."""
    go_on = threading.Event()
    monkeypatch.setattr(named_files, "LINKS_WAIT_S", 0.05)
    monkeypatch.setattr(named_files, "_one_tree", lambda *_: "found too late" if go_on.wait(30.0) else None)
    try:
        assert [] == unreadable_files(parse_values({"mirrors": [{"name": "m", "mount": "/a", "project": "/b"}]}, "f", {}))
        assert not go_on.is_set()
    finally:
        go_on.set()


def test_check_says_all_that_is_in_the_way(tmp_path: Path) -> None:
    """Mistakes; or else what does not run and what cannot be read; or nothing."""
    token, file = tmp_path / "token", tmp_path / "syncwatch.yaml"
    token.write_text("t")
    good = MINIMAL.replace("/x", str(token))
    answers = []
    elsewhere = good.replace(str(token), f"{token}s")
    for text in (good, good.replace("url", "ulr"), f"web_config: /g\n{elsewhere}", elsewhere):
        file.write_text(text)
        checked = check(file, {})
        answers.append([[line.removeprefix(f"{file}:") for line in lines] for lines in checked])
    assert [
        [[], []],
        [
            [
                "1: connections[0].url: missing, expected a URL such as http://127.0.0.1:8787",
                "1: connections[0].ulr: unknown key; did you mean url?",
            ],
            [],
        ],
        [
            ["1: web_config: /g: no such file"],
            [],
        ],
        [[], [f"1: connections[0].token_file: {token}s: no such file"]],
    ] == answers


def test_a_complaint_about_a_default_names_the_block_around_it() -> None:
    """What stands nowhere has the line of the nearest thing that does."""
    source = loaded("\n" + MINIMAL).source
    assert Mistake("syncwatch.yaml", 2, "connections[0].canary.channel", "x") == source.mistake(
        "connections[0].canary.channel", "x"
    )
    assert Mistake("syncwatch.yaml", 2, "health", "x") == source.mistake("health", "x")


# --- nothing else is ever raised -----------------------------------------------------------------------------------------------------------

KEYS = sorted({key for block in blocks() for key in keys_of(block)} | {"<<", "x", ""})
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.binary(max_size=3),
    st.sampled_from(["relaycast", "relayfile", "tps", "host", "15s", "16MiB", "http://h", "/p", "127.0.0.1:1", "${A}", "${", "~/a", "9" * 30]),
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)


def outcome(text: str) -> Config | tuple[Mistake, ...]:
    """The configuration or its mistakes; any exception but ConfigError passes through and fails the test."""
    try:
        return parse(text, "syncwatch.yaml", {"A": "\udcff", "HOME": "/h"})
    except ConfigError as error:
        return error.mistakes


def is_answer(answer: Config | tuple[Mistake, ...]) -> bool:
    """A configuration, or at least one mistake; each of them one printable line."""
    if isinstance(answer, Config):
        return True
    return bool(answer) and all(str(mistake).isprintable() and mistake.text for mistake in answer)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=6) | ANYTHING)
def test_any_structure_is_a_configuration_or_a_config_error(structure: Any) -> None:
    """Whatever the YAML says, the answer is a value or a list of mistakes."""
    assert is_answer(outcome(yaml.safe_dump(structure, allow_unicode=True)))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="[]{}&*!|>%'\"#:-,?<\\ \n\tab0xU", max_size=60))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    """Whatever the text is, too."""
    assert is_answer(outcome(text))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_change_of_the_example_is_a_configuration_or_a_config_error(data: st.DataObject) -> None:
    """A value of a good file replaced by anything: near misses reach deeper than noise."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    key = lines[number].split(":")[0]
    lines[number] = (
        f"{key}: {data.draw(st.text(max_size=12) | st.sampled_from(['[', '*a', '&a', '0x10', '1e400', '~', '!!int', '- a']))}"
    )
    assert is_answer(outcome("\n".join(lines)))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "&a [*a]", "&a {connections: *a}", "connections: &a [*a]", "%YAML 1." + "9" * 5000 + "\n--- a", "? " * 5000, "a: !<%ZZ> b", "\ud800"],
    ids=range(10),
)  # fmt: skip
def test_hostile_texts_end_soon(text: str) -> None:
    """Depth, recursion and numbers beyond Python's limits are mistakes like any other."""
    answer = outcome(text)
    assert is_answer(answer)
    assert not isinstance(answer, Config)


# --- the reference ---------------------------------------------------------------------------------------------------------------------------

REFERENCE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
DIALLED = set(keys_of(connection_blocks._Dialled))
SECTIONS: dict[str, tuple[type[Block], set[str]]] = {
    "## Top level": (Config, set()),
    "### `log`": (other_blocks.Log, set()),
    "## `connections`: every connection that dials": (connection_blocks._Dialled, set()),
    "### `tls`": (connection_blocks.Tls, set()),
    "### `heartbeat`": (Heartbeat, set()),
    "### `reconnect`": (connection_blocks.Reconnect, set()),
    "### `resync`": (connection_blocks.Resync, set()),
    "### `verify`": (connection_blocks.Verify, set()),
    "## `connections`: protocol `relaycast`": (RelaycastConnection, DIALLED),
    "### `canary` of `relaycast`": (RelaycastCanary, set()),
    "## `connections`: protocol `relayfile`": (RelayfileConnection, DIALLED),
    "### `polling`": (connection_blocks.Polling, set()),
    "### `audit`": (connection_blocks.Audit, set()),
    "### `canary` of `relayfile`": (connection_blocks.RelayfileCanary, set()),
    "## `connections`: protocol `tps`, mode `passive`": (TpsPassiveConnection, set()),
    "### `heartbeat` of mode `passive`": (connection_blocks.HostHeartbeat, set()),
    "## `connections`: protocol `tps`, mode `host`": (TpsHostConnection, DIALLED),
    "## `watchers`": (other_blocks.Watcher, set()),
    "### `sentinel`": (other_blocks.Sentinel, set()),
    "## `mirrors`": (other_blocks.Mirror, set()),
    "### `reconcile`": (other_blocks.Reconcile, set()),
    "## `services`": (other_blocks.Service, set()),
    "## `hooks`": (other_blocks.Hook, set()),
    "## `health`": (other_blocks.Health, set()),
    "### `ready`": (other_blocks.Ready, set()),
    "### `healthz`": (other_blocks.Healthz, set()),
    "### `gate`": (other_blocks.Gate, set()),
}


def rows(section: str) -> dict[str, str]:
    """The keys and defaults of a section's table."""
    body = re.split(r"(?m)^##", REFERENCE.partition(f"\n{section}\n")[2])[0]
    return dict(re.findall(r"(?m)^\| `(\w+)` \| [^|]* \| ([^|]*) \|", body))


def meaning(default: str, field: msgspec.structs.FieldInfo) -> Any:
    """What a default means that the reference writes in YAML."""
    node = yaml.compose(default.strip("`"), Loader=yaml.SafeLoader)
    assert node is not None
    reading = Reading("configuration.md")
    value = syncwatch.config.decode._Decoder(reading, {}).value(Entry(node, node), "x", field.type)
    assert [] == reading.mistakes
    return value


def test_the_reference_has_a_section_for_every_block() -> None:
    """None is forgotten."""
    assert set(blocks()) <= {block for block, _ in SECTIONS.values()}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_reference_tells_every_key_and_its_default(section: str) -> None:
    """The tables name exactly the keys that exist, with the defaults that hold."""
    block, told_elsewhere = SECTIONS[section]
    told = rows(section)
    assert set(keys_of(block)) - told_elsewhere == set(told)
    for key, text in told.items():
        field = keys_of(block)[key]
        if field.required:
            assert "required" == text
        elif text in ("see below", "see above"):
            assert isinstance(default_of(field), Block)
        else:
            assert meaning(text, field) == default_of(field)


def test_the_reference_names_every_reason() -> None:
    """Conditions and incidents."""
    health = REFERENCE.partition("\n## `health`\n")[2]
    assert not [reason for reason in (*CONDITIONS, *INCIDENTS) if reason not in health]


def test_the_reference_names_what_does_not_run_yet() -> None:
    """Whatever the example is refused for stands in that section."""
    section = re.split(r"(?m)^##", REFERENCE.partition("\n## Accepted, not running yet\n")[2])[0]
    config, _ = example()
    refused_paths = {re.sub(r"\[\d+\]", "", mistake.path) for mistake in unsupported(config)}
    assert set() == refused_paths
    assert not [
        word
        for word in (*refused_paths, "node")
        if f"`{word}`" not in section
    ]

"""How a command finds its sidecar, and what is made of a status that is no longer so."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from syncwatch import asking
from syncwatch.asking import LOCAL, Misasked, Place, Unreachable, find
from syncwatch.cli import main
from syncwatch.config import Address, Config, ConfigError, Log
from syncwatch.config.whereabouts import UNKNOWN, Doors, Whereabouts, doors, whereabouts
from syncwatch.exposition import document as doc
from syncwatch.exposition import status
from syncwatch.runtime.statusfile import FILE, uptime, writer
from tests.unit.snapshots import service, snapshot

CONFIG = """\
local_listen: {listen}
state_dir: /var/lib/syncwatch
connections: [{{name: cast, protocol: relaycast, url: "http://127.0.0.1:9", token_file: /nowhere}}]
"""


def config(folder: Path, text: str = CONFIG, listen: str = "127.0.0.1:10999") -> str:
    """A configuration file."""
    file = folder / "syncwatch.yaml"
    file.write_text(text.format(listen=listen))
    return str(file)


def test_where_a_sidecar_is(tmp_path: Path) -> None:
    """The options win over the file, the file over the default; a URL or a directory alone is about no configuration of the environment."""
    file, state = config(tmp_path), Path("/var/lib/syncwatch")
    environ = {"SYNCWATCH_CONFIG": file}
    assert Place(LOCAL, None, None) == find(None, None, None, None, {})
    assert Place("http://127.0.0.1:10999", None, state) == find(None, file, None, None, {})
    assert Place("http://127.0.0.1:10999", None, state) == find(None, None, None, None, environ)
    assert Place("http://other:1", None, state) == find("http://other:1", file, None, None, {})
    assert Place("http://127.0.0.1:10999", None, Path("/elsewhere")) == find(None, file, "/elsewhere", None, {})
    assert Place("http://other:1", None, None) == find("http://other:1", None, None, None, environ)
    assert Place(None, None, Path("/elsewhere")) == find(None, None, "/elsewhere", None, environ)
    assert Place("http://other:1", None, Path("/elsewhere")) == find("http://other:1", None, "/elsewhere", None, environ)


def test_its_token(tmp_path: Path) -> None:
    """The file of the configuration, unless another one is named."""
    token = tmp_path / "token"
    token.write_text("sesame")
    file = config(tmp_path, f"local_token_file: {tmp_path}/of-the-config\n" + CONFIG)
    assert tmp_path / "of-the-config" == find(None, file, None, None, {}).token_file
    assert token == find(None, file, None, str(token), {}).token_file


@pytest.mark.parametrize(
    ("listen", "url"),
    [("0.0.0.0:7", "http://127.0.0.1:7"), ('"[::]:7"', "http://[::1]:7"), ("localhost:7", "http://localhost:7"), ("127.0.0.1:0", None)],
)
def test_an_address_that_is_none_to_ask(tmp_path: Path, listen: str, url: str | None) -> None:
    """Everywhere is here; any free port is nowhere, and then the file is all there is."""
    assert url == find(None, config(tmp_path, listen=listen), None, None, {}).url


def test_neither_an_address_nor_a_directory(tmp_path: Path) -> None:
    """Said, with what to do."""
    file = config(tmp_path, "local_listen: 127.0.0.1:0\n")
    with pytest.raises(Misasked, match=r"any free port and there is no state_dir: name the address with --url$"):
        find(None, file, None, None, {})


def test_a_spoilt_configuration_still_says_where(tmp_path: Path) -> None:
    """A sidecar goes on when its file is spoilt, and then somebody wants to know how it is; only the keys that say where have to be right."""
    spoilt = CONFIG + "nonsense: 1\nlog: {{level: loud}}\nservices: [{{name: \"${{NOT_SET}}\"}}]\n"
    assert "http://127.0.0.1:10999" == whereabouts(Path(config(tmp_path, spoilt)), {}).url
    with pytest.raises(ConfigError, match=r"syncwatch\.yaml:1: local_listen: "):
        whereabouts(Path(config(tmp_path, listen="somewhere")), {})
    with pytest.raises(ConfigError, match="no such file"):
        whereabouts(tmp_path / "nowhere.yaml", {})
    for nothing in ("", "[1]"):
        assert Whereabouts() == whereabouts(Path(config(tmp_path, nothing)), {})


def test_a_sidecar_that_waits_for_its_configuration_can_be_asked(tmp_path: Path) -> None:
    """Where the environment names a file that cannot be read at all, as in the container: at the default address. A file that somebody names is a mistake."""
    nowhere = str(tmp_path / "nowhere.yaml")
    assert Place(LOCAL, None, None) == find(None, None, None, None, {"SYNCWATCH_CONFIG": nowhere})
    with pytest.raises(ConfigError, match="no such file"):
        find(None, nowhere, None, None, {})


def test_the_doors_of_a_sidecar_without_a_configuration() -> None:
    """Each key by itself, as far as it can be read; else the defaults. What others could reach without a token is not opened."""
    text = "listen: 127.0.0.1:7\nlocal_listen: nowhere\nlog: {level: debug}\nlog.level: 1\ngate_file: /g\n1: 2\nconnections: 5\n"
    assert Doors(listen=Address("127.0.0.1", 7), gate_file=Path("/g"), log=Log(level="debug")) == doors(text, "f", {})
    text = "listen: 127.0.0.1:7\nlocal_listen: 0.0.0.0:8\nlog: {level: loud}\n"
    assert Doors(listen=Address("127.0.0.1", 7)) == doors(text, "f", {})
    for text in ("", "[1]", "a: [", "x"):
        assert Doors() == doors(text, "f", {})
        told = {"SYNCWATCH_LISTEN": "127.0.0.1:9", "SYNCWATCH_LOG_LEVEL": "error"}
        assert Doors(listen=Address("127.0.0.1", 9), log=Log(level="error")) == doors(text, "f", told)
    for none in ("local_token_file: null\n", "# local_token_file: /t\nnonsense: 1\n", "a: [  # no local_token_file\n"):
        assert Doors() == doors(none, "f", {})
    assert Doors() == doors(None, "f", {"SYNCWATCH_LISTEN": "anywhere"})
    assert (Config().listen, Config().local_listen) == (Doors().listen, Doors().local_listen)


def test_the_token_of_a_sidecar_without_a_configuration(tmp_path: Path) -> None:
    """What the file names is asked for; where that cannot be told, a token is asked for that nobody has. Others can only reach what has one that can be read."""
    token = tmp_path / "token"
    assert Doors(local_token_file=token) == doors(f"local_token_file: {token}\nnonsense: 1\n", "f", {})
    reachable = f"local_listen: 0.0.0.0:8\nlocal_token_file: {token}\nnonsense: 1\n"
    assert Doors(local_token_file=token) == doors(reachable, "f", {})
    token.write_text("secret\n")
    assert Doors(local_token_file=token, local_listen=Address("0.0.0.0", 8)) == doors(reachable, "f", {})
    for wrong in ("local_token_file: [1]", "local_token_file: null\nlocal_token_file: [1]", "local_token_file: /t\n a: [", "log:\n  local_token_file: /t\n", "x: &x {local_token_file: /t}\n<<: *x"):
        assert Doors(local_token_file=UNKNOWN) == doors(wrong, "f", {}), wrong
    assert Doors(local_token_file=token) == doors(f"local_token_file: {token}\nlocal_token_file: null\n", "f", {})


def left_behind(folder: Path, ended: bool) -> None:
    """A status file of a healthy sidecar with a service."""
    content = {
        "schema": 1, "time": "2026-11-20T13:06:40.000Z", "time_s": 1.0, "uptime_s": uptime() - 2.0, "every_s": 10.0, "ended": ended,
        "writer": msgspec.to_builtins(writer()), "status": status.document(snapshot(services=(service(),))),
    }  # fmt: skip
    (folder / FILE).write_text(json.dumps(content))


def test_a_living_sidecar_that_cannot_be_asked(tmp_path: Path) -> None:
    """Its file is believed; where it comes from and why is told."""
    left_behind(tmp_path, ended=False)
    found = asking.status(Place("http://127.0.0.1:1", None, tmp_path))
    source = found["source"]
    assert list(doc.Source.__struct_fields__) == list(source)
    assert ("file", str(tmp_path / FILE), True, None) == (source["kind"], source["at"], source["current"], source["detail"])
    assert "http://127.0.0.1:1/status cannot be asked: connection refused" == source["unreachable"]
    assert 2.0 <= source["age_s"] < 12.0
    assert "healthy" == found["health"] == found["connections"][0]["health"]
    assert None is asking.status(Place(None, None, tmp_path))["source"]["unreachable"]


def test_a_sidecar_that_ended(tmp_path: Path) -> None:
    """Nothing in its document says any more that something is well, and the gate is closed; all else is as it was."""
    left_behind(tmp_path, ended=True)
    found = asking.status(Place(None, None, tmp_path))
    assert (None, None, None) == (found["health"], found["connections"][0]["health"], found["services"][0]["health"])
    assert [False, False] == [found["gate"][side]["open"] for side in ("read", "write")]
    assert (False, "open") == (found["source"]["current"], found["connections"][0]["state"])


def test_nobody_can_be_asked(tmp_path: Path) -> None:
    """Both reasons in one sentence."""
    with pytest.raises(Unreachable, match=rf"^http://127\.0\.0\.1:1/status cannot be asked: connection refused; {tmp_path}/{FILE} does not exist: "):
        asking.status(Place("http://127.0.0.1:1", None, tmp_path))
    with pytest.raises(Unreachable, match=r"connection refused$"):
        asking.status(Place("http://127.0.0.1:1", None, None))


def test_a_token_that_cannot_be_read(tmp_path: Path) -> None:
    """Named by hand, it is a wrong question; out of the configuration, the file is left."""
    with pytest.raises(Misasked, match=r"^--token-file: "):
        find(None, None, None, str(tmp_path / "token"), {})
    left_behind(tmp_path, ended=False)
    found = asking.status(Place("http://127.0.0.1:1", tmp_path / "token", tmp_path))
    assert "token: no such file" in found["source"]["unreachable"]


def test_a_state_directory_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a sidecar that cannot be asked, which is 3; 2 would say that something is down."""

    def open_file(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "no", path)

    monkeypatch.setattr("os.access", lambda *_, **__: False)
    monkeypatch.setattr(Path, "open", open_file)
    done = CliRunner().invoke(main, ["status", "--state-dir", str(tmp_path)])
    assert (3, "") == (done.exit_code, done.stdout)
    assert f"{tmp_path / FILE} cannot be read: permission denied (only the user that the sidecar runs as may)" in done.stderr

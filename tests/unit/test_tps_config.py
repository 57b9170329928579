"""Mode host in the configuration: where a branch can be, and whether its identity and the place for its mail can be used here and now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from syncwatch.config import TpsHostConnection, parse, unreadable_files
from syncwatch.config.endpoints import branch_url
from syncwatch.config.mistakes import WrongValueError

KEY = "NPmCcCeRGlprpJYhY8eDXqYyQ8wkg2HHAHtdwpDQuTQ"


def written(tmp_path: Path, **changes: object) -> list[str]:
    """What is refused about a connection whose files are in `tmp_path`, as paths and sentences."""
    block = {
        "name": "branch", "protocol": "tps", "mode": "host", "branch": "b1", "dedicated": True, "url": "ws://127.0.0.1:6458",
        "identity_file": str(tmp_path / "host.seed"), "peer_key": KEY, "mail_dir": str(tmp_path / "mail"), **changes,
    }  # fmt: skip
    config = parse(yaml.safe_dump({"connections": [block]}), "f.yaml", {})
    assert isinstance(config.connections[0], TpsHostConnection)
    return [f"{mistake.path}: {mistake.text}" for mistake in unreadable_files(config)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ws://127.0.0.1:6458", "ws://127.0.0.1:6458/tps/wire"),
        ("ws://localhost:6458/", "ws://localhost:6458/tps/wire"),
        ("ws://[::1]:6458/tps/wire", "ws://[::1]:6458/tps/wire"),
        ("http://localhost", "ws://localhost/tps/wire"),
        ("wss://branch.example", "wss://branch.example/tps/wire"),
        ("https://branch.example/tps/wire/", "wss://branch.example/tps/wire"),
        ("tcp://branch.example:6458", "tcp://branch.example:6458"),
        ("tcp://[fd00::1]:6458/", "tcp://[fd00::1]:6458"),
    ],
)
def test_where_a_branch_can_be(text: str, expected: str) -> None:
    """Without TLS on this machine, with it anywhere, over TCP anywhere; the path that branches have need not be written."""
    assert expected == branch_url(text)


@pytest.mark.parametrize("text", ["ws://127.0.0.2:1", "ws://branch", "http://10.0.0.1", "tcp://h", "tcp://h:1/x", "tcp://h:1?x=1", "tcp://h:0", "udp://h:1", "tcp://u:p@h:1", "h:1", "ws://localhost/tps", "ws://localhost/tps/wire/x", "wss://h/b1/tps/wire", "wss://h//tps/wire", "wss://h/TPS/WIRE", "wss://h/tps%2Fwire", "wss://h/tps/wire?x"])
def test_where_a_branch_cannot_be(text: str) -> None:
    """Refused."""
    with pytest.raises(WrongValueError):
        branch_url(text)


def test_files_that_can_be_used(tmp_path: Path) -> None:
    """A seed, and a directory that is there or can be made; looking makes nothing."""
    (tmp_path / "host.seed").write_bytes(bytes(32))
    assert [] == written(tmp_path)
    assert [] == written(tmp_path, mail_dir=str(tmp_path / "a" / "b" / "c"))
    (tmp_path / "mail").mkdir()
    assert [] == written(tmp_path)
    assert ["host.seed", "mail"] == sorted(os.listdir(tmp_path))


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """Each at its key, with its path and why."""
    seed, mail = tmp_path / "host.seed", tmp_path / "mail"
    key = "connections[0].identity_file"
    assert [f"{key}: {seed}: no such file"] == written(tmp_path)
    for content, why in ((b"", "holds 0 bytes, and a seed has 32"), (b"x" * 31, "holds 31 bytes, and a seed has 32"), (b"x" * 33, "is larger than 32 bytes")):
        seed.write_bytes(content)
        assert [f"{key}: {seed}: {why}"] == written(tmp_path)
    seed.write_bytes(bytes(32))
    mail.write_text("no directory")
    key = "connections[0].mail_dir"
    assert [f"{key}: {mail}: is not a directory"] == written(tmp_path)
    assert [f"{key}: {mail}/deep/er: {mail} is not a directory"] == written(tmp_path, mail_dir=str(mail / "deep" / "er"))


def test_a_directory_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, or the one in which it would have to be made."""
    (tmp_path / "host.seed").write_bytes(bytes(32))
    monkeypatch.setattr(os, "access", lambda *_: False)
    key = "connections[0].mail_dir"
    assert [f"{key}: {tmp_path}/mail: cannot be made: {tmp_path} cannot be written to"] == written(tmp_path)
    (tmp_path / "mail").mkdir()
    assert [f"{key}: {tmp_path}/mail: cannot be written to"] == written(tmp_path)

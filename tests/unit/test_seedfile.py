"""The seed's file: made once, 0600 in 0700, never replaced; what is open to others is closed, and said."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from syncwatch.runtime import seedfile
from syncwatch.runtime.seedfile import Seed, SeedFileError, load, obtain


def mode(path: Path) -> int:
    """The permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_seed_is_made_once(tmp_path: Path) -> None:
    """With its directories; the second time it is the same one."""
    path = tmp_path / "a" / "b" / "host.seed"
    made = obtain(path)
    assert (True, 32, made.secret) == (made.made, len(made.secret), path.read_bytes())
    assert (0o600, 0o700) == (mode(path), mode(path.parent))
    assert ["host.seed"] == os.listdir(path.parent)
    assert Seed(made.secret) == obtain(path) == load(path)
    assert made.secret != obtain(tmp_path / "a" / "c" / "host.seed").secret


def test_what_is_open_to_others_is_closed(tmp_path: Path) -> None:
    """The file, and the directory that is for it alone; each is said once."""
    path = tmp_path / "keys" / "host.seed"
    secret = obtain(path).secret
    path.chmod(0o644)
    path.parent.chmod(0o755)
    found = obtain(path)
    assert Seed(secret, remarks=(f"{path.parent} was open to others (0755) and is now 0700", f"{path} was open to others (0644) and is now 0600")) == found
    assert (0o600, 0o700) == (mode(path), mode(path.parent))
    assert () == obtain(path).remarks


def test_a_directory_with_other_things_is_left_alone(tmp_path: Path) -> None:
    """Nobody is locked out of what is not ours; the file is closed all the same."""
    (tmp_path / "other").write_text("theirs")
    tmp_path.chmod(0o755)
    path = tmp_path / "host.seed"
    made = obtain(path)
    assert (0o755, 0o600) == (mode(tmp_path), mode(path))
    (said,) = made.remarks
    assert said.startswith(f"{tmp_path} is open to others (0755) and is left so, because it holds other things")


def test_a_mount_that_is_not_ours_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Secret in Kubernetes: it is used, and said."""
    path = tmp_path / "host.seed"
    path.write_bytes(bytes(32))
    path.chmod(0o644)

    def chmod(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(seedfile.os, "chmod", chmod)  # type: ignore[attr-defined]
    assert (f"{path} is open to others (0644), and that is not ours to change",) == load(path).remarks


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "holds 0 bytes, and a seed has 32"), (b"x" * 31, "holds 31 bytes, and a seed has 32"), (b"x" * 33, "holds more than 32 bytes, and a seed has 32")],
)
def test_files_that_are_no_seed_are_left_as_they_are(tmp_path: Path, content: bytes, why: str) -> None:
    """Never overwritten, whatever they are; the content is not repeated."""
    path = tmp_path / "host.seed"
    path.write_bytes(content)
    for use in (load, obtain):
        with pytest.raises(SeedFileError) as told:
            use(path)
        assert f"{path}: {why}" == str(told.value)
    assert content == path.read_bytes()


def test_what_cannot_be_used(tmp_path: Path) -> None:
    """Missing, a directory, a pipe, a dangling link, a directory that cannot be made: a sentence with the path."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    for use, name, why in (
        (load, "missing", "missing: no such file or directory"),
        (load, "pipe", "pipe: is not a regular file"),
        (obtain, "pipe", "pipe: is not a regular file"),
        (obtain, "link", "link: no such file or directory"),
        (obtain, "file/host.seed", "file: file exists"),
    ):
        with pytest.raises(SeedFileError) as told:
            use(tmp_path / name)
        assert f"{tmp_path}/{why}" == str(told.value)
    with pytest.raises(SeedFileError) as told:
        load(tmp_path)
    assert f"{tmp_path}: is a directory" == str(told.value)


def test_two_at_once_make_one(tmp_path: Path) -> None:
    """Whoever comes second takes what the first one made."""
    path = tmp_path / "keys" / "host.seed"
    found: list[Seed] = []
    start = threading.Barrier(8)

    def run() -> None:
        start.wait()
        found.append(obtain(path))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.read_bytes()} == {one.secret for one in found}
    assert 1 == sum(one.made for one in found)
    assert ["host.seed"] == os.listdir(path.parent)


def test_a_seed_is_not_shown() -> None:
    """Not by its repr."""
    assert "Seed(made=False, remarks=())" == repr(Seed(b"s" * 32))

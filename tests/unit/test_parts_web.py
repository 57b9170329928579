"""The file of `web_config` while it runs, look by look: what is taken over, when, and what is told."""

from __future__ import annotations

import asyncio
import ssl
import threading
from pathlib import Path

import bcrypt
import pytest
from structlog.testing import capture_logs

from syncwatch.parts import web as module
from syncwatch.parts.surroundings import NotUsable
from syncwatch.parts.web import WebFile
from syncwatch.runtime.clock import SYSTEM
from tests.unit.test_webconfig import DAY, HASH, certify


async def look(web: WebFile, times: int = 2) -> None:
    """What the supervisor does in so many seconds: what is new is taken over when it stood still for one."""
    for _ in range(times):
        web.beat(0.0)
        await looked(web)


async def looked(web: WebFile) -> None:
    """Wait for the thread."""
    assert web._looking is not None
    await asyncio.wait([web._looking])


def fingerprint(web: WebFile) -> bytes:
    """The certificate that the next connection is shown."""
    assert web.context is not None
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours, theirs = client.wrap_bio(to_client, to_server), web.context.wrap_bio(to_server, to_client, server_side=True)
    for end in (ours, theirs, ours):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown = ours.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def of(folder: Path, name: str) -> bytes:
    """The certificate in a file."""
    return ssl.PEM_cert_to_DER_cert((folder / f"{name}.pem").read_text())


async def begun(folder: Path, text: str) -> WebFile:
    """The file beside two certificates, in force."""
    certify(folder, "a")
    certify(folder, "b")
    (folder / "web.yaml").write_text(text)
    web = WebFile(folder / "web.yaml", SYSTEM)
    await web.begin()
    return web


TLS = "tls_server_config: {cert_file: a.pem, key_file: a.key}\n"


async def test_a_certificate_and_its_key_may_be_written_one_after_the_other(tmp_path: Path) -> None:
    """While they do not belong together what was in force goes on; nothing is said as long as the next look finds more."""
    web = await begun(tmp_path, TLS)
    old, new = of(tmp_path, "a"), of(tmp_path, "b")
    with capture_logs() as logs:
        (tmp_path / "a.pem").write_bytes((tmp_path / "b.pem").read_bytes())
        await look(web, 1)
        (tmp_path / "a.key").write_bytes((tmp_path / "b.key").read_bytes())
        await look(web, 1)
        assert old == fingerprint(web)
        await look(web, 1)
        assert new == fingerprint(web)
        await look(web)
    assert ["web_config was taken over"] == [line["event"] for line in logs]


async def test_what_is_wrong_is_told_once_and_tried_again_when_it_changed(tmp_path: Path) -> None:
    """Also when not the file itself changed but one that it names, which was not there yet."""
    web = await begun(tmp_path, TLS + f"basic_auth_users: {{a: {HASH}}}\n")
    began_s = web.success_wall_s
    with capture_logs() as logs:
        (tmp_path / "web.yaml").write_text("tls_server_config: {cert_file: later.pem, key_file: later.key}\nbasic_auth_users:\n")
        await look(web, 5)
        wrong = tuple(f"{tmp_path}/web.yaml:1: tls_server_config.{kind}_file: {tmp_path}/later.{end}: no such file" for kind, end in (("cert", "pem"), ("key", "key")))
        assert (wrong, ["a"], began_s) == (web.errors, list(web.users), web.success_wall_s)
        assert of(tmp_path, "a") == fingerprint(web)
        certify(tmp_path, "later")
        await look(web)
        assert ((), [], of(tmp_path, "later")) == (web.errors, list(web.users), fingerprint(web))
        assert began_s < web.success_wall_s
    assert ["error", "error", "info"] == [line["log_level"] for line in logs]


@pytest.mark.parametrize(("before", "after", "word"), [(TLS, f"basic_auth_users: {{a: {HASH}}}\n", "removed"), ("{}\n", TLS, "added")])
async def test_tls_neither_comes_nor_goes_without_a_restart(tmp_path: Path, before: str, after: str, word: str) -> None:
    """And nothing else of that change is taken over; what was in force, written again, is right again."""
    web = await begun(tmp_path, before)
    (tmp_path / "web.yaml").write_text(after)
    await look(web)
    assert ((f"{tmp_path}/web.yaml: tls_server_config was {word}: that needs a restart",), {}) == (web.errors, web.users)
    (tmp_path / "web.yaml").write_text(before)
    await look(web)
    assert () == web.errors


async def test_a_file_that_went_away(tmp_path: Path) -> None:
    """Is told, and missed by nobody."""
    web = await begun(tmp_path, f"basic_auth_users: {{a: {HASH}}}\n")
    (tmp_path / "web.yaml").unlink()
    await look(web)
    assert ((f"{tmp_path}/web.yaml: no such file",), {"a": HASH}) == (web.errors, web.users)


async def test_an_expired_certificate_is_served_and_told(tmp_path: Path) -> None:
    """A sidecar that does not start would be worse."""
    certify(tmp_path, "old", ends=-DAY / 2)
    with capture_logs() as logs:
        web = await begun(tmp_path, "tls_server_config: {cert_file: old.pem, key_file: old.key}")
    assert of(tmp_path, "old") == fingerprint(web)
    assert [f"{tmp_path}/web.yaml:1: tls_server_config.cert_file: {tmp_path}/old.pem: the certificate has expired"] == [
        line["mistake"] for line in logs if line["log_level"] == "warning"
    ]


async def test_what_cannot_be_used_at_the_start(tmp_path: Path) -> None:
    """It could be used a moment ago, when the configuration was checked."""
    with pytest.raises(NotUsable, match=r"web\.yaml: no such file"):
        await WebFile(tmp_path / "web.yaml", SYSTEM).begin()


async def test_a_look_that_hangs_is_not_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many seconds pass."""
    web = await begun(tmp_path, "{}\n")
    go_on, looks = threading.Event(), []

    def hanging(*_: object) -> module.Look:
        looks.append(1)
        go_on.wait(30.0)
        return module.Look((), ())

    monkeypatch.setattr(module, "_look", hanging)
    for _ in range(5):
        web.beat(0.0)
    go_on.set()
    await looked(web)
    assert [1] == looks


@pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
async def test_passwords_and_bcrypt_hashes(tmp_path: Path, kind: str) -> None:
    """Of each kind that tools write; only 72 bytes count, as everywhere; no password at all, and none that bcrypt refuses, is right."""
    web = await begun(tmp_path, "{}\n")
    long = b"x" * 72
    for password in (b"right", long):
        hashed = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode().replace("$2b$", f"${kind}$")
        assert await web.compare(password, hashed)
        assert (password == long) is await web.compare(long + b"more", hashed)
        for wrong in (b"", b"wrong", b"\0", password[:-1], b"\xff" * 100):
            assert not await web.compare(wrong, hashed)
    assert not await web.compare(b"right", "$2b$04$" + "z" * 53)

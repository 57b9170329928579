"""`web_config` and `probes_listen` in a real sidecar: who is answered, what is taken over while it runs, and that a wrong change leaves in force what was."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import bcrypt
import pytest

from syncwatch.parts.web import ServerContext
from tests.integration.runtime_parts import Certificates
from tests.integration.sidecar import Asked, Rig, Sidecar, command, rig, running, until
from tests.loops import on_both_loops

TAKEN = "web_config was taken over"
NOT = "web_config was not taken over, what was in force goes on"
NO_PROBES = "listen answers no probe without a client certificate, which the kubelet has not: probes_listen would"
PROBES = ("/livez", "/readyz", "/healthz", "/healthz?verbose", "/-/healthy", "/-/ready", "/livez/task/connection/cast")
WAIT = "--wait-for-config"
Answer = tuple[int, str]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, a server, a client, a stranger."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def hashed(password: str) -> str:
    """Cheap, as the toolkit's documentation would not recommend."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def tls(certificate: str = "server", key: str | None = None, **more: str) -> str:
    """A `tls_server_config`, relative to the file."""
    return f"tls_server_config: {{cert_file: {certificate}.pem, key_file: {key or certificate}.key{''.join(f', {name}: {value}' for name, value in more.items())}}}\n"


def users(**passwords: str) -> str:
    """`basic_auth_users`."""
    return "basic_auth_users:\n" + "".join(f"  {name}: '{hashed(password)}'\n" for name, password in passwords.items())


def basic(user: str, password: str) -> str:
    """The header's value."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Web:
    """The file `web.yaml` beside copies of the certificates, and requests to the listener that it protects."""

    def __init__(self, it: Rig, certificates: Certificates) -> None:
        self.it, self.folder = it, it.folder / "web"
        self.folder.mkdir()
        for name in ("server.pem", "server.key", "other.pem", "other.key", "ca.pem"):
            (self.folder / name).write_bytes(certificates.path(name).read_bytes())
        self.client = ssl.create_default_context(cafile=certificates.path("ca.pem"))
        self.client.load_verify_locations(certificates.path("other.pem"))
        self.client.check_hostname = False
        self.file = self.folder / "web.yaml"
        it.config["web_config"] = str(self.file)

    def write(self, *text: str) -> None:
        """Whole at every moment."""
        fresh = self.folder / "fresh"
        fresh.write_text("".join(text))
        os.replace(fresh, self.file)

    async def ask(self, sidecar: Asked, path: str, user: str | None = None, password: str = "", scheme: str = "https", **headers: str) -> Answer:
        """On a connection of its own, as each handshake counts."""
        if user is not None:
            headers["Authorization"] = basic(user, password)
        url = sidecar.public.replace("http:", f"{scheme}:") + path
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session, session.get(url, headers=headers, ssl=self.client) as answer:
            return answer.status, await answer.text()

    async def subject(self, sidecar: Asked) -> object:
        """Whose certificate is shown."""
        host, _, port = sidecar.public.removeprefix("http://").rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port), ssl=self.client)
        found = writer.get_extra_info("peercert")
        writer.close()
        return found["subject"][0][0][1]


@asynccontextmanager
async def protected(folder: Path, certificates: Certificates, *text: str) -> AsyncIterator[tuple[Web, Sidecar]]:
    """A sidecar whose `listen` is protected by what `text` says."""
    async with rig(folder) as it:
        web = Web(it, certificates)
        web.write(*text)
        async with it.sidecar() as sidecar:
            yield web, sidecar


async def test_who_is_answered(tmp_path: Path, certificates: Certificates) -> None:
    """Metrics and the page by TLS and password; verdicts by TLS alone; nothing to who speaks no TLS; `local_listen` is as it was."""
    text = tls(), users(prometheus="right"), "http_server_config: {headers: {Strict-Transport-Security: max-age=9, Content-Security-Policy: none}}\n"
    async with protected(tmp_path, certificates, *text) as (web, sidecar):
        for path in ("/", "/metrics"):
            code, _ = await web.ask(sidecar, path, "prometheus", "right")
            assert 200 == code
            for credentials in ((), ("prometheus", "wrong"), ("nobody", "right"), ("prometheus", "x" * 100), ("prometheus", "\0")):
                assert 401 == (await web.ask(sidecar, path, *credentials))[0], credentials
            assert 401 == (await web.ask(sidecar, path, Authorization="Basic right"))[0]
        for probe in PROBES:
            assert 200 == (await web.ask(sidecar, probe))[0], probe
        assert 404 == (await web.ask(sidecar, "/status"))[0]
        assert "open" == (await sidecar.cast())["state"]

        url, right = sidecar.public.replace("http:", "https:"), {"Authorization": basic("prometheus", "right")}
        async with sidecar.http.get(f"{url}/", ssl=web.client, headers=right) as answer:
            assert "max-age=9" == answer.headers["Strict-Transport-Security"]
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"], "the page's own stays"
        async with sidecar.http.get(f"{url}/metrics", ssl=web.client) as answer:
            assert ('Basic realm="syncwatch", charset="UTF-8"', "nosniff") == (answer.headers["WWW-Authenticate"], answer.headers["X-Content-Type-Options"])

        with pytest.raises(aiohttp.ClientError):
            await web.ask(sidecar, "/livez", scheme="http")
        assert (200, "ok") == tuple(one if isinstance(one, int) else one.strip() for one in await web.ask(sidecar, "/livez"))
        assert [] == [line for line in sidecar.log() if line["level"] == "error"], "strangers do not fill the log"


async def test_what_changes_while_it_runs(tmp_path: Path, certificates: Certificates) -> None:
    """Certificate, key and users are taken anew by the next handshake and request; a wrong change is told everywhere and changes nothing."""
    async with protected(tmp_path, certificates, tls(), users(prometheus="right")) as (web, sidecar):
        assert ("server", 200) == (await web.subject(sidecar), (await web.ask(sidecar, "/metrics", "prometheus", "right"))[0])

        for name in ("pem", "key"):  # one after the other, as some do
            (web.folder / f"server.{name}").write_bytes((web.folder / f"other.{name}").read_bytes())
        await until(lambda: web.subject(sidecar), lambda subject: subject == "stranger")

        web.write(tls("server", "ca"), "rate_limit: {}\n", users(prometheus="new"))
        (line,) = await sidecar.logged(NOT, bool)
        said = f"{web.file}:2: rate_limit: unknown key; known here: tls_server_config, http_server_config, basic_auth_users"
        assert said == line["mistake"]
        config = (await sidecar.status())["sidecar"]["config"]
        assert (False, [said]) == (config["last_reload_successful"], config["errors"])
        code, metrics = await web.ask(sidecar, "/metrics", "prometheus", "right")
        assert (200, True) == (code, "\nsyncwatch_config_last_reload_successful 0" in metrics)
        async with sidecar.http.post(f"{sidecar.local}/-/reload") as answer:
            assert 200 == answer.status, "the configuration itself has no mistake"
        assert not (await sidecar.status())["sidecar"]["config"]["last_reload_successful"]

        web.write(tls(), users(prometheus="new"))
        await sidecar.logged(TAKEN, lambda lines: len(lines) >= 2)
        assert [401, 200] == [(await web.ask(sidecar, "/metrics", "prometheus", password))[0] for password in ("right", "new")]
        assert "\nsyncwatch_config_last_reload_successful 1" in (await web.ask(sidecar, "/metrics", "prometheus", "new"))[1]


async def test_probes_beside_client_certificates(tmp_path: Path, certificates: Certificates) -> None:
    """Whoever has no certificate gets nothing from `listen`, not even a verdict; `probes_listen` gives those, and nothing else, to everybody."""
    async with rig(tmp_path, probes_listen="127.0.0.1:0") as it:
        web = Web(it, certificates)
        web.write(tls(client_auth_type="RequireAndVerifyClientCert", client_ca_file="ca.pem"))
        async with it.sidecar() as sidecar:
            for path in ("/livez", "/metrics"):
                with pytest.raises((aiohttp.ClientError, ConnectionError)):
                    await web.ask(sidecar, path)
            plain = f"http://{(await sidecar.said('listening'))['probes_listen']}"
            for probe in PROBES:
                assert 200 == (await sidecar.get(plain + probe))[0], probe
            assert [404, 404, 404] == [(await sidecar.get(plain + path))[0] for path in ("/", "/metrics", "/status")]
            web.client.load_cert_chain(certificates.path("client.pem"), certificates.path("client.key"))
            assert [200, 200] == [(await web.ask(sidecar, path))[0] for path in ("/livez", "/metrics")]
        assert NO_PROBES not in sidecar.text()
        del it.config["probes_listen"]
        async with it.sidecar(opened=False) as sidecar:
            await sidecar.said(NO_PROBES)


@on_both_loops()
async def test_each_connection_is_wrapped_by_the_context_that_counts_then(certificates: Certificates) -> None:
    """And a stranger who speaks no TLS is cut off, which is nothing that a loop complains about."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.current = certificates.server()
    client = ssl.create_default_context(cafile=certificates.path("ca.pem"))
    client.load_verify_locations(certificates.path("other.pem"))
    client.check_hostname = False
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]

    async def subject() -> object:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        found = writer.get_extra_info("peercert")
        writer.close()
        await writer.wait_closed()
        return found["subject"][0][0][1]

    assert "server" == await subject()
    replaced = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    replaced.load_cert_chain(certificates.path("other.pem"), certificates.path("other.key"))
    context.current = replaced
    assert "stranger" == await subject()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert b"HTTP" not in await reader.read()
    writer.close()
    server.close()
    await server.wait_closed()


async def test_a_wrong_file_keeps_it_from_starting(tmp_path: Path, certificates: Certificates) -> None:
    """With its line, in the words of `check config`."""
    async with rig(tmp_path) as it:
        web = Web(it, certificates)
        web.write("basic_auth_users:\n  prometheus: right\n", tls("server", "other"))
        file = tmp_path / "syncwatch.yaml"
        file.write_text(f"web_config: {web.file}\nservices: [{{name: s, url: 'http://h'}}]\n")
        wrong = f"{web.file}:2: basic_auth_users.prometheus: is not a bcrypt hash"
        for arguments in (("run", "--config", file), ("check", "config", file)):
            done = await command(*arguments)
            assert (2, True) == (done.code, done.err.startswith(wrong)), done


async def test_a_sidecar_that_waits_gives_nothing_away(tmp_path: Path, certificates: Certificates) -> None:
    """With a mistake elsewhere it is protected as it will be; where the web file is the mistake, the probes are answered and nothing else, until it is right."""
    async with rig(tmp_path, nonsense=1, probes_listen="127.0.0.1:0") as it:
        web = Web(it, certificates)
        web.write(tls(), users(prometheus="right"))
        async with running(tmp_path, it.config, it.http, WAIT) as made:
            asked = ("/healthz", None), ("/metrics", None), ("/metrics", "prometheus")
            assert [200, 401, 200] == [(await web.ask(made, path, user, "right"))[0] for path, user in asked]
            assert 200 == (await made.get(f"http://{(await made.said('listening'))['probes_listen']}/healthz"))[0]
        del it.config["nonsense"]
        web.write("nonsense: 1\n")
        async with running(tmp_path, it.config, it.http, WAIT) as made:
            assert [200, 503, 503] == [(await made.probe(path))[0] for path in ("/healthz", "/metrics", "/")]
            assert [f"{web.file}:1: nonsense: unknown key; known here: tls_server_config, http_server_config, basic_auth_users"] == (
                (await made.status())["sidecar"]["config"]["errors"]
            )
            web.write(tls(), users(prometheus="right"))
            async with made.http.post(f"{made.local}/-/reload") as answer:
                assert 200 == answer.status
            lines = await made.logged("listening", lambda lines: len(lines) == 2)
            made.public = f"http://{lines[1]['listen']}"
            assert [200, 401, 200] == [(await web.ask(made, path, user, "right"))[0] for path, user in asked]

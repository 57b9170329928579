"""TLS and proxies over real sockets, with certificates made for the run by openssl."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from pathlib import Path

import pytest

from syncwatch.core.effects import Close
from syncwatch.core.states import AttemptFailure
from syncwatch.runtime.dialing import Endpoint
from syncwatch.runtime.tls import ClientContext, TlsContexts, TlsSettings, certificate_expiry_s, make_context
from tests.integration.runtime_parts import TOKEN, Certificates, Peer, rig, serving
from tests.loops import on_both_loops


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One set for all tests."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def polite(peer: Peer) -> None:
    """Accept and stay."""
    await peer.upgrade()
    await peer.stay()


async def outcome(port: int, tls: TlsSettings, scheme: str = "wss", proxy: str | None = None) -> tuple[object, ...]:
    """Dial once; what the session was told."""
    async with rig(endpoint=Endpoint(tls=tls, proxy=proxy)) as r:
        r.dial(port, scheme=scheme)
        await r.session.until(lambda: r.session.told)
        r.do(Close(1, 1000, ""))
        return tuple(r.session.told[0])


@on_both_loops()
async def test_a_server_of_a_known_authority(certificates: Certificates) -> None:
    """Verified; each phase measured by itself, TLS apart from TCP; the leaf's expiry is what openssl says."""
    settings = TlsSettings(ca_file=certificates.path("ca.pem"))
    async with serving(polite, certificates.server()) as port, rig(endpoint=Endpoint(tls=settings)) as r:
        r.dial(port, scheme="wss")
        handshake = (await r.session.hear("opened"))[2]
        assert certificates.expiry_s() == handshake.certificate_expiry_s
        assert handshake.dns_s is None
        assert 0.0 < handshake.tcp_s < 2.0
        assert 0.0 < handshake.tls_s < 2.0
        assert 0.0 < handshake.upgrade_s < 2.0
        r.do(Close(1, 1000, ""))


@on_both_loops()
async def test_the_close_frame_arrives_over_tls_too(certificates: Certificates) -> None:
    """1000 and its reason, before the socket is cut."""
    frames = []

    async def serve(peer: Peer) -> None:
        await peer.upgrade()
        frames.append(await peer.frame())
        await peer.end()

    settings = TlsSettings(ca_file=certificates.path("ca.pem"))
    async with serving(serve, certificates.server()) as port, rig(endpoint=Endpoint(tls=settings)) as r:
        r.dial(port, scheme="wss")
        await r.session.hear("opened")
        r.do(Close(1, 1000, "stop"))
    assert [(0x8, b"\x03\xe8stop")] == frames


@on_both_loops()
async def test_a_server_of_a_stranger(certificates: Certificates) -> None:
    """Not signed by the configured authority, and not by the system's either."""
    async with serving(polite, certificates.server()) as port:
        for settings in (TlsSettings(ca_file=certificates.path("other.pem")), TlsSettings()):
            told = await outcome(port, settings)
            assert AttemptFailure.TLS is told[2]
            assert str(told[3]).startswith("the server: certificate refused: ")


@on_both_loops()
async def test_the_name_is_verified(certificates: Certificates) -> None:
    """A wrong name is refused; `server_name` is the name that is sent and verified."""
    ca = certificates.path("ca.pem")
    async with serving(polite, certificates.server()) as port:
        wrong = await outcome(port, TlsSettings(ca_file=ca, server_name="relay.example"))
        assert AttemptFailure.TLS is wrong[2]
        assert "certificate refused: Hostname mismatch" in str(wrong[3])
        assert "opened" == (await outcome(port, TlsSettings(ca_file=ca, server_name="cast.example")))[0]


@on_both_loops()
async def test_verification_can_be_switched_off(certificates: Certificates) -> None:
    """Then anybody is believed, and the expiry of an unverified certificate is unknown."""
    settings = TlsSettings(server_name="relay.example", insecure_skip_verify=True)
    async with serving(polite, certificates.server()) as port:
        told = await outcome(port, settings)
    assert "opened" == told[0]
    assert told[2].certificate_expiry_s is None  # type: ignore[attr-defined]


@on_both_loops()
async def test_a_server_that_speaks_no_tls(certificates: Certificates) -> None:
    """wss to a plain port is a TLS failure; ws to a TLS port is no HTTP."""

    async def plain(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.say(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    async with serving(plain) as port:
        told = await outcome(port, TlsSettings())
        assert AttemptFailure.TLS is told[2]
        assert "wrong version number" in str(told[3]) or "record layer failure" in str(told[3])
    async with serving(polite, certificates.server()) as port:
        assert AttemptFailure.PROTOCOL is (await outcome(port, TlsSettings(), scheme="ws"))[2]


@on_both_loops()
async def test_a_tls_handshake_that_hangs() -> None:
    """The phase is named."""

    async def silent(peer: Peer) -> None:
        await peer.end()

    async with serving(silent) as port, rig() as r:
        r.dial(port, scheme="wss", timeout_s=0.3)
        told = await r.session.hear("failed")
    assert (AttemptFailure.TIMEOUT, "not finished within 0.3 s: it stood at tls") == told[2:4]


@on_both_loops()
async def test_a_client_certificate(certificates: Certificates) -> None:
    """Shown when configured; without it the server ends the handshake or the connection, and that is a failure or a close, not a hang."""
    ca, cert, key = (certificates.path(name) for name in ("ca.pem", "client.pem", "client.key"))
    async with serving(polite, certificates.server(ask_client=True)) as port:
        assert "opened" == (await outcome(port, TlsSettings(ca_file=ca, cert_file=cert, key_file=key)))[0]
        told = await outcome(port, TlsSettings(ca_file=ca))
        assert "failed" == told[0]
        assert told[2] in (AttemptFailure.TLS, AttemptFailure.PROTOCOL)  # TLS 1.3: the alert may arrive as the answer's absence


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ca_file": "missing.pem"}, "missing.pem: no such file or directory"),
        ({"ca_file": "server.key"}, "server.key: "),
        ({"cert_file": "missing.pem", "key_file": "client.key"}, "missing.pem with "),
        ({"cert_file": "client.pem", "key_file": "server.key"}, "key values mismatch"),
    ],
)
@on_both_loops()
async def test_tls_files_that_cannot_be_used(settings: dict[str, str], words: str, certificates: Certificates) -> None:
    """Nothing is dialled; the failure names the file."""
    told = await outcome(1, TlsSettings(**{key: certificates.path(name) for key, name in settings.items()}))  # type: ignore[arg-type]
    assert AttemptFailure.TLS is told[2]
    assert words in str(told[3])


@on_both_loops()
async def test_a_replaced_authority_is_used_by_the_next_dial(certificates: Certificates, tmp_path: Path) -> None:
    """Files are read again when they change, and only then."""
    ca = tmp_path / "ca.pem"
    shutil.copy(certificates.path("other.pem"), ca)
    async with serving(polite, certificates.server()) as port, rig(endpoint=Endpoint(tls=TlsSettings(ca_file=ca))) as r:
        r.dial(port, scheme="wss")
        assert AttemptFailure.TLS is (await r.session.hear("failed"))[2]
        shutil.copy(certificates.path("ca.pem"), ca)
        r.dial(port, attempt=2, scheme="wss")
        await r.session.hear("opened")
        r.do(Close(2, 1000, ""))
        contexts = r.connection._contexts
        assert await contexts.get() is await contexts.get()


async def test_contexts_are_shared_while_their_files_stay(certificates: Certificates, tmp_path: Path) -> None:
    """A context costs tens of milliseconds: one per content."""
    ca = tmp_path / "ca.pem"
    shutil.copy(certificates.path("ca.pem"), ca)
    contexts = TlsContexts(TlsSettings(ca_file=ca))
    first = await contexts.get()
    assert await contexts.get() is first
    shutil.copy(certificates.path("other.pem"), ca)
    assert await contexts.get() is not first


def test_an_encrypted_key_is_an_error_and_no_question(certificates: Certificates, tmp_path: Path) -> None:
    """OpenSSL would ask the terminal for its password; a sidecar has nobody who could answer."""
    key = tmp_path / "locked.key"
    certificates._run("pkcs8", "-topk8", "-in", "client.key", "-out", str(key), "-passout", "pass:secret")
    with pytest.raises(Exception, match=r"TLS file .*client\.pem with .*locked\.key"):
        make_context(TlsSettings(cert_file=certificates.path("client.pem"), key_file=key))


def test_contexts_are_strict_by_default() -> None:
    """Verification on, names checked, TLS 1.2 at least."""
    context = make_context(TlsSettings())
    assert isinstance(context, ClientContext)
    assert (ssl.CERT_REQUIRED, True, ssl.TLSVersion.TLSv1_2) == (context.verify_mode, context.check_hostname, context.minimum_version)


def test_expiry_of_odd_certificates() -> None:
    """What is not there is unknown, never zero."""
    assert 784_111_777.0 == certificate_expiry_s({"notAfter": "Nov  6 08:49:37 1994 GMT"})
    for odd in (None, {}, {"notAfter": "soon"}, {"notAfter": 5}, "text"):
        assert certificate_expiry_s(odd) is None


# ---------------------------------------------------------------------- proxies


async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carry bytes one way until the end."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    with contextlib.suppress(OSError, RuntimeError):
        sink.write_eof()


@on_both_loops()
async def test_through_a_proxy_with_tls(certificates: Certificates, tmp_path: Path) -> None:
    """CONNECT with host and port only, then TLS with the server itself: the proxy sees no token."""
    asked: list[bytes] = []
    token = tmp_path / "token"
    token.write_text(TOKEN)

    async def proxy(peer: Peer) -> None:
        asked.append(await peer.request())
        host, _, port = peer.target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.gather(pipe(peer.reader, writer), pipe(reader, peer.writer))
        finally:
            writer.transport.abort()

    tls = TlsSettings(ca_file=certificates.path("ca.pem"))
    async with (
        serving(polite, certificates.server()) as port,
        serving(proxy) as through,
        rig(token, Endpoint(tls=tls, proxy=f"http://127.0.0.1:{through}")) as r,
    ):
        r.dial(port, scheme="wss")
        handshake = (await r.session.hear("opened"))[2]
        assert certificates.expiry_s() == handshake.certificate_expiry_s
        assert handshake.tls_s is not None
        r.do(Close(1, 1000, ""))
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n".encode())
    assert b"at_live" not in asked[0]


@on_both_loops()
async def test_through_a_proxy_without_tls() -> None:
    """The proxy gets the request with the whole URL, as HTTP proxies do."""
    asked: list[str] = []

    async def proxy(peer: Peer) -> None:
        await peer.upgrade()
        asked.append(peer.target)
        await peer.stay()

    async with serving(proxy) as through:
        assert "opened" == (await outcome(8787, TlsSettings(), "ws", f"http://127.0.0.1:{through}"))[0]
    assert ["http://127.0.0.1:8787/v1/ws?origin_client=syncwatch"] == asked


@on_both_loops()
async def test_a_proxy_that_refuses() -> None:
    """It is the proxy's answer, not the server's: credentials are not blamed."""

    async def proxy(peer: Peer) -> None:
        await peer.request()
        peer.say(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    async with serving(proxy) as through:
        told = await outcome(443, TlsSettings(insecure_skip_verify=True), "wss", f"http://127.0.0.1:{through}")
    assert (AttemptFailure.REJECTED, "the proxy answered HTTP 407") == told[2:4]


@on_both_loops()
async def test_no_proxy_there() -> None:
    """A proxy that does not listen is said to be the proxy."""
    told = await outcome(443, TlsSettings(insecure_skip_verify=True), "wss", "http://127.0.0.1:1")
    assert AttemptFailure.REFUSED is told[2]
    assert str(told[3]).startswith("the proxy: ")

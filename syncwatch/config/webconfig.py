"""The file that `web_config` names, in the form of Prometheus' exporter-toolkit: what may stand in it, and the TLS context that comes of it.

Law: as strict as the rest. What the toolkit knows and nobody here could keep (certificates that are asked for and not verified, old TLS, HTTP/2) is a
mistake with its line, never passed over. Only sidecars with such a file load this module.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import field

from syncwatch.config import values
from syncwatch.config.decode import decode
from syncwatch.config.document import compose, is_null
from syncwatch.config.files import LARGEST_FILE_BYTES
from syncwatch.config.mistakes import ConfigError, Mistake, Source, WrongValueError, in_order
from syncwatch.config.reading import Reading
from syncwatch.config.rules import Block, Keyed, Rule, Written
from syncwatch.config.secret import UnreadableError, read_bytes
from syncwatch.config.text import printable, read_text
from syncwatch.core.secret import Secret

TLS = "tls_server_config"
_HASH = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")  # the last letter of the salt has two bits
_VERIFIES = {"NoClientCert": ssl.CERT_NONE, "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL, "RequireAndVerifyClientCert": ssl.CERT_REQUIRED}
_SPOKEN = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OUT_OF_DATE = {9: "is not valid yet", 10: "has expired"}  # as X509_verify_cert numbers them

Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]


def _user(text: str) -> str:
    if ":" in text:
        raise WrongValueError("a user with a colon in its name could never log in: HTTP Basic ends the name there")
    return values.plain(text)


def _hash(text: str) -> Secret:
    """Its complaint shows nothing of what stands there: it may be a password."""
    if not _HASH.fullmatch(text):
        raise WrongValueError("is not a bcrypt hash, which begins with $2y$, $2b$ or $2a$ and has 60 characters; htpasswd -nBC 10 USER makes one")
    return Secret(text)


FileName = Annotated[Path, Rule("a path", values.path)]
"""Relative to the file in which it stands."""
Header = Annotated[str, Rule("text", values.plain, written=Written.ANY)]
Users = Annotated[Mapping[str, Secret], Keyed("users and bcrypt hashes", _user, Annotated[Secret, Rule("a bcrypt hash", _hash, written=Written.ANY)])]


class TlsServer(Block, frozen=True, kw_only=True):
    """TLS of the listener. Without `client_auth_type` nobody is asked for a certificate."""

    cert_file: FileName
    key_file: FileName
    client_auth_type: Literal[
        "NoClientCert", "RequestClientCert", "RequireClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
    ] = "NoClientCert"
    client_ca_file: FileName | None = None
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Who asks for certificates verifies them, by authorities of his own; and there is a version that both allow."""
        asks = got.get("client_auth_type")
        if asks is not None and asks not in _VERIFIES:
            yield "client_auth_type", f"{asks} takes certificates that nobody verified; write RequireAndVerifyClientCert or VerifyClientCertIfGiven"
        elif asks == "NoClientCert" and got.get("client_ca_file"):
            yield "client_ca_file", "is of no use while client_auth_type asks for no certificate; write RequireAndVerifyClientCert there"
        elif asks not in (None, "NoClientCert") and got.get("client_ca_file", ...) is None:
            yield "client_auth_type", f"{asks} needs client_ca_file, the authorities by which certificates are verified"
        for key in ("min_version", "max_version"):
            if got.get(key) in ("TLS10", "TLS11"):
                yield key, f"{got[key]} is not spoken here, it has been withdrawn (RFC 8996); write TLS12 or TLS13"
        if (got.get("min_version"), got.get("max_version")) == ("TLS13", "TLS12"):
            yield "min_version", "is above max_version"


class Headers(Block, frozen=True, kw_only=True):
    """What may be added to the answers; a header that an answer has of its own stays."""

    content_security_policy: Header | None = field(default=None, name="Content-Security-Policy")
    x_frame_options: Literal["deny", "sameorigin"] | None = field(default=None, name="X-Frame-Options")
    x_content_type_options: Literal["nosniff"] | None = field(default=None, name="X-Content-Type-Options")
    x_xss_protection: Header | None = field(default=None, name="X-XSS-Protection")
    strict_transport_security: Header | None = field(default=None, name="Strict-Transport-Security")


class HttpServer(Block, frozen=True, kw_only=True):
    """HTTP of the listener."""

    http2: bool = False
    headers: Headers | None = None

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """The server speaks HTTP/1.1."""
        if got.get("http2"):
            yield "http2", "HTTP/2 is not spoken here; write false, or leave it out"


class WebConfig(Block, frozen=True, kw_only=True):
    """The whole file. `source` tells where it was written."""

    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer | None = None
    basic_auth_users: Users | None = None
    source: Source = field(default_factory=Source)

    @property
    def users(self) -> Mapping[str, Secret]:
        """Who may come, and the hash of the password; none: everybody may."""
        return self.basic_auth_users or {}

    @property
    def headers(self) -> Mapping[str, str]:
        """What is added to each answer."""
        headers = None if self.http_server_config is None else self.http_server_config.headers
        written = {} if headers is None else msgspec.to_builtins(headers)
        return {name: text for name, text in written.items() if text is not None}

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that it names."""
        tls = self.tls_server_config
        named = () if tls is None else (tls.cert_file, tls.key_file, tls.client_ca_file)
        return tuple(file for file in named if file is not None)


def load(path: Path) -> WebConfig:
    """What the file says. Of the files that it names none is touched.

    Raises:
        ConfigError: all mistakes that were found.
    """
    file = printable(str(path))
    root = compose(read_text(path, regular=True), file)
    if root is None or is_null(root):
        return WebConfig(source=Source(file))
    reading = Reading(file)
    config = decode(root, WebConfig, reading, {})
    if config is None:
        raise ConfigError(in_order(reading.mistakes))
    tls = config.tls_server_config
    if tls is not None:
        named = {key: path.parent / file for key in ("cert_file", "key_file", "client_ca_file") if (file := getattr(tls, key)) is not None}
        tls = msgspec.structs.replace(tls, **named)
    return msgspec.structs.replace(config, tls_server_config=tls, source=reading.source)


def context(config: WebConfig) -> ssl.SSLContext | None:
    """The context that its files make now; None where it asks for no TLS. Blocks on files.

    Raises:
        ConfigError: which file cannot be used, and why.
    """
    tls = config.tls_server_config
    if tls is None:
        return None
    wrong = [*_unusable(config, "cert_file", tls.cert_file, b"-----BEGIN CERTIFICATE-----", "certificate")]
    wrong += _unusable(config, "key_file", tls.key_file, b"PRIVATE KEY-----", "private key")
    if tls.client_ca_file is not None:
        wrong += _unusable(config, "client_ca_file", tls.client_ca_file, b"-----BEGIN CERTIFICATE-----", "certificate")
    if wrong:
        raise ConfigError(in_order(wrong))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version, made.maximum_version = _SPOKEN[tls.min_version], _SPOKEN[tls.max_version]
    made.set_alpn_protocols(["http/1.1"])
    key = "cert_file"
    try:
        made.load_cert_chain(tls.cert_file, tls.key_file, "")  # without the empty password OpenSSL would ask the terminal for that of an encrypted key
        made.verify_mode = _VERIFIES[tls.client_auth_type]
        if tls.client_ca_file is not None:
            key = "client_ca_file"
            made.load_verify_locations(cafile=tls.client_ca_file)
    except OSError as error:
        words = (getattr(error, "reason", None) or error.strerror or "not usable PEM").lower().replace("_", " ")
        with_key = f" with {tls.key_file}" if key == "cert_file" else ""
        raise ConfigError([config.source.mistake(f"{TLS}.{key}", f"{getattr(tls, key)}{with_key}: {words}")]) from None
    return made


def out_of_date(config: WebConfig, made: ssl.SSLContext | None) -> list[Mistake]:
    """A certificate that no scraper would accept today. Found by a handshake with ourselves, in memory, that trusts the file's own certificates."""
    tls = config.tls_server_config
    if tls is None or made is None:
        return []
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        trusting.load_verify_locations(cafile=tls.cert_file)
        client, server = trusting.wrap_bio(to_client, to_server), made.wrap_bio(to_server, to_client, server_side=True)
        for side in (client, server, client):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _OUT_OF_DATE:
            return [config.source.mistake(f"{TLS}.cert_file", f"{tls.cert_file}: the certificate {_OUT_OF_DATE[error.verify_code]}")]
    except OSError:  # whatever else there is to say about it, it is not its date
        pass
    return []


def _unusable(config: WebConfig, key: str, file: Path, mark: bytes, what: str) -> list[Mistake]:
    try:
        why = None if mark in read_bytes(file, LARGEST_FILE_BYTES, regular=True) else f"holds no {what} in PEM form"
    except UnreadableError as error:
        why = str(error)
    return [] if why is None else [config.source.mistake(f"{TLS}.{key}", f"{file}: {why}")]


def mistakes(path: Path, *, dates: bool = False) -> list[Mistake]:
    """Everything that would keep this file from being used here and now; with `dates` also a certificate that is not valid today, which keeps nobody from starting."""
    try:
        config = load(path)
        made = context(config)
    except ConfigError as error:
        return list(error.mistakes)
    return out_of_date(config, made) if dates else []

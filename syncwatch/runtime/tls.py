"""TLS for clients: a context from the configured files, and what the peer's certificate says.

What belongs here: files to context. A context is kept until one of its files changes, because loading the system's
authorities costs tens of milliseconds, and it is loaded in a thread for the same reason.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from syncwatch.core.states import AttemptFailure
from syncwatch.runtime.failures import Unusable
from syncwatch.runtime.threads import in_thread

Signature = tuple[tuple[int, int, int] | None, ...]


class TlsSettings(msgspec.Struct, frozen=True):
    """`ca_file` replaces the system's authorities; `cert_file` and `key_file` are the client's own; `server_name` is sent and verified."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False


class ClientContext(ssl.SSLContext):
    """A context that tells when a TLS handshake begins; aiohttp's tracing sees TCP and TLS as one step."""

    on_handshake: Callable[[], None] | None = None

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Called by the event loop when TCP is connected and TLS starts."""
        if self.on_handshake is not None:
            self.on_handshake()
        return super().wrap_bio(*args, **kwargs)


class TlsContexts:
    """The context for `settings`, made afresh when a file it was made from has changed."""

    def __init__(self, settings: TlsSettings) -> None:
        self.settings = settings
        self._context: ClientContext | None = None
        self._signature: Signature = ()

    async def get(self) -> ClientContext:
        """A context that is up to date. Raises: Unusable (tls), naming the file."""
        signature = self._sign()
        if self._context is None or signature != self._signature:
            settings = self.settings
            self._context = await in_thread(lambda: make_context(settings), "tls")
            self._signature = signature
        return self._context

    def _sign(self) -> Signature:
        return tuple(_stat(path) for path in (self.settings.ca_file, self.settings.cert_file, self.settings.key_file))


def make_context(settings: TlsSettings) -> ClientContext:
    """Build a client context. Blocks on files. Raises: Unusable (tls), naming the file."""
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if settings.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca_file is None:
        context.load_default_certs()
    else:
        ca_file = settings.ca_file
        _load(f"{ca_file}", lambda: context.load_verify_locations(cafile=ca_file))
    if settings.cert_file is not None:
        cert_file, key_file = settings.cert_file, settings.key_file
        # Without the empty password OpenSSL would ask the terminal for the one of an encrypted key.
        _load(f"{cert_file} with {key_file or 'no key file'}", lambda: context.load_cert_chain(cert_file, key_file, ""))
    return context


def certificate_expiry_s(certificate: object) -> float | None:
    """`notAfter` of what `getpeercert()` returned, as Unix seconds.

    None without a certificate, and when it was not verified: Python then hands out no fields of it.
    """
    not_after = certificate.get("notAfter") if isinstance(certificate, dict) else None
    if not isinstance(not_after, str):
        return None
    try:
        return float(ssl.cert_time_to_seconds(not_after))
    except ValueError:
        return None


def _load(what: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        words = (error.reason or "not a usable PEM file").lower().replace("_", " ")
        raise Unusable(AttemptFailure.TLS, f"TLS file {what}: {words}") from None
    except OSError as error:
        words = os.strerror(error.errno).lower() if error.errno else "unreadable"
        raise Unusable(AttemptFailure.TLS, f"TLS file {what}: {words}") from None


def _stat(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None  # building the context finds out, and says why
    return found.st_mtime_ns, found.st_size, found.st_ino

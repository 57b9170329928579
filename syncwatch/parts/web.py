"""The file of `web_config` while it runs: what it and its certificates say now, looked at each second, in a thread.

What is new is taken over when it stood still for a second, so that a certificate and its key may be written one after the other. What is wrong is told, and what was
taken over last goes on. Only sidecars with such a file load this module.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from syncwatch.config import ConfigError, webconfig
from syncwatch.config.webconfig import WebConfig
from syncwatch.parts.surroundings import NotUsable
from syncwatch.runtime.clock import Clock
from syncwatch.runtime.threads import in_thread

Signature = tuple[tuple[int, int, int, int] | None, ...]

TLS_NEEDS_A_RESTART = "tls_server_config was {}: that needs a restart"
LONGEST_PASSWORD = 72
"""bcrypt looks at no more bytes, and its library refuses them."""

log = structlog.get_logger("syncwatch")


class ServerContext(ssl.SSLContext):
    """What the listener is given once and for all; each connection is wrapped by the context that counts then."""

    current: ssl.SSLContext

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Called by the event loop for each connection."""
        return self.current.wrap_bio(*args, **kwargs)


class Look(msgspec.Struct, frozen=True):
    """What a thread found: the state of the files, those that are named now, and what came of them, which is None when it was not tried."""

    signature: Signature
    files: tuple[Path, ...]
    config: WebConfig | None = None
    context: ssl.SSLContext | None = None
    remarks: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class WebFile:
    """`await begin()` first; then give `beat` to the supervisor's seconds. `errors`, `success_wall_s`: how the last change went."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.errors: tuple[str, ...] = ()
        self.success_wall_s = clock.wall()
        self.context: ServerContext | None = None
        self.users: Mapping[str, str] = {}
        self.headers: Mapping[str, str] = {}
        self._path, self._clock = path, clock
        self._files: tuple[Path, ...] = ()
        self._tried: Signature = ()
        self._seen: Signature = ()
        self._looking: asyncio.Future[Look] | None = None

    async def begin(self) -> None:
        """Raises: NotUsable."""
        look = await in_thread(lambda: _attempt(self._path), "web")
        if look.config is None:
            raise NotUsable("web_config", "; ".join(look.errors))
        if look.context is not None:
            self.context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
        self._take(look.config, look)
        tls = look.config.tls_server_config
        asks = "NoClientCert" if tls is None else tls.client_auth_type
        log.info("web_config is in force", tls=tls is not None, client_auth_type=asks, users=len(self.users))

    @property
    def wants_certificates(self) -> bool:
        """Whether nobody gets anything without one, probes included."""
        return self.context is not None and self.context.current.verify_mode is ssl.CERT_REQUIRED

    def beat(self, _now: float) -> None:
        """Look, unless a look hangs."""
        if self._looking is None:
            path, files, tried, seen = self._path, self._files, self._tried, self._seen
            self._looking = in_thread(lambda: _look(path, files, tried, seen), "web")
            self._looking.add_done_callback(self._looked)

    async def compare(self, password: bytes, hashed: str) -> bool:
        """Whether the password has that bcrypt hash, in a thread: it takes a tenth of a second and more."""
        return await in_thread(lambda: _same(password, hashed), "bcrypt")

    def _looked(self, looking: asyncio.Future[Look]) -> None:
        self._looking = None
        if looking.cancelled():
            return
        if looking.exception() is not None:
            log.error("internal error while web_config was read", exc_info=looking.exception())
            return
        look = looking.result()
        self._seen = look.signature
        if look.config is None and not look.errors:
            return  # nothing new, or the next look will tell whether it stands still
        errors = look.errors
        if look.config is not None and (look.context is None) != (self.context is None):
            errors = (f"{self._path}: {TLS_NEEDS_A_RESTART.format('removed' if look.context is None else 'added')}",)
        if look.config is None or errors:
            self._files, self._tried, self.errors = look.files, look.signature, errors
            for line in errors:
                log.error("web_config was not taken over, what was in force goes on", mistake=line)
            return
        self._take(look.config, look)
        self.errors, self.success_wall_s = (), self._clock.wall()
        log.info("web_config was taken over", users=len(self.users))

    def _take(self, config: WebConfig, look: Look) -> None:
        self._files, self._tried, self._seen = look.files, look.signature, look.signature
        self.users = {name: hashed.reveal() for name, hashed in config.users.items()}
        self.headers = config.headers
        if self.context is not None and look.context is not None:
            self.context.current = look.context
        for line in look.remarks:
            log.warning("whoever verifies the certificate will not scrape", mistake=line)


def _look(path: Path, files: tuple[Path, ...], tried: Signature, seen: Signature) -> Look:
    """Try what is new and stood still since the last look. Blocks on files."""
    signature = _sign((path, *files))
    return Look(signature, files) if signature == tried or signature != seen else _attempt(path)


def _attempt(path: Path) -> Look:
    """Each file is looked at before it is read: what changes meanwhile is new the next time."""
    files: tuple[Path, ...] = ()
    signature = _sign((path,))
    try:
        config = webconfig.load(path)
        files = config.files
        signature += _sign(files)
        context = webconfig.context(config)
    except ConfigError as error:
        return Look(signature, files, errors=tuple(str(error).splitlines()))
    return Look(signature, files, config, context, tuple(map(str, webconfig.out_of_date(config, context))))


def _sign(paths: Iterable[Path]) -> Signature:
    return tuple(map(_stat, paths))


def _stat(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None  # reading it finds out, and says why
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _same(password: bytes, hashed: str) -> bool:
    import bcrypt  # who has certificates and no passwords goes without

    try:
        return bcrypt.checkpw(password[:LONGEST_PASSWORD], hashed.encode())
    except ValueError:  # no hash can be of such a password
        return False

"""Tokens: read from their files at each use, shown to nobody.

What belongs here: reading, noticing that a file changed, and the one thing read out of a token (the
expiry of a JWT, not verified).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import hashlib
import math
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from syncwatch.core.secret import Secret, secret_in
from syncwatch.core.states import AttemptFailure
from syncwatch.core.wire import Request
from syncwatch.runtime.failures import Unusable
from syncwatch.runtime.threads import in_thread

MAX_TOKEN_BYTES = 65_536
CALM_LOOK_S = 5.0
"""So often a token file is looked at while nothing waits for another token: a look is a thread's work, and dearer than the rest of a quiet second."""


class _Claims(msgspec.Struct):
    exp: float | None = None


class TokenFiles:
    """The token files of one connection, by the name that a `Request` calls them (`connection`, `canary`)."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)
        self._failed: set[str] = set()

    def configure(self, paths: Mapping[str, Path]) -> None:
        """Other files; the next read takes them. What a watch compares is the content, so a file that was only moved is no news."""
        self._paths = dict(paths)

    def path(self, name: str) -> Path | None:
        """Where the token is read from; None when it is not configured."""
        return self._paths.get(name)

    def read(self, name: str) -> Secret | None:
        """The present content, without surrounding white space; None when it is not configured.

        Raises: Unusable (unauthorized, because only another file content helps, and that is what is retried at once) naming the path.
        """
        path = self._paths.get(name)
        if path is None:
            return None
        try:
            return read_token(path)
        except OSError as error:
            self._failed.add(name)
            words = os.strerror(error.errno).lower() if error.errno else "unreadable"
            raise Unusable(AttemptFailure.UNAUTHORIZED, f"token file {path}: {words}") from None
        except ValueError as error:
            self._failed.add(name)
            raise Unusable(AttemptFailure.UNAUTHORIZED, f"token file {path}: {error}") from None

    def failed_since(self, name: str) -> bool:
        """Whether a read of it failed since this was last asked."""
        failed = name in self._failed
        self._failed.discard(name)
        return failed

    def for_request(self, request: Request) -> Secret | None:
        """The token that `request` wants placed, if any. Raises: as `read`."""
        wanted = request.bearer or request.token_query is not None
        return self.read(request.token) if wanted else None


class TokenWatch:
    """Notices that a token file has new content. Give `beat` to the supervisor's seconds.

    `changed(expiry_wall_s)` is called at the first beat, whenever a content appears that was not there a beat ago, and when a file
    that somebody could not read meanwhile is there again, even if it was gone between two beats only. The content is compared, not the
    time stamps: a file can be rewritten within one tick of them.
    """

    def __init__(self, files: TokenFiles, name: str, changed: Callable[[float | None], None]) -> None:
        self._files = files
        self._name = name
        self._changed = changed
        self._digest: bytes | None = None
        self._first = True
        self._looked_s = -math.inf
        self._looking: asyncio.Future[tuple[bytes | None, float | None]] | None = None

    def beat(self, now: float, calm: bool = False) -> None:
        """Look, in a thread: a mount that hangs delays nothing but this. `calm`: nobody waits for another token, so every fifth second will do."""
        waits = not calm or self._digest is None
        if self._looking is None and (waits or now >= self._looked_s + CALM_LOOK_S):
            self._looked_s = now
            self._looking = in_thread(self._look, "token")
            self._looking.add_done_callback(self._looked)

    def look(self) -> None:
        """Look and judge at once."""
        self._judge(*self._look())

    def _looked(self, looking: asyncio.Future[tuple[bytes | None, float | None]]) -> None:
        self._looking = None
        if not looking.cancelled():
            self._judge(*looking.result())

    def _judge(self, digest: bytes | None, expiry_s: float | None) -> None:
        failed = self._files.failed_since(self._name)
        news = digest is not None and (failed or digest != self._digest)
        self._digest = digest
        if news or self._first:
            self._first = False
            self._changed(expiry_s)

    def _look(self) -> tuple[bytes | None, float | None]:
        try:
            token = self._files.read(self._name)
        except Unusable:
            return None, None
        if token is None:
            return None, None
        return hashlib.blake2b(token.reveal().encode()).digest(), jwt_expiry_s(token.reveal())


def read_token(path: Path) -> Secret:
    """Read one token file. Blocks on a mount that hangs, but not on a pipe. Raises: OSError; ValueError with a sentence about the content."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        if not stat.S_ISREG(mode):
            raise ValueError("is not a regular file")
        content = file.read(MAX_TOKEN_BYTES + 1)
    if len(content) > MAX_TOKEN_BYTES:
        raise ValueError("is larger than a token can be")
    return secret_in(content)


def jwt_expiry_s(token: str) -> float | None:
    """The `exp` claim of a JWT (RFC 7519 section 4.1.4) as Unix seconds, read and not verified; None for any other token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=_Claims)
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        return None
    return claims.exp if claims.exp is not None and 0 < claims.exp < 1e12 else None

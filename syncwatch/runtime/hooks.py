"""The calls of one webhook: each body signed with the secret as it stands in its file now, and the last ones at the end.

What belongs here: the signature and the end. The call itself is `http.py`'s, when and how often `core/hook.py`'s.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path

import msgspec

from syncwatch.core.hook import Hook
from syncwatch.core.secret import Secret
from syncwatch.core.wire import Request
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.http import HttpClient, Poller
from syncwatch.runtime.tokens import TokenFiles

SIGNATURE = "X-Syncwatch-Signature"
"""`sha256=` and the HMAC-SHA256 of the body, in hexadecimal, keyed with the secret (without the white space around it)."""
FINISH_S = 0.7
"""At the end, what waits gets this long: SIGTERM to exit is two seconds for everything."""

_SECRET = "hook"  # noqa: S105  a name, not a secret


class HookCaller(Poller):
    """Makes one hook's calls. Without a secret they are not signed; a secret that cannot be read is a call that failed."""

    def __init__(self, driver: Driver, hook: Hook, client: HttpClient, secret_file: Path | None) -> None:
        super().__init__(driver, hook, TokenFiles({} if secret_file is None else {_SECRET: secret_file}), client)
        self._hook = hook

    async def finish(self, timeout_s: float = FINISH_S) -> None:
        """Let the hook try what waits once more; what is not delivered in time is dropped, and counted."""
        self._driver.call(self._hook.stop)
        try:
            async with asyncio.timeout(timeout_s):
                while self._tasks:
                    await asyncio.wait(tuple(self._tasks))
        except TimeoutError:
            pass
        self._driver.call(self._hook.abandon)
        await self.close()

    def _prepare(self, request: Request) -> tuple[Request, Secret | None]:
        secret = self._tokens.read(_SECRET)
        if secret is None:
            return request, None
        signature = hmac.new(secret.reveal().encode(), request.body or b"", hashlib.sha256).hexdigest()
        return msgspec.structs.replace(request, headers=(*request.headers, (SIGNATURE, f"sha256={signature}"))), None

"""Who may ask the public listener for more than a verdict: HTTP Basic (RFC 7617) against bcrypt hashes.

What belongs here: reading the header, and who is asked how often. bcrypt is slow on purpose, and its work is given away (`compare`): a verdict is remembered, so that
a scraper costs one comparison and not one at each scrape, and there is one comparison at a time, so that guessing takes one processor at most.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping

from syncwatch.exposition import web

Compare = Callable[[bytes, str], Awaitable[bool]]
"""Whether a password has that hash."""

REMEMBERED = 100
"""Verdicts of either kind; the oldest is forgotten."""
MOST_WAITING = 20
LONGEST_HEADER = 1024

WANTED = "refused: this path wants a user and a password (HTTP Basic)\n"
BUSY = "refused: too many passwords are waiting to be checked; try again\n"


class BasicAuth:
    """`users` gives the hashes that count now, by name; without any, everybody may come."""

    def __init__(self, users: Callable[[], Mapping[str, str]], compare: Compare) -> None:
        self._users, self._compare = users, compare
        self._key = secrets.token_bytes(32)
        self._good: dict[bytes, None] = {}  # apart, so that no number of wrong guesses displaces a scraper
        self._bad: dict[bytes, None] = {}
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    async def refusal(self, request: web.Request) -> web.Response | None:
        """Why this request is not answered; None if it is."""
        users = self._users()
        if not users:
            return None
        sent = request.headers.getall("Authorization", [])
        given = credentials(sent[0]) if len(sent) == 1 else None
        verdict = False if given is None else await self._verdict(users, *given)
        if verdict is None:
            return web.Response(status=503, text=BUSY, headers={"Retry-After": "1"})
        if verdict:
            return None
        return web.Response(status=401, text=WANTED, headers={"WWW-Authenticate": 'Basic realm="syncwatch", charset="UTF-8"'})

    async def _verdict(self, users: Mapping[str, str], user: str, password: bytes) -> bool | None:
        """None: too many are waiting.

        For an unknown user the password is compared with some other user's hash, always the same one for a name: it takes as long, and says no.
        """
        known = user in users
        hashed = users[user] if known else list(users.values())[self._digest(user)[0] % len(users)]
        what = self._digest((user, known, hashed, password))
        if (remembered := self._remembered(what)) is not None:
            return remembered
        if self._waiting >= MOST_WAITING:
            return None
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                if (remembered := self._remembered(what)) is not None:  # of those who asked the same meanwhile
                    return remembered
                same = await self._compare(password, hashed)
        finally:
            self._waiting -= 1
        verdict = same and known
        memory = self._good if verdict else self._bad
        memory[what] = None
        if len(memory) > REMEMBERED:
            del memory[next(iter(memory))]
        return verdict

    def _remembered(self, what: bytes) -> bool | None:
        return True if what in self._good else False if what in self._bad else None

    def _digest(self, value: object) -> bytes:
        """What is kept in place of a password, and means nothing outside this process."""
        return hmac.digest(self._key, repr(value).encode(), hashlib.sha256)


def credentials(header: str) -> tuple[str, bytes] | None:
    """The user and the password in an Authorization header; None for what is none of Basic."""
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic" or len(header) > LONGEST_HEADER:
        return None
    try:
        user, colon, password = base64.b64decode(given.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None

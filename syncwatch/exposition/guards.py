"""Who may ask the local listener: nobody through a foreign name, no foreign web page, and only with the token where there is one.

What belongs here: the three guards, as predicates and as the one middleware that applies them in that order. A browser on the same
machine runs pages of strangers: a name that an attacker resolves to 127.0.0.1 arrives with a foreign Host (DNS rebinding), a page
that reaches for us directly with a foreign Origin.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Collection

import structlog
from aiohttp.typedefs import Handler, Middleware

from syncwatch.exposition import web

ReadToken = Callable[[], str | None]
"""The token as it stands now; None, OSError or ValueError when it cannot be read."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_EVERYWHERE = frozenset({"0.0.0.0", "[::]"})

FOREIGN_HOST = "refused: this listener answers to localhost, 127.0.0.1, [::1] and the address it is bound to\n"
FOREIGN_ORIGIN = "refused: a web page of another origin may not ask here\n"
TOKEN_NEEDED = "refused: this listener wants its token as Authorization: Bearer\n"  # noqa: S105  a sentence, not a secret
TOKEN_UNREADABLE = "closed: the token that this listener wants cannot be read here\n"  # noqa: S105  likewise

log = structlog.get_logger("syncwatch.exposition")


def host_allowed(host: str, hosts: Collection[str]) -> bool:
    """Whether a Host header is ours: a loopback name with any port (a forwarded port is another one), or one of `hosts`
    (`host:port` as bound, lower case).

    Where `hosts` has the address of all interfaces any IP address is ours: rebinding needs a name, and an address is none.
    """
    host = host.lower()
    if host in hosts:
        return True
    name, port = _split(host)
    if port is None:
        return False
    if name in LOOPBACK_NAMES:
        return True
    return _is_address(name) and any(_split(bound)[0] in _EVERYWHERE for bound in hosts)


def origin_allowed(origin: str, host: str) -> bool:
    """Whether an Origin header is that of a page that this listener itself served under this (allowed) Host."""
    scheme, separator, rest = origin.partition("://")
    return scheme in ("http", "https") and bool(separator) and rest.lower() == host.lower()


def bearer_matches(authorization: str, token: str) -> bool:
    """Whether the header carries the token; takes as long for a wrong one as for the right one of the same length."""
    scheme, _, given = authorization.partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"


class Guards:
    """All three, in order. `open_paths` are served without the token to those who come by a loopback name: they hold no data."""

    def __init__(self, hosts: Collection[str], token: ReadToken | None, open_paths: Collection[str] = ()) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._token = token
        self._open_paths = frozenset(open_paths)
        self._unreadable = False

    @property
    def middleware(self) -> Middleware:
        """For `web.Application(middlewares=[…])`."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self.refusal(request)
            return await handler(request) if refusal is None else refusal

        return guarded

    def refusal(self, request: web.Request) -> web.Response | None:
        """Why this request is not answered; None if it is."""
        sent = request.headers.getall("Host", [])
        if len(sent) != 1 or not host_allowed(sent[0], self._hosts):
            return web.Response(status=421, text=FOREIGN_HOST)
        if not all(origin_allowed(origin, sent[0]) for origin in request.headers.getall("Origin", [])):
            return web.Response(status=403, text=FOREIGN_ORIGIN)
        if self._token is None or (request.path in self._open_paths and _split(sent[0].lower())[0] in LOOPBACK_NAMES):
            return None
        return self._credentials(request, self._token)

    def _credentials(self, request: web.Request, read: ReadToken) -> web.Response | None:
        try:
            token = read()
        except (OSError, ValueError):
            token = None
        self._complain(unreadable=not token)
        if not token:
            return web.Response(status=503, text=TOKEN_UNREADABLE)
        sent = request.headers.getall("Authorization", [])
        if len(sent) == 1 and bearer_matches(sent[0], token):
            return None
        return web.Response(status=401, text=TOKEN_NEEDED, headers={"WWW-Authenticate": 'Bearer realm="syncwatch"'})

    def _complain(self, unreadable: bool) -> None:
        """Once when it begins and once when it ends: whoever asks often must not fill the log."""
        if unreadable and not self._unreadable:
            log.error("the local listener refuses everybody: its token file cannot be read")
        elif self._unreadable and not unreadable:
            log.info("the local listener's token file can be read again")
        self._unreadable = unreadable


def _split(host: str) -> tuple[str, str | None]:
    """Name and port (empty without one); a port of None for what is no host at all."""
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        name += bracket
    else:
        name, colon, rest = host.partition(":")
        rest = colon + rest
    if rest == "":
        return name, ""
    digits = rest[1:]
    return name, digits if rest[0] == ":" and digits.isascii() and digits.isdigit() else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True

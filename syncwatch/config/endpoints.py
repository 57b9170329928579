"""Where something listens or is reached: addresses and URLs, with what the environment puts into them.

Law: pure functions of their text and of the environment handed in; nothing is looked up or connected to. Sentences about URLs never
repeat them, because a secret may be in them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

from syncwatch.config.mistakes import WrongValueError, shown


class Address(msgspec.Struct, frozen=True):
    """Where to listen. Port 0 asks for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Only this machine can reach it."""
        ip = _ip(self.host)
        return ip.is_loopback if ip else self.host == "localhost"

    def collides(self, other: Address) -> bool:
        """Both cannot be listened on: one port (0 never collides), and one host or all hosts."""
        everywhere = {"0.0.0.0", "::"}  # compared, not bound
        return self.port == other.port != 0 and (self.host == other.host or bool(everywhere & {self.host, other.host}))


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+)):([0-9]{1,5})")


def address(text: str) -> Address:
    """`host:port`, IPv6 hosts in brackets."""
    found = _ADDRESS.fullmatch(text)
    if not found:
        raise WrongValueError(
            f"{shown(text)} is not an address; write host:port, such as 127.0.0.1:10120 or [::1]:10120"
        )
    host, port = found[1] or found[2], int(found[3])
    numeric = found[1] is not None or re.fullmatch(r"[0-9.]+", host)
    if numeric and _ip(host) is None:
        raise WrongValueError(f"{shown(host)} is not an IP address")
    if port > 65535:
        raise WrongValueError(f"{port} is not a port; ports go from 0 (any free one) to 65535")
    return Address(host, port)


_VARIABLE = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)\})?")


def with_variables(text: str, environ: Mapping[str, str]) -> str:
    """`${NAME}` replaced by the environment's value, once: what a value holds is not looked at again."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            raise WrongValueError('"${" begins a variable: write ${NAME}, of letters, digits and underscores')
        if name not in environ:
            raise WrongValueError(f"the environment variable {name} is not set")
        return environ[name]

    return _VARIABLE.sub(value, text)


TOKEN = re.compile(r"(?:at|rk|nt|ot)_live_|eyJ[A-Za-z0-9_-]*\.")
"""How the tokens of known servers begin."""
_SECRET_NAME = re.compile(r"token|secret|password|passwd|api_?key|auth|signature|^key$|^sig$|^pw$", re.IGNORECASE)


def _split_url(text: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    form = f"write one such as {example}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise WrongValueError(f"not a valid URL; {form}") from error
    if "://" not in text or parts.netloc.endswith(":") or not all(c.isprintable() and not c.isspace() for c in text):
        raise WrongValueError(f"not a URL; {form}")
    if parts.scheme not in schemes:
        spoken = " or ".join((", ".join(f"{s}://" for s in schemes[:-1]), f"{schemes[-1]}://"))
        raise WrongValueError(f"{shown(parts.scheme)} is not a scheme that is spoken here; write {spoken}")
    if "@" in parts.netloc:
        raise WrongValueError("holds a user name or password; secrets are never written here")
    if not parts.hostname:
        raise WrongValueError(f"names no host; {form}")
    if port == 0:
        raise WrongValueError("0 is not a port to connect to")
    if any(_SECRET_NAME.search(name) or TOKEN.match(value) for name, value in _query(parts)):
        raise WrongValueError("holds a token in its query; secrets are never written here")
    return parts


def _query(parts: SplitResult) -> list[tuple[str, str]]:
    try:
        return parse_qsl(parts.query, keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise WrongValueError("has more than 100 fields in its query") from error


def base_url(text: str) -> str:
    """The base of a connection: http or https, without a slash at the end. ws and wss are taken for http and https."""
    parts = _split_url(text, ("http", "https", "ws", "wss"), "http://127.0.0.1:8787")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise WrongValueError("ends in a query or fragment; write scheme, host, port and path only")
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"


BRANCH_PATH = "/tps/wire"
BARE_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""Where a branch is dialled without TLS: TPS itself dials `wss` everywhere else, to a proxy in front of the branch (wire/tps §4.1)."""


def branch_url(text: str) -> str:
    """Where a TPS branch listens: `tcp://host:port`, or a WebSocket, ws or wss, whose path is always `/tps/wire` and may be left out."""
    parts = _split_url(text, ("ws", "wss", "tcp", "http", "https"), "ws://127.0.0.1:6458")
    if parts.scheme == "tcp":
        if parts.port is None or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise WrongValueError("over tcp there is a host and a port, and nothing else; write one such as tcp://127.0.0.1:6458")
        return f"tcp://{parts.netloc}"
    url = base_url(text)
    if url.startswith("http:") and parts.hostname not in BARE_HOSTS:
        raise WrongValueError(
            f"without TLS a branch's WebSocket is dialled on this machine only ({', '.join(sorted(BARE_HOSTS))}), as TPS does it; write wss:// or tcp://host:port"
        )
    if parts.path.rstrip("/") not in ("", BRANCH_PATH):
        raise WrongValueError(f"its path is not that of a branch, which is always {BRANCH_PATH}; write that one, or none")
    scheme, host = ("ws" if url.startswith("http:") else "wss"), parts.netloc
    return f"{scheme}://{host}{BRANCH_PATH}"


def http_url(text: str) -> str:
    """A URL to ask or to post to, as it was written."""
    if _split_url(text, ("http", "https"), "http://127.0.0.1:8080/health").fragment:
        raise WrongValueError("ends in a fragment (#), which is never sent")
    return text


def proxy_url(text: str) -> str:
    """An HTTP proxy."""
    parts = _split_url(text, ("http", "https"), "http://proxy:3128")
    if parts.query or parts.fragment or parts.path not in ("", "/"):
        raise WrongValueError("a proxy is scheme, host and port only, such as http://proxy:3128")
    return f"{parts.scheme}://{parts.netloc}"

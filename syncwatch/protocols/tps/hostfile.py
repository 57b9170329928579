"""The two files of a TPS host that are worth reading: the state of its connection to a branch, and the services that it offers.

What belongs here: from bytes to checked words. Nothing is opened here, and nothing raises for what a file says: bad content is a sentence.
The state file is written in place, so that a part of it, or nothing, is what one sometimes reads.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from syncwatch.core.reported import Picture

NAME = "tps"
DIALECT = "passive"
MAX_BYTES = 256 * 1024
"""A host's file has some hundred bytes for itself and for each service."""
MOST_SERVICES = 32
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Passive:
    """For showing."""

    name = NAME
    dialect = DIALECT


class _State(msgspec.Struct, rename="camel"):
    branch: str
    connected_at: str
    last_heartbeat_sent: str
    last_heartbeat_ack: str | None
    reconnect_count: _Count
    messages_sent: _Count
    messages_received: _Count
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class _Service(msgspec.Struct, rename="camel"):
    url: str
    local_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None


class Offered(msgspec.Struct, frozen=True):
    """A service that the host offers; `url` is where it listens."""

    name: str
    url: str


class Registry(msgspec.Struct, frozen=True):
    """All of them, in the file's order. `remarks`: sentences about what is odd, or was left out."""

    services: tuple[Offered, ...] = ()
    remarks: tuple[str, ...] = ()


_STATE = msgspec.json.Decoder(_State)
_SERVICES = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SERVICE = msgspec.json.Decoder(_Service)


def picture(content: bytes, branch: str) -> Picture | str:
    """What a state file says of the connection to `branch`; a sentence if it says nothing that can be used."""
    if not content.strip(b" \t\r\n\0"):
        return "the file is empty"
    try:
        state = _STATE.decode(content)
        connected_s, sent_s = _seconds(state.connected_at), _seconds(state.last_heartbeat_sent)
        heard_s = None if state.last_heartbeat_ack is None else _seconds(state.last_heartbeat_ack)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, OverflowError, RecursionError) as error:
        return f"the file is not a whole state of a connection: {_cut(str(error))}"
    if state.branch != branch:
        return f"the file is about branch {_cut(repr(state.branch))}"
    return Picture(
        pid=state.pid,
        connected_wall_s=connected_s,
        sent_wall_s=sent_s,
        heard_wall_s=heard_s,
        reconnects=state.reconnect_count,
        sent=state.messages_sent,
        received=state.messages_received,
    )


def registry(content: bytes) -> Registry | str:
    """What a service registry says; a sentence if it cannot be used at all. An entry that cannot be used is left out, and that is said."""
    try:
        entries = _SERVICES.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"is not a registry of services: {_cut(str(error))}"
    services: list[Offered] = []
    remarks: list[str] = []
    for name, raw in entries.items():
        if len(services) == MOST_SERVICES:
            remarks.append(f"only the first {MOST_SERVICES} services are asked")
            break
        made = _offered(name, raw)
        if isinstance(made, str):
            remarks.append(f"service {_cut(name)} is not asked: {made}")
            continue
        offered, remark = made
        services.append(offered)
        if remark is not None:
            remarks.append(remark)
    return Registry(tuple(services), tuple(remarks[: 2 * MOST_SERVICES]))


def _offered(name: str, raw: msgspec.Raw) -> tuple[Offered, str | None] | str:
    """With a remark about the port. Or why it cannot be asked."""
    if not _NAME.fullmatch(name):
        return "its name has other characters than letters, digits, dots, hyphens and underscores, or begins or ends with one of these"
    try:
        entry = _SERVICE.decode(raw)
        parts = urlsplit(entry.url)
        host, port = parts.hostname or "", parts.port
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        return _cut(str(error))
    if parts.scheme not in ("http", "https") or not (host == "localhost" or re.fullmatch(r"127(?:\.[0-9]{1,3}){3}", host)):
        return "its url is not http or https to this machine"
    if parts.username is not None or not entry.url.isprintable() or " " in entry.url:
        return "its url has a user, or characters that no URL has"
    port = port or {"http": 80, "https": 443}[parts.scheme]
    url = entry.url if parts.path else f"{entry.url}/"
    if entry.local_port is None or entry.local_port == port:
        return Offered(name, url), None
    told = f"service {name}: its url says port {port}, which is asked; the host itself asks localPort {entry.local_port}, which is the branch's side"
    return Offered(name, url), told


def _seconds(text: str) -> float:
    """Unix seconds of an ISO 8601 time with a zone. Raises: ValueError, OverflowError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    seconds = moment.timestamp()
    if seconds < 0.0:
        raise ValueError("a time before 1970")
    return seconds


def _cut(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."

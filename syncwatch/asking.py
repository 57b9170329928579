"""How a command finds a sidecar and asks it: over HTTP, or by the status file that it leaves in its state directory.

What belongs here: where to look, and whether what was found may be believed. How it is shown is the exposition's business, what a command's
exit code means the command's.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from syncwatch.config import ConfigError, SecretError, config_path, read_secret
from syncwatch.config.loading import CONFIG_VARIABLE
from syncwatch.config.whereabouts import whereabouts
from syncwatch.runtime.statusreader import Reading, Unusable, read

LOCAL = "http://127.0.0.1:10120"
TIMEOUT_S = 5.0
MAX_BYTES = 64 * 2**20

Document = dict[str, Any]


class Unreachable(Exception):  # noqa: N818  a sentence for people
    """Nobody answered as a sidecar does."""


class Misasked(Exception):  # noqa: N818  a sentence for people
    """The question cannot be asked as it was given."""


class Place(NamedTuple):
    """Where a sidecar can be asked: its local listener, with the file of its token, and its state directory."""

    url: str | None
    token_file: Path | None
    state_dir: Path | None


def find(url: str | None, config: str | None, state_dir: str | None, token_file: str | None, environ: Mapping[str, str]) -> Place:
    """What the options of a command mean. Without any, the configuration that SYNCWATCH_CONFIG names, or else the default address.

    Raises: ConfigError, Misasked.
    """
    if url is not None and not url.startswith(("http://", "https://")):
        raise Misasked(f"--url: {url!r} is no http or https URL")
    token = None if token_file is None else Path(token_file)
    if token is not None:
        try:
            read_secret(token)
        except SecretError as error:
            raise Misasked(f"--token-file: {error}") from None
    directory = None if state_dir is None else Path(state_dir)
    if config is None and (url is not None or directory is not None):
        return Place(url, token, directory)
    if config is None and not environ.get(CONFIG_VARIABLE):
        return Place(LOCAL, token, None)
    path = config_path(config, environ)
    try:
        found = whereabouts(path, environ)
    except ConfigError:
        if config is not None:
            raise
        return Place(LOCAL, token, None)  # there is one that waits until this file can be read, or nobody
    place = Place(url or found.url, token or found.local_token_file, directory or found.state_dir)
    if place.url is None and place.state_dir is None:
        raise Misasked(f"{path}: local_listen has any free port and there is no state_dir: name the address with --url")
    return place


def document(place: Place, path: str, *keys: str, method: str = "GET", timeout_s: float = TIMEOUT_S) -> tuple[int, Document]:
    """The HTTP status and the JSON answer of a sidecar, which has these keys. Raises: Unreachable, Misasked."""
    if place.url is None:
        raise Unreachable("its address is not known")
    url = f"{place.url.rstrip('/')}{path}"
    try:
        status, body = _ask(url, place.token_file, method, timeout_s)
    except OSError as error:
        raise Unreachable(f"{url} cannot be asked: {_why(error, timeout_s)}") from None
    except (http.client.InvalidURL, ValueError) as error:
        raise Misasked(f"--url: {url!r}: {error}") from None
    except http.client.HTTPException:  # its text is whatever was answered
        raise Unreachable(f"{url} does not speak HTTP") from None
    if status == 501:
        raise Misasked(body.decode(errors="replace").strip())
    if status not in (200, 503):
        raise Unreachable(f"{url} answered HTTP {status}")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not found.keys() >= set(keys):
        raise Unreachable(f"{url} did not answer as a sidecar does (HTTP {status})")
    return status, found


def status(place: Place) -> Document:
    """The status document, with `source`: over HTTP, or else as the status file has it. Raises: Unreachable, Misasked."""
    unreachable = None
    if place.url is not None:
        try:
            _, found = document(place, "/status", "schema", "health")
        except Unreachable as error:
            unreachable = str(error)
        else:
            return {**found, "source": _source("http", place.url, 0.0)}
    if place.state_dir is None:
        raise Unreachable(unreachable or "its address is not known")
    try:
        read_back = read(place.state_dir, time.time())
    except Unusable as error:
        raise Unreachable("; ".join(filter(None, (unreachable, str(error))))) from None
    return _out_of_file(read_back, unreachable)


def _out_of_file(seen: Reading, unreachable: str | None) -> Document:
    """What was written; if it is no longer so, nothing in it says that something is well."""
    found: Document = dict(seen.status)
    if not seen.current:
        found |= {"health": None, "degraded_reason": None}
        for kind in ("connections", "services", "watchers", "mirrors"):
            if isinstance(found.get(kind), list):
                found[kind] = [{**one, "health": None} if isinstance(one, dict) else one for one in found[kind]]
        closed = {"open": False, "detail": "what is not watched cannot be trusted"}
        found["gate"] = {"read": closed, "write": closed}
    return {**found, "source": _source("file", str(seen.path), seen.age_s, seen.current, seen.detail, unreachable)}


def _source(kind: str, at: str, age_s: float, current: bool = True, detail: str | None = None, unreachable: str | None = None) -> Document:
    return {"kind": kind, "at": at, "age_s": round(age_s, 6), "current": current, "detail": detail, "unreachable": unreachable}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer; followed, it would carry the token to a place that nobody named."""

    def redirect_request(self, *_: object) -> None:
        """None: not followed."""


def _ask(url: str, token_file: Path | None, method: str, timeout_s: float) -> tuple[int, bytes]:
    """One request, past any proxy of the environment: the sidecar is local. Raises: OSError, HTTPException, ValueError when nobody answers properly."""
    request = urllib.request.Request(url, headers={"Accept": "application/json"}, method=method)
    if token_file is not None:
        try:
            request.add_header("Authorization", f"Bearer {read_secret(token_file).reveal()}")
        except SecretError as error:
            raise Unreachable(f"{url} cannot be asked: {error}") from None
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects).open(request, timeout=timeout_s) as answer:
            return answer.status, answer.read(MAX_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(MAX_BYTES)


def _why(error: OSError, timeout_s: float) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return str(reason)

"""The one translation table: foreign errors, HTTP statuses and close codes in, our closed sets of reasons out.

What belongs here: pure functions. A detail is a sentence for people, built from known parts only. The text of a foreign exception is
never passed on, because aiohttp puts the URL into it, and the token is in the URL.
"""

from __future__ import annotations

import asyncio
import email.utils
import errno
import os
import re
import socket
import ssl
from urllib.parse import quote, quote_plus

import aiohttp
import msgspec
from aiohttp import EofStream, WebSocketError

from syncwatch.core.states import AttemptFailure, Disconnect

MAX_RETRY_AFTER_S = 86_400.0
"""A longer Retry-After is cut to a day: a number for a timer, whatever a peer writes."""
MAX_TEXT = 200  # characters of a peer's own words that are passed on

NORMAL_CLOSURE = 1000
NO_STATUS = 1005  # RFC 6455 section 7.4.1: a close frame without a code
ABNORMAL = 1006  # the same section: no close frame at all
TOO_BIG = 1009
TRY_LATER = 1013

FOREIGN = (aiohttp.ClientError, EofStream, WebSocketError, OSError, ValueError, AssertionError)
"""What aiohttp, ssl and the sockets raise for what the world does. OSError includes timeouts, ssl.SSLError and socket.gaierror; ValueError a
host name that no encoding accepts; AssertionError is how aiohttp reports a connection that dies in the moment of its upgrade."""


class Failed(msgspec.Struct, frozen=True):
    """A dial that did not succeed; the arguments of `session.failed`."""

    reason: AttemptFailure
    detail: str
    retry_after_s: float | None = None


class Ending(msgspec.Struct, frozen=True):
    """The end of an opened socket; the arguments of `session.closed`.

    `code` is the peer's close code, 1005 for a close frame without one, 1006 for no close frame, or the one that we failed the
    connection with (1002, 1007, 1009).
    """

    reason: Disconnect
    code: int | None
    detail: str
    oversized: bool = False


class Interrupted(aiohttp.ClientError):
    """Wraps an error of the first try, so that aiohttp does not silently make a second one and call both one attempt."""

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error


class Redirected(aiohttp.ClientError):
    """The server answered with a redirect. It is not followed: it would carry the token to a place that nobody configured."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class TimedOut(asyncio.TimeoutError):
    """A handshake or a call did not finish in time; `phase` is where it stood."""

    def __init__(self, phase: str, timeout_s: float) -> None:
        super().__init__(phase, timeout_s)
        self.phase = phase
        self.timeout_s = timeout_s


class Unusable(Exception):  # noqa: N818  named for what it says, as the others here
    """A file that a dial needs (token, certificate, key) cannot be used. The message names the path, never the content."""

    def __init__(self, reason: AttemptFailure, message: str) -> None:
        super().__init__(message)
        self.reason = reason


STATUSES: dict[int, AttemptFailure] = {
    401: AttemptFailure.UNAUTHORIZED,
    403: AttemptFailure.FORBIDDEN,
    429: AttemptFailure.RATE_LIMITED,
}
"""Statuses with a reason of their own. Any other below 300 is no refusal but a peer that does not speak WebSocket: `protocol`; the
rest is `rejected`."""

ERRNOS: dict[int, AttemptFailure] = {
    errno.ECONNREFUSED: AttemptFailure.REFUSED,
    errno.ETIMEDOUT: AttemptFailure.TIMEOUT,
    errno.ECONNRESET: AttemptFailure.PROTOCOL,
    errno.ECONNABORTED: AttemptFailure.PROTOCOL,
    errno.EPIPE: AttemptFailure.PROTOCOL,
}
"""Errors of the system with a reason of their own; any other (no route, network down, no permission, no free descriptor) is `unreachable`."""

CLOSE_REASONS: dict[int, Disconnect] = {
    1000: Disconnect.PEER_CLOSED,
    1001: Disconnect.PEER_CLOSED,  # going away
    NO_STATUS: Disconnect.PEER_CLOSED,
    ABNORMAL: Disconnect.NETWORK,
    1012: Disconnect.PEER_CLOSED,  # service restart
    TRY_LATER: Disconnect.OVERFLOW,
}
"""Close codes that are no error of the peer's. Below 3000 any other is `peer_error`; from 3000 on the application decides: `peer_closed`."""

SUPERSEDED = "superseded"  # the reason text with which a server closes the older of two sockets of one identity


def http_failure(status: int, retry_after_s: float | None = None) -> Failed:
    """An HTTP answer other than a correct 101."""
    if status < 300:
        return Failed(AttemptFailure.PROTOCOL, f"the server answered HTTP {status} instead of switching to WebSocket")
    if status < 400:
        return Failed(AttemptFailure.REJECTED, f"the server answered HTTP {status}: redirects are not followed")
    reason = STATUSES.get(status, AttemptFailure.REJECTED)
    return Failed(reason, f"the server refused with HTTP {status}", retry_after_s)


def attempt_failure(error: BaseException, wall_s: float) -> Failed:
    """Why a dial did not succeed. `wall_s` is the present Unix time, for a Retry-After that is a date. Total: never raises."""
    if isinstance(error, Interrupted):
        error = error.error
    if isinstance(error, Unusable):
        return Failed(error.reason, str(error))
    if isinstance(error, TimedOut):
        return Failed(AttemptFailure.TIMEOUT, f"not finished within {error.timeout_s:g} s: it stood at {error.phase}")
    if isinstance(error, Redirected):
        return http_failure(error.status)
    if isinstance(error, aiohttp.ClientResponseError):
        return _response_failure(error, wall_s)
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return Failed(AttemptFailure.UNREACHABLE, "the URL cannot be dialled")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _connector_failure(error)
    return _plain_failure(error)


def disconnect(error: BaseException, cause: BaseException | None = None) -> Ending:
    """How an opened socket ended when reading or writing raised `error`. `cause` is what the transport reported, if anything."""
    if isinstance(error, WebSocketError):
        oversized = error.code == TOO_BIG
        what = "a message above max_frame" if oversized else "a frame that breaks the WebSocket protocol"
        return Ending(Disconnect.PROTOCOL_ERROR, error.code, f"the peer sent {what}: {printable(str(error))}", oversized)
    if isinstance(cause, OSError):
        return Ending(Disconnect.NETWORK, ABNORMAL, f"connection lost: {_system_words(cause)}")
    if isinstance(error, OSError) and not isinstance(error, aiohttp.ClientConnectionError):
        return Ending(Disconnect.NETWORK, ABNORMAL, f"connection lost: {_system_words(error)}")
    return Ending(Disconnect.NETWORK, ABNORMAL, "the connection ended without a close frame")


def peer_close(code: int, text: str) -> Ending:
    """A close frame of the peer. `code` is 0 when the frame had none; `text` are the peer's own words."""
    code = code or NO_STATUS
    words = printable(text)
    reason = CLOSE_REASONS.get(code, Disconnect.PEER_CLOSED if code >= 3000 else Disconnect.PEER_ERROR)
    if code == NORMAL_CLOSURE and words == SUPERSEDED:
        reason = Disconnect.SUPERSEDED
    return Ending(reason, code, f"the peer closed with {code} {words}".rstrip())


def retry_after_s(value: str | None, wall_s: float) -> float | None:
    """The seconds of a Retry-After header: a number, or an HTTP date (RFC 9110 section 10.2.3) against `wall_s`. None for anything else."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", value, re.ASCII):
        return min(float(value), MAX_RETRY_AFTER_S)
    date_s = http_date_s(value)
    return None if date_s is None else min(max(0.0, date_s - wall_s), MAX_RETRY_AFTER_S)


def http_date_s(value: str | None) -> float | None:
    """The Unix seconds of an HTTP date; None for anything else."""
    if value is None or len(value) > 64:
        return None
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


def printable(text: str) -> str:
    """A peer's words, fit for one line of a log: bounded, no control characters, no URL queries."""
    text = re.sub(r"\?\S+", "?…", text[: 4 * MAX_TEXT])
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def scrub(text: str, secret: str | None) -> str:
    """`text` without `secret`, in any form in which a URL could hold it. The last line of defence, behind details built from known parts."""
    if not secret:
        return text
    for form in {secret, quote(secret, safe=""), quote_plus(secret), quote(secret)}:
        text = text.replace(form, "…")
    return text


def _response_failure(error: aiohttp.ClientResponseError, wall_s: float) -> Failed:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Failed(AttemptFailure.REJECTED, f"the proxy answered HTTP {error.status}")
    if not isinstance(error, aiohttp.WSServerHandshakeError):
        return Failed(AttemptFailure.PROTOCOL, "the server's answer is not HTTP")
    if error.status == 101:
        return Failed(AttemptFailure.PROTOCOL, f"the server's upgrade is not correct: {printable(error.message).lower()}")
    header = None if error.headers is None else error.headers.get("Retry-After")
    return http_failure(error.status, retry_after_s(header, wall_s))


def _connector_failure(error: aiohttp.ClientConnectorError) -> Failed:
    where = "the proxy" if isinstance(error, aiohttp.ClientProxyConnectionError) else "the server"
    cause = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error.os_error
    if isinstance(error, aiohttp.ClientConnectorDNSError) or isinstance(cause, socket.gaierror):
        words = cause.strerror if isinstance(cause, OSError) and cause.strerror else "no address"
        return Failed(AttemptFailure.DNS, f"the name of {where} cannot be resolved: {printable(words)}")
    failed = _plain_failure(cause)
    if isinstance(error, aiohttp.ClientConnectorCertificateError) and failed.reason is not AttemptFailure.TLS:
        return Failed(AttemptFailure.TLS, "certificate refused")
    return Failed(failed.reason, f"{where}: {failed.detail}")


def _plain_failure(error: BaseException) -> Failed:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failed(AttemptFailure.TLS, f"certificate refused: {printable(error.verify_message)}")
    if isinstance(error, ssl.SSLError | ssl.CertificateError):
        words = getattr(error, "reason", None) or "handshake failed"
        return Failed(AttemptFailure.TLS, f"TLS failed: {printable(str(words)).lower().replace('_', ' ')}")
    if isinstance(error, asyncio.TimeoutError):
        return Failed(AttemptFailure.TIMEOUT, "timed out")
    if isinstance(error, socket.gaierror):
        return Failed(AttemptFailure.DNS, f"the name of the server cannot be resolved: {printable(error.strerror or 'no address')}")
    if isinstance(error, aiohttp.ServerDisconnectedError | AssertionError | EofStream):
        return Failed(AttemptFailure.PROTOCOL, "the connection ended before the answer")
    if isinstance(error, OSError):
        reason = ERRNOS.get(error.errno or 0, AttemptFailure.UNREACHABLE)
        if isinstance(error, ConnectionError) and error.errno is None:
            reason = AttemptFailure.PROTOCOL
        return Failed(reason, _system_words(error))
    return Failed(AttemptFailure.PROTOCOL, f"the exchange failed: {type(error).__name__}")


def _system_words(error: OSError) -> str:
    if error.errno is not None and error.errno in errno.errorcode:
        # Not error.strerror: asyncio writes addresses into it.
        return f"{os.strerror(error.errno).lower()} ({errno.errorcode[error.errno]})"
    return "the connection was cut" if isinstance(error, ConnectionError) else type(error).__name__


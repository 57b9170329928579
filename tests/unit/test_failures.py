"""The translation table, row by row: what the world raises or says, and the closed set of reasons that it becomes."""

from __future__ import annotations

import errno
import socket
import ssl
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote, quote_plus, urlencode

import aiohttp
import pytest
from aiohttp import EofStream, WebSocketError
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from syncwatch.core.states import AttemptFailure, Disconnect
from syncwatch.runtime.failures import (
    FOREIGN,
    MAX_RETRY_AFTER_S,
    MAX_TEXT,
    Ending,
    Failed,
    Interrupted,
    Redirected,
    TimedOut,
    Unusable,
    attempt_failure,
    disconnect,
    http_date_s,
    http_failure,
    peer_close,
    printable,
    retry_after_s,
    scrub,
)

WALL_S = 1_800_000_000.0
TOKEN = "at_live_0123456789abcdef0123456789abcdef"
SECRET_URL = f"wss://cast.example/v1/ws?token={TOKEN}"
KEY = ConnectionKey("cast.example", 443, True, True, None, None, None)
REQUEST = RequestInfo(URL(SECRET_URL), "GET", CIMultiDictProxy(CIMultiDict()), URL(SECRET_URL))


def refusal(status: int, **headers: str) -> aiohttp.WSServerHandshakeError:
    """What aiohttp raises for an upgrade that was not answered with a correct 101."""
    fields: CIMultiDict[str] = CIMultiDict((name.replace("_", "-"), value) for name, value in headers.items())
    return aiohttp.WSServerHandshakeError(REQUEST, (), message="Invalid response status", status=status, headers=fields)


def connector(error: OSError) -> aiohttp.ClientConnectorError:
    """What aiohttp raises when no TCP connection comes about."""
    return aiohttp.ClientConnectorError(KEY, error)


def certificate_error() -> ssl.SSLCertVerificationError:
    """As OpenSSL raises it."""
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    error.verify_message = "certificate has expired"
    return error


def ssl_error(reason: str) -> ssl.SSLError:
    """As OpenSSL raises it."""
    error = ssl.SSLError(1, f"[SSL: {reason}] text")
    error.reason = reason
    return error


GAI = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

ATTEMPTS: list[tuple[str, BaseException, AttemptFailure, str]] = [
    ("dns", aiohttp.ClientConnectorDNSError(KEY, GAI), AttemptFailure.DNS, "resolved: Name or service not known"),
    ("dns without words", aiohttp.ClientConnectorDNSError(KEY, OSError(None, None)), AttemptFailure.DNS, "no address"),
    ("dns of the proxy", aiohttp.ClientProxyConnectionError(KEY, GAI), AttemptFailure.DNS, "the name of the proxy"),
    ("refused", connector(ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed")), AttemptFailure.REFUSED, "ECONNREFUSED"),
    ("proxy refused", aiohttp.ClientProxyConnectionError(KEY, OSError(errno.ECONNREFUSED, "x")), AttemptFailure.REFUSED, "the proxy"),
    ("no route", connector(OSError(errno.EHOSTUNREACH, "x")), AttemptFailure.UNREACHABLE, "EHOSTUNREACH"),
    ("no network", connector(OSError(errno.ENETUNREACH, "x")), AttemptFailure.UNREACHABLE, "ENETUNREACH"),
    ("no descriptor", connector(OSError(errno.EMFILE, "x")), AttemptFailure.UNREACHABLE, "EMFILE"),
    ("several addresses, several errors", connector(OSError("Multiple exceptions: a, b")), AttemptFailure.UNREACHABLE, "OSError"),
    ("bad url", aiohttp.InvalidURL(SECRET_URL), AttemptFailure.UNREACHABLE, "URL"),
    ("other scheme", aiohttp.NonHttpUrlClientError(SECRET_URL), AttemptFailure.UNREACHABLE, "URL"),
    ("expired", aiohttp.ClientConnectorCertificateError(KEY, certificate_error()), AttemptFailure.TLS, "has expired"),
    ("not tls", aiohttp.ClientConnectorSSLError(KEY, ssl_error("WRONG_VERSION_NUMBER")), AttemptFailure.TLS, "wrong version number"),
    ("alert", ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), AttemptFailure.TLS, "certificate required"),
    ("tls file", Unusable(AttemptFailure.TLS, "TLS file /x/ca.pem: no such file"), AttemptFailure.TLS, "/x/ca.pem"),
    ("our timeout", TimedOut("tls", 10.0), AttemptFailure.TIMEOUT, "within 10 s: it stood at tls"),
    ("kernel timeout", connector(OSError(errno.ETIMEDOUT, "x")), AttemptFailure.TIMEOUT, "timed out"),
    ("aiohttp timeout", aiohttp.ConnectionTimeoutError(SECRET_URL), AttemptFailure.TIMEOUT, "timed out"),
    ("token file", Unusable(AttemptFailure.UNAUTHORIZED, "token file /x/t: empty"), AttemptFailure.UNAUTHORIZED, "/x/t"),
    ("401", refusal(401), AttemptFailure.UNAUTHORIZED, "HTTP 401"),
    ("403", refusal(403), AttemptFailure.FORBIDDEN, "HTTP 403"),
    ("404", refusal(404), AttemptFailure.REJECTED, "HTTP 404"),
    ("407", refusal(407), AttemptFailure.REJECTED, "HTTP 407"),
    ("426", refusal(426), AttemptFailure.REJECTED, "HTTP 426"),
    ("429", refusal(429), AttemptFailure.RATE_LIMITED, "HTTP 429"),
    ("500", refusal(500), AttemptFailure.REJECTED, "HTTP 500"),
    ("503", refusal(503), AttemptFailure.REJECTED, "HTTP 503"),
    ("redirect", Redirected(302), AttemptFailure.REJECTED, "302: redirects are not followed"),
    ("200", refusal(200), AttemptFailure.PROTOCOL, "HTTP 200 instead of"),
    ("wrong 101", refusal(101), AttemptFailure.PROTOCOL, "upgrade is not correct"),
    ("garbage", aiohttp.ClientResponseError(REQUEST, (), status=400, message=f"Bad status line {TOKEN}"), AttemptFailure.PROTOCOL, "not HTTP"),
    ("proxy says no", aiohttp.ClientHttpProxyError(REQUEST, (), status=502), AttemptFailure.REJECTED, "the proxy answered HTTP 502"),
    ("closed", aiohttp.ServerDisconnectedError(), AttemptFailure.PROTOCOL, "ended before the answer"),
    ("closed on the first try", Interrupted(aiohttp.ServerDisconnectedError()), AttemptFailure.PROTOCOL, "ended before"),
    ("reset", Interrupted(aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by peer")), AttemptFailure.PROTOCOL, "ECONNRESET"),
    ("reset in tls", connector(ConnectionResetError()), AttemptFailure.PROTOCOL, "cut"),
    ("broken pipe", aiohttp.ClientOSError(errno.EPIPE, "x"), AttemptFailure.PROTOCOL, "EPIPE"),
    ("lost in the moment of the upgrade", AssertionError(), AttemptFailure.PROTOCOL, "ended before the answer"),
    ("host name that cannot be encoded", UnicodeError("label too long"), AttemptFailure.PROTOCOL, "UnicodeError"),
    ("payload", aiohttp.ClientPayloadError(SECRET_URL), AttemptFailure.PROTOCOL, "ClientPayloadError"),
]


@pytest.mark.parametrize(("error", "reason", "words"), [row[1:] for row in ATTEMPTS], ids=[row[0] for row in ATTEMPTS])
def test_attempt_failures(error: BaseException, reason: AttemptFailure, words: str) -> None:
    """Each error of a dial becomes its reason, with a sentence that has what helps and never the URL."""
    failed = attempt_failure(error, WALL_S)
    assert reason is failed.reason
    assert words in failed.detail
    assert TOKEN not in failed.detail
    assert "cast.example" not in failed.detail
    assert failed.retry_after_s is None


def test_every_attempt_failure_has_a_row() -> None:
    """The set of reasons is closed, and each of them can come about."""
    assert set(AttemptFailure) == {row[2] for row in ATTEMPTS}


@pytest.mark.parametrize("error", [row[1] for row in ATTEMPTS], ids=[row[0] for row in ATTEMPTS])
def test_what_is_translated_is_caught(error: BaseException) -> None:
    """Everything in the table is of a kind that the shell catches."""
    assert isinstance(error, (*FOREIGN, Unusable))


def test_the_unknown_is_a_protocol_failure_with_its_type_only() -> None:
    """The table is total; the text of what it does not know stays out."""
    assert Failed(AttemptFailure.PROTOCOL, "the exchange failed: RuntimeError") == attempt_failure(RuntimeError(SECRET_URL), WALL_S)


def test_retry_after_of_a_refusal() -> None:
    """Seconds and dates are passed on, with 429 and 503 alike; without the header there is nothing."""
    assert 7.0 == attempt_failure(refusal(429, Retry_After="7"), WALL_S).retry_after_s
    assert 30.0 == attempt_failure(refusal(503, Retry_After=formatdate(WALL_S + 30, usegmt=True)), WALL_S).retry_after_s
    assert attempt_failure(refusal(503), WALL_S).retry_after_s is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("999999999", MAX_RETRY_AFTER_S),
        ("-1", None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("9" * 400, None),
        ("١٢", None),
        ("", None),
        ("soon", None),
        (formatdate(WALL_S + 90, usegmt=True), 90.0),
        (formatdate(WALL_S - 90, usegmt=True), 0.0),
        (formatdate(WALL_S + 1e7, usegmt=True), MAX_RETRY_AFTER_S),
        ("Fri, 99 Foo 2027 99:99:99 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after(value: str | None, expected: float | None) -> None:
    """A number, or a date against our wall clock; anything else is nothing, and nothing is longer than a day."""
    assert expected == retry_after_s(value, WALL_S)


@given(st.text(max_size=80))
def test_retry_after_is_total(value: str) -> None:
    """Whatever a peer writes, the answer is None or a number that a timer can take."""
    seconds = retry_after_s(value, WALL_S)
    assert seconds is None or 0.0 <= seconds <= MAX_RETRY_AFTER_S


def test_http_dates() -> None:
    """The server's Date header becomes Unix seconds; nonsense becomes nothing."""
    assert 784_111_777.0 == http_date_s("Sun, 06 Nov 1994 08:49:37 GMT")
    assert http_date_s(None) is None
    assert http_date_s("yesterday") is None
    assert http_date_s("Sun, 06 Nov 1994 08:49:37 GMT" + " " * 100) is None


def test_every_status_has_a_reason() -> None:
    """No status is without a reason, and only the named ones have a special one."""
    special = {401: AttemptFailure.UNAUTHORIZED, 403: AttemptFailure.FORBIDDEN, 429: AttemptFailure.RATE_LIMITED}
    for status in range(100, 600):
        default = AttemptFailure.PROTOCOL if status < 300 else AttemptFailure.REJECTED
        assert special.get(status, default) is http_failure(status).reason


@pytest.mark.parametrize(
    ("code", "text", "reason", "reported"),
    [
        (0, "", Disconnect.PEER_CLOSED, 1005),
        (1000, "bye", Disconnect.PEER_CLOSED, 1000),
        (1000, "force-disconnect", Disconnect.PEER_CLOSED, 1000),
        (1000, "superseded", Disconnect.SUPERSEDED, 1000),
        (1001, "superseded", Disconnect.PEER_CLOSED, 1001),
        (1001, "request context canceled", Disconnect.PEER_CLOSED, 1001),
        (1002, "", Disconnect.PEER_ERROR, 1002),
        (1003, "", Disconnect.PEER_ERROR, 1003),
        (1007, "failed to unmarshal JSON", Disconnect.PEER_ERROR, 1007),
        (1008, "rejected", Disconnect.PEER_ERROR, 1008),
        (1009, "read limited", Disconnect.PEER_ERROR, 1009),
        (1010, "", Disconnect.PEER_ERROR, 1010),
        (1011, "socket error", Disconnect.PEER_ERROR, 1011),
        (1012, "", Disconnect.PEER_CLOSED, 1012),
        (1013, "event stream overflow; reconnect from cursor", Disconnect.OVERFLOW, 1013),
        (1014, "", Disconnect.PEER_ERROR, 1014),
        (3000, "", Disconnect.PEER_CLOSED, 3000),
        (4001, "token", Disconnect.PEER_CLOSED, 4001),
        (4999, "", Disconnect.PEER_CLOSED, 4999),
    ],
)
def test_close_frames(code: int, text: str, reason: Disconnect, reported: int) -> None:
    """The peer's code decides; its words are passed on."""
    ending = peer_close(code, text)
    assert (reason, reported, False) == (ending.reason, ending.code, ending.oversized)
    assert f"the peer closed with {reported} {text}".strip() == ending.detail


@pytest.mark.parametrize(
    ("error", "cause", "expected"),
    [
        (WebSocketError(1009, "Message size 20000000 exceeds limit 16777217"), None, (Disconnect.PROTOCOL_ERROR, 1009, True)),
        (WebSocketError(1002, "Received frame with non-zero reserved bits"), None, (Disconnect.PROTOCOL_ERROR, 1002, False)),
        (WebSocketError(1007, "Invalid UTF-8 text message"), None, (Disconnect.PROTOCOL_ERROR, 1007, False)),
        (WebSocketError(1002, "late"), ConnectionResetError(errno.ECONNRESET, "x"), (Disconnect.PROTOCOL_ERROR, 1002, False)),
        (EofStream(), None, (Disconnect.NETWORK, 1006, False)),
        (EofStream(), aiohttp.ServerDisconnectedError(), (Disconnect.NETWORK, 1006, False)),
        (EofStream(), aiohttp.ClientOSError(errno.ECONNRESET, "x"), (Disconnect.NETWORK, 1006, False)),
        (aiohttp.ClientConnectionResetError("Cannot write to closing transport"), None, (Disconnect.NETWORK, 1006, False)),
        (ConnectionResetError(errno.ECONNRESET, "x"), None, (Disconnect.NETWORK, 1006, False)),
        (TimeoutError(errno.ETIMEDOUT, "x"), None, (Disconnect.NETWORK, 1006, False)),
        (ssl_error("BAD_RECORD_MAC"), None, (Disconnect.NETWORK, 1006, False)),
    ],
)
def test_ends_without_a_close_frame(
    error: BaseException, cause: BaseException | None, expected: tuple[Disconnect, int, bool]
) -> None:
    """A peer that breaks the protocol, and a network that ends it; a message above the limit is marked, because the cursor depends on it."""
    ending = disconnect(error, cause)
    assert expected == (ending.reason, ending.code, ending.oversized)


def test_the_network_says_what_it_knows() -> None:
    """A reset is told from a plain end, by the transport's own report."""
    reset = disconnect(EofStream(), aiohttp.ClientOSError(errno.ECONNRESET, "x"))
    assert "connection lost: connection reset by peer (ECONNRESET)" == reset.detail
    assert "the connection ended without a close frame" == disconnect(EofStream(), aiohttp.ServerDisconnectedError()).detail


def test_a_peers_words_fit_one_line_of_a_log() -> None:
    """Control characters, line breaks and length are taken out of whatever a peer says; so are URL queries."""
    assert "a b c" == printable("a\r\n\tb\x00\x1b c")
    assert MAX_TEXT == len(printable("x" * 10_000))
    assert printable("x" * 10_000).endswith("…")
    assert "see wss://cast.example/v1/ws?… now" == printable(f"see {SECRET_URL} now")
    assert "what? yes" == printable("what? yes")


@given(st.text())
def test_printable_is_total(text: str) -> None:
    """One bounded line, always."""
    line = printable(text)
    assert len(line) <= MAX_TEXT
    assert all(letter.isprintable() for letter in line)


@pytest.mark.parametrize("secret", [TOKEN, "a+b/c=d&e f", "ünïcode-töken"])
def test_scrub_removes_each_form_of_the_secret(secret: str) -> None:
    """As it is, and as any kind of URL encoding writes it."""
    text = f"{secret} {quote(secret)} {quote(secret, safe='')} {quote_plus(secret)} {urlencode({'token': secret})}"
    assert "… … … … token=…" == scrub(text, secret)
    assert "nothing to hide" == scrub("nothing to hide", None)


def test_wrapped_errors_do_not_carry_the_text_of_what_they_wrap() -> None:
    """An Interrupted that escaped would still show no URL."""
    assert TOKEN not in str(Interrupted(aiohttp.InvalidURL(SECRET_URL)))
    assert TOKEN not in repr(Interrupted(aiohttp.InvalidURL(SECRET_URL)))


def test_an_ending_is_what_session_closed_takes() -> None:
    """The fields are the arguments, in their order."""
    assert ("reason", "code", "detail", "oversized") == Ending.__struct_fields__
    assert ("reason", "detail", "retry_after_s") == Failed.__struct_fields__


def test_a_certificate_error_without_oserror() -> None:
    """aiohttp may wrap a plain ValueError as a certificate error; that is still TLS."""
    error = aiohttp.ClientConnectorCertificateError(cast(Any, SimpleNamespace(host="h", port=1, is_ssl=True)), ValueError("x"))
    assert AttemptFailure.TLS is attempt_failure(error, WALL_S).reason

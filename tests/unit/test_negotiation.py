"""Whatever a scraper asks for, it gets metrics in a format that it said it reads, and a Content-Type that says which."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncwatch.exposition.metrics import build_registry
from syncwatch.exposition.negotiation import OPENMETRICS, TEXT, Format, accepts_gzip, choose, render
from tests.unit.snapshots import snapshot

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3_5 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
OPEN_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

REGISTRY = build_registry(snapshot)

CASES = {
    # what real scrapers send
    "prometheus 2.42": (PROMETHEUS_2_42, OPENMETRICS),
    "prometheus 3.5": (PROMETHEUS_3_5, OPENMETRICS),
    "text alone": ("text/plain;version=0.0.4;q=1,*/*;q=0.1", TEXT),
    "browser": (BROWSER, TEXT),
    "curl": ("*/*", TEXT),
    "no header": (None, TEXT),
    "empty header": ("", TEXT),
    # q-values
    "text preferred": ("application/openmetrics-text;version=1.0.0;q=0.2, text/plain;version=0.0.4;q=0.9", TEXT),
    "open refused": ("application/openmetrics-text;version=1.0.0;q=0, text/plain", TEXT),
    "text refused, open not": ("text/plain;q=0, application/openmetrics-text;q=0.001", OPENMETRICS),
    "a range for one, a wildcard for all": ("*/*, application/openmetrics-text;q=0.5", TEXT),
    "the exact range counts, not the wildcard": ("*/*;q=0.9, text/plain;q=0.1", OPENMETRICS),
    "the exact range counts, even at 0": ("text/*, text/plain;q=0, */*;q=0.1", OPENMETRICS),
    "open refused alone": ("application/openmetrics-text;q=0", TEXT),
    "q above 1 is 1": ("application/openmetrics-text;q=1, text/plain;q=7", OPENMETRICS),
    # ties
    "tie, open first": ("application/openmetrics-text, text/plain", OPENMETRICS),
    "tie, text first": ("text/plain, application/openmetrics-text", TEXT),
    "named before wildcard": ("*/*, application/openmetrics-text;version=1.0.0", OPENMETRICS),
    "group before wildcard": ("*/*, application/*", OPENMETRICS),
    # versions
    "no version": ("application/openmetrics-text", OPENMETRICS),
    "open of the future": ("application/openmetrics-text;version=2.0.0", TEXT),
    "open of the future, else 1.0.0": (
        "application/openmetrics-text;version=2.0.0,application/openmetrics-text;version=1.0.0;q=0.5",
        OPENMETRICS,
    ),
    "open of the past": ("application/openmetrics-text;version=0.0.1", TEXT),
    "open of the future, else text": ("application/openmetrics-text;version=9, text/plain;q=0.1", TEXT),
    "version that is no number": ("application/openmetrics-text;version=banana", TEXT),
    "text of the future": ("text/plain;version=1.0.0;escaping=allow-utf-8", TEXT),
    "quoted version": ('application/openmetrics-text; version="1.0.0"', OPENMETRICS),
    "other parameters": ("application/openmetrics-text;charset=utf-8;escaping=dots;version=1.0.0", OPENMETRICS),
    # spelling
    "capitals": ("Application/OpenMetrics-Text; Version=1.0.0; Q=0.9, Text/Plain;q=0.1", OPENMETRICS),
    "blanks": ("  application/openmetrics-text ; version = 1.0.0 ; q = 0.9 , text/plain ; q=0.1", OPENMETRICS),
    # nothing that we have
    "protobuf alone": (
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        TEXT,
    ),
    "json alone": ("application/json", TEXT),
    "everything refused": ("*/*;q=0", TEXT),
    # garbage
    "bad q": ("application/openmetrics-text;q=banana, text/plain;q=0.1", TEXT),
    "negative q": ("application/openmetrics-text;q=-1, text/plain;q=0.1", TEXT),
    "q is nan": ("application/openmetrics-text;q=nan", TEXT),
    "q is a dot": ("application/openmetrics-text;q=.", TEXT),
    "q with foreign digits": ("application/openmetrics-text;q=١", TEXT),
    "q without value": ("application/openmetrics-text;q=, */*;q=0.1", TEXT),
    "separators alone": (",;=;,,;;q=;version,=", TEXT),
    "one word": ("banana", TEXT),
    "undecodable bytes": ("\udcff\udc80;q=\udcff,application/openmetrics-text;q=0.3", OPENMETRICS),
    "garbage beside a good range": ("////;;;, application/openmetrics-text;version=1.0.0", OPENMETRICS),
}


@pytest.mark.parametrize(("accept", "expected"), CASES.values(), ids=CASES)
def test_choice(accept: str | None, expected: Format) -> None:
    """Each Accept header leads to the format that it asks for, or to text."""
    assert expected is choose(accept)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=',;=*/"q.01 versionapplicationopenmetrics-textplain\\\x00\udc80', max_size=120) | st.text())
def test_no_header_is_an_error(header: str) -> None:
    """Any header at all is answered with one of the two formats, and gzip is yes or no."""
    assert choose(header) in (TEXT, OPENMETRICS)
    assert accepts_gzip(header) in (True, False)


ENCODINGS = {
    "none": (None, False),
    "empty": ("", False),
    "gzip": ("gzip", True),
    "prometheus": ("gzip", True),
    "browser": ("gzip, deflate, br, zstd", True),
    "deflate first": ("deflate, gzip", True),
    "capitals": ("GZip;Q=1.0", True),
    "old name": ("x-gzip", True),
    "refused": ("gzip;q=0", False),
    "refused in full": ("gzip;q=0.000, identity", False),
    "anything": ("*", True),
    "anything but gzip": ("*, gzip;q=0", False),
    "nothing else than it is": ("identity", False),
    "rather as it is": ("gzip;q=0.5, identity;q=0.9", False),
    "either": ("identity, gzip", True),
    "gzip rather": ("gzip;q=0.9, identity;q=0.5", True),
    "others alone": ("br, deflate", False),
    "part of a word": ("gzipped", False),
    "garbage": (";;,=,q=1", False),
    "bad q": ("gzip;q=much", False),
}


@pytest.mark.parametrize(("accept_encoding", "expected"), ENCODINGS.values(), ids=ENCODINGS)
def test_gzip(accept_encoding: str | None, expected: bool) -> None:
    """gzip when it is offered and not less wanted than nothing; never another encoding."""
    assert expected is accepts_gzip(accept_encoding)


@pytest.mark.parametrize(
    ("accept", "content_type"), [(PROMETHEUS_3_5, OPEN_TYPE), (PROMETHEUS_2_42, OPEN_TYPE), (None, TEXT_TYPE)]
)
def test_content_type_is_exact(accept: str | None, content_type: str) -> None:
    """The Content-Type names format and version, without parameters of the request repeated back."""
    _, headers = render(REGISTRY, accept)
    assert {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"} == headers


def test_body_is_of_the_promised_format() -> None:
    """OpenMetrics ends with its EOF and declares counters without `_total`; text does neither."""
    open_body, _ = render(REGISTRY, PROMETHEUS_2_42)
    text_body, _ = render(REGISTRY)
    assert open_body.endswith(b"# EOF\n")
    assert b"# TYPE syncwatch_frames_sent counter\n" in open_body
    assert b"# EOF" not in text_body
    assert b"# TYPE syncwatch_frames_sent_total counter\n" in text_body


@pytest.mark.parametrize("accept", [None, PROMETHEUS_2_42])
def test_gzip_is_the_same_body_packed(accept: str | None) -> None:
    """Packed and unpacked say the same; the header says that it is packed; it is worth it."""
    body, _ = render(REGISTRY, accept, names=["syncwatch_connection_attempts_total"])
    packed, headers = render(REGISTRY, accept, "gzip", ["syncwatch_connection_attempts_total"])
    assert body == gzip.decompress(packed)
    assert "gzip" == headers["Content-Encoding"]
    assert "Accept, Accept-Encoding" == headers["Vary"]
    assert len(render(REGISTRY, accept, "gzip")[0]) < len(render(REGISTRY, accept)[0]) / 4


def lines(*names: str, accept: str | None = None) -> list[str]:
    """A filtered scrape's lines without comments."""
    body, _ = render(REGISTRY, accept, names=names)
    return [line for line in body.decode().splitlines() if not line.startswith("#")]


def test_names_leave_only_what_they_name() -> None:
    """`name[]` takes exported names, of metrics or of single samples, and OpenMetrics' family names."""
    assert ['syncwatch_connection_attempts_total{connection="cast"} 6.0'] == lines(
        "syncwatch_connection_attempts_total"
    )
    assert ['syncwatch_connection_attempts_total{connection="cast"} 6.0'] == lines("syncwatch_connection_attempts")
    assert ['syncwatch_heartbeat_rtt_seconds_count{connection="cast"} 264.0'] == lines(
        "syncwatch_heartbeat_rtt_seconds_count"
    )
    assert 16 == len(lines("syncwatch_heartbeat_rtt_seconds"))
    assert 1 == len(lines("process_open_fds"))
    both = lines("syncwatch_build_info", "syncwatch_connection_up")
    assert ["syncwatch_connection_up", "syncwatch_build_info"] == [line.partition("{")[0] for line in both]


def test_unknown_names_leave_nothing() -> None:
    """A name that does not exist is no error: the answer is empty, and still a complete OpenMetrics text."""
    assert (b"", b"# EOF\n") == (
        render(REGISTRY, names=["nonsense"])[0],
        render(REGISTRY, PROMETHEUS_2_42, names=["nonsense"])[0],
    )


def test_filtered_metrics_keep_their_unit() -> None:
    """A filter takes metrics away and changes nothing in those that stay."""
    body, _ = render(REGISTRY, PROMETHEUS_2_42, names=["syncwatch_last_frame_age_seconds"])
    assert b"# UNIT syncwatch_last_frame_age_seconds seconds\n" in body

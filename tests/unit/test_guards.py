"""Who may ask: hosts, origins and tokens, one by one. The same over real requests: tests/integration/test_exposition_http.py."""

from __future__ import annotations

import pytest

from syncwatch.exposition.guards import bearer_matches, host_allowed, origin_allowed

BOUND = frozenset({"10.1.2.3:10120"})


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:10120", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:10120", "10.1.2.3:10120"],
)
def test_own_names_are_allowed(host: str) -> None:
    """Loopback names with any port, because a forwarded port is another one, and the bound address itself."""
    assert host_allowed(host, BOUND)


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "evil.example:10120", "localhost.evil.example", "127.0.0.1.evil.example:10120"),
        *("localhost:x", "localhost:80:80", "[::1", "[::1]x", "::1", "127.0.0.2", "10.1.2.3", "10.1.2.3:10121"),
        *("localhost@evil.example", "localhost/", "localhost ", "[::2]:10120", "127.1"),
    ],
)
def test_foreign_names_are_not(host: str) -> None:
    """Above all names that an attacker can let point at 127.0.0.1."""
    assert not host_allowed(host, BOUND)


def test_bound_to_everything_any_address_is_own_but_no_name() -> None:
    """Rebinding needs a name; a pod is asked by its address."""
    for everywhere in ("0.0.0.0:10120", "[::]:10120"):
        hosts = frozenset({everywhere})
        assert host_allowed("10.244.0.7:10120", hosts)
        assert host_allowed("[fd00::7]:10120", hosts)
        assert not host_allowed("evil.example:10120", hosts)
        assert not host_allowed("10.244.0.7.evil.example:10120", hosts)


def test_an_origin_is_own_only_if_it_is_this_very_host() -> None:
    """Another port on the same machine is another origin, and so is `null`."""
    host = "127.0.0.1:10120"
    assert origin_allowed("http://127.0.0.1:10120", host)
    assert origin_allowed("https://LOCALHOST:10120", "localhost:10120")
    for foreign in (
        "null",
        "",
        "http://127.0.0.1:3000",
        "http://localhost:10120",
        "https://evil.example",
        host,
        f"file://{host}",
    ):
        assert not origin_allowed(foreign, host), foreign


def test_a_bearer_token_matches_only_itself() -> None:
    """The scheme in any case; everything else exactly, whatever bytes were sent."""
    assert bearer_matches("Bearer s3cret", "s3cret")
    assert bearer_matches("bearer  s3cret ", "s3cret")
    longer_or_shorter = ("Bearer s3cre", "Bearer s3cret2", "Bearer S3CRET", "Bearer \udcff")
    for wrong in ("", "Bearer", "Bearer ", "s3cret", "Basic s3cret", *longer_or_shorter):
        assert not bearer_matches(wrong, "s3cret"), wrong

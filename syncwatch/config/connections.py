"""The blocks that describe connections, with their defaults and what must hold between their values.

Units: attributes ending in `_s` are seconds, in `_bytes` bytes. URLs are http or https, whatever was written; those of TPS branches ws, wss
or tcp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import field

from syncwatch.config import endpoints, values
from syncwatch.config.rules import (
    AnyPath,
    BaseUrl,
    Block,
    BranchUrl,
    Channel,
    Count,
    DirectoryPath,
    FilePath,
    Name,
    Rule,
    Seconds,
    SecondsOrZero,
    SeedPath,
    Text,
    TokenPath,
    Variants,
    Written,
)
from syncwatch.core.paths import path_matches

Faults = Iterator[tuple[str, str]]

SHORTEST_CANARY_S = 30.0
"""A canary is a write that others may see and pay for."""

SHORTEST_QUESTION_S = 0.1
"""More pings or tip checks than this would be a load of their own."""


class Tls(Block, frozen=True, kw_only=True):
    """How the server's certificate is checked, and which one is shown to it."""

    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    server_name: Text | None = None
    insecure_skip_verify: bool = False

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """A certificate and its key come together."""
        for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
            if got.get(key) is not None and got.get(other, ...) is None:
                yield key, f"needs {other} beside it"


Often = Annotated[
    float, Rule("a duration such as 15s", values.duration_between(SHORTEST_QUESTION_S, or_more=True), written=Written.ANY)
]


class Heartbeat(Block, frozen=True, kw_only=True):
    """Our pings."""

    interval_s: Often = field(default=15.0, name="interval")
    timeout_s: Seconds = field(default=10.0, name="timeout")


class Reconnect(Block, frozen=True, kw_only=True):
    """How long to wait between attempts, and when to slow down."""

    min_s: Seconds = field(default=0.25, name="min")
    max_s: Seconds = field(default=30.0, name="max")
    jitter: bool = True
    stable_after_s: SecondsOrZero = field(default=30.0, name="stable_after")
    breaker: Count = 30
    breaker_retry_s: Seconds = field(default=60.0, name="breaker_retry")

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """The shortest wait is not above the longest."""
        yield from not_above(got, "min", "max")


class Resync(Block, frozen=True, kw_only=True):
    """Asking for what was missed."""

    ack_timeout_s: Seconds = field(default=10.0, name="ack_timeout")
    hole_grace_s: SecondsOrZero = field(default=2.0, name="hole_grace")
    max_jump: Count = 100_000
    resume_max_age_s: SecondsOrZero = field(default=3600.0, name="resume_max_age")
    spread_s: SecondsOrZero = field(default=5.0, name="spread")


class Verify(Block, frozen=True, kw_only=True):
    """The tip check: asking the server for its newest number."""

    interval_s: Often = field(default=60.0, name="interval")
    grace_s: SecondsOrZero = field(default=2.0, name="grace")


class _Canary(Block, frozen=True, kw_only=True):
    enabled: bool = False
    interval_s: Annotated[
        float,
        Rule("a duration such as 60s", values.duration_between(SHORTEST_CANARY_S, or_more=True), written=Written.ANY),
    ] = field(default=60.0, name="interval")
    timeout_s: Seconds = field(default=20.0, name="timeout")


class RelaycastCanary(_Canary, frozen=True, kw_only=True):
    """A message of our own through the server and back. Acts: it posts."""

    channel: Channel = "syncwatch"
    token_file: TokenPath | None = None


class RelayfileCanary(_Canary, frozen=True, kw_only=True):
    """A file of our own through the server and back. Acts: it writes."""

    path: Annotated[str, Rule("a path in the workspace", values.absolute)] = "/.syncwatch/canary.json"


class Polling(Block, frozen=True, kw_only=True):
    """Carrying on over the HTTP feed while no WebSocket can be had."""

    after_failures: Count = 3
    interval_s: Often = field(default=5.0, name="interval")
    reprobe_min_s: Seconds = field(default=5.0, name="reprobe_min")
    reprobe_max_s: Seconds = field(default=300.0, name="reprobe_max")

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """The shortest wait is not above the longest."""
        yield from not_above(got, "reprobe_min", "reprobe_max")


class Audit(Block, frozen=True, kw_only=True):
    """Comparing the HTTP feed with what arrived live."""

    enabled: bool = True
    interval_s: Often = field(default=60.0, name="interval")


class _Connection(Block, frozen=True, kw_only=True):
    name: Name


class _Dialled(_Connection, frozen=True, kw_only=True):
    url: BaseUrl
    connect_timeout_s: Seconds = field(default=10.0, name="connect_timeout")
    max_frame_bytes: Annotated[
        int, Rule("a size such as 16MiB", values.size_of_at_least(1024), written=Written.ANY)
    ] = field(default=16 * 2**20, name="max_frame")
    tls: Tls = Tls()
    proxy: Annotated[str, Rule("a URL such as http://proxy:3128", endpoints.proxy_url)] | None = None
    heartbeat: Heartbeat = Heartbeat()
    reconnect: Reconnect = Reconnect()
    stale_after_s: Seconds | None = field(default=None, name="stale_after")


class RelaycastConnection(_Dialled, frozen=True, kw_only=True):
    """An agent's or observer's stream of a Relaycast server."""

    protocol: Literal["relaycast"]
    dialect: Literal["ring", "observer", "node"] = "ring"
    token_file: TokenPath
    subscribe: tuple[Channel, ...] = ("general",)
    resync: Resync = Resync()
    verify: Verify = Verify()
    canary: RelaycastCanary = RelaycastCanary()

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """An observer's token can only read."""
        canary = got.get("canary")
        if got.get("dialect") == "observer" and isinstance(canary, RelaycastCanary) and canary.enabled and canary.token_file is None:
            yield "canary", "needs a token_file of its own: an observer's token may not write"


class RelayfileConnection(_Dialled, frozen=True, kw_only=True):
    """A workspace's stream of a Relayfile server."""

    protocol: Literal["relayfile"]
    workspace: Annotated[str, Rule("a workspace's identifier", values.workspace, before=endpoints.with_variables)]
    paths: tuple[Annotated[str, Rule("a path in the workspace", values.absolute)], ...] = ()
    token_file: TokenPath
    resync: Resync = Resync()
    verify: Verify = Verify()
    polling: Polling = Polling()
    audit: Audit = Audit()
    canary: RelayfileCanary = RelayfileCanary()

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """Filters can match, and a canary comes back through them."""
        canary, paths = got.get("canary"), got.get("paths")
        for path in paths or ():
            if "**" in path.strip("/").split("/")[:-1]:
                yield "paths", f"{path} matches nothing: ** stands for the rest of a path, so it can only be the last segment"
        if isinstance(canary, RelayfileCanary) and canary.enabled and paths and not path_matches(paths, canary.path):
            yield "canary", f"path {canary.path} is outside paths: it would never be seen"


Branch = Annotated[str, Rule("a branch's name", values.branch)]


class HostHeartbeat(Block, frozen=True, kw_only=True):
    """The heartbeats of the host that is read about: how often it sends them, and how long an answer may take."""

    interval_s: Often = field(default=30.0, name="interval")
    timeout_s: Seconds = field(default=10.0, name="timeout")


class TpsPassiveConnection(_Connection, frozen=True, kw_only=True):
    """A host's connection to a branch, as its own state files tell of it. Reads only."""

    protocol: Literal["tps"]
    mode: Literal["passive"] = "passive"
    state_path: AnyPath
    branch: Branch
    services_file: AnyPath | None = None
    heartbeat: HostHeartbeat = HostHeartbeat()
    stale_after_s: Seconds | None = field(default=None, name="stale_after")

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """The name of the other side's own file is no branch's."""
        if got.get("branch") == BRANCH_SIDE:
            yield "branch", f"{BRANCH_SIDE}.json is the file of a branch about its host; a host keeps none for a branch of that name"


class TpsHostConnection(_Dialled, frozen=True, kw_only=True):
    """A branch of our own, connected to as its host. Acts: the branch's mail comes here."""

    protocol: Literal["tps"]
    mode: Literal["host"]
    url: BranchUrl
    branch: Branch
    dedicated: bool = False
    identity_file: SeedPath
    peer_key: Annotated[str, Rule("a public key", values.public_key)]
    mail_dir: DirectoryPath

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """A branch has one host: it must be ours alone. Over TCP there is neither TLS nor a proxy."""
        if str(got.get("url")).startswith("tcp:"):
            if got.get("tls", Tls()) != Tls():
                yield "tls", "over tcp:// there is no TLS: the connection is encrypted with peer_key as it is"
            if got.get("proxy") is not None:
                yield "proxy", "over tcp:// there is no proxy"
        if got.get("dedicated") is False:
            yield (
                "dedicated",
                "mode host takes the branch over from any other host; write true if it belongs to syncwatch alone",
            )


BRANCH_SIDE = "host"

TpsConnection = TpsPassiveConnection | TpsHostConnection

Connection = Annotated[
    RelaycastConnection | RelayfileConnection | TpsPassiveConnection | TpsHostConnection,
    Variants(
        "protocol",
        {
            "relaycast": RelaycastConnection,
            "relayfile": RelayfileConnection,
            "tps": Variants("mode", {"passive": TpsPassiveConnection, "host": TpsHostConnection}, default="passive"),
        },
        later=("jsonfeed",),
    ),
]


def not_above(got: Mapping[str, Any], low: str, high: str) -> Faults:
    """A fault when the duration at key `low` is longer than the one at `high`."""
    low_s, high_s = got.get(f"{low}_s"), got.get(f"{high}_s")
    if low_s is not None and high_s is not None and low_s > high_s:
        yield low, f"{values.duration_text(low_s)} is longer than {high}, {values.duration_text(high_s)}"

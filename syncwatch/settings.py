"""From the configuration to each room's own settings: pure conversions, so that no room ever sees the whole configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from syncwatch.config import (
    Config,
    Hook,
    Mirror,
    RelaycastConnection,
    RelayfileConnection,
    Service,
    TpsHostConnection,
    TpsPassiveConnection,
    Watcher,
)
from syncwatch.config.connections import Audit, Polling, Resync, Verify
from syncwatch.config.values import compiled
from syncwatch.core.backoff import Backoff
from syncwatch.core.canary import Canary
from syncwatch.core.effects import Notice
from syncwatch.core.health import Reason
from syncwatch.core.monitor import HealthSettings
from syncwatch.core.session import SessionSettings
from syncwatch.runtime.dialing import Endpoint
from syncwatch.runtime.tls import TlsSettings

if TYPE_CHECKING:
    from syncwatch.core.hook import HookSettings
    from syncwatch.core.mirror import MirrorSettings
    from syncwatch.core.reported import ReportedSettings
    from syncwatch.core.service import ServiceSettings
    from syncwatch.core.watch import WatchSettings
    from syncwatch.protocols.relaycast import Relaycast
    from syncwatch.protocols.relayfile import Relayfile
    from syncwatch.protocols.tps.codec import Tps
    from syncwatch.runtime.mirroring import PairSettings


def upstream(url: str) -> str:
    """Scheme, host and port of a URL: what may be shown, without path, user or query."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443, "ws": 80, "wss": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


Runnable = RelaycastConnection | RelayfileConnection | TpsHostConnection
"""The blocks that this version can run as a connection of its own."""


def session_settings(connection: Runnable, incident_hold_s: float) -> SessionSettings:
    """The machine's settings of one connection. Where a block has no say about something, the defaults hold."""
    heartbeat, reconnect = connection.heartbeat, connection.reconnect
    resync = Resync() if isinstance(connection, TpsHostConnection) else connection.resync
    verify = Verify() if isinstance(connection, TpsHostConnection) else connection.verify
    polling = connection.polling if isinstance(connection, RelayfileConnection) else Polling()
    audit = connection.audit if isinstance(connection, RelayfileConnection) else Audit()
    return SessionSettings(
        connect_timeout_s=connection.connect_timeout_s,
        heartbeat_interval_s=heartbeat.interval_s,
        heartbeat_timeout_s=heartbeat.timeout_s,
        backoff=Backoff(reconnect.min_s, reconnect.max_s, reconnect.jitter),
        stable_after_s=reconnect.stable_after_s,
        breaker=reconnect.breaker,
        breaker_retry_s=reconnect.breaker_retry_s,
        ack_timeout_s=resync.ack_timeout_s,
        hole_grace_s=resync.hole_grace_s,
        max_jump=resync.max_jump,
        resume_max_age_s=resync.resume_max_age_s,
        spread_s=resync.spread_s,
        verify_interval_s=verify.interval_s,
        verify_grace_s=verify.grace_s,
        stale_after_s=connection.stale_after_s,
        incident_hold_s=incident_hold_s,
        polling_after=polling.after_failures,
        polling_interval_s=polling.interval_s,
        reprobe_min_s=polling.reprobe_min_s,
        reprobe_max_s=polling.reprobe_max_s,
        audit=audit.enabled,
        audit_interval_s=audit.interval_s,
    )


def protocol(connection: Runnable, seed: bytes | None = None) -> Relaycast | Relayfile | Tps:
    """The codec of one connection; those that no connection uses stay out of memory. `seed` is what a host's identity file holds."""
    if isinstance(connection, TpsHostConnection):
        from syncwatch.protocols.tps.codec import Tps
        from syncwatch.protocols.tps.keys import Identity, key_from_text

        if seed is None:
            raise RuntimeError("a host has an identity")
        return Tps(connection.url, Identity(seed), key_from_text(connection.peer_key), connection.branch)
    if isinstance(connection, RelayfileConnection):
        from syncwatch.protocols.relayfile import Relayfile

        return Relayfile(connection.url, connection.workspace, connection.paths, connection.canary.path)
    from syncwatch.protocols.relaycast import Relaycast

    dialect = Relaycast
    if connection.dialect == "observer":
        from syncwatch.protocols.relaycast_observer import RelaycastObserver

        dialect = RelaycastObserver
    return dialect(
        connection.url,
        connection.subscribe,
        canary_channel=connection.canary.channel,
        canary_token="connection" if connection.canary.token_file is None else "canary",
    )


def token_files(connection: Runnable) -> dict[str, Path]:
    """Where each token that the connection uses is read from, by the name that requests give it."""
    if isinstance(connection, TpsHostConnection):
        return {}
    paths = {"connection": connection.token_file}
    if isinstance(connection, RelaycastConnection) and connection.canary.token_file is not None:
        paths["canary"] = connection.canary.token_file
    return paths


def seed_file(connection: Runnable) -> Path | None:
    """Where the seed of who we are is, for those who are known by a key of their own."""
    return connection.identity_file if isinstance(connection, TpsHostConnection) else None


def mail_dir(connection: Runnable) -> Path | None:
    """Where events are kept that the server sends once."""
    return connection.mail_dir if isinstance(connection, TpsHostConnection) else None


def acts(connection: Runnable) -> tuple[str, dict[str, str]] | None:
    """What the connection does that others notice, if it does: a sentence and its values, said at the start."""
    target = canary_target(connection)
    if target is not None:
        return "a canary is switched on: it writes", {"target": target}
    if isinstance(connection, TpsHostConnection):
        told = {"branch": connection.branch, "mail_dir": str(connection.mail_dir)}
        return "mode host is switched on: it is the host of the branch, whose mail comes here", told
    return None


def canary_target(connection: Runnable) -> str | None:
    """Where the canary writes, if it was switched on."""
    if isinstance(connection, TpsHostConnection) or not connection.canary.enabled:
        return None
    return connection.canary.path if isinstance(connection, RelayfileConnection) else connection.canary.channel


def canary(connection: Runnable, codec: Relaycast | Relayfile | Tps) -> Canary | None:
    """The canary, if it was switched on."""
    if isinstance(connection, TpsHostConnection) or not connection.canary.enabled:
        return None
    return Canary(cast("Relaycast | Relayfile", codec), connection.canary.interval_s, connection.canary.timeout_s)


def endpoint(connection: Runnable) -> Endpoint:
    """How the server is reached."""
    tls = connection.tls
    settings = TlsSettings(tls.ca_file, tls.cert_file, tls.key_file, tls.server_name, tls.insecure_skip_verify)
    return Endpoint(settings, connection.proxy, connection.max_frame_bytes)


def reported_settings(connection: TpsPassiveConnection) -> ReportedSettings:
    """The machine's settings of a connection that another process has."""
    from syncwatch.core.reported import ReportedSettings

    return ReportedSettings(connection.heartbeat.interval_s, connection.heartbeat.timeout_s, connection.stale_after_s)


def hook_settings(hook: Hook) -> HookSettings:
    """The machine's settings of one webhook."""
    from syncwatch.core.hook import HookSettings

    return HookSettings(
        url=hook.url,
        events=frozenset(Notice(event) for event in hook.events),
        timeout_s=hook.timeout_s,
        max_attempts=hook.max_attempts,
        queue=hook.queue,
    )


def service_settings(service: Service) -> ServiceSettings:
    """The machine's settings of one service."""
    from syncwatch.core.service import ServiceSettings

    return ServiceSettings(
        url=service.url,
        interval_s=service.interval_s,
        retry_interval_s=service.retry_interval_s,
        timeout_s=service.timeout_s,
        expect_status=service.expect_status,
        expect_body=None if service.expect_body is None else compiled(service.expect_body),
    )


def watch_settings(watcher: Watcher) -> WatchSettings:
    """The machine's settings of one watcher."""
    from syncwatch.core.watch import WatchSettings

    sentinel = watcher.sentinel
    return WatchSettings(interval_s=None) if sentinel is None else WatchSettings(interval_s=sentinel.interval_s, timeout_s=sentinel.timeout_s)


def mirror_settings(mirror: Mirror) -> MirrorSettings:
    """The machine's settings of one mirror."""
    from syncwatch.core.mirror import MirrorSettings

    return MirrorSettings(
        acts=mirror.mode == "sync",
        debounce_s=mirror.debounce_s,
        healthy_s=mirror.reconcile.healthy_s,
        degraded_s=mirror.reconcile.degraded_s,
        mount=str(mirror.mount),
        project=str(mirror.project),
    )


def pair_settings(mirror: Mirror) -> PairSettings:
    """What the thread that does a mirror's work has to know: the roots and the rules between them."""
    from syncwatch.runtime.mirroring import PairSettings

    return PairSettings(
        name=mirror.name,
        mount=str(mirror.mount),
        project=str(mirror.project),
        acts=mirror.mode == "sync",
        ignore=mirror.ignore,
        read_only=mirror.read_only,
        keep_conflicts=mirror.keep_conflicts,
        hold_s=mirror.reconcile.degraded_s,
    )


def health_settings(config: Config) -> HealthSettings:
    """What fails which probe."""
    health = config.health
    return HealthSettings(
        degraded_after_s=health.degraded_after_s,
        recovered_after_s=health.recovered_after_s,
        wait_for_first_sync=health.ready.wait_for_first_sync,
        ready_fail_on={Reason(reason): grace_s for reason, grace_s in health.ready.fail_on.items()},
        healthz_fail_on={Reason(reason): grace_s for reason, grace_s in health.healthz.fail_on.items()},
        gate_read=frozenset(Reason(reason) for reason in health.gate.read),
        gate_write=frozenset(Reason(reason) for reason in health.gate.write),
    )

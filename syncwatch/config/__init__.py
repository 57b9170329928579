"""The typed, strict configuration: `load` gives a Config or a ConfigError with every mistake, each with its line.

What belongs here: what may be written, what it means, and the sentences about what is wrong. What must not: using any of it.
"""

from syncwatch.config.change import Fates, Plan, plan
from syncwatch.config.connections import (
    Audit,
    Connection,
    Heartbeat,
    Polling,
    Reconnect,
    RelaycastCanary,
    RelaycastConnection,
    RelayfileCanary,
    RelayfileConnection,
    Resync,
    Tls,
    TpsConnection,
    TpsHostConnection,
    TpsPassiveConnection,
    Verify,
)
from syncwatch.config.endpoints import Address
from syncwatch.config.files import awaited_files, unreadable_files
from syncwatch.config.loading import ConfigFile, check, config_path, load, parse, parse_values
from syncwatch.config.mistakes import ConfigError, Mistake
from syncwatch.config.schema import (
    Config,
    Gate,
    Health,
    Healthz,
    Hook,
    Log,
    Mirror,
    Ready,
    Reconcile,
    Sentinel,
    Service,
    Watcher,
)
from syncwatch.config.secret import SecretError, read_secret
from syncwatch.config.support import unsupported
from syncwatch.config.text import read_text
from syncwatch.config.values import duration_s, duration_text, size_bytes, size_text
from syncwatch.core.secret import Secret

__all__ = [
    "Address",
    "Audit",
    "Config",
    "ConfigError",
    "ConfigFile",
    "Connection",
    "Fates",
    "Gate",
    "Health",
    "Healthz",
    "Heartbeat",
    "Hook",
    "Log",
    "Mirror",
    "Mistake",
    "Plan",
    "Polling",
    "Ready",
    "Reconcile",
    "Reconnect",
    "RelaycastCanary",
    "RelaycastConnection",
    "RelayfileCanary",
    "RelayfileConnection",
    "Resync",
    "Secret",
    "SecretError",
    "Sentinel",
    "Service",
    "Tls",
    "TpsConnection",
    "TpsHostConnection",
    "TpsPassiveConnection",
    "Verify",
    "Watcher",
    "awaited_files",
    "check",
    "config_path",
    "duration_s",
    "duration_text",
    "load",
    "parse",
    "parse_values",
    "plan",
    "read_secret",
    "read_text",
    "size_bytes",
    "size_text",
    "unreadable_files",
    "unsupported",
]

"""Where a sidecar that runs with a configuration can be found: the keys that say it, whatever is wrong with the others.

A file that was spoilt while its sidecar runs must not keep anybody from asking that sidecar how it is, nor one that is spoilt at the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from syncwatch.config.decode import decode, keys_of
from syncwatch.config.document import compose
from syncwatch.config.endpoints import Address
from syncwatch.config.loading import overridden
from syncwatch.config.mistakes import ConfigError, in_order
from syncwatch.config.reading import Reading
from syncwatch.config.rules import AnyPath, Block, ListenAddress, OncePath, TokenPath
from syncwatch.config.schema import Config, Log
from syncwatch.config.secret import SecretError, read_secret
from syncwatch.config.text import read_text


class Whereabouts(Block, frozen=True, kw_only=True):
    """The keys of the configuration that say where to ask."""

    local_listen: ListenAddress = Address("127.0.0.1", 10120)
    local_token_file: TokenPath | None = None
    state_dir: AnyPath | None = None

    @property
    def url(self) -> str | None:
        """What to ask on this machine; None when the port is any free one."""
        address = self.local_listen
        if not address.port:
            return None
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # compared, not bound
        return f"http://{Address(loopback, address.port)}"


def whereabouts(path: Path, environ: Mapping[str, str]) -> Whereabouts:
    """Out of a configuration file. Raises: ConfigError, if the file cannot be read, is no YAML, or one of the three keys is wrong."""
    root = compose(read_text(path), str(path))
    if not isinstance(root, yaml.MappingNode):
        return Whereabouts()
    wanted = keys_of(Whereabouts)
    pairs = [(key, value) for key, value in root.value if isinstance(key, yaml.ScalarNode) and key.value in wanted]
    reading = Reading(str(path))
    found = decode(yaml.MappingNode(root.tag, pairs, root.start_mark, root.end_mark), Whereabouts, reading, environ)
    if found is None:
        raise ConfigError(in_order(reading.mistakes))
    return found


TOKEN = "local_token_file"  # noqa: S105  a key's name
UNKNOWN = Path("/dev/null")
"""Where no token will ever be read: which one is wanted cannot be told."""


class Doors(Block, frozen=True, kw_only=True):
    """The keys of the configuration that say how a sidecar can be asked without the rest of it."""

    listen: ListenAddress = Config().listen
    local_listen: ListenAddress = Config().local_listen
    local_token_file: TokenPath | None = None
    probes_listen: ListenAddress | None = None
    web_config: OncePath | None = None
    gate_file: AnyPath | None = None
    log: Log = Log()


def doors(text: str | None, file: str, environ: Mapping[str, str]) -> Doors:
    """Out of what a configuration file said (None: it could not be read) and the environment; each key by itself, so that whatever cannot be read has its default.

    A token that is asked for and cannot be had lets nobody in: where the key itself is what is wrong, it is UNKNOWN. An address that others can reach needs one that can be read,
    so that `local_listen` is the default otherwise.
    """
    try:
        root = None if text is None else compose(text, file)
    except ConfigError:
        root = None
    if not isinstance(root, yaml.MappingNode):
        nowhere = yaml.Mark(file, 0, 0, 0, None, 0)
        root = yaml.MappingNode("tag:yaml.org,2002:map", [], nowhere, nowhere)
    written = overridden(root, environ)
    assert isinstance(written, yaml.MappingNode)
    found: dict[str, Any] = {}
    for key, value in written.value:
        field = keys_of(Doors).get(key.value) if isinstance(key, yaml.ScalarNode) else None
        if field is not None:
            alone = yaml.MappingNode(written.tag, [(key, value)], written.start_mark, written.end_mark)
            said = decode(alone, Doors, Reading(file), environ)
            if said is not None and getattr(said, field.name) is not None:
                found[field.name] = getattr(said, field.name)
            elif said is None and field.name == TOKEN:
                found.setdefault(TOKEN, UNKNOWN)
    if TOKEN not in found and not _told(root) and any(TOKEN in line.partition("#")[0] for line in (text or "").splitlines()):
        found[TOKEN] = UNKNOWN
    if not found.get("local_listen", Doors().local_listen).loopback and not _readable(found.get(TOKEN)):
        del found["local_listen"]
    return Doors(**found)


def _told(root: yaml.MappingNode) -> bool:
    """Whether the token's key stands where it belongs: elsewhere, or in what is no YAML, it was meant to."""
    return any(isinstance(key, yaml.ScalarNode) and key.value == TOKEN for key, _ in root.value)


def _readable(token_file: Path | None) -> bool:
    try:
        return token_file is not None and bool(read_secret(token_file))
    except SecretError:
        return False

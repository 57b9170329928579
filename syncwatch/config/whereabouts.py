"""Where a sidecar that runs with a configuration can be found: the three keys that say it, whatever is wrong with the others.

A file that was spoilt while its sidecar runs must not keep anybody from asking that sidecar how it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from syncwatch.config.decode import decode, keys_of
from syncwatch.config.document import compose
from syncwatch.config.endpoints import Address
from syncwatch.config.loading import read_text
from syncwatch.config.mistakes import ConfigError, in_order
from syncwatch.config.reading import Reading
from syncwatch.config.rules import AnyPath, Block, ListenAddress, TokenPath


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

"""From a file and an environment to a Config, or to every mistake in them.

Law: the environment is an argument. Loading reads the configuration file and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

from syncwatch.config.decode import decode
from syncwatch.config.document import compose, composed, is_null
from syncwatch.config.files import unreadable_files
from syncwatch.config.mistakes import ConfigError, Mistake, in_order
from syncwatch.config.reading import Reading
from syncwatch.config.schema import Config
from syncwatch.config.secret import UnreadableError, read_bytes
from syncwatch.config.support import unsupported

CONFIG_VARIABLE = "SYNCWATCH_CONFIG"
OVERRIDES = {"SYNCWATCH_LISTEN": ("listen",), "SYNCWATCH_LOG_LEVEL": ("log", "level")}
"""Environment variables that win over a key of the file. Empty ones count as not set."""

LARGEST_BYTES = 2**20
"""Of a configuration file: as much as a ConfigMap holds."""


def config_path(given: str | Path | None, environ: Mapping[str, str]) -> Path:
    """The file to load: the one given, or else the one that SYNCWATCH_CONFIG names.

    Raises:
        ConfigError: neither is there.
    """
    chosen = given or environ.get(CONFIG_VARIABLE)
    if not chosen:
        raise ConfigError(
            [Mistake("syncwatch", None, "", f"no configuration: name a file with --config or in {CONFIG_VARIABLE}")]
        )
    return Path(chosen)


def load(path: str | Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration in a file (see `config_path`).

    Raises:
        ConfigError: all mistakes that were found.
    """
    file = config_path(path, environ)
    return parse(read_text(file), str(file), environ)


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        ConfigError: it cannot be read, is too large or is not UTF-8.
    """
    try:
        data = read_bytes(path, LARGEST_BYTES)
        return data.decode("utf-8-sig")
    except UnreadableError as error:
        raise ConfigError([Mistake(_printable(str(path)), None, "", str(error))]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        wrong = f"not UTF-8: the byte 0x{error.object[error.start]:02x} cannot stand here"
        raise ConfigError([Mistake(_printable(str(path)), line, "", wrong)]) from error


def parse(text: str, file: str, environ: Mapping[str, str]) -> Config:
    """The configuration in a text; `file` is the name that mistakes give it.

    Raises:
        ConfigError: all mistakes that were found.
    """
    file = _printable(file)
    root = compose(text, file)
    if root is None or is_null(root):
        raise ConfigError(
            [Mistake(file, None, "", "is empty; name at least one connection, watcher, mirror or service")]
        )
    reading = Reading(file)
    for variable, keys in OVERRIDES.items():
        if environ.get(variable):
            root = _overridden(root, keys, environ[variable], variable)
    config = decode(root, Config, reading, environ)
    if config is None:
        raise ConfigError(in_order(reading.mistakes))
    return msgspec.structs.replace(config, source=reading.source)


def parse_values(values: Mapping[str, object], name: str, environ: Mapping[str, str]) -> Config:
    """The configuration in plain Python values, under the keys of the file; `name` stands in mistakes where a file's name would.

    Raises:
        ConfigError: all mistakes that were found.
    """
    reading = Reading(name)
    config = decode(composed(values, name), Config, reading, environ)
    if config is None:
        raise ConfigError(in_order(reading.mistakes))
    return msgspec.structs.replace(config, source=reading.source)


def check(path: str | Path | None, environ: Mapping[str, str]) -> list[str]:
    """One line for everything that would keep this configuration from running here and now; none when nothing would."""
    try:
        file = ConfigFile(config_path(path, environ), environ)
        file.runnable(file.text())
    except ConfigError as error:
        return str(error).splitlines()
    return []


class ConfigFile(msgspec.Struct, frozen=True):
    """A file to run from, as often as it changes. Everything here asks the file system and so may block."""

    path: Path
    environ: Mapping[str, str]

    def told_once(self) -> bool:
        """Whether it is a pipe or the like: what it said it will not say again."""
        return self.path.is_fifo() or self.path.is_char_device() or self.path.is_socket()

    def text(self) -> str:
        """What it says now. Raises: ConfigError."""
        return read_text(self.path)

    def runnable(self, text: str) -> Config:
        """The configuration in `text`, which is to run here and now: everything in it runs in this version, the files that it names can be read.

        Raises:
            ConfigError: all mistakes that were found.
        """
        config = parse(text, str(self.path), self.environ)
        mistakes = in_order((*unsupported(config), *unreadable_files(config)))
        if mistakes:
            raise ConfigError(mistakes)
        return config


def _overridden(node: yaml.Node, keys: tuple[str, ...], text: str, variable: str) -> yaml.Node:
    """The document as if `text` were written at the key; its mark names the variable. What is no mapping stays for the decoder."""
    mark = yaml.Mark(variable, 0, -1, 0, None, 0)
    if not keys:
        return yaml.ScalarNode("tag:yaml.org,2002:str", text, mark, mark)
    if not isinstance(node, yaml.MappingNode):
        return node
    key, below = yaml.ScalarNode("tag:yaml.org,2002:str", keys[0], mark, mark), keys[1:]
    empty = yaml.MappingNode("tag:yaml.org,2002:map", [], mark, mark)
    present = any(k.value == key.value for k, _ in node.value)
    pairs = [*node.value] if present else [*node.value, (key, empty)]
    replaced = [(k, _overridden(v, below, text, variable) if k.value == key.value else v) for k, v in pairs]
    return yaml.MappingNode(node.tag, replaced, node.start_mark, node.end_mark)


def _printable(file: str) -> str:
    """A file name as it can be printed on one line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in file)

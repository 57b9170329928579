"""From a file and an environment to a Config, or to every mistake in them.

Law: the environment is an argument. Loading reads the configuration file and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import yaml

from syncwatch.config.decode import decode
from syncwatch.config.document import compose, composed, is_null
from syncwatch.config.files import awaited_files, read_again, unreadable_files
from syncwatch.config.mistakes import ConfigError, Mistake, in_order
from syncwatch.config.reading import Reading
from syncwatch.config.schema import Config
from syncwatch.config.support import unsupported
from syncwatch.config.text import printable, read_text

CONFIG_VARIABLE = "SYNCWATCH_CONFIG"
OVERRIDES = {"SYNCWATCH_LISTEN": ("listen",), "SYNCWATCH_LOG_LEVEL": ("log", "level")}
"""Environment variables that win over a key of the file. Empty ones count as not set."""


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


def parse(text: str, file: str, environ: Mapping[str, str]) -> Config:
    """The configuration in a text; `file` is the name that mistakes give it.

    Raises:
        ConfigError: all mistakes that were found.
    """
    file = printable(file)
    root = compose(text, file)
    if root is None or is_null(root):
        raise ConfigError(
            [Mistake(file, None, "", "is empty; name at least one connection, watcher, mirror or service")]
        )
    reading = Reading(file)
    config = decode(overridden(root, environ), Config, reading, environ)
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


class Checked(NamedTuple):
    """A line for everything that keeps a configuration from starting here and now, and one for each file that is in the way of what uses it, while all else runs."""

    mistakes: list[str]
    awaited: list[str]


def check(path: str | Path | None, environ: Mapping[str, str]) -> Checked:
    """How a start with this configuration would go."""
    try:
        file = ConfigFile(config_path(path, environ), environ)
        config = file.startable(file.text())
        awaited = [*awaited_files(config), *_web_mistakes(config, dates=True)]
    except ConfigError as error:
        return Checked(str(error).splitlines(), [])
    return Checked([], [str(one) for one in awaited])


class ConfigFile(msgspec.Struct, frozen=True):
    """A file to run from, as often as it changes. Everything here asks the file system and so may block."""

    path: Path
    environ: Mapping[str, str]

    def told_once(self) -> bool:
        """Whether it is a pipe or the like: what it said it will not say again."""
        try:
            return self.path.is_fifo() or self.path.is_char_device() or self.path.is_socket()
        except OSError:  # nobody may look there
            return False

    def text(self) -> str:
        """What it says now. Raises: ConfigError."""
        return read_text(self.path)

    def startable(self, text: str) -> Config:
        """The configuration in `text`, to start with: everything in it runs in this version, and the files that are read once can be read.

        A file that is read again at each use may come later, as it may vanish later (`awaited_files`).

        Raises:
            ConfigError: all mistakes that were found.
        """
        config = parse(text, str(self.path), self.environ)
        self._refuse(config, read_again(config), _web_mistakes)
        return config

    def runnable(self, text: str, running: Config) -> Config:
        """The configuration in `text`, to take the place of `running`: the files that it names can be read as well, or what runs names and misses them too.

        What the file of `web_config` says is no matter of a reload: it is looked at by itself, and its path cannot change.

        Raises:
            ConfigError: all mistakes that were found.
        """
        config = parse(text, str(self.path), self.environ)
        self._refuse(config, read_again(running))
        return config

    @staticmethod
    def _refuse(config: Config, but: frozenset[Path], more: Callable[[Config], list[Mistake]] = lambda _: []) -> None:
        mistakes = in_order((*unsupported(config), *unreadable_files(config, but)))
        if all(mistake.path != "web_config" for mistake in mistakes):
            mistakes += more(config)
        if mistakes:
            raise ConfigError(mistakes)


def overridden(root: yaml.Node, environ: Mapping[str, str]) -> yaml.Node:
    """The document as if what the environment says were written in it."""
    for variable, keys in OVERRIDES.items():
        if environ.get(variable):
            root = _overridden(root, keys, environ[variable], variable)
    return root


def _web_mistakes(config: Config, *, dates: bool = False) -> list[Mistake]:
    """Those in the file that `web_config` names, with their lines there."""
    if config.web_config is None:
        return []
    from syncwatch.config import webconfig  # who has no such file does not load what reads it

    return webconfig.mistakes(config.web_config, dates=dates)


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

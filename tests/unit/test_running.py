"""What a sidecar brings into memory: nothing that only commands need, in fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from syncwatch import running
from syncwatch.__main__ import main
sys.argv = ["syncwatch", *sys.argv[1:]]
running.sidecar = lambda path, wait=False: print(path, wait, "click" in sys.modules, "syncwatch.cli" in sys.modules)
try:
    main()
except SystemExit as end:
    sys.exit(end.code)
"""


def ran(*arguments: str) -> tuple[int, str]:
    """Exit code and standard output of the program with a sidecar that only says what it was given."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout.strip()


def test_a_sidecar_needs_no_commands() -> None:
    """The usual spellings go past them; every other one means the same."""
    assert (0, "None False False False") == ran("run")
    assert (0, "a.yaml False False False") == ran("run", "--config", "a.yaml")
    assert (0, "a.yaml False True True") == ran("run", "--config=a.yaml")
    assert (0, "None True False False") == ran("run", "--wait-for-config")
    assert (0, "a.yaml True False False") == ran("run", "--config", "a.yaml", "--wait-for-config")
    assert (0, "a.yaml True False False") == ran("run", "--wait-for-config", "--config", "a.yaml")
    assert (0, "a.yaml True True True") == ran("run", "--wait-for-config", "--config=a.yaml")


def test_modules_that_would_stay() -> None:
    """Imported for nothing, each by something that is needed."""
    program = """
import sys
from syncwatch.running import sparing_aiohttp
from syncwatch import config, logs
with sparing_aiohttp():
    import syncwatch.app
print(sorted({"aiohttp.web", "argparse", "click", "difflib", "gettext", "multiprocessing", "syncwatch.relay", "sqlite3", "syncwatch.exposition.terminal", "syncwatch.parts.host", "syncwatch.core.reported", "syncwatch.waiting", "syncwatch.config.whereabouts", "bcrypt", "syncwatch.config.webconfig", "syncwatch.parts.web", "syncwatch.exposition.credentials"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "[]" == done.stdout.strip()


def test_no_cryptography_without_a_host() -> None:
    """Who is no TPS host does not load what only hosts need; the codec of one does."""
    program = """
import random, sys, yaml
from syncwatch.config import parse
from syncwatch.running import sparing_aiohttp
with sparing_aiohttp():
    import syncwatch.app
    from syncwatch import settings
from syncwatch.core.session import Session
cast = {"name": "cast", "protocol": "relaycast", "url": "http://h", "token_file": "/t"}
files = {"name": "files", "protocol": "relayfile", "url": "http://h", "workspace": "w", "token_file": "/t"}
host = {"name": "b", "protocol": "tps", "mode": "host", "dedicated": True, "url": "ws://127.0.0.1:1", "branch": "b", "identity_file": "/i", "peer_key": "A" * 43, "mail_dir": "/m"}
def loaded():
    return sorted({name.partition(".")[0] if name.startswith("cryptography") else name for name in sys.modules if name.startswith(("cryptography", "syncwatch.protocols.tps", "syncwatch.runtime.tcp", "syncwatch.runtime.seedfile", "syncwatch.runtime.filestore", "syncwatch.joining", "syncwatch.core.keeping", "syncwatch.core.rivals", "syncwatch.core.unnumbered", "syncwatch.core.watch", "syncwatch.runtime.watcher", "syncwatch.runtime.inotify", "syncwatch.runtime.polling", "syncwatch.runtime.sentinel", "syncwatch.core.mirror", "syncwatch.core.ignores", "syncwatch.runtime.mirror", "syncwatch.runtime.files", "syncwatch.runtime.mounts", "syncwatch.runtime.renaming", "syncwatch.parts.mirror", "syncwatch.parts.watcher", "pathspec"))})
for block in (cast, files):
    (connection,) = parse(yaml.safe_dump({"connections": [block]}), "f", {}).connections
    Session("s", settings.protocol(connection), settings.session_settings(connection, 1.0), random.Random())
print(loaded())
(connection,) = parse(yaml.safe_dump({"connections": [host]}), "f", {}).connections
settings.protocol(connection, bytes(32))
print("cryptography" in loaded())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ["[]", "True"] == done.stdout.splitlines()


def test_everything_else_is_a_command() -> None:
    """Help, mistakes, other commands."""
    assert ran("run", "--help")[1].startswith("Usage: syncwatch run [OPTIONS]")
    assert 2 == ran("run", "--no-such-option")[0]
    assert ran("--version")[1].startswith("syncwatch ")


@pytest.mark.parametrize("file", [None, "/some/where.pem"])
def test_what_aiohttp_is_spared(file: str | None) -> None:
    """No certificate is read and no C++ library loaded for it; the environment is afterwards what it was, and a context of ours has what it should."""
    program = """
import mimetypes, os, ssl
from syncwatch.running import sparing_aiohttp
before = dict(os.environ)
with sparing_aiohttp():
    import syncwatch.app
from aiohttp import connector
print(len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()), "libstdc++" in open("/proc/self/maps").read(), before == dict(os.environ))
print(mimetypes.guess_type("x.html")[0], len(mimetypes.types_map) < 300)
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("SSL_CERT_FILE", "FROZENLIST_NO_EXTENSIONS")}
    if file is not None:
        environment["SSL_CERT_FILE"] = file
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert ["0 False True", "text/html True"] == done.stdout.splitlines()


def test_reading_a_host_needs_no_cryptography() -> None:
    """Its files are not encrypted: mode passive loads what reads them, and nothing of mode host."""
    program = """
import sys
import syncwatch.parts.host
print(sorted({"cryptography", "syncwatch.protocols.tps.noise", "syncwatch.protocols.tps.codec"} & set(sys.modules)), "syncwatch.core.reported" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "[] True" == done.stdout.strip()

"""The commands. Parsing and printing only; what they do is elsewhere, and is imported when it is needed, so that each starts fast."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from syncwatch.version import REVISION, __version__

USAGE = 2
UNREACHABLE = 3
LOCAL = "http://127.0.0.1:10120"

_VERSION = f"syncwatch {__version__}" + (f" ({REVISION})" if REVISION else "") + f", Python {platform.python_version()}"


class Shell(click.Group):
    """Commands in the order in which a newcomer needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they were added."""
        return list(self.commands)


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(message=_VERSION)
def main() -> None:
    """The sidecar that tells the truth about real-time sync."""


def _fail(lines: str) -> None:
    click.echo(lines, err=True)
    raise SystemExit(USAGE)


def _run(work: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop where it is installed; everything also runs on asyncio's own loop."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def _stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


@main.command()
@click.option("--cycles", type=click.IntRange(1), help="End after so many rounds of trouble; without it, go on until Ctrl-C.")
@click.option("--relay-port", default=8787, show_default=True, help="Port of the embedded relay; 0 takes a free one.")
@click.option("--listen", default="127.0.0.1:10119", show_default=True, help="Where /metrics and the probes are served.")
@click.option("--local-listen", default="127.0.0.1:10120", show_default=True, help="Where the status page is served.")
def demo(cycles: int | None, relay_port: int, listen: str, local_listen: str) -> None:
    """An embedded relay, a sidecar that watches it, and a little trouble: nothing to configure."""
    from syncwatch import logs
    from syncwatch.app import AddressInUse
    from syncwatch.demo import Demo

    logs.configure("critical")  # the demo tells the story itself

    async def work() -> int:
        return await Demo(click.echo, cycles, relay_port, listen, local_listen).run(_stop_event())

    try:
        code = _run(work())
    except (AddressInUse, OSError, ValueError) as error:
        _fail(f"syncwatch demo: {error}")
    raise SystemExit(code)


@main.command()
@click.option("--config", "path", type=click.Path(), help="The configuration file; default: SYNCWATCH_CONFIG.")
def run(path: str | None) -> None:
    """The sidecar."""
    from syncwatch import logs
    from syncwatch.config import ConfigError, load, unreadable_files, unsupported

    try:
        config = load(path, os.environ)
    except ConfigError as error:
        _fail(str(error))
    mistakes = [*unsupported(config), *unreadable_files(config)]
    if mistakes:
        _fail("\n".join(str(mistake) for mistake in mistakes))
    logs.configure(config.log.level, config.log.format)

    from syncwatch.app import AddressInUse, App
    from syncwatch.runtime.statefile import StateInUse

    async def work() -> int:
        stop = _stop_event()
        app = App(config)
        await app.start()
        await stop.wait()
        await app.stop()
        return 0

    try:
        code = _run(work())
    except (AddressInUse, StateInUse) as error:
        _fail(f"syncwatch: {error}")
    raise SystemExit(code)


def _ask(url: str, token_file: str | None) -> tuple[int, bytes]:
    """One GET. Raises OSError when nobody answers."""
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    if token_file is not None:
        request.add_header("Authorization", f"Bearer {Path(token_file).read_text().strip()}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def _document(url: str, token_file: str | None) -> tuple[int, dict[str, Any]]:
    """A JSON answer; ends the program with 3 when there is none."""
    if not url.startswith(("http://", "https://")):
        _fail(f"--url: {url!r} is no http or https URL")
    try:
        status, body = _ask(url, token_file)
        document = json.loads(body)
    except (OSError, ValueError) as error:
        click.echo(f"syncwatch: {url} cannot be asked: {getattr(error, 'reason', None) or error}", err=True)
        raise SystemExit(UNREACHABLE) from error
    if not isinstance(document, dict) or status not in (200, 503):
        click.echo(f"syncwatch: {url} answered HTTP {status}", err=True)
        raise SystemExit(UNREACHABLE)
    return status, document


_url = click.option("--url", default=LOCAL, show_default=True, help="The sidecar's local listener.")
_token = click.option("--token-file", type=click.Path(dir_okay=False), help="Bearer token, where the listener wants one.")


@main.command()
@_url
@_token
@click.option("--json", "as_json", is_flag=True, help="The document itself.")
def status(url: str, token_file: str | None, as_json: bool) -> None:
    """How the sync is. Exit code 0 healthy, 1 degraded, 2 down, 3 not reachable."""
    from syncwatch.exposition.status import exit_code, render

    _, document = _document(f"{url.rstrip('/')}/status", token_file)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        click.echo(render(document, colour=colour, width=shutil.get_terminal_size((80, 24)).columns))
    raise SystemExit(exit_code(document))


@main.command()
@_url
@_token
@click.option("--for", "purpose", type=click.Choice(["read", "write"]), default="read", show_default=True)
@click.option("--quiet", "-q", is_flag=True, help="Only the exit code.")
def gate(url: str, token_file: str | None, purpose: str, quiet: bool) -> None:
    """May I trust what I read, may I write? Exit code 0 open, 1 closed, 3 not reachable (which means closed)."""
    code, document = _document(f"{url.rstrip('/')}/gate?for={purpose}", token_file)
    if not quiet:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    raise SystemExit(0 if code == 200 else 1)


@main.group()
def check() -> None:
    """Validate before rollout."""


@check.command("config")
@click.argument("file", type=click.Path())
def check_config(file: str) -> None:
    """Every mistake in FILE, a line each; exit code 2 if there is one."""
    from syncwatch.config import check as check_file

    lines = check_file(file, os.environ)
    if lines:
        _fail("\n".join(lines))
    click.echo(f"{file}: ok")


@main.command()
@click.option("--listen", default="127.0.0.1:8787", show_default=True, help="Where it listens.")
@click.option("--database", default=":memory:", show_default=True, help="What survives a restart: an SQLite file.")
@click.option("--agent", "agents", multiple=True, help="Create this agent in a workspace `demo` and print its token.")
@click.option("--script", type=click.Path(exists=True, dir_okay=False), help="Faults to play, a YAML file.")
def relay(listen: str, database: str, agents: tuple[str, ...], script: str | None) -> None:
    """The embedded relay alone: a faithful Relaycast server with a ledger of facts and fault injection."""
    from syncwatch.config.endpoints import address as parse_address
    from syncwatch.relay.script import load as load_script
    from syncwatch.relay.server import serve

    async def work() -> int:
        stop = _stop_event()
        address = parse_address(listen)
        server = await serve(address.host, address.port, database=database)
        try:
            click.echo(f"relay listening on {server.url}; facts at {server.url}/_relay/ledger, faults at {server.url}/_relay/faults")
            if agents:
                workspace = server.workspace("demo")
                click.echo(f"workspace demo: {workspace.api_key}")
                for name in agents:
                    click.echo(f"agent {name}: {server.agent(workspace, name)}")
            if faults is not None:
                server.play(faults)
            await stop.wait()
        finally:
            await server.stop()
        return 0

    try:
        faults = None if script is None else load_script(Path(script).read_text(), script)
        code = _run(work())
    except (OSError, ValueError) as error:
        _fail(f"syncwatch relay: {error}")
    raise SystemExit(code)

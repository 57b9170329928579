"""The commands. Parsing and printing only; what they do is elsewhere, and is imported when it is needed, so that each starts fast."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from syncwatch import running
from syncwatch.version import REVISION, __version__

if TYPE_CHECKING:
    from syncwatch import asking

USAGE = 2
UNREACHABLE = 3
STATUS_USAGE = 64
"""As sysexits has it: where 2 says that something is down, a mistake in the question must not say so too."""

_VERSION = f"syncwatch {__version__}" + (f" ({REVISION})" if REVISION else "") + f", Python {platform.python_version()}"


class Shell(click.Group):
    """Commands in the order in which a newcomer needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they were added."""
        return list(self.commands)


class _Status(click.Command):
    """The one command whose answers take 2."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """Mistakes that click finds end with the same code as those that we find."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            error.exit_code = STATUS_USAGE  # type: ignore[misc]  # click asks the exception, not its class
            raise


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(message=_VERSION)
def main() -> None:
    """The sidecar that tells the truth about real-time sync."""


def _fail(lines: str, code: int = USAGE) -> NoReturn:
    click.echo(lines, err=True)
    raise SystemExit(code)


def _option(name: str, key: str, text: str) -> str:
    """One line about an option of a command; options are called like the configuration's keys."""
    return f"syncwatch {name}: --{key.replace('_', '-')}: {text}"


@main.command()
@click.option("--cycles", type=click.IntRange(1), help="End after so many rounds of trouble; without it, go on until Ctrl-C.")
@click.option("--relay-port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="Port of the embedded relay; 0 takes a free one.")
@click.option("--listen", default="127.0.0.1:10119", show_default=True, help="Where /metrics and the probes are served.")
@click.option("--local-listen", default="127.0.0.1:10120", show_default=True, help="Where the status page is served.")
def demo(cycles: int | None, relay_port: int, listen: str, local_listen: str) -> None:
    """An embedded relay, a sidecar that watches it, and a little trouble: nothing to configure."""
    from syncwatch import logs
    from syncwatch.app import AddressInUse
    from syncwatch.config import ConfigError
    from syncwatch.demo import Demo, Unfinished

    logs.configure("critical")  # the demo tells the story itself

    async def work() -> int:
        return await Demo(click.echo, cycles, relay_port, listen, local_listen).run(running.stop_event())

    try:
        code = running.run(work())
    except ConfigError as error:
        _fail("\n".join(_option("demo", mistake.path, mistake.text) for mistake in error.mistakes))
    except AddressInUse as error:
        _fail(_option("demo", error.key, error.text))
    except Unfinished as error:
        click.echo(f"syncwatch demo: {error}", err=True)
        raise SystemExit(1) from error
    raise SystemExit(code)


@main.command()
@click.option("--config", "path", type=click.Path(), help="The configuration file; default: SYNCWATCH_CONFIG.")
@click.option("--wait-for-config", "wait", is_flag=True, help="With a configuration that cannot be used: say why, answer probes, and start as soon as it can be.")
def run(path: str | None, wait: bool) -> NoReturn:
    """The sidecar. Exit code 2 when it cannot start, unless it is to wait."""
    running.sidecar(path, wait)


def _unreachable(text: str) -> NoReturn:
    click.echo(f"syncwatch: {text}", err=True)
    raise SystemExit(UNREACHABLE)


def _place(url: str | None, config: str | None, state_dir: str | None, token_file: str | None, usage: int = USAGE) -> asking.Place:
    """Where these options say that a sidecar is; ends the program with `usage` when they say nothing sensible."""
    from syncwatch import asking
    from syncwatch.config import ConfigError

    try:
        return asking.find(url, config, state_dir, token_file, os.environ)
    except (ConfigError, asking.Misasked) as error:
        _fail(str(error), usage)


_url = click.option("--url", help="The sidecar's local listener.  [default: that of the configuration, or http://127.0.0.1:10120]")
_config = click.option("--config", type=click.Path(), help="The sidecar's configuration file, which says where to ask; default: SYNCWATCH_CONFIG.")
_token = click.option("--token-file", type=click.Path(dir_okay=False), help="Bearer token, where the listener wants one.")


@main.command(cls=_Status)
@_url
@_config
@click.option("--state-dir", type=click.Path(readable=False), help="The sidecar's state directory: read the status file there when it cannot be asked.")
@_token
@click.option("--verbose", "-v", is_flag=True, help="Everything that is known.")
@click.option("--json", "as_json", is_flag=True, help="The document itself.")
@click.option("--watch", "-w", is_flag=True, help="Again and again, in place, until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(0.1, 86_400), default=2.0, show_default=True, help="Seconds between two looks, with --watch.")
def status(
    url: str | None, config: str | None, state_dir: str | None, token_file: str | None, verbose: bool, as_json: bool, watch: bool, interval: float
) -> None:
    """How the sync is. Exit code 0 healthy, 1 degraded, 2 down, 3 not reachable; 64 for a question that makes no sense."""
    from syncwatch import screen

    look = _Look(_place(url, config, state_dir, token_file, STATUS_USAGE), as_json, compact=watch, verbose=verbose)
    if watch:
        screen.watch(look.again, interval, apart=not as_json)
    else:
        screen.write(look.once(screen.width()))
    raise SystemExit(look.code)


class _Look:
    """How one sidecar is, each time it is asked; `code` is the exit code that belongs to the last answer."""

    def __init__(self, place: asking.Place, as_json: bool, compact: bool, verbose: bool) -> None:
        self._place, self._as_json, self._compact, self._verbose = place, as_json, compact, verbose
        self.code = UNREACHABLE

    def once(self, width: int) -> str:
        """Ends the program when nobody can be asked."""
        from syncwatch import asking

        try:
            return self._told(width)
        except asking.Unreachable as error:
            _unreachable(str(error))

    def again(self, width: int) -> str:
        """That nobody can be asked is an answer too: perhaps the next time."""
        from syncwatch import asking

        try:
            return self._told(width)
        except asking.Unreachable as error:
            self.code = UNREACHABLE
            return json.dumps({"error": str(error)}) + "\n" if self._as_json else f"syncwatch: {error}\n"

    def _told(self, width: int) -> str:
        from syncwatch import asking, screen
        from syncwatch.exposition.status import exit_code, render

        try:
            document = asking.status(self._place)
        except asking.Misasked as error:
            _fail(str(error), STATUS_USAGE)
        self.code = exit_code(document) if document["source"]["current"] else UNREACHABLE
        if self._as_json:
            return json.dumps(document, indent=None if self._compact else 2) + "\n"
        try:
            return render(document, screen.colours(os.environ), width, self._verbose)
        except ValueError as error:  # another version's
            raise asking.Unreachable(f"{document['source']['at']}: {error}") from None


@main.command()
@_url
@_config
@_token
@click.option("--for", "purpose", type=click.Choice(["read", "write"]), default="read", show_default=True)
@click.option("--quiet", "-q", is_flag=True, help="Only the exit code.")
def gate(url: str | None, config: str | None, token_file: str | None, purpose: str, quiet: bool) -> None:
    """May I trust what I read, may I write? Exit code 0 open, 1 closed, 3 not reachable (which means closed)."""
    from syncwatch import asking

    try:
        code, document = asking.document(_place(url, config, None, token_file), f"/gate?for={purpose}", "open")
    except asking.Misasked as error:
        _fail(str(error))
    except asking.Unreachable as error:
        _unreachable(str(error))
    if not quiet:
        click.echo(json.dumps(document, indent=2))
    raise SystemExit(0 if code == 200 and document["open"] is True else 1)


@main.command()
@_url
@_config
@_token
@click.option("--wait", default="20s", show_default=True, help="For so long at most: 250ms, 20s, 2m.")
@click.option("--quiet", "-q", is_flag=True, help="Only the exit code.")
def flush(url: str | None, config: str | None, token_file: str | None, wait: str, quiet: bool) -> None:
    """Bring every finished write of the mirrors to the other side. Exit code 0 done, 1 something is pending, 3 not reachable."""
    from syncwatch import asking
    from syncwatch.config.mistakes import WrongValueError
    from syncwatch.config.values import duration_between

    try:
        wait_s = duration_between()(wait)
    except WrongValueError as error:
        _fail(f"--wait: {error}")
    try:
        place = _place(url, config, None, token_file)
        _, found = asking.document(
            place, f"/flush?timeout_s={wait_s:g}", "complete", "files", "pending", method="POST", timeout_s=wait_s + asking.TIMEOUT_S
        )
    except asking.Misasked as error:
        _fail(str(error))
    except asking.Unreachable as error:
        _unreachable(str(error))
    if not quiet:
        moved, pending = (f"{found[key]} {'file' if found[key] == 1 else 'files'}" for key in ("files", "pending"))
        click.echo(f"complete: {moved} moved" if found["complete"] is True else f"not complete: {pending} pending, {moved} moved")
    raise SystemExit(0 if found["complete"] is True else 1)


@main.group()
def check() -> None:
    """Validate before rollout."""


@check.command("config")
@click.argument("file", type=click.Path())
def check_config(file: str) -> None:
    """Every mistake in FILE, a line each; exit code 2 if there is one.

    Tokens and other files that are read at each use may come later: one that cannot be read here is a warning.
    """
    from syncwatch.config import check as check_file

    checked = check_file(file, os.environ)
    if checked.mistakes:
        _fail("\n".join(checked.mistakes))
    for line in checked.awaited:
        click.echo(f"warning: {line}", err=True)
    click.echo(f"{file}: ok")


@main.group()
def tps() -> None:
    """Branches of TPS, as their host."""


@tps.command()
@click.argument("token")
@click.option("--name", default="branch", show_default=True, help="What this host calls the branch; the connection's name, too.")
@click.option("--identity-file", default="~/.syncwatch/tps/host.seed", show_default=True, help="The host's seed; made if it is not there, never replaced.")
@click.option("--mail-dir", default=None, help="Where the branch's mail will be kept; default: ~/.syncwatch/mail/NAME.")
@click.option("--state-dir", default=None, help="Where history will be kept over restarts; default: ~/.syncwatch/state/NAME.")
@click.option("--host-id", default="syncwatch", show_default=True, help="What the branch calls this host.")
def join(token: str, name: str, identity_file: str, mail_dir: str | None, state_dir: str | None, host_id: str) -> None:
    """Become the host of the branch that printed TOKEN, and print what to configure.

    ACTS: from then on the branch lets in this host alone, so give it a branch of its own. Exit code 1: the branch refused, 3: not reachable.
    """
    from syncwatch.config import values
    from syncwatch.config.mistakes import WrongValueError
    from syncwatch.joining import Block, JoinError
    from syncwatch.joining import join as join_branch
    from syncwatch.protocols.tps.keys import Identity, fingerprint, key_text, token_from_text
    from syncwatch.runtime.seedfile import SeedFileError, obtain

    try:
        parsed = token_from_text(token)
    except ValueError as error:
        _fail(f"syncwatch tps join: {error}")
    given, paths = {"name": name, "identity_file": identity_file, "mail_dir": mail_dir or f"~/.syncwatch/mail/{name}", "state_dir": state_dir or f"~/.syncwatch/state/{name}"}, {}
    try:
        for key, check in (("name", values.name), ("name", values.branch)):
            check(given[key])
        for key in ("identity_file", "mail_dir", "state_dir"):
            paths[key] = values.path(values.in_home(given[key], os.environ)).absolute()
        if paths["mail_dir"] == paths["state_dir"]:
            raise WrongValueError("is where the mail will be kept as well; give it a directory of its own")
        key = "host_id"
        values.host_id(host_id)
    except WrongValueError as error:
        _fail(_option("tps join", key, str(error)))
    try:
        seed = obtain(paths["identity_file"])
    except SeedFileError as error:
        _fail(_option("tps join", "identity_file", str(error)))
    for remark in seed.remarks:
        click.echo(remark, err=True)
    identity = Identity(seed.secret)
    click.echo(f"identity: {paths['identity_file']}, {'made just now' if seed.made else 'as it was'}; public key {key_text(identity.encryption_key)}", err=True)

    async def work() -> int:
        await join_branch(parsed, identity, host_id, name)
        return 0

    try:
        running.run(work())
    except JoinError as error:
        click.echo(f"syncwatch tps join: {parsed.url}: {error}", err=True)
        raise SystemExit(1 if error.reached else UNREACHABLE) from None
    click.echo(f"joined: branch {parsed.fingerprint} at {parsed.url}; its host is now {host_id} {fingerprint(identity.encryption_key)}", err=True)
    click.echo(Block(name, parsed, paths["identity_file"], paths["mail_dir"], paths["state_dir"]), nl=False)


@check.command("rules")
@click.argument("files", type=click.Path(), nargs=-1, required=True, metavar="FILE...")
def check_rules(files: tuple[str, ...]) -> None:
    """Whether the Prometheus rules in each FILE ask for what syncwatch exports; a line for each mistake, exit code 2 if there is one.

    A FILE holds groups, or PrometheusRules among whatever else there is for Kubernetes. What rules in one FILE record, those in all may ask for.
    The language itself is promtool's to check: promtool check rules FILE.
    """
    from syncwatch.alertrules import check as check_files

    checked = check_files(files)
    mistakes = [line for one in checked for line in one.mistakes]
    if mistakes:
        _fail("\n".join(mistakes))
    for one in checked:
        click.echo(f"{one.file}: ok, {one.rules} rule{'' if one.rules == 1 else 's'}")


@main.command("export")
@click.argument("what", type=click.Choice(["dashboards", "rules", "k8s"]))
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("--force", is_flag=True, help="Replace files that say something else.")
def export_files(what: str, directory: str, force: bool) -> None:
    """Write out what ships with syncwatch: Grafana dashboards, Prometheus rules with Alertmanager's inhibitions, Kubernetes files.

    Files that are there and say something else are not replaced without --force. Exit code 2 when nothing could be written.
    """
    from syncwatch.export import OccupiedError, export

    try:
        written = export(what, Path(directory), replace=force)
    except OccupiedError as error:
        lines = [f"{path}: is there and says something else" for path in error.paths]
        _fail("\n".join([*lines, "syncwatch export: nothing was written; --force replaces them"]))
    except OSError as error:
        _fail(f"syncwatch export: {error.filename or what}: {error.strerror or error}")
    for path in written:
        click.echo(path)
    if not written:
        click.echo(f"{directory}: up to date")


@main.command()
@click.option("--listen", default="127.0.0.1:8787", show_default=True, help="Where it listens.")
@click.option("--database", default=":memory:", show_default=True, help="What survives a restart: an SQLite file.")
@click.option("--agent", "agents", multiple=True, help="Create this agent in a workspace `demo` and print its token.")
@click.option("--observer", "observers", multiple=True, help="Be a server of the observers' generation, create this observer in the workspace `demo` and print its token.")
@click.option("--relayfile", "files", multiple=True, help="Print a token for this Relayfile workspace.")
@click.option("--relayfile-token-file", "token_file", type=click.Path(dir_okay=False), help="Accept the text of this file as a token of the (one) Relayfile workspace: it outlives a restart.")
@click.option("--branch", is_flag=True, help="Print the token by which a host joins the TPS branch.")
@click.option("--branch-tcp", type=click.IntRange(0, 65535), help="Let hosts of the TPS branch in over TCP too, at this port (0: a free one), and print that token.")
@click.option("--branch-identity", type=click.Path(file_okay=False), help="What the TPS branch is and which host it knows is kept in this directory: it outlives a restart.")
@click.option("--script", type=click.Path(exists=True, dir_okay=False), help="Faults to play, a YAML file.")
def relay(
    listen: str,
    database: str,
    agents: tuple[str, ...],
    observers: tuple[str, ...],
    files: tuple[str, ...],
    token_file: str | None,
    branch: bool,
    branch_tcp: int | None,
    branch_identity: str | None,
    script: str | None,
) -> None:
    """The embedded relay alone: a faithful Relaycast and Relayfile server and TPS branch with a ledger of facts and fault injection."""
    import sqlite3

    from syncwatch.app import AddressInUse
    from syncwatch.config.endpoints import Address
    from syncwatch.config.endpoints import address as parse_address
    from syncwatch.relay.script import load as load_script
    from syncwatch.relay.server import serve

    async def work() -> int:
        stop = running.stop_event()
        try:
            server = await serve(
                address.host, address.port, database=database, generation="observer" if observers else "ring", branch_identity=kept
            )
        except OSError as error:
            raise AddressInUse("listen", address, error) from error
        try:
            click.echo(f"relay listening on {server.url}; facts at {server.url}/_relay/ledger, faults at {server.url}/_relay/faults")
            if agents or observers:
                workspace = server.workspace("demo")
                click.echo(f"workspace demo: {workspace.api_key}")
                for name in dict.fromkeys(agents):
                    click.echo(f"agent {name}: {server.agent(workspace, name)}")
                for name in dict.fromkeys(observers):
                    click.echo(f"observer {name}: {server.observer(workspace, name)}")
            for name in dict.fromkeys(files):
                click.echo(f"relayfile {name}: {server.files.token(name)}")
            if branch:
                click.echo(f"branch {server.branch.name}: {server.branch.token(address.host, server.port)}")
            if branch_tcp is not None:
                try:
                    port = await server.open_branch_tcp(branch_tcp)
                except OSError as error:
                    raise AddressInUse("branch_tcp", Address(address.host, branch_tcp), error) from error
                click.echo(f"branch {server.branch.name} over tcp: {server.branch.token(address.host, port, 'tcp')}")
            if fixed:
                server.files.accept(fixed, files[0])
            if faults is not None:
                server.play(faults)
            await stop.wait()
        finally:
            await server.stop()
        return 0

    try:
        address = parse_address(listen)
    except ValueError as error:
        _fail(_option("relay", "listen", str(error)))
    kept = None
    if branch_identity is not None:
        from syncwatch.relay.tps.identity import IdentityDirectory

        try:
            kept = IdentityDirectory(Path(branch_identity))
        except (OSError, ValueError) as error:
            _fail(_option("relay", "branch_identity", str(error)))
    fixed = ""
    if token_file is not None:
        if len(files) != 1:
            _fail(_option("relay", "relayfile_token_file", "needs exactly one --relayfile workspace"))
        try:
            fixed = Path(token_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            _fail(_option("relay", "relayfile_token_file", str(error)))
        if not fixed:
            _fail(_option("relay", "relayfile_token_file", f"{token_file} is empty"))
    try:
        faults = None if script is None else load_script(Path(script).read_text(encoding="utf-8"), script)
    except (OSError, ValueError) as error:
        _fail(_option("relay", "script", str(error)))
    try:
        code = running.run(work())
    except AddressInUse as error:
        _fail(_option("relay", error.key, error.text))
    except sqlite3.Error as error:
        _fail(_option("relay", "database", f"{database}: {error}"))
    raise SystemExit(code)

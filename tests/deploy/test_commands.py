"""What the runbooks and docs/kubernetes.md tell people to type, run as far as it gets without a cluster: what a program, a subcommand, an option, a port, a
path or a name is called is right."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from syncwatch.cli import main
from syncwatch.config import parse
from syncwatch.exposition.probes import Probe
from tests.deploy.parts import DEPLOY, named, pod, syncwatch
from tests.expressions import ROOT, RUNBOOKS
from tests.requires import require

PAGES = [*sorted(RUNBOOKS.glob("*.md")), ROOT / "docs" / "kubernetes.md"]
SPANS = re.compile(r"(?<!`)`((?:syncwatch|kubectl|curl|python3|kill) [^`]+)`(?!`)")
CONFIG = parse((DEPLOY / "examples/sidecar/syncwatch.yaml").read_text(encoding="utf-8"), "syncwatch.yaml", {})
PUBLIC_PORT, LOCAL_PORT = (str(address.port) for address in (CONFIG.listen, CONFIG.local_listen))
PUBLIC = {"/metrics", *(f"/{probe}" for probe in Probe)}
KUBECONFIG = {
    "apiVersion": "v1", "kind": "Config", "current-context": "nowhere",
    "clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:9"}}],
    "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
    "users": [{"name": "nobody", "user": {}}],
}  # fmt: skip
"""A cluster that refuses every connection: what kubectl asks it for has been understood."""


def lines(page: Path) -> list[str]:
    """Everything on a page that is to be typed: lines of its blocks, and commands in its sentences."""
    text = page.read_text(encoding="utf-8")
    blocks = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return [*filter(None, blocks), *SPANS.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))]


def commands(line: str) -> list[list[str]]:
    """The commands of a pipe, each with its words; comments and redirections are the shell's."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if word == "|":
            found.append([])
        elif word in "<>":
            next(words)
            if found[-1][-1] == "2":
                found[-1].pop()
        else:
            found[-1].append(word)
    return found



class Tried:
    """Runs commands where nothing is: each method returns what is wrong with one, or nothing."""

    def __init__(self, folder: Path, service: str) -> None:
        self.folder, self.service = folder, service
        (folder / "kubeconfig").write_text(yaml.safe_dump(KUBECONFIG))
        (folder / "cast-token").write_text("token")
        (folder / "host.seed").write_text("seed")
        (folder / "kustomization.yaml").write_text("resources: [config.yaml]\n")
        (folder / "config.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: one}}")
        (folder / "deploy").symlink_to(DEPLOY)

    def wrong(self, words: list[str]) -> str:
        """What is wrong with a command."""
        program, *arguments = words
        trying = getattr(self, f"_{program}", self._file)
        return str(trying(arguments, words))

    def _run(self, words: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
        command = [require(words[0]), *words[1:]]
        environment = os.environ | {"KUBECONFIG": str(self.folder / "kubeconfig"), "no_proxy": "*"}
        return subprocess.run(command, cwd=self.folder, input=given, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def _syncwatch(self, arguments: list[str], _: list[str]) -> str:
        command: click.Command = main
        there = [str(self.folder / "kubeconfig") if one == "FILE" or one.startswith("/") else one for one in arguments]
        try:
            while isinstance(command, click.Group):
                name, found, there = command.resolve_command(click.Context(command), there)
                assert found is not None, name
                command = found
            command.make_context("syncwatch", there)
        except click.MissingParameter:
            return ""  # a sentence may name the command alone
        except click.ClickException as error:
            return error.format_message()
        return ""

    def _kubectl(self, arguments: list[str], words: list[str]) -> str:
        if "kustomize" in arguments:
            return self._run(words).stderr
        mine, _, inside = " ".join(arguments).partition(" -- ")
        if inside and not inside.startswith(("sh", "wget")) and (wrong := self.wrong(inside.split())):
            return wrong
        own = mine.split()
        containers = [own[place + 1] for place, word in enumerate(own) if word == "-c"]
        template = pod(DEPLOY / "examples/sidecar")
        if [one for one in containers if one not in (syncwatch(template)["name"], "prometheus")]:
            return f"no container is called {containers}"
        if "port-forward" in own and own[-1] not in (PUBLIC_PORT, LOCAL_PORT):
            return f"nobody listens on {own[-1]}"
        if "-l" in own and own[own.index("-l") + 1] not in template["metadata"]["labels"]:
            return "no pod has that label"
        if "podmonitor" in own:
            monitor = named(DEPLOY / "base", "PodMonitor", own[own.index("podmonitor") + 1])
            if own[own.index("-n") + 1] != monitor["metadata"]["namespace"]:
                return "it is in another namespace"
        said = self._run(words).stderr
        return "" if "connect: connection refused" in said else said

    def _curl(self, arguments: list[str], words: list[str]) -> str:
        for url in (urllib.parse.urlsplit(one) for one in arguments if one.startswith("http")):
            if url.port == int(PUBLIC_PORT) and (url.path not in PUBLIC or url.query not in ("", "verbose")):
                return f"{url.path}?{url.query} is not answered there"
            if url.port == int(LOCAL_PORT):
                return "the local listener may want a token: use the program"
        done = self._run([*words, "--connect-to", "::127.0.0.1:9"], 'url = "http://127.0.0.1:9/"')
        return "" if done.returncode == 7 else f"{done.returncode} {done.stderr}"

    def _python3(self, arguments: list[str], _: list[str]) -> str:
        done = self._run(["python3", *(self.service if one.startswith("http") else one for one in arguments)])
        return "" if done.stdout == "200\n" else f"{done.stdout}{done.stderr}"

    def _openssl(self, arguments: list[str], _: list[str]) -> str:
        options = self._run(["openssl", arguments[0], "-help"]).stderr
        return "".join(f"{one} is no option" for one in arguments[1:] if one.startswith("-") and f" {one} " not in options)

    def _docker(self, arguments: list[str], _: list[str]) -> str:
        files = [arguments[place + 1] for place, word in enumerate(arguments) if word == "-f"]
        known = re.findall(r"^ARG (\w+)=", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
        built = [arguments[place + 1].partition("=")[0] for place, word in enumerate(arguments) if word == "--build-arg"]
        return "".join(f"{one} is not there" for one in files if not (ROOT / one).is_file()) + "".join(f"{one} is no ARG" for one in built if one not in known)

    def _kill(self, arguments: list[str], _: list[str]) -> str:
        return "" if arguments == ["-HUP", "1"] else "in its container the sidecar is process 1"

    def _printf(self, arguments: list[str], _: list[str]) -> str:
        return "" if arguments[0].count("%s") == len(arguments) - 1 else "that is not what it prints"

    def _head(self, arguments: list[str], words: list[str]) -> str:
        return self._run(words, "text").stderr

    def _file(self, arguments: list[str], words: list[str]) -> str:
        """What looks at files, with a file that is there instead."""
        if words[0] not in ("ls", "df", "wc", "cat", "findmnt"):
            return "a program of which nothing is known here"
        return self._run([one if not one.startswith("/") or one.startswith("/proc/") else str(self.folder) + "/kubeconfig" for one in words]).stderr


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """The URL of something that answers 200."""

    class Well(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Well) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_to_be_typed_can_be_typed(tmp_path: Path, service: str, page: Path) -> None:
    """Every command of the page."""
    tried = Tried(tmp_path, service)
    found = lines(page)
    assert found
    assert [] == [(line, wrong) for line in found for words in commands(line) if (wrong := tried.wrong(words))]


@pytest.mark.parametrize(
    "line",
    [
        "syncwatch state", "syncwatch status --jason", "syncwatch gate --for reading", "syncwatch check FILE",
        "kubectl got pods", "kubectl get pods --al", "kubectl logs POD -c sidecar", "kubectl port-forward POD 9090", "kubectl get pods -l sync",
        "kubectl -n default get podmonitor syncwatch", "kubectl exec POD -c syncwatch -- syncwatch state",
        "curl --verbos-e http://127.0.0.1:10119/livez", "curl http://127.0.0.1:10119/status", "curl 'http://127.0.0.1:10119/livez?verbos'",
        "curl http://127.0.0.1:10120/status", "openssl s_client -to x", "docker build -f nowhere", "docker build --build-arg REVISON=1 .", "rm file", "python3 -c 'print(201)' http://x/", "df --nonsense /",
    ],
)  # fmt: skip
def test_a_mistake_would_be_found(tmp_path: Path, service: str, line: str) -> None:
    """Of each kind."""
    (words,) = commands(line)
    assert "" != Tried(tmp_path, service).wrong(words)


def test_in_a_cluster_it_is_said_where() -> None:
    """A page that has something typed beside the sidecar says how to get there in a cluster."""
    pages = [page for page in RUNBOOKS.glob("Syncwatch*.md") if page.stem not in ("SyncwatchErrorBudgetBurn", "SyncwatchAbsent")]
    assert len(pages) > 10
    assert [] == [page.stem for page in pages if not re.search(r"kubectl -n NAMESPACE exec (-it )?POD -c syncwatch -- ", page.read_text(encoding="utf-8"))]

"""Where faults are played and alerts arrive: relays in this process, sidecars, Prometheus and Alertmanager as processes of their own, and a webhook.

What belongs here: the parts and how they are joined. Which fault must set off which alert is said in `scenarios`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import ssl
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dashboards import alerting
from syncwatch.relay import Relay
from tests.expressions import INHIBITIONS, ROOT
from tests.integration.sidecar import PATIENCE_S, WATCHER, Document, Sidecar, running, until
from tests.requires import require

WORKSPACE = "w1"
STACK = ROOT / "deploy" / "compose" / "alertmanager.yaml"
"""Where it is said how alerts are grouped."""
GONE, QUIET, MAIN, KILLED, CONFIG = "gone", "quiet", "main", "killed", "config"
ABSENT = "SyncwatchAbsent"
BURNS = {"1h": 2, "6h": 8, "1d": 18, "3d": 36}
"""For each burn rate, of how many services one is unhealthy: well over that rate's share and still under the next one's."""


class Quick(alerting.Pace):
    """The rules in seconds: nothing looks back for less than five scrapes, and what comes first stays first."""

    def window(self, seconds: float) -> float:
        """5 minutes are 12 s; what looks back for hours looks back over everything."""
        return min(max(seconds / 25, 5), 12) if seconds <= 900 else 120

    def past(self, seconds: float) -> float:
        """There is hardly any."""
        return 2

    def hold(self, seconds: float) -> float:
        """2 minutes are 4 s, and nothing takes longer than 7."""
        return min(max(seconds / 30, 2), 7)

    def age(self, seconds: float) -> float:
        """5 minutes are 10 s."""
        return seconds / 30


class Plan(NamedTuple):
    """How fast everything goes. Intervals in the sidecars' words; seconds elsewhere."""

    pace: alerting.Pace
    scrape_s: float
    group_wait_s: float
    past_s: float  # of budgets: how long Prometheus remembers that all was well before anything starts
    history_s: float  # how long all is well before the faults
    patience_s: float  # how long alerts are waited for
    flap_s: float
    expires_s: float  # validity of the certificate that expires
    connection: Mapping[str, Any]
    polls: Mapping[str, Any]  # further keys of a connection with a feed
    service: Mapping[str, Any]
    watcher: Mapping[str, Any]
    mirror: Mapping[str, Any]
    health: Mapping[str, str]

    @property
    def settling_s(self) -> float:
        """In this time what happens at once has been seen, and has arrived."""
        return self.group_wait_s + 4 * self.scrape_s


QUICK = Plan(
    pace=Quick(),
    scrape_s=1,
    group_wait_s=2,
    past_s=0,
    history_s=10,
    patience_s=60,
    flap_s=1.5,
    expires_s=20,
    connection={
        "connect_timeout": "5s",
        "heartbeat": {"interval": "500ms", "timeout": "2s"},
        "reconnect": {"min": "50ms", "max": "300ms", "stable_after": "1s"},
        "resync": {"ack_timeout": "2s", "hole_grace": "300ms", "spread": "0s"},
        "verify": {"interval": "1s", "grace": "1s"},
    },
    polls={"polling": {"interval": "200ms", "reprobe_min": "200ms", "reprobe_max": "1s"}, "audit": {"interval": "1s"}},
    service={"interval": "20s", "retry_interval": "1s", "timeout": "10s"},
    watcher={"sentinel": {"interval": "1s"}},
    mirror={"reconcile": {"healthy": "1s"}},
    health={"degraded_after": "200ms", "recovered_after": "500ms", "incident_hold": "20s"},
)
"""Everything in about a minute: for tests."""

REAL = Plan(alerting.Pace(), 15, 30, 73 * 3600, 360, 26 * 60, 90, 420, {}, {}, {}, {}, {}, {})
"""What is shipped, with the defaults of everything: for the benchmark."""


class Notification(NamedTuple):
    """An alert as it came to the webhook, and when (monotonic)."""

    at_s: float
    status: str
    labels: Mapping[str, str]

    @property
    def title(self) -> str:
        """Its name, and its window if it has one."""
        return " ".join(filter(None, (self.labels["alertname"], self.labels.get("window"))))


class Stage:
    """Everything that runs."""

    def __init__(self, plan: Plan, folder: Path, http: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        self.plan, self.folder, self.http, self.stack = plan, folder, http, stack
        self.relays: dict[str, Relay] = {}
        self.sidecars: dict[str, Sidecar] = {}
        self.notifications: list[Notification] = []
        """Every alert by itself."""
        self.grouped: list[tuple[Notification, ...]] = []
        """Every notification as the shipped grouping makes them; of each group the first only."""
        self.sick: set[str] = set()
        """Services that answer 500, by their path."""
        self.expiry_s = 0.0
        """When the certificate expires (monotonic)."""
        self.base = ""
        self.prometheus = ""
        self._hidden: set[str] = set()
        self._jobs: list[asyncio.Task[None]] = []
        self._starting = asyncio.Semaphore(3)

    def keep(self, fault: contextlib.AbstractContextManager[Any]) -> None:
        """Let a fault last to the end."""
        self.stack.enter_context(fault)

    def go_on(self, doing: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again, to the end."""

        async def forever() -> None:
            while True:
                await doing()

        self._jobs.append(asyncio.create_task(forever()))
        self.stack.callback(self._jobs[-1].cancel)

    async def listen(self) -> str:
        """The webhook, and the services that sidecars ask, on one port."""
        app = web.Application()
        app.router.add_post("/webhook", self._notified)
        app.router.add_post("/grouped", self._grouped)
        app.router.add_get("/service/{name}", self._service)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return self.base

    async def _notified(self, request: web.Request) -> web.Response:
        self.notifications += await _alerts(request)
        return web.Response()

    async def _grouped(self, request: web.Request) -> web.Response:
        self.grouped.append(await _alerts(request))
        return web.Response()

    async def _service(self, request: web.Request) -> web.Response:
        return web.Response(status=500 if request.match_info["name"] in self.sick else 200)

    async def relay(self, name: str) -> Relay:
        """A relay of that name, with the watched agent and somebody who talks."""
        relay = self.relays[name] = await self.stack.enter_async_context(Relay.start())
        return relay

    async def ring(self, name: str, relay: str, url: str = "", **more: Any) -> Document:
        """A connection to a ring at a new or known relay."""
        made = self.relays.get(relay) or await self.relay(relay)
        workspace = made.workspace(f"w-{name}")
        agent = WATCHER if name == relay else name
        token = self.folder / f"token-{name}"
        token.write_text(made.agent(workspace, agent))
        made.agent(workspace, f"alice-{name}" if name != relay else "alice")
        return {"name": name, "protocol": "relaycast", "url": url or made.url, "token_file": str(token), **self.plan.connection, **more}

    async def files(self, name: str) -> Document:
        """A connection to a new relay's files."""
        made = await self.relay(name)
        token = self.folder / f"token-{name}"
        token.write_text(made.files.token(WORKSPACE))
        made.files.write(WORKSPACE, "/first.md", "text")
        shared = {"name": name, "protocol": "relayfile", "url": made.url, "workspace": WORKSPACE, "token_file": str(token)}
        return shared | dict(self.plan.connection) | dict(self.plan.polls)

    def trees(self, sidecar: str) -> Document:
        """Directories of a sidecar: one that is watched, and two that are kept in step."""
        folder = self.folder / sidecar
        for name in ("watched", "mount", "project"):
            (folder / name).mkdir(parents=True)
        (folder / "project" / "file").write_text("text")
        watcher = {"name": "watched", "path": str(folder / "watched"), **self.plan.watcher}
        mirror = {"name": "pair", "mode": "sync", "mount": str(folder / "mount"), "project": str(folder / "project"), **self.plan.mirror}
        return {"watchers": [watcher], "mirrors": [mirror]}

    def services(self, *names: str) -> list[Document]:
        """Services on this stage."""
        return [{"name": name, "url": f"{self.base}/service/{name}", **self.plan.service} for name in names]

    async def sidecar(self, name: str, **parts: Any) -> None:
        """Start a sidecar with these parts."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        config: Document = {
            "listen": "127.0.0.1:0",
            "local_listen": "127.0.0.1:0",
            "state_dir": str(folder / "state"),
            "log": {"level": "info", "format": "json"},
            "health": dict(self.plan.health),
            **parts,
        }
        async with self._starting:  # all at once, on a busy machine none would be in time
            self.sidecars[name] = await self.stack.enter_async_context(running(folder, config, self.http))

    def targets(self, without: str = "") -> None:
        """What Prometheus is told to scrape."""
        self._hidden.add(without)
        shown = [name for name in self.sidecars if name not in self._hidden]
        listed = [{"targets": [self.sidecars[name].public.removeprefix("http://")], "labels": {"job": job(name), "instance": name}} for name in shown]
        fresh = self.folder / "targets.new"
        fresh.write_text(json.dumps(listed))
        fresh.rename(self.folder / "targets.json")

    async def start_prometheus(self) -> None:
        """Prometheus with the rules at this stage's pace, and Alertmanager with the shipped inhibitions and the shipped grouping."""
        (self.folder / "targets.json").write_text("[]")
        plan, alertmanager = self.plan, f"127.0.0.1:{await self._alertmanager()}"
        budget = alerting.Scope('job=~"burn.*"', 'job=~"burn.*"')
        rules = {
            "all": alerting.rules(plan.pace, groups=[_picked(lambda name: name != ABSENT)]),
            # With seconds of history, every fault burns an hour's budget: only those that are about budgets are asked.
            "budget": alerting.rules(plan.pace, budget, alerting.GROUPS[1:]),
        }
        for name, document in rules.items():
            self._rules(name, document)
        often = alerting.duration(plan.scrape_s)
        config = {
            "global": {"scrape_interval": often, "scrape_timeout": often, "evaluation_interval": often},
            "rule_files": [str(self.folder / "*.rules.yaml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            "scrape_configs": [{"job_name": "stage", "file_sd_configs": [{"files": [str(self.folder / "targets.json")], "refresh_interval": "1s"}]}],
        }
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        await self._remember()
        arguments = [f"--config.file={self.folder / 'prometheus.yaml'}", f"--storage.tsdb.path={self.folder / 'data'}", "--web.enable-lifecycle"]
        # What fires before it has found its Alertmanager is lost until it is sent again.
        arguments.append(f"--rules.alert.resend-delay={alerting.duration(4 * plan.scrape_s)}")
        self.prometheus = f"http://127.0.0.1:{await self._program('prometheus', *arguments)}"

    async def _remember(self) -> None:
        """The past of the budgets, as the rules would have recorded it."""
        if not self.plan.past_s:
            return
        step_s, now_s = self.plan.scrape_s, time.time()
        times = [now_s - place * step_s for place in range(int(self.plan.past_s / step_s), 0, -1)]
        lines: list[str] = []
        for metric, with_health in ((alerting.HEALTH, True), (alerting.UNHEALTHY.format("5m"), False)):
            lines.append(f"# TYPE {metric} gauge")
            for window, count in BURNS.items():
                labels = f'job="{job(f"burn-{window}")}",component="service"'
                values = {',health="healthy"': count, ',health="degraded"': 0, ',health="down"': 0} if with_health else {"": 0}
                lines += [f"{metric}{{{labels}{health}}} {value} {at_s:.3f}" for health, value in values.items() for at_s in times]
        past = self.folder / "past.txt"
        past.write_text("\n".join([*lines, "# EOF", ""]))
        command = [require("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(past), str(self.folder / "data")]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()

    def _rules(self, name: str, document: Mapping[str, object]) -> None:
        (self.folder / f"{name}.rules.yaml").write_text(yaml.safe_dump(document))

    async def watch_for_absence(self) -> None:
        """The one alert that fires while nobody is there, and so before everything is: from now on, about one job."""
        scope = alerting.Scope(f'job="{GONE}"', f'job="{GONE}"')
        self._rules("absent", alerting.rules(self.plan.pace, scope, [_picked(lambda name: name == ABSENT)]))
        async with self.http.post(f"{self.prometheus}/-/reload") as answer:
            assert answer.status == 200, await answer.text()

    async def _alertmanager(self) -> int:
        group_by = yaml.safe_load(STACK.read_text())["route"]["group_by"]
        grouped = {"receiver": "grouped", "group_by": group_by, "group_wait": alerting.duration(self.plan.settling_s), "group_interval": "1h", "continue": True}
        each = {"receiver": "webhook", "group_by": ["..."], "group_wait": alerting.duration(self.plan.group_wait_s), "group_interval": "2s"}
        config = {
            "route": {"receiver": "webhook", "routes": [grouped, each]},
            "receivers": [{"name": name, "webhook_configs": [{"url": f"{self.base}/{name}"}]} for name in ("webhook", "grouped")],
            **yaml.safe_load(INHIBITIONS.read_text()),
        }
        (self.folder / "alertmanager.yaml").write_text(yaml.safe_dump(config))
        arguments = [f"--config.file={self.folder / 'alertmanager.yaml'}", f"--storage.path={self.folder / 'alertmanager'}", "--cluster.listen-address="]
        return await self._program("prometheus-alertmanager", *arguments)

    async def _program(self, name: str, *arguments: str) -> int:
        """Start a server and wait until it is ready; returns its port."""
        with contextlib.closing(await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)) as server:
            port = int(server.sockets[0].getsockname()[1])
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                require(name), *arguments, f"--web.listen-address=127.0.0.1:{port}",
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.stack.push_async_callback(_ended, process)

        async def ready() -> bool:
            assert process.returncode is None, log.read_text()
            with contextlib.suppress(aiohttp.ClientError):
                async with self.http.get(f"http://127.0.0.1:{port}/-/ready") as answer:
                    return answer.status == 200
            return False

        await until(ready, bool, 20)
        return port

    async def ask(self, path: str, **parameters: str) -> Any:
        """What Prometheus answers."""
        async with self.http.get(f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
            document = await answer.json()
        assert document["status"] == "success", document
        return document["data"]

    async def value(self, expression: str) -> float:
        """The one value of an expression; NaN without one."""
        found = (await self.ask("query", query=expression))["result"]
        return float(found[0]["value"][1]) if found else float("nan")

    @asynccontextmanager
    async def behind_tls(self, port: int) -> AsyncIterator[int]:
        """A port that takes TLS and passes everything on; its certificate ends with the plan's time."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate())

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            onward, back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(carry(reader, back), carry(onward, writer))

        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    def certificate(self) -> Path:
        """Self-signed, for 127.0.0.1; written with its key."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        self.expiry_s = time.monotonic() + self.plan.expires_s
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stage")])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(seconds=self.plan.expires_s))
            .add_extension(address, critical=False).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        file = self.folder / "server.pem"
        plain = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + plain)
        return file


def _picked(wanted: Callable[[str], bool]) -> alerting.Group:
    """Of the first group, what is about causes, the rules that are wanted."""
    group = alerting.GROUPS[0]
    return group._replace(rules=tuple(one for one in group.rules if wanted(one.name)))


def job(sidecar: str) -> str:
    """The job under which a sidecar is scraped."""
    return sidecar if sidecar.startswith(("burn", GONE)) else "syncwatch"


async def _alerts(request: web.Request) -> tuple[Notification, ...]:
    """What Alertmanager sent in one request."""
    at_s = time.monotonic()
    return tuple(Notification(at_s, alert["status"], alert["labels"]) for alert in (await request.json())["alerts"])


async def _ended(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
    await process.wait()


@asynccontextmanager
async def stage(plan: Plan, folder: Path) -> AsyncIterator[Stage]:
    """All of it, up and well, with some history."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)))
        made = Stage(plan, folder, http, stack)
        await made.listen()
        await made.start_prometheus()
        await _sidecars(made)
        made.targets()
        count = len(made.sidecars)
        await until(lambda: made.value("count(up == 1)"), lambda seen: seen == count, 60)
        connections = 'sum(syncwatch_connection_state{state="open"})'
        total = "count(syncwatch_connection_info)"

        async def all_open() -> bool:
            return await made.value(connections) == await made.value(total)

        await until(all_open, bool, 60)
        await made.watch_for_absence()
        yield made


async def _sidecars(s: Stage) -> None:
    tls = await s.relay("expired")
    port = await s.stack.enter_async_context(s.behind_tls(tls.port))
    secure = {"tls": {"ca_file": str(s.folder / "server.pem")}}
    canary = {"canary": {"enabled": True, "interval": "30s", "timeout": "5s"}} if s.plan.connection else {"canary": {"enabled": True}}
    connections = [
        *[await s.ring(name, "up") for name in ("up", "up2", "up3")],
        *[await s.ring(name, name) for name in ("down", "unverified", "refused", "flapping", "lost", "contradicted", "blip")],
        await s.ring("unverified2", "unverified"),
        await s.ring("expired", "expired", f"https://127.0.0.1:{port}", **secure),
        await s.ring("canary", "canary", **canary),
        await s.files("polling"),
        await s.files("blip-files"),
    ]
    hook = {"name": "nobody", "url": "http://127.0.0.1:9/", "max_attempts": 2, "timeout": "1s"}
    s.sick |= {f"sick-{window}" for window in BURNS}
    quiet = [await s.ring("quiet", "quiet", **canary), await s.files("quiet-files")]
    async with asyncio.TaskGroup() as group:
        group.create_task(s.sidecar(MAIN, connections=connections, services=s.services("service"), hooks=[hook], **s.trees(MAIN)))
        group.create_task(s.sidecar(QUIET, connections=quiet, services=s.services("quiet"), **s.trees(QUIET)))
        group.create_task(s.sidecar(GONE, services=s.services("gone")))
        group.create_task(s.sidecar(KILLED, services=s.services("killed")))
        group.create_task(s.sidecar(CONFIG, services=s.services("config")))
        for window, count in BURNS.items():
            names = [f"sick-{window}", *(f"well-{window}-{number}" for number in range(count - 1))]
            group.create_task(s.sidecar(f"burn-{window}", services=s.services(*names)))


"""A real Prometheus scrapes a real sidecar: what it stores is what the relay's facts say, and its tool has nothing to complain about."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from tests.integration.agreement import told_alike
from tests.integration.fold import Fold
from tests.integration.runtime_parts import Certificates
from tests.integration.sidecar import OPENMETRICS, PATIENCE_S, WATCHER, Asked, rig, until
from tests.requires import require

SCRAPE_S = 1
DISCOVERY_S = 20.0
"""Prometheus waits about five seconds before it looks at a new list of targets."""


class Prometheus:
    """A server whose one target is written into a file."""

    def __init__(self, url: str, targets: Path, certificates: Certificates) -> None:
        self.url, self._targets, self.certificates = url, targets, certificates

    def watch(self, address: str, name: str, scheme: str = "http") -> None:
        """Scrape this address from now on, as the job's instance `name`."""
        fresh = self._targets.with_suffix(".new")
        fresh.write_text(json.dumps([{"targets": [address], "labels": {"instance": name, "__scheme__": scheme}}]))
        fresh.rename(self._targets)

    async def query(self, expression: str) -> list[Any]:
        """An instant query: a list of labels and values."""
        return list((await self._ask("/api/v1/query?query=" + urllib.parse.quote(expression)))["result"])

    async def metadata(self, metric: str) -> dict[str, str]:
        """Type and unit of a metric family, as the last scrape told them."""
        found = await self._ask(f"/api/v1/targets/metadata?metric={metric}")
        return dict(found[0]) if found else {}

    async def _ask(self, path: str) -> Any:
        def get() -> Any:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.url + path, timeout=5) as answer:
                return json.load(answer)["data"]

        return await asyncio.to_thread(get)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One for all tests of this file; it takes seconds until a new one looks at its targets."""
    program = require("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    targets, config, log = folder / "targets.json", folder / "prometheus.yaml", folder / "log"
    targets.write_text("[]")
    certificates = Certificates(folder)
    job = {
        "job_name": "syncwatch",
        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
        "basic_auth": {"username": "prometheus", "password": "right"},  # for the one target that wants it, as it wants the certificate
        "tls_config": {"ca_file": str(certificates.path("ca.pem")), "cert_file": str(certificates.path("client.pem")), "key_file": str(certificates.path("client.key"))},
    }
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": "1s"}, "scrape_configs": [job]}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _ready(url, process, log)
        yield Prometheus(url, targets, certificates)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"Prometheus did not start:\n{log.read_text()}")


async def value(prometheus: Prometheus, expression: str) -> float | None:
    """The one value of an expression; None while there is none."""
    found = await prometheus.query(expression)
    assert len(found) <= 1, found
    return float(found[0]["value"][1]) if found else None


async def test_what_prometheus_stores(tmp_path: Path, prometheus: Prometheus) -> None:
    """up is 1, the state is there while it lasts, the counters are the relay's facts, and the format is OpenMetrics."""
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        fold = Fold(WATCHER)
        prometheus.watch(sidecar.public.removeprefix("http://"), "stored")
        this = '{job="syncwatch", instance="stored"}'

        async def latest(expression: str) -> float | None:
            return await value(prometheus, expression.replace("$this", this[1:-1]))

        assert 1 == await until(lambda: latest("up{$this}"), lambda up: up == 1, DISCOVERY_S)
        it.post(10)
        with it.relay.faults.outage(status=503):
            it.post(300, "missed")
            down = 'syncwatch_connection_state{$this, state="reconnecting"}'
            await until(lambda: latest(down), lambda value: value == 1)
            assert 1 == await latest("sum(syncwatch_connection_state{$this})"), "exactly one state"
            assert 0 == await latest('syncwatch_check_ok{$this, probe="gate", check="read"}')
            assert 1 == await latest('min(syncwatch_check_ok{$this, probe="healthz"})')
        await told_alike(it, sidecar, fold)
        expected = fold.expected()

        async def stored() -> dict[str, float]:
            found = await prometheus.query(f'{{__name__=~"syncwatch_.+_total|syncwatch_.+_count", {this[1:-1]}}}')
            return {name(one["metric"]): float(one["value"][1]) for one in found}

        wanted = {
            f"{metric}{dict(labels)}": float(number)
            for (metric, labels), number in expected.items()
            if metric.startswith(("syncwatch_sequence_", "syncwatch_events_", "syncwatch_resyncs_", "syncwatch_replayed_"))
            and metric.endswith("_total")
        }
        assert wanted["syncwatch_sequence_missed_total{}"] == 600
        assert len(wanted) > 15
        await until(stored, lambda values: wanted.items() <= values.items())
        assert 1 == await latest('syncwatch_connection_state{$this, state="open"}')
        identity = (
            "syncwatch_sequence_missed_total{$this} - syncwatch_sequence_recovered_total{$this} - syncwatch_sequence_lost_total{$this}"
            " - syncwatch_sequence_unaccounted_total{$this} - syncwatch_sequence_missing{$this}"
        )
        assert 0 == await latest(identity)

        info = await prometheus.metadata("syncwatch_build")
        assert "info" == info["type"], "the text format has no such type: it was OpenMetrics"
        unverified = await prometheus.metadata("syncwatch_unverified_seconds")
        assert ("gauge", "seconds") == (unverified["type"], unverified["unit"])
        quantile = await latest("histogram_quantile(0.5, syncwatch_connection_handshake_duration_seconds_bucket{$this})")
        assert quantile is not None
        assert 0 < quantile <= 10


def name(metric: dict[str, str]) -> str:
    """How a stored series is compared with a counter of the fold."""
    further = {key: value for key, value in sorted(metric.items()) if key not in ("__name__", "job", "instance", "connection")}
    return f"{metric['__name__']}{further}"


async def test_a_target_that_goes_and_comes_back(tmp_path: Path, prometheus: Prometheus) -> None:
    """A restarted sidecar's counters begin at 0, and `increase` sees no loss in that."""
    async with rig(tmp_path) as it:
        async with it.sidecar() as sidecar:
            port = sidecar.public.rsplit(":", 1)[1]
            it.config["listen"] = f"127.0.0.1:{port}"
            prometheus.watch(f"127.0.0.1:{port}", "again")
            it.post(20)
            await sidecar.caught_up(it.relay)
            lost = 'syncwatch_events_received_total{instance="again", origin="live"}'
            first = await until(lambda: value(prometheus, lost), lambda found: found and found >= 40, DISCOVERY_S)
            await sidecar.end()
        await until(lambda: value(prometheus, 'up{instance="again"}'), lambda up: up == 0)
        async with it.sidecar(opened=False) as sidecar:
            await sidecar.caught_up(it.relay)
            await until(lambda: value(prometheus, lost), lambda found: found is not None and first is not None and found < first)
            assert 1 == await value(prometheus, f"resets({lost}[1m])")
            assert 0 == await value(prometheus, 'syncwatch_sequence_lost_total{instance="again"}')


async def test_a_scrape_with_a_certificate_and_a_password(tmp_path: Path, prometheus: Prometheus) -> None:
    """`web_config` as Prometheus itself understands it: its client certificate, its user, our certificate verified."""
    it_has, web = prometheus.certificates, tmp_path / "web.yaml"
    files = {"cert_file": "server.pem", "key_file": "server.key", "client_ca_file": "ca.pem"}
    tls = {"client_auth_type": "RequireAndVerifyClientCert", **{key: str(it_has.path(name)) for key, name in files.items()}}
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(6)).decode()
    web.write_text(yaml.safe_dump({"tls_server_config": tls, "basic_auth_users": {"prometheus": hashed}}))
    async with rig(tmp_path, web_config=str(web)) as it, it.sidecar() as sidecar:
        prometheus.watch(sidecar.public.removeprefix("http://"), "protected", "https")
        assert 1 == await until(lambda: value(prometheus, 'up{instance="protected"}'), lambda up: up == 1, DISCOVERY_S)
        assert 1 == await value(prometheus, 'syncwatch_connection_state{instance="protected", state="open"}')


async def test_the_tool_has_nothing_to_say(tmp_path: Path) -> None:
    """`promtool check metrics` on the live output, after trouble has filled it."""
    promtool = require("promtool")
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        with it.relay.faults.outage():
            it.post(3)
            await sidecar.until(lambda cast: cast["attempts"]["failures"]["rejected"] >= 1)
        await sidecar.caught_up(it.relay)
        text = (await sidecar.scrape()).text
        done = await asyncio.to_thread(
            subprocess.run, [promtool, "check", "metrics"], input=text.encode(), capture_output=True, timeout=30, check=False
        )
        assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)
        assert text.count("\n# TYPE syncwatch_") >= 60
        assert_formats_agree(text, (await sidecar.scrape(OPENMETRICS)).text)
        await real_accept_headers(sidecar)


def assert_formats_agree(text: str, openmetrics: str) -> None:
    """Both formats have the same families."""

    def families(exposition: str) -> set[str]:
        lines = [line.split() for line in exposition.splitlines() if line.startswith("# TYPE ")]
        return {line[2].removesuffix("_total").removesuffix("_info") for line in lines}

    assert families(text) == families(openmetrics)


async def real_accept_headers(sidecar: Asked) -> None:
    """What Prometheus 2.42, Prometheus 3.5 and VictoriaMetrics ask with."""
    prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    prometheus_3 = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    for accept, kind in ((prometheus_2, True), (prometheus_3, True), ("text/plain;version=0.0.4;q=1,*/*;q=0.1", False)):
        assert kind is (await sidecar.scrape(accept)).openmetrics

"""dashboards/: Prometheus' own tool accepts the rules and the queries, and the alerts fire when they should and only then."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.expressions import ROOT, RULE_TESTS, RULES, alerts, plain, rules, runbook_queries, targets
from tests.requires import require

ALERTS = list(dict.fromkeys(rule["alert"] for rule in alerts()))


@pytest.fixture(scope="module")
def promtool() -> str:
    """The program; without it these tests are skipped, or fail where nothing may be skipped."""
    return require("promtool")


def _run(*command: str | Path, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=at, capture_output=True, text=True, timeout=60, check=False)


def cases(alert: str) -> list[str]:
    """The files of an alert's cases: `ALERT.yaml`, and `ALERT.SPECIAL.yaml` for what is evaluated at another interval."""
    return sorted(path.name for path in RULE_TESTS.glob("*.yaml") if alert == path.name.split(".")[0])


def _with_rules(directory: Path, document: Any) -> Path:
    """A copy of the rule tests beside other rules; returns where the tests are."""
    (directory / RULES.name).write_text(yaml.safe_dump(document))
    tests = directory / RULE_TESTS.name
    tests.mkdir()
    for path in RULE_TESTS.glob("*.yaml"):
        (tests / path.name).write_bytes(path.read_bytes())
    return tests


def test_the_rules_are_clean(promtool: str) -> None:
    """promtool's linter has nothing to say, and sees every rule."""
    done = _run(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES, at=RULES.parent)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules())} rules found" in done.stdout


@pytest.mark.parametrize("alert", ALERTS)
def test_the_alert_fires_when_it_should_and_only_then(promtool: str, alert: str) -> None:
    """All cases of the alert's files, labels and annotations in full."""
    done = _run(promtool, "test", "rules", *cases(alert), at=RULE_TESTS)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.parametrize("alert", ALERTS)
@pytest.mark.parametrize("hold", ["0s", "9d"])
def test_the_cases_notice_another_patience(promtool: str, tmp_path: Path, alert: str, hold: str) -> None:
    """An alert that fires at once breaks a near miss, and one that waits for ever breaks a case in which it must fire."""
    document = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        if rule.get("alert") == alert:
            rule["for"] = hold
    done = _run(promtool, "test", "rules", *cases(alert), at=_with_rules(tmp_path, document))
    assert 1 == done.returncode, done.stdout
    assert "FAILED" in done.stdout + done.stderr


def expanded(values: str) -> list[str]:
    """A series of promtool's notation, sample by sample: `a+bxN`, `axN`, `_xN`, single values."""
    samples: list[str] = []
    for item in values.split():
        repeated = re.fullmatch(r"(_|-?[0-9.]+)(?:([+-][0-9.]+))?x([0-9]+)", item)
        if repeated is None:
            samples.append(item)
        elif repeated[1] == "_":
            samples += ["_"] * int(repeated[3])
        else:
            first, step = float(repeated[1]), float(repeated[2] or 0)
            samples += [f"{first + place * step:.12g}" for place in range(int(repeated[3]) + 1)]
    return samples


def seconds(duration: str) -> int:
    """Of a duration as the cases write it."""
    return sum(
        int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"([0-9]+)([hms])", duration)
    )


def gaps(alert: str) -> Iterator[Any]:
    """Of each moment in which an alert must fire: its case, with a scrape that failed half a minute before."""
    for file in cases(alert):
        document = yaml.load((RULE_TESTS / file).read_text(), yaml.BaseLoader)  # `0x40` is a text here, and no number
        for case in document["tests"]:
            every_s = seconds(case["interval"])
            for check in case["alert_rule_test"]:
                place = (seconds(check["eval_time"]) - 30) // every_s
                series = [(one["series"], expanded(one["values"])) for one in case["input_series"]]
                failed = [
                    {
                        "series": name,
                        "values": " ".join(
                            ["stale" if at == place and sample != "_" else sample for at, sample in enumerate(samples)]
                        ),
                    }
                    for name, samples in series
                ]
                if check.get("exp_alerts") and every_s <= 60:
                    labels = [{"exp_labels": one["exp_labels"]} for one in check["exp_alerts"]]
                    yield document | {
                        "tests": [case | {"input_series": failed, "alert_rule_test": [check | {"exp_alerts": labels}]}]
                    }


@pytest.mark.parametrize("alert", sorted(set(ALERTS) - {"SyncwatchAbsent", "SyncwatchTargetDown"}))
def test_a_scrape_that_fails_ends_no_alert(promtool: str, tmp_path: Path, alert: str) -> None:
    """Prometheus forgets at once what a failed scrape did not bring: an alert that asked for it would begin anew. (Two alerts are about failed scrapes.)"""
    document = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        rule.pop("annotations", None)
    tests = _with_rules(tmp_path, document)
    found = list(gaps(alert))
    assert found
    for place, case in enumerate(found):
        (tests / f"gap{place}.yaml").write_text(yaml.safe_dump(case))
    done = _run(promtool, "test", "rules", *(f"gap{place}.yaml" for place in range(len(found))), at=tests)
    assert 0 == done.returncode, done.stdout + done.stderr


CLUSTERS = """\
rule_files: [syncwatch.rules.yaml]
evaluation_interval: 30s
tests:
  - interval: 30s
    input_series:
{series}
    alert_rule_test:
      - eval_time: 20m
        alertname: SyncwatchConnectionDown
        exp_alerts:
          - exp_labels: {{cluster: eu, upstream: "https://eu.example:443", {labels}}}
          - exp_labels: {{cluster: us, upstream: "https://us.example:443", {labels}}}
      - eval_time: 20m
        alertname: SyncwatchUpstreamDown
        exp_alerts:
          - exp_labels: {{cluster: eu, upstream: "http://relay.default.svc:80", severity: critical}}
"""


def test_several_clusters_are_told_apart_as_the_page_says(promtool: str, tmp_path: Path) -> None:
    """docs/alerts.md: one command gives both files the label; the same pod in two clusters is then two, each with its own server; an address that both know is two servers."""
    (command,) = re.findall(r"```sh\n(sed -i .*)\n```", (ROOT / "docs" / "alerts.md").read_text())
    series = [
        f"""      - {{series: '{metric}{{cluster="{cluster}",job="sidecars",instance="prod/agent-0",connection="cast",{more}}}', values: '{values}'}}"""
        for cluster in ("eu", "us")
        for metric, more, values in (
            ("syncwatch_connection_info", f'upstream="https://{cluster}.example:443"', "1x60"),
            ("syncwatch_connection_state_seconds_total", 'state="reconnecting"', "0+30x60"),
        )
    ]
    series += [
        f"""      - {{series: '{metric}{{cluster="{cluster}",job="sidecars",instance="prod/{name}",connection="cast",{more}}}', values: '{values}'}}"""
        for cluster, state in (("eu", "reconnecting"), ("us", "open"))
        for name in "abc"
        for metric, more, values in (
            ("syncwatch_connection_info", 'upstream="http://relay.default.svc:80"', "1x60"),
            ("syncwatch_connection_state_seconds_total", f'state="{state}"', "0+30x60"),
        )
    ]
    labels = "job: sidecars, instance: prod/agent-0, connection: cast, severity: warning"
    document = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        rule.pop("annotations", None)
    (tmp_path / "case.yaml").write_text(CLUSTERS.format(series="\n".join(series), labels=labels))
    (tmp_path / RULES.name).write_text(yaml.safe_dump(document, width=9999))
    (tmp_path / "alertmanager.yaml").write_bytes((RULES.parent / "alertmanager.yaml").read_bytes())
    assert 1 == _run(promtool, "test", "rules", "case.yaml", at=tmp_path).returncode
    assert 0 == _run(*shlex.split(command), at=tmp_path).returncode
    done = _run(promtool, "test", "rules", "case.yaml", at=tmp_path)
    assert 0 == done.returncode, done.stdout + done.stderr
    equal = [one["equal"] for one in yaml.safe_load((tmp_path / "alertmanager.yaml").read_text())["inhibit_rules"]]
    assert all("cluster" in labels for labels in equal)


def test_prometheus_parses_every_query(promtool: str, tmp_path: Path) -> None:
    """Dashboards and runbooks, in Prometheus' own parser: each query as a recording rule, which is checked and never run."""
    queries = [*(target.expression for target in targets()), *(query for _, query in runbook_queries())]
    recorded = [{"record": f"query:{place}", "expr": plain(query)} for place, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    done = _run(promtool, "check", "rules", file, at=tmp_path)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout

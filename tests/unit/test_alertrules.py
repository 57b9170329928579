"""syncwatch check rules: what asks syncwatch in vain is named with its line, and what is right passes."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from syncwatch.alertrules import NOTHING, check
from syncwatch.cli import main
from tests.expressions import ROOT, RULES, rules


def mistakes(tmp_path: Path, text: str) -> list[str]:
    """What is said about a file, without its path."""
    file = tmp_path / "rules.yaml"
    file.write_text(dedent(text))
    return [line.removeprefix(f"{file}:").lstrip() for one in check([str(file)]) for line in one.mistakes]


def test_the_shipped_rules_pass() -> None:
    """All of them."""
    done = CliRunner().invoke(main, ["check", "rules", str(RULES)])
    assert (0, f"{RULES}: ok, {len(rules())} rules\n") == (done.exit_code, done.output)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("syncwatch_unverified_secnds > 300", "syncwatch_unverified_secnds is exported by no syncwatch of this version; did you mean syncwatch_unverified_seconds?"),
        ("up) > 1", ") closes nothing that is open"),
        ("up", ""),
    ],
)
def test_expressions_are_judged(tmp_path: Path, expression: str, said: str) -> None:
    """What is wrong with one is said with its line and its rule's name."""
    found = mistakes(tmp_path, f"groups: [{{name: g, rules: [{{alert: A, expr: '{expression}'}}]}}]")
    assert ([f"1: alert A: {said}"] if said else []) == found


def test_structure(tmp_path: Path) -> None:
    """Each mistake with its line."""
    text = """\
        groups:
          - name: one
            interval: 1 minute
            rules:
              - alert: A
                expr: up == 0
                form: 5m
                for: 5 m
              - expr: up
              - record: a b
                expr: up
              - alert: B
              - record: c:d
                expr: up
                for: 5m
                labels: [a]
          - name: one
          - rules: []
          - 7
        """
    assert [
        "3: interval is a duration such as 5m, not '1 minute'",
        "7: alert A has no key form; did you mean for?",
        "8: alert A: for is a duration such as 5m, not '5 m'",
        "9: a rule has either alert or record",
        "10: record a b is no name of a metric",
        "12: alert B has no expr",
        "15: record c:d has no key for",
        "16: record c:d: labels is a mapping",
        "17: there are two groups one",
        "17: group one has no rules",
        "18: a group without a name",
        "19: a group is a mapping",
    ] == mistakes(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", NOTHING),
        ("[]", NOTHING),
        ("rules: []", NOTHING),
        ("kind: ConfigMap\n---\nkind: List\nitems: []", NOTHING),
        ("groups: {}", "1: groups is a list"),
        ("groups: [", "1: not YAML: expected the node content, but found '<stream end>'"),
        ("kind: PrometheusRule\nspec: {}", "1: there are no groups"),
        ("kind: ConfigMap\n---\nkind: PrometheusRule", "3: there are no groups"),
        ("kind: PrometheusRule\nspec: 7", "2: spec is a mapping"),
    ],
)
def test_what_is_no_file_of_rules(tmp_path: Path, text: str, said: str) -> None:
    """Said in one sentence."""
    assert [said] == mistakes(tmp_path, text)


def test_a_prometheusrule_is_read_too(tmp_path: Path) -> None:
    """The groups stand below `spec`."""
    text = """\
        apiVersion: monitoring.coreos.com/v1
        kind: PrometheusRule
        metadata: {name: mine}
        spec:
          groups:
            - name: g
              rules:
                - alert: A
                  expr: syncwatch_degradet == 1
        """
    assert ["9: alert A: syncwatch_degradet is exported by no syncwatch of this version; did you mean syncwatch_degraded?"] == mistakes(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, or no text; exit code 2."""
    missing = tmp_path / "missing.yaml"
    done = CliRunner().invoke(main, ["check", "rules", str(missing)])
    assert (2, f"{missing}: No such file or directory\n") == (done.exit_code, done.stderr)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (checked,) = check([str(tmp_path / "binary")])
    assert [f"{tmp_path / 'binary'}: not UTF-8"] == checked.mistakes


KUBERNETES = """\
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: one}
spec:
  groups:
    - name: g
      rules:
        - alert: A
          expr: syncwatch_degradet == 1
---
---
groups:
  - name: g
    rules:
      - alert: B
        expr: syncwatch_connection_upp == 0
---
kind: List
items:
  - kind: ConfigMap
    data: {groups: 7}
  - kind: PrometheusRule
    spec:
      groups:
        - name: g
          rules:
            - alert: C
              expr: syncwatch_watcher_upp == 0
"""


def test_every_document_with_rules_is_read(tmp_path: Path) -> None:
    """PrometheusRules, groups and the items of a List, each with its line in the file, and with groups of its own; other kinds are passed over."""
    end = "is exported by no syncwatch of this version; did you mean"
    assert [
        f"14: alert A: syncwatch_degradet {end} syncwatch_degraded?",
        f"21: alert B: syncwatch_connection_upp {end} syncwatch_connection_up?",
        f"33: alert C: syncwatch_watcher_upp {end} syncwatch_watcher_up?",
    ] == mistakes(tmp_path, KUBERNETES)


def test_what_stands_above_a_mistake_of_yaml_is_read_too(tmp_path: Path) -> None:
    """Both are named, in their order."""
    found = mistakes(tmp_path, KUBERNETES.partition("---\ngroups")[0] + "---\ngroups: [")
    assert ["14: alert A: syncwatch_degradet", "17: not YAML: expected the node content, but found '<stream end>'"] == [line.partition(" is exported")[0] for line in found]


def test_what_ships_for_kubernetes_passes(tmp_path: Path) -> None:
    """All of the base in one file, as `kubectl kustomize` prints it, counts the shipped rules."""
    file = tmp_path / "base.yaml"
    file.write_text("\n---\n".join(path.read_text() for path in sorted((ROOT / "deploy" / "base").glob("*.yaml"))))
    done = CliRunner().invoke(main, ["check", "rules", str(file)])
    assert (0, f"{file}: ok, {len(rules())} rules\n") == (done.exit_code, done.output)


@pytest.mark.parametrize(
    "text",
    [
        "groups: [{name: g, rules: }]",
        "groups: [{name: g, rules: []}]",
        "kind: List\nitems: [&rule {kind: PrometheusRule, spec: {groups: []}}, *rule]",
        "&all {kind: List, items: [*all, {kind: PrometheusRule, spec: {groups: []}}]}",
    ],
)
def test_what_holds_no_rule_yet_is_no_mistake(tmp_path: Path, text: str) -> None:
    """Empty, or said twice by an alias, or leading to itself."""
    assert [] == mistakes(tmp_path, text)


def test_what_rules_record_is_known_in_all_files(tmp_path: Path) -> None:
    """Above or below, in this file or another one; alone, a file that asks for what another one records is told so."""
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text("groups: [{name: g, rules: [{alert: A, expr: syncwatch_sli < 1}, {alert: B, expr: syncwatch_beyond < 1}]}, {name: h, rules: [{record: syncwatch_sli, expr: up}]}]")
    other.write_text("kind: PrometheusRule\nspec: {groups: [{name: g, rules: [{record: syncwatch_beyond, expr: up}]}]}")
    done = CliRunner().invoke(main, ["check", "rules", str(one), str(other)])
    assert (0, f"{one}: ok, 3 rules\n{other}: ok, 1 rule\n") == (done.exit_code, done.output)
    done = CliRunner().invoke(main, ["check", "rules", str(one)])
    assert (2, f"{one}:1: alert B: syncwatch_beyond is exported by no syncwatch of this version\n") == (done.exit_code, done.stderr)


def test_the_mistakes_of_all_files_are_named(tmp_path: Path) -> None:
    """In their order, and none is called good then."""
    good, missing = tmp_path / "good.yaml", tmp_path / "missing.yaml"
    good.write_text("groups: []")
    done = CliRunner().invoke(main, ["check", "rules", str(missing), str(good), str(tmp_path)])
    assert (2, "", f"{missing}: No such file or directory\n{tmp_path}: Is a directory\n") == (done.exit_code, done.stdout, done.stderr)

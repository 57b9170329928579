"""syncwatch check rules: what asks syncwatch in vain is named with its line, and what is right passes."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from syncwatch.alertrules import check
from syncwatch.cli import main
from tests.expressions import RULES, rules


def mistakes(tmp_path: Path, text: str) -> list[str]:
    """What is said about a file, without its path."""
    file = tmp_path / "rules.yaml"
    file.write_text(dedent(text))
    return [line.removeprefix(f"{file}:").lstrip() for line in check(str(file)).mistakes]


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
        ("", "a file of rules is a mapping"),
        ("[]", "1: a file of rules is a mapping"),
        ("rules: []", "1: there are no groups"),
        ("groups: {}", "1: groups is a list"),
        ("groups: [", "1: not YAML: expected the node content, but found '<stream end>'"),
        ("kind: PrometheusRule\nspec: {}", "1: there are no groups"),
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
    assert [f"{tmp_path / 'binary'}: not UTF-8"] == list(check(str(tmp_path / "binary")).mistakes)

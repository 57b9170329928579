"""docs/runbooks: a page for every alert, a section for every reason, and nothing in them that does not exist."""

from __future__ import annotations

import re

import pytest

from dashboards.links import RUNBOOKS_URL
from syncwatch.core.health import Reason
from tests.expressions import BOARDS, RUNBOOKS, alerts, problems, runbook_queries, selections

SEVERITIES = {rule["alert"]: rule["labels"]["severity"] for rule in reversed(alerts())}
"""Of several rules of one alert, the first and fastest one's."""

COMMANDS = {"run", "demo", "relay", "status", "gate", "check config", "tps join"}


def test_every_runbook_belongs_to_an_alert() -> None:
    """One page per alert, and the page of reasons."""
    assert {f"{alert}.md" for alert in SEVERITIES} | {"reasons.md"} == {path.name for path in RUNBOOKS.glob("*.md")}


@pytest.mark.parametrize("alert", SEVERITIES)
def test_runbook(alert: str) -> None:
    """The four sections in order, the severity as in the rule, and commands to type."""
    text = (RUNBOOKS / f"{alert}.md").read_text()
    assert re.match(rf"# {alert}\n\nSeverity: {SEVERITIES[alert]}(\.| for the windows )", text)
    assert ["Meaning", "Impact", "Diagnosis", "Mitigation"] == re.findall(r"^## (.+)$", text, re.MULTILINE)
    diagnosis = text.split("## Diagnosis")[1].split("## Mitigation")[0]
    assert "```promql" in diagnosis
    assert "syncwatch status" in diagnosis


def test_every_reason_has_a_section() -> None:
    """A heading that is exactly the reason, so that #reason leads to it; something to read; the order of gravity."""
    parts = re.split(r"^## (.+)$", (RUNBOOKS / "reasons.md").read_text(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert [str(reason) for reason in Reason] == list(sections)
    for text in sections.values():
        assert len(re.findall(r"\n\n(?=\S)", text.strip())) >= 1, "what it means, and what to do"


def test_runbook_queries_read_what_is_exported() -> None:
    """What is to be pasted into Prometheus parses and asks for what exists."""
    queries = list(runbook_queries())
    assert set(SEVERITIES) == {page.removesuffix(".md") for page, _ in queries}
    for page, query in queries:
        assert [] == [problem for one in selections(query) for problem in problems(one)], page


def test_runbook_commands_exist() -> None:
    """Every `syncwatch` command in a block or a sentence is one of the program's."""
    used: set[str] = set()
    for page in RUNBOOKS.glob("*.md"):
        used |= set(re.findall(r"(?:^|`|-- )syncwatch ((?:check |tps )?[a-z]+)", page.read_text(), re.MULTILINE))
    assert used
    assert used <= COMMANDS


def test_the_sidecar_is_asked_by_its_own_program() -> None:
    """What stands behind the local listener is typed as `syncwatch …`: the image has no curl, and the program knows address and token itself."""
    blocks = [block for page in RUNBOOKS.glob("*.md") for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)]
    assert any("syncwatch status --json" in block for block in blocks)
    assert [] == [line for block in blocks for line in block.splitlines() if ":10120" in line]


def test_links_lead_somewhere() -> None:
    """Links between pages, and from dashboards to pages, name a page that exists and a heading that it has."""
    found = [
        (match[1] or page.name, match[2])
        for page in RUNBOOKS.glob("*.md")
        for match in re.finditer(r"\]\(([\w.]*)(?:#(\w+))?\)", page.read_text())
    ]
    urls = set(
        re.findall(re.escape(RUNBOOKS_URL) + r"/([\w.]+)", "".join(path.read_text() for path in BOARDS.glob("*")))
    )
    assert {f"{alert}.md" for alert in SEVERITIES} | {"reasons.md"} == urls
    for page_name, heading in (*found, *((url, "") for url in urls)):
        text = (RUNBOOKS / page_name).read_text()
        assert not heading or f"\n## {heading}\n" in text, (page_name, heading)

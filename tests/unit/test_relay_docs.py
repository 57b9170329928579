"""docs/relay.md: every fault, fact and option is there, its script plays, its Python runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec

from syncwatch.cli import relay
from syncwatch.relay import kinds, logfacts
from syncwatch.relay.ledger import Fact
from syncwatch.relay.script import load

PAGE = (Path(__file__).parents[2] / "docs/relay.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """A part of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def named(text: str) -> set[str]:
    """Names in the first column of its tables."""
    return {name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`([\w-]+)", row)}


def test_every_fault_is_described() -> None:
    """And no other."""
    assert {kinds.name_of(kind) for kind in kinds.AnyFault.__args__} == named(section("Faults"))


def test_every_field_of_a_fault_is_described() -> None:
    """In the row of its fault; the fields that all faults have are named before."""
    told = section("Faults")
    common = {field.encode_name for field in msgspec.structs.fields(kinds.FaultSpec)}
    assert {"agent", "protocol", "times"} == common == {name for name in common if f"`{name}`" in told.partition("\n| fault | does |")[0]}
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", told.partition("<!-- fields: generated -->\n")[2], re.MULTILINE))
    for kind in kinds.AnyFault.__args__:
        fields = {field.encode_name for field in msgspec.structs.fields(kind)} - common
        named_there = set(re.findall(r"(?:^|; )`(\w+)`", rows[kinds.name_of(kind)])) - common
        assert fields == named_there, kinds.name_of(kind)
    assert "`after` 0 or more; `then` `ack`, `drop`, `no_ack` (`ack`); `claim` `all`, `sent` (`all`)" == rows["cut_replay"]
    assert "`retry_after_s` 0 to 86400 or `null` (`1`)" == rows["rate_limit"].split("; ")[0]
    assert ("`delay_s` 0 to 86400", "no others") == (rows["slow_pong"], rows["hang"])


def test_every_fact_is_described() -> None:
    """And no other."""
    assert logfacts.Published in Fact.__subclasses__()
    assert {str(kind.__struct_config__.tag) for kind in Fact.__subclasses__()} == named(section("Facts"))


def test_every_option_is_described() -> None:
    """And no other."""
    assert {option.opts[0] for option in relay.params} == named(section("At the command line"))


def test_the_script_can_be_played() -> None:
    """As it stands."""
    (shown,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert 4 == len(load(shown, "relay.md").steps)


def test_the_python_runs() -> None:
    """In a process of its own, warnings being errors."""
    (shown,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run([sys.executable, "-W", "error", "-c", shown], capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (done.returncode, done.stderr)

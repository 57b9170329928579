"""What the probes say, to the byte: the format that people know from the Kubernetes API server."""

from __future__ import annotations

from syncwatch.core.health import Check, HealthSnapshot
from syncwatch.exposition.probes import Probe, single, verdict
from tests.unit.snapshots import health

TASKS = Check("tasks", True)
CAST = Check("connection/cast", True)
DOWN = Check("connection/files", False, "reconnecting for 2 min at 10.1.2.3")


def having(*checks: Check) -> HealthSnapshot:
    """Health whose readyz has these checks."""
    return health(checks={"readyz": checks})


def test_success_is_two_letters() -> None:
    """Nothing but `ok`, and 200."""
    found = verdict(having(TASKS, CAST), Probe.READYZ)
    assert (200, "ok") == (found.status, found.text)


def test_verbose_lists_every_check() -> None:
    """One line per check in order, then the verdict."""
    found = verdict(having(TASKS, CAST), Probe.READYZ, verbose=True)
    assert (200, "[+]tasks ok\n[+]connection/cast ok\nreadyz check passed\n") == (found.status, found.text)


def test_a_failure_is_verbose_and_withholds_its_reason() -> None:
    """503, always with the names, never with the details."""
    expected = "[+]tasks ok\n[-]connection/files failed: reason withheld\nreadyz check failed\n"
    for verbose in (False, True):
        found = verdict(having(TASKS, DOWN), Probe.READYZ, verbose=verbose)
        assert (503, expected) == (found.status, found.text)


def test_an_excluded_check_cannot_fail() -> None:
    """It is named as excluded, whether it would have failed or not."""
    found = verdict(having(TASKS, DOWN), Probe.READYZ, verbose=True, exclude=["connection/files"])
    assert (200, "[+]tasks ok\n[+]connection/files excluded: ok\nreadyz check passed\n") == (found.status, found.text)
    assert "ok" == verdict(having(TASKS, DOWN), Probe.READYZ, exclude=["connection/files"]).text


def test_an_unknown_exclusion_changes_nothing_but_warns() -> None:
    """The names are quoted, sorted, and named once; a success that is not verbose stays `ok`."""
    found = verdict(having(TASKS), Probe.READYZ, verbose=True, exclude=["zeta", "al\npha", "zeta", "tasks"])
    warning = 'warn: some health checks cannot be excluded: no matches for "al\\npha","zeta"\n'
    assert f"[+]tasks excluded: ok\n{warning}readyz check passed\n" == found.text
    assert "ok" == verdict(having(TASKS), Probe.READYZ, exclude=["zeta"]).text
    assert 503 == verdict(having(DOWN), Probe.READYZ, exclude=["connection"]).status


def test_each_probe_reads_its_own_checks() -> None:
    """What fails readyz leaves livez and healthz alone."""
    checks = {"livez": (TASKS,), "healthz": (TASKS,), "readyz": (DOWN,)}
    found = {probe: verdict(health(checks=checks), probe).status for probe in Probe}
    assert {Probe.LIVEZ: 200, Probe.HEALTHZ: 200, Probe.READYZ: 503} == found
    assert "healthz check passed\n" == verdict(health(checks={}), Probe.HEALTHZ, verbose=True).text


def test_a_single_check_speaks_for_itself() -> None:
    """`ok`, or its line; a name that no check has is told apart from a failure."""
    checks = having(TASKS, DOWN)
    fine, bad = single(checks, Probe.READYZ, "tasks"), single(checks, Probe.READYZ, "connection/files")
    assert fine is not None
    assert bad is not None
    assert (200, "ok") == (fine.status, fine.text)
    assert (503, "[-]connection/files failed: reason withheld\n") == (bad.status, bad.text)
    assert single(checks, Probe.READYZ, "connection") is None
    assert single(checks, Probe.LIVEZ, "tasks") is None

"""The gate file of a real sidecar: it follows `/gate` through an outage, a stop and a kill."""

from __future__ import annotations

from pathlib import Path

from tests.integration.sidecar import PROMPTLY_S, holds, rig


async def test_it_follows_the_gate(tmp_path: Path) -> None:
    """There when it is open, gone while it is closed, gone after SIGTERM."""
    gate = tmp_path / "gate"
    async with rig(tmp_path, gate_file=str(gate)) as it, it.sidecar() as sidecar:
        await holds(gate.exists)
        assert 200 == (await sidecar.gate())[0]
        with it.relay.faults.outage(status=503):
            await holds(lambda: not gate.exists())
            assert 503 == (await sidecar.gate())[0]
        await holds(gate.exists)
        assert {"failures": 0} == (await sidecar.status())["sidecar"]["gate_file"]
        await sidecar.logged("gate", lambda lines: len(lines) >= 8)
        code, took_s = await sidecar.end()
        assert (0, False) == (code, gate.exists())
        assert took_s < PROMPTLY_S
        told = [one["open"] for one in sidecar.log("gate") if one["purpose"] == "read"]
        assert [False, True, False, True] == told[:4]


async def test_what_a_killed_sidecar_left_is_removed_at_the_start(tmp_path: Path) -> None:
    """Although the server cannot be reached."""
    gate = tmp_path / "gate"
    gate.touch()
    async with rig(tmp_path, gate_file=str(gate)) as it:
        with it.relay.faults.hanging():
            async with it.sidecar(opened=False) as sidecar:
                assert not gate.exists()
                assert 503 == (await sidecar.gate())[0]


async def test_a_gate_file_that_cannot_be_made_is_not_fatal(tmp_path: Path) -> None:
    """It is said and counted; everything else goes on."""
    async with rig(tmp_path, gate_file=str(tmp_path / "nowhere" / "gate")) as it, it.sidecar() as sidecar:
        line = await sidecar.said("the gate file cannot follow the gate")
        assert "no such file or directory" == line["error"]
        assert (200, 200) == ((await sidecar.gate())[0], (await sidecar.probe("/readyz"))[0])
        assert (await sidecar.status())["sidecar"]["gate_file"]["failures"] > 0
        assert 0 == (await sidecar.end())[0]

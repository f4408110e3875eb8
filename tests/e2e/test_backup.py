"""A backup of a stack at work, put back where nothing is: nothing is lost, and work goes on."""

import json
import sys
from pathlib import Path

import pytest

from octarm.cli.stack.supervisor import running_stack
from octarm.models.states import TaskState
from octarm.sdk import Client
from tests.e2e.conftest import COMMAND_S, Up
from tests.support.wait import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

NAPPER = {"napper": (sys.executable, "-m", "tests.support.napping_arm")}


async def test_what_was_backed_up_is_there_again_and_what_was_open_is_done(
    up: Up, tmp_path: Path
) -> None:
    backup, data = tmp_path / "backup", tmp_path / "new"
    async with Client(up.nats) as client:
        done = await client.submit(
            goal="count", required_capabilities=["shell"], context={"command": "echo kept"}
        )
        await done.result(timeout=COMMAND_S)
        # Nobody here can do it: it is open in the backup.
        nap = {"nap_s": 0, "number": 7}
        task = await client.submit(goal="nap", required_capabilities=["nap"], context=nap)
        taken = up.octarm("backup", str(backup), "--json")
        again = up.octarm("backup", str(backup))
        await task.cancel()

    assert taken.returncode == 0, taken.stderr
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert backup.stat().st_mode & 0o077 == 0
    restored = up.octarm("restore", str(backup), "--data", str(data), "--json")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["rows"] == json.loads(taken.stdout)["rows"]

    async with (
        running_stack(data, extra_arms=NAPPER) as stack,
        Client(stack.urls.nats) as client,
    ):
        reconciled = up.octarm("ledger", "reconcile", "--data", str(data), "--assume-empty")
        assert reconciled.returncode == 0, reconciled.stderr
        result = await client.task(task.id).result(timeout=COMMAND_S)
        assert result.output == {"number": 7}
        kept = await client.task(done.id).show()
        assert kept.state is TaskState.COMPLETED
        assert (await client.task(done.id).result()).output["stdout"] == "kept\n"  # type: ignore[index,call-overload]

        async def all_is_well() -> bool:
            verified = up.octarm("ledger", "verify", "--data", str(data), "--live")
            return verified.returncode == 0

        await wait_until(all_is_well, COMMAND_S)

    examined = up.octarm("doctor", "--cluster", "--json")
    checks = {check["name"]: check for check in json.loads(examined.stdout)}
    assert {check["verdict"] for check in checks.values()} == {"ok"}, checks
    assert checks["schema memory"]["found"].startswith("migration ")
    refused = up.octarm("restore", str(backup), "--data", str(data))
    assert refused.returncode == 1
    assert "--replace" in refused.stderr

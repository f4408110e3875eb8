"""`octarm up` as a person uses it: start, work, look, stop, go on."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.wait import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
OCTARM = (sys.executable, "-m", "octarm.cli")
ROLES = {
    *("supervisor", "nats", "redis", "postgres"),
    *("arm-registry", "orchestrator", "scheduler", "memory", "gateway", "executor"),
}


async def test_work_outlives_the_stack_that_did_it_and_no_process_does(tmp_path: Path) -> None:
    async with _up(tmp_path) as first:
        assert set(json.loads((tmp_path / "up.json").read_text())["pids"]) == ROLES
        ran = await _octarm(
            tmp_path, "run", "Count", "--arm", "executor", "-c", "command=echo one two | wc -w"
        )
        assert "2" in ran.splitlines()
        (task,) = json.loads(await _octarm(tmp_path, "tasks", "list", "--json"))
        await _stop(first)

    async with _up(tmp_path) as second:
        again = json.loads(await _octarm(tmp_path, "tasks", "get", task["task_id"], "--json"))
        assert again["state"] == "completed"
        ran = await _octarm(
            tmp_path, "run", "Greet", "--arm", "executor", "-c", "command=echo again"
        )
        assert "again" in ran.splitlines()
        await _stop(second)


@asynccontextmanager
async def _up(data: Path) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    process = await asyncio.create_subprocess_exec(
        *(*OCTARM, "up", "--data", str(data), "--arms", "executor"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"ready "):
                break
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _stop(process: asyncio.subprocess.Process) -> None:
    root = psutil.Process(process.pid)
    family = [root.pid, *(child.pid for child in root.children(recursive=True))]
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    await wait_until(lambda: not any(psutil.pid_exists(pid) for pid in family))


async def _octarm(data: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(*OCTARM, *arguments),
        env={**os.environ, "OCTARM_DATA": str(data)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, complaint.decode()
    return output.decode()

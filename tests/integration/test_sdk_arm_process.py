"""An arm as a process of its own: settings, health pages, SIGTERM."""

import asyncio
import os
import signal
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from octarm.cli.stack.ports import free_port
from tests.support.arm_stage import ArmStage, a_command, a_task, an_arm_stage
from tests.support.processes import a_python_process
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

STUBBORN = """
import asyncio
from octarm.sdk import Arm

arm = Arm("worker", capabilities={"work"})

@arm.run
async def work(task):
    if task.goal == "quick":
        return "done"
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

arm.main()
"""


@asynccontextmanager
async def an_arm_process(
    stage: ArmStage, folder: Path, **settings: str
) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    script = folder / "arm.py"
    script.write_text(STUBBORN)
    environment = os.environ | {"OCTARM_NATS_URL": stage.url, "OCTARM_HEARTBEAT_S": "0.2"}
    async with a_python_process(str(script), env=environment | settings) as process:
        yield process


def page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


async def test_leaves_on_sigterm_though_a_handler_ignores_everything(
    nats_url: str, tmp_path: Path
) -> None:
    port = free_port()
    async with (
        an_arm_stage(nats_url) as stage,
        an_arm_process(
            stage, tmp_path, OCTARM_HTTP_PORT=str(port), OCTARM_DRAIN_S="0.2"
        ) as process,
    ):
        await wait_until(lambda: stage.beats, 30)
        quick, stubborn = a_command(a_task(goal="quick")), a_command(a_task())
        await stage.dispatch("worker", quick, stubborn)
        finished = await stage.result_of(quick)
        await wait_until(lambda: any(beat.running for beat in stage.beats))
        pages = [await asyncio.to_thread(page, port, f"/{path}") for path in ("healthz", "readyz")]
        metrics = await asyncio.to_thread(page, port, "/metrics")
        process.send_signal(signal.SIGTERM)
        handed_back = await stage.result_of(stubborn, 15)
        code = await asyncio.wait_for(process.wait(), 60)
        last_beat = stage.beats[-1]

    assert finished.output == "done"
    assert handed_back.error is not None
    assert handed_back.error.code == "ARM_UNAVAILABLE"
    assert code == 0
    assert (last_beat.status, last_beat.running) == ("draining", [])
    assert all("ok" in text or "ready" in text for text in pages)
    assert 'octarm_arm_attempts_total{status="success"} 1.0' in metrics


async def test_refuses_a_wrong_setting_in_one_line(nats_url: str, tmp_path: Path) -> None:
    async with (
        an_arm_stage(nats_url) as stage,
        an_arm_process(stage, tmp_path, OCTARM_DRAIN_S="soon") as process,
    ):
        _, text = await process.communicate()

    assert process.returncode == 78
    assert len(text.decode().splitlines()) == 1
    assert "drain_s" in text.decode()

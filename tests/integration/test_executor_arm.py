"""The executor as an arm of a fleet: its process, its results, its refusals."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any

import psutil
import pytest
import pytest_asyncio

from octarm.executor.__main__ import executor
from octarm.executor.sandbox import Sandbox
from octarm.executor.settings import Settings
from octarm.models.results import ExecutionResult
from tests.support.arm_stage import ArmStage, a_command, a_task, an_arm_stage
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def stage(nats_url: str) -> AsyncGenerator[ArmStage, None]:
    async with an_arm_stage(nats_url) as stage:
        yield stage


async def run(stage: ArmStage, **fields: Any) -> ExecutionResult:
    command = a_command(a_task(**fields))
    async with stage.serving(executor(Settings(), Sandbox())):
        await stage.dispatch("executor", command)
        return await stage.result_of(command, timeout_s=15)


async def test_returns_what_the_command_wrote(stage: ArmStage) -> None:
    result = await run(stage, context={"command": "wc -w < in.txt", "files": {"in.txt": "a b c"}})

    assert result.status == "success"
    assert isinstance(result.output, dict)
    assert result.output["stdout"] == "3\n"
    assert (result.output["exit_code"], result.output["truncated"]) == (0, False)
    assert result.provenance.command_hash == hashlib.sha256(b"wc -w < in.txt").hexdigest()
    assert result.provenance.data_sources == ["in.txt"]


async def test_an_unexpected_exit_code_fails_for_good_and_keeps_the_output(stage: ArmStage) -> None:
    result = await run(stage, context={"python": "print('half'); raise SystemExit(3)"})

    assert (result.status, result.retryable) == ("failure", False)
    assert isinstance(result.output, dict)
    assert (result.output["stdout"], result.output["exit_code"]) == ("half\n", 3)
    assert result.error is not None
    assert (result.error.code, result.error.retryable) == ("VALIDATION_FAILED", False)


async def test_refuses_a_goal_without_a_command(stage: ArmStage) -> None:
    result = await run(stage, goal="please delete everything")

    assert (result.status, result.retryable) == ("failure", False)
    assert result.error is not None
    assert result.error.code == "INVALID_REQUEST"
    assert '"command"' in result.error.recovery_hint


async def test_says_what_was_written_before_time_ran_out(stage: ArmStage) -> None:
    result = await run(stage, context={"command": "echo begun; sleep 60"}, timeout_seconds=1)

    assert result.error is not None
    assert result.error.code == "EXECUTION_TIMEOUT"
    assert isinstance(result.output, dict)
    assert (result.output["stdout"], result.output["limit"]) == ("begun\n", "time")


async def test_output_that_would_not_fit_is_cut(stage: ArmStage) -> None:
    result = await run(stage, context={"python": r"print('\x00\U0001f991' * 60_000)"})

    assert result.status == "success"
    assert isinstance(result.output, dict)
    assert result.output["truncated"] is True


async def test_a_cancelled_command_is_gone_at_once(stage: ArmStage) -> None:
    marker = f"octarm-{time.monotonic_ns()}"
    line = f"trap '' TERM; while :; do sleep 1; : {marker}; done"
    command = a_command(a_task(context={"command": line}))

    def lives() -> bool:
        found = (p.info["cmdline"] or () for p in psutil.process_iter(["cmdline"]))
        return any(marker in word for words in found for word in words)

    async with stage.serving(executor(Settings(), Sandbox())):
        await stage.dispatch("executor", command)
        await wait_until(lives)
        await stage.cancel("executor", command, "no longer needed")
        result = await stage.result_of(command, timeout_s=3)

    assert result.error is not None
    assert result.error.code == "CANCELLED"
    await wait_until(lambda: not lives())


class TestProcess:
    def start(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "octarm.executor", *arguments],
            env={**os.environ, "OCTARM_NATS_URL": "nats://127.0.0.1:1", **env},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def test_refuses_to_start_without_bubblewrap(self, tmp_path: Any) -> None:
        code = (
            "import os, runpy; os.defpath = '/nonexistent'; "
            "runpy.run_module('octarm.executor', run_name='__main__')"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

        assert ended.returncode == 78
        assert ended.stderr.count("\n") == 1
        assert "install bubblewrap" in ended.stderr

    def test_refuses_a_bad_setting_in_one_line(self) -> None:
        with self.start(OCTARM_EXECUTOR_SLOTS="many") as process:
            _, err = process.communicate(timeout=30)

        assert process.returncode == 78
        assert err.count("\n") == 1
        assert "slots" in err

    async def test_serves_in_little_memory_and_drains(self, stage: ArmStage) -> None:
        with self.start(OCTARM_NATS_URL=stage.url, OCTARM_HEARTBEAT_S="0.2") as process:
            await wait_until(lambda: stage.beats, timeout_s=20)
            command = a_command(a_task(context={"command": ["echo", "hello"]}))
            await stage.dispatch("executor", command)
            result = await stage.result_of(command, timeout_s=15)
            rss_mib = psutil.Process(process.pid).memory_info().rss / 2**20
            process.terminate()
            process.communicate(timeout=30)

        assert result.status == "success"
        assert process.returncode == 0
        assert rss_mib < 120

    async def test_unsafe_warns_loudly_and_still_limits(self, stage: ArmStage) -> None:
        env = {"OCTARM_NATS_URL": stage.url, "OCTARM_HEARTBEAT_S": "0.2"}
        with self.start("--unsafe", OCTARM_EXECUTOR_WALL_S="1", **env) as process:
            await wait_until(lambda: stage.beats, timeout_s=20)
            context = {"command": "cat given; pwd; sleep 60", "files": {"given": "text\n"}}
            command = a_command(a_task(context=context))
            await stage.dispatch("executor", command)
            result = await stage.result_of(command, timeout_s=15)
            process.terminate()
            _, err = process.communicate(timeout=30)

        assert "WITHOUT ISOLATION" in err
        assert isinstance(result.output, dict)
        assert str(result.output["stdout"]).startswith("text\n/")
        assert result.output["limit"] == "time"

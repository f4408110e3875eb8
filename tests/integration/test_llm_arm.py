"""The llm arm as an arm of a fleet, on the real local model and on a server."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

import psutil
import pytest
import pytest_asyncio

from octarm.llm.__main__ import llm, provider_of
from octarm.llm.settings import Settings
from tests.support.arm_stage import ArmStage, a_command, a_task, an_arm_stage
from tests.support.openai_server import an_openai_server, hangs, refuses
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def stage(nats_url: str) -> AsyncGenerator[ArmStage, None]:
    async with an_arm_stage(nats_url) as stage:
        yield stage


def settings_for(url: str) -> Settings:
    return Settings(provider="openai", base_url=url, model="fake", api_key="sk-very-secret")


async def test_answers_through_a_server_and_streams_the_answer(stage: ArmStage) -> None:
    command = a_command(a_task(goal="Tell me a story.", constraints={"max_output_tokens": 9}))

    async with an_openai_server() as server:
        provider = provider_of(settings_for(server.url))
        async with stage.serving(llm(settings_for(server.url), provider)):
            await stage.dispatch("llm", command)
            result = await stage.result_of(command)
        await provider.aclose()

    assert result.status == "success"
    assert isinstance(result.output, dict)
    assert result.output["text"] == "Once upon a time an octopus with eight arms"
    assert "".join(chunk.text for chunk in stage.chunks) == result.output["text"]
    assert result.llm_calls == 1
    assert result.tokens_used > 9
    assert result.provenance.model_version == "fake-1"


async def test_a_cancelled_task_stops_the_generation(stage: ArmStage) -> None:
    command = a_command(a_task())

    async with an_openai_server(hangs) as server:
        provider = provider_of(settings_for(server.url))
        async with stage.serving(llm(settings_for(server.url), provider)):
            await stage.dispatch("llm", command)
            await wait_until(lambda: server.busy)
            await stage.cancel("llm", command)
            result = await stage.result_of(command, timeout_s=3)
            await wait_until(lambda: not server.busy)
        await provider.aclose()

    assert result.error is not None
    assert result.error.code == "CANCELLED"


async def test_a_server_that_is_overloaded_is_worth_a_retry_and_no_secret_is_shown(
    stage: ArmStage, capfd: pytest.CaptureFixture[str]
) -> None:
    command = a_command(a_task())

    busy = refuses(429, headers={"Retry-After": "300"})
    async with an_openai_server(busy) as server:
        provider = provider_of(settings_for(server.url))
        async with stage.serving(llm(settings_for(server.url), provider)):
            await stage.dispatch("llm", command)
            result = await stage.result_of(command)
        await provider.aclose()

    assert result.retryable
    assert result.error is not None
    assert (result.error.code, result.error.retry_after_seconds) == ("RATE_LIMITED", 300)
    out, err = capfd.readouterr()
    assert "sk-very-secret" not in result.model_dump_json() + out + err


class TestProcess:
    def start(self, **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "octarm.llm"],
            env={**os.environ, "OCTARM_NATS_URL": "nats://127.0.0.1:1", **env},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @pytest.mark.parametrize(
        ("env", "named"),
        [
            ({"OCTARM_LLM_PROVIDER": "magic"}, "provider"),
            ({"OCTARM_LLM_PROVIDER": "openai"}, "OCTARM_LLM_BASE_URL"),
            ({"OCTARM_LLM_MODEL": "/no/such.gguf"}, "/no/such.gguf"),
        ],
    )
    def test_refuses_to_start_with_one_clear_line(self, env: dict[str, str], named: str) -> None:
        with self.start(**env) as process:
            _, err = process.communicate(timeout=30)

        assert process.returncode == 78
        assert err.count("\n") == 1
        assert named in err

    async def test_answers_with_the_local_model_and_leaves_no_process(
        self, stage: ArmStage
    ) -> None:
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 40}},
            "required": ["city"],
            "additionalProperties": False,
        }
        plain = a_command(a_task(goal="What is the capital of France?"))
        typed = a_command(a_task(goal="Name a city.", constraints={"output_schema": schema}))
        with self.start(OCTARM_NATS_URL=stage.url, OCTARM_HEARTBEAT_S="0.2") as process:
            await wait_until(lambda: stage.beats, timeout_s=20)
            await stage.dispatch("llm", plain, typed)
            results = [await stage.result_of(c, timeout_s=40) for c in (plain, typed)]
            children = psutil.Process(process.pid).children()
            process.terminate()
            process.communicate(timeout=30)

        assert [result.status for result in results] == ["success", "success"]
        assert isinstance(results[1].output, dict)
        assert list(results[1].output) == ["city"]
        assert "SmolLM2" in str(results[0].provenance.model_version)
        assert process.returncode == 0
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive

"""A provider that answers 429 is left alone by the whole fleet until it may be asked again."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from octarm.clients.scheduler import SchedulerClient
from octarm.llm.__main__ import labels_of, llm
from octarm.llm.backoff import Backoff
from octarm.llm.openai_compatible import OpenAICompatible
from octarm.llm.settings import Settings
from octarm.models.queries import Waiting
from octarm.models.subjects import ARMS_BUCKET
from tests.support.arm_stage import ArmStage, an_arm_stage
from tests.support.openai_server import OpenAIServer, an_openai_server, answers, refuses
from tests.support.scheduler_stage import Bus, a_bus, a_scheduler
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
NEEDS_LLM: dict[str, object] = {"needs": ["llm"]}


def settings_for(server: OpenAIServer, arm_id: str) -> Settings:
    return Settings(arm_id=arm_id, provider="openai", base_url=server.url, model="fake", slots=1)


@asynccontextmanager
async def an_llm(
    stage: ArmStage, bus: Bus, server: OpenAIServer, arm_id: str
) -> AsyncGenerator[None, None]:
    """An arm on that server that gives a refusal back at once, as the directory lists it."""
    settings = settings_for(server, arm_id)
    provider = OpenAICompatible(
        base_url=server.url,
        model="fake",
        api_key=SecretStr(""),
        context_tokens=2048,
        backoff=Backoff(tries=1),
    )
    async with stage.serving(llm(settings, provider)):
        await wait_until(lambda: arm_id in stage.known)
        bucket = await bus.nc.jetstream().key_value(ARMS_BUCKET)
        await bucket.put(arm_id, stage.known[arm_id].model_dump_json().encode())
        yield
    await provider.aclose()


async def explained(bus: Bus, task_id: str, *, arms: int) -> Waiting:
    """Why a task waits, once it is for the provider."""
    scheduler = SchedulerClient(bus.nc)
    said: list[Waiting] = []

    async def held_back() -> bool:
        said.append(await scheduler.why_waiting(task_id))
        reasons = list(said[-1].arms.values())
        return sum("out of headroom" in it for it in reasons) == arms

    await wait_until(held_back, timeout_s=15)
    return said[-1]


async def test_nothing_is_placed_on_any_arm_of_a_provider_that_answered_429(nats_url: str) -> None:
    asked_at: list[float] = []

    async def busy_once(writer: Any, body: dict[str, Any]) -> None:
        asked_at.append(time.monotonic())
        reply = refuses(429, headers={"Retry-After": "6"}) if len(asked_at) == 1 else answers
        await reply(writer, body)

    async with (
        an_openai_server(*[busy_once] * 9) as server,
        an_arm_stage(nats_url) as stage,
        a_bus(nats_url) as bus,
        a_scheduler(bus),
        an_llm(stage, bus, server, "one"),
    ):
        # One slot: the second task waits until the first one has failed.
        first, second = await bus.ready(NEEDS_LLM, NEEDS_LLM)
        await wait_until(lambda: stage.results)
        async with an_llm(stage, bus, server, "two"):
            waiting = await explained(bus, second, arms=2)
            await wait_until(lambda: len(stage.results) == 2, timeout_s=30)

    key = f"{labels_of(settings_for(server, 'one'))['provider']}//fake"
    assert waiting.reason.startswith(f"provider {key} is out of headroom until ")
    assert waiting.starts_in_s is not None
    refused, answered = stage.results
    assert refused.task_id == first
    assert refused.error is not None
    assert (refused.error.code, refused.error.retry_after_seconds) == ("RATE_LIMITED", 6)
    assert (answered.task_id, answered.status) == (second, "success")
    assert asked_at[1] - asked_at[0] > 5


async def test_the_beats_of_an_arm_say_how_long_its_provider_wants_nothing(nats_url: str) -> None:
    busy = refuses(429, headers={"Retry-After": "300"})
    async with (
        an_openai_server(busy) as server,
        an_arm_stage(nats_url) as stage,
        a_bus(nats_url) as bus,
        a_scheduler(bus),
        an_llm(stage, bus, server, "one"),
    ):
        await bus.ready(NEEDS_LLM)

        await wait_until(lambda: stage.beats[-1].provider_wait_s > 0)

    assert 200 < stage.beats[-1].provider_wait_s <= 300


def test_a_local_model_has_no_headroom_to_share() -> None:
    assert labels_of(Settings()) == {}


def test_arms_with_one_key_share_its_headroom_and_the_key_is_not_shown() -> None:
    settings = Settings(
        provider="openai",
        base_url="https://user:secret@api.example.com/v1",
        api_key="sk-very-secret",
        model="large",
        credential="research",
    )

    assert labels_of(settings) == {
        "provider": "api.example.com",
        "credential": "research",
        "model": "large",
    }

"""The llm arm condenses an episode to facts: once, within a budget, and never needed."""

import json
from typing import Any

import pytest

from octarm.common.bus.requests import answer, control_plane
from octarm.common.storage import open_pool
from octarm.common.storage.migrations import upgrade
from octarm.common.testing.fakes import NOON
from octarm.llm.__main__ import llm, provider_of
from octarm.llm.settings import Settings
from octarm.memory.routes.semantic import semantic_routes
from octarm.memory.schema import MIGRATIONS, SCHEMA
from octarm.memory.usecases.condensing import AskForCondensing
from octarm.models import subjects
from octarm.models.episodes import EpisodeFound, EpisodicMemory, GetEpisode
from octarm.models.errors import NotFound
from tests.support.arm_stage import a_command, a_task, an_arm_stage
from tests.support.episodes import a_task_id, an_episode_id
from tests.support.openai_server import an_event, an_openai_server, streams, the_end
from tests.support.semantic import Memory, RecordingTasks

pytestmark = pytest.mark.integration
FACTS = ["The build takes nine minutes.", "The cache is cold on Mondays."]


def says(facts: list[str]) -> Any:
    return streams(an_event(json.dumps({"facts": facts})), the_end(30, 12))


def a_condensing(episode_id: str, **fields: Any) -> Any:
    return a_command(
        a_task(
            goal="What is worth knowing?",
            required_capabilities={"condense"},
            context={"episode_id": episode_id},
            **fields,
        )
    )


async def test_condenses_an_episode_once_and_within_the_budget(
    nats_url: str, postgres_url: str
) -> None:
    upgrade(postgres_url, MIGRATIONS, SCHEMA)
    pool = await open_pool(postgres_url, name="test", wait_s=60)
    memory = Memory(pool)
    routes = semantic_routes(memory.knowledge)
    episode = EpisodicMemory(
        episode_id=an_episode_id(1),
        tenant="acme",
        arm_id="builder",
        task_id=a_task_id(1),
        created_at=NOON,
        observations=["it took 540 s"],
        tags=["builds"],
    )

    @answer(routes, subjects.GET_EPISODE, queue="memory")
    async def get_episode(query: GetEpisode) -> EpisodeFound:
        if query.episode_id != episode.episode_id:
            raise NotFound("no such episode", code="EPISODE_NOT_FOUND")
        return EpisodeFound(episode=episode, source="redis")

    # The first is the task that memory hands in by itself.
    tasks = RecordingTasks()
    await AskForCondensing(tasks, max_tokens=4000, per_hour=1, seconds=lambda: 0.0)(episode)
    ((_, handed_in),) = tasks.submitted
    first = a_command(a_task(**handed_in.submission.model_dump(exclude_unset=True)))
    again = a_condensing(episode.episode_id)
    poor = a_condensing(episode.episode_id, budget={"max_tokens": 5})
    missing, odd = a_condensing(an_episode_id(2)), a_condensing("epi_x'; --")
    async with an_openai_server(says(FACTS)) as server:
        settings = Settings(provider="openai", base_url=server.url, model="fake", api_key="k")
        provider = provider_of(settings)
        async with (
            an_arm_stage(nats_url) as stage,
            control_plane(nats_url, routes, name="memory"),
            stage.serving(llm(settings, provider)),
        ):
            results = []
            for command in (poor, first, again, missing, odd):
                await stage.dispatch("llm", command)
                results.append(await stage.result_of(command, timeout_s=60))
        await provider.aclose()
        asked = server.bodies
    found = await memory.search("minutes monday", k=10)
    await pool.close()

    broke, kept, known, gone, refused = results
    assert broke.error is not None
    assert broke.error.code == "BUDGET_EXCEEDED"
    output: Any = kept.output
    assert [one["content"] for one in output["memories"]] == FACTS
    assert (kept.llm_calls, kept.tokens_used) == (1, 42)
    assert (known.status, known.llm_calls) == ("success", 0)
    assert len(asked) == 1
    assert "it took 540 s" in json.dumps(asked[0])
    assert sorted(hit.memory.content for hit in found.hits) == sorted(FACTS)
    origin = found.hits[0].memory
    assert (origin.source, origin.tags) == ("llm", ["builds"])
    assert origin.provenance is not None
    assert origin.provenance.data_sources == [episode.episode_id]
    assert gone.error is not None
    assert refused.error is not None
    assert (gone.error.code, refused.error.code) == ("EPISODE_NOT_FOUND", "INVALID_REQUEST")

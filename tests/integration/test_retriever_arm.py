"""The retriever as an arm of a fleet: its citations resolve, and hold what they claim."""

import hashlib
from typing import Any

import pytest

from octarm.clients.semantic import SemanticClient
from octarm.common.bus.requests import control_plane
from octarm.common.storage import open_pool
from octarm.common.storage.migrations import upgrade
from octarm.memory.domain.access import Access
from octarm.memory.routes.semantic import semantic_routes
from octarm.memory.schema import MIGRATIONS, SCHEMA
from octarm.models.semantic import NewMemory
from octarm.retriever.__main__ import retriever
from octarm.retriever.settings import Settings
from tests.support.arm_stage import a_command, a_task, an_arm_stage
from tests.support.semantic import Memory

pytestmark = pytest.mark.integration
DOCUMENT = "guides/dead-letters.md › Dead letters\n\nA letter is kept for 30 days. Then it is gone."


async def test_citations_resolve_and_hold_what_they_claim(nats_url: str, postgres_url: str) -> None:
    upgrade(postgres_url, MIGRATIONS, SCHEMA)
    pool = await open_pool(postgres_url, name="test", wait_s=60)
    memory = Memory(pool, access={"deaf": Access(read=None)})
    place = {"document": "guides/dead-letters.md", "page": 1}
    await memory.remember(
        NewMemory(content=DOCUMENT, metadata=place, entity_type="artifact"),
        "Squids have ink.",
    )
    await memory.remember("Letters of another tenant are kept for 99 days.", tenant="other")
    routes = semantic_routes(memory.knowledge)
    asked = a_command(a_task(goal="How many days is a dead letter kept?", context={"k": 2}))
    nothing = a_command(a_task(goal="How many days?", context={"tags": ["none"]}))
    refused = a_command(a_task(goal="How many days?"))
    async with (
        an_arm_stage(nats_url) as stage,
        control_plane(nats_url, routes, name="memory"),
        stage.serving(retriever(Settings())),
        stage.serving(retriever(Settings(arm_id="deaf"))),
    ):
        await stage.dispatch("retriever", asked)
        result = await stage.result_of(asked, timeout_s=60)
        await stage.dispatch("retriever", nothing)
        empty = await stage.result_of(nothing, timeout_s=60)
        await stage.dispatch("deaf", refused)
        denied = await stage.result_of(refused, timeout_s=60)

        output: Any = result.output
        client = SemanticClient(stage.nc, timeout_s=60)
        for one in output["citations"]:
            shown = await client.get("acme", one["memory_id"])
            text = shown.memory.content
            assert text[one["snippet_start"] : one["snippet_end"]] == one["snippet"]
    await pool.close()

    first = output["citations"][0]
    assert first["snippet"] == "A letter is kept for 30 days."
    assert (first["place"], first["number"]) == (place, 1)
    assert output["answer"].startswith("A letter is kept for 30 days. [1]")
    assert not any("another tenant" in one["snippet"] for one in output["citations"])
    assert result.provenance.data_sources[0] == first["memory_id"]
    goal = "How many days is a dead letter kept?"
    assert result.provenance.command_hash == hashlib.sha256(goal.encode()).hexdigest()
    assert (empty.status, empty.output["found"], empty.confidence) == ("success", False, 0)  # type: ignore[call-overload, index]
    assert denied.error is not None
    assert denied.error.code == "CAPABILITY_VIOLATION"

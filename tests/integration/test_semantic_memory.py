"""What the fleet knows: kept, merged, superseded, found and forgotten, on real Postgres."""

from collections.abc import AsyncGenerator
from typing import Any

import nats
import pytest
import pytest_asyncio

from octarm.clients.semantic import SemanticClient
from octarm.common.bus.requests import control_plane
from octarm.common.storage.connections import Pool
from octarm.memory.domain.hashing import NAME, hashed
from octarm.memory.domain.ranking import HASHING_WEIGHT
from octarm.memory.routes.semantic import semantic_routes
from octarm.models.errors import InvalidRequest, NotFound
from octarm.models.semantic import ForgetMemory, MemoryFilter, NewMemory, SearchMemory
from tests.support.semantic import Memory, a_memory_id, a_memory_pool, at

pytestmark = pytest.mark.integration
PORT = {"subject": "gateway", "predicate": "port"}


@pytest_asyncio.fixture
async def pool(postgres_url: str) -> AsyncGenerator[Pool, None]:
    async with a_memory_pool(postgres_url) as pool:
        yield pool


@pytest.fixture
def memory(pool: Pool) -> Memory:
    return Memory(pool)


async def test_is_asked_over_the_bus(nats_url: str, memory: Memory) -> None:
    connection = await nats.connect(nats_url)
    client = SemanticClient(connection, timeout_s=60)
    async with control_plane(nats_url, semantic_routes(memory.knowledge), name="memory"):
        (kept,) = await client.remember("acme", "writer", [NewMemory(content="Squids have ink.")])
        assert kept.memory_id is not None
        found = await client.search(SearchMemory(tenant="acme", query="ink of squids", k=3))
        shown = await client.get("acme", kept.memory_id, history=True)
        with pytest.raises(NotFound):
            await client.get("other", kept.memory_id)
        gone = await client.forget("acme", kept.memory_id)
        again = await client.forget("acme", kept.memory_id)
    await connection.close()

    assert kept.outcome == "created"
    assert [hit.memory for hit in found.hits] == [shown.memory]
    assert shown.memory.embedder == NAME
    assert (gone, again) == (1, 0)


class TestSearch:
    async def test_finds_by_words_and_by_meaning_and_says_why(self, memory: Memory) -> None:
        await memory.remember("The gateway listens on port 8080.", "Bread is baked at dawn.")

        found = await memory.search("on which port does the gateway listen?", k=1)

        (hit,) = found.hits
        assert hit.memory.content == "The gateway listens on port 8080."
        why = hit.explanation
        assert (why.text_rank, why.vector_rank) == (1, 1)
        assert why.text_part == pytest.approx(1 / 61, abs=1e-6)
        assert why.vector_part == pytest.approx(HASHING_WEIGHT / 61, abs=1e-6)
        assert hit.score == pytest.approx(why.text_part + why.vector_part, abs=1e-5)
        assert found.embedders == [NAME]

    async def test_looks_in_one_way_when_asked_to(self, memory: Memory) -> None:
        await memory.remember("The gateway listens.", "The gatewey lissens.")

        by_text = await memory.contents("gateway", mode="text")
        by_vector = await memory.search("gatewey lissens", mode="vector")
        by_given = await memory.search(
            embedding=[2 * part for part in hashed("The gateway listens.")], embedder=NAME, k=1
        )

        assert by_text == ["The gateway listens."]
        assert [hit.memory.content for hit in by_vector.hits] == [
            "The gatewey lissens.",
            "The gateway listens.",
        ]
        assert by_given.hits[0].explanation.vector_similarity == pytest.approx(1, abs=1e-3)

    async def test_keeps_to_every_filter(self, memory: Memory) -> None:
        await memory.remember(
            NewMemory(content="ink one", tags=["sea", "blue"], timestamp=at(0), confidence=0.9),
            NewMemory(content="ink two", tags=["sea"], timestamp=at(10), confidence=0.5),
            NewMemory(content="ink three", entity_type="decision", timestamp=at(20)),
        )
        await memory.remember(NewMemory(content="ink four", timestamp=at(30)), source="reader")

        async def found(**only: Any) -> set[str]:
            texts = await memory.contents("ink", only=MemoryFilter(**only))
            return {text.removeprefix("ink ") for text in texts}

        assert await found() == {"one", "two", "three", "four"}
        assert await found(tags=["sea"]) == {"one", "two"}
        assert await found(tags=["sea", "blue"]) == {"one"}
        assert await found(entity_types=["decision", "task"]) == {"three"}
        assert await found(sources=["reader"]) == {"four"}
        assert await found(min_confidence=0.9) == {"one", "three", "four"}
        assert await found(since=at(10), until=at(30)) == {"two", "three"}

    @pytest.mark.parametrize(
        "query",
        ["'; drop table memory.semantic; --", "& | ! <-> :* ( '", "%s %(x)s {0}", "\\", "=acme"],
    )
    @pytest.mark.bad_input(20)
    async def test_takes_every_query_for_text(self, memory: Memory, query: str) -> None:
        await memory.remember(f"table {query} x")

        assert await memory.contents(f"table {query}") == [f"table {query} x"]
        assert len((await memory.search(query)).hits) == 1

    @pytest.mark.bad_input(27)
    async def test_refuses_a_vector_of_another_dimension(self, memory: Memory) -> None:
        await memory.remember("something")

        with pytest.raises(InvalidRequest, match="3 components") as refused:
            await memory.search(embedding=[1.0, 2.0, 3.0], embedder=NAME)
        with pytest.raises(InvalidRequest, match="not in use"):
            await memory.search(embedding=[1.0], embedder="unheard/of")
        (answer,) = await memory.remember(
            NewMemory(content="x", embedding=[1.0, 2.0, 3.0], embedder=NAME)
        )

        assert refused.value.status == 422
        assert answer.problem is not None
        assert answer.problem.status == 422
        assert await memory.contents("x", mode="text") == []


class TestRemember:
    async def test_the_same_twice_is_once(self, memory: Memory) -> None:
        by_id = NewMemory(memory_id=a_memory_id(1), content="first")

        once = await memory.remember(by_id, "second", "second")
        twice = await memory.remember("second", by_id)

        assert [one.outcome for one in once] == ["created", "created", "known"]
        assert [one.outcome for one in twice] == ["known", "known"]
        assert twice[0].memory_id == once[1].memory_id
        assert len((await memory.search("first second")).hits) == 2

    async def test_an_id_stands_for_one_content(self, memory: Memory) -> None:
        await memory.remember(NewMemory(memory_id=a_memory_id(1), content="first"))

        (answer,) = await memory.remember(NewMemory(memory_id=a_memory_id(1), content="other"))

        assert answer.problem is not None
        assert (answer.problem.status, answer.problem.code) == (409, "ALREADY_EXISTS")

    async def test_a_newer_fact_supersedes_and_the_older_is_history(self, memory: Memory) -> None:
        late = NewMemory(content="port 9090", metadata=PORT, timestamp=at(5))
        early = NewMemory(content="port 8080", metadata=PORT, timestamp=at(1))
        between = NewMemory(content="port 8888", metadata=PORT, timestamp=at(3))

        (first,) = await memory.remember(early)
        (second,) = await memory.remember(late)
        (third,) = await memory.remember(between)
        shown = await memory.get(second.memory_id)

        assert [first.outcome, second.outcome, third.outcome] == [
            "created",
            "created",
            "superseded",
        ]
        assert third.into == second.memory_id
        assert await memory.contents("port") == ["port 9090"]
        assert shown.memory.supersedes == first.memory_id
        assert [one.content for one in shown.history] == ["port 8888", "port 8080"]
        assert {one.superseded_by for one in shown.history} == {second.memory_id}

    async def test_what_is_named_is_superseded_once(self, memory: Memory) -> None:
        (old,) = await memory.remember("we use Kafka")

        (new, late, lost) = await memory.remember(
            NewMemory(content="we use NATS", supersedes=old.memory_id),
            NewMemory(content="we use Redis", supersedes=old.memory_id),
            NewMemory(content="we use pipes", supersedes=a_memory_id(9)),
        )

        assert new.outcome == "created"
        assert late.problem is not None
        assert late.problem.code == "ALREADY_SUPERSEDED"
        assert lost.problem is not None
        assert lost.problem.status == 404
        assert await memory.contents("use") == ["we use NATS"]

    async def test_what_says_nearly_the_same_is_merged_and_keeps_both_origins(
        self, memory: Memory
    ) -> None:
        text = "The orchestrator keeps every accepted task in its ledger until the task has ended"
        (first,) = await memory.remember(NewMemory(content=f"{text}.", confidence=0.5))
        (other,) = await memory.remember(
            NewMemory(content=f"{text}!", confidence=0.8), source="reader"
        )
        (again,) = await memory.remember(NewMemory(content=f"{text}!"), source="reader")
        (number,) = await memory.remember(f"{text} 7")
        (negated,) = await memory.remember(f"{text} not")
        shown = await memory.get(first.memory_id)

        assert (other.outcome, other.into) == ("merged", first.memory_id)
        assert (again.outcome, again.memory_id) == ("known", other.memory_id)
        assert (number.outcome, negated.outcome) == ("created", "created")
        assert shown.memory.confidence == 0.8
        assert [(one.source, one.memory_id) for one in shown.memory.merged] == [
            ("reader", other.memory_id)
        ]
        assert [one.memory_id for one in shown.history] == [other.memory_id]

    async def test_secrets_are_not_kept(self, memory: Memory) -> None:
        (answer,) = await memory.remember(
            NewMemory(content="Write to ann@example.com", metadata={"password": "hunter2"})
        )
        shown = await memory.get(answer.memory_id)

        assert answer.redactions == 2
        assert "ann@" not in shown.model_dump_json()
        assert "hunter2" not in shown.model_dump_json()

    async def test_one_that_cannot_be_stored_spoils_no_other(self, memory: Memory) -> None:
        answers = await memory.remember(
            "good one",
            NewMemory(content="bad", metadata={"x": "y" * 70_000}),
            "good two",
        )

        assert [one.outcome for one in answers] == ["created", None, "created"]

    async def test_forgetting_takes_history_and_copies_along(self, memory: Memory) -> None:
        await memory.remember(NewMemory(content="port 8080", metadata=PORT, timestamp=at(1)))
        (new,) = await memory.remember(
            NewMemory(content="port 9090", metadata=PORT, timestamp=at(2))
        )
        assert new.memory_id is not None

        gone = await memory.knowledge.forget(ForgetMemory(tenant="acme", memory_id=new.memory_id))

        assert gone.deleted == 2
        assert await memory.contents("port") == []

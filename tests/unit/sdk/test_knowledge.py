"""What an arm asks of the fleet's knowledge."""

from typing import Any, cast

import pytest
from nats.aio.client import Client
from pydantic import BaseModel

from octarm.clients.memory import MemoryClient
from octarm.models.errors import Forbidden
from octarm.models.ids import new_id
from octarm.models.semantic import (
    MemoriesFound,
    MemoryFilter,
    Remember,
    RememberAnswer,
    Remembered,
    SearchMemory,
)
from octarm.sdk.recall import Recall


class FakeBus:
    """Answers each request with what it was told to, and keeps the requests."""

    def __init__(self, answer: BaseModel) -> None:
        self.answer = answer
        self.data = b""
        self.asked: list[bytes] = []

    async def request(self, subject: str, body: bytes, **options: Any) -> "FakeBus":
        self.asked.append(body)
        self.data = b'{"ok":%b}' % self.answer.model_dump_json().encode()
        return self


def recall_on(bus: FakeBus) -> Recall:
    client = MemoryClient(cast(Client, bus))
    return Recall(client, "acme", "writer", cast(Any, None), new_id("tsk"))


async def test_recalls_in_its_own_name_for_the_task_s_tenant() -> None:
    bus = FakeBus(MemoriesFound(hits=[]))

    assert await recall_on(bus).recall("ink", 3, only=MemoryFilter(tags=["sea"])) == []

    asked = SearchMemory.model_validate_json(bus.asked[0])
    assert (asked.tenant, asked.arm_id, asked.query, asked.k) == ("acme", "writer", "ink", 3)
    assert asked.only.tags == ["sea"]


async def test_remembers_with_a_time_so_that_the_newer_wins() -> None:
    bus = FakeBus(Remembered(answers=[RememberAnswer(outcome="created")]))

    answer = await recall_on(bus).remember("Squids have ink", tags=["sea"], confidence=0.5)

    asked = Remember.model_validate_json(bus.asked[0])
    (memory,) = asked.memories
    assert answer.outcome == "created"
    assert (asked.tenant, asked.source) == ("acme", "writer")
    assert (memory.content, memory.tags, memory.confidence) == ("Squids have ink", ["sea"], 0.5)
    assert memory.timestamp is not None


async def test_raises_what_was_refused() -> None:
    problem = Forbidden("writer may not write this in memory", code="CAPABILITY_VIOLATION")
    bus = FakeBus(Remembered(answers=[RememberAnswer(problem=problem.problem())]))

    with pytest.raises(Forbidden, match="may not write"):
        await recall_on(bus).remember("Squids have ink")

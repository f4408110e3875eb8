"""What the memory service answers about what the fleet knows."""

from dataclasses import dataclass
from typing import Final

from faststream.nats import NatsRouter

from octarm.common.bus.requests import answer
from octarm.memory.usecases.finding import ForgetKnowledge, SearchKnowledge, ShowMemory
from octarm.memory.usecases.keeping import RememberKnowledge
from octarm.memory.usecases.reembedding import Reembed
from octarm.models import subjects
from octarm.models.semantic import (
    ForgetMemory,
    GetMemory,
    MemoriesFound,
    MemoryForgotten,
    MemoryFound,
    Reembedding,
    ReembedMemories,
    Remember,
    Remembered,
    SearchMemory,
)

QUEUE: Final = "memory"


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The use cases behind the routes."""

    remember: RememberKnowledge
    search: SearchKnowledge
    show: ShowMemory
    forget: ForgetKnowledge
    reembed: Reembed


def semantic_routes(knowledge: Knowledge) -> NatsRouter:
    """Give the control plane; nothing connects until a broker includes it."""
    router = NatsRouter()

    @answer(router, subjects.REMEMBER, queue=QUEUE)
    async def remember(command: Remember) -> Remembered:
        return await knowledge.remember(command)

    @answer(router, subjects.SEARCH_MEMORY, queue=QUEUE)
    async def search_memory(query: SearchMemory) -> MemoriesFound:
        return await knowledge.search(query)

    @answer(router, subjects.GET_MEMORY, queue=QUEUE)
    async def get_memory(query: GetMemory) -> MemoryFound:
        return await knowledge.show(query)

    @answer(router, subjects.FORGET_MEMORY, queue=QUEUE)
    async def forget_memory(query: ForgetMemory) -> MemoryForgotten:
        return await knowledge.forget(query)

    @answer(router, subjects.REEMBED, queue=QUEUE)
    async def reembed(command: ReembedMemories) -> Reembedding:
        return await knowledge.reembed(command)

    return router

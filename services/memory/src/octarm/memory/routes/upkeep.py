"""What the memory service answers about all that a tenant's memory holds."""

from dataclasses import dataclass

from faststream.nats import NatsRouter

from octarm.common.bus.requests import answer
from octarm.memory.routes.semantic import QUEUE
from octarm.memory.usecases.erasing import BeginErasing, ShowErasure
from octarm.memory.usecases.upkeep import CountKnowledge, ListKnowledge
from octarm.models import subjects
from octarm.models.erasure import EraseSubject, Erasure, GetErasure
from octarm.models.upkeep import CountMemories, ListMemories, MemoriesListed, MemoryCounts


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The use cases behind the routes."""

    list: ListKnowledge
    count: CountKnowledge
    erase: BeginErasing
    erasure: ShowErasure


def upkeep_routes(upkeep: Upkeep) -> NatsRouter:
    """Give the control plane; nothing connects until a broker includes it."""
    router = NatsRouter()

    @answer(router, subjects.LIST_MEMORIES, queue=QUEUE)
    async def list_memories(query: ListMemories) -> MemoriesListed:
        return await upkeep.list(query)

    @answer(router, subjects.COUNT_MEMORIES, queue=QUEUE)
    async def count_memories(query: CountMemories) -> MemoryCounts:
        return await upkeep.count(query)

    @answer(router, subjects.ERASE_SUBJECT, queue=QUEUE)
    async def erase_subject(command: EraseSubject) -> Erasure:
        return await upkeep.erase(command)

    @answer(router, subjects.GET_ERASURE, queue=QUEUE)
    async def get_erasure(query: GetErasure) -> Erasure:
        return await upkeep.erasure(query)

    return router

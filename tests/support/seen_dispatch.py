"""The ledger's part in dispatching, played on a real nats-server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.common.bus.delivery import ACK, Delivery, Outcome
from octarm.common.bus.publisher import Publisher
from octarm.common.bus.requests import ok
from octarm.common.bus.runner import ConsumerRef, PullRunner
from octarm.common.bus.topology import ORCHESTRATOR_DISPATCH
from octarm.models.hot import RunTasks
from octarm.models.queries import GetStates, StatesFound
from octarm.models.queries import Outcome as Stands
from octarm.models.states import TaskState
from octarm.models.subjects import DISPATCH, GET_STATES, RUN_TASKS

_decode = msgspec.json.Decoder(RunTasks).decode
_RUNS = RUN_TASKS.pattern.removesuffix("*")


@dataclass
class SeenDispatch:
    """Reads DISPATCH as the orchestrator does; says of what it has seen that it is dispatched."""

    bundles: list[RunTasks] = field(default_factory=list)

    def placements(self) -> list[tuple[str, str]]:
        """Give (task, arm), in the order of their dispatch."""
        return [(it.task_id, bundle.arm_id) for bundle in self.bundles for it in bundle.tasks]

    async def handle(self, deliveries: list[Delivery]) -> list[Outcome]:
        """Note a batch."""
        runs = [it for it in deliveries if it.subject.startswith(_RUNS)]
        self.bundles += [_decode(it.data) for it in runs]
        return [ACK] * len(deliveries)

    def states(self, question: GetStates) -> StatesFound:
        """Say where tasks stand."""
        seen = {task_id for task_id, _ in self.placements()}
        outcomes = [
            Stands(
                task_id=task_id,
                state=TaskState.DISPATCHED if task_id in seen else TaskState.QUEUED,
                attempt=1,
            )
            for task_id in question.task_ids
        ]
        return StatesFound(outcomes=outcomes)


@asynccontextmanager
async def seen_dispatch(nc: NATS) -> AsyncGenerator[SeenDispatch, None]:
    """See what is dispatched until the block ends."""
    seen, stop, publisher = SeenDispatch(), asyncio.Event(), Publisher(nc)

    async def asked(msg: Msg) -> None:
        found = seen.states(GetStates.model_validate_json(msg.data))
        await msg.respond(ok(found.model_dump_json().encode()))

    answering = await nc.subscribe(GET_STATES.template, cb=asked)
    consumer = ConsumerRef(DISPATCH, ORCHESTRATOR_DISPATCH)
    runner = PullRunner(nc, publisher, consumer, seen.handle)
    running = asyncio.create_task(runner.run(stop))
    try:
        yield seen
    finally:
        stop.set()
        await running
        await answering.unsubscribe()
        await publisher.close()

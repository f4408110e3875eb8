"""The orchestrator's subscriptions: translation only."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from faststream.nats import NatsRouter
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.common.bus import flood
from octarm.common.bus.requests import answer
from octarm.common.clock import Clock
from octarm.common.telemetry.logs import get_logger
from octarm.models import hot
from octarm.models.errors import (
    NotFound,
)
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.policies import DecisionsFound, FindDecisions
from octarm.models.queries import (
    Cancelled,
    CancelTask,
    FindTasks,
    GetStates,
    GetTask,
    Reconciled,
    ReconcileLedger,
    StatesFound,
    TasksFound,
    TaskView,
)
from octarm.models.rejections import RejectTasks as RejectTasksQuery
from octarm.models.rejections import TasksRejected
from octarm.models.scaling import ArmDemand, GetDemand
from octarm.models.subjects import (
    CANCEL_TASK,
    FIND_DECISIONS,
    FIND_TASKS,
    GET_DEMAND,
    GET_STATES,
    GET_TASK,
    HEARTBEAT,
    RECONCILE_LEDGER,
    REJECT_TASKS,
)
from octarm.orchestrator.usecases.cancelling import CancelTasks
from octarm.orchestrator.usecases.reading import Decisions, Demand, Tasks
from octarm.orchestrator.usecases.recover import Recover
from octarm.orchestrator.usecases.rejecting import RejectTasks

QUEUE: Final = "orchestrator"

_heartbeat = msgspec.json.Decoder(hot.Heartbeat).decode

log = get_logger()


def routes(
    tasks: Tasks,
    cancel: CancelTasks,
    recover: Recover,
    decisions: Decisions,
    *,
    demand: Demand,
    reject: RejectTasks,
) -> NatsRouter:
    """The control plane; nothing connects until a broker includes it."""
    router = NatsRouter()
    _answer_endings(router, tasks, cancel, reject)

    @answer(router, GET_TASK, queue=QUEUE)
    async def get_task(query: GetTask) -> TaskView:
        view = await tasks.get(query.tenant, query.task_id)
        if view is None:
            raise NotFound(f"there is no task {query.task_id}")
        return view

    @answer(router, FIND_TASKS, queue=QUEUE)
    async def find_tasks(query: FindTasks) -> TasksFound:
        return await tasks.find(query)

    @answer(router, GET_STATES, queue=QUEUE)
    async def get_states(query: GetStates) -> StatesFound:
        return StatesFound(outcomes=await tasks.outcomes(query.tenant, query.task_ids))

    @answer(router, FIND_DECISIONS, queue=QUEUE)
    async def find_decisions(query: FindDecisions) -> DecisionsFound:
        return await decisions.find(query)

    @answer(router, GET_DEMAND, queue=QUEUE)
    async def get_demand(query: GetDemand) -> ArmDemand:
        return await demand.of(query)

    @answer(router, RECONCILE_LEDGER, queue=QUEUE)
    async def reconcile_ledger(query: ReconcileLedger) -> Reconciled:
        return await recover(assume_empty=query.assume_empty)

    return router


def _answer_endings(
    router: NatsRouter, tasks: Tasks, cancel: CancelTasks, reject: RejectTasks
) -> None:
    @answer(router, CANCEL_TASK, queue=QUEUE)
    async def cancel_task(query: CancelTask) -> Cancelled:
        await cancel(query.task_id, query.tenant, query.reason)
        found = await tasks.called_off(query.tenant, query.task_id)
        if found is None:
            raise NotFound(f"there is no task {query.task_id}")
        return found

    @answer(router, REJECT_TASKS, queue=QUEUE)
    async def reject_tasks(query: RejectTasksQuery) -> TasksRejected:
        return TasksRejected(task_ids=await reject(query.tasks))


Hears = Callable[[hot.Heartbeat], Awaitable[None]]


async def hear_heartbeats(nc: NATS, *hears: Hears, clock: Clock) -> None:
    """Follow the beats, sharing the work with the other replicas."""

    async def heard(msg: Msg) -> None:
        try:
            beat = _heartbeat(msg.data)
        except NOT_UNDERSTOOD as error:
            log.warning("message_not_understood", subject=msg.subject, error=str(error)[:300])
            return
        if msg.subject != HEARTBEAT.at(arm_id=beat.arm_id, instance_id=beat.instance_id):
            log.warning("message_not_understood", subject=msg.subject, error="another's beat")
            return
        for hear in hears:
            await hear(beat)

    await flood.hear_beats(nc, HEARTBEAT.pattern, heard, clock=clock, queue=QUEUE)

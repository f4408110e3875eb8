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
from octarm.models import hot, queries, subjects
from octarm.models.errors import NotFound
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.rejections import RejectTasks as RejectTasksQuery
from octarm.models.rejections import TasksRejected
from octarm.models.shedding import GetShedding, SheddingFound, SwitchShedding
from octarm.orchestrator.usecases.admission import FollowSwitches
from octarm.orchestrator.usecases.cancelling import CancelTasks
from octarm.orchestrator.usecases.reading import Reading, Tasks
from octarm.orchestrator.usecases.recover import Recover
from octarm.orchestrator.usecases.rejecting import RejectTasks

QUEUE: Final = "orchestrator"

_heartbeat = msgspec.json.Decoder(hot.Heartbeat).decode

log = get_logger()


def routes(
    reading: Reading,
    cancel: CancelTasks,
    recover: Recover,
    reject: RejectTasks,
    *,
    shed: FollowSwitches,
) -> NatsRouter:
    """The control plane; nothing connects until a broker includes it."""
    router, tasks = NatsRouter(), reading.tasks
    _answer_endings(router, tasks, cancel, reject)
    answer(router, subjects.FIND_DECISIONS, queue=QUEUE)(reading.decisions)
    answer(router, subjects.GET_DEMAND, queue=QUEUE)(reading.demand)
    answer(router, subjects.GET_USAGE, queue=QUEUE)(reading.usage)

    @answer(router, subjects.GET_TASK, queue=QUEUE)
    async def get_task(query: queries.GetTask) -> queries.TaskView:
        view = await tasks.get(query.tenant, query.task_id)
        if view is None:
            raise NotFound(f"there is no task {query.task_id}")
        return view

    @answer(router, subjects.FIND_TASKS, queue=QUEUE)
    async def find_tasks(query: queries.FindTasks) -> queries.TasksFound:
        return await tasks.find(query)

    @answer(router, subjects.GET_STATES, queue=QUEUE)
    async def get_states(query: queries.GetStates) -> queries.StatesFound:
        return queries.StatesFound(outcomes=await tasks.outcomes(query.tenant, query.task_ids))

    @answer(router, subjects.SWITCH_SHEDDING, queue=QUEUE)
    async def switch_shedding(query: SwitchShedding) -> SheddingFound:
        return await shed.put(query)

    @answer(router, subjects.GET_SHEDDING, queue=QUEUE)
    async def get_shedding(query: GetShedding) -> SheddingFound:
        return await shed.switches.found()

    @answer(router, subjects.RECONCILE_LEDGER, queue=QUEUE)
    async def reconcile_ledger(query: queries.ReconcileLedger) -> queries.Reconciled:
        return await recover(assume_empty=query.assume_empty)

    return router


def _answer_endings(
    router: NatsRouter, tasks: Tasks, cancel: CancelTasks, reject: RejectTasks
) -> None:
    @answer(router, subjects.CANCEL_TASK, queue=QUEUE)
    async def cancel_task(query: queries.CancelTask) -> queries.Cancelled:
        await cancel(query.task_id, query.tenant, query.reason)
        found = await tasks.called_off(query.tenant, query.task_id)
        if found is None:
            raise NotFound(f"there is no task {query.task_id}")
        return found

    @answer(router, subjects.REJECT_TASKS, queue=QUEUE)
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
        if msg.subject != subjects.HEARTBEAT.at(arm_id=beat.arm_id, instance_id=beat.instance_id):
            log.warning("message_not_understood", subject=msg.subject, error="another's beat")
            return
        for hear in hears:
            await hear(beat)

    await flood.hear_beats(nc, subjects.HEARTBEAT.pattern, heard, clock=clock, queue=QUEUE)

"""The orchestrator's subscriptions: translation only."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from faststream.nats import NatsRouter
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.common.bus import flood
from octarm.common.bus.delivery import ACK, Dead, Delivery, Outcome
from octarm.common.bus.requests import answer
from octarm.common.clock import Clock
from octarm.common.failpoints import failpoint
from octarm.common.storage import Batcher
from octarm.common.telemetry.logs import get_logger
from octarm.models import hot
from octarm.models.errors import (
    NotFound,
    Problem,
)
from octarm.models.queries import (
    CancelTask,
    FindTasks,
    GetStates,
    GetTask,
    StatesFound,
    TasksFound,
    TaskView,
)
from octarm.models.queries import Outcome as TaskOutcome
from octarm.models.results import MAX_RESULT_BYTES
from octarm.models.subjects import (
    ATTEMPTS_UPDATED,
    CANCEL_TASK,
    FIND_TASKS,
    GET_STATES,
    GET_TASK,
    HEARTBEAT,
    PLACEMENTS_MADE,
    RESULT,
    RESULTS_REPORTED,
)
from octarm.orchestrator.domain.changes import AcceptAnswer
from octarm.orchestrator.domain.news import AttemptNews, Gathering, Key
from octarm.orchestrator.usecases.accept import Submitted
from octarm.orchestrator.usecases.endings import CancelTasks
from octarm.orchestrator.usecases.leases import KeepLeases
from octarm.orchestrator.usecases.reading import Tasks

QUEUE: Final = "orchestrator"
MAX_ERROR_BYTES: Final = 64 * 1024
MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
_RESULTS: Final = RESULT.pattern.removesuffix("*")
_REPORTS: Final = RESULTS_REPORTED.pattern.removesuffix("*")
_PLACEMENTS: Final = PLACEMENTS_MADE.pattern.removesuffix("*")
_UPDATES: Final = ATTEMPTS_UPDATED.pattern.removesuffix("*")

_submissions = msgspec.json.Decoder(hot.SubmitTasks).decode
_submission = msgspec.json.Decoder(hot.SubmitTask).decode
_result = msgspec.json.Decoder(hot.Result).decode
_report = msgspec.json.Decoder(hot.ResultsReported).decode
_placements = msgspec.json.Decoder(hot.PlacementsMade).decode
_heartbeat = msgspec.json.Decoder(hot.Heartbeat).decode
_updates = msgspec.json.Decoder(hot.AttemptsUpdated).decode
_encode = msgspec.json.Encoder().encode
_NOT_UNDERSTOOD: Final = (msgspec.MsgspecError, ValueError, RecursionError)

log = get_logger()
Accepting = Batcher[Submitted, AcceptAnswer]


def routes(tasks: Tasks, cancel: CancelTasks) -> NatsRouter:
    """The control plane; nothing connects until a broker includes it."""
    router = NatsRouter()

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

    @answer(router, CANCEL_TASK, queue=QUEUE)
    async def cancel_task(query: CancelTask) -> TaskOutcome:
        await cancel(query.task_id, query.tenant, query.reason)
        found = await tasks.outcomes(query.tenant, [query.task_id])
        if not found:
            raise NotFound(f"there is no task {query.task_id}")
        return found[0]

    return router


async def hear_heartbeats(nc: NATS, leases: KeepLeases, clock: Clock) -> None:
    """Follow the beats, sharing the work with the other replicas."""

    async def heard(msg: Msg) -> None:
        try:
            beat = _heartbeat(msg.data)
        except _NOT_UNDERSTOOD as error:
            log.warning("message_not_understood", subject=msg.subject, error=str(error)[:300])
            return
        await leases(beat)

    await flood.hear_beats(nc, HEARTBEAT.pattern, heard, clock=clock, queue=QUEUE)


Reported = tuple[str, int, str]  # task id, attempt, arm
Record = Callable[[list[AttemptNews]], Awaitable[dict[Key, str]]]


@dataclass(frozen=True, slots=True)
class ResultsConsumer:
    """Records what arms and schedulers report."""

    record: Record

    async def __call__(self, batch: list[Delivery]) -> list[Outcome]:
        """Handle one batch: one transaction."""
        gathering = Gathering()
        outcomes: list[Outcome] = [ACK] * len(batch)
        results: dict[Reported, int] = {}
        for place, delivery in enumerate(batch):
            try:
                reported, spoiled = _take(gathering, delivery)
            except _NOT_UNDERSTOOD as error:
                outcomes[place] = Dead(f"not understood: {error}")
                continue
            if spoiled:
                outcomes[place] = Dead(f"partly not understood: {spoiled}")
            results.update(dict.fromkeys(reported, place))
        for news in (gathering.all(), *gathering.contested()):
            refused = await self.record(news)
            for item in news if refused else ():
                place = results.get((*item.key, item.arm_id), -1)
                if item.key in refused and place >= 0:
                    outcomes[place] = Dead(refused[item.key])
        failpoint("results_before_ack")
        return outcomes


def _take(gathering: Gathering, delivery: Delivery) -> tuple[list[Reported], str]:
    """Take one message in; gives the attempts it holds results of, and what is wrong with it."""
    subject = delivery.subject
    if subject.startswith(_RESULTS):
        trace = delivery.headers.get("traceparent", "")
        return [_take_result(gathering, delivery, delivery.data, trace)], ""
    if subject.startswith(_REPORTS):
        return _take_report(gathering, delivery)
    if subject.startswith(_PLACEMENTS):
        gathering.placed(_placements(delivery.data).placements)
    elif subject.startswith(_UPDATES):
        gathering.updated(_updates(delivery.data))
    return [], ""


def _take_report(gathering: Gathering, delivery: Delivery) -> tuple[list[Reported], str]:
    """Take what can be read of a bundle: one bad result must not lose the others."""
    reported, spoiled = [], ""
    for body in _report(delivery.data).results:
        try:
            reported.append(_take_result(gathering, delivery, bytes(body), ""))
        except _NOT_UNDERSTOOD as error:
            spoiled = str(error)
    return reported, spoiled


def _take_result(gathering: Gathering, delivery: Delivery, body: bytes, trace: str) -> Reported:
    if len(body) > MAX_RESULT_BYTES:
        raise ValueError(f"it has {len(body)} bytes, {MAX_RESULT_BYTES} are allowed")
    result = _result(body)
    body.decode()  # What is only passed on has not been looked at: is it UTF-8?
    if delivery.subject.rpartition(".")[2] != result.arm_id:
        raise ValueError("a result must come on the subject of its own arm")
    if result.status != "success":
        if len(bytes(result.error)) > MAX_ERROR_BYTES:
            raise ValueError(f"its error has more than {MAX_ERROR_BYTES} bytes")
        # It is told in events and answers, which must be readable.
        Problem.model_validate_json(bytes(result.error))
    gathering.ended(result, body, trace)
    return result.task_id, result.attempt, result.arm_id

"""The orchestrator's subscriptions: translation only."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from faststream.nats import NatsRouter
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from octarm.common.bus import flood
from octarm.common.bus.delivery import ACK, Dead, Delivery, Outcome
from octarm.common.bus.requests import answer, ok, problem
from octarm.common.clock import Clock
from octarm.common.failpoints import failpoint
from octarm.common.storage import Batcher
from octarm.common.telemetry.logs import get_logger
from octarm.models import hot
from octarm.models.errors import InvalidRequest, NotFound, OctarmError, Problem, Unavailable
from octarm.models.ids import is_name
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
    SUBMIT_TASKS,
)
from octarm.orchestrator.domain.changes import AcceptAnswer, Known
from octarm.orchestrator.domain.news import AttemptNews, Gathering, Key
from octarm.orchestrator.usecases.accept import Submitted
from octarm.orchestrator.usecases.endings import CancelTasks
from octarm.orchestrator.usecases.leases import KeepLeases
from octarm.orchestrator.usecases.reading import Tasks

QUEUE: Final = "orchestrator"
MAX_ERROR_BYTES: Final = 64 * 1024
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


@dataclass(frozen=True, slots=True)
class SubmitResponder:
    """Answers SUBMIT_TASKS requests; the hot path, so no FastStream."""

    nc: NATS
    accepting: Accepting

    async def start(self) -> None:
        """Subscribe, sharing the work with the other replicas."""
        await self.nc.subscribe(SUBMIT_TASKS.at(), queue=QUEUE, cb=self._asked)
        await self.nc.flush()

    async def _asked(self, msg: Msg) -> None:
        try:
            request = _submissions(msg.data)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            await self._reply(msg, problem(InvalidRequest(f"not a submission: {error}")))
            return
        failpoint("submit_received")
        pending = [
            self.accepting.put_nowait(Submitted(request.tenant, item))
            for item in request.submissions
        ]
        # The reply follows the commit; the subscription must not wait for it.
        gathering = asyncio.gather(*pending, return_exceptions=True)
        gathering.add_done_callback(lambda done: self._answer_later(msg, done.result()))

    def _answer_later(self, msg: Msg, answers: Sequence[AcceptAnswer | BaseException]) -> None:
        # Some may have been accepted, and without a key asking again would double them.
        away = [answer for answer in answers if isinstance(answer, Unavailable)]
        body = problem(away[0]) if len(away) == len(answers) else self._answers(answers)
        sending = asyncio.ensure_future(self._reply(msg, body))
        _sending.add(sending)
        sending.add_done_callback(_sending.discard)

    def _answers(self, answers: Sequence[AcceptAnswer | BaseException]) -> bytes:
        body = ok(_encode(hot.SubmitAnswers([_answer(item) for item in answers])))
        if len(body) > self.nc.max_payload:
            # A thousand refusals that name each field would be no answer at all.
            brief = [_answer(_brief(item)) for item in answers]
            body = ok(_encode(hot.SubmitAnswers(brief)))
        return body

    async def _reply(self, msg: Msg, body: bytes) -> None:
        failpoint("submit_before_reply")
        try:
            await self.nc.publish(msg.reply, body)
        except (NatsError, OSError):
            log.warning("reply_not_sent")


_sending: "set[asyncio.Future[None]]" = set()


def _answer(item: AcceptAnswer | BaseException) -> hot.SubmitAnswer:
    if isinstance(item, Known):
        return hot.SubmitAnswer(hot.Accepted(item.task_id, item.state.value, item.created))
    error = item if isinstance(item, OctarmError) else OctarmError("the task was not accepted")
    return hot.SubmitAnswer(problem=error.problem().model_dump(mode="json", exclude_none=True))


def _brief(item: AcceptAnswer | BaseException) -> AcceptAnswer | BaseException:
    if not isinstance(item, InvalidRequest):
        return item
    return InvalidRequest(item.message[:200], code=item.code, errors=(item.errors or [])[:1])


@dataclass(frozen=True, slots=True)
class IntakeConsumer:
    """Accepts what publishers put on INTAKE; what cannot be accepted is a dead letter."""

    accepting: Accepting

    async def __call__(self, batch: list[Delivery]) -> list[Outcome]:
        """Handle one batch."""
        outcomes: list[Outcome] = [ACK] * len(batch)
        pending: list[tuple[int, asyncio.Future[AcceptAnswer]]] = []
        failpoint("intake_received")
        for place, delivery in enumerate(batch):
            tenant = delivery.subject.rpartition(".")[2]
            if not is_name(tenant):
                outcomes[place] = Dead("its subject does not end with a tenant's name")
                continue
            try:
                item = _submission(delivery.data)
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                outcomes[place] = Dead(f"not a submission: {error}")
                continue
            submitted = Submitted(
                tenant, item, f"{delivery.subject}/{delivery.stream_seq}", delivery.published_at
            )
            pending.append((place, self.accepting.put_nowait(submitted)))
        answers = await asyncio.gather(*(future for _, future in pending), return_exceptions=True)
        for (place, _), accepted in zip(pending, answers, strict=True):
            if isinstance(accepted, OctarmError) and not accepted.retryable:
                outcomes[place] = Dead(f"{accepted.code}: {accepted.message}")
            elif isinstance(accepted, BaseException):
                raise accepted
        failpoint("intake_before_ack")
        return outcomes


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

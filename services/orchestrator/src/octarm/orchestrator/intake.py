"""The ways in for submissions: requests, which are answered, and INTAKE, which waits."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import msgspec
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from octarm.common.bus.delivery import ACK, Dead, Delivery, Outcome, Retry
from octarm.common.bus.letters import first_place
from octarm.common.bus.requests import ok, problem
from octarm.common.bus.wire import is_subject, listen, publication, write_at_once
from octarm.common.failpoints import failpoint
from octarm.common.storage import Batcher
from octarm.common.telemetry import metrics
from octarm.common.telemetry.logs import get_logger
from octarm.ledger.domain.changes import AcceptAnswer, Known
from octarm.models import hot
from octarm.models.errors import Backpressure, InvalidRequest, NotFound, OctarmError, Unavailable
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.ids import is_name
from octarm.models.subjects import SUBMIT_TASKS
from octarm.orchestrator.usecases.accept import AcceptTasks, Submitted

QUEUE: Final = "orchestrator"
MAX_WAITING: Final = 10_000
MAX_PLANS: Final = 100
_RELATIONS: Final = (b'"depends_on"', b'"parent_task_id"')
RELATIVE_COMES_WITHIN: Final = 4
# What waits longer only makes everybody's answer late: it is better refused, which costs little.
MAX_WAIT_S: Final = 0.25
# A little more than one client of the SDK has under way.
MIN_WAITING: Final = 2_500
LOOK_EVERY_S: Final = 0.01
LOOKS: Final = 50
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024

_submissions = msgspec.json.Decoder(hot.SubmitTasks).decode
_submission = msgspec.json.Decoder(hot.SubmitTask).decode
_encode = msgspec.json.Encoder().encode

log = get_logger()
Accepting = Batcher[Submitted, AcceptAnswer]
Planning = Batcher[list[Submitted], list[AcceptAnswer]]


def _never() -> bool:
    return False


def gathered(accept: AcceptTasks, behind: Callable[[], bool] = _never) -> Accepting:
    """Gather submissions for one commit, of all tenants alike; what waits for it is bounded.

    While the orchestrator is `behind` with what arms report, that goes first, for half a second
    at most. Accepting takes one process and ending a task all of them: otherwise a machine that
    has too much to do would accept ever more and finish ever less.
    """

    async def after_ends(group: Sequence[Submitted]) -> list[AcceptAnswer]:
        for _ in range(LOOKS):
            if not behind():
                break
            await asyncio.sleep(LOOK_EVERY_S)
        return await accept(group)

    return Batcher(
        after_ends,
        max_items=400,
        concurrency=2,
        max_waiting=MAX_WAITING,
        max_wait_s=MAX_WAIT_S,
        min_waiting=MIN_WAITING,
        max_bytes=MAX_WAITING_BYTES,
        size_of=lambda submitted: memoryview(submitted.item.submission).nbytes,
        owner_of=attrgetter("tenant"),
    )


def planned(accept: AcceptTasks) -> Planning:
    """Accept each plan in a commit of its own, whole: its tasks name each other."""

    async def one_by_one(plans: list[list[Submitted]]) -> list[list[AcceptAnswer]]:
        return [await accept(plan, whole=True) for plan in plans]

    return Batcher(one_by_one, max_items=1, concurrency=2, max_waiting=MAX_PLANS)


@dataclass(frozen=True, slots=True)
class SubmitResponder:
    """Answers SUBMIT_TASKS requests; the hot path, so no FastStream."""

    nc: NATS
    accepting: Accepting
    planning: Planning | None = None

    async def start(self) -> Subscription:
        """Subscribe, sharing the work with the other replicas; the caller unsubscribes."""
        subscription = await listen(self.nc, SUBMIT_TASKS.at(), self._asked, queue=QUEUE)
        await self.nc.flush()
        return subscription

    def _asked(self, msg: Msg) -> None:
        full = self.accepting.refusal()
        if full is not None:
            # Unread: under a load that cannot be taken, refusing must cost next to nothing.
            metrics.inc("octarm_orchestrator_requests_refused_total")
            self._reply(msg, problem(full))
            return
        try:
            request = _submissions(msg.data)
        except NOT_UNDERSTOOD as error:
            self._reply(msg, problem(InvalidRequest(f"not a submission: {error}")))
            return
        failpoint("submit_received")
        group = [Submitted(request.tenant, item) for item in request.submissions]
        if self.planning is not None and _is_plan(request.submissions):
            whole = self.planning.put_nowait(group)
            whole.add_done_callback(lambda done: self._answer_later(msg, _each(done, len(group))))
            return
        # The reply follows the commit; the subscription must not wait for it.
        accepting = self.accepting.put_many_nowait(group)
        accepting.add_done_callback(lambda done: self._answer_later(msg, done.result()))

    def _answer_later(self, msg: Msg, answers: Sequence[AcceptAnswer | BaseException]) -> None:
        # Some may have been accepted, and without a key asking again would double them.
        away = [answer for answer in answers if isinstance(answer, Unavailable | Backpressure)]
        whole = len(away) == len(answers) and len({refusal.code for refusal in away}) == 1
        self._reply(msg, problem(away[0]) if whole else self._answers(answers))

    def _answers(self, answers: Sequence[AcceptAnswer | BaseException]) -> bytes:
        body = ok(_encode(hot.SubmitAnswers(_listed(answers))))
        if len(body) > self.nc.max_payload:
            # A thousand refusals that name each field would be no answer at all.
            brief = [_answer(_brief(item)) for item in answers]
            body = ok(_encode(hot.SubmitAnswers(brief)))
        return body

    def _reply(self, msg: Msg, body: bytes) -> None:
        failpoint("submit_before_reply")
        fits = is_subject(msg.reply) and len(body) <= self.nc.max_payload
        if fits and write_at_once(self.nc, publication(msg.reply, body)):
            return
        sending = asyncio.ensure_future(self._reply_later(msg, body))
        _sending.add(sending)
        sending.add_done_callback(_sending.discard)

    async def _reply_later(self, msg: Msg, body: bytes) -> None:
        try:
            await self.nc.publish(msg.reply, body)
        except (NatsError, OSError):
            log.warning("reply_not_sent")


_sending: "set[asyncio.Future[None]]" = set()


def _is_plan(submissions: Sequence[hot.SubmitTask]) -> bool:
    """Tell whether these may name each other: only publishers that give ids can do that."""
    if len(submissions) == 1 or all(item.task_id is None for item in submissions):
        return False
    return any(name in bytes(item.submission) for item in submissions for name in _RELATIONS)


def _each(
    done: "asyncio.Future[list[AcceptAnswer]]", number: int
) -> Sequence[AcceptAnswer | BaseException]:
    error = done.exception()
    return done.result() if error is None else [error] * number


def _listed(answers: Sequence[AcceptAnswer | BaseException]) -> list[hot.SubmitAnswer]:
    """Write answers; a refusal that many share is written out once."""
    shared: dict[int, hot.SubmitAnswer] = {}
    listed: list[hot.SubmitAnswer] = []
    for item in answers:
        answer = shared.get(id(item))
        if answer is None:
            answer = shared[id(item)] = _answer(item)
        listed.append(answer)
    return listed


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
            except NOT_UNDERSTOOD as error:
                outcomes[place] = Dead(f"not a submission: {error}")
                continue
            seq, published_at = first_place(delivery)
            submitted = Submitted(tenant, item, f"{delivery.subject}/{seq}", published_at)
            pending.append((place, self.accepting.put_nowait(submitted)))
        answers = await asyncio.gather(*(future for _, future in pending), return_exceptions=True)
        for (place, _), accepted in zip(pending, answers, strict=True):
            if isinstance(accepted, OctarmError):
                outcomes[place] = _postponed(accepted, batch[place].deliveries)
            elif isinstance(accepted, BaseException):
                raise accepted
        failpoint("intake_before_ack")
        return outcomes


def _postponed(refusal: OctarmError, deliveries: int) -> Outcome:
    """What cannot be accepted now waits in INTAKE; what never can is a dead letter.

    A task that is named and not there may have been published just before, and be on its way.
    """
    if isinstance(refusal, NotFound) and deliveries < RELATIVE_COMES_WITHIN:
        return Retry(1.0)
    if refusal.retryable:
        return Retry(float(refusal.retry_after_s or 1))
    fields = "".join(f"; {one.field}: {one.message}" for one in (refusal.errors or [])[:3])
    return Dead(f"{refusal.code}: {refusal.message}{fields}")

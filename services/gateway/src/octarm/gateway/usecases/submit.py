"""Hand tasks in."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from octarm.common.storage import Batcher
from octarm.gateway.domain.load import Refusals
from octarm.gateway.usecases.ports import Tasks
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import FieldError, InvalidRequest, OctarmError, TimedOut, from_problem
from octarm.models.queries import Accepted, SubmitAnswer

MAX_BATCH: Final = 200
MAX_WAITING: Final = 10_000
# A request of sixty tasks costs the fleet a sixth less for each than two of thirty by turns.
GATHER_S: Final = 0.004
ANSWER_S: Final = 2.0


class Submit:
    """Hands tasks to the orchestrator.

    Tasks that a tenant submits while a request of its is under way travel together in the
    next one: alone a task waits for nobody, in a crowd it shares the way.
    """

    def __init__(
        self, tasks: Tasks, now: Callable[[], datetime], *, answer_s: float = ANSWER_S
    ) -> None:
        self._tasks = tasks
        self._now = now
        self._answer_s = answer_s
        self._refusals = Refusals(time.monotonic)
        self._batchers: dict[str, Batcher[SubmitTask, SubmitAnswer]] = {}

    async def one(self, tenant: str, task: SubmitTask) -> Accepted:
        """Submit a task.

        Raises:
            OctarmError: why it was not accepted.
            TimedOut: no answer in time; it may be accepted all the same.
        """
        self.check(task.submission)
        batcher = self._batchers.get(tenant)
        if batcher is None:
            flush = partial(self._tasks.submit_many, tenant)
            batcher = self._batchers[tenant] = Batcher(
                flush, max_items=MAX_BATCH, gather_s=GATHER_S, max_waiting=MAX_WAITING
            )
        try:
            async with asyncio.timeout(self._answer_s):
                answer = await batcher.put(task)
        except TimeoutError:
            raise TimedOut(f"no answer in {self._answer_s:g} s", retry_after_s=1) from None
        return accepted(self._noted(tenant, answer))

    def must_be_open(self, tenant: str) -> None:
        """Refuse a fresh task at once while a refusal of that kind still holds.

        Raises:
            Backpressure: come again later.
        """
        refusal = self._refusals.current(tenant)
        if refusal is not None:
            raise refusal

    def _noted(self, tenant: str, answer: SubmitAnswer) -> SubmitAnswer:
        if answer.problem is not None:
            self._refusals.learn(tenant, from_problem(answer.problem))
        return answer

    async def many(self, tenant: str, tasks: list[SubmitTask]) -> list[SubmitAnswer]:
        """Submit tasks; one answer each, in order.

        Raises:
            Backpressure: none of them can be accepted now.
        """
        if not tasks:
            return []
        if not any(task.submission.idempotency_key for task in tasks):
            self.must_be_open(tenant)
        answers = await self._tasks.submit_many(tenant, tasks)
        return [self._noted(tenant, answer) for answer in answers]

    def check(self, submission: TaskSubmission) -> None:
        """Refuse what could only fail.

        Raises:
            InvalidRequest: the deadline has passed.
        """
        if submission.deadline is not None and submission.deadline <= self._now():
            message = "the deadline has passed"
            raise InvalidRequest(
                message,
                "Give a deadline in the future, with its time zone.",
                "DEADLINE_UNMET",
                errors=[FieldError(field="deadline", message=message)],
            )


def accepted(answer: SubmitAnswer) -> Accepted:
    """Open an answer.

    Raises:
        OctarmError: the problem in it.
    """
    if answer.accepted is not None:
        return answer.accepted
    if answer.problem is not None:
        raise from_problem(answer.problem)
    raise OctarmError("the orchestrator gave an empty answer")

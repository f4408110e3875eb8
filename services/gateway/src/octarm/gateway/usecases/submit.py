"""Hand tasks in."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from octarm.common.storage import Batcher
from octarm.gateway.usecases.ports import Tasks
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import FieldError, InvalidRequest, OctarmError, from_problem
from octarm.models.queries import Accepted, SubmitAnswer

MAX_BATCH = 200


class Submit:
    """Hands tasks to the orchestrator.

    Tasks that a tenant submits while a request of its is under way travel together in the
    next one: alone a task waits for nobody, in a crowd it shares the way.
    """

    def __init__(self, tasks: Tasks, now: Callable[[], datetime]) -> None:
        self._tasks = tasks
        self._now = now
        self._batchers: dict[str, Batcher[SubmitTask, SubmitAnswer]] = {}

    async def one(self, tenant: str, task: SubmitTask) -> Accepted:
        """Submit a task.

        Raises:
            OctarmError: why it was not accepted.
        """
        self.check(task.submission)
        batcher = self._batchers.get(tenant)
        if batcher is None:
            flush = partial(self._tasks.submit_many, tenant)
            batcher = self._batchers[tenant] = Batcher(flush, max_items=MAX_BATCH)
        return accepted(await batcher.put(task))

    async def many(self, tenant: str, tasks: list[SubmitTask]) -> list[SubmitAnswer]:
        """Submit tasks; one answer each, in order."""
        return await self._tasks.submit_many(tenant, tasks) if tasks else []

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

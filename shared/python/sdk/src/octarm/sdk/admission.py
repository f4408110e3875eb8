"""Whether a run command can be run at all; pure."""

from datetime import datetime

from pydantic import ValidationError

from octarm.models.contracts import TaskContract
from octarm.models.errors import BudgetExceeded, InvalidRequest, TimedOut, field_errors
from octarm.sdk import outcomes
from octarm.sdk.inbox import Command


def admit(command: Command, *, now: datetime) -> TaskContract | outcomes.Failure:
    """Give the command's task, or say why it is not to be run.

    In this order: the task must keep its contract; its deadline must not have passed; its
    budget must have something left.
    """
    try:
        task = TaskContract.model_validate_json(bytes(command.task))
    except ValidationError as error:
        named = field_errors(error.errors(include_input=False, include_url=False))
        return outcomes.refused(InvalidRequest("the task breaks its contract", errors=named))
    if task.deadline is not None and task.deadline <= now:
        late = TimedOut("the deadline had passed before the attempt started")
        return outcomes.refused(late, retryable=False)
    left = task.budget_left
    if left is not None and 0 in (left.tokens, left.micro_dollars, left.llm_calls, left.time_ms):
        return outcomes.refused(BudgetExceeded("nothing was left of the budget for this attempt"))
    return task

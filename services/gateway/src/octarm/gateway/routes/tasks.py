"""Show, list, cancel and explain tasks; fetch a result."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from octarm.gateway.documents import Cancellation, Explanation, TaskFilter
from octarm.gateway.routes import openapi
from octarm.gateway.routes.bodies import read_optional
from octarm.gateway.routes.caller import FromCaller
from octarm.gateway.usecases.follow import ExplainTask, FetchResult
from octarm.gateway.usecases.ports import Tasks
from octarm.models.ids import TaskId
from octarm.models.queries import Cancelled, FindTasks, Outcome, TasksFound, TaskView

MAX_WAIT_S = 60.0
TaskPath = Annotated[TaskId, Path(description="The task's id")]
Wait = Annotated[
    float,
    Query(ge=0, le=MAX_WAIT_S, allow_inf_nan=False, description="Seconds to wait for the end"),
]


def task_routes(tasks: Tasks, fetch_result: FetchResult, explain: ExplainTask) -> APIRouter:
    """The routes of tasks that exist."""
    router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

    @router.get("")
    async def list_tasks(caller: FromCaller, only: Annotated[TaskFilter, Query()]) -> TasksFound:
        """List tasks, newest first."""
        return await tasks.find(
            FindTasks(
                tenant=caller.tenant,
                state=only.state,
                arm_id=only.arm,
                label=only.label,
                cursor=only.cursor,
                limit=only.limit,
            )
        )

    @router.get("/{task_id}")
    async def get_task(task_id: TaskPath, caller: FromCaller) -> TaskView:
        """Show a task with its attempts."""
        return await tasks.get(caller.tenant, task_id)

    @router.post("/{task_id}/cancel", openapi_extra=openapi.CANCEL)
    async def cancel_task(task_id: TaskPath, caller: FromCaller, request: Request) -> Cancelled:
        """Call a task off, and every open task below it; doing it twice is doing it once.

        What no arm runs is cancelled at once. Running work is told to stop and cut off after
        5 seconds; until that is proven it is `cancelling_since`.
        """
        wish = await read_optional(request, Cancellation)
        return await tasks.cancel(caller.tenant, task_id, wish.reason)

    @router.delete("/{task_id}")
    async def delete_task(task_id: TaskPath, caller: FromCaller) -> Cancelled:
        """Call a task off, as `POST …/cancel` does."""
        return await tasks.cancel(caller.tenant, task_id)

    @router.get("/{task_id}/result", responses=openapi.NOT_ENDED)
    async def get_result(
        task_id: TaskPath, caller: FromCaller, response: Response, wait: Wait = 0.0
    ) -> Outcome:
        """Fetch what became of a task, waiting up to a minute for its end."""
        outcome = await fetch_result(caller.tenant, task_id, wait_s=wait)
        if not outcome.state.is_terminal:
            response.status_code = 202
            response.headers["Retry-After"] = "1"
        return outcome

    @router.get("/{task_id}/explain")
    async def explain_task(task_id: TaskPath, caller: FromCaller) -> Explanation:
        """Say why a task waits, or why it went where it went."""
        return await explain(caller.tenant, task_id)

    return router

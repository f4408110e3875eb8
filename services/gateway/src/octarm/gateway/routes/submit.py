"""Hand tasks in: one, or up to a thousand."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from octarm.common.failpoints import failpoint
from octarm.common.telemetry import tracing
from octarm.gateway.documents import (
    BatchAnswer,
    BatchAnswers,
    RawBatch,
    Receipt,
)
from octarm.gateway.domain import headers
from octarm.gateway.routes import openapi
from octarm.gateway.routes.bodies import (
    MAX_BATCH_BYTES,
    MAX_BATCH_VALUES,
    read_as,
    read_body,
    read_large,
)
from octarm.gateway.routes.caller import Caller, caller_of
from octarm.gateway.usecases.submit import Submit, accepted
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import InvalidRequest, OctarmError
from octarm.models.queries import Accepted, SubmitAnswer

JSON: Final = "application/json"
SUBMIT_PATH: Final = "/v1/tasks"
BATCH_PATH: Final = f"{SUBMIT_PATH}/batch"
# A task with a key may be one that was accepted already, which is answered at any time.
KEY_FIELD: Final = b'"idempotency_key"'
# Between these others get their turn.
CHECKED_IN_A_ROW: Final = 50
Endpoint = Callable[[Request], Awaitable[Response]]


def submit_endpoint(submit: Submit) -> Endpoint:
    """The endpoint that accepts a task; it takes the raw request, for speed."""

    async def submit_task(request: Request) -> Response:
        """Submit a task.

        The answer comes when the task is durable: it will end, whatever fails meanwhile. The
        same idempotency key with the same task gives the same task again (200).
        """
        caller = caller_of(request.scope)
        key = headers.idempotency_key(request.headers.getlist("idempotency-key"))
        body = await read_body(request)
        if key is None and KEY_FIELD not in body:
            submit.must_be_open(caller.tenant)
        fields = await read_large(body)
        if key is not None:
            fields["idempotency_key"] = key
        submission = read_as(TaskSubmission, fields)
        with _traced(caller, SUBMIT_PATH) as span:
            task = _command(submission, caller, span.traceparent)
            return _receipt(await submit.one(caller.tenant, task))

    return submit_task


def submit_routes(submit: Submit, submit_task: Endpoint) -> APIRouter:
    """The routes that accept tasks."""
    router = APIRouter(tags=["tasks"])
    router.post(SUBMIT_PATH, status_code=202, openapi_extra=openapi.SUBMIT_ONE)(submit_task)

    @router.post(BATCH_PATH, openapi_extra=openapi.SUBMIT_BATCH)
    async def submit_batch(request: Request) -> Response:
        """Submit up to 1,000 tasks; each gets its own answer, in order.

        Idempotency keys belong into the tasks.
        """
        caller = caller_of(request.scope)
        if "idempotency-key" in request.headers:
            raise InvalidRequest(
                "a batch has no Idempotency-Key", "Put idempotency_key into each task."
            )
        body = await read_body(request, MAX_BATCH_BYTES)
        if KEY_FIELD not in body:
            submit.must_be_open(caller.tenant)
        batch = read_as(RawBatch, await read_large(body, MAX_BATCH_VALUES))
        with _traced(caller, BATCH_PATH) as span:
            span.put(tasks=len(batch.tasks))
            answers = await _submit_each(submit, batch.tasks, caller, span.traceparent)
        text = BatchAnswers(answers=answers).model_dump_json(exclude_none=True)
        return Response(text, media_type=JSON)

    return router


def _traced(caller: Caller, route: str) -> AbstractContextManager[tracing.Span]:
    return tracing.span(
        "gateway.submit",
        caller.traceparent,
        tenant=caller.tenant,
        correlation_id=caller.correlation_id,
        route=route,
    )


def _command(submission: TaskSubmission, caller: Caller, traceparent: str) -> SubmitTask:
    return SubmitTask(
        submission=submission, traceparent=traceparent, correlation_id=caller.correlation_id
    )


def _receipt(task: Accepted) -> Response:
    receipt = Receipt.of(task.task_id, task.state)
    failpoint("gateway_before_reply")
    return Response(
        receipt.model_dump_json(exclude_none=True),
        202 if task.created else 200,
        {"Location": f"/v1/tasks/{task.task_id}"},
        JSON,
    )


async def _submit_each(
    submit: Submit, tasks: list[dict[str, Any]], caller: Caller, traceparent: str
) -> list[BatchAnswer]:
    """Check each task, submit the good ones together, answer all in order."""
    refused: dict[int, OctarmError] = {}
    commands: list[SubmitTask] = []
    for index, fields in enumerate(tasks):
        if index % CHECKED_IN_A_ROW == 0:
            await asyncio.sleep(0)
        try:
            submission = read_as(TaskSubmission, fields)
            submit.check(submission)
            commands.append(_command(submission, caller, traceparent))
        except InvalidRequest as error:
            refused[index] = error
    answers = iter(await submit.many(caller.tenant, commands))
    return [
        _refusal(refused[index], caller) if index in refused else _answer(next(answers), caller)
        for index in range(len(tasks))
    ]


def _answer(answer: SubmitAnswer, caller: Caller) -> BatchAnswer:
    try:
        task = accepted(answer)
    except OctarmError as error:
        return _refusal(error, caller)
    status = 202 if task.created else 200
    return BatchAnswer(status=status, task=Receipt.of(task.task_id, task.state))


def _refusal(error: OctarmError, caller: Caller) -> BatchAnswer:
    problem = error.problem(correlation_id=caller.correlation_id)
    return BatchAnswer(status=problem.status, problem=problem)

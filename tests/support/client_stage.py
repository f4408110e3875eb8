"""An orchestrator played on a real nats-server, for clients."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.common.bus.connection import connect
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.requests import ok, problem
from octarm.common.bus.topology import provision
from octarm.models import events, queries, subjects
from octarm.models.contracts import TaskContract, TaskSubmission
from octarm.models.errors import InvalidRequest, NotFound, OctarmError, TaskFailed
from octarm.models.ids import event_id, new_id
from octarm.models.results import ExecutionResult, ProvenanceMetadata
from octarm.models.states import TaskState


def a_result(task_id: str, output: Any = "done") -> ExecutionResult:
    """A success of a task's first attempt."""
    return ExecutionResult(
        task_id=task_id,
        attempt=1,
        arm_id="worker",
        instance_id="i-1",
        status="success",
        output=output,
        execution_time_ms=1,
        provenance=ProvenanceMetadata(
            arm_id="worker", timestamp=datetime.now(UTC), command_hash="0" * 64
        ),
    )


@dataclass
class Row:
    """What the ledger knows of a task."""

    task: TaskContract
    state: TaskState = TaskState.QUEUED
    result: ExecutionResult | None = None
    error: OctarmError | None = None
    events: int = 0


@dataclass
class ClientStage:
    """Answers a client's questions and tells it what became of its tasks."""

    nc: NATS
    url: str
    publisher: Publisher
    rows: dict[str, Row] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    requests: int = 0
    silent_requests: int = 0
    refusals: list[OctarmError] = field(default_factory=list)
    finish_at_once: bool = False
    state_queries: int = 0

    async def open(self) -> None:
        """Answer from now on."""
        await provision(self.nc.jetstream())
        for query, callback in (
            (subjects.SUBMIT_TASKS, self._submit),
            (subjects.GET_STATES, self._states),
            (subjects.GET_TASK, self._get),
            (subjects.FIND_TASKS, self._find),
            (subjects.CANCEL_TASK, self._cancel),
        ):
            await self.nc.subscribe(query.template, cb=callback)
        await self.nc.flush()

    async def _submit(self, msg: Msg) -> None:
        self.requests += 1
        if self.refusals:
            await msg.respond(problem(self.refusals.pop(0)))
            return
        request = queries.SubmitTasks.model_validate_json(msg.data)
        answers = [self._accept(request.tenant, one.submission) for one in request.submissions]
        if self.silent_requests:
            self.silent_requests -= 1
            return
        fresh = [a.accepted.task_id for a in answers if a.accepted and a.accepted.created]
        if self.finish_at_once:
            for task_id in fresh:
                await self.finish(task_id)
        body = queries.SubmitAnswers(answers=answers).model_dump_json().encode()
        await msg.respond(ok(body))

    def _accept(self, tenant: str, submission: TaskSubmission) -> queries.SubmitAnswer:
        if submission.goal == "refuse me":
            refusal = InvalidRequest("refused", code="INVALID_PLAN")
            return queries.SubmitAnswer(problem=refusal.problem())
        assert submission.idempotency_key is not None
        known = self.keys.get(submission.idempotency_key)
        task_id = known or new_id("tsk")
        if known is None:
            self.keys[submission.idempotency_key] = task_id
            contract = TaskContract(
                **submission.model_dump(),
                task_id=task_id,
                tenant=tenant,
                created_at=datetime.now(UTC),
            )
            self.rows[task_id] = Row(contract)
        state = self.rows[task_id].state
        return queries.SubmitAnswer(
            accepted=queries.Accepted(task_id=task_id, state=state, created=known is None)
        )

    async def _states(self, msg: Msg) -> None:
        self.state_queries += 1
        request = queries.GetStates.model_validate_json(msg.data)
        found = [self._outcome(task_id) for task_id in request.task_ids if task_id in self.rows]
        await msg.respond(ok(queries.StatesFound(outcomes=found).model_dump_json().encode()))

    def _outcome(self, task_id: str) -> queries.Outcome:
        row = self.rows[task_id]
        return queries.Outcome(
            task_id=task_id,
            state=row.state,
            attempt=1,
            result=row.result,
            error=row.error.problem() if row.error else None,
        )

    def _view(self, task_id: str) -> queries.TaskView:
        row = self.rows[task_id]
        return queries.TaskView(
            task_id=task_id,
            tenant=row.task.tenant,
            state=row.state,
            status="running",
            attempt=1,
            created_at=row.task.created_at,
            updated_at=row.task.created_at,
            task=row.task,
        )

    async def _get(self, msg: Msg) -> None:
        request = queries.GetTask.model_validate_json(msg.data)
        if request.task_id not in self.rows:
            await msg.respond(problem(NotFound("no such task")))
            return
        await msg.respond(ok(self._view(request.task_id).model_dump_json().encode()))

    async def _find(self, msg: Msg) -> None:
        request = queries.FindTasks.model_validate_json(msg.data)
        tasks = [self._view(task_id) for task_id in list(self.rows)[: request.limit]]
        await msg.respond(ok(queries.TasksFound(tasks=tasks).model_dump_json().encode()))

    async def _cancel(self, msg: Msg) -> None:
        request = queries.CancelTask.model_validate_json(msg.data)
        row = self.rows[request.task_id]
        row.state = TaskState.CANCELLED
        row.error = TaskFailed(request.reason or "cancelled", code="CANCELLED")
        await msg.respond(ok(self._outcome(request.task_id).model_dump_json().encode()))

    async def announce(self, kind: type[events.TaskEvent], task_id: str, **fields: Any) -> None:
        """Put an event of a task on the stream."""
        row = self.rows[task_id]
        row.events += 1
        event = kind(
            event_id=event_id(task_id, row.events),
            occurred_at=datetime.now(UTC),
            task_id=task_id,
            tenant=row.task.tenant,
            seq=row.events,
            attempt=1,
            **fields,
        )
        verb = kind.model_fields["type"].default.removeprefix("task.")
        subject = subjects.TASK_EVENTS.at(
            what=subjects.what_of(verb),
            tenant=row.task.tenant,
            bucket=subjects.event_bucket(task_id),
        )
        body = b'{"events":[%b]}' % event.model_dump_json().encode()
        await self.publisher.publish(Outgoing(subject, body, event.event_id))

    async def finish(self, task_id: str, output: Any = "done", *, tell: bool = True) -> None:
        """Let a task succeed; untold ends are only in the ledger."""
        row = self.rows[task_id]
        row.result, row.state = a_result(task_id, output), TaskState.COMPLETED
        if tell:
            await self.announce(events.TaskCompleted, task_id, result=row.result)

    async def fail(self, task_id: str, error: OctarmError) -> None:
        """Let a task fail for good."""
        row = self.rows[task_id]
        row.error, row.state = error, TaskState.FAILED
        await self.announce(events.TaskFailed, task_id, error=error.problem())


@asynccontextmanager
async def a_client_stage(url: str) -> AsyncGenerator[ClientStage, None]:
    """A provisioned bus with an orchestrator that is played."""
    nc = await connect(url, name="stage")
    publisher = Publisher(nc)
    stage = ClientStage(nc, url, publisher)
    try:
        await stage.open()
        yield stage
    finally:
        await publisher.close()
        await nc.close()

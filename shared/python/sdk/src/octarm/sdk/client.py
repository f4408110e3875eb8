"""Client: submits tasks and follows them, on the bus."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.clients.orchestrator import OrchestratorClient
from octarm.clients.policies import PolicyClient
from octarm.common.bus.connection import connect
from octarm.common.bus.requests import ask_raw
from octarm.common.bus.task_history import events_subject
from octarm.common.bus.wire import listen
from octarm.common.cancelling import end
from octarm.models.errors import NotFound, OctarmError, TaskFailed
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.queries import Cancelled, FindTasks, TasksFound, TaskView
from octarm.models.results import ExecutionResult
from octarm.models.states import TaskState
from octarm.models.subjects import COMPLETED, STOPPED, SUBMIT_TASKS
from octarm.sdk.endings import endings_in
from octarm.sdk.event_streams import StreamedEvent, last_place, read_events
from octarm.sdk.fates import SWEEP_S, Fate, Fates, Finishing
from octarm.sdk.settings import ClientSettings, find_nats
from octarm.sdk.submissions import Keys, Submission, SubmissionsRefused, encode
from octarm.sdk.submitter import Submitter
from octarm.sdk.tasks import Task

SUBMIT_TIMEOUT_S: Final = 30.0
CLOCKS_DIFFER: Final = timedelta(minutes=1)


class Client:
    """A tenant's way to submit tasks and to hear of them; use it as `async with Client() as c`.

    Without `nats_url` it takes OCTARM_NATS_URL, else the embedded stack's (`octarm up`).
    `sweep_s` is how often it asks about tasks whose end it may have missed.
    """

    def __init__(
        self, nats_url: str | None = None, tenant: str = "default", *, sweep_s: float = SWEEP_S
    ) -> None:
        self.tenant = tenant
        self._nats_url = nats_url
        self._sweep_s = sweep_s
        self._keys = Keys()
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            Unavailable: NATS is not known, or does not answer.
        """
        url = self._nats_url or find_nats(ClientSettings())
        async with AsyncExitStack() as opened:
            self._nc: NATS = await connect(url, name="client")
            opened.push_async_callback(self._nc.close)
            self._ledger = OrchestratorClient(self._nc)
            self._fates = Fates(self._ledger, self.tenant)
            self._submitter = Submitter(self.tenant, self._request, self._fates.follow)
            for what in (COMPLETED, STOPPED):
                await listen(self._nc, events_subject(self.tenant, what=what), self._heard)
            await self._nc.flush()
            lost = partial(self._nc.stats.__getitem__, "reconnects")
            sweeping = asyncio.create_task(self._fates.run(self._sweep_s, lost))
            opened.push_async_callback(end, sweeping)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect; submitted tasks go on."""
        await self._opened.aclose()

    def _heard(self, msg: Msg) -> None:
        try:
            endings = endings_in(msg.data)
        except NOT_UNDERSTOOD:
            # What it told, the next sweep asks for.
            return
        for ending in endings:
            state = ending.state
            if state is not None:
                self._fates.heard(ending, state)

    async def _request(self, body: bytes, timeout_s: float) -> bytes:
        return await ask_raw(self._nc, SUBMIT_TASKS.template, body, timeout_s=timeout_s)

    async def submit(self, *, timeout: float = SUBMIT_TIMEOUT_S, **submission: Any) -> Task:
        """Submit one task; the arguments are the fields of `TaskSubmission`.

        Returns once the task is durable. Backpressure and silence are waited out for
        `timeout` seconds.

        Raises:
            OctarmError: the submission was refused, or the time is up.
        """
        try:
            (task,) = await self.submit_many([submission], timeout=timeout)
        except SubmissionsRefused as refusal:
            raise refusal.refused[0] from None
        return task

    async def submit_many(
        self, submissions: Iterable[Submission], *, timeout: float = SUBMIT_TIMEOUT_S
    ) -> list[Task]:
        """Submit many tasks in few requests; handles come in the order of the submissions.

        Each gets an idempotency key unless it has one, so asking again never doubles a task.

        Raises:
            SubmissionsRefused: some were refused, or the time is up; the others run.
            InvalidRequest: one is not JSON; none was sent.
        """
        encoded = [encode(n, given, self._keys) for n, given in enumerate(submissions)]
        self._fates.submission_begins()
        try:
            answers = await self._submitter.submit(encoded, timeout)
            tasks: dict[int, Task] = {}
            refused: dict[int, OctarmError] = {}
            for index, answer in enumerate(answers):
                if isinstance(answer, OctarmError):
                    refused[index] = answer
                else:
                    tasks[index] = Task(self, answer)
        finally:
            self._fates.submission_ends()
        if refused:
            raise SubmissionsRefused(refused, tasks)
        return list(tasks.values())

    def task(self, task_id: str) -> Task:
        """Give a handle on a task that was submitted elsewhere or earlier."""
        return Task(self, self._fates.follow(task_id, TaskState.QUEUED), known=False)

    async def as_completed(
        self, tasks: Sequence[Task], timeout: float | None = None
    ) -> AsyncGenerator[tuple[Task, ExecutionResult | TaskFailed | NotFound], None]:
        """Yield each task with its result, or with why it has none, in the order they end.

        Raises:
            TimeoutError: they did not all end within `timeout` seconds.
        """
        finishing = Finishing()
        handles: dict[Fate, Task] = {}
        again: dict[Fate, list[Task]] = {}
        for task in tasks:
            if task.fate in handles:
                again.setdefault(task.fate, []).append(task)
            else:
                handles[task.fate] = task
        tell = finishing.tell
        for fate in handles:
            fate.when_ended(tell)
        until = None if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            for _ in range(len(handles)):
                fate = await finishing.next(until)
                for task in (handles[fate], *again.pop(fate, ())):
                    yield task, fate.outcome() or await _result(task)
        finally:
            for fate in handles:
                fate.forget(tell)

    @property
    def policies(self) -> PolicyClient:
        """Save, try and deploy scheduling policies, in the tenant's name."""
        return PolicyClient(self._nc, by=self.tenant)

    async def get(self, task_id: str) -> TaskView:
        """Show a task.

        Raises:
            NotFound: the tenant has no such task.
        """
        return await self._ledger.get(self.tenant, task_id)

    async def find(self, **criteria: Any) -> TasksFound:
        """Page through the tasks, newest first: `state`, `arm_id`, `label`, `cursor`, `limit`."""
        return await self._ledger.find(FindTasks(tenant=self.tenant, **criteria))

    async def cancel(self, task_id: str, reason: str = "") -> Cancelled:
        """Call a task off with all below it and say where they stand; twice is once.

        Raises:
            NotFound: the tenant has no such task.
        """
        outcome = await self._ledger.cancel(self.tenant, task_id, reason)
        self._fates.learn(outcome)
        return outcome

    async def ask(self, fate: Fate) -> None:
        """Ask the ledger about a task now."""
        await self._fates.ask([fate])

    async def events(
        self, *, after: int | None = None, task_id: str = ""
    ) -> AsyncGenerator[StreamedEvent, None]:
        """Yield the tenant's events for ever, or one task's, behind a place in the stream.

        None: from now on; 0: from the beginning of the history (7 days). Resume with the
        `place` of the last event; reconnects are handled within.
        """
        start = await last_place(self._nc) if after is None else after
        since = None
        if task_id and start == 0:
            since = (await self.get(task_id)).created_at - CLOCKS_DIFFER
        stream = read_events(self._nc, self.tenant, task_id, after=start, since=since)
        try:
            async for event in stream:
                yield event
        finally:
            await stream.aclose()


async def _result(task: Task) -> ExecutionResult | TaskFailed | NotFound:
    try:
        return await task.result()
    except (TaskFailed, NotFound) as error:
        return error

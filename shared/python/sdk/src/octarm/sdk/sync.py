"""SyncClient: the client for scripts that are not async."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from octarm.models.errors import NotFound, TaskFailed
from octarm.models.queries import Cancelled, TasksFound, TaskView
from octarm.models.results import ExecutionResult
from octarm.models.states import TaskState
from octarm.sdk.client import SUBMIT_TIMEOUT_S, Client
from octarm.sdk.event_streams import StreamedEvent
from octarm.sdk.submissions import Submission, SubmissionsRefused
from octarm.sdk.sync_policies import SyncPolicies
from octarm.sdk.tasks import Task

T = TypeVar("T")


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="octarm-client", daemon=True
        )
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and give its result; an interrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, generator: AsyncGenerator[T, None]) -> Iterator[T]:
        """Run an async generator there, step by step."""
        try:
            while True:
                try:
                    yield self.call(_step(generator))
                except StopAsyncIteration:
                    return
        finally:
            self.call(_close(generator))

    def close(self) -> None:
        """Stop the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _step(generator: AsyncGenerator[T, None]) -> T:
    return await anext(generator)


async def _close(generator: AsyncGenerator[Any, None]) -> None:
    await generator.aclose()


class SyncTask:
    """A submitted task; see `Task`, whose methods these are."""

    __slots__ = ("_loop", "_task")

    def __init__(self, task: Task, loop: _Loop) -> None:
        self._task = task
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._task)

    @property
    def id(self) -> str:
        """The task's id."""
        return self._task.id

    @property
    def state(self) -> TaskState:
        """The state last heard of."""
        return self._task.state

    @property
    def handle(self) -> Task:
        """The async handle behind it."""
        return self._task

    def wait(self, timeout: float | None = None) -> TaskState:
        """Wait for the end, whatever it is; see `Task.wait`."""
        return self._loop.call(self._task.wait(timeout))

    def result(self, timeout: float | None = None) -> ExecutionResult:
        """Wait for the result; raises as `Task.result` does."""
        return self._loop.call(self._task.result(timeout))

    def cancel(self, reason: str = "") -> TaskState:
        """Call it off and give its state."""
        return self._loop.call(self._task.cancel(reason))

    def show(self) -> TaskView:
        """Ask for everything about it."""
        return self._loop.call(self._task.show())

    def events(self, after: int = 0) -> Iterator[StreamedEvent]:
        """Yield its events up to the one that ends it."""
        return self._loop.each(self._task.events(after))


class SyncClient:
    """`Client` without async: `with SyncClient() as c`. Its event loop runs in a thread.

    Every method does and raises what the method of that name of `Client` does.
    """

    def __init__(self, nats_url: str | None = None, tenant: str = "default") -> None:
        self._nats_url = nats_url
        self._tenant = tenant

    def __enter__(self) -> Self:
        """Connect."""
        self._loop = _Loop()
        try:
            self._client = Client(self._nats_url, self._tenant)
            self._loop.call(self._client.__aenter__())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect; submitted tasks go on."""
        try:
            self._loop.call(self._client.__aexit__(None, None, None))
        finally:
            self._loop.close()

    def submit(self, *, timeout: float = SUBMIT_TIMEOUT_S, **submission: Any) -> SyncTask:
        """Submit one task."""
        task = self._loop.call(self._client.submit(timeout=timeout, **submission))
        return SyncTask(task, self._loop)

    def submit_many(
        self, submissions: Iterable[Submission], *, timeout: float = SUBMIT_TIMEOUT_S
    ) -> list[SyncTask]:
        """Submit many tasks in few requests."""
        try:
            tasks = self._loop.call(self._client.submit_many(submissions, timeout=timeout))
        except SubmissionsRefused as refusal:
            refusal.accepted = {
                index: SyncTask(task, self._loop) for index, task in refusal.accepted.items()
            }
            raise
        return [SyncTask(task, self._loop) for task in tasks]

    def task(self, task_id: str) -> SyncTask:
        """Give a handle on a task that was submitted elsewhere or earlier."""

        async def handle() -> Task:
            return self._client.task(task_id)

        return SyncTask(self._loop.call(handle()), self._loop)

    def as_completed(
        self, tasks: Sequence[SyncTask], timeout: float | None = None
    ) -> Iterator[tuple[SyncTask, ExecutionResult | TaskFailed | NotFound]]:
        """Yield each task with its result, or with why it has none, in the order they end."""
        by_id = {task.id: task for task in tasks}
        handles = [task.handle for task in tasks]
        for task, result in self._loop.each(self._client.as_completed(handles, timeout)):
            yield by_id[task.id], result

    @property
    def policies(self) -> SyncPolicies:
        """Save, try and deploy scheduling policies, in the tenant's name."""
        return SyncPolicies(self._client.policies, self._loop.call)

    def get(self, task_id: str) -> TaskView:
        """Show a task."""
        return self._loop.call(self._client.get(task_id))

    def find(self, **criteria: Any) -> TasksFound:
        """Page through the tasks, newest first."""
        return self._loop.call(self._client.find(**criteria))

    def cancel(self, task_id: str, reason: str = "") -> Cancelled:
        """Call a task off with all below it and say where they stand."""
        return self._loop.call(self._client.cancel(task_id, reason))

    def events(self, *, after: int | None = None) -> Iterator[StreamedEvent]:
        """Yield the tenant's events, for ever."""
        return self._loop.each(self._client.events(after=after))

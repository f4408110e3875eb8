"""Task: a handle on one submitted task."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

from octarm.models.errors import NotFound, OctarmError
from octarm.models.events import TERMINAL_VERBS
from octarm.models.queries import Outcome, TaskView
from octarm.models.results import ExecutionResult
from octarm.models.states import TaskState
from octarm.sdk.event_streams import StreamedEvent
from octarm.sdk.fates import Fate

_TERMINAL_TYPES = frozenset(f"task.{verb}" for verb in TERMINAL_VERBS)


class Service(Protocol):
    """What a handle needs of its client."""

    async def get(self, task_id: str) -> TaskView:
        """Show a task."""
        ...

    async def cancel(self, task_id: str, reason: str = "") -> Outcome:
        """Call a task off."""
        ...

    async def ask(self, fate: Fate) -> None:
        """Ask the ledger about a task now."""
        ...

    def events(
        self, *, after: int | None = None, task_id: str = ""
    ) -> AsyncGenerator[StreamedEvent, None]:
        """Read events."""
        ...


class Task:
    """A submitted task; lives as long as its client."""

    __slots__ = ("_client", "_fate", "_known")

    def __init__(self, client: Service, fate: Fate, *, known: bool = True) -> None:
        self._client = client
        self._fate = fate
        self._known = known

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.state}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._fate.task_id

    @property
    def state(self) -> TaskState:
        """The state last heard of; between acceptance and the end, `show()` is exact."""
        return self._fate.state

    @property
    def fate(self) -> Fate:
        """What is known of the task."""
        return self._fate

    async def wait(self, timeout: float | None = None) -> TaskState:
        """Wait for the end, whatever it is, and give it.

        Raises:
            TimeoutError: it did not end within `timeout` seconds; waiting again is fine.
            NotFound: there is no such task.
        """
        if not self._known:
            await self._client.ask(self._fate)
            self._known = True
        if not self._fate.ended:
            await self._until_ended(timeout)
        if isinstance(self._fate.error, NotFound):
            raise self._fate.error
        return self._fate.state

    async def _until_ended(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def tell(_: Fate) -> None:
            if not ended.done():
                ended.set_result(None)

        self._fate.when_ended(tell)
        try:
            async with asyncio.timeout(timeout):
                await ended
        finally:
            self._fate.forget(tell)

    async def result(self, timeout: float | None = None) -> ExecutionResult:
        """Wait for the result of a task that succeeds.

        Raises:
            TaskFailed: it ended otherwise; `code` says how.
            TimeoutError: it did not end within `timeout` seconds; waiting again is fine.
            NotFound: there is no such task.
        """
        await self.wait(timeout)
        outcome = self._fate.outcome()
        if outcome is None:
            # Too large for the event: the ledger has it.
            await self._client.ask(self._fate)
            outcome = self._fate.outcome()
        if outcome is None:
            raise OctarmError(f"the ledger has no result of {self.id}")
        if isinstance(outcome, OctarmError):
            raise outcome
        return outcome

    async def cancel(self, reason: str = "") -> TaskState:
        """Call it off and give its state; what runs is told, and cut off after 5 seconds."""
        return (await self._client.cancel(self.id, reason)).state

    async def show(self) -> TaskView:
        """Ask for everything about it: attempts, arm, spend."""
        return await self._client.get(self.id)

    async def events(self, after: int = 0) -> AsyncGenerator[StreamedEvent, None]:
        """Yield its events behind a stream sequence, up to the one that ends it."""
        stream = self._client.events(after=after, task_id=self.id)
        try:
            async for event in stream:
                yield event
                if event.type in _TERMINAL_TYPES:
                    return
        finally:
            await stream.aclose()

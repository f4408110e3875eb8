"""Wait for a task: its outcome, its events, the reason why it is not there yet."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import JsonValue

from octarm.gateway.documents import Explanation
from octarm.gateway.usecases.ports import Fleet, PassingChunk, StoredEvent
from octarm.models.errors import NotFound, OctarmError
from octarm.models.events import TERMINAL_VERBS
from octarm.models.queries import AttemptView, Outcome, Waiting
from octarm.models.states import TaskState, job_status
from octarm.models.subjects import shard_of

# Hints of an ending travel on core NATS, so a lost one costs this long.
SWEEP_S: Final = 2.0
CLOCKS_DIFFER: Final = timedelta(minutes=1)
FIRST: Final = asyncio.FIRST_COMPLETED


@dataclass(frozen=True, slots=True)
class FetchResult:
    """Give a task's outcome, waiting for it when asked to."""

    fleet: Fleet
    closing: asyncio.Event

    async def __call__(self, tenant: str, task_id: str, *, wait_s: float) -> Outcome:
        """Give the outcome as it is when the task ends, `wait_s` passes or we close.

        Raises:
            NotFound: the tenant has no such task.
        """
        outcome = await outcome_of(self.fleet, tenant, task_id)
        deadline = time.monotonic() + wait_s
        if outcome.state.is_terminal or wait_s <= 0:
            return outcome
        async with self.fleet.events.endings(tenant, task_id) as ended:
            while True:
                outcome = await outcome_of(self.fleet, tenant, task_id)
                left = deadline - time.monotonic()
                if outcome.state.is_terminal or left <= 0 or self.closing.is_set():
                    return outcome
                await _either(ended, self.closing, timeout_s=min(left, SWEEP_S))
                ended.clear()


async def _either(one: asyncio.Event, other: asyncio.Event, *, timeout_s: float) -> None:
    waits = [asyncio.ensure_future(flag.wait()) for flag in (one, other)]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=FIRST)
    finally:
        for wait in waits:
            wait.cancel()


@dataclass(frozen=True, slots=True)
class Ping:
    """Nothing happened for a while."""


@dataclass(frozen=True, slots=True)
class Closing:
    """We close before the task has ended; the client may resume elsewhere."""


Frame = StoredEvent | PassingChunk | Ping | Closing


@dataclass(frozen=True, slots=True)
class WatchTask:
    """Follow a task's events to the terminal one."""

    fleet: Fleet
    closing: asyncio.Event
    ping_s: float = 15.0

    async def begins(self, tenant: str, task_id: str, *, after: int) -> datetime | None:
        """Say since when there is something to tell behind a place, None when there is nothing.

        Raises:
            NotFound: the tenant has no such task.
        """
        task = await self.fleet.tasks.get(tenant, task_id)
        begins = task.created_at - CLOCKS_DIFFER
        if task.terminal_at is None:
            return begins
        if after and await self.fleet.events.verb_at(after, task_id) in TERMINAL_VERBS:
            return None
        kept = await self.fleet.events.kept_since()
        is_fresh = datetime.now(UTC) - task.terminal_at < CLOCKS_DIFFER
        # The news of a fresh end may still be on its way; that of an old one may be forgotten.
        return begins if is_fresh or (kept is not None and task.terminal_at > kept) else None

    async def __call__(
        self, tenant: str, task_id: str, *, after: int, since: datetime
    ) -> AsyncGenerator[Frame, None]:
        """Give frames until the terminal event; nothing was told before `since`."""
        closing = asyncio.ensure_future(self.closing.wait())
        coming: asyncio.Future[StoredEvent | PassingChunk] | None = None
        async with self.fleet.events.follow(tenant, task_id, after=after, since=since) as frames:
            try:
                while True:
                    coming = coming or asyncio.ensure_future(anext(frames))
                    await asyncio.wait((coming, closing), timeout=self.ping_s, return_when=FIRST)
                    if coming.done():
                        frame, coming = coming.result(), None
                        yield frame
                        if _is_last(frame):
                            return
                    elif closing.done():
                        yield Closing()
                        return
                    else:
                        yield Ping()
            finally:
                closing.cancel()
                if coming is not None:
                    coming.cancel()


def _is_last(frame: StoredEvent | PassingChunk) -> bool:
    return isinstance(frame, StoredEvent) and frame.verb in TERMINAL_VERBS


@dataclass(frozen=True, slots=True)
class ExplainTask:
    """Say why a task waits or why it went where it went."""

    fleet: Fleet
    shards: int

    async def __call__(self, tenant: str, task_id: str) -> Explanation:
        """Explain; a scheduler that does not answer leaves its part as a problem.

        Raises:
            NotFound: the tenant has no such task.
        """
        view = await self.fleet.tasks.get(tenant, task_id)
        waiting, problem = None, None
        if view.waits_for is not None:
            waiting = Waiting(task_id=task_id, position=None, reason=view.waits_for)
        if view.state is TaskState.QUEUED:
            try:
                shard = shard_of(tenant, task_id, self.shards)
                waiting = await self.fleet.queue.why_waiting(task_id, shard)
            except OctarmError as error:
                problem = error.problem()
        decision = _last_decision(view.attempts)
        return Explanation(
            task_id=task_id,
            policy=str(decision.get("policy", "")),
            reason=str(decision.get("reason", "")),
            state=view.state,
            status=job_status(view.state),
            attempt=view.attempt,
            attempts=view.attempts,
            waiting=waiting,
            waiting_problem=problem,
        )


def _last_decision(attempts: Sequence[AttemptView]) -> Mapping[str, JsonValue]:
    made = [it for it in attempts if it.decision]
    return max(made, key=lambda it: it.attempt).decision or {} if made else {}


async def outcome_of(fleet: Fleet, tenant: str, task_id: str) -> Outcome:
    """Give a task's outcome.

    Raises:
        NotFound: the tenant has no such task.
    """
    outcome = (await fleet.tasks.states(tenant, [task_id])).get(task_id)
    if outcome is None:
        raise NotFound(f"there is no task {task_id}")
    return outcome

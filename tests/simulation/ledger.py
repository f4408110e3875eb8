"""SimLedger: the orchestrator's storage ports in memory, on a database that may misbehave."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

from octarm.common.bus.publisher import Outgoing
from octarm.ledger.domain.changes import (
    AcceptAnswer,
    Announce,
    Entry,
    Mark,
    Moved,
    Name,
    Stopped,
    Stopping,
    Stray,
    Unwanted,
    Woken,
)
from octarm.ledger.domain.news import AttemptNews
from octarm.ledger.domain.tasks import NewTask
from octarm.ledger.storage.endings import FORGOTTEN_AFTER_S
from octarm.models.errors import Unavailable
from octarm.models.queries import Outcome
from octarm.models.states import TaskState
from tests.simulation import relatives
from tests.simulation.chances import Chances, Chronicle
from tests.simulation.rows import TaskRow
from tests.simulation.tables import Tables
from tests.simulation.timeline import EPOCH, PROCESS, START_S, VirtualLoop

T = TypeVar("T")
Change = tuple[list[Moved], Entry | None]
MakeReady = Callable[[list[Woken]], list[Outgoing]]
STATEMENT_S: Final = 0.001


class SimLedger:
    """Every port of the ledger; each call is one transaction.

    Faults: refused (rolled back), unknown (committed, but the caller gets an error), and the
    caller's process killed just before or just after the commit.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        chances: Chances,
        chronicle: Chronicle,
        *,
        dispatch_lease_s: float = 15.0,
        run_lease_s: float = 15.0,
        forgotten_after_s: float = FORGOTTEN_AFTER_S,
    ) -> None:
        self._loop = loop
        self._chances = chances
        self._chronicle = chronicle
        self.away_until = 0.0
        self.tables = Tables(
            lambda: EPOCH + timedelta(seconds=loop.now_s - START_S),
            dispatch_lease_s=dispatch_lease_s,
            run_lease_s=run_lease_s,
            forgotten_after_s=forgotten_after_s,
        )

    async def _commit(self, change: Callable[..., T], *arguments: Any, **named: Any) -> T:
        await asyncio.sleep(self._chances.delay_s(STATEMENT_S))
        if self._loop.now_s < self.away_until or self._chances.hit("commit_refused"):
            raise Unavailable("the simulated database is away", retry_after_s=1)
        await self._maybe_die("crash_before_commit")
        result = change(*arguments, **named)
        told = self._note(change.__name__, result)
        await self._maybe_die("crash_after_commit")
        if self._chances.hit("commit_unknown"):
            raise Unavailable("the connection broke while committing", retry_after_s=1)
        if told:
            await asyncio.sleep(self._chances.delay_s(STATEMENT_S))
        return result

    async def _maybe_die(self, fault: str) -> None:
        process = PROCESS.get()
        if process is not None and self._chances.hit(fault):
            self._chronicle.note(self._loop.now_s, fault, process.name)
            process.kill()
            await asyncio.get_running_loop().create_future()

    def _note(self, name: str, result: Any) -> bool:
        """Write a commit that has news into the chronicle; tells whether it has."""
        entry = result[-1] if isinstance(result, tuple) else None
        if not isinstance(entry, Entry):
            return False
        ids = [message.msg_id for message in entry.messages]
        self._chronicle.note(self._loop.now_s, name, entry.seq, *ids)
        return True

    async def accept(
        self, tasks: Sequence[NewTask], announce: Callable[[list[NewTask]], list[Outgoing]]
    ) -> tuple[list[AcceptAnswer], Entry | None]:
        """`Intake`."""
        return await self._commit(self.tables.accept, tasks, announce)

    async def held(self, names: Sequence[Name]) -> set[Mark]:
        """`Intake`."""
        return await self._commit(self.tables.held, names)

    async def look_up(self, tasks: list[NewTask]) -> list[AcceptAnswer]:
        """`Intake`."""
        return await self._commit(self.tables.look_up, tasks)

    async def record(
        self, news: Sequence[AttemptNews], delays_s: Sequence[float], announce: Announce
    ) -> tuple[list[Moved], list[Stray], Entry | None]:
        """`Attempts`."""
        return await self._commit(self.tables.record, news, delays_s, announce)

    async def cancel(self, task_id: str, tenant: str, **told: Any) -> tuple[int, Entry | None]:
        """`Cancelling`: call off a task and all below it."""
        return await self._commit(relatives.cancel, self.tables, task_id, tenant, **told)

    async def reject(
        self, unwanted: Sequence[Unwanted], announce: Announce
    ) -> tuple[list[Moved], Entry | None]:
        """`Rejecting`: end what is queued still."""
        return await self._commit(relatives.reject, self.tables, unwanted, announce)

    async def stopping(
        self, force_s: float, task_ids: Sequence[str] | None = None
    ) -> list[Stopping]:
        """`Cancelling`: what was called off and has not ended."""
        return await self._commit(relatives.stopping, self.tables, force_s, task_ids)

    async def stop(
        self, proofs: Sequence[Stopped], announce: Announce
    ) -> tuple[list[Moved], Entry | None]:
        """`Cancelling`: end what has stopped."""

        def stop() -> Change:
            moved = relatives.stop(self.tables, proofs)
            messages = announce(moved) + relatives.settle(self.tables, moved)
            return moved, self.tables.write_entry(messages)

        return await self._commit(stop)

    def _ending(
        self, state: TaskState, find: Callable[[], list[TaskRow]], told: dict[str, Any]
    ) -> Awaitable[Change]:
        def end() -> Change:
            return self.tables.finish(find(), state, **told)

        return self._commit(end)

    def _losing(
        self, outcome: str, find: Callable[[], list[TaskRow]], told: dict[str, Any]
    ) -> Awaitable[Change]:
        def lose() -> Change:
            return self.tables.lose(find(), outcome, **told)

        return self._commit(lose)

    async def time_out(self, **told: Any) -> Change:
        """`Endings`: end what is past its deadline."""
        return await self._ending(TaskState.TIMED_OUT, self.tables.overdue, told)

    async def sweep_blocked(self) -> Entry | None:
        """`Endings`: end or queue what waits for others and was missed."""
        return await self._commit(self.tables.sweep_blocked)

    async def lose_silent(self, **told: Any) -> Change:
        """`Endings`: give up attempts without a lease."""
        return await self._losing("lost", self.tables.silent, told)

    async def lose_hanging(self, **told: Any) -> Change:
        """`Endings`: give up attempts that run too long."""
        return await self._losing("timed_out", self.tables.hanging, told)

    async def wake(self, announce: MakeReady) -> tuple[list[Woken], Entry | None]:
        """`Endings`: queue what may run."""
        return await self._commit(self.tables.wake, announce)

    async def remind(self, announce: MakeReady) -> tuple[list[Woken], Entry | None]:
        """`Endings`: tell again of what has been queued for long."""
        return await self._commit(self.tables.remind, announce)

    async def renew(self, running: Sequence[tuple[str, int, str, float]]) -> None:
        """`Renews`."""
        if running:
            await self._commit(self.tables.renew, running)

    async def superseded(
        self, running: Sequence[tuple[str, int, str]]
    ) -> list[tuple[str, int, str]]:
        """`Renews`."""
        return await self._commit(self.tables.superseded, running)

    async def delete(self, seqs: Sequence[int]) -> None:
        """`Outbox`."""
        await self._commit(self.tables.delete, seqs)

    async def older_than(self, seconds: float, *, without: Collection[int]) -> list[Entry]:
        """`Outbox`."""
        return await self._commit(self.tables.older_than, seconds, without)

    async def outcomes(self, task_ids: Sequence[str]) -> list[Outcome]:
        """Say where tasks stand, as the leader of a shard asks."""

        def look() -> list[Outcome]:
            rows = [row for name in task_ids if (row := self.tables.tasks.get(name))]
            return [
                Outcome(task_id=row.task.task_id, state=row.state, attempt=row.attempt)
                for row in rows
            ]

        return await self._commit(look)

    async def state_of(self, task_id: str) -> str | None:
        """Say where a task stands, for the simulated clients."""

        def look() -> str | None:
            row = self.tables.tasks.get(task_id)
            return row.state.value if row else None

        return await self._commit(look)

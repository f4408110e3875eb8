"""Bugs, each a faulty part put into a small world; and the invariant that each must break."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import structs

from octarm.arm_registry.domain import verdict
from octarm.common.bus.delivery import ACK, Delivery, Outcome
from octarm.common.bus.publisher import Outgoing, PubAck
from octarm.common.storage import Pool, connected, transaction
from octarm.common.storage.connections import Connection
from octarm.ledger.domain.budgets import Accounts, Amounts
from octarm.ledger.domain.changes import Announce, Stopped
from octarm.ledger.domain.lifecycle import ATTEMPTED
from octarm.ledger.domain.news import AttemptNews, Step
from octarm.ledger.domain.tasks import NewTask
from octarm.ledger.storage import attempts, budgets, cancelling, plainly
from octarm.ledger.storage.attempts import PostgresAttempts
from octarm.ledger.storage.cancelling import PostgresCancelling
from octarm.ledger.storage.endings import Change, PostgresEndings
from octarm.ledger.storage.intake import PostgresIntake
from octarm.ledger.storage.reading import PostgresTasks
from octarm.models.errors import OctarmError
from octarm.models.queries import FindTasks, TasksFound
from octarm.models.queries import Outcome as Found
from tests.support import small_world
from tests.support.small_world import HERE, THERE, World

Seed = Callable[[World, pytest.MonkeyPatch], None]
BUGS: list[tuple[str, Seed]] = []
"""(invariant that must be found broken, what plants the bug)"""


def breaks(invariant: str) -> Callable[[Seed], Seed]:
    """Register a bug."""

    def register(seed: Seed) -> Seed:
        BUGS.append((invariant, seed))
        return seed

    return register


def rolling_back(nth: int) -> Callable[[Pool], Any]:
    """A `transaction` whose nth commit is lost though everybody believes in it."""
    count = 0

    @asynccontextmanager
    async def forgetful(pool: Pool) -> AsyncGenerator[Connection, None]:
        nonlocal count
        count += 1
        if count != nth:
            async with transaction(pool) as connection:
                yield connection
        else:
            async with connected(pool) as connection, connection.transaction(force_rollback=True):
                yield connection

    return forgetful


class Afterwards(PostgresAttempts):
    """Records rightly, then does more than it should."""

    def __init__(
        self, world: World, more: Callable[[list[AttemptNews]], Awaitable[object]]
    ) -> None:
        super().__init__(world.pool, world.relatives, dispatch_lease_s=15.0, run_lease_s=15.0)
        self._more = more

    async def record(
        self, news: Sequence[AttemptNews], delays_s: Sequence[float], announce: Announce
    ) -> Any:
        done = await super().record(news, delays_s, announce)
        await self._more([item for item in news if item.step is Step.ENDED])
        return done


class LosingPublisher:
    """Acknowledges everything and forgets what it is told to forget."""

    def __init__(self, world: World, forgets: Callable[[Outgoing], bool]) -> None:
        self._inner = world.publisher
        self._forgets = forgets
        self._forgotten = 0

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | OctarmError]:
        kept = [m for m in messages if self._forgotten or not self._forgets(m)]
        self._forgotten += len(messages) - len(kept)
        answers = iter(await self._inner.publish_many(kept))
        return [next(answers) if m in kept else PubAck("EVENTS", 0, False) for m in messages]


@breaks("I1")
def answers_a_submission_whose_commit_is_lost(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plainly, "connected", rolling_back(nth=2))


@breaks("I1")
def acknowledges_a_result_whose_commit_is_lost(world: World, patch: pytest.MonkeyPatch) -> None:
    class Loses(PostgresAttempts):
        async def record(self, news: Sequence[AttemptNews], *parts: Any) -> Any:
            with pytest.MonkeyPatch.context() as once:
                if news[0].step is Step.ENDED:
                    once.setattr(attempts, "transaction", rolling_back(nth=1))
                return await super().record(news, *parts)

    world.attempts = Loses(world.pool, world.relatives, dispatch_lease_s=15.0, run_lease_s=15.0)


@breaks("I1")
def never_wakes_what_waits(world: World, patch: pytest.MonkeyPatch) -> None:
    class Sleeper(PostgresEndings):
        async def wake(self, announce: Any) -> Any:
            return [], None

    async def nobody(*_: Any) -> list[Outgoing]:
        return []

    patch.setattr(world.relatives, "_free", nobody)
    world.endings = Sleeper(world.pool, world.relatives)


@breaks("I1")
def deletes_from_the_outbox_what_was_not_published(world: World, patch: pytest.MonkeyPatch) -> None:
    world.relay._publisher = LosingPublisher(world, lambda m: ".cmd.task.place." in m.subject)


@breaks("I2")
def keeps_the_result_of_a_task_that_nobody_accepted(
    world: World, patch: pytest.MonkeyPatch
) -> None:
    async def keep(ended: list[AttemptNews]) -> None:
        for item in ended:
            await world.execute(
                "insert into ledger.result (task_id, attempt, body, sha256)"
                " values (%s, %s, %s::json, sha256(%s)) on conflict do nothing",
                *(item.task_id, item.attempt, item.body.decode(), item.body),
            )

    world.attempts = Afterwards(world, keep)


@breaks("I3")
def lets_a_late_result_take_the_place_of_the_result(
    world: World, patch: pytest.MonkeyPatch
) -> None:
    async def overwrite(ended: list[AttemptNews]) -> None:
        await world.execute(
            "insert into ledger.result (task_id, attempt, body, sha256)"
            " select task_id, l.attempt, body, sha256(convert_to(body::text, 'UTF8'))"
            " from ledger.late_result l join ledger.task t on t.id = task_id"
            " where t.state = 'completed' on conflict (task_id) do update set"
            " attempt = excluded.attempt, body = excluded.body, sha256 = excluded.sha256"
        )

    world.attempts = Afterwards(world, overwrite)


@breaks("I3")
def tidies_a_result_after_its_checksum_was_taken(world: World, patch: pytest.MonkeyPatch) -> None:
    async def tidy(ended: list[AttemptNews]) -> None:
        await world.execute("update ledger.result set body = body::jsonb::json")

    world.attempts = Afterwards(world, tidy)


class Unfenced(PostgresAttempts):
    """Takes a result for the task's attempt of today, whichever it was made by."""

    async def record(
        self, news: Sequence[AttemptNews], delays_s: Sequence[float], announce: Announce
    ) -> Any:
        for item in news:
            async with connected(self._pool) as connection:
                cursor = await connection.execute(
                    "select attempt from ledger.task where id = %s", [item.task_id]
                )
                for (attempt,) in await cursor.fetchall():
                    item.attempt = attempt
        return await super().record(news, delays_s, announce)


def _unfenced(world: World) -> None:
    world.attempts = Unfenced(world.pool, world.relatives, dispatch_lease_s=15.0, run_lease_s=15.0)


@breaks("I3")
def ends_a_task_by_the_result_of_an_earlier_attempt(
    world: World, patch: pytest.MonkeyPatch
) -> None:
    _unfenced(world)


@breaks("H")
def lets_a_worker_write_whose_lease_went_to_another(
    world: World, patch: pytest.MonkeyPatch
) -> None:
    _unfenced(world)


@breaks("I4")
def retries_a_failure_under_the_same_attempt(world: World, patch: pytest.MonkeyPatch) -> None:
    async def reuse(ended: list[AttemptNews]) -> None:
        await world.execute("update ledger.task set attempt = 1 where state = 'waiting'")

    world.attempts = Afterwards(world, reuse)


@breaks("I4")
def gives_a_lost_attempt_out_again_under_its_number(
    world: World, patch: pytest.MonkeyPatch
) -> None:
    class Reuses(PostgresEndings):
        async def lose_silent(self, **parts: Any) -> Change:
            moved, entry = await super().lose_silent(**parts)
            for change in moved:
                await world.execute(
                    "update ledger.task set attempt = attempt - 1 where id = %s", change.task_id
                )
            return moved, entry

    world.endings = Reuses(world.pool, world.relatives)


@breaks("I4")
def tells_of_progress_after_the_end(world: World, patch: pytest.MonkeyPatch) -> None:
    condition = "and t.state in ('dispatched', 'running')"
    assert condition in attempts._PROGRESS
    patch.setattr(attempts, "_PROGRESS", attempts._PROGRESS.replace(condition, ""))


@breaks("I5")
@breaks("H")
def loses_an_update_of_a_parents_budget(world: World, patch: pytest.MonkeyPatch) -> None:
    write = budgets._write

    async def lose(connection: Connection, accounts: Accounts) -> None:
        for account in accounts.changed():
            account.changed = account.parent_id is not None
        await write(connection, accounts)

    patch.setattr(budgets, "_write", lose)


@breaks("I5")
def keeps_the_reservation_of_a_child_that_has_ended(
    world: World, patch: pytest.MonkeyPatch
) -> None:
    def keep(accounts: Accounts, task_id: str) -> None:
        accounts[task_id].settled = accounts[task_id].changed = True

    patch.setattr(Accounts, "settle", keep)


@breaks("I5")
def books_what_an_attempt_has_used_twice(world: World, patch: pytest.MonkeyPatch) -> None:
    book = Accounts.book

    def twice(accounts: Accounts, task_id: str, used: Amounts) -> None:
        book(accounts, task_id, used)
        accounts[task_id].used = [0, 0, 0, 0]
        book(accounts, task_id, used)

    patch.setattr(Accounts, "book", twice)


@breaks("I5")
def forgets_what_an_attempt_has_used(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Accounts, "book", lambda *_: None)


@breaks("I6")
def runs_one_attempt_on_two_instances(world: World, patch: pytest.MonkeyPatch) -> None:
    world.ran_twice = 1


@breaks("I7")
def takes_an_arm_for_dead_that_missed_one_beat(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(verdict, "OFFLINE_AFTER", 1)


@breaks("I8")
def leaves_its_lease_to_a_cancelled_task(world: World, patch: pytest.MonkeyPatch) -> None:
    class Leaves(PostgresCancelling):
        async def stop(self, proofs: Sequence[Stopped], announce: Any) -> Any:
            done = await super().stop(proofs, announce)
            await world.execute(
                "update ledger.task set lease_until = now() + interval '1 h' where id = %s",
                proofs[0].task_id,
            )
            return done

    world.cancelling = Leaves(world.pool, world.relatives)


@breaks("I8")
def forgets_to_acknowledge_what_it_has_placed(world: World, patch: pytest.MonkeyPatch) -> None:
    world.unacknowledged = 1


@breaks("I9")
def ends_a_task_twice(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempts, "ATTEMPTED", [*ATTEMPTED, "cancelled"])


@breaks("I9")
def loses_an_event_between_commit_and_stream(world: World, patch: pytest.MonkeyPatch) -> None:
    world.relay._publisher = LosingPublisher(world, lambda m: b'"task.started"' in m.payload)


@breaks("I4")
def gives_one_number_to_two_events(world: World, patch: pytest.MonkeyPatch) -> None:
    class Forgets(PostgresIntake):
        async def accept(self, tasks: Sequence[NewTask], announce: Any) -> Any:
            done = await super().accept(tasks, announce)
            await world.execute(
                "update ledger.task set event_seq = 1 where id = %s", tasks[0].task_id
            )
            return done

    world.intake = Forgets(world.pool, world.relatives)


@breaks("I10")
def lists_the_tasks_of_all_tenants(world: World, patch: pytest.MonkeyPatch) -> None:
    class Generous(PostgresTasks):
        async def find(self, wanted: FindTasks) -> TasksFound:
            pages = [
                await super(Generous, self).find(wanted.model_copy(update={"tenant": tenant}))
                for tenant in (HERE, THERE)
            ]
            return TasksFound(tasks=[task for page in pages for task in page.tasks])

    world.tasks = Generous(world.pool)


@breaks("I10")
def tells_an_event_to_another_tenant(world: World, patch: pytest.MonkeyPatch) -> None:
    class Mixed:
        def __init__(self) -> None:
            self._inner = world.publisher

        async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | OctarmError]:
            return await self._inner.publish_many(
                [
                    structs.replace(m, payload=m.payload.replace(b'"there"', b'"here"'))
                    for m in messages
                ]
            )

    world.relay._publisher = Mixed()


@breaks("I12")
def acknowledges_submissions_without_accepting_them(
    world: World, patch: pytest.MonkeyPatch
) -> None:
    class Drops:
        def __init__(self, _: object) -> None:
            pass

        async def __call__(self, batch: list[Delivery]) -> list[Outcome]:
            return [ACK] * len(batch)

    patch.setattr(small_world, "IntakeConsumer", Drops)


@breaks("I12")
def terminates_a_poisoned_message_without_burying_it(
    world: World, patch: pytest.MonkeyPatch
) -> None:
    class Hole:
        async def bury(self, delivery: Delivery, reason: str) -> None:
            delivery.term()

    world.dead_letters = Hole()  # type: ignore[assignment]


@breaks("H")
def answers_from_a_copy_that_lags(world: World, patch: pytest.MonkeyPatch) -> None:
    class Lagging(PostgresTasks):
        def __init__(self, pool: Pool) -> None:
            super().__init__(pool)
            self._answers: dict[str, list[list[Found]]] = {}

        async def outcomes(self, tenant: str, task_ids: list[str]) -> list[Found]:
            known = self._answers.setdefault(task_ids[0], [])
            known.append(await super().outcomes(tenant, task_ids))
            return known[0] if len(known) == 3 else known[-1]

    world.tasks = Lagging(world.pool)


@breaks("H")
def confirms_a_cancel_whose_commit_is_lost(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cancelling, "transaction", rolling_back(nth=1))


@breaks("H")
def makes_a_second_task_for_a_known_key(world: World, patch: pytest.MonkeyPatch) -> None:
    class Keyless(PostgresIntake):
        async def accept(self, tasks: Sequence[NewTask], announce: Any) -> Any:
            return await super().accept(
                [structs.replace(task, idem_key=None) for task in tasks], announce
            )

    world.intake = Keyless(world.pool, world.relatives)

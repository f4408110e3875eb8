"""History by month on a real Postgres: routed, kept while needed, dropped whole."""

import asyncio
from datetime import UTC, datetime

import pytest

from octarm.common.storage import Pool
from octarm.common.testing.fakes import FakeClock
from octarm.ledger.domain.months import Month
from octarm.ledger.domain.tasks import NewTask
from octarm.ledger.storage.partitions import TABLES, PostgresPartitions
from octarm.models.errors import Unavailable
from octarm.models.ids import derived_id
from octarm.orchestrator.usecases.retention import KeepRetention
from tests.support.ledger import Ledger, a_new_task, a_result, news, placed

pytestmark = pytest.mark.integration

MAY, JUNE = Month(2026, 5), Month(2026, 6)


def _id_of(month: Month, number: int) -> str:
    at = datetime(month.year, month.month, 15, tzinfo=UTC)
    return derived_id("tsk", str(number), unix_ms=int(at.timestamp() * 1000))


async def _ended(ledger: Ledger, month: Month, *numbers: int) -> list[NewTask]:
    """Tasks of a month that ended long ago."""
    tasks = [
        a_new_task(task_id=_id_of(month, n), idempotency_key=f"{month.name}-{n}") for n in numbers
    ]
    await ledger.intake.accept(tasks, lambda _: [])
    ids = [task.task_id for task in tasks]
    for batch in ([placed(i) for i in sorted(ids)], news(*[a_result(i) for i in ids])):
        await ledger.attempts.record(batch, [0.0] * len(batch), lambda _: [])
    await ledger.execute(
        "update ledger.task set terminal_at = now() - interval '200 days' where id = any(%s)", ids
    )
    return tasks


async def _made(partitions: PostgresPartitions, month: Month) -> bool:
    try:
        return await partitions.create(month)
    except Unavailable:
        return False


async def _where(ledger: Ledger, table: str) -> set[str]:
    rows = await ledger.execute(f"select distinct tableoid::regclass::text from ledger.{table}")
    return {name for (name,) in rows}


async def _count(ledger: Ledger, table: str) -> int:
    ((number,),) = await ledger.execute(f"select count(*) from ledger.{table}")
    return int(number)


class Together(PostgresPartitions):
    """Sees that there are no months before any replica makes one, and makes them in its turn."""

    def __init__(self, pool: Pool, ready: asyncio.Barrier, turn: int) -> None:
        super().__init__(pool)
        self._ready, self._turn = ready, turn

    async def months(self) -> list[Month]:
        """List them when everybody has."""
        known = await super().months()
        await self._ready.wait()
        return known

    async def create(self, month: Month) -> bool:
        """Make one while others do, or after they have."""
        await asyncio.sleep(self._turn * 0.03)
        return await super().create(month)


def _keep(partitions: PostgresPartitions) -> KeepRetention:
    return KeepRetention(partitions, FakeClock(), 90)


class TestPartitions:
    async def test_take_the_rows_of_their_month_and_the_odd_ones_go_elsewhere(
        self, ledger: Ledger
    ) -> None:
        partitions = PostgresPartitions(ledger.pool)
        assert await partitions.create(MAY)

        await _ended(ledger, MAY, 1, 2)
        await _ended(ledger, JUNE, 1)

        for table in ("attempt", "result"):
            months = {f"ledger.{table}_{MAY.name}", f"ledger.{table}_default"}
            assert await _where(ledger, table) == months
        assert await partitions.months() == [MAY]

    async def test_are_not_made_where_rows_stand_among_the_odd_ones(self, ledger: Ledger) -> None:
        partitions = PostgresPartitions(ledger.pool)
        await _ended(ledger, MAY, 1)

        assert not await partitions.create(MAY)
        assert await partitions.create(JUNE)
        assert await partitions.months() == [JUNE]

    async def test_wait_for_nobody_who_holds_the_tables(self, ledger: Ledger) -> None:
        partitions = PostgresPartitions(ledger.pool)
        async with ledger.pool.connection() as other, other.transaction():
            await other.execute("lock table ledger.attempt_default in access share mode")

            with pytest.raises(Unavailable):
                await partitions.create(MAY)

        assert await partitions.months() == []

    async def test_two_replicas_make_and_drop_a_month_once(self, ledger: Ledger) -> None:
        both = [PostgresPartitions(ledger.pool) for _ in range(2)]

        await asyncio.gather(*(_keep(one).prepare() for one in both))
        await asyncio.gather(*(one.drop(Month(2026, 12)) for one in both))

        assert await both[0].months() == [Month(2026, 11)]

    async def test_any_number_of_replicas_start_at_once_on_a_fresh_ledger(
        self, ledger: Ledger
    ) -> None:
        for _ in range(10):
            ready = asyncio.Barrier(6)
            starts = [_keep(Together(ledger.pool, ready, turn)) for turn in range(6)]

            await asyncio.gather(*(one.make_months() for one in starts))

            partitions = PostgresPartitions(ledger.pool)
            made = await partitions.months()
            assert made == [Month(2026, 11), Month(2026, 12)]
            assert all([await partitions.drop(month) for month in made])

    async def test_are_made_while_tasks_of_their_month_arrive(self, ledger: Ledger) -> None:
        partitions = PostgresPartitions(ledger.pool)
        for month in (Month(2027, number) for number in range(1, 11)):
            adding = [_ended(ledger, month, number) for number in range(6)]
            made, *_ = await asyncio.gather(_made(partitions, month), *adding)

            where = "default" if not made else month.name
            ids = [_id_of(month, number) for number in range(6)]
            rows = await ledger.execute(
                "select tableoid::regclass::text from ledger.result where task_id = any(%s)", ids
            )
            assert rows == [(f"ledger.result_{where}",)] * 6


class TestRetiring:
    async def test_an_old_month_goes_with_all_that_belongs_to_it(self, ledger: Ledger) -> None:
        partitions = PostgresPartitions(ledger.pool)
        await partitions.create(MAY)
        await _ended(ledger, MAY, *range(5))
        await ledger.execute(
            "insert into ledger.dependency values (%s, %s)", _id_of(MAY, 1), _id_of(MAY, 2)
        )

        await _keep(partitions).retire(asyncio.Event())

        assert await partitions.months() == []
        for table in ("task", "dependency", "budget", *TABLES):
            assert await _count(ledger, table) == 0, table

    async def test_a_key_may_be_used_again_after_its_task_is_gone(self, ledger: Ledger) -> None:
        partitions = PostgresPartitions(ledger.pool)
        await partitions.create(MAY)
        (task,) = await _ended(ledger, MAY, 1)

        await _keep(partitions).retire(asyncio.Event())
        fresh = a_new_task(idempotency_key=task.idem_key, goal="another")
        (answer,), _ = await ledger.intake.accept([fresh], lambda _: [])

        assert getattr(answer, "created", None) is True

    @pytest.mark.parametrize(
        "still",
        [
            "state = 'queued', terminal_at = null",
            "terminal_at = now() - interval '89 days'",
        ],
    )
    async def test_a_month_stays_whole_for_one_task_that_is_open_or_young(
        self, ledger: Ledger, still: str
    ) -> None:
        partitions = PostgresPartitions(ledger.pool)
        await partitions.create(MAY)
        await _ended(ledger, MAY, 1, 2)
        await ledger.execute(f"update ledger.task set {still} where id = %s", _id_of(MAY, 1))

        await _keep(partitions).retire(asyncio.Event())

        assert (await partitions.months(), await _count(ledger, "task")) == ([MAY], 2)
        assert await _count(ledger, "result") == 2

    async def test_a_month_stays_for_an_open_task_that_depends_on_one_of_it(
        self, ledger: Ledger
    ) -> None:
        partitions = PostgresPartitions(ledger.pool)
        await partitions.create(MAY)
        await _ended(ledger, MAY, 1)
        await ledger.intake.accept([a_new_task(depends_on=[_id_of(MAY, 1)])], lambda _: [])

        await _keep(partitions).retire(asyncio.Event())

        assert await partitions.months() == [MAY]

    async def test_odd_rows_go_one_by_one_and_those_in_use_stay(self, ledger: Ledger) -> None:
        await _ended(ledger, MAY, 1, 2, 3)
        await ledger.execute(
            "update ledger.task set terminal_at = null, state = 'queued' where id = %s",
            _id_of(MAY, 3),
        )
        await ledger.intake.accept([a_new_task(depends_on=[_id_of(MAY, 2)])], lambda _: [])

        await _keep(PostgresPartitions(ledger.pool)).retire(asyncio.Event())

        left = await ledger.execute("select task_id from ledger.result")
        assert {task_id for (task_id,) in left} == {_id_of(MAY, 2), _id_of(MAY, 3)}
        assert await _count(ledger, "attempt") == 2
        assert await _count(ledger, "task") == 3

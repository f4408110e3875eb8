"""The ledger's history by month: partitions made ahead, dropped when everything in them is old.

A partition is attached and dropped under a short lock timeout: the hot path waits for half a
second at the longest, and the caller tries again later.
"""

from typing import Any, Final

from octarm.common.storage import Pool, transaction
from octarm.common.storage.connections import Connection
from octarm.ledger.domain.months import Month

TABLES: Final = ("attempt", "result", "late_result", "spend")
BATCH: Final = 500
LOCK: Final = 7_350_914

_BEGIN: Final = "set local lock_timeout = '500ms'"
_MINE: Final = "select pg_try_advisory_xact_lock(%s)"
_MY_TURN: Final = "select pg_advisory_xact_lock(%s)"
# The whole tables: a row that is on its way to the odd ones while a month is attached would be
# refused, and an odd row that comes after the look for such rows would refuse the month.
_HOLD: Final = f"lock table {', '.join(f'ledger.{table}' for table in TABLES)}"
_EXISTS: Final = "select to_regclass(%s) is not null"
_MONTHS: Final = """
select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'ledger.attempt'::regclass
"""
# A task is done with when it ended long ago and nothing that is open needs it.
_IN_USE: Final = """
select exists (select from ledger.task t where t.id >= %(first)s and t.id < %(last)s
        and (t.terminal_at is null or t.terminal_at > now() - make_interval(days => %(days)s)))
    or exists (select from ledger.dependency d join ledger.task o on o.id = d.task_id
        where d.needs_task_id >= %(first)s and d.needs_task_id < %(last)s
        and o.terminal_at is null)
    or exists (select from ledger.task o where o.depth > 0 and o.root_id >= %(first)s
        and o.root_id < %(last)s and o.terminal_at is null)
"""
_FORGET_MONTH: Final = """
delete from ledger.task where id in (
    select id from ledger.task where id >= %(first)s and id < %(last)s
    order by id limit %(limit)s for update skip locked)
returning id
"""
_FORGET_ODD: Final = """
delete from ledger.task where id in (
    select t.id from ledger.task t where t.id >= %(first)s and t.id < %(last)s
        and t.terminal_at < now() - make_interval(days => %(days)s)
        and not exists (select from ledger.dependency d join ledger.task o on o.id = d.task_id
            where d.needs_task_id = t.id and o.terminal_at is null)
        and not exists (select from ledger.task o
            where o.depth > 0 and o.root_id = t.id and o.terminal_at is null)
    order by t.id limit %(limit)s for update skip locked)
returning id
"""


class PostgresPartitions:
    """Makes and drops the months of `attempt`, `result`, `late_result` and `spend`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def months(self) -> list[Month]:
        """List the months that have partitions of their own."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(_MONTHS)
            names = [name.removeprefix("attempt_") for (name,) in await cursor.fetchall()]
        return sorted(month for name in names if (month := Month.named(name)) is not None)

    async def create(self, month: Month) -> bool:
        """Make a month's partitions; false when it has them or has rows among the odd ones.

        Any number of replicas may do this at once: one makes them, the others wait for it.

        Raises:
            Unavailable: the tables are too busy to be locked; nothing has changed.
        """
        first, last = month.first_id, month.following.first_id
        async with transaction(self._pool) as connection:
            await connection.execute(_BEGIN)
            await connection.execute(_MY_TURN, [LOCK])
            # Looked up again: another replica may have made them since the caller looked.
            if await _truth(connection, _EXISTS, [f"ledger.{TABLES[0]}_{month.name}"]):
                return False
            await connection.execute(_HOLD.encode())
            for table in TABLES:
                odd = f"select from ledger.{table}_default where task_id >= %s and task_id < %s"
                query = f"select exists ({odd})"
                if await _truth(connection, query, [first, last]):
                    return False
            for table in TABLES:
                name = f"ledger.{table}_{month.name}"
                for statement in (
                    f"create table {name} (like ledger.{table} including all)",
                    f"alter table ledger.{table} attach partition {name}"
                    f" for values from ('{first}') to ('{last}')",
                ):
                    await connection.execute(statement.encode())
        return True

    async def in_use(self, month: Month, *, days: int) -> bool:
        """Tell whether a task of the month is open, ended in the last `days`, or is needed."""
        wanted = {"first": month.first_id, "last": month.following.first_id, "days": days}
        async with transaction(self._pool) as connection:
            return await _truth(connection, _IN_USE, wanted)

    async def forget(self, month: Month) -> int:
        """Delete some of the month's tasks with their keys, edges and budgets; 0: none is left."""
        async with transaction(self._pool) as connection:
            wanted = {"first": month.first_id, "last": month.following.first_id, "limit": BATCH}
            return len(await _forget(connection, _FORGET_MONTH, wanted))

    async def forget_odd(self, first: str, last: str, *, days: int) -> int:
        """Delete some old tasks of a range that has no partition, with all their rows."""
        async with transaction(self._pool) as connection:
            wanted = {"first": first, "last": last, "days": days, "limit": BATCH}
            ids = await _forget(connection, _FORGET_ODD, wanted)
            for table in TABLES if ids else ():
                statement = f"delete from ledger.{table} where task_id = any(%s)"
                await connection.execute(statement.encode(), [ids])
        return len(ids)

    async def drop(self, month: Month) -> bool:
        """Drop a month's partitions, whose tasks are gone; false when another replica is at it.

        Raises:
            Unavailable: the tables are too busy to be locked; nothing has changed.
        """
        async with transaction(self._pool) as connection:
            if not await _alone(connection):
                return False
            for table in TABLES:
                statement = f"drop table if exists ledger.{table}_{month.name}"
                await connection.execute(statement.encode())
        return True


async def _alone(connection: Connection) -> bool:
    """Bound the wait for locks, and take the one that keeps other replicas away."""
    await connection.execute(_BEGIN)
    return await _truth(connection, _MINE, [LOCK])


async def _truth(connection: Connection, query: str, parameters: Any) -> bool:
    cursor = await connection.execute(query.encode(), parameters)
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _forget(connection: Connection, statement: str, wanted: dict[str, Any]) -> list[str]:
    cursor = await connection.execute(statement.encode(), wanted)
    ids = [task_id for (task_id,) in await cursor.fetchall()]
    if ids:
        await connection.execute("delete from ledger.budget where task_id = any(%s)", [ids])
    return ids

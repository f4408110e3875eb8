"""Reading the ledger in one snapshot, without changing it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from psycopg import AsyncConnection, Error, IsolationLevel, sql

from octarm.models.errors import Unavailable
from octarm.verify.budget_rules import BUDGET_RULES
from octarm.verify.invariants import Mode, Violation
from octarm.verify.ledger_rules import LEDGER_RULES, LedgerRule
from octarm.verify.notebook import Notebook
from octarm.verify.report import Report

FETCH: Final = 10_000
_TABLES: Final = "select relname from pg_class where relnamespace = to_regnamespace('ledger')"
_TASKS: Final = """
select id, tenant, state, attempt, event_seq, extract(epoch from created_at)::float8
from ledger.task
"""
Connection = AsyncConnection[tuple[Any, ...]]


@asynccontextmanager
async def snapshot(url: str) -> AsyncGenerator[Connection, None]:
    """Open one read-only transaction that sees the ledger as it is now.

    Raises:
        Unavailable: Postgres does not answer, or went away in between.
    """
    try:
        async with await AsyncConnection.connect(
            url, autocommit=True, application_name="octarm-verify", connect_timeout=10
        ) as connection:
            await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            await connection.set_read_only(True)
            await connection.execute("set timezone = 'UTC'")
            await connection.execute("set jit = off")
            async with connection.transaction():
                yield connection
    except Error as error:
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise Unavailable(
            f"the ledger could not be read: {first[0]}",
            "Check OCTARM_POSTGRES_URL and that the server runs; `octarm doctor` tells.",
        ) from error


async def tables(connection: Connection) -> set[str]:
    """Name the tables of the ledger; empty when it was never migrated."""
    cursor = await connection.execute(_TABLES)
    return {str(row[0]) for row in await cursor.fetchall()}


async def check_ledger(
    connection: Connection, report: Report, *, grace_s: float, first: int
) -> None:
    """Run every rule that fits the mode and the tables that are there."""
    there = await tables(connection)
    for rule in (*LEDGER_RULES, *BUDGET_RULES):
        if rule.when_idle and report.mode is Mode.LIVE:
            continue
        if not there.issuperset(rule.tables):
            continue
        report.checked(rule.invariant, await _broken(connection, rule, grace_s, first))


async def _broken(
    connection: Connection, rule: LedgerRule, grace_s: float, first: int
) -> list[Violation]:
    found = sql.SQL("select *, count(*) over () from ({}) as found(id, detail) limit {}").format(
        sql.SQL(rule.sql),
        sql.Literal(first),
    )
    rows = await (await connection.execute(found, {"grace": grace_s})).fetchall()
    if not rows:
        return []
    examples = tuple(f"{row[0]} {row[1] or ''}".strip() for row in rows)
    return [Violation(rule.invariant, rule.name, rows[0][2], examples, rule.hint)]


async def copy_tasks(connection: Connection, notes: Notebook) -> None:
    """Copy what the comparison with events and history needs of each task."""
    async with connection.cursor(name="octarm_verify") as cursor:
        cursor.itersize = FETCH
        await cursor.execute(_TASKS)
        while rows := await cursor.fetchmany(FETCH):
            notes.add("task", rows)

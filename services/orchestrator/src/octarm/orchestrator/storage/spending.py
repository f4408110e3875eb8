"""Spend as arms report it, call by call; and budgets whose task has ended unsettled."""

from collections.abc import Sequence
from typing import Any, Final

from octarm.common.storage import Pool, transaction
from octarm.models import hot
from octarm.orchestrator.storage.budgets import keep_books, settle

LIMIT: Final = 500
_CALLS: Final = """
insert into ledger.spend (task_id, attempt, call_no, tokens, microdollars, llm_calls)
select r.task_id, r.attempt, r.call_no, r.tokens, r.microdollars, r.llm_calls
from unnest(%b::text[], %b::int[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],
    %b::text[])
as r(task_id, attempt, call_no, tokens, microdollars, llm_calls, arm_id)
where exists (select from ledger.task t where t.id = r.task_id and (r.attempt < t.attempt
        or r.attempt = t.attempt and (t.arm_id is null or t.arm_id = r.arm_id)))
    and not exists (select from ledger.attempt a where a.task_id = r.task_id
        and a.attempt = r.attempt and a.arm_id <> r.arm_id)
on conflict do nothing
returning task_id, attempt
"""
# A result tells the whole of its attempt; calls tell what is known before it. More of both counts.
_ATTEMPTS: Final = """
insert into ledger.attempt as a (task_id, attempt, arm_id, instance_id, tokens_used,
    cost_microdollars, llm_calls)
select s.task_id, s.attempt, r.arm_id, r.instance_id, least(sum(s.tokens), 1::bigint << 53),
    least(sum(s.microdollars), 1::bigint << 53), least(sum(s.llm_calls), 1::bigint << 53)
from unnest(%b::text[], %b::int[], %b::text[], %b::text[])
    as r(task_id, attempt, arm_id, instance_id)
join ledger.spend s on s.task_id = r.task_id and s.attempt = r.attempt
group by 1, 2, 3, 4 order by 1, 2
on conflict (task_id, attempt) do update set
    tokens_used = greatest(a.tokens_used, excluded.tokens_used),
    cost_microdollars = greatest(a.cost_microdollars, excluded.cost_microdollars),
    llm_calls = greatest(a.llm_calls, excluded.llm_calls)
"""
_ENDED: Final = f"""
select b.task_id from ledger.budget b join ledger.task t on t.id = b.task_id
where b.settled_at is null and t.terminal_at is not null order by b.task_id limit {LIMIT}
"""


class PostgresSpending:
    """Writes what calls have cost; settles what was left unsettled."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def meter(self, reports: Sequence[hot.SpendReported]) -> int:
        """Write calls and book them; gives how many were new.

        A call told again changes nothing. Calls of a task, or of an attempt of it, that the
        ledger does not know, or knows to be another arm's, are left out.
        """
        told = {(c.task_id, c.attempt, c.call_no): (c, r) for r in reports for c in r.calls}
        rows = [
            (*key, c.tokens, c.micro_dollars, c.llm_calls, r.arm_id)
            for key, (c, r) in sorted(told.items())
        ]
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(_CALLS, _columns(rows))
            fresh = await cursor.fetchall()
            if not fresh:
                return 0
            arms = {key[:2]: (r.arm_id, r.instance_id) for key, (_, r) in told.items()}
            attempts = [(*key, *arms[key]) for key in sorted(set(fresh))]
            await connection.execute(_ATTEMPTS, _columns(attempts))
            await keep_books(connection, [], also={task_id for task_id, _ in fresh})
        return len(fresh)

    async def settle_ended(self) -> int:
        """Settle budgets whose task has ended, at most 500; gives their number."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(_ENDED)
            ended = [row[0] for row in await cursor.fetchall()]
            return await settle(connection, ended)


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]

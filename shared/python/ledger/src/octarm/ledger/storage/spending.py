"""Spend as arms report it, call by call; and budgets whose task has ended unsettled."""

from collections.abc import Sequence
from typing import Final

from octarm.common.storage import Pool, transaction
from octarm.ledger.storage.budgets import columns, keep_books, settle
from octarm.models import hot

LIMIT: Final = 500
# Locks the attempts, in order, before anything of them is summed up.
_ATTEMPTS: Final = """
insert into ledger.attempt as a (task_id, attempt, arm_id, instance_id)
select r.task_id, r.attempt, r.arm_id, r.instance_id
from unnest(%b::text[], %b::int[], %b::text[], %b::text[])
    as r(task_id, attempt, arm_id, instance_id)
where exists (select from ledger.task t where t.id = r.task_id and (r.attempt < t.attempt
        or r.attempt = t.attempt and (t.arm_id is null or t.arm_id = r.arm_id)))
    and not exists (select from ledger.attempt o where o.task_id = r.task_id
        and o.attempt = r.attempt and o.arm_id <> r.arm_id)
order by 1, 2
on conflict (task_id, attempt) do update
    set instance_id = coalesce(a.instance_id, excluded.instance_id)
returning task_id, attempt
"""
_CALLS: Final = """
insert into ledger.spend (task_id, attempt, call_no, tokens, microdollars, llm_calls)
select * from unnest(%b::text[], %b::int[], %b::bigint[], %b::bigint[], %b::bigint[],
    %b::bigint[])
on conflict do nothing
returning task_id, attempt
"""
# A result tells the whole of its attempt; calls tell what is known before it. More of both counts.
_SUMS: Final = """
update ledger.attempt a set tokens_used = greatest(a.tokens_used, s.tokens),
    cost_microdollars = greatest(a.cost_microdollars, s.microdollars),
    llm_calls = greatest(a.llm_calls, s.calls)
from (
    select s.task_id, s.attempt, least(sum(s.tokens), 1::bigint << 53)::bigint as tokens,
        least(sum(s.microdollars), 1::bigint << 53)::bigint as microdollars,
        least(sum(s.llm_calls), 1::bigint << 53)::bigint as calls
    from unnest(%b::text[], %b::int[]) as r(task_id, attempt)
    join ledger.spend s on s.task_id = r.task_id and s.attempt = r.attempt
    group by 1, 2) s
where a.task_id = s.task_id and a.attempt = s.attempt
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
        arms = {key[:2]: (r.arm_id, r.instance_id) for key, (_, r) in told.items()}
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(
                _ATTEMPTS, columns([(*key, *arm) for key, arm in sorted(arms.items())])
            )
            known = set(await cursor.fetchall())
            calls = [
                (*key, c.tokens, c.micro_dollars, c.llm_calls)
                for key, (c, _) in sorted(told.items())
                if key[:2] in known
            ]
            if not calls:
                return 0
            fresh = await (await connection.execute(_CALLS, columns(calls))).fetchall()
            if fresh:
                await connection.execute(_SUMS, columns(sorted(set(fresh))))
                await keep_books(connection, [], also={task_id for task_id, _ in fresh})
        return len(fresh)

    async def settle_ended(self) -> int:
        """Settle budgets whose task has ended, at most 500; gives their number."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(_ENDED)
            ended = [row[0] for row in await cursor.fetchall()]
            return await settle(connection, ended)

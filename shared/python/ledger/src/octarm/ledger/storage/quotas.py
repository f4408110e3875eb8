"""Quotas of tenants: how much is in flight or open is counted from live rows, never kept.

Whoever lets a tenant have more (accepting against `max_open`, releasing against
`max_in_flight`) holds that tenant's advisory lock to the end of its transaction, so two
orchestrators never count the same room. Who only makes room (a finishing commit) needs no lock.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from octarm.common.bus.publisher import Outgoing
from octarm.common.storage import Pool, connected, transaction
from octarm.common.storage.connections import Connection
from octarm.ledger.domain.changes import Entry, Woken
from octarm.ledger.domain.tasks import NewTask
from octarm.ledger.domain.tenants import Tenants
from octarm.ledger.storage.listed import OPEN, WAITING
from octarm.ledger.storage.outbox import write_entry
from octarm.ledger.storage.waking import DUE, WOKEN, woken_rows
from octarm.models.errors import Backpressure

LIMIT: Final = 500
# A number of our own, so that nobody else's advisory locks meet these.
LOCKS: Final = 0x0C7A
RETRY_AFTER_S: Final = 5

_LOCK: Final = f"select pg_advisory_xact_lock({LOCKS}, hashtext(t)) from unnest(%b::text[]) as t"
_OPEN: Final = f"""
select tenant, count(*) from ledger.task t
where tenant = any(%b::text[]) and limited and {OPEN} group by tenant
"""
_MARK: Final = """
update ledger.task t set limited = true, held = r.held
from unnest(%b::text[], %b::bool[]) as r(id, held) where t.id = r.id
"""
# What became due since it was accepted: a backoff is over, a dependency has completed.
_HOLD: Final = f"""
with due as (
    select id from ledger.task t where {WAITING} and limited and not held
        and tenant = any(%b::text[]) and {DUE}
    order by id limit {LIMIT} for update skip locked)
update ledger.task t set held = true from due where t.id = due.id
"""
_RELEASE: Final = f"""
with old as (
    select id, state from ledger.task t
    where tenant = %(tenant)s and held and {WAITING}
    order by tier desc, priority, created_at
    limit case when %(max)s::bigint is null then {LIMIT} else
        least({LIMIT}, greatest(0, %(max)s - (
            select count(*) from ledger.task t where tenant = %(tenant)s and limited
                and {OPEN} and listed_state = any(%(flying)s)))) end
    for update skip locked)
update ledger.task t set state = 'queued', held = false, event_seq = t.event_seq + 1,
    updated_at = now()
from old where t.id = old.id returning {WOKEN}
"""
_WITH_HELD: Final = f"""
select name from unnest(%b::text[]) as name where exists (
    select from ledger.task t where tenant = name and held and {WAITING})
"""
_ADOPT: Final = """
update ledger.task set limited = true
where tenant = any(%b::text[]) and terminal_at is null and not limited
"""
_LET_GO: Final = f"""
update ledger.task t set limited = false, held = false,
    not_before = case when state = 'waiting' then coalesce(not_before, now()) else not_before end
where limited and {OPEN} and tenant <> all(%b::text[])
"""
FLYING: Final = ["queued", "dispatched", "running", "validating"]
MakeReady = Callable[[list[Woken]], list[Outgoing]]


class PostgresQuotas:
    """Counts, refuses, holds and releases; every call may be repeated."""

    def __init__(self, pool: Pool, tenants: Tenants) -> None:
        self._pool = pool
        self._tenants = tenants

    async def room(self, connection: Connection, tasks: Sequence[NewTask]) -> dict[str, int]:
        """Lock the limited tenants of a batch; give how many more each may have open.

        Tenants that may have any number open are left out. The caller's transaction keeps the
        locks.
        """
        limited = sorted({task.tenant for task in tasks} & self._tenants.limited)
        bounds = {
            tenant: bound
            for tenant in limited
            if (bound := self._tenants.of(tenant).max_open) is not None
        }
        if not bounds:
            return {}
        await connection.execute(_LOCK, [list(bounds)])
        cursor = await connection.execute(_OPEN, [list(bounds)])
        taken: dict[str, int] = dict(await cursor.fetchall())
        return {tenant: bound - taken.get(tenant, 0) for tenant, bound in bounds.items()}

    def count_none_of(self, tenants: Collection[str]) -> bool:
        """Whether no task of these tenants needs to be counted."""
        return self._tenants.limited.isdisjoint(tenants)

    def refusal(self, tenant: str) -> Backpressure:
        """Say that a tenant has as many tasks as it may have."""
        return Backpressure(
            f"quota: {self._tenants.of(tenant).max_open} tasks of {tenant} are open",
            "Wait until some of them have ended, or ask the operator for a larger quota.",
            "QUOTA_EXCEEDED",
            retry_after_s=RETRY_AFTER_S,
        )

    async def mark(self, connection: Connection, tasks: Sequence[NewTask]) -> None:
        """Let fresh tasks of limited tenants count."""
        limited = [task for task in tasks if task.tenant in self._tenants.limited]
        if limited:
            await connection.execute(
                _MARK, [[task.task_id for task in limited], [task.held for task in limited]]
            )

    async def hold_due(self) -> None:
        """Let what may run now wait for room, in its place by priority and age."""
        async with connected(self._pool) as connection:
            await connection.execute(_HOLD, [sorted(self._tenants.limited)])

    async def with_held(self) -> list[str]:
        """List the limited tenants that have tasks waiting for room."""
        async with connected(self._pool) as connection:
            cursor = await connection.execute(_WITH_HELD, [sorted(self._tenants.limited)])
            return [row[0] for row in await cursor.fetchall()]

    async def release(self, tenant: str, announce: MakeReady) -> tuple[list[Woken], Entry | None]:
        """Queue as many of a tenant's held tasks as its quota has room for, at most 500.

        In this order: the interactive tier before batch, priority, age.
        """
        parameters = {
            "tenant": tenant,
            "max": self._tenants.of(tenant).max_in_flight,
            "flying": FLYING,
        }
        async with transaction(self._pool) as connection:
            # On its own: a statement counts what was committed before it began.
            await connection.execute(_LOCK, [[tenant]])
            cursor = await connection.execute(_RELEASE, parameters)
            woken = await woken_rows(connection, await cursor.fetchall())
            entry = await write_entry(connection, announce(woken))
        return woken, entry

    async def adopt(self) -> None:
        """Let open tasks count that were accepted before their tenant had a quota.

        Those of tenants that have none any more count no longer, and wait for no room.
        """
        limited = sorted(self._tenants.limited)
        async with connected(self._pool) as connection:
            await connection.execute(_ADOPT, [limited])
            await connection.execute(_LET_GO, [limited])

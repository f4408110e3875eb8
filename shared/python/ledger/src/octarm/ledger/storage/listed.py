"""How tasks are found by their state: through lists that fresh tasks are not in.

A fresh task is a plain one, queued for its first attempt, that was accepted seconds ago. Nearly
all of them complete as such, and their end changes no indexed column. They are found by the range
of ids that their commit left in `ledger.fresh`; whoever is queued for longer is listed.
"""

from contextlib import suppress
from typing import Final

from psycopg.errors import LockNotAvailable

from octarm.common.storage import Pool, connected

FRESH_S: Final = 3.0
COMMITS: Final = 100

# Of a task `t`. Partial indexes say the same, in these words.
OPEN: Final = "t.listed_state in ('waiting', 'queued', 'dispatched', 'running', 'validating')"
WAITING: Final = "t.listed_state = 'waiting'"
QUEUED: Final = """
t.state = 'queued' and (t.queued_since is not null
    or t.id >= (select min(f.first_id) from ledger.fresh f))
"""
# Rows are locked in the order of their ids, and waited for a moment: a transition that is not
# committed may yet be undone.
_LIST: Final = f"""
with old as (
    delete from ledger.fresh where first_id in (
        select first_id from ledger.fresh
        where accepted_at < now() - make_interval(secs => {FRESH_S})
        order by first_id limit {COMMITS} for update skip locked)
    returning first_id, last_id
), late as (
    select t.id from ledger.task t
    where t.id >= (select min(first_id) from old) and t.id <= (select max(last_id) from old)
        and t.state = 'queued' and t.fresh
    order by t.id for update
)
update ledger.task t set fresh = false from late where t.id = late.id
"""


_SOON: Final = "set local lock_timeout = '200ms'"


async def list_late(pool: Pool) -> None:
    """Let queued tasks be listed that were accepted some seconds ago; again does nothing.

    While somebody holds one of their rows, who was paused perhaps, they stay as they are.
    """
    async with connected(pool) as connection:
        with suppress(LockNotAvailable):
            async with connection.transaction():
                await connection.execute(_SOON)
                await connection.execute(_LIST)

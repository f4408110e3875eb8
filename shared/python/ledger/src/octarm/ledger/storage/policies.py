"""The retry policies that tasks were submitted with."""

from collections.abc import Collection, Mapping
from typing import Final

from octarm.common.storage import Pool, connected
from octarm.models.contracts import RetryPolicy

_OWN: Final = """
select id, (contract -> 'retry')::text from ledger.task
where id = any(%s) and contract -> 'retry' is not null
"""


class TaskPolicies:
    """The policies that tasks were submitted with."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __call__(self, task_ids: Collection[str]) -> Mapping[str, RetryPolicy]:
        """Read them; tasks that have none are left out."""
        async with connected(self._pool) as connection:
            cursor = await connection.execute(_OWN, [list(task_ids)])
            rows = await cursor.fetchall()
        return {task_id: RetryPolicy.model_validate_json(policy) for task_id, policy in rows}

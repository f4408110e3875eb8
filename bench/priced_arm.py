"""An arm of a load: takes the time that a task's work takes at its speed, and its price.

Run: python -m bench.priced_arm LOAD POOL NAME
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from octarm.policies.simulator.load import ArmPool, read
from octarm.sdk import Arm, Context, TaskContract

MICRODOLLARS: Final = 1_000_000


def priced(pool: ArmPool, name: str) -> Arm:
    """Give the arm of that name."""
    arm = Arm(
        name,
        capabilities=pool.capabilities,
        slots=pool.slots,
        cost_tier=pool.cost_tier,
        labels=pool.labels,
        takes_any=pool.takes_any,
    )

    @arm.run
    async def work(task: TaskContract, ctx: Context) -> Mapping[str, object]:
        work_s = task.context["work_s"]
        assert isinstance(work_s, int | float)
        took_s = work_s / pool.speed
        await asyncio.sleep(took_s)
        # By what it should take: a busy machine makes nothing dearer.
        cost = pool.cost_per_task + pool.cost_per_s * took_s
        ctx.spend(cost_dollars=cost / MICRODOLLARS)
        return {}

    return arm


if __name__ == "__main__":
    load_file, pool_id, arm_name = sys.argv[1:]
    pools = {pool.id: pool for pool in read(Path(load_file)).arms}
    priced(pools[pool_id], arm_name).main()

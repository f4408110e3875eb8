"""An arm that naps as long as the task says and gives its number back.

Run as `python -m tests.support.napping_arm`.
"""

import asyncio
from collections.abc import Mapping

from octarm.sdk import Arm, TaskContract

SLOTS = 100
arm = Arm("napper", capabilities={"nap"}, slots=SLOTS)


@arm.run
async def nap(task: TaskContract) -> Mapping[str, object]:
    nap_s = task.context["nap_s"]
    assert isinstance(nap_s, int | float)
    await asyncio.sleep(nap_s)
    return {"number": task.context["number"]}


if __name__ == "__main__":
    arm.main()

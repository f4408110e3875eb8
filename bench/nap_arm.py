"""An arm of twenty slots whose tasks take as long as they say."""

import asyncio
from collections.abc import Mapping

from octarm.sdk import Arm, TaskContract

SLOTS = 20
arm = Arm("napper", capabilities={"nap"}, slots=SLOTS)


@arm.run
async def nap(task: TaskContract) -> Mapping[str, object]:
    """Sleep for `seconds` of the task's context."""
    seconds = task.context["seconds"]
    assert isinstance(seconds, int | float)
    await asyncio.sleep(seconds)
    return {}


if __name__ == "__main__":
    arm.main()

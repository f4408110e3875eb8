"""An arm whose tasks take as long as they say.

Run: python -m bench.nap_arm [SLOTS], twenty by default.
"""

import asyncio
import sys
from collections.abc import Mapping

from octarm.sdk import Arm, TaskContract

SLOTS = 20
arm = Arm("napper", capabilities={"nap"}, slots=int(sys.argv[1]) if sys.argv[1:] else SLOTS)


@arm.run
async def nap(task: TaskContract) -> Mapping[str, object]:
    """Sleep for `seconds` of the task's context."""
    seconds = task.context["seconds"]
    assert isinstance(seconds, int | float)
    await asyncio.sleep(seconds)
    return {}


if __name__ == "__main__":
    arm.main()

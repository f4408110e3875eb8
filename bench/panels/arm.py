"""An arm that works for some tens of milliseconds, and fails where a task says so."""

import asyncio
from collections.abc import Mapping
from typing import Any

from octarm.models.errors import TaskFailed
from octarm.sdk import Arm, TaskContract

arm = Arm("worker", capabilities={"work"}, slots=4)


@arm.run
async def work(task: TaskContract) -> Mapping[str, object]:
    """Take as long as the task's context says, in ms."""
    wanted: Mapping[str, Any] = task.context
    await asyncio.sleep(float(wanted["ms"]) / 1000)
    if wanted["fails"]:
        raise TaskFailed("told to fail")
    return {}


if __name__ == "__main__":
    arm.main()

"""An arm that does nothing, as fast as it can."""

from collections.abc import Mapping

from octarm.sdk import Arm, TaskContract

arm = Arm("noop", capabilities={"noop"}, slots=512)


@arm.run
async def noop(task: TaskContract) -> Mapping[str, object]:
    """Give the task's context back."""
    return task.context


if __name__ == "__main__":
    arm.main()

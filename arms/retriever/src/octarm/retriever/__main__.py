"""Start the retriever: `python -m octarm.retriever`."""

from octarm.common.service import read_settings, refuse
from octarm.models.contracts import TaskContract
from octarm.models.errors import OctarmError
from octarm.models.results import ExecutionResult
from octarm.retriever.answer import AnswerFromMemory
from octarm.retriever.settings import Settings
from octarm.sdk import Arm, Context


def retriever(settings: Settings) -> Arm:
    """Wire the arm."""
    # A bare goal may be anything: who wants it looked up in memory says so.
    arm = Arm(
        settings.arm_id,
        capabilities={"retrieve", "recall"},
        slots=settings.slots,
        takes_any=False,
    )
    answer = AnswerFromMemory(settings.snippet_chars)

    @arm.run
    async def run(task: TaskContract, ctx: Context) -> ExecutionResult:
        return await answer(task, ctx)

    return arm


def main() -> None:
    """Read the settings and serve."""
    try:
        settings = read_settings(Settings)
    except OctarmError as error:
        refuse("retriever", error.message)
    retriever(settings).main()


if __name__ == "__main__":
    main()

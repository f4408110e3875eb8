"""Which tasks are handed in to have a model condense episodes, and how many."""

import pytest

from octarm.common.testing.fakes import NOON
from octarm.memory.usecases.condensing import HOUR_S, AskForCondensing
from octarm.models.episodes import EpisodicMemory
from octarm.models.errors import BudgetExceeded, TimedOut, Unavailable
from tests.support.episodes import a_task_id, an_episode_id
from tests.support.semantic import RecordingTasks


class Clock:
    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


def an_episode(number: int = 1) -> EpisodicMemory:
    return EpisodicMemory(
        episode_id=an_episode_id(number),
        tenant="acme",
        arm_id="writer",
        task_id=a_task_id(number),
        created_at=NOON,
    )


@pytest.fixture
def tasks() -> RecordingTasks:
    return RecordingTasks()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ask(tasks: RecordingTasks, clock: Clock) -> AskForCondensing:
    return AskForCondensing(tasks, max_tokens=900, per_hour=2, seconds=clock)


class TestAskForCondensing:
    async def test_hands_in_a_task_of_the_tenant_with_a_budget_and_a_key(
        self, ask: AskForCondensing, tasks: RecordingTasks
    ) -> None:
        await ask(an_episode())
        await ask(an_episode())

        (tenant, task), again = tasks.submitted
        submission = task.submission
        assert (tenant, again) == ("acme", (tenant, task))
        assert submission.required_capabilities == {"condense"}
        assert submission.context == {"episode_id": an_episode_id(1)}
        assert submission.budget is not None
        assert (submission.budget.max_tokens, submission.budget.max_llm_calls) == (900, 3)
        assert submission.idempotency_key == f"memory.condense:{an_episode_id(1)}"
        assert submission.effective_tier == "batch"

    async def test_hands_in_no_more_than_an_hour_may_have(
        self, ask: AskForCondensing, tasks: RecordingTasks, clock: Clock
    ) -> None:
        for number in (1, 2, 3):
            await ask(an_episode(number))
        first_hour = len(tasks.submitted)
        clock.now += HOUR_S
        await ask(an_episode(4))

        assert (first_hour, len(tasks.submitted)) == (2, 3)

    @pytest.mark.parametrize("error", [Unavailable("away"), TimedOut("slow")])
    async def test_asks_again_later_when_nobody_takes_tasks(
        self, ask: AskForCondensing, tasks: RecordingTasks, error: Unavailable | TimedOut
    ) -> None:
        tasks.refusal = error

        with pytest.raises(type(error)):
            await ask(an_episode())

    async def test_leaves_an_episode_whose_task_is_refused(
        self, ask: AskForCondensing, tasks: RecordingTasks
    ) -> None:
        tasks.refusal = BudgetExceeded("the tenant has nothing left")

        await ask(an_episode())

        assert len(tasks.submitted) == 1

"""When a failed attempt is followed by another."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from octarm.models.contracts import RetryPolicy
from octarm.models.errors import InvalidRequest
from octarm.models.ids import new_id
from octarm.orchestrator.domain.retries import DEFAULT, MAX_HINT_S, NO_MORE, backoff_s, delay_s
from octarm.orchestrator.usecases.retrying import ChooseDelays
from tests.support.ledger import a_failure, a_new_task, a_result, news, placed


def an_error(retry_after: Any) -> bytes:
    return msgspec.json.encode({"code": "X", "retry_after_seconds": retry_after})


class TestADelay:
    def test_grows_from_one_second_to_a_minute(self) -> None:
        delays = [backoff_s(attempt, chance=0.5) for attempt in range(1, 9)]

        assert delays == [1, 2, 4, 8, 16, 32, 60, 60]

    @pytest.mark.parametrize(("chance", "delay"), [(0.0, 0.5), (1.0, 1.5)])
    def test_is_spread_both_ways(self, chance: float, delay: float) -> None:
        assert delay_s(1, chance=chance, policy=DEFAULT) == delay

    @pytest.mark.parametrize(
        ("hint", "delay"), [(None, 4.0), (2, 4.0), (30, 30.0), (10**9, MAX_HINT_S)]
    )
    def test_honours_what_the_failure_asks_for(self, hint: Any, delay: float) -> None:
        assert delay_s(3, chance=0.5, policy=DEFAULT, error=an_error(hint)) == delay

    def test_ends_with_the_last_attempt_of_the_policy(self) -> None:
        policy = RetryPolicy(max_attempts=2, initial_seconds=0.0)

        delays = [delay_s(attempt, chance=0.5, policy=policy) for attempt in (1, 2)]

        assert delays == [0.0, NO_MORE]


class TestChoosing:
    async def choose(self, **policies: dict[str, RetryPolicy]) -> list[float]:
        async def of_tasks(task_ids: Collection[str]) -> Mapping[str, RetryPolicy]:
            assert task_ids == {self.failed}
            return policies.get("tasks", {})

        async def of_arms(arm_ids: Collection[str]) -> Mapping[str, RetryPolicy]:
            return {arm: p for arm, p in policies.get("arms", {}).items() if arm in arm_ids}

        told = [*news(a_failure(self.failed)), placed(new_id("tsk"))]
        told += news(a_failure(new_id("tsk"), retryable=False), a_result(new_id("tsk")))
        return await ChooseDelays(of_tasks, of_arms)(told, lambda: 0.5)

    failed = new_id("tsk")

    async def test_asks_the_task_then_its_arm_then_the_default(self) -> None:
        slow, slower = (RetryPolicy(initial_seconds=s) for s in (5.0, 9.0))

        both = await self.choose(tasks={self.failed: slow}, arms={"one": slower})
        arm = await self.choose(arms={"one": slower})
        neither = await self.choose()

        assert [both[0], arm[0], neither[0]] == [5.0, 9.0, 1.0]
        assert neither[1:] == [NO_MORE] * 3

    async def test_asks_nobody_when_nothing_failed(self) -> None:
        assert await ChooseDelays()([placed(new_id("tsk"))], lambda: 0.5) == [0.0]
        assert await ChooseDelays()(news(a_failure(new_id("tsk"))), lambda: 0.5) == [1.0]


class TestASubmission:
    @pytest.mark.parametrize(
        ("retry", "retries", "most"),
        [(None, 3, 3), ({"max_attempts": 2}, 3, 1), ({"max_attempts": 11}, 5, 5), ({}, 10, 3)],
    )
    def test_may_be_tried_as_often_as_budget_and_policy_both_allow(
        self, retry: Any, retries: int, most: int
    ) -> None:
        task = a_new_task(retry=retry, budget={"max_retries": retries})

        assert task.max_retries == most

    @pytest.mark.parametrize("ahead", [timedelta(seconds=30), timedelta(days=365)])
    def test_may_start_later(self, ahead: timedelta) -> None:
        start = datetime.now(UTC) + ahead

        task = a_new_task(not_before=start.isoformat())

        assert (task.not_before, task.waits) == (start, True)

    def test_may_have_been_to_start_a_moment_ago(self) -> None:
        task = a_new_task(not_before=(datetime.now(UTC) - timedelta(minutes=1)).isoformat())

        assert (task.not_before, task.waits) == (None, False)

    @pytest.mark.parametrize("away", [timedelta(days=-1), timedelta(days=400)])
    def test_may_not_start_long_ago_or_in_years(self, away: timedelta) -> None:
        with pytest.raises(InvalidRequest, match="not_before"):
            a_new_task(not_before=(datetime.now(UTC) + away).isoformat())

    @pytest.mark.parametrize(
        "bad",
        [
            "2026-12-01T10:00:00",
            "9999-01-01T00:00:00Z",
            "tomorrow",
            -1,
            1_900_000_000,
            "2026-12-01",
        ],
    )
    def test_names_its_start_with_a_zone(self, bad: Any) -> None:
        with pytest.raises(ValidationError, match="not_before"):
            a_new_task(not_before=bad)

    def test_may_not_end_before_it_starts(self) -> None:
        later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
        sooner = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

        with pytest.raises(ValidationError, match="must be after not_before"):
            a_new_task(not_before=later, deadline=sooner)
        assert a_new_task(not_before=sooner, deadline=later).waits

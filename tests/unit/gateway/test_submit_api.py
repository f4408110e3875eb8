"""Handing tasks in over HTTP, on a fake fleet."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from octarm.models.errors import BudgetExceeded, Problem
from octarm.models.ids import is_task_id
from tests.support.fleet import FULL, FakeFleet
from tests.support.gateway import a_client

GOAL = {"goal": "Summarise"}


def problem_of(response: httpx.Response) -> Problem:
    """The problem, after checking what every refusal must have."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(response.json())
    assert problem.status == response.status_code
    assert problem.recovery_hint
    assert problem.correlation_id == response.headers["x-correlation-id"]
    return problem


class TestSubmit:
    async def test_answers_202_with_the_way_to_the_task(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            response = await client.post("/v1/tasks", json=GOAL)

        receipt = response.json()
        assert response.status_code == 202
        assert is_task_id(receipt["task_id"])
        assert response.headers["location"] == f"/v1/tasks/{receipt['task_id']}"
        assert receipt == {
            "task_id": receipt["task_id"],
            "status": "queued",
            "state": "queued",
            "events_url": f"/v1/tasks/{receipt['task_id']}/events",
        }

    async def test_gives_the_same_task_for_the_same_key_and_body(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            first = await client.post("/v1/tasks", json=GOAL, headers={"Idempotency-Key": "k"})
            again = await client.post("/v1/tasks", json={**GOAL, "idempotency_key": "k"})

        assert (first.status_code, again.status_code) == (202, 200)
        assert first.json() == again.json()

    async def test_refuses_another_body_for_a_known_key(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            await client.post("/v1/tasks", json=GOAL, headers={"Idempotency-Key": "k"})
            other = await client.post(
                "/v1/tasks", json={"goal": "Other"}, headers={"Idempotency-Key": "k"}
            )

        assert problem_of(other).code == "IDEMPOTENCY_CONFLICT"
        assert other.status_code == 409

    async def test_takes_the_key_of_the_header_before_that_of_the_body(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            await client.post(
                "/v1/tasks",
                json={**GOAL, "idempotency_key": "body"},
                headers={"Idempotency-Key": "header"},
            )

        assert fake.tasks.submitted[0].submission.idempotency_key == "header"

    async def test_refuses_a_deadline_that_has_passed(self) -> None:
        fake = FakeFleet()
        now = datetime(2027, 1, 1, tzinfo=UTC)
        async with a_client(fake, now=lambda: now) as client:
            late = await client.post("/v1/tasks", json={**GOAL, "deadline": "2027-01-01T00:00:00Z"})
            fine = await client.post("/v1/tasks", json={**GOAL, "deadline": "2027-01-01T00:00:01Z"})

        assert problem_of(late).code == "DEADLINE_UNMET"
        assert fine.status_code == 202
        assert len(fake.tasks.submitted) == 1

    async def test_passes_on_refusals_with_their_waiting_time(self) -> None:
        fake = FakeFleet()
        fake.tasks.refuse_with = FULL
        async with a_client(fake) as client:
            response = await client.post("/v1/tasks", json=GOAL)

        assert problem_of(response).code == "ADMISSION_REJECTED"
        assert response.status_code == 429
        assert response.headers["retry-after"] == "7"

    @pytest.mark.bad_input(15)
    @pytest.mark.parametrize(
        "budget",
        [
            {"max_tokens": 0},
            {"max_tokens": -1},
            {"max_tokens": 1.5},
            {"max_cost_dollars": 0.0},
            {"max_cost_dollars": -0.01},
            {"max_cost_dollars": 0.000_000_9},
            {"max_cost_dollars": 1e10},
            {"max_llm_calls": True},
            {"max_time_seconds": 2**54},
        ],
    )
    async def test_names_the_budget_when_the_budget_is_wrong(self, budget: dict[str, Any]) -> None:
        async with a_client(FakeFleet()) as client:
            response = await client.post("/v1/tasks", json={**GOAL, "budget": budget})

        assert problem_of(response).code == "INVALID_BUDGET"
        assert response.status_code == 422

    @pytest.mark.bad_input(15)
    async def test_says_that_the_parent_cannot_afford_it(self) -> None:
        fake = FakeFleet()
        fake.tasks.refuse_with = BudgetExceeded("3 tokens are left of the parent's budget")
        async with a_client(fake) as client:
            response = await client.post("/v1/tasks", json=GOAL)

        assert (response.status_code, problem_of(response).code) == (402, "BUDGET_EXCEEDED")

    async def test_sends_what_arrives_together_in_one_request(self) -> None:
        fake = FakeFleet()
        fake.tasks.delay_s = 0.01
        async with a_client(fake) as client:
            posts = [client.post("/v1/tasks", json=GOAL) for _ in range(50)]
            responses = await asyncio.gather(*posts)

        assert {response.status_code for response in responses} == {202}
        assert len({response.json()["task_id"] for response in responses}) == 50
        assert len(fake.tasks.requests) <= 5

    async def test_keeps_the_submissions_of_tenants_apart(self) -> None:
        fake = FakeFleet()
        fake.tasks.delay_s = 0.01
        tenants = _two_tenants()
        async with a_client(fake, tenants=tenants) as client:
            for key in ("key-of-acme", "key-of-zeta"):
                await client.post("/v1/tasks", json=GOAL, headers={"X-API-Key": key})

        assert {tenant for tenant, _ in fake.tasks.views} == {"acme", "zeta"}


class TestSubmitBatch:
    async def test_answers_each_task_on_its_own(self) -> None:
        fake = FakeFleet()
        tasks: list[dict[str, Any]] = [
            {**GOAL, "idempotency_key": "k"},
            {"goal": ""},
            {**GOAL, "idempotency_key": "k"},
            {"goal": "Other", "idempotency_key": "k"},
            {**GOAL, "deadline": "2001-01-01T00:00:00Z"},
        ]
        async with a_client(fake) as client:
            response = await client.post("/v1/tasks/batch", json={"tasks": tasks})

        answers = response.json()["answers"]
        assert response.status_code == 200
        assert [answer["status"] for answer in answers] == [202, 422, 200, 409, 422]
        assert answers[0]["task"]["task_id"] == answers[2]["task"]["task_id"]
        assert answers[1]["problem"]["errors"][0]["field"] == "goal"
        assert answers[4]["problem"]["code"] == "DEADLINE_UNMET"
        assert len(fake.tasks.requests) == 1

    async def test_asks_nobody_when_nothing_is_left_to_submit(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            response = await client.post("/v1/tasks/batch", json={"tasks": [{}]})

        assert response.json()["answers"][0]["status"] == 422
        assert fake.tasks.requests == []

    @pytest.mark.parametrize("count", [0, 1001])
    async def test_takes_one_to_a_thousand(self, count: int) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            response = await client.post("/v1/tasks/batch", json={"tasks": [GOAL] * count})

        assert problem_of(response).code == "INVALID_REQUEST"
        assert fake.tasks.requests == []

    async def test_refuses_one_key_for_many_tasks(self) -> None:
        async with a_client(FakeFleet()) as client:
            response = await client.post(
                "/v1/tasks/batch", json={"tasks": [GOAL]}, headers={"Idempotency-Key": "k"}
            )

        assert response.status_code == 422

    async def test_may_be_larger_than_a_single_task(self) -> None:
        fake = FakeFleet()
        tasks = [{"goal": "x" * 10_000}] * 200
        async with a_client(fake) as client:
            fits = await client.post("/v1/tasks/batch", json={"tasks": tasks})
            too_large = await client.post("/v1/tasks/batch", content=b" " * (4 * 2**20 + 1))

        assert fits.status_code == 200
        assert problem_of(too_large).code == "PAYLOAD_TOO_LARGE"
        assert len(json.dumps(tasks)) > 2**20


def _two_tenants() -> Any:
    from octarm.gateway.domain.tenants import Tenants

    return Tenants({"key-of-acme": "acme", "key-of-zeta": "zeta"})

"""Tasks, arms, queue and memory over HTTP, on a fake fleet."""

import httpx
import pytest

from octarm.models.errors import Problem
from octarm.models.ids import new_id
from octarm.models.queries import AttemptView
from octarm.models.states import TaskState
from tests.support.fleet import FakeFleet
from tests.support.gateway import a_client


def refused_field(response: httpx.Response) -> str:
    """The first field that a 422 names."""
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(response.json())
    assert problem.code in ("INVALID_PARAMETER", "INVALID_REQUEST")
    assert problem.errors
    return problem.errors[0].field


class TestTasks:
    async def test_shows_a_task(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add()
        async with a_client(fake) as client:
            response = await client.get(f"/v1/tasks/{task_id}")

        assert response.status_code == 200
        assert response.json()["task"]["goal"] == "x"
        assert response.json()["state"] == "queued"

    async def test_lists_by_state_arm_label_and_page(self) -> None:
        fake = FakeFleet()
        fake.tasks.add()
        async with a_client(fake) as client:
            response = await client.get(
                "/v1/tasks?state=running&arm=echo&label=team%3Dblue&cursor=abc&limit=7"
            )

        query = fake.tasks.finds[0]
        assert len(response.json()["tasks"]) == 1
        assert (query.state, query.arm_id, query.label) == (TaskState.RUNNING, "echo", "team=blue")
        assert (query.cursor, query.limit, query.tenant) == ("abc", 7, "default")

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("state=runing", "state"),
            ("arm=a.b", "arm"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=-1", "limit"),
            ("limit=x", "limit"),
            ("label=" + "x" * 321, "label"),
            ("stat=running", "stat"),
        ],
    )
    async def test_refuses_a_filter_that_it_does_not_understand(
        self, query: str, field: str
    ) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            response = await client.get(f"/v1/tasks?{query}")

        assert refused_field(response) == f"query.{field}"
        assert fake.tasks.finds == []

    @pytest.mark.bad_input(32)
    async def test_a_cursor_that_cannot_be_ours_is_a_bad_request(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            response = await client.get("/v1/tasks?cursor=" + "x" * 201)

        assert response.status_code == 400
        assert response.json()["errors"][0]["field"] == "query.cursor"
        assert fake.tasks.finds == []

    async def test_cancels_with_a_reason_and_twice_like_once(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add()
        async with a_client(fake) as client:
            first = await client.post(f"/v1/tasks/{task_id}/cancel", json={"reason": "no need"})
            again = await client.post(f"/v1/tasks/{task_id}/cancel")
            deleted = await client.delete(f"/v1/tasks/{task_id}")

        assert first.json() == again.json() == deleted.json()
        assert first.json()["state"] == "cancelled"
        assert fake.tasks.cancelled == [(task_id, "no need"), (task_id, ""), (task_id, "")]

    @pytest.mark.parametrize("body", ['{"reasn": ""}', '{"reason": 7}', "[]", "{"])
    async def test_refuses_a_cancellation_that_it_does_not_understand(self, body: str) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            response = await client.post(f"/v1/tasks/{fake.tasks.add()}/cancel", content=body)

        assert response.status_code in (400, 422)
        assert fake.tasks.cancelled == []

    async def test_gives_the_result_of_a_task_that_has_ended(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.COMPLETED)
        async with a_client(fake) as client:
            response = await client.get(f"/v1/tasks/{task_id}/result")

        assert response.status_code == 200
        assert response.json()["state"] == "completed"

    async def test_says_when_to_ask_again_while_it_has_not(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.RUNNING)
        async with a_client(fake) as client:
            response = await client.get(f"/v1/tasks/{task_id}/result?wait=0.01")

        assert response.status_code == 202
        assert response.json()["state"] == "running"
        assert response.headers["retry-after"] == "1"

    @pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "x", "1e400"])
    async def test_waits_a_minute_at_most(self, wait: str) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            response = await client.get(f"/v1/tasks/{fake.tasks.add()}/result?wait={wait}")

        assert refused_field(response) == "query.wait"

    async def test_explains_what_a_queued_task_waits_for(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add()
        async with a_client(fake) as client:
            response = await client.get(f"/v1/tasks/{task_id}/explain")

        assert response.json()["waiting"]["reason"] == "every capable arm is full"
        assert response.json()["status"] == "queued"

    async def test_explains_without_a_scheduler_what_the_ledger_knows(self) -> None:
        fake = FakeFleet()
        fake.queue.away = True
        task_id = fake.tasks.add()
        async with a_client(fake) as client:
            response = await client.get(f"/v1/tasks/{task_id}/explain")

        assert response.status_code == 200
        assert response.json()["waiting"] is None
        assert response.json()["waiting_problem"]["code"] == "SERVICE_UNAVAILABLE"

    async def test_names_the_policy_that_placed_the_last_attempt(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.COMPLETED)
        attempts = [
            AttemptView(attempt=1, decision={"policy": "mine@aa", "reason": "cheap"}),
            AttemptView(attempt=2, decision={"policy": "mine@bb", "reason": "near"}),
            AttemptView(attempt=3),
        ]
        for key, view in fake.tasks.views.items():
            fake.tasks.views[key] = view.model_copy(update={"attempts": attempts})
        async with a_client(fake) as client:
            explained = (await client.get(f"/v1/tasks/{task_id}/explain")).json()

        assert (explained["policy"], explained["reason"]) == ("mine@bb", "near")
        assert explained["waiting"] is None

    async def test_asks_no_scheduler_about_a_task_that_does_not_wait(self) -> None:
        fake = FakeFleet()
        fake.queue.away = True
        task_id = fake.tasks.add(state=TaskState.RUNNING)
        async with a_client(fake) as client:
            response = await client.get(f"/v1/tasks/{task_id}/explain")

        assert response.json()["waiting_problem"] is None


class TestArms:
    async def test_finds_by_all_capabilities(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            found = await client.get("/v1/arms?capability=echo")
            none = await client.get("/v1/arms?capability=echo&capability=fly")

        assert found.json()["arms"][0]["arm"]["arm_id"] == "echo"
        assert none.json()["arms"] == []
        assert fake.arms.asked == [["echo"], ["echo", "fly"]]

    async def test_never_shows_the_digest_of_the_owners_key(self) -> None:
        async with a_client(FakeFleet()) as client:
            texts = [
                (await client.get("/v1/arms")).text,
                (await client.get("/v1/arms/echo")).text,
                (await client.post("/v1/arms/echo/drain")).text,
            ]

        assert not any("owner" in text or "ffff" in text for text in texts)

    async def test_drains_with_the_owners_key(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            response = await client.post("/v1/arms/echo/drain", json={"key": "mine"})

        assert response.json()["status"] == "draining"
        assert fake.arms.drained == [("echo", "mine")]

    async def test_knows_no_other_arm(self) -> None:
        async with a_client(FakeFleet()) as client:
            response = await client.get("/v1/arms/other")

        assert (response.status_code, response.json()["code"]) == (404, "ARM_NOT_FOUND")


class TestQueue:
    async def test_shows_a_shard(self) -> None:
        async with a_client(FakeFleet(), shards=2) as client:
            fine = await client.get("/v1/queue?shard=1")
            refused = await client.get("/v1/queue?shard=2")

        assert fine.json()["shard"] == 1
        assert refused_field(refused) == "query.shard"


class TestMemory:
    async def test_shows_an_episode(self) -> None:
        episode_id = new_id("epi")
        async with a_client(FakeFleet()) as client:
            response = await client.get(f"/v1/memory/episodes/{episode_id}")

        assert response.json()["episode"]["episode_id"] == episode_id
        assert response.json()["source"] == "redis"

    async def test_lists_by_arm_and_task(self) -> None:
        fake = FakeFleet()
        task_id = new_id("tsk")
        async with a_client(fake) as client:
            await client.get(f"/v1/memory/episodes?arm=echo&task={task_id}&limit=3")

        query = fake.episodes.finds[0]
        assert (query.arm_id, query.task_id, query.limit) == ("echo", task_id, 3)

    @pytest.mark.parametrize("path", ["/v1/memory/episodes/epi_1", "/v1/memory/episodes?task=x"])
    async def test_refuses_what_is_no_id(self, path: str) -> None:
        async with a_client(FakeFleet()) as client:
            response = await client.get(path)

        assert refused_field(response)

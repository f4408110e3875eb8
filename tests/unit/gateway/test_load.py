"""What one gateway takes in at a time, and what it remembers of refusals."""

import pytest

from octarm.common.testing import FakeClock
from octarm.gateway.domain.load import Load, Refusals
from octarm.models.errors import Backpressure, Unavailable
from tests.support.fleet import FakeFleet
from tests.support.gateway import a_client

GOAL = {"goal": "Summarise"}


class TestLoad:
    def test_has_room_for_a_number_of_requests(self) -> None:
        load = Load(max_requests=1)
        with load.request(10):
            refusal = load.no_room(10)

        assert refusal is not None
        assert (refusal.status, refusal.code, refusal.retry_after_s) == (429, "QUEUE_FULL", 1)
        assert load.no_room(10) is None

    def test_has_room_for_a_number_of_bytes(self) -> None:
        load = Load(max_bytes=100)
        with load.request(60):
            assert load.no_room(41) is not None
            assert load.no_room(40) is None

        assert (load.requests, load.bytes) == (0, 0)

    def test_has_room_for_a_number_of_streams(self) -> None:
        load = Load(max_streams=1)
        with load.stream():
            assert load.no_stream() is not None

        assert load.no_stream() is None


class TestRefusals:
    def refusals(self) -> tuple[Refusals, FakeClock]:
        clock = FakeClock()
        return Refusals(clock.monotonic, chance=lambda: 0.0), clock

    def test_hold_for_their_tenant_until_their_time_is_over(self) -> None:
        refusals, clock = self.refusals()
        refusals.learn("acme", Backpressure("too many wait", retry_after_s=5))

        clock.advance(2)
        now, other = refusals.current("acme"), refusals.current("other")
        clock.advance(3)

        assert now is not None
        assert now.retry_after_s == 3
        assert other is None
        assert refusals.current("acme") is None

    def test_a_later_one_does_not_make_the_first_last_longer(self) -> None:
        refusals, clock = self.refusals()
        refusals.learn("acme", Backpressure("too many wait", retry_after_s=5))
        clock.advance(4)

        refusals.learn("acme", Backpressure("too many wait", retry_after_s=60))
        clock.advance(1)

        assert refusals.current("acme") is None

    @pytest.mark.parametrize(
        "error",
        [
            Backpressure("a queue is full", code="QUEUE_FULL", retry_after_s=5),
            Unavailable("Postgres is away", retry_after_s=5),
            Backpressure("no time was named"),
        ],
    )
    def test_others_hold_for_one_task_only(self, error: Backpressure | Unavailable) -> None:
        refusals, _ = self.refusals()

        refusals.learn("acme", error)

        assert refusals.current("acme") is None


class TestApi:
    async def test_asks_no_more_while_a_refusal_holds(self) -> None:
        fake = FakeFleet()
        fake.tasks.refuse_with = Backpressure("too many wait", retry_after_s=7)
        async with a_client(fake) as client:
            first = await client.post("/v1/tasks", json=GOAL)
            again = await client.post("/v1/tasks", json=GOAL)
            batch = await client.post("/v1/tasks/batch", json={"tasks": [GOAL]})

        assert [r.status_code for r in (first, again, batch)] == [429, 429, 429]
        assert 1 <= int(again.headers["retry-after"]) <= 9
        assert again.json()["code"] == "ADMISSION_REJECTED"
        assert len(fake.tasks.requests) == 1

    async def test_a_task_with_a_key_is_asked_for_all_the_same(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            known = await client.post("/v1/tasks", json={**GOAL, "idempotency_key": "k"})
            fake.tasks.refuse_with = Backpressure("too many wait", retry_after_s=7)
            await client.post("/v1/tasks", json=GOAL)
            fake.tasks.refuse_with = None
            in_body = await client.post("/v1/tasks", json={**GOAL, "idempotency_key": "k"})
            in_head = await client.post("/v1/tasks", json=GOAL, headers={"Idempotency-Key": "k"})
            in_batch = await client.post(
                "/v1/tasks/batch", json={"tasks": [{**GOAL, "idempotency_key": "k"}]}
            )

        assert in_body.json() == in_head.json() == known.json()
        assert in_batch.json()["answers"][0]["status"] == 200

    async def test_takes_no_more_bodies_than_it_has_room_for(self) -> None:
        fake = FakeFleet()
        async with a_client(fake, load=Load(max_bytes=10)) as client:
            response = await client.post("/v1/tasks", json=GOAL)

        assert response.status_code == 429
        assert response.json()["code"] == "QUEUE_FULL"
        assert response.headers["retry-after"] == "1"

    async def test_opens_no_more_streams_than_it_has_room_for(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add()
        async with a_client(fake, load=Load(max_streams=0)) as client:
            response = await client.get(f"/v1/tasks/{task_id}/events")

        assert response.status_code == 429

    async def test_a_silent_orchestrator_is_not_waited_for(self) -> None:
        fake = FakeFleet()
        fake.tasks.delay_s = 60
        async with a_client(fake, answer_s=0.05) as client:
            response = await client.post("/v1/tasks", json=GOAL)

        assert response.status_code == 504
        assert response.headers["retry-after"] == "1"

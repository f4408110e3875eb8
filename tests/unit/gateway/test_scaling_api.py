"""What arms are scaled by, over HTTP."""

from octarm.gateway.domain.tenants import Tenants
from tests.support.fleet import FakeFleet
from tests.support.gateway import a_client

KEYS = Tenants.parse('{"key-of-ops": "ops", "key-of-acme": "acme"}')


async def test_gives_the_work_for_an_arm_in_slots_and_instances() -> None:
    fake = FakeFleet()
    async with a_client(fake) as client:
        response = await client.get("/v1/scaling/echo")

    assert response.json() == {
        "arm_id": "echo",
        "runnable_slots": 17,
        "running_slots": 4,
        "demand_slots": 21,
        "slots": 10,
        "instances": 3,
    }
    (asked,) = fake.tasks.demands
    assert (asked.arm_id, asked.capabilities, asked.takes_any) == ("echo", ["echo"], True)


async def test_an_arm_that_nobody_knows_is_not_found() -> None:
    async with a_client(FakeFleet()) as client:
        response = await client.get("/v1/scaling/nobody")
        bad = await client.get("/v1/scaling/no.body")

    assert (response.status_code, response.json()["code"]) == (404, "ARM_NOT_FOUND")
    assert bad.status_code == 422


async def test_only_operators_may_ask() -> None:
    async with a_client(FakeFleet(), tenants=KEYS, operators=frozenset({"ops"})) as client:
        refused = await client.get("/v1/scaling/echo", headers={"X-API-Key": "key-of-acme"})
        fine = await client.get("/v1/scaling/echo", headers={"X-API-KEY": "key-of-ops"})

    assert refused.status_code == 403
    assert fine.status_code == 200

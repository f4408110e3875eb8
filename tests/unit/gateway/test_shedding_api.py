"""The load-shedding switch over HTTP."""

from octarm.gateway.domain.tenants import Tenants
from octarm.models.shedding import ShedMode, Switched
from tests.support.fleet import NOON, FakeFleet
from tests.support.gateway import a_client

KEYS = Tenants.parse('{"key-of-ops": "ops", "key-of-acme": "acme"}')
OPS, ACME = {"X-API-Key": "key-of-ops"}, {"X-API-Key": "key-of-acme"}


def a_fleet() -> FakeFleet:
    fake = FakeFleet()
    fake.tasks.shed_now = [
        Switched(tenant=tenant, mode=ShedMode.BATCH, by="ops", at=NOON)
        for tenant in (None, "acme", "other")
    ]
    return fake


async def test_operators_put_it_under_their_own_name() -> None:
    fake = FakeFleet()
    wish = {"mode": "shed-all-new", "tenant": "acme", "reason": "a flood", "seconds": 60}
    async with a_client(fake, tenants=KEYS, operators=frozenset({"ops"})) as client:
        response = await client.put("/v1/shedding", json=wish, headers=OPS)

    (now,) = response.json()["now"]
    assert (now["tenant"], now["mode"], now["by"]) == ("acme", "shed-all-new", "ops")


async def test_nobody_else_puts_it() -> None:
    fake = FakeFleet()
    async with a_client(fake, tenants=KEYS, operators=frozenset({"ops"})) as client:
        response = await client.put("/v1/shedding", json={"mode": "open"}, headers=ACME)

    assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")
    assert fake.tasks.shed_now == []


async def test_a_tenant_sees_what_concerns_it_and_operators_see_all() -> None:
    async with a_client(a_fleet(), tenants=KEYS, operators=frozenset({"ops"})) as client:
        mine = (await client.get("/v1/shedding", headers=ACME)).json()
        all_of_it = (await client.get("/v1/shedding", headers=OPS)).json()

    assert [it["tenant"] for it in mine["now"]] == [None, "acme"]
    assert mine["past"] == []
    assert len(all_of_it["now"]) == len(all_of_it["past"]) == 3


async def test_what_is_no_switch_is_refused() -> None:
    async with a_client(FakeFleet()) as client:
        for wish in (
            {},
            {"mode": "half"},
            {"mode": "open", "tenant": "no.name"},
            {"mode": "open", "seconds": 0},
            {"mode": "open", "by": "me"},
            {"mode": "open", "reason": "a\0b"},
            {"mode": "open", "reason": "a" * 1001},
        ):
            assert (await client.put("/v1/shedding", json=wish)).status_code == 422, wish

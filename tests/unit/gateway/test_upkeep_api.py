"""Listing and counting memory over HTTP."""

import pytest

from octarm.gateway.domain.tenants import Tenants
from octarm.models.ids import new_id
from octarm.models.upkeep import ListMemories
from tests.support.fleet import FakeFleet
from tests.support.gateway import a_client


async def test_lists_a_page_of_the_callers_own_tenant() -> None:
    fake = FakeFleet()
    after = new_id("mem")
    async with a_client(fake) as client:
        listed = await client.get(
            f"/v1/memory/semantic?tag=a&tag=b:c&type=fact&after={after}&limit=7"
        )

    assert fake.upkeep.queries == [
        ListMemories(tenant="default", tags=["a", "b:c"], entity_type="fact", after=after, limit=7)
    ]
    assert listed.json()["memories"][0]["tags"] == ["a", "b:c"]
    assert listed.json()["after"] is None


@pytest.mark.bad_input(3, 32)
@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "after=mem_x", "after=-1", "tag=A%20b", "type=lie", "colour=1"],
)
async def test_refuses_what_makes_no_sense(query: str) -> None:
    async with a_client(FakeFleet()) as client:
        refused = await client.get(f"/v1/memory/semantic?{query}")

    assert refused.status_code == 422


async def test_counts() -> None:
    async with a_client(FakeFleet()) as client:
        counted = await client.get("/v1/memory/stats")

    assert counted.json()["memories"] == 1
    assert counted.json()["by_source"] == {"default": 1}


@pytest.mark.bad_input(3)
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tag": "a", "everything": True},
        {"tag": "A b"},
        {"task_id": "x"},
        {"everything": "yes"},
        {"tag": "a", "colour": 1},
    ],
)
async def test_erases_only_what_is_named(body: dict[str, object]) -> None:
    fake = FakeFleet()
    async with a_client(fake) as client:
        refused = await client.post("/v1/memory/erasures", json=body)

    assert (refused.status_code, fake.upkeep.erasures) == (422, {})


async def test_begins_to_erase_and_shows_the_receipt() -> None:
    async with a_client(FakeFleet()) as client:
        begun = await client.post("/v1/memory/erasures", json={"tag": "person:ann"})
        receipt = begun.json()["erasure_id"]
        shown = await client.get(f"/v1/memory/erasures/{receipt}")
        missing = await client.get(f"/v1/memory/erasures/era_{'f' * 32}")

    assert (begun.status_code, begun.json()["kind"]) == (202, "tag")
    assert shown.json() == begun.json()
    assert (missing.status_code, missing.json()["code"]) == (404, "ERASURE_NOT_FOUND")


async def test_has_all_vectors_made_anew_for_operators_only() -> None:
    fake, path = FakeFleet(), "/v1/memory/reembedding"
    keys = Tenants({"operator-key": "ops", "acme-key-1": "acme"})
    operator, acme = {"X-API-Key": "operator-key"}, {"X-API-Key": "acme-key-1"}
    async with a_client(fake, tenants=keys, operators=frozenset({"ops"})) as client:
        looked = await client.get(path, headers=operator)
        refused = [await client.get(path, headers=acme), await client.post(path, headers=acme)]
        begun = await client.post(path, headers=operator)

    assert (looked.status_code, looked.json()["running"]) == (200, False)
    assert [one.status_code for one in refused] == [403, 403]
    assert (begun.status_code, begun.json()["running"]) == (202, True)

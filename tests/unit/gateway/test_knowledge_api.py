"""Semantic memory over HTTP."""

import httpx
import pytest

from octarm.models.ids import new_id
from octarm.models.semantic import MAX_QUERY
from tests.support.fleet import FakeFleet
from tests.support.gateway import a_client

FACT = {"content": "Squids have ink.", "tags": ["sea"]}


def refused_field(response: httpx.Response) -> str:
    assert response.status_code == 422, response.text
    (error,) = response.json()["errors"]
    return str(error["field"])


class TestKnowledge:
    async def test_remembers_finds_shows_and_forgets(self) -> None:
        async with a_client(FakeFleet()) as client:
            kept = await client.post("/v1/memory/remember", json={"memories": [FACT]})
            memory_id = kept.json()["answers"][0]["memory_id"]
            found = await client.post("/v1/memory/search", json={"query": "ink", "k": 1})
            shown = await client.get(f"/v1/memory/semantic/{memory_id}?history=true")
            gone = await client.delete(f"/v1/memory/semantic/{memory_id}")
            again = await client.delete(f"/v1/memory/semantic/{memory_id}")
            missing = await client.get(f"/v1/memory/semantic/{memory_id}")

        assert kept.json()["answers"][0]["outcome"] == "created"
        assert [hit["memory"]["memory_id"] for hit in found.json()["hits"]] == [memory_id]
        assert shown.json()["memory"]["source"] == "api"
        assert shown.json()["history"]
        assert (gone.json(), again.json()) == ({"deleted": 1}, {"deleted": 0})
        assert (missing.status_code, missing.json()["code"]) == (404, "MEMORY_NOT_FOUND")

    async def test_takes_the_tenant_from_the_credential(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            refused = await client.post("/v1/memory/search", json={"query": "x", "tenant": "other"})
            await client.post("/v1/memory/search", json={"query": "x", "only": {"tags": ["sea"]}})

        assert refused_field(refused) == "tenant"
        assert [(one.tenant, one.arm_id, one.only.tags) for one in fake.knowledge.searches] == [
            ("default", None, ["sea"])
        ]

    @pytest.mark.bad_input(3, 27)
    @pytest.mark.parametrize(
        ("path", "body", "field"),
        [
            ("search", {"query": "x", "k": 10**9}, "k"),
            ("search", {"query": "x" * (MAX_QUERY + 1)}, "query"),
            ("search", {"embedding": [0.0, 0.0], "embedder": "a"}, "embedding"),
            ("search", {"query": "x", "only": {"tag": ["sea"]}}, "only.tag"),
            ("search", {"query": "x", "mode": "psychic"}, "mode"),
            ("remember", {"memories": []}, "memories"),
            ("remember", {"memories": [{"content": ""}]}, "memories.0.content"),
            ("remember", {"memories": [FACT | {"colour": 1}]}, "memories.0.colour"),
            ("remember", {"memories": [FACT], "source": "A B"}, "source"),
        ],
    )
    async def test_refuses_what_breaks_the_contract(
        self, path: str, body: dict[str, object], field: str
    ) -> None:
        async with a_client(FakeFleet()) as client:
            response = await client.post(f"/v1/memory/{path}", json=body)

        assert refused_field(response) == field
        assert response.status_code == 422

    @pytest.mark.bad_input(6)
    @pytest.mark.parametrize("memory_id", ["x", "mem_1", new_id("tsk"), "a.b", "%2A"])
    async def test_refuses_what_is_no_id(self, memory_id: str) -> None:
        async with a_client(FakeFleet()) as client:
            shown = await client.get(f"/v1/memory/semantic/{memory_id}")
            gone = await client.delete(f"/v1/memory/semantic/{memory_id}")

        assert (shown.status_code, gone.status_code) == (422, 422)

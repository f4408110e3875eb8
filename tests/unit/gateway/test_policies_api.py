"""Policies over HTTP: who may, what is taken, what is answered."""

from typing import Any

import pytest

from octarm.gateway.domain.tenants import Tenants
from octarm.policies.versions import digest
from tests.support.fleet import FakeFleet
from tests.support.gateway import a_client

KEYS = Tenants({"operator-key": "ops", "acme-key-1": "acme"})
OPERATOR, ACME = {"X-API-Key": "operator-key"}, {"X-API-Key": "acme-key-1"}
SOURCE = "def schedule(ctx):\n    return []\n"
MINE = {"name": "mine", "source": SOURCE}
CALLS = [
    ("GET", "/v1/policies"),
    ("GET", "/v1/policies/mine"),
    ("POST", "/v1/policies"),
    ("POST", "/v1/policies/validate"),
    ("POST", "/v1/policies/simulate"),
    ("POST", "/v1/policies/mine/deploy"),
    ("POST", "/v1/policies/mine/shadow"),
    ("POST", "/v1/policies/end-shadow"),
    ("GET", "/v1/policies/shadow/differences"),
    ("POST", "/v1/policies/rollback"),
    ("DELETE", "/v1/policies/mine"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_only_operators_in_platform_mode(method: str, path: str) -> None:
    async with a_client(FakeFleet(), tenants=KEYS, operators=frozenset({"ops"})) as client:
        refused = await client.request(method, path, headers=ACME, json=MINE)
        stranger = await client.request(method, path, json=MINE)
        passed = await client.request(method, path, headers=OPERATOR, json=MINE)

    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    assert "OCTARM_OPERATORS" in refused.json()["recovery_hint"]
    assert stranger.status_code == 401
    assert passed.status_code not in (401, 403)


async def test_every_tenant_in_home_mode_in_its_own_name() -> None:
    fake = FakeFleet()
    async with a_client(fake, tenants=KEYS, home=True) as client:
        saved = await client.post("/v1/policies", headers=ACME, json=MINE)
        await client.post("/v1/policies/simulate", headers=ACME, json={"refs": ["mine"]})

    assert saved.status_code == 201
    assert saved.json()["policy"]["created_by"] == "acme"
    assert fake.policies.simulated[0].tenant == "acme", "not the tasks of others"


async def test_the_life_of_a_policy() -> None:
    fake = FakeFleet()
    async with a_client(fake) as client:

        async def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            answer = await client.request(method, f"/v1/policies{path}", json=body)
            return answer.status_code, answer.json()

        assert (await call("POST", "", MINE))[0] == 201
        assert (await call("POST", "", {**MINE, "note": "again"}))[0] == 200
        assert (await call("GET", "/mine"))[1]["source"] == SOURCE
        assert (await call("GET", "?name=mine"))[1]["policies"][0]["state"] == "idle"
        assert (await call("POST", "/validate", {"source": "wrong"}))[1]["problems"][0]["line"] == 1
        status, deployed = await call("POST", "/mine/deploy")
        assert (status, deployed["deployment"]["digest"]) == (200, digest(SOURCE))
        assert (await call("DELETE", "/mine"))[0] == 409
        assert (await call("POST", "/rollback"))[1]["deployment"]["digest"] is None
        assert (await call("POST", "/mine/shadow"))[1]["shadow"] == digest(SOURCE)
        assert (await call("GET", "/shadow/differences?shard=0"))[1]["shadow"] == digest(SOURCE)
        assert (await call("GET", "/shadow/differences?shard=1"))[0] == 422
        assert (await call("POST", "/end-shadow"))[1]["shadow"] is None
        assert (await call("DELETE", "/mine"))[1] == {"digest": digest(SOURCE)}
        assert (await call("DELETE", "/mine"))[1] == {"digest": None}
        assert (await call("POST", "/simulate", {"refs": ["live"], "seed": 3}))[1]["tasks"] == 3
    assert fake.policies.simulated[0].tenant is None


@pytest.mark.bad_input(1, 3, 6, 19)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b'{"name": "mine", "source": "\xff"}', 400),
        (b'{"name": "mine", "name": "other", "source": "x"}', 400),
        (b'{"name": "mine"}', 422),
        (b'{"name": "mine", "source": ""}', 422),
        (b'{"name": "mine", "source": "a\\u0000b"}', 422),
        (b'{"name": "mine", "source": "x", "kind": "python"}', 422),
        (b'{"name": "mine", "source": "x", "kinds": "yaml"}', 422),
        (b'{"name": "../mine", "source": "x"}', 422),
        (b'{"name": "mine", "source": 3}', 422),
        (b'{"name": "mine", "source": "wrong"}', 422),
        (b'{"name": "mine", "source": "' + b"x" * 65_537 + b'"}', 422),
        (b'{"name": "mine", "source": "' + b"x" * (1 << 20) + b'"}', 413),
    ],
)
async def test_what_cannot_be_a_policy_is_refused(body: bytes, status: int) -> None:
    fake = FakeFleet()
    async with a_client(fake) as client:
        answer = await client.post("/v1/policies", content=body)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert not fake.policies.book.versions


@pytest.mark.bad_input(6, 19)
@pytest.mark.parametrize(
    ("ref", "status"),
    [
        ("nobody", 404),
        ("0" * 64, 404),
        ("..%2f..%2fetc", 404),
        ("a.b", 422),
        ("a*", 422),
        ("%3E", 422),
        ("a%20b", 422),
        ("x" * 65, 422),
        ("%F0%9F%90%99", 422),
    ],
)
async def test_refs_that_mean_nothing_are_refused(ref: str, status: int) -> None:
    async with a_client(FakeFleet()) as client:
        answers = [
            await client.get(f"/v1/policies/{ref}"),
            await client.post(f"/v1/policies/{ref}/deploy"),
        ]

    assert [answer.status_code for answer in answers] == [status, status]

"""Episodes over HTTP: what becomes of a request, and how it is refused."""

import json

import pytest

from octarm.models.errors import Conflict
from octarm.models.ids import new_id
from tests.support.fleet import FakeFleet
from tests.support.gateway import a_client

EPISODES = "/v1/memory/episodes"
EPISODE = new_id("epi")
TASK = new_id("tsk")


async def test_opens_an_episode() -> None:
    fake = FakeFleet()
    async with a_client(fake) as client:
        response = await client.post(EPISODES, json={"task_id": TASK, "tags": ["docs"]})

    (wanted,) = fake.episodes.writes
    (write,) = wanted.writes
    assert response.status_code == 201
    assert response.json()["episode_id"] == write.episode_id
    assert write.opening is not None
    assert (write.kind, write.opening.tags, wanted.durability) == ("open", ["docs"], "durable")


async def test_writes_entries_in_order() -> None:
    fake = FakeFleet()
    entries = [{"body": 1, "entry_id": "one"}, {"kind": "action", "body": {"tool": "read"}}]
    async with a_client(fake) as client:
        response = await client.post(
            f"{EPISODES}/{EPISODE}/entries", json={"entries": entries, "durability": "fast"}
        )

    (wanted,) = fake.episodes.writes
    first, second = wanted.writes
    assert [answer["created"] for answer in response.json()["answers"]] == [True, True]
    assert (first.entry_id, first.kind, second.kind) == ("one", "observation", "action")
    assert first.seq < second.seq
    assert wanted.durability == "fast"


async def test_closes_extends_and_forgets() -> None:
    fake = FakeFleet()
    async with a_client(fake) as client:
        closed = await client.post(f"{EPISODES}/{EPISODE}/close")
        extended = await client.post(f"{EPISODES}/{EPISODE}/extend", json={"ttl_seconds": 60})
        gone = await client.delete(f"{EPISODES}/{EPISODE}")

    kinds = [
        (wanted.writes[0].kind, wanted.writes[0].ttl_seconds) for wanted in fake.episodes.writes
    ]
    assert [closed.status_code, extended.status_code, gone.status_code] == [200, 200, 200]
    assert kinds == [("close", None), ("extend", 60)]
    assert fake.episodes.forgotten == [("default", EPISODE)]


async def test_what_the_memory_service_refuses_is_refused() -> None:
    fake = FakeFleet()
    fake.episodes.refusal = Conflict("closed", code="EPISODE_CLOSED").problem()
    async with a_client(fake) as client:
        response = await client.post(f"{EPISODES}/{EPISODE}/close")

    assert (response.status_code, response.json()["code"]) == (409, "EPISODE_CLOSED")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {}),
        ("", {"task_id": "tsk_1"}),
        ("", {"task_id": TASK, "ttl_seconds": -1}),
        ("", {"task_id": TASK, "unknown": 1}),
        (f"/{EPISODE}/entries", {"entries": []}),
        (f"/{EPISODE}/entries", {"entries": [{"body": 1, "entry_id": "a b"}]}),
        (f"/{EPISODE}/entries", {"entries": [{"body": 1, "kind": "close"}]}),
        (f"/{EPISODE}/extend", {"ttl_seconds": 2**40}),
        ("/epi_*/extend", {"ttl_seconds": 60}),
    ],
)
async def test_refuses_what_breaks_the_contract(path: str, body: dict[str, object]) -> None:
    fake = FakeFleet()
    async with a_client(fake) as client:
        response = await client.post(EPISODES + path, content=json.dumps(body))

    assert response.status_code == 422
    assert fake.episodes.writes == []


async def test_lists_by_tag_and_time() -> None:
    fake = FakeFleet()
    async with a_client(fake) as client:
        await client.get(f"{EPISODES}?tag=docs&since=2026-11-21T12:00:00Z")
        bad = await client.get(f"{EPISODES}?since=yesterday")

    (query,) = fake.episodes.finds
    assert (query.tag, query.since is not None, bad.status_code) == ("docs", True, 422)

"""The book of policies on a real NATS: changed by many, told once, followed through restarts."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client as NATS

from octarm.cli.stack.servers import nats_server
from octarm.common.bus.connection import connected_to
from octarm.common.bus.publisher import Outgoing, PubAck, Publisher
from octarm.common.bus.topology import provision
from octarm.common.testing.fakes import FakeClock
from octarm.models.errors import Conflict, NotFound, OctarmError, Unavailable
from octarm.models.events import PolicyEvent
from octarm.models.ids import new_id
from octarm.models.policies import MAX_SOURCE, SavePolicy
from octarm.models.subjects import EVENTS, POLICIES_BUCKET, POLICY_EVENT
from octarm.policies import book as books
from octarm.policies.book import Act, Book
from octarm.policies.store import bucket as buckets
from octarm.policies.store import following
from octarm.policies.store import store as stores
from octarm.policies.store.state import state_of
from octarm.policies.store.store import MAX_UNTOLD, PolicyStore
from octarm.policies.store.telling import outgoing
from octarm.policies.versions import digest
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
OCTOPUS = "\U0001f419"
V1, V2 = digest("v1"), digest("v2")


def an_act(**changed: Any) -> Act:
    return Act(**{"event_id": new_id("evt"), "at": datetime.now(UTC), "by": "ops", **changed})


def a_policy(source: str = "v1", name: str = "mine") -> SavePolicy:
    return SavePolicy(name=name, kind="starlark", source=source, by="ops")


@pytest_asyncio.fixture
async def nc(nats_url: str) -> AsyncGenerator[NATS, None]:
    async with connected_to(nats_url, name="test") as connection:
        await provision(connection.jetstream())
        yield connection


@asynccontextmanager
async def a_store(nc: NATS, **options: Any) -> AsyncGenerator[PolicyStore, None]:
    publisher = Publisher(nc)
    try:
        yield PolicyStore(nc, publisher, **options)
    finally:
        await publisher.close()


@pytest_asyncio.fixture
async def store(nc: NATS) -> AsyncGenerator[PolicyStore, None]:
    async with a_store(nc) as made:
        yield made


class Unheard:
    """A publisher whose messages reach nobody."""

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | OctarmError]:
        return [Unavailable("EVENTS is away")] * len(messages)


async def told(nc: NATS) -> list[PolicyEvent]:
    """Every event about policies, in order."""
    js = nc.jetstream()
    found = []
    for seq in range(1, (await js.stream_info(EVENTS)).state.last_seq + 1):
        message = await js.get_msg(EVENTS, seq)
        assert message.headers is not None
        event = PolicyEvent.model_validate_json(message.data or b"")
        assert message.headers["ce-type"] == f"octarm.{event.type}"
        assert message.subject == POLICY_EVENT.at(
            verb=event.type.removeprefix("policy."), policy=event.policy
        )
        found.append(event)
    return found


async def keys(nc: NATS) -> list[str]:
    return sorted(await (await nc.jetstream().key_value(POLICIES_BUCKET)).keys())


async def test_what_is_saved_is_read_by_all(nc: NATS, store: PolicyStore) -> None:
    assert await store.book() == Book()

    info, created = await store.save(a_policy("ä" * MAX_SOURCE), an_act())

    async with a_store(nc) as other:
        assert (await other.book()).find("mine") == info
        version = await other.source(info.digest)
    assert created
    assert version.source == "ä" * MAX_SOURCE
    assert (version.state, version.size_bytes) == ("idle", 2 * MAX_SOURCE)


async def test_the_same_content_again_is_the_same_version(nc: NATS, store: PolicyStore) -> None:
    first, _ = await store.save(a_policy(), an_act())
    before = await keys(nc)

    again, created = await store.save(a_policy(name="other"), an_act())

    assert (again, created) == (first, False)
    assert await keys(nc) == before
    assert [it.type for it in await told(nc)] == ["policy.saved"]


async def test_a_policys_life_is_told_in_order(nc: NATS, store: PolicyStore) -> None:
    await store.save(a_policy("v1"), an_act())
    await store.save(a_policy("v2"), an_act())
    await store.deploy(V1, an_act())
    await store.shadow(V2, an_act())
    await store.shadow(None, an_act())
    await store.deploy(V2, an_act())
    book = await store.roll_back(an_act())

    assert book.live == V1
    assert (await store.source(V1)).state == "live"
    assert await store.delete(V2, an_act()) == V2
    assert await store.delete(V2, an_act()) is None
    with pytest.raises(NotFound, match="no policy"):
        await store.source(V2)
    with pytest.raises(Conflict, match="in use"):
        await store.delete(V1, an_act())
    assert [it.type.removeprefix("policy.") for it in await told(nc)] == [
        "saved",
        "saved",
        "deployed",
        "shadowed",
        "shadowed",
        "deployed",
        "rolled_back",
        "deleted",
    ]
    assert len(await keys(nc)) == 2, "the state and the one version that is left"


async def test_two_writers_that_race_lose_nothing(nc: NATS) -> None:
    async with a_store(nc) as one, a_store(nc) as other:
        await asyncio.gather(
            *(one.save(a_policy(f"one-{n}"), an_act()) for n in range(10)),
            *(other.save(a_policy(f"other-{n}"), an_act()) for n in range(10)),
            *(it.save(a_policy("both"), an_act()) for it in (one, other) for _ in range(3)),
        )
        book = await one.book()

    assert len(book.versions) == 21
    events = await told(nc)
    assert sorted(it.policy for it in events) == sorted(book.versions)
    assert len(await keys(nc)) == 22, "what was written in vain was removed"


async def test_a_change_that_is_repeated_is_made_once(nc: NATS, store: PolicyStore) -> None:
    await store.save(a_policy("v1"), an_act())
    await store.save(a_policy("v2"), an_act())
    await store.deploy(V1, an_act())
    await store.deploy(V2, an_act())
    act = an_act()

    await store.roll_back(act)
    book = await store.roll_back(act)

    assert (book.live, len(book.deployments)) == (V1, 3)
    assert len(await told(nc)) == 5


async def test_a_change_whose_acknowledgement_was_lost_is_made_once(
    nc: NATS, store: PolicyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = buckets.Bucket.put
    lost: list[bool] = []

    async def lossy(self: buckets.Bucket, *given: Any) -> Any:
        kept = await put(self, *given)
        if not lost:
            lost.append(True)
            raise buckets.OutcomeUnknown("lost")
        return kept

    monkeypatch.setattr(buckets.Bucket, "put", lossy)

    _, created = await store.save(a_policy(), an_act())

    assert created
    await store.deploy(V1, an_act())
    assert [it.type for it in await told(nc)] == ["policy.saved", "policy.deployed"]


async def test_many_that_trip_a_version_trip_it_once(nc: NATS) -> None:
    async with a_store(nc) as one, a_store(nc) as other:
        await one.save(a_policy("v1"), an_act())
        await one.save(a_policy("v2"), an_act())
        await one.deploy(V1, an_act())
        await one.deploy(V2, an_act())

        await asyncio.gather(*(it.trip(V2, V1, "3 failures") for it in (one, other, one, other)))

        book = await one.trip(V2, "platform", "late")
    assert book.live == V1
    assert book.tripped == {V2}
    (event,) = [it for it in await told(nc) if it.type == "policy.tripped"]
    assert event.detail == {"by": "scheduler", "because": "3 failures", "now": V1}


async def test_an_event_that_could_not_be_told_is_told_by_the_next_reader(nc: NATS) -> None:
    async with a_store(nc) as store:
        dying = PolicyStore(nc, Unheard())
        await dying.save(a_policy("v1"), an_act())
        await dying.deploy(V1, an_act())
        assert await told(nc) == []

        await store.save(a_policy("v2"), an_act())

        assert [it.type for it in await told(nc)] == [
            "policy.saved",
            "policy.deployed",
            "policy.saved",
        ]


async def test_who_follows_tells_what_a_dead_process_could_not(nc: NATS) -> None:
    long_ago = datetime.now(UTC) - timedelta(minutes=30)
    dying = PolicyStore(nc, Unheard())
    act = Act(new_id("evt"), long_ago, "ops")
    await dying.save(a_policy("v1"), act)

    async with a_store(nc) as store, following_of(store) as books_seen:
        await wait_until(lambda: len(books_seen) == 1)
        await wait_until_told(nc, 1)

    (event,) = await told(nc)
    assert event.event_id == act.event_id


async def test_an_event_that_the_stream_has_is_not_told_again_an_hour_later(nc: NATS) -> None:
    published = Publisher(nc)
    act = an_act()
    forgetful = PolicyStore(nc, Unheard())
    await forgetful.save(a_policy("v1"), act)
    # It was told, but the process died before it could take note of that.
    event = (await buckets.Bucket(nc).state()).state.untold[0]
    subject = outgoing(event)
    await published.publish(Outgoing(subject.subject, subject.payload, "other-id", subject.head))
    await published.close()

    clock = FakeClock(datetime.now(UTC) + timedelta(hours=1))
    async with a_store(nc, clock=clock) as store:
        await store.save(a_policy("v2"), an_act())

    assert [it.policy for it in await told(nc)] == [V1, V2]


async def test_nothing_is_changed_that_cannot_be_announced_for_long(nc: NATS) -> None:
    store = PolicyStore(nc, Unheard())
    for n in range(MAX_UNTOLD):
        await store.save(a_policy(f"v{n}"), an_act())

    with pytest.raises(Unavailable, match="announced"):
        await store.save(a_policy("one more"), an_act())


@asynccontextmanager
async def following_of(store: PolicyStore) -> AsyncGenerator[list[Book], None]:
    seen: list[Book] = []

    async def changed(book: Book) -> None:
        seen.append(book)

    task = asyncio.create_task(store.watch(changed))
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait({task})


async def wait_until_told(nc: NATS, count: int) -> None:
    async def enough() -> bool:
        return len(await told(nc)) >= count

    await wait_until(enough)


async def test_followers_see_changes_at_once(nc: NATS) -> None:
    async with a_store(nc) as one, a_store(nc) as other, following_of(other) as seen:
        await wait_until(lambda: seen == [Book()])

        await one.save(a_policy(), an_act())
        await one.deploy(V1, an_act())

        await wait_until(lambda: seen[-1].live == V1)
    assert len(seen) == len({id(it) for it in seen}) <= 3


async def test_a_follower_whose_call_fails_is_called_again(
    nc: NATS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "AGAIN_AFTER_S", 0.01)
    calls = []

    async def changed(book: Book) -> None:
        calls.append(book)
        if len(calls) < 3:
            raise Unavailable("not yet")

    async with a_store(nc) as store:
        task = asyncio.create_task(store.watch(changed))
        await wait_until(lambda: len(calls) == 3)
        task.cancel()
        await asyncio.wait({task})


async def test_policies_survive_a_restart_of_nats_and_are_followed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_AGAIN_S", 0.5)
    server = nats_server(tmp_path)
    await server.start()
    try:
        async with connected_to(server.url, name="test") as nc:
            await provision(nc.jetstream())
            async with a_store(nc) as store, following_of(store) as seen:
                await store.save(a_policy(), an_act())
                await wait_until(lambda: len(seen) > 0)

                await server.stop()
                with pytest.raises(Unavailable):
                    await PolicyStore(nc, Unheard()).book()
                await server.start()

                await wait_until(lambda: nc.is_connected, timeout_s=20)
                await store.deploy(V1, an_act())
                await wait_until(lambda: seen[-1].live == V1, timeout_s=20)
    finally:
        await server.stop()


async def test_without_the_bucket_it_says_what_to_do(nats_url: str) -> None:
    connection = await nats.connect(nats_url)
    try:
        with pytest.raises(Unavailable, match="no bucket") as caught:
            await PolicyStore(connection, Unheard()).book()
        assert "octarm bus provision" in caught.value.recovery_hint
    finally:
        await connection.close()


async def test_a_state_that_is_not_understood_is_left_alone(nc: NATS, store: PolicyStore) -> None:
    bucket = await nc.jetstream().key_value(POLICIES_BUCKET)
    await bucket.put(buckets.STATE, b'{"versions": 3}')

    with pytest.raises(Unavailable, match="not understood"):
        await store.save(a_policy(), an_act())

    assert (await bucket.get(buckets.STATE)).value == b'{"versions": 3}'


async def test_a_full_book_fits_one_message(nc: NATS, store: PolicyStore) -> None:
    """The largest state: everything that may stand in it, at its longest."""
    version, _ = await store.save(a_policy(), an_act())
    kept = await buckets.Bucket(nc).state()
    versions = {digest(str(n)): version for n in range(books.MAX_VERSIONS)}
    book = Book(versions, tripped=frozenset(versions))
    for n in range(books.MAX_DEPLOYMENTS):
        act = an_act(by=OCTOPUS * 200)
        book, _ = books.deploy(book, digest(str(n)), act)
        book, event = books.trip(book, "platform", OCTOPUS * 1000, act)
    assert event is not None
    state = state_of(kept.state, book, event)
    state = state.model_copy(update={"untold": [event] * MAX_UNTOLD})

    await buckets.Bucket(nc).put(kept, state)

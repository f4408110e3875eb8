"""What the scheduler reads from a real JetStream, and its process at the edges."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.clients.scheduler import SchedulerClient
from octarm.common.bus.connection import connect
from octarm.common.bus.delivery import ACK, Delivery, Outcome
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.runner import ConsumerRef, PullRunner
from octarm.common.bus.topology import (
    ORCHESTRATOR_DISPATCH,
    arm_durable,
    ensure_arm_consumer,
    provision,
)
from octarm.models.arms import ArmCapability, ArmRecord
from octarm.models.errors import OctarmError, Unavailable
from octarm.models.subjects import ARMS_BUCKET, DISPATCH, LEAD_SHARD, RESULT, RUN_TASKS
from octarm.policies.context import ArmFacts
from octarm.scheduler import storage
from octarm.scheduler.__main__ import main
from octarm.scheduler.settings import Settings
from octarm.scheduler.storage import ArmDirectory, JetStreamDispatched, deliver_all_again
from octarm.scheduler.usecases.ports import Pending, Recorded
from tests.support.scheduling import facts, task_id
from tests.support.wait import PATIENCE_S, wait_until

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def nc(nats_url: str) -> AsyncGenerator[NATS, None]:
    connection = await connect(nats_url, name="test")
    await provision(connection.jetstream(), shards=2)
    yield connection
    await connection.close()


async def dispatch(nc: NATS, arm_id: str, *bodies: object) -> None:
    publisher = Publisher(nc)
    for number, body in enumerate(bodies):
        payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
        await publisher.publish(Outgoing(RUN_TASKS.at(arm_id=arm_id), payload, f"d{number}"))
    await publisher.close()


def command(number: int) -> dict[str, object]:
    return {"tasks": [{"task_id": task_id(number), "attempt": 1}]}


async def start(nc: NATS, arm_id: str, count: int) -> None:
    subscription = await nc.jetstream().pull_subscribe_bind(arm_durable(arm_id), stream=DISPATCH)
    for message in await subscription.fetch(count, timeout=PATIENCE_S):
        await message.ack_sync()
    await subscription.unsubscribe()


async def knows(dispatched: JetStreamDispatched, seq: int) -> bool:
    return (await dispatched.recorded()).up_to == seq


@asynccontextmanager
async def reading_dispatch(nc: NATS) -> AsyncGenerator[None, None]:
    """Acknowledge what the orchestrator does."""
    consumer, stop, publisher = (
        ConsumerRef(DISPATCH, ORCHESTRATOR_DISPATCH),
        asyncio.Event(),
        Publisher(nc),
    )

    async def handle(deliveries: list[Delivery]) -> list[Outcome]:
        return [ACK] * len(deliveries)

    running = asyncio.create_task(PullRunner(nc, publisher, consumer, handle).run(stop))
    yield
    stop.set()
    await running
    await publisher.close()


class TestDispatched:
    async def test_tells_what_nobody_has_started(self, nc: NATS) -> None:
        await ensure_arm_consumer(nc.jetstream(), "one")
        await dispatch(nc, "one", command(1), b"{", command(2))
        dispatched = JetStreamDispatched(nc)

        assert await dispatched.pending("one") == [
            Pending(task_id(1), 1, 1),
            Pending(task_id(2), 1, 3),
        ]
        assert await dispatched.started_below("one") == 1

        await start(nc, "one", 2)
        assert await dispatched.started_below("one") == 3
        await start(nc, "one", 1)
        assert await dispatched.pending("one") == []
        assert await dispatched.started_below("one") is None

    async def test_tells_up_to_where_the_ledger_has_read(self, nc: NATS) -> None:
        dispatched = JetStreamDispatched(nc)
        await dispatch(nc, "one", command(1), command(2))
        assert (await dispatched.recorded(), await dispatched.last_seq()) == (Recorded(0, False), 2)

        async with reading_dispatch(nc):
            await wait_until(lambda: knows(dispatched, 2))
        await dispatch(nc, "one", command(1), command(2), command(3))

        assert (await dispatched.recorded(), await dispatched.last_seq()) == (Recorded(2, False), 3)
        await nc.jetstream().purge_stream(DISPATCH, subject=RUN_TASKS.pattern)
        assert (await dispatched.recorded()).all_of_it

    async def test_forgets_all_but_the_last_leader_of_a_shard(self, nc: NATS) -> None:
        publisher = Publisher(nc)
        for number, shard in enumerate((0, 0, 1, 0)):
            await publisher.publish(Outgoing(LEAD_SHARD.at(shard=shard), b"{}", f"l{number}"))
        await publisher.close()
        js = nc.jetstream()

        await JetStreamDispatched(nc).forget_leaders(0)

        info = await js.stream_info(DISPATCH, subjects_filter=">")
        assert info.state.subjects == {LEAD_SHARD.at(shard=n): 1 for n in (0, 1)}
        assert (await js.get_last_msg(DISPATCH, LEAD_SHARD.at(shard=0))).seq == 4

    async def test_an_arm_without_a_consumer_has_nothing(self, nc: NATS) -> None:
        assert await JetStreamDispatched(nc).pending("nobody") == []
        assert await JetStreamDispatched(nc).started_below("nobody") is None

    async def test_says_when_it_cannot_tell(self, nc: NATS) -> None:
        dispatched = JetStreamDispatched(nc)
        await nc.close()

        with pytest.raises(Unavailable):
            await dispatched.pending("one")
        with pytest.raises(Unavailable):
            await deliver_all_again(nc, 0)

    async def test_a_missing_ready_consumer_is_made(self, nc: NATS) -> None:
        await nc.jetstream().delete_consumer("OCTARM_READY", "scheduler-place-task-0")

        await deliver_all_again(nc, 0)

        await nc.jetstream().consumer_info("OCTARM_READY", "scheduler-place-task-0")

    async def test_a_ready_consumer_that_is_made_and_silent_is_made_once_more(
        self, nc: NATS, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked, unheard, answered = [], ["CREATE", "DELETE"], nc.request

        async def request(subject: str, *args: Any, **kwargs: Any) -> Msg:
            asked.append("CREATE" if "CREATE" in subject else subject.split(".")[3])
            answer = await answered(subject, *args, **kwargs)
            # As of a node that nobody hears: what is asked is done, the answer never comes.
            if unheard and asked[-1] == unheard[0]:
                unheard.pop(0)
                raise TimeoutError
            return answer

        monkeypatch.setattr(nc, "request", request)

        await deliver_all_again(nc, 0)

        assert asked[:5] == ["DELETE", "CREATE", "DELETE", "DELETE", "CREATE"]
        await nc.jetstream().consumer_info("OCTARM_READY", "scheduler-place-task-0")


class Seen:
    """What a directory told."""

    def __init__(self, nc: NATS) -> None:
        self.arms: dict[str, ArmFacts] = {}
        self.lists = 0
        self.directory = ArmDirectory(
            nc, relisted=self._relist, learned=self._learn, unlearned=self._unlearn
        )

    def _relist(self, listed: list[ArmFacts]) -> None:
        self.lists += 1
        self.arms = {known.id: known for known in listed}

    def _learn(self, known: ArmFacts) -> None:
        self.arms[known.id] = known

    def _unlearn(self, arm_id: str) -> None:
        self.arms.pop(arm_id, None)


async def put(nc: NATS, arm_id: str) -> None:
    now = datetime.now(UTC)
    arm = ArmCapability(arm_id=arm_id, name=arm_id, capabilities=frozenset({"work"}))
    record = ArmRecord(arm=arm, status="online", registered_at=now, changed_at=now)
    bucket = await nc.jetstream().key_value(ARMS_BUCKET)
    await bucket.put(arm_id, record.model_dump_json().encode())


@asynccontextmanager
async def following(seen: Seen) -> AsyncGenerator[None, None]:
    running = asyncio.create_task(seen.directory.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


class TestDirectory:
    async def test_follows_what_comes_changes_and_goes(self, nc: NATS) -> None:
        await put(nc, "old")
        bucket = await nc.jetstream().key_value(ARMS_BUCKET)
        seen = Seen(nc)

        async with following(seen):
            await wait_until(lambda: set(seen.arms) == {"old"})
            await put(nc, "new")
            await wait_until(lambda: set(seen.arms) == {"old", "new"})
            await bucket.put("broken", b"{")
            await bucket.delete("old")
            await wait_until(lambda: set(seen.arms) == {"new"})

        assert seen.arms["new"] == facts("new")

    async def test_lists_again_what_the_watcher_skipped(
        self, nc: NATS, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storage, "RELIST_S", 0.05)
        await put(nc, "one")
        seen = Seen(nc)

        async with following(seen):
            await wait_until(lambda: seen.lists == 1)
            seen.directory._seen = 0
            await wait_until(lambda: seen.lists == 2)
            assert set(seen.arms) == {"one"}

    async def test_lists_again_when_the_bucket_was_made_anew(
        self, nc: NATS, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storage, "RELIST_S", 0.05)
        for _ in range(3):
            await put(nc, "one")
        seen = Seen(nc)

        async with following(seen):
            await wait_until(lambda: set(seen.arms) == {"one"})
            await nc.jetstream().delete_key_value(ARMS_BUCKET)
            await provision(nc.jetstream())
            await put(nc, "two")
            await wait_until(lambda: set(seen.arms) == {"two"})

    async def test_waits_for_a_bucket_that_is_not_there_yet(
        self, nc: NATS, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storage, "AGAIN_AFTER_S", 0.01)
        await nc.jetstream().delete_key_value(ARMS_BUCKET)
        seen = Seen(nc)

        async with following(seen):
            await asyncio.sleep(0.05)
            await provision(nc.jetstream())
            await put(nc, "one")
            await wait_until(lambda: set(seen.arms) == {"one"})


async def http(port: int, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ")[1]), answer.partition(b"\r\n\r\n")[2]


class TestProcess:
    async def test_leads_every_shard_and_says_how_it_is(
        self, nc: NATS, nats_url: str, unused_tcp_port: int
    ) -> None:
        stop = asyncio.Event()
        settings = Settings(nats_url=nats_url, instance="me", http_port=unused_tcp_port, shards=2)
        running = asyncio.create_task(main(settings, stop))
        try:
            async with reading_dispatch(nc):
                await wait_until(lambda: answers(nc, 0))
                await wait_until(lambda: answers(nc, 1))
            await nc.publish(RESULT.at(arm_id="one"), b"{")
            assert (await http(unused_tcp_port, "/healthz"))[0] == 200
            status, body = await http(unused_tcp_port, "/readyz")
            assert (status, json.loads(body)) == (200, {"status": "ready"})
            assert b"octarm_scheduler_queued_tasks" in (await http(unused_tcp_port, "/metrics"))[1]
        finally:
            stop.set()
            await running

    async def test_ends_when_nobody_answers(self, unused_tcp_port: int) -> None:
        settings = Settings(nats_url=f"nats://127.0.0.1:{unused_tcp_port}", http_port=0)

        with pytest.raises(Unavailable):
            await main(settings, asyncio.Event())


async def answers(nc: NATS, shard: int) -> bool:
    try:
        return (await SchedulerClient(nc, timeout_s=0.5).queue(shard)).shard == shard
    except OctarmError:
        return False

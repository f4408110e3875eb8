"""What is acknowledged and still there is removed; nothing else is. Asked of a real JetStream."""

from collections.abc import AsyncGenerator

import msgspec
import pytest
from msgspec import Raw
from nats.aio.client import Client as NATS
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig

from octarm.common.bus.connection import connect
from octarm.common.bus.topology import provision
from octarm.common.clock import SystemClock
from octarm.common.testing import FakeClock
from octarm.models.hot import PlaceTasks, ReadyTask
from octarm.models.ids import new_id
from octarm.models.queries import Outcome
from octarm.models.states import TaskState
from octarm.models.subjects import PLACE_TASKS, READY
from octarm.orchestrator.storage import leftovers
from octarm.orchestrator.storage.leftovers import Leftovers
from tests.support.wait import PATIENCE_S

pytestmark = pytest.mark.integration

# A stream that keeps what is acknowledged, as a work queue does whose disk was full.
KEEPS = "KEEPS"
TASKS = [new_id("tsk") for _ in range(4)]


@pytest.fixture
async def nc(nats_url: str) -> AsyncGenerator[NATS, None]:
    connection = await connect(nats_url, name="test")
    js = connection.jetstream()
    await js.add_stream(
        StreamConfig(name=KEEPS, subjects=["keeps.>"], retention=RetentionPolicy.LIMITS)
    )
    yield connection
    await js.delete_stream(KEEPS)
    await connection.close()


def later() -> FakeClock:
    """A clock by which everything has been there for a while."""
    return FakeClock(now=SystemClock().now() + 2 * leftovers.KEPT_FOR)


async def left(nc: NATS) -> int:
    return (await nc.jetstream().stream_info(KEEPS)).state.messages


async def acknowledge(nc: NATS, durable: str, subjects: str, number: int) -> None:
    js = nc.jetstream()
    await js.add_consumer(KEEPS, ConsumerConfig(durable_name=durable, filter_subject=subjects))
    subscription = await js.pull_subscribe_bind(durable, KEEPS)
    for message in await subscription.fetch(number, timeout=PATIENCE_S) if number else []:
        await message.ack_sync()
    await subscription.unsubscribe()


async def test_removes_what_every_reader_of_its_subject_has_acknowledged(nc: NATS) -> None:
    for subject in ("keeps.a.1", "keeps.a.2", "keeps.b.1"):
        await nc.jetstream().publish(subject, b"{}")
    await acknowledge(nc, "first", "keeps.a.*", 2)
    await acknowledge(nc, "second", "keeps.>", 1)

    removed = await Leftovers(nc, [KEEPS], clock=later()).sweep()
    again = await Leftovers(nc, [KEEPS], clock=later()).sweep()

    # The second reader has acknowledged one of three, and nobody else reads `b`.
    assert (removed, again, await left(nc)) == (1, 0, 2)


async def test_leaves_what_nobody_reads_and_what_is_young(nc: NATS) -> None:
    await nc.jetstream().publish("keeps.a.1", b"{}")
    unread = await Leftovers(nc, [KEEPS], clock=later()).sweep()
    await acknowledge(nc, "first", "keeps.b.*", 0)
    of_another = await Leftovers(nc, [KEEPS], clock=later()).sweep()
    await acknowledge(nc, "second", "keeps.a.*", 1)
    young = await Leftovers(nc, [KEEPS]).sweep()
    old = await Leftovers(nc, [KEEPS], clock=later()).sweep()

    assert (unread, of_another, young, old) == (0, 0, 0, 1)


def ready(number: int, attempt: int = 1) -> ReadyTask:
    return ReadyTask(
        task_id=TASKS[number],
        attempt=attempt,
        tenant="acme",
        tier="batch",
        priority=5,
        needs=[],
        queued_at=SystemClock().now(),
        task=Raw(b"{}"),
    )


async def outcomes(tenant: str, task_ids: list[str]) -> list[Outcome]:
    """Where the tasks stand; the last one is not in the ledger."""
    assert tenant == "acme"
    states = (TaskState.RUNNING, TaskState.COMPLETED, TaskState.QUEUED)
    known = dict(zip(TASKS, states, strict=False))
    return [Outcome(task_id=one, state=known[one], attempt=2) for one in task_ids if one in known]


@pytest.mark.parametrize(
    ("tasks", "left_over"),
    [
        ([ready(0, 2), ready(1, 2)], 0),
        ([ready(2, 1)], 0),
        ([ready(0, 2), ready(2, 2)], 1),
        ([ready(3)], 1),
    ],
    ids=["under way and over", "an older attempt", "one waits", "unknown"],
)
async def test_removes_from_ready_what_has_gone_on_though_its_acknowledgement_was_lost(
    nc: NATS, tasks: list[ReadyTask], left_over: int
) -> None:
    js = nc.jetstream()
    await provision(js)
    body = msgspec.json.encode(PlaceTasks(tasks))
    await js.publish(PLACE_TASKS.at(shard=0), body)

    await Leftovers(nc, [READY], outcomes=outcomes).sweep()
    young = (await js.stream_info(READY)).state.messages
    await Leftovers(nc, [READY], outcomes=outcomes, clock=later()).sweep()
    old = (await js.stream_info(READY)).state.messages
    await js.purge_stream(READY)

    assert (young, old) == (1, left_over)

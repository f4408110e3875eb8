"""A scheduler as a process of this event loop, and what the others do to its bus."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from nats.aio.client import Client as NATS

from octarm.clients.scheduler import SchedulerClient
from octarm.common.bus.connection import connect
from octarm.common.bus.publisher import Fence, Outgoing, Publisher
from octarm.common.bus.topology import arm_durable, ensure_arm_consumer, provision
from octarm.models.arms import ArmCapability, ArmRecord, Heartbeat, RunningAttempt
from octarm.models.commands import RunTask, RunTasks
from octarm.models.errors import OctarmError
from octarm.models.ids import new_id
from octarm.models.subjects import (
    ARMS_BUCKET,
    DISPATCH,
    HEARTBEAT,
    PLACE_TASKS,
    RESULT,
    RUN_TASKS,
    STOPPED,
    TASK_EVENTS,
    event_bucket,
    place_msg_id,
)
from octarm.scheduler.__main__ import main
from octarm.scheduler.settings import Settings
from tests.support.seen_dispatch import SeenDispatch, seen_dispatch
from tests.support.wait import wait_until


@dataclass
class Bus:
    """What the others do to the bus, as the scheduler sees it."""

    nc: NATS
    url: str
    publisher: Publisher
    seen: SeenDispatch
    beats: int = 0

    async def arm(self, arm_id: str, *, slots: int = 4, status: str = "online") -> None:
        """Register an arm as the registry does, and let its one instance beat."""
        now = datetime.now(UTC)
        record = ArmRecord(
            arm=ArmCapability(arm_id=arm_id, name=arm_id, capabilities=frozenset({"work"})),
            status=status,
            registered_at=now,
            changed_at=now,
        )
        bucket = await self.nc.jetstream().key_value(ARMS_BUCKET)
        await bucket.put(arm_id, record.model_dump_json().encode())
        await ensure_arm_consumer(self.nc.jetstream(), arm_id)
        if slots:
            await self.beat(arm_id, slots=slots)

    async def beat(
        self, arm_id: str, *, slots: int, running: Sequence[tuple[str, int]] = (), every: float = 60
    ) -> None:
        self.beats += 1
        beat = Heartbeat(
            arm_id=arm_id,
            instance_id="i-1",
            seq=self.beats,
            status="ready",
            slots=slots,
            running=[RunningAttempt(task_id=task, attempt=n) for task, n in running],
            interval_s=every,
        )
        subject = HEARTBEAT.at(arm_id=arm_id, instance_id="i-1")
        await self.nc.publish(subject, beat.model_dump_json().encode())
        await self.nc.flush()

    async def ready(self, *tasks: dict[str, object], shard: int = 0) -> list[str]:
        """Put one READY message with these tasks on the stream; gives their ids."""
        made = [{**a_task(), **task} for task in tasks]
        body = msgspec.json.encode({"tasks": made})
        msg_id = place_msg_id(str(made[0]["task_id"]), 1)
        await self.publisher.publish(Outgoing(PLACE_TASKS.at(shard=shard), body, msg_id))
        return [str(task["task_id"]) for task in made]

    async def result(self, task_id: str, arm_id: str, attempt: int = 1) -> None:
        body = msgspec.json.encode({"task_id": task_id, "attempt": attempt, "arm_id": arm_id})
        await self.nc.publish(RESULT.at(arm_id=arm_id), body)

    async def ended(self, task_id: str, verb: str, attempt: int = 1) -> None:
        body = {"type": f"task.{verb}", "task_id": task_id, "attempt": attempt}
        bucket = event_bucket(task_id)
        subject = TASK_EVENTS.at(what=STOPPED, tenant="default", bucket=bucket)
        await self.nc.publish(subject, msgspec.json.encode({"events": [body]}))

    async def placed(self, count: int) -> list[str]:
        """Give the ids of the placed tasks in order, once there are `count`."""
        await wait_until(lambda: len(self.ids()) >= count)
        return self.ids()

    def ids(self) -> list[str]:
        return [task_id for task_id, _ in self.seen.placements()]

    async def dispatched(self, arm_id: str) -> list[RunTask]:
        """Take the run commands of an arm from the stream, as its instance does."""
        subscription = await self.nc.jetstream().pull_subscribe_bind(
            arm_durable(arm_id), stream=DISPATCH
        )
        taken: list[RunTask] = []
        try:
            while True:
                for message in await subscription.fetch(50, timeout=0.2):
                    taken += RunTasks.model_validate_json(message.data).tasks
                    await message.ack_sync()
        except TimeoutError:
            await subscription.unsubscribe()
            return taken

    async def messages(self, stream: str) -> int:
        """Count what a stream holds."""
        info = await self.nc.jetstream().stream_info(stream)
        return int(info.state.messages)

    async def run_commands(self) -> int:
        """Count what DISPATCH holds for arms."""
        info = await self.nc.jetstream().stream_info(DISPATCH, subjects_filter=RUN_TASKS.pattern)
        return sum((info.state.subjects or {}).values())


def a_task() -> dict[str, object]:
    task_id, now = new_id("tsk"), datetime.now(UTC)
    return {
        "task_id": task_id,
        "attempt": 1,
        "tenant": "default",
        "tier": "interactive",
        "priority": 5,
        "needs": ["work"],
        "queued_at": now,
        "task": {"task_id": task_id, "tenant": "default", "created_at": now, "goal": "x"},
    }


def a_command(task_id: str, arm_id: str, msg_id: str, fence: Fence | None = None) -> Outgoing:
    """What a leader sends to an arm."""
    task = {**a_task(), "task_id": task_id}
    body = {"shard": 0, "arm_id": arm_id, "placed_at": datetime.now(UTC), "policy": "p"}
    payload = msgspec.json.encode({**body, "tasks": [task]})
    return Outgoing(RUN_TASKS.at(arm_id=arm_id), payload, msg_id, fence=fence)


@asynccontextmanager
async def a_bus(url: str) -> AsyncGenerator[Bus, None]:
    """Give a provisioned bus of which everything dispatched is seen."""
    nc = await connect(url, name="test")
    await provision(nc.jetstream())
    publisher = Publisher(nc)
    async with seen_dispatch(nc) as seen:
        yield Bus(nc, url, publisher, seen)
    await publisher.close()
    await nc.close()


@asynccontextmanager
async def a_scheduler(
    bus: Bus, name: str = "first", **settings: object
) -> AsyncGenerator[None, None]:
    """Run a scheduler that leads until the block ends."""
    async with a_standby(bus, name, **settings):
        await wait_until(lambda: leads(bus, name), timeout_s=12)
        yield


@asynccontextmanager
async def a_standby(bus: Bus, name: str, **settings: object) -> AsyncGenerator[None, None]:
    """Run a scheduler until the block ends, which is its SIGTERM."""
    stop = asyncio.Event()
    given = {"nats_url": bus.url, "instance": name, "http_port": 0, **settings}
    running = asyncio.create_task(main(Settings.model_validate(given), stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def leads(bus: Bus, name: str) -> bool:
    try:
        return (await SchedulerClient(bus.nc, timeout_s=0.5).queue()).leader == name
    except OctarmError:
        return False


async def queued(bus: Bus) -> int:
    return (await SchedulerClient(bus.nc).queue()).queued

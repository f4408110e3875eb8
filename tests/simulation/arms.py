"""Simulated arms: real runner and publisher, made-up work that may fail, hang, lie or die."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from octarm.common.bus.connection import connected_to
from octarm.common.bus.delivery import ACK, Delivery, Outcome
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.requests import ask
from octarm.common.bus.runner import ConsumerRef, PullRunner
from octarm.common.bus.topology import arm_durable
from octarm.common.service import until_stopped
from octarm.models import hot, queries
from octarm.models.arms import ArmCapability
from octarm.models.commands import bundle_size
from octarm.models.errors import OctarmError
from octarm.models.subjects import (
    ATTEMPTS_UPDATED,
    CONTROL,
    DISPATCH,
    HEARTBEAT,
    REGISTER_ARM,
    RESULT,
    result_msg_id,
)
from octarm.sdk.line import IDLE_HEARTBEAT_S
from tests.simulation.timeline import Process, VirtualClock
from tests.simulation.wires import URL

if TYPE_CHECKING:
    from tests.simulation.world import World

BEAT_S: Final = 2.0
AGAIN_S: Final = 0.5
HASH: Final = "0" * 64
Key = tuple[str, int]
_bundle = msgspec.json.Decoder(hot.RunTasks).decode
_encode = msgspec.json.Encoder().encode


@dataclass
class ArmInstance:
    """One process of one arm."""

    world: "World"
    process: Process
    nc: NATS
    arm_id: str
    running: dict[Key, "asyncio.Task[None]"] = field(default_factory=dict)
    waiting: dict[Key, hot.RunTask] = field(default_factory=dict)
    slots_of: dict[Key, int] = field(default_factory=dict)
    done: dict[Key, Outgoing] = field(default_factory=dict)
    beats: int = 0

    def __post_init__(self) -> None:
        self.clock = VirtualClock(self.world.loop, self.process)
        self.publisher = Publisher(self.nc)
        self.instance_id = self.process.name
        self.slots = self.world.plan.slots
        self.runner = PullRunner(
            self.nc,
            self.publisher,
            ConsumerRef(DISPATCH, arm_durable(self.arm_id)),
            self.handle,
            batch=self.slots,
            capacity=self._room,
            idle_heartbeat_s=IDLE_HEARTBEAT_S,
            clock=self.clock,
        )

    def _room(self) -> int:
        free = self.slots - sum(self.slots_of.values())
        return -(-free // bundle_size(self.slots)) if free > 0 else 0

    async def run(self, stop: asyncio.Event) -> None:
        """Register, then serve until `stop`."""
        await self._register(stop)
        await self.nc.subscribe(CONTROL.at(arm_id=self.arm_id), cb=self._controlled)
        await until_stopped(stop, self._beat(stop), self.runner.run(stop))

    async def _register(self, stop: asyncio.Event) -> None:
        arm = ArmCapability(
            arm_id=self.arm_id,
            name=self.arm_id,
            version="1.0.0",
            capabilities=frozenset(self.world.arms[self.arm_id]),
            slots=self.slots,
        )
        while not stop.is_set():
            try:
                await ask(self.nc, REGISTER_ARM, queries.RegisterArm(arm=arm), timeout_s=2.0)
                return
            except OctarmError:
                await asyncio.sleep(AGAIN_S)

    async def _beat(self, stop: asyncio.Event) -> None:
        subject = HEARTBEAT.at(arm_id=self.arm_id, instance_id=self.instance_id)
        while not stop.is_set():
            self.beats += 1
            beat = hot.Heartbeat(
                arm_id=self.arm_id,
                instance_id=self.instance_id,
                seq=self.beats,
                status="ready",
                slots=self.slots,
                running=[
                    hot.RunningAttempt(*key, self.slots_of[key])
                    for key in (*self.running, *self.waiting)
                ],
                interval_s=BEAT_S,
            )
            with suppress(NatsError, OSError):
                await self.nc.publish(subject, _encode(beat))
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await stop.wait()

    async def handle(self, deliveries: list[Delivery]) -> list[Outcome]:
        """Start what was delivered."""
        for delivery in deliveries:
            for command in _bundle(delivery.data).tasks:
                key = (command.task_id, command.attempt)
                if key in self.done:
                    self.process.spawn(self._publish(self.done[key]))
                elif key not in self.running:
                    self.waiting[key] = command
                    self.slots_of[key] = command.slots
        self._start()
        return [ACK] * len(deliveries)

    def _start(self) -> None:
        while self.waiting:
            key, command = next(iter(self.waiting.items()))
            if sum(self.slots_of[it] for it in self.running) + command.slots > self.slots:
                return
            del self.waiting[key]
            self.world.started(key, self.instance_id)
            self.running[key] = self.process.spawn(self._work(command))

    async def _work(self, command: hot.RunTask) -> None:
        key, chances = (command.task_id, command.attempt), self.world.chances
        try:
            if chances.hit("start_told"):
                await self._tell_start(key)
            await asyncio.sleep(self.world.work_s())
            if chances.hit("arm_hangs"):
                await asyncio.sleep(3600)
            if chances.hit("arm_dies"):
                self.process.kill()
                await asyncio.sleep(0)
            result = self.done[key] = self._result(key)
            await self._publish(result)
        finally:
            self.running.pop(key, None)
            self.slots_of.pop(key, None)
            self._start()
            self.runner.wake()

    async def _tell_start(self, key: Key) -> None:
        update = hot.AttemptUpdate(*key, "started", self.clock.now())
        body = _encode(hot.AttemptsUpdated(self.arm_id, self.instance_id, [update]))
        subject = ATTEMPTS_UPDATED.at(arm_id=self.arm_id)
        await self.publisher.publish_many([Outgoing(subject, body, f"u:{key[0]}:{key[1]}")])

    def _result(self, key: Key) -> Outgoing:
        task_id, attempt = key
        failed = self.world.chances.hit("work_fails")
        provenance = hot.Provenance(self.arm_id, self.clock.now(), HASH)
        error = {"title": "Broken", "status": 500, "code": "INTERNAL", "category": "internal"}
        result = hot.Result(
            task_id,
            attempt,
            self.arm_id,
            self.instance_id,
            "failure" if failed else "success",
            5,
            provenance,
            error=msgspec.Raw(_encode(error | {"detail": "it broke"})) if failed else hot.NULL,
            retryable=failed and not self.world.chances.hit("fails_for_good"),
        )
        body = _encode(result)
        self.world.finished(key, self.instance_id, body)
        return Outgoing(RESULT.at(arm_id=self.arm_id), body, result_msg_id(task_id, attempt))

    async def _publish(self, result: Outgoing) -> None:
        while True:
            (answer,) = await self.publisher.publish_many([result])
            if not isinstance(answer, OctarmError):
                break
            await asyncio.sleep(AGAIN_S)
        self.world.reported.add(result.msg_id)
        if self.world.chances.hit("result_twice"):
            again = Outgoing(result.subject, result.payload, f"{result.msg_id}:again")
            await self.publisher.publish_many([again])

    async def _controlled(self, msg: Msg) -> None:
        told = msgspec.json.decode(msg.data)
        key = (told["task_id"], told["attempt"])
        if self.waiting.pop(key, None) is not None:
            del self.slots_of[key]
        work = self.running.get(key)
        if work is not None:
            work.cancel()


async def arm(world: "World", process: Process, stop: asyncio.Event) -> None:
    """One instance of the arm that its process is named after: `<arm>-<letter>#<number>`."""
    arm_id = process.name.partition("_")[0]
    async with connected_to(URL, name=f"arm-{arm_id}", on_closed=stop.set) as nc:
        await ArmInstance(world, process, nc, arm_id).run(stop)

"""Simulated clients: they submit, repeat what was not answered, depend, cancel, and remember."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from nats.aio.client import Client as NATS

from octarm.common.bus.connection import connected_to
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.requests import ask_raw
from octarm.models import hot
from octarm.models.errors import OctarmError
from octarm.models.subjects import CANCEL_TASK, SUBMIT_TASK, SUBMIT_TASKS
from tests.simulation.timeline import Process
from tests.simulation.wires import URL

if TYPE_CHECKING:
    from tests.simulation.world import World

TENANT: Final = "acme"
AGAIN_S: Final = 0.5
ASK_S: Final = 3.0
_encode = msgspec.json.Encoder().encode


class _Reply(msgspec.Struct):
    ok: hot.SubmitAnswers | None = None


_reply = msgspec.json.Decoder(_Reply).decode


@dataclass
class Client:
    """One client that submits `number` tasks."""

    world: "World"
    nc: NATS
    name: str
    number: int

    async def run(self) -> None:
        """Submit everything; returns when each submission has been answered."""
        rng, sent = self.world.chances.rng, 0
        waiting = []
        while sent < self.number:
            size = min(rng.randint(1, 4), self.number - sent)
            names = [f"{self.name}-{sent + index}" for index in range(size)]
            sent += size
            way = self._publish if rng.random() < 0.2 else self._submit
            waiting.append(asyncio.create_task(way(names)))
            await asyncio.sleep(rng.expovariate(1 / self.world.plan.gap_s))
        await asyncio.gather(*waiting)

    def _submission(self, name: str) -> dict[str, Any]:
        world, rng = self.world, self.world.chances.rng
        body: dict[str, Any] = {
            "goal": name,
            "idempotency_key": name,
            "timeout_seconds": rng.choice([4, 10, 40, 40]),
            "priority": rng.randint(1, 10),
            "slots": rng.choice([1, 1, 1, 1, 2, 3]),
            "required_capabilities": [rng.choice(["write", "write", "code"])],
            "budget": {"max_retries": rng.randint(1, 4)},
        }
        known = list(world.accepted.values())
        if known and rng.random() < 0.15:
            body["depends_on"] = [rng.choice(known)]
        if rng.random() < 0.05:
            body["deadline"] = world.clock.now().replace(microsecond=0).isoformat()
            body["deadline"] = body["deadline"].replace("T12:00:", "T12:01:")
        return body

    async def _submit(self, names: list[str]) -> None:
        """Ask until each is answered, with the same keys and bodies."""
        left = {name: msgspec.Raw(_encode(self._submission(name))) for name in names}
        while left:
            tasks = [hot.SubmitTask(submission) for submission in left.values()]
            body = _encode(hot.SubmitTasks(TENANT, tasks))
            try:
                answers = _reply(await ask_raw(self.nc, SUBMIT_TASKS.at(), body, timeout_s=ASK_S))
            except OctarmError:
                answers = _Reply()
            if answers.ok is not None:
                for name, answer in zip(list(left), answers.ok.answers, strict=True):
                    if self._is_settled(name, answer):
                        del left[name]
            if left:
                await asyncio.sleep(AGAIN_S)

    def _is_settled(self, name: str, answer: hot.SubmitAnswer) -> bool:
        if answer.accepted is not None:
            self.world.was_accepted(name, answer.accepted.task_id)
            if self.world.chances.hit("cancelled"):
                task = asyncio.create_task(self._cancel(answer.accepted.task_id))
                self.world.background.add(task)
                task.add_done_callback(self.world.background.discard)
            return True
        problem = answer.problem or {}
        if problem.get("retryable"):
            return False
        self.world.was_refused(name, problem.get("code", "?"))
        return True

    async def _publish(self, names: list[str]) -> None:
        """Put submissions on INTAKE: whoever publishes does not wait for an answer."""
        publisher = Publisher(self.nc)
        for name in names:
            submission = self._submission(name) | {"depends_on": []}
            submission.pop("deadline", None)
            body = _encode(hot.SubmitTask(msgspec.Raw(_encode(submission))))
            message = Outgoing(SUBMIT_TASK.at(tenant=TENANT), body, f"in:{name}")
            await self._until_taken(publisher, message)
            self.world.published.append(name)
        await publisher.close()

    async def _until_taken(self, publisher: Publisher, message: Outgoing) -> None:
        while True:
            (answer,) = await publisher.publish_many([message])
            if not isinstance(answer, OctarmError):
                return
            await asyncio.sleep(AGAIN_S)

    async def _cancel(self, task_id: str) -> None:
        await asyncio.sleep(self.world.chances.rng.expovariate(1.0))
        body = _encode({"task_id": task_id, "tenant": TENANT})
        try:
            await ask_raw(self.nc, CANCEL_TASK.at(), body, timeout_s=ASK_S)
        except OctarmError:
            return


async def client(world: "World", process: Process, number: int) -> None:
    """Run one client to its end, connecting again until it can."""
    while True:
        try:
            async with connected_to(URL, name="client") as nc:
                await Client(world, nc, process.name, number).run()
                return
        except OctarmError:
            await asyncio.sleep(AGAIN_S)

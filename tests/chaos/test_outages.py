"""A server that does not answer: everybody is told so soon, and what waited goes on afterwards."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import nats
import psutil
import pytest

from octarm.cli.stack.supervisor import Stack, running_stack
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import NotFound, OctarmError, Unavailable
from octarm.models.ids import new_id
from octarm.models.queries import TaskView
from octarm.models.subjects import SUBMIT_TASK
from octarm.sdk import Client
from tests.support.wait import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
NAPPER = [sys.executable, "-m", "tests.support.napping_arm"]
# Two seconds are promised; the rest is for a machine that has other things to do.
SOON_S = 4.0
BACK_S = 60.0


def a_nap(number: int, nap_s: float = 0.0) -> dict[str, Any]:
    """A task of the napping arm."""
    context = {"number": number, "nap_s": nap_s}
    return {"goal": "nap", "assigned_arm": "napper", "context": context}


@dataclass
class Scene:
    """A whole stack with a client of each kind."""

    stack: Stack
    http: httpx.AsyncClient
    client: Client

    @asynccontextmanager
    async def silent(self, role: str) -> AsyncGenerator[None, None]:
        """Stop a process and all that it started; let them go on afterwards."""
        # Each backend of Postgres is in a process group of its own.
        first = psutil.Process(self.stack.pids()[role])
        stopped = [first, *first.children(recursive=True)]
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    async def told(self) -> list[tuple[int, bool, float]]:
        """What five submissions get: status, whether it says when to come again, seconds."""

        async def one(number: int) -> tuple[int, bool, float]:
            began = time.monotonic()
            answer = await self.http.post("/v1/tasks", json=a_nap(number))
            seconds = time.monotonic() - began
            return answer.status_code, "retry-after" in answer.headers, seconds

        return await asyncio.gather(*(one(number) for number in range(5)))

    async def is_back(self) -> None:
        """Wait until a task goes all the way again."""

        accepted: list[str] = []

        async def submitted() -> bool:
            answer = await self.http.post("/v1/tasks", json=a_nap(0))
            if answer.status_code == 202:
                accepted.append(answer.json()["task_id"])
            return bool(accepted)

        await wait_until(submitted, timeout_s=BACK_S)
        await self.ended(accepted)

    async def ended(self, task_ids: list[str]) -> None:
        """Wait until tasks have completed, each at its first attempt."""
        ends: list[TaskView] = []

        async def over(task_id: str) -> bool:
            # What was put on INTAKE is no task before the orchestrator has read it, and for a
            # moment after an outage nobody answers.
            with suppress(NotFound, Unavailable):
                await self.client.task(task_id).wait(timeout=BACK_S)
                ends.append(await self.client.get(task_id))
                return True
            return False

        for task_id in task_ids:
            await wait_until(partial(over, task_id), timeout_s=BACK_S)
        assert {(end.state, end.attempt) for end in ends} == {("completed", 1)}


def all_refused_soon(told: list[tuple[int, bool, float]]) -> bool:
    """Whether each was told in time that, and when, it may come again."""
    return all(
        status in (429, 503, 504) and says_when and seconds < SOON_S
        for status, says_when, seconds in told
    )


@asynccontextmanager
async def a_scene(data: Path) -> AsyncGenerator[Scene, None]:
    env = {"PYTHONPATH": str(ROOT)}
    async with (
        running_stack(data, extra_arms={"napper": NAPPER}, env=env) as stack,
        Client(stack.urls.nats) as client,
        httpx.AsyncClient(base_url=stack.urls.gateway, timeout=30) as http,
    ):
        yield Scene(stack, http, client)


async def test_outages_are_told_soon_and_survived(tmp_path: Path) -> None:
    async with a_scene(tmp_path) as scene:
        await scene.is_back()
        await _without_redis(scene)
        await _without_the_orchestrator(scene)
        await _without_postgres(scene)
        await _without_nats(scene)


async def _without_redis(scene: Scene) -> None:
    async with scene.silent("redis"):
        tasks = await scene.client.submit_many([a_nap(number) for number in range(20)])
        await scene.ended([task.id for task in tasks])


async def _without_the_orchestrator(scene: Scene) -> None:
    async with scene.silent("orchestrator"):
        told = await scene.told()
    await scene.is_back()

    assert all_refused_soon(told), told


async def _without_postgres(scene: Scene) -> None:
    """What is published waits in INTAKE, what has run in RESULTS; nothing runs twice."""
    running = await scene.client.submit_many([a_nap(number, 1.0) for number in range(50)])
    async with scene.silent("postgres"):
        told = await scene.told()
        waiting = await _published(scene.stack.urls.nats, 50)
        await asyncio.sleep(2)
    await scene.ended([task.id for task in running])
    await scene.ended(waiting)
    await scene.is_back()

    assert all_refused_soon(told), told


async def _without_nats(scene: Scene) -> None:
    running = await scene.client.submit_many([a_nap(number, 1.0) for number in range(50)])
    async with scene.silent("nats"):
        told = await scene.told()
    scene.stack.kill("nats")
    gone = await scene.told()
    await scene.ended([task.id for task in running])
    await scene.is_back()

    assert all_refused_soon(told), told
    # The server may be back before they have waited for it.
    assert all_refused_soon([answer for answer in gone if answer[0] != 202]), gone


async def _published(url: str, number: int) -> list[str]:
    """Put tasks on INTAKE; gives their ids."""
    connection = await nats.connect(url)
    publisher = Publisher(connection)
    ids = [new_id("tsk") for _ in range(number)]
    messages = [
        Outgoing(
            SUBMIT_TASK.at(tenant="default"),
            SubmitTask(submission=TaskSubmission(**a_nap(place)), task_id=task_id)
            .model_dump_json()
            .encode(),
            f"s:{task_id}",
        )
        for place, task_id in enumerate(ids)
    ]
    try:
        answers = await publisher.publish_many(messages)
    finally:
        await publisher.close()
        await connection.close()
    assert not [answer for answer in answers if isinstance(answer, OctarmError)]
    return ids

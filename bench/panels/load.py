"""A minute of load with a fault in it: the arm stands still for some seconds."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx
import nats

from octarm.models.subjects import SUBMIT_TASK

SECONDS: Final = 60
STOPPED: Final = (20, 38)
"""Seconds between which the arm stands still: long enough that it is missed."""
SHED: Final = (44, 52)
"""Seconds between which fresh batch tasks are refused on purpose."""
TICKS_A_S: Final = 4
TASKS_A_TICK: Final = 5
INTERACTIVE: Final = 2
ONE_FAILS_OF: Final = 50
NOTE: Final = "The bridge in the north is closed on every Monday of the year"


@dataclass(frozen=True, slots=True)
class Load:
    """Whom to load: the gateway, the bus, and the arm's process."""

    gateway: str
    nats: str
    arm_pid: int

    async def run(self) -> None:
        """Offer it all, one tick after the other."""
        limits = httpx.Limits(max_connections=50)
        async with (
            httpx.AsyncClient(base_url=self.gateway, timeout=60, limits=limits) as http,
            self._watched(http),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._fault())
            tasks.create_task(_shed(http))
            for tick in range(SECONDS * TICKS_A_S):
                tasks.create_task(_submit(http, tick))
                if tick % TICKS_A_S == 0:
                    tasks.create_task(_remember(http, tick))
                await asyncio.sleep(1 / TICKS_A_S)
            await self._bury()

    async def _fault(self) -> None:
        begin, end = STOPPED
        await asyncio.sleep(begin)
        os.kill(self.arm_pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(end - begin)
        finally:
            os.kill(self.arm_pid, signal.SIGCONT)

    @asynccontextmanager
    async def _watched(self, http: httpx.AsyncClient) -> AsyncGenerator[None, None]:
        """Follow the events of one task after the other meanwhile, as a page would."""

        async def follow() -> None:
            while True:
                answer = await http.post("/v1/tasks", json=_task(INTERACTIVE))
                path = f"/v1/tasks/{answer.json()['task_id']}/events"
                async with http.stream("GET", path) as events:
                    async for _ in events.aiter_lines():
                        pass

        following = asyncio.create_task(follow())
        yield
        following.cancel()
        with suppress(asyncio.CancelledError, httpx.HTTPError):
            await following

    async def _bury(self) -> None:
        """Publish what nobody can read."""
        bus = await nats.connect(self.nats)
        subject = SUBMIT_TASK.at(tenant="default")
        await bus.jetstream().publish(subject, b"{", headers={"Nats-Msg-Id": "unreadable"})
        await bus.close()


def _task(number: int) -> dict[str, Any]:
    return {
        "goal": f"work on {number}",
        "required_capabilities": ["work"],
        "tier": "batch" if number % 3 == 0 else "interactive",
        "context": {"ms": 20 + 7 * (number % 20), "fails": number % ONE_FAILS_OF == 1},
        "budget": {"max_retries": 1},
    }


async def _shed(http: httpx.AsyncClient) -> None:
    begin, end = SHED
    await asyncio.sleep(begin)
    wanted = {
        "mode": "shed-batch",
        "reason": "while the queue is worked off",
        "seconds": end - begin,
    }
    (await http.put("/v1/shedding", json=wanted)).raise_for_status()


async def _submit(http: httpx.AsyncClient, tick: int) -> None:
    first = tick * TASKS_A_TICK
    batch = [_task(number) for number in range(first, first + TASKS_A_TICK)]
    await http.post("/v1/tasks/batch", json={"tasks": batch})
    if tick % 20 == 0:
        keyed = {"idempotency_key": "the same", "goal": f"another {tick}"}
        await http.post("/v1/tasks", json=_task(tick) | keyed)


async def _remember(http: httpx.AsyncClient, tick: int) -> None:
    memory = {"content": f"{NOTE}, says note {tick % 40}.", "tags": ["panels"]}
    await http.post("/v1/memory/remember", json={"memories": [memory]})
    await http.post("/v1/memory/search", json={"query": "bridge closed"})
    episodes = (await http.get("/v1/memory/episodes", params={"limit": 3})).json()["episodes"]
    for episode in episodes:
        await http.get(f"/v1/memory/episodes/{episode['episode_id']}")
    if episodes:
        task_id = episodes[0]["task_id"]
        opened = (await http.post("/v1/memory/episodes", json={"task_id": task_id})).json()
        entry = {"kind": "observation", "body": {"text": "seen"}}
        path = f"/v1/memory/episodes/{opened['episode_id']}/entries"
        await http.post(path, json={"entries": [entry, entry]})

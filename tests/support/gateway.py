"""A gateway to talk to: in this process over a fake fleet, or on a real bus."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel

from octarm.cli.stack.ports import free_port
from octarm.common.bus.requests import ok, problem
from octarm.gateway.__main__ import main
from octarm.gateway.app import Surroundings, make_app
from octarm.gateway.settings import Settings
from octarm.models import subjects
from octarm.models.errors import OctarmError
from octarm.models.queries import StatesFound, SubmitAnswers
from octarm.models.subjects import Query
from tests.support.fleet import FakeFleet, FakeTasks
from tests.support.wait import wait_until


def a_client(fake: FakeFleet, **around: Any) -> httpx.AsyncClient:
    """An HTTP client of an application over `fake`; nothing is opened."""
    app = make_app(fake.fleet, Surroundings(**around))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


class OrchestratorOnBus:
    """Answers the orchestrator's queries on a real bus out of a `FakeTasks`."""

    def __init__(self, nc: Client, tasks: FakeTasks) -> None:
        self.headers: list[dict[str, str]] = []
        self._nc = nc
        self._tasks = tasks

    async def start(self) -> None:
        """Subscribe; the server knows of it when this returns."""
        await self._answer(subjects.SUBMIT_TASKS, self._submit)
        await self._answer(subjects.GET_TASK, lambda q: self._tasks.get(q.tenant, q.task_id))
        await self._answer(subjects.FIND_TASKS, self._tasks.find)
        await self._answer(subjects.GET_STATES, self._states)
        await self._answer(subjects.GET_SHEDDING, lambda _: self._tasks.shedding())
        await self._answer(subjects.SWITCH_SHEDDING, lambda q: self._tasks.shed(q, q.by))
        await self._answer(
            subjects.CANCEL_TASK, lambda q: self._tasks.cancel(q.tenant, q.task_id, q.reason)
        )
        await self._nc.flush()

    async def _submit(self, query: Any) -> SubmitAnswers:
        answers = await self._tasks.submit_many(query.tenant, query.submissions)
        return SubmitAnswers(answers=answers)

    async def _states(self, query: Any) -> StatesFound:
        found = await self._tasks.states(query.tenant, query.task_ids)
        return StatesFound(outcomes=list(found.values()))

    async def _answer(
        self, query: Query[Any, Any], handler: Callable[[Any], Awaitable[BaseModel]]
    ) -> None:
        async def reply(message: Msg) -> None:
            self.headers.append(dict(message.headers or {}))
            try:
                answer = await handler(query.asks.model_validate_json(message.data))
            except OctarmError as error:
                await message.respond(problem(error))
            else:
                await message.respond(ok(answer.model_dump_json().encode()))

        await self._nc.subscribe(query.template, queue="orchestrator", cb=reply)


@asynccontextmanager
async def an_orchestrator(
    nats_url: str, tasks: FakeTasks
) -> AsyncGenerator[OrchestratorOnBus, None]:
    """An orchestrator on the bus until the block ends."""
    nc = await nats.connect(nats_url)
    orchestrator = OrchestratorOnBus(nc, tasks)
    await orchestrator.start()
    try:
        yield orchestrator
    finally:
        await nc.close()


@dataclass
class RunningGateway:
    """A whole gateway in this process."""

    url: str
    stop: asyncio.Event
    running: "asyncio.Task[None]"

    async def drain(self) -> None:
        """Ask it to stop, as SIGTERM does, and wait until it has."""
        self.stop.set()
        await self.running


@asynccontextmanager
async def a_running_gateway(nats_url: str, **settings: Any) -> AsyncGenerator[RunningGateway, None]:
    """A gateway that answers, and drains when the block ends."""
    port = free_port()
    stop = asyncio.Event()
    # What stands behind it answers when the machine lets it.
    values = Settings(nats_url=nats_url, http_port=port, **{"answer_s": 30.0} | settings)
    gateway = RunningGateway(
        f"http://127.0.0.1:{port}", stop, asyncio.create_task(main(values, stop))
    )
    try:
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            await wait_until(lambda: gateway.running.done() or _is_up(client), timeout_s=10)
        yield gateway
    finally:
        await gateway.drain()


@asynccontextmanager
async def a_gateway(nats_url: str, **settings: Any) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of a gateway that drains when the block ends."""
    async with (
        a_running_gateway(nats_url, **settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        yield client


async def _is_up(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).is_success
    except httpx.TransportError:
        return False


async def raw(port: int, data: Sequence[bytes], *, timeout_s: float = 5.0) -> bytes:
    """Send bytes that no HTTP client would send; give what comes until the end or the timeout."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in data:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(timeout_s):
            head = await reader.readuntil(b"\r\n\r\n")
            return head + await reader.read(65536)
    finally:
        writer.close()
        await writer.wait_closed()

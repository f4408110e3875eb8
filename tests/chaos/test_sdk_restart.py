"""nats-server is killed and comes back: nothing that an arm or a client holds is lost."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from octarm.cli.stack.servers import Server, nats_server
from octarm.models import events, subjects
from octarm.models.contracts import TaskContract
from octarm.sdk import Arm, Client
from tests.support.arm_stage import a_command, a_task, an_arm_stage
from tests.support.client_stage import a_client_stage
from tests.support.wait import wait_until

pytestmark = pytest.mark.chaos


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server, None]:
    server = nats_server(tmp_path / "nats")
    await server.start()
    yield server
    await server.stop()


async def kill(server: Server) -> None:
    server.kill()
    await server.wait()


async def test_a_result_made_while_the_bus_is_away_arrives_once(server: Server) -> None:
    release = asyncio.Event()
    arm = Arm("worker", capabilities={"work"})

    @arm.run
    async def hold(task: TaskContract) -> str:
        await release.wait()
        return "done"

    running, later = a_command(a_task()), a_command(a_task())
    async with an_arm_stage(server.url) as stage, stage.serving(arm):
        await stage.dispatch("worker", running)
        await wait_until(lambda: any(beat.running for beat in stage.beats))
        await kill(server)
        release.set()
        await asyncio.sleep(0.3)
        await server.start()
        js = stage.nc.jetstream()

        async def arrived(count: int) -> bool:
            info = await js.stream_info(subjects.RESULTS, subjects_filter=subjects.RESULT.pattern)
            return (info.state.subjects or {}).get(subjects.RESULT.at(arm_id="worker")) == count

        await wait_until(lambda: stage.nc.is_connected, 20)
        await wait_until(lambda: arrived(1), 20)
        await stage.dispatch("worker", later)
        await wait_until(lambda: arrived(2), 20)


async def test_a_client_hears_of_ends_and_reads_on_after_a_restart(server: Server) -> None:
    async with a_client_stage(server.url) as stage, Client(server.url, sweep_s=0.2) as client:
        task = await client.submit(goal="count")
        await stage.announce(events.TaskAccepted, task.id)
        stream = task.events()
        seen = [(await anext(stream)).type]
        reading = asyncio.ensure_future(anext(stream))
        await kill(server)
        await server.start()
        await wait_until(lambda: stage.nc.is_connected, 20)
        await stage.finish(task.id)
        async with asyncio.timeout(120):
            result = await task.result()
            seen.append((await reading).type)
        await stream.aclose()

    assert result.output == "done"
    assert seen == ["task.accepted", "task.completed"]

"""The gateway's process: refusing to start, draining, reloading, tracing."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest
from nats.aio.msg import Msg

from octarm.cli.stack.ports import free_port
from octarm.common.bus.requests import problem
from octarm.models import subjects
from octarm.models.errors import NotFound
from octarm.models.ids import new_id
from octarm.models.states import TaskState
from tests.support.fleet import FakeTasks
from tests.support.gateway import an_orchestrator
from tests.support.processes import a_python_process
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EX_CONFIG = 78


@asynccontextmanager
async def a_process(**settings: str) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """`python -m octarm.gateway`, killed if it outlives the block."""
    given = {f"OCTARM_{name.upper()}": value for name, value in settings.items()}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OCTARM_")}
    async with a_python_process("-m", "octarm.gateway", env=clean | given) as process:
        yield process


async def refusal_of(**settings: str) -> str:
    """The one line with which it refuses to start."""
    async with a_process(**settings) as process:
        _, said = await asyncio.wait_for(process.communicate(), 60)
    lines = [line for line in said.decode().splitlines() if not line.startswith("{")]
    assert process.returncode == EX_CONFIG, said
    assert len(lines) == 1, lines
    return lines[0]


def spans_in(folder: Path) -> list[dict[str, Any]]:
    """Every span that was exported into a folder."""
    lines = [line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


async def is_up(client: httpx.AsyncClient) -> bool:
    """Whether it answers."""
    try:
        return (await client.get("/healthz")).is_success
    except httpx.TransportError:
        return False


@asynccontextmanager
async def a_gateway_process(
    nats_url: str, **settings: str
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, httpx.AsyncClient], None]:
    """The process once it answers, and a client of it."""
    port = free_port()
    async with (
        a_process(nats_url=nats_url, http_port=str(port), **settings) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        await wait_until(lambda: is_up(client), timeout_s=30)
        yield process, client


@pytest.mark.bad_input(29)
class TestRefusesToStart:
    async def test_with_keys_that_are_none_and_never_shows_them(self) -> None:
        line = await refusal_of(api_keys='{"my-secret-key": "NOT A TENANT"}')

        assert "api_keys" in line
        assert "my-secret-key" not in line

    async def test_with_an_unknown_key_in_its_file(self, tmp_path: Path) -> None:
        path = tmp_path / "octarm.toml"
        path.write_text("[gateway]\nhttp_prot = 1\n")

        assert "http_prot" in await refusal_of(config=str(path))

    async def test_on_a_port_in_use(self, nats_url: str) -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            line = await refusal_of(nats_url=nats_url, http_port=str(port))

        assert str(port) in line
        assert "OCTARM_HTTP_PORT" in line

    async def test_without_nats(self) -> None:
        line = await refusal_of(nats_url=f"nats://127.0.0.1:{free_port()}", http_port="0")

        assert "OCTARM_NATS_URL" in line

    async def test_on_the_wrong_cluster(self, nats_url: str) -> None:
        line = await refusal_of(nats_url=nats_url, http_port="0", nats_cluster="another")

        assert "another" in line


class TestSignals:
    async def test_a_first_one_drains_and_ends_well(self, nats_url: str) -> None:
        tasks = FakeTasks()
        tasks.delay_s = 0.5
        async with (
            an_orchestrator(nats_url, tasks),
            a_gateway_process(nats_url) as (process, client),
        ):
            submitting = asyncio.create_task(client.post("/v1/tasks", json={"goal": "x"}))
            await wait_until(lambda: tasks.requests)
            process.send_signal(signal.SIGTERM)
            in_hand = await submitting
            await asyncio.wait_for(process.wait(), 60)

            assert in_hand.status_code == 202
            assert process.returncode == 0
            assert not await is_up(client)

    @pytest.mark.bad_input(30)
    async def test_a_second_one_forces_the_exit(self, nats_url: str) -> None:
        tasks = FakeTasks()
        tasks.delay_s = 20
        async with (
            an_orchestrator(nats_url, tasks),
            a_gateway_process(nats_url) as (process, client),
        ):
            submitting = asyncio.create_task(client.post("/v1/tasks", json={"goal": "x"}))
            await wait_until(lambda: tasks.requests)
            process.send_signal(signal.SIGTERM)
            await wait_until(lambda: _refused(client))
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 60)
            with pytest.raises(httpx.TransportError):
                await submitting

        assert process.returncode == 130

    @pytest.mark.bad_input(30)
    async def test_a_bad_reload_keeps_the_old_settings(self, nats_url: str, tmp_path: Path) -> None:
        path = tmp_path / "octarm.toml"
        path.write_text("[gateway]\ndrain_s = 5\n")
        async with a_gateway_process(nats_url, config=str(path)) as (process, client):
            path.write_text("[gateway]\nnonsense = [\n")
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            async with asyncio.timeout(60):
                while b"reload_refused" not in await process.stderr.readline():
                    pass

            assert await is_up(client)
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 60)
            assert process.returncode == 0


class TestTracing:
    async def test_a_sampled_request_gets_a_span_that_the_task_carries_on(
        self, nats_url: str, tmp_path: Path
    ) -> None:
        tasks = FakeTasks()
        async with (
            an_orchestrator(nats_url, tasks),
            a_gateway_process(nats_url, trace_export=f"file:{tmp_path}", trace_sample="0") as (
                process,
                client,
            ),
        ):
            headers = {"traceparent": SAMPLED}
            await client.post("/v1/tasks", json={"goal": "x"}, headers=headers)
            await client.post("/v1/tasks", json={"goal": "not sampled"})
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 60)

        (span,) = spans_in(tmp_path)
        carried = tasks.submitted[0].traceparent
        assert span["name"] == "gateway.submit"
        assert span["parent_id"] == SAMPLED[36:52]
        assert carried == f"00-{SAMPLED[3:35]}-{span['span_id']}-01"
        assert tasks.submitted[1].traceparent.endswith("-00")
        assert all(view.state is TaskState.QUEUED for view in tasks.views.values())


async def _refused(client: httpx.AsyncClient) -> bool:
    return not await is_up(client)


@asynccontextmanager
async def a_slow_memory(nats_url: str, answers_after_s: float) -> AsyncGenerator[None, None]:
    """Whoever is asked for an episode, and takes that long to say that there is none."""
    nc = await nats.connect(nats_url)

    async def answer(msg: Msg) -> None:
        await asyncio.sleep(answers_after_s)
        await msg.respond(problem(NotFound("no such episode", code="EPISODE_NOT_FOUND")))

    try:
        await nc.subscribe(subjects.GET_EPISODE.at(), cb=answer)
        await nc.flush()
        yield
    finally:
        await nc.close()


class TestMemoryThatIsSlow:
    async def test_is_waited_for_longer_than_the_others(self, nats_url: str) -> None:
        async with (
            a_slow_memory(nats_url, 0.5),
            a_gateway_process(nats_url, answer_s="0.1", memory_s="10") as (_, client),
        ):
            response = await client.get(f"/v1/memory/episodes/{new_id('epi')}")

        assert response.status_code == 404
        assert response.json()["code"] == "EPISODE_NOT_FOUND"

    async def test_and_does_not_answer_is_a_504_that_says_what_to_do(self, nats_url: str) -> None:
        async with (
            a_slow_memory(nats_url, 60),
            a_gateway_process(nats_url, memory_s="0.2") as (_, client),
        ):
            response = await client.get(f"/v1/memory/episodes/{new_id('epi')}")

        assert response.status_code == 504
        assert response.headers["retry-after"] == "1"
        assert "in 0.2 s" in response.json()["detail"]
        assert "again with the same id" in response.json()["recovery_hint"]

"""The memory service as a process of its own, on real NATS, Postgres and Redis."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from nats.aio.client import Client as NATS
from pydantic import SecretStr

from octarm.clients.memory import MemoryClient
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.topology import MEMORY_EPISODES
from octarm.common.storage import open_redis
from octarm.common.storage.migrations import upgrade
from octarm.memory.__main__ import main
from octarm.memory.migrate import migrate
from octarm.memory.schema import MIGRATIONS, SCHEMA
from octarm.memory.settings import Settings
from octarm.models.episodes import FindEpisodes
from octarm.models.errors import NotFound, OctarmError, Unparsable
from octarm.models.subjects import DLQ, ENDED, TASKS_ENDED
from tests.support.episodes import a_task_id, an_ending, an_episode_id
from tests.support.memory_service import a_provisioned_bus
from tests.support.probes import probe
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
SAMPLED = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


@pytest_asyncio.fixture
async def bus(nats_url: str) -> AsyncGenerator[NATS, None]:
    async with a_provisioned_bus(nats_url) as bus:
        yield bus


@pytest.fixture
def environment(nats_url: str, postgres_url: str, redis_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "OCTARM_NATS_URL": nats_url,
        "OCTARM_POSTGRES_URL": postgres_url,
        "OCTARM_REDIS_URL": redis_url,
        "OCTARM_HTTP_PORT": "0",
    }


@pytest.fixture
def settings(nats_url: str, postgres_url: str, redis_url: str) -> Settings:
    return Settings(
        nats_url=nats_url, postgres_url=SecretStr(postgres_url), redis_url=SecretStr(redis_url)
    )


@asynccontextmanager
async def a_memory(settings: Settings) -> AsyncGenerator[None, None]:
    """A memory service in this process, its schema migrated."""
    upgrade(settings.postgres_url.get_secret_value(), MIGRATIONS, SCHEMA)
    stop = asyncio.Event()
    running = asyncio.create_task(main(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await running


@asynccontextmanager
async def a_memory_process(environment: dict[str, str]) -> AsyncGenerator[None, None]:
    upgrade(environment["OCTARM_POSTGRES_URL"], MIGRATIONS, SCHEMA)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "octarm.memory", env=environment
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
    assert process.returncode == 0


async def publish(bus: NATS, *endings: bytes) -> None:
    publisher = Publisher(bus)
    answers = await publisher.publish_many([_outgoing(ending) for ending in endings])
    assert not [answer for answer in answers if isinstance(answer, OctarmError)]
    await publisher.close()


def _outgoing(ending: bytes) -> Outgoing:
    event_id = hashlib.sha256(ending).hexdigest()
    return Outgoing(TASKS_ENDED.at(), b'{"events":[%b]}' % ending, event_id)


def rename(url: str, old: str, new: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"alter table memory.{old} rename to {new}".encode())


def remembered(client: MemoryClient, number: int) -> Callable[[], object]:
    async def check() -> bool:
        try:
            return bool(await client.get_episode("acme", an_episode_id(number)))
        except OctarmError:
            return False

    return check


async def nothing_pends(bus: NATS) -> bool:
    info = await bus.jetstream().consumer_info(ENDED, MEMORY_EPISODES)
    return not info.num_pending and not info.num_ack_pending


class TestMemory:
    async def test_a_finished_task_becomes_one_episode(self, bus: NATS, settings: Settings) -> None:
        client = MemoryClient(bus)
        async with a_memory(settings):
            await publish(bus, *(an_ending(number) for number in range(1, 8)))
            await publish(bus, an_ending(8, "timed_out", error={"code": "DEADLINE_EXCEEDED"}))
            await wait_until(remembered(client, 8), 15)
            await wait_until(lambda: nothing_pends(bus))
            found = await client.get_episode("acme", an_episode_id(1))
            again = await client.get_episode("acme", an_episode_id(1))
            page = await client.find_episodes(FindEpisodes(tenant="acme", limit=5))
            rest = await client.find_episodes(
                FindEpisodes(tenant="acme", limit=5, cursor=page.cursor)
            )
            of_task = await client.find_episodes(
                FindEpisodes(tenant="acme", task_id=a_task_id(3), arm_id="writer")
            )
            with pytest.raises(Unparsable) as forged:
                await client.find_episodes(FindEpisodes(tenant="other", cursor=page.cursor))
            with pytest.raises(NotFound):
                await client.get_episode("other", an_episode_id(1))

        assert (found.source, again.source) == ("postgres", "redis")
        assert not found.degraded
        assert again.episode == found.episode
        assert found.episode.observations == [{"goal": "write"}]
        ids = [one.episode_id for one in [*page.episodes, *rest.episodes]]
        assert ids == [an_episode_id(number) for number in range(8, 0, -1)]
        assert rest.cursor == ""
        assert [one.task_id for one in of_task.episodes] == [a_task_id(3)]
        assert forged.value.code == "INVALID_PARAMETER"

    async def test_goes_on_without_redis_and_says_so(
        self, bus: NATS, settings: Settings, unused_tcp_port: int
    ) -> None:
        client = MemoryClient(bus)
        nowhere = SecretStr(f"redis://127.0.0.1:{unused_tcp_port}/0")
        async with a_memory(settings.model_copy(update={"redis_url": nowhere})):
            await publish(bus, an_ending(1))
            await wait_until(remembered(client, 1), 15)
            await wait_until(lambda: nothing_pends(bus))
            found = await client.get_episode("acme", an_episode_id(1))

        assert found.source == "postgres"
        assert found.degraded

    @pytest.mark.bad_input(28)
    async def test_reads_from_postgres_what_redis_lost_or_spoilt(
        self, bus: NATS, settings: Settings, redis_url: str
    ) -> None:
        client = MemoryClient(bus)
        key = f"octarm:memory:episode:acme:{an_episode_id(1)}"
        async with a_memory(settings), open_redis(redis_url) as redis:
            await publish(bus, an_ending(1))
            await wait_until(remembered(client, 1), 15)
            await redis.set(key, b"\xff{spoilt")

            first = await client.get_episode("acme", an_episode_id(1))
            second = await client.get_episode("acme", an_episode_id(1))

        assert (first.source, first.degraded) == ("postgres", False)
        assert second.source == "redis"
        assert first.episode == second.episode

    async def test_puts_what_it_cannot_read_among_the_dead_letters(
        self, bus: NATS, settings: Settings
    ) -> None:
        subject = TASKS_ENDED.at()
        async with a_memory(settings):
            await bus.jetstream().publish(subject, b"\xff not json")
            await publish(bus, an_ending(2))
            await wait_until(remembered(MemoryClient(bus), 2), 15)
            await wait_until(lambda: nothing_pends(bus))

        assert (await bus.jetstream().stream_info(DLQ)).state.messages == 1

    async def test_forgets_in_time_what_is_old(self, bus: NATS, settings: Settings) -> None:
        url = settings.postgres_url.get_secret_value()
        async with a_memory(settings):
            await publish(bus, an_ending(1), an_ending(2))
            await wait_until(remembered(MemoryClient(bus), 2), 15)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "update memory.episode set created_at = now() - interval '91 days'"
                " where episode_id = %s",
                [an_episode_id(1)],
            )

        async with a_memory(settings):
            with psycopg.connect(url, autocommit=True) as connection:
                left = connection.cursor()

                def one_is_left() -> bool:
                    return left.execute("select episode_id from memory.episode").fetchall() == [
                        (an_episode_id(2),)
                    ]

                await wait_until(one_is_left, 15)

    async def test_traces_what_is_sampled(
        self, bus: NATS, environment: dict[str, str], tmp_path: Path
    ) -> None:
        async with a_memory_process(
            environment | {"OCTARM_TRACE_EXPORT": f"file:{tmp_path / 'spans'}"}
        ):
            await publish(bus, an_ending(1, traceparent=SAMPLED), an_ending(2))
            await wait_until(remembered(MemoryClient(bus), 1), 15)
            await wait_until(lambda: nothing_pends(bus))

        (file,) = (tmp_path / "spans").iterdir()
        (span,) = [json.loads(line) for line in file.read_text().splitlines()]
        assert span["name"] == "memory.remember"
        assert span["trace_id"] == "ab" * 16
        assert span["parent_id"] == "cd" * 8

    async def test_without_its_table_it_is_not_ready_and_loses_nothing(
        self, bus: NATS, settings: Settings, unused_tcp_port: int
    ) -> None:
        url = settings.postgres_url.get_secret_value()

        async def ready(status: int) -> bool:
            return (await probe(unused_tcp_port, "/readyz"))[0] == status

        async with a_memory(settings.model_copy(update={"http_port": unused_tcp_port})):
            await wait_until(lambda: ready(200), 10)
            rename(url, "episode", "hidden")
            await publish(bus, an_ending(1))
            await wait_until(lambda: ready(503))
            rename(url, "hidden", "episode")
            await wait_until(remembered(MemoryClient(bus), 1), 15)
            await wait_until(lambda: nothing_pends(bus))
            status, _ = await probe(unused_tcp_port, "/healthz")

        assert status == 200

    def test_migrating_twice_is_migrating_once(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("OCTARM_POSTGRES_URL", postgres_url)

        for _ in range(2):
            with pytest.raises(SystemExit) as done:
                migrate()
            assert done.value.code == 0

        assert capsys.readouterr().err == ""

    def test_a_migration_that_cannot_be_done_says_so_in_one_line(
        self,
        unused_tcp_port: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        nowhere = f"postgresql://nobody:secret@127.0.0.1:{unused_tcp_port}/none"
        monkeypatch.setenv("OCTARM_POSTGRES_URL", nowhere)

        with pytest.raises(SystemExit) as refused:
            migrate()

        errors = capsys.readouterr().err
        assert refused.value.code == 78
        assert len(errors.splitlines()) == 1
        assert "secret" not in errors

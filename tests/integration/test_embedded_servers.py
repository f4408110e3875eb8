"""The embedded nats-server, redis-server and Postgres, for real."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import nats
import psutil
import psycopg
import pytest
import redis

from octarm.cli.stack.errors import StackError
from octarm.cli.stack.ports import free_port
from octarm.cli.stack.servers import Server, nats_server, postgres_server, redis_server
from tests.support.servers import running
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

EACH = pytest.mark.parametrize("make", [nats_server, redis_server, postgres_server])
Make = Callable[..., Server]


class TestEveryServer:
    @EACH
    async def test_starts_again_on_the_same_port_after_a_kill(
        self, make: Make, tmp_path: Path
    ) -> None:
        server = make(tmp_path)
        async with running(server) as url:
            first = server.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await wait_until(lambda: not psutil.pid_exists(first))

            await _start_when_the_old_one_is_gone(server)

            assert server.url == url
            assert server.pid != first

    @EACH
    async def test_is_gone_when_stopped_and_may_be_stopped_twice(
        self, make: Make, tmp_path: Path
    ) -> None:
        server = make(tmp_path)
        child = await server.start()

        await server.stop()
        await server.stop()

        assert not psutil.pid_exists(child.pid)

    @EACH
    async def test_says_in_one_line_that_its_pinned_port_is_in_use(
        self, make: Make, tmp_path: Path
    ) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]

            with pytest.raises(StackError, match=f"port {port} is in use") as refusal:
                await make(tmp_path, port=port).start()

        assert "\n" not in str(refusal.value)

    @EACH
    async def test_takes_another_port_when_a_stranger_was_faster(
        self, make: Make, tmp_path: Path
    ) -> None:
        server = make(tmp_path)
        first_choice = server.port
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.1", first_choice))
            stranger.listen()

            async with running(server):
                assert server.port != first_choice

    @EACH
    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with parents")
    async def test_dies_with_a_parent_that_is_killed(self, make: Make, tmp_path: Path) -> None:
        program = (
            "import asyncio, sys; from pathlib import Path\n"
            f"from octarm.cli.stack.servers import {make.__name__} as make\n"
            "async def main():\n"
            f"    child = await make(Path({str(tmp_path)!r})).start()\n"
            "    print(child.pid, flush=True)\n"
            "    await asyncio.sleep(60)\n"
            "asyncio.run(main())\n"
        )
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
        )
        assert parent.stdout is not None
        pid = int(await parent.stdout.readline())

        parent.kill()
        await parent.communicate()

        await wait_until(lambda: not psutil.pid_exists(pid))

    @EACH
    async def test_works_in_a_folder_with_an_awkward_name(self, make: Make, tmp_path: Path) -> None:
        async with running(make(tmp_path / "a, 'b' \"ç\" {d}")) as url:
            assert "127.0.0.1" in url


class TestNats:
    async def test_keeps_its_streams_over_a_restart(self, tmp_path: Path) -> None:
        server = nats_server(tmp_path)
        async with running(server) as url:
            await _publish(url, "kept", b"1")
            await server.stop()
            await server.start()

            assert await _count(url) == 1

    async def test_takes_payloads_of_eight_mebibytes(self, nats_url: str) -> None:
        connection = await nats.connect(nats_url)

        assert connection.max_payload == 8 * 1024 * 1024
        await connection.close()


class TestRedis:
    def test_is_empty_at_the_start_of_a_test(self, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url) as client:
            assert client.dbsize() == 0
            client.set("left", "behind")

    def test_is_empty_at_the_start_of_the_next_test_too(self, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url) as client:
            assert client.dbsize() == 0
            client.set("left", "behind")


class TestPostgres:
    def test_has_pgvector(self, postgres_url: str) -> None:
        with psycopg.connect(postgres_url) as connection:
            connection.execute("CREATE EXTENSION vector")
            row = connection.execute("SELECT '[1,2]'::vector <-> '[1,3]'::vector").fetchone()

        assert row == (1.0,)

    async def test_refuses_a_login_without_the_password(self, tmp_path: Path) -> None:
        server = postgres_server(tmp_path)
        async with running(server):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(host="127.0.0.1", port=server.port, user="octarm")

    async def test_starts_although_its_lock_file_names_a_living_stranger(
        self, tmp_path: Path
    ) -> None:
        server = postgres_server(tmp_path)
        await server.start()
        lock_file = tmp_path / "postgres" / "postmaster.pid"
        left_behind = lock_file.read_text().split("\n")
        await server.stop()
        lock_file.write_text("\n".join([str(os.getpid()), *left_behind[1:]]))

        async with running(server) as url, await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("SELECT 1")

    async def test_refuses_a_cluster_of_another_version(self, tmp_path: Path) -> None:
        server = postgres_server(tmp_path)
        await server.start()
        await server.stop()
        (tmp_path / "postgres" / "PG_VERSION").write_text("9\n")

        with pytest.raises(StackError, match="made by Postgres 9"):
            await server.start()

    async def test_works_where_the_path_is_too_long_for_a_socket(self, tmp_path: Path) -> None:
        deep = tmp_path / ("d" * 100)
        server = postgres_server(deep, port=free_port())

        async with running(server) as url, await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("SELECT 1")


async def _start_when_the_old_one_is_gone(server: Server) -> None:
    """Postgres refuses to start until the last backend of a killed one has noticed."""
    for _ in range(50):
        try:
            await server.start()
        except StackError:
            await asyncio.sleep(0.1)
        else:
            return
    await server.start()


async def _publish(url: str, subject: str, body: bytes) -> None:
    connection = await nats.connect(url)
    stream = connection.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish(subject, body)
    await connection.close()


async def _count(url: str) -> int:
    connection = await nats.connect(url)
    info = await connection.jetstream().stream_info("KEPT")
    await connection.close()
    return info.state.messages

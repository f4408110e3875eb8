"""Real NATS, Redis and Postgres for tests: embedded, or in containers where Docker answers.

`OCTARM_TEST_SERVERS` chooses: `embedded`, `containers`, or `auto` (the default), which takes
containers when a Docker engine answers and already has the images; it never downloads any.
"""

import os
import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis

from octarm.cli.stack.servers import Server, nats_server, postgres_server, redis_server
from tests.support import containers


@cache
def use_containers() -> bool:
    """Whether the fixtures take containers in this run."""
    wanted = os.environ.get("OCTARM_TEST_SERVERS", "auto")
    if wanted not in {"auto", "containers", "embedded"}:
        raise ValueError(f"OCTARM_TEST_SERVERS is {wanted!r}, not auto, containers or embedded")
    return wanted == "containers" or (wanted == "auto" and containers.are_at_hand())


@asynccontextmanager
async def running(server: Server) -> AsyncGenerator[str, None]:
    """The URL of a started server, which is stopped afterwards."""
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


@asynccontextmanager
async def a_nats_server(data: Path) -> AsyncGenerator[str, None]:
    """The URL of a nats-server with JetStream and nothing in it."""
    if use_containers():
        with containers.nats() as url:
            yield url
    else:
        async with running(nats_server(data)) as url:
            yield url


@asynccontextmanager
async def a_redis_server(data: Path) -> AsyncGenerator[str, None]:
    """The URL of a redis-server with nothing in it."""
    if use_containers():
        with containers.redis() as url:
            yield url
    else:
        async with running(redis_server(data)) as url:
            yield url


@asynccontextmanager
async def a_postgres_server(data: Path) -> AsyncGenerator[str, None]:
    """The URL, as a superuser, of a Postgres that has pgvector."""
    if use_containers():
        with containers.postgres() as url:
            yield url
    else:
        async with running(postgres_server(data, durable=False)) as url:
            yield url


@contextmanager
def a_fresh_database(server_url: str) -> Iterator[str]:
    """The URL of an empty database on a running server; it is dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def flush(redis_url: str) -> None:
    """Empty the whole Redis."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()

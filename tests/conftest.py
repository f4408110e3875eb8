"""Fixtures that every test may use."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings

from tests.support.servers import (
    a_fresh_database,
    a_nats_server,
    a_postgres_server,
    a_redis_server,
    flush,
)

# How long an example takes says how busy the machine is.
settings.register_profile("octarm", deadline=None)
settings.load_profile("octarm")

# With several workers these begin: a long file that began last would keep one of them alone.
LONGEST_FILES = (
    "simulation/test_simulation.py",
    "chaos/test_kills.py",
    "e2e/test_hostile_texts.py",
    "integration/test_seeded_bugs.py",
    "chaos/test_drive.py",
    "e2e/test_costs_of_policies.py",
    "chaos/test_upgrade.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let a worker of pytest-xdist begin with the longest files; the order is random else."""
    if hasattr(config, "workerinput"):
        tests = Path(__file__).parent
        ranks = {tests / file: rank for rank, file in enumerate(LONGEST_FILES)}
        items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest_asyncio.fixture
async def nats_url(tmp_path: Path) -> AsyncGenerator[str, None]:
    """A nats-server with JetStream of this test's own."""
    async with a_nats_server(tmp_path / "nats-server") as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_server_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str, None]:
    """The Redis that the tests of this run share."""
    async with a_redis_server(tmp_path_factory.mktemp("redis-server")) as url:
        yield url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """A Redis with nothing in it."""
    flush(redis_server_url)
    return redis_server_url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server_url(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[str, None]:
    """The Postgres that the tests of this run share."""
    async with a_postgres_server(tmp_path_factory.mktemp("postgres-server")) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """An empty database of this test's own, in a Postgres that has pgvector."""
    with a_fresh_database(postgres_server_url) as url:
        yield url

"""The checker itself is checked: it is clean on a right system and finds every seeded bug."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.seeded_bugs import BUGS, Seed
from tests.support.servers import a_fresh_database, a_nats_server
from tests.support.small_world import World, a_world, migrated, work

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(
    postgres_server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[tuple[str, str], None]:
    """One database and one nats-server for all of them."""
    with a_fresh_database(postgres_server_url) as url:
        async with a_nats_server(tmp_path_factory.mktemp("nats")) as nats_url:
            yield migrated(url), nats_url


@pytest_asyncio.fixture(loop_scope="module")
async def world(servers: tuple[str, str], tmp_path: Path) -> AsyncGenerator[World, None]:
    async with a_world(*servers, tmp_path) as world:
        yield world


async def test_a_right_system_is_clean(world: World) -> None:
    await work(world)

    report = await world.check()

    assert report.ok, report
    assert set(report.not_checked) == {"I11"}


@pytest.mark.parametrize(
    ("invariant", "seed"), [pytest.param(*bug, id=f"{bug[1].__name__}-{bug[0]}") for bug in BUGS]
)
async def test_finds_a_system_that(
    invariant: str, seed: Seed, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(world, monkeypatch)
    await work(world)

    report = await world.check()

    assert invariant in report.broken, report


async def test_there_are_at_least_twenty_of_them() -> None:
    assert len(BUGS) >= 20

"""Every peer of the benchmark that is installed does a few tasks (`uv sync --group peers`)."""

import asyncio
from pathlib import Path

import pytest

from bench.peers import harness
from bench.peers.session import servers_in

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
FEW = 20


@pytest.mark.parametrize("name", harness.NAMES)
async def test_every_result_comes_back(name: str, tmp_path: Path) -> None:
    if not harness.is_installed(name):
        pytest.skip("its packages are not installed: uv sync --group peers")
    async with servers_in(tmp_path) as servers:
        settings = await asyncio.to_thread(harness.settings_of, name, servers)

        assert await asyncio.to_thread(harness.rate, name, servers, settings[0], n=FEW) > 0


def test_each_names_what_it_needs() -> None:
    for name in harness.NAMES:
        assert isinstance(harness.is_installed(name), bool)

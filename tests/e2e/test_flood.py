"""A tenant beside the flood of another, under fair shares; `bench.flood` measures the waits."""

import asyncio
import sys
from pathlib import Path
from typing import Final

import psycopg
import pytest

from bench.flood import ENV, LEFT, a_nap
from octarm.cli.stack.supervisor import running_stack
from octarm.sdk import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ARM: Final = [sys.executable, "-m", "bench.nap_arm"]
# Twenty slots take a minute and a half for it.
FLOOD, NAP_S = 2000, (0.9, 1.0)


async def test_a_flood_of_one_tenant_lets_the_tasks_of_another_pass(tmp_path: Path) -> None:
    async with (
        running_stack(tmp_path, extra_arms={"napper": ARM}, env=ENV) as stack,
        Client(stack.urls.nats, "noisy") as noisy,
        Client(stack.urls.nats, "quiet") as quiet,
    ):
        await noisy.submit_many([a_nap(NAP_S) for _ in range(FLOOD)])
        tasks = await quiet.submit_many([a_nap(NAP_S) for _ in range(10)])
        async with asyncio.timeout(120):
            await asyncio.gather(*(task.result() for task in tasks))

        with psycopg.connect(stack.urls.postgres) as ledger:
            (left,) = ledger.execute(LEFT).fetchone() or (0,)
    # In the order of arrival not one of the flood would be left.
    assert left > FLOOD // 4

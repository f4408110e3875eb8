"""Each row of the crash table: the process dies at that line under load, and nothing is lost.

A sample runs by default; `make crashpoints` runs every row.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Final

import pytest
import pytest_asyncio

from octarm.sdk import Client
from octarm.verify.history import HistoryWriter
from tests.chaos.audit import audit
from tests.chaos.load import Load
from tests.chaos.rows import ROWS, Row, Strike
from tests.chaos.stage import LEASE_S, Stage, a_stage

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
]

WITHIN_S: Final = LEASE_S + 10
SAMPLE: Final = frozenset(
    {
        "10-scheduler-dispatch_before_ack",
        "12b-crasher-arm_running",
        "17-orchestrator-results_before_ack",
    }
)
RUN: Final = [row for row in ROWS if os.environ.get("CRASHPOINTS") == "all" or row.name in SAMPLE]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage, None]:
    async with a_stage(tmp_path_factory.mktemp("crashes") / "data") as stage:
        yield stage


@pytest.mark.parametrize("row", RUN, ids=[row.name for row in RUN])
async def test_nothing_is_lost_and_nothing_ends_twice(stage: Stage, row: Row) -> None:
    await stage.all_ready()
    tenant = "default" if row.process == "gateway" else row.name.replace("_", "-")
    urls, path = stage.stack.urls, stage.points.parent / f"{row.name}.jsonl"
    with HistoryWriter(path, process="load") as history:
        async with Client(urls.nats, tenant, sweep_s=0.5) as client:
            load, strike = Load(client, history), Strike()
            await _storm(stage, row, load, strike)
    # What was not accepted yet is the client's to ask again; it does so after ten seconds.
    recovery_s = load.last_end - max(strike.at, load.last_accepted)
    found = await audit(urls, load.ids, histories=[path], effects=stage.sink)
    print(f"\n{row.name:46} recovered in {recovery_s:.1f} s; {found}")

    assert found.breaks == []
    assert recovery_s < WITHIN_S


async def _storm(stage: Stage, row: Row, load: Load, strike: Strike) -> None:
    if row.point is None:
        await row.storm(stage, load, strike)
    else:
        file = stage.arm(row.process, row.point, row.action)
        watching = asyncio.create_task(strike.watch(lambda: not file.exists()))
        await row.storm(stage, load, strike)
        await watching
    await load.all_ended()

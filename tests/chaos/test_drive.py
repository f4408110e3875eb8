"""A short turn of the chaos driver; `make storms` runs every scenario."""

import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.drive import run, tell
from tests.chaos.faults import PLANS, redis_flush
from tests.chaos.memory_faults import MEMORY_PLANS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


async def test_no_task_is_lost_with_its_messages(tmp_path: Path) -> None:
    plan = replace(PLANS["lost-messages"], seconds=5.0, rate=40)

    wind, found = await run(plan, tmp_path / "data", random.Random(1))

    assert found.breaks == []
    assert tell("lost-messages", plan, wind, found)


async def test_no_entry_of_an_episode_is_lost_with_redis(tmp_path: Path) -> None:
    plan = MEMORY_PLANS["episodes-flush-redis"]
    plan = replace(plan, scenario=partial(redis_flush, times=3), seconds=3.0, rate=20)

    wind, found = await run(plan, tmp_path / "data", random.Random(2))

    assert found.breaks == []
    assert found.diary is not None
    assert wind.refused == 0
    tell("episodes-flush-redis", plan, wind, found)

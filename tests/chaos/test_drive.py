"""A short turn of the chaos driver; `make storms` runs every scenario."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.drive import run, tell
from tests.chaos.faults import PLANS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


async def test_no_task_is_lost_with_its_messages(tmp_path: Path) -> None:
    plan = replace(PLANS["lost-messages"], seconds=5.0, rate=40)

    wind, found = await run(plan, tmp_path / "data", random.Random(1))

    assert found.breaks == []
    assert tell("lost-messages", plan, wind, found)

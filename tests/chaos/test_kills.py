"""`kill -9` of services, servers and the arm while 1,000 tasks run: each ends exactly once."""

import asyncio
import sys
from pathlib import Path

import pytest

from octarm.cli.stack.keeper import State
from octarm.cli.stack.supervisor import Stack, running_stack
from octarm.sdk import Client, Task
from octarm.verify.check import Sources, verify
from tests.support.wait import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

TASKS = 1000
NAP_S = 6.0
ALL_ENDED_WITHIN_S = 300
ROOT = Path(__file__).parents[2]
NAPPER = [sys.executable, "-m", "tests.support.napping_arm"]
SERVICES = ("orchestrator", "scheduler", "arm-registry", "memory", "gateway", "napper")
SERVERS = ("nats", "redis", "postgres", "napper", "nats")


@pytest.mark.parametrize("victims", [SERVICES, SERVERS], ids=["services", "servers"])
async def test_a_thousand_tasks_end_exactly_once_whatever_is_killed(
    victims: tuple[str, ...], tmp_path: Path
) -> None:
    env = {"OCTARM_HEARTBEAT_S": "1", "PYTHONPATH": str(ROOT)}
    async with (
        running_stack(tmp_path, extra_arms={"napper": NAPPER}, env=env) as stack,
        Client(stack.urls.nats) as client,
    ):
        tasks = await client.submit_many(
            {
                "goal": "nap",
                "assigned_arm": "napper",
                "context": {"number": number, "nap_s": NAP_S},
                "idempotency_key": f"nap-{number}",
            }
            for number in range(TASKS)
        )

        for victim in victims:
            assert not all(task.fate.ended for task in tasks), f"too late to kill {victim}"
            await _kill_and_await_return(stack, victim)

        numbers = await _numbers(tasks)
        report = await verify(Sources(stack.urls.postgres, stack.urls.nats), wait_s=60)
        assert numbers == list(range(TASKS))
        assert report.ok, report
        assert report.counts["tasks"] == TASKS


async def _kill_and_await_return(stack: Stack, role: str) -> None:
    before = stack.pids()[role]
    keeper = next(keeper for keeper in stack.keepers if keeper.name == role)
    stack.kill(role)
    await wait_until(
        lambda: stack.pids()[role] != before and keeper.state is State.READY, timeout_s=60
    )


async def _numbers(tasks: list[Task]) -> list[object]:
    """What the tasks gave back, in the order of their submission."""
    async with asyncio.timeout(ALL_ENDED_WITHIN_S):
        results = [await task.result() for task in tasks]
    return [result.output["number"] for result in results if isinstance(result.output, dict)]

"""The bus loses what waits on it under load: the ledger tells it all again, and all ends once."""

import asyncio
import sys
from pathlib import Path

import nats
import pytest

from octarm.cli.stack.supervisor import running_stack
from octarm.clients.orchestrator import OrchestratorClient
from octarm.common.bus.topology import provision
from octarm.models.subjects import DISPATCH, READY
from octarm.orchestrator.usecases.recover import TOLD_AGAIN
from octarm.sdk import Client
from octarm.verify.check import Sources, verify
from octarm.verify.history import HistoryWriter
from octarm.verify.invariants import Mode

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

TASKS = 250
ROOT = Path(__file__).parents[2]
NAPPER = [sys.executable, "-m", "tests.support.napping_arm"]


async def test_streams_that_are_made_anew_are_filled_from_the_ledger(tmp_path: Path) -> None:
    env = {
        "OCTARM_HEARTBEAT_S": "1",
        "OCTARM_DISPATCH_LEASE_S": "3",
        "PYTHONPATH": str(ROOT),
    }
    path = tmp_path / "history.jsonl"
    async with (
        running_stack(tmp_path, extra_arms={"napper": NAPPER}, env=env) as stack,
        Client(stack.urls.nats) as client,
    ):
        with HistoryWriter(path, process="client") as history:
            tasks = await client.submit_many(
                {"goal": "nap", "assigned_arm": "napper", "context": {"number": n, "nap_s": 1.0}}
                for n in range(TASKS)
            )
            for task in tasks:
                history.invoke("submit", tenant="default").ok(task_id=task.id)
            await tasks[0].result()

            await _lose(stack.urls.nats)
            # It holds in memory what the stream held.
            stack.kill("scheduler")
            mended = await _recover(stack.urls.nats)
            live = await verify(Sources(stack.urls.postgres, stack.urls.nats), mode=Mode.LIVE)
            async with asyncio.timeout(200):
                for task in tasks:
                    asked = history.invoke("get", tenant="default", task_id=task.id)
                    await task.result()
                    asked.ok(state="completed")

        sources = Sources(stack.urls.postgres, stack.urls.nats, [path])
        report = await verify(sources, wait_s=60)

        assert mended[TOLD_AGAIN] > 0
        assert live.ok, live
        assert report.ok, report


async def _lose(url: str) -> None:
    nc = await nats.connect(url)
    for stream in (READY, DISPATCH):
        await nc.jetstream().delete_stream(stream)
    await nc.close()


async def _recover(url: str) -> dict[str, int]:
    """Do what the guide says."""
    nc = await nats.connect(url)
    await provision(nc.jetstream())
    mended = (await OrchestratorClient(nc, timeout_s=30).reconcile(assume_empty=True)).mended
    await nc.close()
    return mended

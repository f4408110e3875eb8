"""A tree of running tasks is called off from the command line, and every arm stops."""

import asyncio
import json
from typing import Any

import pytest

from octarm.sdk import Arm, Client, Context, TaskContract
from tests.e2e.conftest import Up
from tests.support.wait import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


class Workers:
    """Two arms: one listens when it is told to stop, one never does."""

    def __init__(self) -> None:
        self.working: set[str] = set()
        self.heard: set[str] = set()
        self.cut_off: set[str] = set()
        self.polite = Arm("polite", capabilities={"polite"}, slots=10)
        self.stubborn = Arm("stubborn", capabilities={"stubborn"}, slots=10)
        self.polite.run(self.listen)
        self.stubborn.run(self.ignore)

    async def listen(self, task: TaskContract, ctx: Context) -> None:
        self.working.add(task.task_id)
        await ctx.wait_cancelled()
        self.heard.add(task.task_id)

    async def ignore(self, task: TaskContract, ctx: Context) -> None:
        self.working.add(task.task_id)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cut_off.add(task.task_id)
            raise


async def a_running_tree(client: Client, workers: Workers) -> list[str]:
    """Three levels: a root, two children, two grandchildren each; gives their ids, by level."""

    async def submit(arm: str, parent: str | None, **fields: Any) -> str:
        related: dict[str, Any] = {"parent_task_id": parent} if parent else {}
        return (await client.submit(goal="work", assigned_arm=arm, **related, **fields)).id

    root = await submit("polite", None)
    children = [await submit(arm, root) for arm in ("polite", "stubborn")]
    leaves = [await submit(arm, child) for child in children for arm in ("polite", "stubborn")]
    tree = [root, *children, *leaves]
    await wait_until(lambda: workers.working >= set(tree), timeout_s=30)
    waiting = await submit("polite", children[0], depends_on=[leaves[0]])
    return [*tree, waiting]


async def test_a_tree_of_three_levels_stops_and_says_how(up: Up) -> None:
    workers, stop = Workers(), asyncio.Event()
    serving = [
        asyncio.create_task(arm.serve(nats_url=up.nats, stop=stop, heartbeat_s=1.0))
        for arm in (workers.polite, workers.stubborn)
    ]
    try:
        async with Client(up.nats) as client:
            tree = await a_running_tree(client, workers)

            told = await asyncio.to_thread(
                up.octarm, "tasks", "cancel", tree[0], "--wait", "--reason", "enough", "--json"
            )
            again = await asyncio.to_thread(up.octarm, "tasks", "cancel", tree[0])
            shown = await asyncio.to_thread(up.octarm, "tasks", "get", tree[2])
            views = [await client.get(task_id) for task_id in tree]
    finally:
        stop.set()
        await asyncio.gather(*serving)

    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    ended = {item["task_id"]: item for item in [answer, *answer["subtree"]]}
    assert {item["state"] for item in ended.values()} == {"cancelled"}
    assert ended[tree[-1]]["proof"] == "never_started"
    assert {ended[task_id]["proof"] for task_id in tree[:-1]} == {"stopped_by_arm"}
    assert workers.heard | workers.cut_off == workers.working == set(tree[:-1])
    assert again.stdout.startswith(f"{tree[0]} cancelled, stopped by arm"), again
    assert "stopped by arm" in shown.stdout, shown.stdout
    for view in views[:-1]:
        assert [attempt.outcome for attempt in view.attempts] == ["cancelled"]
        assert view.attempts[0].ended_at is not None

"""N → N+1 → N while tasks come in: every process is replaced, nothing is lost, nothing is doubled.

N is the newest commit with older tables, or `OCTARM_UPGRADE_FROM`. `make upgrade` runs two of each
service, so that both versions of one work side by side, and takes all of them back; in short only
those that share tables and streams.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from octarm.cli.stack.keeper import Backoff, Keeper, State
from octarm.cli.stack.services import (
    Role,
    ServiceRecipe,
    System,
    child_environment,
    replicated,
    run_preparation,
)
from octarm.cli.stack.supervisor import Options, Stack, running
from octarm.sdk import Client
from octarm.verify.history import HistoryWriter
from tests.chaos.audit import audit
from tests.chaos.load import Load
from tests.chaos.versions import NoHistory, Version, checked_out, this, version_before
from tests.support.crashing_arm import SINK
from tests.support.manifests.cluster import workloads
from tests.support.wait import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

REPLICAS = int(os.environ.get("OCTARM_UPGRADE_REPLICAS", "1"))
# What works on the tables and streams that the other version has just written.
SHARING = ("orchestrator", "scheduler")
TWICE = ("orchestrator", "scheduler", "arm-registry", "memory")
REPLACED_WITHIN_S = 120.0
PAUSE_S = 0.5
GRACE_S = min(
    one.pod["terminationGracePeriodSeconds"]
    for one in workloads("dev")
    if one.is_ours and one.doc["kind"] == "Deployment"
)


@pytest.fixture
def before(tmp_path: Path) -> Version:
    """Version N."""
    try:
        revision = os.environ.get("OCTARM_UPGRADE_FROM") or version_before()
        return checked_out(revision, tmp_path / "version-n")
    except NoHistory as error:
        pytest.skip(f"there is no version before this one here: {error}")


async def test_all_is_replaced_there_and_back_while_tasks_come_in(
    before: Version, tmp_path: Path
) -> None:
    assert before.is_run("gateway")
    after, data = this(), tmp_path / "stack"
    sink, history = tmp_path / "runs", tmp_path / "history.jsonl"
    sink.touch()
    env = {"OCTARM_HEARTBEAT_S": "1", "OCTARM_DISPATCH_LEASE_S": "4", SINK: str(sink)}
    old = before.system()
    many = System(old.preparations, replicated(old.services, dict.fromkeys(TWICE, REPLICAS)))
    options = Options(data=data, arms=(before.arm(),), env=env, system=many)
    said: list[str] = []
    async with (
        running(Stack(options, changed=said.append), data) as stack,
        Client(stack.urls.nats) as client,
    ):
        with HistoryWriter(history, process="clients") as writer:
            load, stop = Load(client, writer), asyncio.Event()
            async with asyncio.TaskGroup() as group:
                _begin(group, load, stack, stop)
                await _prepare(after, stack, env)
                back = [it for it in stack.services if REPLICAS > 1 or it.name in SHARING]
                replaced = [(it, after) for it in stack.services] + [(it, before) for it in back]
                for keeper, version in replaced:
                    await _replace(keeper, version)
                stop.set()
            await load.all_ended()
        seen = await audit(stack.urls, load.ids, histories=[history], effects=sink)

        assert [line for line in said if "was ended by" in line or "killed" in line] == []
        assert sum("ended with exit code 0" in line for line in said) == len(replaced)
        assert seen.breaks == [], seen
        assert seen.states == Counter(completed=len(load.tasks))
        await wait_until(lambda: _episodes(stack.urls.postgres) == len(load.tasks), 60)
    print(f"{before.name}: {len(load.tasks)} tasks; {seen}")


def _begin(group: asyncio.TaskGroup, load: Load, stack: Stack, stop: asyncio.Event) -> None:
    """Let tasks come in on every way, each asked for again until it is accepted."""
    ways: list[Callable[[], Awaitable[object]]] = [
        lambda: load.submit(6),
        lambda: load.submit_by_http(stack.urls.gateway, 3),
        lambda: load.submit_by_bus(stack.urls.nats, 3),
    ]

    async def again(way: Callable[[], Awaitable[object]]) -> None:
        while not stop.is_set():
            await way()
            await asyncio.sleep(PAUSE_S)

    for way in ways:
        group.create_task(again(way))


async def _prepare(version: Version, stack: Stack, env: dict[str, str]) -> None:
    """Expand tables and streams while everybody works on them; nothing undoes that."""
    urls = stack.urls
    servers = {
        "OCTARM_NATS_URL": urls.nats,
        "OCTARM_POSTGRES_URL": urls.postgres,
        "OCTARM_REDIS_URL": urls.redis,
    }
    logs = stack._options.data / "logs"
    for role in version.system().preparations:
        await run_preparation(role, env=child_environment(servers, env), logs=logs)


async def _replace(keeper: Keeper, version: Version) -> None:
    """End a process as Kubernetes does, and start it as another version."""
    recipe, pid = keeper.server._recipe, keeper.server.pid
    assert isinstance(recipe, ServiceRecipe)
    assert pid is not None
    known = recipe._role
    recipe._role = version.role(Role(known.name, known.argv[2:]))
    keeper._backoff = Backoff()
    os.kill(pid, signal.SIGTERM)
    # What a pod is given to end in; what it had in hand is counted afterwards.
    await wait_until(lambda: not psutil.pid_exists(pid), GRACE_S)
    await wait_until(
        lambda: keeper.server.pid != pid and keeper.state is State.READY, REPLACED_WITHIN_S
    )
    environment = psutil.Process(keeper.server.pid).environ()
    assert environment["PYTHONPATH"] == version.python_path


def _episodes(postgres_url: str) -> int:
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("select count(*) from memory.episode").fetchone()
    assert row is not None
    return int(row[0])

"""Every message again, after the streams have forgotten its Msg-Id: nothing may come of it."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, Final

import nats
import psycopg
import pytest
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.cli.stack.supervisor import Stack, running_stack
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.topology import STREAMS
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskSubmission
from octarm.models.subjects import EVENTS, LEAD_SHARD, SUBMIT_TASK
from octarm.sdk import Arm, Client, TaskContract
from octarm.verify.check import Sources, verify
from tests.support.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

TASKS: Final = 40
WINDOW_S: Final = 0.1
MSG_ID: Final = "Nats-Msg-Id"
_LEDGER: Final = "select id, state, attempt, event_seq from ledger.task order by id"
_ATTEMPTS: Final = "select task_id, attempt, outcome from ledger.attempt order by 1, 2"
_EPISODES: Final = "select episode_id from memory.episode order by 1"


class Recorder:
    """Keeps whatever is published to the streams, but for what its publisher never repeats."""

    def __init__(self) -> None:
        self.messages: list[Msg] = []

    async def heard(self, msg: Msg) -> None:
        leads = msg.subject.startswith(LEAD_SHARD.matching().removesuffix("*"))
        if msg.headers and MSG_ID in msg.headers and not leads:
            self.messages.append(msg)

    async def repeat(self, nc: NATS) -> int:
        """Publish everything again, as it was; gives how many messages streams took for new."""
        taken = 0
        for msg in list(self.messages):
            ack = await nc.jetstream().publish(
                msg.subject, msg.data, headers=dict(msg.headers or {})
            )
            taken += not ack.duplicate
        return taken


async def _rows(url: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return [
            await (await connection.execute(statement)).fetchall()
            for statement in (_LEDGER, _ATTEMPTS, _EPISODES)
        ]


async def _all_ended(url: str) -> bool:
    """Tell whether all tasks, which an arm may have run before it told of them, are told of."""
    tasks, attempts, episodes = await _rows(url)
    states = [state for _, state, *_ in tasks]
    return states == ["completed"] * TASKS and len(attempts) == len(episodes) == TASKS


async def _is_worked_off(nc: NATS) -> bool:
    """Tell whether no consumer has anything before it."""
    js = nc.jetstream()
    for spec in STREAMS:
        for consumer in await js.consumers_info(spec.name) if spec.name != EVENTS else ():
            if LEAD_SHARD.matching() in (consumer.config.filter_subjects or ()):
                continue
            if consumer.num_pending or consumer.num_ack_pending:
                return False
    return True


async def _forget_soon(nc: NATS) -> None:
    js = nc.jetstream()
    for spec in STREAMS:
        config = (await js.stream_info(spec.name)).config
        config.duplicate_window = WINDOW_S
        await js.update_stream(config)


async def _run(stack: Stack, nc: NATS, ran: Counter[str]) -> list[str]:
    """Run tasks that come by both ways in; gives their ids."""
    publisher = Publisher(nc)
    async with Client(stack.urls.nats) as client:
        wanted = {"goal": "count", "required_capabilities": ["count"]}
        tasks = await client.submit_many([wanted] * (TASKS // 2))
        submission = TaskSubmission.model_validate(wanted)
        for number in range(TASKS // 2):
            keyed = submission.model_copy(update={"idempotency_key": f"published-{number}"})
            body = SubmitTask(submission=keyed).model_dump_json(exclude_none=True).encode()
            await publisher.publish(
                Outgoing(SUBMIT_TASK.at(tenant="default"), body, f"published-{number}")
            )
        async for _, result in client.as_completed(tasks):
            assert not isinstance(result, Exception)
        await wait_until(lambda: len(ran) == TASKS, timeout_s=30)
    await publisher.close()
    return sorted(ran)


async def test_every_message_again_after_the_window_changes_nothing(tmp_path: Path) -> None:
    arm, ran = Arm("counter", capabilities={"count"}), Counter[str]()

    @arm.run
    async def count(task: TaskContract) -> None:
        ran[task.task_id] += 1

    stop, recorder = asyncio.Event(), Recorder()
    async with running_stack(tmp_path) as stack:
        nc = await nats.connect(stack.urls.nats)
        await _forget_soon(nc)
        await nc.subscribe("octarm.v1.>", cb=recorder.heard)
        serving = asyncio.create_task(arm.serve(nats_url=stack.urls.nats, stop=stop, drain_s=5))
        ids = await _run(stack, nc, ran)
        await wait_until(lambda: _all_ended(stack.urls.postgres))
        await wait_until(lambda: _is_worked_off(nc))
        before = await _rows(stack.urls.postgres)

        await asyncio.sleep(10 * WINDOW_S)  # The streams forget what they have seen.
        taken = await recorder.repeat(nc)
        await wait_until(lambda: _is_worked_off(nc), timeout_s=60)

        assert taken > TASKS
        assert ran == Counter(ids)
        assert await _rows(stack.urls.postgres) == before
        report = await verify(Sources(stack.urls.postgres, stack.urls.nats), wait_s=10)
        assert report.ok, str(report)
        stop.set()
        await serving
        await nc.close()

"""A limit by key holds across a take-over, on a real nats-server."""

from datetime import UTC, datetime

import pytest
from nats.aio.msg import Msg

from octarm.common.bus.requests import ok
from octarm.models.ids import new_id
from octarm.models.policies import DecisionRecord, DecisionsFound, FindDecisions
from octarm.models.subjects import FIND_DECISIONS
from tests.support.scheduler_stage import a_bus, a_scheduler

pytestmark = pytest.mark.integration
ONE_A_REPOSITORY = {"name": "repo", "key": "task.labels.repo", "concurrency": 1}


async def test_what_an_earlier_leader_has_placed_keeps_its_room(nats_url: str) -> None:
    running = new_id("tsk")
    record = DecisionRecord(
        task_id=running,
        attempt=1,
        tenant="default",
        tier="interactive",
        priority=5,
        labels={"repo": "red"},
        queued_at=datetime.now(UTC).timestamp(),
        arm_id="one",
    )

    async def answer(msg: Msg) -> None:
        assert FindDecisions.model_validate_json(msg.data).under_way
        await msg.respond(ok(DecisionsFound(decisions=[record]).model_dump_json().encode()))

    async with a_bus(nats_url) as bus:
        await bus.nc.subscribe(FIND_DECISIONS.at(), cb=answer)
        await bus.arm("one", slots=4)
        async with a_scheduler(bus, limits=[ONE_A_REPOSITORY]):
            await bus.beat("one", slots=4, running=[(running, 1)])
            red, blue = await bus.ready({"labels": {"repo": "red"}}, {"labels": {"repo": "blue"}})

            first = await bus.placed(1)
            await bus.result(running, "one")
            both = await bus.placed(2)

    assert first == [blue]
    assert both == [blue, red]

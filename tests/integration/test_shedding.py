"""The load-shedding switch on a real Postgres: durable, and the same for every orchestrator."""

import asyncio

import msgspec
import pytest

from octarm.cli.cluster import examine_cluster
from octarm.cli.stack.doctor import Verdict
from octarm.common.clock import SystemClock
from octarm.ledger.domain.changes import AcceptAnswer, Known
from octarm.ledger.storage.shedding import PostgresShedding
from octarm.models import hot
from octarm.models.errors import Backpressure
from octarm.models.events import SheddingEvent
from octarm.models.shedding import ShedMode, Switched, SwitchShedding
from octarm.orchestrator.domain.admission import Gate
from octarm.orchestrator.usecases.accept import AcceptTasks, Submitted
from octarm.orchestrator.usecases.admission import FollowSwitches
from tests.support.ledger import Ledger
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

GOAL = '{"goal":"x"}'
BATCH = '{"goal":"x","tier":"batch"}'
KEYED = '{"goal":"x","idempotency_key":"k"}'


class Door:
    """One orchestrator's way in."""

    def __init__(self, ledger: Ledger) -> None:
        self.gate = Gate()
        self.follow = FollowSwitches(PostgresShedding(ledger.pool), self.gate, ledger.relay.hand_in)
        self._accept = AcceptTasks(ledger.intake, ledger.relay, SystemClock(), 1, gate=self.gate)

    async def accept(
        self, *bodies: str, tenant: str = "acme", whole: bool = False
    ) -> list[AcceptAnswer]:
        items = [hot.SubmitTask(msgspec.Raw(body.encode())) for body in bodies]
        return await self._accept([Submitted(tenant, item) for item in items], whole=whole)


def a_switch(mode: ShedMode, **fields: object) -> SwitchShedding:
    return SwitchShedding.model_validate({"mode": mode, "by": "ops", **fields})


def kinds(answers: list[AcceptAnswer]) -> list[type]:
    return [type(answer) for answer in answers]


async def test_another_orchestrator_follows_and_one_that_starts_finds_it(ledger: Ledger) -> None:
    one, other, stop = Door(ledger), Door(ledger), asyncio.Event()
    following = asyncio.create_task(other.follow.run(stop))

    await one.follow.put(a_switch(ShedMode.ALL_NEW, reason="the provider is away"))
    await wait_until(lambda: other.gate.sheds.all_new)
    restarted = Door(ledger)
    await restarted.follow.once()

    for door in (one, other, restarted):
        (answer,) = await door.accept(GOAL)
        assert isinstance(answer, Backpressure)
        assert (answer.code, "the provider is away" in answer.message) == ("LOAD_SHED", True)
        assert door.gate.takes_nothing
    await one.follow.put(a_switch(ShedMode.OPEN))
    await wait_until(lambda: not other.gate.sheds)
    assert kinds(await other.accept(GOAL)) == [Known]
    stop.set()
    await following


async def test_what_is_shed_is_told_from_what_is_not_in_one_commit(ledger: Ledger) -> None:
    door = Door(ledger)
    (first, parent) = await door.accept(KEYED, GOAL)
    assert isinstance(first, Known)
    assert isinstance(parent, Known)
    child = f'{{"goal":"x","tier":"batch","parent_task_id":"{parent.task_id}"}}'

    await door.follow.put(a_switch(ShedMode.BATCH))
    mixed = await door.accept(BATCH, GOAL, child, '{"goal":""}')
    await door.follow.put(a_switch(ShedMode.ALL_NEW, tenant="acme"))
    again = await door.accept(KEYED, GOAL)

    assert kinds(mixed[:3]) == [Backpressure, Known, Known]
    assert not isinstance(mixed[3], Known | Backpressure)
    assert again[0] == Known(first.task_id, first.state, created=False)
    assert kinds(again[1:]) == [Backpressure]
    ((number,),) = await ledger.execute("select count(*) from ledger.task")
    assert number == 4


async def test_a_plan_is_shed_whole(ledger: Ledger) -> None:
    door = Door(ledger)
    await door.follow.put(a_switch(ShedMode.BATCH))

    answers = await door.accept(GOAL, BATCH, whole=True)

    assert kinds(answers) == [Backpressure, Backpressure]


async def test_it_opens_by_itself_and_who_put_it_how_stays(ledger: Ledger) -> None:
    switches = PostgresShedding(ledger.pool)
    await switches.put(a_switch(ShedMode.BATCH, seconds=600, reason="for a while"))
    await switches.put(a_switch(ShedMode.ALL_NEW, tenant="acme", by="ann"))

    found = await switches.found()
    await ledger.execute("update ledger.shedding set until = now() where tenant is null")
    later = await switches.found()

    assert [(it.tenant, it.mode, it.by) for it in found.now] == [
        (None, ShedMode.BATCH, "ops"),
        ("acme", ShedMode.ALL_NEW, "ann"),
    ]
    assert _lasts(found.now[0])
    assert [it.tenant for it in later.now] == ["acme"]
    assert [it.by for it in later.past] == ["ann", "ops"]


async def test_that_it_was_put_is_told_once_by_the_outbox(ledger: Ledger) -> None:
    door = Door(ledger)
    await door.follow.put(a_switch(ShedMode.BATCH, tenant="acme", reason="a flood"))

    (entry,) = await ledger.outbox.older_than(0)

    (told,) = entry.messages
    event = SheddingEvent.model_validate_json(told.payload)
    assert told.subject == "octarm.v1.evt.shedding.switched"
    assert told.msg_id == event.event_id
    assert (event.switch.tenant, event.switch.mode) == ("acme", ShedMode.BATCH)
    assert (event.switch.by, event.switch.reason) == ("ops", "a flood")


async def test_the_doctor_tells_what_is_shed(ledger: Ledger, postgres_url: str) -> None:
    switches = PostgresShedding(ledger.pool)
    before = await _shedding(postgres_url)
    await switches.put(a_switch(ShedMode.BATCH, tenant="acme", reason="a\nflood"))

    verdict, found = await _shedding(postgres_url)

    assert before == (Verdict.OK, "open")
    assert verdict is Verdict.WARNING
    assert "shed-batch for acme, put by ops" in found
    assert found.endswith(": a flood")


async def _shedding(url: str) -> tuple[Verdict, str]:
    checks = await examine_cluster(postgres_url=url, nats_url="", shards=1)
    (check,) = [check for check in checks if check.name == "load shedding"]
    return check.verdict, check.found


def _lasts(switched: Switched) -> bool:
    return switched.until is not None and (switched.until - switched.at).total_seconds() == 600

"""Dead letters sent back to an orchestrator: however often, each task is one and ends once."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest
from nats.aio.client import Client as NATS

from octarm.common.bus import topology
from octarm.common.bus.connection import connect
from octarm.common.bus.dead_letter_box import DeadLetterBox, Handled, Wanted
from octarm.common.bus.dead_letters import DeadLetters
from octarm.common.bus.publisher import Publisher
from octarm.common.bus.topology import ORCHESTRATOR_INTAKE, ORCHESTRATOR_RESULTS
from octarm.models.ids import derived_id
from octarm.models.subjects import ENDED, INTAKE, RESULT, RESULTS, SUBMIT_TASK
from octarm.orchestrator.__main__ import main
from octarm.orchestrator.settings import Settings
from tests.support.ledger import Ledger, a_ledger, a_new_task, a_result
from tests.support.letters import a_delivery
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

ROUND = 500
LETTERS = 10_000
SUBMISSIONS = 300


@dataclass
class Stage:
    """An orchestrator on a real ledger and bus whose streams hardly remember a Msg-Id."""

    nc: NATS
    publisher: Publisher
    box: DeadLetterBox
    ledger: Ledger

    async def bury(self, origin: str, subject: str, bodies: Sequence[bytes]) -> None:
        dead = DeadLetters(self.publisher, origin)
        for start in range(0, len(bodies), ROUND):
            some = enumerate(bodies[start : start + ROUND], start + 1)
            await asyncio.gather(
                *(dead.bury(a_delivery(b, subject=subject, seq=n), "six times") for n, b in some)
            )

    async def redrive_all(self) -> Counter[str]:
        until, outcomes = await self.box.last_seq(), Counter[str]()
        async with aclosing(self.box.find(Wanted(), after=0, until=until)) as found:
            seqs = [stored.seq async for stored in found]
        for start in range(0, len(seqs), ROUND):
            handled = await self.box.redrive(seqs[start : start + ROUND])
            outcomes.update(one.outcome for one in handled)
        return outcomes

    async def left(self, stream: str) -> int:
        return (await self.nc.jetstream().stream_info(stream)).state.messages

    async def count(self, query: str) -> int:
        ((number,),) = await self.ledger.execute(f"select count(*) from ledger.{query}")
        return int(number)

    async def endings(self) -> Counter[str]:
        """How often the end of each task was told."""
        told: Counter[str] = Counter()
        consumer = await self.nc.jetstream().pull_subscribe_bind(
            topology.MEMORY_EPISODES, stream=ENDED
        )
        for _ in range(await self.left(ENDED) // 50 + 1):
            for message in await consumer.fetch(50, 2):
                told.update(event["task_id"] for event in json.loads(message.data)["events"])
        await consumer.unsubscribe()
        return told


@pytest.fixture
async def stage(nats_url: str, postgres_url: str) -> AsyncGenerator[Stage, None]:
    nc = await connect(nats_url, name="test")
    js = nc.jetstream()
    await topology.provision(js)
    for spec in topology.STREAMS:
        if spec.name in (INTAKE, RESULTS):
            config = topology.stream_config(spec, replicas=1)
            config.duplicate_window = 0.1
            await js.update_stream(config)
    publisher = Publisher(nc)
    async with a_ledger(postgres_url) as ledger:
        yield Stage(nc, publisher, DeadLetterBox(nc, publisher), ledger)
        await publisher.close()
        await nc.close()


@asynccontextmanager
async def an_orchestrator(nats_url: str, postgres_url: str) -> AsyncGenerator[None, None]:
    stop = asyncio.Event()
    settings = Settings(nats_url=nats_url, postgres_url=postgres_url, http_port=0)
    running = asyncio.create_task(main(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def _redriven_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, stream: str, *, operators: int = 1
) -> None:
    """Redrive everything, killed each time before a letter is taken out; then to the end."""

    async def dies(_: object, seq: int) -> Handled:
        return Handled(seq, "failed", "killed here")

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetterBox, "_take_out", dies)
        first = await stage.redrive_all()
    await wait_until(lambda: _is_empty(stage, stream), timeout_s=30)
    await asyncio.sleep(0.2)  # The stream forgets what it has seen.
    racing = await asyncio.gather(*(stage.redrive_all() for _ in range(operators)))
    await wait_until(lambda: _is_empty(stage, stream), timeout_s=30)
    assert set(first) == {"failed"}
    assert sum(one["done"] for one in racing) == first["failed"]


async def _is_empty(stage: Stage, stream: str) -> bool:
    return await stage.left(stream) == 0


@pytest.mark.timeout(600)
async def test_ten_thousand_results_redriven_again_and_again_end_each_task_once(
    stage: Stage, nats_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [a_new_task() for _ in range(LETTERS)]
    for start in range(0, LETTERS, ROUND):
        await stage.ledger.intake.accept(tasks[start : start + ROUND], lambda _: [])
    results = [a_result(task.task_id) for task in tasks]
    await stage.bury(ORCHESTRATOR_RESULTS, RESULT.at(arm_id="one"), results)

    async with an_orchestrator(nats_url, postgres_url):
        await _redriven_twice(stage, monkeypatch, RESULTS)

    assert await stage.count("task where state = 'completed'") == LETTERS
    assert await stage.count("result") == LETTERS
    assert await stage.count("late_result") == 0
    assert await stage.endings() == Counter(task.task_id for task in tasks)


async def test_a_submission_redriven_is_the_task_that_it_was_before(
    stage: Stage, nats_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = SUBMIT_TASK.at(tenant="acme")
    keyless = [json.dumps({"submission": {"goal": f"goal {n}"}}).encode() for n in range(200)]
    keyed = [
        json.dumps({"submission": {"goal": "x", "idempotency_key": f"k-{n}"}}).encode()
        for n in range(SUBMISSIONS - len(keyless))
    ]
    await stage.bury(ORCHESTRATOR_INTAKE, subject, [*keyless, *keyed])

    async with an_orchestrator(nats_url, postgres_url):
        await _redriven_twice(stage, monkeypatch, INTAKE, operators=2)

    assert await stage.count("task") == SUBMISSIONS
    ids = await stage.ledger.execute("select id from ledger.task where idem_key is null")
    places = [(f"{subject}/{seq}", a_delivery().published_at) for seq in range(1, 201)]
    assert {task_id for (task_id,) in ids} == {
        derived_id("tsk", place, unix_ms=int(at.timestamp() * 1000)) for place, at in places
    }

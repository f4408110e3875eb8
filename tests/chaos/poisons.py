"""What the chaos driver does with bad work: bytes that mean nothing, tasks that harm their arm."""

import asyncio
from collections import Counter
from typing import Any, Final

import psycopg
from nats.js import JetStreamContext

from octarm.clients.arm_registry import ArmRegistryClient
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.models import subjects as s
from tests.chaos.faults import Plan, Storm, jetstream
from tests.support.crashing_arm import NAME
from tests.support.wait import wait_until

ARM: Final = "poisoned"
SLOTS: Final = 10
BYTES: Final = b"\xff\xfe{ this is no message"
# Where they are read, and by how many: of a run command both arm and ledger want to know.
STREAMED: Final = {
    s.SUBMIT_TASK.at(tenant="default"): 1,
    s.PLACE_TASKS.at(shard=0): 1,
    s.RUN_TASKS.at(arm_id=NAME): 2,
    s.RESULT.at(arm_id=NAME): 1,
    s.RESULTS_REPORTED.at(arm_id=NAME): 1,
    s.ATTEMPTS_UPDATED.at(arm_id=NAME): 1,
    s.SPEND_REPORTED.at(arm_id=NAME): 1,
    s.TASKS_ENDED.template: 1,
    s.KEEP_WRITES.template: 1,
}
UNKEPT: Final = (
    s.HEARTBEAT.at(arm_id=NAME, instance_id="i-poison"),
    s.CONTROL.at(arm_id=NAME),
    s.CHUNK.at(task_id="tsk_poison"),
)
RETRIES: Final = 1
# A process that spins is killed after half a minute.
HARMS: Final = ("kill", "hoard", "spin", "hang")
BEHIND: Final = 50
ENDED_WITHIN_S: Final = 240.0
_LETTERS: Final = s.DEAD_LETTER.format(origin="*")


async def poison(storm: Storm) -> None:
    """Bytes that mean nothing everywhere; then tasks that kill, fill, block or hang their arm."""
    async with jetstream(storm) as js:
        async with storm.wind.fault("bytes that mean nothing on every subject"):
            await _scatter(js)
        await wait_until(lambda: _all_buried(js), 60)
        # What is buried twice would come again within half a minute.
        await asyncio.sleep(storm.seconds)
        letters = await _letters(js)
        found, wanted = sum(letters.values()), sum(STREAMED.values())
        storm.wind.promise("dead letters", f"{found} of {wanted}", found == wanted)
        for harm in HARMS:
            await _one_that_harms(storm, harm)
        registry = ArmRegistryClient(js._nc)
        storm.wind.promise("the poisoned arm", await _status(registry), True)


async def _scatter(js: JetStreamContext) -> None:
    publisher = Publisher(js._nc)
    for subject in STREAMED:
        await publisher.publish(Outgoing(subject, BYTES, f"poison-{subject}"))
    await publisher.close()
    for subject in UNKEPT:
        await js._nc.publish(subject, BYTES)


async def _letters(js: JetStreamContext) -> Counter[str]:
    info = await js.stream_info(s.DLQ, subjects_filter=_LETTERS)
    return Counter(info.state.subjects or {})


async def _all_buried(js: JetStreamContext) -> bool:
    return sum((await _letters(js)).values()) >= sum(STREAMED.values())


async def _one_that_harms(storm: Storm, harm: str) -> None:
    """Hand in a task that harms, and fifty behind it that do not."""
    load = storm.wind.load
    async with storm.wind.fault(f"a task that makes its arm {harm}"):
        (bad,) = await load.submit(
            1,
            context={"poison": harm, "fails": 0},
            assigned_arm=ARM,
            timeout_seconds=5,
            budget={"max_retries": RETRIES},
        )
        behind = await load.submit(
            BEHIND, context={"nap_s": 0.5}, assigned_arm=ARM, budget={"max_retries": 9}
        )
    ids = {bad.id, *(task.id for task in behind)}
    await wait_until(lambda: ids <= load.ended.keys(), ENDED_WITHIN_S)
    rows = await asyncio.to_thread(_read, storm.stage.stack.urls.postgres, sorted(ids))
    state, attempts = rows.pop(bad.id)
    others = Counter(state for state, _ in rows.values())
    kept = state == "failed" and attempts <= 1 + RETRIES and others == {"completed": BEHIND}
    figure = f"{state} after {attempts} attempts; behind it {dict(others)}"
    storm.wind.promise(f"a task to {harm}", figure, kept)


def _read(url: str, ids: list[str]) -> dict[str, tuple[str, int]]:
    wanted = "select id, state, attempt from ledger.task where id = any(%s)"
    with psycopg.connect(url) as connection:
        rows: list[Any] = connection.execute(wanted, [ids]).fetchall()
    return {task_id: (state, attempt) for task_id, state, attempt in rows}


async def _status(registry: ArmRegistryClient) -> str:
    """Wait until it lives, though it fails a lot."""
    status = "offline"

    async def lives() -> bool:
        nonlocal status
        status = (await registry.get(ARM)).status
        return status in ("online", "degraded")

    await wait_until(lives, 90)
    return status


POISON_PLANS: Final[dict[str, Plan]] = {
    "poison": Plan(
        scenario=poison,
        rate=50,
        arms={ARM: {"CHAOS_ARM": ARM, "CHAOS_SLOTS": str(SLOTS)}},
        look_after=True,
    ),
}

"""Cycles in which a script decides: what it says is done, what it breaks is not."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from octarm.common.bus.publisher import Fence
from octarm.common.testing.fakes import RecordingPublisher
from octarm.models.errors import Unavailable
from octarm.models.hot import RunTasks
from octarm.models.policies import DifferencesFound
from octarm.models.queries import WhyWaiting
from octarm.models.rejections import Rejection
from octarm.policies.actions import Checked, check
from octarm.policies.builtin import DEFAULT, fair_share
from octarm.policies.context import Context
from octarm.policies.outcomes import PolicyFailed
from octarm.policies.sandbox.host import Verdict
from octarm.scheduler.usecases.answer import ExplainWait
from octarm.scheduler.usecases.decide import NoScripts
from octarm.scheduler.usecases.desk import STALLED_AFTER_S
from octarm.scheduler.usecases.dispatch import Dispatch
from tests.support.scheduling import (
    NOON_S,
    NoLedger,
    a_desk,
    a_placer,
    facts,
    ready,
    task_id,
    waiting,
)
from tests.support.wait import wait_until

Answer = Callable[[Context], list[dict[str, Any]] | None]
FIRST, SECOND = task_id(1), task_id(2)


def place(task: str, arm: str = "one", **more: Any) -> dict[str, Any]:
    return {"action": "dispatch", "task": task, "arm": arm, "reason": "so it wants", **more}


class FakeScripts:
    """Answers what the test says; None is a failure."""

    def __init__(self, answer: Answer) -> None:
        self.deciding, self.watching = True, False
        self.answer = answer
        self.shown: list[Checked] = []
        self.meanwhile: Callable[[], object] = lambda: None

    async def decide(self, seen: Context) -> Verdict:
        given = self.answer(seen)
        await asyncio.sleep(0)
        self.meanwhile()
        if given is None:
            return Verdict("abc", failed=PolicyFailed("timeout", "too long"))
        return Verdict("abc", check(given, seen))

    def show(self, seen: Context, decided: Checked) -> None:
        self.shown.append(decided)

    def name(self, version: str) -> str:
        return f"mine@{version}"

    @property
    def active(self) -> str:
        return self.name("now")

    def differences(self) -> DifferencesFound:
        return DifferencesFound()


class Stage:
    """A shard with two arms of one slot each, two tasks, and a script."""

    def __init__(self, answer: Answer) -> None:
        self.scripts = FakeScripts(answer)
        self.desk = a_desk(facts("one"), facts("two"))
        self.bus = RecordingPublisher()
        self.ledger = NoLedger()
        dispatch = Dispatch(self.desk, self.bus, Fence("x", 1))
        self.placer = a_placer(self.desk, dispatch, self.scripts, self.ledger)
        for number in (1, 2):
            self.desk.queue.add(waiting(ready(number)), now=NOON_S)

    def sent(self) -> list[tuple[str, str, str]]:
        bundles = [msgspec.json.decode(it.payload, type=RunTasks) for it in self.bus.published]
        return [(it.policy, it.arm_id, task.task_id) for it in bundles for task in it.tasks]


async def test_what_a_script_places_names_it() -> None:
    stage = Stage(lambda _: [place(SECOND, "two", score=0.5)])

    assert await stage.placer.cycle() == 1

    assert stage.sent() == [("mine@abc", "two", SECOND)]
    assert stage.desk.queue.policy is fair_share.POLICY
    assert stage.desk.fleet.pool("two").free == 0


async def test_what_it_breaks_is_placed_by_the_platform() -> None:
    stage = Stage(lambda _: None)

    assert await stage.placer.cycle() == 2

    assert {it[0] for it in stage.sent()} == {"fair_share"}


async def test_the_platform_decides_again_when_nothing_is_deployed() -> None:
    stage = Stage(lambda _: [])
    await stage.placer.cycle()
    stage.scripts.deciding = False

    assert await stage.placer.cycle() == 2

    assert stage.desk.queue.policy is DEFAULT
    assert {it[0] for it in stage.sent()} == {"priority"}


async def test_what_changed_while_it_thought_is_not_placed() -> None:
    stage = Stage(lambda _: [place(FIRST, "one"), place(SECOND, "two")])

    def change() -> None:
        stage.desk.queue.call_off(FIRST, 1)
        stage.desk.arm_unlearned("two")

    stage.scripts.meanwhile = change

    assert await stage.placer.cycle() == 0

    assert not stage.sent()
    assert len(stage.desk.queue) == 1


async def test_nothing_is_placed_by_one_who_leads_no_more() -> None:
    stage = Stage(lambda _: [place(FIRST)])
    stage.scripts.meanwhile = lambda: setattr(stage.desk, "may_place", lambda: False)

    assert await stage.placer.cycle() == 0

    assert not stage.sent()


def reject(task: str, reason: str = "never") -> dict[str, Any]:
    return {"action": "reject", "task": task, "reason": reason}


async def test_a_rejected_task_is_ended_and_its_message_settled() -> None:
    stage = Stage(lambda _: [reject(FIRST)])

    assert await stage.placer.cycle() == 1
    await wait_until(lambda: stage.ledger.rejected)

    assert stage.ledger.rejected == [
        Rejection(
            task_id=FIRST,
            attempt=1,
            code="POLICY_REJECTED",
            reason="the policy mine@abc refuses it: never",
        )
    ]
    assert [task.task_id for task in stage.desk.queue] == [SECOND]


async def test_what_one_cycle_rejects_travels_together() -> None:
    stage = Stage(lambda _: [reject(FIRST), reject(SECOND, "")])

    await stage.placer.cycle()
    await wait_until(lambda: len(stage.ledger.rejected) == 2)

    assert stage.ledger.requests == 1
    assert stage.ledger.rejected[1].reason == "the policy mine@abc refuses it"


async def test_what_could_not_be_rejected_waits_again() -> None:
    stage = Stage(lambda _: [reject(FIRST)])
    stage.ledger.failure = Unavailable("gone")

    await stage.placer.cycle()
    await wait_until(lambda: len(stage.desk.queue) == 2)


async def test_what_ended_while_the_ledger_was_asked_does_not_wait_again() -> None:
    stage = Stage(lambda _: [reject(FIRST), reject(SECOND)])
    stage.ledger.failure = Unavailable("gone")

    await stage.placer.cycle()
    stage.desk.queue.call_off(FIRST, 1)
    await wait_until(lambda: len(stage.desk.queue) == 1)

    assert [task.task_id for task in stage.desk.queue] == [SECOND]


async def test_says_why_a_task_waits() -> None:
    stage = Stage(
        lambda _: [
            {"action": "wait", "task": FIRST, "reason": "it is early", "retry_after_ms": 5},
            place(SECOND, "three"),
        ]
    )
    stopping = asyncio.Event()

    assert await stage.placer.cycle() == 0

    explain = ExplainWait(stage.desk)
    first, second = [await explain(WhyWaiting(task_id=it)) for it in (FIRST, SECOND)]
    assert first.reason.endswith("mine@abc lets it wait: it is early")
    assert second.reason.endswith("dropped, as no arm three")
    running = asyncio.create_task(stage.placer.run(stopping))
    stage.scripts.answer = lambda _: [place(FIRST)]
    await wait_until(lambda: stage.sent())
    stopping.set()
    stage.desk.poke()
    await running


async def test_work_that_a_script_lets_wait_is_no_illness() -> None:
    stage = Stage(lambda _: [])
    stage.desk.poke()
    stage.desk.work.clear()
    await stage.placer.cycle()
    stage.desk.clock.advance(2 * STALLED_AFTER_S)  # type: ignore[attr-defined]

    assert stage.desk.healthy()


@pytest.mark.parametrize("deciding", [True, False])
async def test_a_shadow_sees_what_was_decided(deciding: bool) -> None:
    stage = Stage(lambda _: [place(FIRST)])
    stage.scripts.deciding, stage.scripts.watching = deciding, True

    await stage.placer.cycle()

    (shown,) = stage.scripts.shown
    assert len(shown.kept) == (1 if deciding else 2)


async def test_an_empty_window_asks_nobody() -> None:
    stage = Stage(lambda _: [place(FIRST)])
    for number in (1, 2):
        stage.desk.queue.call_off(task_id(number), 1)
    stage.scripts.answer = lambda _: pytest.fail("asked")

    assert await stage.placer.cycle() == 0
    assert stage.desk.policy == "mine@now"
    stage.scripts.deciding, stage.scripts.watching = False, True
    await stage.placer.cycle()
    assert stage.desk.policy == DEFAULT.name
    assert NoScripts().differences() == DifferencesFound()

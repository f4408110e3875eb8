"""Quotas of tenants on a real Postgres: held, not rejected; never more than allowed."""

import asyncio
from typing import Any

import msgspec
import pytest

from octarm.common.clock import SystemClock
from octarm.ledger.domain.changes import Known
from octarm.ledger.domain.tenants import TenantRules, Tenants
from octarm.ledger.storage.intake import PostgresIntake
from octarm.ledger.storage.quotas import PostgresQuotas
from octarm.ledger.storage.reading import PostgresTasks
from octarm.models import hot
from octarm.models.errors import Backpressure, OctarmError
from octarm.orchestrator.usecases.accept import AcceptTasks, Submitted
from octarm.orchestrator.usecases.announce import Announcement
from octarm.orchestrator.usecases.endings import Reconcile
from octarm.orchestrator.usecases.quotas import ReleaseHeld
from octarm.orchestrator.usecases.record import RecordNews
from tests.support.ledger import Ledger, a_failure, a_result, news, placed
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


class Orchestrator:
    """The part of one process that has to do with quotas."""

    def __init__(self, ledger: Ledger, rules: dict[str, dict[str, int]]) -> None:
        self.ledger = ledger
        self.tenants = Tenants({name: TenantRules(**given) for name, given in rules.items()})
        self.quotas = PostgresQuotas(ledger.pool, self.tenants)
        self.reconcile = Reconcile(ledger.endings, ledger.relay, _revoke, 1)
        self.release = ReleaseHeld(
            self.quotas,
            self.tenants,
            ledger.relay,
            ledger.relatives.tells.woken,
            clock=SystemClock(),
        )
        self._accept = AcceptTasks(
            PostgresIntake(ledger.pool, ledger.relatives, self.quotas),
            ledger.relay,
            SystemClock(),
            1,
            tenants=self.tenants,
            nudge=self.release.nudge,
        )

    async def accept(self, *submissions: str, tenant: str = "acme") -> list[Known | OctarmError]:
        group = [
            Submitted(tenant, hot.SubmitTask(msgspec.Raw(body.encode()))) for body in submissions
        ]
        return await self._accept(group)

    async def ids(self, *submissions: str, tenant: str = "acme") -> list[str]:
        answers = await self.accept(*submissions, tenant=tenant)
        return [answer.task_id for answer in answers if isinstance(answer, Known)]

    async def view(self, task_id: str, tenant: str = "acme") -> Any:
        return await PostgresTasks(self.ledger.pool, self.tenants).get(tenant, task_id)


async def _revoke(_: Any) -> None:
    return None


async def in_state(ledger: Ledger, state: str, tenant: str = "acme") -> list[str]:
    rows = await ledger.execute(
        "select id from ledger.task where tenant = %s and state = %s order by id", tenant, state
    )
    return [row[0] for row in rows]


GOAL = '{"goal":"x"}'


async def test_what_is_too_much_waits_and_says_why(ledger: Ledger) -> None:
    one = Orchestrator(ledger, {"acme": {"max_in_flight": 2}})
    ids = await one.ids(*[GOAL] * 3)
    other = await one.ids(*[GOAL] * 3, tenant="other")

    await one.release.once()

    states = [(await one.view(task_id)).state for task_id in ids]
    assert sorted(states) == ["queued", "queued", "waiting"]
    (held,) = await in_state(ledger, "waiting")
    assert (await one.view(held)).waits_for == "quota: 2 in flight"
    assert await in_state(ledger, "queued", "other") == sorted(other)


async def test_room_goes_to_the_tier_then_the_priority_then_the_age(ledger: Ledger) -> None:
    one = Orchestrator(ledger, {"acme": {"max_in_flight": 1}})
    bodies = ['"priority":9', '"priority":4', '"priority":8,"tier":"interactive"', '"priority":4']
    batch, second, interactive, third = [
        (await one.ids(f'{{"goal":"x",{body}}}'))[0] for body in bodies
    ]

    order = []
    for _ in range(4):
        await one.release.once()
        (queued,) = await in_state(ledger, "queued")
        order.append(queued)
        await ledger.attempts.record(news(a_result(queued)), [0.0], Announcement([]))

    assert order == [second, third, interactive, batch]


async def test_two_orchestrators_never_release_more_than_the_quota(ledger: Ledger) -> None:
    both = [Orchestrator(ledger, {"acme": {"max_in_flight": 7}}) for _ in range(2)]

    async def work(number: int) -> None:
        one = both[number % 2]
        await one.accept(*[GOAL] * 5)
        await one.quotas.release("acme", ledger.relatives.tells.woken)

    await asyncio.gather(*(work(number) for number in range(20)))

    assert len(await in_state(ledger, "queued")) == 7
    assert len(await in_state(ledger, "waiting")) == 93


async def test_a_task_that_ends_makes_room_at_once(ledger: Ledger) -> None:
    one = Orchestrator(ledger, {"acme": {"max_in_flight": 1}})
    await one.ids(GOAL, GOAL)
    stop = asyncio.Event()
    running = asyncio.create_task(one.release.run(stop))
    try:
        await wait_until(lambda: in_state(ledger, "queued"))
        (first,) = await in_state(ledger, "queued")
        record = RecordNews(ledger.attempts, ledger.relay, _revoke, watch=one.release.moved)

        await record(news(a_result(first)))

        await wait_until(lambda: in_state(ledger, "queued"))
        assert await in_state(ledger, "queued") != [first]
    finally:
        stop.set()
        await running


async def test_a_retry_waits_for_room_like_everybody(ledger: Ledger) -> None:
    one = Orchestrator(ledger, {"acme": {"max_in_flight": 1}})
    (first,) = await one.ids(GOAL)
    await one.release.once()
    (second,) = await one.ids(GOAL)
    await ledger.attempts.record([placed(first)], [0.0], Announcement([]))
    failed = news(a_failure(first))
    await ledger.attempts.record(failed, [0.0], Announcement(failed))
    await one.quotas.release("acme", ledger.relatives.tells.woken)

    await one.reconcile.once()
    await one.release.once()

    assert await in_state(ledger, "queued") == [second]
    assert (await one.view(first)).waits_for == "quota: 1 in flight"


async def test_more_open_tasks_than_allowed_are_refused(ledger: Ledger) -> None:
    one = Orchestrator(ledger, {"acme": {"max_open": 3}})
    known = '{"goal":"x","idempotency_key":"k"}'
    await one.accept(known)

    answers = await one.accept(GOAL, known, GOAL, GOAL, GOAL)

    assert [isinstance(answer, Known) for answer in answers] == [True, True, True, False, False]
    refusal = answers[3]
    assert isinstance(refusal, Backpressure)
    assert (refusal.status, refusal.code) == (429, "QUOTA_EXCEEDED")
    assert refusal.retry_after_s
    assert len(await in_state(ledger, "queued")) == 3


async def test_two_orchestrators_accept_no_more_than_allowed(ledger: Ledger) -> None:
    both = [Orchestrator(ledger, {"acme": {"max_open": 11}}) for _ in range(2)]

    answers = await asyncio.gather(*(both[n % 2].accept(GOAL, GOAL, GOAL) for n in range(10)))

    accepted = [a for group in answers for a in group if isinstance(a, Known)]
    assert len(accepted) == 11
    assert len(await in_state(ledger, "queued")) == 11


async def test_a_quota_that_is_lifted_lets_everything_go(ledger: Ledger) -> None:
    one = Orchestrator(ledger, {"acme": {"max_in_flight": 1}})
    await one.ids(*[GOAL] * 3)
    await one.release.once()

    one.tenants.replace({})
    await one.release.once()
    await one.reconcile.once()

    assert len(await in_state(ledger, "queued")) == 3


async def test_a_new_quota_counts_what_is_open_already(ledger: Ledger) -> None:
    one = Orchestrator(ledger, {})
    await one.ids(GOAL, GOAL)

    one.tenants.replace({"acme": TenantRules(max_in_flight=3)})
    await one.ids(GOAL, GOAL)
    await one.release.once()

    assert len(await in_state(ledger, "queued")) == 3
    assert len(await in_state(ledger, "waiting")) == 1


async def test_a_held_task_can_be_cancelled(ledger: Ledger) -> None:
    one = Orchestrator(ledger, {"acme": {"max_in_flight": 1}})
    await one.ids(GOAL, GOAL)
    await one.release.once()
    (held,) = await in_state(ledger, "waiting")

    await ledger.cancelling.cancel(
        held, "acme", error="{}", inherited="{}", announce=Announcement([])
    )
    await one.release.once()

    assert await ledger.state_of(held) == ("cancelled", 1)

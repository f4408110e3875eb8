"""What tenants have used of the day, read from a real ledger."""

from datetime import timedelta

import pytest

from octarm.common.clock import SystemClock
from octarm.common.testing.fakes import FakeClock
from octarm.ledger.domain.tenants import TenantRules, Tenants
from octarm.ledger.storage.usage import PostgresUsage
from octarm.models.usage import GetUsage, TenantUsage
from tests.support.ledger import Ledger, a_result, accept, news, placed, record, started

pytestmark = pytest.mark.integration
RULES = Tenants({"default": TenantRules(max_in_flight=9)})


@pytest.fixture
def clock() -> FakeClock:
    """The day on which the test began: it may be over before the test is."""
    return FakeClock(SystemClock().now())


def a_usage(ledger: Ledger, clock: FakeClock, *, fresh_s: float = 0.0) -> PostgresUsage:
    return PostgresUsage(ledger.pool, RULES, clock, fresh_s=fresh_s)


async def run(ledger: Ledger, *, dollars: float, tokens: int) -> None:
    task_id = await accept(ledger)
    await record(ledger, placed(task_id, arm_id="writer"))
    await record(ledger, started(task_id, arm_id="writer"))
    result = a_result(task_id, arm_id="writer", cost_dollars=dollars, tokens_used=tokens)
    await record(ledger, *news(result))


async def test_a_day_is_what_its_tasks_have_cost(ledger: Ledger, clock: FakeClock) -> None:
    await run(ledger, dollars=0.25, tokens=100)
    await run(ledger, dollars=0.5, tokens=0)
    await run(ledger, dollars=0.0, tokens=0)

    found = await a_usage(ledger, clock).of(GetUsage(tenants=["default", "nobody"]))

    assert found.tenants == [
        TenantUsage(tenant="default", microdollars=750_000, tokens=100, max_in_flight=9),
        TenantUsage(tenant="nobody"),
    ]
    assert found.since <= found.read_at < found.since + timedelta(days=1)


async def test_one_reading_answers_for_a_while(ledger: Ledger, clock: FakeClock) -> None:
    usage = a_usage(ledger, clock, fresh_s=60.0)
    await usage.of(GetUsage(tenants=["default"]))
    await run(ledger, dollars=0.25, tokens=100)

    assert (await usage.of(GetUsage(tenants=["default"]))).tenants[0].microdollars == 0
    assert (await a_usage(ledger, clock).of(GetUsage(tenants=["default"]))).tenants[
        0
    ].microdollars == 250_000


async def test_another_day_begins_with_nothing(ledger: Ledger, clock: FakeClock) -> None:
    await run(ledger, dollars=0.25, tokens=100)
    usage = a_usage(ledger, clock, fresh_s=60.0)
    before = await usage.of(GetUsage(tenants=["default"]))

    clock.advance(timedelta(days=1).total_seconds())
    after = await usage.of(GetUsage(tenants=["default"]))

    assert before.tenants[0].microdollars == 250_000
    assert after.tenants[0].microdollars == 0
    assert after.since == before.since + timedelta(days=1)

"""Spend is metered before what else a batch holds is recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from octarm.common.bus.delivery import ACK, Dead, Delivery, Outcome, Retry
from octarm.ledger.domain.tasks import with_left
from octarm.models import hot
from octarm.models.ids import new_id
from octarm.models.subjects import RESULT, SPEND_REPORTED
from octarm.orchestrator.metering import SpendConsumer
from octarm.orchestrator.usecases.budgets import MeterSpend, SettleBudgets
from tests.support.deliveries import a_delivery


@dataclass
class FakeSpending:
    unsettled: int = 0
    metered: list[hot.CallSpend] = field(default_factory=list)
    settled: int = 0

    async def meter(self, reports: Sequence[hot.SpendReported]) -> int:
        self.metered += [call for report in reports for call in report.calls]
        return len(self.metered)

    async def settle_ended(self) -> int:
        self.settled += self.unsettled
        return self.unsettled


@dataclass
class Others:
    spending: FakeSpending
    metered_before: list[int] = field(default_factory=list)

    async def __call__(self, batch: list[Delivery]) -> list[Outcome]:
        self.metered_before.append(len(self.spending.metered))
        return [Retry(1.0)] * len(batch)


def a_report(task_id: str, arm_id: str = "one", subject_arm: str = "one") -> Delivery:
    call = hot.CallSpend(task_id, 1, 0, 5)
    body = msgspec.json.encode(hot.SpendReported(arm_id, "i-1", [call]))
    return a_delivery(SPEND_REPORTED.at(arm_id=subject_arm), body)


class TestSpendConsumer:
    async def test_meters_first_and_leaves_the_rest_to_others(self) -> None:
        spending = FakeSpending()
        others = Others(spending)
        consume = SpendConsumer(MeterSpend(spending), others)
        result = a_delivery(RESULT.at(arm_id="one"), b"{}")

        outcomes = await consume([result, a_report(new_id("tsk")), result])

        assert list(outcomes) == [Retry(1.0), ACK, Retry(1.0)]
        assert others.metered_before == [1]

    async def test_takes_no_part_in_a_batch_without_spend(self) -> None:
        others = Others(FakeSpending())

        outcomes = await SpendConsumer(MeterSpend(others.spending), others)(
            [a_delivery(RESULT.at(arm_id="one"), b"{}")]
        )

        assert list(outcomes) == [Retry(1.0)]

    async def test_what_it_cannot_read_or_comes_from_another_arm_is_dead(self) -> None:
        spending = FakeSpending()
        spoiled = a_delivery(SPEND_REPORTED.at(arm_id="one"), b"{")

        outcomes = await SpendConsumer(MeterSpend(spending), Others(spending))(
            [spoiled, a_report(new_id("tsk"), arm_id="two"), a_report(new_id("tsk"))]
        )

        assert [type(outcome) for outcome in outcomes] == [Dead, Dead, type(ACK)]
        assert len(spending.metered) == 1


async def test_settles_what_was_left_unsettled() -> None:
    spending = FakeSpending(unsettled=2)

    await SettleBudgets(spending)()

    assert spending.settled == 2


def test_a_command_tells_only_what_is_limited() -> None:
    contract = b'{"goal":"x"}'

    told = with_left(contract, (5, None, 0, None))

    assert told == b'{"goal":"x","budget_left":{"tokens":5,"llm_calls":0}}'
    assert with_left(contract, (None, None, None, None)) is contract

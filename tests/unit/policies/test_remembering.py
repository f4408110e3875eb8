"""What work took before a leader began to listen is learned from the ledger."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from octarm.common.cancelling import end
from octarm.models.errors import Unavailable
from octarm.models.policies import DecisionRecord, FindDecisions
from octarm.models.usage import UsageFound
from octarm.policies.accounts import Accounts
from octarm.policies.queue.estimates import Estimates
from octarm.policies.remembering import AGAIN_AFTER, SAMPLES, Remembering

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class FakeLedger:
    """Gives the same attempts for each time it is asked about."""

    records: list[DecisionRecord]
    asked: list[FindDecisions] = field(default_factory=list)
    is_away: bool = False
    now: datetime = NOON

    async def decisions(self, wanted: FindDecisions) -> tuple[list[bytes], str | None]:
        self.asked.append(wanted)
        if self.is_away:
            raise Unavailable("the ledger is away")
        return [it.model_dump_json().encode() for it in self.records], None

    async def usage(self, tenants: Sequence[str]) -> UsageFound:
        raise Unavailable("the ledger is away")


def attempt(number: int, **changed: object) -> DecisionRecord:
    given: dict[str, Any] = {"took_s": 2.0, "cost": 70, "arm_id": "one", "needs": ["b", "a"]}
    return DecisionRecord(
        task_id=f"tsk_{number:026}",
        attempt=1,
        tenant="acme",
        tier="batch",
        priority=5,
        queued_at=NOON.timestamp(),
        **given | changed,
    )


def a_stage(*records: DecisionRecord) -> tuple[FakeLedger, Estimates, Remembering]:
    ledger, estimates = FakeLedger(list(records)), Estimates()
    accounts = Accounts(ledger.usage, now=lambda: ledger.now, monotonic=lambda: 0.0)
    remembering = Remembering(accounts, ledger.decisions, estimates, lambda: ledger.now)
    return ledger, estimates, remembering


async def shown(remembering: Remembering) -> None:
    assert remembering(["acme"]) == {}
    await asyncio.gather(*remembering.under_way())


async def test_attempts_that_have_ended_are_learned_once_each() -> None:
    ledger, estimates, remembering = a_stage(
        attempt(1), attempt(2, status="failure", took_s=9.0), attempt(3, took_s=None)
    )

    await shown(remembering)
    await shown(remembering)

    assert [it.until - it.since for it in ledger.asked] == list(SAMPLES)
    observed = estimates.by_arm(["a b"], most=10)["one"]["a b"]
    assert (observed.ms, observed.cost, observed.success, observed.runs) == (2000, 70, 0.5, 2)


async def test_without_an_answer_it_is_asked_again_after_a_while() -> None:
    ledger, estimates, remembering = a_stage(attempt(1))
    ledger.is_away = True
    await shown(remembering)
    ledger.is_away = False

    await shown(remembering)
    assert estimates.anywhere("a b") is None
    ledger.now += AGAIN_AFTER + timedelta(seconds=1)
    await shown(remembering)

    assert estimates.anywhere("a b") is not None


async def test_what_is_being_asked_for_can_be_ended() -> None:
    ledger, _, remembering = a_stage(attempt(1))

    remembering(["acme"])
    await end(*remembering.under_way())

    assert remembering.under_way() == []
    assert ledger.asked == []

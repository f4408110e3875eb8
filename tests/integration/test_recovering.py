"""No state is without an owner: each row of docs/architecture/owners.md; and a lost bus."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from octarm.common.telemetry import metrics
from octarm.common.testing import FakeClock, RecordingPublisher
from octarm.ledger.domain.changes import Known
from octarm.ledger.storage import recovering
from octarm.ledger.storage.recovering import PostgresQueued
from octarm.models import hot
from octarm.models.errors import OctarmError, Unavailable
from octarm.models.ids import new_id
from octarm.models.subjects import PLACE_TASKS
from octarm.orchestrator.usecases.announce import Announcement
from octarm.orchestrator.usecases.endings import Reconcile
from octarm.orchestrator.usecases.leases import KeepLeases
from octarm.orchestrator.usecases.record import Revocation
from octarm.orchestrator.usecases.recover import TOLD_AGAIN, Recover
from tests.support.ledger import (
    Ledger,
    Revoked,
    a_failure,
    a_new_task,
    a_result,
    news,
    placed,
    started,
)

pytestmark = pytest.mark.integration

PAST = "now() - interval '1 h'"


async def revoke(_: Sequence[Revocation]) -> None:
    """Nothing runs that would have to be told."""


def a_reconciler(ledger: Ledger) -> Reconcile:
    return Reconcile(ledger.endings, ledger.relay, revoke, 1)


def a_recovery(
    ledger: Ledger, bus: RecordingPublisher | None = None, *, patience_s: float = 0.0
) -> Recover:
    reconcile, bus = a_reconciler(ledger), bus or ledger.bus
    ready = ledger.relatives.tells.ready
    return Recover(reconcile, PostgresQueued(ledger.pool), bus, ready, patience_s=patience_s)


async def accepted(ledger: Ledger, **fields: Any) -> str:
    task = a_new_task(**fields)
    (answer,), _ = await ledger.intake.accept([task], lambda _: [])
    assert isinstance(answer, Known), answer
    return answer.task_id


async def reported(ledger: Ledger, *items: Any) -> None:
    await ledger.attempts.record(list(items), [0.0] * len(items), Announcement(list(items)))


async def aged(ledger: Ledger, column: str) -> None:
    """Let what a column says be long over."""
    await ledger.execute(f"update ledger.task set {column} = {PAST}")


class TestEachRow:
    async def test_waiting_for_its_time(self, ledger: Ledger) -> None:
        task_id = await accepted(ledger)
        await reported(ledger, *news(a_failure(task_id)))
        await aged(ledger, "not_before")

        mended = (await a_recovery(ledger)(assume_empty=False)).mended

        assert mended == {"waiting tasks made ready": 1}
        assert await ledger.state_of(task_id) == ("queued", 2)

    async def test_waiting_for_a_task_that_completed(self, ledger: Ledger) -> None:
        first = await accepted(ledger)
        second = await accepted(ledger, depends_on=[first])
        await reported(ledger, *news(a_result(first)))

        await a_recovery(ledger)(assume_empty=False)

        assert await ledger.state_of(second) == ("queued", 1)

    async def test_waiting_for_a_task_that_failed(self, ledger: Ledger) -> None:
        first = await accepted(ledger)
        second = await accepted(ledger, depends_on=[first])
        await reported(ledger, *news(a_failure(first, retryable=False)))

        await a_recovery(ledger)(assume_empty=False)

        assert (await ledger.state_of(second))[0] == "failed"

    async def test_queued_and_forgotten_by_the_bus(self, ledger: Ledger) -> None:
        await accepted(ledger)
        await aged(ledger, "updated_at")

        mended = (await a_recovery(ledger)(assume_empty=False)).mended

        assert mended == {"forgotten tasks told again": 1}
        assert b"octarm_orchestrator_told_again_total" in metrics.exposition()

    @pytest.mark.parametrize("report", [placed, started])
    async def test_under_way_on_an_arm_that_fell_silent(self, report: Any, ledger: Ledger) -> None:
        task_id = await accepted(ledger)
        await reported(ledger, report(task_id))
        await aged(ledger, "lease_until")

        mended = (await a_recovery(ledger)(assume_empty=False)).mended

        assert mended["its lease ran out"] == 1
        assert await ledger.state_of(task_id) == ("queued", 2)

    @pytest.mark.parametrize("report", [placed, started])
    async def test_under_way_for_too_long(self, report: Any, ledger: Ledger) -> None:
        task_id = await accepted(ledger, timeout_seconds=1)
        await reported(ledger, report(task_id))
        await aged(ledger, "updated_at")

        mended = (await a_recovery(ledger)(assume_empty=False)).mended

        assert mended["it ran too long"] == 1
        assert (await ledger.state_of(task_id))[1] == 2

    async def test_given_up_and_run_all_the_same(self, ledger: Ledger) -> None:
        runs, failed, ended = [await accepted(ledger) for _ in range(3)]
        await reported(ledger, *(started(task_id) for task_id in (runs, failed, ended)))
        await reported(ledger, *news(a_failure(failed), a_result(ended)))
        revoked = Revoked()
        leases = KeepLeases(ledger.endings, FakeClock(), revoked)
        listed = [
            hot.RunningAttempt(task_id, 1) for task_id in (runs, failed, ended, new_id("tsk"))
        ]

        for _ in range(2):
            await leases(hot.Heartbeat("one", "i-1", 1, "ready", 4, listed, interval_s=5.0))
            await leases.renew()
            await leases.look_back()

        assert {(it.task_id, it.attempt, it.arm_id) for it in revoked} == {
            (failed, 1, "one"),
            (ended, 1, "one"),
        }

    @pytest.mark.parametrize("report", [None, placed, started])
    async def test_open_past_its_deadline(self, report: Any, ledger: Ledger) -> None:
        task_id = await accepted(ledger, deadline="2999-01-01T00:00:00Z")
        if report is not None:
            await reported(ledger, report(task_id))
        await aged(ledger, "deadline")

        await a_recovery(ledger)(assume_empty=False)

        assert (await ledger.state_of(task_id))[0] == "timed_out"

    async def test_a_commit_that_nobody_told(self, ledger: Ledger) -> None:
        task_id = await accepted(ledger)
        await reported(ledger, started(task_id))
        await ledger.execute(f"update ledger.outbox set created_at = {PAST}")

        mended = (await a_recovery(ledger)(assume_empty=False)).mended

        assert mended == {"commits told at last": 1}
        assert await ledger.outbox.count() == 0

    async def test_an_attempt_cannot_be_under_way_without_a_lease(self, ledger: Ledger) -> None:
        rows = await ledger.execute(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = 'task_leased'"
        )

        assert len(rows) == 1


class TestAssumingAnEmptyBus:
    async def test_tells_every_queued_task_again_and_nothing_else(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            recovering, "_QUEUED", recovering._QUEUED.replace("limit 500", "limit 2")
        )
        queued = [await accepted(ledger, context={"n": n}) for n in range(5)]
        for report in (placed, started):
            await reported(ledger, report(await accepted(ledger)))
        await reported(ledger, *news(a_result(await accepted(ledger))))

        mended = (await a_recovery(ledger)(assume_empty=True)).mended

        assert mended == {TOLD_AGAIN: 5}
        assert sorted(_told(ledger.bus)) == sorted((task_id, 1) for task_id in queued)

    async def test_waits_for_what_arms_have_begun_though_the_ledger_never_read_its_placement(
        self, ledger: Ledger
    ) -> None:
        begun, ended, queued = [await accepted(ledger) for _ in range(3)]

        recovering = asyncio.create_task(a_recovery(ledger, patience_s=0.5)(assume_empty=True))
        await reported(ledger, started(begun), *news(a_result(ended)))

        assert (await recovering).mended == {TOLD_AGAIN: 1}
        assert _told(ledger.bus) == [(queued, 1)]

    async def test_again_is_not_taken_for_a_duplicate(self, ledger: Ledger) -> None:
        await accepted(ledger)
        recovery = a_recovery(ledger)

        for _ in range(2):
            await recovery(assume_empty=True)

        assert len({message.msg_id for message in ledger.bus.published}) == 2

    async def test_says_so_when_the_stream_is_missing(self, ledger: Ledger) -> None:
        await accepted(ledger)
        bus = RecordingPublisher()
        bus.refused[PLACE_TASKS.at(shard=0)] = Unavailable("no stream takes it")

        with pytest.raises(OctarmError, match="no stream takes it"):
            await a_recovery(ledger, bus)(assume_empty=True)


def _told(bus: RecordingPublisher) -> list[tuple[str, int]]:
    return [
        (task.task_id, task.attempt)
        for message in bus.published
        for task in msgspec.json.decode(message.payload, type=hot.PlaceTasks).tasks
    ]

"""Spans of what the ledger decides: what ended, what is tried again, what became ready."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from octarm.common.bus.publisher import Outgoing
from octarm.common.telemetry import tracing
from octarm.ledger import hops
from octarm.ledger.domain.changes import Moved, Woken
from octarm.models.states import TaskState
from tests.support.spans import spans_in

TRACE = "0af7651916cd43dd8448eb211c80319c"
TASK = f"00-{TRACE}-{'a' * 16}-01"
ARM = f"00-{TRACE}-{'b' * 16}-01"
OTHER = f"00-{'c' * 32}-{'d' * 16}-01"
UNSAMPLED = TASK[:-1] + "0"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    tracing.setup_tracing("orchestrator", f"file:{tmp_path}", sample=0)
    yield tmp_path
    tracing.shutdown()


def moved(new: TaskState, *, traceparent: str = TASK, proof: str | None = None) -> Moved:
    return Moved(
        *("tsk_1", "acme", 1, TaskState.RUNNING, new, 5, 5, traceparent, "a goal"),
        at=datetime(2026, 1, 1, tzinfo=UTC),
        arm_id="one",
        proof=proof,
    )


class Told:
    """Keeps what was to be announced."""

    def __init__(self) -> None:
        self.changes: list[Moved] = []

    def __call__(self, changes: list[Moved]) -> list[Outgoing]:
        self.changes += changes
        return []


class TestWhatTheReconcilerDecides:
    def test_an_attempt_whose_lease_ran_out_has_a_span_that_says_so(self, folder: Path) -> None:
        told = Told()
        change = moved(TaskState.QUEUED)

        hops.traced(told, hops.RECONCILE, cause="ARM_UNAVAILABLE")([change])

        (row,) = spans_in(folder)
        assert (row["name"], row["status"]) == ("orchestrator.retry", "ERROR")
        assert row["parent_id"] == TASK[36:52]
        assert row["attributes"]["error.type"] == "ARM_UNAVAILABLE"
        assert told.changes == [change], "the next attempt hangs below the task"

    def test_a_deadline_that_passed_ends_the_task_in_a_span(self, folder: Path) -> None:
        told = Told()

        hops.traced(told, hops.RECONCILE, cause="TIMED_OUT")([moved(TaskState.TIMED_OUT)])

        (row,) = spans_in(folder)
        assert (row["name"], row["status"]) == ("orchestrator.reconcile", "ERROR")
        assert told.changes[0].traceparent[36:52] == row["span_id"], "its event continues from it"

    @pytest.mark.parametrize(
        "change",
        [
            moved(TaskState.TIMED_OUT, traceparent=UNSAMPLED),
            moved(TaskState.QUEUED, traceparent=UNSAMPLED),
        ],
    )
    def test_errors_are_told_of_whether_sampled_or_not(self, folder: Path, change: Moved) -> None:
        told = Told()

        hops.traced(told, hops.RECONCILE, cause="ARM_UNAVAILABLE")([change])

        assert [row["status"] for row in spans_in(folder)] == ["ERROR"]
        assert told.changes == [change]

    def test_a_proven_cancel_is_no_error_and_says_its_proof(self, folder: Path) -> None:
        changes = [
            moved(TaskState.CANCELLED, proof="lease_ended", traceparent=traceparent)
            for traceparent in (TASK, UNSAMPLED)
        ]

        hops.traced(Told(), hops.CANCEL)(changes)

        (row,) = spans_in(folder)
        assert (row["name"], row["status"]) == ("orchestrator.cancel", "UNSET")
        assert row["attributes"]["octarm.cancel.proof"] == "lease_ended"


class TestWhatArmsReport:
    def test_the_end_hangs_below_the_attempt(self, folder: Path) -> None:
        hops.traced(Told(), hops.FINISH, senders={"tsk_1": ARM})([moved(TaskState.COMPLETED)])

        (row,) = spans_in(folder)
        assert (row["name"], row["parent_id"]) == ("orchestrator.finish", ARM[36:52])

    def test_an_arm_cannot_move_a_task_into_another_trace(self, folder: Path) -> None:
        told = Told()

        hops.traced(told, hops.FINISH, senders={"tsk_1": OTHER})([moved(TaskState.COMPLETED)])

        (row,) = spans_in(folder)
        assert (row["trace_id"], row["parent_id"]) == (TRACE, TASK[36:52])
        assert told.changes[0].traceparent == f"00-{TRACE}-{row['span_id']}-01"

    def test_what_is_not_sampled_completes_without_a_span(self, folder: Path) -> None:
        told, change = Told(), moved(TaskState.COMPLETED, traceparent=UNSAMPLED)

        hops.traced(told, hops.FINISH, senders={"tsk_1": ARM})([change])

        assert spans_in(folder) == []
        assert told.changes == [change]

    def test_a_retry_hangs_below_the_task_and_is_linked_to_the_attempt(self, folder: Path) -> None:
        hops.traced(Told(), hops.FINISH, senders={"tsk_1": ARM})([moved(TaskState.WAITING)])

        (row,) = spans_in(folder)
        assert (row["name"], row["status"]) == ("orchestrator.retry", "UNSET")
        assert (row["parent_id"], row["links"]) == (TASK[36:52], [ARM[36:52]])

    def test_news_that_ends_nothing_leaves_no_span(self, folder: Path) -> None:
        started = structs.replace(moved(TaskState.RUNNING), old=TaskState.QUEUED)

        hops.traced(Told(), hops.FINISH)([started, moved(TaskState.RUNNING)])

        assert spans_in(folder) == []


def test_the_next_attempt_is_linked_to_the_retry_of_the_one_before(folder: Path) -> None:
    hops.traced(Told(), hops.FINISH, senders={"tsk_1": ARM})([moved(TaskState.WAITING)])
    ready = structs.replace(moved(TaskState.QUEUED), attempt=2)

    hops.woke(Woken(ready, "batch", 5, None, b"{}"))

    retry, wake = spans_in(folder)
    assert (retry["name"], wake["name"]) == ("orchestrator.retry", "orchestrator.wake")
    assert retry["links"] == [ARM[36:52]]
    assert wake["links"] == [retry["span_id"]]
    assert wake["parent_id"] == TASK[36:52]


def test_a_task_that_became_ready_is_linked_to_what_it_waited_for(folder: Path) -> None:
    change = moved(TaskState.QUEUED)

    woken = hops.woke(Woken(change, "batch", 5, None, b"{}", after=(OTHER,)))

    (row,) = spans_in(folder)
    assert (row["name"], row["links"]) == ("orchestrator.wake", [OTHER[3:52]])
    assert woken.moved.traceparent[36:52] == row["span_id"], "its next attempt hangs below it"

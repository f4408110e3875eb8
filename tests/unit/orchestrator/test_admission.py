"""The gate: closed past the mark, open again below the low one, honest in between."""

from datetime import UTC, datetime

import pytest

from octarm.ledger.domain.changes import Moved
from octarm.ledger.domain.shedding import Sheds, Switch
from octarm.models.shedding import ShedMode
from octarm.models.states import TaskState
from octarm.orchestrator.domain.admission import LONGEST_S, UNKNOWN_S, Gate, Level

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def a_gate(max_open: int = 1000, max_outbox: int = 100) -> Gate:
    return Gate(max_open, max_outbox, chance=lambda: 0.0)


def a_move(old: TaskState, new: TaskState) -> Moved:
    return Moved("tsk_1", "default", 1, old, new, 1, 1, "", "", NOON)


def retry_after(gate: Gate) -> int:
    refusal = gate.refusal()
    assert refusal is not None
    assert refusal.retry_after_s is not None
    return refusal.retry_after_s


def test_admits_below_the_mark() -> None:
    gate = a_gate()

    gate.accepted(999)

    assert gate.refusal() is None


def test_refuses_past_the_mark_before_the_next_sample() -> None:
    gate = a_gate()

    gate.accepted(1000)

    refusal = gate.refusal()
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, "ADMISSION_REJECTED")
    assert "1,000 tasks wait" in refusal.message


def test_stays_closed_until_the_low_mark() -> None:
    gate = a_gate()
    gate.open.sampled(1000, 1.0)

    gate.open.sampled(951, 2.0)
    still_closed = gate.is_closed
    gate.open.sampled(950, 3.0)

    assert still_closed
    assert not gate.is_closed


def test_says_how_long_the_surplus_takes_at_the_rate_that_was_seen() -> None:
    gate = a_gate()
    gate.open.sampled(1000, 1.0)
    gate.open.sampled(990, 2.0)

    assert retry_after(gate) == 4  # 40 tasks at 10 a second


def test_counts_what_drained_while_it_accepted() -> None:
    gate = a_gate()
    gate.open.sampled(900, 1.0)
    gate.accepted(200)

    gate.open.sampled(1050, 2.0)

    assert retry_after(gate) == 2  # 100 tasks at 50 a second


def test_smooths_the_rate_while_it_refuses_and_keeps_it_otherwise() -> None:
    level = Level(1000)
    level.sampled(1100, 0.0)
    level.sampled(1090, 1.0)
    level.sampled(1070, 2.0)
    smoothed = (1070 - level.low) / level.room_in_s()
    level.sampled(100, 3.0)
    level.sampled(90, 4.0)
    level.sampled(1200, 5.0)

    assert smoothed == pytest.approx(13.0)
    assert level.room_in_s() == pytest.approx((1200 - level.low) / (13.0 + 0.3 * (970 - 13)))


def test_knows_no_rate_after_one_sample() -> None:
    gate = a_gate()
    gate.open.sampled(1000, 1.0)

    assert retry_after(gate) == UNKNOWN_S


def test_gives_the_longest_time_when_nothing_drains() -> None:
    gate = a_gate()
    gate.open.sampled(1000, 1.0)
    gate.open.sampled(1000, 2.0)

    assert retry_after(gate) == LONGEST_S


def test_is_never_told_a_time_twice_in_one_instant() -> None:
    level = Level(1000)
    level.sampled(1000, 1.0)
    level.sampled(990, 1.0)

    assert level.room_in_s() == UNKNOWN_S


def test_spreads_those_who_come_again() -> None:
    early, late = Gate(100, chance=lambda: 0.0), Gate(100, chance=lambda: 1.0)
    for gate in (early, late):
        gate.open.sampled(500, 1.0)
        gate.open.sampled(490, 2.0)

    assert retry_after(late) > retry_after(early)


def test_closes_when_the_bus_is_behind() -> None:
    gate = a_gate()
    gate.outbox.sampled(100, 1.0)

    refusal = gate.refusal()

    assert refusal is not None
    assert "behind" in refusal.message


def test_what_leaves_the_queue_makes_room_and_what_comes_back_takes_it() -> None:
    gate = a_gate(max_open=3)
    gate.accepted(3)

    gate.moved([a_move(TaskState.QUEUED, TaskState.RUNNING)] * 2)
    opened = not gate.is_closed
    gate.moved([a_move(TaskState.RUNNING, TaskState.WAITING)] * 2)

    assert opened
    assert gate.is_closed


def test_progress_changes_nothing() -> None:
    gate = a_gate(max_open=3)
    gate.accepted(2)

    gate.moved([a_move(TaskState.RUNNING, TaskState.COMPLETED)])

    assert gate.open.value == 2


def test_without_marks_it_never_closes() -> None:
    gate = Gate()

    gate.accepted(1_000_000)

    assert not gate.is_closed


def test_what_operators_shed_stays_on_intake_and_lets_levels_be() -> None:
    gate = a_gate()
    before = gate.shed("acme", b'{"goal":"x"}')

    gate.sheds = Sheds({None: Switch(ShedMode.ALL_NEW, "")})

    assert before is None
    assert gate.takes_nothing
    assert not gate.is_closed
    assert gate.shed("acme", b'{"goal":"x"}') is not None

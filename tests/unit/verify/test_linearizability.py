"""The search for an order: finds one where there is one, and says so where there is none."""

import random
from itertools import permutations
from typing import Any

import pytest

from octarm.verify.history import Operation
from octarm.verify.linearizability import Model, judge
from octarm.verify.models import BudgetModel, LeaseModel, TaskModel, object_of


def an_op(op: str, start: int, end: int | None, outcome: str = "ok", **fields: Any) -> Operation:
    names = {"state", "attempt", "task_id", "created", "code", "cancelling"}
    value = {name: fields.pop(name) for name in set(fields) & names}
    return Operation("p", op, start, end, fields, outcome, value)  # type: ignore[arg-type]


def get(start: int, end: int, state: str, attempt: int = 1) -> Operation:
    return an_op("get", start, end, state=state, attempt=attempt)


SUBMIT = an_op("submit", 0, 1, task_id="t", created=True)
GRANT = an_op("grant", 0, 1, amount=10)


class TestTask:
    def test_moves_on_between_two_looks(self) -> None:
        looks = [get(2, 3, "queued"), get(4, 5, "running"), get(6, 7, "waiting", 2)]

        assert judge([SUBMIT, *looks, get(8, 9, "completed", 2)], TaskModel()).ok

    @pytest.mark.parametrize(
        "later", [get(4, 5, "running"), get(4, 5, "failed"), get(4, 5, "completed", 2)]
    )
    def test_nothing_leaves_a_terminal_state(self, later: Operation) -> None:
        judgement = judge([SUBMIT, get(2, 3, "completed"), later], TaskModel())

        assert judgement.ok is False
        assert judgement.stuck_at == later

    def test_a_stale_read_fits_only_while_it_overlaps(self) -> None:
        fresh = get(2, 10, "running")

        assert judge([SUBMIT, fresh, get(3, 9, "queued")], TaskModel()).ok
        assert judge([SUBMIT, fresh, get(11, 12, "queued")], TaskModel()).ok is False

    def test_is_there_once_it_was_accepted(self) -> None:
        absent = an_op("get", 2, 3, "fail", code="TASK_NOT_FOUND")

        assert judge([SUBMIT, absent], TaskModel()).ok is False
        assert judge([an_op("publish", 0, 1), absent, get(4, 5, "queued")], TaskModel()).ok

    def test_an_answer_may_leave_the_attempt_out(self) -> None:
        ended = an_op("get", 2, 3, state="completed")

        assert judge([SUBMIT, ended, get(4, 5, "completed", 2)], TaskModel()).ok
        assert judge([SUBMIT, get(0, 1, "running", 2), ended], TaskModel()).ok
        assert judge([SUBMIT, ended, get(4, 5, "failed", 2)], TaskModel()).ok is False

    def test_is_created_once(self) -> None:
        again = an_op("submit", 2, 3, task_id="t", created=True)
        known = an_op("submit", 2, 3, task_id="t", created=False)

        assert judge([SUBMIT, again], TaskModel()).ok is False
        assert judge([SUBMIT, known], TaskModel()).ok

    def test_is_over_when_its_cancel_is_answered(self) -> None:
        assert judge([SUBMIT, an_op("cancel", 2, 3, state="running")], TaskModel()).ok is False
        assert judge([SUBMIT, an_op("cancel", 2, 3, state="cancelled")], TaskModel()).ok
        assert judge([SUBMIT, an_op("cancel", 2, None, "unknown")], TaskModel()).ok
        called_off = an_op("cancel", 2, 3, state="running", cancelling=True)
        assert judge([SUBMIT, called_off, get(4, 5, "cancelled")], TaskModel()).ok


class TestBudget:
    def test_never_holds_more_than_was_granted(self) -> None:
        two = [an_op("reserve", 2, 5, amount=6), an_op("reserve", 3, 6, amount=6)]

        assert judge([GRANT, *two], BudgetModel()).ok is False
        assert judge(
            [GRANT, two[0], an_op("settle", 4, 6, amount=2, reserved=6), two[1]], BudgetModel()
        ).ok

    def test_a_refusal_must_have_been_necessary(self) -> None:
        refused = an_op("reserve", 2, 3, "fail", amount=6, code="BUDGET_EXCEEDED")
        failed = an_op("reserve", 2, 3, "fail", amount=6, code="SERVICE_UNAVAILABLE")

        assert judge([GRANT, refused], BudgetModel()).ok is False
        assert judge([GRANT, failed], BudgetModel()).ok

    def test_an_unknown_reservation_may_hold_or_not_and_later_too(self) -> None:
        unknown = an_op("reserve", 2, None, "unknown", amount=6)
        taken = an_op("reserve", 4, 5, amount=6)
        refused = an_op("reserve", 6, 7, "fail", amount=4, code="BUDGET_EXCEEDED")

        assert judge([GRANT, unknown, taken], BudgetModel()).ok
        assert judge([GRANT, unknown, an_op("reserve", 4, 5, amount=4), refused], BudgetModel()).ok


class TestLease:
    def test_only_the_newest_token_writes(self) -> None:
        taken = [an_op("acquire", 0, 1, token=1), an_op("acquire", 2, 3, token=2)]
        old = an_op("write", 4, 5, token=1)

        assert judge([*taken, old], LeaseModel()).ok is False
        assert judge([*taken, an_op("write", 4, 5, "fail", token=1)], LeaseModel()).ok
        assert judge([*taken, an_op("write", 4, 5, token=2)], LeaseModel()).ok

    def test_tokens_only_grow(self) -> None:
        first = an_op("acquire", 0, 1, token=2)

        assert judge([first, an_op("acquire", 2, 3, token=2)], LeaseModel()).ok is False
        assert judge(
            [first, an_op("acquire", 2, None, "unknown"), an_op("write", 4, 5, token=2)],
            LeaseModel(),
        ).ok

    def test_what_was_given_back_is_not_written_under(self) -> None:
        first, back = an_op("acquire", 0, 1, token=1), an_op("release", 2, 3, token=1)

        assert judge([first, back, an_op("write", 4, 5, token=1)], LeaseModel()).ok is False
        assert judge([first, an_op("acquire", 2, 3, "fail")], LeaseModel()).ok
        assert judge([first, back, an_op("acquire", 4, 5, "fail")], LeaseModel()).ok is False


def possible(ops: list[Operation], model: Model) -> bool:
    """Try every order of every choice of unknown operations."""
    required = [op for op in ops if op.complete is not None]
    optional = [op for op in ops if op.complete is None]
    for chosen in range(2 ** len(optional)):
        taken = required + [op for n, op in enumerate(optional) if chosen >> n & 1]
        if any(_fits(order, model) for order in permutations(taken)):
            return True
    return False


def _fits(order: tuple[Operation, ...], model: Model) -> bool:
    for place, op in enumerate(order):
        if any(
            later.complete is not None and later.complete < op.invoke
            for later in order[place + 1 :]
        ):
            return False
    states = {model.start()}
    for op in order:
        states = {after for state in states for after in model.step(state, op)}
    return bool(states)


@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_trying_every_order(seed: int) -> None:
    rng = random.Random(seed)
    ops = [GRANT]
    for _ in range(5):
        start = rng.randrange(12)
        end = start + rng.randrange(1, 6)
        kind = rng.choice(["ok", "ok", "fail", "unknown"])
        code = {"code": "BUDGET_EXCEEDED"} if kind == "fail" else {}
        ops.append(
            an_op(
                "reserve",
                start,
                None if kind == "unknown" else end,
                kind,
                amount=rng.randrange(1, 8),
                **code,
            )
        )

    assert judge(ops, BudgetModel()).ok == possible(ops, BudgetModel())


def test_a_thousand_overlapping_operations_are_judged_quickly() -> None:
    ops = [an_op("grant", 0, 1, amount=500)]
    for number in range(1000):
        outcome = "ok" if number < 500 else "fail"
        code = {} if number < 500 else {"code": "BUDGET_EXCEEDED"}
        ops.append(an_op("reserve", 2 + number, 12 + number, outcome, amount=1, **code))

    assert judge(ops, BudgetModel()).ok


def test_knows_what_an_operation_is_about() -> None:
    assert object_of(SUBMIT) == "task:t"
    assert object_of(an_op("reserve", 0, 1, budget="b")) == "budget:b"
    assert object_of(an_op("acquire", 0, 1, lease="l")) == "lease:l"
    assert object_of(an_op("fault", 0, 1, kind="kill")) is None

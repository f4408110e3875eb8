"""What an attempt has used, held against what it may use."""

import operator
from decimal import Decimal
from typing import Final

from msgspec import Struct

from octarm.models.contracts import BudgetLeft, TaskContract
from octarm.models.errors import BudgetExceeded
from octarm.models.scalars import MAX_DOLLARS, MAX_INT

MICRO: Final = 1_000_000


class Spent(Struct, frozen=True, gc=False):
    """Tokens, US dollars and calls of a language model."""

    tokens: int = 0
    cost_dollars: float = 0.0
    llm_calls: int = 0


class Left(Struct, frozen=True, gc=False):
    """What a budget still allows; None is unlimited, nothing is below zero."""

    tokens: int | None
    cost_dollars: float | None
    llm_calls: int | None
    seconds: float | None = None
    """Of execution, for all attempts together."""


class Budget(Struct, frozen=True, gc=False):
    """What the attempt may use, has used, and may still use.

    `limit` is less than the task's own budget when earlier attempts, children or the tasks
    above have used or hold a part of it.
    """

    limit: Left
    spent: Spent
    left: Left


class Call(Struct, frozen=True, gc=False):
    """One booked call; `call_no` is below zero when the handler gave none."""

    call_no: int
    tokens: int
    micro_dollars: int
    llm_calls: int


class Limit(Struct, frozen=True, gc=False):
    """What an attempt may use, in whole numbers; None is unlimited."""

    tokens: int | None = None
    micro_dollars: int | None = None
    llm_calls: int | None = None
    time_ms: int | None = None


NO_LIMIT: Final = Limit()
NOTHING: Final = Spent()
_NO_CALLS: Final = Call(0, 0, 0, 0)
_NO_DOLLARS: Final = Decimal(0)
_ALL_LEFT: Final = BudgetLeft()
_AMOUNTS: Final = operator.attrgetter(
    "max_tokens", "max_time_seconds", "max_cost_dollars", "max_llm_calls"
)


def limit_of(task: TaskContract) -> Limit:
    """Give the smaller of what the task was given and what was left when it became ready."""
    given, left = task.budget, task.budget_left or _ALL_LEFT
    tokens, seconds, dollars, calls = _AMOUNTS(given)
    if left is _ALL_LEFT and tokens is seconds is dollars is calls is None:
        return NO_LIMIT
    return Limit(
        tokens=_smaller(tokens, left.tokens),
        micro_dollars=_smaller(
            None if dollars is None else round(dollars * MICRO), left.micro_dollars
        ),
        llm_calls=_smaller(calls, left.llm_calls),
        time_ms=_smaller(None if seconds is None else seconds * 1000, left.time_ms),
    )


class Spending:
    """Books amounts against a limit; money is summed exactly, then told in micro-dollars."""

    __slots__ = ("_calls", "_dollars", "_numbered", "_total", "limit")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._calls: set[int] = set()
        self._numbered = 0
        self._dollars = _NO_DOLLARS
        self._total = _NO_CALLS

    def book(self, amount: Spent, call_no: int | None = None) -> Call | None:
        """Add `amount`, once for each `call_no`; gives None when that one was booked before.

        Raises:
            ValueError: an amount is negative, or none that a result can tell.
        """
        if amount.tokens < 0 or amount.cost_dollars < 0 or amount.llm_calls < 0:
            raise ValueError("what is spent cannot be negative")
        if not (isinstance(amount.tokens, int) and isinstance(amount.llm_calls, int)):
            raise ValueError("tokens and calls are whole numbers")
        total = self._total
        dollars = self._dollars + _exact(amount.cost_dollars)
        tokens, calls = total.tokens + amount.tokens, total.llm_calls + amount.llm_calls
        if max(tokens, calls) > MAX_INT or dollars > MAX_DOLLARS:
            raise ValueError("nobody can have spent that much")
        if call_no is None:
            self._numbered -= 1
            call_no = self._numbered
        elif call_no in self._calls:
            return None
        self._calls.add(call_no)
        self._dollars = dollars
        # Rounded in sum: a thousand calls of a tenth of a micro-dollar are not free.
        self._total = Call(0, tokens, round(dollars * MICRO), calls)
        more = self._total.micro_dollars - total.micro_dollars
        return Call(call_no, amount.tokens, more, amount.llm_calls)

    @property
    def total(self) -> Spent:
        """What has been booked so far."""
        total = self._total
        if total is _NO_CALLS:
            return NOTHING
        return Spent(total.tokens, total.micro_dollars / MICRO, total.llm_calls)

    def left(self, elapsed_ms: int = 0) -> Left:
        """Say what may still be spent, `elapsed_ms` milliseconds after the start."""
        total, limit = self._total, self.limit
        return _left(
            limit.tokens and max(0, limit.tokens - total.tokens),
            limit.micro_dollars and max(0, limit.micro_dollars - total.micro_dollars),
            limit.llm_calls and max(0, limit.llm_calls - total.llm_calls),
            limit.time_ms and max(0, limit.time_ms - elapsed_ms),
        )

    def budget(self, elapsed_ms: int = 0) -> Budget:
        """Show limit, spend and rest, `elapsed_ms` milliseconds after the start."""
        limit = self.limit
        given = _left(limit.tokens, limit.micro_dollars, limit.llm_calls, limit.time_ms)
        return Budget(given, self.total, self.left(elapsed_ms))

    def check(self) -> None:
        """
        Raises:
            BudgetExceeded: more has been booked than the limit allows.
        """
        total, limit = self._total, self.limit
        amounts = (
            ("tokens", total.tokens, limit.tokens),
            ("micro-dollars", total.micro_dollars, limit.micro_dollars),
            ("LLM calls", total.llm_calls, limit.llm_calls),
        )
        for what, used, allowed in amounts:
            if allowed is not None and used > allowed:
                raise BudgetExceeded(f"{used} {what} used, the budget allows {allowed}")


def _exact(dollars: float) -> Decimal:
    exact = Decimal(repr(float(dollars)))
    if not exact.is_finite():
        raise ValueError("nobody can have spent that much")
    return exact


def _left(tokens: int | None, micro: int | None, calls: int | None, ms: int | None) -> Left:
    return Left(
        tokens=tokens,
        cost_dollars=None if micro is None else micro / MICRO,
        llm_calls=calls,
        seconds=None if ms is None else ms / 1000,
    )


def _smaller(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)

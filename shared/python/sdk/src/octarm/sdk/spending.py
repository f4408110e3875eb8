"""What an attempt has used, held against its budget."""

from dataclasses import dataclass, replace
from typing import Final

from octarm.models.contracts import ResourceBudget
from octarm.models.errors import BudgetExceeded
from octarm.models.scalars import MAX_DOLLARS, MAX_INT

MICRO: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens, US dollars and calls of a language model."""

    tokens: int = 0
    cost_dollars: float = 0.0
    llm_calls: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """What a budget still allows; None is unlimited, nothing is below zero."""

    tokens: int | None
    cost_dollars: float | None
    llm_calls: int | None


class Spending:
    """Books amounts against a budget; money is summed in whole micro-dollars."""

    __slots__ = ("_budget", "_calls", "_micro", "total")

    def __init__(self, budget: ResourceBudget) -> None:
        self._budget = budget
        self._calls: set[int] = set()
        self._micro = 0
        self.total = Spent()

    def book(self, amount: Spent, call_no: int | None = None) -> None:
        """Add `amount`, once for each `call_no`.

        Raises:
            ValueError: an amount is negative, or none that a result can tell.
            BudgetExceeded: the total is over the budget; it stays booked.
        """
        if amount.tokens < 0 or amount.cost_dollars < 0 or amount.llm_calls < 0:
            raise ValueError("what is spent cannot be negative")
        if not (isinstance(amount.tokens, int) and isinstance(amount.llm_calls, int)):
            raise ValueError("tokens and calls are whole numbers")
        if amount.tokens > MAX_INT or amount.cost_dollars > MAX_DOLLARS:
            raise ValueError("nobody can have spent that much")
        if call_no is not None:
            if call_no in self._calls:
                return
            self._calls.add(call_no)
        self._micro += round(amount.cost_dollars * MICRO)
        self.total = replace(
            self.total,
            tokens=self.total.tokens + amount.tokens,
            cost_dollars=self._micro / MICRO,
            llm_calls=self.total.llm_calls + amount.llm_calls,
        )
        self._check()

    @property
    def left(self) -> Left:
        """What may still be spent."""
        budget, total = self._budget, self.total
        dollars = budget.max_cost_dollars
        return Left(
            tokens=_left(budget.max_tokens, total.tokens),
            cost_dollars=None if dollars is None else max(0.0, dollars - total.cost_dollars),
            llm_calls=_left(budget.max_llm_calls, total.llm_calls),
        )

    def _check(self) -> None:
        limits = (
            ("tokens", self.total.tokens, self._budget.max_tokens),
            ("dollars", self.total.cost_dollars, self._budget.max_cost_dollars),
            ("LLM calls", self.total.llm_calls, self._budget.max_llm_calls),
        )
        for what, used, limit in limits:
            if limit is not None and used > limit:
                raise BudgetExceeded(f"{used:g} {what} used, the budget allows {limit:g}")


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)

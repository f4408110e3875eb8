"""Budgets as accounts in a tree: children take their grants from their parent's remainder.

Four dimensions, always in this order: tokens, micro-dollars, calls of a language model,
milliseconds of execution. Amounts are whole numbers; a grant of None is no limit of its own.

What an account has used (its own attempts, and its children's that were handed up) is `spent`
as far as the grant covers it and `over` beyond that, so that what really happened is recorded
and `reserved + spent <= granted` holds all the same. In a dimension in which an account has no
grant, and in all once it is settled, it is *transparent*: what it uses, and what its children
hold, counts at once against the account above.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from octarm.ledger.domain.submissions import PlainBudget
from octarm.models.contracts import ResourceBudget
from octarm.models.errors import BudgetExceeded
from octarm.models.scalars import MAX_INT

DIMENSIONS: Final = ("tokens", "micro-dollars", "LLM calls", "milliseconds")
MICRO: Final = 1_000_000
Amounts = tuple[int, int, int, int]
Limits = tuple[int | None, int | None, int | None, int | None]
NOTHING: Final[Amounts] = (0, 0, 0, 0)
UNLIMITED: Final[Limits] = (None, None, None, None)


def grant_of(budget: ResourceBudget | PlainBudget) -> Limits:
    """Give a contract's limits in whole numbers; dollars are rounded to the micro-dollar."""
    dollars, seconds = budget.max_cost_dollars, budget.max_time_seconds
    return (
        budget.max_tokens,
        None if dollars is None else micro_dollars(dollars),
        budget.max_llm_calls,
        None if seconds is None else min(MAX_INT, seconds * 1000),
    )


def micro_dollars(dollars: float) -> int:
    """Give US dollars as whole micro-dollars, rounded to the nearest."""
    return round(dollars * MICRO)


@dataclass(slots=True)
class Account:
    """One task's budget; `parent_id` is the task above when that one has an account too."""

    task_id: str
    parent_id: str | None
    granted: Limits
    reserved: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    spent: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    over: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    used: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    settled: bool = False
    version: int = 0
    changed: bool = False

    def held(self, place: int) -> int:
        """What is reserved above on its behalf."""
        grant = self.granted[place]
        return self.reserved[place] if grant is None or self.settled else grant

    def moved(self, place: int) -> int:
        """What counts as used above on its behalf."""
        transparent = self.granted[place] is None or self.settled
        return self.spent[place] + self.over[place] if transparent else 0

    def own_left(self, place: int) -> int | None:
        """What its grant still covers; None when it has no grant."""
        grant = self.granted[place]
        return None if grant is None else grant - self.reserved[place] - self.spent[place]


class Accounts:
    """Accounts with all that stand above them, changed together.

    Nothing here is safe by itself against another process: the ledger holds the rows locked
    from reading them to the commit of what has changed.
    """

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._by_id = {account.task_id: account for account in accounts}

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._by_id

    def __getitem__(self, task_id: str) -> Account:
        return self._by_id[task_id]

    def changed(self) -> list[Account]:
        """List what has to be written, by id."""
        return [account for _, account in sorted(self._by_id.items()) if account.changed]

    def left(self, task_id: str) -> Limits:
        """Say what a task may still use or give away; nothing is below zero."""
        tokens, cost, calls, time = (self._left(self[task_id], place) for place in range(4))
        return (tokens, cost, calls, time)

    def open(self, task_id: str, parent_id: str | None, grant: Limits) -> Account:
        """Open an account, its grant taken from what is left above.

        Raises:
            BudgetExceeded: what is left does not cover the grant, or without one: is nothing.
                Nothing has changed then.
        """
        parent = self._by_id.get(parent_id) if parent_id else None
        if parent is not None:
            for place, wanted in enumerate(grant):
                self._must_afford(parent, place, wanted)
            for place, wanted in enumerate(grant):
                if wanted:
                    self._shift(parent, place, reserved=wanted, used=0)
        account = Account(task_id, parent.task_id if parent else None, grant)
        self._by_id[task_id] = account
        return account

    def book(self, task_id: str, used: Amounts) -> None:
        """Take in what a task's own attempts have used in all; repeating it changes nothing."""
        account = self[task_id]
        for place, amount in enumerate(used):
            if more := min(amount, MAX_INT) - account.used[place]:
                account.used[place] += more
                self._shift(account, place, reserved=0, used=more)

    def settle(self, task_id: str) -> None:
        """Hand up what was used and give back what was not; repeating it changes nothing.

        What its children still hold stays reserved, here and above, until they settle.
        """
        account = self[task_id]
        if account.settled:
            return
        before = [(account.held(place), account.moved(place)) for place in range(4)]
        account.settled = account.changed = True
        for place, (held, moved) in enumerate(before):
            self._pass_on(account, place, held, moved)

    def _left(self, account: Account, place: int) -> int | None:
        least: int | None = None
        above: Account | None = account
        while above is not None:
            own = above.own_left(place)
            if own is not None:
                least = own if least is None else min(least, own)
                if not above.settled:
                    break
            above = self._above(above)
        return least

    def _above(self, account: Account) -> Account | None:
        return self[account.parent_id] if account.parent_id else None

    def _must_afford(self, parent: Account, place: int, wanted: int | None) -> None:
        left = self._left(parent, place)
        if left is not None and left < (1 if wanted is None else wanted):
            asked = "none" if wanted is None else str(wanted)
            raise BudgetExceeded(
                f"{left} {DIMENSIONS[place]} are left of the parent's budget, {asked} asked for",
                "Ask for less, or wait until other children of the parent have ended.",
            )

    def _shift(self, account: Account, place: int, *, reserved: int, used: int) -> None:
        """Change what an account holds and has used, and what follows from it above."""
        held, moved = account.held(place), account.moved(place)
        account.reserved[place] += reserved
        total = account.spent[place] + account.over[place] + used
        grant = account.granted[place]
        covered = total if grant is None else min(total, grant - account.reserved[place])
        account.spent[place], account.over[place] = covered, total - covered
        account.changed = True
        self._pass_on(account, place, held, moved)

    def _pass_on(self, account: Account, place: int, held: int, moved: int) -> None:
        """Change the account above by as much as this one differs from before."""
        reserved, used = account.held(place) - held, account.moved(place) - moved
        if account.parent_id and (reserved or used):
            self._shift(self[account.parent_id], place, reserved=reserved, used=used)


def used_up(left: Limits) -> str | None:
    """Name the first dimension of which nothing is left, None when there is none."""
    for place, amount in enumerate(left):
        if amount is not None and amount <= 0:
            return DIMENSIONS[place]
    return None

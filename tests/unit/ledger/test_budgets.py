"""Budgets: a tree of accounts in which nothing is promised twice and nothing used is hidden."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octarm.ledger.domain.budgets import (
    NOTHING,
    UNLIMITED,
    Accounts,
    Amounts,
    Limits,
    grant_of,
    micro_dollars,
    used_up,
)
from octarm.models.contracts import ResourceBudget
from octarm.models.errors import BudgetExceeded
from octarm.models.scalars import MAX_INT


def tokens(amount: int | None) -> Limits:
    """A grant of tokens alone."""
    return (amount, None, None, None)


def used(amount: int) -> Amounts:
    return (amount, 0, 0, 0)


def a_tree(*grants: tuple[str, str | None, int | None]) -> Accounts:
    """Accounts by name, parent and tokens, opened in this order."""
    accounts = Accounts([])
    for name, parent, amount in grants:
        accounts.open(name, parent, tokens(amount))
    return accounts


def standing(accounts: Accounts, name: str) -> tuple[int, int, int]:
    """Tokens reserved, spent and over."""
    account = accounts[name]
    return account.reserved[0], account.spent[0], account.over[0]


class TestGrants:
    def test_are_whole_numbers(self) -> None:
        budget = ResourceBudget(
            max_tokens=5, max_cost_dollars=0.29, max_llm_calls=2, max_time_seconds=3
        )

        assert grant_of(budget) == (5, 290_000, 2, 3000)
        assert grant_of(ResourceBudget()) == UNLIMITED

    def test_of_endless_time_stay_countable(self) -> None:
        assert grant_of(ResourceBudget(max_time_seconds=MAX_INT))[3] == MAX_INT

    @pytest.mark.parametrize(
        ("dollars", "micro"),
        [(0.1 + 0.2, 300_000), (1e-6, 1), (0.000_000_4, 0), (1.005, 1_005_000), (1e9, 10**15)],
    )
    def test_round_money_to_the_nearest_micro_dollar(self, dollars: float, micro: int) -> None:
        assert micro_dollars(dollars) == micro


class TestReserving:
    def test_takes_a_child_s_grant_from_its_parent(self) -> None:
        accounts = a_tree(("parent", None, 100), ("child", "parent", 60))

        assert accounts.left("parent") == tokens(40)
        assert accounts.left("child") == tokens(60)
        assert standing(accounts, "parent") == (60, 0, 0)

    def test_refuses_what_the_parent_cannot_afford_and_changes_nothing(self) -> None:
        accounts = a_tree(("parent", None, 100), ("child", "parent", 60))

        with pytest.raises(BudgetExceeded, match=r"40 tokens are left .* 41 asked for"):
            accounts.open("next", "parent", (41, None, None, None))

        assert standing(accounts, "parent") == (60, 0, 0)
        assert "next" not in accounts
        accounts.open("last", "parent", tokens(40))
        assert accounts.left("parent") == tokens(0)

    def test_takes_all_dimensions_or_none(self) -> None:
        accounts = Accounts([])
        accounts.open("parent", None, (100, 5, None, None))

        with pytest.raises(BudgetExceeded, match="micro-dollars"):
            accounts.open("child", "parent", (10, 6, None, None))

        assert accounts["parent"].reserved == [0, 0, 0, 0]

    def test_a_child_without_a_grant_draws_on_the_nearest_one_above(self) -> None:
        accounts = a_tree(("root", None, 100), ("middle", "root", None), ("leaf", "middle", None))
        accounts.open("other", "middle", tokens(70))

        accounts.book("leaf", used(10))

        assert accounts.left("leaf") == accounts.left("root") == tokens(20)
        assert standing(accounts, "root") == (70, 10, 0)
        assert standing(accounts, "middle") == (70, 10, 0)

    def test_a_child_without_a_grant_is_refused_when_nothing_is_left(self) -> None:
        accounts = a_tree(("parent", None, 100), ("child", "parent", 100))

        with pytest.raises(BudgetExceeded, match=r"0 tokens are left .* none asked for"):
            accounts.open("next", "parent", UNLIMITED)

    def test_a_child_of_an_unlimited_parent_may_ask_for_anything(self) -> None:
        accounts = a_tree(("parent", None, None), ("child", "parent", MAX_INT))

        assert accounts.left("parent") == UNLIMITED
        assert accounts.left("child") == tokens(MAX_INT)

    def test_a_parent_without_an_account_sets_no_limit(self) -> None:
        accounts = Accounts([])

        account = accounts.open("child", "unknown", tokens(5))

        assert account.parent_id is None


class TestBooking:
    def test_the_same_totals_again_change_nothing(self) -> None:
        accounts = a_tree(("task", None, 100))

        accounts.book("task", used(30))
        accounts.book("task", used(30))

        assert standing(accounts, "task") == (0, 30, 0)

    def test_records_what_goes_over_the_grant_beside_it(self) -> None:
        accounts = a_tree(("task", None, 100))

        accounts.book("task", used(130))

        assert standing(accounts, "task") == (0, 100, 30)
        assert accounts.left("task") == tokens(0)

    def test_an_overspend_is_covered_once_there_is_room(self) -> None:
        accounts = a_tree(("parent", None, 100), ("child", "parent", 60))
        accounts.book("parent", used(50))
        before = standing(accounts, "parent")

        accounts.settle("child")

        assert before == (60, 40, 10)
        assert standing(accounts, "parent") == (0, 50, 0)

    def test_believes_no_amount_that_cannot_be_counted(self) -> None:
        accounts = a_tree(("task", None, None))

        accounts.book("task", used(2**62))

        assert standing(accounts, "task") == (0, MAX_INT, 0)


class TestSettling:
    def test_hands_up_what_was_used_and_gives_back_the_rest(self) -> None:
        accounts = a_tree(("parent", None, 100), ("child", "parent", 60))
        accounts.book("child", used(45))

        accounts.settle("child")
        accounts.settle("child")

        assert standing(accounts, "parent") == (0, 45, 0)
        assert accounts.left("parent") == tokens(55)

    def test_hands_up_an_overspend_too(self) -> None:
        accounts = a_tree(("parent", None, 100), ("child", "parent", 60))
        accounts.book("child", used(120))

        accounts.settle("child")

        assert standing(accounts, "parent") == (0, 100, 20)

    def test_late_spend_of_a_settled_child_reaches_its_parent(self) -> None:
        accounts = a_tree(("root", None, 100), ("parent", "root", 80), ("child", "parent", 60))
        for name in ("child", "parent", "root"):
            accounts.settle(name)

        accounts.book("child", used(7))

        assert [standing(accounts, name) for name in ("root", "parent", "child")] == [(0, 7, 0)] * 3

    def test_keeps_what_running_children_hold(self) -> None:
        accounts = a_tree(("root", None, 100), ("parent", "root", 80), ("child", "parent", 30))
        accounts.book("parent", used(10))

        accounts.settle("parent")

        assert standing(accounts, "root") == (30, 10, 0)
        accounts.book("child", used(5))
        accounts.settle("child")
        assert standing(accounts, "root") == (0, 15, 0)
        assert standing(accounts, "parent") == (0, 15, 0)

    def test_a_settled_parent_promises_no_more_than_the_tasks_above_have(self) -> None:
        accounts = a_tree(
            ("root", None, 100),
            ("parent", "root", 80),
            ("child", "parent", None),
            ("greedy", "root", 15),
        )
        accounts.settle("parent")
        accounts.open("other", "root", tokens(70))

        assert accounts.left("child") == tokens(15)
        accounts.open("grandchild", "child", tokens(15))

        assert accounts.left("root") == tokens(0)
        assert standing(accounts, "parent") == (15, 0, 0)

    def test_lists_what_must_be_written(self) -> None:
        accounts = a_tree(("b", None, 10), ("a", None, 10), ("c", "a", 5))

        assert [account.task_id for account in accounts.changed()] == ["a"]
        accounts.settle("c")
        accounts.book("b", NOTHING)
        assert [account.task_id for account in accounts.changed()] == ["a", "c"]


def test_names_what_is_used_up() -> None:
    assert used_up((5, None, 0, None)) == "LLM calls"
    assert used_up((5, None, 1, None)) is None


PARENTS = {"a": None, "b": "a", "c": "a", "d": "b", "e": "d"}
steps = st.lists(
    st.tuples(
        st.sampled_from(["open", "book", "settle"]),
        st.sampled_from(sorted(PARENTS)),
        st.none() | st.integers(1, 50),
    ),
    max_size=40,
)


@given(steps)
def test_whatever_happens_every_amount_is_counted_once_on_its_way_up(
    steps: list[tuple[str, str, int | None]],
) -> None:
    accounts, own = Accounts([]), dict.fromkeys(PARENTS, 0)
    for step, name, amount in steps:
        parent = PARENTS[name]
        if step == "open" and name not in accounts and (parent is None or parent in accounts):
            try:
                accounts.open(name, parent, tokens(amount))
            except BudgetExceeded:
                continue
        elif step == "book" and name in accounts:
            own[name] += amount or 0
            accounts.book(name, used(own[name]))
        elif step == "settle" and name in accounts:
            accounts.settle(name)
        _must_add_up(accounts, own)


def _must_add_up(accounts: Accounts, own: dict[str, int]) -> None:
    for name in PARENTS:
        if name not in accounts:
            continue
        account = accounts[name]
        children = [
            accounts[child]
            for child, parent in PARENTS.items()
            if parent == name and child in accounts
        ]
        reserved, spent, over = standing(accounts, name)
        assert reserved == sum(child.held(0) for child in children)
        assert spent + over == own[name] + sum(child.moved(0) for child in children)
        assert min(reserved, spent, over) >= 0
        grant = account.granted[0]
        assert over == 0 if grant is None else over == max(0, spent + over + reserved - grant)

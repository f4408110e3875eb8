"""What must hold of budgets at every commit, as SQL that returns only what does not.

The rules say what `octarm.ledger.domain.budgets` keeps: what an account holds and has used
is its own and its children's, each counted once on its way up.
"""

from typing import Final

from octarm.verify.ledger_rules import LedgerRule

_NAMES: Final = ("tokens", "microdollars", "calls", "ms")
_ATTEMPTS: Final = {
    "tokens": "tokens_used",
    "microdollars": "cost_microdollars",
    "calls": "llm_calls",
}
_TABLES: Final = ("budget", "spend")


def _any(condition: str) -> str:
    """Ask a condition of all four dimensions; `#` stands for the name of one."""
    return " or ".join(f"({condition.replace('#', name)})" for name in _NAMES)


def _each(expression: str) -> str:
    return ", ".join(expression.replace("#", name) for name in _NAMES)


_BELOW: Final = f"""
select parent_id, {
    _each(
        "sum(case when granted_# is null or settled_at is not null then reserved_#"
        " else granted_# end) as held_#, sum(case when granted_# is null or settled_at is not null"
        " then spent_# + over_# else 0 end) as moved_#"
    )
} from ledger.budget where parent_id is not null group by parent_id
"""

BUDGET_RULES: Final = (
    LedgerRule(
        "I5",
        "a budget promises more than was granted",
        "The table's check is gone, or was switched off.",
        "select task_id, 'reserved + spent > granted' from ledger.budget where "
        + _any("reserved_# + spent_# > granted_#"),
        tables=_TABLES,
    ),
    LedgerRule(
        "I5",
        "a budget reserves what its children do not hold",
        "Accepting and settling must change parent and child in one transaction.",
        f"select b.task_id, 'reserved' from ledger.budget b left join ({_BELOW}) k"
        " on k.parent_id = b.task_id where " + _any("b.reserved_# <> coalesce(k.held_#, 0)"),
        tables=_TABLES,
    ),
    LedgerRule(
        "I5",
        "a budget counts more or less than its task and the children have used",
        "What children used must be handed up once.",
        f"select b.task_id, 'spent' from ledger.budget b left join ({_BELOW}) k"
        " on k.parent_id = b.task_id where "
        + _any("b.spent_# + b.over_# <> b.used_# + coalesce(k.moved_#, 0)"),
        tables=_TABLES,
    ),
    LedgerRule(
        "I5",
        "a budget is said to be overspent though it covers what was used",
        "Spend is over only as far as the grant does not cover it.",
        "select task_id, 'over' from ledger.budget where "
        + _any("over_# > 0 and (granted_# is null or reserved_# + spent_# < granted_#)"),
        tables=_TABLES,
    ),
    LedgerRule(
        "I5",
        "a budget does not count what the attempts have used",
        "Attempts and budget must change in one transaction.",
        "select b.task_id, 'used' from ledger.budget b left join (select task_id, "
        + ", ".join(f"sum({column}) as {name}" for name, column in _ATTEMPTS.items())
        + " from ledger.attempt group by task_id) a on a.task_id = b.task_id where "
        + " or ".join(
            f"b.used_{name} <> least(coalesce(a.{name}, 0), 1::bigint << 53)" for name in _ATTEMPTS
        ),
        tables=_TABLES,
    ),
    LedgerRule(
        "I5",
        "an attempt counts less than its calls have cost",
        "Calls and their attempt must change in one transaction.",
        """
        select s.task_id, s.attempt::text from (
            select task_id, attempt, sum(tokens) as tokens, sum(microdollars) as microdollars,
                sum(llm_calls) as calls from ledger.spend group by 1, 2) s
        left join ledger.attempt a on a.task_id = s.task_id and a.attempt = s.attempt
        where coalesce(a.tokens_used, -1) < least(s.tokens, 1::bigint << 53)
            or coalesce(a.cost_microdollars, -1) < least(s.microdollars, 1::bigint << 53)
            or coalesce(a.llm_calls, -1) < least(s.calls, 1::bigint << 53)
        """,
        tables=_TABLES,
    ),
    LedgerRule(
        "I5",
        "a task has ended and its budget is not settled",
        "The reconciler settles such budgets every few seconds: does it run?",
        "select b.task_id, t.state from ledger.budget b join ledger.task t on t.id = b.task_id"
        " where b.settled_at is null and t.terminal_at < now() - make_interval(secs => %(grace)s)",
        tables=_TABLES,
    ),
    LedgerRule(
        "I5",
        "a budget is settled though its task goes on",
        "Only the end of a task settles its budget.",
        "select b.task_id, t.state from ledger.budget b join ledger.task t on t.id = b.task_id"
        " where b.settled_at is not null and t.terminal_at is null",
        tables=_TABLES,
    ),
    LedgerRule(
        "I5",
        "a child of a task with a budget has none",
        "Accepting must give every task below a budget an account.",
        "select t.id, p.task_id from ledger.task t"
        " join ledger.budget p on p.task_id = t.parent_id left join ledger.budget b"
        " on b.task_id = t.id where b.parent_id is distinct from p.task_id",
        tables=_TABLES,
    ),
    LedgerRule(
        "I5",
        "something is reserved though all work is done",
        "What ended tasks held must have been given back.",
        "select task_id, 'reserved' from ledger.budget where " + _any("reserved_# <> 0"),
        when_idle=True,
        tables=_TABLES,
    ),
    LedgerRule(
        "I2",
        "a budget of a task that is not in the ledger",
        "A refused or lost task has left its budget behind.",
        "select b.task_id, coalesce(b.parent_id, '') from ledger.budget b"
        " left join ledger.task t on t.id = b.task_id where t.id is null",
        tables=_TABLES,
    ),
    LedgerRule(
        "I2",
        "a spend of a task that is not in the ledger",
        "Something was charged that was never accepted.",
        "select s.task_id, s.attempt::text from ledger.spend s"
        " left join ledger.task t on t.id = s.task_id where t.id is null",
        tables=_TABLES,
    ),
)

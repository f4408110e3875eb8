"""Budgets: grants, what is reserved of them and spent, and the spend of each call."""

from alembic import op

revision = "0004"
down_revision = "0003"

# The checks are the last guard; that they hold is the work of `domain.budgets`.
TABLES = """
alter table ledger.attempt add column time_ms bigint;

create table ledger.budget (
    task_id text collate "C" primary key,
    parent_id text collate "C",
    path text[] collate "C" not null,
    granted_tokens bigint,
    reserved_tokens bigint not null default 0,
    spent_tokens bigint not null default 0,
    over_tokens bigint not null default 0,
    used_tokens bigint not null default 0,
    granted_microdollars bigint,
    reserved_microdollars bigint not null default 0,
    spent_microdollars bigint not null default 0,
    over_microdollars bigint not null default 0,
    used_microdollars bigint not null default 0,
    granted_calls bigint,
    reserved_calls bigint not null default 0,
    spent_calls bigint not null default 0,
    over_calls bigint not null default 0,
    used_calls bigint not null default 0,
    granted_ms bigint,
    reserved_ms bigint not null default 0,
    spent_ms bigint not null default 0,
    over_ms bigint not null default 0,
    used_ms bigint not null default 0,
    settled_at timestamptz,
    version integer not null default 0,
    check (reserved_tokens + spent_tokens <= granted_tokens),
    check (reserved_microdollars + spent_microdollars <= granted_microdollars),
    check (reserved_calls + spent_calls <= granted_calls),
    check (reserved_ms + spent_ms <= granted_ms),
    check (least(granted_tokens, granted_microdollars, granted_calls, granted_ms) > 0),
    check (least(reserved_tokens, reserved_microdollars, reserved_calls, reserved_ms) >= 0),
    check (least(spent_tokens, spent_microdollars, spent_calls, spent_ms) >= 0),
    check (least(over_tokens, over_microdollars, over_calls, over_ms) >= 0)
) with (fillfactor = 50);
create index budget_open on ledger.budget (task_id) where settled_at is null;

create table ledger.spend (
    task_id text collate "C" not null,
    attempt integer not null,
    call_no bigint not null,
    tokens bigint not null,
    microdollars bigint not null,
    llm_calls bigint not null,
    received_at timestamptz not null default now(),
    primary key (task_id, attempt, call_no)
);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    op.execute("drop table ledger.budget, ledger.spend")
    op.execute("alter table ledger.attempt drop column time_ms")

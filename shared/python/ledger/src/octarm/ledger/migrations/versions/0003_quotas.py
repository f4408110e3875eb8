"""Count the tasks of tenants that have a quota, and hold what is too many."""

from alembic import op

revision = "0003"
down_revision = "0002"

# Only tasks of such tenants are in these indexes: the others pay nothing.
STATEMENTS = (
    "alter table ledger.task add column limited boolean not null default false,"
    " add column held boolean not null default false",
    "create index task_limited on ledger.task (tenant, state)"
    " where limited and terminal_at is null",
    "create index task_held on ledger.task (tenant, tier desc, priority, created_at)"
    " where held and state = 'waiting'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop index ledger.task_held")
    op.execute("drop index ledger.task_limited")
    op.execute("alter table ledger.task drop column held, drop column limited")

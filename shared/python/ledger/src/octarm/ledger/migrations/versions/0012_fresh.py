"""Let a short attempt end without touching any index: list tasks by columns that it leaves null."""

from alembic import op

revision = "0012"
down_revision = "0011"

# An update is written beside the old row, and into no index, when no indexed column changes
# (docs/adr/fresh-tasks-are-in-no-list.md). Processes that know nothing of `fresh` write tasks that
# are listed as before; the columns are made by Postgres, whoever moves a task.
OPEN = "'waiting', 'queued', 'dispatched', 'running', 'validating'"
MISSED = "'failed', 'cancelled', 'timed_out', 'rejected'"
_UNLISTED = "fresh and attempt = 1 and not limited and state = 'queued'"
LISTS = ("waiting", "queued", "deadline", "limited", "held", "missed")
STATEMENTS = (
    f"drop index {', '.join(f'ledger.task_{name}' for name in LISTS)}",
    "alter table ledger.task set (fillfactor = 50)",
    "alter table ledger.task add column fresh boolean not null default false",
    "alter table ledger.task add column listed_state text generated always as"
    f" (case when state <> 'completed' and not ({_UNLISTED}) then state end) stored,"
    " add column queued_since timestamptz generated always as"
    f" (case when state = 'queued' and not ({_UNLISTED}) then updated_at end) stored",
    "create index task_waiting on ledger.task (not_before) where listed_state = 'waiting'",
    "create index task_queued on ledger.task (queued_since) where queued_since is not null",
    "create index task_deadline on ledger.task (deadline)"
    f" where deadline is not null and listed_state in ({OPEN})",
    "create index task_limited on ledger.task (tenant, listed_state)"
    f" where limited and listed_state in ({OPEN})",
    "create index task_held on ledger.task (tenant, tier desc, priority, created_at)"
    " where held and listed_state = 'waiting'",
    "create index task_missed on ledger.task (tenant, listed_state, id)"
    f" where listed_state in ({MISSED})",
    # A row for each commit that wrote fresh tasks: between which ids they are.
    'create table ledger.fresh (first_id text collate "C" primary key,'
    ' last_id text collate "C" not null, accepted_at timestamptz not null default now())',
)
BEFORE = (
    "create index task_waiting on ledger.task (not_before) where state = 'waiting'",
    "create index task_queued on ledger.task (updated_at) where state = 'queued'",
    "create index task_deadline on ledger.task (deadline)"
    " where deadline is not null and terminal_at is null",
    "create index task_limited on ledger.task (tenant, state)"
    " where limited and terminal_at is null",
    "create index task_held on ledger.task (tenant, tier desc, priority, created_at)"
    " where held and state = 'waiting'",
    f"create index task_missed on ledger.task (tenant, state, id) where state in ({MISSED})",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop table ledger.fresh")
    op.execute(
        "alter table ledger.task drop column queued_since, drop column listed_state,"
        " drop column fresh"
    )
    op.execute("alter table ledger.task set (fillfactor = 100)")
    for statement in BEFORE:
        op.execute(statement)

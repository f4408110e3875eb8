"""Cancelling with proof, and tasks that wait for others."""

from alembic import op

revision = "0007"
down_revision = "0006"

# `blocked` holds a row for each task that waits for others, so that who waits for nobody costs
# nothing: no column and no index of `task` that a task without dependencies would write.
TABLES = """
alter table ledger.task add column cancelling_since timestamptz, add column proof text;
alter table ledger.attempt add column proof text;
create index task_cancelling on ledger.task (cancelling_since) where cancelling_since is not null;
create index task_children on ledger.task (parent_id) where parent_id is not null;
create table ledger.blocked (
    task_id text collate "C" primary key,
    on_failure text not null default 'fail'
);
insert into ledger.blocked (task_id)
    select distinct d.task_id from ledger.dependency d
    join ledger.task t on t.id = d.task_id where t.state = 'waiting'
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop table ledger.blocked")
    op.execute("drop index ledger.task_cancelling, ledger.task_children")
    op.execute("alter table ledger.attempt drop column proof")
    op.execute("alter table ledger.task drop column cancelling_since, drop column proof")

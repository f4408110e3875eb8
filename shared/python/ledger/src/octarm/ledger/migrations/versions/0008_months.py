"""History by month: what is there becomes the partition of everything without a month."""

from alembic import op

revision = "0008"
down_revision = "0007"

TABLES = ("attempt", "result", "late_result", "spend")


def upgrade() -> None:
    # Nothing is copied. Months are made by the orchestrator, ahead of their first task.
    for table in TABLES:
        op.execute(f"alter table ledger.{table} rename to {table}_default")
        op.execute(
            f"create table ledger.{table} (like ledger.{table}_default including all)"
            " partition by range (task_id)"
        )
        op.execute(f"alter table ledger.{table} attach partition ledger.{table}_default default")


def downgrade() -> None:
    for table in TABLES:
        whole = f"ledger.{table}_whole"
        op.execute(f"create table {whole} as table ledger.{table}")
        op.execute(f"drop table ledger.{table}")
        op.execute(f"alter table {whole} rename to {table}")
    for table in ("attempt", "late_result"):
        op.execute(f"alter table ledger.{table} add primary key (task_id, attempt)")
    op.execute("alter table ledger.result add primary key (task_id)")
    op.execute("alter table ledger.spend add primary key (task_id, attempt, call_no)")

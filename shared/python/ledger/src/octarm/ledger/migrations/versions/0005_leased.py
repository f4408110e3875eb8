"""Let no attempt be under way that nobody would miss."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(
        "alter table ledger.task add constraint task_leased check (lease_until is not null"
        " or state not in ('dispatched', 'running', 'validating')) not valid"
    )


def downgrade() -> None:
    op.execute("alter table ledger.task drop constraint task_leased")

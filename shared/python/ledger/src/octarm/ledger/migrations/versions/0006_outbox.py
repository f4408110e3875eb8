"""Keep outbox rows as they are: they live for milliseconds, and compressing them cost an eighth."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("alter table ledger.outbox alter column messages set storage external")


def downgrade() -> None:
    op.execute("alter table ledger.outbox alter column messages set storage extended")

"""Find queued tasks by how long they have waited."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("create index task_queued on ledger.task (updated_at) where state = 'queued'")


def downgrade() -> None:
    op.execute("drop index ledger.task_queued")

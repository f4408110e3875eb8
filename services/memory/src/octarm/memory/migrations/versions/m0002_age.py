"""Find old episodes; they come in the order of their time, so a few bytes per range are enough."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index episode_age on memory.episode using brin (created_at)")


def downgrade() -> None:
    op.execute("drop index memory.episode_age")

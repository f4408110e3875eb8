"""Episodes of finished tasks."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Ids order by time, and collation "C" compares them as bytes. `json`, not `jsonb`: what an
    # arm wrote is given back as it was, \u0000 included. A task has one episode whose id
    # follows from the task's, so looking one up by task needs no index of its own.
    op.execute(
        """
        create table memory.episode (
            tenant text collate "C" not null,
            episode_id text collate "C" not null,
            arm_id text collate "C",
            created_at timestamptz not null,
            body json not null,
            primary key (tenant, episode_id)
        )
        """
    )
    op.execute(
        """
        create index episode_of_arm on memory.episode (tenant, arm_id, episode_id)
        """
    )


def downgrade() -> None:
    op.execute("drop table memory.episode")

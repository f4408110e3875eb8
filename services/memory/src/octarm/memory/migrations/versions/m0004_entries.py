"""Episodes that arms write entry by entry, and what must not come back."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Of a finished task's own episode the columns stay as they are: its id tells its task.
    op.execute(
        """
        alter table memory.episode
            add column task_id text collate "C",
            add column tags text[] not null default '{}',
            add column retention text not null default 'normal'
        """
    )
    op.execute(
        """
        create index episode_of_task on memory.episode (tenant, task_id, episode_id)
        where task_id is not null
        """
    )
    op.execute(
        """
        create index episode_tags on memory.episode using gin (tags) where tags <> '{}'
        """
    )
    _create_tables()


def _create_tables() -> None:
    op.execute(
        """
        create table memory.episode_entry (
            tenant text collate "C" not null,
            episode_id text collate "C" not null,
            entry_id text collate "C" not null,
            seq bigint not null,
            kind text not null,
            body json not null,
            ttl_seconds integer,
            written_at timestamptz not null default now(),
            primary key (tenant, episode_id, entry_id)
        )
        """
    )
    op.execute(
        """
        create index episode_entry_age on memory.episode_entry using brin (written_at)
        """
    )
    # A write may come late, from the stream, when its episode has been forgotten.
    op.execute(
        """
        create table memory.episode_gone (
            tenant text collate "C" not null,
            episode_id text collate "C" not null,
            forgotten_at timestamptz not null default now(),
            primary key (tenant, episode_id)
        )
        """
    )


def downgrade() -> None:
    op.execute("drop table memory.episode_gone")
    op.execute("drop table memory.episode_entry")
    op.execute("alter table memory.episode drop column task_id, drop column tags")
    op.execute("alter table memory.episode drop column retention")

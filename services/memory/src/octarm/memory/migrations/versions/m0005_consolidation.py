"""Which episodes are still to be looked through for what is worth keeping, and what was seen."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table memory.consolidation (
            tenant text collate "C" not null,
            episode_id text collate "C" not null,
            written_at timestamptz not null,
            due_at timestamptz not null,
            done_at timestamptz,
            tries int not null default 0,
            primary key (tenant, episode_id)
        )
        """
    )
    op.execute(
        "create index consolidation_due on memory.consolidation (due_at) where done_at is null"
    )
    _cursor()
    _sightings()


def _cursor() -> None:
    # Up to when entries were looked at; the one row is also the lock of whoever looks.
    op.execute(
        """
        create table memory.consolidation_cursor (
            one boolean primary key default true check (one),
            seen_until timestamptz not null
        )
        """
    )
    op.execute(
        """
        insert into memory.consolidation_cursor (seen_until)
        select coalesce(min(written_at), now()) from memory.episode_entry
        """
    )


def _sightings() -> None:
    op.execute(
        """
        create table memory.sighting (
            tenant text collate "C" not null,
            arm_id text collate "C" not null,
            digest bytea not null,
            episode_id text collate "C" not null,
            seen_at timestamptz not null default now(),
            primary key (tenant, arm_id, digest, episode_id)
        )
        """
    )
    op.execute("create index sighting_age on memory.sighting using brin (seen_at)")


def downgrade() -> None:
    op.execute("drop table memory.sighting, memory.consolidation_cursor, memory.consolidation")

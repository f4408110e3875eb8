"""Erasures: what is under way, and the receipts of what is done."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Whom it is about is kept for as long as it is worked on, and not after; so is `erased`.
    op.execute(
        """
        create table memory.erasure (
            erasure_id text collate "C" primary key,
            tenant_sha256 bytea not null,
            subject_sha256 bytea not null,
            kind text not null,
            asked json,
            counts json not null default '{}',
            begun_at timestamptz not null default date_trunc('milliseconds', clock_timestamp()),
            finished_at timestamptz,
            digest bytea,
            check ((asked is null) = (finished_at is not null))
        )
        """
    )
    op.execute("create index erasure_running on memory.erasure (begun_at) where asked is not null")
    op.execute(
        """
        create table memory.erased (
            erasure_id text collate "C" not null,
            id text collate "C" not null,
            primary key (erasure_id, id)
        )
        """
    )


def downgrade() -> None:
    op.execute("drop table memory.erased, memory.erasure")

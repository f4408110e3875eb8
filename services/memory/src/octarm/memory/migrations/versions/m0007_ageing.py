"""Find old memories, and write down what the fleet is to be told of memories."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index semantic_age on memory.semantic using brin (kept_at)")
    op.execute(
        """
        create table memory.untold (
            seq bigint generated always as identity primary key,
            tenant text collate "C" not null,
            memory_id text collate "C" not null,
            verb text collate "C" not null,
            at timestamptz not null default date_trunc('milliseconds', clock_timestamp())
        )
        """
    )
    op.execute("grant insert on memory.untold to octarm_memory")
    op.execute("alter table memory.untold enable row level security")
    op.execute(
        """
        create policy own_tenant on memory.untold to octarm_memory
            with check (tenant = current_setting('octarm.tenant', true))
        """
    )


def downgrade() -> None:
    op.execute("drop table memory.untold")
    op.execute("drop index memory.semantic_age")

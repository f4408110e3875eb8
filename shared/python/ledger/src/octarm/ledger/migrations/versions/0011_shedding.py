"""The load-shedding switch: a row for each time that it is put, the last holds."""

from alembic import op

revision = "0011"
down_revision = "0010"

TABLE = """
create table ledger.shedding (
    id bigint generated always as identity primary key,
    tenant text collate "C",
    mode text not null,
    reason text not null,
    switched_by text not null,
    switched_at timestamptz not null default now(),
    until timestamptz
)
"""
# Found without reading what was put before.
LAST = "create index shedding_last on ledger.shedding (tenant, id desc)"


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(LAST)


def downgrade() -> None:
    op.execute("drop table ledger.shedding")

"""Leave no room in pages: hardly any update of these tables could use it."""

from alembic import op

revision = "0009"
down_revision = "0008"

# The state of a task is in its indexes, so no update of it stays on its page; attempts are
# written once.
_MONTHS = """
do $$ declare part regclass; begin
    for part in select inhrelid::regclass from pg_inherits
        where inhparent = 'ledger.attempt'::regclass
    loop execute format('alter table %s set (fillfactor = {})', part); end loop;
end $$
"""


def upgrade() -> None:
    op.execute("alter table ledger.task set (fillfactor = 100)")
    op.execute(_MONTHS.format(100))


def downgrade() -> None:
    op.execute("alter table ledger.task set (fillfactor = 70)")
    op.execute(_MONTHS.format(80))

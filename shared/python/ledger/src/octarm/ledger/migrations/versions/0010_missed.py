"""Find what has failed without reading all that has completed."""

from alembic import op

revision = "0010"
down_revision = "0009"

_MISSED = "'failed', 'cancelled', 'timed_out', 'rejected'"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # One that could not be finished is there, but serves nobody.
        op.execute("drop index concurrently if exists ledger.task_missed")
        op.execute(
            "create index concurrently task_missed on ledger.task (tenant, state, id)"
            f" where state in ({_MISSED})"
        )


def downgrade() -> None:
    op.execute("drop index ledger.task_missed")

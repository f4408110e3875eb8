"""Episodes are read behind the same wall as memories: the rows of one tenant, and no others.

Writers work as the owner, because a batch from the stream holds episodes of many tenants.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = ("episode", "episode_entry", "episode_gone")


def upgrade() -> None:
    for table in TABLES:
        op.execute(f"grant select on memory.{table} to octarm_memory")
        op.execute(f"alter table memory.{table} enable row level security")
        op.execute(
            f"create policy own_tenant on memory.{table} for select to octarm_memory"
            " using (tenant = current_setting('octarm.tenant', true))"
        )
    # Behind a policy the index of tags cannot be used (`@>` is not leakproof): a function of the
    # owner uses it, and takes the tenant from where the policy takes it.
    op.execute(
        """
        create function memory.tagged(p_tag text) returns setof text
        language sql stable security definer set search_path = pg_catalog, pg_temp as $$
            select episode_id from memory.episode
            where tenant = current_setting('octarm.tenant', true)
                and tags <> '{}' and tags @> array[p_tag]
        $$
        """
    )
    op.execute("revoke all on function memory.tagged from public")
    op.execute("grant execute on function memory.tagged to octarm_memory")


def downgrade() -> None:
    op.execute("drop function memory.tagged")
    for table in TABLES:
        op.execute(f"drop policy own_tenant on memory.{table}")
        op.execute(f"alter table memory.{table} disable row level security")
        op.execute(f"revoke all on memory.{table} from octarm_memory")

"""The ledger's first tables."""

from alembic import op

revision = "0001"
down_revision = None

# Bodies are `json`, not `jsonb`: kept letter by letter, so that what a client or an arm wrote
# (escaped NUL included) can neither be changed nor make a commit fail.
TABLES = """
create table ledger.task (
    id text collate "C" primary key,
    tenant text not null,
    idem_key text,
    req_hash bytea not null,
    state text not null,
    attempt integer not null default 1,
    event_seq integer not null,
    arm_id text,
    instance_id text,
    dispatch_seq bigint,
    lease_until timestamptz,
    started_at timestamptz,
    not_before timestamptz,
    deadline timestamptz,
    timeout_s integer not null,
    max_retries smallint not null,
    priority smallint not null,
    tier text not null,
    parent_id text collate "C",
    root_id text collate "C" not null,
    depth smallint not null default 0,
    labels jsonb,
    goal text not null default '',
    contract json not null,
    traceparent text not null default '',
    error json,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    terminal_at timestamptz
) with (fillfactor = 70);

create unique index task_idem on ledger.task (tenant, idem_key) where idem_key is not null;
create index task_tenant on ledger.task (tenant, id);
create index task_lease on ledger.task (lease_until) where lease_until is not null;
create index task_waiting on ledger.task (not_before) where state = 'waiting';
create index task_deadline on ledger.task (deadline)
    where deadline is not null and terminal_at is null;
create index task_parent on ledger.task (root_id) where depth > 0;

create table ledger.dependency (
    task_id text collate "C" not null references ledger.task on delete cascade,
    needs_task_id text collate "C" not null,
    primary key (task_id, needs_task_id)
);
create index dependency_needs on ledger.dependency (needs_task_id);

create table ledger.attempt (
    task_id text collate "C" not null,
    attempt integer not null,
    arm_id text,
    instance_id text,
    placed_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    outcome text,
    reason text,
    decision json,
    tokens_used bigint not null default 0,
    cost_microdollars bigint not null default 0,
    llm_calls bigint not null default 0,
    primary key (task_id, attempt)
) with (fillfactor = 80);

create table ledger.result (
    task_id text collate "C" primary key,
    attempt integer not null,
    body json not null,
    sha256 bytea not null,
    received_at timestamptz not null default now()
);

create table ledger.late_result (
    task_id text collate "C" not null,
    attempt integer not null,
    body json not null,
    received_at timestamptz not null default now(),
    primary key (task_id, attempt)
);

-- One row holds all messages of one commit: they were decided together and are published
-- together, under Msg-Ids that are fixed here.
create table ledger.outbox (
    seq bigint generated always as identity primary key,
    messages bytea not null,
    created_at timestamptz not null default now()
);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    op.execute("drop schema ledger cascade")

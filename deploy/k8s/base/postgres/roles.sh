#!/bin/bash
# Run once, when the database is made: a role for each service that keeps something here. Each
# makes its own schema by its migration Job and cannot read the other's.
set -euo pipefail
for role in orchestrator memory; do
  psql --set ON_ERROR_STOP=1 --username postgres --dbname octarm \
    --set role="$role" --set password="$(cat "/run/secrets/postgres/$role")" <<'SQL'
create role :"role" login password :'password';
grant create on database octarm to :"role";
SQL
done
psql --set ON_ERROR_STOP=1 --username postgres --dbname octarm <<'SQL'
revoke create on schema public from public;
create extension if not exists vector;
-- What memory steps down to for the rows of one tenant; it may not make roles itself.
select 'create role octarm_memory nologin nobypassrls'
where not exists (select from pg_roles where rolname = 'octarm_memory') \gexec
grant octarm_memory to memory;
SQL

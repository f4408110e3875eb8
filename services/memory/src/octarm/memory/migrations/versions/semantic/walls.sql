-- A role belongs to the whole server: another database of it may make it at the same time, and where
-- this service may not make roles it has been made beforehand.
do $$
begin
    if not exists (select from pg_roles where rolname = 'octarm_memory') then
        create role octarm_memory nologin nobypassrls;
    end if;
exception when duplicate_object or unique_violation then
    null;
end
$$;
do $$
begin
    if not pg_has_role(current_user, 'octarm_memory', 'set') then
        execute format('grant octarm_memory to %I', current_user);
    end if;
end
$$;

grant usage on schema memory to octarm_memory;
grant select, insert, update, delete on memory.semantic to octarm_memory;
grant select on memory.space to octarm_memory;
grant insert on memory.audit to octarm_memory;

alter table memory.semantic enable row level security;
create policy own_tenant on memory.semantic to octarm_memory
    using (tenant = current_setting('octarm.tenant', true))
    with check (tenant = current_setting('octarm.tenant', true));
alter table memory.audit enable row level security;
create policy own_tenant on memory.audit to octarm_memory
    with check (tenant = current_setting('octarm.tenant', true));

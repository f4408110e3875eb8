-- Give the number of what makes vectors; the first time, with an index of its own.
create or replace function memory.space_of(p_embedder text, p_dimension int) returns smallint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    found smallint;
begin
    select s.space into found from memory.space s
    where s.embedder = p_embedder and s.dimension = p_dimension;
    if found is not null then
        return found;
    end if;
    perform pg_advisory_xact_lock(hashtext('octarm-memory-space'));
    select s.space into found from memory.space s
    where s.embedder = p_embedder and s.dimension = p_dimension;
    if found is not null then
        return found;
    end if;
    insert into memory.space (embedder, dimension) values (p_embedder, p_dimension)
    returning space into found;
    execute format(
        'create index semantic_space_%1$s on memory.semantic
         using hnsw ((vec::halfvec(%2$s)) halfvec_cosine_ops)
         with (m = 32, ef_construction = 96)
         where space = %1$s and superseded_by is null',
        found, p_dimension);
    return found;
end
$$;
revoke all on function memory.space_of from public;
grant execute on function memory.space_of to octarm_memory;

-- Take a query apart: its words with what each tells, and those rare enough to be looked for.
--
-- A word that every second text has would make the server weigh every second text. So the rarest
-- words are looked for first, as long as about `p_most` texts of the tenant have one of them; the
-- others only weigh in on what was found. Shares come from the statistics of the column.
create function memory.words_of(
    p_query text, p_tenant text, p_rows double precision, p_most int,
    out looked_for tsquery, out weights text
)
language sql stable set search_path = pg_catalog, public, pg_temp as $$
    with lexemes as (
        select q.lexeme, coalesce(w.share, 0.5 / greatest(p_rows, 1)) as share
        from unnest(to_tsvector('pg_catalog.english'::regconfig, p_query)) q
        left join memory.word w on w.lexeme = q.lexeme
        order by 2, 1 limit 32
    ), summed as (
        select lexeme, share, row_number() over (order by share, lexeme) as place,
            sum(share) over (order by share, lexeme) * p_rows as texts
        from lexemes
    )
    select
        (
            (array_to_tsvector(array['=' || p_tenant])::text)
            || ' & (' || string_agg(quote_literal(lexeme), ' | ' order by place)
                filter (where place = 1 or texts <= p_most) || ')'
        )::tsquery,
        string_agg(
            format('%L::float8 * (s.words @@ %L::tsquery)::int',
                round(ln(1 + 1 / share)::numeric, 4), quote_literal(lexeme)),
            ' + ' order by place)
    from summed
$$;

-- Give the best memories of the transaction's tenant in two lists: by words and by vector.
--
-- `p_exact` compares every vector that fits; otherwise the index is asked first, and what it
-- finds is enough only if it is as much as was asked for.
create function memory.candidates(
    p_query text, p_space smallint, p_vec halfvec, p_exact boolean, p_limit int,
    p_types text[], p_tags text[], p_any_tags text[], p_no_tags text[], p_sources text[],
    p_confidence double precision, p_since timestamptz, p_until timestamptz
) returns table (list text, memory_id text, score double precision)
language plpgsql stable security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_tenant text := current_setting('octarm.tenant', true);
    v_fits text := 's.tenant = $1 and s.superseded_by is null';
    v_rows double precision;
    v_words record;
    v_found int := 0;
    v_distance text;
begin
    if coalesce(v_tenant, '') = '' then
        raise exception 'octarm.tenant is not set' using errcode = 'insufficient_privilege';
    end if;
    v_fits := v_fits
        || case when p_types is not null then ' and s.entity_type = any($4)' else '' end
        || case when p_tags is not null then ' and s.tags @> $5' else '' end
        || case when p_any_tags is not null then ' and s.tags && $6' else '' end
        || case when p_no_tags is not null then ' and not s.tags && $7' else '' end
        || case when p_sources is not null then ' and s.source = any($8)' else '' end
        || case when p_confidence > 0 then ' and s.confidence >= $9' else '' end
        || case when p_since is not null then ' and s.found_at >= $10' else '' end
        || case when p_until is not null then ' and s.found_at < $11' else '' end;
    -- How many texts the tenant has: by the statistics if there are many, else counted.
    select w.share * c.reltuples into v_rows
    from memory.word w, pg_class c
    where w.lexeme = '=' || v_tenant and c.oid = 'memory.semantic'::regclass;
    if v_rows is null or v_rows < 5000 then
        select count(*) into v_rows
        from (select 1 from memory.semantic s where s.tenant = v_tenant limit 5000) counted;
    end if;

    if p_query <> '' then
        select * into v_words from memory.words_of(p_query, v_tenant, v_rows, 1000);
        if v_words.looked_for is not null then
            return query execute format(
                'select ''text'', f.memory_id, f.weight + ts_rank_cd(f.words, $2, 33) as score
                from (
                    select s.memory_id, s.words, %s as weight from (
                        select s.memory_id, s.words from memory.semantic s
                        where s.words @@ $2 and %s limit 4000
                    ) s order by weight desc, s.memory_id limit 2 * $3
                ) f order by score desc, f.memory_id limit $3',
                v_words.weights, v_fits)
            using v_tenant, v_words.looked_for, p_limit, p_types, p_tags, p_any_tags, p_no_tags,
                p_sources, p_confidence, p_since, p_until;
        end if;
    end if;

    if p_vec is null then
        return;
    end if;
    v_distance := format('(s.vec::halfvec(%1$s)) <=> $2::halfvec(%1$s)', vector_dims(p_vec));
    if not p_exact and v_rows >= 5000 then
        return query execute format(
            'select ''vector'', f.memory_id, 1 - f.distance from (
                select s.memory_id, %1$s as distance from memory.semantic s
                where s.space = %2$s and %3$s order by %1$s limit $3
            ) f order by f.distance, f.memory_id',
            v_distance, p_space, v_fits)
        using v_tenant, p_vec, p_limit, p_types, p_tags, p_any_tags, p_no_tags, p_sources,
            p_confidence, p_since, p_until;
        get diagnostics v_found = row_count;
        if v_found >= p_limit then
            return;
        end if;
    end if;
    -- Adding nothing keeps the index from being used. What was found already comes once more,
    -- and the first of each counts.
    return query execute format(
        'select ''exact'', f.memory_id, 1 - f.distance from (
            select s.memory_id, %1$s as distance from memory.semantic s
            where s.space = %2$s and %3$s order by (%1$s) + 0 limit $3
        ) f order by f.distance, f.memory_id',
        v_distance, p_space, v_fits)
    using v_tenant, p_vec, p_limit, p_types, p_tags, p_any_tags, p_no_tags, p_sources,
        p_confidence, p_since, p_until;
end
$$;
revoke all on function memory.candidates from public;
grant execute on function memory.candidates, memory.words_of to octarm_memory;

-- Learn anew how frequent words are; gives how many are frequent enough to be known.
create function memory.learn_words() returns bigint
language sql security definer set search_path = pg_catalog, public, pg_temp as $$
    with known as (
        -- Behind the shares of the words stand the smallest, the largest and that of nulls.
        select lexeme, share
        from pg_stats s, unnest(s.most_common_elems::text::text[], s.most_common_elem_freqs)
            as of_words (lexeme, share)
        where s.schemaname = 'memory' and s.tablename = 'semantic' and s.attname = 'words'
            and lexeme is not null
    ), gone as (
        delete from memory.word w where not exists (
            select from known k where k.lexeme = w.lexeme) and exists (select from known)
    ), kept as (
        insert into memory.word (lexeme, share) select lexeme, share from known
        on conflict (lexeme) do update set share = excluded.share
    )
    select count(*) from known
$$;
revoke all on function memory.learn_words from public;

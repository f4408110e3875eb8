create extension if not exists vector;

-- What makes vectors, by number: a partial index of each finds the nearest of its own.
create table memory.space (
    space smallint generated always as identity primary key,
    embedder text collate "C" not null,
    dimension int not null check (dimension between 1 and 4000),
    unique (embedder, dimension)
);

-- How frequent the frequent words are, copied from the statistics of `memory.semantic.words`.
create table memory.word (
    lexeme text collate "C" primary key,
    share double precision not null
);

-- `json`, not `jsonb`: what an arm wrote is given back as it was. The tenant is a lexeme too
-- (no parser makes one that begins with =), so that the index of words keeps tenants apart.
-- Halves of a float are exact enough for an angle, and take half the room.
create table memory.semantic (
    tenant text collate "C" not null,
    memory_id text collate "C" not null,
    entity_type text collate "C" not null,
    content text not null,
    content_hash bytea not null,
    words tsvector not null generated always as (
        to_tsvector('pg_catalog.english'::regconfig, content) || array_to_tsvector(array['=' || tenant])
    ) stored,
    metadata json not null,
    source text collate "C" not null,
    found_at timestamptz not null,
    confidence double precision not null,
    tags text[] collate "C" not null,
    provenance json,
    space smallint references memory.space,
    vec halfvec,
    fact bytea,
    supersedes text collate "C",
    superseded_by text collate "C",
    superseded_at timestamptz,
    ended text collate "C" check ((ended is null) = (superseded_by is null)),
    merged json not null default '[]',
    kept_at timestamptz not null default clock_timestamp(),
    primary key (tenant, memory_id)
);

-- With a list of what is pending, a search now and then would have to read it all.
create index semantic_words on memory.semantic using gin (words)
    with (fastupdate = off) where superseded_by is null;
create index semantic_tags on memory.semantic using gin (tags) with (fastupdate = off);
create index semantic_content on memory.semantic (tenant, content_hash);
create index semantic_successor on memory.semantic (tenant, superseded_by)
    where superseded_by is not null;
create index semantic_space on memory.semantic (space, tenant, memory_id);
-- Of two memories about the same, one is held for true.
create unique index semantic_fact on memory.semantic (tenant, fact)
    where superseded_by is null and fact is not null;
-- The words of most texts are more frequent than a hundred statistics can tell.
alter table memory.semantic alter column words set statistics 1000;

create table memory.audit (
    at timestamptz not null default clock_timestamp(),
    tenant text collate "C" not null,
    arm_id text collate "C",
    action text collate "C" not null,
    verdict text collate "C" not null,
    about json not null
);
create index audit_age on memory.audit using brin (at);

-- One row for each wish to have all vectors made by one maker; unfinished ones are gone on with.
create table memory.reembedding (
    space smallint primary key references memory.space,
    total bigint not null,
    done bigint not null default 0,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);

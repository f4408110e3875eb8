"""Statements that find a subject wherever memory may have it; `erasing` runs them."""

from typing import Final

from octarm.models.ids import SUFFIX

EPISODES: Final = {
    "tag": "select episode_id from memory.episode where tenant = %(tenant)s"
    " and tags <> '{}' and tags @> array[%(key)s] limit %(limit)s",
    "task": "select episode_id from memory.episode where tenant = %(tenant)s"
    " and (episode_id = %(own)s or task_id = %(key)s) limit %(limit)s",
    "tenant": "select episode_id from memory.episode where tenant = %(tenant)s limit %(limit)s",
}
# A row is derived when an id that is erased stands in what it says, or where it says it from.
IDS: Final = f"(?:mem|epi|tsk)_{SUFFIX}"
DERIVED: Final = """
exists (
    select from regexp_matches(concat_ws(' ', s.content, s.metadata::text, s.provenance::text,
        s.superseded_by), %(ids)s, 'g') as mentioned (found)
    join memory.erased e on e.erasure_id = %(erasure)s and e.id = mentioned.found[1])
"""
OF_SUBJECT: Final = {
    "tag": f"(s.tags @> array[%(key)s] or {DERIVED})",
    "task": DERIVED,
    "tenant": "true",
}
SWEEP: Final = """
with piece as (
    select * from memory.semantic s
    where s.tenant = %(tenant)s and s.memory_id > %(after)s
    order by s.memory_id limit %(limit)s
), gone as (
    delete from memory.semantic t using piece s
    where t.tenant = s.tenant and t.memory_id = s.memory_id and {condition}
    returning t.memory_id
), noted as (
    insert into memory.erased (erasure_id, id) select %(erasure)s, memory_id from gone
    on conflict do nothing
)
select (select count(*) from gone), max(memory_id), count(*) from piece
"""
# Who said the same, too, is told no more of one that is gone.
ORIGINS: Final = """
update memory.semantic s set merged = coalesce((
    select json_agg(one) from json_array_elements(s.merged) one
    where one ->> 'memory_id' not in (select id from memory.erased where erasure_id = %(erasure)s)
), '[]')
where s.tenant = %(tenant)s and s.merged::text <> '[]' and exists (
    select from json_array_elements(s.merged) one
    join memory.erased e on e.erasure_id = %(erasure)s and e.id = one ->> 'memory_id')
"""
AUDIT: Final = {
    "tenant": "delete from memory.audit where tenant = %(tenant)s",
    "tag": """
        update memory.audit set about = replace(about::text, %(quoted)s, '"<erased>"')::json
        where tenant = %(tenant)s and position(%(quoted)s in about::text) > 0
    """,
    "task": """
        update memory.audit set about = replace(about::text, %(key)s, '<erased>')::json
        where tenant = %(tenant)s and position(%(key)s in about::text) > 0
    """,
}
OF_TENANT: Final = (
    ("episode_entry", "delete from memory.episode_entry where tenant = %(tenant)s"),
    ("consolidation", "delete from memory.consolidation where tenant = %(tenant)s"),
    ("sighting", "delete from memory.sighting where tenant = %(tenant)s"),
    ("episode_gone", "delete from memory.episode_gone where tenant = %(tenant)s"),
    ("untold", "delete from memory.untold where tenant = %(tenant)s"),
)
# What was noted of single episodes on the way to memories.
OF_EPISODES: Final = (
    "delete from memory.consolidation where tenant = %s and episode_id = any(%s)",
    "delete from memory.sighting where tenant = %s and episode_id = any(%s)",
)
# What nobody says any more; and samples of what was said, in the statistics of the planner.
WORDS: Final = """
delete from memory.word w where not exists (
    select from memory.semantic s
    where s.superseded_by is null and s.words @@ quote_literal(w.lexeme)::tsquery)
"""
TABLES: Final = (
    *("semantic", "episode", "episode_entry", "episode_gone", "consolidation", "sighting"),
    *("audit", "erasure", "untold"),
)
# Of a table that has become empty, Postgres keeps its last samples (up to 17: until it has rows).
SAMPLES: Final = """
do $$
declare
    sampled record;
    left_over boolean;
begin
    if to_regproc('pg_catalog.pg_clear_attribute_stats') is null then
        return;
    end if;
    for sampled in
        select s.* from pg_stats s join pg_tables t using (schemaname, tablename)
        where schemaname = 'memory'
    loop
        execute format('select not exists (select from memory.%I)', sampled.tablename)
            into left_over;
        if left_over then
            perform pg_clear_attribute_stats(
                'memory', sampled.tablename, sampled.attname, sampled.inherited);
        end if;
    end loop;
end
$$
"""

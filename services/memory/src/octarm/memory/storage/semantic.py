"""What the fleet knows, in the table `memory.semantic`: finding, showing, forgetting."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from octarm.common.storage.connections import Pool
from octarm.memory.domain.access import Narrowed
from octarm.memory.domain.ranking import Candidate
from octarm.memory.storage.audit import insert_audit
from octarm.memory.storage.walls import as_vector, behind_wall
from octarm.memory.usecases.knowledge import Audited, Lists, Space, VectorAsked
from octarm.models.semantic import MemoryFilter, SemanticMemory

MAX_HISTORY: Final = 100

_COLUMNS: Final = """
    s.memory_id, s.tenant, s.entity_type, s.content, s.metadata, s.source,
    s.found_at as timestamp, s.confidence, s.tags, s.provenance,
    encode(s.content_hash, 'hex') as content_hash, p.embedder, p.dimension,
    s.supersedes, s.superseded_by, s.superseded_at, s.merged
"""
_GET: Final = f"""
select {_COLUMNS} from memory.semantic s left join memory.space p using (space)
where s.tenant = %s and s.memory_id = any(%s)
"""
# `union` and not `union all`: a circle, however it came about, ends.
_CHAIN: Final = """
with recursive chain as (
    select %(id)s::text collate "C" as memory_id
    union
    select s.memory_id from chain c
    join memory.semantic s on s.tenant = %(tenant)s and s.superseded_by = c.memory_id
)
"""
_HISTORY: Final = f"""
{_CHAIN}
select {_COLUMNS} from chain c
join memory.semantic s on s.tenant = %(tenant)s and s.memory_id = c.memory_id
left join memory.space p using (space)
where s.memory_id <> %(id)s
order by s.found_at desc, s.memory_id desc limit {MAX_HISTORY}
"""
_FORGET: Final = f"""
{_CHAIN}, gone as (
    delete from memory.semantic s using chain c
    where s.tenant = %(tenant)s and s.memory_id = c.memory_id
    returning s.memory_id, s.superseded_by
), told as (
    update memory.semantic s set merged = coalesce((
        select json_agg(one) from json_array_elements(s.merged) one
        where one ->> 'memory_id' not in (select memory_id from gone)), '[]')
    where s.tenant = %(tenant)s
        and s.memory_id in (select superseded_by from gone where memory_id = %(id)s)
)
select count(*) from gone
"""
_CANDIDATES: Final = """
select list, memory_id, score from memory.candidates(
    %(query)s, %(space)s::smallint, %(vec)s::halfvec, false, %(limit)s,
    %(entity_types)s::text[], %(tags)s::text[], %(any_tags)s::text[], %(no_tags)s::text[],
    %(sources)s::text[], %(min_confidence)s, %(since)s, %(until)s)
"""
_SPACES: Final = """
select p.space, p.embedder, p.dimension from memory.space p
cross join lateral (
    select from memory.semantic s where s.space = p.space and s.tenant = %s limit 1
) used
order by p.space
"""


class PostgresKnowledge:
    """Finds, shows and forgets a tenant's memories; each call is one transaction."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def spaces(self, tenant: str) -> list[Space]:
        """Give what made the vectors of a tenant's memories."""
        async with behind_wall(self._pool, tenant) as connection:
            cursor = await connection.execute(_SPACES, [tenant])
            return [Space(*row) for row in await cursor.fetchall()]

    async def candidates(
        self,
        tenant: str,
        query: str,
        vectors: Sequence[VectorAsked],
        *,
        only: MemoryFilter,
        within: Narrowed,
        limit: int,
    ) -> Lists:
        """Give the best by words, and by vector of each space, the best first."""
        asked = _asked(only, within) | {"limit": limit}
        lists = Lists()
        async with behind_wall(self._pool, tenant) as connection:
            for number, vector in enumerate(vectors or [VectorAsked(0, ())]):
                # The words are looked up once.
                text = "" if number else query
                vec = as_vector(vector.vector) if vector.vector else None
                cursor = await connection.execute(
                    _CANDIDATES, asked | {"query": text, "space": vector.space, "vec": vec}
                )
                for kind, memory_id, score in await cursor.fetchall():
                    found = lists.text if kind == "text" else lists.vector
                    found.append(Candidate(memory_id, score))
        # Of several spaces the nearest come first; within one, the order is as it was.
        lists.vector.sort(key=lambda one: (-one.score, one.memory_id))
        return lists

    async def get(self, tenant: str, memory_ids: Sequence[str]) -> dict[str, SemanticMemory]:
        """Give those that exist, by id."""
        async with behind_wall(self._pool, tenant) as connection:
            cursor = await connection.execute(_GET, [tenant, list(memory_ids)])
            rows = await cursor.fetchall()
        memories = [_memory(row) for row in rows]
        return {one.memory_id: one for one in memories}

    async def history(self, tenant: str, memory_id: str) -> list[SemanticMemory]:
        """Give what a memory superseded and took in, and what those did, newest first."""
        async with behind_wall(self._pool, tenant) as connection:
            cursor = await connection.execute(_HISTORY, {"tenant": tenant, "id": memory_id})
            return [_memory(row) for row in await cursor.fetchall()]

    async def forget(self, tenant: str, memory_id: str, audited: Audited) -> int:
        """Delete a memory with its history; gives the number of rows."""
        async with behind_wall(self._pool, tenant) as connection:
            cursor = await connection.execute(_FORGET, {"tenant": tenant, "id": memory_id})
            row = await cursor.fetchone()
            await insert_audit(connection, [audited])
        return int(row[0]) if row else 0


def _asked(only: MemoryFilter, within: Narrowed) -> dict[str, Any]:
    given = {name: list(value) or None for name, value in asdict(within).items() if value}
    # What may be read is none of what is asked for: an empty list there means nothing at all.
    return {
        "entity_types": given.get("entity_types"),
        "tags": given.get("tags"),
        "any_tags": None if within.any_tags is None else list(within.any_tags),
        "no_tags": given.get("no_tags"),
        "sources": only.sources or None,
        "min_confidence": only.min_confidence,
        "since": only.since,
        "until": only.until,
    }


_FIELDS: Final = (
    "memory_id", "tenant", "entity_type", "content", "metadata", "source", "timestamp",
    "confidence", "tags", "provenance", "content_hash", "embedder", "dimension", "supersedes",
    "superseded_by", "superseded_at", "merged",
)  # fmt: skip


def _memory(row: Sequence[Any]) -> SemanticMemory:
    return SemanticMemory.model_validate(dict(zip(_FIELDS, row, strict=True)))

"""What a tenant's memory holds, listed and counted in Postgres."""

from typing import Any, Final

from octarm.common.storage.connections import Connection, Pool, connected
from octarm.memory.storage.errors import postgres_errors
from octarm.memory.storage.walls import behind_wall
from octarm.models.upkeep import ListedMemory, ListMemories, MemoryCounts

MAX_PAGE_BYTES: Final = 600 * 1024

_LIST: Final = """
select s.memory_id, s.entity_type, s.source, s.found_at, s.confidence, s.tags, s.metadata,
    encode(s.content_hash, 'hex'), octet_length(s.metadata::text)
from memory.semantic s
where s.tenant = %(tenant)s and s.superseded_by is null and {conditions}
order by s.memory_id limit %(limit)s
"""
_FIELDS: Final = (
    *("memory_id", "entity_type", "source", "timestamp", "confidence", "tags", "metadata"),
    "content_hash",
)
# Beside its metadata: names, numbers and tags.
_ROW_BYTES: Final = 700
_TOTALS: Final = """
select count(*) filter (where superseded_by is null),
    count(*) filter (where superseded_by is not null),
    count(*) filter (where superseded_by is null and vec is null),
    min(found_at) filter (where superseded_by is null),
    max(found_at) filter (where superseded_by is null)
from memory.semantic where tenant = %s
"""
_GROUPED: Final = """
select {key}, count(*) from memory.semantic s {joined}
where s.tenant = %s and s.superseded_by is null and {key} is not null
group by 1 order by 2 desc, 1 limit 20
"""
_GROUPS: Final = {
    "by_type": ("s.entity_type", ""),
    "by_source": ("s.source", ""),
    "by_tag": ("t.tag", "cross join unnest(s.tags) as t (tag)"),
    "by_embedder": ("p.embedder", "join memory.space p using (space)"),
}
_EPISODES: Final = "select count(*) from memory.episode where tenant = %s"


class PostgresStock:
    """Lists and counts."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def listed(self, query: ListMemories) -> tuple[list[ListedMemory], bool]:
        """Give the next ones by id, as many as fit a message, and whether there are more."""
        conditions = ["s.memory_id > coalesce(%(after)s, '')"]
        if query.tags:
            conditions.append("s.tags @> %(tags)s")
        if query.entity_type is not None:
            conditions.append("s.entity_type = %(entity_type)s")
        asked = query.model_dump() | {"limit": query.limit + 1}
        sql = _LIST.format(conditions=" and ".join(conditions))
        async with behind_wall(self._pool, query.tenant) as connection:
            cursor = await connection.execute(sql.encode(), asked)
            rows = await cursor.fetchall()
        page: list[ListedMemory] = []
        size = 0
        for *values, metadata_bytes in rows[: query.limit]:
            size += metadata_bytes + _ROW_BYTES
            if page and size > MAX_PAGE_BYTES:
                break
            page.append(ListedMemory.model_validate(dict(zip(_FIELDS, values, strict=True))))
        return page, len(page) < len(rows)

    async def counted(self, tenant: str) -> MemoryCounts:
        """Count a tenant's memories and episodes."""
        async with behind_wall(self._pool, tenant) as connection:
            cursor = await connection.execute(_TOTALS, [tenant])
            (held, history, without, oldest, newest) = await cursor.fetchone() or (0,) * 5
            groups = {name: await _grouped(connection, name, tenant) for name in _GROUPS}
        with postgres_errors():
            async with connected(self._pool) as connection:
                cursor = await connection.execute(_EPISODES, [tenant])
                (episodes,) = await cursor.fetchone() or (0,)
        return MemoryCounts(
            memories=held,
            history=history,
            without_vector=without,
            oldest=oldest,
            newest=newest,
            episodes=episodes,
            by_type=groups["by_type"],
            by_source=groups["by_source"],
            by_tag=groups["by_tag"],
            by_embedder=groups["by_embedder"],
        )


async def _grouped(connection: Connection, name: str, tenant: str) -> dict[str, Any]:
    key, joined = _GROUPS[name]
    cursor = await connection.execute(_GROUPED.format(key=key, joined=joined).encode(), [tenant])
    return {str(value): count for value, count in await cursor.fetchall()}

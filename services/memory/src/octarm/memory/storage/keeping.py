"""Write what is to be remembered: a few at a time, each settled against what is known."""

import json
from collections.abc import Sequence
from typing import Any, Final

from psycopg import DataError
from psycopg.errors import UniqueViolation

from octarm.common.storage.connections import Connection, Pool
from octarm.memory.domain.settling import (
    Create,
    Fresh,
    Held,
    Knowledge,
    Merge,
    Outdated,
    Refused,
    Settled,
)
from octarm.memory.storage.audit import insert_audit
from octarm.memory.storage.errors import postgres_errors
from octarm.memory.storage.events import NOTE
from octarm.memory.storage.walls import as_vector, behind_wall
from octarm.memory.usecases.knowledge import Audited
from octarm.models.errors import Unavailable

# So few that comparing them with one another takes milliseconds, and other writers get their turn.
PIECE: Final = 32
NEIGHBOURS: Final = 5
SHORT: Final = 2_000

_SPACE: Final = "select memory.space_of(%s, %s)"
# Those of one tenant take turns: two that say the same must not both be new.
_TURN: Final = "select pg_advisory_xact_lock(hashtextextended('octarm-memory:' || %s, 0))"
_HELD: Final = """
select s.memory_id, s.entity_type, s.content, s.content_hash, s.metadata::text, s.source,
    s.found_at, s.tags, s.fact, s.superseded_by, s.ended, s.space
"""
_KNOWN: Final = f"""
{_HELD} from memory.semantic s where s.tenant = %(tenant)s and s.memory_id = any(%(ids)s)
union
{_HELD} from memory.semantic s where s.tenant = %(tenant)s and s.content_hash = any(%(hashes)s)
union
{_HELD} from memory.semantic s
where s.tenant = %(tenant)s and s.fact = any(%(facts)s) and s.superseded_by is null
"""
_NEAR: Final = """
select distinct on (n.memory_id) n.*
from unnest(%(vectors)s::text[]) as asked (vec)
cross join lateral (
    {held}, s.vec::text
    from memory.semantic s
    where s.space = {space} and s.superseded_by is null and s.tenant = %(tenant)s
    order by (s.vec::halfvec({dimension})) <=> asked.vec::halfvec({dimension})
    limit {neighbours}
) n
"""
_INSERT: Final = """
insert into memory.semantic (
    tenant, memory_id, entity_type, content, content_hash, metadata, source, found_at,
    confidence, tags, provenance, space, vec, fact, supersedes, superseded_by, superseded_at, ended
) values (
    %(tenant)s, %(memory_id)s, %(entity_type)s, %(content)s, %(content_hash)s, %(metadata)s,
    %(source)s, %(found_at)s, %(confidence)s, %(tags)s, %(provenance)s, %(space)s,
    %(vec)s::halfvec, %(fact)s, %(supersedes)s, %(by)s,
    case when %(by)s::text is not null then clock_timestamp() end, %(ended)s)
"""
_SUPERSEDE: Final = """
update memory.semantic
set superseded_by = %s, superseded_at = clock_timestamp(), ended = 'superseded'
where tenant = %s and memory_id = any(%s)
"""
# The latest hundred: who has said it so often needs no further proof.
_TAKE_IN: Final = """
update memory.semantic set
    confidence = greatest(confidence, %(confidence)s),
    merged = (
        select json_agg(one order by place) from (
            select one, place from json_array_elements(merged) with ordinality as t (one, place)
            union all select %(origin)s::json, 1000000
            order by place desc limit 100
        ) latest)
where tenant = %(tenant)s and memory_id = %(into)s
"""


class PostgresKeeper:
    """Keeps memories; what was kept is durable when the call returns."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._spaces: dict[tuple[str, int], int] = {}

    async def space_of(self, embedder: str, dimension: int) -> int:
        """Give the number of what makes vectors; the first time it gets an index of its own."""
        known = self._spaces.get((embedder, dimension))
        if known is None:
            with postgres_errors():
                async with self._pool.connection() as connection:
                    cursor = await connection.execute(_SPACE, [embedder, dimension])
                    (known,) = await cursor.fetchone() or (0,)
            self._spaces[embedder, dimension] = known
        return known

    async def keep(
        self, tenant: str, fresh: Sequence[Fresh], audited: Sequence[Audited]
    ) -> list[Settled]:
        """Settle each in order and write it, with the entry of the audit in its place.

        Idempotent: what was kept already is known. Raises Unavailable; then the first pieces
        may be kept.
        """
        settled: list[Settled] = []
        for start in range(0, len(fresh), PIECE):
            end = start + PIECE
            settled += await self._readable(tenant, fresh[start:end], audited[start:end])
        return settled

    async def _readable(
        self, tenant: str, fresh: Sequence[Fresh], audited: Sequence[Audited]
    ) -> list[Settled]:
        """Write a piece; of one that Postgres cannot take, find out which ones spoil it."""
        try:
            return await self._piece(tenant, fresh, audited)
        except DataError as error:
            if len(fresh) == 1:
                return [Refused("INVALID_REQUEST", str(error).splitlines()[0])]
        settled: list[Settled] = []
        for one, entry in zip(fresh, audited, strict=True):
            settled += await self._readable(tenant, [one], [entry])
        return settled

    async def _piece(
        self, tenant: str, fresh: Sequence[Fresh], audited: Sequence[Audited]
    ) -> list[Settled]:
        try:
            async with behind_wall(self._pool, tenant) as connection:
                await connection.execute(_TURN, [tenant])
                known = Knowledge(await _known(connection, tenant, fresh))
                settled = [await _keep(connection, tenant, known, one) for one in fresh]
                await insert_audit(
                    connection,
                    [
                        entry.decided(type(done).__name__.lower())
                        for entry, done in zip(audited, settled, strict=True)
                    ],
                )
        except UniqueViolation as error:
            # Only another that holds no turn could be the cause, such as a migration.
            raise Unavailable("two writers at once; ask again", retry_after_s=1) from error
        return settled


async def _known(connection: Connection, tenant: str, fresh: Sequence[Fresh]) -> list[Held]:
    asked: dict[str, Any] = {
        "tenant": tenant,
        "ids": [one.memory_id for one in fresh]
        + [one.supersedes for one in fresh if one.supersedes],
        "hashes": [one.content_hash for one in fresh],
        "facts": [one.fact for one in fresh if one.fact],
    }
    cursor = await connection.execute(_KNOWN, asked)
    held = {row[0]: _held(row) for row in await cursor.fetchall()}
    by_space: dict[tuple[int, int], list[str]] = {}
    for one in fresh:
        if one.merge and one.fact is None and one.space is not None and one.vector:
            key = one.space, len(one.vector)
            by_space.setdefault(key, []).append(as_vector(one.vector))
    for (space, dimension), vectors in by_space.items():
        # Numbers of ours: the planner must see them to know which index holds these rows.
        statement = _NEAR.format(
            held=_HELD, space=space, dimension=dimension, neighbours=NEIGHBOURS
        )
        cursor = await connection.execute(
            statement.encode(), {"tenant": tenant, "vectors": vectors}
        )
        held |= {row[0]: _held(row[:-1], row[-1]) for row in await cursor.fetchall()}
    return list(held.values())


def _held(row: Sequence[Any], vector: str = "[]") -> Held:
    """Read a row of `_HELD`, whose columns are in the order of `Held`."""
    *first, tags, fact, superseded_by, ended, space = row
    rest = tuple(tags), fact, superseded_by, ended, space, tuple(json.loads(vector))
    columns: list[Any] = [*first, *rest]
    return Held(*columns)


async def _keep(connection: Connection, tenant: str, known: Knowledge, one: Fresh) -> Settled:
    settled = known.settle(one)
    if isinstance(settled, Create):
        if settled.supersedes:
            await connection.execute(_SUPERSEDE, [one.memory_id, tenant, list(settled.supersedes)])
        await _insert(connection, tenant, one, supersedes=next(iter(settled.supersedes), None))
        for memory_id in settled.supersedes:
            known.end(memory_id, by=one.memory_id, ended="superseded")
        known.add(one.held())
        if one.promoted:
            await connection.execute(NOTE, [tenant, one.memory_id, "promoted"])
    elif isinstance(settled, Outdated):
        await _insert(connection, tenant, one, by=settled.by, ended="superseded")
        known.add(one.held(by=settled.by, ended="superseded"))
    elif isinstance(settled, Merge):
        await _insert(connection, tenant, one, by=settled.into, ended="merged")
        await connection.execute(_TAKE_IN, _origin(one) | {"tenant": tenant, "into": settled.into})
        known.add(one.held(by=settled.into, ended="merged"))
    return settled


async def _insert(
    connection: Connection,
    tenant: str,
    one: Fresh,
    *,
    supersedes: str | None = None,
    by: str | None = None,
    ended: str | None = None,
) -> None:
    await connection.execute(
        _INSERT,
        {
            "tenant": tenant,
            "memory_id": one.memory_id,
            "entity_type": one.entity_type,
            "content": one.content,
            "content_hash": one.content_hash,
            "metadata": one.metadata,
            "source": one.source,
            "found_at": one.found_at,
            "confidence": one.confidence,
            "tags": list(one.tags),
            "provenance": one.provenance,
            # History is never searched, so it needs no vector.
            "space": None if by else one.space,
            "vec": as_vector(one.vector) if one.vector and not by else None,
            "fact": one.fact,
            "supersedes": supersedes,
            "by": by,
            "ended": ended,
        },
    )


def _origin(one: Fresh) -> dict[str, Any]:
    """Give what the survivor says of it; a long provenance stays with the history."""
    provenance = one.provenance if one.provenance and len(one.provenance) <= SHORT else None
    origin = {
        "memory_id": one.memory_id,
        "source": one.source,
        "timestamp": one.found_at.isoformat(),
        "confidence": one.confidence,
        "content_hash": one.content_hash.hex(),
        "provenance": json.loads(provenance) if provenance else None,
    }
    return {"origin": json.dumps(origin), "confidence": one.confidence}

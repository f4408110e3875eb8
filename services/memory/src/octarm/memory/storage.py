"""Episodes in Postgres (schema `memory`) and, for a while, in Redis."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg_pool import PoolTimeout
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from octarm.common import telemetry
from octarm.common.storage.arrays import Texts, packed
from octarm.common.storage.connections import Pool
from octarm.memory.domain.episode import Episode
from octarm.memory.usecases import FrontDown
from octarm.models.errors import Unavailable

PAUSE_S: Final = 2.0
PUT_AT_ONCE: Final = 250

log = telemetry.get_logger()

_ADD: Final = """
insert into memory.episode (tenant, episode_id, arm_id, created_at, body)
select unnest(%b::text[]), unnest(%b::text[]), unnest(%b::text[]),
    unnest(%b::text[])::timestamptz, unnest(%b::text[])::json
"""
_ADD_MISSING: Final = _ADD + "on conflict do nothing"

_GET: Final = """
select tenant, episode_id, arm_id, created_at::text, body::text
from memory.episode where tenant = %s and episode_id = %s
"""

_FIND: Final = """
select tenant, episode_id, arm_id, created_at::text, body::text
from memory.episode where {conditions}
order by episode_id desc
limit %(limit)s
"""

# By place: the rows of a batch lie side by side, and another replica takes the next ones.
_FORGET: Final = """
delete from memory.episode where ctid = any(array(
    select ctid from memory.episode where created_at < now() - make_interval(days => %s)
    limit 2000 for update skip locked))
"""

# One call for many keys: a tenth of what a pipeline of SETs costs this process.
_PUT: Final = """
for i = 1, #KEYS do
  redis.call('SET', KEYS[i], ARGV[i + 1], 'EX', ARGV[1])
end
"""


@contextmanager
def _postgres_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise Unavailable(
            "the memory schema is missing", "Run `octarm db migrate`.", retry_after_s=1
        ) from error
    except psycopg.DataError:
        raise
    except (psycopg.Error, PoolTimeout) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unavailable(f"Postgres: {reason}", retry_after_s=1) from error


class PostgresEpisodes:
    """Keeps episodes in the table `memory.episode`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        """Keep these in one statement; gives id → reason for those that Postgres refuses."""
        try:
            await self._insert(episodes)
        except psycopg.DataError:
            return await self._add_singly(episodes)
        return {}

    async def _add_singly(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        """Find out which ones spoil the batch; this is rare, so it may be slow."""
        refused: dict[str, str] = {}
        for episode in episodes:
            try:
                await self._insert([episode])
            except psycopg.DataError as error:
                refused[episode.episode_id] = str(error).splitlines()[0]
        return refused

    async def _insert(self, episodes: Sequence[Episode]) -> None:
        rows = ((e.tenant, e.episode_id, e.arm_id, e.created_at, e.body) for e in episodes)
        columns = packed([Texts] * 5, rows)
        with _postgres_errors():
            async with self._pool.connection() as connection:
                try:
                    await connection.execute(_ADD, columns)
                except psycopg.errors.UniqueViolation:
                    # Looking for what is there before each row costs more than meeting it once.
                    await connection.execute(_ADD_MISSING, columns)

    async def get(self, tenant: str, episode_id: str) -> Episode | None:
        """Give a tenant's episode."""
        rows = await self._rows(_GET, (tenant, episode_id))
        return rows[0] if rows else None

    async def find(
        self,
        tenant: str,
        *,
        arm_id: str | None,
        episode_id: str | None,
        after: str | None,
        limit: int,
    ) -> list[Episode]:
        """Give a tenant's episodes by id, descending, from below `after`."""
        asked = {
            "tenant": tenant,
            "arm_id": arm_id,
            "episode_id": episode_id,
            "after": after,
            "limit": limit,
        }
        # Only the conditions that are meant, so that each shape gets the plan that suits it.
        conditions = ["tenant = %(tenant)s"]
        if arm_id is not None:
            conditions.append("arm_id = %(arm_id)s")
        if episode_id is not None:
            conditions.append("episode_id = %(episode_id)s")
        if after is not None:
            conditions.append("episode_id < %(after)s")
        return await self._rows(_FIND.format(conditions=" and ".join(conditions)), asked)

    async def forget(self, *, days: int) -> int:
        """Delete some episodes that are older; gives their number, 0 when none is left."""
        with _postgres_errors():
            async with self._pool.connection() as connection:
                return (await connection.execute(_FORGET, [days])).rowcount

    async def _rows(self, sql: str, asked: Any) -> list[Episode]:
        with _postgres_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(sql.encode(), asked)
                return [Episode(*row) for row in await cursor.fetchall()]

    async def check(self) -> None:
        """Raise Unavailable unless Postgres answers and the schema is there."""
        await self._rows(_GET, ("readiness", "readiness"))


class RedisFront:
    """Keeps episodes for `ttl_s` seconds; after a failure it is not asked for two seconds."""

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._not_before = 0.0

    async def put(self, episodes: Sequence[Episode]) -> None:
        """Keep these for their time; raises FrontDown."""
        with self._redis_errors():
            for start in range(0, len(episodes), PUT_AT_ONCE):
                some = episodes[start : start + PUT_AT_ONCE]
                keys = [_key(one.tenant, one.episode_id).encode() for one in some]
                bodies = [one.body.encode() for one in some]
                await self._redis.eval(_PUT, len(keys), *keys, self._ttl_s, *bodies)

    async def get(self, tenant: str, episode_id: str) -> bytes | None:
        """Give what is there; a value of another kind than text is a miss. Raises FrontDown."""
        with self._redis_errors():
            try:
                value = await self._redis.get(_key(tenant, episode_id))
            except ResponseError as error:
                if "WRONGTYPE" not in str(error):
                    raise
                return None
            return value.encode() if isinstance(value, str) else value

    @contextmanager
    def _redis_errors(self) -> Iterator[None]:
        if time.monotonic() < self._not_before:
            raise FrontDown
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            self._not_before = time.monotonic() + PAUSE_S
            log.warning("redis_does_not_answer", error=str(error) or type(error).__name__)
            raise FrontDown from error


def _key(tenant: str, episode_id: str) -> str:
    return f"octarm:memory:episode:{tenant}:{episode_id}"

"""Opening Postgres and Redis with the settings that we rely on."""

from typing import Any

from psycopg import AsyncConnection, Error
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from octarm.models.errors import Unavailable

Pool = AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]
OPEN_TIMEOUT_S = 10.0


async def open_pool(url: str, *, name: str, min_size: int = 1, max_size: int = 4) -> Pool:
    """Open a pool of autocommit connections; the caller closes it.

    Raises:
        Unavailable: Postgres does not answer in ten seconds.
    """
    pool: Pool = AsyncConnectionPool(
        url,
        min_size=min_size,
        max_size=max_size,
        open=False,
        timeout=5.0,
        kwargs={"application_name": f"octarm-{name}", "autocommit": True, "prepare_threshold": 2},
        check=None,
        name=name,
    )
    try:
        await pool.open(wait=True, timeout=OPEN_TIMEOUT_S)
    except (PoolTimeout, Error) as error:
        await pool.close()
        raise Unavailable(
            f"Postgres does not answer: {str(error).splitlines()[0]}",
            "Check OCTARM_POSTGRES_URL and that the server runs; `octarm doctor` tells.",
        ) from error
    return pool


def open_redis(url: str, *, timeout_s: float = 1.0) -> Redis:
    """Make a Redis client that connects on use; the caller closes it.

    A call takes at most `timeout_s` seconds: Redis is a cache in front, and slow is absent.
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 1),
        health_check_interval=15,
        decode_responses=False,
    )
